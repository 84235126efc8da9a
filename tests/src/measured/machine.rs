//! One boot of an image.

use super::door::Door;
use super::image::{Image, PORT};
use super::{Fault, Tools};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time until the module listens; emulated processors are slow.
const BOOT_MAX: Duration = Duration::from_secs(300);
const SOCKET_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Last lines of the console that an error quotes.
const LINES_QUOTED: usize = 12;
/// Address of the guest among the sockets of its host.
const GUEST: u32 = 4;

/// A running machine whose module listens; it stops when dropped.
pub struct Machine {
    // In this order: nobody can come in any more, then the machine stops, then what it used.
    door: Door,
    guest: Process,
    _vsock: Process,
    _tpm: Process,
}

impl Machine {
    /// Boots an image and waits for its module. `folder` keeps the TPM from one boot to the next, and the sockets
    /// of this one.
    ///
    /// # Errors
    /// Programs that do not start, and a module that does not listen, with the last lines of the console.
    pub fn boot(tools: &Tools, image: &Image, folder: &Path) -> Result<Self, Fault> {
        let place = |name: &str| folder.join(name);
        for name in ["tpm.socket", "vhost.socket", "guest.socket"] {
            let _ = fs::remove_file(place(name));
        }
        // What the firmware remembers of an earlier boot would be measured.
        fs::copy(&tools.firmware[1], place("variables"))?;
        fs::write(place("archive"), &image.archive)?;
        let tpm = tpm(folder)?;
        let vsock = vsock(folder)?;
        let mut guest = Process::start(&mut guest(tools, image, folder))?;
        let output = guest.0.stdout.take().ok_or("the machine has no console")?;
        let (sender, listening) = sync_channel(1);
        // Goes on reading until the machine stops, which would block on a full console.
        thread::Builder::new().spawn(move || {
            let mut last = VecDeque::new();
            let mut lines = BufReader::new(output);
            let mut waiting = Some(sender);
            while let Some(line) = line(&mut lines) {
                if line.contains("listening on vsock:") {
                    // Nobody waits any more when the boot took too long.
                    waiting.take().map(|sender| sender.send(Ok(())));
                }
                last.push_back(line);
                if last.len() > LINES_QUOTED {
                    last.pop_front();
                }
            }
            waiting.map(|sender| sender.send(Err(last.into_iter().collect::<Vec<_>>().join("\n"))));
        })?;
        wait(&listening)?;
        let door = Door::open(&place("module.socket"), &place("guest.socket"), PORT)?;
        Ok(Self { door, guest, _vsock: vsock, _tpm: tpm })
    }

    /// A Unix socket on which the module answers.
    pub fn socket(&self) -> &Path {
        self.door.path()
    }

    /// Whether the machine still runs.
    ///
    /// # Errors
    /// The system's.
    pub fn runs(&mut self) -> std::io::Result<bool> {
        Ok(self.guest.0.try_wait()?.is_none())
    }
}

fn wait(listening: &Receiver<Result<(), String>>) -> Result<(), Fault> {
    match listening.recv_timeout(BOOT_MAX) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(lines)) => Err(format!("the machine stopped before its module listened:\n{lines}").into()),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(format!("the module did not listen within {} s", BOOT_MAX.as_secs()).into())
        }
    }
}

/// One line of a console, whatever its bytes are; none at its end.
fn line(console: &mut impl BufRead) -> Option<String> {
    const LINE_MAX: u64 = 64 * 1024;
    let mut bytes = Vec::new();
    let read = console.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A software TPM that keeps its state in `folder`. It accepts from a socket that it inherits.
fn tpm(folder: &Path) -> Result<Process, Fault> {
    let state = folder.join("tpm");
    fs::create_dir_all(&state)?;
    let listener = UnixListener::bind(folder.join("tpm.socket"))?;
    let mut command = Command::new("swtpm");
    command.args(["socket", "--tpm2", "--terminate", "--ctrl", "type=unixio,fd=0", "--tpmstate"]);
    command.arg(format!("dir={}", state.display())).stdin(Stdio::from(OwnedFd::from(listener)));
    Process::start(&mut command)
}

/// The device that connects the sockets of the guest to Unix sockets.
fn vsock(folder: &Path) -> Result<Process, Fault> {
    let device = folder.join("vhost.socket");
    let guest = folder.join("guest.socket");
    let mut command = Command::new("vhost-device-vsock");
    command.arg("--vm");
    command.arg(format!("guest-cid={GUEST},socket={},uds-path={}", device.display(), guest.display()));
    let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let started = Instant::now();
    while !listens(&device)? {
        if started.elapsed() > SOCKET_MAX {
            return Err("vhost-device-vsock does not listen".into());
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(process)
}

/// Whether somebody listens on a Unix socket. To connect would take the one connection that is meant for QEMU.
fn listens(path: &Path) -> std::io::Result<bool> {
    const ACCEPTS: &str = "00010000";
    let path = path.to_string_lossy();
    let sockets = fs::read_to_string("/proc/net/unix")?;
    Ok(sockets.lines().any(|line| line.ends_with(&*path) && line.split(' ').nth(3) == Some(ACCEPTS)))
}

fn guest(tools: &Tools, image: &Image, folder: &Path) -> Command {
    const MEMORY: &str = "512M";
    let at = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("qemu-system-x86_64");
    let mut add = |option: &str, value: String| {
        command.args([option, &value]);
    };
    add("-machine", "q35,memory-backend=memory".to_owned());
    // No accelerator: a boot must come out the same with and without one, and few test machines have one.
    add("-accel", "tcg".to_owned());
    add("-cpu", "max".to_owned());
    add("-m", MEMORY.to_owned());
    add("-object", format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"));
    add("-display", "none".to_owned());
    add("-serial", "stdio".to_owned());
    let flash = |unit, file: String| format!("if=pflash,format=raw,unit={unit},file={file}");
    let firmware = flash(0, tools.firmware[0].display().to_string());
    add("-drive", format!("{firmware},readonly=on"));
    add("-drive", flash(1, at("variables")));
    add("-chardev", format!("socket,id=tpm,path={}", at("tpm.socket")));
    add("-tpmdev", "emulator,id=tpm,chardev=tpm".to_owned());
    add("-device", "tpm-crb,tpmdev=tpm".to_owned());
    add("-chardev", format!("socket,id=vsock,path={}", at("vhost.socket")));
    add("-device", "vhost-user-vsock-pci,chardev=vsock".to_owned());
    add("-kernel", image.kernel.display().to_string());
    add("-initrd", at("archive"));
    add("-append", image.command_line.clone());
    command.args(["-nodefaults", "-no-reboot"]).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A program that is ended when dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self, Fault> {
        let name = PathBuf::from(command.get_program());
        command.spawn().map(Self).map_err(|error| format!("{}: {error}", name.display()).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
