//! What the module that draws noise and the rest of the roster say about each other.

use super::Directory;
use crate::{
    document::Document,
    error::Problem,
    roster::read::{MemberDraft, ModuleDraft, PairDraft, TaskDraft},
};
use consilium_attest::choice::NoiseRule;
use std::ops::Range;
use toml::Spanned;

/// `head` is where the consortium starts, to point at where the module is missing.
pub(in crate::roster) fn module(
    document: &Document,
    head: Option<Range<usize>>,
    module: &ModuleDraft,
    members: &[MemberDraft],
    pairs: &[PairDraft],
    tasks: &[TaskDraft],
) {
    let rules = tasks.iter().filter_map(|task| task.release.as_ref()?.noise.as_ref());
    let mut needing = rules.filter(|rule| *rule.get_ref() != NoiseRule::Software);
    match module {
        ModuleDraft::Absent => needing.for_each(|rule| absent(document, head.clone(), rule)),
        ModuleDraft::Present { host, policy, place } => {
            if let (Some(policy), Some(rule)) = (policy, needing.next())
                && policy.get_ref().kinds().is_empty()
            {
                document.report(|| {
                    Problem::new("the module is needed, and its policy accepts no evidence at all")
                        .at(policy.span(), "no table of a kind of evidence")
                        .at(rule.span(), "needs the module")
                        .help(
                            "add the table of a kind, such as `[module.policy.sev_snp]`, or write `noise = \"software\"` \
                             into the task"
                                .to_owned(),
                        )
                });
            }
            if let Some(name) = host {
                let directory = Directory::new(members);
                let Some(member) = directory.member(document, name) else { return };
                let seats = pairs.iter().flat_map(|pair| [&pair.zero, &pair.one]);
                let seated = seats.flatten().any(|seat| seat.get_ref() == name.get_ref());
                if let Some(addresses) = &member.addresses
                    && addresses.get_ref().is_empty()
                    && !seated
                {
                    document.report(|| {
                        Problem::new(format!("member `{}` cannot be dialled, but the compute parties must reach the module through it", name.get_ref()))
                            .at(name.span(), "hosts the module")
                            .at(addresses.span(), "has no address")
                            .help("give it an address, or let another member host the module".to_owned())
                    });
                }
            }
            let _ = place;
        }
    }
}

/// A task asks for a module that the roster does not have.
fn absent(document: &Document, head: Option<Range<usize>>, rule: &Spanned<NoiseRule>) {
    document.report(|| {
        let problem = Problem::new("the task takes noise from a module, and the roster has none")
            .at(rule.span(), "needs the module");
        let problem = match head {
            Some(head) => problem.at(head, "`[module]` belongs after this table"),
            None => problem,
        };
        problem.help(
            "add a table `[module]` with `host` and `[module.policy]`, or write `noise = \"software\"` into the task"
                .to_owned(),
        )
    });
}
