//! Files of weights, as tensors by name.
//!
//! Before: a path. After: [`super::guess`] looks at the names, and values are read one tensor at a time.
//!
//! **Invariant:** every size is checked against the file's before memory is taken for it, and a tensor never takes more than the
//! file that it is of.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use half::{bf16, f16};
use pytorch_reader::{DType as TorchType, PytorchReader};
use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde_json::Value;

use super::error::WeightsError;
use super::pickle::{self, MAX_PICKLE};
use crate::tensor::Element;

/// Bytes of the header of a safetensors file, at most, as the format's own library has it.
const MAX_HEADER: u64 = 100_000_000;

/// Pickles before the values of a checkpoint that is no archive: a number, a version, a system, the object, keys.
const LEGACY_PICKLES: usize = 5;

/// What such a checkpoint begins with: the number 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// A tensor of a file; its values are not read yet.
#[derive(Debug, Clone)]
pub struct ForeignTensor {
    /// With the names of what it lies in before it: `model.blocks.0.attn.qkv.weight`.
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    place: Place,
    /// Bytes of the whole file.
    file_len: u64,
    path: Rc<PathBuf>,
}

#[derive(Debug, Clone)]
enum Place {
    Torch(Box<pytorch_reader::Tensor>),
    /// Values row by row, from this byte on.
    Plain(Rc<RefCell<File>>, u64),
}

/// The tensors of the file at `path`, in a safetensors file's order or, of PyTorch, in that of their names. A folder, or an index of
/// several files, is all that belongs to it.
pub fn open(path: &Path) -> Result<Vec<ForeignTensor>, WeightsError> {
    let path = &within(path);
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => WeightsError::NotFound { path: path.clone() },
        _ => WeightsError::Io { path: path.clone(), source },
    };
    if path.to_string_lossy().ends_with(".index.json") {
        return parts(path);
    }
    let mut file = File::open(path).map_err(io)?;
    let file_len = file.metadata().map_err(io)?.len();
    let mut head = [0; 512];
    let length = read_up_to(&mut file, &mut head).map_err(io)?;
    let head = &head[..length];
    match head {
        [b'P', b'K', 3 | 5, ..] => archive(path, file, file_len),
        // A header's length, and the header.
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors(path, file, file_len),
        _ if head.windows(LEGACY_MAGIC.len()).any(|window| window == LEGACY_MAGIC) => legacy(path, file, file_len),
        _ => Err(unknown(path, head)),
    }
}

/// Where a model is saved to a folder, the file in it.
fn within(path: &Path) -> PathBuf {
    const NAMES: [&str; 4] =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    let there = NAMES.iter().map(|name| path.join(name)).find(|file| path.is_dir() && file.is_file());
    there.unwrap_or_else(|| path.to_owned())
}

fn damaged(path: &Path, what: impl Into<String>) -> WeightsError {
    let help = "load it again from where it came from, and compare the sizes".to_owned();
    WeightsError::Format { path: path.to_owned(), what: what.into(), help }
}

/// What a file is that is no weights, as far as it shows.
fn unknown(path: &Path, head: &[u8]) -> WeightsError {
    let (what, help) = match head {
        [] => ("it is empty", "load it again from where it came from"),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', ..] => {
            ("it is a Git LFS pointer in place of the file", "run `git lfs pull`")
        }
        [b'<', ..] => ("it is a page of the web", "load the file that the page offers"),
        _ if head.len() > 262 && &head[257..262] == b"ustar" => (
            "it is of a PyTorch before 0.1.10",
            "save it with a later one: `torch.save(torch.load(\"old.pth\"), \"new.pth\")`",
        ),
        [0x89, b'H', b'D', b'F', ..] => ("it is an HDF5 file", "convert it to safetensors"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => ("it is an array of NumPy", "convert it to safetensors"),
        _ => (
            "it is neither a safetensors file nor a checkpoint of PyTorch",
            "name a `.safetensors`, `.pth`, `.pt` or `.bin` file",
        ),
    };
    WeightsError::Format { path: path.to_owned(), what: what.to_owned(), help: help.to_owned() }
}

fn read_up_to(file: &mut File, into: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < into.len() {
        match file.read(&mut into[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// The bytes from `start` on, as many as are there of `most`.
fn bytes_from(file: &mut File, start: u64, most: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.by_ref().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

// ---------------------------------------------------------------------------------------------- safetensors

#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

fn safetensors(path: &Path, mut file: File, file_len: u64) -> Result<Vec<ForeignTensor>, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let length = bytes_from(&mut file, 0, 8).map_err(io)?;
    let length = u64::from_le_bytes(length.try_into().map_err(|_| damaged(path, "it is cut short"))?);
    let data = length.checked_add(8).filter(|data| *data <= file_len && length <= MAX_HEADER);
    let data = data.ok_or_else(|| damaged(path, "its header is longer than the file, or than 100 MB"))?;
    let header = bytes_from(&mut file, 8, length).map_err(io)?;
    let header: serde_json::Map<String, Value> =
        serde_json::from_slice(&header).map_err(|error| damaged(path, format!("its header is no JSON: {error}")))?;
    let (file, path) = (Rc::new(RefCell::new(file)), Rc::new(path.to_owned()));
    let mut tensors = Vec::new();
    for (name, entry) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
        let entry: Entry = serde_json::from_value(entry)
            .map_err(|error| damaged(&path, format!("`{}` of its header is no tensor: {error}", short(&name))))?;
        let [start, end] = entry.data_offsets;
        let elements = entry.shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let bytes =
            elements.and_then(|elements| elements.checked_mul(entry.dtype.bitsize() as u64)).map(|bits| bits / 8);
        let lies = end.checked_add(data).is_some_and(|end| end <= file_len) && start <= end;
        if !lies || bytes != Some(end - start) {
            return Err(damaged(&path, format!("`{}` lies outside of the file, or has another size", short(&name))));
        }
        // Each dim is at most the file's length, or nothing is there: it fits an address.
        let shape = entry.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(usize::MAX)).collect();
        let place = Place::Plain(file.clone(), data + start);
        tensors.push((start, ForeignTensor { name, dtype: entry.dtype, shape, place, file_len, path: path.clone() }));
    }
    tensors.sort_by_key(|(start, _)| *start);
    Ok(tensors.into_iter().map(|(_, tensor)| tensor).collect())
}

/// A name of a file in a message: one may have any length.
fn short(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// All files of an index.
fn parts(path: &Path) -> Result<Vec<ForeignTensor>, WeightsError> {
    let text = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => WeightsError::NotFound { path: path.to_owned() },
        _ => WeightsError::Io { path: path.to_owned(), source },
    })?;
    let index: Value =
        serde_json::from_slice(&text).map_err(|error| damaged(path, format!("it is no JSON: {error}")))?;
    let map = index["weight_map"].as_object().ok_or_else(|| damaged(path, "it has no `weight_map`"))?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut tensors = Vec::new();
    for name in names {
        // Beside it, and nowhere else; an index of an index might lead to itself.
        if name.contains(['/', '\\']) || name.ends_with(".json") {
            return Err(damaged(path, format!("`{}` is no file beside it", short(name))));
        }
        tensors.extend(open(&folder.join(name))?);
    }
    Ok(tensors)
}

// ---------------------------------------------------------------------------------------------- PyTorch

/// A checkpoint of PyTorch 1.6 or later: a zip archive, stored as it is, with a pickle and the values.
fn archive(path: &Path, file: File, file_len: u64) -> Result<Vec<ForeignTensor>, WeightsError> {
    let of_zip = |error: zip::result::ZipError| damaged(path, format!("its archive is damaged: {error}"));
    let mut archive = zip::ZipArchive::new(file).map_err(of_zip)?;
    let mut bytes = None;
    for index in 0..archive.len() {
        // Stored as it is: raw bytes are the bytes.
        let mut entry = archive.by_index_raw(index).map_err(of_zip)?;
        let name = entry.name().map_err(of_zip)?.into_owned();
        if entry.compression() != zip::CompressionMethod::Stored {
            let help = "store it without compression: `zip -0`, or save it anew by `torch.save`".to_owned();
            let what = format!("`{}` in its archive is compressed", short(&name));
            return Err(WeightsError::Format { path: path.to_owned(), what, help });
        }
        if name.ends_with("/constants.pkl") {
            let help =
                "save the tensors by themselves: `torch.save(torch.jit.load(FILE).state_dict(), \"weights.pth\")`";
            let what = "it is a program of TorchScript".to_owned();
            return Err(WeightsError::Format { path: path.to_owned(), what, help: help.to_owned() });
        }
        if name == "data.pkl" || name.ends_with("/data.pkl") {
            let mut held = Vec::new();
            let read = entry.by_ref().take(MAX_PICKLE as u64).read_to_end(&mut held);
            read.map_err(|error| damaged(path, format!("its archive is damaged: {error}")))?;
            bytes = Some(held);
        }
    }
    let bytes = bytes.ok_or_else(|| WeightsError::Format {
        path: path.to_owned(),
        what: "it is an archive without a `data.pkl`, so no checkpoint of PyTorch".to_owned(),
        help: "name the file of weights in it".to_owned(),
    })?;
    looked_through(path, pickle::check(&bytes))?;
    torch(path, file_len)
}

/// A checkpoint of PyTorch before 1.6: pickles one behind the other, then the values.
fn legacy(path: &Path, mut file: File, file_len: u64) -> Result<Vec<ForeignTensor>, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let mut start = 0;
    for _ in 0..LEGACY_PICKLES {
        let bytes = bytes_from(&mut file, start, MAX_PICKLE as u64).map_err(io)?;
        start += looked_through(path, pickle::check(&bytes))? as u64;
    }
    torch(path, file_len)
}

fn looked_through<T>(path: &Path, checked: Result<T, pickle::Fault>) -> Result<T, WeightsError> {
    checked.map_err(|fault| match fault {
        pickle::Fault::Damaged(what) => damaged(path, what),
        pickle::Fault::Refused(name) => WeightsError::Refused { path: path.to_owned(), name: short(&name) },
    })
}

/// The tensors of a checkpoint whose pickles were looked through.
fn torch(path: &Path, file_len: u64) -> Result<Vec<ForeignTensor>, WeightsError> {
    let reader = PytorchReader::new(path).map_err(|error| damaged(path, error.to_string()))?;
    let shared = Rc::new(path.to_owned());
    let tensor = |(name, tensor): (String, pytorch_reader::Tensor)| ForeignTensor {
        name,
        dtype: of_torch(tensor.dtype()),
        shape: tensor.shape().to_vec(),
        place: Place::Torch(Box::new(tensor)),
        file_len,
        path: shared.clone(),
    };
    let mut tensors: Vec<ForeignTensor> = reader.into_tensors().into_iter().map(tensor).collect();
    tensors.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    Ok(tensors)
}

/// Parts of a name to order by: block 10 comes behind block 9.
fn natural(name: &str) -> Vec<(u64, &str)> {
    name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part)).collect()
}

fn of_torch(dtype: TorchType) -> Dtype {
    match dtype {
        TorchType::F64 => Dtype::F64,
        TorchType::F32 => Dtype::F32,
        TorchType::F16 => Dtype::F16,
        TorchType::BF16 => Dtype::BF16,
        TorchType::I64 => Dtype::I64,
        TorchType::I32 => Dtype::I32,
        TorchType::I16 => Dtype::I16,
        TorchType::I8 => Dtype::I8,
        TorchType::U64 => Dtype::U64,
        TorchType::U32 => Dtype::U32,
        TorchType::U16 => Dtype::U16,
        TorchType::U8 => Dtype::U8,
        TorchType::Bool => Dtype::BOOL,
    }
}

// ---------------------------------------------------------------------------------------------- values

impl ForeignTensor {
    /// Whether it may be a weight: counts, indices and masks are not.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |product: usize, dim| product.saturating_mul(*dim))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, row by row, the least of each value first.
    pub fn bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let length = (self.elements() as u64).saturating_mul(self.dtype.bitsize() as u64) / 8;
        // One that repeats a few values many times over.
        if length > self.file_len {
            let what = format!("`{}` has {length} bytes, the file {}", short(&self.name), self.file_len);
            return Err(damaged(&self.path, what));
        }
        match &self.place {
            Place::Torch(tensor) => tensor.read().map_err(|error| damaged(&self.path, error.to_string())),
            Place::Plain(file, start) => {
                let bytes = bytes_from(&mut file.borrow_mut(), *start, length);
                let bytes = bytes.map_err(|source| WeightsError::Io { path: self.path.to_path_buf(), source })?;
                match bytes.len() as u64 == length {
                    true => Ok(bytes),
                    false => Err(damaged(&self.path, "it has become shorter")),
                }
            }
        }
    }

    /// Its values, row by row; `None` where it is not of floating point.
    pub fn values<E: Element>(&self) -> Result<Option<Vec<E>>, WeightsError> {
        let bytes = if self.is_float() { self.bytes()? } else { return Ok(None) };
        Ok(Some(match self.dtype {
            Dtype::F64 => each(&bytes, f64::from_le_bytes),
            Dtype::F32 => each(&bytes, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F16 => each(&bytes, |b| f16::from_le_bytes(b).to_f64()),
            _ => each(&bytes, |b| bf16::from_le_bytes(b).to_f64()),
        }))
    }
}

fn each<const N: usize, E: Element>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<E> {
    let value = |chunk: &[u8]| E::from_f64(read(chunk.try_into().expect("chunks_exact gives chunks of N bytes")));
    bytes.chunks_exact(N).map(value).collect()
}
