//! The attack on what two parties see, and on labels with noise.
//!
//! Five hospitals' networks are evaluated on shares of each image. A party's view of one is its share, every byte that it
//! sends and receives, and what both open; its half of the bundle, dealt before there was an image, is left out. Views
//! are taken byte by byte, so that no byte is lost beside a larger one. The attack's stage by distances of whole images
//! is what is pointed at them: the others undo a shuffle of patches and compare positions, which messages do not have.
//!
//! That it could find something is shown by leaks planted in the same tables, and by encodings through the same function.
//! A label tells the class of its image, which is what was asked for; it must tell no more.

mod view;

use super::{SIDE, Setting, TrialError, images, seed};
use consilium::lab::{
    EncoderKey, EncoderShape, Images, Making, encode, match_tables, shuffled, undo_shuffle,
};
use consilium::training::{Examples, Statistics};
use serde::Serialize;
use std::collections::BTreeSet;
use view::{Consortium, Masks, Views};

/// How far from what is expected a share may be, in standard errors, and how far a planted leak must be.
const ERRORS_MAX: f64 = 3.0;
const LEAK_ERRORS_MIN: f64 = 10.0;
/// Repetitions with planted leaks, which need no more.
const LEAK_REPETITIONS: u64 = 3;
/// The encoder beside them: depth 7 of the paper.
const PATCH: usize = 4;
const PRIVATE_DEPTH: usize = 4;
const MAKING: Making = Making { statistics: Statistics::Batch, batch: 64 };

/// What the attack must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// As much as a guess.
    Guess,
    /// No more than who knows the class of each image and guesses among those of a class.
    Class,
    /// Far more than a guess: a leak was planted.
    Leak,
}

/// What was seen, and how often the attack was right.
#[derive(Clone, Debug, Serialize)]
pub struct Control {
    /// What was seen of each image.
    pub seen: &'static str,
    /// What must be found.
    pub expected: Expected,
    /// Images that were to be told apart, each time.
    pub images: usize,
    /// Times.
    pub repetitions: usize,
    /// Share found, all times together.
    pub share: f64,
    /// Share that a guess finds.
    pub chance: f64,
    /// Share that the class alone finds.
    pub class: f64,
    /// Standard error, all times together, of a guess, or of a guess within classes where that is expected.
    pub standard_error: f64,
}

impl Control {
    fn new(seen: &'static str, expected: Expected, trials: &[Found]) -> Self {
        let repetitions = trials.len();
        let images = trials.first().map_or(1, |found| found.images);
        let share = |of: fn(&Found) -> usize| {
            trials.iter().map(of).sum::<usize>() as f64 / (images * repetitions.max(1)) as f64
        };
        let (chance, class) = (1.0 / images as f64, share(|found| found.classes));
        // A random order puts one in its place, with a variance of one, however many there are.
        let base = if expected == Expected::Class { class } else { chance };
        let standard_error = (base * chance / repetitions.max(1) as f64).sqrt();
        Self {
            seen,
            expected,
            images,
            repetitions,
            share: share(|found| found.right),
            chance,
            class,
            standard_error,
        }
    }

    /// Whether it is as it must be.
    pub fn holds(&self) -> bool {
        let above = |base: f64| (self.share - base) / self.standard_error;
        match self.expected {
            Expected::Guess => above(self.chance).abs() <= ERRORS_MAX,
            Expected::Class => above(self.class) <= ERRORS_MAX,
            Expected::Leak => above(self.chance) >= LEAK_ERRORS_MIN,
        }
    }

    /// The smallest share that would be told from a guess in 39 of 40 trials as long as this one: two standard errors of
    /// its own beyond where a guess is no longer believed.
    pub fn told_from(&self) -> f64 {
        let error = 1.0 / (self.repetitions.max(1) as f64).sqrt();
        // Of `m` images found in the mean the variance is about `m`: `m - 2 error sqrt(m) = 1 + 3 error`.
        let root = error + (error * error + 1.0 + ERRORS_MAX * error).sqrt();
        root * root * self.chance
    }
}

/// What one attack found.
struct Found {
    right: usize,
    images: usize,
    classes: usize,
}

/// Of each image, something that was seen.
struct Seen {
    what: &'static str,
    expected: Expected,
    table: Vec<f32>,
    /// Whether the attacker compares with the classes of the candidates in place of their pixels.
    by_class: bool,
}

impl Seen {
    fn new(what: &'static str, expected: Expected, table: Vec<f32>) -> Self {
        Self { what, expected, table, by_class: false }
    }
}

/// Makes all controls. `tick` hears of each repetition.
///
/// # Errors
/// Too few images, or either party's failure.
pub fn control(setting: &Setting, rows: &Examples, tick: &dyn Fn()) -> Result<Vec<Control>, TrialError> {
    let (consortium, others) = Consortium::train(rows)?;
    let mut trials: Vec<(Seen, Vec<Found>)> = Vec::new();
    for repetition in 0..setting.control_repetitions {
        let order = shuffled(others.len(), &seed("control", repetition));
        let asked: Vec<usize> = order.iter().take(setting.images).map(|at| others[*at]).collect();
        let chosen = images(rows, &asked)?;
        let views = consortium.evaluate(&chosen, Masks::Fresh, repetition)?;
        let mut seen = honest(&views);
        if repetition < LEAK_REPETITIONS {
            let repeated = consortium.evaluate(&chosen, Masks::Repeated, repetition)?;
            seen.extend(planted(&views, &repeated));
            let encoded = encodings(setting, &chosen, repetition)?;
            seen.push(Seen::new("encodings of depth 7, their shuffle undone", Expected::Leak, encoded));
        }
        for seen in seen {
            let found = attack(&seen, &chosen, repetition)?;
            match trials.iter_mut().find(|(of, _)| of.what == seen.what) {
                Some((_, all)) => all.push(found),
                None => trials.push((Seen { table: Vec::new(), ..seen }, vec![found])),
            }
        }
        tick();
    }
    Ok(trials.iter().map(|(seen, found)| Control::new(seen.what, seen.expected, found)).collect())
}

/// What the product shows.
fn honest(views: &Views) -> Vec<Seen> {
    let Views { shares: [zero, one], sent: [from_zero, from_one], opened, .. } = views;
    let guess = |what, parts: &[&[u8]]| Seen::new(what, Expected::Guess, views.beside(parts));
    let label = |what, by_class| {
        let table = one_hot(&views.labels, views.classes);
        Seen { by_class, ..Seen::new(what, Expected::Class, table) }
    };
    vec![
        guess("share of party Zero", &[zero]),
        guess("share of party One", &[one]),
        guess("view of party Zero", &[zero, from_zero, from_one, opened]),
        guess("view of party One", &[one, from_zero, from_one, opened]),
        guess("what both open", &[opened]),
        label("label with noise, by pixels of candidates", false),
        label("label with noise, by classes of candidates", true),
    ]
}

/// The same tables with a leak in each.
fn planted(views: &Views, repeated: &Views) -> Vec<Seen> {
    let Views { sent: [from_zero, from_one], opened, unmasked, queries, .. } = views;
    let leak = |what, parts: &[&[u8]]| Seen::new(what, Expected::Leak, views.beside(parts));
    vec![
        leak("share of party One is the query", &[queries]),
        leak("view of party One, its share is the query", &[queries, from_zero, from_one, opened]),
        leak("share of party One, same mask each time", &[&repeated.shares[1]]),
        leak("what both open, same masks each time", &[&repeated.opened]),
        leak("what both open, input without its mask", &[unmasked]),
    ]
}

/// What the encoder makes of the images, in their order, `images x positions x width`.
fn encodings(setting: &Setting, chosen: &Images, repetition: u64) -> Result<Vec<f32>, TrialError> {
    let width = setting.widths.first().copied().unwrap_or(setting.joint_width);
    let shape = EncoderShape { side: SIDE, patch: PATCH, width, private_depth: PRIVATE_DEPTH };
    let key = EncoderKey::draw(shape, &seed("control key", repetition))?;
    let encoded = encode(&key, chosen, MAKING, &seed("control order", repetition), &mut |_, _| ())?;
    let orders = undo_shuffle(&encoded.encodings)?.orders;
    let values = encoded.encodings.values();
    let mut table = vec![0.0; values.len()];
    let rows = orders.iter().zip(encoded.truth.images()).zip(values.chunks_exact(shape.values()));
    for ((order, image), encoding) in rows {
        let row = table[image * shape.values()..][..shape.values()].chunks_exact_mut(width);
        row.zip(order).for_each(|(to, patch)| to.copy_from_slice(&encoding[patch * width..][..width]));
    }
    Ok(table)
}

/// Matches what was seen with the images, in an order that the attack does not have.
fn attack(seen: &Seen, chosen: &Images, repetition: u64) -> Result<Found, TrialError> {
    let images = chosen.count();
    let shuffle = shuffled(images, &seed("candidates", repetition));
    let candidates = chosen.select(&shuffle);
    let classes = candidates.labels().iter().collect::<BTreeSet<_>>().len();
    let matching = if seen.by_class {
        let of_candidates = one_hot(candidates.labels(), seen.table.len() / images);
        match_tables(&seen.table, &of_candidates, images)?
    } else {
        match_tables(&seen.table, candidates.pixels(), images)?
    };
    let right = matching.iter().enumerate().filter(|(image, found)| shuffle[**found] == *image).count();
    Ok(Found { right, images, classes })
}

/// One for the class of each row, zero for all others.
fn one_hot(labels: &[u8], classes: usize) -> Vec<f32> {
    let row = |label: &u8| {
        let label = usize::from(*label);
        (0..classes).map(move |class| f32::from(u8::from(class == label)))
    };
    labels.iter().flat_map(row).collect()
}
