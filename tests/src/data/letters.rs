//! Printed capitals, each as sixteen whole numbers that measure its shape.

use super::{DataError, files};
use consilium::training::Examples;
use consilium_protocol::graph::Shape;
use std::path::{Path, PathBuf};

/// Most bytes of the table; its 20,000 lines have some 36 each.
const BYTES_MAX: usize = 4 << 20;
const FEATURES: usize = 16;
/// The largest value of a feature.
const MOST: u8 = 15;

/// Where the letters lie; `shared` is what [`shared_dir`](super::shared_dir) gives.
pub fn letters_path(shared: &Path) -> PathBuf {
    shared.join("data/tables/letter-recognition.data.gz")
}

/// The letters with values from 0 to 1, and the shape of a row; class 0 is A.
///
/// # Errors
/// [`DataError`] names the line at fault.
pub fn letters(shared: &Path) -> Result<(Shape, Examples), DataError> {
    let path = letters_path(shared);
    let bytes = files::unpack(&path, BYTES_MAX)?;
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for (line, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let refused = || DataError::Line { path: path.clone(), line: line + 1 };
        let (label, values) = row(text).ok_or_else(refused)?;
        inputs.extend(values);
        labels.push(label);
    }
    match Examples::new(FEATURES, inputs, labels) {
        Ok(examples) => Ok((Shape::vector(FEATURES as u32), examples)),
        Err(source) => Err(DataError::Examples { path, source }),
    }
}

/// `T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8`
fn row(text: &[u8]) -> Option<(u8, [f32; FEATURES])> {
    let mut fields = text.split(|byte| *byte == b',');
    let [letter @ b'A'..=b'Z'] = fields.next()? else { return None };
    let mut values = [0.0; FEATURES];
    for value in &mut values {
        let number: u8 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        if number > MOST {
            return None;
        }
        *value = f32::from(number) / f32::from(MOST);
    }
    fields.next().is_none().then_some((letter - b'A', values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shared_or_skip;

    #[test]
    fn a_line_is_a_letter_and_sixteen_numbers() {
        let (label, values) = row(b"T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,15").unwrap();
        assert_eq!((label, values[0], values[15]), (19, 2.0 / 15.0, 1.0));
        for wrong in [
            "",
            "T",
            "t,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8",
            "TT,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8",
            "T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0",
            "T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8,1",
            "T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,16",
            "T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,-1",
        ] {
            assert_eq!(row(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn there_are_twenty_thousand_letters() {
        let Some(shared) = shared_or_skip("the letters") else { return };
        let (shape, examples) = letters(&shared).unwrap();
        assert_eq!((examples.rows(), examples.features(), shape.len()), (20_000, FEATURES, FEATURES));
        for class in 0..26 {
            let count = examples.labels().iter().filter(|label| **label == class).count();
            assert!((734..=813).contains(&count), "{count} of {class}");
        }
        assert!(examples.inputs().iter().all(|value| (0.0..=1.0).contains(value)));
    }
}
