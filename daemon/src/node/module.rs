//! The module that draws noise, as a node deals with it: as a compute party, or as the member that hosts it.

use super::{NodeError, peer_of};
use crate::net::{Channel, ChannelError, Identity, Network};
use crate::noise::{Door, Journal, Module, Stock, Terms, carry};
use crate::task::TaskTerms;
use consilium_config::{Member, Node as NodeConfig, NoiseRule, Roster, Task};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Most connections carried at a time: both parties of a pair, and room for each to come back.
const CARRIED_MAX: usize = 8;

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
    places: tokio::sync::Semaphore,
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
        let places = tokio::sync::Semaphore::new(CARRIED_MAX);
        Ok(Some(Self { door: Door::Here(socket), within: config.network().round_deadline, places }))
    }

    /// Carries one party's connection until it ends.
    ///
    /// # Errors
    /// The channel, or the way to the module, failed.
    pub(super) async fn carry(&self, channel: Channel) -> Result<(), ChannelError> {
        let Ok(_place) = self.places.try_acquire() else {
            tracing::warn!("a connection to the module was turned away: {CARRIED_MAX} are carried already");
            return Ok(());
        };
        let stream = match self.door.open(self.within).await {
            Ok(stream) => stream,
            Err(away) => {
                tracing::warn!("the noise module cannot be reached: {away}");
                return Ok(());
            }
        };
        stream.set_nonblocking(true)?;
        carry(channel, tokio::net::UnixStream::from_std(stream)?).await
    }
}
