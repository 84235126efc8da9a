//! Who takes part and what each task allows: the same text on all members, and public.

mod changes;
mod check;
mod encodings;
mod homomorphic;
mod image;
mod kind;
mod member;
mod module;
mod quorum;
mod read;
mod release;
mod standby;
mod task;
pub(crate) mod words;

#[cfg(test)]
pub(crate) use read::roster as read;

pub use changes::{Change, Recipients, Spenders};
pub use encodings::EncodingsTask;
pub use homomorphic::HomomorphicTask;
pub use image::{Colour, Image, Resize, Window};
use kind::Tasks;
pub use member::{Member, Pair, Role, Seats};
pub use module::Module;
pub use quorum::Quorum;
use release::NOISE_WORDS;
pub use release::{Release, Terms, Unit};
pub use standby::Standby;
pub use task::{Comparison, Features, Kind, NOBODY, Stock, Task};

use crate::{
    digest::{Digest, Hasher},
    document::{self, Document},
    error::ConfigError,
    places::Places,
};
use serde::Serialize;
use std::path::Path;

/// What `roster.toml` says, checked as a whole: every name in it is known and has the role it needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roster {
    consortium: Consortium,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<Module>,
    #[serde(rename = "member")]
    members: Vec<Member>,
    #[serde(rename = "pair", skip_serializing_if = "Vec::is_empty")]
    pairs: Vec<Pair>,
    #[serde(rename = "task", skip_serializing_if = "Tasks::is_empty")]
    tasks: Tasks,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Consortium {
    name: String,
    #[serde(skip_serializing_if = "Quorum::is_default")]
    quorum: Quorum,
}

impl Roster {
    /// Puts a roster together in memory and checks it like a file.
    ///
    /// # Errors
    /// [`ConfigError`] as for a file; places are those in [`Roster::to_toml`]'s text.
    pub fn new(
        consortium: impl Into<String>,
        members: Vec<Member>,
        pairs: Vec<Pair>,
        tasks: Vec<Task>,
        module: Option<Module>,
    ) -> Result<Self, ConfigError> {
        let consortium = Consortium { name: consortium.into(), quorum: Quorum::default() };
        let tasks = Tasks { paired: tasks, ..Tasks::default() };
        let roster = Self { consortium, module, members, pairs, tasks };
        Self::parse("roster.toml", &roster.to_toml())
    }

    /// The same roster with these homomorphic tasks in place of those that it has, checked like a file.
    ///
    /// # Errors
    /// [`ConfigError`] as for a file; places are those in [`Roster::to_toml`]'s text.
    pub fn with_homomorphic(mut self, tasks: Vec<HomomorphicTask>) -> Result<Self, ConfigError> {
        self.tasks.homomorphic = tasks;
        Self::parse("roster.toml", &self.to_toml())
    }

    /// The same roster with these tasks of encodings in place of those that it has, checked like a file.
    ///
    /// # Errors
    /// [`ConfigError`] as for a file; places are those in [`Roster::to_toml`]'s text.
    pub fn with_encodings(mut self, tasks: Vec<EncodingsTask>) -> Result<Self, ConfigError> {
        self.tasks.encodings = tasks;
        Self::parse("roster.toml", &self.to_toml())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (name, text) = document::load(path)?;
        Self::parse(&name, &text)
    }

    /// Reads a text that messages call `file`.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the text.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        Document::parse(file, text, read::roster)
    }

    /// Reads a file and keeps the place of every key, for complaints that need more than the file to see.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the file.
    pub fn load_placed(path: &Path) -> Result<(Self, Places), ConfigError> {
        let (name, text) = document::load(path)?;
        Self::parse_placed(&name, text)
    }

    /// As [`Roster::parse`], with the place of every key.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse_placed(name: &str, text: String) -> Result<(Self, Places), ConfigError> {
        Ok((Self::parse(name, &text)?, Places::parse(name, text)?))
    }

    /// The text that reads back as this roster.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("strings, small whole numbers and floats always have a TOML form")
    }

    /// Binds everything in the roster, in the order written; comments and layout do not count.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("consilium roster 2");
        hasher.text(&self.consortium.name);
        hasher.text(&self.consortium.quorum.to_string());
        hasher.list(&self.members, |hasher, member| member.feed(hasher));
        hasher.list(&self.pairs, |hasher, pair| pair.feed(hasher));
        hasher.list(self.module.as_slice(), |hasher, module| module.feed(hasher));
        hasher.list(&self.tasks.paired, |hasher, task| {
            hasher.text(&task.title);
            task.stock.feed(hasher);
            task.feed(hasher);
        });
        // A roster without such tasks has the digest that it had before they existed.
        if !self.tasks.homomorphic.is_empty() {
            hasher.text("homomorphic");
            hasher.list(&self.tasks.homomorphic, |hasher, task| {
                hasher.text(&task.title);
                task.feed(hasher);
            });
        }
        if !self.tasks.encodings.is_empty() {
            hasher.text("encodings");
            hasher.list(&self.tasks.encodings, |hasher, task| {
                hasher.text(&task.title);
                task.feed(hasher);
            });
        }
        hasher.finish()
    }

    /// Name of the consortium.
    pub fn consortium(&self) -> &str {
        &self.consortium.name
    }

    /// The rule for the next version of a signed roster.
    pub fn quorum(&self) -> Quorum {
        self.consortium.quorum
    }

    /// Members whose signatures count for the next version: those with data or shares to lose.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.votes())
    }

    /// How many of the voters must sign the next version.
    pub fn signatures_needed(&self) -> usize {
        self.consortium.quorum.of(self.voters().count())
    }

    /// The module that draws noise, if there is one.
    pub fn module(&self) -> Option<&Module> {
        self.module.as_ref()
    }

    /// All members, in the order written.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All pairs, in the order written.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// All tasks that pairs compute, in the order written.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks.paired
    }

    /// All tasks that one owner computes on encrypted inputs, in the order written.
    pub fn homomorphic_tasks(&self) -> &[HomomorphicTask] {
        &self.tasks.homomorphic
    }

    /// All tasks of encodings, in the order written.
    pub fn encodings_tasks(&self) -> &[EncodingsTask] {
        &self.tasks.encodings
    }

    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name.as_str() == name)
    }

    /// The member with that peer id.
    pub fn member_by_peer(&self, peer: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.peer.as_str() == peer)
    }

    /// The members that have a role.
    pub fn members_with(&self, role: Role) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.has(role))
    }

    /// The pair of that name.
    pub fn pair(&self, name: &str) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.name.as_str() == name)
    }

    /// The task of that name that pairs compute.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.paired.iter().find(|task| task.name.as_str() == name)
    }

    /// The task of that name that one owner computes on encrypted inputs.
    pub fn homomorphic_task(&self, name: &str) -> Option<&HomomorphicTask> {
        self.tasks.homomorphic.iter().find(|task| task.name.as_str() == name)
    }

    /// The task of encodings of that name.
    pub fn encodings_task(&self, name: &str) -> Option<&EncodingsTask> {
        self.tasks.encodings.iter().find(|task| task.name.as_str() == name)
    }

    /// The members of a pair. `None` only for a pair of another roster.
    pub fn seats(&self, pair: &Pair) -> Option<Seats<'_>> {
        let dealer = match &pair.dealer {
            Some(name) => Some(self.member(name.as_str())?),
            None => None,
        };
        Some(Seats { zero: self.member(pair.zero.as_str())?, one: self.member(pair.one.as_str())?, dealer })
    }

    /// The members of each pair that computes a task, in the order in which pairs are asked. `None` only for a task
    /// of another roster.
    pub fn seats_of(&self, task: &Task) -> Option<Vec<(&Pair, Seats<'_>)>> {
        let seats = |name: &crate::Name| {
            let pair = self.pair(name.as_str())?;
            Some((pair, self.seats(pair)?))
        };
        task.pairs().map(seats).collect()
    }

    /// The pair of a task in which a member has a seat.
    pub fn seat_in(&self, task: &Task, member: &str) -> Option<&Pair> {
        let mut pairs = task.pairs().filter_map(|name| self.pair(name.as_str()));
        pairs.find(|pair| pair.zero.as_str() == member || pair.one.as_str() == member)
    }

    /// The tasks of pairs in which a member owns a model, asks, computes or deals.
    pub fn tasks_of<'r>(&'r self, member: &'r str) -> impl Iterator<Item = &'r Task> {
        self.tasks.paired.iter().filter(move |task| {
            let named = |names: &[crate::Name]| names.iter().any(|name| name.as_str() == member);
            let seated = |pair: &Pair| pair.members().any(|name| name.as_str() == member);
            let mut pairs = task.pairs().filter_map(|name| self.pair(name.as_str()));
            named(&task.owners) || named(&task.clients) || pairs.any(seated)
        })
    }

    /// The homomorphic tasks in which a member has the model or asks.
    pub fn homomorphic_tasks_of<'r>(&'r self, member: &'r str) -> impl Iterator<Item = &'r HomomorphicTask> {
        let named = move |task: &&HomomorphicTask| task.owner.as_str() == member || task.has_client(member);
        self.tasks.homomorphic.iter().filter(named)
    }

    /// The tasks of encodings in which a member sends and takes.
    pub fn encodings_tasks_of<'r>(&'r self, member: &'r str) -> impl Iterator<Item = &'r EncodingsTask> {
        self.tasks.encodings.iter().filter(move |task| task.has_hospital(member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EXAMPLE_ROSTER, Fraction, Name,
        document::testing::{edited, rendered, roster, roster_refusal},
        roster::module::testing::policies,
    };
    use consilium_attest::choice::NoiseRule;
    use consilium_protocol::graph::Shape;
    use proptest::prelude::*;

    fn fraction(text: &str) -> Fraction {
        text.parse().unwrap()
    }

    #[test]
    fn the_example_gives_known_values() {
        let roster = roster(EXAMPLE_ROSTER).unwrap();
        assert_eq!(roster.consortium(), "Northern hospitals");
        let task = roster.task("breast-cancer").unwrap();
        assert_eq!((task.input, task.input_abs_max), (Shape::vector(3), 8.0));
        assert_eq!(
            (task.fraction_bits, task.value_bits, task.owners_min, task.batch_queries),
            (16, 12, 2, 1)
        );
        assert_eq!(task.classes, ["benign", "malignant"]);
        let terms = Terms {
            unit: Unit::Owner,
            epsilon: fraction("8"),
            client_epsilon: Some(fraction("2")),
            noise: NoiseRule::Software,
        };
        assert_eq!(
            task.release,
            Release::Gaussian { sigma: fraction("2"), delta: fraction("0.000001"), terms: terms.clone() }
        );
        let digits = roster.task("digits").unwrap();
        assert_eq!(digits.input, Shape { channels: 1, height: 8, width: 8 });
        assert_eq!(digits.stock, Stock::default());
        let terms = Terms { client_epsilon: None, noise: NoiseRule::Module, ..terms };
        assert_eq!(digits.release, Release::Laplace { epsilon_per_answer: fraction("1/2"), terms });
        assert_eq!(roster.task("digits-exact").unwrap().release, Release::Exact);
        let Release::ConfidentGaussian { threshold, .. } = roster.task("digits-agreed").unwrap().release
        else {
            panic!("another mechanism")
        };
        assert_eq!(threshold, 2);
        let rule = |name: &str| roster.task(name).unwrap().release.terms().map(|terms| terms.noise);
        assert_eq!(rule("digits-agreed"), Some(NoiseRule::ModuleElseSoftware));
        assert_eq!((rule("readmission"), rule("digits-exact")), (Some(NoiseRule::Software), None));
        let patients = roster.task("readmission").unwrap();
        assert_eq!((task.shards, task.votes(), patients.shards, patients.votes()), (1, 3, 5, 15));
        assert_eq!(patients.release.terms().unwrap().unit, Unit::Patient);
        assert_eq!([Unit::Owner, Unit::Patient].map(Unit::as_str), ["owner", "patient"]);
    }

    #[test]
    fn normalisation_takes_one_number_for_all_or_one_each() {
        let roster = roster(EXAMPLE_ROSTER).unwrap();
        let features = |name: &str| roster.task(name).unwrap().features.clone().unwrap();
        assert_eq!(features("digits").normalise(63, 16.0), 1.0);
        assert_eq!(features("breast-cancer").normalise(1, 19.29), 0.0);
        assert_eq!(features("breast-cancer").normalise(0, 15.13), (15.13 - 14.13) * 0.284);
    }

    #[test]
    fn lookups_find_members_by_name_peer_role_and_task() {
        let roster = roster(EXAMPLE_ROSTER).unwrap();
        let north = roster.member("north").unwrap();
        assert_eq!(roster.member_by_peer(north.peer.as_str()), Some(north));
        assert_eq!((roster.member("nobody"), roster.member_by_peer("nobody")), (None, None));
        let names = |role| roster.members_with(role).map(|member| member.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(Role::Owner), ["north", "south", "west"]);
        assert_eq!(names(Role::Dealer), ["notary"]);
        let seats = roster.seats_of(roster.task("digits").unwrap()).unwrap()[0].1;
        assert_eq!((seats.zero.name.as_str(), seats.one.name.as_str()), ("north", "south"));
        assert_eq!(seats.dealer.unwrap().name.as_str(), "notary");
        let tasks = |member| roster.tasks_of(member).map(|task| task.name.as_str()).collect::<Vec<_>>();
        assert_eq!(tasks("west"), ["breast-cancer", "digits", "digits-agreed", "readmission", "whose-image"]);
        assert_eq!(tasks("notary").len(), 7);
        assert_eq!(tasks("harbour"), ["readmission-twice"]);
        assert_eq!(tasks("nobody").len(), 0);
    }

    #[test]
    fn digests_cover_meaning_and_nothing_else() {
        let digests = |text: &str| {
            let roster = roster(text).unwrap();
            (roster.digest(), roster.task("breast-cancer").unwrap().digest())
        };
        let (whole, task) = digests(EXAMPLE_ROSTER);
        assert_eq!(digests(&format!("{EXAMPLE_ROSTER}\n# a comment\n")), (whole, task));
        assert_eq!(digests(&edited(EXAMPLE_ROSTER, "\"1e-6\"", "\"0.000001\"")), (whole, task));
        for both in [
            ("sigma = \"2\"", "sigma = \"3\""),
            ("epsilon = \"8\"", "epsilon = \"9\""),
            ("input_abs_max = 8.0", "input_abs_max = 9.0"),
            ("value_bits = 12", "value_bits = 13"),
            ("\"benign\", \"malignant\"", "\"malignant\", \"benign\""),
            ("owners_min = 2", "owners_min = 3"),
            ("\nnoise = \"software\"", "\nnoise = \"module\""),
            ("\nnoise = \"software\"", "\nnoise = \"module-else-software\""),
            ("client_epsilon = \"2\"", ""),
            ("19.29", "19.3"),
        ] {
            let (changed, changed_task) = digests(&edited(EXAMPLE_ROSTER, both.0, both.1));
            assert!(changed != whole && changed_task != task, "{both:?}");
        }
        for whole_only in [
            ("high = 64", "high = 65"),
            ("Malignant or", "Malign or"),
            ("192.0.2.10", "192.0.2.11"),
            ("microcode = 115", "microcode = 116"),
            ("host = \"notary\"", "host = \"south\""),
        ] {
            let (changed, same) = digests(&edited(EXAMPLE_ROSTER, whole_only.0, whole_only.1));
            assert!(changed != whole && same == task, "{whole_only:?}");
        }
    }

    #[test]
    fn digests_cover_what_a_patient_is_promised() {
        let digests = |shards: u32| {
            let text = edited(EXAMPLE_ROSTER, "shards = 5", &format!("shards = {shards}"));
            let roster = roster(&text).unwrap();
            (roster.digest(), roster.task("readmission").unwrap().digest())
        };
        assert_ne!(digests(5).0, digests(4).0);
        assert_ne!(digests(5).1, digests(4).1);
        let mut task = roster(EXAMPLE_ROSTER).unwrap().task("readmission").unwrap().clone();
        let Release::Gaussian { terms, .. } = &mut task.release else { panic!("{task:?}") };
        terms.unit = Unit::Owner;
        assert_ne!(task.digest(), digests(5).1);
    }

    #[test]
    fn the_encoding_of_digests_is_pinned() {
        let roster = roster(EXAMPLE_ROSTER).unwrap();
        assert_eq!(
            roster.digest().to_string(),
            "2d233eac72bfce8d8c952c635d72e38db791a2e04e7a3faa21d22bb083110748"
        );
        assert_eq!(
            roster.tasks()[0].digest().to_string(),
            "f4d418c4dda547ccccca9d75d9262fb2fe2809af2f2c20bcf7c2a1e80cfffae7"
        );
    }

    #[test]
    fn members_and_pairs_must_agree() {
        for (from, to, expected) in [
            (
                "one = \"south\"",
                "one = \"suoth\"",
                "there is no member called `suoth` | did you mean `south`?",
            ),
            (
                "one = \"south\"",
                "one = \"west\"",
                "member `west` does not have the role `compute` | add \"compute\"",
            ),
            ("one = \"south\"", "one = \"north\"", "`zero` and `one` are the same member"),
            (
                "\"South Clinic\"",
                "\"North University Hospital\"",
                "`zero` and `one` belong to the same organisation",
            ),
            (
                "\"Chamber of Notaries\"",
                "\"South Clinic\"",
                "`one` and `dealer` belong to the same organisation",
            ),
            ("192.0.2.30", "192.0.2.10", "address `/ip4/192.0.2.10/tcp/4710` stands here twice"),
            ("192.0.2.30/tcp/4710", "192.0.2.30/tcp/0", "nobody can dial this address"),
            (
                "addresses = [\"/ip6/2001:db8::20/tcp/4710\"]",
                "addresses = []",
                "member `south` cannot be dialled",
            ),
            ("roles = [\"dealer\"]", "roles = [\"dealer\", \"dealer\"]", "role `dealer` stands here twice"),
            ("roles = [\"dealer\"]", "roles = [\"deeler\"]", "did you mean `dealer`?"),
            (
                "roles = [\"dealer\"]",
                "roles = [\"owner\"]",
                "member `notary` does not have the role `dealer`",
            ),
            ("name = \"Northern hospitals\"", "", "`consortium.name` is missing"),
        ] {
            let found = roster_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
    }

    #[test]
    fn members_behind_nats_may_compute_if_somebody_can_relay() {
        let first = "addresses = [\"/ip4/192.0.2.10/tcp/4710\", \"/dns4/consilium.north.example/tcp/4710\"]";
        let relayed = "addresses = [\"/p2p-circuit\"]";
        let text = edited(EXAMPLE_ROSTER, first, relayed);
        let text = edited(&text, "addresses = [\"/ip6/2001:db8::20/tcp/4710\"]", relayed);
        let text = edited(&text, "addresses = [\"/ip4/192.0.2.40/tcp/4710\"]", relayed);
        let text = edited(&text, "addresses = [\"/dns4/consilium.lakeside.example/tcp/4710\"]", relayed);
        let roster = Roster::parse("roster.toml", &text).unwrap();
        assert!(roster.member("north").unwrap().addresses[0].is_relayed());
        let nobody = edited(&text, "addresses = [\"/ip4/192.0.2.30/tcp/4710\"]", relayed);
        let error = Roster::parse("roster.toml", &nobody).unwrap_err();
        let [problem] = error.problems() else { panic!("{error}") };
        assert_eq!(problem.message(), "nobody can relay for a member behind a NAT");
    }

    #[test]
    fn names_and_peers_are_unique() {
        let text = edited(EXAMPLE_ROSTER, "name = \"west\"", "name = \"south\"");
        let error = roster(&text).unwrap_err();
        assert!(
            error.problems().iter().any(|problem| problem.message() == "member `south` stands here twice")
        );
        let peer = |name: &str| roster(EXAMPLE_ROSTER).unwrap().member(name).unwrap().peer.to_string();
        let found = roster_refusal(&peer("west"), &peer("south"));
        assert!(found.starts_with("peer id `12D3KooW") && found.contains("stands here twice"), "{found}");
        assert!(
            roster_refusal("name = \"digits-exact\"", "name = \"digits\"")
                .starts_with("task `digits` stands")
        );
    }

    #[test]
    fn the_report_shows_each_place() {
        let text = edited(EXAMPLE_ROSTER, "fraction_bits = 16", "fractionbits = 16");
        let text = edited(&text, "clients = [\"practice\"]", "clients = [\"pratice\", \"west\"]");
        let text = edited(&text, "epsilon_per_answer = \"0.5\"", "epsilon_per_answer = 0.5");
        let found = rendered(&roster(&text).unwrap_err());
        assert_eq!(found, include_str!("roster/report.txt").trim_end(), "\n{found}");
    }

    #[test]
    fn an_empty_text_says_where_to_begin() {
        let error = roster("").unwrap_err();
        let messages: Vec<_> = error.problems().iter().map(|problem| problem.message()).collect();
        assert_eq!(messages, ["`consortium.name` is missing", "the consortium has no members"]);
        let error = roster("consortium = 1\nmember = 2").unwrap_err();
        assert_eq!(error.problems().len(), 2, "nothing is missed in what could not be read");
    }

    #[test]
    fn one_mistake_is_reported_once() {
        // The name of a member is unreadable, so nobody can say whether the pair's `north` is known.
        assert!(
            roster_refusal("name = \"north\"", "name = \"North\"")
                .starts_with("`member.name` must be a name")
        );
        assert!(roster_refusal("classes = [\"even\", \"odd\"]", "classes = [\"even\"]").contains("2 to 64"));
    }

    #[test]
    fn a_roster_at_its_limits_is_read_quickly() {
        let member = |index: usize| Member {
            name: format!("m{index}").parse().unwrap(),
            peer: format!("{}{:0>6}", "1".repeat(40), index.to_string().replace('0', "A"))
                .replace('0', "B")
                .parse()
                .unwrap(),
            organisation: None,
            addresses: Vec::new(),
            roles: vec![Role::Owner],
        };
        let members: Vec<Member> = (0..2048).map(member).collect();
        let roster = Roster::new("large", members.clone(), Vec::new(), Vec::new(), None).unwrap();
        assert_eq!(roster.members(), members);
    }

    fn arbitrary() -> impl Strategy<Value = Task> {
        let rule = proptest::sample::select(NOISE_WORDS.to_vec());
        let release = prop_oneof![
            Just(Release::Exact),
            (1_u64..=1000, 1_u64..=10, 1_u32..=2).prop_map(|(sigma, down, threshold)| {
                Release::ConfidentGaussian {
                    sigma: Fraction::new(sigma, 1).unwrap(),
                    threshold,
                    threshold_sigma: Fraction::new(sigma, down.min(sigma)).unwrap(),
                    delta: Fraction::new(1, 1_000_000).unwrap(),
                    terms: Terms {
                        unit: Unit::Owner,
                        epsilon: Fraction::new(sigma, 1).unwrap(),
                        client_epsilon: Some(Fraction::new(1, down).unwrap()),
                        noise: NoiseRule::Software,
                    },
                }
            }),
            (10_u64..=1000, 1_u64..=10, 1_u64..1_000_000, rule, any::<bool>()).prop_map(
                |(sigma, down, delta, (_, noise), patient)| Release::Gaussian {
                    sigma: Fraction::new(sigma, down).unwrap(),
                    delta: Fraction::new(delta, 100_000_000).unwrap(),
                    terms: Terms {
                        unit: if patient { Unit::Patient } else { Unit::Owner },
                        epsilon: Fraction::new(delta, 1000).unwrap(),
                        client_epsilon: None,
                        noise,
                    },
                }
            ),
        ];
        let label = "[^\\p{C}\\p{Z}]{1,12}";
        let classes = proptest::collection::btree_set(label, 2..8);
        let features = proptest::option::of((-1e12..1e12_f64, 1e-9..1e9_f64));
        let numbers = (1e-6..4000.0_f64, 8_u32..=20, 1_u32..=30, 2_u32..=64);
        (release, label, classes, features, numbers).prop_map(
            |(release, title, classes, features, numbers)| {
                let (input_abs_max, fraction_bits, features_count, several) = numbers;
                let unit = release.terms().map(|terms: &Terms| terms.unit);
                Task {
                    shards: if unit == Some(Unit::Owner) { 1 } else { several },
                    name: "task".parse().unwrap(),
                    title,
                    pair: "pair".parse().unwrap(),
                    input: Shape { channels: features_count, height: features_count % 3 + 1, width: 2 },
                    classes: classes.into_iter().collect(),
                    kind: Kind::Vote,
                    distance_bits: None,
                    input_abs_max,
                    fraction_bits,
                    value_bits: 12,
                    owners: vec!["a".parse().unwrap(), "b".parse().unwrap()],
                    clients: vec!["a".parse().unwrap()],
                    owners_min: 1,
                    image: None,
                    comparison: Comparison::Digits,
                    batch_queries: 4,
                    stock: Stock { low: 3, high: 9 },
                    standby: Vec::new(),
                    features: features.map(|(offset, scale)| Features {
                        names: Vec::new(),
                        offset: vec![offset],
                        scale: vec![scale],
                    }),
                    release,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn written_rosters_read_back(
            task in arbitrary(),
            consortium in "[^\\p{C}\\p{Z}]{1,40}",
            policy in policies(),
        ) {
            let member = |name: &str, letter: &str, port: u16| Member {
                name: name.parse().unwrap(),
                peer: letter.repeat(52).parse().unwrap(),
                organisation: Some(format!("of {name}")),
                addresses: vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()],
                roles: vec![Role::Compute, Role::Owner, Role::Client],
            };
            let name = |text: &str| text.parse::<Name>().unwrap();
            let pair = Pair { name: name("pair"), zero: name("a"), one: name("b"), dealer: None };
            let members = vec![member("a", "a", 1), member("b", "b", 2)];
            let needed = task.release.terms().is_some_and(|terms| terms.noise != NoiseRule::Software);
            prop_assume!(!needed || !policy.kinds().is_empty());
            let module = Module { host: name("b"), policy };
            let (pairs, tasks) = (vec![pair.clone()], vec![task.clone()]);
            let made = Roster::new(consortium.clone(), members.clone(), pairs, tasks, Some(module.clone())).unwrap();
            prop_assert_eq!(made.module(), Some(&module));
            prop_assert_eq!(made.consortium(), consortium);
            prop_assert_eq!(made.members(), members);
            prop_assert_eq!(made.pairs(), [pair]);
            prop_assert_eq!(made.tasks(), [task]);
            let again = roster(&made.to_toml()).unwrap();
            prop_assert_eq!(again.digest(), made.digest());
            prop_assert_eq!(again, made);
        }
    }
}
