//! The settings of one machine from everywhere they may stand.
//!
//! Defaults are overridden by the node file, that by the files of the folder `conf.d` beside it in the order of
//! their names, those by variables of the environment, and those by the command line. A later value takes the
//! place of an earlier one, a list as a whole.

use crate::{
    document::{self, Assignment, Layer, LayerKind, layered},
    error::{ConfigError, Problem, quoted},
    node::{self, Node},
    places::Places,
};
use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

/// What the name of a variable starts with that overrides a key of the node file.
pub const VARIABLE_PREFIX: &str = "CONSILIUM_NODE__";
/// The folder beside the node file whose `.toml` files override it.
pub const DROP_INS: &str = "conf.d";
/// Files of that folder, at most.
pub const DROP_INS_MAX: usize = 64;

/// All texts that settings are read from, lowest first.
#[derive(Clone, Debug)]
pub struct Layers {
    base: PathBuf,
    layers: Vec<Layer>,
}

/// The settings, and where each of them stands.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings.
    pub node: Node,
    /// Where each key stands, by names such as `network.listen`.
    pub places: Places,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// A file says so.
    File {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment says so.
    Environment {
        /// The variable.
        variable: String,
    },
    /// The command line says so.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}, line {line}"),
            Self::Environment { variable } => write!(f, "environment, {variable}"),
            Self::CommandLine => f.write_str("command line, --set"),
        }
    }
}

impl Settings {
    /// What a program started now would run by: the node file, `conf.d`, this process's environment and the `--set`
    /// flags of its command line.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of every text.
    pub fn in_force(path: &Path, flags: &[String]) -> Result<Self, ConfigError> {
        Layers::open(path)?.with_environment(std::env::vars_os()).with_flags(flags).read()
    }
}

impl Layers {
    /// The node file and the files of `conf.d` beside it.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read; what the files say is judged by [`Layers::read`].
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        if base.to_str().is_none() {
            return Err(ConfigError::NotText { file: base.display().to_string() });
        }
        let mut layers = Vec::new();
        for file in [path.to_owned()].into_iter().chain(drop_ins(&base.join(DROP_INS))?) {
            let (name, text) = document::load(&file)?;
            layers.push(Layer::file(&name, text));
        }
        Ok(Self { base, layers })
    }

    /// Adds those variables whose name starts with [`VARIABLE_PREFIX`]: `CONSILIUM_NODE__NETWORK__LISTEN` is
    /// `listen` under `[network]`. What looks like a TOML value is one, all else is text.
    #[must_use]
    pub fn with_environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let own = |(name, value): (OsString, OsString)| {
            let name = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX))?.to_owned();
            Some((name, value))
        };
        let mut variables: Vec<(String, OsString)> = variables.into_iter().filter_map(own).collect();
        variables.sort();
        let mut lines = Lines::default();
        for (name, value) in &variables {
            let key = name.get(VARIABLE_PREFIX.len()..).unwrap_or_default().to_lowercase();
            let help =
                format!("write `{VARIABLE_PREFIX}SECTION__KEY`, such as `{VARIABLE_PREFIX}LOG__FILTER`");
            lines.add(("", name), "=", value, key.split_once("__"), help);
        }
        self.layers.extend(lines.layer(LayerKind::Environment, "environment"));
        self
    }

    /// Adds settings of the command line, such as `log.filter=debug`.
    #[must_use]
    pub fn with_flags(mut self, flags: &[String]) -> Self {
        let mut lines = Lines::default();
        for flag in flags {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            let help = "write `--set SECTION.KEY=VALUE`, such as `--set log.filter=debug`".to_owned();
            let equals = if flag.contains('=') { "=" } else { "" };
            let key = name.split_once('.').filter(|_| flag.contains('='));
            lines.add(("--set ", name), equals, OsStr::new(value), key, help);
        }
        self.layers.extend(lines.layer(LayerKind::Flags, "command line"));
        self
    }

    /// Reads all of them. Relative paths start from the folder of the node file, wherever they stand.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of every text.
    pub fn read(&self) -> Result<Settings, ConfigError> {
        let (node, merged) =
            layered(&self.layers, |document, root| node::read_from(document, root, &self.base))?;
        let sources =
            merged.layers.iter().map(|(start, layer)| (*start, layer.kind(), layer.source().clone()));
        let places = Places::new(sources.collect(), &merged.table);
        Ok(Settings { node, places })
    }
}

/// The files of a folder, which may be absent, in the order of their names.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::Unreadable { path: folder.to_owned(), source };
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
        if files.len() > DROP_INS_MAX {
            return Err(ConfigError::TooMany { folder: folder.to_owned() });
        }
    }
    files.sort();
    Ok(files)
}

/// Lines that each give one key a value, while they are put together.
#[derive(Default)]
struct Lines {
    text: String,
    assignments: Vec<Assignment>,
    problems: Vec<Problem>,
}

impl Lines {
    fn add(
        &mut self,
        (before, name): (&str, &str),
        equals: &str,
        value: &OsStr,
        key: Option<(&str, &str)>,
        help: String,
    ) {
        // A line break would end the line in the picture; it is refused below like any control character.
        let shown = value.to_string_lossy();
        let control = shown.chars().chain(name.chars()).any(char::is_control);
        let clean = |text: &str| text.chars().flat_map(printable).collect::<String>();
        self.text.push_str(before);
        let start = self.text.len();
        self.text.push_str(&clean(name));
        let place = start..self.text.len();
        self.text.push_str(equals);
        let start = self.text.len();
        self.text.push_str(&clean(&shown));
        let value_place = start..self.text.len();
        self.text.push('\n');
        if control || value.to_str().is_none() {
            let problem = Problem::new(format!("the value of {} is not plain text", quoted(name)));
            let help = "remove control characters and what is not UTF-8".to_owned();
            self.problems.push(problem.at(value_place, "this value").help(help));
            return;
        }
        match key {
            Some((section, key)) if !section.is_empty() && !key.is_empty() => {
                self.assignments.push(Assignment {
                    section: section.to_owned(),
                    key: key.to_owned(),
                    name: place,
                    value: value_place,
                })
            }
            _ => self.problems.push(
                Problem::new(format!("{} names no setting", quoted(name))).at(place, "no setting").help(help),
            ),
        }
    }

    fn layer(self, kind: LayerKind, name: &str) -> Option<Layer> {
        (!self.text.is_empty()).then(|| Layer::lines(kind, name, self.text, self.assignments, self.problems))
    }
}

fn printable(one: char) -> impl Iterator<Item = char> {
    let escaped: Vec<char> = if one.is_control() { one.escape_debug().collect() } else { vec![one] };
    escaped.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::testing::rendered;
    use tempfile::TempDir;

    const MAIN: &str = "[node]\nname = \"north\"\nstate = \"state\"\n\n[network]\nlisten = []\n\
                        round_deadline_ms = 20000\n";

    fn folder(drop_ins: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("consilium.toml"), MAIN).unwrap();
        std::fs::create_dir(folder.path().join(DROP_INS)).unwrap();
        for (name, text) in drop_ins {
            std::fs::write(folder.path().join(DROP_INS).join(name), text).unwrap();
        }
        folder
    }

    fn layers(folder: &TempDir, variables: &[(&str, &str)], flags: &[&str]) -> Layers {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let open = Layers::open(&folder.path().join("consilium.toml")).unwrap();
        open.with_environment(variables).with_flags(&flags)
    }

    /// The report with the folder's name left out.
    fn report(folder: &TempDir, error: &ConfigError) -> String {
        rendered(error).replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn later_layers_win_and_every_value_knows_its_origin() {
        let folder = folder(&[
            ("20-more.toml", "log.filter = \"warn\"\n"),
            ("10-less.toml", "[log]\nfilter = \"error\"\nformat = \"json\"\n[pool]\nbytes_max = 2000000\n"),
            ("30-ignored.bak", "nonsense"),
            (".40-hidden.toml", "nonsense"),
        ]);
        let variables = [
            ("CONSILIUM_NODE__NETWORK__LISTEN", "[\"/ip4/127.0.0.1/tcp/4710\"]"),
            ("CONSILIUM_NODE__POOL__BYTES_MAX", "3000000"),
            ("CONSILIUM_NODE__NODE__STATE", "/srv/state"),
            ("CONSILIUM_FUZZ_CASES", "7"),
            ("HOME", "/root"),
        ];
        let settings = layers(&folder, &variables, &["pool.bytes_max=4000000"]).read().unwrap();
        let (node, places) = (&settings.node, &settings.places);
        assert_eq!((node.log().filter.as_str(), node.log().format), ("warn", crate::LogFormat::Json));
        assert_eq!(node.network().listen[0].as_str(), "/ip4/127.0.0.1/tcp/4710");
        assert_eq!(node.pools().bytes_max, 4_000_000);
        assert_eq!(node.place().state, Path::new("/srv/state"));
        assert_eq!(node.place().roster, folder.path().join("roster.toml"));
        let origin = |key: &str| {
            let shown = places.origin(key).to_string();
            shown.replace(&format!("{}/", folder.path().display()), "")
        };
        assert_eq!(origin("node.name"), "consilium.toml, line 2");
        assert_eq!(origin("network.round_deadline_ms"), "consilium.toml, line 7");
        assert_eq!(origin("log.filter"), "conf.d/20-more.toml, line 1");
        assert_eq!(origin("log.format"), "conf.d/10-less.toml, line 3");
        assert_eq!(origin("network.listen"), "environment, CONSILIUM_NODE__NETWORK__LISTEN");
        assert_eq!(origin("pool.bytes_max"), "command line, --set");
        assert_eq!(origin("network.idle_timeout_ms"), "default");
    }

    #[test]
    fn the_same_as_a_file_alone_without_other_layers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consilium.toml");
        std::fs::write(&path, crate::EXAMPLE_NODE).unwrap();
        assert_eq!(Layers::open(&path).unwrap().read().unwrap().node, Node::load(&path).unwrap());
    }

    #[test]
    fn each_problem_is_shown_in_its_own_text() {
        let folder = folder(&[("10.toml", "[log]\nformt = \"json\"\n"), ("20.toml", "a = [\n")]);
        let variables = [
            ("CONSILIUM_NODE__NETWORK__QUERY_DEADLINE_MS", "15000"),
            ("CONSILIUM_NODE__LOG", "debug"),
            ("CONSILIUM_NODE__POOL__BYTES_MAX", "much"),
        ];
        let error = layers(&folder, &variables, &["log.colour=red", "filter"]).read().unwrap_err();
        let told: Vec<(String, Option<usize>, &str)> = error
            .problems()
            .iter()
            .map(|problem| {
                let file = problem.file().unwrap().rsplit('/').next().unwrap().to_owned();
                (file, problem.line(), problem.message())
            })
            .collect();
        let expected = [
            ("10.toml", 2, "`log` has no key `formt`"),
            ("20.toml", 2, "this is not TOML"),
            ("environment", 1, "`CONSILIUM_NODE__LOG` names no setting"),
            ("environment", 3, "`pool.bytes_max` must be a whole number from 1048576 to 1099511627776"),
            ("command line", 2, "`filter` names no setting"),
            ("command line", 1, "`log` has no key `colour`"),
            ("environment", 2, "a query cannot end before one of its rounds"),
        ];
        for (file, line, message) in expected {
            let found = told.iter().any(|told| *told == (file.to_owned(), Some(line), message));
            assert!(found || file == "20.toml", "{message}: {told:?}");
        }
        assert_eq!(told.len(), expected.len(), "{told:?}");
        let shown = report(&folder, &error);
        assert!(shown.contains("CONSILIUM_NODE__NETWORK__QUERY_DEADLINE_MS=15000"), "{shown}");
        assert!(shown.contains("did you mean `format`?"), "{shown}");
        let advice = error.problems().iter().find_map(|problem| {
            problem.message().starts_with("a query cannot").then(|| problem.advice().unwrap())
        });
        assert!(advice.unwrap().contains("20000 ms for each round in"), "{advice:?}");
        assert!(advice.unwrap().ends_with("consilium.toml, line 7"), "{advice:?}");
    }

    #[test]
    fn what_one_text_leaves_out_another_may_give() {
        let folder = folder(&[("10.toml", "network.round_deadline_ms = 90000\n")]);
        assert!(layers(&folder, &[], &[]).read().is_err(), "a query of 60 s cannot hold a round of 90 s");
        let enough = layers(&folder, &[], &["network.query_deadline_ms=100000"]).read().unwrap();
        assert_eq!(enough.node.network().round_deadline.as_secs(), 90);
        std::fs::write(folder.path().join("consilium.toml"), "[node]\nname = \"north\"\n").unwrap();
        let error = layers(&folder, &[], &[]).read().unwrap_err();
        let messages: Vec<&str> = error.problems().iter().map(Problem::message).collect();
        assert!(messages.contains(&"`node.state` is missing"), "{messages:?}");
        assert!(messages.contains(&"`network.listen` is missing"), "{messages:?}");
    }

    #[test]
    fn words_need_no_quotes_and_control_characters_are_refused() {
        let folder = folder(&[]);
        let read = |value: &str| layers(&folder, &[("CONSILIUM_NODE__LOG__FILTER", value)], &[]).read();
        for (value, filter) in [("info,a=debug", "info,a=debug"), ("\"7\"", "7"), ("", ""), ("[x", "[x")] {
            assert_eq!(read(value).unwrap().node.log().filter, filter);
        }
        assert!(read("7").unwrap_err().to_string().contains("must be a string"));
        let error = read("a\u{1b}[31m\nb").unwrap_err();
        assert!(error.to_string().contains("is not plain text"), "{error}");
        assert!(!report(&folder, &error).contains('\u{1b}'));
    }

    #[test]
    fn a_folder_with_too_many_files_or_an_unreadable_one_is_refused() {
        let names: Vec<String> = (0..=DROP_INS_MAX).map(|number| format!("{number}.toml")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let folder = folder(&files);
        let path = folder.path().join("consilium.toml");
        assert!(matches!(Layers::open(&path), Err(ConfigError::TooMany { .. })));
        std::fs::remove_dir_all(folder.path().join(DROP_INS)).unwrap();
        std::fs::write(folder.path().join(DROP_INS), "").unwrap();
        assert!(matches!(Layers::open(&path), Err(ConfigError::Unreadable { .. })));
    }
}
