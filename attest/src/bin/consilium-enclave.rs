//! The sampling module as a program of its own. See [`consilium_attest::module`].

fn main() -> std::process::ExitCode {
    consilium_attest::module::command::run(std::env::args_os().skip(1), &mut std::io::stderr())
}
