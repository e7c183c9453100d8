//! Pixels of `shapes`: how much of each the object covers, and the colours that come of it.
//!
//! **Invariant:** only additions, multiplications, divisions and comparisons of doubles in a fixed order, and `libm`
//! for the rotation, so that the bytes are the same everywhere.

use super::outline::Outline;
use crate::data::rng::Stream;
use crate::data::view::Draw;

/// Lines within a row of pixels. Along a line coverage is exact, so that eight lines make at least nine levels.
const LINES: usize = 8;

/// Cells a side of the texture's two octaves, and their shares.
const OCTAVES: [(usize, f64); 2] = [(4, 0.6), (8, 0.4)];
/// Luma that a texture of 100% adds or takes at most.
const TEXTURE: f64 = 0.25;

/// Where the object lies, in pixels, and by how much of a full turn it is rotated.
pub(super) struct Placed {
    pub center: (f64, f64),
    pub radius: f64,
    pub turns: f64,
}

/// Share of each pixel that lies within the outline, row by row.
pub(super) fn coverage(outline: &Outline, placed: &Placed, height: usize, width: usize) -> Vec<f64> {
    let angle = std::f64::consts::TAU * placed.turns;
    let (sin, cos) = (placed.radius * libm::sin(angle), placed.radius * libm::cos(angle));
    let place = |(x, y): (f64, f64)| (placed.center.0 + x * cos - y * sin, placed.center.1 + x * sin + y * cos);
    let mut edges = Vec::new();
    for corners in outline {
        let corners: Vec<_> = corners.iter().map(|corner| place(*corner)).collect();
        edges.extend((0..corners.len()).map(|i| (corners[i], corners[(i + 1) % corners.len()])));
    }
    let mut covered = vec![0.0; height * width];
    let mut crossings = Vec::new();
    for line in 0..height * LINES {
        let y = (line as f64 + 0.5) / LINES as f64;
        crossings.clear();
        for &((x0, y0), (x1, y1)) in &edges {
            if (y0 <= y) != (y1 <= y) {
                crossings.push(x0 + (y - y0) / (y1 - y0) * (x1 - x0));
            }
        }
        crossings.sort_by(f64::total_cmp);
        let row = &mut covered[line / LINES * width..][..width];
        for span in crossings.chunks_exact(2) {
            fill(row, span[0].clamp(0.0, width as f64), span[1].clamp(0.0, width as f64));
        }
    }
    covered
}

/// Adds one line from `left` to `right` to a row of pixels.
fn fill(row: &mut [f64], left: f64, right: f64) {
    // `as` rounds toward zero, and both are positive.
    for (x, pixel) in row.iter_mut().enumerate().take(right as usize + 1).skip(left as usize) {
        let inside = right.min(x as f64 + 1.0) - left.max(x as f64);
        *pixel += inside / LINES as f64;
    }
}

/// 8-bit RGB, row by row: the object's colour over the background's, as far as it covers a pixel.
pub(super) fn pixels(
    coverage: &[f64],
    (height, width): (usize, usize),
    object: [f64; 3],
    background: [f64; 3],
    texture: &Texture,
) -> Vec<u8> {
    let longer = height.max(width) as f64;
    let mut bytes = Vec::with_capacity(coverage.len() * 3);
    for (index, covered) in coverage.iter().enumerate() {
        let (row, column) = (index / width, index % width);
        let added = texture.at((column as f64 + 0.5) / longer, (row as f64 + 0.5) / longer);
        for (object, background) in object.into_iter().zip(background) {
            let behind = background + added;
            let value = behind + (object - behind) * covered;
            // `as` stops at 0 and 255.
            bytes.push((value * 255.0 + 0.5) as u8);
        }
    }
    bytes
}

/// Soft clouds: numbers at the corners of a grid, blended between them.
pub(super) struct Texture {
    strength: f64,
    /// For each octave (cells + 1)² numbers in [-1, 1).
    grids: Vec<Vec<f64>>,
}

impl Texture {
    pub(super) fn draw(strength: f64, stream: &mut Stream) -> Texture {
        let grid = |cells: usize, stream: &mut Stream| {
            (0..(cells + 1) * (cells + 1)).map(|_| 2.0 * stream.uniform() - 1.0).collect()
        };
        Texture { strength, grids: OCTAVES.iter().map(|(cells, _)| grid(*cells, stream)).collect() }
    }

    /// Luma to add at a place in [0, 1).
    fn at(&self, x: f64, y: f64) -> f64 {
        if self.strength == 0.0 {
            return 0.0;
        }
        let octaves = self.grids.iter().zip(OCTAVES).map(|(grid, (cells, share))| share * blend(grid, cells, x, y));
        TEXTURE * self.strength * octaves.sum::<f64>()
    }
}

/// The number at a place of a grid: blended by 3t² − 2t³, which leaves no edge at the corners.
fn blend(grid: &[f64], cells: usize, x: f64, y: f64) -> f64 {
    let split = |v: f64| {
        let scaled = v * cells as f64;
        let cell = (scaled as usize).min(cells - 1);
        let t = scaled - cell as f64;
        (cell, t * t * (3.0 - 2.0 * t))
    };
    let ((column, tx), (row, ty)) = (split(x), split(y));
    let corner = |row: usize, column: usize| grid[row * (cells + 1) + column];
    let mix = |a: f64, b: f64, t: f64| a + (b - a) * t;
    let above = mix(corner(row, column), corner(row, column + 1), tx);
    let below = mix(corner(row + 1, column), corner(row + 1, column + 1), tx);
    mix(above, below, ty)
}
