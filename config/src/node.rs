//! Settings of one machine.

mod http;
mod module;
mod read;

pub(crate) use read::node as read_from;

pub use http::Http;
pub use module::{LocalModule, ModuleSocket};

use crate::{
    address::Address,
    document::{self, Document},
    error::ConfigError,
    name::Name,
};
use serde::{Serialize, Serializer};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What `consilium.toml` says, checked as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    #[serde(rename = "node")]
    place: Place,
    network: Network,
    #[serde(rename = "pool")]
    pools: Pools,
    admin: Admin,
    log: Log,
    #[serde(skip_serializing_if = "LocalModule::is_none")]
    module: LocalModule,
    #[serde(skip_serializing_if = "Http::is_default")]
    http: Http,
}

/// Who this machine is and where it keeps things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// This member's name in the roster.
    pub name: Name,
    /// Folder of all durable state. No two nodes may share it.
    pub state: PathBuf,
    /// File of the ed25519 key that this node is known by; `identity.key` in the state folder by default.
    pub identity: PathBuf,
    /// The roster file; `roster.toml` beside the node file by default. Read only where it is unsigned.
    pub roster: PathBuf,
    /// Whether the roster is that file, without signatures. Otherwise it is the signed one in the state folder.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unsigned_roster: bool,
}

impl Place {
    /// The usual layout: the key inside the state folder, the roster signed.
    pub fn new(name: Name, state: impl Into<PathBuf>, roster: impl Into<PathBuf>) -> Self {
        let state = state.into();
        let identity = state.join("identity.key");
        Self { name, identity, roster: roster.into(), state, unsigned_roster: false }
    }
}

/// How this machine meets the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Where to accept connections; empty for a node that only dials.
    pub listen: Vec<Address>,
    /// Nobody can dial this node: others reach it through members that relay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub behind_nat: bool,
    /// Whether this node relays for members behind a NAT.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
    /// Whether members are looked for on the local network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mdns: bool,
    /// Connections held to one peer.
    pub connections_per_peer_max: u32,
    /// Streams held with one peer.
    pub streams_per_peer_max: u32,
    /// Longest frame accepted or sent, in bytes.
    pub frame_bytes_max: u32,
    /// Time to reach a peer.
    #[serde(rename = "dial_timeout_ms", serialize_with = "milliseconds")]
    pub dial_timeout: Duration,
    /// Time that a peer may take for one round.
    #[serde(rename = "round_deadline_ms", serialize_with = "milliseconds")]
    pub round_deadline: Duration,
    /// Time for a whole query, at least that of a round.
    #[serde(rename = "query_deadline_ms", serialize_with = "milliseconds")]
    pub query_deadline: Duration,
    /// How long a connection without streams stays open.
    #[serde(rename = "idle_timeout_ms", serialize_with = "milliseconds")]
    pub idle_timeout: Duration,
}

impl Default for Network {
    /// Nothing listens.
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            behind_nat: false,
            relay: false,
            mdns: false,
            connections_per_peer_max: 2,
            streams_per_peer_max: 64,
            frame_bytes_max: 33_554_432,
            dial_timeout: Duration::from_secs(10),
            round_deadline: Duration::from_secs(10),
            query_deadline: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// What prepared material may cost this machine, over all tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pools {
    /// Room on the disk for prepared material, in bytes.
    #[serde(serialize_with = "capped")]
    pub bytes_max: u64,
    /// Queries' worth made in one go.
    pub refill_batch_queries: u32,
    /// Queries whose material is laid out ahead in memory, at least one batch.
    pub prepared_max: u32,
    /// How party Zero of a pair without a dealer makes oblivious transfers.
    pub transfers: Transfers,
}

/// How oblivious transfers are extended when two compute parties prepare material themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transfers {
    /// Silently, unless the link is so fast that bytes cost less than computing.
    Auto,
    /// By columns, as in IKNP and SoftSpokenOT: 8 bytes each way for each transfer.
    Iknp,
    /// Silently, as in Ferret: a tenth of a byte, resting on learning parity with noise as well.
    Silent,
}

impl Default for Pools {
    fn default() -> Self {
        Self { bytes_max: 1 << 30, refill_batch_queries: 128, prepared_max: 1024, transfers: Transfers::Auto }
    }
}

/// How the command line reaches the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// Unix socket; `admin.sock` in the state folder by default.
    pub socket: PathBuf,
}

impl Admin {
    /// The usual socket in a state folder.
    pub fn beneath(state: &Path) -> Self {
        Self { socket: state.join("admin.sock") }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// Which events, in the notation of `tracing`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal when it listens, else plain.
    Auto,
    /// Text for people.
    Plain,
    /// One object per line.
    Json,
    /// The systemd journal.
    Journal,
}

impl Node {
    /// Puts settings together in memory and checks them like a file.
    ///
    /// # Errors
    /// [`ConfigError`] as for a file; places are those in [`Node::to_toml`]'s text.
    pub fn new(
        place: Place,
        network: Network,
        pools: Pools,
        admin: Admin,
        log: Log,
        module: LocalModule,
        http: Http,
    ) -> Result<Self, ConfigError> {
        let paths = [&place.state, &place.identity, &place.roster, &admin.socket];
        for path in paths.into_iter().chain(module.paths()).chain(&http.token_file) {
            if path.to_str().is_none() {
                return Err(ConfigError::NotText { file: path.display().to_string() });
            }
        }
        let node = Self { place, network, pools, admin, log, module, http };
        Self::parse("consilium.toml", &node.to_toml(), Path::new(""))
    }

    /// Reads one file and nothing else. Relative paths in it start from its folder. What a node takes its
    /// settings from is more: see [`crate::Layers`].
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (name, text) = document::load(path)?;
        Self::parse(&name, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a text that messages call `file`. Relative paths in it start from `base`.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the text.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        if base.to_str().is_none() {
            return Err(ConfigError::NotText { file: base.display().to_string() });
        }
        Document::parse(file, text, |document, root| read_from(document, root, base))
    }

    /// The text that reads back as these settings.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("strings, numbers and UTF-8 paths always have a TOML form")
    }

    /// This member's name in the roster.
    pub fn name(&self) -> &Name {
        &self.place.name
    }

    /// Who this machine is and where it keeps things.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How this machine meets the others.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What prepared material may cost.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// How the command line reaches the daemon.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// What is logged, and how.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What this machine knows of the module that draws noise.
    pub fn module(&self) -> &LocalModule {
        &self.module
    }

    /// The REST interface, the metrics and the dashboard.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// File of the token that callers of the REST interface must show.
    pub fn http_token_file(&self) -> PathBuf {
        self.http.token_file.clone().unwrap_or_else(|| self.place.state.join("http.token"))
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    capped(&u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), serializer)
}

/// TOML has no larger number; what is cut here is far out of range and refused on reading.
fn capped<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(i64::try_from(*value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EXAMPLE_NODE,
        document::testing::{edited, node, node_refusal, rendered},
    };
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn the_example_gives_known_values() {
        let node = node(EXAMPLE_NODE).unwrap();
        assert_eq!(node.name().as_str(), "north");
        assert_eq!(node.place().state, Path::new("/var/lib/consilium"));
        assert_eq!(node.network().listen[0].as_str(), "/ip4/0.0.0.0/tcp/4710");
        let defaults = Network { listen: node.network().listen.clone(), ..Network::default() };
        assert_eq!(node.network(), &defaults);
        assert_eq!(node.pools(), &Pools::default());
        assert_eq!(node.admin().socket, Path::new("/run/consilium/admin.sock"));
        assert_eq!(node.log(), &Log::default());
        let socket = ModuleSocket::Unix("/run/consilium-enclave/socket".into());
        let collateral = Some("/etc/consilium/collateral".into());
        assert_eq!(node.module(), &LocalModule { socket: Some(socket), collateral });
        assert_eq!(node.http_token_file(), Path::new("/var/lib/consilium/http.token"));
        let listen = Some("127.0.0.1:8000".parse().unwrap());
        let token_file = node.http().token_file.clone();
        assert_eq!(node.http(), &Http { listen, token_file, ..Http::default() });
    }

    #[test]
    fn little_is_required_and_relative_paths_start_from_the_file() {
        let text = "node = { name = 'a', state = 'state' }\nnetwork.listen = []";
        let node = crate::document::testing::node(text).unwrap();
        assert_eq!(node.place().state, Path::new("/etc/consilium/state"));
        assert_eq!(node.place().identity, Path::new("/etc/consilium/state/identity.key"));
        assert_eq!(node.place().roster, Path::new("/etc/consilium/roster.toml"));
        assert_eq!(node.admin().socket, Path::new("/etc/consilium/state/admin.sock"));
        assert_eq!(node.module(), &LocalModule::default());
        let text = format!("{text}\nmodule = {{ socket = 'unix:m/socket', collateral = 'vendors' }}");
        let module = crate::document::testing::node(&text).unwrap().module().clone();
        assert_eq!(module.socket, Some(ModuleSocket::Unix("/etc/consilium/m/socket".into())));
        assert_eq!(module.collateral.as_deref(), Some(Path::new("/etc/consilium/vendors")));
        assert_eq!((node.http().listen, node.http().beyond_loopback), (None, false));
        assert_eq!(node.http_token_file(), Path::new("/etc/consilium/state/http.token"));
    }

    #[test]
    fn a_file_is_read_relative_to_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consilium.toml");
        std::fs::write(&path, "node = { name = 'a', state = '.' }\nnetwork.listen = []").unwrap();
        assert_eq!(Node::load(&path).unwrap().place().roster, folder.path().join("roster.toml"));
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (from, to, expected) in [
            ("name = \"north\"", "name = \"North\"", "for example `north`"),
            ("name = \"north\"", "", "`node.name` is missing | add a line such as `name = \"north\"`"),
            ("/ip4/0.0.0.0/tcp/4710", "0.0.0.0:4710", "write `/ip4/0.0.0.0/tcp/4710`"),
            (
                "format = \"auto\"",
                "format = \"jsno\"",
                "one of `auto`, `plain`, `json`, `journal` | did you mean `json`?",
            ),
            (
                "query_deadline_ms = 60000",
                "query_deadline_ms = 9000",
                "a query cannot end before one of its rounds",
            ),
            ("dial_timeout_ms = 10000", "dial_timeout_ms = \"10s\"", "without quotes or unit"),
            (
                "refill_batch_queries = 128",
                "refill_batch_queries = 2000",
                "one refill would overflow the pool",
            ),
            ("frame_bytes_max = 33554432", "frame_bytes_max = 1", "a whole number from 65536 to 268435456"),
            ("state = \"/var/lib/consilium\"", "state = \"\"", "a path of 1 to 4096 bytes"),
            ("filter = \"info\"", "filter = 3", "`log.filter` must be a string in quotes"),
            ("listen = \"127.0.0.1:8000\"", "listen = \"localhost:80\"", "write `127.0.0.1:80`"),
            (
                "listen = \"127.0.0.1:8000\"",
                "listen = \"0.0.0.0:8000\"",
                "write an address such as `127.0.0.1:8000`, or `beyond_loopback = true`",
            ),
            ("body_bytes_max = 8388608", "body_bytes_max = 1", "a whole number from 4096 to 67108864"),
        ] {
            let found = node_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
        let module = "\"unix:/run/consilium-enclave/socket\"";
        for (to, expected) in [
            (
                "\"/run/m/socket\"".to_owned(),
                "`module.socket` must be `unix:PATH` or `vsock:CID:PORT` | write `unix:",
            ),
            ("3".to_owned(), "`module.socket` must be a string in quotes"),
            (
                format!("\"unix:/{}\"", "s".repeat(107)),
                "the path of the module's socket is too long for the system",
            ),
            (format!("\"unix:{}\"", "s".repeat(93)), "the path of the module's socket is too long"),
        ] {
            let found = node_refusal(module, &to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
        assert!(node_refusal("\"/etc/consilium/collateral\"", "\"\"").contains("a path of 1 to 4096 bytes"));
        let longest = format!("\"unix:{}\"", "s".repeat(92));
        assert!(node(&edited(EXAMPLE_NODE, module, &longest)).is_ok());
        let long = format!("socket = \"/{}\"", "s".repeat(120));
        assert!(
            node_refusal("socket = \"/run/consilium/admin.sock\"", &long).contains("too long for the system")
        );
    }

    #[test]
    fn a_node_behind_a_nat_neither_relays_nor_listens_at_relays() {
        let nat = edited(EXAMPLE_NODE, "behind_nat = false", "behind_nat = true");
        let read = node(&nat).unwrap();
        assert!(read.network().behind_nat && !read.network().relay);
        let problem = |text: &str| {
            let error = node(text).unwrap_err();
            let [problem] = error.problems() else { panic!("{error}") };
            format!("{} | {}", problem.message(), problem.advice().unwrap_or_default())
        };
        let both = problem(&edited(&nat, "relay = false", "relay = true"));
        assert!(both.contains("cannot relay for others | remove"), "{both}");
        let listens = problem(&edited(EXAMPLE_NODE, "/ip4/0.0.0.0/tcp/4710", "/p2p-circuit"));
        assert!(listens.contains("set `behind_nat = true`"), "{listens}");
    }

    #[test]
    fn a_mistyped_key_is_guessed() {
        let error = node(&edited(EXAMPLE_NODE, "listen =", "lisen =")).unwrap_err();
        let problems: Vec<_> =
            error.problems().iter().map(|problem| (problem.message(), problem.advice())).collect();
        let missing =
            "add a line such as `listen = [\"/ip4/0.0.0.0/tcp/4710\"]` or, to dial out only, `listen = []`";
        assert!(
            problems.contains(&("`network` has no key `lisen`", Some("did you mean `listen`?"))),
            "{problems:?}"
        );
        assert!(problems.contains(&("`network.listen` is missing", Some(missing))), "{problems:?}");
    }

    #[test]
    fn the_report_shows_each_place() {
        let text =
            edited(EXAMPLE_NODE, "listen = [\"/ip4/0.0.0.0/tcp/4710\"]", "listen = []\nlisten_port = 4710");
        let text = edited(&text, "round_deadline_ms = 10000", "round_deadline_ms = 90000");
        let found = rendered(&node(&text).unwrap_err());
        assert_eq!(found, include_str!("node/report.txt").trim_end(), "\n{found}");
    }

    #[test]
    fn values_out_of_range_in_memory_are_refused_too() {
        let place = Place::new("north".parse().unwrap(), "/s", "/r");
        let network = Network { dial_timeout: Duration::MAX, ..Network::default() };
        let pools = Pools { bytes_max: u64::MAX, ..Pools::default() };
        let admin = Admin::beneath(&place.state);
        let module = LocalModule::default();
        let error =
            Node::new(place.clone(), network, pools, admin.clone(), Log::default(), module, Http::default());
        assert_eq!(error.unwrap_err().problems().len(), 2);
        let made = |module| {
            Node::new(
                place.clone(),
                Network::default(),
                Pools::default(),
                admin.clone(),
                Log::default(),
                module,
                Http::default(),
            )
        };
        let unreadable = PathBuf::from(std::ffi::OsStr::from_bytes(b"/\xff"));
        for module in [
            LocalModule { socket: Some(ModuleSocket::Unix(unreadable.clone())), collateral: None },
            LocalModule { socket: None, collateral: Some(unreadable) },
        ] {
            assert!(matches!(made(module), Err(ConfigError::NotText { .. })));
        }
        let any = ModuleSocket::Vsock { cid: u32::MAX, port: 1 };
        assert!(made(LocalModule { socket: Some(any), collateral: None }).is_err());
    }

    proptest! {
        #[test]
        fn written_settings_read_back(
            name in "[a-z0-9]{1,20}",
            path in "/[^\\p{Cc}\\x00]{1,40}",
            filter in "[^\\p{Cc}]{0,40}",
            dial_ms in 100_u64..3_600_000,
            bytes_max in 1_048_576_u64..1_099_511_627_776,
            vsock in any::<bool>(),
        ) {
            let socket = if vsock {
                ModuleSocket::Vsock { cid: dial_ms as u32, port: bytes_max as u32 >> 1 }
            } else {
                ModuleSocket::Unix(path.chars().take(20).collect::<String>().into())
            };
            let module = LocalModule { socket: Some(socket), collateral: (dial_ms % 2 == 0).then(|| path.clone().into()) };
            let place = Place::new(name.parse().unwrap(), path, "roster.toml");
            let listen = vec!["/ip6/::1/tcp/0".parse().unwrap(); dial_ms as usize % 3];
            let network = Network { listen, dial_timeout: Duration::from_millis(dial_ms), ..Network::default() };
            let admin = Admin { socket: "/run/admin.sock".into() };
            let log = Log { format: LogFormat::Json, filter };
            let pools = Pools { bytes_max, ..Pools::default() };
            let port = dial_ms as u16;
            let listen = (port > 0).then(|| ([127, 0, 0, 1], port).into());
            let http = Http { listen, token_file: Some("/t".into()), ..Http::default() };
            let made = Node::new(place.clone(), network.clone(), pools, admin, log.clone(), module.clone(), http.clone());
            let made = made.unwrap();
            prop_assert_eq!(made.module(), &module);
            prop_assert_eq!((made.place(), made.network(), made.log()), (&place, &network, &log));
            prop_assert_eq!(made.http(), &http);
            prop_assert_eq!(Node::parse("again", &made.to_toml(), Path::new("")).unwrap(), made);
        }
    }
}
