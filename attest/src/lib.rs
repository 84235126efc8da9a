//! Where release noise comes from and what vouches for it.
//!
//! In the words of RFC 9334: an *attester* (the module that draws the noise) produces *evidence* about
//! itself, a *verifier* appraises the evidence against a policy, and a *relying party* (here each of the two
//! compute parties) acts on the result. *Endorsers* (AMD, Intel, AWS, the maker of a TPM) vouch for the hardware;
//! the *reference values* are the measurements in the policy. In the background-check model the relying party takes
//! the evidence to the verifier; ours is a library in each daemon, so that nobody's verdict is taken on trust.
//!
//! - [`verify`] appraises evidence of the kinds of [`EvidenceKind`], offline, at a time and with vendor data that
//!   the caller supplies. A [`Policy`] accepts nothing by default, and each [`Refusal`] has its own reason. A
//!   [`VerifiedModule`] comes out of it and from nowhere else.
//! - With the [`SoftwareNoise`] source each compute party draws a *full* share of noise for every class and
//!   adds it to its own share of the counts. Each honest party alone then gives the promised privacy against
//!   everybody, the other party included; the price is the noise of both, √2 times the deviation. Drawing
//!   half each is not offered: a party could subtract its own half, and what is left would protect less than
//!   promised.
//! - The attested [`module`] draws once, unknown to both parties, and gives each one additive share; so it
//!   saves the factor √2. It is worth utility, not privacy. [`noise_client`] is a compute party's side of it,
//!   [`Binding`] is what its evidence must be about, [`tickets`] hold its shares until a release, and [`choice`]
//!   says whether software noise may step in while the module is away.
//!
//! Both choices fail closed: a task whose policy does not allow software noise by name gets an error, not
//! noise, and a release without noise happens only where the task's mechanism is
//! [`Mechanism::Exact`](consilium_protocol::privacy::Mechanism::Exact). Every result states its
//! [`Provenance`].

mod draw;
mod share;
pub mod choice;
mod fallback;
mod binding;
mod source;
mod hex;
mod refusal;
mod evidence;
pub mod policy;
mod verified;
pub mod verifier;
pub mod module;
pub mod noise_client;
pub mod tickets;

pub use binding::{Binding, EvidenceKind, VERIFIER_BYTES_MAX};
pub use evidence::{Collateral, ENDORSEMENTS_MAX, EVIDENCE_BYTES_MAX, Evidence};
pub use fallback::{NoiseError, SoftwareNoise};
pub use hex::{Hex, HexError};
pub use policy::Policy;
pub use refusal::Refusal;
pub use share::{CLASSES_MAX, NoiseShare};
pub use source::{NoiseSource, Provenance};
pub use verified::{Appraised, Expected, VerifiedModule};
pub use verifier::verify;
