//! What members say to each other beside the rounds of a query.
//!
//! One message is one frame of CBOR, bounded by [`MESSAGE_BYTES_MAX`]. Bulk (shares, openings,
//! corrections) follows in raw frames whose length both sides know from the message ([`crate::bulk`]).

mod answer;

pub use answer::AnswerTerms;

use crate::ledger::{Head, OwnerBooks, ReleaseId, SignedStatement};
use crate::pool::{Holding, PoolId};
use crate::registry::{Announcement, MaskId, ModelId};
use consilium_attest::tickets::Ticket;
use consilium_protocol::graph::Architecture;
use consilium_protocol::stock::Gadget;
use serde::{Deserialize, Serialize};

/// Longest message.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Longest request of a client; what it asks about follows in a frame of known length.
pub const QUESTION_BYTES_MAX: usize = 64 << 10;
/// Longest explanation in a refusal.
const EXPLANATION_CHARS_MAX: usize = 600;

/// What stood in the way, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// The roster does not give the asker this right.
    NotAllowed,
    /// The asker's roster is not the one in force.
    Roster,
    /// No such task, or other public terms of it.
    Task,
    /// The request does not fit the task.
    Request,
    /// The model does not fit the task.
    Model,
    /// A privacy budget is spent.
    Budget,
    /// The release id cannot be used again.
    Release,
    /// Too few models are ready.
    Models,
    /// No correlated randomness is at hand.
    Correlations,
    /// The two compute parties hold different correlated randomness; they agree anew.
    Epoch,
    /// The other compute party cannot be reached, or failed.
    Peer,
    /// The dealer cannot be reached, or failed.
    Dealer,
    /// The deadline passed.
    Deadline,
    /// The task's rule allows no source of noise that is there.
    Noise,
    /// The two privacy ledgers do not match.
    Ledger,
    /// The client has had as many inputs answered as the roster grants it.
    Inputs,
    /// Encodings protect nothing, and the roster does not call the task an experiment.
    Laboratory,
    /// As much is being done as may be at a time, or the node is being stopped; later it may be granted.
    Busy,
    /// Storage or memory of the one who refuses.
    Local,
}

/// A request that was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{explanation}")]
pub struct Refusal {
    /// What stood in the way.
    pub obstacle: Obstacle,
    /// What happened and what to do, for people. Of a peer one line of bounded length is read.
    #[serde(deserialize_with = "line")]
    pub explanation: String,
}

impl Refusal {
    /// A refusal with its explanation, cut to a bounded length.
    pub fn new(obstacle: Obstacle, explanation: impl std::fmt::Display) -> Self {
        let explanation = explanation.to_string().chars().take(EXPLANATION_CHARS_MAX).collect();
        Self { obstacle, explanation }
    }

    /// What a peer hears of it. Of this node's disk and memory it is not told more than that they failed, and `then`.
    pub(crate) fn for_peer(self, node: &str, then: &str) -> Self {
        match self.obstacle {
            Obstacle::Local => {
                Self::new(self.obstacle, format!("{node} failed at this, and its log says why; {then}"))
            }
            _ => self,
        }
    }

    /// What a node answers that lets no further question in, because its administrator stops it.
    pub fn stopping() -> Self {
        Self::new(Obstacle::Busy, "this node is being stopped; ask again when it is back")
    }
}

/// A peer's explanation, which goes to logs and terminals: cut, and without control characters.
fn line<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
    Ok(text.chars().take(EXPLANATION_CHARS_MAX).map(shown).collect())
}

/// From an owner to a compute party.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum PublishRequest {
    /// To party Zero: draw a weight mask for each of an owner's new models. Answered by
    /// [`PublishReply::Masks`].
    Announce {
        /// Task to vote in.
        task: String,
        /// Public terms of the task as the owner knows them.
        task_digest: [u8; 32],
        /// The public part of each model: as many as the task asks of an owner.
        networks: Vec<Architecture>,
    },
    /// The share of all models of a registration follows in bulk: 16 bytes (a seed) to party Zero, 8 bytes
    /// per parameter to party One. Answered by [`PublishReply::Stored`].
    Share(Announcement),
    /// To party Zero, when both hold their shares: open the masked weights and let the models vote.
    /// Answered by [`PublishReply::Ready`].
    Activate {
        /// The registration.
        model: ModelId,
    },
    /// Remove a registration. Answered by [`PublishReply::Withdrawn`].
    Withdraw {
        /// The registration.
        model: ModelId,
    },
    /// The owner's own accounts. Answered by [`PublishReply::Books`].
    Books {
        /// The task.
        task: String,
    },
    /// Another budget or data epoch of the owner. Answered by [`PublishReply::Recorded`].
    State(SignedStatement),
}

/// From a compute party to an owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum PublishReply {
    /// The masks under which the weights will be opened, one for each model.
    Masks(Vec<MaskId>),
    /// The share is durable.
    Stored,
    /// The models vote from now on.
    Ready,
    /// The models are gone.
    Withdrawn,
    /// The owner's own accounts.
    Books(Box<OwnerBooks>),
    /// The statement is durable.
    Recorded(Head),
    /// Not granted.
    Refused(Refusal),
}

/// From party Zero to party One, one request a channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum PairRequest {
    /// Compares rosters and ledgers before any query.
    Hello {
        /// Digest of the roster.
        roster: [u8; 32],
        /// Head of this side's ledger.
        head: Head,
        /// Last head of the other side's ledger that this side saw.
        seen: Option<Head>,
        /// Models that were withdrawn here while the other side could not be told.
        withdrawn: Vec<ModelId>,
    },
    /// Shows heads without any consequence, for a report. Either party may ask.
    Heads,
    /// Opens the masked weights of a registration; this side's opening follows in bulk, the other
    /// side's comes after [`PairReply::Opening`].
    Open {
        /// The model.
        model: ModelId,
    },
    /// Goes on with the pool of a task, or begins one, for these models.
    Activate {
        /// The task.
        task: String,
        /// Fresh randomness of this side.
        nonce: [u8; 16],
        /// The registrations in the order of the plan.
        models: Vec<ModelId>,
        /// How the plan compares.
        gadget: Gadget,
        /// Digest of the plan.
        plan: [u8; 32],
        /// What this side holds for them.
        held: Option<Holding>,
    },
    /// One side lost a batch; the other gives it up as well. Either party may say so.
    Discard {
        /// The task.
        task: String,
        /// The pool.
        pool: PoolId,
        /// First serial of the batch.
        first: u64,
    },
    /// Makes more correlated randomness; what the source says in between follows on this channel.
    Refill {
        /// The task.
        task: String,
        /// The epoch.
        epoch: [u8; 16],
        /// First serial.
        first: u64,
        /// Number of serials.
        count: u32,
    },
    /// Whether the other side is in this epoch of a task, while nothing else is to be said.
    InForce {
        /// The task.
        task: String,
        /// The epoch.
        epoch: [u8; 16],
    },
    /// Removes a model.
    Withdraw {
        /// The model.
        model: ModelId,
    },
    /// Has the module draw one batch of noise for both. Answered by [`PairReply::Noise`]; both then ask the module,
    /// party Zero sends its receipt as a raw frame, and party One's comes with [`PairReply::Drawn`].
    Noise {
        /// What both sign.
        specification: Vec<u8>,
        /// This side's signature.
        signature: Vec<u8>,
    },
    /// Party Zero refused a question, so party One need not wait for it.
    Forget {
        /// The release.
        release: ReleaseId,
        /// Why.
        refusal: Refusal,
    },
}

/// From party Zero to party One on the channel of a refill that the two make themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeRequest {
    /// Fresh name of this making.
    pub tag: [u8; 16],
    /// Name of the making whose keys Zero still holds.
    pub keys: Option<[u8; 16]>,
    /// First serial.
    pub first: u64,
    /// Number of serials.
    pub count: u32,
}

/// From party Zero to party One before new keys are set up. Both then swap as many frames of
/// [`PROBE_BYTES`], after which Zero says in the same way what is to be done, with no frames.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeKeys {
    /// Frames that both swap now, to see how fast the link is.
    pub probes: u8,
    /// Whether the keys are for silent transfers.
    pub silent: bool,
}

/// Bytes of a frame that serves only to measure the link.
pub const PROBE_BYTES: usize = 1 << 20;

/// From party One to party Zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeReply {
    /// Whether One holds the same keys; else both set up new ones.
    pub keep: bool,
}

/// From party One to party Zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum PairReply {
    /// The rosters and ledgers match.
    Hello {
        /// Head of the answering side's ledger.
        head: Head,
        /// Last head of the asking side's ledger that the answering side saw.
        seen: Option<Head>,
        /// Models that were withdrawn here while the asking side could not be told.
        withdrawn: Vec<ModelId>,
    },
    /// The ledgers as they are.
    Heads {
        /// Head of the answering side's ledger.
        head: Head,
        /// Last head of the asking side's ledger that the answering side saw.
        seen: Option<Head>,
    },
    /// The opening follows in bulk.
    Opening,
    /// Both go on with the pool; what they agree on follows from what either held.
    Resumed {
        /// What the answering side held.
        held: Holding,
    },
    /// A new pool has begun, and every earlier one of the task is burnt here.
    Active {
        /// Fresh randomness of the answering side.
        nonce: [u8; 16],
    },
    /// The batch is on the disk.
    Filled {
        /// Name of the making; both parties must have the same.
        tag: [u8; 16],
    },
    /// Signed as well, which this signature shows; both now ask the module.
    Noise(Vec<u8>),
    /// The batch of noise is kept. The module's receipt, which must be the asking side's as well.
    Drawn(Vec<u8>),
    /// No batch of noise.
    NoNoise {
        /// Whether evidence was refused, rather than somebody out of reach.
        refused: bool,
        /// Why.
        reason: String,
    },
    /// Done.
    Done,
    /// Not granted.
    Refused(Refusal),
}

/// From party Zero to party One on an online channel, before the rounds of a query.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineRequest {
    /// The task.
    pub task: String,
    /// The epoch.
    pub epoch: [u8; 16],
    /// The questions that will share the rounds; serials go up.
    pub questions: Vec<NamedQuestion>,
    /// Head of party Zero's ledger after its own reservations.
    pub head: Head,
}

/// One question of an [`OnlineRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedQuestion {
    /// The release.
    pub release: ReleaseId,
    /// The serial that this query burns.
    pub serial: u64,
    /// Who asks, as party Zero knows it.
    pub client: String,
    /// Queries side by side that the client asks.
    pub rows: u32,
    /// Where its noise comes from.
    pub noise: NamedNoise,
}

/// Where a release takes its noise from, as party Zero names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum NamedNoise {
    /// There is none: the task's contract is an exact release.
    Exact,
    /// Full noise of each party.
    Software,
    /// This draw of the module's.
    Module(Ticket),
}

/// From party One to party Zero: reserved durably as well, or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum OnlineReply {
    /// Durable; the rounds may begin, if any question is left.
    Reserved {
        /// Head of party One's ledger after its reservations.
        head: Head,
        /// Questions that take no part: nothing was reserved for them, and nothing will be.
        refused: Vec<(ReleaseId, Refusal)>,
    },
    /// Nothing was reserved, and nothing will be for these ids.
    Refused(Refusal),
}

/// From a client to both compute parties. The share of the input follows in one raw frame: 16 bytes
/// (a seed) to party Zero, 8 bytes per value to party One.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// Name of this question; asking again under the same name costs nothing.
    pub release: ReleaseId,
    /// The task.
    pub task: String,
    /// Public terms of the task as the client knows them.
    pub task_digest: [u8; 32],
    /// Queries side by side, at most the task's batch.
    pub rows: u32,
}

/// From a compute party to a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum QueryReply {
    /// This party's share of the label follows in one raw frame of [`AnswerTerms::share_words`] words.
    Answer(AnswerTerms),
    /// Not granted.
    Refused(Refusal),
}

/// From a compute party to the dealer. Answered by [`DealReply`], then one bulk per serial:
/// a seed of 16 bytes, and behind it the words of this party's half that no seed gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DealRequest {
    /// The task.
    pub task: String,
    /// The epoch, which is named like its pool.
    pub epoch: [u8; 16],
    /// Public part and weight mask of each model, in the order of the plan.
    pub models: Vec<(Architecture, MaskId)>,
    /// How the plan compares.
    pub gadget: Gadget,
    /// Digest of the plan.
    pub plan: [u8; 32],
    /// First serial.
    pub first: u64,
    /// Number of serials.
    pub count: u32,
}

/// From the dealer to a compute party.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum DealReply {
    /// The bundles follow.
    Dealing {
        /// This run of the dealer; both parties must see the same.
        run: [u8; 16],
        /// Dependent words of each bundle for the asking party.
        words: u64,
    },
    /// Not granted.
    Refused(Refusal),
}

/// From a compute party to the dealer, about weight masks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum MaskRequest {
    /// Draw a fresh mask (party Zero).
    Draw,
    /// This party's seed of a mask.
    Seed(MaskId),
    /// The mask is not needed any more (party Zero).
    Delete(MaskId),
}

/// From the dealer to a compute party, about weight masks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum MaskReply {
    /// The mask that was drawn.
    Drawn(MaskId),
    /// The asking party's seed follows in one raw frame of 16 bytes.
    Seed,
    /// Done.
    Deleted,
    /// Not granted.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::codec::{decode, encode};
    use crate::pool::Batch;
    use crate::registry::{Encoding, Shard};
    use consilium_attest::Provenance;
    use consilium_protocol::graph::{Layer, Measure, Network, Shape, Window};
    use proptest::prelude::*;

    fn cases() -> ProptestConfig {
        let cases = std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok());
        ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases.unwrap_or(500)) }
    }

    fn network() -> Architecture {
        let layers = vec![
            Layer::Conv { outputs: 2, window: Window::plain(3, 1) },
            Layer::Relu,
            Layer::Dense { outputs: 3 },
        ];
        Network::new(Shape { channels: 1, height: 8, width: 8 }, layers).unwrap().into()
    }

    /// One valid message of each kind.
    fn messages() -> Vec<Vec<u8>> {
        let (model, mask, release) = (ModelId([1; 16]), MaskId([2; 16]), ReleaseId([3; 16]));
        let task = || "exact".to_owned();
        let head = Head { sequence: 4, hash: [5; 32] };
        let refusal = || Refusal::new(Obstacle::Budget, "spent");
        let measure = Measure::Projection { input: Shape::vector(64), rank: 3 }.into();
        let shards =
            vec![Shard { network: network(), mask }, Shard { network: measure, mask: MaskId([9; 16]) }];
        let (owner, encoding) = ("west".into(), Some(Encoding([4; 16])));
        let announced =
            Announcement { task: task(), owner, model, version: 1, data_epoch: 2, encoding, shards };
        let batches = vec![Batch { first: 4, count: 4, tag: [1; 16] }];
        let held = Some(Holding { pool: [8; 16], mark: 5, next: 8, batches });
        let (nonce, plan) = ([6; 16], [7; 32]);
        let gadget = Gadget::Keys;
        let pair = PairRequest::Activate { task: task(), nonce, models: vec![model], gadget, plan, held };
        let ticket = Ticket { boot: [4; 16], batch: 2, place: 7 };
        let noise = NamedNoise::Module(ticket);
        let named = NamedQuestion { release, serial: 9, client: "clinic".into(), rows: 1, noise };
        let draw = PairRequest::Noise { specification: vec![1; 204], signature: vec![2; 64] };
        let online = OnlineRequest { task: task(), epoch: [8; 16], questions: vec![named; 2], head };
        let terms = AnswerTerms {
            share_words: 1,
            owners: 10,
            users: Vec::new(),
            shards: 5,
            noise: Provenance::Exact,
            preprocessing: "dealer".into(),
            gadget: "digits".into(),
            charged: 0,
            rounds: 13,
            bytes: 8000,
            rounds_us: 700,
            together: 3,
            cpu_us: 900,
            bundles: 1,
            repeated: false,
        };
        let deal = DealRequest {
            task: task(),
            epoch: [8; 16],
            models: vec![(network(), mask)],
            gadget,
            plan: [7; 32],
            first: 0,
            count: 4,
        };
        let question = QueryRequest { release, task: task(), task_digest: [1; 32], rows: 1 };
        [
            encode(&PublishRequest::Share(announced)),
            encode(&PublishReply::Refused(refusal())),
            encode(&pair),
            encode(&draw),
            encode(&PairReply::Drawn(vec![3; 200])),
            encode(&PairReply::Hello { head, seen: Some(head), withdrawn: vec![model] }),
            encode(&online),
            encode(&OnlineReply::Reserved { head, refused: vec![(release, refusal())] }),
            encode(&question),
            encode(&QueryReply::Answer(terms)),
            encode(&deal),
            encode(&DealReply::Dealing { run: [1; 16], words: 3 }),
            encode(&MaskRequest::Seed(mask)),
            encode(&MaskReply::Drawn(mask)),
        ]
        .into_iter()
        .map(Result::unwrap)
        .collect()
    }

    /// Whether each kind of message reads from these bytes, in the order of [`messages`].
    fn read_all(bytes: &[u8]) -> [bool; 14] {
        [
            decode::<PublishRequest>(bytes).is_ok(),
            decode::<PublishReply>(bytes).is_ok(),
            decode::<PairRequest>(bytes).is_ok(),
            decode::<PairRequest>(bytes).is_ok(),
            decode::<PairReply>(bytes).is_ok(),
            decode::<PairReply>(bytes).is_ok(),
            decode::<OnlineRequest>(bytes).is_ok(),
            decode::<OnlineReply>(bytes).is_ok(),
            decode::<QueryRequest>(bytes).is_ok(),
            decode::<QueryReply>(bytes).is_ok(),
            decode::<DealRequest>(bytes).is_ok(),
            decode::<DealReply>(bytes).is_ok(),
            decode::<MaskRequest>(bytes).is_ok(),
            decode::<MaskReply>(bytes).is_ok(),
        ]
    }

    #[test]
    fn what_a_peer_explains_is_one_line_of_bounded_length() {
        let said = Refusal {
            obstacle: Obstacle::Busy,
            explanation: format!("a\nb\u{1b}[2J{}", "é".repeat(EXPLANATION_CHARS_MAX)),
        };
        let heard: Refusal = decode(&encode(&said).unwrap()).unwrap();
        assert!(heard.explanation.starts_with("a b [2Jé"), "{heard}");
        assert_eq!(heard.explanation.chars().count(), EXPLANATION_CHARS_MAX);
    }

    #[test]
    fn every_message_reads_back_as_its_own_kind() {
        for (kind, bytes) in messages().iter().enumerate() {
            assert!(read_all(bytes)[kind], "kind {kind}");
        }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn any_bytes_give_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            read_all(&bytes);
        }

        #[test]
        fn damaged_messages_give_a_message_or_an_error(
            kind in 0usize..14,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
            shortened: bool,
        ) {
            let mut bytes = messages().swap_remove(kind);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if shortened {
                bytes.truncate(cut.index(bytes.len()));
            }
            read_all(&bytes);
        }
    }
}
