//! PNG, with samples of 8 or 16 bits.

use super::picture::sample_count;
use super::{Picture, Samples, Unfit, Unit};
use consilium_config::Colour;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use std::io::Cursor;

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
/// What the decoder may take beside the pixels, for the texts and profiles of a file.
const ASIDE_BYTES_MAX: usize = 8 << 20;

/// Whether bytes start like a PNG.
pub fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// Reads a PNG. Palettes and samples of fewer than 8 bits become samples of 8 bits, as the format defines it.
pub(super) fn read(bytes: &[u8]) -> Result<Picture, Unfit> {
    let broken = |error: png::DecodingError| {
        Unfit::new(format!("the PNG cannot be read: {error}"), "the file is damaged: copy or export it again")
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: ASIDE_BYTES_MAX });
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(broken)?;
    let (columns, rows) = reader.info().size();
    if reader.info().animation_control.is_some_and(|animation| animation.num_frames > 1) {
        return Err(Unfit::new("the PNG is an animation", "export the one frame that is asked about"));
    }
    let (colour, depth) = reader.output_color_type();
    let (colour, opacity) = match colour {
        ColorType::Grayscale => (Colour::Grey, false),
        ColorType::GrayscaleAlpha => (Colour::Grey, true),
        ColorType::Rgb => (Colour::Rgb, false),
        ColorType::Rgba => (Colour::Rgb, true),
        ColorType::Indexed => {
            return Err(Unfit::new("the PNG has an odd palette", "export it in grey or RGB"));
        }
    };
    let each = u64::from(colour.channels()) + u64::from(opacity);
    // Before anything of that size is taken.
    let count = sample_count(rows.into(), columns.into(), each)?;
    let wide = depth == BitDepth::Sixteen;
    let mut pixels = vec![0; if wide { 2 * count } else { count }];
    reader.next_frame(&mut pixels).map_err(broken)?;
    let samples = if wide {
        let pairs = pixels.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        Samples::Words(pairs.collect())
    } else {
        Samples::Bytes(pixels)
    };
    if opacity && !opaque(&samples, each as usize) {
        let help = "export it without transparency: what lies behind such pixels is not known";
        return Err(Unfit::new("the PNG has transparent pixels", help));
    }
    let bits = if wide { 16 } else { 8 };
    let most = f64::from((1_u32 << bits) - 1);
    let unit = Unit::new(bits, |sample| f64::from(sample) / most);
    Picture::new((rows, columns), (colour, usize::from(opacity), false), samples, unit)
}

/// Whether the last sample of each pixel is full.
fn opaque(samples: &Samples, each: usize) -> bool {
    match samples {
        Samples::Bytes(samples) => {
            samples.iter().skip(each - 1).step_by(each).all(|sample| *sample == u8::MAX)
        }
        Samples::Words(samples) => {
            samples.iter().skip(each - 1).step_by(each).all(|sample| *sample == u16::MAX)
        }
    }
}
