//! The module's noise: both parties have it drawn ahead of questions, and name it by tickets.
//!
//! ```text
//! Zero                                One                      module
//!  │ specification, signature ────────▶ │ own terms? boot?        │
//!  │ ◀──────────────────── signature    │                         │
//!  │ both signatures ─────────────────────────────────────────▶   │ waits for both
//!  │                                    │ both signatures ──────▶ │ draws once
//!  │ ◀──────────────────────────────── half, receipt ──────────── │
//!  │ receipt ─────────────────────────▶ │ the same as its own?    │
//!  │ ◀────────────────────── receipt    │ keeps its half          │
//!  │ the same as its own? keeps its half│                         │
//! ```
//!
//! A half that the other party does not hold is never used: party Zero names tickets, and party One refuses one
//! that it lacks.

use super::{Compute, peer_failed};
use crate::ledger::seconds_now;
use crate::message::{MESSAGE_BYTES_MAX, NamedNoise, Obstacle, PairReply, PairRequest, Refusal};
use crate::net::Channel;
use crate::noise::{Away, Drawn, Held, Module, Stock, Undecided, Verdict};
use crate::task::TaskTerms;
use consilium_attest::choice::{Choice, NoiseRule};
use consilium_attest::module::receipt::{RECEIPT_BYTES, Receipt};
use consilium_attest::module::specification::{SignedSpecification, Specification, VALUES_MAX};
use consilium_attest::noise_client::Batch;
use consilium_attest::tickets::Ticket;
use consilium_attest::{EvidenceKind, NoiseShare, Provenance};
use consilium_protocol::algebra::Seed;
use consilium_protocol::party::Party;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

const RETRY_AFTER: Duration = Duration::from_millis(200);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// Batches that party One keeps at most beside a new one.
const LEFT_OVER_MAX: usize = 4;
/// A module whose evidence was refused is not asked again before.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// Where one release takes its noise from, with this party's share of it.
pub(super) enum Noise {
    /// The task's contract is an exact release.
    Exact,
    /// Full noise of each party.
    Software,
    /// One draw of the module's for each column.
    Module { ticket: Ticket, shares: Vec<NoiseShare>, evidence: EvidenceKind },
}

impl Noise {
    /// As the other party is told.
    pub(super) fn name(&self) -> NamedNoise {
        match self {
            Self::Exact => NamedNoise::Exact,
            Self::Software => NamedNoise::Software,
            Self::Module { ticket, .. } => NamedNoise::Module(*ticket),
        }
    }

    /// As the client is told.
    pub(super) fn provenance(&self) -> Provenance {
        match self {
            Self::Exact => Provenance::Exact,
            Self::Software => Provenance::Software,
            Self::Module { evidence, .. } => Provenance::Module { evidence: *evidence },
        }
    }

    /// The ticket that it burns.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Module { ticket, .. } => Some(*ticket),
            Self::Exact | Self::Software => None,
        }
    }

    /// This party's noise as the plan takes it: for each class and, where there is a threshold, for the largest
    /// count, a row of one word for each column. Empty for an exact release.
    pub(super) fn words(self, terms: &TaskTerms, noise_words: usize) -> Result<Zeroizing<Vec<u64>>, Refusal> {
        let batch = terms.batch();
        let columns = match self {
            Self::Exact if terms.budget.is_none() => return Ok(Zeroizing::default()),
            Self::Exact => return Err(no_noise("a release of this task has noise, and none was named")),
            Self::Software => (0..batch).map(|_| terms.software_noise()).collect::<Result<Vec<_>, _>>()?,
            Self::Module { shares, .. } => shares,
        };
        let mut noise = Zeroizing::new(vec![0; noise_words]);
        if columns.len() != batch {
            return Err(no_noise("the noise is for another number of columns than the plan has"));
        }
        for (column, share) in columns.into_iter().enumerate() {
            let values = share.into_values();
            // A word without noise would be a release without protection. Owners of a one-class task that take no part
            // have no count, and what was drawn for them is not used.
            let drawn = values.len() * batch;
            if drawn != noise.len() && !(terms.is_one_class() && drawn > noise.len()) {
                return Err(no_noise("the plan wants noise of another shape than the task's source draws"));
            }
            for (word, value) in noise.iter_mut().skip(column).step_by(batch).zip(values.iter()) {
                *word = value.cast_unsigned();
            }
        }
        Ok(noise)
    }
}

fn no_noise(text: impl std::fmt::Display) -> Refusal {
    Refusal::new(Obstacle::Noise, text)
}

/// Releases that one batch of the module serves: as many as fit, and no more than the task's pool of bundles.
fn releases_in_batch(terms: &TaskTerms) -> usize {
    (VALUES_MAX / terms.noise_values()).min(terms.roster.stock.high as usize).max(1)
}

impl Compute {
    fn stock(&self, task: &str) -> Option<&Stock> {
        self.noise.get(task)
    }

    fn verdict(&self) -> Verdict {
        self.module.as_ref().map(|module| module.verdict()).unwrap_or_default()
    }

    fn choose(&self, stock: &Stock) -> Result<Choice, Undecided> {
        stock.choose(&self.verdict(), seconds_now())
    }

    /// Party Zero: returns once there is a source of noise for a release, or cannot be one now; how many releases
    /// there is noise for.
    pub(super) async fn noise_at_hand(&self, task: &str, until: Instant) -> Result<usize, Refusal> {
        let Some(stock) = self.stock(task) else { return Ok(usize::MAX) };
        loop {
            let changed = stock.changed();
            match self.choose(stock) {
                Ok(Choice::Module) => return Ok(stock.level()),
                Ok(Choice::Software) => return Ok(usize::MAX),
                Err(Undecided::Never(reason)) => return Err(no_noise(reason)),
                Err(Undecided::Soon) => {
                    let late =
                        |_| Refusal::new(Obstacle::Deadline, "the module did not draw in time; ask again");
                    tokio::time::timeout_at(until, changed).await.map_err(late)?;
                }
            }
        }
    }

    /// Party Zero: the noise of the next release, taken for good.
    pub(super) fn next_noise(&self, task: &str) -> Result<Noise, Refusal> {
        let Some(stock) = self.stock(task) else { return Ok(Noise::Exact) };
        match self.choose(stock) {
            Ok(Choice::Software) => Ok(Noise::Software),
            Ok(Choice::Module) => {
                let taken =
                    stock.take_oldest().ok_or_else(|| no_noise("the module's noise ran out; ask again"));
                taken.map(|(ticket, shares, evidence)| Noise::Module { ticket, shares, evidence })
            }
            Err(Undecided::Never(reason)) => Err(no_noise(reason)),
            Err(Undecided::Soon) => Err(no_noise("the module's noise ran out; ask again")),
        }
    }

    /// Party One: its share of the noise that party Zero named, if the task's rule and its own verdict allow it.
    pub(super) fn named_noise(&self, task: &str, named: NamedNoise) -> Result<Noise, Refusal> {
        let (verdict, now) = (self.verdict(), seconds_now());
        match (self.stock(task), named) {
            (None, NamedNoise::Exact) => Ok(Noise::Exact),
            (Some(stock), NamedNoise::Software) => {
                stock.admit_software(&verdict, now).map(|()| Noise::Software).map_err(no_noise)
            }
            (Some(stock), NamedNoise::Module(ticket)) => {
                let taken = stock.admit(ticket, &verdict, now).map_err(no_noise)?;
                Ok(Noise::Module { ticket, shares: taken.0, evidence: taken.1 })
            }
            (None, _) => Err(no_noise("party Zero named noise for an exact release")),
            (Some(_), NamedNoise::Exact) => Err(no_noise("party Zero named no noise for a noisy release")),
        }
    }

    /// Party Zero: party One does not hold what was named to it.
    pub(super) fn forget_noise(&self, task: &str) {
        if let Some(stock) = self.stock(task) {
            stock.forget();
        }
    }

    /// What waits is worthless once the other party may have started anew.
    pub(super) fn forget_all_noise(&self) {
        self.noise.values().for_each(Stock::forget);
    }

    /// Keeps the module verified, and its verdict fresh, until the node stops. May be dropped.
    pub(crate) async fn watch_module(self: Arc<Self>) {
        let Some(module) = self.module.clone() else { return };
        let mut pause = RETRY_AFTER;
        loop {
            let wait = match module.proven().await.map(|held| held.due_in()) {
                Ok(due) => {
                    pause = RETRY_AFTER;
                    due.max(RETRY_AFTER)
                }
                Err(away) => {
                    if away.is_refused() {
                        self.forget_all_noise();
                    }
                    pause = (pause * 2).min(RETRY_AFTER_MAX);
                    if away.is_refused() { pause.max(COOL_DOWN) } else { pause }
                }
            };
            // Whoever waits for a source looks again.
            self.noise.values().for_each(Stock::look_again);
            tokio::time::sleep(wait).await;
        }
    }

    /// Party Zero: keeps a task supplied with the module's noise until the node stops. May be dropped.
    pub(crate) async fn keep_noise(self: Arc<Self>, task: String) {
        let (Some(stock), Some(module), Some(terms)) =
            (self.stock(&task), self.module.clone(), self.tasks.get(&task).cloned())
        else {
            return;
        };
        if !terms.takes_module_noise() {
            return;
        }
        let mut pause = RETRY_AFTER;
        loop {
            let changed = stock.changed();
            // Not what waits of another boot, or under a verdict that is over.
            if stock.usable(&self.verdict(), seconds_now()) > releases_in_batch(&terms) / 2 {
                changed.await;
                continue;
            }
            match self.draw_on_both(&module, &terms, stock).await {
                Ok(()) => {
                    self.recover_noise();
                    pause = RETRY_AFTER;
                }
                Err(away) => {
                    self.fail_noise(stock, &away);
                    tokio::time::sleep(if away.is_refused() { COOL_DOWN } else { pause }).await;
                    pause = (pause * 2).min(RETRY_AFTER_MAX);
                }
            }
        }
    }

    /// There is no noise for a task. A refusal concerns all tasks that take the module's, and so does a module, or
    /// a party, that does not answer: none of them shall wait for what will not come.
    fn fail_noise(&self, stock: &Stock, away: &Away) {
        if stock.fail(away.clone()) {
            tracing::warn!("no noise from the module: {away}");
        }
        for stock in self.module_stocks() {
            // Told once, for the first.
            let _ = stock.fail(away.clone());
        }
    }

    /// Both parties hold a draw again.
    fn recover_noise(&self) {
        self.module_stocks().for_each(Stock::recover);
    }

    fn module_stocks(&self) -> impl Iterator<Item = &Stock> {
        self.noise.values().filter(|stock| stock.rule() != NoiseRule::Software)
    }

    fn specification(
        &self,
        terms: &TaskTerms,
        (boot, batch, draws): ([u8; 16], [u8; 16], u32),
    ) -> Specification {
        let (ours, theirs) = (self.network.peer_id().key(), self.other.key());
        Specification {
            mechanism: terms.mechanism,
            classes: u16::try_from(terms.classes()).unwrap_or(u16::MAX),
            draws,
            task: terms.digest,
            policy: self.roster_digest,
            boot,
            batch,
            parties: if self.seat == Party::Zero { [ours, theirs] } else { [theirs, ours] },
        }
    }

    /// Party Zero: has the module draw one batch for both.
    async fn draw_on_both(&self, module: &Module, terms: &TaskTerms, stock: &Stock) -> Result<(), Away> {
        let _turn = self.drawing.lock().await;
        let mut held = module.proven().await?;
        let drawn = held.drawn().ok_or_else(closed)?;
        let batch = *Seed::random().map_err(Away::unreachable)?.as_bytes();
        let draws = releases_in_batch(terms) * stock.each();
        let draws = u32::try_from(draws).map_err(Away::unreachable)?;
        let wanted = self.specification(terms, (drawn.boot, batch, draws));
        let ours = wanted.sign(module.key()).map_err(Away::unreachable)?;
        let mut channel =
            self.pair_channel().await.map_err(|refusal| Away::unreachable(refusal.explanation))?;
        let request = PairRequest::Noise { specification: wanted.encode(), signature: ours.to_vec() };
        channel.send_value(&request).await.map_err(other)?;
        let theirs = match self.reply_of(&mut channel).await? {
            PairReply::Noise(signature) => {
                signature.try_into().map_err(|_| other("its signature is malformed"))?
            }
            PairReply::NoNoise { refused: false, reason } => {
                // It may know another boot; whichever of the two is stale then asks anew.
                held.close();
                return Err(told(false, &reason));
            }
            PairReply::NoNoise { refused, reason } => return Err(told(refused, &reason)),
            PairReply::Refused(refusal) => return Err(told(false, &refusal.explanation)),
            _ => return Err(other("it answered something else")),
        };
        let signed = wanted.signed([ours, theirs]).map_err(other)?;
        let half = held.draw(signed.clone()).await?;
        let receipt = half.receipt().encode();
        channel.send(&receipt).await.map_err(other)?;
        match self.reply_of(&mut channel).await? {
            PairReply::Drawn(theirs) => same_receipt(&receipt, &theirs, &drawn)?,
            PairReply::NoNoise { refused, reason } => return Err(told(refused, &reason)),
            _ => return Err(other("it answered something else")),
        }
        self.keep_half(module, terms, (&signed, half, &held)).await
    }

    async fn reply_of(&self, channel: &mut Channel) -> Result<PairReply, Away> {
        let within = self.limits.round_deadline * 2;
        let reply = tokio::time::timeout(within, channel.receive_value(MESSAGE_BYTES_MAX)).await;
        reply.map_err(|_| other("no answer in time"))?.map_err(other)
    }

    /// Party One: joins a draw that party Zero ordered, if it is what its own terms say.
    pub(super) async fn follow_draw(
        &self,
        channel: &mut Channel,
        specification: &[u8],
        signature: Vec<u8>,
    ) -> Result<PairReply, Refusal> {
        let named = Specification::decode(specification).map_err(no_noise)?;
        let terms = self.tasks.values().find(|terms| terms.digest == named.task);
        let terms = terms.ok_or_else(|| no_noise("noise was ordered for a task that is not served here"))?;
        let (Some(stock), Some(module)) = (self.stock(terms.name()), &self.module) else {
            return Err(no_noise("noise was ordered for a task that takes none from the module"));
        };
        let draws = releases_in_batch(terms) * stock.each();
        if stock.rule() == NoiseRule::Software || named.draws as usize != draws {
            return Err(no_noise("noise was ordered that the task does not take"));
        }
        match self.join_draw(channel, (terms, stock, module), (named, signature)).await {
            Ok(receipt) => {
                self.recover_noise();
                Ok(PairReply::Drawn(receipt))
            }
            Err(away) => {
                self.fail_noise(stock, &away);
                Ok(PairReply::NoNoise { refused: away.is_refused(), reason: away.to_string() })
            }
        }
    }

    async fn join_draw(
        &self,
        channel: &mut Channel,
        (terms, stock, module): (&TaskTerms, &Stock, &Module),
        (named, signature): (Specification, Vec<u8>),
    ) -> Result<Vec<u8>, Away> {
        let mut held = module.proven().await?;
        // What party Zero ordered and never named is burnt rather than kept without bound.
        if stock.level() > LEFT_OVER_MAX * releases_in_batch(terms) {
            stock.forget();
        }
        let drawn = held.drawn().ok_or_else(closed)?;
        if drawn.boot != named.boot {
            // Either may be stale; it asks anew.
            held.close();
            return Err(other("it means another boot of the module; both ask the module again"));
        }
        let wanted = self.specification(terms, (drawn.boot, named.batch, named.draws));
        if wanted != named {
            return Err(other("it ordered noise under another roster"));
        }
        let theirs = signature.try_into().map_err(|_| other("its signature is malformed"))?;
        let ours = wanted.sign(module.key()).map_err(Away::unreachable)?;
        let signed = wanted.signed([theirs, ours]).map_err(other)?;
        channel.send_value(&PairReply::Noise(ours.to_vec())).await.map_err(other)?;
        let half = held.draw(signed.clone()).await?;
        let receipt = half.receipt().encode();
        let theirs =
            channel.receive_within(RECEIPT_BYTES, self.limits.round_deadline).await.map_err(other)?;
        same_receipt(&receipt, &theirs, &drawn)?;
        self.keep_half(module, terms, (&signed, half, &held)).await?;
        Ok(receipt)
    }

    /// Records a batch durably, then offers it.
    async fn keep_half(
        &self,
        module: &Module,
        terms: &TaskTerms,
        (signed, half, held): (&SignedSpecification, Batch, &Held<'_>),
    ) -> Result<(), Away> {
        let stock = self.stock(terms.name()).ok_or_else(closed)?;
        let (evidence, verified) = held.evidence().ok_or_else(closed)?;
        let drawn = Drawn::from(&verified);
        let (journal, task) = (module.journal().clone(), terms.name().to_owned());
        let (signed, receipt): (_, Receipt) = (signed.clone(), half.receipt().clone());
        let record = move || journal.drawn(&task, &signed, &receipt, (&evidence, &verified));
        let recorded = tokio::task::spawn_blocking(record).await;
        recorded.map_err(Away::unreachable)?.map_err(Away::unreachable)?;
        stock.offer(half, drawn).map_err(Away::unreachable)?;
        tracing::debug!(task = terms.name(), level = stock.level(), "the module drew for both parties");
        Ok(())
    }
}

fn closed() -> Away {
    Away::Unreachable("the line to the module is closed".to_owned())
}

fn other(error: impl std::fmt::Display) -> Away {
    Away::Unreachable(peer_failed(error).explanation)
}

/// What the other party says of its failure, cut to a bounded length.
fn told(refused: bool, reason: &str) -> Away {
    let reason: String = reason.chars().filter(|char| !char.is_control()).collect();
    let refusal = peer_failed(reason);
    if refused { Away::Refused(refusal.explanation) } else { Away::Unreachable(refusal.explanation) }
}

/// Only a receipt that the module did sign proves anything against it.
fn same_receipt(ours: &[u8], theirs: &[u8], drawn: &Drawn) -> Result<(), Away> {
    if ours == theirs {
        return Ok(());
    }
    if !Receipt::decode(theirs).is_ok_and(|receipt| receipt.is_signed_by(&drawn.receipt_key)) {
        return Err(other("it showed a receipt that the module did not sign"));
    }
    Err(Away::Refused("the module gave the two compute parties different receipts for one batch".to_owned()))
}
