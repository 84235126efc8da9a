//! A student with the paper that says where it comes from.

use super::curve::CurvePoint;
use super::rows::prepared_by;
use crate::vault::{VaultError, hex, read_bounded};
use consilium_config::Features;
use consilium_protocol::evaluate::float::{argmax, logits};
use consilium_protocol::graph::Shape;
use consilium_protocol::model::{FILE_BYTES_MAX, ImportError, Model, import_for};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the student's file.
pub const STUDENT_FILE: &str = "student.onnx";
/// Name of its paper, beside it.
pub const REPORT_FILE: &str = "report.json";
const REPORT_BYTES_MAX: u64 = 16 << 20;

/// What a promise to the owners covers after distillation.
pub const PROTECTS: &str = "The student is made from the released labels and the client's own rows alone. \
What it says about the owners' training data is bounded by the epsilon above, however often it is asked and \
whoever gets it (post-processing).";
/// The same where labels are released exactly: nothing.
pub const PROTECTS_EXACT: &str = "The student is made from the released labels and the client's own rows \
alone. The labels were released exactly: nothing is promised about anybody's data. Whatever these labels \
give away about the owners' training data, the student may give away too.";
/// What it does not.
pub const PROTECTS_NOT: &str = "Nothing hides the client's own unlabelled rows in the student: whoever has it \
may learn about them. Keep it as confidential as these rows. A student may be wrong where the consortium is \
right.";

/// What a student's paper says that is protected; `promised` is false where labels are released exactly.
pub const fn protects(promised: bool) -> &'static str {
    if promised { PROTECTS } else { PROTECTS_EXACT }
}

/// Why a student cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StudentError {
    /// A file.
    #[error(transparent)]
    File(#[from] VaultError),
    /// The paper is not one.
    #[error("{path} does not say where the student comes from: {source}")]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The paper belongs to another student.
    #[error(
        "{report} speaks of another student than {student}; keep both files of one distillation together"
    )]
    Other {
        /// The paper.
        report: PathBuf,
        /// The student.
        student: PathBuf,
    },
    /// The model cannot be read.
    #[error("{path}: {source}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<ImportError>,
    },
    /// Classes that the model does not have.
    #[error("the student has {outputs} outputs, its paper names {classes} classes")]
    Classes {
        /// Outputs of the model.
        outputs: usize,
        /// Classes of the paper.
        classes: usize,
    },
    /// A row that the student does not take.
    #[error("row {row}: {problem}")]
    Row {
        /// Position of the row, from 1.
        row: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// What `report.json` says. Later versions add fields and rename none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Always true; tells this file from others.
    pub student: bool,
    /// Digest of `student.onnx`, SHA-256 in hexadecimal.
    pub student_sha256: String,
    /// Summary of the student's network.
    pub network: String,
    /// The task that it was distilled from.
    pub task: String,
    /// What the task is about.
    pub title: String,
    /// The labels.
    pub classes: Vec<String>,
    /// Shape of the student's input.
    pub input: Shape,
    /// Public bound of the task on each value.
    pub input_abs_max: f64,
    /// Public normalisation of raw values.
    pub features: Option<Scaling>,
    /// Unlabelled rows.
    pub rows: usize,
    /// Digest of the unlabelled rows.
    pub rows_digest: String,
    /// What the distillation asked and got.
    pub asked: Counts,
    /// Why asking ended.
    pub ended: String,
    /// How labels were released.
    pub mechanism: String,
    /// Whose data the promise covers.
    pub unit: String,
    /// Privacy loss of all answers to each owner; `None` for exact releases.
    pub epsilon: Option<f64>,
    /// The same if every lost question was charged as well.
    pub epsilon_at_most: Option<f64>,
    /// Probability with which the promise may fail.
    pub delta: Option<String>,
    /// Accuracy of the student on the client's own test rows, where it has some.
    pub accuracy: Option<f64>,
    /// Students of growing parts of the answers.
    pub curve: Vec<CurvePoint>,
    /// What the promise covers.
    pub protects: String,
    /// What it does not.
    pub protects_not: String,
}

/// Questions of a distillation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Labels wanted.
    pub wanted: usize,
    /// Labels given.
    pub labels: usize,
    /// Charged, but the owners did not agree clearly enough.
    pub no_consensus: usize,
    /// Broken off by a failure; they may be charged.
    pub lost: usize,
}

/// Public normalisation, as the task had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// One per value, or one for all.
    pub offset: Vec<f64>,
    /// One per value, or one for all.
    pub scale: Vec<f64>,
}

impl Scaling {
    /// The task's normalisation.
    pub fn of(features: &Features) -> Self {
        Self { offset: features.offset.clone(), scale: features.scale.clone() }
    }

    fn features(&self) -> Features {
        Features { names: Vec::new(), offset: self.offset.clone(), scale: self.scale.clone() }
    }
}

/// A student that answers on this machine.
#[derive(Debug)]
pub struct Student {
    model: Model,
    provenance: Provenance,
}

impl Student {
    /// Reads a student and the `report.json` beside it, which must speak of this very file.
    ///
    /// # Errors
    /// [`StudentError`].
    pub fn load(path: &Path) -> Result<Self, StudentError> {
        let bytes = read_bounded(path, FILE_BYTES_MAX as u64)?;
        let report = path.with_file_name(REPORT_FILE);
        let text = read_bounded(&report, REPORT_BYTES_MAX)?;
        let provenance: Provenance = serde_json::from_slice(&text)
            .map_err(|source| StudentError::Report { path: report.clone(), source })?;
        if provenance.student_sha256 != sha256(&bytes) {
            return Err(StudentError::Other { report, student: path.to_owned() });
        }
        let failed = |source| StudentError::Model { path: path.to_owned(), source: Box::new(source) };
        let model = import_for(&bytes, Some(provenance.input)).map_err(failed)?.model;
        let (outputs, classes) = (model.network().output().len(), provenance.classes.len());
        if outputs != classes {
            return Err(StudentError::Classes { outputs, classes });
        }
        Ok(Self { model, provenance })
    }

    /// Where it comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The class of each row of raw values.
    ///
    /// # Errors
    /// A row of another width, or with values beyond the task's public bound, of which the student knows
    /// nothing.
    pub fn answer(&self, rows: &[Vec<f64>]) -> Result<Vec<usize>, StudentError> {
        let expected = self.provenance.input.len();
        let (features, bound) = (self.provenance.features.as_ref(), self.provenance.input_abs_max);
        let features = features.map(Scaling::features);
        let mut answers = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let refused = |problem| StudentError::Row { row: index + 1, problem };
            if row.len() != expected {
                return Err(refused(format!("{} values; the student takes {expected}", row.len())));
            }
            let mut values = Vec::with_capacity(expected);
            for (at, value) in prepared_by(features.as_ref(), bound, row).enumerate() {
                if value.is_nan() || value.abs() > bound {
                    let text = format!("value {} is beyond {bound}, the task's public bound", at + 1);
                    return Err(refused(text));
                }
                values.push(value as f32);
            }
            answers.push(argmax(&logits(&self.model, &values)));
        }
        Ok(answers)
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::graph::{Layer, Network};
    use consilium_protocol::model::{Weights, export};

    /// Class 1 where the first value, after normalisation, is the larger one.
    fn write(folder: &Path) -> Provenance {
        let network = Network::new(Shape::vector(2), vec![Layer::Dense { outputs: 2 }]).unwrap();
        let weights = Weights { weight: vec![0.0, 1.0, 1.0, 0.0], bias: vec![0.0; 2] };
        let file = export(&Model::new(network, vec![weights]).unwrap(), "test");
        std::fs::write(folder.join(STUDENT_FILE), &file).unwrap();
        let provenance = Provenance {
            student: true,
            student_sha256: sha256(&file),
            network: "2-2".into(),
            task: "t".into(),
            title: "?".into(),
            classes: vec!["second".into(), "first".into()],
            input: Shape::vector(2),
            input_abs_max: 4.0,
            features: Some(Scaling { offset: vec![100.0, 0.0], scale: vec![1.0] }),
            rows: 9,
            rows_digest: String::new(),
            asked: Counts::default(),
            ended: String::new(),
            mechanism: String::new(),
            unit: "owner".into(),
            epsilon: Some(3.5),
            epsilon_at_most: Some(3.5),
            delta: Some("0.000001".into()),
            accuracy: None,
            curve: vec![CurvePoint { labels: 3, epsilon: None, agreement: 0.5, accuracy: Some(0.25) }],
            protects: protects(true).into(),
            protects_not: PROTECTS_NOT.into(),
        };
        save(folder, &provenance);
        provenance
    }

    fn save(folder: &Path, provenance: &Provenance) {
        std::fs::write(folder.join(REPORT_FILE), serde_json::to_vec(provenance).unwrap()).unwrap();
    }

    #[test]
    fn a_student_answers_raw_rows_and_knows_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let provenance = write(folder.path());
        let student = Student::load(&folder.path().join(STUDENT_FILE)).unwrap();
        assert_eq!(student.provenance(), &provenance);
        let rows = [vec![101.0, 0.5], vec![101.0, 1.5], vec![1e6, 3.9]];
        assert_eq!(student.answer(&rows).unwrap(), [1, 0, 1]);
        for bad in [vec![1.0], vec![1.0, f64::NAN], vec![1.0; 3]] {
            let refused = student.answer(&[vec![101.0, 0.5], bad]).unwrap_err();
            assert!(matches!(refused, StudentError::Row { row: 2, .. }), "{refused}");
        }
    }

    #[test]
    fn exact_labels_come_with_no_bound() {
        assert!(protects(true).contains("bounded by the epsilon above"));
        let exact = protects(false);
        assert!(exact.contains("nothing is promised about anybody's data") && !exact.contains("epsilon"));
    }

    #[test]
    fn a_student_without_its_own_paper_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let provenance = write(folder.path());
        let load = || Student::load(&folder.path().join(STUDENT_FILE)).unwrap_err();
        save(folder.path(), &Provenance { student_sha256: "00".into(), ..provenance.clone() });
        assert!(matches!(load(), StudentError::Other { .. }));
        save(folder.path(), &Provenance { classes: vec!["one".into()], ..provenance.clone() });
        assert!(matches!(load(), StudentError::Classes { outputs: 2, classes: 1 }));
        save(folder.path(), &Provenance { input: Shape::vector(3), ..provenance });
        assert!(matches!(load(), StudentError::Model { .. }));
        std::fs::write(folder.path().join(REPORT_FILE), "{}").unwrap();
        assert!(matches!(load(), StudentError::Report { .. }));
        std::fs::remove_file(folder.path().join(REPORT_FILE)).unwrap();
        assert!(matches!(load(), StudentError::File(_)));
    }
}
