//! Votes on questions that nobody has to protect: a public set, or one that an owner set aside.

use super::Tendency;
use super::service::{CLASSES_MAX, VOTES_MAX};
use flate2::read::GzDecoder;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file, unpacked.
const BYTES_MAX: usize = 64 << 20;
/// Most questions.
const QUESTIONS_MAX: usize = 1 << 20;
/// What a packed file of votes is called; the name before it is that of its entry in the manifest.
const PACKED: &str = ".u8.gz";
/// Columns that hold the right class.
const TRUTH: [&str; 3] = ["label", "truth", "class"];

/// Why a file of votes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VotesError {
    /// Missing, unreadable, or its compression is damaged.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Larger than a file of votes may be.
    #[error("{path} is larger than {BYTES_MAX} bytes; use fewer questions")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file says something else than it should.
    #[error("{path}: {explanation}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What, where, and what to write instead.
        explanation: String,
    },
}

/// Which class every model chose on every question, and the right classes where they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct VoteTable {
    name: String,
    classes: usize,
    models: u32,
    /// Question by question.
    votes: Vec<u8>,
    truth: Option<Vec<u8>>,
}

impl VoteTable {
    /// Reads a file: `NAME.u8.gz`, one byte a vote, model by model, with a `manifest.json` beside it that
    /// states its sizes and `SET.labels.u8.gz` where the right classes are known; or else a CSV file, one
    /// question a line, with a heading, one column a model and, if known, the right class in a column
    /// `label`. Classes are numbers from 0, or the names given here, or any names if none are given.
    ///
    /// # Errors
    /// [`VotesError`] names the file and the place.
    pub fn load(path: &Path, class_names: &[String]) -> Result<Self, VotesError> {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        match name.strip_suffix(PACKED) {
            Some(entry) => Self::packed(path, entry),
            None => {
                let bytes = bounded(path, open(path)?)?;
                let text = String::from_utf8(bytes).map_err(|_| content(path, "it is not text"))?;
                Self::from_csv(&name, &text, class_names).map_err(|explanation| content(path, explanation))
            }
        }
    }

    /// Puts a table together from columns: the votes of each model, and the right classes.
    ///
    /// # Errors
    /// Says which size or class does not fit.
    pub fn new(
        name: &str,
        classes: usize,
        columns: &[Vec<u8>],
        truth: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let questions = columns.first().map_or(0, Vec::len);
        let models = u32::try_from(columns.len()).ok().filter(|models| (1..=VOTES_MAX).contains(models));
        let models =
            models.ok_or_else(|| format!("{} models; 1 to {VOTES_MAX} are supported", columns.len()))?;
        if !(1..=QUESTIONS_MAX).contains(&questions) {
            return Err(format!("{questions} questions; 1 to {QUESTIONS_MAX} are supported"));
        }
        if !(2..=CLASSES_MAX).contains(&classes) {
            return Err(format!("{classes} classes; 2 to {CLASSES_MAX} are supported"));
        }
        for column in columns.iter().chain(truth.as_ref()) {
            if column.len() != questions {
                return Err(format!(
                    "{} votes beside {questions}; every model votes on every question",
                    column.len()
                ));
            }
            if let Some(class) = column.iter().find(|class| usize::from(**class) >= classes) {
                return Err(format!("class {class}; there are {classes}, counted from 0"));
            }
        }
        let votes = (0..questions).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
        Ok(Self { name: name.to_owned(), classes, models, votes, truth })
    }

    fn packed(path: &Path, entry: &str) -> Result<Self, VotesError> {
        #[derive(Deserialize)]
        struct Manifest {
            ensembles: BTreeMap<String, Sizes>,
        }
        #[derive(Deserialize)]
        struct Sizes {
            owners: usize,
            test_n: usize,
            classes: usize,
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let manifest_path = folder.join("manifest.json");
        let manifest = bounded(&manifest_path, open(&manifest_path)?)?;
        let manifest: Manifest =
            serde_json::from_slice(&manifest).map_err(|error| content(&manifest_path, error.to_string()))?;
        let sizes = manifest.ensembles.get(entry);
        let sizes = sizes.ok_or_else(|| content(&manifest_path, format!("there is no entry {entry:?}")))?;
        let bytes = bounded(path, GzDecoder::new(open(path)?))?;
        if sizes.test_n == 0 || Some(bytes.len()) != sizes.owners.checked_mul(sizes.test_n) {
            let expected = format!("{} models with {} votes each", sizes.owners, sizes.test_n);
            return Err(content(path, format!("{} bytes, but the manifest says {expected}", bytes.len())));
        }
        let columns: Vec<Vec<u8>> = bytes.chunks_exact(sizes.test_n).map(<[u8]>::to_vec).collect();
        let set = entry.split('_').next().unwrap_or(entry);
        let labels = folder.join(format!("{set}.labels{PACKED}"));
        let truth =
            if labels.exists() { Some(bounded(&labels, GzDecoder::new(open(&labels)?))?) } else { None };
        Self::new(entry, sizes.classes, &columns, truth).map_err(|explanation| content(path, explanation))
    }

    fn from_csv(name: &str, text: &str, class_names: &[String]) -> Result<Self, String> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, heading) = lines.next().ok_or("it is empty; the first line names the columns")?;
        let heading: Vec<String> = heading.split(',').map(|cell| cell.trim().to_lowercase()).collect();
        if heading.iter().all(|cell| cell.parse::<f64>().is_ok()) {
            return Err(
                "the first line holds numbers; it should name the columns, such as `label,a,b,c`".into()
            );
        }
        let truth_at = heading.iter().position(|cell| TRUTH.contains(&cell.as_str()));
        let mut names = ClassNames::new(class_names);
        let mut columns = vec![Vec::new(); heading.len()];
        for (index, line) in lines {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            if cells.len() != heading.len() {
                return Err(format!(
                    "line {}: {} values under {} headings",
                    index + 1,
                    cells.len(),
                    heading.len()
                ));
            }
            for (column, cell) in columns.iter_mut().zip(cells) {
                let class = names.number(cell);
                column.push(class.map_err(|explanation| format!("line {}: {explanation}", index + 1))?);
            }
        }
        let truth = truth_at.map(|at| columns.remove(at));
        let largest = columns.iter().chain(&truth).flatten().max().map_or(0, |class| usize::from(*class) + 1);
        let classes = if class_names.is_empty() { largest.max(2) } else { class_names.len() };
        Self::new(name, classes, &columns, truth)
    }

    /// The file or entry that it comes from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Models that voted on every question.
    pub const fn models(&self) -> u32 {
        self.models
    }

    /// Classes.
    pub const fn classes(&self) -> usize {
        self.classes
    }

    /// Questions.
    pub fn questions(&self) -> usize {
        self.votes.len() / self.models as usize
    }

    /// The right class of a question; `None` where none are known or there is no such question.
    pub fn truth(&self, row: usize) -> Option<usize> {
        self.truth.as_ref()?.get(row).map(|class| usize::from(*class))
    }

    /// Votes per class on one question; all zero where there is no such question.
    pub fn histogram(&self, row: usize) -> Vec<u32> {
        let mut counts = vec![0; self.classes];
        self.row(row).iter().for_each(|class| counts[usize::from(*class)] += 1);
        counts
    }

    fn row(&self, row: usize) -> &[u8] {
        self.votes.chunks_exact(self.models as usize).nth(row).unwrap_or_default()
    }

    /// The three numbers that a model of these votes would take; `None` without right classes.
    pub fn tendency(&self) -> Option<Tendency> {
        let models = f64::from(self.models);
        let (mut sum, mut squares, mut wrong, mut rivals) = (0.0, 0.0, 0.0, 0.0);
        for row in 0..self.questions() {
            let (mut counts, truth) = (self.histogram(row), self.truth(row)?);
            let right = f64::from(std::mem::take(&mut counts[truth]));
            sum += right / models;
            squares += (right / models).powi(2);
            wrong += models - right;
            rivals += f64::from(counts.into_iter().max().unwrap_or(0));
        }
        let questions = self.questions() as f64;
        let accuracy = sum / questions;
        let variance = squares / questions - accuracy * accuracy;
        // Of the variance between questions, 1/models would be there with independent owners too.
        let shared = variance / (accuracy * (1.0 - accuracy));
        let likeness = if models > 1.0 { (shared - 1.0 / models) / (1.0 - 1.0 / models) } else { 0.0 };
        let rival = if wrong > 0.0 { rivals / wrong } else { 0.0 };
        likeness.is_finite().then(|| Tendency { accuracy, likeness: likeness.max(0.0), rival })
    }
}

/// Numbers for class names: known ones in their order, unknown ones in the order of their appearance.
struct ClassNames {
    known: Vec<String>,
    fixed: bool,
}

impl ClassNames {
    fn new(known: &[String]) -> Self {
        Self { known: known.to_vec(), fixed: !known.is_empty() }
    }

    fn number(&mut self, cell: &str) -> Result<u8, String> {
        let too_many = || format!("{cell:?}: more than {CLASSES_MAX} classes");
        let at = match self.known.iter().position(|name| name == cell) {
            Some(at) => at,
            None => match cell.parse::<usize>() {
                Ok(number) => number,
                Err(_) if self.fixed || cell.is_empty() => return Err(format!("{cell:?} is not a class")),
                Err(_) => {
                    self.known.push(cell.to_owned());
                    self.known.len() - 1
                }
            },
        };
        u8::try_from(at).ok().filter(|class| usize::from(*class) < CLASSES_MAX).ok_or_else(too_many)
    }
}

fn open(path: &Path) -> Result<std::fs::File, VotesError> {
    std::fs::File::open(path).map_err(|source| VotesError::Read { path: path.into(), source })
}

fn bounded(path: &Path, source: impl Read) -> Result<Vec<u8>, VotesError> {
    let mut bytes = Vec::new();
    let read = source.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| VotesError::Read { path: path.into(), source })?;
    if bytes.len() > BYTES_MAX { Err(VotesError::TooLarge { path: path.into() }) } else { Ok(bytes) }
}

fn content(path: &Path, explanation: impl Into<String>) -> VotesError {
    VotesError::Content { path: path.into(), explanation: explanation.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::Profile;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn csv(text: &str, names: &[&str]) -> Result<VoteTable, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        VoteTable::from_csv("votes.csv", text, &names)
    }

    #[test]
    fn a_csv_file_is_read_by_numbers_or_names() {
        let table = csv("a,b,c,label\n0,1,1,1\n\n2,2,0,2\n", &[]).unwrap();
        assert_eq!((table.models(), table.classes(), table.questions()), (3, 3, 2));
        assert_eq!((table.histogram(0), table.truth(1)), (vec![1, 2, 0], Some(2)));
        let named = csv("Label, a, b\nno, yes, no\nyes, yes, yes", &["yes", "no"]).unwrap();
        assert_eq!((named.histogram(0), named.truth(0)), (vec![1, 1], Some(1)));
        let unlabelled = csv("a,b\nsick,well\n", &[]).unwrap();
        assert_eq!((unlabelled.histogram(0), unlabelled.truth(0)), (vec![1, 1], None));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let (any, two): (&[&str], &[&str]) = (&[], &["no", "yes"]);
        for (text, names, expected) in [
            ("", any, "it is empty"),
            ("0,1\n1,1\n", any, "it should name the columns"),
            ("a,b\n0,1\n0\n", any, "line 3: 1 values under 2 headings"),
            ("a,b\n0,maybe\n", two, "line 2: \"maybe\" is not a class"),
            ("a,b\n0,64\n", any, "line 2: \"64\": more than 64 classes"),
            ("a,b\n0,3\n", two, "class 3; there are 2"),
            ("a,b\n", any, "0 questions"),
        ] {
            let found = csv(text, names).unwrap_err();
            assert!(found.contains(expected), "{text:?} gave {found:?}");
        }
    }

    #[test]
    fn a_packed_file_needs_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let pack = |name: &str, bytes: &[u8]| {
            let mut encoder =
                GzEncoder::new(std::fs::File::create(folder.path().join(name)).unwrap(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
        };
        pack("set_iid_N2.u8.gz", &[0, 1, 1, 1, 1, 0]);
        let path = folder.path().join("set_iid_N2.u8.gz");
        assert!(matches!(VoteTable::load(&path, &[]), Err(VotesError::Read { .. })));
        let manifest = |owners: usize| {
            let text = format!(
                r#"{{"ensembles": {{"set_iid_N2": {{"owners": {owners}, "test_n": 3, "classes": 2}}}}}}"#
            );
            std::fs::write(folder.path().join("manifest.json"), text).unwrap();
        };
        manifest(2);
        let table = VoteTable::load(&path, &[]).unwrap();
        assert_eq!((table.histogram(1), table.histogram(2), table.truth(0)), (vec![0, 2], vec![1, 1], None));
        pack("set.labels.u8.gz", &[1, 1, 0]);
        assert_eq!(VoteTable::load(&path, &[]).unwrap().truth(2), Some(0));
        manifest(3);
        let error = VoteTable::load(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("6 bytes, but the manifest says 3 models"), "{error}");
    }

    #[test]
    fn a_tendency_is_found_again() {
        // Each case of a model as often as its weight says, so that the measured numbers are the model's.
        let tendency = Tendency { accuracy: 0.8, likeness: 0.4, rival: 1.0 };
        let model = Profile::modelled(10, 3, tendency).unwrap();
        let (mut rows, mut truth) = (Vec::new(), Vec::new());
        for case in &model.cases {
            for _ in 0..(case.weight * 20_000.0).round() as usize {
                let votes =
                    case.counts.iter().zip(0u8..).flat_map(|(count, class)| vec![class; *count as usize]);
                rows.push(votes.collect::<Vec<u8>>());
                truth.push(case.truth.unwrap() as u8);
            }
        }
        let columns: Vec<Vec<u8>> =
            (0..10).map(|model| rows.iter().map(|row| row[model]).collect()).collect();
        let found = VoteTable::new("t", 3, &columns, Some(truth)).unwrap().tendency().unwrap();
        for (found, expected) in [(found.accuracy, 0.8), (found.likeness, 0.4), (found.rival, 1.0)] {
            assert!((found - expected).abs() < 0.005, "{found} {expected}");
        }
    }
}
