//! The sampling module as the only program of a virtual machine whose boot a TPM measures.
//!
//! The firmware measures itself and the kernel into the TPM, the kernel measures the image with the module, and
//! the module is the first and only process. QEMU emulates the processor and swtpm the TPM, so nothing here says
//! anything about hardware; but firmware, kernel, module and the signatures of the TPM are the real ones.

mod door;
mod image;
mod machine;

pub use image::{Image, build_module};
pub use machine::Machine;

use consilium_attest::module::frame::FrameError;
use consilium_attest::module::signature::PartyKey;
use consilium_attest::noise_client::{ProofError, Proven, Unproven};
use consilium_attest::policy::{Image as Registers, Register, TpmPolicy};
use consilium_attest::verifier::tpm2::{TpmBody, authenticate};
use consilium_attest::{
    Binding, Collateral, Evidence, Expected, Hex, Policy, Refusal, VerifiedModule, verify,
};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What goes wrong around a machine.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Names the folder that holds `boot` and `lib/modules` of the guest's kernel; without it, the root.
const KERNEL_VARIABLE: &str = "CONSILIUM_GUEST_KERNEL";
const PROGRAMS: [(&str, &str); 3] = [
    ("qemu-system-x86_64", "apt-get install qemu-system-x86"),
    ("swtpm", "apt-get install swtpm"),
    ("vhost-device-vsock", "cargo install vhost-device-vsock"),
];
/// Firmware that measures, and where it keeps its variables.
const FIRMWARE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
/// Longest silence of a module that answers at all.
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// What this machine must have to emulate another.
#[derive(Clone, Debug)]
pub struct Tools {
    firmware: [PathBuf; 2],
    kernel: PathBuf,
    drivers: PathBuf,
}

impl Tools {
    /// Looks for everything.
    ///
    /// # Errors
    /// What is missing and how to get it.
    pub fn find() -> Result<Self, String> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        for (name, remedy) in PROGRAMS {
            if !std::env::split_paths(&folders).any(|folder| folder.join(name).is_file()) {
                return Err(format!("there is no program `{name}`; {remedy}"));
            }
        }
        let firmware = FIRMWARE.map(PathBuf::from);
        if !firmware.iter().all(|file| file.is_file()) {
            return Err("there is no firmware that measures; apt-get install ovmf".to_owned());
        }
        let (kernel, drivers) = kernel().ok_or_else(|| {
            format!(
                "there is no kernel for the guest; set {KERNEL_VARIABLE} to a folder with the files of one \
                 (`apt-get download` the package that linux-image-cloud-amd64 depends on, then `dpkg-deb -x`)"
            )
        })?;
        Ok(Self { firmware, kernel, drivers })
    }

    /// [`find`](Self::find), or a line on the terminal, past the capture of test output, that says what is
    /// skipped and why.
    pub fn find_or_skip(what: &str) -> Option<Self> {
        let found = Self::find();
        if let Err(reason) = &found {
            // A terminal that cannot be written to is no reason to fail.
            let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {reason}");
        }
        found.ok()
    }
}

/// The first kernel with a folder of drivers.
fn kernel() -> Option<(PathBuf, PathBuf)> {
    let folder = std::env::var_os(KERNEL_VARIABLE).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let mut kernels: Vec<PathBuf> =
        std::fs::read_dir(folder.join("boot")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    kernels.sort();
    kernels.into_iter().find_map(|kernel| {
        let release = kernel.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
        let drivers = folder.join("lib/modules").join(release).join("kernel");
        drivers.is_dir().then_some((kernel, drivers))
    })
}

/// The policy that accepts the TPM key and the registers of this evidence: those of a boot that somebody watched.
///
/// # Errors
/// [`Refusal`] of evidence that is no authentic quote.
pub fn policy_of(evidence: &Evidence) -> Result<Policy, Refusal> {
    let key = authenticate(&evidence.body)?.key();
    let registers = TpmBody::decode(&evidence.body)?.registers.into_iter();
    let registers = registers.map(|(index, value)| Register { index, value: Hex(value) }).collect();
    Ok(Policy {
        evidence_age_max_secs: 120,
        reattest_after_secs: 3600,
        sev_snp: None,
        tdx: None,
        sgx_dcap: None,
        nitro: None,
        tpm2: Some(TpmPolicy { keys: vec![key], images: vec![Registers { registers }] }),
        software: None,
    })
}

/// A verdict on evidence as the answer to the question that `asked` stands for.
///
/// # Errors
/// [`Refusal`].
pub fn judge(evidence: &Evidence, asked: &Binding, policy: &Policy) -> Result<VerifiedModule, Refusal> {
    // A clock before 1970 is one that no evidence is fresh for.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let expected = Expected {
        channel_key: asked.channel_key,
        policy: asked.policy,
        nonce: asked.nonce,
        asked: now,
        verifier: asked.verifier.clone(),
    };
    verify(evidence, &Collateral::default(), policy, &expected, now)
}

/// A channel to the module behind a socket, whose evidence a policy accepted; without a policy, one made from the
/// evidence.
///
/// # Errors
/// The channel's, or the [`Refusal`].
pub fn open(
    socket: &Path,
    key: &impl PartyKey,
    roster: [u8; 32],
    policy: Option<&Policy>,
) -> Result<(Proven<UnixStream>, Shown), ProofError<Refusal>> {
    let broken = |error| ProofError::Client(FrameError::Io(error).into());
    let stream = UnixStream::connect(socket).map_err(broken)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(broken)?;
    Unproven::open(stream, key)?.prove(roster, |evidence, asked| {
        let policy = policy.map_or_else(|| policy_of(evidence), |policy| Ok(policy.clone()))?;
        let verified = judge(evidence, asked, &policy)?;
        Ok(Shown { evidence: evidence.clone(), policy, verified })
    })
}

/// What a module showed, the policy that accepted it, and the verdict.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The evidence.
    pub evidence: Evidence,
    /// The policy.
    pub policy: Policy,
    /// The verdict.
    pub verified: VerifiedModule,
}
