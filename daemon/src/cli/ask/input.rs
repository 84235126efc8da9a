//! The cases of a question: numbers from the command line, from CSV files, or from images.

use super::AskArgs;
use crate::admin::{AdminReply, AdminRequest};
use crate::cli::output::{node_file, request, unexpected};
use crate::imaging::{self, FILE_BYTES_MAX, is_image};
use consilium_config::{Image, Roster};
use miette::{Result, miette};
use std::io::Read;
use std::path::Path;

/// Largest file of numbers.
const CASES_BYTES_MAX: usize = 32 << 20;
/// Most files.
const FILES_MAX: usize = 4096;

/// All cases that the arguments give.
pub(super) fn rows(args: &AskArgs) -> Result<Vec<Vec<f64>>> {
    if args.file.is_empty() {
        return cases(args.values.as_deref(), None);
    }
    if args.file.len() > FILES_MAX {
        return Err(miette!("{} files, at most {FILES_MAX} are read at once; ask in parts", args.file.len()));
    }
    let (mut rows, mut rule) = (Vec::new(), None);
    for path in &args.file {
        let bytes = read(path)?;
        if !is_image(&bytes) {
            rows.extend(numbers(path, bytes)?);
            continue;
        }
        let rule: Image = match rule {
            Some(rule) => rule,
            None => *rule.insert(declared(args)?),
        };
        rows.push(imaging::values(&bytes, &rule).map_err(|unfit| unfit.of(path.clone()))?);
    }
    Ok(rows)
}

/// One case from the command line, or those of a file of numbers.
pub(in crate::cli) fn cases(values: Option<&str>, file: Option<&Path>) -> Result<Vec<Vec<f64>>> {
    match (values, file) {
        (Some(values), _) => parse_all(values, "--values"),
        (None, Some(path)) => numbers(path, read(path)?),
        (None, None) => Err(miette!("give the case by --values 1.5,2,... or --file CASES.csv")),
    }
}

/// How the task turns images into values, by the roster that the node has too.
fn declared(args: &AskArgs) -> Result<Image> {
    let Some(name) = &args.task else {
        return Err(miette!(
            help = "`consilium ask --task TASK --prepare --file IMAGE` prints the values; give these to the student",
            "a student takes numbers: only a task says how an image becomes them"
        ));
    };
    let path = node_file(&args.node)?.place().roster.clone();
    let roster = Roster::load(&path)?;
    let rule = rule_of(&roster, name)?;
    if !args.prepare {
        let AdminReply::Terms { digest } = request(&args.node, &AdminRequest::Terms { task: name.clone() })?
        else {
            return Err(unexpected());
        };
        same(&digest, (name, &rule.0), &path)?;
    }
    Ok(rule.1)
}

/// The digest of a task of any kind, and its rule.
fn rule_of(roster: &Roster, name: &str) -> Result<(String, Image)> {
    let paired = roster.task(name).map(|task| (task.digest(), task.image));
    let encrypted = roster.homomorphic_task(name).map(|task| (task.digest(), task.image));
    let (digest, image) =
        paired.or(encrypted).ok_or_else(|| miette!("no task {name:?} in this node's roster"))?;
    let rule = image.ok_or_else(|| {
        miette!(
            help = "give the values as CSV, or have the members add `[task.image]` to the task in the roster",
            "task {name} takes numbers: its roster does not say how an image becomes them"
        )
    })?;
    Ok((digest.to_string(), rule))
}

/// Images prepared by other terms than the node asks by would get answers to another question.
fn same(digest: &str, (task, own): (&str, &str), roster: &Path) -> Result<()> {
    if digest == own {
        return Ok(());
    }
    Err(miette!(
        help = "have the node read its roster anew, or put the roster back that it runs by",
        "the running node has other terms of task {task} than {}",
        roster.display()
    ))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| miette!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    source.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(miette!(
            "{} is longer than {FILE_BYTES_MAX} bytes; give one image a file",
            path.display()
        ));
    }
    Ok(bytes)
}

fn numbers(path: &Path, bytes: Vec<u8>) -> Result<Vec<Vec<f64>>> {
    if bytes.len() > CASES_BYTES_MAX {
        return Err(miette!("{} is longer than {CASES_BYTES_MAX} bytes; ask in parts", path.display()));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        miette!(
            help = "a PNG starts with its mark, a DICOM file has `DICM` at byte 128; export the image as one of these",
            "{} is neither text nor a PNG or DICOM image",
            path.display()
        )
    })?;
    parse_all(&text, &path.display().to_string())
}

fn parse_all(text: &str, what: &str) -> Result<Vec<Vec<f64>>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| parse(line, what, index + 1)).collect()
}

fn parse(line: &str, what: &str, number: usize) -> Result<Vec<f64>> {
    let value = |(column, text): (usize, &str)| {
        let shown = || text.trim().chars().take(40).flat_map(char::escape_debug).collect::<String>();
        text.trim().parse::<f64>().map_err(|_| {
            miette!("{what}, line {number}, value {}: \"{}\" is not a number", column + 1, shown())
        })
    };
    line.split(',').enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;
    use consilium_config::EXAMPLE_ROSTER;

    #[test]
    fn numbers_are_read_and_others_are_named_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cases.csv");
        std::fs::write(&file, "1, 2.5\n\n-3,4e2\n").unwrap();
        assert_eq!(cases(None, Some(&file)).unwrap(), [[1.0, 2.5], [-3.0, 400.0]]);
        std::fs::write(&file, "1,2\n\n3,x\u{1b}y\n").unwrap();
        let error = cases(None, Some(&file)).unwrap_err().to_string();
        assert!(error.ends_with("cases.csv, line 3, value 2: \"x\\u{1b}y\" is not a number"), "{error}");
        std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
        let error = cases(None, Some(&file)).unwrap_err().to_string();
        assert!(error.contains("neither text nor a PNG or DICOM image"), "{error}");
        assert!(cases(None, Some(&folder.path().join("absent"))).unwrap_err().to_string().contains("absent"));
        assert!(cases(None, None).is_err());
        assert_eq!(cases(Some("1,-2"), None).unwrap(), [[1.0, -2.0]]);
    }

    #[test]
    fn only_a_task_that_says_how_takes_images() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let (own, rule) = rule_of(&roster, "digits").unwrap();
        assert_eq!(rule.values(), 64);
        let error = rule_of(&roster, "breast-cancer").unwrap_err();
        assert!(error.to_string().contains("takes numbers") && error.help().is_some(), "{error}");
        assert!(rule_of(&roster, "unknown").is_err());
        assert!(same(&own, ("digits", &own), Path::new("r")).is_ok());
        let error = same(&"0".repeat(64), ("digits", &own), Path::new("r")).unwrap_err();
        assert!(error.to_string().contains("other terms of task digits"), "{error}");
    }

    #[test]
    fn several_files_are_taken_and_nothing_is_prepared_for_a_student() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("consilium ask --task t --file a.png b.dcm --json"));
        assert!(parse("consilium ask --task t --prepare --file a.png"));
        assert!(!parse("consilium ask --task t --prepare"));
        assert!(!parse("consilium ask --student s.onnx --prepare --file a.png"));
        assert!(!parse("consilium ask --task t --values 1 --file a.csv"));
    }
}
