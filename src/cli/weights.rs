//! Weights of files on the command line: which file a module begins with, and what is in its way.

use cmae::diag::Diagnostic;
use cmae::graph::build::Compiled;
use cmae::weights::WeightsError;

/// `encoder=FILE` of `--weights` as the override that it stands for.
pub fn as_override(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((module, "none")) if !module.trim().is_empty() => Ok(format!("model.{}.weights=none", module.trim())),
        Some((module, file)) if !module.trim().is_empty() && !file.is_empty() => {
            let file = file.replace('\\', "/").replace('"', "\\\"");
            Ok(format!("model.{}.weights=\"{file}\"", module.trim()))
        }
        _ => Err(format!("`{text}` names no file (help: --weights encoder=FILE)")),
    }
}

/// An error of weights, shown at the module that they were meant for.
pub fn explain(error: &WeightsError, compiled: &Compiled) -> Diagnostic {
    let spec = &compiled.program.spec;
    let module = match error.module() {
        Some(module) => Some(module),
        // A file that cannot be read names itself.
        None => {
            spec.weights.iter().find(|weights| error.to_string().contains(&weights.file)).map(|w| w.module.as_str())
        }
    };
    let diagnostic = Diagnostic::new(error.code(), error.to_string()).help(error.help());
    match module.and_then(|module| compiled.place(&format!("model.{module}"))) {
        Some(span) => diagnostic.label(span, "this module"),
        None => diagnostic,
    }
}
