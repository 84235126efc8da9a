//! The network between the nodes: one TUN device for each, and a thread that carries packets from one to another,
//! late, and not all of them.
//!
//! A device is made here and then moved into the namespace of its node; what the kernel of that namespace sends
//! arrives here. Links are cut without a word, as a cable is: packets vanish, no connection is reset.

use super::nat::Nat;
use super::packet::destination;
use futures::future::{BoxFuture, FutureExt, select_all};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio_tun::Tun;

/// Longest packet on a link.
pub(super) const MTU: usize = 1500;
/// Packets under way; more are lost, as in a router whose queue is full.
const UNDER_WAY_MAX: usize = 1 << 15;
/// A timer of the runtime is this coarse, so what is due so soon goes at once.
const COARSE: Duration = Duration::from_micros(500);

/// What every link does to what passes it, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// From one node to another; a round trip takes twice as long.
    pub delay: Duration,
    /// Part of the packets that are lost.
    pub loss: f64,
}

/// A socket of the switch.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// Name of the device.
    pub(super) device: String,
    /// The address by which others know the node.
    pub(super) address: Ipv4Addr,
    /// The node's own address, where it is behind address translation.
    pub(super) inside: Option<Ipv4Addr>,
}

/// Packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Carried {
    /// Handed to their receiver.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost where a link was cut.
    pub cut: u64,
    /// Not let in by the address translation.
    pub unasked: u64,
    /// Lost because too many were under way, or a device did not take them.
    pub overrun: u64,
}

/// A running network. Dropping it removes the devices.
#[derive(Debug)]
pub(super) struct Switch {
    fabric: Arc<Mutex<Fabric>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Packet {
    due: Instant,
    port: usize,
    bytes: Vec<u8>,
}

/// What decides about packets.
#[derive(Debug)]
struct Fabric {
    line: Line,
    cuts: BTreeSet<(usize, usize)>,
    ports: HashMap<Ipv4Addr, usize>,
    nats: HashMap<usize, Nat>,
    random: StdRng,
    under_way: VecDeque<Packet>,
    carried: Carried,
}

impl Fabric {
    fn new(ports: &[Port], line: Line, seed: u64) -> Self {
        let nat = |port: &Port| port.inside.map(|inside| Nat::new(inside, port.address));
        Self {
            line,
            cuts: BTreeSet::new(),
            ports: ports.iter().enumerate().map(|(at, port)| (port.address, at)).collect(),
            nats: ports.iter().enumerate().filter_map(|(at, port)| Some((at, nat(port)?))).collect(),
            random: StdRng::seed_from_u64(seed),
            under_way: VecDeque::new(),
            carried: Carried::default(),
        }
    }

    /// Takes a packet of a port; whether it is under way now.
    fn take(&mut self, from: usize, packet: &[u8], now: Instant) -> bool {
        let Some(to) = destination(packet).and_then(|address| self.ports.get(&address).copied()) else {
            return false;
        };
        let mut bytes = packet.to_vec();
        if self.nats.get_mut(&from).is_some_and(|nat| !nat.leave(&mut bytes, now)) {
            return false;
        }
        let counter = if self.cuts.contains(&(from.min(to), from.max(to))) {
            &mut self.carried.cut
        } else if self.random.random_bool(self.line.loss) {
            &mut self.carried.lost
        } else if self.nats.get_mut(&to).is_some_and(|nat| !nat.arrive(&mut bytes, now)) {
            &mut self.carried.unasked
        } else if self.under_way.len() >= UNDER_WAY_MAX {
            &mut self.carried.overrun
        } else {
            self.under_way.push_back(Packet { due: now + self.line.delay, port: to, bytes });
            return true;
        };
        *counter += 1;
        false
    }

    /// The first packet if it is due, or else when it is.
    fn give(&mut self, now: Instant) -> Result<Packet, Option<Instant>> {
        match self.under_way.front().map(|packet| packet.due) {
            Some(due) if due <= now + COARSE => self.under_way.pop_front().ok_or(None),
            due => Err(due),
        }
    }
}

fn look(fabric: &Mutex<Fabric>) -> MutexGuard<'_, Fabric> {
    fabric.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switch {
    /// Makes the devices and carries packets from now on.
    ///
    /// # Errors
    /// A device cannot be made, which takes the rights of an administrator.
    pub(super) fn start(ports: &[Port], line: Line, seed: u64) -> io::Result<Self> {
        let fabric = Arc::new(Mutex::new(Fabric::new(ports, line, seed)));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let (carrying, devices) = (fabric.clone(), ports.iter().map(|port| port.device.clone()).collect());
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(carry(devices, &carrying, tell, stopped)),
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        told.recv().map_err(|_| io::Error::other("the thread of the switch ended"))??;
        Ok(Self { fabric, stop: Some(stop), thread: Some(thread) })
    }

    /// Cuts the link between two ports, or mends it.
    pub(super) fn cut(&self, one: usize, two: usize, cut: bool) {
        let link = (one.min(two), one.max(two));
        let mut fabric = look(&self.fabric);
        if cut {
            fabric.cuts.insert(link);
        } else {
            fabric.cuts.remove(&link);
        }
    }

    /// Has all links lose this part of their packets.
    pub(super) fn set_loss(&self, loss: f64) {
        look(&self.fabric).line.loss = loss;
    }

    /// Packets so far.
    pub(super) fn carried(&self) -> Carried {
        look(&self.fabric).carried
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn device(name: &str) -> io::Result<Tun> {
    let made = Tun::builder().name(name).mtu(MTU as i32).build();
    let made = made.map_err(|error| io::Error::other(format!("device {name}: {error}")))?;
    made.into_iter().next().ok_or_else(|| io::Error::other(format!("device {name}: none was made")))
}

async fn carry(
    devices: Vec<String>,
    fabric: &Mutex<Fabric>,
    tell: mpsc::Sender<io::Result<()>>,
    stopped: oneshot::Receiver<()>,
) {
    let made: io::Result<Vec<Tun>> = devices.iter().map(|name| device(name)).collect();
    let tuns = match made {
        Ok(tuns) => tuns,
        Err(error) => return drop(tell.send(Err(error))),
    };
    if tell.send(Ok(())).is_err() {
        return;
    }
    let arrived = Notify::new();
    let mut works: Vec<BoxFuture<'_, ()>> = Vec::new();
    for (port, tun) in tuns.iter().enumerate() {
        works.push(receive(port, tun, fabric, &arrived).boxed());
    }
    works.push(deliver(&tuns, fabric, &arrived).boxed());
    tokio::select! {
        _ = select_all(works) => {}
        _ = stopped => {}
    }
}

/// Takes what a node sends. While its device is on the way into its namespace, reading may fail.
async fn receive(port: usize, tun: &Tun, fabric: &Mutex<Fabric>, arrived: &Notify) {
    let mut room = [0; MTU];
    loop {
        match tun.recv(&mut room).await {
            Ok(count) => {
                if look(fabric).take(port, &room[..count], Instant::now()) {
                    arrived.notify_one();
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Hands packets out when they are due.
async fn deliver(tuns: &[Tun], fabric: &Mutex<Fabric>, arrived: &Notify) {
    loop {
        let next = look(fabric).give(Instant::now());
        match next {
            Ok(packet) => {
                let taken = tuns.get(packet.port).is_some_and(|tun| tun.try_send(&packet.bytes).is_ok());
                let mut fabric = look(fabric);
                let counter = if taken { &mut fabric.carried.delivered } else { &mut fabric.carried.overrun };
                *counter += 1;
            }
            Err(Some(due)) => tokio::time::sleep_until(due.into()).await,
            Err(None) => arrived.notified().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{flow, tests::packet};
    use super::*;

    const UDP: u8 = 17;

    fn fabric(loss: f64) -> Fabric {
        let port = |device: &str, address: &str, inside: Option<&str>| Port {
            device: device.to_owned(),
            address: address.parse().unwrap(),
            inside: inside.map(|text| text.parse().unwrap()),
        };
        let ports = [
            port("a", "10.0.0.1", None),
            port("b", "10.0.0.2", None),
            port("c", "10.0.0.3", Some("192.168.7.2")),
        ];
        Fabric::new(&ports, Line { delay: Duration::from_millis(20), loss }, 1)
    }

    #[test]
    fn packets_come_late_in_order_and_where_they_belong() {
        let (mut fabric, now) = (fabric(0.0), Instant::now());
        let first = packet(UDP, "10.0.0.1:1", "10.0.0.2:2", b"first");
        let second = packet(UDP, "10.0.0.1:1", "10.0.0.2:2", b"second");
        let later = now + Duration::from_millis(5);
        assert!(fabric.take(0, &first, now) && fabric.take(0, &second, later));
        assert!(!fabric.take(0, &packet(UDP, "10.0.0.1:1", "10.0.0.77:2", b"nowhere"), now));
        let due = now + Duration::from_millis(20);
        assert_eq!(fabric.give(now).unwrap_err(), Some(due));
        let given = fabric.give(due).unwrap();
        assert_eq!((given.port, given.bytes), (1, first));
        assert_eq!(fabric.give(due).unwrap_err(), Some(due + Duration::from_millis(5)));
        assert_eq!(fabric.give(due + Duration::from_millis(5)).unwrap().bytes, second);
        assert_eq!(fabric.give(due).unwrap_err(), None);
    }

    #[test]
    fn a_cut_link_carries_nothing_either_way_and_the_others_go_on() {
        let (mut fabric, now) = (fabric(0.0), Instant::now());
        fabric.cuts.insert((0, 1));
        assert!(!fabric.take(0, &packet(UDP, "10.0.0.1:1", "10.0.0.2:2", b""), now));
        assert!(!fabric.take(1, &packet(UDP, "10.0.0.2:1", "10.0.0.1:2", b""), now));
        assert!(fabric.take(2, &packet(UDP, "192.168.7.2:1", "10.0.0.1:2", b""), now));
        assert_eq!(fabric.carried.cut, 2);
    }

    #[test]
    fn one_in_a_hundred_is_lost() {
        let (mut fabric, now) = (fabric(0.01), Instant::now());
        let sent = packet(UDP, "10.0.0.1:1", "10.0.0.2:2", b"");
        for _ in 0..20_000 {
            fabric.take(0, &sent, now);
        }
        // Five standard deviations of 14 either way.
        assert!((130..270).contains(&fabric.carried.lost), "{:?}", fabric.carried);
        assert_eq!(fabric.under_way.len() as u64 + fabric.carried.lost, 20_000);
    }

    #[test]
    fn the_one_behind_translation_is_only_answered() {
        let (mut fabric, now) = (fabric(0.0), Instant::now());
        assert!(!fabric.take(0, &packet(UDP, "10.0.0.1:2", "10.0.0.3:1", b"unasked"), now));
        assert_eq!(fabric.carried.unasked, 1);
        assert!(fabric.take(2, &packet(UDP, "192.168.7.2:1", "10.0.0.1:2", b"asks"), now));
        let asked = fabric.give(now + Duration::from_secs(1)).unwrap();
        let from = flow(&asked.bytes).unwrap().source;
        assert_eq!((asked.port, from.ip().to_string()), (0, "10.0.0.3".to_owned()));
        assert!(fabric.take(0, &packet(UDP, "10.0.0.1:2", &from.to_string(), b"answer"), now));
        let answer = fabric.give(now + Duration::from_secs(1)).unwrap();
        assert_eq!(flow(&answer.bytes).unwrap().destination, "192.168.7.2:1".parse().unwrap());
    }
}
