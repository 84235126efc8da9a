//! Files of bounded size, plain or compressed.

use super::DataError;
use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of a manifest.
const MANIFEST_BYTES_MAX: usize = 1 << 20;

fn bounded(path: &Path, reader: impl Read, limit: usize) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let mut capped = reader.take(limit as u64 + 1);
    capped.read_to_end(&mut bytes).map_err(|source| DataError::Read { path: path.into(), source })?;
    if bytes.len() > limit {
        return Err(DataError::TooLarge { path: path.into(), limit });
    }
    Ok(bytes)
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|source| DataError::Read { path: path.into(), source })
}

/// Unpacks a gzip file of at most `limit` bytes.
pub(super) fn unpack(path: &Path, limit: usize) -> Result<Vec<u8>, DataError> {
    bounded(path, GzDecoder::new(open(path)?), limit)
}

/// Unpacks a gzip file of exactly `expected` bytes.
pub(super) fn unpack_exact(path: &Path, expected: usize) -> Result<Vec<u8>, DataError> {
    let bytes = unpack(path, expected)?;
    let found = bytes.len();
    if found == expected { Ok(bytes) } else { Err(DataError::Length { path: path.into(), expected, found }) }
}

/// Unpacks a gzip file of exactly `expected` little-endian floats.
pub(super) fn unpack_floats(path: &Path, expected: usize) -> Result<Vec<f32>, DataError> {
    let bytes = unpack_exact(path, expected.saturating_mul(4))?;
    let (words, _) = bytes.as_chunks::<4>();
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// Reads a manifest.
pub(super) fn manifest<T: DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    let bytes = bounded(path, open(path)?, MANIFEST_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|source| DataError::Manifest { path: path.into(), source })
}

/// Checks that every label or vote names one of `classes`.
pub(super) fn check_classes(path: &Path, labels: &[u8], classes: usize) -> Result<(), DataError> {
    match labels.iter().find(|&&label| usize::from(label) >= classes) {
        Some(&class) => Err(DataError::Class { path: path.into(), class, classes }),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    /// Writes a gzip file into a folder that lasts as long as the returned handle.
    pub(in super::super) fn packed(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.gz");
        let mut encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_that_unpacks_to_too_much_is_refused() {
        let (_folder, path) = packed(&[0; 4096]);
        assert_eq!(unpack(&path, 4096).unwrap().len(), 4096);
        assert!(matches!(unpack(&path, 4095), Err(DataError::TooLarge { limit: 4095, .. })));
        let short = unpack_exact(&path, 5000);
        assert!(matches!(short, Err(DataError::Length { expected: 5000, found: 4096, .. })));
    }

    #[test]
    fn a_damaged_or_missing_file_is_named() {
        let (folder, path) = packed(&(0..=255).cycle().take(9999).collect::<Vec<u8>>());
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(unpack(&path, 1 << 20), Err(DataError::Read { .. })));
        let error = unpack(&folder.path().join("absent"), 1).unwrap_err();
        assert!(error.to_string().contains("absent"));
    }

    #[test]
    fn floats_are_little_endian() {
        let (_folder, path) = packed(&[0, 0, 128, 63, 0, 0, 0, 192]);
        assert_eq!(unpack_floats(&path, 2).unwrap(), [1.0, -2.0]);
    }
}
