//! Other sizes: which samples of the file a value comes from, and with which weights.

use consilium_config::Resize;

/// For each place of the new side the places of the old one with their weights, which sum to one.
pub(super) type Taps = Vec<Vec<(usize, f64)>>;

/// How a side of `from` samples becomes one of `to` values; both are at least one.
pub(super) fn taps(from: usize, to: usize, resize: Resize) -> Taps {
    match resize {
        _ if from == to => (0..to).map(|at| vec![(at, 1.0)]).collect(),
        Resize::Area | Resize::Refuse => (0..to).map(|at| area(from, to, at)).collect(),
        Resize::Bilinear => (0..to).map(|at| bilinear(from, to, at)).collect(),
    }
}

/// Value `at` covers the samples from `at * from / to` to `(at + 1) * from / to`. Counted in parts of `1 / to`, all
/// borders are whole numbers, so the weights are exact up to one division.
fn area(from: usize, to: usize, at: usize) -> Vec<(usize, f64)> {
    let (start, end) = (at * from, (at + 1) * from);
    let covered = |sample: usize| {
        let overlap = end.min((sample + 1) * to).saturating_sub(start.max(sample * to));
        (sample, overlap as f64 / from as f64)
    };
    (start / to..end.div_ceil(to)).map(covered).collect()
}

/// Value `at` stands at `(at + 1/2) * from / to - 1/2` between the samples; outside of them the nearest one counts.
fn bilinear(from: usize, to: usize, at: usize) -> Vec<(usize, f64)> {
    // In parts of 1 / (2 to), where everything is a whole number.
    let place = ((2 * at + 1) * from).saturating_sub(to).min(2 * to * (from - 1));
    let (left, part) = (place / (2 * to), place % (2 * to));
    if part == 0 {
        return vec![(left, 1.0)];
    }
    let right = part as f64 / (2 * to) as f64;
    vec![(left, 1.0 - right), (left + 1, right)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_means_and_cover_every_sample_once() {
        assert_eq!(taps(4, 2, Resize::Area), [[(0, 0.5), (1, 0.5)], [(2, 0.5), (3, 0.5)]]);
        // Three samples on two values: the middle one is shared.
        let third = 1.0 / 3.0;
        assert_eq!(
            taps(3, 2, Resize::Area),
            [[(0, 2.0 * third), (1, third)], [(1, third), (2, 2.0 * third)]]
        );
        // Two on four: each twice.
        assert_eq!(taps(2, 4, Resize::Area), [[(0, 1.0)], [(0, 1.0)], [(1, 1.0)], [(1, 1.0)]]);
        for (from, to) in [(1, 1), (7, 3), (3, 7), (512, 224), (1, 5), (5, 1), (1023, 8)] {
            let taps = taps(from, to, Resize::Area);
            let mut weight_of = vec![0.0; from];
            for (sample, weight) in taps.iter().flatten() {
                assert!(*weight > 0.0);
                weight_of[*sample] += weight;
            }
            for sum in weight_of {
                assert!((sum - to as f64 / from as f64).abs() < 1e-12, "{from} to {to}: {sum}");
            }
        }
    }

    #[test]
    fn interpolation_has_its_centres_half_a_pixel_from_the_border() {
        // As torch.nn.functional.interpolate(mode="bilinear", align_corners=False) has them.
        assert_eq!(taps(2, 4, Resize::Bilinear)[0], [(0, 1.0)]);
        assert_eq!(taps(2, 4, Resize::Bilinear)[1], [(0, 0.75), (1, 0.25)]);
        assert_eq!(taps(2, 4, Resize::Bilinear)[2], [(0, 0.25), (1, 0.75)]);
        assert_eq!(taps(2, 4, Resize::Bilinear)[3], [(1, 1.0)]);
        assert_eq!(taps(4, 2, Resize::Bilinear), [[(0, 0.5), (1, 0.5)], [(2, 0.5), (3, 0.5)]]);
        assert_eq!(taps(5, 1, Resize::Bilinear), [[(2, 1.0)]]);
        assert_eq!(taps(1, 3, Resize::Bilinear), [[(0, 1.0)], [(0, 1.0)], [(0, 1.0)]]);
        for (from, to) in [(7, 3), (3, 7), (512, 224), (1, 5)] {
            for one in taps(from, to, Resize::Bilinear) {
                assert_eq!(one.iter().map(|(_, weight)| weight).sum::<f64>(), 1.0);
                assert!(one.iter().all(|(sample, _)| *sample < from));
            }
        }
    }
}
