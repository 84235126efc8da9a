//! How much noise the outputs of a batch carry.
//!
//! A ciphertext of `m` opens to `m + t e`. Between input and output only sums and products happen, so the opened
//! polynomial of an output is the network itself, evaluated on the opened polynomials of the inputs; and at each complex
//! root of `X^n + 1` it is the network evaluated on `n` complex numbers, one for each input. Those are sums of `n`
//! independent terms: normal, with `n` times the variance of a coefficient. The mean square of an output over the roots
//! is the mean square of its coefficients times `n`, because the roots make a unitary matrix. So a network evaluated on
//! complex normal numbers tells the deviation of the noise of its outputs, with every correlation between them.
//!
//! Noise is fresh for each input; messages may be equal, as those of white pixels are, and then add up instead of
//! averaging out. What they have in common is therefore carried along as a magnitude, through absolute values of the
//! weights, and added at the end.

use super::integer::IntegerNet;
use crate::algebra::{Prg, Seed};
use crate::lattice::sample::NOISE_MAX;

/// Draws of the inputs.
const DRAWS: usize = 256;

/// Base-two logarithm of the deviation of a coefficient of the worst output of a network, when inputs are encrypted with
/// plaintext prime `plain` in a ring of so many coefficients, before anything is divided or flooded.
pub(super) fn output_deviation(net: &IntegerNet, plain: f64, degree: usize) -> f64 {
    deviation_of(net, VARIANCES, plain, degree)
}

/// As [`output_deviation`], for other variances of what is fresh and of what inputs have in common.
pub(super) fn deviation_of(net: &IntegerNet, variances: [f64; 2], plain: f64, degree: usize) -> f64 {
    let power = f64::from(1_u32 << net.squares());
    let half_degree = (degree as f64).log2() / 2.0;
    unit_deviation(net, variances) + power * (plain.log2() + half_degree) - half_degree
}

/// The variance of the noise of a coefficient, and that of a message uniform modulo the plaintext prime, in units of the
/// prime.
pub(super) const VARIANCES: [f64; 2] = [NOISE_MAX as f64 / 2.0, 1.0 / 12.0];

/// A value at a root: what is fresh or has a sign that may be either, and the magnitude of what inputs have in common.
#[derive(Clone, Copy)]
struct Value {
    fresh: [f64; 2],
    common: f64,
}

impl Value {
    fn squared(self) -> Self {
        let [re, im] = self.fresh;
        let cross = 2.0 * self.common;
        let fresh = [re * re - im * im + cross * re, 2.0 * re * im + cross * im];
        Self { fresh, common: self.common * self.common }
    }

    fn add(self, weight: f64, other: Self) -> Self {
        let part = |at: usize| self.fresh[at] + weight * other.fresh[at];
        Self { fresh: [part(0), part(1)], common: self.common + weight.abs() * other.common }
    }
}

/// The logarithm of the root of the mean square of the largest output, in units of the plaintext prime.
fn unit_deviation(net: &IntegerNet, variances: [f64; 2]) -> f64 {
    let mut prg = Prg::new(&Seed::from_bytes([0; 16]).derive("noise of a network", 0));
    let [fresh, common] = variances.map(f64::sqrt);
    let mut squares = vec![0.0; net.outputs()];
    for _ in 0..DRAWS {
        let [re, im] = normal(&mut prg);
        let common = common * re.hypot(im);
        let mut wire: Vec<Value> = (0..net.inputs())
            .map(|_| Value { fresh: normal(&mut prg).map(|part| fresh * part), common })
            .collect();
        for (index, map) in net.maps.iter().enumerate() {
            if index > 0 {
                wire.iter_mut().for_each(|value| *value = value.squared());
            }
            let zero = Value { fresh: [0.0; 2], common: 0.0 };
            let value = |output: usize| {
                map.row(output).fold(zero, |sum, (at, weight)| sum.add(f64::from(weight), wire[at]))
            };
            wire = (0..map.outputs()).map(value).collect();
        }
        for (sum, value) in squares.iter_mut().zip(wire) {
            let [re, im] = value.fresh;
            *sum += (re.hypot(im) + value.common).powi(2) / DRAWS as f64;
        }
    }
    squares.into_iter().fold(f64::MIN_POSITIVE, f64::max).log2() / 2.0
}

/// A complex normal number of variance 1 (Box and Muller).
fn normal(prg: &mut Prg) -> [f64; 2] {
    let unit = |word: u64| ((word >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let (radius, angle) = ((-unit(prg.word()).ln()).sqrt(), std::f64::consts::TAU * unit(prg.word()));
    [radius * angle.cos(), radius * angle.sin()]
}
