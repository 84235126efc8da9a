//! Correlated transfers between the two parties: what they are, what they rest on, what they do not stop.
//!
//! # Functionality
//!
//! In each direction a sender holds one secret `delta` for the session. Each row gives the sender a fresh
//! random `q` and the receiver a fresh random bit `b` with `t = q ^ b * delta`. Both parties are sender in
//! one direction and receiver in the other, so every exchange carries both. On the rows stand
//!
//! - *bit triples*: XOR shares of random `a`, `b` and of `a & b`. The sender's two hashes `H(q)` and
//!   `H(q ^ delta)` are two random messages and the receiver has the one that `b` names. A party's share of
//!   `a` is the XOR of the lowest bits of the messages it offers, its share of `b` its own choice. Nothing is
//!   sent beside the rows.
//! - *cross terms*: additive shares of `b0 * v1 + b1 * v0` for bits and words that the parties bring. The
//!   receiver sends its bit XOR the row's choice; the sender answers by the difference of the two hashes plus
//!   its word.
//!
//! A row serves once. The hash of a row takes the row's number in the session and its direction as tweak, so
//! equal rows, which come by chance only, still give unrelated values.
//!
//! # What it rests on
//!
//! | part | assumption | source |
//! |---|---|---|
//! | base transfers | computational Diffie-Hellman in ristretto255, SHA-256 as a random oracle | Chou, Orlandi, LATINCRYPT 2015 |
//! | rows by columns | AES-128 is a pseudo-random function | Roy, CRYPTO 2022, semi-honest, `k = 2` |
//! | hash of rows | AES-128 under a public key is an ideal permutation | Guo, Katz, Wang, Yu, S&P 2020, `TMMO` |
//! | silent rows | the same, and parity with regular noise over a local code | Yang et al., CCS 2020; Guo et al., EUROCRYPT 2023 |
//!
//! The lowest bit of `delta` is 1, so that the lowest bit of a row can tell the choice: 127 bits of it are
//! secret, as in emp-ot. All is exact: there is no statistical error and none of the 2^-40 of the other parts
//! of the protocol is spent here. Base transfers on a curve do not withstand a quantum computer.
//!
//! # Parameters
//!
//! *By columns.* 128 columns in 64 groups of two. A group of `k` columns costs `2^k` streams at the receiver,
//! one less at the sender, and one correction of one bit per row: `16 / k` bytes per row. `k = 1` is the
//! protocol of Ishai, Kilian, Nissim and Petrank (CRYPTO 2003), with 16 bytes; `k = 2` computes as many
//! streams for half of the bytes, and beyond that time doubles for ever less.
//!
//! *Silent.* `n = 2,396,160` rows a batch, a secret of `k = 2^17`, `t = 1,170` noisy places, one in each run
//! of 2^11, ten places of the secret per row. These are the parameters `ferret_b11` of emp-ot
//! (`emp-ot/tuning.h`), chosen there with an estimator of the published attacks on regular noise (Gaussian
//! elimination, information-set decoding, hybrid, algebraic) for about 128 bits. We did not estimate anew.
//! Each batch pays for the next: 143,942 of its rows become the next secret and the keys of the next trees.
//! The position of a tree's noise is the choice bits of the rows that cover it, so a batch is one message of
//! `16 * 11 * t` bytes each way. Trees are expanded when their rows are needed, so memory is that of two
//! secrets, 9 MB, whatever the size of the batch.
//!
//! The assumption is younger than the others, hence [`Extension`](crate::offline::ot::Extension) is a choice.
//! Columns are for links that carry 8 bytes a row faster than a core makes rows silently, and for those who
//! would rather not rest on it. Offsets are replaced after 2^32 rows: [`review`](super::review) says why.
//!
//! # Constant time
//!
//! No branch and no address depends on `delta`, a choice or the place of noise: bits are spread into masks,
//! and a punctured tree is repaired by a pass over all of its nodes. Addresses in the code's secret depend on
//! places that are public. AES is that of the processor, or bit-sliced where it has none.
//!
//! # A peer that does not keep to the protocol
//!
//! All of this is for parties that follow the protocol and try to learn from what they see. What is refused:
//! messages of another length, at another step, and points that do not decode or are the identity. What is
//! not detected: a receiver whose corrections differ from column to column learns bits of `delta`, and with
//! all of it every bit that this party multiplies; a sender whose tree sums are wrong learns, from whether
//! results are right, bits of where the noise is; either can spoil any share. Consistency checks would close
//! the first two, but products of unauthenticated shares could still be shifted, so they alone would not give
//! more than [`threats`](super::threats) claims.
//!
//! A correlator that met an error is dropped. Its streams may be elsewhere than the peer's, and going on
//! could use a row under two messages.
//!
//! # Why own code
//!
//! The `cryprot` crates (MIT) implement the same protocols well. They pin a release candidate of `aes` that
//! cannot stand beside `aes` 0.9, or a version that was withdrawn; their connection type is a QUIC endpoint,
//! while this crate knows frames only; they block threads of a global pool while they wait for the peer, so
//! two senders in one process can wait for each other for ever; a future that is dropped leaves the object
//! without its seeds; and they panic on some of what a peer can send. Here the only wait is the exchange of a
//! frame, lengths are known before a byte is read, and every failure has a name.
