//! The pictures that a network takes for like others: nearest neighbours by the cosine of their features, as a contact sheet.
//!
//! Before: [`super::judge`] gives features of the bank, part by part. After: `cmaec show neighbours` writes the sheet, as a run does when
//! it is judged.
//!
//! **Invariant:** a picture is no neighbour of itself, whatever path leads to it.

use image::{Rgb, RgbImage};

use super::chosen::Named;
use super::features::{Made, unit_row};
use super::sheet::{self, Sheet, TooLarge};
use crate::data::source::{Identity, Source};

/// Pictures that ask for their neighbours, unless another number is wanted.
pub const ASKING: usize = 8;
/// Neighbours of each that are shown.
pub const NEAREST: usize = 8;
/// Height and width of a picture.
const SIDE: usize = 112;
/// Width of the frame around a neighbour, and its colour: of the asking picture's class, or of another.
const FRAME: usize = 4;
const SAME: Rgb<u8> = Rgb([46, 160, 67]);
const OTHER: Rgb<u8> = Rgb([207, 52, 52]);

/// Why the sheet could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum NeighboursError {
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("{name}: {reason}")]
    Picture { name: String, reason: String },
}

/// A picture and those nearest to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// Which picture of the queries' source.
    pub asks: usize,
    /// Pictures of the bank's source, the nearest first, with their cosines.
    pub nearest: Vec<(usize, f32)>,
}

/// What was drawn.
pub struct Drawn {
    pub image: RgbImage,
    /// Of the neighbours with a class, those of the asking picture's class, and all.
    pub same: (usize, usize),
}

/// Finds the nearest of a bank whose features come part by part.
pub(super) struct Nearby<'s> {
    /// Unit features of those that ask.
    own: Vec<Vec<f32>>,
    dim: usize,
    asking: Vec<Identity>,
    found: Vec<Near>,
    bank: &'s dyn Source,
}

impl<'s> Nearby<'s> {
    /// For `count` of `queries`, evenly spread over them; the first `dim` columns of a row are compared.
    pub fn new(queries: &Made, count: usize, dim: usize, of: &dyn Source, bank: &'s dyn Source) -> Nearby<'s> {
        let rows = queries.rows.len();
        let count = count.min(rows);
        let chosen: Vec<usize> = (0..count).map(|place| place * rows / count).collect();
        Nearby {
            own: chosen.iter().map(|&row| unit_row(&queries.features.row(row)[..dim]).collect()).collect(),
            dim,
            asking: chosen.iter().map(|&row| of.identity(queries.rows[row])).collect(),
            found: chosen.iter().map(|&row| Near { asks: queries.rows[row], nearest: Vec::new() }).collect(),
            bank,
        }
    }

    /// The first of those that are as near stays before the others.
    pub fn add(&mut self, part: &Made) {
        let mut other = Vec::with_capacity(self.dim);
        for (row, &picture) in part.rows.iter().enumerate() {
            other.clear();
            other.extend(unit_row(&part.features.row(row)[..self.dim]));
            for ((own, identity), near) in self.own.iter().zip(&self.asking).zip(&mut self.found) {
                let cosine: f32 = own.iter().zip(&other).map(|(a, b)| a * b).sum();
                let place = near.nearest.partition_point(|(_, nearer)| *nearer >= cosine);
                // Its identity is asked for where it would come in: few do.
                if place < NEAREST && cosine.is_finite() && self.bank.identity(picture) != *identity {
                    near.nearest.insert(place, (picture, cosine));
                    near.nearest.truncate(NEAREST);
                }
            }
        }
    }

    pub fn found(self) -> Vec<Near> {
        self.found
    }
}

/// Draws `found`, a row each: the picture of `queries` that asks, then its neighbours among `bank`.
pub fn sheet(found: &[Near], bank: &Named, queries: &Named) -> Result<Drawn, NeighboursError> {
    let (bank, queries) = (&*bank.source, &*queries.source);
    let mut drawn = Sheet::new(&[(SIDE + 2 * FRAME, SIDE + 2 * FRAME); 1 + NEAREST], found.len())?;
    let mut same = (0, 0);
    for (row, near) in found.iter().enumerate() {
        let class = class_of(queries, near.asks);
        drawn.put(row, 0, &framed(queries, near.asks, None)?);
        for (place, (other, _)) in near.nearest.iter().enumerate() {
            let agrees = class.as_ref().zip(class_of(bank, *other)).map(|(own, other)| *own == other);
            same = (same.0 + usize::from(agrees == Some(true)), same.1 + usize::from(agrees.is_some()));
            drawn.put(row, 1 + place, &framed(bank, *other, agrees.map(|agrees| if agrees { SAME } else { OTHER }))?);
        }
    }
    Ok(Drawn { image: drawn.into_image(), same })
}

/// By its name, for two sources may count their classes otherwise.
fn class_of(source: &dyn Source, image: usize) -> Option<String> {
    let label = source.label(image)?;
    source.classes().get(usize::try_from(label).ok()?).cloned()
}

/// A picture in the middle of a cell, with a frame around it where it has one.
fn framed(source: &dyn Source, image: usize, frame: Option<Rgb<u8>>) -> Result<RgbImage, NeighboursError> {
    let read = source.image(image);
    let read = read.map_err(|reason| NeighboursError::Picture { name: source.name(image), reason })?;
    let picture = sheet::source(&read, SIDE);
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    let frame = frame.unwrap_or(super::pictures::LINE_COLOUR);
    let mut cell = RgbImage::from_pixel((width + 2 * FRAME) as u32, (height + 2 * FRAME) as u32, frame);
    image::imageops::replace(&mut cell, &picture, FRAME as i64, FRAME as i64);
    Ok(cell)
}

#[cfg(test)]
mod tests {
    use super::super::features::Features;
    use super::*;
    use crate::data::source;
    use crate::spec::SourceSpec;

    #[test]
    fn the_nearest_come_first_and_none_is_itself() {
        let digits = SourceSpec::Digits { split: "train".to_owned() };
        let source = source::open(&digits, 1, usize::MAX).expect("digits come with the program");
        let made = |rows: &[usize], data: &[f32]| Made {
            features: Features { rows: rows.len(), dim: 2, data: data.to_vec() },
            labels: vec![-1; rows.len()],
            rows: rows.to_vec(),
        };
        let queries = made(&[10, 4], &[7.0, 0.0, 0.0, 1.0]);
        let mut nearby = Nearby::new(&queries, 8, 2, &*source, &*source);
        nearby.add(&made(&[10, 11], &[1.0, 0.0, 0.0, 2.0]));
        nearby.add(&made(&[12, 13], &[3.0, 3.0, 5.0, 0.1]));
        let found = nearby.found();
        let order = |near: &Near| near.nearest.iter().map(|(other, _)| *other).collect::<Vec<_>>();
        assert_eq!((found[0].asks, order(&found[0])), (10, vec![13, 12, 11]));
        assert_eq!((found[1].asks, order(&found[1])), (4, vec![11, 12, 13, 10]));
        assert!((found[1].nearest[0].1 - 1.0).abs() < 1e-6);
    }
}
