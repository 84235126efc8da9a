//! The client's side: from rows to a query, from an answer to logits.

use super::Heard;
use super::container::{FileKind, Reader, Writer};
use super::fault::HomomorphicError as Error;
use super::formats::{QueryHeading, QueryId, Secret, Ticket, write_ticket};
use super::order::in_order;
use crate::vault::remove_durably;
use consilium_protocol::algebra::Seed;
use consilium_protocol::homomorphic::{Block, EvaluationKeys, Messages, Mode, Opening, Plan};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Ciphertexts that a thread encrypts at a time.
const RUN: usize = 16;

/// The integers of rows, one after the other.
///
/// # Errors
/// [`Error::Input`] names the first value that is not admissible; [`Error::Width`], [`Error::Rows`].
pub fn encode<'a>(
    plan: &Plan,
    rows: impl ExactSizeIterator<Item = &'a [f32]>,
) -> Result<Zeroizing<Vec<i64>>, Error> {
    let (count, width) = (rows.len(), plan.inputs());
    if !(1..=plan.inputs_max()).contains(&count) {
        return Err(Error::Rows { found: count, most: plan.inputs_max() });
    }
    let mut integers = Zeroizing::new(Vec::with_capacity(count * width));
    for (row, values) in rows.enumerate() {
        if values.len() != width {
            return Err(Error::Width { expected: width, found: values.len() });
        }
        let wide = Zeroizing::new(values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>());
        let encoded = plan.encode(&wide).map_err(|(position, value)| {
            let [low, high] = plan.input_range.map(|end| end as f64 / f64::from(plan.scales.input));
            Error::Input { row: row + 1, column: position + 1, value, low, high }
        })?;
        integers.extend_from_slice(&Zeroizing::new(encoded));
    }
    Ok(integers)
}

/// Encrypts inputs of [`encode`] as a query, and writes its ticket beside it, which the client keeps.
///
/// # Errors
/// [`Error::Vault`] where a file cannot be written, and nothing is left of it; [`Error::Rows`].
pub fn encrypt(
    plan: &Plan,
    secret: &Secret,
    inputs: &[i64],
    (query, ticket): (&Path, &Path),
    threads: NonZero<usize>,
    heard: Heard<'_>,
) -> Result<(Ticket, u64), Error> {
    let used = inputs.len() / plan.inputs();
    if !inputs.len().is_multiple_of(plan.inputs()) {
        return Err(Error::Width { expected: plan.inputs(), found: inputs.len() % plan.inputs() });
    }
    let fits = u32::try_from(used).ok().filter(|_| (1..=plan.inputs_max()).contains(&used));
    let fits = fits.ok_or(Error::Rows { found: used, most: plan.inputs_max() })?;
    let stub = Ticket { plan: plan.digest(), key: secret.id, query: QueryId::random()?, used: fits };
    let seed = Seed::random()?;
    let noise = Seed::random()?;
    let heading = QueryHeading { ticket: stub, seed: *seed.as_bytes() };
    let mut writer = Writer::new(query, FileKind::Query, &heading)?;
    let (limbs, ciphertexts) = (plan.query_limbs(), plan.ciphertexts());
    let tasks = (0..plan.primes.len()).flat_map(|plain| {
        let messages = Arc::new(Messages::new(plan, plain, inputs, &noise));
        (0..limbs).flat_map(move |limb| {
            let messages = Arc::clone(&messages);
            (0..ciphertexts).step_by(RUN).map(move |from| (Arc::clone(&messages), limb, from))
        })
    });
    let all = query_bytes(plan);
    let mut done = 0;
    let work = |(messages, limb, from): (Arc<Messages<'_>>, usize, usize)| {
        Ok(messages.encrypt(&secret.key, &seed, limb, from..(from + RUN).min(ciphertexts)))
    };
    in_order(threads, tasks, work, |rows: Vec<u8>| {
        done += rows.len() as u64;
        heard(done, all);
        writer.write(&rows)
    })?;
    let bytes = writer.replace()?;
    if let Err(fault) = write_ticket(ticket, &stub) {
        remove_durably(query)?;
        return Err(fault);
    }
    Ok((stub, bytes))
}

/// Bytes that go over the line for a plan, without headings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Evaluation keys, once.
    pub keys: u64,
    /// A query, however many inputs it has.
    pub query: u64,
    /// Its answer.
    pub answer: u64,
}

impl Sizes {
    /// Of a plan.
    pub fn of(plan: &Plan) -> Self {
        Self {
            keys: EvaluationKeys::bytes(plan) as u64,
            query: query_bytes(plan),
            answer: answer_bytes(plan),
        }
    }
}

/// Bytes of the body of a query.
pub(super) fn query_bytes(plan: &Plan) -> u64 {
    (Block::all(plan).count() * Block::bytes(plan)) as u64
}

/// Bytes of the body of an answer.
pub(super) fn answer_bytes(plan: &Plan) -> u64 {
    (plan.primes.len() * plan.answers() * plan.answer_bytes()) as u64
}

/// What an answer opens to.
pub struct Decrypted {
    /// For each input its logits, as integers.
    pub logits: Vec<Vec<i128>>,
    /// Bits that were left between noise and modulus, in the worst ciphertext.
    pub margin: f64,
}

impl std::fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decrypted({} inputs, margin {:.1})", self.logits.len(), self.margin)
    }
}

/// Opens the answer to a query.
///
/// # Errors
/// [`Error`]; never a logit of an answer that does not open.
pub fn decrypt(
    plan: &Plan,
    secret: &Secret,
    ticket: &Ticket,
    answer: &Path,
    threads: NonZero<usize>,
    heard: Heard<'_>,
) -> Result<Decrypted, Error> {
    let mut reader = Reader::open_as(answer, FileKind::Answer)?;
    let heading: Ticket = reader.heading()?;
    heading.check(&reader, plan, secret.id)?;
    if heading != *ticket {
        return Err(Error::OtherQuery { path: answer.to_owned() });
    }
    let all = answer_bytes(plan);
    reader.expect_body(all)?;
    reader.finish()?;
    let (answers, length) = (plan.answers(), plan.answer_bytes());
    let part = |answer: usize| {
        let places = (0..plan.primes.len()).map(move |plain| plain * answers + answer);
        places.map(|place| reader.at((place * length) as u64, length)).collect::<Result<Vec<_>, _>>()
    };
    let path = answer;
    open(plan, secret, ticket.used as usize, threads, part, heard).map_err(|fault| match fault {
        Fault::Part(fault) => fault,
        Fault::Open(source) => Error::Open { path: path.to_owned(), source },
    })
}

/// Why an answer did not open.
pub(super) enum Fault {
    /// A part could not be had.
    Part(Error),
    /// It opens to nothing.
    Open(consilium_protocol::homomorphic::OpenError),
}

/// Opens the answers to `used` inputs; `parts` gives those of one answer in the order of plaintext primes.
pub(super) fn open(
    plan: &Plan,
    secret: &Secret,
    used: usize,
    threads: NonZero<usize>,
    parts: impl Fn(usize) -> Result<Vec<Vec<u8>>, Error> + Sync,
    heard: Heard<'_>,
) -> Result<Decrypted, Fault> {
    let opening = Opening::new(plan, &secret.key);
    let (answers, outputs) = (plan.answers(), plan.outputs());
    let each = answer_bytes(plan) / answers as u64;
    let mut opened = Decrypted { logits: vec![vec![0; outputs]; used], margin: f64::INFINITY };
    let mut done = 0;
    let work = |answer: usize| {
        let parts = parts(answer).map_err(Fault::Part)?;
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (logits, margin) = opening.logits(answer, &parts, used).map_err(Fault::Open)?;
        Ok((answer, logits, margin))
    };
    in_order(threads, 0..answers, work, |(answer, logits, margin): (usize, Vec<i128>, f64)| {
        opened.margin = opened.margin.min(margin);
        match plan.mode {
            Mode::Batch => opened.logits.iter_mut().zip(logits).for_each(|(row, logit)| row[answer] = logit),
            Mode::Single => opened.logits = vec![logits],
        }
        done += each;
        heard(done, each * answers as u64);
        Ok(())
    })?;
    Ok(opened)
}

/// The place of the largest logit, the first of equals; of a single logit, whether it is above zero.
pub fn class(logits: &[i128]) -> usize {
    match logits {
        [single] => usize::from(*single > 0),
        _ => (1..logits.len()).fold(0, |best, place| if logits[place] > logits[best] { place } else { best }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_largest_logit_names_the_class() {
        for (logits, expected) in [(&[3, 5, 5][..], 1), (&[-2, -9], 0), (&[0], 0), (&[1], 1), (&[-1], 0)] {
            assert_eq!(class(logits), expected, "{logits:?}");
        }
    }
}
