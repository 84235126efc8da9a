use super::*;
use crate::binding::EvidenceKind;
use crate::module::SessionError;
use crate::module::attester::{Attester, AttesterError, Software, Testimony};
use crate::module::engine::Engine;
use crate::module::specification::VALUES_MAX;
use crate::module::trial::{self, Attack, Wire, World, both_collect, judge, key, signed};
use consilium_protocol::privacy::Mechanism;
use std::collections::HashMap;

/// The draws behind both halves, as integers: all counts, and all thresholds.
fn sums(halves: [Batch; 2], classes: usize) -> (Vec<i64>, Vec<i64>) {
    let [zero, one] = halves.map(Batch::into_shares);
    let (mut counts, mut thresholds) = (Vec::new(), Vec::new());
    for (zero, one) in zero.into_iter().zip(one) {
        assert_eq!((zero.classes(), one.classes()), (classes, classes));
        let (zero, one) = (zero.into_values(), one.into_values());
        let row: Vec<i64> = zero.iter().zip(one.iter()).map(|(a, b)| a.wrapping_add(*b)).collect();
        counts.extend(&row[..classes]);
        thresholds.extend(&row[classes..]);
    }
    (counts, thresholds)
}

/// How many standard deviations the chi-square statistic of `values` lies above its mean under a symmetric
/// law on the integers with these unnormalised weights. Cells expected less than 20 times are one.
fn excess(values: &[i64], weight: impl Fn(i64) -> f64) -> f64 {
    let total: f64 = (-2_000..=2_000).map(&weight).sum();
    let mut seen: HashMap<i64, f64> = HashMap::new();
    for value in values {
        *seen.entry(*value).or_default() += 1.0;
    }
    let count = values.len() as f64;
    let (mut statistic, mut cells) = (0.0, 0.0);
    let (mut rest, mut rest_seen) = (count, count);
    for value in -200..=200 {
        let (expected, found) = (count * weight(value) / total, seen.get(&value).copied().unwrap_or(0.0));
        if expected >= 20.0 {
            statistic += (found - expected) * (found - expected) / expected;
            cells += 1.0;
            rest -= expected;
            rest_seen -= found;
        }
    }
    statistic += (rest_seen - rest) * (rest_seen - rest) / rest;
    (statistic - cells) / (2.0_f64 * cells).sqrt()
}

fn gaussian(variance: f64) -> impl Fn(i64) -> f64 {
    move |value| (-(value as f64).powi(2) / (2.0 * variance)).exp()
}

fn laplace(scale: f64) -> impl Fn(i64) -> f64 {
    move |value| (-(value as f64).abs() / scale).exp()
}

/// A batch as large as they come, over and over.
fn many(mechanism: Mechanism, classes: u16, batches: u8) -> (Vec<i64>, Vec<i64>) {
    let world = World::new();
    let mut parties = world.both();
    let (mut counts, mut thresholds) = (Vec::new(), Vec::new());
    for batch in 0..batches {
        let mut wanted = Specification { mechanism, classes, ..world.wanted(batch) };
        wanted.draws = (VALUES_MAX / wanted.width()) as u32;
        let halves = both_collect(&mut parties, &signed(wanted)).unwrap();
        let (more, above) = sums(halves, usize::from(classes));
        counts.extend(more);
        thresholds.extend(above);
    }
    (counts, thresholds)
}

#[test]
fn shares_sum_to_one_draw_of_the_mechanism() {
    let [gauss, confident, double] = trial::mechanisms();
    // Eight deviations of a statistic with tens of degrees of freedom: below one failure in a billion runs.
    let (counts, thresholds) = many(gauss, 10, 4);
    assert_eq!((counts.len(), thresholds.len()), (32_000, 0));
    assert!(excess(&counts, gaussian(25.0)) < 8.0);
    // The sum of two full draws, as software noise has it, would be noticed at once.
    assert!(excess(&counts, gaussian(50.0)) > 100.0);
    let (counts, thresholds) = many(confident, 1, 4);
    assert_eq!((counts.len(), thresholds.len()), (16_000, 16_000));
    assert!(excess(&counts, gaussian(25.0)) < 8.0);
    assert!(excess(&thresholds, gaussian(400.0)) < 8.0);
    let (counts, _) = many(double, 2, 4);
    assert!(excess(&counts, laplace(4.0)) < 8.0);
    assert!(excess(&counts, laplace(4.0 * 2.0_f64.sqrt())) > 100.0);
}

#[test]
fn each_share_alone_is_uniform() {
    let world = World::new();
    let mut parties = world.both();
    let wanted = Specification { classes: 4, draws: 2_000, ..world.wanted(1) };
    let halves = both_collect(&mut parties, &signed(wanted)).unwrap();
    for half in halves {
        let words: Vec<i64> =
            half.into_shares().into_iter().flat_map(|share| share.into_values().to_vec()).collect();
        assert_eq!(words.len(), 8_000);
        // Every byte of a word by itself: without a mask the upper ones would be all zeros or all ones.
        for position in 0..8 {
            let mut seen = [0_f64; 256];
            for word in &words {
                seen[usize::from(word.to_le_bytes()[position])] += 1.0;
            }
            let expected = words.len() as f64 / 256.0;
            let statistic: f64 = seen.iter().map(|found| (found - expected).powi(2) / expected).sum();
            assert!((statistic - 255.0) / 510_f64.sqrt() < 9.0, "byte {position}: {statistic}");
        }
    }
}

#[test]
fn both_get_one_receipt_that_holds() {
    let world = World::new();
    let mut parties = world.both();
    for batch in 0..3 {
        let wanted = world.wanted(batch);
        let [zero, one] = both_collect(&mut parties, &signed(wanted.clone())).unwrap();
        assert_eq!(zero.receipt(), one.receipt());
        assert_eq!((zero.party(), one.party()), (Party::Zero, Party::One));
        let receipt = zero.receipt();
        assert!(receipt.is_signed_by(parties[0].receipt_key()));
        let named = (receipt.boot, receipt.batch, receipt.specification, receipt.number);
        assert_eq!(named, (wanted.boot, wanted.batch, wanted.digest(), u64::from(batch)));
    }
}

#[test]
fn the_order_of_requests_does_not_matter() {
    let world = World::new();
    let [mut zero, mut one] = world.both();
    for (batch, first) in [(1, Party::Zero), (2, Party::One)] {
        let wanted = signed(world.wanted(batch));
        let (early, late) = if first == Party::Zero { (&mut zero, &mut one) } else { (&mut one, &mut zero) };
        early.request(&wanted).unwrap();
        let (late, early) = (late.draw(&wanted).unwrap(), early.collect().unwrap());
        assert_eq!((early.party(), late.party()), (first, first.other()));
    }
}

#[test]
fn one_party_alone_gets_nothing() {
    let world = World::new();
    let [mut zero, mut one] = world.both();
    let wanted = signed(world.wanted(1));
    zero.request(&wanted).unwrap();
    assert_eq!(world.waiting(0), 0);
    // Asking again from a second connection does not make it two parties.
    let mut again = world.proven(2, 0, trial::specification().policy).unwrap();
    assert!(matches!(again.draw(&wanted), Err(ClientError::Refused(Refusal::Waiting))));
    assert_eq!((world.waiting(0), world.receipts()), (0, 0));
    // Nor does coming back after leaving.
    drop(zero);
    again.request(&wanted).unwrap();
    assert_eq!((world.waiting(2), world.receipts()), (0, 0));
    drop(again);
    one.request(&wanted).unwrap();
    assert_eq!((world.waiting(1), world.receipts()), (0, 0));
    let mut zero = world.proven(3, 0, trial::specification().policy).unwrap();
    let [zero, one] = [zero.draw(&wanted).unwrap(), one.collect().unwrap()];
    assert_eq!((zero.receipt(), world.receipts()), (one.receipt(), 1));
}

#[test]
fn a_party_that_goes_on_talking_while_it_waits_is_cut_off() {
    let world = World::new();
    let [mut zero, mut one] = world.both();
    let wanted = signed(world.wanted(1));
    zero.request(&wanted).unwrap();
    assert!(matches!(zero.request(&wanted), Err(ClientError::Order)), "our own side counts");
    zero.line.say(&Request::Draw { signed: wanted.encode() }).unwrap();
    assert!(matches!(world.ended(0), Some(SessionError::Order { request: "draw", .. })));
    // Its request went with it.
    one.request(&wanted).unwrap();
    assert_eq!((world.waiting(1), world.receipts()), (0, 0));
}

#[test]
fn differing_specifications_are_refused_to_both() {
    let changes: [fn(&mut Specification); 4] = [
        |wanted| wanted.mechanism = trial::mechanisms()[2],
        |wanted| wanted.classes = 4,
        |wanted| wanted.draws = 5,
        |wanted| wanted.task[3] ^= 1,
    ];
    let world = World::new();
    let [mut zero, mut one] = world.both();
    for (batch, change) in changes.into_iter().enumerate() {
        let wanted = world.wanted(batch as u8);
        let mut other = wanted.clone();
        change(&mut other);
        zero.request(&signed(wanted.clone())).unwrap();
        one.request(&signed(other)).unwrap();
        for party in [&mut zero, &mut one] {
            assert!(matches!(party.collect(), Err(ClientError::Refused(Refusal::Differs))));
            // The number is burnt, the channel is not.
            assert!(matches!(party.draw(&signed(wanted.clone())), Err(ClientError::Refused(Refusal::Used))));
        }
    }
    assert_eq!(world.receipts(), 0);
    drop(both_collect(&mut [zero, one], &signed(world.wanted(99))).unwrap());
}

#[test]
fn a_number_serves_once_also_after_coming_back() {
    let world = World::new();
    let mut parties = world.both();
    let wanted = world.wanted(1);
    drop(both_collect(&mut parties, &signed(wanted.clone())).unwrap());
    let refused = |party: &mut Proven<Wire>, wanted: &Specification| {
        let refused = party.draw(&signed(wanted.clone()));
        assert!(matches!(refused, Err(ClientError::Refused(Refusal::Used))), "{refused:?}");
    };
    refused(&mut parties[0], &wanted);
    refused(&mut parties[1], &Specification { task: [77; 32], ..wanted.clone() });
    drop(parties);
    for (connection, seat) in [(2, 0), (3, 1)] {
        let mut party = world.proven(connection, seat, wanted.policy).unwrap();
        refused(&mut party, &wanted);
    }
    assert_eq!(world.receipts(), 1);
}

#[test]
fn a_module_that_cannot_tell_batches_apart_any_more_stops_drawing() {
    let world = World::of(Engine::remembering(Box::new(Software) as Box<dyn Attester>, 2).unwrap());
    let mut parties = world.both();
    for batch in 0..2 {
        drop(both_collect(&mut parties, &signed(world.wanted(batch))).unwrap());
    }
    let refused = parties[0].draw(&signed(world.wanted(2)));
    assert!(matches!(refused, Err(ClientError::Refused(Refusal::Exhausted))));
}

#[test]
fn the_module_checks_what_an_honest_client_would_not_send() {
    let world = World::new();
    let [mut zero, _one] = world.both();
    let wanted = world.wanted(1);
    let mut refusal = |bytes: Vec<u8>| {
        zero.line.say(&Request::Draw { signed: bytes }).unwrap();
        match zero.line.hear().unwrap() {
            Reply::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let encoded = |change: fn(&mut Specification)| {
        let mut wanted = wanted.clone();
        change(&mut wanted);
        signed(wanted).encode()
    };
    assert_eq!(refusal(encoded(|it| it.boot[0] ^= 1)), Refusal::Boot);
    assert_eq!(refusal(encoded(|it| it.policy[0] ^= 1)), Refusal::Policy);
    assert_eq!(refusal(Vec::new()), Refusal::Specification);
    let good = encoded(|_| ());
    assert_eq!(refusal(good[1..].to_vec()), Refusal::Specification);
    for seat in [0, 1] {
        let mut unsigned = good.clone();
        let at = good.len() - 1 - 64 * seat;
        unsigned[at] ^= 1;
        assert_eq!(refusal(unsigned), Refusal::Signature);
    }
    // A pair that this party does not belong to.
    let mut others = wanted.clone();
    others.parties = [1, 2].map(|seat| key(seat).public());
    let signatures = [1, 2].map(|seat| others.sign(&key(seat)).unwrap());
    assert_eq!(refusal(others.signed(signatures).unwrap().encode()), Refusal::Party);
    assert_eq!(world.receipts(), 0);
}

#[test]
fn the_client_does_not_ask_for_what_the_module_would_refuse() {
    let world = World::new();
    let mut stranger = world.proven(7, 2, trial::specification().policy).unwrap();
    let [mut zero, _one] = world.both();
    let mismatch = |party: &mut Proven<Wire>, wanted| match party.request(&signed(wanted)) {
        Err(ClientError::Mismatch { what }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(mismatch(&mut stranger, world.wanted(1)), "pair of parties");
    assert_eq!(mismatch(&mut zero, Specification { boot: [0; 16], ..world.wanted(1) }), "boot");
    assert_eq!(mismatch(&mut zero, Specification { policy: [0; 32], ..world.wanted(1) }), "policy");
    assert!(matches!(zero.collect(), Err(ClientError::Order)));
}

#[test]
fn evidence_is_fresh_and_about_this_channel_and_this_party() {
    let world = World::new();
    let mut bindings = Vec::new();
    for (connection, seat) in [(0, 0), (1, 1), (2, 0)] {
        let unproven = Unproven::open(world.connect(connection), &key(seat)).unwrap();
        let remote = *unproven.channel_key();
        let keep = |evidence: &Evidence, binding: &Binding| {
            bindings.push(binding.clone());
            judge(evidence, binding)
        };
        let (proven, ()) = unproven.prove([9; 32], keep).unwrap();
        let (_, ()) = proven
            .prove_again(|evidence, binding| {
                bindings.push(binding.clone());
                judge(evidence, binding)
            })
            .unwrap();
        for binding in &bindings[bindings.len() - 2..] {
            assert_eq!(binding.channel_key, remote);
            assert_eq!((binding.policy, &binding.verifier), ([9; 32], &peer_id(&key(seat).public())));
            assert_eq!((binding.kind, binding.boot), (EvidenceKind::Software, world.wanted(0).boot));
        }
    }
    for (index, binding) in bindings.iter().enumerate() {
        assert!(bindings[index + 1..].iter().all(|other| other.nonce != binding.nonce));
    }
}

/// A relay that shows somebody else's evidence on a channel of its own.
struct Relay(fn(&mut Binding));

impl Attester for Relay {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Software
    }

    fn attest(&mut self, binding: &Binding) -> Result<Testimony, AttesterError> {
        let mut other = binding.clone();
        (self.0)(&mut other);
        Software.attest(&other)
    }
}

#[test]
fn evidence_about_anything_else_is_refused_and_nothing_can_be_asked() {
    let changes: [fn(&mut Binding); 6] = [
        |binding| binding.channel_key[0] ^= 1,
        |binding| binding.receipt_key[0] ^= 1,
        |binding| binding.boot[0] ^= 1,
        |binding| binding.nonce[0] ^= 1,
        |binding| binding.policy[0] ^= 1,
        |binding| binding.verifier = peer_id(&key(1).public()),
    ];
    for change in changes {
        let world = World::of(Engine::new(Box::new(Relay(change)) as Box<dyn Attester>).unwrap());
        let refused = world.proven(0, 0, [2; 32]).err().unwrap();
        assert!(matches!(refused, ProofError::Refused("evidence about something else")));
    }
}

#[test]
fn the_verifiers_verdict_opens_the_module_or_names_its_reason() {
    let world = World::new();
    let open = |connection| Unproven::open(world.connect(connection), &key(0)).unwrap();
    let unproven = open(0);
    let channel_key = *unproven.channel_key();
    let judge = |evidence: &Evidence, asked: &Binding| trial::verified(evidence, asked, &trial::policy(true));
    let (proven, verdict) = unproven.prove([9; 32], judge).unwrap();
    assert_eq!((verdict.kind(), verdict.boot()), (EvidenceKind::Software, *proven.boot()));
    assert_eq!((verdict.channel_key(), verdict.receipt_key()), (channel_key, *proven.receipt_key()));
    let refused = |world: &World, connection, allowed| {
        let unproven = Unproven::open(world.connect(connection), &key(0)).unwrap();
        let judged = unproven.prove([9; 32], |evidence, asked| {
            trial::verified(evidence, asked, &trial::policy(allowed)).map(drop)
        });
        match judged.err().unwrap() {
            ProofError::Refused(reason) => reason,
            ProofError::Client(error) => panic!("{error}"),
        }
    };
    assert_eq!(refused(&world, 1, false), crate::refusal::Refusal::SoftwareNotAllowed);
    // Evidence under the right label whose signed part is about another channel.
    let relay = Relay(|binding| binding.channel_key[0] ^= 1);
    let world = World::of(Engine::new(Box::new(relay) as Box<dyn Attester>).unwrap());
    assert_eq!(refused(&world, 0, true), crate::refusal::Refusal::Unbound);
}

#[test]
fn a_platform_without_evidence_is_a_refusal() {
    struct Mute;
    impl Attester for Mute {
        fn kind(&self) -> EvidenceKind {
            EvidenceKind::Tdx
        }
        fn attest(&mut self, _: &Binding) -> Result<Testimony, AttesterError> {
            Err(AttesterError::Generation { found: "2".to_owned() })
        }
    }
    let world = World::of(Engine::new(Box::new(Mute) as Box<dyn Attester>).unwrap());
    let refused = world.proven(0, 0, [2; 32]).err().unwrap();
    assert!(matches!(refused, ProofError::Client(ClientError::Refused(Refusal::Evidence))));
    assert_eq!(world.ended(0), None);
}

#[test]
fn before_the_evidence_the_module_draws_nothing() {
    let world = World::new();
    let mut unproven = Unproven::open(world.connect(0), &key(0)).unwrap();
    unproven.line.say(&Request::Draw { signed: signed(world.wanted(1)).encode() }).unwrap();
    assert!(matches!(world.ended(0), Some(SessionError::Order { state: "without evidence", .. })));
}

#[test]
fn an_identity_must_sign_this_very_handshake() {
    struct Elsewhere;
    impl PartyKey for Elsewhere {
        fn public(&self) -> [u8; 32] {
            key(0).public()
        }
        fn sign(&self, _: &[u8]) -> Result<[u8; 64], SigningFailed> {
            PartyKey::sign(&key(0), &introduction(&[7; 32]))
        }
    }
    let world = World::new();
    let unproven = Unproven::open(world.connect(0), &Elsewhere).unwrap();
    assert_eq!(world.ended(0), Some(SessionError::Identity));
    assert!(unproven.prove([2; 32], judge).is_err());
}

#[test]
fn a_worthless_batch_is_named_and_ends_the_channel() {
    let world = World::new();
    let mut parties = world.both();
    let wanted = world.wanted(1);
    for party in &mut parties {
        party.request(&signed(wanted.clone())).unwrap();
    }
    let receipt_key = *parties[0].receipt_key();
    let Reply::Half(half) = parties[1].line.hear().unwrap() else { panic!("no half") };
    let fault = |change: fn(&mut Half), wanted: &Specification, party, key: &[u8; 32]| {
        let mut half = half.clone();
        change(&mut half);
        check(&half, wanted, party, key).err()
    };
    let base = |change| fault(change, &wanted, Party::One, &receipt_key);
    assert_eq!(base(|_| ()), None);
    assert_eq!(base(|half| half.share[0] ^= 1), Some("its receipt commits to another share"));
    assert_eq!(base(|half| half.salt[0] ^= 1), Some("its receipt commits to another share"));
    let unsigned = Some("its receipt is not signed by the key in the evidence");
    assert_eq!(base(|half| half.receipt.commitments[1][0] ^= 1), unsigned);
    assert_eq!(fault(|_| (), &wanted, Party::One, &key(0).public()), unsigned);
    let other = Some("it is the other party's half");
    assert_eq!(fault(|_| (), &wanted, Party::Zero, &receipt_key), other);
    let changed = Specification { task: [9; 32], ..wanted.clone() };
    let another = Some("its receipt is for another batch");
    assert_eq!(fault(|_| (), &changed, Party::One, &receipt_key), another);
    let mut cut = half.clone();
    cut.share.truncate(8);
    assert_eq!(shares(&cut, &wanted).err(), Some("its share has another length"));
    // The first party believes another receipt key, as if the module had changed since.
    parties[0].receipt_key = key(3).public();
    assert!(matches!(parties[0].collect(), Err(ClientError::Batch { .. })));
    assert!(matches!(parties[0].request(&signed(world.wanted(2))), Err(ClientError::Broken)));
}

#[test]
fn receipts_do_not_betray_the_other_share() {
    let world = World::new();
    let mut parties = world.both();
    let wanted = Specification { classes: 1, draws: 1, ..world.wanted(1) };
    for party in &mut parties {
        party.request(&signed(wanted.clone())).unwrap();
    }
    let [zero, one] = [0, 1].map(|seat| match parties[seat].line.hear().unwrap() {
        Reply::Half(half) => half,
        other => panic!("{other:?}"),
    });
    let mine = shares(&zero, &wanted).unwrap().remove(0).into_values()[0];
    let target = zero.receipt.commitments[1];
    // Every noise that has a chance, with every salt that Zero could think of.
    let opens = |salt: &[u8; 32]| {
        (-1_000_i64..=1_000).any(|noise| {
            let theirs = noise.wrapping_sub(mine).to_le_bytes();
            commitment(&wanted.digest(), &wanted.boot, Party::One, salt, &theirs) == target
        })
    };
    assert!(!opens(&zero.salt) && !opens(&[0; 32]));
    assert!(opens(&one.salt), "the search itself works");
}

#[test]
fn secrets_are_not_printed() {
    let world = World::new();
    let mut parties = world.both();
    let [zero, one] = both_collect(&mut parties, &signed(world.wanted(1))).unwrap();
    assert_eq!(format!("{:?}", parties[0]), "Proven(..)");
    for half in [&zero, &one] {
        let text = format!("{half:?}");
        assert!(text.contains("shares: [NoiseShare(3 classes), NoiseShare"), "{text}");
    }
}

/// What a network attacker does to one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trick {
    Drop,
    Replay,
    Change,
    Shorten,
    Swap,
    Forward,
}

/// Does `trick` to frame number `at` of connection 0.
fn attack(trick: Trick, at: usize) -> Attack {
    let (mut number, mut held) = (0, None);
    Box::new(move |connection, mut frame: Vec<u8>| {
        if connection != 0 {
            return vec![(connection, frame)];
        }
        number += 1;
        if number == at + 2 && held.is_some() {
            // The frame held back comes after its successor.
            return vec![(0, frame), (0, held.take().unwrap_or_default())];
        }
        if number != at + 1 {
            return vec![(0, frame)];
        }
        match trick {
            Trick::Drop => Vec::new(),
            Trick::Replay => vec![(0, frame.clone()), (0, frame)],
            Trick::Change => {
                let middle = frame.len() / 2;
                frame[middle] ^= 4;
                vec![(0, frame)]
            }
            Trick::Shorten => {
                frame.pop();
                vec![(0, frame)]
            }
            Trick::Swap => {
                held = Some(frame);
                Vec::new()
            }
            Trick::Forward => vec![(1, frame)],
        }
    })
}

/// Both parties go as far as they come: two batches each.
fn exchange(world: &World) -> [Result<Vec<Batch>, String>; 2] {
    let open = |seat: u8| {
        let proven = world.proven(u64::from(seat), seat, trial::specification().policy);
        proven.map_err(|error| error.to_string())
    };
    let mut parties = [open(1), open(0)];
    let mut batches = [Ok(Vec::new()), Ok(Vec::new())];
    for number in 0..2 {
        let wanted = signed(world.wanted(number));
        let asked = parties.each_mut().map(|party| match party {
            Ok(proven) => proven.request(&wanted).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        });
        for ((party, asked), batches) in parties.iter_mut().zip(asked).zip(&mut batches) {
            let got = match (asked, party) {
                (Ok(()), Ok(proven)) => proven.collect().map_err(|error| error.to_string()),
                (Err(error), _) => Err(error),
                (_, Err(error)) => Err(error.clone()),
            };
            match got {
                Ok(batch) => drop(batches.as_mut().map(|batches: &mut Vec<Batch>| batches.push(batch))),
                Err(error) if batches.is_ok() => *batches = Err(error),
                Err(_) => {}
            }
        }
    }
    let [one, zero] = batches;
    [zero, one]
}

#[test]
fn an_attacker_in_between_can_stop_things_and_nothing_else() {
    let pass = || Box::new(|connection: u64, frame: Vec<u8>| vec![(connection, frame)]) as Attack;
    let clean = exchange(&World::new());
    assert!(clean.iter().all(|batches| batches.as_ref().is_ok_and(|batches| batches.len() == 2)));
    let tricks = [Trick::Drop, Trick::Replay, Trick::Change, Trick::Shorten, Trick::Swap, Trick::Forward];
    // Up: two messages of the handshake, the name, the question, two requests. Down: one message, evidence,
    // two halves.
    for (upwards, frames) in [(true, 6), (false, 4)] {
        for (at, trick) in (0..frames).flat_map(|at| tricks.map(|trick| (at, trick))) {
            let world = match upwards {
                true => World::new().attacked(attack(trick, at), pass()),
                false => World::new().attacked(pass(), attack(trick, at)),
            };
            let [zero, one] = exchange(&world);
            let place = format!("{trick:?} of frame {at}, upwards {upwards}");
            let halves = |batches: &Result<Vec<Batch>, String>| batches.as_ref().map_or(0, Vec::len);
            // A replay after the last frame that matters comes too late to disturb.
            let late = trick == Trick::Replay && at + 1 == frames;
            assert_eq!(zero.is_ok(), late, "{place}");
            assert!(world.receipts() <= 2, "{place}");
            assert!(halves(&zero).max(halves(&one)) as u64 <= world.receipts(), "{place}");
            if let (Ok(zero), Ok(one)) = (&zero, &one) {
                assert!(zero.iter().zip(one).all(|(zero, one)| zero.receipt() == one.receipt()), "{place}");
            }
        }
    }
}
