//! How a task lets its label out: a mechanism, exactly the keys that it needs, and why others are refused.

use super::Found;
use crate::{
    document::{Document, Section, value},
    error::{Problem, ValueError, quoted},
    fraction::Fraction,
    limits::*,
    roster::{Release, Terms, Unit},
};
use std::ops::{Range, RangeInclusive};
use toml::{Spanned, de::DeValue};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Exact,
    Gaussian,
    Laplace,
}

const MECHANISMS: [(&str, Mechanism); 3] =
    [("exact", Mechanism::Exact), ("gaussian", Mechanism::Gaussian), ("laplace", Mechanism::Laplace)];

/// A key that may be left out: outer `None` when it is there and wrong.
type Given<T> = Option<Option<Spanned<T>>>;

/// All keys that any mechanism has.
struct Draft {
    sigma: Given<Fraction>,
    epsilon_per_answer: Given<Fraction>,
    unit: Given<Unit>,
    epsilon: Given<Fraction>,
    delta: Given<Fraction>,
    client_epsilon: Given<Fraction>,
    software_noise: Given<bool>,
}

/// `place` is where the task starts, to point at when the whole section is missing; `shards` are the models of
/// each owner.
pub(super) fn release(
    document: &Document,
    mut section: Section<'_>,
    place: &Range<usize>,
    shards: &Found<u32>,
) -> Option<Release> {
    if section.is_absent() {
        document.report(|| {
            let help = "add `[task.release]` with `mechanism = \"gaussian\"`, `\"laplace\"` or `\"exact\"`; \
                        there is no default, because it decides what the owners are promised";
            Problem::new("the task does not say how its label is released")
                .at(place.clone(), "this task")
                .help(help.to_owned())
        });
    }
    let place = if section.is_present() { section.place() } else { place.clone() };
    let mechanism = if section.is_present() {
        section.required("mechanism", "mechanism = \"gaussian\"", |found| value::choice(found, &MECHANISMS))
    } else {
        section.optional("mechanism", |found| value::choice(found, &MECHANISMS)).flatten()
    };
    let draft = Draft {
        sigma: section.optional("sigma", |found| bounded(found, &SIGMA_VOTES, SIGMA_TERM_MAX)),
        epsilon_per_answer: section.optional("epsilon_per_answer", epsilon),
        unit: section.optional("unit", |found| value::choice(found, &Unit::NAMES)),
        epsilon: section.optional("epsilon", epsilon),
        delta: section.optional("delta", delta),
        client_epsilon: section.optional("client_epsilon", epsilon),
        software_noise: section.optional("software_noise", value::boolean),
    };
    section.finish();
    if mechanism.as_ref().is_some_and(|mechanism| *mechanism.get_ref() != Mechanism::Exact) {
        unit(document, &draft, shards, &place);
    }
    match *mechanism?.get_ref() {
        Mechanism::Exact => exact(document, &draft),
        Mechanism::Gaussian => gaussian(document, draft, &place),
        Mechanism::Laplace => laplace(document, draft, &place),
    }
}

fn exact(document: &Document, draft: &Draft) -> Option<Release> {
    let reason = "an exact release adds no noise and promises nothing, so there is nothing to set";
    let keys = [
        ("sigma", span(&draft.sigma)),
        ("epsilon_per_answer", span(&draft.epsilon_per_answer)),
        ("unit", span(&draft.unit)),
        ("epsilon", span(&draft.epsilon)),
        ("delta", span(&draft.delta)),
        ("client_epsilon", span(&draft.client_epsilon)),
        ("software_noise", span(&draft.software_noise)),
    ];
    let mut clean = true;
    for (key, span) in keys {
        clean &= !inapplicable(document, "exact", key, span, reason);
    }
    clean.then_some(Release::Exact)
}

fn gaussian(document: &Document, draft: Draft, place: &Range<usize>) -> Option<Release> {
    let reason = "the loss of one answer follows from `sigma`";
    let clean =
        !inapplicable(document, "gaussian", "epsilon_per_answer", span(&draft.epsilon_per_answer), reason);
    let need = |given, key, line| needed(document, "gaussian", given, key, line, place);
    let sigma = need(draft.sigma.clone(), "sigma", "sigma = \"2\"");
    let epsilon = need(draft.epsilon.clone(), "epsilon", "epsilon = \"8\"");
    let delta = need(draft.delta.clone(), "delta", "delta = \"1e-6\"");
    let terms = terms(document, draft, epsilon)?;
    clean.then_some(Release::Gaussian { sigma: sigma?.into_inner(), delta: delta?.into_inner(), terms })
}

fn laplace(document: &Document, draft: Draft, place: &Range<usize>) -> Option<Release> {
    let no_sigma = "its scale follows from `epsilon_per_answer`";
    let no_delta = "its promise has no failure probability";
    let mut clean = !inapplicable(document, "laplace", "sigma", span(&draft.sigma), no_sigma);
    clean &= !inapplicable(document, "laplace", "delta", span(&draft.delta), no_delta);
    let need = |given, key, line| needed(document, "laplace", given, key, line, place);
    let each = need(draft.epsilon_per_answer.clone(), "epsilon_per_answer", "epsilon_per_answer = \"0.5\"");
    let epsilon = need(draft.epsilon.clone(), "epsilon", "epsilon = \"8\"");
    if let (Some(each), Some(epsilon)) = (&each, &epsilon)
        && each.get_ref() > epsilon.get_ref()
    {
        document.report(|| {
            Problem::new("the budget does not pay for a single answer")
                .at(each.span(), format!("each answer costs {}", each.get_ref()))
                .at(epsilon.span(), format!("{} in all", epsilon.get_ref()))
                .help("lower `epsilon_per_answer` (more noise) or raise `epsilon`".to_owned())
        });
    }
    let terms = terms(document, draft, epsilon)?;
    clean.then_some(Release::Laplace { epsilon_per_answer: each?.into_inner(), terms })
}

/// The noise hides one vote, so what the promise covers must have one vote. Reports where it has more.
fn unit(document: &Document, draft: &Draft, shards: &Found<u32>, place: &Range<usize>) {
    let (Some(given), Some(shards)) = (&draft.unit, shards) else { return };
    let covered = given.as_ref().map_or_else(|| place.clone(), Spanned::span);
    let report = |message: String, label: &str, help: &str| {
        document.report(|| {
            let models = format!("models of each owner: {}", shards.get_ref());
            Problem::new(message).at(shards.span(), models).at(covered, label).help(help.to_owned())
        });
    };
    match (given.as_ref().map_or(Unit::Owner, |unit| *unit.get_ref()), *shards.get_ref()) {
        (Unit::Owner, 1) | (Unit::Patient, 2..) => {}
        (Unit::Owner, votes) => report(
            format!("an owner has {votes} votes, and the promise to owners covers one"),
            "covers an owner",
            "write `unit = \"patient\"` into the release if each of these models is trained on patients of its \
             own, or take `shards` out of the task",
        ),
        (Unit::Patient, _) => report(
            "a promise to patients needs several models of each owner".to_owned(),
            "covers a patient",
            "write `shards = 5` (or another number) into the task: each owner then splits its patients into as \
             many parts and publishes one model of each. With a single model write `unit = \"owner\"`, which \
             covers each patient too",
        ),
    }
}

fn terms(document: &Document, draft: Draft, epsilon: Option<Spanned<Fraction>>) -> Option<Terms> {
    if let (Some(Some(client)), Some(epsilon)) = (&draft.client_epsilon, &epsilon)
        && client.get_ref() > epsilon.get_ref()
    {
        document.report(|| {
            Problem::new("a client's budget exceeds that of the owners")
                .at(client.span(), format!("{} for one client", client.get_ref()))
                .at(epsilon.span(), format!("{} in all", epsilon.get_ref()))
                .help("lower `client_epsilon`, or leave it out to let one client use all".to_owned())
        });
    }
    Some(Terms {
        unit: draft.unit?.map_or(Unit::Owner, Spanned::into_inner),
        epsilon: epsilon?.into_inner(),
        client_epsilon: draft.client_epsilon?.map(Spanned::into_inner),
        software_noise: draft.software_noise?.is_some_and(Spanned::into_inner),
    })
}

/// A key without which the mechanism promises nothing.
fn needed<T>(
    document: &Document,
    mechanism: &str,
    given: Given<T>,
    key: &str,
    line: &str,
    place: &Range<usize>,
) -> Option<Spanned<T>> {
    let given = given?;
    if given.is_none() {
        document.report(|| {
            Problem::new(format!("a {mechanism} release needs `{key}`"))
                .at(place.clone(), format!("`{key}` belongs here"))
                .help(format!("add a line such as `{line}`; the README says what it costs"))
        });
    }
    given
}

/// Whether a key is there that the mechanism has no use for; if so, it is reported.
fn inapplicable(
    document: &Document,
    mechanism: &str,
    key: &str,
    span: Option<Range<usize>>,
    reason: &str,
) -> bool {
    let Some(span) = span else { return false };
    document.report(|| {
        Problem::new(format!("`{key}` does not apply to the {mechanism} mechanism"))
            .at(span, "has no effect")
            .help(format!("remove it: {reason}"))
    });
    true
}

fn span<T>(given: &Given<T>) -> Option<Range<usize>> {
    given.as_ref()?.as_ref().map(Spanned::span)
}

fn epsilon(found: &DeValue<'_>) -> Result<Fraction, ValueError> {
    bounded(found, &EPSILON, EPSILON_TERM_MAX)
}

/// Kept as significand and power of ten in the accounts, hence decimal.
fn delta(found: &DeValue<'_>) -> Result<Fraction, ValueError> {
    let delta = bounded(found, &DELTA, u64::MAX)?;
    match delta.significand() {
        Some(digits) if digits <= DELTA_SIGNIFICAND_MAX => Ok(delta),
        _ => {
            Err(ValueError::new("a decimal number of at most six digits, such as `1e-6`", value::kind(found)))
        }
    }
}

/// An exact number, in quotes, within a range, with small enough parts to be computed with exactly.
fn bounded(
    found: &DeValue<'_>,
    range: &RangeInclusive<Fraction>,
    term_max: u64,
) -> Result<Fraction, ValueError> {
    if let DeValue::Integer(_) | DeValue::Float(_) = found {
        let error = ValueError::new("an exact number in quotes", value::kind(found));
        return Err(error.help("put it in quotes: privacy parameters are never rounded".to_owned()));
    }
    let number: Fraction = value::parsed(found)?;
    if !range.contains(&number) {
        let expected = format!("an exact number from {} to {}", range.start(), range.end());
        return Err(ValueError::new(expected, quoted(&number.to_string())));
    }
    if number.numerator().max(number.denominator()) > term_max {
        let expected = format!("a fraction whose parts, in lowest terms, are at most {term_max}");
        let found = format!("{}/{}", number.numerator(), number.denominator());
        return Err(ValueError::new(expected, found).help("write it with fewer digits".to_owned()));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use crate::{
        EXAMPLE_ROSTER,
        document::testing::{edited, roster, roster_refusal},
    };

    #[test]
    fn each_mechanism_takes_its_own_keys_only() {
        for (from, to, expected) in [
            ("mechanism = \"gaussian\"", "", "`task.release.mechanism` is missing"),
            ("mechanism = \"gaussian\"", "mechanism = \"gausian\"", "did you mean `gaussian`?"),
            ("{ mechanism = \"exact\" }", "{}", "`task.release.mechanism` is missing"),
            (
                "release = { mechanism = \"exact\" }",
                "",
                "the task does not say how its label is released | add",
            ),
            ("release = { mechanism = \"exact\" }", "release = 3", "`task.release` must be a table"),
            (
                "\"exact\" }",
                "\"exact\", epsilon = \"1\" }",
                "`epsilon` does not apply to the exact mechanism | remove it",
            ),
            ("\"exact\" }", "\"exact\", software_noise = true }", "an exact release adds no noise"),
            ("sigma = \"2\"", "", "a gaussian release needs `sigma`"),
            ("delta = \"1e-6\"", "", "a gaussian release needs `delta`"),
            ("epsilon = \"8\"", "", "a gaussian release needs `epsilon`"),
            ("delta =", "epsilon_per_answer = \"1\"\ndelta =", "the loss of one answer follows from `sigma`"),
            ("epsilon_per_answer = \"0.5\"", "", "a laplace release needs `epsilon_per_answer`"),
            ("epsilon_per_answer =", "delta = \"1e-9\"\nepsilon_per_answer =", "no failure probability"),
            ("epsilon_per_answer =", "sigma = \"1\"\nepsilon_per_answer =", "its scale follows from"),
            (
                "epsilon_per_answer = \"0.5\"",
                "epsilon_per_answer = \"9\"",
                "does not pay for a single answer",
            ),
            (
                "client_epsilon = \"2\"",
                "client_epsilon = \"8.1\"",
                "a client's budget exceeds that of the owners",
            ),
        ] {
            let found = roster_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
    }

    #[test]
    fn parameters_are_exact_and_in_range() {
        for (from, to, expected) in [
            ("sigma = \"2\"", "sigma = 2.5", "an exact number in quotes | put it in quotes"),
            ("sigma = \"2\"", "sigma = \"0\"", "an exact number from 0.1 to 1000"),
            ("sigma = \"2\"", "sigma = \"-2\"", "an exact number such as"),
            ("delta = \"1e-6\"", "delta = \"0.1\"", "an exact number from 0.000000000000000001 to 0.01"),
            ("epsilon = \"8\"", "epsilon = \"1001\"", "an exact number from 0.001 to 1000"),
            (
                "sigma = \"2\"",
                "sigma = \"2.0000001\"",
                "parts, in lowest terms, are at most 1048576 | write it with",
            ),
            ("delta = \"1e-6\"", "delta = \"1/3000\"", "a decimal number of at most six digits"),
            ("delta = \"1e-6\"", "delta = \"0.0012345678\"", "a decimal number of at most six digits"),
            (
                "unit = \"owner\"",
                "unit = \"hospital\"",
                "`task.release.unit` must be one of `owner`, `patient`",
            ),
            ("software_noise = true", "software_noise = \"yes\"", "without quotes"),
        ] {
            let found = roster_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
    }

    #[test]
    fn what_is_covered_has_one_vote() {
        for (from, to, expected) in [
            (
                "unit = \"owner\"",
                "unit = \"patient\"",
                "needs several models of each owner | write `shards = 5`",
            ),
            ("shards = 5", "shards = 1", "needs several models of each owner"),
            ("shards = 5", "", "needs several models of each owner"),
            (
                "unit = \"patient\"",
                "",
                "an owner has 5 votes, and the promise to owners covers one | write `unit",
            ),
            ("unit = \"patient\"", "unit = \"owner\"", "an owner has 5 votes"),
            ("batch = 1", "batch = 1\nshards = 2", "an owner has 2 votes"),
            ("shards = 5", "shards = 65", "a whole number from 1 to 64"),
            ("shards = 5", "shards = 0", "a whole number from 1 to 64"),
            ("shards = 5", "shards = \"5\"", "must be a whole number"),
        ] {
            let found = roster_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
        // Without noise nothing is promised, and an owner may have any number of votes.
        let text = edited(EXAMPLE_ROSTER, "input_abs_max = 16", "input_abs_max = 16\nshards = 3");
        let task = roster(&text).unwrap().task("digits-exact").cloned().unwrap();
        assert_eq!((task.shards, task.votes()), (3, 6));
    }
}
