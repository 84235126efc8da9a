//! Text in, validated settings out.
//!
//! Two files, each parsed alone and as a whole, so that one run shows every mistake with its line:
//!
//! - `consilium.toml`, one per machine: [`Node`], where this machine keeps its state and what it may use;
//! - `roster.toml`, the same on all members and public: [`Roster`], who takes part and what each task allows.
//!
//! A machine's settings may stand in more places than its file: [`Layers`] lays them over each other.
//!
//! A value of either type exists only after all checks, whether it came from a file or was put together
//! in memory ([`Node::new`], [`Roster::new`] write the text and read it back). Nothing has a default
//! where the choice is about privacy or about being reachable. Commented examples are compiled in:
//! [`EXAMPLE_NODE`] and [`EXAMPLE_ROSTER`].
//!
//! ```text
//! text → document (spans) → sections (typed values, unknown keys) → cross checks → Node, Roster
//!                └──────────── problems, all of them ────────────┴──→ ConfigError
//! ```

mod address;
mod digest;
mod document;
mod error;
mod fraction;
mod layers;
pub mod limits;
mod name;
mod node;
mod places;
mod roster;
pub mod schema;
mod starter;

pub use address::{Address, Host, RELAYED};
pub use consilium_attest::choice::NoiseRule;
pub use digest::Digest;
pub use error::{ConfigError, Problem, Problems, ValueError};
pub use fraction::Fraction;
pub use layers::{DROP_INS, DROP_INS_MAX, Layers, Origin, Settings, VARIABLE_PREFIX};
pub use name::{Name, PeerName};
pub use node::{
    Admin, Http, LocalModule, Log, LogFormat, ModuleSocket, Network, Node, Place, Pools, Transfers,
};
pub use places::Places;
pub use roster::{
    Change, Colour, Comparison, EncodingsTask, Features, HomomorphicTask, Image, Kind, Member, Module,
    NOBODY, Pair, Quorum, Recipients, Release, Resize, Role, Roster, Seats, Spenders, Standby, Stock, Task,
    Terms, Unit, Window,
};
pub use starter::Start;

/// The commented example of a node file, with every key.
pub const EXAMPLE_NODE: &str = include_str!("example/consilium.toml");
/// The commented example of a roster file, with every key.
pub const EXAMPLE_ROSTER: &str = include_str!("example/roster.toml");
