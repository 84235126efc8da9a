//! The same question again and again, and what an answer says beside its label.

use crate::audit::audit_both;
use crate::setting::{EXACT, PRIVATE, Setting, in_runtime, refused};
use consilium::demo::names;
use consilium::message::{AnswerTerms, Obstacle};
use std::collections::BTreeSet;

const ASKS: usize = 100;

/// Averaging the labels of one record undoes the noise of each, so the hundredth must not be had.
#[test]
fn a_question_asked_a_hundred_times_is_answered_as_often_as_the_budget_pays() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        let paid = setting.paid(PRIVATE);
        assert!((2..12).contains(&paid), "{paid} answers");
        let first = setting.ask(PRIVATE, 0, None).await.unwrap();
        let mut releases = BTreeSet::from([first.release.0]);
        for _ in 1..paid {
            let answer = setting.ask(PRIVATE, 0, None).await.unwrap();
            assert!(!answer.terms.repeated && answer.terms.charged == first.terms.charged);
            assert!(releases.insert(answer.release.0), "each question has a name of its own");
        }
        let mut told = BTreeSet::new();
        for _ in paid..ASKS {
            told.insert(refused(setting.ask(PRIVATE, 0, None).await, &[Obstacle::Budget]).explanation);
        }
        assert_eq!(told.len(), 1, "refusals differ: {told:?}");
        let again = setting.ask(PRIVATE, 0, Some(first.release)).await.unwrap();
        assert!(again.terms.repeated);
        assert_eq!((again.labels, again.terms.charged), (first.labels, first.terms.charged));
        for name in [names::ZERO, names::ONE] {
            let status = setting.until(name, PRIVATE, "books", |_| true).await;
            assert_eq!(status.answered, paid as u64, "{name}");
            assert_eq!(status.pool.map(|pool| pool.used), Some(paid as u64), "{name}: refusals took bundles");
        }
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        assert_eq!(zero.books.owners, one.books.owners);
        for audit in [zero, one] {
            assert_eq!((audit.committed.len(), audit.reserved.len()), (paid, paid));
        }
    });
}

/// An answer's terms without what a clock says.
fn timeless(terms: &AnswerTerms) -> AnswerTerms {
    AnswerTerms { rounds_us: 0, cpu_us: 0, ..terms.clone() }
}

#[test]
fn the_terms_of_an_answer_are_the_same_whatever_the_votes() {
    in_runtime(async {
        let setting = Setting::published(&[EXACT]).await;
        let (mut labels, mut terms) = (BTreeSet::new(), Vec::new());
        for row in 0..24 {
            let answer = setting.answered(EXACT, row).await;
            labels.insert(answer.labels[0]);
            terms.push(timeless(&answer.terms));
        }
        assert!(labels.len() > 1, "one label for all rows says nothing about terms");
        assert!(terms.iter().all(|found| *found == terms[0]), "{terms:?}");
    });
}
