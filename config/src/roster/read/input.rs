//! What a task of any kind says of its input, as far as it can be judged alone.

use super::{Found, ImageDraft, plain};
use crate::{
    document::{Document, Section, value},
    error::{Problem, ValueError},
    limits::*,
    roster::{Features, Image},
};
use consilium_protocol::graph::Shape;
use toml::{Spanned, de::DeValue};

/// An input as far as it could be read.
pub(in crate::roster) struct InputDraft {
    pub(in crate::roster) shape: Found<Shape>,
    pub(in crate::roster) abs_max: Found<f64>,
    pub(in crate::roster) image: Option<ImageDraft>,
    pub(in crate::roster) features: Option<FeaturesDraft>,
}

/// An input of a task that can be used.
pub(super) struct Input {
    pub(super) shape: Shape,
    pub(super) abs_max: f64,
    pub(super) image: Option<Image>,
    pub(super) features: Option<Features>,
}

/// The normalisation of a task's input. An absent list is an inner `None`.
pub(in crate::roster) struct FeaturesDraft {
    pub(in crate::roster) names: Option<Option<Spanned<Vec<Spanned<String>>>>>,
    pub(in crate::roster) offset: Option<Option<Spanned<Vec<Spanned<f64>>>>>,
    pub(in crate::roster) scale: Option<Option<Spanned<Vec<Spanned<f64>>>>>,
}

impl InputDraft {
    pub(super) fn read(document: &Document, section: &mut Section<'_>) -> Self {
        let shape = shape(document, section);
        Self {
            abs_max: section.required("input_abs_max", "input_abs_max = 8", magnitude),
            image: ImageDraft::read(document, section.table("image"), &shape),
            features: FeaturesDraft::read(section.table("features")),
            shape,
        }
    }

    pub(super) fn finish(self) -> Option<Input> {
        let features = match self.features {
            Some(features) => Some(features.finish()?),
            None => None,
        };
        let image = match self.image {
            Some(draft) => Some(draft.image?),
            None => None,
        };
        Some(Input { shape: self.shape?.into_inner(), abs_max: self.abs_max?.into_inner(), image, features })
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

/// `[30]` or `[1, 28, 28]`.
fn shape(document: &Document, section: &mut Section<'_>) -> Found<Shape> {
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
