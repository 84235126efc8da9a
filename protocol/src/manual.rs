//! Why the protocol is as it is: text only, no code.
//!
//! | chapter | what it argues |
//! |---|---|
//! | [`threats`] | who is trusted with what, and what is not protected |
//! | [`leakage`] | what each message reveals, gate by gate, and why masks are used at most once |
//! | [`attestation`] | noise from a module: what it buys, what vouches for it, what physical access breaks |
//! | [`lattice`] | products under lattice encryption: assumption, parameters, noise |
//! | [`homomorphic`] | networks under one client's key: assumption, parameters, noise, what an answer tells |
//! | [`numbers`] | fixed point, bounds, rounding, ties |
//! | [`keys`] | comparison keys: why they hide, what they cost, what misbehaviour does |
//! | [`transfer`] | correlated transfers between the parties: assumptions, parameters, limits |
//! | [`pairwise`] | how two parties make a bundle, and what each gate costs them |
//! | [`membership`] | what confidences, counts and noisy labels tell about who was trained on, measured |
//! | [`formats`] | bytes on the wire and on the disk, order of a bundle, security parameters |
//! | [`review`] | each sub-protocol for a reviewer: function, assumption, parameters, error, source, limits |
//!
//! Where this text and the code differ, the code is what runs and the text is a bug.

pub mod attestation;
pub mod formats;
pub mod homomorphic;
pub mod keys;
pub mod lattice;
pub mod leakage;
pub mod membership;
pub mod numbers;
pub mod pairwise;
pub mod review;
pub mod threats;
pub mod transfer;
