//! The plan under sharing: all models of a task in lock step, the votes summed, the noisy winner; or the nearest
//! of all distances.
//!
//! - Computes: the answer that [`crate::online::release`] makes of `sum_i [argmax_k logit_i,k(x) = c]` and
//!   noise for each query: XOR shares of the one-hot winner without its last entry, and with a threshold of
//!   whether there is a consensus. Of a one-class task the same of what [`crate::online::nearest`] says of all
//!   users' distances to the query, with nobody for the last entry.
//! - Learns: nothing; the client learns the answer from both shares.
//! - Consumes: one bundle of the plan ([`Plan::lanes`]) for each question.
//! - Costs: [`Plan::cost`]; [`cost_together`] for several questions side by side.
//! - Source: PRICURE (Jarin and Eshete, IWSPA 2021), with votes formed and noise added under sharing; PrivEdge
//!   (arXiv 2004.05574, IEEE TIFS 2020), with a threshold per user.

use crate::algebra::z64;
use crate::context::{Computation, ComputationError, Context, Lane, Link};
use crate::graph::{Closing, Cost, Op, Plan, Program};
use crate::online::linear::{WeightShare, with_opened, with_shared};
use crate::online::nearest::{Form, counts, nearest};
use crate::online::norm::{norms, norms_of_opened};
use crate::online::release::{answers, release};
use crate::online::vote::vote;
use crate::online::{masked, open, piecewise, pool, square};
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

    /// This party's share of the threshold of a one-class model.
    pub fn threshold(&self, program: &Program) -> Option<u64> {
        let (_, bias) = self.layers.get(program.threshold()?)?;
        bias.first().copied()
    }
}

/// What a party holds of one batch of queries once its input is open under its mask.
#[derive(Clone, Copy)]
pub struct Entered<'a> {
    /// The input less its mask.
    pub opened: &'a [u64],
    /// This party's share of the input.
    pub share: &'a [u64],
    /// This party's share of each query's sum of squares, where a model needs it.
    pub norm: &'a [u64],
}

impl std::fmt::Debug for Entered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entered({})", self.share.len())
    }
}

/// Opens the input under its mask. Returns what is open, and the share of each query's norm if the plan wants it.
///
/// # Errors
/// The stock was laid out for another plan.
pub async fn enter(
    context: &mut Context,
    plan: &Plan,
    share: &[u64],
) -> Result<(Vec<u64>, Additive), GateError> {
    let entry = context.enter().input_mask(share.len())?;
    let opened = open::operand(context, share, &entry.mask).await;
    let norm = if plan.wants_norm() {
        norms_of_opened(context, &opened, plan.batch())?
    } else {
        Additive::default()
    };
    Ok((opened, norm))
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
        move |lane: Lane| -> Running<'_, (Vec<u64>, Additive)> {
            Box::pin(async move { enter(&mut Context::new(party, lane, stock), plan, share).await })
        }
    });
    let entered = computation.run(lanes.collect()).await?;

    let mut lanes = Vec::with_capacity(inputs.len() * models.len());
    for (((opened, norm), share), stocks) in entered.iter().zip(&inputs).zip(votings) {
        let entered = Entered { opened, share, norm };
        for ((program, model), stock) in plan.programs().iter().zip(models).zip(stocks) {
            lanes.push(move |lane: Lane| -> Running<'_, Additive> {
                Box::pin(async move {
                    let mut context = Context::new(party, lane, stock);
                    let outputs = outputs(&mut context, program, model, entered).await?;
                    let Some(shape) = program.vote() else { return Ok(outputs) };
                    Ok(vote(&mut context, &outputs, shape).await?)
                })
            });
        }
    }
    let found = computation.run(lanes).await?;

    let lanes = found.chunks(models.len()).zip(&noises).zip(releases).map(|((found, noise), stock)| {
        move |lane: Lane| -> Running<'_, Vec<u64>> {
            Box::pin(
                async move { close(&mut Context::new(party, lane, stock), plan, models, found, noise).await },
            )
        }
    });
    computation.run(lanes.collect()).await
}

/// The answer, from the votes or the distances of all models.
async fn close(
    context: &mut Context,
    plan: &Plan,
    models: &[&SharedModel],
    found: &[Additive],
    noise: &[u64],
) -> Result<Vec<u64>, GateError> {
    let gate = plan.release();
    let Closing::Nearest { shape, form } = plan.closing() else {
        return Ok(release(context, &summed(found), noise, gate).await?);
    };
    let distances =
        Additive::from(found.iter().flat_map(|distances| distances.iter().copied()).collect::<Vec<_>>());
    let own = plan.programs().iter().zip(models).filter_map(|(program, model)| model.threshold(program));
    let thresholds = Additive::from(own.collect::<Vec<_>>());
    Ok(match form {
        Form::Bits => nearest(context, &distances, &thresholds, shape).await?,
        Form::Counts => {
            let counts = counts(context, &distances, &thresholds, shape).await?;
            release(context, &counts, noise, gate).await?
        }
    })
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

/// This party's share of one model's logits (`[class][query]`) or of its distances (one per query). [`answer`]
/// goes on from them and opens nothing of them.
///
/// # Errors
/// The stock was laid out for another program.
pub async fn outputs(
    context: &mut Context,
    program: &Program,
    model: &SharedModel,
    entered: Entered<'_>,
) -> Result<Additive, GateError> {
    let mut wire = Additive::from(entered.share.to_vec());
    for (index, op) in program.ops().iter().enumerate() {
        wire = match op {
            Op::Linear { weights, shape, .. } => {
                let (weight, bias) = &model.layers[*weights];
                let weights = WeightShare { weight, bias };
                if index == 0 {
                    with_opened(context, entered.opened, weights, *shape)?
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
            Op::Leak { slope, .. } => piecewise::leak(context, &wire, [slope.rise, slope.run]).await?,
            Op::Clamp { shape, scale } => piecewise::clamp(context, &wire, *scale, shape.shift).await?,
            Op::Shuffle(shape) => shape.shuffle(&wire).into(),
            Op::Distance { batch, .. } => {
                let apart = Additive::from(z64::difference(&wire, entered.share));
                norms(context, &apart, *batch).await?
            }
            Op::Residual { shape, batch } => {
                residual(context, &wire, shape.count, *batch, entered.norm).await?
            }
        };
    }
    Ok(wire)
}

/// The norm of the input with the last row of `wire` added, and the squares of the `count` words before it taken
/// away.
async fn residual(
    context: &mut Context,
    wire: &[u64],
    count: usize,
    batch: usize,
    norm: &[u64],
) -> Result<Additive, GateError> {
    length("the norm of the input", batch, norm.len())?;
    let (projected, offset) = wire.split_at(count);
    let projected = masked::truncate(context, projected).await?;
    let explained = norms(context, &projected, batch).await?;
    let mut distance = Additive::from(z64::difference(norm, &explained));
    distance.add(offset);
    Ok(distance)
}

fn length(what: &'static str, expected: usize, found: usize) -> Result<(), GateError> {
    if expected == found { Ok(()) } else { Err(GateError::Length { what, expected, found }) }
}

fn check(plan: &Plan, input: &[u64], provisions: &[Provision], noise: &[u64]) -> Result<(), GateError> {
    length("the input share", plan.input_len(), input.len())?;
    length("the bundle", plan.programs().len() + 2, provisions.len())?;
    let gate = plan.release();
    if let Closing::Nearest { form: Form::Bits, .. } = plan.closing() {
        // Noise that nobody would add must not look like a noisy release.
        return length("the noise of an exact release", 0, noise.len());
    }
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
        if let Some(threshold) = program.threshold() {
            let entry = model.layers.get(threshold);
            length("a model's threshold", 1, entry.map_or(0, |(_, bias)| bias.len()))?;
        }
    }
    Ok(())
}
