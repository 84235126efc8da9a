//! Exact public parameters: a positive rational and a failure probability.
//!
//! Both compute parties derive noise tables and limits from these by themselves and must arrive at the same
//! bits, so no parameter ever passes through a floating-point number.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Largest value of a [`Ratio`].
const RATIO_MAX: u64 = 1 << 20;
/// The smallest value of a [`Ratio`] is one over this.
const RATIO_MIN_INVERSE: u64 = 1 << 10;
/// Largest numerator or denominator in lowest terms; products with 2^40 and small factors stay below 2^128.
const TERM_MAX: u64 = 1 << 40;
/// Longest text looked at.
const TEXT_BYTES_MAX: usize = 48;
/// Digits read after the decimal point, and digits of a whole number.
const DIGITS_MAX: usize = 18;
/// A delta has at most this many significant digits.
const DELTA_MANTISSA_MAX: u64 = 999_999;
/// The smallest delta is 10 to minus this; the largest is one tenth.
const DELTA_EXPONENT_MAX: u32 = 18;

/// Why a text or a pair of integers is not an exact parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not one of the accepted notations.
    #[error("`{text}` is not an exact positive number; write it as {notation}")]
    Notation {
        /// The text, shortened.
        text: String,
        /// What would be accepted.
        notation: &'static str,
    },
    /// Zero, or outside the range.
    #[error("`{text}` is out of range; use a value from {least} to {most}")]
    Range {
        /// The value as given, shortened.
        text: String,
        /// Smallest accepted value.
        least: &'static str,
        /// Largest accepted value.
        most: &'static str,
    },
    /// More digits than are kept exactly.
    #[error("`{text}` has too many digits to be kept exactly; use fewer")]
    Digits {
        /// The value as given, shortened.
        text: String,
    },
}

/// An exact rational in lowest terms, from 1/1024 to 2^20.
///
/// Written `5/2`, `2` or `0.25`; shown and stored as `5/2` or `2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio {
    numerator: u64,
    denominator: u64,
}

impl Ratio {
    /// `numerator / denominator`, brought to lowest terms.
    ///
    /// # Errors
    /// [`NumberError::Range`] outside 1/1024 to 2^20 or for a zero, [`NumberError::Digits`] when a term in
    /// lowest terms passes 2^40.
    pub fn new(numerator: u64, denominator: u64) -> Result<Self, NumberError> {
        let text = || format!("{numerator}/{denominator}");
        let least = u128::from(numerator) * u128::from(RATIO_MIN_INVERSE) >= u128::from(denominator);
        let most = u128::from(numerator) <= u128::from(denominator) * u128::from(RATIO_MAX);
        if numerator == 0 || denominator == 0 || !least || !most {
            return Err(NumberError::Range { text: text(), least: "1/1024", most: "1048576" });
        }
        let divisor = greatest_divisor(numerator, denominator);
        let ratio = Self { numerator: numerator / divisor, denominator: denominator / divisor };
        if ratio.numerator > TERM_MAX || ratio.denominator > TERM_MAX {
            return Err(NumberError::Digits { text: text() });
        }
        Ok(ratio)
    }

    /// The numerator in lowest terms, at most 2^40.
    pub const fn numerator(&self) -> u64 {
        self.numerator
    }

    /// The denominator in lowest terms, at most 2^40.
    pub const fn denominator(&self) -> u64 {
        self.denominator
    }
}

impl FromStr for Ratio {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let wrong = || notation(text, "`5/2`, `2` or `0.25`");
        if text.len() > TEXT_BYTES_MAX {
            return Err(NumberError::Digits { text: shortened(text) });
        }
        let (numerator, denominator) = match (text.split_once('/'), text.split_once('.')) {
            (Some((above, below)), None) => {
                (digits(above).ok_or_else(wrong)?, digits(below).ok_or_else(wrong)?)
            }
            (None, Some((whole, fraction))) => decimal(whole, fraction).ok_or_else(wrong)?,
            (None, None) => (digits(text).ok_or_else(wrong)?, 1),
            (Some(_), Some(_)) => return Err(wrong()),
        };
        Self::new(numerator, denominator)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            below => write!(f, "{}/{below}", self.numerator),
        }
    }
}

impl TryFrom<String> for Ratio {
    type Error = NumberError;

    fn try_from(text: String) -> Result<Self, NumberError> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

/// An exact failure probability from 10^-18 to 10^-1, with up to six significant digits.
///
/// Written `1e-6`, `2.5e-7` or `0.00001`; shown and stored as `1e-6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delta {
    mantissa: u64,
    exponent: u32,
}

impl Delta {
    /// `mantissa · 10^-exponent`.
    ///
    /// # Errors
    /// [`NumberError::Range`] outside 10^-18 to 10^-1, [`NumberError::Digits`] beyond six significant digits.
    pub fn new(mantissa: u64, exponent: u32) -> Result<Self, NumberError> {
        let text = || format!("{mantissa}e-{exponent}");
        let range = || NumberError::Range { text: text(), least: "1e-18", most: "1e-1" };
        let (mut mantissa_left, mut exponent_left) = (mantissa, exponent);
        while mantissa_left != 0 && mantissa_left % 10 == 0 && exponent_left > 0 {
            (mantissa_left, exponent_left) = (mantissa_left / 10, exponent_left - 1);
        }
        if mantissa_left > DELTA_MANTISSA_MAX {
            return Err(NumberError::Digits { text: text() });
        }
        // One over 10^24 at the smallest: everything below is under 10^18 for certain.
        let scale = 10u128.checked_pow(exponent_left).filter(|_| exponent_left <= 24).ok_or_else(range)?;
        let value = u128::from(mantissa_left);
        let enough = value.checked_mul(10u128.pow(DELTA_EXPONENT_MAX)).is_some_and(|scaled| scaled >= scale);
        if value == 0 || !enough || value * 10 > scale {
            return Err(range());
        }
        Ok(Self { mantissa: mantissa_left, exponent: exponent_left })
    }

    /// The significant digits, at most 999,999, not divisible by ten.
    pub const fn mantissa(&self) -> u64 {
        self.mantissa
    }

    /// The power of ten that divides the mantissa, at most 24.
    pub const fn exponent(&self) -> u32 {
        self.exponent
    }
}

impl FromStr for Delta {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let wrong = || notation(text, "`1e-6`, `2.5e-7` or `0.00001`");
        if text.len() > TEXT_BYTES_MAX {
            return Err(NumberError::Digits { text: shortened(text) });
        }
        let (number, exponent) = match text.split_once("e-") {
            Some((number, exponent)) => (number, digits(exponent).ok_or_else(wrong)?),
            None => (text, 0),
        };
        let (mantissa, places) = match number.split_once('.') {
            Some((whole, fraction)) => (decimal(whole, fraction).map(|(value, _)| value), fraction.len()),
            None => (digits(number), 0),
        };
        let mantissa = mantissa.ok_or_else(wrong)?;
        let places = u32::try_from(places).map_err(|_| wrong())?;
        let exponent = u32::try_from(exponent).ok().and_then(|value| value.checked_add(places));
        Self::new(mantissa, exponent.ok_or_else(wrong)?)
    }
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}e-{}", self.mantissa, self.exponent)
    }
}

impl TryFrom<String> for Delta {
    type Error = NumberError;

    fn try_from(text: String) -> Result<Self, NumberError> {
        text.parse()
    }
}

impl From<Delta> for String {
    fn from(delta: Delta) -> Self {
        delta.to_string()
    }
}

/// An unsigned integer of plain digits. `u64::from_str` alone would also take a plus sign.
fn digits(text: &str) -> Option<u64> {
    let plain =
        !text.is_empty() && text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// `whole.fraction` as an integer over a power of ten.
fn decimal(whole: &str, fraction: &str) -> Option<(u64, u64)> {
    let below = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some((digits(whole)?.checked_mul(below)?.checked_add(digits(fraction)?)?, below))
}

fn greatest_divisor(mut larger: u64, mut smaller: u64) -> u64 {
    while smaller != 0 {
        (larger, smaller) = (smaller, larger % smaller);
    }
    larger
}

fn notation(text: &str, notation: &'static str) -> NumberError {
    NumberError::Notation { text: shortened(text), notation }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notations_agree() {
        for text in ["5/2", "10/4", "2.5", "2.50"] {
            assert_eq!(text.parse::<Ratio>().unwrap(), Ratio::new(5, 2).unwrap(), "{text}");
        }
        assert_eq!("2".parse::<Ratio>().unwrap().to_string(), "2");
        assert_eq!("0.25".parse::<Ratio>().unwrap().to_string(), "1/4");
        for text in ["1e-6", "0.000001", "10e-7", "0.1e-5"] {
            assert_eq!(text.parse::<Delta>().unwrap(), Delta::new(1, 6).unwrap(), "{text}");
        }
        assert_eq!("2.5e-7".parse::<Delta>().unwrap().to_string(), "25e-8");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "+2", "-2", "2.", ".5", "1/2/3", "1/2.5", "1e3", " 2", "0", "0/1", "1/0", "NaN"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        for text in ["1048577", "1/1025", "1048576.1", "1/18446744073709551616"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        for text in ["", "0", "1", "0.2", "1e-19", "1e6", "1e-", "-1e-6", "1.2345678e-6", "1e-4000000000"] {
            assert!(text.parse::<Delta>().is_err(), "{text}");
        }
        let long = "1".repeat(1 << 20);
        assert!(long.parse::<Ratio>().unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn the_ends_of_the_ranges_belong() {
        for text in ["1/1024", "1048576"] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), text);
        }
        for text in ["1e-18", "1e-1", "999999e-24"] {
            let parsed = text.parse::<Delta>();
            assert_eq!(parsed.is_ok(), text != "999999e-24", "{text}");
        }
    }

    #[test]
    fn a_number_in_a_file_must_be_text() {
        assert!(serde_json::from_str::<Ratio>("2").is_err());
        assert_eq!(serde_json::from_str::<Ratio>("\"2/4\"").unwrap(), Ratio::new(1, 2).unwrap());
        assert_eq!(serde_json::to_string(&Ratio::new(2, 4).unwrap()).unwrap(), "\"1/2\"");
    }

    proptest! {
        #[test]
        fn shown_values_parse_back(numerator in 1u64..1 << 40, denominator in 1u64..1 << 40) {
            if let Ok(ratio) = Ratio::new(numerator, denominator) {
                prop_assert_eq!(ratio.to_string().parse::<Ratio>().unwrap(), ratio);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            if let Ok(ratio) = text.parse::<Ratio>() {
                prop_assert_eq!(ratio.to_string().parse::<Ratio>().unwrap(), ratio);
            }
            if let Ok(delta) = text.parse::<Delta>() {
                prop_assert_eq!(delta.to_string().parse::<Delta>().unwrap(), delta);
            }
        }
    }
}
