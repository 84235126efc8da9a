use super::super::attester::Software;
use super::super::trial::{self, judge, key, signed};
use super::*;
use crate::module::specification::Specification;
use crate::noise_client::{ClientError, Proven, Unproven};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes that long unless it is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// A module on a socket, in threads of this process.
struct Running {
    folder: TempDir,
    reports: std::sync::mpsc::Receiver<Report>,
    boot: [u8; 16],
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let engine = Engine::new(Software).unwrap();
        let boot = *engine.boot();
        let (sender, reports) = channel();
        thread::spawn(move || {
            let accept = move || listener.accept().map(|(stream, _)| stream);
            serve(engine, accept, |report| drop(sender.send(report.clone())))
        });
        Self { folder, reports, boot }
    }

    fn connect(&self) -> UnixStream {
        connect(self.folder.path())
    }

    fn proven(&self, seat: u8) -> Proven<UnixStream> {
        proven(self.folder.path(), seat)
    }

    fn wanted(&self, batch: u8) -> Specification {
        Specification { boot: self.boot, batch: [batch; 16], ..trial::specification() }
    }

    fn report(&self) -> Report {
        self.reports.recv_timeout(STUCK).unwrap()
    }
}

fn connect(folder: &Path) -> UnixStream {
    let stream = UnixStream::connect(folder.join("socket")).unwrap();
    stream.set_read_timeout(Some(STUCK)).unwrap();
    stream
}

fn proven(folder: &Path, seat: u8) -> Proven<UnixStream> {
    let unproven = Unproven::open(connect(folder), &key(seat)).unwrap();
    unproven.prove(trial::specification().policy, judge).unwrap().0
}

#[test]
fn two_parties_in_two_threads_draw_batches() {
    let running = Running::start();
    let wanted: Vec<_> = (0..20).map(|batch| signed(running.wanted(batch))).collect();
    let [zero, one] = std::thread::scope(|scope| {
        [0, 1]
            .map(|seat| {
                let (folder, wanted) = (running.folder.path(), &wanted);
                scope.spawn(move || {
                    let mut party = proven(folder, seat);
                    wanted.iter().map(|wanted| party.draw(wanted).unwrap()).collect::<Vec<_>>()
                })
            })
            .map(|party| party.join().unwrap())
    });
    for (zero, one) in zero.into_iter().zip(one) {
        assert_eq!(zero.receipt(), one.receipt());
        for (zero, one) in zero.into_shares().into_iter().zip(one.into_shares()) {
            let (zero, one) = (zero.into_values(), one.into_values());
            let sums = zero.iter().zip(one.iter()).map(|(zero, one)| zero.wrapping_add(*one));
            assert!(sums.into_iter().all(|sum| sum.unsigned_abs() < 1 << 18));
        }
    }
}

#[test]
fn a_party_that_leaves_and_comes_back_is_served() {
    let running = Running::start();
    let wanted = signed(running.wanted(1));
    let mut zero = running.proven(0);
    zero.request(&wanted).unwrap();
    drop(zero);
    assert!(matches!(running.report(), Report::Closed { .. }));
    let mut one = running.proven(1);
    one.request(&wanted).unwrap();
    let mut zero = running.proven(0);
    let zero = zero.draw(&wanted).unwrap();
    assert_eq!(zero.receipt(), one.collect().unwrap().receipt());
}

#[test]
fn noise_on_the_socket_closes_one_connection_only() {
    let running = Running::start();
    let mut party = running.proven(0);
    let mut stream = running.connect();
    stream.write_all(&[32, 0, 1]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let Report::Closed { reason, .. } = running.report() else { panic!("no report") };
    assert!(reason.contains("inside a frame"), "{reason}");
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    let mut stream = running.connect();
    write_frame(&mut stream, b"GET / HTTP/1.1").unwrap();
    let Report::Closed { reason, .. } = running.report() else { panic!("no report") };
    assert!(reason.contains("14 bytes, not 32"), "{reason}");
    assert!(matches!(read_frame(&mut stream), Err(FrameError::Closed)));
    party.request(&signed(running.wanted(1))).unwrap();
    let other = running.proven(1).draw(&signed(running.wanted(1))).unwrap();
    assert_eq!(party.collect().unwrap().receipt(), other.receipt());
}

#[test]
fn connections_are_bounded_and_places_come_back() {
    let running = Running::start();
    let held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| running.proven(0)).collect();
    let refused = Unproven::open(running.connect(), &key(1));
    assert!(matches!(refused, Err(ClientError::Frame(_))));
    assert_eq!(running.report(), Report::Full);
    drop(held);
    for _ in 0..CONNECTIONS_MAX {
        assert!(matches!(running.report(), Report::Closed { .. }));
    }
    // The reports come before the last thread has given its place back, so try until there is one.
    let open = || Unproven::open(running.connect(), &key(1)).is_ok();
    assert!((0..10_000).any(|_| open()));
}

#[test]
fn the_end_of_the_listener_ends_the_module_and_every_party_notices() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut streams = vec![theirs];
    let engine = Engine::new(Software).unwrap();
    let (end, ending) = channel::<()>();
    let served = thread::spawn(move || {
        let accept = move || {
            if let Some(stream) = streams.pop() {
                return Ok(stream);
            }
            let _ = ending.recv();
            Err(io::Error::other("over"))
        };
        serve(engine, accept, |_| ()).unwrap().to_string()
    });
    ours.set_read_timeout(Some(STUCK)).unwrap();
    let unproven = Unproven::open(ours, &key(0)).unwrap();
    let (mut party, ()) = unproven.prove(trial::specification().policy, judge).unwrap();
    let wanted = Specification { boot: *party.boot(), ..trial::specification() };
    party.request(&signed(wanted)).unwrap();
    drop(end);
    assert_eq!(served.join().unwrap(), "over");
    assert!(matches!(party.collect(), Err(ClientError::Frame(_))));
}
