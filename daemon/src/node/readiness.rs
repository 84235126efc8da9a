//! Whether questions would be answered now, over all that this node offers and serves.

use super::Shared;
use crate::message::{Obstacle, Refusal};
use crate::outlook::{Outlook, Readiness, of_pairs};
use crate::owner::PairPeers;
use crate::task::TaskTerms;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl Shared {
    /// Tasks that this node may ask questions of, by name.
    pub fn offers(&self) -> Vec<Arc<TaskTerms>> {
        let mine = |terms: &&Arc<TaskTerms>| terms.serves(self.me.name.as_str());
        let mut offered: Vec<_> = self.tasks.values().filter(mine).cloned().collect();
        offered.sort_by(|one, other| one.name().cmp(other.name()));
        offered
    }

    /// What would become of a question of each task that this node offers, as the compute parties say within
    /// `within`, or serves at its seat. A task of several pairs is ready while one of them would answer. A node that
    /// does neither needs the compute parties it works for.
    pub async fn readiness(&self, within: Duration) -> Vec<Readiness> {
        let mut found = self.offered_outlooks(within).await;
        for (_, compute) in &self.seats {
            let mut served: Vec<_> = compute.tasks().cloned().collect();
            served.retain(|terms| !terms.serves(self.me.name.as_str()));
            for terms in served {
                found.insert(terms.name().to_owned(), compute.outlook(terms.name(), None).await);
            }
        }
        let mut found: Vec<Readiness> =
            found.into_iter().map(|(task, outlook)| Readiness { task, outlook }).collect();
        if found.is_empty() {
            let missing = self.missing_parties();
            found.extend(missing.map(|refusal| Readiness { task: String::new(), outlook: Err(refusal) }));
        }
        found
    }

    /// The outlooks of all tasks that this node offers: of each pair, asked once and all at the same time, for each
    /// of its tasks, and of these for each task what a question would meet.
    async fn offered_outlooks(&self, within: Duration) -> BTreeMap<String, Outlook> {
        let offers = self.offers();
        let mut found: BTreeMap<String, Outlook> = BTreeMap::new();
        let mut asked: BTreeMap<String, (PairPeers, Vec<&TaskTerms>)> = BTreeMap::new();
        for terms in &offers {
            match self.pairs_of(terms) {
                Ok(pairs) => {
                    for pair in pairs {
                        asked.entry(pair.name).or_insert((pair.peers, Vec::new())).1.push(terms);
                    }
                }
                Err(refusal) => drop(found.insert(terms.name().to_owned(), Err(refusal))),
            }
        }
        let asking = asked.iter().map(|(pair, (peers, tasks))| async move {
            let outlooks = self.client.outlook(tasks, *peers, within).await;
            tasks
                .iter()
                .zip(outlooks)
                .map(|(terms, told)| ((terms.name(), pair.as_str()), told))
                .collect::<Vec<_>>()
        });
        let mut told: BTreeMap<(&str, &str), Outlook> =
            join_all(asking).await.into_iter().flatten().collect();
        for ((task, pair), _) in told.iter().filter(|(_, outlook)| outlook.is_ok()) {
            self.client.would_answer(task, pair);
        }
        for terms in &offers {
            let each = terms.roster.pairs().filter_map(|pair| told.remove(&(terms.name(), pair.as_str())));
            if let Some(outlook) = of_pairs(each) {
                found.insert(terms.name().to_owned(), outlook);
            }
        }
        found
    }

    /// The compute parties without a connection, of those that this node owns models for or deals to.
    fn missing_parties(&self) -> Option<Refusal> {
        let me = self.me.name.as_str();
        let owns =
            self.roster.tasks().iter().filter(|task| task.owners.iter().any(|owner| owner.as_str() == me));
        let owned: Vec<_> = owns.flat_map(|task| task.pairs().cloned()).collect();
        let deals =
            |pair: &consilium_config::Pair| pair.dealer.as_ref().is_some_and(|dealer| dealer.as_str() == me);
        let pairs = self.roster.pairs().iter().filter(|pair| owned.contains(&pair.name) || deals(pair));
        let states = self.network.peers();
        let connected = |name: &str| {
            let member = self.roster.member(name);
            member.is_some_and(|member| {
                states.iter().any(|state| state.connected && state.peer.to_string() == member.peer.as_str())
            })
        };
        let mut missing: Vec<&str> = pairs.flat_map(|pair| [pair.zero.as_str(), pair.one.as_str()]).collect();
        missing.retain(|name| *name != me && !connected(name));
        missing.sort_unstable();
        missing.dedup();
        let text = || format!("no connection to {}", missing.join(", "));
        (!missing.is_empty()).then(|| Refusal::new(Obstacle::Peer, text()))
    }
}
