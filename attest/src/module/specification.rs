//! What both compute parties ask the module for: one text, signed by both.

use consilium_protocol::party::Party;
use consilium_protocol::privacy::{Mechanism, NumberError, Ratio};
use ring::digest::{SHA256, digest};

use super::bytes::{Bytes, DecodeError};
use super::signature::{PartyKey, SIGNATURE_BYTES, SigningFailed, is_signed};
use crate::share::CLASSES_MAX;

/// Most integers of one batch, so that a share fits one frame.
pub const VALUES_MAX: usize = 8_000;
/// Bytes of an encoded specification.
pub const SPECIFICATION_BYTES: usize = 204;
/// Bytes of an encoded specification with both signatures.
pub const SIGNED_BYTES: usize = SPECIFICATION_BYTES + 2 * SIGNATURE_BYTES;

const DOMAIN: &[u8] = b"consilium noise specification 1\0";
const VERSION: u8 = 1;

/// One batch of noise. Both parties sign the same bytes, and the module draws for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specification {
    /// The noise.
    pub mechanism: Mechanism,
    /// Classes of each release.
    pub classes: u16,
    /// Releases that the batch serves.
    pub draws: u32,
    /// Digest of the task.
    pub task: [u8; 32],
    /// Digest of the policy that the module's evidence was checked against.
    pub policy: [u8; 32],
    /// The boot of the module that is to draw; another one refuses.
    pub boot: [u8; 16],
    /// Number of the batch, used once.
    pub batch: [u8; 16],
    /// Ed25519 identity keys of the compute parties, Zero first.
    pub parties: [[u8; 32]; 2],
}

/// Why a specification is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecificationError {
    /// Not the bytes of a specification.
    #[error("not a specification: {0}")]
    Malformed(#[from] DecodeError),
    /// A number of the mechanism that no release can have.
    #[error("not a specification: {0}")]
    Number(#[from] NumberError),
    /// A second way to write the same specification.
    #[error("a specification has one form, and these bytes are not it")]
    Form,
    /// Nothing to draw.
    #[error("an exact release has no noise to draw")]
    Exact,
    /// No class, or more than a release can have.
    #[error("{classes} classes were asked for; a release has between 1 and {CLASSES_MAX}")]
    Classes {
        /// Classes asked for.
        classes: u16,
    },
    /// No draw, or more than one batch holds.
    #[error("a batch of {draws} draws has {values} integers; it must have between 1 and {VALUES_MAX}")]
    Draws {
        /// Draws asked for.
        draws: u32,
        /// Integers of all draws.
        values: u64,
    },
    /// One key for both seats.
    #[error("both compute parties have the same key")]
    Alone,
    /// A party did not sign this.
    #[error("party {party} did not sign this specification")]
    Signature {
        /// Whose signature is wrong.
        party: Party,
    },
}

impl Specification {
    /// Integers of one draw: one for each class, and one more where the largest count has its own noise.
    pub fn width(&self) -> usize {
        usize::from(self.classes) + usize::from(self.mechanism.threshold_noise().is_some())
    }

    /// Integers of the whole batch. At most [`VALUES_MAX`] once [`Specification::check`] is through.
    pub fn values(&self) -> u64 {
        self.width() as u64 * u64::from(self.draws)
    }

    /// The seat of a key.
    pub fn seat(&self, key: &[u8; 32]) -> Option<Party> {
        let [zero, one] = &self.parties;
        match key {
            key if key == zero => Some(Party::Zero),
            key if key == one => Some(Party::One),
            _ => None,
        }
    }

    /// Refuses what no module draws.
    ///
    /// # Errors
    /// The first bound that is not kept.
    pub fn check(&self) -> Result<(), SpecificationError> {
        let (classes, draws, values) = (self.classes, self.draws, self.values());
        if self.mechanism == Mechanism::Exact {
            return Err(SpecificationError::Exact);
        }
        if !(1..=CLASSES_MAX).contains(&usize::from(classes)) {
            return Err(SpecificationError::Classes { classes });
        }
        if !(1..=VALUES_MAX as u64).contains(&values) {
            return Err(SpecificationError::Draws { draws, values });
        }
        if self.parties[0] == self.parties[1] {
            return Err(SpecificationError::Alone);
        }
        Ok(())
    }

    /// The bytes, in a layout without choices.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SPECIFICATION_BYTES);
        bytes.push(VERSION);
        write_mechanism(&mut bytes, &self.mechanism);
        bytes.extend(self.classes.to_le_bytes());
        bytes.extend(self.draws.to_le_bytes());
        bytes.extend(self.task);
        bytes.extend(self.policy);
        bytes.extend(self.boot);
        bytes.extend(self.batch);
        bytes.extend(self.parties.as_flattened());
        bytes
    }

    /// Reads what [`Specification::encode`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`SpecificationError`] for other bytes, or for what [`Specification::check`] refuses.
    pub fn decode(encoded: &[u8]) -> Result<Self, SpecificationError> {
        let mut bytes = Bytes::new(encoded);
        let version = bytes.byte()?;
        if version != VERSION {
            return Err(DecodeError::Tag { what: "version of a specification", tag: version }.into());
        }
        let specification = Self {
            mechanism: read_mechanism(&mut bytes)?,
            classes: bytes.u16()?,
            draws: bytes.u32()?,
            task: bytes.array()?,
            policy: bytes.array()?,
            boot: bytes.array()?,
            batch: bytes.array()?,
            parties: [bytes.array()?, bytes.array()?],
        };
        bytes.end()?;
        if specification.encode() != encoded {
            return Err(SpecificationError::Form);
        }
        specification.check()?;
        Ok(specification)
    }

    /// What each party signs.
    fn text(&self) -> Vec<u8> {
        [DOMAIN, &self.encode()].concat()
    }

    /// SHA-256 over the domain and the bytes: the name of the specification in receipts.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &self.text()).as_ref());
        bytes
    }

    /// This party's signature, to be exchanged with the other party's.
    ///
    /// # Errors
    /// [`SigningFailed`] where the key cannot be used.
    pub fn sign(&self, key: &impl PartyKey) -> Result<[u8; SIGNATURE_BYTES], SigningFailed> {
        key.sign(&self.text())
    }

    /// The specification with both signatures, checked.
    ///
    /// # Errors
    /// What [`Specification::check`] refuses, or [`SpecificationError::Signature`].
    pub fn signed(
        self,
        signatures: [[u8; SIGNATURE_BYTES]; 2],
    ) -> Result<SignedSpecification, SpecificationError> {
        self.check()?;
        let text = self.text();
        for party in Party::BOTH {
            let seat = party as usize;
            if !is_signed(&self.parties[seat], &text, &signatures[seat]) {
                return Err(SpecificationError::Signature { party });
            }
        }
        Ok(SignedSpecification { specification: self, signatures })
    }
}

/// A specification that both parties did sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSpecification {
    specification: Specification,
    signatures: [[u8; SIGNATURE_BYTES]; 2],
}

impl SignedSpecification {
    /// What was signed.
    pub const fn specification(&self) -> &Specification {
        &self.specification
    }

    /// The bytes: [`SIGNED_BYTES`] of them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.specification.encode();
        bytes.extend(self.signatures.as_flattened());
        bytes
    }

    /// Reads what [`SignedSpecification::encode`] wrote and checks both signatures.
    ///
    /// # Errors
    /// [`SpecificationError`].
    pub fn decode(encoded: &[u8]) -> Result<Self, SpecificationError> {
        let mut bytes = Bytes::new(encoded);
        let specification = bytes.take(SPECIFICATION_BYTES)?;
        let signatures = [bytes.array()?, bytes.array()?];
        bytes.end()?;
        Specification::decode(specification)?.signed(signatures)
    }
}

/// A tag and five numbers, of which a mechanism uses what it has; the others are zero.
fn write_mechanism(bytes: &mut Vec<u8>, mechanism: &Mechanism) {
    let terms = |ratio: &Ratio| [ratio.numerator(), ratio.denominator()];
    let none = [0; 2];
    let (tag, counts, threshold, top) = match mechanism {
        Mechanism::Exact => (0, none, 0, none),
        Mechanism::Gaussian { sigma_squared } => (1, terms(sigma_squared), 0, none),
        Mechanism::ConfidentGaussian { sigma_squared, threshold, threshold_sigma_squared } => {
            (2, terms(sigma_squared), *threshold, terms(threshold_sigma_squared))
        }
        Mechanism::Laplace { epsilon } => (3, terms(epsilon), 0, none),
    };
    bytes.push(tag);
    for term in counts.into_iter().chain(top) {
        bytes.extend(term.to_le_bytes());
    }
    bytes.extend(threshold.to_le_bytes());
}

fn read_mechanism(bytes: &mut Bytes<'_>) -> Result<Mechanism, SpecificationError> {
    let tag = bytes.byte()?;
    let [above, below, top_above, top_below] = [bytes.u64()?, bytes.u64()?, bytes.u64()?, bytes.u64()?];
    let threshold = bytes.u32()?;
    Ok(match tag {
        0 => return Err(SpecificationError::Exact),
        1 => Mechanism::Gaussian { sigma_squared: Ratio::new(above, below)? },
        2 => Mechanism::ConfidentGaussian {
            sigma_squared: Ratio::new(above, below)?,
            threshold,
            threshold_sigma_squared: Ratio::new(top_above, top_below)?,
        },
        3 => Mechanism::Laplace { epsilon: Ratio::new(above, below)? },
        _ => return Err(DecodeError::Tag { what: "mechanism", tag }.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::trial::{self, key};
    use super::*;

    #[test]
    fn the_bytes_come_back() {
        for mechanism in trial::mechanisms() {
            let specification = Specification { mechanism, ..trial::specification() };
            let bytes = specification.encode();
            assert_eq!(bytes.len(), SPECIFICATION_BYTES);
            assert_eq!(Specification::decode(&bytes).unwrap(), specification);
            let signed = trial::signed(specification);
            assert_eq!(signed.encode().len(), SIGNED_BYTES);
            assert_eq!(SignedSpecification::decode(&signed.encode()).unwrap(), signed);
        }
    }

    #[test]
    fn every_bit_is_signed() {
        let signed = trial::signed(trial::specification()).encode();
        for bit in 0..8 * signed.len() {
            let mut changed = signed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(SignedSpecification::decode(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn both_must_sign() {
        let specification = trial::specification();
        let [zero, one] = [0, 1].map(|seat| specification.sign(&key(seat)).unwrap());
        let signed = |signatures| specification.clone().signed(signatures).unwrap_err();
        assert_eq!(signed([one, one]), SpecificationError::Signature { party: Party::Zero });
        assert_eq!(signed([zero, zero]), SpecificationError::Signature { party: Party::One });
        assert_eq!(signed([one, zero]), SpecificationError::Signature { party: Party::Zero });
        let other = Specification { task: [9; 32], ..specification.clone() };
        assert_eq!(
            other.signed([zero, one]).unwrap_err(),
            SpecificationError::Signature { party: Party::Zero }
        );
    }

    #[test]
    fn bounds_are_named() {
        let check = |change: fn(&mut Specification)| {
            let mut specification = trial::specification();
            change(&mut specification);
            let error = specification.check().unwrap_err();
            let encoded = Specification::decode(&specification.encode());
            assert_eq!(encoded.unwrap_err(), error);
            error
        };
        assert_eq!(check(|it| it.mechanism = Mechanism::Exact), SpecificationError::Exact);
        assert_eq!(check(|it| it.classes = 0), SpecificationError::Classes { classes: 0 });
        assert_eq!(check(|it| it.classes = 4097), SpecificationError::Classes { classes: 4097 });
        assert_eq!(check(|it| it.draws = 0), SpecificationError::Draws { draws: 0, values: 0 });
        let many = check(|it| (it.classes, it.draws) = (4096, u32::MAX));
        assert_eq!(many, SpecificationError::Draws { draws: u32::MAX, values: 4096 * u64::from(u32::MAX) });
        assert_eq!(check(|it| it.parties[1] = it.parties[0]), SpecificationError::Alone);
    }

    #[test]
    fn there_is_one_form() {
        let bytes = trial::specification().encode();
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            Specification::decode(&bytes).unwrap_err()
        };
        // 25/1 written as 50/2, and a threshold where there is none.
        assert_eq!(refused(|bytes| (bytes[2], bytes[10]) = (50, 2)), SpecificationError::Form);
        assert_eq!(refused(|bytes| bytes[34] = 1), SpecificationError::Form);
        let version = DecodeError::Tag { what: "version of a specification", tag: 2 };
        assert_eq!(refused(|bytes| bytes[0] = 2), SpecificationError::Malformed(version));
        let tag = DecodeError::Tag { what: "mechanism", tag: 4 };
        assert_eq!(refused(|bytes| bytes[1] = 4), SpecificationError::Malformed(tag));
        assert!(matches!(refused(|bytes| bytes[2..10].fill(0)), SpecificationError::Number(_)));
        assert!(matches!(refused(|bytes| bytes.push(0)), SpecificationError::Malformed(_)));
    }

    proptest::proptest! {
        #![proptest_config(trial::fuzz())]
        #[test]
        fn any_bytes_give_the_specification_that_they_are(
            classes: u16,
            draws in 0u32..9_000,
            bits in proptest::collection::vec((0..SPECIFICATION_BYTES, 0u8..8), 0..4),
            noise: Vec<u8>,
        ) {
            let mut bytes = Specification { classes, draws, ..trial::specification() }.encode();
            for (at, bit) in bits {
                bytes[at] ^= 1 << bit;
            }
            if let Ok(wanted) = Specification::decode(&bytes) {
                proptest::prop_assert!(wanted.values() <= VALUES_MAX as u64);
                proptest::prop_assert_eq!(wanted.encode(), bytes.clone());
            }
            let _ = Specification::decode(&noise);
            bytes.extend(&noise);
            proptest::prop_assert!(noise.is_empty() || Specification::decode(&bytes).is_err());
            proptest::prop_assert!(SignedSpecification::decode(&bytes).is_err());
        }
    }
}
