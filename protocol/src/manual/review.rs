//! Security review file: each sub-protocol with what it does, rests on, errs by, and does not stop.
//!
//! Read [`threats`](super::threats) first. *Semi-honest* means: both compute parties follow the protocol,
//! remember all they see, and do not collude. Everything below claims privacy against one semi-honest compute
//! party and any clients and owners, and nothing about a compute party that deviates; the paragraph
//! *deviating* says what such a party could do, as far as we know. 128 bits are meant as usual: of the named
//! primitive. Where many uses of one secret cost some of them, it is said.
//!
//! # Overview
//!
//! | sub-protocol | assumption beside AES-128 as a PRF | statistical error |
//! |---|---|---|
//! | base transfers | computational Diffie-Hellman in ristretto255, SHA-256 a random oracle | none |
//! | transfers by columns | none | none |
//! | silent transfers | parity with regular noise, local code; AES an ideal permutation | none |
//! | bit triples, cross terms | AES an ideal permutation (`TMMO` hash) | none |
//! | circuits, words of bits, squares | those of triples and cross terms | none |
//! | lattice products | ring learning with errors, `N` = 8192, `q` < 2^215 | 2^-40 in the life of a tensor |
//! | comparison keys | AES an ideal cipher; the dealer as below | none |
//! | dealt bundles | the dealer colludes with neither party; HMAC-SHA-256 a PRF | none |
//! | opening of weights, gates, votes | none | none |
//! | noise | the system's generator; ChaCha | 2^-114 or less a draw |
//! | pools, ledgers | SHA-256 collision resistant; AES-256-GCM; disks keep what they synced | none |
//!
//! # Set-up of a session
//!
//! *Function.* [`Pairwise::set_up`](crate::offline::pairwise::Pairwise::set_up): base transfers, extension,
//! lattice keys, from seeds of the operating system drawn for this alone. *Parameters.* Keys serve batch
//! after batch, in memory only, and are replaced when a making fails and after `ROWS_MAX` = 2^32 rows, which
//! both sides count alike. *Authenticity* is the network layer's. Party Zero chooses the extension.
//! *Deviating.* Zero may choose silent transfers where One would rather not rest on their assumption. Either
//! may name keys that it does not have, which ends in a named error.
//!
//! # Base transfers
//!
//! *Function.* 128 random transfers of 16-byte seeds in each direction. *Source.* Chou and Orlandi,
//! LATINCRYPT 2015, semi-honest, ristretto255. *Parameters.* `TRANSFERS` = 128. A seed hashes seat, index,
//! offer, choice and the shared point. *Error.* None; 2^-252 that a scalar is 0. *Checks.* Points decode and
//! are not the identity. *Deviating.* Known attacks on Chou-Orlandi concern simulation against malicious
//! parties: a receiver may let its choices depend on the offer. Discrete logarithms by a quantum computer
//! give away recorded sessions: both offsets, hence every bit product and every cross term of those bundles.
//!
//! # Transfers by columns
//!
//! *Function.* Rows `q` and `t = q ^ b delta` for one `delta` a direction. *Source.* Roy, CRYPTO 2022
//! (SoftSpoken, semi-honest, repetition code); with `SHARED` = 1 it is IKNP. *Parameters.* `WIDTH` = 128
//! columns, `SHARED` = 2, so 64 groups of 4 streams; `delta` has 127 secret bits, since its lowest is 1.
//! *Error.* None. *Deviating.* No consistency check: a receiver whose corrections differ between groups
//! learns bits of `delta`, a few a row, and after all 127 every bit that the sender multiplies. This would be
//! the first thing to add for malicious security.
//!
//! # Silent transfers
//!
//! *Function.* The same rows. *Source.* Ferret (Yang et al., CCS 2020) with half-trees (Guo et al., EUROCRYPT
//! 2023), semi-honest. *Parameters.* `TREES` = 1,170 of `LEAVES` = 2^11, `PLACES` = 2^17, ten places a row;
//! the code is public, the same for all batches of a session; `RESERVE` = 143,942 rows of each batch serve
//! the next one. Taken from emp-ot (`ferret_b11`), not estimated anew. *Error.* None.
//!
//! *Many uses of one offset.* Each node on a punctured path is `delta` XOR something that the receiver knows,
//! and half of the hashes of these nodes are known to it as well. So an attacker who tries `y` under the
//! public permutation tests all of them at once: with `T` such nodes finding `delta` takes about 2^127 / `T`
//! steps. A batch has 12,870 of them. After `ROWS_MAX` rows `T` is below 2^25, which leaves 2^102. The hash
//! of rows has a tweak for each row, and its proof loses the number of rows as well; we know no attack that
//! gains from them.
//!
//! *Deviating.* A sender with wrong tree sums learns, from whether results are right, places of noise; none
//! of Ferret's checks are here. A receiver can do no more than a wrong choice.
//!
//! # Bit triples
//!
//! *Function.* XOR shares of random `a`, `b`, `a & b`. *Source.* Asharov et al., CCS 2013, section 5.1; hash
//! by Guo et al., S&P 2020. *Parameters.* One row a direction; tweak: row number with the direction at bit
//! 64. *Error.* None. *Deviating.* Either party can make a product wrong, also depending on a guess of the
//! other's bits (a *selective failure*): if it then learns whether a label was right, it learns the bit.
//!
//! # Cross terms
//!
//! *Function.* Additive shares of `b_0 v_1 + b_1 v_0`. *Source.* Beaver, CRYPTO 1995; Gilboa, CRYPTO 1999.
//! *Parameters.* Upper 64 bits of the hash are the pad. *Error.* None. *Deviating.* A sender may put any
//! difference in place of its word, a receiver any bit; as for triples.
//!
//! # Boolean circuits of the masks
//!
//! *Function.* Bits, carries, thermometers, monomials of `r = r_0 + r_1` as XOR shares. *Source.* Goldreich,
//! Micali, Wigderson, STOC 1987. *Parameters.* [`ands`](crate::offline::pairwise::ands) triples, each used
//! once; two bits opened per AND, both under fresh random bits. *Error.* None; everything is exact.
//! *Deviating.* Any opened bit may be flipped, which adds a chosen error to a share.
//!
//! # Bits to additive shares, selection, squares
//!
//! *Function.* `b_0 ^ b_1` as words; bit times word; `(x_0 + x_1)^2`. *Source.* Demmler, Schneider, Zohner,
//! NDSS 2015; Gilboa. *Parameters.* [`crossings`](crate::offline::pairwise::crossings) rows; 64 a square.
//! *Error.* None. *Deviating.* As for cross terms.
//!
//! # Lattice products
//!
//! *Function.* Shares of weights times operand, see [`lattice`](super::lattice). Which tensor is encrypted:
//! `Encrypted::Operand` for dense layers, `Encrypted::Weights` for convolutions. *Source.* Huang et al.
//! (Cheetah, USENIX Security 2022). *Parameters.* `DEGREE` = 8192, `LIMBS` = 5 primes of 43 bits, ternary
//! secrets, `NOISE_MAX` = 21, `FLOOD_BITS` = 149, `STATISTICAL_BITS` = 40. *Error.* Opening never fails.
//! Distances of floods sum to at most 2^-40 for all that is ever returned of one tensor, in each direction.
//!
//! *Life of a mask.* With `Encrypted::Operand` the evaluator's tensor is its share of `A`, which lives as
//! long as its model. [`bundles_max`](crate::offline::pairwise::bundles_max) says for how many bundles it is
//! good in batches of some size. Each party records durably, before the first byte of a batch, which part of
//! the life the batch takes, and refuses when it is over; the owner publishes anew then. Parts and not
//! bundles are added, as batches of other sizes wear it otherwise. With `Encrypted::Weights` the evaluator's
//! tensor is an operand drawn for the batch, and only a batch so large that one product could not be hidden
//! is refused ([`PackingError::Shown`](crate::lattice::PackingError::Shown)). The record is not in the
//! ledger's chain. A restored disk forgets what batches wore since, and each such restore adds at most as
//! much again to the distance.
//!
//! *Deviating.* A key holder whose requests carry larger noise, or whose public key is not one, may learn `A`
//! and with the opened `W - A` the weights. An evaluator may return anything. Neither is noticed.
//!
//! # Dealer
//!
//! *Function.* All bundles of a pair that names one, and the seeds of its weight masks. *Assumption.* It
//! knows every mask: with either party's view it has inputs and weights. *Parameters.* Seeds by HMAC-SHA-256
//! from a secret of the process, the pair's name, pool, plan, masks and serial. Masks are stored under the
//! pair's name, so that an organisation that sits in two pairs gets one half of each. *Error.* None.
//! *Deviating.* Wrong words make labels wrong, selectively if it knows what it looks for.
//!
//! # Comparison keys
//!
//! *Function.* From a dealer only, where the task's `comparison` says so: shares of `[x < a]` times words at one
//! public point, see [`keys`](super::keys). *Source.* Boyle et al., EUROCRYPT 2021 (distributed comparison).
//! *Parameters.* Nodes of 128 bits; a hash key fresh for each entry of a bundle. *Error.* None. *Deviating.* A
//! party as at the gates. A dealer whose payloads are wrong can make a vote that is not one-hot, as can one
//! whose bit masks are.
//!
//! # Opening of weights
//!
//! *Function.* Both parties learn `W - A`. *Parameters.* `A` is the sum of expansions of one seed of each
//! party (drawn by itself, or by the dealer), fresh for the model. Pinned: the hash of a party's side of an
//! opening is durable before it is sent, stays when the model goes, and no other bytes are sent under this
//! mask. A mask belongs to the first model that names it. *Error.* None. *Deviating.* A party may make `A`
//! known to itself in its own part only. It may send a wrong opening, which makes the model's votes wrong.
//!
//! # Online gates
//!
//! *Function.* Linear layers, truncation, ReLU with any slope below zero, cuts, maximum, squares, sums of squares:
//! [`leakage`](super::leakage) argues each opening. *Source.* On each gate's card. *Parameters.* Masks are uniform in the very ring in which values
//! are opened. *Error.* None in privacy; a truncated value is at most one unit too large
//! ([`numbers`](super::numbers)). *Deviating.* Openings carry no check value: a party can add any constant to
//! any wire, and learns what the label, if somebody tells it, says about that.
//!
//! # Vote
//!
//! *Function.* One-hot shares of the largest logit, ties to the lowest index. *Parameters.* All pairs at
//! once; the last entry is 1 minus the others. *Error.* None: exactly one vote whatever the comparisons say.
//! *Deviating.* An owner cannot move more than its vote; a compute party can set any count.
//!
//! # Nearest user
//!
//! *Function.* One bit for each user: whether its distance is the smallest, ties to the lowest index, and not above its
//! threshold; nobody where all are 0. *Source.* [`nearest`](crate::online::nearest). *Parameters.* All pairs and all
//! thresholds at once; distances at twice the fraction bits, within `distance_bits`, as owners prove. *Error.* None in
//! privacy; a distance is as exact as its network's last layer ([`numbers`](super::numbers)). *Deviating.* A user can
//! name itself for anything, and nobody else; a compute party can set any bit.
//!
//! # Release with software noise
//!
//! *Function.* Each party adds its own full draw for every class and column; the noisy winner is opened to
//! the client only. *Source.* Canonne, Kamath, Steinke 2020 for law and account. *Parameters.* Integers
//! alone; tables to 2^-128, read from end to end against words of AES-128 under a fresh seed;
//! [`Sampler::distance_bits`](crate::privacy::Sampler::distance_bits) is at least 114. *Error.* `n (1 + e^epsilon) 2^-114` in delta for `n` draws. *Deviating.* A party that draws
//! none leaves the other's full noise, for which the ledger charged; it can also set counts, see above. The
//! client sees the label of both noises.
//!
//! # Release with a threshold
//!
//! *Function.* The same, with one draw more of each party for the top count, of a law of its own; the client gets
//! the label only if the noisy top count reaches a public number, and a bit that says so. *Source.* Papernot et
//! al. 2018; each attempt is charged as threshold test and label together ([`Mechanism`](crate::privacy::Mechanism)).
//! *Parameters.* Every class is compared with the threshold under one common noise, in the comparison of the
//! duels; signs are combined before anything leaves. *Error.* None but that of the draws. *Deviating.* As above; a
//! party that skips its draw for the top count leaves the other's.
//!
//! # Reservation and commit
//!
//! *Function.* A question is charged and its serial burnt on both disks before any byte depends on either;
//! the answer is durable before it is sent. *Parameters.* One exclusive transaction raises the mark of the
//! pool and the accounts; a reservation below the mark is refused; a name leaves *reserved* once. Heads of
//! both hash chains cross with every reservation. *Error.* None, if a synced disk keeps what it synced.
//! *Deviating.* A compute party can keep no ledger at all: the other one's still bounds what this one
//! answers, since no label has one half. A head that runs ahead is believed; only a lower or a different one
//! of the same height is refused.
//!
//! # Pool on the disk
//!
//! *Function.* Bundles made ahead outlive restarts and serve at most once. *Parameters.* A pool's name hashes
//! a nonce of each party and the plan. Batches carry a tag of their making; both sides go on with the higher
//! mark and the batches that both hold under one tag. Records are sealed with AES-256-GCM under a key of
//! their file, and under pool, task, seat, plan and serial. *Error.* None. *What it rests on.* The ledger's
//! marks, not the files. A single disk that went back is found by the other party's memory of its head, and
//! all pools are burnt. If *both* went back to the same moment nothing can tell: serials used since would
//! serve again, and two openings under one mask give the difference of two inputs away. Remove `pools` on one
//! side first. *Deviating.* A party may lie about its mark or its tags; then halves do not fit, and labels
//! are wrong.
//!
//! # What a compute party can make the other one allocate or wait for
//!
//! Lengths come from plans that both compile, never from the peer: a frame beyond its length is refused
//! unread. Control messages have at most 8 MB. Models of an epoch are at most one for each owner. A batch is
//! limited by `pool.bytes_max` of the party that is asked, and making one takes a few times its bytes of
//! memory: a party One with little memory needs a small limit. Every wait has a deadline.
//!
//! # Time
//!
//! No branch and no address depends on shares, masks, choices, offsets, places of noise, or noise that is
//! drawn, in this crate's code. Not covered: floating-point units whose multiplication takes longer for some
//! numbers (those of current x86-64 and aarch64 do not, for the normal numbers that occur), training, import
//! and proving bounds, which owners do with their own model, and the dealer. Sizes and times of messages
//! depend on public shapes and on load.
//!
//! # What nobody has done
//!
//! No outsider has read this. No proof has been written down beyond the arguments of this manual. Parameters
//! of parity with noise and of lattices are those of the literature, not estimated anew.
