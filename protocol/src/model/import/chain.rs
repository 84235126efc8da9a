//! The chain of layers as it grows while the graph is read.
//!
//! Scales and offsets (batch normalisation, scalers, biases that stand alone) are kept as stages of
//! their own until the end; then [`Chain::fold`] moves each into the linear layer beside it.

use super::error::{ImportError, NodeName};
use crate::graph::{LAYERS_MAX, Layer, Network, NetworkError, PARAMETERS_MAX, Shape};
use crate::model::Weights;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The chain so far.
pub(super) struct Chain {
    stages: Vec<Stage>,
    layers: usize,
    parameters: usize,
    position: usize,
}

enum Stage {
    Linear { layer: Layer, weights: Weights },
    Plain { layer: Layer, channels: usize },
    Affine(Affine),
}

/// `scale * x + offset`, each entry for an equal run of values, channels outermost.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Affine {
    #[zeroize(skip)]
    node: NodeName,
    #[zeroize(skip)]
    values: usize,
    scale: Vec<f64>,
    offset: Vec<f64>,
}

impl Affine {
    /// `scale` and `offset` are of one length, which divides the number of `values`.
    pub(super) fn new(node: NodeName, values: usize, scale: Vec<f64>, offset: Vec<f64>) -> Self {
        Self { node, values, scale, offset }
    }

    /// The same map with `entries` entries, if it can be written so.
    fn spread(&self, entries: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        let repeat = |list: &[f64]| -> Option<Vec<f64>> {
            if entries.is_multiple_of(list.len()) {
                let run = entries / list.len();
                return Some(list.iter().flat_map(|value| std::iter::repeat_n(*value, run)).collect());
            }
            let run = list.len().is_multiple_of(entries).then(|| list.len() / entries)?;
            let level = |part: &[f64]| part.iter().all(|value| *value == part[0]).then_some(part[0]);
            list.chunks(run).map(level).collect()
        };
        Some((repeat(&self.scale)?, repeat(&self.offset)?))
    }

    /// First this map, then `next`.
    fn then(&self, next: &Self) -> Option<Self> {
        let (mine, theirs) = (self.scale.len(), next.scale.len());
        let entries = if mine.max(theirs).is_multiple_of(mine.min(theirs)) {
            mine.max(theirs)
        } else {
            self.values.min(next.values)
        };
        let ((scale, offset), (next_scale, next_offset)) = (self.spread(entries)?, next.spread(entries)?);
        let offset = offset.iter().zip(&next_scale).zip(&next_offset).map(|((b, s), o)| b * s + o).collect();
        let scale = scale.iter().zip(&next_scale).map(|(a, s)| a * s).collect();
        Some(Self::new(next.node.clone(), next.values, scale, offset))
    }
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { stages: Vec::new(), layers: 0, parameters: 0, position: 0 }
    }

    /// Grows with every stage, so that a value knows whether it is the newest.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Shape after `layer`; fails where it does not fit or breaks a limit of the whole network.
    pub(super) fn admit(&mut self, layer: Layer, input: Shape) -> Result<Shape, NetworkError> {
        let output = Network::new(input, vec![layer])?.output();
        let (weights, bias) = layer.parameters(input);
        self.layers += 1;
        self.parameters = self.parameters.saturating_add(weights).saturating_add(bias);
        if self.layers > LAYERS_MAX {
            return Err(NetworkError::LayerCount(self.layers));
        }
        if self.parameters > PARAMETERS_MAX {
            return Err(NetworkError::Parameters(self.parameters));
        }
        Ok(output)
    }

    /// Adds an admitted layer with weights.
    pub(super) fn push_linear(&mut self, layer: Layer, weights: Weights) {
        self.push(Stage::Linear { layer, weights });
    }

    /// Adds an admitted layer without weights.
    pub(super) fn push_plain(&mut self, layer: Layer, input: Shape) {
        self.push(Stage::Plain { layer, channels: input.channels as usize });
    }

    /// Adds a scale and an offset; neighbours become one. Returns its number of entries.
    pub(super) fn push_affine(&mut self, affine: Affine) -> Result<usize, ImportError> {
        let affine = if let Some(Stage::Affine(last)) = self.stages.last() {
            let merged = last.then(&affine).ok_or_else(|| unfoldable(&affine, CLASH))?;
            self.stages.pop();
            merged
        } else {
            affine
        };
        let entries = affine.scale.len();
        self.push(Stage::Affine(affine));
        Ok(entries)
    }

    fn push(&mut self, stage: Stage) {
        self.stages.push(stage);
        self.position += 1;
    }

    /// The layers with all scales and offsets folded into weights.
    pub(super) fn fold(self) -> Result<(Vec<Layer>, Vec<Weights>), ImportError> {
        let (mut layers, mut weights) = (Vec::new(), Vec::<Weights>::new());
        let mut pending: Option<Affine> = None;
        for stage in self.stages {
            match stage {
                Stage::Affine(affine) => {
                    let affine = match pending.take() {
                        Some(first) => first.then(&affine).ok_or_else(|| unfoldable(&affine, CLASH))?,
                        None => {
                            if weights.last_mut().is_some_and(|last| behind(&layers, last, &affine)) {
                                continue;
                            }
                            affine
                        }
                    };
                    pending = Some(affine);
                }
                Stage::Linear { layer, weights: mut entry } => {
                    if let Some(affine) = pending.take() {
                        before(&layer, &mut entry, &affine)?;
                    }
                    layers.push(layer);
                    weights.push(entry);
                }
                Stage::Plain { layer, channels } => {
                    pending = pending.map(|affine| past(&layer, channels, &affine)).transpose()?;
                    layers.push(layer);
                }
            }
        }
        match pending {
            Some(affine) => Err(unfoldable(&affine, "no such layer follows")),
            None => Ok((layers, weights)),
        }
    }
}

const CLASH: &str = "its entries do not line up with those of the one before";

fn unfoldable(affine: &Affine, reason: &'static str) -> ImportError {
    ImportError::Unfoldable { node: affine.node.clone(), reason }
}

/// Folds into a linear layer before, a shuffle in between or not; `false` where there is none or entries do not line
/// up.
fn behind(layers: &[Layer], weights: &mut Weights, affine: &Affine) -> bool {
    match layers {
        [.., last] if last.is_linear() => after(weights, affine),
        [.., linear, Layer::PixelShuffle { block }] if linear.is_linear() => {
            // Each channel is laid out from a run of the layer's outputs.
            let run = (block * block) as usize;
            let channels = weights.bias.len() / run.max(1);
            affine.spread(channels).is_some_and(|(scale, offset)| {
                after(weights, &Affine::new(affine.node.clone(), channels, scale, offset))
            })
        }
        _ => false,
    }
}

/// Folds into the linear layer before; `false` where entries do not line up with its outputs.
fn after(weights: &mut Weights, affine: &Affine) -> bool {
    let outputs = weights.bias.len();
    let Some((scale, offset)) = affine.spread(outputs) else {
        return false;
    };
    let row = weights.weight.len() / outputs;
    for (part, scale) in weights.weight.chunks_mut(row).zip(&scale) {
        part.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
    }
    for ((bias, scale), offset) in weights.bias.iter_mut().zip(&scale).zip(&offset) {
        *bias = (f64::from(*bias) * scale + offset) as f32;
    }
    true
}

/// Folds into the linear layer that follows.
fn before(layer: &Layer, weights: &mut Weights, affine: &Affine) -> Result<(), ImportError> {
    let row = weights.weight.len() / weights.bias.len();
    let entries = match layer {
        Layer::Conv { window, .. } => {
            let shifts = affine.offset.iter().any(|offset| *offset != 0.0);
            if window.padding != [0; 4] && shifts {
                return Err(unfoldable(affine, "the convolution that follows pads with zeros"));
            }
            row / window.area()
        }
        _ => row,
    };
    let Some((scale, offset)) = affine.spread(entries) else {
        return Err(unfoldable(affine, "its entries do not line up with the layer that follows"));
    };
    let run = row / entries;
    for (part, bias) in weights.weight.chunks_mut(row).zip(weights.bias.iter_mut()) {
        let mut shift = f64::from(*bias);
        for ((weights, scale), offset) in part.chunks_mut(run).zip(&scale).zip(&offset) {
            for weight in weights {
                shift += f64::from(*weight) * offset;
                *weight = (f64::from(*weight) * scale) as f32;
            }
        }
        *bias = shift as f32;
    }
    Ok(())
}

/// Moves behind a pooling layer, which commutes with a map per channel that keeps the order.
fn past(layer: &Layer, channels: usize, affine: &Affine) -> Result<Affine, ImportError> {
    let keeps = match layer {
        Layer::AveragePool { .. } => true,
        Layer::MaxPool { .. } => affine.scale.iter().all(|scale| *scale >= 0.0),
        _ => false,
    };
    let spread = if keeps { affine.spread(channels) } else { None };
    let (scale, offset) = spread.ok_or_else(|| unfoldable(affine, "neither neighbour is such a layer"))?;
    Ok(Affine::new(affine.node.clone(), channels, scale, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Window;

    fn affine(values: usize, scale: &[f64], offset: &[f64]) -> Affine {
        let node = NodeName { name: "norm".to_owned(), operator: "BatchNormalization".to_owned() };
        Affine::new(node, values, scale.to_vec(), offset.to_vec())
    }

    fn dense(chain: &mut Chain, weight: &[f32], bias: &[f32]) {
        let layer = Layer::Dense { outputs: bias.len() as u32 };
        chain.push_linear(layer, Weights { weight: weight.to_vec(), bias: bias.to_vec() });
    }

    fn conv(chain: &mut Chain, window: Window) {
        let layer = Layer::Conv { outputs: 1, window };
        chain.push_linear(layer, Weights { weight: vec![1.0, 2.0], bias: vec![0.5] });
    }

    fn reason(chain: Chain) -> &'static str {
        match chain.fold() {
            Err(ImportError::Unfoldable { node, reason }) => {
                assert_eq!(node.name, "norm");
                reason
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("folded"),
        }
    }

    #[test]
    fn folds_into_the_layer_before() {
        let mut chain = Chain::new();
        dense(&mut chain, &[1.0, 2.0, 3.0, 4.0], &[1.0, -1.0]);
        chain.push_affine(affine(2, &[2.0, 10.0], &[0.5, 0.25])).unwrap();
        let (_, weights) = chain.fold().unwrap();
        assert_eq!(weights[0].weight, [2.0, 4.0, 30.0, 40.0]);
        assert_eq!(weights[0].bias, [2.5, -9.75]);
    }

    #[test]
    fn folds_into_the_layer_behind_and_repeats_entries() {
        let mut chain = Chain::new();
        chain.push_affine(affine(4, &[2.0, 10.0], &[1.0, 0.0])).unwrap();
        dense(&mut chain, &[1.0, 2.0, 3.0, 4.0], &[1.0]);
        let (_, weights) = chain.fold().unwrap();
        assert_eq!(weights[0].weight, [2.0, 4.0, 30.0, 40.0]);
        assert_eq!(weights[0].bias, [4.0]);
    }

    #[test]
    fn neighbours_compose_in_order() {
        let mut chain = Chain::new();
        chain.push_affine(affine(2, &[1.0], &[-3.0])).unwrap();
        chain.push_affine(affine(2, &[2.0, 4.0], &[0.0, 1.0])).unwrap();
        dense(&mut chain, &[1.0, 1.0], &[0.0]);
        let (_, weights) = chain.fold().unwrap();
        assert_eq!(weights[0].weight, [2.0, 4.0]);
        assert_eq!(weights[0].bias, [-17.0]);
    }

    #[test]
    fn an_offset_before_padding_is_refused_but_a_scale_is_not() {
        let window = Window { kernel: [2, 1], stride: [1, 1], padding: [1, 0, 0, 0] };
        let mut chain = Chain::new();
        chain.push_affine(affine(4, &[3.0], &[0.0])).unwrap();
        conv(&mut chain, window);
        assert_eq!(chain.fold().unwrap().1[0].weight, [3.0, 6.0]);
        let mut chain = Chain::new();
        chain.push_affine(affine(4, &[3.0], &[1.0])).unwrap();
        conv(&mut chain, window);
        assert_eq!(reason(chain), "the convolution that follows pads with zeros");
    }

    #[test]
    fn passes_pooling_only_where_the_order_is_kept() {
        for (scale, passes) in [(2.0, true), (-2.0, false)] {
            let mut chain = Chain::new();
            chain.push_affine(affine(4, &[scale], &[1.0])).unwrap();
            let shape = Shape { channels: 1, height: 2, width: 2 };
            chain.push_plain(Layer::MaxPool { window: Window::plain(2, 2) }, shape);
            dense(&mut chain, &[3.0], &[0.0]);
            assert_eq!(chain.fold().is_ok(), passes);
        }
    }

    #[test]
    fn an_activation_on_both_sides_is_refused() {
        let mut chain = Chain::new();
        chain.push_plain(Layer::Relu, Shape::vector(2));
        chain.push_affine(affine(2, &[2.0], &[1.0])).unwrap();
        chain.push_plain(Layer::Relu, Shape::vector(2));
        assert_eq!(reason(chain), "neither neighbour is such a layer");
    }

    #[test]
    fn the_last_stage_must_be_a_layer() {
        let mut chain = Chain::new();
        chain.push_plain(Layer::Relu, Shape::vector(2));
        chain.push_affine(affine(2, &[2.0], &[1.0])).unwrap();
        assert_eq!(reason(chain), "no such layer follows");
    }

    #[test]
    fn limits_hold_before_weights_are_copied() {
        let mut chain = Chain::new();
        let layer = Layer::Dense { outputs: 1 << 12 };
        chain.admit(layer, Shape::vector(1 << 12)).unwrap();
        let refused = chain.admit(layer, Shape::vector(1 << 12));
        assert!(matches!(refused, Err(NetworkError::Parameters(_))));
        let mut chain = Chain::new();
        for _ in 0..LAYERS_MAX {
            chain.admit(Layer::Relu, Shape::vector(1)).unwrap();
        }
        let refused = chain.admit(Layer::Relu, Shape::vector(1));
        assert_eq!(refused, Err(NetworkError::LayerCount(LAYERS_MAX + 1)));
    }
}
