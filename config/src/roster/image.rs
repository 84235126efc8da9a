//! How a file of an image becomes the values of one input: the same on all machines, to the last bit.

use crate::digest::Hasher;
use serde::{Serialize, Serializer};

/// What a client does with an image before anything else, [`super::Features`] included.
///
/// 1. **Samples become numbers from 0 to 1.** With a window, a DICOM value `x = stored * slope + intercept` becomes
///    `((x - (center - 0.5)) / (width - 1) + 0.5)`, cut off at 0 and 1: function LINEAR of DICOM PS3.3, C.11.2.1.2.1.
///    Without one, the smallest sample that the file can hold becomes 0 and the largest 1.
/// 2. **White on black.** Where the file says that its smallest sample is white (MONOCHROME1), `y` becomes `1 - y`.
/// 3. **Colour.** Where the task is grey and the file is not, `y = 0.299 r + 0.587 g + 0.114 b`. Where the file is grey
///    and the task is not, all three channels are alike.
/// 4. **Size**, by [`Resize`], first each row and then each column.
/// 5. **Range.** `y` becomes `low + y * (high - low)`.
///
/// The values are laid out channel by channel, in each row by row. No profile or gamma of a file is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Image {
    /// Channels.
    pub colour: Colour,
    /// Rows of the input.
    pub rows: u32,
    /// Columns of the input.
    pub columns: u32,
    /// What to do with a file of another size.
    pub resize: Resize,
    /// Which part of the values of a DICOM file counts.
    pub window: Window,
    /// What the darkest sample becomes.
    pub low: f64,
    /// What the brightest sample becomes.
    pub high: f64,
}

/// Channels of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// One.
    #[default]
    Grey,
    /// Red, green and blue.
    Rgb,
}

/// What to do with a file of another size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// It is refused.
    #[default]
    Refuse,
    /// A value is the mean over the area that it covers in the file.
    Area,
    /// A value is interpolated between the nearest samples. Centres of pixels are half a pixel from the border, and
    /// nothing is averaged when an image becomes smaller.
    Bilinear,
}

/// Which part of the values of a DICOM file counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Window {
    /// All that the file can hold.
    #[default]
    Whole,
    /// The first window that the file names.
    File,
    /// This one, for files of all machines alike.
    Task {
        /// Its middle.
        center: f64,
        /// Its width, at least 1.
        width: f64,
    },
}

impl Colour {
    /// Both with their words in a file.
    pub(super) const NAMES: [(&'static str, Self); 2] = [("grey", Self::Grey), ("rgb", Self::Rgb)];

    /// How many channels there are.
    pub fn channels(self) -> u32 {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

impl Resize {
    /// All with their words in a file.
    pub(super) const NAMES: [(&'static str, Self); 3] =
        [("refuse", Self::Refuse), ("area", Self::Area), ("bilinear", Self::Bilinear)];
}

/// The words of windows in a file.
pub(super) const WINDOWS: [&str; 3] = ["whole", "file", "task"];

impl Window {
    fn word(self) -> &'static str {
        let [whole, file, task] = WINDOWS;
        match self {
            Self::Whole => whole,
            Self::File => file,
            Self::Task { .. } => task,
        }
    }

    fn numbers(self) -> Option<(f64, f64)> {
        match self {
            Self::Task { center, width } => Some((center, width)),
            Self::Whole | Self::File => None,
        }
    }
}

impl Image {
    /// Values of an input.
    pub fn values(&self) -> u64 {
        u64::from(self.colour.channels()) * u64::from(self.rows) * u64::from(self.columns)
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        let name = |names: &[(&'static str, Resize)]| {
            names.iter().find(|(_, one)| *one == self.resize).map_or("", |(name, _)| *name)
        };
        hasher.number(self.colour.channels());
        hasher.number(self.rows);
        hasher.number(self.columns);
        hasher.text(name(&Resize::NAMES));
        hasher.text(self.window.word());
        let (center, width) = self.window.numbers().unwrap_or_default();
        for number in [center, width, self.low, self.high] {
            hasher.real(number);
        }
    }
}

/// As the table that reads back.
impl Serialize for Image {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Table {
            colour: Colour,
            size: [u32; 2],
            resize: Resize,
            window: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            window_center: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            window_width: Option<f64>,
            range: [f64; 2],
        }
        let (window_center, window_width) = self.window.numbers().unzip();
        Table {
            colour: self.colour,
            size: [self.rows, self.columns],
            resize: self.resize,
            window: self.window.word(),
            window_center,
            window_width,
            range: [self.low, self.high],
        }
        .serialize(serializer)
    }
}
