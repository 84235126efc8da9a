//! Classifiers of encodings of several hospitals, and of plain images.

use super::{SIDE, Setting, TrialError, images, seed};
use crate::data::Dataset;
use consilium::lab::{
    EncoderKey, EncoderShape, Images, Making, Parts, Quality, encode, encoded_rows, plain_rows, shuffled,
    together, token_recipe, try_classifier,
};
use consilium::training::{Examples, Statistics};
use serde::Serialize;

const PATCH: usize = 4;
const PRIVATE_DEPTH: usize = 4;
const MAKING: Making = Making { statistics: Statistics::Batch, batch: 64 };

/// So many hospitals, each with a key of its own.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Joint {
    /// Hospitals.
    pub hospitals: usize,
    /// Training images of each.
    pub per_hospital: usize,
    /// One classifier of the encodings of all, by seed.
    pub together: Vec<Quality>,
    /// A classifier of each hospital's encodings, tested with its own, by seed and hospital.
    pub alone: Vec<Quality>,
    /// One classifier of all plain images, by seed.
    pub plain: Vec<Quality>,
    /// A classifier of each hospital's plain images, tested with its own, by seed and hospital.
    pub plain_alone: Vec<Quality>,
}

/// Trains all classifiers for a number of hospitals. `tick` hears of each seed.
///
/// # Errors
/// Too few images.
pub fn joint(
    setting: &Setting,
    hospitals: usize,
    data: &Dataset,
    tick: &dyn Fn(),
) -> Result<Joint, TrialError> {
    let shape =
        EncoderShape { side: SIDE, patch: PATCH, width: setting.joint_width, private_depth: PRIVATE_DEPTH };
    let mut joint = Joint { hospitals, per_hospital: setting.per_hospital, ..Joint::default() };
    for repetition in 0..setting.seeds {
        let train = dealt(&data.train, hospitals, setting.per_hospital, repetition)?;
        let test = dealt(&data.test, hospitals, data.test.rows() / hospitals.max(1), repetition)?;
        let (mut encoded, mut plain) = (Vec::new(), Vec::new());
        for (hospital, (train, test)) in (0..).zip(train.iter().zip(&test)) {
            let key = EncoderKey::draw(shape, &seed("hospital", 1000 * repetition + hospital))?;
            let rows = |images: &Images, what| -> Result<Examples, TrialError> {
                let made = encode(&key, images, MAKING, &seed(what, repetition), &mut |_, _| ())?;
                Ok(encoded_rows(&made.encodings)?)
            };
            encoded.push(Parts { train: rows(train, "train")?, test: rows(test, "test")? });
            plain.push(Parts { train: plain_rows(train, shape)?, test: plain_rows(test, shape)? });
        }
        for (parts, with_front, all, alone) in [
            (encoded, false, &mut joint.together, &mut joint.alone),
            (plain, true, &mut joint.plain, &mut joint.plain_alone),
        ] {
            let recipe = token_recipe(shape, data.classes.len(), with_front);
            let quality = |parts: &Parts| -> Result<Quality, TrialError> {
                Ok(try_classifier(parts, &recipe, repetition, &mut |_, _| ())?.1)
            };
            let whole = Parts {
                train: together(parts.iter().map(|part| &part.train))?,
                test: together(parts.iter().map(|part| &part.test))?,
            };
            all.push(quality(&whole)?);
            for part in &parts {
                alone.push(quality(part)?);
            }
        }
        tick();
    }
    Ok(joint)
}

/// As many images for each hospital, none for two of them.
fn dealt(rows: &Examples, hospitals: usize, each: usize, repetition: u64) -> Result<Vec<Images>, TrialError> {
    let order = shuffled(rows.rows(), &seed("deal", repetition));
    let wanted = hospitals.saturating_mul(each);
    if wanted > order.len() || each == 0 {
        return Err(TrialError::Images { wanted, found: order.len() });
    }
    order[..wanted].chunks_exact(each).map(|places| images(rows, places)).collect()
}
