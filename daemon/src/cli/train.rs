//! `consilium train`: models of a user's own data, trained on this machine.

use super::NodeArgs;
use super::output::{node_file, print_json, table};
use crate::consortium::roster_in_use;
use crate::demo::Progress;
use crate::task::TaskTerms;
use crate::training::{
    LearnedOneClass, OneClassMethod, OneClassSetting, OneClassStage, OwnRows, Reading, ReconstructorRecipe,
    STEPS_MAX, digest_of_positions, learn_one_class,
};
use crate::vault::write_atomic;
use clap::{Args, Subcommand, ValueEnum};
use consilium_config::{Kind, Roster, Task};
use consilium_protocol::graph::Shape;
use consilium_protocol::model::{AnyModel, export_one_class};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Serialize;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Parts of the threshold that a histogram counts, and one more for what lies beyond.
const BINS: usize = 10;
/// Longest bar of a histogram, in characters.
const BAR_WIDTH: usize = 40;
/// Directions, if nothing is said.
const RANK: usize = 25;

/// Arguments of `consilium train`.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Learn what your own data look like, for a task that asks whose data an input is
    ///
    /// Trains a distance on one part of your rows, and takes as threshold the distance that so many of a hundred of the
    /// other rows do not exceed. `pca` measures the distance from the plane of the principal directions, which costs
    /// little in a question; `autoencoder` measures how badly a network gives an input back, and keeps the step of its
    /// training that does best on those other rows. Nothing leaves this machine, and no row of anybody else is needed.
    ///
    /// With `--task` the rows become what a question of that task becomes: of its shape, in the range of its images or
    /// normalised by its features; and the model is proved to stay within the task's bounds, which `model publish`
    /// would refuse otherwise. Without it the rows must be what the task takes already, and numbers stay as they are.
    ///
    /// Keep rows to test the model with in another file: those of DATA are used up. The digests name the two sets of
    /// rows, so that others can check that they are disjoint: each is the SHA-256 of the rows' positions in DATA, from
    /// 0, in rising order, a line each.
    ///
    /// FILE holds the model with the threshold, which is a secret: it is written there, readable by you alone, and
    /// printed nowhere. Publish it by `consilium model publish FILE --task TASK`; the compute parties get shares of
    /// weights and threshold. The kind, the rank and the layers become public.
    OneClass(OneClassArgs),
}

#[derive(Debug, Args)]
struct OneClassArgs {
    /// Your rows: one a line with values separated by commas, or an IDX file of images; packed by gzip or not
    data: PathBuf,
    /// The task that the model is for, of the roster in force
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Take the task from this roster file
    #[arg(long, value_name = "FILE", requires = "task")]
    roster: Option<PathBuf>,
    /// How the distance is measured
    #[arg(long, value_enum, default_value_t = Method::Pca)]
    kind: Method,
    /// Principal directions [default: 25, or fewer where the rows do not have as many]
    #[arg(long, value_name = "N")]
    rank: Option<usize>,
    /// Shape of a row, where it is an image: channels, rows and columns
    #[arg(long, value_name = "C,H,W", value_parser = shape, conflicts_with = "task")]
    shape: Option<Shape>,
    /// IDX file with a label for each image of DATA
    #[arg(long, value_name = "FILE", requires = "class")]
    labels: Option<PathBuf>,
    /// Use only images with this label
    #[arg(long, value_name = "LABEL", requires = "labels")]
    class: Option<u8>,
    /// What black and white of an IDX image become: `low` and `high` of the task's image rule [default: -1,1]
    #[arg(
        long,
        value_name = "LOW,HIGH",
        value_parser = range,
        allow_hyphen_values = true,
        conflicts_with = "task"
    )]
    range: Option<Range>,
    /// Rows of a hundred set aside that the threshold accepts
    #[arg(long, value_name = "PERCENT", default_value_t = 99.0)]
    percentile: f64,
    /// Part of the rows that is set aside to choose the threshold, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    validation: f64,
    /// Steps of an autoencoder's training; by the size of the rows if absent
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Chooses the rows set aside and the first weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the model goes; an existing file is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    node: NodeArgs,
}

/// Kinds of distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// From the plane of the principal directions
    Pca,
    /// Between an input and what an autoencoder makes of it
    Autoencoder,
}

/// What black and white become.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range([f32; 2]);

/// What is usual for the outputs of a network that ends in a cut.
const USUAL: Range = Range([-1.0, 1.0]);
/// A byte as it is, for a task that normalises it.
const RAW: Range = Range([0.0, 255.0]);

pub(crate) fn run(args: &TrainArgs) -> Result<()> {
    match &args.what {
        What::OneClass(args) => one_class(args),
    }
}

fn one_class(args: &OneClassArgs) -> Result<()> {
    let task = args.task.as_deref().map(|name| task(args, name)).transpose()?;
    let (rows, cut) = read(args, task.as_ref())?;
    let setting = setting(args, &rows, cut)?;
    let bar = Progress::new(!args.node.json).bar("reading", 1);
    let learned = learn_one_class(rows.examples(), &setting, &mut |stage, done, all| {
        bar.set_message(match stage {
            OneClassStage::Training => "learning",
            OneClassStage::Measuring => "measuring rows set aside",
        });
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let learned = learned.into_diagnostic()?;
    if let Some(task) = &task {
        let terms = TaskTerms::new(task).into_diagnostic()?;
        let model = AnyModel::OneClass(learned.model().clone());
        let proof = model.proved(terms.numbers, terms.distance_bits(), task.input_abs_max);
        proof
            .into_diagnostic()
            .wrap_err_with(|| format!("task {} would not take the model", terms.name()))?;
    }
    let file = Zeroizing::new(export_one_class(learned.model(), "consilium").into_diagnostic()?);
    write_atomic(&args.out, &file).into_diagnostic()?;
    let report = Report::of(args, &rows, &learned);
    if args.node.json {
        return print_json(&report);
    }
    show(&report);
    Ok(())
}

/// The one-class task of this name.
fn task(args: &OneClassArgs, name: &str) -> Result<Task> {
    let roster = match &args.roster {
        Some(path) => Roster::load(path)?,
        None => roster_in_use(&node_file(&args.node)?).into_diagnostic()?,
    };
    let of_kind = || roster.tasks().iter().filter(|task| task.kind == Kind::OneClass);
    of_kind().find(|task| task.name.as_str() == name).cloned().ok_or_else(|| {
        let names = of_kind().map(|task| task.name.as_str()).collect::<Vec<_>>();
        miette!("the roster has no one-class task {name:?}; it has {}: {}", names.len(), names.join(", "))
    })
}

/// The rows as questions would be, and whether by its terms none of their values passes -1 or 1.
fn read(args: &OneClassArgs, task: Option<&Task>) -> Result<(OwnRows, bool)> {
    let range = match task {
        Some(Task { image: Some(image), .. }) => Range([image.low as f32, image.high as f32]),
        Some(Task { features: Some(_), .. }) => RAW,
        _ => args.range.unwrap_or(USUAL),
    };
    let class = args.labels.clone().zip(args.class);
    let reading = Reading { shape: task.map(|task| task.input).or(args.shape), range: range.0, class };
    let rows = OwnRows::read(&args.data, &reading).into_diagnostic()?;
    match task {
        Some(task) => Ok((rows.prepared(task).into_diagnostic()?, task.input_abs_max <= 1.0)),
        // Of a table nothing is known.
        None => Ok((rows, args.range.is_some_and(|range| range.0.iter().all(|end| end.abs() <= 1.0)))),
    }
}

/// Settings that go together.
fn setting(args: &OneClassArgs, rows: &OwnRows, cut: bool) -> Result<OneClassSetting> {
    let method = match args.kind {
        Method::Pca if args.steps.is_some() => {
            return Err(miette!("--steps is for --kind autoencoder; principal directions are not trained"));
        }
        Method::Pca => {
            let usual = RANK.min(rows.shape().len().saturating_sub(1)).max(1);
            OneClassMethod::Pca { rank: args.rank.unwrap_or(usual) }
        }
        Method::Autoencoder if args.rank.is_some() => {
            return Err(miette!("--rank is for --kind pca; an autoencoder has none"));
        }
        Method::Autoencoder => {
            let usual = ReconstructorRecipe::of(rows.examples().rows(), rows.shape());
            let steps = args.steps.unwrap_or(usual.steps);
            if !(1..=STEPS_MAX).contains(&steps) {
                return Err(miette!("--steps is {steps}; it is between 1 and {STEPS_MAX}"));
            }
            OneClassMethod::Autoencoder(ReconstructorRecipe { steps, ..usual })
        }
    };
    let OneClassArgs { percentile, validation, seed, .. } = *args;
    Ok(OneClassSetting { input: rows.shape(), method, percentile, validation, seed, cut })
}

/// What is told of a run: nothing from which the threshold follows.
#[derive(Debug, PartialEq, Serialize)]
struct Report {
    /// The task whose bounds it was proved for.
    task: Option<String>,
    measure: String,
    input: Shape,
    training: Part,
    validation: Part,
    percentile: f64,
    /// Validation rows by their distance, in tenths of the threshold, and last those beyond it.
    distances: Vec<usize>,
    file: PathBuf,
}

/// One of two sets of rows.
#[derive(Debug, PartialEq, Serialize)]
struct Part {
    rows: usize,
    sha256: String,
}

impl Report {
    fn of(args: &OneClassArgs, rows: &OwnRows, learned: &LearnedOneClass) -> Self {
        let part = |places: &[usize]| Part {
            rows: places.len(),
            sha256: digest_of_positions(&rows.positions(places)),
        };
        Self {
            task: args.task.clone(),
            measure: learned.model().measure().summary(),
            input: rows.shape(),
            training: part(learned.parts().train()),
            validation: part(learned.parts().validation()),
            percentile: args.percentile,
            distances: histogram(learned.shares()),
            file: args.out.clone(),
        }
    }

    /// Whether the threshold is the largest distance, because there are too few rows for this percentile.
    fn is_largest(&self) -> bool {
        self.validation.rows as f64 * (100.0 - self.percentile) < 100.0
    }
}

/// Counts shares of the threshold: up to a tenth of it, up to two, and so on, and last beyond it.
fn histogram(shares: impl Iterator<Item = f64>) -> Vec<usize> {
    let mut counts = vec![0; BINS + 1];
    for share in shares {
        // A float is cut to the range of the integer; there is no panic and no wrap.
        let bin = ((share * BINS as f64).ceil() - 1.0).max(0.0) as usize;
        counts[bin.min(BINS)] += 1;
    }
    counts
}

/// One line for each bar.
fn bars(counts: &[usize]) -> Vec<String> {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let line = |(bin, count): (usize, &usize)| {
        let name = match bin {
            BINS => "beyond it".to_owned(),
            bin => format!("{:>3} - {:>3} %", bin * 100 / BINS, (bin + 1) * 100 / BINS),
        };
        format!("{name:>11}  {:<BAR_WIDTH$} {count}", "#".repeat((count * BAR_WIDTH).div_ceil(most)))
    };
    counts.iter().enumerate().map(line).collect()
}

fn show(report: &Report) {
    let mut rows = table(&["", "rows", "SHA-256 of their positions"]);
    for (name, part) in [("learnt from", &report.training), ("set aside", &report.validation)] {
        rows.add_row([name.to_owned(), part.rows.to_string(), part.sha256.clone()]);
    }
    println!("{rows}");
    println!("measure: {}", report.measure);
    println!("distances of the rows set aside, in percent of the threshold:");
    bars(&report.distances).iter().for_each(|line| println!("{line}"));
    println!(
        "{} % of the rows set aside are within the threshold, which is a secret and stands in {} alone",
        report.percentile,
        report.file.display()
    );
    if report.is_largest() {
        println!(
            "note: {} rows set aside are few for {} %, so the threshold is their largest distance",
            report.validation.rows, report.percentile
        );
    }
    let task = report.task.as_deref().unwrap_or("TASK");
    println!("publish it: consilium model publish {} --task {task}", report.file.display());
}

/// Channels, rows and columns.
fn shape(text: &str) -> std::result::Result<Shape, String> {
    let sides: Vec<Option<u32>> = text.split(',').map(|side| side.trim().parse().ok()).collect();
    match *sides.as_slice() {
        [Some(channels), Some(height), Some(width)] if channels.min(height).min(width) > 0 => {
            Ok(Shape { channels, height, width })
        }
        _ => Err("three numbers above 0 separated by commas, such as 3,32,32".to_owned()),
    }
}

/// Two ends of a range.
fn range(text: &str) -> std::result::Result<Range, String> {
    let ends: Vec<Option<f32>> = text.split(',').map(|end| end.trim().parse().ok()).collect();
    match *ends.as_slice() {
        [Some(low), Some(high)] if low < high && low.is_finite() && high.is_finite() => {
            Ok(Range([low, high]))
        }
        _ => Err("two numbers separated by a comma, the lower one first, such as -1,1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use std::fmt::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn parsed(line: &str) -> std::result::Result<OneClassArgs, clap::Error> {
        let cli = Cli::try_parse_from(line.split(' '))?;
        let Command::Train(TrainArgs { what: What::OneClass(args) }) = cli.command else {
            panic!("another command")
        };
        Ok(args)
    }

    fn args(words: &str) -> OneClassArgs {
        parsed(&format!("consilium train one-class {words}")).unwrap()
    }

    /// Rows near a line in four dimensions.
    fn rows(folder: &Path) -> PathBuf {
        let mut text = String::new();
        for row in 0..100 {
            let (along, off) = (f64::from(row % 25) / 12.5 - 1.0, f64::from(row * 7 % 10) / 100.0);
            writeln!(text, "{along},{},{},{}", 0.5 * along + off, -along, off * along).unwrap();
        }
        let path = folder.join("rows.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn shapes_and_ranges_are_read() {
        let parsed = args("d.csv --shape 3,32,30 --out m.onnx");
        assert_eq!(parsed.shape, Some(Shape { channels: 3, height: 32, width: 30 }));
        assert_eq!((parsed.range, parsed.kind), (None, Method::Pca));
        assert_eq!(args("d.csv --range -30,30 --out m.onnx").range, Some(Range([-30.0, 30.0])));
        for bad in ["3,32", "0,1,1", "a,b,c", "1,2,3,4", ""] {
            assert!(shape(bad).is_err(), "{bad}");
        }
        for bad in ["1,-1", "0,0", "0", "NaN,1", "0,inf", "0,1,2"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_and_a_class_go_together() {
        let fits = |words: &str| parsed(&format!("consilium train one-class {words}")).is_ok();
        assert!(fits("i.gz --labels l.gz --class 3 --out m.onnx"));
        assert!(!fits("i.gz --labels l.gz --out m.onnx"));
        assert!(!fits("i.gz --class 3 --out m.onnx"));
        assert!(!fits("i.gz --labels l.gz --class 256 --out m.onnx"));
        assert!(!fits("i.gz"));
    }

    #[test]
    fn shares_of_the_threshold_are_counted() {
        let counts = histogram([-1e-9, 0.0, 0.1, 0.1001, 0.95, 1.0, 1.0001, 7.0, f64::INFINITY].into_iter());
        assert_eq!(counts, [3, 1, 0, 0, 0, 0, 0, 0, 0, 2, 3]);
        let lines = bars(&counts);
        assert_eq!(lines.len(), BINS + 1);
        assert!(lines[0].starts_with("  0 -  10 %  ####"), "{}", lines[0]);
        assert!(lines[10].starts_with("  beyond it  ####") && lines[10].ends_with(" 3"), "{}", lines[10]);
        assert!(!bars(&[0; BINS + 1])[0].contains('#'));
    }

    #[test]
    fn a_private_model_is_written_and_the_threshold_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let (data, out) = (rows(folder.path()), folder.path().join("model.onnx"));
        let words = format!("{} --rank 1 --validation 0.3 --out {} --json", data.display(), out.display());
        let args = args(&words);
        one_class(&args).unwrap();
        let mode = std::fs::metadata(&out).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(!std::fs::read(&out).unwrap().is_empty());
        let rows = OwnRows::read(&data, &Reading::default()).unwrap();
        let learned =
            learn_one_class(rows.examples(), &setting(&args, &rows, false).unwrap(), &mut |_, _, _| ())
                .unwrap();
        let report = Report::of(&args, &rows, &learned);
        assert_eq!((report.training.rows, report.validation.rows), (70, 30));
        assert_eq!(report.distances.iter().sum::<usize>(), 30);
        assert!(report.is_largest(), "99 % of 30 rows are all of them");
        assert_eq!(report.measure, "4x1x1 pca1");
        let told = serde_json::to_string(&report).unwrap();
        assert!(!told.contains(&learned.model().threshold().to_string()), "{told}");
    }

    #[test]
    fn settings_of_the_other_kind_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = rows(folder.path());
        let rows = OwnRows::read(&data, &Reading::default()).unwrap();
        let refused = |words: &str| setting(&args(words), &rows, false).unwrap_err().to_string();
        assert!(refused("d.csv --steps 5 --out m").contains("--kind autoencoder"));
        assert!(refused("d.csv --kind autoencoder --rank 5 --out m").contains("--kind pca"));
        assert!(refused("d.csv --kind autoencoder --steps 0 --out m").contains("between 1 and"));
        let chosen = setting(&args("d.csv --kind autoencoder --steps 7 --out m"), &rows, false).unwrap();
        assert!(matches!(chosen.method, OneClassMethod::Autoencoder(ReconstructorRecipe { steps: 7, .. })));
        // A rank that the rows do not have is told from them.
        let none = format!("{} --rank 25 --out m.onnx --json", data.display());
        let none = one_class(&args(&none)).unwrap_err();
        assert!(none.to_string().contains("rank 25, and these rows allow 1 to 3"), "{none}");
    }
}
