//! Values in words and shapes, for hovers and hints.

use crate::elab::{Dims, Index, Kind, Value};
use crate::op::{DType, Type};

/// Fields of a record that are shown by themselves.
const MAX_FIELDS: usize = 6;

/// A type as the language writes shapes, with what its elements are where they are no plain numbers.
pub fn of_type(ty: &Type) -> String {
    match ty.dtype {
        DType::Float => format!("float {}", Dims(&ty.shape)),
        DType::Int => format!("int {}", Dims(&ty.shape)),
    }
}

/// What a value is.
pub fn value(value: &Value, index: &Index) -> String {
    match &value.kind {
        Kind::Tensor(tensor) => of_type(&tensor.ty),
        Kind::Stored(path, ty) => format!("{}, the parameter `{path}`", of_type(ty)),
        Kind::Module(_) | Kind::Modules(_) => match index.module(value) {
            Some(module) => {
                let block = &module.def.item.name.text;
                match &value.kind {
                    Kind::Modules(ids) => format!("{} modules, each a `{block}`", ids.len()),
                    _ => format!("the module `{}`, a `{block}`", module.path),
                }
            }
            None => value.describe(),
        },
        Kind::View(view) => match index.views.get(*view).map(|view| (view.spec.size, view.spec.channels)) {
            Some((Some((height, width)), channels)) => {
                format!(
                    "pictures of {height}px × {width}px, {channels} channel{}",
                    if channels == 1 { "" } else { "s" }
                )
            }
            _ => "pictures of many sizes".to_owned(),
        },
        Kind::Record(fields) => {
            let shown =
                fields.iter().take(MAX_FIELDS).map(|(name, field)| format!("{name}: {}", self::value(field, index)));
            let more = if fields.len() > MAX_FIELDS { ", …" } else { "" };
            format!("{{ {}{more} }}", shown.collect::<Vec<_>>().join(", "))
        }
        Kind::List(items) if items.iter().all(|item| item.number().is_none()) => match items.first() {
            Some(first) => format!("{} items, the first {}", items.len(), self::value(first, index)),
            None => "an empty list".to_owned(),
        },
        Kind::Recipe(steps) => format!("a recipe of {} step{}", steps.len(), if steps.len() == 1 { "" } else { "s" }),
        Kind::Block(_) | Kind::Function(_) | Kind::Source(_) | Kind::NewSource(_) | Kind::Schedule(_) => {
            value.describe()
        }
        _ => value.to_string(),
    }
}

/// The same in the few letters that stand beside a name; none where that says nothing new.
pub fn briefly(value: &Value, index: &Index) -> Option<String> {
    match &value.kind {
        Kind::Tensor(tensor) if tensor.ty.dtype == DType::Int => Some(of_type(&tensor.ty)),
        Kind::Tensor(tensor) => Some(Dims(&tensor.ty.shape).to_string()),
        Kind::View(view) => {
            let (height, width) = index.views.get(*view)?.spec.size?;
            Some(format!("{height}px × {width}px"))
        }
        Kind::Record(fields) => {
            let shown: Vec<String> =
                fields.iter().filter_map(|(name, field)| Some(format!("{name}: {}", briefly(field, index)?))).collect();
            let first = shown.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
            (!shown.is_empty()).then(|| format!("{{ {first}{} }}", if shown.len() > 2 { ", …" } else { "" }))
        }
        Kind::List(items) => Some(format!("{} × {}", items.len(), briefly(items.first()?, index)?)),
        _ => None,
    }
}
