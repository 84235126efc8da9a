//! Line charts: an SVG picture for documents, a plot of characters for a terminal.
//!
//! A [`Chart`] is put together from a title, two axes and named series, then drawn in either form:
//!
//! ```
//! use consilium::chart::{Axis, Chart};
//!
//! let chart = Chart::new("Accuracy against budget", Axis::new("epsilon").log(), "right answers, %")
//!     .subtitle("100 votes, delta 1e-6")
//!     .series("student", vec![(1.0, 61.0), (2.0, 78.5), (4.0, 86.0), (8.0, 89.5)])
//!     .series("vote with noise", vec![(1.0, 12.0), (2.0, 35.0), (4.0, 70.0), (8.0, 85.0)])
//!     .mark(4.0, "chosen");
//! let picture = chart.to_svg()?;
//! assert!(picture.starts_with("<svg") && chart.to_text(72, 16).contains("student"));
//! # Ok::<(), consilium::chart::ChartError>(())
//! ```
//!
//! The colours are told apart by people who confuse red and green, and every series has a mark of its own
//! besides, so that a grey print is readable too. The picture follows a reader's dark setting by itself and
//! names no font that must be installed.

mod svg;
mod text;

use std::path::{Path, PathBuf};

/// Why a chart cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// No series has a point that can be drawn.
    #[error("chart `{title}` has nothing to draw")]
    Empty {
        /// Title of the chart.
        title: String,
    },
    /// The drawing library refuses.
    #[error("chart `{title}` cannot be drawn: {reason}")]
    Drawing {
        /// Title of the chart.
        title: String,
        /// What the library says.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What one direction of a chart measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    label: String,
    log: bool,
    range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis as wide as its points. The label names the quantity and its unit.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: false, range: None }
    }

    /// Equal distances are equal ratios; points that are not above zero are left out.
    #[must_use]
    pub fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// Runs from `low` to `high` whatever the points are. Points outside are drawn at the edge of what the
    /// viewer shows, so choose a range that holds them.
    #[must_use]
    pub fn within(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// Where a value stands: the value itself, or its logarithm.
    fn place(&self, value: f64) -> f64 {
        if self.log { value.ln() } else { value }
    }

    /// How far along the axis a value stands: 0 at the low end, 1 at the high one.
    fn share(&self, (low, high): (f64, f64), value: f64) -> f64 {
        (self.place(value) - self.place(low)) / (self.place(high) - self.place(low))
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    /// The ends of the axis for these values, never equal.
    fn ends(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        if let Some((low, high)) = self.range.filter(|(low, high)| low < high && self.shows(*low)) {
            return (low, high);
        }
        let extremes = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), extremes);
        match (self.log, low < high) {
            (true, true) => (low, high),
            (true, false) => (low / 2.0, low * 2.0),
            (false, true) => (low - (high - low) * MARGIN, high + (high - low) * MARGIN),
            (false, false) => (low - 1.0, low + 1.0),
        }
    }
}

/// Round values between the ends, at most `most` of them on a linear axis.
fn ticks(axis: &Axis, (low, high): (f64, f64), most: f64) -> Vec<f64> {
    let decades =
        || (low.log10().floor() as i32..=high.log10().ceil() as i32).map(|power| 10_f64.powi(power));
    let inside = |value: &f64| (low..=high).contains(value);
    let ratios = |steps: &[f64]| -> Vec<f64> {
        decades().flat_map(|decade| steps.iter().map(move |step| step * decade)).filter(inside).collect()
    };
    if axis.log {
        let shown = if high / low > 1000.0 { ratios(&[1.0]) } else { ratios(&[1.0, 2.0, 5.0]) };
        if shown.len() >= 3 {
            return shown;
        }
    }
    let rough = (high - low) / most;
    let decade = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|count| count as f64 * step).collect()
}

/// Share of a linear axis that stays free on either side of the points.
const MARGIN: f64 = 0.04;

impl From<&str> for Axis {
    fn from(label: &str) -> Self {
        Self::new(label)
    }
}

impl From<String> for Axis {
    fn from(label: String) -> Self {
        Self::new(label)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Lines through points, in one system of axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    title: String,
    subtitle: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    marks: Vec<(f64, String)>,
}

impl Chart {
    /// An empty chart. A text alone makes a linear axis.
    pub fn new(title: impl Into<String>, x: impl Into<Axis>, y: impl Into<Axis>) -> Self {
        let (title, x, y) = (title.into(), x.into(), y.into());
        Self { title, subtitle: String::new(), x, y, series: Vec::new(), marks: Vec::new() }
    }

    /// A second line below the title: for whom and under which assumptions the lines hold.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }

    /// One more line, through its points in the order of x. Points that are not finite, or not above zero
    /// on a logarithmic axis, are left out. Six series have colours of their own.
    #[must_use]
    pub fn series(mut self, name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        let shown = |point: &(f64, f64)| self.x.shows(point.0) && self.y.shows(point.1);
        let mut points: Vec<_> = points.into_iter().filter(shown).collect();
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        self.series.push(Series { name: name.into(), points });
        self
    }

    /// A dashed upright line at a value of x, with what it stands for.
    #[must_use]
    pub fn mark(mut self, x: f64, label: impl Into<String>) -> Self {
        if self.x.shows(x) {
            self.marks.push((x, label.into()));
        }
        self
    }

    /// The picture as the text of an SVG file of 860 by 500 points.
    ///
    /// # Errors
    /// [`ChartError::Empty`] without a point to draw.
    pub fn to_svg(&self) -> Result<String, ChartError> {
        svg::draw(self)
    }

    /// Writes [`Chart::to_svg`] to a file, replacing what was there.
    ///
    /// # Errors
    /// As [`Chart::to_svg`], and [`ChartError::Write`].
    pub fn write_svg(&self, path: &Path) -> Result<(), ChartError> {
        let picture = self.to_svg()?;
        std::fs::write(path, picture).map_err(|source| ChartError::Write { path: path.into(), source })
    }

    /// A plot of characters, at most `width` columns and about `height` lines with title and legend; at
    /// least 40 by 10 are used. Without a point to draw it says so.
    pub fn to_text(&self, width: usize, height: usize) -> String {
        text::draw(self, width, height)
    }

    /// The ends of both axes; `None` without a point.
    fn ends(&self) -> Option<((f64, f64), (f64, f64))> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        points().next()?;
        let marks = self.marks.iter().map(|(x, _)| *x);
        Some((
            self.x.ends(points().map(|point| point.0).chain(marks)),
            self.y.ends(points().map(|point| point.1)),
        ))
    }
}

/// A number as short as its size allows.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 0.1 => 3,
        size if size < 1.0 => 2,
        size if size < 10.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        Chart::new("A < B & C", Axis::new("noise, votes").log(), Axis::new("right, %").within(0.0, 100.0))
            .subtitle("two \"lines\"")
            .series("first", vec![(10.0, 50.0), (1.0, 90.0), (f64::NAN, 3.0), (0.0, 7.0)])
            .series("second", vec![(1.0, 20.0), (10.0, 80.0)])
            .mark(3.0, "here")
    }

    #[test]
    fn a_picture_is_whole_and_escaped() {
        let picture = chart().to_svg().unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        for part in [
            "A &lt; B &amp; C",
            "noise, votes",
            "right, %",
            "first",
            "second",
            "here",
            "prefers-color-scheme: dark",
        ] {
            assert!(picture.contains(part), "{part} is missing:\n{picture}");
        }
        assert!(!picture.contains("A < B") && !picture.contains("NaN"));
    }

    #[test]
    fn points_are_sorted_and_impossible_ones_left_out() {
        assert_eq!(chart().series[0].points, [(1.0, 90.0), (10.0, 50.0)]);
    }

    #[test]
    fn a_plot_of_characters_fits_and_names_everything() {
        let plot = chart().to_text(60, 14);
        assert!(plot.lines().count() <= 18 && plot.lines().all(|line| line.chars().count() <= 60), "{plot}");
        for part in ["A < B & C", "first", "second", "here", "100", "noise, votes", "right, %"] {
            assert!(plot.contains(part), "{part} is missing:\n{plot}");
        }
        let row = |mark: char| plot.lines().skip(4).position(|line| line.contains(mark));
        assert!(row('o') < row('x'), "the first starts higher:\n{plot}");
    }

    #[test]
    fn nothing_is_not_drawn() {
        let empty = Chart::new("t", "x", "y").series("a", vec![(1.0, f64::INFINITY)]);
        assert!(matches!(empty.to_svg(), Err(ChartError::Empty { .. })));
        assert!(empty.to_text(60, 12).contains("nothing to draw"));
    }

    #[test]
    fn one_point_makes_a_chart() {
        for axis in [Axis::new("x"), Axis::new("x").log()] {
            let chart = Chart::new("t", axis, "y").series("a", vec![(2.0, 5.0)]);
            assert!(chart.to_svg().is_ok() && chart.to_text(40, 10).contains('o'));
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = chart().write_svg(Path::new("/nowhere/at/all.svg")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all.svg"));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(&Axis::new("x"), (-3.0, 104.0), 7.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(&Axis::new("x").log(), (0.9, 30.0), 7.0), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(ticks(&Axis::new("x").log(), (1.0, 1e5), 7.0).len(), 6);
        assert_eq!(ticks(&Axis::new("x").log(), (6.0, 9.0), 4.0), [6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(0.0, "0"), (0.25, "0.25"), (12.0, "12"), (2.50, "2.5"), (100.0, "100"), (0.002, "0.002")]
        {
            assert_eq!(short(value), text);
        }
    }
}
