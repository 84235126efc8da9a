//! Asking row by row until there are enough labels, the rows are used up, or the ledger refuses.
//!
//! When asking stops depends on the answers. A compute party sees releases without their outcomes, but may
//! count them: where asking stops at the wanted number of labels, it learns that the last attempt was
//! answered and, where it guesses that number, how many attempts ended without a label. The owners' promise
//! holds all the same: each outcome is charged, and what anybody makes of it costs nothing more.

use super::rows::Rows;
use super::work::{Entry, Outcome, Work, WorkError};
use crate::admin::{AdminError, AdminReply, AdminRequest, Caller};
use crate::client::Answer;
use crate::ledger::ReleaseId;
use crate::message::{Obstacle, Refusal};
use consilium_protocol::algebra::Seed;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rows of one cluster that are tried while the owners do not agree on them.
pub(crate) const ATTEMPTS_MAX: usize = 3;
/// Questions about one row that may be lost.
const LOST_MAX: usize = 3;
/// First and longest pause before a question is put again.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Why asking broke off. What was answered is kept; the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The work file.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The consortium refuses every question like this.
    #[error("the consortium refused ({obstacle:?}): {0}", obstacle = .0.obstacle)]
    Refused(Refusal),
    /// The consortium cannot answer now.
    #[error("no answer for {waited:?}: {reason}. All answers so far are kept: the same command goes on")]
    Patience {
        /// How long one question was tried.
        waited: Duration,
        /// What happened last.
        reason: String,
    },
    /// The operating system gave no randomness.
    #[error("the operating system's random generator failed")]
    Random,
    /// The node is of another version.
    #[error("the node answered something else than was asked; is it of the same version?")]
    Unexpected,
}

/// Why asking ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As many labels as wanted.
    Enough,
    /// Every cluster has a label, or was tried as often as is sensible.
    AllAsked,
    /// The ledger refused.
    Budget(String),
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a consortium that does not answer.
    pub answer: Duration,
    /// For an earlier attempt of the same question to end; longer than any question lives.
    pub settle: Duration,
}

/// An answer as a distillation needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    /// The class, or `None` where there was no consensus.
    class: Option<u8>,
    /// What was charged to each owner, in units of 2^-40.
    charged: u64,
}

impl Given {
    /// What an answer to one row says. A label behind the last class is no class.
    fn of(answer: &Answer, classes: usize) -> Self {
        let label = answer.labels.first().copied().flatten();
        let class = label.and_then(|label| u8::try_from(label).ok());
        Self { class: class.filter(|class| usize::from(*class) < classes), charged: answer.terms.charged }
    }
}

/// One question to the consortium.
pub(crate) trait Consortium {
    /// Puts a question about raw values; the inner result is the consortium's, the outer one the way's.
    fn ask(
        &mut self,
        values: &[f64],
        release: ReleaseId,
    ) -> impl Future<Output = Result<Result<Given, Refusal>, AskWay>>;
}

/// The way to the consortium failed.
#[derive(Debug)]
pub(crate) enum AskWay {
    /// For now.
    Broken(AdminError),
    /// For good.
    Unexpected,
}

/// The administration socket of the client's node. Opened again when the node was restarted.
#[derive(Debug)]
pub(crate) struct Line {
    socket: PathBuf,
    task: String,
    classes: usize,
    caller: Option<Caller>,
}

impl Line {
    pub(crate) fn new(socket: PathBuf, task: String, classes: usize) -> Self {
        Self { socket, task, classes, caller: None }
    }
}

impl Consortium for Line {
    async fn ask(&mut self, values: &[f64], release: ReleaseId) -> Result<Result<Given, Refusal>, AskWay> {
        let mut caller = match self.caller.take() {
            Some(caller) => caller,
            None => Caller::open(&self.socket).await.map_err(AskWay::Broken)?,
        };
        let rows = vec![values.to_vec()];
        let request = AdminRequest::Ask { task: self.task.clone(), rows, release: Some(release) };
        let reply = caller.call(&request).await.map_err(AskWay::Broken)?;
        self.caller = Some(caller);
        match reply {
            AdminReply::Answer(answer) => Ok(Ok(Given::of(&answer, self.classes))),
            AdminReply::Refused(refusal) => Ok(Err(refusal)),
            _ => Err(AskWay::Unexpected),
        }
    }
}

/// Asks about one row of each cluster, in their order, until `wanted` rows have a label. Where the owners do
/// not agree on a row, the next one of its cluster follows after all other clusters. `progress` sees the work
/// after each answer.
///
/// # Errors
/// [`AskError`]; the work file then holds all that was answered.
pub(crate) async fn ask_all(
    consortium: &mut impl Consortium,
    rows: &Rows,
    clusters: &[Vec<usize>],
    work: &mut Work,
    patience: Patience,
    progress: &mut dyn FnMut(&Work),
) -> Result<Ended, AskError> {
    let mut agenda = Agenda::new(clusters);
    let (mut labels, wanted) = (0, work.heading().labels);
    for asked in work.asked() {
        agenda.note(asked.row, &asked.outcome);
        labels += usize::from(matches!(asked.outcome, Outcome::Label(_)));
    }
    progress(work);
    while labels < wanted {
        let (row, release) = match work.open_question() {
            Some(asked) => (asked.row, asked.release),
            None => {
                let Some(row) = agenda.next() else { return Ok(Ended::AllAsked) };
                let release = ReleaseId(*Seed::random().map_err(|_| AskError::Random)?.as_bytes());
                work.record(&Entry::Ask { row, release })?;
                (row, release)
            }
        };
        match ask_one(consortium, rows.raw(row), release, patience).await? {
            Told::Answer(Given { class, charged }) => {
                work.record(&Entry::Answer { release, class, charged })?;
                labels += usize::from(class.is_some());
                agenda.note(row, &class.map_or(Outcome::NoConsensus, Outcome::Label));
            }
            Told::Lost(reason) => {
                work.record(&Entry::Lost { release, reason })?;
                agenda.note(row, &Outcome::Lost);
            }
            Told::Budget(reason) => return Ok(Ended::Budget(reason)),
        }
        progress(work);
    }
    Ok(Ended::Enough)
}

enum Told {
    Answer(Given),
    Lost(String),
    Budget(String),
}

/// Puts one question under one name until something final comes of it.
async fn ask_one(
    consortium: &mut impl Consortium,
    values: &[f64],
    release: ReleaseId,
    patience: Patience,
) -> Result<Told, AskError> {
    let started = Instant::now();
    let mut taken_since: Option<Instant> = None;
    let mut pause = PAUSES[0];
    loop {
        let reason = match consortium.ask(values, release).await {
            Ok(Ok(answer)) => return Ok(Told::Answer(answer)),
            Err(AskWay::Unexpected) => return Err(AskError::Unexpected),
            Err(AskWay::Broken(error)) => error.to_string(),
            Ok(Err(refusal)) => match refusal.obstacle {
                Obstacle::Budget => return Ok(Told::Budget(refusal.explanation)),
                // An earlier attempt holds the name. It may still be answered; past its deadline it is dead.
                Obstacle::Release => {
                    if taken_since.get_or_insert_with(Instant::now).elapsed() > patience.settle {
                        return Ok(Told::Lost(refusal.explanation));
                    }
                    refusal.explanation
                }
                Obstacle::NotAllowed
                | Obstacle::Task
                | Obstacle::Request
                | Obstacle::Model
                | Obstacle::Noise
                | Obstacle::Ledger => return Err(AskError::Refused(refusal)),
                // The rest may pass.
                _ => refusal.explanation,
            },
        };
        let waited = started.elapsed();
        if waited > patience.answer {
            return Err(AskError::Patience { waited, reason });
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSES[1]);
    }
}

/// Which row is next.
struct Agenda<'a> {
    clusters: &'a [Vec<usize>],
    home: Vec<usize>,
    labelled: Vec<bool>,
    without: Vec<usize>,
    lost: Vec<usize>,
    pass: usize,
    at: usize,
}

impl<'a> Agenda<'a> {
    fn new(clusters: &'a [Vec<usize>]) -> Self {
        let rows = clusters.iter().flatten().max().map_or(0, |last| last + 1);
        let mut home = vec![0; rows];
        for (index, cluster) in clusters.iter().enumerate() {
            cluster.iter().for_each(|row| home[*row] = index);
        }
        let count = clusters.len();
        let (labelled, without, lost) = (vec![false; count], vec![0; count], vec![0; count]);
        Self { clusters, home, labelled, without, lost, pass: 0, at: 0 }
    }

    fn note(&mut self, row: usize, outcome: &Outcome) {
        let Some(&cluster) = self.home.get(row) else { return };
        match outcome {
            Outcome::Open => {}
            Outcome::Label(_) => self.labelled[cluster] = true,
            Outcome::NoConsensus => self.without[cluster] += 1,
            Outcome::Lost => self.lost[cluster] += 1,
        }
    }

    fn next(&mut self) -> Option<usize> {
        while self.pass < ATTEMPTS_MAX {
            while let Some(cluster) = self.clusters.get(self.at) {
                let open = !self.labelled[self.at]
                    && self.without[self.at] == self.pass
                    && self.lost[self.at] < LOST_MAX;
                if let Some(row) = cluster.get(self.pass).filter(|_| open) {
                    return Some(*row);
                }
                self.at += 1;
            }
            (self.pass, self.at) = (self.pass + 1, 0);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::Heading;
    use super::*;
    use std::collections::BTreeMap;

    /// A consortium with a ledger. The label of a row is its value modulo 3; 2 is no consensus.
    #[derive(Default)]
    struct Ledger {
        answered: BTreeMap<ReleaseId, f64>,
        dead: Vec<ReleaseId>,
        asked: usize,
        budget: usize,
        /// Questions, counted from 1, whose answer does not arrive: before they were charged, after, or in
        /// between.
        unheard: BTreeMap<usize, &'static str>,
    }

    impl Consortium for Ledger {
        async fn ask(
            &mut self,
            values: &[f64],
            release: ReleaseId,
        ) -> Result<Result<Given, Refusal>, AskWay> {
            self.asked += 1;
            let broken = || Err(AskWay::Broken(AdminError::Taken("gone".into())));
            let fate = self.unheard.get(&self.asked).copied();
            let refuse = |obstacle| Ok(Err(Refusal::new(obstacle, "as ordered")));
            if fate == Some("before") {
                return broken();
            }
            if self.dead.contains(&release) {
                return refuse(Obstacle::Release);
            }
            if !self.answered.contains_key(&release) {
                if self.answered.len() + self.dead.len() == self.budget {
                    return refuse(Obstacle::Budget);
                }
                if fate == Some("between") {
                    self.dead.push(release);
                    return refuse(Obstacle::Peer);
                }
                self.answered.insert(release, values[0]);
            }
            assert_eq!(self.answered[&release], values[0], "one name is one question");
            if fate == Some("after") {
                return broken();
            }
            let class = Some(values[0] as u8 % 3).filter(|class| *class < 2);
            Ok(Ok(Given { class, charged: 7 }))
        }
    }

    const ROWS: usize = 30;
    const PATIENCE: Patience = Patience { answer: Duration::from_secs(3), settle: Duration::ZERO };

    fn rows(count: usize) -> Rows {
        Rows::for_test(1, (0..count).map(|row| row as f64).collect())
    }

    fn heading(labels: usize) -> Heading {
        let classes = vec!["a".into(), "b".into()];
        Heading { version: Work::VERSION, task: "t".into(), classes, rows: String::new(), labels, seed: 0 }
    }

    fn run(
        ledger: &mut Ledger,
        clusters: &[Vec<usize>],
        work: &mut Work,
        patience: Patience,
    ) -> Result<Ended, AskError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(ask_all(ledger, &rows(ROWS), clusters, work, patience, &mut |_| ()))
    }

    fn labels(work: &Work) -> Vec<(usize, Outcome)> {
        work.asked().iter().map(|asked| (asked.row, asked.outcome.clone())).collect()
    }

    #[test]
    fn each_cluster_gets_a_label_and_those_without_consensus_another_try() {
        let folder = tempfile::tempdir().unwrap();
        let mut work = Work::open(&folder.path().join("work"), &heading(9), ROWS).unwrap();
        let mut ledger = Ledger { budget: 99, ..Ledger::default() };
        let clusters = [vec![0, 1], vec![2, 5, 4], vec![8], vec![11, 14, 17, 18], vec![3]];
        assert_eq!(run(&mut ledger, &clusters, &mut work, PATIENCE).unwrap(), Ended::AllAsked);
        let (none, a, b) = (Outcome::NoConsensus, Outcome::Label(0), Outcome::Label(1));
        let expected = [(0, a.clone()), (2, none.clone()), (8, none.clone()), (11, none.clone()), (3, a)];
        let second = [(5, none.clone()), (14, none.clone()), (4, b), (17, none)];
        assert_eq!(labels(&work), [&expected[..], &second[..]].concat());
        assert_eq!(ledger.asked, 9);
        assert!(work.asked().iter().all(|asked| asked.charged == 7));
    }

    #[test]
    fn it_ends_when_there_are_enough_or_the_ledger_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let clusters: Vec<Vec<usize>> = (0..10).map(|row| vec![3 * row]).collect();
        let mut ledger = Ledger { budget: 4, ..Ledger::default() };
        let mut work = Work::open(&folder.path().join("four"), &heading(6), ROWS).unwrap();
        let ended = run(&mut ledger, &clusters, &mut work, PATIENCE).unwrap();
        assert_eq!(ended, Ended::Budget("as ordered".into()));
        assert_eq!(work.asked().len(), 5);
        // A larger budget later pays for the question that was refused, under its old name.
        let refused = work.open_question().unwrap().release;
        ledger.budget = 99;
        assert_eq!(run(&mut ledger, &clusters, &mut work, PATIENCE).unwrap(), Ended::Enough);
        assert_eq!((work.asked().len(), work.asked()[4].release), (6, refused));
        assert_eq!(ledger.answered.len(), 6);
    }

    #[test]
    fn an_answer_that_did_not_arrive_is_asked_for_again_and_paid_once() {
        let folder = tempfile::tempdir().unwrap();
        let clusters: Vec<Vec<usize>> = (0..6).map(|row| vec![3 * row]).collect();
        let mut work = Work::open(&folder.path().join("work"), &heading(6), ROWS).unwrap();
        let unheard = BTreeMap::from([(1, "before"), (3, "after"), (4, "after"), (6, "between")]);
        let mut ledger = Ledger { budget: 99, unheard, ..Ledger::default() };
        assert_eq!(run(&mut ledger, &clusters, &mut work, PATIENCE).unwrap(), Ended::Enough);
        assert_eq!((ledger.answered.len(), ledger.dead.len()), (6, 1));
        let lost: Vec<usize> = work.asked().iter().map(|asked| asked.row).collect();
        assert_eq!(lost.iter().filter(|row| **row == lost[2]).count(), 2, "the lost row is asked again");
        assert_eq!(work.asked().iter().filter(|asked| asked.outcome == Outcome::Lost).count(), 1);
    }

    /// The process ends at any question and is started again with what the disk holds.
    #[test]
    fn a_killed_distillation_goes_on_and_pays_once() {
        let clusters: Vec<Vec<usize>> = (0..5).map(|row| vec![3 * row]).collect();
        let no_patience = Patience { answer: Duration::ZERO, settle: Duration::from_secs(9) };
        for at in 1..=5 {
            for fate in ["before", "after"] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("work");
                let mut ledger =
                    Ledger { budget: 5, unheard: BTreeMap::from([(at, fate)]), ..Ledger::default() };
                let mut work = Work::open(&path, &heading(5), ROWS).unwrap();
                let broken = run(&mut ledger, &clusters, &mut work, no_patience);
                assert!(matches!(broken, Err(AskError::Patience { .. })));
                drop(work);
                let mut work = Work::open(&path, &heading(5), ROWS).unwrap();
                assert_eq!(run(&mut ledger, &clusters, &mut work, no_patience).unwrap(), Ended::Enough);
                assert_eq!((ledger.answered.len(), work.asked().len()), (5, 5), "{at} {fate}");
            }
        }
    }
}
