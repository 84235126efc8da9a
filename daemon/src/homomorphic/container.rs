//! What all files have in common.
//!
//! ```text
//! "consilium-he"   12 bytes
//! format            2 bytes, little-endian
//! kind              1 byte
//! length            4 bytes, little-endian, of
//! heading           CBOR
//! SHA-256          32 bytes, of all the above
//! body              as long as the kind and the plan say
//! SHA-256          32 bytes, of all the above
//! ```
//!
//! The first checksum lets a heading be trusted before a long body was read.

use super::fault::HomomorphicError as Error;
use crate::vault::{Pieces, VaultError};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The format that is written and read.
pub const FORMAT: u16 = 1;
/// Longest heading.
pub const HEADER_BYTES_MAX: usize = 1 << 16;
const MAGIC: &[u8; 12] = b"consilium-he";
/// Bytes before the heading.
const PREFIX: usize = MAGIC.len() + 7;
const DIGEST: usize = SHA256_OUTPUT_LEN;
/// Bytes that are read at once where nobody wants them.
const CHUNK: usize = 1 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// What both sides agree on.
    Plan,
    /// What the client keeps.
    Secret,
    /// What the owner needs from the client once.
    Keys,
    /// Encrypted inputs.
    Query,
    /// What the client keeps of a query.
    Ticket,
    /// Encrypted logits.
    Answer,
}

impl FileKind {
    const ALL: [Self; 6] = [Self::Plan, Self::Secret, Self::Keys, Self::Query, Self::Ticket, Self::Answer];

    fn byte(self) -> u8 {
        match self {
            Self::Plan => 1,
            Self::Secret => 2,
            Self::Keys => 3,
            Self::Query => 4,
            Self::Ticket => 5,
            Self::Answer => 6,
        }
    }
}

impl std::fmt::Display for FileKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plan => "a plan",
            Self::Secret => "a secret key",
            Self::Keys => "a set of evaluation keys",
            Self::Query => "a query",
            Self::Ticket => "the ticket of a query",
            Self::Answer => "an answer",
        })
    }
}

/// A file that is being written.
pub(super) struct Writer {
    pieces: Pieces,
    hash: Context,
    bytes: u64,
}

impl Writer {
    /// Begins a file beside `path` and writes its heading.
    pub(super) fn new(path: &Path, kind: FileKind, heading: &impl Serialize) -> Result<Self, Error> {
        // Room for everything at once: a buffer that grows would leave a secret behind.
        let mut text = Zeroizing::new(Vec::with_capacity(HEADER_BYTES_MAX));
        let problem = |problem: String| Error::Heading { path: path.to_owned(), problem };
        ciborium::into_writer(heading, &mut *text).map_err(|error| problem(error.to_string()))?;
        let length = u32::try_from(text.len()).ok().filter(|length| *length as usize <= HEADER_BYTES_MAX);
        let length = length.ok_or_else(|| problem(format!("it has {} bytes", text.len())))?;
        replaceable(path, kind)?;
        let mut writer = Self { pieces: Pieces::new(path)?, hash: Context::new(&SHA256), bytes: 0 };
        writer.write(MAGIC)?;
        writer.write(&FORMAT.to_le_bytes())?;
        writer.write(&[kind.byte()])?;
        writer.write(&length.to_le_bytes())?;
        writer.write(&text)?;
        writer.seal()?;
        Ok(writer)
    }

    /// Appends to the body.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(self.pieces.write(bytes)?)
    }

    fn seal(&mut self) -> Result<(), Error> {
        let digest = self.hash.clone().finish();
        self.write(digest.as_ref())
    }

    /// Ends the file, gives it its name, and tells its length.
    pub(super) fn replace(mut self) -> Result<u64, Error> {
        self.seal()?;
        self.pieces.replace()?;
        Ok(self.bytes)
    }

    /// As [`Self::replace`], but an existing file stays.
    pub(super) fn publish(mut self, path: &Path) -> Result<u64, Error> {
        self.seal()?;
        if self.pieces.publish()? { Ok(self.bytes) } else { Err(Error::Exists { path: path.to_owned() }) }
    }
}

/// Refuses to put a file in place of anything but an older one of its kind: a mistaken name would cost a model or a secret.
fn replaceable(path: &Path, kind: FileKind) -> Result<(), Error> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|source| VaultError::io(path, "open", source))?,
    };
    let mut start = Vec::with_capacity(PREFIX);
    let read = file.by_ref().take(PREFIX as u64).read_to_end(&mut start);
    read.map_err(|source| VaultError::io(path, "read", source))?;
    let same = start.starts_with(MAGIC) && start.get(MAGIC.len() + 2) == Some(&kind.byte());
    match kind {
        FileKind::Secret => Err(Error::Exists { path: path.to_owned() }),
        _ if same || start.is_empty() => Ok(()),
        _ => Err(Error::InTheWay { path: path.to_owned(), kind }),
    }
}

/// A file whose heading was read and is whole.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    kind: FileKind,
    heading: Zeroizing<Vec<u8>>,
    hash: Context,
    length: u64,
    start: u64,
    read: u64,
}

impl Reader {
    /// Opens a file of any kind. A secret that others may read is refused.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| VaultError::io(path, "open", source))?;
        let metadata = file.metadata().map_err(|source| VaultError::io(path, "inspect", source))?;
        let length = metadata.len();
        let mut reader = Self {
            file,
            path: path.to_owned(),
            kind: FileKind::Plan,
            heading: Zeroizing::default(),
            hash: Context::new(&SHA256),
            length,
            start: 0,
            read: 0,
        };
        let magic = reader.take(MAGIC.len().min(usize::try_from(length).unwrap_or(usize::MAX)))?;
        if magic.is_empty() || !MAGIC.starts_with(&magic) {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        reader.require(PREFIX as u64)?;
        let prefix = reader.take(PREFIX - MAGIC.len())?;
        let [low, high, kind, size @ ..] = prefix.as_slice() else {
            return Err(reader.truncated(PREFIX as u64));
        };
        let found = u16::from_le_bytes([*low, *high]);
        if found != FORMAT {
            return Err(Error::Version { path: path.to_owned(), found });
        }
        let size = size.iter().rev().fold(0_usize, |size, byte| size << 8 | usize::from(*byte));
        let known = FileKind::ALL.into_iter().find(|known| known.byte() == *kind);
        let Some(known) = known.filter(|_| size <= HEADER_BYTES_MAX) else {
            let problem = format!("kind {kind} with {size} bytes");
            return Err(Error::Heading { path: path.to_owned(), problem });
        };
        reader.kind = known;
        reader.start = (PREFIX + size + DIGEST) as u64;
        reader.require(reader.start + DIGEST as u64)?;
        let mut heading = Zeroizing::new(vec![0; size]);
        reader.fill(&mut heading)?;
        reader.heading = heading;
        reader.check()?;
        let mode = metadata.permissions().mode() & 0o7777;
        if known == FileKind::Secret && mode & 0o077 != 0 {
            return Err(VaultError::Exposed { path: path.to_owned(), mode }.into());
        }
        Ok(reader)
    }

    /// Opens a file that must be of this kind.
    pub(super) fn open_as(path: &Path, expected: FileKind) -> Result<Self, Error> {
        let reader = Self::open(path)?;
        if reader.kind == expected {
            return Ok(reader);
        }
        Err(Error::Kind { path: path.to_owned(), found: reader.kind, expected })
    }

    pub(super) fn kind(&self) -> FileKind {
        self.kind
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the whole file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What the heading says.
    pub(super) fn heading<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let parsed = ciborium::from_reader(self.heading.as_slice());
        // The parser's words may quote what it read, which is not for a screen where it is a secret.
        parsed.map_err(|error: ciborium::de::Error<std::io::Error>| match error {
            ciborium::de::Error::Semantic(_, problem) if self.kind != FileKind::Secret => {
                self.senseless(problem)
            }
            _ => self.senseless("it cannot be parsed".to_owned()),
        })
    }

    pub(super) fn senseless(&self, problem: String) -> Error {
        Error::Heading { path: self.path.clone(), problem }
    }

    /// Refuses a body of another length.
    pub(super) fn expect_body(&self, bytes: u64) -> Result<(), Error> {
        let expected = self.start.saturating_add(bytes).saturating_add(DIGEST as u64);
        self.require(expected)?;
        if self.length > expected {
            return Err(Error::Longer { path: self.path.clone(), found: self.length, expected });
        }
        Ok(())
    }

    /// The next bytes of the body.
    pub(super) fn take(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let end = self.read + bytes.len() as u64;
        self.file.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.truncated(end),
            _ => VaultError::io(&self.path, "read", error).into(),
        })?;
        self.hash.update(bytes);
        self.read = end;
        Ok(())
    }

    /// Reads what is left of the body and compares the checksum at the end.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let end = self.length.saturating_sub(DIGEST as u64);
        while self.read < end {
            self.take(usize::try_from(end - self.read).unwrap_or(CHUNK).min(CHUNK))?;
        }
        self.check()
    }

    /// Bytes of the body at an offset.
    pub(super) fn at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, self.start + offset);
        read.map_err(|source| VaultError::io(&self.path, "read", source))?;
        Ok(bytes)
    }

    /// The next bytes are the checksum of those before.
    fn check(&mut self) -> Result<(), Error> {
        let expected = self.hash.clone().finish();
        let found = self.take(DIGEST)?;
        if found.as_slice() == expected.as_ref() {
            Ok(())
        } else {
            Err(Error::Tampered { path: self.path.clone() })
        }
    }

    fn require(&self, expected: u64) -> Result<(), Error> {
        if self.length < expected { Err(self.truncated(expected)) } else { Ok(()) }
    }

    fn truncated(&self, expected: u64) -> Error {
        Error::Truncated { path: self.path.clone(), found: self.length, expected }
    }
}
