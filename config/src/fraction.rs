//! Exact positive numbers for privacy parameters, which never pass through floating point.

use crate::error::{ValueError, quoted};
use serde::Serialize;
use std::{cmp::Ordering, fmt, str::FromStr};

/// Numerators and denominators stay at or below this.
const PART_MAX: u64 = 1_000_000_000_000_000_000;
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 48;

/// A number of zero or more, written `2`, `0.25`, `1e-6` or `1/3`, held in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct Fraction {
    numerator: u64,
    denominator: u64,
}

impl Fraction {
    /// The quotient in lowest terms; `None` for a zero denominator or parts above 10^18.
    pub const fn new(numerator: u64, denominator: u64) -> Option<Self> {
        let (mut common, mut rest) = (numerator, denominator);
        while rest != 0 {
            (common, rest) = (rest, common % rest);
        }
        if denominator == 0 || numerator / common > PART_MAX || denominator / common > PART_MAX {
            return None;
        }
        Some(Self { numerator: numerator / common, denominator: denominator / common })
    }

    /// Above the line, in lowest terms, at most 10^18.
    pub const fn numerator(self) -> u64 {
        self.numerator
    }

    /// Below the line, in lowest terms, 1 to 10^18.
    pub const fn denominator(self) -> u64 {
        self.denominator
    }

    /// One less this, exactly; `None` above one and where the parts would pass 10^18.
    pub const fn rest_of_one(self) -> Option<Self> {
        match self.denominator.checked_sub(self.numerator) {
            Some(rest) => Self::new(rest, self.denominator),
            None => None,
        }
    }

    /// The sum, exactly; `None` where its parts would pass 10^18.
    pub fn plus(self, other: Self) -> Option<Self> {
        let cross = |a: u64, b: u64| u128::from(a) * u128::from(b);
        // Below 10^36 each, so the sum and the product fit.
        let above = cross(self.numerator, other.denominator) + cross(other.numerator, self.denominator);
        let below = cross(self.denominator, other.denominator);
        let (mut common, mut rest) = (above, below);
        while rest != 0 {
            (common, rest) = (rest, common % rest);
        }
        Self::new(u64::try_from(above / common).ok()?, u64::try_from(below / common).ok()?)
    }

    /// The digits of the decimal form without zeros at either end; `None` where that form has no end or
    /// more than 18 places.
    pub fn significand(self) -> Option<u64> {
        let mut digits = match PART_MAX % self.denominator {
            0 => u128::from(self.numerator) * u128::from(PART_MAX / self.denominator),
            _ => return None,
        };
        while digits != 0 && digits.is_multiple_of(10) {
            digits /= 10;
        }
        u64::try_from(digits).ok()
    }

    fn decimal(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, natural(exponent.strip_prefix('-')?)?),
            None => (text, 0),
        };
        let (whole, part) = match mantissa.split_once('.') {
            Some((whole, part)) if !part.is_empty() => (whole, part),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        natural(whole)?;
        let digits = natural(&format!("{whole}{part}"))?;
        let places = u32::try_from(part.len()).ok()?.checked_add(u32::try_from(exponent).ok()?)?;
        Self::new(digits, 10_u64.checked_pow(places)?)
    }
}

impl FromStr for Fraction {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = match text.split_once('/') {
            _ if text.len() > TEXT_BYTES_MAX => None,
            Some((above, below)) => natural(above).zip(natural(below)).and_then(|(a, b)| Self::new(a, b)),
            None => Self::decimal(text),
        };
        let expected = "an exact number such as \"2\", \"0.25\", \"1e-6\" or \"1/3\"";
        parsed.ok_or_else(|| {
            ValueError::new(expected, quoted(text))
                .help("at most 18 digits on either side; no sign".to_owned())
        })
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (numerator, denominator) = (u128::from(self.numerator), u128::from(self.denominator));
        let decimal = (0_usize..=18).zip(std::iter::successors(Some(1_u128), |ten| Some(ten * 10)));
        for (places, power) in decimal {
            let digits = numerator * (power / denominator);
            if power % denominator == 0 && digits <= u128::from(PART_MAX) {
                let (whole, part) = (digits / power, digits % power);
                return if places == 0 { write!(f, "{whole}") } else { write!(f, "{whole}.{part:0places$}") };
            }
        }
        write!(f, "{numerator}/{denominator}")
    }
}

impl From<Fraction> for String {
    fn from(fraction: Fraction) -> Self {
        fraction.to_string()
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        let cross = |a: u64, b: u64| u128::from(a) * u128::from(b);
        cross(self.numerator, other.denominator).cmp(&cross(other.numerator, self.denominator))
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn natural(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok().filter(|value| *value <= PART_MAX) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (u64, u64) {
        let fraction: Fraction = text.parse().unwrap();
        (fraction.numerator(), fraction.denominator())
    }

    #[test]
    fn known_numbers_are_exact() {
        assert_eq!(parts("2"), (2, 1));
        assert_eq!(parts("0.250"), (1, 4));
        assert_eq!(parts("1e-6"), (1, 1_000_000));
        assert_eq!(parts("2.5e-3"), (1, 400));
        assert_eq!(parts("2/6"), (1, 3));
        assert_eq!(parts("0"), (0, 1));
        assert_eq!(parts("1000000000000000000"), (PART_MAX, 1));
    }

    #[test]
    fn significands_are_the_digits_of_the_decimal_form() {
        let digits = |text: &str| text.parse::<Fraction>().unwrap().significand();
        assert_eq!(digits("1e-18"), Some(1));
        assert_eq!(digits("0.00120"), Some(12));
        assert_eq!(digits("1200"), Some(12));
        assert_eq!((digits("1/3"), digits("1/8"), digits("0")), (None, Some(125), Some(0)));
    }

    #[test]
    fn sums_and_rests_are_exact_or_not_given() {
        let number = |text: &str| text.parse::<Fraction>().unwrap();
        assert_eq!(number("1/3").plus(number("1/6")), Some(number("1/2")));
        assert_eq!(number("0.3").plus(number("0")), Some(number("3/10")));
        assert_eq!(number("0.3").rest_of_one(), Some(number("7/10")));
        assert_eq!((number("1").rest_of_one(), number("1.5").rest_of_one()), (Some(number("0")), None));
        let thin = Fraction::new(1, PART_MAX).unwrap();
        assert_eq!(thin.plus(Fraction::new(1, PART_MAX - 1).unwrap()), None);
        assert_eq!(Fraction::new(PART_MAX, 1).unwrap().plus(thin), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "-1",
            "+1",
            ".5",
            "5.",
            "1e6",
            "1e-",
            "1e-19",
            "1e--1",
            "1/0",
            "1/",
            "/1",
            "1/2/3",
            "0x1",
            "1_0",
            "nan",
            "1000000000000000001",
            " 1",
            "¼",
        ] {
            assert!(bad.parse::<Fraction>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_largest_finite_and_the_thinnest_compare_without_overflow() {
        let large = Fraction::new(PART_MAX, 1).unwrap();
        let thin = Fraction::new(1, PART_MAX).unwrap();
        assert!(thin < large && "1/3".parse::<Fraction>().unwrap() > "0.333".parse().unwrap());
        assert_eq!(thin.to_string(), "0.000000000000000001");
    }

    proptest! {
        #[test]
        fn text_gives_the_number_back(numerator in 0..=PART_MAX, denominator in 1..=PART_MAX, ten in 0_u32..=18) {
            for fraction in [Fraction::new(numerator, denominator), Fraction::new(numerator, 10_u64.pow(ten))] {
                let fraction = fraction.unwrap();
                prop_assert_eq!(fraction.to_string().parse::<Fraction>(), Ok(fraction));
            }
        }

        #[test]
        fn no_text_panics(text in "[-0-9eE./]{0,60}") {
            let _ = text.parse::<Fraction>();
        }
    }
}
