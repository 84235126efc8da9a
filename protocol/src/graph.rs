//! What a model computes, apart from its weights, and what that costs two parties.

mod network;
mod plan;
mod program;
mod taps;

pub use network::{LAYERS_MAX, Layer, Network, NetworkError, PARAMETERS_MAX, Shape, WIRE_VALUES_MAX, Window};
pub use plan::{Cost, MODELS_MAX, Plan, PlanError, ReleaseShape, Threshold};
pub use program::{BATCH_VALUES_MAX, CLASSES_MAX, Numbers, Op, Program, ProgramError, ordered_layers};
pub use taps::for_each_tap;
