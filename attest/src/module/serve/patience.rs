//! Reading and writing one frame within a span of time, however slowly its bytes go.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::Stream;

/// The time that one frame has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    /// All of it until then.
    Until(Instant),
    /// It may begin until `silence`, and must be whole this long after its first byte.
    FromFirst { silence: Instant, frame: Duration },
}

/// A stream for one frame. The limits of a socket are for single reads and writes, so each gets what is left.
pub(super) struct Patient<'a, S> {
    stream: &'a mut S,
    span: Span,
}

impl<'a, S: Stream> Patient<'a, S> {
    pub(super) const fn new(stream: &'a mut S, span: Span) -> Self {
        Self { stream, span }
    }

    fn left(&self) -> io::Result<Duration> {
        let (Span::Until(end) | Span::FromFirst { silence: end, .. }) = self.span;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late()) } else { Ok(left) }
    }

    /// Some bytes went, or none in time.
    fn went(&mut self, done: io::Result<usize>) -> io::Result<usize> {
        if let Span::FromFirst { frame, .. } = self.span
            && done.as_ref().is_ok_and(|bytes| *bytes > 0)
        {
            self.span = Span::Until(Instant::now() + frame);
        }
        // What a socket says when its limit is reached.
        let timed_out =
            |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        done.map_err(|error| if timed_out(&error) { late() } else { error })
    }
}

fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "its peer was slow or silent for too long")
}

impl<S: Stream> Read for Patient<'_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read_within(self.left()?)?;
        let read = self.stream.read(bytes);
        self.went(read)
    }
}

impl<S: Stream> Write for Patient<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_within(self.left()?)?;
        let written = self.stream.write(bytes);
        self.went(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    /// A peer of which each byte takes a millisecond, and the limits that were set on the way.
    #[derive(Default)]
    struct Drip(std::sync::Arc<std::sync::Mutex<Vec<Duration>>>);

    impl Drip {
        fn wait() {
            let start = Instant::now();
            while start.elapsed() < STEP {
                std::thread::yield_now();
            }
        }
    }

    impl Read for Drip {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            Self::wait();
            bytes[0] = 7;
            Ok(1)
        }
    }

    impl Write for Drip {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Self::wait();
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Drip {
        fn another(&self) -> io::Result<Self> {
            Ok(Self(std::sync::Arc::clone(&self.0)))
        }

        fn read_within(&self, time: Duration) -> io::Result<()> {
            self.0.lock().unwrap().push(time);
            Ok(())
        }

        fn write_within(&self, time: Duration) -> io::Result<()> {
            self.read_within(time)
        }

        fn end(&self) {}
    }

    fn limits(stream: &Drip) -> Vec<Duration> {
        std::mem::take(&mut *stream.0.lock().unwrap())
    }

    #[test]
    fn a_slow_frame_ends_though_every_byte_is_in_time() {
        let mut stream = Drip::default();
        let time = 20 * STEP;
        let mut bytes = vec![0; 10_000];
        let span = Span::Until(Instant::now() + time);
        let error = Patient::new(&mut stream, span).read_exact(&mut bytes).unwrap_err();
        assert_eq!((error.kind(), bytes.last()), (ErrorKind::TimedOut, Some(&0)));
        let given = limits(&stream);
        assert!(given[0] <= time && given.is_sorted_by(|earlier, later| earlier > later), "{given:?}");
        let span = Span::Until(Instant::now() + time);
        let error = Patient::new(&mut stream, span).write_all(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_frame_may_begin_late_and_must_then_go_on() {
        let mut stream = Drip::default();
        let hour = Duration::from_secs(3600);
        let span = Span::FromFirst { silence: Instant::now() + hour, frame: 20 * STEP };
        let error = Patient::new(&mut stream, span).read_exact(&mut [0; 10_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let given = limits(&stream);
        assert!(given[0] > hour / 2 && given[1] <= 20 * STEP, "{given:?}");
        let over = Span::FromFirst { silence: Instant::now(), frame: hour };
        assert_eq!(Patient::new(&mut stream, over).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
