//! Single queries in memory, one client and one owner a thread.

use super::{Subject, TrialError, thread_seconds};
use consilium_protocol::algebra::{Prg, Seed};
use consilium_protocol::homomorphic::{Block, EvaluationKeys, Evaluator, Messages, Opening, Plan, SecretKey};
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What single queries gave.
#[derive(Clone, Debug, Serialize)]
pub struct SingleRun {
    /// Inputs asked about.
    pub inputs: usize,
    /// Logits that differ from those in the clear.
    pub wrong: usize,
    /// Fewest bits that were left between noise and modulus.
    pub margin: f64,
    /// Bytes of the evaluation keys, of a query and of an answer.
    pub bytes: [usize; 3],
    /// Client: median seconds of one core to encrypt.
    pub encrypt: f64,
    /// Owner: median seconds of one core from a query to its answer.
    pub owner: f64,
    /// Client: median seconds of one core to open.
    pub decrypt: f64,
}

/// Seconds of a query.
#[derive(Clone, Copy)]
struct Times([f64; 3]);

impl SingleRun {
    /// Asks about the first `count` test rows, with so many threads.
    ///
    /// # Errors
    /// [`TrialError`].
    pub fn new(
        subject: &Subject,
        count: usize,
        threads: usize,
        tick: &(dyn Fn(usize) + Sync),
    ) -> Result<Self, TrialError> {
        let (plan, net) = (&subject.single.plan, &subject.single.net);
        let count = count.min(subject.test.rows());
        let key = SecretKey::of_seed(plan, &seed()?);
        let bytes = key.evaluation_keys(plan, &mut Prg::new(&seed()?));
        let keys = EvaluationKeys::decode(plan, &bytes).map_err(memory)?;
        let evaluator = Evaluator::new(plan.clone(), net);
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let ask = || -> Result<(), TrialError> {
            let opening = Opening::new(plan, &key);
            loop {
                let row = next.fetch_add(1, Ordering::Relaxed);
                if row >= count {
                    return Ok(());
                }
                let wide: Vec<f64> = subject.test.row(row).iter().map(|value| f64::from(*value)).collect();
                let inputs = plan.encode(&wide).map_err(|(at, value)| {
                    TrialError::Memory(format!("row {row}: number {at} is {value}, beyond the range"))
                })?;
                let (logits, margin, times) = one(plan, (&key, &keys), &evaluator, &opening, &inputs)?;
                let wrong =
                    logits.iter().zip(net.evaluate(&inputs)).filter(|(one, other)| **one != *other).count();
                if let Ok(mut found) = found.lock() {
                    found.push((wrong, margin, times));
                }
                tick(1);
            }
        };
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(ask)).collect();
            handles.into_iter().try_for_each(|handle| {
                handle.join().unwrap_or_else(|_| Err(TrialError::Memory("a thread stopped".into())))
            })
        })?;
        let found = found.into_inner().map_err(|error| TrialError::Memory(error.to_string()))?;
        let median = |at: usize| {
            let mut times: Vec<f64> = found.iter().map(|(_, _, Times(times))| times[at]).collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or(0.0)
        };
        Ok(Self {
            inputs: found.len(),
            wrong: found.iter().map(|(wrong, ..)| wrong).sum(),
            margin: found.iter().fold(f64::INFINITY, |least, (_, margin, _)| least.min(*margin)),
            bytes: [
                bytes.len(),
                Block::all(plan).count() * Block::bytes(plan),
                plan.primes.len() * plan.answers() * plan.answer_bytes(),
            ],
            encrypt: median(0),
            owner: median(1),
            decrypt: median(2),
        })
    }
}

fn seed() -> Result<Seed, TrialError> {
    Seed::random().map_err(memory)
}

fn memory(error: impl std::fmt::Display) -> TrialError {
    TrialError::Memory(error.to_string())
}

/// One query from encryption to logits.
fn one(
    plan: &Plan,
    (key, keys): (&SecretKey, &EvaluationKeys),
    evaluator: &Evaluator,
    opening: &Opening<'_>,
    inputs: &[i64],
) -> Result<(Vec<i128>, f64, Times), TrialError> {
    let mut times = [0.0; 3];
    let mut timed = |at: usize, since: f64| times[at] += thread_seconds() - since;
    let (query, noise, mut answers) = (seed()?, seed()?, Prg::new(&seed()?));
    let mut parts = Vec::new();
    for plain in 0..plan.primes.len() {
        let start = thread_seconds();
        let messages = Messages::new(plan, plain, inputs, &noise);
        let blocks: Vec<Vec<u8>> = (0..plan.query_limbs())
            .map(|limb| messages.encrypt(key, &query, limb, 0..plan.ciphertexts()))
            .collect();
        timed(0, start);
        let start = thread_seconds();
        let block =
            |(limb, bytes): (usize, &Vec<u8>)| evaluator.evaluate(&query, Block { plain, limb }, bytes);
        let raw = blocks.iter().enumerate().map(block).collect::<Result<Vec<_>, _>>().map_err(memory)?;
        parts.push(evaluator.answer(plain, 0, &raw, keys, 1, &mut answers));
        timed(1, start);
    }
    let start = thread_seconds();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let (logits, margin) = opening.logits(0, &parts, 1).map_err(memory)?;
    timed(2, start);
    Ok((logits, margin, Times(times)))
}
