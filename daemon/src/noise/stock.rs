//! The module's noise for one task, as one party holds it, and where the next release takes its noise from.

use super::{Away, Verdict};
use consilium_attest::choice::{Choice, ModuleState, NoChoice, NoiseRule};
use consilium_attest::noise_client::Batch;
use consilium_attest::tickets::{Ticket, TicketError, Tickets};
use consilium_attest::{EvidenceKind, NoiseShare, VerifiedModule};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Why a release does not know its source of noise.
#[derive(Debug, PartialEq, Eq)]
pub enum Undecided {
    /// A batch is on its way; ask again when the stock changed.
    Soon,
    /// The rule allows no source that is there.
    Never(NoChoice),
}

/// Why party One does not compute with the noise that party Zero named.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The rule of the task forbids it.
    #[error("party Zero named {named} as the source of noise, which the task's rule does not allow")]
    Rule {
        /// The source.
        named: &'static str,
    },
    /// The module's evidence was refused.
    #[error(transparent)]
    Refused(NoChoice),
    /// This party has not verified the module that drew it, or too long ago.
    #[error("party One has no verdict that counts on the module that drew this noise")]
    Verdict,
    /// This party does not hold it.
    #[error(transparent)]
    Ticket(#[from] TicketError),
}

/// Shares that wait for releases of one task.
#[derive(Debug)]
pub struct Stock {
    rule: NoiseRule,
    /// Draws of one release.
    each: usize,
    state: Mutex<State>,
    changed: Notify,
}

/// The module that drew a batch, as this party's verdict names it. The boot alone is the module's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// What vouches for it.
    pub evidence: EvidenceKind,
    /// Its boot.
    pub boot: [u8; 16],
    /// The key of its receipts.
    pub receipt_key: [u8; 32],
}

impl From<&VerifiedModule> for Drawn {
    fn from(module: &VerifiedModule) -> Self {
        Self { evidence: module.kind(), boot: module.boot(), receipt_key: module.receipt_key() }
    }
}

#[derive(Debug, Default)]
struct State {
    tickets: Tickets,
    /// Whose they are.
    drawn: Option<Drawn>,
    /// Why there is no noise, since the last draw that both parties hold.
    fault: Option<Away>,
}

impl State {
    /// Releases that there is noise for under a verdict.
    fn usable(&self, verdict: &Verdict, now: u64) -> usize {
        let holding = verdict.holding(now).map(Drawn::from);
        if holding.is_some() && holding == self.drawn { self.tickets.len() } else { 0 }
    }
}

impl Stock {
    /// An empty stock for a task of this rule, each release of which takes `each` draws.
    pub fn new(rule: NoiseRule, each: usize) -> Self {
        Self { rule, each, state: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rule of the task.
    pub fn rule(&self) -> NoiseRule {
        self.rule
    }

    /// Draws of one release.
    pub fn each(&self) -> usize {
        self.each
    }

    /// Releases that noise waits for, of whatever boot.
    pub fn level(&self) -> usize {
        self.lock().tickets.len()
    }

    /// Releases that there is noise for under this party's verdict at `now`, in Unix seconds.
    pub fn usable(&self, verdict: &Verdict, now: u64) -> usize {
        self.lock().usable(verdict, now)
    }

    /// Why the last draw failed, if it did.
    pub fn fault(&self) -> Option<Away> {
        self.lock().fault.clone()
    }

    /// Resolves at the next change after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Adds a batch that both parties hold. What is left of another module's, or another boot's, is burnt.
    ///
    /// # Errors
    /// [`TicketError`]; the batch is burnt.
    pub fn offer(&self, batch: Batch, drawn: Drawn) -> Result<(), TicketError> {
        let mut state = self.lock();
        if state.drawn.is_some_and(|before| before != drawn) {
            state.tickets.forget();
        }
        state.tickets.add(batch, self.each)?;
        (state.drawn, state.fault) = (Some(drawn), None);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// There is no noise. Where evidence was refused, everything is burnt, and it stays refused until both parties
    /// hold a draw again: a module that was caught gains nothing by falling silent. Says whether this is news.
    pub fn fail(&self, away: Away) -> bool {
        let mut state = self.lock();
        if away.is_refused() {
            state.tickets.forget();
        } else if state.fault.as_ref().is_some_and(Away::is_refused) {
            return false;
        }
        let news = state.fault.as_ref() != Some(&away);
        state.fault = Some(away);
        drop(state);
        self.changed.notify_waiters();
        news
    }

    /// Both parties hold a draw of the module's again, if not for this task.
    pub fn recover(&self) {
        self.lock().fault = None;
        self.changed.notify_waiters();
    }

    /// Has whoever waits look again: the verdict changed.
    pub fn look_again(&self) {
        self.changed.notify_waiters();
    }

    /// Burns everything: the other party does not hold the same.
    pub fn forget(&self) {
        self.lock().tickets.forget();
        self.changed.notify_waiters();
    }

    /// The source of the next release, given this party's verdict on the module at `now` (Unix seconds).
    ///
    /// # Errors
    /// [`Undecided`].
    pub fn choose(&self, verdict: &Verdict, now: u64) -> Result<Choice, Undecided> {
        let state = self.lock();
        let refused = |away: &Option<Away>| away.clone().filter(Away::is_refused);
        let module = if let Some(away) = refused(&verdict.away).or_else(|| refused(&state.fault)) {
            away.into()
        } else if state.usable(verdict, now) > 0 {
            ModuleState::Ready
        } else if let Some(away) = state.fault.clone().or_else(|| verdict.away.clone()) {
            away.into()
        } else if self.rule == NoiseRule::Software {
            return Ok(Choice::Software);
        } else {
            return Err(Undecided::Soon);
        };
        self.rule.choose(&module).map_err(Undecided::Never)
    }

    /// Party Zero: the oldest share, for good.
    pub fn take_oldest(&self) -> Option<(Ticket, Vec<NoiseShare>, EvidenceKind)> {
        let mut state = self.lock();
        let evidence = state.drawn?.evidence;
        let (ticket, shares) = state.tickets.take_oldest()?;
        drop(state);
        self.changed.notify_waiters();
        Some((ticket, shares, evidence))
    }

    /// Party One: whether software noise may step in because party Zero says so. By a false word Zero gets noise
    /// that protects as much, where all members accepted that. What this party refused stays refused.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit_software(&self, verdict: &Verdict, now: u64) -> Result<(), NotAdmitted> {
        if self.rule == NoiseRule::Module {
            return Err(NotAdmitted::Rule { named: "software" });
        }
        self.not_refused(verdict, now)
    }

    /// Party One: its share of the draw that party Zero named, for good.
    ///
    /// # Errors
    /// [`NotAdmitted`]; where this is for want of a verdict or by rule, the share stays.
    pub fn admit(
        &self,
        ticket: Ticket,
        verdict: &Verdict,
        now: u64,
    ) -> Result<(Vec<NoiseShare>, EvidenceKind), NotAdmitted> {
        if self.rule == NoiseRule::Software {
            return Err(NotAdmitted::Rule { named: "the module" });
        }
        self.not_refused(verdict, now)?;
        let holding = verdict.holding(now).map(Drawn::from).ok_or(NotAdmitted::Verdict)?;
        let mut state = self.lock();
        if holding.boot != ticket.boot || state.drawn.is_some_and(|drawn| drawn != holding) {
            return Err(NotAdmitted::Verdict);
        }
        Ok((state.tickets.take(ticket)?, holding.evidence))
    }

    fn not_refused(&self, verdict: &Verdict, now: u64) -> Result<(), NotAdmitted> {
        match self.choose(verdict, now) {
            Err(Undecided::Never(reason @ NoChoice::Refused { .. })) => Err(NotAdmitted::Refused(reason)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_away() -> Away {
        Away::Refused("debug mode".to_owned())
    }

    fn gone() -> Away {
        Away::Unreachable("nobody answers".to_owned())
    }

    #[test]
    fn software_steps_in_for_an_absent_module_and_never_for_a_refused_one() {
        let soon = Err(Undecided::Soon);
        let unreachable = || Err(Undecided::Never(NoChoice::Unreachable { reason: "nobody answers".into() }));
        let never = || Err(Undecided::Never(NoChoice::Refused { reason: "debug mode".into() }));
        let software = || Ok(Choice::Software);
        type Row = (Option<Away>, Option<Away>, [Result<Choice, Undecided>; 2]);
        let rows: [Row; 7] = [
            (None, None, [soon, Err(Undecided::Soon)]),
            (None, Some(gone()), [unreachable(), software()]),
            (Some(gone()), None, [unreachable(), software()]),
            (Some(refused_away()), None, [never(), never()]),
            // The other party refused it, or this one did and it went away then.
            (None, Some(refused_away()), [never(), never()]),
            (Some(gone()), Some(refused_away()), [never(), never()]),
            (Some(refused_away()), Some(gone()), [never(), never()]),
        ];
        for (away, fault, expected) in rows {
            let verdict = Verdict { accepted: None, away };
            for (rule, expected) in
                [NoiseRule::Module, NoiseRule::ModuleElseSoftware].into_iter().zip(expected)
            {
                let stock = Stock::new(rule, 1);
                if let Some(fault) = fault.clone() {
                    assert!(stock.fail(fault.clone()) && !stock.fail(fault), "new once");
                }
                assert_eq!(stock.choose(&verdict, 0), expected, "{rule:?} {verdict:?} {fault:?}");
            }
        }
        assert_eq!(Stock::new(NoiseRule::Software, 1).choose(&Verdict::default(), 0), software());
    }

    #[test]
    fn party_one_holds_party_zero_to_the_rule() {
        let ticket = Ticket { boot: [1; 16], batch: 0, place: 0 };
        let away = |away| Verdict { accepted: None, away };
        let by_rule = |named| Err(NotAdmitted::Rule { named });
        let refused = || NotAdmitted::Refused(NoChoice::Refused { reason: "debug mode".into() });
        let table = [
            (NoiseRule::Software, None, Ok(()), NotAdmitted::Rule { named: "the module" }),
            (NoiseRule::Module, None, by_rule("software"), NotAdmitted::Verdict),
            (NoiseRule::Module, Some(gone()), by_rule("software"), NotAdmitted::Verdict),
            (NoiseRule::Module, Some(refused_away()), by_rule("software"), refused()),
            (NoiseRule::ModuleElseSoftware, None, Ok(()), NotAdmitted::Verdict),
            (NoiseRule::ModuleElseSoftware, Some(gone()), Ok(()), NotAdmitted::Verdict),
            (NoiseRule::ModuleElseSoftware, Some(refused_away()), Err(refused()), refused()),
        ];
        for (rule, reason, software, module) in table {
            let (stock, verdict) = (Stock::new(rule, 1), away(reason));
            assert_eq!(stock.admit_software(&verdict, 0), software, "{rule:?} {verdict:?}");
            assert_eq!(stock.admit(ticket, &verdict, 0).unwrap_err(), module, "{rule:?} {verdict:?}");
        }
    }

    #[test]
    fn what_was_refused_stays_so_while_the_module_is_silent() {
        let stock = Stock::new(NoiseRule::ModuleElseSoftware, 1);
        assert!(stock.fail(gone()) && stock.fail(refused_away()), "both are news");
        assert!(!stock.fail(gone()), "silence after a refusal is none");
        assert_eq!(stock.fault(), Some(refused_away()));
        let choice = stock.choose(&Verdict::default(), 0);
        assert!(matches!(choice, Err(Undecided::Never(NoChoice::Refused { .. }))), "{choice:?}");
        stock.recover();
        assert_eq!((stock.fault(), stock.choose(&Verdict::default(), 0)), (None, Err(Undecided::Soon)));
    }
}
