//! What a mapping, a file and a pipeline lack to fit each other.

use super::file::did_you_mean;

/// A gap between mapping, file and pipeline.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    #[error("parameter `{path}` has no tensor in the file: {}{}", tried_names(.tried), did_you_mean(.suggestion))]
    MissingWeight { path: String, tried: Vec<String>, suggestion: Option<String> },
    #[error("parameter `{path}` is {expected:?}, the file's {} {found:?} (help: correct `set`, or name it in `reshape`)", .names.join(" + "))]
    Shape { path: String, expected: Vec<usize>, names: Vec<String>, found: Vec<Vec<usize>> },
    #[error("input `{name}` of the graph is not in the mapping's `inputs`")]
    MissingInput { name: String },
    #[error("the graph has no input `{name}`{}", did_you_mean(.suggestion))]
    UnknownInput { name: String, suggestion: Option<String> },
    #[error("input `{name}` is {expected}, the file's tensor `{tensor}` {found}")]
    InputType { name: String, tensor: String, expected: String, found: String },
    #[error("the file has no tensor `{name}`{}", did_you_mean(.suggestion))]
    NoTensor { name: String, suggestion: Option<String> },
    #[error("the graph has no value `{name}`{}", did_you_mean(.suggestion))]
    UnknownValue { name: String, suggestion: Option<String> },
    #[error("tensor `{name}` of the file is not used (help: add it to `outputs`, `tensors` or `ignore`)")]
    Unused { name: String },
    #[error("`{name}` is the gradient of `{path}`, which is not trained (help: add it to `ignore`)")]
    NotTrained { name: String, path: String },
    #[error("`{name}` is the state of `{path}`, which the graph does not write (help: add it to `ignore`)")]
    NotWritten { name: String, path: String },
    #[error("`null_gradient` names `{name}`, which no parameter is made of{}", did_you_mean(.suggestion))]
    UnknownNull { name: String, suggestion: Option<String> },
}

fn tried_names(tried: &[String]) -> String {
    if tried.is_empty() {
        return "no rule of `tensors` matches it".to_owned();
    }
    let quoted: Vec<String> = tried.iter().map(|name| format!("`weights.{name}`")).collect();
    format!("tried {}", quoted.join(", "))
}
