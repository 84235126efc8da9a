//! The administrator's side door: a unix socket that only the node's own user (and root) may open.
//!
//! One request is one message; model files follow `Publish` in one raw frame each. The command line is
//! its only intended client.

mod books;
mod encrypted;
mod export;
mod laboratory;
mod serve;
mod status;

pub use books::{LedgerReport, Loss, OtherView, OwnerAccount, PartyBooks, SignedReport};
pub use export::export;
pub use laboratory::send_encodings;
pub(crate) use serve::normalised;
pub use serve::{AdminError, Caller, Door, ModelFile, call, publish, publish_all, publish_planned};
pub use status::{
    Level, MemberStatus, ModuleStatus, NoiseStatus, Prospect, Refill, Report, SeatStatus, TaskStatus,
};

use crate::client::Answer;
use crate::consortium::{ConsortiumReply, ConsortiumRequest};
use crate::encrypted::{Opened, Planned};
use crate::lab::Figure;
use crate::laboratory::{Held, Sent};
use crate::ledger::{Head, ReleaseId, SignedStatement};
use crate::message::Refusal;
use crate::owner::{Published, Wanted};
use crate::registry::ModelId;
use consilium_protocol::homomorphic::{Mode, Scales};
use serde::{Deserialize, Serialize};

/// Longest administrator's message.
pub const ADMIN_BYTES_MAX: usize = 64 << 20;

/// From the command line to the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum AdminRequest {
    /// What the node does.
    Status,
    /// What would become of questions now.
    Prospects,
    /// Publish the ONNX models that follow in one raw frame each: all or none.
    Publish {
        /// The task.
        task: String,
        /// What messages call each file.
        files: Vec<String>,
    },
    /// Plan and publish, for a homomorphic task, the ONNX model that follows in one raw frame.
    Plan {
        /// The task.
        task: String,
        /// How inputs are encrypted; in both ways, as far as there are plans, if absent.
        mode: Option<Mode>,
        /// Scales of inputs and weights; found if absent.
        scales: Option<Scales>,
    },
    /// The book of published models.
    Models,
    /// What is published for homomorphic tasks.
    AllPlanned,
    /// Withdraw what was published at once.
    Withdraw {
        /// The registration.
        model: ModelId,
    },
    /// Ask a question.
    Ask {
        /// The task.
        task: String,
        /// One or more rows of raw values.
        rows: Vec<Vec<f64>>,
        /// Name of the question, to ask it again without a charge; drawn if absent.
        release: Option<ReleaseId>,
    },
    /// Ask the owner of a homomorphic task.
    AskEncrypted {
        /// The task.
        task: String,
        /// One or more rows of raw values.
        rows: Vec<Vec<f64>>,
        /// How inputs are encrypted; by their number if absent.
        mode: Option<Mode>,
        /// Whether logits are wanted beside classes.
        logits: bool,
    },
    /// Send a member a file of encodings. It follows in frames after [`AdminReply::SendFile`].
    SendEncodings {
        /// The task.
        task: String,
        /// The member.
        to: String,
        /// Bytes of the file.
        bytes: u64,
        /// What the file says of its attack, for those who are refused.
        figure: Figure,
    },
    /// Which encodings came.
    Received,
    /// Which terms of a task the node has, for one who prepares inputs by a roster file.
    Terms {
        /// The task.
        task: String,
    },
    /// The signed report of this compute party's ledger.
    Ledger {
        /// The task.
        task: String,
        /// Most releases that are listed one by one, newest first.
        latest: u32,
    },
    /// The whole ledger of this compute party. It comes before the reply, in raw frames up to an empty one.
    Export,
    /// This owner's own accounts at both compute parties.
    Account {
        /// The task.
        task: String,
    },
    /// Sign a change of this owner's accounts.
    Declare {
        /// The task.
        task: String,
        /// The change.
        wanted: Wanted,
    },
    /// About the signed roster.
    Consortium(ConsortiumRequest),
}

/// From the node to the command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum AdminReply {
    /// What the node does.
    Status(Box<Report>),
    /// What would become of questions now.
    Prospects(Vec<Prospect>),
    /// The models are ready to vote.
    Published {
        /// The entry in the book.
        entry: Published,
        /// What the importer dropped or folded.
        warnings: Vec<String>,
    },
    /// Clients of the homomorphic task may ask.
    Planned {
        /// What is in force.
        entry: Planned,
        /// What the importer dropped or folded, and why a mode has no plan.
        warnings: Vec<String>,
    },
    /// The book of published models.
    Models(Vec<Published>),
    /// What is published for homomorphic tasks.
    AllPlanned(Vec<Planned>),
    /// The models are gone.
    Withdrawn,
    /// The answer.
    Answer(Box<Answer>),
    /// The owner's answer, opened.
    Opened(Box<Opened>),
    /// The file may follow.
    SendFile,
    /// The member keeps the encodings.
    EncodingsSent(Box<Sent>),
    /// Encodings that came.
    Received(Vec<Held>),
    /// The digest of the task's terms, in hexadecimal.
    Terms {
        /// As [`consilium_config::Task::digest`] gives it.
        digest: String,
    },
    /// The report.
    Ledger(Box<SignedReport>),
    /// The export is complete.
    Exported {
        /// Its last record.
        head: Head,
    },
    /// The owner's accounts.
    Account(Box<OwnerAccount>),
    /// Both compute parties have it on record.
    Declared(Box<SignedStatement>),
    /// About the signed roster.
    Consortium(ConsortiumReply),
    /// Not granted.
    Refused(Refusal),
}
