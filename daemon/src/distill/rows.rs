//! The client's unlabelled rows, from a table or an image file.

use crate::training::{Examples, ExamplesError};
use crate::vault::hex;
use consilium_config::{Features, Task};
use consilium_protocol::graph::Shape;
use flate2::read::GzDecoder;
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most rows: each is compared with each other one.
pub const UNLABELLED_MAX: usize = 1 << 16;
/// Most values, all rows together.
const VALUES_MAX: usize = 1 << 26;
/// Longest file, unpacked.
const FILE_BYTES_MAX: u64 = 1 << 30;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Bytes, in three dimensions.
const IDX: [u8; 4] = [0, 0, 8, 3];
const IDX_HEADER: usize = 16;

/// Why a file gives no rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Longer than is allowed.
    #[error("{path} is larger than {UNLABELLED_MAX} rows or {VALUES_MAX} values; take a random part of it")]
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
    /// An image file that does not fit.
    #[error("{path}: {problem}")]
    Images {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No rows.
    #[error("{path} has no rows")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A row that the task does not take.
    #[error("row {row}, value {value}: {found} is beyond {bound}, the task's public bound")]
    Bound {
        /// Position of the row, from 1.
        row: usize,
        /// Position of the value, from 1.
        value: usize,
        /// The value.
        found: f64,
        /// The bound.
        bound: f64,
    },
    /// Values that single precision cannot hold.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
}

/// Rows as the client knows them. Wiped when dropped.
pub struct Rows {
    shape: Shape,
    width: usize,
    raw: Zeroizing<Vec<f64>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({} x {})", self.count(), self.width)
    }
}

impl Rows {
    /// Reads a file for a task: one row a line with its values separated by commas, where a first line that
    /// is no numbers counts as heading; or an IDX file of images, whose bytes become 0 to 1 unless the task
    /// normalises raw values itself. Either may be packed by gzip.
    ///
    /// # Errors
    /// [`RowsError`] names the line or value at fault.
    pub fn read(path: &Path, task: &Task) -> Result<Self, RowsError> {
        let bytes = unpacked(path)?;
        let width = task.input.len();
        let (shape, raw) = if bytes.starts_with(&IDX) {
            images(path, &bytes, width, task.features.is_none())?
        } else {
            (task.input, table(path, &bytes, width, None)?)
        };
        if raw.is_empty() {
            return Err(RowsError::Empty { path: path.to_owned() });
        }
        Ok(Self { shape, width, raw })
    }

    /// Reads a table whose last column names the class of each row, as a word or as its number from 0; gives
    /// the rows as the student takes them, with their labels.
    ///
    /// # Errors
    /// As [`Rows::read`] and [`Rows::prepared`], and a class that the task does not have.
    pub fn read_labelled(path: &Path, task: &Task) -> Result<Examples, RowsError> {
        let (bytes, width) = (unpacked(path)?, task.input.len());
        let mut labels = Vec::new();
        let raw = table(path, &bytes, width, Some((task.classes.as_slice(), &mut labels)))?;
        if raw.is_empty() {
            return Err(RowsError::Empty { path: path.to_owned() });
        }
        let rows = Self { shape: task.input, width, raw }.prepared(task)?;
        Ok(Examples::new(width, rows.inputs().to_vec(), labels)?)
    }

    /// Shape of one row: that of the task, or rows and columns of an image.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Rows from memory.
    #[cfg(test)]
    pub(super) fn for_test(width: usize, raw: Vec<f64>) -> Self {
        Self { shape: Shape::vector(width as u32), width, raw: Zeroizing::new(raw) }
    }

    /// Number of rows, at least 1.
    pub fn count(&self) -> usize {
        self.raw.len() / self.width
    }

    /// The values of one row, as the file has them.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn raw(&self, row: usize) -> &[f64] {
        &self.raw[row * self.width..][..self.width]
    }

    /// The rows as the task's models take them, and as the student will.
    ///
    /// # Errors
    /// A value beyond the task's public bound, which the consortium would refuse.
    pub fn prepared(&self, task: &Task) -> Result<Examples, RowsError> {
        let mut inputs = Vec::with_capacity(self.raw.len());
        for row in 0..self.count() {
            let row_values = prepared_by(task.features.as_ref(), task.input_abs_max, self.raw(row));
            for (at, value) in row_values.enumerate() {
                if value.is_nan() || value.abs() > task.input_abs_max {
                    let (bound, found) = (task.input_abs_max, value);
                    return Err(RowsError::Bound { row: row + 1, value: at + 1, found, bound });
                }
                inputs.push(value as f32);
            }
        }
        Ok(Examples::new(self.width, inputs, vec![0; self.count()])?)
    }

    /// Names the rows in their order, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut context = Context::new(&SHA256);
        context.update(b"consilium unlabelled rows 1");
        context.update(&(self.width as u64).to_le_bytes());
        self.raw.iter().for_each(|value| context.update(&value.to_bits().to_le_bytes()));
        hex::encode(context.finish().as_ref())
    }
}

/// A raw row after a public normalisation, if there is one, and its clipping. What is no number stays none.
pub(super) fn prepared_by<'a>(
    features: Option<&'a Features>,
    bound: f64,
    raw: &'a [f64],
) -> impl Iterator<Item = f64> + 'a {
    raw.iter().enumerate().map(move |(at, value)| match features {
        Some(features) => features.normalise(at, *value).clamp(-bound, bound),
        None => *value,
    })
}

fn unpacked(path: &Path) -> Result<Zeroizing<Vec<u8>>, RowsError> {
    let failed = |source| RowsError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let packed = io::BufRead::fill_buf(&mut file).map_err(failed)?.starts_with(&GZIP);
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = FILE_BYTES_MAX + 1;
    let read = if packed {
        GzDecoder::new(file).take(limit).read_to_end(&mut bytes)
    } else {
        file.take(limit).read_to_end(&mut bytes)
    };
    if read.map_err(failed)? as u64 == limit {
        return Err(RowsError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

type Found<T> = Result<T, RowsError>;

fn images(path: &Path, bytes: &[u8], width: usize, scaled: bool) -> Found<(Shape, Zeroizing<Vec<f64>>)> {
    let refused = |problem: String| RowsError::Images { path: path.to_owned(), problem };
    let short = || refused("the file ends inside its heading".into());
    let (sizes, _) = bytes.get(4..IDX_HEADER).ok_or_else(short)?.as_chunks::<4>();
    let sizes: Vec<usize> = sizes.iter().map(|size| u32::from_be_bytes(*size) as usize).collect();
    let (count, pixels) = (sizes[0], sizes[1].saturating_mul(sizes[2]));
    if pixels != width {
        let (rows, columns) = (sizes[1], sizes[2]);
        return Err(refused(format!("images of {rows} x {columns} values; the task takes {width} values")));
    }
    if count > UNLABELLED_MAX || count.saturating_mul(width) > VALUES_MAX {
        return Err(RowsError::TooLarge { path: path.to_owned() });
    }
    let body = &bytes[IDX_HEADER..];
    if body.len() != count * width {
        return Err(refused(format!("{} bytes of images; its heading says {}", body.len(), count * width)));
    }
    let unit = if scaled { 255.0 } else { 1.0 };
    let [height, width] = [sizes[1], sizes[2]].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    let values = body.iter().map(|byte| f64::from(*byte) / unit).collect();
    Ok((Shape { channels: 1, height, width }, Zeroizing::new(values)))
}

/// Names of the classes, and where the labels go.
type Labels<'a> = (&'a [String], &'a mut Vec<u8>);

fn table(
    path: &Path,
    bytes: &[u8],
    width: usize,
    mut labels: Option<Labels<'_>>,
) -> Found<Zeroizing<Vec<f64>>> {
    let refused = |line: usize, problem: String| RowsError::Line { path: path.to_owned(), line, problem };
    let text = std::str::from_utf8(bytes).map_err(|_| refused(1, "neither text nor an IDX file".into()))?;
    let mut values = Zeroizing::new(Vec::new());
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (order, (index, line)) in lines.enumerate() {
        let (line, last) = match &labels {
            Some(_) => line.rsplit_once(',').unwrap_or((line, "")),
            None => (line, ""),
        };
        let cells = line.split(',').map(str::trim);
        if order == 0 && cells.clone().any(|cell| cell.parse::<f64>().is_err()) {
            continue;
        }
        if let Some((classes, labels)) = &mut labels {
            let problem = || refused(index + 1, format!("{:?} is no class of the task", last.trim()));
            labels.push(class(classes, last.trim()).ok_or_else(problem)?);
        }
        let before = values.len();
        for (column, cell) in cells.enumerate() {
            let value = cell.parse::<f64>().ok().filter(|value| value.is_finite());
            let problem = || refused(index + 1, format!("value {}: {cell:?} is not a number", column + 1));
            values.push(value.ok_or_else(problem)?);
        }
        let found = values.len() - before;
        if found != width {
            return Err(refused(index + 1, format!("{found} values; the task takes {width}")));
        }
        if values.len() > VALUES_MAX || values.len() / width > UNLABELLED_MAX {
            return Err(RowsError::TooLarge { path: path.to_owned() });
        }
    }
    Ok(values)
}

/// A class by its name, or by its number from 0.
fn class(classes: &[String], text: &str) -> Option<u8> {
    let named = classes.iter().position(|class| class == text);
    let number = named.or_else(|| text.parse().ok()).filter(|number| *number < classes.len())?;
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{EXAMPLE_ROSTER, Roster};
    use std::io::Write;

    fn task(width: u32) -> Task {
        let mut task = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap().tasks()[0].clone();
        (task.input, task.input_abs_max, task.features) = (Shape::vector(width), 2.0, None);
        task
    }

    fn read(bytes: &[u8], task: &Task) -> Result<Rows, RowsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Rows::read(file.path(), task)
    }

    #[test]
    fn tables_are_read_with_and_without_a_heading() {
        for text in ["1, 2\n\n-0.5,1e-1\n", "\nage,weight\n1,2\n-0.5,0.1"] {
            let rows = read(text.as_bytes(), &task(2)).unwrap();
            assert_eq!((rows.count(), rows.raw(0), rows.raw(1)), (2, &[1.0, 2.0][..], &[-0.5, 0.1][..]));
        }
        let other = |text: &str| read(text.as_bytes(), &task(2)).unwrap().digest();
        assert_eq!(other("1,2"), other("a,b\n1,2.0"));
        assert_ne!(other("1,2"), other("2,1"));
    }

    #[test]
    fn the_line_at_fault_is_named() {
        let fault = |text: &str| match read(text.as_bytes(), &task(2)).unwrap_err() {
            RowsError::Line { line, problem, .. } => (line, problem),
            other => panic!("{other}"),
        };
        assert_eq!(fault("1,2\n\n3").0, 3);
        assert_eq!(fault("1,2\n3,x").0, 2);
        assert!(fault("1,2\n3,NaN").1.contains("NaN"));
        assert!(fault("1,2,3").1.contains("3 values"));
        assert!(matches!(read(b"a,b\n", &task(2)), Err(RowsError::Empty { .. })));
        assert!(read(&[0xff, 0xfe, 1, 2], &task(2)).is_err());
    }

    #[test]
    fn images_are_read_packed_or_not() {
        let plain = [&IDX[..], &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2], &[0, 255, 51, 102]].concat();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&plain).unwrap();
        for bytes in [plain.clone(), packed.finish().unwrap()] {
            let rows = read(&bytes, &task(2)).unwrap();
            assert_eq!((rows.raw(0), rows.raw(1)), (&[0.0, 1.0][..], &[0.2, 0.4][..]));
        }
        let mut normalised = task(2);
        normalised.features = Some(Features { names: vec![], offset: vec![51.0], scale: vec![0.01] });
        let rows = read(&plain, &normalised).unwrap();
        assert_eq!(rows.raw(1), [51.0, 102.0]);
        assert_eq!(rows.prepared(&normalised).unwrap().row(0), [-0.51, 2.0]);
        for cut in [5, 15, 19] {
            assert!(matches!(read(&plain[..cut], &task(2)), Err(RowsError::Images { .. })), "{cut}");
        }
        assert!(matches!(read(&plain, &task(3)), Err(RowsError::Images { .. })));
    }

    #[test]
    fn the_last_column_may_name_the_class() {
        let mut task = task(2);
        task.classes = vec!["no".into(), "yes".into()];
        let read = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            Rows::read_labelled(file.path(), &task)
        };
        let rows = read("a,b,class\n1,2,yes\n0,1, no\n0,0,1\n").unwrap();
        assert_eq!((rows.labels(), rows.row(0)), (&[1, 0, 1][..], &[1.0, 2.0][..]));
        for bad in ["1,2,maybe", "1,2,2", "1,2", "1,2,3,yes"] {
            assert!(
                matches!(read(bad), Err(RowsError::Line { line: 1, .. } | RowsError::Empty { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn values_beyond_the_bound_are_named() {
        let rows = read(b"1,2\n0,-2.5", &task(2)).unwrap();
        let error = rows.prepared(&task(2)).unwrap_err();
        assert!(matches!(error, RowsError::Bound { row: 2, value: 2, .. }), "{error}");
        assert!(!format!("{rows:?}").contains("2.5"));
    }
}
