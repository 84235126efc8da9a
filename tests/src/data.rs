//! The evaluation data that lies beside the repository, in `../shared/data` or where `CONSILIUM_SHARED`
//! points.
//!
//! It is too large to travel with the code and nothing but the larger evaluations needs it: where it is
//! absent, [`shared_or_skip`] says so and the caller returns. Where it is present, a file that is damaged,
//! too large or not what its manifest says is an error, never a skip.

mod baselines;
mod files;
mod idx;
mod letters;
mod sets;

pub use baselines::{Ensemble, ensemble, ensemble_names, owner_models, owner_networks};
pub use letters::{letters, letters_path};
pub use sets::{Dataset, Set, load, load_test, test_path};

use consilium::training::ExamplesError;
use consilium_protocol::graph::NetworkError;
use consilium_protocol::model::ModelError;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Why shared data could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file is missing or unreadable, or its compression is damaged.
    #[error("cannot read {path}; check it against SHA256SUMS beside it")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file unpacks to more than it may.
    #[error("{path} unpacks to more than {limit} bytes; check it against SHA256SUMS beside it")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes allowed.
        limit: usize,
    },
    /// The file holds more or less than it should.
    #[error("{path} holds {found} bytes, {expected} were expected")]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes expected.
        expected: usize,
        /// Bytes found, unpacked.
        found: usize,
    },
    /// Not an IDX file of bytes with this many dimensions, or sizes beyond the limit.
    #[error("{path} is not an IDX file of bytes in {dimensions} dimensions of bounded size")]
    Idx {
        /// The file.
        path: PathBuf,
        /// Dimensions expected.
        dimensions: usize,
    },
    /// A line of a table is not what it should be.
    #[error("line {line} of {path} is not a row of the table; check it against SHA256SUMS beside it")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The manifest is not the JSON it should be.
    #[error("manifest {path}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The manifest does not name this entry.
    #[error("manifest {path} has no entry {name}")]
    NoSuchEntry {
        /// The file.
        path: PathBuf,
        /// Entry asked for.
        name: String,
    },
    /// A size in the manifest is zero, too large, or does not go with another.
    #[error("manifest {path}: entry {name} has impossible sizes")]
    Sizes {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
    },
    /// A label or vote is not a class.
    #[error("{path} names class {class}, there are {classes}")]
    Class {
        /// The file.
        path: PathBuf,
        /// The class named.
        class: u8,
        /// Number of classes.
        classes: usize,
    },
    /// Rows and labels do not make examples.
    #[error("examples of {path}")]
    Examples {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ExamplesError,
    },
    /// The layers of the manifest do not make a network.
    #[error("network of {path}")]
    Network {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NetworkError,
    },
    /// The weights do not make a model.
    #[error("weights of {path}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ModelError,
    },
}

/// The folder `shared` with evaluation data: `CONSILIUM_SHARED` where it is set, else beside the repository.
/// `None` where that has no folder `data`.
pub fn shared_dir() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("CONSILIUM_SHARED").map_or_else(beside, PathBuf::from);
    folder.join("data").is_dir().then_some(folder)
}

/// [`shared_dir`], or a line on the terminal that says what is skipped and why. It bypasses the capture of
/// test output: a skipped evaluation must not look like one that passed.
pub fn shared_or_skip(what: &str) -> Option<PathBuf> {
    let found = shared_dir();
    if found.is_none() {
        let reason =
            "no data in ../shared beside the repository; set CONSILIUM_SHARED to the folder that has it";
        say_skipped(what, reason);
    }
    found
}

/// The file that a variable of the environment names, or such a line.
pub fn named_or_skip(what: &str, variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        say_skipped(what, &format!("{variable} names no file"));
    }
    found
}

fn say_skipped(what: &str, reason: &str) {
    // A terminal that cannot be written to is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {reason}");
}

#[cfg(test)]
mod accuracy;
