//! The token that callers show: where it comes from, and how it is compared.

use crate::vault::{VaultError, hex, read_bounded, write_atomic};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the systemd credential that goes before the file.
const CREDENTIAL: &str = "consilium.token";
/// Characters of a token.
const CHARS: std::ops::RangeInclusive<usize> = 32..=256;
/// Bytes of chance in a token that is made here.
const FRESH_BYTES: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A token that is too short to be secret, or no text.
    #[error(
        "{0} holds no token: it is one line of {from} to {to} letters, digits or signs without space; remove \
         the file to have one made, or write one with `openssl rand -hex 32`",
        from = CHARS.start(), to = CHARS.end()
    )]
    Form(PathBuf),
}

/// What a presented token is compared with. The token itself is not kept.
pub(crate) struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Token {
    fn new(secret: &[u8]) -> Result<Self, VaultError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| VaultError::Random)?;
        let tag = hmac::sign(&key, secret);
        Ok(Self { key, tag })
    }

    /// The token of a node whose file is `path`, made if there is neither a credential nor a file.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        Ok(Self::new(secret(path, true)?.as_bytes())?)
    }

    /// Whether this is the token, in a time that does not depend on what is presented.
    pub(crate) fn is(&self, presented: &[u8]) -> bool {
        hmac::verify(&self.key, presented, self.tag.as_ref()).is_ok()
    }

    /// For tests of the interface.
    #[cfg(test)]
    pub(crate) fn of(secret: &str) -> Self {
        Self::new(secret.as_bytes()).unwrap()
    }
}

/// The token of a node whose file is `path`.
///
/// # Errors
/// There is none, others may read it, or it is too short.
pub fn read(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    secret(path, false)
}

fn secret(path: &Path, create: bool) -> Result<Zeroizing<String>, TokenError> {
    if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let credential = PathBuf::from(folder).join(CREDENTIAL);
        // The service manager lets nobody else read it, by means that the mode does not show.
        if credential.exists() {
            return parse(&credential);
        }
    }
    match std::fs::metadata(path) {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o7777;
            if mode & 0o077 != 0 {
                return Err(VaultError::Exposed { path: path.to_owned(), mode }.into());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound && create => make(path)?,
        Err(source) => return Err(VaultError::io(path, "inspect", source).into()),
    }
    parse(path)
}

fn parse(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let form = || TokenError::Form(path.to_owned());
    let bytes = read_bounded(path, *CHARS.end() as u64 + 2)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| form())?.trim_end_matches(['\r', '\n']);
    let fits = CHARS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Zeroizing::new(text.to_owned())) } else { Err(form()) }
}

fn make(path: &Path) -> Result<(), VaultError> {
    let mut chance = Zeroizing::new([0; FRESH_BYTES]);
    SystemRandom::new().fill(chance.as_mut_slice()).map_err(|_| VaultError::Random)?;
    let text = Zeroizing::new(hex::encode(chance.as_slice()));
    write_atomic(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    fn put(path: &Path, text: &str, mode: u32) {
        write(path, text).unwrap();
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.token");
        assert!(matches!(read(&path), Err(TokenError::Vault(VaultError::Io { .. }))));
        let token = Token::load_or_create(&path).unwrap();
        let text = read(&path).unwrap();
        assert_eq!((text.len(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o777), (64, 0o600));
        assert!(token.is(text.as_bytes()) && Token::load_or_create(&path).unwrap().is(text.as_bytes()));
        for wrong in ["", &text[1..], &format!("{} ", *text), &text.to_uppercase()[..]] {
            // Sixty-four hexadecimal digits without a letter happen once in 10^13.
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_that_others_read_or_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let good = "0123456789abcdef0123456789abcdef";
        put(&path, good, 0o640);
        let exposed = read(&path).unwrap_err();
        assert!(exposed.to_string().contains("chmod 0600"), "{exposed}");
        put(&path, &format!("{good}\n"), 0o600);
        assert_eq!(read(&path).unwrap().as_str(), good);
        for bad in ["", "short", &good.replace('0', " "), &good.replace('0', "é"), &"x".repeat(257)] {
            put(&path, bad, 0o600);
            let error = read(&path).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        put(&path, "short", 0o600);
        assert!(read(&path).unwrap_err().to_string().contains("openssl rand -hex 32"));
    }
}
