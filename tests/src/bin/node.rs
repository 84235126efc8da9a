//! The node program for tests of many processes, which only find programs of their own package.

fn main() -> std::process::ExitCode {
    consilium::cli::run()
}
