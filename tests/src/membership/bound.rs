//! What the promise allows any attack.

use consilium_protocol::privacy::{COST_ONE, Delta, Mechanism, Unit, cks_epsilon};

/// Deltas at which the curve of a zCDP promise is read: these digits, at powers of ten from 1 to the last.
const DELTA_DIGITS: [u64; 3] = [1, 2, 5];
const DELTA_POWERS: u32 = 9;

/// Largest advantage of any attack on `asks` labels under the full noise of one party; `None` for a mechanism
/// that promises nothing.
///
/// Pure epsilon e allows `tanh(asks e / 2)`. A zCDP promise of rho in all allows what each of these does, of
/// which the least counts: every point (epsilon, delta) of its curve, `(e^epsilon - 1 + 2 delta) / (e^epsilon
/// + 1)`, and by Pinsker and by Bretagnolle and Huber the divergence rho, `sqrt(rho / 2)` and
/// `sqrt(1 - e^-rho)`.
pub fn advantage_bound(mechanism: &Mechanism, asks: u16) -> Option<f64> {
    let spent = mechanism.cost()?.times(u64::from(asks)).ok()?;
    let loss = spent.amount() as f64 / COST_ONE as f64;
    Some(match spent.unit() {
        Unit::Pure => (loss / 2.0).tanh(),
        Unit::Zcdp => {
            let divergence = (loss / 2.0).sqrt().min((1.0 - (-loss).exp()).sqrt());
            curve(spent.amount()).fold(divergence, f64::min)
        }
    })
}

fn curve(rho: u64) -> impl Iterator<Item = f64> {
    let deltas = (1..=DELTA_POWERS).flat_map(|power| DELTA_DIGITS.map(|digit| (digit, power)));
    deltas.filter_map(move |(digit, power)| {
        let delta = Delta::new(digit, power).ok()?;
        let epsilon = cks_epsilon(rho, delta);
        let value = digit as f64 * 10f64.powi(-(power as i32));
        Some((epsilon / 2.0).tanh() + 2.0 * value / (epsilon.exp() + 1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::settings;

    fn gaussian(sigma_squared: &str) -> Mechanism {
        Mechanism::Gaussian { sigma_squared: sigma_squared.parse().unwrap() }
    }

    #[test]
    fn pure_bounds_are_hyperbolic_tangents() {
        let laplace = Mechanism::Laplace { epsilon: "1".parse().unwrap() };
        assert!((advantage_bound(&laplace, 1).unwrap() - 0.462_117).abs() < 1e-6);
        assert!((advantage_bound(&laplace, 10).unwrap() - 0.999_909).abs() < 1e-6);
        assert_eq!(advantage_bound(&Mechanism::Exact, 1), None);
    }

    /// The exact distance of two normal laws that far apart, which the bound must not pass from below.
    #[test]
    fn zcdp_bounds_lie_closely_above_the_continuous_law() {
        // (sigma^2, asks, 2 Phi(sqrt(asks / 2) / sigma) - 1)
        for (sigma_squared, asks, exact) in [
            ("4", 1, 0.276_326),
            ("4", 10, 0.736_448),
            ("100", 1, 0.056_372),
            ("100", 100, 0.520_499),
            ("1600", 1, 0.014_103),
            ("1600", 100, 0.140_316),
        ] {
            let bound = advantage_bound(&gaussian(sigma_squared), asks).unwrap();
            assert!(exact <= bound && bound <= 1.4 * exact, "{sigma_squared} {asks}: {bound}");
        }
    }

    #[test]
    fn more_answers_never_allow_less() {
        for setting in settings().unwrap() {
            let bounds: Vec<f64> =
                (1..40).step_by(6).map(|asks| advantage_bound(&setting.mechanism, asks).unwrap()).collect();
            assert!(bounds.is_sorted() && bounds.iter().all(|bound| (0.0..=1.0).contains(bound)));
        }
    }
}
