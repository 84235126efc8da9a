//! How images become inputs, as far as it can be judged alone.

use super::{Found, plain};
use crate::{
    document::{Document, Section, value},
    error::{Problem, ValueError},
    limits::{FEATURE_MAGNITUDE_MAX, INPUT_VALUES},
    roster::{Colour, Image, Resize, Window, image::WINDOWS},
};
use consilium_protocol::graph::Shape;
use std::ops::Range;
use toml::{Spanned, de::DeValue};

/// An image table as far as it could be read, and where it starts.
pub(in crate::roster) struct ImageDraft {
    pub(in crate::roster) image: Option<Image>,
    pub(in crate::roster) place: Range<usize>,
    pub(in crate::roster) range: Option<Range<usize>>,
}

impl ImageDraft {
    /// `input` gives the size where the table does not.
    pub(super) fn read(document: &Document, mut section: Section<'_>, input: &Found<Shape>) -> Option<Self> {
        let (present, place) = (section.is_present(), section.place());
        let colour =
            section.defaulted("colour", Colour::default(), |found| value::choice(found, &Colour::NAMES));
        let size = section.optional_list("size", 2..=2, |found| value::whole(found, &INPUT_VALUES));
        let resize =
            section.defaulted("resize", Resize::default(), |found| value::choice(found, &Resize::NAMES));
        let window = window(document, &mut section, present);
        let real = |found: &DeValue<'_>| value::real(found, FEATURE_MAGNITUDE_MAX);
        let range = if present {
            section.list("range", "range = [0, 1]", 2..=2, real)
        } else {
            section.optional_list("range", 2..=2, real).flatten()
        };
        section.finish();
        if !present {
            return None;
        }
        let span = range.as_ref().map(Spanned::span);
        let limits = plain(range).filter(|range| ascending(document, range, span.clone()));
        let whole = |size: Option<Spanned<Vec<Spanned<u32>>>>| match (plain(size), input) {
            (Some(size), _) => size.first().copied().zip(size.get(1).copied()),
            (None, Some(shape)) => Some((shape.get_ref().height, shape.get_ref().width)),
            (None, None) => None,
        };
        let put_together = || {
            let ((rows, columns), limits) = (whole(size?)?, limits?);
            Some(Image {
                colour: colour?.into_inner(),
                rows,
                columns,
                resize: resize?.into_inner(),
                window: window?,
                low: *limits.first()?,
                high: *limits.get(1)?,
            })
        };
        Some(Self { image: put_together(), place, range: span })
    }
}

/// Whether the darkest is below the brightest; reports where it is not.
fn ascending(document: &Document, range: &[f64], span: Option<Range<usize>>) -> bool {
    let ascending = range.first() < range.get(1);
    if !ascending {
        document.report(|| {
            Problem::new("the darkest value is not below the brightest")
                .at(span.unwrap_or_default(), "first the darkest, then the brightest")
                .help(
                    "for example `range = [0, 1]`; images with white for nothing say so themselves"
                        .to_owned(),
                )
        });
    }
    ascending
}

fn window(document: &Document, section: &mut Section<'_>, present: bool) -> Option<Window> {
    let words = WINDOWS.map(|word| (word, word));
    let word = section.defaulted("window", WINDOWS[0], |found| value::choice(found, &words));
    let real = |found: &DeValue<'_>| value::real(found, FEATURE_MAGNITUDE_MAX);
    let center = section.optional("window_center", real);
    let width = section.optional("window_width", |found| match real(found)? {
        width if width >= 1.0 => Ok(width),
        _ => Err(ValueError::new("a number from 1", value::kind(found))),
    });
    let (word, center, width) = (word?, center?, width?);
    if !present {
        return None;
    }
    let [whole, file, _] = WINDOWS;
    match (*word.get_ref(), center, width) {
        (word, None, None) if word == whole => Some(Window::Whole),
        (word, None, None) if word == file => Some(Window::File),
        (_, Some(center), Some(width)) if ![whole, file].contains(word.get_ref()) => {
            Some(Window::Task { center: center.into_inner(), width: width.into_inner() })
        }
        (given, center, width) => {
            let place = center.as_ref().or(width.as_ref()).map_or_else(|| word.span(), Spanned::span);
            document.report(|| {
                Problem::new("a window of the task has a middle and a width, another one has neither")
                    .at(place, format!("the window is `{given}`"))
                    .help(
                        "write `window = \"task\"` with `window_center = 40` and `window_width = 400`, or leave \
                         both numbers out"
                            .to_owned(),
                    )
            });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EXAMPLE_ROSTER,
        document::testing::{edited, roster, roster_refusal},
    };

    const TABLE: &str = "colour = \"grey\"";

    fn image(text: &str) -> Image {
        roster(text).unwrap().task("digits").unwrap().image.unwrap()
    }

    #[test]
    fn the_example_gives_known_values_and_little_is_required() {
        let window = Window::Task { center: 8.5, width: 17.0 };
        let (colour, resize) = (Colour::Grey, Resize::Area);
        let known = Image { colour, rows: 8, columns: 8, resize, window, low: 0.0, high: 16.0 };
        assert_eq!(image(EXAMPLE_ROSTER), known);
        let (before, after) = EXAMPLE_ROSTER.split_once("\n[task.image]\n").unwrap();
        let (_, after) = after.split_once("\n[task.features]\n").unwrap();
        let bare = format!("{before}\n[task.image]\nrange = [-1, 1]\n[task.features]\n{after}");
        let known = Image { resize: Resize::Refuse, window: Window::Whole, low: -1.0, high: 1.0, ..known };
        assert_eq!(image(&bare), known);
        let none = format!("{before}\n[task.features]\n{after}");
        assert_eq!(roster(&none).unwrap().task("digits").unwrap().image, None);
    }

    #[test]
    fn a_vector_takes_images_of_a_size_that_fills_it() {
        let text = edited(
            EXAMPLE_ROSTER,
            "input_abs_max = 16\n",
            "input_abs_max = 16\nimage = { size = [4, 16], range = [0, 16] }\n",
        );
        let read = roster(&text).unwrap().task("digits-exact").unwrap().image.unwrap();
        assert_eq!((read.rows, read.columns, read.values()), (4, 16, 64));
    }

    #[test]
    fn what_does_not_fit_is_shown_with_what_to_write() {
        for (from, to, expected) in [
            (TABLE, "colour = \"gray\"", "one of `grey`, `rgb` | did you mean `grey`?"),
            (TABLE, "colour = \"rgb\"", "an image does not fill the input | set `size`"),
            ("size = [8, 8]", "size = [8, 9]", "an image does not fill the input"),
            ("size = [8, 8]", "size = [64]", "`task.image.size` must be a list of 2 values"),
            ("size = [8, 8]", "size = [8, 0]", "a whole number from 1 to 65536"),
            ("resize = \"area\"", "resize = \"areas\"", "did you mean `area`?"),
            ("window = \"task\"", "window = \"whole\"", "a window of the task has a middle and a width"),
            ("window = \"task\"", "window = \"file\"", "leave both numbers out"),
            ("window_width = 17\n", "", "a window of the task has a middle and a width"),
            ("window_width = 17", "window_width = 0", "a number from 1"),
            ("range = [0, 16]", "range = [16, 0]", "the darkest value is not below the brightest"),
            ("range = [0, 16]", "range = [0, 0]", "the darkest value is not below the brightest"),
            ("range = [0, 16]", "range = [0]", "a list of 2 values"),
            ("range = [0, 16]\n", "", "`task.image.range` is missing | add a line such as `range = [0, 1]`"),
            (
                "[task.features]\nscale = [0.0625]\n",
                "",
                "values of an image are larger than any input may be | lower `range`",
            ),
        ] {
            let found = roster_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
    }

    #[test]
    fn all_of_it_reads_back_and_is_in_the_digest_of_the_task() {
        let read = |text: &str| roster(text).unwrap();
        let digest = |text: &str| read(text).task("digits").unwrap().digest();
        let whole = digest(EXAMPLE_ROSTER);
        for (from, to) in [
            ("size = [8, 8]", "size = [4, 16]"),
            ("resize = \"area\"", "resize = \"bilinear\""),
            ("resize = \"area\"", "resize = \"refuse\""),
            ("window_center = 8.5", "window_center = 8"),
            ("window_width = 17", "window_width = 18"),
            ("window = \"task\"\nwindow_center = 8.5\nwindow_width = 17", "window = \"file\""),
            ("window = \"task\"\nwindow_center = 8.5\nwindow_width = 17", "window = \"whole\""),
            ("range = [0, 16]", "range = [0, 15]"),
            ("range = [0, 16]", "range = [1, 16]"),
        ] {
            let text = edited(EXAMPLE_ROSTER, from, to);
            assert_ne!(digest(&text), whole, "{to}");
            assert_eq!(read(&read(&text).to_toml()), read(&text), "{to}");
        }
        let colours = edited(EXAMPLE_ROSTER, "input = [1, 8, 8]", "input = [3, 8, 8]");
        let colours = edited(&colours, TABLE, "colour = \"rgb\"");
        assert_ne!(digest(&colours), whole);
        assert_eq!(read(&read(&colours).to_toml()), read(&colours));
    }
}
