//! The command line of `consilium-enclave`.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::attester::{Attester, AttesterError, BOOT_PCRS, ConfigfsTsm, REPORT_FOLDER, Software, Tpm2};
use super::engine::Engine;
use super::first_process::{FirstProcessError, prepare};
use super::serve::{Stream, serve};
use crate::binding::EvidenceKind;

/// The device of a TPM behind the kernel's resource manager.
const TPM_DEVICE: &str = "/dev/tpmrm0";

const USAGE: &str = "\
Draws the noise of private releases so that no compute party knows it, and gives each party one share.

Usage: consilium-enclave --listen WHERE --attester WHO
       consilium-enclave --show-key tpm2[:PATH]

  --listen unix:PATH        serve on a Unix socket; its folder decides who may connect
  --listen vsock:PORT       serve the host of this virtual machine (needs a build with feature `vsock`)

  --attester configfs-tsm[:FOLDER]   Intel TDX or AMD SEV-SNP, through the kernel's configfs
  --attester nitro                   AWS Nitro enclave (needs a build with feature `nitro`)
  --attester tpm2[:PATH]             TPM 2.0: a device, by default /dev/tpmrm0, or a software TPM's socket.
                                     Shows which software was started; does not keep the machine's owner out
  --attester software                nothing vouches for this module; for public testing only

  --init FOLDER                      first prepare a virtual machine whose first process this is: mount /dev
                                     and load the kernel modules in FOLDER, in the order of their names

  --show-key tpm2[:PATH]             print the name of the TPM's attestation key, which a policy lists under
                                     `keys`, and end. Only on a machine of which you know whose it is: the
                                     name alone does not prove that the key lives in a TPM

The module reads no configuration and writes no file. What it serves is decided by the specifications
that both compute parties sign; whether they trust it, by the evidence it shows and their own policies.
Anybody who carries its bytes sees their lengths and nothing else. It runs until it is stopped, and forgets
everything then: parties have to check its evidence again, and shares that were not used are void.
";

/// Why the module does not run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line says something else than it can.
    #[error("{0}; see --help")]
    Usage(String),
    /// The machine could not be prepared.
    #[error(transparent)]
    Init(#[from] FirstProcessError),
    /// The platform is another than the command line says.
    #[error("cannot attest as asked: {0}")]
    Attester(#[from] AttesterError),
    /// The socket could not be opened.
    #[error("cannot listen on {place}: {error}")]
    Listen {
        /// Where.
        place: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] consilium_protocol::algebra::prg::SeedError),
    /// No connection can be accepted any more.
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

/// Where to listen.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Unix(PathBuf),
    Vsock(u32),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock(port) => write!(f, "vsock:{port}"),
        }
    }
}

/// Who makes the evidence.
#[derive(Debug, PartialEq, Eq)]
enum Who {
    ConfigfsTsm(PathBuf),
    Nitro,
    Tpm2(PathBuf),
    Software,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    place: Place,
    who: Who,
    /// Folder of kernel modules, where this is the first process.
    init: Option<PathBuf>,
}

/// Runs the module until it is stopped. `arguments` are those after the program's name; `notes` is for
/// people.
pub fn run(arguments: impl IntoIterator<Item = OsString>, notes: &mut impl Write) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        note(notes, USAGE.trim_end());
        return ExitCode::SUCCESS;
    }
    if let [option, who] = &arguments[..]
        && option == "--show-key"
    {
        return show_key(who, notes);
    }
    let error = match parse(&arguments).and_then(|order| start(&order, notes)) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    note(notes, &format!("consilium-enclave: {error}"));
    ExitCode::FAILURE
}

/// Prints what an administrator enrols.
fn show_key(who: &OsString, notes: &mut impl Write) -> ExitCode {
    let who = who.to_str().map_or_else(|| Err(CommandError::Usage("WHO is not UTF-8".to_owned())), parse_who);
    let name = who.and_then(|who| match who {
        Who::Tpm2(path) => Ok(tpm(&path).and_then(|mut tpm| tpm.key_name())?),
        _ => Err(CommandError::Usage("only a TPM has a key to show".to_owned())),
    });
    match name {
        Ok(name) => {
            note(notes, &name.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            note(notes, &format!("consilium-enclave: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// One line for people. A reader that is gone is no reason to stop.
fn note(notes: &mut impl Write, line: &str) {
    let _ = writeln!(notes, "{line}").and_then(|()| notes.flush());
}

fn parse(arguments: &[OsString]) -> Result<Order, CommandError> {
    let (mut place, mut who, mut init) = (None, None, None);
    let wrong = |text: String| Err(CommandError::Usage(text));
    for pair in arguments.chunks(2) {
        let texts: Option<Vec<&str>> = pair.iter().map(|argument| argument.to_str()).collect();
        match texts.as_deref() {
            Some(["--listen", value]) if place.is_none() => place = Some(parse_place(value)?),
            Some(["--attester", value]) if who.is_none() => who = Some(parse_who(value)?),
            Some(["--init", value]) if init.is_none() => init = Some(PathBuf::from(value)),
            Some([option @ ("--listen" | "--attester" | "--init")]) => {
                return wrong(format!("{option} lacks its value"));
            }
            Some([option @ ("--listen" | "--attester" | "--init"), _]) => {
                return wrong(format!("{option} is given twice"));
            }
            Some([option, ..]) => return wrong(format!("`{option}` is no option")),
            _ => return wrong("an option is not UTF-8".to_owned()),
        }
    }
    match (place, who) {
        (Some(place), Some(who)) => Ok(Order { place, who, init }),
        (None, _) => wrong("--listen is missing".to_owned()),
        (_, None) => wrong(
            "--attester is missing; there is no default, so that nobody goes without by mistake".to_owned(),
        ),
    }
}

fn parse_place(text: &str) -> Result<Place, CommandError> {
    match text.split_once(':') {
        Some(("unix", path)) if !path.is_empty() => Ok(Place::Unix(path.into())),
        Some(("vsock", port)) => {
            let bad = |_| CommandError::Usage(format!("`{port}` is no vsock port"));
            port.parse().map(Place::Vsock).map_err(bad)
        }
        _ => Err(CommandError::Usage(format!("`{text}` is neither unix:PATH nor vsock:PORT"))),
    }
}

fn parse_who(text: &str) -> Result<Who, CommandError> {
    let (name, path) = text.split_once(':').map_or((text, None), |(name, path)| (name, Some(path)));
    match (name, path) {
        ("configfs-tsm", path) => Ok(Who::ConfigfsTsm(path.unwrap_or(REPORT_FOLDER).into())),
        ("tpm2", path) => Ok(Who::Tpm2(path.unwrap_or(TPM_DEVICE).into())),
        ("nitro", None) => Ok(Who::Nitro),
        ("software", None) => Ok(Who::Software),
        _ => Err(CommandError::Usage(format!("`{text}` is none of configfs-tsm, nitro, tpm2 and software"))),
    }
}

/// What a TPM is behind: a device or a socket.
trait Wire: Read + Write {}

impl<W: Read + Write> Wire for W {}

fn tpm(path: &Path) -> Result<Tpm2<Box<dyn Wire>>, AttesterError> {
    let io = |error| AttesterError::Io { what: "opening the TPM", error };
    let wire: Box<dyn Wire> = if fs::metadata(path).map_err(io)?.file_type().is_socket() {
        Box::new(UnixStream::connect(path).map_err(io)?)
    } else {
        Box::new(OpenOptions::new().read(true).write(true).open(path).map_err(io)?)
    };
    Ok(Tpm2::new(wire, BOOT_PCRS))
}

fn attester(who: &Who) -> Result<Box<dyn Attester>, CommandError> {
    match who {
        Who::ConfigfsTsm(folder) => Ok(Box::new(ConfigfsTsm::open(folder)?)),
        #[cfg(feature = "nitro")]
        Who::Nitro => {
            use super::attester::{Nitro, NsmDevice};
            Ok(Box::new(Nitro::new(NsmDevice::open().map_err(AttesterError::from)?)))
        }
        #[cfg(not(feature = "nitro"))]
        Who::Nitro => Err(CommandError::Usage("this build has no feature `nitro`".to_owned())),
        Who::Tpm2(path) => Ok(Box::new(tpm(path)?)),
        Who::Software => Ok(Box::new(Software)),
    }
}

fn start(order: &Order, notes: &mut impl Write) -> Result<std::convert::Infallible, CommandError> {
    let Order { place, who, init } = order;
    if let Some(folder) = init {
        prepare(folder)?;
    }
    keep_memory_private();
    let attester = attester(who)?;
    let kind = attester.kind();
    let engine = Engine::new(attester)?;
    match kind {
        EvidenceKind::Software => note(
            notes,
            "SOFTWARE EVIDENCE: NOTHING VOUCHES FOR THIS MODULE. Whoever runs this machine can read the noise. \
             For public testing only.",
        ),
        EvidenceKind::Tpm2 => {
            note(
                notes,
                "evidence: tpm2. It shows which software started, and binds nobody who owns the machine.",
            );
        }
        kind => note(notes, &format!("evidence: {kind}")),
    }
    let place_failed = |error| CommandError::Listen { place: place.to_string(), error };
    match place {
        Place::Unix(path) => {
            let listener = listen(path).map_err(place_failed)?;
            listening(engine, move || listener.accept().map(|(stream, _)| stream), place, notes)
        }
        #[cfg(feature = "vsock")]
        Place::Vsock(port) => {
            let listener = vsock::VsockListener::bind_with_cid_port(vsock::VMADDR_CID_ANY, *port);
            let listener = listener.map_err(place_failed)?;
            listening(engine, move || listener.accept().map(|(stream, _)| stream), place, notes)
        }
        #[cfg(not(feature = "vsock"))]
        Place::Vsock(port) => {
            Err(CommandError::Usage(format!("this build has no feature `vsock` for port {port}")))
        }
    }
}

fn listening<A: Attester, S: Stream>(
    engine: Engine<A>,
    accept: impl FnMut() -> io::Result<S> + Send + 'static,
    place: &Place,
    notes: &mut impl Write,
) -> Result<std::convert::Infallible, CommandError> {
    note(notes, &format!("listening on {place}"));
    let ended = serve(engine, accept, |report| note(notes, &report.to_string()));
    Err(CommandError::Serve(ended.unwrap_or_else(|error| error)))
}

/// Opens the socket, in the place of one that a dead module left.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let dead = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
            && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if dead(path) {
        fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// Neither a core file nor a debugger of the same user shall see the memory. Best effort: where the system
/// refuses, the evidence still says all that a party may rely on.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Order, String> {
        let arguments: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
        parse(&arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn both_options_are_needed_once() {
        let (place, who) = (Place::Unix("/run/a:b".into()), Who::Tpm2(TPM_DEVICE.into()));
        let order = Order { place, who, init: None };
        assert_eq!(parsed("--attester tpm2 --listen unix:/run/a:b"), Ok(order));
        let (place, who) = (Place::Vsock(5000), Who::ConfigfsTsm("/tmp/x".into()));
        let order = Order { place, who, init: Some("/modules".into()) };
        assert_eq!(parsed("--listen vsock:5000 --init /modules --attester configfs-tsm:/tmp/x"), Ok(order));
        for (line, text) in [
            ("", "--listen is missing"),
            ("--attester nitro", "--listen is missing"),
            ("--listen unix:/x", "--attester is missing"),
            ("--listen unix:/x --attester", "--attester lacks its value"),
            ("--listen unix:/x --listen unix:/x", "--listen is given twice"),
            ("--listen unix: --attester nitro", "neither unix:PATH nor vsock:PORT"),
            ("--listen vsock:x --attester nitro", "no vsock port"),
            ("--listen unix:/x --attester software:yes", "none of configfs-tsm"),
            ("--listen unix:/x --attester nitro --init", "--init lacks its value"),
            ("--trust me", "`--trust` is no option"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn faults_and_help_are_told() {
        let mut notes = Vec::new();
        assert_eq!(run(["--help".into()], &mut notes), ExitCode::SUCCESS);
        assert!(String::from_utf8(notes).unwrap().contains("nothing vouches for this module"));
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        for (who, text) in [("configfs-tsm", "making a report"), ("tpm2", "opening the TPM")] {
            let mut notes = Vec::new();
            let attester = format!("{who}:{}", absent.display());
            let arguments = ["--listen", "unix:/x", "--attester", &attester].map(OsString::from);
            assert_eq!(run(arguments, &mut notes), ExitCode::FAILURE);
            let notes = String::from_utf8(notes).unwrap();
            assert!(notes.contains(text) && !notes.contains("listening"), "{notes}");
        }
        for (who, text) in [("tpm2:/nonexistent/tpm", "opening the TPM"), ("nitro", "only a TPM has a key")] {
            let mut notes = Vec::new();
            assert_eq!(run(["--show-key", who].map(OsString::from), &mut notes), ExitCode::FAILURE);
            assert!(String::from_utf8(notes).unwrap().contains(text));
        }
        let arguments = ["--init", "/", "--listen", "unix:/x", "--attester", "software"].map(OsString::from);
        let mut notes = Vec::new();
        assert_eq!(run(arguments, &mut notes), ExitCode::FAILURE);
        assert!(String::from_utf8(notes).unwrap().contains("first process of a machine"));
    }

    #[test]
    fn only_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let alive = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(alive);
        drop(listen(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
