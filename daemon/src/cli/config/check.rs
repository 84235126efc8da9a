//! `consilium config check`.

use super::FileArgs;
use crate::cli::output::print_json;
use crate::consortium::{self, ConsortiumError};
use crate::preflight::{Severity, check};
use clap::Args;
use consilium_config::{ConfigError, Places, Problem, Roster, Settings};
use miette::{Diagnostic, LabeledSpan, Report, Result, SourceCode, miette};
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `consilium config check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Check against this roster in place of the one that the node file names
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    /// Leave the node's keys out: the service gets them as credentials, or runs and has them
    #[arg(long)]
    without_keys: bool,
}

/// A problem for machines.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Listed {
    severity: &'static str,
    file: Option<String>,
    line: Option<usize>,
    message: String,
    advice: Option<String>,
}

/// All that was found, in both forms.
#[derive(Default)]
struct Found {
    listed: Vec<Listed>,
    reports: Vec<Report>,
    errors: usize,
    warnings: usize,
}

/// What the files say, as far as they could be read.
struct Read {
    settings: Option<Settings>,
    roster: Option<(Roster, Places)>,
}

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let (read, found) = look(args);
    if args.files.json {
        print_json(&serde_json::json!({
            "usable": found.errors == 0,
            "errors": found.errors,
            "warnings": found.warnings,
            "problems": found.listed,
            "name": read.settings.as_ref().map(|settings| settings.node.name().to_string()),
            "roster": read.roster.as_ref().map(|(roster, _)| roster.digest().to_string()),
        }))?;
    } else {
        for report in &found.reports {
            println!("{report:?}");
        }
        println!("{}", summary(&read, &found));
    }
    Ok(if found.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(args: &CheckArgs) -> (Read, Found) {
    let mut found = Found::default();
    let settings = Settings::in_force(&args.files.file, &args.files.set);
    let settings = settings.map_err(|error| found.refused(error)).ok();
    let roster = found.roster(args, settings.as_ref());
    if let Some(settings) = &settings {
        let placed = roster.as_ref().map(|(roster, places)| (roster, places));
        for finding in check(settings, placed, !args.without_keys) {
            found.add(finding.severity, finding.problem);
        }
    }
    (Read { settings, roster }, found)
}

impl Found {
    /// The roster that the node would run by, or the one to compare with.
    fn roster(&mut self, args: &CheckArgs, settings: Option<&Settings>) -> Option<(Roster, Places)> {
        let place = settings.map(|settings| settings.node.place());
        let placed = match (&args.roster, settings) {
            (None, Some(settings)) if !settings.node.place().unsigned_roster => {
                match consortium::text_in_use(&settings.node) {
                    Ok((name, text)) => Roster::parse_placed(&name, text),
                    Err(error) => return self.unfounded(&error),
                }
            }
            (Some(path), _) => Roster::load_placed(path),
            (None, _) => {
                let beside = || args.files.file.parent().unwrap_or(Path::new("")).join("roster.toml");
                Roster::load_placed(&place.map_or_else(beside, |place| place.roster.clone()))
            }
        };
        placed.map_err(|error| self.refused(error)).ok()
    }

    /// The signed roster is not there, or not whole.
    fn unfounded(&mut self, error: &ConsortiumError) -> Option<(Roster, Places)> {
        self.errors += 1;
        self.listed.push(Listed {
            severity: "error",
            file: None,
            line: None,
            message: error.to_string(),
            advice: None,
        });
        self.reports.push(miette!("{error}"));
        None
    }

    /// A file that cannot be read, or is wrong.
    fn refused(&mut self, error: ConfigError) {
        let listed = |problem: &Problem, file: Option<String>| Listed {
            severity: "error",
            file: problem.file().map(str::to_owned).or(file),
            line: problem.line(),
            message: problem.message().to_owned(),
            advice: problem.advice().map(str::to_owned),
        };
        if error.problems().is_empty() {
            self.errors += 1;
            self.listed.push(Listed {
                severity: "error",
                file: error.file(),
                line: None,
                message: error.to_string(),
                advice: error.help().map(|help| help.to_string()),
            });
        }
        let file = error.file();
        self.errors += error.problems().len();
        self.listed.extend(error.problems().iter().map(|problem| listed(problem, file.clone())));
        self.reports.push(error.into());
    }

    fn add(&mut self, severity: Severity, problem: Problem) {
        let word = match severity {
            Severity::Error => {
                self.errors += 1;
                "error"
            }
            Severity::Warning => {
                self.warnings += 1;
                "warning"
            }
        };
        self.listed.push(Listed {
            severity: word,
            file: problem.file().map(str::to_owned),
            line: problem.line(),
            message: problem.message().to_owned(),
            advice: problem.advice().map(str::to_owned),
        });
        self.reports.push(Report::new(Shown { severity, problem }));
    }
}

fn summary(read: &Read, found: &Found) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let counts = format!("{}, {}", count(found.errors, "error"), count(found.warnings, "warning"));
    match (&read.settings, &read.roster) {
        (Some(settings), Some((roster, _))) if found.errors == 0 => {
            let name = settings.node.name();
            let roles = roster.member(name.as_str()).map_or_else(String::new, |member| {
                member.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            });
            let encrypted = roster.homomorphic_tasks_of(name.as_str()).count();
            let encodings = roster.encodings_tasks_of(name.as_str()).count();
            let tasks = roster.tasks_of(name.as_str()).count() + encrypted + encodings;
            format!(
                "{name} can start: {roles} in {} tasks of {}, roster {}; {counts}",
                tasks,
                roster.consortium(),
                roster.digest()
            )
        }
        _ => format!("this node cannot start: {counts}"),
    }
}

/// A problem with its severity, which the problem itself does not know.
#[derive(Debug)]
struct Shown {
    severity: Severity,
    problem: Problem,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.problem.labels()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::init::{self, InitArgs};
    use consilium_config::EXAMPLE_ROSTER;

    fn args(file: &Path, set: &[&str]) -> CheckArgs {
        let set = [&["node.unsigned_roster=true"], set].concat();
        let set = set.iter().map(|one| (*one).to_owned()).collect();
        CheckArgs {
            files: FileArgs { file: file.to_owned(), set, json: true },
            roster: None,
            without_keys: false,
        }
    }

    #[test]
    fn a_new_member_that_the_roster_knows_can_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consilium.toml");
        let init = InitArgs::of("practice", "client", &folder.path().join("state"), &file);
        let peer = init::make(&init).unwrap().peer;
        let known = EXAMPLE_ROSTER.replace("12D3KooWSGhzU3VonK7Zyzp83gquso62xTrZjSbpcNFQUCXFSSzw", &peer);
        std::fs::write(folder.path().join("roster.toml"), known).unwrap();
        let (read, found) = look(&args(&file, &[]));
        assert_eq!((found.errors, found.warnings), (0, 0), "{:?}", found.listed);
        assert!(
            summary(&read, &found).starts_with("practice can start: client in 7 tasks of Northern hospitals")
        );
        // A stranger's key: the line of the roster is named.
        std::fs::write(folder.path().join("roster.toml"), EXAMPLE_ROSTER).unwrap();
        let (read, found) = look(&args(&file, &[]));
        assert_eq!(found.errors, 1, "{:?}", found.listed);
        let line = EXAMPLE_ROSTER.lines().position(|line| line.contains("WSGhzU3Vo")).unwrap() + 1;
        assert_eq!(found.listed[0].line, Some(line));
        assert!(found.listed[0].file.as_ref().unwrap().ends_with("roster.toml"));
        assert!(found.listed[0].advice.as_ref().unwrap().contains(&peer));
        let shown = format!("{:?}", found.reports[0]);
        assert!(shown.contains("another key") && shown.contains("WSGhzU3Vo"), "{shown}");
        assert_eq!(summary(&read, &found), "this node cannot start: 1 error, 0 warnings");
        // Another user of the machine, or the manager before a reload, does not see the keys.
        let unseen = CheckArgs { without_keys: true, ..args(&file, &[]) };
        assert_eq!(look(&unseen).1.errors, 0);
    }

    #[test]
    fn problems_of_both_files_come_in_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consilium.toml");
        std::fs::write(&file, "[node]\nname = \"North\"\nstate = \"s\"\n[network]\nlisten = []\n").unwrap();
        std::fs::write(folder.path().join("roster.toml"), "[consortium]\nname = \"\"\n").unwrap();
        let (_, found) = look(&args(&file, &["log.format=xml"]));
        let told: Vec<(Option<usize>, &str)> =
            found.listed.iter().map(|one| (one.line, one.message.as_str())).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].1.starts_with("`node.name` must be a name") && told[0].0 == Some(2));
        assert!(told[1].1.starts_with("`log.format` must be one of") && told[1].0 == Some(2));
        assert_eq!(told[2].0, Some(2));
        assert_eq!(told[3].1, "the consortium has no members");
        let (_, found) = look(&args(&folder.path().join("absent.toml"), &[]));
        assert!(found.listed[0].message.contains("absent.toml"), "{:?}", found.listed);
        assert!(found.listed[0].advice.is_some());
    }
}
