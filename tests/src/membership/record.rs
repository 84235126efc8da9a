//! The reference figures beside the repository, made by another implementation of the same experiment.

use super::Plan;
use serde::Serialize;
use std::path::Path;

/// One row of the reference figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    /// What is attacked, and how.
    pub signal: String,
    /// As in [`Figures`](super::Figures).
    pub advantage: f64,
    /// As there.
    pub auc: f64,
    /// As there.
    pub tpr_at_1pct_fpr: f64,
    /// Accuracy of the victims on their own records.
    pub train_accuracy: f64,
    /// And on others.
    pub test_accuracy: f64,
}

/// The reference figures for an experiment; none where it was not recorded.
pub fn recorded(shared: Option<&Path>, plan: &Plan) -> Vec<Recorded> {
    let Some(folder) = shared else { return Vec::new() };
    let text = std::fs::read_to_string(folder.join("data/baselines/membership.csv")).unwrap_or_default();
    parse(&text, plan)
}

fn parse(text: &str, plan: &Plan) -> Vec<Recorded> {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let Some(header) = lines.next() else { return Vec::new() };
    let wanted = [
        ("dataset", plan.subject.name().to_owned()),
        ("owners", plan.owners.to_string()),
        ("owner_records", plan.records.to_string()),
        ("victim_versions", plan.versions.to_string()),
    ];
    lines
        .filter_map(|line| {
            let value = |name: &str| {
                let at = header.iter().position(|column| *column == name)?;
                line.get(at).copied()
            };
            let number = |name: &str| value(name)?.parse::<f64>().ok();
            if wanted.iter().any(|(name, wanted)| value(name) != Some(wanted.as_str())) {
                return None;
            }
            Some(Recorded {
                signal: value("signal")?.to_owned(),
                advantage: number("advantage")?,
                auc: number("auc")?,
                tpr_at_1pct_fpr: number("tpr_at_1pct_fpr")?,
                train_accuracy: number("victim_train_acc")?,
                test_accuracy: number("victim_test_acc")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shared_or_skip;
    use crate::membership::Subject;

    fn plan(subject: Subject, owners: usize, records: usize) -> Plan {
        Plan { subject, owners, records, versions: 32, seed: 1, epochs: None }
    }

    #[test]
    fn a_row_is_found_by_its_experiment() {
        let text = "dataset,owners,owner_records,victim_versions,victim_train_acc,victim_test_acc,signal,\
            advantage,auc,tpr_at_1pct_fpr\n\
            diabetes,10,1000,32,0.9,0.5,a,0.1,0.2,0.3\n\
            diabetes,2,1000,32,0.9,0.5,b,0.4,0.5,0.6\n\
            diabetes,10,1000,32,0.9,0.5,c,none,0.5,0.6";
        let found = parse(text, &plan(Subject::Diabetes, 10, 1_000));
        let [row] = &found[..] else { panic!("{found:?}") };
        assert_eq!((row.signal.as_str(), row.advantage, row.test_accuracy), ("a", 0.1, 0.5));
        assert_eq!(parse(text, &plan(Subject::Diabetes, 10, 999)), []);
        assert_eq!(parse("", &plan(Subject::Diabetes, 10, 1_000)), []);
    }

    #[test]
    fn the_reference_figures_have_every_experiment() {
        let Some(shared) = shared_or_skip("reference figures of membership inference") else { return };
        for plan in [
            plan(Subject::FashionMnist, 2, 1_000),
            plan(Subject::FashionMnist, 10, 1_000),
            plan(Subject::PneumoniaMnist, 10, 400),
            plan(Subject::Diabetes, 10, 1_000),
        ] {
            let found = recorded(Some(&shared), &plan);
            for signal in ["victim_logits_lira", "majority_label_gap", "gnmax_s10_q1_lr"] {
                assert!(found.iter().any(|row| row.signal == signal), "{plan:?} {signal}");
            }
        }
    }
}
