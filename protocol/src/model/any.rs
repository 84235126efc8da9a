//! A model of any kind of task.

use super::fixed::{FixedError, FixedWeights, encode, encode_one_class, prove_bounds, prove_one_class};
use super::{Model, OneClass};
use crate::graph::{Architecture, Numbers, OneClassShape};

/// What an owner has trained.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyModel {
    /// A classifier, which votes.
    Classifier(Model),
    /// A distance with its threshold.
    OneClass(OneClass),
}

impl From<Model> for AnyModel {
    fn from(model: Model) -> Self {
        Self::Classifier(model)
    }
}

impl From<OneClass> for AnyModel {
    fn from(model: OneClass) -> Self {
        Self::OneClass(model)
    }
}

impl AnyModel {
    /// The public part.
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Classifier(model) => model.network().clone().into(),
            Self::OneClass(model) => model.measure().into(),
        }
    }

    /// Weights in fixed point, proved to keep every value of an input with magnitudes up to `input_abs_max` within
    /// the bounds of the task: `value_bits` of its numbers, and `distance_bits` for a distance.
    ///
    /// # Errors
    /// What does not fit.
    pub fn proved(
        &self,
        numbers: Numbers,
        distance_bits: u32,
        input_abs_max: f64,
    ) -> Result<Vec<FixedWeights>, FixedError> {
        match self {
            Self::Classifier(model) => {
                prove_bounds(model, numbers, input_abs_max)?;
                encode(model, numbers)
            }
            Self::OneClass(model) => {
                let shape = OneClassShape { input: model.measure().input(), numbers, distance_bits };
                prove_one_class(model, shape, input_abs_max)?;
                encode_one_class(model, shape)
            }
        }
    }
}
