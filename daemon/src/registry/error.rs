//! Every way in which the registry says no.

use super::{MaskId, ModelId, ModelState};
use crate::vault::{StoreError, VaultError};
use consilium_config::limits::SHARDS;

/// Why the registry refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such model.
    #[error("model {model} is not registered here")]
    Unknown {
        /// The model.
        model: ModelId,
    },
    /// The id was announced with another content.
    #[error("model {model} was announced differently before; give the changed model a new id")]
    Differs {
        /// The model.
        model: ModelId,
    },
    /// The mask belongs to another model.
    #[error("mask {mask} belongs to another model; draw a fresh one for every registration")]
    MaskTaken {
        /// The mask.
        mask: MaskId,
    },
    /// A second opening under one mask would give the difference of two models away.
    #[error(
        "mask {mask} is pinned for other weights of model {model}; register the model anew with a fresh mask"
    )]
    OtherOpening {
        /// The model.
        model: ModelId,
        /// The mask.
        mask: MaskId,
    },
    /// A step that is not next.
    #[error("cannot {action} model {model} while it is {state}")]
    State {
        /// The model.
        model: ModelId,
        /// Where it stands.
        state: ModelState,
        /// What was asked.
        action: &'static str,
    },
    /// A share or opening of a length that no model has.
    #[error("{found} values for model {model}; 1 to {} are allowed", super::SHARE_VALUES_MAX)]
    Length {
        /// The model.
        model: ModelId,
        /// Values found.
        found: usize,
    },
    /// A registration of no model, or of more than any task asks for.
    #[error("{count} models in registration {model}; an owner has {} to {}", SHARDS.start(), SHARDS.end())]
    Shards {
        /// The registration.
        model: ModelId,
        /// Models found.
        count: usize,
    },
    /// A name that is empty or too long.
    #[error("the {what} name has {length} bytes; 1 to {} are allowed", super::record::NAME_BYTES_MAX)]
    Name {
        /// Whose name.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// The registry is full.
    #[error("{} models are registered, which is the limit; withdraw some first", super::MODELS_MAX)]
    TooMany,
    /// A stored record that cannot be read.
    #[error(
        "the stored record of model {model} is damaged or of a newer release; upgrade, or withdraw it and let its owner publish it again"
    )]
    Record {
        /// The model.
        model: ModelId,
    },
    /// The part of a mask that this party holds has served long enough.
    #[error("mask {mask} has served its life, which is {most} bundles in batches of this size")]
    Worn {
        /// The mask.
        mask: MaskId,
        /// Bundles that it may serve.
        most: u64,
    },
    /// No such mask.
    #[error("mask {mask} is not known here; it was deleted or never drawn")]
    UnknownMask {
        /// The mask.
        mask: MaskId,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sealed file or value.
    #[error(transparent)]
    Vault(#[from] VaultError),
}
