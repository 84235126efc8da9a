//! What came out, for machines and for people.

use super::subject::Subject;
use crate::demo::report::table;
use crate::homomorphic::LEARNS;
use consilium_protocol::homomorphic::Scales;
use miette::{Result, miette};
use serde::Serialize;

/// One run as one JSON object. Later versions add fields and rename none.
#[derive(Clone, Debug, Serialize)]
pub struct HomomorphicReport {
    /// The scenario.
    pub scenario: &'static str,
    /// What was asked about.
    pub subjects: Vec<SubjectReport>,
    /// Who learns what.
    pub learns: Vec<[&'static str; 2]>,
}

/// A network, asked in both modes.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectReport {
    /// Name of the data.
    pub data: &'static str,
    /// Whom to credit for them.
    pub credit: &'static str,
    /// Layers of the network.
    pub layers: String,
    /// Rows that it was trained on, and held-out rows that were asked about.
    pub rows: [usize; 2],
    /// A batch of all, and a single one.
    pub rounds: Vec<Round>,
}

/// From a plan to an opened answer.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// `batch` or `single`.
    pub mode: String,
    /// Rows asked about.
    pub rows: usize,
    /// Logits that came back.
    pub logits: usize,
    /// Of these, equal to those of the network of integers in the clear.
    pub logits_equal: usize,
    /// Rows with the label of the network of integers in the clear.
    pub labels_equal: usize,
    /// Share of right labels of the model as it was trained.
    pub accuracy_float: f64,
    /// Of the network of integers in the clear.
    pub accuracy_integer: f64,
    /// Of the opened answers.
    pub accuracy_encrypted: f64,
    /// Bits left between noise and modulus.
    pub margin_bits: f64,
    /// Scales of the integers.
    pub scales: Scales,
    /// Bits of the largest logit.
    pub logit_bits: u32,
    /// Each command and its seconds, with the start of its process.
    pub seconds: Vec<(String, f64)>,
    /// Of these, the evaluation itself.
    pub evaluation_seconds: f64,
    /// From the client to the owner, once.
    pub keys_bytes: u64,
    /// From the client to the owner.
    pub query_bytes: u64,
    /// From the owner to the client.
    pub answer_bytes: u64,
}

impl SubjectReport {
    pub(super) fn new(subject: &Subject, rows: usize, rounds: Vec<Round>) -> Self {
        Self {
            data: subject.name,
            credit: subject.credit,
            layers: subject.model.network().summary(),
            rows: [subject.train.rows(), rows],
            rounds,
        }
    }
}

impl HomomorphicReport {
    pub(super) fn new(subjects: Vec<SubjectReport>) -> Self {
        let learns = LEARNS.map(|(who, what)| [who, what]).to_vec();
        Self { scenario: "homomorphic", subjects, learns }
    }

    pub(super) fn print(&self) {
        for subject in &self.subjects {
            println!("{}: {}", subject.data, subject.credit);
            println!(
                "network {}, trained on {} rows here and now; each side ran `consilium he` in processes of its own",
                subject.layers, subject.rows[0]
            );
            println!("{}", subject.outcomes());
            println!("{}", subject.costs());
        }
        self.learns.iter().for_each(|[who, what]| println!("{who}: {what}"));
    }

    /// An error unless every logit and label is the one in the clear.
    pub(super) fn verdict(&self) -> Result<()> {
        for subject in &self.subjects {
            for round in &subject.rounds {
                let (wrong, labels) = (round.logits - round.logits_equal, round.rows - round.labels_equal);
                if wrong + labels > 0 {
                    return Err(miette!(
                        "{}, {}: {wrong} logits and {labels} labels are not those in the clear",
                        subject.data,
                        round.mode
                    ));
                }
            }
        }
        Ok(())
    }
}

impl SubjectReport {
    fn outcomes(&self) -> comfy_table::Table {
        let mut rows =
            table(&["mode", "rows", "logits exact", "labels equal", "right: float", "integers", "encrypted"]);
        for round in &self.rounds {
            // A share of one row is no accuracy.
            let share = |share: f64| match round.rows {
                1 => (if share > 0.0 { "right" } else { "wrong" }).to_owned(),
                _ => format!("{:.1} %", 100.0 * share),
            };
            rows.add_row([
                round.mode.clone(),
                round.rows.to_string(),
                format!("{} of {}", round.logits_equal, round.logits),
                format!("{} of {}", round.labels_equal, round.rows),
                share(round.accuracy_float),
                share(round.accuracy_integer),
                share(round.accuracy_encrypted),
            ]);
        }
        rows
    }

    fn costs(&self) -> comfy_table::Table {
        let mut columns = vec!["mode"];
        let commands = self.rounds.first().map(|round| round.seconds.as_slice()).unwrap_or_default();
        columns.extend(commands.iter().map(|(command, _)| command.as_str()));
        columns.extend(["keys", "query", "answer"]);
        let mut rows = table(&columns);
        for round in &self.rounds {
            let mut cells = vec![round.mode.clone()];
            cells.extend(round.seconds.iter().map(|(_, seconds)| format!("{seconds:.2} s")));
            let bytes = [round.keys_bytes, round.query_bytes, round.answer_bytes];
            cells.extend(bytes.map(|bytes| format!("{:.2} MB", bytes as f64 / 1e6)));
            rows.add_row(cells);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_logit_is_an_error() {
        let round = |logits_equal, labels_equal| Round {
            mode: "batch".to_owned(),
            rows: 5,
            logits: 10,
            logits_equal,
            labels_equal,
            accuracy_float: 1.0,
            accuracy_integer: 1.0,
            accuracy_encrypted: 1.0,
            margin_bits: 10.0,
            scales: Scales { input: 1, maps: vec![1.0] },
            logit_bits: 20,
            seconds: vec![("plan".to_owned(), 1.0)],
            evaluation_seconds: 0.1,
            keys_bytes: 1,
            query_bytes: 1,
            answer_bytes: 1,
        };
        let verdict = |logits, labels| {
            let rounds = vec![round(logits, labels)];
            let layers = "fc2".to_owned();
            let subject = SubjectReport { data: "digits", credit: "", layers, rows: [10, 5], rounds };
            HomomorphicReport::new(vec![subject]).verdict()
        };
        assert!(verdict(10, 5).is_ok());
        assert!(verdict(9, 5).is_err() && verdict(10, 4).is_err());
    }
}
