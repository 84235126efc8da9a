//! How the programs end.

#![allow(clippy::print_stderr, reason = "a program for people and scripts")]

use std::process::ExitCode;

/// The code of a program that did what it was asked to, or why it did not, told on the way.
pub fn ended<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
