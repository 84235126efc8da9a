//! The private release: noise on class counts and the account of what it costs.
//!
//! - Computes: integer noise, fresh and independent for every class, whose law is known exactly, and the
//!   privacy loss of releasing the label with the largest noisy count.
//! - Learns: nobody but the party that draws it knows the noise; the account depends only on public
//!   parameters and on how many labels were released, never on votes.
//! - Consumes: a seed from a generator handed in by the caller; no correlation.
//! - Costs: no message. Drawing takes the same time and the same random words whatever is drawn.
//! - Source: Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", 2020, for the
//!   law, its cost and the conversion; digit-wise geometric draws as in Dwork et al., "Our Data, Ourselves",
//!   2006. The samplers differ from the paper's: rejection betrays the drawn value by its running time.
//!
//! The unit of privacy is one vote: replacing an owner's whole training set moves its vote from one class to
//! another, which changes two counts by one each (L1 distance 2, L2 distance √2). Whatever is computed from
//! the noisy counts afterwards, the label above all, costs nothing more.
//!
//! A [`Mechanism`] names the noise, a [`Sampler`] draws it, a [`Cost`] is what one label takes from a
//! [`Budget`], an [`Account`] is what was taken so far. [`winners`] says how often a label survives the noise.
//!
//! ```
//! use consilium_protocol::privacy::{Budget, Mechanism};
//!
//! let mechanism = Mechanism::Gaussian { sigma_squared: "100".parse()? };
//! let budget = Budget { epsilon: "8".parse()?, delta: Some("1e-6".parse()?) };
//! assert_eq!(budget.labels(&mechanism)?, Some(105));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accountant;
#[cfg(test)]
mod agreement;
mod conversion;
mod cost;
#[cfg(test)]
mod drawn;
mod gaussian;
mod geometric;
mod law;
mod mechanism;
mod number;
#[cfg(test)]
mod oracle;
mod sampler;
mod selection;

pub use accountant::{Account, AccountError, Budget, BudgetError, epsilon_of};
pub use conversion::cks_epsilon;
pub use cost::{COST_ONE, Cost, CostError, Unit};
pub use law::Law;
pub use mechanism::Mechanism;
pub use number::{Delta, NumberError, Ratio};
pub use sampler::Sampler;
pub use selection::{winners, winners_under};
