//! A peer of the pairwise source that sends what it likes: the honest party ends with a named error or with
//! a bundle, never with a panic, never waiting, and takes no memory on the peer's word.
//!
//! `CONSILIUM_FUZZ_CASES` sets how many cases each decoder meets; whole dialogues are long and run for a
//! small part of them.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use consilium_protocol::algebra::LinearShape;
use consilium_protocol::algebra::prg::{Prg, Seed};
use consilium_protocol::context::{Dialogue, DialogueError, Link, LinkError, PIECE_BYTES};
use consilium_protocol::graph::{Layer, Network, Numbers, Plan, ReleaseShape, Shape, Threshold, Window};
use consilium_protocol::lattice::{Encrypted, Evaluation, Packing, PublicKey, Requests, SecretKey};
use consilium_protocol::misbehaviour::Misbehaviour;
use consilium_protocol::offline::dealer::sent_words;
use consilium_protocol::offline::ot::{Correlator, Extension};
use consilium_protocol::offline::pairwise::{Bundle, Pairwise, PairwiseError, WeightMaskShares};
use consilium_protocol::party::Party;
use consilium_protocol::stock::{Demand, Gadget};
use consilium_protocol::testing::{MemoryLink, run_now};
use consilium_protocol::wire::HEADER_BYTES;
use proptest::prelude::*;
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

/// A dialogue of a second or two; whoever needs this long hangs.
const WITHIN: Duration = Duration::from_secs(240);
const BUNDLES: usize = 3;

fn asked() -> u32 {
    std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Bytes from nowhere: a length near the right one or far from it, or right bytes with some of them changed.
#[derive(Clone, Debug)]
enum Forged {
    Short(Vec<u8>),
    Random(i32, [u8; 16]),
    Changed(Vec<(prop::sample::Index, u8)>),
    Cut(prop::sample::Index),
    Filled(prop::sample::Index, u16, u8),
}

fn forged() -> impl Strategy<Value = Forged> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => any::<Vec<u8>>().prop_map(Forged::Short),
        1 => (prop_oneof![Just(0), -9..9], any::<[u8; 16]>()).prop_map(|(off, seed)| Forged::Random(off, seed)),
        1 => prop::collection::vec((at(), any::<u8>()), 1..9).prop_map(Forged::Changed),
        1 => at().prop_map(Forged::Cut),
        1 => (at(), any::<u16>(), any::<u8>()).prop_map(|(at, count, with)| Forged::Filled(at, count, with)),
    ]
}

impl Forged {
    fn of(&self, right: &[u8]) -> Vec<u8> {
        let mut bytes = right.to_vec();
        match self {
            Self::Short(short) => bytes.clone_from(short),
            Self::Random(off, seed) => {
                bytes.resize(right.len().saturating_add_signed(*off as isize), 0);
                Prg::new(&Seed::from_bytes(*seed)).fill_bytes(&mut bytes);
            }
            Self::Changed(changes) => {
                changes.iter().for_each(|(at, with)| bytes[at.index(right.len())] ^= with);
            }
            Self::Cut(at) => bytes.truncate(at.index(right.len())),
            Self::Filled(at, count, with) => {
                bytes
                    .iter_mut()
                    .skip(at.index(right.len()))
                    .take((*count).into())
                    .for_each(|byte| *byte = *with);
            }
        }
        bytes
    }
}

/// A small product in work: keys, and one right message of each kind.
struct Product {
    packing: Packing,
    key: SecretKey,
    request: Vec<u8>,
    reply: Vec<u8>,
}

static PRODUCT: LazyLock<Product> = LazyLock::new(|| {
    let shape = LinearShape::Dense { outputs: 3, inputs: 5, batch: 2 };
    let packing = Packing::choose(&shape, Encrypted::Operand).unwrap();
    let key = SecretKey::generate(&Seed::from_bytes([1; 16]));
    let mut prg = Prg::new(&Seed::from_bytes([2; 16]));
    let (operand, weights) = (prg.words(packing.encrypted_len()), prg.words(packing.plain_len()));
    let request = key.request(&packing, &operand, 0, &mut prg);
    let mut requests = Requests::new(&packing);
    requests.absorb(0, &request).unwrap();
    let public = PublicKey::decode(key.public_key()).unwrap();
    let mut share = vec![0; packing.output_len()];
    let reply = Evaluation::new(&packing, &weights).reply(0, &requests, &public, &mut prg, &mut share);
    Product { packing, key, request, reply }
});

/// A peer that answers with the same frame and other payload, so that its place in the protocol is right.
struct Parrot<F> {
    payload: F,
    frame: usize,
}

impl<F: FnMut(usize, &mut Vec<u8>) + Send> Link for Parrot<F> {
    async fn exchange(&mut self, mut frame: Vec<u8>, most: usize) -> Result<Vec<u8>, LinkError> {
        let mut payload = frame.split_off(HEADER_BYTES);
        (self.payload)(self.frame, &mut payload);
        self.frame += 1;
        frame.extend(payload);
        bounded(frame, most)
    }
}

/// What a channel does to a frame longer than was asked for. No more than a piece is ever asked for.
fn bounded(frame: Vec<u8>, most: usize) -> Result<Vec<u8>, LinkError> {
    assert!(most <= HEADER_BYTES + PIECE_BYTES, "{most} bytes are awaited at once");
    if frame.len() > most { Err(LinkError::Transport("a long frame".into())) } else { Ok(frame) }
}

proptest! {
    #![proptest_config(cases(asked()))]

    #[test]
    fn lattice_keys(forged in forged()) {
        let right = PRODUCT.key.public_key();
        let bytes = forged.of(right);
        match PublicKey::decode(&bytes) {
            Ok(_) => prop_assert_eq!(bytes.len(), PublicKey::bytes()),
            Err(Misbehaviour::LatticeLength { expected, found, .. }) => {
                prop_assert!(expected == right.len() && found == bytes.len() && found != expected);
            }
            Err(error) => prop_assert!(matches!(error, Misbehaviour::LatticeCoefficient { .. }), "{}", error),
        }
    }

    #[test]
    fn lattice_requests(forged in forged()) {
        let bytes = forged.of(&PRODUCT.request);
        match Requests::new(&PRODUCT.packing).absorb(0, &bytes) {
            Ok(()) => prop_assert_eq!(bytes.len(), Packing::request_bytes()),
            Err(Misbehaviour::LatticeLength { found, .. }) => prop_assert_eq!(found, bytes.len()),
            Err(error) => prop_assert!(matches!(error, Misbehaviour::LatticeCoefficient { .. }), "{}", error),
        }
    }

    #[test]
    fn lattice_replies(forged in forged()) {
        let bytes = forged.of(&PRODUCT.reply);
        let before = vec![7; PRODUCT.packing.output_len()];
        let mut share = before.clone();
        match PRODUCT.key.open(&PRODUCT.packing, 0, &bytes, &mut share) {
            Ok(()) => prop_assert_eq!(bytes.len(), PRODUCT.packing.reply_bytes(0)),
            Err(error) => {
                prop_assert_eq!(share, before, "{} changed the share", error);
                let lattice = matches!(
                    error,
                    Misbehaviour::LatticeLength { .. } | Misbehaviour::LatticeCoefficient { .. }
                );
                prop_assert!(lattice, "{}", error);
            }
        }
    }

    #[test]
    fn offers_of_base_transfers(forged in forged(), seed: [u8; 16]) {
        let payload = |frame, payload: &mut Vec<u8>| match frame {
            0 => *payload = forged.of(payload),
            _ => payload.clear(),
        };
        let mut dialogue = Dialogue::new(Parrot { payload, frame: 0 }, Party::Zero, 3);
        let seed = Seed::from_bytes(seed);
        let ended = run_now(Correlator::setup(&mut dialogue, Extension::Iknp, &seed));
        prop_assert!(ended.is_err(), "the peer has no second message");
    }
}

proptest! {
    #![proptest_config(cases((asked() / 50).max(8)))]

    #[test]
    fn choices_of_base_transfers(forged in forged(), seed: [u8; 16]) {
        let payload = |frame, payload: &mut Vec<u8>| match frame {
            0 => {}
            1 => *payload = forged.of(payload),
            _ => payload.clear(),
        };
        let mut dialogue = Dialogue::new(Parrot { payload, frame: 0 }, Party::One, 3);
        let seed = Seed::from_bytes(seed);
        let ended = run_now(Correlator::setup(&mut dialogue, Extension::Iknp, &seed));
        prop_assert!(ended.is_err(), "the peer has no third message");
    }
}

/// What the way does to frames.
#[derive(Clone, Debug)]
enum Tampering {
    /// Bits of the frame, header and all.
    Flip(Vec<(prop::sample::Index, u8)>),
    /// Another payload of the right length behind the right header.
    Garbage([u8; 16]),
    /// The payload of one value, such as all ones, which no lattice residue is.
    Fill(u8),
    Cut(prop::sample::Index),
    Longer(u16),
    /// The frame before, again.
    Again,
    /// The next frame first.
    Swapped,
    Close,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        prop::collection::vec((at(), 1u8..), 1..4).prop_map(Tampering::Flip),
        any::<[u8; 16]>().prop_map(Tampering::Garbage),
        prop_oneof![Just(0u8), Just(0xff), any::<u8>()].prop_map(Tampering::Fill),
        at().prop_map(Tampering::Cut),
        (1u16..).prop_map(Tampering::Longer),
        Just(Tampering::Again),
        Just(Tampering::Swapped),
        Just(Tampering::Close),
    ]
}

/// One party's end of a link whose way back is in other hands.
struct Way {
    link: MemoryLink,
    tampering: Option<Tampering>,
    /// The frame that is touched, and the number of this one.
    at: usize,
    number: usize,
    before: Vec<u8>,
}

impl Way {
    fn touched(&mut self, frame: Vec<u8>) -> Result<Vec<u8>, LinkError> {
        let Some(tampering) = &self.tampering else { return Ok(frame) };
        let mut touched = frame.clone();
        if let (Tampering::Swapped, true) = (tampering, self.number == self.at + 1) {
            return Ok(std::mem::take(&mut self.before));
        }
        if self.number != self.at {
            self.before = frame;
            return Ok(touched);
        }
        match tampering {
            Tampering::Flip(flips) => flips.iter().for_each(|(at, bits)| {
                let length = touched.len();
                touched[at.index(length)] ^= bits;
            }),
            Tampering::Garbage(seed) => {
                Prg::new(&Seed::from_bytes(*seed)).fill_bytes(&mut touched[HEADER_BYTES..]);
            }
            Tampering::Fill(with) => touched[HEADER_BYTES..].fill(*with),
            Tampering::Cut(at) => touched.truncate(at.index(frame.len())),
            Tampering::Longer(by) => touched.resize(frame.len() + usize::from(*by), 0xa5),
            Tampering::Again => touched.clone_from(&self.before),
            // What would be next is not made before this one is answered: the old one stands for it.
            Tampering::Swapped => touched = std::mem::replace(&mut self.before, frame),
            Tampering::Close => return Err(LinkError::Closed),
        }
        Ok(touched)
    }
}

impl Link for Way {
    async fn exchange(&mut self, frame: Vec<u8>, most: usize) -> Result<Vec<u8>, LinkError> {
        let reply = self.link.exchange(frame, most).await?;
        let touched = self.touched(reply)?;
        self.number += 1;
        bounded(touched, most)
    }
}

/// A plan with every kind of demand: weights that are encrypted, operands that are, bits, squares.
static LANES: LazyLock<Vec<Vec<Demand>>> = LazyLock::new(|| {
    let input = Shape { channels: 1, height: 4, width: 4 };
    let convolution = Layer::Conv { outputs: 2, window: Window::plain(2, 1) };
    let dense = |outputs| Layer::Dense { outputs };
    let networks = [
        vec![convolution, Layer::Relu, dense(4), Layer::Square, dense(3)],
        vec![dense(5), Layer::Relu, dense(3)],
        vec![dense(4), Layer::Relu, dense(3)],
    ];
    let networks = networks.map(|layers| Network::new(input, layers).unwrap());
    let numbers = Numbers { fraction_bits: 8, value_bits: 9 };
    let threshold = Some(Threshold { votes: 2, noise_magnitude_max: 3 });
    let release = ReleaseShape { noise_magnitude_max: 3, threshold };
    Plan::compile(&networks, input, 3, numbers, 1, Gadget::Nibbles, release).unwrap().lanes()
});

/// Shares of any weight masks: garbage is as good as any here.
struct Masks(Vec<Vec<Vec<u64>>>);

static MASKS: LazyLock<Masks> = LazyLock::new(|| {
    let mut masks: Vec<Vec<Vec<u64>>> = Vec::new();
    let mut prg = Prg::new(&Seed::from_bytes([4; 16]));
    for demand in LANES.iter().flatten() {
        if let Demand::Linear { model, layer, shape, .. } = demand {
            masks.resize(masks.len().max(model + 1), Vec::new());
            let layers = &mut masks[*model];
            layers.resize(layers.len().max(layer + 1), Vec::new());
            layers[*layer] = prg.words(shape.weight_len());
        }
    }
    Masks(masks)
});

impl WeightMaskShares for Masks {
    fn share(&self, model: usize, layer: usize) -> Option<&[u64]> {
        Some(self.0.get(model)?.get(layer)?.as_slice())
    }
}

type Made = Result<Vec<Bundle>, PairwiseError>;

/// Two makings, the second with the keys of the first. Also how many frames were exchanged.
fn party(party: Party, link: impl Link, extension: Extension) -> (Made, usize) {
    let mut dialogue = Dialogue::new(link, party, 9);
    let made = run_now(async {
        let mut pairwise = Pairwise::set_up(&mut dialogue, extension).await?;
        let mut made = pairwise.make(&mut dialogue, &LANES, &*MASKS, BUNDLES).await?;
        made.extend(pairwise.make(&mut dialogue, &LANES, &*MASKS, 1).await?);
        Ok(made)
    });
    (made, dialogue.traffic().rounds as usize)
}

/// What both parties end with, the one in whose way the tampering is first.
fn both(victim: Party, tampering: Option<Tampering>, at: usize, extension: Extension) -> [(Made, usize); 2] {
    let [own, others] = MemoryLink::pair();
    let way = Way { link: own, tampering, at, number: 0, before: Vec::new() };
    let (ended, ends) = mpsc::channel();
    let told = ended.clone();
    std::thread::spawn(move || told.send((0, party(victim, way, extension))));
    std::thread::spawn(move || ended.send((1, party(victim.other(), others, extension))));
    let mut outcomes = [None, None];
    for _ in 0..2 {
        match ends.recv_timeout(WITHIN) {
            Ok((who, outcome)) => outcomes[who] = Some(outcome),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("a party waits for ever"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    outcomes.map(|outcome| outcome.expect("a party panicked"))
}

/// Frames of a dialogue that nobody touches.
fn frames(extension: Extension) -> usize {
    static FRAMES: LazyLock<[usize; 2]> = LazyLock::new(|| {
        [Extension::Iknp, Extension::Silent].map(|extension| {
            let [(zero, frames), (one, _)] = both(Party::Zero, None, 0, extension);
            for made in [zero, one] {
                let made = made.unwrap();
                assert_eq!(made.len(), BUNDLES + 1);
                assert!(made.iter().all(|bundle| bundle.dependent.len() == sent_words(&LANES, Party::One)));
            }
            frames
        })
    });
    FRAMES[usize::from(extension == Extension::Silent)]
}

fn withstood(
    victim: Party,
    tampering: &Tampering,
    at: prop::sample::Index,
    extension: Extension,
) -> Result<(), TestCaseError> {
    let at = at.index(frames(extension));
    let [(victims, _), (others, _)] = both(victim, Some(tampering.clone()), at, extension);
    for made in [&victims, &others] {
        match made {
            Ok(made) => prop_assert_eq!(made.len(), BUNDLES + 1),
            Err(error) => prop_assert!(matches!(error, PairwiseError::Dialogue(_)), "{}", error),
        }
    }
    // Where no honest frame looks like it, the victim must notice, and say what it was.
    let noticed = match victims {
        Ok(_) => None,
        Err(PairwiseError::Dialogue(error)) => Some(error),
        Err(other) => return Err(TestCaseError::fail(other.to_string())),
    };
    let short = |error| matches!(error, Misbehaviour::FrameTruncated(_) | Misbehaviour::PayloadLength { .. });
    let right = match (tampering, noticed) {
        (Tampering::Cut(_), Some(DialogueError::Peer(error))) => short(error),
        (Tampering::Longer(_), Some(DialogueError::Link(LinkError::Transport(_)))) => true,
        (Tampering::Close, Some(DialogueError::Link(LinkError::Closed))) => true,
        (Tampering::Again | Tampering::Swapped, Some(_)) => true,
        (Tampering::Flip(_) | Tampering::Garbage(_) | Tampering::Fill(_), _) => true,
        _ => false,
    };
    prop_assert!(right, "frame {} went unnoticed, or under another name", at);
    Ok(())
}

fn any_party() -> impl Strategy<Value = Party> {
    prop_oneof![Just(Party::Zero), Just(Party::One)]
}

proptest! {
    #![proptest_config(cases((asked() / 1000).max(24)))]

    #[test]
    fn dialogues_by_columns(victim in any_party(), tampering in tampering(), at: prop::sample::Index) {
        withstood(victim, &tampering, at, Extension::Iknp)?;
    }
}

proptest! {
    #![proptest_config(cases((asked() / 10_000).max(8)))]

    #[test]
    fn silent_dialogues(victim in any_party(), tampering in tampering(), at: prop::sample::Index) {
        withstood(victim, &tampering, at, Extension::Silent)?;
    }
}
