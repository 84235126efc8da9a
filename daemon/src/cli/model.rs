//! `consilium model`: publish, list, withdraw.

use super::NodeArgs;
use super::he::{plan::scales, size};
use super::output::{block_on, granted, node_file, print_json, request, table, unexpected};
use crate::admin::{AdminReply, AdminRequest, ModelFile, publish_all, publish_planned};
use crate::encrypted::Planned;
use crate::registry::ModelId;
use clap::{Args, Subcommand, ValueEnum};
use consilium_config::limits::SHARDS;
use consilium_protocol::homomorphic::{Mode, Scales};
use miette::{IntoDiagnostic, Result, miette};
use std::path::{Path, PathBuf};

/// Arguments of `consilium model`.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Share an ONNX model, or one for each part of your patients, between the compute parties of a task
    ///
    /// Most tasks take one model of each owner: `consilium model publish chest.onnx --task chest-xray`.
    ///
    /// A task with `shards = k` in its roster promises something to each patient. Split your patients into k
    /// parts, train one model on each, and publish all of them at once:
    /// `consilium model publish --shards chest-part-*.onnx --task chest-xray`. They take the place of those that
    /// you published before, as a whole or, if anything is wrong with one of them, not at all.
    ///
    /// The promise to a patient holds only if the patient is in one part. Split patients, not records: all
    /// records of a patient belong in the same part. Let a random number or a keyed hash of the patient's
    /// number choose the part, never the data: a split that balances classes moves others when one changes.
    /// Nobody else can check this.
    ///
    /// Of a task of kind "homomorphic" nothing leaves this node. It plans the model for the range of inputs in the
    /// roster, as `consilium he plan` does, tries the plans on encrypted inputs, and answers clients by them from then
    /// on, as many inputs for each as the roster says.
    #[command(verbatim_doc_comment)]
    Publish {
        /// The ONNX file
        #[arg(required_unless_present = "shards")]
        file: Option<PathBuf>,
        /// The ONNX files of all parts of your patients, or a folder that holds them (and no other .onnx file)
        #[arg(long, value_name = "DIR|FILE", num_args = 1.., conflicts_with = "file")]
        shards: Vec<PathBuf>,
        /// The task to vote in
        #[arg(long, short)]
        task: String,
        /// Of a homomorphic task: how clients encrypt their inputs [default: both, as far as the model has plans]
        #[arg(long, value_enum, conflicts_with = "shards")]
        mode: Option<PublishMode>,
        /// Of a homomorphic task: scale of the inputs, then one for the weights of each layer, as for `he plan`
        #[arg(long, value_name = "INPUT,MAP1,..", value_parser = scales, conflicts_with = "shards")]
        scales: Option<Scales>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List what this node has published, one line for each task
    List {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Take back what was published at once, with all its models
    ///
    /// Both compute parties delete their shares of it. What was published for a homomorphic task is only here, and this
    /// node deletes it.
    Withdraw {
        /// Its name, from `consilium model list`
        model: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

pub(crate) fn run(args: &ModelArgs) -> Result<()> {
    match &args.action {
        Action::Publish { file, shards, task, mode, scales, node } => {
            let files: Vec<PathBuf> = file.iter().chain(shards).cloned().collect();
            let files = model_files(&files)?;
            let socket = node_file(node)?.admin().socket.clone();
            let reply = match files.as_slice() {
                [file] if mode.is_some() || scales.is_some() => {
                    let how = (mode.and_then(PublishMode::mode), scales.clone());
                    block_on(publish_planned(&socket, task.clone(), how, &file.bytes))
                }
                _ => block_on(publish_all(&socket, task.clone(), &files)),
            };
            let (entry, warnings) = match granted(node.json, reply?.into_diagnostic()?)? {
                AdminReply::Published { entry, warnings } => (entry, warnings),
                AdminReply::Planned { entry, warnings } => return planned(&entry, &warnings, node.json),
                _ => return Err(unexpected()),
            };
            if node.json {
                return print_json(&serde_json::json!({ "published": entry, "warnings": warnings }));
            }
            for warning in warnings {
                eprintln!("note: {warning}");
            }
            let (what, all) = match entry.shards {
                1 => ("is ready to vote".to_owned(), ""),
                many => (format!("is ready: {many} models, one vote each"), " in all"),
            };
            println!("model {} (version {}) of task {} {what}", entry.model, entry.version, entry.task);
            println!("{} with {} parameters{all}", entry.summary, entry.parameters);
        }
        Action::List { node } => list(node)?,
        Action::Withdraw { model, node } => {
            let model = ModelId(parse_id(model)?);
            let AdminReply::Withdrawn = request(node, &AdminRequest::Withdraw { model })? else {
                return Err(unexpected());
            };
            if node.json {
                return print_json(&serde_json::json!({ "withdrawn": model }));
            }
            println!("model {model} is gone");
        }
    }
    Ok(())
}

/// What this node has published, for tasks of any kind.
fn list(node: &NodeArgs) -> Result<()> {
    let AdminReply::Models(models) = request(node, &AdminRequest::Models)? else {
        return Err(unexpected());
    };
    let AdminReply::AllPlanned(encrypted) = request(node, &AdminRequest::AllPlanned)? else {
        return Err(unexpected());
    };
    if node.json {
        let listed = models.iter().map(serde_json::to_value);
        let listed = listed.chain(encrypted.iter().map(serde_json::to_value));
        return print_json(&listed.collect::<Result<Vec<_>, _>>().into_diagnostic()?);
    }
    let heads = ["model", "task", "pairs", "version", "votes", "architecture", "parameters"];
    let mut rows = table(&heads);
    for entry in models {
        rows.add_row([
            entry.model.to_string(),
            entry.task,
            entry.pairs.join(", "),
            entry.version.to_string(),
            entry.shards.to_string(),
            entry.summary,
            entry.parameters.to_string(),
        ]);
    }
    for entry in encrypted {
        rows.add_row([
            entry.model.to_string(),
            entry.task,
            "encrypted".to_owned(),
            entry.version.to_string(),
            "-".to_owned(),
            entry.summary,
            entry.parameters.to_string(),
        ]);
    }
    println!("{rows}");
    Ok(())
}

/// How clients of a homomorphic task may encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PublishMode {
    /// Up to 8,192 inputs at once
    Batch,
    /// One input, sooner
    Single,
    /// Either, as far as the model has plans
    Both,
}

impl PublishMode {
    /// The only mode, if it is one.
    fn mode(self) -> Option<Mode> {
        match self {
            Self::Batch => Some(Mode::Batch),
            Self::Single => Some(Mode::Single),
            Self::Both => None,
        }
    }
}

/// Shows what is in force for a homomorphic task.
fn planned(entry: &Planned, warnings: &[String], json: bool) -> Result<()> {
    if json {
        return print_json(&serde_json::json!({ "published": entry, "warnings": warnings }));
    }
    warnings.iter().for_each(|warning| eprintln!("note: {warning}"));
    println!("model {} (version {}) of task {} answers its clients", entry.model, entry.version, entry.task);
    println!("{} with {} parameters; it stays on this node", entry.summary, entry.parameters);
    let mut rows = table(&["mode", "plan", "inputs", "logits", "keys", "query", "answer"]);
    for plan in &entry.plans {
        rows.add_row([
            format!("{:?}", plan.mode).to_lowercase(),
            plan.digest.get(..16).unwrap_or_default().to_owned(),
            plan.inputs_max.to_string(),
            format!("{} bits", plan.logit_bits),
            size(plan.bytes.keys as f64),
            size(plan.bytes.query as f64),
            size(plan.bytes.answer as f64),
        ]);
    }
    println!("{rows}");
    Ok(())
}

/// Reads ONNX files in the order given, a folder as the files in it by name.
fn model_files(paths: &[PathBuf]) -> Result<Vec<ModelFile>> {
    let unreadable = |path: &Path, error: std::io::Error| miette!("cannot read {}: {error}", path.display());
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = path.read_dir().and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            let entries = entries.map_err(|error| unreadable(path, error))?;
            let mut inside: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
            inside.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
            if inside.is_empty() {
                return Err(miette!("{} holds no .onnx file", path.display()));
            }
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    let most = *SHARDS.end() as usize;
    if files.len() > most {
        return Err(miette!("{} files; no task takes more than {most} models of an owner", files.len()));
    }
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, error))?;
        Ok(ModelFile { name: path.display().to_string(), bytes })
    };
    files.iter().map(read).collect()
}

/// Sixteen bytes in hexadecimal digits.
pub(crate) fn parse_id(text: &str) -> Result<[u8; 16]> {
    let value = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
    let value = value.ok_or_else(|| miette!("{text:?} is not a name: it has 32 hexadecimal digits"))?;
    Ok(value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    #[test]
    fn a_folder_stands_for_its_models_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.onnx", "a.onnx", "notes.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = model_files(&[folder.path().to_owned()]).unwrap();
        let contents: Vec<&[u8]> = files.iter().map(|file| file.bytes.as_slice()).collect();
        assert_eq!(contents, [b"a.onnx", b"b.onnx"]);
        assert!(files[0].name.ends_with("a.onnx"));
        let listed = [folder.path().join("b.onnx"), folder.path().join("a.onnx")];
        let contents = model_files(&listed).unwrap().into_iter().map(|file| file.bytes);
        assert_eq!(contents.collect::<Vec<_>>(), [b"b.onnx", b"a.onnx"], "in the order given");
        let empty = tempfile::tempdir().unwrap();
        let refused = |paths: &[PathBuf]| model_files(paths).unwrap_err().to_string();
        assert!(refused(&[empty.path().to_owned()]).contains("holds no .onnx file"));
        assert!(refused(&[folder.path().join("c.onnx")]).contains("c.onnx"));
        assert!(refused(&vec![listed[0].clone(); 65]).contains("no task takes more than 64"));
    }

    #[test]
    fn one_file_or_shards_are_given() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("consilium model publish a.onnx --task t"));
        assert!(parse("consilium model publish --shards a.onnx b.onnx --task t"));
        assert!(parse("consilium model publish --task t --shards folder"));
        assert!(!parse("consilium model publish --task t"));
        assert!(!parse("consilium model publish a.onnx b.onnx --task t"));
        assert!(!parse("consilium model publish a.onnx --shards b.onnx --task t"));
        assert!(!parse("consilium model publish --shards --task t"));
    }
}
