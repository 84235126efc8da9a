//! The network as tensors: parameters, and logits for a batch.

use super::planes::{Pool, Pooling, Sweep, Unfold};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape as TensorShape, Tensor, Var};
use consilium_protocol::graph::{Layer, Network, Shape, Window};
use consilium_protocol::model::{Model, ModelError, Weights};
use rand::{RngExt, rngs::StdRng};

/// Trainable tensors of one linear layer.
pub(super) struct Parameters {
    /// Dense: `inputs x outputs`, the transpose of a model's, because its gradient then needs no
    /// transposition. Convolution: `outputs x patch`, as in a model.
    pub(super) weight: Var,
    /// One row of `outputs` (dense) or one column of them (convolution).
    pub(super) bias: Var,
}

/// Weights of a linear layer before training: uniform with variance `2 / inputs` (He et al. 2015), zero
/// biases. The library's own initialisation draws from a global generator, so no seed would repeat it.
fn initial(layer: &Layer, input: Shape, generator: &mut StdRng) -> Weights {
    let (weights, biases) = layer.parameters(input);
    let fan_in = weights / biases.max(1);
    let bound = (6.0 / fan_in.max(1) as f32).sqrt();
    let weight = (0..weights).map(|_| (2.0 * generator.random::<f32>() - 1.0) * bound).collect();
    Weights { weight, bias: vec![0.0; biases] }
}

fn load(layer: &Layer, input: Shape, weights: &Weights) -> Result<Parameters> {
    let outputs = weights.bias.len();
    let matrix =
        Tensor::from_slice(&weights.weight, (outputs, weights.weight.len() / outputs.max(1)), &Device::Cpu)?;
    let bias = Tensor::from_slice(&weights.bias, outputs, &Device::Cpu)?;
    if matches!(layer, Layer::Dense { .. }) {
        debug_assert_eq!(matrix.dims(), [outputs, input.len()]);
        return Ok(Parameters {
            weight: Var::from_tensor(&matrix.t()?.contiguous()?)?,
            bias: Var::from_tensor(&bias.unsqueeze(0)?)?,
        });
    }
    Ok(Parameters { weight: Var::from_tensor(&matrix)?, bias: Var::from_tensor(&bias.unsqueeze(1)?)? })
}

fn linear(network: &Network) -> impl Iterator<Item = (&Layer, Shape)> {
    let with_input = |(index, layer)| (layer, network.shape_before(index));
    network.layers().iter().enumerate().map(with_input).filter(|(layer, _)| layer.is_linear())
}

/// Fresh parameters, one entry per linear layer; the same generator state gives the same values.
pub(super) fn initialise(network: &Network, generator: &mut StdRng) -> Result<Vec<Parameters>> {
    linear(network).map(|(layer, input)| load(layer, input, &initial(layer, input, generator))).collect()
}

/// The parameters of a model.
pub(super) fn import(model: &Model) -> Result<Vec<Parameters>> {
    let layers = linear(model.network()).zip(model.weights());
    layers.map(|((layer, input), weights)| load(layer, input, weights)).collect()
}

/// The parameters as a model holds them; the inner error says that they are not finite.
pub(super) fn export(
    network: &Network,
    parameters: &[Parameters],
) -> Result<std::result::Result<Model, ModelError>> {
    let mut weights = Vec::with_capacity(parameters.len());
    for ((layer, _), entry) in linear(network).zip(parameters) {
        let matrix = match layer {
            Layer::Dense { .. } => entry.weight.as_tensor().t()?.contiguous()?,
            _ => entry.weight.as_tensor().clone(),
        };
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        weights.push(Weights { weight: flat(&matrix)?, bias: flat(entry.bias.as_tensor())? });
    }
    Ok(Model::new(network.clone(), weights))
}

/// Which factor of a product is data of the batch.
#[derive(Clone, Copy)]
enum Data {
    Left,
    Right,
}

/// A matrix product with the network's input. Plain autodiff would also compute the gradient of the input, a
/// third of the work of a first layer, and throw it away.
struct InputProduct(Data);

impl CustomOp2 for InputProduct {
    fn name(&self) -> &'static str {
        "input-product"
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Result<(CpuStorage, TensorShape)> {
        let (rows, inner) = left_layout.shape().dims2()?;
        let (_, columns) = right_layout.shape().dims2()?;
        let product = left.matmul(right, (1, rows, columns, inner), left_layout, right_layout)?;
        Ok((product, TensorShape::from((rows, columns))))
    }

    fn bwd(
        &self,
        left: &Tensor,
        right: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(match self.0 {
            Data::Left => (None, Some(left.t()?.matmul(gradient)?)),
            Data::Right => (Some(gradient.matmul(&right.t()?)?), None),
        })
    }
}

fn product(left: &Tensor, right: &Tensor, data: Data, first: bool) -> Result<Tensor> {
    if first { left.apply_op2(right, InputProduct(data)) } else { left.matmul(right) }
}

/// A batch between two layers. Vectors are rows, images are planes with channels outermost; each layer asks
/// for the one it works on, so a chain of convolutions and pools never transposes.
enum Activation {
    Rows(Tensor),
    Planes(Tensor),
}

impl Activation {
    fn rows(self, batch: usize, shape: Shape) -> Result<Tensor> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Planes(planes) => {
                let area = shape.height as usize * shape.width as usize;
                let by_example = planes.reshape((shape.channels as usize, batch, area))?.transpose(0, 1)?;
                by_example.contiguous()?.reshape((batch, shape.len()))
            }
        }
    }

    fn planes(self, batch: usize, shape: Shape) -> Result<Tensor> {
        let [channels, height, width] = [shape.channels, shape.height, shape.width].map(|size| size as usize);
        match self {
            Self::Planes(planes) => Ok(planes),
            Self::Rows(rows) => {
                let by_channel = rows.reshape((batch, channels, height * width))?.transpose(0, 1)?;
                by_channel.contiguous()?.reshape((channels, batch, height, width))
            }
        }
    }

    fn map(self, change: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Rows(rows) => Self::Rows(change(&rows)?),
            Self::Planes(planes) => Self::Planes(change(&planes)?),
        })
    }
}

fn sweep(batch: usize, input: Shape, output: Shape, window: Window) -> Sweep {
    let plane = |shape: Shape| [shape.height as usize, shape.width as usize];
    Sweep { channels: input.channels as usize, batch, input: plane(input), output: plane(output), window }
}

/// Lays blocks of neighbouring channels out as rows and columns; planes of `input` keep channels outermost.
fn shuffle(planes: &Tensor, batch: usize, input: Shape, block: u32) -> Result<Tensor> {
    let [channels, height, width, block] =
        [input.channels, input.height, input.width, block].map(|size| size as usize);
    let made = channels / (block * block).max(1);
    let parts = planes.reshape((made, block, block, batch, height, width))?;
    // Channel, example, row, row in the block, column, column in the block.
    let laid_out = parts.permute((0, 3, 4, 1, 5, 2))?.contiguous()?;
    laid_out.reshape((made, batch, height * block, width * block))
}

/// Outputs, `batch x outputs`, of a batch of rows that are data: no gradient flows back to them. `parameters` has one
/// entry per linear layer.
pub(super) fn logits(network: &Network, parameters: &[Parameters], rows: Tensor) -> Result<Tensor> {
    pass(network, parameters, rows, true)
}

/// As [`logits`] of rows that another network made, with a gradient for them.
pub(super) fn through(network: &Network, parameters: &[Parameters], rows: Tensor) -> Result<Tensor> {
    pass(network, parameters, rows, false)
}

fn pass(network: &Network, parameters: &[Parameters], rows: Tensor, are_data: bool) -> Result<Tensor> {
    let batch = rows.dim(0)?;
    let mut activation = Activation::Rows(rows);
    let mut remaining = parameters.iter();
    let mut next =
        || remaining.next().ok_or_else(|| candle_core::Error::msg("a linear layer has no parameters"));
    let layers = network.layers();
    for (index, layer) in layers.iter().enumerate() {
        let (input, output) = (network.shape_before(index), network.shape_before(index + 1));
        let first = are_data && index == 0;
        // The largest of values cut at zero is the largest, cut at zero: a quarter of the cuts for a 2 x 2
        // pool.
        let cut_before = index > 0 && layers[index - 1] == Layer::Relu;
        let pool_after = matches!(layers.get(index + 1), Some(Layer::MaxPool { .. }));
        activation = match layer {
            Layer::Dense { .. } => {
                let entry = next()?;
                let rows = activation.rows(batch, input)?;
                let weighted = product(&rows, entry.weight.as_tensor(), Data::Left, first)?;
                Activation::Rows(weighted.broadcast_add(entry.bias.as_tensor())?)
            }
            Layer::Conv { window, .. } => {
                let entry = next()?;
                let sweep = sweep(batch, input, output, *window);
                let patches = activation.planes(batch, input)?.apply_op1(Unfold(sweep))?;
                let weighted = product(entry.weight.as_tensor(), &patches, Data::Right, first)?;
                let [channels, height, width] =
                    [output.channels, output.height, output.width].map(|size| size as usize);
                let biased = weighted.broadcast_add(entry.bias.as_tensor())?;
                Activation::Planes(biased.reshape((channels, batch, height, width))?)
            }
            Layer::Relu if pool_after => activation,
            Layer::Relu => activation.map(Tensor::relu)?,
            Layer::LeakyRelu { slope } => {
                activation.map(|values| candle_nn::ops::leaky_relu(values, slope.value()))?
            }
            Layer::HardTanh => activation.map(|values| values.clamp(-1f32, 1f32))?,
            Layer::PixelShuffle { block } => {
                Activation::Planes(shuffle(&activation.planes(batch, input)?, batch, input, *block)?)
            }
            Layer::Square => activation.map(Tensor::sqr)?,
            Layer::MaxPool { window } | Layer::AveragePool { window } => {
                let largest = matches!(layer, Layer::MaxPool { .. });
                let pooling = if largest { Pooling::Largest } else { Pooling::Mean };
                let pool = Pool(sweep(batch, input, output, *window), pooling);
                let pooled = Activation::Planes(activation.planes(batch, input)?.apply_op1(pool)?);
                if largest && cut_before { pooled.map(Tensor::relu)? } else { pooled }
            }
        };
    }
    activation.rows(batch, network.output())
}
