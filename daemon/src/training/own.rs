//! A user's own rows, from a table or from images.

use super::{Examples, ExamplesError, VALUES_MAX};
use consilium_config::Task;
use consilium_protocol::graph::Shape;
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most rows of a file.
pub const OWN_ROWS_MAX: usize = 1 << 20;
/// Longest file, unpacked.
const FILE_BYTES_MAX: u64 = 1 << 30;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// An IDX file of bytes starts with these and its number of dimensions.
const IDX: [u8; 3] = [0, 0, 8];
/// Largest byte of an image.
const WHITE: f32 = 255.0;

/// Why a file gives no rows.
#[derive(Debug, thiserror::Error)]
pub enum OwnRowsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Longer than is allowed.
    #[error("{path} is larger than {OWN_ROWS_MAX} rows or {VALUES_MAX} values; take a random part of it")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not a row of numbers.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of images or labels that does not fit.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A value that no question could have.
    #[error(
        "row {row} (from 0) has a value beyond {bound}, the largest that the task takes (`input_abs_max`); scale or drop it"
    )]
    Bound {
        /// The row's position in the file, from 0.
        row: usize,
        /// The task's bound.
        bound: f64,
    },
    /// Values that are no rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
}

/// How a file is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Shape of one row; that of the images, or a plain vector, if absent.
    pub shape: Option<Shape>,
    /// What black and white of an image become; numbers of a table stay as they are.
    pub range: [f32; 2],
    /// File with one label for each image, and the one whose images are read.
    pub class: Option<(PathBuf, u8)>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { shape: None, range: [-1.0, 1.0], class: None }
    }
}

/// Rows with their places in the file they came from.
#[derive(Clone, PartialEq)]
pub struct OwnRows {
    shape: Shape,
    examples: Examples,
    positions: Vec<usize>,
}

impl std::fmt::Debug for OwnRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnRows({} x {})", self.positions.len(), self.shape)
    }
}

impl OwnRows {
    /// Reads a table, one row a line with its values separated by commas, where a first line without any number counts
    /// as heading; or an IDX file of images as bytes: images, rows and columns, or images, channels, rows and columns.
    /// Either may be packed by gzip.
    ///
    /// # Errors
    /// [`OwnRowsError`] names the line or value at fault.
    pub fn read(path: &Path, reading: &Reading) -> Result<Self, OwnRowsError> {
        let bytes = unpacked(path)?;
        let file = Contents { path, bytes: &bytes };
        let (shape, inputs, positions) =
            if bytes.starts_with(&IDX) { file.images(reading)? } else { file.table(reading)? };
        let labels = vec![0; positions.len()];
        Ok(Self { shape, examples: Examples::new(shape.len(), inputs, labels)?, positions })
    }

    /// Shape of one row.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The rows; all labels are 0.
    pub fn examples(&self) -> &Examples {
        &self.examples
    }

    /// The rows as a task takes them: every value normalised, if the task does that.
    ///
    /// # Errors
    /// A value is larger than the task's bound, past which it takes none.
    pub fn prepared(self, task: &Task) -> Result<Self, OwnRowsError> {
        let bound = task.input_abs_max;
        let mut inputs = self.examples.inputs().to_vec();
        for (place, value) in inputs.iter_mut().enumerate() {
            let (row, at) = (place / self.shape.len(), place % self.shape.len());
            if let Some(features) = &task.features {
                *value = features.normalise(at, f64::from(*value)).clamp(-bound, bound) as f32;
            } else if f64::from(value.abs()) > bound {
                return Err(OwnRowsError::Bound { row: self.positions[row], bound });
            }
        }
        let examples = Examples::new(self.shape.len(), inputs, self.examples.labels().to_vec())?;
        Ok(Self { examples, ..self })
    }

    /// Where the rows at these places stand in the file, from 0. Rising places stay rising.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn positions(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().map(|row| self.positions[*row]).collect()
    }
}

type Found<T> = Result<T, OwnRowsError>;
/// Shape, values and positions.
type Parsed = (Shape, Vec<f32>, Vec<usize>);

fn unpacked(path: &Path) -> Found<Zeroizing<Vec<u8>>> {
    let failed = |source| OwnRowsError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let is_packed = file.fill_buf().map_err(failed)?.starts_with(&GZIP);
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = FILE_BYTES_MAX + 1;
    let read = if is_packed {
        GzDecoder::new(file).take(limit).read_to_end(&mut bytes)
    } else {
        file.take(limit).read_to_end(&mut bytes)
    };
    if read.map_err(failed)? as u64 == limit {
        return Err(OwnRowsError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Sizes and values of an IDX file.
fn idx<'a>(path: &Path, bytes: &'a [u8]) -> Found<(Vec<usize>, &'a [u8])> {
    let refused =
        |problem: &str| OwnRowsError::Content { path: path.to_owned(), problem: problem.to_owned() };
    let no_idx = "this is no IDX file of bytes";
    let [a, b, c, dimensions, rest @ ..] = bytes else { return Err(refused(no_idx)) };
    if [*a, *b, *c] != IDX {
        return Err(refused(no_idx));
    }
    let header = 4 * usize::from(*dimensions);
    let words = rest.get(..header).ok_or_else(|| refused("the file ends inside its heading"))?;
    let (words, _) = words.as_chunks::<4>();
    let sizes: Vec<usize> = words.iter().map(|word| u32::from_be_bytes(*word) as usize).collect();
    let expected = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let values = &rest[header..];
    if expected != Some(values.len()) {
        return Err(refused("it is longer or shorter than its heading says; get it again"));
    }
    Ok((sizes, values))
}

/// A file that was read.
struct Contents<'a> {
    path: &'a Path,
    bytes: &'a [u8],
}

impl Contents<'_> {
    fn refused(&self, problem: String) -> OwnRowsError {
        OwnRowsError::Content { path: self.path.to_owned(), problem }
    }

    fn line(&self, index: usize, problem: String) -> OwnRowsError {
        OwnRowsError::Line { path: self.path.to_owned(), line: index + 1, problem }
    }

    fn bounded(&self, rows: usize, values: usize) -> Found<()> {
        let too_large = rows > OWN_ROWS_MAX || values > VALUES_MAX;
        if too_large { Err(OwnRowsError::TooLarge { path: self.path.to_owned() }) } else { Ok(()) }
    }

    /// The shape asked for, if it has so many values, or else this one.
    fn shape(&self, reading: &Reading, found: Shape) -> Found<Shape> {
        let shape = reading.shape.unwrap_or(found);
        if shape.len() != found.len() {
            let problem =
                format!("a row has {} values; an input of shape {shape} has {}", found.len(), shape.len());
            return Err(self.refused(problem));
        }
        Ok(shape)
    }

    fn images(&self, reading: &Reading) -> Found<Parsed> {
        let (sizes, values) = idx(self.path, self.bytes)?;
        let (count, sides) = match *sizes.as_slice() {
            [count, height, width] => (count, [1, height, width]),
            [count, channels, height, width] => (count, [channels, height, width]),
            _ => {
                let problem = format!("{} dimensions; images have three, or four with channels", sizes.len());
                return Err(self.refused(problem));
            }
        };
        self.bounded(count, values.len())?;
        let [channels, height, width] = sides.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let shape = self.shape(reading, Shape { channels, height, width })?;
        if count == 0 || shape.is_empty() {
            return Err(self.refused("it has no images".to_owned()));
        }
        let positions = match &reading.class {
            None => (0..count).collect(),
            Some((labels, class)) => labelled(labels, *class, count)?,
        };
        let [black, white] = reading.range;
        let scaled = |byte: &u8| black + f32::from(*byte) / WHITE * (white - black);
        let mut inputs = Vec::with_capacity(positions.len() * shape.len());
        for position in &positions {
            inputs.extend(values[position * shape.len()..][..shape.len()].iter().map(scaled));
        }
        Ok((shape, inputs, positions))
    }

    fn table(&self, reading: &Reading) -> Found<Parsed> {
        if reading.class.is_some() {
            let problem =
                "a table has no file of labels; keep the lines of one class and leave the others out";
            return Err(self.refused(problem.to_owned()));
        }
        let text = std::str::from_utf8(self.bytes);
        let text = text.map_err(|_| self.refused("neither text nor an IDX file of bytes".to_owned()))?;
        let (mut inputs, mut rows, mut width) = (Vec::new(), 0, None);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (order, (index, line)) in lines.enumerate() {
            let cells = line.split(',').map(str::trim);
            if order == 0 && cells.clone().all(|cell| cell.parse::<f32>().is_err()) {
                continue;
            }
            let before = inputs.len();
            for (column, cell) in cells.enumerate() {
                let value = cell.parse::<f32>().ok().filter(|value| value.is_finite());
                let problem = || self.line(index, format!("value {}: {cell:?} is not a number", column + 1));
                inputs.push(value.ok_or_else(problem)?);
            }
            let found = inputs.len() - before;
            let expected = *width.get_or_insert(found);
            if found != expected {
                let problem = format!("{found} values, the lines before have {expected}");
                return Err(self.line(index, problem));
            }
            rows += 1;
            self.bounded(rows, inputs.len())?;
        }
        let Some(width) = width else { return Err(self.refused("it has no rows".to_owned())) };
        let vector = Shape::vector(u32::try_from(width).unwrap_or(u32::MAX));
        Ok((self.shape(reading, vector)?, inputs, (0..rows).collect()))
    }
}

/// Places of the images with this label.
fn labelled(path: &Path, class: u8, images: usize) -> Found<Vec<usize>> {
    let labels = own_labels(path, images)?;
    let places: Vec<usize> = (0..images).filter(|image| labels[*image] == class).collect();
    if places.is_empty() {
        let problem = format!("no image has label {class}");
        return Err(OwnRowsError::Content { path: path.to_owned(), problem });
    }
    Ok(places)
}

/// One label for each of so many images, from an IDX file of bytes, packed by gzip or not.
///
/// # Errors
/// [`OwnRowsError`] names the file at fault.
pub fn own_labels(path: &Path, images: usize) -> Found<Vec<u8>> {
    let bytes = unpacked(path)?;
    let (sizes, labels) = idx(path, &bytes)?;
    if sizes != [images] {
        let problem = format!("it has no single label for each of {images} images");
        return Err(OwnRowsError::Content { path: path.to_owned(), problem });
    }
    Ok(labels.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tempfile::NamedTempFile;

    fn file(bytes: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn read(bytes: &[u8], reading: &Reading) -> Result<OwnRows, OwnRowsError> {
        OwnRows::read(file(bytes).path(), reading)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    /// Three images of one row and two columns.
    const IMAGES: [u8; 22] = [0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 51, 102, 255, 0];
    const LABELS: [u8; 11] = [0, 0, 8, 1, 0, 0, 0, 3, 7, 4, 7];

    #[test]
    fn tables_are_read_with_and_without_a_heading() {
        for text in ["1, 2\n\n-0.5,1e-1\n", "\nage,weight\n1,2\n-0.5,0.1"] {
            for bytes in [text.as_bytes().to_vec(), packed(text.as_bytes())] {
                let rows = read(&bytes, &Reading::default()).unwrap();
                assert_eq!((rows.shape(), rows.examples().rows()), (Shape::vector(2), 2));
                assert_eq!(rows.examples().inputs(), [1.0, 2.0, -0.5, 0.1]);
                assert_eq!(rows.positions(&[1]), [1]);
            }
        }
        let shape = Shape { channels: 1, height: 2, width: 2 };
        let square = Reading { shape: Some(shape), ..Reading::default() };
        assert_eq!(read(b"1,2,3,4", &square).unwrap().shape(), shape);
        assert!(matches!(read(b"1,2,3", &square), Err(OwnRowsError::Content { .. })));
    }

    #[test]
    fn the_line_at_fault_is_named() {
        let fault = |text: &str| match read(text.as_bytes(), &Reading::default()).unwrap_err() {
            OwnRowsError::Line { line, problem, .. } => (line, problem),
            other => panic!("{other}"),
        };
        assert_eq!(fault("1,2\n\n3").0, 3);
        assert_eq!(fault("1,2\n3,x").0, 2);
        // Not a heading: it has a number.
        assert_eq!(fault("1,x\n3,4").0, 1);
        assert!(fault("1,2\n3,NaN").1.contains("NaN"));
        assert!(fault("1,2\n1e39,3").1.contains("1e39"));
        for text in ["", "a,b\n"] {
            let empty = read(text.as_bytes(), &Reading::default()).unwrap_err().to_string();
            assert!(empty.ends_with("it has no rows"), "{empty}");
        }
        assert!(read(&[0xff, 0xfe, 1, 2], &Reading::default()).is_err());
    }

    #[test]
    fn images_are_scaled_into_the_range() {
        for bytes in [IMAGES.to_vec(), packed(&IMAGES)] {
            let rows = read(&bytes, &Reading::default()).unwrap();
            assert_eq!(rows.shape(), Shape { channels: 1, height: 1, width: 2 });
            let expected = [-1.0, 1.0, -0.6, -0.2, 1.0, -1.0];
            let found = rows.examples().inputs();
            assert!(found.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{found:?}");
            assert!(found.iter().all(|value| value.abs() <= 1.0));
        }
        let unit = Reading { range: [0.0, 1.0], ..Reading::default() };
        assert_eq!(read(&IMAGES, &unit).unwrap().examples().row(0), [0.0, 1.0]);
        let colour =
            [&[0u8, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1][..], &[0, 0, 0]].concat();
        let shape = Shape { channels: 3, height: 1, width: 1 };
        assert_eq!(read(&colour, &Reading::default()).unwrap().shape(), shape);
    }

    #[test]
    fn images_of_one_class_keep_their_places() {
        let labels = file(&packed(&LABELS));
        let of = |class| Reading { class: Some((labels.path().to_owned(), class)), ..Reading::default() };
        let rows = read(&IMAGES, &of(7)).unwrap();
        assert_eq!((rows.examples().rows(), rows.positions(&[0, 1])), (2, vec![0, 2]));
        assert_eq!(rows.examples().row(1), [1.0, -1.0]);
        let none = read(&IMAGES, &of(5)).unwrap_err().to_string();
        assert!(none.ends_with("no image has label 5"), "{none}");
        assert!(read(b"1,2", &of(7)).unwrap_err().to_string().contains("a table has no file of labels"));
        let short = file(&LABELS[..10]);
        let short = Reading { class: Some((short.path().to_owned(), 7)), ..Reading::default() };
        assert!(matches!(read(&IMAGES, &short), Err(OwnRowsError::Content { .. })));
    }

    #[test]
    fn damaged_images_are_refused() {
        for cut in [3, 5, 15, 21] {
            assert!(matches!(read(&IMAGES[..cut], &Reading::default()), Err(OwnRowsError::Content { .. })));
        }
        assert!(matches!(read(&LABELS, &Reading::default()), Err(OwnRowsError::Content { .. })));
        let vast = [&[0u8, 0, 8, 3][..], &[255; 12]].concat();
        assert!(matches!(read(&vast, &Reading::default()), Err(OwnRowsError::Content { .. })));
        let missing = OwnRows::read(Path::new("/nowhere"), &Reading::default());
        assert!(matches!(missing, Err(OwnRowsError::Read { .. })));
    }
}
