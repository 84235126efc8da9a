//! Secrets that the service manager passes on.

use std::path::{Path, PathBuf};

/// The file of a credential of this name, if the service manager passed it on. systemd gives a service a folder that
/// no other process can read, and names it in `CREDENTIALS_DIRECTORY`.
pub fn credential(name: &str) -> Option<PathBuf> {
    beneath(Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?), name)
}

fn beneath(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    // Also where it cannot be read: that is an error to tell, not a reason to make another key.
    path.symlink_metadata().is_ok().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_there_or_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(beneath(folder.path(), "consilium.identity"), None);
        std::fs::write(folder.path().join("consilium.identity"), [0; 32]).unwrap();
        assert_eq!(
            beneath(folder.path(), "consilium.identity"),
            Some(folder.path().join("consilium.identity"))
        );
    }
}
