//! What a sender and a receiver of encodings say to each other. The file follows in frames ([`crate::transfer`]).
//!
//! ```text
//! sender                                    receiver
//! Offer          ------------------------>
//!                <------------------------  Take
//! file, in frames  ---------------------->
//!                <------------------------  Kept
//! ```
//!
//! In place of any of its messages the receiver says why not.

use crate::message::Refusal;
use serde::{Deserialize, Serialize};

/// Longest message of a sender.
pub(super) const REQUEST_BYTES_MAX: usize = 4096;
/// Longest message of a receiver.
pub(super) const REPLY_BYTES_MAX: usize = 16 << 10;

/// From a sender to a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Request {
    /// A file of encodings. Answered by [`Reply::Take`].
    Offer {
        /// The task.
        task: String,
        /// Who takes part and whether anything may move, as the sender's roster has it.
        task_digest: [u8; 32],
        /// Bytes of the file.
        bytes: u64,
    },
}

/// From a receiver to a sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Reply {
    /// Send the file.
    Take,
    /// It was read, and is kept.
    Kept {
        /// The start of its SHA-256.
        name: String,
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

    proptest! {
        #[test]
        fn offers_read_back_and_damaged_ones_are_errors(
            (task, task_digest, bytes) in (".{0,80}", any::<[u8; 32]>(), any::<u64>()),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let offer = Request::Offer { task, task_digest, bytes };
            survives(&offer, REQUEST_BYTES_MAX, place, byte);
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Reply>(&bytes);
        }
    }

    #[test]
    fn replies_fit_their_bound() {
        let refusal = Refusal::new(Obstacle::Laboratory, "é".repeat(10_000));
        for reply in [Reply::Take, Reply::Kept { name: "0".repeat(16) }, Reply::Refused(refusal)] {
            let bytes = encode(&reply).unwrap();
            assert!(bytes.len() <= REPLY_BYTES_MAX, "{} bytes", bytes.len());
            assert_eq!(decode::<Reply>(&bytes).unwrap(), reply);
        }
    }
}
