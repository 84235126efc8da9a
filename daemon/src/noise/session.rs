//! A channel to a module whose evidence this party accepts, and its verdict for people.

use super::door::Door;
use super::journal::Journal;
use super::stock::Drawn;
use super::{Away, collateral};
use crate::ledger::seconds_now;
use crate::net::Identity;
use consilium_attest::module::specification::SignedSpecification;
use consilium_attest::noise_client::{Batch, ClientError, ProofError, Proven, Unproven};
use consilium_attest::{
    Binding, Collateral, Evidence, EvidenceKind, Expected, Policy, Refusal, VerifiedModule, verify,
};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::MutexGuard;

/// Longest time between two questions on one line, in seconds.
const ASK_EVERY_SECS: u64 = 3600;
/// A line is given up for a word of the other party's no more often than this.
const CLOSE_EVERY: Duration = Duration::from_secs(2);

/// What a party wants of the module.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What its evidence must say.
    pub policy: Policy,
    /// Digest of the roster, which holds the policy: evidence made for another roster is refused.
    pub roster: [u8; 32],
    /// Folder of what vendors signed about their platforms.
    pub collateral: Option<PathBuf>,
}

/// What this party knows of the module; nothing, before it was asked.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The last evidence that was accepted, until another is refused. It counts for as long as it says, whether
    /// the module answers or not.
    pub accepted: Option<Box<VerifiedModule>>,
    /// Why the last attempt failed, if it did.
    pub away: Option<Away>,
}

impl Verdict {
    /// An attempt failed. Refused evidence stays refused until other evidence is accepted: a module that was
    /// caught gains nothing by falling silent. Says whether this is news.
    fn fail(&mut self, away: &Away) -> bool {
        if away.is_refused() {
            self.accepted = None;
        } else if self.away.as_ref().is_some_and(Away::is_refused) {
            return false;
        }
        let news = self.away.as_ref() != Some(away);
        self.away = Some(away.clone());
        news
    }

    /// The module whose evidence counts at `now`, in Unix seconds.
    pub fn holding(&self, now: u64) -> Option<&VerifiedModule> {
        self.accepted.as_deref().filter(|module| module.holds_at(now))
    }
}

/// The module as one compute party deals with it.
pub struct Module {
    door: Door,
    terms: Arc<Terms>,
    identity: Arc<Identity>,
    journal: Arc<Journal>,
    within: Duration,
    line: tokio::sync::Mutex<Option<Line>>,
    closed: Mutex<Option<Instant>>,
    verdict: Mutex<Verdict>,
}

struct Line {
    proven: Proven<UnixStream>,
    verified: VerifiedModule,
    evidence: Arc<Evidence>,
    cutter: Cutter,
}

/// Ends a stream from outside. The stream's own limits of time are for each single read, so that whoever carries
/// the bytes could hold a caller for long by one byte at a time.
struct Cutter(UnixStream);

impl Cutter {
    fn of(stream: &UnixStream) -> Result<Self, Away> {
        stream.try_clone().map(Self).map_err(Away::unreachable)
    }

    /// Runs blocking work on the stream, which is cut where it takes too long.
    async fn guard<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Away> {
        let mut armed = Armed(Some(&self.0));
        let working = tokio::task::spawn_blocking(work);
        let late = |_| Away::Unreachable(format!("the module took longer than {within:?}"));
        let done = tokio::time::timeout(within, working).await.map_err(late)?;
        armed.0 = None;
        done.map_err(Away::unreachable)
    }
}

/// Ends the stream when work on it is given up, for whatever reason.
struct Armed<'s>(Option<&'s UnixStream>);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.0 {
            // A stream that is gone already needs no end.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Line {
    /// When to ask again, before the verdict ends: after three quarters of its time, and before the module closes a
    /// line that is silent.
    fn due(&self) -> u64 {
        let (from, until) = (self.verified.verified_at(), self.verified.valid_until());
        from + (until.saturating_sub(from) / 4 * 3).min(ASK_EVERY_SECS)
    }
}

/// The only line to a module whose evidence holds, while nobody else uses it.
pub struct Held<'m> {
    line: MutexGuard<'m, Option<Line>>,
    module: &'m Module,
}

impl Held<'_> {
    /// The module, as this party's verdict names it.
    pub fn drawn(&self) -> Option<Drawn> {
        self.line.as_ref().map(|line| Drawn::from(&line.verified))
    }

    /// What the module's evidence was, and the verdict on it, for the record.
    pub fn evidence(&self) -> Option<(Arc<Evidence>, VerifiedModule)> {
        self.line.as_ref().map(|line| (line.evidence.clone(), line.verified.clone()))
    }

    /// Gives the line up, so that the module is asked anew: the other party means another boot.
    pub fn close(mut self) {
        let mut closed = self.module.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if closed.is_none_or(|at| at.elapsed() >= CLOSE_EVERY) {
            *closed = Some(Instant::now());
            *self.line = None;
        }
    }

    /// Seconds until its evidence should be asked for again.
    pub fn due_in(&self) -> Duration {
        let due = self.line.as_ref().map_or(0, Line::due);
        Duration::from_secs(due.saturating_sub(seconds_now()))
    }

    /// Asks for a batch and waits for it. The line is closed where it did not work.
    ///
    /// # Errors
    /// [`Away::Unreachable`].
    pub async fn draw(&mut self, signed: SignedSpecification) -> Result<Batch, Away> {
        let gone = || Away::Unreachable("the line to the module is closed".to_owned());
        let Line { mut proven, verified, evidence, cutter } = self.line.take().ok_or_else(gone)?;
        let work = move || {
            let drawn = proven.draw(&signed);
            (proven, drawn)
        };
        let (proven, drawn) = cutter.guard(self.module.whole(), work).await?;
        if matches!(drawn, Ok(_) | Err(ClientError::Refused(_))) {
            *self.line = Some(Line { proven, verified, evidence, cutter });
        }
        drawn.map_err(Away::unreachable)
    }
}

impl Module {
    /// A module that was not asked yet. No single wait for it is longer than `within`.
    pub fn new(
        door: Door,
        terms: Terms,
        identity: Arc<Identity>,
        journal: Journal,
        within: Duration,
    ) -> Self {
        Self {
            door,
            terms: Arc::new(terms),
            identity,
            journal: Arc::new(journal),
            within,
            line: tokio::sync::Mutex::default(),
            closed: Mutex::default(),
            verdict: Mutex::default(),
        }
    }

    /// The key by which the module knows this party.
    pub fn key(&self) -> &Identity {
        &self.identity
    }

    /// For a whole exchange: the longest single wait in it, and as much again for the rest.
    fn whole(&self) -> Duration {
        self.within * 2
    }

    /// The record of what it drew.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What this party knows of it.
    pub fn verdict(&self) -> Verdict {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the line, with evidence that holds; asks for it anew where it is due.
    ///
    /// # Errors
    /// [`Away`].
    pub async fn proven(&self) -> Result<Held<'_>, Away> {
        let mut line = self.line.lock().await;
        let now = seconds_now();
        if line.as_ref().is_some_and(|line| line.verified.holds_at(now) && now < line.due()) {
            return Ok(Held { line, module: self });
        }
        let proved = self.prove(line.take()).await;
        self.note(proved.as_ref().map(|line| &line.verified));
        *line = Some(proved?);
        Ok(Held { line, module: self })
    }

    /// Fresh evidence on the line that there is, or on a new one where it does not work any more.
    async fn prove(&self, former: Option<Line>) -> Result<Line, Away> {
        if let Some(former) = former {
            let Line { proven, cutter, .. } = former;
            match self.judged(cutter, move |judge| proven.prove_again(judge)).await {
                Err(Away::Unreachable(_)) => {}
                proved => return proved,
            }
        }
        let stream = self.door.open(self.within).await?;
        let (identity, roster) = (self.identity.clone(), self.terms.roster);
        let cutter = Cutter::of(&stream)?;
        self.judged(cutter, move |judge| Unproven::open(stream, &*identity)?.prove(roster, judge)).await
    }

    /// Runs a blocking exchange with the judge of this party's policy.
    async fn judged(
        &self,
        cutter: Cutter,
        exchange: impl FnOnce(
            &mut dyn FnMut(&Evidence, &Binding) -> Result<VerifiedModule, Refusal>,
        ) -> Result<(Proven<UnixStream>, VerifiedModule), ProofError<Refusal>>
        + Send
        + 'static,
    ) -> Result<Line, Away> {
        let terms = self.terms.clone();
        let work = move || {
            let collateral = collateral::load(terms.collateral.as_deref())?;
            // Before the nonce is drawn, so that the age is not understated.
            let asked = seconds_now();
            let mut seen = None;
            let proved = exchange(&mut |evidence, binding| {
                let verified = judge(evidence, binding, &terms, &collateral, asked)?;
                seen = Some(evidence.clone());
                Ok(verified)
            });
            let (proven, verified) = proved.map_err(away)?;
            let evidence = seen.ok_or_else(|| Away::Unreachable("no evidence was judged".to_owned()))?;
            Ok((proven, verified, Arc::new(evidence)))
        };
        let (proven, verified, evidence) = cutter.guard(self.whole(), work).await??;
        Ok(Line { proven, verified, evidence, cutter })
    }

    /// Keeps the verdict, and tells the log what changed.
    fn note(&self, proved: Result<&VerifiedModule, &Away>) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        match proved {
            Ok(verified) => {
                let before = verdict.accepted.replace(Box::new(verified.clone()));
                let was_away = verdict.away.take().is_some();
                log_accepted(
                    verified,
                    !was_away && before.is_some_and(|before| before.boot() == verified.boot()),
                );
            }
            Err(away) => {
                if verdict.fail(away) {
                    log_away(away);
                } else {
                    tracing::debug!("the noise module is still away: {away}");
                }
            }
        }
    }
}

fn log_accepted(module: &VerifiedModule, again: bool) {
    let (kind, until) = (module.kind(), module.valid_until());
    if again {
        tracing::debug!(evidence = %kind, until, "the noise module was verified again");
    } else if kind == EvidenceKind::Software {
        tracing::warn!(evidence = %kind, until, verdict = "accepted", "the noise module was accepted: {module}");
    } else {
        tracing::info!(evidence = %kind, until, verdict = "accepted", "the noise module was verified: {module}");
    }
}

fn log_away(away: &Away) {
    match away {
        Away::Refused(reason) => tracing::error!(
            kind = "evidence-refused",
            verdict = "refused",
            "the evidence of the noise module was refused: {reason}"
        ),
        Away::Unreachable(reason) => {
            tracing::warn!(verdict = "unreachable", "the noise module cannot be reached: {reason}");
        }
    }
}

/// The judge of one answer: what this party knows by itself, against what came.
fn judge(
    evidence: &Evidence,
    binding: &Binding,
    terms: &Terms,
    collateral: &Collateral,
    asked: u64,
) -> Result<VerifiedModule, Refusal> {
    let expected = Expected {
        channel_key: binding.channel_key,
        policy: terms.roster,
        nonce: binding.nonce,
        asked,
        verifier: binding.verifier.clone(),
    };
    verify(evidence, collateral, &terms.policy, &expected, seconds_now())
}

fn away(error: ProofError<Refusal>) -> Away {
    match error {
        ProofError::Refused(refusal) => Away::Refused(refusal.to_string()),
        // Another module behind a channel that was proven is no accident.
        ProofError::Client(error @ ClientError::Changed) => Away::Refused(error.to_string()),
        ProofError::Client(error) => Away::unreachable(error),
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("door", &self.door)
            .field("verdict", &self.verdict())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_outlasts_silence() {
        let (gone, refused) = (Away::Unreachable("gone".into()), Away::Refused("debug mode".into()));
        let mut verdict = Verdict::default();
        assert!(verdict.fail(&gone) && !verdict.fail(&gone), "news once");
        assert!(verdict.fail(&refused));
        assert!(!verdict.fail(&gone), "silence is none after that");
        assert_eq!(verdict.away, Some(refused));
    }

    #[tokio::test]
    async fn work_that_takes_too_long_loses_its_stream() {
        use std::io::Read;
        let (near, mut far) = UnixStream::pair().unwrap();
        let cutter = Cutter::of(&near).unwrap();
        let mut reading = near;
        let work = move || reading.read(&mut [0; 8]).map_err(|error| error.to_string());
        let late = cutter.guard(Duration::from_millis(20), work).await.unwrap_err();
        assert!(matches!(late, Away::Unreachable(_)), "{late}");
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "the stream ended");
    }
}
