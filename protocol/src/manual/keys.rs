//! Comparison keys: what they do, why they hide, what they cost, what goes wrong with the wrong hands.
//!
//! # Functionality
//!
//! For each value the dealer knows a threshold `a` of `w` bits and a payload of one or three words. It
//! gives each party a *key*. At a public point `x` the two keys evaluate, without a message, to additive
//! shares of the payload if `x < a`, of zero if not ([`crate::stock::Key`]). A key serves one point: the
//! one that its value's opening names.
//!
//! In a gate the value `y`, below `2^v` in magnitude, is opened as `z = y + 2^v + r` modulo `2^(v + 1)`.
//! Drop the `s` low bits of `z` and of `r`. Let `x` and `a` be the `w = v - s` bits that follow, `p` and
//! `b` the top bits. Then `y >= 0` exactly if `p XOR b XOR [x < a]`, up to the carry from the dropped bits.
//! So one comparison below the top bit does the work of an interval's two. Three words of payload,
//! `1 - 2b`, `a (1 - 2b)` and `-b`, turn `[x < a]` into shares of `e = b XOR [x < a]`, `e a` and `e b`, of which
//! the rectified value is a public linear combination ([`crate::online::keyed`]). The bit `p` picks between
//! two such combinations, and is public.
//!
//! A vote adds up the signs of all duels of a class, which come as additive shares. It opens the sum under
//! a small mask and reads a dealt table at that place ([`crate::online::indicator`]). That is the only
//! other opening, and two classes need none. One duel has one outcome, and a table knows one number: a
//! class gets the vote only if it beats all others, so a vote stays one-hot whatever the wires hold.
//!
//! # Why one key says nothing
//!
//! Boyle et al. (Eurocrypt 2021) prove that a single key can be made up from the shape alone. The argument
//! goes down level by level. A party knows its own root and nothing of the other's. On the path of the
//! threshold the other party's node is unknown to it, so the hashes of that node look random, and so does
//! each correction word, which is masked by at least one of them. A correction makes the two nodes equal on
//! the side where the path is left. On the side where it goes on they stay independent, and the argument
//! repeats. So the correction words say nothing of threshold or payload, and with one party's root they
//! still do not.
//!
//! Two points of care. The next node, the control bit and the words to add are disjoint
//! parts of three or more hashes. If the control bit stayed in its node, the bit's place in the node's
//! correction word would equal the control correction of the losing side, and where the two sides'
//! corrections differ this names the threshold's bit: a test plants this fault and recovers thresholds. And
//! no branch or address depends on a control bit: corrections are applied under a mask. The way down is
//! public, as the point is.
//!
//! The threshold is a part of `r`, of which each party has a share that is uniform given all else. Opening
//! `z` is therefore as harmless as with digits, and what follows is local. Keys are used at most once like
//! every entry of a bundle: their thresholds are masks.
//!
//! # Parameters
//!
//! | what | value | why |
//! |---|---|---|
//! | node | 128 bits, none given away to control bits | guessing one node |
//! | hash | `AES_K(n ^ c) ^ n ^ c`, `c` a constant below 8 for side and block | random for unknown nodes, with AES as an ideal cipher |
//! | `K` | 16 bytes, public, fresh for each entry of a bundle | a search meets the nodes of one entry only |
//! | payload | words modulo 2^64 | the ring of all wires |
//!
//! A search of `q` AES calls under one `K` finds one of the `n` nodes of an entry unknown to a party with
//! probability about `q n / 2^128`. An entry has at most `2^28` such nodes, one a level and value; usually
//! `2^13`. The same count holds for any expansion of many 128-bit seeds.
//!
//! # Cost
//!
//! With `m` words of payload, 1 for a sign and 3 to rectify, a key of `w` bits has `(w - 1) (16 + 8 m) + 16
//! m` bytes of correction words and two bits a level; these are the same for both parties, and both hold
//! them. The root, 16 bytes, comes from the party's seed. One also holds a word for a sign, three to
//! rectify.
//!
//! | comparison | w | bytes to each party |
//! |---|---|---|
//! | rectify, 16 bits after the point, 12 before | 28 | 1,135 |
//! | one level of a maximum before it | 45 | 1,819 |
//! | one duel of a vote | 45 | 1,083 |
//!
//! Evaluation is `w` times 2 blocks of AES for a sign, 3 to rectify; making a key is four times that.
//! [`Plan::stock_bytes`](crate::graph::Plan::stock_bytes) states what a bundle takes. Networks with maxima
//! over many windows need megabytes a query: there [`Gadget::Digits`](crate::stock::Gadget) may be the
//! better choice.
//!
//! # What misbehaviour does
//!
//! - *A malicious party* may open a wrong `z`. It moves the honest party's point, as it could move any
//!   opened value: results are wrong, and there is no claim about what the client's label then says.
//!   Evaluation takes as long for any point, and any bytes are some point.
//! - *A malicious dealer* knows thresholds and payloads, and may deal keys that are wrong for some points
//!   only. Wrong keys make labels wrong and are not noticed. If payloads are not what they should be, the
//!   signs of a duel may be no bits; then a vote need not be one-hot. The dealer is trusted for this as for
//!   all masks.
//! - *A party with the dealer's help* has everything; that is excluded.
