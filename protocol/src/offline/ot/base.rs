//! 128 random transfers in each direction, from nothing: the seeds of all later ones.
//!
//! - Computes: for each index a pair of seeds at the sender, and the one that the receiver's bit names
//!   at the receiver. Both parties play both roles at once.
//! - Learns: the sender nothing about the bits, the receiver nothing about the other seeds.
//! - Consumes: nothing.
//! - Costs: 2 exchanges, 32 bytes and 4,096 bytes each way; 384 products of a point by a scalar.
//! - Source: Chou and Orlandi, LATINCRYPT 2015, over ristretto255 (RFC 9496), semi-honest.

use crate::algebra::prg::{Prg, SEED_BYTES, Seed};
use crate::context::{Dialogue, DialogueError, Link};
use crate::misbehaviour::Misbehaviour;
use crate::party::Party;
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use ring::digest;
use zeroize::{Zeroize, Zeroizing};

/// Transfers in each direction.
pub(super) const TRANSFERS: usize = 128;
/// Bytes of an encoded point.
const POINT_BYTES: usize = 32;
const STEP_OFFER: u32 = 0x6f74_0001;
const STEP_CHOICE: u32 = 0x6f74_0002;

/// What both directions leave with one party.
pub(super) struct BaseTransfers {
    /// As sender: both seeds of each transfer.
    pub(super) offered: Vec<[Seed; 2]>,
    /// As receiver: the chosen seed of each transfer.
    pub(super) chosen: Vec<Seed>,
    /// Public bytes that both parties share and that differ from session to session.
    pub(super) session: [u8; 32],
}

/// Runs the base transfers; bit `j` of `choices` is this party's choice in transfer `j`.
pub(super) async fn base_transfers<L: Link>(
    dialogue: &mut Dialogue<L>,
    choices: u128,
    random: &mut Prg,
) -> Result<BaseTransfers, DialogueError> {
    let party = dialogue.party();
    let secret = scalar(random);
    let offer = RistrettoPoint::mul_base(&secret).compress().to_bytes();
    let reply = dialogue.swap(STEP_OFFER, &offer, POINT_BYTES).await?;
    let peer_offer = point(&reply, 0)?;
    let peer_offer_bytes = peer_offer.compress().to_bytes();

    let mut blinds = Vec::with_capacity(TRANSFERS);
    let mut message = Vec::with_capacity(TRANSFERS * POINT_BYTES);
    for at in 0..TRANSFERS {
        let blind = scalar(random);
        let plain = RistrettoPoint::mul_base(&blind);
        let shifted = (plain + peer_offer).compress().to_bytes();
        let mask = ((choices >> at) as u8 & 1).wrapping_neg();
        let plain = plain.compress().to_bytes();
        message.extend(plain.iter().zip(&shifted).map(|(plain, shifted)| plain ^ (mask & (plain ^ shifted))));
        blinds.push(blind);
    }
    let reply = dialogue.swap(STEP_CHOICE, &message, TRANSFERS * POINT_BYTES).await?;

    let mut base = BaseTransfers {
        offered: Vec::with_capacity(TRANSFERS),
        chosen: Vec::with_capacity(TRANSFERS),
        session: session(party, &offer, &peer_offer_bytes),
    };
    let correction = peer_correction(&secret);
    for (at, blind) in blinds.iter().enumerate() {
        let range = at * POINT_BYTES..(at + 1) * POINT_BYTES;
        let choice = &reply[range.clone()];
        let shared = point(choice, at)? * *secret;
        let place = Place { sender: party, at, offer: &offer, choice };
        base.offered.push([place.seed(&shared), place.seed(&(shared - correction))]);
        let place = Place { sender: party.other(), at, offer: &peer_offer_bytes, choice: &message[range] };
        base.chosen.push(place.seed(&(peer_offer * **blind)));
    }
    Ok(base)
}

/// A uniform scalar.
fn scalar(random: &mut Prg) -> Zeroizing<Scalar> {
    let mut wide = Zeroizing::new([0; 64]);
    random.fill_bytes(&mut *wide);
    Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide))
}

/// `secret * secret * basepoint`: by what the keys of bit 1 differ from those of bit 0.
fn peer_correction(secret: &Scalar) -> RistrettoPoint {
    RISTRETTO_BASEPOINT_POINT * (secret * secret)
}

/// The point that the peer encoded. The identity would make keys known to anyone.
fn point(bytes: &[u8], at: usize) -> Result<RistrettoPoint, Misbehaviour> {
    CompressedRistretto::from_slice(bytes)
        .ok()
        .and_then(|encoded| encoded.decompress())
        .filter(|point| !point.is_identity())
        .ok_or(Misbehaviour::Point { at })
}

/// Where a seed belongs: everything public about one transfer.
struct Place<'a> {
    sender: Party,
    at: usize,
    offer: &'a [u8],
    choice: &'a [u8],
}

impl Place<'_> {
    fn seed(&self, shared: &RistrettoPoint) -> Seed {
        let mut encoded = shared.compress();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"consilium base transfer 1\0");
        context.update(&[u8::from(self.sender == Party::One)]);
        context.update(&(self.at as u64).to_le_bytes());
        context.update(self.offer);
        context.update(self.choice);
        context.update(encoded.as_bytes());
        encoded.zeroize();
        let digest = context.finish();
        let mut seed = [0; SEED_BYTES];
        seed.iter_mut().zip(digest.as_ref()).for_each(|(byte, from)| *byte = *from);
        Seed::from_bytes(seed)
    }
}

fn session(party: Party, own: &[u8], others: &[u8]) -> [u8; 32] {
    let [zero, one] = if party == Party::Zero { [own, others] } else { [others, own] };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"consilium transfer session 1\0");
    context.update(zero);
    context.update(one);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryLink, run_now};
    use crate::wire::HEADER_BYTES;

    fn both(choices: [u128; 2]) -> [BaseTransfers; 2] {
        let run = |party, link, choices| {
            let mut dialogue = Dialogue::new(link, party, 3);
            let mut random = Prg::new(&Seed::random().unwrap());
            let base = run_now(base_transfers(&mut dialogue, choices, &mut random)).unwrap();
            assert_eq!(
                (dialogue.traffic().rounds, dialogue.traffic().sent),
                (2, 32 + 4096 + 2 * HEADER_BYTES as u64)
            );
            base
        };
        let [left, right] = MemoryLink::pair();
        std::thread::scope(|scope| {
            let other = scope.spawn(move || run(Party::One, right, choices[1]));
            [run(Party::Zero, left, choices[0]), other.join().unwrap()]
        })
    }

    #[test]
    fn the_receiver_holds_the_seed_that_it_chose_and_no_two_are_alike() {
        let choices = [0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978, !1];
        let parties = both(choices);
        assert_eq!(parties[0].session, parties[1].session);
        for (sender, receiver) in [(0, 1), (1, 0)] {
            for at in 0..TRANSFERS {
                let bit = (choices[receiver] >> at) as usize & 1;
                assert!(parties[receiver].chosen[at] == parties[sender].offered[at][bit]);
                assert!(parties[receiver].chosen[at] != parties[sender].offered[at][1 - bit]);
            }
        }
        let mut all: Vec<_> = parties
            .iter()
            .flat_map(|base| base.offered.iter().flatten())
            .map(|seed| *seed.as_bytes())
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4 * TRANSFERS);
    }

    #[test]
    fn what_is_no_point_is_named() {
        let valid = RistrettoPoint::mul_base(&Scalar::from(5u64)).compress().to_bytes();
        assert!(point(&valid, 0).is_ok());
        for bytes in [[0; 32], [0xff; 32], [1; 32]] {
            assert_eq!(point(&bytes, 9), Err(Misbehaviour::Point { at: 9 }));
        }
        assert_eq!(point(&valid[1..], 2), Err(Misbehaviour::Point { at: 2 }));
    }
}
