//! What comes with an answer.

use consilium_attest::Provenance;
use serde::{Deserialize, Serialize};

/// Where an answer comes from and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerTerms {
    /// Words of this party's share.
    pub share_words: u32,
    /// Owners whose models voted.
    pub owners: u32,
    /// Models of each of them, one vote each.
    #[serde(default = "alone")]
    pub shards: u32,
    /// Of a one-class task the owners whose models took part, in the order of the labels, after which comes nobody;
    /// of other tasks none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Where the noise came from.
    pub noise: Provenance,
    /// Where the correlated randomness came from.
    pub preprocessing: String,
    /// How secret values were compared.
    #[serde(default = "bit_triples")]
    pub gadget: String,
    /// What was charged to each owner, in units of 2^-40.
    pub charged: u64,
    /// Rounds between the compute parties.
    pub rounds: u32,
    /// Bytes that this party sent in them, for all questions that shared them.
    pub bytes: u64,
    /// How long they took here, in microseconds.
    #[serde(default)]
    pub rounds_us: u64,
    /// Questions that shared these rounds, this one included.
    #[serde(default = "alone")]
    pub together: u32,
    /// Processor time of this party's thread for these rounds, in microseconds; 0 where the system does
    /// not tell.
    #[serde(default)]
    pub cpu_us: u64,
    /// Correlations (bundles) burnt.
    pub bundles: u32,
    /// Whether this is an earlier answer to the same question.
    pub repeated: bool,
}

// Of answers that were stored before their terms said so.

fn alone() -> u32 {
    1
}

fn bit_triples() -> String {
    "digits".to_owned()
}
