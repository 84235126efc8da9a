//! The homomorphic task of a run: its model, its questions, and what its owner counted.

use super::node::Node;
use super::terms::{index, with_role};
use super::{Failure, TestbedError};
use consilium::demo::Scenario;
use consilium::encrypted::Opened;
use consilium::homomorphic::class;
use consilium_protocol::graph::{Layer, Network};
use consilium_protocol::homomorphic::{IntegerNet, Mode, Scales};
use consilium_protocol::model::{Model, Weights};
use std::collections::BTreeMap;

/// The task.
pub(super) const TASK: &str = "mass-encrypted";
/// Who computes; it is killed now and then like others.
pub(super) const OWNER: &str = "lake";
/// Cases of a batch.
const BATCH: usize = 3;
/// Inputs are rounded to quarters, weights are integers.
const INPUT_SCALE: u32 = 4;
/// More than any run asks for.
const INPUTS_PER_CLIENT_MAX: u64 = 100_000_000;

/// The scales that the model is published with, so that everybody knows the integers.
pub(super) const SCALES: &str = "4,1,1";

/// The task in the roster's language.
pub(super) fn task(scenario: &Scenario) -> String {
    let clients: Vec<&str> = with_role("client").collect();
    format!(
        "[[task]]\nname = \"{TASK}\"\ntitle = {:?}\nkind = \"homomorphic\"\nowner = \"{OWNER}\"\nclients = {clients:?}\n\
         input = [{}]\nclasses = {:?}\ninput_abs_max = {:?}\ninputs_per_client_max = {INPUTS_PER_CLIENT_MAX}\n",
        scenario.title,
        scenario.input.len(),
        scenario.classes,
        scenario.input_abs_max
    )
}

/// A network with a square that tells large inputs from small ones. Its labels mean nothing; they are checked.
pub(super) fn model(scenario: &Scenario) -> Result<Model, Failure> {
    let dense = |outputs| Layer::Dense { outputs };
    let (inputs, classes) = (scenario.input.len(), scenario.classes.len());
    let network = Network::new(scenario.input, vec![dense(4), Layer::Square, dense(classes as u32)])?;
    let weights = |inputs: usize, outputs: usize| Weights {
        weight: (0..inputs * outputs).map(|at| ((at * at + 5 * at) % 7) as f32 - 3.0).collect(),
        bias: (0..outputs).map(|at| at as f32 - 1.0).collect(),
    };
    Ok(Model::new(network, vec![weights(inputs, 4), weights(4, classes)])?)
}

/// Cases after normalisation, with the labels of the network of integers.
#[derive(Debug)]
pub(super) struct Encrypted {
    rows: Vec<Vec<f64>>,
    labels: Vec<u32>,
}

impl Encrypted {
    pub(super) fn new(scenario: &Scenario) -> Result<Self, Failure> {
        let bound = scenario.input_abs_max;
        let scales = Scales { input: INPUT_SCALE, maps: vec![1.0, 1.0] };
        let net = IntegerNet::quantise(&model(scenario)?, [-bound, bound], &scales)?;
        let rows: Vec<Vec<f64>> = (0..scenario.test.rows()).map(|row| scenario.prepared(row)).collect();
        let mut labels = Vec::new();
        for row in &rows {
            // As the client's node has them.
            let row: Vec<f64> = row.iter().map(|value| f64::from(*value as f32)).collect();
            let integers = net.encode(&row).map_err(|(at, value)| format!("value {at} is {value}"))?;
            labels.push(class(&net.evaluate(&integers)) as u32);
        }
        Ok(Self { rows, labels })
    }

    /// What to ask about a case: alone, or as the first one of a few.
    pub(super) fn question(&self, row: usize) -> (Vec<Vec<f64>>, Mode) {
        let (count, mode) = if row.is_multiple_of(2) { (1, Mode::Single) } else { (BATCH, Mode::Batch) };
        ((0..count).map(|at| self.rows[(row + at) % self.rows.len()].clone()).collect(), mode)
    }

    /// What is wrong with an answer about a case, if anything is.
    pub(super) fn wrong(&self, row: usize, opened: &Opened) -> Option<String> {
        let (asked, mode) = self.question(row);
        let right: Vec<u32> =
            (0..asked.len()).map(|at| self.labels[(row + at) % self.labels.len()]).collect();
        let good = opened.labels == right && opened.terms.mode == mode;
        (!good).then(|| format!("encrypted case {row} is {right:?}, the answer was {:?}", opened.labels))
    }
}

/// What the owner counted is at least what clients had answered.
pub(super) async fn check(
    nodes: &[Node],
    answered: &BTreeMap<&'static str, u64>,
) -> Result<Vec<String>, Failure> {
    let missing = || TestbedError::Unexpected { what: format!("{OWNER} does not tell what it counted") };
    let report = nodes[index(OWNER)].report().await.ok_or_else(missing)?;
    let status = report.encrypted.into_iter().find(|status| status.task == TASK).ok_or_else(missing)?;
    let counted = |client: &str| {
        status.clients.iter().find(|count| count.client == client).map_or(0, |count| count.counted)
    };
    let mut problems = Vec::new();
    if answered.values().sum::<u64>() == 0 {
        problems.push(format!("no question of {TASK} was answered"));
    }
    for (client, inputs) in answered {
        if counted(client) < *inputs {
            problems
                .push(format!("{client} had {inputs} inputs answered, {OWNER} counted {}", counted(client)));
        }
    }
    Ok(problems)
}
