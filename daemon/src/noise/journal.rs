//! What vouched for the module and what it drew, kept beside the ledger for auditors.
//!
//! One JSON object a line. The ledger names the ticket of every release; the line of its batch has the
//! specification that both parties signed and the module's receipt, and an earlier line the evidence that bound
//! the key of that receipt. All of it is public within the pair: shares stand in receipts as salted hashes.

use crate::ledger::seconds_now;
use crate::vault::hex;
use consilium_attest::module::receipt::Receipt;
use consilium_attest::module::specification::SignedSpecification;
use consilium_attest::{Evidence, VerifiedModule};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The record could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot record what the module drew in {path}: {source}; its noise is not used")]
pub struct JournalError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The file of one seat.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens the file to append to it, and makes it if it is not there.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = file.map_err(|source| JournalError { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// A module whose evidence was accepted.
    pub(super) fn accepted(&self, evidence: &Evidence, module: &VerifiedModule) -> Result<(), JournalError> {
        self.append(&json!({
            "accepted": {
                "at": module.verified_at(),
                "until": module.valid_until(),
                "kind": module.kind().name(),
                "boot": hex::encode(&module.boot()),
                "receipt_key": hex::encode(&module.receipt_key()),
                "measurement": module.measurement(),
                "platform": module.platform(),
                "level": module.level(),
                "evidence": hex::encode(&evidence.encode()),
            }
        }))
    }

    /// A batch of which both parties hold the same receipt, before any of it is used.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn drawn(
        &self,
        task: &str,
        signed: &SignedSpecification,
        receipt: &Receipt,
    ) -> Result<(), JournalError> {
        self.append(&json!({
            "drawn": {
                "at": seconds_now(),
                "task": task,
                "boot": hex::encode(&receipt.boot),
                "batch": receipt.number,
                "specification": hex::encode(&signed.encode()),
                "receipt": hex::encode(&receipt.encode()),
            }
        }))
    }

    /// A line that a crash cuts short is ended by the next one's newline, and is nobody's noise.
    fn append(&self, value: &Value) -> Result<(), JournalError> {
        let line = format!("{value}\n");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|source| JournalError { path: self.path.clone(), source })
    }
}
