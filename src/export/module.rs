//! The tensors of one module, as files for use outside hold them.
//!
//! Before: a checkpoint gives the arena. After: [`write`] makes a file under timm's names or the module's own; the other formats take
//! [`held`] under theirs.
//!
//! **Invariant:** the file holds what the module computes with, under the names that its original has: the tensors below its path,
//! with that prefix taken off, and those that an averaged copy shares with its original, for they never move.

use std::path::Path;

use super::error::ExportError;
use super::network::{Named, Network};
use super::timm;
use crate::graph::{Layout, Program};
use crate::run::tensor_file::{self, FileTensor};
use crate::tensor::Element;
use crate::weights::scheme::Part;

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
    /// The Python that makes the network, line by line; none where the names are our own.
    pub lines: Vec<String>,
    /// Tensors of the module that the file does not hold.
    pub left_out: Vec<String>,
}

/// The vision transformer that the module at `module_path` is, or why it is none.
pub fn network(program: &Program, module_path: &str) -> Result<Network, String> {
    let tensors = tensors(program, module_path);
    let shapes: Vec<Named<'_>> =
        tensors.iter().map(|(name, index)| (name.as_str(), &program.layout.tensors[*index].shape[..])).collect();
    Network::of(program, module_path, &shapes)
}

/// The line that makes the module at `module_path` in timm, or why there is none.
pub fn timm_line(program: &Program, module_path: &str) -> Result<String, String> {
    timm::line(&network(program, module_path)?)
}

/// The tensors of the module at `module_path` with their values in `arena`, without those that are `left_out`.
pub fn held<E: Element>(
    program: &Program,
    arena: &[E],
    module_path: &str,
    left_out: &[String],
) -> Result<Vec<FileTensor>, ExportError> {
    let layout: &Layout = &program.layout;
    if arena.len() != layout.total_len {
        return Err(ExportError::Arena { found: arena.len(), expected: layout.total_len });
    }
    let all = tensors(program, module_path);
    if all.is_empty() {
        let mut there: Vec<&str> = layout.tensors.iter().filter_map(|t| t.path.split('.').next()).collect();
        there.sort_unstable();
        there.dedup();
        return Err(ExportError::NoModule { module: module_path.to_owned(), there: there.join(", ") });
    }
    let mut tensors = Vec::new();
    for (name, index) in all.into_iter().filter(|(name, _)| !left_out.contains(name)) {
        let decl = &layout.tensors[index];
        let values = &arena[layout.range(index)];
        if values.iter().any(|x| !x.is_finite()) {
            return Err(ExportError::NotFinite { path: decl.path.clone() });
        }
        tensors.push(FileTensor::f32(name, decl.shape.clone(), values.iter().map(|x| x.to_f64() as f32)));
    }
    Ok(tensors)
}

/// The same tensors under the names that `part` of a scheme gives them, behind `prefix`; one of ours that is several of theirs is cut
/// along its first axis. Fails with the name of one that the scheme does not have.
pub fn renamed(tensors: Vec<FileTensor>, part: &Part, prefix: &str) -> Result<Vec<FileTensor>, String> {
    let mut renamed = Vec::new();
    for tensor in tensors {
        let names = part.targets(&tensor.name).ok_or_else(|| tensor.name.clone())?;
        let rows = tensor.shape.first().copied().unwrap_or(1);
        if names.is_empty() || !rows.is_multiple_of(names.len()) {
            return Err(tensor.name);
        }
        let bytes = tensor.bytes.len() / names.len();
        for (at, name) in names.iter().enumerate() {
            let mut shape = tensor.shape.clone();
            shape.iter_mut().take(1).for_each(|rows| *rows /= names.len());
            renamed.push(FileTensor {
                name: format!("{prefix}{name}"),
                dtype: tensor.dtype,
                shape,
                bytes: tensor.bytes[at * bytes..(at + 1) * bytes].to_vec(),
            });
        }
    }
    Ok(renamed)
}

/// What the metadata of every file say.
pub(super) fn metadata(program: &Program, module_path: &str) -> Vec<(&'static str, String)> {
    vec![
        ("kind", "module".to_owned()),
        ("pipeline", program.spec.name.clone()),
        ("module", module_path.to_owned()),
        // transformers and timm look for this key and take it to mean row-major [out, in] tensors.
        ("format", "pt".to_owned()),
    ]
}

/// The Python that loads the file at `path` into the network, strictly.
pub fn load_line(path: &Path) -> String {
    format!("model.load_state_dict(safetensors.torch.load_file({:?}))", path.display().to_string())
}

/// Writes the tensors of the module at `module_path` to `path` as f32 safetensors, with their values in `arena`.
///
/// The metadata name the pipeline and the module, and hold the line that makes timm's network.
pub fn write<E: Element>(
    program: &Program,
    arena: &[E],
    module_path: &str,
    format: Format,
    path: &Path,
) -> Result<Written, ExportError> {
    let all = held(program, arena, module_path, &[])?;
    let no_network = |why| ExportError::NoNetwork { module: module_path.to_owned(), of: "timm", why };
    let (network, line) = match format {
        Format::Timm => {
            let network = network(program, module_path).map_err(no_network)?;
            let line = timm::line(&network).map_err(no_network)?;
            (Some(network), Some(line))
        }
        Format::Own => (None, None),
    };
    let left_out = network.map_or(Vec::new(), |network| network.left_out);
    let tensors: Vec<FileTensor> = all.into_iter().filter(|tensor| !left_out.contains(&tensor.name)).collect();
    let mut metadata = metadata(program, module_path);
    metadata.extend(line.clone().map(|line| ("timm", line)));
    tensor_file::write(path, &tensors, &metadata)?;
    let lines = line.iter().map(|line| format!("model = {line}")).collect();
    Ok(Written { tensors: tensors.len(), lines, left_out })
}
