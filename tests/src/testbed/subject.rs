//! What is asked about: what the roster says of it, the models of its owners, questions, and the right answers.

use super::Failure;
use super::encrypted::Encrypted;
use super::tally::Outcome;
use super::terms::{Release, Second, Task, with_role};
use consilium::admin::{AdminReply, AdminRequest};
use consilium::client::Answer;
use consilium::demo::{Crowd, Progress, Scenario, breast_cancer, digits_crowd};
use consilium_attest::Provenance;
use consilium_config::NOBODY;
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{DistanceOracle, Oracle, nearest, verdict};
use consilium_protocol::model::{export, export_one_class};
use std::fmt::Debug;
use std::sync::Arc;

/// A subject. A task of another kind than those here is one more of these.
pub(super) trait Subject: Debug + Send + Sync {
    /// The members whose models answer.
    fn owners(&self) -> Vec<&'static str>;

    /// Pairs that an owner's models of such a task go to.
    fn pairs(&self, task: &Task, second: Second) -> usize;

    /// The keys of a task in the roster, but for its name, and the tables behind them.
    fn roster(&self, task: &Task, second: Second) -> String;

    /// The file of an owner's model.
    fn model(&self, owner: &str) -> Result<Vec<u8>, Failure>;

    /// Further words of the command that publishes it.
    fn publishing(&self) -> &'static [&'static str] {
        &[]
    }

    /// Questions that there are.
    fn questions(&self) -> usize;

    /// One of them, to the client's own node.
    fn request(&self, task: &Task, question: usize) -> AdminRequest;

    /// What a reply is worth; nothing where it is no answer to such a question.
    fn judge(&self, task: &Task, question: usize, reply: &AdminReply) -> Option<Outcome>;
}

/// All subjects of a run.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    mass: Arc<Mass>,
    digits: Arc<Digits>,
    encrypted: Arc<Encrypted>,
}

/// Which subject a task is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Classifiers vote.
    Mass,
    /// One-class models measure how far they are.
    Digits,
    /// One owner computes on what it cannot read.
    Encrypted,
}

impl Subjects {
    /// Trains all models.
    pub(super) fn new(seed: u64) -> Result<Self, Failure> {
        let (mass, digits) = (Mass::new(seed)?, Digits::new(seed)?);
        let encrypted = Encrypted::new(&mass.scenario)?;
        Ok(Self { mass: Arc::new(mass), digits: Arc::new(digits), encrypted: Arc::new(encrypted) })
    }

    /// What a task is about.
    pub(super) fn of(&self, task: &Task) -> Arc<dyn Subject> {
        match task.about {
            About::Mass => self.mass.clone(),
            About::Digits => self.digits.clone(),
            About::Encrypted => self.encrypted.clone(),
        }
    }
}

/// A right answer.
#[derive(Debug)]
struct Due {
    label: String,
    /// Whether no rounding can change it.
    certain: bool,
}

/// Questions that pairs answer.
#[derive(Debug)]
struct Cases {
    rows: Vec<Vec<f64>>,
    dues: Vec<Due>,
    labels: Vec<String>,
    owners: u32,
}

impl Cases {
    fn request(&self, task: &Task, question: usize) -> AdminRequest {
        AdminRequest::Ask {
            task: task.name.to_owned(),
            rows: vec![self.rows[question].clone()],
            release: None,
        }
    }

    fn judge(&self, task: &Task, question: usize, answer: &Answer) -> Outcome {
        let (due, terms) = (&self.dues[question], &answer.terms);
        let label = answer.classes.first().and_then(Option::as_ref);
        if terms.owners != self.owners {
            return Outcome::Wrong(format!("{} owners answered in place of {}", terms.owners, self.owners));
        }
        let Some(label) = label.filter(|label| self.labels.contains(label)) else {
            return Outcome::Wrong(format!("{}: the answer was {label:?}, which is no label", task.name));
        };
        match (task.release, terms.noise) {
            (Release::Exact, Provenance::Exact) if *label == due.label => Outcome::Right,
            (Release::Exact, Provenance::Exact) if !due.certain => Outcome::NearTie,
            (Release::Exact, Provenance::Exact) => Outcome::Wrong(format!(
                "{}: question {question} is {}, the answer was {label}",
                task.name, due.label
            )),
            (Release::Spent | Release::Lasting, Provenance::Module { .. }) => Outcome::Noisy("module"),
            (Release::Spent | Release::Lasting, Provenance::Software) => Outcome::Noisy("software"),
            (_, noise) => Outcome::Wrong(format!("{}: noise of {noise}", task.name)),
        }
    }
}

/// Keys and tables that all tasks of pairs have, after those of their subject.
fn of_pairs(task: &Task, second: Second, owners: &[&str], tables: &str) -> String {
    let clients: Vec<&str> = with_role("client").collect();
    format!(
        "pair = \"{}\"\nowners = {owners:?}\nclients = {clients:?}\nowners_min = {}\n\
         [task.pool]\nlow = {}\nhigh = {}\n{tables}{}{}",
        task.pair,
        owners.len(),
        task.pool.0,
        task.pool.1,
        task.release.table(),
        second.standing_in(task),
    )
}

/// Benign or malignant, by votes of classifiers.
#[derive(Debug)]
struct Mass {
    scenario: Scenario,
    owners: Vec<&'static str>,
    cases: Cases,
}

impl Mass {
    /// The held-out cases of the scenario with the oracle's labels, which all of its models vote on.
    fn new(seed: u64) -> Result<Self, Failure> {
        let owners: Vec<&str> = with_role("owner").collect();
        let scenario = breast_cancer(owners.len(), seed, &Progress::new(false))?;
        let oracles = scenario
            .hospitals
            .iter()
            .map(|hospital| Oracle::new(hospital.model.clone(), scenario.numbers))
            .collect::<Result<Vec<_>, _>>()?;
        let fixed = Fixed { fraction_bits: scenario.numbers.fraction_bits };
        let (mut rows, mut dues) = (Vec::new(), Vec::new());
        for row in 0..scenario.test.rows() {
            let words = fixed.encode_all(&scenario.prepared(row), scenario.input_abs_max)?;
            let votes: Vec<_> = oracles.iter().map(|oracle| oracle.vote(&words)).collect();
            let found = verdict(&votes, scenario.classes.len());
            dues.push(Due { label: scenario.classes[found.label].clone(), certain: found.certain });
            rows.push(scenario.test.row(row).iter().map(|value| f64::from(*value)).collect());
        }
        let cases = Cases { rows, dues, labels: scenario.classes.clone(), owners: owners.len() as u32 };
        Ok(Self { scenario, owners, cases })
    }
}

impl Subject for Mass {
    fn owners(&self) -> Vec<&'static str> {
        self.owners.clone()
    }

    fn pairs(&self, _task: &Task, second: Second) -> usize {
        second.serving()
    }

    fn roster(&self, task: &Task, second: Second) -> String {
        let scenario = &self.scenario;
        let features = scenario.features().map_or_else(String::new, |features| {
            format!("[task.features]\noffset = {:?}\nscale = {:?}\n", features.offset, features.scale)
        });
        format!(
            "title = {:?}\ninput = [{}]\nclasses = {:?}\ninput_abs_max = {:?}\nfraction_bits = {}\n\
             value_bits = {}\n{}",
            scenario.title,
            scenario.input.len(),
            scenario.classes,
            scenario.input_abs_max,
            scenario.numbers.fraction_bits,
            scenario.numbers.value_bits,
            of_pairs(task, second, &self.owners, &features),
        )
    }

    fn model(&self, owner: &str) -> Result<Vec<u8>, Failure> {
        let place = self.owners.iter().position(|name| *name == owner);
        let hospital = place.and_then(|place| self.scenario.hospitals.get(place));
        Ok(export(&hospital.ok_or("no such owner")?.model, "consilium"))
    }

    fn questions(&self) -> usize {
        self.cases.rows.len()
    }

    fn request(&self, task: &Task, question: usize) -> AdminRequest {
        self.cases.request(task, question)
    }

    fn judge(&self, task: &Task, question: usize, reply: &AdminReply) -> Option<Outcome> {
        let AdminReply::Answer(answer) = reply else { return None };
        Some(self.cases.judge(task, question, answer))
    }
}

/// Whose digit an image is: every owner has the images of one digit, and nobody those of the others.
#[derive(Debug)]
struct Digits {
    crowd: Crowd,
    owners: Vec<&'static str>,
    cases: Cases,
}

impl Digits {
    /// The held-out images, of strangers too, with the owner whom the oracle names.
    fn new(seed: u64) -> Result<Self, Failure> {
        let mut crowd = digits_crowd(seed, &Progress::new(false))?;
        let owners: Vec<&str> = with_role("owner").collect();
        crowd.users.truncate(owners.len());
        let oracles = crowd
            .users
            .iter()
            .map(|user| DistanceOracle::new(user.model.clone(), crowd.shape))
            .collect::<Result<Vec<_>, _>>()?;
        let fixed = Fixed { fraction_bits: crowd.shape.numbers.fraction_bits };
        let labels: Vec<String> = owners.iter().copied().chain([NOBODY]).map(str::to_owned).collect();
        let (mut rows, mut dues) = (Vec::new(), Vec::new());
        for row in 0..crowd.test.rows() {
            let words = fixed.encode_all(crowd.test.row(row), crowd.input_abs_max)?;
            let found = nearest(&oracles.iter().map(|oracle| oracle.measure(&words)).collect::<Vec<_>>());
            let label = labels[found.user.unwrap_or(owners.len())].clone();
            dues.push(Due { label, certain: found.certain });
            rows.push(crowd.test.row(row).iter().map(|value| f64::from(*value)).collect());
        }
        let cases = Cases { rows, dues, labels, owners: owners.len() as u32 };
        Ok(Self { crowd, owners, cases })
    }
}

impl Subject for Digits {
    fn owners(&self) -> Vec<&'static str> {
        self.owners.clone()
    }

    fn pairs(&self, _task: &Task, second: Second) -> usize {
        second.serving()
    }

    fn roster(&self, task: &Task, second: Second) -> String {
        let (crowd, shape) = (&self.crowd, self.crowd.shape);
        format!(
            "kind = \"one-class\"\ntitle = {:?}\ninput = [{}, {}, {}]\ninput_abs_max = {:?}\n\
             fraction_bits = {}\nvalue_bits = {}\ndistance_bits = {}\n{}",
            crowd.title,
            shape.input.channels,
            shape.input.height,
            shape.input.width,
            crowd.input_abs_max,
            shape.numbers.fraction_bits,
            shape.numbers.value_bits,
            shape.distance_bits,
            of_pairs(task, second, &self.owners, ""),
        )
    }

    fn model(&self, owner: &str) -> Result<Vec<u8>, Failure> {
        let place = self.owners.iter().position(|name| *name == owner);
        let user = place.and_then(|place| self.crowd.users.get(place));
        Ok(export_one_class(&user.ok_or("no such owner")?.model, "consilium")?)
    }

    fn questions(&self) -> usize {
        self.cases.rows.len()
    }

    fn request(&self, task: &Task, question: usize) -> AdminRequest {
        self.cases.request(task, question)
    }

    fn judge(&self, task: &Task, question: usize, reply: &AdminReply) -> Option<Outcome> {
        let AdminReply::Answer(answer) = reply else { return None };
        // In an order of the parties' own.
        let users = &answer.terms.users;
        if users.len() != self.owners.len()
            || !self.owners.iter().all(|owner| users.iter().any(|user| user == owner))
        {
            return Some(Outcome::Wrong(format!("{}: only {users:?} took part", task.name)));
        }
        Some(self.cases.judge(task, question, answer))
    }
}
