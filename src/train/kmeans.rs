//! k-means of a batch: what a codebook starts from.
//!
//! **Invariant:** the centres hang on the rows, the seed and the state's path alone; distances are summed in one order, so
//! that the number of threads changes nothing.

use rayon::prelude::*;

use crate::data::rng::Key;
use crate::data::view::Draw;
use crate::tensor::Element;

/// `count` centres `[count, width]` of `rows` `[n, width]`, after `rounds` of Lloyd's algorithm from rows drawn without
/// repetition. All is by cosine: rows and centres have length 1. A centre that no row is nearest to stays where it is.
///
/// Source: as the codebook of BEiT v2's tokenizer starts (Peng et al. 2022).
pub fn centres<E: Element>(rows: &[E], width: usize, count: usize, rounds: usize, seed: u64, path: &str) -> Vec<E> {
    let mut rows: Vec<f64> = rows.iter().map(|v| v.to_f64()).collect();
    rows.chunks_exact_mut(width).for_each(normalize);
    let n = rows.len() / width;
    let mut order: Vec<usize> = (0..n).collect();
    let mut stream = Key { seed, epoch: 0, sample: 0 }.stream(&format!("kmeans.{path}"));
    // The first `count` places of a Fisher-Yates shuffle.
    for i in 0..count.min(n) {
        order.swap(i, i + stream.below((n - i) as u64) as usize);
    }
    let mut centres: Vec<f64> =
        order.iter().take(count).flat_map(|row| rows[row * width..(row + 1) * width].iter().copied()).collect();
    for _ in 0..rounds {
        let nearest: Vec<usize> = rows.par_chunks_exact(width).map(|row| nearest(row, &centres, width)).collect();
        let mut sums = vec![0.0; centres.len()];
        let mut counts = vec![0_u64; count];
        for (row, centre) in rows.chunks_exact(width).zip(nearest) {
            counts[centre] += 1;
            sums[centre * width..(centre + 1) * width].iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        for ((centre, mut sum), members) in
            centres.chunks_exact_mut(width).zip(sums.chunks_exact(width).map(<[f64]>::to_vec)).zip(counts)
        {
            if members > 0 {
                normalize(&mut sum);
                centre.copy_from_slice(&sum);
            }
        }
    }
    centres.into_iter().map(E::from_f64).collect()
}

/// The first of the centres with the largest cosine.
fn nearest(row: &[f64], centres: &[f64], width: usize) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, centre) in centres.chunks_exact(width).enumerate() {
        let cosine: f64 = row.iter().zip(centre).map(|(a, b)| a * b).sum();
        if cosine > best.1 {
            best = (index, cosine);
        }
    }
    best.0
}

fn normalize(row: &mut [f64]) {
    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
    row.iter_mut().for_each(|v| *v /= norm);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean cosine of the rows with their nearest centres: what k-means makes larger.
    fn fit(rows: &[f64], centres: &[f64]) -> f64 {
        let unit = rows.chunks(3).map(|row| {
            let mut row = row.to_vec();
            normalize(&mut row);
            row
        });
        let best = |row: Vec<f64>| {
            let centre = nearest(&row, centres, 3);
            row.iter().zip(&centres[centre * 3..]).map(|(a, b)| a * b).sum::<f64>()
        };
        unit.map(best).sum::<f64>() / (rows.len() / 3) as f64
    }

    #[test]
    fn every_round_fits_as_well_or_better_and_starts_are_rows() {
        let rows: Vec<f64> = (0..180).map(|i: i32| f64::from((i * 7919 + i * i) % 101 - 50)).collect();
        let fits: Vec<f64> = (0..8).map(|rounds| fit(&rows, &centres(&rows, 3, 5, rounds, 1, "codes"))).collect();
        assert!(fits.windows(2).all(|w| w[1] >= w[0] - 1e-12), "{fits:?}");
        assert!(fits[7] > fits[0] + 0.01, "{fits:?}");
        let start = centres(&rows, 3, 5, 0, 1, "codes");
        assert!(
            start.chunks(3).all(|c| fit(c, &start) > 1.0 - 1e-12 && rows.chunks(3).any(|r| fit(r, c) > 1.0 - 1e-12))
        );
        assert_ne!(start, centres(&rows, 3, 5, 0, 2, "codes"));
    }

    #[test]
    fn every_row_may_be_a_start_and_none_is_one_twice() {
        let rows: [f64; 9] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let place = |centre: &[f64]| centre.iter().position(|v| *v == 1.0);
        let found = (0..40).map(|seed| place(&centres(&rows, 3, 1, 0, seed, "codes")));
        assert_eq!(found.collect::<std::collections::BTreeSet<_>>().len(), 3);
        for seed in 0..40 {
            let all = centres(&rows, 3, 3, 0, seed, "codes");
            assert_eq!(all.chunks(3).map(place).collect::<std::collections::BTreeSet<_>>().len(), 3);
        }
    }

    /// Of four rows two are one: its third centre has no members, and stays a row.
    #[test]
    fn a_centre_without_members_stays_where_it_is() {
        let rows: [f64; 8] = [0.6, 0.8, 0.6, 0.8, 0.6, 0.8, 0.0, 1.0];
        for seed in 0..20 {
            let found = centres(&rows, 2, 3, 3, seed, "codes");
            assert!(found.chunks(2).all(|c| (c[0] * c[0] + c[1] * c[1] - 1.0).abs() < 1e-12), "{found:?}");
        }
    }
}
