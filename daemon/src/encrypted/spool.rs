//! Where queries lie while they are answered: a folder of bounded size, in which each client has one query.

use crate::message::{Obstacle, Refusal};
use crate::transfer::local;
use crate::vault::{VaultError, private_directory, remove_tree};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Queries of all clients at a time, the one that is worked on included.
const QUERIES_MAX: usize = 4;
/// Bytes of all of them with their keys and answers.
const BYTES_MAX: u64 = 4 << 30;
/// Bytes of one of them, so that no query keeps others out that are as many as may be.
pub(super) const QUERY_BYTES_MAX: u64 = BYTES_MAX / QUERIES_MAX as u64;

/// The folder.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    queries_max: usize,
    bytes_max: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    clients: HashSet<String>,
    bytes: u64,
    number: u64,
}

/// A place for one query and its answer. Dropping it removes both.
#[derive(Debug)]
pub(super) struct Berth {
    spool: Arc<Spool>,
    client: String,
    bytes: u64,
    /// Where evaluation keys come in.
    pub(super) keys: PathBuf,
    /// Where the query comes in.
    pub(super) query: PathBuf,
    /// Where the answer is written.
    pub(super) answer: PathBuf,
}

impl Spool {
    /// An empty folder. What an earlier run left there is removed.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(super) fn open(folder: &Path) -> Result<Self, VaultError> {
        remove_tree(folder)?;
        private_directory(folder)?;
        let (queries_max, bytes_max) = (QUERIES_MAX, BYTES_MAX);
        Ok(Self { folder: folder.to_owned(), queries_max, bytes_max, held: Mutex::default() })
    }

    /// A place for a query of so many bytes, keys and answer included.
    ///
    /// # Errors
    /// [`Obstacle::Busy`] where the client has a query here, or there are too many: ask again later.
    pub(super) fn enter(self: &Arc<Self>, client: &str, bytes: u64) -> Result<Berth, Refusal> {
        let mut held = self.lock();
        let busy = |text: String| Err(Refusal::new(Obstacle::Busy, text));
        if held.clients.contains(client) {
            return busy(format!("a query of {client} is being answered; ask again when it is"));
        }
        if held.clients.len() >= self.queries_max {
            return busy(
                "the owner answers as many queries as it takes at a time; ask again later".to_owned(),
            );
        }
        let after = held.bytes.checked_add(bytes).filter(|after| *after <= self.bytes_max);
        let Some(after) = after else {
            return busy(format!("{bytes} bytes more than there are now are not spooled; ask again later"));
        };
        held.bytes = after;
        held.clients.insert(client.to_owned());
        held.number += 1;
        let at = |kind: &str| self.folder.join(format!("{}.{kind}", held.number));
        let (keys, query, answer) = (at("keys"), at("query"), at("answer"));
        drop(held);
        Ok(Berth { spool: self.clone(), client: client.to_owned(), bytes, keys, query, answer })
    }

    /// Queries that are here.
    pub(super) fn queries(&self) -> usize {
        self.lock().clients.len()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Berth {
    /// Whether nothing of it is left on the disk.
    fn clear(&self) -> Result<(), Refusal> {
        for path in [&self.keys, &self.query, &self.answer] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(local(VaultError::io(path, "remove", error)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if let Err(refusal) = self.clear() {
            tracing::warn!("{refusal}; the next start removes it");
        }
        let mut held = self.spool.lock();
        held.clients.remove(&self.client);
        held.bytes = held.bytes.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(queries_max: usize, bytes_max: u64) -> (tempfile::TempDir, Arc<Spool>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("left-over"), "x").unwrap();
        let spool = Spool { queries_max, bytes_max, ..Spool::open(&path).unwrap() };
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "what was left is gone");
        (folder, Arc::new(spool))
    }

    #[test]
    fn a_client_has_one_query_and_all_have_few() {
        let (_folder, spool) = spool(2, 100);
        let told = |client: &str, bytes| spool.enter(client, bytes).unwrap_err();
        let first = spool.enter("a", 60).unwrap();
        assert_eq!(told("a", 1).obstacle, Obstacle::Busy);
        assert!(told("b", 41).explanation.contains("not spooled"));
        let second = spool.enter("b", 40).unwrap();
        assert!(told("c", 0).explanation.contains("as many queries as it takes"));
        assert_ne!(first.query, second.query);
        std::fs::write(&first.query, "q").unwrap();
        std::fs::write(&first.answer, "a").unwrap();
        let path = first.query.clone();
        drop(first);
        assert!(!path.exists());
        assert_eq!(spool.queries(), 1);
        let third = spool.enter("a", 60).unwrap();
        drop((second, third));
        assert_eq!((spool.queries(), spool.lock().bytes), (0, 0));
        assert_eq!(told("a", u64::MAX).obstacle, Obstacle::Busy);
    }
}
