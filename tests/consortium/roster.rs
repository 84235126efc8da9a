//! A consortium with a signed roster, from its founding to the removal of a member, by the program alone.

use crate::setting::{LOOK_EVERY, SOON, in_runtime};
use ciborium::Value as Cbor;
use consilium::admin::{AdminReply, AdminRequest, Report, call};
use consilium::demo::free_port;
use consilium::message::{Obstacle, QueryReply};
use consilium::net::{Address, Identity, Limits, Member, Network, PeerId, Reach, Role, Settings};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// One node: its files, and its processes.
struct Party {
    name: &'static str,
    folder: PathBuf,
    daemon: Option<Child>,
}

impl Drop for Party {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Party {
    fn new(root: &Path, name: &'static str, listens: bool) -> Self {
        let folder = root.join(name);
        std::fs::create_dir(&folder).unwrap();
        let port = free_port().unwrap();
        let listen = if listens { format!("\"/ip4/127.0.0.1/tcp/{port}\"") } else { String::new() };
        let text = format!(
            "[node]\nname = \"{name}\"\nstate = \"state\"\n[network]\nlisten = [{listen}]\n[log]\nformat = \"json\"\n"
        );
        std::fs::write(folder.join("consilium.toml"), text).unwrap();
        Self { name, folder, daemon: None }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.args(words).arg("--config").arg(self.folder.join("consilium.toml"));
        command
    }

    /// The one object that a command prints.
    fn told(&self, words: &[&str]) -> Value {
        let output = self.command(words).arg("--json").output().unwrap();
        assert!(output.status.success(), "{} {words:?}: {output:?}", self.name);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Why a command fails.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(!output.status.success(), "{} {words:?}: {output:?}", self.name);
        // The report breaks lines to the width of a terminal.
        let text = String::from_utf8(output.stderr).unwrap();
        text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    }

    fn roster(&self) -> Value {
        self.told(&["consortium", "roster", "show"])
    }

    async fn launch(&mut self) {
        let log = std::fs::File::create(self.folder.join("log.txt")).unwrap();
        let child = self.command(&["daemon"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.daemon = Some(child);
        self.until("it answers", |_| true).await;
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log.txt")).unwrap()
    }

    async fn status(&self) -> Option<Report> {
        let socket = self.folder.join("state/admin.sock");
        match call(&socket, &AdminRequest::Status).await {
            Ok(AdminReply::Status(report)) => Some(*report),
            _ => None,
        }
    }

    /// Waits until the node's own report is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Report) -> bool) {
        let started = Instant::now();
        loop {
            let report = self.status().await;
            if report.as_ref().is_some_and(&wanted) {
                return;
            }
            assert!(started.elapsed() < SOON, "{}: not {what}: {report:?}\n{}", self.name, self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the node runs by a roster with these members and is connected to those that can be dialled.
    async fn among(&self, members: &[&str]) {
        let mut others: Vec<&str> = members.iter().copied().filter(|name| *name != self.name).collect();
        others.sort_unstable();
        self.until(&format!("among {members:?}"), |report| {
            let mut found: Vec<&str> = report.members.iter().map(|member| member.name.as_str()).collect();
            found.sort_unstable();
            found == others
                && report.members.iter().all(|member| member.connected || !LISTENERS.contains(&&*member.name))
        })
        .await;
    }

    /// Waits for a proposal with so many signatures, and gives its digits.
    async fn proposal(&self, signatures: usize) -> String {
        let started = Instant::now();
        loop {
            let output = self.command(&["consortium", "roster", "show", "--json"]).output().unwrap();
            let view: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if let Some([proposal]) = view["proposals"].as_array().map(Vec::as_slice)
                && proposal["signers"].as_array().unwrap().len() == signatures
            {
                return proposal["proposal"].as_str().unwrap().to_owned();
            }
            assert!(started.elapsed() < SOON, "{}: no proposal: {view}\n{}", self.name, self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn sign(&self, proposal: &str) -> Value {
        self.told(&["consortium", "roster", "sign", proposal])
    }

    fn peer(&self) -> PeerId {
        Identity::load(&self.folder.join("state/identity.key")).unwrap().peer_id()
    }

    /// This party's key on a network of this process, towards one other.
    fn impersonated(&self, other: &Self) -> Network {
        let settings = Settings {
            identity: Identity::load(&self.folder.join("state/identity.key")).unwrap(),
            listen: Vec::new(),
            members: vec![Member { peer: other.peer(), addresses: other.addresses() }],
            reach: Reach::default(),
            limits: Limits::default(),
        };
        Network::start(settings).unwrap().0
    }

    fn addresses(&self) -> Vec<Address> {
        let text = std::fs::read_to_string(self.folder.join("consilium.toml")).unwrap();
        let listen = text.lines().find_map(|line| line.strip_prefix("listen = [\"")).unwrap();
        vec![listen.trim_end_matches("\"]").parse().unwrap()]
    }
}

const LISTENERS: [&str; 3] = ["north", "south", "west"];

/// `newcomer` uses an invitation of `inviter`; it ends when it is a member.
fn join(inviter: &Party, newcomer: &Party, roles: &str) -> Child {
    let invited = inviter.told(&["consortium", "invite", "--name", newcomer.name, "--roles", roles]);
    let invitation = invited["invitation"].as_str().unwrap();
    let mut command = newcomer.command(&["consortium", "join", invitation, "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

async fn joined(child: Child) -> Value {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output: Output = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_consortium_is_founded_grows_by_quorum_and_cuts_off_a_member() {
    in_runtime(async {
        let root = tempfile::tempdir().unwrap();
        let [mut north, mut south, mut west] = LISTENERS.map(|name| Party::new(root.path(), name, true));
        let mut practice = Party::new(root.path(), "practice", false);
        let id = found(&mut north, &mut south).await;

        // West joins: both must sign, and the second signature comes over the network.
        let coming = join(&south, &west, "owner,compute");
        let proposal = south.proposal(0).await;
        assert_eq!(south.sign(&proposal)["signed"], 1);
        assert_eq!(north.proposal(1).await, proposal);
        let signed = north.sign(&proposal[..8]);
        assert_eq!((&signed["in_force"], &signed["proposal"]), (&true.into(), &proposal.into()));
        assert_eq!(joined(coming).await["version"], 3);
        west.launch().await;

        // A fourth by two of three; the third hears of it by itself.
        let coming = join(&north, &practice, "client");
        let proposal = north.proposal(0).await;
        north.sign(&proposal);
        west.proposal(1).await;
        west.sign(&proposal);
        joined(coming).await;
        practice.launch().await;
        let all = ["north", "south", "west", "practice"];
        for party in [&north, &south, &west, &practice] {
            party.among(&all).await;
            let roster = party.roster();
            assert_eq!((&roster["version"], &roster["consortium"]), (&4.into(), &id), "{}", party.name);
        }
        let told = practice.refused(&["consortium", "invite", "--name", "x", "--roles", "client"]);
        assert!(told.contains("no vote"), "{told}");
        put_out(&north, &south, &practice, root.path()).await;
        cut_off(&west, &[&north, &south]).await;
        refuse_stale(&north, &mut practice).await;
    });
}

/// North founds, south joins: the founder alone is the quorum. Gives the consortium's id.
async fn found(north: &mut Party, south: &mut Party) -> Value {
    let told = north.refused(&["daemon"]);
    assert!(told.contains("consilium consortium create"), "{told}");
    let founded = north.told(&["consortium", "create", "--name", "Three", "--organisation", "North"]);
    let id = founded["consortium"].clone();
    let told = north.refused(&["consortium", "create", "--name", "Again"]);
    assert!(told.contains("holds a consortium already"), "{told}");
    north.launch().await;
    let coming = join(north, south, "owner,compute");
    let proposal = north.proposal(0).await;
    assert_eq!(north.sign(&proposal)["in_force"], true);
    let told = joined(coming).await;
    assert_eq!((&told["consortium"], &told["version"]), (&id, &2.into()));
    south.launch().await;
    for party in [&*north, &*south] {
        party.among(&["north", "south"]).await;
    }
    id
}

/// West is put out by the other two voters.
async fn put_out(north: &Party, south: &Party, practice: &Party, root: &Path) {
    let text = north.roster()["text"].as_str().unwrap().to_owned();
    let file = root.join("next.toml");
    std::fs::write(&file, without(&text, "west")).unwrap();
    let signed = north.told(&["consortium", "roster", "propose", file.to_str().unwrap()]);
    let proposal = signed["proposal"].as_str().unwrap().to_owned();
    assert_eq!(south.proposal(1).await, proposal);
    south.sign(&proposal);
    for party in [north, south, practice] {
        party.among(&["north", "south", "practice"]).await;
        assert_eq!(party.roster()["version"], 5, "{}", party.name);
    }
    let log = north.told(&["consortium", "roster", "log"]);
    let versions = log["versions"].as_array().unwrap();
    let numbers: Vec<u64> = versions.iter().map(|version| version["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    assert_eq!(versions[0]["signers"], serde_json::json!(["north", "south"]));
}

/// A roster's text without one member.
fn without(text: &str, name: &str) -> String {
    let mut tables = text.split("[[member]]");
    let head = tables.next().unwrap().to_owned();
    let kept = tables.filter(|table| !table.contains(&format!("name = \"{name}\"")));
    kept.fold(head, |text, table| format!("{text}[[member]]{table}"))
}

/// The member that was removed has no connection to anybody, however often it tries, and each of them has written
/// one line about it. By its key in this process it gets no channel either.
async fn cut_off(gone: &Party, others: &[&Party]) {
    let started = Instant::now();
    // It may hear of its removal before it is cut off, and ends then.
    let runs = loop {
        match gone.status().await {
            Some(report) if report.members.iter().all(|member| !member.connected) => break true,
            None if gone.log().contains("has no member with this node's peer id") => break false,
            _ => assert!(started.elapsed() < SOON, "{}", gone.log()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    for other in others {
        let lines = || {
            let (peer, text) = (gone.peer().to_string(), other.log());
            let since = text.rsplit("roster version 5 has its quorum").next().unwrap();
            since.lines().filter(|line| line.contains("refused a connection") && line.contains(&peer)).count()
        };
        while runs && lines() == 0 {
            assert!(started.elapsed() < SOON, "{}", other.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let network = gone.impersonated(other);
        for role in [Role::Query, Role::Roster, Role::Join] {
            let opened = network.open(other.peer(), role, Duration::from_secs(1)).await;
            assert!(opened.is_err(), "{role} of {}", other.name);
        }
        network.shutdown().await;
        assert_eq!(lines(), 1, "one line an interval: {}", other.log());
    }
}

/// Where a node stands, as it says to others: it holds a version and runs by it.
fn standing(consortium: &Value, version: &Value) -> Cbor {
    let text = |text: &str| Cbor::Text(text.to_owned());
    let number = |value: &Value| Cbor::Integer(value.as_u64().unwrap().into());
    let bytes = |value: &Value| {
        let digits = value.as_str().unwrap();
        let pairs =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        Cbor::Bytes(pairs.collect())
    };
    let hello = vec![
        (text("consortium"), bytes(consortium)),
        (text("version"), number(&version["version"])),
        (text("head"), bytes(&version["fingerprint"])),
        (text("in_force"), number(&version["version"])),
        (text("proposals"), Cbor::Array(Vec::new())),
    ];
    Cbor::Map(vec![(text("compare"), Cbor::Map(hello))])
}

/// A member that runs by the version before is told so, as often as it asks, and one line is written about it. When
/// it has the last version, that is over.
async fn refuse_stale(host: &Party, member: &mut Party) {
    member.kill();
    let (roster, log) = (host.roster(), host.told(&["consortium", "roster", "log"]));
    let network = member.impersonated(host);
    let says = async |version: &Value| {
        let mut channel = network.open(host.peer(), Role::Roster, SOON).await.unwrap();
        channel.send_value(&standing(&roster["consortium"], version)).await.unwrap();
        assert!(!channel.receive(1 << 20).await.unwrap().is_empty());
    };
    says(&log["versions"][1]).await;
    for _ in 0..5 {
        let mut channel = network.open(host.peer(), Role::Query, SOON).await.unwrap();
        channel.send(b"a question").await.unwrap();
        let reply: QueryReply = channel.receive_value(1 << 16).await.unwrap();
        let QueryReply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert_eq!(refusal.obstacle, Obstacle::Roster, "{refusal}");
        assert!(
            refusal.explanation.contains("version 4") && refusal.explanation.contains("version 5"),
            "{refusal}"
        );
    }
    let (text, line) = (host.log(), "refused a request of practice");
    assert_eq!(text.lines().filter(|one| one.contains(line)).count(), 1, "{text}");
    let member = |view: &Value| {
        let members = view["members"].as_array().unwrap().clone();
        members.into_iter().find(|one| one["name"] == "practice").unwrap()["standing"].clone()
    };
    assert_eq!(member(&host.roster()), serde_json::json!({ "stale": { "version": 4 } }));
    says(&log["versions"][0]).await;
    assert_eq!(member(&host.roster()), "same");
    network.shutdown().await;
}
