//! Fixed point, bounds, rounding and ties.
//!
//! # Words
//!
//! A value is a word of Z_2^64 in two's complement. Inputs, weights and activations stand at `f` fraction
//! bits ([`Numbers::fraction_bits`](crate::graph::Numbers), 16 by default), products and biases at `2 f`. An
//! average is a sum whose scale rises by the binary logarithm of the window's area, rounded up; the remaining
//! factor goes into the next weights. Encoding rounds to nearest.
//!
//! # The public bound
//!
//! Every value on every wire is below `2^value_bits` in magnitude; with `f` bits after the point its word is
//! below `2^(value_bits + f)`. The bound belongs to the task. It is never derived from weights at run time,
//! since the width of a comparison would show it.
//!
//! - The owner's side proves it: [`prove_bounds`](crate::model::fixed::prove_bounds) runs interval arithmetic
//!   over the encoded weights and all inputs up to the task's `input_abs_max`, carries of truncation included,
//!   and refuses to publish where some wire could pass.
//! - The client's side refuses inputs above `input_abs_max`.
//! - Neither binds a liar: see [`threats`](super::threats).
//!
//! With `f = 16` and `value_bits = 12` a product has 44 bits and a sign, is opened modulo 2^46, and a ReLU after
//! it compares 28 bits: the low 16 are dropped first. The compiler wants
//! at least two more bits of the ring free above what a gate needs ([`Program`](crate::graph::Program)); the
//! roster wants `2 f + value_bits + 2` to be at most 62.
//!
//! # Truncation is wrong by at most one unit
//!
//! Let `-2^v <= y < 2^v` and `r` be uniform modulo `M = 2^(v+2)`. Opened is `z = (y + 2^v + r) mod M`, where
//! `y + 2^v` is in `0 .. M/2`. If `r < M/2` the sum does not wrap. If `r >= M/2` it wraps exactly if the top bit
//! of `z` is 0. So the wrap is `msb(r) (1 - msb(z))`, linear in a shared bit, and
//!
//! ```text
//! t = (z >> s) - (r >> s) + 2^(v+2-s) msb(r) (1 - msb(z)) - 2^(v-s)
//! ```
//!
//! is `floor(y / 2^s) + c` with `c` in {0, 1}. There is no failure probability, in contrast to local
//! truncation of two shares, which errs by 2^(64-s) with probability about `|y| / 2^64`.
//!
//! The sign is bit `v - s` of `(z >> s) - (r >> s)`: top bits of both, and a borrow found by comparing the
//! lower ones. With `s = 0` it is exact. With `s > 0` it is the sign of `t`, and `max(t, 0)` is right up to the
//! same one unit. A carry must not reach beyond the compared bits, hence `y < 2^v - 2^s`: `prove_bounds` leaves
//! that distance. Signs of votes and counts, and maxima under windows, are exact.
//!
//! # The oracle
//!
//! [`evaluate::clear`](crate::evaluate::clear) runs the same program in the clear with `c = 0` everywhere, and
//! carries for each value the largest distance `e` to what some choice of carries gives:
//!
//! | op | distance after it |
//! |---|---|
//! | truncate by `s > 0` | `ceil(e / 2^s) + 1` |
//! | rectify | as truncate; 0 if the value is below 0 by more than that |
//! | linear | sum of `abs(w) e` |
//! | square | `2 abs(x) e + e^2` |
//! | maximum, sum of a window | largest, sum of the distances |
//! | leaky rectification of slope `a / b` | `b e`; `a e` if the value is below 0 by more than that |
//! | hard tanh | as truncate |
//!
//! A class is a *possible* vote if its logit can come within the sum of both distances of the largest. A
//! label is *certain* if no choice of possible votes changes the majority. A certain label must be
//! equal under sharing: tests demand it. The others are *near ties*: two labels that differ by rounding of the
//! size of 2^-16, of which the protocol may choose either. The bounds add up worst cases, so a near tie may
//! well come out equal. The oracle itself uses `f64` for `e` only; words are exact.
//!
//! # Distances
//!
//! A distance of a one-class task is a sum of squares of values at `f` fraction bits, so it stands at `2 f` and is not
//! truncated again: it is compared as it is, with a threshold at the same scale. Nothing is divided by the number of
//! values, which belongs to the threshold. What rounding can do to it comes from the layers of a reconstructor, or from
//! the one truncation of projected values: `|x|^2 - 2 m x + |m|^2` is the exact square of `x - m`, because the biases
//! are made of the words of the mean.
//!
//! The task's `distance_bits` bounds distances and thresholds, as `value_bits` bounds wires, and
//! [`prove_one_class`](crate::model::fixed::prove_one_class) proves it. `2 f + distance_bits` is at most 60: two
//! distances may differ by one bit more, and a plan that cannot hold that is refused. Distances that cannot come within
//! both their `e` of each other, and of the threshold of the nearest, give a *certain* answer.
//!
//! # Ties
//!
//! Equal logits, and equal noisy counts, go to the lowest index: of each pair the lower index wins where the
//! difference is not negative. The rule is public and does not depend on data otherwise. With noise, ties of
//! counts are decided after it has been added, and post-processing of noisy counts costs nothing.
//!
//! # Counts
//!
//! A noisy count is at most the number of models plus twice the largest magnitude that one party's sampler can
//! give; the release compares just as many bits as that needs. Samplers are finite by construction, so the
//! bound holds always and not only likely ([`Sampler`](crate::privacy::Sampler)).
