//! The file as a power cut may leave it: the last commit torn at every byte, cut, or spoilt.
//!
//! Whatever is left, either the file is refused in words that say what to do, or it opens with the charge that
//! the peer was shown, or it opens without it and the peer's memory refuses it. A charge is never lost in
//! silence. `CONSILIUM_TORN=all` tries every byte in place of a part of them.

use super::trial::{Bench, receipt, request};
use super::{Abort, Head, Ledger, LedgerError, Receipt, Report};
use crate::vault::StorageKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images tried of each kind unless all are wanted.
const PART: usize = 150;

/// Images in which the byte that selects the newest state came before that state. The disk is told to sync in
/// between, so no power cut leaves one; they lead one commit further back, and the peer refuses them as well.
const ALONE_MAX: usize = 4;

/// A commit between two images of the file, both as a crash would leave them.
struct Commit {
    _bench: Bench,
    key: Arc<StorageKey>,
    path: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
    heads: [Head; 2],
    reports: [Report; 2],
    /// Offsets that the commit changed.
    changed: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    refused: usize,
    /// Before the last commit, further back, and after it.
    old: usize,
    older: usize,
    new: usize,
}

impl Commit {
    /// What `work` does in one transaction, after what `prepare` did.
    fn new<T>(prepare: impl FnOnce(&Ledger) -> T, work: impl FnOnce(&Ledger, T)) -> Self {
        let bench = Bench::new();
        let ledger = bench.ledger();
        for n in 1..4 {
            let paid = receipt(ledger.reserve(&request(n)));
            ledger.commit(paid, &[n]).unwrap();
        }
        let prepared = prepare(ledger);
        let look = || {
            let image = std::fs::read(bench.path()).unwrap();
            (image, ledger.head().unwrap(), ledger.report("chest").unwrap())
        };
        let (before, head, report) = look();
        work(ledger, prepared);
        let (after, later_head, later_report) = look();
        assert_eq!(before.len(), after.len(), "the commit fits the room that the file has");
        let changed = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
        let (key, path) = (bench.key(), bench.path().with_extension("torn.redb"));
        let (heads, reports) = ([head, later_head], [report, later_report]);
        Self { _bench: bench, key, path, before, after, heads, reports, changed }
    }

    fn reservation() -> Self {
        Self::new(|_| (), |ledger, ()| drop(receipt(ledger.reserve(&request(4)))))
    }

    fn answer() -> Self {
        let work = |ledger: &Ledger, paid: Receipt| {
            ledger.commit(paid, b"share").unwrap();
        };
        Self::new(|ledger| receipt(ledger.reserve(&request(4))), work)
    }

    fn refund() -> Self {
        let work = |ledger: &Ledger, paid: Receipt| {
            ledger.abort(paid.release(), Abort::Bilateral).unwrap();
        };
        Self::new(|ledger| receipt(ledger.reserve(&request(4))), work)
    }

    /// Positions in the list of changed offsets: all, or evenly spread ones.
    fn places(&self) -> impl Iterator<Item = usize> {
        let all = std::env::var("CONSILIUM_TORN").is_ok_and(|word| word == "all");
        let step = if all { 1 } else { (self.changed.len() / PART).max(1) | 1 };
        (0..=self.changed.len()).step_by(step)
    }

    /// Opens an image and sorts it in.
    #[track_caller]
    fn open(&self, image: &[u8], what: &str, seen: &mut Seen) {
        std::fs::write(&self.path, image).unwrap();
        match Ledger::open(&self.path, self.key.clone()) {
            Err(error) => {
                let text = error.to_string();
                let helps = ["restore", "keep a copy", "upgrade", "restart"];
                assert!(text.contains("torn.redb"), "{what}: {text}");
                assert!(helps.iter().any(|help| text.contains(help)), "{what}: {text}");
                assert_eq!(std::fs::metadata(&self.path).unwrap().len(), image.len() as u64, "{what}");
                seen.refused += 1;
            }
            Ok(ledger) => match ledger.check_own_head(self.heads[1]) {
                Ok(()) => {
                    spent_as(&ledger, &self.reports[1], what);
                    seen.new += 1;
                }
                Err(error) => {
                    assert!(matches!(error, LedgerError::BehindPeer { .. }), "{what}: {error}");
                    assert!(error.to_string().contains("Bring the newer ledger back"), "{what}: {error}");
                    if ledger.check_own_head(self.heads[0]).is_ok() {
                        spent_as(&ledger, &self.reports[0], what);
                        seen.old += 1;
                    } else {
                        seen.older += 1;
                    }
                }
            },
        }
    }
}

#[track_caller]
fn spent_as(ledger: &Ledger, expected: &Report, what: &str) {
    let report = ledger.report("chest").unwrap();
    assert_eq!((&report.owners, &report.clients), (&expected.owners, &expected.clients), "{what}");
    assert_eq!(report.answered, expected.answered, "{what}");
}

/// Bytes arrive on the disk in the order of their offsets up to some byte, or in the opposite order.
#[test]
fn a_commit_torn_at_every_byte_loses_no_charge_in_silence() {
    for commit in [Commit::reservation(), Commit::answer(), Commit::refund()] {
        let mut seen = Seen::default();
        for place in commit.places() {
            for rising in [true, false] {
                let mut image = commit.before.clone();
                let (first, last) = commit.changed.split_at(place);
                let written = if rising { first } else { last };
                written.iter().for_each(|at| image[*at] = commit.after[*at]);
                commit.open(&image, &format!("torn at {place}, rising {rising}"), &mut seen);
            }
        }
        assert!(seen.old > 0 && seen.new > 0, "{seen:?} of {} bytes", commit.changed.len());
        assert!(seen.older <= ALONE_MAX, "{seen:?}");
    }
}

#[test]
fn a_spoilt_byte_of_the_last_commit_loses_no_charge_in_silence() {
    let commit = Commit::reservation();
    let mut seen = Seen::default();
    for place in commit.places() {
        let Some(at) = commit.changed.get(place).copied() else { continue };
        for mask in [0x01, 0x80, 0xff] {
            let mut image = commit.after.clone();
            image[at] ^= mask;
            commit.open(&image, &format!("byte {at} xor {mask:#x}"), &mut seen);
        }
        // A byte that never arrived.
        let mut image = commit.after.clone();
        image[at] = commit.before[at];
        commit.open(&image, &format!("byte {at} as it was"), &mut seen);
    }
    assert!(seen.refused > 0, "{seen:?}");
}

#[test]
fn a_file_cut_at_any_byte_of_the_last_commit_is_refused() {
    let commit = Commit::reservation();
    let mut seen = Seen::default();
    for place in commit.places() {
        let Some(at) = commit.changed.get(place).copied() else { continue };
        commit.open(&commit.after[..at], &format!("cut at {at}"), &mut seen);
    }
    assert!(seen.refused > 0 && seen.old == 0, "{seen:?}");
}

/// A restored copy opens, as it must, and both what the peer was shown and what it shows refuse it.
#[test]
fn an_old_image_opens_and_is_refused_by_what_the_peer_saw() {
    let commit = Commit::reservation();
    let mut seen = Seen::default();
    commit.open(&commit.before, "the old image", &mut seen);
    commit.open(&commit.after, "the new image", &mut seen);
    assert_eq!((seen.old, seen.new, seen.refused), (1, 1, 0));
    assert!(Path::new(&commit.path).exists());
}
