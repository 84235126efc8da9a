//! What a client and an owner say to each other. Files follow in frames of bounded size ([`crate::transfer`]).
//!
//! ```text
//! client                                    owner
//! Plan           ------------------------>
//!                <------------------------  Plan, and the plan in frames
//! Ask            ------------------------>
//!                <------------------------  Keys, where it does not hold them
//! evaluation keys, in frames  ----------->
//!                <------------------------  Query
//! query, in frames  --------------------->
//!                <------------------------  Working, every few seconds
//!                <------------------------  Answer, and the answer in frames
//! ```
//!
//! In place of any of its messages the owner says why not.

use crate::homomorphic::{HEADER_BYTES_MAX, KeyId};
use crate::message::Refusal;
use consilium_protocol::homomorphic::Mode;
use serde::{Deserialize, Serialize};

/// Longest message of a client.
pub(super) const REQUEST_BYTES_MAX: usize = 4096;
/// Longest message of an owner.
pub(super) const REPLY_BYTES_MAX: usize = 16 << 10;
/// What a file may have beside its body.
pub(super) const FRAMING_BYTES_MAX: u64 = HEADER_BYTES_MAX as u64 + 256;

/// From a client to an owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Request {
    /// Which plan is in force. Answered by [`Reply::Plan`].
    Plan {
        /// The task.
        task: String,
        /// Public terms of the task as the client knows them.
        task_digest: [u8; 32],
        /// How inputs are encrypted.
        mode: Mode,
    },
    /// A question. Answered by [`Reply::Keys`] or [`Reply::Query`].
    Ask {
        /// The task.
        task: String,
        /// Public terms of the task as the client knows them.
        task_digest: [u8; 32],
        /// Digest of the plan.
        plan: [u8; 32],
        /// The client's key.
        key: KeyId,
        /// Inputs of the query.
        inputs: u32,
        /// Bytes of the query, a file.
        query_bytes: u64,
        /// Bytes of the evaluation keys, a file, if they are wanted.
        keys_bytes: u64,
    },
}

/// From an owner to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Reply {
    /// The plan follows in frames, as a file.
    Plan {
        /// Its bytes.
        bytes: u64,
        /// Inputs that the owner still answers for this client.
        left: u64,
    },
    /// Send the evaluation keys first.
    Keys,
    /// Send the query.
    Query,
    /// It is waited for its turn, or worked on.
    Working {
        /// Bytes done, of all.
        done: u64,
        /// All; 0 while it waits.
        all: u64,
    },
    /// The answer follows in frames.
    Answer {
        /// Its bytes.
        bytes: u64,
        /// Inputs counted for this client by now, this query's included.
        counted: u64,
        /// Inputs that are left.
        left: u64,
    },
    /// Not granted.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Obstacle;
    use crate::net::codec::{decode, encode, testing::survives};
    use proptest::prelude::*;

    fn requests() -> impl Strategy<Value = Request> {
        let plan = (".{0,80}", any::<[u8; 32]>(), any::<bool>()).prop_map(|(task, task_digest, batch)| {
            let mode = if batch { Mode::Batch } else { Mode::Single };
            Request::Plan { task, task_digest, mode }
        });
        let numbers = (any::<u32>(), any::<u64>(), any::<u64>());
        let ask = (".{0,80}", any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 16]>(), numbers).prop_map(
            |(task, task_digest, plan, key, (inputs, query_bytes, keys_bytes))| {
                let key: KeyId = serde_json::from_value(crate::vault::hex::encode(&key).into()).unwrap();
                Request::Ask { task, task_digest, plan, key, inputs, query_bytes, keys_bytes }
            },
        );
        prop_oneof![plan, ask]
    }

    proptest! {
        #[test]
        fn requests_read_back_and_damaged_ones_are_errors(
            request in requests(),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            survives(&request, REQUEST_BYTES_MAX, place, byte);
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Reply>(&bytes);
        }
    }

    #[test]
    fn replies_fit_their_bound() {
        let refusal = Refusal::new(Obstacle::Inputs, "é".repeat(10_000));
        for reply in [
            Reply::Plan { bytes: u64::MAX, left: u64::MAX },
            Reply::Answer { bytes: u64::MAX, counted: u64::MAX, left: u64::MAX },
            Reply::Refused(refusal),
        ] {
            let bytes = encode(&reply).unwrap();
            assert!(bytes.len() <= REPLY_BYTES_MAX, "{} bytes", bytes.len());
            assert_eq!(decode::<Reply>(&bytes).unwrap(), reply);
        }
    }
}
