//! The privacy ledger, from outside.

use crate::audit::audit_both;
use crate::setting::{PRIVATE, SOON, Setting, ask, in_runtime, refused, release};
use consilium::client::Answer;
use consilium::demo::names;
use consilium::message::{Obstacle, Refusal};
use futures::future::join_all;
use std::time::Instant;

#[test]
fn the_question_after_the_last_is_refused_also_after_a_crash() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        let paid = setting.paid(PRIVATE);
        assert!((2..12).contains(&paid), "{paid} answers");
        for row in 0..paid {
            let answer = setting.answered(PRIVATE, row).await;
            assert!(answer.terms.charged > 0 && !answer.terms.repeated);
        }
        refused(setting.ask(PRIVATE, 0, None).await, &[Obstacle::Budget]);
        for name in [names::ZERO, names::ONE] {
            setting.world.kill(name).unwrap();
            setting.revive(name).await;
            setting.filled(PRIVATE).await;
            refused(setting.ask(PRIVATE, 1, None).await, &[Obstacle::Budget]);
        }
        for name in [names::ZERO, names::ONE] {
            let status = setting.until(name, PRIVATE, "books", |_| true).await;
            assert_eq!(status.answered, paid as u64, "{name}");
            assert!(status.epsilon_spent.unwrap() <= status.epsilon_budget.unwrap(), "{name}: {status:?}");
        }
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        assert_eq!(zero.books.owners, one.books.owners);
        assert_eq!((zero.committed.len(), one.committed.len()), (paid, paid));
    });
}

#[test]
fn sixteen_questions_at_once_never_overspend() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        let paid = setting.paid(PRIVATE);
        let asking = (0..16).map(|row| setting.ask(PRIVATE, row, None));
        let told: Vec<Result<Answer, Refusal>> = join_all(asking).await;
        let (answers, refusals): (Vec<_>, Vec<_>) = told.into_iter().partition(Result::is_ok);
        for refusal in refusals {
            refused(refusal, &[Obstacle::Budget]);
        }
        assert_eq!(answers.len(), paid);
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        assert_eq!(zero.books.owners, one.books.owners);
        assert_eq!((zero.committed.len(), one.committed.len()), (paid, paid));
        assert_eq!((zero.books.in_progress, one.books.in_progress), (0, 0));
    });
}

#[test]
fn one_name_is_one_charge_and_one_label() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        let first = setting.ask(PRIVATE, 3, release(9)).await.unwrap();
        assert!(!first.terms.repeated);
        for victim in [None, Some(names::ZERO), Some(names::ONE), Some(names::CLIENT)] {
            if let Some(victim) = victim {
                setting.world.kill(victim).unwrap();
                setting.revive(victim).await;
            }
            let again = setting.ask(PRIVATE, 3, release(9)).await.unwrap();
            assert!(again.terms.repeated, "{victim:?}");
            assert_eq!((again.labels, again.terms.charged), (first.labels.clone(), first.terms.charged));
            refused(setting.ask(PRIVATE, 4, release(9)).await, &[Obstacle::Release]);
        }
        let owner = setting.world.socket("hospital-01");
        refused(ask(owner, PRIVATE, setting.row(3), None).await.unwrap(), &[Obstacle::NotAllowed]);
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        for books in [zero.books, one.books] {
            assert_eq!(books.answered, 1);
            assert!(books.owners.iter().all(|owner| owner.spent == first.terms.charged));
        }
    });
}

#[test]
fn the_same_name_at_the_same_moment_is_answered_once() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        let asking = (0..6).map(|_| setting.ask(PRIVATE, 5, release(77)));
        let mut labels = Vec::new();
        for told in join_all(asking).await {
            match told {
                Ok(answer) => labels.push(answer.labels),
                Err(refusal) => assert_eq!(refusal.obstacle, Obstacle::Release, "{refusal}"),
            }
        }
        // Each attempt may have met another one, but the answer is there, or will be.
        let started = Instant::now();
        let again = loop {
            match setting.ask(PRIVATE, 5, release(77)).await {
                Ok(answer) => break answer,
                // Channels of attempts that were refused may not be closed yet.
                told => refused(told, &[Obstacle::Release, Obstacle::Peer]),
            };
            assert!(started.elapsed() < SOON);
        };
        assert!(again.terms.repeated);
        assert!(labels.iter().all(|label| *label == again.labels), "{labels:?} {again:?}");
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        assert_eq!((zero.books.answered, one.books.answered), (1, 1));
        assert_eq!((zero.reserved.len(), one.reserved.len()), (1, 1));
    });
}
