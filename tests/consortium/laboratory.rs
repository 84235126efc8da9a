//! Files of encodings between hospitals: refused by either side unless its own roster says `lab = true`, and kept only
//! with the figure of their attack.

use crate::setting::{SOON, Setting, in_runtime, names_of, peer_of, scenario};
use consilium::admin::{AdminReply, AdminRequest, call, send_encodings};
use consilium::datasets::{DIGITS_DEPTH, digits};
use consilium::demo::{free_port, names};
use consilium::distill::sha256;
use consilium::lab::{
    EncoderKey, EncoderShape, Images, Making, Measured, encode, measure, read_encodings, today,
    write_encodings, write_key,
};
use consilium::laboratory::{Held, Sent};
use consilium::message::{Obstacle, Refusal};
use consilium::net::{Network, PeerId, Role};
use consilium::training::Statistics;
use consilium_config::{EncodingsTask, Member, Name, Node, Roster};
use consilium_protocol::algebra::prg::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TASK: &str = "encodings";
const IMAGES: usize = 32;
const WITHIN: Duration = Duration::from_secs(60);
const FRAME_BYTES: usize = 1 << 16;

/// Encodings of public digits, in a file; other ones for another seed.
fn encodings(path: &Path, seed: u8) -> Measured {
    let table = digits();
    let pixels = table.inputs[..IMAGES * 64].iter().map(|cell| cell / DIGITS_DEPTH).collect();
    let images = Images::new(8, pixels, table.labels[..IMAGES].to_vec()).unwrap();
    let seed = Seed::from_bytes([seed; 16]);
    let shape = EncoderShape { side: 8, patch: 2, width: 32, private_depth: 0 };
    let key = EncoderKey::draw(shape, &seed).unwrap();
    let making = Making { statistics: Statistics::Batch, batch: IMAGES };
    let encoded = encode(&key, &images, making, &seed.derive("encode", 0), &mut |_, _| ()).unwrap();
    let (measured, _) = measure(encoded, &images, &seed.derive("measure", 0), &mut |_, _| ()).unwrap();
    write_encodings(path, &measured).unwrap();
    measured
}

/// A consortium with a task of encodings of its first two hospitals; the first one can be dialled.
struct Bench {
    setting: Setting,
    receiver: String,
    sender: String,
    files: tempfile::TempDir,
}

impl Bench {
    /// `lab` is what the roster of the receiver, and what that of all others says.
    async fn new([receivers, others]: [bool; 2]) -> Self {
        let setting = Setting::prepared(scenario(), "info");
        let [receiver, sender] = [0, 1].map(|at| names_of(&setting)[at].clone());
        let port = free_port().unwrap();
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        let path = setting.world.folder_of("roster.toml");
        let roster = Roster::load(&path).unwrap();
        let placed = |member: &Member| match member.name.as_str() == receiver {
            true => Member { addresses: vec![address.parse().unwrap()], ..member.clone() },
            false => member.clone(),
        };
        let members: Vec<Member> = roster.members().iter().map(placed).collect();
        let (pairs, tasks) = (roster.pairs().to_vec(), roster.tasks().to_vec());
        let roster =
            Roster::new(roster.consortium(), members, pairs, tasks, roster.module().cloned()).unwrap();
        let hospitals: Vec<Name> = [&receiver, &sender].map(|name| name.parse().unwrap()).to_vec();
        let with = |lab| {
            let (name, title) = (TASK.parse().unwrap(), "Encodings of public digits".to_owned());
            let task = EncodingsTask { name, title, hospitals: hospitals.clone(), lab };
            roster.clone().with_encodings(vec![task]).unwrap().to_toml()
        };
        std::fs::write(&path, with(others)).unwrap();
        let own = path.with_file_name("receivers.toml");
        std::fs::write(&own, with(receivers)).unwrap();
        let file = setting.world.folder_of(&receiver).join("consilium.toml");
        let text = Node::load(&file).unwrap().to_toml();
        let listening = text.replace("listen = []", &format!("listen = [\"{address}\"]"));
        assert_ne!(text, listening);
        let reading = listening.replace("/roster.toml\"", "/receivers.toml\"");
        assert_ne!(reading, listening);
        std::fs::write(file, reading).unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut bench = Self { setting, receiver, sender, files };
        bench.setting.world.launch_all().await.unwrap();
        bench
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    async fn send(&self, from: &str, to: &str, file: &Path) -> Result<Sent, Refusal> {
        // What the file says of itself; of one that is none, that of another one.
        let figure = match read_encodings(file) {
            Ok(measured) => measured.figure().clone(),
            Err(_) => encodings(&self.file("figure"), 9).figure().clone(),
        };
        let socket = self.setting.world.socket(from);
        let sent = tokio::time::timeout(WITHIN, send_encodings(&socket, (TASK, to), file, figure)).await;
        match sent.expect("nothing may hang").unwrap() {
            AdminReply::EncodingsSent(sent) => Ok(*sent),
            AdminReply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn received(&self) -> Vec<Held> {
        match call(&self.setting.world.socket(&self.receiver), &AdminRequest::Received).await.unwrap() {
            AdminReply::Received(held) => held,
            other => panic!("{other:?}"),
        }
    }

    fn in_receiver(&self, path: &str) -> PathBuf {
        self.setting.world.folder_of(&self.receiver).join("laboratory").join(path)
    }
}

#[test]
fn nothing_is_sent_where_the_roster_does_not_call_it_an_experiment() {
    in_runtime(async {
        let bench = Bench::new([false, false]).await;
        let file = bench.file("file");
        let figure = encodings(&file, 1).figure().to_string();
        let refused = bench.send(&bench.sender, &bench.receiver, &file).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Laboratory);
        for words in ["broken as protection", &figure, "`lab = true`", "ask the consortium"] {
            assert!(refused.explanation.contains(words), "{words:?} is not in {refused}");
        }
        let status = bench.setting.world.status(&bench.sender).await.unwrap().laboratory;
        assert!(status.len() == 1 && !status[0].lab && status[0].task == TASK, "{status:?}");
        // Who is no hospital of it does not have the task.
        let refused = bench.send(names::CLIENT, &bench.receiver, &file).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Task, "{refused}");
        assert!(bench.received().await.is_empty());
    });
}

#[test]
fn a_receiver_goes_by_its_own_roster() {
    in_runtime(async {
        let mut bench = Bench::new([false, true]).await;
        let file = bench.file("file");
        encodings(&file, 1);
        let refused = bench.send(&bench.sender, &bench.receiver, &file).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Laboratory);
        let words = format!("{} takes no encodings", bench.receiver);
        assert!(refused.explanation.contains(&words), "{refused}");
        // The same by a sender that asks no node of its own.
        let sender = bench.sender.clone();
        let (network, roster) = bench.setting.impersonate(&sender);
        let wire = Wire::new(network, &roster, &bench.receiver);
        let Reply::Refused(refused) = wire.offered(wire.offer(100)).await else { panic!("taken") };
        assert_eq!(refused.obstacle, Obstacle::Laboratory, "{refused}");
        assert!(bench.received().await.is_empty());
        assert!(!bench.in_receiver(TASK).exists());
    });
}

#[test]
fn a_file_arrives_with_its_figure_and_is_read_back_equal() {
    in_runtime(async {
        let mut bench = Bench::new([true, true]).await;
        let file = bench.file("file");
        let measured = encodings(&file, 1);
        let sent = bench.send(&bench.sender, &bench.receiver, &file).await.unwrap();
        assert_eq!((sent.images, &sent.attack, &sent.to), (IMAGES, measured.figure(), &bench.receiver));
        let held = bench.received().await;
        assert_eq!(held.len(), 1, "{held:?}");
        let held = &held[0];
        assert_eq!((held.task.as_str(), &held.sender, &held.name), (TASK, &bench.sender, &sent.name));
        assert_eq!((held.images, held.attack.as_ref()), (Some(IMAGES), Some(measured.figure())));
        assert_eq!(read_encodings(&held.path).unwrap(), measured);
        assert_eq!(std::fs::read(&held.path).unwrap(), std::fs::read(&file).unwrap());
        assert_eq!(
            held.path,
            bench.in_receiver(TASK).join(&bench.sender).join(format!("{}.safetensors", sent.name))
        );
        let status = bench.setting.world.status(&bench.receiver).await.unwrap().laboratory;
        assert!(status[0].lab && status[0].files == 1, "{status:?}");

        // The same once more is the same; of others the newest four stay, over a death of the receiver.
        bench.send(&bench.sender, &bench.receiver, &file).await.unwrap();
        assert_eq!(bench.received().await.len(), 1);
        let mut last = sent.name.clone();
        for seed in 2..=5 {
            encodings(&file, seed);
            last = bench.send(&bench.sender, &bench.receiver, &file).await.unwrap().name;
        }
        bench.setting.world.kill(&bench.receiver).unwrap();
        let left_over = bench.in_receiver(".spool").join("left-over");
        std::fs::write(&left_over, "x").unwrap();
        let receiver = bench.receiver.clone();
        bench.setting.revive(&receiver).await;
        assert!(!left_over.exists(), "the spool is emptied at the start");
        let held = bench.received().await;
        assert_eq!((held.len(), &held[0].name), (4, &last));
        assert!(held.iter().all(|held| held.name != sent.name), "the oldest one made room");

        let refused = bench.send(&bench.sender, names::CLIENT, &file).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::NotAllowed, "{refused}");
        let refused = bench.send(&bench.sender, &bench.sender, &file).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Request, "{refused}");
        std::fs::write(&file, "no encodings").unwrap();
        let refused = bench.send(&bench.sender, &bench.receiver, &file).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Request, "{refused}");
    });
}

#[test]
fn a_sender_goes_by_its_own_roster() {
    in_runtime(async {
        let mut bench = Bench::new([true, false]).await;
        let file = bench.file("file");
        encodings(&file, 1);
        let refused = bench.send(&bench.sender, &bench.receiver, &file).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Laboratory);
        assert!(refused.explanation.contains("nothing is sent"), "{refused}");
        // Of a sender that asks no node of its own nothing is taken either: the rosters differ.
        let sender = bench.sender.clone();
        let (network, roster) = bench.setting.impersonate(&sender);
        let wire = Wire::new(network, &roster, &bench.receiver);
        let Reply::Refused(refused) = wire.offered(wire.offer(100)).await else { panic!("taken") };
        assert_eq!(refused.obstacle, Obstacle::Task, "{refused}");
        assert!(refused.explanation.contains("other terms"), "{refused}");
        assert!(bench.received().await.is_empty());
        assert!(!bench.in_receiver(TASK).exists());
    });
}

/// As a sender would say it, for one that goes by no roster.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Offer { task: String, task_digest: [u8; 32], bytes: u64 },
}

/// As a receiver says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Take,
    Kept { name: String },
    Refused(Refusal),
}

/// A member that speaks for itself.
struct Wire {
    network: Network,
    receiver: PeerId,
    digest: [u8; 32],
}

impl Wire {
    fn new(network: Network, roster: &Roster, receiver: &str) -> Self {
        let digest = roster.encodings_task(TASK).unwrap().digest().to_bytes();
        Self { network, receiver: peer_of(roster, receiver), digest }
    }

    fn offer(&self, bytes: u64) -> Request {
        Request::Offer { task: TASK.to_owned(), task_digest: self.digest, bytes }
    }

    async fn offered(&self, offer: Request) -> Reply {
        let mut channel = self.network.open(self.receiver, Role::Laboratory, SOON).await.unwrap();
        channel.send_value(&offer).await.unwrap();
        channel.receive_value(1 << 16).await.unwrap()
    }

    /// What becomes of a file.
    async fn file(&self, bytes: &[u8]) -> Reply {
        let mut channel = self.network.open(self.receiver, Role::Laboratory, SOON).await.unwrap();
        channel.send_value(&self.offer(bytes.len() as u64)).await.unwrap();
        let reply: Reply = channel.receive_value(1 << 16).await.unwrap();
        assert!(matches!(reply, Reply::Take), "{reply:?}");
        for frame in bytes.chunks(FRAME_BYTES) {
            channel.send(frame).await.unwrap();
        }
        channel.receive_value(1 << 16).await.unwrap()
    }
}

/// A file with another heading: what `change` leaves of its notes, and the checksum that fits them.
fn forged(whole: &[u8], change: impl FnOnce(&mut BTreeMap<String, String>)) -> Vec<u8> {
    let (length, rest) = whole.split_at(8);
    let (heading, values) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut heading: BTreeMap<String, serde_json::Value> = serde_json::from_slice(heading).unwrap();
    let notes = heading.remove("__metadata__").unwrap();
    let mut notes: BTreeMap<String, String> = serde_json::from_value(notes).unwrap();
    notes.remove("sha256").expect("the heading has a checksum");
    change(&mut notes);
    let mut summed = Vec::new();
    let mut part = |bytes: &[u8]| {
        summed.extend((bytes.len() as u64).to_le_bytes());
        summed.extend(bytes);
    };
    for (name, note) in &notes {
        part(name.as_bytes());
        part(note.as_bytes());
    }
    for (name, info) in &heading {
        let of = |what: &str| serde_json::from_value::<Vec<usize>>(info[what].clone()).unwrap();
        let offsets = of("data_offsets");
        part(name.as_bytes());
        part(format!("{:?}", of("shape")).as_bytes());
        part(&values[offsets[0]..offsets[1]]);
    }
    notes.insert("sha256".to_owned(), sha256(&summed));
    heading.insert("__metadata__".to_owned(), serde_json::to_value(notes).unwrap());
    let heading = serde_json::to_vec(&heading).unwrap();
    [&(heading.len() as u64).to_le_bytes()[..], &heading, values].concat()
}

#[test]
fn a_file_whose_checksum_fits_is_refused_without_its_figure_or_its_warning() {
    in_runtime(async {
        let mut bench = Bench::new([true, true]).await;
        let path = bench.file("file");
        encodings(&path, 1);
        let whole = std::fs::read(&path).unwrap();
        let sender = bench.sender.clone();
        let (network, roster) = bench.setting.impersonate(&sender);
        let wire = Wire::new(network, &roster, &bench.receiver);
        let without = |name: &str| forged(&whole, |notes| drop(notes.remove(name).unwrap()));
        // A date that a terminal would obey.
        let obeyed = forged(&whole, |notes| {
            let figure = notes["attack"].replace(&today()[..5], r"\u001b[2J");
            assert_ne!(notes.insert("attack".to_owned(), figure.clone()), Some(figure));
        });
        for (bytes, words) in [
            (without("attack"), "no note `attack`"),
            (without("warning"), "no note `warning`"),
            (obeyed, "makes no sense"),
        ] {
            let Reply::Refused(refused) = wire.file(&bytes).await else { panic!("kept without {words}") };
            assert_eq!(refused.obstacle, Obstacle::Request);
            assert!(refused.explanation.contains(words), "{words:?} is not in {refused}");
            assert!(!refused.explanation.contains('\u{1b}'), "{refused:?}");
        }
        assert!(bench.received().await.is_empty());
        // They fail for what they lack alone.
        let same = wire.file(&forged(&whole, |_| ())).await;
        assert!(matches!(same, Reply::Kept { .. }), "{same:?}");
        assert_eq!(bench.received().await.len(), 1);
    });
}

#[test]
fn what_is_no_file_of_encodings_is_refused_and_so_is_who_is_no_hospital() {
    in_runtime(async {
        let mut bench = Bench::new([true, true]).await;
        let path = bench.file("file");
        encodings(&path, 1);
        let whole = std::fs::read(&path).unwrap();
        let sender = bench.sender.clone();
        let (network, roster) = bench.setting.impersonate(&sender);
        let wire = Wire::new(network, &roster, &bench.receiver);

        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        // The checksum is over the figure as well, so it cannot be taken away unnoticed.
        let heading = String::from_utf8_lossy(&whole[..whole.len().min(4000)]).into_owned();
        let at = heading.find("attack").expect("the heading has the figure");
        let mut unmeasured = whole.clone();
        unmeasured[at..at + 6].copy_from_slice(b"attick");
        let shape = EncoderShape { side: 8, patch: 2, width: 32, private_depth: 0 };
        let key = bench.file("key");
        write_key(&key, &EncoderKey::draw(shape, &Seed::from_bytes([3; 16])).unwrap()).unwrap();
        for (bytes, words) in [
            (damaged, "checksum"),
            (unmeasured, "checksum"),
            (std::fs::read(key).unwrap(), "set of encodings"),
            (b"no encodings".to_vec(), "set of encodings"),
        ] {
            let Reply::Refused(refused) = wire.file(&bytes).await else { panic!("kept without {words}") };
            assert_eq!(refused.obstacle, Obstacle::Request);
            assert!(refused.explanation.contains(words), "{words:?} is not in {refused}");
            assert!(!refused.explanation.contains(".spool"), "{refused}");
        }
        let long = (257 << 20) + 1;
        for (offer, obstacle) in [
            (wire.offer(0), Obstacle::Request),
            (wire.offer(long), Obstacle::Request),
            (
                Request::Offer { task: "no such task".to_owned(), task_digest: wire.digest, bytes: 9 },
                Obstacle::Task,
            ),
            (Request::Offer { task: TASK.to_owned(), task_digest: [7; 32], bytes: 9 }, Obstacle::Task),
        ] {
            let Reply::Refused(refused) = wire.offered(offer).await else { panic!("taken") };
            assert_eq!(refused.obstacle, obstacle, "{refused}");
        }
        // One file of a member at a time, and the next one when that broke off.
        let mut first = wire.network.open(wire.receiver, Role::Laboratory, SOON).await.unwrap();
        first.send_value(&wire.offer(whole.len() as u64)).await.unwrap();
        assert!(matches!(first.receive_value(1 << 16).await.unwrap(), Reply::Take));
        let Reply::Refused(refused) = wire.offered(wire.offer(9)).await else { panic!("taken") };
        assert_eq!(refused.obstacle, Obstacle::Busy, "{refused}");
        for frame in whole.chunks(FRAME_BYTES) {
            first.send(frame).await.unwrap();
        }
        let Reply::Kept { name } = first.receive_value(1 << 16).await.unwrap() else { panic!("not kept") };
        let held = bench.received().await;
        assert!(held.len() == 1 && held[0].name == name, "{held:?}");
        assert_eq!(std::fs::read_dir(bench.in_receiver(".spool")).unwrap().count(), 0);
        drop((wire, roster));

        // A member that is no hospital of the task.
        let (network, roster) = bench.setting.impersonate(names::CLIENT);
        let wire = Wire::new(network, &roster, &bench.receiver);
        let Reply::Refused(refused) = wire.offered(wire.offer(whole.len() as u64)).await else {
            panic!("taken")
        };
        assert_eq!(refused.obstacle, Obstacle::NotAllowed, "{refused}");
        assert!(refused.explanation.contains(&format!("does not list {}", names::CLIENT)), "{refused}");
        assert_eq!(bench.received().await.len(), 1);
    });
}
