//! Activations of a few straight pieces.
//!
//! - Computes: *leak*: `a y + (b - a) max(y, 0)`, which is `b` times the leaky rectification of slope `a / b`,
//!   exactly. *clamp*: `min(max(t, -1), 1)` at a new scale for `t = floor(y / 2^s) + c` with `c` in {0, 1}; where
//!   it cuts, one unit more or less.
//! - Learns: nothing. As in [`super::masked`] the functionality includes the carries.
//! - Consumes: a rectification per value for *leak*, without dropped bits; two for *clamp*, side by side.
//! - Costs: one rectification; both of *clamp* share its rounds.
//! - Source: `min(max(t, -1), 1) = max(t + 1, 0) - max(t - 1, 0) - 1`.

use super::masked::rectify;
use crate::context::Context;
use crate::share::Additive;
use crate::stock::StockError;

/// `rise` times each value, and `run - rise` times what of it is above zero.
///
/// # Errors
/// The stock holds something else.
pub async fn leak(
    context: &mut Context,
    value: &[u64],
    [rise, run]: [u32; 2],
) -> Result<Additive, StockError> {
    let mut bent = rectify(context, value).await?;
    let (below, above) = (u64::from(rise), u64::from(run).wrapping_sub(u64::from(rise)));
    for (bent, value) in bent.iter_mut().zip(value) {
        *bent = bent.wrapping_mul(above).wrapping_add(value.wrapping_mul(below));
    }
    Ok(bent)
}

/// Each value between -1 and 1; a one has `scale` bits after the point before the gate and `shift` fewer behind
/// it.
///
/// # Errors
/// The stock holds something else.
pub async fn clamp(
    context: &mut Context,
    value: &[u64],
    scale: u32,
    shift: u32,
) -> Result<Additive, StockError> {
    let one = context.unit() << scale;
    let above = value.iter().map(|word| word.wrapping_add(one));
    let both: Additive =
        above.chain(value.iter().map(|word| word.wrapping_sub(one))).collect::<Vec<_>>().into();
    let cut = rectify(context, &both).await?;
    let (low, high) = cut.split_at(value.len());
    let one = one >> shift;
    let clamped = low.iter().zip(high).map(|(low, high)| low.wrapping_sub(*high).wrapping_sub(one));
    Ok(clamped.collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::masked;
    use crate::share::reconstruct;
    use crate::stock::{Gadget, MaskedShape};
    use crate::testing::{Dealt, Gate};
    use crate::wire::HEADER_BYTES;

    const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];

    fn run(
        shape: MaskedShape,
        values: &[i64],
        gate: impl Fn(Context, Additive) -> Gate<'static, Additive> + Sync,
    ) -> Vec<i64> {
        let values: Vec<u64> = values.iter().map(|value| *value as u64).collect();
        let outcome = Dealt::new(&[masked::demand(shape)], &[], 1).unwrap().run(&values, gate);
        let opened = masked::openings(shape);
        let bytes: usize = opened.iter().map(|opening| opening.bytes() + HEADER_BYTES).sum();
        assert_eq!((outcome.meter.rounds as usize, outcome.meter.bytes), (opened.len(), bytes as u64));
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        reconstruct(&zero, &one).into_iter().map(|word| word as i64).collect()
    }

    #[test]
    fn what_leaks_is_exact() {
        let bound = 1i64 << 20;
        let values: Vec<i64> = (-60..60).chain([bound - 1, 1 - bound, 77_777, -77_777]).collect();
        for (gadget, [rise, run_length]) in GADGETS
            .into_iter()
            .flat_map(|gadget| [[1, 5], [1, 100], [0, 1], [51, 256]].map(|slope| (gadget, slope)))
        {
            let shape = MaskedShape::rectify(values.len(), 20, 0, gadget);
            let found = run(shape, &values, move |mut context, value| {
                Box::pin(async move { leak(&mut context, &value, [rise, run_length]).await })
            });
            for (value, found) in values.iter().zip(found) {
                let factor = i64::from(if *value < 0 { rise } else { run_length });
                assert_eq!(found, factor * value, "{gadget:?}");
            }
        }
    }

    #[test]
    fn what_is_clamped_stays_within_a_unit_of_the_ends() {
        let (scale, shift) = (24u32, 12u32);
        let one = 1i64 << scale;
        let near = |end: i64| (-3..=3).map(move |step| end + step * (1 << shift) + step);
        let values: Vec<i64> = [-one, 0, one, 5 * one, -7 * one].into_iter().flat_map(near).collect();
        for gadget in GADGETS {
            // One bit more than the values have, because one is added.
            let shape = MaskedShape::rectify(2 * values.len(), 28, shift, gadget);
            let found = run(shape, &values, move |mut context, value| {
                Box::pin(async move { clamp(&mut context, &value, scale, shift).await })
            });
            for (value, found) in values.iter().zip(found) {
                let floor = (value >> shift).clamp(-(one >> shift), one >> shift);
                assert!((found - floor).abs() <= 1, "{value}: {found} for {floor}, {gadget:?}");
            }
        }
    }
}
