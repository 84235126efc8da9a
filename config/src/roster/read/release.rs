//! How a task lets its label out: a mechanism, exactly the keys that it needs, and why others are refused.

use super::Found;
use crate::{
    document::{Document, Section, value},
    error::{Problem, ValueError, quoted},
    fraction::Fraction,
    limits::*,
    roster::{NOISE_WORDS, Release, Terms, Unit},
};
use consilium_attest::choice::NoiseRule;
use std::ops::{Range, RangeInclusive};
use toml::{Spanned, de::DeValue};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Exact,
    Gaussian,
    ConfidentGaussian,
    Laplace,
}

const MECHANISMS: [(&str, Mechanism); 4] = [
    ("exact", Mechanism::Exact),
    ("gaussian", Mechanism::Gaussian),
    ("confident-gaussian", Mechanism::ConfidentGaussian),
    ("laplace", Mechanism::Laplace),
];

/// The words of all mechanisms.
pub(in crate::roster) fn mechanism_words() -> Vec<&'static str> {
    MECHANISMS.iter().map(|(word, _)| *word).collect()
}

/// A key that may be left out: outer `None` when it is there and wrong.
type Given<T> = Option<Option<Spanned<T>>>;

/// A release, and where it says how many must agree and who draws the noise, if it does.
pub(in crate::roster) struct ReleaseDraft {
    pub(in crate::roster) release: Release,
    pub(in crate::roster) threshold: Option<Spanned<u32>>,
    pub(in crate::roster) noise: Option<Spanned<NoiseRule>>,
}

impl From<Release> for ReleaseDraft {
    fn from(release: Release) -> Self {
        Self { release, threshold: None, noise: None }
    }
}

/// All keys that any mechanism has.
struct Draft {
    sigma: Given<Fraction>,
    threshold: Given<u32>,
    threshold_sigma: Given<Fraction>,
    epsilon_per_answer: Given<Fraction>,
    unit: Given<Unit>,
    epsilon: Given<Fraction>,
    delta: Given<Fraction>,
    client_epsilon: Given<Fraction>,
    noise: Given<NoiseRule>,
}

/// `place` is where the task starts, to point at when the whole section is missing; `shards` are the models of
/// each owner.
pub(super) fn release(
    document: &Document,
    mut section: Section<'_>,
    place: &Range<usize>,
    shards: &Found<u32>,
) -> Option<ReleaseDraft> {
    if section.is_absent() {
        document.report(|| {
            let help = "add `[task.release]` with `mechanism = \"gaussian\"`, `\"confident-gaussian\"`, \
                        `\"laplace\"` or `\"exact\"`; there is no default, because it decides what the owners \
                        are promised";
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
        sigma: section.optional("sigma", sigma),
        threshold: section.optional("threshold", |found| value::whole(found, &THRESHOLD_VOTES)),
        threshold_sigma: section.optional("threshold_sigma", sigma),
        epsilon_per_answer: section.optional("epsilon_per_answer", epsilon),
        unit: section.optional("unit", |found| value::choice(found, &Unit::NAMES)),
        epsilon: section.optional("epsilon", epsilon),
        delta: section.optional("delta", delta),
        client_epsilon: section.optional("client_epsilon", epsilon),
        noise: section.optional("noise", |found| value::choice(found, &NOISE_WORDS)),
    };
    let noisy = mechanism.as_ref().map(|mechanism| *mechanism.get_ref() != Mechanism::Exact);
    let leftover = section.retired(
        "software_noise",
        "`software_noise` is now `noise`",
        if noisy == Some(false) {
            EXACT
        } else {
            "`software_noise = true` is now `noise = \"software\"`; `false`, \
            which let only a module draw, is now `noise = \"module\"`"
        },
    );
    section.finish();
    if noisy == Some(true) {
        unit(document, &draft, shards, &place);
        if !leftover {
            source(document, &draft.noise, &place);
        }
    }
    let noise = draft.noise.clone().flatten();
    match *mechanism?.get_ref() {
        Mechanism::Exact => exact(document, &draft).map(Into::into),
        Mechanism::Gaussian => gaussian(document, draft, &place).map(Into::into),
        Mechanism::ConfidentGaussian => confident_gaussian(document, draft, &place),
        Mechanism::Laplace => laplace(document, draft, &place).map(Into::into),
    }
    .map(|draft| ReleaseDraft { noise, ..draft })
}

const EXACT: &str = "remove it: an exact release adds no noise";

/// There is noise, so somebody draws it, and all members sign who.
fn source(document: &Document, noise: &Given<NoiseRule>, place: &Range<usize>) {
    if matches!(noise, Some(None)) {
        document.report(|| {
            let help = "write `noise = \"software\"` (each compute party adds a full draw of its own), `\"module\"` \
                        (the attested module of `[module]` adds one draw that nobody knows, or there is no answer) or \
                        `\"module-else-software\"` (the module, and software while it cannot be reached); there is \
                        no default, because all members sign what they rely on";
            Problem::new("the release does not say who draws its noise")
                .at(place.clone(), "`noise` belongs here")
                .help(help.to_owned())
        });
    }
}

fn exact(document: &Document, draft: &Draft) -> Option<Release> {
    let reason = "an exact release adds no noise and promises nothing, so there is nothing to set";
    let keys = [
        ("sigma", span(&draft.sigma)),
        ("threshold", span(&draft.threshold)),
        ("threshold_sigma", span(&draft.threshold_sigma)),
        ("epsilon_per_answer", span(&draft.epsilon_per_answer)),
        ("unit", span(&draft.unit)),
        ("epsilon", span(&draft.epsilon)),
        ("delta", span(&draft.delta)),
        ("client_epsilon", span(&draft.client_epsilon)),
        ("noise", span(&draft.noise)),
    ];
    let mut clean = true;
    for (key, span) in keys {
        clean &= !inapplicable(document, "exact", key, span, reason);
    }
    clean.then_some(Release::Exact)
}

const LOSS_FROM_SIGMA: &str = "the loss of one answer follows from `sigma`";

/// Whether a release without a threshold was given one; if so, it is reported.
fn threshold_given(document: &Document, mechanism: &str, draft: &Draft) -> bool {
    let reason =
        "it always gives an answer; `mechanism = \"confident-gaussian\"` is the one with a threshold";
    let keys = [("threshold", span(&draft.threshold)), ("threshold_sigma", span(&draft.threshold_sigma))];
    let given = keys.map(|(key, span)| inapplicable(document, mechanism, key, span, reason));
    given.contains(&true)
}

fn gaussian(document: &Document, draft: Draft, place: &Range<usize>) -> Option<Release> {
    let each = span(&draft.epsilon_per_answer);
    let mut clean = !inapplicable(document, "gaussian", "epsilon_per_answer", each, LOSS_FROM_SIGMA);
    clean &= !threshold_given(document, "gaussian", &draft);
    let need = |given, key, line| needed(document, "gaussian", given, key, line, place);
    let sigma = need(draft.sigma.clone(), "sigma", "sigma = \"2\"");
    let epsilon = need(draft.epsilon.clone(), "epsilon", "epsilon = \"8\"");
    let delta = need(draft.delta.clone(), "delta", "delta = \"1e-6\"");
    let terms = terms(document, draft, epsilon)?;
    clean.then_some(Release::Gaussian { sigma: sigma?.into_inner(), delta: delta?.into_inner(), terms })
}

fn confident_gaussian(document: &Document, draft: Draft, place: &Range<usize>) -> Option<ReleaseDraft> {
    const NAME: &str = "confident-gaussian";
    let each = span(&draft.epsilon_per_answer);
    let reason = "the loss of one attempt follows from `sigma` and `threshold_sigma`";
    let clean = !inapplicable(document, NAME, "epsilon_per_answer", each, reason);
    let need = |given, key, line| needed(document, NAME, given, key, line, place);
    let sigma = need(draft.sigma.clone(), "sigma", "sigma = \"2\"");
    let threshold = needed(document, NAME, draft.threshold.clone(), "threshold", "threshold = 30", place);
    let threshold_sigma = need(draft.threshold_sigma.clone(), "threshold_sigma", "threshold_sigma = \"2\"");
    let epsilon = need(draft.epsilon.clone(), "epsilon", "epsilon = \"8\"");
    let delta = need(draft.delta.clone(), "delta", "delta = \"1e-6\"");
    let terms = terms(document, draft, epsilon)?;
    let threshold = threshold?;
    let release = Release::ConfidentGaussian {
        sigma: sigma?.into_inner(),
        threshold: *threshold.get_ref(),
        threshold_sigma: threshold_sigma?.into_inner(),
        delta: delta?.into_inner(),
        terms,
    };
    clean.then_some(ReleaseDraft { release, threshold: Some(threshold), noise: None })
}

fn laplace(document: &Document, draft: Draft, place: &Range<usize>) -> Option<Release> {
    let no_sigma = "its scale follows from `epsilon_per_answer`";
    let no_delta = "its promise has no failure probability";
    let mut clean = !inapplicable(document, "laplace", "sigma", span(&draft.sigma), no_sigma);
    clean &= !inapplicable(document, "laplace", "delta", span(&draft.delta), no_delta);
    clean &= !threshold_given(document, "laplace", &draft);
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
        noise: draft.noise??.into_inner(),
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

fn sigma(found: &DeValue<'_>) -> Result<Fraction, ValueError> {
    bounded(found, &SIGMA_VOTES, SIGMA_TERM_MAX)
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

/// The part of a budget that one pair may spend.
pub(super) fn slice(found: &DeValue<'_>) -> Result<Fraction, ValueError> {
    bounded(found, &SLICE, SLICE_TERM_MAX)
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
    use crate::document::testing::{edited, only, roster, roster_refusal};
    use crate::{EXAMPLE_ROSTER, Release};

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
            ("\"exact\" }", "\"exact\", noise = \"module\" }", "an exact release adds no noise"),
            (
                "\"exact\" }",
                "\"exact\", software_noise = true }",
                "| remove it: an exact release adds no noise",
            ),
            ("sigma = \"2\"", "", "a gaussian release needs `sigma`"),
            ("delta =", "threshold = 3\ndelta =", "`threshold` does not apply to the gaussian mechanism"),
            ("delta =", "threshold_sigma = \"3\"\ndelta =", "it always gives an answer; `mechanism ="),
            ("epsilon_per_answer =", "threshold = 3\nepsilon_per_answer =", "does not apply to the laplace"),
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

    const THREE_KEYS: &str = "threshold = 3\nthreshold_sigma = \"3/2\"\nsigma = \"2\"";

    /// The example's first task, which has three owners, as one that may find no consensus.
    fn confident() -> String {
        let text = edited(EXAMPLE_ROSTER, "mechanism = \"gaussian\"", "mechanism = \"confident-gaussian\"");
        edited(&text, "sigma = \"2\"", THREE_KEYS)
    }

    #[test]
    fn a_confident_release_says_how_many_must_agree() {
        let read = roster(&confident()).unwrap();
        let Release::ConfidentGaussian { sigma, threshold, threshold_sigma, .. } = &read.tasks()[0].release
        else {
            panic!("{:?}", read.tasks()[0].release)
        };
        assert_eq!(
            (sigma.to_string(), *threshold, threshold_sigma.to_string()),
            ("2".into(), 3, "1.5".into())
        );
        assert_eq!(roster(&read.to_toml()).unwrap(), read);
        for (from, to, expected) in [
            ("threshold = 3\n", "", "a confident-gaussian release needs `threshold` | add a line such as"),
            ("threshold_sigma = \"3/2\"\n", "", "a confident-gaussian release needs `threshold_sigma`"),
            ("sigma = \"2\"", "", "a confident-gaussian release needs `sigma`"),
            ("delta = \"1e-6\"", "", "a confident-gaussian release needs `delta`"),
            ("delta =", "epsilon_per_answer = \"1\"\ndelta =", "the loss of one attempt follows from"),
            ("threshold = 3\n", "threshold = 0\n", "a whole number from 1 to 65536"),
            ("threshold = 3\n", "threshold = \"3\"\n", "write it without quotes"),
            (
                "threshold = 3\n",
                "threshold = 4\n",
                "the threshold asks for more votes than there are | lower",
            ),
            ("\"3/2\"", "1.5", "an exact number in quotes | put it in quotes"),
            (
                "mechanism = \"confident-gaussian\"",
                "mechanism = \"confident\"",
                "`task.release.mechanism` must be one of",
            ),
        ] {
            let found = only(&roster(&edited(&confident(), from, to)).unwrap_err());
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
    }

    #[test]
    fn all_of_a_confident_release_is_in_the_digest() {
        let digest = |text: &str| roster(text).unwrap().tasks()[0].digest();
        let whole = digest(&confident());
        for (from, to) in [
            ("threshold = 3\n", "threshold = 2\n"),
            ("threshold_sigma = \"3/2\"", "threshold_sigma = \"2\""),
            ("\nsigma = \"2\"", "\nsigma = \"3/2\""),
            ("delta = \"1e-6\"", "delta = \"1e-7\""),
        ] {
            assert_ne!(digest(&edited(&confident(), from, to)), whole, "{to:?}");
        }
        assert_ne!(digest(EXAMPLE_ROSTER), whole);
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
        ] {
            let found = roster_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
    }

    #[test]
    fn who_draws_the_noise_is_said_by_name() {
        let line = "\nnoise = \"software\"";
        for (to, expected) in [
            (
                "",
                "the release does not say who draws its noise | write `noise = \"software\"` (each compute party",
            ),
            (
                "",
                "`\"module\"` (the attested module of `[module]` adds one draw that nobody knows, or there is no",
            ),
            (
                "",
                "`\"module-else-software\"` (the module, and software while it cannot be reached); there is no default",
            ),
            ("\nnoise = true", "must be one of `software`, `module`, `module-else-software`"),
            ("\nnoise = \"modul\"", "did you mean `module`?"),
            ("\nnoize = \"module\"", "did you mean `noise`?"),
            (
                "\nsoftware_noise = true",
                "`software_noise` is now `noise` | `software_noise = true` is now `noise = \"software\"`",
            ),
            ("\nsoftware_noise = 3", "`false`, which let only a module draw, is now `noise = \"module\"`"),
        ] {
            let error = roster(&edited(EXAMPLE_ROSTER, line, to)).unwrap_err();
            let found = error.problems().iter().map(|one| format!("{one} | {}", one.advice().unwrap_or("-")));
            assert!(
                found.clone().any(|one| one.contains(expected)),
                "{to:?} gave {:?}",
                found.collect::<Vec<_>>()
            );
            assert_eq!(error.problems().len(), if to.contains("noize") { 2 } else { 1 }, "{to:?}");
        }
        // Both keys: the new one holds, and the old one must go.
        let found = roster_refusal(line, "\nnoise = \"software\"\nsoftware_noise = true");
        assert!(found.starts_with("`software_noise` is now `noise`"), "{found}");
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
