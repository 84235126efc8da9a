//! Files of images as the values of one input, in the way that a task declares.
//!
//! The rule is [`Image`]'s. Each step is exact or rounds as double precision does, in a fixed order, so that all
//! machines make the same values of the same file. Nothing here trusts a file: its size is bounded before it is read,
//! its pixels before they are unpacked, and what does not fit is refused with the next step.

mod dicom;
mod picture;
mod png;
mod resample;

pub use dicom::is_dicom;
pub use picture::{Picture, Samples, Unit};
pub use png::is_png;

use consilium_config::{Image, Window};
use std::path::PathBuf;

/// Longest file of an image.
pub const FILE_BYTES_MAX: usize = 128 << 20;
/// Most samples of an image, all channels together: 64 million.
pub const SAMPLES_MAX: u64 = 1 << 26;

/// Why a file gives no input.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{}: {problem}", path.display())]
pub struct ImageError {
    path: PathBuf,
    problem: String,
    #[help]
    help: String,
}

/// What is wrong with an image, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong.
    pub problem: String,
    /// The next step.
    pub help: String,
}

impl Unfit {
    pub(crate) fn new(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { problem: problem.into(), help: help.into() }
    }

    /// The same of a file.
    pub fn of(self, path: PathBuf) -> ImageError {
        ImageError { path, problem: self.problem, help: self.help }
    }
}

/// Whether bytes are an image that [`values`] can try.
pub fn is_image(bytes: &[u8]) -> bool {
    is_png(bytes) || is_dicom(bytes)
}

/// The values of one input, channel by channel and row by row.
///
/// # Errors
/// [`Unfit`] says what does not fit the rule, or what this reader does not do.
pub fn values(bytes: &[u8], rule: &Image) -> Result<Vec<f64>, Unfit> {
    if bytes.len() > FILE_BYTES_MAX {
        let problem = format!("the file has {} bytes, at most {FILE_BYTES_MAX} are read", bytes.len());
        return Err(Unfit::new(problem, "export one image by itself, without previews and reports"));
    }
    let picture = if is_png(bytes) {
        if rule.window != Window::Whole {
            return Err(Unfit::new(
                "the task uses a window of the values that a scanner measured, and a PNG has none",
                "give the DICOM file that the image was made from",
            ));
        }
        png::read(bytes)?
    } else if is_dicom(bytes) {
        dicom::read(bytes, rule.window)?
    } else {
        return Err(Unfit::new("this is neither a PNG nor a DICOM file", "export the image as one of these"));
    };
    picture.values(rule)
}

#[cfg(test)]
mod tests;
