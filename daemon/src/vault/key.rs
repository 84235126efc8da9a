//! The storage key of one daemon.

use super::{VaultError, file};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

pub(super) const KEY_BYTES: usize = 32;
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 1 + NONCE_LEN;
const TAG_BYTES: usize = 16;
const DOMAIN: &[u8] = b"consilium vault 1\0";

/// The key that seals everything this daemon stores. It is wiped when dropped and is never printed.
pub struct StorageKey(Zeroizing<[u8; KEY_BYTES]>);

impl StorageKey {
    /// Reads the key from a file of exactly 32 bytes, which only its owner may read or write.
    ///
    /// # Errors
    /// [`VaultError::Exposed`] when group or others have any permission, [`VaultError::KeyLength`],
    /// [`VaultError::Io`].
    pub fn load(path: &Path) -> Result<Self, VaultError> {
        let file = File::open(path).map_err(|source| VaultError::io(path, "open", source))?;
        let metadata = file.metadata().map_err(|source| VaultError::io(path, "inspect", source))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(VaultError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
        file.take(KEY_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| VaultError::io(path, "read", source))?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return Err(VaultError::KeyLength { path: path.to_owned(), found: bytes.len() });
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    /// Reads the key, or draws one and writes it with mode 0600. When two processes start at once,
    /// both end with the same key.
    ///
    /// # Errors
    /// As [`StorageKey::load`], and [`VaultError::Full`], [`VaultError::Random`].
    pub fn load_or_create(path: &Path) -> Result<Self, VaultError> {
        match Self::load(path) {
            Err(VaultError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let fresh = Self::random()?;
        if file::write_new(path, fresh.0.as_slice())? { Ok(fresh) } else { Self::load(path) }
    }

    /// Draws a key that lives only as long as this process.
    ///
    /// # Errors
    /// [`VaultError::Random`].
    pub fn random() -> Result<Self, VaultError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(key.as_mut_slice()).map_err(|_| VaultError::Random)?;
        Ok(Self(key))
    }

    /// Encrypts `plain` for `context`. The result is 29 bytes longer than `plain`.
    ///
    /// # Errors
    /// [`VaultError::Random`].
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::Random)?;
        // Room for everything at once: a buffer that grows would leave plaintext behind.
        let mut sealed = Vec::with_capacity(HEADER_BYTES + plain.len() + TAG_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated(context)),
                &mut sealed[HEADER_BYTES..],
            )
            .expect("AES-GCM refuses only plaintexts of 64 GiB and more, which no buffer here reaches");
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts what [`StorageKey::seal`] made for the same `context`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] for anything else.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let refused = || VaultError::Sealed { context: context.to_owned() };
        let (header, body) = sealed.split_at_checked(HEADER_BYTES).ok_or_else(refused)?;
        let (format, nonce) = header.split_first().ok_or_else(refused)?;
        if *format != FORMAT {
            return Err(refused());
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = self
            .cipher()
            .open_in_place(nonce, Aad::from(associated(context)), &mut plain)
            .map_err(|_| refused())?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    /// Seals another key under this one, for `context`.
    ///
    /// # Errors
    /// [`VaultError::Random`].
    pub(crate) fn seal_key(&self, context: &str, inner: &Self) -> Result<Vec<u8>, VaultError> {
        self.seal(context, inner.0.as_slice())
    }

    /// Opens what [`StorageKey::seal_key`] made for the same `context`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] for anything else.
    pub(crate) fn open_key(&self, context: &str, sealed: &[u8]) -> Result<Self, VaultError> {
        let plain = self.open(context, sealed)?;
        let refused = || VaultError::Sealed { context: context.to_owned() };
        let bytes = <&[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_| refused())?;
        Ok(Self(Zeroizing::new(*bytes)))
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, self.0.as_slice()).expect("AES-256 keys have 32 bytes");
        LessSafeKey::new(key)
    }
}

fn associated(context: &str) -> Vec<u8> {
    [DOMAIN, context.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn sealed_bytes_open_only_unchanged_and_in_their_context() {
        let key = StorageKey::random().unwrap();
        let sealed = key.seal("ledger/7", b"a share").unwrap();
        assert_eq!(key.open("ledger/7", &sealed).unwrap().as_slice(), b"a share");
        assert!(matches!(key.open("ledger/8", &sealed), Err(VaultError::Sealed { .. })));
        assert!(StorageKey::random().unwrap().open("ledger/7", &sealed).is_err());
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(key.open("ledger/7", &changed).is_err(), "byte {position}");
            assert!(key.open("ledger/7", &sealed[..position]).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn the_same_text_is_sealed_differently_each_time() {
        let key = StorageKey::random().unwrap();
        assert_ne!(key.seal("c", b"text").unwrap(), key.seal("c", b"text").unwrap());
    }

    #[test]
    fn a_created_key_is_private_and_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("storage.key");
        let sealed = StorageKey::load_or_create(&path).unwrap().seal("c", b"text").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(
            StorageKey::load_or_create(&path).unwrap().open("c", &sealed).unwrap().as_slice(),
            b"text"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no unfinished file stays");
    }

    #[test]
    fn exposed_short_and_long_keys_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("storage.key");
        for length in [0, 31, 33, 4096] {
            file::write_atomic(&path, &vec![7; length]).unwrap();
            let error = StorageKey::load(&path).err().unwrap();
            assert!(matches!(error, VaultError::KeyLength { .. }), "{length}");
            assert!(error.to_string().contains("storage.key"));
        }
        file::write_atomic(&path, &[7; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(StorageKey::load(&path), Err(VaultError::Exposed { mode: 0o640, .. })));
        assert!(StorageKey::load_or_create(&path).is_err(), "an existing key is never replaced");
    }
}
