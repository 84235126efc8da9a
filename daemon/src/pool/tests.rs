//! What survives, what is refused, and what a damaged disk costs.

use super::*;
use crate::registry::{MaskId, ModelId};
use consilium_protocol::party::Party;
use std::fs;

const POOL: PoolId = [7; 16];
const TAG: [u8; 16] = [9; 16];

struct Bench {
    directory: tempfile::TempDir,
    key: Arc<StorageKey>,
}

impl Bench {
    fn new() -> (Self, Pools) {
        let key = Arc::new(StorageKey::random().unwrap());
        let bench = Self { directory: tempfile::tempdir().unwrap(), key };
        let pools = bench.open();
        pools.create(POOL, purpose("chest")).unwrap();
        (bench, pools)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("pools")
    }

    fn open(&self) -> Pools {
        let (pools, fault) = Pools::open(&self.path(), self.key.clone()).unwrap();
        assert!(fault.is_none());
        pools
    }

    fn file(&self, first: u64) -> PathBuf {
        self.path().join("chest").join(hex::encode(&POOL)).join(format!("{first}.spool"))
    }

    /// Spool files and folders of pools, not the index.
    fn files(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let below = |entry: fs::DirEntry| {
                if entry.file_type().unwrap().is_dir() { 1 + count(&entry.path()) } else { 1 }
            };
            fs::read_dir(folder).unwrap().map(|entry| below(entry.unwrap())).sum()
        }
        count(&self.path()) - 1
    }
}

fn purpose(task: &str) -> Purpose {
    let models = vec![(ModelId([1; 16]), MaskId([2; 16]))];
    Purpose { task: task.into(), seat: Party::One, plan: [3; 32], models, source: "dealer".into() }
}

fn bundles(first: u64, count: u64) -> Vec<Bundle> {
    let bundle = |serial: u64| {
        Bundle::Stored(Seed::from_bytes([serial as u8; 16]), Zeroizing::new(vec![serial, !serial, 1]))
    };
    (first..first + count).map(bundle).collect()
}

fn words(bundle: Bundle) -> (u8, Vec<u64>) {
    match bundle {
        Bundle::Stored(seed, words) => (seed.as_bytes()[0], words.to_vec()),
        Bundle::Seeded(seed, words) => (seed.as_bytes()[0], words.to_vec()),
    }
}

#[test]
fn batches_survive_and_each_serial_reads_back_as_its_own() {
    let (bench, pools) = Bench::new();
    pools.write(POOL, 0, TAG, &bundles(0, 4)).unwrap();
    pools.write(POOL, 6, TAG, &bundles(6, 3)).unwrap();
    drop(pools);
    let pools = bench.open();
    for serial in [0, 3, 6, 8] {
        assert_eq!(words(pools.read(POOL, serial).unwrap()), (serial as u8, vec![serial, !serial, 1]));
    }
    for serial in [4, 5, 9] {
        assert!(matches!(pools.read(POOL, serial), Err(PoolError::NotHeld { .. })));
    }
    assert_eq!(pools.list().unwrap(), [(POOL, purpose("chest"))]);
    let (held, faults) = pools.holding(POOL, 2).unwrap();
    assert!(faults.is_empty());
    assert_eq!((held.mark, held.next, held.batches.len()), (2, 9, 2));
    let seeded = [Bundle::Seeded(Seed::from_bytes([5; 16]), Zeroizing::default())];
    pools.write(POOL, 9, TAG, &seeded).unwrap();
    assert_eq!(words(pools.read(POOL, 9).unwrap()), (5, Vec::new()));
}

#[test]
fn serials_only_rise_also_after_a_batch_is_gone() {
    let (bench, pools) = Bench::new();
    pools.write(POOL, 0, TAG, &bundles(0, 4)).unwrap();
    pools.discard(POOL, 0).unwrap();
    drop(pools);
    let pools = bench.open();
    let again = pools.write(POOL, 3, TAG, &bundles(3, 1));
    assert!(matches!(again, Err(PoolError::Falls { first: 3, next: 4 })));
    let agreed = Holding { pool: POOL, mark: 0, next: 10, batches: Vec::new() };
    pools.settle(&agreed).unwrap();
    assert!(matches!(pools.write(POOL, 9, TAG, &bundles(9, 1)), Err(PoolError::Falls { .. })));
    pools.write(POOL, 10, TAG, &bundles(10, 1)).unwrap();
}

#[test]
fn what_is_spent_or_not_agreed_on_is_deleted_with_its_file() {
    let (bench, pools) = Bench::new();
    for first in [0, 4, 8] {
        pools.write(POOL, first, TAG, &bundles(first, 4)).unwrap();
    }
    let (held, _) = pools.holding(POOL, 4).unwrap();
    assert!(!bench.file(0).exists() && bench.file(4).exists());
    let theirs = Holding { batches: vec![held.batches[1]], ..held.clone() };
    pools.settle(&held.agree(&theirs).unwrap()).unwrap();
    assert!(!bench.file(4).exists() && bench.file(8).exists());
    assert!(matches!(pools.read(POOL, 5), Err(PoolError::NotHeld { .. })));
    assert_eq!(pools.bytes(POOL).unwrap(), fs::metadata(bench.file(8)).unwrap().len());
    pools.retire(POOL).unwrap();
    assert!(matches!(pools.read(POOL, 8), Err(PoolError::Gone { .. })));
    assert!(matches!(pools.write(POOL, 12, TAG, &bundles(12, 1)), Err(PoolError::Gone { .. })));
    assert!(!bench.file(8).exists());
    pools.retire(POOL).unwrap();
}

#[test]
fn a_file_without_a_row_is_removed_and_never_read() {
    let (bench, pools) = Bench::new();
    pools.write(POOL, 0, TAG, &bundles(0, 2)).unwrap();
    let copy = fs::read(bench.file(0)).unwrap();
    pools.discard(POOL, 0).unwrap();
    fs::write(bench.file(0), &copy).unwrap();
    assert!(matches!(pools.read(POOL, 0), Err(PoolError::NotHeld { .. })), "its key is gone");
    fs::write(bench.file(0).with_file_name(".unfinished-x"), b"half").unwrap();
    fs::create_dir_all(bench.path().join("other/0011")).unwrap();
    drop(pools);
    bench.open();
    assert_eq!(bench.files(), 2, "the folders of the task and of its pool");
}

#[test]
fn damage_is_named_and_costs_one_batch() {
    let (bench, pools) = Bench::new();
    pools.write(POOL, 0, TAG, &bundles(0, 3)).unwrap();
    pools.write(POOL, 3, TAG, &bundles(3, 3)).unwrap();
    let whole = fs::read(bench.file(0)).unwrap();
    for position in (0..whole.len()).step_by(7) {
        let mut spoilt = whole.clone();
        spoilt[position] ^= 1;
        fs::write(bench.file(0), &spoilt).unwrap();
        let refused: Vec<PoolError> = (0..3).filter_map(|serial| pools.read(POOL, serial).err()).collect();
        assert!(!refused.is_empty(), "byte {position}");
        for error in refused {
            let text = error.to_string();
            assert!(text.contains("0.spool") && text.contains("discarded on both sides"), "{text}");
        }
    }
    for length in [0, 20, whole.len() - 1] {
        fs::write(bench.file(0), &whole[..length]).unwrap();
        assert!(matches!(pools.read(POOL, 2), Err(PoolError::Damaged { .. })), "{length} bytes");
    }
    // A whole file of another batch.
    fs::copy(bench.file(3), bench.file(0)).unwrap();
    assert!(pools.read(POOL, 0).is_err());
    let (held, faults) = pools.holding(POOL, 0).unwrap();
    assert_eq!((held.batches.len(), held.batches[0].first, faults.len()), (1, 3, 1));
    assert!(!bench.file(0).exists());
    fs::remove_file(bench.file(3)).unwrap();
    assert!(matches!(pools.read(POOL, 3), Err(PoolError::Damaged { .. })), "missing");
}

#[test]
fn records_do_not_open_elsewhere_or_under_another_key() {
    let (bench, pools) = Bench::new();
    pools.write(POOL, 0, TAG, &bundles(0, 2)).unwrap();
    let whole = fs::read(bench.file(0)).unwrap();
    let (head, records) = whole.split_at(HEADER_BYTES as usize);
    let (one, two) = records.split_at(records.len() / 2);
    fs::write(bench.file(0), [head, two, one].concat()).unwrap();
    assert!(pools.read(POOL, 0).is_err() && pools.read(POOL, 1).is_err(), "records changed places");
    fs::write(bench.file(0), &whole).unwrap();
    pools.read(POOL, 0).unwrap();
    assert!(!whole.windows(16).any(|window| window == [1; 16]), "no seed lies in the clear");
    drop(pools);
    let (other, _) = Pools::open(&bench.path(), Arc::new(StorageKey::random().unwrap())).unwrap();
    assert!(other.read(POOL, 0).is_err(), "the storage key is another");
}

#[test]
fn an_index_that_cannot_be_read_costs_all_pools_and_not_the_start() {
    let (bench, pools) = Bench::new();
    pools.write(POOL, 0, TAG, &bundles(0, 2)).unwrap();
    drop(pools);
    fs::write(bench.path().join(INDEX_FILE), b"not a database").unwrap();
    let (pools, fault) = Pools::open(&bench.path(), bench.key.clone()).unwrap();
    assert!(fault.unwrap().to_string().contains(INDEX_FILE));
    assert!(pools.list().unwrap().is_empty());
    assert_eq!(bench.files(), 0);
    pools.create(POOL, purpose("chest")).unwrap();
    pools.write(POOL, 0, TAG, &bundles(0, 2)).unwrap();
}

#[test]
fn a_failed_write_leaves_the_pool_as_it_was() {
    let (bench, pools) = Bench::new();
    pools.write(POOL, 0, TAG, &bundles(0, 2)).unwrap();
    // A folder in the way makes the renaming fail, as a full disk makes the writing.
    fs::create_dir(bench.file(2)).unwrap();
    let error = pools.write(POOL, 2, TAG, &bundles(2, 2)).unwrap_err();
    assert!(error.to_string().contains("2.spool"), "{error}");
    fs::remove_dir(bench.file(2)).unwrap();
    pools.write(POOL, 2, TAG, &bundles(2, 2)).unwrap();
    assert_eq!(pools.holding(POOL, 0).unwrap().0.batches.len(), 2);
    assert_eq!(fs::read_dir(bench.file(0).parent().unwrap()).unwrap().count(), 2, "nothing unfinished stays");
}

#[test]
fn a_batch_has_one_shape() {
    let (_bench, pools) = Bench::new();
    let mut uneven = bundles(0, 2);
    uneven.push(Bundle::Stored(Seed::from_bytes([0; 16]), Zeroizing::new(vec![1])));
    let mixed =
        vec![Bundle::Seeded(Seed::from_bytes([0; 16]), Zeroizing::default()), bundles(0, 1).remove(0)];
    for bad in [uneven, mixed, Vec::new()] {
        assert!(matches!(pools.write(POOL, 0, TAG, &bad), Err(PoolError::Shape { .. })));
    }
}

#[test]
fn a_pool_is_retired_whole_while_a_batch_of_it_is_written() {
    let (bench, pools) = Bench::new();
    for round in 0..40 {
        let pool = [round + 100; 16];
        pools.create(pool, purpose("chest")).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| pools.write(pool, 0, TAG, &bundles(0, 4)));
            pools.retire(pool).unwrap();
            let written = writing.join().unwrap();
            assert!(matches!(written, Ok(_) | Err(PoolError::Gone { .. })), "{written:?}");
        });
        assert!(!bench.path().join(format!("chest/{}", hex::encode(&pool))).exists());
    }
}
