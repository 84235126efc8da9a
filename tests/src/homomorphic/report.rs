//! The outcome as text, and what of it would be a fault.

use super::{BatchRun, PairRun, SingleRun, Subject, TrialError, accuracy, labels};
use consilium_protocol::evaluate::float;
use serde::Serialize;
use std::path::Path;

/// Least percent of right labels of a network of this shape on the digits.
const ACCURACY_MIN: f64 = 98.9;

/// Everything that was found about a subject.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The layers.
    pub network: String,
    /// Scales of inputs and weights.
    pub scales: Vec<f64>,
    /// Bits of the largest logit that any image could have.
    pub logit_bits: u32,
    /// Products with weights for one input.
    pub products: usize,
    /// Plaintext primes of batches and of single queries.
    pub primes: [Vec<u64>; 2],
    /// Bits of modulus of both.
    pub modulus: [f64; 2],
    /// Bits of flood over the noise that it hides, of both.
    pub flood: [f64; 2],
    /// An answer is within 2 to minus this of one made from logits alone, of both.
    pub statistical: [f64; 2],
    /// Percent of right labels of the exported model in floating point, and of its integers in the clear.
    pub accuracy: [f64; 2],
    /// Batches.
    pub batch: BatchRun,
    /// Single queries.
    pub single: SingleRun,
    /// Two parties.
    pub pair: Vec<PairRun>,
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Single queries.
    pub singles: usize,
    /// Repeats of the first batch.
    pub repeats: usize,
    /// Threads that measure more than one.
    pub threads: usize,
}

impl Outcome {
    /// Tries a subject.
    ///
    /// # Errors
    /// [`TrialError`].
    pub fn new(
        subject: &Subject,
        folder: &Path,
        amounts: Amounts,
        tick: &(dyn Fn(usize) + Sync),
    ) -> Result<Self, TrialError> {
        let (batch, single) = (&subject.batch, &subject.single);
        let right = || subject.test.labels().iter().map(|label| usize::from(*label));
        let inputs: Vec<i64> = subject
            .test
            .inputs()
            .iter()
            .map(|value| (f64::from(*value) * f64::from(batch.plan.scales.input)).round() as i64)
            .collect();
        let clear = labels(&batch.net, &batch.net.evaluate(&inputs));
        let floats: Vec<usize> = (0..subject.test.rows())
            .map(|row| float::argmax(&float::logits(&subject.model, subject.test.row(row))))
            .collect();
        let threads: Vec<usize> = if amounts.threads > 1 { vec![1, amounts.threads] } else { vec![1] };
        let batches = BatchRun::new(subject, folder, &threads, amounts.repeats, tick)?;
        let singles = SingleRun::new(subject, amounts.singles, amounts.threads, tick)?;
        let scales = &batch.plan.scales;
        Ok(Self {
            network: batch.plan.network.summary(),
            scales: std::iter::once(f64::from(scales.input)).chain(scales.maps.iter().copied()).collect(),
            logit_bits: batch.plan.logit_bits,
            products: batch.net.products(),
            primes: [batch.plan.primes.clone(), single.plan.primes.clone()],
            modulus: [batch.room.modulus, single.room.modulus],
            flood: [batch.room.flood, single.room.flood],
            statistical: [batch.room.statistical, single.room.statistical],
            accuracy: [accuracy(&floats, right()), accuracy(&clear, right())],
            batch: batches,
            single: singles,
            pair: PairRun::all(subject, &clear, subject.test.rows())?,
        })
    }

    /// Everything that must not be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (what, wrong) in [("batches", self.batch.wrong), ("single queries", self.single.wrong)] {
            if wrong > 0 {
                faults.push(format!("{wrong} logits of {what} differ from those in the clear"));
            }
        }
        if self.batch.accuracy < ACCURACY_MIN {
            faults.push(format!(
                "{:.2} % of the labels are right, below {ACCURACY_MIN} %",
                self.batch.accuracy
            ));
        }
        faults
    }
}

/// Predictions in an hour of one core.
fn hourly(inputs: usize, seconds: f64) -> f64 {
    inputs as f64 / seconds * 3600.0 / 1e6
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (batch, single) = (&self.batch, &self.single);
        writeln!(
            f,
            "{}; scales {:?}; {} weights that are not zero",
            self.network, self.scales, self.products
        )?;
        writeln!(f, "logits below 2^{} for any image", self.logit_bits - 1)?;
        for (at, what) in ["batches", "single queries"].into_iter().enumerate() {
            writeln!(
                f,
                "{what}: plaintext primes {:?}, {:.0} bits of modulus, flood {:.1} bits over the noise, answers within 2^-{:.1}",
                self.primes[at], self.modulus[at], self.flood[at], self.statistical[at]
            )?;
        }
        writeln!(
            f,
            "right labels: {:.2} % in floating point, {:.2} % as integers, {:.2} % encrypted",
            self.accuracy[0], self.accuracy[1], batch.accuracy
        )?;
        writeln!(
            f,
            "\nBatches: {} inputs, {} wrong logits, {:.1} bits of margin",
            batch.inputs, batch.wrong, batch.margin
        )?;
        let count = batch.batch;
        for (threads, effort) in &batch.owner {
            writeln!(
                f,
                "owner, {threads} thread(s): {:.2} CPU s and {:.2} s for {count}: {:.1} million an hour of a core, {:.1} million an hour; {:.0} MB",
                effort.processor,
                effort.wall,
                hourly(count, effort.processor),
                hourly(count, effort.wall),
                effort.memory as f64 / 1e6
            )?;
        }
        writeln!(
            f,
            "the same integers in the clear: {:.2} CPU s: {:.1} million an hour of a core",
            batch.clear,
            hourly(count, batch.clear)
        )?;
        let each = |bytes: u64| bytes as f64 / count as f64 / 1e3;
        writeln!(
            f,
            "client: {:.2} CPU s to encrypt, {:.2} to open; keys {:.2} MB once, {:.1} kB up and {:.2} kB down for each input",
            batch.encrypt,
            batch.decrypt,
            batch.bytes.keys as f64 / 1e6,
            each(batch.bytes.query),
            each(batch.bytes.answer)
        )?;
        writeln!(
            f,
            "\nSingle queries: {} inputs, {} wrong logits, {:.1} bits of margin",
            single.inputs, single.wrong, single.margin
        )?;
        let [keys, query, answer] = single.bytes.map(|bytes| bytes as f64 / 1e6);
        writeln!(
            f,
            "owner {:.3} CPU s, client {:.3} to encrypt and {:.3} to open (medians, one core); keys {keys:.1} MB once, {query:.1} MB up, {answer:.2} MB down",
            single.owner, single.encrypt, single.decrypt
        )?;
        self.table(f)
    }
}

impl Outcome {
    fn table(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (batch, single) = (&self.batch, &self.single);
        writeln!(
            f,
            "\n{:28} | {:>10} | {:>14} | {:>6} | {:>10} | who learns what",
            "the same model", "latency", "answers an hour", "rounds", "bytes each"
        )?;
        let mut line = |name: &str, latency: f64, hourly: f64, rounds: u32, bytes: f64, learns: &str| {
            writeln!(
                f,
                "{name:28} | {:>8.3} s | {:>12.2} M | {rounds:>6} | {:>7.1} kB | {learns}",
                latency,
                hourly,
                bytes / 1e3
            )
        };
        for run in &self.pair {
            let name = format!("two parties, {} at a time", run.batch);
            let learns = "client: a label; parties: nothing";
            line(
                &name,
                run.seconds,
                hourly(run.batch, run.seconds),
                run.rounds,
                2.0 * run.bytes as f64 / run.batch as f64,
                learns,
            )?;
        }
        let learns = "client: all logits; owner: how many inputs";
        let count = batch.batch;
        if let Some((threads, effort)) = batch.owner.last() {
            let name = format!("a batch, {threads} thread(s)");
            let bytes = (batch.bytes.query + batch.bytes.answer) as f64 / count as f64;
            line(&name, effort.wall, hourly(count, effort.wall), 1, bytes, learns)?;
        }
        let bytes = (single.bytes[1] + single.bytes[2]) as f64;
        line("a single query, one thread", single.owner, hourly(1, single.owner), 1, bytes, learns)?;
        writeln!(
            f,
            "two parties: without a network between them; correlated randomness from an insecure stand-in, made in that time"
        )?;
        for run in &self.pair {
            writeln!(f, "two parties gave the label of the integers for {} of {}", run.same, run.inputs)?;
        }
        Ok(())
    }
}
