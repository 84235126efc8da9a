//! Where members answer who have no address in the roster, or another one by now.
//!
//! Every member keeps such a [`Book`] for those that are connected to it; so it works at those whom others reach.
//! A member calls there every few seconds, says where it answers, and hears where all others do. What it hears is
//! used for one thing: to dial that very member, who must then prove its key. A wrong entry costs a dial in vain.
//!
//! This is no use of libp2p's own rendezvous, whose registrations pile up until they run out, however often one
//! peer makes them, and which would need three more libraries. Here a member has one entry, and nobody else any.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::{Address, Channel, ChannelError, PeerId};

/// Routes of one member that are kept and told.
pub(super) const ROUTES_MAX: usize = 8;
/// What a call may weigh: its routes with room to spare.
const CALL_BYTES_MAX: usize = 8 << 10;
/// What an answer may weigh: the routes of a full roster.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Time for a call and its answer.
const WITHIN: Duration = Duration::from_secs(10);

/// A way to a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Route {
    /// It listens there.
    At(Address),
    /// It has a place at this relay.
    Through(PeerId),
}

impl Route {
    /// Whether `peer` may be dialled by it, as somebody at `teller` said. Names are left to the roster, and this
    /// machine itself is believed only by a neighbour on it.
    fn is_plausible(&self, peer: PeerId, teller: Option<IpAddr>) -> bool {
        match self {
            Self::Through(relay) => *relay != peer,
            Self::At(address) => address.socket().is_some_and(|socket| {
                let ip = socket.ip().to_canonical();
                let near =
                    !ip.is_loopback() || teller.is_some_and(|teller| teller.to_canonical().is_loopback());
                let one = !ip.is_unspecified() && !ip.is_multicast();
                near && one && socket.port() != 0
            }),
        }
    }
}

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    pub(super) peer: PeerId,
    pub(super) routes: Vec<Route>,
}

impl Listing {
    /// Without what is of no use or harmful; `teller` is where it was heard.
    pub(super) fn cleaned(mut self, teller: Option<IpAddr>) -> Self {
        self.routes.retain(|route| route.is_plausible(self.peer, teller));
        self.routes.truncate(ROUTES_MAX);
        self
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// Where the caller answers; empty for one that is found by the roster.
    routes: Vec<Route>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    members: Vec<Listing>,
}

/// Says where we answer and hears where the others do. May be dropped.
pub(super) async fn call(mut channel: Channel, routes: Vec<Route>) -> Result<Vec<Listing>, ChannelError> {
    let talk = async {
        channel.send_value(&Call { routes }).await?;
        let answer: Answer = channel.receive_value(ANSWER_BYTES_MAX).await?;
        Ok(answer.members)
    };
    timeout(WITHIN, talk).await.unwrap_or(Err(ChannelError::Deadline { within: WITHIN }))
}

/// Hears one call and answers it. May be dropped.
pub(super) async fn serve(book: &Book, peer: PeerId, mut channel: Channel) -> Result<(), ChannelError> {
    let talk = async {
        let call: Call = channel.receive_value(CALL_BYTES_MAX).await?;
        let members = book.exchange(peer, call.routes, Instant::now());
        channel.send_value(&Answer { members }).await?;
        channel.close().await
    };
    timeout(WITHIN, talk).await.unwrap_or(Err(ChannelError::Deadline { within: WITHIN }))
}

/// The entries of those who called; at most one for each member.
#[derive(Debug)]
pub(super) struct Book {
    counts_for: Duration,
    entries: Mutex<HashMap<PeerId, (Vec<Route>, Instant)>>,
}

impl Book {
    pub(super) fn new(counts_for: Duration) -> Self {
        Self { counts_for, entries: Mutex::default() }
    }

    /// Notes where `caller` answers; returns what is known of all others.
    fn exchange(&self, caller: PeerId, mut routes: Vec<Route>, now: Instant) -> Vec<Listing> {
        routes.truncate(ROUTES_MAX);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (_, until)| *until > now);
        if routes.is_empty() {
            entries.remove(&caller);
        } else {
            entries.insert(caller, (routes, now + self.counts_for));
        }
        let others = entries.iter().filter(|(peer, _)| **peer != caller);
        others.map(|(&peer, (routes, _))| Listing { peer, routes: routes.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    fn peer() -> PeerId {
        Identity::generate().peer_id()
    }

    fn at(text: &str) -> Route {
        Route::At(text.parse().unwrap())
    }

    #[test]
    fn an_entry_is_told_to_others_until_it_is_old() {
        let (book, now) = (Book::new(Duration::from_secs(60)), Instant::now());
        let (one, two) = (peer(), peer());
        let routes = vec![at("192.0.2.1:5"), Route::Through(peer())];
        assert_eq!(book.exchange(one, routes.clone(), now), []);
        let listing = Listing { peer: one, routes };
        assert_eq!(book.exchange(two, Vec::new(), now), [listing]);
        assert_eq!(book.exchange(two, Vec::new(), now + Duration::from_secs(60)), []);
    }

    #[test]
    fn a_member_has_one_entry_of_bounded_length() {
        let (book, now) = (Book::new(Duration::from_secs(60)), Instant::now());
        let (one, two) = (peer(), peer());
        for round in 0..100_u16 {
            let routes = (0..100).map(|n| at(&format!("192.0.2.1:{}", 1 + round + n))).collect();
            book.exchange(one, routes, now);
        }
        let told = book.exchange(two, Vec::new(), now);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].routes.len(), ROUTES_MAX);
        assert_eq!(told[0].routes[0], at("192.0.2.1:100"), "the last call counts");
        book.exchange(one, Vec::new(), now);
        assert_eq!(book.exchange(two, Vec::new(), now), [], "an empty call takes the entry back");
    }

    #[test]
    fn what_cannot_help_is_not_believed() {
        let (member, far) = (peer(), Some("192.0.2.9".parse().unwrap()));
        let useful = [at("192.0.2.1:5"), at("[2001:db8::1]:5"), Route::Through(peer())];
        let useless = [
            at("0.0.0.0:5"),
            at("224.0.0.1:5"),
            at("192.0.2.1:0"),
            at("example.org:5"),
            at("127.0.0.1:5"),
            at("[::ffff:127.0.0.1]:5"),
            Route::Through(member),
        ];
        let routes = useless.iter().chain(&useful).cloned().collect();
        assert_eq!(Listing { peer: member, routes }.cleaned(far).routes, useful);
        let routes = vec![at("127.0.0.1:5")];
        let listing = Listing { peer: member, routes };
        assert_eq!(listing.clone().cleaned(Some("127.0.0.1".parse().unwrap())), listing);
        assert!(listing.cleaned(None).routes.is_empty());
    }

    #[tokio::test]
    async fn a_call_is_answered() {
        let book = Book::new(Duration::from_secs(60));
        let (one, two) = (peer(), peer());
        let routes = vec![at("192.0.2.1:5"), Route::Through(two)];
        for (caller, routes, told) in
            [(one, routes.clone(), vec![]), (two, vec![], vec![Listing { peer: one, routes }])]
        {
            let (here, there) = Channel::pair();
            let (heard, served) = tokio::join!(call(here, routes), serve(&book, caller, there));
            served.unwrap();
            assert_eq!(heard.unwrap(), told);
        }
    }

    #[tokio::test]
    async fn a_call_that_is_too_long_is_refused() {
        let book = Book::new(Duration::from_secs(60));
        let (here, there) = Channel::pair();
        let routes = vec![at("192.0.2.1:5"); 1000];
        let (heard, served) = tokio::join!(call(here, routes), serve(&book, peer(), there));
        assert!(matches!(served, Err(ChannelError::TooLarge { limit: CALL_BYTES_MAX, .. })), "{served:?}");
        assert!(heard.is_err());
    }
}
