//! How a consortium comes to be, by the commands that administrators run: founded, joined by invitations, given its
//! pairs and tasks by a quorum's signatures, and its models by their owners.

use super::node::told;
use super::subject::Subjects;
use super::terms::{HOST, MEMBERS, Second, index, with_role, with_tasks};
use super::world::{Whole, World};
use super::{Failure, LOOK_EVERY, Say, TestbedError};
use consilium::admin::{AdminReply, AdminRequest, call};
use consilium::consortium::{ConsortiumReply, ConsortiumRequest, RosterView};
use futures::future::try_join_all;
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a proposal, a version or a newcomer may take on its way.
const WITHIN: Duration = Duration::from_secs(120);

/// The roster as a node sees it, if it answers.
async fn view(world: &World, name: &str) -> Option<RosterView> {
    let socket = world.nodes[index(name)].socket();
    match call(&socket, &AdminRequest::Consortium(ConsortiumRequest::Show)).await {
        Ok(AdminReply::Consortium(ConsortiumReply::Show(view))) => Some(*view),
        _ => None,
    }
}

/// Waits until the node's view of the roster has what is wanted.
async fn seen<T>(
    world: &World,
    name: &str,
    what: &str,
    wanted: impl Fn(&RosterView) -> Option<T>,
) -> Result<T, TestbedError> {
    let started = Instant::now();
    loop {
        if let Some(found) = view(world, name).await.as_ref().and_then(&wanted) {
            return Ok(found);
        }
        if started.elapsed() > WITHIN {
            return Err(TestbedError::Late { what: format!("{name}: {what}") });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn word<'a>(value: &'a Value, key: &str) -> Result<&'a str, TestbedError> {
    let missing = || TestbedError::Command { what: format!("{value}"), told: format!("no {key}") };
    value[key].as_str().ok_or_else(missing)
}

/// Founds the consortium and lets all others join, one after the other.
pub(super) async fn form(world: &mut World, say: Say<'_>) -> Result<(), Failure> {
    let founder = &MEMBERS[0];
    let roles = founder.roles.join(",");
    let words = [
        "consortium",
        "create",
        "--name",
        "Testbed",
        "--organisation",
        founder.organisation,
        "--roles",
        &roles,
    ];
    let founded = world.nodes[0].told(&words).await?;
    world.nodes[0].launch()?;
    world.nodes[0].up().await?;
    say(&format!("{} founded consortium {}", founder.name, word(&founded, "consortium")?));
    for (number, member) in MEMBERS.iter().enumerate().skip(1) {
        admit(world, number).await?;
        say(&format!("{} joined", member.name));
    }
    Ok(())
}

/// One newcomer: invited, proposed by its own joining, signed, started.
async fn admit(world: &mut World, number: usize) -> Result<(), Failure> {
    let (member, founder) = (&MEMBERS[number], MEMBERS[0].name);
    let roles = member.roles.join(",");
    let words = ["consortium", "invite", "--name", member.name, "--roles", &roles];
    let invited = world.nodes[0].told(&words).await?;
    let words = ["consortium", "join", word(&invited, "invitation")?, "--organisation", member.organisation];
    let mut joining = world.nodes[number].command(&words);
    let joining = joining.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let proposal = seen(world, founder, "a proposal", |view| {
        view.proposals.first().map(|proposal| proposal.proposal.to_string())
    })
    .await?;
    // Those who are members already sign.
    sign(world, &proposal, 0, number).await?;
    let what = || format!("{}: consilium consortium join", member.name);
    let output = tokio::time::timeout(WITHIN, joining.wait_with_output()).await;
    told(what(), &output.map_err(|_| TestbedError::Late { what: what() })??)?;
    world.nodes[number].launch()?;
    world.nodes[number].up().await?;
    world.until(number + 1, Whole::Connected).await?;
    Ok(())
}

/// Has members sign a proposal, beginning with one of them, until it is in force on all of the first `count`.
async fn sign(world: &World, proposal: &str, first: usize, count: usize) -> Result<(), Failure> {
    let voters = with_role("owner").filter(|name| index(name) < count).skip(first);
    let mut version = None;
    for voter in voters {
        let (found, in_force) = sign_one(world, voter, proposal).await?;
        version = Some(found);
        if in_force {
            break;
        }
    }
    let version = version.ok_or("nobody may sign")?;
    for member in &MEMBERS[..count] {
        seen(world, member.name, "the next version in force", |view| {
            (view.in_force >= version && view.held.is_empty()).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Has one member sign; the version that it signs, and whether that is in force there. The quorum may be complete by
/// what others signed, and the node then begins anew, perhaps just when it is asked to sign.
async fn sign_one(world: &World, voter: &str, proposal: &str) -> Result<(u64, bool), Failure> {
    let started = Instant::now();
    loop {
        let (version, in_force) = seen(world, voter, "the proposal", |view| {
            let known = view.proposals.iter().find(|known| known.proposal.to_string() == proposal);
            let done = view.fingerprint.to_string() == proposal;
            known.map(|known| (known.version, false)).or_else(|| done.then_some((view.version, true)))
        })
        .await?;
        if in_force {
            return Ok((version, true));
        }
        match world.nodes[index(voter)].told(&["consortium", "roster", "sign", proposal]).await {
            Ok(signed) => return Ok((version, signed["in_force"] == true)),
            Err(error) if started.elapsed() > WITHIN => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// The module starts, the founder proposes pairs and tasks, a quorum signs, and all nodes begin anew by them.
pub(super) async fn agree(
    world: &mut World,
    subjects: &Subjects,
    apart: bool,
    say: Say<'_>,
) -> Result<Second, Failure> {
    let founder = MEMBERS[0].name;
    world.module.launch().await?;
    say(&format!("the module that draws noise listens on the machine of {HOST}"));
    let members = seen(world, founder, "the roster", |view| Some(view.text.clone())).await?;
    let (text, second) = with_tasks(&members, subjects, apart);
    let file = world.root().join("next.toml");
    std::fs::write(&file, text)?;
    let file = file.to_string_lossy().into_owned();
    let proposed = world.nodes[0].told(&["consortium", "roster", "propose", &file]).await?;
    let proposal = word(&proposed, "proposal")?.to_owned();
    sign(world, &proposal, 1, MEMBERS.len()).await?;
    world.until(MEMBERS.len(), Whole::Connected).await?;
    say("pairs and tasks are signed and in force on all nodes");
    Ok(second)
}

/// Every owner publishes its models for its tasks.
pub(super) async fn publish(world: &World, subjects: &Subjects, second: Second) -> Result<(), Failure> {
    let owners = with_role("owner").map(|owner| async move {
        for task in second.tasks() {
            let subject = subjects.of(task);
            if !subject.owners().contains(&owner) {
                continue;
            }
            let file = world.root().join(owner).join(format!("{}.onnx", task.name));
            std::fs::write(&file, subject.model(owner)?)?;
            let file = file.to_string_lossy().into_owned();
            let words = ["model", "publish", file.as_str(), "--task", task.name];
            let words = [&words, subject.publishing()].concat();
            publish_one(world, owner, &words, subject.pairs(task, second)).await?;
        }
        Ok::<(), Failure>(())
    });
    try_join_all(owners).await?;
    Ok(())
}

/// Publishes until so many pairs hold the model. The other owners publish as well, so a party may be busy with one of
/// them, and a pair that still begins anew by the roster misses what the other one took.
async fn publish_one(world: &World, owner: &str, words: &[&str], pairs: usize) -> Result<(), TestbedError> {
    let started = Instant::now();
    loop {
        let told = world.nodes[index(owner)].told(words).await;
        let held = |answer: &Value| answer["published"]["pairs"].as_array().map_or(0, Vec::len);
        if told.as_ref().is_ok_and(|answer| held(answer) == pairs) {
            return Ok(());
        }
        if started.elapsed() > WITHIN {
            let missed = |answer: Value| TestbedError::Command {
                what: format!("{owner}: consilium {}", words.join(" ")),
                told: format!("not all pairs took it: {}", answer["warnings"]),
            };
            return Err(told.map_or_else(|error| error, missed));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
