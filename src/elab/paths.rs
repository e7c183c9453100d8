//! Paths of data as people write them: without quotes, with `~` or `\`, or a folder where a source is meant.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::syntax::ast::{BinaryOp, Expr, ExprKind};

use super::Machine;
use super::scope::Scope;
use super::value::{Kind, Value};

/// Refuses a path that no system opens as it is written, or only one does; `call` writes the call with one that fits.
pub fn openable(path: &str, span: Span, call: impl Fn(&str) -> String) -> Result<(), Diagnostic> {
    let (message, label, fitting) = if path.is_empty() {
        ("a path is empty", "no path", "data/train".to_owned())
    } else if let Some(rest) = path.strip_prefix('~') {
        // A shell would have put it there, outside of quotes.
        let home = std::env::home_dir().map_or("/home/NAME".to_owned(), |home| home.display().to_string());
        let rest = rest.trim_start_matches(|c: char| c != '/');
        ("`~` stands for a folder in a shell alone", "not replaced", format!("{home}{rest}").replace('\\', "/"))
    } else if path.contains('\\') {
        ("a path with `\\` is one on Windows alone, `/` is one everywhere", "`\\`", path.replace('\\', "/"))
    } else {
        return Ok(());
    };
    Err(Diagnostic::new(Code::DataPath, message).label(span, label).help(format!("write `{}`", call(&fitting))))
}

impl Machine<'_> {
    /// The text of an expression that is a path without quotes: `data/train`, or a name that means nothing else.
    pub(super) fn unquoted_path(&self, expr: &Expr, scope: &Rc<Scope>) -> Option<String> {
        let text = self.sources.slice(expr.span);
        let is_path = match &expr.kind {
            ExprKind::Path(names) => match names.as_slice() {
                [name] => !self.is_known(name, scope),
                _ => false,
            },
            ExprKind::Binary(BinaryOp::Div, ..) => {
                // Whose parts were numbers would divide them.
                let parts = text.split('/').all(|part| part.starts_with(|c: char| c.is_alphabetic() || c == '_'));
                parts && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-'))
            }
            _ => false,
        };
        is_path.then(|| text.to_owned())
    }

    /// A path that stands where a source is wanted, as the setting `name` of `data`.
    pub(super) fn no_source(&self, name: &str, path: &str, value: &Value) -> Diagnostic {
        let found = match value.kind {
            Kind::Str(_) => format!("the string \"{path}\""),
            _ => format!("the path {path}"),
        };
        let source = format!("image_folder(\"{}\")", path.replace('\\', "/"));
        let help = match self.sources.get(value.span.source).name.as_str() {
            // The shell takes quotes away that are not in others.
            "--set" => format!("type `--set 'data.{name}={source}'`"),
            _ => format!("write `{name} = {source}`"),
        };
        Diagnostic::new(Code::WrongType, format!("`data.{name}` wants a source of pictures, found {found}"))
            .label(value.span, "a folder is read by `image_folder`")
            .help(help)
    }
}
