//! Files of tensors in the safetensors format, which PyTorch and others read.
//!
//! Beside the tensors a file says what it is, of which version, and the SHA-256 of everything else in it. That is no
//! signature: who changes a file on purpose can make it look whole.

use super::fault::LabError;
use crate::vault::{Pieces, VaultError, hex};
use ring::digest::{Context, SHA256};
use safetensors::serialize;
use safetensors::tensor::{Dtype, Metadata, TensorInfo, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The version that is written and read.
pub(super) const VERSION: &str = "1";
/// Longest file.
const FILE_BYTES_MAX: u64 = (1 << 30) + (1 << 20);
/// Longest heading, which stands behind its length.
const HEADING_BYTES_MAX: u64 = 1 << 20;
const LENGTH_BYTES: usize = 8;
/// Bytes of a tensor that are in memory at once where it is looked at alone.
const PIECE_BYTES: usize = 1 << 20;
/// Longest words about a file, which may be another's.
const PROBLEM_CHARS_MAX: usize = 300;
const VERSION_CHARS_MAX: usize = 40;
const KIND: &str = "kind";
const VERSION_KEY: &str = "version";
const DIGEST: &str = "sha256";

/// What a file says beside its tensors.
pub(super) type Notes = BTreeMap<String, String>;

/// A tensor on its way into a file.
pub(super) struct Entry {
    name: String,
    dtype: Dtype,
    dimensions: Vec<usize>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Entry {
    /// Numbers in single precision.
    pub(super) fn floats(name: impl Into<String>, dimensions: &[usize], values: &[f32]) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 * values.len()));
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        Self { name: name.into(), dtype: Dtype::F32, dimensions: dimensions.to_vec(), bytes }
    }

    /// Numbers below 256.
    pub(super) fn bytes(name: impl Into<String>, dimensions: &[usize], values: &[u8]) -> Self {
        let bytes = Zeroizing::new(values.to_vec());
        Self { name: name.into(), dtype: Dtype::U8, dimensions: dimensions.to_vec(), bytes }
    }
}

impl View for &Entry {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.dimensions
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// SHA-256 over what a file says and holds, each part behind its length.
struct Sum(Context);

impl Sum {
    fn of(notes: &Notes) -> Self {
        let mut sum = Self(Context::new(&SHA256));
        for (name, note) in notes.iter().filter(|(name, _)| *name != DIGEST) {
            sum.part(name.as_bytes());
            sum.part(note.as_bytes());
        }
        sum
    }

    fn part(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }

    fn length(&mut self, bytes: usize) {
        self.0.update(&(bytes as u64).to_le_bytes());
    }

    /// A tensor, by name, before its bytes.
    fn tensor(&mut self, name: &str, dimensions: &[usize], bytes: usize) {
        self.part(name.as_bytes());
        self.part(format!("{dimensions:?}").as_bytes());
        self.length(bytes);
    }

    fn hex(self) -> String {
        hex::encode(self.0.finish().as_ref())
    }
}

/// Words about a file, some of which may come from a peer: short, and nothing that a terminal obeys.
fn no_file(path: &Path, kind: &'static str, problem: &impl ToString) -> LabError {
    let shown = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    let problem = problem.to_string().chars().take(PROBLEM_CHARS_MAX).map(shown).collect();
    LabError::File { path: path.to_owned(), kind, problem }
}

/// The bytes of a file of this kind.
fn packed(
    path: &Path,
    kind: &'static str,
    mut notes: Notes,
    entries: &[Entry],
) -> Result<Zeroizing<Vec<u8>>, LabError> {
    notes.insert(KIND.to_owned(), kind.to_owned());
    notes.insert(VERSION_KEY.to_owned(), VERSION.to_owned());
    let mut sum = Sum::of(&notes);
    let sorted: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    for (name, entry) in sorted {
        sum.tensor(name, &entry.dimensions, entry.bytes.len());
        sum.0.update(&entry.bytes);
    }
    notes.insert(DIGEST.to_owned(), sum.hex());
    let notes: HashMap<String, String> = notes.into_iter().collect();
    let bytes = serialize(entries.iter().map(|entry| (entry.name.as_str(), entry)), Some(notes));
    let bytes = bytes.map(Zeroizing::new).map_err(|error| no_file(path, kind, &error))?;
    bytes.first_chunk().map_or(Ok(()), |length| heading_fits(path, kind, *length).map(drop))?;
    Ok(bytes)
}

/// The length of a heading, which is bounded for files that are read and for those that are written.
fn heading_fits(path: &Path, kind: &'static str, length: [u8; LENGTH_BYTES]) -> Result<u64, LabError> {
    let length = u64::from_le_bytes(length);
    if length <= HEADING_BYTES_MAX {
        return Ok(length);
    }
    Err(no_file(path, kind, &format!("its heading has {length} bytes, at most {HEADING_BYTES_MAX}")))
}

/// Writes a file, readable by its owner alone, in place of an older one of its kind.
pub(super) fn write(
    path: &Path,
    kind: &'static str,
    notes: Notes,
    entries: &[Entry],
) -> Result<(), LabError> {
    if path.exists() {
        // Something else under a mistaken name must not be lost.
        open(path, kind)?;
    }
    let mut pieces = Pieces::new(path)?;
    pieces.write(&packed(path, kind, notes, entries)?)?;
    Ok(pieces.replace()?)
}

/// As [`write`], but an existing file stays.
pub(super) fn write_new(
    path: &Path,
    kind: &'static str,
    notes: Notes,
    entries: &[Entry],
) -> Result<(), LabError> {
    let mut pieces = Pieces::new(path)?;
    pieces.write(&packed(path, kind, notes, entries)?)?;
    if pieces.publish()? { Ok(()) } else { Err(LabError::Exists { path: path.to_owned() }) }
}

/// Refuses a secret that others on this machine may read.
///
/// # Errors
/// [`VaultError::Exposed`].
pub(super) fn private(path: &Path) -> Result<(), VaultError> {
    let metadata = std::fs::metadata(path).map_err(|source| VaultError::io(path, "inspect", source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(VaultError::Exposed { path: path.to_owned(), mode }) }
}

/// A file of which the heading is in memory, and nothing else.
pub(super) struct Opened {
    path: PathBuf,
    kind: &'static str,
    file: File,
    notes: Notes,
    tensors: BTreeMap<String, TensorInfo>,
    /// Where tensors begin.
    start: u64,
}

/// Opens a file that must be of this kind and version, and whole.
pub(super) fn open(path: &Path, kind: &'static str) -> Result<Opened, LabError> {
    let opened = glance(path, kind)?;
    let mut sum = Sum::of(&opened.notes);
    for (name, info) in &opened.tensors {
        sum.tensor(name, &info.shape, info.data_offsets.1 - info.data_offsets.0);
        opened.pieces(info, |piece| sum.0.update(piece))?;
    }
    if opened.notes.get(DIGEST) != Some(&sum.hex()) {
        return Err(LabError::Tampered { path: opened.path });
    }
    Ok(opened)
}

/// As [`open`], but what the tensors hold is not looked at.
pub(super) fn glance(path: &Path, kind: &'static str) -> Result<Opened, LabError> {
    let file = File::open(path).map_err(|source| VaultError::io(path, "open", source))?;
    let found = file.metadata().map_err(|source| VaultError::io(path, "inspect", source))?.len();
    if found > FILE_BYTES_MAX {
        return Err(VaultError::TooLong { path: path.to_owned(), found, limit: FILE_BYTES_MAX }.into());
    }
    let mut length = [0; LENGTH_BYTES];
    (&file).read_exact(&mut length).map_err(|error| no_file(path, kind, &error))?;
    let length = heading_fits(path, kind, length)?;
    let mut heading = Vec::new();
    (&file).take(length).read_to_end(&mut heading).map_err(|error| no_file(path, kind, &error))?;
    // The tensors follow each other without a gap, or this is an error.
    let heading: Metadata = serde_json::from_slice(&heading).map_err(|error| no_file(path, kind, &error))?;
    let start = LENGTH_BYTES as u64 + length;
    let said = start.saturating_add(heading.data_len() as u64);
    if said != found {
        return Err(no_file(path, kind, &format!("it has {found} bytes, its heading says {said}")));
    }
    let notes: Notes = heading.metadata().clone().unwrap_or_default().into_iter().collect();
    match notes.get(KIND) {
        Some(found) if found == kind => {}
        Some(found) => return Err(no_file(path, kind, &format!("it is a {found}"))),
        None => return Err(no_file(path, kind, &"another program wrote it")),
    }
    if notes.get(VERSION_KEY).map(String::as_str) != Some(VERSION) {
        let found = notes.get(VERSION_KEY).map(|version| version.chars().take(VERSION_CHARS_MAX).collect());
        return Err(LabError::Version { path: path.to_owned(), found: found.unwrap_or_default() });
    }
    let tensors = heading.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
    Ok(Opened { path: path.to_owned(), kind, file, notes, tensors, start })
}

impl Opened {
    pub(super) fn refused(&self, problem: impl ToString) -> LabError {
        no_file(&self.path, self.kind, &problem)
    }

    /// Refuses a file that lacks one of these notes and tensors, or has another.
    pub(super) fn only(&self, notes: &[&str], tensors: &[&str]) -> Result<(), LabError> {
        let known = |name: &str| notes.contains(&name) || [KIND, VERSION_KEY, DIGEST].contains(&name);
        notes.iter().try_for_each(|name| self.note(name).map(drop))?;
        if let Some(name) = self.notes.keys().find(|name| !known(name)) {
            return Err(self.refused(format!("it has a note `{name}`, of which nothing is known")));
        }
        if let Some(name) = tensors.iter().find(|name| !self.tensors.contains_key(**name)) {
            return Err(self.refused(format!("it has no tensor {name}")));
        }
        match self.tensors.keys().find(|name| !tensors.contains(&name.as_str())) {
            Some(name) => Err(self.refused(format!("it has a tensor {name}, of which nothing is known"))),
            None => Ok(()),
        }
    }

    /// What the file says under a name.
    pub(super) fn note(&self, name: &str) -> Result<&str, LabError> {
        self.notes
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| self.refused(format!("it has no note `{name}`")))
    }

    /// As [`Self::note`], as JSON.
    pub(super) fn parsed<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, LabError> {
        let note = serde_json::from_str(self.note(name)?);
        note.map_err(|error| self.refused(format!("its note `{name}`: {error}")))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, LabError> {
        self.tensors.get(name).ok_or_else(|| self.refused(format!("it has no tensor {name}")))
    }

    /// Dimensions of a tensor.
    pub(super) fn dimensions(&self, name: &str) -> Result<&[usize], LabError> {
        Ok(&self.info(name)?.shape)
    }

    /// A tensor that must be of this type and these dimensions.
    fn fits(&self, name: &str, dtype: Dtype, dimensions: &[usize]) -> Result<&TensorInfo, LabError> {
        let info = self.info(name)?;
        if info.dtype == dtype && info.shape == dimensions {
            return Ok(info);
        }
        let (found, shape) = (info.dtype, &info.shape);
        Err(self.refused(format!("tensor {name} is {found:?} {shape:?}, {dtype:?} {dimensions:?} is needed")))
    }

    /// Hears the bytes of a tensor, whole numbers at a time.
    fn pieces(&self, info: &TensorInfo, mut heard: impl FnMut(&[u8])) -> Result<(), VaultError> {
        let (mut at, end) = info.data_offsets;
        let mut piece = Zeroizing::new(vec![0; PIECE_BYTES.min(end - at)]);
        while at < end {
            let bytes = PIECE_BYTES.min(end - at);
            let read = self.file.read_exact_at(&mut piece[..bytes], self.start + at as u64);
            read.map_err(|source| VaultError::io(&self.path, "read", source))?;
            heard(&piece[..bytes]);
            at += bytes;
        }
        Ok(())
    }

    /// Hears the numbers of a tensor in single precision, which must be finite.
    fn each(&self, name: &str, dimensions: &[usize], mut heard: impl FnMut(f32)) -> Result<(), LabError> {
        let (info, mut finite) = (self.fits(name, Dtype::F32, dimensions)?, true);
        self.pieces(info, |piece| {
            for word in piece.as_chunks::<4>().0 {
                let value = f32::from_le_bytes(*word);
                finite &= value.is_finite();
                heard(value);
            }
        })?;
        if finite {
            return Ok(());
        }
        Err(self.refused(format!("tensor {name} has a value that is not a finite number")))
    }

    /// A tensor of finite numbers in single precision.
    pub(super) fn floats(&self, name: &str, dimensions: &[usize]) -> Result<Vec<f32>, LabError> {
        // No more than the file has, by its heading.
        let mut values = Vec::with_capacity(self.fits(name, Dtype::F32, dimensions)?.shape.iter().product());
        self.each(name, dimensions, |value| values.push(value))?;
        Ok(values)
    }

    /// As [`Self::floats`], but nothing is kept.
    pub(super) fn finite(&self, name: &str, dimensions: &[usize]) -> Result<(), LabError> {
        self.each(name, dimensions, |_| ())
    }

    /// A tensor of numbers below 256.
    pub(super) fn small(&self, name: &str, dimensions: &[usize]) -> Result<Vec<u8>, LabError> {
        let mut values = Vec::new();
        self.pieces(self.fits(name, Dtype::U8, dimensions)?, |piece| values.extend_from_slice(piece))?;
        Ok(values)
    }

    /// That [`Self::floats`] and [`Self::small`] would find such tensors.
    pub(super) fn has(
        &self,
        floats: (&str, &[usize]),
        small: Option<(&str, &[usize])>,
    ) -> Result<(), LabError> {
        self.fits(floats.0, Dtype::F32, floats.1)?;
        small.map_or(Ok(()), |(name, dimensions)| self.fits(name, Dtype::U8, dimensions).map(drop))
    }
}

/// A value as a note.
pub(super) fn note(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain structs of numbers and strings have a JSON form")
}
