//! A chart as a plot of characters.

use super::{Axis, Chart, short};

/// Smallest plot that is still a plot.
const WIDTH_MIN: usize = 40;
const HEIGHT_MIN: usize = 10;
/// Columns left of the plot, for the numbers of the upright axis and the axis itself.
const GUTTER: usize = 8;
/// Lines above and below the plot, beside the legend.
const FRAME: usize = 5;
/// One mark for each series, in their order.
const MARKS: [char; 6] = ['o', 'x', '+', '*', '#', '@'];

pub(super) fn draw(chart: &Chart, width: usize, height: usize) -> String {
    let (width, height) = (width.max(WIDTH_MIN), height.max(HEIGHT_MIN));
    let Some((x_ends, y_ends)) = chart.ends() else {
        return format!("{}: nothing to draw\n", chart.title);
    };
    let mut canvas = Canvas::new(width - GUTTER, height - FRAME);
    let across = |x: f64| position(&chart.x, x_ends, x, canvas.width);
    let up = |y: f64| canvas.height - 1 - position(&chart.y, y_ends, y, canvas.height);
    let mut strokes = Vec::new();
    for (x, _) in &chart.marks {
        strokes.extend((0..canvas.height).map(|row| (across(*x), row, '|')));
    }
    for (index, series) in chart.series.iter().enumerate() {
        let mark = MARKS[index % MARKS.len()];
        for pair in series.points.windows(2) {
            let (from, to) = (across(pair[0].0), across(pair[1].0));
            for column in from + 1..to {
                let share = (column - from) as f64 / (to - from) as f64;
                let y = pair[0].1 + (pair[1].1 - pair[0].1) * share;
                strokes.push((column, up(y), '.'));
            }
        }
        strokes.extend(series.points.iter().map(|(x, y)| (across(*x), up(*y), mark)));
    }
    strokes.iter().for_each(|stroke| canvas.put(*stroke));
    let mut lines = vec![chart.title.clone(), chart.subtitle.clone()];
    lines.extend(legend(chart));
    lines.push(format!("{}:", chart.y.label));
    lines.extend(framed(&canvas, y_ends));
    lines.push(foot(chart, x_ends, canvas.width));
    let cut = |line: &String| line.chars().take(width).collect::<String>().trim_end().to_owned() + "\n";
    lines.iter().filter(|line| !line.is_empty()).map(cut).collect()
}

fn legend(chart: &Chart) -> Vec<String> {
    let named = |(index, name): (usize, &str)| format!("{} {name}", MARKS[index % MARKS.len()]);
    let series = chart.series.iter().map(|series| series.name.as_str()).enumerate().map(named);
    let marks = chart.marks.iter().map(|(_, label)| format!("| {label}"));
    vec![series.chain(marks).collect::<Vec<_>>().join("   ")]
}

/// The plot with the numbers of its upright axis at the top, the middle and the bottom.
fn framed(canvas: &Canvas, (low, high): (f64, f64)) -> Vec<String> {
    let number = |row: usize| match row {
        0 => short(high),
        row if row == canvas.height - 1 => short(low),
        row if row == canvas.height / 2 => {
            short(high - (high - low) * row as f64 / (canvas.height - 1) as f64)
        }
        _ => String::new(),
    };
    let line = |(row, cells): (usize, &[char])| {
        format!("{:>gutter$} |{}", number(row), cells.iter().collect::<String>(), gutter = GUTTER - 2)
    };
    canvas.cells.chunks_exact(canvas.width).enumerate().map(line).collect()
}

/// The numbers and the name of the level axis.
fn foot(chart: &Chart, (low, high): (f64, f64), width: usize) -> String {
    let (low, high) = (short(low), short(high));
    let scale = if chart.x.log { " (log scale)" } else { "" };
    let name = format!("{}{scale}", chart.x.label);
    let inner = width.saturating_sub(low.chars().count() + high.chars().count());
    format!("{}{low}{name:^inner$}{high}", " ".repeat(GUTTER))
}

/// Where a value falls among `cells` of them; at the ends what lies outside.
fn position(axis: &Axis, ends: (f64, f64), value: f64, cells: usize) -> usize {
    // A float is cut to the range of the integer; there is no panic and no wrap.
    (axis.share(ends, value).clamp(0.0, 1.0) * (cells - 1) as f64).round() as usize
}

struct Canvas {
    width: usize,
    height: usize,
    cells: Vec<char>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, cells: vec![' '; width * height] }
    }

    /// Later strokes cover earlier ones, but a line never covers a mark.
    fn put(&mut self, (column, row, stroke): (usize, usize, char)) {
        let cell = &mut self.cells[row * self.width + column];
        if stroke != '.' || *cell == ' ' {
            *cell = stroke;
        }
    }
}
