//! `consilium lab keygen`: a random encoder.

use super::super::output::print_json;
use super::{images, warn};
use crate::lab::{EncoderKey, EncoderShape, NOT_CONFIDENTIAL, write_key};
use clap::Args;
use consilium_protocol::algebra::prg::Seed;
use miette::{IntoDiagnostic, Result};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// Where the key goes; it must not exist
    key: PathBuf,
    /// Rows, and columns, of an image
    #[arg(long, value_name = "PIXELS", default_value_t = 28)]
    side: usize,
    /// Rows, and columns, of a patch
    #[arg(long, value_name = "PIXELS", default_value_t = 4)]
    patch: usize,
    /// Channels; 2048 as published
    #[arg(long, value_name = "N", default_value_t = 256)]
    width: usize,
    /// Products with normalisation; 4 as published, which its authors call depth 7
    #[arg(long, value_name = "N", default_value_t = 4)]
    private_depth: usize,
    /// Images, in an IDX file, whose means and variances `encode --norm folded` takes; 0 and 1 if absent
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &KeygenArgs) -> Result<()> {
    let KeygenArgs { side, patch, width, private_depth, .. } = *args;
    let shape = EncoderShape { side, patch, width, private_depth };
    let mut key = EncoderKey::draw(shape, &Seed::random().into_diagnostic()?).into_diagnostic()?;
    if let Some(path) = &args.calibrate {
        key.calibrate(&images(path, None)?).into_diagnostic()?;
    }
    write_key(&args.key, &key).into_diagnostic()?;
    if args.json {
        return print_json(&serde_json::json!({
            "key": args.key,
            "shape": shape,
            "depth": shape.depth(),
            "parameters": shape.parameters(),
            "warning": NOT_CONFIDENTIAL,
        }));
    }
    println!("{}: an encoder for {shape}, {} parameters", args.key.display(), shape.parameters());
    warn(None);
    Ok(())
}
