//! What the module does before it serves where it is the first process of a virtual machine.
//!
//! An image that holds the kernel, the module and nothing else leaves nothing else to be trusted. Then nobody
//! but the module can mount the folder of devices or load the drivers of what connects it to its host. Both
//! lie in the image, so they are measured with it.

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::init_module;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the machine could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum FirstProcessError {
    /// Somebody else is the first process, and prepared the machine.
    #[error("--init is for the first process of a machine, and this is another; leave it away")]
    NotFirst,
    /// No folder of devices.
    #[error("cannot mount /dev: {0}")]
    Devices(#[source] io::Error),
    /// A driver could not be read or loaded.
    #[error("cannot load {path}: {error}")]
    Driver {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// Mounts the folder of devices and loads the drivers of `folder`, in the order of their names.
pub(crate) fn prepare(folder: &Path) -> Result<(), FirstProcessError> {
    if !rustix::process::getpid().is_init() {
        return Err(FirstProcessError::NotFirst);
    }
    match mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None) {
        // Some kernels do it themselves.
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(FirstProcessError::Devices(error.into())),
    }
    for path in drivers(folder)? {
        let loaded = fs::read(&path).and_then(|image| Ok(init_module(&image, c"")?));
        loaded.map_err(|error| FirstProcessError::Driver { path, error })?;
    }
    Ok(())
}

/// The files of a folder, by name.
fn drivers(folder: &Path) -> Result<Vec<PathBuf>, FirstProcessError> {
    let listed = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut paths =
        listed.map_err(|error| FirstProcessError::Driver { path: folder.to_path_buf(), error })?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["10-last.ko", "00-first.ko", "01-second.ko"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let names: Vec<String> = drivers(folder.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["00-first.ko", "01-second.ko", "10-last.ko"]);
        let absent = folder.path().join("absent");
        assert!(matches!(drivers(&absent), Err(FirstProcessError::Driver { path, .. }) if path == absent));
    }

    #[test]
    fn another_process_than_the_first_touches_nothing() {
        assert!(matches!(prepare(Path::new("/")), Err(FirstProcessError::NotFirst)));
    }
}
