//! The headings of files, and the files without a long body.

use super::container::{FileKind, Reader, Writer};
use super::fault::HomomorphicError as Error;
use crate::vault::remove_durably;
use consilium_protocol::algebra::{Prg, Seed};
use consilium_protocol::homomorphic::{EvaluationKeys, Plan, SecretKey};
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Name of a secret and of what was made under it: it follows from the secret and tells nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(#[serde(with = "crate::vault::hex")] [u8; 16]);

/// Name of a query, at random.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueryId(#[serde(with = "crate::vault::hex")] [u8; 16]);

impl QueryId {
    pub(super) fn random() -> Result<Self, Error> {
        Ok(Self(*Seed::random()?.as_bytes()))
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::vault::hex::encode(&self.0))
    }
}

impl std::fmt::Display for QueryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::vault::hex::encode(&self.0))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl std::fmt::Debug for QueryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueryId({self})")
    }
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysHeading {
    #[serde(with = "crate::vault::hex")]
    pub(super) plan: [u8; 32],
    pub(super) key: KeyId,
}

/// Of a query, its ticket and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// Digest of the plan.
    #[serde(with = "crate::vault::hex")]
    pub(super) plan: [u8; 32],
    /// The key that opens its answer.
    pub key: KeyId,
    /// The query.
    pub query: QueryId,
    /// Inputs of the query.
    pub used: u32,
}

/// Heading of a query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryHeading {
    pub(super) ticket: Ticket,
    /// What the uniform halves of ciphertexts follow from; public.
    #[serde(with = "crate::vault::hex")]
    pub(super) seed: [u8; 16],
}

/// Heading of a secret.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretHeading {
    #[serde(with = "crate::vault::hex")]
    pub(super) plan: [u8; 32],
    #[serde(with = "crate::vault::hex")]
    seed: [u8; 16],
}

/// A client's secret for one plan.
#[derive(Debug)]
pub struct Secret {
    pub(super) key: SecretKey,
    pub(super) id: KeyId,
}

impl Secret {
    /// Of a seed that is used for nothing else.
    pub(super) fn of_seed(plan: &Plan, seed: &Seed) -> Self {
        let id = KeyId(*seed.derive("homomorphic key id", 0).as_bytes());
        Self { key: SecretKey::of_seed(plan, seed), id }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

/// A client's evaluation keys.
#[derive(Debug)]
pub struct Keys {
    pub(super) keys: EvaluationKeys,
    pub(super) id: KeyId,
}

impl Keys {
    /// The name of their secret.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

/// Writes a plan. An existing file is replaced.
///
/// # Errors
/// [`Error::Vault`] where it cannot be written.
pub fn write_plan(path: &Path, plan: &Plan) -> Result<u64, Error> {
    Writer::new(path, FileKind::Plan, plan)?.replace()
}

/// Reads a plan that this version could have made.
///
/// # Errors
/// [`Error`] says what is wrong with the file.
pub fn read_plan(path: &Path) -> Result<Plan, Error> {
    let mut reader = Reader::open_as(path, FileKind::Plan)?;
    reader.expect_body(0)?;
    reader.finish()?;
    let plan: Plan = reader.heading()?;
    plan.check().map_err(|source| Error::Plan { path: path.to_owned(), source })?;
    Ok(plan)
}

/// Draws a secret and writes it, readable by its owner alone, with the evaluation keys for the owner of the model beside
/// it. The name of the secret and the bytes of the keys come back. An existing secret is not replaced.
///
/// # Errors
/// [`Error::Exists`], [`Error::Vault`]; then no secret is left without its keys.
pub fn make_keys(plan: &Plan, secret_path: &Path, keys_path: &Path) -> Result<(KeyId, u64), Error> {
    let seed = Seed::random()?;
    let secret = Secret::of_seed(plan, &seed);
    let heading = SecretHeading { plan: plan.digest(), seed: *seed.as_bytes() };
    let writer = Writer::new(secret_path, FileKind::Secret, &heading)?;
    writer.publish(secret_path)?;
    let written = write_keys(plan, &secret, keys_path);
    if written.is_err() {
        remove_durably(secret_path)?;
    }
    written.map(|bytes| (secret.id, bytes))
}

fn write_keys(plan: &Plan, secret: &Secret, path: &Path) -> Result<u64, Error> {
    let body = secret.key.evaluation_keys(plan, &mut Prg::new(&Seed::random()?));
    let mut writer = Writer::new(path, FileKind::Keys, &KeysHeading { plan: plan.digest(), key: secret.id })?;
    writer.write(&body)?;
    writer.replace()
}

/// Reads a secret for a plan.
///
/// # Errors
/// [`Error`] says what is wrong with the file.
pub fn read_secret(path: &Path, plan: &Plan) -> Result<Secret, Error> {
    let mut reader = Reader::open_as(path, FileKind::Secret)?;
    reader.expect_body(0)?;
    reader.finish()?;
    let heading: SecretHeading = reader.heading()?;
    same_plan(path, plan, &heading.plan)?;
    Ok(Secret::of_seed(plan, &Seed::from_bytes(heading.seed)))
}

/// Reads evaluation keys for a plan.
///
/// # Errors
/// [`Error`] says what is wrong with the file.
pub fn read_keys(path: &Path, plan: &Plan) -> Result<Keys, Error> {
    let mut reader = Reader::open_as(path, FileKind::Keys)?;
    let heading: KeysHeading = reader.heading()?;
    same_plan(path, plan, &heading.plan)?;
    let length = EvaluationKeys::bytes(plan);
    reader.expect_body(length as u64)?;
    let body = reader.take(length)?;
    reader.finish()?;
    let keys = EvaluationKeys::decode(plan, &body);
    let keys = keys.map_err(|source| Error::Bytes { path: path.to_owned(), source })?;
    Ok(Keys { keys, id: heading.key })
}

/// Reads the heading of a query under a key, whose body is not looked at.
///
/// # Errors
/// [`Error`] says what is wrong with the file.
pub fn read_query(path: &Path, plan: &Plan, key: KeyId) -> Result<Ticket, Error> {
    let reader = Reader::open_as(path, FileKind::Query)?;
    let heading: QueryHeading = reader.heading()?;
    heading.ticket.check(&reader, plan, key)?;
    Ok(heading.ticket)
}

/// Writes what a client keeps of a query.
pub(super) fn write_ticket(path: &Path, ticket: &Ticket) -> Result<u64, Error> {
    Writer::new(path, FileKind::Ticket, ticket)?.replace()
}

/// Reads the ticket of a query under a client's secret, from its own file or from the query, whose body is not looked at.
///
/// # Errors
/// [`Error`] says what is wrong with the file.
pub fn read_ticket(path: &Path, plan: &Plan, secret: &Secret) -> Result<Ticket, Error> {
    let mut reader = Reader::open(path)?;
    let ticket: Ticket = match reader.kind() {
        FileKind::Query => reader.heading::<QueryHeading>()?.ticket,
        FileKind::Ticket => {
            reader.expect_body(0)?;
            reader.finish()?;
            reader.heading()?
        }
        found => return Err(Error::Kind { path: path.to_owned(), found, expected: FileKind::Ticket }),
    };
    ticket.check(&reader, plan, secret.id)?;
    Ok(ticket)
}

impl Ticket {
    /// Refuses a file of another plan or key, or with another number of inputs than the plan allows.
    pub(super) fn check(&self, reader: &Reader, plan: &Plan, key: KeyId) -> Result<(), Error> {
        let path = reader.path();
        same_plan(path, plan, &self.plan)?;
        if self.key != key {
            return Err(Error::OtherKey { path: path.to_owned() });
        }
        if !(1..=plan.inputs_max()).contains(&(self.used as usize)) {
            return Err(reader.senseless(format!(
                "{} inputs, and the plan holds 1 to {}",
                self.used,
                plan.inputs_max()
            )));
        }
        Ok(())
    }
}

fn same_plan(path: &Path, plan: &Plan, digest: &[u8; 32]) -> Result<(), Error> {
    if *digest == plan.digest() { Ok(()) } else { Err(Error::OtherPlan { path: path.to_owned() }) }
}
