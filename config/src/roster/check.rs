//! What the tables of a roster say about each other.
//!
//! Each check runs only on values that could be read, so that one mistake is reported once.

mod encodings;
mod homomorphic;
mod input;
mod module;
mod standby;
mod task;

pub(super) use module::module;

use super::{
    Comparison, Quorum, Role,
    read::{MemberDraft, PairDraft, TaskDraft, TaskDrafts},
};
use crate::{
    document::{Document, closest},
    error::{Problem, quoted},
    name::Name,
};
use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Display,
    hash::Hash,
};
use toml::Spanned;

pub(super) fn roster(document: &Document, members: &[MemberDraft], pairs: &[PairDraft], tasks: &TaskDrafts) {
    if members.is_empty() {
        document.report(|| {
            Problem::new("the consortium has no members").help(
                "add a table `[[member]]` with `name`, `peer`, `addresses` and `roles` for each".to_owned(),
            )
        });
    }
    unique(document, "member", members.iter().filter_map(|member| member.name.as_ref()));
    unique(document, "peer id", members.iter().filter_map(|member| member.peer.as_ref()));
    let addresses = members.iter().filter_map(|member| member.addresses.as_ref()).flat_map(Spanned::get_ref);
    let (relayed, own): (Vec<_>, Vec<_>) = addresses.partition(|address| address.get_ref().is_relayed());
    unique(document, "address", own.iter().copied());
    if let (Some(relayed), []) = (relayed.first(), own.as_slice()) {
        document.report(|| {
            Problem::new("nobody can relay for a member behind a NAT")
                .at(relayed.span(), "reached through others")
                .help("give a member that can be dialled its address".to_owned())
        });
    }
    unique(document, "pair", pairs.iter().filter_map(|pair| pair.name.as_ref()));
    unique(document, "task", tasks.names());
    for member in members {
        self::member(document, member);
    }
    let directory = Directory::new(members);
    for pair in pairs {
        self::pair(document, &directory, pair);
    }
    let pair_names: Vec<&str> =
        pairs.iter().filter_map(|pair| Some(pair.name.as_ref()?.get_ref().as_str())).collect();
    let pairs_known = pair_names.len() == pairs.len();
    for task in &tasks.paired {
        for name in named_pairs(task).filter(|_| pairs_known) {
            if !pair_names.contains(&name.get_ref().as_str()) {
                unknown(document, "pair", name, &pair_names);
            }
        }
        task::task(document, &directory, task);
        keys(document, pairs, task);
        standby::standby(document, pairs, task);
    }
    for task in &tasks.homomorphic {
        homomorphic::task(document, &directory, task);
    }
    for task in &tasks.encodings {
        encodings::task(document, &directory, task);
    }
}

/// So many signatures must be possible, and enough that two versions cannot both have them.
pub(super) fn quorum(document: &Document, quorum: Option<&Spanned<Quorum>>, members: &[MemberDraft]) {
    let Some(quorum) = quorum else { return };
    let mut voters = 0;
    for member in members {
        let Some(roles) = &member.roles else { return };
        let votes = |role: &Spanned<Role>| matches!(role.get_ref(), Role::Owner | Role::Compute);
        voters += usize::from(roles.get_ref().iter().any(votes));
    }
    if !quorum.get_ref().fits(voters) {
        document.report(|| {
            Problem::new(format!("a quorum of {} does not fit {voters} voters", quorum.get_ref()))
                .at(quorum.span(), "too many, or no more than half")
                .help(format!(
                    "members with the role `owner` or `compute` vote; write a number from {} to {voters}, \"majority\" \
                     or \"all\"",
                    voters / 2 + 1
                ))
        });
    }
}

/// The pairs that a task names, in the order in which they are asked.
fn named_pairs(task: &TaskDraft) -> impl Iterator<Item = &Spanned<Name>> {
    let further = task.standby.iter().flatten().filter_map(|standby| standby.pair.as_ref());
    task.pair.iter().chain(further)
}

/// The pair of that name.
fn pair_called<'d>(pairs: &'d [PairDraft], name: &Spanned<Name>) -> Option<&'d PairDraft> {
    pairs.iter().find(|draft| draft.name.as_ref().is_some_and(|other| other.get_ref() == name.get_ref()))
}

/// Comparison keys are dealt.
fn keys(document: &Document, pairs: &[PairDraft], task: &TaskDraft) {
    let Some(comparison) = &task.comparison else { return };
    let alone = |name: &&Spanned<Name>| {
        pair_called(pairs, name).is_some_and(|draft| matches!(draft.dealer, Some(None)))
    };
    let mut alone = named_pairs(task).filter(alone);
    if *comparison.get_ref() == Comparison::Keys
        && let Some(pair) = alone.next()
    {
        document.report(|| {
            Problem::new("comparison keys need a dealer")
                .at(comparison.span(), "by keys")
                .at(pair.span(), "a pair without `dealer`")
                .help("write `comparison = \"digits\"`, or name a `dealer` in the pair".to_owned())
        });
    }
}

/// Members by name, as far as names could be read.
struct Directory<'d> {
    members: HashMap<&'d str, &'d MemberDraft>,
    names: Vec<&'d str>,
    /// Whether every name could be read; if not, an unknown name may be one of those.
    complete: bool,
}

impl<'d> Directory<'d> {
    fn new(members: &'d [MemberDraft]) -> Self {
        let named =
            || members.iter().filter_map(|member| Some((member.name.as_ref()?.get_ref().as_str(), member)));
        let names: Vec<&str> = named().map(|(name, _)| name).collect();
        Self { members: named().collect(), complete: names.len() == members.len(), names }
    }

    /// The member of that name; reports where there is none.
    fn member(&self, document: &Document, name: &Spanned<Name>) -> Option<&'d MemberDraft> {
        let member = self.members.get(name.get_ref().as_str()).copied();
        if member.is_none() && self.complete {
            unknown(document, "member", name, &self.names);
        }
        member
    }

    /// The member of that name if it may act in `role`; otherwise reports why not.
    fn with_role(&self, document: &Document, name: &Spanned<Name>, role: Role) -> Option<&'d MemberDraft> {
        let member = self.member(document, name)?;
        let roles = member.roles.as_ref()?;
        if roles.get_ref().iter().any(|held| *held.get_ref() == role) {
            return Some(member);
        }
        document.report(|| {
            Problem::new(format!("member `{}` does not have the role `{role}`", name.get_ref()))
                .at(name.span(), format!("needs the role `{role}`"))
                .at(roles.span(), "its roles")
                .help(format!("add \"{role}\" to its roles, or name another member"))
        });
        None
    }
}

fn member(document: &Document, member: &MemberDraft) {
    unique(document, "role", member.roles.iter().flat_map(Spanned::get_ref));
    for address in member.addresses.iter().flat_map(Spanned::get_ref) {
        if !address.get_ref().is_dialable() {
            document.report(|| {
                Problem::new("nobody can dial this address")
                    .at(address.span(), "no machine of its own, or port 0")
                    .help("write the address and port at which the other members reach this one".to_owned())
            });
        }
    }
}

fn pair(document: &Document, directory: &Directory<'_>, pair: &PairDraft) {
    let seat = |name: &Option<Spanned<Name>>, role| {
        let name = name.as_ref()?;
        Some((name.clone(), directory.with_role(document, name, role)?))
    };
    let seats = [
        ("zero", seat(&pair.zero, Role::Compute)),
        ("one", seat(&pair.one, Role::Compute)),
        ("dealer", seat(&pair.dealer.clone().flatten(), Role::Dealer)),
    ];
    for (position, (second, later)) in seats.iter().enumerate() {
        let Some((name, member)) = later else { continue };
        dialled(document, name, member, "sits in a pair");
        for (first, earlier) in seats.iter().take(position) {
            if let Some(earlier) = earlier {
                apart(document, (first, earlier), (second, &(name.clone(), member)));
            }
        }
    }
}

/// Whoever others must reach has an address.
fn dialled(document: &Document, name: &Spanned<Name>, member: &MemberDraft, why: &str) {
    if let Some(addresses) = member.addresses.as_ref().filter(|addresses| addresses.get_ref().is_empty()) {
        document.report(|| {
            Problem::new(format!("member `{}` cannot be dialled, but others must reach it", name.get_ref()))
                .at(name.span(), why)
                .at(addresses.span(), "has no address")
                .help("give it an address, or let another member take this seat".to_owned())
        });
    }
}

type Seat<'d> = (Spanned<Name>, &'d MemberDraft);

/// Those who together could open everything must not be one, nor work for one.
fn apart(document: &Document, (first, earlier): (&str, &Seat<'_>), (second, later): (&str, &Seat<'_>)) {
    let reason = "whoever holds both learns every input and every model";
    if earlier.0.get_ref() == later.0.get_ref() {
        document.report(|| {
            Problem::new(format!("`{first}` and `{second}` are the same member"))
                .at(later.0.span(), format!("also in seat `{first}`"))
                .at(earlier.0.span(), format!("seat `{first}`"))
                .help(format!("name two members of different organisations: {reason}"))
        });
        return;
    }
    let organisation = |seat: &Seat<'_>| seat.1.organisation.clone().flatten();
    if let (Some(one), Some(other)) = (organisation(earlier), organisation(later))
        && one.get_ref() == other.get_ref()
    {
        document.report(|| {
            Problem::new(format!(
                "`{first}` and `{second}` belong to the same organisation, {}",
                quoted(one.get_ref())
            ))
            .at(later.0.span(), format!("seat `{second}`"))
            .at(earlier.0.span(), format!("seat `{first}`"))
            .at(other.span(), "its organisation")
            .help(format!("name members of different organisations: {reason}"))
        });
    }
}

/// Reports each repetition, pointing at the first use too.
fn unique<'v, T: Eq + Hash + Display + 'v>(
    document: &Document,
    what: &str,
    values: impl IntoIterator<Item = &'v Spanned<T>>,
) {
    let mut seen: HashMap<&T, &Spanned<T>> = HashMap::new();
    for value in values {
        match seen.entry(value.get_ref()) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(first) => document.report(|| {
                Problem::new(format!("{what} {} stands here twice", quoted(&value.get_ref().to_string())))
                    .at(value.span(), "again")
                    .at(first.get().span(), "first")
                    .help("remove or rename one of them".to_owned())
            }),
        }
    }
}

fn unknown(document: &Document, what: &str, name: &Spanned<Name>, known: &[&str]) {
    document.report(|| {
        let meant = closest(name.get_ref().as_str(), known.iter().copied());
        let advice = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("add a table `[[{what}]]` with that name, or use the name of one that is there"),
        };
        Problem::new(format!("there is no {what} called `{}`", name.get_ref()))
            .at(name.span(), format!("unknown {what}"))
            .help(advice)
    });
}
