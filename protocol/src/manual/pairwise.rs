//! How two parties make a bundle without a third one.
//!
//! # From seed to bundle
//!
//! Each party draws a seed for each bundle from the operating system. Its *free* words expand from it, as
//! those of a dealt bundle do, and nobody is told them: a mask is the sum (or XOR) of both parties' free
//! words, so it is uniform if either of them drew it so. What remains is to make the *dependent* words,
//! shares of functions of these masks, for many bundles at once
//! ([`Pairwise::make`](crate::offline::pairwise::Pairwise::make)):
//!
//! | what | how | file |
//! |---|---|---|
//! | `A m` of a linear layer | own shares multiplied here, both cross products under [`lattice`](super::lattice) encryption | `linear` |
//! | bits of `r = r_0 + r_1`, carry into bit `s`, carry out of the ring | a ripple adder of ANDs; each party brings one summand | `boolean` |
//! | thermometers of digits | from the digit's bits: with each bit more, what was there is joined by OR below it and AND above it | `boolean` |
//! | monomials of masked bits | ANDs, doubling the degree from round to round | `boolean` |
//! | bits as words, `r >> s`, `msb(r)` | cross terms `2 b_0 b_1`, and `b_0 + b_1 - 2 b_0 b_1` | `arithmetic` |
//! | `b (r >> s)`, `b msb(r)` | own bit times own word here; the other's bit acts on `(1 - 2 b) word` | `arithmetic` |
//! | squares | 64 cross terms: bits of one party's word by multiples of the other's | `arithmetic` |
//!
//! An AND takes a bit triple and opens two bits, each under a random bit used once. A cross term and a triple
//! take a row of [`transfer`](super::transfer) in each direction. All ANDs of one depth share a round, over
//! all gates and bundles of a part of the batch; the depth is that of the widest adder.
//!
//! # What a gate costs
//!
//! Per value, with [`ands`](crate::offline::pairwise::ands) and
//! [`crossings`](crate::offline::pairwise::crossings), which count a whole plan. ANDs come in words of 64
//! over all bundles made together.
//!
//! | demand | ANDs | cross terms |
//! |---|---|---|
//! | masks lifted (a truncation) | `ring_bits` | 3 |
//! | masks compared (a sign) | `ring_bits - 1`; `2^b - b - 1` for each digit of `b` bits; one a monomial | 0 |
//! | masks lifted, compared, selected (a ReLU) | `ring_bits`; digits and monomials as above | 6 |
//! | products of masked bits | one a monomial | 0 |
//! | bit mask | 0 | 1 |
//! | square, alone or in a sum | 0 | 64 |
//! | input mask, linear layer | 0 | 0 |
//!
//! With 16 bits after the point and 12 before it:
//!
//! | gate | ANDs | of these adder, digits, monomials | cross terms |
//! |---|---|---|---|
//! | truncation of a product | 46 | 46, 0, 0 | 3 |
//! | ReLU of a product | 263 | 46, 134, 83 | 6 |
//! | sign of the difference of two logits | 815 | 45, 403, 367 | 0 |
//! | ReLU of a product, by nibbles | 126 | 46, 36, 44 | 6 |
//! | sign of the difference of two logits, by nibbles | 187 | 45, 60, 82 | 0 |
//!
//! Digits suit a dealer, who multiplies in the clear: they combine in one round. Nibbles
//! ([`Gadget::Nibbles`](crate::stock::Gadget)) are cut for the fewest ANDs and combine in two. The daemon takes
//! them where there is no dealer and the parties are near each other.
//!
//! An AND costs 2 bits each way and its row; a cross term 8 bytes and one bit each way and its row; a row 8
//! bytes each way by columns, 0.1 silently. So with silent rows most bytes are those of linear layers and of
//! cross terms, and with columns those of ANDs. What a layer costs is for
//! [`Packing::requests`](crate::lattice::Packing::requests) and
//! [`Packing::replies`](crate::lattice::Packing::replies) to say: 220,176 bytes a request, and at least
//! 81,920 a reply. The first dense layers of all models share requests. A batch fills polynomials that one
//! bundle would leave half empty, hence bundles are made many at a time.
//!
//! # Keys
//!
//! Base transfers, the secret offsets and the lattice keys live in memory and serve batch after batch;
//! nothing of them is ever written. They are dropped by both sides when a making fails, and set up anew after
//! 2^32 rows. What is kept is a bundle's seed and its dependent words.
//!
//! # What a seed hides from its own party
//!
//! Nothing: each party may know all of its shares. A party that picks its seeds badly weakens its own part of
//! every mask, and the other's part still hides them from everybody but itself.
