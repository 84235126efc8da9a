//! How many members must sign the next version of a roster.

use crate::{document::value, error::ValueError, limits::MEMBERS};
use serde::{Serialize, Serializer};
use std::fmt;
use toml::de::DeValue;

/// How many of the voters, the members with the role `owner` or `compute`, must sign the next version.
///
/// Never fewer than more than half: else two groups could each sign a version of their own, and neither would
/// do anything wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quorum {
    /// More than half of them.
    #[default]
    Majority,
    /// Every one: whoever is gone for good then stops all changes.
    All,
    /// That many, more than half of them.
    Count(u32),
}

const WORDS: [(&str, Quorum); 2] = [("majority", Quorum::Majority), ("all", Quorum::All)];

impl Quorum {
    /// How many signatures that is among so many voters; at least one.
    pub fn of(self, voters: usize) -> usize {
        match self {
            Self::Majority => voters / 2 + 1,
            Self::All => voters.max(1),
            Self::Count(count) => count as usize,
        }
    }

    /// Whether so many voters can reach it, and only one version at a time can.
    pub(super) fn fits(self, voters: usize) -> bool {
        match self {
            Self::Majority | Self::All => true,
            Self::Count(count) => count as usize <= voters && 2 * count as usize > voters,
        }
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Majority => f.write_str("majority"),
            Self::All => f.write_str("all"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Serialize for Quorum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            word => serializer.collect_str(word),
        }
    }
}

pub(super) fn read(found: &DeValue<'_>) -> Result<Quorum, ValueError> {
    match found {
        DeValue::Integer(_) => {
            let most = u32::try_from(*MEMBERS.end()).unwrap_or(u32::MAX);
            value::whole(found, &(1..=most)).map(Quorum::Count)
        }
        _ => {
            let help = |error: ValueError| error.help("or a number of signatures, without quotes".to_owned());
            value::choice(found, &WORDS)
                .map_err(|error| if error.help.is_none() { help(error) } else { error })
        }
    }
}
