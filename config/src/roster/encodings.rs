//! Encodings that hospitals send each other: a broken protection, for the laboratory alone.

use crate::{
    digest::{Digest, Hasher},
    name::Name,
};
use serde::Serialize;

/// A set of hospitals and whether they may send each other NeuraCrypt encodings. Encodings do not protect images: who
/// has candidates finds out which encoding is whose. So they move only where the roster that members signed says that
/// this is an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename = "encodings")]
pub struct EncodingsTask {
    /// By which files refer to it; no task of any other kind has it.
    pub name: Name,
    /// What it is about, for people.
    pub title: String,
    /// Members that send and take, at least two, with any role.
    pub hospitals: Vec<Name>,
    /// Whether encodings are sent and taken at all. Where it is false, the network refuses every one.
    pub lab: bool,
}

impl EncodingsTask {
    /// Binds who takes part and whether anything may move: everything but the title, by member names. With
    /// [`super::Roster::digest`] the names are bound to keys.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("consilium encodings task 1");
        self.feed(&mut hasher);
        hasher.finish()
    }

    /// Whether a member sends and takes.
    pub fn has_hospital(&self, member: &str) -> bool {
        self.hospitals.iter().any(|hospital| hospital.as_str() == member)
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        hasher.text(self.name.as_str());
        hasher.list(&self.hospitals, |hasher, hospital| hasher.text(hospital.as_str()));
        hasher.number(u32::from(self.lab));
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        EXAMPLE_ROSTER,
        document::testing::{edited, roster, roster_refusal, task_refusals},
    };

    const HEAD: &str = "[[task]]\nname = \"encodings-lab\"";

    #[test]
    fn the_example_is_read_and_written_and_found() {
        let example = roster(EXAMPLE_ROSTER).unwrap();
        let task = example.encodings_task("encodings-lab").unwrap();
        assert_eq!(example.encodings_tasks(), std::slice::from_ref(task));
        assert!(!task.lab, "nothing moves by default");
        assert!(task.has_hospital("north") && !task.has_hospital("practice"));
        assert!(
            example.task("encodings-lab").is_none() && example.homomorphic_task("encodings-lab").is_none()
        );
        let of = |member| example.encodings_tasks_of(member).count();
        assert_eq!((of("north"), of("west"), of("practice")), (1, 1, 0));
        assert_eq!(roster(&example.to_toml()).unwrap(), example);
        let absent = roster(&edited(EXAMPLE_ROSTER, "lab = false\n", "")).unwrap();
        assert_eq!(absent, example);
        let open = roster(&edited(EXAMPLE_ROSTER, "lab = false\n", "lab = true\n")).unwrap();
        assert!(open.encodings_tasks()[0].lab);
        assert_eq!(example.with_encodings(open.encodings_tasks().to_vec()).unwrap(), open);
    }

    #[test]
    fn digests_cover_meaning_and_leave_other_rosters_alone() {
        let digests = |text: &str| {
            let roster = roster(text).unwrap();
            (roster.digest(), roster.encodings_tasks()[0].digest())
        };
        let (whole, task) = digests(EXAMPLE_ROSTER);
        for (from, to) in [
            ("lab = false", "lab = true"),
            ("hospitals = [\"north\", \"west\"]", "hospitals = [\"north\", \"south\"]"),
        ] {
            let (changed, changed_task) = digests(&edited(EXAMPLE_ROSTER, from, to));
            assert!(changed != whole && changed_task != task, "{to}");
        }
        let (changed, same) = digests(&edited(EXAMPLE_ROSTER, "and why nobody should", "and why not"));
        assert!(changed != whole && same == task);
        // What the example had before there was such a task, with the digest that it had then.
        let older = roster(&EXAMPLE_ROSTER[..EXAMPLE_ROSTER.find(HEAD).unwrap()]).unwrap();
        assert_eq!(
            older.digest().to_string(),
            "c2104f2954ecfba65425c40cf9bb0af44d3af2169c552b00d9e1791b7c0c512a"
        );
        assert_eq!(older.encodings_tasks(), []);
    }

    #[test]
    fn changes_are_named() {
        let before = roster(EXAMPLE_ROSTER).unwrap();
        let after = roster(&edited(EXAMPLE_ROSTER, "lab = false", "lab = true")).unwrap();
        let changes = before.changes_to(&after);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].at, "task encodings-lab: lab");
        assert_eq!(
            (changes[0].before.as_deref(), changes[0].after.as_deref()),
            (Some("false"), Some("true"))
        );
    }

    #[test]
    fn mistakes_are_told() {
        let hospitals = "hospitals = [\"north\", \"west\"]\n";
        for (from, to, expected) in [
            (hospitals, "", "`task.hospitals` is missing"),
            (hospitals, "hospitals = [\"north\"]\n", "`task.hospitals` must be a list of 2 to 2048"),
            (hospitals, "hospitals = [\"north\", \"wst\"]\n", "there is no member called `wst`"),
            (hospitals, "hospitals = [\"north\", \"north\"]\n", "hospital `north` stands here twice"),
            ("lab = false\n", "lab = \"no\"\n", "`task.lab` must be `true` or `false`"),
            (
                "lab = false\n",
                "release = { mechanism = \"exact\" }\n",
                "a task of encodings has no `release` | take it out: nothing is computed",
            ),
            ("lab = false\n", "clients = [\"west\"]\n", "| write `hospitals = [\"north\", \"south\"]`"),
            ("name = \"encodings-lab\"", "name = \"digits\"", "task `digits` stands here twice"),
            ("kind = \"encodings\"", "kind = \"encoding\"", "did you mean `encodings`?"),
        ] {
            let told = task_refusals(HEAD, from, to);
            assert!(told.iter().any(|told| told.contains(expected)), "{to:?} gave {told:?}");
        }
        let kept = roster_refusal("owners_min = 2", "owners_min = 2\nlab = true");
        assert!(kept.starts_with("`task` has no key `lab`"), "{kept}");
    }
}
