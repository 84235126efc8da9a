//! Every reason for which evidence is refused.

use crate::binding::EvidenceKind;
use crate::hex::Hex;

/// Why evidence was not accepted: the first rule that failed, and what to do about it.
///
/// Evidence that is refused is never papered over by other noise. Values come from certificates and documents
/// and are cut to printable text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // What came is not evidence that this verifier can read.
    /// More bytes than any evidence of use has.
    #[error("{part} has {bytes} bytes, at most {most} are read; it is not what it should be, get it anew")]
    TooLarge {
        /// What is too large.
        part: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// The bytes do not have the form that the kind prescribes.
    #[error("{part} is malformed; get it anew from the module, or from the vendor whose it is")]
    Malformed {
        /// What could not be read.
        part: &'static str,
    },
    /// A kind of evidence that does not exist here.
    #[error("evidence of the unknown kind `{name}`; update this program or the module")]
    UnknownKind {
        /// The name that came.
        name: String,
    },
    /// Another kind than the label says.
    #[error(
        "evidence with the label {kind} holds a quote about {found}; start the module with the right attester"
    )]
    OtherKind {
        /// The label.
        kind: EvidenceKind,
        /// What the quote is about.
        found: EvidenceKind,
    },
    /// A version that this verifier has not been written for.
    #[error("{part} has version {version}, which this verifier cannot judge; update this program")]
    Version {
        /// What has the version.
        part: &'static str,
        /// The version.
        version: u32,
    },
    /// Signed in another way than the kind prescribes. Emulators that sign nothing end here.
    #[error(
        "{part} uses algorithm {algorithm} where only {expected} is accepted; it does not come from the hardware"
    )]
    Algorithm {
        /// What is signed.
        part: &'static str,
        /// What it names.
        algorithm: String,
        /// What it must name.
        expected: &'static str,
    },

    // What the verifier was given beside the evidence does not suffice.
    /// Certificates, lists or vendor data are absent.
    #[error("there is no {part} to verify {kind} evidence with; fetch it from the vendor and supply it")]
    CollateralMissing {
        /// The kind.
        kind: EvidenceKind,
        /// What is absent.
        part: &'static str,
    },
    /// Vendor data is past its last day, or its list of revoked certificates is.
    #[error("{part} ended at {ended}, now it is {now} (Unix seconds); fetch it anew from the vendor")]
    CollateralExpired {
        /// What ended.
        part: &'static str,
        /// When, in Unix seconds.
        ended: u64,
        /// The time of verification.
        now: u64,
    },
    /// Vendor data that begins only later, so that one of the two clocks is wrong.
    #[error("{part} begins at {begins}, now it is {now} (Unix seconds); check the clock of this machine")]
    CollateralEarly {
        /// What begins later.
        part: &'static str,
        /// When, in Unix seconds.
        begins: u64,
        /// The time of verification.
        now: u64,
    },

    // Chains and signatures.
    /// More certificates than any vendor's chain has.
    #[error("the chain has more than {most} certificates; supply the one that leads to the root and no more")]
    ChainTooLong {
        /// The bound.
        most: usize,
    },
    /// The chain ends at a root that the policy does not name.
    #[error(
        "the chain ends at the root {fingerprint}, which the policy does not name; check it with the vendor"
    )]
    UnknownRoot {
        /// SHA-256 of the certificate.
        fingerprint: Hex<32>,
    },
    /// A certificate is past its last day.
    #[error(
        "the certificate of {subject} ended at {ended}, now it is {now} (Unix seconds); get its successor"
    )]
    CertificateExpired {
        /// Whose.
        subject: String,
        /// When, in Unix seconds.
        ended: u64,
        /// The time of verification.
        now: u64,
    },
    /// A certificate begins later.
    #[error(
        "the certificate of {subject} begins at {begins}, now it is {now} (Unix seconds); check the clocks"
    )]
    CertificateEarly {
        /// Whose.
        subject: String,
        /// When, in Unix seconds.
        begins: u64,
        /// The time of verification.
        now: u64,
    },
    /// The next certificate of the chain is not the issuer.
    #[error("the certificate of {subject} was not issued by {issuer}; supply the chain that belongs to it")]
    Issuer {
        /// Whose certificate.
        subject: String,
        /// Who should have issued it.
        issuer: String,
    },
    /// A certificate in the place of an issuer may not issue, or not this deep.
    #[error(
        "the certificate of {subject} may not issue certificates; the chain is forged or in the wrong order"
    )]
    NotAnIssuer {
        /// Whose certificate.
        subject: String,
    },
    /// The key that signs evidence could issue certificates, which no such key may.
    #[error(
        "the certificate of {subject} may issue certificates and so must not sign evidence; the chain is forged"
    )]
    LeafIssues {
        /// Whose certificate.
        subject: String,
    },
    /// A critical extension with rules that this verifier does not know.
    #[error(
        "the certificate of {subject} has rules under {extension} that this verifier does not know; update it"
    )]
    CriticalExtension {
        /// Whose certificate.
        subject: String,
        /// The object identifier.
        extension: String,
    },
    /// The vendor revoked a certificate.
    #[error("the vendor revoked the certificate of {subject}; take that machine out of service")]
    Revoked {
        /// Whose certificate.
        subject: String,
    },
    /// A list that says itself that it does not name all revoked certificates.
    #[error("the list of revoked certificates is only a part ({extension}); supply the vendor's whole list")]
    PartialList {
        /// The object identifier of what says so.
        extension: String,
    },
    /// A signature does not fit the bytes.
    #[error("the signature of {part} does not fit its bytes; it was changed on its way or is forged")]
    Signature {
        /// What is signed.
        part: &'static str,
    },
    /// An Intel quote or its collateral failed a rule of the quote's own scheme.
    #[error(
        "the quote does not follow from Intel's signatures: {detail}; supply the collateral of this platform"
    )]
    Quote {
        /// The rule, in the words of the library that holds it.
        detail: String,
    },
    /// Intel lists no level that this platform reaches.
    #[error("Intel lists no TCB level that this platform reaches; update its firmware")]
    NoTcbLevel,

    // The policy.
    /// The policy says nothing about this kind, so it refuses it.
    #[error("the policy has no table for {kind} evidence; add one with the expected values to accept it")]
    KindNotAllowed {
        /// The kind.
        kind: EvidenceKind,
    },
    /// Software evidence where the policy does not allow it by name.
    #[error("software evidence vouches for nothing and the policy does not allow it; use an attested module")]
    SoftwareNotAllowed,
    /// The policy cannot be used.
    #[error("the policy is unusable: {problem}")]
    Policy {
        /// What to change.
        problem: &'static str,
    },
    /// Whoever owns the machine can look into the module.
    #[error("the {kind} module runs in debug mode, in which its owner reads its memory; start it without")]
    Debug {
        /// The kind.
        kind: EvidenceKind,
    },
    /// Other code than the policy names.
    #[error(
        "{register} of the {kind} module is {found}, which is no image of the policy; check what was started"
    )]
    Measurement {
        /// The kind.
        kind: EvidenceKind,
        /// Which measurement.
        register: String,
        /// Its value.
        found: String,
    },
    /// A measurement of the policy is not in the evidence.
    #[error("{register} is in the policy but not in the {kind} evidence; have the module quote it")]
    MeasurementMissing {
        /// The kind.
        kind: EvidenceKind,
        /// Which measurement.
        register: String,
    },
    /// The values beside a TPM quote are not those that it quotes.
    #[error("the PCR values beside the quote are not those that were quoted; have the module quote again")]
    PcrDigest,
    /// A platform that the policy does not list.
    #[error("the platform {platform} is not in the policy's list; add it if it is yours")]
    Platform {
        /// Its identifier.
        platform: String,
    },
    /// The TPM key was not enrolled.
    #[error(
        "the TPM key {name} is not enrolled in the policy; enrol it with the TPM's endorsement key first"
    )]
    KeyNotEnrolled {
        /// The name of the key object.
        name: String,
    },
    /// The TPM key could sign what the TPM has not made.
    #[error("the TPM key is not a restricted signing key fixed to its TPM; create the key as documented")]
    KeyAttributes,
    /// The certified chip is another one than that of the report.
    #[error("the certificate belongs to another chip than the report; supply the one of this chip")]
    OtherChip,
    /// The certified versions are other ones than those of the report.
    #[error(
        "the certificate is for other {component} firmware than the report; supply the one for this firmware"
    )]
    OtherFirmware {
        /// Which part.
        component: &'static str,
    },
    /// Firmware below the policy's least.
    #[error("{component} firmware is at {found}, the policy asks for {least}; update the machine")]
    FirmwareTooOld {
        /// Which part.
        component: &'static str,
        /// Its version.
        found: u8,
        /// What the policy asks for.
        least: u8,
    },
    /// The certificate is for another kind of key than the report says signed it.
    #[error(
        "the certificate is for a {certified} key, the report names a {named} key; supply the one that signed"
    )]
    OtherSigner {
        /// The kind of key that is certified.
        certified: &'static str,
        /// The kind that the report names.
        named: &'static str,
    },
    /// The report says that no key signed it.
    #[error(
        "the report names no key that signs it (number {number}); have the host's firmware set up its keys"
    )]
    NoSigner {
        /// What stands where the key is named.
        number: u32,
    },
    /// Signed by a kind of key that the policy does not accept.
    #[error(
        "the report is signed by a {signer} key, which the policy does not accept; use another or allow it"
    )]
    Signer {
        /// What kind of key.
        signer: &'static str,
    },
    /// The report hides which chip made it.
    #[error("the host masks the chip's key, so the report cannot be tied to a chip; turn the mask off")]
    ChipKeyMasked,
    /// Asked for from a level that the policy does not trust.
    #[error(
        "the report was asked for at VMPL {found}, the policy allows {most}; start the module at that level"
    )]
    PrivilegeLevel {
        /// The level.
        found: u32,
        /// The highest number allowed.
        most: u32,
    },
    /// Another program may move the machine elsewhere.
    #[error("the guest may be moved by a migration agent, which can read it; start it without")]
    MigrationAgent,
    /// A property of the platform that the policy refuses.
    #[error("the platform has {property}, which the policy refuses; allow it by name or turn it off")]
    PlatformProperty {
        /// Which one.
        property: &'static str,
    },
    /// Intel's verdict on the platform is not among the accepted ones.
    #[error(
        "Intel's status of the platform is {status}, which the policy does not accept; update its firmware"
    )]
    TcbStatus {
        /// The status.
        status: String,
    },
    /// An advisory that the policy does not accept.
    #[error(
        "the advisory {advisory} applies to the platform and the policy does not accept it; update the firmware"
    )]
    Advisory {
        /// Its number.
        advisory: String,
    },
    /// Vendor data older than the policy's least.
    #[error(
        "the collateral has TCB evaluation number {found}, the policy asks for {least}; fetch newer data"
    )]
    EvaluationTooOld {
        /// Its number.
        found: u32,
        /// What the policy asks for.
        least: u32,
    },

    // This question, this session.
    /// Made earlier than the policy allows.
    #[error("the evidence is {age} s old, the policy allows {most} s; ask for fresh evidence")]
    Stale {
        /// Its age.
        age: u64,
        /// The policy's limit.
        most: u64,
    },
    /// Made later than now.
    #[error("the evidence says it was made {ahead} s from now; check the clock of this machine")]
    FromTheFuture {
        /// By how much.
        ahead: u64,
    },
    /// Another question than ours.
    #[error("the evidence answers another nonce; it is a replay, or the answer to somebody else")]
    Nonce,
    /// Another channel than this one.
    #[error(
        "the evidence vouches for another channel key; somebody stands between this machine and the module"
    )]
    ChannelKey,
    /// Another roster or task policy.
    #[error("the module serves another roster or task policy; give all parties the same files")]
    Roster,
    /// Made for the other party.
    #[error("the evidence was made for another verifier; ask the module itself")]
    Verifier,
    /// The hardware signed other keys than the evidence lists.
    #[error("what was signed is not the binding that came with it; the evidence was put together from parts")]
    Unbound,
}

/// Text from evidence, made fit for a message.
pub(crate) fn printable(text: &str) -> String {
    const LETTERS_MAX: usize = 96;
    let plain = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    text.chars().take(LETTERS_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_words_of_its_own_and_says_what_to_do() {
        let source = include_str!("refusal.rs").split("#[cfg(test)]").next().unwrap();
        let attribute = "#[error";
        let reasons: Vec<&str> =
            source.split(attribute).skip(1).map(|rest| rest.split(")]").next().unwrap()).collect();
        let distinct: std::collections::BTreeSet<&&str> = reasons.iter().collect();
        assert!(reasons.len() > 40 && distinct.len() == reasons.len());
        // What to do about a policy stands in the problem itself.
        let mute = reasons.iter().filter(|reason| !reason.contains("; ") && !reason.contains("{problem}"));
        assert_eq!(mute.collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[test]
    fn foreign_text_is_tamed() {
        assert_eq!(printable("CN=a\u{1b}[2J\n\u{202e}b"), "CN=a?[2J??b");
        assert_eq!(printable(&"x".repeat(1000)).len(), 96);
    }
}
