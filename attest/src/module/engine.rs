//! The module itself: its keys, its sessions, and the one place where noise is drawn. No input or output.

use consilium_protocol::algebra::prg::{Prg, Seed, SeedError};
use consilium_protocol::party::Party;
use consilium_protocol::share::Additive;
use ed25519_dalek::SigningKey;
use rand::{TryCryptoRng, TryRng};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::convert::Infallible;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::attester::{Attester, Testimony};
use super::channel::TEXT_BYTES_MAX;
use super::message::{Half, Refusal, Reply};
use super::receipt::{Receipt, SALT_BYTES, commitment};
use super::rendezvous::{BATCHES_MAX, Meeting, Rendezvous};
use super::session::{Attested, Named, Session, SessionError, Step};
use super::signature::peer_id;
use super::specification::{SignedSpecification, Specification, SpecificationError};
use crate::binding::Binding;
use crate::draw::Noise;
use crate::evidence::Evidence;

/// Most channels of one party: the one in use, and one that broke without the module's notice.
const CHANNELS_MAX: usize = 2;

/// What goes out for one frame that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A frame for a connection.
    Send {
        /// Number of the connection.
        connection: u64,
        /// The frame.
        frame: Vec<u8>,
    },
    /// A connection is to be closed.
    Close {
        /// Number of the connection.
        connection: u64,
        /// Why.
        error: SessionError,
    },
    /// The platform gave no evidence; for whoever watches the module.
    Unattested {
        /// Number of the connection.
        connection: u64,
        /// Why.
        reason: String,
    },
}

/// One boot of the module. Its keys are drawn here, leave it never, and are wiped at the end.
pub struct Engine<A> {
    boot: [u8; 16],
    channel_key: StaticSecret,
    receipt_key: SigningKey,
    attester: A,
    sessions: HashMap<u64, Session>,
    rendezvous: Rendezvous,
    receipts: u64,
}

impl<A: Attester> Engine<A> {
    /// A new boot with fresh keys.
    ///
    /// # Errors
    /// [`SeedError`] where the system has no random bytes.
    pub fn new(attester: A) -> Result<Self, SeedError> {
        Self::remembering(attester, BATCHES_MAX)
    }

    /// As [`Engine::new`], refusing everything after so many batches.
    pub(crate) fn remembering(attester: A, batches: usize) -> Result<Self, SeedError> {
        let [channel, receipt] = [random::<32>()?, random()?];
        Ok(Self {
            boot: *random::<16>()?,
            channel_key: StaticSecret::from(*channel),
            receipt_key: SigningKey::from_bytes(&receipt),
            attester,
            sessions: HashMap::new(),
            rendezvous: Rendezvous::new(batches),
            receipts: 0,
        })
    }

    /// The number of this boot.
    pub const fn boot(&self) -> &[u8; 16] {
        &self.boot
    }

    /// Batches drawn so far.
    pub const fn receipts(&self) -> u64 {
        self.receipts
    }

    /// A connection was opened. Numbers of connections are never used again.
    ///
    /// # Errors
    /// [`SessionError`] where no handshake can be prepared.
    pub fn open(&mut self, connection: u64) -> Result<(), SessionError> {
        self.sessions.insert(connection, Session::new(&self.channel_key)?);
        Ok(())
    }

    /// A connection is gone.
    pub fn close(&mut self, connection: u64) {
        self.sessions.remove(&connection);
        self.rendezvous.leave(connection);
    }

    /// A frame came in. Frames for connections that are closed lead to nothing.
    pub fn receive(&mut self, connection: u64, frame: &[u8]) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(session) = self.sessions.remove(&connection) else { return out };
        let done = session.receive(frame).and_then(|step| self.step(connection, step, &mut out));
        if let Err(error) = done {
            self.close(connection);
            out.push(Output::Close { connection, error });
        }
        out
    }

    fn step(&mut self, connection: u64, step: Step, out: &mut Vec<Output>) -> Result<(), SessionError> {
        match step {
            Step::Goes(session, frame) => {
                if let Some(party) = session.party() {
                    self.displace(party, out);
                }
                self.sessions.insert(connection, session);
                out.extend(frame.map(|frame| Output::Send { connection, frame }));
                Ok(())
            }
            Step::Attest(named, nonce, policy) => self.attest(connection, named, nonce, policy, out),
            Step::Draw(attested, signed) => self.draw(connection, attested, &signed, out),
        }
    }

    /// A party comes with one more channel, and its oldest ones beyond the bound go. So none can take all places
    /// of a module, and none is kept out by its own dead channels.
    fn displace(&mut self, party: &[u8; 32], out: &mut Vec<Output>) {
        let own = self.sessions.iter().filter(|(_, session)| session.party() == Some(party));
        let mut own: Vec<u64> = own.map(|(connection, _)| *connection).collect();
        own.sort_unstable();
        let surplus = (own.len() + 1).saturating_sub(CHANNELS_MAX);
        for connection in own.into_iter().take(surplus) {
            self.close(connection);
            out.push(Output::Close { connection, error: SessionError::Displaced });
        }
    }

    fn attest(
        &mut self,
        connection: u64,
        named: Named,
        nonce: [u8; 32],
        policy: [u8; 32],
        out: &mut Vec<Output>,
    ) -> Result<(), SessionError> {
        let binding = Binding {
            kind: self.attester.kind(),
            boot: self.boot,
            channel_key: PublicKey::from(&self.channel_key).to_bytes(),
            receipt_key: self.receipt_key.verifying_key().to_bytes(),
            policy,
            nonce,
            verifier: peer_id(named.party()),
        };
        let testimony = self.attester.attest(&binding).map_err(|error| error.to_string());
        let reply = testimony.and_then(|Testimony { body, endorsements }| {
            let reply = Reply::Evidence(Evidence { binding, body, endorsements });
            let bytes = reply.encode().len();
            if bytes <= TEXT_BYTES_MAX { Ok(reply) } else { Err(format!("{bytes} bytes fit no frame")) }
        });
        let reply = reply.unwrap_or_else(|reason| {
            out.push(Output::Unattested { connection, reason });
            Reply::Refused(Refusal::Evidence)
        });
        let (session, frame) = named.attested(policy, &reply)?;
        self.sessions.insert(connection, session);
        out.push(Output::Send { connection, frame });
        Ok(())
    }

    fn draw(
        &mut self,
        connection: u64,
        attested: Attested,
        signed: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), SessionError> {
        let (signed, party) = match self.admit(&attested, signed) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.answer(connection, attested, &Reply::Refused(refusal), out),
        };
        match self.rendezvous.arrive(signed.specification(), party, connection) {
            Meeting::Waits => {
                self.sessions.insert(connection, attested.wait());
                Ok(())
            }
            Meeting::Meets { other } => {
                let [mine, theirs] = match self.halves(signed.specification()) {
                    Ok([zero, one]) if party == Party::Zero => [Reply::Half(zero), Reply::Half(one)],
                    Ok([zero, one]) => [Reply::Half(one), Reply::Half(zero)],
                    Err(SeedError::Entropy) => [Refusal::Entropy, Refusal::Entropy].map(Reply::Refused),
                };
                self.answer_waiting(other, &theirs, out);
                self.answer(connection, attested, &mine, out)
            }
            Meeting::Refused { refusal, other } => {
                if let Some(other) = other {
                    self.answer_waiting(other, &Reply::Refused(refusal), out);
                }
                self.answer(connection, attested, &Reply::Refused(refusal), out)
            }
        }
    }

    /// What one party alone can ask for.
    fn admit(&self, attested: &Attested, signed: &[u8]) -> Result<(SignedSpecification, Party), Refusal> {
        let signed = SignedSpecification::decode(signed).map_err(|error| match error {
            SpecificationError::Signature { .. } => Refusal::Signature,
            _ => Refusal::Specification,
        })?;
        let wanted = signed.specification();
        let party = wanted.seat(attested.party()).ok_or(Refusal::Party)?;
        if wanted.boot != self.boot {
            return Err(Refusal::Boot);
        }
        if wanted.policy != *attested.policy() {
            return Err(Refusal::Policy);
        }
        Ok((signed, party))
    }

    fn answer(
        &mut self,
        connection: u64,
        attested: Attested,
        reply: &Reply,
        out: &mut Vec<Output>,
    ) -> Result<(), SessionError> {
        let (session, frame) = attested.answer(reply)?;
        self.sessions.insert(connection, session);
        out.push(Output::Send { connection, frame });
        Ok(())
    }

    fn answer_waiting(&mut self, connection: u64, reply: &Reply, out: &mut Vec<Output>) {
        let Some(Session::Waiting(waiting)) = self.sessions.remove(&connection) else { return };
        if let Err(error) = self.answer(connection, waiting.end(), reply, out) {
            self.close(connection);
            out.push(Output::Close { connection, error });
        }
    }

    /// Draws a batch that nobody knows, and splits it. All of it is wiped when this returns, but for the
    /// halves.
    fn halves(&mut self, wanted: &Specification) -> Result<[Half; 2], SeedError> {
        let mut source = Source(Prg::new(&Seed::random()?));
        let mask = Seed::random()?;
        let salts = [random::<SALT_BYTES>()?, random()?];
        let values = draw(wanted, &mut source);
        let share = Additive::complement(&values, &mask);
        let shares = [Zeroizing::new(mask.as_bytes().to_vec()), share_bytes(&share)];
        let digest = wanted.digest();
        let committed = |party: Party| {
            let seat = party as usize;
            commitment(&digest, &self.boot, party, &salts[seat], &shares[seat])
        };
        let commitments = Party::BOTH.map(committed);
        let number = self.receipts;
        self.receipts += 1;
        let receipt =
            Receipt::issue(&self.receipt_key, (self.boot, number), (digest, wanted.batch), commitments);
        let [zero, one] = shares;
        let [salt_zero, salt_one] = salts;
        Ok([
            Half { party: Party::Zero, salt: salt_zero, share: zero, receipt: receipt.clone() },
            Half { party: Party::One, salt: salt_one, share: one, receipt },
        ])
    }
}

impl<A> std::fmt::Debug for Engine<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} sessions, {} batches)", self.sessions.len(), self.receipts)
    }
}

/// All integers of a batch, draw after draw, as ring elements.
fn draw(wanted: &Specification, source: &mut Source) -> Zeroizing<Vec<u64>> {
    let noise = Noise::new(&wanted.mechanism);
    let count = wanted.width() * wanted.draws as usize;
    // One allocation of the right size, so that none is left behind unwiped.
    let mut values = Zeroizing::new(Vec::with_capacity(count));
    for _ in 0..wanted.draws {
        let (counts, threshold) = noise.draw(usize::from(wanted.classes), source);
        values.extend(counts.iter().map(|value| value.cast_unsigned()));
        values.extend(threshold.iter().map(|value| value.cast_unsigned()));
    }
    values
}

fn share_bytes(words: &[u64]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * words.len()));
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SeedError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| SeedError::Entropy)?;
    Ok(bytes)
}

/// The random stream of one batch, from one seed of the system's; wiped at the end of the batch.
struct Source(Prg);

impl TryRng for Source {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill_bytes(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.word())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Source {}

#[cfg(test)]
mod tests;
