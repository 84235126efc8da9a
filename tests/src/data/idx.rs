//! The IDX format: two zero bytes, 8 for bytes, the number of dimensions, big-endian sizes, then the values.

use super::{DataError, files};
use std::path::Path;

/// Most values of one file: 2^17 images of 28 x 28.
const VALUES_MAX: usize = (28 * 28) << 17;

/// Sizes and values of an IDX file.
pub(super) struct Idx<const DIMENSIONS: usize> {
    /// Size of each dimension, outermost first.
    pub(super) sizes: [usize; DIMENSIONS],
    /// Row-major.
    pub(super) values: Vec<u8>,
}

/// Reads a gzip-compressed IDX file of bytes.
pub(super) fn read<const DIMENSIONS: usize>(path: &Path) -> Result<Idx<DIMENSIONS>, DataError> {
    let refused = || DataError::Idx { path: path.into(), dimensions: DIMENSIONS };
    let header = 4 + 4 * DIMENSIONS;
    let mut bytes = files::unpack(path, VALUES_MAX + header)?;
    let (words, _) = bytes.get(..header).ok_or_else(refused)?.as_chunks::<4>();
    if words[0][..3] != [0, 0, 8] || usize::from(words[0][3]) != DIMENSIONS {
        return Err(refused());
    }
    let sizes: [usize; DIMENSIONS] =
        std::array::from_fn(|dimension| u32::from_be_bytes(words[1 + dimension]) as usize);
    let expected =
        sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).ok_or_else(refused)?;
    let found = bytes.len() - header;
    if expected != found {
        return Err(DataError::Length { path: path.into(), expected, found });
    }
    bytes.drain(..header);
    Ok(Idx { sizes, values: bytes })
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::packed;
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Idx<2>, DataError> {
        let (_folder, path) = packed(bytes);
        read(&path)
    }

    #[test]
    fn sizes_and_values_are_read() {
        let idx = parse(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!((idx.sizes, idx.values), ([2, 3], vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn anything_else_is_an_error() {
        for wrong in [
            &[][..],
            &[0, 0, 8, 2, 0, 0, 0, 1],
            &[0, 0, 9, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7],
            &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 7],
        ] {
            assert!(matches!(parse(wrong), Err(DataError::Idx { dimensions: 2, .. })), "{wrong:?}");
        }
        for lengths in [
            &[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7][..],
            &[0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 7],
            &[0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255, 7],
        ] {
            assert!(matches!(parse(lengths), Err(DataError::Length { .. })), "{lengths:?}");
        }
    }
}
