//! A whole task in memory: models shared, masks opened, bundles dealt.

use super::pair::{MemoryLink, Transcript, pair, run_now};
use crate::algebra::prg::Seed;
use crate::context::{Computation, Context, Dialogue, Lane, Meter};
use crate::evaluate::shared::{Entered, EvaluationError, GateError, SharedModel, answer, enter, outputs};
use crate::graph::{Measure, Numbers, OneClassShape, Plan, ReleaseShape};
use crate::model::fixed::{FixedError, FixedWeights, encode, encode_one_class};
use crate::model::{Model, OneClass};
use crate::offline::dealer::{WeightMasks, weight_mask, weight_mask_share};
use crate::offline::insecure;
use crate::offline::ot::Extension;
use crate::offline::pairwise::{Bundle, Pairwise, PairwiseError, WeightMaskShares};
use crate::online::release::answers;
use crate::online::vote::vote;
use crate::party::Party;
use crate::share::{Additive, reconstruct};
use crate::stock::{Gadget, Provision, StockError, Tape, WeightOpenings};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

/// Weight masks and openings of all models, and both parties' shares.
#[derive(Debug)]
pub struct TestTask {
    plan: Plan,
    shares: [Vec<SharedModel>; 2],
    masks: Words,
    mask_shares: [Words; 2],
    openings: Words,
    seed: Seed,
    bundles: u64,
    /// Bundles that both parties have made together; they are used before insecure ones.
    pairwise: VecDeque<[Tape; 2]>,
}

/// Labels where there was a consensus, the meter, and what each party sent.
pub type Attempt = (Vec<Option<usize>>, Meter, [Transcript; 2]);

#[derive(Debug, Default)]
struct Words(Vec<Vec<Vec<u64>>>);

impl WeightMasks for Words {
    fn mask(&self, model: usize, layer: usize) -> &[u64] {
        &self.0[model][layer]
    }
}

impl WeightMaskShares for Words {
    fn share(&self, model: usize, layer: usize) -> Option<&[u64]> {
        self.0.get(model)?.get(layer).map(Vec::as_slice)
    }
}

impl WeightOpenings for Words {
    fn opening(&self, model: usize, layer: usize) -> Option<&[u64]> {
        self.0.get(model)?.get(layer).map(Vec::as_slice)
    }
}

impl TestTask {
    /// Shares all models of a task. `seed` fixes all randomness.
    ///
    /// # Errors
    /// A model does not fit the numbers.
    pub fn new(
        models: &[Model],
        numbers: Numbers,
        batch: usize,
        release: ReleaseShape,
        gadget: Gadget,
        seed: u64,
    ) -> Result<Self, FixedError> {
        let fixed = models.iter().map(|model| encode(model, numbers)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::with_weights(models, &fixed, numbers, batch, (release, gadget), seed))
    }

    /// As [`TestTask::new`], with weights that no tool has checked.
    pub fn with_weights(
        models: &[Model],
        weights: &[Vec<FixedWeights>],
        numbers: Numbers,
        batch: usize,
        (release, gadget): (ReleaseShape, Gadget),
        seed: u64,
    ) -> Self {
        let networks: Vec<_> = models.iter().map(|model| model.network().clone()).collect();
        let classes = networks[0].output().len();
        let plan = Plan::compile(&networks, networks[0].input(), classes, numbers, batch, gadget, release)
            .unwrap_or_else(|error| panic!("the test task does not compile: {error}"));
        Self::of(plan, weights, seed)
    }

    /// Shares all models of a one-class task.
    ///
    /// # Errors
    /// A model does not fit the numbers.
    pub fn one_class(
        models: &[OneClass],
        shape: OneClassShape,
        batch: usize,
        release: ReleaseShape,
        gadget: Gadget,
        seed: u64,
    ) -> Result<Self, FixedError> {
        let weights =
            models.iter().map(|model| encode_one_class(model, shape)).collect::<Result<Vec<_>, _>>()?;
        let measures: Vec<Measure> = models.iter().map(OneClass::measure).collect();
        let plan = Plan::one_class(&measures, shape, batch, gadget, release)
            .unwrap_or_else(|error| panic!("the test task does not compile: {error}"));
        Ok(Self::of(plan, &weights, seed))
    }

    /// Shares weights that no tool has checked, for a plan that they fit.
    pub fn of(plan: Plan, weights: &[Vec<FixedWeights>], seed: u64) -> Self {
        let seed = Seed::from_bytes(u128::from(seed).to_le_bytes());
        let mut task = Self {
            plan,
            shares: [Vec::new(), Vec::new()],
            masks: Words::default(),
            mask_shares: Default::default(),
            openings: Words::default(),
            seed,
            bundles: 0,
            pairwise: VecDeque::new(),
        };
        for (index, layers) in weights.iter().enumerate() {
            task.share(index as u64, layers);
        }
        task
    }

    fn share(&mut self, index: u64, layers: &[FixedWeights]) {
        let flat: Vec<u64> =
            layers.iter().flat_map(|layer| layer.weight.iter().chain(&layer.bias)).copied().collect();
        let lengths: Vec<_> = layers.iter().map(|layer| (layer.weight.len(), layer.bias.len())).collect();
        let seed = self.seed.derive("model", index);
        let zero = Additive::expand(&seed, flat.len());
        let one = Additive::complement(&flat, &seed);
        for (shares, share) in self.shares.iter_mut().zip([&zero, &one]) {
            let cut = SharedModel::cut(&lengths, share);
            shares.push(cut.unwrap_or_else(|error| panic!("a share of its own length: {error}")));
        }
        let (mut masks, mut openings, mut mask_shares) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        for (layer, weights) in layers.iter().enumerate() {
            let seeds = ["zero", "one"].map(|name| self.seed.derive(name, index << 8 | layer as u64));
            let mask = weight_mask(&seeds[0], &seeds[1], weights.weight.len()).to_vec();
            openings.push(weights.weight.iter().zip(&mask).map(|(w, a)| w.wrapping_sub(*a)).collect());
            masks.push(mask);
            for (shares, seed) in mask_shares.iter_mut().zip(&seeds) {
                shares.push(weight_mask_share(seed, weights.weight.len()).to_vec());
            }
        }
        for (words, shares) in self.mask_shares.iter_mut().zip(mask_shares) {
            words.0.push(shares);
        }
        self.masks.0.push(masks);
        self.openings.0.push(openings);
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// One party's shares of all models.
    pub fn models(&self, party: Party) -> Vec<&SharedModel> {
        self.shares[usize::from(party == Party::One)].iter().collect()
    }

    /// A fresh bundle for both parties.
    ///
    /// # Errors
    /// The dealer and the parties disagree about the plan.
    pub fn bundle(&mut self) -> Result<[Vec<Provision>; 2], StockError> {
        self.bundles += 1;
        match self.pairwise.pop_front() {
            Some([zero, one]) => Ok([self.lay_out(zero)?, self.lay_out(one)?]),
            None => self.bundle_of(self.bundles - 1),
        }
    }

    /// Has both parties make the next `count` bundles themselves.
    ///
    /// # Errors
    /// Either party's failure.
    pub fn make_pairwise(&mut self, extension: Extension, count: usize) -> Result<(), PairwiseError> {
        let lanes = self.plan.lanes();
        let made = pair(|computation| {
            let party = computation.party();
            let shares = &self.mask_shares[usize::from(party == Party::One)];
            let mut dialogue = Dialogue::new(computation.into_link(), party, 9);
            run_now(async {
                let mut pairwise = Pairwise::set_up(&mut dialogue, extension).await?;
                pairwise.make(&mut dialogue, &lanes, shares, count).await
            })
        });
        let [zero, one] = made;
        let tapes = zero?.into_iter().zip(one?).map(|(zero, one)| [zero, one].map(Bundle::into_tape));
        self.pairwise.extend(tapes);
        Ok(())
    }

    /// The bundle of a serial, counted from 0 by [`TestTask::bundle`]. Twice the same one is the fault
    /// that tests plant.
    ///
    /// # Errors
    /// As [`TestTask::bundle`].
    pub fn bundle_of(&self, serial: u64) -> Result<[Vec<Provision>; 2], StockError> {
        let [zero, one] = self.deal(serial);
        Ok([self.lay_out(zero)?, self.lay_out(one)?])
    }

    /// The tapes of a serial, as a dealer sends them.
    pub fn deal(&self, serial: u64) -> [Tape; 2] {
        insecure::tapes(&self.plan.lanes(), &self.masks, &self.seed, serial)
    }

    /// What a party makes of its tape.
    ///
    /// # Errors
    /// The tape was made for another plan.
    pub fn lay_out(&self, tape: Tape) -> Result<Vec<Provision>, StockError> {
        Provision::lay_out(tape, &self.plan.lanes(), &self.openings)
    }

    /// Both shares of a batch of queries, each of one query's values.
    pub fn input(&self, queries: &[Vec<u64>]) -> [Additive; 2] {
        let length = self.plan.input().len();
        let interleaved: Vec<u64> =
            (0..length).flat_map(|value| queries.iter().map(move |query| query[value])).collect();
        let seed = self.seed.derive("input", self.bundles);
        [Additive::expand(&seed, interleaved.len()), Additive::complement(&interleaved, &seed)]
    }

    /// Evaluates a batch and returns its labels, the meter and both transcripts. For a plan without a
    /// threshold.
    ///
    /// # Errors
    /// Either party's failure.
    pub fn ask(
        &mut self,
        queries: &[Vec<u64>],
        noise: [&[u64]; 2],
    ) -> Result<(Vec<usize>, Meter, [Transcript; 2]), EvaluationError> {
        let (answers, meter, sent) = self.attempt(queries, noise)?;
        Ok((answers.into_iter().flatten().collect(), meter, sent))
    }

    /// As [`TestTask::ask`] for any plan: no label where there was no consensus.
    ///
    /// # Errors
    /// Either party's failure.
    pub fn attempt(&mut self, queries: &[Vec<u64>], noise: [&[u64]; 2]) -> Result<Attempt, EvaluationError> {
        let bundles = self.bundle().map_err(|error| EvaluationError::Gate(error.into()))?;
        let results = self.seat(queries, bundles, |mut seat| {
            let noise = noise[usize::from(seat.computation.party() == Party::One)];
            let Seat { computation, plan, models, input, provisions } = &mut seat;
            let (input, provisions) = (std::mem::take(input), std::mem::take(provisions));
            let share = run_now(answer(computation, plan, models, input, provisions, noise));
            (share, seat.computation.meter(), seat.computation.into_link().transcript())
        });
        let [(zero, meter, sent_zero), (one, _, sent_one)] = results;
        let gate = self.plan.release();
        let batch = self.plan.batch();
        let answers = answers([&zero?, &one?], gate.vote.classes, batch, gate.threshold.is_some());
        Ok((answers, meter, [sent_zero, sent_one]))
    }

    /// Shares a batch and lets both parties run `body` with these bundles.
    pub fn seat<T: Send>(
        &self,
        queries: &[Vec<u64>],
        bundles: [Vec<Provision>; 2],
        body: impl Fn(Seat<'_>) -> T + Sync,
    ) -> [T; 2] {
        let brought = bundles.into_iter().zip(self.input(queries)).map(Some).collect::<Vec<_>>();
        let brought = Mutex::new(brought);
        pair(|computation: Computation<MemoryLink>| {
            let party = computation.party();
            let index = usize::from(party == Party::One);
            let taken = brought.lock().unwrap_or_else(PoisonError::into_inner)[index].take();
            let (provisions, input) = taken.unwrap_or_default();
            body(Seat { computation, plan: &self.plan, models: self.models(party), input, provisions })
        })
    }

    /// Evaluates a batch and opens what nobody may see: the logits and votes of every model,
    /// `[class][query]` each, or its distances, one per query.
    ///
    /// # Errors
    /// Either party's failure.
    pub fn inside(&mut self, queries: &[Vec<u64>]) -> Result<Vec<Inside>, EvaluationError> {
        let bundles = self.bundle().map_err(|error| EvaluationError::Gate(error.into()))?;
        let [zero, one] = self.seat(queries, bundles, |seat| run_now(votes(seat)));
        let open = |((logits, votes), (other_logits, other_votes)): (Pair, Pair)| Inside {
            logits: reconstruct(&logits, &other_logits),
            votes: reconstruct(&votes, &other_votes),
        };
        Ok(zero?.into_iter().zip(one?).map(open).collect())
    }
}

/// What one party brings to an evaluation.
#[derive(Debug)]
pub struct Seat<'a> {
    /// Its end of the conversation.
    pub computation: Computation<MemoryLink>,
    /// The plan.
    pub plan: &'a Plan,
    /// Its shares of all models.
    pub models: Vec<&'a SharedModel>,
    /// Its share of the input.
    pub input: Additive,
    /// Its correlations.
    pub provisions: Vec<Provision>,
}

/// What one model thinks of a batch. Only tests see it.
#[derive(Debug)]
pub struct Inside {
    /// Outputs of the model: logits or distances.
    pub logits: Vec<u64>,
    /// Its one-hot votes, where it votes.
    pub votes: Vec<u64>,
}

type Pair = (Additive, Additive);
type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, GateError>> + Send + 'a>>;

/// One party's shares of logits and votes, model by model.
async fn votes(mut seat: Seat<'_>) -> Result<Vec<Pair>, EvaluationError> {
    let party = seat.computation.party();
    let mut provisions = seat.provisions.into_iter();
    let (stock, share, plan) = (provisions.next().unwrap_or_default(), &*seat.input, seat.plan);
    let input = |lane: Lane| -> Running<'_, (Vec<u64>, Additive)> {
        Box::pin(async move { enter(&mut Context::new(party, lane, stock), plan, share).await })
    };
    let (opened, norm) = &seat.computation.run(vec![input]).await?.swap_remove(0);
    let entered = Entered { opened, share, norm };
    let models = seat.plan.programs().iter().zip(seat.models).zip(provisions);
    let lanes = models.map(|((program, model), stock)| {
        move |lane: Lane| -> Running<'_, Pair> {
            Box::pin(async move {
                let mut context = Context::new(party, lane, stock);
                let logits = outputs(&mut context, program, model, entered).await?;
                let votes = match program.vote() {
                    Some(shape) => vote(&mut context, &logits, shape).await?,
                    None => Additive::default(),
                };
                Ok((logits, votes))
            })
        }
    });
    seat.computation.run(lanes.collect()).await
}
