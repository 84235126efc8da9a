//! `consilium status`: what the node does.

mod view;
mod watch;

use super::NodeArgs;
use super::output::{node_file, print_json, request, table, unexpected};
use crate::admin::{AdminReply, AdminRequest, MemberStatus, ModuleStatus, Report, SeatStatus};
use crate::encrypted::{ClientCount, EncryptedStatus, PlanEntry, Planned};
use crate::laboratory::LaboratoryStatus;
use crate::ledger::seconds_now;
use crate::losses::rounded_up_to;
use clap::Args;
use consilium_attest::choice::NoiseRule;
use miette::Result;
use std::time::Duration;

/// Arguments of `consilium status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Stay and draw it anew every few seconds; with --json one object a line
    #[arg(long, short)]
    watch: bool,
    /// Seconds from one to the next
    #[arg(long, value_name = "SECONDS", default_value = "2", requires = "watch")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    every: u32,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &StatusArgs) -> Result<()> {
    if args.watch {
        let socket = node_file(&args.node)?.admin().socket.clone();
        let every = Duration::from_secs(args.every.into());
        return if args.node.json { watch::stream(&socket, every) } else { watch::watch(&socket, every) };
    }
    let AdminReply::Status(mut report) = request(&args.node, &AdminRequest::Status)? else {
        return Err(unexpected());
    };
    let AdminReply::Prospects(prospects) = request(&args.node, &AdminRequest::Prospects)? else {
        return Err(unexpected());
    };
    report.prospects = prospects;
    if args.node.json {
        return print_json(&report);
    }
    println!("{} ({})", report.name, report.peer);
    println!(
        "listening on {}",
        if report.listening.is_empty() { "nothing".into() } else { report.listening.join(", ") }
    );
    if !report.relays.is_empty() {
        println!("others reach this node through {}", report.relays.join(", "));
    }
    if report.dealer {
        println!("deals correlated randomness");
    }
    members(&report);
    self::prospects(&report);
    for detour in &report.detours {
        println!("{}", detour.in_words());
    }
    report.seats.iter().for_each(seat);
    report.encrypted.iter().for_each(|task| println!("{}", encrypted(task)));
    report.laboratory.iter().for_each(|task| println!("{}", laboratory(task)));
    Ok(())
}

/// A homomorphic task in one line.
fn encrypted(task: &EncryptedStatus) -> String {
    let EncryptedStatus { task: name, owner, answered, refused, .. } = task;
    let mut told =
        format!("encrypted task {name} of {owner}: {answered} queries answered, {refused} refused");
    if let Some(Planned { version, plans, .. }) = &task.published {
        let each =
            |plan: &PlanEntry| format!("{:?} {}", plan.mode, plan.digest.get(..16).unwrap_or_default());
        let plans: Vec<String> = plans.iter().map(each).collect();
        told += &format!("; version {version}, plans {}", plans.join(", ").to_lowercase());
    }
    for ClientCount { client, counted, left } in &task.clients {
        told += &format!("; {client}: {counted} of {} inputs, {left} left", task.inputs_per_client_max);
    }
    told
}

/// A task of encodings in one line.
fn laboratory(LaboratoryStatus { task, hospitals, lab, files }: &LaboratoryStatus) -> String {
    let hospitals = hospitals.join(", ");
    match lab {
        true => format!(
            "laboratory task {task} of {hospitals}: {files} files of encodings came; NOT confidential, `consilium lab received` \
             says how many of their images an attack finds"
        ),
        false => format!("laboratory task {task} of {hospitals}: the roster lets no encoding move"),
    }
}

fn members(report: &Report) {
    let mut rows = table(&["member", "roles", "connection", "round trip"]);
    for member in &report.members {
        let connection = match (&member.fault, member.connected) {
            (_, true) => member.relay.as_ref().map_or("up".to_owned(), |relay| format!("up through {relay}")),
            (Some(fault), false) => fault.clone(),
            (None, false) => "none".to_owned(),
        };
        let trip = member.round_trip_ms.map_or_else(String::new, |ms| format!("{ms:.1} ms"));
        rows.add_row([member.name.clone(), duties(member), connection, trip]);
    }
    println!("{rows}");
}

/// What a member is there for.
fn duties(member: &MemberStatus) -> String {
    let roles = member.roles.join(", ");
    if member.serves.is_empty() { roles } else { format!("{roles}; computes {}", member.serves.join(", ")) }
}

/// What a question would become, of the tasks that this node may ask or serves.
fn prospects(report: &Report) {
    let mut rows = table(&["task", "a question now", "prepared", "answers left"]);
    let shown = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    for prospect in &report.prospects {
        rows.add_row([
            if prospect.task.is_empty() { "any".to_owned() } else { prospect.task.clone() },
            prospect.reason.clone().unwrap_or_else(|| "would be answered".to_owned()),
            shown(prospect.bundles),
            shown(prospect.answers_left),
        ]);
    }
    if !report.prospects.is_empty() {
        println!("{rows}");
    }
}

fn seat(seat: &SeatStatus) {
    println!("pair {}: party {}", seat.pair, seat.seat);
    let mut rows =
        table(&["task", "models", "pool", "used", "rounds", "release", "answers", "together", "epsilon"]);
    for task in &seat.tasks {
        let pool = task
            .pool
            .map_or_else(|| "no epoch".into(), |pool| format!("{} ({}-{})", pool.left, pool.low, pool.high));
        let epsilon = match (task.epsilon_spent, task.epsilon_budget) {
            (Some(spent), Some(budget)) => {
                let slice = task.slice.as_ref().map_or_else(String::new, |slice| format!(" (slice {slice})"));
                format!("{} of {budget:.2}{slice}", rounded_up_to(spent, 2))
            }
            _ => "-".to_owned(),
        };
        rows.add_row([
            task.task.clone(),
            match task.shards {
                1 => format!("{} of {}", task.models_ready, task.owners),
                each => format!("{} of {} owners, {each} each", task.owners_ready, task.owners),
            },
            pool,
            task.pool.map_or_else(String::new, |pool| pool.used.to_string()),
            task.rounds.map_or_else(String::new, |rounds| rounds.to_string()),
            task.mechanism.clone(),
            task.answered.to_string(),
            format!("up to {}", task.together_most),
            epsilon,
        ]);
    }
    println!("{rows}");
    promises(seat);
    pools(seat);
    noise(seat);
    if let Some(fault) = &seat.refill_fault {
        println!("the pool cannot be refilled: {fault}");
    }
}

/// Whom the promise of each task covers, and what those lose who move more than one vote.
fn promises(seat: &SeatStatus) {
    let mut rows = table(&["promise of", "to", "votes", "epsilon spent", "when the budget is spent"]);
    for task in &seat.tasks {
        let (Some(spent), Some(budget)) = (&task.losses, &task.losses_at_budget) else { continue };
        for (line, ((whom, spent), (_, budget))) in spent.rows().into_iter().zip(budget.rows()).enumerate() {
            rows.add_row([
                if line == 0 { task.task.clone() } else { String::new() },
                if line == 0 { whom } else { format!("beside it: {whom}") },
                spent.votes.to_string(),
                spent.shown(),
                budget.shown(),
            ]);
        }
    }
    if seat.tasks.iter().any(|task| task.losses.is_some()) {
        println!("{rows}");
    }
}

/// Where the correlated randomness of each task comes from and how fast.
fn pools(seat: &SeatStatus) {
    let mut rows = table(&["pool of", "source", "on disk", "speed", "in progress", "last fault"]);
    let unknown = || "-".to_owned();
    for task in &seat.tasks {
        let Some(refill) = &task.refill else { continue };
        rows.add_row([
            task.task.clone(),
            refill.source.clone(),
            refill.bytes_on_disk.map_or_else(unknown, size),
            refill.bundles_per_second.map_or_else(unknown, |speed| format!("{speed:.1} bundles/s")),
            refill.batch.map_or_else(unknown, |(made, of)| format!("{made} of {of}")),
            refill.fault.clone().unwrap_or_else(unknown),
        ]);
    }
    if seat.tasks.iter().any(|task| task.refill.is_some()) {
        println!("{rows}");
    }
}

/// Where the noise of each task comes from, and this party's verdict on the module.
fn noise(seat: &SeatStatus) {
    let mut rows = table(&["noise of", "from", "releases ahead", "last fault"]);
    for task in &seat.tasks {
        let Some(noise) = &task.noise else { continue };
        let (from, module) = match noise.rule {
            NoiseRule::Software => ("each party, in software", false),
            NoiseRule::Module => ("the module, or no release", true),
            NoiseRule::ModuleElseSoftware => ("the module, else each party", true),
        };
        let ahead = if module { noise.ahead.to_string() } else { "-".to_owned() };
        rows.add_row([
            task.task.clone(),
            from.to_owned(),
            ahead,
            noise.fault.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    if seat.tasks.iter().any(|task| task.noise.is_some()) {
        println!("{rows}");
    }
    match &seat.module {
        None => {}
        Some(ModuleStatus::Unasked) => println!("noise module: not asked yet"),
        Some(ModuleStatus::Unreachable { reason, valid_until }) => {
            let left = valid_until.map(|until| until.saturating_sub(seconds_now()));
            let left =
                left.map(|left| format!("; what it drew counts for {left} s more")).unwrap_or_default();
            println!("noise module: cannot be reached: {reason}{left}");
        }
        Some(ModuleStatus::Refused { reason }) => println!("noise module: EVIDENCE REFUSED: {reason}"),
        Some(ModuleStatus::Accepted { shown, boot, valid_until, .. }) => {
            let left = valid_until.saturating_sub(seconds_now());
            println!("noise module: {shown}; boot {boot}; this verdict counts for {left} s more");
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
