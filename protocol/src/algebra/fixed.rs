//! Real numbers as words: two's complement with a fixed binary point.

/// Most fraction bits: one bit stays for the integer part, one for the sign.
pub const FRACTION_BITS_MAX: u32 = 62;

/// A binary point. `encode(v)` is `v * 2^fraction_bits` rounded to nearest, ties to even.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixed {
    /// Bits after the point, at most [`FRACTION_BITS_MAX`].
    pub fraction_bits: u32,
}

/// Why a number was not encoded. The number itself may be secret and is not shown.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum FixedError {
    /// NaN or infinity.
    #[error("value {index} is not a finite number; repair the input")]
    NotFinite {
        /// Position of the value.
        index: usize,
    },
    /// Larger in magnitude than the public bound.
    #[error(
        "value {index} is outside -{bound}..{bound}, the range that the task declares; scale or clip the input"
    )]
    OutOfBound {
        /// Position of the value.
        index: usize,
        /// The bound.
        bound: f64,
    },
    /// The bound itself does not fit below 2^62 at this point, or is no magnitude.
    #[error(
        "magnitudes up to {bound} with {fraction_bits} fraction bits do not stay below 2^62; lower one of them"
    )]
    Bound {
        /// The bound.
        bound: f64,
        /// Bits after the point.
        fraction_bits: u32,
    },
}

impl Fixed {
    /// The word of one value of at most `bound` in magnitude.
    ///
    /// # Errors
    /// [`FixedError`], with index 0.
    pub fn encode(self, value: f64, bound: f64) -> Result<u64, FixedError> {
        let scale = self.scale(bound)?;
        encode_one(0, value, scale, bound)
    }

    /// The words of values of at most `bound` in magnitude; `f32` and `f64` alike.
    ///
    /// # Errors
    /// [`FixedError`] for the first value at fault, or for the bound.
    pub fn encode_all<V: Copy + Into<f64>>(self, values: &[V], bound: f64) -> Result<Vec<u64>, FixedError> {
        let scale = self.scale(bound)?;
        let encode = |(index, value): (usize, &V)| encode_one(index, (*value).into(), scale, bound);
        values.iter().enumerate().map(encode).collect()
    }

    /// The value of a word, exact up to 53 significant bits.
    pub fn decode(self, word: u64) -> f64 {
        word.cast_signed() as f64 / power(self.fraction_bits)
    }

    fn scale(self, bound: f64) -> Result<f64, FixedError> {
        let scale = power(self.fraction_bits);
        if self.fraction_bits <= FRACTION_BITS_MAX && bound >= 0.0 && bound * scale < power(62) {
            Ok(scale)
        } else {
            Err(FixedError::Bound { bound, fraction_bits: self.fraction_bits })
        }
    }
}

fn power(exponent: u32) -> f64 {
    f64::from(exponent).exp2()
}

fn encode_one(index: usize, value: f64, scale: f64, bound: f64) -> Result<u64, FixedError> {
    if !value.is_finite() {
        Err(FixedError::NotFinite { index })
    } else if value.abs() > bound {
        Err(FixedError::OutOfBound { index, bound })
    } else {
        // Below 2^62 by the checks, so the cast keeps the integer as it is.
        Ok(((value * scale).round_ties_even() as i64).cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POINT: Fixed = Fixed { fraction_bits: 16 };

    #[test]
    fn known_values() {
        for (value, word) in [
            (0.0, 0),
            (1.0, 65536),
            (-1.0, 65536_u64.wrapping_neg()),
            (0.5 / 65536.0, 0),
            (1.5 / 65536.0, 2),
            (-2.5 / 65536.0, 2_u64.wrapping_neg()),
        ] {
            assert_eq!(POINT.encode(value, 1.0), Ok(word), "{value}");
        }
        assert_eq!(POINT.decode(98304_u64.wrapping_neg()), -1.5);
    }

    #[test]
    fn strange_numbers_are_refused() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(POINT.encode_all(&[0.0, value], 8.0), Err(FixedError::NotFinite { index: 1 }));
        }
        assert_eq!(POINT.encode(8.1, 8.0), Err(FixedError::OutOfBound { index: 0, bound: 8.0 }));
        assert_eq!(POINT.encode(-8.1, 8.0), Err(FixedError::OutOfBound { index: 0, bound: 8.0 }));
    }

    #[test]
    fn bounds_that_overflow_are_refused() {
        let bound = power(46);
        assert_eq!(POINT.encode(0.0, bound), Err(FixedError::Bound { bound, fraction_bits: 16 }));
        assert!(POINT.encode(0.0, bound / 2.0).is_ok());
        assert!(POINT.encode(0.0, -1.0).is_err());
        assert!(POINT.encode(0.0, f64::NAN).is_err());
        assert!(Fixed { fraction_bits: 63 }.encode(0.0, 0.0).is_err());
    }

    proptest! {
        #[test]
        fn rounding_is_to_nearest(value in -1000.0_f64..1000.0, fraction_bits in 0_u32..=40) {
            let point = Fixed { fraction_bits };
            let back = point.decode(point.encode(value, 1000.0).unwrap());
            prop_assert!((back - value).abs() * power(fraction_bits) <= 0.5);
        }
    }
}
