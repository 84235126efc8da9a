//! What differs between the files that are in force and those on the disk, and when it counts.

use std::collections::BTreeSet;
use std::fmt;
use toml::{Table, Value};

/// Settings of the node file that a running node takes over. Every other one needs a restart, so that a setting
/// that is new here is never thought to be in force.
pub const LIVE: [&str; 3] = ["log.filter", "pool.bytes_max", "pool.refill_batch_queries"];

/// When a change counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// From the reload on.
    Now,
    /// From the reload on, for which the node begins anew within its process.
    Anew,
    /// From the next start on.
    Restart,
}

/// One setting that differs. Values are left out: the name says what to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place in the file, such as `pool.bytes_max` or `member.west.addresses`.
    pub key: String,
    /// When it counts.
    pub when: When,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Added,
    Removed,
    Moved,
    Changed,
}

impl Change {
    /// Whether a change of a roster takes nothing from anybody.
    fn is_gentle(&self) -> bool {
        let path: Vec<&str> = self.key.split('.').collect();
        match path.as_slice() {
            ["member" | "pair" | "task"] | ["member" | "pair" | "task", _] => self.how == How::Added,
            ["member", _, "addresses" | "organisation"] => true,
            ["task", _, "clients" | "owners" | "title"] | ["task", _, "pool", ..] => true,
            _ => false,
        }
    }

    /// The same, named with its file.
    pub(super) fn of(self, file: &str) -> Self {
        Self { key: format!("{file} {}", self.key), ..self }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        f.write_str(match self.how {
            How::Added => " (new)",
            How::Removed => " (removed)",
            How::Moved => " (in another order)",
            How::Changed => "",
        })
    }
}

/// All differences, in the order of their names. `live` names what counts at once.
pub fn changes(old: &Table, new: &Table, live: &[&str]) -> Vec<Change> {
    let mut found = Vec::new();
    tables("", old, new, &mut found);
    for change in &mut found {
        if change.how == How::Changed && live.contains(&change.key.as_str()) {
            change.when = When::Now;
        }
    }
    found
}

/// The same for a roster. Its digest covers all of it, so it is taken over as a whole or not at all: by a node that
/// begins anew where members, pairs and tasks were only added, or are met and asked otherwise; by a restart that
/// somebody orders where anything else has changed, such as what is promised to whom.
pub fn roster_changes(old: &Table, new: &Table) -> Vec<Change> {
    let mut found = changes(old, new, &[]);
    if found.iter().all(Change::is_gentle) {
        found.iter_mut().for_each(|change| change.when = When::Anew);
    }
    found
}

fn tables(place: &str, old: &Table, new: &Table, found: &mut Vec<Change>) {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let path = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        let note = |how| Change { key: path.clone(), when: When::Restart, how };
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => tables(&path, old, new, found),
            (Some(before), Some(after)) if before != after => match (named(before), named(after)) {
                (Some(before), Some(after)) => {
                    let count = found.len();
                    tables(&path, &before, &after, found);
                    if found.len() == count {
                        found.push(note(How::Moved));
                    }
                }
                _ => found.push(note(How::Changed)),
            },
            (None, Some(_)) => found.push(note(How::Added)),
            (Some(_), None) => found.push(note(How::Removed)),
            _ => {}
        }
    }
}

/// A list of tables that have names, such as the members, as a table by name.
fn named(value: &Value) -> Option<Table> {
    let entries = value.as_array()?;
    let named = |entry: &Value| Some((entry.get("name")?.as_str()?.to_owned(), entry.clone()));
    entries.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{EXAMPLE_NODE, EXAMPLE_ROSTER};

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn shown(old: &str, edits: &[(&str, &str)]) -> Vec<(String, When)> {
        let mut new = old.to_owned();
        for (from, to) in edits {
            assert!(new.contains(from), "{from}");
            new = new.replacen(from, to, 1);
        }
        let found = changes(&table(old), &table(&new), &LIVE);
        found.iter().map(|change| (change.to_string(), change.when)).collect()
    }

    #[test]
    fn each_setting_says_when_it_counts() {
        assert_eq!(shown(EXAMPLE_NODE, &[]), []);
        let edits = [
            ("filter = \"info\"", "filter = \"debug\""),
            ("bytes_max = 1073741824", "bytes_max = 2073741824"),
            ("tcp/4710", "tcp/4711"),
            ("relay = false", "relay = true"),
            ("[pool]", "[other]\nlisten = \"127.0.0.1:8080\"\n[pool]"),
        ];
        let expected = [
            ("log.filter", When::Now),
            ("network.listen", When::Restart),
            ("network.relay", When::Restart),
            ("other (new)", When::Restart),
            ("pool.bytes_max", When::Now),
        ];
        assert_eq!(shown(EXAMPLE_NODE, &edits), expected.map(|(key, when)| (key.to_owned(), when)));
    }

    #[test]
    fn what_is_live_is_in_the_example() {
        let example = table(EXAMPLE_NODE);
        for key in LIVE {
            let (section, name) = key.split_once('.').unwrap();
            assert!(example[section].get(name).is_some(), "{key}");
        }
    }

    #[test]
    fn members_and_tasks_are_told_apart_by_name() {
        let east = "[[member]]\nname = \"east\"\nroles = [\"client\"]\n\n[[member]]\nname = \"south\"";
        let edits = [
            ("[[member]]\nname = \"south\"", east),
            ("clients = [\"north\", \"south\", \"practice\"]", "clients = [\"north\"]"),
            ("low = 16", "low = 17"),
        ];
        let found = shown(EXAMPLE_ROSTER, &edits);
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        let expected = ["member.east (new)", "task.breast-cancer.clients", "task.breast-cancer.pool.low"];
        assert_eq!(keys, expected);
        assert!(found.iter().all(|(_, when)| *when == When::Restart));
        let two = "[[member]]\nname = 'a'\n[[member]]\nname = 'b'";
        let turned = "[[member]]\nname = 'b'\n[[member]]\nname = 'a'";
        let found = changes(&table(two), &table(turned), &LIVE);
        assert_eq!(found[0].to_string(), "member (in another order)");
    }

    #[test]
    fn a_roster_is_taken_over_where_it_takes_nothing_from_anybody() {
        let whens = |edits: &[(&str, &str)]| {
            let new = edits.iter().fold(EXAMPLE_ROSTER.to_owned(), |text, (from, to)| {
                assert!(text.contains(from), "{from}");
                text.replacen(from, to, 1)
            });
            let found = roster_changes(&table(EXAMPLE_ROSTER), &table(&new));
            found.iter().map(|change| change.when).collect::<Vec<_>>()
        };
        let east = "[[member]]\nname = \"east\"\nroles = [\"client\"]\n\n[[member]]\nname = \"south\"";
        let joined = [
            ("[[member]]\nname = \"south\"", east),
            ("clients = [\"north\", \"south\", \"practice\"]", "clients = [\"north\", \"east\"]"),
            ("low = 16", "low = 17"),
            ("192.0.2.10/tcp/4710", "192.0.2.10/tcp/4711"),
        ];
        assert_eq!(whens(&joined), [When::Anew; 4]);
        for harsh in [
            ("sigma = \"2\"", "sigma = \"3\""),
            ("owners_min = 2", "owners_min = 3"),
            ("slice = \"0.3\"", "slice = \"0.4\""),
            ("\"dealer\"]", "\"owner\"]"),
        ] {
            assert_eq!(whens(&[harsh]), [When::Restart], "{harsh:?}");
            assert_eq!(whens(&[joined[0], harsh]), [When::Restart; 2], "as a whole or not at all");
        }
    }
}
