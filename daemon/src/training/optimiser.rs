//! Steps from gradients. The library has Adam but no momentum.

use super::forward::Parameters;
use super::recipe::{Optimiser, Recipe};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

/// An optimiser with its memory of earlier steps.
pub(super) enum Stepper {
    /// Momentum with a rate that falls to zero.
    Momentum(Momentum),
    /// Adam for weights, with decay, and for biases, without.
    Adam(AdamW, AdamW),
}

/// Memory of stochastic gradient descent.
pub(super) struct Momentum {
    variables: Vec<Moving>,
    momentum: f64,
    learning_rate: f64,
    step: usize,
    steps: usize,
}

struct Moving {
    variable: Var,
    velocity: Option<Tensor>,
    decay: f64,
}

impl Stepper {
    /// A fresh optimiser for a run of `steps` steps.
    pub(super) fn new(recipe: &Recipe, parameters: &[Parameters], steps: usize) -> Result<Self> {
        let weights = parameters.iter().map(|entry| entry.weight.clone());
        let biases = parameters.iter().map(|entry| entry.bias.clone());
        let (learning_rate, decay) = (recipe.learning_rate, recipe.weight_decay);
        match recipe.optimiser {
            Optimiser::Sgd { momentum } => {
                let moving = |decay| move |variable| Moving { variable, velocity: None, decay };
                let variables = weights.map(moving(decay)).chain(biases.map(moving(0.0))).collect();
                Ok(Self::Momentum(Momentum { variables, momentum, learning_rate, step: 0, steps }))
            }
            Optimiser::Adam => {
                let adam = |variables, weight_decay| {
                    let settings = ParamsAdamW { lr: learning_rate, weight_decay, ..ParamsAdamW::default() };
                    AdamW::new(variables, settings)
                };
                Ok(Self::Adam(adam(weights.collect(), decay)?, adam(biases.collect(), 0.0)?))
            }
        }
    }

    /// Moves the parameters by one step.
    pub(super) fn step(&mut self, gradients: &GradStore) -> Result<()> {
        match self {
            Self::Momentum(momentum) => momentum.step(gradients),
            Self::Adam(weights, biases) => {
                weights.step(gradients)?;
                biases.step(gradients)
            }
        }
    }
}

impl Momentum {
    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        let left = 1.0 - self.step as f64 / self.steps.max(1) as f64;
        let rate = self.learning_rate * left;
        self.step += 1;
        for Moving { variable, velocity, decay } in &mut self.variables {
            let Some(gradient) = gradients.get(variable.as_tensor()) else { continue };
            let mut push = gradient.clone();
            if *decay > 0.0 {
                push = (push + (variable.as_tensor() * *decay)?)?;
            }
            if let Some(earlier) = velocity.take() {
                push = (push + (earlier * self.momentum)?)?;
            }
            variable.set(&(variable.as_tensor() - (&push * rate)?)?)?;
            *velocity = Some(push.detach());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn parameters() -> Vec<Parameters> {
        let variable = |value: f32| Var::from_vec(vec![value], (1, 1), &Device::Cpu).unwrap();
        vec![Parameters { weight: variable(1.0), bias: variable(1.0) }]
    }

    fn positions(recipe: Recipe, steps: usize) -> (f32, f32) {
        let parameters = parameters();
        let mut stepper = Stepper::new(&recipe, &parameters, steps).unwrap();
        let value = |variable: &Var| variable.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        for _ in 0..steps {
            let entry = &parameters[0];
            let loss = (entry.weight.as_tensor() + entry.bias.as_tensor()).unwrap().sum_all().unwrap();
            stepper.step(&loss.backward().unwrap()).unwrap();
        }
        (value(&parameters[0].weight), value(&parameters[0].bias))
    }

    #[test]
    fn momentum_adds_up_while_the_rate_falls() {
        let optimiser = Optimiser::Sgd { momentum: 0.5 };
        let recipe = Recipe { optimiser, learning_rate: 0.1, batch: 1, epochs: 1, weight_decay: 0.0 };
        let (weight, bias) = positions(recipe, 2);
        assert_eq!(weight, bias);
        assert!((weight - (1.0 - 0.1 - 0.05 * 1.5)).abs() < 1e-6);
    }

    #[test]
    fn decay_shrinks_weights_and_spares_biases() {
        for optimiser in [Optimiser::Sgd { momentum: 0.0 }, Optimiser::Adam] {
            let recipe = Recipe { optimiser, learning_rate: 0.1, batch: 1, epochs: 1, weight_decay: 0.5 };
            let (weight, bias) = positions(recipe, 1);
            assert!((bias - 0.9).abs() < 1e-6, "{optimiser:?}");
            assert!((weight - 0.85).abs() < 1e-6, "{optimiser:?}");
        }
    }
}
