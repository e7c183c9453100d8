//! One tensor against its reference: the distances, the tolerance that applies, and the verdict.
//!
//! Before: [`super`] gathers a run's values. After: [`super::report`] shows the rows.
//!
//! **Invariant:** a value that is not a number never passes, in either tensor, and a wrong shape is a verdict, not a
//! panic.

use std::ops::Range;

use serde::Serialize;

use super::file::{Tensor, Values};
use super::tolerance::Tolerance;

/// Values that are compared by absolute distance, since their relative one means nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Absolute {
    /// Flat, sorted or not; what lies outside the tensor is left out.
    pub ranges: Vec<Range<usize>>,
    pub tolerance: f64,
    /// Compared with zero rather than with the reference.
    pub with_zero: bool,
}

/// How a tensor compares with its reference. Distances are NaN where a value is, or where shapes differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub name: String,
    pub group: String,
    pub shape: Vec<usize>,
    pub max_abs: f64,
    pub max_rel: f64,
    pub rms_rel: f64,
    pub tolerance: Tolerance,
    /// Largest absolute distance of the values that are compared so, and its tolerance.
    pub absolute: Option<(f64, f64)>,
    /// The largest distance over its tolerance: 1 just passes.
    pub share: f64,
    pub ok: bool,
    /// What is wrong, where the figures do not tell.
    pub note: Option<String>,
}

/// Compares `found` with `reference`. Reference ints are compared exactly.
pub fn compare(
    name: &str,
    found: &Tensor,
    reference: &Tensor,
    (group, tolerance): (&str, Tolerance),
    absolute: Option<&Absolute>,
) -> Comparison {
    let mut row = Comparison {
        name: name.to_owned(),
        group: group.to_owned(),
        shape: reference.shape.clone(),
        max_abs: f64::NAN,
        max_rel: f64::NAN,
        rms_rel: f64::NAN,
        tolerance,
        absolute: None,
        share: f64::INFINITY,
        ok: false,
        note: None,
    };
    if found.shape != reference.shape {
        row.note = Some(format!("shape {:?}, expected {:?}", found.shape, reference.shape));
        return row;
    }
    if found.values.len() != reference.values.len() {
        row.note = Some(format!("{} values, expected {}", found.values.len(), reference.values.len()));
        return row;
    }
    if let Values::Int(expected) = &reference.values {
        return exact(row, &found.values, expected);
    }
    let (x, reference) = (found.values.to_f64(), reference.values.to_f64());
    if let Some(at) = x.iter().zip(&reference).position(|(x, r)| !x.is_finite() || !r.is_finite()) {
        row.note = Some(format!("value {at} is {}, expected {}", x[at], reference[at]));
        return row;
    }

    let mut relative = vec![true; x.len()];
    let mut worst_absolute = 0.0_f64;
    if let Some(absolute) = absolute {
        for at in absolute.ranges.iter().flat_map(Clone::clone).filter(|&at| at < x.len()) {
            relative[at] = false;
            let expected = if absolute.with_zero { 0.0 } else { reference[at] };
            worst_absolute = worst_absolute.max((x[at] - expected).abs());
        }
        row.absolute = Some((worst_absolute, absolute.tolerance));
    }
    let (mut max_abs, mut max_reference, mut square, mut square_reference) = (0.0_f64, 0.0_f64, 0.0, 0.0);
    for ((x, r), _) in x.iter().zip(&reference).zip(&relative).filter(|(_, relative)| **relative) {
        max_abs = max_abs.max((x - r).abs());
        max_reference = max_reference.max(r.abs());
        square += (x - r) * (x - r);
        square_reference += r * r;
    }
    row.max_abs = max_abs.max(worst_absolute);
    row.max_rel = ratio(max_abs, max_reference);
    row.rms_rel = ratio(square.sqrt(), square_reference.sqrt());
    row.share = ratio(row.max_rel, tolerance.max).max(ratio(row.rms_rel, tolerance.rms));
    if let Some((worst, tolerance)) = row.absolute {
        row.share = row.share.max(ratio(worst, tolerance));
    }
    row.ok = row.share <= 1.0;
    row
}

fn exact(mut row: Comparison, found: &Values, expected: &[i64]) -> Comparison {
    let found = found.to_f64();
    let different = found.iter().zip(expected).filter(|(x, r)| **x != **r as f64).count();
    row.tolerance = Tolerance { max: 0.0, rms: 0.0 };
    row.ok = different == 0;
    if row.ok {
        (row.max_abs, row.max_rel, row.rms_rel, row.share) = (0.0, 0.0, 0.0, 0.0);
    } else {
        row.note = Some(format!("{different} of {} values differ, none may", expected.len()));
    }
    row
}

/// `part / whole`, where nothing of nothing is 0 and something of nothing infinite.
fn ratio(part: f64, whole: f64) -> f64 {
    if part == 0.0 { 0.0 } else { part / whole }
}
