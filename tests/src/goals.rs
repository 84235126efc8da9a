//! Online goals: what a whole consortium takes for a question, beside the goal and the bare exchange of frames.
//!
//! Goals are for the networks alone. The product adds a vote and a release, whose rounds are at the end; a bare
//! exchange of exactly those frames is less than they take, so that what is left is not less than the networks'
//! own time.

mod consortium;
mod floor;
mod targets;

pub use consortium::{ConsortiumError, LinkKind, pin_by_name};
pub use targets::{Goal, goal};

use consilium::bench::Net;
use consilium::demo::Preprocessing;
use consilium_protocol::graph::{Plan, PlanError, ReleaseShape};
use consilium_protocol::party::Party;
use consilium_protocol::stock::Gadget;
use consilium_protocol::wire::{HEADER_BYTES, Opening};
use consortium::{Consortium, NUMBERS};
use floor::Floor;
use serde::Serialize;
use serde_json::Value;

/// A bundle of keys that is larger is not made only to be measured.
const STOCK_BYTES_MAX: u64 = 200_000_000;
/// Questions asked before the measured ones.
pub(crate) const WARM_UP: u32 = 2;

/// What is measured at once.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Whose model.
    pub net: Net,
    /// Rows of a question.
    pub batch: u32,
    /// Where the parties are.
    pub link: LinkKind,
    /// How they compare.
    pub gadget: Gadget,
    /// Who makes the correlated randomness. The rounds are the same.
    pub source: Preprocessing,
    /// Measured questions.
    pub queries: u32,
}

/// A case and its figures. Times in milliseconds, bytes in both directions together.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    net: &'static str,
    batch: u32,
    link: &'static str,
    gadget: &'static str,
    preprocessing: &'static str,
    /// Why nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    #[serde(flatten)]
    figures: Option<Figures>,
    goal_ms: Option<f64>,
    goal_bytes: Option<u64>,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    queries: u64,
    query_ms_median: f64,
    query_ms_min: f64,
    online_ms_median: f64,
    online_ms_min: f64,
    /// Online without the bare exchange of the frames of vote and release.
    network_ms_median: f64,
    ping_ms_median: f64,
    ping_ms_min: f64,
    rounds: u32,
    network_rounds: u32,
    bytes: u64,
    network_bytes: u64,
    cpu_ms: f64,
}

/// Why a case cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum GoalError {
    /// The processes.
    #[error(transparent)]
    Consortium(#[from] Box<ConsortiumError>),
    /// The network.
    #[error("the network: {0}")]
    Network(String),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The bare exchange.
    #[error("the bare exchange of frames: {0}")]
    Floor(#[from] std::io::Error),
    /// What the measuring command printed.
    #[error("the measuring command printed no {0}")]
    Output(&'static str),
}

impl Case {
    /// Runs a consortium and measures.
    ///
    /// # Errors
    /// [`GoalError`].
    pub async fn measure(&self) -> Result<Row, GoalError> {
        let network = self.net.network().map_err(|error| GoalError::Network(error.to_string()))?;
        let (input, classes) = (network.input(), network.output().len());
        let release = ReleaseShape::default();
        let networks = std::slice::from_ref(&network);
        let plan =
            Plan::compile(networks, input, classes, NUMBERS, self.batch as usize, self.gadget, release)?;
        let stock = Party::BOTH.map(|party| plan.stock_bytes(party)).into_iter().max().unwrap_or(0);
        if stock > STOCK_BYTES_MAX {
            return Ok(self.row(None, Some(format!("a bundle has {} MB", stock / 1_000_000))));
        }
        let consortium = Consortium::start(self, &network).await.map_err(Box::new)?;
        let sizes = sizes(&plan);
        let (queries, line) = (self.queries as usize, self.link.line());
        let every = Floor::measure(line, sizes.clone(), queries)?;
        let closing = sizes[sizes.len() - plan.closing_rounds()..].to_vec();
        let closing_floor = Floor::measure(line, closing.clone(), queries)?;
        let lines = consortium.bench(self).await.map_err(Box::new)?;
        let phase = |name| {
            lines.iter().find(|line| line["phase"] == name).ok_or(GoalError::Output("line of a phase"))
        };
        let (query, online) = (phase("query")?, phase("online")?);
        let bytes = 2.0 * figure(online, "bytes")?;
        let rounds = figure(online, "rounds")? as u32;
        let figures = Figures {
            queries: figure(query, "queries")? as u64,
            query_ms_median: figure(query, "ms_median")?,
            query_ms_min: figure(query, "ms_min")?,
            online_ms_median: figure(online, "ms_median")?,
            online_ms_min: figure(online, "ms_min")?,
            network_ms_median: figure(online, "ms_median")? - closing_floor.median,
            ping_ms_median: every.median,
            ping_ms_min: every.least,
            rounds,
            network_rounds: rounds.saturating_sub(closing.len() as u32),
            bytes: bytes as u64,
            network_bytes: (bytes as u64).saturating_sub(2 * closing.iter().sum::<usize>() as u64),
            cpu_ms: figure(online, "cpu_ms")?,
        };
        Ok(self.row(Some(figures), None))
    }

    fn row(&self, figures: Option<Figures>, skipped: Option<String>) -> Row {
        let goal = goal(self);
        Row {
            net: self.net.name(),
            batch: self.batch,
            link: self.link.name(),
            gadget: match self.gadget {
                Gadget::Digits => "digits",
                Gadget::Nibbles => "nibbles",
                Gadget::Keys => "keys",
            },
            preprocessing: match self.source {
                Preprocessing::Pairwise => "pairwise",
                Preprocessing::Dealer => "dealer",
            },
            skipped,
            figures,
            goal_ms: goal.ms,
            goal_bytes: goal.bytes,
        }
    }
}

/// Bytes of each round's frame.
fn sizes(plan: &Plan) -> Vec<usize> {
    let bytes = |round: &Vec<Opening>| HEADER_BYTES + round.iter().map(Opening::bytes).sum::<usize>();
    plan.openings().iter().map(bytes).collect()
}

fn figure(line: &Value, key: &'static str) -> Result<f64, GoalError> {
    line[key].as_f64().ok_or(GoalError::Output(key))
}

impl Row {
    /// The table's columns.
    pub const COLUMNS: [&'static str; 15] = [
        "network", "batch", "link", "gadget", "source", "query", "least", "online", "least", "network",
        "ping", "rounds", "kB", "cpu", "goal",
    ];

    /// One line of the table for people: times in milliseconds.
    pub fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            self.net.to_owned(),
            self.batch.to_string(),
            self.link.to_owned(),
            self.gadget.to_owned(),
            self.preprocessing.to_owned(),
        ];
        let Some(figures) = &self.figures else {
            cells.push(format!("not measured: {}", self.skipped.as_deref().unwrap_or("no reason")));
            return cells;
        };
        let ms = |value: f64| format!("{value:.2}");
        cells.extend(
            [
                figures.query_ms_median,
                figures.query_ms_min,
                figures.online_ms_median,
                figures.online_ms_min,
                figures.network_ms_median,
                figures.ping_ms_median,
            ]
            .map(ms),
        );
        let kilobytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e3);
        cells.push(format!("{}/{}", figures.network_rounds, figures.rounds));
        cells.push(format!("{}/{}", kilobytes(figures.network_bytes), kilobytes(figures.bytes)));
        cells.push(ms(figures.cpu_ms));
        cells.push(self.verdict(figures));
        cells
    }

    /// What meets the goal: the whole question, its rounds, the rounds without vote and release, or nothing.
    fn verdict(&self, figures: &Figures) -> String {
        let time = self.goal_ms.map(|goal| {
            let by = [
                ("query", figures.query_ms_median),
                ("online", figures.online_ms_median),
                ("network", figures.network_ms_median),
            ];
            let met = by.into_iter().find(|(_, ms)| *ms <= goal).map_or("MISSED", |(by, _)| by);
            format!("{goal} ms: {met}")
        });
        let bytes = self.goal_bytes.map(|goal| {
            let by = [("all", figures.bytes), ("network", figures.network_bytes)];
            let met = by.into_iter().find(|(_, bytes)| *bytes <= goal).map_or("MISSED", |(by, _)| by);
            format!("{} kB: {met}", goal / 1000)
        });
        let told: Vec<String> = time.into_iter().chain(bytes).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    }
}
