//! Records and how they are chained.
//!
//! The hash of a record is SHA-256 over the hash before it and the record's bytes. The bytes are CBOR
//! with definite lengths, shortest integers and fields in the order declared here; bytes that decode
//! but are not what encoding gives back are refused, so that one history has one chain.

use super::{Opening, ReleaseId, Reserve, SignedStatement};
use crate::vault::hex;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Version of the record format. In 1 a task's book was opened by its first reservation and budgets stood
/// in the roster alone; in 2 noise tickets were numbers.
pub(super) const VERSION: u64 = 3;
/// Hash before the first record.
pub(super) const BEFORE_FIRST: [u8; 32] = [0; 32];
/// Longest record: the largest reservation has about 1024 owners of 128 bytes.
const RECORD_BYTES_MAX: usize = 256 << 10;
/// Deeper nesting than any record has, far less than a stack has room for.
const RECORD_DEPTH_MAX: usize = 16;

/// Position in the chain: the last record and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Number of the record, from 0.
    pub sequence: u64,
    /// Hash over the whole chain up to it.
    #[serde(with = "hex")]
    pub hash: [u8; 32],
}

/// One record of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the record format.
    pub version: u64,
    /// Number of the record, from 0.
    pub sequence: u64,
    /// What happened.
    pub entry: Entry,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The ledger was created. Always record 0, and only that.
    Created {
        /// Random name of this ledger.
        #[serde(with = "hex")]
        ledger: [u8; 16],
    },
    /// The book of a task was opened. Before any other record of that task, and once.
    Open(Opening),
    /// An owner changed its budget or began a data epoch.
    State(SignedStatement),
    /// A release was paid for.
    Reserve(Reserve),
    /// Its output share was stored.
    Commit {
        /// The release.
        release: ReleaseId,
        /// SHA-256 of the sealed share. Never of the share, which may be short enough to guess.
        #[serde(with = "hex")]
        sealed_digest: [u8; 32],
    },
    /// It was given up.
    Abort {
        /// The release.
        release: ReleaseId,
        /// Whether the cost was given back.
        refunded: bool,
    },
    /// The ledger was opened and found it neither committed nor aborted.
    Dead {
        /// The release.
        release: ReleaseId,
    },
    /// Serials were given up without a release: both parties agreed on a higher mark, or the pool is
    /// retired.
    Burn {
        /// The pool.
        #[serde(with = "hex")]
        epoch: [u8; 16],
        /// First serial that may still be used; [`BURNT`] for none, ever.
        below: u64,
    },
}

/// The mark of a pool of which no serial may be used any more.
pub const BURNT: u64 = u64::MAX;

/// Why bytes are not a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Version(u64),
    Malformed(&'static str),
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).expect("a record has no map key or float that CBOR lacks");
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Unreadable::Malformed("too long"));
        }
        // The version first: what else a later format has is not known here.
        let Versioned { version } = read(bytes)?;
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        let record: Self = read(bytes)?;
        if record.encode() != bytes {
            return Err(Unreadable::Malformed("not in canonical form"));
        }
        Ok(record)
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    ciborium::de::from_reader_with_recursion_limit(bytes, RECORD_DEPTH_MAX)
        .map_err(|_| Unreadable::Malformed("not a record"))
}

/// Hash of the chain after a record.
pub(super) fn link(before: &[u8; 32], record: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(record);
    finish(context)
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    finish(context)
}

fn finish(context: Context) -> [u8; 32] {
    context.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Change;
    use crate::ledger::trial::{opening, request, statement};
    use crate::net::Identity;
    use consilium_protocol::privacy::Mechanism;
    use proptest::prelude::*;

    fn record() -> Record {
        Record { version: VERSION, sequence: 1, entry: Entry::Reserve(request(1)) }
    }

    #[test]
    fn a_record_is_read_back_and_nothing_else_is() {
        let bytes = record().encode();
        assert_eq!(Record::decode(&bytes).unwrap(), record());
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Record::decode(&longer), Err(Unreadable::Malformed("not in canonical form")));
    }

    #[test]
    fn the_format_of_records_does_not_drift() {
        let entry = Entry::Commit { release: ReleaseId([7; 16]), sealed_digest: [9; 32] };
        let record = Record { version: VERSION, sequence: 300, entry };
        let expected = concat!(
            "a3",
            "6776657273696f6e03",
            "6873657175656e636519012c",
            "65656e747279a166636f6d6d6974a2",
            "6772656c656173655007070707070707070707070707070707",
            "6d7365616c65645f64696765737458200909090909090909090909090909090909090909090909090909090909090909",
        );
        assert_eq!(hex::encode(&record.encode()), expected);
    }

    #[test]
    fn a_later_format_is_named_even_if_it_looks_different() {
        let mut bytes = Vec::new();
        ciborium::into_writer(&serde_json::json!({ "version": 4, "novelty": [1, 2] }), &mut bytes).unwrap();
        assert_eq!(Record::decode(&bytes), Err(Unreadable::Version(4)));
        let record = Record { version: 7, ..record() };
        assert_eq!(Record::decode(&record.encode()), Err(Unreadable::Version(7)));
    }

    #[test]
    fn an_unknown_kind_of_record_is_fatal() {
        let mut bytes = Vec::new();
        let entry = serde_json::json!({ "forgive": { "release": 1 } });
        let record = serde_json::json!({ "version": VERSION, "sequence": 1, "entry": entry });
        ciborium::into_writer(&record, &mut bytes).unwrap();
        assert_eq!(Record::decode(&bytes), Err(Unreadable::Malformed("not a record")));
    }

    #[test]
    fn the_deepest_records_are_read_back() {
        let budget = Change::Budget { epsilon: "2.5".parse().unwrap() };
        let signed = statement(1, budget).sign(&Identity::generate()).unwrap();
        let mut paid = request(1);
        paid.mechanism = Mechanism::Gaussian { sigma_squared: "25/4".parse().unwrap() };
        for entry in [Entry::Open(opening()), Entry::State(signed), Entry::Reserve(paid)] {
            let record = Record { version: VERSION, sequence: 1, entry };
            assert_eq!(Record::decode(&record.encode()).unwrap(), record);
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        }
    }

    #[test]
    fn integers_in_a_longer_form_are_refused() {
        let bytes = record().encode();
        // 0x03 after the key "version" is the same number as 0x1803.
        let at = 1 + 1 + "version".len();
        assert_eq!(bytes[at], 3);
        let longer = [&bytes[..at], &[0x18, 0x03], &bytes[at + 1..]].concat();
        assert_eq!(Record::decode(&longer), Err(Unreadable::Malformed("not in canonical form")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }
}
