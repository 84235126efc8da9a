//! What was asked and answered, durably: a distillation goes on where it stopped and pays once.
//!
//! One JSON object a line: a heading, then an entry before each question is put (with the name of the
//! release) and one when its answer is there. Every line is on the disk before the next step. A question
//! without an answer is put again under its old name: if the consortium had answered it, it gives the same
//! answer and charges nothing.

use crate::ledger::ReleaseId;
use crate::vault::VaultError;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest work file.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Why the work file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The file cannot be opened, read or written.
    #[error(transparent)]
    File(#[from] VaultError),
    /// Another process uses it.
    #[error("another distillation works in {path}; wait for it, or give this one another --out")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to another distillation.
    #[error("{path} belongs to another distillation: its {what} is another one. Give this one another --out")]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// A line that this program did not write so.
    #[error("{path}, line {line}: {problem}. What it records was paid for: restore it, do not delete it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a distillation is about; it must be the same when it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heading {
    /// Format of the file.
    pub version: u32,
    /// The task.
    pub task: String,
    /// Names of its classes.
    pub classes: Vec<String>,
    /// Digest of the unlabelled rows.
    pub rows: String,
    /// Labels wanted.
    pub labels: usize,
    /// Fixes the choice of rows and the training.
    pub seed: u64,
}

/// One line after the heading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Entry {
    /// A question that is put from now on.
    Ask {
        /// Position of the row, from 0.
        row: usize,
        /// Name of the release.
        release: ReleaseId,
    },
    /// Its answer.
    Answer {
        /// The release.
        release: ReleaseId,
        /// The class, or `None` where there was no consensus.
        class: Option<u8>,
        /// What was charged to each owner, in units of 2^-40.
        charged: u64,
    },
    /// It will never be answered, and may be charged.
    Lost {
        /// The release.
        release: ReleaseId,
        /// What the consortium said.
        reason: String,
    },
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not known yet.
    Open,
    /// A label.
    Label(u8),
    /// The owners did not agree clearly enough; charged all the same.
    NoConsensus,
    /// Broken off after it may have been charged.
    Lost,
}

/// A question that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Position of the row.
    pub row: usize,
    /// Name of the release.
    pub release: ReleaseId,
    /// What became of it.
    pub outcome: Outcome,
    /// What was charged to each owner, in units of 2^-40; 0 while not known.
    pub charged: u64,
}

/// An open work file. While it is open no other process can open it.
#[derive(Debug)]
pub struct Work {
    path: PathBuf,
    file: File,
    heading: Heading,
    rows: usize,
    asked: Vec<Asked>,
    releases: HashSet<ReleaseId>,
}

impl Work {
    /// Version of the format.
    pub const VERSION: u32 = 1;

    /// Opens the file at `path` or makes it. `wanted` becomes its heading; a file that is there must have the
    /// same, but for its seed. Questions are about one of `rows` rows.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn open(path: &Path, wanted: &Heading, rows: usize) -> Result<Self, WorkError> {
        let failed = |action| move |source| VaultError::io(path, action, source);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(path).map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(WorkError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source).into()),
        }
        let mut bytes = read(&mut file).map_err(failed("read"))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            // The process ended in the middle of a line: what it announced did not begin.
            file.set_len(whole as u64).map_err(failed("truncate"))?;
            bytes.truncate(whole);
        }
        let (asked, releases) = (Vec::new(), HashSet::new());
        let mut work = Self { path: path.to_owned(), file, heading: wanted.clone(), rows, asked, releases };
        let text = String::from_utf8(bytes).map_err(|error| work.damaged(1, error.to_string()))?;
        let mut lines = text.lines().enumerate();
        match lines.next() {
            None => work.append(wanted)?,
            Some((_, line)) => work.heading = work.same(serde_json::from_str(line), wanted)?,
        }
        // For a file that was there too: whoever made it may have ended before its name was on the disk.
        sync_directory_of(path)?;
        for (index, line) in lines {
            let entry = serde_json::from_str::<Entry>(line).map_err(|error| error.to_string());
            entry.and_then(|entry| work.apply(&entry)).map_err(|problem| work.damaged(index + 1, problem))?;
        }
        Ok(work)
    }

    fn same(&self, found: serde_json::Result<Heading>, wanted: &Heading) -> Result<Heading, WorkError> {
        let found = found.map_err(|error| self.damaged(1, error.to_string()))?;
        let differs = [
            ("format", found.version != wanted.version),
            ("task", found.task != wanted.task),
            ("list of classes", found.classes != wanted.classes),
            ("set of unlabelled rows", found.rows != wanted.rows),
            ("number of labels", found.labels != wanted.labels),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            Some((what, _)) => Err(WorkError::Other { path: self.path.clone(), what }),
            None => Ok(found),
        }
    }

    fn damaged(&self, line: usize, problem: String) -> WorkError {
        WorkError::Damaged { path: self.path.clone(), line, problem }
    }

    /// What the distillation is about.
    pub fn heading(&self) -> &Heading {
        &self.heading
    }

    /// All questions in the order in which they were put.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// What was charged to each owner until so many labels were there, in units of 2^-40: attempts in between
    /// that gave no label count as well. Everything where there are fewer labels.
    pub fn charged_until(&self, labels: usize) -> u64 {
        let (mut left, mut charged) = (labels, 0u64);
        for asked in &self.asked {
            if left == 0 {
                break;
            }
            charged = charged.saturating_add(asked.charged);
            left -= usize::from(matches!(asked.outcome, Outcome::Label(_)));
        }
        charged
    }

    /// The question that was put last, if it has no answer yet. Earlier ones have.
    pub fn open_question(&self) -> Option<&Asked> {
        self.asked.last().filter(|asked| asked.outcome == Outcome::Open)
    }

    /// Adds an entry. When this returns, it is on the disk.
    ///
    /// # Errors
    /// The disk, or an entry that does not follow from those before.
    pub fn record(&mut self, entry: &Entry) -> Result<(), WorkError> {
        let line = self.asked.len() + 1;
        self.apply(entry).map_err(|problem| self.damaged(line, problem))?;
        self.append(entry)
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), WorkError> {
        let failed = |source| VaultError::io(&self.path, "write", source);
        let mut text = serde_json::to_vec(line).map_err(|error| failed(io::Error::other(error)))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(failed)?;
        Ok(self.file.sync_data().map_err(failed)?)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        let (release, outcome, charged) = match entry {
            Entry::Ask { row, release } => {
                if self.open_question().is_some() {
                    return Err("a question is put before the last one has its answer".into());
                }
                if *row >= self.rows {
                    return Err(format!("there is no row {row} among {}", self.rows));
                }
                if !self.releases.insert(*release) {
                    return Err(format!("release {release} is asked twice"));
                }
                let (row, release) = (*row, *release);
                self.asked.push(Asked { row, release, outcome: Outcome::Open, charged: 0 });
                return Ok(());
            }
            Entry::Answer { release, class: Some(class), charged } => {
                if usize::from(*class) >= self.heading.classes.len() {
                    return Err(format!("there is no class {class}"));
                }
                (release, Outcome::Label(*class), *charged)
            }
            Entry::Answer { release, class: None, charged } => (release, Outcome::NoConsensus, *charged),
            Entry::Lost { release, .. } => (release, Outcome::Lost, 0),
        };
        let open = |asked: &&mut Asked| asked.release == *release && asked.outcome == Outcome::Open;
        let asked = self.asked.iter_mut().rev().find(open);
        let asked = asked.ok_or_else(|| format!("release {release} is not waiting for an answer"))?;
        (asked.outcome, asked.charged) = (outcome, charged);
        Ok(())
    }
}

/// Makes the name of a new file durable, as `sync_data` does its bytes.
fn sync_directory_of(path: &Path) -> Result<(), VaultError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| VaultError::io(directory, "synchronise", source))
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    if file.metadata()?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("longer than any work file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 211;

    fn open(path: &Path, heading: &Heading) -> Result<Work, WorkError> {
        Work::open(path, heading, ROWS)
    }

    fn heading() -> Heading {
        let classes = vec!["gutartig".into(), "bösartig".into()];
        Heading {
            version: Work::VERSION,
            task: "mass".into(),
            classes,
            rows: "ab".into(),
            labels: 4,
            seed: 7,
        }
    }

    fn release(number: u8) -> ReleaseId {
        ReleaseId([number; 16])
    }

    fn ask(number: u8) -> Entry {
        Entry::Ask { row: usize::from(number) * 10, release: release(number) }
    }

    fn answer(number: u8, class: Option<u8>) -> Entry {
        Entry::Answer { release: release(number), class, charged: 5 }
    }

    fn entries() -> Vec<Entry> {
        let lost = Entry::Lost { release: release(2), reason: "interrupted".into() };
        vec![ask(1), answer(1, Some(1)), ask(2), lost, ask(3), answer(3, None), ask(4)]
    }

    #[test]
    fn everything_is_there_when_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.jsonl");
        let mut work = open(&path, &heading()).unwrap();
        for entry in entries() {
            work.record(&entry).unwrap();
        }
        let before = work.asked().to_vec();
        assert!(matches!(open(&path, &heading()), Err(WorkError::Busy { .. })));
        drop(work);
        let work = open(&path, &Heading { seed: 9, ..heading() }).unwrap();
        assert_eq!((work.asked(), work.heading()), (&before[..], &heading()));
        let outcomes: Vec<&Outcome> = before.iter().map(|asked| &asked.outcome).collect();
        assert_eq!(outcomes, [&Outcome::Label(1), &Outcome::Lost, &Outcome::NoConsensus, &Outcome::Open]);
        assert_eq!(work.open_question(), Some(&before[3]));
        assert_eq!(before.iter().map(|asked| asked.charged).collect::<Vec<_>>(), [5, 0, 5, 0]);
    }

    /// A process may end at any byte that it writes.
    #[test]
    fn a_torn_line_never_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.jsonl");
        let mut work = open(&path, &heading()).unwrap();
        entries().iter().for_each(|entry| work.record(entry).unwrap());
        drop(work);
        let whole = std::fs::read(&path).unwrap();
        let torn = folder.path().join("torn.jsonl");
        for length in 0..whole.len() {
            std::fs::write(&torn, &whole[..length]).unwrap();
            let mut work = open(&torn, &heading()).unwrap();
            let kept = whole[..length].iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
            let asks = entries()[..kept].iter().filter(|entry| matches!(entry, Entry::Ask { .. })).count();
            assert_eq!(work.asked().len(), asks, "{length} bytes");
            if let Some(open) = work.open_question().map(|asked| asked.release) {
                work.record(&Entry::Lost { release: open, reason: "ü".into() }).unwrap();
            }
            work.record(&ask(21)).unwrap();
            drop(work);
            let again = open(&torn, &heading()).unwrap();
            assert_eq!(again.asked().last().unwrap().row, 210);
        }
    }

    #[test]
    fn another_distillation_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.jsonl");
        drop(open(&path, &heading()).unwrap());
        let refused = |other: Heading| match open(&path, &other).unwrap_err() {
            WorkError::Other { what, .. } => what,
            error => panic!("{error}"),
        };
        assert_eq!(refused(Heading { task: "else".into(), ..heading() }), "task");
        assert_eq!(refused(Heading { rows: "cd".into(), ..heading() }), "set of unlabelled rows");
        assert_eq!(refused(Heading { labels: 5, ..heading() }), "number of labels");
        assert_eq!(refused(Heading { classes: vec![], ..heading() }), "list of classes");
    }

    #[test]
    fn what_does_not_follow_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        for (number, bad) in [
            vec![answer(1, Some(0))],
            vec![ask(1), ask(2)],
            vec![Entry::Ask { row: ROWS, release: release(1) }],
            vec![ask(1), answer(1, None), ask(1)],
            vec![ask(1), answer(1, Some(2))],
            vec![ask(1), answer(1, None), answer(1, None)],
        ]
        .iter()
        .enumerate()
        {
            let path = folder.path().join(number.to_string());
            let mut work = open(&path, &heading()).unwrap();
            let (last, first) = bad.split_last().unwrap();
            first.iter().for_each(|entry| work.record(entry).unwrap());
            let before = work.asked().to_vec();
            assert!(matches!(work.record(last), Err(WorkError::Damaged { .. })));
            drop(work);
            assert_eq!(open(&path, &heading()).unwrap().asked(), before, "nothing was written");
            let mut text = std::fs::read_to_string(&path).unwrap();
            text.push_str(&serde_json::to_string(last).unwrap());
            text.push('\n');
            std::fs::write(&path, text).unwrap();
            assert!(matches!(open(&path, &heading()), Err(WorkError::Damaged { .. })));
        }
    }

    /// Rows are looked up by what the file says.
    #[test]
    fn a_row_that_does_not_exist_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.jsonl");
        drop(open(&path, &heading()).unwrap());
        let mut text = std::fs::read_to_string(&path).unwrap();
        let far = Entry::Ask { row: 4_000_000_000, release: release(1) };
        text.push_str(&serde_json::to_string(&far).unwrap());
        text.push('\n');
        std::fs::write(&path, text).unwrap();
        let error = open(&path, &heading()).unwrap_err();
        assert!(matches!(error, WorkError::Damaged { line: 2, .. }), "{error}");
        assert!(error.to_string().contains("no row 4000000000"), "{error}");
    }

    #[test]
    fn a_label_costs_what_was_charged_until_it_came() {
        let folder = tempfile::tempdir().unwrap();
        let mut work = open(&folder.path().join("work.jsonl"), &heading()).unwrap();
        for (number, class) in [(1, None), (2, Some(1)), (3, None), (4, None), (5, Some(0)), (6, None)] {
            work.record(&ask(number)).unwrap();
            work.record(&answer(number, class)).unwrap();
        }
        assert_eq!([0, 1, 2, 3, 9].map(|labels| work.charged_until(labels)), [0, 10, 25, 30, 30]);
    }
}
