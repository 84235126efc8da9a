//! Element by element operations on vectors over Z_2^64.

/// `out += x`.
///
/// # Panics
/// If the lengths differ.
pub fn add_assign(out: &mut [u64], x: &[u64]) {
    pairwise(out, x, u64::wrapping_add);
}

/// `out -= x`.
///
/// # Panics
/// If the lengths differ.
pub fn sub_assign(out: &mut [u64], x: &[u64]) {
    pairwise(out, x, u64::wrapping_sub);
}

/// `out *= x`.
///
/// # Panics
/// If the lengths differ.
pub fn mul_assign(out: &mut [u64], x: &[u64]) {
    pairwise(out, x, u64::wrapping_mul);
}

/// `a + b`.
///
/// # Panics
/// If the lengths differ.
pub fn sum(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut out = a.to_vec();
    add_assign(&mut out, b);
    out
}

/// `a - b`.
///
/// # Panics
/// If the lengths differ.
pub fn difference(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut out = a.to_vec();
    sub_assign(&mut out, b);
    out
}

/// `out = -out`.
pub fn negate(out: &mut [u64]) {
    each(out, u64::wrapping_neg);
}

/// `out *= factor`.
pub fn scale(out: &mut [u64], factor: u64) {
    each(out, |word| word.wrapping_mul(factor));
}

/// The sum of all rows of `batch` words.
pub fn add_rows(x: &[u64], batch: usize) -> Vec<u64> {
    let mut out = vec![0; batch];
    for row in x.chunks_exact(batch.max(1)) {
        add_assign(&mut out, row);
    }
    out
}

/// The sum of the squares of all rows of `batch` words.
pub fn norms(x: &[u64], batch: usize) -> Vec<u64> {
    let mut out = vec![0; batch];
    for row in x.chunks_exact(batch.max(1)) {
        multiply_add(&mut out, row, row);
    }
    out
}

/// `out += a * b`.
///
/// # Panics
/// If the lengths differ.
pub fn multiply_add(out: &mut [u64], a: &[u64], b: &[u64]) {
    assert!(out.len() == a.len() && a.len() == b.len(), "vectors differ in length");
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (word, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
                *word = word.wrapping_add(a.wrapping_mul(*b));
            }
        },
    );
}

fn pairwise(out: &mut [u64], x: &[u64], operation: impl Fn(u64, u64) -> u64) {
    assert_eq!(out.len(), x.len(), "vectors differ in length");
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (word, x) in out.iter_mut().zip(x) {
                *word = operation(*word, *x);
            }
        },
    );
}

fn each(out: &mut [u64], operation: impl Fn(u64) -> u64) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for word in out {
                *word = operation(*word);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn operations_wrap(pairs in prop::collection::vec(any::<(u64, u64)>(), 0..40), factor: u64) {
            let (a, b): (Vec<u64>, Vec<u64>) = pairs.iter().copied().unzip();
            let map = |operation: fn(u64, u64) -> u64| -> Vec<u64> {
                pairs.iter().map(|(a, b)| operation(*a, *b)).collect()
            };
            prop_assert_eq!(sum(&a, &b), map(u64::wrapping_add));
            prop_assert_eq!(difference(&a, &b), map(u64::wrapping_sub));
            let mut product = a.clone();
            mul_assign(&mut product, &b);
            prop_assert_eq!(&product, &map(u64::wrapping_mul));
            let mut total = b.clone();
            multiply_add(&mut total, &a, &b);
            prop_assert_eq!(&difference(&total, &product), &b);
            scale(&mut total, factor);
            let mut twice = total.clone();
            negate(&mut twice);
            prop_assert!(sum(&twice, &total).iter().all(|word| *word == 0));
            prop_assert!(total.iter().zip(b.iter().zip(&product)).all(|(word, (b, p))| *word == b.wrapping_add(*p).wrapping_mul(factor)));
        }
    }

    #[test]
    #[should_panic(expected = "differ in length")]
    fn lengths_must_agree() {
        add_assign(&mut [1, 2], &[1]);
    }
}
