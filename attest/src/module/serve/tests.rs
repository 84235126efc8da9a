use super::super::attester::Software;
use super::super::channel::{Channel, Handshake};
use super::super::message::Request;
use super::super::signature::{PartyKey, introduction};
use super::super::trial::{self, judge, key, signed};
use super::*;
use crate::module::specification::Specification;
use crate::noise_client::{ClientError, Proven, Unproven};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::channel;
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
        Self::within(LIMITS)
    }

    fn within(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let engine = Engine::new(Software).unwrap();
        let boot = *engine.boot();
        let (sender, reports) = channel();
        thread::spawn(move || {
            let accept = move || listener.accept().map(|(stream, _)| stream);
            serve_within(limits, engine, accept, |report| drop(sender.send(report.clone())))
        });
        Self { folder, reports, boot }
    }

    fn connect(&self) -> UnixStream {
        connect(self.folder.path())
    }

    fn proven(&self, seat: u8) -> Proven<UnixStream> {
        proven(self.folder.path(), seat)
    }

    fn try_proven(&self, seat: u8) -> Option<Proven<UnixStream>> {
        let unproven = Unproven::open(self.connect(), &key(seat)).ok()?;
        Some(unproven.prove(trial::specification().policy, judge).ok()?.0)
    }

    fn wanted(&self, batch: u8) -> Specification {
        Specification { boot: self.boot, batch: [batch; 16], ..trial::specification() }
    }

    /// A report may come before the last thread has given its place back, so this tries until there is one.
    fn has_place(&self) -> bool {
        (0..10_000).any(|_| Unproven::open(self.connect(), &key(9)).is_ok())
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
    let held: Vec<_> = (0..8).map(|seat| running.proven(seat)).collect();
    assert_eq!(held.len(), CONNECTIONS_MAX);
    for _ in 0..3 {
        let refused = Unproven::open(running.connect(), &key(9));
        assert!(matches!(refused, Err(ClientError::Frame(_))));
    }
    // Said once, however often somebody knocks.
    assert_eq!(running.report(), Report::Full);
    drop(held);
    for _ in 0..CONNECTIONS_MAX {
        assert!(matches!(running.report(), Report::Closed { .. }));
    }
    assert!(running.has_place());
}

#[test]
fn one_party_cannot_take_the_places_of_another() {
    let running = Running::start();
    let mut held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| running.proven(0)).collect();
    for _ in 2..CONNECTIONS_MAX {
        let Report::Closed { reason, .. } = running.report() else { panic!("no report") };
        assert!(reason.contains("too many"), "{reason}");
    }
    let wanted = signed(running.wanted(1));
    let mut zero = held.pop().unwrap();
    zero.request(&wanted).unwrap();
    let one = running.proven(1).draw(&wanted).unwrap();
    assert_eq!(zero.collect().unwrap().receipt(), one.receipt());
    assert!(matches!(held[0].draw(&signed(running.wanted(2))), Err(ClientError::Frame(_))));
}

const SOON: Duration = Duration::from_millis(100);

fn slow(report: &Report) -> bool {
    matches!(report, Report::Closed { reason, .. } if reason.contains("slow or silent"))
}

#[test]
fn who_does_not_say_its_name_in_time_is_cut_off() {
    let running = Running::within(Limits { name: SOON, ..LIMITS });
    // On a busy machine an honest party may be late too, and comes back.
    let party = |seat| (0..1_000).find_map(|_| running.try_proven(seat)).unwrap();
    let mut zero = party(0);
    // Nothing at all, half a frame, and a handshake without a name.
    let mut silent = [running.connect(), running.connect(), running.connect()];
    silent[1].write_all(&[32, 0, 1]).unwrap();
    write_frame(&mut silent[2], &Handshake::party().unwrap().write().unwrap()).unwrap();
    for stream in &mut silent {
        std::io::copy(stream, &mut std::io::sink()).unwrap();
        assert!(slow(&running.report()));
    }
    // The limit is for names only.
    let wanted = signed(running.wanted(1));
    zero.request(&wanted).unwrap();
    let one = party(1).draw(&wanted).unwrap();
    assert_eq!(zero.collect().unwrap().receipt(), one.receipt());
}

#[test]
fn who_is_silent_after_its_name_is_cut_off() {
    let running = Running::within(Limits { silence: SOON, ..LIMITS });
    let mut stream = running.connect();
    drop(introduce(&mut stream, 0));
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    assert!(slow(&running.report()));
}

#[test]
fn who_does_not_read_its_answers_loses_its_place() {
    let running = Running::within(Limits { frame: SOON, ..LIMITS });
    let question = Request::Attest { nonce: [1; 32], policy: [2; 32] }.encode();
    // Held open; the places must come back all the same.
    let mut held = Vec::new();
    for seat in 0..8 {
        let mut stream = running.connect();
        stream.set_write_timeout(Some(STUCK)).unwrap();
        let mut channel = introduce(&mut stream, seat);
        let asked =
            (0..1_000_000).position(|_| write_frame(&mut stream, &channel.seal(&question).unwrap()).is_err());
        assert!(asked.is_some(), "the module still listens to who does not listen");
        let Report::Closed { reason, .. } = running.report() else { panic!("no report") };
        assert!(reason.contains("does not read") || reason.contains("slow or silent"), "{reason}");
        held.push(stream);
    }
    assert_eq!(held.len(), CONNECTIONS_MAX);
    assert!(running.has_place());
}

/// The party's side of a channel, up to its name.
fn introduce(stream: &mut UnixStream, seat: u8) -> Channel {
    let mut handshake = Handshake::party().unwrap();
    write_frame(stream, &handshake.write().unwrap()).unwrap();
    handshake.read(&read_frame(stream).unwrap()).unwrap();
    write_frame(stream, &handshake.write().unwrap()).unwrap();
    let (mut channel, key) = (handshake.finish().unwrap(), key(seat));
    let signature = PartyKey::sign(&key, &introduction(channel.hash())).unwrap();
    let name = Request::Introduce { key: key.public(), signature }.encode();
    write_frame(stream, &channel.seal(&name).unwrap()).unwrap();
    channel
}

#[test]
fn the_end_of_the_listener_ends_the_module_and_every_party_notices() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // A peer that gave up before it was accepted is no reason to end.
    let aborted = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    let mut streams = vec![Ok(theirs), aborted(), aborted()];
    let engine = Engine::new(Software).unwrap();
    let (end, ending) = channel::<()>();
    let served = thread::spawn(move || {
        let accept = move || {
            if let Some(stream) = streams.pop() {
                return stream;
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
