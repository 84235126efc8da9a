use super::*;
use crate::vault::private_directory;
use consilium_config::{EXAMPLE_ROSTER, Layers};
use std::fs::Permissions;
use std::path::PathBuf;
use tempfile::TempDir;

/// A machine of the example's consortium, with a key and a state folder.
struct Machine {
    folder: TempDir,
    peer: String,
    roster: String,
}

/// The peer ids of the example by member.
fn peer_of(member: &str) -> String {
    let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
    roster.member(member).unwrap().peer.to_string()
}

impl Machine {
    /// The machine of `member`, whose key the roster has.
    fn of(member: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        private_directory(&folder.path().join("state")).unwrap();
        let peer = Identity::load_or_create(&folder.path().join("state/identity.key"))
            .unwrap()
            .peer_id()
            .to_string();
        let roster = EXAMPLE_ROSTER.replace(&peer_of(member), &peer);
        Self { folder, peer, roster }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Severity, file, line and text of each finding; advice is always there.
    fn findings(
        &self,
        name: &str,
        listen: &str,
        more: &str,
    ) -> Vec<(Severity, String, Option<usize>, String)> {
        let file = self.folder.path().join("consilium.toml");
        let text =
            format!("[node]\nname = \"{name}\"\nstate = \"state\"\n[network]\nlisten = [{listen}]\n{more}");
        std::fs::write(&file, text).unwrap();
        let path = self.folder.path().join("roster.toml");
        std::fs::write(&path, &self.roster).unwrap();
        let settings = Layers::open(&file).unwrap().read().unwrap();
        let (roster, places) = Roster::load_placed(&path).unwrap();
        let found = check(&settings, Some((&roster, &places)), true);
        let told = found.into_iter().map(|finding| {
            let problem = finding.problem;
            assert!(problem.advice().is_some_and(|advice| !advice.is_empty()), "{problem}");
            let file =
                problem.file().map(|file| file.rsplit('/').next().unwrap().to_owned()).unwrap_or_default();
            (finding.severity, file, problem.line(), problem.message().to_owned())
        });
        told.collect()
    }

    /// The one finding.
    fn only(&self, name: &str, listen: &str, more: &str) -> (Severity, String, Option<usize>, String) {
        let mut found = self.findings(name, listen, more);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

const LISTEN: &str = "\"/ip4/0.0.0.0/tcp/4710\"";

#[test]
fn a_machine_in_order_has_no_findings() {
    assert_eq!(Machine::of("north").findings("north", LISTEN, ""), []);
    assert_eq!(Machine::of("west").findings("west", "", ""), []);
}

#[test]
fn the_key_must_be_that_of_the_member() {
    let machine = Machine::of("north");
    let (severity, file, line, text) = machine.only("west", "", "");
    assert_eq!((severity, file.as_str(), line), (Severity::Error, "consilium.toml", Some(2)));
    assert_eq!(text, "the key of this machine is that of member `north`");
    let stranger = Machine { roster: EXAMPLE_ROSTER.to_owned(), ..Machine::of("north") };
    let (_, file, line, text) = stranger.only("north", LISTEN, "");
    assert_eq!(
        (file.as_str(), text.as_str()),
        ("roster.toml", "member `north` has another key than this machine")
    );
    assert_eq!(
        EXAMPLE_ROSTER.lines().nth(line.unwrap() - 1).unwrap(),
        format!("peer = \"{}\"", peer_of("north"))
    );
    let (_, file, line, text) = stranger.only("east", "", "");
    assert_eq!((file.as_str(), line), ("consilium.toml", Some(2)));
    assert_eq!(text, "the roster has no member `east`");
    std::fs::remove_file(machine.state().join("identity.key")).unwrap();
    assert_eq!(
        machine.only("north", LISTEN, "").0,
        Severity::Error,
        "the roster expects the key {}",
        machine.peer
    );
    assert_eq!(machine.only("east", "", "").0, Severity::Warning, "a new member");
}

#[test]
fn a_slice_that_pays_for_no_answer_is_told() {
    let machine = Machine::of("west");
    let roster = machine.roster.replace("slice = \"0.3\"", "slice = \"0.001\"");
    assert_ne!(roster, machine.roster);
    let (severity, file, line, text) = Machine { roster, ..machine }.only("west", "", "");
    assert_eq!((severity, file.as_str()), (Severity::Warning, "roster.toml"));
    let slice = EXAMPLE_ROSTER.lines().position(|line| line.starts_with("slice = ")).unwrap() + 1;
    assert_eq!(line, Some(slice));
    assert_eq!(text, "what pair second may spend in task readmission-twice pays for no answer");
}

#[test]
fn keys_and_folders_must_be_private_and_whole() {
    let machine = Machine::of("west");
    let key = machine.state().join("identity.key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let (severity, _, _, text) = machine.only("west", "", "");
    assert!(severity == Severity::Error && text.contains("mode 644"), "{text}");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(machine.state(), Permissions::from_mode(0o755)).unwrap();
    let (severity, _, line, text) = machine.only("west", "", "");
    assert!(
        severity == Severity::Warning && line == Some(3) && text.starts_with("others may look"),
        "{text}"
    );
    std::fs::set_permissions(machine.state(), Permissions::from_mode(0o700)).unwrap();
    std::fs::create_dir(machine.state().join("pairs")).unwrap();
    assert!(machine.only("west", "", "").3.ends_with("and what it seals is there"));
    std::fs::write(machine.state().join("storage.key"), [0; 32]).unwrap();
    std::fs::set_permissions(machine.state().join("storage.key"), Permissions::from_mode(0o640)).unwrap();
    assert!(machine.only("west", "", "").3.starts_with("others may read"));
    std::fs::set_permissions(machine.state().join("storage.key"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(machine.findings("west", "", ""), []);
}

#[test]
fn an_absent_state_is_a_warning_and_a_file_in_its_place_an_error() {
    let machine = Machine::of("west");
    let moved = machine.folder.path().join("identity.key");
    std::fs::copy(machine.state().join("identity.key"), &moved).unwrap();
    std::fs::remove_dir_all(machine.state()).unwrap();
    let node =
        "[node]\nname = \"west\"\nstate = \"state\"\nidentity = \"identity.key\"\n[network]\nlisten = []\n";
    let file = machine.folder.path().join("consilium.toml");
    std::fs::write(&file, node).unwrap();
    let settings = Layers::open(&file).unwrap().read().unwrap();
    let found = check(&settings, None, true);
    assert_eq!(found.iter().map(|one| one.severity).collect::<Vec<_>>(), [Severity::Warning]);
    std::fs::write(machine.state(), "").unwrap();
    let found = check(&settings, None, true);
    assert_eq!(found.iter().map(|one| one.severity).collect::<Vec<_>>(), [Severity::Error]);
}

#[test]
fn who_must_be_reached_listens() {
    let machine = Machine::of("north");
    let (severity, _, line, text) = machine.only("north", "", "");
    assert_eq!((severity, line), (Severity::Error, Some(5)), "{text}");
    let (severity, _, _, text) = machine.only("north", "\"/ip4/0.0.0.0/tcp/4711\"", "");
    assert!(severity == Severity::Warning && text.contains("none of the ports"), "{text}");
    assert_eq!(machine.findings("north", "\"/ip4/0.0.0.0/tcp/0\"", ""), []);
}

#[test]
fn other_names_in_the_settings_are_looked_at() {
    let machine = Machine::of("west");
    let (_, _, line, text) = machine.only("west", "", "[log]\nfilter = \"info,=loud=\"\n");
    assert!(line == Some(7) && text.starts_with("the log filter cannot be read"), "{text}");
    let (_, _, line, text) = machine.only("west", "", "[module]\ncollateral = \"nowhere\"\n");
    assert!(line == Some(7) && text.starts_with("there is no folder"), "{text}");
    let (severity, _, _, text) = machine.only("west", "", "[module]\nsocket = \"unix:/nowhere\"\n");
    assert!(severity == Severity::Warning && text.contains("does not have this node carry"), "{text}");
    let (severity, ..) = machine.only("west", "", "[admin]\nsocket = \"/nowhere/at/all.sock\"\n");
    assert_eq!(severity, Severity::Warning);
    let path = machine.folder.path().join("roster.toml");
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert!(machine.only("west", "", "").3.starts_with("others may change"));
}

#[test]
fn values_of_the_roster_that_only_the_daemon_can_judge_are_shown_in_it() {
    let mut machine = Machine::of("west");
    // The right length and letters, and no key.
    machine.roster = machine.roster.replace(&peer_of("practice"), &"1".repeat(52));
    let (severity, file, line, text) = machine.only("west", "", "");
    assert_eq!((severity, file.as_str()), (Severity::Error, "roster.toml"));
    assert!(text.starts_with("the peer id of member `practice` is none"), "{text}");
    assert!(machine.roster.lines().nth(line.unwrap() - 1).unwrap().starts_with("peer = \"1111"));
}

#[test]
fn who_is_reached_through_relays_takes_places_there() {
    let mut machine = Machine::of("north");
    let nat = "behind_nat = true\n";
    assert_eq!(machine.findings("north", "", nat), [], "relays do for listening");
    let addresses = "[\"/ip4/192.0.2.10/tcp/4710\", \"/dns4/consilium.north.example/tcp/4710\"]";
    assert!(machine.roster.contains(addresses));
    machine.roster = machine.roster.replace(addresses, "[\"/p2p-circuit\"]");
    assert_eq!(machine.findings("north", LISTEN, nat), []);
    let (severity, _, _, text) = machine.only("north", LISTEN, "");
    assert_eq!(severity, Severity::Error);
    assert!(text.contains("through relays"), "{text}");
}

#[cfg(not(feature = "quic"))]
#[test]
fn quic_is_told_where_the_program_has_none() {
    let listen = format!("{LISTEN}, \"/ip4/0.0.0.0/udp/4710/quic-v1\"");
    let (severity, _, _, text) = Machine::of("north").only("north", &listen, "");
    assert_eq!(severity, Severity::Error);
    assert!(text.contains("without QUIC"), "{text}");
}
