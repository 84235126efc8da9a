//! The TPM attester against a software TPM in a process of its own, judged by the verifier.
//!
//! Needs the program `swtpm`; where it is not installed, the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test")]

use consilium_attest::module::attester::{Attester, BOOT_PCRS, Testimony, Tpm2};
use consilium_attest::policy::{Image, Register, TpmPolicy};
use consilium_attest::verifier::tpm2::{
    Challenge, EnrolmentError, TpmBody, VerifiedEndorsementKey, authenticate, endorsement_key,
};
use consilium_attest::{
    Binding, Collateral, Evidence, EvidenceKind, Expected, Hex, Policy, Refusal, VerifiedModule, verify,
};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing here takes that long unless it is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// Unix seconds; nothing in these quotes has a date.
const NOW: u64 = 1_800_000_000;

/// A software TPM that was just switched on; dies with the test.
struct Swtpm {
    child: Child,
    place: PathBuf,
    /// The connection; it serves one at a time.
    stream: UnixStream,
}

impl Swtpm {
    /// Starts the TPM whose state lies in `folder`, a new one where there is none. Says so and returns nothing
    /// where the program is not installed, past the capture of test output: a test that was skipped must not
    /// look like one that passed.
    fn start(folder: &Path) -> Option<Self> {
        // It accepts from a socket that it inherits, so nobody has to wait until there is one.
        let place = folder.join("socket");
        let _ = std::fs::remove_file(&place);
        let listener = UnixListener::bind(&place).unwrap();
        let stream = UnixStream::connect(&place).unwrap();
        stream.set_read_timeout(Some(STUCK)).unwrap();
        let started = Command::new("swtpm")
            .args(["socket", "--tpm2", "--server", "type=unixio,fd=0"])
            .args(["--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={}", folder.display()))
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn();
        match started {
            Ok(child) => Some(Self { child, place, stream }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let reason = "SKIPPED: there is no program `swtpm`; apt-get install swtpm swtpm-tools";
                let _ = writeln!(std::io::stderr(), "{reason}");
                None
            }
            Err(error) => panic!("swtpm: {error}"),
        }
    }

    fn attest(&self, binding: &Binding) -> Evidence {
        let Testimony { body, endorsements } = Tpm2::new(&self.stream, BOOT_PCRS).attest(binding).unwrap();
        Evidence { binding: binding.clone(), body, endorsements }
    }

    /// What firmware does with whatever it starts.
    fn extend(&self, register: u8) {
        let mut command = b"\x80\x02\0\0\0\x41\0\0\x01\x82\0\0\0".to_vec();
        command.push(register);
        // An empty password, and one digest under SHA-256.
        command.extend(b"\0\0\0\x09\x40\0\0\x09\0\0\0\0\0\0\0\0\x01\0\x0B");
        command.extend([7; 32]);
        (&self.stream).write_all(&command).unwrap();
        let mut answer = [0; 19];
        (&self.stream).read_exact(&mut answer).unwrap();
        assert_eq!(answer[2..10], [0, 0, 0, 19, 0, 0, 0, 0], "length and success");
    }

    /// Ends as when a machine loses its power.
    fn off(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Accepts the key and the registers that `evidence` shows.
fn policy(evidence: &Evidence) -> Policy {
    let registers = TpmBody::decode(&evidence.body).unwrap().registers;
    let registers = registers.into_iter().map(|(index, value)| Register { index, value: Hex(value) });
    let rules = TpmPolicy {
        keys: vec![authenticate(&evidence.body).unwrap().key()],
        images: vec![Image { registers: registers.collect() }],
    };
    Policy {
        evidence_age_max_secs: 120,
        reattest_after_secs: 3600,
        sev_snp: None,
        tdx: None,
        sgx_dcap: None,
        nitro: None,
        tpm2: Some(rules),
        software: None,
    }
}

/// The verdict of whoever asked with this nonce.
fn judge(evidence: &Evidence, nonce: u8, policy: &Policy) -> Result<VerifiedModule, Refusal> {
    let Binding { channel_key, policy: roster, nonce, verifier, .. } = binding(nonce);
    let expected = Expected { channel_key, policy: roster, nonce, asked: NOW, verifier };
    verify(evidence, &Collateral::default(), policy, &expected, NOW)
}

#[test]
fn a_software_tpm_quotes_every_nonce_under_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = Swtpm::start(folder.path()) else { return };
    let first = tpm.attest(&binding(0));
    let registers = TpmBody::decode(&first.body).unwrap().registers;
    assert_eq!(registers.len(), BOOT_PCRS.count_ones() as usize);
    let policy = policy(&first);
    judge(&first, 0, &policy).unwrap();
    // More often than a TPM has room for keys.
    for nonce in 1..9 {
        let verified = judge(&tpm.attest(&binding(nonce)), nonce, &policy).unwrap();
        assert_eq!((verified.kind(), verified.channel_key()), (EvidenceKind::Tpm2, [2; 32]));
        assert_eq!(verified.platform(), policy.tpm2.as_ref().unwrap().keys[0].to_string());
    }
}

#[test]
fn a_replayed_quote_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = Swtpm::start(folder.path()) else { return };
    let old = tpm.attest(&binding(1));
    let policy = policy(&old);
    judge(&old, 1, &policy).unwrap();
    assert_eq!(judge(&old, 2, &policy), Err(Refusal::Nonce));
    // The old quote under the name of the new question.
    let relabelled = Evidence { binding: binding(2), ..old };
    assert_eq!(judge(&relabelled, 2, &policy), Err(Refusal::Unbound));
    judge(&tpm.attest(&binding(2)), 2, &policy).unwrap();
}

#[test]
fn whatever_else_was_started_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = Swtpm::start(folder.path()) else { return };
    let clean = tpm.attest(&binding(1));
    let policy = policy(&clean);
    // Linux measures into 10 all the time, so no policy names it.
    tpm.extend(10);
    judge(&tpm.attest(&binding(2)), 2, &policy).unwrap();
    tpm.extend(4);
    let changed = tpm.attest(&binding(3));
    let refused = judge(&changed, 3, &policy).unwrap_err();
    assert!(matches!(&refused, Refusal::Measurement { register, .. } if register == "PCR 4"), "{refused:?}");
    // Values of before beside a quote of now.
    let registers = TpmBody::decode(&clean.body).unwrap().registers;
    let body = TpmBody { registers, ..TpmBody::decode(&changed.body).unwrap() }.encode();
    assert_eq!(judge(&Evidence { body, ..changed }, 3, &policy), Err(Refusal::PcrDigest));
}

#[test]
fn the_key_of_another_tpm_is_refused() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [Some(ours), Some(theirs)] = [0, 1].map(|at: usize| Swtpm::start(folders[at].path())) else { return };
    let policy = policy(&ours.attest(&binding(1)));
    let stranger = theirs.attest(&binding(2));
    let name = authenticate(&stranger.body).unwrap().key().to_string();
    assert_eq!(judge(&stranger, 2, &policy), Err(Refusal::KeyNotEnrolled { name }));
    // Its quote behind the enrolled key.
    let public = TpmBody::decode(&ours.attest(&binding(2)).body).unwrap().public;
    let body = TpmBody { public, ..TpmBody::decode(&stranger.body).unwrap() }.encode();
    let refused = judge(&Evidence { body, ..stranger }, 2, &policy);
    assert_eq!(refused, Err(Refusal::Signature { part: "the TPM quote" }));
}

#[test]
fn a_reset_keeps_the_key_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tpm) = Swtpm::start(folder.path()) else { return };
    let before = tpm.attest(&binding(1));
    let policy = policy(&before);
    tpm.extend(4);
    assert!(judge(&tpm.attest(&binding(2)), 2, &policy).is_err());
    tpm.off();
    // A clean start: the measurements begin anew, under the same key.
    let Some(tpm) = Swtpm::start(folder.path()) else { return };
    let after = tpm.attest(&binding(3));
    let verified = judge(&after, 3, &policy).unwrap();
    let [earlier, later] = [&before, &after].map(|evidence| authenticate(&evidence.body).unwrap().resets());
    assert_eq!(later, earlier + 1);
    assert!(verified.level().contains(&format!("reset {later} times")), "{}", verified.level());
    assert_ne!(verified.level(), judge(&before, 1, &policy).unwrap().level());
}

#[test]
fn the_command_line_shows_the_key_that_signs() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut tpm) = Swtpm::start(folder.path()) else { return };
    let key = authenticate(&tpm.attest(&binding(1)).body).unwrap().key();
    // The TPM takes the next connection once the last has ended.
    tpm.stream = UnixStream::pair().unwrap().0;
    let shown = Command::new(env!("CARGO_BIN_EXE_consilium-enclave"))
        .args(["--show-key", &format!("tpm2:{}", tpm.place.display())])
        .output()
        .unwrap();
    assert!(shown.status.success());
    assert_eq!(String::from_utf8(shown.stderr).unwrap(), format!("{key}\n"));
}

/// Makes a TPM as a manufacturer does: with an endorsement key, and a certificate by an authority of its own in
/// another folder. Nothing where the programs for it are not installed.
fn manufacture(state: &Path, authority: &Path) -> Option<()> {
    let place = |name: &str| authority.join(name).display().to_string();
    let setup = format!(
        "create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config={}\ncreate_certs_tool_options={}\n",
        place("localca.conf"),
        place("localca.options"),
    );
    let localca =
        ["statedir", "signingkey", "issuercert", "certserial"].iter().zip(["", "key", "ca", "serial"]);
    let localca: String = localca.map(|(key, name)| format!("{key}={}\n", place(name))).collect();
    let options = "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n";
    std::fs::write(place("setup.conf"), setup).unwrap();
    std::fs::write(place("localca.conf"), localca).unwrap();
    std::fs::write(place("localca.options"), options).unwrap();
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let made = Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--config", &place("setup.conf"), "--tpmstate"])
        .arg(state)
        .args(["--runas", String::from_utf8(user).unwrap().trim()])
        .stdout(Stdio::null())
        .status();
    match made {
        Ok(status) => assert!(status.success(), "swtpm_setup: {status}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "swtpm_setup: {error}");
            let reason = "SKIPPED: there is no program `swtpm_setup`; apt-get install swtpm swtpm-tools";
            let _ = writeln!(std::io::stderr(), "{reason}");
            return None;
        }
    }
    Some(())
}

/// The endorsement key of a TPM, as its certificate, the authority's and the root's vouch for it.
fn endorsed(tpm: &Swtpm, authority: &Path) -> VerifiedEndorsementKey {
    let pem = |name: &str| {
        let pem = std::fs::read(authority.join(name)).unwrap();
        x509_cert::der::pem::decode_vec(&pem).unwrap().1
    };
    let leaf = Tpm2::new(&tpm.stream, BOOT_PCRS).endorsement_certificate().unwrap();
    let (issuer, root) = (pem("ca"), pem("swtpm-localca-rootca-cert.pem"));
    let mut fingerprint = Hex([0; 32]);
    fingerprint.0.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &root).as_ref());
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    endorsement_key(&[&leaf, &issuer, &root], &[fingerprint], now).unwrap()
}

#[test]
fn a_key_is_enrolled_where_it_lives_beside_a_certified_one() {
    let [ours, theirs, authority] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    for folder in [&ours, &theirs] {
        let Some(()) = manufacture(folder.path(), authority.path()) else { return };
    }
    let [Some(ours), Some(theirs)] = [&ours, &theirs].map(|folder| Swtpm::start(folder.path())) else {
        return;
    };
    let endorsement = endorsed(&ours, authority.path());
    let mut tpm = Tpm2::new(&ours.stream, BOOT_PCRS);
    let public = tpm.attestation_key().unwrap();
    let (challenge, credential) = Challenge::new(&endorsement, &public).unwrap();
    let name = challenge.answered(&tpm.activate(&credential).unwrap()).unwrap();
    assert_eq!(name, authenticate(&ours.attest(&binding(1)).body).unwrap().key());

    // The key of another TPM under this certificate: neither opens the credential.
    let mut stranger = Tpm2::new(&theirs.stream, BOOT_PCRS);
    let (challenge, credential) = Challenge::new(&endorsement, &stranger.attestation_key().unwrap()).unwrap();
    tpm.activate(&credential).unwrap_err();
    stranger.activate(&credential).unwrap_err();
    assert_eq!(challenge.answered(&[0; 32]), Err(EnrolmentError::Secret));
    // The failures left nothing behind: a TPM has room for three keys and as many sessions.
    for _ in 0..4 {
        tpm.activate(&credential).unwrap_err();
        let (challenge, good) = Challenge::new(&endorsement, &public).unwrap();
        challenge.answered(&tpm.activate(&good).unwrap()).unwrap();
    }
}
