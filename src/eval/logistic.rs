//! Logistic regression to convergence: the linear classifier that a probe would end at, if it were trained for ever.
//!
//! Minimises Σ cross entropy + ½ |weight|², the bias free, by L-BFGS over all features at once, in f64.
//!
//! **Invariant:** sums over rows are those of parts of [`ROWS`], added in their order: the same for any number of threads.
//!
//! Source: Nocedal & Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5; step lengths by backtracking (algorithm 3.1).

use std::collections::VecDeque;

use rayon::prelude::*;

use super::features::Features;
use super::linear::Classifiers;
use crate::backend::cpu::inner_products;

/// Rows of a part, and parts whose gradients are held at once.
const ROWS: usize = 256;
const PARTS: usize = 16;
/// Pairs that the curvature is told by.
const MEMORY: usize = 20;
/// Steps at most; the gradient's largest entry a picture that is small enough.
pub const STEPS: usize = 3000;
const TOLERANCE: f64 = 1e-9;

/// The classifier of normalised `features: [N, D]` with `labels: [N]` of 0..`classes`. `each_step` is told of each step that is done; its error
/// ends the fit.
pub fn fit<X>(
    features: &Features,
    labels: &[i64],
    classes: usize,
    mut each_step: impl FnMut(usize) -> Result<(), X>,
) -> Result<Classifiers, X> {
    let problem = Problem { features, labels, classes };
    let mut at = vec![0.0; classes * (features.dim + 1)];
    let (mut value, mut gradient) = problem.value(&at);
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    let small = TOLERANCE * features.rows.max(1) as f64;
    for step in 0..STEPS {
        if gradient.iter().all(|g| g.abs() <= small) {
            break;
        }
        let mut direction = direction(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 || !slope.is_finite() {
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        // The first step has no curvature to go by.
        let mut length = if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let next = loop {
            let next: Vec<f64> = at.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let (found, of_next) = problem.value(&next);
            if found <= value + 1e-4 * length * slope {
                break Some((next, found, of_next));
            }
            length *= 0.5;
            if length < 1e-12 {
                break None;
            }
        };
        // As near as sums in f64 come.
        let Some((next, found, of_next)) = next else { break };
        let moved: Vec<f64> = next.iter().zip(&at).map(|(new, old)| new - old).collect();
        let turned: Vec<f64> = of_next.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        if dot(&moved, &turned) > 1e-12 * dot(&turned, &turned) {
            pairs.push_back((moved, turned));
            if pairs.len() > MEMORY {
                pairs.pop_front();
            }
        }
        (at, value, gradient) = (next, found, of_next);
        each_step(step + 1)?;
    }
    let (weight, bias) = at.split_at(classes * features.dim);
    let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect();
    Ok(Classifiers { classes, dim: features.dim, weight: narrow(weight), bias: narrow(bias) })
}

struct Problem<'p> {
    features: &'p Features,
    labels: &'p [i64],
    classes: usize,
}

impl Problem<'_> {
    /// The value at weights and biases `at: [classes · (D + 1)]`, and its gradient.
    fn value(&self, at: &[f64]) -> (f64, Vec<f64>) {
        let (weight, bias) = at.split_at(self.classes * self.features.dim);
        let mut value = 0.5 * dot(weight, weight);
        let mut gradient = weight.to_vec();
        gradient.resize(weight.len() + bias.len(), 0.0);
        let parts: Vec<usize> = (0..self.features.rows.div_ceil(ROWS)).collect();
        for parts in parts.chunks(PARTS) {
            let found: Vec<(f64, Vec<f64>)> = parts.par_iter().map(|part| self.part(*part, weight, bias)).collect();
            for (of_part, of_gradient) in found {
                value += of_part;
                gradient.iter_mut().zip(of_gradient).for_each(|(sum, g)| *sum += g);
            }
        }
        (value, gradient)
    }

    /// Cross entropies of a part of the rows, and their gradient.
    fn part(&self, part: usize, weight: &[f64], bias: &[f64]) -> (f64, Vec<f64>) {
        let Problem { features: Features { rows, dim, data }, labels, classes } = *self;
        let (first, dim) = (part * ROWS, *dim);
        let count = ROWS.min(rows - first);
        let tile: Vec<f64> = data[first * dim..(first + count) * dim].iter().map(|&x| f64::from(x)).collect();
        let mut logits = vec![0.0; count * classes];
        inner_products(&mut logits, &tile, weight, dim);
        let mut value = 0.0;
        // `[classes, rows]`, for the product with the features.
        let mut gradients = vec![0.0; classes * count];
        for (row, logits) in logits.chunks_exact_mut(classes).enumerate() {
            logits.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            let label = labels[first + row] as usize;
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|x| libm::exp(x - largest)).sum();
            value += largest + libm::log(sum) - logits[label];
            for (class, x) in logits.iter().enumerate() {
                gradients[class * count + row] = libm::exp(x - largest) / sum - f64::from(u8::from(class == label));
            }
        }
        let transposed: Vec<f64> = (0..dim).flat_map(|column| tile.iter().skip(column).step_by(dim).copied()).collect();
        let mut found = vec![0.0; classes * dim];
        inner_products(&mut found, &gradients, &transposed, count);
        found.extend(gradients.chunks_exact(count).map(|row| row.iter().sum::<f64>()));
        (value, found)
    }
}

/// −H⁻¹·gradient by the pairs of steps and turns, the newest last.
fn direction(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut found: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::new();
    for (moved, turned) in pairs.iter().rev() {
        let share = dot(moved, &found) / dot(moved, turned);
        found.iter_mut().zip(turned).for_each(|(x, y)| *x -= share * y);
        shares.push(share);
    }
    if let Some((moved, turned)) = pairs.back() {
        let scale = dot(moved, turned) / dot(turned, turned);
        found.iter_mut().for_each(|x| *x *= scale);
    }
    for ((moved, turned), share) in pairs.iter().zip(shares.into_iter().rev()) {
        let rest = share - dot(turned, &found) / dot(moved, turned);
        found.iter_mut().zip(moved).for_each(|(x, s)| *x += rest * s);
    }
    found
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
