//! The module that draws noise, as far as it can be judged alone.

use super::Found;
use crate::{
    document::{Misfit, Section, value},
    name::Name,
    roster::Module,
};
use consilium_attest::{Policy, Refusal};

/// The module as far as it could be read.
pub(in crate::roster) enum ModuleDraft {
    /// The roster has none.
    Absent,
    /// There is one, or something in its place, which has been reported.
    Present {
        /// Who carries bytes to it.
        host: Found<Name>,
        /// What must vouch for it.
        policy: Box<Found<Policy>>,
    },
}

const MANUAL: &str = "the example of a roster shows every table, and the README, under \"What vouches for a module\", what it means";

impl ModuleDraft {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        if section.is_absent() {
            return Self::Absent;
        }
        let host = section.required("host", "host = \"notary\"", value::parsed);
        let line = "policy = { evidence_age_max_secs = 120, reattest_after_secs = 3600 }` and the table of each kind \
                    of evidence to accept, such as `[module.policy.sev_snp]";
        let policy = section.typed("policy", line, MANUAL, usable);
        section.finish();
        Self::Present { host, policy: Box::new(policy) }
    }

    pub(super) fn finish(self) -> Option<Option<Module>> {
        match self {
            Self::Absent => Some(None),
            Self::Present { host, policy } => {
                Some(Some(Module { host: host?.into_inner(), policy: (*policy)?.into_inner() }))
            }
        }
    }
}

/// Where in a policy a problem is that its words name, and what to write there.
const PLACES: [(&str, &[&str], &str); 4] = [
    ("`evidence_age_max_secs`", &["evidence_age_max_secs"], "write `evidence_age_max_secs = 120`"),
    ("`reattest_after_secs`", &["reattest_after_secs"], "write `reattest_after_secs = 3600`"),
    ("Nitro", &["nitro", "images"], "list PCR 0, 1 and 2, and others up to 31 as needed, each once"),
    ("TPM", &["tpm2", "images"], "list the PCRs that measure the image, 0 to 23, each once"),
];

/// What a policy finds wrong with itself.
fn usable(policy: &Policy) -> Result<(), Misfit> {
    let Err(refusal) = policy.check() else { return Ok(()) };
    let message = match refusal {
        Refusal::Policy { problem } => problem.to_owned(),
        other => other.to_string(),
    };
    let place = PLACES.iter().find(|(word, ..)| message.contains(word));
    let (keys, help) = place.map_or((&[][..], MANUAL), |(_, keys, help)| (*keys, *help));
    Err(Misfit { keys, message, help: help.to_owned() })
}

#[cfg(test)]
mod tests {
    use crate::{
        EXAMPLE_ROSTER,
        document::testing::{edited, only, rendered, roster, roster_refusal},
        roster::module::testing::every_kind,
    };
    use consilium_attest::EvidenceKind;

    /// The one problem that an edit of the example with every kind of evidence causes.
    fn refusal(from: &str, to: &str) -> String {
        only(&roster(&edited(&every_kind(), from, to)).expect_err("accepted"))
    }

    #[test]
    fn the_example_accepts_one_kind_and_shows_all() {
        let module = |text: &str| roster(text).unwrap().module().unwrap().clone();
        let shown = module(EXAMPLE_ROSTER);
        assert_eq!((shown.host.as_str(), shown.policy.kinds()), ("notary", vec![EvidenceKind::SevSnp]));
        assert_eq!((shown.policy.evidence_age_max_secs, shown.policy.reattest_after_secs), (120, 3600));
        assert_eq!(module(&every_kind()).policy.kinds(), EvidenceKind::ALL);
    }

    #[test]
    fn what_serde_says_is_said_in_our_words() {
        for (from, to, expected) in [
            (
                "reattest_after_secs = 3600",
                "",
                "`module.policy.reattest_after_secs` is missing | add it: nothing",
            ),
            ("vmpl_max = 0", "", "`module.policy.sev_snp.vmpl_max` is missing | add it"),
            ("fmc = 0, ", "", "`module.policy.sev_snp.versions_min.fmc` is missing"),
            ("product = 1,", "", "`module.policy.sgx_dcap.images.product` is missing"),
            (
                "vmpl_max = 0",
                "vmpl_mx = 0",
                "`module.policy.sev_snp` has no key `vmpl_mx` | did you mean `vmpl_max`?",
            ),
            ("[module.policy.tpm2]", "[module.policy.tmp2]", "has no key `tmp2` | did you mean `tpm2`?"),
            (
                "[module.policy.nitro]",
                "[module.policy.mainframe]",
                "has no key `mainframe` | the keys here are `ev",
            ),
            (
                "vmpl_max = 0",
                "vmpl_max = -1",
                "`module.policy.sev_snp.vmpl_max` must be a whole number from 0 to 4294967295",
            ),
            ("microcode = 115", "microcode = 256", "a whole number from 0 to 255 | the example of a roster"),
            ("product = 1", "product = 65536", "a whole number from 0 to 65535"),
            ("= 3600", "= \"3600\"", "`module.policy.reattest_after_secs` must be a whole number from 0 to"),
            ("= 3600", "= 1979-05-27", "must be a whole number"),
            ("= 3600", "= 1e999", "`module.policy.reattest_after_secs` cannot be read | the example"),
            ("69d063", "69d06", "`module.policy.sev_snp.roots` must be 64 hexadecimal digits"),
            ("69d063", "69d06x", "must be 64 hexadecimal digits"),
            (
                "signers = [\"vcek\"]",
                "signers = [\"vcex\"]",
                "`module.policy.sev_snp.signers` must be `vcek` or `vlek`",
            ),
            ("signers = [\"vcek\"]", "signers = \"vcek\"", "must be a list in square brackets"),
            ("signers = [\"vcek\"]", "signers = 1", "must be a list in square brackets"),
            (
                "platforms = \"any\"",
                "platforms = \"all\"",
                "`module.policy.sev_snp.platforms` must be `any` or `listed`",
            ),
            ("platforms = \"any\"", "platforms = {}", "`module.policy.sev_snp.platforms` cannot be read"),
            (
                "listed = [\"00",
                "listed = [3, \"00",
                "`module.policy.tdx.platform.platforms` must be a string in quotes",
            ),
            ("allow = true", "allow = \"yes\"", "`module.policy.software.allow` must be `true` or `false`"),
            (
                "versions_min = {",
                "versions_min = 3 #",
                "`module.policy.sev_snp.versions_min` must be a table",
            ),
        ] {
            let found = refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
        for policy in ["policy = 3", "policy = [120, 3600]", "policy = \"any\""] {
            let text = edited(EXAMPLE_ROSTER, "[module.policy]\n", &format!("{policy}\n[other]\n"));
            let text = text.replace("[module.policy.", "[other.");
            let error = roster(&text).unwrap_err();
            let found =
                error.problems().iter().any(|problem| problem.message() == "`module.policy` must be a table");
            assert!(found, "{}", rendered(&error));
        }
    }

    #[test]
    fn a_missing_policy_says_where_to_begin() {
        let start = EXAMPLE_ROSTER.find("[module.policy]").unwrap();
        let end = EXAMPLE_ROSTER.find("# The other kinds").unwrap();
        let text = format!("{}{}", &EXAMPLE_ROSTER[..start], &EXAMPLE_ROSTER[end..]);
        let found = only(&roster(&text).unwrap_err());
        assert!(found.starts_with("`module.policy` is missing | add a line such as `policy = {"), "{found}");
        let kinds_only = edited(EXAMPLE_ROSTER, "[module.policy]\n", "[other]\n");
        let error = roster(&kinds_only).unwrap_err();
        let missing = "`module.policy.evidence_age_max_secs` is missing";
        assert!(error.problems().iter().any(|problem| problem.message() == missing), "{}", rendered(&error));
    }

    #[test]
    fn what_the_policy_finds_wrong_is_shown_at_its_place() {
        let tpm = "index = 4, value";
        for (from, to, line, expected) in [
            (
                "= 120",
                "= 0",
                "evidence_age_max_secs",
                "must be between 1 second and 1 hour | write `evidence_age",
            ),
            (
                "= 3600",
                "= 86401",
                "reattest_after_secs",
                "must be between 1 second and 1 day | write `reattest",
            ),
            (
                "{ index = 2,",
                "{ index = 3,",
                "images = [{ registers = [",
                "must name PCR 0, 1 and 2 | list PCR 0",
            ),
            (
                tpm,
                "index = 24, value",
                "images = [{ registers = [{",
                "names a PCR twice or one above 23 | list",
            ),
        ] {
            let text = edited(&every_kind(), from, to);
            let error = roster(&text).unwrap_err();
            let found = only(&error);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
            let place = text.lines().nth(error.problems()[0].line().unwrap() - 1).unwrap();
            assert!(place.starts_with(line), "{to:?} points at {place:?}");
        }
        assert!(roster_refusal("= 120", "= 9223372036854775807").contains("1 second and 1 hour"));
    }

    #[test]
    fn the_report_shows_each_place() {
        let text = edited(EXAMPLE_ROSTER, "microcode = 115", "microcode = 1150");
        let text = edited(
            &text,
            "epsilon_per_answer = \"0.5\"\nepsilon = \"8\"\nnoise = \"module\"",
            "epsilon_per_answer = \"0.5\"\nepsilon = \"8\"",
        );
        let text = edited(&text, "noise = \"software\"", "software_noise = true");
        let found = rendered(&roster(&text).unwrap_err());
        assert_eq!(found, include_str!("module.txt").trim_end(), "\n{found}");
    }

    #[test]
    fn control_characters_of_a_policy_never_reach_the_terminal() {
        for (from, to) in [
            ("vmpl_max = 0", "\"\\u001b[31m\\nin `x`\" = 0"),
            ("[\"vcek\"]", "[\"\\u001b[31m\"]"),
            ("\"69d063b4", "\"\\u001b[31m\\u009b"),
            ("platforms = \"any\"", "platforms = { \"\\u001b\\u009b\" = 1 }"),
        ] {
            let shown = rendered(&roster(&edited(EXAMPLE_ROSTER, from, to)).unwrap_err());
            assert!(!shown.chars().any(|one| one.is_control() && one != '\n'), "{shown:?}");
        }
        let long = roster_refusal("vmpl_max = 0", &format!("{} = 0", "k".repeat(100_000)));
        assert!(long.len() < 1000, "{}", long.len());
        let long = roster_refusal("[\"vcek\"]", &format!("[\"{}\"]", "v".repeat(100_000)));
        assert!(long.len() < 1000, "{}", long.len());
    }
}
