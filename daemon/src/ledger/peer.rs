//! Heads of the two parties' chains, exchanged so that neither can go back unnoticed.
//!
//! A disk that is restored from an old copy forgets charges and serials, and nothing on that disk can
//! tell. The peer can: it keeps the newest head that it was shown, and asks for no older one.

use super::books::{Books, Trouble};
use super::{Head, Ledger, LedgerError};
use redb::ReadableTable;

impl Ledger {
    /// The newest head that this peer has shown.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn peer_head(&self, peer: &str) -> Result<Option<Head>, LedgerError> {
        self.transact(|books| books.peer_head(peer))
    }

    /// Checks the head that a peer shows and keeps it, durably.
    ///
    /// # Errors
    /// As [`Ledger::check_peer_head`]; the stored head is kept then.
    pub fn set_peer_head(&self, peer: &str, head: Head) -> Result<(), LedgerError> {
        self.transact(|books| books.set_peer_head(peer, head))
    }

    /// Checks the head that a peer shows against the newest one it has shown before.
    ///
    /// # Errors
    /// [`LedgerError::RolledBack`], [`LedgerError::Forked`].
    pub fn check_peer_head(&self, peer: &str, claimed: Head) -> Result<(), LedgerError> {
        self.transact(|books| books.check_peer_head(peer, claimed))
    }

    /// Checks our own chain against the head that a peer says it was shown.
    ///
    /// # Errors
    /// [`LedgerError::BehindPeer`] when that record is missing here or is another one.
    pub fn check_own_head(&self, seen: Head) -> Result<(), LedgerError> {
        self.transact(|books| books.check_own_head(seen))
    }

    /// Forgets what a peer has shown, after its operator has explained why its ledger is a new one.
    /// From then on, whatever that peer shows first is believed.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn dangerously_forget_peer(&self, peer: &str) -> Result<(), LedgerError> {
        self.transact(|books| {
            books.peers.remove(peer)?;
            books.touch();
            Ok(())
        })
    }
}

impl Books<'_> {
    pub(super) fn peer_head(&self, peer: &str) -> Result<Option<Head>, Trouble> {
        let row = self.peers.get(peer)?;
        Ok(row.map(|row| {
            let (sequence, hash) = row.value();
            Head { sequence, hash: *hash }
        }))
    }

    pub(super) fn set_peer_head(&mut self, peer: &str, head: Head) -> Result<(), Trouble> {
        let length = peer.len();
        if peer.is_empty() || length > super::request::NAME_BYTES_MAX {
            return Err(LedgerError::Name { what: "peer", length }.into());
        }
        self.check_peer_head(peer, head)?;
        if self.peer_head(peer)? != Some(head) {
            self.peers.insert(peer, (head.sequence, &head.hash))?;
            self.touch();
        }
        Ok(())
    }

    pub(super) fn check_peer_head(&self, peer: &str, claimed: Head) -> Result<(), Trouble> {
        let Some(stored) = self.peer_head(peer)? else { return Ok(()) };
        Ok(compare_heads(peer, stored, claimed)?)
    }

    pub(super) fn check_own_head(&self, seen: Head) -> Result<(), Trouble> {
        let same = self.chain.get(seen.sequence)?.is_some_and(|row| *row.value().0 == seen.hash);
        if same { Ok(()) } else { Err(LedgerError::BehindPeer { own: self.head()?, seen }.into()) }
    }
}

/// Compares the head that a peer shows with one that it has shown before.
///
/// # Errors
/// [`LedgerError::RolledBack`], [`LedgerError::Forked`].
pub fn compare_heads(peer: &str, stored: Head, claimed: Head) -> Result<(), LedgerError> {
    let peer = peer.to_owned();
    if claimed.sequence < stored.sequence {
        return Err(LedgerError::RolledBack { peer, stored, claimed });
    }
    if claimed.sequence == stored.sequence && claimed.hash != stored.hash {
        return Err(LedgerError::Forked { peer, sequence: claimed.sequence });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::trial::{Bench, granted, request};
    use std::fs;

    #[test]
    fn a_restored_copy_of_the_file_is_refused_by_both_sides() {
        let mut ours = Bench::new();
        let theirs = Bench::new();
        granted(ours.ledger().reserve(&request(1)));
        let copy = ours.path().with_extension("copy");
        ours.close();
        fs::copy(ours.path(), &copy).unwrap();
        ours.open();
        granted(ours.ledger().reserve(&request(2)));
        let shown = ours.ledger().head().unwrap();
        theirs.ledger().set_peer_head("ours", shown).unwrap();

        ours.close();
        fs::rename(&copy, ours.path()).unwrap();
        ours.open();
        let restored = ours.ledger().head().unwrap();
        let error = theirs.ledger().check_peer_head("ours", restored).unwrap_err();
        assert!(matches!(&error, LedgerError::RolledBack { stored, .. } if *stored == shown), "{error}");
        assert!(theirs.ledger().set_peer_head("ours", restored).is_err());
        assert_eq!(theirs.ledger().peer_head("ours").unwrap(), Some(shown), "the newer head is kept");
        let own = ours.ledger().check_own_head(shown);
        assert!(matches!(own, Err(LedgerError::BehindPeer { .. })));
    }

    #[test]
    fn another_history_of_the_same_length_is_refused() {
        let (one, two, watcher) = (Bench::new(), Bench::new(), Bench::new());
        let head = one.ledger().head().unwrap();
        watcher.ledger().set_peer_head("one", head).unwrap();
        watcher.ledger().check_peer_head("one", head).unwrap();
        one.ledger().check_own_head(head).unwrap();
        let other = two.ledger().head().unwrap();
        assert!(matches!(
            watcher.ledger().check_peer_head("one", other),
            Err(LedgerError::Forked { sequence: 1, .. })
        ));
        assert!(matches!(two.ledger().check_own_head(head), Err(LedgerError::BehindPeer { .. })));
        watcher.ledger().dangerously_forget_peer("one").unwrap();
        watcher.ledger().set_peer_head("one", other).unwrap();
    }

    #[test]
    fn heads_of_peers_survive_and_do_not_move_our_own() {
        let mut bench = Bench::new();
        let own = bench.ledger().head().unwrap();
        let shown = Head { sequence: 9, hash: [9; 32] };
        bench.ledger().set_peer_head("peer", shown).unwrap();
        bench.reopen();
        assert_eq!(bench.ledger().peer_head("peer").unwrap(), Some(shown));
        assert_eq!(bench.ledger().head().unwrap(), own);
    }
}
