//! Whether a plan computes what its network of integers says, tried under a key that is thrown away.

use super::Heard;
use super::evaluate::Task;
use super::fault::HomomorphicError as Error;
use super::formats::Secret;
use super::order::held;
use super::question::{Fault, open};
use consilium_protocol::algebra::{Prg, Seed};
use consilium_protocol::homomorphic::{Block, EvaluationKeys, Evaluator, IntegerNet, Messages, Mode, Plan};
use std::num::NonZero;
use std::sync::{Arc, Mutex};

/// Products that are spent on the numbers to compare with.
const CLEAR_PRODUCTS: usize = 1 << 28;
/// Inputs of a batch, even where they take more.
const INPUTS_MIN: usize = 16;
/// Queries of single mode.
const SINGLES: usize = 2;

/// Rows by which rounding is judged where there are none.
const RANDOM_ROWS: usize = 256;

/// Random rows of so many numbers within a range, one after the other, by which the rounding of a model may be judged.
///
/// # Errors
/// [`Error::Seed`].
pub fn random_samples(width: usize, [low, high]: [f64; 2]) -> Result<Vec<f64>, Error> {
    let mut prg = Prg::new(&Seed::random()?);
    let unit = |word: u64| (word >> 11) as f64 / (1_u64 << 53) as f64;
    let words = prg.words(RANDOM_ROWS * width);
    Ok(words.into_iter().map(|word| low + (high - low) * unit(word)).collect())
}

/// What a self-test found.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct SelfTest {
    /// Inputs tried.
    pub inputs: usize,
    /// Logits that came out right: all of them.
    pub logits: usize,
    /// Bits that were left between noise and modulus, in the worst ciphertext.
    pub margin: f64,
}

/// Encrypts random admissible inputs under a key of its own, evaluates the network on them, and compares every logit. Half
/// of the inputs have only the smallest and the largest admissible numbers.
///
/// # Errors
/// [`Error::SelfTestLogit`], [`Error::SelfTestOpen`], [`Error::SelfTestBytes`]: the plan must not be used.
pub fn self_test(
    plan: &Plan,
    net: &IntegerNet,
    threads: NonZero<usize>,
    heard: Heard<'_>,
) -> Result<SelfTest, Error> {
    let seed = Seed::random()?;
    let secret = Secret::of_seed(plan, &seed.derive("self-test secret", 0));
    let stream = |label: &str| Prg::new(&seed.derive(label, 0));
    let keys = secret.key.evaluation_keys(plan, &mut stream("self-test keys"));
    let keys = EvaluationKeys::decode(plan, &keys).map_err(Error::SelfTestBytes)?;
    let evaluator = Evaluator::new(plan.clone(), net);
    let (count, queries) = match plan.mode {
        Mode::Batch => ((CLEAR_PRODUCTS / net.products().max(1)).clamp(INPUTS_MIN, plan.inputs_max()), 1),
        Mode::Single => (1, SINGLES),
    };
    let mut found = SelfTest { inputs: 0, logits: 0, margin: f64::INFINITY };
    let mut prg = stream("self-test inputs");
    for query in 0..queries {
        let inputs = inputs(plan, count, query, &mut prg);
        let task = Task {
            evaluator: &evaluator,
            keys: &keys,
            seed: &seed.derive("self-test query", query as u64),
            used: count,
            private: seed.derive("self-test answers", query as u64),
        };
        let noise = seed.derive("self-test noise", query as u64);
        let total = |done: u64, all: u64| heard(query as u64 * all + done, queries as u64 * all);
        let opened = tried(&task, &secret, &inputs, &noise, threads, &total)?;
        found.margin = found.margin.min(opened.margin);
        found.inputs += count;
        found.logits += compare(&net.evaluate(&inputs), &opened.logits)?;
    }
    Ok(found)
}

/// Random inputs, every second of them of the ends of the range alone.
fn inputs(plan: &Plan, count: usize, query: usize, prg: &mut Prg) -> Vec<i64> {
    let [low, high] = plan.input_range;
    let span = (high - low + 1).unsigned_abs();
    let mut number = |at: usize| {
        let word = prg.word();
        if (at / plan.inputs() + query).is_multiple_of(2) {
            [low, high][(word & 1) as usize]
        } else {
            low + (word % span) as i64
        }
    };
    (0..count * plan.inputs()).map(&mut number).collect()
}

/// From inputs to logits without a file.
fn tried(
    task: &Task<'_>,
    secret: &Secret,
    inputs: &[i64],
    noise: &Seed,
    threads: NonZero<usize>,
    heard: Heard<'_>,
) -> Result<super::Decrypted, Error> {
    let plan = task.evaluator.plan();
    let mut messages: Option<(usize, Arc<Messages<'_>>)> = None;
    let block = |block: Block| {
        let current = messages
            .take()
            .filter(|(plain, _)| *plain == block.plain)
            .unwrap_or_else(|| (block.plain, Arc::new(Messages::new(plan, block.plain, inputs, noise))));
        let rows = Arc::clone(&current.1);
        messages = Some(current);
        let (key, seed, count) = (&secret.key, task.seed, plan.ciphertexts());
        move || Ok(rows.encrypt(key, seed, block.limb, 0..count))
    };
    let parts = Mutex::new(Vec::new());
    let sink = |part: Vec<u8>| {
        held(&parts).push(part);
        Ok(())
    };
    task.run(threads, block, Error::SelfTestBytes, sink, heard)?;
    let parts = parts.into_inner().unwrap_or_default();
    let answers = plan.answers();
    let of = |answer: usize| Ok(parts.iter().skip(answer).step_by(answers).cloned().collect());
    open(plan, secret, task.used, threads, of, &|_, _| ()).map_err(|fault| match fault {
        Fault::Part(fault) => fault,
        Fault::Open(fault) => Error::SelfTestOpen(fault),
    })
}

/// How many logits are as they should be: all.
fn compare(clear: &[i128], opened: &[Vec<i128>]) -> Result<usize, Error> {
    let found = opened
        .iter()
        .enumerate()
        .flat_map(|(input, row)| row.iter().enumerate().map(move |(output, logit)| (input, output, *logit)));
    for ((input, output, found), expected) in found.zip(clear) {
        if found != *expected {
            return Err(Error::SelfTestLogit { input, output, found, expected: *expected });
        }
    }
    Ok(clear.len())
}
