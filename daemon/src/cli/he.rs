//! `consilium he`: one owner, one client, files between them and nobody else.

mod decrypt;
mod encrypt;
mod evaluate;
mod explain;
mod keygen;
pub(super) mod plan;

use crate::demo::Progress;
use crate::homomorphic::{Heard, LEARNS};
use crate::training::{OwnRows, Reading};
use crate::vault::read_bounded;
use clap::{Args, Subcommand};
use consilium_protocol::graph::Shape;
use consilium_protocol::model::{FILE_BYTES_MAX, Model, import};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `consilium he`.
#[derive(Debug, Args)]
pub(super) struct HeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Choose and prove the parameters for a model, and try them
    ///
    /// For the owner. Takes a network of convolutions, dense layers, average pools and squares (x * x as the
    /// activation), at most two squares deep; rounds its weights to integers; and finds parameters under which every
    /// admissible input gives exactly the logits of the rounded network: or says why there are none. Then a self-test
    /// encrypts random inputs under a key of its own and compares every logit. Only then PLAN is written.
    ///
    /// PLAN is public: the client needs it. Of the weights it tells the scales, which are those of the largest weight of
    /// each layer unless you give others, and the largest logit that an admissible input could have.
    ///
    /// In batch mode a query takes up to 8,192 inputs and is as large and takes as long whether it has one or all of
    /// them. In single mode it takes one, in a fraction of the time.
    Plan(plan::PlanArgs),
    /// Draw a secret for a plan, and the evaluation keys for its owner
    ///
    /// For the client, once for each plan. SECRET opens the answers, and whoever has it opens your queries too: it is
    /// readable by you alone, never leaves this machine, and is not replaced if it exists. KEYS go to the owner; nothing
    /// in them is secret. They serve any number of queries.
    Keygen(keygen::KeygenArgs),
    /// Encrypt rows as a query
    ///
    /// For the client. QUERY goes to the owner, who learns from it how many rows there are and nothing else. Its ticket,
    /// a small file that is written beside it, is what opens the answer, so that QUERY itself need not be kept.
    ///
    /// A value that the plan does not take is refused by its row, column and value: nothing is cut into the range.
    Encrypt(encrypt::EncryptArgs),
    /// Answer a query
    ///
    /// For the owner. Rounds the model as PLAN says, makes the plan anew and refuses a model that gives another one; two
    /// models with the same layers, scales and largest logit give the same plan, so keep apart what is yours. The
    /// query is read block by block; in a batch each thread needs memory for one block with its values at the roots,
    /// about 180 kB for each number of an input.
    ///
    /// Each answer shows exact logits to the client, and enough of them rebuild the model. Files are not counted: decide
    /// how many queries whom is worth, and write it down. A node counts: for a task of kind "homomorphic" in the roster it
    /// answers each client as many inputs as the roster says, and no more. What is answered here does not count there.
    Evaluate(evaluate::EvaluateArgs),
    /// Open an answer: the class of each row, or its logits
    ///
    /// For the client. Opens only what belongs to this query, this key and this plan, and only where the noise leaves
    /// the room that a right answer leaves: a damaged answer is an error, never a wrong class. That the owner used the
    /// model of the plan is not proved.
    ///
    /// Do not let the owner know whether an answer opened: one who sends broken answers on purpose could learn about the
    /// secret from that. After such an error draw a new secret.
    Decrypt(decrypt::DecryptArgs),
    /// Say what a file is, for whom, and what it reveals to whom
    ///
    /// Takes any file of these commands, or an ONNX model. The whole file is checked against its checksum, which tells
    /// damage. It is no signature: who changes a file on purpose can make a new one.
    Explain(explain::ExplainArgs),
}

pub(crate) fn run(args: &HeArgs) -> Result<()> {
    match &args.what {
        What::Plan(args) => plan::run(args),
        What::Keygen(args) => keygen::run(args),
        What::Encrypt(args) => encrypt::run(args),
        What::Evaluate(args) => evaluate::run(args),
        What::Decrypt(args) => decrypt::run(args),
        What::Explain(args) => explain::run(args),
    }
}

/// How a command works and speaks.
#[derive(Clone, Copy, Debug, Args)]
struct WorkArgs {
    /// Threads; as many as the machine has cores if absent
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

impl WorkArgs {
    fn threads(&self) -> NonZero<usize> {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN))
    }

    /// Does a work under a bar of bytes. The seconds that it took come with what it gave.
    fn watched<T>(&self, what: &str, work: impl FnOnce(Heard<'_>) -> T) -> (T, f64) {
        let bar = Progress::new(!self.json).bytes(what, 1);
        let started = Instant::now();
        let result = work(&|done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        (result, started.elapsed().as_secs_f64())
    }
}

/// A model from an ONNX file, and what was changed on the way.
fn model(path: &Path) -> Result<(Model, Vec<String>)> {
    let bytes = read_bounded(path, FILE_BYTES_MAX as u64).into_diagnostic()?;
    let imported = import(&bytes).into_diagnostic();
    let imported = imported.wrap_err_with(|| format!("{} is no model for this", path.display()))?;
    Ok((imported.model, imported.warnings))
}

/// Which rows of a file.
#[derive(Clone, Debug, Args)]
struct RowsArgs {
    /// Rows: one a line with values separated by commas, or an IDX file of images; packed by gzip or not
    ///
    /// Numbers of a table stay as they are. Of an image black becomes the smallest value of the plan and white the
    /// largest.
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// Leave out so many rows at the start
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Take so many rows; all that are left if absent
    #[arg(long, value_name = "N")]
    take: Option<usize>,
}

impl RowsArgs {
    /// The file, and the places of the rows that are meant.
    fn read(&self, shape: Shape, range: [f64; 2]) -> Result<(OwnRows, std::ops::Range<usize>)> {
        let rows = own_rows(&self.rows, shape, range)?;
        let all = rows.examples().rows();
        let end = self.take.map_or(all, |take| self.skip.saturating_add(take));
        if self.skip >= end || end > all {
            return Err(miette!(
                "{} has {all} rows; --skip {} and --take {} leave none, or more than it has",
                self.rows.display(),
                self.skip,
                self.take.map_or("all".to_owned(), |take| take.to_string())
            ));
        }
        Ok((rows, self.skip..end))
    }
}

fn own_rows(path: &Path, shape: Shape, range: [f64; 2]) -> Result<OwnRows> {
    let reading = Reading { shape: Some(shape), range: range.map(|end| end as f32), class: None };
    OwnRows::read(path, &reading).into_diagnostic()
}

/// Says who learns what.
fn print_learns() {
    LEARNS.iter().for_each(|(who, what)| println!("{who}: {what}"));
}

/// Bytes for people.
pub(super) fn size(bytes: f64) -> String {
    match bytes {
        ..1e3 => format!("{bytes:.0} B"),
        1e3..1e6 => format!("{:.1} kB", bytes / 1e3),
        1e6..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

/// What was written, how long it took, and how fast that is.
fn written(path: &Path, bytes: u64, seconds: f64) -> String {
    let bytes = bytes as f64;
    format!("{}: {} in {seconds:.2} s, {}/s", path.display(), size(bytes), size(bytes / seconds.max(1e-9)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use consilium_protocol::graph::{Layer, Network};
    use consilium_protocol::model::{Weights, export};

    fn parsed(words: &str) -> std::result::Result<What, clap::Error> {
        let cli = Cli::try_parse_from(format!("consilium he {words}").split(' '))?;
        let Command::He(HeArgs { what }) = cli.command else { panic!("another command") };
        Ok(what)
    }

    #[test]
    fn arguments_that_are_needed_are_asked_for() {
        for good in [
            "plan m.onnx --out p",
            "plan m.onnx --out p --mode single --range -1,1 --scales 3,4,8.5 --threads 1 --json",
            "keygen p --secret s --keys k",
            "encrypt p --secret s --rows r.csv --out q --skip 3 --take 4",
            "evaluate m.onnx --plan p --keys k --query q --out a",
            "decrypt p --secret s --query q.ticket --answer a --classes no,yes --logits",
            "explain p",
        ] {
            assert!(parsed(good).is_ok(), "{good}");
        }
        for bad in [
            "plan m.onnx",
            "plan m.onnx --out p --range 1,0",
            "plan m.onnx --out p --scales 0,1",
            "plan m.onnx --out p --scales 1",
            "plan m.onnx --out p --scales 1,-2",
            "plan m.onnx --out p --threads 0",
            "plan m.onnx --out p --mode double",
            "keygen p --secret s",
            "encrypt p --secret s --out q",
            "evaluate m.onnx --plan p --keys k --query q",
            "decrypt p --secret s --answer a",
            "explain",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    /// A model with a square, or with a ReLU in its place, with some weight.
    fn onnx(path: &Path, activation: Layer, weight: f32) {
        let layers = vec![Layer::Dense { outputs: 2 }, activation, Layer::Dense { outputs: 2 }];
        let network = Network::new(Shape::vector(2), layers).unwrap();
        let weights = [[1.0, -2.0, 3.0, 1.0], [weight, 1.0, -1.0, 2.0]]
            .map(|weight| Weights { weight: weight.to_vec(), bias: vec![1.0, 0.0] });
        let model = Model::new(network, weights.to_vec()).unwrap();
        std::fs::write(path, export(&model, "test")).unwrap();
    }

    #[test]
    fn a_question_goes_through_all_commands() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let call = |words: String| {
            // Names of files stand behind an @.
            let words: Vec<String> = words
                .split(' ')
                .map(|word| word.strip_prefix('@').map_or_else(|| word.to_owned(), at))
                .collect();
            run(&HeArgs { what: parsed(&words.join(" ")).unwrap() }).map_err(|error| format!("{error:?}"))
        };
        onnx(Path::new(&at("m")), Layer::Square, 3.0);
        onnx(Path::new(&at("other")), Layer::Square, 9.0);
        onnx(Path::new(&at("relu")), Layer::Relu, 3.0);
        std::fs::write(at("rows"), "0,1\n0.5,1\n1,1.5\n").unwrap();
        for (mode, rows) in [("batch", "--take 2"), ("single", "--skip 1 --take 1")] {
            let plan = format!("plan @m --out @{mode} --mode {mode} --scales 4,2,1 --json");
            call(plan).unwrap();
            call(format!("keygen @{mode} --secret @{mode}.s --keys @{mode}.k --json")).unwrap();
            let encrypt = |rows: &str| {
                call(format!("encrypt @{mode} --secret @{mode}.s --rows @rows {rows} --out @{mode}.q --json"))
            };
            encrypt(rows).unwrap();
            let evaluate = |model: &str| {
                call(format!(
                    "evaluate @{model} --plan @{mode} --keys @{mode}.k --query @{mode}.q --out @{mode}.a --json"
                ))
            };
            evaluate("m").unwrap();
            for query in ["q", "q.ticket"] {
                let line = format!(
                    "decrypt @{mode} --secret @{mode}.s --query @{mode}.{query} --answer @{mode}.a --logits"
                );
                call(format!("{line} --classes no,yes")).unwrap();
                assert!(
                    call(format!("{line} --classes no,yes,what")).unwrap_err().contains("the model has 2")
                );
            }
            for file in ["", ".s", ".k", ".q", ".q.ticket", ".a"] {
                call(format!("explain @{mode}{file}")).unwrap();
            }
            let beyond = encrypt("--skip 2").unwrap_err();
            assert!(beyond.contains("row 1, value 2") && beyond.contains("1.5"), "{beyond}");
            assert!(evaluate("other").unwrap_err().contains("does not make the plan"));
            assert!(evaluate("relu").unwrap_err().contains("x * x"));
        }
        call("explain @m".to_owned()).unwrap();
        assert!(call("explain @rows".to_owned()).is_err());
        assert!(call("plan @relu --out @none".to_owned()).unwrap_err().contains("x * x"));
        assert!(call("plan @m --out @m".to_owned()).unwrap_err().contains("is not replaced"));
        assert!(!Path::new(&at("none")).exists());
    }

    #[test]
    fn rows_are_taken_by_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, "a,b\n0,1\n1,0\n0.5,1\n").unwrap();
        let read = |skip, take| {
            let args = RowsArgs { rows: path.clone(), skip, take };
            args.read(Shape::vector(2), [0.0, 1.0]).map(|(_, places)| places)
        };
        assert_eq!(read(0, None).unwrap(), 0..3);
        assert_eq!(read(1, Some(1)).unwrap(), 1..2);
        for (skip, take) in [(3, None), (0, Some(4)), (usize::MAX, Some(9)), (0, Some(0))] {
            assert!(read(skip, take).unwrap_err().to_string().contains("3 rows"), "{skip} {take:?}");
        }
        let wide = RowsArgs { rows: path.clone(), skip: 0, take: None }.read(Shape::vector(3), [0.0, 1.0]);
        assert!(wide.unwrap_err().to_string().contains("a row has 2 values"));
    }

    #[test]
    fn sizes_are_told_in_their_unit() {
        let told = [12.0, 44_032.0, 345_210_880.0, 2e9].map(size);
        assert_eq!(told, ["12 B", "44.0 kB", "345.2 MB", "2.00 GB"]);
    }
}
