//! A network compiled to gates: where truncation happens, at which scale each wire stands, how wide
//! each comparison must be.

mod compiler;

use super::measure::{Measure, MeasureError};
use super::network::{Layer, Network, Shape, Slope};
use crate::algebra::linear::LinearShape;
use crate::algebra::{PoolShape, ShuffleShape};
use crate::online::vote::VoteShape;
use crate::online::{masked, pool};
use crate::stock::{Demand, Gadget, MaskedShape};
use crate::wire::Opening;
use compiler::Compiler;
use serde::{Deserialize, Serialize};

/// Most bits on one side of the point.
const NUMBER_BITS_MAX: u32 = 62;

/// Public fixed-point numbers of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Bits after the point of weights and activations.
    pub fraction_bits: u32,
    /// Every value on every wire is below `2^value_bits` in magnitude.
    pub value_bits: u32,
}

/// One gate, or local arithmetic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Product with weights entry `weights`.
    Linear {
        /// Position of the weights in the model.
        weights: usize,
        /// Shapes.
        shape: LinearShape,
        /// Bits after the point of the result.
        scale: u32,
    },
    /// Drops low bits.
    Truncate(MaskedShape),
    /// Drops low bits, then `max(x, 0)`.
    Rectify(MaskedShape),
    /// Squares.
    Square {
        /// Values.
        count: usize,
    },
    /// Largest value under each window.
    MaxPool {
        /// Geometry.
        shape: PoolShape,
        /// The values are below `2^value_bits` as ring elements.
        value_bits: u32,
    },
    /// Sum under each window; the scale rises by `scale_bits`.
    SumPool {
        /// Geometry.
        shape: PoolShape,
        /// Bits by which the scale rises.
        scale_bits: u32,
    },
    /// `run` times the leaky rectification.
    Leak {
        /// The rectification in it.
        shape: MaskedShape,
        /// The slope below zero.
        slope: Slope,
        /// Bits by which the scale rises.
        scale_bits: u32,
    },
    /// Drops low bits, and cuts what passes 1 or -1.
    Clamp {
        /// Both rectifications in it.
        shape: MaskedShape,
        /// Bits after the point before.
        scale: u32,
    },
    /// Lays channels out as rows and columns.
    Shuffle(ShuffleShape),
    /// How far the wire is from the task's input, squared.
    Distance {
        /// Values of one query.
        values: usize,
        /// Queries side by side.
        batch: usize,
    },
    /// The norm of the task's input, with the last output added and the squares of the others taken away.
    Residual {
        /// The truncation of the others, before they are squared.
        shape: MaskedShape,
        /// Queries side by side.
        batch: usize,
    },
}

/// Why a network cannot be evaluated with the task's numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The numbers are no fixed point of the ring.
    #[error(
        "{fraction_bits} bits after the point and {value_bits} before it: the first may be 0 to {NUMBER_BITS_MAX}, the second 1 to {NUMBER_BITS_MAX}"
    )]
    Numbers {
        /// Bits after the point.
        fraction_bits: u32,
        /// Bits of the bound on all values.
        value_bits: u32,
    },
    /// A wire does not fit the ring.
    #[error(
        "layer {layer} needs {bits} bits, the ring has 64: lower fraction_bits or value_bits of the task"
    )]
    Ring {
        /// Position and name of the layer.
        layer: String,
        /// Bits needed.
        bits: u32,
    },
    /// Not a number of classes that can be voted on.
    #[error("{0} outputs; a vote needs between 2 and {CLASSES_MAX} classes")]
    Classes(usize),
    /// Not a distance that can be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// A wire carries a multiple of its values where the values themselves are wanted.
    #[error(
        "{0} follows an average or a leaky rectification without weights in between: put a dense layer or a convolution there"
    )]
    Multiple(String),
    /// No query, or too many values on one wire of a batch.
    #[error(
        "{0} values on one wire of a batch; there must be some and at most {BATCH_VALUES_MAX}: change the task's batch"
    )]
    Batch(usize),
}

/// Most classes of a vote.
pub const CLASSES_MAX: usize = 64;
/// Most values on one wire, all queries of a batch together.
pub const BATCH_VALUES_MAX: usize = 1 << 22;

/// The gates of one model for a batch of queries, in order, and the vote or the distance at their end.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    ops: Vec<Op>,
    vote: Option<VoteShape>,
    gadget: Gadget,
    scales: Vec<u32>,
    factors: Vec<f64>,
}

impl Program {
    /// Compiles `network` for `batch` queries side by side, with this gadget for all comparisons.
    ///
    /// # Errors
    /// The ring is too small for the numbers, or the outputs cannot be voted on.
    pub fn compile(
        network: &Network,
        numbers: Numbers,
        batch: usize,
        gadget: Gadget,
    ) -> Result<Self, ProgramError> {
        let mut compiler = Compiler::new(numbers, batch, gadget)?;
        compiler.wires(network)?;
        let classes = network.output().len();
        if !(2..=CLASSES_MAX).contains(&classes) {
            return Err(ProgramError::Classes(classes));
        }
        for (index, layer, shape) in ordered_layers(network) {
            compiler.layer(index, &layer, shape)?;
        }
        let value_bits = compiler.bits("the vote", compiler.scale, 2)?;
        Ok(compiler.finish(Some(VoteShape { classes, batch, value_bits, gadget })))
    }

    /// Compiles a distance for `batch` queries side by side. Its last weights entry is the threshold: no weights
    /// and one bias. Distances and thresholds have twice the task's bits after the point.
    ///
    /// # Errors
    /// The ring is too small for the numbers, or nothing is measured.
    pub fn measure(
        measure: &Measure,
        numbers: Numbers,
        batch: usize,
        gadget: Gadget,
    ) -> Result<Self, ProgramError> {
        let mut compiler = Compiler::new(numbers, batch, gadget)?;
        measure.check()?;
        let double = 2 * numbers.fraction_bits;
        match measure {
            Measure::Reconstruction(network) => {
                compiler.wires(network)?;
                for (index, layer, shape) in ordered_layers(network) {
                    compiler.layer(index, &layer, shape)?;
                }
                let values = network.output().len();
                compiler.truncate("the distance", values * batch)?;
                compiler.plain("the distance")?;
                compiler.bits("the distance", compiler.scale, 2)?;
                compiler.ops.push(Op::Distance { values, batch });
            }
            Measure::Projection { input, rank } => {
                compiler.wire(*input)?;
                let outputs = *rank as usize + 1;
                let shape = LinearShape::Dense { outputs, inputs: input.len(), batch };
                compiler.linear("the projection", shape)?;
                let bits = compiler.bits("the projection", double, 2)?;
                let shape = MaskedShape::truncate(*rank as usize * batch, bits, numbers.fraction_bits);
                compiler.ops.push(Op::Residual { shape, batch });
            }
        }
        compiler.scales.push(double);
        compiler.factors.push(1.0);
        Ok(compiler.finish(None))
    }

    /// The gates in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The vote at the end; none where a distance stands there.
    pub fn vote(&self) -> Option<VoteShape> {
        self.vote
    }

    /// Position of the threshold among the weights entries, where a distance stands at the end.
    pub fn threshold(&self) -> Option<usize> {
        if self.vote.is_some() { None } else { self.scales.len().checked_sub(1) }
    }

    /// Whether the norm of the task's input is needed.
    pub fn wants_norm(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Residual { .. }))
    }

    /// Lengths of the weights and of the bias of each entry, in order.
    pub fn lengths(&self) -> Vec<(usize, usize)> {
        let linear = self.ops.iter().filter_map(|op| match op {
            Op::Linear { shape, .. } => Some((shape.weight_len(), shape.bias_len())),
            _ => None,
        });
        linear.chain(self.threshold().map(|_| (0, 1))).collect()
    }

    /// Bits after the point of each weights entry's products: the scale of its bias.
    pub fn bias_scales(&self) -> &[u32] {
        &self.scales
    }

    /// By which factor each weights entry must be multiplied, because averages before it are sums.
    pub fn weight_factors(&self) -> &[f64] {
        &self.factors
    }

    /// Whether the first gate multiplies the task's input.
    pub fn starts_linear(&self) -> bool {
        matches!(self.ops.first(), Some(Op::Linear { .. }))
    }

    /// Correlations in order, for this model's position in its task.
    pub fn demands(&self, model: usize) -> Vec<Demand> {
        let mut demands = Vec::new();
        for (index, op) in self.ops.iter().enumerate() {
            match op {
                Op::Linear { weights, shape, .. } => {
                    demands.push(Demand::Linear { model, layer: *weights, shape: *shape, first: index == 0 })
                }
                Op::Truncate(shape)
                | Op::Rectify(shape)
                | Op::Leak { shape, .. }
                | Op::Clamp { shape, .. } => demands.push(masked::demand(*shape)),
                Op::Square { count } => demands.push(Demand::Square { count: *count }),
                Op::MaxPool { shape, value_bits } => {
                    demands
                        .extend(max_levels(shape, *value_bits, self.gadget).into_iter().map(masked::demand));
                }
                Op::SumPool { .. } | Op::Shuffle(_) => {}
                Op::Distance { values, batch } => {
                    demands.push(Demand::Norm { values: *values, batch: *batch, first: false });
                }
                Op::Residual { shape, batch } => {
                    let values = shape.count / (*batch).max(1);
                    demands.push(masked::demand(*shape));
                    demands.push(Demand::Norm { values, batch: *batch, first: false });
                }
            }
        }
        demands.extend(self.vote.iter().flat_map(VoteShape::vote_demands));
        demands
    }

    /// What this model's lane opens, round by round.
    pub fn openings(&self) -> Vec<Opening> {
        let mut openings = Vec::new();
        for (index, op) in self.ops.iter().enumerate() {
            match op {
                Op::Linear { .. } if index == 0 => {}
                Op::Linear { shape, .. } => openings.push(Opening::values(shape.input_len(), 64)),
                Op::Truncate(shape)
                | Op::Rectify(shape)
                | Op::Leak { shape, .. }
                | Op::Clamp { shape, .. } => openings.extend(masked::openings(*shape)),
                Op::Square { count } => openings.push(Opening::values(*count, 64)),
                Op::MaxPool { shape, value_bits } => {
                    openings.extend(
                        max_levels(shape, *value_bits, self.gadget).into_iter().flat_map(masked::openings),
                    );
                }
                Op::SumPool { .. } | Op::Shuffle(_) => {}
                Op::Distance { values, batch } => openings.push(Opening::values(values * batch, 64)),
                Op::Residual { shape, .. } => {
                    openings.extend(masked::openings(*shape));
                    openings.push(Opening::values(shape.count, 64));
                }
            }
        }
        openings.extend(self.vote.iter().flat_map(VoteShape::vote_openings));
        openings
    }
}

/// The levels of a maximum over windows.
fn max_levels(shape: &PoolShape, value_bits: u32, gadget: Gadget) -> Vec<MaskedShape> {
    pool::levels(shape.kernel[0] * shape.kernel[1], shape.output_len(), value_bits, gadget)
}

/// Layers with their positions in the network and the shapes that reach them, in the order in which a
/// program computes them: maxima stand before the rectifications that they commute with.
pub fn ordered_layers(network: &Network) -> Vec<(usize, Layer, Shape)> {
    let mut layers: Vec<(usize, Layer)> = network.layers().iter().copied().enumerate().collect();
    for at in 1..layers.len() {
        if matches!((layers[at - 1].1, layers[at].1), (Layer::Relu, Layer::MaxPool { .. })) {
            layers.swap(at - 1, at);
        }
    }
    let mut shape = network.input();
    let mut result = Vec::with_capacity(layers.len());
    for (index, layer) in layers {
        result.push((index, layer, shape));
        shape = match layer {
            Layer::Relu | Layer::Square => shape,
            _ => network.shape_before(index + 1),
        };
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Window;

    fn network(layers: &[Layer]) -> Network {
        Network::new(Shape { channels: 1, height: 8, width: 8 }, layers.to_vec()).unwrap()
    }

    const LAST: Layer = Layer::Dense { outputs: 2 };
    const POOL: Layer = Layer::MaxPool { window: Window::plain(2, 2) };

    #[test]
    fn numbers_that_fit_no_ring_are_refused() {
        let refused = |fraction_bits, value_bits| {
            Program::compile(&network(&[LAST]), Numbers { fraction_bits, value_bits }, 1, Gadget::Digits)
                .err()
        };
        for (fraction_bits, value_bits) in [(63, 1), (16, 0), (16, 63), (u32::MAX, 1), (0, u32::MAX)] {
            let error = ProgramError::Numbers { fraction_bits, value_bits };
            assert_eq!(refused(fraction_bits, value_bits), Some(error));
        }
        assert!(matches!(refused(25, 12), Some(ProgramError::Ring { bits: 66, .. })));
        assert_eq!(refused(24, 12), None);
        assert_eq!(refused(0, 1), None);
    }

    #[test]
    fn batches_without_queries_or_too_large_are_refused() {
        let numbers = Numbers { fraction_bits: 16, value_bits: 12 };
        let refused = |batch| Program::compile(&network(&[LAST]), numbers, batch, Gadget::Digits).err();
        assert_eq!(refused(0), Some(ProgramError::Batch(0)));
        assert_eq!(refused(BATCH_VALUES_MAX / 64), None);
        assert_eq!(refused(BATCH_VALUES_MAX / 64 + 1), Some(ProgramError::Batch(BATCH_VALUES_MAX + 64)));
        assert_eq!(refused(usize::MAX), Some(ProgramError::Batch(usize::MAX)));
    }

    #[test]
    fn maxima_come_before_rectifications() {
        let names = |layers: &[Layer]| -> Vec<(usize, String, usize)> {
            let ordered = ordered_layers(&network(layers)).into_iter();
            ordered.map(|(index, layer, shape)| (index, layer.to_string(), shape.len())).collect()
        };
        let entry = |index, name: &str, values| (index, name.to_owned(), values);
        assert_eq!(
            names(&[Layer::Relu, POOL, Layer::Relu, LAST]),
            [entry(1, "maxpool2", 64), entry(0, "relu", 16), entry(2, "relu", 16), entry(3, "fc2", 16)]
        );
        assert_eq!(names(&[Layer::Square, POOL, LAST])[0], entry(0, "square", 64));
    }
}
