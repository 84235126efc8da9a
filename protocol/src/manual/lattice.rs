//! Products under lattice encryption: what they compute, what they rest on, and the budget of their noise.
//!
//! # Functionality
//!
//! The key holder has one tensor of a linear layer, the evaluator the other. Write `A` for the evaluator's
//! words and `B` for those that are encrypted; which of the two are weights is a choice
//! ([`Encrypted`](crate::lattice::Encrypted)). The evaluator's output is a uniform share, the key holder's
//! is `A·B` minus that share, as [`multiply_add`](crate::algebra::LinearShape::multiply_add) computes it.
//! With both tensors shared, two such products, one each way, give the cross terms; the other two are
//! local.
//!
//! Both parties follow the protocol (see the last section). The shape of the layer is public.
//!
//! # Scheme
//!
//! Polynomials modulo `X^N + 1`, `N` = 8192; modulus `q`, the product of five primes just below 2^43, each
//! 1 modulo `2N`; messages modulo `t` = 2^64. A ciphertext of `m` under the secret `s` is a pair `(c0, c1)`
//! with
//!
//! ```text
//! c0 + c1 s = q m / t + noise   (mod q)
//! ```
//!
//! 1. *Key.* `s` has uniform coefficients in -1, 0, 1. The public key is a fresh ciphertext of 0.
//! 2. *Request.* `c1` is uniform, expanded from a public seed of its own; `c0 = round(q m / t) + e - c1 s`,
//!    where `e` is centred binomial with parameter 21: magnitude at most 21, deviation 3.24.
//! 3. *Product.* The evaluator multiplies both halves with polynomials of its words, read as signed numbers,
//!    and adds up what belongs to one reply.
//! 4. *Fresh halves.* It adds `(p0 u + e1, p1 u + e2)` for the public key `(p0, p1)`, a ternary `u` and noise
//!    `e1`, `e2` as above.
//! 5. *Flood and mask.* It adds to each coefficient of `c0` that is an output a number `f` that is uniform in
//!    `-2^149..2^149`, and `round(q r / t)` for a uniform word `r`. Its share is `-r`.
//! 6. *Smaller modulus.* It divides by the last three primes and rounds. `c1` is sent whole but for its 6
//!    lowest bits, of `c0` only the outputs, without their 20 lowest bits.
//! 7. *Opening.* The key holder computes `c0 + c1 s`, multiplies by `t` over the modulus and rounds.
//!
//! # Assumption
//!
//! Ring learning with errors with `N` = 8192, `q` < 2^215, ternary secrets and noise of deviation 3.24. The
//! homomorphic encryption standard (Albrecht et al., 2018) allows 218 bits of modulus at this degree for
//! 128 bits of security against classical attacks with deviation 3.2. It is used twice: the evaluator sees
//! samples under `s`; to the key holder, `p1 u + e2` is a sample under `u`. Seeds are expanded by AES in
//! counter mode; for `c1`, whose seed is public, it stands for a random function.
//!
//! # Noise before the flood
//!
//! | step | noise | bound |
//! |---|---|---|
//! | request | `e`, and rounding of `q m / t` | 21 + 1/2 |
//! | product with `T` coefficients of at most 2^63 | sum of `T` such terms | `T` * 21.5 * 2^63 |
//! | fresh half | `u e + e1 + e2 s`: `N` ternary coefficients times noise, twice | 21 (2 `N` + 1) < 2^19 |
//! | mask | rounding of `q r / t` | 1/2 |
//!
//! Reading the evaluator's words as signed costs nothing: 2^64 times a message is a multiple of `q` after
//! scaling. [`Packing::noise_max`](crate::lattice::Packing::noise_max) is the sum. `T` counts all
//! coefficients of the evaluator's polynomials in one reply
//! ([`Packing::noise_terms`](crate::lattice::Packing::noise_terms)); for 784 inputs and two outputs in a
//! block it is 1600, and the bound 2^78.1. These are worst cases, not estimates: no product fails.
//!
//! # Why replies need all three: fresh halves, flood, mask
//!
//! The key holder knows `s` and its requests. From a bare product it has `c1 = A a` for a known `a`, that
//! is, `A` itself. A flood on `c0` does not help against that. With a fresh half but no flood it has `A e +
//! u e' + ...` with known noise `e`, linear equations in the words of `A`. Coefficients that are not
//! outputs hold other sums of products, so they are not sent.
//!
//! The key holder's view can be made from its own output: draw `c1` uniform; for each output word `z` take
//! `c0 = round(q z / t) + f - c1 s`; make the modulus smaller, which is a function of these alone (residues
//! are brought into one form before anything is rounded). The difference to a real reply is, first, the
//! noise beside `f`: a uniform number out of 2^150 that is moved by at most the bound differs by the bound
//! over 2^150. Second, `c1`: with everything about `u`, `e1` and `e2` but `p1 u + e2` under the flood, this
//! is a sample of ring learning with errors.
//!
//! # Lifetime of a tensor
//!
//! Distances add up over all coefficients that are ever returned for one `A`. For a sum of 2^-40 they may be
//! `2^110 / bound` many, divided by the outputs of a product:
//! [`Packing::products_max`](crate::lattice::Packing::products_max). A mask of weights of 128 x 784 words
//! with a batch of 128 is good for 249,707 batches, or 32 million queries; its holder must replace it by
//! then. A tensor drawn afresh for each product, as the operand is where the weights are encrypted, needs no
//! such count, only a value above 0, without which there is no packing
//! ([`PackingError::Shown`](crate::lattice::PackingError::Shown)). Batches of different sizes wear a mask
//! differently, so what is to be added up are parts of its life.
//!
//! # Why opening is exact
//!
//! Under the whole modulus the noise is at most 2^149 plus what the flood hides, which is below 2^110 if a
//! single product is allowed at all. Divided by three primes, in units of the modulus `q'` of 86 bits:
//!
//! | part | bound |
//! |---|---|
//! | flood | 2^20 |
//! | rounding in three steps, of `c0` and of `c1` times `s` | 1 + `N` |
//! | 20 bits cut from `c0`; half a step is put back | 2^19 |
//! | 6 bits cut from `c1`, times `s` | 2^5 * `N` = 2^18 |
//! | sum | < 1.77 * 2^20 |
//! | room: half a message step, `q'` / 2^65 | > 1.99 * 2^20 |
//!
//! # What is not protected
//!
//! A key holder that does not follow the protocol may send requests with other noise, which the flood does
//! not cover, or a public key that is not one: then replies are not fresh and it may learn `A`. That the
//! uniform half of a key comes from a seed makes the plainest such key, zero, impossible, no more. An
//! evaluator may return shares of anything, and add errors that depend on nothing it can see. Neither is
//! noticed here. Bytes of a wrong length and values out of range are refused, and no bytes make either side
//! panic. A reply that opens to a wrong word looks like any other.
//!
//! Time does not depend on secrets: there is no branch on them and no place in memory that they choose.
//! What depends on data is the expansion of public seeds.
