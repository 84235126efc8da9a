//! What a task of any kind says of its input.

use super::unique;
use crate::{document::Document, error::Problem, roster::read::InputDraft};
use std::ops::Range;

/// `least` is the least value of an input where that is not the largest one with another sign.
pub(super) fn input(document: &Document, input: &InputDraft, least: Option<f64>) {
    image(document, input, least);
    features(document, input);
}

/// The values of an image fill the input, and are allowed in it.
fn image(document: &Document, task: &InputDraft, least: Option<f64>) {
    let (Some(draft), Some(input)) = (&task.image, &task.shape) else { return };
    let Some(image) = &draft.image else { return };
    let values = input.get_ref().len();
    if image.values() != values as u64 {
        let (channels, rows, columns) = (image.colour.channels(), image.rows, image.columns);
        document.report(|| {
            Problem::new("an image does not fill the input")
                .at(draft.place.clone(), format!("{channels} channels of {rows} rows and {columns} columns"))
                .at(input.span(), format!("{values} values"))
                .help(
                    "set `size` to rows and columns, and `colour` to \"grey\" (1 channel) or \"rgb\" (3)"
                        .to_owned(),
                )
        });
    }
    if let (None, Some(bound), Some(range)) = (&task.features, &task.abs_max, &draft.range)
        && (image.low.abs().max(image.high.abs()) > *bound.get_ref()
            || least.is_some_and(|least| image.low < least))
    {
        document.report(|| {
            let bounds = match least {
                Some(least) => format!("inputs from {least} to {}", bound.get_ref()),
                None => format!("inputs up to {}", bound.get_ref()),
            };
            let message = match least {
                Some(_) => "values of an image are outside of what any input may be",
                None => "values of an image are larger than any input may be",
            };
            Problem::new(message)
                .at(range.clone(), format!("from {} to {}", image.low, image.high))
                .at(bound.span(), bounds)
                .help("lower `range`, raise `input_abs_max`, or normalise by `[task.features]`".to_owned())
        });
    }
}

fn features(document: &Document, task: &InputDraft) {
    let (Some(features), Some(input)) = (&task.features, &task.shape) else { return };
    let values = input.get_ref().len();
    let report = |key: &str, span: Range<usize>, found: usize, or_one: &str| {
        document.report(|| {
            Problem::new(format!("`{key}` does not match the input"))
                .at(span, format!("{found} of them"))
                .at(input.span(), format!("{values} values"))
                .help(format!("give one per input value{or_one}"))
        });
    };
    if let Some(Some(names)) = &features.names {
        unique(document, "feature", names.get_ref());
        if names.get_ref().len() != values {
            report("names", names.span(), names.get_ref().len(), "");
        }
    }
    for (key, list) in [("offset", &features.offset), ("scale", &features.scale)] {
        if let Some(Some(list)) = list
            && ![1, values].contains(&list.get_ref().len())
        {
            report(key, list.span(), list.get_ref().len(), ", or a single one for all");
        }
    }
}
