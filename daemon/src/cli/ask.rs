//! `consilium ask`: one question, one label; of the consortium, or of a student on this machine.

mod input;
mod opened;

pub(super) use input::cases;

use super::NodeArgs;
use super::he::plan::PlanMode;
use super::model::parse_id;
use super::output::{print_json, request, table, unexpected};
use crate::admin::{AdminReply, AdminRequest};
use crate::client::Answer;
use crate::ledger::ReleaseId;
use clap::Args;
use miette::{Result, miette};
use std::path::PathBuf;

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
    /// Files of cases: CSV with one case a line ("-" reads standard input), or a PNG or DICOM image
    ///
    /// What a file is, its content tells. An image is one case. The task says in its roster, under [task.image], how
    /// it becomes values: size, grey or colours, window, range; a file that does not fit is refused. DICOM files must
    /// not be packed (JPEG, RLE), and hold one image. Nothing else of them is read, and no name leaves this machine.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    file: Vec<PathBuf>,
    /// Print the values of the files, one case a line, and ask nothing
    #[arg(long, requires = "file", conflicts_with_all = ["student", "id"])]
    prepare: bool,
    /// Name of the question: the same name with the same values gives the same answer, from the pair that gave it,
    /// without a charge
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    /// Of a homomorphic task: how the cases are encrypted [default: single for one case, batch for several]
    #[arg(long, value_enum, conflicts_with_all = ["student", "id"])]
    mode: Option<PlanMode>,
    /// Of a homomorphic task: print the logits too, the integers and what they mean
    #[arg(long, conflicts_with_all = ["student", "id"])]
    logits: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &AskArgs) -> Result<()> {
    let rows = input::rows(args)?;
    if args.prepare {
        for row in &rows {
            println!("{}", row.iter().map(f64::to_string).collect::<Vec<_>>().join(","));
        }
        return Ok(());
    }
    let task = match (&args.student, &args.task) {
        (Some(student), _) => return super::student::ask(student, &rows, args.node.json),
        (None, Some(task)) => task.clone(),
        (None, None) => return Err(miette!("name the task by --task, or a student by --student")),
    };
    let release = args.id.as_deref().map(parse_id).transpose()?.map(ReleaseId);
    let ask = if args.logits || args.mode.is_some() {
        AdminRequest::AskEncrypted { task, rows, mode: args.mode.map(PlanMode::mode), logits: args.logits }
    } else {
        AdminRequest::Ask { task, rows, release }
    };
    let answer = match request(&args.node, &ask)? {
        AdminReply::Answer(answer) => answer,
        AdminReply::Opened(opened) => return opened::show(&opened, args.node.json),
        _ => return Err(unexpected()),
    };
    if args.node.json {
        return print_json(&answer);
    }
    show(&answer);
    Ok(())
}

/// An answer of the consortium, and what it cost.
fn show(answer: &Answer) {
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
        _ if !terms.users.is_empty() => format!("compared with the models of {}", terms.users.join(", ")),
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
    if !answer.tried.is_empty() {
        println!("answered by pair {}: {}", answer.pair, answer.tried_in_words());
    }
    println!("name of this question: {}", answer.release);
}
