//! The tasks of a demo.

use super::super::scenario::Scenario;
use super::{MAIN, SECOND, WorldError, parse};
use super::{names, tasks};
use consilium_config::{Comparison, Kind, Release, Standby, Stock, Task, Terms, Unit};

pub(super) fn of(name: &str, scenario: &Scenario) -> Result<Task, WorldError> {
    let releases = &scenario.releases;
    let gaussian = |epsilon: &str| -> Result<Release, WorldError> {
        let unit = if scenario.shards() == 1 { Unit::Owner } else { Unit::Patient };
        let terms =
            Terms { unit, epsilon: parse(epsilon)?, client_epsilon: None, noise: releases.noise.rule };
        let (sigma, delta) = (parse(&releases.sigma)?, parse(&releases.delta)?);
        Ok(match &releases.confident {
            None => Release::Gaussian { sigma, delta, terms },
            Some(confident) => Release::ConfidentGaussian {
                sigma,
                threshold: confident.threshold,
                threshold_sigma: parse(&confident.sigma)?,
                delta,
                terms,
            },
        })
    };
    let owners =
        scenario.hospitals.iter().map(|hospital| parse(&hospital.name)).collect::<Result<Vec<_>, _>>()?;
    Ok(Task {
        name: parse(name)?,
        title: scenario.title.clone(),
        kind: Kind::Vote,
        distance_bits: None,
        pair: parse(MAIN)?,
        input: scenario.input,
        classes: scenario.classes.clone(),
        input_abs_max: scenario.input_abs_max,
        fraction_bits: scenario.numbers.fraction_bits,
        value_bits: scenario.numbers.value_bits,
        owners_min: owners.len() as u32,
        shards: scenario.shards() as u32,
        owners,
        clients: vec![parse(names::CLIENT)?],
        batch_queries: 1,
        comparison: Comparison::default(),
        stock: Stock { low: scenario.pool.0, high: scenario.pool.1 },
        standby: match (&scenario.standby, name) {
            (None, _) => Vec::new(),
            (Some(_), tasks::EXACT) => vec![Standby { pair: parse(SECOND)?, slice: None }],
            (Some(slice), _) => vec![Standby { pair: parse(SECOND)?, slice: Some(parse(slice)?) }],
        },
        image: None,
        features: scenario.features(),
        release: match name {
            tasks::EXACT => Release::Exact,
            tasks::SERVICE => gaussian(&releases.epsilon)?,
            _ => gaussian(&releases.evaluation_epsilon)?,
        },
    })
}
