//! One-class tasks: the owner whose model is nearest is named, or nobody, and owners come and go while the task runs.

use crate::setting::{
    BOUND, EXACT, INPUTS, NUMBERS, OWNERS, PRIVATE, Setting, in_runtime, names_of, scenario,
};
use consilium::demo::World;
use consilium::message::Obstacle;
use consilium_config::{Kind, NOBODY, Roster, Task};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{DistanceOracle, nearest};
use consilium_protocol::graph::{OneClassShape, Shape};
use consilium_protocol::model::{OneClass, Projection, export, export_one_class};

const DISTANCE_BITS: u32 = 18;
/// Half of the inputs or so are farther from all models.
const THRESHOLD: f64 = 1500.0;
const ROWS: usize = 24;

fn shape() -> OneClassShape {
    OneClassShape { input: Shape::vector(INPUTS as u32), numbers: NUMBERS, distance_bits: DISTANCE_BITS }
}

/// A point of the owner's own, and one direction.
fn user(number: usize) -> OneClass {
    let mean = (0..INPUTS).map(|at| if at % OWNERS == number { 12.0 } else { -4.0 }).collect();
    let rows = (0..INPUTS).map(|at| if at == number { 1.0 } else { 0.0 }).collect();
    OneClass::projection(shape().input, Projection { mean, rows }, THRESHOLD).unwrap()
}

/// The roster's tasks become one-class tasks.
fn change_kind(world: &World) {
    let path = world.folder_of("roster.toml");
    let roster = Roster::load(&path).unwrap();
    let changed = |task: &Task| {
        let labels = task.owners.iter().map(ToString::to_string).chain([NOBODY.to_owned()]);
        Task {
            kind: Kind::OneClass,
            distance_bits: Some(DISTANCE_BITS),
            classes: labels.collect(),
            owners_min: 1,
            ..task.clone()
        }
    };
    let tasks = roster.tasks().iter().map(changed).collect();
    let (members, pairs) = (roster.members().to_vec(), roster.pairs().to_vec());
    let module = roster.module().cloned();
    let roster = Roster::new(roster.consortium().to_owned(), members, pairs, tasks, module).unwrap();
    std::fs::write(path, roster.to_toml()).unwrap();
}

impl Setting {
    async fn of_users() -> Self {
        let mut setting = Self::prepared(scenario(), "info");
        change_kind(&setting.world);
        setting.world.launch_all().await.unwrap();
        setting
    }

    async fn publish_user(&self, task: &str, number: usize) {
        let file = export_one_class(&user(number), "consilium").unwrap();
        self.publish_file(&names_of(self)[number], task, &file).await.unwrap();
    }

    /// Whom the models of these owners name, where no rounding can change it: a label of the roster.
    fn named(&self, users: &[usize], row: usize) -> Option<usize> {
        let words = Fixed { fraction_bits: NUMBERS.fraction_bits }.encode_all(&self.row(row), BOUND).unwrap();
        let oracle = |number: &usize| DistanceOracle::new(user(*number), shape()).unwrap().measure(&words);
        let found = nearest(&users.iter().map(oracle).collect::<Vec<_>>());
        found.certain.then(|| found.user.map_or(OWNERS, |at| users[at]))
    }

    /// Asks about some rows; how many named somebody and nobody.
    async fn named_right(&self, users: &[usize]) -> [usize; 2] {
        let mut found = [0; 2];
        for row in 0..ROWS {
            let Some(due) = self.named(users, row) else { continue };
            let answer = self.answered(EXACT, row).await;
            assert_eq!(answer.labels, [Some(due as u32)], "row {row} of {users:?}");
            let mut labels = names_of(self);
            labels.push(NOBODY.to_owned());
            assert_eq!(answer.classes, [Some(labels[due].clone())]);
            assert_eq!(
                answer.terms.users,
                users.iter().map(|at| names_of(self)[*at].clone()).collect::<Vec<_>>()
            );
            found[usize::from(due == OWNERS)] += 1;
        }
        found
    }
}

#[test]
fn the_nearest_user_is_named_and_users_come_and_go() {
    in_runtime(async {
        let setting = Setting::of_users().await;
        let names = names_of(&setting);
        // A classifier is no user, and a threshold is needed.
        let classifier = export(&setting.scenario.hospitals[0].model, "consilium");
        let refused = setting.publish_file(&names[0], EXACT, &classifier).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Model);
        assert!(refused.explanation.contains("threshold"), "{refused}");
        for number in 0..2 {
            setting.publish_user(EXACT, number).await;
        }
        setting.filled(EXACT).await;
        let [somebody, nobody] = setting.named_right(&[0, 1]).await;
        assert!(somebody > 0 && nobody > 0, "{somebody} {nobody}");
        // A third user's shares, and nobody else's.
        setting.publish_user(EXACT, 2).await;
        setting.filled(EXACT).await;
        let [more, fewer] = setting.named_right(&[0, 1, 2]).await;
        assert!(more >= somebody && fewer <= nobody, "{more} {fewer}");
        let published = setting.published_by(&names[0], EXACT).await;
        setting.withdraw(&names[0], published).await.unwrap();
        setting.filled(EXACT).await;
        setting.named_right(&[1, 2]).await;
    });
}

#[test]
fn a_noisy_name_is_charged_to_all_users() {
    in_runtime(async {
        let setting = Setting::of_users().await;
        for number in 0..2 {
            setting.publish_user(PRIVATE, number).await;
        }
        setting.filled(PRIVATE).await;
        let answer = setting.ask(PRIVATE, 0, None).await.unwrap();
        assert!(answer.labels[0].is_some_and(|label| label <= OWNERS as u32 && label != 2), "{answer:?}");
        assert!(answer.terms.charged > 0);
        assert_eq!(answer.terms.users, names_of(&setting)[..2]);
    });
}
