//! `consilium model`: publish, list, withdraw.

use super::NodeArgs;
use super::output::{block_on, granted, node_file, print_json, request, table, unexpected};
use crate::admin::{AdminReply, AdminRequest, ModelFile, publish_all};
use crate::registry::ModelId;
use clap::{Args, Subcommand};
use consilium_config::limits::SHARDS;
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
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List what this node has published, one line for each task
    List {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Have both compute parties delete what was published at once, with all its models
    Withdraw {
        /// Its name, from `consilium model list`
        model: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

pub(crate) fn run(args: &ModelArgs) -> Result<()> {
    match &args.action {
        Action::Publish { file, shards, task, node } => {
            let files: Vec<PathBuf> = file.iter().chain(shards).cloned().collect();
            let files = model_files(&files)?;
            let socket = node_file(node)?.admin().socket.clone();
            let reply = block_on(publish_all(&socket, task.clone(), &files))?.into_diagnostic()?;
            let AdminReply::Published { entry, warnings } = granted(node.json, reply)? else {
                return Err(unexpected());
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
        Action::List { node } => {
            let AdminReply::Models(models) = request(node, &AdminRequest::Models)? else {
                return Err(unexpected());
            };
            if node.json {
                return print_json(&models);
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
            println!("{rows}");
        }
        Action::Withdraw { model, node } => {
            let model = ModelId(parse_id(model)?);
            let AdminReply::Withdrawn = request(node, &AdminRequest::Withdraw { model })? else {
                return Err(unexpected());
            };
            if node.json {
                return print_json(&serde_json::json!({ "withdrawn": model }));
            }
            println!("model {model} is gone from the compute parties");
        }
    }
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
