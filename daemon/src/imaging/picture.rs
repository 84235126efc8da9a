//! An image in memory: samples as the file has them, and what each of them means.

use super::resample::{Taps, taps};
use super::{SAMPLES_MAX, Unfit};
use consilium_config::{Colour, Image, Resize};

/// Samples of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// Of at most 8 bits.
    Bytes(Vec<u8>),
    /// Of at most 16 bits.
    Words(Vec<u16>),
}

/// What each sample means: a number from 0, black, to 1, white. A table, because there are at most 65,536 samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit(Vec<f64>);

/// An image.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    rows: usize,
    columns: usize,
    colour: Colour,
    /// Samples that belong to one pixel and do not count, behind those that do.
    skipped: usize,
    /// Whether channels stand behind each other, and not side by side in each pixel.
    planar: bool,
    samples: Samples,
    unit: Unit,
}

/// Weights of red, green and blue in grey.
const GREY: [f64; 3] = [0.299, 0.587, 0.114];

impl Samples {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(samples) => samples.len(),
            Self::Words(samples) => samples.len(),
        }
    }

    fn at(&self, index: usize) -> usize {
        match self {
            Self::Bytes(samples) => samples.get(index).copied().map_or(0, usize::from),
            Self::Words(samples) => samples.get(index).copied().map_or(0, usize::from),
        }
    }
}

impl Unit {
    /// The meaning of samples of `bits` bits.
    pub fn new(bits: u32, meaning: impl Fn(u32) -> f64) -> Self {
        let count = 1_u32 << bits.min(16);
        Self((0..count).map(meaning).collect())
    }

    /// Higher bits of a sample do not count.
    fn of(&self, sample: usize) -> f64 {
        self.0.get(sample & (self.0.len() - 1)).copied().unwrap_or_default()
    }
}

/// How many samples an image has, unless that is too many or none.
pub(super) fn sample_count(rows: u64, columns: u64, each: u64) -> Result<usize, Unfit> {
    let count = rows.checked_mul(columns).and_then(|pixels| pixels.checked_mul(each));
    match count {
        Some(0) => Err(Unfit::new("the image has no pixels", "export it again")),
        Some(count) if count <= SAMPLES_MAX => Ok(count as usize),
        _ => Err(Unfit::new(
            format!(
                "the image has {rows} rows and {columns} columns with {each} samples each; at most {SAMPLES_MAX} samples are read"
            ),
            "cut out what matters, or export it smaller",
        )),
    }
}

impl Picture {
    /// An image with `skipped` samples in each pixel that do not count.
    ///
    /// # Errors
    /// There are too many samples, none, or fewer than the size says.
    pub fn new(
        (rows, columns): (u32, u32),
        (colour, skipped, planar): (Colour, usize, bool),
        samples: Samples,
        unit: Unit,
    ) -> Result<Self, Unfit> {
        let each = colour.channels() as usize + skipped;
        let count = sample_count(rows.into(), columns.into(), each as u64)?;
        if samples.len() < count {
            let problem = format!("the image says that it has {count} samples, and has {}", samples.len());
            return Err(Unfit::new(problem, "the file is cut off: copy or export it again"));
        }
        let (rows, columns) = (rows as usize, columns as usize);
        Ok(Self { rows, columns, colour, skipped, planar, samples, unit })
    }

    /// The values that a rule makes of it.
    ///
    /// # Errors
    /// The rule refuses its size.
    pub fn values(&self, rule: &Image) -> Result<Vec<f64>, Unfit> {
        let (rows, columns) = (rule.rows as usize, rule.columns as usize);
        if rule.resize == Resize::Refuse && (rows, columns) != (self.rows, self.columns) {
            let problem = format!(
                "the image has {} rows and {} columns, the task takes {rows} and {columns}",
                self.rows, self.columns
            );
            return Err(Unfit::new(
                problem,
                "give an image of that size, prepared as those that the models learnt from; the task does not resize",
            ));
        }
        let down = taps(self.rows, rows, rule.resize);
        let across = taps(self.columns, columns, rule.resize);
        let channels: usize = match (rule.colour, self.colour) {
            (Colour::Rgb, Colour::Rgb) => 3,
            _ => 1,
        };
        let mut values = Vec::with_capacity(rule.values() as usize);
        for channel in 0..channels {
            self.channel((channel, rule.colour), &down, &across, &mut values);
        }
        if rule.colour == Colour::Rgb && channels == 1 {
            let one = values.clone();
            values.extend(one.iter().chain(&one));
        }
        for value in &mut values {
            *value = rule.low + *value * (rule.high - rule.low);
        }
        Ok(values)
    }

    /// One channel, resized. A row of the file is resized once, however many rows of the input need it.
    fn channel(&self, (channel, wanted): (usize, Colour), down: &Taps, across: &Taps, into: &mut Vec<f64>) {
        let mut ready: Vec<(usize, Vec<f64>)> = Vec::new();
        for taps in down {
            ready.retain(|(row, _)| taps.iter().any(|(needed, _)| needed == row));
            let mut sums = vec![0.0; across.len()];
            for (row, weight) in taps {
                let at = match ready.iter().position(|(have, _)| have == row) {
                    Some(at) => at,
                    None => {
                        ready.push((*row, self.row(*row, channel, wanted, across)));
                        ready.len() - 1
                    }
                };
                for (sum, value) in sums.iter_mut().zip(&ready[at].1) {
                    *sum += weight * value;
                }
            }
            into.append(&mut sums);
        }
    }

    /// One row of the file with as many columns as the input.
    fn row(&self, row: usize, channel: usize, wanted: Colour, across: &Taps) -> Vec<f64> {
        let pixel = |column: usize| match (self.colour, wanted) {
            (Colour::Rgb, Colour::Grey) => GREY
                .iter()
                .enumerate()
                .map(|(channel, weight)| weight * self.at(row, column, channel))
                .sum::<f64>(),
            _ => self.at(row, column, channel),
        };
        let whole: Vec<f64> = (0..self.columns).map(pixel).collect();
        let value = |taps: &Vec<(usize, f64)>| {
            taps.iter()
                .map(|(column, weight)| weight * whole.get(*column).copied().unwrap_or_default())
                .sum::<f64>()
        };
        across.iter().map(value).collect()
    }

    fn at(&self, row: usize, column: usize, channel: usize) -> f64 {
        let each = self.colour.channels() as usize + self.skipped;
        let pixel = row * self.columns + column;
        let index =
            if self.planar { channel * self.rows * self.columns + pixel } else { pixel * each + channel };
        self.unit.of(self.samples.at(index))
    }
}
