//! Whatever bytes come in, a value or a named error comes out. `CONSILIUM_FUZZ_CASES` sets how many
//! cases each property runs.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use consilium_protocol::algebra::prg::Seed;
use consilium_protocol::algebra::stream;
use consilium_protocol::graph::{
    Layer, Measure, Network, Numbers, OneClassShape, PARAMETERS_MAX, Plan, Program, ReleaseShape, Shape,
    Slope, Threshold, WIRE_VALUES_MAX, Window,
};
use consilium_protocol::misbehaviour::Misbehaviour;
use consilium_protocol::offline::dealer::{self, WeightMasks};
use consilium_protocol::party::Party;
use consilium_protocol::stock::{Demand, Gadget, Provision, StockError, Tape, WeightOpenings};
use consilium_protocol::wire::{HEADER_BYTES, Position};
use proptest::prelude::*;

fn cases() -> ProptestConfig {
    let cases = std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let size = prop_oneof![8 => 0u32..12, 1 => Just(u32::MAX), 1 => any::<u32>()];
    (size.clone(), size.clone(), size).prop_map(|(channels, height, width)| Shape { channels, height, width })
}

fn any_window() -> impl Strategy<Value = Window> {
    let size = prop_oneof![12 => 0u32..5, 1 => Just(u32::MAX), 1 => any::<u32>()];
    let padding = prop_oneof![6 => Just([0; 4]), 1 => prop::array::uniform4(size.clone())];
    (prop::array::uniform2(size.clone()), prop::array::uniform2(size), padding)
        .prop_map(|(kernel, stride, padding)| Window { kernel, stride, padding })
}

fn any_layer() -> impl Strategy<Value = Layer> {
    let outputs = prop_oneof![8 => 0u32..9, 1 => any::<u32>()];
    prop_oneof![
        outputs.clone().prop_map(|outputs| Layer::Dense { outputs }),
        (outputs, any_window()).prop_map(|(outputs, window)| Layer::Conv { outputs, window }),
        Just(Layer::Relu),
        Just(Layer::Square),
        any_window().prop_map(|window| Layer::MaxPool { window }),
        any_window().prop_map(|window| Layer::AveragePool { window }),
        (0u32..9, prop_oneof![6 => 0u32..9, 1 => any::<u32>()])
            .prop_map(|(rise, run)| Layer::LeakyRelu { slope: Slope { rise, run } }),
        Just(Layer::HardTanh),
        prop_oneof![6 => 0u32..4, 1 => any::<u32>()].prop_map(|block| Layer::PixelShuffle { block }),
    ]
}

fn any_numbers() -> impl Strategy<Value = Numbers> {
    let bits = prop_oneof![8 => 0u32..30, 1 => any::<u32>()];
    (bits.clone(), bits).prop_map(|(fraction_bits, value_bits)| Numbers { fraction_bits, value_bits })
}

/// A network that came from outside keeps its limits, whatever it is used for next.
fn use_network(network: &Network, numbers: Numbers, batch: usize) {
    let layers = network.layers();
    let mut parameters = 0usize;
    for (index, layer) in layers.iter().enumerate() {
        let (before, after) = (network.shape_before(index), network.shape_before(index + 1));
        assert!(
            (1..=WIRE_VALUES_MAX).contains(&before.len()) && (1..=WIRE_VALUES_MAX).contains(&after.len())
        );
        assert_eq!(layer.output(before), Some(after));
        let (weight, bias) = layer.parameters(before);
        parameters += weight + bias;
    }
    assert!(parameters <= PARAMETERS_MAX);
    let mut bytes = Vec::new();
    ciborium::into_writer(network, &mut bytes).unwrap();
    assert_eq!(&ciborium::from_reader::<Network, _>(&bytes[..]).unwrap(), network);
    assert!(!network.summary().is_empty());
    let gadget = if batch.is_multiple_of(2) { Gadget::Digits } else { Gadget::Keys };
    if let Ok(program) = Program::compile(network, numbers, batch, gadget) {
        assert_eq!(program.vote().unwrap().classes, network.output().len());
        assert!(!program.demands(0).is_empty() && !program.openings().is_empty());
    }
    let noise_magnitude_max = u64::from(numbers.value_bits);
    let votes = u64::from(numbers.fraction_bits);
    let threshold = batch.is_multiple_of(3).then_some(Threshold { votes, noise_magnitude_max });
    let release = ReleaseShape { noise_magnitude_max, threshold };
    let classes = network.output().len();
    let networks = std::slice::from_ref(network);
    if let Ok(plan) = Plan::compile(networks, network.input(), classes, numbers, batch, gadget, release) {
        assert_eq!(plan.cost().rounds as usize, plan.openings().len());
    }
}

/// A measure that came from outside makes a plan that states its cost, or is refused.
fn use_measure(measure: &Measure, numbers: Numbers, batch: usize) {
    let mut bytes = Vec::new();
    ciborium::into_writer(measure, &mut bytes).unwrap();
    let read = ciborium::from_reader::<Measure, _>(&bytes[..]);
    assert_eq!(read.ok().as_ref(), measure.check().is_ok().then_some(measure), "what is refused is not read");
    assert!(!measure.summary().is_empty());
    let gadget = if batch.is_multiple_of(2) { Gadget::Digits } else { Gadget::Keys };
    let shape = OneClassShape { input: measure.input(), numbers, distance_bits: numbers.value_bits / 2 };
    let release = ReleaseShape { noise_magnitude_max: u64::from(numbers.fraction_bits % 3), threshold: None };
    if let Ok(plan) = Plan::one_class(&[measure.clone(), measure.clone()], shape, batch, gadget, release) {
        assert_eq!(plan.cost().rounds as usize, plan.openings().len());
        assert_eq!(plan.lanes().len(), 4);
        assert!(measure.check().is_ok());
    }
}

#[derive(Default)]
struct Zeros(Vec<u64>);

impl WeightMasks for Zeros {
    fn mask(&self, _: usize, _: usize) -> &[u64] {
        &self.0
    }
}

impl WeightOpenings for Zeros {
    fn opening(&self, _: usize, _: usize) -> Option<&[u64]> {
        Some(&self.0)
    }
}

fn lanes(value_bits: u32, gadget: Gadget) -> (Vec<Vec<Demand>>, Zeros) {
    let layers = vec![Layer::Dense { outputs: 3 }, Layer::Relu];
    let network = Network::new(Shape::vector(5), layers).unwrap();
    let numbers = Numbers { fraction_bits: 8, value_bits };
    let release = ReleaseShape { noise_magnitude_max: 3, threshold: None };
    let plan = Plan::compile(&[network], Shape::vector(5), 3, numbers, 2, gadget, release).unwrap();
    (plan.lanes(), Zeros(vec![0; 15]))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn frames(bytes: Vec<u8>, session: u64, round: u32, step: u32, length in 0usize..100) {
        let here = Position { session, round, step };
        if let Ok(payload) = here.payload(&bytes, length) {
            prop_assert_eq!(&here.frame(payload), &bytes);
        }
    }

    #[test]
    fn damaged_frames(payload: Vec<u8>, session: u64, round: u32, step: u32, at: prop::sample::Index, flip in 1u8..) {
        let here = Position { session, round, step };
        let mut frame = here.frame(&payload);
        let at = at.index(frame.len());
        frame[at] ^= flip;
        let found = here.payload(&frame, payload.len());
        if at < HEADER_BYTES {
            prop_assert!(found.is_err(), "byte {} of the header", at);
        } else {
            prop_assert_eq!(found.map(<[u8]>::len), Ok(payload.len()));
        }
        frame.truncate(at);
        let expected = if at < HEADER_BYTES {
            Misbehaviour::FrameTruncated(at)
        } else {
            Misbehaviour::PayloadLength { round, expected: payload.len(), found: at - HEADER_BYTES }
        };
        frame.iter_mut().take(HEADER_BYTES).zip(here.frame(&[])).for_each(|(byte, right)| *byte = right);
        prop_assert_eq!(here.payload(&frame, payload.len()), Err(expected));
    }

    #[test]
    fn packed_values(bytes: Vec<u8>, count in 0usize..300, width in 1u32..=64) {
        let values = stream::unpack(&bytes, count, width);
        prop_assert_eq!(values.len(), count);
        prop_assert!(values.iter().all(|value| value >> (width - 1) <= 1));
        if bytes.len() * 8 == count * width as usize {
            prop_assert_eq!(stream::pack(&values, width), bytes);
        }
    }

    #[test]
    fn networks_from_layers(
        input in any_shape(),
        layers in prop::collection::vec(any_layer(), 0..8),
        numbers in any_numbers(),
        batch in prop_oneof![8 => 0usize..5, 1 => any::<usize>()],
        rank in prop_oneof![6 => 0u32..9, 1 => any::<u32>()],
    ) {
        use_measure(&Measure::Projection { input, rank }, numbers, batch);
        if let Ok(network) = Network::new(input, layers) {
            use_network(&network, numbers, batch);
            use_measure(&Measure::Reconstruction(network), numbers, batch);
        }
    }

    #[test]
    fn networks_from_bytes(bytes: Vec<u8>, numbers in any_numbers()) {
        if let Ok(network) = ciborium::from_reader::<Network, _>(&bytes[..]) {
            use_network(&network, numbers, 1);
        }
        let _ = ciborium::from_reader::<Layer, _>(&bytes[..]);
        let _ = ciborium::from_reader::<Numbers, _>(&bytes[..]);
    }

    #[test]
    fn networks_from_damaged_bytes(
        outputs in 2u32..9,
        window in any_window(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        numbers in any_numbers(),
    ) {
        let layers = [
            Layer::Conv { outputs, window: Window { padding: [1, 0, 0, 1], ..Window::plain(2, 1) } },
            Layer::Relu,
            Layer::MaxPool { window: Window::plain(2, 2) },
            Layer::AveragePool { window },
            Layer::Dense { outputs },
        ];
        // Written without the checks of a network, as a stranger would.
        let input = Shape { channels: 1, height: 9, width: 9 };
        let raw = ciborium::value::Value::Map(vec![
            ("input".into(), ciborium::value::Value::serialized(&input).unwrap()),
            ("layers".into(), ciborium::value::Value::serialized(&layers).unwrap()),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&raw, &mut bytes).unwrap();
        if let Ok(network) = ciborium::from_reader::<Network, _>(&bytes[..]) {
            use_network(&network, numbers, 1);
        }
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(network) = ciborium::from_reader::<Network, _>(&bytes[..]) {
            use_network(&network, numbers, 1);
        }
    }

    #[test]
    fn bundles_from_any_words(seed: [u8; 16], value_bits in 1u32..40, words: Vec<u64>, exact: bool, keys: bool, one: bool) {
        let (lanes, zeros) = lanes(value_bits, if keys { Gadget::Keys } else { Gadget::Digits });
        let party = if one { Party::One } else { Party::Zero };
        let needed = dealer::sent_words(&lanes, party);
        let mut words = words;
        if exact {
            words.resize(needed, u64::MAX);
        }
        let held = words.len();
        let result = Provision::lay_out(Tape::new(party, &Seed::from_bytes(seed), words), &lanes, &zeros);
        match held.cmp(&needed) {
            std::cmp::Ordering::Less => {
                prop_assert_eq!(result.err(), Some(StockError::TapeShort { held }));
            }
            std::cmp::Ordering::Equal => {
                let left: Vec<usize> = result.unwrap().iter().map(Provision::len).collect();
                prop_assert_eq!(left, lanes.iter().map(Vec::len).collect::<Vec<_>>());
            }
            std::cmp::Ordering::Greater => {
                prop_assert_eq!(result.err(), Some(StockError::TapeLong { used: needed, held }));
            }
        }
    }
}

/// A claim of billions of layers, or of bytes, costs nothing before they arrive.
#[test]
fn claimed_lengths_are_not_believed() {
    let mut bytes = b"\xa2\x65input\xa3\x68channels\x01\x66height\x01\x65width\x01\x66layers".to_vec();
    for claim in [
        &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff",
        b"\x7b\x00\x00\x00\xff\xff\xff\xff\xff",
    ] {
        let mut claimed = bytes.clone();
        claimed.extend_from_slice(claim);
        assert!(ciborium::from_reader::<Network, _>(&claimed[..]).is_err());
    }
    // Nesting without end is refused too.
    bytes.extend(vec![0x81; 1 << 20]);
    assert!(ciborium::from_reader::<Network, _>(&bytes[..]).is_err());
}
