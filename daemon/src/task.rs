//! A task of the roster as the daemon works with it.

use crate::ledger::{LedgerError, Opening, Promise};
use crate::message::{Obstacle, Refusal};
use consilium_attest::{NoisePolicy, NoiseSource};
use consilium_config::{Comparison, Release, Task};
use consilium_protocol::graph::{Network, Numbers, Plan, PlanError, ReleaseShape};
use consilium_protocol::privacy::{Budget, Cost, Delta, Mechanism, Ratio, Sampler, Unit, epsilon_of};
use consilium_protocol::stock::Gadget;
use std::sync::Mutex;

/// Public terms of a task, with everything derived from them once.
#[derive(Debug)]
pub struct TaskTerms {
    /// As the roster states it.
    pub roster: Task,
    /// Digest of the public terms.
    pub digest: [u8; 32],
    /// Fixed-point numbers.
    pub numbers: Numbers,
    /// How the label is released.
    pub mechanism: Mechanism,
    /// What every owner may lose in all, and one client may cause; `None` for exact releases.
    pub budget: Option<TaskBudget>,
    /// Whether noise may be drawn in software.
    pub policy: NoisePolicy,
    noise_magnitude_max: u64,
    noise: Mutex<Option<NoiseSource>>,
}

/// Budgets in integer units.
#[derive(Clone, Copy, Debug)]
pub struct TaskBudget {
    /// Unit of all amounts.
    pub unit: Unit,
    /// Price of one label.
    pub price: u64,
    /// Budget of each owner.
    pub owner: u64,
    /// Budget of each client.
    pub client: u64,
    /// Total epsilon of the promise.
    pub epsilon: Ratio,
    /// Its delta.
    pub delta: Option<Delta>,
}

/// Why a task of the roster cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("task {task}: {explanation}")]
pub struct TaskError {
    /// Name of the task.
    pub task: String,
    /// What does not fit, and what to change in the roster.
    pub explanation: String,
}

impl TaskTerms {
    /// Derives budgets and samplers.
    ///
    /// # Errors
    /// A number of the release is outside what the samplers or the accountant support.
    pub fn new(task: &Task) -> Result<Self, TaskError> {
        let error = |explanation: String| TaskError { task: task.name.to_string(), explanation };
        let ratio = |what: &str, text: String| {
            text.parse::<Ratio>().map_err(|problem| error(format!("{what} = {text}: {problem}")))
        };
        let (mechanism, terms, delta) = match &task.release {
            Release::Exact => (Mechanism::Exact, None, None),
            Release::Gaussian { sigma, delta, terms } => {
                let sigma = ratio("sigma", sigma.to_string())?;
                let square =
                    |value: u64| value.checked_mul(value).ok_or_else(|| error("sigma is too large".into()));
                let squared = Ratio::new(square(sigma.numerator())?, square(sigma.denominator())?);
                let sigma_squared = squared.map_err(|problem| error(format!("sigma: {problem}")))?;
                let text = delta.to_string();
                let delta =
                    text.parse::<Delta>().map_err(|problem| error(format!("delta = {text}: {problem}")))?;
                (Mechanism::Gaussian { sigma_squared }, Some(terms), Some(delta))
            }
            Release::Laplace { epsilon_per_answer, terms } => {
                let epsilon = ratio("epsilon_per_answer", epsilon_per_answer.to_string())?;
                (Mechanism::Laplace { epsilon }, Some(terms), None)
            }
        };
        let budget = match (terms, mechanism.cost()) {
            (Some(terms), Some(cost)) => {
                let epsilon = ratio("epsilon", terms.epsilon.to_string())?;
                let limit = |epsilon: Ratio| {
                    let limit = Budget { epsilon, delta }.limit(cost.unit());
                    limit.map(|limit| limit.amount()).map_err(|problem| error(problem.to_string()))
                };
                let client = match &terms.client_epsilon {
                    Some(client) => limit(ratio("client_epsilon", client.to_string())?)?,
                    None => u64::MAX,
                };
                let (unit, price) = (cost.unit(), cost.amount());
                Some(TaskBudget { unit, price, owner: limit(epsilon)?, client, epsilon, delta })
            }
            _ => None,
        };
        let policy = NoisePolicy { allow_software: terms.is_some_and(|terms| terms.software_noise) };
        let noise_magnitude_max =
            if mechanism == Mechanism::Exact { 0 } else { Sampler::new(&mechanism).magnitude_max() };
        Ok(Self {
            roster: task.clone(),
            digest: task.digest().to_bytes(),
            numbers: Numbers { fraction_bits: task.fraction_bits, value_bits: task.value_bits },
            mechanism,
            budget,
            policy,
            noise_magnitude_max,
            noise: Mutex::new(None),
        })
    }

    /// How a ledger opens the task's book.
    ///
    /// # Errors
    /// [`LedgerError::Promise`].
    pub fn opening(&self) -> Result<Opening, LedgerError> {
        let promise = match (self.budget, self.roster.release.terms()) {
            (Some(budget), Some(terms)) => {
                let covers = match terms.unit {
                    consilium_config::Unit::Owner => "owner",
                };
                Some(Promise::new(covers.to_owned(), budget.unit, budget.epsilon, budget.delta)?)
            }
            _ => None,
        };
        Ok(Opening::new(self.name().to_owned(), promise))
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        self.roster.name.as_str()
    }

    /// Classes that votes tell apart.
    pub fn classes(&self) -> usize {
        self.roster.classes.len()
    }

    /// Queries side by side.
    pub fn batch(&self) -> usize {
        self.roster.batch_queries as usize
    }

    /// Whether the roster allows this way of comparing.
    pub fn allows(&self, gadget: Gadget) -> bool {
        match self.roster.comparison {
            Comparison::Auto => true,
            Comparison::Digits => gadget == Gadget::Digits,
            Comparison::Nibbles => gadget == Gadget::Nibbles,
            Comparison::Keys => gadget == Gadget::Keys,
        }
    }

    /// The plan of these models, in the given order, with this way of comparing.
    ///
    /// # Errors
    /// A network does not fit the task.
    pub fn plan(&self, networks: &[Network], gadget: Gadget) -> Result<Plan, PlanError> {
        let release = ReleaseShape { noise_magnitude_max: self.noise_magnitude_max };
        Plan::compile(
            networks,
            self.roster.input,
            self.classes(),
            self.numbers,
            self.batch(),
            gadget,
            release,
        )
    }

    /// Runs `draw` with the task's source of noise.
    ///
    /// # Errors
    /// The policy does not allow the only source there is.
    pub fn with_noise<T>(
        &self,
        draw: impl FnOnce(&mut NoiseSource) -> Result<T, consilium_attest::NoiseError>,
    ) -> Result<T, Refusal> {
        let refused = |error: consilium_attest::NoiseError| Refusal::new(Obstacle::Noise, error);
        let mut held = self.noise.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let source = match held.take() {
            Some(source) => source,
            None => NoiseSource::choose(&self.mechanism, self.policy).map_err(refused)?,
        };
        draw(held.insert(source)).map_err(refused)
    }

    /// The epsilon of an amount spent, for people; `None` for exact releases.
    pub fn epsilon_spent(&self, spent: u64) -> Option<f64> {
        let budget = self.budget?;
        epsilon_of(Cost::new(budget.unit, spent), budget.delta).ok()
    }

    /// Whether `member` may ask.
    pub fn serves(&self, member: &str) -> bool {
        self.roster.clients.iter().any(|name| name.as_str() == member)
    }

    /// Whether `member` may publish.
    pub fn has_owner(&self, member: &str) -> bool {
        self.roster.owners.iter().any(|name| name.as_str() == member)
    }
}
