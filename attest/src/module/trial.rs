//! What the tests of the module share.

use consilium_protocol::privacy::Mechanism;
use ed25519_dalek::SigningKey;
use proptest::prelude::ProptestConfig;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::rc::Rc;

use super::attester::{Attester, Software};
use super::engine::{Engine, Output};
use super::frame::{PREFIX_BYTES, write_frame};
use super::session::SessionError;
use super::specification::{SignedSpecification, Specification};
use crate::binding::{Binding, EvidenceKind};
use crate::evidence::{Collateral, Evidence};
use crate::noise_client::{ClientError, ProofError, Proven, Unproven};
use crate::policy::{Policy, SoftwarePolicy};
use crate::refusal::Refusal;
use crate::verified::{Expected, VerifiedModule};
use crate::verifier::verify;

/// Identity key of a seat; seats beyond 1 are strangers.
pub(crate) fn key(seat: u8) -> SigningKey {
    SigningKey::from_bytes(&[seat + 1; 32])
}

/// One mechanism of each kind that draws noise.
pub(crate) fn mechanisms() -> [Mechanism; 3] {
    let ratio = |text: &str| text.parse().unwrap();
    [
        Mechanism::Gaussian { sigma_squared: ratio("25") },
        Mechanism::ConfidentGaussian {
            sigma_squared: ratio("25"),
            threshold: 7,
            threshold_sigma_squared: ratio("400"),
        },
        Mechanism::Laplace { epsilon: ratio("1/2") },
    ]
}

/// A small batch.
pub(crate) fn specification() -> Specification {
    Specification {
        mechanism: mechanisms()[0],
        classes: 3,
        draws: 4,
        task: [1; 32],
        policy: [2; 32],
        boot: [3; 16],
        batch: [4; 16],
        parties: [0, 1].map(|seat| key(seat).verifying_key().to_bytes()),
    }
}

/// Signs for both parties.
pub(crate) fn signed(specification: Specification) -> SignedSpecification {
    let signatures = [0, 1].map(|seat| specification.sign(&key(seat)).unwrap());
    specification.signed(signatures).unwrap()
}

/// Something to bind.
pub(crate) fn binding(kind: EvidenceKind) -> Binding {
    Binding {
        kind,
        boot: [1; 16],
        channel_key: [2; 32],
        receipt_key: [3; 32],
        policy: [4; 32],
        nonce: [5; 32],
        verifier: vec![6; 38],
    }
}

/// Number of cases of each fuzz test: `CONSILIUM_FUZZ_CASES`, or a few hundred.
pub(crate) fn fuzz() -> ProptestConfig {
    let cases = std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(512);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Number of cases where each opens a channel: a sixteenth.
pub(crate) fn dialogues() -> ProptestConfig {
    let fuzz = fuzz();
    ProptestConfig { cases: fuzz.cases.div_ceil(16), ..fuzz }
}

/// Accepts software evidence that is about the binding, and nothing else.
pub(crate) fn judge(evidence: &Evidence, binding: &Binding) -> Result<(), &'static str> {
    let about = evidence.binding == *binding && evidence.body == binding.report_data();
    if about { Ok(()) } else { Err("evidence about something else") }
}

/// The time of all verdicts here, in Unix seconds.
const NOW: u64 = 1_800_000_000;

/// A policy under which nothing but software evidence may count.
pub(crate) fn policy(software: bool) -> Policy {
    Policy {
        evidence_age_max_secs: 60,
        reattest_after_secs: 600,
        sev_snp: None,
        tdx: None,
        sgx_dcap: None,
        nitro: None,
        tpm2: None,
        software: software.then_some(SoftwarePolicy { allow: true }),
    }
}

/// The verdict on evidence for a question asked just now, as a compute party comes to it.
pub(crate) fn verified(
    evidence: &Evidence,
    asked: &Binding,
    policy: &Policy,
) -> Result<VerifiedModule, Refusal> {
    let Binding { channel_key, policy: roster, nonce, .. } = *asked;
    let expected =
        Expected { channel_key, policy: roster, nonce, asked: NOW, verifier: asked.verifier.clone() };
    verify(evidence, &Collateral::default(), policy, &expected, NOW)
}

/// What a network attacker makes of a frame on a connection: frames on any connections.
pub(crate) type Attack = Box<dyn FnMut(u64, Vec<u8>) -> Vec<(u64, Vec<u8>)>>;

struct Inner {
    engine: Engine<Box<dyn Attester>>,
    inboxes: HashMap<u64, VecDeque<u8>>,
    ended: HashMap<u64, SessionError>,
    up: Attack,
    down: Attack,
}

impl Inner {
    fn receive(&mut self, connection: u64, frame: Vec<u8>) {
        for (connection, frame) in (self.up)(connection, frame) {
            for output in self.engine.receive(connection, &frame) {
                match output {
                    Output::Send { connection, frame } => self.send(connection, frame),
                    Output::Close { connection, error } => {
                        assert_eq!(self.ended.insert(connection, error), None, "closed once");
                    }
                    Output::Unattested { .. } => {}
                }
            }
        }
    }

    fn send(&mut self, connection: u64, frame: Vec<u8>) {
        for (connection, frame) in (self.down)(connection, frame) {
            let inbox = self.inboxes.entry(connection).or_default();
            let mut bytes = Vec::new();
            write_frame(&mut bytes, &frame).unwrap();
            inbox.extend(bytes);
        }
    }
}

/// A module and its connections in one thread. A stream on which nothing waits reads as ended.
#[derive(Clone)]
pub(crate) struct World(Rc<RefCell<Inner>>);

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Engine::new(Box::new(Software) as Box<dyn Attester>).unwrap())
    }

    pub(crate) fn of(engine: Engine<Box<dyn Attester>>) -> Self {
        let pass = || Box::new(|connection: u64, frame: Vec<u8>| vec![(connection, frame)]) as Attack;
        let (inboxes, ended) = (HashMap::new(), HashMap::new());
        Self(Rc::new(RefCell::new(Inner { engine, inboxes, ended, up: pass(), down: pass() })))
    }

    /// Puts an attacker between parties and module.
    pub(crate) fn attacked(self, up: Attack, down: Attack) -> Self {
        {
            let mut inner = self.0.borrow_mut();
            (inner.up, inner.down) = (up, down);
        }
        self
    }

    /// A stream to the module, under a number that was not used before.
    pub(crate) fn connect(&self, connection: u64) -> Wire {
        self.0.borrow_mut().engine.open(connection).unwrap();
        Wire { world: self.clone(), connection, outbox: Vec::new() }
    }

    /// A party that has judged the module's evidence.
    pub(crate) fn proven(
        &self,
        connection: u64,
        seat: u8,
        policy: [u8; 32],
    ) -> Result<Proven<Wire>, ProofError<&'static str>> {
        let unproven = Unproven::open(self.connect(connection), &key(seat)).map_err(ProofError::Client)?;
        unproven.prove(policy, judge).map(|(proven, ())| proven)
    }

    /// Both parties, on connections 0 and 1, with evidence for the policy of [`specification`].
    pub(crate) fn both(&self) -> [Proven<Wire>; 2] {
        [0, 1].map(|seat| self.proven(u64::from(seat), seat, specification().policy).unwrap())
    }

    /// Bytes that wait for a party.
    pub(crate) fn waiting(&self, connection: u64) -> usize {
        self.0.borrow().inboxes.get(&connection).map_or(0, VecDeque::len)
    }

    /// Why the module closed a connection.
    pub(crate) fn ended(&self, connection: u64) -> Option<SessionError> {
        self.0.borrow().ended.get(&connection).cloned()
    }

    /// [`specification`] for this module and a number.
    pub(crate) fn wanted(&self, batch: u8) -> Specification {
        let boot = *self.0.borrow().engine.boot();
        Specification { boot, batch: [batch; 16], ..specification() }
    }

    /// Receipts issued so far.
    pub(crate) fn receipts(&self) -> u64 {
        self.0.borrow().engine.receipts()
    }

    /// Feeds a frame past every client.
    pub(crate) fn feed(&self, connection: u64, frame: Vec<u8>) {
        self.0.borrow_mut().receive(connection, frame);
    }
}

/// A party's end of a stream to the module.
pub(crate) struct Wire {
    world: World,
    connection: u64,
    outbox: Vec<u8>,
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.extend(bytes);
        while let Some((prefix, rest)) = self.outbox.split_first_chunk::<PREFIX_BYTES>() {
            let length = usize::from(u16::from_le_bytes(*prefix));
            let Some((frame, rest)) = rest.split_at_checked(length) else { break };
            let (frame, rest) = (frame.to_vec(), rest.to_vec());
            self.outbox = rest;
            self.world.0.borrow_mut().receive(self.connection, frame);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.world.0.borrow_mut();
        let Some(inbox) = inner.inboxes.get_mut(&self.connection) else { return Ok(0) };
        inbox.read(bytes)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.world.0.borrow_mut().engine.close(self.connection);
    }
}

/// Both halves of one batch.
pub(crate) fn both_collect(
    parties: &mut [Proven<Wire>; 2],
    signed: &SignedSpecification,
) -> Result<[crate::noise_client::Batch; 2], ClientError> {
    for party in parties.iter_mut() {
        party.request(signed)?;
    }
    let [zero, one] = parties;
    Ok([zero.collect()?, one.collect()?])
}
