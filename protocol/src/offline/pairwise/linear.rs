//! Products of the fixed weight masks with fresh operand masks.
//!
//! - Computes: additive shares of `A B` for `A = A_0 + A_1`, `B = B_0 + B_1`, for all bundles of a batch
//!   side by side. Each party's own product is local; the cross products go under lattice encryption, in
//!   both directions at once.
//! - Learns: nothing but [`crate::lattice`]'s statistical leak.
//! - Consumes: a part of the life of `A`'s shares where they are multiplied in the clear
//!   ([`Layer::lifetime`]).
//! - Costs: for each direction [`Packing::requests`] and [`Packing::replies`] of the layer, shared by the
//!   whole batch; the first layers of all models share their requests.
//! - Source: Huang et al. (Cheetah, USENIX Security 2022), packed over a batch.

use super::work::{LinearWork, Work};
use super::{Bundle, Pairwise, PairwiseError, WeightMaskShares};
use crate::algebra::linear::LinearShape;
use crate::context::{Dialogue, DialogueError, Link};
use crate::lattice::{Encrypted, Evaluation, Packing, PackingError, PublicKey, Requests, SecretKey};
use crate::stock::Demand;
use std::ops::Range;
use zeroize::Zeroizing;

const KEY: u32 = 0x6c61_7401;
const REQUEST: u32 = 0x6c61_7402;
const REPLY: u32 = 0x6c61_7403;

/// Exchanges public keys.
pub(super) async fn swap_keys<L: Link>(
    dialogue: &mut Dialogue<L>,
    secret: &SecretKey,
) -> Result<PublicKey, DialogueError> {
    let theirs = dialogue.swap(KEY, secret.public_key(), PublicKey::bytes()).await?;
    Ok(PublicKey::decode(&theirs)?)
}

/// How one layer is multiplied for a whole batch.
struct Layer {
    shape: LinearShape,
    packing: Packing,
}

impl Layer {
    /// The layer's own packing. Convolutions have few weights and many outputs: there the weights are
    /// encrypted, so that the flood guards operands, which are fresh, and their masks do not age.
    fn new(shape: LinearShape) -> Result<Self, PackingError> {
        let encrypted = match shape {
            LinearShape::Dense { .. } => Encrypted::Operand,
            LinearShape::Conv(_) => Encrypted::Weights,
        };
        Ok(Self { shape, packing: Packing::choose(&shape, encrypted)? })
    }

    /// Batches for which a share of the weights' mask may be used.
    fn lifetime(&self) -> u64 {
        match self.packing.encrypted() {
            Encrypted::Operand => self.packing.products_max(),
            Encrypted::Weights => u64::MAX,
        }
    }
}

/// Layers, each with its position among the demands.
type Placed = Vec<(usize, Layer)>;

/// The dense first layers of all models, which share requests, and every other layer.
fn layers(shapes: &[(LinearShape, bool)]) -> Result<[Placed; 2], PackingError> {
    let shared = |shape: &LinearShape, first: bool| first && matches!(shape, LinearShape::Dense { .. });
    let (mut places, mut firsts, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (shape, first)) in shapes.iter().enumerate() {
        if shared(shape, *first) {
            places.push(at);
            firsts.push(*shape);
        } else {
            others.push((at, Layer::new(*shape)?));
        }
    }
    let packings = Packing::choose_shared(&firsts)?.into_iter();
    let layer = |((at, shape), packing)| (at, Layer { shape, packing });
    Ok([places.into_iter().zip(firsts).zip(packings).map(layer).collect(), others])
}

/// Bundles for which the weight masks of a plan may serve, made in batches of `count`. Afterwards the
/// models need new masks.
///
/// # Errors
/// A layer cannot be packed.
pub fn bundles_max(lanes: &[Vec<Demand>], count: usize) -> Result<u64, PackingError> {
    let mut shapes = Vec::new();
    for demand in lanes.iter().flatten() {
        if let Demand::Linear { shape, first, .. } = demand {
            shapes.push((batched(shape, count), *first));
        }
    }
    let [firsts, others] = layers(&shapes)?;
    let least = firsts.iter().chain(&others).map(|(_, layer)| layer.lifetime()).min();
    Ok(least.unwrap_or(u64::MAX).saturating_mul(count as u64))
}

/// The shape of a layer for all bundles side by side.
fn batched(shape: &LinearShape, bundles: usize) -> LinearShape {
    shape.with_batch(shape.batch() * bundles)
}

/// Adds shares of the products of all layers to the dependent words of all bundles.
pub(super) async fn multiply<L: Link>(
    pairwise: &mut Pairwise,
    dialogue: &mut Dialogue<L>,
    work: &Work,
    masks: &impl WeightMaskShares,
    bundles: &mut [Bundle],
) -> Result<(), PairwiseError> {
    let shapes: Vec<(LinearShape, bool)> = work
        .linear
        .iter()
        .map(|job| (batched(&job.of.shape, work.bundles), job.of.operand.is_empty()))
        .collect();
    let [firsts, others] = layers(&shapes)?;
    let groups = std::iter::once(firsts).chain(others.into_iter().map(|layer| vec![layer]));
    for group in groups.filter(|group| !group.is_empty()) {
        let job = &work.linear[group[0].0].of;
        let words = if job.operand.is_empty() { &work.input } else { &job.operand };
        let batch = job.shape.batch();
        let operand = Zeroizing::new(interleave(words, work.bundles, batch));
        let mut products = Vec::with_capacity(group.len());
        for (at, layer) in &group {
            let weights = mask_share(&work.linear[*at].of, masks)?;
            let mut share = Zeroizing::new(vec![0; layer.shape.output_len()]);
            layer.shape.multiply_add(&mut share, weights, &operand);
            products.push(Product { layer, weights, share });
        }
        match group[0].1.packing.encrypted() {
            Encrypted::Operand => pairwise.cross_operand(dialogue, &operand, &mut products).await?,
            Encrypted::Weights => {
                for product in &mut products {
                    pairwise.cross_weights(dialogue, &operand, product).await?;
                }
            }
        }
        for ((at, _), product) in group.iter().zip(&products) {
            let job = &work.linear[*at];
            let length = job.of.shape.output_len();
            for (index, bundle) in bundles.iter_mut().enumerate() {
                let place = &mut bundle.dependent[job.at..job.at + length];
                deinterleave(&product.share, (index, work.bundles), batch, place);
            }
        }
    }
    Ok(())
}

fn mask_share<'m>(job: &LinearWork, masks: &'m impl WeightMaskShares) -> Result<&'m [u64], PairwiseError> {
    let (model, layer) = (job.model, job.layer);
    let share = masks.share(model, layer).filter(|share| share.len() == job.shape.weight_len());
    share.ok_or(PairwiseError::Mask { model, layer })
}

/// From `[bundle][value][batch]` to `[value][bundle][batch]`.
fn interleave(words: &[u64], bundles: usize, batch: usize) -> Vec<u64> {
    let each = words.len() / bundles;
    let mut mixed = Vec::with_capacity(words.len());
    for value in (0..each).step_by(batch) {
        for bundle in 0..bundles {
            let from = bundle * each + value;
            mixed.extend_from_slice(&words[from..from + batch]);
        }
    }
    mixed
}

/// One bundle's part of `[value][bundle][batch]`.
fn deinterleave(mixed: &[u64], (index, bundles): (usize, usize), batch: usize, place: &mut [u64]) {
    for (own, all) in place.chunks_exact_mut(batch).zip(mixed.chunks_exact(batch * bundles)) {
        own.copy_from_slice(&all[index * batch..(index + 1) * batch]);
    }
}

/// One layer in work: this party's share of the mask, and of the product so far.
struct Product<'a> {
    layer: &'a Layer,
    weights: &'a [u64],
    share: Zeroizing<Vec<u64>>,
}

impl Pairwise {
    /// Sends the own requests of a range and takes in the other's.
    async fn swap_requests<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        (packing, tensor): (&Packing, &[u64]),
        range: Range<usize>,
        requests: &mut Requests,
    ) -> Result<(), DialogueError> {
        for request in range {
            let own = self.secret.request(packing, tensor, request, &mut self.prg);
            let theirs = dialogue.swap(REQUEST, &own, Packing::request_bytes()).await?;
            requests.absorb(request, &theirs)?;
        }
        Ok(())
    }

    /// Sends one reply and opens the other's.
    async fn swap_replies<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        (packing, evaluation): (&Packing, &mut Evaluation<'_>),
        reply: usize,
        requests: &Requests,
        share: &mut [u64],
    ) -> Result<(), DialogueError> {
        let own = evaluation.reply(reply, requests, &self.public, &mut self.prg, share);
        let theirs = dialogue.swap(REPLY, &own, packing.reply_bytes(reply)).await?;
        Ok(self.secret.open(packing, reply, &theirs, share)?)
    }

    /// Both cross products of several weights with one operand, which is encrypted.
    async fn cross_operand<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        operand: &[u64],
        products: &mut [Product<'_>],
    ) -> Result<(), DialogueError> {
        let Some(first) = products.first().map(|product| product.layer) else { return Ok(()) };
        let mut requests = Requests::new(&first.packing);
        let mut evaluations: Vec<(Evaluation<'_>, usize)> = products
            .iter()
            .map(|product| (Evaluation::new(&product.layer.packing, product.weights), 0))
            .collect();
        let mut sent = 0;
        while sent < first.packing.requests() {
            let range = first.packing.requests_of(evaluations[0].1);
            self.swap_requests(dialogue, (&first.packing, operand), range.clone(), &mut requests).await?;
            for (product, (evaluation, next)) in products.iter_mut().zip(&mut evaluations) {
                let packing = &product.layer.packing;
                while *next < packing.replies() && packing.requests_of(*next) == range {
                    let share = &mut product.share;
                    self.swap_replies(dialogue, (packing, evaluation), *next, &requests, share).await?;
                    *next += 1;
                }
            }
            sent = range.end;
            requests.release(range);
        }
        Ok(())
    }

    /// Both cross products of weights, which are encrypted, with an operand.
    async fn cross_weights<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        operand: &[u64],
        product: &mut Product<'_>,
    ) -> Result<(), DialogueError> {
        let packing = &product.layer.packing;
        let mut requests = Requests::new(packing);
        let all = 0..packing.requests();
        self.swap_requests(dialogue, (packing, product.weights), all, &mut requests).await?;
        let mut evaluation = Evaluation::new(packing, operand);
        for reply in 0..packing.replies() {
            let share = &mut product.share;
            self.swap_replies(dialogue, (packing, &mut evaluation), reply, &requests, share).await?;
        }
        Ok(())
    }
}
