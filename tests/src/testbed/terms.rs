//! Who takes part, and the roster that they sign. What the roster's language has for a second pair stands here alone.

use super::laboratory;
use super::subject::{About, Subjects};
use consilium::client::Answer;
use consilium_config::Roster;

/// A member as the run knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) organisation: &'static str,
    pub(super) roles: &'static [&'static str],
    /// Whether others have to reach it.
    pub(super) listens: bool,
}

const fn member(name: &'static str, organisation: &'static str, roles: &'static [&'static str]) -> Member {
    Member { name, organisation, roles, listens: true }
}

/// Two pairs of hospitals that compute and own a model each, two more owners, and two who only ask. The first one
/// founds.
pub(super) const MEMBERS: [Member; 8] = [
    member("north", "North University Hospital", &["owner", "compute"]),
    member("south", "South Clinic", &["owner", "compute"]),
    member("east", "East Hospital", &["owner", "compute"]),
    member("west", "West Hospital", &["owner", "compute"]),
    member("hill", "Hill Hospital", &["owner"]),
    member("lake", "Lake Hospital", &["owner"]),
    Member { listens: false, ..member("clinic", "City Clinic", &["client"]) },
    Member { listens: false, ..member("practice", "Corner Practice", &["client"]) },
];

/// The place of a member in the list.
pub(super) fn index(name: &str) -> usize {
    MEMBERS.iter().position(|member| member.name == name).unwrap_or_default()
}

/// The names of those with a role.
pub(super) fn with_role(role: &str) -> impl Iterator<Item = &'static str> {
    let role = role.to_owned();
    let found = MEMBERS.iter().filter(move |member| member.roles.contains(&role.as_str()));
    found.map(|member| member.name)
}

/// The pair beside the first one.
pub(super) const FURTHER: &str = "second";
/// The pairs: name, party Zero, party One.
pub(super) const PAIRS: [(&str, &str, &str); 2] = [("main", "north", "south"), (FURTHER, "east", "west")];

/// What a task tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// The label, which is checked.
    Exact,
    /// A label under noise, until the budget is spent, which it is within minutes.
    Spent,
    /// A label under noise for as long as anybody asks.
    Lasting,
}

impl Release {
    /// Its table in the roster.
    pub(super) fn table(self) -> String {
        // Some fifty answers, fewer than a run asks for; and some seven hundred thousand, which are hardly ever right,
        // but tell by whose noise.
        let (sigma, epsilon) = match self {
            Self::Exact => return "[task.release]\nmechanism = \"exact\"\n".to_owned(),
            Self::Spent => (2, 40),
            Self::Lasting => (30, 1000),
        };
        format!(
            "[task.release]\nmechanism = \"gaussian\"\nsigma = \"{sigma}\"\nepsilon = \"{epsilon}\"\n\
             delta = \"1e-6\"\nnoise = \"module-else-software\"\n"
        )
    }
}

/// A task, and how it is asked.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) about: About,
    pub(super) release: Release,
    /// Its pair, or the first one of two; like bundles, of tasks that pairs compute.
    pub(super) pair: &'static str,
    /// Bundles kept ready, low and high watermark. A batch of the module's noise serves as many releases.
    pub(super) pool: (u32, u32),
    /// Seconds from one question of a client to the next.
    pub(super) every: f64,
    /// Whether everything is whole only when it is answered again.
    pub(super) probed: bool,
}

/// The task that acts count.
pub(super) const EXACT: &str = "mass";
/// The same question with noise, until its budget is spent.
pub(super) const PRIVATE: &str = "mass-private";
/// The same with noise that goes on.
pub(super) const NOISY: &str = "mass-noisy";
/// Whose digit it is.
const DIGITS: &str = "whose-digit";
/// The first question once more, encrypted for one owner.
pub(super) const ENCRYPTED: &str = "mass-encrypted";
/// The first question, of the second pair, where that does not stand in for the first one.
pub(super) const SECOND: &str = "mass-second";

const MASS: Task = Task {
    name: EXACT,
    about: About::Mass,
    release: Release::Exact,
    pair: "main",
    pool: (24, 96),
    every: 3.0,
    probed: true,
};

/// All tasks; the last one only where the second pair has a task of its own. Few bundles and frequent questions where
/// the module draws: what it drew ahead is used up within seconds when it is gone.
const TASKS: [Task; 6] = [
    MASS,
    Task { name: PRIVATE, release: Release::Spent, pool: (8, 24), every: 8.0, probed: false, ..MASS },
    Task { name: NOISY, release: Release::Lasting, pool: (16, 32), every: 2.0, ..MASS },
    Task { name: DIGITS, about: About::Digits, pool: (8, 24), every: 5.0, ..MASS },
    Task { name: ENCRYPTED, about: About::Encrypted, every: 8.0, ..MASS },
    Task { name: SECOND, pair: FURTHER, ..MASS },
];

/// Encodings, which two hospitals send each other and no client asks about. Either node may be busy with one, like an
/// owner that computes alone.
pub(super) static LABORATORY: Task = Task {
    name: "encodings",
    about: About::Encrypted,
    release: Release::Exact,
    pair: "",
    pool: (0, 0),
    every: 20.0,
    probed: false,
};

/// Who sends.
pub(super) const LABORATORY_HOSPITALS: [&str; 2] = ["hill", "lake"];

/// The task of this name.
#[cfg(test)]
pub(super) fn named(name: &str) -> &'static Task {
    TASKS.iter().find(|task| task.name == name).unwrap()
}

/// Whether the second pair stands in for the first one, or has a task of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Second {
    /// It takes new questions when the first pair is down.
    StandsIn,
    /// It serves a task of its own.
    Alone,
}

impl Second {
    /// Pairs that serve a task.
    pub(super) fn serving(self) -> usize {
        match self {
            Self::StandsIn => PAIRS.len(),
            Self::Alone => 1,
        }
    }

    /// All tasks.
    pub(super) fn tasks(self) -> &'static [Task] {
        match self {
            Self::StandsIn => &TASKS[..TASKS.len() - 1],
            Self::Alone => &TASKS,
        }
    }

    /// The second pair's part of a task. Budgets have slices, which sum to the whole.
    pub(super) fn standing_in(self, task: &Task) -> &'static str {
        match (self, task.release) {
            (Self::Alone, _) => "",
            (Self::StandsIn, Release::Exact) => "[[task.standby]]\npair = \"second\"\n",
            (Self::StandsIn, _) => "[[task.standby]]\npair = \"second\"\nslice = \"3/10\"\n",
        }
    }
}

/// The member whose node carries bytes to the module that draws noise. It is neither compute party.
pub(super) const HOST: &str = "hill";

/// The module in the roster; nothing vouches for it.
fn module() -> String {
    format!(
        "[module]\nhost = \"{HOST}\"\n[module.policy]\nevidence_age_max_secs = 120\n\
         reattest_after_secs = 600\n[module.policy.software]\nallow = true"
    )
}

/// The pair that answered, where answers say so.
pub(super) fn pair_of(answer: &Answer) -> Option<String> {
    let told = serde_json::to_value(answer).ok()?;
    told.get("pair")?.as_str().map(str::to_owned)
}

/// A roster of members alone, with pairs, the module and tasks added: with a second pair that stands in, where this
/// version of the program has that and it is not to stand apart.
pub(super) fn with_tasks(members: &str, subjects: &Subjects, apart: bool) -> (String, Second) {
    let stands_in = text(members, subjects, Second::StandsIn);
    if !apart && Roster::parse("roster.toml", &stands_in).is_ok() {
        return (stands_in, Second::StandsIn);
    }
    (text(members, subjects, Second::Alone), Second::Alone)
}

fn text(members: &str, subjects: &Subjects, second: Second) -> String {
    let mut text = members.trim_end().to_owned();
    for (name, zero, one) in PAIRS {
        text += &format!("\n\n[[pair]]\nname = \"{name}\"\nzero = \"{zero}\"\none = \"{one}\"");
    }
    text += &format!("\n\n{}\n", module());
    for task in second.tasks() {
        text += &format!("\n[[task]]\nname = \"{}\"\n{}", task.name, subjects.of(task).roster(task, second));
    }
    text + &format!("\n[[task]]\nname = \"{}\"\n{}", LABORATORY.name, laboratory::roster())
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium::net::Identity;
    use consilium_config::Kind;

    #[test]
    fn the_roster_reads_back_and_gives_every_owner_a_vote() {
        let folder = tempfile::tempdir().unwrap();
        let mut members = String::from("[consortium]\nname = \"Testbed\"\n");
        for (number, member) in (1_u8..).zip(&MEMBERS) {
            let peer = Identity::load_or_create(&folder.path().join(member.name)).unwrap().peer_id();
            let addresses = match member.listens {
                true => format!("\"/ip4/10.0.0.{number}/tcp/4710\""),
                false => String::new(),
            };
            members += &format!(
                "[[member]]\nname = {:?}\npeer = \"{peer}\"\nroles = {:?}\naddresses = [{addresses}]\n",
                member.name, member.roles
            );
        }
        let subjects = Subjects::new(1).unwrap();
        for apart in [true, false] {
            let (text, second) = with_tasks(&members, &subjects, apart);
            let roster =
                Roster::parse("roster.toml", &text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
            assert_eq!(second, if apart { Second::Alone } else { Second::StandsIn }, "{text}");
            assert_eq!((roster.homomorphic_tasks().len(), roster.pairs().len()), (1, 2));
            assert_eq!(roster.tasks().len() + 1, second.tasks().len());
            assert!(
                roster
                    .encodings_task(LABORATORY.name)
                    .is_some_and(|task| task.lab && !task.has_hospital("clinic"))
            );
            assert_eq!(roster.module().unwrap().host.as_str(), HOST);
            for found in roster.tasks() {
                let task = second.tasks().iter().find(|task| task.name == found.name.as_str()).unwrap();
                assert_eq!(found.owners.len(), 6);
                assert_eq!(task.release == Release::Exact, found.release.terms().is_none());
                assert_eq!(task.about == About::Digits, found.kind == Kind::OneClass);
                assert_eq!(task.about == About::Mass, found.features.is_some());
            }
        }
    }
}
