//! The TPM's side of enrolment: its endorsement key, and what only that key opens.

use super::super::super::bytes::{Bytes, DecodeError};
use super::super::AttesterError;
use super::{CREATE_PRIMARY, NO_SECRET, NO_SESSIONS, PASSWORD, SESSIONS, Tpm2, malformed, read_key, sized};
use crate::verifier::tpm2::Credential;
use std::io::{Read, Write};
use zeroize::Zeroizing;

const ACTIVATE_CREDENTIAL: u32 = 0x147;
const NV_READ: u32 = 0x14E;
const POLICY_SECRET: u32 = 0x151;
const NV_READ_PUBLIC: u32 = 0x169;
const START_AUTH_SESSION: u32 = 0x176;
const ENDORSEMENT: [u8; 4] = [0x40, 0, 0, 0x0B];
const NOBODY: [u8; 4] = [0x40, 0, 0, 0x07];
/// Where manufacturers store the certificate of the RSA endorsement key.
const CERTIFICATE: [u8; 4] = [0x01, 0xC0, 0x00, 0x02];
/// Bytes that every TPM gives at a time.
const READ_BYTES: u16 = 512;
/// The standard endorsement key of 2048 bits, up to its modulus (TCG EK Credential Profile, L-1).
const TEMPLATE: [u8; 58] = [
    1, 58, // bytes that follow
    0x00, 0x01, 0x00, 0x0B, // RSA, named by SHA-256
    0x00, 0x03, 0x00, 0xB2, // decrypt, restricted, by policy, bound to the TPM
    0, 32, 0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
    0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69,
    0xAA, // policy
    0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, // AES-128, cipher feedback; no scheme
    0x08, 0x00, 0, 0, 0, 0, // 2048 bits, the usual exponent
];
const MODULUS_BYTES: usize = 256;

impl<S: Read + Write> Tpm2<S> {
    /// The certificate of the endorsement key, DER, where the manufacturer stored one.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn endorsement_certificate(&mut self) -> Result<Vec<u8>, AttesterError> {
        let body = self.command(NO_SESSIONS, NV_READ_PUBLIC, &[&CERTIFICATE])?;
        let size = read_size(&body).map_err(|error| malformed(NV_READ_PUBLIC, error))?;
        let mut certificate = Vec::new();
        for offset in (0..size).step_by(usize::from(READ_BYTES)) {
            let (offset, count) = (offset.to_be_bytes(), (size - offset).min(READ_BYTES).to_be_bytes());
            let parts = [&CERTIFICATE[..], &CERTIFICATE, &PASSWORD, &count, &offset];
            let body = self.command(SESSIONS, NV_READ, &parts)?;
            certificate.extend(read_sized(&body).map_err(|error| malformed(NV_READ, error))?);
        }
        Ok(certificate)
    }

    /// `TPM2B_PUBLIC` of the attestation key.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn attestation_key(&mut self) -> Result<Vec<u8>, AttesterError> {
        let (key, public) = self.key()?;
        self.flush(key)?;
        Ok(public)
    }

    /// The secret in a credential for the attestation key.
    ///
    /// # Errors
    /// [`AttesterError`]: the TPM refuses one that is for another TPM or another key.
    pub fn activate(&mut self, credential: &Credential) -> Result<Zeroizing<Vec<u8>>, AttesterError> {
        let (key, _) = self.key()?;
        let secret = self.activate_for(key, credential);
        self.flush(key)?;
        secret
    }

    fn activate_for(
        &mut self,
        key: u32,
        credential: &Credential,
    ) -> Result<Zeroizing<Vec<u8>>, AttesterError> {
        let unique = [&(MODULUS_BYTES as u16).to_be_bytes()[..], &[0; MODULUS_BYTES]].concat();
        let parts = [&ENDORSEMENT[..], &PASSWORD, &NO_SECRET, &TEMPLATE, &unique, &[0; 6]];
        let body = self.command(SESSIONS, CREATE_PRIMARY, &parts)?;
        let (endorsement, _) =
            read_key(&mut Bytes::new(&body)).map_err(|error| malformed(CREATE_PRIMARY, error))?;
        let secret = self.activate_under(key, endorsement, credential);
        self.flush(endorsement)?;
        secret
    }

    fn activate_under(
        &mut self,
        key: u32,
        endorsement: u32,
        credential: &Credential,
    ) -> Result<Zeroizing<Vec<u8>>, AttesterError> {
        // A session for a policy, neither salted nor bound: there is no secret to protect it with.
        let caller = [[0, 16].as_slice(), &[0; 16]].concat();
        let parts = [&NOBODY[..], &NOBODY, &caller, &[0, 0], &[1], &[0x00, 0x10], &[0x00, 0x0B]];
        let body = self.command(NO_SESSIONS, START_AUTH_SESSION, &parts)?;
        let session = Bytes::new(&body).array().map_err(|error| malformed(START_AUTH_SESSION, error))?;
        let secret = self.activate_in(session, key, endorsement, credential);
        self.flush(u32::from_be_bytes(session))?;
        secret
    }

    fn activate_in(
        &mut self,
        session: [u8; 4],
        key: u32,
        endorsement: u32,
        credential: &Credential,
    ) -> Result<Zeroizing<Vec<u8>>, AttesterError> {
        // The policy of the standard key: whoever knows the (empty) password of its hierarchy.
        let parts = [&ENDORSEMENT[..], &session, &PASSWORD, &[0; 10]];
        self.command(SESSIONS, POLICY_SECRET, &parts)?;
        let both = [&[0, 0, 0, 18], &PASSWORD[4..], &session, &[0, 0, 1, 0, 0]].concat();
        let (key, endorsement) = (key.to_be_bytes(), endorsement.to_be_bytes());
        let parts = [&key[..], &endorsement, &both, &credential.object, &credential.seed];
        let body = Zeroizing::new(self.command(SESSIONS, ACTIVATE_CREDENTIAL, &parts)?);
        let secret = read_sized(&body).map_err(|error| malformed(ACTIVATE_CREDENTIAL, error))?;
        Ok(Zeroizing::new(secret))
    }
}

/// The size of stored data, the last two bytes of its description.
fn read_size(body: &[u8]) -> Result<u16, DecodeError> {
    let public = sized(&mut Bytes::new(body))?;
    let start = public.len().saturating_sub(2);
    Bytes::new(&public[start..]).array().map(u16::from_be_bytes)
}

/// The one TPM2B of an answer with sessions, behind the length of its parameters.
fn read_sized(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Bytes::new(body);
    bytes.take(4)?;
    Ok(sized(&mut bytes)?.split_off(2))
}
