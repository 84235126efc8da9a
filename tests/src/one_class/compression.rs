//! Grey images as JPEG gives them back.
//!
//! What a JPEG file loses, it loses where the cosine transform of each block of 8 x 8 is rounded to multiples of a
//! table; the coding after that gives back every bit. So only that step is made here, with the table for luminance of
//! annex K of ITU-T T.81, which is the one of quality 50 in the usual encoders, and no encoder and decoder of files
//! are needed. Sides that are no multiples of 8 are continued with the last row and column, as encoders do.

use consilium::training::{Examples, ExamplesError};
use consilium_protocol::graph::Shape;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The quality, as encoders count it.
pub const QUALITY: u32 = 50;
const SIDE: usize = 8;

type Block = [[f64; SIDE]; SIDE];

#[rustfmt::skip]
const LUMINANCE: [[u8; SIDE]; SIDE] = [
    [16, 11, 10, 16,  24,  40,  51,  61],
    [12, 12, 14, 19,  26,  58,  60,  55],
    [14, 13, 16, 24,  40,  57,  69,  56],
    [14, 17, 22, 29,  51,  87,  80,  62],
    [18, 22, 37, 56,  68, 109, 103,  77],
    [24, 35, 55, 64,  81, 104, 113,  92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103,  99],
];

/// Every row as an image that was compressed and unpacked; values from 0 to 1.
///
/// # Errors
/// Rows of another size than the shape has.
pub fn recompressed(rows: &Examples, shape: Shape) -> Result<Examples, ExamplesError> {
    if rows.features() != shape.len() {
        let (features, values) = (shape.len(), rows.inputs().len());
        return Err(ExamplesError::Length { rows: rows.rows(), features, values });
    }
    let (height, width) = (shape.height as usize, shape.width as usize);
    let codec = Codec::new();
    let plane = |plane: &[f32]| codec.plane(plane, height, width);
    let inputs = rows.inputs().chunks((height * width).max(1)).flat_map(plane).collect();
    Examples::new(rows.features(), inputs, rows.labels().to_vec())
}

struct Codec {
    basis: Block,
    turned: Block,
}

impl Codec {
    fn new() -> Self {
        let wave = |frequency: usize, at: usize| {
            let scale = if frequency == 0 { FRAC_1_SQRT_2 } else { 1.0 };
            0.5 * scale * ((2 * at + 1) as f64 * frequency as f64 * PI / 16.0).cos()
        };
        Self { basis: block(wave), turned: block(|at, frequency| wave(frequency, at)) }
    }

    fn plane(&self, plane: &[f32], height: usize, width: usize) -> Vec<f32> {
        let mut found = vec![0.0; plane.len()];
        for (top, left) in corners(height, width) {
            let place = |row: usize, column: usize| {
                (top + row).min(height - 1) * width + (left + column).min(width - 1)
            };
            let grey = block(|row, column| f64::from(plane[place(row, column)] * 255.0).round() - 128.0);
            let back = self.back(&self.multiples(&grey));
            for (row, greys) in back.iter().enumerate().take(height - top) {
                for (column, grey) in greys.iter().enumerate().take(width - left) {
                    let grey = (grey + 128.0).round().clamp(0.0, 255.0);
                    found[place(row, column)] = (grey / 255.0) as f32;
                }
            }
        }
        found
    }

    /// What a file keeps of a block: multiples of the table.
    fn multiples(&self, grey: &Block) -> Block {
        let waves = product(&product(&self.basis, grey), &self.turned);
        block(|row, column| (waves[row][column] / f64::from(LUMINANCE[row][column])).round())
    }

    fn back(&self, multiples: &Block) -> Block {
        let waves = block(|row, column| multiples[row][column] * f64::from(LUMINANCE[row][column]));
        product(&product(&self.turned, &waves), &self.basis)
    }
}

fn block(value: impl Fn(usize, usize) -> f64) -> Block {
    std::array::from_fn(|row| std::array::from_fn(|column| value(row, column)))
}

fn product(one: &Block, other: &Block) -> Block {
    block(|row, column| (0..SIDE).map(|at| one[row][at] * other[at][column]).sum())
}

fn corners(height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).step_by(SIDE).flat_map(move |top| (0..width).step_by(SIDE).map(move |left| (top, left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of a block that textbooks and encyclopedias work through, at quality 50.
    #[test]
    fn a_known_block_gives_the_known_multiples() {
        let grey = [
            [52.0, 55.0, 61.0, 66.0, 70.0, 61.0, 64.0, 73.0],
            [63.0, 59.0, 55.0, 90.0, 109.0, 85.0, 69.0, 72.0],
            [62.0, 59.0, 68.0, 113.0, 144.0, 104.0, 66.0, 73.0],
            [63.0, 58.0, 71.0, 122.0, 154.0, 106.0, 70.0, 69.0],
            [67.0, 61.0, 68.0, 104.0, 126.0, 88.0, 68.0, 70.0],
            [79.0, 65.0, 60.0, 70.0, 77.0, 68.0, 58.0, 75.0],
            [85.0, 71.0, 64.0, 59.0, 55.0, 61.0, 65.0, 83.0],
            [87.0, 79.0, 69.0, 68.0, 65.0, 76.0, 78.0, 94.0],
        ];
        let found = Codec::new().multiples(&grey.map(|row| row.map(|value: f64| value - 128.0)));
        let mut expected = [[0.0; SIDE]; SIDE];
        expected[0] = [-26.0, -3.0, -6.0, 2.0, 2.0, -1.0, 0.0, 0.0];
        expected[1] = [0.0, -2.0, -4.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        expected[2] = [-3.0, 1.0, 5.0, -1.0, -1.0, 0.0, 0.0, 0.0];
        expected[3] = [-3.0, 1.0, 2.0, -1.0, 0.0, 0.0, 0.0, 0.0];
        expected[4][0] = 1.0;
        assert_eq!(found, expected);
    }

    #[test]
    fn a_smooth_image_of_any_size_stays_near() {
        let shape = Shape { channels: 2, height: 11, width: 13 };
        let grey = |at: usize| 0.2 + 0.6 * (at % (11 * 13)) as f32 / (11.0 * 13.0);
        let rows = Examples::new(shape.len(), (0..shape.len()).map(grey).collect(), vec![7]).unwrap();
        let found = recompressed(&rows, shape).unwrap();
        assert_eq!(found.labels(), [7]);
        let apart = found.inputs().iter().zip(rows.inputs()).map(|(one, other)| (one - other).abs());
        let most = apart.fold(0.0, f32::max);
        assert!(most > 0.0 && most < 0.1, "{most}");
    }

    #[test]
    fn even_grey_stays_and_sharp_edges_blur() {
        let shape = Shape { channels: 1, height: 8, width: 8 };
        let compressed = |values: Vec<f32>| {
            let rows = Examples::new(64, values, vec![0]).unwrap();
            recompressed(&rows, shape).unwrap().inputs().to_vec()
        };
        // 128 is no wave at all.
        let even = vec![128.0 / 255.0; 64];
        assert_eq!(compressed(even.clone()), even);
        let line: Vec<f32> = (0..64).map(|at| if at % 8 == 3 { 1.0 } else { 0.0 }).collect();
        let found = compressed(line.clone());
        assert_ne!(found, line);
        assert!(found.iter().all(|value| (0.0..=1.0).contains(value)));
    }
}
