//! The `consilium` command.

fn main() -> std::process::ExitCode {
    consilium::cli::run()
}
