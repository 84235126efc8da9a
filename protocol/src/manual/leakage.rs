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
//! party holds one, drawn for this registration alone: by itself, or by the dealer where the pair names one.
//! Each party records durably which opening of a model it made before it sends it, and sends only these bytes
//! again. Each binds a mask to the first model that names it, for ever, so that an owner cannot have its own
//! weights opened under another's mask. A new version of a model has a new mask. Biases are never opened.
//!
//! *Dealt bundles.* Zero gets a seed, One a seed and corrections. A correction is a value minus words that
//! only Zero and the dealer can expand, hence uniform to One. Both get the correction words of comparison
//! keys, if the plan has any ([`keys`](super::keys)).
//!
//! *Bundles that both make.* Each draws its own seed; what it receives meanwhile is argued under
//! [`pairwise`](super::pairwise), [`transfer`](super::transfer) and [`lattice`](super::lattice). Of all this
//! only the lattice is statistical: 2^-40 over the life of each mask of weights.
//!
//! # Openings of the online phase
//!
//! | gate | opened | why it is uniform |
//! |---|---|---|
//! | [`linear`](crate::online::linear), [`square`](crate::online::square), [`norm`](crate::online::norm) | `x - m` mod 2^64 | `m` uniform, used as a mask once |
//! | [`masked`](crate::online::masked) | `y + 2^v + r` mod 2^ring | `r` uniform in this ring; the bits that fill the last byte come from words masked in the full ring |
//! | comparison, conjunction | bits XOR mask bits | each mask bit uniform and used once |
//! | rectify, vote | one bit XOR `b` | `b` uniform and used once |
//! | [`indicator`](crate::online::indicator) | `n + m` mod 2^k | `m` uniform, used once |
//!
//! One opening may serve several purposes, since it is the opened value that is used again, not the mask:
//! the input under its one mask multiplies every model's first layer and gives its own norm; `y` under `r` gives the truncated
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
//! *With a threshold* the shares are of `w` where the noisy top count reaches it, of zeros where not, and of one
//! bit more that says which ([`consensus`](crate::online::consensus)). Every bit of them ends as above: the last
//! product has the share of a product of all its masks, by keys two entries of tables made for it. So the client
//! learns the label or that there is none, and never which class would have won. A compute party learns neither:
//! rounds, lengths and charges are the same, and all it receives is uniform in both cases. The top count itself
//! has no message of its own: each count is compared with the threshold under one common noise, and the signs
//! are combined before anything leaves.
//!
//! Bits beyond the last class and columns of a batch that nobody asked for are cut away before sending. A
//! client that colludes with one party gets what it would compute itself: the label XOR that party's share.
//!
//! # Distances
//!
//! A one-class task has distances for votes, and a secret threshold for each user. Both stay additive shares: the
//! nearest is found by signs of differences of distances, whether it is accepted by the signs of thresholds less
//! distances, side by side in one opening, and one conjunction of all signs makes each user's bit
//! ([`nearest`](crate::online::nearest)). The client gets XOR shares of these bits, which end in the share of a product
//! of masks or of a table as above, for a single user in that of a top bit. Together they say which user or that nobody:
//! not how near, not who came second, and not who else would have accepted.
//!
//! What the answer itself says is another matter. *Nobody* or a name is a yes or no about a user's data; a client that
//! may ask without limit maps out where a threshold lies. Noise on the counts of users and nobody, charged like that of
//! votes, or a limit on questions is what stands against it; the gates only keep everything else hidden.
//!
//! # At most once
//!
//! Two openings under one mask reveal the difference of what they hide. Bundles lie on the disks of both
//! parties and outlive restarts, so memory alone keeps none from serving twice. These things do:
//!
//! 1. A [`Tape`](crate::stock::Tape) and a [`Provision`](crate::stock::Provision) cannot be cloned, and
//!    taking an entry moves it. A computation that ends early drops what it took.
//! 2. A bundle belongs to a pool and has a serial there. A pool is named by a hash of fresh randomness of
//!    *both* parties and the plan, and serves one list of models under one list of masks. Neither party alone
//!    can bring an old name back.
//! 3. The *mark* of a pool is the first serial not yet burnt. It stands in the ledger, not beside the
//!    bundles. Zero's rises durably before Zero proposes a serial, One's before it consents, in the very
//!    transaction that records the charge; no byte that depends on the bundle precedes that. A mark never
//!    falls, a reservation below it is refused, and an abort gives no serial back.
//! 4. When the parties meet again they take the higher of both marks and the batches that both hold under one
//!    tag, which names one making. What one of them reserved and the other did not is burnt on both. A pool
//!    that is retired has the highest mark, for ever.
//! 5. Serials of a batch that failed on either side are never made again.
//! 6. An old disk of *one* party is noticed, since the other one remembers the newest head of its ledger,
//!    which every reservation moves. All pools are burnt then. Where *both* were restored to one moment,
//!    nothing here can know it: [`threats`](super::threats) says what that means and what to do.
//! 7. The dealer, where there is one, derives bundles from a secret of its process, the pair, the pool, the
//!    masks and the serial. Batches of different runs have different tags.
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
