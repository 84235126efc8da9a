//! What each kind of peer saw of one query.

use super::report::{Report, table};
use super::scenario::{Preprocessing, Scenario};
use consilium_config::NoiseRule;

/// Prints one line for each kind of peer.
pub(super) fn print(scenario: &Scenario, report: &Report) {
    let values = scenario.input.len();
    let bytes = report.online.bytes / 2;
    let mut rows = table(&["peer", "what it saw of one query"]);
    rows.add_row([
        "client".to_owned(),
        format!("its own {values} values; one label from two shares, neither of which says anything alone"),
    ]);
    rows.add_row([
        "compute party zero".to_owned(),
        format!("a random seed of 16 bytes for the input, {bytes} bytes of values under fresh random masks"),
    ]);
    rows.add_row([
        "compute party one".to_owned(),
        format!(
            "{} uniformly random bytes for the input, {bytes} bytes of values under fresh random masks",
            values * 8
        ),
    ]);
    if scenario.preprocessing == Preprocessing::Dealer {
        rows.add_row([
            "dealer".to_owned(),
            "nothing; it made random numbers for some query, long before".to_owned(),
        ]);
    }
    if scenario.releases.noise.rule != NoiseRule::Software {
        rows.add_row([
            "noise module".to_owned(),
            "nothing; it drew noise for some query, long before, and each compute party got half of it"
                .to_owned(),
        ]);
    }
    rows.add_row(["hospital".to_owned(), "nothing; its model voted without it".to_owned()]);
    println!("\n{rows}");
    println!(
        "Together the two compute parties could undo all of this: they must not collude. Sizes and times show the task."
    );
}
