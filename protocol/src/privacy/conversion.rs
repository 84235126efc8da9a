//! From rho to epsilon at a given delta, after Canonne, Kamath and Steinke (2020), corollary 13.
//!
//! Every order α > 1 gives a valid bound `ε = αρ + A(α)` with
//! `A(α) = [ln(1/δ) - ln α] / (α-1) + ln(α-1) - ln α`; the best order is found by bisection and the bound is
//! evaluated there. A slightly worse order only costs a little, so soundness rests on the evaluation alone.
//! It runs in 192-bit software arithmetic: both compute parties work out the limits of a ledger by
//! themselves and must get the same bits whatever their platform's mathematics library.

use super::{COST_ONE, Delta, Ratio};
use dashu_float::FBig;
use dashu_float::round::mode::HalfEven;
use dashu_int::UBig;

type Real = FBig<HalfEven, 2>;

/// Significant bits of every intermediate value. None exceeds 2^64, so each of the ten or so roundings is
/// off by less than 2^-127 and [`margin`] covers them all.
const PRECISION: usize = 192;

/// Smallest and largest α - 1 searched. For any rho of 64 bits and any [`Delta`] the best one lies between.
const EXCESS_RANGE: (f32, f32) = (1.0 / 65_536.0, 67_108_864.0);

/// Upper bound on the epsilon of `rho` (in units of 2^-40) at `delta`, over all orders.
///
/// The result is at most a relative 2^-40 above the infimum; it is never below.
pub fn cks_epsilon(rho: u64, delta: Delta) -> f64 {
    let curve = Curve::new(delta);
    if rho == 0 {
        return 0.0;
    }
    let rho = units(rho);
    // dε/dα = ρ - ln(1/αδ) / (α-1)², which changes sign once.
    let excess =
        first_excess(|excess| &rho * excess * excess + (excess + whole(1)).ln() >= curve.ln_inverse_delta);
    rounded_up(curve.epsilon(&rho, &excess))
}

/// Largest rho, in units of 2^-40 and rounded down, whose epsilon at `delta` is at most `epsilon`.
pub(super) fn rho_limit(epsilon: Ratio, delta: Delta) -> u64 {
    let curve = Curve::new(delta);
    let epsilon = whole(u128::from(epsilon.numerator())) / whole(u128::from(epsilon.denominator()));
    let excess = curve.excess_for(&epsilon);
    let rho = (epsilon - curve.overhead(&excess) - margin()) / (&excess + whole(1));
    let amount = (rho * whole(u128::from(COST_ONE)) - margin()).floor().to_int().value();
    u64::try_from(amount).unwrap_or(0)
}

/// The conversion at one delta.
struct Curve {
    ln_inverse_delta: Real,
}

impl Curve {
    fn new(delta: Delta) -> Self {
        let scale = whole(10u128.pow(delta.exponent()));
        Self { ln_inverse_delta: (scale / whole(u128::from(delta.mantissa()))).ln() }
    }

    /// A(α) for α = 1 + `excess`.
    fn overhead(&self, excess: &Real) -> Real {
        let ln_order = (excess + whole(1)).ln();
        (&self.ln_inverse_delta - &ln_order) / excess + excess.ln() - ln_order
    }

    /// The order, less one, at which `epsilon` allows the largest rho: `ρ(α) = (ε - A(α)) / α` rises up to it
    /// and falls after it.
    fn excess_for(&self, epsilon: &Real) -> Real {
        first_excess(|excess| {
            let order = excess + whole(1);
            let slope = &order * (&self.ln_inverse_delta - order.ln()) / (excess * excess);
            slope + self.overhead(excess) <= *epsilon
        })
    }

    /// The bound that order 1 + `excess` gives, no lower than the exact value.
    fn epsilon(&self, rho: &Real, excess: &Real) -> Real {
        rho * (excess + whole(1)) + self.overhead(excess) + margin()
    }
}

/// Smallest α - 1 for which a condition holds that, once true, stays true.
///
/// Bisects over the bit patterns of single-precision numbers: 2^-24 of relative precision in the order moves
/// the epsilon, flat at its minimum, by about 2^-48.
fn first_excess(holds: impl Fn(&Real) -> bool) -> Real {
    let (mut low, mut high) = (EXCESS_RANGE.0.to_bits(), EXCESS_RANGE.1.to_bits());
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(&pattern(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    pattern(low)
}

fn pattern(bits: u32) -> Real {
    let value = Real::try_from(f32::from_bits(bits)).expect("patterns between two finite numbers are finite");
    value.with_precision(PRECISION).value()
}

fn whole(value: u128) -> Real {
    Real::from(UBig::from(value)).with_precision(PRECISION).value()
}

fn units(amount: u64) -> Real {
    whole(u128::from(amount)) / whole(u128::from(COST_ONE))
}

/// Covers the accumulated rounding of one evaluation, see [`PRECISION`].
fn margin() -> Real {
    whole(1) >> 64
}

/// The next double above a value, and never below zero.
fn rounded_up(value: Real) -> f64 {
    value.to_f64().value().next_up().max(0.0)
}

/// The smallest bound over a list of orders alone, as the tools behind the reference values compute it.
#[cfg(test)]
pub(super) fn cks_epsilon_over(rho: u64, delta: Delta, orders: &[f64]) -> f64 {
    let curve = Curve::new(delta);
    let bounds = orders.iter().map(|order| {
        let order = Real::try_from(*order).expect("orders are finite");
        rounded_up(curve.epsilon(&units(rho), &(order.with_precision(PRECISION).value() - whole(1))))
    });
    bounds.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dashu_float::round::ErrorBounds;
    use dashu_float::round::mode::{Down, Up};
    use proptest::prelude::*;

    #[test]
    fn published_figures_hold_without_the_file() {
        // One rho at delta 1e-5 and 0.0625 at 1e-6, as other accountants print them; their orders are coarser.
        let close =
            |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-3 && found <= expected + 1e-9;
        assert!(close(cks_epsilon(COST_ONE, Delta::new(1, 5).unwrap()), 7.0773915782));
        assert!(close(cks_epsilon(COST_ONE / 16, Delta::new(1, 6).unwrap()), 1.6606191993));
        assert_eq!(cks_epsilon(0, Delta::new(1, 6).unwrap()), 0.0);
    }

    /// A whole number in wider arithmetic of a fixed direction.
    fn wide<R: ErrorBounds>(value: u128) -> FBig<R, 2> {
        FBig::from(UBig::from(value)).with_precision(2 * PRECISION).value()
    }

    /// `αρ + [ln(1/δ) - ln α] / (α-1) + ln((α-1)/α)` with every single rounding in the direction `Towards`,
    /// given one of `Away` for what is subtracted or divided by. `rho` is in units of 2^-40.
    fn bound<Towards: ErrorBounds, Away: ErrorBounds>(
        rho: u64,
        delta: Delta,
        excess: &Real,
    ) -> FBig<Towards, 2> {
        // Orders are small binary numbers, and so is rho: these are exact.
        let excess: FBig<Towards, 2> =
            excess.clone().with_precision(2 * PRECISION).value().with_rounding::<Towards>();
        let order = &excess + wide::<Towards>(1);
        let cost = &order * wide::<Towards>(u128::from(rho)) / wide::<Towards>(u128::from(COST_ONE));
        let inverse =
            wide::<Towards>(10u128.pow(delta.exponent())) / wide::<Towards>(u128::from(delta.mantissa()));
        let ln_order = order.clone().with_rounding::<Away>().ln().with_rounding::<Towards>();
        let tail = (inverse.ln() - ln_order) / &excess;
        let shrink = (&excess / &order).ln();
        cost + tail + shrink
    }

    #[test]
    fn limits_are_rounded_down_and_by_no_more_than_a_unit() {
        let deltas = ["1e-1", "1e-3", "1e-5", "1e-6", "25e-8", "1e-12", "1e-18"];
        let epsilons = ["1/1024", "1/10", "1/2", "1", "2", "3", "100/7", "4", "8", "16", "1000", "1048576"];
        let mut binding = 0;
        for (epsilon, delta) in epsilons.iter().flat_map(|epsilon| deltas.map(|delta| (epsilon, delta))) {
            let (epsilon, delta): (Ratio, Delta) = (epsilon.parse().unwrap(), delta.parse().unwrap());
            let (above, below) = (u128::from(epsilon.numerator()), u128::from(epsilon.denominator()));
            let excess = Curve::new(delta).excess_for(&(whole(above) / whole(below)));
            let limit = rho_limit(epsilon, delta);
            // Even with every rounding upwards, what may be spent does not pass the exact rational budget.
            let most = bound::<Up, Down>(limit, delta, &excess) * wide::<Up>(below);
            assert!(limit == 0 || most <= wide::<Up>(above), "{epsilon} at {delta}: {limit} is too much");
            // And with every rounding downwards, two units more do.
            let least = bound::<Down, Up>(limit + 2, delta, &excess) * wide::<Down>(below);
            assert!(least > wide::<Down>(above), "{epsilon} at {delta}: {limit} is too little");
            binding += usize::from(limit > 0);
        }
        assert!(binding > 70, "{binding} limits above zero");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_limit_is_the_last_rho_that_fits(
            numerator in 1u64..4096, denominator in 1u64..256, exponent in 2u32..16,
        ) {
            let epsilon = Ratio::new(numerator, denominator);
            prop_assume!(epsilon.is_ok());
            let (epsilon, delta) = (epsilon.unwrap(), Delta::new(1, exponent).unwrap());
            let value = numerator as f64 / denominator as f64;
            let limit = rho_limit(epsilon, delta);
            prop_assert!(cks_epsilon(limit, delta) <= value * (1.0 + 1e-12));
            // Two units more, or a part in 2^38 where the order's precision decides.
            let more = limit + 2 + (limit >> 38);
            prop_assert!(cks_epsilon(more, delta) > value);
        }

        #[test]
        fn more_rho_never_looks_cheaper(rho in 1u64..1 << 60, exponent in 1u32..18) {
            let delta = Delta::new(1, exponent).unwrap();
            let (less, more) = (cks_epsilon(rho, delta), cks_epsilon(rho + rho / 1024 + 1, delta));
            prop_assert!(less <= more);
        }

        #[test]
        fn the_simple_bound_is_never_beaten_by_more(rho in 1u64 << 10..1 << 56, exponent in 1u32..18) {
            let found = cks_epsilon(rho, Delta::new(1, exponent).unwrap());
            let rho = rho as f64 / COST_ONE as f64;
            let simple = rho + 2.0 * (rho * f64::from(exponent) * std::f64::consts::LN_10).sqrt();
            prop_assert!(found <= simple * (1.0 + 1e-9), "{} above {}", found, simple);
        }
    }
}
