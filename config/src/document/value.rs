//! Single values: what a key may hold, and what to say when it holds something else.

use super::closest;
use crate::{
    error::{ValueError, quoted},
    limits::{LABEL_CHARS, PATH_BYTES_MAX},
};
use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr};
use toml::de::DeValue;

/// Any string.
pub(crate) fn text(value: &DeValue<'_>) -> Result<String, ValueError> {
    string(value, "a string in quotes").map(str::to_owned)
}

/// A string that a type reads for itself.
pub(crate) fn parsed<T: FromStr<Err = ValueError>>(value: &DeValue<'_>) -> Result<T, ValueError> {
    string(value, "a string in quotes")?.parse()
}

/// A string that people read: bounded, without control characters or space at its ends.
pub(crate) fn label(value: &DeValue<'_>) -> Result<String, ValueError> {
    let text = string(value, "a string in quotes")?;
    let expected = || format!("{} of text", between(&LABEL_CHARS).replace("values", "characters"));
    if !LABEL_CHARS.contains(&text.chars().take(LABEL_CHARS.end() + 1).count()) {
        return Err(ValueError::new(expected(), quoted(text)));
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        let error = ValueError::new(expected(), quoted(text));
        return Err(error.help("no space at either end, no line break or other control character".to_owned()));
    }
    Ok(text.to_owned())
}

/// A path, absolute or relative to the file's folder.
pub(crate) fn path(value: &DeValue<'_>) -> Result<PathBuf, ValueError> {
    let text = string(value, "a path in quotes")?;
    if text.is_empty() || text.len() > PATH_BYTES_MAX || text.chars().any(char::is_control) {
        let expected = format!("a path of 1 to {PATH_BYTES_MAX} bytes without control characters");
        return Err(ValueError::new(expected, quoted(text)));
    }
    Ok(PathBuf::from(text))
}

/// One word of a fixed set.
pub(crate) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, ValueError> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let expected = match words.as_slice() {
        [only] => format!("`{only}`"),
        _ => format!("one of {}", alternatives(&words)),
    };
    let text = string(value, &expected)?;
    match choices.iter().find(|(word, _)| *word == text) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let meant = closest(text, words).map(|word| format!("did you mean `{word}`?"));
            Err(ValueError::new(expected, quoted(text)).help(meant))
        }
    }
}

/// `true` or `false`.
pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, ValueError> {
    match value {
        DeValue::Boolean(boolean) => Ok(*boolean),
        other => {
            Err(ValueError::new("`true` or `false`", kind(other)).help("write it without quotes".to_owned()))
        }
    }
}

/// A whole number within a range.
pub(crate) fn whole<T>(value: &DeValue<'_>, range: &RangeInclusive<T>) -> Result<T, ValueError>
where
    T: Copy + PartialOrd + Display + TryFrom<i128>,
{
    let expected = || format!("a whole number from {} to {}", range.start(), range.end());
    let DeValue::Integer(integer) = value else {
        let help = matches!(value, DeValue::String(_)).then(|| "write it without quotes or unit".to_owned());
        return Err(ValueError::new(expected(), kind(value)).help(help));
    };
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
    let fitting = number.and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number));
    fitting.ok_or_else(|| ValueError::new(expected(), quoted(&integer.to_string())))
}

/// A finite number of bounded magnitude.
pub(crate) fn real(value: &DeValue<'_>, magnitude_max: f64) -> Result<f64, ValueError> {
    let text = match value {
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        DeValue::Float(float) => float.as_str(),
        other => return Err(ValueError::new("a number", kind(other))),
    };
    match text.parse::<f64>() {
        Ok(number) if number.abs() <= magnitude_max => Ok(number),
        _ => Err(ValueError::new(format!("a number within ±{magnitude_max}"), quoted(text))),
    }
}

/// What a value is, for a message.
pub(crate) fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", quoted(text)),
        DeValue::Integer(integer) => format!("the number {}", quoted(&integer.to_string())),
        DeValue::Float(float) => format!("the number {}", quoted(float.as_str())),
        DeValue::Boolean(boolean) => format!("`{boolean}`"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `a`, `b` and `c` in quotes.
pub(crate) fn alternatives(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A range of counts in words.
pub(crate) fn between(counts: &RangeInclusive<usize>) -> String {
    match (counts.start(), counts.end()) {
        (least, most) if least == most => format!("{least} values"),
        (least, most) => format!("{least} to {most} values"),
    }
}

fn string<'v>(value: &'v DeValue<'_>, expected: &str) -> Result<&'v str, ValueError> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(ValueError::new(expected, kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(text: &str, read: impl Fn(&DeValue<'_>) -> Result<T, ValueError>) -> Result<T, String> {
        let value = DeValue::parse(text).unwrap();
        read(value.get_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn whole_numbers_stay_in_range() {
        let small = |text: &str| with(text, |value| whole(value, &(8_u32..=20)));
        assert_eq!(small("8"), Ok(8));
        assert_eq!(small("0x1_0"), Ok(16));
        for bad in
            ["7", "21", "-9", "4294967304", "99999999999999999999999999999999999999999", "8.0", "\"8\""]
        {
            assert!(small(bad).is_err(), "{bad} was accepted");
        }
        assert_eq!(small("21").unwrap_err(), "expected a whole number from 8 to 20, found `21`");
    }

    #[test]
    fn reals_are_finite_and_bounded() {
        assert_eq!(with("-2.5e3", |value| real(value, 1e12)), Ok(-2500.0));
        assert_eq!(with("7", |value| real(value, 1e12)), Ok(7.0));
        for bad in ["nan", "inf", "-inf", "1e13", "1e999", "true", "0x10"] {
            assert!(with(bad, |value| real(value, 1e12)).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn choices_are_listed_and_guessed() {
        let format = |text: &str| with(text, |value| choice(value, &[("plain", 1), ("json", 2)]));
        assert_eq!(format("\"json\""), Ok(2));
        assert_eq!(format("\"jsn\"").unwrap_err(), "expected one of `plain`, `json`, found `jsn`");
        let value = DeValue::parse("\"jsn\"").unwrap();
        let error = choice(value.get_ref(), &[("plain", 1), ("json", 2)]).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean `json`?"));
    }

    #[test]
    fn labels_are_printable() {
        assert_eq!(with("\"mean radius\"", label), Ok("mean radius".to_owned()));
        for bad in ["\"\"", "\" a\"", "\"a\\nb\"", "\"\\u001b[31m\"", &format!("\"{}\"", "x".repeat(129))] {
            assert!(with(bad, label).is_err(), "{bad} was accepted");
        }
    }
}
