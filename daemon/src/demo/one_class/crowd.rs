//! Users who know one written digit each, and strangers whom none of them knows.

use crate::datasets::{DIGITS_DEPTH, Normalisation, NormalisationError, SplitError, digits, split};
use crate::demo::measure::Progress;
use crate::demo::scenario::Preprocessing;
use crate::training::{
    Examples, ExamplesError, OneClassMethod, OneClassSetting, OneClassTrainError, learn_one_class,
};
use consilium_protocol::graph::{Numbers, OneClassShape, Shape};
use consilium_protocol::model::OneClass;
use std::time::Duration;

/// Digits that have a user; the last two have none.
const USERS: usize = 8;
/// Test images of all: a fifth.
const TEST_FRACTION: f64 = 0.2;
/// Of a user's own images, those that choose its threshold, and how many of a hundred of them it accepts.
const VALIDATION_FRACTION: f64 = 0.25;
const PERCENTILE: f64 = 95.0;
/// Principal directions of 64 cells.
const RANK: usize = 12;
const INPUT: Shape = Shape { channels: 1, height: 8, width: 8 };
const QUERY_DEADLINE: Duration = Duration::from_secs(20);
const POOL: (u32, u32) = (32, 96);

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// Name in the roster.
    pub name: String,
    /// Its own images.
    pub rows: usize,
    /// What it trained on them alone, with its threshold.
    pub model: OneClass,
}

/// Everything that a run of users needs.
#[derive(Debug)]
pub struct Crowd {
    /// The question in words.
    pub title: String,
    /// Where the data come from.
    pub credit: String,
    /// Public facts of the task.
    pub shape: OneClassShape,
    /// Public bound on each input value.
    pub input_abs_max: f64,
    /// The users; each has the rows of one class, in the order of classes.
    pub users: Vec<User>,
    /// All classes; those after the users' are strangers'.
    pub classes: Vec<String>,
    /// Held-out rows with their classes.
    pub test: Examples,
    /// Who makes correlated randomness.
    pub preprocessing: Preprocessing,
    /// Bundles kept ready, low and high watermark.
    pub pool: (u32, u32),
    /// Longest time for one question.
    pub query_deadline: Duration,
}

/// Why there are no users.
#[derive(Debug, thiserror::Error)]
pub enum CrowdError {
    /// The data cannot be split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The data cannot be scaled.
    #[error(transparent)]
    Normalisation(#[from] NormalisationError),
    /// A part of the rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// A user's training failed.
    #[error("training of {user}: {source}")]
    Training {
        /// The user.
        user: String,
        /// What failed.
        source: Box<OneClassTrainError>,
    },
}

impl Crowd {
    /// Whose a held-out row is; nobody's where it is a stranger's, or does not exist.
    pub fn whose(&self, row: usize) -> Option<usize> {
        let class = self.test.labels().get(row).map(|label| usize::from(*label));
        class.filter(|class| *class < self.users.len())
    }
}

/// The demo: ten written digits, of which eight have a user. Each user trains on the images of its digit alone.
///
/// # Errors
/// A training failed.
pub fn digits_crowd(seed: u64, progress: &Progress) -> Result<Crowd, CrowdError> {
    let table = digits();
    let (train, test) = split(&table, TEST_FRACTION, seed)?;
    let scale = Normalisation::uniform(INPUT.len(), 0.0, 1.0 / DIGITS_DEPTH, 1.0)?;
    let (train, test) = (scale.apply(&train)?, scale.apply(&test)?);
    let bar = progress.bar("users train", USERS as u64);
    let mut users = Vec::with_capacity(USERS);
    for (class, label) in table.class_names.iter().take(USERS).enumerate() {
        let name = format!("digit-{label}");
        let is_own = |row: &usize| usize::from(train.labels()[*row]) == class;
        let own = train.select(&(0..train.rows()).filter(is_own).collect::<Vec<_>>())?;
        let setting = OneClassSetting {
            input: INPUT,
            method: OneClassMethod::Pca { rank: RANK },
            percentile: PERCENTILE,
            validation: VALIDATION_FRACTION,
            seed: seed.wrapping_add(class as u64),
            cut: true,
        };
        let learnt = learn_one_class(&own, &setting, &mut |_, _, _| ());
        let failed = |source| CrowdError::Training { user: name.clone(), source: Box::new(source) };
        let model = learnt.map_err(failed)?.model().clone();
        users.push(User { name, rows: own.rows(), model });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Crowd {
        title: "Whose digit is this?".into(),
        credit: table.credit.into(),
        shape: OneClassShape {
            input: INPUT,
            numbers: Numbers { fraction_bits: 16, value_bits: 12 },
            distance_bits: 20,
        },
        input_abs_max: 1.0,
        users,
        classes: table.class_names,
        test,
        preprocessing: Preprocessing::Pairwise,
        pool: POOL,
        query_deadline: QUERY_DEADLINE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::evaluate::float;
    use consilium_protocol::model::fixed::prove_one_class;

    /// In the clear, what the demo shows.
    #[test]
    fn users_know_their_own_and_most_strangers_are_refused() {
        let crowd = digits_crowd(1, &Progress::new(false)).unwrap();
        assert_eq!((crowd.users.len(), crowd.classes.len(), crowd.test.rows()), (8, 10, 359));
        for user in &crowd.users {
            prove_one_class(&user.model, crowd.shape, crowd.input_abs_max).unwrap();
            assert!(user.rows > 120 && user.model.threshold() > 0.0);
        }
        let named = |row: usize| {
            let distances = crowd.users.iter().map(|user| float::distance(&user.model, crowd.test.row(row)));
            let nearest = distances.enumerate().min_by(|one, other| one.1.total_cmp(&other.1)).unwrap();
            Some(nearest.0).filter(|user| nearest.1 <= crowd.users[*user].model.threshold())
        };
        let (own, strangers): (Vec<usize>, Vec<usize>) =
            (0..359).partition(|row| crowd.whose(*row).is_some());
        let refused = strangers.iter().filter(|row| named(**row).is_none()).count();
        assert!(2 * refused > strangers.len(), "{refused} of {} strangers refused", strangers.len());
        let right = own.iter().filter(|row| named(**row) == crowd.whose(**row)).count();
        assert!(10 * right > 8 * own.len(), "{right} of {} own images named", own.len());
    }
}
