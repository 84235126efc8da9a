//! Sliding windows: of convolutions and of pooling.

use super::Lowering;
use crate::graph::{Layer, Window};
use crate::model::import::error::ImportError;
use crate::model::import::node::Node;
use crate::model::import::value::Wire;

const MAPS: &str = "an activation of a batch, channels, rows and columns";

impl Lowering {
    /// The window that the attributes describe; `kernel` is what the weights say.
    pub(super) fn window(
        &self,
        node: Node<'_>,
        kernel: [u32; 2],
        wire: &Wire,
    ) -> Result<Window, ImportError> {
        if let Some(said) = node.integers("kernel_shape")
            && said != kernel.map(i64::from)
        {
            return Err(node.refused("kernel_shape", format!("{said:?}"), "the shape of the kernels"));
        }
        let stride = match node.integers("strides") {
            None => [1, 1],
            Some(list) => {
                pair(list).ok_or_else(|| node.refused("strides", listed(list), "two numbers above 0"))?
            }
        };
        let padding = match node.text("auto_pad").as_deref() {
            None | Some("NOTSET" | "") => match node.integers("pads") {
                None => [0; 4],
                Some(list) => pads(list).ok_or_else(|| node.refused("pads", listed(list), "four numbers"))?,
            },
            Some("VALID") => [0; 4],
            Some("SAME_UPPER") => same(kernel, stride, wire, true),
            Some("SAME_LOWER") => same(kernel, stride, wire, false),
            Some(other) => {
                return Err(node.refused("auto_pad", other, "NOTSET, VALID, SAME_UPPER or SAME_LOWER"));
            }
        };
        Ok(Window { kernel, stride, padding })
    }

    pub(super) fn pool(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("ceil_mode", 0)?;
        node.demand("storage_order", 0)?;
        node.demand_all("dilations", 1)?;
        if node.output(1).is_some() {
            return Err(node.operand("no second output; indices of the largest values are not supported"));
        }
        let wire = self.wire(node, 0, MAPS)?;
        self.spatial(node, &wire)?;
        let list = node.integers("kernel_shape").unwrap_or_default();
        let kernel =
            pair(list).ok_or_else(|| node.refused("kernel_shape", listed(list), "two numbers above 0"))?;
        let window = self.window(node, kernel, &wire)?;
        if window.padding != [0; 4] {
            return Err(node.refused("pads", format!("{:?}", window.padding), "no padding"));
        }
        let is_max = node.operator() == Some("MaxPool");
        let layer = if is_max { Layer::MaxPool { window } } else { Layer::AveragePool { window } };
        self.pooled(node, layer, &wire, true)
    }

    pub(super) fn global_pool(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let wire = self.wire(node, 0, MAPS)?;
        self.global_mean(node, &wire, true)
    }

    /// Global average pooling as the newer PyTorch exporter writes it.
    pub(super) fn mean(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let wire = self.wire(node, 0, MAPS)?;
        let keeps = node.integer("keepdims").unwrap_or(1) != 0;
        let given = self.axes(node)?.unwrap_or_default();
        let rank = wire.dims.len() as i64 + 1;
        let mut axes: Vec<i64> =
            given.iter().map(|axis| if *axis < 0 { axis.saturating_add(rank) } else { *axis }).collect();
        axes.sort_unstable();
        if rank != 4 || axes != [2, 3] {
            return Err(node.refused("axes", listed(&given), "the mean over rows and columns, [2, 3]"));
        }
        self.global_mean(node, &wire, keeps)
    }

    fn global_mean(&mut self, node: Node<'_>, wire: &Wire, keeps: bool) -> Result<(), ImportError> {
        self.spatial(node, wire)?;
        let kernel = [wire.dims[1], wire.dims[2]];
        let window = Window { kernel, stride: kernel, padding: [0; 4] };
        self.pooled(node, Layer::AveragePool { window }, wire, keeps)
    }

    fn pooled(&mut self, node: Node<'_>, layer: Layer, wire: &Wire, keeps: bool) -> Result<(), ImportError> {
        // Windows of one value would cost a layer and change nothing.
        if let Layer::MaxPool { window } | Layer::AveragePool { window } = layer
            && window == Window::plain(1, 1)
        {
            return self.set_wire(node, if keeps { wire.dims.clone() } else { vec![wire.dims[0]] }, wire);
        }
        let output = self.admit(node, layer, wire)?;
        self.chain.push_plain(layer, wire.shape());
        self.carried = Some(output);
        let dims =
            if keeps { vec![output.channels, output.height, output.width] } else { vec![output.channels] };
        self.set_wire(node, dims, wire)
    }
}

fn listed(list: &[i64]) -> String {
    let shown = &list[..list.len().min(8)];
    format!("{shown:?}")
}

fn pair(list: &[i64]) -> Option<[u32; 2]> {
    let &[first, second] = list else { return None };
    let positive = |value: i64| u32::try_from(value).ok().filter(|value| *value > 0);
    Some([positive(first)?, positive(second)?])
}

/// ONNX has the order of [`Window::padding`].
fn pads(list: &[i64]) -> Option<[u32; 4]> {
    let &[top, left, bottom, right] = list else { return None };
    let pad = |value: i64| u32::try_from(value).ok();
    Some([pad(top)?, pad(left)?, pad(bottom)?, pad(right)?])
}

/// Padding that makes as many windows as strides fit into the input; an odd zero goes to the upper
/// (last) or the lower (first) side.
fn same(kernel: [u32; 2], stride: [u32; 2], wire: &Wire, is_upper: bool) -> [u32; 4] {
    let [top_bottom, left_right] = [0, 1].map(|axis| {
        let size = wire.dims[axis + 1];
        let reach = u64::from((size - 1) / stride[axis]) * u64::from(stride[axis]) + u64::from(kernel[axis]);
        // A pad as large as the kernel is refused later, so cutting it off here changes nothing.
        let total = u32::try_from(reach.saturating_sub(u64::from(size))).unwrap_or(u32::MAX);
        let (less, more) = (total / 2, total.div_ceil(2));
        if is_upper { (less, more) } else { (more, less) }
    });
    [top_bottom.0, left_right.0, top_bottom.1, left_right.1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(height: u32, width: u32) -> Wire {
        Wire::new(0, vec![1, height, width]).unwrap()
    }

    #[test]
    fn same_padding_follows_the_standard() {
        assert_eq!(same([3, 3], [1, 1], &wire(8, 8), true), [1, 1, 1, 1]);
        assert_eq!(same([3, 2], [2, 1], &wire(8, 8), true), [0, 0, 1, 1]);
        assert_eq!(same([3, 2], [2, 1], &wire(8, 8), false), [1, 1, 0, 0]);
        assert_eq!(same([1, 1], [2, 2], &wire(8, 7), true), [0; 4]);
    }

    #[test]
    fn numbers_below_the_least_are_refused() {
        assert_eq!(pair(&[1, 0]), None);
        assert_eq!(pair(&[1, 1 << 40]), None);
        assert_eq!(pads(&[0, 0, -1, 0]), None);
        assert_eq!(pair(&[2, 3]), Some([2, 3]));
    }
}
