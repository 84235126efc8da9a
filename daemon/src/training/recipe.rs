//! How to train: the settings, and presets that the published baselines were made with.

/// Most passes over the data.
pub const EPOCHS_MAX: usize = 10_000;
/// Most examples in one step.
pub const BATCH_MAX: usize = 1 << 14;

/// How a step follows from a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimiser {
    /// Stochastic gradient descent; the learning rate falls linearly from step to step, towards 0.
    Sgd {
        /// Share of the last step that the next one keeps, in `[0, 1)`.
        momentum: f64,
    },
    /// Adam with a constant learning rate (moments 0.9 and 0.999).
    Adam,
}

/// Settings of one training run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// How a step follows from a gradient.
    pub optimiser: Optimiser,
    /// Size of the first step, above 0.
    pub learning_rate: f64,
    /// Examples per step, between 1 and [`BATCH_MAX`]. The last step of an epoch takes what is left.
    pub batch: usize,
    /// Passes over the data, between 1 and [`EPOCHS_MAX`].
    pub epochs: usize,
    /// Shrinks weights (never biases) at each step: added to the gradient as `weight_decay * w` under SGD,
    /// taken off as `learning_rate * weight_decay * w` under Adam. 0 switches it off.
    pub weight_decay: f64,
}

/// A setting outside its range.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("recipe: {setting} is {value}, it must be {range}")]
pub struct RecipeError {
    /// Name of the setting.
    pub setting: &'static str,
    /// What it is.
    pub value: f64,
    /// What it may be.
    pub range: &'static str,
}

impl Recipe {
    /// For small networks on tables: Adam, about 800 steps in all.
    pub fn table(examples: usize) -> Self {
        let (batch, epochs_most) = match examples {
            0..200 => (8, 400),
            200..3_000 => (32, 100),
            _ => (64, 100),
        };
        let epochs = (800usize * batch).div_ceil(examples.max(1)).clamp(12, epochs_most);
        Self { optimiser: Optimiser::Adam, learning_rate: 1e-3, batch, epochs, weight_decay: 0.0 }
    }

    /// For fully connected networks on images scaled to `[0, 1]`.
    pub fn images(examples: usize) -> Self {
        let batch = match examples {
            0..150 => 16,
            150..3_000 => 32,
            _ => 64,
        };
        let epochs = if examples < 1_000 { 30 } else { 15 };
        let optimiser = Optimiser::Sgd { momentum: 0.9 };
        Self { optimiser, learning_rate: 0.05, batch, epochs, weight_decay: 0.0 }
    }

    /// For convolutional networks on images scaled to `[0, 1]`.
    pub fn convolution(examples: usize) -> Self {
        let batch = if examples < 150 { 16 } else { 32 };
        let epochs = if examples < 3_000 { 15 } else { 10 };
        // At 0.05 the network of one X-ray owner in six answered one class for everything; at 0.02 none did.
        Self { learning_rate: 0.02, batch, epochs, ..Self::images(examples) }
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// [`RecipeError`] names the first setting at fault.
    pub fn check(&self) -> Result<(), RecipeError> {
        let momentum = match self.optimiser {
            Optimiser::Sgd { momentum } => momentum,
            Optimiser::Adam => 0.0,
        };
        let fault = |setting, value, range| Err(RecipeError { setting, value, range });
        if !(0.0..1.0).contains(&momentum) {
            return fault("momentum", momentum, "at least 0 and below 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return fault("learning rate", self.learning_rate, "a positive number");
        }
        if !(1..=BATCH_MAX).contains(&self.batch) {
            return fault("batch", self.batch as f64, "between 1 and 16384");
        }
        if !(1..=EPOCHS_MAX).contains(&self.epochs) {
            return fault("epochs", self.epochs as f64, "between 1 and 10000");
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            return fault("weight decay", self.weight_decay, "between 0 and 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_at_every_size() {
        for examples in [0, 1, 45, 199, 200, 455, 1_500, 6_000, 60_000, usize::MAX] {
            for recipe in [Recipe::table(examples), Recipe::images(examples), Recipe::convolution(examples)] {
                recipe.check().unwrap();
            }
        }
    }

    #[test]
    fn tables_get_about_eight_hundred_steps() {
        for examples in [45usize, 91, 455, 1_000, 4_000] {
            let recipe = Recipe::table(examples);
            let steps = recipe.epochs * examples.div_ceil(recipe.batch);
            assert!((700..=1_000).contains(&steps), "{examples} examples take {steps} steps");
        }
    }

    #[test]
    fn each_setting_is_bounded() {
        let good = Recipe::images(6_000);
        let optimiser = Optimiser::Sgd { momentum: 1.0 };
        for (bad, setting) in [
            (Recipe { optimiser, ..good }, "momentum"),
            (Recipe { learning_rate: f64::NAN, ..good }, "learning rate"),
            (Recipe { learning_rate: 0.0, ..good }, "learning rate"),
            (Recipe { batch: 0, ..good }, "batch"),
            (Recipe { batch: BATCH_MAX + 1, ..good }, "batch"),
            (Recipe { epochs: 0, ..good }, "epochs"),
            (Recipe { epochs: EPOCHS_MAX + 1, ..good }, "epochs"),
            (Recipe { weight_decay: -0.1, ..good }, "weight decay"),
        ] {
            assert_eq!(bad.check().unwrap_err().setting, setting);
        }
    }
}
