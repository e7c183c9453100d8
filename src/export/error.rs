//! Why a module, or what is computed with it, cannot be written for others.

use crate::diag::Code;
use crate::run::tensor_file::WriteError;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("no module `{module}` has tensors")]
    NoModule { module: String, there: String },
    #[error("`{module}` is no network of {of}: {why}")]
    NoNetwork { module: String, of: &'static str, why: String },
    #[error("`{module}` is no encoder of a masked autoencoder as {of} has it: {why}")]
    NoDecoder { module: String, of: &'static str, why: String },
    #[error("tensor `{path}` holds a value that is not finite")]
    NotFinite { path: String },
    #[error("the arena has {found} values, the layout {expected}")]
    Arena { found: usize, expected: usize },
    #[error("pipeline `{pipeline}` says nothing of features")]
    NoFeatures { pipeline: String },
    #[error("`features` of `{pipeline}` is {found}, expected float [B, D]")]
    Features { pipeline: String, found: String },
    #[error("`{op}` at `{scope}` has no form in ONNX: {why}")]
    NoForm { op: &'static str, scope: String, why: String },
    #[error("{0}")]
    Write(#[from] WriteError),
}

impl ExportError {
    /// `None` where the machine is in the way, not what was asked for.
    pub fn code(&self) -> Option<Code> {
        match self {
            ExportError::NoModule { .. } => Some(Code::ExportNoModule),
            ExportError::NoNetwork { .. } | ExportError::NoDecoder { .. } => Some(Code::ExportNoNetwork),
            ExportError::NotFinite { .. } => Some(Code::ExportNotFinite),
            ExportError::NoFeatures { .. } | ExportError::Features { .. } => Some(Code::ExportFeatures),
            ExportError::NoForm { .. } => Some(Code::ExportNoForm),
            ExportError::Arena { .. } | ExportError::Write(_) => None,
        }
    }

    pub fn help(&self) -> Option<String> {
        match self {
            ExportError::NoModule { there, .. } => Some(format!("--module with one of {there}, or with a path below it")),
            ExportError::NoNetwork { .. } => {
                Some("--format cmae writes its tensors under their own names, --format onnx what the features are computed by".to_owned())
            }
            ExportError::NoDecoder { .. } => Some("--format timm or --format transformers writes the encoder alone".to_owned()),
            ExportError::NotFinite { .. } => {
                Some("name an earlier checkpoint: --checkpoint NAME; `cmaec inspect RUN` lists them".to_owned())
            }
            ExportError::NoFeatures { .. } => {
                Some("add `evaluate { features = encoder(views.eval).patches |> mean_tokens }` to it".to_owned())
            }
            ExportError::Features { .. } => Some("pool it, as in `encoder(view).patches |> mean_tokens`".to_owned()),
            ExportError::NoForm { .. } => Some("--format cmae or --format timm writes the weights instead".to_owned()),
            ExportError::Arena { .. } | ExportError::Write(_) => None,
        }
    }
}
