//! Bytes on the wire and on the disk, order of a bundle, security parameters. All integers are little-endian.
//!
//! # Frames of the online phase
//!
//! One frame per round and direction, both at the same time. Every length is known from the plan before the
//! frame comes ([`crate::wire`]).
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | version, 1 |
//! | 2..4 | zero |
//! | 4..12 | session, the same on both sides |
//! | 12..16 | rounds done before |
//! | 16..20 | digest of the steps that share this round |
//! | 20.. | payload |
//!
//! The payload is the lanes' payloads one after the other, in the order of the models, question after
//! question where several share the rounds ([`answer_together`](crate::evaluate::shared::answer_together)).
//! The digest of steps (lane, gate, kind of step, mixed into 32 bits) finds plans that drifted apart; it is
//! no authentication. A wrong field ends the computation with a named
//! [`Misbehaviour`](crate::misbehaviour::Misbehaviour).
//!
//! The daemon puts a length of four bytes before each frame of a channel, and takes as the session the first
//! eight bytes of the SHA-256 of the names of all releases that share the rounds.
//!
//! # What is in a payload
//!
//! | opening | layout |
//! |---|---|
//! | operand | 8 bytes a word |
//! | masked value, tally | the low `ring_bits` of each word without gaps, lowest first; the last byte is filled up from the next bits of the last word ([`stream`](crate::algebra::stream)) |
//! | bits | one row after the other, each filled up to whole bytes, first bit lowest |
//!
//! # Shares
//!
//! - Input: words `[value][query]`, channels outermost: 16 bytes (a seed) to Zero, 8 bytes a word to One.
//!   Columns of a batch that are not asked for hold zeros.
//! - Model: layer by layer the weights (row-major, kernels as `outputs x channels x rows x columns`), then
//!   the biases: a seed to Zero, words to One.
//! - Opening of weights: layer by layer the weights alone, 8 bytes a word.
//! - Label: bits `[class][query]` without the last class, packed into words of 64. The client XORs both;
//!   the class whose bit is 1 is the label, and the last class if none is.
//!
//! # Bundles
//!
//! A bundle has a seed per party. From it comes a stream of *free* words
//! ([`Seed::derive`](crate::algebra::prg::Seed::derive) with the label `consilium free`). The *dependent*
//! words make the secret behind both shares right:
//!
//! | source | Zero's dependent words | One's |
//! |---|---|---|
//! | [`dealer`](crate::offline::dealer) | expanded from its seed, label `consilium dependent` | sent by the dealer, stored |
//! | [`pairwise`](crate::offline::pairwise) | made by the protocol, stored | made by the protocol, stored |
//!
//! Both sources fill the same places in the same order, so that nothing after them knows which one it was.
//! *Common* words are sent by a dealer to both parties and are the same: the words of comparison keys. Only
//! dealt plans have them; without them Zero is sent nothing but its seed.
//!
//! Lanes in order: the input, each model, the release ([`Plan::lanes`](crate::graph::Plan::lanes)). Entries
//! of a lane in the order of its gates. Each takes, from the two streams:
//!
//! | demand | free | dependent |
//! |---|---|---|
//! | input mask of `n` | `n` | |
//! | linear layer | its operand's mask, unless it is the input | `W m`, one word an output |
//! | masks with shared bits, `n` | `r`: `n` | if lifted `r >> s`: `n`, top bits: `n` |
//! | ... compared by digits | masks of combined digits | thermometers, digit by digit; bit above the compared ones; monomials of combined digits |
//! | ... compared by keys | roots: `2 n`; 2 for the hash | top bits: `n`; if selected the compared bits `a`: `n`, `a` times the top bit: `n`; then common: 2 for the hash, correction words |
//! | ... selected by digits | bits `b`, XOR-shared, packed | `b` as words: `n`; `b (r >> s)`: `n`; `b msb(r)`: `n` |
//! | squares of `n` | `n` | `n` |
//! | sums of squares of `n`, `q` of them | `n q`, unless of the input | `q` |
//! | bit products | a row per input | a row per monomial |
//! | bit masks of `n` | packed bits | `n` |
//! | indicator of `n` | `n` | tables: `n 2^k` bits or words |
//!
//! The linear entry is special: the dependent words are shares of `A m`. On laying out, each party adds the
//! product of the opened `W - A` and its share of `m`, which makes them shares of `W m`. Masks of weights
//! come from seeds of the registration, not of the bundle.
//!
//! *Rows of bits* are packed 64 to a word, the first at bit 0, and each row of a bundle begins with a new
//! word. Free words fill their last word with random bits beyond the count, which serve as masks of whatever
//! stands there. In dependent words these bits belong together where they were dealt, and are zero where both
//! parties made them: they then run over the bits of all bundles without gaps. No gate's result depends on
//! them. The last entry of a thermometer is 0: a random sharing of it where dealt, zero on both sides where
//! not.
//!
//! A tape that ends early or has words left was made for another plan, and is refused. Plans are compared by
//! SHA-256 over everything they were compiled from: version, input, classes, batch, numbers, gadget,
//! release, networks; for a one-class task its name, version, input, numbers, bits of distances, batch, gadget,
//! release, measures.
//!
//! # Spool files
//!
//! A batch of bundles of one party is one file, `pools/<task>/<pool>/<first>.spool` in the folder of its
//! pair; the index `pools.redb` beside it has the sealed key of each.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `CONSPOOL` |
//! | 8..12 | version, 1 |
//! | 12..16 | seat, 0 or 1 |
//! | 16..32 | pool |
//! | 32..40 | first serial |
//! | 40..44 | number of serials |
//! | 44..52 | bytes of a record |
//! | 52..68 | tag of the making |
//! | 68.. | one sealed record for each serial, all of one length |
//!
//! Within its seal (29 bytes more) a record is its form, the seed, and words: with form 1 the common ones, if
//! any, as the dependent ones expand from the seed; with form 2 both.
//!
//! # Preprocessing
//!
//! The two parties talk in frames with the header of the online phase, at most 1 MiB of payload each, in both
//! directions at once; longer messages go in several ([`Dialogue`](crate::context::Dialogue)). The session is
//! the first eight bytes of the tag.
//!
//! # Messages
//!
//! Queries, publications, agreements and dealing are CBOR messages of the daemon, each followed by raw frames
//! whose length both sides know from it. A query message names release, task, digest of the task's terms and
//! rows; the input share follows. A publication first announces the network and gets the name of a mask, then
//! sends one announcement and share to each party, then asks Zero to open the masked weights and activate.
//! Encrypted queries are the files of `consilium he`, each in frames of 64 KiB after a message that names its length.
//! The daemon's crate documents them where they are defined.
//!
//! # Security parameters
//!
//! | what | bits | by |
//! |---|---|---|
//! | computational | 128 | AES-128 in counter mode from 16-byte seeds; HMAC-SHA-256 to derive seeds; SHA-256 for names |
//! | base transfers | 126 | Diffie-Hellman in ristretto255 |
//! | offsets of transfers | 127 | 102 against the best attack that we know after 2^32 silent rows ([`review`](super::review)) |
//! | lattices | 128 | `N` = 8192 with 215 bits of modulus, `N` = 16384 with at most 344, by the table of the homomorphic encryption standard |
//! | parity with noise | about 128 | parameters of emp-ot |
//! | names of releases, models, masks, epochs | 128 | random, or SHA-256 cut to 16 bytes |
//! | statistical, online | none needed | masks are uniform in the very ring in which values are opened |
//! | statistical, preprocessing | 40 | floods of lattice replies, over the life of a mask of weights |
//! | statistical, answers under a client's key | 40 | floods, for each answer, by an estimate of the noise ([`homomorphic`](super::homomorphic)) |
//! | noise | about 2^-128 a table entry or coin | distance of a draw from its exact law |
//! | privacy amounts | units of 2^-40 | costs rounded up, budgets down |
//!
//! Epoch names and other hashes cut to 128 bits resist collisions to 64 bits; finding one takes a malicious
//! compute party, which is outside the model.
