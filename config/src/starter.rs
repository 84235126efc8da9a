//! The first node file of a member: the commented example with what is known of the member filled in.

use crate::{Address, ConfigError, EXAMPLE_NODE, Name, Node, Role};
use std::path::{Path, PathBuf};

/// What must be known for a node file. All other keys have their defaults, shown and commented out.
#[derive(Clone, Debug)]
pub struct Start {
    /// The member's name.
    pub name: Name,
    /// What the member does, which decides whether it listens.
    pub role: Role,
    /// Folder of all durable state.
    pub state: PathBuf,
    /// The roster file, where it is not beside the node file.
    pub roster: Option<PathBuf>,
    /// Where to listen; `None` for what the role needs.
    pub listen: Option<Vec<Address>>,
}

/// The state folder of the service unit, which has a folder for sockets too.
const SERVICE_STATE: &str = "/var/lib/consilium";
/// Where a member listens that others must reach.
const LISTEN: &str = "[\"/ip4/0.0.0.0/tcp/4710\"]";

impl Start {
    /// The text of the file. It reads back without a problem.
    ///
    /// # Errors
    /// [`ConfigError`] for a path that no settings file can hold.
    pub fn text(&self) -> Result<String, ConfigError> {
        let reached = matches!(self.role, Role::Compute | Role::Dealer);
        let mut text = format!(
            "# The node of a member with the role `{}`{}.\n# Keys behind a `#` have their defaults; take the mark \
             away to change one.\n\n",
            self.role,
            if reached {
                ", which others must be able to reach"
            } else {
                ", which dials and need not be reached"
            }
        );
        let mut section = "";
        for line in EXAMPLE_NODE.lines() {
            if let Some(heading) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = heading;
            }
            let written = match line.split_once(" = ") {
                Some((key, _)) if !line.starts_with('#') => match self.value(section, key, reached)? {
                    Some(value) => format!("{key} = {value}"),
                    None => format!("# {line}"),
                },
                _ => line.to_owned(),
            };
            text.push_str(&written);
            text.push('\n');
        }
        // The folder does not matter for what is checked here.
        Node::parse("consilium.toml", &text, Path::new("/"))?;
        Ok(text)
    }

    /// The value of a key that is not left at its default.
    fn value(&self, section: &str, key: &str, reached: bool) -> Result<Option<String>, ConfigError> {
        Ok(match (section, key) {
            ("node", "name") => Some(quoted(self.name.as_str())),
            ("node", "state") => Some(path(&self.state)?),
            ("node", "roster") => self.roster.as_deref().map(path).transpose()?,
            ("network", "listen") => Some(match &self.listen {
                Some(addresses) => {
                    let each: Vec<String> = addresses.iter().map(|one| quoted(one.as_str())).collect();
                    format!("[{}]", each.join(", "))
                }
                None if reached => LISTEN.to_owned(),
                None => "[]".to_owned(),
            }),
            ("admin", "socket") if self.state == Path::new(SERVICE_STATE) => {
                Some(quoted("/run/consilium/admin.sock"))
            }
            _ => None,
        })
    }
}

fn path(path: &Path) -> Result<String, ConfigError> {
    let text = path.to_str().ok_or_else(|| ConfigError::NotText { file: path.display().to_string() })?;
    Ok(quoted(text))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, Network, Pools};

    fn start(role: Role, state: &str) -> Start {
        Start { name: "north".parse().unwrap(), role, state: state.into(), roster: None, listen: None }
    }

    #[test]
    fn every_role_gets_a_file_that_reads_back() {
        for role in [Role::Owner, Role::Client, Role::Compute, Role::Dealer] {
            let text = start(role, "/srv/north").text().unwrap();
            let node = Node::parse("consilium.toml", &text, Path::new("/etc/consilium")).unwrap();
            assert_eq!(node.name().as_str(), "north");
            assert_eq!(node.place().state, Path::new("/srv/north"));
            assert_eq!(node.place().identity, Path::new("/srv/north/identity.key"));
            assert_eq!(node.place().roster, Path::new("/etc/consilium/roster.toml"));
            assert_eq!(node.admin().socket, Path::new("/srv/north/admin.sock"));
            let reached = matches!(role, Role::Compute | Role::Dealer);
            assert_eq!(!node.network().listen.is_empty(), reached, "{role}");
            let listen = node.network().listen.clone();
            assert_eq!(node.network(), &Network { listen, ..Network::default() });
            assert_eq!((node.pools(), node.log()), (&Pools::default(), &Log::default()));
            assert!(text.contains(&format!("role `{role}`")));
        }
    }

    #[test]
    fn every_key_of_the_example_is_shown() {
        let text = start(Role::Owner, "/srv/north").text().unwrap();
        let bare: String = text.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
        for line in EXAMPLE_NODE.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
            let key = line.split(" = ").next().unwrap();
            assert!(bare.contains(&format!("\n{key} = ")), "{key}");
        }
    }

    #[test]
    fn the_service_has_its_socket_in_run_and_odd_paths_are_quoted() {
        let text = start(Role::Compute, SERVICE_STATE).text().unwrap();
        assert!(text.contains("\nsocket = \"/run/consilium/admin.sock\"\n"));
        let odd = Start {
            roster: Some("/a \"b\"/r.toml".into()),
            listen: Some(vec!["/ip6/::1/tcp/7".parse().unwrap()]),
            ..start(Role::Owner, "/srv/a\\b")
        };
        let node = Node::parse("f", &odd.text().unwrap(), Path::new("/")).unwrap();
        assert_eq!(node.place().roster, Path::new("/a \"b\"/r.toml"));
        assert_eq!(node.place().state, Path::new("/srv/a\\b"));
        assert_eq!(node.network().listen.len(), 1);
    }
}
