//! What an administrator asks of a node about homomorphic tasks.

use super::AdminReply;
use crate::encrypted::ToPublish;
use crate::ledger::ReleaseId;
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, PeerId};
use crate::node::Shared;
use consilium_protocol::homomorphic::{Mode, Scales};
use consilium_protocol::model::FILE_BYTES_MAX;
use std::sync::Arc;

/// Plans and publishes the one model whose file follows. Further files are read and dropped, so that the next message is
/// found.
pub(super) async fn publish(
    channel: &mut Channel,
    shared: &Arc<Shared>,
    task: &str,
    files: usize,
    (mode, scales): (Option<Mode>, Option<Scales>),
) -> Result<AdminReply, Refusal> {
    let mut file = None;
    for _ in 0..files {
        let received = channel.receive(FILE_BYTES_MAX).await;
        file = Some(received.map_err(|error| Refusal::new(Obstacle::Request, error))?);
    }
    let (Some(file), 1) = (file, files) else {
        let text = format!("task {task} takes one model of its owner, and {files} files were given");
        return Err(Refusal::new(Obstacle::Model, text));
    };
    let owner = shared.encrypted.owner.as_ref().filter(|owner| owner.owns(task));
    let owner = owner.ok_or_else(|| match shared.roster.homomorphic_task(task) {
        Some(known) => {
            let text =
                format!("the owner of task {task} is {}; only its node publishes the model", known.owner);
            Refusal::new(Obstacle::NotAllowed, text)
        }
        None => not_homomorphic(task),
    })?;
    let (entry, warnings) = owner.publish(task, ToPublish { file, mode, scales }).await?;
    Ok(AdminReply::Planned { entry, warnings })
}

/// Whether a question has no name, which none of a homomorphic task has.
pub(super) fn named(task: &str, name: Option<ReleaseId>) -> Result<(), Refusal> {
    match name {
        None => Ok(()),
        Some(_) => {
            let text = format!("task {task} is homomorphic, and its questions have no names; leave --id out");
            Err(Refusal::new(Obstacle::Request, text))
        }
    }
}

/// Asks the owner of a task.
pub(super) async fn ask(
    shared: &Arc<Shared>,
    task: &str,
    rows: Vec<Vec<f64>>,
    (mode, logits): (Option<Mode>, bool),
) -> Result<AdminReply, Refusal> {
    let known = shared.roster.homomorphic_task(task).ok_or_else(|| not_homomorphic(task))?;
    if !known.has_client(shared.me.name.as_str()) {
        let text = format!("the roster does not list {} as a client of task {task}", shared.me.name);
        return Err(Refusal::new(Obstacle::NotAllowed, text));
    }
    let owner =
        shared.roster.member(known.owner.as_str()).and_then(|member| member.peer.as_str().parse().ok());
    let owner: PeerId =
        owner.ok_or_else(|| Refusal::new(Obstacle::Roster, format!("{} has no peer id", known.owner)))?;
    let asker = shared.encrypted.asker.as_ref();
    let asker =
        asker.ok_or_else(|| Refusal::new(Obstacle::NotAllowed, "this node asks no homomorphic task"))?;
    Ok(AdminReply::Opened(Box::new(asker.ask((known, owner), rows, mode, logits).await?)))
}

fn not_homomorphic(task: &str) -> Refusal {
    let text = format!(
        "the roster has no homomorphic task {task:?}; modes, scales and logits are for such tasks alone"
    );
    Refusal::new(Obstacle::Task, text)
}
