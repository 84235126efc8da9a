//! The streams between members beside bare TCP: round trips and bulk, in one run, in turns.
//!
//! The far side is another process. Both kinds speak the same words: a command, a word that the far side is ready,
//! and then what is measured.

mod far;
mod near;

pub use far::{Far, serve};
pub use near::{Pace, measure};

use crate::link::Line;
use serde::Serialize;
use std::time::Duration;

/// Bytes of one frame of a bulk, as the product sends it.
const BULK_FRAME_BYTES: usize = 1 << 20;
/// Longest frame that is sent back.
const ECHO_BYTES_MAX: usize = 1 << 20;

/// Where the far side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Distance {
    /// On this machine
    Loopback,
    /// 20 ms there and back, 200 Mbit/s
    #[value(name = "20ms")]
    Wide,
    /// 20 ms there and back, as fast as the machine is
    #[value(name = "20ms-fast")]
    Fast,
}

impl Distance {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Loopback, Self::Wide, Self::Fast];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Wide => "20ms",
            Self::Fast => "20ms-fast",
        }
    }

    /// What lies between, in front of the far side's sockets.
    pub fn line(self) -> Option<Line> {
        let delay = Duration::from_millis(10);
        match self {
            Self::Loopback => None,
            Self::Wide => Some(Line { delay, bits_per_second: Some(200_000_000) }),
            Self::Fast => Some(Line { delay, bits_per_second: None }),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A message of so many bytes there, and the same back.
    RoundTrip(usize),
    /// Bytes one way, until the far side has all of them.
    Bulk,
}

impl Load {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RoundTrip(1 << 10), Self::RoundTrip(64 << 10), Self::Bulk];

    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Self::RoundTrip(bytes) => format!("round trip of {} KiB", bytes >> 10),
            Self::Bulk => "bulk".to_owned(),
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Where the far side was.
    pub distance: &'static str,
    /// What was measured.
    pub load: String,
    /// Median over bare TCP: microseconds of a round trip, or MiB in a second.
    pub bare: f64,
    /// The same over a stream between members.
    pub stream: f64,
    /// How many times longer the stream took.
    pub ratio: f64,
    /// What it may take at most, where there is a goal.
    pub limit: Option<f64>,
    /// Turns of each kind.
    pub turns: usize,
}

impl Row {
    fn new(distance: Distance, load: Load, turns: usize, [bare, stream]: [f64; 2]) -> Self {
        let (bare_speed, stream_speed) = (1.0 / bare, 1.0 / stream);
        let shown = match load {
            Load::RoundTrip(_) => [bare * 1e6, stream * 1e6],
            Load::Bulk => [bare_speed, stream_speed],
        };
        let limit = match (distance, load) {
            (Distance::Loopback, Load::RoundTrip(bytes)) if bytes <= 1 << 10 => Some(3.0),
            (Distance::Loopback, Load::Bulk) => Some(5.0),
            (Distance::Wide, _) => Some(1.05),
            _ => None,
        };
        Self {
            distance: distance.name(),
            load: load.name(),
            bare: shown[0],
            stream: shown[1],
            ratio: stream / bare,
            limit,
            turns,
        }
    }

    /// Whether the goal is met, where there is one.
    pub fn is_good(&self) -> bool {
        self.limit.is_none_or(|limit| self.ratio <= limit)
    }

    /// The columns.
    pub const COLUMNS: [&'static str; 6] = ["distance", "load", "bare TCP", "stream", "ratio", "goal"];

    /// The text of each column.
    pub fn cells(&self) -> [String; 6] {
        let unit = if self.load == Load::Bulk.name() { "MiB/s" } else { "us" };
        let goal = match self.limit {
            Some(limit) => format!("at most {limit}: {}", if self.is_good() { "met" } else { "MISSED" }),
            None => "-".to_owned(),
        };
        [
            self.distance.to_owned(),
            self.load.clone(),
            format!("{:.1} {unit}", self.bare),
            format!("{:.1} {unit}", self.stream),
            format!("{:.3}", self.ratio),
            goal,
        ]
    }
}

/// What the near side asks for: as many exchanges of so many bytes, or a bulk of so many bytes.
#[derive(Clone, Copy, Debug)]
struct Command {
    is_bulk: bool,
    bytes: u64,
    count: u64,
}

const COMMAND_BYTES: usize = 17;
const READY: [u8; 1] = [1];

impl Command {
    fn to_bytes(self) -> [u8; COMMAND_BYTES] {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[0] = u8::from(self.is_bulk);
        bytes[1..9].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[9..].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, numbers) = bytes.split_first()?;
        let ([size, count], []) = numbers.as_chunks::<8>() else { return None };
        let command =
            Self { is_bulk: *kind == 1, bytes: u64::from_le_bytes(*size), count: u64::from_le_bytes(*count) };
        (command.is_bulk || command.bytes <= ECHO_BYTES_MAX as u64).then_some(command)
    }
}

/// The middle one of some values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_back_and_others_are_none() {
        let command = Command { is_bulk: false, bytes: 1024, count: 7 };
        let bytes = command.to_bytes();
        let back = Command::from_bytes(&bytes).unwrap();
        assert_eq!((back.is_bulk, back.bytes, back.count), (false, 1024, 7));
        assert!(Command::from_bytes(&bytes[1..]).is_none());
        let large = Command { bytes: 1 << 40, ..command };
        assert!(Command::from_bytes(&large.to_bytes()).is_none());
    }

    #[test]
    fn goals_are_ratios_of_times() {
        let row = |distance, load, pair| Row::new(distance, load, 1, pair);
        let trip = row(Distance::Loopback, Load::RoundTrip(1 << 10), [1e-5, 3.1e-5]);
        assert!((trip.bare - 10.0).abs() < 1e-9 && !trip.is_good());
        let bulk = row(Distance::Wide, Load::Bulk, [1.0 / 25.0, 1.0 / 24.0]);
        assert!((bulk.bare - 25.0).abs() < 1e-9 && (bulk.ratio - 25.0 / 24.0).abs() < 1e-9 && bulk.is_good());
        assert!(row(Distance::Fast, Load::Bulk, [1.0, 100.0]).is_good(), "no goal");
    }
}
