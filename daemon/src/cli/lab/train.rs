//! `consilium lab train`: one classifier of the encodings of several hospitals.

use super::super::output::{print_json, table};
use super::{images, warn, watched};
use crate::lab::{
    EncoderShape, Figure, NOT_CONFIDENTIAL, Parts, Quality, encoded_rows, plain_rows, quality,
    read_encodings, spread, together, token_recipe, write_classifier,
};
use crate::training::{Examples, TokenClassifier, TokenRecipe, train_tokens};
use clap::Args;
use miette::{IntoDiagnostic, Result, miette};
use serde::Serialize;
use std::num::NonZero;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// Labelled encodings of each hospital, from `consilium lab encode --labels`
    #[arg(required = true, num_args = 1..=64)]
    encodings: Vec<PathBuf>,
    /// Labelled encodings to test with, one file for each hospital in the same order, made by the same keys from other
    /// images; without it, a share of each file is set aside
    #[arg(long, value_name = "FILE", num_args = 1..=64, conflicts_with = "held_out")]
    test: Vec<PathBuf>,
    /// Plain images, in an IDX file, for a classifier to compare with; a share of them is set aside to test with
    #[arg(long, value_name = "FILE", requires = "plain_labels")]
    plain: Option<PathBuf>,
    /// IDX file with their labels
    #[arg(long, value_name = "FILE", requires = "plain")]
    plain_labels: Option<PathBuf>,
    /// Share of each file that is tested with; with --test, of the plain images alone
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    held_out: f64,
    /// Trainings, each from other first weights
    #[arg(long, value_name = "N", default_value_t = NonZero::new(3).unwrap_or(NonZero::<u64>::MIN))]
    seeds: NonZero<u64>,
    /// Passes over the rows
    #[arg(long, value_name = "N", default_value_t = 15)]
    epochs: usize,
    /// Where the joint classifier of the first seed goes; an older one there is replaced, and nothing else
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

/// What was trained on, what was tested with, and how good that was.
#[derive(Debug, Serialize)]
struct Row {
    trained_on: String,
    tested_with: String,
    train: usize,
    test: usize,
    qualities: Vec<Quality>,
}

pub(super) fn run(args: &TrainArgs) -> Result<()> {
    if !args.test.is_empty() && args.test.len() != args.encodings.len() {
        return Err(miette!(
            "{} files of encodings and {} to test with; give one for each, in the same order",
            args.encodings.len(),
            args.test.len()
        ));
    }
    let Read { shape, figures, hospitals, plain } = read(args)?;
    let joint = Parts {
        train: together(hospitals.iter().map(|parts| &parts.train)).into_diagnostic()?,
        test: together(hospitals.iter().map(|parts| &parts.test)).into_diagnostic()?,
    };
    let all = hospitals.iter().chain(&plain).flat_map(|parts| [&parts.train, &parts.test]);
    let labels = all.flat_map(|rows| rows.labels());
    let classes = labels.copied().max().map_or(0, |label| usize::from(label) + 1).max(2);
    let recipe = TokenRecipe { epochs: args.epochs, ..token_recipe(shape, classes, false) };
    let names: Vec<String> = args.encodings.iter().map(|path| path.display().to_string()).collect();
    let of_each = || names.iter().map(String::as_str).zip(hospitals.iter().map(|parts| &parts.test));
    // With the rows of each hospital too, which is what its own classifier is tested with.
    let tests: Vec<_> =
        std::iter::once(("all", &joint.test)).chain(of_each().filter(|_| names.len() > 1)).collect();
    let (mut rows, classifier) = self::rows(args, "encodings of all", &joint.train, &tests, &recipe)?;
    for ((name, test), parts) in of_each().zip(&hospitals).filter(|_| names.len() > 1) {
        let trained_on = format!("{name} alone");
        rows.extend(self::rows(args, &trained_on, &parts.train, &[(name, test)], &recipe)?.0);
    }
    if let Some(plain) = &plain {
        let recipe = TokenRecipe { front: token_recipe(shape, classes, true).front, ..recipe };
        let tests = [("plain images", &plain.test)];
        rows.extend(self::rows(args, "plain images", &plain.train, &tests, &recipe)?.0);
    }
    if let Some((path, classifier)) = args.out.as_ref().zip(classifier) {
        write_classifier(path, &classifier, &figures).into_diagnostic()?;
    }
    show(args, &rows, &figures)
}

/// What the files hold.
struct Read {
    shape: EncoderShape,
    /// Of each file to train on, then of each to test with.
    figures: Vec<Figure>,
    hospitals: Vec<Parts>,
    plain: Option<Parts>,
}

fn read(args: &TrainArgs) -> Result<Read> {
    let (mut shape, mut figures): (Option<EncoderShape>, Vec<Figure>) = (None, Vec::new());
    let mut rows = |path: &PathBuf| -> Result<Examples> {
        let measured = read_encodings(path).into_diagnostic()?;
        let found = measured.encodings().shape();
        let first = *shape.get_or_insert(found);
        if (first.values(), first.positions()) != (found.values(), found.positions()) {
            return Err(miette!("{} is of {found}, the first of {first}", path.display()));
        }
        figures.push(measured.figure().clone());
        encoded_rows(measured.encodings()).into_diagnostic()
    };
    let train = args.encodings.iter().map(&mut rows).collect::<Result<Vec<_>>>()?;
    let test = args.test.iter().map(&mut rows).collect::<Result<Vec<_>>>()?;
    let hospitals = match test.is_empty() {
        true => train.iter().map(|rows| parts(args, rows)).collect::<Result<_>>()?,
        false => train.into_iter().zip(test).map(|(train, test)| Parts { train, test }).collect(),
    };
    let shape = shape.ok_or_else(|| miette!("no encodings"))?;
    let plain = args.plain.as_ref().map(|path| {
        parts(args, &plain_rows(&images(path, args.plain_labels.as_ref())?, shape).into_diagnostic()?)
    });
    Ok(Read { shape, figures, hospitals, plain: plain.transpose()? })
}

fn parts(args: &TrainArgs, rows: &Examples) -> Result<Parts> {
    Parts::split(rows, args.held_out, 1).into_diagnostic()
}

/// Trainings from several seeds, each tested with several rows, and the classifier of the first.
fn rows(
    args: &TrainArgs,
    trained_on: &str,
    train: &Examples,
    tests: &[(&str, &Examples)],
    recipe: &TokenRecipe,
) -> Result<(Vec<Row>, Option<TokenClassifier>)> {
    let row = |(name, test): &(&str, &Examples)| Row {
        trained_on: trained_on.to_owned(),
        tested_with: (*name).to_owned(),
        train: train.rows(),
        test: test.rows(),
        qualities: Vec::new(),
    };
    let (mut rows, mut first): (Vec<Row>, _) = (tests.iter().map(row).collect(), None);
    for seed in 0..args.seeds.get() {
        let (trained, _) = watched(args.json, trained_on, |heard| train_tokens(train, recipe, seed, heard));
        let classifier = trained.into_diagnostic()?;
        for (row, (_, test)) in rows.iter_mut().zip(tests) {
            row.qualities.push(quality(&classifier, test).into_diagnostic()?);
        }
        first.get_or_insert(classifier);
    }
    Ok((rows, first))
}

fn show(args: &TrainArgs, rows: &[Row], figures: &[Figure]) -> Result<()> {
    if args.json {
        return print_json(
            &serde_json::json!({ "rows": rows, "attacks": figures, "warning": NOT_CONFIDENTIAL }),
        );
    }
    let mut shown = table(&["trained on", "rows", "tested with", "rows", "accuracy", "balanced", "AUC"]);
    for row in rows {
        let of = |value: fn(&Quality) -> f64, scale: f64| {
            let (mean, deviation) = spread(row.qualities.iter().map(value));
            if scale > 1.0 {
                format!("{:.1} ± {:.1} %", scale * mean, scale * deviation)
            } else {
                format!("{mean:.3} ± {deviation:.3}")
            }
        };
        shown.add_row([
            row.trained_on.clone(),
            row.train.to_string(),
            row.tested_with.clone(),
            row.test.to_string(),
            of(|quality| quality.accuracy, 100.0),
            of(|quality| quality.balanced, 100.0),
            of(|quality| quality.auc, 1.0),
        ]);
    }
    println!("{shown}");
    println!("means and standard deviations of {} trainings", args.seeds);
    let files = args.encodings.iter().chain(&args.test);
    figures.iter().zip(files).for_each(|(figure, path)| println!("{} says: {figure}", path.display()));
    warn(None);
    Ok(())
}
