//! The sampling module: draws noise that neither compute party knows and gives each one share of it.
//!
//! What happens, in order:
//! 1. Each compute party opens a Noise XX channel to the module, through a host that only carries bytes, and
//!    says who it is by a signature of its identity key over the handshake.
//! 2. Each asks for evidence with a nonce of its own. The evidence binds the channel's key, so that nobody in
//!    between can be the module, and the party's peer id, so that it convinces nobody else.
//! 3. Both parties sign one [`Specification`](specification::Specification) and each sends it. The module
//!    waits for both: one party alone gets nothing, different requests under one number get nothing, and a
//!    number is used once in a boot.
//! 4. The module draws with the [`Sampler`](consilium_protocol::privacy::Sampler) of the software source,
//!    splits the draws into two additive shares over Z_2^64, sends each party its own, and a receipt to both.
//!
//! The [`engine`] and its sessions are state machines without input or output; [`serve`] adds threads and
//! streams, [`attester`] the interfaces of kernels, and [`command`] the command line.
//!
//! The module has no configuration, no files and no network, and nothing survives it. It does not know what time
//! it is; it only measures how long a peer takes. Keys, seeds, draws and shares are wiped after use. Not wiped
//! are the session keys inside the Noise library and its cipher, which offer no way to: they cannot open what an
//! earlier channel carried, but those of an open channel stand in memory.
//!
//! Shares stand in the receipt as salted commitments. A plain hash would betray the noise: a party that knows
//! its own share and the law of the noise could try all likely values of the other's.
//!
//! The module could also deal correlated randomness. It does not: a broken noise module costs noise, but a
//! broken dealer that colludes with one party costs the inputs.

pub mod attester;
pub(crate) mod bytes;
pub(crate) mod channel;
pub mod command;
pub mod engine;
pub mod first_process;
pub mod frame;
pub(crate) mod message;
pub mod receipt;
pub(crate) mod rendezvous;
pub mod serve;
pub(crate) mod session;
pub mod signature;
pub mod specification;
#[cfg(test)]
pub(crate) mod trial;

pub use bytes::DecodeError;
pub use channel::ChannelError;
pub use message::Refusal;
pub use session::SessionError;
