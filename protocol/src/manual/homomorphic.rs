//! Networks under one client's key: what they compute, what they rest on, and what they leave open.
//!
//! # Functionality
//!
//! An owner has a network of linear layers with squares between them, rounded to integers; a client has inputs of
//! integers within a public range. The client learns the integer logits of its inputs, exactly, and the owner learns how
//! many inputs there were. One message goes each way, after keys that are sent once. The shape of the network, the scales
//! by which weights and inputs were rounded and how many bits logits can have are public
//! ([`Plan`](crate::homomorphic::Plan)). Both parties follow the protocol (see the last section).
//!
//! # Which of the two ways
//!
//! | | two compute parties | under one client's key |
//! |---|---|---|
//! | needs | two parties that do not collude, prepared correlated randomness | nobody but client and owner |
//! | models | any number of owners, ReLU, pools, distances | one owner, squares only, at most two after one another |
//! | the client learns | a label, with differential privacy where the task asks for it | all logits, exactly |
//! | what it costs | rounds, few bytes, milliseconds | one round, many bytes; most answers for the time in batches |
//!
//! Exact logits let a client that may ask often enough reconstruct the model: solving for the weights of a network of
//! this kind takes about as many logits as it has weights. Nothing in the scheme prevents that: an owner must limit how many
//! inputs it answers for a client. Files do not count. Over the network the owner's node does: it records the inputs of a
//! query on its disk before it evaluates, for each task of the roster and each client by its name there, whatever the model,
//! and refuses what would pass the roster's `inputs_per_client_max`. A crash, a restart, a new model or a new plan lowers no
//! count; what was counted and not answered stays counted. The limit bounds clients that follow the protocol, as the last
//! section says. Clients that pool what they learn have the sum of their limits, and so has one that the signers of rosters
//! admit under another name, or to another task with the same model. Where that is not enough, the two-party way with a noisy
//! label is the one to take.
//!
//! # Scheme
//!
//! Brakerski, Gentry and Vaikuntanathan's (ITCS 2012). Polynomials modulo `X^n + 1`; modulus `q`, a product of primes
//! just below 2^43; messages modulo plaintext primes `t`, each with its own ciphertexts, in `n` slots. A ciphertext of
//! degree `d` opens by the powers of the secret:
//!
//! ```text
//! c0 + c1 s + ... + cd s^d = m + t e   (mod q)
//! ```
//!
//! | | batches | single queries |
//! |---|---|---|
//! | `n` | 8,192 | 16,384 |
//! | primes of the modulus, with the special one | 5 | up to 8 |
//! | `log2 q`, with the special prime | 215 | up to 344 |
//! | allowed for 128 bits (Albrecht et al., Homomorphic encryption standard, 2018) | 218 | 438 |
//!
//! Secrets are ternary, noise is centred binomial with deviation 3.24. Multiplying noise by `t`, or by the product of all
//! plaintext primes in keys, scales a sample of ring learning with errors by a number that is invertible modulo `q`, and
//! changes nothing about its hardness. The uniform half of everything fresh comes from a public seed. Keys encrypt powers
//! and rotations of the secret under the secret itself: that this is safe is an assumption of its own (circular security),
//! which every scheme with such keys makes.
//!
//! *Batches.* Each number of an input is a ciphertext, each input a slot. Between input and output there are only products
//! of residues at the same root, so no key is needed and no transform: a square turns two parts into three and three into
//! five. Then the last prime is dropped and parts two to four are brought back to the secret itself.
//!
//! *Single queries.* See the layout in `homomorphic/layout.rs`. Keys are pairs for each prime of the modulus, with the last
//! prime as the special one; a rotation or a product takes the residues of a polynomial as small numbers. Dividing by a
//! prime of the modulus divides the message too, modulo `t`, which the next weights make up for.
//!
//! # Which library
//!
//! None computes here. The transform is the one that preprocessing has, in `f64` and without `unsafe`; of libraries that were
//! looked at, `tfhe-ntt` has a faster one, under BSD-3-Clause-Clear, which grants no patents, and `fhe` (MIT) has no
//! plaintext modulus of several primes under one set of keys and ties keys to the plaintext prime. `fhe` is the oracle of a
//! test: the same small network, the same residues. With it `tfhe-ntt` comes in for that test alone; no program has it.
//!
//! # Why the answer is right
//!
//! Every step is a homomorphism modulo each `t`, so values on the way may wrap; only logits must be below half the product
//! of all `t`. [`IntegerNet::reach`](crate::homomorphic::IntegerNet::reach) bounds them by intervals through every row, for
//! all inputs within the range, and the plan takes plaintext primes with a larger product. The noise of an answer is at
//! most 2^-11 of its modulus, because the flood is, and what is flooded is at least 2^40 times smaller. Bringing it to one
//! prime adds a rounding: a uniform number within a plaintext prime plus `n` such numbers times a ternary secret, of
//! deviation below 2^33 where plaintext primes are below 2^28, against half a prime, 2^42. A wrong logit needs more than a
//! hundred deviations of that, or 2^50 of the noise before: less than 2^-128 either way. The client checks that four of the
//! ten bits are still free, and that every logit is within the plan's bound; else it gets an error, never a label. An
//! answer changed on purpose is told by the digest of its file or by the channel, not by these.
//!
//! # Noise
//!
//! For batches it is estimated, not bounded: at each complex root of `X^n + 1`, the noise of an output is the network
//! evaluated on what the inputs open to there, which are complex normal numbers; so a network evaluated on random complex
//! numbers tells the deviation with all correlations of the noise. Messages of different inputs may be equal; what they
//! have in common is carried along by absolute values (`homomorphic/noise.rs`). For single queries deviations are added up
//! step by step, with copies of one noise taken as if they were equal. Tests measure both against what is there.
//!
//! # Why answers are sanitised
//!
//! Before the last steps an output is the network evaluated over the residues of the query, which the client knows: of
//! single weights it tells as much as a table of its values would. So an answer is
//!
//! 1. relinearised, so that it has two parts whatever the network;
//! 2. made fresh: the client's own encryption of zero times a new ternary secret, plus noise, is added, so that the linear
//!    half is a sample of ring learning with errors under a secret that the client does not have;
//! 3. flooded: a uniform number of `flood_bits` bits, times `t`, is added to each coefficient;
//! 4. masked: slots that were not asked about get uniform numbers; the slots of a single query whose sum is a logit get
//!    uniform numbers that add up to zero;
//! 5. brought to one prime of the modulus, which depends on the sanitised numbers alone.
//!
//! The client's view can be made from its logits: draw the linear half uniform, the slots that are masked uniform, the
//! rest of the noise from the flood. The difference is the noise that was flooded: with deviation `d` it changes the
//! distribution of a coefficient by at most `d / 2^(flood_bits + 1)`, and the sum over all coefficients of an answer in
//! all plaintext primes is at most 2^-40 by the estimate of the noise, or there is no plan. The flood takes all of the
//! modulus but ten bits whatever the weights are, so that it does not tell how noisy they are; how many plaintext primes
//! there are, and how many bits logits have, do tell something about the size of the weights. The distances add up over
//! answers: a million answers are within 2^-20. `Room::statistical` is what a plan has, often more than 40. That linear
//! halves look uniform to the client rests on ring learning with errors.
//!
//! A test plays the game: two models with equal logits on a client's inputs are told apart every time from outputs that are
//! only brought to one prime, and not at all from sanitised ones.
//!
//! # What is not protected
//!
//! - *The model from many questions*, as said above. A client may also send inputs beyond the range, or different inputs in
//!   different plaintext primes: it then learns residues of logits of those, one input's worth for each slot and prime, and
//!   for the owner it asked about one, which is what is counted.
//! - *From a client that does not follow the protocol.* Keys that are not what they should be make answers that are not
//!   sanitised: an "encryption of zero" with large noise, or with a secret structure, takes the freshness away. A query
//!   with other noise than it should have, which the flood does not cover, may show sums of weights in the noise of one
//!   answer: some ten bits, which the margin leaves free, of each of its coefficients, 8,192 of them for each output and
//!   plaintext prime of a batch, however few inputs are counted for it. A single query may hold anything in its blocks, not only what an image would make there. Seeds prevent only
//!   the plainest such keys and queries.
//! - *From an owner that does not follow the protocol.* It can answer by another model, which nothing here notices. And it
//!   can find a client's secret if it learns which of its answers open: an answer that it makes up opens, or not, depending
//!   on one coefficient of the secret, so that as many reactions as twice the degree give the whole secret and with it
//!   every query under it. A client must not let the owner see whether an answer opened, not by asking again either; it
//!   draws a new key after an answer that did not. Errors do not say how large the noise was. Over the network a client's
//!   node closes the channel before it opens anything, asks nothing again by itself, and throws the secret away after an
//!   answer that does not open; that it sends new evaluation keys with its next question does tell the owner so, about a
//!   secret that is gone.
//! - *Time.* Evaluation skips weights that are zero and brings sums back by the sizes of weights, so the time of an answer
//!   tells something about how many weights there are, where, and how large. It does not depend on inputs. When a client
//!   opens logits, divisions may take longer for larger numbers, on its own machine.
//! - *Memory of the owner.* Intermediate results are not wiped; they are ciphertexts to everybody but the client.
