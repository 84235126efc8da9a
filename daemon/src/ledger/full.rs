//! A disk that is really full refuses reservations and forgets none.
//!
//! The work is done by a child on a file system of one small tmpfs of its own, where the system lets an
//! ordinary process mount one; else under a limit of the size of files, which is no full disk but refuses
//! writes as one does.

#![allow(clippy::print_stdout, reason = "the child tells its parent")]

use super::trial::{Bench, charged, receipt, request};
use super::{LedgerError, Reserve};
use crate::vault::StoreError;
use std::path::Path;
use std::process::{Command, Output};

/// Set for the child: the folder to fill.
const CHILD: &str = "CONSILIUM_TEST_FULL_DISK";
const THIS: &str = "ledger::full::a_full_disk_refuses_and_goes_on_when_there_is_room";
/// Room of the file system, and what a file beside the ledger takes of it until there shall be room again.
const ROOM_KB: usize = 12 << 10;
const FILLER_KB: usize = 4 << 10;
const COST: u64 = 7;

fn large(n: u16) -> Reserve {
    let mut large = request(1);
    large.release.0[..2].copy_from_slice(&n.to_le_bytes());
    large.content[..2].copy_from_slice(&n.to_le_bytes());
    large.owners = (0..900).map(|owner| charged(&format!("{owner:0>100}"))).collect();
    (large.cost, large.owner_limit, large.client_limit) = (COST, u64::MAX, u64::MAX);
    (large.correlations.first, large.noise_ticket) = (10 * u64::from(n), None);
    large
}

/// Fills the folder with reservations, then makes room and looks what is left.
fn fill(folder: &Path) {
    let filler = folder.join("filler");
    std::fs::write(&filler, vec![1; FILLER_KB << 10]).unwrap();
    let mut bench = Bench::within(folder);
    let mut granted = 0;
    let error = (0..4000).find_map(|n| match bench.ledger().reserve(&large(n)) {
        Ok(paid) => {
            drop(receipt(Ok(paid)));
            granted = n + 1;
            None
        }
        Err(error) => Some(error),
    });
    let error = error.unwrap();
    assert!(granted > 3, "{granted}: {error}");
    // A limit of file sizes is told as another error than a full disk.
    let full = matches!(error, LedgerError::Store(StoreError::Full { .. }));
    let kind = std::env::var(CHILD).unwrap();
    assert!(full || kind == "limit", "{error}");
    assert!(error.to_string().contains("ledger.redb"), "{error}");
    let again = bench.ledger().reserve(&large(granted)).unwrap_err();
    assert!(again.to_string().contains("restart"), "nothing goes on: {again}");

    bench.close();
    std::fs::remove_file(&filler).unwrap();
    if kind == "limit" {
        // The limit stays; what was granted can be looked at in a copy.
        return println!("filled after {granted}: {error}");
    }
    bench.open();
    let report = bench.ledger().report("chest").unwrap();
    assert_eq!(report.owners.len(), 900);
    assert!(report.owners.iter().all(|owner| owner.spent == COST * u64::from(granted)), "{granted}");
    assert_eq!((report.dead, report.in_progress), (u64::from(granted), 0));
    bench.ledger().verify().unwrap();
    let next = receipt(bench.ledger().reserve(&large(granted)));
    bench.ledger().commit(next, b"share").unwrap();
    println!("filled after {granted}: {error}");
}

fn child(script: &str, kind: &str, folder: &Path) -> Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg("sh").arg(folder).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", THIS]).env(CHILD, kind).env("TMPDIR", folder).output().unwrap()
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    if std::env::var_os(CHILD).is_some() {
        return fill(&std::env::temp_dir());
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = format!(
        "exec unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o size={ROOM_KB}k none \"$1\" && \
         shift && exec \"$@\"' sh \"$@\""
    );
    let mounts = "unshare --user --map-root-user --mount mount -t tmpfs none \"$1\"";
    let probe = Command::new("sh").arg("-c").arg(mounts).arg("sh").arg(folder.path()).output().unwrap();
    let told = if probe.status.success() {
        child(&mount, "tmpfs", folder.path())
    } else {
        let limit = format!("trap '' XFSZ; ulimit -f {}; shift; exec \"$@\"", 2 * (ROOM_KB - FILLER_KB));
        child(&limit, "limit", folder.path())
    };
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && text.contains("filled after"), "{told:?}");
}
