//! The owner's side: from a query to an answer.
//!
//! Blocks of one plaintext prime come before its answers, and those of the next prime come between, so that no thread
//! waits for the last block of a prime while there is other work.

use super::Heard;
use super::container::{FileKind, Reader, Writer};
use super::fault::HomomorphicError as Error;
use super::formats::{Keys, QueryHeading, Ticket};
use super::order::{held, in_order};
use super::question::{answer_bytes, query_bytes};
use consilium_protocol::algebra::{Prg, Seed};
use consilium_protocol::homomorphic::{Block, EvaluationKeys, Evaluator, IntegerNet, Plan, Raw};
use consilium_protocol::misbehaviour::Misbehaviour;
use consilium_protocol::model::Model;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Rounds a model as a plan says, makes the plan again, and compares.
///
/// # Errors
/// [`Error::OtherModel`] where another plan comes out, or none.
pub fn prepare(model: &Model, plan: &Plan) -> Result<Evaluator, Error> {
    let unit = f64::from(plan.scales.input);
    let range = plan.input_range.map(|end| end as f64 / unit);
    let net = IntegerNet::quantise(model, range, &plan.scales);
    let net = net.map_err(|error| Error::OtherModel(error.to_string()))?;
    let made = Plan::choose(model.network(), &net, plan.mode);
    let (made, _) = made.map_err(|error| Error::OtherModel(error.to_string()))?;
    if made == *plan {
        return Ok(Evaluator::new(made, &net));
    }
    let differs =
        |what: &str, own: String, given: String| format!("its {what} {own}, and the plan says {given}");
    Err(Error::OtherModel(if made.network != plan.network {
        differs("layers are", made.network.summary(), plan.network.summary())
    } else if made.logit_bits != plan.logit_bits {
        differs("logits have", format!("{} bits", made.logit_bits), plan.logit_bits.to_string())
    } else {
        differs("parameters are", format!("{:?}", made.primes), format!("{:?}", plan.primes))
    }))
}

/// Answers a query under the client's evaluation keys. The query's ticket and the bytes of the answer come back. An
/// existing answer is replaced.
///
/// # Errors
/// [`Error`] says what is wrong with the query; then there is no answer.
pub fn evaluate(
    evaluator: &Evaluator,
    keys: &Keys,
    query: &Path,
    answer: &Path,
    threads: NonZero<usize>,
    heard: Heard<'_>,
) -> Result<(Ticket, u64), Error> {
    let plan = evaluator.plan();
    let mut reader = Reader::open_as(query, FileKind::Query)?;
    let heading: QueryHeading = reader.heading()?;
    let ticket = heading.ticket;
    ticket.check(&reader, plan, keys.id)?;
    reader.expect_body(query_bytes(plan))?;
    let mut writer = Writer::new(answer, FileKind::Answer, &ticket)?;
    let length = Block::bytes(plan);
    let task = Task {
        evaluator,
        keys: &keys.keys,
        seed: &Seed::from_bytes(heading.seed),
        used: ticket.used as usize,
        private: Seed::random()?,
    };
    let read = |_| {
        let bytes = reader.take(length);
        move || bytes
    };
    let bytes = |source| Error::Bytes { path: query.to_owned(), source };
    let result = task.run(threads, read, bytes, |part| writer.write(&part), heard);
    if matches!(result, Ok(()) | Err(Error::Bytes { .. })) {
        // Bytes that make no sense were perhaps changed on the way, which says more.
        reader.finish()?;
    }
    result?;
    Ok((ticket, writer.replace()?))
}

/// An evaluation of one query.
pub(super) struct Task<'a> {
    pub(super) evaluator: &'a Evaluator,
    pub(super) keys: &'a EvaluationKeys,
    /// The query's, public.
    pub(super) seed: &'a Seed,
    pub(super) used: usize,
    /// Fresh; hides the weights.
    pub(super) private: Seed,
}

/// What a thread does next.
enum Step<B> {
    Block(Block, B),
    Answer { plain: usize, answer: usize },
}

impl Task<'_> {
    /// Evaluates all blocks, which come one after the other in order, and gives all answers to `sink`, those of the first
    /// plaintext prime first.
    pub(super) fn run<E: Send, B: FnOnce() -> Result<Vec<u8>, E> + Send>(
        &self,
        threads: NonZero<usize>,
        mut blocks: impl FnMut(Block) -> B + Send,
        refused: impl Fn(Misbehaviour) -> E + Sync,
        mut sink: impl FnMut(Vec<u8>) -> Result<(), E> + Send,
        heard: Heard<'_>,
    ) -> Result<(), E> {
        let plan = self.evaluator.plan();
        let shelf = Shelf::new(plan);
        let (each, all) = (Block::bytes(plan) as u64, query_bytes(plan) + answer_bytes(plan));
        let done = Mutex::new(0);
        let count = |bytes: u64| {
            let mut done = held(&done);
            *done += bytes;
            heard(*done, all);
        };
        let tasks = steps(plan).map(|step| match step {
            Step::Block(block, ()) => Step::Block(block, blocks(block)),
            Step::Answer { plain, answer } => Step::Answer { plain, answer },
        });
        let work = |step: Step<B>| match step {
            Step::Block(block, bytes) => {
                let place = shelf.place(block);
                let raw = bytes()
                    .and_then(|bytes| self.evaluator.evaluate(self.seed, block, &bytes).map_err(&refused))?;
                place.put(raw);
                count(each);
                Ok(None)
            }
            Step::Answer { plain, answer } => {
                let Some(blocks) = shelf.wait(plain) else { return Ok(None) };
                let number = (plain as u64) << 32 | answer as u64;
                let mut prg = Prg::new(&self.private.derive("homomorphic answer", number));
                let part = self.evaluator.answer(plain, answer, &blocks, self.keys, self.used, &mut prg);
                drop(blocks);
                shelf.answered(plain, plan.answers());
                count(part.len() as u64);
                Ok(Some(part))
            }
        };
        in_order(threads, tasks, work, |part: Option<Vec<u8>>| part.map_or(Ok(()), &mut sink))
    }
}

/// All work on a query, in an order in which answers come after their blocks.
fn steps(plan: &Plan) -> impl Iterator<Item = Step<()>> + use<> {
    let (primes, limbs, answers) = (plan.primes.len(), plan.query_limbs(), plan.answers());
    (0..=primes).flat_map(move |stage| {
        let limbs = if stage < primes { limbs } else { 0 };
        let answers = if stage > 0 { answers } else { 0 };
        let blocks = (0..limbs).map(move |limb| Step::Block(Block { plain: stage, limb }, ()));
        blocks.chain((0..answers).map(move |answer| Step::Answer { plain: stage - 1, answer }))
    })
}

/// What was made of blocks, until the answers of their plaintext prime are done.
struct Shelf {
    primes: Mutex<Vec<Prime>>,
    ready: Condvar,
}

enum Prime {
    Filling(Vec<Option<Raw>>),
    Ready(Arc<Vec<Raw>>, usize),
    /// Its answers are done, or one of its blocks is bad.
    Gone,
}

impl Shelf {
    fn new(plan: &Plan) -> Self {
        let empty = || Prime::Filling((0..plan.query_limbs()).map(|_| None).collect());
        Self { primes: Mutex::new((0..plan.primes.len()).map(|_| empty()).collect()), ready: Condvar::new() }
    }

    /// A place that must be filled; else nobody waits for it any longer.
    fn place(&self, block: Block) -> Place<'_> {
        Place { shelf: self, block, filled: false }
    }

    /// The blocks of a prime as soon as they are there, unless one of them is bad.
    fn wait(&self, plain: usize) -> Option<Arc<Vec<Raw>>> {
        let mut primes = held(&self.primes);
        loop {
            match &primes[plain] {
                Prime::Filling(_) => primes = self.ready.wait(primes).unwrap_or_else(PoisonError::into_inner),
                Prime::Ready(blocks, _) => return Some(Arc::clone(blocks)),
                Prime::Gone => return None,
            }
        }
    }

    /// Counts answers, and forgets the blocks behind the last one.
    fn answered(&self, plain: usize, answers: usize) {
        let prime = &mut held(&self.primes)[plain];
        if let Prime::Ready(_, done) = prime {
            *done += 1;
            if *done == answers {
                *prime = Prime::Gone;
            }
        }
    }
}

/// Where a block goes.
struct Place<'a> {
    shelf: &'a Shelf,
    block: Block,
    filled: bool,
}

impl Place<'_> {
    fn put(mut self, raw: Raw) {
        let mut primes = held(&self.shelf.primes);
        let prime = &mut primes[self.block.plain];
        if let Prime::Filling(blocks) = prime {
            blocks[self.block.limb] = Some(raw);
            if blocks.iter().all(Option::is_some) {
                *prime = Prime::Ready(Arc::new(blocks.drain(..).flatten().collect()), 0);
            }
        }
        self.filled = true;
        self.shelf.ready.notify_all();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.filled {
            held(&self.shelf.primes)[self.block.plain] = Prime::Gone;
            self.shelf.ready.notify_all();
        }
    }
}
