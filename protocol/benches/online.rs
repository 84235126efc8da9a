//! One model end to end over loopback TCP: dealing, laying out and the online phase, beside a bare
//! exchange of frames of the same sizes.
//!
//! `cargo bench --bench online -- [--json] [--runs N] [--net NAME] [--gadget digits|keys]` prints a table, or one JSON object
//! per line. Both parties are threads of one process.

#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use consilium_protocol::context::{Computation, Link, LinkError, Meter};
use consilium_protocol::evaluate::shared::{SharedModel, answer};
use consilium_protocol::graph::{Layer, Network, Numbers, Plan, ReleaseShape, Shape, Window};
use consilium_protocol::model::{Model, Weights};
use consilium_protocol::party::Party;
use consilium_protocol::share::Additive;
use consilium_protocol::stock::{Gadget, Provision};
use consilium_protocol::testing::{TestTask, run_now};
use consilium_protocol::wire::{HEADER_BYTES, Opening};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };
const BATCHES: [usize; 2] = [1, 32];
/// A frame up to this size is written before the other is read: the kernel buffers it.
const BUFFERED_BYTES: usize = 64 << 10;

/// Blocking sockets; the futures of the protocol are ready when these return.
struct TcpLink(TcpStream);

impl TcpLink {
    fn pair() -> [Self; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let zero = listener.accept().unwrap().0;
        [zero, one].map(|stream| {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            Self(stream)
        })
    }

    /// Swaps frames of equal length.
    fn swap(&self, frame: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut reply = vec![0; frame.len()];
        let (mut reader, mut writer) = (&self.0, &self.0);
        if frame.len() <= BUFFERED_BYTES {
            writer.write_all(frame)?;
            reader.read_exact(&mut reply)?;
            return Ok(reply);
        }
        std::thread::scope(|scope| {
            let written = scope.spawn(|| writer.write_all(frame));
            reader.read_exact(&mut reply)?;
            written.join().map_err(|_| std::io::Error::other("the writer panicked"))?
        })?;
        Ok(reply)
    }
}

impl Link for TcpLink {
    async fn exchange(&mut self, frame: Vec<u8>, _: usize) -> Result<Vec<u8>, LinkError> {
        self.swap(&frame).map_err(|error| LinkError::Transport(error.to_string()))
    }
}

fn nets() -> [(&'static str, Shape, Vec<Layer>); 3] {
    let dense = |outputs| Layer::Dense { outputs };
    let conv = || {
        let window = Window::plain(5, 1);
        [Layer::Conv { outputs: 16, window }, Layer::Relu, Layer::MaxPool { window: Window::plain(2, 2) }]
    };
    let head = vec![dense(100), Layer::Relu, dense(10)];
    [
        ("30-64-32-2", Shape::vector(30), vec![dense(64), Layer::Relu, dense(32), Layer::Relu, dense(2)]),
        (
            "784-128-128-10",
            Shape::vector(784),
            vec![dense(128), Layer::Relu, dense(128), Layer::Relu, dense(10)],
        ),
        (
            "cnn",
            Shape { channels: 1, height: 28, width: 28 },
            [conv().to_vec(), conv().to_vec(), head].concat(),
        ),
    ]
}

/// Weights as He et al. draw them, uniform instead of normal.
fn random_model(input: Shape, layers: Vec<Layer>) -> Model {
    let mut rng = StdRng::seed_from_u64(1);
    let network = Network::new(input, layers).unwrap();
    let mut weights = Vec::new();
    for (index, layer) in network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear()) {
        let (weight, bias) = layer.parameters(network.shape_before(index));
        let spread = (6.0 * bias as f32 / weight as f32).sqrt();
        let weight = (0..weight).map(|_| rng.random_range(-spread..spread)).collect();
        weights.push(Weights { weight, bias: vec![0.0; bias] });
    }
    Model::new(network, weights).unwrap()
}

/// Wall time, and CPU time of this thread.
#[derive(Clone, Copy, Default)]
struct Sample {
    wall_ms: f64,
    cpu_ms: f64,
}

fn measure<T>(work: impl FnOnce() -> T) -> (T, Sample) {
    let (start, used) = (Instant::now(), cpu_ms());
    let result = work();
    (result, Sample { wall_ms: start.elapsed().as_secs_f64() * 1e3, cpu_ms: cpu_ms() - used })
}

/// CPU time of this thread so far; 0 where the kernel does not tell.
fn cpu_ms() -> f64 {
    // Leaving the core for a moment makes the kernel bring the figure up to date.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: Option<f64> = text.split(' ').next().and_then(|field| field.parse().ok());
    nanoseconds.unwrap_or(0.0) / 1e6
}

/// Runs `body` for both parties at once; the mean of both samples.
fn both<T: Send, R: Send>(
    links: &mut [Option<TcpLink>; 2],
    brought: [T; 2],
    body: impl Fn(Party, TcpLink, T) -> (TcpLink, R) + Sync,
) -> ([R; 2], Sample) {
    let body = &body;
    let barrier = &std::sync::Barrier::new(2);
    let run = |party, link, brought| {
        barrier.wait();
        measure(|| body(party, link, brought))
    };
    let (zero, one) = (links[0].take().unwrap(), links[1].take().unwrap());
    let [for_zero, for_one] = brought;
    let (((zero, first), a), ((one, second), b)) = std::thread::scope(|scope| {
        let other = scope.spawn(move || run(Party::One, one, for_one));
        (run(Party::Zero, zero, for_zero), other.join().unwrap())
    });
    *links = [Some(zero), Some(one)];
    let sample = Sample { wall_ms: a.wall_ms.max(b.wall_ms), cpu_ms: (a.cpu_ms + b.cpu_ms) / 2.0 };
    ([first, second], sample)
}

const PHASES: [&str; 4] = ["deal", "lay_out", "online", "ping"];

struct Row {
    samples: [Vec<Sample>; 4],
    meter: Meter,
    /// Zero's and One's bundle.
    stock: [u64; 2],
}

fn online(
    links: &mut [Option<TcpLink>; 2],
    plan: &Plan,
    models: &[Vec<&SharedModel>; 2],
    brought: [(Additive, Vec<Provision>); 2],
) -> (Meter, Sample) {
    let (meters, sample) = both(links, brought, |party, link, (input, provisions)| {
        let models = &models[usize::from(party == Party::One)];
        let mut computation = Computation::new(link, party, 1);
        run_now(answer(&mut computation, plan, models, input, provisions, &[])).unwrap();
        let meter = computation.meter();
        (computation.into_link(), meter)
    });
    (meters[0], sample)
}

/// One net with one gadget, and what its runs took.
struct Trial {
    gadget: Gadget,
    task: TestTask,
    sizes: Vec<usize>,
    links: [Option<TcpLink>; 2],
    row: Row,
}

impl Trial {
    fn new(model: &Model, batch: usize, gadget: Gadget) -> Self {
        let release = ReleaseShape::default();
        let task = TestTask::new(std::slice::from_ref(model), NUMBERS, batch, release, gadget, 1).unwrap();
        let bytes = |round: &Vec<Opening>| HEADER_BYTES + round.iter().map(Opening::bytes).sum::<usize>();
        let sizes = task.plan().openings().iter().map(bytes).collect();
        let stock = Party::BOTH.map(|party| task.plan().stock_bytes(party));
        let row = Row { samples: Default::default(), meter: Meter::default(), stock };
        Self { gadget, task, sizes, links: TcpLink::pair().map(Some), row }
    }

    fn run(&mut self, number: usize, queries: &[Vec<u64>]) {
        let (task, links) = (&self.task, &mut self.links);
        let (tapes, deal) = measure(|| task.deal(number as u64));
        let [zero, one] = tapes;
        let (zero, lay_out) = measure(|| task.lay_out(zero).unwrap());
        let provisions = [zero, task.lay_out(one).unwrap()];
        let [zero, one] = task.input(queries);
        let [for_zero, for_one] = provisions;
        let models = Party::BOTH.map(|party| task.models(party));
        let brought = [(zero, for_zero), (one, for_one)];
        let (meter, online) = online(links, task.plan(), &models, brought);
        let (_, ping) = both(links, [(), ()], |_, link, ()| {
            for size in &self.sizes {
                link.swap(&vec![0; *size]).unwrap();
            }
            (link, ())
        });
        self.row.meter = meter;
        if number > 0 {
            for (samples, sample) in self.row.samples.iter_mut().zip([deal, lay_out, online, ping]) {
                samples.push(sample);
            }
        }
    }
}

/// Runs all gadgets in turn, so that whatever else the machine does meets them alike.
fn run(model: &Model, batch: usize, runs: usize, gadgets: &[Gadget]) -> Vec<Trial> {
    let mut trials: Vec<Trial> = gadgets.iter().map(|gadget| Trial::new(model, batch, *gadget)).collect();
    let mut rng = StdRng::seed_from_u64(2);
    for number in 0..=runs {
        let values = model.network().input().len();
        let mut query = || (0..values).map(|_| (rng.random::<u32>() >> 16).into()).collect();
        let queries: Vec<Vec<u64>> = (0..batch).map(|_| query()).collect();
        for trial in &mut trials {
            trial.run(number, &queries);
        }
    }
    trials
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn name(gadget: Gadget) -> &'static str {
    match gadget {
        Gadget::Digits => "digits",
        Gadget::Nibbles => "nibbles",
        Gadget::Keys => "keys",
    }
}

/// Bytes are those that each party sends; stock is what both hold for the batch.
fn print(json: bool, net: &str, batch: usize, trial: &Trial) {
    let (row, gadget) = (&trial.row, name(trial.gadget));
    let stock: u64 = row.stock.iter().sum();
    for (phase, samples) in PHASES.iter().zip(&row.samples) {
        let (wall, cpu) = (median(samples, |sample| sample.wall_ms), median(samples, |sample| sample.cpu_ms));
        let least = samples.iter().map(|sample| sample.wall_ms).fold(f64::INFINITY, f64::min);
        let talks = matches!(*phase, "online" | "ping");
        let Meter { rounds, bytes } = if talks { row.meter } else { Meter::default() };
        if json {
            let line = serde_json::json!({
                "net": net, "batch": batch, "gadget": gadget, "link": "tcp-loopback", "phase": phase,
                "ms_median": wall, "ms_min": least, "rounds": rounds, "bytes": bytes, "cpu_ms": cpu,
                "stock_bytes": stock,
            });
            println!("{line}");
        } else {
            println!(
                "{net:<16} {batch:>5} {gadget:<7} {phase:<8} {wall:>10.3} {least:>10.3} {cpu:>10.3} \
                 {rounds:>6} {bytes:>10} {stock:>10}"
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let json = arguments.iter().any(|argument| argument == "--json");
    let runs: Option<usize> = after("--runs").and_then(|runs| runs.parse().ok());
    if !json {
        println!(
            "{:<16} {:>5} {:<7} {:<8} {:>10} {:>10} {:>10} {:>6} {:>10} {:>10}",
            "net", "batch", "gadget", "phase", "ms_median", "ms_min", "cpu_ms", "rounds", "bytes", "stock"
        );
    }
    let chosen = |gadget: &Gadget| after("--gadget").is_none_or(|wanted| wanted == name(*gadget));
    let gadgets: Vec<Gadget> =
        [Gadget::Digits, Gadget::Nibbles, Gadget::Keys].into_iter().filter(chosen).collect();
    for (name, input, layers) in nets() {
        if after("--net").is_some_and(|wanted| wanted != name) {
            continue;
        }
        let model = random_model(input, layers);
        for batch in BATCHES {
            let runs = runs.unwrap_or(if batch == 1 { 41 } else { 11 });
            for trial in run(&model, batch, runs, &gadgets) {
                print(json, name, batch, &trial);
            }
        }
    }
}
