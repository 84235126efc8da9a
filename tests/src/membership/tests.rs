//! The whole experiment at a small size, on data that travel with the program.

use super::*;
use consilium::demo::Progress;

fn plan(subject: Subject) -> Plan {
    Plan { subject, owners: 3, records: 80, versions: 8, seed: 1, epochs: None }
}

fn outcome(plan: &Plan) -> Outcome {
    Outcome::new(plan, None, &Progress::new(false)).unwrap().0
}

fn advantage(outcome: &Outcome, signal: &str) -> f64 {
    outcome.row(signal).unwrap_or_else(|| panic!("no {signal}")).figures.advantage
}

#[test]
fn confidences_give_members_away_and_noisy_labels_do_not() {
    let outcome = outcome(&plan(Subject::Digits));
    assert_eq!(outcome.rows.len(), signal::ROWS);
    assert_eq!(outcome.faults(), [] as [String; 0], "{outcome}");
    assert!(outcome.train_accuracy > 0.99 && outcome.test_accuracy < 0.95, "{outcome}");
    // The attack works where the product never lets anybody look.
    assert!(advantage(&outcome, "victim_logits_threshold") > 0.15, "{outcome}");
    assert!(advantage(&outcome, "victim_label_gap") > 0.05, "{outcome}");
    // With the other owners known, an average hides nothing from an attack on each record.
    let ensemble = advantage(&outcome, "ensemble_prob_lira");
    assert!(ensemble > 0.6 * advantage(&outcome, "victim_logits_lira"), "{outcome}");
    // What is released, at the usual deviation and more.
    for signal in ["gnmax_s2_two_q1_gap", "gnmax_s10_q1_gap", "laplace_eps0.5_two_q1_gap"] {
        assert!(
            advantage(&outcome, signal) < 0.5 * advantage(&outcome, "victim_logits_threshold"),
            "{signal}"
        );
    }
}

#[test]
fn a_table_of_patients_is_within_all_bounds() {
    let outcome = outcome(&plan(Subject::BreastCancer));
    let passed = |fault: &String| fault.contains("passes the bound") || fault.contains("one vote");
    let faults: Vec<String> = outcome.faults().into_iter().filter(passed).collect();
    assert_eq!(faults, [] as [String; 0], "{outcome}");
    assert!(outcome.to_string().contains("gnmax_s2_two_q100_lr"));
}

#[test]
fn an_outcome_that_passes_a_bound_is_caught() {
    let mut outcome = outcome(&Plan { epochs: Some(1), records: 20, versions: 6, ..plan(Subject::Digits) });
    let at = outcome.rows.iter().position(|row| row.signal == "laplace_eps0.1_q1_lr").unwrap();
    outcome.rows[at].figures.advantage = 0.051 + outcome.resolution;
    assert!(outcome.faults().iter().any(|fault| fault.starts_with("laplace_eps0.1_q1_lr")));
    let recorded = Recorded {
        signal: String::new(),
        advantage: 0.9,
        auc: 0.9,
        tpr_at_1pct_fpr: 0.9,
        train_accuracy: 1.0,
        test_accuracy: 0.5,
    };
    let at = outcome.rows.iter().position(|row| row.signal == "gnmax_s2_q1_gap").unwrap();
    outcome.rows[at].recorded = Some(recorded);
    assert!(outcome.faults().iter().any(|fault| fault.contains("the reference has 0.9000")));
    outcome.rows.retain(|row| row.signal != "victim_logits_lira");
    assert!(outcome.faults().iter().any(|fault| fault.starts_with("no clear attack")));
}
