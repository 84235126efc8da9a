//! Documents of the Nitro security module.
//!
//! The device speaks CBOR through one `ioctl`, which needs `unsafe`. The cargo feature `nitro` takes it from
//! AWS's own crate; without the feature there is only the interface.

use super::{Attester, AttesterError, Testimony};
use crate::binding::{Binding, EvidenceKind};

/// Most bytes of a document: what the driver has room for.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 0x3000;

/// Why the security module gave no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NsmError {
    /// There is no device, so this is no enclave.
    #[error("/dev/nsm cannot be opened; this is not inside a Nitro enclave")]
    Absent,
    /// The device refused.
    #[error("the device answered {answer}")]
    Refused {
        /// Its answer.
        answer: String,
    },
}

/// The one request that is needed.
pub trait Nsm {
    /// A signed document with these three fields.
    ///
    /// # Errors
    /// [`NsmError`].
    fn document(&mut self, user_data: &[u8], nonce: &[u8], public_key: &[u8]) -> Result<Vec<u8>, NsmError>;
}

/// The attester of Nitro enclaves: report data as user data, and nonce and channel key in their own fields
/// too.
#[derive(Debug)]
pub struct Nitro<N>(N);

impl<N: Nsm> Nitro<N> {
    /// An attester that asks `nsm`.
    pub const fn new(nsm: N) -> Self {
        Self(nsm)
    }
}

impl<N: Nsm> Attester for Nitro<N> {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Nitro
    }

    fn attest(&mut self, binding: &Binding) -> Result<Testimony, AttesterError> {
        let document = self.0.document(&binding.report_data(), &binding.nonce, &binding.channel_key)?;
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(AttesterError::TooLarge { what: "a Nitro document", most: DOCUMENT_BYTES_MAX });
        }
        Ok(document.into())
    }
}

/// `/dev/nsm`.
#[cfg(feature = "nitro")]
#[derive(Debug)]
pub struct NsmDevice {
    descriptor: i32,
}

#[cfg(feature = "nitro")]
impl NsmDevice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`NsmError::Absent`].
    pub fn open() -> Result<Self, NsmError> {
        match aws_nitro_enclaves_nsm_api::driver::nsm_init() {
            descriptor @ 0.. => Ok(Self { descriptor }),
            _ => Err(NsmError::Absent),
        }
    }
}

#[cfg(feature = "nitro")]
impl Drop for NsmDevice {
    fn drop(&mut self) {
        aws_nitro_enclaves_nsm_api::driver::nsm_exit(self.descriptor);
    }
}

#[cfg(feature = "nitro")]
impl Nsm for NsmDevice {
    fn document(&mut self, user_data: &[u8], nonce: &[u8], public_key: &[u8]) -> Result<Vec<u8>, NsmError> {
        use aws_nitro_enclaves_nsm_api::api::{Request, Response};
        let field = |bytes: &[u8]| Some(bytes.to_vec().into());
        let request = Request::Attestation {
            user_data: field(user_data),
            nonce: field(nonce),
            public_key: field(public_key),
        };
        match aws_nitro_enclaves_nsm_api::driver::nsm_process_request(self.descriptor, request) {
            Response::Attestation { document } => Ok(document),
            Response::Error(code) => Err(NsmError::Refused { answer: format!("{code:?}") }),
            _ => Err(NsmError::Refused { answer: "something else".to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::trial;
    use super::*;

    struct Fake(Result<usize, NsmError>);

    impl Nsm for Fake {
        fn document(&mut self, user: &[u8], nonce: &[u8], key: &[u8]) -> Result<Vec<u8>, NsmError> {
            let padding = vec![0; self.0.clone()?];
            Ok([user, b"|", nonce, b"|", key, &padding].concat())
        }
    }

    #[test]
    fn the_document_binds_in_three_fields() {
        let binding = trial::binding(EvidenceKind::Nitro);
        let mut attester = Nitro::new(Fake(Ok(0)));
        assert_eq!(attester.kind(), EvidenceKind::Nitro);
        let testimony = attester.attest(&binding).unwrap();
        let expected =
            [&binding.report_data()[..], b"|", &binding.nonce, b"|", &binding.channel_key].concat();
        assert_eq!(testimony, expected.into());
    }

    #[test]
    fn refusals_and_large_documents_are_named() {
        let binding = trial::binding(EvidenceKind::Nitro);
        let refused = NsmError::Refused { answer: "InternalError".to_owned() };
        for (fake, text) in [
            (Fake(Err(NsmError::Absent)), "not inside a Nitro enclave"),
            (Fake(Err(refused)), "InternalError"),
            (Fake(Ok(DOCUMENT_BYTES_MAX)), "more than 12288 bytes"),
        ] {
            let error = Nitro::new(fake).attest(&binding).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[cfg(feature = "nitro")]
    #[test]
    fn outside_an_enclave_there_is_no_device() {
        if !std::path::Path::new("/dev/nsm").exists() {
            assert_eq!(NsmDevice::open().unwrap_err(), NsmError::Absent);
        }
    }
}
