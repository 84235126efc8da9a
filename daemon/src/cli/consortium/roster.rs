//! `consilium consortium roster`: versions, proposals and signatures.

use super::ask;
use super::words::{changes, moment, names, standing};
use crate::cli::NodeArgs;
use crate::cli::output::{print_json, table, unexpected};
use crate::consortium::{
    ConsortiumReply, ConsortiumRequest, Fingerprint, ProposalView, RosterView, TEXT_BYTES_MAX,
};
use crate::vault::read_bounded;
use clap::{Args, Subcommand};
use consilium_config::Roster;
use miette::{IntoDiagnostic, Result, miette};
use std::path::{Path, PathBuf};

/// Arguments of `consilium consortium roster`.
#[derive(Debug, Args)]
pub(super) struct RosterArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the roster, who stands where, proposals and invitations
    Show(ShowArgs),
    /// Propose a file as the next version, and sign it
    ///
    /// Start from `show --text > roster.toml` and edit that. The proposal goes to all members; it is the next
    /// version as soon as a quorum of the members with the role owner or compute has signed. Every node then takes
    /// it by itself: it starts anew within seconds, and questions under way at that moment are refused.
    Propose(ProposeArgs),
    /// Show what a file, a proposal, or a version that waits for you changes
    Diff(DiffArgs),
    /// Sign a proposal, or agree to a version that waits for you
    ///
    /// Read what it changes first: `show` lists proposals with their digits. For a new member compare its peer id
    /// with its owner over another channel. A signature cannot be taken back.
    Sign(SignArgs),
    /// Ask all members now for versions, proposals and signatures; nodes also do so by themselves
    Fetch(FetchArgs),
    /// List all versions: when, by whose signatures, and what they changed
    Log(LogArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Print the roster's text alone, as it was signed
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct ProposeArgs {
    /// The whole roster to be
    file: PathBuf,
    /// Although this node signed another proposal for the same version, which all have given up
    #[arg(long)]
    instead: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// A file, or the first digits of a proposal; without it the one proposal, or the version that waits
    what: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct SignArgs {
    /// The first digits of the proposal, as `show` lists it
    proposal: String,
    /// Although this node signed another proposal for the same version, which all have given up
    #[arg(long)]
    instead: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct FetchArgs {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct LogArgs {
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &RosterArgs) -> Result<()> {
    match &args.action {
        Action::Show(args) => show(args),
        Action::Propose(args) => propose(args),
        Action::Diff(args) => diff(args),
        Action::Sign(args) => sign(args),
        Action::Fetch(args) => fetch(args),
        Action::Log(args) => log(args),
    }
}

/// A roster file, with its mistakes shown where they stand before anybody else sees it.
fn text_of(file: &Path) -> Result<String> {
    Roster::load(file)?;
    let bytes = read_bounded(file, TEXT_BYTES_MAX as u64).into_diagnostic()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn show(args: &ShowArgs) -> Result<()> {
    let ConsortiumReply::Show(view) = ask(&args.node, ConsortiumRequest::Show)? else {
        return Err(unexpected());
    };
    if args.node.json {
        return print_json(&view);
    }
    if args.text {
        print!("{}", view.text);
        return Ok(());
    }
    println!("{}: roster version {}, signed by {}", view.name, view.version, names(&view.signers));
    println!("consortium id  {}", view.consortium);
    println!("fingerprint    {}", view.fingerprint);
    println!(
        "the next version needs {} of {} signatures (owners and compute parties)",
        view.needed, view.voters
    );
    let mut rows = table(&["member", "roles", "organisation", "roster", "peer id"]);
    for member in &view.members {
        rows.add_row([
            member.name.clone(),
            member.roles.join(", "),
            member.organisation.clone().unwrap_or_else(|| "-".to_owned()),
            standing(member.standing),
            member.peer.clone(),
        ]);
    }
    println!("{rows}");
    held(&view);
    for proposal in &view.proposals {
        pending(proposal, view.needed);
    }
    invitations(&view);
    Ok(())
}

/// A version that waits for this node's administrator.
fn held(view: &RosterView) {
    if view.held.is_empty() {
        return;
    }
    println!(
        "THIS NODE STILL RUNS BY VERSION {}: version {} gives {} to other compute parties or another dealer, so your \
         shares would go to them. Read `consilium consortium roster diff`, then agree with `consilium consortium roster \
         sign {}`, or talk to the members.",
        view.in_force,
        view.version,
        names(&view.held),
        view.fingerprint.short()
    );
}

fn pending(proposal: &ProposalView, needed: usize) {
    println!(
        "proposal {} for version {}, of {} UTC: signed by {} ({} of {needed})",
        proposal.proposal.short(),
        proposal.version,
        moment(proposal.at),
        names(&proposal.signers),
        proposal.signers.len()
    );
    println!("{}", changes(&proposal.changes));
    println!("to sign it: `consilium consortium roster sign {}`", proposal.proposal.short());
}

fn invitations(view: &RosterView) {
    if view.invitations.is_empty() {
        return;
    }
    let mut rows = table(&["invited", "roles", "until (UTC)", "used by"]);
    for invitation in &view.invitations {
        rows.add_row([
            invitation.name.clone(),
            invitation.roles.join(", "),
            moment(invitation.expires),
            invitation.used_by.clone().unwrap_or_else(|| "nobody yet".to_owned()),
        ]);
    }
    println!("{rows}");
}

fn propose(args: &ProposeArgs) -> Result<()> {
    let text = text_of(&args.file)?;
    let compared = ask(&args.node, ConsortiumRequest::Diff { text: Some(text.clone()), proposal: None })?;
    let ConsortiumReply::Diff(found) = compared else { return Err(unexpected()) };
    let reply = ask(&args.node, ConsortiumRequest::Propose { text, instead: args.instead })?;
    if !args.node.json {
        println!("{}", changes(&found));
    }
    signed(&args.node, &reply)
}

fn sign(args: &SignArgs) -> Result<()> {
    if args.proposal.len() < 6 {
        return Err(miette!(
            "give at least six digits of the proposal, as `consilium consortium roster show` lists it"
        ));
    }
    let about = ConsortiumRequest::Sign { proposal: args.proposal.clone(), instead: args.instead };
    signed(&args.node, &ask(&args.node, about)?)
}

fn signed(node: &NodeArgs, reply: &ConsortiumReply) -> Result<()> {
    let ConsortiumReply::Signed { proposal, in_force, signed, needed } = reply else {
        return Err(unexpected());
    };
    if node.json {
        return print_json(&serde_json::json!({
            "proposal": proposal, "in_force": in_force, "signed": signed, "needed": needed,
        }));
    }
    let short = Fingerprint::short(proposal);
    match (in_force, signed) {
        (true, _) => println!("{short} has its quorum and is in force; this node starts anew by it now"),
        (false, 0) => println!(
            "{short} has its quorum, but waits for this node's administrator: `consilium consortium roster show`"
        ),
        (false, _) => {
            println!("signed {short}: {signed} of {needed} signatures; the members' nodes pass it on")
        }
    }
    Ok(())
}

fn diff(args: &DiffArgs) -> Result<()> {
    let request = match &args.what {
        Some(what) if Path::new(what).exists() => {
            ConsortiumRequest::Diff { text: Some(text_of(Path::new(what))?), proposal: None }
        }
        what => ConsortiumRequest::Diff { text: None, proposal: what.clone() },
    };
    let ConsortiumReply::Diff(found) = ask(&args.node, request)? else { return Err(unexpected()) };
    if args.node.json {
        return print_json(&serde_json::json!({ "changes": found }));
    }
    if found.is_empty() {
        println!("nothing but comments or layout differs");
    } else {
        println!("{}", changes(&found));
    }
    Ok(())
}

fn fetch(args: &FetchArgs) -> Result<()> {
    let ConsortiumReply::Fetched(fetched) = ask(&args.node, ConsortiumRequest::Fetch)? else {
        return Err(unexpected());
    };
    if args.node.json {
        return print_json(&serde_json::json!({ "members": fetched }));
    }
    let mut rows = table(&["member", "new versions", "fault"]);
    for member in fetched {
        let fault = member.fault.unwrap_or_else(|| "-".to_owned());
        rows.add_row([member.member, member.versions.to_string(), fault]);
    }
    println!("{rows}");
    Ok(())
}

fn log(args: &LogArgs) -> Result<()> {
    let ConsortiumReply::Log(versions) = ask(&args.node, ConsortiumRequest::Log)? else {
        return Err(unexpected());
    };
    if args.node.json {
        return print_json(&serde_json::json!({ "versions": versions }));
    }
    for version in &versions {
        println!(
            "version {} of {} UTC, {}: signed by {}",
            version.version,
            moment(version.at),
            version.fingerprint.short(),
            names(&version.signers)
        );
        if !version.changes.is_empty() {
            println!("{}", changes(&version.changes));
        }
    }
    Ok(())
}
