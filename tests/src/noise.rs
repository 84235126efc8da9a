//! Noise for the evaluations: each party's own, or a share of the sampling module's.
//!
//! The module is the product's engine, served in this process to one socket of each party. Either party goes the
//! whole way: it opens a channel, verifies evidence under a policy that allows software evidence by name, signs
//! the specification of each batch, collects its half, and keeps it if both receipts are equal. What is left
//! out is a machine of its own for the module: nothing vouches for it here, and its results have to say so.

use consilium_attest::choice::NoiseRule;
use consilium_attest::module::attester::Software;
use consilium_attest::module::engine::Engine;
use consilium_attest::module::serve::serve;
use consilium_attest::module::signature::{PartyKey, SigningFailed, peer_id};
use consilium_attest::module::specification::{Specification, SpecificationError, VALUES_MAX};
use consilium_attest::noise_client::{Batch, ClientError, ProofError, Proven, Unproven};
use consilium_attest::policy::SoftwarePolicy;
use consilium_attest::tickets::{TicketError, Tickets};
use consilium_attest::{
    Binding, Collateral, Evidence, Expected, NoiseError, NoiseShare, NoiseSource, Policy, Provenance,
    Refusal, VerifiedModule, verify,
};
use consilium_protocol::algebra::prg::SeedError;
use consilium_protocol::privacy::Mechanism;
use ed25519_dalek::SigningKey;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The module answers at once, or is not there any more.
const REPLY_WITHIN: Duration = Duration::from_secs(60);
const EVIDENCE_AGE_MAX_SECS: u64 = 60;
/// Longer than any evaluation.
const REATTEST_AFTER_SECS: u64 = 24 * 3600;

/// The source of a party that draws its own noise in software. Here that is allowed; where noise comes from is
/// what is measured.
///
/// # Errors
/// What the source refuses.
pub fn own(mechanism: &Mechanism) -> Result<NoiseSource, NoiseError> {
    NoiseSource::choose(mechanism, NoiseRule::Software)
}

/// What one party takes its noise from.
#[derive(Debug)]
pub enum PartyNoise {
    /// Full draws of its own, or zeros for an exact release.
    Own(Box<NoiseSource>),
    /// Its shares of the module's draws.
    Module(Tickets),
}

/// Why a party has no noise.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// Its own source refused.
    #[error(transparent)]
    Own(#[from] NoiseError),
    /// The module's share was used before.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// All of the module's shares are used.
    #[error("no share of the module's noise is left")]
    Empty,
}

impl PartyNoise {
    /// Both parties with noise of their own.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn own(mechanism: &Mechanism) -> Result<[Self; 2], NoiseError> {
        Ok([Self::Own(Box::new(own(mechanism)?)), Self::Own(Box::new(own(mechanism)?))])
    }

    /// Noise for one release. Both parties ask in the same order, so that shares of one draw meet.
    ///
    /// # Errors
    /// [`DrawError`].
    pub fn draw(&mut self, classes: usize) -> Result<NoiseShare, DrawError> {
        match self {
            Self::Own(source) => Ok(source.draw(classes, &mut rand::rng())?),
            Self::Module(tickets) => {
                let (_, shares) = tickets.take_oldest().ok_or(DrawError::Empty)?;
                shares.into_iter().next().ok_or(DrawError::Empty)
            }
        }
    }
}

/// Why the module gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// No entropy for its keys.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// Its sockets or its thread.
    #[error("the sockets of the module: {0}")]
    Socket(#[from] io::Error),
    /// It stopped.
    #[error("the module stopped")]
    Stopped,
    /// Its channel.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its evidence.
    #[error(transparent)]
    Proof(#[from] ProofError<Refusal>),
    /// Its evidence is too old by now.
    #[error("the verdict on the module does not hold any more")]
    Expired,
    /// A batch that no module draws.
    #[error(transparent)]
    Specification(#[from] SpecificationError),
    /// A party's key.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
    /// The module told the parties different things.
    #[error("the parties have different receipts for batch {batch}")]
    Receipts {
        /// Number of the batch at party Zero.
        batch: u64,
    },
    /// More shares than a party keeps.
    #[error(transparent)]
    Ticket(#[from] TicketError),
}

/// A compute party and the module that it has verified.
struct Seat {
    key: SigningKey,
    proven: Proven<UnixStream>,
    verdict: VerifiedModule,
}

impl Seat {
    /// Opens a channel and has the module proven for `roster`.
    fn take(stream: UnixStream, policy: &Policy, roster: [u8; 32]) -> Result<Self, ModuleError> {
        let key = SigningKey::from_bytes(&rand::random());
        let unproven = Unproven::open(stream, &key)?;
        let (channel_key, asked) = (*unproven.channel_key(), now());
        let verifier = peer_id(&key.public());
        let judge = |evidence: &Evidence, binding: &Binding| {
            let expected = Expected { channel_key, policy: roster, nonce: binding.nonce, asked, verifier };
            verify(evidence, &Collateral::default(), policy, &expected, now())
        };
        let (proven, verdict) = unproven.prove(roster, judge)?;
        Ok(Self { key, proven, verdict })
    }
}

/// The sampling module, and both compute parties at their ends of its channels.
pub struct Module {
    seats: [Seat; 2],
    /// The module serves until nobody can connect any more.
    _lines: Sender<UnixStream>,
    task: [u8; 32],
    roster: [u8; 32],
    batches: u64,
}

impl Module {
    /// Starts a module with software evidence, which both parties verify.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn start() -> Result<Self, ModuleError> {
        Self::under(Some(SoftwarePolicy { allow: true }))
    }

    /// As [`Module::start`], under a policy with these words on software evidence.
    fn under(software: Option<SoftwarePolicy>) -> Result<Self, ModuleError> {
        let policy = Policy {
            evidence_age_max_secs: EVIDENCE_AGE_MAX_SECS,
            reattest_after_secs: REATTEST_AFTER_SECS,
            sev_snp: None,
            tdx: None,
            sgx_dcap: None,
            nitro: None,
            tpm2: None,
            software,
        };
        let engine = Engine::new(Software)?;
        let (lines, arriving) = channel();
        let accept = move || arriving.recv().map_err(io::Error::other);
        // A party whose line ends finds out by itself, so nobody has to watch the module's reports.
        std::thread::Builder::new().spawn(move || serve(engine, accept, |_| ()))?;
        // There is no roster and no task behind this noise; both parties agree on random names for them.
        let (task, roster) = (rand::random(), rand::random());
        let seat = || -> Result<Seat, ModuleError> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_read_timeout(Some(REPLY_WITHIN))?;
            lines.send(theirs).map_err(|_| ModuleError::Stopped)?;
            Seat::take(ours, &policy, roster)
        };
        Ok(Self { seats: [seat()?, seat()?], _lines: lines, task, roster, batches: 0 })
    }

    /// What results must say about this noise.
    pub const fn provenance(&self) -> Provenance {
        Provenance::Module { evidence: self.seats[0].verdict.kind() }
    }

    /// Batches drawn so far, each with equal receipts at both parties.
    pub const fn batches(&self) -> u64 {
        self.batches
    }

    /// Shares of fresh noise for so many releases, of Zero and of One.
    ///
    /// # Errors
    /// [`ModuleError`]; the batches so far are burnt.
    pub fn noise(
        &mut self,
        mechanism: &Mechanism,
        classes: u16,
        draws: usize,
    ) -> Result<[PartyNoise; 2], ModuleError> {
        let mut pools = [Tickets::default(), Tickets::default()];
        while pools[0].len() < draws {
            let [zero, one] = self.batch(mechanism, classes, draws - pools[0].len())?;
            let batch = zero.receipt().number;
            if zero.receipt() != one.receipt() {
                return Err(ModuleError::Receipts { batch });
            }
            self.batches += 1;
            let [at_zero, at_one] = &mut pools;
            at_zero.add(zero, 1)?;
            at_one.add(one, 1)?;
        }
        Ok(pools.map(PartyNoise::Module))
    }

    /// Both halves of one batch, of as many draws as are wanted and fit.
    fn batch(&mut self, mechanism: &Mechanism, classes: u16, most: usize) -> Result<[Batch; 2], ModuleError> {
        if !self.seats.iter().all(|seat| seat.verdict.holds_at(now())) {
            return Err(ModuleError::Expired);
        }
        let mut wanted = Specification {
            mechanism: *mechanism,
            classes,
            draws: 1,
            task: self.task,
            policy: self.roster,
            boot: *self.seats[0].proven.boot(),
            batch: rand::random(),
            parties: self.seats.each_ref().map(|seat| seat.key.public()),
        };
        wanted.check()?;
        wanted.draws = most.min(VALUES_MAX / wanted.width()) as u32;
        let [zero, one] = self.seats.each_ref().map(|seat| wanted.sign(&seat.key));
        let signed = wanted.signed([zero?, one?])?;
        for seat in &mut self.seats {
            seat.proven.request(&signed)?;
        }
        let [zero, one] = &mut self.seats;
        Ok([zero.proven.collect()?, one.proven.collect()?])
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Module({}, {} batches)", self.seats[0].verdict, self.batches)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_attest::EvidenceKind;
    use consilium_protocol::party::Party;

    fn gaussian() -> Mechanism {
        Mechanism::Gaussian { sigma_squared: "25".parse().unwrap() }
    }

    #[test]
    fn the_shares_of_both_parties_are_one_draw() {
        let mut module = Module::start().unwrap();
        assert_eq!(module.provenance(), Provenance::Module { evidence: EvidenceKind::Software });
        // More than one batch holds.
        let mut parties = module.noise(&gaussian(), 10, 2_000).unwrap();
        assert_eq!(module.batches(), 3);
        let (mut squares, mut large) = (0.0, 0);
        for _ in 0..2_000 {
            let [zero, one] = parties.each_mut().map(|party| party.draw(10).unwrap().into_values());
            for (zero, one) in zero.iter().zip(one.iter()) {
                squares += (zero.wrapping_add(*one) as f64).powi(2);
                large += usize::from(zero.unsigned_abs() > 1 << 32);
            }
        }
        // The relative deviation of a variance over 20,000 draws is 1 %; two draws would have twice as much.
        assert!((squares / 20_000.0 / 25.0 - 1.0).abs() < 0.06, "{squares}");
        assert!(large > 19_900, "a share alone is no noise: {large}");
        assert!(parties.iter_mut().all(|party| matches!(party.draw(10), Err(DrawError::Empty))));
    }

    #[test]
    fn a_policy_without_software_evidence_refuses_this_module() {
        for software in [None, Some(SoftwarePolicy { allow: false })] {
            let refused = Module::under(software).err().unwrap();
            let reason = Refusal::SoftwareNotAllowed;
            assert!(matches!(refused, ModuleError::Proof(ProofError::Refused(found)) if found == reason));
        }
    }

    #[test]
    fn what_no_module_draws_is_not_asked_for() {
        let mut module = Module::start().unwrap();
        let exact = module.noise(&Mechanism::Exact, 10, 1).err().unwrap();
        assert!(matches!(exact, ModuleError::Specification(SpecificationError::Exact)));
        let none = module.noise(&gaussian(), 0, 1).err().unwrap();
        assert!(matches!(none, ModuleError::Specification(SpecificationError::Classes { classes: 0 })));
        // The channels are still good.
        let parties = module.noise(&gaussian(), 2, 1).unwrap();
        assert_eq!((parties.len(), module.batches()), (Party::BOTH.len(), 1));
    }
}
