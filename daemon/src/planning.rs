//! What a privacy budget buys, worked out before anything is spent.
//!
//! A [`Service`] is public: how many votes there are, which noise, which budget. A [`Profile`] says how votes
//! usually split, measured on votes that are not private or modelled from a few numbers. From both follow,
//! for any amount of noise, the number of answers and how often they are right: the chance of each class to
//! win a noisy vote is computed, not sampled, so that the same question always gets the same plan.
//!
//! Nothing here touches the votes of a running service. A plan made from those would itself betray them.

mod advice;
mod outlook;
mod profile;
mod search;
mod service;
mod setting;
mod votes;

pub use advice::{Advice, Verdict};
pub(crate) use advice::{count, span, thousands};
pub use outlook::{Outlook, Row};
pub use profile::{Case, Profile, ProfileError, Tendency};
pub(crate) use search::noise_share;
pub use search::{Plan, Wanted};
pub(crate) use service::{ANSWERS_WANTED, SHARE_USUAL, answers_within};
pub use service::{NoiseMaker, PrivacyUnit, Service, ServiceError};
pub use setting::{Family, Setting};
pub use votes::{VoteTable, VotesError};
