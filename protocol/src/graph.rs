//! What a model computes, apart from its weights, and what that costs two parties.

mod architecture;
mod measure;
mod network;
mod plan;
mod program;
mod taps;

pub use architecture::Architecture;
pub use measure::{Measure, MeasureError, RANK_MAX, USERS_MAX};
pub use network::{
    LAYERS_MAX, Layer, Network, NetworkError, PARAMETERS_MAX, SLOPE_RUN_MAX, Shape, Slope, WIRE_VALUES_MAX,
    Window,
};
pub use plan::{Closing, Cost, MODELS_MAX, OneClassShape, Plan, PlanError, ReleaseShape, Threshold};
pub use program::{BATCH_VALUES_MAX, CLASSES_MAX, Numbers, Op, Program, ProgramError, ordered_layers};
pub use taps::for_each_tap;
