//! The attack on encodings.

use super::{SIDE, Setting, TrialError, images, seed};
use consilium::lab::{
    AttackSetting, CloneSetting, EncoderKey, EncoderShape, Figure, Making, Stage, attempt, encode, shuffled,
    spread,
};
use consilium::training::{Examples, Statistics};
use serde::Serialize;
use std::time::Instant;

/// Private depths that are attacked, deepest first: 4 is depth 7 of the paper, 0 is depth 3.
const PRIVATE_DEPTHS: [usize; 2] = [4, 0];
const PATCH: usize = 4;
/// Batches as an encoder is run; the attacker does not know which images shared one.
const MAKING: Making = Making { statistics: Statistics::Batch, batch: 64 };

/// An encoder, attacked as often as there are seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Theft {
    /// Sizes.
    pub shape: EncoderShape,
    /// As the paper counts it.
    pub depth: usize,
    /// What the attacks found.
    pub figures: Vec<Figure>,
    /// Seconds of each attack without a clone, encoding of the candidates included.
    pub seconds: Vec<f64>,
    /// Seconds of each training of clones.
    pub clone_seconds: Vec<f64>,
}

impl Theft {
    /// Mean and standard deviation of a stage's share, if it was made.
    pub fn share(&self, stage: Stage) -> Option<(f64, f64)> {
        let of =
            |figure: &Figure| figure.found.iter().find(|found| found.stage == stage).map(|found| found.share);
        let shares: Vec<f64> = self.figures.iter().filter_map(of).collect();
        (!shares.is_empty()).then(|| spread(shares.iter().copied()))
    }

    /// Least share of patches brought to their position.
    pub fn undone(&self) -> f64 {
        self.figures.iter().map(|figure| figure.shuffle_undone).fold(1.0, f64::min)
    }
}

/// Attacks every depth and width. `tick` hears of each attack.
///
/// # Errors
/// Too few images.
pub fn thefts(setting: &Setting, rows: &Examples, tick: &dyn Fn()) -> Result<Vec<Theft>, TrialError> {
    let mut thefts = Vec::new();
    for private_depth in PRIVATE_DEPTHS {
        for width in &setting.widths {
            let shape = EncoderShape { side: SIDE, patch: PATCH, width: *width, private_depth };
            thefts.push(theft(setting, rows, shape, tick)?);
        }
    }
    Ok(thefts)
}

fn theft(
    setting: &Setting,
    rows: &Examples,
    shape: EncoderShape,
    tick: &dyn Fn(),
) -> Result<Theft, TrialError> {
    let mut theft = Theft {
        shape,
        depth: shape.depth(),
        figures: Vec::new(),
        seconds: Vec::new(),
        clone_seconds: Vec::new(),
    };
    for repetition in 0..setting.seeds {
        let order = shuffled(rows.rows(), &seed("images", repetition));
        let chosen = images(rows, &order[..setting.images.min(order.len())])?;
        let key = EncoderKey::draw(shape, &seed("key", repetition))?;
        let encoded = encode(&key, &chosen, MAKING, &seed("order", repetition), &mut |_, _| ())?;
        let attempted = |clone: Option<CloneSetting>| -> Result<(Figure, f64), TrialError> {
            let setting =
                AttackSetting { own_encoders: setting.own, clone, seed: seed("attack", repetition) };
            let started = Instant::now();
            let figure = attempt(&encoded.encodings, &encoded.truth, &chosen, &setting, &mut |_, _| ())?;
            Ok((figure, started.elapsed().as_secs_f64()))
        };
        let (mut figure, seconds) = attempted(None)?;
        theft.seconds.push(seconds);
        // Patches leave a clone nothing to do, so that it begins with what images alone tell.
        if setting.clone && shape.private_depth > 0 && setting.widths.first() == Some(&shape.width) {
            let clone = CloneSetting { from: Stage::Images, ..CloneSetting::default() };
            let (with_clone, more) = attempted(Some(clone))?;
            theft.clone_seconds.push((more - seconds).max(0.0));
            figure.found.extend(with_clone.last().filter(|found| found.stage == Stage::Clone));
        }
        theft.figures.push(figure);
        tick();
    }
    Ok(theft)
}
