//! `consilium config init`.

use crate::cli::output::print_json;
use crate::net::Identity;
use crate::vault::private_directory;
use clap::{Args, ValueEnum};
use consilium_config::{Address, Name, Role, Start, ValueError};
use miette::{IntoDiagnostic, Result, miette};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Arguments of `consilium config init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The node file to write
    #[arg(default_value = crate::cli::NODE_FILE, value_name = "FILE")]
    file: PathBuf,
    /// This member's name: small letters, digits and hyphens
    #[arg(long)]
    name: String,
    /// What the member does; one that computes or deals must be reachable, the others only dial
    #[arg(long, value_enum)]
    role: RoleWord,
    /// Folder of all durable state
    #[arg(long, value_name = "DIR", default_value = "/var/lib/consilium")]
    state: PathBuf,
    /// The roster file; by default roster.toml beside the node file
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    /// Where to listen, such as /ip4/0.0.0.0/tcp/4710; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleWord {
    /// Has models
    Owner,
    /// Asks
    Client,
    /// Holds one of the two shares
    Compute,
    /// Makes correlated randomness
    Dealer,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Owner => Self::Owner,
            RoleWord::Client => Self::Client,
            RoleWord::Compute => Self::Compute,
            RoleWord::Dealer => Self::Dealer,
        }
    }
}

/// What was made.
#[derive(Debug)]
pub(super) struct Made {
    /// The peer id of the key.
    pub(super) peer: String,
    /// Whether the key was there already.
    kept: bool,
}

pub(super) fn run(args: &InitArgs) -> Result<()> {
    let made = make(args)?;
    if args.json {
        return print_json(&serde_json::json!({
            "file": args.file, "state": args.state, "name": args.name, "peer": made.peer, "key_kept": made.kept,
        }));
    }
    println!("wrote {}", args.file.display());
    let key = if made.kept { "kept the key in" } else { "made the key in" };
    println!("{key} {}; it cannot be replaced, so back the folder up", args.state.display());
    println!("peer id for the roster: {}", made.peer);
    println!(
        "next: `consilium consortium create` founds a consortium, `consilium consortium join INVITATION` joins one; \
         then `consilium config check {}`",
        args.file.display()
    );
    Ok(())
}

/// Writes the file and makes the key, in that order: a file that is there already stops everything.
pub(super) fn make(args: &InitArgs) -> Result<Made> {
    let wrong = |what: &str, error: ValueError| {
        let help = error.help.clone().unwrap_or_default();
        miette!(help = help, "{what}: {error}")
    };
    let name: Name = args.name.parse().map_err(|error| wrong("--name", error))?;
    let listen =
        args.listen.iter().map(|text| text.parse::<Address>().map_err(|error| wrong("--listen", error)));
    let listen: Vec<Address> = listen.collect::<Result<_>>()?;
    let start = Start {
        name,
        role: args.role.into(),
        state: absolute(&args.state)?,
        roster: args.roster.as_deref().map(absolute).transpose()?,
        listen: (!listen.is_empty()).then_some(listen),
    };
    let text = start.text()?;
    let folder = args.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| miette!("cannot make {}: {error}", folder.display()))?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(&args.file).map_err(|error| {
            let shown = args.file.display();
            match error.kind() {
                ErrorKind::AlreadyExists => miette!(
                    help =
                        "edit it, or name another file; `consilium config check` says what is wrong with it",
                    "{shown} is there already and is left alone"
                ),
                _ => miette!("cannot write {shown}: {error}"),
            }
        })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| miette!("cannot write {}: {error}", args.file.display()))?;
    private_directory(&start.state).into_diagnostic()?;
    let key = start.state.join("identity.key");
    let kept = key.exists();
    let identity = Identity::load_or_create(&key).into_diagnostic()?;
    Ok(Made { peer: identity.peer_id().to_string(), kept })
}

/// The file may be read from anywhere.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| miette!("{}: {error}", path.display()))
}

#[cfg(test)]
impl InitArgs {
    pub(super) fn of(name: &str, role: &str, state: &Path, file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            name: name.to_owned(),
            role: RoleWord::from_str(role, false).unwrap(),
            state: state.to_owned(),
            roster: None,
            listen: Vec::new(),
            json: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::Node;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_key_and_folder_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let (state, file) = (folder.path().join("state"), folder.path().join("etc/consilium.toml"));
        let args = InitArgs::of("north", "compute", &state, &file);
        let made = make(&args).unwrap();
        assert!(!made.kept);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join("identity.key"))), (0o700, 0o600));
        let node = Node::load(&file).unwrap();
        assert_eq!((node.name().as_str(), node.place().state.as_path()), ("north", state.as_path()));
        let text = std::fs::read_to_string(&file).unwrap();
        let refused = make(&InitArgs::of("south", "owner", &state, &file)).unwrap_err();
        assert!(refused.to_string().contains("is left alone"), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        let again = make(&InitArgs::of("north", "compute", &state, &folder.path().join("b.toml"))).unwrap();
        assert!(again.kept);
        assert_eq!(again.peer, made.peer);
    }

    #[test]
    fn wrong_words_are_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let (state, file) = (folder.path().join("state"), folder.path().join("consilium.toml"));
        let name = make(&InitArgs::of("North", "owner", &state, &file)).unwrap_err();
        assert!(name.to_string().starts_with("--name: expected a name of"), "{name}");
        let listen =
            InitArgs { listen: vec!["0.0.0.0:4710".into()], ..InitArgs::of("north", "owner", &state, &file) };
        assert!(make(&listen).unwrap_err().to_string().starts_with("--listen"));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
