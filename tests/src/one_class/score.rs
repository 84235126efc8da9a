//! How often answers are right: precision and recall of each user, and their means.

use serde::Serialize;

/// Figures of one user.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserScore {
    /// The user.
    pub user: String,
    /// Rows of its class.
    pub rows: usize,
    /// Rows that it was named for.
    pub named: usize,
    /// Share of those that are its own; 0 where it was never named.
    pub precision: f64,
    /// Share of its own rows that it was named for; 0 where it has none.
    pub recall: f64,
}

/// Figures of all users.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// One for each user.
    pub users: Vec<UserScore>,
    /// Mean over users, each alike.
    pub macro_precision: f64,
    /// Mean over users, each alike.
    pub macro_recall: f64,
    /// Share of users' own rows that nobody was named for.
    pub refused: f64,
    /// Share of strangers' rows that nobody was named for, where there are such rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strangers_refused: Option<f64>,
}

impl Scores {
    /// Figures of answers against the truth: whose row it is, nobody's for a stranger's.
    ///
    /// # Panics
    /// When a user is named that has no name.
    pub fn new(names: &[String], truth: &[Option<usize>], answers: &[Option<usize>]) -> Self {
        let users = names.len();
        // By truth and by answer; nobody comes last.
        let mut counts = vec![vec![0usize; users + 1]; users + 1];
        for (truth, answer) in truth.iter().zip(answers) {
            counts[truth.unwrap_or(users)][answer.unwrap_or(users)] += 1;
        }
        let score = |(user, name): (usize, &String)| {
            let right = counts[user][user];
            let named = counts.iter().map(|row| row[user]).sum();
            let rows = counts[user].iter().sum();
            UserScore {
                user: name.clone(),
                rows,
                named,
                precision: share(right, named),
                recall: share(right, rows),
            }
        };
        let scored: Vec<UserScore> = names.iter().enumerate().map(score).collect();
        let mean =
            |figure: fn(&UserScore) -> f64| scored.iter().map(figure).sum::<f64>() / users.max(1) as f64;
        let own = || counts.iter().take(users);
        let strangers: usize = counts[users].iter().sum();
        Self {
            macro_precision: mean(|score| score.precision),
            macro_recall: mean(|score| score.recall),
            refused: share(own().map(|row| row[users]).sum(), own().flatten().sum()),
            strangers_refused: (strangers > 0).then(|| share(counts[users][users], strangers)),
            users: scored,
        }
    }
}

/// A part of a whole; 0 of nothing.
pub fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of each user and of strangers, by answer.
    fn scores(counts: &[[usize; 4]; 4]) -> Scores {
        let who = |at: usize| Some(at).filter(|at| *at < 3);
        let cells = counts.iter().enumerate().flat_map(|(truth, row)| {
            row.iter().enumerate().flat_map(move |(answer, count)| vec![(who(truth), who(answer)); *count])
        });
        let (truth, answers): (Vec<_>, Vec<_>) = cells.unzip();
        Scores::new(&["a", "b", "c"].map(String::from), &truth, &answers)
    }

    #[test]
    fn figures_are_those_of_a_known_table() {
        // a: 8 of 10 rows, and 2 of b's; b: 6 of 10; c: all 10, one of a's and 4 strangers.
        let found = scores(&[[8, 0, 1, 1], [2, 6, 0, 2], [0, 0, 10, 0], [0, 0, 4, 12]]);
        let of = |user: usize| (found.users[user].precision, found.users[user].recall);
        assert_eq!([of(0), of(1), of(2)], [(0.8, 0.8), (1.0, 0.6), (10.0 / 15.0, 1.0)]);
        assert_eq!([found.users[2].rows, found.users[2].named], [10, 15]);
        assert!((found.macro_precision - (0.8 + 1.0 + 10.0 / 15.0) / 3.0).abs() < 1e-12);
        assert!((found.macro_recall - 0.8).abs() < 1e-12);
        assert_eq!((found.refused, found.strangers_refused), (0.1, Some(0.75)));
    }

    #[test]
    fn nothing_of_nothing_is_no_fault() {
        let found = scores(&[[0, 5, 0, 0], [0, 5, 0, 0], [0; 4], [0; 4]]);
        assert_eq!((found.users[0].precision, found.users[0].recall), (0.0, 0.0));
        assert_eq!((found.users[1].precision, found.users[1].recall), (0.5, 1.0));
        assert_eq!((found.users[2].precision, found.users[2].recall), (0.0, 0.0));
        assert_eq!((found.refused, found.strangers_refused), (0.0, None));
        assert_eq!(Scores::new(&[], &[], &[]).macro_recall, 0.0);
    }
}
