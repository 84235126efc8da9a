//! Nodes that enlarge, and the shuffle that they become.

use super::linear::{BIAS, KERNELS, count};
use super::{Lowering, misfit};
use crate::graph::Layer;
use crate::model::enlarge::Enlargement;
use crate::model::import::error::ImportError;
use crate::model::import::node::Node;
use crate::model::import::tensor::Constant;
use crate::model::import::value::{Value, Wire};
use std::rc::Rc;

const MAPS: &str = "an activation of a batch, channels, rows and columns, and constants";
const FACTORS: &str = "constant scales or sizes that repeat rows and columns equally often, and nothing else";
const EXACT: &str = "a transposed convolution that enlarges exactly by its strides, which are equal";
const KEEPS: &str = "one step and a padding that keeps the size, after an upsampling";
/// Values are repeated at most so often along an axis.
const FACTOR_MAX: u32 = 4;

impl Lowering {
    /// `DepthToSpace` in the order of PyTorch's `PixelShuffle`.
    pub(super) fn shuffle(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let mode = node.text("mode").unwrap_or_else(|| "DCR".to_owned());
        if mode != "CRD" {
            return Err(node.refused("mode", mode, "CRD"));
        }
        let found = node.integer("blocksize").unwrap_or(0);
        let block = u32::try_from(found).map_err(|_| node.refused("blocksize", found, "a number above 0"))?;
        let wire = self.wire(node, 0, MAPS)?;
        self.spatial(node, &wire)?;
        self.plain_map(node, Layer::PixelShuffle { block }, &wire)
    }

    /// Nearest values, repeated; a convolution must follow.
    pub(super) fn resize(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let said = |name, default: &str| node.text(name).unwrap_or_else(|| default.to_owned());
        let mode = said("mode", "nearest");
        if mode != "nearest" {
            return Err(node.refused("mode", mode, "nearest"));
        }
        let places = said("coordinate_transformation_mode", "half_pixel");
        let rounding = said("nearest_mode", "round_prefer_floor");
        // Both repeat each value a whole number of times.
        let repeats = [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")];
        if !repeats.contains(&(places.as_str(), rounding.as_str())) {
            let found = format!("{places} with {rounding}");
            let supported = "asymmetric with floor, or half_pixel with round_prefer_floor";
            return Err(node.refused("coordinate_transformation_mode", found, supported));
        }
        if let Some(axes) = node.integers("axes").filter(|axes| **axes != [0, 1, 2, 3]) {
            return Err(node.refused("axes", format!("{axes:?}"), "none, or all in order"));
        }
        let wire = self.wire(node, 0, MAPS)?;
        self.spatial(node, &wire)?;
        let factor = self.factor(node, &wire)?;
        if factor == 1 {
            return self.set_wire(node, wire.dims.clone(), &wire);
        }
        self.set(node, Value::Repeated(wire, factor));
        Ok(())
    }

    fn factor(&self, node: Node<'_>, wire: &Wire) -> Result<u32, ImportError> {
        let given = |index: usize| -> Result<Option<Rc<Constant>>, ImportError> {
            let constant = node.input(index).map(|_| self.fixed(node, index, FACTORS)).transpose()?;
            Ok(constant.filter(|constant| constant.len() > 0))
        };
        let factors: Vec<f64> = match (given(2)?, given(3)?) {
            (Some(scales), None) => scales.floats()?.iter().map(|scale| f64::from(*scale)).collect(),
            (None, Some(sizes)) => {
                let sizes = sizes.integers().filter(|sizes| sizes.len() == 4);
                let sizes = sizes.ok_or_else(|| node.operand(FACTORS))?;
                let dims = sizes[1..].iter().zip(&wire.dims);
                std::iter::once(1.0).chain(dims.map(|(size, dim)| *size as f64 / f64::from(*dim))).collect()
            }
            _ => return Err(node.operand(FACTORS)),
        };
        let whole = |factor: &u32| factors == [1.0, 1.0, f64::from(*factor), f64::from(*factor)];
        (1..=FACTOR_MAX).find(whole).ok_or_else(|| node.operand(FACTORS))
    }

    /// A convolution of repeated values.
    pub(super) fn conv_repeated(
        &mut self,
        node: Node<'_>,
        wire: &Wire,
        factor: u32,
    ) -> Result<(), ImportError> {
        if wire.position != self.chain.position() {
            return Err(self.branch(node, 0));
        }
        let kernels = self.fixed(node, 1, KERNELS)?;
        let &[outputs, channels, height, width] = kernels.dims() else {
            return Err(node.operand(KERNELS));
        };
        let kernel = [count(node, height)?, count(node, width)?];
        let large = Wire {
            position: wire.position,
            dims: vec![
                wire.dims[0],
                wire.dims[1].saturating_mul(factor),
                wire.dims[2].saturating_mul(factor),
            ],
        };
        let window = self.window(node, kernel, &large)?;
        let parts = if window.stride == [1, 1] && channels == wire.dims[0] as usize {
            Enlargement::repeated(kernel, window.padding, factor)
        } else {
            None
        };
        let parts = parts.ok_or_else(|| node.operand(KEEPS))?;
        self.enlarge(node, wire, &parts, ([outputs, channels], &kernels), |output, channel| {
            output * channels + channel
        })
    }

    pub(super) fn conv_transposed(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("group", 1)?;
        node.demand_all("dilations", 1)?;
        node.demand_all("output_padding", 0)?;
        if let Some(mode) = node.text("auto_pad").filter(|mode| !matches!(mode.as_str(), "" | "NOTSET")) {
            return Err(node.refused("auto_pad", mode, "NOTSET"));
        }
        if node.integers("output_shape").is_some() {
            return Err(node.operand(EXACT));
        }
        let wire = self.wire(node, 0, MAPS)?;
        self.spatial(node, &wire)?;
        let kernels = self.fixed(node, 1, KERNELS)?;
        let &[channels, outputs, height, width] = kernels.dims() else {
            return Err(node.operand(KERNELS));
        };
        if channels != wire.dims[0] as usize {
            return Err(misfit(node, &wire));
        }
        let kernel = [count(node, height)?, count(node, width)?];
        let window = self.window(node, kernel, &wire)?;
        let [block, across] = window.stride;
        let parts = if block == across && block <= FACTOR_MAX {
            Enlargement::transposed(kernel, window.padding, block)
        } else {
            None
        };
        let parts = parts.ok_or_else(|| node.operand(EXACT))?;
        self.enlarge(node, &wire, &parts, ([outputs, channels], &kernels), |output, channel| {
            channel * outputs + output
        })
    }

    /// Pushes the convolution and the shuffle.
    fn enlarge(
        &mut self,
        node: Node<'_>,
        wire: &Wire,
        parts: &Enlargement,
        (sizes, kernels): ([usize; 2], &Rc<Constant>),
        place: impl Fn(usize, usize) -> usize,
    ) -> Result<(), ImportError> {
        let outputs = sizes[0];
        let conv = parts.conv(count(node, outputs)?).ok_or_else(|| misfit(node, wire))?;
        let made = self.admit(node, conv, wire)?;
        let bias = match node.input(2) {
            Some(_) => self.fixed(node, 2, BIAS)?.floats()?.to_vec(),
            None => vec![0.0; outputs],
        };
        if bias.len() != outputs {
            return Err(node.operand(BIAS));
        }
        self.chain.push_linear(conv, parts.weights(sizes, kernels.floats()?, &bias, place));
        let dims = vec![made.channels, made.height, made.width];
        let wire = Wire::new(self.chain.position(), dims).ok_or_else(|| misfit(node, wire))?;
        self.plain_map(node, parts.shuffle(), &wire)
    }

    /// A layer without weights that changes rows and columns.
    fn plain_map(&mut self, node: Node<'_>, layer: Layer, wire: &Wire) -> Result<(), ImportError> {
        let output = self.admit(node, layer, wire)?;
        self.chain.push_plain(layer, wire.shape());
        self.carried = Some(output);
        self.set_wire(node, vec![output.channels, output.height, output.width], wire)
    }
}
