//! What the owner of a homomorphic task answered.

use super::super::output::{print_json, table};
use crate::encrypted::{Opened, Unanswered};
use crate::homomorphic::LEARNS;
use miette::{Result, miette};
use serde::Serialize;
use std::collections::BTreeMap;

/// For machines: the answer, and who learns what.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    opened: &'a Opened,
    learns: BTreeMap<&'static str, &'static str>,
}

pub(super) fn show(opened: &Opened, json: bool) -> Result<()> {
    if json {
        print_json(&Shown { opened, learns: LEARNS.into_iter().collect() })?;
        return whole(opened);
    }
    let columns: &[&str] =
        if opened.logits.is_some() { &["case", "class", "logits"] } else { &["case", "class"] };
    let mut rows = table(columns);
    for (row, class) in opened.classes.iter().enumerate() {
        let mut cells = vec![(row + 1).to_string(), class.clone()];
        if let Some(logits) = opened.logits.as_ref().and_then(|logits| logits.get(row)) {
            let meant = |logit: &i128| format!("{logit} ({:.4})", *logit as f64 / opened.output_scale);
            cells.push(logits.iter().map(meant).collect::<Vec<_>>().join(", "));
        }
        rows.add_row(cells);
    }
    println!("{rows}");
    let terms = &opened.terms;
    println!(
        "computed by {} on encrypted inputs, mode {}, plan {}; nobody else took part",
        terms.owner,
        serde_json::to_value(terms.mode)
            .ok()
            .and_then(|mode| mode.as_str().map(str::to_owned))
            .unwrap_or_default(),
        terms.plan.get(..16).unwrap_or_default()
    );
    let keys = match terms.keys_bytes {
        0 => "the owner had the keys".to_owned(),
        bytes => format!("{bytes} bytes of keys, once"),
    };
    println!(
        "{:.1} ms; {} bytes sent in {} queries, {} received; {keys}; {:.1} bits left between noise and modulus",
        terms.milliseconds, terms.query_bytes, terms.queries, terms.answer_bytes, terms.margin_bits
    );
    println!("{} inputs counted by the owner so far, {} left", terms.counted, terms.left);
    LEARNS.iter().take(2).for_each(|(who, what)| println!("{who}: {what}"));
    whole(opened)
}

/// Whether every case was answered.
fn whole(opened: &Opened) -> Result<()> {
    match &opened.unanswered {
        None => Ok(()),
        Some(Unanswered { row, refusal }) => Err(miette!(
            "case {row} and those after it have no answer: {refusal}\nthe {} cases before it are answered and counted; \
             ask about the others alone",
            opened.labels.len()
        )),
    }
}
