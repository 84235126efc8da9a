//! From text to a roster: first each table by itself, then what they say about each other.

mod encodings;
mod homomorphic;
mod image;
mod input;
mod module;
mod release;
mod standby;
mod task;

pub(super) use encodings::EncodingsDraft;
pub(super) use homomorphic::HomomorphicDraft;
pub(super) use image::ImageDraft;
pub(super) use input::InputDraft;
pub(super) use module::ModuleDraft;
pub(super) use release::mechanism_words;
pub(super) use standby::StandbyDraft;
pub(super) use task::TaskDraft;

use super::{Consortium, Member, Pair, Quorum, Role, Roster, Tasks, check, kind::Word, quorum};
use crate::{
    address::Address,
    document::{Document, Section, value},
    limits::*,
    name::{Name, PeerName},
};
use toml::Spanned;

/// A value with its place; `None` when it was missing or wrong, which has been reported.
pub(super) type Found<T> = Option<Spanned<T>>;
/// A list whose elements have places too.
pub(super) type FoundList<T> = Found<Vec<Spanned<T>>>;

pub(crate) fn roster(document: &Document, mut root: Section<'_>) -> Option<Roster> {
    let mut section = root.table("consortium");
    let name = section.required("name", "name = \"Northern hospitals\"", value::label);
    let quorum = section.optional("quorum", quorum::read);
    let head = section.is_present().then(|| section.place());
    section.finish();
    let module = ModuleDraft::read(root.table("module"));
    let drafts = |sections: Vec<Section<'_>>| sections.into_iter().map(MemberDraft::read).collect::<Vec<_>>();
    let members = root.tables("member", *MEMBERS.end()).map(drafts);
    let drafts = |sections: Vec<Section<'_>>| sections.into_iter().map(PairDraft::read).collect::<Vec<_>>();
    let pairs = root.tables("pair", PAIRS_MAX).map(drafts);
    let tasks = root.tables("task", TASKS_MAX).map(|sections| TaskDrafts::read(document, sections));
    root.finish();
    // Without the members and pairs every reference would look wrong.
    let (members, pairs, tasks) = (members?, pairs?, tasks?);
    check::roster(document, &members, &pairs, &tasks);
    check::quorum(document, quorum.as_ref().and_then(Option::as_ref), &members);
    check::module(document, head.as_ref(), &module, &members, &pairs, &tasks.paired);
    Some(Roster {
        consortium: Consortium {
            name: name?.into_inner(),
            quorum: quorum?.map_or_else(Quorum::default, Spanned::into_inner),
        },
        module: module.finish()?,
        members: members.into_iter().map(MemberDraft::finish).collect::<Option<_>>()?,
        pairs: pairs.into_iter().map(PairDraft::finish).collect::<Option<_>>()?,
        tasks: tasks.finish()?,
    })
}

/// The tasks as far as they could be read, by kind.
#[derive(Default)]
pub(super) struct TaskDrafts {
    pub(super) paired: Vec<TaskDraft>,
    pub(super) homomorphic: Vec<HomomorphicDraft>,
    pub(super) encodings: Vec<EncodingsDraft>,
}

impl TaskDrafts {
    fn read(document: &Document, sections: Vec<Section<'_>>) -> Self {
        let mut drafts = Self::default();
        for mut section in sections {
            let word = section.defaulted("kind", Word::default(), |found| value::choice(found, &Word::NAMES));
            match word.map(|word| (*word.get_ref(), word.span())) {
                Some((Word::Homomorphic, _)) => {
                    drafts.homomorphic.push(HomomorphicDraft::read(document, section));
                }
                Some((Word::Encodings, _)) => drafts.encodings.push(EncodingsDraft::read(section)),
                Some((Word::Paired(kind), span)) => {
                    drafts.paired.push(TaskDraft::read(document, section, Some(Spanned::new(span, kind))));
                }
                None => drafts.paired.push(TaskDraft::read(document, section, None)),
            }
        }
        drafts
    }

    /// The names of all tasks, in the order written.
    pub(super) fn names(&self) -> Vec<&Spanned<Name>> {
        let paired = self.paired.iter().filter_map(|task| task.name.as_ref());
        let homomorphic = self.homomorphic.iter().filter_map(|task| task.name.as_ref());
        let encodings = self.encodings.iter().filter_map(|task| task.name.as_ref());
        let mut names: Vec<_> = paired.chain(homomorphic).chain(encodings).collect();
        names.sort_by_key(|name| name.span().start);
        names
    }

    fn finish(self) -> Option<Tasks> {
        Some(Tasks {
            paired: self.paired.into_iter().map(TaskDraft::finish).collect::<Option<_>>()?,
            homomorphic: self.homomorphic.into_iter().map(HomomorphicDraft::finish).collect::<Option<_>>()?,
            encodings: self.encodings.into_iter().map(EncodingsDraft::finish).collect::<Option<_>>()?,
        })
    }
}

/// A member as far as it could be read.
pub(super) struct MemberDraft {
    pub(super) name: Found<Name>,
    pub(super) peer: Found<PeerName>,
    pub(super) organisation: Option<Option<Spanned<String>>>,
    pub(super) addresses: FoundList<Address>,
    pub(super) roles: FoundList<Role>,
}

impl MemberDraft {
    fn read(mut section: Section<'_>) -> Self {
        let peer_line = "peer = \"12D3KooW…\"` with the member's peer id in place of `12D3KooW…";
        let draft = Self {
            name: section.required("name", "name = \"north\"", value::parsed),
            peer: section.required("peer", peer_line, value::parsed),
            organisation: section.optional("organisation", value::label),
            addresses: section.list(
                "addresses",
                "addresses = [\"/ip4/192.0.2.7/tcp/4710\"]` or, for a member that only dials, `addresses = []",
                0..=ADDRESSES_MAX,
                value::parsed,
            ),
            roles: section.list("roles", "roles = [\"owner\"]", 1..=Role::WORDS.len(), |found| {
                value::choice(found, &Role::WORDS)
            }),
        };
        section.finish();
        draft
    }

    fn finish(self) -> Option<Member> {
        Some(Member {
            name: self.name?.into_inner(),
            peer: self.peer?.into_inner(),
            organisation: self.organisation?.map(Spanned::into_inner),
            addresses: plain(self.addresses)?,
            roles: plain(self.roles)?,
        })
    }
}

/// A pair as far as it could be read.
pub(super) struct PairDraft {
    pub(super) name: Found<Name>,
    pub(super) zero: Found<Name>,
    pub(super) one: Found<Name>,
    pub(super) dealer: Option<Option<Spanned<Name>>>,
}

impl PairDraft {
    fn read(mut section: Section<'_>) -> Self {
        let draft = Self {
            name: section.required("name", "name = \"main\"", value::parsed),
            zero: section.required("zero", "zero = \"north\"", value::parsed),
            one: section.required("one", "one = \"south\"", value::parsed),
            dealer: section.optional("dealer", value::parsed),
        };
        section.finish();
        draft
    }

    fn finish(self) -> Option<Pair> {
        Some(Pair {
            name: self.name?.into_inner(),
            zero: self.zero?.into_inner(),
            one: self.one?.into_inner(),
            dealer: self.dealer?.map(Spanned::into_inner),
        })
    }
}

/// The elements of a list without their places.
pub(super) fn plain<T>(list: FoundList<T>) -> Option<Vec<T>> {
    Some(list?.into_inner().into_iter().map(Spanned::into_inner).collect())
}
