//! What a run showed.

use super::books::Books;
use super::coverage::Coverage;
use super::endurance::Faults;
use super::growth::{Growth, Holding, nodes};
use super::switch::Carried;
use super::tally::Tally;
use super::terms::{FURTHER, Second};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

const MIB: f64 = 1_048_576.0;

/// A part of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What was done.
    pub name: String,
    /// What came of the questions that began in it.
    pub tally: Tally,
    /// Milliseconds to an answer: the median.
    pub median_ms: Option<f64>,
    /// And the 95th percentile.
    pub p95_ms: Option<f64>,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// From the end of the fault until all was whole and answered.
    pub heal_seconds: Option<f64>,
    /// What must not be.
    pub problems: Vec<String>,
}

impl Part {
    /// A part with its questions.
    pub(super) fn new(name: &str, tally: Tally, took: Duration) -> Self {
        let mut part = Self {
            name: name.to_owned(),
            tally: Tally::default(),
            median_ms: None,
            p95_ms: None,
            seconds: took.as_secs_f64(),
            heal_seconds: None,
            problems: Vec::new(),
        };
        part.count(tally);
        part
    }

    /// Takes the questions, also those that ended later.
    pub(super) fn count(&mut self, tally: Tally) {
        let milliseconds = |part| tally.within(part).map(|seconds| seconds * 1e3);
        (self.median_ms, self.p95_ms) = (milliseconds(0.5), milliseconds(0.95));
        self.tally = tally;
    }

    fn is_good(&self) -> bool {
        self.problems.is_empty() && self.tally.is_good()
    }

    /// The part in one line.
    pub(super) fn line(&self) -> String {
        let heal =
            self.heal_seconds.map(|heal| format!(", whole again after {heal:.1} s")).unwrap_or_default();
        let tally = &self.tally;
        let answered = tally.right + tally.near_ties + tally.noisy;
        format!("{}: {} asked, {answered} answered, {}{heal}", self.name, tally.asked, tally.refusals())
    }
}

/// What the whole run showed.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Seed of packet losses, of data, and of faults.
    pub seed: u64,
    /// What the second pair does.
    pub second: Second,
    /// Round trip between nodes as they measured it, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Seconds from the first command to the last member's joining, and to the first answer.
    pub forming_seconds: [f64; 2],
    /// The parts.
    pub parts: Vec<Part>,
    /// Faults of the long part, if there was one.
    pub faults: Option<Faults>,
    /// What had to be seen in a run with a long part, and was not.
    pub coverage: Option<Coverage>,
    /// What daemons held in the long part.
    pub growth: Vec<Growth>,
    /// The ledgers.
    pub books: Vec<Books>,
    /// Bundles and chains on the disks.
    pub disks: Vec<String>,
    /// What the links did.
    pub carried: Carried,
    /// Whether all was as it must be.
    pub good: bool,
}

impl Summary {
    /// Whether nothing was wrong, untyped, unhealed, unbalanced or growing.
    pub(super) fn judge(&self) -> bool {
        !self.parts.is_empty()
            && self.parts.iter().all(Part::is_good)
            && self.faults.as_ref().is_none_or(|faults| faults.unhealed.is_none())
            && self.coverage.as_ref().is_none_or(Coverage::is_good)
            && self.growth.iter().all(Growth::is_flat)
            && !self.books.is_empty()
            && self.books.iter().all(|books| books.problems.is_empty())
            && self.disks.is_empty()
    }

    /// The questions of all parts.
    pub(super) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.parts.iter().for_each(|part| sum.add(&part.tally));
        sum
    }

    fn bad(&self) -> Vec<String> {
        let mut bad = Vec::new();
        for part in &self.parts {
            let all = part.problems.iter().chain(&part.tally.bad);
            bad.extend(all.map(|what| format!("{}: {what}", part.name)));
        }
        bad.extend(self.faults.iter().filter_map(|faults| faults.unhealed.clone()));
        let coverage = self.coverage.iter().filter(|coverage| !coverage.is_good());
        bad.extend(coverage.flat_map(|coverage| &coverage.not_seen).map(|what| format!("not seen: {what}")));
        for growth in self.growth.iter().filter(|growth| !growth.is_flat()) {
            bad.push(format!(
                "{}: {:?} grew by {:.0}, at most {:.0} is none",
                growth.node, growth.holding, growth.growth, growth.allowed
            ));
        }
        for books in &self.books {
            bad.extend(books.problems.iter().map(|problem| format!("ledgers of {}: {problem}", books.pair)));
        }
        bad.extend(self.disks.iter().map(|problem| format!("disks: {problem}")));
        bad
    }
}

fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(heads.iter().copied());
    table
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = match self.second {
            Second::StandsIn => "the second pair takes new questions when the first one is down",
            Second::Alone => "the second pair has a task of its own",
        };
        let [joined, answering] = self.forming_seconds;
        writeln!(
            f,
            "8 nodes, round trip {} ms as they measure it; {second}; seed {}\n\
             all joined after {joined:.0} s, first pools full after {answering:.0} s",
            shown(self.round_trip_ms),
            self.seed
        )?;
        let mut rows = table(&[
            "part",
            "asked",
            "right",
            "near tie",
            "noisy",
            "by second pair",
            "wrong",
            "not answered",
            "p50 ms",
            "p95 ms",
            "heal s",
        ]);
        for part in &self.parts {
            let tally = &part.tally;
            rows.add_row([
                part.name.clone(),
                tally.asked.to_string(),
                tally.right.to_string(),
                tally.near_ties.to_string(),
                tally.noisy.to_string(),
                tally.by_pair.get(FURTHER).map_or_else(|| "-".to_owned(), u64::to_string),
                tally.wrong.to_string(),
                tally.refusals(),
                shown(part.median_ms),
                shown(part.p95_ms),
                part.heal_seconds.map_or_else(|| "-".to_owned(), |heal| format!("{heal:.1}")),
            ]);
        }
        writeln!(f, "{rows}")?;
        self.by_task(f)?;
        self.long_part(f)?;
        for books in &self.books {
            writeln!(
                f,
                "ledgers of {}: {} records, {} reserved, {} answered by both, largest account {} spent; {}",
                books.pair,
                books.records,
                books.reserved,
                books.answered,
                books.spent.map_or_else(|| "nothing".to_owned(), |spent| format!("{:.0} %", 100.0 * spent)),
                if books.problems.is_empty() { "sound and agreed" } else { "NOT SOUND" }
            )?;
        }
        let carried = self.carried;
        writeln!(
            f,
            "packets: {} delivered, {} lost by chance, {} at cut links, {} unasked at the NAT, {} overrun",
            carried.delivered, carried.lost, carried.cut, carried.unasked, carried.overrun
        )?;
        for what in self.bad() {
            writeln!(f, "BAD: {what}")?;
        }
        write!(f, "{}", if self.good { "good" } else { "NOT good" })
    }
}

impl Summary {
    fn by_task(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = self.tally();
        let mut rows = table(&["task", "answered", "not answered", "of them over budget"]);
        for (task, counts) in &tally.by_task {
            let counts =
                [counts.answered, counts.unanswered, counts.over_budget].map(|count| count.to_string());
            rows.add_row(std::iter::once((*task).to_owned()).chain(counts));
        }
        let (module, software) = (tally.noise_of("module"), tally.noise_of("software"));
        writeln!(f, "{rows}\nnoise of noisy answers: {module} of the module, {software} of software")?;
        let short = self.coverage.iter().filter(|coverage| coverage.is_good());
        for what in short.flat_map(|coverage| &coverage.not_seen) {
            writeln!(f, "not seen, in a run too short to tell: {what}")?;
        }
        Ok(())
    }

    fn long_part(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(faults) = &self.faults else { return Ok(()) };
        let mut rows = table(&["fault", "times", "heal s, median", "most"]);
        for (kind, healed) in &faults.kinds {
            rows.add_row([
                (*kind).to_owned(),
                healed.times.to_string(),
                format!("{:.1}", healed.median),
                format!("{:.1}", healed.most),
            ]);
        }
        writeln!(f, "{} faults\n{rows}", faults.times())?;
        let mut rows =
            table(&["node", "memory MiB (growth)", "descriptors", "files", "MiB on disk", "ledger MiB"]);
        for node in nodes() {
            let cell = |holding: Holding, unit: f64| {
                let found =
                    self.growth.iter().find(|growth| (growth.node, growth.holding) == (node, holding));
                let digits = usize::from(unit > 1.0);
                found.map_or_else(
                    || "-".to_owned(),
                    |found| format!("{:.digits$} ({:+.digits$})", found.median / unit, found.growth / unit),
                )
            };
            rows.add_row([
                node.to_owned(),
                cell(Holding::Memory, MIB),
                cell(Holding::Descriptors, 1.0),
                cell(Holding::Files, 1.0),
                cell(Holding::Bytes, MIB),
                cell(Holding::Ledger, MIB),
            ]);
        }
        writeln!(f, "median, and growth over the judged part\n{rows}")
    }
}
