//! Both parties of a refill in this process, each on a thread of its own.

use super::nets::Net;
use consilium_protocol::algebra::Seed;
use consilium_protocol::algebra::prg::Prg;
use consilium_protocol::context::{Dialogue, Link, LinkError, Traffic};
use consilium_protocol::offline::dealer::{WeightMasks, corrections, sent_words};
use consilium_protocol::offline::ot::Extension;
use consilium_protocol::offline::pairwise::{Pairwise, WeightMaskShares, ands, crossings};
use consilium_protocol::party::Party;
use consilium_protocol::stock::Demand;
use miette::{IntoDiagnostic, Result, miette};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

/// Where correlated randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A third party that deals
    Dealer,
    /// The two compute parties, transfers by an IKNP-style extension
    PairwiseIknp,
    /// The two compute parties, transfers by a silent extension
    PairwiseSilent,
}

/// Which part of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Matrix and convolution triples
    Matrix,
    /// Masks with shared bits, bit products, bit masks, squares
    Bits,
    /// Both
    Total,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The network.
    pub net: &'static str,
    /// Who made it.
    pub source: Source,
    /// Bundles made at once.
    pub batch: usize,
    /// Which part.
    pub kind: Kind,
    /// CPU time of one party (of the dealer, if there is one) for one query, in milliseconds.
    pub cpu_ms_per_query: f64,
    /// Bytes that one party sends for one query; for a dealer, bytes sent to party One.
    pub bytes_per_query: f64,
    /// Products of matrix triples (words), or bit triples consumed, per second of CPU time of a party.
    pub items_per_second: f64,
    /// Items of one query.
    pub items_per_query: usize,
    /// Simultaneous exchanges of the batch.
    pub rounds: u32,
    /// Wall time of the batch in milliseconds.
    pub wall_ms: f64,
    /// Time of the key set-up, once for each connection, in milliseconds of one party's CPU.
    pub setup_cpu_ms: f64,
}

/// Frames handed from thread to thread.
struct Pipe {
    outgoing: SyncSender<Vec<u8>>,
    incoming: Receiver<Vec<u8>>,
}

impl Pipe {
    fn pair() -> [Self; 2] {
        let (to_one, from_zero) = sync_channel(1);
        let (to_zero, from_one) = sync_channel(1);
        let end = |outgoing, incoming| Self { outgoing, incoming };
        [end(to_one, from_one), end(to_zero, from_zero)]
    }
}

impl Link for Pipe {
    async fn exchange(&mut self, frame: Vec<u8>, _: usize) -> std::result::Result<Vec<u8>, LinkError> {
        self.outgoing.send(frame).map_err(|_| LinkError::Closed)?;
        self.incoming.recv().map_err(|_| LinkError::Closed)
    }
}

/// Random weight masks: what a mask is does not change what it costs.
struct Masks(Vec<Vec<u64>>);

impl Masks {
    fn random(lanes: &[Vec<Demand>]) -> Result<Self> {
        let mut prg = Prg::new(&Seed::random().into_diagnostic()?);
        let mut masks = Vec::new();
        for demand in lanes.iter().flatten() {
            if let Demand::Linear { shape, .. } = demand {
                masks.push(prg.words(shape.weight_len()));
            }
        }
        Ok(Self(masks))
    }
}

impl WeightMaskShares for Masks {
    fn share(&self, _: usize, layer: usize) -> Option<&[u64]> {
        self.0.get(layer).map(Vec::as_slice)
    }
}

impl WeightMasks for Masks {
    fn mask(&self, _: usize, layer: usize) -> &[u64] {
        &self.0[layer]
    }
}

/// Measures one batch. The input mask has no cost of its own and belongs to the matrix triples.
///
/// # Errors
/// The network does not compile, or a party failed.
pub fn measure(net: Net, source: Source, batch: usize) -> Result<[Measured; 3]> {
    let lanes = net.plan()?.lanes();
    let is_matrix = |demand: &&Demand| matches!(demand, Demand::InputMask { .. } | Demand::Linear { .. });
    let part = |matrix: bool| -> Vec<Vec<Demand>> {
        let of = |lane: &Vec<Demand>| lane.iter().filter(|d| is_matrix(d) == matrix).cloned().collect();
        lanes.iter().map(of).collect()
    };
    let parts = [(Kind::Matrix, part(true)), (Kind::Bits, part(false))];
    let samples = match source {
        Source::Dealer => parts.each_ref().map(|(_, lanes)| dealt(lanes, batch)),
        Source::PairwiseIknp => pairwise(&parts, Extension::Iknp, batch),
        Source::PairwiseSilent => pairwise(&parts, Extension::Silent, batch),
    };
    let [matrix, bits] = samples;
    let (matrix, bits) = (matrix?, bits?);
    let total = Sample {
        cpu_ms: matrix.cpu_ms + bits.cpu_ms,
        bytes: matrix.bytes + bits.bytes,
        rounds: matrix.rounds + bits.rounds,
        wall_ms: matrix.wall_ms + bits.wall_ms,
        items: matrix.items + bits.items,
        setup_cpu_ms: matrix.setup_cpu_ms,
    };
    let line = |kind, sample: Sample| Measured {
        net: net.name(),
        source,
        batch,
        kind,
        cpu_ms_per_query: sample.cpu_ms / batch as f64,
        bytes_per_query: sample.bytes / batch as f64,
        items_per_second: (sample.items * batch) as f64 / (sample.cpu_ms / 1e3).max(1e-9),
        items_per_query: sample.items,
        rounds: sample.rounds,
        wall_ms: sample.wall_ms,
        setup_cpu_ms: sample.setup_cpu_ms,
    };
    Ok([line(Kind::Matrix, matrix), line(Kind::Bits, bits), line(Kind::Total, total)])
}

#[derive(Clone, Copy, Default)]
struct Sample {
    cpu_ms: f64,
    bytes: f64,
    rounds: u32,
    wall_ms: f64,
    items: usize,
    setup_cpu_ms: f64,
}

/// CPU time of this thread, in milliseconds.
fn cpu_ms() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// Words of matrix products, or bit triples and transfers, of one bundle.
fn items(lanes: &[Vec<Demand>], batch: usize) -> usize {
    let products = lanes.iter().flatten().map(|demand| match demand {
        Demand::Linear { shape, .. } => shape.output_len(),
        _ => 0,
    });
    products.sum::<usize>() + ands(lanes, batch) / batch + crossings(lanes)
}

fn dealt(lanes: &[Vec<Demand>], batch: usize) -> Result<Sample> {
    let masks = Masks::random(lanes)?;
    let (start, used) = (Instant::now(), cpu_ms());
    for _ in 0..batch {
        let [zero, one] = [Seed::random().into_diagnostic()?, Seed::random().into_diagnostic()?];
        std::hint::black_box(corrections(lanes, &zero, &one, &masks));
    }
    Ok(Sample {
        cpu_ms: cpu_ms() - used,
        bytes: ((16 + 8 * sent_words(lanes, Party::One)) * batch) as f64,
        wall_ms: start.elapsed().as_secs_f64() * 1e3,
        items: items(lanes, batch),
        ..Sample::default()
    })
}

fn pairwise(
    parts: &[(Kind, Vec<Vec<Demand>>); 2],
    extension: Extension,
    batch: usize,
) -> [Result<Sample>; 2] {
    let [zero, one] = Pipe::pair();
    let run = |party, link| run_party(party, link, parts, extension, batch);
    let (zero, one) = std::thread::scope(|scope| {
        let other = scope.spawn(move || run(Party::One, one));
        (run(Party::Zero, zero), other.join().unwrap_or_else(|_| Err(miette!("party One panicked"))))
    });
    match (zero, one) {
        (Ok(zero), Ok(one)) => [0, 1].map(|part| {
            let (zero, one): (Sample, Sample) = (zero[part], one[part]);
            Ok(Sample {
                cpu_ms: (zero.cpu_ms + one.cpu_ms) / 2.0,
                bytes: (zero.bytes + one.bytes) / 2.0,
                wall_ms: zero.wall_ms.max(one.wall_ms),
                ..zero
            })
        }),
        (Err(error), _) | (_, Err(error)) => [Err(error), Err(miette!("the other part failed"))],
    }
}

fn run_party(
    party: Party,
    link: Pipe,
    parts: &[(Kind, Vec<Vec<Demand>>); 2],
    extension: Extension,
    batch: usize,
) -> Result<[Sample; 2]> {
    futures::executor::block_on(async {
        let mut dialogue = Dialogue::new(link, party, 1);
        let used = cpu_ms();
        let mut pairwise = Pairwise::set_up(&mut dialogue, extension).await.into_diagnostic()?;
        let setup_cpu_ms = cpu_ms() - used;
        let mut samples = [Sample::default(); 2];
        for ((_, lanes), sample) in parts.iter().zip(&mut samples) {
            let masks = Masks::random(lanes)?;
            let (start, used, before) = (Instant::now(), cpu_ms(), dialogue.traffic());
            let made = pairwise.make(&mut dialogue, lanes, &masks, batch).await.into_diagnostic()?;
            std::hint::black_box(made);
            let Traffic { rounds, sent, .. } = dialogue.traffic();
            *sample = Sample {
                cpu_ms: cpu_ms() - used,
                bytes: (sent - before.sent) as f64,
                rounds: rounds - before.rounds,
                wall_ms: start.elapsed().as_secs_f64() * 1e3,
                items: items(lanes, batch),
                setup_cpu_ms,
            };
        }
        Ok(samples)
    })
}
