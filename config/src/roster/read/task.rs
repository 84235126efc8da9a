//! One task of compute parties, as far as it can be judged alone.

use super::release::{self, ReleaseDraft};
use super::{Found, FoundList, InputDraft, StandbyDraft, plain};
use crate::{
    document::{Document, Section, value},
    limits::*,
    name::Name,
    roster::{Comparison, Kind, NOBODY, Stock, Task},
};
use toml::Spanned;

/// A task as far as it could be read.
pub(in crate::roster) struct TaskDraft {
    pub(in crate::roster) name: Found<Name>,
    title: Found<String>,
    pub(in crate::roster) kind: Found<Kind>,
    pub(in crate::roster) pair: Found<Name>,
    pub(in crate::roster) input: InputDraft,
    pub(in crate::roster) classes: FoundList<String>,
    pub(in crate::roster) fraction_bits: Found<u32>,
    pub(in crate::roster) value_bits: Found<u32>,
    /// Only of a one-class task.
    pub(in crate::roster) distance_bits: Option<Option<Spanned<u32>>>,
    pub(in crate::roster) owners: FoundList<Name>,
    pub(in crate::roster) clients: FoundList<Name>,
    pub(in crate::roster) owners_min: Found<u32>,
    pub(in crate::roster) shards: Found<u32>,
    pub(in crate::roster) batch: Found<u32>,
    pub(in crate::roster) comparison: Found<Comparison>,
    pub(in crate::roster) stock: StockDraft,
    pub(in crate::roster) standby: Option<Vec<StandbyDraft>>,
    pub(in crate::roster) release: Option<ReleaseDraft>,
}

/// The watermarks of a task's stock.
pub(in crate::roster) struct StockDraft {
    pub(in crate::roster) low: Found<u32>,
    pub(in crate::roster) high: Found<u32>,
}

impl TaskDraft {
    pub(super) fn read(document: &Document, mut section: Section<'_>, kind: Found<Kind>) -> Self {
        let place = section.place();
        let shards = section.defaulted("shards", 1, |found| value::whole(found, &SHARDS));
        let input = InputDraft::read(document, &mut section);
        // Where the kind cannot be read that is told, and not that classes are missing, which depends on it.
        let may_lack_classes = kind.as_ref().is_none_or(|kind| *kind.get_ref() == Kind::OneClass);
        let owners = section.list("owners", "owners = [\"north\", \"south\"]", OWNERS, value::parsed);
        let classes = if may_lack_classes {
            section
                .optional_list("classes", CLASSES, value::label)
                .and_then(|given| given.or_else(|| users(&owners)))
        } else {
            section.list("classes", "classes = [\"benign\", \"malignant\"]", CLASSES, value::label)
        };
        let distance_bits = section.optional("distance_bits", |found| value::whole(found, &DISTANCE_BITS));
        let draft = Self {
            name: section.required("name", "name = \"breast-cancer\"", value::parsed),
            title: section.required("title", "title = \"Malignant or benign\"", value::label),
            pair: section.required("pair", "pair = \"main\"", value::parsed),
            fraction_bits: section
                .defaulted("fraction_bits", 16, |found| value::whole(found, &FRACTION_BITS)),
            value_bits: section.defaulted("value_bits", 12, |found| value::whole(found, &VALUE_BITS)),
            clients: section.list("clients", "clients = [\"north\"]", CLIENTS, value::parsed),
            owners_min: section.defaulted("owners_min", 2, |found| value::whole(found, &OWNERS_MIN)),
            batch: section.defaulted("batch", 1, |found| value::whole(found, &BATCH_QUERIES)),
            comparison: section.defaulted("comparison", Comparison::default(), |found| {
                value::choice(found, &Comparison::NAMES)
            }),
            stock: StockDraft::read(section.table("pool")),
            standby: StandbyDraft::read_all(&mut section),
            release: release::release(document, section.table("release"), &place, &shards),
            input,
            shards,
            kind,
            classes,
            distance_bits,
            owners,
        };
        section.finish();
        draft
    }

    pub(super) fn finish(self) -> Option<Task> {
        let input = self.input.finish()?;
        let kind = self.kind?.into_inner();
        let distance_bits = self.distance_bits?.map(Spanned::into_inner);
        Some(Task {
            name: self.name?.into_inner(),
            title: self.title?.into_inner(),
            kind,
            distance_bits: match kind {
                Kind::Vote => None,
                Kind::OneClass => Some(distance_bits.unwrap_or(DISTANCE_BITS_DEFAULT)),
            },
            pair: self.pair?.into_inner(),
            input: input.shape,
            classes: plain(self.classes)?,
            input_abs_max: input.abs_max,
            fraction_bits: self.fraction_bits?.into_inner(),
            value_bits: self.value_bits?.into_inner(),
            owners: plain(self.owners)?,
            clients: plain(self.clients)?,
            owners_min: self.owners_min?.into_inner(),
            shards: self.shards?.into_inner(),
            batch_queries: self.batch?.into_inner(),
            comparison: self.comparison?.into_inner(),
            standby: self.standby?.into_iter().map(StandbyDraft::finish).collect::<Option<_>>()?,
            stock: Stock { low: self.stock.low?.into_inner(), high: self.stock.high?.into_inner() },
            image: input.image,
            features: input.features,
            release: self.release?.release,
        })
    }
}

impl StockDraft {
    fn read(mut section: Section<'_>) -> Self {
        let default = Stock::default();
        let low = section.defaulted("low", default.low, |found| value::whole(found, &STOCK_QUERIES));
        let high = section.defaulted("high", default.high, |found| value::whole(found, &STOCK_QUERIES));
        section.finish();
        Self { low, high }
    }
}

/// Distances up to a million: 784 values of an image that are off by 36 each.
const DISTANCE_BITS_DEFAULT: u32 = 20;

/// The labels of a one-class task whose file leaves them out.
fn users(owners: &FoundList<Name>) -> FoundList<String> {
    let owners = owners.as_ref()?;
    let named = owners.get_ref().iter().map(|owner| Spanned::new(owner.span(), owner.get_ref().to_string()));
    let nobody = Spanned::new(owners.span(), NOBODY.to_owned());
    Some(Spanned::new(owners.span(), named.chain([nobody]).collect()))
}
