//! A release that may find no consensus: told to the client alone, at one price.

use crate::audit::audit_both;
use crate::setting::{BOUND, CLASSES, NUMBERS, OWNERS, Setting, in_runtime, release, scenario};
use consilium::demo::{Confident, Releases, Scenario, tasks};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{Oracle, decision};
use std::collections::BTreeSet;

const CONFIDENT: &str = tasks::EVALUATION;
/// So little noise that it changes one answer in some ten thousand.
const SIGMA: &str = "1/5";
const EACH: usize = 4;

/// Only what all owners agree on is told.
fn unanimous() -> Scenario {
    let confident = Some(Confident { threshold: OWNERS as u32, sigma: SIGMA.into() });
    Scenario {
        releases: Releases { sigma: SIGMA.into(), confident, ..Releases::usual(OWNERS) },
        ..scenario()
    }
}

impl Setting {
    /// What must be answered about a row, where rounding cannot change a vote.
    fn due(&self, row: usize) -> Option<Option<usize>> {
        let fixed = Fixed { fraction_bits: NUMBERS.fraction_bits };
        let words = fixed.encode_all(&self.row(row), BOUND).unwrap();
        let mut counts = vec![0; CLASSES as usize];
        for hospital in &self.scenario.hospitals {
            let vote = Oracle::new(hospital.model.clone(), NUMBERS).unwrap().vote(&words);
            if vote.possible.len() > 1 {
                return None;
            }
            counts[vote.class] += 1;
        }
        Some(decision(&counts, &vec![0; counts.len()], Some((OWNERS as i64, 0))))
    }
}

#[test]
fn nobody_but_the_client_can_tell_a_consensus_from_none() {
    in_runtime(async {
        let mut setting = Setting::bare(unanimous(), "info").await;
        setting.publish_all(&[CONFIDENT]).await;
        let rows: Vec<(usize, Option<usize>)> =
            (0..setting.scenario.test.rows()).filter_map(|row| Some((row, setting.due(row)?))).collect();
        let of = |told: bool| rows.iter().filter(move |(_, due)| due.is_some() == told).take(EACH);
        let asked: Vec<_> = of(true).chain(of(false)).collect();
        assert_eq!(asked.len(), 2 * EACH, "rows of both kinds");
        assert!(setting.paid(CONFIDENT) > asked.len());
        let mut seen = BTreeSet::new();
        for (number, (row, due)) in asked.iter().enumerate() {
            let name = release(number as u8 + 1);
            let answer = setting.ask(CONFIDENT, *row, name).await.unwrap();
            assert_eq!(answer.labels, [due.map(|label| label as u32)], "row {row}");
            assert_eq!(answer.classes, [due.map(|label| setting.scenario.classes[label].clone())]);
            let terms = &answer.terms;
            seen.insert((terms.charged, terms.rounds, terms.bytes, terms.share_words));
            let again = setting.ask(CONFIDENT, *row, name).await.unwrap();
            assert_eq!((again.labels, again.terms.repeated), (answer.labels, true));
        }
        let [(charged, ..)] = seen.into_iter().collect::<Vec<_>>()[..] else {
            panic!("answers look different")
        };
        let both = audit_both(&mut setting, CONFIDENT);
        for audit in both {
            assert_eq!((audit.committed.len(), audit.reserved.len()), (asked.len(), asked.len()));
            assert!(audit.books.owners.iter().all(|owner| owner.spent == charged * asked.len() as u64));
        }
    });
}
