//! Attacks on a party while questions are asked: refused, written down once, and nobody else notices.

use crate::setting::{EXACT, LOOK_EVERY, SOON, Setting, in_runtime, peer_of};
use consilium::demo::names;
use consilium_tests::siege::{Attack, Done, Target, attack, descriptors, dialling, resident};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VICTIM: &str = names::ZERO;
/// Whose key the attacker has.
const TRAITOR: &str = "hospital-03";
/// Growth of the victim's memory that buffers within its limits explain.
const GROWTH_MAX: u64 = 48 << 20;
/// Places for handshakes and HTTP, streams, files of the node: hundreds would be the attacker's.
const DESCRIPTORS_MAX: usize = 256;
const QUESTIONS: usize = 4;

fn lines(setting: &Setting, line: &str) -> usize {
    let log = std::fs::read_to_string(setting.world.folder_of(VICTIM).join("log.txt")).unwrap();
    log.lines().filter(|one| one.contains(line)).count()
}

/// What somebody knows who attacks party Zero with the last hospital's key; that hospital's own node is gone.
async fn betrayed(setting: &mut Setting) -> Target {
    let (other, roster) = setting.impersonate(TRAITOR);
    other.shutdown().await;
    let peer = peer_of(&roster, VICTIM);
    let address: consilium::net::Address =
        roster.member(VICTIM).unwrap().addresses[0].as_str().parse().unwrap();
    let address = address.socket().unwrap();
    let key = setting.world.folder_of(TRAITOR).join("identity.key");
    let member = dialling(consilium::net::Identity::load(&key).unwrap(), peer, address).unwrap();
    member.connected(peer).unwrap().wait_connected().await.unwrap();
    let http = setting.world.http(VICTIM).unwrap();
    let architecture = setting.scenario.hospitals[2].model.network().clone();
    Target { peer, address, http, member, task: EXACT.to_owned(), architecture }
}

/// Asks for as long as the attack has not shown its effect, and a few times in any case. By how much answers are slower,
/// the program `siege` measures; one that is held up is refused by its deadline.
async fn right_answers_until(setting: &Setting, row: &mut usize, shown: impl Fn() -> bool) {
    let (started, mut asked) = (Instant::now(), 0);
    while asked < QUESTIONS || !shown() {
        let verdict = setting.verdict(*row);
        let labels = setting.answered(EXACT, *row).await.labels;
        assert!(!verdict.certain || labels == [Some(verdict.label as u32)], "row {row}");
        (*row, asked) = (*row + 1, asked + 1);
        assert!(started.elapsed() < SOON, "the attack shows no effect");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[test]
fn questions_go_on_under_attack_and_the_attacker_is_named_once() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT]).await;
        let (started, mut row) = (Instant::now(), 0);
        let target = betrayed(&mut setting).await;
        let pid = setting.world.pid(VICTIM).unwrap();
        right_answers_until(&setting, &mut row, || true).await;
        let before = resident(pid).unwrap();
        for kind in Attack::ALL {
            let done = Done::default();
            let attacking = tokio::spawn(attack(kind, target.clone(), done.clone()));
            let shown = || {
                let told = kind.line().is_none_or(|line| lines(&setting, line) > 0);
                told && done.tried() > 30 && done.ended() > 0
            };
            right_answers_until(&setting, &mut row, shown).await;
            if kind == Attack::Handshakes {
                // A member that was away comes back in spite of it.
                setting.world.kill("hospital-02").unwrap();
                setting.revive("hospital-02").await;
            }
            if kind == Attack::Http {
                let told = http(
                    target.http,
                    b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
                );
                assert!(told.await.starts_with("HTTP/1.1 200"));
            }
            let (grown, files) = (resident(pid).unwrap().saturating_sub(before), descriptors(pid).unwrap());
            assert!(grown < GROWTH_MAX && files < DESCRIPTORS_MAX, "{kind:?}: {grown} bytes, {files} files");
            attacking.abort();
            let _ = attacking.await;
        }
        let intervals = 1 + started.elapsed().as_secs() as usize / 60;
        for kind in Attack::ALL {
            let Some(line) = kind.line() else { continue };
            let found = lines(&setting, line);
            assert!((1..=kind.lines_max() * intervals).contains(&found), "{kind:?}: {found} lines");
        }
        let log = std::fs::read_to_string(setting.world.folder_of(VICTIM).join("log.txt")).unwrap();
        assert!(log.contains("the peer is not on the roster"), "{log}");
    });
}

async fn http(to: std::net::SocketAddr, words: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut told = Vec::new();
    let talk = async {
        stream.write_all(words).await.unwrap();
        stream.read_to_end(&mut told).await.unwrap();
    };
    tokio::time::timeout(SOON, talk).await.expect("nothing may hang");
    String::from_utf8(told).unwrap()
}

/// Longer than the head of any request.
const LONG_HEAD: usize = 1 << 20;

#[test]
fn heads_and_bodies_without_end_are_cut_off() {
    in_runtime(async {
        let setting = Setting::bare(crate::setting::scenario(), "info").await;
        let to = setting.world.http(VICTIM).unwrap();
        let pid = setting.world.pid(VICTIM).unwrap();
        let before = resident(pid).unwrap();
        // A head without end: what comes after the limit is neither kept nor waited for.
        for (start, more) in
            [("GET / HTTP/1.1\r\nx: ", "x"), ("GET / HTTP/1.1\r\n", "x: y\r\n"), ("GET /", "x")]
        {
            let mut stream = TcpStream::connect(to).await.unwrap();
            let words = format!("{start}{}", more.repeat(LONG_HEAD / more.len()));
            let mut told = Vec::new();
            let talk = async {
                // The end may come before all is written.
                let _ = stream.write_all(words.as_bytes()).await;
                let _ = stream.read_to_end(&mut told).await;
            };
            tokio::time::timeout(Duration::from_secs(10), talk).await.expect("it is cut off");
            let told = String::from_utf8_lossy(&told);
            assert!(told.is_empty() || told.starts_with("HTTP/1.1 4"), "{told}");
        }
        // Without the token a body is not even read.
        let claimed =
            b"POST /v2/models/exact/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{";
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(claimed).await.unwrap();
        let mut room = [0; 12];
        tokio::time::timeout(SOON, stream.read_exact(&mut room)).await.unwrap().unwrap();
        assert_eq!(&room, b"HTTP/1.1 401");
        assert!(resident(pid).unwrap() < before + GROWTH_MAX);
    });
}
