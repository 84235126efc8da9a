//! A network as the task publishes it: a chain of layers, public to everyone.

use serde::{Deserialize, Serialize};

/// Most layers that a network may have.
pub const LAYERS_MAX: usize = 64;
/// Most values on any wire of a network (one query).
pub const WIRE_VALUES_MAX: usize = 1 << 20;
/// Most weights (with biases) of a network.
pub const PARAMETERS_MAX: usize = 1 << 25;

/// Shape of one activation; a plain vector of `n` values is `n x 1 x 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Number of channels, or of features.
    pub channels: u32,
    /// Rows of one channel.
    pub height: u32,
    /// Columns of one channel.
    pub width: u32,
}

impl Shape {
    /// A plain vector.
    pub const fn vector(features: u32) -> Self {
        Self { channels: features, height: 1, width: 1 }
    }

    /// Number of values.
    pub fn len(self) -> usize {
        (self.channels as usize).saturating_mul(self.height as usize).saturating_mul(self.width as usize)
    }

    /// Whether the shape holds no value.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// A window that slides over rows and columns. `padding` counts zeros: top, left, bottom, right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Rows and columns of the window.
    pub kernel: [u32; 2],
    /// Steps between windows.
    pub stride: [u32; 2],
    /// Zeros added at the top, left, bottom and right (convolutions only).
    pub padding: [u32; 4],
}

impl Window {
    /// A window without padding.
    pub const fn plain(kernel: u32, stride: u32) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 4] }
    }

    /// Values under the window.
    pub fn area(&self) -> usize {
        (self.kernel[0] as usize).saturating_mul(self.kernel[1] as usize)
    }

    fn slide(&self, shape: Shape) -> Option<[u32; 2]> {
        let positions = |size: u32, before: u32, after: u32, kernel: u32, stride: u32| {
            let padded = size.checked_add(before)?.checked_add(after)?;
            let room = padded.checked_sub(kernel)?;
            if kernel == 0 { None } else { room.checked_div(stride)?.checked_add(1) }
        };
        let [top, left, bottom, right] = self.padding;
        Some([
            positions(shape.height, top, bottom, self.kernel[0], self.stride[0])?,
            positions(shape.width, left, right, self.kernel[1], self.stride[1])?,
        ])
    }
}

/// Largest denominator of a [`Slope`].
pub const SLOPE_RUN_MAX: u32 = 256;

/// `rise / run`, below 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slope {
    /// Less than `run`.
    pub rise: u32,
    /// At most [`SLOPE_RUN_MAX`].
    pub run: u32,
}

impl Slope {
    /// The fraction with the smallest `run` that is `value` as a 32-bit number, or else the nearest.
    pub fn nearest(value: f32) -> Option<Self> {
        if !(0.0..1.0).contains(&value) {
            return None;
        }
        let with = |run: u32| {
            let rise = (f64::from(value) * f64::from(run)).round() as u32;
            Self { rise: rise.min(run - 1), run }
        };
        let error = |slope: &Self| (slope.value() - f64::from(value)).abs();
        let exact = (1..=SLOPE_RUN_MAX).map(with).find(|slope| slope.value() as f32 == value);
        exact.or_else(|| {
            (1..=SLOPE_RUN_MAX).map(with).min_by(|one, other| error(one).total_cmp(&error(other)))
        })
    }

    /// As a number.
    pub fn value(self) -> f64 {
        f64::from(self.rise) / f64::from(self.run)
    }

    fn is_valid(&self) -> bool {
        self.rise < self.run && self.run <= SLOPE_RUN_MAX
    }
}

/// One layer. Flattening is not a layer: values keep their order, channels outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Layer {
    /// `y = W x + b` over all values of the input; weights are `outputs x inputs`, row-major.
    Dense {
        /// Number of outputs.
        outputs: u32,
    },
    /// Cross-correlation with bias, as deep-learning tools mean it, one group; weights are
    /// `outputs x channels x kernel rows x kernel columns`, row-major.
    Conv {
        /// Output channels.
        outputs: u32,
        /// The sliding window.
        window: Window,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x`, or `slope` times it where it is below zero.
    LeakyRelu {
        /// The slope below zero.
        slope: Slope,
    },
    /// `min(max(x, -1), 1)`.
    HardTanh,
    /// `x * x`.
    Square,
    /// Largest value under each window, per channel; no padding.
    MaxPool {
        /// The sliding window.
        window: Window,
    },
    /// Mean of the values under each window, per channel; no padding.
    AveragePool {
        /// The sliding window.
        window: Window,
    },
    /// Lays `block * block` neighbouring channels out as one of `block` times the rows and columns; the channel
    /// for row `i` and column `j` of each block comes at place `i * block + j`. What upsampling or a transposed
    /// convolution makes, a convolution before this makes from fewer values.
    PixelShuffle {
        /// Rows and columns made of one.
        block: u32,
    },
}

impl Layer {
    /// Whether the layer has weights.
    pub fn is_linear(&self) -> bool {
        matches!(self, Self::Dense { .. } | Self::Conv { .. })
    }

    /// Lengths of the weights and of the bias for this input, zero for layers without weights.
    pub fn parameters(&self, input: Shape) -> (usize, usize) {
        match self {
            Self::Dense { outputs } => ((*outputs as usize).saturating_mul(input.len()), *outputs as usize),
            Self::Conv { outputs, window } => {
                let patch = window.area().saturating_mul(input.channels as usize);
                ((*outputs as usize).saturating_mul(patch), *outputs as usize)
            }
            _ => (0, 0),
        }
    }

    /// Shape of the output, `None` where the layer does not fit its input.
    pub fn output(&self, input: Shape) -> Option<Shape> {
        let pooled = |window: &Window| {
            if window.padding != [0; 4] {
                return None;
            }
            let [height, width] = window.slide(input)?;
            Some(Shape { channels: input.channels, height, width })
        };
        match self {
            Self::Dense { outputs } => Some(Shape::vector(*outputs)),
            Self::Conv { outputs, window } => {
                let [top, left, bottom, right] = window.padding;
                if top.max(bottom) >= window.kernel[0] || left.max(right) >= window.kernel[1] {
                    return None;
                }
                let [height, width] = window.slide(input)?;
                Some(Shape { channels: *outputs, height, width })
            }
            Self::Relu | Self::HardTanh | Self::Square => Some(input),
            Self::LeakyRelu { slope } => slope.is_valid().then_some(input),
            Self::MaxPool { window } | Self::AveragePool { window } => pooled(window),
            Self::PixelShuffle { block } => {
                let area = block.checked_mul(*block).filter(|area| *area > 0)?;
                let channels = if input.channels.is_multiple_of(area) { input.channels / area } else { 0 };
                let [height, width] = [input.height.checked_mul(*block)?, input.width.checked_mul(*block)?];
                (channels > 0).then_some(Shape { channels, height, width })
            }
        }
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dense { outputs } => write!(f, "fc{outputs}"),
            Self::Conv { outputs, window } => {
                write!(f, "conv{}x{}x{outputs}", window.kernel[0], window.kernel[1])
            }
            Self::Relu => write!(f, "relu"),
            Self::LeakyRelu { slope } => write!(f, "leakyrelu{}/{}", slope.rise, slope.run),
            Self::HardTanh => write!(f, "hardtanh"),
            Self::Square => write!(f, "square"),
            Self::MaxPool { window } => write!(f, "maxpool{}", window.kernel[0]),
            Self::AveragePool { window } => write!(f, "avgpool{}", window.kernel[0]),
            Self::PixelShuffle { block } => write!(f, "shuffle{block}"),
        }
    }
}

/// Why a chain of layers is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No layer, or more than [`LAYERS_MAX`].
    #[error("a network has between 1 and {LAYERS_MAX} layers, this one has {0}")]
    LayerCount(usize),
    /// The window does not fit, is empty, or is padded where padding is not supported.
    #[error("layer {index} ({layer}) does not fit its input of shape {input}")]
    Misfit {
        /// Position in the chain, from 0.
        index: usize,
        /// The layer.
        layer: String,
        /// Shape that reaches it.
        input: Shape,
    },
    /// A wire is empty or too large.
    #[error("{values} values at layer {index}; the limit is {WIRE_VALUES_MAX}, and 0 is not allowed")]
    Wire {
        /// Position in the chain, from 0.
        index: usize,
        /// Values on that wire.
        values: usize,
    },
    /// Too many weights.
    #[error("{0} parameters; the limit is {PARAMETERS_MAX}")]
    Parameters(usize),
}

/// A checked chain of layers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawNetwork", into = "RawNetwork")]
pub struct Network {
    input: Shape,
    layers: Vec<Layer>,
    shapes: Vec<Shape>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    input: Shape,
    layers: Vec<Layer>,
}

impl TryFrom<RawNetwork> for Network {
    type Error = NetworkError;

    fn try_from(raw: RawNetwork) -> Result<Self, NetworkError> {
        Self::new(raw.input, raw.layers)
    }
}

impl From<Network> for RawNetwork {
    fn from(network: Network) -> Self {
        Self { input: network.input, layers: network.layers }
    }
}

impl Network {
    /// Checks that every layer fits its input and that all limits hold.
    ///
    /// # Errors
    /// [`NetworkError`] names the layer at fault.
    pub fn new(input: Shape, layers: Vec<Layer>) -> Result<Self, NetworkError> {
        if layers.is_empty() || layers.len() > LAYERS_MAX {
            return Err(NetworkError::LayerCount(layers.len()));
        }
        let mut shapes = vec![input];
        let mut parameters = 0usize;
        for (index, layer) in layers.iter().enumerate() {
            let reached = shapes[index];
            if reached.is_empty() || reached.len() > WIRE_VALUES_MAX {
                return Err(NetworkError::Wire { index, values: reached.len() });
            }
            let misfit = || NetworkError::Misfit { index, layer: layer.to_string(), input: reached };
            let next = layer.output(reached).ok_or_else(misfit)?;
            if next.is_empty() || next.len() > WIRE_VALUES_MAX {
                return Err(NetworkError::Wire { index: index + 1, values: next.len() });
            }
            let (weights, bias) = layer.parameters(reached);
            parameters = parameters.saturating_add(weights).saturating_add(bias);
            shapes.push(next);
        }
        if parameters > PARAMETERS_MAX {
            return Err(NetworkError::Parameters(parameters));
        }
        Ok(Self { input, layers, shapes })
    }

    /// Shape of one query.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Shape of the logits.
    pub fn output(&self) -> Shape {
        self.shapes[self.layers.len()]
    }

    /// The layers in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Shape that reaches layer `index`; `index == layers().len()` gives the output.
    pub fn shape_before(&self, index: usize) -> Shape {
        self.shapes[index]
    }

    /// A short description, such as `784x1x1 fc128 relu fc10`.
    pub fn summary(&self) -> String {
        let names: Vec<String> = self.layers.iter().map(ToString::to_string).collect();
        format!("{} {}", self.input, names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_fractions_that_people_mean() {
        let slope = |value| Slope::nearest(value).map(|slope| (slope.rise, slope.run));
        assert_eq!(slope(0.2), Some((1, 5)));
        assert_eq!(slope(0.01), Some((1, 100)));
        assert_eq!(slope(0.3), Some((3, 10)));
        assert_eq!(slope(0.0), Some((0, 1)));
        assert_eq!(slope(1.0 / 3.0), Some((1, 3)));
        // The nearest of those that there are, and never 1.
        assert_eq!(slope(0.9999), Some((255, 256)));
        assert!((Slope::nearest(0.123_456).unwrap().value() - 0.123_456).abs() < 1e-4);
        for refused in [1.0, -0.1, f32::NAN, f32::INFINITY] {
            assert_eq!(slope(refused), None);
        }
    }

    #[test]
    fn a_slope_or_a_block_that_is_none_does_not_fit() {
        let shape = Shape { channels: 8, height: 3, width: 5 };
        let leaky = |rise, run| Layer::LeakyRelu { slope: Slope { rise, run } }.output(shape);
        assert_eq!(leaky(1, 5), Some(shape));
        for (rise, run) in [(0, 0), (1, 1), (1, 257), (u32::MAX, u32::MAX)] {
            assert_eq!(leaky(rise, run), None, "{rise} / {run}");
        }
        let shuffle = |block| Layer::PixelShuffle { block }.output(shape);
        assert_eq!(shuffle(2), Some(Shape { channels: 2, height: 6, width: 10 }));
        assert_eq!(shuffle(1), Some(shape));
        for block in [0, 3, 4, 1 << 16, u32::MAX] {
            assert_eq!(shuffle(block), None, "{block}");
        }
    }
}
