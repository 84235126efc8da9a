//! What a plan means, in sentences with its figures.

use super::search::noise_share;
use super::{Family, Plan, PrivacyUnit, Row, SHARE_USUAL, ServiceError};
use consilium_protocol::privacy::Unit;
use serde::Serialize;

/// Numbers of votes for which the table of growth is given.
const GROWTH: [u32; 6] = [4, 10, 20, 50, 100, 200];

/// Whether the service is worth running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The budget pays for the answers wanted at the loss allowed.
    Useful,
    /// It does not.
    NotUseful,
    /// An exact release promises nothing, so there is nothing to weigh.
    NoPromise,
}

/// A plan in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Whether to run it.
    pub verdict: Verdict,
    /// What the budget buys, first sentence first.
    pub summary: Vec<String>,
    /// What the promise covers, and what it does not.
    pub promise: Vec<String>,
    /// What to do instead or next, each with its figures.
    pub ways: Vec<String>,
}

impl Advice {
    /// Reads a plan.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of(plan: &Plan) -> Result<Self, ServiceError> {
        let verdict = verdict(plan);
        let (summary, ways) = match verdict {
            Verdict::Useful => (useful(plan)?, beyond(plan)?),
            Verdict::NotUseful => (not_useful(plan)?, instead(plan)?),
            Verdict::NoPromise => (exact(plan), Vec::new()),
        };
        Ok(Self { verdict, summary, promise: promise(plan)?, ways })
    }
}

fn verdict(plan: &Plan) -> Verdict {
    if plan.service.family == Family::Exact {
        return Verdict::NoPromise;
    }
    let answers = plan.recommended.as_ref().and_then(Row::answers).unwrap_or(0.0);
    if answers >= plan.service.answers_wanted as f64 { Verdict::Useful } else { Verdict::NotUseful }
}

fn useful(plan: &Plan) -> Result<Vec<String>, ServiceError> {
    let Some(row) = &plan.recommended else { return Ok(Vec::new()) };
    let first = format!(
        "recommended: {} in the roster; a budget of epsilon {} then pays for {} in the whole life of these models",
        row.setting,
        plan.service.budget.epsilon,
        answers(row),
    );
    Ok(vec![first, quality(plan, row), growth(plan)?])
}

fn not_useful(plan: &Plan) -> Result<Vec<String>, ServiceError> {
    let (service, votes) = (&plan.service, plan.service.votes()?);
    let mut lines = vec![format!(
        "{votes} votes cannot give a useful private service within epsilon {}",
        service.budget.epsilon
    )];
    let allowed = points(service.loss_max);
    match &plan.recommended {
        Some(row) => {
            let one = row
                .epsilon
                .map_or_else(String::new, |one| format!("; one answer alone has epsilon {one:.2}"));
            lines.push(format!(
                "noise that costs at most {allowed} points ({}) leaves {} for ever, {} are wanted{one}",
                row.setting,
                answers(row),
                service.answers_wanted
            ));
        }
        None => {
            lines.push(format!("no amount of noise that costs at most {allowed} points keeps the promise"))
        }
    }
    if let Some(row) = &plan.paying {
        let share = noise_share(row, service, votes);
        lines.push(format!(
            "noise that pays for {} answers ({}) is {share:.1} times all the votes: {}",
            service.answers_wanted,
            row.setting,
            quality(plan, row)
        ));
    }
    lines.push(growth(plan)?);
    Ok(lines)
}

fn exact(plan: &Plan) -> Vec<String> {
    let right = plan.rows.first().map_or_else(String::new, |row| quality(plan, row));
    vec!["no noise, no budget and no privacy promise: answers are unlimited, and each says so".into(), right]
}

/// Right answers with and without noise, or agreement, and answers held back.
fn quality(plan: &Plan, row: &Row) -> String {
    let mut parts = Vec::new();
    if row.outlooks.iter().all(|outlook| outlook.accuracy.is_some()) {
        let without = plan.profiles.iter().filter_map(super::Profile::noise_free);
        let without =
            without.fold((f64::INFINITY, 0.0_f64), |(low, high), one| (low.min(one), high.max(one)));
        let with = row.range(|outlook| outlook.accuracy.unwrap_or(0.0));
        parts.push(format!("{} of the answers are right, {} without noise", span(with), span(without)));
    }
    let agreement = row.range(|outlook| outlook.agreement);
    parts.push(format!("{} are those of the vote without noise", span(agreement)));
    if matches!(row.setting, super::Setting::Confident { .. }) {
        let open = row.range(|outlook| 1.0 - outlook.answered);
        parts.push(format!("{} of the questions end in no consensus, at the same price", span(open)));
    }
    parts.join("; ")
}

/// What the same budget buys with other numbers of votes.
fn growth(plan: &Plan) -> Result<String, ServiceError> {
    let mut figures = Vec::new();
    for votes in GROWTH {
        if let Some(answers) = plan.service.answers_at(f64::from(votes), SHARE_USUAL)? {
            figures.push(format!("{} with {votes}", count(answers)));
        }
    }
    let law = match plan.service.ledger_unit() {
        Some(Unit::Zcdp) => {
            let factor = plan.service.answers_at(1.0, SHARE_USUAL)?.unwrap_or(0.0);
            format!(", {factor:.3} times the square of the votes")
        }
        _ => String::new(),
    };
    let rate = rate(plan);
    Ok(format!(
        "what the same budget buys{rate} where noise of 0.2 of the votes reaches every count (1 to 3 points on \
         evenly split data){law}: answers {}",
        figures.join(", ")
    ))
}

/// What figures by [`super::Service::answers_at`] leave out: a threshold costs more, and not every attempt ends in
/// an answer.
fn rate(plan: &Plan) -> &'static str {
    if plan.service.family == Family::Confident { " without a threshold" } else { "" }
}

fn promise(plan: &Plan) -> Result<Vec<String>, ServiceError> {
    let service = &plan.service;
    let Some(one) = service.group_epsilon(1)? else {
        return Ok(vec!["nothing is promised about the owners' data".into()]);
    };
    let delta = service.budget.delta.filter(|_| service.ledger_unit() == Some(Unit::Zcdp));
    let delta = delta.map_or_else(String::new, |delta| format!(", delta {delta}"));
    let several = |votes: u32| service.group_epsilon(votes).map(|epsilon| epsilon.unwrap_or(f64::INFINITY));
    let patient = |copies: u32| Ok::<_, ServiceError>(format!("{:.1} at {copies} owners", several(copies)?));
    let known =
        format!("a patient whose records lie with several owners: epsilon {}, {}", patient(2)?, patient(3)?);
    let covered = match service.unit {
        PrivacyUnit::Owner => "all that one owner trained on, so each of its patients too".to_owned(),
        PrivacyUnit::Patient => {
            format!(
                "one patient of one owner; a whole owner moves {} votes and has epsilon {:.1}",
                service.shards,
                several(service.shards)?
            )
        }
    };
    Ok(vec![format!("epsilon {one:.2}{delta} when all is spent, for {covered}"), known])
}

/// Ways out of a budget that buys too little.
fn instead(plan: &Plan) -> Result<Vec<String>, ServiceError> {
    let service = &plan.service;
    let votes = service.votes()?;
    let share = plan.recommended.as_ref().map_or(SHARE_USUAL, |row| noise_share(row, service, votes));
    let share = share.min(SHARE_USUAL);
    let needed = votes_needed(plan, share)?;
    let shards = needed.div_ceil(service.owners).max(2);
    let owner = service.group_epsilon(shards)?.unwrap_or(f64::INFINITY);
    let right = plan.profiles.iter().filter_map(super::Profile::noise_free).fold(f64::INFINITY, f64::min);
    let rate = rate(plan);
    let right = if right.is_finite() { format!(" (here {} right)", percent(right)) } else { String::new() };
    Ok(vec![
        format!(
            "unit patient: with {shards} models from each owner, trained on disjoint patients, there are {} votes and \
             the budget pays for about {} answers{rate}; the promise then covers one patient, while a whole owner has \
             epsilon {owner:.0}; each model learns from one patient in {shards}, so train them, measure their votes \
             on public cases and plan again with --votes-file",
            shards * service.owners,
            count(service.answers_at(f64::from(shards * service.owners), share)?.unwrap_or(0.0)),
        ),
        format!(
            "more owners: about {needed} with one model each pay for {} answers{rate}",
            service.answers_wanted
        ),
        format!(
            "an exact release where a contract between owners and clients covers what answers show: no noise, no \
             limit, no privacy promise, and every answer says so{right}"
        ),
        "consilium distill, once one of the first two pays for some hundreds of answers: they label a public set, a \
         student learns from the labels and is served without limit and without further loss"
            .to_owned(),
    ])
}

/// Next to a service that works.
fn beyond(plan: &Plan) -> Result<Vec<String>, ServiceError> {
    let Some(row) = &plan.recommended else { return Ok(Vec::new()) };
    Ok(vec![format!(
        "after {} the owners' budget is spent for good; to serve without limit, spend it once on labels for a \
             public set and train a student on them: consilium distill",
        answers(row)
    )])
}

/// Fewest votes with which the wanted answers are paid for.
fn votes_needed(plan: &Plan, share: f64) -> Result<u32, ServiceError> {
    let single = plan.service.answers_at(1.0, share)?.unwrap_or(0.0);
    let ratio = plan.service.answers_wanted as f64 / single;
    let votes = if plan.service.ledger_unit() == Some(Unit::Pure) { ratio } else { ratio.sqrt() };
    // A float is cut to the range of the integer.
    Ok(votes.ceil() as u32)
}

/// How many answers to expect of a row.
fn answers(row: &Row) -> String {
    match (row.setting, row.attempts, row.answers()) {
        (super::Setting::Confident { .. }, Some(attempts), Some(answers)) => {
            format!("{} questions, of which at least {} get an answer,", thousands(attempts), count(answers))
        }
        (_, Some(1), _) => "1 answer".into(),
        (_, Some(attempts), _) => format!("{} answers", thousands(attempts)),
        _ => "unlimited answers".into(),
    }
}

/// A number of answers that need not be whole.
pub(crate) fn count(answers: f64) -> String {
    if answers < 10.0 { format!("{answers:.1}") } else { thousands(answers as u64) }
}

/// Digits in groups of three.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn points(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A share as people read it.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The ends of a range, or one figure where they look the same.
pub(crate) fn span((low, high): (f64, f64)) -> String {
    let (from, to) = (percent(low), percent(high));
    if from == to { from } else { format!("{:.1} to {to}", low * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::super::service::tests::service;
    use super::super::{Profile, Service, Tendency, Wanted};
    use super::*;

    fn advice(service: Service) -> (Advice, String) {
        let votes = service.votes().unwrap();
        let tendency = Tendency { accuracy: 0.7, likeness: 0.19, rival: 1.0 };
        let profile = Profile::modelled(votes, service.classes, tendency).unwrap();
        let plan = Plan::new(service, vec![profile], &Wanted::default()).unwrap();
        let advice = Advice::of(&plan).unwrap();
        let all = [&advice.summary[..], &advice.promise[..], &advice.ways[..]].concat().join("\n");
        (advice, all)
    }

    #[test]
    fn four_owners_are_told_no_with_the_figures_and_what_to_do() {
        let (advice, text) = advice(service(4, 2, Family::Gaussian));
        assert_eq!(advice.verdict, Verdict::NotUseful);
        for part in [
            "4 votes cannot give a useful private service within epsilon 8",
            "0.042 times the square of the votes",
            "0.7 with 4, 4.2 with 10, 16 with 20, 105 with 50, 420 with 100",
            "unit patient: with 9 models from each owner",
            "more owners",
            "an exact release",
            "consilium distill",
            "a patient whose records lie with several owners",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }

    #[test]
    fn ways_out_of_a_threshold_say_that_they_have_none() {
        let (advice, text) = advice(service(4, 2, Family::Confident));
        assert_eq!(advice.verdict, Verdict::NotUseful, "{text}");
        assert!(text.contains("with one model each pay for 50 answers without a threshold"), "{text}");
        assert!(text.contains("answers without a threshold; the promise then"), "{text}");
    }

    #[test]
    fn a_patient_promise_says_what_an_owner_loses() {
        let many = Service { shards: 25, unit: PrivacyUnit::Patient, ..service(4, 2, Family::Gaussian) };
        let (advice, text) = advice(many);
        assert_eq!(advice.verdict, Verdict::Useful, "{text}");
        assert!(text.contains("a whole owner moves 25 votes and has epsilon"), "{text}");
        assert!(text.contains("recommended: sigma"), "{text}");
    }

    #[test]
    fn an_exact_release_promises_nothing() {
        let (advice, text) = advice(service(4, 2, Family::Exact));
        assert_eq!(advice.verdict, Verdict::NoPromise);
        assert!(text.contains("no privacy promise") && text.contains("nothing is promised"), "{text}");
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(
            (count(0.67), count(105.2), thousands(1_234_567)),
            ("0.7".into(), "105".into(), "1,234,567".into())
        );
        assert_eq!((span((0.5, 0.5004)), span((0.5, 0.612))), ("50.0 %".into(), "50.0 to 61.2 %".into()));
        assert_eq!((points(0.02), points(0.015)), ("2".into(), "1.5".into()));
    }
}
