//! Pictures beside the classes of their pixels and what a network takes them for, as a contact sheet.
//!
//! Before: [`super::segmenter`] judges the same values. After: a run writes the sheet when it is judged.

use image::{Rgb, RgbImage};

use super::chosen::Named;
use super::looks::{LooksError, seen};
use super::sheet::{self, Sheet};
use crate::backend::Session;
use crate::data::evaluation::{EvalBatches, sample_inputs};
use crate::graph::Program;
use crate::spec::Segmentation;
use crate::tensor::{Element, OutputValue};

/// Pixels without a class, and those of class 0, which is the background where there is one.
const NONE: [u8; 3] = [0, 0, 0];
const FIRST: [u8; 3] = [70, 70, 70];
/// Part of the circle of hues between two classes: the golden section, so that no two of few are alike.
const TURN: f64 = 0.618_033_988_749_895;

/// Draws `count` pictures, spread evenly over `source`: as the network takes them in, the classes of their pixels, and what `judged`
/// takes them for.
pub fn sheet<E: Element>(
    session: &mut dyn Session<E>,
    program: &Program,
    judged: &Segmentation,
    source: &Named,
    count: usize,
) -> Result<RgbImage, LooksError> {
    let name = || program.spec.name.clone();
    let graph = program.features.as_ref().ok_or_else(|| LooksError::NoFeatures { name: name() })?;
    let (views, seed) = (&program.spec.views, program.spec.train.seed);
    let mut batches = EvalBatches::new(source.source.clone(), views, &graph.inputs, seed)?;
    let (inputs, count) = sample_inputs(&mut batches, count, &source.name)?;
    let found = session.evaluate(graph, &inputs, &[judged.wanted.clone(), judged.output.clone()])?;
    let (pictures, (height, width)) =
        seen(program, graph, &inputs, count).ok_or_else(|| LooksError::NoPatches { name: name() })?;
    let (cell, scale) = sheet::cell(height, width);
    let mut drawn = Sheet::new(&[cell; 3], count)?;
    for (row, picture) in pictures.iter().enumerate() {
        drawn.put(row, 0, picture);
        for (column, output) in found.iter().enumerate() {
            let OutputValue::Int(classes) = output else { continue };
            let own = &classes.data[row * height * width..(row + 1) * height * width];
            let cell = RgbImage::from_fn(cell.1 as u32, cell.0 as u32, |x, y| {
                Rgb(colour(own[(y as usize / scale) * width + x as usize / scale]))
            });
            drawn.put(row, column + 1, &cell);
        }
    }
    Ok(drawn.into_image())
}

/// Of one class always the same.
fn colour(class: i64) -> [u8; 3] {
    match class {
        ..0 => NONE,
        0 => FIRST,
        _ => {
            // Three waves, a third of a turn apart; later turns are darker.
            let hue = (class - 1) as f64 * TURN;
            let bright = 1.0 - 0.25 * ((class - 1) / 12 % 3) as f64;
            let wave = |third: f64| 0.5 + 0.5 * libm::cos(std::f64::consts::TAU * (hue - third / 3.0));
            [0.0, 1.0, 2.0].map(|third| ((40.0 + 215.0 * wave(third)) * bright) as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_colours_of_their_own() {
        let mut colours: Vec<[u8; 3]> = (-1..40).map(colour).collect();
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), 41);
    }
}
