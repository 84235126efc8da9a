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
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Whether the file may end within a line.
    torn: bool,
    /// Boot and receipt key of the module whose evidence was recorded last.
    recorded: Option<([u8; 16], [u8; 32])>,
}

impl Journal {
    /// Opens the file to append to it, and makes it if it is not there.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        let file = file.map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut last = [b'\n'];
        if let Some(at) = length.checked_sub(1) {
            file.read_exact_at(&mut last, at).map_err(failed)?;
        }
        if let Some(folder) = path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let open = Open { file, torn: last != [b'\n'], recorded: None };
        Ok(Self { path: path.to_owned(), open: Mutex::new(open) })
    }

    /// A batch of which both parties hold the same receipt, before any of it is used; and before the first of a
    /// module's, the evidence that bound the key of its receipts.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn drawn(
        &self,
        task: &str,
        signed: &SignedSpecification,
        receipt: &Receipt,
        (evidence, module): (&Evidence, &VerifiedModule),
    ) -> Result<(), JournalError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let drawn = json!({
            "drawn": {
                "at": seconds_now(),
                "task": task,
                "boot": hex::encode(&receipt.boot),
                "batch": receipt.number,
                "specification": hex::encode(&signed.encode()),
                "receipt": hex::encode(&receipt.encode()),
            }
        });
        let whose = (module.boot(), module.receipt_key());
        let accepted = (open.recorded != Some(whose)).then(|| accepted(evidence, module));
        let written = open.append(accepted.iter().chain([&drawn]));
        written.map_err(|source| JournalError { path: self.path.clone(), source })?;
        open.recorded = Some(whose);
        Ok(())
    }
}

impl Open {
    /// Appends lines. What a crash or a full disk cut short is ended first, so that it spoils nothing but itself.
    fn append<'v>(&mut self, values: impl Iterator<Item = &'v Value>) -> io::Result<()> {
        let mut text = if self.torn { "\n".to_owned() } else { String::new() };
        values.for_each(|value| text.push_str(&format!("{value}\n")));
        self.torn = true;
        self.file.write_all(text.as_bytes())?;
        self.torn = false;
        self.file.sync_data()
    }
}

/// A module whose evidence was accepted.
fn accepted(evidence: &Evidence, module: &VerifiedModule) -> Value {
    json!({
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_short_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("module.jsonl");
        let write = |number: u64| {
            let journal = Journal::open(&path).unwrap();
            journal.open.lock().unwrap().append([&json!({ "number": number })].into_iter()).unwrap();
        };
        write(1);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"drawn\":{\"at"].concat()).unwrap();
        write(2);
        write(3);
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Option<Value>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
        let numbers: Vec<_> =
            read.iter().map(|line| line.as_ref().map(|line| line["number"].clone())).collect();
        assert_eq!(numbers, [Some(json!(1)), None, Some(json!(2)), Some(json!(3))]);
    }
}
