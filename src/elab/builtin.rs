//! Names that every file sees without `use`: constants, static functions, initial values, view steps and settings.

use std::rc::Rc;

use crate::decl::Init;
use crate::diag::{Code, Diagnostic, suggest};
use crate::source::Span;
use crate::syntax::ast::Argument;

use super::args::{Bag, wrong_type};
use super::scope::Scope;
use super::value::{Kind, Value};
use super::{Checked, Machine, lists, settings, views};

/// Initial values that take no argument.
const PLAIN_INITS: &[&str] = &["zeros", "ones", "xavier_uniform"];
const INITS: &[(&str, &[&str])] = &[
    ("constant", &["value"]),
    ("normal", &["std"]),
    ("trunc_normal", &["std", "cut?"]),
    ("fan_in_uniform", &["fan_in"]),
    ("sincos_2d", &["grid", "zero_rows?", "column_first?"]),
];
/// Functions of static values.
const STATIC: &[(&str, &[&str])] = &[
    ("floor", &["x"]),
    ("ceil", &["x"]),
    ("sqrt", &["x"]),
    ("min", &["a", "b"]),
    ("max", &["a", "b"]),
    ("pow", &["base", "exponent"]),
    ("pair", &["x"]),
];
/// Words that stand for themselves.
const WORDS: &[&str] = &[
    "f32",
    "f64",
    "bf16",
    "blocks",
    "bilinear",
    "bicubic",
    "lanczos",
    "before_forward",
    "after_forward",
    "after_step",
];
const MODULES: &[&str] = &["ema", "frozen", "stop_gradient", "kmeans"];

/// All builtin names, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    let tables = INITS
        .iter()
        .chain(STATIC)
        .chain(lists::FUNCTIONS)
        .chain(views::STEPS)
        .chain(settings::SETTINGS)
        .map(|(n, _)| *n);
    tables
        .chain(PLAIN_INITS.iter().copied())
        .chain(WORDS.iter().copied())
        .chain(MODULES.iter().copied())
        .chain(["imagenet"])
}

/// The value of a builtin name.
pub fn named(name: &str, span: Span) -> Option<Value> {
    if WORDS.contains(&name) {
        return Some(Value::new(Kind::Str(name.into()), span));
    }
    if name == "imagenet" {
        return Some(imagenet(span));
    }
    names().any(|n| n == name).then(|| Value::new(Kind::Builtin(name.into()), span))
}

/// Channel means and standard deviations of ImageNet, of values in 0..1 (torchvision's constants).
fn imagenet(span: Span) -> Value {
    let triple = |values: [f64; 3]| {
        let items = values.iter().map(|v| Value::new(Kind::Float(*v), span)).collect();
        Value::new(Kind::Tuple(Rc::new(items)), span)
    };
    let fields = vec![("mean".into(), triple([0.485, 0.456, 0.406])), ("std".into(), triple([0.229, 0.224, 0.225]))];
    Value::new(Kind::Record(Rc::new(fields)), span)
}

/// The initial value that a value stands for.
pub fn as_init(value: &Value) -> Option<Init> {
    match &value.kind {
        Kind::Init(init) => Some(init.clone()),
        Kind::Builtin(name) => match &**name {
            "zeros" => Some(Init::Zeros),
            "ones" => Some(Init::Ones),
            "xavier_uniform" => Some(Init::XavierUniform),
            _ => None,
        },
        _ => None,
    }
}

impl Machine<'_> {
    /// Calls a builtin; `naming` is the path of the definition that the call is the value of.
    pub fn call_builtin(
        &mut self,
        name: &str,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
        naming: Option<String>,
    ) -> Checked<Value> {
        if let Some(op) = name.strip_prefix("op::").or((name == "stop_gradient").then_some(name)) {
            return self.call_op(op, first, arguments, span, scope);
        }
        if name == "kmeans" {
            let slots = ["value", "rounds?"].map(super::args::Slot::builtin);
            let values = self.bind_arguments(name, &slots, first, arguments, span, scope)?;
            let [Some(value), rounds] = values.as_slice() else { return Err(crate::diag::Reported) };
            let tensor = self.to_tensor("`value` of `kmeans`", value)?;
            let rounds = match rounds {
                None => 10,
                Some(rounds) => match rounds.whole() {
                    Some(n) if n > 0 => n as usize,
                    _ => return self.fail(wrong_type("`rounds` of `kmeans`", rounds, "a whole number from 1")),
                },
            };
            return Ok(Value::new(Kind::KMeans(tensor, rounds), span));
        }
        if name == "frozen" {
            return match naming {
                Some(path) => self.frozen(path, arguments, span, scope),
                None => self.fail(
                    Diagnostic::new(Code::NotCallable, "`frozen` makes a module")
                        .label(span, "called here")
                        .help("define it in `model`: `eye = frozen(vit(…))`"),
                ),
            };
        }
        if name == "ema" {
            return match naming {
                Some(path) => self.ema(&path, arguments, span, scope),
                None => self.fail(
                    Diagnostic::new(Code::NotCallable, "`ema` makes modules")
                        .label(span, "called here")
                        .help("define it in `model`: `momentum = ema(encoder, momentum: 0.996)`"),
                ),
            };
        }
        if let Some((_, params)) = lists::FUNCTIONS.iter().find(|(n, _)| *n == name) {
            let slots: Vec<_> = params.iter().map(|n| super::args::Slot::builtin(n)).collect();
            let values = self.bind_arguments(name, &slots, first, arguments, span, scope)?;
            let list = values.into_iter().flatten().next().expect("its one argument is required");
            return self.call_on_list(name, &list, span);
        }
        if let Some(value) = first {
            // Only static functions take a piped value among builtins, and none of them reads well so.
            return self.fail(wrong_type(&format!("`{name}`"), &value, "its arguments in parentheses"));
        }
        let table = |table: &[(&'static str, &'static [&'static str])]| {
            table.iter().find(|(n, _)| *n == name).map(|(_, params)| *params)
        };
        if let Some(params) = table(STATIC) {
            let bag = self.bind_builtin(name, params, arguments, span, scope)?;
            return self.call_static(name, &bag, span);
        }
        if let Some(params) = table(INITS) {
            let bag = self.bind_builtin(name, params, arguments, span, scope)?;
            let init = call_init(name, &bag);
            return self.check(init).map(|init| Value::new(Kind::Init(init), span));
        }
        if let Some(params) = table(views::STEPS) {
            let bag = self.bind_builtin(name, params, arguments, span, scope)?;
            let step = views::step(name, &bag, span);
            return self.check(step).map(|step| Value::new(Kind::Recipe(Rc::new(vec![step])), span));
        }
        if let Some(params) = table(settings::SETTINGS) {
            let bag = self.bind_builtin(name, params, arguments, span, scope)?;
            let setting = settings::call(name, &bag);
            return self.check(setting).map(|kind| Value::new(kind, span));
        }
        self.fail(Diagnostic::new(Code::NotCallable, format!("`{name}` takes no arguments")).label(span, "called here"))
    }

    fn call_op(
        &mut self,
        op: &str,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        if op == "geometry" {
            return self.call_geometry(first, arguments, span, scope);
        }
        let Some(signature) = self.tensors.signature(op) else {
            let known = self.tensors.op_names();
            let diagnostic = if known.is_empty() {
                Diagnostic::new(Code::StaticExpected, format!("`op::{op}` stands where nothing is computed"))
                    .label(span, "called here")
                    .help("call it in a `branch`, in `losses` or in `forward`")
            } else {
                Diagnostic::new(Code::UnknownName, format!("there is no `op::{op}`"))
                    .label(span, "not known")
                    .maybe_help(suggest(op, known))
            };
            return self.fail(diagnostic);
        };
        let slots: Vec<_> = signature.iter().map(|n| super::args::Slot::builtin(n)).collect();
        let values = self.bind_arguments(&format!("op::{op}"), &slots, first, arguments, span, scope)?;
        let mut resolved = Vec::with_capacity(values.len());
        for value in values {
            resolved.push(match value {
                Some(value) => self.resolve(value)?,
                None => None,
            });
        }
        let result = self.tensors.call(op, resolved, span);
        self.check(result)
    }

    /// `op::geometry(view)`: the one operation that takes a view and not its pictures.
    fn call_geometry(
        &mut self,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        let slots = [super::args::Slot::builtin("view")];
        let values = self.bind_arguments("op::geometry", &slots, first, arguments, span, scope)?;
        match values.into_iter().flatten().next() {
            Some(Value { kind: Kind::View(index), .. }) => {
                let result = self.tensors.geometry(&self.views[index], span);
                let tensor = self.check(result)?;
                Ok(Value::new(Kind::Tensor(tensor), span))
            }
            value => {
                let value = value.unwrap_or(Value::new(Kind::None, span));
                self.fail(wrong_type("`view` of `op::geometry`", &value, "a view such as views.online"))
            }
        }
    }

    /// Parameters and views become tensors, also within lists; `none` is no value.
    fn resolve(&mut self, value: Value) -> Checked<Option<Value>> {
        Ok(match &value.kind {
            Kind::None => None,
            Kind::Stored(..) | Kind::View(_) | Kind::Schedule(_) => {
                let tensor = self.to_tensor("an operand", &value)?;
                Some(Value::new(Kind::Tensor(tensor), value.span))
            }
            Kind::List(items) => {
                let mut resolved = Vec::with_capacity(items.len());
                for item in items.iter() {
                    resolved.extend(self.resolve(item.clone())?);
                }
                Some(Value::new(Kind::List(Rc::new(resolved)), value.span))
            }
            _ => Some(value),
        })
    }

    fn call_static(&mut self, name: &str, bag: &Bag, span: Span) -> Checked<Value> {
        let value = |name: &str| bag.get(name).cloned().unwrap_or(Value::new(Kind::None, span));
        let x = value("x");
        let kind = match name {
            "pair" => match x.items() {
                Some([_, _]) => x.kind.clone(),
                Some(_) => return self.fail(wrong_type("`pair`", &x, "one value or two")),
                None => Kind::Tuple(Rc::new(vec![x.clone(), x])),
            },
            "min" | "max" => {
                let (a, b) = (value("a"), value("b"));
                match (a.number(), b.number()) {
                    (Some(x), Some(y)) => {
                        if (x <= y) == (name == "min") {
                            a.kind
                        } else {
                            b.kind
                        }
                    }
                    _ => return self.fail(wrong_type(&format!("`{name}`"), &a, "two numbers")),
                }
            }
            "pow" => {
                let (base, exponent) = (value("base"), value("exponent"));
                return self.check(super::number::power(&base, &exponent, span));
            }
            _ => match x.number() {
                Some(number) => match name {
                    "floor" => Kind::Int(number.floor() as i64),
                    "ceil" => Kind::Int(number.ceil() as i64),
                    _ => Kind::Float(number.sqrt()),
                },
                None => return self.fail(wrong_type(&format!("`{name}`"), &x, "a number")),
            },
        };
        Ok(Value::new(kind, span))
    }
}

fn call_init(name: &str, bag: &Bag) -> Result<Init, Diagnostic> {
    Ok(match name {
        "constant" => Init::Constant(bag.float("value", 0.0)?),
        "normal" => Init::Normal { std: bag.float("std", 0.02)? },
        "trunc_normal" => {
            let cut = bag.float("cut", 2.0)?;
            // Drawn until a value lies inside: a cut of nothing would never end.
            if cut < 0.1 {
                let what = format!("`cut` of `trunc_normal` is {cut} deviations, 0.1 is the least");
                let diagnostic = Diagnostic::new(Code::OutOfRange, what).help("write a number such as `2.0`");
                return Err(match bag.get("cut") {
                    Some(value) => diagnostic.label(value.span, "out of range"),
                    None => diagnostic,
                });
            }
            Init::TruncNormal { std: bag.float("std", 0.02)?, cut }
        }
        "fan_in_uniform" => Init::FanInUniform { fan_in: bag.count("fan_in", 1)? },
        _ => {
            let grid = bag.get("grid").and_then(|g| match g.items()? {
                [rows, columns] => Some((rows.whole()?, columns.whole()?)),
                _ => None,
            });
            let Some((rows, columns)) = grid else {
                let value = bag.get("grid").cloned();
                return Err(match value {
                    Some(value) => wrong_type("`grid` of `sincos_2d`", &value, "rows and columns such as (14, 14)"),
                    None => Diagnostic::new(Code::MissingArgument, "`sincos_2d` needs `grid`"),
                });
            };
            let zero_rows = bag.get("zero_rows").and_then(Value::whole).unwrap_or(0);
            let column_first = bag.get("column_first").is_some_and(|v| matches!(v.kind, Kind::Bool(true)));
            Init::SinCos2d {
                rows: rows as usize,
                columns: columns as usize,
                zero_rows: zero_rows as usize,
                column_first,
            }
        }
    })
}
