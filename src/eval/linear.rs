//! Linear probing: how well a linear classifier of frozen features separates classes.
//!
//! Before: [`super::features`] makes the features, once. After: `run` logs the accuracy.
//!
//! Features are normalised by the mean and the deviation of those that are trained on (a batch norm without affine parameters, as He
//! et al. 2022 put before their probe). Classifiers of several learning rates and weight decays are trained side by side on the same
//! batches: their weights are the rows of one matrix, so that a step is two products for all of them.
//!
//! **Invariant:** weights begin at 0 and batches are always the same, so that the result hangs on the features and the settings
//! alone, not on a run's seed. Products are cut in parts of [`ROWS`], so that neither does it hang on the number of threads; what
//! one classifier becomes does not hang on those beside it.
//!
//! Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", appendix A.1; the sweep: Oquab et al. 2024, "DINOv2",
//! section 7.1.

use rayon::prelude::*;

use super::features::Features;
use crate::backend::cpu::product;
use crate::data::rng::Key;
use crate::data::view::Draw;

/// Weights that a task updates at once: those of so many classes.
const ROWS: usize = 128;
/// Features that are classified at once.
const BLOCK: usize = 256;
const MOMENTUM: f32 = 0.9;
/// Learning rates are given for batches of this many (Goyal et al. 2017).
const PER: f64 = 256.0;
/// Of batch norm, as the reference has it.
const EPS: f64 = 1e-6;

/// What a classifier is trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Of a batch of 256; in proportion for others.
    pub learning_rate: f64,
    pub weight_decay: f64,
}

/// How long all of them are trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    pub epochs: usize,
    pub batch_size: usize,
}

/// Features by mean and deviation of each dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalised {
    mean: Vec<f64>,
    /// 1 / √(variance + eps).
    scale: Vec<f64>,
}

impl Normalised {
    /// By the statistics of `features`, in f64 and in their order.
    pub fn by(features: &Features) -> Normalised {
        let rows = features.rows.max(1) as f64;
        let mut mean = vec![0.0; features.dim];
        let all = || (0..features.rows).map(|row| features.row(row));
        all().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x)));
        mean.iter_mut().for_each(|sum| *sum /= rows);
        let mut scale = vec![0.0; features.dim];
        for row in all() {
            for ((sum, &x), mean) in scale.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(x) - mean) * (f64::from(x) - mean);
            }
        }
        scale.iter_mut().for_each(|sum| *sum = 1.0 / (*sum / rows + EPS).sqrt());
        Normalised { mean, scale }
    }

    /// Normalises `features` where they are: held twice they would be the most that an evaluation takes.
    pub fn apply(&self, features: &mut Features) {
        for row in features.data.chunks_exact_mut(features.dim.max(1)) {
            for ((x, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *x = ((f64::from(*x) - mean) * scale) as f32;
            }
        }
    }
}

/// Linear classifiers of `classes` classes: `weight: [classifiers · classes, dim]`, `bias: [classifiers · classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifiers {
    pub classes: usize,
    pub dim: usize,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Trains a classifier for each of `rates` on normalised `features: [N, D]` with `labels: [N]` of 0..`classes`. `each_epoch` is told of each
/// epoch that is done; its error ends the training.
pub fn train<X>(
    features: &Features,
    labels: &[i64],
    classes: usize,
    (rates, course): (&[Rate], Course),
    mut each_epoch: impl FnMut(usize) -> Result<(), X>,
) -> Result<Classifiers, X> {
    let (rows, dim, outputs) = (features.rows, features.dim, rates.len() * classes);
    let mut found = Classifiers { classes, dim, weight: vec![0.0; outputs * dim], bias: vec![0.0; outputs] };
    let batch = course.batch_size.min(rows).max(1);
    let steps_per_epoch = rows / batch;
    let total = (course.epochs * steps_per_epoch) as f64;
    let mut moments = (vec![0.0; outputs * dim], vec![0.0; outputs]);
    let mut room = Room { tile: vec![0.0; batch * dim], logits: vec![0.0; outputs * batch], of: vec![0; batch] };
    for epoch in 0..course.epochs {
        let order = shuffled(rows, epoch);
        for (at, batch) in order.chunks_exact(batch).enumerate() {
            let made = (epoch * steps_per_epoch + at) as f64;
            // Cosine to 0, without warm-up: the problem is convex.
            let factor = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * made / total)) * batch.len() as f64 / PER;
            for ((row, of), &sample) in room.tile.chunks_exact_mut(dim).zip(&mut room.of).zip(batch) {
                row.copy_from_slice(features.row(sample));
                *of = labels[sample] as usize;
            }
            found.step(&mut room, &mut moments, rates, factor);
        }
        each_epoch(epoch + 1)?;
    }
    Ok(found)
}

/// What a step works in.
struct Room {
    /// `[batch, dim]`
    tile: Vec<f32>,
    /// `[classifiers · classes, batch]`: first logits, then their gradients.
    logits: Vec<f32>,
    /// The class of each of the batch.
    of: Vec<usize>,
}

impl Classifiers {
    fn step(&mut self, room: &mut Room, moments: &mut (Vec<f32>, Vec<f32>), rates: &[Rate], factor: f64) {
        let (classes, dim, batch) = (self.classes, self.dim, room.of.len());
        if classes == 0 || dim == 0 {
            return;
        }
        let Room { tile, logits, of } = room;
        let (tile, of) = (&tile[..], &of[..]);
        logits
            .par_chunks_mut(ROWS * batch)
            .zip(self.weight.par_chunks(ROWS * dim))
            .zip(self.bias.par_chunks(ROWS))
            .for_each(|((out, weight), bias)| {
                product(out, (bias.len(), dim, batch), (weight, false), (tile, true));
                for (row, bias) in out.chunks_exact_mut(batch).zip(bias) {
                    row.iter_mut().for_each(|x| *x += bias);
                }
            });
        logits.par_chunks_mut(classes * batch).for_each(|logits| gradients(logits, of));
        let gradients = &logits[..];
        let (of_weight, of_bias) = moments;
        let update = |value: &mut f32, moment: &mut f32, gradient: f32, rate: f32| {
            *moment = MOMENTUM * *moment + gradient;
            *value -= rate * *moment;
        };
        self.weight
            .par_chunks_mut(ROWS * dim)
            .zip(self.bias.par_chunks_mut(ROWS))
            .zip(of_weight.par_chunks_mut(ROWS * dim))
            .zip(of_bias.par_chunks_mut(ROWS))
            .enumerate()
            .for_each_init(
                || vec![0.0; ROWS * dim],
                |out, (part, (((weight, bias), of_weight), of_bias))| {
                    let first = part * ROWS;
                    let gradients = &gradients[first * batch..(first + bias.len()) * batch];
                    product(out, (bias.len(), batch, dim), (gradients, false), (tile, false));
                    let rows =
                        weight.chunks_exact_mut(dim).zip(of_weight.chunks_exact_mut(dim)).zip(out.chunks_exact(dim));
                    for (row, ((weight, moment), gradient)) in rows.enumerate() {
                        let Rate { learning_rate, weight_decay } = rates[(first + row) / classes];
                        let (rate, decay) = ((learning_rate * factor) as f32, weight_decay as f32);
                        for ((w, m), g) in weight.iter_mut().zip(moment).zip(gradient) {
                            update(w, m, g + decay * *w, rate);
                        }
                        let gradient = gradients[row * batch..(row + 1) * batch].iter().sum();
                        update(&mut bias[row], &mut of_bias[row], gradient, rate);
                    }
                },
            );
    }

    /// What each classifier takes each of normalised `features` for: the class of the largest logit, the lowest of equals.
    pub fn predictions(&self, features: &Features) -> Vec<Vec<i64>> {
        let (classes, dim, outputs) = (self.classes, self.dim, self.bias.len());
        if outputs == 0 {
            return Vec::new();
        }
        let of_block = |block: usize| -> Vec<Vec<i64>> {
            let rows = BLOCK.min(features.rows - block * BLOCK);
            let data = &features.data[block * BLOCK * dim..(block * BLOCK + rows) * dim];
            let mut logits = vec![0.0; rows * outputs];
            product(&mut logits, (rows, dim, outputs), (data, false), (&self.weight, true));
            let best =
                |row: &[f32], first: usize| {
                    let logits = row[first..first + classes].iter().zip(&self.bias[first..]).map(|(x, bias)| x + bias);
                    let best = logits.enumerate().fold((0, f32::NEG_INFINITY), |best, (class, logit)| {
                        if logit > best.1 { (class, logit) } else { best }
                    });
                    best.0 as i64
                };
            let of = |first: usize| logits.chunks_exact(outputs).map(|row| best(row, first)).collect();
            (0..outputs).step_by(classes).map(of).collect()
        };
        let blocks: Vec<Vec<Vec<i64>>> = (0..features.rows.div_ceil(BLOCK)).into_par_iter().map(of_block).collect();
        (0..outputs / classes).map(|at| blocks.iter().flat_map(|block| block[at].iter().copied()).collect()).collect()
    }
}

/// Of the mean cross entropy of a batch, in the place of one classifier's `logits: [classes, batch]`.
fn gradients(logits: &mut [f32], of: &[usize]) {
    let batch = of.len();
    let mut largest = vec![f32::NEG_INFINITY; batch];
    for row in logits.chunks_exact(batch) {
        largest.iter_mut().zip(row).for_each(|(largest, x)| *largest = largest.max(*x));
    }
    let mut sums = vec![0.0; batch];
    for row in logits.chunks_exact_mut(batch) {
        for ((x, largest), sum) in row.iter_mut().zip(&largest).zip(&mut sums) {
            *x = libm::expf(*x - largest);
            *sum += *x;
        }
    }
    let share = 1.0 / batch as f32;
    for (class, row) in logits.chunks_exact_mut(batch).enumerate() {
        for ((x, sum), of) in row.iter_mut().zip(&sums).zip(of) {
            *x = (*x / sum - f32::from(u8::from(*of == class))) * share;
        }
    }
}

/// The order of an epoch. Source: Knuth, "The Art of Computer Programming" volume 2, section 3.4.2, algorithm P.
fn shuffled(rows: usize, epoch: usize) -> Vec<usize> {
    let mut stream = Key { seed: 0, epoch: epoch as u64, sample: 0 }.stream("evaluate.linear");
    let mut order: Vec<usize> = (0..rows).collect();
    for last in (1..rows).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
    order
}
