//! Images in a grid, each with the name of who was named for it.

use super::font::{self, CROSS, Glyph, RING, TICK};
use png::{BitDepth, ColorType, Encoder, EncodingError};

/// Pixels of a value, of a point of a letter, of free space, and of the frame of an image.
const VALUE: usize = 12;
const POINT: usize = 2;
const GAP: usize = 6;
const FRAME: usize = 2;
/// From one letter to the next.
const LETTER: usize = (font::WIDTH + 1) * POINT;

type Colour = [u8; 3];

const PAPER: Colour = [255; 3];
const INK: Colour = [40; 3];
/// Told apart by people who confuse red and green.
const GREEN: Colour = [0, 158, 115];
const RED: Colour = [213, 94, 0];
const YELLOW: Colour = [230, 159, 0];

/// Whether an answer is right, as a sign and a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The user whose image it is: a green tick.
    Right,
    /// Another user: a red cross.
    Wrong,
    /// Nobody, for a stranger's image: a green ring.
    Refused,
    /// Nobody, for a user's own image: a yellow ring.
    Missed,
}

/// One image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    /// Row by row, from 0 for paper to 1 for ink.
    pub(super) values: &'a [f32],
    /// Who was named.
    pub(super) name: &'a str,
    /// Whether that is right.
    pub(super) mark: Mark,
}

impl Mark {
    fn drawn(self) -> (Glyph, Colour) {
        match self {
            Self::Right => (TICK, GREEN),
            Self::Wrong => (CROSS, RED),
            Self::Refused => (RING, GREEN),
            Self::Missed => (RING, YELLOW),
        }
    }
}

/// Images of so many rows and columns, so many side by side, as a PNG.
///
/// # Errors
/// A picture without a pixel, or one that is too large.
pub(super) fn picture(
    tiles: &[Tile<'_>],
    (rows, columns): (usize, usize),
    side_by_side: usize,
) -> Result<Vec<u8>, EncodingError> {
    let side_by_side = side_by_side.clamp(1, tiles.len().max(1));
    let (wide, high) = tile_size(rows, columns);
    let mut canvas = Canvas::new(wide * side_by_side, high * tiles.len().div_ceil(side_by_side));
    for (at, tile) in tiles.iter().enumerate() {
        let corner = (at % side_by_side * wide, at / side_by_side * high);
        canvas.tile(tile, corner, (rows, columns));
    }
    canvas.encoded()
}

/// Pixels across and down of a tile with its free space.
fn tile_size(rows: usize, columns: usize) -> (usize, usize) {
    (columns * VALUE + 2 * GAP, rows * VALUE + font::HEIGHT * POINT + 3 * GAP)
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: PAPER.repeat(width * height) }
    }

    fn tile(&mut self, tile: &Tile<'_>, (left, top): (usize, usize), (rows, columns): (usize, usize)) {
        let (glyph, colour) = tile.mark.drawn();
        let (left, top, wide, high) = (left + GAP, top + GAP, columns * VALUE, rows * VALUE);
        let frame = (wide + 2 * FRAME, high + 2 * FRAME);
        self.fill((left - FRAME, top - FRAME), frame, colour);
        for (at, value) in tile.values.iter().take(rows * columns).enumerate() {
            let place = (left + at % columns * VALUE, top + at / columns * VALUE);
            let grey = (255.0 * (1.0 - value.clamp(0.0, 1.0))).round() as u8;
            self.fill(place, (VALUE, VALUE), [grey; 3]);
        }
        let (below, mark) = (top + high + GAP, font::WIDTH * POINT);
        // What does not fit before the mark is cut.
        let room = wide.saturating_sub(mark);
        for (at, letter) in tile.name.chars().take(room / LETTER).enumerate() {
            self.glyph((left + at * LETTER, below), &font::glyph(letter), INK);
        }
        self.glyph(((left + wide).saturating_sub(mark), below), &glyph, colour);
    }

    fn glyph(&mut self, (left, top): (usize, usize), glyph: &Glyph, colour: Colour) {
        for (down, row) in glyph.iter().enumerate() {
            for right in 0..font::WIDTH {
                if row >> (font::WIDTH - 1 - right) & 1 == 1 {
                    self.fill((left + right * POINT, top + down * POINT), (POINT, POINT), colour);
                }
            }
        }
    }

    /// What lies outside is left out.
    fn fill(&mut self, (left, top): (usize, usize), (wide, high): (usize, usize), colour: Colour) {
        let (right, bottom) = ((left + wide).min(self.width), (top + high).min(self.height));
        for row in top..bottom {
            for column in left..right {
                self.pixels[3 * (row * self.width + column)..][..3].copy_from_slice(&colour);
            }
        }
    }

    fn encoded(&self) -> Result<Vec<u8>, EncodingError> {
        let mut bytes = Vec::new();
        let side = |length: usize| u32::try_from(length).unwrap_or(0);
        let mut encoder = Encoder::new(&mut bytes, side(self.width), side(self.height));
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Width, height and pixels.
    fn decoded(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let (width, height) = reader.info().size();
        assert_eq!(reader.output_color_type(), (ColorType::Rgb, BitDepth::Eight));
        let mut pixels = vec![0; 3 * width as usize * height as usize];
        reader.next_frame(&mut pixels).unwrap();
        (width as usize, height as usize, pixels)
    }

    fn tile(values: &[f32], mark: Mark) -> Tile<'_> {
        Tile { values, name: "digit-7", mark }
    }

    #[test]
    fn a_grid_has_the_size_of_its_tiles_and_their_marks() {
        let values: Vec<f32> = (0..64).map(|at| if at == 9 { 1.0 } else { 0.0 }).collect();
        let marks = [Mark::Right, Mark::Wrong, Mark::Refused, Mark::Missed, Mark::Right];
        let tiles = marks.map(|mark| tile(&values, mark));
        let (width, height, pixels) = decoded(&picture(&tiles, (8, 8), 3).unwrap());
        let (wide, high) = tile_size(8, 8);
        assert_eq!((wide, high), (108, 128));
        assert_eq!((width, height), (3 * wide, 2 * high));
        let pixel = |column: usize, row: usize| {
            let at = 3 * (row * width + column);
            [pixels[at], pixels[at + 1], pixels[at + 2]]
        };
        for (at, mark) in marks.into_iter().enumerate() {
            let (left, top) = (at % 3 * wide, at / 3 * high);
            assert_eq!(pixel(left + GAP - 1, top + GAP - 1), mark.drawn().1, "{mark:?}");
            // The second value of the second row is ink, the first is paper.
            let middle = top + GAP + VALUE + VALUE / 2;
            assert_eq!(pixel(left + GAP + VALUE / 2, middle), PAPER);
            assert_eq!(pixel(left + GAP + VALUE + VALUE / 2, middle), [0; 3]);
        }
        // The place of a sixth tile stays empty.
        assert_eq!(pixel(width - wide / 2, height - high / 2), PAPER);
    }

    #[test]
    fn a_name_is_written_below_and_ends_before_the_mark() {
        let values = vec![0.0; 64];
        let marked = Tile { name: "digit-7", ..tile(&values, Mark::Right) };
        let (width, _, pixels) = decoded(&picture(&[marked], (8, 8), 9).unwrap());
        let ink: Vec<usize> =
            (0..pixels.len() / 3).filter(|at| pixels[3 * at..][..3] == INK).map(|at| at % width).collect();
        let (first, last) = (ink.iter().min().unwrap(), ink.iter().max().unwrap());
        assert!(*first >= GAP && *last < GAP + 8 * VALUE - font::WIDTH * POINT, "{first} to {last}");
        assert!(*last > GAP + 6 * LETTER, "the seventh letter is there");
        let long = Tile { name: "a-very-long-name-indeed", ..marked };
        assert!(picture(&[long], (8, 8), 1).is_ok());
    }

    #[test]
    fn a_grid_of_nothing_is_refused() {
        assert!(picture(&[], (8, 8), 4).is_err());
    }
}
