//! Names by which a settings file refers to members, pairs, tasks and peers.

use crate::{
    error::{ValueError, quoted},
    limits::{NAME_CHARS, PEER_CHARS},
};
use serde::Serialize;
use std::{borrow::Borrow, fmt, str::FromStr};

/// Name of a member, pair or task: small letters, digits and inner hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let hyphen_outside = text.starts_with('-') || text.ends_with('-');
        if NAME_CHARS.contains(&text.len()) && text.bytes().all(allowed) && !hyphen_outside {
            return Ok(Self(text.to_owned()));
        }
        let guess: String = text
            .chars()
            .map(|character| character.to_ascii_lowercase())
            .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
            .take(*NAME_CHARS.end())
            .collect();
        let guess = guess.trim_matches('-');
        let help = (!guess.is_empty()).then(|| format!("for example `{guess}`"));
        let expected = format!(
            "a name of {} to {} characters a-z, 0-9 and inner hyphens",
            NAME_CHARS.start(),
            NAME_CHARS.end()
        );
        Err(ValueError::new(expected, quoted(text)).help(help))
    }
}

/// A libp2p peer id as text: base 58 of a plausible length. Whether it names a key is for the network layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PeerName(String);

impl PeerName {
    /// The peer id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let base58 = |byte: u8| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte);
        if PEER_CHARS.contains(&text.len()) && text.bytes().all(base58) {
            return Ok(Self(text.to_owned()));
        }
        let expected =
            format!("a peer id: {} to {} characters of base 58", PEER_CHARS.start(), PEER_CHARS.end());
        let mut help = "it starts with `12D3KooW`; copy it from the member's `consilium identity`".to_owned();
        if let Some(wrong) = text.chars().find(|character| !u8::try_from(*character).is_ok_and(base58)) {
            help = format!("base 58 has no {}; {help}", quoted(&wrong.to_string()));
        }
        Err(ValueError::new(expected, quoted(text)).help(help))
    }
}

macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $kind {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $kind {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

as_text!(Name, PeerName);

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWGzBourTnWTVwrGCVLJEgdrZDjyUeJ8Dkm8J7xDn1tRBd";

    #[test]
    fn names_are_small_letters_digits_and_inner_hyphens() {
        for good in ["a", "north-1", "9", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "North", "a b", "a_b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_refused_name_suggests_one() {
        let error = "North Clinic".parse::<Name>().unwrap_err();
        assert_eq!(error.help.as_deref(), Some("for example `north-clinic`"));
        assert_eq!("--".parse::<Name>().unwrap_err().help, None);
    }

    #[test]
    fn a_peer_is_base_58_of_plausible_length() {
        assert_eq!(PEER.parse::<PeerName>().unwrap().to_string(), PEER);
        for bad in ["", "12D3KooW", &PEER.replace('G', "0"), &PEER.replace('G', "l"), &PEER.repeat(2)] {
            assert!(bad.parse::<PeerName>().is_err(), "{bad:?} was accepted");
        }
        let error = PEER.replace('G', "I").parse::<PeerName>().unwrap_err();
        assert!(error.help.unwrap().starts_with("base 58 has no `I`"));
    }
}
