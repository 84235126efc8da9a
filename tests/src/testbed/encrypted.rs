//! The homomorphic task of a run: its model, its questions, and what its owner counted.

use super::node::Node;
use super::subject::Subject;
use super::tally::Outcome;
use super::terms::{ENCRYPTED, Second, Task, index, with_role};
use super::{Failure, TestbedError};
use consilium::admin::{AdminReply, AdminRequest};
use consilium::demo::Scenario;
use consilium::encrypted::Opened;
use consilium::homomorphic::class;
use consilium_protocol::graph::{Layer, Network};
use consilium_protocol::homomorphic::{IntegerNet, Mode, Scales};
use consilium_protocol::model::{Model, Weights, export};
use std::collections::BTreeMap;

/// Who computes; it is killed now and then like others.
const OWNER: &str = "lake";
/// Cases of a batch.
const BATCH: usize = 3;
/// Inputs are rounded to quarters, weights are integers.
const INPUT_SCALE: u32 = 4;
/// The scales that the model is published with, so that everybody knows the integers.
const SCALES: &str = "4,1,1";
/// More than any run asks for.
const INPUTS_PER_CLIENT_MAX: u64 = 100_000_000;

/// A network with a square that tells large inputs from small ones. Its labels mean nothing; they are checked.
fn model(scenario: &Scenario) -> Result<Model, Failure> {
    let dense = |outputs| Layer::Dense { outputs };
    let (inputs, classes) = (scenario.input.len(), scenario.classes.len());
    let network = Network::new(scenario.input, vec![dense(4), Layer::Square, dense(classes as u32)])?;
    let weights = |inputs: usize, outputs: usize| Weights {
        weight: (0..inputs * outputs).map(|at| ((at * at + 5 * at) % 7) as f32 - 3.0).collect(),
        bias: (0..outputs).map(|at| at as f32 - 1.0).collect(),
    };
    Ok(Model::new(network, vec![weights(inputs, 4), weights(4, classes)])?)
}

/// Cases after normalisation, which one owner answers under the client's key, with the logits and labels of the network
/// of integers.
#[derive(Debug)]
pub(super) struct Encrypted {
    title: String,
    classes: Vec<String>,
    input_abs_max: f64,
    file: Vec<u8>,
    rows: Vec<Vec<f64>>,
    logits: Vec<Vec<i128>>,
}

impl Encrypted {
    /// With the cases of a scenario.
    pub(super) fn new(scenario: &Scenario) -> Result<Self, Failure> {
        let (model, bound) = (model(scenario)?, scenario.input_abs_max);
        let scales = Scales { input: INPUT_SCALE, maps: vec![1.0, 1.0] };
        let net = IntegerNet::quantise(&model, [-bound, bound], &scales)?;
        let rows: Vec<Vec<f64>> = (0..scenario.test.rows()).map(|row| scenario.prepared(row)).collect();
        let mut logits = Vec::new();
        for row in &rows {
            // As the client's node has them.
            let row: Vec<f64> = row.iter().map(|value| f64::from(*value as f32)).collect();
            let integers = net.encode(&row).map_err(|(at, value)| format!("value {at} is {value}"))?;
            logits.push(net.evaluate(&integers));
        }
        Ok(Self {
            title: scenario.title.clone(),
            classes: scenario.classes.clone(),
            input_abs_max: bound,
            file: export(&model, "consilium"),
            rows,
            logits,
        })
    }

    /// The cases of a question, and how they are encrypted: alone, or as a batch.
    fn cases(&self, question: usize) -> (Vec<usize>, Mode) {
        let (count, mode) = if question.is_multiple_of(2) { (1, Mode::Single) } else { (BATCH, Mode::Batch) };
        ((0..count).map(|at| (question + at) % self.rows.len()).collect(), mode)
    }

    fn is_right(&self, question: usize, opened: &Opened) -> bool {
        let (cases, mode) = self.cases(question);
        let logits: Vec<Vec<i128>> = cases.iter().map(|case| self.logits[*case].clone()).collect();
        let labels: Vec<u32> = logits.iter().map(|logits| class(logits) as u32).collect();
        opened.labels == labels && opened.logits == Some(logits) && opened.terms.mode == mode
    }
}

impl Subject for Encrypted {
    fn owners(&self) -> Vec<&'static str> {
        vec![OWNER]
    }

    fn pairs(&self, _task: &Task, _second: Second) -> usize {
        0
    }

    fn roster(&self, _task: &Task, _second: Second) -> String {
        let clients: Vec<&str> = with_role("client").collect();
        format!(
            "kind = \"homomorphic\"\ntitle = {:?}\nowner = \"{OWNER}\"\nclients = {clients:?}\ninput = [{}]\n\
             classes = {:?}\ninput_abs_max = {:?}\ninputs_per_client_max = {INPUTS_PER_CLIENT_MAX}\n",
            self.title,
            self.rows.first().map_or(0, Vec::len),
            self.classes,
            self.input_abs_max
        )
    }

    fn model(&self, _owner: &str) -> Result<Vec<u8>, Failure> {
        Ok(self.file.clone())
    }

    fn publishing(&self) -> &'static [&'static str] {
        &["--scales", SCALES]
    }

    fn questions(&self) -> usize {
        self.rows.len()
    }

    fn request(&self, task: &Task, question: usize) -> AdminRequest {
        let (cases, mode) = self.cases(question);
        let rows = cases.iter().map(|case| self.rows[*case].clone()).collect();
        AdminRequest::AskEncrypted { task: task.name.to_owned(), rows, mode: Some(mode), logits: true }
    }

    fn judge(&self, task: &Task, question: usize, reply: &AdminReply) -> Option<Outcome> {
        let AdminReply::Opened(opened) = reply else { return None };
        Some(match self.is_right(question, opened) {
            true => Outcome::Right,
            false => Outcome::Wrong(format!(
                "{}: question {question} has other logits or labels: {:?}",
                task.name, opened.labels
            )),
        })
    }
}

/// What the owner counted is at least what clients had answered.
pub(super) async fn check(
    nodes: &[Node],
    answered: &BTreeMap<&'static str, u64>,
) -> Result<Vec<String>, Failure> {
    let missing = || TestbedError::Unexpected { what: format!("{OWNER} does not tell what it counted") };
    let report = nodes[index(OWNER)].report().await.ok_or_else(missing)?;
    let status = report.encrypted.into_iter().find(|status| status.task == ENCRYPTED).ok_or_else(missing)?;
    let counted = |client: &str| {
        status.clients.iter().find(|count| count.client == client).map_or(0, |count| count.counted)
    };
    let mut problems = Vec::new();
    if answered.values().sum::<u64>() == 0 {
        problems.push(format!("no question of {ENCRYPTED} was answered"));
    }
    for (client, inputs) in answered {
        if counted(client) < *inputs {
            problems
                .push(format!("{client} had {inputs} inputs answered, {OWNER} counted {}", counted(client)));
        }
    }
    Ok(problems)
}
