//! Values of a file as a module has them: joined, resized, over other channels.
//!
//! Before: [`super::guess`] knows which tensors one is made of. After: as many values as the module's tensor has.

use super::error::WeightsError;
use super::file::ForeignTensor;
use super::scheme::Piece;
use crate::op::interpolate::cubic_weights;
use crate::tensor::Element;

/// Values with their shape, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Held<E> {
    pub shape: Vec<usize>,
    pub values: Vec<E>,
}

/// What is known of the positions on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grids {
    /// Rows and columns of the module's patches, where the pipeline says.
    pub here: Option<(usize, usize)>,
    /// Whether the module has a class token, and the file.
    pub class_here: bool,
    pub class_there: bool,
}

/// Joins the pieces along their first axis. `rows` is the length of that axis of the module's tensor; `None` where a piece has no
/// values of floating point or the pieces do not go together.
pub fn join<E: Element>(
    pieces: &[Piece],
    rows: usize,
    tensor: impl Fn(&str) -> Option<ForeignTensor>,
) -> Result<Option<Held<E>>, WeightsError> {
    let mut joined: Option<Held<E>> = None;
    // Zeros take the place of a piece, whose width the others tell.
    let mut zeros_before = 0;
    let share = rows / pieces.len().max(1);
    for piece in pieces {
        let part = match piece {
            Piece::Zeros => match &mut joined {
                Some(held) => {
                    let width: usize = held.shape.iter().skip(1).product();
                    held.values.extend(std::iter::repeat_n(E::ZERO, share * width));
                    held.shape[0] += share;
                    continue;
                }
                None => {
                    zeros_before += share;
                    continue;
                }
            },
            Piece::Tensor { name, index, of } => {
                let Some(found) = tensor(name) else { return Ok(None) };
                let Some(values) = found.values()? else { return Ok(None) };
                let Some(part) = cut(Held { shape: found.shape, values }, *index, *of) else { return Ok(None) };
                part
            }
        };
        match &mut joined {
            None => joined = Some(part),
            Some(held) => {
                if held.shape.is_empty() || held.shape.len() != part.shape.len() || held.shape[1..] != part.shape[1..] {
                    return Ok(None);
                }
                held.shape[0] += part.shape[0];
                held.values.extend(part.values);
            }
        }
    }
    Ok(joined.map(|mut held| {
        if zeros_before > 0 && !held.shape.is_empty() {
            let width: usize = held.shape.iter().skip(1).product();
            held.values.splice(0..0, std::iter::repeat_n(E::ZERO, zeros_before * width));
            held.shape[0] += zeros_before;
        }
        held
    }))
}

/// The part `index` of `of` equal ones along the first axis.
fn cut<E: Element>(held: Held<E>, index: usize, of: usize) -> Option<Held<E>> {
    if of == 1 {
        return Some(held);
    }
    let (rows, rest) = held.shape.split_first()?;
    let (rows, width) = (rows.is_multiple_of(of).then_some(rows / of)?, rest.iter().product::<usize>());
    let shape = std::iter::once(rows).chain(rest.iter().copied()).collect();
    let values = held.values.get(index * rows * width..(index + 1) * rows * width)?.to_vec();
    Some(Held { shape, values })
}

/// The values as the module's tensor `name` of `shape` has them, and what was done to them; the error says what is in the way.
pub fn fit<E: Element>(
    name: &str,
    shape: &[usize],
    held: Held<E>,
    grids: Grids,
) -> Result<(Vec<E>, Option<String>), String> {
    let without_ones = |shape: &[usize]| shape.iter().copied().filter(|dim| *dim != 1).collect::<Vec<_>>();
    if without_ones(shape) == without_ones(&held.shape) {
        return Ok((held.values, None));
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let same_width = shape.last() == held.shape.last();
    match (last, shape) {
        ("pos_embed", [1, rows, width]) if same_width && held.values.len().is_multiple_of(*width) => {
            positions(*rows, *width, &held.values, grids)
        }
        ("weight", [out, channels, height, width]) if held.shape.len() == 4 => {
            let there = [held.shape[0], held.shape[2], held.shape[3]];
            match there == [*out, *height, *width] && held.shape[1] > 0 {
                true => Ok(over_channels(&held, *channels)),
                false => Err(shapes(name, shape, &held.shape)),
            }
        }
        ("relative_position_bias_table", _) => {
            Err(format!("{}: tables of relative positions are not resized", shapes(name, shape, &held.shape)))
        }
        _ => Err(shapes(name, shape, &held.shape)),
    }
}

fn shapes(name: &str, here: &[usize], there: &[usize]) -> String {
    format!("`{name}` is {here:?} here, {there:?} there")
}

/// Learned positions for another grid: that of the class token stays, those of the patches are interpolated along both axes.
///
/// Source: bicubic without antialias and with corners not aligned, as `interpolate_pos_embed` of facebookresearch/mae (util/pos_embed.py)
/// and as [`cubic_weights`] resizes them in a step; timm's `resample_abs_pos_embed` has an antialiased kernel, which differs.
fn positions<E: Element>(
    rows: usize,
    width: usize,
    values: &[E],
    grids: Grids,
) -> Result<(Vec<E>, Option<String>), String> {
    let there = values.len() / width;
    let first = usize::from(grids.class_there);
    // A table may do without the class token's position (timm's `no_embed_class`), or count it in although no token has it.
    let square = |count: usize| Some(count.isqrt()).filter(|side| side * side == count && count > 0);
    let choices = [first, 1 - first];
    let prefix_here = usize::from(grids.class_here);
    let patches_here = rows - prefix_here.min(rows);
    let grid_here = grids.here.filter(|(h, w)| h * w == patches_here).or(square(patches_here).map(|side| (side, side)));
    let found = choices.iter().find_map(|prefix| {
        let patches = there.checked_sub(*prefix)?;
        let same = grid_here.filter(|_| patches == patches_here);
        Some((*prefix, same.or(square(patches).map(|side| (side, side)))?))
    });
    let (Some((prefix, from)), Some(to)) = (found, grid_here) else {
        return Err(format!(
            "`pos_embed` has {rows} rows here, {there} there, and the grid of one of both is not known: it is not square"
        ));
    };
    let patches = &values[prefix * width..];
    let resized = if from == to { patches.to_vec() } else { resize(patches, width, from, to) };
    let class = match (prefix_here, prefix) {
        (0, _) => Vec::new(),
        (_, 0) => vec![E::ZERO; width],
        (_, _) => values[..width].to_vec(),
    };
    let mut said = Vec::new();
    if from != to {
        said.push(format!("{} × {} patches resized to {} × {}, bicubic", from.0, from.1, to.0, to.1));
    }
    match (prefix_here, prefix) {
        (0, 1) => said.push("the class token's row left out".to_owned()),
        (1, 0) => said.push("zero for the class token".to_owned()),
        _ => {}
    }
    Ok((class.into_iter().chain(resized).collect(), (!said.is_empty()).then(|| said.join(", "))))
}

fn resize<E: Element>(patches: &[E], width: usize, from: (usize, usize), to: (usize, usize)) -> Vec<E> {
    let (down, across) = (cubic_weights(from.0, to.0), cubic_weights(from.1, to.1));
    // Along the columns first: [from rows, to columns, width], then along the rows.
    let mut wide = vec![0.0; from.0 * to.1 * width];
    for row in 0..from.0 {
        for (column, weights) in across.chunks(from.1).enumerate() {
            let into = &mut wide[(row * to.1 + column) * width..][..width];
            for (other, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                let values = &patches[(row * from.1 + other) * width..][..width];
                into.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value.to_f64());
            }
        }
    }
    let mut out = vec![0.0; to.0 * to.1 * width];
    let line = to.1 * width;
    for (row, weights) in down.chunks(from.0).enumerate() {
        for (other, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let values = &wide[other * line..][..line];
            out[row * line..][..line].iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    out.into_iter().map(E::from_f64).collect()
}

/// The projection of patches of other channels: their sum for one, so that a gray picture gives what it gave as three equal channels;
/// for more they are repeated in turn and scaled, so that the sum stays.
///
/// Source: timm's `adapt_input_conv` (timm/models/_manipulate.py), for any count.
fn over_channels<E: Element>(held: &Held<E>, to: usize) -> (Vec<E>, Option<String>) {
    let (from, cell) = (held.shape[1], held.shape[2] * held.shape[3]);
    let mut values = Vec::with_capacity(held.shape[0] * to * cell);
    for kernel in held.values.chunks(from * cell) {
        for channel in 0..to {
            for at in 0..cell {
                let value = match to {
                    1 => (0..from).map(|c| kernel[c * cell + at].to_f64()).sum(),
                    _ => kernel[channel % from * cell + at].to_f64() * from as f64 / to as f64,
                };
                values.push(E::from_f64(value));
            }
        }
    }
    let said = match to {
        1 => format!("{from} channels summed to one"),
        _ => format!("{from} channels repeated to {to}, times {from}/{to}"),
    };
    (values, Some(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: Grids = Grids { here: None, class_here: true, class_there: true };

    #[test]
    fn channels_keep_their_sum() {
        let held = Held { shape: vec![2, 3, 1, 1], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(over_channels(&held, 1).0, [6.0, 15.0]);
        assert_eq!(over_channels(&held, 6).0, [0.5, 1.0, 1.5, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 2.0, 2.5, 3.0]);
    }

    #[test]
    fn positions_of_a_plane_stay_a_plane_and_the_class_token_keeps_its_own() {
        let plane = |side: usize| (0..side * side).map(move |i| (i / side) as f64 + 0.5 - side as f64 / 2.0);
        let there: Vec<f64> = std::iter::once(7.0).chain(plane(8)).collect();
        let (out, said) = positions(1 + 16, 1, &there, SQUARE).expect("both are squares");
        assert_eq!(said.as_deref(), Some("8 × 8 patches resized to 4 × 4, bicubic"));
        assert_eq!(out[0], 7.0);
        // Half the size: what was 2 apart is 1 apart; the border, where values are repeated, is bent.
        assert!((out[1 + 4] - 2.0 * -0.5).abs() < 1e-12 && (out[1 + 8] - 2.0 * 0.5).abs() < 1e-12, "{out:?}");
    }

    #[test]
    fn a_row_for_the_class_token_comes_and_goes() {
        let without = Grids { class_here: false, ..SQUARE };
        assert_eq!(positions(4, 1, &[9.0, 1.0, 2.0, 3.0, 4.0], without).expect("square").0, [1.0, 2.0, 3.0, 4.0]);
        let zero = positions(5, 1, &[1.0, 2.0, 3.0, 4.0], Grids { class_there: false, ..SQUARE }).expect("square");
        assert_eq!(zero.0, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert!(positions(1 + 6, 1, &[0.0; 16], SQUARE).is_err(), "six patches have no grid");
        assert!(positions(1 + 6, 1, &[0.0; 17], Grids { here: Some((2, 3)), ..SQUARE }).is_ok());
    }
}
