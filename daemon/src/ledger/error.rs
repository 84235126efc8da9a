//! Every way in which the ledger says no.

use super::{Head, NoiseTicket, ReleaseId};
use crate::vault::{StoreError, VaultError, hex};
use std::io;
use std::path::PathBuf;

/// Why the ledger refused or failed. Amounts are in units of 2^-40.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The owner's promise would be broken.
    #[error(
        "owner {owner} has spent {spent} of {limit} in task {task}; this release costs {cost}. Ask the consortium for a new budget, or leave that owner out"
    )]
    OwnerBudget {
        /// The task.
        task: String,
        /// The owner.
        owner: String,
        /// Spent so far.
        spent: u64,
        /// Price of the refused release.
        cost: u64,
        /// The owner's budget.
        limit: u64,
    },
    /// The client's share is used up.
    #[error("client {client} has spent {spent} of {limit} in task {task}; this release costs {cost}")]
    ClientBudget {
        /// The task.
        task: String,
        /// The client.
        client: String,
        /// Spent so far.
        spent: u64,
        /// Price of the refused release.
        cost: u64,
        /// The client's budget.
        limit: u64,
    },
    /// The id names another question, or one of another client.
    #[error("release {release} was used for another question; draw a new id for a new question")]
    ContentDiffers {
        /// The id.
        release: ReleaseId,
    },
    /// The first attempt under this id still runs.
    #[error("release {release} is being computed; ask again later with the same id")]
    InProgress {
        /// The id.
        release: ReleaseId,
    },
    /// The attempt under this id was cut short by a crash.
    #[error("release {release} was interrupted and stays spent; ask again with a new id")]
    Dead {
        /// The id.
        release: ReleaseId,
    },
    /// The attempt under this id was given up.
    #[error("release {release} was aborted; ask again with a new id")]
    Aborted {
        /// The id.
        release: ReleaseId,
    },
    /// A committed release cannot be aborted.
    #[error("release {release} is committed and can no longer be aborted")]
    AlreadyCommitted {
        /// The id.
        release: ReleaseId,
    },
    /// No such release.
    #[error("release {release} was never reserved here")]
    Unknown {
        /// The id.
        release: ReleaseId,
    },
    /// A serial at or below one that was used.
    #[error(
        "serial {first} of epoch {} may have been used before; the next unused one is {mark}",
        hex::encode(epoch)
    )]
    SerialReused {
        /// The epoch.
        epoch: [u8; 16],
        /// First serial of the refused release.
        first: u64,
        /// First serial that is surely unused.
        mark: u64,
    },
    /// The range leaves 64 bits.
    #[error("{count} serials from {first} do not fit 64 bits; start a new epoch")]
    SerialRange {
        /// First serial.
        first: u64,
        /// Number of serials.
        count: u32,
    },
    /// A noise ticket that another release used.
    #[error(
        "noise ticket {} of batch {} of boot {} was used by release {by}; take a fresh one",
        ticket.place, ticket.batch, hex::encode(&ticket.boot)
    )]
    TicketReused {
        /// The ticket.
        ticket: NoiseTicket,
        /// Who used it.
        by: ReleaseId,
    },
    /// A noise ticket with numbers that no module gives.
    #[error("noise ticket {} of batch {} is none that a module gives", ticket.place, ticket.batch)]
    TicketRange {
        /// The ticket.
        ticket: NoiseTicket,
    },
    /// The task has no book yet.
    #[error("task {task} has no book in this ledger; a node opens those of its roster when it starts")]
    NotOpened {
        /// The task.
        task: String,
    },
    /// The roster changed what cannot change under sums that were already made.
    #[error(
        "the book of task {task} was opened for {opened}; the roster now says {asked}. A book keeps them for life: restore the roster, or give the changed task a new name"
    )]
    OtherPromise {
        /// The task.
        task: String,
        /// What the book was opened for.
        opened: String,
        /// What the roster says.
        asked: String,
    },
    /// A book of another release of this program.
    #[error(
        "the book of task {task} counts by conversion {found}, this program by {}; run the release that wrote it",
        super::CONVERSION
    )]
    Conversion {
        /// The task.
        task: String,
        /// Conversion found.
        found: u64,
    },
    /// A promise that cannot be kept in numbers.
    #[error("the promise of a book does not hold: {0}")]
    Promise(String),
    /// An exact task has no budgets.
    #[error("task {task} gives exact answers and promises nothing, so it has no budgets to change")]
    NothingPromised {
        /// The task.
        task: String,
    },
    /// A statement that is not signed by the key it names.
    #[error("the statement in the name of {0} does not carry a valid signature; nothing was recorded")]
    Signature(String),
    /// A statement that does not follow the last one.
    #[error(
        "the next statement of {owner} about this task has number {expected}, not {found}; at most {} are kept",
        super::statement::STATEMENTS_MAX
    )]
    StatementOrder {
        /// The owner.
        owner: String,
        /// The number that comes next.
        expected: u64,
        /// The number of the statement.
        found: u64,
    },
    /// Another statement stands under this number.
    #[error("another statement number {number} of {owner} about this task is on record and stays")]
    StatementDiffers {
        /// The owner.
        owner: String,
        /// The number.
        number: u64,
    },
    /// Data that the owner has not declared.
    #[error(
        "{owner} has begun data epoch {known} here, not {found}; it begins the next one with `consilium privacy epoch`"
    )]
    DataEpoch {
        /// The owner.
        owner: String,
        /// The data epoch asked for.
        found: u32,
        /// The newest one on record.
        known: u32,
    },
    /// A name that is empty or too long.
    #[error("the {what} name has {length} bytes; 1 to {} are allowed", super::request::NAME_BYTES_MAX)]
    Name {
        /// Whose name.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// No owner, or too many.
    #[error("a release charges 1 to {} owners, not {count}", super::request::OWNERS_MAX)]
    OwnerCount {
        /// Owners given.
        count: usize,
    },
    /// An owner listed twice has one account and would get two votes.
    #[error("owner {owner} is listed twice")]
    OwnerTwice {
        /// The owner.
        owner: String,
    },
    /// An output share that is too long.
    #[error("the output share has {found} bytes, at most {limit} are stored")]
    AnswerSize {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer shows an older ledger than before.
    #[error("the ledger of {peer} went back from record {} to record {}: its disk was restored. Serve nothing with it until its operator brings the newer ledger back", stored.sequence, claimed.sequence)]
    RolledBack {
        /// The peer.
        peer: String,
        /// What it showed before.
        stored: Head,
        /// What it shows now.
        claimed: Head,
    },
    /// The peer shows another history of the same length.
    #[error(
        "the ledger of {peer} has another record {sequence} than it showed before: two copies of it are in use. Serve nothing with it"
    )]
    Forked {
        /// The peer.
        peer: String,
        /// The record that differs.
        sequence: u64,
    },
    /// Our own ledger is older than the peer remembers.
    #[error("this ledger is at record {} but a peer has seen record {}: this disk was restored or replaced. Bring the newer ledger back before serving", own.sequence, seen.sequence)]
    BehindPeer {
        /// The newest record here.
        own: Head,
        /// The record that the peer has seen.
        seen: Head,
    },
    /// A record of the chain cannot be right.
    #[error(
        "record {sequence} of {path} is damaged ({detail}). Stop this node, keep a copy of the file, restore the newest backup and compare heads with the peer; do not delete it"
    )]
    Record {
        /// The ledger file.
        path: PathBuf,
        /// Position in the chain.
        sequence: u64,
        /// What does not fit.
        detail: String,
    },
    /// A record written by another release of this program.
    #[error(
        "record {sequence} of {path} has format {version}, this program knows format {}; upgrade",
        super::record::VERSION
    )]
    RecordVersion {
        /// The ledger file.
        path: PathBuf,
        /// Position in the chain.
        sequence: u64,
        /// Format found.
        version: u64,
    },
    /// The chain is whole but does not lead to the balances beside it.
    #[error(
        "{path}: {what} does not follow from the chain of records. Stop this node, keep a copy of the file and restore the newest backup; do not delete it"
    )]
    Inconsistent {
        /// The ledger file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The file itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored answer cannot be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The destination of an export failed.
    #[error("the export cannot be written: {0}")]
    Export(#[source] io::Error),
    /// The ledger's thread cannot be started.
    #[error("the ledger's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// The ledger was closed, because the node stops.
    #[error("the ledger is closed; this node is stopping")]
    Closed,
}
