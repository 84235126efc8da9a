//! The record of one model, without any secret.

use super::RegistryError;
use crate::vault::hex;
use consilium_config::limits::SHARDS;
use consilium_protocol::graph::Architecture;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// Longest name of a task or an owner, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 128;
/// Deeper nesting than any record has, far less than a stack has room for.
const RECORD_DEPTH_MAX: usize = 16;

/// Name of one registration of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(
    /// Random bytes.
    #[serde(with = "hex")]
    pub [u8; 16],
);

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// Name of one weight mask. It says nothing about the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaskId(
    /// Random bytes.
    #[serde(with = "hex")]
    pub [u8; 16],
);

impl fmt::Display for MaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// Name of how a task has its models written as words: digest of kind, input, numbers and bounds. Words that were
/// written otherwise would be read as other models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Encoding(
    /// The start of a SHA-256.
    #[serde(with = "hex")]
    pub [u8; 16],
);

/// The public part of one model, and the mask under which its weights are opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The public part.
    pub network: Architecture,
    /// The mask, for this model alone.
    pub mask: MaskId,
}

/// What an owner says about the models that it registers together: one, or one for each part of its patients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The task that they vote in.
    pub task: String,
    /// Whose models they are.
    pub owner: String,
    /// Name of this registration.
    pub model: ModelId,
    /// The owner's version of its models.
    pub version: u64,
    /// The owner's data epoch that they were trained in, whose account they are charged to.
    #[serde(default)]
    pub data_epoch: u32,
    /// How their words are written; not said by what was registered before this was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The models, in the order in which they vote. They are shared, opened, counted and withdrawn as one.
    pub shards: Vec<Shard>,
}

impl Announcement {
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        for (what, name) in [("task", &self.task), ("owner", &self.owner)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(RegistryError::Name { what, length: name.len() });
            }
        }
        let count = self.shards.len();
        if !u32::try_from(count).is_ok_and(|count| SHARDS.contains(&count)) {
            return Err(RegistryError::Shards { model: self.model, count });
        }
        let mut masks = HashSet::new();
        match self.shards.iter().find(|shard| !masks.insert(shard.mask)) {
            Some(twice) => Err(RegistryError::MaskTaken { mask: twice.mask }),
            None => Ok(()),
        }
    }
}

/// How far a registration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelState {
    /// Known; the share is to come.
    Announced,
    /// Our share of the weights is stored.
    Shared,
    /// Its mask is bound to that share; the opening may be sent.
    Pinned,
    /// The masked weights are open; queries may be answered.
    Ready,
}

impl fmt::Display for ModelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Announced => "announced",
            Self::Shared => "shared",
            Self::Pinned => "pinned",
            Self::Ready => "ready",
        })
    }
}

/// What is known of a model here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// What its owner says.
    pub announced: Announcement,
    /// How far it has come.
    pub state: ModelState,
}

impl ModelRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).expect("a record has no map key or float that CBOR lacks");
        bytes
    }

    pub(super) fn decode(model: ModelId, bytes: &[u8]) -> Result<Self, RegistryError> {
        ciborium::de::from_reader_with_recursion_limit::<Self, _>(bytes, RECORD_DEPTH_MAX)
            .ok()
            .filter(|record| record.announced.model == model)
            .ok_or(RegistryError::Record { model })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use consilium_protocol::graph::{Layer, Network, Shape, Window};

    pub(in crate::registry) fn announcement(n: u8) -> Announcement {
        let layers = vec![
            Layer::Conv { outputs: 2, window: Window::plain(3, 1) },
            Layer::Relu,
            Layer::MaxPool { window: Window::plain(2, 2) },
            Layer::Dense { outputs: 3 },
        ];
        let input = Shape { channels: 1, height: 6, width: 6 };
        Announcement {
            task: "chest".into(),
            owner: "north".into(),
            model: ModelId([n + 100; 16]),
            version: 1,
            data_epoch: 0,
            encoding: Some(Encoding([n; 16])),
            shards: vec![Shard {
                network: Network::new(input, layers).unwrap().into(),
                mask: MaskId([n; 16]),
            }],
        }
    }

    #[test]
    fn a_record_is_read_back_only_under_its_own_name() {
        let record = ModelRecord { announced: announcement(1), state: ModelState::Pinned };
        let bytes = record.encode();
        assert_eq!(ModelRecord::decode(ModelId([101; 16]), &bytes).unwrap(), record);
        assert!(matches!(ModelRecord::decode(ModelId([9; 16]), &bytes), Err(RegistryError::Record { .. })));
        for length in 0..bytes.len() {
            assert!(ModelRecord::decode(ModelId([101; 16]), &bytes[..length]).is_err());
        }
    }

    #[test]
    fn shards_are_bounded_and_each_has_its_own_mask() {
        let with = |count: usize| {
            let mut announced = announcement(1);
            let network = announced.shards[0].network.clone();
            let mask = |at: usize| MaskId([at as u8; 16]);
            announced.shards =
                (0..count).map(|at| Shard { network: network.clone(), mask: mask(at) }).collect();
            announced
        };
        for count in [1, 2, 64] {
            with(count).check().unwrap();
        }
        for count in [0, 65] {
            assert!(matches!(with(count).check(), Err(RegistryError::Shards { .. })), "{count}");
        }
        let mut twice = with(3);
        twice.shards[2].mask = twice.shards[0].mask;
        assert!(matches!(twice.check(), Err(RegistryError::MaskTaken { .. })));
    }

    #[test]
    fn names_are_bounded() {
        let mut long = announcement(1);
        long.owner = "x".repeat(129);
        assert!(matches!(long.check(), Err(RegistryError::Name { what: "owner", length: 129 })));
        let mut empty = announcement(1);
        empty.task.clear();
        assert!(empty.check().is_err());
    }
}
