//! The key that makes a node who it is.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use libp2p::identity::{Keypair, ed25519};
use tempfile::NamedTempFile;
use thiserror::Error;
use zeroize::Zeroizing;

use consilium_attest::module::signature::{PartyKey, SIGNATURE_BYTES, SigningFailed};

use super::address::{PeerId, signed_bytes};

/// Bytes of the key file: the Ed25519 secret seed and nothing else.
const KEY_BYTES: usize = 32;
/// Permission bits that would let anybody but the owner touch the key.
const OTHERS: u32 = 0o077;

/// An Ed25519 key pair. Never printed; the key library wipes it on drop.
#[derive(Clone)]
pub struct Identity {
    keys: ed25519::Keypair,
}

/// Why a key could not be loaded or created.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// Reading, writing or moving the file failed.
    #[error("cannot {attempt} the identity key {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted, as a verb.
        attempt: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not a regular file.
    #[error("the identity key {} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else can read or change the file.
    #[error("the identity key {} has mode {mode:03o}; run chmod 600 on it, and replace it if others had access", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too short or too long.
    #[error("the identity key {} must have exactly {KEY_BYTES} bytes, found {found}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length, or one more than allowed.
        found: usize,
    },
    /// The bytes are no key.
    #[error("the identity key {} does not hold an Ed25519 secret", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

impl Identity {
    /// A fresh key that lives in memory only.
    pub fn generate() -> Self {
        Self { keys: ed25519::Keypair::generate() }
    }

    /// Loads the key of 32 raw bytes at `path`.
    ///
    /// # Errors
    /// [`IdentityError`] when the file cannot be read, is open to others, or has another length.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let failed = |attempt| move |source| IdentityError::File { path: path.to_owned(), attempt, source };
        let file = File::open(path).map_err(failed("open"))?;
        // The opened file is examined, not the name, which could change its meaning in between.
        let about = file.metadata().map_err(failed("examine"))?;
        if !about.is_file() {
            return Err(IdentityError::NotAFile { path: path.to_owned() });
        }
        let mode = about.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(IdentityError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed("read"))?;
        if bytes.len() != KEY_BYTES {
            return Err(IdentityError::Length { path: path.to_owned(), found: bytes.len() });
        }
        let secret = ed25519::SecretKey::try_from_bytes(bytes.as_mut_slice())
            .map_err(|_| IdentityError::NotAKey { path: path.to_owned() })?;
        Ok(Self { keys: ed25519::Keypair::from(secret) })
    }

    /// Loads the key at `path`, or makes one there with mode 0600 if the file does not exist.
    ///
    /// The new file appears whole or not at all and is on disk when this returns; of two processes that race,
    /// the loser takes the winner's key.
    ///
    /// # Errors
    /// As [`Identity::load`], and [`IdentityError::File`] when the file cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path)?,
            _ => {}
        }
        Self::load(path)
    }

    fn create(path: &Path) -> Result<(), IdentityError> {
        let failed = |attempt| move |source| IdentityError::File { path: path.to_owned(), attempt, source };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // The temporary file is private (0600) from its first moment.
        let mut file = NamedTempFile::new_in(folder).map_err(failed("create"))?;
        let pair = Zeroizing::new(ed25519::Keypair::generate().to_bytes());
        let (secret, _public) = pair.split_at(KEY_BYTES);
        file.write_all(secret).map_err(failed("write"))?;
        file.as_file().sync_all().map_err(failed("flush"))?;
        match file.persist_noclobber(path) {
            Ok(_) => {}
            Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(lost) => return Err(failed("place")(lost.error)),
        }
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("flush the folder of"))
    }

    /// The member name that this key proves.
    pub fn peer_id(&self) -> PeerId {
        PeerId::from_inner(self.keypair().public().to_peer_id())
            .expect("the peer id of an Ed25519 key holds that key")
    }

    /// Signs `message` under `domain`; check with [`PeerId::verify`].
    ///
    /// `domain` names the kind of statement, so that a signature cannot be moved to another kind.
    pub fn sign(&self, domain: &str, message: &[u8]) -> Vec<u8> {
        self.keys.sign(&signed_bytes(domain, message))
    }

    pub(super) fn keypair(&self) -> Keypair {
        Keypair::from(self.keys.clone())
    }
}

/// To the module that draws noise, whose texts begin with names of their own. What [`Identity::sign`] signs begins
/// with a small number of eight bytes, so that neither can be taken for the other.
impl PartyKey for Identity {
    fn public(&self) -> [u8; 32] {
        self.keys.public().to_bytes()
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SigningFailed> {
        self.keys.sign(text).try_into().map_err(|_| SigningFailed)
    }
}

/// Shows the public name only.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer_id", &self.peer_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_created_key_is_private_and_loads_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let first = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().len(), 32);
        assert_eq!(Identity::load_or_create(&path).unwrap().peer_id(), first.peer_id());
        assert_eq!(Identity::load(&path).unwrap().peer_id(), first.peer_id());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");
    }

    #[test]
    fn a_key_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Identity::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(Identity::load(&path), Err(IdentityError::Exposed { mode: found, .. }) if found == mode)
            );
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for (length, expected) in [(0, 0), (31, 31), (33, 33), (1 << 20, 33)] {
            fs::write(&path, vec![7; length]).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(
                matches!(Identity::load(&path), Err(IdentityError::Length { found, .. }) if found == expected)
            );
        }
    }

    #[test]
    fn a_folder_and_an_absent_folder_are_typed_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::load_or_create(folder.path()), Err(IdentityError::NotAFile { .. })));
        let lost = folder.path().join("absent").join("key");
        assert!(matches!(
            Identity::load_or_create(&lost),
            Err(IdentityError::File { attempt: "create", .. })
        ));
    }

    #[test]
    fn the_module_knows_a_party_by_its_key() {
        let identity = Identity::generate();
        assert_eq!(identity.public(), identity.peer_id().key());
        let wire = consilium_attest::module::signature::peer_id(&identity.public());
        assert_eq!(wire, identity.peer_id().to_bytes());
        assert_eq!(PartyKey::sign(&identity, b"text").unwrap().len(), SIGNATURE_BYTES);
    }

    #[test]
    fn debug_shows_the_name_and_not_the_secret() {
        let identity = Identity::generate();
        let shown = format!("{identity:?}");
        assert!(shown.contains(&identity.peer_id().to_string()));
        let secret = identity.keys.secret();
        assert!(!shown.contains(&format!("{:?}", secret.as_ref())));
    }
}
