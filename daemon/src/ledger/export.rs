//! A whole ledger in a file that anybody can check without this node.
//!
//! ```text
//! {"export": {format, consortium, pair, party, peer, other, at}}
//! {"previous": …, "hash": …, "record": {version, sequence, entry}}     one line a record
//! {"summary": {records, head, other_head, accounts}}
//! {"signature": …}                                                     over the lines above
//! ```
//!
//! Byte strings are hexadecimal, amounts whole units of 2^-40. The hash of a record is that of its canonical
//! CBOR form, which its JSON form determines. Output shares are not part of it.

use super::books::{ACCOUNTS, CLIENT};
use super::{Head, LedgerError, Snapshot};
use crate::net::{Identity, PeerId};
use crate::vault::hex;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

pub(super) const FORMAT: u64 = 1;
pub(super) const DOMAIN: &str = "consilium ledger export 1";

/// Whose ledger it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHeader {
    /// Version of the file's format.
    pub format: u64,
    /// Name of the consortium.
    pub consortium: String,
    /// The pair.
    pub pair: String,
    /// The compute party whose ledger this is.
    pub party: String,
    /// Its identity key, which signs the file.
    pub peer: PeerId,
    /// The other compute party.
    pub other: String,
    /// When, in seconds since 1970 by the party's clock.
    pub at: u64,
}

/// What an export says about itself at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Summary {
    pub(super) records: u64,
    pub(super) head: Head,
    /// The newest head that the other party has shown.
    pub(super) other_head: Option<Head>,
    pub(super) accounts: Vec<SummaryAccount>,
}

/// An account as the party's own tables have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SummaryAccount {
    pub(super) task: String,
    pub(super) client: bool,
    pub(super) name: String,
    pub(super) data_epoch: u32,
    pub(super) spent: u64,
    pub(super) limit: u64,
}

/// The lines of a file, as they are read back.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Ends {
    Export(ExportHeader),
    Summary(Summary),
    Signature(#[serde(with = "hex")] [u8; 64]),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The last record in the file.
    pub head: Head,
}

/// Hashes what passes.
struct Hashing<W> {
    inner: W,
    hash: Context,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl ExportHeader {
    /// The header of a file in the format of this program.
    pub fn new(
        consortium: &str,
        pair: &str,
        (party, identity): (&str, &Identity),
        other: &str,
        at: u64,
    ) -> Self {
        Self {
            format: FORMAT,
            consortium: consortium.to_owned(),
            pair: pair.to_owned(),
            party: party.to_owned(),
            peer: identity.peer_id(),
            other: other.to_owned(),
            at,
        }
    }
}

impl Snapshot {
    /// Writes the whole ledger as a signed file. The chain is checked on the way.
    ///
    /// # Errors
    /// [`LedgerError::Export`] when `writer` fails, otherwise as [`Snapshot::verify`].
    pub fn export_signed(
        &self,
        header: ExportHeader,
        identity: &Identity,
        writer: impl Write,
    ) -> Result<Exported, LedgerError> {
        let head = self.head()?;
        let other_head = self.seen_of(&header.other)?;
        let mut writer = Hashing { inner: writer, hash: Context::new(&SHA256) };
        line(&mut writer, &Ends::Export(header))?;
        self.export(&mut writer)?;
        let accounts =
            self.rows(ACCOUNTS, |(task, kind, name, data_epoch), (spent, limit)| SummaryAccount {
                task: task.to_owned(),
                client: kind == CLIENT,
                name: name.to_owned(),
                data_epoch,
                spent,
                limit,
            })?;
        let summary = Summary { records: head.sequence.saturating_add(1), head, other_head, accounts };
        line(&mut writer, &Ends::Summary(summary))?;
        let Hashing { mut inner, hash } = writer;
        let signature = identity.sign(DOMAIN, hash.finish().as_ref());
        let signature = signature.try_into().map_err(|_| LedgerError::Signature("this node".to_owned()))?;
        line(&mut inner, &Ends::Signature(signature))?;
        inner.flush().map_err(LedgerError::Export)?;
        Ok(Exported { head })
    }
}

fn line(writer: &mut impl Write, value: &impl Serialize) -> Result<(), LedgerError> {
    serde_json::to_writer(&mut *writer, value).map_err(|error| LedgerError::Export(error.into()))?;
    writer.write_all(b"\n").map_err(LedgerError::Export)
}
