//! Where release noise comes from and what vouches for it.
//!
//! In the words of RFC 9334: an *attester* (the module that draws the noise) produces *evidence* about
//! itself, a *verifier* appraises the evidence against a policy, and a *relying party* (here each of the two
//! compute parties) acts on the result. In the background-check model the relying party takes the evidence
//! to the verifier; ours is meant to be a library in each daemon, so that nobody's verdict is taken on trust.
//!
//! Two sources of noise exist, and a task's signed policy says which may be used:
//!
//! - With the [`SoftwareNoise`] source each compute party draws a *full* share of noise for every class and
//!   adds it to its own share of the counts. Each honest party alone then gives the promised privacy against
//!   everybody, the other party included; the price is the noise of both, √2 times the deviation. Drawing
//!   half each is not offered: a party could subtract its own half, and what is left would protect less than
//!   promised.
//! - The attested [`module`] draws once, unknown to both parties, and gives each one additive share; so it
//!   saves the factor √2. It is worth utility, not privacy. [`noise_client`] is a compute party's side of it,
//!   [`binding`] is what its evidence must be about, [`tickets`] hold its shares until a release, and [`choice`]
//!   says whether software noise may step in while the module is away.
//!
//! Both choices fail closed: a task whose policy does not allow software noise by name gets an error, not
//! noise, and a release without noise happens only where the task's mechanism is
//! [`Mechanism::Exact`](consilium_protocol::privacy::Mechanism::Exact). Every result states its
//! [`Provenance`].

pub mod binding;
pub mod evidence;
mod draw;
mod fallback;
mod share;
mod source;
pub mod module;
pub mod noise_client;
pub mod tickets;
pub mod choice;

pub use fallback::{NoiseError, NoisePolicy, SoftwareNoise};
pub use share::{CLASSES_MAX, NoiseShare};
pub use source::{NoiseSource, Provenance};
