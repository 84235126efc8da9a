//! Correlated transfers: both parties on two threads of one process, joined by memory. Times are those
//! that one party's thread computes; it waits for the other beside.
//!
//! `--json` prints one JSON object a line, else a table. `--words N` sets the words of triples per call.

#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use consilium_protocol::algebra::prg::Seed;
use consilium_protocol::context::Dialogue;
use consilium_protocol::offline::ot::{Correlator, Extension};
use consilium_protocol::party::Party;
use consilium_protocol::testing::{MemoryLink, run_now};

/// Seconds that this thread has computed, not waited.
fn computed() -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    nanoseconds.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap() / 1e9
}

/// What one party measured of one task.
struct Measured {
    items: usize,
    seconds: f64,
    bytes: u64,
    rounds: u32,
}

fn run(party: Party, link: MemoryLink, extension: Extension, words: usize) -> [Measured; 3] {
    let mut dialogue = Dialogue::new(link, party, 1);
    let seed = Seed::random().unwrap();
    let mut before = dialogue.traffic();
    let mut clock = computed();
    let mut lap = |dialogue: &Dialogue<MemoryLink>, items| {
        let now = dialogue.traffic();
        let measured = Measured {
            items,
            seconds: computed() - clock,
            bytes: now.sent - before.sent,
            rounds: now.rounds - before.rounds,
        };
        (clock, before) = (computed(), now);
        measured
    };
    let mut correlator = run_now(Correlator::setup(&mut dialogue, extension, &seed)).unwrap();
    let setup = lap(&dialogue, 1);
    run_now(correlator.bit_triples(&mut dialogue, words)).unwrap();
    let triples = lap(&dialogue, 64 * words);
    let (bits, values) = (vec![0x5555_5555_5555_5555; words / 4], vec![3; 16 * words]);
    run_now(correlator.cross(&mut dialogue, &bits, &values)).unwrap();
    [setup, triples, lap(&dialogue, 16 * words)]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let words = arguments
        .windows(2)
        .find(|pair| pair[0] == "--words")
        .and_then(|pair| pair[1].parse().ok())
        .unwrap_or(1 << 18);
    for extension in [Extension::Iknp, Extension::Silent] {
        let [left, right] = MemoryLink::pair();
        let measured = std::thread::scope(|scope| {
            let other = scope.spawn(move || run(Party::One, right, extension, words));
            let measured = run(Party::Zero, left, extension, words);
            other.join().unwrap();
            measured
        });
        for (task, measured) in ["setup", "triples", "cross"].iter().zip(measured) {
            let Measured { items, seconds, bytes, rounds } = measured;
            let (rate, each) = (items as f64 / seconds, bytes as f64 / items as f64);
            if json {
                let line = serde_json::json!({
                    "extension": format!("{extension:?}"), "task": task, "items": items, "cpu_seconds": seconds,
                    "per_second_and_core": rate, "bytes_sent_per_item": each, "rounds": rounds,
                });
                println!("{line}");
            } else {
                println!(
                    "{extension:?} {task}: {items} in {seconds:.3} s, {rate:.0} per second and core, \
                     {each:.3} bytes sent each, {rounds} rounds"
                );
            }
        }
    }
}
