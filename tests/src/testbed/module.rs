//! The module that draws noise: one more process on the machine of the member that hosts it.

use super::load::Board;
use super::process::{Process, within};
use super::{LOOK_EVERY, TestbedError, UP_WITHIN};
use consilium::vault::private_directory;
use consilium_config::ModuleSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What it is called, also its folder beside those of the nodes.
pub(super) const MODULE: &str = "module";

/// The module's process.
#[derive(Debug)]
pub(super) struct Module {
    process: Process,
    socket: PathBuf,
    board: Arc<Board>,
}

/// Where it listens, for those on its machine.
pub(super) fn socket(root: &Path) -> PathBuf {
    root.join(MODULE).join("socket")
}

impl Module {
    /// Makes its folder.
    pub(super) fn new(
        root: &Path,
        namespace: &str,
        program: &Path,
        board: Arc<Board>,
    ) -> Result<Self, TestbedError> {
        let (folder, socket) = (root.join(MODULE), socket(root));
        private_directory(&folder)
            .map_err(|error| TestbedError::Unexpected { what: format!("the module's folder: {error}") })?;
        let listen = ModuleSocket::Unix(socket.clone()).to_string();
        let mut words = within(namespace, program);
        words.extend(["module", "--listen", &listen, "--attester", "software"].map(Into::into));
        let process = Process::new("the module".to_owned(), words, folder.join("log.txt"));
        Ok(Self { process, socket, board })
    }

    /// Starts it, and waits until it listens. What it knew before is gone with the process that knew it.
    pub(super) async fn launch(&mut self) -> Result<(), TestbedError> {
        self.board.started(MODULE, self.process.launch()?);
        let started = Instant::now();
        while tokio::net::UnixStream::connect(&self.socket).await.is_err() {
            self.check()?;
            if started.elapsed() > UP_WITHIN {
                return Err(TestbedError::Late { what: "the start of the module".to_owned() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.board.resumed(MODULE);
        Ok(())
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        self.board.stopped(MODULE);
        self.process.kill();
    }

    /// That it still runs, if it should.
    pub(super) fn check(&mut self) -> Result<(), TestbedError> {
        self.process.check()
    }
}
