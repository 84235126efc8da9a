//! Clients' evaluation keys at the owner: a folder for each client, with a quota, and one for all of them together.
//!
//! Keys are public, and a client sends them again where they are gone, so nothing here is precious. Those that were not
//! used for longest make room for others.

use crate::homomorphic::{KeyId, Keys, nameless, read_keys};
use crate::message::{Obstacle, Refusal};
use crate::transfer::local;
use crate::vault::{VaultError, hex, private_directory, remove_durably, remove_tree};
use consilium_protocol::homomorphic::Plan;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Sets of keys of one client.
const SETS_MAX: usize = 8;
/// Bytes of all of them.
pub(super) const BYTES_MAX: u64 = 512 << 20;
/// Bytes of the keys of all clients.
const BYTES_OF_ALL_MAX: u64 = 4 << 30;

/// The folders.
#[derive(Debug)]
pub(super) struct Keyring {
    folder: PathBuf,
    sets_max: usize,
    bytes_max: u64,
    bytes_of_all_max: u64,
    /// Makes room, and takes it.
    taking: Mutex<()>,
}

/// A set of keys on the disk.
struct Held {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Keyring {
    /// Opens the folder, and removes what belongs to nobody in `clients`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(super) fn open(folder: &Path, clients: &[&str]) -> Result<Self, VaultError> {
        private_directory(folder)?;
        let failed = |source| VaultError::io(folder, "list", source);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if !path.is_dir() {
                remove_durably(&path)?;
            } else if !clients.iter().any(|client| entry.file_name() == *client) {
                remove_tree(&path)?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            sets_max: SETS_MAX,
            bytes_max: BYTES_MAX,
            bytes_of_all_max: BYTES_OF_ALL_MAX,
            taking: Mutex::default(),
        })
    }

    /// Takes keys that came in at `from`, in place of others where the quota asks for it.
    ///
    /// # Errors
    /// [`Obstacle::Request`] for a file that is no such keys, or is longer than the quota; [`Obstacle::Local`].
    pub(super) fn take(&self, client: &str, plan: &Plan, key: KeyId, from: &Path) -> Result<(), Refusal> {
        let keys = read_keys(from, plan).map_err(|error| refused(&nameless(&error, from, "the file")))?;
        if keys.id() != key {
            return Err(refused(&"the keys that came are those of another secret"));
        }
        let bytes =
            std::fs::metadata(from).map_err(|source| local(VaultError::io(from, "inspect", source)))?.len();
        let folder = self.folder.join(client);
        private_directory(&folder).map_err(local)?;
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(&folder, bytes)?;
        let to = self.path(client, &plan.digest(), key);
        std::fs::rename(from, &to).map_err(|source| local(VaultError::io(&to, "create", source)))
    }

    /// Whether keys of that name are here. Whether they are whole, [`Keyring::read`] finds.
    pub(super) fn has(&self, client: &str, plan: &[u8; 32], key: KeyId) -> bool {
        self.path(client, plan, key).is_file()
    }

    /// A client's keys for a plan, if they are here, which counts as a use. Keys that are damaged are removed.
    ///
    /// # Errors
    /// [`Obstacle::Local`].
    pub(super) fn read(&self, client: &str, plan: &Plan, key: KeyId) -> Result<Option<Keys>, Refusal> {
        let path = self.path(client, &plan.digest(), key);
        if !path.is_file() {
            return Ok(None);
        }
        match read_keys(&path, plan) {
            Ok(keys) if keys.id() == key => {
                let touched = File::options().append(true).open(&path);
                if let Err(error) = touched.and_then(|file| file.set_modified(SystemTime::now())) {
                    tracing::warn!("{}: {error}; these keys count as unused", path.display());
                }
                Ok(Some(keys))
            }
            outcome => {
                let why =
                    outcome.err().map_or_else(|| "of another secret".to_owned(), |error| error.to_string());
                tracing::warn!(peer = client, "evaluation keys are taken from their owner again: {why}");
                remove_durably(&path).map_err(local)?;
                Ok(None)
            }
        }
    }

    /// Removes sets of the client, and then of all, until one of so many bytes fits.
    fn make_room(&self, folder: &Path, bytes: u64) -> Result<(), Refusal> {
        if bytes > self.bytes_max {
            let text = format!("{bytes} bytes of keys; the owner keeps {} for a client", self.bytes_max);
            return Err(Refusal::new(Obstacle::Request, text));
        }
        let make = || {
            evict(list(folder)?, self.sets_max - 1, self.bytes_max.saturating_sub(bytes))?;
            evict(self.all()?, usize::MAX, self.bytes_of_all_max.saturating_sub(bytes))
        };
        make().map_err(local)
    }

    fn all(&self) -> Result<Vec<Held>, VaultError> {
        let failed = |source| VaultError::io(&self.folder, "list", source);
        let mut held = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            held.extend(list(&entry.map_err(failed)?.path())?);
        }
        Ok(held)
    }

    fn path(&self, client: &str, plan: &[u8; 32], key: KeyId) -> PathBuf {
        self.folder.join(client).join(format!("{}-{key}.keys", hex::encode(plan)))
    }
}

fn list(folder: &Path) -> Result<Vec<Held>, VaultError> {
    let failed = |source| VaultError::io(folder, "list", source);
    let mut held = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let of = std::fs::metadata(&path).map_err(failed)?;
        let used = of.modified().map_err(failed)?;
        held.push(Held { path, bytes: of.len(), used });
    }
    Ok(held)
}

/// Removes sets, those that were not used for longest first, until there are few enough.
fn evict(mut held: Vec<Held>, sets_max: usize, bytes_max: u64) -> Result<(), VaultError> {
    held.sort_by_key(|set| std::cmp::Reverse(set.used));
    let mut all: u64 = held.iter().map(|set| set.bytes).sum();
    while held.len() > sets_max || all > bytes_max {
        let Some(oldest) = held.pop() else { break };
        remove_durably(&oldest.path)?;
        all -= oldest.bytes;
    }
    Ok(())
}

fn refused(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Obstacle::Request, format!("the evaluation keys were not taken: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::homomorphic::{make_keys, testing::small_plan};
    use std::time::Duration;

    struct Bench {
        folder: tempfile::TempDir,
        plan: Plan,
        made: u32,
    }

    impl Bench {
        fn keys(&mut self) -> (PathBuf, KeyId) {
            self.made += 1;
            let at = |kind: &str| self.folder.path().join(format!("{}.{kind}", self.made));
            let (key, _) = make_keys(&self.plan, &at("secret"), &at("keys")).unwrap();
            (at("keys"), key)
        }
    }

    #[test]
    fn keys_are_kept_until_others_need_their_room() {
        let folder = tempfile::tempdir().unwrap();
        let ring = folder.path().join("ring");
        std::fs::create_dir_all(ring.join("gone")).unwrap();
        std::fs::write(ring.join("stray"), "x").unwrap();
        let opened = Keyring::open(&ring, &["a", "b"]).unwrap();
        assert_eq!(std::fs::read_dir(&ring).unwrap().count(), 0, "nobody's keys, and no keys");
        let keyring = Keyring { sets_max: 2, ..opened };
        let mut bench = Bench { folder, plan: small_plan(), made: 0 };
        let mut held = Vec::new();
        for _ in 0..2 {
            let (file, key) = bench.keys();
            assert!(keyring.read("a", &bench.plan, key).unwrap().is_none());
            keyring.take("a", &bench.plan, key, &file).unwrap();
            assert!(!file.exists(), "moved");
            held.push(key);
        }
        // The second one is older now, and is not used.
        let second = keyring.path("a", &bench.plan.digest(), held[1]);
        let old = SystemTime::now() - Duration::from_secs(100);
        File::options().append(true).open(&second).unwrap().set_modified(old).unwrap();
        assert!(keyring.read("a", &bench.plan, held[0]).unwrap().is_some());
        let (file, key) = bench.keys();
        keyring.take("a", &bench.plan, key, &file).unwrap();
        let there = |key| keyring.read("a", &bench.plan, key).unwrap().is_some();
        assert_eq!([there(held[0]), there(held[1]), there(key)], [true, false, true]);
        assert!(keyring.read("b", &bench.plan, key).unwrap().is_none(), "each client has a ring of its own");

        // There is a bound for all of them: what another client did not use for longest goes.
        let (file, newest) = bench.keys();
        let bytes = std::fs::metadata(&file).unwrap().len();
        let keyring = Keyring { bytes_of_all_max: 2 * bytes + 100, ..keyring };
        let oldest = keyring.path("a", &bench.plan.digest(), held[0]);
        File::options().append(true).open(&oldest).unwrap().set_modified(old).unwrap();
        keyring.take("b", &bench.plan, newest, &file).unwrap();
        let there = |client, key| keyring.read(client, &bench.plan, key).unwrap().is_some();
        assert_eq!([there("a", held[0]), there("a", key), there("b", newest)], [false, true, true]);
    }

    #[test]
    fn what_is_no_key_or_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let opened = Keyring::open(&folder.path().join("ring"), &["a"]).unwrap();
        let mut bench = Bench { folder, plan: small_plan(), made: 0 };
        let (file, key) = bench.keys();
        let (other, _) = bench.keys();
        let refused = |keyring: &Keyring, file: &Path| {
            let refusal = keyring.take("a", &bench.plan, key, file).unwrap_err();
            assert_eq!(refusal.obstacle, Obstacle::Request);
            refusal.explanation
        };
        assert!(refused(&opened, &other).contains("another secret"));
        let long = Keyring { bytes_max: 10, ..opened };
        assert!(refused(&long, &file).contains("the owner keeps 10"));
        let keyring = Keyring { bytes_max: BYTES_MAX, ..long };
        keyring.take("a", &bench.plan, key, &file).unwrap();
        let path = keyring.path("a", &bench.plan.digest(), key);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(keyring.read("a", &bench.plan, key).unwrap().is_none() && !path.exists(), "damaged keys go");
        std::fs::write(&other, b"no keys").unwrap();
        assert!(refused(&keyring, &other).contains("the file is none of the files"), "and no path is told");
    }
}
