//! `consilium he plan`: parameters for a model, proved and tried.

use super::super::output::{print_json, table};
use super::{WorkArgs, model, own_rows, print_learns, size};
use crate::homomorphic::{SelfTest, Sizes, random_samples, self_test, write_plan};
use crate::vault::hex;
use clap::{Args, ValueEnum};
use consilium_protocol::homomorphic::{
    Chosen, MODULUS_BITS_MAX, Mode, Plan, Room, STATISTICAL_BITS, Scales, choose_scales, with_scales,
};
use consilium_protocol::model::Model;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Serialize;
use std::path::PathBuf;

/// Most rows that scales are compared on.
const SAMPLES_MAX: usize = 1024;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The model, an ONNX file
    model: PathBuf,
    /// Where the plan goes; an older one there is replaced, and nothing else
    #[arg(long, value_name = "PLAN")]
    out: PathBuf,
    /// How many inputs a query takes
    #[arg(long, value_enum, default_value_t = PlanMode::Batch)]
    mode: PlanMode,
    /// Smallest and largest value of an input; others are refused when they are encrypted
    #[arg(long, value_name = "LOW,HIGH", value_parser = range, default_value = "0,1", allow_hyphen_values = true)]
    range: Range,
    /// Scale of the inputs, then one for the weights of each layer that has some
    ///
    /// Each number times its scale, rounded, is the integer that is computed with. Layers that follow one another without
    /// a square between them count as one. If absent, a model that was trained for integers gets its own scales, and
    /// any other those that change its logits for the samples least.
    #[arg(long, value_name = "INPUT,MAP1,..", value_parser = scales)]
    scales: Option<Scales>,
    /// Rows that scales are compared on, as `he encrypt` takes them; random ones within the range if absent
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    #[command(flatten)]
    work: WorkArgs,
}

/// How inputs are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum PlanMode {
    /// Up to 8,192 inputs at once: the most answers for the time
    Batch,
    /// One input in few ciphertexts: the soonest answer
    Single,
}

impl PlanMode {
    pub(in crate::cli) fn mode(self) -> Mode {
        match self {
            Self::Batch => Mode::Batch,
            Self::Single => Mode::Single,
        }
    }
}

/// Ends of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range([f64; 2]);

pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let (model, warnings) = model(&args.model)?;
    let samples = samples(args, &model)?;
    let mode = args.mode.mode();
    let chosen = match &args.scales {
        Some(scales) => with_scales(&model, args.range.0, mode, scales, &samples),
        None => choose_scales(&model, args.range.0, mode, &samples),
    };
    let chosen = chosen.into_diagnostic();
    let chosen = chosen.wrap_err_with(|| format!("there is no plan for {}", args.model.display()))?;
    let (tested, seconds) = args
        .work
        .watched("self-test", |heard| self_test(&chosen.plan, &chosen.net, args.work.threads(), heard));
    let tested = tested.into_diagnostic()?;
    let bytes = write_plan(&args.out, &chosen.plan).into_diagnostic()?;
    let report = Report::new(args, &chosen, samples.len(), tested, seconds, warnings);
    if args.work.json {
        return print_json(&report);
    }
    report.warnings.iter().for_each(|warning| eprintln!("note: {warning}"));
    show(&report, &chosen.plan);
    println!("{}: {}, public: give it to clients", args.out.display(), size(bytes as f64));
    Ok(())
}

/// Rows that rounding is judged by.
fn samples(args: &PlanArgs, model: &Model) -> Result<Vec<f64>> {
    let (shape, [low, high]) = (model.network().input(), args.range.0);
    let Some(path) = &args.rows else {
        return random_samples(shape.len(), args.range.0).into_diagnostic();
    };
    let rows = own_rows(path, shape, args.range.0)?;
    let examples = rows.examples();
    let mut samples = Vec::new();
    for row in 0..examples.rows().min(SAMPLES_MAX) {
        for (column, value) in examples.row(row).iter().enumerate() {
            let value = f64::from(*value);
            if !(low..=high).contains(&value) {
                return Err(miette!(
                    "row {}, value {} of {} is {value}, outside {low} to {high}; give a wider --range or scale it",
                    row + 1,
                    column + 1,
                    path.display()
                ));
            }
            samples.push(value);
        }
    }
    Ok(samples)
}

/// What is told of a plan, and of the model behind it. The last part is for its owner.
#[derive(Debug, Serialize)]
struct Report {
    plan: PathBuf,
    digest: String,
    mode: Mode,
    layers: String,
    scales: Scales,
    output_scale: f64,
    input_range: [i64; 2],
    logit_bits: u32,
    primes: Vec<u64>,
    degree: usize,
    modulus_bits: f64,
    modulus_bits_max: f64,
    noise_bits: f64,
    flood_bits: u32,
    flood_over_noise_bits: f64,
    statistical_bits: f64,
    inputs_max: usize,
    bytes: Sizes,
    products: usize,
    samples: usize,
    samples_given: bool,
    agreement: f64,
    error: f64,
    self_test: SelfTest,
    self_test_seconds: f64,
    warnings: Vec<String>,
}

/// What the standard allows for a degree, or nothing.
pub(super) fn modulus_bound(plan: &Plan) -> f64 {
    MODULUS_BITS_MAX.iter().find(|(degree, _)| *degree == plan.degree()).map_or(0.0, |(_, bits)| *bits)
}

impl Report {
    fn new(
        args: &PlanArgs,
        chosen: &Chosen,
        numbers: usize,
        self_test: SelfTest,
        seconds: f64,
        warnings: Vec<String>,
    ) -> Self {
        let Chosen { net, plan, room, error, agreement } = chosen;
        let Room { modulus, noise, flood, statistical, .. } = *room;
        Self {
            plan: args.out.clone(),
            digest: hex::encode(&plan.digest()),
            mode: plan.mode,
            layers: plan.network.summary(),
            scales: plan.scales.clone(),
            output_scale: plan.scales.output(),
            input_range: plan.input_range,
            logit_bits: plan.logit_bits,
            primes: plan.primes.clone(),
            degree: plan.degree(),
            modulus_bits: modulus,
            modulus_bits_max: modulus_bound(plan),
            noise_bits: noise,
            flood_bits: plan.flood_bits,
            flood_over_noise_bits: flood,
            statistical_bits: statistical,
            inputs_max: plan.inputs_max(),
            bytes: Sizes::of(plan),
            products: net.products(),
            samples: numbers / plan.inputs().max(1),
            samples_given: args.rows.is_some(),
            agreement: *agreement,
            error: *error,
            self_test,
            self_test_seconds: seconds,
            warnings,
        }
    }
}

/// The rows of a table about what is public, with sizes.
pub(super) fn public(plan: &Plan) -> Vec<(&'static str, String)> {
    let (sizes, most) = (Sizes::of(plan), plan.inputs_max() as f64);
    let maps: Vec<String> = plan.scales.maps.iter().map(|scale| format!("{scale:.4}")).collect();
    let [low, high] = plan.input_range;
    let unit = f64::from(plan.scales.input);
    let per = |bytes: u64| match plan.mode {
        Mode::Batch => {
            format!("{}, {} for each of {most} inputs", size(bytes as f64), size(bytes as f64 / most))
        }
        Mode::Single => size(bytes as f64),
    };
    let primes: Vec<String> = plan.primes.iter().map(u64::to_string).collect();
    vec![
        (
            "mode",
            match plan.mode {
                Mode::Batch => format!("batch, up to {most} inputs a query"),
                Mode::Single => "single, one input a query".to_owned(),
            },
        ),
        ("layers", plan.network.summary()),
        ("inputs", format!("{} to {}, as integers {low} to {high}", low as f64 / unit, high as f64 / unit)),
        (
            "scales",
            format!("inputs {unit}; weights {}; logits {:.6e}", maps.join(", "), plan.scales.output()),
        ),
        ("logits", format!("{}, each of {} bits at most, exact", plan.outputs(), plan.logit_bits)),
        ("plaintext primes", primes.join(", ")),
        ("ring degree", plan.degree().to_string()),
        ("keys", format!("{}, once", size(sizes.keys as f64))),
        ("query", per(sizes.query)),
        ("answer", per(sizes.answer)),
    ]
}

fn show(report: &Report, plan: &Plan) {
    let mut rows = table(&["plan", &report.digest[..16]]);
    for (name, value) in public(plan) {
        rows.add_row([name, &value]);
    }
    rows.add_row([
        "modulus",
        &format!(
            "{:.1} bits; the standard allows {:.0} at this degree for 128 bits of security",
            report.modulus_bits, report.modulus_bits_max
        ),
    ]);
    rows.add_row([
        "noise and flood",
        &format!(
            "noise 2^{:.1}, flooded by 2^{} times the prime, which is 2^{:.1} times larger",
            report.noise_bits, report.flood_bits, report.flood_over_noise_bits
        ),
    ]);
    rows.add_row([
        "statistical distance",
        &format!("2^-{:.1} for an answer; at most 2^-{STATISTICAL_BITS} is allowed", report.statistical_bits),
    ]);
    let what =
        if report.samples_given { "the rows given" } else { "random rows, which say little: give --rows" };
    rows.add_row([
        "rounding",
        &format!(
            "{:.2} % of {} samples keep their class, logits change by {:.2} %; {what}",
            100.0 * report.agreement,
            report.samples,
            100.0 * report.error
        ),
    ]);
    rows.add_row(["work", &format!("{} products for an input", report.products)]);
    rows.add_row([
        "self-test",
        &format!(
            "{} logits of {} inputs all right, margin {:.1} bits, {:.1} s",
            report.self_test.logits,
            report.self_test.inputs,
            report.self_test.margin,
            report.self_test_seconds
        ),
    ]);
    println!("{rows}");
    print_learns();
}

fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split(',')
        .map(|number| number.trim().parse().ok().filter(|number: &f64| number.is_finite()))
        .collect()
}

/// Two ends of a range.
fn range(text: &str) -> std::result::Result<Range, String> {
    match numbers(text).as_deref() {
        Some([low, high]) if low < high => Ok(Range([*low, *high])),
        _ => Err("two numbers separated by a comma, the lower one first, such as 0,1".to_owned()),
    }
}

/// A whole number for the inputs, and positive ones for weights.
pub(in crate::cli) fn scales(text: &str) -> std::result::Result<Scales, String> {
    let all = numbers(text).unwrap_or_default();
    match all.split_first() {
        Some((input, maps)) if !maps.is_empty() && maps.iter().all(|scale| *scale > 0.0) => {
            let whole = (1.0..=255.0).contains(input) && input.fract() == 0.0;
            let scales = Scales { input: *input as u32, maps: maps.to_vec() };
            if whole {
                Ok(scales)
            } else {
                Err("the scale of inputs is a whole number of 1 to 255".to_owned())
            }
        }
        _ => Err("the scale of inputs, then one above 0 for each linear layer, such as 15,4,8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_and_ranges_are_read() {
        assert_eq!(scales("15, 4,8.5"), Ok(Scales { input: 15, maps: vec![4.0, 8.5] }));
        assert_eq!(range("-1,1.5"), Ok(Range([-1.0, 1.5])));
        for bad in ["", "1", "0,1", "256,1", "1.5,1", "1,0", "1,-1", "1,inf", "1,NaN", "a,b", "-1,1"] {
            assert!(scales(bad).is_err(), "{bad}");
        }
        for bad in ["", "1", "1,1", "2,1", "0,inf", "NaN,1", "0,1,2"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
