//! Frames on a byte stream: two bytes of length, little-endian, then at least one byte.
//!
//! Two bytes cannot announce more than a Noise message may have, so no limit has to be checked and no peer
//! can ask for more memory than that.

use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// Bytes in front of each frame.
pub const PREFIX_BYTES: usize = 2;
/// Longest frame, which is also the longest Noise message.
pub const FRAME_BYTES_MAX: usize = u16::MAX as usize;

/// What can happen to a stream of frames.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended between two frames.
    #[error("the channel is closed")]
    Closed,
    /// The stream ended inside a frame.
    #[error("the channel ended inside a frame")]
    Truncated,
    /// A frame without a byte.
    #[error("a frame is empty")]
    Empty,
    /// A frame of our own that no length can announce.
    #[error("a frame of {found} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLarge {
        /// Bytes of the frame.
        found: usize,
    },
    /// The stream failed.
    #[error("the stream below the channel failed: {0}")]
    Io(#[source] io::Error),
}

/// Sends one frame and flushes.
///
/// # Errors
/// [`FrameError::Empty`] or [`FrameError::TooLarge`] before a byte is sent, or [`FrameError::Io`].
pub fn write_frame(stream: &mut (impl Write + ?Sized), frame: &[u8]) -> Result<(), FrameError> {
    let length = u16::try_from(frame.len()).map_err(|_| FrameError::TooLarge { found: frame.len() })?;
    if length == 0 {
        return Err(FrameError::Empty);
    }
    // One write, so that a stream without delay sends one packet.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PREFIX_BYTES + frame.len()));
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes).and_then(|()| stream.flush()).map_err(FrameError::Io)
}

/// Waits for one frame.
///
/// # Errors
/// [`FrameError::Closed`] between two frames, else what is wrong with the frame or the stream.
pub fn read_frame(stream: &mut (impl Read + ?Sized)) -> Result<Vec<u8>, FrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    let first = loop {
        match stream.read(&mut prefix) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read.map_err(FrameError::Io)?,
        }
    };
    if first == 0 {
        return Err(FrameError::Closed);
    }
    fill(stream, &mut prefix[first..])?;
    let length = usize::from(u16::from_le_bytes(prefix));
    if length == 0 {
        return Err(FrameError::Empty);
    }
    let mut frame = vec![0; length];
    fill(stream, &mut frame)?;
    Ok(frame)
}

fn fill(stream: &mut (impl Read + ?Sized), bytes: &mut [u8]) -> Result<(), FrameError> {
    stream.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Truncated,
        _ => FrameError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_one_by_one() {
        let mut stream = Vec::new();
        for frame in [&b"a"[..], &[7; FRAME_BYTES_MAX]] {
            write_frame(&mut stream, frame).unwrap();
        }
        let mut stream = &stream[..];
        assert_eq!(read_frame(&mut stream).unwrap(), b"a");
        assert_eq!(read_frame(&mut stream).unwrap(), [7; FRAME_BYTES_MAX]);
        assert!(matches!(read_frame(&mut stream), Err(FrameError::Closed)));
    }

    #[test]
    fn each_fault_is_named() {
        let found = FRAME_BYTES_MAX + 1;
        let mut stream = Vec::new();
        assert!(matches!(write_frame(&mut stream, &[]), Err(FrameError::Empty)));
        let error = write_frame(&mut stream, &vec![0; found]).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { found: at } if at == found));
        assert!(stream.is_empty());
        assert!(matches!(read_frame(&mut &b"\0\0"[..]), Err(FrameError::Empty)));
        for cut in [&b"\x05"[..], b"\x05\0", b"\x05\0abcd"] {
            assert!(matches!(read_frame(&mut &cut[..]), Err(FrameError::Truncated)), "{cut:?}");
        }
    }

    proptest::proptest! {
        #![proptest_config(super::super::trial::fuzz())]
        #[test]
        fn any_stream_gives_frames_and_then_a_reason(stream: Vec<u8>) {
            let mut rest = &stream[..];
            let mut read = 0;
            let reason = loop {
                match read_frame(&mut rest) {
                    Ok(frame) => read += PREFIX_BYTES + frame.len(),
                    Err(reason) => break reason,
                }
            };
            let whole = matches!(reason, FrameError::Closed);
            proptest::prop_assert_eq!(whole, read == stream.len());
        }
    }
}
