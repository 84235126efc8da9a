//! `consilium lab sweep`: the attack against sizes.

use super::super::output::{print_json, table};
use super::{ImagesArgs, images, warn, watched};
use crate::chart::{Axis, Chart};
use crate::lab::{
    AttackSetting, CloneSetting, EncoderKey, EncoderShape, Figure, Images, Making, NOT_CONFIDENTIAL, Stage,
    attempt, encode,
};
use crate::training::Statistics;
use clap::Args;
use consilium_protocol::algebra::prg::Seed;
use miette::{IntoDiagnostic, Result};
use serde::Serialize;
use std::path::PathBuf;

const MAKING: Making = Making { statistics: Statistics::Batch, batch: 64 };

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// Square grey images in an IDX file
    images: PathBuf,
    #[command(flatten)]
    which: ImagesArgs,
    /// Rows, and columns, of a patch
    #[arg(long, value_name = "PIXELS", default_value_t = 4)]
    patch: usize,
    /// Private depths; 4 is depth 7 of the paper
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [0, 4])]
    private_depths: Vec<usize>,
    /// Widths
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [64, 128, 256])]
    widths: Vec<usize>,
    /// Numbers of encoders of one's own
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [5])]
    own: Vec<usize>,
    /// Train clones too
    #[arg(long)]
    clone: bool,
    /// Where a plot goes
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Keys and orders; equal seeds give equal figures
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

/// One encoder and its attack.
#[derive(Debug, Serialize)]
struct Row {
    shape: EncoderShape,
    depth: usize,
    seconds: f64,
    attack: Figure,
}

impl Row {
    fn share(&self, stage: Stage) -> Option<f64> {
        self.attack.found.iter().find(|found| found.stage == stage).map(|found| found.share)
    }
}

pub(super) fn run(args: &SweepArgs) -> Result<()> {
    let images = args.which.of(&images(&args.images, None)?)?;
    let mut rows = Vec::new();
    for private_depth in &args.private_depths {
        for width in &args.widths {
            for own in &args.own {
                let shape = EncoderShape {
                    side: images.side(),
                    patch: args.patch,
                    width: *width,
                    private_depth: *private_depth,
                };
                rows.push(row(args, shape, &images, *own)?);
            }
        }
    }
    if let Some(path) = &args.svg {
        chart(args, &rows).write_svg(path).into_diagnostic()?;
    }
    if args.json {
        return print_json(&serde_json::json!({ "rows": rows, "warning": NOT_CONFIDENTIAL }));
    }
    show(&rows);
    warn(None);
    Ok(())
}

fn row(args: &SweepArgs, shape: EncoderShape, images: &Images, own_encoders: usize) -> Result<Row> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&args.seed.to_le_bytes());
    let seed = Seed::from_bytes(bytes);
    let key = EncoderKey::draw(shape, &seed.derive("key", 0)).into_diagnostic()?;
    let encoded =
        encode(&key, images, MAKING, &seed.derive("encode", 0), &mut |_, _| ()).into_diagnostic()?;
    let clone = args.clone.then(CloneSetting::default);
    let setting = AttackSetting { own_encoders, clone, seed: seed.derive("attack", 0) };
    let what = format!("depth {}, width {}", shape.depth(), shape.width);
    let (attack, seconds) = watched(args.json, &what, |heard| {
        attempt(&encoded.encodings, &encoded.truth, images, &setting, heard)
    });
    Ok(Row { shape, depth: shape.depth(), seconds, attack: attack.into_diagnostic()? })
}

fn show(rows: &[Row]) {
    let mut shown = table(&[
        "depth",
        "width",
        "images",
        "own encoders",
        "shuffle undone",
        "by images",
        "by patches",
        "by a clone",
        "a guess",
        "time",
    ]);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    for row in rows {
        let stage = |stage| row.share(stage).map_or("-".to_owned(), percent);
        shown.add_row([
            row.depth.to_string(),
            row.shape.width.to_string(),
            row.attack.images.to_string(),
            row.attack.own_encoders.to_string(),
            percent(row.attack.shuffle_undone),
            stage(Stage::Images),
            stage(Stage::Patches),
            stage(Stage::Clone),
            percent(row.attack.chance),
            format!("{:.1} s", row.seconds),
        ]);
    }
    println!("{shown}");
}

/// What the last stage finds, by width, a line for each depth and number of own encoders.
fn chart(args: &SweepArgs, rows: &[Row]) -> Chart {
    let mut chart = Chart::new(
        "Images found among their encodings",
        Axis::new("width").log(),
        Axis::new("found, %").within(0.0, 100.0),
    )
    .subtitle("NOT confidential: candidates for the images are all that it takes");
    for depth in &args.private_depths {
        for own in &args.own {
            let of = rows
                .iter()
                .filter(|row| row.shape.private_depth == *depth && row.attack.own_encoders == *own);
            let points =
                of.filter_map(|row| Some((row.shape.width as f64, 100.0 * row.attack.last()?.share)));
            chart = chart.series(format!("depth {}, {own} own encoders", depth + 3), points.collect());
        }
    }
    chart
}
