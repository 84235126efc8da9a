//! Spending a budget once: from a few answers of the consortium to a student that answers without limit.
//!
//! The client has unlabelled rows of its own. [`clusters`] chooses which of them to ask about, the consortium
//! answers as it always does and charges its ledgers, [`Graph`] spreads the answers to rows that are alike,
//! and [`Ground::teach`] trains a student on all rows. The owners' promise covers the released labels; what
//! is computed from them and the client's own rows costs nothing more, however often it is asked.
//!
//! The promise does not cover the client's rows: the student may give them away.

mod ask;
mod choice;
mod curve;
mod deliver;
mod learn;
mod rows;
mod space;
mod spread;
mod student;
mod work;

pub(crate) use ask::{ATTEMPTS_MAX, Line, ask_all};
pub use ask::{AskError, Ended, Patience};
pub use choice::clusters;
pub use curve::{CurvePoint, TestRows, curve};
pub use deliver::{labels_csv, npy};
pub use learn::{Ground, LearnError, Taught, student_network};
pub use rows::{Rows, RowsError, UNLABELLED_MAX};
pub use space::Space;
pub use spread::{Graph, Labelled};
pub use student::{
    Counts, PROTECTS, PROTECTS_EXACT, PROTECTS_NOT, Provenance, REPORT_FILE, STUDENT_FILE, Scaling, Student,
    StudentError, protects, sha256,
};
pub use work::{Asked, Entry, Heading, Outcome, Work, WorkError};
