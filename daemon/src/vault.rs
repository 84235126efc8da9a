//! Secrets and durable files at rest: one storage key, sealed bytes, atomic files, checked stores.
//!
//! Sealed bytes are `1 | nonce (12) | ciphertext | tag (16)` under AES-256-GCM. The associated data is
//! the *context*, a string that names what the bytes are and for whom, so that a sealed value which is
//! copied to another place of the same disk does not open there.
//!
//! Nonces are random. With 96 bits the chance that two of 2^32 sealed values share one is 2^-33; a
//! consortium that seals a million values a day needs eleven years for that many.

mod credential;
mod file;
pub(crate) mod hex;
mod key;
mod store;

pub use credential::credential;
pub(crate) use file::{Pieces, move_file, read_at, remove_tree, write_pieces};
pub use file::{
    private_directory, read_bounded, read_sealed, remove_durably, sweep_unfinished, write_atomic,
    write_sealed,
};
pub use key::StorageKey;
pub use store::StoreError;
pub(crate) use store::{Kind, Store};

use std::io;
use std::path::{Path, PathBuf};

/// Why a secret could not be read, written or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The disk, or the quota of this user, is used up.
    #[error("no room left to write {path}; free some space, then try again")]
    Full {
        /// The file that was being written.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being attempted.
        action: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// A secret file that others on this machine may read.
    #[error(
        "{path} can be read or written by others (mode {mode:04o}); run chmod 0600 on it, and replace the key if others had access"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file of the wrong length.
    #[error(
        "{path} holds {found} bytes, a storage key has {}; restore the key from its backup (a new key cannot open what the old one sealed)",
        key::KEY_BYTES
    )]
    KeyLength {
        /// The file.
        path: PathBuf,
        /// Bytes in it; reading stops one byte after a key's length.
        found: usize,
    },
    /// A file longer than anything that is written there.
    #[error("{path} is {found} bytes long, at most {limit} are expected; it was not written by this program")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file that the key does not open.
    #[error(
        "{path} is damaged, was sealed with another key, or is not `{context}`; restore the file or the key from backup"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        context: String,
    },
    /// Sealed bytes that the key does not open.
    #[error(
        "the sealed `{context}` is damaged or was sealed with another key; restore the storage key from backup"
    )]
    Sealed {
        /// What the bytes should hold.
        context: String,
    },
    /// The system has no randomness to give.
    #[error("the operating system's random generator failed; nothing was written")]
    Random,
}

impl VaultError {
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), action, source },
        }
    }
}
