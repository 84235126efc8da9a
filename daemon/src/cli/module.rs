//! `consilium module`: the sampling module where its own small program is not at hand.

use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of `consilium-enclave`.
#[derive(Debug, Args)]
pub(super) struct ModuleArgs {
    /// What `consilium-enclave` takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(super) fn run(args: ModuleArgs) -> ExitCode {
    consilium_attest::module::command::run(args.arguments, &mut std::io::stderr())
}
