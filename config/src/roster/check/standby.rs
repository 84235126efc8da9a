//! Further pairs of a task: other members than those before them, and slices that leave something.

use super::{named_pairs, pair_called, unique};
use crate::{
    document::Document,
    error::Problem,
    fraction::Fraction,
    limits::SLICE,
    name::Name,
    roster::{
        read::{PairDraft, StandbyDraft, TaskDraft},
        standby::first_slice,
    },
};
use toml::Spanned;

pub(super) fn standby(document: &Document, pairs: &[PairDraft], task: &TaskDraft) {
    let Some(further) = &task.standby else { return };
    unique(document, "pair of the task", named_pairs(task));
    seats(document, pairs, task);
    let Some(release) = &task.release else { return };
    let noisy = release.release.terms().is_some();
    let faults = further.iter().filter(|one| !slice_fits(document, one, noisy)).count();
    if noisy && faults == 0 {
        rest(document, task, further);
    }
}

/// Nobody sits in two pairs of a task: who is down must not take both with it, and a node has one seat.
fn seats(document: &Document, pairs: &[PairDraft], task: &TaskDraft) {
    let mut seen: Vec<(&Spanned<Name>, &Name)> = Vec::new();
    for name in named_pairs(task) {
        let Some(pair) = pair_called(pairs, name) else { continue };
        let members = [&pair.zero, &pair.one].into_iter().flatten().map(Spanned::get_ref);
        for member in members {
            let earlier =
                seen.iter().find(|(other, seated)| *seated == member && other.get_ref() != name.get_ref());
            if let Some((other, _)) = earlier {
                document.report(|| {
                    let (one, two) = (other.get_ref(), name.get_ref());
                    Problem::new(format!("member `{member}` computes in both `{one}` and `{two}`"))
                        .at(name.span(), "in this pair")
                        .at(other.span(), "and in this one")
                        .help(
                            "name pairs of different members for one task: a member that is down would take both \
                             with it, and one node has one seat"
                                .to_owned(),
                        )
                });
            }
            seen.push((name, member));
        }
    }
}

/// A slice of what there is.
fn slice_fits(document: &Document, standby: &StandbyDraft, noisy: bool) -> bool {
    match (&standby.slice, noisy) {
        // It was reported where it was read.
        (None, _) => false,
        (Some(Some(_)), true) | (Some(None), false) => true,
        (Some(None), true) => {
            document.report(|| {
                Problem::new("the pair has no slice of the budget")
                    .at(standby.place.clone(), "`slice` belongs here")
                    .help(
                        "add a line such as `slice = \"0.3\"`: the part of every owner's and client's budget that \
                         this pair may spend; the first pair has the rest"
                            .to_owned(),
                    )
            });
            false
        }
        (Some(Some(slice)), false) => {
            document.report(|| {
                Problem::new("an exact release has no budget, so there is nothing to take a slice of")
                    .at(slice.span(), "a slice")
                    .help("remove it".to_owned())
            });
            false
        }
    }
}

/// The first pair keeps something.
fn rest(document: &Document, task: &TaskDraft, further: &[StandbyDraft]) {
    let slices = || further.iter().filter_map(|one| one.slice.as_ref()?.as_ref());
    let Some(last) = slices().next_back() else { return };
    let first = first_slice(slices().map(|slice| *slice.get_ref()));
    let enough = |rest: &Fraction| SLICE.contains(rest);
    if first.as_ref().is_some_and(enough) {
        return;
    }
    document.report(|| {
        let problem = Problem::new("the slices leave nothing for the first pair")
            .at(last.span(), "with all slices before it");
        let problem = match &task.pair {
            Some(pair) => problem.at(pair.span(), "has what the slices leave of 1"),
            None => problem,
        };
        problem.help(format!("lower them: together they stay below 1 by {} at least", SLICE.start()))
    });
}

#[cfg(test)]
mod tests {
    use crate::{
        EXAMPLE_ROSTER, Fraction,
        document::testing::{edited, only, roster, roster_refusal},
        roster::{Roster, Task},
    };
    use proptest::prelude::*;

    const STANDBY: &str = "pair = \"second\"\nslice = \"0.3\"";

    fn task(roster: &Roster) -> &Task {
        roster.task("readmission-twice").unwrap()
    }

    fn number(text: &str) -> Fraction {
        text.parse().unwrap()
    }

    #[test]
    fn each_pair_has_its_slice_and_the_first_one_the_rest() {
        let roster = roster(EXAMPLE_ROSTER).unwrap();
        let task = task(&roster);
        assert_eq!(task.pairs().map(|name| name.as_str()).collect::<Vec<_>>(), ["main", "second"]);
        assert_eq!(
            [task.slice_of("main"), task.slice_of("second")],
            ["0.7", "0.3"].map(|text| Some(number(text)))
        );
        assert_eq!(task.slice_of("third"), None);
        let alone = roster.task("readmission").unwrap();
        assert_eq!((alone.slice_of("main"), alone.pairs().count()), (None, 1));
        let seats = roster.seats_of(task).unwrap();
        let zeros: Vec<_> =
            seats.iter().map(|(pair, seats)| (pair.name.as_str(), seats.zero.name.as_str())).collect();
        assert_eq!(zeros, [("main", "north"), ("second", "harbour")]);
        assert_eq!(roster.seat_in(task, "lakeside").unwrap().name.as_str(), "second");
        assert!(roster.seat_in(task, "west").is_none() && roster.seat_in(alone, "lakeside").is_none());
    }

    #[test]
    fn pairs_and_slices_that_do_not_fit_are_refused() {
        for (to, expected) in [
            ("pair = \"secnd\"\nslice = \"0.3\"", "there is no pair called `secnd` | did you mean `second`?"),
            ("slice = \"0.3\"", "`task.standby.pair` is missing | add a line such as `pair = \"second\"`"),
            ("pair = \"main\"\nslice = \"0.3\"", "pair of the task `main` stands here twice"),
            (
                "pair = \"second\"",
                "the pair has no slice of the budget | add a line such as `slice = \"0.3\"`",
            ),
            ("pair = \"second\"\nslice = 0.3", "`task.standby.slice` must be an exact number in quotes"),
            (
                "pair = \"second\"\nslice = \"1\"",
                "`task.standby.slice` must be an exact number from 0.001 to 0.999",
            ),
            ("pair = \"second\"\nslice = \"1/1001\"", "`task.standby.slice` must be"),
            (
                "pair = \"second\"\nslice = \"0.3001\"",
                "a fraction whose parts, in lowest terms, are at most 1000",
            ),
        ] {
            let found = roster_refusal(STANDBY, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
        let exact = "release = { mechanism = \"exact\" }";
        let found =
            roster_refusal(exact, &format!("{exact}\nstandby = [{{ pair = \"second\", slice = \"0.5\" }}]"));
        assert_eq!(
            found,
            "an exact release has no budget, so there is nothing to take a slice of | remove it"
        );
        let text = edited(EXAMPLE_ROSTER, exact, &format!("{exact}\nstandby = [{{ pair = \"second\" }}]"));
        let sound = roster(&text).unwrap();
        let exact = sound.task("digits-exact").unwrap();
        assert_eq!(
            (exact.pairs().count(), exact.slice_of("main"), exact.slice_of("second")),
            (2, None, None)
        );
        assert_eq!(roster(&sound.to_toml()).unwrap(), sound);
        let four = format!("[{}]", "{ pair = \"second\" }, ".repeat(4));
        let found = only(&roster(&edited(&text, "[{ pair = \"second\" }]", &four)).unwrap_err());
        assert!(found.starts_with("`task.standby` must be at most 3 tables"), "{found}");
    }

    #[test]
    fn a_member_sits_in_one_pair_of_a_task() {
        let text = edited(EXAMPLE_ROSTER, "one = \"lakeside\"", "one = \"south\"");
        let found = only(&roster(&text).unwrap_err());
        assert!(
            found.starts_with("member `south` computes in both `main` and `second` | name pairs of"),
            "{found}"
        );
    }

    #[test]
    fn comparison_keys_need_a_dealer_in_every_pair() {
        let title = "title = \"Readmission within 30 days, with a second pair\"";
        let text = edited(EXAMPLE_ROSTER, title, &format!("{title}\ncomparison = \"keys\""));
        let found = only(&roster(&text).unwrap_err());
        assert!(found.starts_with("comparison keys need a dealer"), "{found}");
    }

    #[test]
    fn the_first_pair_keeps_something() {
        let more = |slices: [&str; 2]| {
            let [second, third] = slices;
            let text = format!(
                "pair = \"second\"\nslice = \"{second}\"\n[[task.standby]]\npair = \"third\"\nslice = \"{third}\""
            );
            let text = edited(EXAMPLE_ROSTER, STANDBY, &text);
            let members = ["x", "y"].map(|name| {
                format!(
                    "[[member]]\nname = \"{name}\"\npeer = \"{}\"\naddresses = [\"/dns4/{name}.example/tcp/4710\"]\n\
                     roles = [\"compute\"]\n",
                    name.repeat(52)
                )
            });
            let pair = "[[pair]]\nname = \"third\"\nzero = \"x\"\none = \"y\"\n";
            roster(&format!("{text}\n{}{pair}", members.concat()))
        };
        let found = more(["0.3", "1/3"]).unwrap();
        let slices = ["main", "second", "third"].map(|pair| task(&found).slice_of(pair).unwrap());
        assert_eq!(slices, ["11/30", "3/10", "1/3"].map(number));
        for slices in [["0.5", "0.5"], ["0.999", "0.002"], ["0.9995", "0.5"], ["998/999", "1/999"]] {
            assert!(more(slices).is_err(), "{slices:?}");
        }
        let found = only(&more(["0.5", "0.5"]).unwrap_err());
        assert_eq!(
            found,
            "the slices leave nothing for the first pair | lower them: together they stay below 1 by 0.001 at least"
        );
    }

    #[test]
    fn digests_cover_the_pairs_and_their_slices() {
        let digests = |text: &str| {
            let roster = roster(text).unwrap();
            (roster.digest(), task(&roster).digest())
        };
        let (whole, of_task) = digests(EXAMPLE_ROSTER);
        assert_eq!(digests(&edited(EXAMPLE_ROSTER, "slice = \"0.3\"", "slice = \"3/10\"")), (whole, of_task));
        for to in ["slice = \"0.4\"", "slice = \"0.301\""] {
            let (changed, changed_task) = digests(&edited(EXAMPLE_ROSTER, "slice = \"0.3\"", to));
            assert!(changed != whole && changed_task != of_task, "{to}");
        }
        let (changed, changed_task) =
            digests(&edited(EXAMPLE_ROSTER, &format!("[[task.standby]]\n{STANDBY}"), ""));
        assert!(changed != whole && changed_task != of_task);
    }

    proptest! {
        #[test]
        fn the_slices_of_a_task_sum_to_exactly_one(parts in proptest::collection::vec((1_u64..=300, 301_u64..=1000), 1..=3)) {
            let mut task = task(&roster(EXAMPLE_ROSTER).unwrap()).clone();
            task.standby = (0..).zip(&parts).map(|(at, (above, below))| crate::Standby {
                pair: format!("p{at}").parse().unwrap(),
                slice: Fraction::new(*above, *below),
            }).collect();
            let whole = task.pairs().map(|pair| task.slice_of(pair.as_str()));
            let sum = whole.reduce(|sum, slice| sum?.plus(slice?)).flatten();
            // Where the slices of others pass one, the check above refuses the roster.
            prop_assert!(sum == Fraction::new(1, 1) || task.slice_of("main").is_none());
        }
    }
}
