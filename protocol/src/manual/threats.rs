//! Threat model: who is trusted with what.
//!
//! # Roles
//!
//! An *owner* has a model. A *client* has an input and gets a label. The *compute parties* Zero and One hold
//! one share each of everything, and make the correlated randomness that they use up. Only where a pair names
//! a *dealer* does that third member make it. One member may hold several roles, but the two seats and the
//! dealer of a pair are different members, and seats that name an organisation name different ones (the
//! roster is refused otherwise).
//!
//! # What is assumed
//!
//! - Both compute parties follow the protocol (*semi-honest*), remember all they see, and do not
//!   collude with each other.
//! - Without a dealer nobody else is trusted, and what the parties send each other ahead of demand rests on
//!   what [`review`](super::review) lists: Diffie-Hellman, a hash from AES, ring learning with errors, and,
//!   for silent transfers, parity with noise.
//! - A dealer, where a pair names one, follows the protocol and does not collude with a compute party. It
//!   knows every mask; with either party's view of the opened values it has inputs and weights. In exchange
//!   there is no public-key cryptography among the assumptions but that of the network.
//! - Owners and clients may do anything, and may collude with one another and with one compute party.
//! - AES-128 and HMAC-SHA-256 behave as pseudorandom functions, SHA-256 as collision resistant, and the
//!   operating system's generator is good. The network layer authenticates members and encrypts.
//! - All members hold the same roster. The parties compare digests of it before an epoch begins; client
//!   and owner send the digest of the task's public terms.
//!
//! # What follows
//!
//! | corrupted | learns at most |
//! |---|---|
//! | one compute party, any owners and clients | public facts below, and the labels of those clients |
//! | the dealer if there is one, any owners and clients | public facts below, how much is prepared and when, the labels of those clients |
//! | an observer of the network | sizes and times |
//! | clients and owners | the labels of those clients; what a label says about a model is bounded by the release |
//!
//! Public facts: the roster, every model's architecture and version, who asks about which task and when,
//! how many rows, which models voted, what was charged.
//!
//! The labels themselves are bounded by the ledger: see [`crate::privacy`]. Noise drawn in software is a
//! full draw of each party. A corrupted party knows its own and can take it away; what the honest one
//! added still has the deviation that the ledger charged for. Noise that a module draws is argued in
//! [`attestation`](super::attestation).
//!
//! # Who decides who computes
//!
//! Whoever can change the roster can put a compute party into a pair, and two compute parties in one hand
//! read every share that is sent to them from then on. A signed roster is changed by a *quorum* of the
//! version before: more than half of the members that own or compute, never fewer. So it takes as many of
//! them in collusion, or their keys. A quorum of others could still send an owner's new models and a
//! client's new questions elsewhere; therefore each node stays with the version before until its own
//! administrator agrees to other keys for a task of its own. What was shared before stays with the pair that
//! has it. An invitation gives no right but to be proposed, and its thief must still have its key signed in.
//! The founder of a consortium is its quorum until a second member votes. Where a roster is an unsigned file,
//! all of this is up to whoever can write the file.
//!
//! # Several pairs of one task
//!
//! A task may name further pairs, of other members, which clients ask when those before them cannot answer. Owners
//! and clients share anew for each pair, under seeds that depend on it or are drawn for it, so shares that different
//! pairs hold open nothing together: one party of each pair may collude. What is assumed of a pair is assumed of
//! each of them, since each holds all models; a further pair is a further pair of organisations that must not
//! collude, and the price of being answered while one is away.
//!
//! Nothing keeps the pairs' ledgers together while they serve, and no pair can know whether another one is down, so
//! a client may ask any of them at any time. Each has a *slice* of every account's limit beforehand, in parts that
//! sum to one. Limits are amounts of rho, or of epsilon for Laplace noise. Both add up over releases that different
//! parties made in any order, each chosen by what was answered before, so what all pairs spend is at most the
//! amount from which the slices were cut, and the task's epsilon and delta hold for all answers of all pairs. This
//! is why the amounts are cut and not the epsilons: rho goes with the square of epsilon, and pairs with parts of
//! epsilon and delta, which basic composition would allow, would leave most of the budget unused. A slice is fixed
//! when a task's book is opened. Pairs and slices of a task with a budget are therefore settled before it starts;
//! a pair that is named later begins with an empty ledger, and whoever signs such a roster gives it that slice anew.
//!
//! # Malicious owners
//!
//! Bounds on weights are proved by the owner's own tool; nothing at the compute parties enforces them, as
//! this would need the weights. A liar's wires may wrap, so that its comparisons give arbitrary bits. Its
//! vote still adds exactly 1 to the sum of counts: all entries but the last come from XOR-shared bits,
//! and the last is 1 minus their sum ([`crate::online::vote`]). Each pair of classes is compared once, and
//! an entry is the conjunction of the outcomes of all its pairs, so two entries cannot both be 1:
//! their common pair has one outcome. So the vote is one-hot whatever the outcomes are, and a liar
//! moves at most its own vote. No other model's lane uses its wires or masks, but for the input mask,
//! which is opened once for all.
//!
//! In a one-class task a liar's distances and threshold are its own: it can claim inputs that are others', as a user
//! with a very good model could, and at most one user is named whatever the comparisons say
//! ([`crate::online::nearest`]). It cannot see what it claimed.
//!
//! A member has as many votes in a task as the roster gives every owner, one by default: what it publishes is
//! counted whole or not at all, and of several versions only the newest votes. Several members in one hand have
//! more votes; whom the roster admits is the consortium's business.
//!
//! # A promise to patients
//!
//! Where each owner has several models, the noise hides one of them, and with it a patient who is in the
//! training of one. That a patient is in one only, with all records, and that nothing of the patients decides
//! who is in which, is up to the owner: weights are shared, so nobody else can see it. An owner who splits
//! badly breaks the promise to its own patients and to nobody else's. All that an owner trained on is as many
//! votes as it has models, and a patient of several owners is one vote of each; their loss is
//! [`of_group`](crate::privacy::Cost::of_group).
//!
//! # Malicious clients
//!
//! Shares of unequal inputs are shares of some input. An input outside the task's bounds may wrap in all
//! models; the result is still one label of one-hot votes with the same noise, charged alike. The two
//! parties compare the client's name, the task and the number of rows before they compute. They cannot see
//! that two questions are the same, so the same question under a new name is charged, and answered with
//! fresh noise.
//!
//! # Not protected
//!
//! - *Malicious compute parties.* Openings carry no check value. A party that sends wrong values makes
//!   results wrong without being noticed, and there is no claim about what it learns. Preprocessing has no
//!   consistency checks either: there a party that deviates may learn shares of the other one's masks, and
//!   with them weights and inputs ([`review`](super::review), under *deviating*).
//! - *Malicious dealer.* Wrong correlations make labels wrong; a bundle of the wrong length is noticed.
//! - *Availability.* A compute party can stop the service, a dealer can let the pool run dry, a client
//!   can spend its own budget and, where the roster sets no `client_epsilon`, everybody's. A client that
//!   gives its share to one party only holds the questions beside its own up, for a bounded time each.
//! - *Architecture, traffic and membership.* See the public facts.
//! - *The machine.* Whoever reads the memory of a compute party has its shares. Files are sealed under a
//!   key that lies on the same machine; this helps against lost disks without the key, nothing else.
//! - *An old disk.* The partner notices an older ledger by its head, and both give up their pools; service
//!   waits for the newer ledger.
//! - *Both disks from one moment.* If both parties are restored from backups of the same moment, their heads
//!   agree and nobody notices. Charges since then are forgotten, so more labels are given than the budget
//!   allows. Bundles used since then are used again: two questions under one mask, of which each party sees
//!   the difference of all masked values, the two inputs among them. Whoever must restore both removes the
//!   folder `pools` on one side before it starts, which burns all bundles of that time on both; the charges
//!   have to be accounted for by hand. Better: do not restore, but withdraw and publish anew.
//! - *What labels say about the client's input.* The client gets its own label; to whom it shows it is
//!   its own affair.
//!
//! No code here makes or checks hardware evidence.
