//! How many inputs each client had answered, on the disk before it is answered.
//!
//! A count belongs to a task and a client by their names in the roster. It outlives models, plans and keys, and nothing
//! lowers it: an input that was reserved counts, whether its answer arrived or not.

use crate::message::{Obstacle, Refusal};
use crate::vault::{Kind, Store, StoreError};
use redb::{ReadableTable, TableDefinition};
use std::path::Path;

const KIND: Kind = Kind { name: "consilium answered inputs", version: 1 };
const ANSWERED: TableDefinition<'static, (&'static str, &'static str), u64> =
    TableDefinition::new("answered inputs");

/// The counts of one owner, open. All methods block on the disk.
pub(super) struct Books {
    store: Store,
}

/// Counts of one client after a reservation, or as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// Inputs counted.
    pub(super) counted: u64,
    /// Inputs that are left.
    pub(super) left: u64,
}

impl Count {
    fn new(counted: u64, most: u64) -> Self {
        Self { counted, left: most.saturating_sub(counted) }
    }
}

impl Books {
    /// Creates empty books.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Exists`] where there are some.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let store = Store::create(path, KIND, |transaction| {
            transaction.open_table(ANSWERED)?;
            Ok(())
        })?;
        Ok(Self { store })
    }

    /// Opens the books.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Missing`] where there are none.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { store: Store::open(path, KIND)? })
    }

    /// What is counted for a client of a task, of `most`.
    ///
    /// # Errors
    /// [`Obstacle::Local`].
    pub(super) fn count(&self, task: &str, client: &str, most: u64) -> Result<Count, Refusal> {
        let failed = |error: redb::Error| local(&self.store.failed("read", error));
        let read = self.store.read().map_err(|error| local(&error))?;
        let table = read.open_table(ANSWERED).map_err(|error| failed(error.into()))?;
        let row = table.get((task, client)).map_err(|error| failed(error.into()))?;
        Ok(Count::new(row.map_or(0, |row| row.value()), most))
    }

    /// Counts further inputs, durably when this returns, unless there would be more than `most`.
    ///
    /// # Errors
    /// [`Obstacle::Inputs`], [`Obstacle::Local`]; then nothing is counted.
    pub(super) fn reserve(&self, task: &str, client: &str, inputs: u64, most: u64) -> Result<Count, Refusal> {
        let transaction = self.store.begin().map_err(|error| local(&error))?;
        let counted = (|| -> Result<Option<u64>, redb::Error> {
            let mut table = transaction.open_table(ANSWERED)?;
            let before = table.get((task, client))?.map_or(0, |row| row.value());
            let after = before.checked_add(inputs).filter(|after| *after <= most);
            if let Some(after) = after {
                table.insert((task, client), after)?;
            }
            Ok(after)
        })();
        match counted.map_err(|error| local(&self.store.failed("write", error)))? {
            Some(after) => {
                self.store.commit(transaction).map_err(|error| local(&error))?;
                Ok(Count::new(after, most))
            }
            None => Err(spent(task, client, inputs, self.count(task, client, most)?)),
        }
    }

    /// What is counted for a task, by client.
    ///
    /// # Errors
    /// [`Obstacle::Local`].
    pub(super) fn of_task(&self, task: &str, most: u64) -> Result<Vec<(String, Count)>, Refusal> {
        let failed = |error: redb::Error| local(&self.store.failed("read", error));
        let read = self.store.read().map_err(|error| local(&error))?;
        let table = read.open_table(ANSWERED).map_err(|error| failed(error.into()))?;
        let mut counts = Vec::new();
        for row in table.range((task, "")..).map_err(|error| failed(error.into()))? {
            let (key, counted) = row.map_err(|error| failed(error.into()))?;
            let (of, client) = key.value();
            if of != task {
                break;
            }
            counts.push((client.to_owned(), Count::new(counted.value(), most)));
        }
        Ok(counts)
    }
}

/// More inputs than are left.
pub(super) fn spent(task: &str, client: &str, inputs: u64, Count { counted, left }: Count) -> Refusal {
    let text = format!(
        "{client} has had {counted} inputs of task {task} answered and {left} are left, which {inputs} more would pass; \
         `inputs_per_client_max` of the roster is the owner's protection, and only another roster raises it"
    );
    Refusal::new(Obstacle::Inputs, text)
}

fn local(error: &StoreError) -> Refusal {
    Refusal::new(Obstacle::Local, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_to_the_limit_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.redb");
        let books = Books::create(&path).unwrap();
        let count = |counted, left| Count { counted, left };
        assert_eq!(books.count("digits", "a", 10).unwrap(), count(0, 10));
        assert_eq!(books.reserve("digits", "a", 4, 10).unwrap(), count(4, 6));
        assert_eq!(books.reserve("digits", "b", 1, 10).unwrap(), count(1, 9));
        assert_eq!(books.reserve("digit", "a", 2, 10).unwrap(), count(2, 8));
        let refusal = books.reserve("digits", "a", 7, 10).unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Inputs);
        assert!(
            refusal.explanation.contains("4 inputs") && refusal.explanation.contains("6 are left"),
            "{refusal}"
        );
        assert_eq!(books.reserve("digits", "a", u64::MAX, 10).unwrap_err().obstacle, Obstacle::Inputs);
        assert_eq!(books.reserve("digits", "a", 6, 10).unwrap(), count(10, 0));
        drop(books);
        assert!(matches!(Books::create(&path), Err(StoreError::Exists { .. })));
        let books = Books::open(&path).unwrap();
        assert_eq!(books.reserve("digits", "a", 1, 10).unwrap_err().obstacle, Obstacle::Inputs);
        assert_eq!(books.count("digits", "a", 3).unwrap(), count(10, 0), "a lower limit leaves nothing");
        let listed = books.of_task("digits", 10).unwrap();
        assert_eq!(listed, [("a".to_owned(), count(10, 0)), ("b".to_owned(), count(1, 9))]);
        assert_eq!(books.of_task("none", 10).unwrap(), []);
    }

    #[test]
    fn books_that_are_gone_are_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let opened = Books::open(&folder.path().join("counts.redb"));
        assert!(matches!(opened, Err(StoreError::Missing { .. })));
    }
}
