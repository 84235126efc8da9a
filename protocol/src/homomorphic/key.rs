//! The client: its secret, the evaluation keys that an owner needs, and what it opens.

use super::galois::Galois;
use super::plan::Plan;
use super::ring::{Ring, Rows, Secret, each, map};
use super::rows;
use crate::algebra::prg::SEED_BYTES;
use crate::algebra::{Prg, Seed};
use crate::lattice::sample;
use crate::misbehaviour::Misbehaviour;
use pulp::Arch;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// What a key brings back to a multiple of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Origin {
    /// A power of the secret, which squares make.
    Power(u32),
    /// The secret with its slots rotated to the left by so many.
    Rotated(i32),
    /// The secret with its two rows of slots exchanged.
    Swapped,
}

/// A key of a plan: what for, and for how many primes of the modulus beside the special one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyShape {
    pub(super) origin: Origin,
    pub(super) limbs: usize,
}

/// A client's secret for one plan.
pub struct SecretKey {
    ring: &'static Ring,
    /// The secret itself at the roots, next to zero.
    secret: Secret,
}

impl SecretKey {
    /// The secret that a seed has for a plan; another plan gets another one.
    pub fn of_seed(plan: &Plan, seed: &Seed) -> Self {
        let ring = plan.ring();
        let label = plan
            .digest()
            .iter()
            .fold(String::from("homomorphic secret "), |label, byte| label + &format!("{byte:02x}"));
        let words = sample::ternary(&mut Prg::new(&seed.derive(&label, 0)), ring.degree());
        Self { ring, secret: Zeroizing::new(ring.lifted(ring.limbs(), &Ring::small(&words), 1)) }
    }

    /// The secret at the roots, next to zero.
    #[cfg(test)]
    pub(super) fn secret(&self) -> &[f64] {
        &self.secret
    }

    /// The secret at the roots of one prime.
    fn row(&self, limb: usize) -> &[f64] {
        &self.secret[limb * self.ring.degree()..(limb + 1) * self.ring.degree()]
    }

    /// For each of the given primes, a row of minus `a` times the secret plus noise times `factor`. `a` is the expansion of
    /// a seed that is appended to `bytes`; `change` may add to each row before it is appended too.
    fn write_pair(
        &self,
        bytes: &mut Vec<u8>,
        limbs: &[usize],
        factor: u128,
        prg: &mut Prg,
        change: impl Fn(usize, &mut [f64]),
    ) {
        let seed = prg.seed();
        bytes.extend(seed.as_bytes());
        let noise = Ring::small(&sample::binomial(prg, self.ring.degree()));
        let uniform = self.ring.uniform(&mut Prg::new(&seed), limbs.iter().copied());
        let mut row = Zeroizing::new(self.ring.zero(1));
        for (limb, uniform) in limbs.iter().zip(uniform.chunks_exact(self.ring.degree())) {
            self.ring.lift(*limb, &mut row, &noise, factor);
            self.mask(*limb, uniform, &mut row);
            change(*limb, &mut row);
            each(&mut row, |value| self.ring.prime(*limb).canonical(value));
            rows::write(bytes, &row);
        }
    }

    /// The evaluation keys for a plan: an encryption of zero, with which answers are made fresh, and the keys that bring
    /// products and rotations back to the secret itself. `prg` is for these keys alone.
    pub fn evaluation_keys(&self, plan: &Plan, prg: &mut Prg) -> Vec<u8> {
        let ring = self.ring;
        // Noise times all plaintext primes at once is noise times each of them, so that one set serves all.
        let factor = plan.primes.iter().map(|prime| u128::from(*prime)).product();
        let mut bytes = Vec::with_capacity(EvaluationKeys::bytes(plan));
        let answer: Vec<usize> = (0..plan.answer_limbs()).collect();
        self.write_pair(&mut bytes, &answer, factor, prg, |_, _| ());
        for shape in plan.keys() {
            let origin = self.origin(shape.origin);
            let limbs: Vec<usize> =
                (0..=shape.limbs).map(|row| ring.with_special(shape.limbs, row)).collect();
            for digit in 0..shape.limbs {
                self.write_pair(&mut bytes, &limbs, factor, prg, |limb, row| {
                    if limb == digit {
                        let prime = ring.prime(digit);
                        let scale = prime.constant(ring.prime(ring.special()).value.into());
                        let origin = &origin[digit * ring.degree()..(digit + 1) * ring.degree()];
                        map(row, origin, |value, origin| value + prime.multiply(origin, scale));
                    }
                });
            }
        }
        bytes
    }

    fn origin(&self, origin: Origin) -> Secret {
        match origin {
            Origin::Power(power) => (1..power).fold(self.secret.clone(), |product, _| {
                let mut next = Zeroizing::new(self.ring.zero(self.ring.limbs()));
                self.ring.multiply_add(&mut next, &product, &self.secret);
                next
            }),
            Origin::Rotated(_) | Origin::Swapped => {
                let places = Galois::new(self.ring.degree()).of(origin);
                let mut rotated = Zeroizing::new(self.ring.zero(self.ring.limbs()));
                for (limb, row) in self.ring.rows_mut(&mut rotated) {
                    places.apply(self.row(limb), row);
                }
                rotated
            }
        }
    }

    /// The two parts of an answer opened: coefficients next to zero of `c0 + c1 s` modulo the first prime.
    pub(super) fn open(&self, constant: &[f64], linear: &mut [f64]) -> Secret {
        let (prime, transform) = (self.ring.prime(0), self.ring.transform(0));
        each(linear, |value| prime.reduce(value));
        transform.forward(linear);
        let mut opened = Zeroizing::new(self.ring.zero(1));
        self.ring.multiply_add_row(0, &mut opened, linear, self.row(0));
        transform.inverse(&mut opened);
        map(&mut opened, constant, |value, constant| {
            let sum = prime.canonical(value + constant);
            prime.centre(sum)
        });
        opened
    }

    /// Takes `a` times the secret from a row, which then is in `0..prime`.
    pub(super) fn mask(&self, limb: usize, a: &[f64], row: &mut [f64]) {
        let (prime, secret) = (self.ring.prime(limb), self.row(limb));
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (value, (a, secret)) in row.iter_mut().zip(a.iter().zip(secret)) {
                    *value = prime.canonical(*value - prime.multiply(*a, *secret));
                }
            },
        );
    }
}

impl ZeroizeOnDrop for SecretKey {}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A pair `(b, a)` with `b + a s` small, or that and a multiple of something else. Rows of the first primes; in keys one
/// more row is that of the special prime.
pub(super) struct Pair {
    pub(super) constant: Vec<f64>,
    pub(super) linear: Vec<f64>,
}

/// One pair for each digit.
pub(super) struct SwitchingKey {
    shape: KeyShape,
    digits: Vec<Pair>,
}

/// What a client gives an owner once: nothing in it is secret.
pub struct EvaluationKeys {
    ring: &'static Ring,
    /// An encryption of zero under the modulus of answers.
    pub(super) zero: Pair,
    keys: Vec<SwitchingKey>,
}

impl EvaluationKeys {
    /// Bytes of the keys for a plan.
    pub fn bytes(plan: &Plan) -> usize {
        let row = rows::row_bytes(plan.ring().degree());
        let key = |shape: &KeyShape| shape.limbs * (SEED_BYTES + (shape.limbs + 1) * row);
        SEED_BYTES + plan.answer_limbs() * row + plan.keys().iter().map(key).sum::<usize>()
    }

    /// Reads keys.
    ///
    /// # Errors
    /// [`Misbehaviour`] where the bytes are not those of keys for the plan.
    pub fn decode(plan: &Plan, bytes: &[u8]) -> Result<Self, Misbehaviour> {
        let (ring, expected) = (plan.ring(), Self::bytes(plan));
        if bytes.len() != expected {
            return Err(Misbehaviour::LatticeLength { what: KEY, expected, found: bytes.len() });
        }
        let mut rest = bytes;
        let answer: Vec<usize> = (0..plan.answer_limbs()).collect();
        let zero = Pair::read(ring, &mut rest, &answer)?;
        let mut keys = Vec::new();
        for shape in plan.keys() {
            let limbs: Vec<usize> =
                (0..=shape.limbs).map(|row| ring.with_special(shape.limbs, row)).collect();
            let pairs = (0..shape.limbs).map(|_| Pair::read(ring, &mut rest, &limbs));
            keys.push(SwitchingKey { shape, digits: pairs.collect::<Result<_, _>>()? });
        }
        Ok(Self { ring, zero, keys })
    }

    /// The key for an origin.
    ///
    /// # Panics
    /// If the plan has no such key.
    fn key(&self, origin: Origin) -> &SwitchingKey {
        let found = self.keys.iter().find(|key| key.shape.origin == origin);
        found.unwrap_or_else(|| panic!("the plan has no key for {origin:?}"))
    }

    /// A polynomial of values at the roots times the origin, under the secret itself: its residues, each as a small number,
    /// times the pairs of the key. Two sums of as many rows and one for the special prime, by which they are too large.
    /// At most 64 polynomials may be added up in the same sums.
    pub(super) fn switch(&self, origin: Origin, polynomial: &[f64], sums: &mut [Rows; 2]) {
        let (key, ring, degree) = (self.key(origin), self.ring, self.ring.degree());
        let limbs = polynomial.len() / degree;
        let (mut numbers, mut lifted) = (ring.zero(1), ring.zero(1));
        for (digit, (residues, pair)) in polynomial.chunks_exact(degree).zip(&key.digits).enumerate() {
            numbers.copy_from_slice(residues);
            ring.coefficients(digit, &mut numbers);
            for row in 0..=limbs {
                let limb = ring.with_special(limbs, row);
                let values = if limb == digit {
                    residues
                } else {
                    lifted.copy_from_slice(&numbers);
                    ring.transform(limb).forward(&mut lifted);
                    &lifted
                };
                // A key for more primes has its special row further behind.
                let from = if row == limbs { key.shape.limbs } else { row } * degree;
                let (to, from) = (row * degree..(row + 1) * degree, from..from + degree);
                let [first, second] = sums;
                ring.accumulate(
                    limb,
                    [&mut first[to.clone()], &mut second[to]],
                    values,
                    [&pair.constant[from.clone()], &pair.linear[from]],
                );
            }
        }
    }
}

const KEY: &str = "evaluation key";

impl Pair {
    /// The next pair of bytes whose length was checked.
    fn read(ring: &Ring, rest: &mut &[u8], limbs: &[usize]) -> Result<Self, Misbehaviour> {
        let row_bytes = rows::row_bytes(ring.degree());
        let (seed, behind) = rest.split_at(SEED_BYTES);
        let (packed, behind) = behind.split_at(limbs.len() * row_bytes);
        *rest = behind;
        let mut bytes = [0; SEED_BYTES];
        bytes.copy_from_slice(seed);
        let mut constant = Vec::with_capacity(limbs.len() * ring.degree());
        for (limb, row) in limbs.iter().zip(packed.chunks_exact(row_bytes)) {
            constant.extend(rows::read(KEY, ring, *limb, row)?);
        }
        let linear = ring.uniform(&mut Prg::new(&Seed::from_bytes(bytes)), limbs.iter().copied());
        Ok(Self { constant, linear })
    }
}

impl std::fmt::Debug for EvaluationKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EvaluationKeys({} keys)", self.keys.len())
    }
}
