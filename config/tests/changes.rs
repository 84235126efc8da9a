//! Quorums, voters, and what differs between two rosters.

#![allow(clippy::unwrap_used, reason = "tests")]

use consilium_config::{Change, Member, Name, Quorum, Role, Roster};
use std::path::Path;

const PEERS: [&str; 4] = [
    "12D3KooWDLWH9HWR5TDaZHUDh2nUKbS6h8Q559pYw4uVL9MqyXnj",
    "12D3KooWCE226dqQwFKjm5JGTaNLAEoRSGttXdLWDUgMA4e7r9jQ",
    "12D3KooWMjQw3BCNE2C1qCKWaBjXZxob7zpgRUGLvwi9gxN9cgRk",
    "12D3KooWSGhzU3VonK7Zyzp83gquso62xTrZjSbpcNFQUCXFSSzw",
];

fn member(name: &str, peer: usize, roles: &str) -> String {
    let peer = PEERS[peer];
    format!(
        "\n[[member]]\nname = \"{name}\"\npeer = \"{peer}\" # its key\naddresses = [\"/ip4/192.0.2.{}/tcp/4710\"]\n\
         roles = [{roles}]\n",
        name.len()
    )
}

/// Four members, three of whom vote; a task of north and south.
fn text(quorum: &str) -> String {
    let members = [
        member("north", 0, "\"owner\", \"compute\""),
        member("southern", 1, "\"owner\", \"compute\""),
        member("we", 2, "\"owner\""),
        member("practice-1", 3, "\"client\""),
    ];
    format!(
        "# ours\n[consortium]\nname = \"Trial\"\n{quorum}{}\n[[pair]]\nname = \"main\"\nzero = \"north\"\n\
         one = \"southern\"\n\n[[task]]\nname = \"digits\"\ntitle = \"Digits\"\npair = \"main\"\ninput = [4]\n\
         classes = [\"a\", \"b\"]\ninput_abs_max = 4\nowners = [\"north\", \"southern\"]\nclients = [\"practice-1\"]\n\
         [task.release]\nmechanism = \"exact\"\n",
        members.concat()
    )
}

fn read(text: &str) -> Roster {
    Roster::parse("roster.toml", text).unwrap()
}

fn change(at: &str, before: Option<&str>, after: Option<&str>) -> Change {
    Change { at: at.to_owned(), before: before.map(str::to_owned), after: after.map(str::to_owned) }
}

#[test]
fn owners_and_compute_parties_vote_and_a_majority_is_the_rule() {
    let roster = read(&text(""));
    assert_eq!(
        roster.voters().map(|member| member.name.as_str()).collect::<Vec<_>>(),
        ["north", "southern", "we"]
    );
    assert_eq!((roster.quorum(), roster.signatures_needed()), (Quorum::Majority, 2));
    for (line, quorum, needed) in [
        ("quorum = \"majority\"\n", Quorum::Majority, 2),
        ("quorum = \"all\"\n", Quorum::All, 3),
        ("quorum = 2\n", Quorum::Count(2), 2),
        ("quorum = 3\n", Quorum::Count(3), 3),
    ] {
        let roster = read(&text(line));
        assert_eq!((roster.quorum(), roster.signatures_needed()), (quorum, needed));
        assert_eq!(read(&roster.to_toml()).digest(), roster.digest(), "{line}");
    }
    for (voters, needed) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        assert_eq!(Quorum::Majority.of(voters), needed);
    }
}

#[test]
fn a_quorum_that_two_versions_could_have_is_refused() {
    for (line, expected) in [
        (
            "quorum = 1\n",
            "a quorum of 1 does not fit 3 voters | members with the role `owner` or `compute` vote; write a number from 2 to 3",
        ),
        ("quorum = 4\n", "a quorum of 4 does not fit 3 voters"),
        ("quorum = 0\n", "`consortium.quorum` must be a whole number from 1 to 2048"),
        (
            "quorum = \"some\"\n",
            "`consortium.quorum` must be one of `majority`, `all` | or a number of signatures",
        ),
        ("quorum = \"majorty\"\n", "did you mean `majority`?"),
    ] {
        let error = Roster::parse("roster.toml", &text(line)).unwrap_err();
        let [problem] = error.problems() else { panic!("{error}") };
        let found = format!("{} | {}", problem.message(), problem.advice().unwrap_or_default());
        assert!(found.contains(expected), "{line} gave {found}");
    }
}

#[test]
fn the_quorum_is_under_the_digest() {
    let digests =
        ["", "quorum = \"all\"\n", "quorum = 2\n", "quorum = 3\n"].map(|line| read(&text(line)).digest());
    for (at, digest) in digests.iter().enumerate() {
        assert!(!digests[..at].contains(digest));
    }
    assert_eq!(read(&text("quorum = \"majority\"\n")).digest(), digests[0]);
}

#[test]
fn every_value_that_differs_is_named() {
    let before = read(&text(""));
    let edited = |from: &str, to: &str| {
        let text = text("");
        assert!(text.contains(from), "{from}");
        before.changes_to(&read(&text.replace(from, to)))
    };
    assert_eq!(edited("# ours", "# theirs"), []);
    assert_eq!(
        edited("name = \"Trial\"\n", "name = \"Trial\"\nquorum = \"all\"\n"),
        [change("consortium.quorum", None, Some("\"all\""))]
    );
    assert_eq!(
        edited("input_abs_max = 4", "input_abs_max = 8"),
        [change("task digits: input_abs_max", Some("4.0"), Some("8.0"))]
    );
    assert_eq!(
        edited("roles = [\"client\"]", "roles = [\"client\", \"dealer\"]"),
        [change("member practice-1: roles", Some("[\"client\"]"), Some("[\"client\", \"dealer\"]"))]
    );
    assert_eq!(
        edited(
            "mechanism = \"exact\"",
            "mechanism = \"laplace\"\nepsilon_per_answer = \"0.5\"\nepsilon = \"8\"\nnoise = \"software\""
        )
        .iter()
        .map(|change| change.at.as_str())
        .collect::<Vec<_>>(),
        [
            "task digits: release.epsilon",
            "task digits: release.epsilon_per_answer",
            "task digits: release.mechanism",
            "task digits: release.noise",
            "task digits: release.unit",
        ]
    );
    let standby = "pair = \"main\"\nstandby = [{ pair = \"other\" }]\n";
    let second = text("").replace("pair = \"main\"\n", standby).replace(
        "[[task]]",
        "[[member]]\nname = \"e\"\npeer = \"12D3KooWB9N1F7RFZYzF7wBcyPt8Wc4X8JDDQSic1JXndgCNYj2m\"\naddresses = [\"/dns4/e.example/tcp/1\"]\n\
         roles = [\"compute\"]\n[[member]]\nname = \"f\"\npeer = \"12D3KooWMXUU2Mw63Pdc1JXvCDypPVDKXMiPJGi5sCx9qEwJ3r2n\"\n\
         addresses = [\"/dns4/f.example/tcp/1\"]\nroles = [\"compute\"]\n[[pair]]\nname = \"other\"\nzero = \"e\"\none = \"f\"\n[[task]]",
    );
    let second = read(&second);
    let changes = before.changes_to(&second);
    let expected = change("task digits: standby", None, Some("[{ pair = \"other\" }]"));
    assert!(changes.contains(&expected), "{changes:?}");
    assert_eq!(
        second.tasks_moved(&before.recipients(PEERS[0]), PEERS[0]),
        ["digits".parse().unwrap()],
        "shares would go there too"
    );
    let gone = edited(&member("we", 2, "\"owner\""), "");
    let places: Vec<&str> = gone.iter().map(|change| change.at.as_str()).collect();
    assert_eq!(places, ["member we: addresses", "member we: name", "member we: peer", "member we: roles"]);
    assert!(gone.iter().all(|change| change.before.is_some() && change.after.is_none()));
    let (north, south) = ("zero = \"north\"\none = \"southern\"", "zero = \"southern\"\none = \"north\"");
    assert_eq!(edited(north, south).len(), 2);
}

#[test]
fn an_order_that_matters_is_a_difference() {
    let (one, other) =
        (member("north", 0, "\"owner\", \"compute\""), member("southern", 1, "\"owner\", \"compute\""));
    let whole = text("");
    let swapped = whole.replace(&format!("{one}{other}"), &format!("{other}{one}"));
    assert_ne!(whole, swapped);
    let changes = read(&whole).changes_to(&read(&swapped));
    assert_eq!(changes, [change("tables", Some("as written"), Some("in another order"))]);
}

#[test]
fn a_member_is_added_below_and_comments_stay() {
    let newcomer = Member {
        name: "east".parse().unwrap(),
        peer: "12D3KooWB9N1F7RFZYzF7wBcyPt8Wc4X8JDDQSic1JXndgCNYj2m".parse().unwrap(),
        organisation: Some("East \"Clinic\"\\".to_owned()),
        addresses: vec!["/dns4/east.example/tcp/4710".parse().unwrap()],
        roles: vec![Role::Compute, Role::Client],
    };
    let longer = Roster::text_with_member(&text(""), &newcomer).unwrap();
    assert!(longer.starts_with(text("").trim_end()), "{longer}");
    let roster = read(&longer);
    assert_eq!(roster.member("east"), Some(&newcomer));
    assert_eq!(roster.signatures_needed(), 3);
    let places = read(&text("")).changes_to(&roster);
    assert!(places.iter().all(|change| change.at.starts_with("member east: ") && change.before.is_none()));
    // Members written as one list cannot be added to below.
    let inline = read(&text("")).members()[0].clone();
    let list = "[consortium]\nname = \"Trial\"\n[[pair]]\nname='p'\nzero='north'\none='x'\n";
    assert!(Roster::text_with_member(list, &newcomer).is_err(), "not a roster to begin with");
    let list = format!(
        "member = [{{ name = \"north\", peer = \"{}\", addresses = [], roles = [\"owner\"] }}]\n[consortium]\nname = \"T\"\n",
        inline.peer
    );
    let whole = Roster::text_with_member(&list, &newcomer).unwrap();
    assert_eq!(read(&whole).members().len(), 2);
    let twice = Roster::text_with_member(&longer, &newcomer).unwrap_err();
    assert!(twice.to_string().contains("stands here twice"), "{twice}");
    let far = Member { addresses: vec!["/ip4/0.0.0.0/tcp/4710".parse().unwrap()], ..newcomer };
    assert!(Roster::text_with_member(&text(""), &far).is_err());
}

#[test]
fn tasks_that_go_to_other_keys_are_found() {
    let before = read(&text(""));
    let moved = text("").replace(
        &format!("peer = \"{}\"", PEERS[1]),
        "peer = \"12D3KooWB9N1F7RFZYzF7wBcyPt8Wc4X8JDDQSic1JXndgCNYj2m\"",
    );
    let after = read(&moved);
    let names = |peer: &str| {
        after.tasks_moved(&before.recipients(peer), peer).iter().map(Name::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(PEERS[0]), ["digits"], "north owns, and south's key is another");
    assert_eq!(names(PEERS[3]), ["digits"], "the client's questions would go there");
    assert_eq!(names(PEERS[2]), [] as [String; 0]);
    assert_eq!(names(PEERS[1]), [] as [String; 0], "who is gone has nothing to send");
    assert_eq!(before.tasks_moved(&before.recipients(PEERS[0]), PEERS[0]).len(), 0);
    let retitled = read(&text("").replace("\"Digits\"", "\"Digits again\""));
    assert_eq!(retitled.tasks_moved(&before.recipients(PEERS[0]), PEERS[0]).len(), 0);
}

#[test]
fn an_unsigned_roster_is_asked_for_by_name() {
    let text = "node = { name = 'a', state = 's' }\nnetwork.listen = []";
    let node = |text: &str| consilium_config::Node::parse("consilium.toml", text, Path::new("/etc")).unwrap();
    assert!(!node(text).place().unsigned_roster);
    let unsigned = node(&text.replace("state = 's'", "state = 's', unsigned_roster = true"));
    assert!(unsigned.place().unsigned_roster);
    assert_eq!(node(&unsigned.to_toml()), unsigned);
}
