use super::super::attester::Software;
use super::super::channel::{Channel, ChannelError, Handshake};
use super::super::message::{Reply, Request};
use super::super::signature::{PartyKey, introduction};
use super::super::trial::{self, World, key};
use super::*;
use consilium_protocol::algebra::prg::SEED_BYTES;
use consilium_protocol::privacy::Mechanism;
use proptest::prelude::*;

/// A party without manners: it sends what it likes.
struct Rude {
    connection: u64,
    channel: Channel,
}

fn frames(outputs: Vec<Output>) -> Vec<Vec<u8>> {
    outputs
        .into_iter()
        .map(|output| match output {
            Output::Send { frame, .. } => frame,
            other => panic!("{other:?}"),
        })
        .collect()
}

impl Rude {
    fn open(engine: &mut Engine<Software>, connection: u64) -> Self {
        engine.open(connection).unwrap();
        let mut handshake = Handshake::party().unwrap();
        let answers = frames(engine.receive(connection, &handshake.write().unwrap()));
        handshake.read(&answers[0]).unwrap();
        assert!(engine.receive(connection, &handshake.write().unwrap()).is_empty());
        Self { connection, channel: handshake.finish().unwrap() }
    }

    fn introduce(mut self, engine: &mut Engine<Software>, seat: u8) -> Self {
        let signature = PartyKey::sign(&key(seat), &introduction(self.channel.hash())).unwrap();
        assert!(self.say(engine, &Request::Introduce { key: key(seat).public(), signature }).is_empty());
        self
    }

    fn attest(mut self, engine: &mut Engine<Software>) -> Self {
        let request = Request::Attest { nonce: [1; 32], policy: trial::specification().policy };
        let answers = frames(self.say(engine, &request));
        assert!(matches!(Reply::decode(&self.channel.open(&answers[0]).unwrap()), Ok(Reply::Evidence(_))));
        self
    }

    fn say(&mut self, engine: &mut Engine<Software>, request: &Request) -> Vec<Output> {
        self.text(engine, &request.encode())
    }

    fn text(&mut self, engine: &mut Engine<Software>, text: &[u8]) -> Vec<Output> {
        let frame = self.channel.seal(text).unwrap();
        engine.receive(self.connection, &frame)
    }
}

fn closed(outputs: &[Output]) -> &SessionError {
    match outputs {
        [Output::Close { error, .. }] => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_request_out_of_order_ends_the_session() {
    let requests = || {
        [
            Request::Introduce { key: [1; 32], signature: [2; 64] },
            Request::Attest { nonce: [1; 32], policy: [2; 32] },
            Request::Draw { signed: trial::signed(trial::specification()).encode() },
        ]
    };
    let mut engine = Engine::new(Software).unwrap();
    let mut connection = 0;
    let mut at = |engine: &mut Engine<Software>, state: u8, request: usize| {
        connection += 1;
        let mut rude = Rude::open(engine, connection);
        if state > 0 {
            rude = rude.introduce(engine, 0);
        }
        if state > 1 {
            rude = rude.attest(engine);
        }
        let outputs = rude.say(engine, &requests()[request]);
        let error = closed(&outputs).clone();
        assert!(rude.say(engine, &requests()[1]).is_empty(), "nobody is there any more");
        error
    };
    for (state, request) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0)] {
        let error = at(&mut engine, state, request);
        assert!(matches!(error, SessionError::Order { .. }), "{state} {request}: {error}");
    }
    assert_eq!(at(&mut engine, 0, 0), SessionError::Identity);
    assert!(engine.sessions.is_empty());
}

#[test]
fn a_name_from_another_handshake_is_refused() {
    let mut engine = Engine::new(Software).unwrap();
    let first = Rude::open(&mut engine, 1);
    let mut second = Rude::open(&mut engine, 2);
    // Who forwards a name that it got on a channel of its own.
    let signature = PartyKey::sign(&key(0), &introduction(first.channel.hash())).unwrap();
    let outputs = second.say(&mut engine, &Request::Introduce { key: key(0).public(), signature });
    assert_eq!(*closed(&outputs), SessionError::Identity);
}

#[test]
fn text_that_is_no_request_ends_the_session() {
    let mut engine = Engine::new(Software).unwrap();
    let mut rude = Rude::open(&mut engine, 1).introduce(&mut engine, 0);
    let outputs = rude.text(&mut engine, &[]);
    assert_eq!(*closed(&outputs), SessionError::Malformed(crate::module::DecodeError::Short { missing: 1 }));
    let mut rude = Rude::open(&mut engine, 2).introduce(&mut engine, 0);
    let outputs = rude.text(&mut engine, &[2; 66]);
    let trailing = crate::module::DecodeError::Trailing { count: 1 };
    assert_eq!(*closed(&outputs), SessionError::Malformed(trailing));
}

#[test]
fn connections_that_are_unknown_or_closed_lead_to_nothing() {
    let mut engine = Engine::new(Software).unwrap();
    assert!(engine.receive(7, b"anything").is_empty());
    let mut rude = Rude::open(&mut engine, 7).introduce(&mut engine, 0);
    engine.close(7);
    engine.close(7);
    assert!(rude.text(&mut engine, &[2; 65]).is_empty());
}

#[test]
fn one_more_channel_of_a_party_ends_its_oldest() {
    let mut engine = Engine::new(Software).unwrap();
    let mut first = Rude::open(&mut engine, 5).introduce(&mut engine, 0).attest(&mut engine);
    let mut other = Rude::open(&mut engine, 6).introduce(&mut engine, 1).attest(&mut engine);
    let wanted = Specification { boot: engine.boot, ..trial::specification() };
    let draw = Request::Draw { signed: trial::signed(wanted).encode() };
    assert!(first.say(&mut engine, &draw).is_empty());
    let mut second = Rude::open(&mut engine, 7).introduce(&mut engine, 0).attest(&mut engine);
    let mut third = Rude::open(&mut engine, 8);
    let signature = PartyKey::sign(&key(0), &introduction(third.channel.hash())).unwrap();
    // Whoever only claims a name moves nobody.
    let mut liar = Rude::open(&mut engine, 9);
    let outputs = liar.say(&mut engine, &Request::Introduce { key: key(0).public(), signature });
    assert_eq!(*closed(&outputs), SessionError::Identity);
    let outputs = third.say(&mut engine, &Request::Introduce { key: key(0).public(), signature });
    assert_eq!(outputs, [Output::Close { connection: 5, error: SessionError::Displaced }]);
    // Its request went with it, and the other party's channel stayed.
    assert!(other.say(&mut engine, &draw).is_empty());
    assert_eq!((second.say(&mut engine, &draw).len(), engine.receipts), (2, 1));
}

#[test]
fn boots_share_no_key() {
    let [one, other] = [0, 1].map(|_| Engine::new(Software).unwrap());
    assert_ne!(one.boot, other.boot);
    assert_ne!(one.channel_key.as_bytes(), other.channel_key.as_bytes());
    assert_ne!(one.receipt_key.to_bytes(), other.receipt_key.to_bytes());
    assert_eq!(format!("{one:?}"), "Engine(0 sessions, 0 batches)");
}

#[test]
fn halves_differ_from_draw_to_draw_but_not_in_size() {
    let mut engine = Engine::new(Software).unwrap();
    let wanted = trial::specification();
    let halves: Vec<[Half; 2]> = (0..50).map(|_| engine.halves(&wanted).unwrap()).collect();
    for [zero, one] in &halves {
        assert_eq!((zero.share.len(), one.share.len()), (SEED_BYTES, 8 * 12));
    }
    for (index, [zero, one]) in halves.iter().enumerate() {
        for [other_zero, other_one] in &halves[index + 1..] {
            assert_ne!(zero.share, other_zero.share);
            assert_ne!(one.share, other_one.share);
            assert_ne!(zero.salt, other_zero.salt);
        }
        assert_ne!(zero.salt, one.salt);
    }
}

#[test]
fn classes_of_one_batch_have_noise_of_their_own() {
    let wanted = Specification { classes: 64, draws: 2, ..trial::specification() };
    let values = draw(&wanted, &mut Source(Prg::new(&Seed::from_bytes([1; 16]))));
    assert_eq!(values.len(), 128);
    assert!(values[..64].iter().any(|value| *value != values[0]));
    assert_ne!(values[..64], values[64..]);
    assert!(values.iter().all(|value| value.cast_signed().unsigned_abs() < 1 << 18));
}

proptest! {
    #![proptest_config(trial::dialogues())]
    #[test]
    fn any_frame_in_any_state_leads_to_an_answer_or_an_end(
        state in 0u8..6,
        tag in 0u8..5,
        mut text: Vec<u8>,
        raw: bool,
        pad in 0usize..400,
    ) {
        let mut engine = Engine::new(Software).unwrap();
        if state < 2 {
            // Raw bytes instead of the handshake.
            engine.open(1).unwrap();
            if state == 1 {
                engine.receive(1, &Handshake::party().unwrap().write().unwrap());
            }
            text.resize([32, 64][usize::from(state)], 3);
            let outputs = engine.receive(1, &text);
            let refused = matches!(outputs[..], [Output::Close { error: SessionError::Channel(_), .. }]);
            let answered = state == 0 && matches!(outputs[..], [Output::Send { .. }]);
            prop_assert!(refused || answered);
            return Ok(());
        }
        let mut rude = Rude::open(&mut engine, 1);
        if state > 2 {
            rude = rude.introduce(&mut engine, 0);
        }
        if state > 3 {
            rude = rude.attest(&mut engine);
        }
        if state > 4 {
            let wanted = Specification { boot: engine.boot, ..trial::specification() };
            let signed = trial::signed(wanted).encode();
            let outputs = rude.say(&mut engine, &Request::Draw { signed });
            prop_assert!(outputs.is_empty());
        }
        if let Some(first) = text.first_mut() {
            *first = tag;
        }
        text.resize(text.len() + pad, 0);
        let outputs = if raw { engine.receive(1, &text) } else { rude.text(&mut engine, &text) };
        for output in outputs {
            match output {
                Output::Close { error, .. } => {
                    prop_assert!(!raw || error == SessionError::Channel(ChannelError::Frame));
                }
                Output::Send { frame, .. } => {
                    prop_assert!(!raw);
                    prop_assert!(Reply::decode(&rude.channel.open(&frame)?).is_ok());
                }
                Output::Unattested { .. } => prop_assert!(false, "software evidence never fails"),
            }
        }
        prop_assert_eq!(engine.receipts, 0);
    }

    #[test]
    fn any_specification_that_is_read_is_drawn_for(
        mechanism in 0usize..3,
        classes in 1u16..100,
        draws in 1u32..80,
        terms in (1u64..2_000, 1u64..40),
    ) {
        let mut wanted = Specification { classes, draws, ..trial::specification() };
        let ratio = consilium_protocol::privacy::Ratio::new(terms.0, terms.1);
        wanted.mechanism = match (trial::mechanisms()[mechanism], ratio) {
            (Mechanism::Gaussian { .. }, Ok(sigma_squared)) => Mechanism::Gaussian { sigma_squared },
            (other, _) => other,
        };
        if let Ok(wanted) = Specification::decode(&wanted.encode()) {
            let values = draw(&wanted, &mut Source(Prg::new(&Seed::from_bytes([1; 16]))));
            prop_assert_eq!(values.len() as u64, wanted.values());
            prop_assert!(values.iter().all(|value| value.cast_signed().unsigned_abs() < 1 << 18));
        }
    }
}

#[test]
fn frames_for_a_closed_connection_do_not_bring_it_back() {
    let world = World::new();
    let proven = world.proven(0, 0, trial::specification().policy).unwrap();
    drop(proven);
    world.feed(0, vec![1; 100]);
    assert_eq!((world.waiting(0), world.ended(0)), (0, None));
}
