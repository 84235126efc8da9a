//! The tasks of a roster by kind: what a file has in one list, in the order of kinds.

use super::{EncodingsTask, HomomorphicTask, Kind, Task};
use serde::{Serialize, Serializer, ser::SerializeSeq};

/// What a file says after `kind`: which table of a task it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Computed by pairs.
    Paired(Kind),
    /// Computed by one owner.
    Homomorphic,
    /// Not computed: files of encodings are sent.
    Encodings,
}

impl Word {
    /// All of them with their names in a file.
    pub(super) const NAMES: [(&'static str, Self); 4] = [
        ("vote", Self::Paired(Kind::Vote)),
        ("one-class", Self::Paired(Kind::OneClass)),
        ("homomorphic", Self::Homomorphic),
        ("encodings", Self::Encodings),
    ];
}

impl Default for Word {
    fn default() -> Self {
        Self::Paired(Kind::default())
    }
}

/// All tasks, each kind in the order written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tasks {
    pub(super) paired: Vec<Task>,
    pub(super) homomorphic: Vec<HomomorphicTask>,
    pub(super) encodings: Vec<EncodingsTask>,
}

impl Tasks {
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    fn count(&self) -> usize {
        self.paired.len() + self.homomorphic.len() + self.encodings.len()
    }
}

/// One list, as a file has it.
impl Serialize for Tasks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count()))?;
        self.paired.iter().try_for_each(|task| list.serialize_element(task))?;
        self.homomorphic.iter().try_for_each(|task| list.serialize_element(task))?;
        self.encodings.iter().try_for_each(|task| list.serialize_element(task))?;
        list.end()
    }
}
