//! Invitations: a short text that lets one new node ask one member, once, to be proposed for the roster.
//!
//! It does not make anybody a member: that takes the signatures of a quorum, as any change does. It lets a stranger
//! through the gate of the inviter's node, says under which name and with which roles it comes, and tells the
//! newcomer which consortium and which peer it must find. The inviter keeps only a hash of the secret.

use super::statement::Fingerprint;
use crate::net::{Address, PeerId};
use crate::vault::hex;
use consilium_config::limits::ADDRESSES_MAX;
use consilium_config::{Name, Role};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Invitations of one node at a time.
pub(super) const INVITATIONS_MAX: usize = 64;
/// Days that an invitation may count.
pub const DAYS: std::ops::RangeInclusive<u32> = 1..=30;
/// Longest text that is read as an invitation: all addresses at their longest, and the rest.
const TEXT_BYTES_MAX: usize = ADDRESSES_MAX * 320 + 320;
const HEAD: &str = "consilium-invitation-1";

/// What the newcomer shows, once. Wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(#[serde(with = "hex")] [u8; 16]);

impl Secret {
    pub(super) fn draw() -> Option<Self> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    pub(super) fn hash(&self) -> Fingerprint {
        Fingerprint::of("consilium invitation secret 1", &[&self.0])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// An invitation as the newcomer holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The member that invites.
    pub inviter: PeerId,
    /// The consortium.
    pub consortium: Fingerprint,
    /// When it ends, in Unix seconds.
    pub expires: u64,
    /// Shown to the inviter.
    pub secret: Secret,
    /// Where the inviter answers.
    pub addresses: Vec<Address>,
}

/// Why a text is no invitation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// Not of this form at all.
    #[error(
        "this is not an invitation: it starts with `{HEAD}:` and is one line; copy all of what `consilium consortium invite` printed"
    )]
    Shape,
    /// A part of it is wrong.
    #[error(
        "the {part} of the invitation is damaged; copy all of what `consilium consortium invite` printed"
    )]
    Part {
        /// Which part.
        part: &'static str,
    },
    /// Its time is over.
    #[error("the invitation has expired; ask the member who invited you for another")]
    Expired,
}

impl Invitation {
    /// Refuses one whose time is over.
    ///
    /// # Errors
    /// [`InvitationError::Expired`].
    pub fn check_time(&self, now: u64) -> Result<(), InvitationError> {
        if now < self.expires { Ok(()) } else { Err(InvitationError::Expired) }
    }

    /// The text that reads back as this invitation. It holds the secret.
    pub fn to_text(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let secret = hex::encode(&self.secret.0);
        let (inviter, consortium, expires) = (self.inviter, self.consortium, self.expires);
        // Addresses come last: those of IPv6 hold colons.
        format!("{HEAD}:{inviter}:{consortium}:{expires}:{secret}:{}", addresses.join(","))
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvitationError::Shape);
        }
        let mut parts = text.splitn(6, ':');
        if parts.next() != Some(HEAD) {
            return Err(InvitationError::Shape);
        }
        let mut part = |part| parts.next().ok_or(InvitationError::Part { part }).map(|text| (part, text));
        fn read<T: FromStr>((part, text): (&'static str, &str)) -> Result<T, InvitationError> {
            text.parse().map_err(|_| InvitationError::Part { part })
        }
        let inviter = read(part("inviter's peer id")?)?;
        let consortium = read(part("consortium's id")?)?;
        let expires = read(part("expiry")?)?;
        let (name, secret) = part("secret")?;
        let secret = hex::decode(secret).map(Secret).ok_or(InvitationError::Part { part: name })?;
        let (name, list) = part("address list")?;
        let addresses: Vec<Address> =
            list.split(',').map(|text| read((name, text))).collect::<Result<_, _>>()?;
        if addresses.len() > ADDRESSES_MAX {
            return Err(InvitationError::Part { part: name });
        }
        Ok(Self { inviter, consortium, expires, secret, addresses })
    }
}

/// An invitation as the inviter keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invite {
    /// Hash of the secret.
    pub(super) hash: Fingerprint,
    /// The name in the roster to be.
    pub(super) name: String,
    /// Its roles to be, in words.
    pub(super) roles: Vec<String>,
    /// When it ends, in Unix seconds.
    pub(super) expires: u64,
    /// The only key that may use it, where the inviter knew it.
    pub(super) peer: Option<PeerId>,
    /// Who used it.
    pub(super) used: Option<Applicant>,
}

/// Who used an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Applicant {
    /// Its key, proved by its connection.
    pub(super) peer: PeerId,
    /// When it came, in Unix seconds.
    pub(super) at: u64,
    /// Who runs it, as it says.
    pub(super) organisation: Option<String>,
    /// Where it says that it answers.
    pub(super) addresses: Vec<String>,
}

/// What the newcomer says of itself. The key is that of its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    /// The invitation's secret.
    pub(super) secret: Secret,
    /// The name in its node file.
    pub(super) name: String,
    /// Who runs it.
    pub(super) organisation: Option<String>,
    /// Where it answers.
    pub(super) addresses: Vec<String>,
}

impl Invite {
    /// The roles, which were words of the roster when it was made.
    pub(super) fn roles(&self) -> Vec<Role> {
        self.roles.iter().filter_map(|word| word.parse().ok()).collect()
    }

    /// Whether an application may use it: nobody else did, and it comes under the right name and key.
    ///
    /// # Errors
    /// What to tell the newcomer.
    pub(super) fn allows(&self, peer: PeerId, application: &Application) -> Result<(), String> {
        if self.used.as_ref().is_some_and(|used| used.peer != peer) {
            return Err("this invitation has been used by another key already; tell the member who invited you, since \
                        somebody else has read it, and ask for another"
                .to_owned());
        }
        if self.peer.is_some_and(|expected| expected != peer) {
            return Err(format!(
                "this invitation is for another key than {peer}; compare with `consilium identity` and tell the \
                 member who invited you"
            ));
        }
        if self.name != application.name {
            return Err(format!(
                "you are invited as {}, but your node file says {}; change `node.name` there or ask for another \
                 invitation",
                self.name,
                application
                    .name
                    .parse::<Name>()
                    .map_or_else(|_| "something else".to_owned(), |name| name.to_string())
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;
    use proptest::prelude::*;

    fn invitation() -> Invitation {
        Invitation {
            inviter: Identity::generate().peer_id(),
            consortium: Fingerprint::of("t", &[]),
            expires: 1_800_000_000,
            secret: Secret::draw().unwrap(),
            addresses: ["/ip6/2001:db8::20/tcp/4710", "/dns/north.example/tcp/4710"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
        }
    }

    #[test]
    fn an_invitation_is_one_line_that_reads_back() {
        let invitation = invitation();
        let text = invitation.to_text();
        assert!(!text.contains(char::is_whitespace) && text.len() < 300, "{text}");
        assert_eq!(format!(" {text}\n").parse::<Invitation>().unwrap(), invitation);
        assert!(!format!("{invitation:?}").contains(&hex::encode(&invitation.secret.0)));
        assert_eq!(invitation.check_time(1_799_999_999), Ok(()));
        assert_eq!(invitation.check_time(1_800_000_000), Err(InvitationError::Expired));
    }

    #[test]
    fn a_damaged_invitation_says_which_part() {
        let text = invitation().to_text();
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let names = ["inviter's peer id", "consortium's id", "expiry", "secret", "address list"];
        for (at, part) in names.into_iter().enumerate() {
            let mut damaged = parts.clone();
            damaged[at + 1] = "x";
            assert_eq!(damaged.join(":").parse::<Invitation>(), Err(InvitationError::Part { part }));
            let cut = parts[..=at].join(":");
            assert_eq!(cut.parse::<Invitation>(), Err(InvitationError::Part { part }), "{cut}");
        }
        assert_eq!("hello".parse::<Invitation>(), Err(InvitationError::Shape));
        assert_eq!("x".repeat(1 << 20).parse::<Invitation>(), Err(InvitationError::Shape));
    }

    #[test]
    fn an_invite_is_for_one_key_and_one_name() {
        let (peer, other) = (Identity::generate().peer_id(), Identity::generate().peer_id());
        let secret = Secret::draw().unwrap();
        let application = Application {
            secret: secret.clone(),
            name: "south".into(),
            organisation: None,
            addresses: vec![],
        };
        let mut invite = Invite {
            hash: secret.hash(),
            name: "south".into(),
            roles: vec!["owner".into()],
            expires: 9,
            peer: None,
            used: None,
        };
        assert_eq!(invite.roles(), [Role::Owner]);
        assert_eq!(invite.allows(peer, &application), Ok(()));
        invite.peer = Some(other);
        assert!(invite.allows(peer, &application).unwrap_err().contains("another key"));
        invite.peer = None;
        invite.used = Some(Applicant { peer: other, at: 1, organisation: None, addresses: vec![] });
        assert!(invite.allows(peer, &application).unwrap_err().contains("used"));
        assert_eq!(invite.allows(other, &application), Ok(()), "the same key may ask again");
        let named = Application { name: "sooth".into(), ..application };
        assert!(invite.allows(other, &named).unwrap_err().contains("invited as south"));
        assert_ne!(Secret::draw().unwrap().hash(), invite.hash);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}", place in any::<prop::sample::Index>()) {
            let _ = text.parse::<Invitation>();
            let whole = invitation().to_text();
            let at = place.index(whole.len());
            if whole.is_char_boundary(at) {
                let _ = format!("{}{text}{}", &whole[..at], &whole[at..]).parse::<Invitation>();
            }
        }

        #[test]
        fn any_bytes_give_an_application_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = crate::net::codec::decode::<Application>(&bytes);
            let _ = crate::net::codec::decode::<Invite>(&bytes);
        }
    }
}
