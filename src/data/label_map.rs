//! The class of each pixel of a picture, and of each pixel of a view of it.
//!
//! **Invariant:** classes are never blended: a view's pixel has the class of the one pixel whose area holds its centre.

use super::view::geometry::Geometry;

/// The class of a pixel that has none.
pub const NONE: i32 = -1;

/// `height` × `width` classes, row by row; [`NONE`] where a pixel has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    pub height: usize,
    pub width: usize,
    pub data: Vec<i32>,
}

impl LabelMap {
    /// What `size` (height, width) pixels of a view show that lies at `place`: classes as whole numbers, [`NONE`] outside of the
    /// picture. It is torchvision's `NEAREST_EXACT` of a window.
    pub fn seen(&self, place: &Geometry, size: (usize, usize)) -> Vec<f32> {
        let rows = centres(size.0, (place.top, place.height), self.height, false);
        let columns = centres(size.1, (place.left, place.width), self.width, place.flipped);
        let mut seen = Vec::with_capacity(size.0 * size.1);
        for row in rows {
            let of_row = row.map(|row| &self.data[row * self.width..(row + 1) * self.width]);
            seen.extend(columns.iter().map(|column| match (of_row, column) {
                (Some(of_row), Some(column)) => of_row[*column] as f32,
                _ => NONE as f32,
            }));
        }
        seen
    }

    /// The first class that is none of `classes`.
    pub fn beyond(&self, classes: usize) -> Option<i32> {
        self.data.iter().copied().find(|class| *class >= 0 && *class as usize >= classes)
    }
}

/// For each of `count` pixels, which of `whole` its centre lies in: they share what begins at `begin` and is `share` long, in shares
/// of the whole. `None` outside.
fn centres(count: usize, (begin, share): (f64, f64), whole: usize, mirrored: bool) -> Vec<Option<usize>> {
    let place = |at: usize| {
        let at = (at as f64 + 0.5) / count as f64;
        let at = (begin + share * if mirrored { 1.0 - at } else { at }) * whole as f64;
        (at >= 0.0 && at < whole as f64).then_some(at as usize)
    };
    (0..count).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::view::geometry::Window;

    fn numbered(height: usize, width: usize) -> LabelMap {
        LabelMap { height, width, data: (0..(height * width) as i32).collect() }
    }

    #[test]
    fn a_window_and_its_mirror() {
        let map = numbered(4, 6);
        let mut place = Geometry::default();
        assert_eq!(map.seen(&place, (4, 6)), (0..24).map(|class| class as f32).collect::<Vec<_>>());
        place.cut(Window { top: 1, left: 2, height: 2, width: 3 }, (4, 6));
        assert_eq!(map.seen(&place, (2, 3)), [8.0, 9.0, 10.0, 14.0, 15.0, 16.0]);
        place.flip();
        assert_eq!(map.seen(&place, (2, 3)), [10.0, 9.0, 8.0, 16.0, 15.0, 14.0]);
        // Twice as large, and half.
        assert_eq!(map.seen(&place, (2, 6)), [10.0, 10.0, 9.0, 9.0, 8.0, 8.0, 16.0, 16.0, 15.0, 15.0, 14.0, 14.0]);
        assert_eq!(map.seen(&Geometry::default(), (2, 3)), [7.0, 9.0, 11.0, 19.0, 21.0, 23.0]);
    }

    #[test]
    fn outside_there_is_no_class() {
        let mut place = Geometry::default();
        place.cut_at((-1, -1), (4, 4), (2, 2));
        let none = NONE as f32;
        let rows = [[none; 4], [none, 0.0, 1.0, none], [none, 2.0, 3.0, none], [none; 4]];
        assert_eq!(numbered(2, 2).seen(&place, (4, 4)), rows.as_flattened());
    }

    #[test]
    fn a_class_too_many_is_found() {
        assert_eq!(numbered(2, 2).beyond(4), None);
        assert_eq!(numbered(2, 2).beyond(3), Some(3));
        assert_eq!(LabelMap { height: 1, width: 1, data: vec![NONE] }.beyond(1), None);
    }
}
