use super::*;
use consilium_config::{Colour, Resize};
use proptest::prelude::*;

const RULE: Image = Image {
    colour: Colour::Grey,
    rows: 2,
    columns: 2,
    resize: Resize::Refuse,
    window: Window::Whole,
    low: 0.0,
    high: 1.0,
};

/// A PNG of the given size, as an encoder writes it.
fn png(size: (u32, u32), colour: ::png::ColorType, depth: ::png::BitDepth, pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, size.0, size.1);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ::png::ColorType::Indexed {
        encoder.set_palette(vec![0, 0, 0, 255, 255, 255]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    file
}

fn grey(columns: u32, rows: u32, pixels: &[u8]) -> Vec<u8> {
    png((columns, rows), ::png::ColorType::Grayscale, ::png::BitDepth::Eight, pixels)
}

/// What a file says about an image, for an encoder of DICOM by the letter of PS3.5.
#[derive(Clone)]
struct Dicom {
    syntax: &'static str,
    elements: Vec<(u16, u16, &'static str, Vec<u8>)>,
}

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const BIG: &str = "1.2.840.10008.1.2.2";

impl Dicom {
    /// A grey image of `bits` bits, samples as words.
    fn grey(columns: u16, rows: u16, bits: u16, samples: &[u16]) -> Self {
        let bytes: Vec<u8> = samples.iter().flat_map(|word| word.to_le_bytes()).collect();
        Self { syntax: EXPLICIT, elements: Vec::new() }
            .with(0x0010, 0x0010, "PN", b"Doe^Jane".to_vec())
            .number(0x0028, 0x0002, 1)
            .with(0x0028, 0x0004, "CS", b"MONOCHROME2 ".to_vec())
            .number(0x0028, 0x0010, rows)
            .number(0x0028, 0x0011, columns)
            .number(0x0028, 0x0100, 16)
            .number(0x0028, 0x0101, bits)
            .number(0x0028, 0x0102, bits - 1)
            .number(0x0028, 0x0103, 0)
            .with(0x7fe0, 0x0010, "OW", bytes)
    }

    fn number(self, group: u16, element: u16, value: u16) -> Self {
        self.with(group, element, "US", value.to_le_bytes().to_vec())
    }

    fn text(self, group: u16, element: u16, vr: &'static str, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(2), b' ');
        self.with(group, element, vr, bytes)
    }

    fn with(mut self, group: u16, element: u16, vr: &'static str, value: Vec<u8>) -> Self {
        self.elements.retain(|(g, e, ..)| (*g, *e) != (group, element));
        self.elements.push((group, element, vr, value));
        self.elements.sort_by_key(|(group, element, ..)| (*group, *element));
        self
    }

    fn without(mut self, group: u16, element: u16) -> Self {
        self.elements.retain(|(g, e, ..)| (*g, *e) != (group, element));
        self
    }

    fn file(&self) -> Vec<u8> {
        let mut meta = Vec::new();
        let mut uid = self.syntax.as_bytes().to_vec();
        uid.resize(uid.len().next_multiple_of(2), 0);
        element(EXPLICIT, &mut meta, &(0x0002, 0x0010, "UI", uid));
        let mut file = vec![0; 128];
        file.extend(b"DICM");
        let length = u32::try_from(meta.len()).unwrap().to_le_bytes().to_vec();
        element(EXPLICIT, &mut file, &(0x0002, 0x0000, "UL", length));
        file.extend(meta);
        for one in &self.elements {
            element(self.syntax, &mut file, one);
        }
        file
    }
}

fn element(syntax: &str, into: &mut Vec<u8>, (group, number, vr, value): &(u16, u16, &str, Vec<u8>)) {
    let big = syntax == BIG;
    let two = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let length = value.len() as u32;
    let four = if big { length.to_be_bytes() } else { length.to_le_bytes() };
    into.extend(two(*group));
    into.extend(two(*number));
    if syntax == IMPLICIT {
        into.extend(four);
    } else {
        into.extend(vr.as_bytes());
        if ["OB", "OW", "SQ", "UN"].contains(vr) {
            into.extend([0, 0]);
            into.extend(four);
        } else {
            into.extend(two(value.len() as u16));
        }
    }
    if big && ["US", "OW"].contains(vr) {
        into.extend(value.chunks(2).flat_map(|pair| [pair[1], pair[0]]));
    } else {
        into.extend(value);
    }
}

fn refused(bytes: &[u8], rule: &Image) -> String {
    let unfit = values(bytes, rule).unwrap_err();
    assert!(!unfit.help.is_empty());
    unfit.problem
}

#[test]
fn grey_png_becomes_values_row_by_row() {
    let file = grey(2, 2, &[0, 51, 102, 255]);
    assert!(is_image(&file));
    assert_eq!(values(&file, &RULE).unwrap(), [0.0, 0.2, 0.4, 1.0]);
    let range = Image { low: -1.0, high: 1.0, ..RULE };
    assert_eq!(values(&file, &range).unwrap()[0], -1.0);
    assert_eq!(values(&file, &range).unwrap()[3], 1.0);
    let sixteen = png(
        (2, 2),
        ::png::ColorType::Grayscale,
        ::png::BitDepth::Sixteen,
        &[0, 0, 0xff, 0xff, 0x33, 0x33, 0, 1],
    );
    assert_eq!(values(&sixteen, &RULE).unwrap(), [0.0, 1.0, 0.2, 1.0 / 65535.0]);
    // Two rows of two pixels of one bit each.
    let bits = png((2, 2), ::png::ColorType::Grayscale, ::png::BitDepth::One, &[0b0100_0000, 0b1000_0000]);
    assert_eq!(values(&bits, &RULE).unwrap(), [0.0, 1.0, 1.0, 0.0]);
    let palette = png((2, 2), ::png::ColorType::Indexed, ::png::BitDepth::Eight, &[0, 1, 1, 0]);
    let white = values(&palette, &RULE).unwrap()[1];
    assert!((white - 1.0).abs() < 1e-15, "{white}");
}

#[test]
fn colours_become_grey_and_grey_becomes_colours() {
    let pixels = [255, 0, 0, 0, 255, 0, 0, 0, 255, 51, 51, 51];
    let file = png((2, 2), ::png::ColorType::Rgb, ::png::BitDepth::Eight, &pixels);
    let found = values(&file, &RULE).unwrap();
    for (found, expected) in found.iter().zip([0.299, 0.587, 0.114, 0.2]) {
        assert!((found - expected).abs() < 1e-15, "{found} is not {expected}");
    }
    let colours = Image { colour: Colour::Rgb, ..RULE };
    let channels = [1.0, 0.0, 0.0, 0.2, 0.0, 1.0, 0.0, 0.2, 0.0, 0.0, 1.0, 0.2];
    assert_eq!(values(&file, &colours).unwrap(), channels);
    let three = values(&grey(2, 2, &[0, 51, 102, 255]), &colours).unwrap();
    assert_eq!(three, [0.0, 0.2, 0.4, 1.0].repeat(3));
    let seen = [255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255, 51, 51, 51, 255];
    let opaque = png((2, 2), ::png::ColorType::Rgba, ::png::BitDepth::Eight, &seen);
    assert_eq!(values(&opaque, &colours).unwrap(), channels);
    let mut through = seen;
    through[7] = 254;
    let through = png((2, 2), ::png::ColorType::Rgba, ::png::BitDepth::Eight, &through);
    assert_eq!(refused(&through, &colours), "the PNG has transparent pixels");
}

#[test]
fn another_size_is_refused_or_resized_as_published() {
    let file = grey(4, 2, &[0, 255, 0, 255, 255, 0, 255, 0]);
    let said = refused(&file, &RULE);
    assert_eq!(said, "the image has 2 rows and 4 columns, the task takes 2 and 2");
    let area = Image { resize: Resize::Area, rows: 1, ..RULE };
    assert_eq!(values(&file, &area).unwrap(), [0.5, 0.5]);
    let area = Image { resize: Resize::Area, rows: 2, columns: 1, ..RULE };
    assert_eq!(values(&grey(3, 2, &[0, 0, 255, 255, 255, 0]), &area).unwrap(), [1.0 / 3.0, 2.0 / 3.0]);
    // As torch.nn.functional.interpolate gives it, bilinear and without aligned corners, 2 x 2 to 3 x 3.
    let larger = Image { resize: Resize::Bilinear, rows: 3, columns: 3, ..RULE };
    let found = values(&grey(2, 2, &[0, 255, 0, 255]), &larger).unwrap();
    assert_eq!(found, [0.0, 0.5, 1.0].repeat(3));
    let smaller = Image { resize: Resize::Bilinear, rows: 1, columns: 2, ..RULE };
    assert_eq!(values(&file, &smaller).unwrap(), [0.5, 0.5]);
}

#[test]
fn broken_large_and_foreign_files_are_refused() {
    assert!(refused(b"GIF89a", &RULE).contains("neither a PNG nor a DICOM"));
    let file = grey(2, 2, &[1, 2, 3, 4]);
    for end in 8..file.len() - 12 {
        assert!(refused(&file[..end], &RULE).starts_with("the PNG cannot be read"), "cut at {end}");
    }
    // A picture that says it has 65,535 rows and columns: nothing of that size is taken.
    let mut bomb = file.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let sum = crc(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&sum);
    assert!(refused(&bomb, &RULE).contains("at most 67108864 samples"), "{}", refused(&bomb, &RULE));
    let windowed = Image { window: Window::File, ..RULE };
    assert!(refused(&file, &windowed).contains("a PNG has none"));
}

/// CRC-32 as PNG uses it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

#[test]
fn dicom_is_the_same_in_all_plain_syntaxes() {
    let image = Dicom::grey(2, 2, 12, &[0, 819, 1638, 4095]);
    for syntax in [IMPLICIT, EXPLICIT, BIG] {
        let file = Dicom { syntax, ..image.clone() }.file();
        assert!(is_image(&file));
        assert_eq!(values(&file, &RULE).unwrap(), [0.0, 0.2, 0.4, 1.0], "{syntax}");
    }
    // Bits above those in use hold overlays and do not count.
    let overlaid = Dicom::grey(2, 2, 12, &[0xf000, 0x1000 + 819, 1638, 4095]);
    assert_eq!(values(&overlaid.file(), &RULE).unwrap(), [0.0, 0.2, 0.4, 1.0]);
    let bytes =
        Dicom::grey(2, 2, 8, &[]).number(0x28, 0x100, 8).with(0x7fe0, 0x10, "OB", vec![0, 51, 102, 255]);
    assert_eq!(values(&bytes.file(), &RULE).unwrap(), [0.0, 0.2, 0.4, 1.0]);
    for syntax in [IMPLICIT, BIG] {
        let words = Dicom { syntax, ..bytes.clone().with(0x7fe0, 0x10, "OW", vec![0, 51, 102, 255]) };
        assert_eq!(values(&words.file(), &RULE).unwrap(), [0.0, 0.2, 0.4, 1.0], "{syntax}");
    }
}

#[test]
fn white_for_nothing_is_turned_round_and_signs_count() {
    let inverted = Dicom::grey(2, 2, 12, &[0, 819, 1638, 4095]).with(0x28, 4, "CS", b"MONOCHROME1 ".to_vec());
    assert_eq!(values(&inverted.file(), &RULE).unwrap(), [1.0, 0.8, 0.6, 0.0]);
    let signed = Dicom::grey(2, 2, 8, &[0x80, 0xff, 0, 0x7f]).number(0x28, 0x103, 1);
    let found = values(&signed.file(), &RULE).unwrap();
    assert_eq!(found, [0.0, 127.0 / 255.0, 128.0 / 255.0, 1.0]);
}

#[test]
fn windows_cut_off_what_a_scanner_measured() {
    // Stored 0 is -1024: as in computed tomography.
    let scan = Dicom::grey(2, 2, 16, &[0, 864, 1064, 3000])
        .text(0x28, 0x1052, "DS", "-1024")
        .text(0x28, 0x1053, "DS", "1")
        .text(0x28, 0x1050, "DS", "40\\50")
        .text(0x28, 0x1051, "DS", "401\\350");
    // By PS3.3: below 39.5 - 200 nothing, above 39.5 + 200 everything.
    let expected = [0.0, (-160.0 - 39.5) / 400.0 + 0.5, (40.0 - 39.5) / 400.0 + 0.5, 1.0];
    for window in [Window::File, Window::Task { center: 40.0, width: 401.0 }] {
        assert_eq!(values(&scan.file(), &Image { window, ..RULE }).unwrap(), expected, "{window:?}");
    }
    let narrow = Window::Task { center: 40.0, width: 1.0 };
    assert_eq!(values(&scan.file(), &Image { window: narrow, ..RULE }).unwrap(), [0.0, 0.0, 1.0, 1.0]);
    let file = Image { window: Window::File, ..RULE };
    assert!(refused(&scan.clone().without(0x28, 0x1050).file(), &file).contains("the file has none"));
    let curved = scan.clone().text(0x28, 0x1056, "CS", "SIGMOID");
    assert!(refused(&curved.file(), &file).contains("\"SIGMOID\""));
    let downward = scan.text(0x28, 0x1053, "DS", "-1");
    assert!(refused(&downward.file(), &file).contains("Rescale Slope -1"));
}

#[test]
fn dicom_in_colours_is_read_pixel_by_pixel_or_plane_by_plane() {
    let colours = Image { colour: Colour::Rgb, rows: 1, columns: 2, ..RULE };
    let image = |planar: u16, bytes: Vec<u8>| {
        let image =
            Dicom::grey(2, 1, 8, &[]).number(0x28, 0x100, 8).number(0x28, 2, 3).number(0x28, 6, planar);
        image.with(0x28, 4, "CS", b"RGB ".to_vec()).with(0x7fe0, 0x10, "OB", bytes).file()
    };
    let expected = [1.0, 0.0, 0.0, 0.2, 0.0, 1.0];
    assert_eq!(values(&image(0, vec![255, 0, 0, 0, 51, 255]), &colours).unwrap(), expected);
    assert_eq!(values(&image(1, vec![255, 0, 0, 51, 0, 255]), &colours).unwrap(), expected);
    let windowed = Image { window: Window::Task { center: 1.0, width: 2.0 }, ..colours };
    assert!(refused(&image(0, vec![0; 6]), &windowed).contains("has colours"));
}

#[test]
fn dicom_that_is_packed_odd_or_not_an_image_is_refused_by_name() {
    let image = Dicom::grey(2, 2, 12, &[1, 2, 3, 4]);
    let packed = Dicom { syntax: "1.2.840.10008.1.2.4.50", ..image.clone() };
    let said = refused(&packed.file(), &RULE);
    assert!(said.contains("JPEG") || said.contains("1.2.840.10008.1.2.4.50"), "{said}");
    let said = values(&packed.file(), &RULE).unwrap_err().help;
    assert!(said.contains("gdcmconv"), "{said}");
    for (image, expected) in [
        (image.clone().text(0x28, 8, "IS", "3"), "the file holds 3 images"),
        (image.clone().with(0x28, 4, "CS", b"PALETTE COLOR ".to_vec()), "PALETTE COLOR"),
        (image.clone().number(0x28, 0x100, 32), "samples of 8 or 16 bits"),
        (image.clone().number(0x28, 0x102, 15), "the highest is 15"),
        (image.clone().without(0x28, 0x10), "(0028,0010) (Rows)"),
        (image.clone().without(0x7fe0, 0x10), "(PixelData)"),
        (image.clone().number(0x28, 0x10, 0), "no pixels"),
        (image.clone().number(0x28, 0x10, 3), "says that it has 6 samples, and has 4"),
        (image.clone().number(0x28, 0x10, 3).number(0x28, 0x11, 3), "says that it has 9 samples"),
        (image.clone().number(0x28, 0x10, u16::MAX).number(0x28, 0x11, u16::MAX), "at most 67108864 samples"),
        (image.clone().text(0x28, 0x1053, "DS", "steep"), "has an odd value"),
        (image.clone().with(0x28, 0x3000, "SQ", Vec::new()), "Modality LUT Sequence"),
    ] {
        let said = refused(&image.file(), &RULE);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn no_length_that_a_file_claims_costs_memory() {
    let image = Dicom::grey(2, 2, 12, &[1, 2, 3, 4]);
    let whole = image.file();
    // The name of the patient and the pixels claim to be almost four gigabytes long.
    let name = whole.windows(4).position(|four| four == [0x10, 0, 0x10, 0]).unwrap();
    let mut long = whole.clone();
    long.splice(name + 4..name + 8, [b'U', b'T', 0, 0, 0xf0, 0xff, 0xff, 0xff]);
    assert!(refused(&long, &RULE).starts_with("the DICOM file"), "{}", refused(&long, &RULE));
    let pixels = whole.windows(4).position(|four| four == [0xe0, 0x7f, 0x10, 0]).unwrap();
    let mut long = whole.clone();
    long[pixels + 8..pixels + 12].copy_from_slice(&[0xf0, 0xff, 0xff, 0xff]);
    assert!(refused(&long, &RULE).contains("longer than the file"), "{}", refused(&long, &RULE));
    // Sequences of undefined length within each other, without end.
    let mut deep = whole[..name].to_vec();
    for _ in 0..10_000 {
        deep.extend([8, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 0xff, 0xff, 0xff, 0xff]);
        deep.extend([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
    }
    assert!(refused(&deep, &RULE).contains("without end"), "{}", refused(&deep, &RULE));
}

#[test]
fn every_cut_of_a_dicom_file_is_refused() {
    let file = Dicom::grey(2, 2, 12, &[1, 2, 3, 4]).file();
    for end in 132..file.len() {
        refused(&file[..end], &RULE);
    }
}

proptest! {
    #[test]
    fn damaged_files_are_survived(which in any::<bool>(), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut file = if which { grey(2, 2, &[0, 51, 102, 255]) } else { Dicom::grey(2, 2, 12, &[1, 2, 3, 4]).file() };
        for (at, byte) in edits {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(found) = values(&file, &RULE) {
            prop_assert_eq!(found.len(), 4);
            prop_assert!(found.iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }
}
