//! A question to one owner, who computes on inputs that only the client can read.

use super::{Features, Image, task::shape};
use crate::{
    digest::{Digest, Hasher},
    name::Name,
};
use consilium_protocol::graph::Shape;
use serde::Serialize;

/// One question that one owner answers under the client's key. Nobody else takes part: no pair, no release. The client
/// learns all logits exactly, so it is the number of inputs that protects the model, from clients that follow the protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "homomorphic")]
pub struct HomomorphicTask {
    /// By which users and models refer to it; no task of any other kind has it.
    pub name: Name,
    /// What it is about, for people.
    pub title: String,
    /// The member that has the model and computes.
    pub owner: Name,
    /// Members that may ask.
    pub clients: Vec<Name>,
    /// Shape of one input.
    #[serde(serialize_with = "shape")]
    pub input: Shape,
    /// The labels, in the order of the model's outputs.
    pub classes: Vec<String>,
    /// Public bound: no input value is smaller, after [`Features`] if there are any.
    pub input_min: f64,
    /// Public bound: no input value is larger in magnitude, after [`Features`] if there are any.
    pub input_abs_max: f64,
    /// How many inputs the owner answers for each client, ever, whatever the model.
    pub inputs_per_client_max: u64,
    /// How a file of an image becomes raw inputs; `None` where the task takes numbers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Public normalisation of raw inputs, applied by the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
}

impl HomomorphicTask {
    /// Binds all that changes an answer or who gets how many: everything but the title, by member names. With
    /// [`super::Roster::digest`] the names are bound to keys.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("consilium homomorphic task 1");
        self.feed(&mut hasher);
        hasher.finish()
    }

    /// Whether a member may ask.
    pub fn has_client(&self, member: &str) -> bool {
        self.clients.iter().any(|client| client.as_str() == member)
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        hasher.text(self.name.as_str());
        hasher.text(self.owner.as_str());
        hasher.list(&self.clients, |hasher, client| hasher.text(client.as_str()));
        for side in [self.input.channels, self.input.height, self.input.width] {
            hasher.number(side);
        }
        hasher.list(&self.classes, |hasher, class| hasher.text(class));
        hasher.real(self.input_min);
        hasher.real(self.input_abs_max);
        hasher.number(self.inputs_per_client_max);
        hasher.list(self.image.as_slice(), |hasher, image| image.feed(hasher));
        hasher.list(self.features.as_slice(), |hasher, features| features.feed(hasher));
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        EXAMPLE_ROSTER,
        document::testing::{edited, roster, roster_refusal, task_refusals},
    };
    use consilium_protocol::graph::Shape;

    const HEAD: &str = "[[task]]\nname = \"digits-encrypted\"";

    #[test]
    fn the_example_is_read_and_written_and_found() {
        let example = roster(EXAMPLE_ROSTER).unwrap();
        let task = example.homomorphic_task("digits-encrypted").unwrap();
        assert_eq!(example.homomorphic_tasks(), std::slice::from_ref(task));
        assert_eq!((task.owner.as_str(), task.clients[0].as_str()), ("north", "practice"));
        assert_eq!(task.input, Shape { channels: 1, height: 8, width: 8 });
        assert_eq!((task.input_min, task.input_abs_max, task.inputs_per_client_max), (0.0, 16.0, 1000));
        assert!(example.task("digits-encrypted").is_none(), "no pair computes it");
        let of = |member| example.homomorphic_tasks_of(member).count();
        assert_eq!((of("north"), of("practice"), of("south")), (1, 1, 0));
        assert_eq!(roster(&example.to_toml()).unwrap(), example);
        let wide = roster(&edited(EXAMPLE_ROSTER, "input_min = 0\n", "")).unwrap();
        assert_eq!(wide.homomorphic_tasks()[0].input_min, -16.0);
        assert_eq!(example.with_homomorphic(wide.homomorphic_tasks().to_vec()).unwrap(), wide);
    }

    #[test]
    fn digests_cover_meaning_and_leave_other_rosters_alone() {
        let digests = |text: &str| {
            let roster = roster(text).unwrap();
            (roster.digest(), roster.homomorphic_tasks()[0].digest())
        };
        let (whole, task) = digests(EXAMPLE_ROSTER);
        for (from, to) in [
            ("inputs_per_client_max = 1000", "inputs_per_client_max = 1001"),
            ("input_min = 0", "input_min = 1"),
            ("owner = \"north\"", "owner = \"south\""),
        ] {
            let (changed, changed_task) = digests(&edited(EXAMPLE_ROSTER, from, to));
            assert!(changed != whole && changed_task != task, "{to}");
        }
        let (changed, same) = digests(&edited(EXAMPLE_ROSTER, "from encrypted images", "encrypted"));
        assert!(changed != whole && same == task);
        // What the example had before there was such a task, with the digest that it had then.
        let older = &EXAMPLE_ROSTER[..EXAMPLE_ROSTER.find(HEAD).unwrap()];
        let older = roster(older).unwrap();
        assert_eq!(
            older.digest().to_string(),
            "530027207fa578dc265c26435182bb432e15a2d07974358490df1be016597af9"
        );
        assert_eq!(older.homomorphic_tasks(), []);
    }

    #[test]
    fn changes_are_named() {
        let (before, after) = (
            roster(EXAMPLE_ROSTER).unwrap(),
            roster(&edited(EXAMPLE_ROSTER, "inputs_per_client_max = 1000", "inputs_per_client_max = 2000"))
                .unwrap(),
        );
        let changes = before.changes_to(&after);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].at, "task digits-encrypted: inputs_per_client_max");
        assert_eq!(changes[0].after.as_deref(), Some("2000"));
    }

    #[test]
    fn mistakes_are_told() {
        for (from, to, expected) in [
            ("inputs_per_client_max = 1000\n", "", "`task.inputs_per_client_max` is missing"),
            ("owner = \"north\"\n", "owner = \"nort\"\n", "there is no member called `nort`"),
            ("owner = \"north\"\n", "owner = \"practice\"\n", "member `practice` does not have the role"),
            ("owner = \"north\"\n", "owner = \"west\"\n", "member `west` cannot be dialled"),
            (
                "owner = \"north\"\nclients = [\"practice\"]",
                "owner = \"north\"\nclients = [\"practice\", \"north\"]",
                "member `north` would ask itself",
            ),
            ("input_min = 0\n", "input_min = 16\n", "the least input is not between the bounds"),
            ("input_min = 0\n", "input_min = -17\n", "the least input is not between the bounds"),
            (
                "owner = \"north\"\n",
                "owner = \"north\"\npair = \"main\"\n",
                "a homomorphic task has no `pair` | take it out: one owner computes",
            ),
            (
                "input_min = 0\n",
                "release = { mechanism = \"exact\" }\n",
                "a homomorphic task has no `release` | take it out: the client learns all logits",
            ),
            (
                "input_min = 0\n",
                "image = { range = [-1, 1] }\ninput_min = 0\n",
                "values of an image are outside of what any input may be",
            ),
            ("name = \"digits-encrypted\"", "name = \"digits\"", "task `digits` stands here twice"),
            ("kind = \"homomorphic\"", "kind = \"homomorphism\"", "did you mean `homomorphic`?"),
        ] {
            let told = task_refusals(HEAD, from, to);
            assert!(told.iter().any(|told| told.contains(expected)), "{to:?} gave {told:?}");
        }
        let kept = roster_refusal("owners_min = 2", "owners_min = 2\ninputs_per_client_max = 3");
        assert!(kept.starts_with("`task` has no key `inputs_per_client_max`"), "{kept}");
    }
}
