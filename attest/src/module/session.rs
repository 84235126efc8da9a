//! One party's connection, from its first frame on. No input or output: frames in, frames out.
//!
//! ```text
//!            message 1          message 3         Introduce          Attest
//! Greeting ------------> Met ------------> Open ------------> Named ---------> Attested <---+
//!            (message 2)                                                        |  |  ^      |
//!                                                               Attest again ---+  |  |      |
//!                                                                                  |  +------+
//!                                                                             Draw |  half of the batch,
//!                                                                                  v  or a refusal
//!                                                                                Waiting
//! ```
//!
//! Each state is a type that its transition consumes. Whatever does not fit the state ends the session,
//! without an answer: behind it is a broken or a hostile peer, and nothing it sent before is taken back.

use x25519_dalek::StaticSecret;

use super::bytes::DecodeError;
use super::channel::{Channel, ChannelError, Handshake};
use super::message::{Reply, Request};
use super::signature::{introduction, is_signed};

/// Frames from the first one to the one that names the party: two of the handshake, and the name.
pub(crate) const FRAMES_TO_NAME: u64 = 3;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The channel failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Inside the channel came no request.
    #[error("a request is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A request at a time when it means nothing.
    #[error("a {request} request came while the session was {state}")]
    Order {
        /// The request.
        request: &'static str,
        /// The state.
        state: &'static str,
    },
    /// The identity key did not sign this handshake.
    #[error("the party's identity key did not sign this handshake")]
    Identity,
    /// The same party opened more channels than it can use; its oldest one goes.
    #[error("the party opened another channel and has too many")]
    Displaced,
}

/// Nothing came yet.
#[derive(Debug)]
pub(crate) struct Greeting(Handshake);

/// Our message of the handshake is out.
#[derive(Debug)]
pub(crate) struct Met(Handshake);

/// The channel is open; nobody said whose it is.
#[derive(Debug)]
pub(crate) struct Open(Channel);

/// The party is known.
#[derive(Debug)]
pub(crate) struct Named {
    channel: Channel,
    party: [u8; 32],
}

/// The party has evidence for a policy.
#[derive(Debug)]
pub(crate) struct Attested {
    named: Named,
    policy: [u8; 32],
}

/// The party waits for its half of a batch.
#[derive(Debug)]
pub(crate) struct Waiting(Attested);

/// What a frame leads to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Something to send, or nothing, and the next state.
    Goes(Session, Option<Vec<u8>>),
    /// Evidence is to be made for this nonce and policy.
    Attest(Named, [u8; 32], [u8; 32]),
    /// A batch is asked for, in these bytes.
    Draw(Attested, Vec<u8>),
}

/// A session between two frames.
#[derive(Debug)]
pub(crate) enum Session {
    Greeting(Greeting),
    Met(Met),
    Open(Open),
    Named(Named),
    Attested(Attested),
    Waiting(Waiting),
}

impl Session {
    /// A session of the module with this static key.
    pub(crate) fn new(key: &StaticSecret) -> Result<Self, SessionError> {
        Ok(Self::Greeting(Greeting(Handshake::module(key)?)))
    }

    /// Identity key of the party, once it is known.
    pub(crate) const fn party(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Greeting(_) | Self::Met(_) | Self::Open(_) => None,
            Self::Named(named) => Some(named.party()),
            Self::Attested(attested) | Self::Waiting(Waiting(attested)) => Some(attested.party()),
        }
    }

    /// Takes the next frame.
    pub(crate) fn receive(self, frame: &[u8]) -> Result<Step, SessionError> {
        match self {
            Self::Greeting(greeting) => greeting.receive(frame),
            Self::Met(met) => met.receive(frame),
            Self::Open(open) => open.receive(frame),
            Self::Named(named) => named.receive(frame),
            Self::Attested(attested) => attested.receive(frame),
            Self::Waiting(waiting) => waiting.receive(frame),
        }
    }
}

impl Greeting {
    fn receive(mut self, frame: &[u8]) -> Result<Step, SessionError> {
        self.0.read(frame)?;
        let answer = self.0.write()?;
        Ok(Step::Goes(Session::Met(Met(self.0)), Some(answer)))
    }
}

impl Met {
    fn receive(mut self, frame: &[u8]) -> Result<Step, SessionError> {
        self.0.read(frame)?;
        Ok(Step::Goes(Session::Open(Open(self.0.finish()?)), None))
    }
}

impl Open {
    fn receive(mut self, frame: &[u8]) -> Result<Step, SessionError> {
        let Request::Introduce { key, signature } = request(&mut self.0, frame)? else {
            return Err(SessionError::Order { request: "nameless", state: "without a name" });
        };
        if !is_signed(&key, &introduction(self.0.hash()), &signature) {
            return Err(SessionError::Identity);
        }
        Ok(Step::Goes(Session::Named(Named { channel: self.0, party: key }), None))
    }
}

impl Named {
    fn receive(mut self, frame: &[u8]) -> Result<Step, SessionError> {
        match request(&mut self.channel, frame)? {
            Request::Attest { nonce, policy } => Ok(Step::Attest(self, nonce, policy)),
            Request::Draw { .. } => Err(SessionError::Order { request: "draw", state: "without evidence" }),
            Request::Introduce { .. } => Err(SessionError::Order { request: "naming", state: "named" }),
        }
    }

    /// Identity key of the party.
    pub(crate) const fn party(&self) -> &[u8; 32] {
        &self.party
    }

    /// Sends the evidence that was asked for, or why there is none.
    pub(crate) fn attested(
        mut self,
        policy: [u8; 32],
        reply: &Reply,
    ) -> Result<(Session, Vec<u8>), SessionError> {
        let frame = self.channel.seal(&reply.encode())?;
        let session = match reply {
            Reply::Evidence(_) => Session::Attested(Attested { named: self, policy }),
            Reply::Refused(_) | Reply::Half(_) => Session::Named(self),
        };
        Ok((session, frame))
    }
}

impl Attested {
    fn receive(mut self, frame: &[u8]) -> Result<Step, SessionError> {
        match request(&mut self.named.channel, frame)? {
            Request::Attest { nonce, policy } => Ok(Step::Attest(self.named, nonce, policy)),
            Request::Draw { signed } => Ok(Step::Draw(self, signed)),
            Request::Introduce { .. } => Err(SessionError::Order { request: "naming", state: "named" }),
        }
    }

    /// Identity key of the party.
    pub(crate) const fn party(&self) -> &[u8; 32] {
        &self.named.party
    }

    /// The policy that this channel's evidence was made for.
    pub(crate) const fn policy(&self) -> &[u8; 32] {
        &self.policy
    }

    /// The other party has not asked yet.
    pub(crate) fn wait(self) -> Session {
        Session::Waiting(Waiting(self))
    }

    /// Sends the half that was asked for, or why there is none.
    pub(crate) fn answer(mut self, reply: &Reply) -> Result<(Session, Vec<u8>), SessionError> {
        let frame = self.named.channel.seal(&reply.encode())?;
        Ok((Session::Attested(self), frame))
    }
}

impl Waiting {
    /// One request at a time: a party that goes on talking has lost count.
    fn receive(mut self, frame: &[u8]) -> Result<Step, SessionError> {
        let request = match request(&mut self.0.named.channel, frame)? {
            Request::Attest { .. } => "evidence",
            Request::Draw { .. } => "draw",
            Request::Introduce { .. } => "naming",
        };
        Err(SessionError::Order { request, state: "waiting for the other party" })
    }

    /// The wait is over.
    pub(crate) fn end(self) -> Attested {
        self.0
    }
}

fn request(channel: &mut Channel, frame: &[u8]) -> Result<Request, SessionError> {
    Ok(Request::decode(&channel.open(frame)?)?)
}
