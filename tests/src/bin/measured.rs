//! `measured`: a module in a machine with a measured boot, until it is stopped.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium_tests::measured::{Fault, Image, Machine, Shown, Tools, build_module, open};
use consilium_tests::program::ended;
use ed25519_dalek::SigningKey;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often a machine that stopped by itself is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Boots the sampling module in an emulated machine with a TPM, writes the policy that accepts it, prints where both
/// are, and runs until it is stopped.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder for the TPM, the socket and the policy; the same folder is the same TPM
    folder: PathBuf,
    /// Program of the module, linked statically; built where none is given
    #[arg(long)]
    module: Option<PathBuf>,
}

fn main() -> ExitCode {
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Fault> {
    let tools = Tools::find()?;
    let module = arguments.module.clone().map_or_else(build_module, Ok)?;
    let image = Image::new(&tools, &module, &[])?;
    std::fs::create_dir_all(&arguments.folder)?;
    let folder = arguments.folder.canonicalize()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let mut ends = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut machine = Machine::boot(&tools, &image, &folder)?;
        let (_, Shown { policy, .. }) =
            open(machine.socket(), &SigningKey::from_bytes(&rand::random()), [0; 32], None)?;
        let path = folder.join("policy.toml");
        std::fs::write(&path, toml::to_string(&policy)?)?;
        println!("unix:{}", machine.socket().display());
        println!("{}", path.display());
        loop {
            tokio::select! {
                _ = interrupts.recv() => return Ok(()),
                _ = ends.recv() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if !machine.runs()? {
                return Err("the machine stopped".into());
            }
        }
    })
}
