//! One owner, one client: networks of squares under the client's key, by the real commands with real files.

mod report;
mod subject;

pub use report::HomomorphicReport;

use super::measure::Progress;
use super::{DemoArgs, NoiseFrom, Preprocessing};
use crate::homomorphic::{encode, read_plan};
use consilium_protocol::evaluate::float;
use consilium_protocol::homomorphic::{IntegerNet, Plan};
use consilium_protocol::model::export;
use indicatif::ProgressBar;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use report::{Round, SubjectReport};
use serde::Deserialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use subject::Subject;
use tokio::process::Command;

/// Commands of a round.
const COMMANDS: [&str; 5] = ["plan", "keygen", "encrypt", "evaluate", "decrypt"];
/// Ways in which each subject is asked about.
const MODES: [&str; 2] = ["batch", "single"];

/// Runs the scenario with this very program for both sides.
///
/// # Errors
/// An argument that the scenario has no use for, a command that failed, or a wrong answer.
pub(super) fn run(args: &DemoArgs, progress: &Progress) -> Result<()> {
    check(args)?;
    let subjects = subject::both(args.seed, progress).into_diagnostic()?;
    let temporary = tempfile::tempdir().into_diagnostic()?;
    let folder = args.keep.as_deref().unwrap_or(temporary.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    let bar = progress.bar("commands", (subjects.len() * MODES.len() * COMMANDS.len()) as u64);
    let asked = runtime.block_on(async {
        tokio::select! {
            asked = ask_all(&subjects, args.queries.map(usize::from), folder, &bar) => asked,
            _ = tokio::signal::ctrl_c() => Err(miette!("interrupted; the commands are stopped")),
        }
    });
    bar.finish_and_clear();
    let report = HomomorphicReport::new(asked?);
    if args.json {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
    } else {
        report.print();
        if let Some(kept) = &args.keep {
            println!(
                "all files of both sides are in {}; what one is: consilium he explain FILE",
                kept.display()
            );
        }
    }
    report.verdict()
}

/// Nothing that was asked for is left out in silence.
fn check(args: &DemoArgs) -> Result<()> {
    let noise = args.noise != NoiseFrom::Software || args.module.is_some();
    for (given, option, why) in [
        (args.owners.is_some(), "--owners", "there is one owner"),
        (args.shards != 1, "--shards", "the owner has one model"),
        (args.source != Preprocessing::Pairwise, "--source", "nothing is prepared beside the client's keys"),
        (noise, "--noise", "the client gets exact logits"),
        (args.serve, "--serve", "it only measures"),
        (args.picture.is_some(), "--picture", "it draws none"),
    ] {
        if given {
            return Err(miette!("the homomorphic scenario does not take {option}: {why}; leave it out"));
        }
    }
    Ok(())
}

async fn ask_all(
    subjects: &[Subject],
    queries: Option<usize>,
    folder: &Path,
    bar: &ProgressBar,
) -> Result<Vec<SubjectReport>> {
    let mut reports = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let rows = queries.unwrap_or(usize::MAX).min(subject.test.rows());
        let mut rounds = Vec::with_capacity(MODES.len());
        for mode in MODES {
            let rows = if mode == "single" { 1 } else { rows };
            let folder = folder.join(subject.name).join(mode);
            rounds.push(Sides::new(subject, folder, rows)?.round(mode, bar).await?);
        }
        reports.push(SubjectReport::new(subject, rows, rounds));
    }
    Ok(reports)
}

/// The files of both sides for one round.
struct Sides<'a> {
    subject: &'a Subject,
    folder: PathBuf,
    rows: usize,
    program: PathBuf,
}

/// What `he decrypt` tells.
#[derive(Deserialize)]
struct Opened {
    labels: Vec<usize>,
    logits: Vec<Vec<i128>>,
    margin_bits: f64,
}

impl<'a> Sides<'a> {
    /// Writes the owner's model and the client's rows.
    fn new(subject: &'a Subject, folder: PathBuf, rows: usize) -> Result<Self> {
        std::fs::create_dir_all(&folder).into_diagnostic()?;
        let program = std::env::current_exe().into_diagnostic()?;
        let sides = Self { subject, folder, rows, program };
        let write = |name: &str, bytes: &[u8]| {
            let path = sides.folder.join(name);
            let written = std::fs::write(&path, bytes).into_diagnostic();
            written.wrap_err_with(|| format!("cannot write {}", path.display()))
        };
        write("model.onnx", &export(&subject.model, "consilium"))?;
        write("samples.csv", table(&subject.train, subject.train.rows()).as_bytes())?;
        write("rows.csv", table(&subject.test, rows).as_bytes())?;
        Ok(sides)
    }

    /// One run of a command in the folder: what it says as JSON, and its seconds.
    async fn command(&self, words: &[&str], bar: &ProgressBar) -> Result<(serde_json::Value, f64)> {
        let started = Instant::now();
        let output = Command::new(&self.program)
            .arg("he")
            .args(words)
            .arg("--json")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .into_diagnostic()?;
        let seconds = started.elapsed().as_secs_f64();
        bar.inc(1);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(miette!("`consilium he {}` failed: {said}", words.join(" ")));
        }
        Ok((serde_json::from_slice(&output.stdout).into_diagnostic()?, seconds))
    }

    /// Everything from the plan to the opened answer, compared with the network of integers in the clear.
    async fn round(&self, mode: &str, bar: &ProgressBar) -> Result<Round> {
        let [low, high] = self.subject.range;
        let range = format!("{low},{high}");
        // Secrets are not replaced; a folder that is kept may have one of an earlier run.
        let secret = self.folder.join("secret");
        if secret.exists() {
            std::fs::remove_file(&secret).into_diagnostic()?;
        }
        let lines = [
            format!("plan model.onnx --out plan --mode {mode} --range {range} --rows samples.csv"),
            "keygen plan --secret secret --keys keys".to_owned(),
            "encrypt plan --secret secret --rows rows.csv --out query".to_owned(),
            "evaluate model.onnx --plan plan --keys keys --query query --out answer".to_owned(),
            "decrypt plan --secret secret --query query.ticket --answer answer --logits".to_owned(),
        ];
        let (mut seconds, mut said) = (Vec::new(), Vec::new());
        for (line, command) in lines.iter().zip(COMMANDS) {
            let words: Vec<&str> = line.split(' ').collect();
            let (value, took) = self.command(&words, bar).await?;
            said.push(value);
            seconds.push((command.to_owned(), took));
        }
        let evaluated = said[3]["seconds"].as_f64().unwrap_or(f64::NAN);
        let opened = serde_json::from_value(said.swap_remove(4)).into_diagnostic()?;
        self.compared(mode, &opened, seconds, evaluated)
    }

    fn compared(
        &self,
        mode: &str,
        opened: &Opened,
        seconds: Vec<(String, f64)>,
        evaluation_seconds: f64,
    ) -> Result<Round> {
        let plan = read_plan(&self.folder.join("plan")).into_diagnostic()?;
        let clear = self.clear(&plan)?;
        let logits = opened.logits.concat();
        let labels: Vec<usize> = clear.chunks_exact(plan.outputs()).map(label).collect();
        if logits.len() != clear.len() || opened.labels.len() != labels.len() {
            return Err(miette!("{} logits came back for {} rows", logits.len(), self.rows));
        }
        let examples = &self.subject.test;
        let truth: Vec<usize> =
            examples.labels().iter().take(self.rows).map(|label| (*label).into()).collect();
        let float = |row| float::argmax(&float::logits(&self.subject.model, examples.row(row)));
        let float: Vec<usize> = (0..self.rows).map(float).collect();
        let right = |labels: &[usize]| equal(labels, &truth) as f64 / self.rows as f64;
        let bytes = |name: &str| std::fs::metadata(self.folder.join(name)).map_or(0, |file| file.len());
        Ok(Round {
            mode: mode.to_owned(),
            rows: self.rows,
            logits: clear.len(),
            logits_equal: equal(&logits, &clear),
            labels_equal: equal(&opened.labels, &labels),
            accuracy_float: right(&float),
            accuracy_integer: right(&labels),
            accuracy_encrypted: right(&opened.labels),
            margin_bits: opened.margin_bits,
            scales: plan.scales.clone(),
            logit_bits: plan.logit_bits,
            seconds,
            evaluation_seconds,
            keys_bytes: bytes("keys"),
            query_bytes: bytes("query"),
            answer_bytes: bytes("answer"),
        })
    }

    /// The logits that the network of integers has in the clear.
    fn clear(&self, plan: &Plan) -> Result<Vec<i128>> {
        let net =
            IntegerNet::quantise(&self.subject.model, self.subject.range, &plan.scales).into_diagnostic()?;
        let examples = &self.subject.test;
        let mut clear = Vec::new();
        for row in 0..self.rows {
            let input = encode(plan, std::iter::once(examples.row(row))).into_diagnostic()?;
            clear.extend(net.evaluate(&input));
        }
        Ok(clear)
    }
}

/// Places at which two lists are equal.
fn equal<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one == other).count()
}

/// The first largest logit.
fn label(logits: &[i128]) -> usize {
    (0..logits.len()).rev().max_by_key(|class| logits[*class]).unwrap_or(0)
}

/// The first rows as a file of values.
fn table(examples: &crate::training::Examples, rows: usize) -> String {
    let mut text = String::new();
    for row in 0..rows.min(examples.rows()) {
        let values: Vec<String> = examples.row(row).iter().map(f32::to_string).collect();
        // Writing to memory does not fail.
        let _infallible = writeln!(text, "{}", values.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Examples;

    #[test]
    fn the_first_of_equal_logits_counts() {
        assert_eq!([label(&[1, 3, 3]), label(&[-1, -2]), label(&[5])], [1, 0, 0]);
    }

    #[test]
    fn rows_become_lines() {
        let examples = Examples::new(2, vec![0.1, -1.0, 2.0, 0.25, 9.0, 9.0], vec![0, 1, 0]).unwrap();
        assert_eq!(table(&examples, 2), "0.1,-1\n2,0.25\n");
    }
}
