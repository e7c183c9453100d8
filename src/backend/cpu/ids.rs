//! Ops that give ids, take them, or put values in order.

use std::cmp::Ordering;

use super::memory::Views;
use super::real::Real;

/// An operand as numbers: ids below 2⁵³ and all floats keep their order and equality.
#[derive(Clone, Copy)]
enum Numbers<'a, E> {
    Floats(&'a [E]),
    Ids(&'a [i64]),
}

impl<'a, E: Real> Numbers<'a, E> {
    fn of(views: &Views<'a, E>) -> Self {
        if views.is_ids(0) { Numbers::Ids(views.ids(0)) } else { Numbers::Floats(views.read(0)) }
    }

    fn at(self, i: usize) -> f64 {
        match self {
            Numbers::Floats(floats) => floats[i].to_f64(),
            Numbers::Ids(ids) => ids[i] as f64,
        }
    }
}

/// 1 where the comparison of two operands of ids holds, else 0.
pub(super) fn compare<E: Real>(views: Views<E>, holds: fn(&i64, &i64) -> bool) {
    let (a, b) = (views.ids(0), views.ids(1));
    for (out, (a, b)) in views.out.iter_mut().zip(a.iter().zip(b)) {
        *out = if holds(a, b) { E::ONE } else { E::ZERO };
    }
}

/// Stable ascending order within each row; NaN last.
pub(super) fn argsort<E: Real>(views: Views<E>, width: usize) {
    let numbers = Numbers::of(&views);
    let less = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    let Views { out_ids, .. } = views;
    for (row, order) in out_ids.chunks_exact_mut(width).enumerate() {
        order.iter_mut().zip(0..).for_each(|(id, i)| *id = i);
        let at = |id: i64| numbers.at(row * width + id as usize);
        // By place where values are equal: a stable sort would allocate.
        order.sort_unstable_by(|a, b| less(at(*a), at(*b)).then(a.cmp(b)));
    }
}

/// Index of the largest value of each row, the first of equals.
pub(super) fn argmax<E: Real>(views: Views<E>, width: usize) {
    let numbers = Numbers::of(&views);
    for row in 0..views.out_ids.len() {
        let at = |i: usize| numbers.at(row * width + i);
        let more =
            |best: usize, i: usize| if at(i).partial_cmp(&at(best)) == Some(Ordering::Greater) { i } else { best };
        views.out_ids[row] = (1..width).fold(0, more) as i64;
    }
}

/// A number cut to a whole one. NaN and what no id holds become −1, which is out of every range.
pub(super) fn to_id(value: f64) -> i64 {
    if value.is_finite() && value.abs() < 9e15 { value as i64 } else { -1 }
}
