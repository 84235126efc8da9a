//! Two-party evaluation of shared models, its preprocessing and its private release.
//!
//! The modules stand in dependency order: each uses only earlier ones.
//!
//! | module | what it is |
//! |---|---|
//! | [`algebra`] | the ring, fixed point, packed bits, seeds, kernels of linear layers |
//! | [`share`] | additive shares |
//! | [`misbehaviour`] | every way in which a peer can break the protocol |
//! | [`wire`] | frames and what is opened in them |
//! | [`party`] | the two seats |
//! | [`stock`] | correlated randomness: demanded, held, used at most once |
//! | [`context`] | what a gate may use; lanes in lock step over one link |
//! | [`lattice`] | products of two parties' tensors under lattice encryption |
//! | [`offline`] | sources of correlated randomness |
//! | [`online`] | gates, each with a card: computes, learns, consumes, costs, source |
//! | [`graph`] | networks and the plan: gates, rounds and bytes before the first message |
//! | [`model`] | weights: imported, encoded, proved within bounds |
//! | [`evaluate`] | the plan under sharing, in the clear and in floating point |
//! | [`homomorphic`] | squares and linear layers under one client's key |
//! | [`privacy`] | noise and the account of what it costs |
//! | `testing` | both parties in one process (feature `testing`) |
//! | [`manual`] | the arguments behind all of it |
//!
//! Nothing here knows a runtime, a socket, a file, a clock or the environment.

pub mod algebra;
pub mod share;
pub mod misbehaviour;
pub mod wire;
pub mod party;
pub mod stock;
pub mod context;
pub mod lattice;
pub mod offline;
pub mod online;
pub mod graph;
pub mod model;
pub mod evaluate;
pub mod homomorphic;
pub mod privacy;
#[cfg(feature = "testing")]
pub mod testing;
pub mod manual;
