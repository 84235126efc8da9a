//! The chain of versions, the proposals and the invitations on this node's disk.
//!
//! ```text
//! STATE/consortium/versions/00000003.toml   the text that people read
//!                           00000003.sig    its signatures; a text without them does not count
//!                 /proposals/FINGERPRINT.toml, .sig
//!                 /in-force                 the number that this node runs by
//!                 /invitations.cbor         hashes of secrets, and who came
//! ```
//!
//! Each file is whole or not there. The text is written before its signatures, so that a crash in between leaves
//! nothing that counts. Everything is verified when it is read, as if a stranger had sent it.

use super::invitation::{INVITATIONS_MAX, Invite};
use super::statement::{Fingerprint, SIGNED_BYTES_MAX, Signed, TEXT_BYTES_MAX, Version};
use super::verify::{RosterFault, VerifiedRoster};
use crate::net::codec;
use crate::vault::{
    VaultError, private_directory, read_bounded, remove_durably, sweep_unfinished, write_atomic,
};
use std::path::{Path, PathBuf};

/// Longest file of invitations.
const INVITATIONS_BYTES_MAX: u64 = 1 << 20;

/// Why the consortium's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The disk.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A file does not hold what it should.
    #[error("{} is damaged: {explanation}; restore it from a backup, or move the folder `consortium` away and ask a \
             member for an invitation to join again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        explanation: String,
    },
    /// A version does not follow from those before it.
    #[error("{}: {fault}", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Box<RosterFault>,
    },
}

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

/// The last version, and the one that this node runs by.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) head: VerifiedRoster,
    pub(super) in_force: VerifiedRoster,
}

impl Store {
    /// Below a node's state folder.
    pub(super) fn beneath(state: &Path) -> Self {
        Self { folder: state.join("consortium") }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there is anything to load.
    pub(super) fn holds_chain(&self) -> bool {
        self.version_file(1).exists()
    }

    /// Makes the folders, and removes what a crash left behind.
    pub(super) fn prepare(&self) -> Result<(), StoreFault> {
        for folder in [&self.folder, &self.versions(), &self.proposals()] {
            private_directory(folder)?;
            sweep_unfinished(folder)?;
        }
        Ok(())
    }

    fn versions(&self) -> PathBuf {
        self.folder.join("versions")
    }

    fn proposals(&self) -> PathBuf {
        self.folder.join("proposals")
    }

    fn version_file(&self, number: u64) -> PathBuf {
        self.versions().join(format!("{number:08}.sig"))
    }

    /// Reads and verifies the whole chain; `None` where there is none.
    pub(super) fn load(&self) -> Result<Option<Chain>, StoreFault> {
        let (marked, mut in_force) = (self.read_in_force()?, None);
        let head = self.walk(|version| {
            if marked == Some(version.number()) {
                in_force = Some(version.clone());
            }
        })?;
        Ok(head.map(|head| Chain { in_force: in_force.unwrap_or_else(|| head.clone()), head }))
    }

    /// Verifies every version in turn, shows it, and gives the last.
    pub(super) fn walk(
        &self,
        mut visit: impl FnMut(&VerifiedRoster),
    ) -> Result<Option<VerifiedRoster>, StoreFault> {
        let Some(first) = self.read_version(1)? else { return Ok(None) };
        let chain = |number| {
            let path = self.version_file(number);
            move |fault| StoreFault::Chain { path, fault: Box::new(fault) }
        };
        let mut head = VerifiedRoster::founding(first, None).map_err(chain(1))?;
        visit(&head);
        loop {
            let number = head.number().saturating_add(1);
            let Some(next) = self.read_version(number)? else { return Ok(Some(head)) };
            head = head.followed_by(next).map_err(chain(number))?;
            visit(&head);
        }
    }

    pub(super) fn read_version(&self, number: u64) -> Result<Option<Version>, StoreFault> {
        read(&self.version_file(number))
    }

    pub(super) fn write_version(&self, version: &Version) -> Result<(), StoreFault> {
        write(&self.version_file(version.statement().version), version)
    }

    /// The proposals on disk; what is damaged is removed, since others have it too.
    pub(super) fn read_proposals(&self) -> Result<Vec<Version>, StoreFault> {
        let folder = self.proposals();
        let listed = std::fs::read_dir(&folder).map_err(|source| VaultError::Io {
            path: folder.clone(),
            action: "list",
            source,
        })?;
        let mut proposals = Vec::new();
        for entry in listed {
            let entry =
                entry.map_err(|source| VaultError::Io { path: folder.clone(), action: "list", source })?;
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != "sig") {
                continue;
            }
            match read(&path) {
                Ok(found) => proposals.extend(found),
                Err(StoreFault::Damaged { .. }) => {
                    tracing::warn!("removed the damaged proposal {}", path.display());
                    remove(&path)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(proposals)
    }

    pub(super) fn write_proposal(&self, proposal: &Version) -> Result<(), StoreFault> {
        write(&self.proposal_file(proposal.fingerprint()), proposal)
    }

    pub(super) fn remove_proposal(&self, fingerprint: Fingerprint) -> Result<(), StoreFault> {
        remove(&self.proposal_file(fingerprint))
    }

    fn proposal_file(&self, fingerprint: Fingerprint) -> PathBuf {
        self.proposals().join(format!("{fingerprint}.sig"))
    }

    fn read_in_force(&self) -> Result<Option<u64>, StoreFault> {
        let path = self.folder.join("in-force");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_bounded(&path, 32)?;
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        number.map(Some).ok_or_else(|| damaged(&path, "it should hold the number of a version"))
    }

    pub(super) fn write_in_force(&self, number: u64) -> Result<(), StoreFault> {
        Ok(write_atomic(&self.folder.join("in-force"), format!("{number}\n").as_bytes())?)
    }

    pub(super) fn read_invitations(&self) -> Result<Vec<Invite>, StoreFault> {
        let path = self.folder.join("invitations.cbor");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = read_bounded(&path, INVITATIONS_BYTES_MAX)?;
        let mut list: Vec<Invite> = codec::decode(&bytes).map_err(|error| damaged(&path, error))?;
        list.truncate(INVITATIONS_MAX);
        Ok(list)
    }

    pub(super) fn write_invitations(&self, list: &[Invite]) -> Result<(), StoreFault> {
        let path = self.folder.join("invitations.cbor");
        let bytes = codec::encode(&list).map_err(|error| damaged(&path, error))?;
        Ok(write_atomic(&path, &bytes)?)
    }
}

fn damaged(path: &Path, explanation: impl std::fmt::Display) -> StoreFault {
    StoreFault::Damaged { path: path.to_owned(), explanation: explanation.to_string() }
}

/// A text and its signatures, or `None` where there are no signatures.
fn read(signatures: &Path) -> Result<Option<Version>, StoreFault> {
    if !signatures.exists() {
        return Ok(None);
    }
    let path = signatures.with_extension("toml");
    let text = utf8(&path, TEXT_BYTES_MAX as u64)?;
    let signed =
        Signed::parse(&utf8(signatures, SIGNED_BYTES_MAX)?).map_err(|error| damaged(signatures, error))?;
    Ok(Some(Version { signed, text }))
}

fn utf8(path: &Path, limit: u64) -> Result<String, StoreFault> {
    let bytes = match read_bounded(path, limit) {
        Err(VaultError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged(path, "it is not there"));
        }
        read => read?,
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged(path, "it is not UTF-8"))?;
    Ok(text.to_owned())
}

fn write(signatures: &Path, version: &Version) -> Result<(), StoreFault> {
    let signed = version.signed.to_toml().map_err(|error| damaged(signatures, error))?;
    write_atomic(&signatures.with_extension("toml"), version.text.as_bytes())?;
    Ok(write_atomic(signatures, signed.as_bytes())?)
}

/// The signatures first, so that the text alone does not count.
fn remove(signatures: &Path) -> Result<(), StoreFault> {
    remove_durably(signatures)?;
    Ok(remove_durably(&signatures.with_extension("toml"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consortium::trial::{founded, next, people, text};

    fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::beneath(folder.path());
        store.prepare().unwrap();
        (store, folder)
    }

    #[test]
    fn a_chain_reads_back_and_the_mark_says_what_is_in_force() {
        let (store, _folder) = store();
        assert!(store.load().unwrap().is_none());
        let [north, south, ..] = people();
        let first = founded(&[&north], "");
        let second = first.followed_by(next(&first, text(&[&north, &south], ""), &[&north])).unwrap();
        store.write_version(first.version()).unwrap();
        store.write_version(second.version()).unwrap();
        let chain = store.load().unwrap().unwrap();
        assert_eq!((chain.head.number(), chain.in_force.number()), (2, 2));
        assert_eq!(chain.head.fingerprint(), second.fingerprint());
        store.write_in_force(1).unwrap();
        assert_eq!(store.load().unwrap().unwrap().in_force.number(), 1);
    }

    #[test]
    fn a_text_without_signatures_does_not_count() {
        let (store, _folder) = store();
        let [north, south, ..] = people();
        let first = founded(&[&north], "");
        store.write_version(first.version()).unwrap();
        let second = next(&first, text(&[&north, &south], ""), &[&north]);
        store.write_version(&second).unwrap();
        std::fs::remove_file(store.version_file(2)).unwrap();
        assert_eq!(store.load().unwrap().unwrap().head.number(), 1);
    }

    #[test]
    fn a_tampered_disk_is_refused_with_the_file() {
        let (store, _folder) = store();
        let [north, south, ..] = people();
        let first = founded(&[&north], "");
        store.write_version(first.version()).unwrap();
        store.write_version(&next(&first, text(&[&north, &south], ""), &[])).unwrap();
        let error = store.load().unwrap_err();
        assert!(
            matches!(&error, StoreFault::Chain { fault, .. } if matches!(**fault, RosterFault::Quorum { .. }))
        );
        assert!(error.to_string().contains("00000002.sig"), "{error}");
        let file = store.version_file(1).with_extension("toml");
        let edited = std::fs::read_to_string(&file).unwrap().replace("Trial", "Other");
        std::fs::write(&file, edited).unwrap();
        assert!(matches!(store.load().unwrap_err(), StoreFault::Chain { .. }));
        std::fs::write(store.version_file(1), "nonsense").unwrap();
        assert!(matches!(store.load().unwrap_err(), StoreFault::Damaged { .. }));
        std::fs::write(store.folder().join("in-force"), "x").unwrap();
        store.write_version(first.version()).unwrap();
        assert!(matches!(store.load().unwrap_err(), StoreFault::Damaged { .. }));
    }

    #[test]
    fn proposals_come_and_go_and_a_damaged_one_is_dropped() {
        let (store, _folder) = store();
        let [north, south, ..] = people();
        let first = founded(&[&north], "");
        let proposal = next(&first, text(&[&north, &south], ""), &[]);
        let other = next(&first, text(&[&north, &south], "# other\n"), &[&north]);
        store.write_proposal(&proposal).unwrap();
        store.write_proposal(&other).unwrap();
        assert_eq!(store.read_proposals().unwrap().len(), 2);
        std::fs::write(store.proposal_file(other.fingerprint()), "nonsense").unwrap();
        assert_eq!(store.read_proposals().unwrap(), std::slice::from_ref(&proposal));
        store.remove_proposal(proposal.fingerprint()).unwrap();
        assert_eq!(std::fs::read_dir(store.proposals()).unwrap().count(), 0);
    }
}
