//! Nodes that move no value: flattening, shapes, constants.

use super::Lowering;
use crate::model::import::error::ImportError;
use crate::model::import::node::Node;
use crate::model::import::tensor::Constant;
use crate::model::import::value::{Extent, RANK_MAX, TailKind, Value, Wire};
use crate::model::onnx::{DOUBLE, FLOAT};
use std::rc::Rc;

const TARGET: &str = "a constant shape that keeps the batch first and the number of values";
const COMPUTED: &str = "a shape of the activation or constants";
const AXES: &str = "constant axes other than the batch, of dimensions that are 1";

impl Lowering {
    pub(super) fn flatten(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        if self.is_label(node) {
            return self.pass(node);
        }
        let wire = self.wire(node, 0, "an activation")?;
        let axis = node.integer("axis").unwrap_or(1);
        if axis != 1 && axis.saturating_add(wire.dims.len() as i64) != 0 {
            return Err(node.refused("axis", axis, "1"));
        }
        // `Wire::new` keeps the number of values within 2^20.
        let features = wire.len() as u32;
        self.set_wire(node, vec![features], &wire)
    }

    pub(super) fn reshape(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        if self.is_label(node) {
            return self.pass(node);
        }
        let wire = self.wire(node, 0, "an activation and a constant shape")?;
        let target = extents(self.value(node, 1, TARGET)?).ok_or_else(|| node.operand(TARGET))?;
        let copies = node.integer("allowzero").unwrap_or(0) == 0;
        let dims = self.reshaped(&wire, &target, copies).ok_or_else(|| node.operand(TARGET))?;
        self.set_wire(node, dims, &wire)
    }

    /// The new dimensions without the batch; `None` where the order or the batch would change.
    fn reshaped(&self, wire: &Wire, target: &[Extent], copies: bool) -> Option<Vec<u32>> {
        let (batch, rest) = target.split_first()?;
        let mut rest = rest.to_vec();
        for (index, extent) in rest.iter_mut().enumerate() {
            if *extent == Extent::Known(0) && copies {
                *extent = Extent::Known(i64::from(*wire.dims.get(index)?));
            }
        }
        let opens = |extent: &&Extent| **extent == Extent::Known(-1);
        let open = rest.iter().filter(opens).count();
        let keeps = match batch {
            Extent::Batch => true,
            Extent::Known(-1) => open == 0,
            Extent::Known(0) => copies,
            Extent::Known(size) => self.batch == Some(*size),
        };
        let mut known = 1u32;
        for extent in &rest {
            match extent {
                Extent::Known(-1) => {}
                Extent::Known(size) => known = known.checked_mul(u32::try_from(*size).ok()?)?,
                Extent::Batch => return None,
            }
        }
        let len = u32::try_from(wire.len()).ok()?;
        let missing = len.checked_div(known)?;
        let fits = keeps && open <= 1 && known.checked_mul(missing)? == len && (open == 1 || missing == 1);
        let dim = |extent: &Extent| match extent {
            Extent::Known(size) => u32::try_from(*size).unwrap_or(missing),
            Extent::Batch => missing,
        };
        fits.then(|| rest.iter().map(dim).collect())
    }

    pub(super) fn squeeze(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        if self.is_label(node) {
            return self.pass(node);
        }
        if matches!(self.value(node, 0, "an activation")?, Value::Extents(_)) {
            return self.pass(node);
        }
        let wire = self.wire(node, 0, "an activation")?;
        let axes = self.places(node, wire.dims.len() + 1)?;
        let is_dropped = |index: usize| axes.as_ref().is_none_or(|axes| axes.contains(&index));
        let fits = axes.iter().flatten().all(|axis| wire.dims[*axis] == 1);
        let kept = wire.dims.iter().enumerate().filter(|(index, dim)| **dim != 1 || !is_dropped(*index));
        let dims: Vec<u32> = kept.map(|(_, dim)| *dim).collect();
        if fits { self.set_wire(node, dims, &wire) } else { Err(node.operand(AXES)) }
    }

    pub(super) fn unsqueeze(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let value = self.value(node, 0, "an activation")?;
        // Whether a computed shape is one number or a list of one makes no difference here.
        if matches!(value, Value::Extents(_)) {
            return self.pass(node);
        }
        let wire = self.wire(node, 0, "an activation")?;
        let given = self.axes(node)?.filter(|axes| axes.len() <= RANK_MAX);
        let rank = wire.dims.len() + 1 + given.as_ref().map_or(0, Vec::len);
        let mut places = self.places(node, rank)?.ok_or_else(|| node.operand(AXES))?;
        places.sort_unstable();
        let mut dims = wire.dims.clone();
        for place in places {
            if place > dims.len() {
                return Err(node.operand(AXES));
            }
            dims.insert(place, 1);
        }
        self.set_wire(node, dims, &wire)
    }

    /// The same value under another name.
    pub(super) fn pass(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let value = self.value(node, 0, "an input")?.clone();
        self.set(node, value);
        Ok(())
    }

    pub(super) fn cast(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let to = node.integer("to").unwrap_or(0);
        let is_wire = matches!(self.value(node, 0, "an input")?, Value::Wire(_) | Value::Repeated(..));
        if is_wire && ![i64::from(FLOAT), i64::from(DOUBLE)].contains(&to) {
            return Err(node.refused("to", to, "1 (float32) or 11 (double)"));
        }
        self.pass(node)
    }

    /// Does nothing outside training.
    pub(super) fn dropout(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        if node.input(2).is_some() {
            let training = self.fixed(node, 2, "a constant training mode")?.scalar();
            if training != Some(0.0) {
                return Err(node.refused("training_mode", "true", "false; export in evaluation mode"));
            }
        }
        self.pass(node)
    }

    pub(super) fn constant(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let name = node.output(0).unwrap_or_default();
        let constant = if let Some(tensor) = node.attribute("value").and_then(|value| value.tensor.as_ref()) {
            Constant::from_message(tensor.clone(), name)?
        } else if let Some(value) = node.integer("value_int") {
            Constant::of_integers(name, vec![value])
        } else if let Some(values) = node.integers("value_ints") {
            Constant::of_integers(name, values.to_vec())
        } else if let Some(value) = node.attribute("value_float") {
            Constant::of_floats(name, &[value.float])?
        } else if let Some(values) = node.attribute("value_floats") {
            Constant::of_floats(name, &values.floats)?
        } else {
            return Err(node.operand("a value that is a tensor or numbers"));
        };
        self.set(node, Value::Constant(Rc::new(constant)));
        Ok(())
    }

    pub(super) fn transpose(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        const MATRIX: &str = "a constant matrix whose rows and columns it exchanges";
        let constant = self.fixed(node, 0, MATRIX)?;
        if node.integers("perm").is_some_and(|perm| perm != [1, 0]) {
            return Err(node.operand(MATRIX));
        }
        self.spend(node, constant.len())?;
        let turned = constant.transposed().ok_or_else(|| node.operand(MATRIX))?;
        self.set(node, Value::Constant(Rc::new(turned)));
        Ok(())
    }

    pub(super) fn shape(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("start", 0)?;
        if let Some(end) = node.integer("end") {
            return Err(node.refused("end", end, "the whole shape"));
        }
        let Value::Wire(wire) = self.value(node, 0, "an activation")? else {
            return Err(node.operand("an activation"));
        };
        let known = wire.dims.iter().map(|dim| Extent::Known(i64::from(*dim)));
        let list = std::iter::once(Extent::Batch).chain(known).collect();
        self.set(node, Value::Extents(list));
        Ok(())
    }

    /// Picks entries of a computed shape.
    pub(super) fn gather(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("axis", 0)?;
        let list = match self.value(node, 0, COMPUTED)? {
            Value::Extents(list) => list.clone(),
            _ => return Err(node.operand(COMPUTED)),
        };
        let indices = self.fixed(node, 1, COMPUTED)?;
        let indices = indices.integers().filter(|indices| indices.len() <= RANK_MAX);
        let pick = |index: &i64| {
            let index = if *index < 0 { index.checked_add(list.len() as i64)? } else { *index };
            list.get(usize::try_from(index).ok()?).copied()
        };
        let picked: Option<Vec<Extent>> = indices.and_then(|indices| indices.iter().map(pick).collect());
        self.set(node, Value::Extents(picked.ok_or_else(|| node.operand(COMPUTED))?));
        Ok(())
    }

    /// Joins computed shapes, or the probabilities of two classes.
    pub(super) fn concat(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let mut joined = Vec::new();
        for index in 0..node.input_count() {
            let value = self.value(node, index, COMPUTED)?;
            match value {
                Value::Tail(_) => return self.probabilities(node),
                Value::Wire(_) => return Err(self.branch(node, index)),
                other => joined.extend(extents(other).ok_or_else(|| node.operand(COMPUTED))?),
            }
            if joined.len() > RANK_MAX {
                return Err(node.operand(COMPUTED));
            }
        }
        self.set(node, Value::Extents(joined));
        Ok(())
    }

    /// Axes as attribute or as constant input, as given.
    pub(super) fn axes(&self, node: Node<'_>) -> Result<Option<Vec<i64>>, ImportError> {
        if let Some(axes) = node.integers("axes") {
            return Ok(Some(axes.to_vec()));
        }
        if node.input(1).is_none() {
            return Ok(None);
        }
        let constant = self.fixed(node, 1, AXES)?;
        Ok(Some(constant.integers().ok_or_else(|| node.operand(AXES))?.to_vec()))
    }

    /// Axes as positions after the batch; `rank` counts the batch.
    fn places(&self, node: Node<'_>, rank: usize) -> Result<Option<Vec<usize>>, ImportError> {
        let place = |axis: &i64| {
            let axis = if *axis < 0 { axis.checked_add(rank as i64)? } else { *axis };
            usize::try_from(axis).ok()?.checked_sub(1).filter(|place| place + 1 < rank)
        };
        let Some(axes) = self.axes(node)? else { return Ok(None) };
        let places: Option<Vec<usize>> = axes.iter().map(place).collect();
        Ok(Some(places.ok_or_else(|| node.operand(AXES))?))
    }

    fn is_label(&self, node: Node<'_>) -> bool {
        let value = node.input(0).and_then(|name| self.values.get(name));
        matches!(value, Some(Value::Tail(tail)) if tail.kind == TailKind::Label)
    }
}

/// A short list of integers as a shape.
fn extents(value: &Value) -> Option<Vec<Extent>> {
    match value {
        Value::Extents(list) => Some(list.clone()),
        Value::Constant(constant) => {
            let list = constant.integers().filter(|list| list.len() <= RANK_MAX)?;
            Some(list.iter().map(|value| Extent::Known(*value)).collect())
        }
        Value::Wire(_) | Value::Repeated(..) | Value::Tail(_) => None,
    }
}
