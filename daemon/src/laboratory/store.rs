//! What came, by task and sender: the newest few files of each, within a bound of bytes for all senders together.

use crate::lab::{Figure, read_summary};
use crate::message::{Obstacle, Refusal};
use crate::transfer::local;
use crate::vault::{VaultError, hex, move_file, private_directory, remove_durably};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Files of one sender in one task.
const FILES_MAX: usize = 4;
/// Bytes of all files of all tasks and senders: the ledger may be on the same disk.
const BYTES_MAX: u64 = 4 << 30;
const EXTENSION: &str = "safetensors";

/// The folder.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    bytes_max: u64,
    /// Who counts bytes and takes a file.
    keeping: Mutex<()>,
}

/// A file of encodings that came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The task.
    pub task: String,
    /// Who sent it.
    pub sender: String,
    /// The start of its SHA-256.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Its encodings; `None` where somebody has changed the file since it came.
    pub images: Option<usize>,
    /// How many of them the attack finds, as the sender says; `None` as above.
    pub attack: Option<Figure>,
}

/// A file on the disk.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    bytes: u64,
    came: SystemTime,
}

impl Store {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), bytes_max: BYTES_MAX, keeping: Mutex::default() }
    }

    fn of(&self, task: &str, sender: &str) -> PathBuf {
        self.folder.join(task).join(sender)
    }

    /// Files of a sender, the newest first. What cannot be listed is not there.
    pub(super) fn files(&self, task: &str, sender: &str) -> Vec<Entry> {
        Self::files_in(&self.of(task, sender))
    }

    fn files_in(folder: &Path) -> Vec<Entry> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let entry = |entry: std::io::Result<std::fs::DirEntry>| {
            let (path, meta) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))).ok()?;
            let ours = meta.is_file() && path.extension().is_some_and(|extension| extension == EXTENSION);
            ours.then_some(Entry { path, bytes: meta.len(), came: meta.modified().ok()? })
        };
        let mut files: Vec<Entry> = entries.filter_map(entry).collect();
        files.sort_by_key(|entry| std::cmp::Reverse(entry.came));
        files
    }

    /// What is held of a sender, with what the files say of themselves.
    pub(super) fn held(&self, task: &str, sender: &str) -> Vec<Held> {
        let held = |Entry { path, bytes, .. }: Entry| {
            let (images, attack) = read_summary(&path).ok().unzip();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Held { task: task.to_owned(), sender: sender.to_owned(), name, path, bytes, images, attack }
        };
        self.files(task, sender).into_iter().map(held).collect()
    }

    /// Bytes of all files but those of a sender in a task. Those of a task or sender that the roster no longer has count.
    fn of_others(&self, task: &str, sender: &str) -> u64 {
        let inside = |folder: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
        };
        let own = self.of(task, sender);
        let senders = inside(&self.folder).into_iter().flat_map(|task| inside(&task));
        let others = senders.filter(|folder| *folder != own);
        others.flat_map(|folder| Self::files_in(&folder)).map(|file| file.bytes).sum()
    }

    /// Whether a file of so many bytes would find a place: those of other senders do not make room for it.
    ///
    /// # Errors
    /// [`Obstacle::Busy`].
    pub(super) fn room(&self, task: &str, sender: &str, bytes: u64) -> Result<(), Refusal> {
        let others = self.of_others(task, sender);
        if others.saturating_add(bytes) <= self.bytes_max {
            return Ok(());
        }
        let text = format!(
            "no room for {bytes} bytes: encodings of other senders or tasks have {others} of the {} that a node keeps; its \
             administrator removes files below `laboratory` in its state folder, those of former tasks and members \
             included",
            self.bytes_max
        );
        Err(Refusal::new(Obstacle::Busy, text))
    }

    /// Takes a file out of the spool, and lets go of the sender's oldest ones until the rest is within bounds.
    ///
    /// # Errors
    /// As [`Self::room`]; [`Obstacle::Local`].
    pub(super) fn keep(&self, task: &str, sender: &str, file: &Path, name: &str) -> Result<PathBuf, Refusal> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let inspected = std::fs::metadata(file).map_err(|source| VaultError::io(file, "inspect", source));
        let own = inspected.map_err(local)?.len();
        self.room(task, sender, own)?;
        let folder = self.of(task, sender);
        private_directory(&self.folder.join(task)).map_err(local)?;
        private_directory(&folder).map_err(local)?;
        let path = folder.join(name).with_extension(EXTENSION);
        move_file(file, &path).map_err(local)?;
        let others = self.files(task, sender).into_iter().filter(|entry| entry.path != path);
        let mut bytes = self.of_others(task, sender).saturating_add(own);
        for (number, other) in (2..).zip(others) {
            bytes = bytes.saturating_add(other.bytes);
            if number > FILES_MAX || bytes > self.bytes_max {
                remove_durably(&other.path).map_err(local)?;
            }
        }
        Ok(path)
    }
}

/// The name of a file, the first 16 hexadecimal digits of its SHA-256, and its bytes.
///
/// # Errors
/// [`VaultError::Io`].
pub(super) fn name_of(path: &Path) -> Result<(String, u64), VaultError> {
    let failed = |source| VaultError::io(path, "read", source);
    let mut file = File::open(path).map_err(failed)?;
    let (mut context, mut bytes, mut piece) = (Context::new(&SHA256), 0, vec![0; 1 << 16]);
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            break;
        }
        context.update(&piece[..count]);
        bytes += count as u64;
    }
    let digest = hex::encode(context.finish().as_ref());
    Ok((digest.chars().take(16).collect(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_of_a_sender_make_room_for_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { bytes_max: 100, ..Store::new(folder.path()) };
        let came = std::cell::Cell::new(SystemTime::UNIX_EPOCH);
        let keep = |sender: &str, name: &str, bytes: usize| {
            let file = folder.path().join("coming");
            std::fs::write(&file, vec![1; bytes]).unwrap();
            came.set(came.get() + std::time::Duration::from_secs(1));
            File::options().write(true).open(&file).unwrap().set_modified(came.get()).unwrap();
            let path = store.keep("task", sender, &file, name).unwrap();
            assert!(path.is_file() && !file.exists());
        };
        let names = |sender: &str| {
            let names = store.held("task", sender).into_iter().map(|held| held.name);
            names.collect::<Vec<_>>()
        };
        for name in ["a", "b", "c", "d", "e"] {
            keep("lake", name, 10);
        }
        assert_eq!(names("lake"), ["e", "d", "c", "b"], "four at most");
        keep("lake", "c", 10);
        assert_eq!(names("lake"), ["c", "e", "d", "b"], "the same once more is no other file");
        keep("lake", "f", 75);
        assert_eq!(names("lake"), ["f", "c", "e"], "bytes in all");
        keep("lake", "g", 100);
        assert_eq!(names("lake"), ["g"]);
        // What others have sent makes no room, and counts with all tasks.
        let coming = folder.path().join("coming");
        std::fs::write(&coming, [1; 10]).unwrap();
        let refused = store.keep("other", "hill", &coming, "a").unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Busy);
        assert!(refused.explanation.contains("have 100 of the 100"), "{refused}");
        assert!(coming.is_file() && store.files("other", "hill").is_empty());
        keep("lake", "h", 90);
        assert_eq!(names("lake"), ["h"]);
        store.room("other", "hill", 10).unwrap();
        assert!(store.room("other", "hill", 11).is_err());
        keep("hill", "a", 10);
        assert_eq!((names("hill"), names("lake")), (vec!["a".to_owned()], vec!["h".to_owned()]));
        let held = store.held("task", "hill").remove(0);
        assert_eq!((held.images, held.attack), (None, None), "what is no encodings says nothing");
    }

    #[test]
    fn a_file_is_called_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(name_of(&path).unwrap(), ("ba7816bf8f01cfea".to_owned(), 3));
    }
}
