//! One task, as far as it can be judged alone.

use super::release::{self, ReleaseDraft};
use super::{Found, FoundList, ImageDraft, StandbyDraft, plain};
use crate::{
    document::{Document, Section, value},
    error::{Problem, ValueError},
    limits::*,
    name::Name,
    roster::{Comparison, Features, Kind, NOBODY, Stock, Task},
};
use consilium_protocol::graph::Shape;
use toml::{Spanned, de::DeValue};

/// A task as far as it could be read.
pub(in crate::roster) struct TaskDraft {
    pub(in crate::roster) name: Found<Name>,
    title: Found<String>,
    pub(in crate::roster) kind: Found<Kind>,
    pub(in crate::roster) pair: Found<Name>,
    pub(in crate::roster) input: Found<Shape>,
    pub(in crate::roster) classes: FoundList<String>,
    pub(in crate::roster) input_abs_max: Found<f64>,
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
    pub(in crate::roster) image: Option<ImageDraft>,
    pub(in crate::roster) features: Option<FeaturesDraft>,
    pub(in crate::roster) release: Option<ReleaseDraft>,
}

/// The watermarks of a task's stock.
pub(in crate::roster) struct StockDraft {
    pub(in crate::roster) low: Found<u32>,
    pub(in crate::roster) high: Found<u32>,
}

/// The normalisation of a task's input. An absent list is an inner `None`.
pub(in crate::roster) struct FeaturesDraft {
    pub(in crate::roster) names: Option<Option<Spanned<Vec<Spanned<String>>>>>,
    pub(in crate::roster) offset: Option<Option<Spanned<Vec<Spanned<f64>>>>>,
    pub(in crate::roster) scale: Option<Option<Spanned<Vec<Spanned<f64>>>>>,
}

impl TaskDraft {
    pub(super) fn read(document: &Document, mut section: Section<'_>) -> Self {
        let place = section.place();
        let shards = section.defaulted("shards", 1, |found| value::whole(found, &SHARDS));
        let input = input(document, &mut section);
        let kind = section.defaulted("kind", Kind::default(), |found| value::choice(found, &Kind::NAMES));
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
            input_abs_max: section.required("input_abs_max", "input_abs_max = 8", magnitude),
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
            image: ImageDraft::read(document, section.table("image"), &input),
            features: FeaturesDraft::read(section.table("features")),
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
        let features = match self.features {
            Some(features) => Some(features.finish()?),
            None => None,
        };
        let image = match self.image {
            Some(draft) => Some(draft.image?),
            None => None,
        };
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
            input: self.input?.into_inner(),
            classes: plain(self.classes)?,
            input_abs_max: self.input_abs_max?.into_inner(),
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
            image,
            features,
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

impl FeaturesDraft {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let present = section.is_present();
        let counts = 1..=*INPUT_VALUES.end() as usize;
        let real = |found: &DeValue<'_>| value::real(found, FEATURE_MAGNITUDE_MAX);
        let names = section.optional_list("names", counts.clone(), value::label);
        let offset = section.optional_list("offset", counts.clone(), real);
        let scale = section.optional_list("scale", counts, |found| match real(found)? {
            0.0 => Err(ValueError::new("a number other than zero", value::kind(found))),
            scale => Ok(scale),
        });
        section.finish();
        present.then_some(Self { names, offset, scale })
    }

    fn finish(self) -> Option<Features> {
        let list = |given: Option<Spanned<Vec<Spanned<f64>>>>, neutral: f64| match given {
            Some(values) => plain(Some(values)),
            None => Some(vec![neutral]),
        };
        let names = match self.names? {
            Some(names) => plain(Some(names))?,
            None => Vec::new(),
        };
        Some(Features { names, offset: list(self.offset?, 0.0)?, scale: list(self.scale?, 1.0)? })
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

/// `[30]` or `[1, 28, 28]`.
fn input(document: &Document, section: &mut Section<'_>) -> Found<Shape> {
    let line = "input = [30]` for a vector or, for channels, rows and columns, `input = [1, 28, 28]";
    let sides = section.list("input", line, 1..=3, |found| value::whole(found, &INPUT_VALUES))?;
    let span = sides.span();
    let refuse = |message: String, found: String| {
        document.report(|| {
            let help = "write `[30]` for a vector, `[1, 28, 28]` for channels, rows, columns".to_owned();
            Problem::new(message).at(span.clone(), found).help(help)
        });
        None
    };
    let sides: Vec<u32> = sides.into_inner().into_iter().map(Spanned::into_inner).collect();
    let shape = match *sides {
        [features] => Shape::vector(features),
        [channels, height, width] => Shape { channels, height, width },
        _ => return refuse("an input has one size or three".to_owned(), format!("found {}", sides.len())),
    };
    if shape.len() > *INPUT_VALUES.end() as usize {
        let message = format!("an input has at most {} values", INPUT_VALUES.end());
        return refuse(message, format!("{} values", shape.len()));
    }
    Some(Spanned::new(span, shape))
}

fn magnitude(found: &DeValue<'_>) -> Result<f64, ValueError> {
    let most = f64::from(1_u32 << VALUE_BITS.end());
    match value::real(found, most)? {
        positive if positive > 0.0 => Ok(positive),
        _ => Err(ValueError::new("a number above zero", value::kind(found))),
    }
}
