//! Every signal of an experiment under both attacks.

use super::{
    ASKS, Bank, Cohort, Figures, MembershipError, Plan, Recorded, Trials, Views, advantage_bound,
    binomial_ratio, cores, figures, gaussian_ratio, on_all_cores, settings, winner,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

/// One attack on one signal.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is seen, and how it is attacked; as in the reference figures where those have it.
    pub signal: String,
    /// What the attack achieves.
    #[serde(flatten)]
    pub figures: Figures,
    /// What the promise allows; `None` where there is no promise.
    pub bound: Option<f64>,
    /// Whether somebody can see it in the product: a noisy label asked for once.
    pub released: bool,
    /// The reference figures.
    pub recorded: Option<Recorded>,
}

/// What one vote moves at most, where the attacker knows all others.
#[derive(Clone, Debug, Serialize)]
pub struct OneVote {
    /// The mechanism.
    pub setting: String,
    /// Advantage under the noise of one party, and of both.
    pub advantage: [f64; 2],
    /// What the promise allows.
    pub bound: Option<f64>,
}

/// Scores of one attack, not yet judged.
struct Scored {
    signal: String,
    scores: Vec<f64>,
    bound: Option<f64>,
    released: bool,
}

/// All attacks on all signals. `attacked` is called once for each.
///
/// # Errors
/// A noise source refused.
pub fn rows(
    plan: &Plan,
    cohort: &Cohort,
    views: &Views,
    recorded: &[Recorded],
    attacked: &(dyn Fn() + Sync),
) -> Result<Vec<Row>, MembershipError> {
    let inside: Vec<bool> = cohort.versions.iter().flat_map(|version| version.inside.clone()).collect();
    let trials = Trials { inside: &inside, records: views.records() };
    let judge = |scored: Scored| {
        let row = Row {
            figures: figures(&trials, &scored.scores, plan.seed),
            recorded: recorded.iter().find(|row| row.signal == scored.signal).cloned(),
            signal: scored.signal,
            bound: scored.bound,
            released: scored.released,
        };
        attacked();
        row
    };
    let mut rows: Vec<Row> = noiseless(&trials, views).into_iter().map(judge).collect();
    let settings = settings()?;
    let noisy = on_all_cores(settings.len(), cores(), |index| {
        let setting = &settings[index];
        let mut random = StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000).wrapping_add(index as u64));
        let vectors = views.victim_votes.len();
        let bank = Bank::draw(&setting.mechanism, views.classes, vectors, &mut random)?;
        let right = bank.right(views, &mut random);
        let mut rows = Vec::new();
        for (sources, right) in ["", "_two"].into_iter().zip(&right) {
            for (asks, right) in ASKS.into_iter().zip(right) {
                let name = format!("{}{sources}_q{asks}", setting.name);
                let bound = advantage_bound(&setting.mechanism, asks);
                let released = asks == 1;
                let gap = right.iter().map(|right| f64::from(*right)).collect();
                rows.push(judge(Scored { signal: format!("{name}_gap"), scores: gap, bound, released }));
                let ratio = binomial_ratio(&trials, right, asks);
                rows.push(judge(Scored { signal: format!("{name}_lr"), scores: ratio, bound, released }));
            }
        }
        Ok(rows)
    })?;
    rows.extend(noisy.into_iter().flatten());
    Ok(rows)
}

/// Rows that [`rows`] makes.
pub(super) const ROWS: usize = 10 + 8 * 2 * ASKS.len() * 2;

fn noiseless(trials: &Trials<'_>, views: &Views) -> Vec<Scored> {
    let decisions = 0..views.victim_votes.len();
    let each = |value: &dyn Fn(usize) -> f64| -> Vec<f64> { decisions.clone().map(value).collect() };
    let ensemble = each(&|decision| views.ensemble_odds(decision));
    let votes = each(&|decision| views.counts(decision)[views.label(decision)] as f64);
    let right = |class: &dyn Fn(usize) -> usize| -> Vec<u16> {
        decisions.clone().map(|decision| u16::from(class(decision) == views.label(decision))).collect()
    };
    let victim = right(&|decision| usize::from(views.victim_votes[decision]));
    let majority = right(&|decision| winner(views.counts(decision)));
    let bits = |right: &[u16]| right.iter().map(|right| f64::from(*right)).collect();
    [
        ("victim_logits_threshold", views.victim_odds.clone()),
        ("victim_logits_lira", gaussian_ratio(trials, &views.victim_odds)),
        ("victim_label_gap", bits(&victim)),
        ("victim_label_lr", binomial_ratio(trials, &victim, 1)),
        ("ensemble_prob_lira", gaussian_ratio(trials, &ensemble)),
        ("ensemble_prob_threshold", ensemble),
        ("vote_histogram_lira", gaussian_ratio(trials, &votes)),
        ("vote_histogram_threshold", votes),
        ("majority_label_gap", bits(&majority)),
        ("majority_label_lr", binomial_ratio(trials, &majority, 1)),
    ]
    .into_iter()
    .map(|(signal, scores)| Scored { signal: signal.to_owned(), scores, bound: None, released: false })
    .collect()
}

/// What one vote moves under each mechanism.
///
/// # Errors
/// A noise source refused.
pub fn one_votes(plan: &Plan, classes: usize, vectors: usize) -> Result<Vec<OneVote>, MembershipError> {
    let settings = settings()?;
    on_all_cores(settings.len(), cores(), |index| {
        let setting = &settings[index];
        let mut random =
            StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000).wrapping_add(500 + index as u64));
        let bank = Bank::draw(&setting.mechanism, classes, vectors, &mut random)?;
        Ok(OneVote {
            setting: setting.name.clone(),
            advantage: [1, 2].map(|draws| bank.one_vote(plan.owners, draws)),
            bound: advantage_bound(&setting.mechanism, 1),
        })
    })
}
