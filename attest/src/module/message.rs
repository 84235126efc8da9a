//! What a party and the module say to each other inside their channel.

use consilium_protocol::party::Party;
use zeroize::Zeroizing;

use super::bytes::{Bytes, DecodeError};
use super::receipt::{RECEIPT_BYTES, Receipt, SALT_BYTES};
use super::signature::SIGNATURE_BYTES;
use crate::evidence::Evidence;

/// What a party asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Who is asking: an identity key and its signature over the hash of the handshake. Comes first, once.
    Introduce { key: [u8; 32], signature: [u8; SIGNATURE_BYTES] },
    /// Evidence for this nonce; batches of this channel are drawn under this policy.
    Attest { nonce: [u8; 32], policy: [u8; 32] },
    /// A batch. The bytes are read apart, so that a faulty specification is a refusal, not a broken channel.
    Draw { signed: Vec<u8> },
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Introduce { key, signature } => [&[1_u8][..], key, signature].concat(),
            Self::Attest { nonce, policy } => [&[2_u8][..], nonce, policy].concat(),
            Self::Draw { signed } => [&[3_u8][..], signed].concat(),
        }
    }

    pub(crate) fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new(text);
        let request = match bytes.byte()? {
            1 => Self::Introduce { key: bytes.array()?, signature: bytes.array()? },
            2 => Self::Attest { nonce: bytes.array()?, policy: bytes.array()? },
            3 => Self::Draw { signed: bytes.rest().to_vec() },
            tag => return Err(DecodeError::Tag { what: "request", tag }),
        };
        bytes.end()?;
        Ok(request)
    }
}

/// Why the module did not do what was asked. The channel stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// The bytes are no specification, or ask for what no module draws.
    #[error("the specification is malformed or out of bounds")]
    Specification = 1,
    /// A signature is missing or wrong.
    #[error("the specification is not signed by both compute parties")]
    Signature = 2,
    /// The party on this channel has no seat in the specification.
    #[error("the party on this channel is neither of the two that the specification names")]
    Party = 3,
    /// The specification is for another boot of the module.
    #[error("the specification is for another boot of the module")]
    Boot = 4,
    /// The specification names another policy than the evidence on this channel was made for.
    #[error("the specification names another policy than the evidence of this channel")]
    Policy = 5,
    /// The number was used before, in this boot.
    #[error("the number of the batch was used before")]
    Used = 6,
    /// The same party waits for this batch on another channel.
    #[error("this party already waits for this batch on another channel")]
    Waiting = 7,
    /// The parties sent different specifications under one number; neither is served.
    #[error("the two compute parties asked for different things under one number of a batch")]
    Differs = 8,
    /// The module has served all batches that it remembers; restart it.
    #[error("the module has drawn as many batches as it can tell apart; restart it")]
    Exhausted = 9,
    /// The platform gave no evidence.
    #[error("the module's platform gave no evidence")]
    Evidence = 10,
    /// The system gave no random bytes.
    #[error("the module's system gave no random bytes")]
    Entropy = 11,
}

impl Refusal {
    const ALL: [Self; 11] = [
        Self::Specification,
        Self::Signature,
        Self::Party,
        Self::Boot,
        Self::Policy,
        Self::Used,
        Self::Waiting,
        Self::Differs,
        Self::Exhausted,
        Self::Evidence,
        Self::Entropy,
    ];
}

/// One party's half of a batch.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Half {
    /// Whose half.
    pub(crate) party: Party,
    /// What opens this party's commitment in the receipt.
    pub(crate) salt: Zeroizing<[u8; SALT_BYTES]>,
    /// The seed of the share for Zero, its words in little-endian order for One.
    pub(crate) share: Zeroizing<Vec<u8>>,
    /// What the module signed.
    pub(crate) receipt: Receipt,
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Half(of party {}, {} bytes)", self.party, self.share.len())
    }
}

/// What the module answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Evidence, and with it the values bound by it that the party does not know yet.
    Evidence(Evidence),
    /// Half of a batch.
    Half(Half),
    /// No.
    Refused(Refusal),
}

impl Reply {
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Evidence(evidence) => [&[1_u8][..], &evidence.encode()].concat(),
            Self::Half(half) => {
                let head = [2, half.party as u8];
                [&head[..], half.salt.as_slice(), &half.receipt.encode(), &half.share].concat()
            }
            Self::Refused(refusal) => vec![3, *refusal as u8],
        })
    }

    pub(crate) fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new(text);
        let reply = match bytes.byte()? {
            1 => {
                let malformed = |_| DecodeError::Inner { what: "envelope of the evidence" };
                Self::Evidence(Evidence::decode(bytes.rest()).map_err(malformed)?)
            }
            2 => {
                let tag = bytes.byte()?;
                let party = Party::BOTH.get(usize::from(tag)).copied();
                let party = party.ok_or(DecodeError::Tag { what: "party", tag })?;
                let salt = Zeroizing::new(bytes.array()?);
                let receipt = Receipt::decode(bytes.take(RECEIPT_BYTES)?)?;
                Self::Half(Half { party, salt, share: Zeroizing::new(bytes.rest().to_vec()), receipt })
            }
            3 => {
                let tag = bytes.byte()?;
                let refusal = Refusal::ALL.into_iter().find(|refusal| *refusal as u8 == tag);
                Self::Refused(refusal.ok_or(DecodeError::Tag { what: "refusal", tag })?)
            }
            tag => return Err(DecodeError::Tag { what: "reply", tag }),
        };
        bytes.end()?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::super::specification::VALUES_MAX;
    use super::super::{channel::TEXT_BYTES_MAX, trial};
    use super::*;
    use crate::binding::EvidenceKind;
    use ed25519_dalek::SigningKey;

    fn half(bytes: usize) -> Half {
        let key = SigningKey::from_bytes(&[9; 32]);
        let receipt = Receipt::issue(&key, ([1; 16], 5), ([2; 32], [3; 16]), [[4; 32], [5; 32]]);
        let share = Zeroizing::new(vec![0xAB; bytes]);
        Half { party: Party::One, salt: Zeroizing::new([6; SALT_BYTES]), share, receipt }
    }

    #[test]
    fn requests_come_back() {
        let signed = trial::signed(trial::specification()).encode();
        for request in [
            Request::Introduce { key: [1; 32], signature: [2; SIGNATURE_BYTES] },
            Request::Attest { nonce: [3; 32], policy: [4; 32] },
            Request::Draw { signed },
        ] {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
            let mut longer = request.encode();
            longer.push(0);
            let decoded = Request::decode(&longer);
            assert!(decoded.is_err() || matches!(decoded, Ok(Request::Draw { .. })));
        }
        assert_eq!(Request::decode(&[]).unwrap_err(), DecodeError::Short { missing: 1 });
        assert!(matches!(Request::decode(&[4]), Err(DecodeError::Tag { what: "request", tag: 4 })));
    }

    #[test]
    fn replies_come_back_and_fit_a_frame() {
        let binding = trial::binding(EvidenceKind::Tdx);
        let evidence = Evidence { binding, body: vec![7; 65_000], endorsements: vec![vec![8; 100]] };
        let refusals = Refusal::ALL.map(Reply::Refused);
        let others = [Reply::Evidence(evidence), Reply::Half(half(8 * VALUES_MAX)), Reply::Half(half(16))];
        for reply in others.into_iter().chain(refusals) {
            let text = reply.encode();
            assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
            assert_eq!(Reply::decode(&text).unwrap(), reply);
        }
        assert!(Reply::decode(&[3, 12]).is_err());
        assert!(Reply::decode(&[3, 1, 0]).is_err());
        assert!(Reply::decode(&[2, 2]).is_err());
    }

    #[test]
    fn halves_are_not_printed() {
        assert_eq!(format!("{:?}", Reply::Half(half(24))), "Half(Half(of party one, 24 bytes))");
    }

    proptest::proptest! {
        #![proptest_config(trial::fuzz())]
        #[test]
        fn any_text_gives_a_message_or_an_error(mut text: Vec<u8>, tag in 0u8..5) {
            if let Some(first) = text.first_mut() {
                *first = tag;
            }
            if let Ok(request) = Request::decode(&text) {
                proptest::prop_assert_eq!(request.encode(), text.clone());
            }
            if let Ok(reply) = Reply::decode(&text) {
                proptest::prop_assert_eq!(reply.encode().to_vec(), text);
            }
        }
    }
}
