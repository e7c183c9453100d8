//! A [`Sketch`] as an SVG picture: a lane for each branch, a column for each step away from the views, losses at the right.
//!
//! Before: `graph::sketch` has told parts and flows. After: a file, or a page.
//!
//! **Invariant:** a flow that passes columns has a place of its own in each, so that no line crosses a box.

use std::fmt::Write;

use super::html::escape;
use crate::graph::sketch::{Kind, Part, Sketch};

/// Heights and gaps, in pixels.
const BOX: f64 = 40.0;
const PASSING: f64 = 16.0;
const ROW_GAP: f64 = 18.0;
const COLUMN_GAP: f64 = 74.0;
const LANE_PAD: f64 = 20.0;
const LANE_GAP: f64 = 14.0;
const MARGIN: f64 = 20.0;
const TITLE: f64 = 36.0;
/// Width of a letter of the boxes' font, on average.
const LETTER: f64 = 7.4;

/// How a kind of part is painted.
pub struct Colours {
    pub fill: &'static str,
    pub stroke: &'static str,
    pub meaning: &'static str,
}

/// Class and colours of a kind.
pub fn colours(kind: Kind) -> (&'static str, Colours) {
    let (class, fill, stroke, meaning) = match kind {
        Kind::View => ("view", "#eef2f6", "#8a97a6", "view"),
        Kind::Trained(_) => ("trained", "#dbeafe", "#2563eb", "trained"),
        Kind::Copy => ("copy", "#ffedd5", "#ea580c", "average of what is trained"),
        Kind::Fixed => ("fixed", "#e5e7eb", "#6b7280", "not trained"),
        Kind::Value => ("value", "#ffffff", "#9ca3af", "value"),
        Kind::Loss => ("loss", "#fee2e2", "#dc2626", "loss"),
    };
    (class, Colours { fill, stroke, meaning })
}

/// The same of all.
pub fn legend() -> Vec<(&'static str, Colours)> {
    [Kind::View, Kind::Trained(0), Kind::Copy, Kind::Fixed, Kind::Value, Kind::Loss].map(colours).into()
}

/// The second line of a box.
pub fn about(part: &Part) -> Option<String> {
    match part.kind {
        Kind::Trained(count) if count >= 1_000_000 => Some(format!("{:.1} M", count as f64 / 1e6)),
        Kind::Trained(count) if count >= 1000 => Some(format!("{:.1} k", count as f64 / 1e3)),
        Kind::Trained(count) => Some(count.to_string()),
        Kind::Copy => Some("average".to_owned()),
        Kind::Fixed => Some("not trained".to_owned()),
        Kind::View | Kind::Value | Kind::Loss => None,
    }
}

/// A place in a column: a part, or a flow on its way.
struct Slot {
    part: Option<usize>,
    lane: usize,
    column: usize,
    height: f64,
    /// Its middle.
    y: f64,
    before: Vec<usize>,
    after: Vec<usize>,
}

struct Layout {
    slots: Vec<Slot>,
    /// Of each flow, the slots that it goes through, its ends among them.
    ways: Vec<Vec<usize>>,
    /// Left side and width of each column.
    columns: Vec<(f64, f64)>,
    /// Top and bottom of each lane that has something in it.
    lanes: Vec<Option<(f64, f64)>>,
    height: f64,
}

fn width_of(part: &Part) -> f64 {
    let letters = part.name.chars().count().max(about(part).map_or(0, |about| about.chars().count()));
    letters as f64 * LETTER + 26.0
}

impl Layout {
    fn of(sketch: &Sketch) -> Layout {
        let column = columns(sketch);
        let last = column.iter().copied().max().unwrap_or(0);
        let mut slots: Vec<Slot> = Vec::new();
        let slot = |part, lane, column, height| Slot {
            part,
            lane,
            column,
            height,
            y: 0.0,
            before: Vec::new(),
            after: Vec::new(),
        };
        for (index, part) in sketch.parts.iter().enumerate() {
            slots.push(slot(Some(index), part.lane, column[index], BOX));
        }
        let mut ways = Vec::new();
        for flow in &sketch.flows {
            let (from, to) = (column[flow.from], column[flow.to]);
            let mut way = vec![flow.from];
            // It stays in its own lane, but for a flow to another lane that is far away.
            let lane = sketch.parts[flow.from].lane;
            for between in from + 1..to {
                slots.push(slot(None, lane, between, PASSING));
                way.push(slots.len() - 1);
            }
            way.push(flow.to);
            for pair in way.windows(2) {
                slots[pair[0]].after.push(pair[1]);
                slots[pair[1]].before.push(pair[0]);
            }
            ways.push(way);
        }
        let mut widths = vec![0.0_f64; last + 1];
        for (index, part) in sketch.parts.iter().enumerate() {
            widths[column[index]] = widths[column[index]].max(width_of(part));
        }
        let mut x = MARGIN + LANE_PAD;
        let columns = widths.iter().map(|width| {
            let left = x;
            x += width + COLUMN_GAP;
            (left, *width)
        });
        let mut layout = Layout { slots, ways, columns: columns.collect(), lanes: Vec::new(), height: 0.0 };
        layout.place(sketch.lanes.len());
        layout
    }

    /// Orders each column of each lane by where its neighbours stand, forth and back, and gives each slot its height.
    fn place(&mut self, lanes: usize) {
        let losses = lanes.saturating_sub(1);
        let mut cells: Vec<Vec<Vec<usize>>> = vec![vec![Vec::new(); self.columns.len()]; lanes];
        for (index, slot) in self.slots.iter().enumerate() {
            cells[slot.lane][slot.column].push(index);
        }
        let tall = |slots: &[Slot], cell: &[usize]| -> f64 {
            cell.iter().map(|slot| slots[*slot].height + ROW_GAP).sum::<f64>() - ROW_GAP
        };
        let mut top = MARGIN + TITLE;
        self.lanes = vec![None; lanes];
        for (lane, cells) in cells.iter().enumerate().filter(|(lane, _)| *lane != losses) {
            let height = cells.iter().map(|cell| tall(&self.slots, cell)).fold(0.0, f64::max);
            if height > 0.0 {
                // The lane's name stands above its boxes.
                let bottom = top + height + 2.0 * LANE_PAD + 12.0;
                self.lanes[lane] = Some((top, bottom));
                top = bottom + LANE_GAP;
            }
        }
        let bottom = (top - LANE_GAP).max(MARGIN + TITLE + BOX);
        let stack = |slots: &mut [Slot], cell: &[usize], (top, bottom): (f64, f64)| {
            let mut y = (top + bottom - tall(slots, cell)) / 2.0;
            for slot in cell {
                let height = slots[*slot].height;
                slots[*slot].y = y + height / 2.0;
                y += height + ROW_GAP;
            }
        };
        let within =
            |band: &Option<(f64, f64)>| band.map(|(top, bottom)| (top + 12.0, bottom)).unwrap_or((0.0, bottom));
        for (cells, band) in cells.iter().zip(&self.lanes) {
            cells.iter().for_each(|cell| stack(&mut self.slots, cell, within(band)));
        }
        for round in 0..8 {
            let forth = round % 2 == 0;
            for step in 0..self.columns.len() {
                let column = if forth { step } else { self.columns.len() - 1 - step };
                for lane in (0..lanes).filter(|lane| *lane != losses) {
                    let mean = |slot: &usize| {
                        let slot = &self.slots[*slot];
                        let beside = if forth { &slot.before } else { &slot.after };
                        let ys = beside.iter().map(|other| self.slots[*other].y);
                        if beside.is_empty() { slot.y } else { ys.sum::<f64>() / beside.len() as f64 }
                    };
                    let mut order: Vec<(f64, usize)> = cells[lane][column].iter().map(|s| (mean(s), *s)).collect();
                    order.sort_by(|a, b| a.0.total_cmp(&b.0));
                    cells[lane][column] = order.into_iter().map(|(_, slot)| slot).collect();
                    stack(&mut self.slots, &cells[lane][column], within(&self.lanes[lane]));
                }
            }
        }
        self.place_losses(&cells[losses].concat(), bottom);
        self.height = self.slots.iter().map(|slot| slot.y + slot.height / 2.0).fold(bottom, f64::max) + MARGIN;
    }

    /// Losses stand beside what they take, without lanes, from the top on where they are many.
    fn place_losses(&mut self, losses: &[usize], bottom: f64) {
        let mean = |slot: &Slot| {
            let ys = slot.before.iter().map(|other| self.slots[*other].y);
            if slot.before.is_empty() { 0.0 } else { ys.sum::<f64>() / slot.before.len() as f64 }
        };
        let mut order: Vec<(f64, usize)> = losses.iter().map(|slot| (mean(&self.slots[*slot]), *slot)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = MARGIN + TITLE;
        for (y, slot) in order {
            let half = self.slots[slot].height / 2.0;
            self.slots[slot].y = y.max(free + half).min(bottom.max(free + half));
            free = self.slots[slot].y + half + ROW_GAP;
        }
    }
}

/// The column of each part: one behind the last that it takes something from. Losses stand in one column behind all.
fn columns(sketch: &Sketch) -> Vec<usize> {
    let mut column = vec![0; sketch.parts.len()];
    for _ in 0..sketch.parts.len() {
        for flow in sketch.flows.iter().filter(|flow| flow.from < flow.to) {
            column[flow.to] = column[flow.to].max(column[flow.from] + 1);
        }
    }
    // A view stands right before its first reader, not at the far left.
    for (index, _) in sketch.parts.iter().enumerate().filter(|(_, part)| part.kind == Kind::View) {
        let readers = sketch.flows.iter().filter(|flow| flow.from == index && flow.from < flow.to);
        column[index] = readers.map(|flow| column[flow.to] - 1).min().unwrap_or(0);
    }
    let is_loss = |index: &usize| sketch.parts[*index].kind == Kind::Loss;
    let last = (0..sketch.parts.len()).filter(|index| !is_loss(index)).map(|index| column[index] + 1).max();
    for index in (0..sketch.parts.len()).filter(is_loss).collect::<Vec<_>>() {
        column[index] = last.unwrap_or(0);
    }
    column
}

/// The picture, which needs nothing else.
pub fn svg(title: &str, sketch: &Sketch) -> String {
    let layout = Layout::of(sketch);
    let (left, wide) = layout.columns.last().copied().unwrap_or((MARGIN, 0.0));
    let height = layout.height + 34.0;
    let (key, key_end) = key(sketch, height - 22.0);
    let width = (left + wide + LANE_PAD + MARGIN).max(key_end + MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#1f2328\" role=\"img\" aria-label=\"{title}\">\n\
         <defs>\
         <marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0,0L8,4L0,8z\" fill=\"#334155\"/></marker>\
         <marker id=\"s\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0,0L8,4L0,8z\" fill=\"#94a3b8\"/></marker>\
         <marker id=\"e\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0,0L8,4L0,8z\" fill=\"#ea580c\"/></marker>\
         </defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"{:.0}\" font-size=\"16\" font-weight=\"600\">{title}</text>\n",
        MARGIN + 12.0,
        title = escape(title),
    );
    // The losses' column lies outside of the lanes.
    let right = left - COLUMN_GAP / 2.0 + LANE_PAD / 2.0;
    for (name, band) in sketch.lanes.iter().zip(&layout.lanes) {
        if let Some((top, bottom)) = band {
            let _ = writeln!(
                text,
                "<rect x=\"{MARGIN}\" y=\"{top:.0}\" width=\"{:.0}\" height=\"{:.0}\" rx=\"10\" fill=\"#f8fafc\" stroke=\"#e2e8f0\"/>\
                 <text x=\"{:.0}\" y=\"{:.0}\" fill=\"#64748b\" font-size=\"12\">{}</text>",
                right - MARGIN,
                bottom - top,
                MARGIN + 12.0,
                top + 18.0,
                escape(name)
            );
        }
    }
    lines(&mut text, sketch, &layout);
    for (index, part) in sketch.parts.iter().enumerate() {
        draw(&mut text, part, index, &layout);
    }
    text + &key + "</svg>\n"
}

fn lines(text: &mut String, sketch: &Sketch, layout: &Layout) {
    let side = |slot: usize, right: bool| {
        let Slot { part, column, y, .. } = &layout.slots[slot];
        let (left, wide) = layout.columns[*column];
        let x = match (part, right) {
            (Some(part), true) => left + width_of(&sketch.parts[*part]),
            (None, true) => left + wide,
            (_, false) => left,
        };
        (x, *y)
    };
    let mut labels = String::new();
    // What carries a gradient lies above what does not.
    let (carrying, others): (Vec<_>, Vec<_>) =
        sketch.flows.iter().zip(&layout.ways).partition(|(flow, _)| flow.gradient);
    for (flow, way) in others.into_iter().chain(carrying) {
        let (colour, dash, marker) = match flow.gradient {
            true => ("#334155", "", "a"),
            false => ("#94a3b8", " stroke-dasharray=\"5 4\"", "s"),
        };
        let mut path = String::new();
        for (index, pair) in way.windows(2).enumerate() {
            let ((x0, y0), (x1, y1)) = (side(pair[0], true), side(pair[1], false));
            let bend = ((x1 - x0) / 2.0).abs().max(24.0);
            if index == 0 {
                let _ = write!(path, "M{x0:.1},{y0:.1}");
            } else {
                let _ = write!(path, "L{x0:.1},{y0:.1}");
            }
            let _ = write!(path, "C{:.1},{y0:.1} {:.1},{y1:.1} {x1:.1},{y1:.1}", x0 + bend, x1 - bend);
        }
        let _ = writeln!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash} marker-end=\"url(#{marker})\"/>"
        );
        if !flow.names.is_empty() {
            let ((x0, y0), (x1, y1)) = (side(way[0], true), side(way[1], false));
            let _ = writeln!(
                labels,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#475569\" stroke=\"#f8fafc\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
                (x0 + x1) / 2.0,
                (y0 + y1) / 2.0 - 4.0,
                escape(&flow.names.join(", "))
            );
        }
    }
    for follow in &sketch.follows {
        let middle = |part: usize| {
            let (left, _) = layout.columns[layout.slots[part].column];
            (left + width_of(&sketch.parts[part]) / 2.0, layout.slots[part].y)
        };
        let ((x0, y0), (x1, y1)) = (middle(follow.from), middle(follow.to));
        let down = if y1 > y0 { BOX / 2.0 } else { -BOX / 2.0 };
        let (y0, y1) = (y0 + down, y1 - down);
        let bend = ((y1 - y0) / 2.0).abs().max(20.0) * down.signum();
        let _ = writeln!(
            text,
            "<path d=\"M{x0:.1},{y0:.1}C{x0:.1},{:.1} {x1:.1},{:.1} {x1:.1},{y1:.1}\" fill=\"none\" stroke=\"#ea580c\" stroke-width=\"1.5\" stroke-dasharray=\"1.5 3.5\" stroke-linecap=\"round\" marker-end=\"url(#e)\"/>",
            y0 + bend,
            y1 - bend
        );
        let _ = writeln!(
            labels,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"#c2410c\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            (x0 + x1) / 2.0 + 6.0,
            (y0 + y1) / 2.0,
            escape(&follow.momentum)
        );
    }
    *text += &labels;
}

fn draw(text: &mut String, part: &Part, index: usize, layout: &Layout) {
    let slot = &layout.slots[index];
    let (x, y) = (layout.columns[slot.column].0, slot.y - BOX / 2.0);
    let (wide, (_, colours)) = (width_of(part), colours(part.kind));
    let round = match part.kind {
        Kind::View => BOX / 2.0,
        Kind::Value => 12.0,
        Kind::Trained(_) | Kind::Copy | Kind::Fixed | Kind::Loss => 5.0,
    };
    let dash = if part.kind == Kind::Copy { " stroke-dasharray=\"1.5 3.5\" stroke-linecap=\"round\"" } else { "" };
    let middle = x + wide / 2.0;
    let about = about(part);
    let first = if about.is_some() { slot.y - 2.0 } else { slot.y + 4.5 };
    let _ = write!(
        text,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{BOX}\" rx=\"{round}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"{dash}/>\
         <text x=\"{middle:.1}\" y=\"{first:.1}\" text-anchor=\"middle\">{}</text>",
        colours.fill,
        colours.stroke,
        escape(&part.name)
    );
    if let Some(about) = about {
        let _ = write!(
            text,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#475569\">{}</text>",
            slot.y + 12.5,
            escape(&about)
        );
    }
    text.push('\n');
}

/// What colours and lines mean, of those that are there, and where that ends.
fn key(sketch: &Sketch, y: f64) -> (String, f64) {
    let (mut text, mut x) = (String::new(), MARGIN);
    let mut entry = |mark: String, meaning: &str| {
        let _ = writeln!(
            text,
            "<g transform=\"translate({x:.0},{y:.0})\">{mark}<text x=\"32\" y=\"4\" font-size=\"12\" fill=\"#475569\">{meaning}</text></g>"
        );
        x += 32.0 + meaning.len() as f64 * 6.4 + 18.0;
    };
    let line =
        |colour: &str, dash: &str| format!("<path d=\"M0,0H26\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash}/>");
    entry(line("#334155", ""), "gradient comes back");
    if sketch.flows.iter().any(|flow| !flow.gradient) {
        entry(line("#94a3b8", " stroke-dasharray=\"5 4\""), "no gradient");
    }
    if !sketch.follows.is_empty() {
        entry(line("#ea580c", " stroke-dasharray=\"1.5 3.5\" stroke-linecap=\"round\""), "average, and its momentum");
    }
    let there = |class: &str| sketch.parts.iter().any(|part| colours(part.kind).0 == class);
    for (_, colours) in legend().into_iter().filter(|(class, _)| there(class)) {
        let mark = format!(
            "<rect x=\"4\" y=\"-8\" width=\"22\" height=\"16\" rx=\"4\" fill=\"{}\" stroke=\"{}\"/>",
            colours.fill, colours.stroke
        );
        entry(mark, colours.meaning);
    }
    (text, x)
}
