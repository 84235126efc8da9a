//! All nodes with the network between them, and what is broken of it at the moment.

use super::host::{self, Namespaces};
use super::load::{Asker, Board};
use super::module::Module;
use super::node::{Node, Place, Reach};
use super::switch::{Carried, Line, MTU, Port, Switch};
use super::terms::{HOST, MEMBERS, Member, index};
use super::{LOOK_EVERY, Plan, TestbedError};
use consilium::admin::Report;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the consortium may take to be whole again by itself.
const HEAL_WITHIN: Duration = Duration::from_secs(180);
/// Port of every node that listens.
const PORT: u16 = 4710;
/// The address of one behind translation, on its own side.
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);

fn outside(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number as u8 + 1)
}

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// The link between two members.
    Cut(&'static str, &'static str),
    /// All links of a member.
    Isolated(&'static str),
    /// All links lose this part of their packets.
    Lossy(f64),
    /// The daemon was killed.
    Killed(&'static str),
    /// The daemon was asked to end.
    Stopped(&'static str),
    /// The daemon stands still.
    Paused(&'static str),
    /// The module that draws noise was killed.
    NoModule,
}

impl Fault {
    /// The kind of fault in a word or two.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Cut(..) => "link cut",
            Self::Isolated(_) => "member cut off",
            Self::Lossy(_) => "lossy links",
            Self::Killed(_) => "killed",
            Self::Stopped(_) => "stopped in order",
            Self::Paused(_) => "stood still",
            Self::NoModule => "module killed",
        }
    }

    /// The member that it stops, if it stops one.
    pub(super) fn stops(self) -> Option<&'static str> {
        match self {
            Self::Killed(name) | Self::Stopped(name) | Self::Paused(name) => Some(name),
            _ => None,
        }
    }

    fn cuts(self, one: &str, two: &str) -> bool {
        match self {
            Self::Cut(a, b) => (a, b) == (one, two) || (b, a) == (one, two),
            Self::Isolated(name) => name == one || name == two,
            _ => false,
        }
    }
}

/// What is to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// Those that run are connected with each other.
    Connected,
    /// And the compute parties have bundles for all of their tasks.
    Serving,
}

/// The nodes, their network, and where all of it lies.
#[derive(Debug)]
pub(super) struct World {
    // In this order, so that processes end before their network, and that before its namespaces.
    pub(super) nodes: Vec<Node>,
    pub(super) module: Module,
    switch: Switch,
    _namespaces: Namespaces,
    line: Line,
    active: Vec<Fault>,
    pub(super) board: Arc<Board>,
    root: PathBuf,
}

impl World {
    /// Makes namespaces, links and node files beneath `root`; no process runs yet.
    pub(super) fn new(root: &Path, plan: &Plan) -> Result<Self, TestbedError> {
        let translated = |name: &str| plan.nat.iter().any(|behind| behind == name);
        if let Some(name) =
            plan.nat.iter().find(|name| !MEMBERS[1..].iter().any(|member| member.name == **name))
        {
            let names: Vec<&str> = MEMBERS[1..].iter().map(|member| member.name).collect();
            let what =
                format!("{name} cannot be behind address translation; name some of {}", names.join(", "));
            return Err(TestbedError::Unexpected { what });
        }
        let port = |(number, member): (usize, &Member)| Port {
            device: host::device_name(number),
            address: outside(number),
            inside: translated(member.name).then_some(INSIDE),
        };
        let relayed = MEMBERS.iter().any(|member| member.listens && translated(member.name));
        let ports: Vec<Port> = MEMBERS.iter().enumerate().map(port).collect();
        let mut namespaces = Namespaces::default();
        let switch = Switch::start(&ports, plan.line, plan.seed);
        let io = |source| TestbedError::Io { what: "cannot make the links".to_owned(), source };
        let switch = switch.map_err(io)?;
        let board = Arc::new(Board::default());
        let (mut nodes, mut host) = (Vec::new(), String::new());
        for (port, member) in ports.iter().zip(&MEMBERS) {
            let namespace = namespaces.add(member.name)?;
            if member.name == HOST {
                host.clone_from(&namespace);
            }
            let address = port.inside.unwrap_or(port.address);
            host::attach(&port.device, &namespace, &format!("{address}/24"), MTU)?;
            let reach = match (member.listens, translated(member.name)) {
                (false, _) => Reach::Dials,
                (true, false) => Reach::Listens(format!("/ip4/{address}/tcp/{PORT}"), relayed),
                (true, true) => Reach::Relayed,
            };
            let place = Place { name: member.name, root, namespace, reach };
            nodes.push(Node::new(place, &plan.program, board.clone())?);
        }
        let module = Module::new(root, &host, &plan.program, board.clone())?;
        let (root, line) = (root.to_owned(), plan.line);
        Ok(Self { nodes, module, switch, _namespaces: namespaces, line, active: Vec::new(), board, root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn node(&mut self, name: &str) -> &mut Node {
        &mut self.nodes[index(name)]
    }

    /// Packets so far.
    pub(super) fn carried(&self) -> Carried {
        self.switch.carried()
    }

    /// Breaks something.
    pub(super) async fn begin(&mut self, fault: Fault) -> Result<(), TestbedError> {
        self.active.push(fault);
        self.wire();
        match fault {
            Fault::Killed(name) => self.node(name).kill(),
            Fault::Stopped(name) => self.node(name).terminate().await?,
            Fault::Paused(name) => self.node(name).pause(),
            Fault::NoModule => self.module.kill(),
            _ => {}
        }
        Ok(())
    }

    /// Takes a fault back: mends the link, or starts the process. Nobody does anything else about it.
    pub(super) async fn end(&mut self, fault: Fault) -> Result<(), TestbedError> {
        self.active.retain(|active| *active != fault);
        self.wire();
        match fault {
            Fault::Killed(name) | Fault::Stopped(name) => self.node(name).launch()?,
            Fault::Paused(name) => self.node(name).resume(),
            Fault::NoModule => self.module.launch().await?,
            _ => {}
        }
        Ok(())
    }

    /// Has the links be as the active faults say.
    fn wire(&self) {
        for (one, first) in MEMBERS.iter().enumerate() {
            for (two, second) in MEMBERS.iter().enumerate().skip(one + 1) {
                let cut = self.active.iter().any(|fault| fault.cuts(first.name, second.name));
                self.switch.cut(one, two, cut);
            }
        }
        let losses = self.active.iter().filter_map(|fault| match fault {
            Fault::Lossy(loss) => Some(*loss),
            _ => None,
        });
        self.switch.set_loss(losses.fold(self.line.loss, f64::max));
    }

    /// What keeps the first `count` members from being whole, if anything does.
    pub(super) async fn missing(
        &mut self,
        count: usize,
        whole: Whole,
    ) -> Result<Option<String>, TestbedError> {
        let board = self.board.clone();
        self.module.check()?;
        for node in &mut self.nodes[..count] {
            node.check()?;
            let Some(report) = node.report().await else {
                return Ok(Some(format!("{} does not answer", node.name)));
            };
            board.resumed(node.name);
            if let Some(missing) = unconnected(&report, count) {
                return Ok(Some(missing));
            }
            if whole == Whole::Serving
                && let Some(missing) = unprepared(&report)
            {
                return Ok(Some(missing));
            }
        }
        Ok(None)
    }

    /// Waits until the first `count` members are whole.
    pub(super) async fn until(&mut self, count: usize, whole: Whole) -> Result<(), TestbedError> {
        let started = Instant::now();
        while let Some(missing) = self.missing(count, whole).await? {
            if started.elapsed() > HEAL_WITHIN {
                return Err(TestbedError::Unhealed { missing });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// How long it takes from now until all are whole and every client is answered as it should be.
    pub(super) async fn heal(&mut self, probes: &[Asker]) -> Result<Duration, TestbedError> {
        let started = Instant::now();
        self.until(MEMBERS.len(), Whole::Serving).await?;
        for (row, probe) in probes.iter().enumerate() {
            while !probe.ask(row).await {
                if started.elapsed() > HEAL_WITHIN {
                    let missing =
                        format!("{} is not answered about {} as before", probe.client, probe.task.name);
                    return Err(TestbedError::Unhealed { missing });
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(started.elapsed())
    }

    /// The median round trip that the nodes measured, in milliseconds.
    pub(super) async fn round_trip(&self) -> Option<f64> {
        let mut trips = Vec::new();
        for node in &self.nodes {
            let members = node.report().await.map(|report| report.members).unwrap_or_default();
            trips.extend(members.iter().filter_map(|member| member.round_trip_ms));
        }
        trips.sort_by(f64::total_cmp);
        trips.get(trips.len() / 2).copied()
    }
}

fn unconnected(report: &Report, count: usize) -> Option<String> {
    for member in MEMBERS[..count].iter().filter(|member| member.name != report.name) {
        let Some(found) = report.members.iter().find(|found| found.name == member.name) else {
            return Some(format!("{} does not know {} yet", report.name, member.name));
        };
        if member.listens && !found.connected {
            let fault = found.fault.as_deref().unwrap_or("no fault");
            return Some(format!("{} has no connection to {}: {fault}", report.name, member.name));
        }
    }
    None
}

fn unprepared(report: &Report) -> Option<String> {
    for seat in &report.seats {
        for task in &seat.tasks {
            if task.pool.is_none_or(|pool| pool.left == 0) {
                let fault = task.refill.as_ref().and_then(|refill| refill.fault.clone());
                let making = || match task.refill.as_ref().map(|refill| refill.batch) {
                    None => "no epoch in force".to_owned(),
                    Some(None) => "no batch in the making".to_owned(),
                    Some(Some((made, of))) => format!("{made} of {of} made"),
                };
                let fault = fault.or_else(|| seat.refill_fault.clone()).unwrap_or_else(making);
                return Some(format!("{} has no bundle for {}: {fault}", report.name, task.task));
            }
        }
    }
    None
}
