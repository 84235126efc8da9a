//! Members and tasks of a run, whatever its models are.

use super::{MAIN, WorldError, names, parse, task, tasks};
use crate::demo::one_class::Crowd;
use crate::demo::scenario::{Noise, Preprocessing, Scenario};
use consilium_config::{Comparison, Kind, NOBODY, Name, Release, Stock, Task};
use std::time::Duration;

/// What the processes of a run must know.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Members that have models.
    pub owners: Vec<String>,
    /// What the first pair answers.
    pub tasks: Vec<Task>,
    /// Who makes correlated randomness.
    pub preprocessing: Preprocessing,
    /// Where noise comes from.
    pub noise: Noise,
    /// Longest time for one question.
    pub query_deadline: Duration,
    /// Whether there is a second pair.
    pub standby: bool,
}

impl Layout {
    /// Hospitals whose models vote.
    ///
    /// # Errors
    /// A name or number that the configuration refuses.
    pub fn of(scenario: &Scenario) -> Result<Self, WorldError> {
        Ok(Self {
            owners: scenario.hospitals.iter().map(|hospital| hospital.name.clone()).collect(),
            tasks: tasks::ALL.iter().map(|name| task::of(name, scenario)).collect::<Result<_, _>>()?,
            preprocessing: scenario.preprocessing,
            noise: scenario.releases.noise.clone(),
            query_deadline: scenario.query_deadline,
            standby: scenario.standby.is_some(),
        })
    }

    /// Users of whom one is named, or nobody, by a task without noise.
    ///
    /// # Errors
    /// A name or number that the configuration refuses.
    pub fn one_class(crowd: &Crowd) -> Result<Self, WorldError> {
        let owners: Vec<String> = crowd.users.iter().map(|user| user.name.clone()).collect();
        let members = owners.iter().map(|name| parse(name)).collect::<Result<Vec<Name>, _>>()?;
        let task = Task {
            name: parse(tasks::EXACT)?,
            title: crowd.title.clone(),
            kind: Kind::OneClass,
            pair: parse(MAIN)?,
            input: crowd.shape.input,
            classes: owners.iter().cloned().chain([NOBODY.to_owned()]).collect(),
            input_abs_max: crowd.input_abs_max,
            fraction_bits: crowd.shape.numbers.fraction_bits,
            value_bits: crowd.shape.numbers.value_bits,
            distance_bits: Some(crowd.shape.distance_bits),
            owners_min: members.len() as u32,
            shards: 1,
            owners: members,
            clients: vec![parse(names::CLIENT)?],
            batch_queries: 1,
            comparison: Comparison::default(),
            stock: Stock { low: crowd.pool.0, high: crowd.pool.1 },
            standby: Vec::new(),
            image: None,
            features: None,
            release: Release::Exact,
        };
        Ok(Self {
            owners,
            tasks: vec![task],
            preprocessing: crowd.preprocessing,
            noise: Noise::software(),
            query_deadline: crowd.query_deadline,
            standby: false,
        })
    }
}
