//! The module that draws noise, as a process of a run.

use super::{LOOK_EVERY, Process, UP_WITHIN, World, WorldError, names, parse};
use crate::demo::scenario::Noise;
use crate::vault::private_directory;
use consilium_attest::Policy;
use consilium_attest::policy::SoftwarePolicy;
use consilium_config::{Module, ModuleSocket, NoiseRule};
use std::ffi::OsString;
use std::time::Instant;

impl World {
    /// Starts the module of this run and waits until it listens.
    ///
    /// # Errors
    /// The process ended, or is late.
    pub async fn launch_module(&mut self) -> Result<(), WorldError> {
        let name = names::MODULE;
        self.launch(name)?;
        let socket = self.folder_of(name).join("socket");
        let started = Instant::now();
        while let Err(error) = tokio::net::UnixStream::connect(&socket).await {
            self.check_alive(name)?;
            if started.elapsed() > UP_WITHIN {
                return Err(WorldError::Late { name: name.to_owned(), waiting_for: error.to_string() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The module that draws noise: the one that is given, or a process of this run.
    pub(super) fn module(
        &mut self,
        noise: &Noise,
        host: &str,
    ) -> Result<Option<(Module, ModuleSocket)>, WorldError> {
        if noise.rule == NoiseRule::Software {
            return Ok(None);
        }
        let host = parse(host)?;
        if let Some(given) = &noise.given {
            return Ok(Some((Module { host, policy: given.policy.clone() }, given.socket.clone())));
        }
        let folder = self.folder.join(names::MODULE);
        private_directory(&folder)?;
        let socket = ModuleSocket::Unix(folder.join("socket"));
        let words = ["module", "--listen", &socket.to_string(), "--attester", "software"];
        let arguments = words.iter().map(OsString::from).collect();
        self.processes.push(Process {
            name: names::MODULE.to_owned(),
            folder,
            arguments,
            child: None,
            http: None,
        });
        let software = Some(SoftwarePolicy { allow: true });
        let policy = Policy {
            evidence_age_max_secs: 120,
            reattest_after_secs: 3600,
            sev_snp: None,
            tdx: None,
            sgx_dcap: None,
            nitro: None,
            tpm2: None,
            software,
        };
        Ok(Some((Module { host, policy }, socket)))
    }
}
