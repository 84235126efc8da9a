//! A chart as an SVG picture.

use super::{Axis, Chart, ChartError, Series, short, ticks};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (860, 500);
/// Points above the plot: title, subtitle, legend.
const HEAD: u32 = 96;
/// Points between the left edge and the texts of the head.
const LEFT: i32 = 24;
/// Room for one letter of the legend, on the safe side of the usual fonts.
const LETTER: i32 = 7;
const FONT: &str = "sans-serif";

const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
const INK: RGBColor = RGBColor(0x1F, 0x29, 0x33);
const MUTED: RGBColor = RGBColor(0x5B, 0x66, 0x70);
const FAINT: RGBColor = RGBColor(0xDD, 0xE2, 0xE7);

/// The colours of Okabe and Ito, in an order in which neighbours differ in lightness too.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

/// What each colour becomes on a dark ground.
const DARK: [(RGBColor, &str); 10] = [
    (PAPER, "#14181D"),
    (INK, "#E6EAEE"),
    (MUTED, "#A7B1BC"),
    (FAINT, "#343D47"),
    (COLOURS[0], "#4FA8DC"),
    (COLOURS[1], "#FF8A47"),
    (COLOURS[2], "#2CCB9E"),
    (COLOURS[3], "#E6A5CB"),
    (COLOURS[4], "#F5C252"),
    (COLOURS[5], "#A5D8F7"),
];

type Failure = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

pub(super) fn draw(chart: &Chart) -> Result<String, ChartError> {
    let ends = chart.ends().ok_or_else(|| ChartError::Empty { title: chart.title.clone() })?;
    let mut picture = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        paint(chart, &area, ends).and_then(|()| area.present())
    };
    drawn.map_err(|error| ChartError::Drawing { title: chart.title.clone(), reason: error.to_string() })?;
    Ok(dressed(&picture, &chart.title))
}

/// Adds a title for screen readers and the colours for a dark ground. Style rules win over attributes.
fn dressed(picture: &str, title: &str) -> String {
    let Some((head, rest)) = picture.split_once('>') else { return picture.to_owned() };
    let escaped = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut rules = String::new();
    for (RGBColor(red, green, blue), dark) in DARK {
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        rules += &format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}");
    }
    format!(
        "{head} role=\"img\">\n<title>{escaped}</title>\n\
         <style>@media (prefers-color-scheme: dark){{{rules}}}</style>{rest}"
    )
}

fn paint(chart: &Chart, area: &Area<'_>, ends: ((f64, f64), (f64, f64))) -> Result<(), Failure> {
    area.fill(&PAPER)?;
    let (head, plot) = area.split_vertically(HEAD);
    paint_head(chart, &head)?;
    paint_plot(chart, &plot, ends)
}

fn text(size: i32, colour: &RGBColor) -> TextStyle<'_> {
    TextStyle::from((FONT, size).into_font()).color(colour).pos(Pos::new(HPos::Left, VPos::Center))
}

/// Title, subtitle, and a row that names the series.
fn paint_head(chart: &Chart, area: &Area<'_>) -> Result<(), Failure> {
    area.draw(&Text::new(chart.title.clone(), (LEFT, 26), text(24, &INK)))?;
    area.draw(&Text::new(chart.subtitle.clone(), (LEFT, 50), text(17, &MUTED)))?;
    let mut at = LEFT;
    for (index, series) in chart.series.iter().enumerate() {
        let (colour, middle) = (COLOURS[index % COLOURS.len()], 76);
        area.draw(&PathElement::new(vec![(at, middle), (at + 28, middle)], colour.stroke_width(3)))?;
        area.draw(&(EmptyElement::at((at + 14, middle)) + sign(index, colour)))?;
        area.draw(&Text::new(series.name.clone(), (at + 36, middle), text(17, &INK)))?;
        at += 36 + 22 + LETTER * i32::try_from(series.name.chars().count()).unwrap_or(0);
    }
    Ok(())
}

/// One direction of the plot, for the library: it maps values, logarithmically or not, and sets round ticks.
struct Scale {
    axis: Axis,
    ends: (f64, f64),
    most: f64,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        // A float is cut to the range of the integer.
        from + (self.axis.share(self.ends, *value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { ticks(&self.axis, self.ends, self.most) }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl ValueFormatter<f64> for Scale {
    fn format(value: &f64) -> String {
        short(*value)
    }
}

/// Axes, upright marks, then the lines.
fn paint_plot(chart: &Chart, area: &Area<'_>, (x, y): ((f64, f64), (f64, f64))) -> Result<(), Failure> {
    let scale = |axis: &Axis, ends, most| Scale { axis: axis.clone(), ends, most };
    let mut builder = ChartBuilder::on(area);
    builder.margin(10).margin_right(28).x_label_area_size(48).y_label_area_size(66);
    let mut context = builder.build_cartesian_2d(scale(&chart.x, x, 10.0), scale(&chart.y, y, 6.0))?;
    context
        .configure_mesh()
        .bold_line_style(FAINT)
        .axis_style(MUTED)
        .label_style((FONT, 15).into_font().color(&MUTED))
        .axis_desc_style((FONT, 17).into_font().color(&INK))
        .x_desc(chart.x.label.clone())
        .y_desc(chart.y.label.clone())
        .draw()?;
    for (at, label) in &chart.marks {
        let upright = [(*at, y.0), (*at, y.1)];
        context.draw_series(DashedLineSeries::new(upright, 5, 4, INK.stroke_width(1)))?;
        let beside = EmptyElement::at((*at, y.1)) + Text::new(label.clone(), (6, 10), text(15, &INK));
        context.draw_series([beside])?;
    }
    for (index, Series { points, .. }) in chart.series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        context.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        let sign = |point: &(f64, f64)| EmptyElement::at(*point) + sign(index, colour);
        context.draw_series(points.iter().map(sign))?;
    }
    Ok(())
}

/// The sign of a series, around the point that it stands for: shape and colour both tell it.
fn sign(index: usize, colour: RGBColor) -> Polygon<(i32, i32)> {
    let outline: &[(i32, i32)] = match index % COLOURS.len() {
        0 => &[(-2, -4), (2, -4), (4, -2), (4, 2), (2, 4), (-2, 4), (-4, 2), (-4, -2)],
        1 => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2 => &[(-5, 4), (5, 4), (0, -5)],
        3 => &[(0, -6), (6, 0), (0, 6), (-6, 0)],
        4 => &[(-5, -4), (5, -4), (0, 5)],
        _ => &[(-5, -5), (5, -5), (-5, 5), (5, 5)],
    };
    Polygon::new(outline.to_vec(), colour.filled())
}
