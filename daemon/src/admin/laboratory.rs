//! Files of encodings between the command line and the node.

use super::serve::Caller;
use super::{ADMIN_BYTES_MAX, AdminError, AdminReply, AdminRequest};
use crate::lab::Figure;
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, PeerId};
use crate::node::Shared;
use crate::transfer::{receive_file, send_file};
use std::path::Path;
use std::sync::Arc;

/// Takes a file in where the roster lets it move, and sends it to a member.
pub(super) async fn send(
    channel: &mut Channel,
    shared: &Arc<Shared>,
    (task, to): (&str, &str),
    (bytes, figure): (u64, &Figure),
) -> Result<AdminReply, Refusal> {
    let berth = Arc::new(shared.laboratory.admit(task, to, bytes, figure)?);
    let peer = shared.roster.member(to).and_then(|member| member.peer.as_str().parse().ok());
    let peer: PeerId = peer.ok_or_else(|| Refusal::new(Obstacle::Roster, format!("{to} has no peer id")))?;
    let gone = |error| Refusal::new(Obstacle::Request, format!("whoever sends the file is gone: {error}"));
    channel.send_value(&AdminReply::SendFile).await.map_err(gone)?;
    receive_file(channel, &berth.path, bytes).await?;
    Ok(AdminReply::EncodingsSent(Box::new(shared.laboratory.send((task, to, peer), berth).await?)))
}

/// What came.
pub(super) async fn received(shared: &Arc<Shared>) -> Result<AdminReply, Refusal> {
    let here = shared.laboratory.clone();
    let listed = tokio::task::spawn_blocking(move || here.received()).await;
    listed.map(AdminReply::Received).map_err(|error| Refusal::new(Obstacle::Local, error))
}

/// Sends a file of encodings to a member through the node behind the socket `path`. `figure` is what the file says of its
/// attack.
///
/// # Errors
/// As [`super::call`]; a file that cannot be read is a refusal.
pub async fn send_encodings(
    path: &Path,
    (task, to): (&str, &str),
    file: &Path,
    figure: Figure,
) -> Result<AdminReply, AdminError> {
    let local = |error: std::io::Error| {
        let text = format!("cannot read {}: {error}", file.display());
        Ok(AdminReply::Refused(Refusal::new(Obstacle::Request, text)))
    };
    let bytes = match std::fs::metadata(file) {
        Ok(found) => found.len(),
        Err(error) => return local(error),
    };
    let mut channel = Caller::open(path).await?.channel;
    let (task, to) = (task.to_owned(), to.to_owned());
    channel.send_value(&AdminRequest::SendEncodings { task, to, bytes, figure }).await?;
    let reply: AdminReply = channel.receive_value(ADMIN_BYTES_MAX).await?;
    if !matches!(reply, AdminReply::SendFile) {
        return Ok(reply);
    }
    if let Err(refusal) = send_file(&mut channel, file, bytes).await {
        return Ok(AdminReply::Refused(refusal));
    }
    Ok(channel.receive_value(ADMIN_BYTES_MAX).await?)
}
