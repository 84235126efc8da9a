//! One spool file: a header in the clear, then one sealed record for each bundle of a batch.
//!
//! All records have the same length, so that one is read without the others. A record opens only with the
//! key of its file and under the pool, task, seat, plan and serial that it was sealed for.

use super::record::{Batch, BatchRow, Purpose};
use super::{Bundle, PoolError, PoolId};
use crate::vault::{self, StorageKey, VaultError, hex};
use consilium_protocol::algebra::Seed;
use consilium_protocol::party::Party;
use std::path::Path;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"CONSPOOL";
const VERSION: u32 = 1;
/// Magic, version, seat, pool, first, count, bytes of a record, tag.
pub(super) const HEADER_BYTES: u64 = 8 + 4 + 4 + 16 + 8 + 4 + 8 + 16;
const SEED_BYTES: usize = 16;
const WORD_BYTES: usize = size_of::<u64>();
/// Form of the bundle, and its seed.
const FIXED_BYTES: usize = 1 + SEED_BYTES;
const SEEDED: u8 = 1;
const STORED: u8 = 2;
/// Dependent words of one bundle, more than which nobody makes.
pub const BUNDLE_WORDS_MAX: usize = 1 << 27;
/// Bytes that sealing adds.
const SEAL_BYTES: usize = 29;

/// What a spool file is about.
pub(super) struct Spool<'a> {
    pub(super) path: &'a Path,
    pub(super) pool: PoolId,
    pub(super) purpose: &'a Purpose,
    pub(super) batch: Batch,
}

/// Bytes of one sealed record, which all bundles of a batch share.
pub(super) fn record_bytes(bundles: &[Bundle]) -> Result<u64, PoolError> {
    let shape = || PoolError::Shape { count: bundles.len() };
    let (first, rest) = bundles.split_first().ok_or_else(shape)?;
    let same = |bundle: &Bundle| bundle.form() == first.form() && bundle.words() == first.words();
    if !rest.iter().all(same) || first.words() > BUNDLE_WORDS_MAX || u32::try_from(bundles.len()).is_err() {
        return Err(shape());
    }
    Ok((FIXED_BYTES + first.words() * WORD_BYTES + SEAL_BYTES) as u64)
}

impl Spool<'_> {
    fn context(&self, serial: u64) -> String {
        let Purpose { task, seat, plan, .. } = self.purpose;
        format!(
            "pool {} of {task} seat {seat} plan {} serial {serial}",
            hex::encode(&self.pool),
            hex::encode(plan)
        )
    }

    fn header(&self, record_bytes: u64) -> Vec<u8> {
        let seat: u32 = if self.purpose.seat == Party::Zero { 0 } else { 1 };
        let Batch { first, count, tag } = self.batch;
        let numbers = [&first.to_le_bytes()[..], &count.to_le_bytes(), &record_bytes.to_le_bytes()].concat();
        [&MAGIC[..], &VERSION.to_le_bytes(), &seat.to_le_bytes(), &self.pool, &numbers, &tag].concat()
    }

    /// Writes all bundles; when this returns the file is on the disk.
    pub(super) fn write(&self, key: &StorageKey, bundles: &[Bundle]) -> Result<(), PoolError> {
        let header = self.header(record_bytes(bundles)?);
        let seal = |(serial, bundle): (u64, &Bundle)| key.seal(&self.context(serial), &bundle.plain());
        let records = (self.batch.first..).zip(bundles).map(seal);
        Ok(vault::write_pieces(self.path, std::iter::once(Ok(header)).chain(records))?)
    }

    fn damaged(&self, detail: impl Into<String>) -> PoolError {
        PoolError::Damaged { path: self.path.to_owned(), detail: detail.into() }
    }

    fn unreadable(&self, error: VaultError) -> PoolError {
        match error {
            VaultError::Io { action, source, .. } => {
                self.damaged(format!("cannot be used: {action}: {source}"))
            }
            other => self.damaged(format!("cannot be used: {other}")),
        }
    }

    /// Whether the file is there, whole, and the one that the index means. Its records are not opened.
    pub(super) fn check(&self, row: &BatchRow) -> Result<(), PoolError> {
        let expected = HEADER_BYTES.saturating_add(row.record_bytes.saturating_mul(u64::from(row.count)));
        let found =
            std::fs::metadata(self.path).map_err(|error| self.damaged(format!("is missing: {error}")))?.len();
        if found != expected {
            return Err(self.damaged(format!("has {found} bytes where {expected} were written")));
        }
        let header = vault::read_at(self.path, 0, HEADER_BYTES as usize);
        if header.map_err(|error| self.unreadable(error))? != self.header(row.record_bytes) {
            return Err(self.damaged("belongs to another pool, batch or version"));
        }
        Ok(())
    }

    /// Reads one bundle.
    pub(super) fn read(&self, row: &BatchRow, key: &StorageKey, serial: u64) -> Result<Bundle, PoolError> {
        let most = FIXED_BYTES + BUNDLE_WORDS_MAX * WORD_BYTES + SEAL_BYTES;
        let length = usize::try_from(row.record_bytes).ok().filter(|length| *length <= most);
        let length = length.ok_or_else(|| self.damaged("has records of an impossible length"))?;
        let index = serial.saturating_sub(self.batch.first);
        let offset = HEADER_BYTES.saturating_add(row.record_bytes.saturating_mul(index));
        self.check(row)?;
        let sealed = vault::read_at(self.path, offset, length).map_err(|error| self.unreadable(error))?;
        let plain = key.open(&self.context(serial), &sealed);
        let plain = plain.map_err(|_| self.damaged(format!("has a damaged record of serial {serial}")))?;
        Bundle::from_plain(&plain)
            .ok_or_else(|| self.damaged(format!("has a malformed record of serial {serial}")))
    }
}

impl Bundle {
    fn form(&self) -> u8 {
        match self {
            Self::Seeded(..) => SEEDED,
            Self::Stored(..) => STORED,
        }
    }

    fn words(&self) -> usize {
        match self {
            Self::Seeded(_, words) | Self::Stored(_, words) => words.len(),
        }
    }

    fn plain(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(FIXED_BYTES + self.words() * WORD_BYTES));
        plain.push(self.form());
        let (Self::Seeded(seed, words) | Self::Stored(seed, words)) = self;
        plain.extend_from_slice(seed.as_bytes());
        words.iter().for_each(|word| plain.extend_from_slice(&word.to_le_bytes()));
        plain
    }

    fn from_plain(plain: &[u8]) -> Option<Self> {
        let (form, rest) = plain.split_first()?;
        let (seed, rest) = rest.split_first_chunk::<SEED_BYTES>()?;
        let seed = Seed::from_bytes(*seed);
        let (words, odd) = rest.as_chunks::<WORD_BYTES>();
        let words = Zeroizing::new(words.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect());
        match *form {
            SEEDED if odd.is_empty() => Some(Self::Seeded(seed, words)),
            STORED if odd.is_empty() => Some(Self::Stored(seed, words)),
            _ => None,
        }
    }
}
