//! Writes the weights of one module, under timm's names, for use outside.
//!
//! Before: a checkpoint gives the arena. After: any reader of safetensors, such as timm's `load_state_dict`.
//!
//! **Invariant:** the file holds exactly the tensors below the module's path, with that prefix taken off.

use std::path::Path;

use crate::backend::Element;
use crate::graph::Layout;
use crate::run::tensor_file::{self, FileTensor, WriteError};

/// Why a module could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("no module `{module}` has tensors (help: there are {there})")]
    NoModule { module: String, there: String },
    #[error("tensor `{path}` holds a value that is not finite (help: export an earlier checkpoint)")]
    NotFinite { path: String },
    #[error("the arena has {found} values, the layout {expected}")]
    Arena { found: usize, expected: usize },
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes the tensors of `arena` below `module_path.` to `path` as f32 safetensors; gives their number.
///
/// `pipeline` is the pipeline's name, kept in the metadata beside the module's path and the format's version.
pub fn export_module<E: Element>(
    layout: &Layout,
    arena: &[E],
    module_path: &str,
    pipeline: &str,
    path: &Path,
) -> Result<usize, ExportError> {
    if arena.len() != layout.total_len {
        return Err(ExportError::Arena { found: arena.len(), expected: layout.total_len });
    }
    let prefix = format!("{module_path}.");
    let mut tensors = Vec::new();
    for (index, decl) in layout.tensors.iter().enumerate() {
        let Some(name) = decl.path.strip_prefix(&prefix) else { continue };
        let values = &arena[layout.range(index)];
        if values.iter().any(|x| !x.is_finite()) {
            return Err(ExportError::NotFinite { path: decl.path.clone() });
        }
        tensors.push(FileTensor::f32(name, decl.shape.clone(), values.iter().map(|x| x.to_f64() as f32)));
    }
    if tensors.is_empty() {
        let mut there: Vec<&str> = layout.tensors.iter().filter_map(|t| t.path.split('.').next()).collect();
        there.sort_unstable();
        there.dedup();
        return Err(ExportError::NoModule { module: module_path.to_owned(), there: there.join(", ") });
    }
    let metadata = [
        ("kind", "module".to_owned()),
        ("pipeline", pipeline.to_owned()),
        ("module", module_path.to_owned()),
        // transformers and timm look for this key and take it to mean row-major [out, in] tensors.
        ("format", "pt".to_owned()),
    ];
    tensor_file::write(path, &tensors, &metadata)?;
    Ok(tensors.len())
}
