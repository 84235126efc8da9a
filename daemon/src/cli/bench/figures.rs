//! What many answers say together.

use crate::client::Answer;
use crate::message::Refusal;
use serde_json::{Value, json};
use std::time::Duration;

/// What came of one question, and how long it took from the command line and back.
pub(super) struct Round {
    pub(super) outcome: Result<Answer, Refusal>,
    pub(super) taken: Duration,
}

/// Times in milliseconds, sorted.
struct Times(Vec<f64>);

impl Times {
    fn of(times: impl Iterator<Item = f64>) -> Self {
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// The least value that this share of all does not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or(0.0)
    }

    fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }
}

/// Figures of one measurement.
pub(super) struct Figures {
    query: Times,
    online: Times,
    /// Beside the client's own figure: through the administration socket.
    outside: Times,
    cpu: Times,
    /// Bytes of each question's own part of the frames.
    bytes: Times,
    /// Bytes of a computation, for all that shared it.
    bytes_shared: Times,
    together: Times,
    answers: usize,
    rows_per_second: f64,
    queries_per_second: f64,
    refused: Vec<Refusal>,
    sample: Answer,
}

impl Figures {
    /// Figures of all questions, asked within `wall`.
    ///
    /// # Errors
    /// None was answered; the first refusal.
    pub(super) fn of(rounds: &[Round], wall: Duration) -> Result<Self, Option<Refusal>> {
        let answers: Vec<(&Answer, f64)> = rounds
            .iter()
            .filter_map(|round| Some((round.outcome.as_ref().ok()?, round.taken.as_secs_f64() * 1e3)))
            .collect();
        let refused: Vec<Refusal> =
            rounds.iter().filter_map(|round| round.outcome.as_ref().err().cloned()).collect();
        let Some((sample, _)) = answers.first() else { return Err(refused.into_iter().next()) };
        let over = |figure: fn(&Answer) -> f64| Times::of(answers.iter().map(|(answer, _)| figure(answer)));
        let shared = |answer: &Answer| f64::from(answer.terms.together.max(1));
        let rows: usize = answers.iter().map(|(answer, _)| answer.labels.len()).sum();
        Ok(Self {
            query: over(|answer| answer.milliseconds),
            online: over(|answer| answer.terms.rounds_us as f64 / 1e3),
            outside: Times::of(answers.iter().map(|(_, taken)| *taken)),
            cpu: Times::of(answers.iter().map(|(answer, _)| {
                answer.cpu_us.iter().map(|cpu| *cpu as f64).sum::<f64>() / 2e3 / shared(answer)
            })),
            bytes: Times::of(answers.iter().map(|(answer, _)| answer.terms.bytes as f64 / shared(answer))),
            bytes_shared: over(|answer| answer.terms.bytes as f64),
            together: Times::of(answers.iter().map(|(answer, _)| shared(answer))),
            answers: answers.len(),
            rows_per_second: rows as f64 / wall.as_secs_f64(),
            queries_per_second: answers.len() as f64 / wall.as_secs_f64(),
            sample: (*sample).clone(),
            refused,
        })
    }

    fn phases(&self) -> [(&'static str, &Times); 2] {
        [("query", &self.query), ("online", &self.online)]
    }

    /// One JSON object for each phase.
    pub(super) fn lines(&self, net: &str, batch: u32, link: &str, concurrency: u32) -> Vec<Value> {
        let terms = &self.sample.terms;
        let line = |(phase, times): (&str, &Times)| {
            json!({
                "net": net,
                "batch": batch,
                "link": link,
                "phase": phase,
                "ms_median": times.median(),
                "ms_min": times.quantile(0.0),
                "ms_mean": times.mean(),
                "ms_p95": times.quantile(0.95),
                "ms_p99": times.quantile(0.99),
                "ms_max": times.quantile(1.0),
                "rounds": terms.rounds,
                "bytes": self.bytes.mean(),
                "bytes_computation": self.bytes_shared.mean(),
                "cpu_ms": self.cpu.median(),
                "ms_outside_median": self.outside.median(),
                "queries": self.answers,
                "refused": self.refused.len(),
                "concurrency": concurrency,
                "queries_per_second": self.queries_per_second,
                "rows_per_second": self.rows_per_second,
                "together_mean": self.together.mean(),
                "together_max": self.together.quantile(1.0),
                "owners": terms.owners,
                "preprocessing": terms.preprocessing,
                "gadget": terms.gadget,
                "noise": terms.noise.to_string(),
                "mechanism": self.sample.mechanism,
            })
        };
        self.phases().into_iter().map(line).collect()
    }

    /// The same for people.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let ms = |value: f64| format!("{value:.2} ms");
        let row = |(phase, times): (&str, &Times)| {
            vec![
                phase.to_owned(),
                ms(times.median()),
                ms(times.quantile(0.0)),
                ms(times.quantile(0.95)),
                ms(times.quantile(0.99)),
                self.sample.terms.rounds.to_string(),
                format!("{:.0}", self.bytes.mean()),
                ms(self.cpu.median()),
            ]
        };
        self.phases().into_iter().map(row).collect()
    }

    /// What does not fit a table.
    pub(super) fn remarks(&self) -> Vec<String> {
        let terms = &self.sample.terms;
        let mut remarks = vec![
            format!(
                "{} answers, {:.1} questions and {:.1} cases a second; {:.1} questions shared a computation, at \
                 most {:.0}",
                self.answers,
                self.queries_per_second,
                self.rows_per_second,
                self.together.mean(),
                self.together.quantile(1.0)
            ),
            format!(
                "{} models; correlated randomness made by: {}; comparisons by {}, release: {}, noise: {}",
                terms.owners, terms.preprocessing, terms.gadget, self.sample.mechanism, terms.noise
            ),
            "bytes: what each compute party sends for one question; cpu: its thread's time for the rounds"
                .to_owned(),
        ];
        if let Some(refusal) = self.refused.first() {
            remarks.push(format!("{} refused; the first: {refusal}", self.refused.len()));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::ReleaseId;
    use crate::message::{AnswerTerms, Obstacle};
    use consilium_attest::Provenance;

    fn round(milliseconds: f64, together: u32) -> Round {
        let terms = AnswerTerms {
            share_words: 1,
            owners: 10,
            users: Vec::new(),
            shards: 1,
            noise: Provenance::Exact,
            preprocessing: "dealer".into(),
            gadget: "digits".into(),
            charged: 0,
            rounds: 13,
            bytes: 8000,
            rounds_us: 2000,
            together,
            cpu_us: 900,
            bundles: 1,
            repeated: false,
        };
        let answer = Answer {
            release: ReleaseId([1; 16]),
            labels: vec![Some(0), Some(1)],
            classes: vec![Some("a".into()), Some("b".into())],
            terms,
            mechanism: "exact".into(),
            epsilon: None,
            losses: None,
            milliseconds,
            cpu_us: [900, 1100],
            pair: "main".into(),
            tried: Vec::new(),
        };
        Round { outcome: Ok(answer), taken: Duration::from_secs(1) }
    }

    #[test]
    fn figures_are_those_of_the_answers() {
        let mut rounds: Vec<Round> = (1..=100).rev().map(|n| round(f64::from(n), 1)).collect();
        rounds.push(Round {
            outcome: Err(Refusal::new(Obstacle::Peer, "gone")),
            taken: Duration::from_millis(1),
        });
        let figures = Figures::of(&rounds, Duration::from_secs(2)).unwrap();
        let lines = figures.lines("net", 2, "lan", 4);
        let expected = [
            ("ms_median", 50.0),
            ("ms_min", 1.0),
            ("ms_p95", 95.0),
            ("ms_p99", 99.0),
            ("ms_max", 100.0),
            ("cpu_ms", 1.0),
            ("bytes", 8000.0),
            ("queries_per_second", 50.0),
            ("rows_per_second", 100.0),
            ("refused", 1.0),
            ("rounds", 13.0),
        ];
        for (key, value) in expected {
            assert_eq!(lines[0][key].as_f64(), Some(value), "{key}");
        }
        assert_eq!((lines[1]["phase"].as_str(), lines[1]["ms_median"].as_f64()), (Some("online"), Some(2.0)));
        assert!(figures.remarks().iter().any(|line| line.contains("1 refused")));
    }

    #[test]
    fn what_is_shared_is_divided() {
        let rounds = [round(1.0, 4), round(1.0, 4)];
        let line = &Figures::of(&rounds, Duration::from_secs(1)).unwrap().lines("net", 1, "lan", 8)[0];
        let figure = |key: &str| line[key].as_f64().unwrap();
        assert_eq!((figure("bytes"), figure("bytes_computation"), figure("cpu_ms")), (2000.0, 8000.0, 0.25));
        assert_eq!((figure("together_mean"), figure("together_max")), (4.0, 4.0));
    }

    #[test]
    fn without_an_answer_there_are_no_figures() {
        let refusal = Refusal::new(Obstacle::Budget, "spent");
        let round = Round { outcome: Err(refusal.clone()), taken: Duration::ZERO };
        assert_eq!(Figures::of(&[round], Duration::from_secs(1)).err(), Some(Some(refusal)));
        assert_eq!(Figures::of(&[], Duration::from_secs(1)).err(), Some(None));
    }
}
