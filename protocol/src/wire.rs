//! Frames of the online phase: one per round and direction, of a length known beforehand.

use crate::misbehaviour::Misbehaviour;

/// Version of the frame format.
pub const VERSION: u16 = 1;
/// Bytes before the payload of each frame.
pub const HEADER_BYTES: usize = 20;
/// Largest payload of one frame.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 28;

/// What one gate opens in one round: `rows` rows of `count` values of `width` bits, each row filled up
/// to whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Rows.
    pub rows: usize,
    /// Values of a row.
    pub count: usize,
    /// Bits of a value: 1 where the parties' payloads are combined by XOR, else modulo `2^width`.
    pub width: u32,
}

impl Opening {
    /// Values of `width` bits in one row.
    pub fn values(count: usize, width: u32) -> Self {
        Self { rows: 1, count, width }
    }

    /// Rows of bits.
    pub fn bits(rows: usize, count: usize) -> Self {
        Self { rows, count, width: 1 }
    }

    /// Payload bytes in each direction.
    pub fn bytes(&self) -> usize {
        self.rows * (self.count * self.width as usize).div_ceil(8)
    }
}

/// Where in a computation a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Both sides' number of this computation.
    pub session: u64,
    /// Rounds done before.
    pub round: u32,
    /// Digest of the steps that share this round.
    pub step: u32,
}

impl Position {
    /// Header and payload of a frame at this position.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        [&self.header()[..], payload].concat()
    }

    /// The header of a frame at this position.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..2].copy_from_slice(&VERSION.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.session.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.round.to_le_bytes());
        bytes[16..].copy_from_slice(&self.step.to_le_bytes());
        bytes
    }

    /// The payload of a frame that must stand at this position and have this length.
    ///
    /// # Errors
    /// [`Misbehaviour`] names both positions.
    pub fn payload<'a>(&self, frame: &'a [u8], payload_bytes: usize) -> Result<&'a [u8], Misbehaviour> {
        let (header, payload) =
            frame.split_at_checked(HEADER_BYTES).ok_or(Misbehaviour::FrameTruncated(frame.len()))?;
        let number = |at: usize, length: usize| {
            header[at..at + length].iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let version = number(0, 2) as u16;
        if version != VERSION || number(2, 2) != 0 {
            return Err(Misbehaviour::FrameVersion { expected: VERSION, found: version });
        }
        let session = number(4, 8);
        if session != self.session {
            return Err(Misbehaviour::FrameSession { expected: self.session, found: session });
        }
        let (round, step) = (number(12, 4) as u32, number(16, 4) as u32);
        if round != self.round {
            return Err(Misbehaviour::FrameRound { expected: self.round, found: round });
        }
        if step != self.step {
            return Err(Misbehaviour::FrameStep { round, expected: self.step, found: step });
        }
        if payload.len() != payload_bytes {
            return Err(Misbehaviour::PayloadLength { round, expected: payload_bytes, found: payload.len() });
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Position = Position { session: 7, round: 3, step: 9 };

    #[test]
    fn payload_comes_back() {
        assert_eq!(HERE.payload(&HERE.frame(b"abc"), 3), Ok(&b"abc"[..]));
    }

    #[test]
    fn each_mismatch_is_named() {
        let frame = HERE.frame(b"abc");
        assert_eq!(HERE.payload(&frame[..5], 3), Err(Misbehaviour::FrameTruncated(5)));
        assert_eq!(
            HERE.payload(&frame, 4),
            Err(Misbehaviour::PayloadLength { round: 3, expected: 4, found: 3 })
        );
        let at = |position: Position| position.payload(&frame, 3).unwrap_err();
        assert_eq!(at(Position { session: 8, ..HERE }), Misbehaviour::FrameSession { expected: 8, found: 7 });
        assert_eq!(at(Position { round: 4, ..HERE }), Misbehaviour::FrameRound { expected: 4, found: 3 });
        assert_eq!(
            at(Position { step: 1, ..HERE }),
            Misbehaviour::FrameStep { round: 3, expected: 1, found: 9 }
        );
        let mut other = frame.clone();
        other[0] = 2;
        assert_eq!(HERE.payload(&other, 3), Err(Misbehaviour::FrameVersion { expected: 1, found: 2 }));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes: Vec<u8>, length in 0usize..64) {
            let _ = HERE.payload(&bytes, length);
        }
    }
}
