//! A task of the roster as the daemon works with it.

use crate::ledger::{LedgerError, Opening, Promise, sliced};
use crate::message::{Obstacle, Refusal};
use crate::registry::Encoding;
use consilium_attest::choice::NoiseRule;
use consilium_attest::module::specification::VALUES_MAX;
use consilium_attest::{NoiseError, NoiseShare, NoiseSource};
use consilium_config::{Comparison, Fraction, Kind, Release, Task, Unit as Covered};
use consilium_protocol::graph::{
    Architecture, Measure, Network, Numbers, OneClassShape, Plan, PlanError, ReleaseShape, Threshold,
};
use consilium_protocol::privacy::{Budget, Cost, Delta, Mechanism, Ratio, Sampler, Unit, epsilon_of};
use consilium_protocol::stock::Gadget;
use ring::digest::{SHA256, digest};
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
    /// Where noise may come from; `None` for exact releases.
    pub rule: Option<NoiseRule>,
    release: ReleaseShape,
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
    /// Total epsilon of the promise, over all pairs.
    pub epsilon: Ratio,
    /// Its delta.
    pub delta: Option<Delta>,
    /// The part of the budgets that these limits are, in a pair's own view; `None` for all of them.
    pub slice: Option<Ratio>,
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
    /// Derives budgets and samplers, of all pairs together.
    ///
    /// # Errors
    /// A number of the release is outside what the samplers or the accountant support.
    pub fn new(task: &Task) -> Result<Self, TaskError> {
        Self::sliced(task, None)
    }

    /// The same in the view of one of the task's pairs: its limits are its slice of the budgets.
    ///
    /// # Errors
    /// As [`TaskTerms::new`].
    pub fn of_pair(task: &Task, pair: &str) -> Result<Self, TaskError> {
        let Some(slice) = task.slice_of(pair) else { return Self::sliced(task, None) };
        let ratio = Ratio::new(slice.numerator(), slice.denominator());
        let error = |problem| TaskError {
            task: task.name.to_string(),
            explanation: format!("the slice {slice} of pair {pair}: {problem}"),
        };
        Self::sliced(task, Some(ratio.map_err(error)?))
    }

    fn sliced(task: &Task, slice: Option<Ratio>) -> Result<Self, TaskError> {
        let error = |explanation: String| TaskError { task: task.name.to_string(), explanation };
        let ratio = |what: &str, text: String| {
            text.parse::<Ratio>().map_err(|problem| error(format!("{what} = {text}: {problem}")))
        };
        let (mechanism, delta) = mechanism(&task.release).map_err(error)?;
        let terms = task.release.terms();
        let budget = match (terms, mechanism.cost()) {
            (Some(terms), Some(cost)) => {
                let epsilon = ratio("epsilon", terms.epsilon.to_string())?;
                let limit = |epsilon: Ratio| {
                    let limit = Budget { epsilon, delta }.limit(cost.unit());
                    let limit = limit.map_err(|problem| error(problem.to_string()))?;
                    Ok(sliced(limit.amount(), slice))
                };
                let client = match &terms.client_epsilon {
                    Some(client) => limit(ratio("client_epsilon", client.to_string())?)?,
                    None => u64::MAX,
                };
                let (unit, price) = (cost.unit(), cost.amount());
                Some(TaskBudget { unit, price, owner: limit(epsilon)?, client, epsilon, delta, slice })
            }
            _ => None,
        };
        let rule = terms.map(|terms| terms.noise);
        if rule.is_some_and(|rule| rule != NoiseRule::Software) {
            let values = values_of(&mechanism, task.classes.len(), task.batch_queries as usize);
            if values > VALUES_MAX {
                return Err(error(format!(
                    "one release takes {values} integers of noise, the module draws {VALUES_MAX} at once; lower \
                     `batch_queries`"
                )));
            }
        }
        Ok(Self {
            roster: task.clone(),
            digest: task.digest().to_bytes(),
            numbers: Numbers { fraction_bits: task.fraction_bits, value_bits: task.value_bits },
            mechanism,
            budget,
            rule,
            release: release_shape(&mechanism),
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
                // Of patients, with the number of models: the loss of their owner depends on it.
                let covers = match terms.unit {
                    Covered::Owner => terms.unit.as_str().to_owned(),
                    Covered::Patient => format!("patient ({} models of each owner)", self.roster.shards),
                };
                let promise = Promise::new(covers, budget.unit, budget.epsilon, budget.delta)?;
                Some(promise.of_pair(budget.slice)?)
            }
            _ => None,
        };
        Ok(Opening::new(self.name().to_owned(), promise))
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        self.roster.name.as_str()
    }

    /// Labels that there are: classes that votes tell apart, or all owners of a one-class task and nobody.
    pub fn classes(&self) -> usize {
        self.roster.classes.len()
    }

    /// Whether the answer is the owner whose model is nearest, of those that take part, or nobody.
    pub fn is_one_class(&self) -> bool {
        self.roster.kind == Kind::OneClass
    }

    /// Bits before the point of a distance; 0 where there are none.
    pub fn distance_bits(&self) -> u32 {
        self.roster.distance_bits.unwrap_or(0)
    }

    /// How models are written as words. It changes with whatever of the roster the words depend on.
    pub fn encoding(&self) -> Encoding {
        let Task { kind, input, fraction_bits, value_bits, distance_bits, input_abs_max, .. } = &self.roster;
        let text = format!(
            "consilium encoding 1: {kind:?} {input} {fraction_bits} {value_bits} {distance_bits:?} {input_abs_max}"
        );
        let hash = digest(&SHA256, text.as_bytes());
        let mut encoding = [0; 16];
        encoding.copy_from_slice(&hash.as_ref()[..16]);
        Encoding(encoding)
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
    pub fn plan(&self, models: &[Architecture], gadget: Gadget) -> Result<Plan, PlanError> {
        let (input, numbers, batch) = (self.roster.input, self.numbers, self.batch());
        match self.roster.kind {
            Kind::Vote => {
                let networks = models.iter().enumerate().map(network).collect::<Result<Vec<_>, _>>()?;
                Plan::compile(&networks, input, self.classes(), numbers, batch, gadget, self.release)
            }
            Kind::OneClass => {
                let measures = models.iter().enumerate().map(measure).collect::<Result<Vec<_>, _>>()?;
                let shape = OneClassShape { input, numbers, distance_bits: self.distance_bits() };
                Plan::one_class(&measures, shape, batch, gadget, self.release)
            }
        }
    }

    /// How large this party's noise may be and what the top count must reach, as the plan needs it.
    pub fn release(&self) -> ReleaseShape {
        self.release
    }

    /// Whether an answer may be that there is no consensus, for which its shares have a bit.
    pub fn may_abstain(&self) -> bool {
        self.mechanism.threshold().is_some()
    }

    /// Bits of a party's share of one row's answer: one for each class but the last, and one for the consensus
    /// where there may be none. Of a one-class task: one for each of the `users` that take part.
    pub fn answer_bits(&self, users: usize) -> usize {
        match self.roster.kind {
            Kind::Vote => self.classes() - 1 + usize::from(self.may_abstain()),
            Kind::OneClass => users,
        }
    }

    /// The label of an owner of a one-class task.
    pub fn label_of(&self, owner: &str) -> Option<usize> {
        self.roster.owners.iter().position(|name| name.as_str() == owner)
    }

    /// Full noise of this party's own for one column of a release.
    ///
    /// # Errors
    /// The task's rule does not allow software noise.
    pub fn software_noise(&self) -> Result<NoiseShare, Refusal> {
        let refused = |error: NoiseError| Refusal::new(Obstacle::Noise, error);
        let mut held = self.noise.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let source = match held.take() {
            Some(source) => source,
            None => {
                let rule = self.rule.unwrap_or(NoiseRule::Module);
                NoiseSource::choose(&self.mechanism, rule).map_err(refused)?
            }
        };
        held.insert(source).draw(self.classes(), &mut rand::rng()).map_err(refused)
    }

    /// Whether the module that draws noise is a source for it.
    pub fn takes_module_noise(&self) -> bool {
        self.rule.is_some_and(|rule| rule != NoiseRule::Software)
    }

    /// Integers of noise that one release takes.
    pub fn noise_values(&self) -> usize {
        values_of(&self.mechanism, self.classes(), self.batch())
    }

    /// Answers for which the budget of an owner that signed none pays; `None` for an exact release.
    pub fn answers_paid(&self) -> Option<u64> {
        let budget = self.budget?;
        budget.owner.min(budget.client).checked_div(budget.price)
    }

    /// The epsilon of an amount spent, for people; `None` for exact releases.
    pub fn epsilon_spent(&self, spent: u64) -> Option<f64> {
        let budget = self.budget?;
        epsilon_of(Cost::new(budget.unit, spent), budget.delta).ok()
    }

    /// Models of each owner.
    pub fn shards(&self) -> usize {
        self.roster.shards as usize
    }

    /// Refuses a registration of `count` models where the task asks each owner for another number.
    ///
    /// # Errors
    /// The reason, and what to do.
    pub fn check_shards(&self, count: usize) -> Result<(), Refusal> {
        let (task, wanted) = (self.name(), self.shards());
        let text = match (count, wanted) {
            _ if count == wanted => return Ok(()),
            (_, 1) => format!(
                "{count} models at once, and task {task} takes one of each owner (its roster has no `shards`)"
            ),
            _ => format!(
                "{count} of {wanted} models: task {task} takes exactly {wanted} of each owner at once, each \
                 trained on patients of its own, with `consilium model publish --shards FOLDER --task {task}`"
            ),
        };
        Err(Refusal::new(Obstacle::Model, text))
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

fn network((model, architecture): (usize, &Architecture)) -> Result<Network, PlanError> {
    match architecture {
        Architecture::Classifier(network) => Ok(network.clone()),
        Architecture::OneClass { .. } => {
            Err(PlanError::Kind { model, expected: "classifiers", found: "a one-class model" })
        }
    }
}

fn measure((model, architecture): (usize, &Architecture)) -> Result<Measure, PlanError> {
    match architecture {
        Architecture::OneClass { measure } => Ok(measure.clone()),
        Architecture::Classifier(_) => {
            Err(PlanError::Kind { model, expected: "one-class models", found: "a classifier" })
        }
    }
}

fn values_of(mechanism: &Mechanism, classes: usize, batch: usize) -> usize {
    (classes + usize::from(mechanism.threshold_noise().is_some())) * batch
}

/// The mechanism of a release, and the delta of its promise.
fn mechanism(release: &Release) -> Result<(Mechanism, Option<Delta>), String> {
    let delta = |delta: &Fraction| {
        let text = delta.to_string();
        text.parse::<Delta>().map(Some).map_err(|problem| format!("delta = {text}: {problem}"))
    };
    Ok(match release {
        Release::Exact => (Mechanism::Exact, None),
        Release::Gaussian { sigma, delta: failing, .. } => {
            (Mechanism::Gaussian { sigma_squared: variance("sigma", *sigma)? }, delta(failing)?)
        }
        Release::ConfidentGaussian { sigma, threshold, threshold_sigma, delta: failing, .. } => {
            let mechanism = Mechanism::ConfidentGaussian {
                sigma_squared: variance("sigma", *sigma)?,
                threshold: *threshold,
                threshold_sigma_squared: variance("threshold_sigma", *threshold_sigma)?,
            };
            (mechanism, delta(failing)?)
        }
        Release::Laplace { epsilon_per_answer, .. } => {
            let text = epsilon_per_answer.to_string();
            let epsilon = text.parse::<Ratio>();
            let epsilon = epsilon.map_err(|problem| format!("epsilon_per_answer = {text}: {problem}"))?;
            (Mechanism::Laplace { epsilon }, None)
        }
    })
}

/// The square of a deviation, exactly.
fn variance(key: &str, sigma: Fraction) -> Result<Ratio, String> {
    let square = |value: u64| value.checked_mul(value).ok_or_else(|| format!("{key} is too large"));
    let squared = Ratio::new(square(sigma.numerator())?, square(sigma.denominator())?);
    squared.map_err(|problem| format!("{key}: {problem}"))
}

/// What the noise of a mechanism may reach, and its threshold, as a plan needs them.
pub fn release_shape(mechanism: &Mechanism) -> ReleaseShape {
    let noise_magnitude_max =
        if *mechanism == Mechanism::Exact { 0 } else { Sampler::new(mechanism).magnitude_max() };
    let threshold = mechanism.threshold().zip(mechanism.threshold_noise()).map(|(votes, noise)| Threshold {
        votes: u64::from(votes),
        noise_magnitude_max: Sampler::new(&noise).magnitude_max(),
    });
    ReleaseShape { noise_magnitude_max, threshold }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{EXAMPLE_ROSTER, Roster};
    use consilium_protocol::privacy::COST_ONE;

    fn terms(name: &str) -> TaskTerms {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        TaskTerms::new(roster.task(name).unwrap()).unwrap()
    }

    #[test]
    fn an_attempt_at_a_consensus_has_one_price_and_one_bit_more() {
        let (plain, agreed) = (terms("breast-cancer"), terms("digits-agreed"));
        assert_eq!((plain.may_abstain(), plain.answer_bits(3), plain.classes()), (false, 1, 2));
        assert_eq!((agreed.may_abstain(), agreed.answer_bits(3), agreed.classes()), (true, 10, 10));
        // Both deviations are 2: a label costs 1/4, the test of the threshold another 1/8.
        let price = |terms: &TaskTerms| terms.budget.unwrap().price;
        assert_eq!((price(&plain), price(&agreed)), (COST_ONE / 4, COST_ONE / 4 + COST_ONE / 8));
        let threshold = agreed.release().threshold.unwrap();
        assert_eq!((threshold.votes, plain.release().threshold), (2, None));
        assert_eq!(threshold.noise_magnitude_max, agreed.release().noise_magnitude_max);
        assert!(agreed.mechanism.to_string().contains("top count reaches 2 under noise of variance 4"));
    }

    #[test]
    fn each_pair_has_its_slice_of_every_limit() {
        let whole = terms("readmission-twice");
        let mut task = whole.roster.clone();
        let Release::Gaussian { terms, .. } = &mut task.release else { panic!("another mechanism") };
        terms.client_epsilon = Some("2".parse().unwrap());
        let whole = TaskTerms::new(&task).unwrap();
        let pairs = ["main", "second"].map(|pair| TaskTerms::of_pair(&task, pair).unwrap());
        let limits = |terms: &TaskTerms| {
            let budget = terms.budget.unwrap();
            (budget.owner, budget.client)
        };
        let (owner, client) = limits(&whole);
        let ((main, main_client), (second, second_client)) = (limits(&pairs[0]), limits(&pairs[1]));
        assert!(main + second <= owner && owner - main - second < 2);
        assert!(main_client + second_client <= client && client - main_client - second_client < 2);
        assert_eq!(second, (u128::from(owner) * 3 / 10) as u64);
        // Losses of all pairs add up before they become an epsilon, so the promise is that of one pair alone.
        assert!(whole.epsilon_spent(main + second).unwrap() <= 8.0);
        assert_eq!([&whole, &pairs[0], &pairs[1]].map(|terms| terms.digest), [whole.digest; 3]);
        // What a pair is opened with says which part it is, and what it measures is the task's own.
        let promise = pairs[1].opening().unwrap().promise.unwrap();
        assert_eq!((promise.slice, promise.owner_limit), (Some("3/10".parse().unwrap()), second));
        assert_eq!(promise.epsilon, whole.budget.unwrap().epsilon);
        assert_eq!(whole.opening().unwrap().promise.unwrap().slice, None);
        // A client without a limit of its own has none in any pair.
        assert_eq!(
            limits(&TaskTerms::of_pair(&terms_of("readmission-twice"), "second").unwrap()).1,
            u64::MAX
        );
        assert_eq!(TaskTerms::of_pair(&terms_of("digits-exact"), "main").unwrap().answers_paid(), None);
    }

    fn terms_of(name: &str) -> Task {
        terms(name).roster
    }

    #[test]
    fn noise_comes_in_the_shape_of_the_plan() {
        let mut roster = terms("digits-agreed").roster;
        let Release::ConfidentGaussian { terms, .. } = &mut roster.release else {
            panic!("another mechanism")
        };
        terms.noise = NoiseRule::Software;
        let terms = TaskTerms::new(&roster).unwrap();
        let noise = terms.software_noise().unwrap();
        let gate = terms.release().gate(3, terms.classes(), 1, Gadget::Digits).unwrap();
        assert_eq!(noise.into_values().len(), gate.noise_words());
        assert_eq!(terms.answer_bits(3), gate.bits_per_query());
    }
}
