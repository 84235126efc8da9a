//! The attack: who has candidates for the images, in any order, finds out which encoding is whose.
//!
//! No number of the key is known and nothing is trained for the first three stages:
//!
//! 1. The shuffle of patches is undone: the vector of a position dominates what stands there.
//! 2. Random networks nearly keep distances. So the distances between encodings are compared with the mean distances
//!    between what a few encoders of one's own make of the candidates.
//! 3. Once most are matched, patches of one position are as far apart in both, which tells the positions; with the
//!    distances at each position for themselves the rest is matched.
//! 4. A clone of the encoder is trained on the pairs that look surest, and matches again by what it gives.

mod assignment;
mod cloned;
mod geometry;
mod matching;
mod shuffle;

pub use cloned::CloneSetting;
pub use shuffle::{Undone, undo_shuffle};

use super::encodings::Normalised;
use super::fault::LabError;
use super::{EncoderKey, EncoderShape, Encodings, Heard, Images};
use crate::training::{Encoder, Statistics};
use cloned::Ground;
use consilium_protocol::algebra::prg::Seed;
use geometry::Geometry;
use serde::{Deserialize, Serialize};

/// Fewest images that give a figure.
pub const MEASURED_IMAGES_MIN: usize = 16;
/// Most encodings that are attacked to give a file its figure.
pub const MEASURED_IMAGES_MAX: usize = 200;
/// Most images of an attack, and most distances between them at all positions.
const IMAGES_MAX: usize = 2048;
const DISTANCES_MAX: usize = 1 << 28;
/// Multiplications that a file's figure may cost.
const MEASURE_PRODUCTS: usize = 1 << 40;
/// Multiplications that take as long as a step of an assignment, of which one of `n` takes about `n` cubed.
const PRODUCTS_PER_STEP: usize = 32;
const OWN_ENCODERS: usize = 5;
/// Standard deviations of a normal distribution around its mean that hold 95 % of it.
const NORMAL_95: f64 = 1.96;
/// How far shares may be from what they are by counts, for they were written in decimal.
const ROUNDING: f64 = 1e-6;

/// How an attack is made.
#[derive(Clone)]
pub struct AttackSetting {
    /// Encoders of one's own.
    pub own_encoders: usize,
    /// Whether a clone is trained, and how.
    pub clone: Option<CloneSetting>,
    /// What they are drawn from.
    pub seed: Seed,
}

impl Default for AttackSetting {
    fn default() -> Self {
        Self { own_encoders: OWN_ENCODERS, clone: None, seed: Seed::from_bytes([0; 16]) }
    }
}

impl std::fmt::Debug for AttackSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AttackSetting({} own encoders)", self.own_encoders)
    }
}

/// A part of an attack that matches images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// By distances of whole images.
    Images,
    /// By distances of patches.
    Patches,
    /// By what a trained clone gives.
    Clone,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Images => "distances of images",
            Self::Patches => "distances of patches",
            Self::Clone => "a trained clone",
        })
    }
}

/// Of each encoding, the candidate that it is matched with.
pub type Matching = Vec<usize>;

/// What an attack found.
#[derive(Clone, Debug)]
pub struct Attack {
    /// The patches in one order.
    pub undone: Undone,
    /// The matching after each stage.
    pub stages: Vec<(Stage, Matching)>,
    /// Encoders of one's own that were used.
    pub own_encoders: usize,
}

/// How often a matching is right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// After which stage.
    pub stage: Stage,
    /// Share of images found.
    pub share: f64,
}

impl Found {
    /// The 95 % interval of Wilson for that share of so many images, which has a width at 0 % and at 100 % too.
    pub fn interval(&self, images: usize) -> (f64, f64) {
        let (share, images, square) = (self.share, images.max(1) as f64, NORMAL_95 * NORMAL_95);
        let middle = share + square / (2.0 * images);
        let half = NORMAL_95 * (share * (1.0 - share) / images + square / (4.0 * images * images)).sqrt();
        let of = |value: f64| (value / (1.0 + square / images)).clamp(0.0, 1.0);
        (of(middle - half), of(middle + half))
    }
}

/// The measured success of an attack on encodings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Images found, after each stage.
    pub found: Vec<Found>,
    /// Share of patches brought to their position.
    pub shuffle_undone: f64,
    /// Images that were to be told apart.
    pub images: usize,
    /// Encodings that these are the first of.
    pub encodings: usize,
    /// Share that a guess finds.
    pub chance: f64,
    /// Encoders of one's own.
    pub own_encoders: usize,
    /// The day, in UTC.
    pub date: String,
}

impl Figure {
    /// The last stage, which had most to go by.
    pub fn last(&self) -> Option<&Found> {
        self.found.last()
    }

    /// The stage that found most, the later one of two that found as many.
    pub fn best(&self) -> Option<&Found> {
        self.found.iter().max_by(|left, right| left.share.total_cmp(&right.share))
    }

    /// What makes no sense in the figure of a file with `count` encodings, if anything. Whether it is true is another
    /// matter.
    pub(super) fn check(&self, count: usize) -> Result<(), String> {
        let Self { found, images, encodings, own_encoders, .. } = self;
        let counted = |share: f64, of: usize| {
            let whole = share * of as f64;
            (0.0..=1.0).contains(&share) && (whole - whole.round()).abs() < ROUNDING * of as f64
        };
        let senseless = |what: &str| Err(format!("the figure of its attack makes no sense: {what}"));
        if *encodings != count || !(MEASURED_IMAGES_MIN..=count).contains(images) {
            return senseless(&format!("{images} of {encodings} images, the file has {count}"));
        }
        if found.is_empty() || !found.is_sorted_by(|left, right| left.stage < right.stage) {
            return senseless("its stages are none, or not in order");
        }
        if !found.iter().all(|found| counted(found.share, *images))
            || !(0.0..=1.0).contains(&self.shuffle_undone)
            || (self.chance - 1.0 / *images as f64).abs() > ROUNDING
        {
            return senseless("its shares are none of so many images");
        }
        if *own_encoders != OWN_ENCODERS {
            return senseless(&format!(
                "{own_encoders} own encoders, a file is attacked with {OWN_ENCODERS}"
            ));
        }
        let digits =
            |(at, byte): (usize, u8)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
        if self.date.len() != "2026-01-31".len() || !self.date.bytes().enumerate().all(digits) {
            return senseless("its date is no day like 2026-01-31");
        }
        Ok(())
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(found) = self.best() else { return f.write_str("not attacked") };
        let (low, high) = found.interval(self.images);
        write!(
            f,
            "attack: {:.1} % (95 % interval {:.1} % to {:.1} %) of {} of {} images found by {}, a guess finds {:.1} %; shuffle undone in {:.1} %; {} own encoders, {}",
            100.0 * found.share,
            100.0 * low,
            100.0 * high,
            self.images,
            self.encodings,
            found.stage,
            100.0 * self.chance,
            100.0 * self.shuffle_undone,
            self.own_encoders,
            self.date
        )
    }
}

/// How many of `count` encodings are attacked to give their file its figure.
pub(super) fn sample_size(shape: EncoderShape, count: usize) -> usize {
    // Patches of each encoding are assigned to positions twice.
    let assigned = 2 * PRODUCTS_PER_STEP * shape.positions().pow(3);
    let affordable = MEASURE_PRODUCTS / (OWN_ENCODERS * shape.products() + assigned).max(1);
    count.min(MEASURED_IMAGES_MAX).min(affordable.max(MEASURED_IMAGES_MIN))
}

/// Attacks encodings with candidates, of which there are as many. `heard` counts steps.
///
/// # Errors
/// Candidates of another size or number, or too many of them.
pub fn attack(
    encodings: &Encodings,
    candidates: &Images,
    setting: &AttackSetting,
    heard: Heard<'_>,
) -> Result<Attack, LabError> {
    let shape = encodings.shape();
    candidates.fit(shape)?;
    let (images, positions) = (encodings.count(), shape.positions());
    if candidates.count() != images {
        let problem = format!(
            "{} candidates for {images} encodings; the attack needs as many, in any order",
            candidates.count()
        );
        return Err(LabError::Unfit(problem));
    }
    let most = IMAGES_MAX.min((DISTANCES_MAX / positions).isqrt());
    if !(2..=most).contains(&images) {
        return Err(LabError::Count {
            found: images,
            least: 2,
            most,
            why: "distances between all of them are in memory",
        });
    }
    let steps = setting.own_encoders + 3;
    let undone = undo_shuffle(encodings)?;
    heard(1, steps);
    let of_encodings = Geometry::of(&undone.values, positions, images)?;
    let mut of_candidates = Geometry::empty(positions, images);
    let mut starts = Vec::with_capacity(setting.own_encoders);
    for own in 0..setting.own_encoders {
        let seed = setting.seed.derive("own encoder", own as u64);
        let geometry = own_geometry(encodings, candidates, &seed)?;
        of_candidates.add(&geometry);
        starts.push(geometry.whole);
        heard(2 + own, steps);
    }
    if setting.own_encoders == 0 {
        let pixels = by_position(&candidates.patches(shape, 0..images), images, positions);
        of_candidates.add(&Geometry::of(&pixels, positions, images)?);
    }
    let starts: Vec<&[f32]> =
        std::iter::once(&of_candidates.whole).chain(&starts).map(Vec::as_slice).collect();
    let by_images = matching::by_images(&of_encodings.whole, &of_candidates.whole, &starts, images)?;
    heard(steps - 1, steps);
    let by_patches = matching::by_patches(&of_encodings, &of_candidates, by_images.clone())?;
    heard(steps, steps);
    let mut stages = vec![(Stage::Images, by_images), (Stage::Patches, by_patches)];
    if let Some(CloneSetting { from, recipe }) = setting.clone {
        let start = stages.iter().find(|(stage, _)| *stage == from).map(|(_, matching)| matching.clone());
        let start = start.ok_or_else(|| LabError::Unfit(format!("a clone cannot begin with {from}")))?;
        let ground = Ground {
            shape,
            undone: &undone,
            candidates,
            of_encodings: &of_encodings,
            of_candidates: &of_candidates,
        };
        let mut done = 0;
        let by_clone = ground.match_again(recipe, start, &setting.seed, &mut || {
            done += 1;
            heard(done, 3 * recipe.steps);
        })?;
        stages.push((Stage::Clone, by_clone));
    }
    Ok(Attack { undone, stages, own_encoders: setting.own_encoders })
}

/// The second stage alone, on whatever was seen of each of `rows` images, in place of an encoding: matches the rows of
/// `seen` with those of `candidates` by how far they are from each other. What tells nothing of an image is matched at
/// random.
///
/// # Errors
/// Lengths that are no rows.
pub fn match_tables(seen: &[f32], candidates: &[f32], rows: usize) -> Result<Matching, LabError> {
    if !(2..=IMAGES_MAX).contains(&rows)
        || [seen, candidates].iter().any(|table| !table.len().is_multiple_of(rows))
    {
        let why = "distances between all of them are in memory";
        return Err(LabError::Count { found: rows, least: 2, most: IMAGES_MAX, why });
    }
    let [seen, candidates] = [Geometry::of(seen, 1, rows)?, Geometry::of(candidates, 1, rows)?];
    matching::by_images(&seen.whole, &candidates.whole, &[&candidates.whole], rows)
}

/// Distances between what an encoder of one's own makes of the candidates.
fn own_geometry(encodings: &Encodings, candidates: &Images, seed: &Seed) -> Result<Geometry, LabError> {
    let (shape, images) = (encodings.shape(), candidates.count());
    let statistics = match encodings.normalised() {
        Normalised::Batch | Normalised::Calibrated => Statistics::Batch,
        Normalised::Identity => Statistics::Running,
    };
    let encoder = Encoder::new(EncoderKey::draw(shape, seed)?.parts())?;
    let encoded = encoder.encode(&candidates.patches(shape, 0..images), statistics)?;
    Geometry::of(&by_position(&encoded, images, shape.positions()), shape.positions(), images)
}

/// From `images x positions x values` to `positions x images x values`.
fn by_position(values: &[f32], images: usize, positions: usize) -> Vec<f32> {
    let width = values.len() / (images * positions).max(1);
    let mut turned = Vec::with_capacity(values.len());
    for position in 0..positions {
        for image in 0..images {
            turned.extend_from_slice(&values[(image * positions + position) * width..][..width]);
        }
    }
    turned
}

/// How often each stage is right, where the truth is known: the candidate of each encoding, and the position of each of
/// its patches.
pub fn figure(attack: &Attack, candidates: &[usize], patches: &[Vec<usize>], date: String) -> Figure {
    let images = candidates.len();
    let found = attack.stages.iter().map(|(stage, matching)| {
        let right = matching.iter().zip(candidates).filter(|(found, expected)| found == expected).count();
        let share = right as f64 / images.max(1) as f64;
        Found { stage: *stage, share }
    });
    Figure {
        found: found.collect(),
        shuffle_undone: attack.undone.share(patches),
        images,
        encodings: images,
        chance: 1.0 / images.max(1) as f64,
        own_encoders: attack.own_encoders,
        date,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Figure {
        let found = |stage, share| Found { stage, share };
        Figure {
            found: vec![found(Stage::Images, 1.0), found(Stage::Patches, 0.75)],
            shuffle_undone: 0.9,
            images: 20,
            encodings: 40,
            chance: 0.05,
            own_encoders: OWN_ENCODERS,
            date: "2026-01-31".into(),
        }
    }

    #[test]
    fn a_figure_shows_its_best_stage_and_how_sure_it_is() {
        let shown = told().to_string();
        for words in ["100.0 % (95 % interval 83.9 % to 100.0 %)", "20 of 40 images", "distances of images"] {
            assert!(shown.contains(words), "{words:?} is not in {shown}");
        }
        let (low, high) = Found { stage: Stage::Images, share: 0.5 }.interval(100);
        assert!((low - 0.4038).abs() < 1e-4 && (high - 0.5962).abs() < 1e-4, "{low} {high}");
        assert_eq!(Found { stage: Stage::Images, share: 0.0 }.interval(20).0, 0.0);
    }

    #[test]
    fn a_senseless_figure_is_told() {
        told().check(40).unwrap();
        assert!(told().check(41).is_err() && told().check(19).is_err());
        for (change, words) in [
            ((|figure| figure.date = "2026-01\u{1b}[1".into()) as fn(&mut Figure), "no day"),
            (|figure| figure.date = "2026-01-3".into(), "no day"),
            (|figure| figure.chance = 0.5, "shares"),
            (|figure| figure.found[0].share = 0.77, "shares"),
            (|figure| figure.found[0].share = f64::NAN, "shares"),
            (|figure| figure.shuffle_undone = 1.5, "shares"),
            (|figure| figure.images = 41, "41 of 40"),
            (|figure| figure.images = 15, "15 of 40"),
            (|figure| figure.encodings = 20, "20 of 20"),
            (|figure| figure.found.reverse(), "not in order"),
            (|figure| figure.found[1].stage = Stage::Images, "not in order"),
            (|figure| figure.found.clear(), "none"),
            (|figure| figure.own_encoders = 0, "0 own encoders"),
        ] {
            let mut figure = told();
            change(&mut figure);
            let problem = figure.check(40).unwrap_err();
            assert!(problem.contains(words), "{words:?} is not in {problem}");
        }
    }

    #[test]
    fn what_a_figure_costs_has_a_bound() {
        let published = EncoderShape { side: 256, patch: 16, width: 2048, private_depth: 4 };
        assert!((30..=40).contains(&sample_size(published, 1000)), "{}", sample_size(published, 1000));
        let small = EncoderShape { side: 28, patch: 4, width: 256, private_depth: 4 };
        assert_eq!((sample_size(small, 1000), sample_size(small, 30)), (MEASURED_IMAGES_MAX, 30));
        // A narrow encoder of many patches is cheap, to bring its patches into order is not.
        let many = EncoderShape { side: 32, patch: 1, width: 4, private_depth: 0 };
        assert_eq!(sample_size(many, 1000), MEASURED_IMAGES_MIN);
    }
}
