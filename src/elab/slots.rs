//! Parameters that arguments are for, and how they are shown to who misspells one.

use crate::diag::{is_near, nearest};
use crate::syntax::ast::{Dim, Param, ParamType};

use super::foreign;

/// One parameter for binding.
pub struct Slot<'p> {
    pub name: &'p str,
    pub required: bool,
    /// As it is declared, if in a file.
    pub param: Option<&'p Param>,
}

impl<'p> Slot<'p> {
    /// `name`, or `name?` for an optional one.
    pub fn builtin(name: &'p str) -> Self {
        match name.strip_suffix('?') {
            Some(name) => Slot { name, required: false, param: None },
            None => Slot { name, required: true, param: None },
        }
    }
}

/// Operations whose axis is the last, always.
pub const LAST_AXIS: &[&str] = &["softmax", "log_softmax", "l2_normalize", "argmax", "argsort", "cross_entropy"];

/// What to write where `name` is no parameter of `callee`: the one that is meant where that is sure, and all that there are.
pub fn argument_help(callee: &str, name: &str, slots: &[Slot<'_>]) -> String {
    let known: Vec<&str> = slots.iter().map(|slot| slot.name).collect();
    let meant = foreign::argument(name, &known).or_else(|| nearest(name, known.iter().copied()));
    match (meant, callee) {
        (Some(meant), _) if is_near(name, meant) && callee.starts_with("op::") => format!("did you mean `{meant}`?"),
        (Some(meant), _) => format!("did you mean `{meant}`? {}", parameters(callee, slots)),
        (None, _) if callee.strip_prefix("op::").is_some_and(|op| LAST_AXIS.contains(&op)) => {
            format!("leave it out: `{callee}` works along the last axis; `op::permute` brings another there")
        }
        (None, _) => parameters(callee, slots),
    }
}

/// "`vit` takes `image_size: size, …, norm_eps: float = 1e-6`".
pub fn parameters(callee: &str, slots: &[Slot<'_>]) -> String {
    if slots.is_empty() {
        return format!("`{callee}` takes no arguments");
    }
    let shown = slots.iter().map(|slot| match slot.param {
        Some(param) => match &param.default {
            Some(default) => format!("{}: {} = {default}", slot.name, type_text(&param.ty)),
            None => format!("{}: {}", slot.name, type_text(&param.ty)),
        },
        None if slot.required => slot.name.to_owned(),
        None => format!("{}?", slot.name),
    });
    format!("`{callee}` takes `{}`", shown.collect::<Vec<_>>().join(", "))
}

fn type_text(ty: &ParamType) -> String {
    match ty {
        ParamType::Named { name, optional } => format!("{}{}", name.text, if *optional { "?" } else { "" }),
        ParamType::Shape(shape) => {
            let dim = |dim: &Dim| match dim {
                Dim::Rest(_) => "..".to_owned(),
                Dim::Expr(expr) => expr.to_string(),
            };
            let dims: Vec<String> = shape.dims.iter().map(dim).collect();
            format!("[{}]{}", dims.join(", "), if shape.optional { "?" } else { "" })
        }
        ParamType::Record(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, ty)| format!("{}: {}", name.text, type_text(ty))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
    }
}

/// A value that a missing argument may have.
pub fn example(slot: &Slot<'_>) -> &'static str {
    match (slot.name, slot.param.map(|param| type_text(&param.ty)).as_deref()) {
        ("temperature", _) => "0.07",
        ("images", _) => "views.online",
        ("bank", _) => "data.train",
        ("queries", _) => "data.val",
        ("mask", _) => "online.mask",
        ("path", _) => "\"data/train\"",
        ("base", _) => "1.5e-4",
        ("embed_dim", _) => "768",
        ("depth" | "num_heads", _) => "12",
        ("in", _) => "encoder.embed_dim",
        ("hidden", _) => "1536",
        ("restore" | "keep", _) => "mask",
        ("view", _) => "views.online",
        ("features", _) => "features",
        ("query", _) => "online.query",
        ("key", _) => "target.key",
        ("pixels", _) => "online.pixels",
        ("momentum", _) => "0.996",
        ("out", _) => "256",
        ("from", _) => "encoder",
        (_, Some("ratio")) => "75%",
        (_, Some("size" | "px")) => "16px",
        _ => "…",
    }
}
