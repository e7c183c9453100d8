//! Line charts as HTML and inline SVG, coloured by the page's style sheet.
//!
//! Curves are drawn in a box that stretches with the page while their strokes do not; ticks and names are HTML beside it, so
//! that text has the same size on every screen.
//!
//! **Invariant:** a value that is not finite is a gap in its curve and moves no axis.

use std::fmt::Write;

use super::axis::{Axis, figure, percent};
use super::curve::Curve;
use super::html::escape;

/// The drawing's own units: it is stretched to the page's.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 400.0;
/// Curves with more points show values outside of `OUTER` beyond the edge: the first steps' losses would flatten the rest.
const MANY: usize = 200;
const OUTER: f64 = 0.01;
/// Colours that the style sheet has; further lines take them again, dashed.
pub const COLOURS: usize = 8;

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Smoothed over its faint values.
    Smoothed,
    /// As it stands.
    Plain,
    /// With a dot at each point.
    Dots,
    /// What is still to come, dashed.
    Planned,
}

/// One curve of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    pub label: String,
    /// Place of the run in the page, and of the colour.
    pub run: usize,
    pub colour: usize,
    pub curve: Curve,
    pub steps_per_epoch: f64,
    pub style: Style,
}

/// A value to compare with: a horizontal line.
#[derive(Debug, Clone)]
pub struct Level {
    pub label: String,
    pub value: f64,
}

#[derive(Debug, Clone, Default)]
pub struct Chart {
    pub title: String,
    /// Of the y axis.
    pub unit: String,
    /// Values are shares, to be shown in percent.
    pub percent: bool,
    pub lines: Vec<Line>,
    pub levels: Vec<Level>,
    pub note: String,
}

impl Chart {
    pub fn html(&self) -> String {
        let scale = if self.percent { 100.0 } else { 1.0 };
        let drawn: Vec<Drawn> = self.lines.iter().map(|line| Drawn::new(line, scale)).collect();
        let points = || drawn.iter().flat_map(|line| line.raw.iter().chain(&line.smooth));
        let (_, right) = bounds(points().map(|point| point.0)).unwrap_or((0.0, 1.0));
        // From the run's start, so that all charts of a page have one horizontal axis.
        let x = Axis::new(0.0, right, true);
        let inner = drawn.iter().flat_map(Drawn::inner).chain(self.levels.iter().map(|level| level.value * scale));
        let (low, high) = bounds(inner).unwrap_or((0.0, 1.0));
        let y = Axis::new(low, high, false);

        let (x_ticks, y_ticks) = (x.ticks(), y.ticks());
        let across = |value: f64| format!("M0 {:.1}H{WIDTH}", HEIGHT * (1.0 - y.place(value)));
        let grid: String = y_ticks.iter().map(|(value, _)| across(*value)).collect();
        let mut svg = format!("<path class=\"grid\" d=\"{grid}\"/>");
        for (at, level) in self.levels.iter().enumerate() {
            let _ = write!(svg, "<path class=\"level l{at}\" d=\"{}\"/>", across(level.value * scale));
        }
        // Faint values lie under all lines.
        for faint in [true, false] {
            drawn.iter().for_each(|line| line.draw(&mut svg, faint, &x, &y));
        }
        let gutter = y_ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(1) + 1;
        let unit = if self.percent { "%" } else { &self.unit };
        let mut html = format!(
            "<figure class=\"chart\" data-x0=\"{}\" data-x1=\"{}\"{}>\n<figcaption><h3>{}</h3><span>{}</span></figcaption>\n",
            x.low,
            x.high,
            if self.percent { " data-percent" } else { "" },
            escape(&self.title),
            escape(unit),
        );
        html += &self.legend();
        let label = format!("{} over epochs", self.title);
        let outside = drawn.iter().flat_map(|line| &line.raw).filter(|(_, v)| *v < y.low || *v > y.high).count();
        let _ = writeln!(
            html,
            "<div class=\"frame\" style=\"--gutter:{gutter}ch\"><div class=\"y\">{}</div><div class=\"plot\"><svg viewBox=\"0 0 \
             {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\"{} role=\"img\" aria-label=\"{}\">{svg}</svg></div><div \
             class=\"x\">{}</div><div class=\"name\">epoch</div></div>",
            ticks(&y_ticks, &y, "bottom"),
            // Marks at the edge are whole where no curve has to be cut.
            if outside == 0 { " class=\"open\"" } else { "" },
            escape(&label),
            ticks(&x_ticks, &x, "left"),
        );
        let mut notes: Vec<String> = vec![escape(&self.note)];
        if outside > 0 {
            notes.push(format!("{} beyond the axis", count(outside, "logged value")));
        }
        notes.retain(|note| !note.is_empty());
        if !notes.is_empty() {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", notes.join("; "));
        }
        html + "</figure>\n"
    }

    fn legend(&self) -> String {
        let number = |value: f64| if self.percent { percent(value) } else { figure(value) };
        let mut html = "<ul class=\"legend\">".to_owned();
        for line in self.lines.iter().filter(|line| line.style != Style::Planned) {
            let last = line.curve.last().map_or_else(String::new, |(_, value)| format!(" <b>{}</b>", number(value)));
            let _ = write!(
                html,
                "<li data-run=\"{}\" data-curve=\"{}\"><i class=\"{}\"></i>{}{last}</li>",
                line.run,
                escape(&line.curve.key),
                colour(line.colour),
                escape(&line.label),
            );
        }
        for (at, level) in self.levels.iter().enumerate() {
            let _ = write!(
                html,
                "<li><i class=\"level l{at}\"></i>{} <b>{}</b></li>",
                escape(&level.label),
                number(level.value)
            );
        }
        html + "</ul>\n"
    }
}

/// A line's points in the units of the axes: (epoch, value).
struct Drawn {
    raw: Vec<(f64, f64)>,
    /// Empty unless the line is smoothed.
    smooth: Vec<(f64, f64)>,
    style: Style,
    class: String,
}

impl Drawn {
    fn new(line: &Line, scale: f64) -> Drawn {
        let points = |curve: &Curve| -> Vec<(f64, f64)> {
            let epoch = |step: u64| step as f64 / line.steps_per_epoch;
            curve.steps.iter().zip(&curve.values).map(|(&step, &value)| (epoch(step), value * scale)).collect()
        };
        let smooth = match line.style {
            Style::Smoothed if line.curve.window() > 1 => points(&line.curve.smoothed().thinned()),
            _ => Vec::new(),
        };
        Drawn { raw: points(&line.curve.thinned()), smooth, style: line.style, class: colour(line.colour) }
    }

    /// Values that the axis must show: all smoothed ones, and of many raw ones all but the outermost.
    fn inner(&self) -> Vec<f64> {
        let mut raw: Vec<f64> = self.raw.iter().map(|point| point.1).filter(|value| value.is_finite()).collect();
        if raw.len() > MANY && !self.smooth.is_empty() {
            raw.sort_by(f64::total_cmp);
            let cut = (raw.len() as f64 * OUTER) as usize;
            raw = raw[cut..raw.len() - cut].to_vec();
            // The first smoothed ones hold what the raw ones were cut of.
            raw.extend(self.smooth.iter().skip(self.smooth.len() / 100 + 1).map(|point| point.1));
        }
        raw
    }

    fn draw(&self, svg: &mut String, faint: bool, x: &Axis, y: &Axis) {
        let class = &self.class;
        let mut path = |kind: &str, points: &[(f64, f64)]| {
            let _ = write!(svg, "<path class=\"{kind} {class}\" d=\"{}\"/>", path(points, x, y));
        };
        match (self.style, faint) {
            (Style::Smoothed, true) if !self.smooth.is_empty() => path("raw", &self.raw),
            (Style::Planned, true) => path("planned", &self.raw),
            (Style::Planned, false) | (_, true) => {}
            (Style::Smoothed, false) if !self.smooth.is_empty() => path("line", &self.smooth),
            (Style::Smoothed | Style::Plain, false) => path("line", &self.raw),
            (Style::Dots, false) => {
                path("line", &self.raw);
                let finite = self.raw.iter().filter(|point| point.1.is_finite());
                let dots: String = finite.map(|&(a, b)| format!("M{}h0", place(a, b, x, y))).collect();
                let _ = write!(svg, "<path class=\"dots {class}\" d=\"{dots}\"/>");
            }
        }
    }
}

fn place(epoch: f64, value: f64, x: &Axis, y: &Axis) -> String {
    // Far outside is just outside: renderers lose precision at huge coordinates.
    let row = (HEIGHT * (1.0 - y.place(value))).clamp(-HEIGHT, 2.0 * HEIGHT);
    format!("{:.1} {row:.1}", WIDTH * x.place(epoch))
}

/// Points joined by lines; a gap where a value is not finite.
fn path(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let mut d = String::with_capacity(points.len() * 12);
    let mut drawing = false;
    for (at, &(epoch, value)) in points.iter().enumerate() {
        if !value.is_finite() {
            drawing = false;
            continue;
        }
        let _ = write!(d, "{}{}", if drawing { 'L' } else { 'M' }, place(epoch, value, x, y));
        let alone = !drawing && points.get(at + 1).is_none_or(|next| !next.1.is_finite());
        if alone {
            d += "h0";
        }
        drawing = true;
    }
    d
}

/// Labels at their places along `side`.
fn ticks(ticks: &[(f64, String)], axis: &Axis, side: &str) -> String {
    let label = |(value, text): &(f64, String)| {
        format!("<span style=\"{side}:{:.2}%\">{}</span>", axis.place(*value) * 100.0, escape(text))
    };
    ticks.iter().map(label).collect()
}

/// Least and largest of the finite ones.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |found, value| match found {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// Classes of the line or mark of this number.
pub fn colour(number: usize) -> String {
    let dashed = if (number / COLOURS).is_multiple_of(2) { "" } else { " dashed" };
    format!("s{}{dashed}", number % COLOURS)
}

/// `1 run`, `2 runs`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<f64>, style: Style) -> String {
        let steps = (1..=values.len() as u64).collect();
        let curve = Curve { key: "losses/<a>".to_owned(), steps, values };
        let line = Line { label: "<a>".to_owned(), run: 0, colour: 9, curve, steps_per_epoch: 2.0, style };
        Chart { title: "<t>".to_owned(), lines: vec![line], ..Chart::default() }.html()
    }

    #[test]
    fn gaps_break_lines_and_nothing_else() {
        let html = chart(vec![1.0, f64::NAN, 2.0, 3.0, f64::INFINITY], Style::Plain);
        assert_eq!(html.matches("class=\"line s1 dashed\"").count(), 1);
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        let d = html.split("class=\"line s1 dashed\" d=\"").nth(1).and_then(|rest| rest.split('"').next());
        let d = d.expect("a line is drawn");
        assert_eq!((d.matches('M').count(), d.matches('L').count(), d.matches("h0").count()), (2, 1, 1), "{d}");
    }

    #[test]
    fn nothing_to_draw_is_an_empty_chart() {
        for html in [chart(vec![], Style::Dots), chart(vec![f64::NAN], Style::Smoothed), Chart::default().html()] {
            assert!(html.contains("<svg") && !html.contains("NaN"), "{html}");
        }
    }

    #[test]
    fn names_are_escaped() {
        let html = chart(vec![1.0], Style::Plain);
        assert!(html.contains("&lt;t&gt;") && html.contains("&lt;a&gt;") && !html.contains("<a>"), "{html}");
    }

    #[test]
    fn what_lies_beyond_the_axis_is_told() {
        let mut values: Vec<f64> = (0..1000).map(|i| 1.0 + (i % 7) as f64 * 0.1).collect();
        values[500] = 1e6;
        let html = chart(values, Style::Smoothed);
        // The smoothed curve holds the peak's share.
        assert!(html.contains("1 logged value beyond the axis"), "{html}");
    }
}
