//! Products with fixed weights.
//!
//! - Computes: `W x + b` for shared fixed `W` and `b` and shared `x`; dense or convolution.
//! - Learns: both parties learn `x - m` for a uniform `m` used once. `W - A` was opened once, at
//!   registration. Nothing else.
//! - Consumes: a matrix triple: shares of `m` and of `W m`; the first layers of all models of a task
//!   share one input mask.
//! - Costs: 1 round and 8 bytes per value of `x`; nothing where `x - m` is already open.
//! - Source: Beaver triples with a fixed operand (SecureML, Mohassel and Zhang, S&P 2017, section
//!   4.1; design section 5). With `W m = (W - A) m + A m` laid out beforehand, one local product is
//!   left: `W x = W (x - m) + W m`.

use super::open::operand;
use crate::algebra::linear::LinearShape;
use crate::algebra::matmul::add_bias;
use crate::context::Context;
use crate::share::Additive;
use crate::stock::StockError;

/// One party's share of the weights of one layer.
#[derive(Clone, Copy, Debug)]
pub struct WeightShare<'a> {
    /// `W`, row-major.
    pub weight: &'a Additive,
    /// One word per output, at the scale of the product.
    pub bias: &'a Additive,
}

/// The product with an operand that is already open under the input mask.
///
/// # Errors
/// The stock holds something else.
pub fn with_opened(
    context: &mut Context,
    opened: &[u64],
    weights: WeightShare<'_>,
    shape: LinearShape,
) -> Result<Additive, StockError> {
    let mut entry = context.enter().linear(shape.output_len())?;
    let mut product = std::mem::take(&mut entry.product);
    shape.multiply_add(&mut product, weights.weight, opened);
    add_bias(&mut product, weights.bias);
    Ok(product)
}

/// The product with a shared operand.
///
/// # Errors
/// The stock holds something else.
pub async fn with_shared(
    context: &mut Context,
    value: &[u64],
    weights: WeightShare<'_>,
    shape: LinearShape,
) -> Result<Additive, StockError> {
    let mut entry = context.enter().linear(shape.output_len())?;
    if entry.mask.len() != value.len() {
        let (wanted, found) = (value.len(), entry.mask.len());
        return Err(StockError::Count { what: "an operand mask", wanted, found });
    }
    let opened = operand(context, value, &entry.mask).await;
    let mut product = std::mem::take(&mut entry.product);
    shape.multiply_add(&mut product, weights.weight, &opened);
    add_bias(&mut product, weights.bias);
    Ok(product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::conv::ConvShape;
    use crate::algebra::prg::{Prg, Seed};
    use crate::online::open;
    use crate::share::reconstruct;
    use crate::stock::Demand;
    use crate::testing::Dealt;
    use crate::wire::HEADER_BYTES;

    const CONV: LinearShape = LinearShape::Conv(ConvShape {
        channels: 2,
        height: 6,
        width: 5,
        outputs: 3,
        kernel: [3, 2],
        stride: [2, 1],
        padding: [1, 1, 0, 0],
        batch: 2,
    });
    const DENSE: LinearShape = LinearShape::Dense { outputs: 5, inputs: 60, batch: 2 };

    struct Layer {
        shape: LinearShape,
        weight: Vec<u64>,
        bias: Vec<u64>,
        value: Vec<u64>,
    }

    impl Layer {
        fn random(shape: LinearShape) -> Self {
            let mut prg = Prg::new(&Seed::from_bytes([7; 16]));
            let [weight, bias, value] =
                [shape.weight_len(), shape.bias_len(), shape.input_len()].map(|count| prg.words(count));
            Self { shape, weight, bias, value }
        }

        fn expected(&self) -> Vec<u64> {
            let mut product = vec![0; self.shape.output_len()];
            self.shape.multiply_add(&mut product, &self.weight, &self.value);
            add_bias(&mut product, &self.bias);
            product
        }

        /// Both shares of weight and bias, Zero's first.
        fn shares(&self) -> [(Additive, Additive); 2] {
            let seeds = [[1; 16], [2; 16]].map(Seed::from_bytes);
            let zero = |words: &[u64], seed| Additive::expand(seed, words.len());
            [
                (zero(&self.weight, &seeds[0]), zero(&self.bias, &seeds[1])),
                (Additive::complement(&self.weight, &seeds[0]), Additive::complement(&self.bias, &seeds[1])),
            ]
        }
    }

    #[test]
    fn products_with_a_shared_operand_are_exact() {
        for shape in [DENSE, CONV] {
            let layer = Layer::random(shape);
            let shares = layer.shares();
            let demand = Demand::Linear { model: 0, layer: 0, shape, first: false };
            let dealt = Dealt::new(&[demand], std::slice::from_ref(&layer.weight), 1).unwrap();
            let outcome = dealt.run(&layer.value, |mut context, value| {
                let (weight, bias) = &shares[usize::from(context.unit() == 0)];
                Box::pin(async move {
                    with_shared(&mut context, &value, WeightShare { weight, bias }, shape).await
                })
            });
            let bytes = HEADER_BYTES + 8 * shape.input_len();
            assert_eq!((outcome.meter.rounds, outcome.meter.bytes as usize), (1, bytes));
            let [zero, one] = outcome.results.map(|result| result.unwrap());
            assert_eq!(reconstruct(&zero, &one), layer.expected());
        }
    }

    #[test]
    fn products_with_an_opened_operand_cost_nothing() {
        for shape in [DENSE, CONV] {
            let layer = Layer::random(shape);
            let shares = layer.shares();
            let demands = [
                Demand::InputMask { count: shape.input_len() },
                Demand::Linear { model: 0, layer: 0, shape, first: true },
            ];
            let dealt = Dealt::new(&demands, std::slice::from_ref(&layer.weight), 2).unwrap();
            let outcome = dealt.run(&layer.value, |mut context, value| {
                let (weight, bias) = &shares[usize::from(context.unit() == 0)];
                Box::pin(async move {
                    let entry = context.enter().input_mask(value.len())?;
                    let opened = open::operand(&context, &value, &entry.mask).await;
                    with_opened(&mut context, &opened, WeightShare { weight, bias }, shape)
                })
            });
            assert_eq!(outcome.meter.rounds, 1);
            let [zero, one] = outcome.results.map(|result| result.unwrap());
            assert_eq!(reconstruct(&zero, &one), layer.expected());
        }
    }

    #[test]
    fn another_shape_is_refused() {
        let layer = Layer::random(DENSE);
        let demand = Demand::Linear { model: 0, layer: 0, shape: DENSE, first: false };
        for shape in [DENSE.with_batch(1), LinearShape::Dense { outputs: 10, inputs: 7, batch: 1 }] {
            let weights = [layer.weight.clone()];
            let dealt = Dealt::new(std::slice::from_ref(&demand), &weights, 3).unwrap();
            let (weight, bias) = (Additive::zeros(shape.weight_len()), Additive::zeros(shape.bias_len()));
            let outcome = dealt.run(&vec![0; shape.input_len()], |mut context, value| {
                let weights = WeightShare { weight: &weight, bias: &bias };
                Box::pin(async move { with_shared(&mut context, &value, weights, shape).await })
            });
            for result in outcome.results {
                let error = result.unwrap_err();
                assert!(
                    matches!(error, crate::context::ComputationError::Gate(StockError::Count { .. })),
                    "{error}"
                );
            }
        }
    }
}
