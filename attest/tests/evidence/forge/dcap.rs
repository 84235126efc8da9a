//! Quotes by Intel's scheme, and Intel's data about their platform.

use super::certificate::{Draft, Key, P256, der, fingerprint, revoke_numbered, to_pem};
use super::{Case, DAY, NOW, binding, refusing};
use consilium_attest::policy::{DcapPolicy, Platforms, SgxImage, SgxPolicy, TdxImage, TdxPolicy};
use consilium_attest::{EvidenceKind, Hex, Policy};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::sync::LazyLock;

const ROOT: &str = "CN=Intel SGX Root CA";
const PLATFORM_CA: &str = "CN=Intel SGX PCK Platform CA";
const PPID: [u8; 16] = [0x99; 16];
const FMSPC: [u8; 6] = [0, 0x90, 0x6e, 0xd5, 0, 0];
const QE_SIGNER: [u8; 32] = [0x51; 32];
/// Intel's own number, which the scheme asks for.
const QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

struct Keys {
    root: Key,
    signing: Key,
    platform_ca: Key,
    platform: Key,
    quoting: Key,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    root: Key::new(P256),
    signing: Key::new(P256),
    platform_ca: Key::new(P256),
    platform: Key::new(P256),
    quoting: Key::new(P256),
});

pub(crate) struct Parts {
    /// The report, without the header.
    pub(crate) body: Vec<u8>,
    pub(crate) tcb_info: Value,
    pub(crate) qe_identity: Value,
    /// Dynamic platform, cached keys, SMT.
    pub(crate) properties: [bool; 3],
    pub(crate) platform: Draft,
    /// Serial numbers that the platform CA revoked.
    pub(crate) revoked: Vec<u8>,
}

impl Parts {
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.body[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A case about an enclave that is accepted but for `change`.
pub(crate) fn sgx(change: impl FnOnce(&mut Parts)) -> Case {
    let kind = EvidenceKind::SgxDcap;
    let mut parts = parts("SGX", vec![0; 384]);
    parts.set(0, &[2; 16]);
    parts.set(48, &[5]);
    parts.set(64, &[0xee; 32]);
    parts.set(128, &[0xdd; 32]);
    parts.set(256, &[7, 0, 3, 0]);
    parts.set(320, &binding(kind).report_data());
    change(&mut parts);
    let image =
        SgxImage { mr_enclave: Hex([0xee; 32]), mr_signer: Hex([0xdd; 32]), product: 7, version_min: 3 };
    case(kind, parts, |platform| {
        let sgx_dcap = Some(SgxPolicy { images: vec![image], platform });
        Policy { sgx_dcap, ..refusing() }
    })
}

/// A case about a trust domain that is accepted but for `change`.
pub(crate) fn tdx(change: impl FnOnce(&mut Parts)) -> Case {
    let kind = EvidenceKind::Tdx;
    let mut parts = parts("TDX", vec![0; 584]);
    parts.set(0, &[3, 0]);
    // SEPT_VE_DISABLE, which the scheme asks for.
    parts.set(120, &[0, 0, 0, 0x10]);
    parts.set(136, &[0xee; 48]);
    for (at, value) in [(328, 0xa0), (376, 0xa1), (424, 0xa2), (472, 0xa3)] {
        parts.set(at, &[value; 48]);
    }
    parts.set(520, &binding(kind).report_data());
    change(&mut parts);
    let rtmr = [0xa0, 0xa1, 0xa2, 0xa3].map(|value| Hex([value; 48]));
    let image = TdxImage { mr_td: Hex([0xee; 48]), rtmr, mr_config_id: Hex([0; 48]) };
    case(kind, parts, |platform| {
        let tdx = Some(TdxPolicy { images: vec![image], platform });
        Policy { tdx, ..refusing() }
    })
}

fn parts(id: &str, body: Vec<u8>) -> Parts {
    let components = |svn: u8| vec![json!({ "svn": svn }); 16];
    let level = |svn: u8, status: &str, advisories: &[&str]| {
        let mut tcb = json!({ "sgxtcbcomponents": components(svn), "pcesvn": 11 });
        if id == "TDX" {
            let mut tdx = components(0);
            tdx[0] = json!({ "svn": svn });
            tcb["tdxtcbcomponents"] = Value::Array(tdx);
        }
        json!({ "tcb": tcb, "tcbDate": date(NOW - 30 * DAY), "tcbStatus": status, "advisoryIDs": advisories })
    };
    let mut tcb_info = json!({
        "id": id, "version": 3, "issueDate": date(NOW - DAY), "nextUpdate": date(NOW + DAY),
        "fmspc": hex(&FMSPC), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 20,
        "tcbLevels": [level(2, "UpToDate", &[]), level(1, "OutOfDate", &["INTEL-SA-00001"])],
    });
    if id == "TDX" {
        tcb_info["tdxModule"] = json!({
            "mrsigner": hex(&[0; 48]), "attributes": hex(&[0; 8]), "attributesMask": hex(&[0xff; 8]),
        });
    }
    let qe_identity = json!({
        "id": if id == "TDX" { "TD_QE" } else { "QE" }, "version": 2,
        "issueDate": date(NOW - DAY), "nextUpdate": date(NOW + DAY), "tcbEvaluationDataNumber": 20,
        "miscselect": hex(&[0; 4]), "miscselectMask": hex(&[0xff; 4]),
        "attributes": hex(&[&[0x11][..], &[0; 15]].concat()),
        "attributesMask": hex(&[&[0xfb][..], &[0xff; 7], &[0; 8]].concat()),
        "mrsigner": hex(&QE_SIGNER), "isvprodid": 1,
        "tcbLevels": [{ "tcb": { "isvsvn": 8 }, "tcbDate": date(NOW - 30 * DAY), "tcbStatus": "UpToDate" }],
    });
    let platform = Draft::new("CN=Intel SGX PCK Certificate", 4);
    Parts { body, tcb_info, qe_identity, properties: [false; 3], platform, revoked: Vec::new() }
}

fn case(kind: EvidenceKind, parts: Parts, policy: impl FnOnce(DcapPolicy) -> Policy) -> Case {
    let keys = &*KEYS;
    let root = Draft::authority(ROOT, 1).sign(&keys.root, ROOT, &keys.root);
    let signing = Draft::new("CN=Intel SGX TCB Signing", 2).sign(&keys.signing, ROOT, &keys.root);
    let platform_ca = Draft::authority(PLATFORM_CA, 3).sign(&keys.platform_ca, ROOT, &keys.root);
    let extension = platform_extension(parts.properties);
    let platform = parts.platform.with("1.2.840.113741.1.13.1", false, &extension);
    let platform = platform.sign(&keys.platform, PLATFORM_CA, &keys.platform_ca);

    let (tcb_info, qe_identity) = (parts.tcb_info.to_string(), parts.qe_identity.to_string());
    let signed = |text: &str| hex(&keys.signing.sign_fixed(text.as_bytes()));
    let list = |serials: &[u8], by, key| hex(&revoke_numbered(serials, by, key, NOW - DAY, Some(NOW + DAY)));
    let intel = json!({
        "pck_crl_issuer_chain": to_pem(&[&platform_ca, &root]),
        "root_ca_crl": list(&[], ROOT, &keys.root),
        "pck_crl": list(&parts.revoked, PLATFORM_CA, &keys.platform_ca),
        "tcb_info_issuer_chain": to_pem(&[&signing, &root]),
        "tcb_info_signature": signed(&tcb_info),
        "tcb_info": tcb_info,
        "qe_identity_issuer_chain": to_pem(&[&signing, &root]),
        "qe_identity_signature": signed(&qe_identity),
        "qe_identity": qe_identity,
    });
    let chain = to_pem(&[&platform, &platform_ca, &root]);
    let accepted = DcapPolicy {
        roots: vec![fingerprint(&root)],
        statuses: vec!["UpToDate".to_owned()],
        advisories: vec![],
        evaluation_min: 20,
        allow_dynamic_platform: false,
        allow_cached_keys: false,
        allow_smt: false,
        platforms: Platforms::Listed(vec![hex(&PPID)]),
    };
    let body = quote(kind, &parts.body, chain.as_bytes());
    let mut case = Case::new(binding(kind), body, policy(accepted));
    case.collateral.dcap = Some(intel.to_string());
    case
}

/// Header, report, its signature, and what vouches for the key that signed.
fn quote(kind: EvidenceKind, body: &[u8], chain: &[u8]) -> Vec<u8> {
    let (version, tee) = if kind == EvidenceKind::Tdx { (4u16, 0x81u32) } else { (3, 0) };
    let header =
        [&version.to_le_bytes()[..], &[2, 0], &tee.to_le_bytes(), &[0; 4], &QE_VENDOR, &[0; 20]].concat();
    let signed = [&header[..], body].concat();
    let keys = &*KEYS;
    let key = &keys.quoting.point()[1..];
    let authentication = [0x5a; 32];
    let mut report = vec![0; 384];
    report[48] = 0x11;
    report[128..160].copy_from_slice(&QE_SIGNER);
    report[256..260].copy_from_slice(&[1, 0, 8, 0]);
    report[320..352].copy_from_slice(digest(&SHA256, &[key, &authentication].concat()).as_ref());
    let sized = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let certified =
        [&report[..], &keys.platform.sign_fixed(&report), &[32, 0], &authentication, &[5, 0], &sized(chain)]
            .concat();
    let certified = if version == 3 { certified } else { [&[6, 0][..], &sized(&certified)].concat() };
    let authority = [&keys.quoting.sign_fixed(&signed)[..], key, &certified].concat();
    [signed, sized(&authority)].concat()
}

/// One entry of Intel's extension: an identifier below 1.2.840.113741.1.13.1, and its value.
fn entry(path: &[u8], value: &[u8]) -> Vec<u8> {
    let mut id = vec![0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    id.extend(path);
    der(0x30, &[der(0x06, &id), value.to_vec()].concat())
}

fn platform_extension(properties: [bool; 3]) -> Vec<u8> {
    let mut versions: Vec<u8> = (1..=16).flat_map(|part| entry(&[2, part], &der(2, &[2]))).collect();
    versions.extend(entry(&[2, 17], &der(2, &[11])));
    versions.extend(entry(&[2, 18], &der(4, &[2; 16])));
    let flag = |(part, set): (u8, bool)| entry(&[7, part], &der(1, &[if set { 0xff } else { 0 }]));
    let flags: Vec<u8> = (1..).zip(properties).flat_map(flag).collect();
    let entries = [
        entry(&[1], &der(4, &PPID)),
        entry(&[2], &der(0x30, &versions)),
        entry(&[3], &der(4, &[0; 2])),
        entry(&[4], &der(4, &FMSPC)),
        entry(&[5], &der(0x0a, &[1])),
        entry(&[6], &der(4, &[0x77; 16])),
        entry(&[7], &der(0x30, &flags)),
    ];
    der(0x30, &entries.concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn date(seconds: u64) -> String {
    let duration = std::time::Duration::from_secs(seconds);
    x509_cert::der::DateTime::from_unix_duration(duration).unwrap().to_string()
}
