//! One homomorphic task, as far as it can be judged alone.

use super::{Found, FoundList, InputDraft, plain};
use crate::{
    document::{Document, Section, value},
    limits::*,
    name::Name,
    roster::HomomorphicTask,
};
use toml::Spanned;

/// A homomorphic task as far as it could be read.
pub(in crate::roster) struct HomomorphicDraft {
    pub(in crate::roster) name: Found<Name>,
    title: Found<String>,
    pub(in crate::roster) owner: Found<Name>,
    pub(in crate::roster) clients: FoundList<Name>,
    pub(in crate::roster) input: InputDraft,
    pub(in crate::roster) input_min: Option<Option<Spanned<f64>>>,
    pub(in crate::roster) classes: FoundList<String>,
    inputs_per_client_max: Found<u64>,
}

/// Keys of tasks that a pair computes.
const OF_A_PAIR: [&str; 12] = [
    "pair",
    "standby",
    "release",
    "pool",
    "owners",
    "owners_min",
    "shards",
    "batch",
    "comparison",
    "fraction_bits",
    "value_bits",
    "distance_bits",
];

impl HomomorphicDraft {
    pub(super) fn read(document: &Document, mut section: Section<'_>) -> Self {
        let many = "inputs_per_client_max = 1000` with as many inputs as the owner answers for one client, ever, in \
                    place of `1000";
        let draft = Self {
            name: section.required("name", "name = \"digits-encrypted\"", value::parsed),
            title: section.required("title", "title = \"Handwritten digit, encrypted\"", value::label),
            owner: section.required("owner", "owner = \"north\"", value::parsed),
            clients: section.list("clients", "clients = [\"practice\"]", CLIENTS, value::parsed),
            classes: section.list("classes", "classes = [\"benign\", \"malignant\"]", CLASSES, value::label),
            input: InputDraft::read(document, &mut section),
            input_min: section
                .optional("input_min", |found| value::real(found, f64::from(1_u32 << VALUE_BITS.end()))),
            inputs_per_client_max: section
                .required("inputs_per_client_max", many, |found| value::whole(found, &INPUTS_PER_CLIENT)),
        };
        for key in OF_A_PAIR {
            let help = match key {
                "owners" => "name the one owner: `owner = \"north\"`",
                "release" => "take it out: the client learns all logits, exactly",
                _ => "take it out: one owner computes, under the client's key",
            };
            section.foreign(key, &format!("a homomorphic task has no `{key}`"), help);
        }
        section.finish();
        draft
    }

    pub(super) fn finish(self) -> Option<HomomorphicTask> {
        let input = self.input.finish()?;
        Some(HomomorphicTask {
            name: self.name?.into_inner(),
            title: self.title?.into_inner(),
            owner: self.owner?.into_inner(),
            clients: plain(self.clients)?,
            input: input.shape,
            classes: plain(self.classes)?,
            input_min: self.input_min?.map_or(-input.abs_max, Spanned::into_inner),
            input_abs_max: input.abs_max,
            inputs_per_client_max: self.inputs_per_client_max?.into_inner(),
            image: input.image,
            features: input.features,
        })
    }
}
