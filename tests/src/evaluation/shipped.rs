//! The trained owner networks beside the repository: their recorded votes in floating and fixed point.

use crate::data::{DataError, Set, ensemble, load, owner_models};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::Oracle;
use consilium_protocol::evaluate::float::{argmax, logits};
use consilium_protocol::graph::Numbers;
use serde::Serialize;
use std::path::Path;

/// Agreement of all votes of one ensemble with the record.
#[derive(Clone, Debug, Serialize)]
pub struct ShippedVotes {
    /// The ensemble.
    pub name: String,
    /// Owners times rows.
    pub votes: usize,
    /// Floating-point votes as recorded.
    pub float_equal: usize,
    /// Fixed-point votes as recorded.
    pub fixed_equal: usize,
}

/// Evaluates every network of an ensemble on the first `rows` test rows.
///
/// # Errors
/// The data are damaged.
pub fn shipped_votes(
    set: Set,
    name: &str,
    numbers: Numbers,
    bound: f64,
    rows: usize,
    shared: &Path,
) -> Result<ShippedVotes, DataError> {
    let data = load(set, shared)?;
    let models = owner_models(shared, name)?;
    let recorded = ensemble(shared, name)?;
    let rows = rows.min(data.test.rows());
    let fixed = Fixed { fraction_bits: numbers.fraction_bits };
    let mut result = ShippedVotes { name: name.to_owned(), votes: 0, float_equal: 0, fixed_equal: 0 };
    for (model, votes) in models.into_iter().zip(&recorded.votes) {
        let oracle = Oracle::new(model.clone(), numbers).ok();
        for (row, vote) in votes.iter().enumerate().take(rows) {
            let input = data.test.row(row);
            result.votes += 1;
            result.float_equal += usize::from(argmax(&logits(&model, input)) == usize::from(*vote));
            let words = fixed.encode_all(input, bound).ok();
            let class = oracle.as_ref().zip(words).map(|(oracle, words)| oracle.vote(&words).class);
            result.fixed_equal += usize::from(class == Some(usize::from(*vote)));
        }
    }
    Ok(result)
}
