//! Every way in which a peer can break the two-party protocol, by name.

/// What a peer sent that the protocol does not allow. Nothing secret is in any field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// A frame shorter than its header.
    #[error("a frame of {0} bytes, shorter than its header")]
    FrameTruncated(usize),
    /// Another version of the frame format.
    #[error("frame version {found}, expected {expected}")]
    FrameVersion {
        /// The version spoken here.
        expected: u16,
        /// The version that came.
        found: u16,
    },
    /// A frame of another session.
    #[error("a frame of session {found:016x} in session {expected:016x}")]
    FrameSession {
        /// This session.
        expected: u64,
        /// The session that the frame names.
        found: u64,
    },
    /// The peer is at another round.
    #[error("the peer is at round {found}, this side at round {expected}")]
    FrameRound {
        /// Round here.
        expected: u32,
        /// Round that the frame names.
        found: u32,
    },
    /// The peer executes another step in the same round.
    #[error("round {round}: the peer executes step {found:08x}, this side step {expected:08x}")]
    FrameStep {
        /// The round.
        round: u32,
        /// Digest of the steps here.
        expected: u32,
        /// Digest of the steps that the frame names.
        found: u32,
    },
    /// A payload of the wrong length.
    #[error("round {round}: a payload of {found} bytes, expected {expected}")]
    PayloadLength {
        /// The round.
        round: u32,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// What should encode a point of the group does not, or encodes the identity.
    #[error("message {at} encodes no usable point")]
    Point {
        /// Which of the points in the message.
        at: usize,
    },
    /// A lattice ciphertext or key of the wrong length.
    #[error("a lattice {what} of {found} bytes, expected {expected}")]
    LatticeLength {
        /// `public key`, `request` or `reply`.
        what: &'static str,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A coefficient that is not below its modulus.
    #[error("a lattice {what} whose coefficient {position} is not below its modulus")]
    LatticeCoefficient {
        /// `public key`, `request` or `reply`.
        what: &'static str,
        /// Where in its row.
        position: usize,
    },
}
