//! What the module that draws noise and the rest of the roster say about each other.

use super::Directory;
use crate::{
    document::Document,
    error::Problem,
    name::Name,
    roster::read::{MemberDraft, ModuleDraft, PairDraft, TaskDraft},
};
use consilium_attest::{Policy, choice::NoiseRule};
use std::ops::Range;
use toml::Spanned;

/// `head` is where the consortium starts, to point at where the module is missing.
pub(in crate::roster) fn module(
    document: &Document,
    head: Option<&Range<usize>>,
    module: &ModuleDraft,
    members: &[MemberDraft],
    pairs: &[PairDraft],
    tasks: &[TaskDraft],
) {
    let rules = tasks.iter().filter_map(|task| task.release.as_ref()?.noise.as_ref());
    let mut needing = rules.filter(|rule| *rule.get_ref() != NoiseRule::Software);
    match module {
        ModuleDraft::Absent => needing.for_each(|rule| absent(document, head, rule)),
        ModuleDraft::Present { host, policy } => {
            if let (Some(policy), Some(rule)) = (policy.as_ref(), needing.next()) {
                accepting(document, policy, rule);
            }
            if let Some(name) = host {
                self::host(document, name, &Directory::new(members), pairs);
            }
        }
    }
}

/// A task asks for a module that the roster does not have.
fn absent(document: &Document, head: Option<&Range<usize>>, rule: &Spanned<NoiseRule>) {
    document.report(|| {
        let problem = Problem::new("the task takes noise from a module, and the roster has none")
            .at(rule.span(), "needs `[module]`");
        let problem = match head {
            Some(head) => problem.at(head.clone(), "`[module]` belongs beside this table"),
            None => problem,
        };
        let help = "add a table `[module]` with `host` and below it `[module.policy]`, or write `noise = \
                    \"software\"` into the task";
        problem.help(help.to_owned())
    });
}

fn accepting(document: &Document, policy: &Spanned<Policy>, rule: &Spanned<NoiseRule>) {
    if !policy.get_ref().kinds().is_empty() {
        return;
    }
    document.report(|| {
        let help = "add the table of a kind of evidence, such as `[module.policy.sev_snp]`, or write `noise = \
                    \"software\"` into the task";
        Problem::new("the policy accepts no evidence at all, and a task needs the module")
            .at(policy.span(), "no kind is accepted")
            .at(rule.span(), "needs the module")
            .help(help.to_owned())
    });
}

/// The compute parties dial the host, unless one of them is the host; those have addresses anyhow.
fn host(document: &Document, name: &Spanned<Name>, directory: &Directory<'_>, pairs: &[PairDraft]) {
    let Some(member) = directory.member(document, name) else { return };
    let Some(addresses) = &member.addresses else { return };
    let mut seats = pairs.iter().flat_map(|pair| [&pair.zero, &pair.one]).flatten();
    if !addresses.get_ref().is_empty() || seats.any(|seat| seat.get_ref() == name.get_ref()) {
        return;
    }
    document.report(|| {
        let message = format!("member `{}` cannot be dialled, but it hosts the module", name.get_ref());
        Problem::new(message)
            .at(name.span(), "the compute parties reach the module through it")
            .at(addresses.span(), "has no address")
            .help("give it an address, or let another member host the module".to_owned())
    });
}

#[cfg(test)]
mod tests {
    use crate::{
        EXAMPLE_ROSTER,
        document::testing::{edited, only, rendered, roster, roster_refusal},
    };

    /// The example without its module.
    fn without() -> String {
        let start = EXAMPLE_ROSTER.find("[module]\n").unwrap();
        let end = EXAMPLE_ROSTER.find("# A question with a noisy answer.").unwrap();
        format!("{}{}", &EXAMPLE_ROSTER[..start], &EXAMPLE_ROSTER[end..])
    }

    /// The example in which software draws all noise.
    fn in_software(text: &str) -> String {
        text.replace("noise = \"module\"", "noise = \"software\"")
            .replace("module-else-software\"\n", "software\"\n")
    }

    #[test]
    fn a_task_that_needs_a_module_names_where_it_belongs() {
        let error = roster(&without()).unwrap_err();
        assert_eq!(error.problems().len(), 2, "{}", rendered(&error));
        let text = edited(&without(), "\nnoise = \"module\"", "\nnoise = \"software\"");
        let found = rendered(&roster(&text).unwrap_err());
        assert_eq!(found, include_str!("module.txt").trim_end(), "\n{found}");
        let read = roster(&in_software(&without())).unwrap();
        assert_eq!(read.module(), None);
        assert_eq!(roster(&read.to_toml()).unwrap(), read);
    }

    #[test]
    fn a_module_that_is_not_a_table_is_reported_once() {
        for module in ["module = 3\n", "module = [{ host = \"notary\" }]\n"] {
            let found = only(&roster(&format!("{module}{}", without())).unwrap_err());
            assert!(found.starts_with("`module` must be a table"), "{found}");
        }
    }

    #[test]
    fn a_policy_must_accept_something_where_a_task_needs_it() {
        let start = EXAMPLE_ROSTER.find("[module.policy.sev_snp]").unwrap();
        let end = EXAMPLE_ROSTER.find("# The other kinds").unwrap();
        let none = format!("{}{}", &EXAMPLE_ROSTER[..start], &EXAMPLE_ROSTER[end..]);
        let not_allowed = edited(&none, "# The other kinds", "[module.policy.software]\nallow = false\n#");
        for text in [&none, &not_allowed] {
            let found = only(&roster(text).unwrap_err());
            assert!(found.starts_with("the policy accepts no evidence at all, and a task needs"), "{found}");
            assert!(found.contains("such as `[module.policy.sev_snp]`"), "{found}");
            assert!(roster(&in_software(text)).unwrap().module().unwrap().policy.kinds().is_empty());
        }
    }

    #[test]
    fn the_host_is_a_member_whom_the_parties_reach() {
        for (host, expected) in [
            ("host = \"notarry\"", "there is no member called `notarry` | did you mean `notary`?"),
            (
                "host = \"west\"",
                "member `west` cannot be dialled, but it hosts the module | give it an address",
            ),
            ("host = \"practice\"", "member `practice` cannot be dialled"),
            ("host = \"Notary\"", "`module.host` must be a name"),
            ("", "`module.host` is missing | add a line such as `host = \"notary\"`"),
        ] {
            let found = roster_refusal("host = \"notary\"", host);
            assert!(found.contains(expected), "{host:?} gave {found:?}");
        }
        for host in ["north", "south"] {
            let text = edited(EXAMPLE_ROSTER, "host = \"notary\"", &format!("host = \"{host}\""));
            assert_eq!(roster(&text).unwrap().module().unwrap().host.as_str(), host);
        }
        // Reported where the pair names it, and not again.
        let text = edited(EXAMPLE_ROSTER, "host = \"notary\"", "host = \"south\"");
        let text = edited(&text, "addresses = [\"/ip6/2001:db8::20/tcp/4710\"]", "addresses = []");
        assert!(
            only(&roster(&text).unwrap_err()).starts_with("member `south` cannot be dialled, but others")
        );
    }
}
