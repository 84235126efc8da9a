//! The card at the head of each protocol file.

use crate::finding::{Finding, none};
use crate::source::{Source, sources};

const CARD: [&str; 5] = ["Computes", "Learns", "Consumes", "Costs", "Source"];

fn needs_card(path: &str) -> bool {
    path == "protocol/src/evaluate/shared.rs"
        || ["protocol/src/online/", "protocol/src/offline/"].iter().any(|folder| path.starts_with(folder))
}

/// The headings of the list in the documentation of the file.
fn headings(text: &str) -> Vec<&str> {
    let head = text.lines().take_while(|line| line.starts_with("//!"));
    head.filter_map(|line| line.strip_prefix("//! - ")?.split_once(": ")).map(|(name, _)| name).collect()
}

fn missing(source: &Source) -> Option<Finding> {
    let headings = headings(&source.text);
    let what = || format!("the card reads {headings:?}, not {CARD:?}");
    (needs_card(&source.path) && headings != CARD).then(|| Finding::new(&source.path, 1, what()))
}

#[test]
fn each_gate_starts_with_its_card() {
    let sources = sources();
    assert!(sources.iter().filter(|source| needs_card(&source.path)).count() > 3, "the gates have moved");
    none("each gate has its card", &sources.iter().filter_map(missing).collect::<Vec<_>>());
}

#[test]
fn a_card_out_of_order_is_caught() {
    let lines = |names: [&str; 5]| {
        let list: String = names.iter().map(|name| format!("//! - {name}: something.\n")).collect();
        format!("//! A gate.\n//!\n{list}//!   - more: text\n\nfn a() {{}}")
    };
    let whole = lines(CARD);
    let swapped = lines(["Learns", "Computes", "Consumes", "Costs", "Source"]);
    assert_eq!(missing(&Source::new("protocol/src/online/a.rs", &whole)), None);
    assert!(missing(&Source::new("protocol/src/online/a.rs", &swapped)).is_some());
    assert_eq!(missing(&Source::new("protocol/src/graph/a.rs", &swapped)), None);
}
