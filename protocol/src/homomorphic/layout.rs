//! Where the numbers of a single query stand in slots, and which rotations bring them together.
//!
//! Slots are two rows of half the degree. Two arrangements take turns:
//!
//! - *repeated*: a few ciphertexts with blocks of `period` slots that all hold the same values;
//! - *spread*: one ciphertext with a value in the first slot of each chunk, and anything in the others.
//!
//! A convolution at the start gets one ciphertext for each weight of a kernel, with the pixel that this weight meets at
//! each position, repeated; so it is sums of ciphertexts times small integers, and the result, one ciphertext for each
//! channel, is repeated. A map from repeated to spread multiplies every chunk with the weights of its own output and adds
//! up what is in a chunk; where a chunk is smaller than a block, other chunks of the block are rotated to it first. A map
//! from spread to repeated multiplies with the weights of each output in turn, rotates output `k` to slot `k` of every
//! chunk, and adds up the chunks. The sums at the very end are left to the client: its slots then are uniform but for
//! their sum, and no rotation is needed.
//!
//! Products come first and rotations after them. A rotation adds noise that all plaintext primes have multiplied, so that
//! one key serves them all; it is small beside the noise of a product and would be large before one. So there is nothing
//! to hoist, and sums are taken in pairs, which needs a key for each power of two only.

use super::key::{KeyShape, Origin};
use super::plan::PlanError;
use crate::graph::{Layer, Network, Shape, for_each_tap};
use std::collections::BTreeMap;

/// Most ciphertexts of a single query.
pub const CIPHERTEXTS_MAX: usize = 1024;
/// Most plaintexts of a linear map.
const PLAINTEXTS_MAX: usize = 1024;
/// Primes of the modulus under which an answer is made.
pub(super) const ANSWER_LIMBS: usize = 3;

/// What one linear map does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A convolution at the start.
    Taps,
    /// From repeated to spread.
    Spread {
        /// Slots of a block.
        period: usize,
        /// Slots of a chunk.
        chunk: usize,
    },
    /// From spread to repeated.
    Gather {
        /// Slots of a chunk.
        chunk: usize,
    },
}

/// A linear map in its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stage {
    pub(super) step: Step,
    /// Primes of the modulus that the map is computed under.
    pub(super) limbs: usize,
    /// Whether a square follows.
    pub(super) squared: bool,
    pub(super) outputs: usize,
}

/// The layout of a network.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) degree: usize,
    pub(super) stages: Vec<Stage>,
    /// For each ciphertext of a query, the input that stands in each slot of a block, if any.
    pub(super) query: Vec<Vec<Option<u32>>>,
    /// Slots of a block of the query.
    pub(super) period: usize,
}

impl Layout {
    /// For a network of linear layers and squares.
    ///
    /// # Errors
    /// [`PlanError`] where something does not fit.
    pub(super) fn new(network: &Network, degree: usize) -> Result<Self, PlanError> {
        super::linear::check(network)?;
        let groups = groups(network);
        let row = degree / 2;
        let (query, channels, positions) = query(network, row)?;
        let mut period = positions.next_power_of_two();
        let query_period = period;
        let mut ciphertexts = channels.unwrap_or(1);
        let mut stages = Vec::new();
        let mut chunk = None;
        for (index, group) in groups.iter().enumerate() {
            let last = index + 1 == groups.len();
            let step = match chunk {
                None if index == 0 && channels.is_some() => Step::Taps,
                None => {
                    let size = (degree / group.outputs.next_power_of_two()).min(period);
                    if size == 0 {
                        return Err(PlanError::Wide { what: "a layer", found: group.outputs });
                    }
                    chunk = Some(size);
                    plaintexts(period / size * ciphertexts)?;
                    Step::Spread { period, chunk: size }
                }
                Some(size) => {
                    if group.outputs > size {
                        return Err(PlanError::Wide {
                            what: "the layer behind another",
                            found: group.outputs,
                        });
                    }
                    plaintexts(group.outputs)?;
                    (chunk, period, ciphertexts) = (None, size, 1);
                    Step::Gather { chunk: size }
                }
            };
            stages.push(Stage { step, limbs: 0, squared: !last, outputs: group.outputs });
        }
        let mut limbs = ANSWER_LIMBS;
        for stage in stages.iter_mut().rev() {
            if stage.squared {
                limbs += 1 + usize::from(stage.step != Step::Taps);
            }
            stage.limbs = limbs;
        }
        Ok(Self { degree, stages, query, period: query_period })
    }

    /// Primes of the modulus that a query is encrypted under.
    pub(super) fn limbs(&self) -> usize {
        self.stages.first().map_or(ANSWER_LIMBS, |stage| stage.limbs)
    }

    /// The keys that the stages need, each for as many primes as its largest use.
    pub(super) fn keys(&self) -> Vec<KeyShape> {
        let mut keys: BTreeMap<Origin, usize> = BTreeMap::new();
        for stage in &self.stages {
            let rotations = stage.rotations(self.degree);
            let square = stage.squared.then_some((Origin::Power(2), stage.square_limbs()));
            for (origin, limbs) in rotations.into_iter().map(|origin| (origin, stage.limbs)).chain(square) {
                let most = keys.entry(origin).or_insert(limbs);
                *most = limbs.max(*most);
            }
        }
        keys.into_iter().map(|(origin, limbs)| KeyShape { origin, limbs }).collect()
    }

    /// For each logit, the slots whose sum it is.
    pub(super) fn answer(&self) -> Vec<Vec<usize>> {
        let Some(stage) = self.stages.last() else { return Vec::new() };
        let (size, inside) = match &stage.step {
            Step::Taps => (self.period, false),
            Step::Spread { chunk, .. } => (*chunk, true),
            Step::Gather { chunk } => (*chunk, false),
        };
        let slots = |output: usize| {
            if inside {
                (output * size..(output + 1) * size).collect()
            } else {
                (output..self.degree).step_by(size).collect()
            }
        };
        (0..stage.outputs).map(slots).collect()
    }
}

impl Stage {
    /// Primes under which what follows is squared.
    pub(super) fn square_limbs(&self) -> usize {
        if self.step == Step::Taps { self.limbs } else { self.limbs - 1 }
    }

    /// What is needed to rotate.
    fn rotations(&self, degree: usize) -> Vec<Origin> {
        let mut origins = Vec::new();
        match &self.step {
            Step::Taps => {}
            Step::Spread { period, chunk } => {
                origins.extend(doublings(*chunk, *period).map(Origin::Rotated));
                if self.squared {
                    origins.extend(doublings(1, *chunk).map(Origin::Rotated));
                }
            }
            Step::Gather { chunk } => {
                origins.extend(doublings(1, self.outputs).map(|step| Origin::Rotated(-step)));
                if self.squared {
                    origins.extend(doublings(*chunk, degree / 2).map(Origin::Rotated));
                    origins.push(Origin::Swapped);
                }
            }
        }
        origins
    }
}

/// `from`, twice that, and so on below `to`.
pub(super) fn doublings(from: usize, to: usize) -> impl Iterator<Item = i32> {
    std::iter::successors(Some(from), |step| Some(2 * step))
        .take_while(move |step| *step < to)
        .map(|step| step as i32)
}

/// Layers that become one linear map.
struct Group {
    first: usize,
    layers: usize,
    outputs: usize,
}

fn groups(network: &Network) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut first = 0;
    for (index, layer) in network.layers().iter().enumerate() {
        if matches!(layer, Layer::Square) {
            groups.push(Group { first, layers: index - first, outputs: network.shape_before(index).len() });
            first = index + 1;
        }
    }
    let layers = network.layers().len() - first;
    groups.push(Group { first, layers, outputs: network.output().len() });
    groups
}

/// The first layer if it is a convolution alone, whose result stays an image in the slots.
pub(super) fn first_convolution(network: &Network) -> Option<(Layer, Shape, Shape)> {
    let group = groups(network).into_iter().next()?;
    let layer = network.layers()[group.first];
    let alone = group.layers == 1 && network.layers().len() > 1;
    let output = network.shape_before(group.first + 1);
    (alone && matches!(layer, Layer::Conv { .. })).then(|| (layer, network.input(), output))
}

type Query = (Vec<Vec<Option<u32>>>, Option<usize>, usize);

/// Refuses maps with more plaintexts than an owner can hold: 131 kB each for each prime of the modulus and each plaintext
/// prime.
fn plaintexts(count: usize) -> Result<(), PlanError> {
    if count > PLAINTEXTS_MAX {
        return Err(PlanError::Wide {
            what: "a linear map, in plaintexts for single queries,",
            found: count,
        });
    }
    Ok(())
}

/// What stands in the ciphertexts of a query, the channels behind a convolution, and the values of a block, which has at
/// most `row` of them.
fn query(network: &Network, row: usize) -> Result<Query, PlanError> {
    let wide = |what, found| Err(PlanError::Wide { what, found });
    let inputs = network.input().len();
    let Some((layer, input, output)) = first_convolution(network) else {
        if inputs > row {
            return wide("an input of a single query", inputs);
        }
        return Ok((vec![(0..inputs as u32).map(Some).collect()], None, inputs));
    };
    let channels = output.channels as usize;
    let positions = output.len() / channels;
    let taps = layer.parameters(input).0 / channels;
    if positions > row {
        return wide("an image behind the first layer", positions);
    }
    if taps > CIPHERTEXTS_MAX {
        return wide("a kernel", taps);
    }
    let mut query = vec![vec![None; positions]; taps];
    for_each_tap(&layer, input, Shape { channels: 1, ..output }, |out, weight, from| {
        query[weight][out] = Some(from as u32);
    });
    Ok((query, Some(channels), positions))
}
