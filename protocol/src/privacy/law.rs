//! Exact probabilities of a mechanism's noise, to plan a release and to judge the samplers.
//!
//! Ordinary floating-point numbers, right to about thirteen digits. Nothing here is on the path of a draw, and
//! nothing here decides what a label costs.

use super::Mechanism;

/// Probabilities of the integers from `-reach` to `reach`. What lies outside is below 10^-14.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    reach: i64,
    mass: Vec<f64>,
    /// Entry i is the probability of less than `i - reach`; one entry more than there are masses.
    below: Vec<f64>,
}

impl Law {
    /// Law of the noise that one count receives: the sum of `draws` independent full draws. An attested
    /// module makes one; two compute parties in software add one each. No draw, or an exact release, is the
    /// certain 0.
    pub fn of(mechanism: &Mechanism, draws: u32) -> Self {
        match draws {
            0 => Self::new(0, |_| 1.0),
            1 | 2 => Self::closed(mechanism, draws),
            _ => {
                let single = Self::closed(mechanism, 1);
                (2..draws).fold(Self::closed(mechanism, 2), |sum, _| sum.plus(&single))
            }
        }
    }

    /// One or two draws by their formula. Of two draws that add up to x, the probability is
    ///
    /// - Gaussian: `exp(-x²/4σ²)` times the sum of `exp(-(y - x/2)²/σ²)` over all y, which depends on the
    ///   parity of x alone;
    /// - Laplace: `exp(-ε|x|/2) (|x| + coth(ε/2))`, up to a constant.
    fn closed(mechanism: &Mechanism, draws: u32) -> Self {
        let two = draws == 2;
        match mechanism {
            Mechanism::Exact => Self::new(0, |_| 1.0),
            Mechanism::Gaussian { sigma_squared } => {
                let variance = sigma_squared.numerator() as f64 / sigma_squared.denominator() as f64;
                let total = variance * f64::from(draws);
                let reach = (8.5 * total.sqrt()).ceil() as i64 + 1;
                let comb = |offset: f64| {
                    (-reach..=reach).map(|y| (-(y as f64 - offset).powi(2) / variance).exp()).sum::<f64>()
                };
                let parity = if two { [comb(0.0), comb(0.5)] } else { [1.0, 1.0] };
                Self::new(reach, |x| {
                    (-(x as f64).powi(2) / (2.0 * total)).exp() * parity[usize::from(x % 2 != 0)]
                })
            }
            Mechanism::Laplace { epsilon } => {
                let half = epsilon.numerator() as f64 / epsilon.denominator() as f64 / 2.0;
                let reach = ((32.0 + 4.0 * f64::from(draws)) / half).ceil() as i64 + 1;
                Self::new(reach, |x| {
                    let distance = x.abs() as f64;
                    let ways = if two { distance + 1.0 / half.tanh() } else { 1.0 };
                    (-distance * half).exp() * ways
                })
            }
        }
    }

    /// The law that is proportional to the given weights.
    fn new(reach: i64, weight: impl Fn(i64) -> f64) -> Self {
        let weights: Vec<f64> = (-reach..=reach).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mass: Vec<f64> = weights.into_iter().map(|weight| weight / total).collect();
        let mut below = vec![0.0];
        below.extend(mass.iter().scan(0.0, |sum, mass| {
            *sum += mass;
            Some(*sum)
        }));
        Self { reach, mass, below }
    }

    /// The law of the sum of two independent numbers.
    fn plus(&self, other: &Self) -> Self {
        let mut sums = vec![0.0; self.mass.len() + other.mass.len() - 1];
        for (start, left) in self.mass.iter().enumerate() {
            for (sum, right) in sums[start..].iter_mut().zip(&other.mass) {
                *sum += left * right;
            }
        }
        let reach = self.reach + other.reach;
        Self::new(reach, |x| sums[(x + reach) as usize])
    }

    /// Largest magnitude with a recorded probability.
    pub const fn reach(&self) -> i64 {
        self.reach
    }

    /// Probability of exactly `x`.
    pub fn at(&self, x: i64) -> f64 {
        self.index(x).and_then(|index| self.mass.get(index)).copied().unwrap_or(0.0)
    }

    /// Probability of less than `x`.
    pub fn below(&self, x: i64) -> f64 {
        self.index(x).map_or(0.0, |index| self.below.get(index).copied().unwrap_or(1.0))
    }

    /// Probability of `x` or more, as precise in the far tail as near the middle: the noise that lifts a
    /// count of n to a threshold of at least t is `at_least(t - n)`.
    pub fn at_least(&self, x: i64) -> f64 {
        // Symmetric, so that no small number is left of two large ones.
        self.below(x.saturating_neg().saturating_add(1))
    }

    /// The mean square; the mean is 0.
    pub fn variance(&self) -> f64 {
        (-self.reach..=self.reach).map(|x| (x as f64).powi(2) * self.at(x)).sum()
    }

    fn index(&self, x: i64) -> Option<usize> {
        usize::try_from(x.saturating_add(self.reach)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mechanisms() -> Vec<Mechanism> {
        let gaussian = |text: &str| Mechanism::Gaussian { sigma_squared: text.parse().unwrap() };
        let laplace = |text: &str| Mechanism::Laplace { epsilon: text.parse().unwrap() };
        let gaussians = ["1/1024", "1/4", "1", "25", "400/3"].map(gaussian);
        gaussians.into_iter().chain(["0.1", "1", "2", "40", "1048576"].map(laplace)).collect()
    }

    #[test]
    fn two_draws_by_formula_are_one_and_one() {
        for mechanism in mechanisms() {
            let (one, two) = (Law::of(&mechanism, 1), Law::of(&mechanism, 2));
            let sum = one.plus(&one);
            for x in -sum.reach()..=sum.reach() {
                assert!(
                    (sum.at(x) - two.at(x)).abs() < 1e-14,
                    "{mechanism} {x}: {} {}",
                    sum.at(x),
                    two.at(x)
                );
            }
            assert!((two.variance() - 2.0 * one.variance()).abs() < 1e-9 * one.variance() + 1e-12);
            let three = Law::of(&mechanism, 3);
            assert!((three.variance() - 3.0 * one.variance()).abs() < 1e-9 * one.variance() + 1e-12);
        }
    }

    #[test]
    fn tails_and_masses_agree() {
        for law in mechanisms().iter().flat_map(|mechanism| [1, 2].map(|draws| Law::of(mechanism, draws))) {
            assert_eq!((law.below(i64::MIN), law.at_least(i64::MAX)), (0.0, 0.0));
            assert!(
                (law.below(i64::MAX) - 1.0).abs() < 1e-13 && (law.at_least(i64::MIN) - 1.0).abs() < 1e-13
            );
            for x in -law.reach()..=law.reach() {
                assert!((law.below(x) + law.at(x) - law.below(x + 1)).abs() < 1e-15);
                assert!((law.below(x) + law.at_least(x) - 1.0).abs() < 1e-13);
                assert!((law.at(x) - law.at(-x)).abs() <= f64::EPSILON * law.at(x));
            }
        }
    }

    #[test]
    fn no_noise_is_a_certain_zero() {
        for law in [Law::of(&Mechanism::Exact, 2), Law::of(&mechanisms()[2], 0)] {
            assert_eq!((law.at(0), law.at(1), law.at_least(0), law.below(0)), (1.0, 0.0, 1.0, 0.0));
        }
    }
}
