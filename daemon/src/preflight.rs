//! Whether a node could start from its settings: what no settings file shows by itself.
//!
//! Nothing is changed and nothing is kept. Whoever looks should be the user that the node runs as: another one sees
//! other permissions.

use crate::net::{self, Identity, IdentityError, PeerId};
use crate::task::TaskTerms;
use crate::telemetry;
use consilium_config::{Member, ModuleSocket, Places, Problem, Roster, Settings};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The node would start, and somebody should look.
    Warning,
    /// The node would not start, or not do what the roster asks of it.
    Error,
}

/// Something that was found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, where, and what to do.
    pub problem: Problem,
}

/// A roster with the place of each key.
type Placed<'r> = (&'r Roster, &'r Places);

/// Permission bits that let others look.
const OTHERS: u32 = 0o077;
/// Permission bits that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// Looks at the machine with a node's settings in hand, and at the roster if it could be read. The files of the
/// node's keys are left out unless `keys`.
pub fn check(settings: &Settings, roster: Option<Placed<'_>>, keys: bool) -> Vec<Finding> {
    let mut look = Look { settings, roster, found: Vec::new() };
    if keys {
        look.key();
        look.storage_key();
    }
    look.state();
    look.files();
    look.log();
    look.listening();
    look.roster_values();
    look.seats();
    look.module();
    look.found
}

struct Look<'s> {
    settings: &'s Settings,
    roster: Option<Placed<'s>>,
    found: Vec<Finding>,
}

impl Look<'_> {
    fn name(&self) -> &str {
        self.settings.node.name().as_str()
    }

    /// This node in the roster, by its name, and its position.
    fn member(&self) -> Option<(usize, &Member)> {
        let (roster, _) = self.roster?;
        roster.members().iter().enumerate().find(|(_, member)| member.name.as_str() == self.name())
    }

    fn note(&mut self, severity: Severity, key: &str, message: String, label: &str, help: &str) {
        let problem = self.settings.places.problem(key, message, label, help);
        self.found.push(Finding { severity, problem });
    }

    fn note_in_roster(&mut self, severity: Severity, key: &str, message: String, label: &str, help: &str) {
        if let Some((_, places)) = self.roster {
            let problem = places.problem(key, message, label, help);
            self.found.push(Finding { severity, problem });
        }
    }

    /// The key of this machine is that of the member that it says to be.
    fn key(&mut self) {
        let path = self.settings.node.place().identity.clone();
        let place = "node.identity";
        match Identity::load(&path) {
            Ok(identity) => self.peer(identity.peer_id()),
            Err(IdentityError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let message = format!("there is no key {}", path.display());
                match self.member().map(|(_, member)| member.peer.to_string()) {
                    Some(peer) => {
                        let help = format!(
                            "the roster expects the key of {peer}: put that key file back; if it is lost, make a new one by \
                             `consilium identity` and have its peer id put into the roster of all members; where the \
                             service gets it as a credential, check `--without-keys`"
                        );
                        self.note(Severity::Error, place, message, "should be this file", &help);
                    }
                    None => {
                        let help = "the first start makes it; `consilium identity` makes it now and prints the peer id \
                                    for the roster";
                        self.note(Severity::Warning, place, message, "will be this file", help);
                    }
                }
            }
            Err(error) => {
                let help = "the key must be readable by the user of the node, and by nobody else";
                self.note(Severity::Error, place, error.to_string(), "this key", help);
            }
        }
    }

    fn peer(&mut self, peer: PeerId) {
        let Some((roster, _)) = self.roster else { return };
        let peer = peer.to_string();
        let by_peer = roster.member_by_peer(&peer).map(|member| member.name.to_string());
        let by_name = self.member().map(|(at, _)| at);
        match (by_peer, by_name) {
            (Some(name), _) if name == self.name() => {}
            (Some(name), _) => {
                let message = format!("the key of this machine is that of member `{name}`");
                let help = format!("write `name = \"{name}\"`, or use the key of this member");
                self.note(Severity::Error, "node.name", message, "another member", &help);
            }
            (None, Some(at)) => {
                let message = format!("member `{}` has another key than this machine", self.name());
                let help = format!(
                    "this machine's peer id is {peer}: put it into the roster of all members, or put the right key \
                     file back"
                );
                self.note_in_roster(
                    Severity::Error,
                    &format!("member[{at}].peer"),
                    message,
                    "another key",
                    &help,
                );
            }
            (None, None) => {
                let message = format!("the roster has no member `{}`", self.name());
                let help = format!(
                    "add a member with this name and the peer id {peer} to the roster of all members, or use the name \
                     that the roster has for this machine"
                );
                self.note(Severity::Error, "node.name", message, "not in the roster", &help);
            }
        }
    }

    /// The state folder can be used, and what is in it is whole.
    fn state(&mut self) {
        let state = self.settings.node.place().state.clone();
        let shown = state.display();
        let about = match std::fs::metadata(&state) {
            Ok(about) => about,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let help =
                    "the first start makes it, if this user may; the service unit makes it in any case";
                let message = format!("there is no folder {shown}");
                return self.note(Severity::Warning, "node.state", message, "will be this folder", help);
            }
            Err(error) => {
                let message = format!("cannot look at {shown}: {error}");
                let help = "run this as the user of the node, or as root";
                return self.note(Severity::Error, "node.state", message, "this folder", help);
            }
        };
        if !about.is_dir() {
            let message = format!("{shown} is not a folder");
            let help = "name a folder of the node's own; it holds keys, ledger and counters";
            return self.note(Severity::Error, "node.state", message, "no folder", help);
        }
        if about.permissions().mode() & OTHERS != 0 {
            let message = format!("others may look into {shown}");
            let help = format!("run `chmod 700 {shown}`");
            self.note(Severity::Warning, "node.state", message, "open to others", &help);
        }
        if let Err(error) = tempfile::tempfile_in(&state) {
            let message = format!("cannot write into {shown}: {error}");
            let help = "make the user of the node its owner, and see that the disk is writable and not full";
            self.note(Severity::Error, "node.state", message, "this folder", help);
        }
    }

    fn storage_key(&mut self) {
        let state = &self.settings.node.place().state;
        let key = state.join("storage.key");
        let sealed = state.join("pairs").exists();
        match std::fs::metadata(&key) {
            Ok(about) if about.permissions().mode() & OTHERS != 0 => {
                let message = format!("others may read {}", key.display());
                let help = format!(
                    "run `chmod 600 {}`; whoever read it can open this node's copy of the state",
                    key.display()
                );
                self.note(Severity::Error, "node.state", message, "in this folder", &help);
            }
            Err(error) if error.kind() == ErrorKind::NotFound && sealed => {
                let message = format!("{} is missing, and what it seals is there", key.display());
                let help = "put the file back from the backup that the rest of the folder is from; without it ledger \
                            and models cannot be opened";
                self.note(Severity::Error, "node.state", message, "in this folder", help);
            }
            _ => {}
        }
    }

    /// What else is named exists.
    fn files(&mut self) {
        let node = &self.settings.node;
        let (roster, socket) = (node.place().roster.clone(), node.admin().socket.clone());
        if std::fs::metadata(&roster).is_ok_and(|about| about.permissions().mode() & OTHERS_WRITE != 0) {
            let message = format!("others may change {}", roster.display());
            let help = format!("run `chmod 644 {}`: the roster says who may do what", roster.display());
            self.note(Severity::Error, "node.roster", message, "open to others", &help);
        }
        let state = node.place().state.clone();
        let folder = socket.parent().unwrap_or(Path::new("/"));
        if folder != state && !folder.is_dir() {
            let message = format!("there is no folder {} for the admin socket", folder.display());
            let help = "the service unit makes /run/consilium; elsewhere make the folder, with mode 0700";
            self.note(Severity::Warning, "admin.socket", message, "in that folder", help);
        }
        if let Some(folder) = self.settings.node.module().collateral.clone()
            && !folder.is_dir()
        {
            let message = format!("there is no folder {}", folder.display());
            let help = "make it and put the vendors' statements there, or leave the key out";
            self.note(Severity::Error, "module.collateral", message, "this folder", help);
        }
    }

    fn log(&mut self) {
        if let Err(problem) = telemetry::check_filter(&self.settings.node.log().filter) {
            let message = format!("the log filter cannot be read: {problem}");
            let help = "a level such as `info`, or levels by module such as `info,consilium::net=debug`";
            self.note(Severity::Error, "log.filter", message, "this filter", help);
        }
    }

    fn listening(&mut self) {
        for address in self.settings.node.network().listen.clone() {
            if let Err(error) = address.as_str().parse::<net::Address>() {
                let message = format!("the network cannot listen on {}: {error}", address.as_str());
                let help = "write an address such as `/ip4/0.0.0.0/tcp/4710`";
                self.note(Severity::Error, "network.listen", message, "this address", help);
            }
        }
    }

    /// Values of the roster that only the daemon can judge.
    fn roster_values(&mut self) {
        let Some((roster, _)) = self.roster else { return };
        for (at, member) in roster.members().iter().enumerate() {
            if let Err(error) = member.peer.as_str().parse::<PeerId>() {
                let message = format!("the peer id of member `{}` is none: {error}", member.name);
                let help = "copy it from `consilium identity` on that machine";
                self.note_in_roster(
                    Severity::Error,
                    &format!("member[{at}].peer"),
                    message,
                    "no peer id",
                    help,
                );
            }
            for address in member.addresses.iter().filter(|address| !address.is_relayed()) {
                if let Err(error) = address.as_str().parse::<net::Address>() {
                    let message = format!(
                        "member `{}` cannot be dialled at {}: {error}",
                        member.name,
                        address.as_str()
                    );
                    let key = format!("member[{at}].addresses");
                    let help = "write an address such as `/dns4/consilium.example/tcp/4710`";
                    self.note_in_roster(Severity::Error, &key, message, "this address", help);
                }
            }
        }
        for (at, task) in roster.tasks().iter().enumerate() {
            let pairs =
                || task.pairs().try_for_each(|pair| TaskTerms::of_pair(task, pair.as_str()).map(drop));
            if let Err(error) = TaskTerms::new(task).and_then(|_| pairs()) {
                let help =
                    "change the roster of all members; `consilium privacy plan` shows what a budget buys";
                self.note_in_roster(
                    Severity::Error,
                    &format!("task[{at}]"),
                    error.to_string(),
                    "this task",
                    help,
                );
            } else {
                self.slices(at, task);
            }
        }
    }

    /// A pair whose slice pays for nothing is none.
    fn slices(&mut self, at: usize, task: &consilium_config::Task) {
        for (place, pair) in task.pairs().enumerate() {
            let Ok(view) = TaskTerms::of_pair(task, pair.as_str()) else { continue };
            let idle = view.budget.filter(|budget| budget.slice.is_some() && budget.owner < budget.price);
            if idle.is_some() {
                let message = format!("what pair {pair} may spend in task {} pays for no answer", task.name);
                let key = match place.checked_sub(1) {
                    None => format!("task[{at}].pair"),
                    Some(place) => format!("task[{at}].standby[{place}].slice"),
                };
                let help = "give it a larger slice, or the task a larger epsilon or sigma";
                self.note_in_roster(Severity::Warning, &key, message, "too small", help);
            }
        }
    }

    /// A compute party, dealer or owner of a homomorphic task can be reached, and a party sits in one pair only.
    fn seats(&mut self) {
        let Some((roster, _)) = self.roster else { return };
        let Some((_, me)) = self.member() else { return };
        let (addresses, name) = (me.addresses.clone(), me.name.clone());
        let seated = |pair: &&consilium_config::Pair| pair.zero == name || pair.one == name;
        let pairs: Vec<String> =
            roster.pairs().iter().filter(seated).map(|pair| pair.name.to_string()).collect();
        let deals = roster.pairs().iter().any(|pair| pair.dealer.as_ref() == Some(&name));
        if let [first, second, ..] = pairs.as_slice() {
            let message = format!("this node sits in the pairs {first} and {second}");
            let help = "run one node for each seat, with a key and a state folder of its own";
            self.note(Severity::Error, "node.name", message, "in both", help);
        }
        let listen = self.settings.node.network().listen.clone();
        if !cfg!(feature = "quic") && listen.iter().any(consilium_config::Address::is_quic) {
            let message = "this program was built without QUIC".to_owned();
            let help = "listen on `/ip4/…/tcp/…`, or build it with `--features quic`";
            self.note(Severity::Error, "network.listen", message, "an address of QUIC", help);
        }
        let behind_nat = self.settings.node.network().behind_nat;
        let answers = roster.homomorphic_tasks().iter().any(|task| task.owner == name);
        if listen.is_empty() && !behind_nat && (deals || answers || !pairs.is_empty()) {
            let message = "others must reach this node, and it does not listen".to_owned();
            let help = "write `listen = [\"/ip4/0.0.0.0/tcp/4710\"]`: compute parties, dealers and owners of homomorphic \
                        tasks are dialled; or `behind_nat = true`, if others are to reach it through members that relay";
            return self.note(Severity::Error, "network.listen", message, "listens nowhere", help);
        }
        let relayed = addresses.iter().any(consilium_config::Address::is_relayed);
        if relayed && !behind_nat {
            let message = "the roster says that others reach this node through relays".to_owned();
            let help = "write `behind_nat = true`, or have its own address put into the roster";
            self.note(Severity::Error, "network.listen", message, "takes no place at a relay", help);
        }
        let ports: Vec<u16> = listen.iter().map(consilium_config::Address::port).collect();
        let told = addresses.iter().any(|address| ports.contains(&address.port()));
        if !listen.is_empty() && !addresses.is_empty() && !relayed && !told && !ports.contains(&0) {
            let message = "this node listens on none of the ports at which the roster says it is".to_owned();
            let help = "right only where something in front forwards them; else use the roster's port here";
            self.note(Severity::Warning, "network.listen", message, "other ports", help);
        }
    }

    /// The host of the module knows where the module is.
    fn module(&mut self) {
        let Some((roster, _)) = self.roster else { return };
        let hosts = roster.module().is_some_and(|module| module.host.as_str() == self.name());
        match (hosts, self.settings.node.module().socket.clone()) {
            (true, None) => {
                let message =
                    "the roster has this node carry bytes to the module, and it does not know where"
                        .to_owned();
                let help = "write `socket = \"unix:/run/consilium-enclave/socket\"` under `[module]`";
                self.note(Severity::Error, "module.socket", message, "`socket` belongs here", help);
            }
            (true, Some(ModuleSocket::Unix(path))) if !path.exists() => {
                let message = format!("the module does not listen at {}", path.display());
                let help = "start `consilium-enclave` before this node";
                self.note(Severity::Warning, "module.socket", message, "nothing there", help);
            }
            (false, Some(_)) => {
                let message = "the roster does not have this node carry bytes to a module".to_owned();
                let help = "remove `socket` under `[module]`, or make this node the host in the roster";
                self.note(Severity::Warning, "module.socket", message, "not used", help);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
