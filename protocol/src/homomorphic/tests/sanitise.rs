//! Two models with the same logits: who holds the key tells them apart before answers are sanitised, and not after.

use super::*;
use crate::homomorphic::batch::BatchNet;
use crate::homomorphic::ring::{BATCH, Rows};
use crate::homomorphic::rows;

/// Guesses, and three standard errors of a fair coin.
const GUESSES: usize = 400;
const CHANCE: std::ops::RangeInclusive<usize> = GUESSES / 2 - 30..=GUESSES / 2 + 30;

/// The same model but for the weights of the last number of an input, which the client of these tests sets to zero.
fn twin(model: &Model) -> Model {
    let mut weights = model.weights().to_vec();
    let inputs = model.network().input().len();
    for row in weights[0].weight.chunks_exact_mut(inputs) {
        row[inputs - 1] = if row[inputs - 1] == 1.0 { -2.0 } else { 1.0 };
    }
    Model::new(model.network().clone(), weights).unwrap()
}

/// Two owners whose models give a client's inputs the same logits, and what each makes of its query.
struct Game {
    worlds: [World; 2],
    blocks: [Vec<Raw>; 2],
}

fn game() -> Game {
    let first = model(&[7, 4, 2], 2, 31);
    let worlds = [first.clone(), twin(&first)].map(|model| world(&model, Mode::Batch, 33));
    assert_eq!(worlds[0].plan.primes, worlds[1].plan.primes);
    let mut inputs = worlds[0].inputs(BATCH.degree(), 35);
    inputs.chunks_exact_mut(7).for_each(|input| input[6] = 0);
    assert_eq!(worlds[0].net.evaluate(&inputs), worlds[1].net.evaluate(&inputs));
    let blocks = [worlds[0].blocks(0, &inputs), worlds[1].blocks(0, &inputs)];
    Game { worlds, blocks }
}

impl Game {
    /// An output of an owner before it is sanitised.
    fn raw(&self, owner: usize) -> [Rows; 2] {
        let world = &self.worlds[owner];
        let slots = world.plan.slots(0);
        BatchNet::new(&world.net, &slots).output(0, &self.blocks[owner], &slots, &world.keys)
    }

    /// That output brought to one prime and nothing more: both halves, residues in `0..prime`.
    fn bare(&self, owner: usize) -> [Rows; 2] {
        let slots = self.worlds[owner].plan.slots(0);
        self.raw(owner).map(|mut rows| {
            for (limb, row) in BATCH.rows_mut(&mut rows) {
                BATCH.coefficients(limb, row);
            }
            for limb in (1..BATCH.special()).rev() {
                let (kept, dropped) = rows.split_at_mut(limb * BATCH.degree());
                let prime = BATCH.prime(limb);
                let dropped: Vec<f64> = dropped[..BATCH.degree()]
                    .iter()
                    .map(|value| prime.centre(prime.canonical(*value)))
                    .collect();
                BATCH.divide(slots.prime(), kept, &dropped, limb, false);
            }
            rows[..BATCH.degree()].iter().map(|value| BATCH.prime(0).canonical(*value)).collect()
        })
    }

    fn sanitised(&self, owner: usize, prg: &mut Prg) -> [Rows; 2] {
        let world = &self.worlds[owner];
        let bytes = world.evaluator.answer(0, 0, &self.blocks[owner], &world.keys, BATCH.degree(), prg);
        let halves = bytes.chunks_exact(world.plan.row_bytes());
        let halves: Vec<Rows> = halves.map(|row| rows::read("answer", &BATCH, 0, row).unwrap()).collect();
        halves.try_into().unwrap()
    }

    /// What the client sees of an answer: the opened noise, and the linear half.
    fn views(&self, [constant, linear]: &[Rows; 2]) -> [Vec<f64>; 2] {
        let opened = self.worlds[0].key.open(constant, &mut linear.clone()).to_vec();
        [opened, linear.iter().map(|value| BATCH.prime(0).centre(*value)).collect()]
    }

    /// Right guesses of a client that knows its own query, and so what either owner's bare answer would be, from each of
    /// its views: it takes the owner whose view is nearer.
    fn guessed(&self, answer: impl Fn(usize, &mut Prg) -> [Rows; 2]) -> [usize; 2] {
        let expected = [0, 1].map(|owner| self.views(&self.bare(owner)));
        let (mut coin, mut stream, mut right) = (prg(40), prg(41), [0, 0]);
        for _ in 0..GUESSES {
            let owner = (coin.word() & 1) as usize;
            let seen = self.views(&answer(owner, &mut stream));
            for (view, right) in right.iter_mut().enumerate() {
                let distance = |other: usize| {
                    let pairs = seen[view].iter().zip(&expected[other][view]);
                    pairs.map(|(one, other)| (one - other).powi(2)).sum::<f64>()
                };
                *right += usize::from((distance(0) < distance(1)) == (owner == 0));
            }
        }
        right
    }
}

#[test]
fn outputs_tell_models_with_equal_logits_apart_before_they_are_sanitised() {
    let game = game();
    let bare = [game.bare(0), game.bare(1)];
    assert_eq!(game.guessed(|owner, _| bare[owner].clone()), [GUESSES; 2]);
}

#[test]
fn sanitised_answers_leave_the_same_client_at_chance() {
    let game = game();
    let right = game.guessed(|owner, prg| game.sanitised(owner, prg));
    assert!(right.iter().all(|right| CHANCE.contains(right)), "{right:?} of {GUESSES}");
}
