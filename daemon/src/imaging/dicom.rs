//! DICOM, with pixels that are not packed.
//!
//! The file is walked element by element. Only what an image needs is kept, each value after its length was held
//! against the file, so that no length that a file claims costs memory; names, sequences and all else are skipped.

use super::picture::sample_count;
use super::{Picture, Samples, Unfit, Unit};
use consilium_config::{Colour, Window};
use dicom_core::header::{DataElementHeader, HasLength, Header};
use dicom_core::{PrimitiveValue, Tag};
use dicom_dictionary_std::tags;
use dicom_encoding::transfer_syntax::{TransferSyntax, TransferSyntaxIndex};
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use std::collections::BTreeMap;
use std::io::Cursor;

/// Bytes before the mark.
const PREAMBLE_BYTES: usize = 128;
const MARK: &[u8] = b"DICM";
/// The first element of a file: the length of the others of its group.
const GROUP_LENGTH: &[u8] = &[2, 0, 0, 0, b'U', b'L', 4, 0];
/// Longest value of any element but the pixels.
const VALUE_BYTES_MAX: u32 = 1024;
/// Sequences within sequences.
const DEPTH_MAX: usize = 32;

/// Transfer syntaxes whose pixels are not packed.
const PLAIN: [&str; 3] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"];
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// What an image needs.
const WANTED: [Tag; 17] = [
    tags::TRANSFER_SYNTAX_UID,
    tags::ROWS,
    tags::COLUMNS,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::PLANAR_CONFIGURATION,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::NUMBER_OF_FRAMES,
    tags::RESCALE_SLOPE,
    tags::RESCALE_INTERCEPT,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::VOILUT_FUNCTION,
    tags::PIXEL_DATA,
];

/// Whether bytes start like a DICOM file.
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(PREAMBLE_BYTES..).is_some_and(|rest| rest.starts_with(MARK))
}

/// Reads the one image of a DICOM file.
pub(super) fn read(bytes: &[u8], window: Window) -> Result<Picture, Unfit> {
    let (head, body) = parts(bytes)?;
    let meta = Elements::read(head, syntax(EXPLICIT)?)?;
    let uid = meta.text(tags::TRANSFER_SYNTAX_UID)?;
    if !PLAIN.contains(&uid.as_str()) {
        let name =
            TransferSyntaxRegistry.get(&uid).map_or_else(|| uid.clone(), |known| known.name().to_owned());
        return Err(Unfit::new(
            format!("the pixels are packed as {name}, which is not unpacked here"),
            "unpack the file first, for example by `gdcmconv --raw IN OUT` or `dcmdjpeg IN OUT`",
        ));
    }
    Elements::read(body, syntax(&uid)?)?.picture(window)
}

/// The group of the transfer syntax, and the rest.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), Unfit> {
    let cut = || damaged("it ends in its first group");
    let start = PREAMBLE_BYTES + MARK.len();
    let rest = bytes.get(start..).ok_or_else(cut)?;
    let length = rest.strip_prefix(GROUP_LENGTH).and_then(|rest| rest.first_chunk::<4>());
    let length = length.ok_or_else(|| damaged("its first group has no length"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| cut())?;
    let rest = rest.get(GROUP_LENGTH.len() + 4..).ok_or_else(cut)?;
    rest.split_at_checked(length).ok_or_else(cut)
}

fn syntax(uid: &str) -> Result<&'static TransferSyntax, Unfit> {
    TransferSyntaxRegistry.get(uid).ok_or_else(|| damaged("it names no transfer syntax"))
}

fn damaged(problem: impl std::fmt::Display) -> Unfit {
    Unfit::new(
        format!("the DICOM file cannot be read: {problem}"),
        "the file is damaged: copy or export it again",
    )
}

/// The elements that count, outside of any sequence.
#[derive(Default)]
struct Elements {
    values: BTreeMap<Tag, PrimitiveValue>,
    packed: bool,
    modality_table: bool,
}

impl Elements {
    fn read(bytes: &[u8], syntax: &TransferSyntax) -> Result<Self, Unfit> {
        let mut reader = LazyDataSetReader::new_with_ts(Cursor::new(bytes), syntax).map_err(damaged)?;
        let (mut elements, mut depth) = (Self::default(), 0_usize);
        while let Some(token) = reader.advance() {
            match token.map_err(damaged)? {
                LazyDataToken::SequenceStart { tag, .. } => {
                    elements.modality_table |= depth == 0 && tag == tags::MODALITY_LUT_SEQUENCE;
                    depth += 1;
                }
                LazyDataToken::PixelSequenceStart => {
                    elements.packed |= depth == 0;
                    depth += 1;
                }
                LazyDataToken::SequenceEnd => depth = depth.saturating_sub(1),
                LazyDataToken::LazyValue { header, decoder } => {
                    let token = LazyDataToken::LazyValue { header, decoder };
                    if depth == 0 && WANTED.contains(&header.tag()) {
                        fits(&header, bytes.len())?;
                        elements.values.insert(header.tag(), token.into_value().map_err(damaged)?);
                    } else {
                        token.skip().map_err(damaged)?;
                    }
                }
                token @ LazyDataToken::LazyItemValue { .. } => token.skip().map_err(damaged)?,
                _ => {}
            }
            if depth > DEPTH_MAX {
                return Err(damaged("sequences stand in each other without end"));
            }
            // The rest is padding and signatures.
            if elements.values.contains_key(&tags::PIXEL_DATA) {
                break;
            }
        }
        Ok(elements)
    }

    fn text(&self, tag: Tag) -> Result<String, Unfit> {
        let value = self.values.get(&tag).ok_or_else(|| missing(tag))?;
        Ok(value.to_str().trim_end_matches([' ', '\0']).trim_start().to_owned())
    }

    fn whole(&self, tag: Tag) -> Result<u32, Unfit> {
        let value = self.values.get(&tag).ok_or_else(|| missing(tag))?;
        value.to_int::<u32>().map_err(|_| odd(tag))
    }

    fn whole_or(&self, tag: Tag, default: u32) -> Result<u32, Unfit> {
        if self.values.contains_key(&tag) { self.whole(tag) } else { Ok(default) }
    }

    /// The first number of an element, which may have several.
    fn number(&self, tag: Tag) -> Result<Option<f64>, Unfit> {
        let Some(value) = self.values.get(&tag) else { return Ok(None) };
        let numbers = value.to_multi_float64().map_err(|_| odd(tag))?;
        match numbers.first() {
            Some(number) if number.is_finite() => Ok(Some(*number)),
            _ => Err(odd(tag)),
        }
    }

    fn picture(mut self, window: Window) -> Result<Picture, Unfit> {
        if self.packed {
            return Err(damaged("its pixels are packed, and it says that they are not"));
        }
        if self.modality_table {
            return Err(Unfit::new(
                "the values of the image go through a table of its own (Modality LUT Sequence)",
                "export it with Rescale Slope and Intercept in place of the table",
            ));
        }
        let frames = self.whole_or(tags::NUMBER_OF_FRAMES, 1)?;
        if frames != 1 {
            let problem = format!("the file holds {frames} images");
            return Err(Unfit::new(problem, "export the one image that is asked about as a file of its own"));
        }
        let layout = self.layout()?;
        let (rows, columns) = (self.whole(tags::ROWS)?, self.whole(tags::COLUMNS)?);
        let count = sample_count(rows.into(), columns.into(), layout.colour.channels().into())?;
        let unit = self.unit(&layout, window)?;
        let pixels = self.values.remove(&tags::PIXEL_DATA).ok_or_else(|| missing(tags::PIXEL_DATA))?;
        let samples = samples(pixels, layout.allocated, count)?;
        Picture::new((rows, columns), (layout.colour, 0, layout.planar), samples, unit)
    }

    fn layout(&self) -> Result<Layout, Unfit> {
        let photometric = self.text(tags::PHOTOMETRIC_INTERPRETATION)?;
        let (colour, inverted) = match photometric.as_str() {
            "MONOCHROME1" => (Colour::Grey, true),
            "MONOCHROME2" => (Colour::Grey, false),
            "RGB" => (Colour::Rgb, false),
            other => {
                return Err(Unfit::new(
                    format!(
                        "the colours of the image are {other:?}; MONOCHROME1, MONOCHROME2 and RGB are read"
                    ),
                    "convert it to one of these",
                ));
            }
        };
        let samples = self.whole_or(tags::SAMPLES_PER_PIXEL, 1)?;
        let (allocated, stored) = (self.whole(tags::BITS_ALLOCATED)?, self.whole(tags::BITS_STORED)?);
        let high = self.whole_or(tags::HIGH_BIT, stored.saturating_sub(1))?;
        let signed = self.whole_or(tags::PIXEL_REPRESENTATION, 0)?;
        let known = samples == colour.channels()
            && [8, 16].contains(&allocated)
            && (1..=allocated).contains(&stored)
            && high + 1 == stored
            && (signed == 0 || (signed == 1 && colour == Colour::Grey));
        if !known {
            let problem = format!(
                "the image has {samples} samples a pixel of {stored} in {allocated} bits, the highest is {high}, sign \
                 {signed}; samples of 8 or 16 bits are read, with the lowest bits in use"
            );
            return Err(Unfit::new(problem, "export it in one of the usual forms"));
        }
        let planar = self.whole_or(tags::PLANAR_CONFIGURATION, 0)? == 1 && colour == Colour::Rgb;
        Ok(Layout { colour, inverted, planar, allocated, stored, signed: signed == 1 })
    }

    /// What each stored sample means.
    fn unit(&self, layout: &Layout, window: Window) -> Result<Unit, Unfit> {
        let slope = self.number(tags::RESCALE_SLOPE)?.unwrap_or(1.0);
        let intercept = self.number(tags::RESCALE_INTERCEPT)?.unwrap_or(0.0);
        if slope <= 0.0 {
            return Err(Unfit::new(
                format!("larger samples mean smaller values (Rescale Slope {slope})"),
                "export it with a slope above zero",
            ));
        }
        let window = self.window(window)?;
        if window.is_some() && layout.colour == Colour::Rgb {
            return Err(Unfit::new(
                "the task uses a window, and the image has colours",
                "give the grey original",
            ));
        }
        let (bits, full) = (layout.stored, 1_i64 << layout.stored);
        let least = if layout.signed { -(full / 2) } else { 0 };
        Ok(Unit::new(bits, |sample| {
            let sample = i64::from(sample);
            let value = if layout.signed && sample >= full / 2 { sample - full } else { sample };
            let unit = match window {
                Some(window) => linear(value as f64 * slope + intercept, window),
                None => (value - least) as f64 / (full - 1) as f64,
            };
            if layout.inverted { 1.0 - unit } else { unit }
        }))
    }

    /// Middle and width of the window that counts, if one does.
    fn window(&self, window: Window) -> Result<Option<(f64, f64)>, Unfit> {
        match window {
            Window::Whole => Ok(None),
            Window::Task { center, width } => Ok(Some((center, width))),
            Window::File => {
                let function = match self.values.contains_key(&tags::VOILUT_FUNCTION) {
                    true => self.text(tags::VOILUT_FUNCTION)?,
                    false => "LINEAR".to_owned(),
                };
                let (center, width) = (self.number(tags::WINDOW_CENTER)?, self.number(tags::WINDOW_WIDTH)?);
                match center.zip(width) {
                    Some((_, width)) if width < 1.0 => Err(odd(tags::WINDOW_WIDTH)),
                    Some(window) if function == "LINEAR" => Ok(Some(window)),
                    Some(_) => Err(Unfit::new(
                        format!("the window of the file is of the kind {function:?}; LINEAR is read"),
                        "export it with a linear window, or have the task name its own",
                    )),
                    None => Err(Unfit::new(
                        "the task uses the window of the file, and the file has none (Window Center and Width)",
                        "set a window where the image is viewed and export it again",
                    )),
                }
            }
        }
    }
}

/// How samples stand in memory.
struct Layout {
    colour: Colour,
    inverted: bool,
    planar: bool,
    allocated: u32,
    stored: u32,
    signed: bool,
}

/// Function LINEAR of PS3.3, C.11.2.1.2.1, from 0 to 1.
fn linear(value: f64, (center, width): (f64, f64)) -> f64 {
    let (middle, half) = (center - 0.5, (width - 1.0) / 2.0);
    if value <= middle - half {
        0.0
    } else if value > middle + half {
        1.0
    } else {
        ((value - middle) / (width - 1.0) + 0.5).clamp(0.0, 1.0)
    }
}

/// The samples, which stand in bytes or words depending on the transfer syntax, whatever their size.
fn samples(pixels: PrimitiveValue, allocated: u32, count: usize) -> Result<Samples, Unfit> {
    let mut bytes: Vec<u8> = match pixels {
        PrimitiveValue::U8(bytes) => bytes.into_vec(),
        PrimitiveValue::U16(words) if allocated == 16 => return Ok(Samples::Words(words.into_vec())),
        // Words of two samples, of which the first is the lower half.
        PrimitiveValue::U16(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        _ => return Err(damaged("its pixels are neither bytes nor words")),
    };
    if allocated == 8 {
        bytes.truncate(count);
        return Ok(Samples::Bytes(bytes));
    }
    let words = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Ok(Samples::Words(words.take(count).collect()))
}

/// Holds the length that an element claims against the file.
fn fits(header: &DataElementHeader, file_bytes: usize) -> Result<(), Unfit> {
    let most = if header.tag() == tags::PIXEL_DATA { u32::MAX } else { VALUE_BYTES_MAX };
    match header.length().get() {
        Some(length) if length <= most && length as usize <= file_bytes => Ok(()),
        _ => Err(damaged(format!(
            "element {} is longer than the file, or than such elements are",
            header.tag()
        ))),
    }
}

fn missing(tag: Tag) -> Unfit {
    Unfit::new(
        format!("the DICOM file has no element {tag} ({})", name(tag)),
        "give the image itself, as the device wrote it",
    )
}

fn odd(tag: Tag) -> Unfit {
    Unfit::new(format!("element {tag} ({}) has an odd value", name(tag)), "export the image again")
}

fn name(tag: Tag) -> &'static str {
    use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
    dicom_dictionary_std::StandardDataDictionary.by_tag(tag).map_or("unknown", |entry| entry.alias())
}
