//! `consilium ask`: one question, one label; of the consortium, or of a student on this machine.

use super::NodeArgs;
use super::model::parse_id;
use super::output::{print_json, request, table, unexpected};
use crate::admin::{AdminReply, AdminRequest};
use crate::ledger::ReleaseId;
use clap::Args;
use miette::{Result, miette};
use std::io::Read;
use std::path::PathBuf;

/// Largest file of cases.
const CASES_BYTES_MAX: u64 = 32 << 20;

/// Arguments of `consilium ask`.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// The task
    #[arg(long, short, required_unless_present = "student")]
    task: Option<String>,
    /// Ask this student, from `consilium distill`, in place of the consortium: on this machine, without limit
    #[arg(long, value_name = "ONNX", conflicts_with_all = ["task", "id"])]
    student: Option<PathBuf>,
    /// The values of one case, separated by commas
    #[arg(long, value_name = "VALUES", conflicts_with = "file", allow_hyphen_values = true)]
    values: Option<String>,
    /// A file with one case a line, values separated by commas ("-" reads standard input)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name of the question: the same name with the same values gives the same answer without a charge
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &AskArgs) -> Result<()> {
    let rows = cases(args.values.as_deref(), args.file.as_deref())?;
    let task = match (&args.student, &args.task) {
        (Some(student), _) => return super::student::ask(student, &rows, args.node.json),
        (None, Some(task)) => task.clone(),
        (None, None) => return Err(miette!("name the task by --task, or a student by --student")),
    };
    let release = args.id.as_deref().map(parse_id).transpose()?.map(ReleaseId);
    let ask = AdminRequest::Ask { task, rows, release };
    let AdminReply::Answer(answer) = request(&args.node, &ask)? else {
        return Err(unexpected());
    };
    if args.node.json {
        return print_json(&answer);
    }
    let mut rows = table(&["case", "class"]);
    for (index, class) in answer.classes.iter().enumerate() {
        rows.add_row([(index + 1).to_string(), class.clone().unwrap_or_else(|| "no consensus".into())]);
    }
    println!("{rows}");
    if answer.classes.contains(&None) {
        println!(
            "no consensus: too few models agree. Only you know; to the compute parties all answers look alike"
        );
    }
    let terms = &answer.terms;
    let voted = match terms.shards {
        1 => format!("{} models voted", terms.owners),
        each => format!("{} models voted, {each} of each of {} owners", terms.owners * each, terms.owners),
    };
    println!("{voted}; release: {}; noise: {}", answer.mechanism, terms.noise);
    if let Some(losses) = &answer.losses {
        println!("privacy loss by this answer alone, whatever it is, charged to the ledger of every owner:");
        let mut rows = table(&["whose data", "votes it moves", "epsilon"]);
        for (whom, loss) in losses.rows() {
            rows.add_row([whom, loss.votes.to_string(), loss.shown()]);
        }
        println!("{rows}");
    }
    println!(
        "{:.1} ms, {} rounds, {} bytes from each compute party{}, correlated randomness made by: {}{}",
        answer.milliseconds,
        terms.rounds,
        terms.bytes,
        if terms.together > 1 {
            format!(" for {} questions together", terms.together)
        } else {
            String::new()
        },
        terms.preprocessing,
        if terms.repeated { " (an earlier answer to the same question)" } else { "" }
    );
    println!("name of this question: {}", answer.release);
    Ok(())
}

/// One case from the command line, or those of a file.
pub(super) fn cases(values: Option<&str>, file: Option<&std::path::Path>) -> Result<Vec<Vec<f64>>> {
    let text = match (values, file) {
        (Some(values), _) => values.to_owned(),
        (None, Some(path)) => read(path)?,
        (None, None) => return Err(miette!("give the case by --values 1.5,2,... or --file CASES.csv")),
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
    lines.map(|(index, line)| parse(line, index + 1)).collect()
}

fn read(path: &std::path::Path) -> Result<String> {
    let failed = |error: std::io::Error| miette!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    source.take(CASES_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn parse(line: &str, number: usize) -> Result<Vec<f64>> {
    let value = |(column, text): (usize, &str)| {
        text.trim()
            .parse::<f64>()
            .map_err(|_| miette!("line {number}, value {}: {text:?} is not a number", column + 1))
    };
    line.split(',').enumerate().map(value).collect()
}
