//! Writes the weights of one module, under timm's names, for use outside.
//!
//! Before: a checkpoint gives the arena. After: any reader of safetensors, such as timm's `load_state_dict`.
//!
//! **Invariant:** the file holds what the module computes with, under the names that its original has: the tensors below its path,
//! with that prefix taken off, and those that an averaged copy shares with its original, for they never move.

use std::path::Path;

use super::timm::{self, Network};
use crate::graph::{Layout, Program};
use crate::run::tensor_file::{self, FileTensor, WriteError};
use crate::tensor::Element;

/// Why a module could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("no module `{module}` has tensors (help: there are {there})")]
    NoModule { module: String, there: String },
    #[error("`{module}` is no network of timm: {why} (help: --format cmae writes its tensors under their own names)")]
    NotTimm { module: String, why: String },
    #[error("tensor `{path}` holds a value that is not finite (help: export an earlier checkpoint)")]
    NotFinite { path: String },
    #[error("the arena has {found} values, the layout {expected}")]
    Arena { found: usize, expected: usize },
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Tensors of the module at `module_path`: names within it, and places in the layout.
pub fn tensors(program: &Program, module_path: &str) -> Vec<(String, usize)> {
    let (prefix, layout) = (format!("{module_path}."), &program.layout);
    let own = layout.tensors.iter().enumerate().map(|(index, decl)| (decl.path.as_str(), index));
    let shared = program.emas.iter().flat_map(|ema| &ema.shared);
    let shared = shared.filter_map(|(copy, source)| Some((copy.as_str(), layout.index(source)?)));
    own.chain(shared).filter_map(|(path, index)| Some((path.strip_prefix(&prefix)?.to_owned(), index))).collect()
}

/// Whose names a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Those of timm's network that the module is: `load_state_dict` takes the file strictly.
    Timm,
    /// The module's own: all its tensors.
    Own,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub tensors: usize,
    /// The Python that makes the network, where the file is timm's.
    pub line: Option<String>,
    /// Tensors of the module that the file does not hold.
    pub left_out: Vec<String>,
}

/// The network of timm that the module at `module_path` is, or why there is none.
pub fn network(program: &Program, module_path: &str) -> Result<Network, String> {
    let tensors = tensors(program, module_path);
    let shapes: Vec<timm::Named<'_>> =
        tensors.iter().map(|(name, index)| (name.as_str(), &program.layout.tensors[*index].shape[..])).collect();
    timm::network(program, module_path, &shapes)
}

/// Writes the tensors of the module at `module_path` to `path` as f32 safetensors, with their values in `arena`.
///
/// The metadata name the pipeline and the module, and hold the line that makes timm's network.
pub fn export_module<E: Element>(
    program: &Program,
    arena: &[E],
    module_path: &str,
    format: Format,
    path: &Path,
) -> Result<Written, ExportError> {
    let layout: &Layout = &program.layout;
    if arena.len() != layout.total_len {
        return Err(ExportError::Arena { found: arena.len(), expected: layout.total_len });
    }
    let all = self::tensors(program, module_path);
    if all.is_empty() {
        let mut there: Vec<&str> = layout.tensors.iter().filter_map(|t| t.path.split('.').next()).collect();
        there.sort_unstable();
        there.dedup();
        return Err(ExportError::NoModule { module: module_path.to_owned(), there: there.join(", ") });
    }
    let network = match format {
        Format::Timm => {
            let no_network = |why| ExportError::NotTimm { module: module_path.to_owned(), why };
            Some(network(program, module_path).map_err(no_network)?)
        }
        Format::Own => None,
    };
    let left_out = network.as_ref().map_or(Vec::new(), |network| network.left_out.clone());
    let mut tensors = Vec::new();
    for (name, index) in all.into_iter().filter(|(name, _)| !left_out.contains(name)) {
        let decl = &layout.tensors[index];
        let values = &arena[layout.range(index)];
        if values.iter().any(|x| !x.is_finite()) {
            return Err(ExportError::NotFinite { path: decl.path.clone() });
        }
        tensors.push(FileTensor::f32(name, decl.shape.clone(), values.iter().map(|x| x.to_f64() as f32)));
    }
    let line = network.map(|network| network.line);
    let mut metadata = vec![
        ("kind", "module".to_owned()),
        ("pipeline", program.spec.name.clone()),
        ("module", module_path.to_owned()),
        // transformers and timm look for this key and take it to mean row-major [out, in] tensors.
        ("format", "pt".to_owned()),
    ];
    metadata.extend(line.clone().map(|line| ("timm", line)));
    tensor_file::write(path, &tensors, &metadata)?;
    Ok(Written { tensors: tensors.len(), line, left_out })
}
