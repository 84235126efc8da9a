//! Where the module gets evidence about itself: one trait, one implementation for each interface of a kernel.

mod configfs_tsm;
mod nitro;
mod software;
mod tpm2;

use crate::binding::{Binding, EvidenceKind};
use std::io;

pub use configfs_tsm::{ConfigfsTsm, Folder, Kernel, REPORT_FOLDER};
#[cfg(feature = "nitro")]
pub use nitro::NsmDevice;
pub use nitro::{Nitro, Nsm, NsmError};
pub use software::Software;
pub use tpm2::{BOOT_PCRS, Tpm2, TpmError};

/// What a platform gave; nothing here has been checked.
///
/// The body by kind: the report for `sev-snp`, the quote for `tdx`, the `COSE_Sign1` document for `nitro`,
/// the report data for `software`, and for `tpm2` a CBOR array of `TPMS_ATTEST`, `TPMT_SIGNATURE`,
/// `TPM2B_PUBLIC` of the key, and a map of the quoted PCRs by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testimony {
    /// The signed bytes.
    pub body: Vec<u8>,
    /// Certificates that the platform had at hand, DER, the signing one first.
    pub endorsements: Vec<Vec<u8>>,
}

impl From<Vec<u8>> for Testimony {
    fn from(body: Vec<u8>) -> Self {
        Self { body, endorsements: Vec::new() }
    }
}

/// Something that makes evidence about the machine it runs on.
pub trait Attester {
    /// The kind of all its evidence.
    fn kind(&self) -> EvidenceKind;

    /// Evidence about `binding`, whose kind is this attester's.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn attest(&mut self, binding: &Binding) -> Result<Testimony, AttesterError>;
}

impl<A: Attester + ?Sized> Attester for Box<A> {
    fn kind(&self) -> EvidenceKind {
        (**self).kind()
    }

    fn attest(&mut self, binding: &Binding) -> Result<Testimony, AttesterError> {
        (**self).attest(binding)
    }
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum AttesterError {
    /// An interface of the kernel failed.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The platform behind configfs-tsm is none that is known.
    #[error("the reports of this machine come from `{provider}`; known are tdx_guest and sev_guest")]
    Provider {
        /// Its name, shortened.
        provider: String,
    },
    /// Somebody else wrote to our report.
    #[error("a report is of generation {found}, not 1: another process wrote to it")]
    Generation {
        /// The generation found, where it is a number.
        found: String,
    },
    /// More than a report of this kind can have.
    #[error("{what} has more than {most} bytes")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// The Nitro security module refused.
    #[error("the Nitro security module gave no document: {0}")]
    Nsm(#[from] NsmError),
    /// The TPM refused, or answered something else.
    #[error("the TPM gave no quote: {0}")]
    Tpm(#[from] TpmError),
}

impl AttesterError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { what, error }
    }
}
