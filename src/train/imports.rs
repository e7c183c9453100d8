//! Weights of imported pipelines: copied from the runs that are named for them.

use crate::graph::{Init, Layout, Program};
use crate::tensor::Element;

/// A trained run, for `--with ALIAS=RUN`.
#[derive(Debug, Clone)]
pub struct ImportedRun {
    pub alias: String,
    /// As given on the command line.
    pub run: String,
    pub layout: Layout,
    /// All its tensors.
    pub arena: Vec<f32>,
}

/// Why imported modules have no weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error(
        "the pipeline uses `{pipeline}` as `{alias}`, which needs a trained run of it\n\
         help: cmaec run pipelines/{pipeline}.cmae --out runs/{pipeline}, then add --with {alias}=runs/{pipeline}"
    )]
    Missing { pipeline: String, alias: String },
    #[error("--with {alias}={run}: the pipeline imports nothing as `{alias}`\nhelp: it imports {known}")]
    Unknown { alias: String, run: String, known: String },
    #[error(
        "--with {alias}={run}: `{path}` is {found} there, {expected:?} here\n\
         help: name a run of the same sizes, or set them with --set {alias}.NAME=VALUE"
    )]
    Shape { alias: String, run: String, path: String, found: String, expected: Vec<usize> },
}

/// Fills the imported tensors of `arena` from `runs`.
pub fn fill<E: Element>(program: &Program, arena: &mut [E], runs: &[ImportedRun]) -> Result<(), ImportError> {
    let imports = &program.spec.imports;
    for run in runs {
        if !imports.iter().any(|import| import.alias == run.alias) {
            let known: Vec<String> = imports.iter().map(|i| format!("`{}`", i.alias)).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(ImportError::Unknown { alias: run.alias.clone(), run: run.run.clone(), known });
        }
    }
    for import in imports {
        let Some(run) = runs.iter().find(|run| run.alias == import.alias) else {
            return Err(ImportError::Missing { pipeline: import.pipeline.clone(), alias: import.alias.clone() });
        };
        for (index, decl) in program.layout.tensors.iter().enumerate() {
            let Init::Imported { import: alias, path } = &decl.init else { continue };
            if *alias != import.alias {
                continue;
            }
            let found = run.layout.get(path);
            let Some((_, range)) = found.as_ref().filter(|(there, _)| there.shape == decl.shape) else {
                return Err(ImportError::Shape {
                    alias: alias.clone(),
                    run: run.run.clone(),
                    path: path.clone(),
                    found: found.map_or_else(|| "missing".to_owned(), |(there, _)| format!("{:?}", there.shape)),
                    expected: decl.shape.clone(),
                });
            };
            let values = arena[program.layout.range(index)].iter_mut().zip(&run.arena[range.clone()]);
            values.for_each(|(value, given)| *value = E::from_f64(f64::from(*given)));
        }
    }
    Ok(())
}

/// Copies the imported tensors of one arena into another of the same program.
pub fn copy<E: Element>(program: &Program, from: &[E], into: &mut [E]) {
    for (index, decl) in program.layout.tensors.iter().enumerate() {
        if matches!(decl.init, Init::Imported { .. }) {
            let range = program.layout.range(index);
            into[range.clone()].copy_from_slice(&from[range]);
        }
    }
}
