//! What members sign: one version of the roster, and its place in the chain of all versions.
//!
//! The text stays what people read and review. Beside it stands the signature file, which names the consortium,
//! the number of the version, the version before it and the exact bytes of the text, and holds the signatures.
//! Which members signed does not change what a version *is*: nodes may hold other signatures of the same one.

use crate::net::{Identity, PeerId};
use crate::vault::hex;
use consilium_config::limits::{FILE_BYTES_MAX, MEMBERS};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text of a version.
pub const TEXT_BYTES_MAX: usize = FILE_BYTES_MAX;
/// Most signatures of a version: one for each member.
pub const SIGNATURES_MAX: usize = *MEMBERS.end();
/// Longest signature file.
pub(super) const SIGNED_BYTES_MAX: u64 = 1 << 20;
/// Latest moment that a version may claim, about the year 36,000; larger numbers have no place in TOML.
pub(super) const AT_MAX: u64 = 1 << 40;
/// What a signature is a signature of, so that none can be moved to another kind of statement.
const DOMAIN: &str = "consilium roster signature 1";

/// SHA-256 of something that members agree on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(#[serde(with = "hex")] [u8; 32]);

impl Fingerprint {
    /// What stands where there is nothing before.
    pub(super) const NONE: Self = Self([0; 32]);

    /// `domain` says what is hashed; every part carries its length, so that no two lists of parts are alike.
    pub(super) fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [domain.as_bytes()].into_iter().chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// The first digits, enough to tell a few apart by eye.
    pub fn short(&self) -> String {
        hex::encode(self.0.get(..6).unwrap_or_default())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = NotHexadecimal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::decode(text).map(Self).ok_or(NotHexadecimal)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct NotHexadecimal;

/// One version of the roster, as it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The consortium: the hash of its founding text and moment. An invitation carries it.
    pub consortium: Fingerprint,
    /// 1 for the founding version, then rising by one.
    pub version: u64,
    /// The version before this one; zeros for the founding version.
    pub previous: Fingerprint,
    /// The exact text, comments included.
    pub text: Fingerprint,
    /// When it was proposed, in Unix seconds, as its proposer says.
    pub at: u64,
}

impl Statement {
    /// The founding version of a text.
    pub(super) fn founding(text: &str, at: u64) -> Self {
        let consortium = consortium_of(text, at);
        Self { consortium, version: 1, previous: Fingerprint::NONE, text: text_of(text), at }
    }

    /// The version after this one.
    pub(super) fn next(&self, text: &str, at: u64) -> Self {
        Self {
            consortium: self.consortium,
            version: self.version.saturating_add(1),
            previous: self.fingerprint(),
            text: text_of(text),
            at,
        }
    }

    /// What stands for the whole: later versions name it, and members sign it.
    pub fn fingerprint(&self) -> Fingerprint {
        let parts: [&[u8]; 5] = [
            &self.consortium.0,
            &self.version.to_le_bytes(),
            &self.previous.0,
            &self.text.0,
            &self.at.to_le_bytes(),
        ];
        Fingerprint::of("consilium roster version 1", &parts)
    }

    /// A member's signature.
    pub(super) fn sign(&self, identity: &Identity) -> Signature {
        let bytes = identity.sign(DOMAIN, &self.fingerprint().0);
        let mut signature = Signature { signer: identity.peer_id(), bytes: [0; 64] };
        // An Ed25519 signature has 64 bytes; one of another length would not verify.
        for (to, from) in signature.bytes.iter_mut().zip(bytes) {
            *to = from;
        }
        signature
    }

    /// Whether a signature is one of this statement, by whoever it names.
    pub(super) fn is_signed_by(&self, signature: &Signature) -> bool {
        signature.signer.verify(DOMAIN, &self.fingerprint().0, &signature.bytes)
    }
}

/// The fingerprint of a text.
pub(super) fn text_of(text: &str) -> Fingerprint {
    Fingerprint::of("consilium roster text 1", &[text.as_bytes()])
}

/// The name of the consortium that a text founds.
pub(super) fn consortium_of(text: &str, at: u64) -> Fingerprint {
    Fingerprint::of("consilium consortium 1", &[text.as_bytes(), &at.to_le_bytes()])
}

/// One member's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The member.
    pub signer: PeerId,
    /// Ed25519, 64 bytes.
    #[serde(with = "hex")]
    pub bytes: [u8; 64],
}

/// The signature file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// What is signed.
    pub statement: Statement,
    /// By whom; none yet for a draft.
    #[serde(rename = "signature", default)]
    pub signatures: Vec<Signature>,
}

/// Why bytes are no signature file.
#[derive(Debug, thiserror::Error)]
#[error("this is no signature file of a roster: {0}")]
pub struct NotSigned(String);

impl Signed {
    const HEAD: &str =
        "# Signatures of the roster beside this file. Every node checks them; do not edit either.\n\n";

    /// The file's text.
    ///
    /// # Errors
    /// [`NotSigned`] for numbers that TOML cannot hold, which no checked version has.
    pub fn to_toml(&self) -> Result<String, NotSigned> {
        let text = toml::to_string(self).map_err(|error| NotSigned(error.to_string()))?;
        Ok(format!("{}{text}", Self::HEAD))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn parse(text: &str) -> Result<Self, NotSigned> {
        let signed: Self = toml::from_str(text).map_err(|error| NotSigned(error.message().to_owned()))?;
        if signed.signatures.len() > SIGNATURES_MAX {
            return Err(NotSigned(format!("more than {SIGNATURES_MAX} signatures")));
        }
        Ok(signed)
    }

    /// Whether a member's signature is among them; says nothing of its being right.
    pub(super) fn names(&self, signer: PeerId) -> bool {
        self.signatures.iter().any(|signature| signature.signer == signer)
    }
}

/// A text with its signature file. Nothing about it is known to be true: [`super::VerifiedRoster`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The signature file.
    pub signed: Signed,
    /// The text.
    pub text: String,
}

impl Version {
    pub(super) fn new(statement: Statement, text: String) -> Self {
        Self { signed: Signed { statement, signatures: Vec::new() }, text }
    }

    /// About as many bytes as it takes to send it.
    pub(super) fn weight(&self) -> usize {
        self.text.len() + 160 * self.signed.signatures.len() + 512
    }

    pub(super) fn statement(&self) -> &Statement {
        &self.signed.statement
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.signed.statement.fingerprint()
    }

    /// Adds this node's signature, once.
    pub(super) fn sign(&mut self, identity: &Identity) {
        if !self.signed.names(identity.peer_id()) {
            self.signed.signatures.push(self.signed.statement.sign(identity));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::codec;
    use proptest::prelude::*;

    fn version() -> Version {
        let text = "[consortium]\nname = 'a'\n".to_owned();
        let mut version = Version::new(Statement::founding(&text, 7), text);
        version.sign(&Identity::generate());
        version
    }

    #[test]
    fn signature_files_read_back_and_say_what_they_are() {
        let signed = version().signed;
        let text = signed.to_toml().unwrap();
        assert!(text.starts_with("# Signatures"), "{text}");
        assert!(text.contains("[statement]") && text.contains("[[signature]]"), "{text}");
        assert_eq!(Signed::parse(&text).unwrap(), signed);
        assert!(Signed::parse(&text.replace("version = 1", "version = 1\nextra = 2")).is_err());
        assert!(Signed::parse("").is_err());
    }

    #[test]
    fn every_field_is_under_the_signature() {
        let version = version();
        let (statement, signature) = (*version.statement(), version.signed.signatures[0]);
        assert!(statement.is_signed_by(&signature));
        let other = Fingerprint::of("other", &[]);
        for changed in [
            Statement { consortium: other, ..statement },
            Statement { version: 2, ..statement },
            Statement { previous: other, ..statement },
            Statement { text: other, ..statement },
            Statement { at: 8, ..statement },
        ] {
            assert!(!changed.is_signed_by(&signature), "{changed:?}");
        }
        let mut flipped = signature;
        flipped.bytes[9] ^= 1;
        assert!(!statement.is_signed_by(&flipped));
        let stranger = Signature { signer: Identity::generate().peer_id(), ..signature };
        assert!(!statement.is_signed_by(&stranger));
    }

    #[test]
    fn a_version_is_what_it_says_and_not_who_signed_it() {
        let mut version = version();
        let before = version.fingerprint();
        version.sign(&Identity::generate());
        assert_eq!(version.fingerprint(), before);
        let text = version.text.as_str();
        assert_ne!(Statement::founding(text, 7).consortium, Statement::founding(text, 8).consortium);
        assert_ne!(text_of(text), text_of(&format!("{text}# a comment is part of what is read\n")));
    }

    fn cases() -> ProptestConfig {
        let cases =
            std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
        ProptestConfig { cases, failure_persistence: None, ..Default::default() }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn any_bytes_give_a_version_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = codec::decode::<Version>(&bytes);
            let _ = Signed::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_damaged_version_is_never_the_signed_one(place in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let version = version();
            let mut bytes = codec::encode(&version).unwrap();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(read) = codec::decode::<Version>(&bytes) {
                let whole = text_of(&read.text) == read.statement().text
                    && read.signed.signatures.iter().all(|one| read.statement().is_signed_by(one));
                // A signature may be read from a key in another encoding, but never of other words.
                prop_assert!(!whole || read == version || read.signed.signatures.is_empty());
            }
        }
    }
}
