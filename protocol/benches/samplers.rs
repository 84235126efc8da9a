//! Noise: draws per second and core, and how far the time of a draw tells its magnitude.
//!
//! `cargo bench -p consilium-protocol --bench samplers -- [--json] [--timed N]` prints a table, or one JSON
//! object a line. Beside the product's samplers stands the textbook one, exact but with rejection: its running
//! time follows the drawn value. `--timed` is the number of draws timed one by one, 20,000 unless told.
//!
//! A right sampler's correlation is a random number of standard deviation `1/√N`; 0.02 is nearly three of
//! them. Times above the 99 % quantile are cut to it, since an interrupt in one draw would hide what the others
//! show; `raw` is without.

#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use consilium_protocol::privacy::{Mechanism, Ratio, Sampler};
use rand::CryptoRng;
use std::hint::black_box;
use std::time::Instant;

/// Classes of one release.
const CLASSES: usize = 10;
/// Queries answered side by side.
const BATCH: usize = 32;
/// Processor time spent on each rate.
const SECONDS: f64 = 0.5;
/// Correlation of time and magnitude from which on a sampler tells.
const CORRELATION_MAX: f64 = 0.02;

/// The exact samplers of Canonne, Kamath and Steinke (2020), algorithms 1 to 3, as published: they accept and
/// reject until a value is found, so the number of trials depends on it. Never used by the product.
struct Textbook<'a, R> {
    rng: &'a mut R,
}

impl<R: CryptoRng> Textbook<'_, R> {
    fn below(&mut self, bound: u128) -> u128 {
        let mask = u128::MAX >> (bound - 1).leading_zeros().min(127);
        loop {
            let word = (u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64())) & mask;
            if word < bound {
                return word;
            }
        }
    }

    /// One with probability `exp(-above/below)` for a fraction of at most one.
    fn small_exponential(&mut self, above: u128, below: u128) -> bool {
        let mut trials = 1;
        while self.below(below * trials) < above {
            trials += 1;
        }
        trials % 2 == 1
    }

    fn exponential(&mut self, above: u128, below: u128) -> bool {
        let whole = above.saturating_sub(1) / below;
        (0..whole).all(|_| self.small_exponential(1, 1))
            && self.small_exponential(above - whole * below, below)
    }

    /// `P(x) ∝ exp(-|x| below/above)`.
    fn laplace(&mut self, above: u128, below: u128) -> i64 {
        loop {
            let start = self.below(above);
            if !self.exponential(start, above) {
                continue;
            }
            let mut whole = 0;
            while self.exponential(1, 1) {
                whole += 1;
            }
            let magnitude = i64::try_from((start + above * whole) / below).unwrap();
            let negative = self.below(2) == 1;
            if !negative || magnitude != 0 {
                return if negative { -magnitude } else { magnitude };
            }
        }
    }

    fn gaussian(&mut self, sigma: u128) -> i64 {
        let (scale, variance) = (sigma + 1, sigma * sigma);
        loop {
            let candidate = self.laplace(scale, 1);
            let gap = (u128::from(candidate.unsigned_abs()) * scale).abs_diff(variance);
            if self.exponential(gap * gap, 2 * variance * scale * scale) {
                return candidate;
            }
        }
    }
}

/// A mechanism and what the textbook needs to draw it.
enum Scale {
    Laplace { epsilon: Ratio },
    Gaussian { sigma: u64 },
}

impl Scale {
    fn all() -> Vec<Self> {
        let laplace = |text: &str| Self::Laplace { epsilon: text.parse().unwrap() };
        let gaussian = |sigma| Self::Gaussian { sigma };
        let laplaces = ["0.1", "0.5", "1", "2"].map(laplace);
        laplaces.into_iter().chain([2, 10, 40, 200, 1024].map(gaussian)).collect()
    }

    fn name(&self) -> String {
        match self {
            Self::Laplace { epsilon } => format!("laplace epsilon {epsilon}"),
            Self::Gaussian { sigma } => format!("gaussian sigma {sigma}"),
        }
    }

    fn mechanism(&self) -> Mechanism {
        match self {
            Self::Laplace { epsilon } => Mechanism::Laplace { epsilon: *epsilon },
            Self::Gaussian { sigma } => {
                Mechanism::Gaussian { sigma_squared: Ratio::new(sigma * sigma, 1).unwrap() }
            }
        }
    }

    fn textbook(&self, rng: &mut impl CryptoRng) -> i64 {
        let mut textbook = Textbook { rng };
        match self {
            Self::Laplace { epsilon } => {
                textbook.laplace(2 * u128::from(epsilon.denominator()), epsilon.numerator().into())
            }
            Self::Gaussian { sigma } => textbook.gaussian((*sigma).into()),
        }
    }
}

/// Seconds that this thread has computed, not waited.
fn computed() -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    nanoseconds.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap() / 1e9
}

/// Draws per second of this thread, where one call of `draw` makes `each`.
fn rate(each: usize, mut draw: impl FnMut()) -> f64 {
    let mut calls = 0usize;
    let start = computed();
    loop {
        for _ in 0..64 {
            draw();
        }
        calls += 64;
        let seconds = computed() - start;
        if seconds > SECONDS {
            return (calls * each) as f64 / seconds;
        }
    }
}

/// Correlation of time with magnitude, with outliers of time cut and not.
fn correlations(count: usize, mut draw: impl FnMut() -> i64) -> [f64; 2] {
    let mut timed = |count: usize| -> Vec<(f64, f64)> {
        let one = |_| {
            let start = Instant::now();
            let value = black_box(draw());
            let time = start.elapsed();
            (time.as_nanos() as f64, value.unsigned_abs() as f64)
        };
        (0..count).map(one).collect()
    };
    // Caches and branch predictors settle first.
    timed(count / 10);
    let raw = timed(count);
    let mut times: Vec<f64> = raw.iter().map(|(time, _)| *time).collect();
    times.sort_by(f64::total_cmp);
    let most = times[count * 99 / 100];
    let cut: Vec<(f64, f64)> = raw.iter().map(|(time, value)| (time.min(most), *value)).collect();
    [correlation(&cut), correlation(&raw)]
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let count = pairs.len() as f64;
    let mean = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0 / count, sum.1 + pair.1 / count));
    let moment = |product: fn(f64, f64) -> f64| -> f64 {
        pairs.iter().map(|pair| product(pair.0 - mean.0, pair.1 - mean.1)).sum()
    };
    let scale = (moment(|time, _| time * time) * moment(|_, value| value * value)).sqrt();
    if scale == 0.0 { 0.0 } else { moment(|time, value| time * value) / scale }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let timed = arguments.windows(2).find(|pair| pair[0] == "--timed").map(|pair| pair[1].parse().unwrap());
    let timed = timed.unwrap_or(20_000usize).max(100);
    let mut rng = rand::rng();
    for scale in Scale::all() {
        let sampler = Sampler::new(&scale.mechanism());
        let mut several = |count| rate(count, || drop(black_box(sampler.draw_many(count, &mut rng))));
        let (batched, release) = (several(CLASSES * BATCH), several(CLASSES));
        let textbook = rate(1, || {
            black_box(scale.textbook(&mut rng));
        });
        let [ours, ours_raw] = correlations(timed, || sampler.draw(&mut rng));
        let [theirs, theirs_raw] = correlations(timed, || scale.textbook(&mut rng));
        if json {
            let line = serde_json::json!({
                "noise": scale.name(), "draws_per_second_and_core": batched,
                "draws_per_second_and_core_one_release": release, "draws_per_second_and_core_textbook": textbook,
                "timed": timed, "correlation": ours, "correlation_raw": ours_raw,
                "correlation_within": ours.abs() < CORRELATION_MAX,
                "correlation_textbook": theirs, "correlation_textbook_raw": theirs_raw,
            });
            println!("{line}");
        } else {
            println!(
                "{}: {batched:.0} per second and core ({release:.0} for one release of {CLASSES} classes, textbook \
                 {textbook:.0}); correlation of time and magnitude {ours:+.4} (raw {ours_raw:+.4}), textbook \
                 {theirs:+.4} (raw {theirs_raw:+.4})",
                scale.name()
            );
        }
    }
}
