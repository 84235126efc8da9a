//! Amounts, moments and records in words.

use crate::admin::Loss;
use crate::ledger::{Change, Promise, SignedStatement};
use crate::losses::rounded_up;
use consilium_protocol::privacy::{COST_ONE, Cost, epsilon_of};

/// Days from the first of March of year 0 to the first of January 1970.
const DAYS_BEFORE_1970: u64 = 719_468;
const DAYS_OF_400_YEARS: u64 = 146_097;

/// Seconds since 1970 as a date and time of day, universal time.
pub(in crate::cli) fn moment(at: u64) -> String {
    let (days, seconds) = (at / 86_400, at % 86_400);
    // Years that begin in March have their leap day last.
    let days = days.saturating_add(DAYS_BEFORE_1970);
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{date:02} {:02}:{:02}", seconds / 3600, seconds / 60 % 60)
}

/// An amount in units of 2^-40 as a decimal number.
pub(super) fn amount(units: u64) -> String {
    format!("{:.6}", units as f64 / COST_ONE as f64)
}

/// What an amount alone means as an epsilon, rounded up.
pub(super) fn epsilon(promise: &Promise, units: u64) -> Option<String> {
    epsilon_of(Cost::new(promise.unit, units), promise.delta).ok().map(rounded_up)
}

/// What was spent of what, in words.
pub(super) fn spent_of(loss: &Loss) -> [String; 2] {
    let none = || "-".to_owned();
    [loss.epsilon_spent.clone().unwrap_or_else(none), loss.epsilon_limit.clone().unwrap_or_else(none)]
}

/// What was signed, in words.
pub(super) fn change(signed: &SignedStatement) -> String {
    match signed.statement.change {
        Change::Budget { epsilon } => format!("budget epsilon {epsilon}"),
        Change::Disjoint { data_epoch } => {
            format!("data epoch {data_epoch}: records disjoint from all earlier ones")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_of_the_calendar() {
        for (at, expected) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (1_764_093_720, "2025-11-25 18:02"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(moment(at), expected);
        }
        assert!(!moment(u64::MAX).is_empty());
    }

    #[test]
    fn amounts_are_decimal() {
        assert_eq!(amount(COST_ONE / 4), "0.250000");
        let promise =
            Promise::new("owner".into(), consilium_protocol::privacy::Unit::Pure, "8".parse().unwrap(), None);
        assert_eq!(epsilon(&promise.unwrap(), COST_ONE / 2).unwrap(), "0.5001", "never less than the loss");
    }
}
