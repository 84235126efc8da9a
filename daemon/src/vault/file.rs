//! Files that are there whole or not at all, after a power cut too.

use super::{StorageKey, VaultError};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

const UNFINISHED_PREFIX: &str = ".unfinished-";
/// Bytes that sealing adds.
const SEAL_BYTES: u64 = 29;

/// Replaces `path` by a file of mode 0600 with these bytes. When this returns, the bytes are on the
/// disk; when it fails, the former file is unchanged.
///
/// # Errors
/// [`VaultError::Full`], [`VaultError::Io`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    let staged = stage(path, bytes)?;
    staged.persist(path).map_err(|error| VaultError::io(path, "replace", error.error))?;
    sync_directory(parent(path))
}

/// As [`write_atomic`], for bytes that are made piece by piece. An existing file is replaced.
///
/// # Errors
/// [`VaultError::Full`], [`VaultError::Io`], and whatever a piece says.
pub(crate) fn write_pieces(
    path: &Path,
    pieces: impl Iterator<Item = Result<Vec<u8>, VaultError>>,
) -> Result<(), VaultError> {
    let mut file = Pieces::new(path)?;
    for piece in pieces {
        file.write(&piece?)?;
    }
    file.replace()
}

/// A file that is written piece by piece, and is there whole or not at all. Of one that is dropped nothing stays.
pub(crate) struct Pieces {
    staged: NamedTempFile,
    path: PathBuf,
}

impl Pieces {
    /// Begins a file of mode 0600 beside `path`.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Io`].
    pub(crate) fn new(path: &Path) -> Result<Self, VaultError> {
        Ok(Self { staged: beside(path)?, path: path.to_owned() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Io`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), VaultError> {
        self.staged.write_all(bytes).map_err(|source| VaultError::io(&self.path, "write", source))
    }

    /// Gives the file its name, in place of another one if there is one.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Io`].
    pub(crate) fn replace(self) -> Result<(), VaultError> {
        self.sync()?;
        let Self { staged, path } = self;
        staged.persist(&path).map_err(|error| VaultError::io(&path, "replace", error.error))?;
        sync_directory(parent(&path))
    }

    /// Gives the file its name unless it is taken, and says whether it did.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Io`].
    pub(crate) fn publish(self) -> Result<bool, VaultError> {
        self.sync()?;
        publish(self.staged, &self.path)
    }

    fn sync(&self) -> Result<(), VaultError> {
        self.staged.as_file().sync_all().map_err(|source| VaultError::io(&self.path, "write", source))
    }
}

/// Reads exactly `length` bytes at `offset`. The caller bounds `length`.
///
/// # Errors
/// [`VaultError::Io`]; a file that ends before is one.
pub(crate) fn read_at(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, VaultError> {
    let file = File::open(path).map_err(|source| VaultError::io(path, "open", source))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).map_err(|source| VaultError::io(path, "read", source))?;
    Ok(bytes)
}

/// Removes a directory with everything in it, which may be absent already, so that it stays removed.
///
/// # Errors
/// [`VaultError::Io`].
pub(crate) fn remove_tree(path: &Path) -> Result<(), VaultError> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_directory(parent(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(VaultError::io(path, "remove", source)),
    }
}

/// Gives a file another name on the same disk, in place of another one if there is one.
///
/// # Errors
/// [`VaultError::Io`].
pub(crate) fn move_file(from: &Path, to: &Path) -> Result<(), VaultError> {
    fs::rename(from, to).map_err(|source| VaultError::io(to, "move a file to", source))?;
    sync_directory(parent(to))
}

/// As [`write_atomic`], but leaves an existing file alone and says `false`.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, VaultError> {
    let staged = stage(path, bytes)?;
    publish(staged, path)
}

/// Gives a finished file its name, unless the name is taken.
pub(super) fn publish(staged: NamedTempFile, path: &Path) -> Result<bool, VaultError> {
    match staged.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(VaultError::io(path, "create", error.error)),
    }
    sync_directory(parent(path))?;
    Ok(true)
}

/// An empty file of mode 0600 beside `path`, which disappears unless it is given a name.
pub(super) fn beside(path: &Path) -> Result<NamedTempFile, VaultError> {
    tempfile::Builder::new()
        .prefix(UNFINISHED_PREFIX)
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(parent(path))
        .map_err(|source| VaultError::io(path, "create a file beside", source))
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`VaultError::TooLong`], [`VaultError::Io`].
pub fn read_bounded(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let file = File::open(path).map_err(|source| VaultError::io(path, "open", source))?;
    let found = file.metadata().map_err(|source| VaultError::io(path, "inspect", source))?.len();
    let too_long = |found| VaultError::TooLong { path: path.to_owned(), found, limit };
    let room = usize::try_from(found).ok().filter(|_| found <= limit).ok_or_else(|| too_long(found))?;
    // One byte more than the file has, so that reading to its end never moves the buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    let read = file.take(found).read_to_end(&mut bytes);
    read.map_err(|source| VaultError::io(path, "read", source))?;
    Ok(bytes)
}

/// Seals `plain` for `context` and writes it as [`write_atomic`] does.
///
/// # Errors
/// [`VaultError::Full`], [`VaultError::Io`], [`VaultError::Random`].
pub fn write_sealed(key: &StorageKey, path: &Path, context: &str, plain: &[u8]) -> Result<(), VaultError> {
    write_atomic(path, &key.seal(context, plain)?)
}

/// Reads what [`write_sealed`] wrote for the same `context`; `limit` counts bytes before sealing.
///
/// # Errors
/// [`VaultError::Damaged`], [`VaultError::TooLong`], [`VaultError::Io`].
pub fn read_sealed(
    key: &StorageKey,
    path: &Path,
    context: &str,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let sealed = read_bounded(path, limit.saturating_add(SEAL_BYTES))?;
    key.open(context, &sealed)
        .map_err(|_| VaultError::Damaged { path: path.to_owned(), context: context.to_owned() })
}

/// Removes a file, which may be absent already, so that it stays removed after a power cut.
///
/// # Errors
/// [`VaultError::Io`].
pub fn remove_durably(path: &Path) -> Result<(), VaultError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(VaultError::io(path, "remove", source)),
    }
}

/// Makes a directory of mode 0700, with its parents, unless it exists.
///
/// # Errors
/// [`VaultError::Full`], [`VaultError::Io`].
pub fn private_directory(path: &Path) -> Result<(), VaultError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| VaultError::io(path, "create", source))?;
    sync_directory(parent(path))
}

/// Removes what a crash in the middle of a write left in `directory`. Nobody else may be writing there.
///
/// # Errors
/// [`VaultError::Io`].
pub fn sweep_unfinished(directory: &Path) -> Result<(), VaultError> {
    let failed = |source| VaultError::io(directory, "list", source);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
            remove_durably(&entry.path())?;
        }
    }
    Ok(())
}

fn stage(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, VaultError> {
    let mut staged = beside(path)?;
    staged
        .write_all(bytes)
        .and_then(|()| staged.as_file().sync_all())
        .map_err(|source| VaultError::io(path, "write", source))?;
    Ok(staged)
}

fn sync_directory(path: &Path) -> Result<(), VaultError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| VaultError::io(path, "synchronise", source))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_stays_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value");
        write_atomic(&path, b"first").unwrap();
        write_atomic(&path, b"second").unwrap();
        assert_eq!(read_bounded(&path, 6).unwrap().as_slice(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_names_the_file_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("value");
        let error = write_atomic(&path, b"text").unwrap_err();
        assert!(error.to_string().contains("missing/value"), "{error}");
        // A directory in the way makes the last step, the rename, fail.
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"text").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no unfinished file stays");
    }

    #[test]
    fn a_long_or_damaged_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value");
        let key = StorageKey::random().unwrap();
        write_sealed(&key, &path, "weights", &[1; 100]).unwrap();
        assert_eq!(read_sealed(&key, &path, "weights", 100).unwrap().as_slice(), &[1; 100]);
        assert!(matches!(read_sealed(&key, &path, "weights", 99), Err(VaultError::TooLong { .. })));
        assert!(matches!(read_sealed(&key, &path, "masks", 100), Err(VaultError::Damaged { .. })));
        let whole = read_bounded(&path, 1000).unwrap();
        write_atomic(&path, &whole[..60]).unwrap();
        let error = read_sealed(&key, &path, "weights", 100).unwrap_err();
        assert!(matches!(error, VaultError::Damaged { .. }));
        assert!(error.to_string().contains("value"));
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = std::io::Error::from(ErrorKind::StorageFull);
        let error = VaultError::io(Path::new("/var/lib/consilium/x"), "write", error);
        assert!(matches!(error, VaultError::Full { .. }));
        assert!(error.to_string().contains("/var/lib/consilium/x"));
    }

    #[test]
    fn the_sweep_takes_only_unfinished_files() {
        let directory = tempfile::tempdir().unwrap();
        let staged = beside(&directory.path().join("value")).unwrap();
        let (_, left_over) = staged.keep().unwrap();
        write_atomic(&directory.path().join("value"), b"text").unwrap();
        sweep_unfinished(directory.path()).unwrap();
        assert!(!left_over.exists());
        assert!(directory.path().join("value").exists());
    }
}
