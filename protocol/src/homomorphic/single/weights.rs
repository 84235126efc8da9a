//! What the stages of a single query multiply with.

use super::super::integer::IntegerNet;
use super::super::layout::{Layout, Stage, Step, first_convolution};
use super::super::linear::SparseMap;
use super::super::plan::Plan;
use super::super::ring::{SINGLE, Secret, Slots, each};
use crate::graph::for_each_tap;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// What a stage multiplies with, and what it adds.
pub(super) struct Weights {
    /// For convolutions, the small integers of each channel, one for each ciphertext of the query.
    pub(super) taps: Zeroizing<Vec<f64>>,
    /// Otherwise, plaintexts at the roots, without those that are zero: for a spread `[shift][ciphertext]`, for a gather
    /// `[output]`.
    pub(super) plaintexts: Vec<Option<Secret>>,
    /// What is added behind the map: one plaintext at the roots for each ciphertext of the result.
    pub(super) bias: Vec<Secret>,
}

impl Weights {
    pub(super) fn new(
        plan: &Plan,
        stage: &Stage,
        net: &IntegerNet,
        index: usize,
        slots: &Slots,
        factor: f64,
        layout: &Layout,
    ) -> Self {
        let (map, prime) = (&net.maps[index], slots.prime());
        let modulus = i128::from(prime.value);
        let bias = |output: usize| map.bias[output].rem_euclid(modulus) as f64;
        let encoded = |mut values: Secret, limbs: usize| {
            slots.encode(&mut values);
            Zeroizing::new(SINGLE.lifted(limbs, &values, 1))
        };
        let (mut groups, count, chunk, spread) = match &stage.step {
            Step::Taps => {
                let (taps, channels) = kernel(plan, net);
                let positions = map.outputs() / channels;
                let constant = |channel: usize| {
                    // The same number in all slots is a constant polynomial: the same number at all roots.
                    let mut rows = Zeroizing::new(SINGLE.zero(stage.limbs));
                    rows.fill(prime.centre(bias(channel * positions)));
                    rows
                };
                return Self { taps, plaintexts: Vec::new(), bias: (0..channels).map(constant).collect() };
            }
            Step::Spread { period, chunk } => {
                let groups = spread_groups(map, layout, index, *period, *chunk);
                (groups, period / chunk * ciphertexts(layout, index, map.inputs), *chunk, true)
            }
            Step::Gather { chunk } => (gather_groups(map, *chunk), map.outputs(), *chunk, false),
        };
        let mut plaintexts: Vec<Option<Secret>> = (0..count).map(|_| None).collect();
        for (place, values) in &mut groups {
            each(values, |value| prime.multiply(value, factor));
            plaintexts[*place] = Some(encoded(std::mem::take(values), stage.limbs));
        }
        let mut values = Zeroizing::new(vec![0.0; SINGLE.degree()]);
        // Behind a gather that is squared, values are repeated in all chunks.
        let chunks = if stage.squared && !spread { SINGLE.degree() / chunk } else { 1 };
        for output in 0..map.outputs() {
            for copy in 0..chunks {
                values[if spread { output * chunk } else { copy * chunk + output }] = bias(output);
            }
        }
        Self { taps: Zeroizing::default(), plaintexts, bias: vec![encoded(values, stage.limbs)] }
    }
}

/// Ciphertexts that reach a stage.
pub(super) fn ciphertexts(layout: &Layout, index: usize, inputs: usize) -> usize {
    let behind_taps = index == 1 && layout.stages[0].step == Step::Taps;
    if behind_taps { inputs / positions(layout) } else { 1 }
}

/// Values of a block behind a convolution.
fn positions(layout: &Layout) -> usize {
    layout.query.first().map_or(1, Vec::len).max(1)
}

/// The integers of a convolution at the start, `[channel][tap]`, and how many channels there are.
fn kernel(plan: &Plan, net: &IntegerNet) -> (Zeroizing<Vec<f64>>, usize) {
    let Some((layer, input, output)) = first_convolution(&plan.network) else {
        return (Zeroizing::default(), 1);
    };
    let channels = output.channels as usize;
    let mut kernel = Zeroizing::new(vec![0.0; layer.parameters(input).0]);
    let map = &net.maps[0];
    for_each_tap(&layer, input, output, |out, weight, from| {
        let range = map.starts[out]..map.starts[out + 1];
        if let Ok(at) = map.columns[range.clone()].binary_search(&(from as u32)) {
            kernel[weight] = f64::from(map.weights[range.start + at]);
        }
    });
    (kernel, channels)
}

type Map = SparseMap<i32, i128>;

/// The plaintexts of a spread: number `shift * ciphertexts + ciphertext`.
fn spread_groups(
    map: &Map,
    layout: &Layout,
    index: usize,
    period: usize,
    chunk: usize,
) -> BTreeMap<usize, Secret> {
    let count = ciphertexts(layout, index, map.inputs);
    let width = map.inputs / count;
    let (shifts, row) = (period / chunk, SINGLE.degree() / 2);
    let mut groups = BTreeMap::new();
    for output in 0..map.outputs() {
        let home = output * chunk;
        for (input, weight) in map.row(output) {
            let (ciphertext, place) = (input / width, input % width);
            // The chunk of the block that holds the value comes to the output's own by so many rotations.
            let shift = (place / chunk + shifts - home / chunk % shifts) % shifts;
            let start = home / row * row;
            let slot = start + (home - start + shift * chunk) % row + place % chunk;
            let values: &mut Secret = groups
                .entry(shift * count + ciphertext)
                .or_insert_with(|| Zeroizing::new(vec![0.0; SINGLE.degree()]));
            values[slot] += f64::from(weight);
        }
    }
    groups
}

/// The plaintexts of a gather: one for each output.
fn gather_groups(map: &Map, chunk: usize) -> BTreeMap<usize, Secret> {
    let mut groups = BTreeMap::new();
    for output in 0..map.outputs() {
        let mut values: Secret = Zeroizing::new(vec![0.0; SINGLE.degree()]);
        for (input, weight) in map.row(output) {
            values[input * chunk] = f64::from(weight);
        }
        groups.insert(output, values);
    }
    groups
}
