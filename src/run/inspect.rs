//! Looks at what a run left: whether a checkpoint is whole, and what the tensors of a file are like.
//!
//! Before: [`super::checkpoint`] and others wrote. After: `cmaec inspect` shows it.
//!
//! **Invariant:** nothing is changed, and no program is needed: a checkpoint is judged by its own sums alone.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::RunError;
use super::checkpoint::{self, State};

/// What stands in a checkpoint's folder.
#[derive(Debug, Clone)]
pub struct CheckpointReport {
    pub path: PathBuf,
    /// Of all its files.
    pub bytes: u64,
    /// `None` where `state.ron` cannot be read.
    pub state: Option<State>,
    /// What is damaged; `None` for a whole one.
    pub fault: Option<String>,
}

impl CheckpointReport {
    /// Name of the folder.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// What a tensor is like; figures are over its finite values.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorReport {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// `None` without finite values, and for types that are no numbers to us.
    pub figures: Option<TensorFigures>,
    /// NaN and infinite values.
    pub non_finite: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorFigures {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// Square root of the sum of squares.
    pub norm: f64,
}

/// Judges the checkpoint in the folder `path` by the sums in its `state.ron`.
pub fn checkpoint(path: &Path) -> CheckpointReport {
    let bytes = fs::read_dir(path).into_iter().flatten().flatten();
    let bytes = bytes.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
    let (state, fault) = checkpoint::judge(path);
    CheckpointReport { path: path.to_owned(), bytes, state, fault }
}

/// The tensors of the safetensors file at `path`, in the order of its data.
pub fn tensors(path: &Path) -> Result<Vec<TensorReport>, RunError> {
    let bytes = fs::read(path).map_err(RunError::io("read", path))?;
    let format = |error: safetensors::SafeTensorError| RunError::Format {
        path: path.to_owned(),
        message: format!("not a whole safetensors file: {error}"),
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
    let file = SafeTensors::deserialize(&bytes).map_err(format)?;
    let report = |name: String| {
        let view = file.tensor(&name).map_err(format)?;
        let (figures, non_finite) = figures(view.dtype(), view.data());
        Ok(TensorReport { name, dtype: view.dtype().to_string(), shape: view.shape().to_vec(), figures, non_finite })
    };
    header.offset_keys().into_iter().map(report).collect()
}

/// Figures of the finite values of a tensor, and how many are not.
pub fn figures(dtype: Dtype, bytes: &[u8]) -> (Option<TensorFigures>, u64) {
    match dtype {
        Dtype::F64 => over(bytes, f64::from_le_bytes),
        Dtype::F32 => over(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => over(bytes, |b| f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => over(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        Dtype::I64 => over(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::U64 => over(bytes, |b| u64::from_le_bytes(b) as f64),
        Dtype::I32 => over(bytes, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::U32 => over(bytes, |b| f64::from(u32::from_le_bytes(b))),
        Dtype::I16 => over(bytes, |b| f64::from(i16::from_le_bytes(b))),
        Dtype::U16 => over(bytes, |b| f64::from(u16::from_le_bytes(b))),
        Dtype::I8 => over(bytes, |b| f64::from(i8::from_le_bytes(b))),
        Dtype::U8 | Dtype::BOOL => over(bytes, |[b]: [u8; 1]| f64::from(b)),
        // Eight bits and fewer, and complex numbers: nothing here writes them.
        _ => (None, 0),
    }
}

fn over<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> (Option<TensorFigures>, u64) {
    let (mut count, mut non_finite, mut sum, mut squares) = (0u64, 0u64, 0.0, 0.0);
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for chunk in bytes.chunks_exact(N) {
        let value = read(chunk.try_into().expect("chunks_exact gives chunks of N bytes"));
        if !value.is_finite() {
            non_finite += 1;
            continue;
        }
        count += 1;
        (min, max) = (min.min(value), max.max(value));
        sum += value;
        squares += value * value;
    }
    let figures = (count > 0).then(|| TensorFigures { min, max, mean: sum / count as f64, norm: squares.sqrt() });
    (figures, non_finite)
}

#[cfg(test)]
mod tests {
    use super::{Dtype, figures};

    #[test]
    fn what_is_not_finite_is_counted_apart() {
        let bytes: Vec<u8> = [3.0f32, -4.0, f32::NAN, f32::INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
        let (found, non_finite) = figures(Dtype::F32, &bytes);
        let found = found.expect("two are finite");
        assert_eq!((found.min, found.max, found.mean, found.norm, non_finite), (-4.0, 3.0, -0.5, 5.0, 2));
        // 1.5 in half precision and in bfloat16.
        for (dtype, bytes) in [(Dtype::F16, [0x00, 0x3e]), (Dtype::BF16, [0xc0, 0x3f])] {
            assert_eq!(figures(dtype, &bytes).0.map(|f| f.max), Some(1.5));
        }
        assert_eq!(figures(Dtype::F32, &[]), (None, 0));
    }
}
