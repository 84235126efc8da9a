//! The plan of a task: every parameter, chosen and proved before anything is encrypted, or a refusal.

use super::integer::{INPUT_SCALE_MAX, IntegerNet, Scales};
use super::key::{KeyShape, Origin};
use super::layout::{ANSWER_LIMBS, Layout};
use super::noise::output_deviation;
use super::ring::{BATCH, Ring, SINGLE, Slots, plain_primes};
use super::{rows, single};
use crate::graph::{Layer, Network};
use ::ring::digest;
use serde::{Deserialize, Serialize};

/// Statistical security: what the noise of an answer says about the weights beside the logits changes the answer's
/// distribution by at most 2^-40.
pub const STATISTICAL_BITS: u32 = 40;
/// Bits of the modulus that are kept free above the flood.
pub const MARGIN_BITS: u32 = 10;
/// Most squares on the way from input to output.
pub const SQUARES_MAX: usize = 2;
/// Bits of modulus that the homomorphic encryption standard (Albrecht et al., 2018) allows for 128 bits of security
/// against classical attacks, with ternary secrets and noise of deviation 3.2, at degrees 8,192 and 16,384.
pub const MODULUS_BITS_MAX: [(usize, f64); 2] = [(8_192, 218.0), (16_384, 438.0)];
/// Most plaintext primes.
const PRIMES_MAX: usize = 6;
/// Bits of a plaintext prime. Rounding to one prime of the modulus leaves noise of its size times the root of the degree.
const PRIME_BITS_MAX: u32 = 28;
/// Bits of the product of all plaintext primes: twice it, and logits below it, fit a signed number of 128 bits.
const PRODUCT_BITS_MAX: u32 = 125;
/// Most numbers of an input, and most logits.
pub const WIRE_MAX: usize = 1 << 14;

/// Why no parameters serve a network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Too many squares.
    #[error("{0} squares one after the other; noise leaves room for {SQUARES_MAX}")]
    Deep(usize),
    /// Too many numbers on a wire at the ends.
    #[error("{what} of {found} numbers; at most {WIRE_MAX} are allowed")]
    Wide {
        /// `an input` or `an output`.
        what: &'static str,
        /// Numbers.
        found: usize,
    },
    /// No choice of plaintext primes leaves room.
    #[error(
        "logits of {reach:.1} bits leave no parameters: noise, flood and margin need {needed:.1} bits of modulus, and there are {modulus:.1}; use smaller scales, smaller weights or fewer layers"
    )]
    Room {
        /// Bits of the largest logit.
        reach: f64,
        /// Bits needed with the best choice.
        needed: f64,
        /// Bits of the modulus.
        modulus: f64,
    },
    /// The layers are none of this kind of task.
    #[error(transparent)]
    Chain(#[from] super::ChainError),
    /// The plan's own numbers contradict one another, as those of a changed file do.
    #[error("the plan is not one that this version makes: {0}")]
    Contradiction(&'static str),
}

/// How inputs are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Up to 8,192 inputs, one ciphertext for each number of an input: most answers for the time.
    Batch,
    /// One input in few ciphertexts: the soonest answer.
    Single,
}

/// What is public about a homomorphic task: shapes, scales and parameters. Of the weights it tells the scales and how many
/// bits logits have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How inputs are encrypted.
    pub mode: Mode,
    /// The layers.
    pub network: Network,
    /// Inputs times the first scale, rounded, are the integers of an input; the owner rounded its weights by the others.
    pub scales: Scales,
    /// Smallest and largest integer of an input.
    pub input_range: [i64; 2],
    /// Every logit is between -2^(`logit_bits` - 1) and 2^(`logit_bits` - 1).
    pub logit_bits: u32,
    /// Plaintext primes, rising. Their product is at least 2^`logit_bits`.
    pub primes: Vec<u64>,
    /// Answers are flooded by numbers uniform between -2^`flood_bits` and 2^`flood_bits` times the plaintext prime.
    pub flood_bits: u32,
}

/// What a plan rests on, for people; it depends on the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Bits of the largest modulus under which anything is encrypted.
    pub modulus: f64,
    /// Bits of the modulus of an answer when it is flooded.
    pub answer: f64,
    /// Bits of the deviation of an answer's noise before the flood, plaintext prime included.
    pub noise: f64,
    /// Bits by which the flood is larger than that deviation.
    pub flood: f64,
    /// The noise changes the distribution of an answer by at most about 2 to minus this.
    pub statistical: f64,
}

impl Plan {
    /// Chooses parameters for a network of integers, with the fewest plaintext primes.
    ///
    /// # Errors
    /// [`PlanError`]: nothing is guessed.
    pub fn choose(network: &Network, net: &IntegerNet, mode: Mode) -> Result<(Self, Room), PlanError> {
        let reach = net.reach().last().copied().unwrap_or(1.0);
        // Whole bits: the exact bound would tell more about the weights.
        let logit_bits = reach.ceil() as u32;
        let plan = |primes: Vec<u64>| Self {
            mode,
            network: network.clone(),
            scales: net.scales().clone(),
            input_range: net.range(),
            logit_bits,
            flood_bits: flood_bits(mode, &primes),
            primes,
        };
        shape(network, mode)?;
        let noises = Noises::new(network, net, mode)?;
        let mut best: Option<Room> = None;
        for count in 1..=PRIMES_MAX {
            let Some(primes) = plain_primes(logit_bits, count, super::PRIME_STEP, PRIME_BITS_MAX) else {
                continue;
            };
            let plan = plan(primes);
            let room = plan.room(&noises, net);
            if room.statistical >= f64::from(STATISTICAL_BITS) {
                return Ok((plan, room));
            }
            best = best.filter(|best| best.statistical > room.statistical).or(Some(room));
        }
        let answer = best.map_or(0.0, |room| room.answer);
        let lacking = best.map_or(f64::INFINITY, |room| f64::from(STATISTICAL_BITS) - room.statistical);
        Err(PlanError::Room { reach, needed: answer + lacking, modulus: answer })
    }

    fn room(&self, noises: &Noises, net: &IntegerNet) -> Room {
        let ring = self.ring();
        let bits = self.primes.iter().map(|prime| (*prime as f64).log2());
        let (least, most) = (bits.clone().fold(f64::INFINITY, f64::min), bits.fold(0.0, f64::max));
        let (noise, modulus) = match noises {
            Noises::Batch { unit } => {
                let power = f64::from(1_u32 << net.squares());
                let dropped = ring.bits(ring.limbs()) - ring.bits(ring.special());
                (unit + power * most - dropped, ring.bits(ring.limbs()))
            }
            Noises::Single { layout } => {
                (single::deviation(layout, net, &self.primes), single::modulus_bits(layout))
            }
        };
        // In units of the plaintext prime, some noise is largest for the smallest one.
        let before = (2_f64.powf(noise - least) + 2_f64.powf(self.key_noise_bits() - least)).log2();
        let flood = f64::from(self.flood_bits) - before;
        let coefficients = (self.answers() * self.primes.len() * ring.degree()) as f64;
        // A number moved by k within 2^(flood_bits + 1) others changes its distribution by k over them, and the mean of k
        // is below its deviation.
        let statistical = flood + 1.0 - coefficients.log2();
        Room { modulus, answer: ring.bits(self.answer_limbs()), noise, flood, statistical }
    }

    /// Bits of the noise that fresh halves and key switching add: less than 2^20 times all plaintext primes.
    pub(super) fn key_noise_bits(&self) -> f64 {
        self.primes.iter().map(|prime| (*prime as f64).log2()).sum::<f64>() + 20.0
    }

    /// Numbers of an input.
    pub fn inputs(&self) -> usize {
        self.network.input().len()
    }

    /// Logits.
    pub fn outputs(&self) -> usize {
        self.network.output().len()
    }

    /// Inputs that a query can hold.
    pub fn inputs_max(&self) -> usize {
        match self.mode {
            Mode::Batch => BATCH.degree(),
            Mode::Single => 1,
        }
    }

    /// Coefficients of a polynomial.
    pub fn degree(&self) -> usize {
        self.ring().degree()
    }

    /// Ciphertexts of a query for each plaintext prime.
    pub fn ciphertexts(&self) -> usize {
        self.layout().map_or_else(|| self.inputs(), |layout| layout.query.len())
    }

    /// Primes of the modulus of a query.
    pub fn query_limbs(&self) -> usize {
        self.layout().map_or_else(|| BATCH.limbs(), |layout| layout.limbs())
    }

    /// Bytes of a row of a query or an answer.
    pub fn row_bytes(&self) -> usize {
        rows::row_bytes(self.ring().degree())
    }

    /// Answers for each plaintext prime.
    pub fn answers(&self) -> usize {
        match self.mode {
            Mode::Batch => self.outputs(),
            Mode::Single => 1,
        }
    }

    /// Bytes of an answer in one plaintext prime.
    pub fn answer_bytes(&self) -> usize {
        2 * self.row_bytes()
    }

    /// Squares on the way from input to output.
    pub fn squares(&self) -> usize {
        self.network.layers().iter().filter(|layer| matches!(layer, Layer::Square)).count()
    }

    /// Refuses what [`Self::choose`] cannot have made. A plan that comes from outside must pass this.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn check(&self) -> Result<(), PlanError> {
        shape(&self.network, self.mode)?;
        let product =
            self.primes.iter().try_fold(1_u128, |product, prime| product.checked_mul((*prime).into()));
        let product = product.filter(|product| *product < 1 << PRODUCT_BITS_MAX).unwrap_or(0);
        let [low, high] = self.input_range;
        let distinct = self.primes.windows(2).all(|pair| pair[0] < pair[1]);
        let allowed = |prime: &u64| {
            *prime < 1 << PRIME_BITS_MAX && prime % super::PRIME_STEP == 1 && super::ring::is_prime(*prime)
        };
        let claims = [
            (!(1..=PRIMES_MAX).contains(&self.primes.len()), "the number of plaintext primes"),
            (!self.primes.iter().all(allowed) || !distinct, "the plaintext primes"),
            (
                self.logit_bits == 0 || product.checked_shr(self.logit_bits).unwrap_or(0) == 0,
                "the bits of a logit",
            ),
            (self.flood_bits != flood_bits(self.mode, &self.primes), "the bits of the flood"),
            (!(1..=INPUT_SCALE_MAX).contains(&self.scales.input), "the scale of inputs"),
            (!(low < high && low >= -65_535 && high <= 65_535), "the range of inputs"),
            (self.scales.maps.len() != self.squares() + 1, "the number of scales"),
            (
                !self.scales.maps.iter().all(|scale| scale.is_finite() && *scale > 0.0),
                "the scales of weights",
            ),
        ];
        match claims.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, what)) => Err(PlanError::Contradiction(what)),
            None => Ok(()),
        }
    }

    /// What keys, queries and answers are bound to.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        if ciborium::into_writer(self, &mut bytes).is_err() {
            bytes.clear();
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"consilium homomorphic plan 1\0");
        context.update(&bytes);
        let mut value = [0; 32];
        value.copy_from_slice(context.finish().as_ref());
        value
    }

    /// The integers of a row of numbers.
    ///
    /// # Errors
    /// Position and value of the first number that is not admissible.
    pub fn encode(&self, row: &[f64]) -> Result<Vec<i64>, (usize, f64)> {
        super::integer::encode(f64::from(self.scales.input), self.input_range, row)
    }

    pub(super) fn ring(&self) -> &'static Ring {
        match self.mode {
            Mode::Batch => &BATCH,
            Mode::Single => &SINGLE,
        }
    }

    /// The slots of a plaintext prime.
    pub(super) fn slots(&self, plain: usize) -> Slots {
        match self.mode {
            Mode::Batch => Slots::unordered(self.primes[plain], BATCH.degree()),
            Mode::Single => Slots::ordered(self.primes[plain], SINGLE.degree()),
        }
    }

    /// Where numbers stand in a single query.
    pub(super) fn layout(&self) -> Option<Layout> {
        match self.mode {
            Mode::Batch => None,
            // A plan exists only where there is one.
            Mode::Single => Layout::new(&self.network, SINGLE.degree()).ok(),
        }
    }

    /// The keys that evaluation needs.
    pub(super) fn keys(&self) -> Vec<KeyShape> {
        match self.layout() {
            Some(layout) => layout.keys(),
            None => {
                let power = |power| KeyShape { origin: Origin::Power(power), limbs: BATCH.special() };
                (2..=1 << self.squares()).map(power).collect()
            }
        }
    }

    /// Primes of the modulus under which answers are flooded.
    pub(super) fn answer_limbs(&self) -> usize {
        answer_limbs(self.mode)
    }

    /// How many of the first primes divided an answer, with the one that is left.
    pub(super) fn dropped_limbs(&self) -> usize {
        match self.mode {
            Mode::Batch => BATCH.limbs(),
            Mode::Single => ANSWER_LIMBS,
        }
    }
}

/// What the noise of a network is computed from, whatever the plaintext primes.
enum Noises {
    Batch { unit: f64 },
    Single { layout: Layout },
}

impl Noises {
    fn new(network: &Network, net: &IntegerNet, mode: Mode) -> Result<Self, PlanError> {
        Ok(match mode {
            Mode::Batch => Self::Batch { unit: output_deviation(net, 1.0, BATCH.degree()) },
            Mode::Single => Self::Single { layout: Layout::new(network, SINGLE.degree())? },
        })
    }
}

fn answer_limbs(mode: Mode) -> usize {
    match mode {
        Mode::Batch => BATCH.special(),
        Mode::Single => ANSWER_LIMBS,
    }
}

/// Refuses networks that no plan serves.
pub(super) fn shape(network: &Network, mode: Mode) -> Result<(), PlanError> {
    super::linear::check(network)?;
    let squares = network.layers().iter().filter(|layer| matches!(layer, Layer::Square)).count();
    if squares > SQUARES_MAX {
        return Err(PlanError::Deep(squares));
    }
    let ends = [("an input", network.input().len()), ("an output", network.output().len())];
    if let Some((what, found)) = ends.into_iter().find(|(_, found)| *found > WIRE_MAX) {
        return Err(PlanError::Wide { what, found });
    }
    if mode == Mode::Single {
        Layout::new(network, SINGLE.degree())?;
    }
    Ok(())
}

/// The flood fills what the margin leaves of the modulus of an answer, whatever the weights are.
fn flood_bits(mode: Mode, primes: &[u64]) -> u32 {
    let ring: &Ring = match mode {
        Mode::Batch => &BATCH,
        Mode::Single => &SINGLE,
    };
    let plain = primes.iter().map(|prime| (*prime as f64).log2()).fold(0.0, f64::max);
    let room = ring.bits(answer_limbs(mode)) - 1.0 - f64::from(MARGIN_BITS) - plain;
    room.floor() as u32
}
