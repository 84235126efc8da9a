//! Linear maps as sparse matrices: what convolutions, pools and dense layers between two squares come to.

use crate::graph::{Layer, Network, Shape, for_each_tap};
use crate::model::{Model, Weights};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most weights that are not zero in one map, which bounds what folding layers into one another can make.
pub const MAP_WEIGHTS_MAX: usize = 1 << 24;

/// `y = W x + b` with `W` by rows; entries that are zero are left out.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub(super) struct SparseMap<W: Zeroize, B: Zeroize> {
    /// Length of `x`.
    pub(super) inputs: usize,
    /// Where each row starts in `columns`, and where the last one ends.
    pub(super) starts: Vec<usize>,
    /// Column of each weight, ascending within a row.
    pub(super) columns: Vec<u32>,
    /// The weights.
    pub(super) weights: Vec<W>,
    /// One value for each output.
    pub(super) bias: Vec<B>,
}

impl<W: Zeroize, B: Zeroize> std::fmt::Debug for SparseMap<W, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SparseMap({} x {}, {} weights)", self.bias.len(), self.inputs, self.weights.len())
    }
}

impl<W: Zeroize + Copy, B: Zeroize> SparseMap<W, B> {
    /// Length of `y`.
    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Columns and weights of a row.
    pub(super) fn row(&self, output: usize) -> impl Iterator<Item = (usize, W)> + '_ {
        let range = self.starts[output]..self.starts[output + 1];
        self.columns[range.clone()]
            .iter()
            .map(|column| *column as usize)
            .zip(self.weights[range].iter().copied())
    }
}

/// A map in floating point.
pub(super) type FloatMap = SparseMap<f64, f64>;

impl FloatMap {
    /// From entries `(output, input, weight)` in any order; those at one place are added up.
    fn collect(inputs: usize, mut entries: Vec<(u32, u32, f64)>, bias: Vec<f64>) -> Self {
        entries.sort_unstable_by_key(|(output, input, _)| (*output, *input));
        let mut map = Self { inputs, starts: vec![0], columns: Vec::new(), weights: Vec::new(), bias };
        let mut last = None;
        for (output, input, weight) in entries.iter().copied() {
            while map.starts.len() <= output as usize {
                map.starts.push(map.columns.len());
            }
            match map.weights.last_mut().filter(|_| last == Some((output, input))) {
                Some(sum) => *sum += weight,
                None => {
                    map.columns.push(input);
                    map.weights.push(weight);
                }
            }
            last = Some((output, input));
        }
        while map.starts.len() <= map.bias.len() {
            map.starts.push(map.columns.len());
        }
        entries.zeroize();
        map
    }

    /// A layer with its weights, or an average pool or shuffle without.
    fn of_layer(layer: &Layer, input: Shape, output: Shape, weights: Option<&Weights>) -> Option<Self> {
        let mut entries = Vec::new();
        let mut full = false;
        let share = match layer {
            Layer::AveragePool { window } => 1.0 / window.area() as f64,
            _ => 1.0,
        };
        for_each_tap(layer, input, output, |out, weight, from| {
            full |= entries.len() >= MAP_WEIGHTS_MAX;
            let value = weights.map_or(share, |entry| f64::from(entry.weight[weight]));
            if value != 0.0 && !full {
                entries.push((out as u32, from as u32, value));
            }
        });
        let area = (output.height as usize * output.width as usize).max(1);
        let bias = |at: usize| match (weights, layer) {
            (Some(entry), Layer::Conv { .. }) => f64::from(entry.bias[at / area]),
            (Some(entry), _) => f64::from(entry.bias[at]),
            (None, _) => 0.0,
        };
        let bias = (0..output.len()).map(bias).collect();
        (!full).then(|| Self::collect(input.len(), entries, bias))
    }

    /// This map behind another one.
    fn after(&self, first: &Self) -> Option<Self> {
        let mut entries = Vec::new();
        let mut bias = self.bias.clone();
        let mut sums = zeroize::Zeroizing::new(vec![0.0; first.inputs]);
        for (output, bias) in bias.iter_mut().enumerate() {
            sums.fill(0.0);
            for (middle, weight) in self.row(output) {
                *bias += weight * first.bias[middle];
                for (input, inner) in first.row(middle) {
                    sums[input] += weight * inner;
                }
            }
            let found = sums.iter().enumerate().filter(|(_, sum)| **sum != 0.0);
            entries.extend(found.map(|(input, sum)| (output as u32, input as u32, *sum)));
            if entries.len() > MAP_WEIGHTS_MAX {
                return None;
            }
        }
        Some(Self::collect(first.inputs, entries, bias))
    }
}

/// Why a network is none of linear layers and squares.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A layer that is neither linear nor a square.
    #[error(
        "layer {layer} cannot be computed under encryption: only convolutions, dense layers, average pools and squares can; train with x * x as the activation"
    )]
    Layer {
        /// Position and name.
        layer: String,
    },
    /// Two squares without a linear layer between them, or one at the start or end.
    #[error("layer {layer} is a square without a linear layer before or behind it; put one there")]
    Square {
        /// Position and name.
        layer: String,
    },
    /// Folding layers into one makes too many weights.
    #[error(
        "the linear layers up to {layer} fold into more than {MAP_WEIGHTS_MAX} weights; use smaller layers"
    )]
    Large {
        /// Position and name.
        layer: String,
    },
}

/// Refuses networks with other layers than linear ones and squares between them.
pub(super) fn check(network: &Network) -> Result<(), ChainError> {
    let mut linear = false;
    for (index, layer) in network.layers().iter().enumerate() {
        let name = || format!("{index} ({layer})");
        linear = match layer {
            Layer::Dense { .. }
            | Layer::Conv { .. }
            | Layer::AveragePool { .. }
            | Layer::PixelShuffle { .. } => true,
            Layer::Square if linear => false,
            Layer::Square => return Err(ChainError::Square { layer: name() }),
            Layer::Relu | Layer::LeakyRelu { .. } | Layer::HardTanh | Layer::MaxPool { .. } => {
                return Err(ChainError::Layer { layer: name() });
            }
        };
    }
    let last = network.layers().len().saturating_sub(1);
    if linear { Ok(()) } else { Err(ChainError::Square { layer: format!("{last} (the last)") }) }
}

/// The linear maps between the squares of a model, in order.
pub(super) fn maps(model: &Model) -> Result<Vec<FloatMap>, ChainError> {
    let network = model.network();
    check(network)?;
    let mut weights = model.weights().iter();
    let mut maps: Vec<FloatMap> = Vec::new();
    let mut current: Option<FloatMap> = None;
    for (index, layer) in network.layers().iter().enumerate() {
        if matches!(layer, Layer::Square) {
            maps.extend(current.take());
            continue;
        }
        let (input, output) = (network.shape_before(index), network.shape_before(index + 1));
        let entry = if layer.is_linear() { weights.next() } else { None };
        let map = FloatMap::of_layer(layer, input, output, entry);
        let joined = match (map, &current) {
            (Some(map), Some(first)) => map.after(first),
            (map, _) => map,
        };
        current = Some(joined.ok_or_else(|| ChainError::Large { layer: format!("{index} ({layer})") })?);
    }
    maps.extend(current);
    Ok(maps)
}
