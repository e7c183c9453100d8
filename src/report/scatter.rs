//! The feature map as inline SVG.
//!
//! **Invariant:** both axes have one scale: distances in the picture are distances in the plane.

use std::collections::HashMap;
use std::fmt::Write;

use super::axis::percent;
use super::html::escape;
use crate::eval::FeatureMap;

/// Classes that have a colour of their own; the style sheet has as many.
const COLOURED: usize = 12;
const SIZE: f64 = 1000.0;
/// From the edge to the nearest point's centre.
const MARGIN: f64 = 24.0;

/// Figure of the map; `title` says whose it is, `epoch` when it was made.
pub fn html(map: &FeatureMap, title: &str, epoch: &str) -> String {
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    let points: Vec<(i64, [f64; 2])> = map.points.iter().map(|&(l, x, y)| (l, [f64::from(x), f64::from(y)])).collect();
    let points: Vec<_> = points.into_iter().filter(|(_, at)| at.iter().all(|x| x.is_finite())).collect();
    for (_, at) in &points {
        for axis in 0..2 {
            (low[axis], high[axis]) = (low[axis].min(at[axis]), high[axis].max(at[axis]));
        }
    }
    let span = (high[0] - low[0]).max(high[1] - low[1]);
    let scale = if span > 0.0 { (SIZE - 2.0 * MARGIN) / span } else { 0.0 };
    let height = if scale > 0.0 { ((high[1] - low[1]) * scale + 2.0 * MARGIN).max(0.3 * SIZE) } else { 0.3 * SIZE };
    let middle = [0, 1].map(|axis| (low[axis] + high[axis]) / 2.0);

    let shown = classes(map);
    let rank: HashMap<i64, usize> = shown.iter().enumerate().map(|(at, (label, _))| (*label, at)).collect();
    let mut dots = String::new();
    for (label, at) in &points {
        let (x, y) = (SIZE / 2.0 + (at[0] - middle[0]) * scale, height / 2.0 - (at[1] - middle[1]) * scale);
        let class = rank.get(label).map_or_else(|| "other".to_owned(), |rank| format!("c{rank}"));
        let _ = write!(dots, "<circle class=\"{class}\" cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"7\"/>");
    }
    let mut legend = String::new();
    for (at, (_, name)) in shown.iter().enumerate() {
        let _ = write!(legend, "<li><i class=\"dot c{at}\"></i>{}</li>", escape(name));
    }
    let others = map.classes.len().saturating_sub(shown.len());
    if others > 0 {
        let _ = write!(legend, "<li><i class=\"dot other\"></i>{others} other classes</li>");
    }
    let thinned = if points.len() < map.rows { format!("{} of ", points.len()) } else { String::new() };
    let (drawn, axes) = match map.explained {
        Some([across, up]) => (
            "two principal components of the features",
            format!(
                "of whose variance {} lies along the horizontal and {} along the vertical principal component",
                percent(across),
                percent(up)
            ),
        ),
        None => (
            "the features by t-SNE",
            "by t-SNE: points that are near are alike, how far groups lie apart says nothing".to_owned(),
        ),
    };
    format!(
        "<figure class=\"chart map\">\n<figcaption><h3>{}</h3><span>{epoch}</span></figcaption>\n<ul \
         class=\"legend\">{legend}</ul>\n<svg viewBox=\"0 0 {SIZE} {height:.0}\" role=\"img\" aria-label=\"{drawn}, \
         coloured by class\">{dots}</svg>\n<p class=\"note\">{thinned}{} pictures; {} dimensions, {axes}</p>\n</figure>\n",
        escape(title),
        map.rows,
        map.dim,
    )
}

/// Labels and names of the classes that get a colour: those with most points, in the order of their labels.
fn classes(map: &FeatureMap) -> Vec<(i64, String)> {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for (label, _, _) in map.points.iter().filter(|point| point.0 >= 0) {
        *counts.entry(*label).or_default() += 1;
    }
    let mut labels: Vec<(i64, usize)> = counts.into_iter().collect();
    labels.sort_by_key(|&(label, count)| (std::cmp::Reverse(count), label));
    let mut labels: Vec<i64> = labels.into_iter().take(COLOURED).map(|(label, _)| label).collect();
    labels.sort_unstable();
    let name = |label: i64| map.classes.get(label as usize).cloned().unwrap_or_else(|| format!("class {label}"));
    labels.into_iter().map(|label| (label, name(label))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(points: Vec<(i64, f32, f32)>) -> FeatureMap {
        let classes = (0..20).map(|at| format!("<{at}>")).collect();
        FeatureMap { step: 1, rows: points.len(), dim: 8, explained: Some([0.5, 0.25]), classes, points }
    }

    #[test]
    fn the_classes_with_most_points_have_colours() {
        let points = (0..100).map(|at| ((at * at) % 20, at as f32, -at as f32)).collect();
        let html = html(&map(points), "features", "");
        assert!(html.contains("&lt;0&gt;") && html.contains("other classes") && !html.contains("<0>"), "{html}");
        assert_eq!(html.matches("<circle").count(), 100);
    }

    #[test]
    fn one_place_for_all_is_drawn_in_the_middle() {
        let html = html(&map(vec![(-1, 2.0, 2.0), (-1, 2.0, 2.0), (-1, f32::NAN, 0.0)]), "features", "");
        assert_eq!(html.matches("cx=\"500\" cy=\"150\"").count(), 2, "{html}");
    }
}
