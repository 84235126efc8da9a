//! Which encoding is whose: what a hospital knows and an attack has to find.

use super::encodings::Encodings;
use super::fault::LabError;
use super::file::private;
use super::images::Images;
use crate::vault::{Pieces, read_bounded};
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const VERSION: u32 = 1;
const FILE_BYTES_MAX: u64 = 1 << 28;

/// The secret orders of a file of encodings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    version: u32,
    /// SHA-256 of the images, in the order of their places.
    digest: String,
    /// Of each encoding, the place of its image in the file of images.
    images: Vec<usize>,
    /// Of each encoding and each of its patches, the patch's position in the image.
    patches: Vec<Vec<usize>>,
}

impl std::fmt::Debug for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Truth({} encodings)", self.images.len())
    }
}

impl Truth {
    pub(super) fn new(digest: String, images: Vec<usize>, patches: Vec<Vec<usize>>) -> Self {
        Self { version: VERSION, digest, images, patches }
    }

    /// Of each encoding, the place of its image in the file of images.
    pub fn images(&self) -> &[usize] {
        &self.images
    }

    /// Of each encoding and each of its patches, the patch's position in the image.
    pub fn patches(&self) -> &[Vec<usize>] {
        &self.patches
    }

    /// Refuses a truth of other encodings or of other images.
    ///
    /// # Errors
    /// [`LabError::Unfit`].
    pub fn fit(&self, encodings: &Encodings, images: &Images) -> Result<(), LabError> {
        let (count, positions) = (encodings.count(), encodings.shape().positions());
        if self.images.len() != count || self.patches.iter().any(|patches| patches.len() != positions) {
            let problem = format!(
                "a truth of {} encodings for {count} of {positions} patches; give the one written with them",
                self.images.len()
            );
            return Err(LabError::Unfit(problem));
        }
        if self.digest != images.digest() {
            let problem =
                "the truth is about other images, or others of the file; give those that were encoded";
            return Err(LabError::Unfit(problem.to_owned()));
        }
        Ok(())
    }
}

/// Writes a truth that only its owner can read. An existing file stays.
///
/// # Errors
/// [`LabError::Exists`], or the disk's.
pub fn write_truth(path: &Path, truth: &Truth) -> Result<(), LabError> {
    let text = Zeroizing::new(super::file::note(truth));
    let mut pieces = Pieces::new(path)?;
    pieces.write(text.as_bytes())?;
    if pieces.publish()? { Ok(()) } else { Err(LabError::Exists { path: path.to_owned() }) }
}

/// Reads a truth. One that others may read is refused.
///
/// # Errors
/// [`VaultError::Exposed`](crate::vault::VaultError::Exposed), [`LabError::File`] where it is none.
pub fn read_truth(path: &Path) -> Result<Truth, LabError> {
    private(path)?;
    let bytes = read_bounded(path, FILE_BYTES_MAX)?;
    let refused = |problem: String| LabError::File { path: path.to_owned(), kind: "truth", problem };
    let truth: Truth = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
    if truth.version != VERSION {
        return Err(LabError::Version { path: path.to_owned(), found: truth.version.to_string() });
    }
    let permutes = |places: &[usize]| {
        let mut seen = vec![false; places.len()];
        places.iter().all(|place| seen.get_mut(*place).is_some_and(|seen| !std::mem::replace(seen, true)))
    };
    let whole = permutes(&truth.images) && truth.patches.iter().all(|patches| permutes(patches));
    if truth.patches.len() != truth.images.len() || !whole {
        return Err(refused("its orders are none".to_owned()));
    }
    Ok(truth)
}
