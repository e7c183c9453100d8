//! Parameter types: static kinds, and shapes whose symbolic dims are unified over one call.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, listed, nearest};
use crate::op::size;
use crate::source::Span;
use crate::spec::Schedule;
use crate::syntax::ast::{Dim, Expr, ExprKind, Name, ParamType, ShapeType};

use super::args::{as_ratio, as_size};
use super::misfit::wrong_type;
use super::scope::Scope;
use super::value::{Dims, Kind, Tensor, Value};
use super::{Checked, Machine};

/// What gives a record with a field of this name.
fn record_with(field: &str) -> String {
    match field {
        "ids_keep" | "ids_restore" | "ids_removed" => {
            "take a mask that keeps the same count of every image, such as `random_mask(encoder.grid, 75%)`".into()
        }
        "mask" => "take a mask, such as `online.mask`".into(),
        "tokens" => "take the encoder's whole output: `latent = encoder(views.online, keep: mask)`".into(),
        _ => format!("give a record with `{field}`: `{{ {field}: … }}`"),
    }
}

/// What a type is called here that `ty` is meant for; all of them where none is.
fn type_help(ty: &str) -> String {
    let ours = match ty {
        "Tensor" | "FloatTensor" | "Array" | "ndarray" | "Module" => {
            return "write the shape of a tensor: `x: [B, N, dim]`".into();
        }
        "integer" | "Int" | "long" | "usize" => Some("int"),
        "str" | "String" | "text" => Some("string"),
        "boolean" | "Bool" => Some("bool"),
        "double" | "real" | "Float" => Some("float"),
        "percent" | "percentage" => Some("ratio"),
        "pixels" | "length" => Some("px"),
        "dict" | "struct" => Some("record"),
        _ => nearest(ty, TYPES.iter().copied()),
    };
    ours.map_or_else(|| format!("there is {}", listed(TYPES)), |ours| format!("did you mean `{ours}`?"))
}

/// Static types that a parameter may name.
pub const TYPES: &[&str] = &[
    "int", "float", "ratio", "size", "px", "bool", "string", "record", "tuple", "init", "schedule", "number", "tensor",
    "list", "view", "views", "any",
];

impl Machine<'_> {
    /// Checks `value` against a parameter's type and converts it to that type's form. `what` names the parameter in
    /// messages; symbolic dims are bound in `scope`.
    pub fn coerce(&mut self, what: &str, value: Value, ty: &ParamType, scope: &Rc<Scope>) -> Checked<Value> {
        if matches!(value.kind, Kind::Poison) {
            return Err(crate::diag::Reported);
        }
        match ty {
            ParamType::Named { name, optional } => {
                if *optional && matches!(value.kind, Kind::None) {
                    return Ok(value);
                }
                self.coerce_named(what, value, &name.text, name.span)
            }
            ParamType::Shape(shape) => {
                if shape.optional && matches!(value.kind, Kind::None) {
                    return Ok(value);
                }
                let tensor = self.to_tensor(what, &value)?;
                self.unify(what, &tensor, value.span, shape, scope)?;
                Ok(Value::new(Kind::Tensor(tensor), value.span))
            }
            ParamType::Record(fields) => {
                let Kind::Record(entries) = &value.kind else {
                    let names: Vec<&str> = fields.iter().map(|(name, _)| &*name.text).collect();
                    let wrong = wrong_type(what, &value, &format!("a record with {}", listed(&names)));
                    let whole = self.whole_record(&value);
                    return self.fail(wrong.maybe_help(whole));
                };
                let mut converted = entries.to_vec();
                for (name, ty) in fields {
                    match converted.iter().position(|(n, _)| *n == name.text) {
                        Some(index) => {
                            // To its reader the record is one value, wherever its fields were made.
                            let inner = Value::new(converted[index].1.kind.clone(), value.span);
                            let what = format!("`{}` of {what}", name.text);
                            converted[index].1 = self.coerce(&what, inner, ty, scope)?;
                        }
                        None => {
                            let message = format!("{what} has no field `{}`", name.text);
                            let held: Vec<&str> = entries.iter().map(|(name, _)| &**name).collect();
                            return self.fail(
                                Diagnostic::new(Code::UnknownField, message)
                                    .label(value.span, format!("this record has {}", listed(&held)))
                                    .label(name.span, "wanted here")
                                    .help(record_with(&name.text)),
                            );
                        }
                    }
                }
                Ok(Value::new(Kind::Record(Rc::new(converted)), value.span))
            }
        }
    }

    /// Where one field was taken of the record that is wanted: `mask.mask` for `mask`.
    fn whole_record(&self, value: &Value) -> Option<String> {
        let text = &self.sources.get(value.span.source).text;
        let before = text.get(..value.span.start as usize)?.strip_suffix('.')?;
        let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').map_or(0, |i| i + 1);
        let base = before.get(start..).filter(|base| !base.is_empty())?;
        Some(format!("give the whole record: `{base}`, not `{base}.{}`", self.sources.slice(value.span)))
    }

    fn coerce_named(&mut self, what: &str, value: Value, ty: &str, span: Span) -> Checked<Value> {
        let wanted = |wanted: &str| Err(wrong_type(what, &value, wanted));
        let checked = match ty {
            "int" => match value.whole() {
                Some(n) => Ok(Kind::Int(n)),
                None => wanted("a whole number"),
            },
            "float" => match value.kind {
                Kind::Int(i) => Ok(Kind::Float(i as f64)),
                Kind::Float(f) => Ok(Kind::Float(f)),
                _ => wanted("a number such as 0.5"),
            },
            "ratio" => as_ratio(what, &value).map(Kind::Ratio),
            "size" => as_size(what, &value).map(|_| value.kind.clone()),
            "px" => super::args::as_pixels(what, &value).map(|p| Kind::Pixels(p as i64)),
            "bool" => match value.kind {
                Kind::Bool(_) => Ok(value.kind.clone()),
                _ => wanted("true or false"),
            },
            "string" => match &value.kind {
                Kind::Str(_) => Ok(value.kind.clone()),
                _ => wanted("a string"),
            },
            "tuple" => match &value.kind {
                Kind::Tuple(_) => Ok(value.kind.clone()),
                _ => {
                    let text = self.sources.slice(value.span);
                    let grid = what.starts_with("`grid`").then(|| match value.kind {
                        Kind::Module(_) if !text.is_empty() => format!("write `{text}.grid`"),
                        _ => "write the rows and columns of patches, such as `encoder.grid`".to_owned(),
                    });
                    Err(wrong_type(what, &value, "a tuple such as (6, 10)").maybe_help(grid))
                }
            },
            "record" => match &value.kind {
                Kind::Record(_) => Ok(value.kind.clone()),
                _ => {
                    let mask = ["`keep`", "`blank`", "`restore`", "`mask`"].iter().any(|name| what.starts_with(name));
                    let mask =
                        mask.then(|| "a mask is a record: `random_mask(encoder.grid, 75%)` makes one".to_owned());
                    Err(wrong_type(what, &value, "a record").maybe_help(self.whole_record(&value).or(mask)))
                }
            },
            "init" => super::builtin::as_init(&value)
                .map(Kind::Init)
                .ok_or_else(|| wrong_type(what, &value, "an initial value such as `xavier_uniform`")),
            "schedule" => match &value.kind {
                Kind::Schedule(_) => Ok(value.kind.clone()),
                _ => match value.number() {
                    Some(number) => Ok(Kind::Schedule(Schedule::Constant(number))),
                    None => wanted("a number or a schedule"),
                },
            },
            // Known before the run or not: a temperature may change over time.
            "number" => match value.number() {
                Some(number) => Ok(Kind::Float(number)),
                // It stays a schedule until something computes with it: what is asked of a number is asked of all its values.
                None if matches!(value.kind, Kind::Schedule(_)) => Ok(value.kind.clone()),
                None => {
                    let tensor = self.to_tensor(what, &value)?;
                    if tensor.ty.shape.is_empty() { Ok(Kind::Tensor(tensor)) } else { wanted("a number or a schedule") }
                }
            },
            "list" => match value.items() {
                Some(_) => Ok(value.kind.clone()),
                None => wanted("a list"),
            },
            "tensor" => {
                let tensor = self.to_tensor(what, &value)?;
                return Ok(Value::new(Kind::Tensor(tensor), value.span));
            }
            "view" => match &value.kind {
                Kind::View(_) | Kind::Recipe(_) => Ok(value.kind.clone()),
                _ => wanted("a view"),
            },
            "views" => match value.items() {
                Some(items) if items.iter().all(|v| matches!(v.kind, Kind::View(_) | Kind::Recipe(_))) => {
                    Ok(value.kind.clone())
                }
                _ => wanted("a list of views"),
            },
            "any" => Ok(value.kind.clone()),
            _ => Err(Diagnostic::new(Code::UnknownName, format!("there is no type `{ty}`"))
                .label(span, "not known")
                .help(type_help(ty))),
        };
        let kind = self.check(checked)?;
        Ok(Value::new(kind, value.span))
    }

    /// The tensor that a value stands for: parameters and views are read.
    pub fn to_tensor(&mut self, what: &str, value: &Value) -> Checked<Tensor> {
        let read = match &value.kind {
            Kind::Tensor(tensor) => return Ok(tensor.clone()),
            Kind::Stored(path, ty) => self.tensors.stored(path, ty, value.span),
            Kind::Schedule(schedule) => self.tensors.schedule(schedule, value.span),
            Kind::View(index) => self.tensors.view(&self.views[*index], value.span),
            Kind::Poison => return Err(crate::diag::Reported),
            Kind::Record(fields) => {
                let names: Vec<String> = fields.iter().map(|(n, _)| format!("`.{n}`")).collect();
                Err(Diagnostic::new(Code::NotATensor, format!("{what} wants a tensor, found a record"))
                    .label(value.span, "this is a record")
                    .help(format!("take one of its fields: {}", names.join(", "))))
            }
            _ => {
                let help = match &value.kind {
                    Kind::List(_) | Kind::Tuple(_) => Some("take one of its items: `.last`, or `[0]`".to_owned()),
                    Kind::Module(_) | Kind::Modules(_) | Kind::Function(_) => {
                        let text = self.sources.slice(value.span);
                        Some(format!("call it: `{}(x)`", if text.is_empty() { "encoder" } else { text }))
                    }
                    Kind::Source(name) => Some(format!(
                        "pictures come of a view: write one in `views`, `image = data.{name} |> …`, and take `views.image`"
                    )),
                    _ if value.number().is_some() => Some(format!("write `op::full([], {value})`")),
                    Kind::None => Some("leave it out, or ask first: `a if b == none else b`".to_owned()),
                    _ => None,
                };
                Err(Diagnostic::new(Code::NotATensor, format!("{what} wants a tensor, found {}", value.describe()))
                    .label(value.span, format!("this is {}", value.describe()))
                    .maybe_help(help))
            }
        };
        self.check(read)
    }

    /// Unifies a tensor's shape with a signature, binding new symbolic dims in `scope`.
    pub fn unify(
        &mut self,
        what: &str,
        tensor: &Tensor,
        at: Span,
        shape: &ShapeType,
        scope: &Rc<Scope>,
    ) -> Checked<()> {
        let found = tensor.ty.shape.clone();
        let rest = shape.dims.iter().position(|d| matches!(d, Dim::Rest(_)));
        let fixed = shape.dims.len() - usize::from(rest.is_some());
        let rank_fits = if rest.is_some() { found.len() >= fixed } else { found.len() == fixed };
        let mut culprits: Vec<(Span, String, usize)> = Vec::new();
        if rank_fits {
            let before = rest.unwrap_or(fixed);
            let skipped = found.len() - fixed;
            let dims = shape.dims.iter().filter(|d| !matches!(d, Dim::Rest(_)));
            for (i, dim) in dims.enumerate() {
                let Dim::Expr(expr) = dim else { continue };
                let axis = if i < before { i } else { i + skipped };
                match self.dim(expr, scope)? {
                    Some(value) => {
                        let wanted = value.whole().unwrap_or(-1);
                        if wanted != found[axis] as i64 {
                            culprits.push((
                                value.span,
                                format!("`{}` is {value}", self.sources.slice(expr.span)),
                                axis,
                            ));
                        }
                    }
                    None => {
                        let name = Name { text: self.sources.slice(expr.span).into(), span: expr.span };
                        scope.define(&name, Value::new(Kind::Int(found[axis] as i64), at));
                    }
                }
            }
            if culprits.is_empty() {
                return Ok(());
            }
        }
        let wanted = self.signature_text(shape, scope);
        let message = format!("{what} wants {wanted}, found {}", Dims(&found));
        let mut diagnostic = Diagnostic::new(Code::ShapeMismatch, message)
            .label(at, format!("this is {}", Dims(&found)))
            .label(shape.span, format!("{wanted} is wanted here"));
        let help = match culprits.as_slice() {
            _ if what.starts_with("`ids_") || what.starts_with("`mask` of") => Some(
                "give the mask that these tokens were kept by: `mask = random_mask(encoder.grid, 75%)`, one for encoder, decoder and loss"
                    .to_owned(),
            ),
            // A size that the block was made with goes by a lower-case name.
            [(_, text, axis)] => text
                .strip_prefix('`')
                .and_then(|rest| rest.split_once('`'))
                .filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
                .map(|(name, _)| format!("make it with `{name}: {}`, or give it {wanted}", found[*axis])),
            _ if !rank_fits && found.len() == shape.dims.len() + 1 && found.len() == 3 => {
                Some("pool the tokens first: `|> mean_tokens`, or take `.cls`".to_owned())
            }
            _ if !rank_fits && found.len() == 4 && shape.dims.len() < 4 => {
                Some("these are pictures: give what comes of them, as `encoder(views.online).patches`".to_owned())
            }
            _ if !rank_fits && found.len() < fixed => Some(format!(
                "it has {} less: leave out an index, a mean or a `.cls` that took it away",
                if fixed - found.len() == 1 { "an axis".to_owned() } else { format!("{} axes", fixed - found.len()) }
            )),
            _ => None,
        };
        for (span, text, _) in culprits {
            diagnostic = diagnostic.label(span, text);
        }
        self.fail(diagnostic.maybe_help(help))
    }

    /// A dim's value, or `None` for a symbolic one that is not bound yet.
    fn dim(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Checked<Option<Value>> {
        if let ExprKind::Path(names) = &expr.kind
            && names.len() == 1
        {
            return match scope.get(&names[0].text) {
                None => Ok(None),
                // Symbolic dims share the value namespace; a tensor of that name is not a dim.
                Some(value) => match value.whole() {
                    Some(_) => Ok(Some(value)),
                    None => self.fail(wrong_type(&format!("the dim `{}`", names[0].text), &value, "a whole number")),
                },
            };
        }
        let value = self.eval(expr, scope)?;
        match value.whole() {
            Some(_) => Ok(Some(value)),
            None => self.fail(wrong_type("a dim", &value, "a whole number")),
        }
    }

    /// `[B, 196, dim]` with known dims as numbers: `[B, 196, 768]`.
    fn signature_text(&mut self, shape: &ShapeType, scope: &Rc<Scope>) -> String {
        let dims: Vec<String> = shape
            .dims
            .iter()
            .map(|dim| match dim {
                Dim::Rest(_) => "..".to_owned(),
                Dim::Expr(expr) => match self.dim(expr, scope) {
                    Ok(Some(value)) => value.to_string(),
                    _ => self.sources.slice(expr.span).to_owned(),
                },
            })
            .collect();
        format!("[{}]", dims.join(", "))
    }

    /// Static shape of a declared tensor.
    pub fn static_shape(&mut self, shape: &ShapeType, scope: &Rc<Scope>) -> Checked<Vec<usize>> {
        let (mut dims, mut places) = (Vec::new(), Vec::new());
        for dim in &shape.dims {
            let Dim::Expr(expr) = dim else {
                return self.fail(
                    Diagnostic::new(Code::WrongType, "a parameter's shape is known: `..` has no place in it")
                        .label(shape.span, "here"),
                );
            };
            let value = self.eval(expr, scope)?;
            match value.whole().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => dims.push(n),
                None => return self.fail(wrong_type("a dim of a parameter", &value, "a whole number from 1")),
            }
            places.push(value.span);
        }
        if let Err(error) = size::sized(&dims) {
            // The sizes themselves, the largest or empty one first: they may stand in another file.
            let worst = (0..dims.len()).max_by_key(|i| if dims[*i] == 0 { usize::MAX } else { dims[*i] });
            let diagnostic = Diagnostic::new(error.code, error.message);
            let diagnostic = match worst {
                Some(i) => diagnostic.label(places[i], format!("this is {}", dims[i])),
                None => diagnostic,
            };
            return self.fail(diagnostic.label(shape.span, "declared here").maybe_help(error.help));
        }
        Ok(dims)
    }
}
