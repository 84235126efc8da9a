//! What a file is, without a key to it.

use super::container::{FileKind, Reader};
use super::fault::HomomorphicError as Error;
use super::formats::{KeyId, KeysHeading, QueryHeading, QueryId, SecretHeading, Ticket};
use consilium_protocol::homomorphic::Plan;
use std::path::Path;

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    /// What it is.
    pub kind: FileKind,
    /// Its bytes.
    pub bytes: u64,
    /// Digest of its plan.
    pub plan_digest: [u8; 32],
    /// The plan, where it is one.
    pub plan: Option<Plan>,
    /// The key that it is under.
    pub key: Option<KeyId>,
    /// The query that it is, or belongs to, and how many inputs that has.
    pub query: Option<(QueryId, u32)>,
}

/// Reads a whole file, checks its checksums, and tells what its heading says. Of a secret it tells nothing but the plan.
///
/// # Errors
/// [`Error`] says what is wrong with the file.
pub fn inspect(path: &Path) -> Result<Inspected, Error> {
    let mut reader = Reader::open(path)?;
    let (kind, bytes) = (reader.kind(), reader.length());
    let empty = Inspected { kind, bytes, plan_digest: [0; 32], plan: None, key: None, query: None };
    let of = |ticket: Ticket| Inspected {
        plan_digest: ticket.plan,
        key: Some(ticket.key),
        query: Some((ticket.query, ticket.used)),
        ..empty.clone()
    };
    let found = match kind {
        FileKind::Plan => {
            let plan: Plan = reader.heading()?;
            plan.check().map_err(|source| Error::Plan { path: path.to_owned(), source })?;
            Inspected { plan_digest: plan.digest(), plan: Some(plan), ..empty.clone() }
        }
        FileKind::Secret => {
            Inspected { plan_digest: reader.heading::<SecretHeading>()?.plan, ..empty.clone() }
        }
        FileKind::Keys => {
            let KeysHeading { plan, key } = reader.heading()?;
            Inspected { plan_digest: plan, key: Some(key), ..empty.clone() }
        }
        FileKind::Query => of(reader.heading::<QueryHeading>()?.ticket),
        FileKind::Ticket | FileKind::Answer => of(reader.heading()?),
    };
    if matches!(kind, FileKind::Plan | FileKind::Secret | FileKind::Ticket) {
        reader.expect_body(0)?;
    }
    reader.finish()?;
    Ok(found)
}
