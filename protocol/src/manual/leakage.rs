//! What each message reveals, and why.
//!
//! The argument has one form throughout: whatever a party receives is either uniform given everything it
//! already has, or the released label. So its view can be made up from its own shares, which are uniform
//! themselves. *Uniform* below means: up to the pseudorandomness of what seeds expand to.
//!
//! # Before a query
//!
//! *Shares of models and inputs.* Zero gets a seed, One gets the value minus its expansion
//! ([`crate::share::Additive::complement`]). Each alone is uniform if the seed is fresh. A client derives
//! the seed of a question from a signature over the task's terms, the release's name and the hash of the
//! input: the same question is the same bytes, and two inputs never stand under one seed.
//!
//! *Opened weights.* Registration opens `W - A`. `A` is the sum of expansions of two seeds, of which each
//! party holds one, drawn by the dealer for this registration alone. Each party records durably which opening
//! of a model it made before it sends it, and sends only these bytes again. Each binds a mask to the first
//! model that names it, for ever, so that an owner cannot have its own weights opened under another's mask. A new version of a
//! model has a new mask. Biases are never opened.
//!
//! *Bundles.* Zero gets a seed, One a seed and corrections. A correction is a value minus words that only
//! Zero and the dealer can expand, hence uniform to One. Both get the correction words of comparison keys,
//! if the plan has any ([`keys`](super::keys)).
//!
//! # Openings of the online phase
//!
//! | gate | opened | why it is uniform |
//! |---|---|---|
//! | [`linear`](crate::online::linear), [`square`](crate::online::square) | `x - m` mod 2^64 | `m` uniform, used as a mask once |
//! | [`masked`](crate::online::masked) | `y + 2^v + r` mod 2^ring | `r` uniform in this ring; the bits that fill the last byte come from words masked in the full ring |
//! | comparison, conjunction | bits XOR mask bits | each mask bit uniform and used once |
//! | rectify, vote | one bit XOR `b` | `b` uniform and used once |
//! | [`indicator`](crate::online::indicator) | `n + m` mod 2^k | `m` uniform, used once |
//!
//! One opening may serve several purposes, since it is the opened value that is used again, not the mask:
//! the input under its one mask multiplies every model's first layer; `y` under `r` gives the truncated
//! value and the sign. Both parties know the opened value and hold shares of functions of the mask. A
//! party's own share of a mask says nothing about the mask, as the other's share is uniform to it.
//!
//! Digits of `r` come as shared one-time tables (*thermometers*), read at a position that the opened value
//! makes public. One entry of a table, or two neighbours, are used as shares and never opened by
//! themselves: what is opened is their XOR with a fresh mask.
//!
//! Comparison keys make shares of all that a gate wants of one opening, and nothing else is opened for it. Why a
//! key hides the mask that it compares with is the subject of [`keys`](super::keys).
//!
//! # The rounding leak
//!
//! Truncation computes `floor(y / 2^s) + c`. The carry `c` is 1 exactly if the low bits of `y` (with its
//! offset) and of `r` add up to at least 2^s. So the output is not a function of `y` and independent coins
//! alone: it depends on the mask that also hides the opening. Li et al. (USENIX Security 2023) show that a
//! functionality with an independent coin is then not realised. We therefore take as functionality the one
//! that gives out the opened value and computes `c` from it, and obey a rule: *no truncated value is ever
//! opened*. It stays under sharing, and the next opening has a fresh mask. What `c` does to a label is the
//! subject of [`numbers`](super::numbers): it can decide near ties, which is why only the noisy label, and
//! never a logit or a count, is released.
//!
//! # Votes and the release
//!
//! A vote is additive shares of a one-hot vector; counts are local sums; noise is added locally. The noisy
//! winner has XOR shares of one bit per class but the last. Each party sends its share to the client.
//!
//! The two shares together are `(s, s XOR w)` for the winner `w`. They reveal `w` and nothing else, because
//! `s` is uniform and independent of the rest of what a client may know:
//!
//! - two classes: the sign's last step is an XOR with the share of a top bit of `r`, dealt for this
//!   comparison alone and opened never;
//! - more classes: the last conjunction contains, with coefficient 1, the share of the product of all its
//!   masks, again dealt for this alone;
//! - by keys: the share has as a term one of a top bit of `r`, or is an entry of a shared table; either is dealt
//!   for this alone.
//!
//! Bits beyond the last class and columns of a batch that nobody asked for are cut away before sending. A
//! client that colludes with one party gets what it would compute itself: the label XOR that party's share.
//!
//! # At most once
//!
//! Two openings under one mask reveal the difference of what they hide. Five things keep a bundle from
//! serving twice:
//!
//! 1. A [`Tape`](crate::stock::Tape) and a [`Provision`](crate::stock::Provision) cannot be cloned, and taking
//!    an entry moves it. A computation that ends early drops what it took.
//! 2. Bundles belong to a pool whose name hashes fresh randomness of *both* parties and the plan. Both keep
//!    it on their disks, and go on with it only if its models, their masks and the plan are still the same.
//! 3. Zero's ledger holds the serial durably before it proposes it, One's before it consents, and no byte
//!    that depends on the bundle precedes that. A ledger refuses serials of a pool that are not above those
//!    it has seen. An abort never gives a serial back.
//! 4. When the parties meet again, both raise their marks to the higher of the two before anything is used. A
//!    party that was restored from an old disk is noticed by its ledger, and loses its pools on both sides.
//!    Both restored to the same moment cannot be told from two that never went on.
//! 5. The dealer derives bundles from a secret of its process, the pool and the serial. Both halves of a batch
//!    must come from the same run.
//!
//! # Retries
//!
//! A release has a name. Both parties hash what the client sent them and keep the hash with the name.
//!
//! | the ledger knows the name as | same content | other content |
//! |---|---|---|
//! | not at all | reserved, charged, computed | the same |
//! | reserved | refused while it runs | refused |
//! | committed | the stored share, no charge | refused |
//! | dead, kept or refunded | refused; ask under a new name | refused |
//!
//! Giving the stored share again reveals nothing new, as it is the same bytes. Computing again would: fresh
//! noise on the same counts is a second release. A reservation found open at a restart is dead and stays
//! spent, since nobody can tell how far it went. A refund needs the certainty that neither party computed
//! anything; where only one side knows, the charge stays.
