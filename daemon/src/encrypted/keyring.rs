//! Clients' evaluation keys at the owner: a folder for each client, with a quota.
//!
//! Keys are public, and a client sends them again where they are gone, so nothing here is precious. Those that were not
//! used for longest make room for others.

use super::transfer::local;
use crate::homomorphic::{KeyId, Keys, read_keys};
use crate::message::{Obstacle, Refusal};
use crate::vault::{VaultError, hex, private_directory, remove_durably, remove_tree};
use consilium_protocol::homomorphic::Plan;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Sets of keys of one client.
const SETS_MAX: usize = 8;
/// Bytes of all of them.
const BYTES_MAX: u64 = 512 << 20;

/// The folders.
#[derive(Debug)]
pub(super) struct Keyring {
    folder: PathBuf,
    sets_max: usize,
    bytes_max: u64,
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
            if !clients.iter().any(|client| entry.file_name() == *client) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(Self { folder: folder.to_owned(), sets_max: SETS_MAX, bytes_max: BYTES_MAX })
    }

    /// Takes keys that came in at `from`, in place of others where the quota asks for it.
    ///
    /// # Errors
    /// [`Obstacle::Request`] for a file that is no such keys, or is longer than the quota; [`Obstacle::Local`].
    pub(super) fn take(&self, client: &str, plan: &Plan, key: KeyId, from: &Path) -> Result<Keys, Refusal> {
        let keys = read_keys(from, plan).map_err(|error| refused(&error))?;
        if keys.id() != key {
            return Err(refused(&"the keys that came are those of another secret"));
        }
        let bytes =
            std::fs::metadata(from).map_err(|source| local(VaultError::io(from, "inspect", source)))?.len();
        let folder = self.folder.join(client);
        private_directory(&folder).map_err(local)?;
        self.make_room(&folder, bytes)?;
        let to = self.path(client, &plan.digest(), key);
        std::fs::rename(from, &to).map_err(|source| local(VaultError::io(&to, "create", source)))?;
        Ok(keys)
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

    /// Removes sets, those that were not used for longest first, until one of so many bytes fits.
    fn make_room(&self, folder: &Path, bytes: u64) -> Result<(), Refusal> {
        if bytes > self.bytes_max {
            let text = format!("{bytes} bytes of keys; the owner keeps {} for a client", self.bytes_max);
            return Err(Refusal::new(Obstacle::Request, text));
        }
        let mut held = list(folder).map_err(local)?;
        held.sort_by_key(|set| std::cmp::Reverse(set.used));
        let mut all: u64 = held.iter().map(|set| set.bytes).sum();
        while held.len() >= self.sets_max || all.saturating_add(bytes) > self.bytes_max {
            let Some(oldest) = held.pop() else { break };
            remove_durably(&oldest.path).map_err(local)?;
            all -= oldest.bytes;
        }
        Ok(())
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
        let opened = Keyring::open(&ring, &["a", "b"]).unwrap();
        assert!(!ring.join("gone").exists(), "nobody's keys");
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
        assert!(refused(&keyring, &other).contains("none of the files"));
    }
}
