//! `consilium consortium`: found one, invite, join, and change the roster together.

mod roster;
mod words;

use super::NodeArgs;
use super::output::{block_on, node_file, print_json, request, unexpected};
use crate::admin::{AdminReply, AdminRequest};
use crate::consortium::{self, ConsortiumReply, ConsortiumRequest, Invitation, Newcomer, VerifiedRoster};
use crate::ledger::seconds_now;
use crate::net::{Identity, PeerId};
use crate::vault::private_directory;
use clap::{Args, Subcommand};
use consilium_config::{Address, Member, Name, Node, RELAYED, Role, Roster};
use miette::{IntoDiagnostic, Result, miette};
use std::io::Read;

/// Arguments of `consilium consortium`.
#[derive(Debug, Args)]
pub(super) struct ConsortiumArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Found a consortium of this node alone, with a signed roster that grows by invitations
    ///
    /// Run it once, before `consilium daemon` is started, as the user whose state folder it is. The first version
    /// of the roster names this node and nobody else. Its id, which is printed, is what all members have in common:
    /// read it to those you invite over another channel than the invitation.
    Create(CreateArgs),
    /// Make an invitation for one new node, to be used once
    ///
    /// Run it on the running node of a member that can be dialled and has the role owner or compute. Hand the text
    /// to the newcomer alone: whoever has it can ask to join under that name. Nobody becomes a member by it: the
    /// members see a proposal, compare the key with the newcomer, and sign. With --peer only that key may use it.
    Invite(InviteArgs),
    /// Use an invitation and wait until the members have signed this node in
    ///
    /// Run it before `consilium daemon` is started, as the user whose state folder it is. It may be interrupted and
    /// run again with the same invitation. It ends when a version of the roster names this node; read that roster
    /// before you publish a model or ask a question.
    Join(JoinArgs),
    /// Show, propose, compare and sign versions of the roster
    Roster(roster::RosterArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Name of the consortium
    #[arg(long)]
    name: String,
    /// Who runs this node; the members of one pair must differ in it
    #[arg(long)]
    organisation: Option<String>,
    /// Roles of this node; one of them must be owner or compute
    #[arg(long, value_delimiter = ',', default_value = "owner,compute", value_name = "ROLES")]
    roles: Vec<Role>,
    /// Where the others dial this node, such as /ip4/192.0.2.10/tcp/4710; may be repeated. Without it, the addresses
    /// of the node file that name one machine
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<Address>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct InviteArgs {
    /// The newcomer's name in the roster, as `node.name` in its node file
    #[arg(long)]
    name: Name,
    /// Its roles: owner, client, compute, dealer
    #[arg(long, value_delimiter = ',', required = true, value_name = "ROLES")]
    roles: Vec<Role>,
    /// Its peer id, where you know it already: no other key may then use the invitation
    #[arg(long)]
    peer: Option<PeerId>,
    /// Days that the invitation counts, 1 to 30
    #[arg(long, default_value_t = 7)]
    days: u32,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct JoinArgs {
    /// The text that `consilium consortium invite` printed, or `-` to read it from standard input
    invitation: String,
    /// Who runs this node; the members of one pair must differ in it
    #[arg(long)]
    organisation: Option<String>,
    /// Where the others dial this node; may be repeated. Without it, the addresses of the node file that name one
    /// machine; none for a node that only dials
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<Address>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ConsortiumArgs) -> Result<()> {
    match &args.action {
        Action::Create(args) => create(args),
        Action::Invite(args) => invite(args),
        Action::Join(args) => join(args),
        Action::Roster(args) => roster::run(args),
    }
}

/// The key of a node that does not run yet.
fn identity_of(node: &Node) -> Result<Identity> {
    private_directory(&node.place().state).into_diagnostic()?;
    Identity::load_or_create(&node.place().identity).into_diagnostic()
}

/// Those given, or those of the node file that others could dial, or the one of a node behind a NAT.
fn addresses_of(node: &Node, given: &[Address]) -> Vec<Address> {
    if given.is_empty() {
        if node.network().behind_nat {
            return RELAYED.parse().into_iter().collect();
        }
        let listen = &node.network().listen;
        return listen.iter().filter(|address| address.is_dialable()).cloned().collect();
    }
    given.to_vec()
}

fn create(args: &CreateArgs) -> Result<()> {
    let node = node_file(&args.node)?;
    if !args.roles.iter().any(|role| matches!(role, Role::Owner | Role::Compute)) {
        return Err(miette!(
            "a founder signs the next version of the roster, which takes the role owner or compute; add one to --roles"
        ));
    }
    let identity = identity_of(&node)?;
    let peer = identity.peer_id().to_string().parse().into_diagnostic()?;
    let addresses = addresses_of(&node, &args.addresses);
    let invites = !addresses.is_empty();
    let member = Member {
        name: node.name().clone(),
        peer,
        organisation: args.organisation.clone(),
        addresses,
        roles: args.roles.clone(),
    };
    let roster = Roster::new(args.name.clone(), vec![member], Vec::new(), Vec::new(), None)?;
    let head = "# The signed roster. Members change it by `consilium consortium roster propose`; see the documented\n\
                # example for pairs, tasks and release rules.\n\n";
    let founded =
        consortium::create(&node, &identity, format!("{head}{}", roster.to_toml())).into_diagnostic()?;
    let id = founded.statement().consortium;
    if args.node.json {
        return print_json(&serde_json::json!({
            "consortium": id, "version": 1, "member": node.name().to_string(), "peer": identity.peer_id(),
        }));
    }
    println!("founded {:?}, of {} alone", args.name, node.name());
    println!("consortium id: {id}");
    println!(
        "next: `consilium daemon`, then on this node `consilium consortium invite --name NAME --roles ROLES`"
    );
    if !invites {
        println!(
            "this node has no address that others can dial, so it cannot invite: found again with --address, \
                  after removing {}",
            node.place().state.join("consortium").display()
        );
    }
    Ok(())
}

fn invite(args: &InviteArgs) -> Result<()> {
    let about = ConsortiumRequest::Invite {
        name: args.name.to_string(),
        roles: args.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        days: args.days,
        peer: args.peer,
    };
    let ConsortiumReply::Invited(invited) = ask(&args.node, about)? else { return Err(unexpected()) };
    if args.node.json {
        return print_json(&invited);
    }
    println!("{}", invited.invitation);
    eprintln!(
        "for {} alone, until {} UTC, to be used once: `consilium consortium join INVITATION` on its machine.",
        args.name,
        words::moment(invited.expires)
    );
    eprintln!(
        "Then `consilium consortium roster show` here: compare the key with its owner before you sign."
    );
    Ok(())
}

/// Asks the running node about its consortium.
pub(super) fn ask(node: &NodeArgs, about: ConsortiumRequest) -> Result<ConsortiumReply> {
    match request(node, &AdminRequest::Consortium(about))? {
        AdminReply::Consortium(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

fn join(args: &JoinArgs) -> Result<()> {
    let mut text = args.invitation.clone();
    if text == "-" {
        text.clear();
        std::io::stdin().take(1 << 16).read_to_string(&mut text).into_diagnostic()?;
    }
    let invitation: Invitation = text.parse().into_diagnostic()?;
    invitation.check_time(seconds_now()).into_diagnostic()?;
    let node = node_file(&args.node)?;
    let identity = identity_of(&node)?;
    let newcomer =
        Newcomer { organisation: args.organisation.clone(), addresses: addresses_of(&node, &args.addresses) };
    let mut told = None;
    let progress = |pending: &consortium::Pending| {
        let now = (pending.proposal, pending.signed);
        if told != Some(now) {
            told = Some(now);
            // On the other channel, so that the answer of --json stays one object.
            eprintln!(
                "waiting for the members: {} of {} signatures for {} as {} (your key: {})",
                pending.signed,
                pending.needed,
                node.name(),
                pending.roles.join(", "),
                identity.peer_id()
            );
        }
    };
    let joined = block_on(consortium::join(&node, &identity, &invitation, &newcomer, progress))?;
    welcome(args, &node, &joined.into_diagnostic()?.roster)
}

fn welcome(args: &JoinArgs, node: &Node, roster: &VerifiedRoster) -> Result<()> {
    if args.node.json {
        return print_json(&serde_json::json!({
            "consortium": roster.statement().consortium,
            "version": roster.number(),
            "member": node.name().to_string(),
        }));
    }
    println!(
        "{} is a member of {:?}: roster version {}, signed by {}",
        node.name(),
        roster.roster().consortium(),
        roster.number(),
        consortium::listed(roster.signers())
    );
    println!("consortium id: {}", roster.statement().consortium);
    println!("next: `consilium daemon`, then read `consilium consortium roster show --text`");
    Ok(())
}
