//! Why a node could not start.

use crate::consortium::ConsortiumError;
use crate::message::Refusal;
use crate::net::{self, PeerId};
use crate::noise::JournalError;
use crate::task::TaskError;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// This machine's key is not in the roster.
    #[error(
        "the roster {roster} has no member with this node's peer id {peer}; add it there, or check node.identity"
    )]
    NotAMember {
        /// The roster's file.
        roster: String,
        /// This node's peer id.
        peer: PeerId,
    },
    /// The roster names this node otherwise.
    #[error("this node is called {found} in its configuration and {expected} in the roster; use one name")]
    Name {
        /// The roster's name.
        expected: String,
        /// The configuration's name.
        found: String,
    },
    /// A peer id or address of the roster is not valid.
    #[error("member {member} of the roster: {explanation}")]
    Member {
        /// Its name.
        member: String,
        /// What is wrong.
        explanation: String,
    },
    /// Two seats on one node.
    #[error(
        "this node sits in pairs {0} and {1}; run one node for each seat, with its own key and state folder"
    )]
    Seats(String, String),
    /// The roster has this node carry bytes to the module, and it does not know where the module is.
    #[error(
        "the roster names this node as the host of the noise module; write `socket = \"unix:/run/consilium-enclave/\
         socket\"` under `[module]` in the node file, and start `consilium-enclave` there"
    )]
    ModuleSocket,
    /// The roster names a host of the module who is no member.
    #[error("the roster names {0} as the host of the noise module, who is no member")]
    Host(String),
    /// The record of the module's draws.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A pair names somebody who is no member.
    #[error("pair {0} names somebody who is no member of the roster")]
    Pair(String),
    /// The signed roster.
    #[error(transparent)]
    Consortium(#[from] ConsortiumError),
    /// A configuration file.
    #[error(transparent)]
    Config(#[from] consilium_config::ConfigError),
    /// A task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The network.
    #[error(transparent)]
    Network(#[from] Box<net::NetError>),
    /// This node's key.
    #[error(transparent)]
    Identity(#[from] net::IdentityError),
    /// Files.
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// The pools of correlated randomness.
    #[error(transparent)]
    Pools(#[from] crate::pool::PoolError),
    /// The dealer, or a seat, cannot begin.
    #[error(transparent)]
    Dealer(#[from] Refusal),
}
