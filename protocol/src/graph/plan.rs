//! All models of a task, evaluated side by side, and the release at the end.

mod error;

pub use error::PlanError;

use super::measure::{Measure, USERS_MAX};
use super::network::{Network, Shape};
use super::program::{Numbers, Program};
use crate::algebra::prg::SEED_BYTES;
use crate::offline::dealer::sent_words;
use crate::online::nearest::{self, Form};
use crate::online::release::ReleaseGate;
use crate::online::vote::VoteShape;
use crate::party::Party;
use crate::stock::{Demand, Gadget};
use crate::wire::{HEADER_BYTES, Opening, PAYLOAD_BYTES_MAX};
use ring::digest::{SHA256, digest};
use serde::Serialize;

/// Most models of a task.
pub const MODELS_MAX: usize = 1024;
/// Bits that a noisy count may have.
const COUNT_BITS_MAX: u32 = 48;
/// Bits that a distance may have as a word: one more for differences, and those that no plan uses.
const DISTANCE_BITS_MAX: u32 = 60;

/// How the summed votes are compared. The default is an exact release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseShape {
    /// Largest magnitude of one party's noise on one count.
    pub noise_magnitude_max: u64,
    /// What the top count must reach for a label, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
}

/// What the top count must reach, under noise of its own, for a label to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Threshold {
    /// Votes.
    pub votes: u64,
    /// Largest magnitude of one party's noise on the top count.
    pub noise_magnitude_max: u64,
}

impl ReleaseShape {
    /// The gate for the votes of `models` models.
    ///
    /// # Errors
    /// [`PlanError::Noise`]: counts and noise together are too large.
    pub fn gate(
        &self,
        models: usize,
        classes: usize,
        batch: usize,
        gadget: Gadget,
    ) -> Result<ReleaseGate, PlanError> {
        let with_noise = |most: u64, noise: u64| {
            let sum = noise.checked_mul(2).and_then(|both| both.checked_add(most));
            sum.filter(|count| *count < 1 << COUNT_BITS_MAX).ok_or(PlanError::Noise(noise.max(most)))
        };
        let mut most = with_noise(models as u64, self.noise_magnitude_max)?;
        if let Some(Threshold { votes, noise_magnitude_max }) = self.threshold {
            // A margin lies between minus the threshold and the number of models, noise aside.
            most = most.max(with_noise(votes.max(models as u64), noise_magnitude_max)?);
        }
        let vote = VoteShape { classes, batch, value_bits: u64::BITS - most.leading_zeros(), gadget };
        Ok(ReleaseGate { vote, threshold: self.threshold.map(|threshold| threshold.votes) })
    }
}

/// Rounds and bytes of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Simultaneous exchanges.
    pub rounds: u32,
    /// Bytes sent by each party, frame headers included.
    pub bytes: u64,
}

/// Public facts of a one-class task, apart from its users' measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OneClassShape {
    /// Shape of one query.
    pub input: Shape,
    /// Fixed point of weights and activations.
    pub numbers: Numbers,
    /// Every distance and every threshold is below `2^distance_bits` in magnitude.
    pub distance_bits: u32,
}

/// What follows the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// One-hot votes, which are counted.
    Votes,
    /// Distances, of which the smallest is looked for; an exact release takes the result as it is, a noisy one
    /// counts it like a vote for a user or for nobody.
    Nearest {
        /// The comparison; its classes are the users.
        shape: VoteShape,
        /// What the comparison gives to the release.
        form: Form,
    },
}

/// The compiled evaluation of one batch. Both parties compile the same plan; [`Plan::digest`] says so.
#[derive(Clone, Debug)]
pub struct Plan {
    input: Shape,
    batch: usize,
    programs: Vec<Program>,
    closing: Closing,
    release: ReleaseGate,
    digest: [u8; 32],
}

#[derive(Serialize)]
struct OneClassContent<'a> {
    task: &'static str,
    version: u16,
    shape: OneClassShape,
    batch: usize,
    gadget: Gadget,
    release: ReleaseShape,
    measures: &'a [Measure],
}

#[derive(Serialize)]
struct Content<'a> {
    version: u16,
    input: Shape,
    classes: usize,
    batch: usize,
    numbers: Numbers,
    gadget: Gadget,
    release: ReleaseShape,
    networks: &'a [Network],
}

impl Plan {
    /// Compiles the plan of a task for `batch` queries side by side, with this gadget for all
    /// comparisons.
    ///
    /// # Errors
    /// [`PlanError`] names the model at fault.
    pub fn compile(
        networks: &[Network],
        input: Shape,
        classes: usize,
        numbers: Numbers,
        batch: usize,
        gadget: Gadget,
        release: ReleaseShape,
    ) -> Result<Self, PlanError> {
        if networks.is_empty() || networks.len() > MODELS_MAX {
            return Err(PlanError::Models(networks.len()));
        }
        let mut programs = Vec::with_capacity(networks.len());
        for (model, network) in networks.iter().enumerate() {
            if network.input() != input {
                return Err(PlanError::Input { model, expected: input, found: network.input() });
            }
            if network.output().len() != classes {
                return Err(PlanError::Classes { model, expected: classes, found: network.output().len() });
            }
            let program = Program::compile(network, numbers, batch, gadget);
            programs.push(program.map_err(|error| PlanError::Program { model, error })?);
        }
        let gate = release.gate(networks.len(), classes, batch, gadget)?;
        let content = Content { version: 2, input, classes, batch, numbers, gadget, release, networks };
        let digest = hash(&content).ok_or(PlanError::Models(networks.len()))?;
        Self { input, batch, programs, closing: Closing::Votes, release: gate, digest }.framed()
    }

    /// Compiles the plan of a one-class task for `batch` queries side by side: its labels are the users in the
    /// order of their measures, and then nobody.
    ///
    /// # Errors
    /// [`PlanError`] names the model at fault.
    pub fn one_class(
        measures: &[Measure],
        shape: OneClassShape,
        batch: usize,
        gadget: Gadget,
        release: ReleaseShape,
    ) -> Result<Self, PlanError> {
        let users = measures.len();
        if users == 0 || users > USERS_MAX {
            return Err(PlanError::Users(users));
        }
        if release.threshold.is_some() {
            return Err(PlanError::Threshold);
        }
        let OneClassShape { input, numbers, distance_bits } = shape;
        let mut programs = Vec::with_capacity(users);
        for (model, measure) in measures.iter().enumerate() {
            if measure.input() != input {
                return Err(PlanError::Input { model, expected: input, found: measure.input() });
            }
            let program = Program::measure(measure, numbers, batch, gadget);
            programs.push(program.map_err(|error| PlanError::Program { model, error })?);
        }
        let fraction_bits = numbers.fraction_bits;
        let value_bits = distance_bits.saturating_add(2 * fraction_bits);
        if distance_bits == 0 || value_bits > DISTANCE_BITS_MAX {
            return Err(PlanError::Distance { distance_bits, fraction_bits });
        }
        let gate = release.gate(1, users + 1, batch, gadget)?;
        let form = if release == ReleaseShape::default() { Form::Bits } else { Form::Counts };
        let shape_of_duels = VoteShape { classes: users, batch, value_bits, gadget };
        let closing = Closing::Nearest { shape: shape_of_duels, form };
        let content =
            OneClassContent { task: "one-class", version: 1, shape, batch, gadget, release, measures };
        let digest = hash(&content).ok_or(PlanError::Users(users))?;
        Self { input, batch, programs, closing, release: gate, digest }.framed()
    }

    /// The plan, if each of its rounds fits a frame.
    fn framed(self) -> Result<Self, PlanError> {
        for (round, openings) in self.openings().iter().enumerate() {
            let bytes = openings.iter().map(Opening::bytes).sum();
            if bytes > PAYLOAD_BYTES_MAX {
                return Err(PlanError::Frame { round, bytes });
            }
        }
        Ok(self)
    }

    /// Shape of one query.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Queries side by side.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// One program per model, in the order of the networks.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// What follows the models.
    pub fn closing(&self) -> Closing {
        self.closing
    }

    /// How the votes become an answer, and in which form. An exact one-class release has that form already.
    pub fn release(&self) -> ReleaseGate {
        self.release
    }

    /// Whether the norm of the input is needed.
    pub fn wants_norm(&self) -> bool {
        self.programs.iter().any(Program::wants_norm)
    }

    /// SHA-256 over everything that the plan was compiled from.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Words of the input share.
    pub fn input_len(&self) -> usize {
        self.input.len() * self.batch
    }

    /// Correlations lane by lane: the input, each model, the release.
    pub fn lanes(&self) -> Vec<Vec<Demand>> {
        let mut entry = vec![Demand::InputMask { count: self.input_len() }];
        if self.wants_norm() {
            entry.push(Demand::Norm { values: self.input.len(), batch: self.batch, first: true });
        }
        let mut lanes = vec![entry];
        lanes.extend(self.programs.iter().enumerate().map(|(model, program)| program.demands(model)));
        lanes.push(match self.closing {
            Closing::Votes => self.release.demands(),
            Closing::Nearest { shape, form } => {
                let mut demands = nearest::demands(&shape, form);
                if form == Form::Counts {
                    demands.extend(self.release.demands());
                }
                demands
            }
        });
        lanes
    }

    /// How it compares.
    pub fn gadget(&self) -> Gadget {
        self.release.vote.gadget
    }

    /// Bytes that a party holds for one bundle as it comes from a dealer, its seed included.
    pub fn stock_bytes(&self, party: Party) -> u64 {
        (SEED_BYTES + 8 * sent_words(&self.lanes(), party)) as u64
    }

    /// What is opened, round by round: the openings that share each frame, in their order.
    pub fn openings(&self) -> Vec<Vec<Opening>> {
        let mut rounds = vec![vec![Opening::values(self.input_len(), 64)]];
        let lanes: Vec<Vec<Opening>> = self.programs.iter().map(Program::openings).collect();
        let longest = lanes.iter().map(Vec::len).max().unwrap_or(0);
        for round in 0..longest {
            rounds.push(lanes.iter().filter_map(|lane| lane.get(round)).copied().collect());
        }
        rounds.extend(self.last_openings().into_iter().map(|opening| vec![opening]));
        rounds
    }

    /// What follows the models opens, round by round.
    fn last_openings(&self) -> Vec<Opening> {
        match self.closing {
            Closing::Votes => self.release.openings(),
            Closing::Nearest { shape, form } => {
                let mut openings = nearest::openings(&shape, form);
                if form == Form::Counts {
                    openings.extend(self.release.openings());
                }
                openings
            }
        }
    }

    /// How many of the last rounds are for the longest model's vote, or for the nearest of all distances, and the
    /// release. Models that are done before the longest vote earlier.
    pub fn closing_rounds(&self) -> usize {
        let votes = match self.closing {
            Closing::Votes => self.release.vote.vote_openings().len(),
            Closing::Nearest { .. } => 0,
        };
        votes + self.last_openings().len()
    }

    /// Rounds and bytes of one evaluation, known before the first message.
    pub fn cost(&self) -> Cost {
        let rounds = self.openings();
        let payload: usize = rounds.iter().flatten().map(Opening::bytes).sum();
        Cost { rounds: rounds.len() as u32, bytes: (payload + rounds.len() * HEADER_BYTES) as u64 }
    }
}

fn hash(content: &impl Serialize) -> Option<[u8; 32]> {
    let mut bytes = Vec::new();
    ciborium::into_writer(content, &mut bytes).ok()?;
    digest(&SHA256, &bytes).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Layer, ProgramError};

    const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };

    fn compile(outputs: &[u32], batch: usize, noise_magnitude_max: u64) -> Result<Plan, PlanError> {
        compile_for(ReleaseShape { noise_magnitude_max, threshold: None }, outputs, batch)
    }

    fn compile_for(release: ReleaseShape, outputs: &[u32], batch: usize) -> Result<Plan, PlanError> {
        let input = Shape::vector(3);
        let network = |outputs: &u32| Network::new(input, vec![Layer::Dense { outputs: *outputs }]).unwrap();
        let networks: Vec<Network> = outputs.iter().map(network).collect();
        Plan::compile(&networks, input, 4, NUMBERS, batch, Gadget::Digits, release)
    }

    #[test]
    fn misfits_are_named() {
        let refused = |outputs: &[u32], batch, noise| compile(outputs, batch, noise).err();
        assert_eq!(refused(&[4, 4], 2, 5), None);
        assert_eq!(refused(&[], 1, 0), Some(PlanError::Models(0)));
        assert_eq!(refused(&[4; MODELS_MAX + 1], 1, 0), Some(PlanError::Models(MODELS_MAX + 1)));
        assert_eq!(refused(&[4, 5], 1, 0), Some(PlanError::Classes { model: 1, expected: 4, found: 5 }));
        let error = ProgramError::Batch(0);
        assert_eq!(refused(&[4], 0, 0), Some(PlanError::Program { model: 0, error }));
        assert_eq!(refused(&[4], 1, 1 << 47), Some(PlanError::Noise(1 << 47)));
        assert_eq!(refused(&[4], 1, u64::MAX), Some(PlanError::Noise(u64::MAX)));
    }

    /// The sum is known without a bundle: openings round by round, and the stock of each party.
    #[test]
    fn keys_take_fewer_rounds_and_more_stock() {
        let input = Shape::vector(784);
        let dense = |outputs| Layer::Dense { outputs };
        let layers = vec![dense(128), Layer::Relu, dense(128), Layer::Relu, dense(10)];
        let network = Network::new(input, layers).unwrap();
        let plan = |gadget| {
            let release = ReleaseShape::default();
            Plan::compile(std::slice::from_ref(&network), input, 10, NUMBERS, 1, gadget, release).unwrap()
        };
        let [digits, keys] = [Gadget::Digits, Gadget::Keys].map(plan);
        // Input, rectification, operand, rectification, operand; two for the vote, two for the release.
        assert_eq!((digits.cost().rounds, keys.cost().rounds), (15, 9));
        assert_eq!(keys.closing_rounds(), 4);
        assert!(keys.cost().bytes < digits.cost().bytes);
        assert_eq!(digits.stock_bytes(Party::Zero), SEED_BYTES as u64);
        assert!(digits.stock_bytes(Party::One) < 200_000);
        for party in Party::BOTH {
            assert!((250_000..500_000).contains(&keys.stock_bytes(party)));
        }
        assert_ne!(digits.digest(), keys.digest());
    }

    #[test]
    fn rounds_larger_than_a_frame_are_refused() {
        // 6 pairs of 46 bits per query and model.
        let batch = 1 << 15;
        let bytes = |models: usize| models * 6 * batch * 46 / 8;
        let most = PAYLOAD_BYTES_MAX / bytes(1);
        assert!(compile(&vec![4; most], batch, 0).is_ok());
        let refused = compile(&vec![4; most + 1], batch, 0).err();
        assert_eq!(refused, Some(PlanError::Frame { round: 1, bytes: bytes(most + 1) }));
    }

    #[test]
    fn a_threshold_is_part_of_the_plan() {
        let threshold = |votes, noise_magnitude_max| {
            let threshold = Some(Threshold { votes, noise_magnitude_max });
            compile_for(ReleaseShape { noise_magnitude_max: 1, threshold }, &[4; 3], 2)
        };
        let plain = compile(&[4; 3], 2, 1).unwrap();
        let confident = threshold(2, 1).unwrap();
        assert_eq!((plain.release().bits_per_query(), confident.release().bits_per_query()), (3, 4));
        assert_eq!((plain.release().noise_words(), confident.release().noise_words()), (8, 10));
        // Four classes: the thresholds take no further round.
        assert_eq!(plain.cost().rounds, confident.cost().rounds);
        assert_eq!(confident.cost().rounds as usize, confident.openings().len());
        assert_eq!(threshold(2, 1 << 47).err(), Some(PlanError::Noise(1 << 47)));
        assert_eq!(threshold(1 << 48, 1).err(), Some(PlanError::Noise(1 << 48)));
        let digests = [plain, confident, threshold(3, 1).unwrap(), threshold(2, 2).unwrap()];
        let digests: std::collections::BTreeSet<_> = digests.map(|plan| plan.digest()).into();
        assert_eq!(digests.len(), 4);
    }

    #[test]
    fn everything_public_changes_the_digest() {
        let plans = [compile(&[4], 1, 0), compile(&[4], 2, 0), compile(&[4], 1, 1), compile(&[4, 4], 1, 0)];
        let digests: std::collections::BTreeSet<_> = plans.map(|plan| plan.unwrap().digest()).into();
        assert_eq!(digests.len(), 4);
        assert_eq!(compile(&[4], 1, 0).unwrap().digest(), compile(&[4], 1, 0).unwrap().digest());
    }
}
