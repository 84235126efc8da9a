//! The few structures of the TPM 2.0 library specification, part 2, that a quote needs.

use super::{PART, REGISTERS_MAX};
use crate::hex::Hex;
use crate::refusal::Refusal;
use ring::digest::{SHA256, digest};

const GENERATED: u32 = 0xff54_4347;
const ST_ATTEST_QUOTE: u16 = 0x8018;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const CURVE_P256: u16 = 0x0003;

/// fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign: made in this TPM, never leaves it, and signs
/// nothing that looks like a quote and is none.
const REQUIRED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18;
/// decrypt, and x509sign.
const FORBIDDEN: u32 = 1 << 17 | 1 << 19;
const COORDINATE_BYTES: usize = 32;
/// Longest TPM2B of these structures: a name, a digest, a nonce.
const SIZED_BYTES_MAX: usize = 128;

/// The key that signs quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttestationKey {
    /// SHA-256 of its public area, which the TPM calls its name.
    pub(super) name: Hex<32>,
    /// The uncompressed point.
    pub(super) point: [u8; 65],
}

/// What a quote says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    /// The qualifying data.
    pub(super) extra: Vec<u8>,
    pub(super) resets: u32,
    pub(super) firmware: u64,
    /// The quoted registers of the SHA-256 bank, ascending.
    pub(super) registers: Vec<u8>,
    /// SHA-256 over their values.
    pub(super) digest: Vec<u8>,
}

/// Reads big-endian fields; nothing past the end.
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

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A TPM2B: its length in two bytes, then its bytes.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::from(self.u16()?);
        self.take(bytes).filter(|taken| taken.len() <= SIZED_BYTES_MAX)
    }

    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

impl AttestationKey {
    /// Reads a TPM2B_PUBLIC and refuses keys that could sign what their TPM did not make.
    pub(super) fn decode(public: &[u8]) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed { part: "the public area of the TPM key" };
        let mut fields = Fields(public);
        let Some(area) = fields.sized().filter(|_| fields.0.is_empty()) else { return Err(malformed) };
        let mut fields = Fields(area);
        let (Some(kind), Some(hash), Some(attributes)) = (fields.u16(), fields.u16(), fields.u32()) else {
            return Err(malformed);
        };
        if (kind, hash) != (ALG_ECC, ALG_SHA256) {
            return Err(algorithm("the TPM key", &[kind, hash]));
        }
        if attributes & REQUIRED != REQUIRED || attributes & FORBIDDEN != 0 {
            return Err(Refusal::KeyAttributes);
        }
        let read = || {
            let _authorisation = fields.sized()?;
            let parameters = [fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?];
            let (x, y) = (fields.sized()?, fields.sized()?);
            fields.end((parameters, x, y))
        };
        let Some((parameters, x, y)) = read() else { return Err(malformed) };
        if parameters != [ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL] {
            return Err(algorithm("the TPM key", &parameters));
        }
        let mut point = [4; 65];
        let (Some(left), Some(right)) = (coordinate(x), coordinate(y)) else { return Err(malformed) };
        point[1..33].copy_from_slice(&left);
        point[33..].copy_from_slice(&right);
        Ok(Self { name: sha256(area), point })
    }
}

/// SHA-256 part of the name of a key, as policies list it, from its TPM2B_PUBLIC.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::Algorithm`] or [`Refusal::KeyAttributes`] for a key that may not be
/// enrolled.
pub fn key_name(public: &[u8]) -> Result<Hex<32>, Refusal> {
    AttestationKey::decode(public).map(|key| key.name)
}

impl Quote {
    /// Reads a TPMS_ATTEST of a quote.
    pub(super) fn decode(attest: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields(attest);
        let read = || {
            let head = (fields.u32()?, fields.u16()?);
            (head == (GENERATED, ST_ATTEST_QUOTE)).then_some(())?;
            let _signer = fields.sized()?;
            let extra = fields.sized()?.to_vec();
            let (_clock, resets, _restarts, _safe) =
                (fields.u64()?, fields.u32()?, fields.u32()?, fields.u8()?);
            let firmware = fields.u64()?;
            let registers = selection(&mut fields)?;
            let digest = fields.sized()?.to_vec();
            fields.end(Self { extra, resets, firmware, registers, digest })
        };
        read().ok_or(Refusal::Malformed { part: PART })
    }
}

/// A TPML_PCR_SELECTION with one bank, SHA-256.
fn selection(fields: &mut Fields<'_>) -> Option<Vec<u8>> {
    let (banks, bank, bytes) = (fields.u32()?, fields.u16()?, fields.u8()?);
    ((banks, bank) == (1, ALG_SHA256)).then_some(())?;
    let bits = fields.take(usize::from(bytes)).filter(|bits| 8 * bits.len() <= usize::from(REGISTERS_MAX))?;
    let selected =
        |index: &u8| bits.get(usize::from(index / 8)).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    Some((0..REGISTERS_MAX).filter(selected).collect())
}

/// Reads a TPMT_SIGNATURE into `r` and `s`, 32 bytes each.
pub(super) fn signature(bytes: &[u8]) -> Result<[u8; 2 * COORDINATE_BYTES], Refusal> {
    let malformed = Refusal::Malformed { part: "the signature of the TPM quote" };
    let mut fields = Fields(bytes);
    let (Some(scheme), Some(hash)) = (fields.u16(), fields.u16()) else { return Err(malformed) };
    if (scheme, hash) != (ALG_ECDSA, ALG_SHA256) {
        return Err(algorithm("the signature of the TPM quote", &[scheme, hash]));
    }
    let read = || {
        let (r, s) = (coordinate(fields.sized()?)?, coordinate(fields.sized()?)?);
        let mut both = [0; 2 * COORDINATE_BYTES];
        both[..COORDINATE_BYTES].copy_from_slice(&r);
        both[COORDINATE_BYTES..].copy_from_slice(&s);
        fields.end(both)
    };
    read().ok_or(malformed)
}

/// A number of at most 32 bytes. Some TPMs leave zeros in front away; none may add any.
fn coordinate(bytes: &[u8]) -> Option<[u8; COORDINATE_BYTES]> {
    let mut number = [0; COORDINATE_BYTES];
    let unused = COORDINATE_BYTES.checked_sub(bytes.len())?;
    number[unused..].copy_from_slice(bytes);
    Some(number)
}

fn algorithm(part: &'static str, found: &[u16]) -> Refusal {
    let names: Vec<String> = found.iter().map(|id| format!("{id:#06x}")).collect();
    let expected = "ECDSA on P-256 with SHA-256";
    Refusal::Algorithm { part, algorithm: format!("TPM {}", names.join(" ")), expected }
}

fn sha256(bytes: &[u8]) -> Hex<32> {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Hex(hash)
}
