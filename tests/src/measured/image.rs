//! The image: a kernel, the module, the drivers of its socket, and the command line.

use super::{Fault, Tools};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the module listens inside.
pub(super) const PORT: u32 = 5000;
/// Drivers that connect the module to its host; what they depend on comes along.
const DRIVERS: [&str; 2] = ["virtio_pci", "vmw_vsock_virtio_transport"];
/// What the kernel does not know goes to the first process. A module that ends stops the machine.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 --init /modules --listen vsock:5000 --attester tpm2";
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// What a machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The compressed kernel.
    pub(super) kernel: PathBuf,
    /// The archive that becomes the root of the file system.
    pub archive: Vec<u8>,
    /// What the kernel and the module are told.
    pub command_line: String,
}

impl Image {
    /// The image around the module's program; `more` are files beside it. The same input gives the same bytes.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn new(tools: &Tools, module: &Path, more: &[(&str, &[u8])]) -> Result<Self, Fault> {
        let mut archive = Archive::default();
        archive.add("dev", FOLDER, (0, 0), &[]);
        archive.add("dev/console", CONSOLE, (5, 1), &[]);
        archive.add("init", PROGRAM, (0, 0), &fs::read(module)?);
        archive.add("modules", FOLDER, (0, 0), &[]);
        for (at, (name, driver)) in drivers(&tools.drivers)?.iter().enumerate() {
            archive.add(&format!("modules/{at:02}-{name}.ko"), FILE, (0, 0), driver);
        }
        for (name, bytes) in more {
            archive.add(name, FILE, (0, 0), bytes);
        }
        let (kernel, command_line) = (tools.kernel.clone(), COMMAND_LINE.to_owned());
        Ok(Self { kernel, archive: archive.end(), command_line })
    }
}

/// Builds `consilium-enclave` without shared libraries; its path.
///
/// # Errors
/// The build's.
pub fn build_module() -> Result<PathBuf, Fault> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["rustc", "--release", "--package", "consilium-attest", "--bin", "consilium-enclave"])
        .args(["--features", "vsock", "--target", "x86_64-unknown-linux-gnu", "--message-format", "json"])
        .args(["--", "-C", "strip=symbols"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the module cannot be built".into());
    }
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let built = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let mut programs = built.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().ok_or_else(|| "the build made no program".into())
}

/// The drivers that are files, each after those it depends on. Those that are none are part of the kernel.
fn drivers(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
                files.insert(stem.replace('-', "_"), (ending.to_owned(), path));
            }
        }
    }
    let mut found = Vec::new();
    for name in DRIVERS {
        collect(name, &files, &mut found)?;
    }
    Ok(found)
}

fn collect(
    name: &str,
    files: &BTreeMap<String, (String, PathBuf)>,
    found: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Fault> {
    let Some((ending, path)) = files.get(name) else { return Ok(()) };
    if found.iter().any(|(earlier, _)| earlier == name) {
        return Ok(());
    }
    if ending != "ko" {
        return Err(format!("{} is compressed; decompress it", path.display()).into());
    }
    let driver = fs::read(path)?;
    for needed in dependencies(&driver) {
        collect(&needed, files, found)?;
    }
    found.push((name.to_owned(), driver));
    Ok(())
}

/// What a driver says it depends on: `depends=` and names with commas between, up to a zero byte.
fn dependencies(driver: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = driver.windows(KEY.len()).position(|part| part == KEY) else { return Vec::new() };
    let list = driver[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = list.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).replace('-', "_")).collect()
}

/// An archive in the form that kernels unpack (cpio, "newc"), without times, owners or numbers of a disk.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        self.entries += 1;
        let (length, named) = (bytes.len() as u32, name.len() as u32 + 1);
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, named, 0]
            .map(|field| format!("{field:08x}"));
        self.bytes.extend(b"070701");
        self.bytes.extend(fields.concat().into_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_follow_what_they_depend_on() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("net");
        fs::create_dir(&inner).unwrap();
        let driver = |depends: &str| format!("ELF\0license=GPL\0depends={depends}\0name=x\0").into_bytes();
        for (name, depends) in [
            ("virtio_pci.ko", "virtio,virtio-ring"),
            ("net/virtio-ring.ko", "virtio"),
            ("virtio.ko", ""),
            ("net/vmw_vsock_virtio_transport.ko", "vsock,built_in"),
            ("vsock.ko", ""),
            ("other.ko", ""),
        ] {
            fs::write(folder.path().join(name), driver(depends)).unwrap();
        }
        let found = drivers(folder.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "virtio_pci", "vsock", "vmw_vsock_virtio_transport"]);
        fs::rename(folder.path().join("vsock.ko"), folder.path().join("vsock.ko.xz")).unwrap();
        assert!(drivers(folder.path()).unwrap_err().to_string().contains("compressed"));
    }

    #[test]
    fn an_archive_is_spelled_out() {
        let mut archive = Archive::default();
        archive.add("ab", FILE, (0, 0), b"xyz");
        archive.add("dev/console", CONSOLE, (5, 1), b"");
        let bytes = archive.end();
        let zeros = |count| "00000000".repeat(count);
        let first =
            ["070701", "00000001", "000081a4", &zeros(2), "00000001", &zeros(1), "00000003", &zeros(4)];
        let first = [&first.concat(), "00000003", &zeros(1), "ab\0\0\0\0xyz\0"].concat();
        assert!(bytes.starts_with(first.as_bytes()));
        let second = ["070701", "00000002", "00002180", &zeros(2), "00000001", &zeros(4), "0000000500000001"];
        let second = [&second.concat(), "0000000c", &zeros(1), "dev/console\0"].concat();
        assert!(bytes[first.len()..].starts_with(second.as_bytes()));
        assert!(bytes.len() % 4 == 0 && bytes.windows(10).any(|name| name == b"TRAILER!!!"));
    }
}
