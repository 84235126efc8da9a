//! Several councils in one process, which hear of each other only what the tests pass on.

use super::*;
use crate::consortium::RosterFault;
use crate::consortium::invitation::{Application, Invitation};
use crate::consortium::trial::{Person, founded, next, people, task, text};
use crate::message::Obstacle;
use consilium_config::Role;
use tempfile::TempDir;

struct Seat {
    council: Council,
    folder: TempDir,
}

impl Seat {
    fn new(person: &Person, versions: &[&VerifiedRoster]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::beneath(folder.path());
        store.prepare().unwrap();
        for version in versions {
            store.write_version(version.version()).unwrap();
        }
        Self { council: council(&folder, person), folder }
    }

    /// The same node after its process ended.
    fn again(self, person: &Person) -> Self {
        let Self { council: ended, folder } = self;
        drop(ended);
        Self { council: council(&folder, person), folder }
    }
}

fn council(folder: &TempDir, person: &Person) -> Council {
    let store = Store::beneath(folder.path());
    let chain = store.load().unwrap().unwrap();
    Council::start(store, chain, Arc::new(person.identity.clone())).unwrap()
}

/// What `from` has and `to` lacks, as the network would carry it.
fn pass(from: &Council, to: &Council) {
    let hello = from.hello();
    to.heard(from.peer_id(), &hello).unwrap();
    to.take(from.versions_from(to.version() + 1, 1 << 20).unwrap()).unwrap();
    for proposal in to.lacking(&hello) {
        to.merge(from.proposal(proposal).unwrap()).unwrap();
    }
}

/// All four at version 1, three councils.
fn three() -> (VerifiedRoster, [Person; 4], [Seat; 3]) {
    let people = people();
    let [north, south, west, practice] = &people;
    let first = founded(&[north, south, west, practice], &task("north", "south", "practice"));
    let seats = [north, south, west].map(|person| Seat::new(person, &[&first]));
    (first, people, seats)
}

fn is_superseded(council: &Council) -> bool {
    *council.superseded.borrow()
}

#[test]
fn signatures_come_together_and_a_quorum_puts_the_version_in_force() {
    let (first, [north, south, west, _], [a, b, c]) = three();
    let text = format!("{}# two\n", first.text());
    let (proposal, signing) = a.council.propose(text.clone(), false).unwrap();
    assert_eq!((signing, a.council.version()), (Signing::Pending, 1));
    pass(&a.council, &b.council);
    assert_eq!(b.council.version(), 1, "one signature of three is no quorum");
    let (signed, signing) = b.council.sign(&proposal.to_string()[..6], false).unwrap();
    assert_eq!((signed, signing), (proposal, Signing::Reached));
    assert_eq!(b.council.version(), 2);
    assert!(is_superseded(&b.council) && !is_superseded(&a.council));
    // South has it from both sides; west, which slept, from either.
    pass(&b.council, &a.council);
    pass(&a.council, &c.council);
    let restarted = c.again(&west);
    for council in [&a.council, &b.council, &restarted.council] {
        assert_eq!((council.version(), council.hello().in_force), (2, 2));
        assert_eq!(council.look(|state| state.head.text().to_owned()), text);
        assert!(council.look(|state| state.proposals.is_empty()));
    }
    assert!(!is_superseded(&restarted.council), "a start by the last version is not followed by another");
    drop((north, south));
}

#[test]
fn a_node_signs_one_proposal_a_version_even_after_a_restart() {
    let (first, [north, ..], [a, ..]) = three();
    let (one, _) = a.council.propose(format!("{}# one\n", first.text()), false).unwrap();
    let a = a.again(&north);
    let other = format!("{}# other\n", first.text());
    let refused = a.council.propose(other.clone(), false).unwrap_err();
    assert!(matches!(refused, ConsortiumError::SignedAnother(short) if one.to_string().starts_with(&short)));
    assert!(a.council.propose(other, true).is_ok());
    let refused = a.council.propose(first.text().to_owned(), false).unwrap_err();
    assert!(matches!(refused, ConsortiumError::Unchanged));
    assert!(matches!(a.council.sign("", false).unwrap_err(), ConsortiumError::Ambiguous(_)));
    assert!(matches!(a.council.sign("zz", false).unwrap_err(), ConsortiumError::NoProposal(_)));
}

#[test]
fn a_client_has_no_vote_and_a_bad_text_no_proposal() {
    let (first, [_, _, _, practice], [a, ..]) = three();
    let clinic = Seat::new(&practice, &[&first]);
    let text = format!("{}# x\n", first.text());
    assert!(matches!(clinic.council.propose(text, false), Err(ConsortiumError::NoVote)));
    let wrong = first.text().replace("zero = \"north\"", "zero = \"nobody\"");
    let refused = a.council.propose(wrong, false).unwrap_err();
    assert!(matches!(refused, ConsortiumError::Fault(RosterFault::Invalid { version: 2, .. })), "{refused}");
}

#[test]
fn forged_and_lone_proposals_do_not_pile_up() {
    let (first, [north, ..], [_, b, _]) = three();
    let proposed = |number: usize| next(&first, format!("{}# {number}\n", first.text()), &[&north]);
    for number in 0..LONE_MAX {
        assert!(b.council.merge(proposed(number)).unwrap());
        assert!(!b.council.merge(proposed(number)).unwrap(), "nothing new");
    }
    assert!(matches!(b.council.merge(proposed(99)), Err(ConsortiumError::Crowded)));
    let mut forged = proposed(0);
    forged.signed.signatures[0].bytes[3] ^= 1;
    assert!(matches!(b.council.merge(forged), Err(ConsortiumError::Fault(RosterFault::Forged { .. }))));
    let unsigned = next(&first, format!("{}# none\n", first.text()), &[]);
    assert!(!b.council.merge(unsigned).unwrap());
    assert_eq!(b.council.hello().proposals.len(), LONE_MAX);
}

#[test]
fn stale_forked_and_foreign_peers_are_told_apart_and_refused() {
    let (first, [north, south, west, practice], [a, b, _]) = three();
    let peer = south.identity.peer_id();
    assert_eq!(a.council.admits(peer), Ok(()), "nothing is known yet");
    let second = next(&first, format!("{}# two\n", first.text()), &[&north, &west]);
    a.council.take(vec![second.clone()]).unwrap();
    let hello = b.council.hello();
    assert_eq!(a.council.heard(peer, &hello).unwrap(), Standing::Stale { version: 1 });
    let refusal = a.council.admits(peer).unwrap_err();
    assert_eq!(refusal.obstacle, Obstacle::Roster);
    assert!(
        refusal.explanation.contains("version 1") && refusal.explanation.contains("version 2"),
        "{refusal}"
    );
    assert_eq!(
        b.council.heard(a.council.peer_id(), &a.council.hello()).unwrap(),
        Standing::Ahead { version: 2 }
    );
    assert_eq!(b.council.admits(a.council.peer_id()), Ok(()));
    // After it has fetched, it is served.
    pass(&a.council, &b.council);
    assert_eq!(a.council.heard(peer, &b.council.hello()).unwrap(), Standing::Same);
    assert_eq!(a.council.admits(peer), Ok(()));
    // Another second version, signed by a majority as well: west signed both.
    let branch = next(&first, format!("{}# another two\n", first.text()), &[&south, &west]);
    let other = Seat::new(&practice, &[&first, &first.followed_by(branch.clone()).unwrap()]);
    let clinic = practice.identity.peer_id();
    assert_eq!(a.council.heard(clinic, &other.council.hello()).unwrap(), Standing::Forked { version: 2 });
    assert!(a.council.admits(clinic).unwrap_err().explanation.contains("fork"));
    assert_eq!(a.council.double_signers(branch.clone()).unwrap(), ["west".parse().unwrap()]);
    let refused = a.council.take(vec![branch]).unwrap_err();
    assert!(matches!(refused, ConsortiumError::Fault(RosterFault::Fork { version: 2, .. })));
    let elsewhere = Seat::new(&practice, &[&founded(&[&practice, &north], "")]);
    assert_eq!(a.council.heard(clinic, &elsewhere.council.hello()).unwrap(), Standing::Elsewhere);
    assert!(a.council.admits(clinic).is_err());
    // An old version played back changes nothing.
    assert_eq!(a.council.take(vec![second]).unwrap(), 0);
}

#[test]
fn a_version_that_moves_my_shares_waits_for_me() {
    let (first, [north, south, west, practice], [_, b, c]) = three();
    let east = Person::new("east", "\"compute\"");
    let moved = text(&[&north, &south, &west, &practice, &east], &task("north", "east", "practice"));
    let second = next(&first, moved, &[&north, &west]);
    b.council.take(vec![second.clone()]).unwrap();
    assert_eq!((b.council.version(), b.council.hello().in_force), (2, 1));
    assert!(!is_superseded(&b.council));
    assert!(b.council.in_force().member("east").is_none());
    // West has no share in the task and goes on at once.
    c.council.take(vec![second.clone()]).unwrap();
    assert!(is_superseded(&c.council));
    assert_eq!(
        c.council.heard(b.council.peer_id(), &b.council.hello()).unwrap(),
        Standing::Stale { version: 1 }
    );
    // It still waits after a restart; then the administrator agrees.
    let b = b.again(&south);
    assert_eq!(b.council.hello().in_force, 1);
    assert_eq!(b.council.look(|state| state.held.clone()), ["digits".parse::<Name>().unwrap()]);
    let digits = second.fingerprint().to_string();
    assert_eq!(b.council.sign(&digits[..8], false).unwrap().1, Signing::Agreed);
    assert!(is_superseded(&b.council));
    let b = b.again(&south);
    assert_eq!(b.council.hello().in_force, 2);
    assert!(b.council.in_force().member("east").is_some());
    // A client agrees in the same way, without a vote; its signature does not enter the version.
    let clinic = Seat::new(&practice, &[&first]);
    clinic.council.look(|state| state.store.write_in_force(1)).unwrap();
    clinic.council.take(vec![second.clone()]).unwrap();
    assert_eq!(clinic.council.hello().in_force, 1);
    clinic.council.sign(&digits, false).unwrap();
    assert_eq!(clinic.council.hello().in_force, 2);
    assert_eq!(clinic.council.versions_from(2, 1).unwrap(), [second]);
}

fn expected(name: &str) -> Expected {
    Expected { name: name.parse().unwrap(), roles: vec![Role::Owner, Role::Compute], days: 1, peer: None }
}

fn application(invitation: &Invitation, name: &str) -> Application {
    Application {
        secret: invitation.secret.clone(),
        name: name.to_owned(),
        organisation: Some("East \"Clinic\"".to_owned()),
        addresses: vec!["/ip4/127.0.0.1/tcp/4999".to_owned()],
    }
}

#[test]
fn an_invitation_becomes_a_proposal_and_a_member() {
    let people = people();
    let founder = Seat::new(&people[0], &[&founded(&[&people[0]], "")]);
    let east = Person::new("east", "");
    let peer = east.identity.peer_id();
    assert!(!founder.council.expects_guests());
    let invitation = founder.council.invite(expected("east")).unwrap();
    assert!(founder.council.expects_guests() && !founder.council.knows_guest(peer));
    let pending = founder.council.apply(peer, &application(&invitation, "east")).unwrap();
    assert_eq!((pending.version, pending.member, pending.signed, pending.needed), (1, false, 0, 1));
    assert!(founder.council.knows_guest(peer));
    assert!(founder.council.hello().proposals.is_empty(), "a draft is told to nobody");
    let proposal = pending.proposal.unwrap();
    assert_eq!(founder.council.proposal(proposal), None);
    assert_eq!(founder.council.look(|state| guests::drafted(state, "east")), Some(proposal));
    // The same after a restart, and when it asks again.
    let founder = founder.again(&people[0]);
    let again = founder.council.apply(peer, &application(&invitation, "east")).unwrap();
    assert_eq!(again.proposal, Some(proposal));
    assert_eq!(founder.council.sign(&proposal.to_string(), false).unwrap().1, Signing::Reached);
    let member = founder.council.in_force().member("east").unwrap().clone();
    assert_eq!(member.peer.as_str(), peer.to_string());
    assert_eq!(member.organisation.as_deref(), Some("East \"Clinic\""));
    let last = founder.council.apply(peer, &application(&invitation, "east")).unwrap();
    assert_eq!((last.version, last.member, last.proposal), (2, true, None));
    assert!(!founder.council.expects_guests());
}

#[test]
fn an_invitation_is_good_for_one_key_and_one_name() {
    let people = people();
    let founder = Seat::new(&people[0], &[&founded(&[&people[0]], "")]);
    let (first, thief) =
        (Person::new("east", "").identity.peer_id(), Person::new("x", "").identity.peer_id());
    let invitation = founder.council.invite(expected("east")).unwrap();
    let refused = |result: Result<_, crate::message::Refusal>| result.unwrap_err().explanation;
    let told = refused(founder.council.apply(first, &application(&invitation, "oast")));
    assert!(told.contains("invited as east"), "{told}");
    let mut odd = application(&invitation, "east");
    odd.addresses = vec!["/ip4/0.0.0.0/tcp/4999".to_owned()];
    let told = refused(founder.council.apply(first, &odd));
    assert!(told.contains("dial"), "{told}");
    odd.addresses = vec!["/ip4/127.0.0.1/tcp/4999".to_owned(); 17];
    assert!(refused(founder.council.apply(first, &odd)).contains("at most 16"));
    founder.council.apply(first, &application(&invitation, "east")).unwrap();
    let told = refused(founder.council.apply(thief, &application(&invitation, "east")));
    assert!(told.contains("used by another key"), "{told}");
    let mut guess = application(&invitation, "east");
    guess.secret = crate::consortium::invitation::Secret::draw().unwrap();
    assert!(refused(founder.council.apply(thief, &guess)).contains("no such invitation"));
    assert!(!founder.council.knows_guest(thief));
    // Expired ones are gone.
    founder.council.lock().invitations[0].expires = 1;
    assert!(refused(founder.council.apply(first, &application(&invitation, "east"))).contains("expired"));
    assert!(!founder.council.expects_guests());
}

#[test]
fn invitations_are_bounded_and_make_sense() {
    let (_, people, [a, ..]) = three();
    let told = |expected: Expected| a.council.invite(expected).unwrap_err().to_string();
    assert!(told(expected("south")).contains("member already"));
    assert!(told(Expected { roles: Vec::new(), ..expected("east") }).contains("role"));
    assert!(told(Expected { days: 0, ..expected("east") }).contains("1 to 30 days"));
    a.council.invite(expected("east")).unwrap();
    assert!(told(expected("east")).contains("already"));
    for number in 1..crate::consortium::invitation::INVITATIONS_MAX {
        a.council.invite(expected(&format!("east-{number}"))).unwrap();
    }
    assert!(told(expected("one-more")).contains("wait until some have expired"));
    assert_eq!(a.again(&people[0]).council.look(|state| state.invitations.len()), 64);
}

#[test]
fn drafts_follow_the_last_version() {
    let people = people();
    let north = &people[0];
    let first = founded(&[north], "");
    let founder = Seat::new(north, &[&first]);
    let (east, far) = (Person::new("east", ""), Person::new("far", ""));
    for person in [&east, &far] {
        let invitation = founder.council.invite(expected(person.name)).unwrap();
        let asked = application(&invitation, person.name);
        let asked = Application { addresses: Vec::new(), ..asked };
        founder.council.apply(person.identity.peer_id(), &asked).unwrap();
    }
    let digits = founder.council.look(|state| guests::drafted(state, "east")).unwrap().to_string();
    founder.council.sign(&digits, false).unwrap();
    // The other one stands on top of the second version now, and both must sign it.
    let proposals = founder.council.look(|state| state.proposals.values().cloned().collect::<Vec<_>>());
    let [only] = proposals.as_slice() else { panic!("{proposals:?}") };
    assert_eq!(only.statement().version, 3);
    assert_eq!(founder.council.sign("", false).unwrap().1, Signing::Pending);
}
