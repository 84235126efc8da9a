//! The result of a trial: tables, an object for machines, and what is wrong with it.

use super::asked::{Panel, Pass};
use super::compression::{QUALITY, recompressed};
use super::costs::{CostRow, costs};
use super::refusal::Refusals;
use super::roc::Point;
use super::score::share;
use super::split::Part;
use super::users::{Kind, Trained};
use super::{Setting, Subject, Tick, TrialError};
use consilium::demo::Progress;
use consilium::training::Examples;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Instant;

/// What principal directions reach on the digits, in the setting that this is known for.
const RECALL_MIN: f64 = 0.955;
const RECALL_SETTING: (Subject, Kind, usize, usize) = (Subject::Mnist, Kind::Pca, 25, 10);
/// Share of images whose answer must stay the same under compression.
const STABLE_MIN: f64 = 0.95;
/// What 33 users may cost in bytes of what ten do, asked about an image.
const BYTES_RATIO_MAX: f64 = 3.5;

/// What a trial showed.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Name of the data set.
    pub dataset: &'static str,
    /// How models measure.
    pub kind: &'static str,
    /// What a model of a user computes.
    pub measure: String,
    /// Users.
    pub users: usize,
    /// Seed of everything.
    pub seed: u64,
    /// Share of a user's own validation rows that its threshold accepts.
    pub accepted: f64,
    /// The three parts of the rows.
    pub parts: Vec<Part>,
    /// The nearest user whatever the thresholds, and the answers of the product.
    pub passes: Vec<Pass>,
    /// The same rows after compression.
    pub compression: Option<Compression>,
    /// Strangers.
    pub refusals: Option<Refusals>,
    /// More users.
    pub costs: Option<Vec<CostRow>>,
    /// Why a node would not publish these models, if it would not.
    pub unproved: Option<String>,
    /// What was asked for and not done, and why.
    pub skipped: Vec<String>,
    /// Seconds of all trainings.
    pub training_seconds: f64,
    /// Whether the recall of this setting is known.
    #[serde(skip)]
    recall_is_known: bool,
    /// Whether inputs are so large that comparisons of users cost little beside them.
    #[serde(skip)]
    inputs_are_large: bool,
}

/// Answers of two parties about images before and after compression.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compression {
    /// Of the compression.
    pub quality: u32,
    /// Images.
    pub rows: usize,
    /// Mean squared difference of a value.
    pub mean_squared_error: f64,
    /// Share with the same nearest user, whatever the thresholds.
    pub nearest_stable: f64,
    /// Share with the same answer, whether a user or nobody.
    pub answer_stable: f64,
}

impl Outcome {
    /// Trains and asks.
    ///
    /// # Errors
    /// The data do not suffice, a training failed, or the two parties did.
    pub fn new(setting: &Setting, shared: &Path, progress: &Progress) -> Result<Self, TrialError> {
        let material = setting.subject.load(shared)?;
        let started = Instant::now();
        let trained = Trained::new(setting, &material, progress)?;
        let training_seconds = started.elapsed().as_secs_f64();
        let Trained { panel, test, truth, parts, unproved } = trained;
        let whose: Vec<Option<usize>> = truth.iter().copied().map(Some).collect();
        let plain = panel.plain(&test);
        let twice = 2 * test.rows();
        let passes = watched(progress, "rows asked", twice, |tick| {
            let pass = |thresholds| panel.pass((&test, &whose[..]), &plain, thresholds, tick);
            [false, true].into_iter().map(pass).collect::<Result<Vec<Pass>, TrialError>>()
        })?;
        let mut skipped = Vec::new();
        if setting.jpeg && !setting.subject.is_image() {
            skipped.push(format!("SKIPPED compression: {} are no images", setting.subject.name()));
        }
        let compression = (setting.jpeg && setting.subject.is_image()).then(|| {
            let again = |tick: Tick<'_>| Compression::new(&panel, &test, &passes, tick);
            watched(progress, "compressed rows asked", twice, again)
        });
        let refusals = setting.strangers.then(|| {
            let asked = |tick: Tick<'_>| Refusals::new(&panel, (&test, &truth[..]), &plain, tick);
            watched(progress, "strangers asked", twice, asked)
        });
        let costs = setting.costs.then(|| costs(&panel, &test));
        let (subject, kind) = (setting.subject, setting.kind);
        let whole = setting.queries.is_none() && setting.seed == 0;
        Ok(Self {
            dataset: subject.name(),
            kind: kind.name(),
            measure: panel.models.first().map_or_else(String::new, |model| model.measure().summary()),
            users: setting.users,
            seed: setting.seed,
            accepted: setting.accepted,
            parts,
            passes,
            compression: compression.transpose()?,
            refusals: refusals.transpose()?,
            costs: costs.transpose()?,
            unproved,
            skipped,
            training_seconds,
            recall_is_known: whole && (subject, kind, setting.rank, setting.users) == RECALL_SETTING,
            inputs_are_large: subject.is_image(),
        })
    }

    /// What is not as it must be, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.unproved.iter().map(|why| format!("a node would not publish these models: {why}")).collect();
        let answered = self.refusals.iter().map(|refusals| &refusals.answered);
        for pass in self.passes.iter().chain(answered) {
            faults.extend(pass.faults());
        }
        let recall = self.passes.first().map_or(0.0, |pass| pass.private.macro_recall);
        if self.recall_is_known && recall < RECALL_MIN {
            faults.push(format!("macro recall {} is below {}", percent(recall), percent(RECALL_MIN)));
        }
        if let Some(compression) = &self.compression {
            for (what, stable) in
                [("nearest user", compression.nearest_stable), ("answer", compression.answer_stable)]
            {
                if stable < STABLE_MIN {
                    faults.push(format!("after compression only {} have the same {what}", percent(stable)));
                }
            }
        }
        for row in self.costs.iter().flatten() {
            let CostRow { gadget, users, ratio, .. } = row;
            if self.inputs_are_large && *ratio > BYTES_RATIO_MAX {
                let [few, many] = users;
                faults.push(format!("{many} users cost {ratio:.2} times the bytes of {few} ({gadget})"));
            }
            if !row.as_planned {
                faults.push(format!("a plan by {gadget} foretells other costs than it has"));
            }
        }
        faults
    }
}

impl Pass {
    fn faults(&self) -> Vec<String> {
        let (agreement, mut faults) = (&self.agreement, Vec::new());
        if agreement.certain_equal != agreement.certain {
            let differ = agreement.certain - agreement.certain_equal;
            let certain = agreement.certain;
            faults.push(format!("{differ} of {certain} certain answers differ from the oracle's"));
        }
        if !self.as_planned {
            faults.push("the plan foretells other rounds or bytes than there were".to_owned());
        }
        faults
    }
}

impl Compression {
    fn new(panel: &Panel, rows: &Examples, passes: &[Pass], tick: Tick<'_>) -> Result<Self, TrialError> {
        let compressed = recompressed(rows, panel.shape.input)?;
        let stable = |panel: &Panel, thresholds: bool| -> Result<f64, TrialError> {
            let answers = panel.answers(&compressed, tick)?;
            let before = passes.iter().find(|pass| pass.thresholds == thresholds);
            let before = before.map_or(&[][..], |pass| pass.answers.as_slice());
            let same = answers.iter().zip(before).filter(|(after, before)| after == before).count();
            Ok(share(same, answers.len()))
        };
        let apart = compressed.inputs().iter().zip(rows.inputs());
        let squares = apart.map(|(after, before)| f64::from(after - before).powi(2));
        Ok(Self {
            quality: QUALITY,
            rows: rows.rows(),
            mean_squared_error: squares.sum::<f64>() / rows.inputs().len() as f64,
            nearest_stable: stable(&panel.accepting()?, false)?,
            answer_stable: stable(panel, true)?,
        })
    }
}

/// Runs something that says how many rows were asked, with a bar.
fn watched<T>(
    progress: &Progress,
    what: &str,
    rows: usize,
    run: impl FnOnce(Tick<'_>) -> Result<T, TrialError>,
) -> Result<T, TrialError> {
    let bar = progress.bar(what, rows as u64);
    let found = run(&|rows: usize| bar.inc(rows as u64));
    bar.finish_and_clear();
    found
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} users, {} ({})", self.dataset, self.users, self.kind, self.measure)?;
        let accepted = percent(self.accepted);
        let seconds = self.training_seconds;
        writeln!(f, "trained in {seconds:.1} s; thresholds accept {accepted} of validation rows")?;
        for Part { part, rows, sha256 } in &self.parts {
            writeln!(f, "{part:<10} {rows:>6} rows, sha256 of their positions {sha256}")?;
        }
        for pass in &self.passes {
            write!(f, "\n{pass}")?;
        }
        if let Some(compression) = &self.compression {
            write!(f, "\n{compression}")?;
        }
        if let Some(refusals) = &self.refusals {
            write!(f, "\n{refusals}")?;
        }
        if let Some(costs) = &self.costs {
            write_costs(f, costs)?;
        }
        for line in &self.skipped {
            writeln!(f, "\n{line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.thresholds {
            "Answers: the nearest user, or nobody beyond its threshold"
        } else {
            "The nearest user, whatever the thresholds"
        };
        writeln!(f, "{what}")?;
        writeln!(f, "{:<12} {:>6} | {:^21} | {:^21}", "", "", "two parties", "plaintext")?;
        writeln!(
            f,
            "{:<12} {:>6} | {:>10} {:>10} | {:>10} {:>10}",
            "user", "rows", "precision", "recall", "precision", "recall"
        )?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, rows: usize, figures: [f64; 4]| {
            let [precision, recall, plain_precision, plain_recall] = figures.map(percent);
            writeln!(
                f,
                "{name:<12} {rows:>6} | {precision:>10} {recall:>10} | {plain_precision:>10} {plain_recall:>10}"
            )
        };
        for (user, plain) in self.private.users.iter().zip(&self.plain.users) {
            let figures = [user.precision, user.recall, plain.precision, plain.recall];
            line(f, &user.user, user.rows, figures)?;
        }
        let [private, plain] = [&self.private, &self.plain];
        let means =
            [private.macro_precision, private.macro_recall, plain.macro_precision, plain.macro_recall];
        line(f, "macro mean", self.agreement.rows, means)?;
        if self.thresholds {
            let (refused, in_plain) = (percent(private.refused), percent(plain.refused));
            writeln!(f, "own rows refused: {refused}, in plaintext {in_plain}")?;
        }
        if let (Some(private), Some(plain)) = (private.strangers_refused, plain.strangers_refused) {
            writeln!(f, "strangers' rows refused: {}, in plaintext {}", percent(private), percent(plain))?;
        }
        let agreement = &self.agreement;
        writeln!(
            f,
            "as the oracle: {} of {} certain answers, {} of {} that a rounding could change",
            agreement.certain_equal,
            agreement.certain,
            agreement.doubtful_equal,
            agreement.rows - agreement.certain
        )?;
        writeln!(f, "as plaintext: {} of {} answers", agreement.as_plain, agreement.rows)?;
        writeln!(
            f,
            "{} rows a batch: {} rounds, {} bytes from each party; {:.1} s in all",
            self.batch, self.rounds, self.bytes, self.seconds
        )
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "After JPEG at quality {} ({} images, mean squared error {:.2e}): same nearest user {}, same answer {}",
            self.quality,
            self.rows,
            self.mean_squared_error,
            percent(self.nearest_stable),
            percent(self.answer_stable)
        )
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Strangers: each class in turn has no user, and its rows should be too far for others")?;
        writeln!(
            f,
            "{:<12} {:>6} {:>9} | {:>16} {:>16}",
            "left out", "own", "strangers", "area, two parties", "plaintext"
        )?;
        for class in &self.classes {
            writeln!(
                f,
                "{:<12} {:>6} {:>9} | {:>16.4} {:>16.4}",
                class.class, class.own, class.strangers, class.private_area, class.plain_area
            )?;
        }
        writeln!(f, "{:<29} | {:>16.4} {:>16.4}", "mean", self.private_area, self.plain_area)?;
        writeln!(f, "mean over classes, thresholds times a factor:")?;
        writeln!(
            f,
            "{:>6} | {:>12} {:>12} | {:>12} {:>12}",
            "factor", "own", "strangers", "own", "strangers"
        )?;
        for (Point { factor, own, strangers }, plain) in self.private.iter().zip(&self.plain) {
            writeln!(
                f,
                "{factor:>6} | {:>12} {:>12} | {:>12} {:>12}",
                percent(*own),
                percent(*strangers),
                percent(plain.own),
                percent(plain.strangers)
            )?;
        }
        let last = self.classes.last().map_or("", |class| class.class.as_str());
        write!(f, "\nWith {last} left out: {}", self.answered)
    }
}

fn write_costs(f: &mut fmt::Formatter<'_>, costs: &[CostRow]) -> fmt::Result {
    writeln!(f, "\nOne row, by the number of users:")?;
    for CostRow { gadget, users, rounds, bytes, ratio, .. } in costs {
        writeln!(
            f,
            "{gadget:<8} {} users: {} rounds, {} bytes; {} users: {} rounds, {} bytes; {ratio:.2} times the bytes",
            users[0], rounds[0], bytes[0], users[1], rounds[1], bytes[1]
        )?;
    }
    Ok(())
}
