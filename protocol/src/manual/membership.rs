//! Membership inference: what each signal tells about who was trained on, measured.
//!
//! # The experiment
//!
//! One owner, the victim, is trained 32 times, each time on a random half of a pool of records, in pairs that
//! complement each other; the other owners stay fixed, trained on records of their own. Each record of the
//! pool is asked about with its own features. From what it sees an attacker says in which versions the record
//! was trained on: by one threshold for all records (*threshold*, *gap*), or by a likelihood ratio for each
//! record, fitted on the other versions (*LiRA* for numbers, *ratio* for labels; Carlini et al. 2022).
//! The attacker thereby knows everything but the record's membership: the pool, the training, and how
//! the victim would answer with and without the record.
//!
//! Votes are those of [`clear`](crate::evaluate::clear), the fixed point of the protocol; noise is drawn by the
//! sources of the product. *Advantage* is the largest difference of true and false positive rate; TPR is the
//! true positive rate at 1 % false positives. A bound is what the promise allows any attack: `tanh(R ε / 2)`
//! for R labels of pure ε; for a Gaussian the least that its zCDP curve and its divergence allow.
//!
//! PLACEHOLDER
