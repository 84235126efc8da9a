//! Who takes part, and the roster that they sign. What the roster's language has for a second pair stands here alone.

use super::encrypted;
use consilium::client::Answer;
use consilium::demo::Scenario;
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

/// The task whose labels are checked.
pub(super) const EXACT: &str = "mass";
/// The same question with noise, until its budget is spent.
pub(super) const PRIVATE: &str = "mass-private";
/// The first question, of the second pair, where that does not stand in for the first one.
pub(super) const SECOND: &str = "mass-second";

/// Bundles kept ready for a task.
const POOL: (u32, u32) = (24, 96);

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
    /// The tasks whose labels are checked.
    pub(super) fn exact(self) -> &'static [&'static str] {
        match self {
            Self::StandsIn => &[EXACT],
            Self::Alone => &[EXACT, SECOND],
        }
    }

    /// Pairs that serve a task.
    pub(super) fn serving(self) -> usize {
        match self {
            Self::StandsIn => PAIRS.len(),
            Self::Alone => 1,
        }
    }

    /// All tasks.
    pub(super) fn tasks(self) -> &'static [&'static str] {
        match self {
            Self::StandsIn => &[EXACT, PRIVATE],
            Self::Alone => &[EXACT, PRIVATE, SECOND],
        }
    }
}

/// The second pair's part of a task. Budgets have slices, which sum to the whole.
fn standing_in(task: &str) -> &'static str {
    match task {
        PRIVATE => "[[task.standby]]\npair = \"second\"\nslice = \"3/10\"\n",
        _ => "[[task.standby]]\npair = \"second\"\n",
    }
}

/// The pair that answered, where answers say so.
pub(super) fn pair_of(answer: &Answer) -> Option<String> {
    let told = serde_json::to_value(answer).ok()?;
    told.get("pair")?.as_str().map(str::to_owned)
}

/// A roster of members alone, with pairs and tasks added: with a second pair that stands in, where this version of
/// the program has that and it is not to stand apart.
pub(super) fn with_tasks(members: &str, scenario: &Scenario, apart: bool) -> (String, Second) {
    let stands_in = text(members, scenario, Second::StandsIn);
    if !apart && Roster::parse("roster.toml", &stands_in).is_ok() {
        return (stands_in, Second::StandsIn);
    }
    (text(members, scenario, Second::Alone), Second::Alone)
}

fn text(members: &str, scenario: &Scenario, second: Second) -> String {
    let mut text = members.trim_end().to_owned();
    for (name, zero, one) in PAIRS {
        text += &format!("\n\n[[pair]]\nname = \"{name}\"\nzero = \"{zero}\"\none = \"{one}\"");
    }
    for name in second.tasks() {
        text += "\n\n";
        text += &task(name, scenario, second);
    }
    text + "\n\n" + &encrypted::task(scenario)
}

fn task(name: &str, scenario: &Scenario, second: Second) -> String {
    let pair = if name == SECOND { FURTHER } else { "main" };
    let owners: Vec<&str> = with_role("owner").collect();
    let clients: Vec<&str> = with_role("client").collect();
    let release = match name {
        // Some fifty answers, fewer than a run asks for.
        PRIVATE => {
            "[task.release]\nmechanism = \"gaussian\"\nsigma = \"2\"\nepsilon = \"40\"\ndelta = \"1e-6\"\n\
             noise = \"software\"\n"
        }
        _ => "[task.release]\nmechanism = \"exact\"\n",
    };
    let mut text = format!(
        "[[task]]\nname = \"{name}\"\ntitle = {:?}\npair = \"{pair}\"\ninput = [{}]\nclasses = {:?}\n\
         input_abs_max = {:?}\nfraction_bits = {}\nvalue_bits = {}\nowners = {owners:?}\nclients = {clients:?}\n\
         owners_min = {}\n",
        scenario.title,
        scenario.input.len(),
        scenario.classes,
        scenario.input_abs_max,
        scenario.numbers.fraction_bits,
        scenario.numbers.value_bits,
        owners.len(),
    );
    text += &format!("[task.pool]\nlow = {}\nhigh = {}\n", POOL.0, POOL.1);
    if let Some(features) = scenario.features() {
        text += &format!("[task.features]\noffset = {:?}\nscale = {:?}\n", features.offset, features.scale);
    }
    text += release;
    if second == Second::StandsIn {
        text += standing_in(name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium::demo::{Progress, breast_cancer};
    use consilium::net::Identity;

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
        let scenario = breast_cancer(6, 1, &Progress::new(false)).unwrap();
        for apart in [true, false] {
            let (text, second) = with_tasks(&members, &scenario, apart);
            let roster =
                Roster::parse("roster.toml", &text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
            let names: Vec<&str> = roster.tasks().iter().map(|task| task.name.as_str()).collect();
            assert_eq!((names.as_slice(), roster.pairs().len()), (second.tasks(), 2));
            assert_eq!(roster.homomorphic_tasks().len(), 1);
            assert!(roster.tasks().iter().all(|task| task.owners.len() == 6 && task.features.is_some()));
        }
    }
}
