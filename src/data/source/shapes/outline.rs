//! The classes of `shapes`: closed lines in the unit circle, x to the right and y down.
//!
//! **Invariant:** the order is that of the labels, and pictures hang on every point: a change of either is a new data
//! set. What lies within an odd number of loops is inside.

/// Corners of loops; the last is joined to the first.
pub(super) type Outline = Vec<Vec<(f64, f64)>>;

/// Sides of a full circle: at a radius of 100 px they stay within 0.13 px of it.
const SIDES: usize = 64;

/// Names and outlines. The most different come first: few classes are an easy data set.
pub(super) fn classes() -> Vec<(String, Outline)> {
    let classes: [(&str, Outline); 12] = [
        ("disc", vec![regular(SIDES, 1.0)]),
        ("square", vec![turned(regular(4, 1.0), 1.0 / 8.0)]),
        ("triangle", vec![regular(3, 1.0)]),
        ("star", vec![star()]),
        ("cross", vec![cross()]),
        ("ring", vec![regular(SIDES, 1.0), regular(SIDES, 0.55)]),
        ("heart", vec![heart()]),
        ("crescent", vec![crescent()]),
        ("arrow", vec![mirrored(&[(0.0, -1.0), (0.8, -0.1), (0.3, -0.1), (0.3, 0.95)])]),
        ("hourglass", vec![mirrored(&[(0.7, -0.7), (0.12, 0.0), (0.7, 0.7)])]),
        ("hexagon", vec![regular(6, 1.0)]),
        ("drop", vec![drop_shape()]),
    ];
    classes.into_iter().map(|(name, outline)| (name.to_owned(), outline)).collect()
}

/// The point at a share of a full turn, clockwise from the top.
fn at(turns: f64, radius: f64) -> (f64, f64) {
    let angle = std::f64::consts::TAU * turns;
    (radius * libm::sin(angle), -radius * libm::cos(angle))
}

/// `count` corners on a circle, the first on top.
fn regular(count: usize, radius: f64) -> Vec<(f64, f64)> {
    (0..count).map(|i| at(i as f64 / count as f64, radius)).collect()
}

fn turned(points: Vec<(f64, f64)>, turns: f64) -> Vec<(f64, f64)> {
    let (sin, cos) = (libm::sin(std::f64::consts::TAU * turns), libm::cos(std::f64::consts::TAU * turns));
    points.into_iter().map(|(x, y)| (x * cos - y * sin, x * sin + y * cos)).collect()
}

/// The right half from top to bottom, and the same on the left.
fn mirrored(right: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let left = right.iter().rev().filter(|(x, _)| *x != 0.0).map(|(x, y)| (-x, *y));
    right.iter().copied().chain(left).collect()
}

fn star() -> Vec<(f64, f64)> {
    (0..10).map(|i| at(i as f64 / 10.0, if i % 2 == 0 { 1.0 } else { 0.42 })).collect()
}

fn cross() -> Vec<(f64, f64)> {
    // The outer corners lie on the unit circle, but for a hundredth.
    let (arm, half) = (0.94, 0.32);
    mirrored(&[(half, -arm), (half, -half), (arm, -half), (arm, half), (half, half), (half, arm)])
}

/// The curve x = 16 sin³ t, y = 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, brought into the unit circle.
fn heart() -> Vec<(f64, f64)> {
    let point = |i: usize| {
        let t = std::f64::consts::TAU * i as f64 / SIDES as f64;
        let sin = libm::sin(t);
        let y = 13.0 * libm::cos(t) - 5.0 * libm::cos(2.0 * t) - 2.0 * libm::cos(3.0 * t) - libm::cos(4.0 * t);
        (16.0 * sin * sin * sin / 17.0, -(y + 2.5) / 17.0)
    };
    (0..SIDES).map(point).collect()
}

/// The unit circle without a smaller one that covers its right side.
fn crescent() -> Vec<(f64, f64)> {
    // Both pass through the horns, 50° above and below the x axis; the smaller one's centre lies at x = 0.45.
    let (horn, centre) = (50.0f64.to_radians(), 0.45);
    let (x, y) = (libm::cos(horn) - centre, libm::sin(horn));
    let (inner, radius) = (libm::atan2(y, x), libm::sqrt(x * x + y * y));
    let arc = |from: f64, to: f64, i: usize| from + (to - from) * i as f64 / SIDES as f64;
    let full = std::f64::consts::TAU;
    let outside = (0..SIDES).map(|i| arc(horn, full - horn, i)).map(|a| (libm::cos(a), libm::sin(a)));
    let inside = (0..SIDES).map(|i| arc(full - inner, inner, i));
    let inside = inside.map(|a| (centre + radius * libm::cos(a), radius * libm::sin(a)));
    outside.chain(inside).collect()
}

/// A circle below, and the two lines from the top that touch it.
fn drop_shape() -> Vec<(f64, f64)> {
    let (radius, centre) = (0.62, 0.38);
    let touch = libm::acos(radius / (1.0 + centre)) / std::f64::consts::TAU;
    let round = (0..=SIDES).map(|i| {
        let (x, y) = at(touch + (1.0 - 2.0 * touch) * i as f64 / SIDES as f64, radius);
        (x, y + centre)
    });
    std::iter::once((0.0, -1.0)).chain(round).collect()
}
