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
    let mut entry = context.enter().linear()?;
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
    let mut entry = context.enter().linear()?;
    let opened = operand(context, value, &entry.mask).await;
    let mut product = std::mem::take(&mut entry.product);
    shape.multiply_add(&mut product, weights.weight, &opened);
    add_bias(&mut product, weights.bias);
    Ok(product)
}
