//! Where two requests for one batch meet. Nothing is drawn before, and no number of a batch meets twice.

use consilium_protocol::party::Party;
use ring::digest::{Context, SHA256};
use std::collections::HashSet;

use super::message::Refusal;
use super::specification::Specification;

/// Batches of one boot; their names take about 40 MB.
pub(crate) const BATCHES_MAX: usize = 1 << 20;

/// The number of a batch, together with the pair that counts in it, so that no pair can use up another's.
type Name = [u8; 16];

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// The other party has not asked yet.
    Waits,
    /// Both have asked for the same. The number is used up from now on.
    Meets {
        /// Connection of the other party.
        other: u64,
    },
    /// This request is refused, and where another connection is named its request is too.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Connection of the other party.
        other: Option<u64>,
    },
}

#[derive(Debug)]
struct Waiting {
    name: Name,
    digest: [u8; 32],
    party: Party,
    connection: u64,
}

/// Requests that wait, at most one of each connection, and the numbers used in this boot.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    waiting: Vec<Waiting>,
    used: HashSet<Name>,
    most: usize,
}

impl Rendezvous {
    /// Nobody waits, and no number is used.
    pub(crate) fn new(most: usize) -> Self {
        Self { waiting: Vec::new(), used: HashSet::new(), most }
    }

    /// A party on a connection asks for a batch that both parties signed.
    pub(crate) fn arrive(&mut self, wanted: &Specification, party: Party, connection: u64) -> Meeting {
        let (name, digest) = (name(wanted), wanted.digest());
        let alone = |refusal| Meeting::Refused { refusal, other: None };
        if self.used.contains(&name) {
            return alone(Refusal::Used);
        }
        let Some(at) = self.waiting.iter().position(|waiting| waiting.name == name) else {
            if self.used.len() >= self.most {
                return alone(Refusal::Exhausted);
            }
            self.waiting.push(Waiting { name, digest, party, connection });
            return Meeting::Waits;
        };
        if self.waiting[at].party == party && self.waiting[at].digest == digest {
            return alone(Refusal::Waiting);
        }
        if self.used.len() >= self.most {
            return alone(Refusal::Exhausted);
        }
        let there = self.waiting.swap_remove(at);
        self.used.insert(name);
        if there.digest == digest {
            return Meeting::Meets { other: there.connection };
        }
        // Two specifications under one number, both signed twice: somebody is wrong, and neither is served.
        Meeting::Refused { refusal: Refusal::Differs, other: Some(there.connection) }
    }

    /// A connection is gone, and with it its request. Its number was not used.
    pub(crate) fn leave(&mut self, connection: u64) {
        self.waiting.retain(|waiting| waiting.connection != connection);
    }
}

fn name(wanted: &Specification) -> Name {
    let mut context = Context::new(&SHA256);
    context.update(b"consilium noise batch 1\0");
    context.update(wanted.parties.as_flattened());
    context.update(&wanted.batch);
    let mut name = [0; 16];
    for (byte, from) in name.iter_mut().zip(context.finish().as_ref()) {
        *byte = *from;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::trial::specification;
    use super::*;

    const ALONE: fn(Refusal) -> Meeting = |refusal| Meeting::Refused { refusal, other: None };

    #[test]
    fn two_requests_meet_once() {
        let mut rendezvous = Rendezvous::new(10);
        let wanted = specification();
        assert_eq!(rendezvous.arrive(&wanted, Party::One, 5), Meeting::Waits);
        assert_eq!(rendezvous.arrive(&wanted, Party::Zero, 6), Meeting::Meets { other: 5 });
        for (party, connection) in [(Party::Zero, 6), (Party::One, 5), (Party::One, 7)] {
            assert_eq!(rendezvous.arrive(&wanted, party, connection), ALONE(Refusal::Used));
        }
        // The number is what is used up, not the specification.
        let other = Specification { draws: 3, ..wanted };
        assert_eq!(rendezvous.arrive(&other, Party::Zero, 6), ALONE(Refusal::Used));
    }

    #[test]
    fn one_party_twice_is_not_two_parties() {
        let mut rendezvous = Rendezvous::new(10);
        let wanted = specification();
        assert_eq!(rendezvous.arrive(&wanted, Party::One, 5), Meeting::Waits);
        assert_eq!(rendezvous.arrive(&wanted, Party::One, 6), ALONE(Refusal::Waiting));
        rendezvous.leave(5);
        assert_eq!(rendezvous.arrive(&wanted, Party::One, 6), Meeting::Waits);
        rendezvous.leave(5);
        assert_eq!(rendezvous.arrive(&wanted, Party::Zero, 7), Meeting::Meets { other: 6 });
    }

    #[test]
    fn differing_requests_burn_their_number() {
        let changes: [fn(&mut Specification); 6] = [
            |wanted| wanted.classes += 1,
            |wanted| wanted.draws += 1,
            |wanted| wanted.task[0] ^= 1,
            |wanted| wanted.policy[0] ^= 1,
            |wanted| wanted.task[0] ^= 1,
            |wanted| wanted.mechanism = super::super::trial::mechanisms()[2],
        ];
        for change in changes {
            for party in Party::BOTH {
                let mut rendezvous = Rendezvous::new(10);
                let wanted = specification();
                let mut other = wanted.clone();
                change(&mut other);
                assert_eq!(rendezvous.arrive(&wanted, Party::One, 5), Meeting::Waits);
                let refused = Meeting::Refused { refusal: Refusal::Differs, other: Some(5) };
                assert_eq!(rendezvous.arrive(&other, party, 6), refused);
                assert_eq!(rendezvous.arrive(&wanted, Party::Zero, 6), ALONE(Refusal::Used));
                assert!(rendezvous.waiting.is_empty());
            }
        }
    }

    #[test]
    fn numbers_belong_to_a_pair_and_are_bounded() {
        let mut rendezvous = Rendezvous::new(2);
        let batch = |batch: u8, pair: u8| {
            let parties = [[pair; 32], [pair + 1; 32]];
            Specification { batch: [batch; 16], parties, ..specification() }
        };
        for (wanted, connection) in [(batch(1, 1), 1), (batch(1, 3), 3)] {
            assert_eq!(rendezvous.arrive(&wanted, Party::Zero, connection), Meeting::Waits);
            let meets = Meeting::Meets { other: connection };
            assert_eq!(rendezvous.arrive(&wanted, Party::One, connection + 1), meets);
        }
        assert_eq!(rendezvous.arrive(&batch(2, 1), Party::Zero, 1), ALONE(Refusal::Exhausted));
        assert_eq!(rendezvous.arrive(&batch(1, 1), Party::Zero, 1), ALONE(Refusal::Used));
    }
}
