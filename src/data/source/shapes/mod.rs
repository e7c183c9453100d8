//! Rendered objects with nuisance of colour, place, scale, rotation and background: labels that pixels do not give away.
//!
//! `mod` draws what a picture shows, `outline` holds the classes, `paint` makes pixels of it. `docs/shapes.md` says what
//! each strength does, and how far it may go.
//!
//! **Invariant:** picture `i` of a split hangs on its settings and on `i`, never on `count`, the run's seed, or the
//! machine: no arithmetic but IEEE's basic operations, and `libm` in software where a circle is wanted.

mod outline;
mod paint;

use super::{Identity, Image, LabelMap, Source};
use crate::data::rng::{Key, Stream};
use crate::data::view::Draw;
use crate::spec::{ShapesSpec, Split};

use outline::Outline;
use paint::{Placed, Texture};

/// Diameter of the circle around the object, as a share of the picture's shorter side: the middle, and how far a
/// scale of 100% goes to both sides.
const DIAMETER: (f64, f64) = (0.55, 0.30);

/// Luma of the background before its polarity is drawn: where it is fixed, and the range at 100%.
const BACKGROUND: (f64, (f64, f64)) = (0.25, (0.10, 0.45));
/// By how much the object's luma differs: where it is fixed, and the range at 100%.
const CONTRAST: (f64, (f64, f64)) = (0.45, (0.25, 0.50));
/// Greatest distance from gray, in the plane of Cb and Cr.
const CHROMA: f64 = 0.20;

pub(super) struct Shapes {
    spec: ShapesSpec,
    outlines: Vec<Outline>,
    classes: Vec<String>,
    channels: usize,
}

impl Shapes {
    pub(super) fn open(spec: &ShapesSpec, channels: usize) -> Shapes {
        let (names, outlines) = outline::classes().into_iter().take(spec.classes).unzip();
        Shapes { spec: spec.clone(), outlines, classes: names, channels }
    }

    /// The stream of `name` for number `index` of the split; no run's seed goes into it.
    fn stream(&self, name: &str, index: usize) -> Stream {
        Key { seed: 0, epoch: 0, sample: index as u64 }.stream(&format!("shapes.{}.{name}", self.split()))
    }

    fn split(&self) -> &'static str {
        match self.spec.split {
            Split::Train => "train",
            Split::Val => "val",
        }
    }

    /// Every block of as many pictures as there are classes shows each class once, in an order of its own.
    fn class(&self, index: usize) -> usize {
        let classes = self.classes.len();
        let mut order: Vec<usize> = (0..classes).collect();
        let mut stream = self.stream("order", index / classes);
        for last in (1..classes).rev() {
            order.swap(last, stream.below(last as u64 + 1) as usize);
        }
        order[index % classes]
    }

    /// What picture `index` shows.
    ///
    /// All numbers are drawn whatever the strengths are: changing one strength leaves the draws of the others.
    fn scene(&self, index: usize) -> Scene {
        let ShapesSpec { size: (height, width), color, position, scale, rotation, background, texture, .. } = self.spec;
        let (height, width) = (height as f64, width as f64);
        let mut stream = self.stream("picture", index);
        let diameter = (DIAMETER.0 + DIAMETER.1 * scale * symmetric(&mut stream)) * height.min(width);
        let room = |side: f64| (side - diameter) / 2.0 * position;
        let center =
            (width / 2.0 + room(width) * symmetric(&mut stream), height / 2.0 + room(height) * symmetric(&mut stream));
        let turns = symmetric(&mut stream) * rotation / 2.0;
        let luma = toward(BACKGROUND, background, &mut stream);
        let object = luma + toward(CONTRAST, color, &mut stream);
        // As often light on dark as dark on light at 100%.
        let inverted = stream.uniform() < background / 2.0;
        let polarity = |luma: f64| if inverted { 1.0 - luma } else { luma };
        let background = rgb(polarity(luma), background, &mut stream);
        let object = rgb(polarity(object), color, &mut stream);
        let placed = Placed { center, radius: diameter / 2.0, turns };
        Scene { placed, object, background, texture: Texture::draw(texture, &mut stream) }
    }
}

struct Scene {
    placed: Placed,
    object: [f64; 3],
    background: [f64; 3],
    texture: Texture,
}

impl Source for Shapes {
    fn len(&self) -> usize {
        self.spec.count
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let Scene { placed, object, background, texture } = self.scene(index);
        let (height, width) = self.spec.size;
        let coverage = paint::coverage(&self.outlines[self.class(index)], &placed, height, width);
        let pixels = paint::pixels(&coverage, (height, width), object, background, &texture);
        Image::new(height, width, 3, pixels).into_channels(self.channels)
    }

    /// 0 for the background, and 1 and on for the classes where an object covers half of a pixel or more.
    fn label_map(&self, index: usize) -> Option<Result<LabelMap, String>> {
        let (class, (height, width)) = (self.class(index), self.spec.size);
        let coverage = paint::coverage(&self.outlines[class], &self.scene(index).placed, height, width);
        let class_of = |covered: &f64| if *covered >= 0.5 { class as i32 + 1 } else { 0 };
        Some(Ok(LabelMap { height, width, data: coverage.iter().map(class_of).collect() }))
    }

    fn label(&self, index: usize) -> Option<i64> {
        Some(self.class(index) as i64)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        format!("shapes/{}/{index}", self.split())
    }

    fn identity(&self, index: usize) -> Identity {
        // All that a picture hangs on: never how many there are.
        let spec = ShapesSpec { count: 0, ..self.spec.clone() };
        Identity::of_text(&format!("{} of {spec:?}", self.name(index)))
    }
}

/// Uniform over [-1, 1).
fn symmetric(stream: &mut Stream) -> f64 {
    2.0 * stream.uniform() - 1.0
}

/// From the fixed value at a strength of 0 to uniform over the range at 1.
fn toward((fixed, range): (f64, (f64, f64)), strength: f64, stream: &mut Stream) -> f64 {
    let drawn = range.0 + (range.1 - range.0) * stream.uniform();
    fixed + (drawn - fixed) * strength
}

/// A colour of that luma and any hue, at most `strength` of the way from gray to the greatest chroma.
fn rgb(luma: f64, strength: f64, stream: &mut Stream) -> [f64; 3] {
    let angle = std::f64::consts::TAU * stream.uniform();
    let chroma = CHROMA * strength * stream.uniform();
    let (blue, red) = (chroma * libm::cos(angle), chroma * libm::sin(angle));
    // ITU-R 601, whose luma `data.channels = 1` takes again.
    [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
}
