//! `consilium distill`: the budget spent once, on a student.

use super::NodeArgs;
use super::output::{block_on, node_file, print_json, table};
use crate::chart::{Axis, Chart};
use crate::consortium;
use crate::demo::Progress;
use crate::distill::{
    ATTEMPTS_MAX, Counts, CurvePoint, Ended, Ground, Heading, Labelled, Line, Outcome, PROTECTS_NOT,
    Patience, Provenance, REPORT_FILE, Rows, STUDENT_FILE, Scaling, TestRows, Work, ask_all, curve,
    labels_csv, npy, protects, sha256, student_network,
};
use crate::losses::rounded_up;
use crate::task::{TaskBudget, TaskTerms};
use crate::training::Examples;
use crate::vault::{private_directory, write_atomic};
use clap::Args;
use consilium_config::{Node, Task};
use consilium_protocol::model::export;
use miette::{IntoDiagnostic, Result, miette};
use std::path::{Path, PathBuf};
use std::time::Duration;

const WORK_FILE: &str = "work.jsonl";
const LABELS_FILE: &str = "labels.csv";
const CURVE_FILE: &str = "curve.svg";
const ROWS_FILE: &str = "rows.npy";
const TARGETS_FILE: &str = "targets.npy";

/// Has the consortium label rows of yours under one privacy budget, and trains a student on the answers.
///
/// The student then answers on this machine, without the consortium and without any further privacy loss:
/// `consilium ask --student DIR/student.onnx`. Which rows to ask about is chosen so that each answer tells
/// most about the others; answers are spread to rows that are alike, which also outvotes answers that noise
/// made wrong. Asking stops when there are enough labels or the ledger refuses.
///
/// Where the owners may fail to agree, an attempt without a label costs as much as one with a label, and up
/// to two more rows of the same group are tried. Asking stops at the wanted number of labels: a compute party
/// that counts your releases learns that the last attempt was answered and, where it guesses that number, how
/// many attempts ended without a label. Each outcome is charged, so the promise to the owners holds.
///
/// Every question and answer is on the disk before the next step. After a crash the same command goes on: it
/// asks the open question under its old name, and an answer that was paid for is not paid for again.
///
/// DIR then holds student.onnx, report.json (where it comes from), labels.csv (every answer with its release
/// and what it cost), curve.svg (what a part of the budget would have bought), rows.npy and targets.npy (to
/// train a student elsewhere) and work.jsonl. Keep it as confidential as your rows: the student may give them
/// away.
#[derive(Debug, Args)]
pub(super) struct DistillArgs {
    /// The task
    task: String,
    /// Your unlabelled rows: one a line with values separated by commas, or an IDX file of images
    #[arg(long, value_name = "FILE")]
    unlabelled: PathBuf,
    /// Labels wanted; as many as the task's whole budget pays for if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    labels: Option<u32>,
    /// Where everything goes; the same folder again goes on with what is there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Rows that you have labels for, with the class in the last column: measures the student's accuracy
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    /// Seconds to wait for a consortium that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &DistillArgs) -> Result<()> {
    let node = node_file(&args.node)?;
    let roster = consortium::roster_in_use(&node).into_diagnostic()?;
    let task =
        roster.task(&args.task).ok_or_else(|| miette!("no task {:?} in this node's roster", args.task))?;
    let terms = TaskTerms::new(task).into_diagnostic()?;
    if terms.is_one_class() {
        return Err(miette!("task {} names owners, from which no student learns", terms.name()));
    }
    let rows = Rows::read(&args.unlabelled, task).into_diagnostic()?;
    let prepared = rows.prepared(task).into_diagnostic()?;
    let test = args.test.as_deref().map(|path| Rows::read_labelled(path, task)).transpose();
    let test = test.into_diagnostic()?.map(|rows| TestRows { rows });
    let wanted = wanted(args, &terms, rows.count())?;
    private_directory(&args.out).into_diagnostic()?;
    let heading = Heading {
        version: Work::VERSION,
        task: args.task.clone(),
        classes: task.classes.clone(),
        rows: rows.digest(),
        labels: wanted,
        seed: rand::random(),
    };
    let mut work = Work::open(&args.out.join(WORK_FILE), &heading, rows.count()).into_diagnostic()?;
    let progress = Progress::new(!args.node.json);
    if !args.node.json {
        println!("{}", intent(&terms, wanted, rows.count()));
    }
    let bar = progress.bar("rows compared", 1);
    let ground = Ground::of(&prepared, work.heading().seed);
    bar.finish_and_clear();
    let ended = label(args, &node, &rows, &ground, &mut work, &progress)?;
    let counts = counts(&work);
    if counts.labels == 0 {
        let why = if let Ended::Budget(why) = ended { why } else { "no row had a consensus".into() };
        return Err(miette!("the consortium gave no label: {why}"));
    }
    let finished = Finished { task, terms: &terms, rows: &rows, prepared: &prepared, work: &work, ended };
    let provenance = finished.teach(&ground, test.as_ref(), &args.out, &progress)?;
    if args.node.json { print_json(&provenance) } else { show(&provenance, &args.out) }
}

/// How many labels to ask for.
fn wanted(args: &DistillArgs, terms: &TaskTerms, rows: usize) -> Result<usize> {
    let paid = terms.budget.map_or(rows, |budget| usize::try_from(paid(&budget)).unwrap_or(usize::MAX));
    let wanted = args.labels.map_or(paid, |labels| labels as usize).min(rows);
    if wanted == 0 {
        return Err(miette!("the whole budget of task {} pays for no answer", terms.name()));
    }
    Ok(wanted)
}

/// Answers that the whole budget pays for.
fn paid(budget: &TaskBudget) -> u64 {
    budget.owner.min(budget.client) / budget.price.max(1)
}

/// Most attempts that are answered, with a label or without one, before there are so many labels. Each costs
/// the price of a label, and none is about a row that was answered before.
fn attempts_max(terms: &TaskTerms, budget: &TaskBudget, wanted: usize, rows: usize) -> u64 {
    let attempts = if terms.may_abstain() { ATTEMPTS_MAX.saturating_mul(wanted).min(rows) } else { wanted };
    u64::try_from(attempts).unwrap_or(u64::MAX).min(paid(budget))
}

/// What will be spent at most, before it is.
fn intent(terms: &TaskTerms, wanted: usize, rows: usize) -> String {
    let owners = terms.roster.owners.len();
    let head =
        format!("task {}: up to {wanted} labels for {rows} rows, {} owners vote", terms.name(), owners);
    let Some(budget) = terms.budget else {
        return format!(
            "{head}; the release is exact: no privacy promise stands behind these labels or the student"
        );
    };
    let attempts = attempts_max(terms, &budget, wanted, rows);
    let whole = budget.epsilon.numerator() as f64 / budget.epsilon.denominator() as f64;
    // What fits into a budget loses no more than that, also where the conversion rounds up.
    let epsilon = terms.epsilon_spent(attempts.saturating_mul(budget.price));
    let epsilon = epsilon.map_or_else(String::new, |epsilon| rounded_up(epsilon.min(whole)));
    let tries = if terms.may_abstain() {
        format!(" in up to {attempts} attempts, each of which costs the same with a label and without")
    } else {
        String::new()
    };
    format!(
        "{head}{tries}; under the roster's budgets this spends up to epsilon {epsilon} of the {whole} that \
         each of them accepts in all, for good; questions lost to a failure may add to it"
    )
}

fn label(
    args: &DistillArgs,
    node: &Node,
    rows: &Rows,
    ground: &Ground<'_>,
    work: &mut Work,
    progress: &Progress,
) -> Result<Ended> {
    let network = node.network();
    let patience = Patience {
        answer: Duration::from_secs(args.patience),
        settle: network.query_deadline + network.round_deadline,
    };
    let clusters = ground.clusters(work.heading().labels);
    let bar = progress.bar("labels", work.heading().labels as u64);
    let mut seen = |work: &Work| {
        let counts = counts(work);
        bar.set_position(counts.labels as u64);
        if counts.no_consensus + counts.lost > 0 {
            bar.set_message(format!("labels ({} no consensus, {} lost)", counts.no_consensus, counts.lost));
        }
    };
    let mut line = Line::new(node.admin().socket.clone(), args.task.clone(), work.heading().classes.len());
    let ended = block_on(ask_all(&mut line, rows, &clusters, work, patience, &mut seen))?;
    bar.finish_and_clear();
    ended.into_diagnostic()
}

fn counts(work: &Work) -> Counts {
    let mut counts = Counts { wanted: work.heading().labels, ..Counts::default() };
    for asked in work.asked() {
        match asked.outcome {
            Outcome::Label(_) => counts.labels += 1,
            Outcome::NoConsensus => counts.no_consensus += 1,
            Outcome::Lost => counts.lost += 1,
            Outcome::Open => {}
        }
    }
    counts
}

/// Everything that was asked.
struct Finished<'a> {
    task: &'a Task,
    terms: &'a TaskTerms,
    rows: &'a Rows,
    prepared: &'a Examples,
    work: &'a Work,
    ended: Ended,
}

impl Finished<'_> {
    /// Trains the student and writes all files, the student's paper last.
    fn teach(
        &self,
        ground: &Ground<'_>,
        test: Option<&TestRows>,
        out: &Path,
        progress: &Progress,
    ) -> Result<Provenance> {
        let labelled = self.work.asked().iter().filter_map(|asked| match asked.outcome {
            Outcome::Label(class) => Some(Labelled { row: asked.row, class }),
            _ => None,
        });
        let answers: Vec<Labelled> = labelled.collect();
        let network = student_network(self.rows.shape(), self.task.classes.len() as u32).into_diagnostic()?;
        let bar = progress.bar("the student learns", 1);
        let taught = ground.teach(&network, &answers, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        let taught = taught.into_diagnostic()?;
        bar.finish_and_clear();
        let bar = progress.bar("smaller budgets compared", 1);
        let epsilon = |labels: usize| self.terms.epsilon_spent(self.work.charged_until(labels));
        let curve = curve(ground, &network, &answers, test, epsilon, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        let curve = curve.into_diagnostic()?;
        bar.finish_and_clear();
        let accuracy = test.map(|test| test.accuracy(&taught.model)).transpose().into_diagnostic()?;
        let file = export(&taught.model, "consilium");
        let write = |name: &str, bytes: &[u8]| write_atomic(&out.join(name), bytes).into_diagnostic();
        write(STUDENT_FILE, &file)?;
        let csv = labels_csv(self.work, |amount| self.terms.epsilon_spent(amount));
        write(LABELS_FILE, csv.as_bytes())?;
        let (rows, targets) = (self.prepared, &taught.targets);
        write(ROWS_FILE, &npy([rows.rows(), rows.features()], rows.inputs()))?;
        write(TARGETS_FILE, &npy([targets.rows(), targets.classes()], targets.shares()))?;
        if !curve.is_empty() {
            write(CURVE_FILE, chart(self.terms.name(), &curve).to_svg().into_diagnostic()?.as_bytes())?;
        }
        let provenance = self.provenance(sha256(&file), taught.model.network().summary(), accuracy, curve);
        write(REPORT_FILE, &serde_json::to_vec_pretty(&provenance).into_diagnostic()?)?;
        Ok(provenance)
    }

    fn provenance(
        &self,
        student_sha256: String,
        network: String,
        accuracy: Option<f64>,
        curve: Vec<CurvePoint>,
    ) -> Provenance {
        let (task, terms, asked) = (self.task, self.terms, counts(self.work));
        let spent = self.work.asked().iter().map(|asked| asked.charged).fold(0, u64::saturating_add);
        let lost = terms.budget.map_or(0, |budget| budget.price.saturating_mul(asked.lost as u64));
        let unit = task.release.terms().and_then(|terms| serde_json::to_value(terms.unit).ok());
        Provenance {
            student: true,
            student_sha256,
            network,
            task: task.name.to_string(),
            title: task.title.clone(),
            classes: task.classes.clone(),
            input: self.rows.shape(),
            input_abs_max: task.input_abs_max,
            features: task.features.as_ref().map(Scaling::of),
            rows: self.rows.count(),
            rows_digest: self.rows.digest(),
            asked,
            ended: match &self.ended {
                Ended::Enough => "as many labels as wanted".into(),
                Ended::AllAsked => "every group of alike rows was asked about".into(),
                Ended::Budget(why) => format!("the ledger refused: {why}"),
            },
            mechanism: terms.mechanism.to_string(),
            unit: unit.and_then(|unit| unit.as_str().map(str::to_owned)).unwrap_or_default(),
            epsilon: terms.epsilon_spent(spent),
            epsilon_at_most: terms.epsilon_spent(spent.saturating_add(lost)),
            delta: terms.budget.and_then(|budget| budget.delta).map(|delta| delta.to_string()),
            accuracy,
            curve,
            protects: protects(terms.budget.is_some()).into(),
            protects_not: PROTECTS_NOT.into(),
        }
    }
}

fn chart(task: &str, points: &[CurvePoint]) -> Chart {
    let exact = points.iter().any(|point| point.epsilon.is_none());
    let (label, x): (&str, fn(&CurvePoint) -> f64) = if exact {
        ("labels", |point| point.labels as f64)
    } else {
        ("privacy loss of each owner, epsilon", |point| point.epsilon.unwrap_or(0.0))
    };
    let percent = |point: &CurvePoint, share: f64| (x(point), 100.0 * share);
    let held = points.iter().map(|point| percent(point, point.agreement)).collect();
    let chart = Chart::new(format!("Student of task {task} by budget"), Axis::new(label), "equal labels, %")
        .subtitle("held-out answers carry noise: the student may be better than its agreement with them")
        .series("agreement with held-out answers", held);
    let right: Vec<(f64, f64)> =
        points.iter().filter_map(|point| Some(percent(point, point.accuracy?))).collect();
    if right.is_empty() { chart } else { chart.series("accuracy on your test rows", right) }
}

fn show(provenance: &Provenance, out: &Path) -> Result<()> {
    let asked = provenance.asked;
    println!(
        "{} of {} labels; {} without consensus, {} lost; ended: {}",
        asked.labels, asked.wanted, asked.no_consensus, asked.lost, provenance.ended
    );
    println!("{}", price(provenance));
    if !provenance.curve.is_empty() {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let mut rows = table(&["labels", "epsilon", "agreement with held-out answers", "accuracy"]);
        for point in &provenance.curve {
            rows.add_row([
                point.labels.to_string(),
                point.epsilon.map_or_else(|| "none".into(), rounded_up),
                percent(point.agreement),
                point.accuracy.map_or_else(|| "unknown".into(), percent),
            ]);
        }
        println!("{rows}");
        println!("students of a part of the answers; one answer in five was kept to measure them");
    }
    if let Some(accuracy) = provenance.accuracy {
        println!("the student is right on {:.1} % of your test rows", 100.0 * accuracy);
    }
    println!("{}\n{}", provenance.protects, provenance.protects_not);
    println!(
        "everything is in {}; ask it: consilium ask --student {}",
        out.display(),
        out.join(STUDENT_FILE).display()
    );
    Ok(())
}

/// What the answers behind a student cost.
pub(super) fn price(provenance: &Provenance) -> String {
    let (Some(epsilon), Some(most)) = (provenance.epsilon, provenance.epsilon_at_most) else {
        return "the labels were released exactly: no privacy promise stands behind this student".into();
    };
    let delta = provenance.delta.as_ref().map_or_else(String::new, |delta| format!(" (delta {delta})"));
    let lost = if most > epsilon {
        format!(", or {} if every lost question was charged as well", rounded_up(most))
    } else {
        String::new()
    };
    let (unit, epsilon) = (&provenance.unit, rounded_up(epsilon));
    format!("the answers cost each {unit} epsilon {epsilon}{delta}{lost}; the student costs nothing more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{EXAMPLE_ROSTER, Roster};

    fn terms(name: &str) -> TaskTerms {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        TaskTerms::new(roster.task(name).unwrap()).unwrap()
    }

    #[test]
    fn attempts_without_a_label_are_foreseen() {
        let (plain, agreed) = (terms("breast-cancer"), terms("digits-agreed"));
        let budget = agreed.budget.unwrap();
        let rich = TaskBudget { owner: u64::MAX, client: u64::MAX, ..budget };
        assert_eq!(attempts_max(&plain, &rich, 4, 100), 4);
        assert_eq!(attempts_max(&agreed, &rich, 4, 100), 4 * ATTEMPTS_MAX as u64);
        assert_eq!(attempts_max(&agreed, &rich, 4, 10), 10, "no row is tried twice");
        let poor = TaskBudget { client: 7 * budget.price + 1, ..rich };
        assert_eq!(attempts_max(&agreed, &poor, 4, 100), 7);
        assert!(intent(&agreed, 1, 100).contains(" attempts") && !intent(&plain, 1, 100).contains("attempt"));
    }

    #[test]
    fn what_is_announced_is_a_bound_within_the_budget() {
        // Sixteen answers of one half each spend all of it; the conversion alone would round up beyond.
        let text = intent(&terms("digits"), 16, 100);
        assert!(text.contains("up to epsilon 8.0000 of the 8 that"), "{text}");
        let part = intent(&terms("digits"), 4, 100);
        assert!(part.contains("up to epsilon 2.0001 of the 8 that"), "never less than the loss: {part}");
        assert!(intent(&terms("digits-exact"), 4, 100).contains("no privacy promise"));
    }
}
