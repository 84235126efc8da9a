//! Intel's quotes, versions 3 to 5: only their frame and the fields that a policy names.
//!
//! The frame is read here before the library sees the quote, so that no length in it is believed unseen.

use crate::refusal::Refusal;

const PART: &str = "the Intel quote";
/// Real ones have 5 kB, most of it certificates.
pub(super) const QUOTE_BYTES_MAX: usize = 16 * 1024;
const HEADER_BYTES: usize = 48;
const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
const ECDSA_P256: u16 = 2;
const SGX_BYTES: usize = 384;
const TD10_BYTES: usize = 584;
const TD15_BYTES: usize = 648;
/// Types of bodies in version 5.
const BODY_SGX: u16 = 1;
const BODY_TD10: u16 = 2;
const BODY_TD15: u16 = 3;
const SIGNATURE_BYTES: usize = 64;
const KEY_BYTES: usize = 64;
/// Certification data that holds the report of the quoting enclave, and data that holds a PEM chain.
const CERTIFIED_QE: u16 = 6;
const CERTIFIED_PEM: u16 = 5;

/// What a quote is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Tdx(Box<TdxReport>),
    Sgx(Box<SgxReport>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TdxReport {
    /// The first byte's bits are for debugging.
    pub(super) attributes: [u8; 8],
    pub(super) mr_td: [u8; 48],
    pub(super) mr_config_id: [u8; 48],
    pub(super) rtmr: [[u8; 48]; 4],
    pub(super) report_data: [u8; 64],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SgxReport {
    pub(super) attributes: [u8; 16],
    pub(super) mr_enclave: [u8; 32],
    pub(super) mr_signer: [u8; 32],
    pub(super) product: u16,
    pub(super) version: u16,
    pub(super) report_data: [u8; 64],
}

/// A quote taken apart, nothing verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quote<'a> {
    pub(super) body: Body,
    /// The chain of the platform's key, in PEM.
    pub(super) chain: &'a [u8],
}

/// Reads little-endian fields; nothing past the end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Bytes behind their length in four bytes.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::try_from(self.u32()?).ok()?;
        self.take(bytes)
    }
}

impl<'a> Quote<'a> {
    /// Reads the frame. Bytes behind the quote are let be: some attesters fill up to a fixed size.
    pub(super) fn parse(quote: &'a [u8]) -> Result<Self, Refusal> {
        if quote.len() > QUOTE_BYTES_MAX {
            return Err(Refusal::TooLarge { part: PART, bytes: quote.len(), most: QUOTE_BYTES_MAX });
        }
        let malformed = Refusal::Malformed { part: PART };
        let mut fields = Fields(quote);
        let Some(header) = fields.array::<HEADER_BYTES>() else { return Err(malformed) };
        let version = u16::from_le_bytes([header[0], header[1]]);
        let key = u16::from_le_bytes([header[2], header[3]]);
        let tee = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if !(3..=5).contains(&version) {
            return Err(Refusal::Version { part: PART, version: version.into() });
        }
        if key != ECDSA_P256 {
            let expected = "2 (ECDSA P-256)";
            return Err(Refusal::Algorithm { part: PART, algorithm: key.to_string(), expected });
        }
        let mut read = || {
            let body = body(&mut fields, version, tee)?;
            let mut signed = Fields(fields.sized()?);
            signed.take(SIGNATURE_BYTES + KEY_BYTES)?;
            if version > 3 {
                (signed.u16()? == CERTIFIED_QE).then_some(())?;
                signed = Fields(signed.sized()?);
            }
            signed.take(SGX_BYTES + SIGNATURE_BYTES)?;
            let authentication = usize::from(signed.u16()?);
            signed.take(authentication)?;
            (signed.u16()? == CERTIFIED_PEM).then_some(())?;
            Some(Self { body, chain: signed.sized()? })
        };
        read().ok_or(malformed)
    }
}

fn body(fields: &mut Fields<'_>, version: u16, tee: u32) -> Option<Body> {
    let bytes = match (version, tee) {
        (3 | 4, TEE_SGX) => SGX_BYTES,
        (4, TEE_TDX) => TD10_BYTES,
        (5, _) => {
            let (kind, bytes) = (fields.u16()?, usize::try_from(fields.u32()?).ok()?);
            let known = [
                (TEE_SGX, BODY_SGX, SGX_BYTES),
                (TEE_TDX, BODY_TD10, TD10_BYTES),
                (TEE_TDX, BODY_TD15, TD15_BYTES),
            ];
            known.contains(&(tee, kind, bytes)).then_some(bytes)?
        }
        _ => return None,
    };
    let body = fields.take(bytes)?;
    if tee == TEE_SGX { sgx(body) } else { tdx(body) }
}

fn field<const N: usize>(body: &[u8], at: usize) -> Option<[u8; N]> {
    body.get(at..)?.first_chunk().copied()
}

fn tdx(body: &[u8]) -> Option<Body> {
    Some(Body::Tdx(Box::new(TdxReport {
        attributes: field(body, 120)?,
        mr_td: field(body, 136)?,
        mr_config_id: field(body, 184)?,
        rtmr: [field(body, 328)?, field(body, 376)?, field(body, 424)?, field(body, 472)?],
        report_data: field(body, 520)?,
    })))
}

fn sgx(body: &[u8]) -> Option<Body> {
    Some(Body::Sgx(Box::new(SgxReport {
        attributes: field(body, 48)?,
        mr_enclave: field(body, 64)?,
        mr_signer: field(body, 128)?,
        product: u16::from_le_bytes(field(body, 256)?),
        version: u16::from_le_bytes(field(body, 258)?),
        report_data: field(body, 320)?,
    })))
}
