//! The module that draws noise, as a node deals with it: as a compute party, or as the member that hosts it.

use super::{NodeError, peer_of};
use crate::net::{Channel, ChannelError, Identity, Network, PeerId};
use crate::noise::{Door, Journal, Module, Stock, Terms, carry};
use crate::task::TaskTerms;
use consilium_config::{Member, Node as NodeConfig, NoiseRule, Roster, Task};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most connections carried for one party at a time: the one in use, and one that broke without notice.
const CARRIED_MAX: usize = 2;

/// The module's noise for each task with a noisy release.
pub(super) fn stocks(served: &HashMap<String, Arc<TaskTerms>>) -> HashMap<String, Stock> {
    let stock = |terms: &TaskTerms| Some(Stock::new(terms.rule?, terms.batch()));
    served.iter().filter_map(|(name, terms)| Some((name.clone(), stock(terms)?))).collect()
}

/// The module of the roster as a compute party deals with it, if a task that it serves takes noise from there.
/// `folder` is that of the seat.
pub(super) fn of_seat(
    config: &NodeConfig,
    roster: &Roster,
    (network, identity): (&Network, &Arc<Identity>),
    served: &HashMap<String, Arc<TaskTerms>>,
    folder: &Path,
) -> Result<Option<Arc<Module>>, NodeError> {
    let wanted = served.values().any(|terms| terms.takes_module_noise());
    let Some(module) = roster.module().filter(|_| wanted) else { return Ok(None) };
    let local = config.module();
    let door = if module.host == *config.name() {
        Door::Here(local.socket.clone().ok_or(NodeError::ModuleSocket)?)
    } else {
        let host = roster.member(module.host.as_str());
        let host = host.ok_or_else(|| NodeError::Host(module.host.to_string()))?;
        Door::There { network: network.clone(), host: peer_of(host)?, name: host.name.to_string() }
    };
    let (policy, roster) = (module.policy.clone(), roster.digest().to_bytes());
    let terms = Terms { policy, roster, collateral: local.collateral.clone() };
    let journal = Journal::open(&folder.join("module.jsonl"))?;
    let within = config.network().round_deadline;
    Ok(Some(Arc::new(Module::new(door, terms, identity.clone(), journal, within))))
}

/// A module on this machine, to which this node carries bytes that it cannot read.
#[derive(Debug)]
pub(crate) struct Hosted {
    door: Door,
    within: Duration,
    carried: Mutex<HashMap<PeerId, usize>>,
}

/// One of a party's places, given back when dropped.
struct Place<'h> {
    hosted: &'h Hosted,
    party: PeerId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut carried = self.hosted.carried.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = carried.get_mut(&self.party) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Hosted {
    /// The module that the roster has this node host, if it does and a task takes noise from there.
    pub(super) fn new(config: &NodeConfig, roster: &Roster, me: &Member) -> Result<Option<Self>, NodeError> {
        let wanted =
            |task: &Task| task.release.terms().is_some_and(|terms| terms.noise != NoiseRule::Software);
        let here = roster.module().is_some_and(|module| module.host == me.name);
        if !here || !roster.tasks().iter().any(wanted) {
            return Ok(None);
        }
        let socket = config.module().socket.clone().ok_or(NodeError::ModuleSocket)?;
        let (door, within) = (Door::Here(socket), config.network().round_deadline);
        Ok(Some(Self { door, within, carried: Mutex::default() }))
    }

    /// Carries one party's connection until it ends.
    ///
    /// # Errors
    /// The channel, or the way to the module, failed.
    pub(super) async fn carry(&self, channel: Channel, party: PeerId) -> Result<(), ChannelError> {
        let Some(_place) = self.place(party) else {
            tracing::debug!(%party, "turned away: {CARRIED_MAX} of its connections to the module are carried");
            return Ok(());
        };
        let stream = match self.door.open(self.within).await {
            Ok(stream) => stream,
            Err(away) => {
                tracing::debug!("the noise module cannot be reached: {away}");
                return Ok(());
            }
        };
        stream.set_nonblocking(true)?;
        carry(channel, tokio::net::UnixStream::from_std(stream)?).await
    }

    /// A place for one more connection of a party, unless it has all of them.
    fn place(&self, party: PeerId) -> Option<Place<'_>> {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let count = carried.entry(party).or_default();
        if *count >= CARRIED_MAX {
            return None;
        }
        *count += 1;
        Some(Place { hosted: self, party })
    }
}
