//! A clone of the encoder, trained on the pairs that look surest.

use super::assignment::assign;
use super::geometry::Geometry;
use super::{Matching, Stage, Undone, by_position, matching};
use crate::lab::{EncoderKey, EncoderShape, Images, LabError};
use crate::training::{CloneRecipe, Encoder, Statistics, train_clone};
use consilium_protocol::algebra::prg::{Prg, Seed};

/// Share of pairs that each round trains on, and how many rounds there are at most.
const SHARES: [f64; 3] = [0.5, 0.8, 1.0];

/// How a clone is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CloneSetting {
    /// The stage whose matching it begins with.
    pub from: Stage,
    /// How each round trains.
    pub recipe: CloneRecipe,
}

impl Default for CloneSetting {
    fn default() -> Self {
        Self { from: Stage::Patches, recipe: CloneRecipe { steps: 150, batch: 32, learning_rate: 1e-3 } }
    }
}

/// What a clone is trained on.
pub(super) struct Ground<'a> {
    pub(super) shape: EncoderShape,
    pub(super) undone: &'a Undone,
    pub(super) candidates: &'a Images,
    pub(super) of_encodings: &'a Geometry,
    pub(super) of_candidates: &'a Geometry,
}

impl Ground<'_> {
    /// A matching by what a clone makes of the candidates, trained in rounds on more and more pairs of the last one.
    pub(super) fn match_again(
        &self,
        recipe: CloneRecipe,
        mut matching: Matching,
        seed: &Seed,
        heard: &mut dyn FnMut(),
    ) -> Result<Matching, LabError> {
        let (shape, images) = (self.shape, self.candidates.count());
        let targets = self.targets(&matching)?;
        let patches = self.candidates.patches(shape, 0..images);
        let mut sureness = matching::sureness(&self.of_encodings.whole, &self.of_candidates.whole, &matching);
        for (round, share) in (0..).zip(SHARES) {
            let surest = surest(&sureness, ((share * images as f64) as usize).max(2).min(images));
            let of = |values: &[f32], place: usize, size: usize| values[place * size..][..size].to_vec();
            let inputs: Vec<f32> =
                surest.iter().flat_map(|at| of(&patches, matching[*at], shape.pixels())).collect();
            let wanted: Vec<f32> = surest.iter().flat_map(|at| of(&targets, *at, shape.values())).collect();
            let start = EncoderKey::draw(shape, &seed.derive("clone", round))?;
            let order = Prg::new(&seed.derive("clone order", round)).word();
            let clone = train_clone(start.parts(), &inputs, &wanted, recipe, order, &mut |_, _| heard())?;
            let cloned = Encoder::new(&clone)?.encode(&patches, Statistics::Batch)?;
            let costs = matching::squares(&targets, &cloned, images)?;
            let next = assign(&costs, images);
            sureness = margins(&costs, &next);
            let settled = next == matching;
            matching = next;
            if settled {
                break;
            }
        }
        Ok(matching)
    }

    /// The encodings with their patches at the candidates' positions, `images x positions x width`.
    fn targets(&self, matching: &[usize]) -> Result<Vec<f32>, LabError> {
        let (positions, images) = (self.shape.positions(), self.candidates.count());
        let found = matching::positions(self.of_encodings, self.of_candidates, matching)?;
        let mut place_of = vec![0; positions];
        found.iter().enumerate().for_each(|(place, position)| place_of[*position] = place);
        let size = images * self.shape.width;
        let turned: Vec<f32> =
            place_of.iter().flat_map(|place| &self.undone.values[place * size..][..size]).copied().collect();
        // From positions outermost to images outermost is the same turn with the two exchanged.
        Ok(by_position(&turned, positions, images))
    }
}

fn surest(sureness: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sureness.len()).collect();
    order.sort_by(|left, right| sureness[*right].total_cmp(&sureness[*left]));
    order.truncate(count);
    order
}

/// How much cheaper each pair is than the row's best other one.
fn margins(costs: &[f32], matching: &[usize]) -> Vec<f32> {
    let rows = costs.chunks_exact(matching.len()).zip(matching);
    let margin = |(row, own): (&[f32], &usize)| {
        let others = row.iter().enumerate().filter(|(at, _)| at != own).map(|(_, cost)| *cost);
        others.fold(f32::INFINITY, f32::min) - row[*own]
    };
    rows.map(margin).collect()
}
