//! A question on its way through the pairs of a task.
//!
//! The pairs are asked one after the other, in the order of the roster, and the first answer ends it: a client
//! never has two labels from one question. A pair that was asked and did not answer may have charged for it all
//! the same; it did so from its own slice of the budget, and the answer says that it was asked.

use super::detour::{Standing, passed_over};
use super::{Answer, Attempt, Client, Tried, party_failed};
use crate::ledger::ReleaseId;
use crate::message::{Obstacle, Refusal};
use crate::net::{PeerId, Role};
use crate::outlook::another_may;
use crate::owner::TaskPair;
use crate::task::TaskTerms;
use std::time::{Duration, Instant};

/// Longest wait for a connection to a pair while there is another one to ask.
const REACH_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a pair to say that it is back.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// A pair on the agenda of a question: its place in the roster's order, and where it stands.
type Turn = (usize, Standing);

impl Client {
    pub(super) async fn ask_pairs(
        &self,
        terms: &TaskTerms,
        pairs: &[TaskPair],
        rows: &[Vec<f64>],
        release: Option<ReleaseId>,
    ) -> Result<Answer, Refusal> {
        if let [only] = pairs {
            return self.ask_pair(terms, only, rows, release, &Attempt::new(self.deadline)).await;
        }
        let standings =
            pairs.iter().map(|pair| self.detours.standing((terms.name(), &pair.name), Instant::now()));
        let answered = release.and_then(|release| self.detours.who_answered(release));
        let answered = answered.and_then(|name| pairs.iter().position(|pair| pair.name == name));
        let mut agenda = agenda(standings.collect(), answered);
        let mut tried: Vec<(usize, Tried)> = Vec::new();
        let mut bar = pairs.len();
        while let Some((place, standing)) = (!agenda.is_empty()).then(|| agenda.remove(0)) {
            let Some(pair) = pairs.get(place).filter(|_| place < bar) else { continue };
            let name = (terms.name(), pair.name.as_str());
            let (rested, looks) = match standing {
                Standing::Due(refusal) => {
                    if !self.detours.looks(name, Instant::now(), self.deadline + LOOK_WITHIN) {
                        agenda.push((place, Standing::Resting(refusal)));
                        continue;
                    }
                    (true, true)
                }
                Standing::Up => (false, false),
                Standing::Resting(_) => (true, false),
            };
            let patience = if agenda.is_empty() { self.deadline } else { REACH_WITHIN.min(self.deadline) };
            let attempt = Attempt::new(patience);
            let outcome = match self.is_there(terms, pair, rested, patience).await {
                Ok(()) => self.ask_pair(terms, pair, rows, release, &attempt).await,
                Err(refusal) => Err(refusal),
            };
            let refusal = match outcome {
                Ok(answer) => {
                    self.detours.answered(name);
                    self.detours.remember(answer.release, &pair.name);
                    return Ok(Answer { tried: provenance(pairs, tried, agenda), ..answer });
                }
                Err(refusal) => refusal,
            };
            match refusal.obstacle {
                obstacle if another_may(obstacle) => {
                    self.detours.failed(name, &refusal, Instant::now(), looks);
                }
                // It would be the same everywhere.
                Obstacle::Request | Obstacle::NotAllowed | Obstacle::Task | Obstacle::Release => {
                    return Err(refusal);
                }
                // Pairs behind this one do not stand in for that; one before it, which was passed over, may do.
                _ => bar = place,
            }
            tried.push((place, Tried::new(pair, &refusal, attempt.was_submitted())));
        }
        Err(refused(pairs, tried))
    }

    /// Sees that both parties are there before anything is put to either: party Zero charges before it finds that
    /// party One is gone, and what it then charged stays charged. A pair that has rested is asked whether it could
    /// answer.
    async fn is_there(
        &self,
        terms: &TaskTerms,
        pair: &TaskPair,
        rested: bool,
        within: Duration,
    ) -> Result<(), Refusal> {
        if !rested {
            let [zero, one] = pair.peers;
            return tokio::try_join!(self.reach(zero, within), self.reach(one, within)).map(drop);
        }
        let told = self.outlook(&[terms], pair.peers, LOOK_WITHIN).await;
        match told.into_iter().next() {
            Some(Err(refusal)) if another_may(refusal.obstacle) => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Waits for a connection to a party where there is none.
    async fn reach(&self, peer: PeerId, within: Duration) -> Result<(), Refusal> {
        let ours = peer == self.network.peer_id();
        if ours || self.network.connected(peer).is_ok_and(|line| line.is_connected()) {
            return Ok(());
        }
        let opened = self.network.open(peer, Role::Query, within).await;
        self.keep(peer, opened.map_err(|error| party_failed(&error))?);
        Ok(())
    }
}

impl Tried {
    fn new(pair: &TaskPair, refusal: &Refusal, submitted: bool) -> Self {
        let (obstacle, explanation) = (refusal.obstacle, refusal.explanation.clone());
        Self { pair: pair.name.clone(), obstacle, explanation, submitted }
    }
}

/// The pairs in the order in which they are asked: as in the roster, those that rest last. Whoever answered the
/// same question before comes first.
fn agenda(standings: Vec<Standing>, answered: Option<usize>) -> Vec<Turn> {
    let mut turns: Vec<Turn> = standings.into_iter().enumerate().collect();
    let rests = |standing: &Standing| matches!(standing, Standing::Resting(_));
    turns.sort_by_key(|(place, standing)| (Some(*place) != answered, rests(standing), *place));
    turns
}

/// What an answer says of the pairs before the one that gave it.
fn provenance(pairs: &[TaskPair], mut tried: Vec<(usize, Tried)>, left: Vec<Turn>) -> Vec<Tried> {
    for (place, standing) in left {
        if let (Standing::Resting(refusal), Some(pair)) = (standing, pairs.get(place)) {
            tried.push((place, passed_over(&pair.name, &refusal)));
        }
    }
    tried.sort_by_key(|(place, _)| *place);
    tried.into_iter().map(|(_, tried)| tried).collect()
}

/// What to tell where no pair answered: the obstacle of the first one in the roster, and the words of all.
fn refused(pairs: &[TaskPair], mut tried: Vec<(usize, Tried)>) -> Refusal {
    tried.sort_by_key(|(place, _)| *place);
    match tried.as_slice() {
        [] => Refusal::new(Obstacle::Task, "the task has no pair"),
        [(place, only)] => {
            let further: Vec<&str> = pairs.iter().skip(place + 1).map(|pair| pair.name.as_str()).collect();
            let kept = match (only.obstacle, further.as_slice()) {
                (Obstacle::Budget, [_, ..]) => format!(
                    " (what pair {} may spend is kept for when pair {} cannot answer)",
                    further.join(" or "),
                    only.pair
                ),
                _ => String::new(),
            };
            Refusal::new(only.obstacle, format!("{}{kept}", only.explanation))
        }
        [(_, first), ..] => {
            let each = tried.iter().map(|(_, tried)| format!("pair {}: {}", tried.pair, tried.explanation));
            Refusal::new(first.obstacle, each.collect::<Vec<_>>().join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    fn pairs(names: &[&str]) -> Vec<TaskPair> {
        let peer = Identity::generate().peer_id();
        names.iter().map(|name| TaskPair { name: (*name).to_owned(), peers: [peer; 2] }).collect()
    }

    fn tried(pair: &str, obstacle: Obstacle) -> Tried {
        Tried { pair: pair.to_owned(), obstacle, explanation: format!("{pair} says no"), submitted: true }
    }

    #[test]
    fn pairs_that_rest_come_last_and_whoever_answered_before_comes_first() {
        let rests = || Standing::Resting(Refusal::new(Obstacle::Peer, "away"));
        let places = |standings: Vec<Standing>, answered| {
            agenda(standings, answered).iter().map(|(place, _)| *place).collect::<Vec<_>>()
        };
        assert_eq!(places(vec![Standing::Up, Standing::Up, Standing::Up], None), [0, 1, 2]);
        assert_eq!(places(vec![rests(), Standing::Up, rests()], None), [1, 0, 2]);
        assert_eq!(
            places(vec![Standing::Due(Refusal::new(Obstacle::Peer, "away")), Standing::Up, rests()], None),
            [0, 1, 2]
        );
        assert_eq!(places(vec![rests(), rests()], None), [0, 1]);
        assert_eq!(places(vec![Standing::Up, Standing::Up, rests()], Some(2)), [2, 0, 1]);
    }

    #[test]
    fn an_answer_names_the_pairs_before_it_and_no_others() {
        let three = pairs(&["main", "second", "third"]);
        let rests = Standing::Resting(Refusal::new(Obstacle::Peer, "away"));
        let told = provenance(
            &three,
            vec![(1, tried("second", Obstacle::Deadline))],
            vec![(2, Standing::Up), (0, rests)],
        );
        let told: Vec<_> =
            told.iter().map(|one| (one.pair.as_str(), one.submitted, one.explanation.as_str())).collect();
        assert_eq!(told, [("main", false, "not asked this time: away"), ("second", true, "second says no")]);
        assert_eq!(provenance(&three, Vec::new(), vec![(1, Standing::Up), (2, Standing::Up)]), []);
    }

    #[test]
    fn the_first_pair_decides_what_a_refusal_is_about() {
        let two = pairs(&["main", "second"]);
        let both =
            refused(&two, vec![(1, tried("second", Obstacle::Budget)), (0, tried("main", Obstacle::Peer))]);
        assert_eq!(
            both,
            Refusal::new(Obstacle::Peer, "pair main: main says no; pair second: second says no")
        );
        let alone = refused(&two, vec![(0, tried("main", Obstacle::Budget))]);
        assert_eq!(alone.obstacle, Obstacle::Budget);
        assert_eq!(
            alone.explanation,
            "main says no (what pair second may spend is kept for when pair main cannot answer)"
        );
        let last = refused(&two, vec![(1, tried("second", Obstacle::Budget))]);
        assert_eq!(last.explanation, "second says no");
    }
}
