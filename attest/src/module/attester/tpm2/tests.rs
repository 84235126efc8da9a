use super::super::super::trial;
use super::*;
use crate::evidence::Evidence;
use crate::hex::Hex;
use crate::policy::{Image, Policy, Register, TpmPolicy};
use crate::refusal::Refusal;
use crate::verifier::tpm2::authenticate;
use ring::digest::{SHA256 as RING_SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use std::collections::VecDeque;
use std::io;

/// Most registers that a TPM gives at a time.
const AT_A_TIME: usize = 8;
const HANDLE: u32 = 0x8000_0000;

/// A TPM as far as these four commands go: real signatures over the real structures.
struct Fake {
    key: EcdsaKeyPair,
    registers: [[u8; 32]; 24],
    loaded: usize,
    answers: VecDeque<u8>,
    at_once: usize,
    refuse: Option<(u32, u32)>,
    /// Commands that it still wants again.
    busy: usize,
    answer_with: Option<Vec<u8>>,
}

impl Fake {
    fn new() -> Self {
        let rng = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &rng).unwrap();
        let registers = std::array::from_fn(|index| [index as u8 + 1; 32]);
        Self {
            key,
            registers,
            loaded: 0,
            answers: VecDeque::new(),
            at_once: 4096,
            refuse: None,
            busy: 0,
            answer_with: None,
        }
    }

    fn public(&self) -> Vec<u8> {
        let point = self.key.public_key().as_ref();
        let area = [&TEMPLATE[2..22], &[0, 32], &point[1..33], &[0, 32], &point[33..]].concat();
        [&[0, area.len() as u8][..], &area].concat()
    }

    fn execute(&mut self, code: u32, body: &[u8]) -> Vec<u8> {
        match code {
            CREATE_PRIMARY => {
                let expected = [&OWNER.to_be_bytes()[..], &PASSWORD, &NO_SECRET, &TEMPLATE, &[0; 6]].concat();
                assert_eq!(body, expected);
                self.loaded += 1;
                // Creation data and ticket follow; nobody reads them.
                self.with_sessions(Some(HANDLE), [self.public(), vec![9; 70]].concat())
            }
            QUOTE => {
                assert_eq!(body[..4], HANDLE.to_be_bytes());
                assert_eq!(body[4..19], [&PASSWORD[..], &[0, 32]].concat());
                let (data, rest) = body[19..].split_at(32);
                assert_eq!(rest[..2], [0, 16]);
                let attest = self.attest(data, &rest[2..]);
                let signature = self.key.sign(&SystemRandom::new(), &attest).unwrap();
                let (r, s) = signature.as_ref().split_at(32);
                let length = (attest.len() as u16).to_be_bytes();
                let signed = [&[0, 0x18, 0, 0x0B, 0, 32][..], r, &[0, 32], s].concat();
                self.with_sessions(None, [&length[..], &attest, &signed].concat())
            }
            PCR_READ => {
                let set = u32::from_le_bytes([body[7], body[8], body[9], 0]);
                let given: Vec<usize> = (0..24).filter(|at| (set >> at) & 1 == 1).take(AT_A_TIME).collect();
                let given_set = given.iter().fold(0, |set, at| set | 1 << at);
                let mut answer = vec![0, 0, 0, 7];
                answer.extend(selection(given_set));
                answer.extend((given.len() as u32).to_be_bytes());
                for at in given {
                    answer.extend([0, 32]);
                    answer.extend(self.registers[at]);
                }
                answer
            }
            FLUSH_CONTEXT => {
                assert_eq!(body, HANDLE.to_be_bytes());
                self.loaded -= 1;
                Vec::new()
            }
            other => panic!("command {other:#x}"),
        }
    }

    fn attest(&self, data: &[u8], selected: &[u8]) -> Vec<u8> {
        let set = u32::from_le_bytes([selected[7], selected[8], selected[9], 0]);
        let values: Vec<u8> =
            (0..24).filter(|at| (set >> at) & 1 == 1).flat_map(|at: usize| self.registers[at]).collect();
        let head = [&b"\xFFTCG\x80\x18\0\x22\0\x0B"[..], &[5; 32], &[0, 32], data].concat();
        let tail = [&[0; 25][..], selected, &[0, 32], digest(&RING_SHA256, &values).as_ref()].concat();
        [head, tail].concat()
    }

    fn with_sessions(&self, handle: Option<u32>, parameters: Vec<u8>) -> Vec<u8> {
        let mut body = handle.map(|handle| handle.to_be_bytes().to_vec()).unwrap_or_default();
        body.extend((parameters.len() as u32).to_be_bytes());
        body.extend(parameters);
        body.extend([0, 0, 1, 0, 0]);
        body
    }
}

impl Write for Fake {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        assert_eq!(message[2..6], (message.len() as u32).to_be_bytes());
        let code = u32::from_be_bytes(message[6..10].try_into().unwrap());
        if let Some(answer) = self.answer_with.take() {
            self.answers.extend(answer);
            return Ok(message.len());
        }
        let (rc, body) = match self.refuse {
            _ if self.busy > 0 => {
                self.busy -= 1;
                (RETRY, Vec::new())
            }
            Some((command, rc)) if command == code => (rc, Vec::new()),
            _ => (0, self.execute(code, &message[10..])),
        };
        self.answers.extend(&message[..2]);
        self.answers.extend((10 + body.len() as u32).to_be_bytes());
        self.answers.extend(rc.to_be_bytes());
        self.answers.extend(body);
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Fake {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.at_once.min(bytes.len()).min(self.answers.len());
        for (byte, from) in bytes.iter_mut().zip(self.answers.drain(..count)) {
            *byte = from;
        }
        Ok(count)
    }
}

#[test]
fn quotes_are_signed_over_the_binding_and_the_registers() {
    // A device gives an answer in one read, a socket byte by byte if it likes.
    for at_once in [4096, 1, 7] {
        let mut attester = Tpm2::new(Fake { at_once, ..Fake::new() }, BOOT_PCRS);
        let binding = trial::binding(EvidenceKind::Tpm2);
        let testimony = attester.attest(&binding).unwrap();
        assert!(testimony.endorsements.is_empty());
        let TpmBody { attest, signature, public, registers } = TpmBody::decode(&testimony.body).unwrap();
        assert_eq!(public, attester.stream.public());
        assert_eq!(attest[44..76], binding.qualifying_data());
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, attester.stream.key.public_key().as_ref());
        let fixed = [&signature[6..38], &signature[40..72]].concat();
        key.verify(&attest, &fixed).unwrap();
        let indices: Vec<u8> = registers.keys().copied().collect();
        assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15]);
        let values: Vec<u8> = registers.values().flatten().copied().collect();
        assert_eq!(attest[attest.len() - 32..], *digest(&RING_SHA256, &values).as_ref());
        assert_eq!((attester.stream.loaded, attester.stream.answers.len()), (0, 0));
    }
}

#[test]
fn the_verifier_accepts_the_quote_and_notices_what_changed() {
    let attest = |attester: &mut Tpm2<Fake>, nonce| {
        let binding = Binding { nonce: [nonce; 32], ..trial::binding(EvidenceKind::Tpm2) };
        let Testimony { body, endorsements } = attester.attest(&binding).unwrap();
        Evidence { binding, body, endorsements }
    };
    let mut attester = Tpm2::new(Fake::new(), BOOT_PCRS);
    let evidence = attest(&mut attester, 5);
    let key = authenticate(&evidence.body).unwrap().key();
    let registers = TpmBody::decode(&evidence.body).unwrap().registers.into_iter();
    let registers = registers.map(|(index, value)| Register { index, value: Hex(value) }).collect();
    let rules = TpmPolicy { keys: vec![key], images: vec![Image { registers }] };
    let policy = Policy { tpm2: Some(rules), ..trial::policy(false) };
    let judged = |evidence: &Evidence, nonce| {
        let asked = Binding { nonce: [nonce; 32], ..trial::binding(EvidenceKind::Tpm2) };
        trial::verified(evidence, &asked, &policy)
    };
    assert_eq!(judged(&evidence, 5).unwrap().kind(), EvidenceKind::Tpm2);
    // The same quote as the answer to the next question.
    assert_eq!(judged(&evidence, 6).unwrap_err(), Refusal::Nonce);
    let relabelled = Evidence { binding: Binding { nonce: [6; 32], ..evidence.binding.clone() }, ..evidence };
    assert_eq!(judged(&relabelled, 6).unwrap_err(), Refusal::Unbound);
    judged(&attest(&mut attester, 6), 6).unwrap();
    // A changed image, and another TPM.
    attester.stream.registers[4][0] ^= 1;
    assert!(judged(&attest(&mut attester, 7), 7).is_err());
    assert!(judged(&attest(&mut Tpm2::new(Fake::new(), BOOT_PCRS), 8), 8).is_err());
}

#[test]
fn the_template_is_that_of_a_real_software_tpms_key() {
    // The head of a key that swtpm made: same type, attributes but for never being locked, schemes and curve.
    let head = [
        0x00, 0x23, 0x00, 0x0B, 0x00, 0x05, 0x04, 0x72, 0x00, 0x00, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0B, 0x00,
        0x03, 0x00, 0x10,
    ];
    assert_eq!(TEMPLATE[2..22], head);
}

#[test]
fn the_key_is_given_back_when_the_quote_is_refused() {
    let binding = trial::binding(EvidenceKind::Tpm2);
    for command in [QUOTE, PCR_READ] {
        let mut attester = Tpm2::new(Fake { refuse: Some((command, 0x921)), ..Fake::new() }, BOOT_PCRS);
        let error = attester.attest(&binding).unwrap_err();
        let expected = TpmError::Refused { command, code: 0x921 };
        assert!(matches!(error, AttesterError::Tpm(error) if error == expected));
        assert_eq!(attester.stream.loaded, 0);
        attester.stream.refuse = None;
        attester.attest(&binding).unwrap();
    }
}

#[test]
fn a_busy_tpm_is_asked_again_but_not_for_ever() {
    let binding = trial::binding(EvidenceKind::Tpm2);
    let attest = |busy| Tpm2::new(Fake { busy, ..Fake::new() }, BOOT_PCRS).attest(&binding);
    attest(RETRIES_MAX).unwrap();
    let error = attest(RETRIES_MAX + 1).unwrap_err();
    let expected = TpmError::Refused { command: CREATE_PRIMARY, code: RETRY };
    assert!(matches!(error, AttesterError::Tpm(error) if error == expected));
}

#[test]
fn malformed_answers_are_named() {
    let binding = trial::binding(EvidenceKind::Tpm2);
    let attest = |answer: &[u8]| {
        let mut fake = Fake::new();
        fake.answer_with = Some(answer.to_vec());
        Tpm2::new(fake, BOOT_PCRS).attest(&binding).unwrap_err()
    };
    let lengths = [
        &b"\x80\x01\0\0\0\x09\0\0\0\0"[..],
        b"\x80\x01\0\0\x10\x01\0\0\0\0",
        b"\x80\x01\xFF\xFF\xFF\xFF\0\0\0\0",
    ];
    for answer in lengths {
        assert!(matches!(attest(answer), AttesterError::Tpm(TpmError::Length { .. })), "{answer:?}");
    }
    let trailing = attest(b"\x80\x01\0\0\0\x0A\0\0\0\0more");
    assert!(matches!(trailing, AttesterError::Tpm(TpmError::Length { found: 10 })));
    assert!(matches!(attest(b"\x80\x01\0\0\0\x20\0\0\0\0"), AttesterError::Io { .. }), "cut off");
    let short = attest(b"\x80\x01\0\0\0\x0C\0\0\0\0\x80\0");
    assert!(matches!(short, AttesterError::Tpm(TpmError::Answer { command: CREATE_PRIMARY, .. })));
}

#[test]
fn a_register_that_never_comes_ends_the_reading() {
    struct Empty(Fake);
    impl Write for Empty {
        fn write(&mut self, message: &[u8]) -> io::Result<usize> {
            if message[6..10] != PCR_READ.to_be_bytes() {
                return self.0.write(message);
            }
            let answer =
                [&[0x80, 0x01, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 1][..], &selection(0), &[0; 4]].concat();
            self.0.answers.extend(answer);
            Ok(message.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Read for Empty {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.read(bytes)
        }
    }
    let error = Tpm2::new(Empty(Fake::new()), 0b101).attest(&trial::binding(EvidenceKind::Tpm2)).unwrap_err();
    assert!(matches!(error, AttesterError::Tpm(TpmError::Registers { missing: 0b101 })));
}

proptest::proptest! {
    #![proptest_config(trial::fuzz())]
    #[test]
    fn any_answer_gives_a_quote_or_an_error(mut answer: Vec<u8>, framed: bool) {
        let binding = trial::binding(EvidenceKind::Tpm2);
        if framed {
            let length = (10 + answer.len() as u32).to_be_bytes();
            answer.splice(0..0, [&[0x80, 0x02][..], &length, &[0; 4]].concat());
        }
        let mut fake = Fake::new();
        fake.answer_with = Some(answer.clone());
        let mut attester = Tpm2::new(fake, BOOT_PCRS);
        proptest::prop_assert!(attester.key().is_ok() || attester.stream.loaded == 0);
        attester.stream.answers.clear();
        attester.stream.answer_with = Some(answer.clone());
        let _ = attester.quote(HANDLE, &binding.qualifying_data());
        let _ = read_registers(&mut Bytes::new(&answer));
    }
}
