//! Refusing strangers: how many users' own rows that costs, at one factor and at all.

use serde::Serialize;

/// Shares of rows refused where all thresholds are multiplied by a factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The factor.
    pub factor: f64,
    /// Share of users' own rows.
    pub own: f64,
    /// Share of strangers' rows.
    pub strangers: f64,
}

/// Area under the curve of strangers refused over own rows refused: how often a stranger's row has the larger ratio
/// of the smallest distance to its threshold, equal ones counted half. `None` where there are none to compare.
pub fn area(own: &[f64], strangers: &[f64]) -> Option<f64> {
    if own.is_empty() || strangers.is_empty() {
        return None;
    }
    let mut own = own.to_vec();
    own.sort_by(f64::total_cmp);
    let above = |ratio: &f64| {
        let below = own.partition_point(|other| other < ratio);
        let not_above = own.partition_point(|other| other <= ratio);
        (below + not_above) as f64 / 2.0
    };
    let pairs = own.len() as f64 * strangers.len() as f64;
    Some(strangers.iter().map(above).sum::<f64>() / pairs)
}

/// The curve at some factors.
pub fn points(own: &[f64], strangers: &[f64], factors: &[f64]) -> Vec<Point> {
    let refused = |ratios: &[f64], factor: f64| {
        super::score::share(ratios.iter().filter(|ratio| **ratio > factor).count(), ratios.len())
    };
    let point = |factor: &f64| Point {
        factor: *factor,
        own: refused(own, *factor),
        strangers: refused(strangers, *factor),
    };
    factors.iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_known_ratios() {
        let own = [0.4, 0.1, 0.3, 0.2];
        assert_eq!(area(&own, &[0.5, 0.6]), Some(1.0));
        assert_eq!(area(&own, &[0.0]), Some(0.0));
        assert_eq!(area(&own, &[0.25]), Some(0.5));
        // One above three of four, one level with the second: (3 + 1.5) of 8 pairs.
        assert_eq!(area(&own, &[0.35, 0.2]), Some(4.5 / 8.0));
        assert_eq!(area(&own, &own), Some(0.5));
        assert_eq!((area(&[], &own), area(&own, &[])), (None, None));
    }

    /// By steps from one ratio to the next, the area is that under the curve.
    #[test]
    fn the_area_is_that_under_the_points() {
        let own: Vec<f64> = (0..50).map(|at| f64::from(at * at % 53) / 40.0).collect();
        let strangers: Vec<f64> = (0..40).map(|at| f64::from(at * 7 % 41) / 25.0 + 0.3).collect();
        let mut factors = [&own[..], &strangers, &[-1.0, 9.0]].concat();
        factors.sort_by(f64::total_cmp);
        let curve = points(&own, &strangers, &factors);
        let under =
            |pair: &[Point]| (pair[0].own - pair[1].own) * (pair[0].strangers + pair[1].strangers) / 2.0;
        let sum: f64 = curve.windows(2).map(under).sum();
        assert!((sum - area(&own, &strangers).unwrap()).abs() < 1e-9, "{sum}");
        assert_eq!((curve[0].own, curve[0].strangers), (1.0, 1.0));
    }

    #[test]
    fn a_ratio_at_the_factor_is_accepted() {
        let found = points(&[0.5, 1.0], &[1.0, 1.5], &[1.0]);
        assert_eq!(found, [Point { factor: 1.0, own: 0.0, strangers: 0.5 }]);
    }
}
