//! Where files lie on their way: a folder of few files, one of each member in each direction.

use crate::message::{Obstacle, Refusal};
use crate::transfer::local;
use crate::vault::{VaultError, private_directory, remove_tree};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files at a time in each direction, of all members.
pub(super) const FILES_MAX: u64 = 4;

/// In which direction a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    In,
    Out,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    files: HashSet<(Way, String)>,
    number: u64,
}

/// A place for one file. Dropping it removes what is there.
#[derive(Debug)]
pub(crate) struct Berth {
    spool: Arc<Spool>,
    of: (Way, String),
    /// Where the file comes in.
    pub(crate) path: PathBuf,
}

impl Spool {
    /// An empty folder, if one is `needed`. What an earlier run left there is removed.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(super) fn open(folder: &Path, needed: bool) -> Result<Self, VaultError> {
        remove_tree(folder)?;
        if needed {
            private_directory(folder)?;
        }
        Ok(Self { folder: folder.to_owned(), held: Mutex::default() })
    }

    /// A place for a file from or to a member.
    ///
    /// # Errors
    /// [`Obstacle::Busy`] where such a file is here, or there are too many: again later.
    pub(super) fn enter(self: &Arc<Self>, way: Way, member: &str) -> Result<Berth, Refusal> {
        let mut held = self.lock();
        let of = (way, member.to_owned());
        if held.files.contains(&of) {
            let which = if way == Way::In { "from" } else { "to" };
            let text = format!("a file {which} {member} is on its way; send the next one when it is there");
            return Err(Refusal::new(Obstacle::Busy, text));
        }
        // What comes takes no place from what goes.
        if held.files.iter().filter(|(other, _)| *other == way).count() as u64 >= FILES_MAX {
            let whither = if way == Way::In { "in" } else { "out" };
            let text =
                format!("{FILES_MAX} files of encodings are on their way {whither}; send this one later");
            return Err(Refusal::new(Obstacle::Busy, text));
        }
        held.files.insert(of.clone());
        held.number += 1;
        let path = self.folder.join(format!("{}.safetensors", held.number));
        drop(held);
        Ok(Berth { spool: self.clone(), of, path })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let refusal = local(VaultError::io(&self.path, "remove", error));
                tracing::warn!("{refusal}; the next start removes it");
            }
            _ => {}
        }
        self.spool.lock().files.remove(&self.of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_one_file_each_way_and_all_have_few() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("left-over"), "x").unwrap();
        let spool = Arc::new(Spool::open(&path, true).unwrap());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "what was left is gone");
        let told = |way, member: &str| spool.enter(way, member).unwrap_err();
        let first = spool.enter(Way::In, "a").unwrap();
        assert_eq!(told(Way::In, "a").obstacle, Obstacle::Busy);
        let others = ["b", "c", "d"].map(|of| spool.enter(Way::In, of).unwrap());
        assert!(told(Way::In, "e").explanation.contains("4 files of encodings are on their way in"));
        let out = ["a", "b", "c", "d"].map(|of| spool.enter(Way::Out, of).unwrap());
        assert!(told(Way::Out, "e").explanation.contains("on their way out"));
        assert!(others.iter().all(|other| other.path != first.path));
        std::fs::write(&first.path, "x").unwrap();
        let path = first.path.clone();
        drop(first);
        assert!(!path.exists());
        drop((spool.enter(Way::In, "e").unwrap(), others, out));
        assert!(spool.lock().files.is_empty());
    }
}
