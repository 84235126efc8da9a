//! Sizes of blocks that cost least.

use super::{Blocks, Encrypted, Packing, convolution, dims};
use crate::algebra::{ConvShape, LinearShape};
use crate::lattice::prime::DEGREE;
use crate::lattice::wire;

/// Bytes that a millisecond of computing weighs: a link of 200 Mbit/s beside one core.
const BYTES_PER_MS: f64 = 25_000.0;
/// Computing, in milliseconds on one core with AVX-512: a request on both sides, a reply on both sides, and
/// one product of polynomials within a reply.
const REQUEST_MS: f64 = 0.7;
const REPLY_MS: f64 = 1.2;
const PRODUCT_MS: f64 = 0.15;
/// Products over which requests for encrypted weights are spread.
const WEIGHT_USES: f64 = 64.0;
/// Requests that an evaluator should not have to hold at once more of: 655 kB each.
const HELD_MAX: usize = 128;

/// Why a layer cannot be packed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// The layer has no words.
    #[error("a layer without words cannot be packed")]
    Empty,
    /// One row of windows is more than a polynomial holds.
    #[error("a row of windows takes {words} words, a polynomial holds {DEGREE}")]
    TooWide {
        /// Rows of the kernel times columns that the windows reach.
        words: usize,
    },
    /// One product gives more coefficients back than the flood can hide.
    #[error(
        "one product returns {coefficients} coefficients, more than a flood hides; make fewer queries at once"
    )]
    Shown {
        /// Coefficients returned.
        coefficients: usize,
    },
    /// Layers with different operands cannot share requests.
    #[error("layer {index} has another operand than the first; only outputs may differ")]
    Operand {
        /// Which layer.
        index: usize,
    },
}

impl Packing {
    /// The cheapest packing of a layer: bytes, and time weighed against them.
    ///
    /// # Errors
    /// [`PackingError`], never [`PackingError::Operand`].
    pub fn choose(shape: &LinearShape, encrypted: Encrypted) -> Result<Self, PackingError> {
        let shape = convolution(shape);
        let blocks = cheapest(&[shape], encrypted)?;
        Self { shape, encrypted, blocks }.hidden()
    }

    /// Packings of layers that share one encrypted operand: the requests of any of them serve all. Layers
    /// may differ in outputs alone.
    ///
    /// # Errors
    /// [`PackingError`].
    pub fn choose_shared(shapes: &[LinearShape]) -> Result<Vec<Self>, PackingError> {
        let shapes: Vec<ConvShape> = shapes.iter().map(convolution).collect();
        let Some(first) = shapes.first() else { return Ok(Vec::new()) };
        let other = |shape: &ConvShape| ConvShape { outputs: first.outputs, ..*shape } != *first;
        if let Some(index) = shapes.iter().position(other) {
            return Err(PackingError::Operand { index });
        }
        let blocks = cheapest(&shapes, Encrypted::Operand)?;
        let packing = |shape| Self { shape, encrypted: Encrypted::Operand, blocks }.hidden();
        shapes.into_iter().map(packing).collect()
    }

    /// Refuses a packing of which the flood does not even cover a single product.
    fn hidden(self) -> Result<Self, PackingError> {
        match self.products_max() {
            0 => Err(PackingError::Shown { coefficients: self.output_len() }),
            _ => Ok(self),
        }
    }
}

/// Sizes from `len` down that leave no smaller last block than needed: `len / parts`, rounded up.
fn sizes(len: usize, size_max: usize) -> impl Iterator<Item = usize> {
    let mut parts = len.div_ceil(size_max.max(1)).max(1);
    let mut last = false;
    std::iter::from_fn(move || {
        if last || size_max == 0 {
            return None;
        }
        let size = len.div_ceil(parts);
        last = size == 1;
        // The next number of parts that makes the size smaller.
        parts = if last { parts } else { len.div_ceil(size - 1) };
        Some(size)
    })
}

fn cheapest(shapes: &[ConvShape], encrypted: Encrypted) -> Result<Blocks, PackingError> {
    let Some(shape) = shapes.first() else { return Err(PackingError::Empty) };
    if shapes.iter().any(|shape| shape.output_len() == 0 || shape.weight_len() == 0) {
        return Err(PackingError::Empty);
    }
    let [high, _] = shape.output_dims();
    let area = |rows: usize| dims(shape, rows).into_iter().fold(1_usize, usize::saturating_mul);
    if area(1) > DEGREE {
        return Err(PackingError::TooWide { words: area(1) });
    }
    let rows = (1..=high.min(DEGREE)).rev().find(|rows| area(*rows) <= DEGREE).unwrap_or(1);
    let rows = high.div_ceil(high.div_ceil(rows));
    let room = DEGREE / area(rows);
    let outputs_max = shapes.iter().map(|shape| shape.outputs).max().unwrap_or(1);
    let mut best = (f64::INFINITY, Blocks { channels: 1, outputs: 1, columns: 1, rows });
    let columns_all = shape.batch * high.div_ceil(rows);
    for columns in sizes(columns_all, room) {
        for channels in sizes(shape.channels, room / columns) {
            let outputs = outputs_max.min(room / columns / channels);
            let outputs = outputs_max.div_ceil(outputs_max.div_ceil(outputs));
            let blocks = Blocks { channels, outputs, columns, rows };
            let cost = cost(shapes, encrypted, blocks);
            if cost < best.0 {
                best = (cost, blocks);
            }
        }
    }
    Ok(best.1)
}

/// What all requests and replies cost, in bytes.
fn cost(shapes: &[ConvShape], encrypted: Encrypted, blocks: Blocks) -> f64 {
    let mut total = 0.0;
    for (index, shape) in shapes.iter().enumerate() {
        let packing = Packing { shape: *shape, encrypted, blocks };
        let replies = packing.replies() as f64;
        let products = replies * packing.channel_blocks() as f64;
        // The outputs themselves cost the same in every packing.
        total += replies * (wire::reply_bytes(0) as f64 + REPLY_MS * BYTES_PER_MS);
        total += products * PRODUCT_MS * BYTES_PER_MS;
        if index == 0 {
            let request = wire::CIPHERTEXT_BYTES as f64 + REQUEST_MS * BYTES_PER_MS;
            let (uses, held) = match encrypted {
                Encrypted::Operand => (1.0, packing.channel_blocks()),
                Encrypted::Weights => (WEIGHT_USES, packing.requests()),
            };
            let excess = held.saturating_sub(HELD_MAX);
            total += packing.requests() as f64 * request / uses + excess as f64 * request;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENSE: LinearShape = LinearShape::Dense { outputs: 128, inputs: 784, batch: 128 };

    #[test]
    fn sizes_leave_no_waste() {
        assert_eq!(sizes(10, 7).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
        assert_eq!(sizes(7, 100).collect::<Vec<_>>(), [7, 4, 3, 2, 1]);
        assert_eq!(sizes(1, 1).collect::<Vec<_>>(), [1]);
        assert_eq!(sizes(3, 0).count(), 0);
    }

    #[test]
    fn blocks_fit_and_are_shared() {
        let packing = Packing::choose(&DENSE, Encrypted::Operand).unwrap();
        let Blocks { channels, outputs, columns, rows } = packing.blocks();
        assert!(channels * outputs * columns * rows <= DEGREE && columns == 128, "{packing:?}");
        let small = LinearShape::Dense { outputs: 30, inputs: 784, batch: 128 };
        let shared = Packing::choose_shared(&[DENSE, small, DENSE]).unwrap();
        assert!(shared.iter().all(|packing| packing.blocks() == shared[0].blocks()));
        assert!(shared.iter().all(|packing| packing.requests() == shared[0].requests()));
        // More replies for each request: larger blocks of outputs.
        assert!(shared[0].blocks().outputs >= outputs);
        assert_eq!(Packing::choose_shared(&[]), Ok(Vec::new()));
    }

    #[test]
    fn encrypted_weights_need_few_replies() {
        let operand = Packing::choose(&DENSE, Encrypted::Operand).unwrap();
        let weights = Packing::choose(&DENSE, Encrypted::Weights).unwrap();
        assert!(weights.replies() < operand.replies() && weights.requests() <= HELD_MAX, "{weights:?}");
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let row = ConvShape {
            channels: 1,
            height: 4,
            width: 5000,
            outputs: 1,
            kernel: [2, 2],
            stride: [1, 1],
            padding: [0; 4],
            batch: 1,
        };
        let wide = LinearShape::Conv(row);
        let error = Packing::choose(&wide, Encrypted::Operand);
        assert_eq!(error, Err(PackingError::TooWide { words: 10_000 }));
        let empty = DENSE.with_batch(0);
        assert_eq!(Packing::choose(&empty, Encrypted::Weights), Err(PackingError::Empty));
        let large = ConvShape { channels: 128, height: 64, width: 64, outputs: 128, kernel: [3, 3], ..row };
        let of =
            |batch| Packing::choose(&LinearShape::Conv(ConvShape { batch, ..large }), Encrypted::Weights);
        assert!(of(1).is_ok_and(|packing| packing.products_max() > 0));
        assert_eq!(of(1024), Err(PackingError::Shown { coefficients: 128 * 62 * 62 * 1024 }));
        let other = LinearShape::Dense { outputs: 128, inputs: 783, batch: 128 };
        assert_eq!(Packing::choose_shared(&[DENSE, other]), Err(PackingError::Operand { index: 1 }));
    }
}
