//! Rows of correlated transfers, as they pass from their source to their use.
//!
//! - Computes: nothing; holds `q` of one direction and `t` of the other.
//! - Learns: nothing is sent.
//! - Consumes: nothing.
//! - Costs: 32 bytes of memory a row.
//! - Source: none.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// As many rows in one direction as in the other.
#[derive(Default, Zeroize, ZeroizeOnDrop)]
pub(super) struct Rows {
    /// As sender: `q`.
    pub(super) sent: Vec<u128>,
    /// As receiver: `t = q ^ b * delta` with `b` at bit 0.
    pub(super) received: Vec<u128>,
}

impl Rows {
    /// Room for `64 * words` rows; what stood there is overwritten by the source.
    pub(super) fn resize(&mut self, words: usize) {
        self.sent.resize(64 * words, 0);
        self.received.resize(64 * words, 0);
    }
}
