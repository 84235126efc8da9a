//! Quotes of a TPM 2.0, by raw commands to `/dev/tpmrm0` or to a software TPM's socket.
//!
//! Four commands are all it takes, so no TPM library is linked. The attestation key is a primary key made
//! from a fixed template: the same TPM makes the same key every time, so that a policy can name it, and
//! nothing has to be stored. It is restricted: it signs only what the TPM itself made.

mod activation;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::super::bytes::{Bytes, DecodeError};
use super::{Attester, AttesterError, Testimony};
use crate::binding::{Binding, EvidenceKind};
use crate::hex::Hex;
use crate::refusal::Refusal;
use crate::verifier::tpm2::{TpmBody, key_name};

/// The registers that a measured boot fills before the module runs, as a bit set: 0 to 9 and 11 to 15. Linux
/// goes on adding to 10 while it runs, so that no policy could name its value.
pub const BOOT_PCRS: u32 = 0xFBFF;

/// Longest command or answer: the size of the interfaces' buffers.
const MESSAGE_BYTES_MAX: usize = 4096;
const HEADER_BYTES: usize = 10;
/// A TPM reads at most this many registers at a time; more rounds than registers mean that it reads none.
const ROUNDS_MAX: usize = 24;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const CREATE_PRIMARY: u32 = 0x131;
const QUOTE: u32 = 0x158;
const FLUSH_CONTEXT: u32 = 0x165;
const PCR_READ: u32 = 0x17E;
const OWNER: u32 = 0x4000_0001;
const SHA256: u16 = 0x000B;
const DIGEST_BYTES: usize = 32;
/// The TPM could not begin and wants the same command again. Linux does that by itself, an emulator's socket
/// leaves it to us.
const RETRY: u32 = 0x922;
/// How often it is obeyed.
const RETRIES_MAX: usize = 8;

/// An empty password for one handle.
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
/// Neither a password of the new key nor data of ours.
const NO_SECRET: [u8; 6] = [0, 4, 0, 0, 0, 0];
/// A restricted ECDSA key on P-256 under SHA-256 that never leaves its TPM. Its password is empty, so counting
/// wrong ones would protect nothing: it would only let others lock the key by giving them.
const TEMPLATE: [u8; 26] = [
    0, 24, // bytes that follow
    0x00, 0x23, 0x00, 0x0B, // elliptic curve, named by SHA-256
    0x00, 0x05, 0x04, 0x72, // sign, restricted, never locked, own password, bound to the TPM
    0, 0, // no policy
    0x00, 0x10, 0x00, 0x18, 0x00, 0x0B, // no encryption; ECDSA under SHA-256
    0x00, 0x03, 0x00, 0x10, // P-256, no key derivation
    0, 0, 0, 0, // any point
];

/// Why there is no quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TpmError {
    /// The TPM refused a command.
    #[error("it refused command {command:#x} with code {code:#x}")]
    Refused {
        /// The command.
        command: u32,
        /// The TPM's response code.
        code: u32,
    },
    /// An answer of a length that no answer has.
    #[error(
        "its answer announces {found} bytes; between {HEADER_BYTES} and {MESSAGE_BYTES_MAX} are possible"
    )]
    Length {
        /// Bytes announced.
        found: usize,
    },
    /// An answer of another layout.
    #[error("its answer to command {command:#x} is malformed: {error}")]
    Answer {
        /// The command.
        command: u32,
        /// What is wrong.
        error: DecodeError,
    },
    /// A key of another kind than was asked for.
    #[error("the key that it made is not the one asked for: {0}")]
    Key(Refusal),
    /// Registers that it does not have under SHA-256.
    #[error("it does not give all registers of the set {missing:#x} under SHA-256")]
    Registers {
        /// Bit set of the registers that did not come.
        missing: u32,
    },
}

/// The attester of a TPM behind any stream of commands and answers.
#[derive(Debug)]
pub struct Tpm2<S> {
    stream: S,
    pcrs: u32,
}

impl<S: Read + Write> Tpm2<S> {
    /// An attester that quotes the registers of the bit set `pcrs`, of which the lowest 24 count.
    pub const fn new(stream: S, pcrs: u32) -> Self {
        Self { stream, pcrs: pcrs & 0x00FF_FFFF }
    }

    /// The name of this TPM's attestation key, by which a policy enrols it: SHA-256 of its public part.
    ///
    /// # Errors
    /// [`AttesterError`] where the TPM makes no such key.
    pub fn key_name(&mut self) -> Result<Hex<32>, AttesterError> {
        let (key, public) = self.key()?;
        self.flush(key)?;
        Ok(key_name(&public).map_err(TpmError::Key)?)
    }

    /// Sends a command; the body of the answer.
    fn command(&mut self, tag: u16, command: u32, parts: &[&[u8]]) -> Result<Vec<u8>, AttesterError> {
        let length = HEADER_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut message = Vec::with_capacity(length);
        message.extend(tag.to_be_bytes());
        message.extend((length as u32).to_be_bytes());
        message.extend(command.to_be_bytes());
        for part in parts {
            message.extend(*part);
        }
        let mut code = RETRY;
        for _ in 0..=RETRIES_MAX {
            let sent = self.stream.write_all(&message).and_then(|()| self.stream.flush());
            sent.map_err(AttesterError::io("writing to the TPM"))?;
            let answer = self.answer()?;
            code = u32::from_be_bytes([answer[6], answer[7], answer[8], answer[9]]);
            match code {
                0 => return Ok(answer[HEADER_BYTES..].to_vec()),
                RETRY => {}
                _ => break,
            }
        }
        Err(TpmError::Refused { command, code }.into())
    }

    /// One answer, header included. The device gives it in one read, a socket in as many as it likes.
    fn answer(&mut self) -> Result<Vec<u8>, AttesterError> {
        let mut answer = vec![0; MESSAGE_BYTES_MAX];
        let (mut have, mut length) = (0, HEADER_BYTES);
        while have < length {
            let read =
                self.stream.read(&mut answer[have..]).map_err(AttesterError::io("reading from the TPM"))?;
            if read == 0 {
                let ended = std::io::ErrorKind::UnexpectedEof.into();
                return Err(AttesterError::Io { what: "reading from the TPM", error: ended });
            }
            have += read;
            if have >= HEADER_BYTES {
                let found = u32::from_be_bytes([answer[2], answer[3], answer[4], answer[5]]);
                length = usize::try_from(found).unwrap_or(usize::MAX);
                if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) || have > length {
                    return Err(TpmError::Length { found: length }.into());
                }
            }
        }
        answer.truncate(length);
        Ok(answer)
    }

    /// Makes the attestation key: its handle and `TPM2B_PUBLIC`.
    fn key(&mut self) -> Result<(u32, Vec<u8>), AttesterError> {
        let nothing = [0; 6];
        let parts = [&OWNER.to_be_bytes()[..], &PASSWORD, &NO_SECRET, &TEMPLATE, &nothing];
        let body = self.command(SESSIONS, CREATE_PRIMARY, &parts)?;
        read_key(&mut Bytes::new(&body)).map_err(|error| malformed(CREATE_PRIMARY, error))
    }

    /// Gives the room of a key back: a TPM has little.
    fn flush(&mut self, key: u32) -> Result<(), AttesterError> {
        self.command(NO_SESSIONS, FLUSH_CONTEXT, &[&key.to_be_bytes()]).map(drop)
    }

    /// `TPMS_ATTEST` over the registers and `data`, and its `TPMT_SIGNATURE`.
    fn quote(&mut self, key: u32, data: &[u8; 32]) -> Result<[Vec<u8>; 2], AttesterError> {
        let selection = selection(self.pcrs);
        // The key's own scheme.
        let parts = [&key.to_be_bytes()[..], &PASSWORD, &[0, 32], data, &[0x00, 0x10], &selection];
        let body = self.command(SESSIONS, QUOTE, &parts)?;
        read_quote(&mut Bytes::new(&body)).map_err(|error| malformed(QUOTE, error))
    }

    /// The value of each register of the set.
    fn registers(&mut self) -> Result<BTreeMap<u8, [u8; DIGEST_BYTES]>, AttesterError> {
        let mut values = BTreeMap::new();
        let mut missing = self.pcrs;
        for _ in 0..ROUNDS_MAX {
            if missing == 0 {
                break;
            }
            let body = self.command(NO_SESSIONS, PCR_READ, &[&selection(missing)])?;
            let read = read_registers(&mut Bytes::new(&body)).map_err(|error| malformed(PCR_READ, error))?;
            for (index, value) in read {
                missing &= !(1 << index);
                values.insert(index, value);
            }
        }
        if missing != 0 {
            return Err(TpmError::Registers { missing }.into());
        }
        Ok(values)
    }
}

impl<S: Read + Write> Attester for Tpm2<S> {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Tpm2
    }

    /// Should a register change between the quote and the reading, the quote's digest does not match the
    /// values, and the verifier refuses.
    fn attest(&mut self, binding: &Binding) -> Result<Testimony, AttesterError> {
        let (key, public) = self.key()?;
        let quoted = self.quote(key, &binding.qualifying_data());
        let flushed = self.flush(key);
        let [attest, signature] = quoted?;
        flushed?;
        let registers = self.registers()?;
        Ok(TpmBody { attest, signature, public, registers }.encode().into())
    }
}

fn malformed(command: u32, error: DecodeError) -> AttesterError {
    TpmError::Answer { command, error }.into()
}

/// A structure behind two bytes of length, with them.
fn sized(bytes: &mut Bytes<'_>) -> Result<Vec<u8>, DecodeError> {
    let length: [u8; 2] = bytes.array()?;
    let body = bytes.take(usize::from(u16::from_be_bytes(length)))?;
    Ok([&length[..], body].concat())
}

/// `TPML_PCR_SELECTION` of registers under SHA-256.
fn selection(pcrs: u32) -> [u8; 10] {
    let [first, second, third, _] = pcrs.to_le_bytes();
    let [high, low] = SHA256.to_be_bytes();
    [0, 0, 0, 1, high, low, 3, first, second, third]
}

/// Handle and public part in the answer that makes a key.
fn read_key(bytes: &mut Bytes<'_>) -> Result<(u32, Vec<u8>), DecodeError> {
    let handle = bytes.array().map(u32::from_be_bytes)?;
    bytes.take(4)?;
    Ok((handle, sized(bytes)?))
}

/// What was signed and the signature in the answer to a quote.
fn read_quote(bytes: &mut Bytes<'_>) -> Result<[Vec<u8>; 2], DecodeError> {
    let length = bytes.array().map(u32::from_be_bytes)? as usize;
    let mut parameters = Bytes::new(bytes.take(length)?);
    let attest = sized(&mut parameters)?.split_off(2);
    Ok([attest, parameters.rest().to_vec()])
}

/// The registers in an answer to a reading.
fn read_registers(bytes: &mut Bytes<'_>) -> Result<Vec<(u8, [u8; DIGEST_BYTES])>, DecodeError> {
    // How often registers changed so far.
    bytes.take(4)?;
    let head: [u8; 7] = bytes.array()?;
    let [first, second, third] = bytes.array()?;
    if head != selection(0)[..7] {
        return Err(DecodeError::Tag { what: "selection of SHA-256 registers", tag: head[6] });
    }
    let set = u32::from_le_bytes([first, second, third, 0]);
    let indices: Vec<u8> = (0..24).filter(|index| (set >> index) & 1 == 1).collect();
    let count = bytes.array().map(u32::from_be_bytes)? as usize;
    if count != indices.len() {
        return Err(DecodeError::Length { what: "registers", found: count, most: indices.len() });
    }
    let mut values = Vec::with_capacity(indices.len());
    for index in indices {
        let length = usize::from(bytes.array().map(u16::from_be_bytes)?);
        if length != DIGEST_BYTES {
            return Err(DecodeError::Length {
                what: "bytes of a register",
                found: length,
                most: DIGEST_BYTES,
            });
        }
        values.push((index, bytes.array()?));
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
