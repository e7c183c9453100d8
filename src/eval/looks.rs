//! What a network makes of the patches of pictures: their features as colours, and where each head of the last attention looks.
//!
//! Before: `graph::tokens` finds both among what the features are made of. After: `cmaec show patches` writes the sheet, as a run does
//! at its end.
//!
//! **Invariant:** pictures are drawn as the network takes them in, and nothing is smoothed: what looks like a block is a patch.

use image::{Rgb, RgbImage};
use nalgebra::DMatrix;

use super::chosen::Named;
use super::pictures::{self, Pictures};
use super::principal::{centre, principal_axes};
use super::sheet::{self, Sheet, TooLarge};
use crate::backend::{BackendError, Session};
use crate::data::DataError;
use crate::data::evaluation::{EvalBatches, sample_inputs};
use crate::graph::tokens::{Attention, Patches};
use crate::graph::{Graph, InputKind, Program, ValueId};
use crate::spec::{Scaling, ViewSpec};
use crate::tensor::{Element, HostTensor, InputValue, OutputValue};

/// Shares of patches that are drawn fully dark and fully bright in a colour: so a few that stand apart leave the others their colours.
const ENDS: [f64; 2] = [0.02, 0.98];
/// Colours of what is looked at not at all, a little, much, and most; a dark picture would show no brightness.
const HEAT: [[f64; 3]; 4] = [[8.0, 8.0, 32.0], [136.0, 34.0, 106.0], [244.0, 126.0, 22.0], [252.0, 250.0, 160.0]];
/// The share of them in a pixel; the rest is the picture's.
const HEATED: f64 = 0.65;

/// Why the sheet could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum LooksError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("pipeline `{name}` has no features (help: add `evaluate {{ features = … }}` to it)")]
    NoFeatures { name: String },
    #[error(
        "the features of pipeline `{name}` are made of no [B, N, D] with a row for each patch (help: a picture of patches wants an \
         encoder that keeps them apart, such as `vit`)"
    )]
    NoPatches { name: String },
    #[error("`{name}` is {found}, expected float {expected:?}")]
    Output { name: &'static str, found: String, expected: Vec<usize> },
}

/// What was drawn.
pub struct Looks {
    pub image: RgbImage,
    /// Pictures, one to a row.
    pub count: usize,
    /// Shares of the patches' variance that lie along red, green and blue.
    pub explained: Vec<f64>,
    /// Heads of the last attention: none where there is no attention among all patches.
    pub heads: usize,
    /// Whether heads are shown as a first token asks, not as all patches do on average.
    pub asks_first: bool,
}

/// Whether the features of `program` are made of patches.
pub fn can_be_drawn(program: &Program) -> bool {
    program.features.as_ref().is_some_and(|graph| graph.tokens_of_features().is_some())
}

/// Draws `count` pictures, spread evenly over `source`: as they are taken in, the first three principal components of their patches'
/// features as red, green and blue, and for each head of the last attention how much each patch is looked at, from dark to bright.
///
/// # Errors
/// Where the features are made of no patches, or nothing can be read or computed.
pub fn looks<E: Element>(
    session: &mut dyn Session<E>,
    program: &Program,
    source: &Named,
    count: usize,
) -> Result<Looks, LooksError> {
    let name = || program.spec.name.clone();
    let graph = program.features.as_ref().ok_or_else(|| LooksError::NoFeatures { name: name() })?;
    let tokens = graph.tokens_of_features().ok_or_else(|| LooksError::NoPatches { name: name() })?;
    let attention = graph.attention_of_features();
    let mut wanted = vec![("tokens", tokens.value)];
    if let Some(Attention { operands: [query, key], bias, .. }) = attention {
        wanted.extend([("queries", query), ("keys", key)]);
        wanted.extend(bias.map(|bias| ("bias", bias)));
    }
    let graph = Graph { outputs: wanted.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect(), ..graph.clone() };
    let (views, seed) = (&program.spec.views, program.spec.train.seed);
    let names: Vec<String> = wanted.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut batches = EvalBatches::new(source.source.clone(), views, &graph.inputs_of(&names), seed)?;
    let (inputs, count) = sample_inputs(&mut batches, count, &source.name)?;
    let found = session.evaluate(&graph, &inputs, &names)?;
    let mut values = Vec::new();
    for ((name, id), output) in wanted.iter().zip(found) {
        values.push(floats(name, output, &graph, *id)?);
    }

    let (cells, shape) = seen(program, &graph, &inputs, count).ok_or_else(|| LooksError::NoPatches { name: name() })?;
    let (colours, explained) = colours(&values[0], tokens.patches, count);
    let maps = attention.map(|attention| Maps::of(&values[1..], &attention));
    let heads = maps.as_ref().map_or(0, |maps| maps.heads);
    let (cell, _) = sheet::cell(shape.0, shape.1);
    let mut drawn = Sheet::new(&vec![cell; 2 + heads], count)?;
    for (row, picture) in cells.iter().enumerate() {
        drawn.put(row, 0, picture);
        let blocks = |patch: usize, _: Rgb<u8>| Rgb(colours[row][patch]);
        drawn.put(row, 1, &by_patch(picture, tokens.patches.grid, blocks));
        let Some(maps) = &maps else { continue };
        for head in 0..heads {
            let weights = maps.weights(row, head);
            let most = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            let heated = |patch: usize, Rgb(levels): Rgb<u8>| {
                let heat = heat(weights[patch] / most);
                let mixed = |channel: usize| (1.0 - HEATED) * f64::from(levels[channel]) + HEATED * heat[channel];
                Rgb([0, 1, 2].map(|channel| mixed(channel).round() as u8))
            };
            drawn.put(row, 2 + head, &by_patch(picture, maps.patches.grid, heated));
        }
    }
    let asks_first = attention.is_some_and(|attention| attention.patches.before > 0);
    Ok(Looks { image: drawn.into_image(), count, explained, heads, asks_first })
}

fn floats<E: Element>(
    name: &'static str,
    output: OutputValue<E>,
    graph: &Graph,
    id: ValueId,
) -> Result<HostTensor<f32>, LooksError> {
    let expected = &graph.node(id).ty.shape;
    let found = match output {
        OutputValue::Float(HostTensor { shape, data }) if shape == *expected => {
            let data = data.iter().map(|value| value.to_f64() as f32).collect();
            return Ok(HostTensor { shape, data });
        }
        OutputValue::Float(tensor) => format!("float {:?}", tensor.shape),
        OutputValue::Int(tensor) => format!("int {:?}", tensor.shape),
    };
    Err(LooksError::Output { name, found, expected: expected.clone() })
}

/// The pictures of the first view that the graph takes in, and their height and width.
pub(super) fn seen(
    program: &Program,
    graph: &Graph,
    inputs: &[(String, InputValue)],
    count: usize,
) -> Option<(Vec<RgbImage>, (usize, usize))> {
    let input = graph.inputs.iter().find(|input| matches!(input.kind, InputKind::View { .. }))?;
    let InputKind::View { view } = &input.kind else { return None };
    let (_, InputValue::Float(tensor)) = inputs.iter().find(|(name, _)| *name == input.name)? else { return None };
    let shape: [usize; 4] = tensor.shape.clone().try_into().ok()?;
    let spec = program.spec.views.iter().find(|spec| spec.name == *view);
    let unscaled = || Scaling { mean: vec![0.0; shape[1]], std: vec![1.0; shape[1]] };
    let Scaling { mean, std } = spec.and_then(ViewSpec::scaling).unwrap_or_else(unscaled);
    let pictures = Pictures { shape, data: &tensor.data };
    let cells = (0..count).map(|sample| pictures::cell(&pictures, sample, &mean, &std)).collect();
    Some((cells, (shape[2], shape[3])))
}

/// `cell`, each pixel by its patch of the grid and its colour.
fn by_patch(cell: &RgbImage, (rows, columns): (usize, usize), colour: impl Fn(usize, Rgb<u8>) -> Rgb<u8>) -> RgbImage {
    let (height, width) = (cell.height() as usize, cell.width() as usize);
    RgbImage::from_fn(cell.width(), cell.height(), |x, y| {
        let patch = (y as usize * rows / height) * columns + x as usize * columns / width;
        colour(patch, *cell.get_pixel(x, y))
    })
}

/// Between two of [`HEAT`]; `share` is in 0..=1.
fn heat(share: f64) -> [f64; 3] {
    let place = share.clamp(0.0, 1.0) * (HEAT.len() - 1) as f64;
    let at = (place as usize).min(HEAT.len() - 2);
    [0, 1, 2].map(|channel| HEAT[at][channel] + (place - at as f64) * (HEAT[at + 1][channel] - HEAT[at][channel]))
}

/// A colour for each patch of each of the first `count` rows of `tokens`, `[B, N, D]`, and what share of the variance the three
/// components have.
fn colours(tokens: &HostTensor<f32>, patches: Patches, count: usize) -> (Vec<Vec<[u8; 3]>>, Vec<f64>) {
    let [_, all, dim] = tokens.shape[..] else { unreachable!("tokens were found by their shape") };
    let own = patches.grid.0 * patches.grid.1;
    let row = |picture: usize, patch: usize| {
        let first = (picture * all + patches.before + patch) * dim;
        &tokens.data[first..first + dim]
    };
    // What is not finite counts as zero: a picture is drawn even where the model has gone astray.
    let values = (0..count * own).flat_map(|at| row(at / own, at % own)).map(|&value| f64::from(value));
    let values = values.map(|value| if value.is_finite() { value } else { 0.0 });
    let mut centred = DMatrix::from_row_iterator(count * own, dim, values);
    centre(&mut centred);
    let (axes, explained) = principal_axes(&centred, 3);
    let along = centred * axes;
    let levels: Vec<Vec<u8>> = along.column_iter().map(|column| levels(column.as_slice())).collect();
    let colour = |at: usize| [levels[0][at], levels[1][at], levels[2][at]];
    let colours = (0..count).map(|picture| (picture * own..(picture + 1) * own).map(colour).collect()).collect();
    (colours, explained)
}

/// From 0 at the lower of [`ENDS`] to 255 at the upper.
fn levels(values: &[f64]) -> Vec<u8> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [low, high] = ENDS.map(|share| sorted[(share * (sorted.len() - 1) as f64).round() as usize]);
    let span = if high > low { high - low } else { 1.0 };
    values.iter().map(|value| (255.0 * (value - low) / span).round().clamp(0.0, 255.0) as u8).collect()
}

/// The weights of the last attention.
struct Maps<'v> {
    queries: &'v HostTensor<f32>,
    keys: &'v HostTensor<f32>,
    bias: Option<&'v HostTensor<f32>>,
    scale: f64,
    patches: Patches,
    heads: usize,
}

impl<'v> Maps<'v> {
    /// Of queries, keys and, where there is one, a bias.
    fn of(values: &'v [HostTensor<f32>], attention: &Attention) -> Maps<'v> {
        let Attention { scale, patches, .. } = *attention;
        Maps { queries: &values[0], keys: &values[1], bias: values.get(2), scale, patches, heads: values[0].shape[1] }
    }

    /// How much each patch of a picture is looked at by a head: as the first token asks, which is a class token where there is one;
    /// else on average over all that ask.
    fn weights(&self, picture: usize, head: usize) -> Vec<f64> {
        let tokens = self.queries.shape[2];
        let asking = if self.patches.before > 0 { 1 } else { tokens };
        let mut sums = vec![0.0; tokens];
        for query in 0..asking {
            for (sum, weight) in sums.iter_mut().zip(self.row(picture, head, query)) {
                *sum += weight / asking as f64;
            }
        }
        sums.split_off(self.patches.before)
    }

    /// softmax(q·kᵀ·scale + bias) of one query.
    fn row(&self, picture: usize, head: usize, query: usize) -> Vec<f64> {
        let [_, heads, tokens, dim] = self.queries.shape[..] else { unreachable!("attention has four axes") };
        let first = (picture * heads + head) * tokens;
        let of =
            |values: &'v HostTensor<f32>, token: usize| &values.data[(first + token) * dim..(first + token + 1) * dim];
        let asked = of(self.queries, query);
        let logits = (0..tokens).map(|key| {
            let products = asked.iter().zip(of(self.keys, key)).map(|(a, b)| f64::from(*a) * f64::from(*b));
            let bias = self.bias.map_or(0.0, |bias| f64::from(bias.data[(head * tokens + query) * tokens + key]));
            products.sum::<f64>() * self.scale + bias
        });
        let logits: Vec<f64> = logits.collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logits.iter().map(|logit| libm::exp(logit - most)).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize]) -> HostTensor<f32> {
        let data = (0..shape.iter().product::<usize>()).map(|i| libm::sinf(i as f32 * 0.731)).collect();
        HostTensor { shape: shape.to_vec(), data }
    }

    #[test]
    fn weights_are_those_of_a_softmax_and_the_class_token_s_own_is_left_out() {
        let values = [tensor(&[2, 3, 5, 4]), tensor(&[2, 3, 5, 4]), tensor(&[3, 5, 5])];
        let attention = |before, bias: Option<ValueId>| Attention {
            operands: [ValueId(0), ValueId(1)],
            bias,
            scale: 0.5,
            patches: Patches { grid: (2, 2), before },
        };
        let maps = Maps::of(&values, &attention(1, Some(ValueId(2))));
        let row = maps.row(1, 2, 0);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(maps.weights(1, 2), row[1..]);
        // By hand: the logit of the second key of the last picture's last head.
        let dot: f64 = (0..4)
            .map(|i| f64::from(values[0].data[5 * 5 * 4 + i]) * f64::from(values[1].data[5 * 5 * 4 + 4 + i]))
            .sum();
        let logit = dot * 0.5 + f64::from(values[2].data[2 * 25 + 1]);
        let other: f64 =
            (0..4).map(|i| f64::from(values[0].data[5 * 5 * 4 + i]) * f64::from(values[1].data[5 * 5 * 4 + i])).sum();
        let of_first = other * 0.5 + f64::from(values[2].data[2 * 25]);
        assert!((row[1] / row[0] - libm::exp(logit - of_first)).abs() < 1e-12);
        // Without a token before the patches all ask.
        let plain = Maps::of(&values[..2], &attention(0, None));
        let mean = (0..5).map(|query| plain.row(0, 0, query)[3]).sum::<f64>() / 5.0;
        assert!((plain.weights(0, 0)[3] - mean).abs() < 1e-12);
    }

    #[test]
    fn patches_that_differ_have_other_colours() {
        // Two pictures of four patches behind a class token: one patch of the second stands apart.
        let mut tokens = HostTensor { shape: vec![2, 5, 3], data: vec![0.0; 30] };
        tokens.data[(5 + 3) * 3] = 1.0;
        // The class tokens' values are far from all, and no colour hangs on them.
        tokens.data[1] = 100.0;
        let (colours, explained) = colours(&tokens, Patches { grid: (2, 2), before: 1 }, 2);
        assert!((explained[0] - 1.0).abs() < 1e-9, "{explained:?}");
        assert_eq!(colours[1][2][0], 255);
        assert!(colours[0].iter().chain([&colours[1][0]]).all(|colour| colour[0] == 0), "{colours:?}");
    }
}
