//! `consilium he explain`: what a file is and what it gives away.

use super::super::output::print_json;
use super::plan::{modulus_bound, public};
use super::{model, size};
use crate::homomorphic::LEARNS;
use crate::homomorphic::{FileKind, HomomorphicError, Inspected, inspect};
use crate::vault::hex;
use clap::Args;
use miette::{IntoDiagnostic, Result};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The file
    file: PathBuf,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExplainArgs) -> Result<()> {
    let mut facts = match inspect(&args.file) {
        Ok(found) => file(&found),
        Err(foreign @ HomomorphicError::Foreign { .. }) => {
            onnx(&args.file).map_err(|error| error.wrap_err(foreign.to_string()))?
        }
        Err(error) => return Err(error).into_diagnostic(),
    };
    facts.insert(0, ("file", args.file.display().to_string()));
    if args.json {
        let entries = facts.into_iter().map(|(name, value)| (name.replace(' ', "_"), value.into()));
        return print_json(&serde_json::Value::Object(entries.collect()));
    }
    for (name, value) in &facts {
        println!("{:<WIDTH$} {value}", format!("{name}:"));
    }
    Ok(())
}

/// Width of the names of facts.
const WIDTH: usize = 21;

type Facts = Vec<(&'static str, String)>;

/// Whose a file is, and what it reveals to whom.
fn whose(kind: FileKind) -> [(&'static str, &'static str); 3] {
    let [for_whom, reveals, care] = match kind {
        FileKind::Plan => [
            "owner and clients; public",
            "to everybody: layers, scales, and the largest logit that an admissible input could have; no weight",
            "both sides need the same one, and keys, queries and answers are bound to it",
        ],
        FileKind::Secret => [
            "the client alone",
            "to whoever has it: all inputs and logits of all queries under it",
            "keep it readable by you alone; if it is lost, answers can no longer be opened",
        ],
        FileKind::Keys => [
            "the owner, from the client, once",
            "nothing about inputs or the secret, under ring learning with errors",
            "they serve any number of queries",
        ],
        FileKind::Query => [
            "the owner, from the client",
            "to whoever sees it: how many inputs it has and under which key, so that queries of one client are known as such; nothing about the inputs",
            "its ticket opens the answer, so that it need not be kept",
        ],
        FileKind::Ticket => [
            "the client",
            "the name of the query and how many inputs it has; nothing about them",
            "keep it until the answer is opened",
        ],
        FileKind::Answer => [
            "the client, from the owner",
            "to the client: the exact logits of its inputs, and at most 2^-40 beyond them about the weights; to others nothing",
            "exact logits of enough inputs rebuild the model",
        ],
    };
    [("for whom", for_whom), ("reveals", reveals), ("note", care)]
}

fn file(found: &Inspected) -> Facts {
    let mut facts = vec![
        ("what", found.kind.to_string()),
        ("size", format!("{}, complete and unchanged by its checksum", size(found.bytes as f64))),
        ("digest of the plan", hex::encode(&found.plan_digest)),
    ];
    facts.extend(found.key.map(|key| ("key", key.to_string())));
    if let Some((query, used)) = found.query {
        facts.extend([("query", query.to_string()), ("inputs of the query", used.to_string())]);
    }
    facts.extend(whose(found.kind).map(|(name, value)| (name, value.to_owned())));
    if let Some(plan) = &found.plan {
        facts.extend(public(plan));
        let bound = format!(
            "{:.0} bits of modulus at most, by the standard for 128 bits of security",
            modulus_bound(plan)
        );
        facts.push(("security", bound));
        facts.extend(LEARNS.map(|(name, value)| (name, value.to_owned())));
    }
    facts
}

/// A model.
fn onnx(path: &Path) -> Result<Facts> {
    let (model, warnings) = model(path)?;
    let network = model.network();
    let weights: usize = model.weights().iter().map(|entry| entry.weight.len() + entry.bias.len()).sum();
    let mut facts = vec![
        ("what", "an ONNX model".to_owned()),
        ("layers", network.summary()),
        ("inputs and outputs", format!("{} and {}", network.input().len(), network.output().len())),
        ("weights", weights.to_string()),
        ("for whom", "its owner alone".to_owned()),
        ("reveals", "to whoever has it: the whole model".to_owned()),
        ("note", "whether it can be computed under encryption: consilium he plan says so".to_owned()),
    ];
    facts.extend(warnings.into_iter().map(|warning| ("on import", warning)));
    Ok(facts)
}
