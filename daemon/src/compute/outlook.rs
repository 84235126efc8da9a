//! Whether a question would be answered now, as far as this party knows.

use super::models::{model_failed, ready, too_few};
use super::{Compute, local_failed, peer_failed};
use crate::ledger::{Charged, LedgerError, Snapshot, seconds_now};
use crate::message::{Obstacle, QUESTION_BYTES_MAX, Refusal};
use crate::net::{Channel, ChannelError};
use crate::noise::Undecided;
use crate::outlook::{Outlook, OutlookReply, OutlookRequest, Supply};
use crate::task::TaskTerms;
use std::sync::Arc;

/// Tasks in one request: what a roster may hold.
const TASKS_MAX: usize = consilium_config::limits::TASKS_MAX;

impl Compute {
    /// Serves a member's channel until it closes.
    ///
    /// # Errors
    /// The channel failed.
    pub(crate) async fn serve_status(
        self: Arc<Self>,
        mut channel: Channel,
        member: String,
    ) -> Result<(), ChannelError> {
        loop {
            let begun = channel.receive_request(QUESTION_BYTES_MAX, self.limits.round_deadline);
            let request: OutlookRequest = match begun.await {
                Ok(request) => request,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut outlooks = Vec::new();
            for (task, digest) in request.tasks.into_iter().take(TASKS_MAX) {
                outlooks.push(self.outlook_for(&task, digest, &member).await);
            }
            channel.send_value(&OutlookReply { outlooks }).await?;
        }
    }

    /// The outlook of a client's question: only its clients are told.
    async fn outlook_for(&self, task: &str, digest: [u8; 32], client: &str) -> Outlook {
        let terms = self.task(task)?;
        if !terms.serves(client) {
            let text = format!("the roster does not list {client} as a client of task {task}");
            return Err(Refusal::new(Obstacle::NotAllowed, text));
        }
        if terms.digest != digest {
            let text = format!("the client's roster has other terms for task {task}; compare rosters");
            return Err(Refusal::new(Obstacle::Task, text));
        }
        self.outlook(task, Some(client)).await
    }

    /// What would become of a question of a task now, by this party alone: its own models, pool, noise and
    /// ledger, and the line to the other party.
    pub(crate) async fn outlook(&self, task: &str, client: Option<&str>) -> Outlook {
        let terms = self.task(task)?;
        let line = self.network.connected(self.other).map_err(peer_failed)?;
        if !line.is_connected() {
            return Err(peer_failed(format!("no connection to {}", self.other_name)));
        }
        let models = ready(&self.registry, &terms).map_err(model_failed)?;
        if models.len() < terms.roster.owners_min as usize {
            return Err(too_few(&self.registry, &terms, models.len()));
        }
        let dry = |text: &str| Refusal::new(Obstacle::Correlations, text);
        let epoch = self.epoch(task).filter(|epoch| !epoch.is_over());
        let epoch = epoch.ok_or_else(|| dry("the compute parties have not agreed on a pool yet"))?;
        let (bundles, _) = epoch.level();
        if bundles == 0 {
            let fault = self.refill_fault().map(|fault| format!(": {fault}")).unwrap_or_default();
            return Err(dry(&format!("the pool is empty and being filled{fault}")));
        }
        self.noise_outlook(task)?;
        let answers_left = self.answers_left(&terms, epoch.charged(), client).await?;
        if answers_left == Some(0) {
            let text = format!("the privacy budget of task {task} is spent");
            return Err(Refusal::new(Obstacle::Budget, text));
        }
        Ok(Supply { bundles, answers_left })
    }

    /// Whether there is a source of noise for the next release.
    fn noise_outlook(&self, task: &str) -> Result<(), Refusal> {
        let Some(stock) = self.noise.get(task) else { return Ok(()) };
        let verdict = self.module.as_ref().map(|module| module.verdict()).unwrap_or_default();
        match stock.choose(&verdict, seconds_now()) {
            Ok(_) => Ok(()),
            Err(Undecided::Never(reason)) => Err(Refusal::new(Obstacle::Noise, reason)),
            Err(Undecided::Soon) => {
                Err(Refusal::new(Obstacle::Noise, "the module's noise is still being drawn"))
            }
        }
    }

    /// Answers that the tightest account of those who would be charged still pays for.
    async fn answers_left(
        &self,
        terms: &Arc<TaskTerms>,
        charged: Vec<Charged>,
        client: Option<&str>,
    ) -> Result<Option<u64>, Refusal> {
        if terms.budget.is_none() {
            return Ok(None);
        }
        let (terms, client) = (terms.clone(), client.map(str::to_owned));
        let snapshot = self.ledger.snapshot().await.map_err(local_failed)?;
        let counting =
            tokio::task::spawn_blocking(move || left(&snapshot, &terms, &charged, client.as_deref()));
        counting.await.map_err(local_failed)?.map_err(local_failed)
    }
}

fn left(
    snapshot: &Snapshot,
    terms: &TaskTerms,
    charged: &[Charged],
    client: Option<&str>,
) -> Result<Option<u64>, LedgerError> {
    let Some(budget) = terms.budget else { return Ok(None) };
    let task = terms.name();
    let opening = snapshot.opening(task)?;
    let opening = opening.ok_or_else(|| LedgerError::NotOpened { task: task.to_owned() })?;
    let books = snapshot.report(task)?;
    let mut least = u64::MAX;
    for Charged { name, data_epoch } in charged {
        let (_, signed) = snapshot.standing(task, name)?;
        let limit = signed.unwrap_or_else(|| opening.owner_limit().min(budget.owner));
        let account = books.owners.iter().find(|one| one.name == *name && one.data_epoch == *data_epoch);
        least = least.min(limit.saturating_sub(account.map_or(0, |account| account.spent)));
    }
    if let Some(client) = client {
        let account = books.clients.iter().find(|one| one.name == client);
        least = least.min(budget.client.saturating_sub(account.map_or(0, |account| account.spent)));
    }
    Ok(least.checked_div(budget.price))
}
