//! The socket, on both sides.

use super::export::send_export;
use super::{
    ADMIN_BYTES_MAX, AdminReply, AdminRequest, OwnerAccount, Report, SignedReport, encrypted, laboratory,
};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError};
use crate::node::Shared;
use crate::owner::{NamedModel, unfit};
use crate::registry::ModelId;
use crate::task::TaskTerms;
use crate::vault::hex;
use consilium_protocol::graph::Shape;
use consilium_protocol::homomorphic::{Mode, Scales};
use consilium_protocol::model::{
    AnyModel, FILE_BYTES_MAX, ImportError, ImportedOneClass, import_for, import_one_class,
};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Administrators at the same time.
const VISITORS_MAX: usize = 64;

/// Time for the compute parties to say what a question would become.
const PROSPECTS_WITHIN: Duration = Duration::from_secs(2);

/// Why the node's socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens.
    #[error("cannot reach the node at {path}: {source}; is it running? (`consilium daemon --config FILE`)")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another node already listens.
    #[error("another node already listens on {0}; stop it first, or give this one another state folder")]
    Taken(PathBuf),
    /// What the node sent cannot be kept.
    #[error("cannot write what the node sent: {0}")]
    Write(#[source] io::Error),
    /// The conversation broke off.
    #[error("the node broke off: {0}")]
    Channel(#[from] ChannelError),
}

/// The listening socket; the file goes when it is dropped.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens the socket, for this user alone. A file that a killed node left behind is replaced.
    ///
    /// # Errors
    /// Another node listens there, or the folder does not allow it.
    pub async fn open(path: &Path) -> Result<Self, AdminError> {
        if path.exists() {
            if UnixStream::connect(path).await.is_ok() {
                return Err(AdminError::Taken(path.to_owned()));
            }
            let _ = std::fs::remove_file(path);
        }
        let failed = |source| AdminError::Listen { path: path.to_owned(), source };
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves administrators until dropped.
    pub async fn serve(self, shared: Arc<Shared>) {
        let mut visitors = JoinSet::new();
        loop {
            tokio::select! {
                arrival = self.listener.accept(), if visitors.len() < VISITORS_MAX => match arrival {
                    Ok((stream, _)) => match Visitor::of(&stream) {
                        Ok(visitor) => {
                            visitors.spawn(converse(Channel::local(stream), shared.clone(), visitor));
                        }
                        Err(why) => tracing::warn!("an administrator was turned away: {why}"),
                    },
                    Err(error) => tracing::warn!("an administrator's connection failed: {error}"),
                },
                Some(_) = visitors.join_next() => {}
            }
        }
    }
}

/// Who is at the other end, as the system says and not they themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Visitor {
    uid: u32,
    pid: Option<i32>,
}

impl Visitor {
    /// Only the node's own user and root come in, also where somebody has opened the socket's mode to others.
    fn of(stream: &UnixStream) -> Result<Self, String> {
        let found =
            stream.peer_cred().map_err(|error| format!("the system does not say who it is: {error}"))?;
        Self { uid: found.uid(), pid: found.pid() }.admitted(rustix::process::geteuid().as_raw())
    }

    fn admitted(self, own: u32) -> Result<Self, String> {
        match self.uid {
            0 => Ok(self),
            uid if uid == own => Ok(self),
            uid => Err(format!(
                "user {uid} (process {}) may not administer the node; only user {own} and root may",
                self.pid.unwrap_or_default()
            )),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(mut channel: Channel, shared: Arc<Shared>, visitor: Visitor) {
    loop {
        let request: AdminRequest = match channel.receive_value(ADMIN_BYTES_MAX).await {
            Ok(request) => request,
            Err(ChannelError::Closed) => return,
            Err(error) => return tracing::debug!("an administrator's connection ended: {error}"),
        };
        note(&request, visitor);
        let reply = answer(&mut channel, &shared, request).await.unwrap_or_else(AdminReply::Refused);
        if let Err(error) = channel.send_value(&reply).await {
            return tracing::debug!("an administrator left: {error}");
        }
    }
}

/// What changes something, or takes the ledger out, is on record with who asked for it.
fn note(request: &AdminRequest, Visitor { uid, pid }: Visitor) {
    let (what, task) = match request {
        AdminRequest::Publish { task, .. } => ("publish", task.as_str()),
        AdminRequest::Plan { task, .. } => ("plan", task.as_str()),
        AdminRequest::Withdraw { .. } => ("withdraw", ""),
        AdminRequest::Declare { task, .. } => ("declare", task.as_str()),
        AdminRequest::SendEncodings { task, .. } => ("send encodings", task.as_str()),
        AdminRequest::Export => ("export", ""),
        _ => return,
    };
    tracing::info!(uid, pid, request = what, task, "an administrator's request");
}

async fn answer(
    channel: &mut Channel,
    shared: &Arc<Shared>,
    request: AdminRequest,
) -> Result<AdminReply, Refusal> {
    match request {
        AdminRequest::Status => Ok(AdminReply::Status(Box::new(Report::of(shared).await))),
        AdminRequest::Prospects => {
            let found = shared.readiness(PROSPECTS_WITHIN).await;
            Ok(AdminReply::Prospects(found.into_iter().map(Into::into).collect()))
        }
        AdminRequest::Publish { task, files } if shared.roster.homomorphic_task(&task).is_some() => {
            encrypted::publish(channel, shared, &task, files.len(), (None, None)).await
        }
        AdminRequest::Plan { task, mode, scales } => {
            encrypted::publish(channel, shared, &task, 1, (mode, scales)).await
        }
        AdminRequest::Publish { task, files } => share(channel, shared, &task, files).await,
        AdminRequest::Models => Ok(AdminReply::Models(shared.owner.published()?)),
        AdminRequest::AllPlanned => Ok(AdminReply::AllPlanned(
            shared.encrypted.owner.as_ref().map_or_else(Vec::new, |owner| owner.published()),
        )),
        AdminRequest::Withdraw { model } => withdraw(shared, model).await,
        AdminRequest::Ask { task, rows, release } if shared.roster.homomorphic_task(&task).is_some() => {
            encrypted::named(&task, release)?;
            encrypted::ask(shared, &task, rows, (None, false)).await
        }
        AdminRequest::AskEncrypted { task, rows, mode, logits } => {
            encrypted::ask(shared, &task, rows, (mode, logits)).await
        }
        AdminRequest::Ask { task, rows, release } => {
            let terms = shared.task(&task)?;
            let rows = normalised(&terms, rows)?;
            let answer = shared.client.ask(&terms, &shared.pairs_of(&terms)?, &rows, release).await?;
            Ok(AdminReply::Answer(Box::new(answer)))
        }
        AdminRequest::SendEncodings { task, to, bytes, figure } => {
            laboratory::send(channel, shared, (&task, &to), (bytes, &figure)).await
        }
        AdminRequest::Received => laboratory::received(shared).await,
        AdminRequest::Terms { task } => {
            let digest = match shared.roster.homomorphic_task(&task) {
                Some(known) => known.digest().to_bytes(),
                None => shared.task(&task)?.digest,
            };
            Ok(AdminReply::Terms { digest: hex::encode(&digest) })
        }
        AdminRequest::Ledger { task, latest } => {
            let report = SignedReport::of(shared, &task, latest).await?;
            Ok(AdminReply::Ledger(Box::new(report)))
        }
        AdminRequest::Export => send_export(channel, shared).await,
        AdminRequest::Account { task } => {
            Ok(AdminReply::Account(Box::new(OwnerAccount::of(shared, &task).await?)))
        }
        AdminRequest::Declare { task, wanted } => {
            let terms = shared.task(&task)?;
            let (pairs, about) = (shared.pairs_of(&terms)?, (shared.roster.consortium(), terms.name()));
            let signed = shared.owner.declare(about, &pairs, &shared.identity, wanted).await?;
            Ok(AdminReply::Declared(Box::new(signed)))
        }
        AdminRequest::Consortium(request) => {
            let council = shared.council.as_ref();
            let reply = crate::consortium::answer(council, &shared.network, request).await?;
            Ok(AdminReply::Consortium(reply))
        }
    }
}

/// Publishes the models that follow between the compute parties.
async fn share(
    channel: &mut Channel,
    shared: &Arc<Shared>,
    task: &str,
    files: Vec<String>,
) -> Result<AdminReply, Refusal> {
    let terms = shared.task(task);
    let (models, warnings) = receive_models(channel, &terms, files).await?;
    let terms = terms?;
    let (entry, missed) = shared.owner.publish(&terms, &shared.pairs_of(&terms)?, models).await?;
    let warnings = [warnings, missed].concat();
    Ok(AdminReply::Published { entry, warnings })
}

/// Withdraws what was published at once, of a task of any kind.
async fn withdraw(shared: &Arc<Shared>, model: ModelId) -> Result<AdminReply, Refusal> {
    if let Some(owner) = &shared.encrypted.owner
        && owner.withdraw(model).await?
    {
        return Ok(AdminReply::Withdrawn);
    }
    let book = shared.owner.published()?;
    let entry = book.iter().find(|entry| entry.model == model);
    let unknown = || Refusal::new(Obstacle::Model, format!("this node published no model {model}"));
    let terms = shared.task(&entry.ok_or_else(unknown)?.task)?;
    shared.owner.withdraw(&shared.pairs_of(&terms)?, model).await?;
    Ok(AdminReply::Withdrawn)
}

/// Reads as many model files as are named. After a file that is no model, a wrong number of files or an unknown
/// task the rest is read and dropped, so that the next message is found.
async fn receive_models(
    channel: &mut Channel,
    terms: &Result<Arc<TaskTerms>, Refusal>,
    files: Vec<String>,
) -> Result<(Vec<NamedModel>, Vec<String>), Refusal> {
    let count = files.len();
    let terms = terms.as_ref().map_err(Clone::clone);
    let checked = terms
        .and_then(|terms| terms.check_shards(count).map(|()| (terms.roster.input, terms.is_one_class())));
    let (mut models, mut warnings, mut refusal) = (Vec::new(), Vec::new(), checked.as_ref().err().cloned());
    for (index, name) in files.into_iter().enumerate() {
        let failed = |error: ChannelError| Refusal::new(Obstacle::Request, error);
        let file = channel.receive(FILE_BYTES_MAX).await.map_err(failed)?;
        let (Ok((input, one_class)), None) = (&checked, &refusal) else { continue };
        let (input, one_class) = (*input, *one_class);
        let imported = tokio::task::spawn_blocking(move || imported(&file, input, one_class)).await;
        match imported.map_err(|error| Refusal::new(Obstacle::Local, error))? {
            Ok((model, told)) => {
                let of = |text: String| if count == 1 { text } else { format!("{name}: {text}") };
                warnings.extend(told.into_iter().map(of));
                models.push(NamedModel { name, model });
            }
            Err(error) => refusal = Some(unfit((index, count), &name, &error)),
        }
    }
    refusal.map_or(Ok((models, warnings)), Err)
}

/// A file as a model of the task's kind, and what was changed on the way.
fn imported(file: &[u8], input: Shape, one_class: bool) -> Result<(AnyModel, Vec<String>), ImportError> {
    if one_class {
        let ImportedOneClass { model, mut warnings, .. } = import_one_class(file, Some(input), None)?;
        if model.threshold() <= 0.0 {
            warnings.push("the threshold is not above 0, so this user will hardly ever be named".to_owned());
        }
        return Ok((model.into(), warnings));
    }
    let imported = import_for(file, Some(input))?;
    Ok((imported.model.into(), imported.warnings))
}

/// Applies the task's public normalisation to raw rows and clips to its public bound.
pub(crate) fn normalised(terms: &TaskTerms, mut rows: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, Refusal> {
    let Some(features) = &terms.roster.features else { return Ok(rows) };
    let bound = terms.roster.input_abs_max;
    for (index, row) in rows.iter_mut().enumerate() {
        let values = terms.roster.input.len();
        if row.len() != values {
            let text = format!("row {index} has {} values, the task takes {values}", row.len());
            return Err(Refusal::new(Obstacle::Request, text));
        }
        for (at, value) in row.iter_mut().enumerate() {
            *value = features.normalise(at, *value).clamp(-bound, bound);
        }
    }
    Ok(rows)
}

/// A conversation with the node, for more than one request.
#[derive(Debug)]
pub struct Caller {
    pub(super) channel: Channel,
}

impl Caller {
    /// Knocks at the socket `path`.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub async fn open(path: &Path) -> Result<Self, AdminError> {
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|source| AdminError::Unreachable { path: path.to_owned(), source })?;
        Ok(Self { channel: Channel::local(stream) })
    }

    /// One request.
    ///
    /// # Errors
    /// The conversation broke off; a refusal is a reply.
    pub async fn call(&mut self, request: &AdminRequest) -> Result<AdminReply, AdminError> {
        self.channel.send_value(request).await?;
        Ok(self.channel.receive_value(ADMIN_BYTES_MAX).await?)
    }
}

/// One request to the node behind the socket `path`.
///
/// # Errors
/// [`AdminError`]; a refusal is a reply.
pub async fn call(path: &Path, request: &AdminRequest) -> Result<AdminReply, AdminError> {
    Caller::open(path).await?.call(request).await
}

/// Publishes the bytes of an ONNX file.
///
/// # Errors
/// As [`call`].
pub async fn publish(path: &Path, task: String, file: &[u8]) -> Result<AdminReply, AdminError> {
    let file = ModelFile { name: "the model".to_owned(), bytes: file.to_vec() };
    publish_all(path, task, &[file]).await
}

/// Plans and publishes the bytes of an ONNX file for a homomorphic task.
///
/// # Errors
/// As [`call`].
pub async fn publish_planned(
    path: &Path,
    task: String,
    (mode, scales): (Option<Mode>, Option<Scales>),
    file: &[u8],
) -> Result<AdminReply, AdminError> {
    let mut channel = Caller::open(path).await?.channel.with_frame_bytes_max(FILE_BYTES_MAX);
    channel.send_value(&AdminRequest::Plan { task, mode, scales }).await?;
    channel.send(file).await?;
    Ok(channel.receive_value(ADMIN_BYTES_MAX).await?)
}

/// An ONNX file to publish.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// What messages call it.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Publishes ONNX files, one for each part of this owner's patients: all or none.
///
/// # Errors
/// As [`call`].
pub async fn publish_all(path: &Path, task: String, files: &[ModelFile]) -> Result<AdminReply, AdminError> {
    let mut channel = Caller::open(path).await?.channel.with_frame_bytes_max(FILE_BYTES_MAX);
    let names = files.iter().map(|file| file.name.clone()).collect();
    channel.send_value(&AdminRequest::Publish { task, files: names }).await?;
    for file in files {
        channel.send(&file.bytes).await?;
    }
    Ok(channel.receive_value(ADMIN_BYTES_MAX).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_user_and_root_are_let_in() {
        let visitor = |uid| Visitor { uid, pid: Some(7) }.admitted(1000);
        assert!(visitor(1000).is_ok() && visitor(0).is_ok());
        let refused = visitor(1001).unwrap_err();
        assert!(refused.contains("user 1001 (process 7)") && refused.contains("only user 1000"), "{refused}");
    }

    #[tokio::test]
    async fn the_system_names_the_visitor() {
        let (here, _there) = UnixStream::pair().unwrap();
        let visitor = Visitor::of(&here).unwrap();
        assert_eq!(visitor.uid, rustix::process::geteuid().as_raw());
        assert_eq!(visitor.pid, i32::try_from(std::process::id()).ok());
    }
}
