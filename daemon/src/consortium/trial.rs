//! A small consortium in memory, for tests.

use super::statement::{Statement, Version};
use super::verify::VerifiedRoster;
use crate::net::Identity;

/// Somebody with a key.
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) roles: &'static str,
    pub(super) identity: Identity,
}

impl Person {
    pub(super) fn new(name: &'static str, roles: &'static str) -> Self {
        Self { name, roles, identity: Identity::generate() }
    }

    fn table(&self, port: usize) -> String {
        format!(
            "\n[[member]]\nname = \"{}\"\npeer = \"{}\"\naddresses = [\"/ip4/127.0.0.1/tcp/{}\"]\nroles = [{}]\n",
            self.name,
            self.identity.peer_id(),
            4000 + port,
            self.roles
        )
    }
}

/// North and south own and compute, west owns, practice asks.
pub(super) fn people() -> [Person; 4] {
    [
        Person::new("north", "\"owner\", \"compute\""),
        Person::new("south", "\"owner\", \"compute\""),
        Person::new("west", "\"owner\""),
        Person::new("practice", "\"client\""),
    ]
}

/// The text of a roster with these members.
pub(super) fn text(members: &[&Person], more: &str) -> String {
    let tables: String = members.iter().enumerate().map(|(at, person)| person.table(at)).collect();
    format!("[consortium]\nname = \"Trial\"\n{tables}{more}")
}

/// A task of the first two, asked by the last.
pub(super) fn task(zero: &str, one: &str, client: &str) -> String {
    format!(
        "\n[[pair]]\nname = \"main\"\nzero = \"{zero}\"\none = \"{one}\"\n\n[[task]]\nname = \"digits\"\ntitle = \"Digits\"\n\
         pair = \"main\"\ninput = [4]\nclasses = [\"a\", \"b\"]\ninput_abs_max = 4\nowners = [\"north\", \"south\"]\n\
         clients = [\"{client}\"]\nrelease = {{ mechanism = \"exact\" }}\n"
    )
}

/// The founding version, signed by all of its members.
pub(super) fn founded(members: &[&Person], more: &str) -> VerifiedRoster {
    let text = text(members, more);
    let version = signed(Version::new(Statement::founding(&text, 7), text), members);
    VerifiedRoster::founding(version, None).unwrap()
}

/// The next version of a text, signed by some.
pub(super) fn next(before: &VerifiedRoster, text: String, signers: &[&Person]) -> Version {
    signed(Version::new(before.statement().next(&text, before.statement().at + 1), text), signers)
}

/// The same with these signatures.
pub(super) fn signed(mut version: Version, signers: &[&Person]) -> Version {
    for person in signers {
        version.sign(&person.identity);
    }
    version
}
