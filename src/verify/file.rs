//! Files of reference tensors: safetensors with the settings, tolerances and null gradients in the metadata.
//!
//! Before: a PyTorch script wrote the file. After: [`super::plan`] links its tensors with the pipeline's.
//!
//! **Invariant:** values are f64 or i64 whatever the file's precision, and every tensor has as many as its shape says.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value;

use super::map::Rule;
use super::tolerance::{Tolerance, Tolerances};
use crate::pattern::closest;

/// Values of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Float(Vec<f64>),
    /// Ids, counts and masks: compared exactly.
    Int(Vec<i64>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::Float(values) => values.len(),
            Values::Int(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Values::Float(values) => values.clone(),
            Values::Int(values) => values.iter().map(|&x| x as f64).collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// A parameter, or some of its values, whose gradient is zero in exact arithmetic. `name` is the file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NullGradient {
    pub name: String,
    /// Flat; `None` is all of it.
    pub range: Option<Range<usize>>,
}

impl NullGradient {
    /// Reads `name` or `name[from:to]`.
    pub fn parse(text: &str) -> Option<NullGradient> {
        let Some(inside) = text.strip_suffix(']') else {
            return Some(NullGradient { name: text.to_owned(), range: None });
        };
        let (name, range) = inside.split_once('[')?;
        let (from, to) = range.split_once(':')?;
        let range = from.trim().parse().ok()?..to.trim().parse().ok()?;
        (range.start < range.end).then(|| NullGradient { name: name.to_owned(), range: Some(range) })
    }
}

/// The settings that a file was made with: a JSON object whose keys are names in a mapping's expressions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigScope(pub Value);

impl ConfigScope {
    /// The value at `name`: `steps`, `adamw.lr`, `image_size[0]`.
    pub fn lookup(&self, name: &str) -> Result<&Value, FileError> {
        let mut value = &self.0;
        for part in name.replace('[', ".[").split('.') {
            let next = match part.strip_prefix('[').and_then(|part| part.strip_suffix(']')) {
                Some(index) => index.parse::<usize>().ok().and_then(|index| value.get(index)),
                None => value.get(part),
            };
            value = next.ok_or_else(|| {
                let keys = value.as_object().into_iter().flat_map(|object| object.keys().map(String::as_str));
                FileError::NoSetting { name: name.to_owned(), part: part.to_owned(), suggestion: closest(part, keys) }
            })?;
        }
        Ok(value)
    }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("not a safetensors file: {0}")]
    Format(String),
    #[error("tensor `{name}` is {dtype} (help: f32, f64, i64, i32, u8 and bool can be read)")]
    DType { name: String, dtype: String },
    #[error("metadata `{key}` is not the JSON it should be: {message}")]
    Metadata { key: &'static str, message: String },
    #[error("the file's config has no `{part}` (in `{name}`){}", did_you_mean(.suggestion))]
    NoSetting { name: String, part: String, suggestion: Option<String> },
}

/// Tail of a message: the nearest name, if there is one.
pub(super) fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (help: did you mean `{name}`?)")).unwrap_or_default()
}

/// A file of reference tensors.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// In the order of the file's data.
    pub tensors: Vec<(String, Tensor)>,
    pub config: ConfigScope,
    pub tolerances: Tolerances,
    /// The same for runs in f32, where the file's own are those of f64.
    pub single: Tolerances,
    pub null_gradients: Vec<NullGradient>,
    index: HashMap<String, usize>,
    /// The file's own names of tensors that a mapping renamed.
    own_names: HashMap<String, String>,
}

impl Fixture {
    pub fn read(path: &Path) -> Result<Fixture, FileError> {
        let bytes = std::fs::read(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        Fixture::parse(&bytes)
    }

    pub fn parse(bytes: &[u8]) -> Result<Fixture, FileError> {
        let format = |error: safetensors::SafeTensorError| FileError::Format(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let file = SafeTensors::deserialize(bytes).map_err(format)?;
        let mut tensors = Vec::new();
        for name in header.offset_keys() {
            let view = file.tensor(&name).map_err(format)?;
            let values = values(view.dtype(), view.data())
                .ok_or_else(|| FileError::DType { name: name.clone(), dtype: view.dtype().to_string() })?;
            tensors.push((name, Tensor { shape: view.shape().to_vec(), values }));
        }
        let metadata = header.metadata().clone().unwrap_or_default();
        let json = |key: &'static str| match metadata.get(key) {
            Some(text) => serde_json::from_str::<Value>(text)
                .map(Some)
                .map_err(|error| FileError::Metadata { key, message: error.to_string() }),
            None => Ok(None),
        };
        let index = tensors.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        Ok(Fixture {
            tensors,
            config: ConfigScope(json("config")?.unwrap_or_else(|| Value::Object(Default::default()))),
            tolerances: json("tolerance")?.map(|value| tolerances(&value, false)).transpose()?.unwrap_or_default(),
            single: json("tolerance")?.map(|value| tolerances(&value, true)).transpose()?.unwrap_or_default(),
            null_gradients: json("null_gradient")?.map(|value| null_gradients(&value)).transpose()?.unwrap_or_default(),
            index,
            own_names: HashMap::new(),
        })
    }

    /// The same file with its tensors under the names that `rules` give them.
    pub fn renamed(mut self, rules: &[Rule]) -> Fixture {
        for (name, _) in &mut self.tensors {
            let Some(new) =
                rules.iter().find_map(|rule| rule.names_for(name)).and_then(|names| names.into_iter().next())
            else {
                continue;
            };
            self.own_names.insert(new.clone(), std::mem::replace(name, new));
        }
        self.index = self.tensors.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        self
    }

    /// What the file itself calls a tensor.
    pub fn own_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.own_names.get(name).map_or(name, String::as_str)
    }

    /// Shapes by name, nested at the dots, for a mapping's expressions.
    pub fn shapes(&self) -> Value {
        let mut shapes = Value::Object(Default::default());
        for (name, tensor) in &self.tensors {
            let mut place = &mut shapes;
            for part in self.own_name(name).split('.') {
                // A name that is the beginning of another gives way to it.
                if !place.is_object() {
                    *place = Value::Object(Default::default());
                }
                place = &mut place[part];
            }
            if place.is_null() {
                *place = tensor.shape.iter().copied().collect();
            }
        }
        shapes
    }

    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&index| &self.tensors[index].1)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// (name without the section, tensor) of section `section`: `weights`, `grad`.
    pub fn section(&self, section: &str) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().filter_map(move |(name, tensor)| {
            let (first, rest) = name.split_once('.')?;
            (first == section).then_some((rest, tensor))
        })
    }
}

/// `None` for an element type that is not read.
fn values(dtype: Dtype, bytes: &[u8]) -> Option<Values> {
    Some(match dtype {
        Dtype::F32 => Values::Float(cut(bytes).map(|b| f64::from(f32::from_le_bytes(b))).collect()),
        Dtype::F64 => Values::Float(cut(bytes).map(f64::from_le_bytes).collect()),
        Dtype::I64 => Values::Int(cut(bytes).map(i64::from_le_bytes).collect()),
        Dtype::I32 => Values::Int(cut(bytes).map(|b| i64::from(i32::from_le_bytes(b))).collect()),
        Dtype::U8 | Dtype::BOOL => Values::Int(bytes.iter().map(|&b| i64::from(b)).collect()),
        _ => return None,
    })
}

fn cut<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|chunk| chunk.try_into().expect("chunks_exact gives chunks of N bytes"))
}

/// Groups whose advice is `{"max": _, "rms": _}`; advice in words is for people. Within it `"single": {…}` may hold other
/// numbers for f32.
fn tolerances(value: &Value, single: bool) -> Result<Tolerances, FileError> {
    let wrong = |message: String| FileError::Metadata { key: "tolerance", message };
    let object = value.as_object().ok_or_else(|| wrong("it is no object".to_owned()))?;
    let mut groups = Vec::new();
    for (group, advice) in object.iter().filter(|(_, advice)| advice.is_object()) {
        let advice = advice.get("single").filter(|_| single).unwrap_or(advice);
        let number = |key: &str| {
            let found = advice.get(key).and_then(Value::as_f64).filter(|x| *x >= 0.0);
            found.ok_or_else(|| wrong(format!("group `{group}` has no number `{key}`")))
        };
        groups.push((group.clone(), Tolerance { max: number("max")?, rms: number("rms")? }));
    }
    Ok(Tolerances { groups })
}

fn null_gradients(value: &Value) -> Result<Vec<NullGradient>, FileError> {
    let wrong = |message: String| FileError::Metadata { key: "null_gradient", message };
    let list = value.as_array().ok_or_else(|| wrong("it is no list".to_owned()))?;
    let parse = |item: &Value| {
        let parsed = item.as_str().and_then(NullGradient::parse);
        parsed.ok_or_else(|| wrong(format!("{item} is neither `name` nor `name[from:to]`")))
    };
    list.iter().map(parse).collect()
}
