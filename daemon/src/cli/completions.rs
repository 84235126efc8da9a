//! `consilium completions` and `consilium man`: what shells and packages want to know of the commands.

use super::Cli;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use miette::{IntoDiagnostic, Result, miette};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `consilium completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `consilium man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder for the pages, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    std::io::stdout().write_all(&script(args.shell)).into_diagnostic()
}

/// One page for each command that is not hidden, `consilium-config-check.1` and so on.
pub(crate) fn man(args: &ManArgs) -> Result<()> {
    std::fs::create_dir_all(&args.out)
        .map_err(|error| miette!("cannot make {}: {error}", args.out.display()))?;
    clap_mangen::generate_to(Cli::command(), &args.out)
        .map_err(|error| miette!("cannot write pages into {}: {error}", args.out.display()))
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "consilium", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn the_commands_are_put_together_right() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for word in ["config", "completions", "status", "init", "watch"] {
                assert!(script.contains(word), "{shell} does not complete {word}");
            }
        }
    }

    #[test]
    fn every_visible_command_has_a_page_and_hidden_ones_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManArgs { out: folder.path().join("man1") };
        man(&args).unwrap();
        let mut names: Vec<String> = args
            .out
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        for name in
            ["consilium.1", "consilium-ask.1", "consilium-config-check.1", "consilium-model-publish.1"]
        {
            assert!(names.iter().any(|one| one == name), "{name} is missing from {names:?}");
        }
        for hidden in ["man", "module", "help"] {
            assert!(!names.contains(&format!("consilium-{hidden}.1")), "{hidden}");
        }
        for name in &names {
            let page = std::fs::read_to_string(args.out.join(name)).unwrap();
            assert!(page.contains(".TH "), "{name}");
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
        }
        let check = std::fs::read_to_string(args.out.join("consilium-config-check.1")).unwrap();
        assert!(
            check.contains("consilium\\-config\\-check") || check.contains("consilium-config-check"),
            "{check}"
        );
        assert!(check.contains("Ends with 0"), "exit codes are told");
    }
}
