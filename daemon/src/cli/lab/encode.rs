//! `consilium lab encode`: encodings with the figure of their attack.

use super::super::output::print_json;
use super::{ImagesArgs, images, warn, watched};
use crate::lab::{Making, NOT_CONFIDENTIAL, encode, measure, read_key, write_encodings, write_truth};
use crate::training::Statistics;
use clap::{Args, ValueEnum};
use consilium_protocol::algebra::prg::Seed;
use miette::{IntoDiagnostic, Result, miette};
use std::num::NonZero;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct EncodeArgs {
    /// Square grey images in an IDX file, packed by gzip or not
    images: PathBuf,
    /// IDX file with a label for each image
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The key, from `consilium lab keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    which: ImagesArgs,
    /// What normalisations are by
    #[arg(long, value_enum, default_value_t = NormChoice::Batch)]
    norm: NormChoice,
    /// Images of a batch
    #[arg(long, value_name = "N", default_value_t = NonZero::new(64).unwrap_or(NonZero::<usize>::MIN))]
    batch: NonZero<usize>,
    /// Where the encodings go; older encodings there are replaced, and nothing else
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where the secret orders go, readable by you alone; it must not exist
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

/// Where normalisations take mean and variance from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NormChoice {
    /// Of the batch, as published: an encoding depends on the images beside it
    Batch,
    /// Those of the key
    Folded,
}

pub(super) fn run(args: &EncodeArgs) -> Result<()> {
    if let Some(truth) = args.truth.as_ref().filter(|truth| truth.exists()) {
        return Err(miette!(
            "{} exists and is not replaced; choose another name, or remove it",
            truth.display()
        ));
    }
    let key = read_key(&args.key).into_diagnostic()?;
    let images = args.which.of(&images(&args.images, args.labels.as_ref())?)?;
    let statistics = match args.norm {
        NormChoice::Batch => Statistics::Batch,
        NormChoice::Folded => Statistics::Running,
    };
    let making = Making { statistics, batch: args.batch.get() };
    let seed = Seed::random().into_diagnostic()?;
    let (encoded, seconds) = watched(args.json, "encoding", |heard| {
        encode(&key, &images, making, &seed.derive("encode", 0), heard)
    });
    let encoded = encoded.into_diagnostic()?;
    let (measured, attack_seconds) = watched(args.json, "attacking what was made", |heard| {
        measure(encoded, &images, &seed.derive("measure", 0), heard)
    });
    let (measured, truth) = measured.into_diagnostic()?;
    write_encodings(&args.out, &measured).into_diagnostic()?;
    if let Some(path) = &args.truth {
        write_truth(path, &truth).into_diagnostic()?;
    }
    if args.json {
        return print_json(&serde_json::json!({
            "encodings": args.out,
            "truth": args.truth,
            "count": measured.encodings().count(),
            "shape": measured.encodings().shape(),
            "seconds": seconds,
            "attack_seconds": attack_seconds,
            "attack": measured.figure(),
            "warning": NOT_CONFIDENTIAL,
        }));
    }
    let count = measured.encodings().count();
    println!(
        "{}: {count} encodings in {seconds:.1} s, attacked in {attack_seconds:.1} s",
        args.out.display()
    );
    if let Some(path) = &args.truth {
        println!("{}: which encoding is whose; keep it", path.display());
    }
    warn(Some(measured.figure()));
    Ok(())
}
