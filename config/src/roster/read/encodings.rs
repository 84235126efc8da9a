//! One task of encodings, as far as it can be judged alone.

use super::{Found, FoundList, plain};
use crate::{
    document::{Section, value},
    limits::HOSPITALS,
    name::Name,
    roster::EncodingsTask,
};
use toml::Spanned;

/// A task of encodings as far as it could be read.
pub(in crate::roster) struct EncodingsDraft {
    pub(in crate::roster) name: Found<Name>,
    title: Found<String>,
    pub(in crate::roster) hospitals: FoundList<Name>,
    lab: Found<bool>,
}

/// Keys of tasks in which something is computed.
const OF_OTHERS: [&str; 21] = [
    "pair",
    "standby",
    "release",
    "pool",
    "owner",
    "owners",
    "owners_min",
    "clients",
    "shards",
    "batch",
    "comparison",
    "fraction_bits",
    "value_bits",
    "distance_bits",
    "input",
    "input_min",
    "input_abs_max",
    "inputs_per_client_max",
    "classes",
    "image",
    "features",
];

impl EncodingsDraft {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let draft = Self {
            name: section.required("name", "name = \"encodings-lab\"", value::parsed),
            title: section.required("title", "title = \"Encodings of public images\"", value::label),
            hospitals: section.list(
                "hospitals",
                "hospitals = [\"north\", \"south\"]",
                HOSPITALS,
                value::parsed,
            ),
            lab: section.defaulted("lab", false, value::boolean),
        };
        for key in OF_OTHERS {
            let help = match key {
                "owner" | "owners" | "clients" => {
                    "write `hospitals = [\"north\", \"south\"]`: each of them sends and takes"
                }
                _ => "take it out: nothing is computed, files of encodings are sent",
            };
            section.foreign(key, &format!("a task of encodings has no `{key}`"), help);
        }
        section.finish();
        draft
    }

    pub(super) fn finish(self) -> Option<EncodingsTask> {
        Some(EncodingsTask {
            name: self.name?.into_inner(),
            title: self.title?.into_inner(),
            hospitals: plain(self.hospitals)?,
            lab: self.lab.map(Spanned::into_inner)?,
        })
    }
}
