//! Writes safetensors files atomically and with equal bytes for equal contents.
//!
//! Before: checkpoints, features and exports gather tensors. After: any reader of safetensors.
//!
//! **Invariant:** a file under its final name is whole: it is written beside, synced, and renamed in.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde_json::json;

use crate::tensor::Element;

/// Version of the layout of the files that this crate writes, in their metadata as `format_version`.
pub const FORMAT_VERSION: &str = "1";

/// Values that are turned into bytes at once.
const CHUNK: usize = 1 << 16;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write {path}: {source} (help: check that the folder is there and can be written to)")]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot lay out {path}: {message}")]
    Layout { path: PathBuf, message: String },
}

/// A tensor on its way into a file, as little-endian bytes.
#[derive(Debug, Clone)]
pub struct FileTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl FileTensor {
    pub fn f32(name: impl Into<String>, shape: Vec<usize>, values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        FileTensor { name: name.into(), dtype: Dtype::F32, shape, bytes }
    }

    /// In the precision that the values have.
    pub fn of<E: Element>(name: impl Into<String>, shape: Vec<usize>, values: &[E]) -> Self {
        let (dtype, bytes) = match E::NAME {
            "f64" => (Dtype::F64, values.iter().flat_map(|v| v.to_f64().to_le_bytes()).collect()),
            _ => (Dtype::F32, values.iter().flat_map(|v| (v.to_f64() as f32).to_le_bytes()).collect()),
        };
        FileTensor { name: name.into(), dtype, shape, bytes }
    }

    pub fn i64(name: impl Into<String>, shape: Vec<usize>, values: impl IntoIterator<Item = i64>) -> Self {
        let bytes = values.into_iter().flat_map(i64::to_le_bytes).collect();
        FileTensor { name: name.into(), dtype: Dtype::I64, shape, bytes }
    }
}

/// Writes `tensors` and `metadata` (with `format_version` added) to `path`.
pub fn write(path: &Path, tensors: &[FileTensor], metadata: &[(&str, String)]) -> Result<(), WriteError> {
    let bytes = to_bytes(path, tensors, metadata)?;
    write_atomically(path, &bytes).map_err(|source| WriteError::Io { path: path.to_owned(), source })
}

/// The bytes of the file at `path`, which errors name.
pub fn to_bytes(path: &Path, tensors: &[FileTensor], metadata: &[(&str, String)]) -> Result<Vec<u8>, WriteError> {
    let layout = |message: String| WriteError::Layout { path: path.to_owned(), message };
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)
            .map_err(|error| layout(format!("tensor `{}`: {error}", tensor.name)))?;
        views.push((tensor.name.as_str(), view));
    }
    let entries: HashMap<String, String> = all_metadata(metadata).collect();
    let bytes = safetensors::serialize(views, Some(entries)).map_err(|error| layout(error.to_string()))?;
    with_sorted_header(&bytes).ok_or_else(|| layout("the header is not the format's".to_owned()))
}

/// Values on their way into a file that is not made in memory first.
#[derive(Debug, Clone)]
pub struct Values<'a, E> {
    pub name: String,
    pub shape: &'a [usize],
    pub values: &'a [E],
}

/// Writes `tensors` to `out`, in the precision that they have; to the byte what [`to_bytes`] makes of the same.
///
/// By hand since the library sees no way between a file and a copy of all: a checkpoint has its bytes summed as they go by.
pub fn stream<E: Element>(
    out: &mut dyn Write,
    mut tensors: Vec<Values<'_, E>>,
    metadata: &[(&str, String)],
) -> io::Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let (dtype, size) = if E::NAME == "f64" { (Dtype::F64, 8) } else { (Dtype::F32, 4) };
    let mut header = serde_json::Map::new();
    let texts = all_metadata(metadata).map(|(name, text)| (name, json!(text)));
    header.insert("__metadata__".to_owned(), texts.collect::<serde_json::Map<_, _>>().into());
    let mut at = 0;
    for Values { name, shape, values } in &tensors {
        let end = at + size * values.len();
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    out.write_all(&header_bytes(&header.into()))?;
    let mut bytes = Vec::with_capacity(size * CHUNK);
    for chunk in tensors.iter().flat_map(|tensor| tensor.values.chunks(CHUNK)) {
        bytes.clear();
        match dtype {
            Dtype::F64 => chunk.iter().for_each(|value| bytes.extend(value.to_f64().to_le_bytes())),
            _ => chunk.iter().for_each(|value| bytes.extend((value.to_f64() as f32).to_le_bytes())),
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn all_metadata<'m>(metadata: &'m [(&str, String)]) -> impl Iterator<Item = (String, String)> + 'm {
    let version = ("format_version".to_owned(), FORMAT_VERSION.to_owned());
    metadata.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).chain([version])
}

/// Values of an f32 or f64 tensor; `None` for another type.
pub fn values<E: Element>(dtype: Dtype, bytes: &[u8]) -> Option<Vec<E>> {
    // `chunks_exact` gives chunks of just this length: the conversions cannot fail.
    let f32s = |c: &[u8]| E::from_f64(f64::from(f32::from_le_bytes([c[0], c[1], c[2], c[3]])));
    let f64s = |c: &[u8]| E::from_f64(f64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]));
    match dtype {
        Dtype::F32 => Some(bytes.chunks_exact(4).map(f32s).collect()),
        Dtype::F64 => Some(bytes.chunks_exact(8).map(f64s).collect()),
        _ => None,
    }
}

/// Writes `bytes` beside `path`, syncs, and renames: after a crash `path` holds the old contents or the new.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    stream_atomically(path, &mut |file| file.write_all(bytes))
}

/// The same of what `write` writes.
pub fn stream_atomically(path: &Path, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    write(&mut file)?;
    put(file, path)
}

/// Puts a file that was written beside `path` in its place: synced, and with the permissions that a new file has.
pub(super) fn put(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    set_usual_permissions(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Writes `value` to `path` as JSON, in the same way.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), WriteError> {
    let text = serde_json::to_string(value)
        .map_err(|error| WriteError::Layout { path: path.to_owned(), message: error.to_string() })?;
    write_atomically(path, text.as_bytes()).map_err(|source| WriteError::Io { path: path.to_owned(), source })
}

/// The folder that `path` lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file is readable by its owner alone; a result should be readable as any other file.
#[cfg(unix)]
fn set_usual_permissions(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_usual_permissions(_file: &std::fs::File) -> io::Result<()> {
    Ok(())
}

/// The same file with the header's keys sorted: safetensors writes the metadata in a hash map's order, which differs
/// from run to run. `None` unless `bytes` start with a length and a JSON object.
fn with_sorted_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let data_at = usize::try_from(length).ok()?.checked_add(8)?;
    let header: serde_json::Value = serde_json::from_slice(bytes.get(8..data_at)?).ok()?;
    let mut sorted = header_bytes(&header);
    sorted.extend(&bytes[data_at..]);
    Some(sorted)
}

/// A file up to its values. serde_json's map is a BTreeMap: its keys are sorted at every depth.
fn header_bytes(header: &serde_json::Value) -> Vec<u8> {
    let mut text = header.to_string().into_bytes();
    // The format wants the data to start at a multiple of 8.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_file_byte_for_byte() {
        let values: Vec<f32> = (0..CHUNK + 3).map(|i| i as f32 / 7.0).collect();
        let metadata = [("step", "3".to_owned()), ("pipeline", "a \"name\"".to_owned())];
        let shapes: [(&str, Vec<usize>, usize); 3] =
            [("b.weight", vec![CHUNK + 1], CHUNK + 1), ("a", vec![2, 1], 2), ("b", vec![], 1)];
        let tensors: Vec<FileTensor> =
            shapes.iter().map(|(name, shape, len)| FileTensor::of(*name, shape.clone(), &values[..*len])).collect();
        let streamed =
            shapes.iter().map(|(name, shape, len)| Values { name: (*name).to_owned(), shape, values: &values[..*len] });
        let mut bytes = Vec::new();
        stream(&mut bytes, streamed.collect(), &metadata).expect("memory takes all");
        assert!(bytes == to_bytes(Path::new("f"), &tensors, &metadata).expect("it is laid out"));
    }
}
