//! Forged, replayed, old and forked rosters, each with the reason of its refusal.

use super::*;
use crate::consortium::statement::Signature;
use crate::consortium::trial::{Person, founded, next, people, signed, task, text};
use crate::net::Identity;

/// A consortium of all four at version 2, and its people.
fn grown() -> (VerifiedRoster, VerifiedRoster, [Person; 4]) {
    let people = people();
    let [north, south, west, practice] = &people;
    let first = founded(&[north, south, west], "");
    let version = next(&first, text(&[north, south, west, practice], ""), &[south, west]);
    let second = first.followed_by(version).unwrap();
    (first, second, people)
}

#[test]
fn a_chain_grows_by_the_quorum_of_the_version_before() {
    let (first, second, [north, south, west, practice]) = grown();
    assert_eq!((first.number(), second.number()), (1, 2));
    assert_eq!(second.signers().iter().map(Name::as_str).collect::<Vec<_>>(), ["south", "west"]);
    assert!(second.is_signed_by(west.identity.peer_id()) && !second.is_signed_by(north.identity.peer_id()));
    // North is put out by those two alone, and then has no say in the third.
    let version = next(&second, text(&[&south, &west, &practice], ""), &[&south, &west]);
    let third = second.followed_by(version).unwrap();
    let version = next(&third, text(&[&north, &south, &west, &practice], ""), &[&north, &south]);
    assert!(matches!(third.followed_by(version), Err(RosterFault::NoVote { version: 4, signer })
        if signer == north.identity.peer_id()));
}

#[test]
fn founders_sign_all_and_for_the_consortium_that_was_named() {
    let [north, south, ..] = people();
    let first = founded(&[&north, &south], "");
    let id = first.statement().consortium;
    let version = first.version().clone();
    assert!(VerifiedRoster::founding(version.clone(), Some(id)).is_ok());
    let other = founded(&[&south], "").statement().consortium;
    assert!(matches!(
        VerifiedRoster::founding(version.clone(), Some(other)),
        Err(RosterFault::NotFounding { expected }) if expected == other
    ));
    let mut one = version.clone();
    one.signed.signatures.truncate(1);
    assert!(matches!(
        VerifiedRoster::founding(one, None),
        Err(RosterFault::Quorum { version: 1, found: 1, needed: 2, .. })
    ));
    let mut edited = version.clone();
    edited.text.push_str("# added\n");
    assert!(matches!(VerifiedRoster::founding(edited, None), Err(RosterFault::Text { version: 1 })));
    let later = next(&first, first.text().to_owned(), &[&north, &south]);
    assert!(matches!(VerifiedRoster::founding(later, None), Err(RosterFault::NotFounding { .. })));
}

#[test]
fn too_few_signatures_are_too_few() {
    let (_, second, [north, _, _, practice]) = grown();
    let text = text(&[&north, &practice], "");
    let refused = second.followed_by(next(&second, text.clone(), &[&north])).unwrap_err();
    assert!(matches!(
        refused,
        RosterFault::Quorum { version: 3, found: 1, needed: 2, quorum: Quorum::Majority }
    ));
    let refused = second.followed_by(next(&second, text.clone(), &[])).unwrap_err();
    assert!(matches!(refused, RosterFault::Quorum { found: 0, .. }));
    // A client has no vote, and its signature makes the version worse, not better.
    let refused = second.followed_by(next(&second, text, &[&north, &practice])).unwrap_err();
    assert!(matches!(refused, RosterFault::NoVote { version: 3, .. }));
}

#[test]
fn a_signature_counts_once_for_one_version_and_one_signer() {
    let (first, second, [north, south, west, practice]) = grown();
    let text = text(&[&north, &south, &west, &practice], "# three\n");
    let mut twice = next(&second, text.clone(), &[&north]);
    twice.signed.signatures.push(twice.signed.signatures[0]);
    assert!(matches!(second.followed_by(twice), Err(RosterFault::Twice { version: 3, .. })));
    // South's signature of version 2 does not move to version 3.
    let mut moved = next(&second, text.clone(), &[&north]);
    moved.signed.signatures.push(second.version().signed.signatures[0]);
    assert!(matches!(second.followed_by(moved), Err(RosterFault::Forged { version: 3, signer })
        if signer == south.identity.peer_id()));
    let mut forged = next(&second, text.clone(), &[&north]);
    let made_up = Signature { signer: west.identity.peer_id(), bytes: [7; 64] };
    forged.signed.signatures.push(made_up);
    assert!(matches!(second.followed_by(forged), Err(RosterFault::Forged { version: 3, signer })
        if signer == west.identity.peer_id()));
    let mut claimed = next(&second, text.clone(), &[&north]);
    let stranger = Identity::generate();
    claimed.signed.signatures.push(claimed.statement().sign(&stranger));
    assert!(matches!(second.followed_by(claimed), Err(RosterFault::NoVote { .. })));
    let mut crowd = next(&second, text, &[&north]);
    crowd.signed.signatures = vec![crowd.signed.signatures[0]; SIGNATURES_MAX + 1];
    assert!(matches!(second.followed_by(crowd), Err(RosterFault::Crowded { .. })));
    drop(first);
}

#[test]
fn old_distant_and_foreign_versions_are_refused() {
    let (first, second, [north, south, west, practice]) = grown();
    let refused = second.followed_by(second.version().clone()).unwrap_err();
    assert!(matches!(refused, RosterFault::Old { found: 2, current: 2 }));
    let refused = second.followed_by(first.version().clone()).unwrap_err();
    assert!(matches!(refused, RosterFault::Old { found: 1, current: 2 }));
    let everybody = [&north, &south, &west, &practice];
    let third = second.followed_by(next(&second, text(&everybody, "# 3\n"), &[&north, &south])).unwrap();
    let fourth = next(&third, text(&everybody, "# 4\n"), &[&north, &south]);
    assert!(matches!(second.followed_by(fourth), Err(RosterFault::Gap { found: 4, current: 2 })));
    let elsewhere = founded(&[&north, &south, &west], "# elsewhere\n");
    let foreign = next(&elsewhere, text(&everybody, ""), &[&north, &south]);
    assert!(matches!(first.followed_by(foreign), Err(RosterFault::OtherConsortium { .. })));
}

#[test]
fn two_rosters_of_one_version_are_a_fork_and_name_who_signed_both() {
    let (first, second, [north, south, west, practice]) = grown();
    let other = next(&first, text(&[&north, &south, &practice], "# other\n"), &[&north, &south]);
    let refused = second.followed_by(other.clone()).unwrap_err();
    assert!(matches!(refused, RosterFault::Fork { version: 2, .. }));
    assert!(refused.to_string().starts_with("FORK"), "{refused}");
    let other = first.followed_by(other).unwrap();
    assert_eq!(signed_both(&second, &other), ["south".parse().unwrap()]);
    // What follows the other branch shows the fork too.
    let after = next(&other, text(&[&north, &south], ""), &[&north, &south]);
    assert!(matches!(second.followed_by(after), Err(RosterFault::Fork { version: 2, .. })));
    drop(west);
}

#[test]
fn a_changed_text_is_not_the_signed_one() {
    let (_, second, [north, south, west, practice]) = grown();
    let plain = text(&[&north, &south, &west, &practice], "");
    let mut changed = next(&second, plain.clone(), &[&north, &south]);
    changed.text = changed.text.replace("4000", "4999");
    assert!(matches!(second.followed_by(changed), Err(RosterFault::Text { version: 3 })));
    let broken = next(&second, format!("{plain}nonsense"), &[&north, &south]);
    assert!(matches!(second.followed_by(broken), Err(RosterFault::Invalid { version: 3, .. })));
    let closed = next(&second, text(&[&practice], ""), &[&north, &south]);
    assert!(matches!(second.followed_by(closed), Err(RosterFault::NoVoters { version: 3 })));
    let mut far = next(&second, plain, &[]);
    far.signed.statement.at = u64::MAX;
    let far = signed(far, &[&north, &south]);
    assert!(matches!(second.followed_by(far), Err(RosterFault::Moment { version: 3 })));
}

#[test]
fn the_roster_itself_says_how_many_must_sign() {
    let people = people();
    let [north, south, west, practice] = &people;
    let all = |more: &str| {
        text(&[north, south, west, practice], more)
            .replace("name = \"Trial\"", "name = \"Trial\"\nquorum = \"all\"")
    };
    let first = founded(&[north, south, west], "");
    let second = first.followed_by(next(&first, all(""), &[north, south])).unwrap();
    let refused = second.followed_by(next(&second, all("# 3\n"), &[north, south])).unwrap_err();
    assert!(matches!(refused, RosterFault::Quorum { found: 2, needed: 3, quorum: Quorum::All, .. }));
    second.followed_by(next(&second, all("# 3\n"), &[north, south, west])).unwrap();
}

#[test]
fn who_computes_a_task_of_mine_is_noticed() {
    let people = people();
    let [north, south, west, practice] = &people;
    let members = [north, south, practice];
    let first = founded(&[north, south, west, practice], &task("north", "south", "practice"));
    let east = Person::new("east", "\"compute\"");
    let moved = text(&[north, south, &east, practice], &task("north", "east", "practice"));
    let version = first.followed_by(next(&first, moved, &[north, south])).unwrap();
    for person in members {
        let key = person.identity.peer_id().to_string();
        assert_eq!(
            version.roster().tasks_moved(&first.roster().recipients(&key), &key),
            ["digits".parse::<Name>().unwrap()]
        );
    }
    let key = west.identity.peer_id().to_string();
    assert_eq!(version.roster().tasks_moved(&first.roster().recipients(&key), &key), [] as [Name; 0]);
    let key = practice.identity.peer_id().to_string();
    assert_eq!(first.roster().tasks_moved(&first.roster().recipients(&key), &key), [] as [Name; 0]);
}
