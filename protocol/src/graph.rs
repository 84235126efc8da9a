//! What a model computes, apart from its weights.

mod network;

pub use network::{Layer, Network, NetworkError, Shape, Window};
