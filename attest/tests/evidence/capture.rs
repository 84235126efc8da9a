//! Evidence captured from real machines, which lies beside the repository.

use std::path::PathBuf;

/// The file `evidence/<name>` below `CONSILIUM_SHARED` or `../shared` beside the repository; says so and returns
/// nothing when there is none.
#[expect(clippy::print_stderr, reason = "a skipped capture must be seen in the test output")]
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let shared = std::env::var_os("CONSILIUM_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let folder = shared.join("evidence");
    if !folder.is_dir() {
        eprintln!("skipped: no captured evidence at {}; set CONSILIUM_SHARED", folder.display());
        return None;
    }
    let path = folder.join(name);
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Several files, or nothing without the folder.
pub(crate) fn read_all<const N: usize>(names: [&str; N]) -> Option<[Vec<u8>; N]> {
    let files: Option<Vec<Vec<u8>>> = names.iter().map(|name| read(name)).collect();
    Some(files?.try_into().unwrap())
}
