//! The TPM attester against a software TPM in a process of its own.
//!
//! Slow, and needs the program `swtpm`: `cargo test --release -p consilium-attest --test swtpm -- --ignored`.

#![allow(clippy::unwrap_used, reason = "a test")]

use ciborium::Value;
use consilium_attest::module::attester::{Attester, BOOT_PCRS, Tpm2};
use consilium_attest::{Binding, EvidenceKind};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// A software TPM that was just made; dies with the test.
struct Swtpm(Child);

impl Swtpm {
    fn start(folder: &Path) -> (Self, UnixStream) {
        let place = |name: &str| format!("type=unixio,path={}", folder.join(name).display());
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={}", folder.display()))
            .args(["--server", &place("tpm"), "--ctrl", &place("control")])
            .stdin(Stdio::null())
            .spawn()
            .expect("swtpm is installed");
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(folder.join("tpm")) {
                Ok(stream) => break stream,
                Err(error) => assert!(started.elapsed() < STUCK, "{error}"),
            }
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(STUCK)).unwrap();
        (Self(child), stream)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn binding(nonce: u8) -> Binding {
    Binding {
        kind: EvidenceKind::Tpm2,
        boot: [1; 16],
        channel_key: [2; 32],
        receipt_key: [3; 32],
        policy: [4; 32],
        nonce: [nonce; 32],
        verifier: vec![6; 38],
    }
}

/// Checks a quote's signature under the key that came with it; the quoted data and the key.
fn verified(body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let parts: Value = ciborium::from_reader(body).unwrap();
    let [attest, signature, public, registers] = &parts.as_array().unwrap()[..] else { panic!("four parts") };
    let [attest, signature, public] = [attest, signature, public].map(|part| part.as_bytes().unwrap());
    // Both coordinates and both halves of the signature stand behind two bytes of length.
    let end = public.len();
    let point = [&[4][..], &public[end - 66..end - 34], &public[end - 32..]].concat();
    let fixed = [&signature[6..38], &signature[40..72]].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(attest, &fixed).unwrap();
    assert_eq!(registers.as_map().unwrap().len(), BOOT_PCRS.count_ones() as usize);
    (attest[44..76].to_vec(), public.clone())
}

#[test]
#[ignore = "needs swtpm"]
fn a_software_tpm_quotes_the_binding_under_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let (_swtpm, stream) = Swtpm::start(folder.path());
    let mut attester = Tpm2::new(stream, BOOT_PCRS);
    let mut keys = Vec::new();
    // More often than a TPM has room for keys.
    for nonce in 0..8 {
        let binding = binding(nonce);
        let (data, key) = verified(&attester.attest(&binding).unwrap().body);
        assert_eq!(data, binding.qualifying_data());
        keys.push(key);
    }
    assert!(keys.iter().all(|key| *key == keys[0]), "a primary key is the same every time");
}
