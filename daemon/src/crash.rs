//! Moments at which a test may end the process, to show that nothing is used twice, and frames that it may
//! spoil, to show that the other party notices.
//!
//! Without the feature `crash-points` nothing of this is compiled in. With it, a test program may install a
//! hook; the product's own program never does.

/// A moment between two steps that must not depend on each other's luck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Zero picked a serial and recorded nothing.
    ReserveZero,
    /// Zero's reservation is durable; One knows nothing.
    ReserveAsk,
    /// One was asked and recorded nothing.
    ReserveOne,
    /// One's reservation is durable; Zero does not know.
    ReserveReply,
    /// Both reserved; nothing of the query was sent.
    OpenFirst,
    /// All rounds are over; nothing is committed.
    OpenLast,
    /// The answer is durable and was not sent.
    OpenCommitted,
    /// The answers are durable and on their way to the clients.
    OpenAnswered,
    /// The ledger has written something and not synced it: it may or may not be there afterwards.
    LedgerWrite,
    /// What the ledger wrote is durable; nobody was told.
    LedgerDurable,
    /// A question is to be given up by this party alone, its charge kept; nothing of that is recorded.
    AbortAlone,
    /// Giving it up is durable; its client was not told.
    AbortKept,
    /// A question is to be given up, its charge refunded since the other party reserved nothing.
    AbortBoth,
    /// The refund is durable; its client was not told.
    AbortRefunded,
    /// A batch is spent; its row is still there.
    BurnRow,
    /// The row of a spent batch is gone; its file is still there.
    BurnFile,
    /// A pool is to be retired; its mark is still low.
    BurnMark,
    /// The mark of a retired pool is durable; its rows are still there.
    BurnPool,
    /// A batch was made; nothing of it is on the disk.
    RefillWrite,
    /// The file of a batch is durable; the index does not know it.
    RefillIndex,
    /// The batch is durable here; the other party was not told.
    RefillConfirm,
    /// The batch is durable on both sides; its serials are not offered.
    RefillOffer,
    /// Zero is about to propose what it holds.
    ReconnectAsk,
    /// One compared; nothing is settled.
    ReconnectOne,
    /// One settled; Zero does not know.
    ReconnectReply,
    /// Zero knows; nothing is settled there.
    ReconnectZero,
    /// Both settled.
    ReconnectDone,
    /// An owner counted the inputs of an encrypted query; nothing is evaluated.
    EncryptedReserved,
}

impl Step {
    /// All that compute parties pass.
    pub const ALL: [Self; 27] = [
        Self::ReserveZero,
        Self::ReserveAsk,
        Self::ReserveOne,
        Self::ReserveReply,
        Self::OpenFirst,
        Self::OpenLast,
        Self::OpenCommitted,
        Self::OpenAnswered,
        Self::LedgerWrite,
        Self::LedgerDurable,
        Self::AbortAlone,
        Self::AbortKept,
        Self::AbortBoth,
        Self::AbortRefunded,
        Self::BurnRow,
        Self::BurnFile,
        Self::BurnMark,
        Self::BurnPool,
        Self::RefillWrite,
        Self::RefillIndex,
        Self::RefillConfirm,
        Self::RefillOffer,
        Self::ReconnectAsk,
        Self::ReconnectOne,
        Self::ReconnectReply,
        Self::ReconnectZero,
        Self::ReconnectDone,
    ];
}

#[cfg(feature = "crash-points")]
static HOOK: std::sync::OnceLock<fn(Step)> = std::sync::OnceLock::new();

/// Has `hook` called at every step. Only the first hook counts.
#[cfg(feature = "crash-points")]
pub fn install(hook: fn(Step)) {
    let _ = HOOK.set(hook);
}

#[cfg(feature = "crash-points")]
pub(crate) fn at(step: Step) {
    if let Some(hook) = HOOK.get() {
        hook(step);
    }
}

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn at(_step: Step) {}

#[cfg(feature = "crash-points")]
static SPOILER: std::sync::OnceLock<fn(&mut Vec<u8>)> = std::sync::OnceLock::new();

/// Has `spoiler` change the frames of a making before they are sent. Only the first one counts.
#[cfg(feature = "crash-points")]
pub fn install_spoiler(spoiler: fn(&mut Vec<u8>)) {
    let _ = SPOILER.set(spoiler);
}

#[cfg(feature = "crash-points")]
pub(crate) fn frame(bytes: &mut Vec<u8>) {
    if let Some(spoiler) = SPOILER.get() {
        spoiler(bytes);
    }
}

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn frame<T>(_bytes: &mut T) {}
