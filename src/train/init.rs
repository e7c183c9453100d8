//! Fills the arena before the first step.
//!
//! **Invariant:** a tensor's values hang on the seed, its path and its own declaration alone, so that a module added to a
//! pipeline leaves the others' initial weights as they were.

use crate::data::rng::{Key, Stream};
use crate::data::view::Draw;
use crate::graph::{Init, Layout, TensorDecl};
use crate::tensor::Element;

/// Initial values of all tensors of `layout`; copies equal their sources.
pub fn initialise<E: Element>(layout: &Layout, seed: u64) -> Vec<E> {
    let mut arena = vec![E::from_f64(0.0); layout.total_len];
    for (index, decl) in layout.tensors.iter().enumerate() {
        fill(&mut arena[layout.range(index)], decl, seed);
    }
    copy(layout, &mut arena);
    arena
}

/// Makes copies equal to their sources.
pub fn copy<E: Element>(layout: &Layout, arena: &mut [E]) {
    for (index, decl) in layout.tensors.iter().enumerate() {
        if let Init::CopyOf(source) = &decl.init
            && let Some((_, from)) = layout.get(source)
        {
            arena.copy_within(from, layout.offsets[index]);
        }
    }
}

fn fill<E: Element>(values: &mut [E], decl: &TensorDecl, seed: u64) {
    let mut stream = Key { seed, epoch: 0, sample: 0 }.stream(&format!("init.{}", decl.path));
    let mut each = |value: &mut dyn FnMut(&mut Stream) -> f64| {
        values.iter_mut().for_each(|v| *v = E::from_f64(value(&mut stream)));
    };
    match &decl.init {
        // Copies are filled once all others are, what is imported from the run that is named for it.
        Init::Zeros | Init::CopyOf(_) | Init::Imported { .. } => each(&mut |_| 0.0),
        Init::Ones => each(&mut |_| 1.0),
        Init::Constant(value) => each(&mut |_| *value),
        Init::Normal { std } => each(&mut |s| std * s.normal()),
        Init::TruncNormal { std, cut } => each(&mut |s| std * truncated_normal(s, *cut)),
        Init::XavierUniform => {
            let fan_out = decl.shape.first().copied().unwrap_or(1);
            let fan_in = decl.shape.iter().skip(1).product::<usize>().max(1);
            let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
            each(&mut |s| limit * (2.0 * s.uniform() - 1.0));
        }
        Init::FanInUniform { fan_in } => {
            let limit = 1.0 / (*fan_in as f64).sqrt();
            each(&mut |s| limit * (2.0 * s.uniform() - 1.0));
        }
        Init::SinCos2d { rows, columns, zero_rows, column_first } => {
            let dim = decl.shape.last().copied().unwrap_or(1);
            let zeros = std::iter::repeat_n(0.0, zero_rows * dim);
            let positions = sin_cos_2d(*rows, *columns, dim, *column_first);
            values.iter_mut().zip(zeros.chain(positions)).for_each(|(v, p)| *v = E::from_f64(p));
        }
    }
}

fn truncated_normal(stream: &mut Stream, cut: f64) -> f64 {
    loop {
        let value = stream.normal();
        if value.abs() <= cut {
            return value;
        }
    }
}

/// Fixed positions `[rows·columns, dim]`, row by row: for each of both coordinates `dim / 4` sines, then as many
/// cosines, of coordinate / 10000^(4i / dim). The column's come first (MAE) or the row's (MoCo v3).
fn sin_cos_2d(rows: usize, columns: usize, dim: usize, column_first: bool) -> impl Iterator<Item = f64> {
    let quarter = dim / 4;
    (0..rows * columns).flat_map(move |token| {
        let (row, column) = ((token / columns) as f64, (token % columns) as f64);
        let order = if column_first { [column, row] } else { [row, column] };
        (0..dim).map(move |d| {
            let coordinate = order[usize::from(d >= 2 * quarter)];
            let angle = coordinate / libm::pow(10000.0, (d % quarter) as f64 / quarter as f64);
            if d % (2 * quarter) < quarter { libm::sin(angle) } else { libm::cos(angle) }
        })
    })
}
