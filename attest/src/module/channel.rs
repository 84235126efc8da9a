//! The Noise channel between one compute party and the module.
//!
//! Pattern XX: the party learns the module's static key, which the evidence then binds; what the party is
//! says a signature of its identity key over the hash of the handshake, inside the channel. The host in
//! between sees lengths only. A frame that is changed, repeated, left out, or taken from another channel does
//! not open, and a channel of which one frame did not open is finished.

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::frame::FRAME_BYTES_MAX;

/// Bytes that sealing adds.
pub(crate) const TAG_BYTES: usize = 16;
/// Longest text of one frame.
pub(crate) const TEXT_BYTES_MAX: usize = FRAME_BYTES_MAX - TAG_BYTES;

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
/// Both sides must mean this protocol in this version.
const PROLOGUE: &[u8] = b"consilium enclave channel 1\0";
const KEY_BYTES: usize = 32;
/// Lengths of the three messages. None has a payload of its own.
const MESSAGE_BYTES: [usize; 3] = [KEY_BYTES, 2 * KEY_BYTES + 2 * TAG_BYTES, KEY_BYTES + 2 * TAG_BYTES];

/// Why a channel cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// A message of the handshake of another length than it must have.
    #[error("message {message} of the handshake has {found} bytes, not {expected}")]
    Length {
        /// Which of the three, from 1.
        message: usize,
        /// Its length.
        found: usize,
        /// The length it must have.
        expected: usize,
    },
    /// The handshake failed: another protocol or version, a weak key, or a changed message.
    #[error("message {message} of the handshake was refused: changed on its way, or of another version")]
    Handshake {
        /// Which of the three, from 1.
        message: usize,
    },
    /// A frame that this channel's other end did not send next: changed, repeated, out of order or foreign.
    #[error("a frame does not open: it was changed, repeated, reordered, or belongs to another channel")]
    Frame,
    /// A text of our own that fits no frame.
    #[error("a text of {found} bytes fits no frame")]
    TooLarge {
        /// Bytes of the text.
        found: usize,
    },
    /// No random bytes, or the Noise library refused its own parameters.
    #[error("the channel's cryptography could not be set up; is the system's random source available?")]
    Setup,
}

/// One side of a handshake under way.
pub(crate) struct Handshake {
    state: Box<HandshakeState>,
    message: usize,
}

impl Handshake {
    /// The party's side, under a key of its own that lives as long as the channel.
    pub(crate) fn party() -> Result<Self, ChannelError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        RingResolver
            .resolve_rng()
            .ok_or(ChannelError::Setup)?
            .try_fill_bytes(key.as_mut_slice())
            .map_err(|_| ChannelError::Setup)?;
        let state = builder(&key)?.build_initiator().map_err(|_| ChannelError::Setup)?;
        Ok(Self { state: Box::new(state), message: 0 })
    }

    /// The module's side, under the key that its evidence binds.
    pub(crate) fn module(key: &StaticSecret) -> Result<Self, ChannelError> {
        let state = builder(key.as_bytes())?.build_responder().map_err(|_| ChannelError::Setup)?;
        Ok(Self { state: Box::new(state), message: 0 })
    }

    /// Our next message.
    pub(crate) fn write(&mut self) -> Result<Vec<u8>, ChannelError> {
        let mut message = vec![0; MESSAGE_BYTES.get(self.message).copied().unwrap_or(0)];
        self.message += 1;
        let refused = ChannelError::Handshake { message: self.message };
        let length = self.state.write_message(&[], with_room(&mut message)).map_err(|_| refused)?;
        message.truncate(length);
        Ok(message)
    }

    /// Takes the other side's next message.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<(), ChannelError> {
        let expected = MESSAGE_BYTES.get(self.message).copied().unwrap_or(0);
        self.message += 1;
        let (number, found) = (self.message, message.len());
        if found != expected {
            return Err(ChannelError::Length { message: number, found, expected });
        }
        let mut payload = [0; MESSAGE_BYTES[1]];
        let refused = ChannelError::Handshake { message: number };
        match self.state.read_message(message, &mut payload) {
            Ok(0) => Ok(()),
            _ => Err(refused),
        }
    }

    /// The channel, once all three messages are through.
    pub(crate) fn finish(self) -> Result<Channel, ChannelError> {
        let refused = ChannelError::Handshake { message: self.message };
        let remote = self.state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(refused)?;
        let hash = self.state.get_handshake_hash().try_into().map_err(|_| refused)?;
        let state = self.state.into_transport_mode().map_err(|_| refused)?;
        Ok(Channel { state: Box::new(state), hash, remote })
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handshake(after {} messages)", self.message)
    }
}

/// The library asks for room for a tag that a message without a key does not have.
fn with_room(message: &mut Vec<u8>) -> &mut [u8] {
    message.resize(message.len() + TAG_BYTES, 0);
    message
}

/// Both directions of an open channel.
pub(crate) struct Channel {
    state: Box<TransportState>,
    hash: [u8; 32],
    remote: [u8; KEY_BYTES],
}

impl Channel {
    /// What both ends saw of the handshake; no two channels share it.
    pub(crate) const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The other end's static key.
    pub(crate) const fn remote(&self) -> &[u8; KEY_BYTES] {
        &self.remote
    }

    /// The next frame, with this text.
    pub(crate) fn seal(&mut self, text: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let too_large = ChannelError::TooLarge { found: text.len() };
        if text.len() > TEXT_BYTES_MAX {
            return Err(too_large);
        }
        let mut frame = vec![0; text.len() + TAG_BYTES];
        let length = self.state.write_message(text, &mut frame).map_err(|_| too_large)?;
        frame.truncate(length);
        Ok(frame)
    }

    /// The text of the next frame. After an error the channel must not be used again.
    pub(crate) fn open(&mut self, frame: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        if frame.len() < TAG_BYTES {
            return Err(ChannelError::Frame);
        }
        let mut text = Zeroizing::new(vec![0; frame.len()]);
        let length = self.state.read_message(frame, &mut text).map_err(|_| ChannelError::Frame)?;
        text.truncate(length);
        Ok(text)
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel(..)")
    }
}

fn builder(key: &[u8; KEY_BYTES]) -> Result<Builder<'_>, ChannelError> {
    let params = PATTERN.parse().map_err(|_| ChannelError::Setup)?;
    Builder::with_resolver(params, Box::new(Primitives))
        .prologue(PROLOGUE)
        .and_then(|builder| builder.local_private_key(key))
        .map_err(|_| ChannelError::Setup)
}

/// ring for cipher, hash and random bytes; x25519-dalek for the key agreement, since ring's takes no static
/// key.
struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        RingResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(Agreement::of([0; KEY_BYTES]))),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

/// A key pair, wiped when dropped.
struct Agreement {
    secret: StaticSecret,
    public: PublicKey,
}

impl Agreement {
    fn of(secret: [u8; KEY_BYTES]) -> Self {
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret);
        Self { secret, public }
    }
}

impl Dh for Agreement {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_BYTES
    }

    fn priv_len(&self) -> usize {
        KEY_BYTES
    }

    fn set(&mut self, secret: &[u8]) {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, from) in bytes.iter_mut().zip(secret) {
            *byte = *from;
        }
        *self = Self::of(*bytes);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rng.try_fill_bytes(bytes.as_mut_slice())?;
        *self = Self::of(*bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// Refuses a key of small order: it would make a secret that everybody knows.
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.get(..KEY_BYTES).and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok());
        let shared = self.secret.diffie_hellman(&PublicKey::from(public.ok_or(snow::Error::Dh)?));
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..KEY_BYTES).ok_or(snow::Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let key = StaticSecret::from([7; 32]);
        let (mut party, mut module) = (Handshake::party().unwrap(), Handshake::module(&key).unwrap());
        module.read(&party.write().unwrap()).unwrap();
        party.read(&module.write().unwrap()).unwrap();
        module.read(&party.write().unwrap()).unwrap();
        (party.finish().unwrap(), module.finish().unwrap())
    }

    #[test]
    fn both_ends_agree_and_the_party_sees_the_modules_key() {
        let (mut party, mut module) = pair();
        assert_eq!(party.hash(), module.hash());
        assert_eq!(party.remote(), PublicKey::from(&StaticSecret::from([7; 32])).as_bytes());
        for text in [&b""[..], b"hello", &[5; TEXT_BYTES_MAX]] {
            let frame = party.seal(text).unwrap();
            assert_eq!(*module.open(&frame).unwrap(), text);
            let frame = module.seal(text).unwrap();
            assert_eq!(*party.open(&frame).unwrap(), text);
        }
        let found = TEXT_BYTES_MAX + 1;
        assert_eq!(party.seal(&vec![0; found]).unwrap_err(), ChannelError::TooLarge { found });
        assert_ne!(pair().0.hash(), party.hash());
    }

    #[test]
    fn frames_open_once_in_order_and_only_here() {
        let (mut party, mut module) = pair();
        let [first, second] = [&b"first"[..], b"second"].map(|text| party.seal(text).unwrap());
        let (_, mut other) = pair();
        assert_eq!(other.open(&first).unwrap_err(), ChannelError::Frame);
        assert_eq!(module.open(&second).unwrap_err(), ChannelError::Frame);
        assert_eq!(*module.open(&first).unwrap(), b"first");
        assert_eq!(module.open(&first).unwrap_err(), ChannelError::Frame);
        assert_eq!(party.open(&second).unwrap_err(), ChannelError::Frame, "not even back to its sender");
        for bit in 0..8 * second.len() {
            let mut changed = second.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(module.open(&changed).unwrap_err(), ChannelError::Frame, "bit {bit}");
        }
        assert_eq!(*module.open(&second).unwrap(), b"second");
    }

    #[test]
    fn every_changed_bit_of_the_handshake_is_noticed() {
        let key = StaticSecret::from([7; 32]);
        for (message, bytes) in MESSAGE_BYTES.iter().enumerate() {
            // Two bits of each byte: the curve's top bit is ignored in a key, but not by the hash.
            for bit in (0..8 * bytes).step_by(7) {
                let (mut party, mut module) = (Handshake::party().unwrap(), Handshake::module(&key).unwrap());
                let mut failed = false;
                for number in 0..3 {
                    let (from, to) =
                        if number == 1 { (&mut module, &mut party) } else { (&mut party, &mut module) };
                    let mut text = from.write().unwrap();
                    if number == message {
                        text[bit / 8] ^= 1 << (bit % 8);
                    }
                    failed = to.read(&text).is_err();
                    if failed {
                        break;
                    }
                }
                assert!(failed, "message {message}, bit {bit}");
            }
        }
    }

    #[test]
    fn weak_keys_and_wrong_lengths_are_refused() {
        let key = StaticSecret::from([7; 32]);
        for found in [0, 31, 33, FRAME_BYTES_MAX] {
            let error = Handshake::module(&key).unwrap().read(&vec![1; found]).unwrap_err();
            assert_eq!(error, ChannelError::Length { message: 1, found, expected: 32 });
        }
        let mut module = Handshake::module(&key).unwrap();
        module.read(&[0; 32]).unwrap();
        assert_eq!(module.write().unwrap_err(), ChannelError::Handshake { message: 2 });
        assert!(module.finish().is_err());
    }
}
