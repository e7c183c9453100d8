//! Classes as they were judged: who is taken for whom, and what confidence is worth, as inline SVG.
//!
//! **Invariant:** a cell of the confusion is a share of its row, so that rare classes are seen as well as frequent ones.

use std::fmt::Write;

use super::axis::percent;
use super::html::escape;
use crate::eval::Classified;

/// Classes that a matrix is drawn of; of more the pairs that are confused most are listed.
const DRAWN: usize = 30;
/// Pairs that are listed.
const LISTED: usize = 12;
const SIZE: f64 = 1000.0;
/// Of the SVG, beside the cells: names of classes.
const NAMES: f64 = 150.0;

/// Figures of `found`; `epoch` when it was made.
pub fn html(found: &Classified, epoch: &str) -> String {
    let confusion = if found.classes.len() <= DRAWN { matrix(found, epoch) } else { pairs(found, epoch) };
    confusion + &reliability(found, epoch)
}

/// Pictures of each class.
fn totals(found: &Classified) -> Vec<u64> {
    let mut totals = vec![0; found.classes.len()];
    for (class, _, pictures) in &found.confusion {
        if let Some(total) = totals.get_mut(*class) {
            *total += pictures;
        }
    }
    totals
}

/// A figure with a title, when it was made, and a line below.
pub fn figure(title: &str, epoch: &str, body: &str, note: &str) -> String {
    format!(
        "<figure class=\"chart classes\">\n<figcaption><h3>{title}</h3><span>{epoch}</span></figcaption>\n{body}\n<p \
         class=\"note\">{note}</p>\n</figure>\n"
    )
}

fn matrix(found: &Classified, epoch: &str) -> String {
    let (totals, count) = (totals(found), found.classes.len());
    let side = (SIZE - NAMES) / count.max(1) as f64;
    let font = (side * 0.55).clamp(12.0, 28.0);
    let mut text = String::new();
    for (at, name) in found.classes.iter().enumerate() {
        let middle = NAMES + side * (at as f64 + 0.5);
        let (long, short) = (escape(name), escape(&shortened(name)));
        let _ = write!(
            text,
            "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\" dominant-baseline=\"middle\" font-size=\"{font:.0}\">{short}\
             <title>{long}</title></text><text transform=\"translate({middle:.0} {:.0}) rotate(-90)\" dominant-baseline=\"middle\" \
             font-size=\"{font:.0}\">{short}<title>{long}</title></text>",
            NAMES - 10.0,
            NAMES - 10.0,
        );
    }
    let mut cells = String::new();
    for &(class, taken, pictures) in &found.confusion {
        let (Some(of), Some(as_one)) = (found.classes.get(class), found.classes.get(taken)) else { continue };
        let share = pictures as f64 / totals[class].max(1) as f64;
        // What is right has the colour of what is good.
        let kind = if class == taken { "right" } else { "wrong" };
        let _ = write!(
            cells,
            "<rect class=\"{kind}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill-opacity=\"{share:.3}\"><title>{} \
             taken for {}: {pictures} of {}, {}</title></rect>",
            NAMES + side * taken as f64,
            NAMES + side * class as f64,
            side * 0.96,
            side * 0.96,
            escape(of),
            escape(as_one),
            totals[class],
            percent(share),
        );
    }
    let body = format!(
        "<svg viewBox=\"0 0 {SIZE} {SIZE}\" role=\"img\" aria-label=\"confusion of the classes\"><rect class=\"frame\" x=\"{NAMES}\" \
         y=\"{NAMES}\" width=\"{0}\" height=\"{0}\"/>{cells}{text}</svg>",
        SIZE - NAMES
    );
    figure(
        "confusion",
        epoch,
        &body,
        "rows are the pictures' classes, columns what they were taken for; a cell is as dark as its share of the row",
    )
}

/// At most so many letters as stand beside a cell.
fn shortened(name: &str) -> String {
    const LETTERS: usize = 12;
    match name.chars().count() > LETTERS {
        true => name.chars().take(LETTERS - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// The pairs of classes that are confused most, by the share of the first that is taken for the second.
fn pairs(found: &Classified, epoch: &str) -> String {
    let totals = totals(found);
    let mut wrong: Vec<(f64, &(usize, usize, u64))> = found
        .confusion
        .iter()
        .filter(|(class, taken, _)| class != taken && *class < totals.len() && *taken < totals.len())
        .map(|entry| (entry.2 as f64 / totals[entry.0].max(1) as f64, entry))
        .collect();
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1.0, a.1.1).cmp(&(b.1.0, b.1.1))));
    let rows: String = wrong
        .iter()
        .take(LISTED)
        .map(|(share, (class, taken, pictures))| {
            let (of, as_one) = (escape(&found.classes[*class]), escape(&found.classes[*taken]));
            format!(
                "<tr><td>{of}</td><td>{as_one}</td><td>{pictures} of {}, {}</td></tr>\n",
                totals[*class],
                percent(*share)
            )
        })
        .collect();
    let body = format!(
        "<div class=\"scroll\"><table><thead><tr><th>class</th><th>taken for</th><th>pictures</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>"
    );
    figure(
        "confusion",
        epoch,
        &body,
        &format!("the pairs of the {} classes that are confused most", found.classes.len()),
    )
}

/// The share that is right over the confidence, for each interval of it.
fn reliability(found: &Classified, epoch: &str) -> String {
    let bins = found.reliability.len().max(1) as f64;
    let width = SIZE / bins;
    let most = found.reliability.iter().map(|bin| bin.pictures).max().unwrap_or(0).max(1) as f64;
    let height = SIZE * 0.6;
    let mut bars = String::new();
    for (at, bin) in found.reliability.iter().enumerate().filter(|(_, bin)| bin.pictures > 0) {
        let right = bin.right as f64 / bin.pictures as f64;
        let told = format!("confidence {}: {} right of {}", percent(bin.confidence), percent(right), bin.pictures);
        let _ = write!(
            bars,
            "<rect class=\"right\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill-opacity=\"{:.2}\"><title>{told}</title></rect>",
            width * at as f64 + 2.0,
            height * (1.0 - right),
            width - 4.0,
            height * right,
            // Few pictures tell little.
            0.25 + 0.75 * (bin.pictures as f64 / most).sqrt(),
        );
        let x = bin.confidence * SIZE;
        let _ = write!(
            bars,
            "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"9\"><title>{told}</title></circle>",
            height * (1.0 - right)
        );
    }
    let body = format!(
        "<svg viewBox=\"-6 -12 1012 {:.0}\" role=\"img\" aria-label=\"share that is right over confidence\"><rect class=\"frame\" \
         width=\"{SIZE}\" height=\"{height}\"/><path class=\"even\" d=\"M0 {height}L{SIZE} 0\"/>{bars}</svg>",
        height + 24.0
    );
    let note = format!(
        "share that is right (upwards) over confidence (to the right), darker where there are more pictures; on the line confidence \
         is what it says. Calibration error {}, over {} pictures",
        percent(found.calibration_error),
        found.pictures
    );
    figure("reliability", epoch, &body, &note)
}
