//! Text in, validated settings out.

mod address;
mod digest;
mod error;
mod fraction;
pub mod limits;
mod name;

pub use address::{Address, Host};
pub use digest::Digest;
pub use error::{ConfigError, Problem, Problems, ValueError};
pub use fraction::Fraction;
pub use name::{Name, PeerName};
