//! A compute party's side of the module's channel.
//!
//! ```text
//! Unproven --prove (evidence judged)--> Proven --request, collect (once the other party asked too)--> Batch
//! ```
//!
//! An [`Unproven`] module can only be asked for evidence, so nobody can take noise from one whose evidence
//! was not judged. All calls block on the stream they were given; time limits are the stream's.

use consilium_protocol::algebra::prg::{SEED_BYTES, Seed};
use consilium_protocol::party::Party;
use consilium_protocol::share::Additive;
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{Read, Write};
use zeroize::Zeroizing;

use crate::binding::Binding;
use crate::evidence::Evidence;
use crate::module::bytes::DecodeError;
use crate::module::channel::{Channel, ChannelError, Handshake};
use crate::module::frame::{FrameError, read_frame, write_frame};
use crate::module::message::{Half, Refusal, Reply, Request};
use crate::module::receipt::{Receipt, commitment};
use crate::module::signature::{PartyKey, SigningFailed, introduction, peer_id};
use crate::module::specification::{SignedSpecification, Specification};
use crate::share::NoiseShare;

/// Why a party got nothing from the module.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The stream failed or ended; the module may be gone.
    #[error("the module cannot be reached: {0}")]
    Frame(#[from] FrameError),
    /// The channel failed: somebody in between changed, repeated or dropped something.
    #[error("the channel to the module failed: {0}")]
    Channel(#[from] ChannelError),
    /// The module says something that is no reply.
    #[error("the module's reply is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A reply to another question.
    #[error("the module answered another question than {asked}")]
    Unexpected {
        /// What was asked.
        asked: &'static str,
    },
    /// The module refused; the channel can still be used.
    #[error("the module refused: {0}")]
    Refused(Refusal),
    /// This node's identity key did not sign.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
    /// No random bytes for a nonce.
    #[error("the operating system gave no random bytes")]
    Entropy,
    /// The channel failed before; open another.
    #[error("the channel to the module failed earlier; open another")]
    Broken,
    /// The module shows another boot or receipt key than before on the same channel.
    #[error("the module names another boot or receipt key than before")]
    Changed,
    /// A specification for another module, policy or party than this channel's.
    #[error("the specification names another {what} than this channel has")]
    Mismatch {
        /// What differs.
        what: &'static str,
    },
    /// A second request before the first was collected, or a collection without one.
    #[error("one batch at a time: request, then collect")]
    Order,
    /// The batch is not what was asked for, or its receipt does not hold.
    #[error("the module's batch is worthless: {fault}")]
    Batch {
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// Why a module was not proven.
#[derive(Debug, thiserror::Error)]
pub enum ProofError<E> {
    /// No evidence came.
    #[error("no evidence: {0}")]
    Client(ClientError),
    /// Evidence came and was refused.
    #[error("evidence refused: {0}")]
    Refused(E),
}

impl<E> From<ClientError> for ProofError<E> {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// A channel and the stream below it. After a failure nothing more is said.
struct Line<S> {
    stream: S,
    channel: Channel,
    broken: bool,
}

impl<S: Read + Write> Line<S> {
    fn say(&mut self, request: &Request) -> Result<(), ClientError> {
        self.unbroken(|line| {
            let frame = line.channel.seal(&request.encode())?;
            Ok(write_frame(&mut line.stream, &frame)?)
        })
    }

    fn hear(&mut self) -> Result<Reply, ClientError> {
        self.unbroken(|line| {
            let frame = read_frame(&mut line.stream)?;
            Ok(Reply::decode(&line.channel.open(&frame)?)?)
        })
    }

    fn unbroken<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        if self.broken {
            return Err(ClientError::Broken);
        }
        let done = act(self);
        self.broken = done.is_err();
        done
    }
}

/// A module of which nothing is known but the key of its channel.
pub struct Unproven<S> {
    line: Line<S>,
    party: [u8; 32],
}

impl<S: Read + Write> Unproven<S> {
    /// Opens a channel and says who is asking.
    ///
    /// # Errors
    /// [`ClientError`] where stream, handshake or signature fail.
    pub fn open(mut stream: S, key: &impl PartyKey) -> Result<Self, ClientError> {
        let mut handshake = Handshake::party()?;
        write_frame(&mut stream, &handshake.write()?)?;
        handshake.read(&read_frame(&mut stream)?)?;
        write_frame(&mut stream, &handshake.write()?)?;
        let mut line = Line { stream, channel: handshake.finish()?, broken: false };
        let (party, signature) = (key.public(), key.sign(&introduction(line.channel.hash()))?);
        line.say(&Request::Introduce { key: party, signature })?;
        Ok(Self { line, party })
    }

    /// The module's static key, as the handshake proved it.
    pub const fn channel_key(&self) -> &[u8; 32] {
        self.line.channel.remote()
    }

    /// Asks for evidence with a fresh nonce and hands it to `judge`, together with what it must be about: the
    /// judge must refuse evidence of which the hardware did not sign exactly this.
    ///
    /// # Errors
    /// [`ProofError::Refused`] with the judge's error, [`ProofError::Client`] where no evidence came.
    pub fn prove<V, E>(
        mut self,
        policy: [u8; 32],
        judge: impl FnOnce(&Evidence, &Binding) -> Result<V, E>,
    ) -> Result<(Proven<S>, V), ProofError<E>> {
        let (evidence, binding) = ask(&mut self.line, &self.party, policy)?;
        let verdict = judge(&evidence, &binding).map_err(ProofError::Refused)?;
        let Binding { boot, receipt_key, .. } = binding;
        let proven = Proven { line: self.line, party: self.party, policy, boot, receipt_key, asked: None };
        Ok((proven, verdict))
    }
}

/// A module whose evidence was judged and found good.
pub struct Proven<S> {
    line: Line<S>,
    party: [u8; 32],
    policy: [u8; 32],
    boot: [u8; 16],
    receipt_key: [u8; 32],
    asked: Option<(Specification, Party)>,
}

impl<S: Read + Write> Proven<S> {
    /// The module's boot, for specifications.
    pub const fn boot(&self) -> &[u8; 16] {
        &self.boot
    }

    /// The key that signs the module's receipts.
    pub const fn receipt_key(&self) -> &[u8; 32] {
        &self.receipt_key
    }

    /// Asks for fresh evidence, when the last is too old. Consumes the module where that is refused.
    ///
    /// # Errors
    /// As [`Unproven::prove`], and [`ClientError::Changed`] or [`ClientError::Order`].
    pub fn prove_again<V, E>(
        mut self,
        judge: impl FnOnce(&Evidence, &Binding) -> Result<V, E>,
    ) -> Result<(Self, V), ProofError<E>> {
        if self.asked.is_some() {
            return Err(ClientError::Order.into());
        }
        let (evidence, binding) = ask(&mut self.line, &self.party, self.policy)?;
        if (binding.boot, binding.receipt_key) != (self.boot, self.receipt_key) {
            return Err(ClientError::Changed.into());
        }
        let verdict = judge(&evidence, &binding).map_err(ProofError::Refused)?;
        Ok((self, verdict))
    }

    /// Asks for a batch. The module answers once the other party has asked for the same.
    ///
    /// # Errors
    /// [`ClientError::Mismatch`] before anything is sent, [`ClientError::Order`], or the stream's.
    pub fn request(&mut self, signed: &SignedSpecification) -> Result<(), ClientError> {
        if self.asked.is_some() {
            return Err(ClientError::Order);
        }
        let wanted = signed.specification();
        let mismatch = |what| ClientError::Mismatch { what };
        let party = wanted.seat(&self.party).ok_or(mismatch("pair of parties"))?;
        if wanted.boot != self.boot {
            return Err(mismatch("boot"));
        }
        if wanted.policy != self.policy {
            return Err(mismatch("policy"));
        }
        self.line.say(&Request::Draw { signed: signed.encode() })?;
        self.asked = Some((wanted.clone(), party));
        Ok(())
    }

    /// Waits for this party's half of the batch that was asked for.
    ///
    /// # Errors
    /// [`ClientError::Refused`], after which another batch can be asked for; [`ClientError::Batch`] for a
    /// worthless one, or the stream's, after which the channel cannot be used.
    pub fn collect(&mut self) -> Result<Batch, ClientError> {
        let (wanted, party) = self.asked.take().ok_or(ClientError::Order)?;
        match self.line.hear()? {
            Reply::Half(half) => self.line.unbroken(|_| {
                check(&half, &wanted, party, &self.receipt_key)
                    .map_err(|fault| ClientError::Batch { fault })?;
                let shares = shares(&half, &wanted).map_err(|fault| ClientError::Batch { fault })?;
                Ok(Batch { party, receipt: half.receipt, shares })
            }),
            Reply::Refused(refusal) => Err(ClientError::Refused(refusal)),
            Reply::Evidence(_) => {
                self.line.broken = true;
                Err(ClientError::Unexpected { asked: "a batch" })
            }
        }
    }

    /// [`Proven::request`] and [`Proven::collect`].
    ///
    /// # Errors
    /// Theirs.
    pub fn draw(&mut self, signed: &SignedSpecification) -> Result<Batch, ClientError> {
        self.request(signed)?;
        self.collect()
    }
}

/// One party's half of a batch, with a receipt that holds.
#[derive(Debug)]
#[must_use = "dropping a batch burns its noise"]
pub struct Batch {
    party: Party,
    receipt: Receipt,
    shares: Vec<NoiseShare>,
}

impl Batch {
    /// Whose half this is.
    pub const fn party(&self) -> Party {
        self.party
    }

    /// What the module signed. The other party's must be equal, or both throw the batch away.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// One share of noise for each release, in the order of both parties.
    pub fn into_shares(self) -> Vec<NoiseShare> {
        self.shares
    }
}

fn ask<S: Read + Write>(
    line: &mut Line<S>,
    party: &[u8; 32],
    policy: [u8; 32],
) -> Result<(Evidence, Binding), ClientError> {
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_| ClientError::Entropy)?;
    line.say(&Request::Attest { nonce, policy })?;
    match line.hear()? {
        Reply::Evidence(evidence) => {
            // What only the module knows is taken from the evidence, all else from this side of the channel.
            let Binding { kind, boot, receipt_key, .. } = evidence.binding;
            let (channel_key, verifier) = (*line.channel.remote(), peer_id(party));
            let binding = Binding { kind, boot, channel_key, receipt_key, policy, nonce, verifier };
            Ok((evidence, binding))
        }
        Reply::Refused(refusal) => Err(ClientError::Refused(refusal)),
        Reply::Half(_) => {
            line.broken = true;
            Err(ClientError::Unexpected { asked: "evidence" })
        }
    }
}

/// Holds a half and its receipt against what was asked for.
fn check(half: &Half, wanted: &Specification, party: Party, key: &[u8; 32]) -> Result<(), &'static str> {
    let (receipt, digest) = (&half.receipt, wanted.digest());
    if !receipt.is_signed_by(key) {
        return Err("its receipt is not signed by the key in the evidence");
    }
    if half.party != party {
        return Err("it is the other party's half");
    }
    if (receipt.boot, receipt.batch, receipt.specification) != (wanted.boot, wanted.batch, digest) {
        return Err("its receipt is for another batch");
    }
    let opened = commitment(&digest, &wanted.boot, party, &half.salt, &half.share);
    if opened != receipt.commitments[party as usize] {
        return Err("its receipt commits to another share");
    }
    Ok(())
}

/// Expands and cuts a half into the shares of single releases.
fn shares(half: &Half, wanted: &Specification) -> Result<Vec<NoiseShare>, &'static str> {
    let (width, draws) = (wanted.width(), wanted.draws as usize);
    let words = match half.party {
        Party::Zero => {
            let seed: Zeroizing<[u8; SEED_BYTES]> =
                Zeroizing::new(half.share.as_slice().try_into().map_err(|_| "its seed has another length")?);
            Additive::expand(&Seed::from_bytes(*seed), width * draws)
        }
        Party::One => {
            if half.share.len() != 8 * width * draws {
                return Err("its share has another length");
            }
            let mut words = Additive::zeros(width * draws);
            for (word, bytes) in words.iter_mut().zip(half.share.chunks_exact(8)) {
                *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
            words
        }
    };
    Ok(words.chunks_exact(width).map(|row| share(row, usize::from(wanted.classes))).collect())
}

fn share(row: &[u64], classes: usize) -> NoiseShare {
    let (counts, threshold) = row.split_at(classes);
    let counts = counts.iter().map(|word| word.cast_signed()).collect::<Vec<_>>();
    NoiseShare::new(counts.into(), threshold.first().map(|word| Zeroizing::new(word.cast_signed())))
}

impl<S> std::fmt::Debug for Unproven<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unproven(..)")
    }
}

impl<S> std::fmt::Debug for Proven<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proven(..)")
    }
}

#[cfg(test)]
mod tests;
