//! What more users cost: the plans of ten and of 33, and one row asked under each.

use super::asked::{EXACT, Panel};
use super::{INPUT_ABS_MAX, TrialError};
use consilium::training::Examples;
use consilium_protocol::algebra::Fixed;
use consilium_protocol::graph::{Measure, Plan};
use consilium_protocol::model::OneClass;
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::TestTask;
use serde::Serialize;

/// Users that are compared.
pub const USERS: [usize; 2] = [10, 33];
const GADGETS: [(&str, Gadget); 3] =
    [("digits", Gadget::Digits), ("nibbles", Gadget::Nibbles), ("keys", Gadget::Keys)];

/// One row asked of ten users and of 33.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostRow {
    /// How values are compared.
    pub gadget: &'static str,
    /// Users.
    pub users: [usize; 2],
    /// Rounds.
    pub rounds: [u32; 2],
    /// Bytes that each party sends.
    pub bytes: [u64; 2],
    /// The larger over the smaller number of bytes.
    pub ratio: f64,
    /// Whether rounds and bytes were the same where two parties ran the plan.
    pub as_planned: bool,
}

/// The costs of a task with so many users, whose models take turns, and of one row of it.
///
/// # Errors
/// A model or row does not fit the task.
pub fn costs(panel: &Panel, rows: &Examples) -> Result<Vec<CostRow>, TrialError> {
    let fixed = Fixed { fraction_bits: panel.shape.numbers.fraction_bits };
    let query = fixed.encode_all(rows.row(0), INPUT_ABS_MAX)?;
    let mut found = Vec::new();
    for (name, gadget) in GADGETS {
        let (mut rounds, mut bytes, mut as_planned) = ([0; 2], [0; 2], true);
        for (at, users) in USERS.into_iter().enumerate() {
            let models: Vec<OneClass> = panel.models.iter().cycle().take(users).cloned().collect();
            let measures: Vec<Measure> = models.iter().map(OneClass::measure).collect();
            let plan = Plan::one_class(&measures, panel.shape, 1, gadget, EXACT)?;
            let mut task = TestTask::one_class(&models, panel.shape, 1, EXACT, gadget, panel.seed)?;
            let (_, meter, _) = task.ask(std::slice::from_ref(&query), [&[], &[]])?;
            (rounds[at], bytes[at]) = (plan.cost().rounds, plan.cost().bytes);
            as_planned &= (meter.rounds, meter.bytes) == (rounds[at], bytes[at]);
        }
        let ratio = bytes[1] as f64 / bytes[0] as f64;
        found.push(CostRow { gadget: name, users: USERS, rounds, bytes, ratio, as_planned });
    }
    Ok(found)
}
