//! The plan under sharing: all models of a task in lock step, the votes summed, the noisy winner.
//!
//! - Computes: the answer that [`crate::online::release`] makes of `sum_i [argmax_k logit_i,k(x) = c]` and
//!   noise for each query: XOR shares of the one-hot winner without its last entry, and with a threshold of
//!   whether there is a consensus.
//! - Learns: nothing; the client learns the answer from both shares.
//! - Consumes: one bundle of the plan ([`Plan::lanes`]) for each question.
//! - Costs: [`Plan::cost`]; [`cost_together`] for several questions side by side.
//! - Source: PRICURE (Jarin and Eshete, IWSPA 2021), with votes formed and noise added under sharing.

use crate::context::{Computation, ComputationError, Context, Lane, Link};
use crate::graph::{Cost, Op, Plan, Program};
use crate::online::linear::{WeightShare, with_opened, with_shared};
use crate::online::release::{answers, release};
use crate::online::vote::vote;
use crate::online::{masked, open, pool, square};
use crate::party::Party;
use crate::share::Additive;
use crate::stock::{Provision, StockError};
use crate::wire::{HEADER_BYTES, Opening, PAYLOAD_BYTES_MAX};
use std::future::Future;
use std::pin::Pin;
use zeroize::Zeroizing;

/// One party's share of one model: weight and bias of each linear layer.
#[derive(Debug)]
pub struct SharedModel {
    layers: Vec<(Additive, Additive)>,
}

/// Why an evaluation could not start or go on, on this side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The bundle does not serve the plan.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// A share has the wrong length.
    #[error("{what} has {found} words, the plan needs {expected}")]
    Length {
        /// Which share.
        what: &'static str,
        /// Words needed.
        expected: usize,
        /// Words found.
        found: usize,
    },
}

/// Why an evaluation ended without a result.
pub type EvaluationError = ComputationError<GateError>;

impl SharedModel {
    /// Cuts a flat share (weight then bias, layer by layer) into layers.
    ///
    /// # Errors
    /// The share has the wrong length for the network of `program`'s weights.
    pub fn cut(lengths: &[(usize, usize)], share: &[u64]) -> Result<Self, GateError> {
        let expected = lengths.iter().map(|(weight, bias)| weight + bias).sum();
        if share.len() != expected {
            return Err(GateError::Length { what: "a model share", expected, found: share.len() });
        }
        let mut rest = share;
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at(length);
            rest = left;
            Additive::from(taken.to_vec())
        };
        Ok(Self { layers: lengths.iter().map(|(weight, bias)| (take(*weight), take(*bias))).collect() })
    }

    /// This party's share of the weights of a layer.
    pub fn weight(&self, layer: usize) -> Option<&Additive> {
        self.layers.get(layer).map(|(weight, _)| weight)
    }
}

/// One batch of queries as one party holds it, with what its evaluation uses up.
pub struct Question {
    /// This party's share of the input, `[value][query]`.
    pub input: Additive,
    /// One bundle of the plan, laid out.
    pub provisions: Vec<Provision>,
    /// This party's own noise, as many words as the plan's release wants
    /// ([`ReleaseGate::noise_words`](crate::online::release::ReleaseGate::noise_words)), or empty for an exact
    /// release; a release with a threshold is never exact.
    pub noise: Zeroizing<Vec<u64>>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("provisions", &self.provisions).finish_non_exhaustive()
    }
}

type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, GateError>> + Send + 'a>>;

/// Evaluates the plan on this party's share of the input (`[value][query]`) and returns its share of
/// the answer (`[class][query]`, packed, the last class left out; with a threshold whether there is a consensus
/// stands in its place).
///
/// `noise` is this party's own noise, as in [`Question`].
/// Dropping the future abandons the evaluation; the bundle is burnt.
///
/// # Errors
/// The peer, the link or this side's stock failed; nothing was opened that the plan does not open.
pub async fn answer<L: Link>(
    computation: &mut Computation<L>,
    plan: &Plan,
    models: &[&SharedModel],
    input: Additive,
    provisions: Vec<Provision>,
    noise: &[u64],
) -> Result<Vec<u64>, EvaluationError> {
    let question = Question { input, provisions, noise: noise.to_vec().into() };
    let winners = answer_together(computation, plan, models, vec![question]).await?;
    Ok(winners.into_iter().next().unwrap_or_default())
}

/// As [`answer`] for several questions, which need not know of each other: they share the rounds and
/// the frames, so that together they take the rounds of one. The winners come in the questions' order.
///
/// # Errors
/// As there; a failure ends all of them.
pub async fn answer_together<L: Link>(
    computation: &mut Computation<L>,
    plan: &Plan,
    models: &[&SharedModel],
    questions: Vec<Question>,
) -> Result<Vec<Vec<u64>>, EvaluationError> {
    let party = computation.party();
    check_models(plan, models).map_err(ComputationError::Gate)?;
    let mut inputs = Vec::with_capacity(questions.len());
    let mut noises = Vec::with_capacity(questions.len());
    let (mut masks, mut votings, mut releases) = (Vec::new(), Vec::new(), Vec::new());
    for Question { input, provisions, noise } in questions {
        check(plan, &input, &provisions, &noise).map_err(ComputationError::Gate)?;
        let mut provisions = provisions.into_iter();
        masks.extend(provisions.next());
        releases.extend(provisions.next_back());
        votings.push(provisions);
        inputs.push(input);
        noises.push(noise);
    }

    let lanes = inputs.iter().zip(masks).map(|(share, stock)| {
        move |lane: Lane| -> Running<'_, Vec<u64>> {
            Box::pin(async move {
                let mut context = Context::new(party, lane, stock);
                let entry = context.enter().input_mask(share.len())?;
                Ok(open::operand(&context, share, &entry.mask).await)
            })
        }
    });
    let opened = computation.run(lanes.collect()).await?;

    let mut lanes = Vec::with_capacity(inputs.len() * models.len());
    for ((opened, share), stocks) in opened.iter().zip(&inputs).zip(votings) {
        for ((program, model), stock) in plan.programs().iter().zip(models).zip(stocks) {
            lanes.push(move |lane: Lane| -> Running<'_, Additive> {
                Box::pin(one_vote(party, lane, stock, program, model, (opened, share)))
            });
        }
    }
    let votes = computation.run(lanes).await?;

    let gate = plan.release();
    let counts: Vec<Additive> = votes.chunks(models.len()).map(summed).collect();
    let lanes = counts.iter().zip(&noises).zip(releases).map(|((counts, noise), stock)| {
        move |lane: Lane| -> Running<'_, Vec<u64>> {
            Box::pin(async move {
                let mut context = Context::new(party, lane, stock);
                Ok(release(&mut context, counts, noise, gate).await?)
            })
        }
    });
    computation.run(lanes.collect()).await
}

/// Rounds and bytes of [`answer_together`].
pub fn cost_together(plan: &Plan, questions: usize) -> Cost {
    let Cost { rounds, bytes } = plan.cost();
    let headers = u64::from(rounds) * HEADER_BYTES as u64;
    Cost { rounds, bytes: (bytes - headers) * questions as u64 + headers }
}

/// Most questions whose rounds all fit frames of `frame_bytes_max`; at least one.
pub fn together_max(plan: &Plan, frame_bytes_max: usize) -> usize {
    let payload = |round: &Vec<Opening>| round.iter().map(Opening::bytes).sum::<usize>();
    let largest = plan.openings().iter().map(payload).max().unwrap_or(0);
    let room = frame_bytes_max.min(PAYLOAD_BYTES_MAX).saturating_sub(HEADER_BYTES);
    (room / largest.max(1)).max(1)
}

/// All votes.
fn summed(votes: &[Additive]) -> Additive {
    let mut counts = Additive::zeros(votes.first().map_or(0, |vote| vote.len()));
    for vote in votes {
        counts.add(vote);
    }
    counts
}

/// Labels of all queries from both parties' shares of the winner, where no threshold can withhold them; see
/// [`answers`] for both kinds.
pub fn labels(zero: &[u64], one: &[u64], classes: usize, batch: usize) -> Vec<usize> {
    answers([zero, one], classes, batch, false).into_iter().flatten().collect()
}

async fn one_vote(
    party: Party,
    lane: Lane,
    stock: Provision,
    program: &Program,
    model: &SharedModel,
    (opened, share): (&[u64], &[u64]),
) -> Result<Additive, GateError> {
    let mut context = Context::new(party, lane, stock);
    let logits = logits(&mut context, program, model, (opened, share)).await?;
    Ok(vote(&mut context, &logits, program.vote()).await?)
}

/// This party's share of one model's outputs (`[class][query]`), given the input under its mask, which
/// is open, and this party's share of it. [`answer`] votes on them and opens nothing of them.
///
/// # Errors
/// The stock was laid out for another program.
pub async fn logits(
    context: &mut Context,
    program: &Program,
    model: &SharedModel,
    (opened, share): (&[u64], &[u64]),
) -> Result<Additive, GateError> {
    let mut wire = Additive::from(share.to_vec());
    for (index, op) in program.ops().iter().enumerate() {
        wire = match op {
            Op::Linear { weights, shape, .. } => {
                let (weight, bias) = &model.layers[*weights];
                let weights = WeightShare { weight, bias };
                if index == 0 {
                    with_opened(context, opened, weights, *shape)?
                } else {
                    with_shared(context, &wire, weights, *shape).await?
                }
            }
            Op::Truncate(_) => masked::truncate(context, &wire).await?,
            Op::Rectify(_) => masked::rectify(context, &wire).await?,
            Op::Square { .. } => square::square(context, &wire).await?,
            Op::MaxPool { shape, .. } => {
                pool::maximum(context, crate::algebra::pool::gather_windows(&wire, shape)).await?
            }
            Op::SumPool { shape, .. } => crate::algebra::pool::sum_pool(&wire, shape).into(),
        };
    }
    Ok(wire)
}

fn length(what: &'static str, expected: usize, found: usize) -> Result<(), GateError> {
    if expected == found { Ok(()) } else { Err(GateError::Length { what, expected, found }) }
}

fn check(plan: &Plan, input: &[u64], provisions: &[Provision], noise: &[u64]) -> Result<(), GateError> {
    length("the input share", plan.input_len(), input.len())?;
    length("the bundle", plan.programs().len() + 2, provisions.len())?;
    let gate = plan.release();
    if !noise.is_empty() || gate.threshold.is_some() {
        length("the noise", gate.noise_words(), noise.len())?;
    }
    Ok(())
}

fn check_models(plan: &Plan, models: &[&SharedModel]) -> Result<(), GateError> {
    length("the list of models", plan.programs().len(), models.len())?;
    for (program, model) in plan.programs().iter().zip(models) {
        for op in program.ops() {
            if let Op::Linear { weights, shape, .. } = op {
                let layer = model.layers.get(*weights);
                length("a model's weights", shape.weight_len(), layer.map_or(0, |(weight, _)| weight.len()))?;
                length("a model's biases", shape.bias_len(), layer.map_or(0, |(_, bias)| bias.len()))?;
            }
        }
    }
    Ok(())
}
