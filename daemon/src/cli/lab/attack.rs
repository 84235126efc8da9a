//! `consilium lab attack`: whose is which encoding.

use super::super::output::{print_json, table};
use super::{ImagesArgs, images, warn, watched};
use crate::lab::{
    AttackSetting, CloneSetting, Figure, NOT_CONFIDENTIAL, Truth, attack, figure, read_encodings, read_truth,
    shuffled, today,
};
use crate::vault::write_atomic;
use clap::Args;
use consilium_protocol::algebra::prg::Seed;
use miette::{IntoDiagnostic, Result};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct AttackArgs {
    /// Encodings, from `consilium lab encode`
    encodings: PathBuf,
    /// Candidates for their images, in an IDX file, in any order
    #[arg(long, value_name = "FILE")]
    candidates: PathBuf,
    #[command(flatten)]
    which: ImagesArgs,
    /// Encoders of one's own that distances are compared with; 0 for distances of pixels
    #[arg(long, value_name = "N", default_value_t = 5)]
    own: usize,
    /// Train a clone of the encoder on the surest pairs, and match again by what it gives
    #[arg(long)]
    clone: bool,
    /// What `encode --truth` wrote about them, to say how often the attack is right
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Where the pairs go: a line with the place of an encoding and the place of its candidate, both from 0, behind lines
    /// with a # that say how easily they are found
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &AttackArgs) -> Result<()> {
    let measured = read_encodings(&args.encodings).into_diagnostic()?;
    let encodings = measured.encodings();
    let truth = args.truth.as_ref().map(|path| read_truth(path)).transpose().into_diagnostic()?;
    let candidates = args.which.of(&images(&args.candidates, None)?)?;
    truth.as_ref().map_or(Ok(()), |truth| truth.fit(encodings, &candidates)).into_diagnostic()?;
    let seed = Seed::random().into_diagnostic()?;
    // In an order of our own, so that the one in the file tells nothing.
    let order = shuffled(candidates.count(), &seed.derive("candidates", 0));
    let setting = AttackSetting {
        own_encoders: args.own,
        clone: args.clone.then(CloneSetting::default),
        seed: seed.derive("own", 0),
    };
    let (found, seconds) = watched(args.json, "attacking", |heard| {
        attack(encodings, &candidates.select(&order), &setting, heard)
    });
    let found = found.into_diagnostic()?;
    let figure = truth.map(|truth| figure(&found, &expected(&truth, &order), truth.patches(), today()));
    let matching = found
        .stages
        .last()
        .map(|(_, matching)| matching.iter().map(|candidate| order[*candidate]).collect::<Vec<_>>());
    let matching = matching.unwrap_or_default();
    if let Some(path) = &args.pairs {
        let claimed = format!("the file says, {}", measured.figure());
        let told = figure.as_ref().map_or(claimed, Figure::to_string);
        let mut text = format!("# {NOT_CONFIDENTIAL}\n# {told}\nencoding,candidate\n");
        matching
            .iter()
            .enumerate()
            .try_for_each(|(at, found)| writeln!(text, "{at},{found}"))
            .into_diagnostic()?;
        write_atomic(path, text.as_bytes()).into_diagnostic()?;
    }
    if args.json {
        return print_json(&serde_json::json!({
            "encodings": args.encodings,
            "count": encodings.count(),
            "shape": encodings.shape(),
            "seconds": seconds,
            "matching": matching,
            "attack": figure,
            "attack_of_the_file": measured.figure(),
            "warning": NOT_CONFIDENTIAL,
        }));
    }
    println!(
        "{} encodings of {} matched with candidates in {seconds:.1} s",
        encodings.count(),
        encodings.shape()
    );
    if let Some(path) = &args.pairs {
        println!("{}: the pairs", path.display());
    }
    match &figure {
        Some(figure) => show(figure),
        None => println!(
            "how often that is right is known with --truth; of when it was made the file says, {}",
            measured.figure()
        ),
    }
    warn(figure.as_ref());
    Ok(())
}

/// The place in `order` of each encoding's image.
fn expected(truth: &Truth, order: &[usize]) -> Vec<usize> {
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, place)| places[*place] = at);
    truth.images().iter().map(|image| places[*image]).collect()
}

fn show(figure: &Figure) {
    let mut shown = table(&["matched by", "right", "95 % interval", "a guess"]);
    for found in &figure.found {
        let (low, high) = found.interval(figure.images);
        shown.add_row([
            found.stage.to_string(),
            format!("{:.1} %", 100.0 * found.share),
            format!("{:.1} % to {:.1} %", 100.0 * low, 100.0 * high),
            format!("{:.2} %", 100.0 * figure.chance),
        ]);
    }
    println!("{shown}");
}
