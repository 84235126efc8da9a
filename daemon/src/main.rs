//! The `consilium` command.
fn main() {}
