//! One layer after another into gates.

use super::{BATCH_VALUES_MAX, NUMBER_BITS_MAX, Numbers, Op, Program, ProgramError};
use crate::algebra::linear::LinearShape;
use crate::algebra::{ConvShape, PoolShape};
use crate::graph::network::{Layer, Network, Shape, Window};
use crate::graph::taps::shuffle_shape;
use crate::online::vote::VoteShape;
use crate::stock::{Gadget, MaskedShape};

/// Bits by which an average may leave the usual scale before it must be truncated.
const AVERAGE_BITS_MAX: u32 = 8;
/// Bits of the ring that no plan may use.
const HEADROOM_BITS: u32 = 2;

/// A program in the making.
pub(super) struct Compiler {
    numbers: Numbers,
    batch: usize,
    gadget: Gadget,
    pub(super) scale: u32,
    factor: f64,
    pub(super) ops: Vec<Op>,
    pub(super) scales: Vec<u32>,
    pub(super) factors: Vec<f64>,
}

impl Compiler {
    pub(super) fn new(numbers: Numbers, batch: usize, gadget: Gadget) -> Result<Self, ProgramError> {
        let Numbers { fraction_bits, value_bits } = numbers;
        if fraction_bits > NUMBER_BITS_MAX || !(1..=NUMBER_BITS_MAX).contains(&value_bits) {
            return Err(ProgramError::Numbers { fraction_bits, value_bits });
        }
        let (ops, scales, factors) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { numbers, batch, gadget, scale: fraction_bits, factor: 1.0, ops, scales, factors })
    }

    pub(super) fn finish(self, vote: Option<VoteShape>) -> Program {
        let Self { ops, gadget, scales, factors, .. } = self;
        Program { ops, vote, gadget, scales, factors }
    }

    pub(super) fn wire(&self, shape: Shape) -> Result<(), ProgramError> {
        let values = shape.len().saturating_mul(self.batch);
        if values == 0 || values > BATCH_VALUES_MAX { Err(ProgramError::Batch(values)) } else { Ok(()) }
    }

    pub(super) fn wires(&self, network: &Network) -> Result<(), ProgramError> {
        (0..=network.layers().len()).try_for_each(|index| self.wire(network.shape_before(index)))
    }

    /// Refuses a wire that carries a multiple of its values.
    pub(super) fn plain(&self, layer: &str) -> Result<(), ProgramError> {
        if self.factor == 1.0 { Ok(()) } else { Err(ProgramError::Multiple(layer.to_owned())) }
    }

    pub(super) fn linear(&mut self, layer: &str, shape: LinearShape) -> Result<(), ProgramError> {
        let scale = self.scale + self.numbers.fraction_bits;
        self.bits(layer, scale, 2)?;
        self.ops.push(Op::Linear { weights: self.scales.len(), shape, scale });
        self.scales.push(scale);
        self.factors.push(std::mem::replace(&mut self.factor, 1.0));
        self.scale = scale;
        Ok(())
    }

    /// Bits of a value at `scale`, checked against the ring with `extra` bits on top.
    pub(super) fn bits(&self, layer: &str, scale: u32, extra: u32) -> Result<u32, ProgramError> {
        let bits = self.numbers.value_bits + scale;
        let needed = bits + extra + HEADROOM_BITS;
        if needed > 64 {
            return Err(ProgramError::Ring { layer: layer.to_owned(), bits: needed });
        }
        Ok(bits)
    }

    pub(super) fn truncate(&mut self, layer: &str, count: usize) -> Result<(), ProgramError> {
        let shift = self.scale - self.numbers.fraction_bits;
        if shift > 0 {
            let bits = self.bits(layer, self.scale, 2)?;
            self.ops.push(Op::Truncate(MaskedShape::truncate(count, bits, shift)));
            self.scale = self.numbers.fraction_bits;
        }
        Ok(())
    }

    pub(super) fn layer(&mut self, index: usize, layer: &Layer, input: Shape) -> Result<(), ProgramError> {
        let name = format!("{index} ({layer})");
        let count = input.len() * self.batch;
        match layer {
            Layer::Dense { .. } | Layer::Conv { .. } => {
                let product = self.scale + self.numbers.fraction_bits;
                let wide = self.numbers.value_bits + product + 2 + HEADROOM_BITS > 64;
                if wide || self.scale > self.numbers.fraction_bits + AVERAGE_BITS_MAX {
                    self.truncate(&name, count)?;
                }
                self.linear(&name, linear_shape(layer, input, self.batch))?;
            }
            Layer::Relu | Layer::LeakyRelu { .. } | Layer::HardTanh | Layer::Square => {
                self.activation(&name, layer, count)?;
            }
            Layer::PixelShuffle { block } => {
                self.ops.push(Op::Shuffle(shuffle_shape(*block, input, self.batch)));
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

    fn activation(&mut self, name: &str, layer: &Layer, count: usize) -> Result<(), ProgramError> {
        match layer {
            Layer::Relu => {
                let bits = self.bits(name, self.scale, 2)?;
                let shift = self.scale - self.numbers.fraction_bits;
                self.ops.push(Op::Rectify(MaskedShape::rectify(count, bits, shift, self.gadget)));
                self.scale = self.numbers.fraction_bits;
            }
            Layer::LeakyRelu { slope } => {
                self.truncate(name, count)?;
                let scale_bits = slope.run.next_power_of_two().trailing_zeros();
                let bits = self.bits(name, self.scale, 2)?;
                self.bits(name, self.scale + scale_bits, 2)?;
                let shape = MaskedShape::rectify(count, bits, 0, self.gadget);
                self.ops.push(Op::Leak { shape, slope: *slope, scale_bits });
                self.scale += scale_bits;
                self.factor *= (1u64 << scale_bits) as f64 / f64::from(slope.run);
            }
            Layer::HardTanh => {
                self.plain(name)?;
                let bits = self.bits(name, self.scale, 3)?;
                let shift = self.scale - self.numbers.fraction_bits;
                // One is added to a value of so many bits.
                let shape = MaskedShape::rectify(2 * count, bits + 1, shift, self.gadget);
                self.ops.push(Op::Clamp { shape, scale: self.scale });
                self.scale = self.numbers.fraction_bits;
            }
            Layer::Square => {
                self.truncate(name, count)?;
                self.ops.push(Op::Square { count });
                self.scale = 2 * self.numbers.fraction_bits;
                self.factor *= self.factor;
            }
            _ => {}
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
