//! Reports through configfs, as Linux has them since 6.7 for TDX and SEV-SNP.
//!
//! A folder is made for each report; the kernel fills it with attributes. One write of the 64 bytes, then the
//! report is read, and the kernel's count of writes says whether somebody else wrote in between.

use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{Attester, AttesterError, Testimony};
use crate::binding::{Binding, EvidenceKind};

/// Where the kernel takes reports. That it exists says nothing: it also does on machines without a TEE.
pub const REPORT_FOLDER: &str = "/sys/kernel/config/tsm/report";

/// Most bytes of a report and of what comes with it.
const BLOB_BYTES_MAX: usize = 28 << 10;
const TEXT_BYTES_MAX: usize = 64;

/// An entry of the host's table of certificates: what it is, offset and length, little-endian.
const ENTRY_BYTES: usize = 24;
/// What a certificate can be, as the GHCB specification numbers them, in their order up to the root: the key
/// of the chip or that of the provider, the intermediate, the root.
const ROLES: [[u8; 16]; 4] = [
    0x63da_758d_e664_4564_adc5_f4b9_3be8_accd_u128.to_be_bytes(),
    0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1_u128.to_be_bytes(),
    0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782_u128.to_be_bytes(),
    0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae_u128.to_be_bytes(),
];
const DER_SEQUENCE: u8 = 0x30;

/// The file operations on a report. A trait, since only the kernel fills a folder that was just made.
///
/// All errors are the system's.
pub trait Folder {
    /// Makes the folder of a report.
    fn make(&mut self, path: &Path) -> io::Result<()>;

    /// Writes an attribute as a whole.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Reads an attribute; of a longer one `most` bytes and one more.
    fn read(&mut self, path: &Path, most: usize) -> io::Result<Vec<u8>>;

    /// Removes the folder of a report, with its attributes.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The kernel's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Folder for Kernel {
    fn make(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // An attribute is written as a whole, and never created.
        let written = OpenOptions::new().write(true).open(path)?.write(bytes)?;
        if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn read(&mut self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

/// The attester of TDX and SEV-SNP guests.
#[derive(Debug)]
pub struct ConfigfsTsm<F = Kernel> {
    root: PathBuf,
    kind: EvidenceKind,
    folder: F,
}

impl ConfigfsTsm {
    /// Asks the kernel which platform it reports for.
    ///
    /// # Errors
    /// [`AttesterError::Io`] without the folder, [`AttesterError::Provider`] for another platform.
    pub fn open(root: &Path) -> Result<Self, AttesterError> {
        Self::on(root, Kernel)
    }
}

impl<F: Folder> ConfigfsTsm<F> {
    /// [`ConfigfsTsm::open`] with other file operations than the kernel's.
    ///
    /// # Errors
    /// Its errors.
    pub fn on(root: &Path, mut folder: F) -> Result<Self, AttesterError> {
        let kind = with_report(&mut folder, root, |folder, report| provider(folder, report))?;
        Ok(Self { root: root.to_path_buf(), kind, folder })
    }
}

impl<F: Folder> Attester for ConfigfsTsm<F> {
    fn kind(&self) -> EvidenceKind {
        self.kind
    }

    fn attest(&mut self, binding: &Binding) -> Result<Testimony, AttesterError> {
        let kind = self.kind;
        with_report(&mut self.folder, &self.root, |folder, report| {
            folder
                .write(&report.join("inblob"), &binding.report_data())
                .map_err(AttesterError::io("writing the report data to configfs"))?;
            if provider(folder, report)? != kind {
                return Err(AttesterError::Provider { provider: "another one than at the start".to_owned() });
            }
            let body = read(folder, report, "outblob", "reading the report from configfs")?;
            // Only SEV-SNP has it, and only where the host put certificates there.
            let endorsements = match read(folder, report, "auxblob", "reading the certificates from configfs")
            {
                Ok(table) => certificates(&table),
                Err(AttesterError::Io { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            let found = text(folder, report, "generation")?;
            if found != "1" {
                return Err(AttesterError::Generation { found });
            }
            Ok(Testimony { body, endorsements })
        })
    }
}

/// Runs `take` on a fresh report and removes the report, whatever came of it.
fn with_report<F: Folder, T>(
    folder: &mut F,
    root: &Path,
    take: impl FnOnce(&mut F, &Path) -> Result<T, AttesterError>,
) -> Result<T, AttesterError> {
    let mut name = [0; 8];
    let unnamed = |_| io::Error::other("the system gave no random bytes");
    SystemRandom::new().fill(&mut name).map_err(unnamed).map_err(AttesterError::io("naming a report"))?;
    let report = root.join(format!("consilium-{:016x}", u64::from_le_bytes(name)));
    folder.make(&report).map_err(AttesterError::io("making a report in configfs"))?;
    let taken = take(folder, &report);
    let removed = folder.remove(&report).map_err(AttesterError::io("removing a report from configfs"));
    taken.and_then(|taken| removed.map(|()| taken))
}

fn provider<F: Folder>(folder: &mut F, report: &Path) -> Result<EvidenceKind, AttesterError> {
    match text(folder, report, "provider")?.as_str() {
        "tdx_guest" => Ok(EvidenceKind::Tdx),
        "sev_guest" => Ok(EvidenceKind::SevSnp),
        other => Err(AttesterError::Provider { provider: other.to_owned() }),
    }
}

fn text<F: Folder>(folder: &mut F, report: &Path, name: &'static str) -> Result<String, AttesterError> {
    let mut bytes = folder
        .read(&report.join(name), TEXT_BYTES_MAX)
        .map_err(AttesterError::io("reading an attribute from configfs"))?;
    bytes.truncate(TEXT_BYTES_MAX);
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn read<F: Folder>(
    folder: &mut F,
    report: &Path,
    name: &'static str,
    what: &'static str,
) -> Result<Vec<u8>, AttesterError> {
    let bytes = folder.read(&report.join(name), BLOB_BYTES_MAX).map_err(AttesterError::io(what))?;
    if bytes.len() > BLOB_BYTES_MAX {
        return Err(AttesterError::TooLarge { what: name, most: BLOB_BYTES_MAX });
    }
    Ok(bytes)
}

/// The DER certificates of the host's table, the signing one first. The table is the host's word: what is no
/// certificate in it is left out, and what is one proves itself by its signature.
fn certificates(table: &[u8]) -> Vec<Vec<u8>> {
    let entries = table.chunks_exact(ENTRY_BYTES).take_while(|entry| entry[..16] != [0; 16]);
    let mut found: Vec<(usize, Vec<u8>)> = entries
        .filter_map(|entry| {
            let rank = ROLES.iter().position(|role| entry[..16] == *role)?;
            let number =
                |at: usize| entry[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let certificate = table.get(number(16)..)?.get(..number(20))?;
            (certificate.first() == Some(&DER_SEQUENCE)).then(|| (rank, certificate.to_vec()))
        })
        .collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, certificate)| certificate).take(ROLES.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::trial;
    use super::*;

    /// Does to a real folder what the kernel does: attributes appear, the report follows the data written,
    /// and writes are counted.
    struct Fake {
        provider: &'static str,
        report: Vec<u8>,
        certificates: Option<Vec<u8>>,
        intruder: bool,
        left: usize,
    }

    impl Fake {
        fn of(provider: &'static str) -> Self {
            Self { provider, report: b"report:".to_vec(), certificates: None, intruder: false, left: 0 }
        }
    }

    impl Folder for Fake {
        fn make(&mut self, path: &Path) -> io::Result<()> {
            Kernel.make(path)?;
            self.left += 1;
            fs::write(path.join("provider"), format!("{}\n", self.provider))?;
            fs::write(path.join("generation"), "0\n")?;
            fs::write(path.join("inblob"), "")
        }

        fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            Kernel.write(path, bytes)?;
            let report = path.parent().unwrap();
            let writes = if self.intruder { "2\n" } else { "1\n" };
            fs::write(report.join("generation"), writes)?;
            fs::write(report.join("outblob"), [&self.report[..], bytes].concat())?;
            match &self.certificates {
                Some(certificates) => fs::write(report.join("auxblob"), certificates),
                None => Ok(()),
            }
        }

        fn read(&mut self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
            Kernel.read(path, most)
        }

        fn remove(&mut self, path: &Path) -> io::Result<()> {
            for attribute in fs::read_dir(path)? {
                fs::remove_file(attribute?.path())?;
            }
            self.left -= 1;
            Kernel.remove(path)
        }
    }

    fn attest(fake: Fake) -> (Result<Testimony, AttesterError>, Binding) {
        let root = tempfile::tempdir().unwrap();
        let mut attester = ConfigfsTsm::on(root.path(), fake).unwrap();
        let binding = trial::binding(attester.kind());
        let evidence = attester.attest(&binding);
        assert_eq!(attester.folder.left, 0, "every report is removed");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        (evidence, binding)
    }

    #[test]
    fn the_report_is_about_the_binding() {
        let (testimony, binding) = attest(Fake::of("tdx_guest"));
        assert_eq!(binding.kind, EvidenceKind::Tdx);
        assert_eq!(testimony.unwrap(), [&b"report:"[..], &binding.report_data()].concat().into());
    }

    /// A table as a host makes it.
    fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
        let mut at = ENTRY_BYTES * (entries.len() + 1);
        let mut table = Vec::new();
        for (role, certificate) in entries {
            table.extend(role);
            table.extend((at as u32).to_le_bytes());
            table.extend((certificate.len() as u32).to_le_bytes());
            at += certificate.len();
        }
        table.extend([0; ENTRY_BYTES]);
        table.extend(entries.iter().flat_map(|(_, certificate)| certificate.to_vec()));
        table
    }

    #[test]
    fn certificates_come_along_the_signing_one_first() {
        let [chip, _, intermediate, root] = ROLES;
        let entries: [([u8; 16], &[u8]); 4] =
            [(root, b"0root"), ([7; 16], b"0other"), (intermediate, b"0mid"), (chip, b"0chip")];
        let with = |table| attest(Fake { certificates: Some(table), ..Fake::of("sev_guest") });
        let (testimony, binding) = with(table(&entries));
        assert_eq!(binding.kind, EvidenceKind::SevSnp);
        assert_eq!(testimony.unwrap().endorsements, [&b"0chip"[..], b"0mid", b"0root"]);
        assert!(with(Vec::new()).0.unwrap().endorsements.is_empty());
        assert_eq!(format!("{:x?}", &chip[..4]), "[63, da, 75, 8d]");
    }

    proptest::proptest! {
        #![proptest_config(trial::fuzz())]
        #[test]
        fn any_table_gives_what_certificates_it_has(
            mut bytes: Vec<u8>,
            role in 0usize..4,
            at in 0u32..60,
            length: u8,
        ) {
            let entry = [&ROLES[role][..], &at.to_le_bytes(), &u32::from(length).to_le_bytes()].concat();
            bytes.splice(0..0, entry);
            for certificate in certificates(&bytes) {
                proptest::prop_assert_eq!(certificate[0], DER_SEQUENCE);
                proptest::prop_assert!(certificate.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_report_that_somebody_else_wrote_to_is_refused() {
        let (evidence, _) = attest(Fake { intruder: true, ..Fake::of("tdx_guest") });
        assert!(matches!(evidence, Err(AttesterError::Generation { found }) if found == "2"));
    }

    #[test]
    fn reports_are_bounded() {
        let (evidence, _) = attest(Fake { report: vec![1; BLOB_BYTES_MAX - 64], ..Fake::of("tdx_guest") });
        assert_eq!(evidence.unwrap().body.len(), BLOB_BYTES_MAX);
        let (evidence, _) = attest(Fake { report: vec![1; BLOB_BYTES_MAX], ..Fake::of("tdx_guest") });
        assert!(matches!(evidence, Err(AttesterError::TooLarge { what: "outblob", .. })));
        let certificates = Some(vec![1; BLOB_BYTES_MAX + 1]);
        let (evidence, _) = attest(Fake { certificates, ..Fake::of("sev_guest") });
        assert!(matches!(evidence, Err(AttesterError::TooLarge { what: "auxblob", .. })));
    }

    #[test]
    fn another_platform_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = ConfigfsTsm::on(root.path(), Fake::of("arm_cca_guest")).err().unwrap();
        assert!(
            matches!(&error, AttesterError::Provider { provider } if provider == "arm_cca_guest"),
            "{error}"
        );
        let error = ConfigfsTsm::open(&root.path().join("absent")).err().unwrap();
        assert!(matches!(error, AttesterError::Io { .. }), "{error}");
        // A plain folder has no kernel behind it.
        assert!(ConfigfsTsm::open(root.path()).is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
