//! The module as a process of its own, with two parties on its socket.

#![allow(clippy::unwrap_used, reason = "a test")]

use consilium_attest::module::signature::PartyKey;
use consilium_attest::module::specification::{SignedSpecification, Specification};
use consilium_attest::noise_client::{ClientError, Proven, Unproven};
use consilium_attest::{Binding, Evidence, EvidenceKind};
use consilium_protocol::privacy::Mechanism;
use ed25519_dalek::SigningKey;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing here takes that long unless it is stuck.
const STUCK: Duration = Duration::from_secs(60);
const POLICY: [u8; 32] = [7; 32];

/// A running module; dies with the test.
struct Module {
    child: Child,
    socket: PathBuf,
    notes: Vec<String>,
}

impl Module {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("socket");
        let mut child = Command::new(env!("CARGO_BIN_EXE_consilium-enclave"))
            .args(["--attester", "software", "--listen"])
            .arg(format!("unix:{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut notes = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            notes.push(line.unwrap());
            if notes.last().unwrap().starts_with("listening") {
                break;
            }
        }
        Self { child, socket, notes }
    }

    fn party(&self, seat: u8) -> Proven<UnixStream> {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(STUCK)).unwrap();
        Unproven::open(stream, &key(seat)).unwrap().prove(POLICY, judge).unwrap().0
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(seat: u8) -> SigningKey {
    SigningKey::from_bytes(&[seat + 1; 32])
}

fn judge(evidence: &Evidence, binding: &Binding) -> Result<(), &'static str> {
    assert_eq!(evidence.binding.kind, EvidenceKind::Software);
    let about = evidence.binding == *binding && evidence.body == binding.report_data();
    if about { Ok(()) } else { Err("evidence about something else") }
}

fn signed(boot: [u8; 16], batch: u8) -> SignedSpecification {
    let wanted = Specification {
        mechanism: Mechanism::Gaussian { sigma_squared: "25".parse().unwrap() },
        classes: 10,
        draws: 100,
        task: [1; 32],
        policy: POLICY,
        boot,
        batch: [batch; 16],
        parties: [0, 1].map(|seat| key(seat).public()),
    };
    let signatures = [0, 1].map(|seat| wanted.sign(&key(seat)).unwrap());
    wanted.signed(signatures).unwrap()
}

#[test]
fn a_process_serves_both_and_forgets_everything_when_killed() {
    let folder = tempfile::tempdir().unwrap();
    let module = Module::start(folder.path());
    assert!(module.notes.iter().any(|note| note.starts_with("SOFTWARE EVIDENCE")), "{:?}", module.notes);
    let [mut zero, mut one] = [module.party(0), module.party(1)];
    let boot = *zero.boot();
    assert_eq!(boot, *one.boot());
    let wanted = signed(boot, 1);
    zero.request(&wanted).unwrap();
    let (one_half, zero_half) = (one.draw(&wanted).unwrap(), zero.collect().unwrap());
    assert_eq!(zero_half.receipt(), one_half.receipt());
    let mut variance = 0.0;
    for (zero, one) in zero_half.into_shares().into_iter().zip(one_half.into_shares()) {
        for (zero, one) in zero.into_values().iter().zip(one.into_values().iter()) {
            variance += (zero.wrapping_add(*one) as f64).powi(2) / 1_000.0;
        }
    }
    // The relative deviation of a variance over 1,000 draws is 4.5 %; software noise would have 50.
    assert!((variance / 25.0 - 1.0).abs() < 0.4, "{variance}");

    // Killed while one party waits: nobody gets anything, and the socket is no obstacle to the next boot.
    zero.request(&signed(boot, 2)).unwrap();
    module.kill();
    assert!(matches!(zero.collect(), Err(ClientError::Frame(_))));
    assert!(matches!(one.draw(&signed(boot, 2)), Err(ClientError::Frame(_))));
    let module = Module::start(folder.path());
    let mut zero = module.party(0);
    assert_ne!(*zero.boot(), boot);
    assert!(matches!(zero.request(&wanted), Err(ClientError::Mismatch { what: "boot" })));
}

#[test]
fn without_an_attester_by_name_it_does_not_start() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_consilium-enclave")).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (started, text) = run(&["--listen", "unix:/nonexistent/socket"]);
    assert!(!started && text.contains("--attester is missing"), "{text}");
    let (started, text) = run(&["--listen", "unix:/nonexistent/socket", "--attester", "software"]);
    assert!(!started && text.contains("cannot listen"), "{text}");
    let (started, text) = run(&["--help"]);
    assert!(started && text.contains("--attester software"), "{text}");
}
