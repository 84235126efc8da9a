use super::{node, roster};
use crate::{
    EXAMPLE_NODE, EXAMPLE_ROSTER,
    document::{Document, Section, testing},
};
use jsonschema::Validator;
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};
use toml::de::DeTable;

struct Held {
    schema: Value,
    validator: Validator,
    example: &'static str,
    read: fn(&str) -> bool,
}

impl Held {
    fn both() -> [Self; 2] {
        let make = |schema: Value, example, read| Self {
            validator: jsonschema::validator_for(&schema).unwrap(),
            schema,
            example,
            read,
        };
        [
            make(node(), EXAMPLE_NODE, |text| testing::node(text).is_ok()),
            make(roster(), EXAMPLE_ROSTER, |text| testing::roster(text).is_ok()),
        ]
    }

    /// Whether the schema accepts; a text that is not TOML, nobody does.
    fn accepts(&self, text: &str) -> bool {
        toml::from_str::<Value>(text).is_ok_and(|value| self.validator.is_valid(&value))
    }

    fn edited(&self, from: &str, to: &str) -> String {
        testing::edited(self.example, from, to)
    }
}

/// Every key that a schema has.
fn keys(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        keys(&path, below, found);
        keys(&path, &below["items"], found);
        found.insert(path);
    }
}

fn asked<T>(example: &str, read: impl FnOnce(&Document, Section<'_>) -> Option<T>) -> BTreeSet<String> {
    let table = DeTable::parse(example).unwrap();
    let document = Document::default();
    assert!(read(&document, Section::root(&document, table.get_ref())).is_some());
    document.schema.into_inner()
}

#[test]
fn a_schema_has_the_keys_that_the_reader_asks_for() {
    let [of_node, of_roster] = Held::both();
    let of_schema = |held: &Held| {
        let mut found = BTreeSet::new();
        keys("", &held.schema, &mut found);
        found
    };
    let asked_of_node =
        asked(EXAMPLE_NODE, |document, root| crate::node::read_from(document, root, Path::new("")));
    assert_eq!(of_schema(&of_node), asked_of_node);
    // What a policy holds is the module's matter.
    let shallow = |keys: BTreeSet<String>| -> BTreeSet<String> {
        keys.into_iter().filter(|key| !key.starts_with("module.policy.")).collect()
    };
    assert_eq!(shallow(of_schema(&of_roster)), shallow(asked(EXAMPLE_ROSTER, crate::roster::read)));
}

#[test]
fn the_examples_are_accepted_and_unknown_keys_are_not() {
    for held in Held::both() {
        assert!(held.accepts(held.example));
        let headings: BTreeSet<&str> = held.example.lines().filter(|line| line.starts_with('[')).collect();
        for heading in headings.iter().filter(|heading| !heading.starts_with("[module.policy.")) {
            assert!(!held.accepts(&held.edited(heading, &format!("{heading}\nzzz = 1"))), "{heading}");
        }
        assert!(!held.accepts(&format!("zzz = 1\n{}", held.example)));
        assert!(!held.accepts(""));
    }
}

#[test]
fn what_the_reader_misses_the_schema_misses() {
    let mut needed = 0;
    for held in Held::both() {
        let lines = held.example.lines();
        let headed = lines.scan("", |heading, line| {
            *heading = if line.starts_with('[') { line } else { heading };
            Some((*heading, line))
        });
        // What a policy holds is the module's matter.
        let given = headed.filter(|(heading, line)| {
            line.contains(" = ") && !line.starts_with('#') && !heading.starts_with("[module.policy.")
        });
        for (_, line) in given {
            let text = held.edited(&format!("\n{line}\n"), "\n");
            let key = line.split(" = ").next().unwrap();
            if (held.read)(&text) {
                assert!(held.accepts(&text), "without {line}");
            } else if !held.accepts(&text) {
                needed += 1;
            } else {
                // What another value makes necessary, no schema of single values sees.
                let related = [
                    "sigma",
                    "kind",
                    "classes",
                    "shards",
                    "unit",
                    "size",
                    "window_center",
                    "window_width",
                    "window",
                    "low",
                    "slice",
                ];
                assert!(related.contains(&key), "the schema does not miss {line}");
            }
        }
    }
    assert!(needed > 20, "{needed}");
}

#[test]
fn single_values_out_of_bounds_are_refused_by_both() {
    let [of_node, of_roster] = Held::both();
    for (held, from, to) in [
        (&of_node, "name = \"north\"", "name = \"North\""),
        (&of_node, "name = \"north\"", "name = \"-north\""),
        (&of_node, "state = \"/var/lib/consilium\"", "state = \"\""),
        (&of_node, "/ip4/0.0.0.0/tcp/4710", "0.0.0.0:4710"),
        (&of_node, "listen = [", "listen = 3 #"),
        (&of_node, "dial_timeout_ms = 10000", "dial_timeout_ms = \"10s\""),
        (&of_node, "dial_timeout_ms = 10000", "dial_timeout_ms = 99"),
        (&of_node, "streams_per_peer_max = 64", "streams_per_peer_max = 513"),
        (&of_node, "transfers = \"auto\"", "transfers = \"automatic\""),
        (&of_node, "format = \"auto\"", "format = 1"),
        (&of_roster, "roles = [\"dealer\"]", "roles = [\"deeler\"]"),
        (&of_roster, "roles = [\"dealer\"]", "roles = []"),
        (&of_roster, "peer = \"12D3KooWD", "peer = \"O2D3KooWH"),
        (&of_roster, "input = [3]", "input = [3, 1]"),
        (&of_roster, "input = [3]", "input = [0]"),
        (&of_roster, "classes = [\"even\", \"odd\"]", "classes = [\"even\"]"),
        (&of_roster, "input_abs_max = 8.0", "input_abs_max = 0"),
        (&of_roster, "fraction_bits = 16", "fraction_bits = 21"),
        (&of_roster, "batch = 1", "batch = 65"),
        (&of_roster, "comparison = \"auto\"", "comparison = \"best\""),
        (&of_roster, "mechanism = \"laplace\"", "mechanism = \"laplacian\""),
        (&of_roster, "epsilon_per_answer = \"0.5\"", "epsilon_per_answer = 0.5"),
        (&of_roster, "delta = \"1e-6\"", "delta = \"-1e-6\""),
        (&of_roster, "\"exact\" }", "\"exact\", epsilon = \"1\" }"),
        (&of_roster, "epsilon_per_answer =", "sigma = \"1\"\nepsilon_per_answer ="),
        (&of_roster, "scale = [0.0625]", "scale = [0]"),
        (&of_roster, "resize = \"area\"", "resize = \"nearest\""),
        (&of_roster, "window_width = 17", "window_width = 0.5"),
        (&of_roster, "range = [0, 16]", "range = [0]"),
        (&of_roster, "slice = \"0.3\"", "slice = 0.3"),
        (&of_roster, "pair = \"second\"\nslice", "pair = \"Second\"\nslice"),
        (&of_roster, "colour = \"grey\"", "colour = \"gray\""),
        (&of_roster, "inputs_per_client_max = 1000", "inputs_per_client_max = 0"),
        (&of_roster, "inputs_per_client_max = 1000", "inputs_per_client_max = \"1000\""),
        (&of_roster, "owner = \"north\"", "owner = \"north\"\npair = \"main\""),
        (&of_roster, "owner = \"north\"", "owners = [\"north\"]"),
        (&of_roster, "input_min = 0", "input_min = \"0\""),
    ] {
        let text = held.edited(from, to);
        assert!(!(held.read)(&text), "the reader accepts {to}");
        assert!(!held.accepts(&text), "the schema accepts {to}");
    }
}

/// Puts the value of each key into each other key. What the reader accepts, the schema must not refuse.
#[test]
fn the_schema_never_refuses_what_the_reader_accepts() {
    let mut accepted = 0;
    for held in Held::both() {
        let lines: Vec<&str> = held.example.lines().collect();
        let given: Vec<usize> = (0..lines.len())
            .filter(|at| lines[*at].contains(" = ") && !lines[*at].starts_with('#'))
            .collect();
        for to in &given {
            let (key, _) = lines[*to].split_once(" = ").unwrap();
            let values: BTreeSet<&str> =
                given.iter().map(|at| lines[*at].split_once(" = ").unwrap().1).collect();
            for value in values.into_iter().chain(["0", "1", "2", "-1", "\"\"", "[]", "true", "4096", "1e-3"])
            {
                let mut edited = lines.clone();
                let line = format!("{key} = {value}");
                edited[*to] = &line;
                let text = edited.join("\n");
                if (held.read)(&text) {
                    accepted += 1;
                    assert!(held.accepts(&text), "{line}");
                }
            }
        }
    }
    assert!(accepted > 200, "{accepted}");
}
