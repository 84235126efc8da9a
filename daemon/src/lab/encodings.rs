//! What a hospital would have published: encodings in a random order with their labels, and how easily each is found.

use super::attack::{AttackSetting, Figure, MEASURED_IMAGES_MIN, figure, sample_size};
use super::date::today;
use super::fault::LabError;
use super::file::{Entry, Notes, Opened, glance, note, open, write};
use super::images::Images;
use super::key::EncoderKey;
use super::shape::EncoderShape;
use super::truth::Truth;
use super::{Heard, NOT_CONFIDENTIAL};
use crate::training::{Encoder, Statistics};
use consilium_protocol::algebra::prg::Seed;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};
use std::path::Path;

const KIND: &str = "set of encodings";
/// Most numbers of a file, all encodings together.
const VALUES_MAX: usize = 1 << 28;
/// What a file says beside kind, version and checksum: all of it, and nothing else.
const NOTES: [&str; 5] = ["attack", "labelled", "normalised", "shape", "warning"];

/// How images are normalised inside the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalised {
    /// By mean and variance of the batch, as published: an encoding depends on the images beside it.
    Batch,
    /// By mean and variance of other images, which the key keeps.
    Calibrated,
    /// By mean 0 and variance 1.
    Identity,
}

/// How encodings are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making {
    /// Where normalisations take mean and variance from.
    pub statistics: Statistics,
    /// Images at once.
    pub batch: usize,
}

/// Encodings of images, in a random order.
#[derive(Clone, PartialEq)]
pub struct Encodings {
    pub(super) shape: EncoderShape,
    pub(super) normalised: Normalised,
    pub(super) values: Vec<f32>,
    pub(super) labels: Vec<u8>,
}

impl std::fmt::Debug for Encodings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encodings({} of {})", self.count(), self.shape)
    }
}

impl Encodings {
    /// Sizes of the encoder.
    pub fn shape(&self) -> EncoderShape {
        self.shape
    }

    /// How images were normalised.
    pub fn normalised(&self) -> Normalised {
        self.normalised
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.values.len() / self.shape.values()
    }

    /// All numbers, `encodings x positions x width`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One label for each, or none.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The first `count` of them.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        let values = self.values[..count.min(self.count()) * self.shape.values()].to_vec();
        let labels = self.labels.iter().take(count).copied().collect();
        Self { values, labels, ..*self }
    }
}

/// Encodings with what their hospital knows.
#[derive(Debug)]
pub struct Encoded {
    /// What would be published.
    pub encodings: Encodings,
    /// What would be kept.
    pub truth: Truth,
}

/// Encodes images in a random order, the patches of each in a random order of its own.
///
/// # Errors
/// Images of another size, or too many of them.
pub fn encode(
    key: &EncoderKey,
    images: &Images,
    making: Making,
    seed: &Seed,
    heard: Heard<'_>,
) -> Result<Encoded, LabError> {
    let shape = key.shape();
    images.fit(shape)?;
    let (count, positions, width) = (images.count(), shape.positions(), shape.width);
    let most = VALUES_MAX / shape.values();
    if count > most || making.batch == 0 {
        return Err(LabError::Count {
            found: count,
            least: 1,
            most,
            why: "a file holds no more, in batches of at least one",
        });
    }
    let order = shuffled(count, &seed.derive("images", 0));
    let mut generator = StdRng::from_seed(wide(&seed.derive("patches", 0)));
    let digest = images.digest();
    let images = images.select(&order);
    let encoder = Encoder::new(key.parts())?;
    let mut values: Vec<f32> = Vec::with_capacity(count * shape.values());
    let mut patches = Vec::with_capacity(count);
    for first in (0..count).step_by(making.batch) {
        let batch = first..count.min(first + making.batch);
        let plain = encoder.encode(&images.patches(shape, batch.clone()), making.statistics)?;
        for image in plain.chunks_exact(shape.values()) {
            let mut shuffled: Vec<usize> = (0..positions).collect();
            shuffled.shuffle(&mut generator);
            values.extend(shuffled.iter().flat_map(|position| &image[position * width..][..width]));
            patches.push(shuffled);
        }
        heard(batch.end, count);
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(LabError::Images {
            problem: "an encoding is not finite; scale the images to about 1".to_owned(),
        });
    }
    let identity = key.parts().mixes.iter().all(|(_, norm)| {
        norm.mean.iter().all(|mean| *mean == 0.0) && norm.variance.iter().all(|variance| *variance == 1.0)
    });
    let normalised = match making.statistics {
        Statistics::Batch => Normalised::Batch,
        Statistics::Running if identity => Normalised::Identity,
        Statistics::Running => Normalised::Calibrated,
    };
    let labels = images.labels().to_vec();
    Ok(Encoded {
        encodings: Encodings { shape, normalised, values, labels },
        truth: Truth::new(digest, order, patches),
    })
}

/// The numbers below `count` in an order drawn from a seed.
pub fn shuffled(count: usize, seed: &Seed) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut StdRng::from_seed(wide(seed)));
    order
}

/// A seed of 32 bytes from one of 16.
fn wide(seed: &Seed) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (half, index) in bytes.chunks_exact_mut(16).zip(0..) {
        half.copy_from_slice(seed.derive("laboratory order", index).as_bytes());
    }
    bytes
}

/// Encodings that were attacked. The only ones that can be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    encodings: Encodings,
    figure: Figure,
}

impl Measured {
    /// The encodings.
    pub fn encodings(&self) -> &Encodings {
        &self.encodings
    }

    /// How many of them were found.
    pub fn figure(&self) -> &Figure {
        &self.figure
    }
}

/// Attacks encodings that were just made, or the first of them where there are many, with the very images as
/// candidates in another order.
///
/// # Errors
/// [`LabError::Count`] where there are too few images for a figure, so that they cannot be written either.
pub fn measure(
    encoded: Encoded,
    images: &Images,
    seed: &Seed,
    heard: Heard<'_>,
) -> Result<(Measured, Truth), LabError> {
    let Encoded { encodings, truth } = encoded;
    let count = encodings.count();
    if count < MEASURED_IMAGES_MIN {
        let why = "fewer have no figure of an attack, without which no encoding is written";
        return Err(LabError::Count { found: count, least: MEASURED_IMAGES_MIN, most: VALUES_MAX, why });
    }
    let sample = encodings.head(sample_size(encodings.shape, count));
    let setting = AttackSetting { seed: seed.derive("attack", 0), ..AttackSetting::default() };
    let figure = attempt(&sample, &truth, images, &setting, heard)?;
    Ok((Measured { encodings, figure: Figure { encodings: count, ..figure } }, truth))
}

/// Attacks encodings with the very images they were made of, in another order, and says how often that was right.
/// `encodings` may be the first of those that `truth` is about; `images` are all.
///
/// # Errors
/// As [`attack`](super::attack()).
pub fn attempt(
    encodings: &Encodings,
    truth: &Truth,
    images: &Images,
    setting: &AttackSetting,
    heard: Heard<'_>,
) -> Result<Figure, LabError> {
    let order = shuffled(encodings.count(), &setting.seed.derive("candidates", 0));
    let places: Vec<usize> = order.iter().map(|at| truth.images()[*at]).collect();
    let found = super::attack::attack(encodings, &images.select(&places), setting, heard)?;
    let mut expected = vec![0; order.len()];
    order.iter().enumerate().for_each(|(candidate, encoding)| expected[*encoding] = candidate);
    Ok(figure(&found, &expected, &truth.patches()[..encodings.count()], today()))
}

/// Writes encodings with the figure of their attack, readable by their owner alone, in place of an older file of
/// encodings.
///
/// # Errors
/// The disk's, or something else stands there.
pub fn write_encodings(path: &Path, measured: &Measured) -> Result<(), LabError> {
    let Encodings { shape, normalised, values, labels } = &measured.encodings;
    let count = measured.encodings.count();
    let mut entries = vec![Entry::floats("encodings", &[count, shape.positions(), shape.width], values)];
    if !labels.is_empty() {
        entries.push(Entry::bytes("labels", &[count], labels));
    }
    let notes = [
        ("warning", NOT_CONFIDENTIAL.to_owned()),
        ("shape", note(shape)),
        ("normalised", note(normalised)),
        ("labelled", note(&!labels.is_empty())),
        ("attack", note(&measured.figure)),
    ];
    write(path, KIND, Notes::from(notes.map(|(name, note)| (name.to_owned(), note))), &entries)
}

/// What the heading of a file says, checked.
struct Heading {
    shape: EncoderShape,
    normalised: Normalised,
    count: usize,
    labelled: bool,
    figure: Figure,
}

impl Heading {
    fn of(opened: &Opened) -> Result<Self, LabError> {
        let labelled: bool = opened.parsed("labelled")?;
        opened.only(&NOTES, if labelled { &["encodings", "labels"] } else { &["encodings"] })?;
        if opened.note("warning")? != NOT_CONFIDENTIAL {
            return Err(opened.refused("its note `warning` does not say that it is NOT confidential"));
        }
        let shape = opened.parsed::<EncoderShape>("shape")?.check()?;
        let count = opened.dimensions("encodings")?.first().copied().unwrap_or(0);
        if count < MEASURED_IMAGES_MIN || count > VALUES_MAX / shape.values() {
            return Err(opened.refused(format!("{count} encodings")));
        }
        let figure = opened.parsed::<Figure>("attack")?;
        figure.check(count).map_err(|problem| opened.refused(problem))?;
        let heading = Self { shape, normalised: opened.parsed("normalised")?, count, labelled, figure };
        opened.has(("encodings", &heading.dimensions()), labelled.then_some(("labels", &[count])))?;
        Ok(heading)
    }

    fn dimensions(&self) -> [usize; 3] {
        [self.count, self.shape.positions(), self.shape.width]
    }
}

/// Reads encodings. A file without the figure of an attack, or without the words that it is not confidential, is refused.
///
/// # Errors
/// What is wrong with the file.
pub fn read_encodings(path: &Path) -> Result<Measured, LabError> {
    let opened = open(path, KIND)?;
    let heading = Heading::of(&opened)?;
    let values = opened.floats("encodings", &heading.dimensions())?;
    let labels = if heading.labelled { opened.small("labels", &[heading.count])? } else { Vec::new() };
    let Heading { shape, normalised, figure, .. } = heading;
    Ok(Measured { encodings: Encodings { shape, normalised, values, labels }, figure })
}

/// Reads a file as a whole and keeps nothing of it in memory but how many encodings it has, and how many of them the
/// attack finds by what the file says.
///
/// # Errors
/// As [`read_encodings`].
pub fn check_encodings(path: &Path) -> Result<(usize, Figure), LabError> {
    let opened = open(path, KIND)?;
    let heading = Heading::of(&opened)?;
    opened.finite("encodings", &heading.dimensions())?;
    Ok((heading.count, heading.figure))
}

/// As [`check_encodings`], by the heading alone: of a file that was read as a whole when it came.
///
/// # Errors
/// What is wrong with the heading.
pub fn read_summary(path: &Path) -> Result<(usize, Figure), LabError> {
    let heading = Heading::of(&glance(path, KIND)?)?;
    Ok((heading.count, heading.figure))
}
