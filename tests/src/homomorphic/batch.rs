//! All test rows in batches, through files, the owner in processes of its own.

use super::owner::{Effort, OwnerRun};
use super::{Subject, TrialError, accuracy, labels, process_seconds};
use consilium::homomorphic::{decrypt, encode, encrypt, make_keys, read_secret, write_plan};
use serde::Serialize;
use std::num::NonZero;
use std::path::Path;

/// Bytes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Evaluation keys, once.
    pub keys: u64,
    /// A query.
    pub query: u64,
    /// Its answer.
    pub answer: u64,
}

/// What batches gave.
#[derive(Clone, Debug, Serialize)]
pub struct BatchRun {
    /// Inputs asked about.
    pub inputs: usize,
    /// Inputs of the first batch, to which the figures below belong.
    pub batch: usize,
    /// Logits that differ from those in the clear.
    pub wrong: usize,
    /// Percent of labels that are right.
    pub accuracy: f64,
    /// Fewest bits that were left between noise and modulus.
    pub margin: f64,
    /// Sizes.
    pub bytes: Bytes,
    /// Client: seconds of processor time to encrypt a batch, files included.
    pub encrypt: f64,
    /// Client: seconds of processor time to open its answer.
    pub decrypt: f64,
    /// Owner, with one thread and with two: the faster of the runs each.
    pub owner: Vec<(usize, Effort)>,
    /// Seconds of processor time of the same integers in the clear.
    pub clear: f64,
}

impl BatchRun {
    /// Asks about all test rows of a subject. Files go to `folder`; the first batch is evaluated `repeats` times by each
    /// number of threads.
    ///
    /// # Errors
    /// [`TrialError`].
    pub fn new(
        subject: &Subject,
        folder: &Path,
        threads: &[usize],
        repeats: usize,
        tick: &dyn Fn(usize),
    ) -> Result<Self, TrialError> {
        let (plan, net) = (&subject.batch.plan, &subject.batch.net);
        let place = |name: &str| folder.join(name);
        let secret_path = place("client.secret");
        write_plan(&place("plan"), plan)?;
        let (_, keys) = make_keys(plan, &secret_path, &place("client.keys"))?;
        let secret = read_secret(&secret_path, plan)?;
        let one = NonZero::<usize>::MIN;
        let mut run = Self {
            inputs: subject.test.rows(),
            batch: plan.inputs_max().min(subject.test.rows()),
            wrong: 0,
            accuracy: 0.0,
            margin: f64::INFINITY,
            bytes: Bytes { keys, query: 0, answer: 0 },
            encrypt: 0.0,
            decrypt: 0.0,
            owner: Vec::new(),
            clear: 0.0,
        };
        let mut found = Vec::new();
        let rows: Vec<usize> = (0..subject.test.rows()).collect();
        for (index, chunk) in rows.chunks(plan.inputs_max()).enumerate() {
            let start = process_seconds();
            let inputs = encode(plan, chunk.iter().map(|row| subject.test.row(*row)))?;
            let files = (place("query"), place("query.ticket"));
            let (ticket, query) = encrypt(plan, &secret, &inputs, (&files.0, &files.1), one, &|_, _| ())?;
            let encrypt = process_seconds() - start;
            let owner = |threads| owner(subject, folder, threads);
            if index == 0 {
                for _ in 0..repeats {
                    for threads in threads {
                        let effort = owner(NonZero::new(*threads).unwrap_or(one)).run()?;
                        keep_faster(&mut run.owner, *threads, effort);
                    }
                }
            } else {
                owner(one).run()?;
            }
            let start = process_seconds();
            let opened = decrypt(plan, &secret, &ticket, &place("answer"), one, &|_, _| ())?;
            let decrypt = process_seconds() - start;
            let start = process_seconds();
            let clear = net.evaluate(&inputs);
            if index == 0 {
                run.clear = process_seconds() - start;
                (run.encrypt, run.decrypt) = (encrypt, decrypt);
                let answer = std::fs::metadata(place("answer"));
                let answer = answer.map_err(|source| TrialError::File { path: place("answer"), source })?;
                (run.bytes.query, run.bytes.answer) = (query, answer.len());
            }
            let logits: Vec<i128> = opened.logits.into_iter().flatten().collect();
            run.wrong += logits.iter().zip(&clear).filter(|(one, other)| one != other).count();
            run.wrong += logits.len().abs_diff(clear.len());
            run.margin = run.margin.min(opened.margin);
            found.extend(labels(net, &logits));
            tick(chunk.len());
        }
        run.accuracy = accuracy(&found, rows.iter().map(|row| usize::from(subject.test.labels()[*row])));
        Ok(run)
    }

    /// The owner's effort with so many threads.
    pub fn effort(&self, threads: usize) -> Option<Effort> {
        self.owner.iter().find(|(found, _)| *found == threads).map(|(_, effort)| *effort)
    }
}

/// The owner's part of the batch whose files are in a folder.
fn owner(subject: &Subject, folder: &Path, threads: NonZero<usize>) -> OwnerRun {
    let place = |name: &str| folder.join(name);
    OwnerRun {
        model: subject.path.clone(),
        plan: place("plan"),
        keys: place("client.keys"),
        query: place("query"),
        answer: place("answer"),
        threads,
    }
}

fn keep_faster(efforts: &mut Vec<(usize, Effort)>, threads: usize, effort: Effort) {
    match efforts.iter_mut().find(|(found, _)| *found == threads) {
        Some((_, kept)) if kept.wall <= effort.wall => {}
        Some((_, kept)) => *kept = effort,
        None => efforts.push((threads, effort)),
    }
}
