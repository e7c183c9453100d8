//! Why a file's weights do not go into a module.

use std::io;
use std::path::PathBuf;

use crate::diag::{Code, listed};

/// Names that are told; the others are counted.
const TOLD: usize = 6;

#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("there are no weights at {path}")]
    NotFound { path: PathBuf },
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// Damaged, or of no format that is read.
    #[error("{path} cannot be read: {what}")]
    Format { path: PathBuf, what: String, help: String },
    #[error("{path} asks for `{name}`, which a file of weights has no use for; nothing of it was run")]
    Refused { path: PathBuf, name: String },
    #[error("`{module}` begins with weights of {path}, and there is no scheme of names `{name}`")]
    UnknownScheme { module: String, path: PathBuf, name: String, known: Vec<String>, near: Option<Box<str>> },
    #[error("{path} holds nothing for `{module}`: {what}")]
    NoMatch { module: String, path: PathBuf, what: String, help: String },
    #[error("{path} holds several networks that fit `{module}`: {}", quoted(.prefixes))]
    Several { module: String, path: PathBuf, prefixes: Vec<String> },
    #[error("{path} lacks {} of `{module}`: {}", count(.names), told(.names))]
    Missing { module: String, path: PathBuf, names: Vec<String>, patterns: Vec<String> },
    #[error("{path} holds {} that `{module}` has no place for: {}", count(.names), told(.names))]
    Unexpected { module: String, path: PathBuf, names: Vec<String>, patterns: Vec<String>, sizes: Option<Box<str>> },
    /// Each as `name is [a] here, [b] there`.
    #[error("{} of {path} {} other shapes than those of `{module}`: {}", count(.tensors), plural(.tensors), told_plain(.tensors))]
    Shape { module: String, path: PathBuf, tensors: Vec<String>, help: String },
}

fn plural(names: &[String]) -> &'static str {
    if names.len() == 1 { "has" } else { "have" }
}

fn count(names: &[String]) -> String {
    format!("{} tensor{}", names.len(), if names.len() == 1 { "" } else { "s" })
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    some(&names)
}

fn told(names: &[String]) -> String {
    quoted(names)
}

fn told_plain(lines: &[String]) -> String {
    some(lines)
}

/// The first of them, and how many more there are.
fn some(texts: &[String]) -> String {
    let mut shown = texts.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
    if texts.len() > TOLD {
        shown += &format!(", and {} more", texts.len() - TOLD);
    }
    shown
}

/// `name: ["a", "b"]`, as one writes it.
pub fn argument(name: &str, patterns: &[String]) -> String {
    let patterns: Vec<String> = patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
    format!("{name}: [{}]", patterns.join(", "))
}

impl WeightsError {
    pub fn code(&self) -> Code {
        match self {
            WeightsError::NotFound { .. } | WeightsError::Io { .. } => Code::WeightsNotFound,
            WeightsError::Format { .. } => Code::WeightsFormat,
            WeightsError::Refused { .. } => Code::WeightsRefused,
            WeightsError::UnknownScheme { .. } | WeightsError::NoMatch { .. } | WeightsError::Several { .. } => {
                Code::WeightsNames
            }
            WeightsError::Missing { .. } => Code::WeightsMissing,
            WeightsError::Unexpected { .. } => Code::WeightsUnexpected,
            WeightsError::Shape { .. } => Code::WeightsShape,
        }
    }

    /// The module that they were meant for, if it is known.
    pub fn module(&self) -> Option<&str> {
        match self {
            WeightsError::UnknownScheme { module, .. }
            | WeightsError::NoMatch { module, .. }
            | WeightsError::Several { module, .. }
            | WeightsError::Missing { module, .. }
            | WeightsError::Unexpected { module, .. }
            | WeightsError::Shape { module, .. } => Some(module),
            _ => None,
        }
    }

    /// What to type.
    pub fn help(&self) -> String {
        match self {
            WeightsError::NotFound { .. } => {
                "write the file's path from the folder that the program is started in".into()
            }
            WeightsError::Io { .. } => "check that the file is there and may be read".into(),
            WeightsError::Format { help, .. }
            | WeightsError::NoMatch { help, .. }
            | WeightsError::Shape { help, .. } => help.clone(),
            WeightsError::Refused { .. } => {
                "take the file from its authors' own page, or have its tensors saved by themselves: \
                                             `torch.save(model.state_dict(), \"weights.pth\")`"
                    .into()
            }
            WeightsError::UnknownScheme { known, near, .. } => match near {
                Some(near) => format!("did you mean `names: \"{near}\"`?"),
                None => format!("there is {}", listed(known)),
            },
            WeightsError::Several { prefixes, .. } => {
                format!("say which: `prefix: \"{}\"`", prefixes.first().map_or("", String::as_str))
            }
            WeightsError::Missing { patterns, .. } => {
                format!("where they may begin as the pipeline says, write `{}`", argument("missing", patterns))
            }
            WeightsError::Unexpected { patterns, sizes, .. } => {
                let pass = format!("to pass over them, write `{}`", argument("unexpected", patterns));
                match sizes {
                    Some(sizes) => format!("{sizes}; {pass}"),
                    None => pass,
                }
            }
        }
    }
}
