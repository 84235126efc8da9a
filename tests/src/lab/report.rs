//! The laboratory's figures for people and for scripts.

use super::{Control, Expected, Joint, Setting, Theft, TrialError, control, data, joint, thefts};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use consilium::demo::Progress;
use consilium::lab::{Figure, NOT_CONFIDENTIAL, Quality, Stage, spread};
use serde::Serialize;
use std::path::Path;

/// What the attack must reach: patches at their positions, images found at depth 3 and, by distances of images and in
/// the end, at depth 7, and seconds that it may take.
const UNDONE_MIN: f64 = 0.99;
const SHALLOW_MIN: f64 = 0.95;
const DEEP_MIN: f64 = 0.5;
const DEEP_LAST_MIN: f64 = 0.95;
const SECONDS_MAX: f64 = 120.0;
/// The widths, images and own encoders for which that is asked.
const GOAL: (usize, usize, usize) = (256, 200, 5);
/// Of a clone, where one is trained.
const CLONE_MIN: f64 = 0.95;
/// Area under the ROC curve that a joint classifier must pass to be better than chance, and how far behind the mean of
/// one hospital's it may be.
const AUC_MIN: f64 = 0.7;
const AUC_LOSS_MAX: f64 = 0.03;

/// All that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Data set.
    pub dataset: &'static str,
    /// Attacks.
    pub thefts: Vec<Theft>,
    /// Trainings.
    pub joint: Vec<Joint>,
    /// The control.
    pub control: Vec<Control>,
    /// What encodings are not.
    pub warning: &'static str,
}

impl Outcome {
    /// Tries everything that is set.
    ///
    /// # Errors
    /// A damaged file, or too few images.
    pub fn new(setting: &Setting, shared: &Path, progress: &Progress) -> Result<Self, TrialError> {
        let data = data(setting.subject, shared)?;
        let watched = |what: &str, steps: u64| {
            let bar = progress.bar(what, steps);
            bar.set_position(0);
            bar
        };
        let bar = watched("encodings attacked", 2 * setting.widths.len() as u64 * setting.seeds);
        let thefts = thefts(setting, &data.train, &|| bar.inc(1))?;
        bar.finish_and_clear();
        let bar = watched("classifiers trained", setting.hospitals.len() as u64 * setting.seeds);
        let joint =
            setting.hospitals.iter().map(|hospitals| joint(setting, *hospitals, &data, &|| bar.inc(1)));
        let joint = joint.collect::<Result<_, _>>()?;
        bar.finish_and_clear();
        let bar = watched("two parties attacked", setting.control_repetitions);
        let control = match setting.control_repetitions {
            0 => Vec::new(),
            _ => control(setting, &data.train, &|| bar.inc(1))?,
        };
        bar.finish_and_clear();
        Ok(Self { dataset: setting.subject.set().name(), thefts, joint, control, warning: NOT_CONFIDENTIAL })
    }

    /// What is not as it must be, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.thefts.iter().filter(|theft| has_goal(theft)).flat_map(faults_of_theft).collect();
        faults.extend(self.joint.iter().filter_map(fault_of_joint));
        let broken = self.control.iter().filter(|control| !control.holds());
        faults.extend(broken.map(|control| format!("control, {}: {:.4} found", control.seen, control.share)));
        faults
    }
}

/// Whether goals are set for these sizes.
fn has_goal(theft: &Theft) -> bool {
    let is_goal = |figure: &Figure| (theft.shape.width, figure.images, figure.own_encoders) == GOAL;
    theft.figures.iter().all(is_goal)
}

fn faults_of_theft(theft: &Theft) -> Vec<String> {
    let mut faults = Vec::new();
    let mut at_least = |what: &str, found: f64, least: f64| {
        if found < least {
            faults.push(format!("{}: {what} is {found:.3}, at least {least} was expected", theft.shape));
        }
    };
    at_least("the share of patches at their positions", theft.undone(), UNDONE_MIN);
    let share = |stage| theft.share(stage).map_or(0.0, |(mean, _)| mean);
    if theft.shape.private_depth == 0 {
        at_least("the share found by images", share(Stage::Images), SHALLOW_MIN);
    } else {
        at_least("the share found by images", share(Stage::Images), DEEP_MIN);
        at_least("the share found by patches", share(Stage::Patches), DEEP_LAST_MIN);
    }
    if !theft.clone_seconds.is_empty() {
        at_least("the share found by a clone", share(Stage::Clone), CLONE_MIN);
    }
    let slowest = theft.seconds.iter().copied().fold(0.0, f64::max);
    if slowest > SECONDS_MAX {
        faults.push(format!("{}: an attack took {slowest:.0} s, at most {SECONDS_MAX:.0}", theft.shape));
    }
    faults
}

fn fault_of_joint(joint: &Joint) -> Option<String> {
    let auc = |qualities: &[Quality]| spread(qualities.iter().map(|quality| quality.auc)).0;
    let (together, alone) = (auc(&joint.together), auc(&joint.alone));
    let what = if together < AUC_MIN {
        "is hardly better than chance".to_owned()
    } else if together < alone - AUC_LOSS_MAX {
        format!("is clearly less than one hospital's, {alone:.3}")
    } else {
        return None;
    };
    Some(format!("{} hospitals: an area of {together:.3} {what}", joint.hospitals))
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().copied());
    table
}

/// One value has no deviation.
fn percent((mean, deviation): (f64, f64), values: usize) -> String {
    match values {
        0 | 1 => format!("{:.1} %", 100.0 * mean),
        _ => format!("{:.1} ± {:.1} %", 100.0 * mean, 100.0 * deviation),
    }
}

fn of_thefts(thefts: &[Theft]) -> Table {
    let columns = [
        "depth",
        "width",
        "images",
        "shuffle undone",
        "by images",
        "by patches",
        "by a clone",
        "a guess",
        "time",
        "clone",
    ];
    let mut shown = table(&columns);
    for theft in thefts {
        let stage = |stage| {
            let share = theft.share(stage);
            share.map_or("-".to_owned(), |share| percent(share, theft.figures.len()))
        };
        let first = theft.figures.first();
        let seconds = |seconds: &[f64]| {
            if seconds.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.0} s", spread(seconds.iter().copied()).0)
            }
        };
        shown.add_row([
            theft.depth.to_string(),
            theft.shape.width.to_string(),
            first.map_or_else(String::new, |figure| figure.images.to_string()),
            format!("{:.1} %", 100.0 * theft.undone()),
            stage(Stage::Images),
            stage(Stage::Patches),
            stage(Stage::Clone),
            first.map_or_else(String::new, |figure| format!("{:.1} %", 100.0 * figure.chance)),
            seconds(&theft.seconds),
            seconds(&theft.clone_seconds),
        ]);
    }
    shown
}

fn of_joint(joint: &[Joint]) -> Table {
    let mut shown = table(&["hospitals", "images each", "trained on", "accuracy", "balanced", "AUC"]);
    for joint in joint {
        for (what, qualities) in [
            ("encodings of all", &joint.together),
            ("encodings of one", &joint.alone),
            ("plain images of all", &joint.plain),
            ("plain images of one", &joint.plain_alone),
        ] {
            let of = |value: fn(&Quality) -> f64| spread(qualities.iter().map(value));
            let (auc, deviation) = of(|quality| quality.auc);
            shown.add_row([
                joint.hospitals.to_string(),
                joint.per_hospital.to_string(),
                what.to_owned(),
                percent(of(|quality| quality.accuracy), qualities.len()),
                percent(of(|quality| quality.balanced), qualities.len()),
                if qualities.len() > 1 { format!("{auc:.3} ± {deviation:.3}") } else { format!("{auc:.3}") },
            ]);
        }
    }
    shown
}

fn of_control(control: &[Control]) -> Table {
    let columns =
        ["seen of each image", "times", "found", "a guess", "class alone", "error", "must be", "it is"];
    let mut shown = table(&columns);
    for control in control {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let (class, must_be) = match control.expected {
            Expected::Guess => ("-".to_owned(), "a guess"),
            Expected::Class => (percent(control.class), "no more than class"),
            Expected::Leak => ("-".to_owned(), "found"),
        };
        shown.add_row([
            control.seen.to_owned(),
            control.repetitions.to_string(),
            percent(control.share),
            percent(control.chance),
            class,
            percent(control.standard_error),
            must_be.to_owned(),
            if control.holds() { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    shown
}

/// What the control is able to tell.
fn power(control: &[Control]) -> String {
    let guess = control.iter().find(|control| control.expected == Expected::Guess);
    guess.map_or_else(String::new, |guess| {
        format!(
            "of {} images; a guess is believed within three standard errors, and a leak that finds {:.2} % in place of {:.2} % is told in 39 trials of 40",
            guess.images,
            100.0 * guess.told_from(),
            100.0 * guess.chance
        )
    })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{}: which encoding is whose, share found; mean ± standard deviation over keys\n{}",
            self.dataset,
            of_thefts(&self.thefts)
        )?;
        for theft in self.thefts.iter().filter(|theft| !has_goal(theft)) {
            writeln!(f, "{}: no goal is set for these sizes, so none was checked", theft.shape)?;
        }
        if !self.joint.is_empty() {
            writeln!(
                f,
                "what a classifier of them is worth; all take as many epochs, so one of all takes more steps\n{}",
                of_joint(&self.joint)
            )?;
        }
        if !self.control.is_empty() {
            writeln!(
                f,
                "the stage by distances of images on what two parties see, on labels, which tell a class as they are meant to, and on planted leaks\n{}\n{}",
                of_control(&self.control),
                power(&self.control)
            )?;
        }
        write!(f, "encodings are {}", self.warning)
    }
}
