//! What a name in the graph stands for while the graph is read.

use super::error::NodeName;
use super::tensor::Constant;
use crate::graph::{Shape, WIRE_VALUES_MAX};
use std::rc::Rc;

/// Most dimensions of an activation without the batch, and entries of a computed shape.
pub(super) const RANK_MAX: usize = 8;

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Value {
    /// Values that the chain of layers carries.
    Wire(Wire),
    /// Values of the chain, each repeated so often along rows and columns.
    Repeated(Wire, u32),
    /// An initializer or something computed from initializers.
    Constant(Rc<Constant>),
    /// A shape that is computed from the activation's own.
    Extents(Vec<Extent>),
    /// A result of the last layer that no layer may follow.
    Tail(Tail),
}

/// Activations of one query.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wire {
    /// How far the chain had grown when it carried these values.
    pub(super) position: usize,
    /// Dimensions without the batch.
    pub(super) dims: Vec<u32>,
}

/// One entry of a computed shape.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The batch, whatever its size.
    Batch,
    /// A number.
    Known(i64),
}

/// A result of the last layer.
#[derive(Clone)]
pub(super) struct Tail {
    pub(super) position: usize,
    pub(super) kind: TailKind,
    /// The node that made it.
    pub(super) node: NodeName,
}

/// Which result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TailKind {
    /// One value per class that grows with its logit.
    Scores,
    /// Probability of the second of two classes.
    Probability,
    /// Probability of the first of two classes.
    Complement,
    /// The class.
    Label,
}

impl Wire {
    /// `None` where there are no values, or too many.
    pub(super) fn new(position: usize, dims: Vec<u32>) -> Option<Self> {
        let wire = Self { position, dims };
        let fits = wire.dims.len() <= RANK_MAX && (1..=WIRE_VALUES_MAX).contains(&wire.len());
        fits.then_some(wire)
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().fold(1usize, |len, dim| len.saturating_mul(*dim as usize))
    }

    /// Channels, rows and columns; any other number of dimensions is taken as a plain vector.
    pub(super) fn shape(&self) -> Shape {
        match self.dims.as_slice() {
            [channels, height, width] => Shape { channels: *channels, height: *height, width: *width },
            // The limit in `new` keeps this within 2^20.
            _ => Shape::vector(self.len() as u32),
        }
    }

    /// The dimensions as errors print them.
    pub(super) fn shown(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        dims.join("x")
    }
}
