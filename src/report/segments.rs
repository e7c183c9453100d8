//! Classes of pixels as they were judged: how much of each is found, as inline SVG.

use std::fmt::Write;

use super::axis::percent;
use super::classes::figure;
use crate::eval::Segmented;

/// Of the SVG, and of its bars.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;

/// A bar for each class, as high as its intersection over union; a class that is nowhere has none. `epoch` is when it was made.
pub fn html(found: &Segmented, epoch: &str) -> String {
    let width = WIDTH / found.classes.len().max(1) as f64;
    let mut bars = String::new();
    for (class, of_class) in found.classes.iter().enumerate() {
        let Some(iou) = of_class.iou() else { continue };
        // One of nothing is seen too.
        let height = (iou * HEIGHT).max(1.0);
        let _ = write!(
            bars,
            "<rect class=\"right\" x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\"><title>class {class}: IoU {}, {} \
             pixels, {} taken for it</title></rect>",
            width * class as f64,
            HEIGHT - height,
            width * 0.9,
            percent(iou),
            of_class.wanted,
            of_class.taken,
        );
    }
    let mean = HEIGHT * (1.0 - found.mean_iou);
    let body = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"intersection over union of the classes\"><rect \
         class=\"frame\" x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>{bars}<line class=\"mean\" x1=\"0\" x2=\"{WIDTH}\" \
         y1=\"{mean:.1}\" y2=\"{mean:.1}\"/></svg>"
    );
    let note = format!(
        "a bar for each class, by its number; the line is their mean, {}; of all pixels {} are right",
        percent(found.mean_iou),
        percent(found.pixel_accuracy)
    );
    figure("intersection over union", epoch, &body, &note)
}
