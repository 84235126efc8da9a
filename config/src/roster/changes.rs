//! What differs between two rosters, for those who are to sign the newer one.

use super::{Member, Pair, Roster, Seats, Task};
use crate::{
    error::ConfigError,
    fraction::Fraction,
    name::{Name, PeerName},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Where it stands, such as `member north: roles`.
    pub at: String,
    /// What it was, as in the file; `None` for something new.
    pub before: Option<String>,
    /// What it is to be; `None` for something removed.
    pub after: Option<String>,
}

/// The keys that hold a member's shares in a task, in the order of its pairs: both parties and the dealer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients(Vec<(PeerName, PeerName, Option<PeerName>)>);

/// The pairs that keep the books of a task with a budget, in order: name, keys of both parties, slice. A book belongs
/// to a name and two keys; under any other it would begin with nothing spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spenders(Vec<(Name, PeerName, PeerName, Option<Fraction>)>);

impl Roster {
    /// Every value that differs in `newer`, in the order of the places' names. Comments and layout do not count.
    pub fn changes_to(&self, newer: &Self) -> Vec<Change> {
        let (mut before, mut after) = (flat(self), flat(newer));
        let places: std::collections::BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
        let mut changes = Vec::new();
        for at in places {
            let (before, after) = (before.remove(&at), after.remove(&at));
            if before != after {
                changes.push(Change { at, before, after });
            }
        }
        if changes.is_empty() && self.digest() != newer.digest() {
            let order = |text: &str| Some(text.to_owned());
            changes.push(Change {
                at: "tables".to_owned(),
                before: order("as written"),
                after: order("in another order"),
            });
        }
        changes
    }

    /// Who gets the shares of a member, by task: the keys of all compute parties and dealers of each task in which the
    /// member with this key owns a model or asks.
    pub fn recipients(&self, peer: &str) -> BTreeMap<Name, Recipients> {
        let named =
            |name: &Name| self.member(name.as_str()).is_some_and(|member| member.peer.as_str() == peer);
        let mine = self.tasks.paired.iter().filter(|task| task.owners.iter().chain(&task.clients).any(named));
        let keys = |task: &Task| {
            let key = |member: &Member| member.peer.clone();
            let seats = self.seats_of(task).unwrap_or_default().into_iter();
            Recipients(
                seats.map(|(_, seats)| (key(seats.zero), key(seats.one), seats.dealer.map(key))).collect(),
            )
        };
        mine.map(|task| (task.name.clone(), keys(task))).collect()
    }

    /// Tasks whose shares of a member would go to others than `before` has: to keys that the member, when it last had
    /// the task, did not send to. A task that is new to the member is none of them.
    pub fn tasks_moved(&self, before: &BTreeMap<Name, Recipients>, peer: &str) -> Vec<Name> {
        let moved = |(name, now): &(Name, Recipients)| before.get(name).is_some_and(|known| known != now);
        self.recipients(peer).into_iter().filter(moved).map(|(name, _)| name).collect()
    }

    /// Who spends the budget of each task that has one.
    pub fn spenders(&self) -> BTreeMap<Name, Spenders> {
        let with_budget = self.tasks.paired.iter().filter(|task| task.release.terms().is_some());
        let spenders = |task: &Task| {
            let seats = self.seats_of(task).unwrap_or_default().into_iter();
            let spender = |(pair, seats): (&Pair, Seats<'_>)| {
                let slice = task.slice_of(pair.name.as_str());
                (pair.name.clone(), seats.zero.peer.clone(), seats.one.peer.clone(), slice)
            };
            Spenders(seats.map(spender).collect())
        };
        with_budget.map(|task| (task.name.clone(), spenders(task))).collect()
    }

    /// A roster's text with one member more, comments and layout kept where the text allows it.
    ///
    /// # Errors
    /// [`ConfigError`] where the member does not fit, or the text is no roster.
    pub fn text_with_member(text: &str, member: &Member) -> Result<String, ConfigError> {
        #[derive(Serialize)]
        struct Addition<'m> {
            member: [&'m Member; 1],
        }
        let file = "roster.toml";
        let table = toml::to_string(&Addition { member: [member] });
        let table = table.expect("names, addresses and words always have a TOML form");
        let longer = format!("{}\n\n{table}", text.trim_end());
        if Self::parse(file, &longer).is_ok() {
            return Ok(longer);
        }
        // Where the members are written as one list, a table cannot be added below.
        let mut roster = Self::parse(file, text)?;
        roster.members.push(member.clone());
        let whole = roster.to_toml();
        Self::parse(file, &whole).map(|_| whole)
    }
}

/// Every value of a roster by its place.
fn flat(roster: &Roster) -> BTreeMap<String, String> {
    let table =
        Table::try_from(roster).expect("strings, small whole numbers and floats always have a TOML form");
    let mut places = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Array(tables) => {
                for (at, table) in tables.into_iter().enumerate() {
                    let name =
                        table.get("name").and_then(Value::as_str).map_or(at.to_string(), str::to_owned);
                    collect(&format!("{key} {name}"), table, &mut places);
                }
            }
            other => collect(&key, other, &mut places),
        }
    }
    places
}

/// Tables open, everything else is a value.
fn collect(place: &str, value: Value, places: &mut BTreeMap<String, String>) {
    let Value::Table(table) = value else {
        places.insert(place.to_owned(), value.to_string());
        return;
    };
    for (key, value) in table {
        let separator = if place.contains(':') || !place.contains(' ') { "." } else { ": " };
        collect(&format!("{place}{separator}{key}"), value, places);
    }
}
