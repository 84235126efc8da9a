//! A network compiled to gates: where truncation happens, at which scale each wire stands, how wide
//! each comparison must be.

use super::network::{Layer, Network, Shape, Window};
use crate::algebra::linear::LinearShape;
use crate::algebra::{ConvShape, PoolShape};
use crate::online::vote::VoteShape;
use crate::online::{masked, pool};
use crate::stock::{Demand, Gadget, MaskedShape};
use crate::wire::Opening;
use serde::{Deserialize, Serialize};

/// Bits by which an average may leave the usual scale before it must be truncated.
const AVERAGE_BITS_MAX: u32 = 8;
/// Most bits on one side of the point.
const NUMBER_BITS_MAX: u32 = 62;
/// Bits of the ring that no plan may use.
const HEADROOM_BITS: u32 = 2;

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

/// The gates of one model for a batch of queries, in order, and the vote at their end.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    ops: Vec<Op>,
    vote: VoteShape,
    scales: Vec<u32>,
    factors: Vec<f64>,
}

struct Compiler {
    numbers: Numbers,
    batch: usize,
    gadget: Gadget,
    scale: u32,
    factor: f64,
    ops: Vec<Op>,
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
        let Numbers { fraction_bits, value_bits } = numbers;
        if fraction_bits > NUMBER_BITS_MAX || !(1..=NUMBER_BITS_MAX).contains(&value_bits) {
            return Err(ProgramError::Numbers { fraction_bits, value_bits });
        }
        let mut compiler = Compiler {
            numbers,
            batch,
            gadget,
            scale: numbers.fraction_bits,
            factor: 1.0,
            ops: Vec::new(),
            scales: Vec::new(),
            factors: Vec::new(),
        };
        for index in 0..=network.layers().len() {
            let values = network.shape_before(index).len().saturating_mul(batch);
            if values == 0 || values > BATCH_VALUES_MAX {
                return Err(ProgramError::Batch(values));
            }
        }
        let classes = network.output().len();
        if !(2..=CLASSES_MAX).contains(&classes) {
            return Err(ProgramError::Classes(classes));
        }
        for (index, layer, shape) in ordered_layers(network) {
            compiler.layer(index, &layer, shape)?;
        }
        let value_bits = compiler.bits("the vote", compiler.scale, 2)?;
        let vote = VoteShape { classes, batch, value_bits, gadget };
        Ok(Self { ops: compiler.ops, vote, scales: compiler.scales, factors: compiler.factors })
    }

    /// The gates in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The vote at the end.
    pub fn vote(&self) -> VoteShape {
        self.vote
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
                Op::Truncate(shape) | Op::Rectify(shape) => demands.push(masked::demand(*shape)),
                Op::Square { count } => demands.push(Demand::Square { count: *count }),
                Op::MaxPool { shape, value_bits } => {
                    demands.extend(
                        max_levels(shape, *value_bits, self.vote.gadget).into_iter().map(masked::demand),
                    );
                }
                Op::SumPool { .. } => {}
            }
        }
        demands.extend(self.vote.vote_demands());
        demands
    }

    /// What this model's lane opens, round by round.
    pub fn openings(&self) -> Vec<Opening> {
        let mut openings = Vec::new();
        for (index, op) in self.ops.iter().enumerate() {
            match op {
                Op::Linear { .. } if index == 0 => {}
                Op::Linear { shape, .. } => openings.push(Opening::values(shape.input_len(), 64)),
                Op::Truncate(shape) | Op::Rectify(shape) => openings.extend(masked::openings(*shape)),
                Op::Square { count } => openings.push(Opening::values(*count, 64)),
                Op::MaxPool { shape, value_bits } => {
                    openings.extend(
                        max_levels(shape, *value_bits, self.vote.gadget)
                            .into_iter()
                            .flat_map(masked::openings),
                    );
                }
                Op::SumPool { .. } => {}
            }
        }
        openings.extend(self.vote.vote_openings());
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

impl Compiler {
    /// Bits of a value at `scale`, checked against the ring with `extra` bits on top.
    fn bits(&self, layer: &str, scale: u32, extra: u32) -> Result<u32, ProgramError> {
        let bits = self.numbers.value_bits + scale;
        let needed = bits + extra + HEADROOM_BITS;
        if needed > 64 {
            return Err(ProgramError::Ring { layer: layer.to_owned(), bits: needed });
        }
        Ok(bits)
    }

    fn truncate(&mut self, layer: &str, count: usize) -> Result<(), ProgramError> {
        let shift = self.scale - self.numbers.fraction_bits;
        if shift > 0 {
            let bits = self.bits(layer, self.scale, 2)?;
            self.ops.push(Op::Truncate(MaskedShape::truncate(count, bits, shift)));
            self.scale = self.numbers.fraction_bits;
        }
        Ok(())
    }

    fn layer(&mut self, index: usize, layer: &Layer, input: Shape) -> Result<(), ProgramError> {
        let name = format!("{index} ({layer})");
        let count = input.len() * self.batch;
        match layer {
            Layer::Dense { .. } | Layer::Conv { .. } => {
                let product = self.scale + self.numbers.fraction_bits;
                let wide = self.numbers.value_bits + product + 2 + HEADROOM_BITS > 64;
                if wide || self.scale > self.numbers.fraction_bits + AVERAGE_BITS_MAX {
                    self.truncate(&name, count)?;
                }
                let scale = self.scale + self.numbers.fraction_bits;
                self.bits(&name, scale, 2)?;
                let shape = linear_shape(layer, input, self.batch);
                self.ops.push(Op::Linear { weights: self.scales.len(), shape, scale });
                self.scales.push(scale);
                self.factors.push(std::mem::replace(&mut self.factor, 1.0));
                self.scale = scale;
            }
            Layer::Relu => {
                let bits = self.bits(&name, self.scale, 2)?;
                let shift = self.scale - self.numbers.fraction_bits;
                self.ops.push(Op::Rectify(MaskedShape::rectify(count, bits, shift, self.gadget)));
                self.scale = self.numbers.fraction_bits;
            }
            Layer::Square => {
                self.truncate(&name, count)?;
                self.ops.push(Op::Square { count });
                self.scale = 2 * self.numbers.fraction_bits;
                self.factor *= self.factor;
            }
            Layer::MaxPool { window } => {
                let value_bits = self.bits(&name, self.scale, 3)?;
                self.ops.push(Op::MaxPool { shape: pool_shape(window, input, self.batch), value_bits });
            }
            Layer::AveragePool { window } => {
                let scale_bits = window.area().next_power_of_two().trailing_zeros();
                if self.scale > self.numbers.fraction_bits + AVERAGE_BITS_MAX
                    && self.numbers.value_bits + self.scale + scale_bits + 2 + HEADROOM_BITS > 64
                {
                    self.truncate(&name, count)?;
                }
                self.bits(&name, self.scale + scale_bits, 2)?;
                self.ops.push(Op::SumPool { shape: pool_shape(window, input, self.batch), scale_bits });
                self.scale += scale_bits;
                self.factor *= (1u64 << scale_bits) as f64 / window.area() as f64;
            }
        }
        Ok(())
    }
}

fn linear_shape(layer: &Layer, input: Shape, batch: usize) -> LinearShape {
    match layer {
        Layer::Conv { outputs, window } => LinearShape::Conv(ConvShape {
            channels: input.channels as usize,
            height: input.height as usize,
            width: input.width as usize,
            outputs: *outputs as usize,
            kernel: window.kernel.map(|size| size as usize),
            stride: window.stride.map(|size| size as usize),
            padding: window.padding.map(|size| size as usize),
            batch,
        }),
        Layer::Dense { outputs } => {
            LinearShape::Dense { outputs: *outputs as usize, inputs: input.len(), batch }
        }
        _ => LinearShape::Dense { outputs: 0, inputs: 0, batch },
    }
}

fn pool_shape(window: &Window, input: Shape, batch: usize) -> PoolShape {
    PoolShape {
        channels: input.channels as usize,
        height: input.height as usize,
        width: input.width as usize,
        kernel: window.kernel.map(|size| size as usize),
        stride: window.stride.map(|size| size as usize),
        batch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
