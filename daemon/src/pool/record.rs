//! What is known of a pool and its batches, and what one party tells the other of them.

use super::PoolId;
use crate::registry::{MaskId, ModelId};
use crate::vault::hex;
use consilium_protocol::party::Party;
use serde::{Deserialize, Serialize};

/// What a pool was made for. Anything else is served from another pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// The task.
    pub task: String,
    /// This party's seat.
    pub seat: Party,
    /// Digest of the plan.
    #[serde(with = "hex")]
    pub plan: [u8; 32],
    /// The models in the order of the plan: the registration of each, and the mask of its weights.
    pub models: Vec<(ModelId, MaskId)>,
    /// Where the randomness comes from.
    pub source: String,
}

/// The row of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolRow {
    pub(super) purpose: Purpose,
    /// First serial that no batch was ever written for.
    pub(super) next: u64,
}

/// The row of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRow {
    pub(super) count: u32,
    /// Bytes of one sealed bundle.
    pub(super) record_bytes: u64,
    #[serde(with = "hex")]
    pub(super) tag: [u8; 16],
    /// The key of the spool file, sealed. When this row goes, nobody reads the file again.
    pub(super) key: Vec<u8>,
}

/// Consecutive serials that were made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// First serial.
    pub first: u64,
    /// Number of serials.
    pub count: u32,
    /// Name of the making; the halves of two parties belong together only if it is the same.
    #[serde(with = "hex")]
    pub tag: [u8; 16],
}

impl Batch {
    /// The serial after the last.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}

/// What one party holds of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// The pool.
    #[serde(with = "hex")]
    pub pool: PoolId,
    /// First serial that this party may still use, by its ledger.
    pub mark: u64,
    /// First serial that no batch was ever written for here.
    pub next: u64,
    /// Batches held whole.
    pub batches: Vec<Batch>,
}

/// Serials below this may be given out; whoever comes this far begins another pool.
const SERIALS_MAX: u64 = 1 << 62;

impl Holding {
    /// What both parties go on with, which is the same from either side: the higher mark, the higher next
    /// serial, the batches that both hold with something left above the mark. `None` where they have to
    /// begin anew.
    pub fn agree(&self, other: &Self) -> Option<Self> {
        let (mark, next) = (self.mark.max(other.mark), self.next.max(other.next));
        if self.pool != other.pool || mark >= SERIALS_MAX || next >= SERIALS_MAX {
            return None;
        }
        let shared = |batch: &&Batch| batch.end() > mark && other.batches.contains(batch);
        let batches: Vec<Batch> = self.batches.iter().filter(shared).copied().collect();
        Some(Self { pool: self.pool, mark, next: next.max(mark), batches })
    }
}

pub(super) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(row, &mut bytes).expect("a row has no map key or float that CBOR lacks");
    bytes
}

/// Deeper nesting than any row has.
const ROW_DEPTH_MAX: usize = 8;

pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::de::from_reader_with_recursion_limit(bytes, ROW_DEPTH_MAX).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(mark: u64, next: u64, batches: &[(u64, u8)]) -> Holding {
        let batch = |(first, tag): &(u64, u8)| Batch { first: *first, count: 4, tag: [*tag; 16] };
        Holding { pool: [1; 16], mark, next, batches: batches.iter().map(batch).collect() }
    }

    #[test]
    fn both_sides_agree_on_the_same_and_on_nothing_below_the_higher_mark() {
        let zero = holding(5, 16, &[(0, 1), (4, 1), (8, 2), (12, 3)]);
        let one = holding(9, 12, &[(4, 1), (8, 2)]);
        let agreed = zero.agree(&one).unwrap();
        assert_eq!(agreed, one.agree(&zero).unwrap());
        assert_eq!(agreed, holding(9, 16, &[(8, 2)]));
    }

    #[test]
    fn halves_of_different_makings_do_not_meet() {
        let agreed = holding(0, 8, &[(0, 1), (4, 2)]).agree(&holding(0, 8, &[(0, 1), (4, 3)]));
        assert_eq!(agreed.unwrap().batches.len(), 1);
    }

    #[test]
    fn another_pool_and_a_burnt_one_are_not_resumed() {
        let own = holding(0, 4, &[(0, 1)]);
        assert_eq!(own.agree(&Holding { pool: [2; 16], ..own.clone() }), None);
        assert_eq!(own.agree(&Holding { mark: u64::MAX, ..own.clone() }), None);
        assert_eq!(own.agree(&Holding { next: u64::MAX, ..own.clone() }), None);
    }

    #[test]
    fn the_next_serial_is_never_below_the_mark() {
        let agreed = holding(9, 4, &[]).agree(&holding(0, 4, &[])).unwrap();
        assert_eq!((agreed.mark, agreed.next), (9, 9));
    }
}
