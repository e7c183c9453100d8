//! Names that every file sees without `use`: constants, static functions, initial values, view steps and settings.

use std::rc::Rc;

use crate::decl::Init;
use crate::diag::{Code, Diagnostic, suggest};
use crate::source::Span;
use crate::syntax::ast::{Argument, ExprKind};

use super::args::{Bag, Builtin};
use super::misfit::wrong_type;
use super::of_view::OfView;
use super::scope::Scope;
use super::slots::Slot;
use super::value::{Kind, Value};
use super::{Checked, Machine, foreign, lists, number, settings, sources, views, weights};

/// Initial values that take no argument.
const PLAIN_INITS: &[(&str, Init)] =
    &[("zeros", Init::Zeros), ("ones", Init::Ones), ("xavier_uniform", Init::XavierUniform)];
const INITS: &[Builtin] = &[
    Builtin { name: "constant", params: &["value"], make: constant },
    Builtin { name: "normal", params: &["std"], make: normal },
    Builtin { name: "trunc_normal", params: &["std", "cut?"], make: trunc_normal },
    Builtin { name: "fan_in_uniform", params: &["fan_in"], make: fan_in_uniform },
    Builtin { name: "sincos_2d", params: &["grid", "zero_rows?", "column_first?"], make: sincos_2d },
];
/// Functions of static values.
const STATIC: &[Builtin] = &[
    Builtin { name: "floor", params: &["x"], make: |bag| rounded(bag, "floor", f64::floor) },
    Builtin { name: "ceil", params: &["x"], make: |bag| rounded(bag, "ceil", f64::ceil) },
    Builtin { name: "sqrt", params: &["x"], make: sqrt },
    Builtin { name: "exp", params: &["x"], make: exp },
    Builtin { name: "log", params: &["x"], make: log },
    Builtin { name: "whole", params: &["x"], make: whole },
    Builtin { name: "min", params: &["a", "b"], make: |bag| chosen(bag, "min", |a, b| a <= b) },
    Builtin { name: "max", params: &["a", "b"], make: |bag| chosen(bag, "max", |a, b| a > b) },
    Builtin { name: "pow", params: &["base", "exponent"], make: pow },
    Builtin { name: "pair", params: &["x"], make: pair },
];
/// Everything that is made of static values alone, with what it is for.
const CALLED: [(&str, &[Builtin]); 6] = [
    ("initial values", INITS),
    ("numbers", STATIC),
    ("steps of views", views::STEPS),
    ("sources of pictures", sources::SOURCES),
    ("settings of `train`", settings::SETTINGS),
    ("weights from elsewhere", weights::WEIGHTS),
];

fn builtins() -> impl Iterator<Item = &'static Builtin> {
    CALLED.iter().flat_map(|(_, table)| table.iter())
}
/// What needs the evaluator itself: modules, tensors, the place of the call.
const OF_THE_MACHINE: &[(&str, Call)] = &[
    ("ema", |machine, called| machine.call_ema(called)),
    ("frozen", |machine, called| machine.call_frozen(called)),
    ("kmeans", |machine, called| machine.call_kmeans(called)),
    ("stop_gradient", |machine, called| machine.call_op("stop_gradient", called)),
];

type Call = for<'m, 's, 'c> fn(&'m mut Machine<'s>, Called<'c>) -> Checked<Value>;

/// One call of a builtin.
struct Called<'c> {
    /// A piped value, which goes before all arguments.
    first: Option<Value>,
    arguments: &'c [Argument],
    span: Span,
    scope: &'c Rc<Scope>,
    /// The path of the definition that the call is the value of.
    naming: Option<String>,
}

/// Words that stand for themselves.
const WORDS: &[&str] = &[
    "auto",
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

/// All builtin names, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    builtins()
        .map(|builtin| builtin.name)
        .chain(lists::FUNCTIONS.iter().map(|(name, _)| *name))
        .chain(PLAIN_INITS.iter().map(|(name, _)| *name))
        .chain(WORDS.iter().copied())
        .chain(OF_THE_MACHINE.iter().map(|(name, _)| *name))
        .chain(["imagenet"])
}

/// Parameters of a builtin; `?` ends those that may be left out.
pub fn parameters(name: &str) -> Option<&'static [&'static str]> {
    builtins().find(|builtin| builtin.name == name).map(|builtin| builtin.params).or(match name {
        "ema" => Some(&["momentum", "when", "mode", "without"]),
        "stop_gradient" => Some(&["x"]),
        _ => lists::FUNCTIONS.iter().any(|(of_list, _)| *of_list == name).then_some(&["items"]),
    })
}

/// All that is called with static values, by what it is for: names with their parameters.
pub fn calls() -> impl Iterator<Item = (&'static str, impl Iterator<Item = (&'static str, &'static [&'static str])>)> {
    CALLED.iter().map(|(what, table)| (*what, table.iter().map(|builtin| (builtin.name, builtin.params))))
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
        Kind::Builtin(name) => PLAIN_INITS.iter().find(|(n, _)| *n == &**name).map(|(_, init)| init.clone()),
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
        let called = Called { first, arguments, span, scope, naming };
        if let Some(op) = name.strip_prefix("op::") {
            return self.call_op(op, called);
        }
        if let Some((_, call)) = OF_THE_MACHINE.iter().find(|(n, _)| *n == name) {
            return call(self, called);
        }
        if let Some((_, of_list)) = lists::FUNCTIONS.iter().find(|(n, _)| *n == name) {
            let slots = [Slot::builtin("items")];
            let values = self.bind_arguments(name, &slots, called.first, arguments, span, scope)?;
            let list = values.into_iter().flatten().next().expect("its one argument is required");
            return self.call_on_list(name, &list, *of_list, span);
        }
        if let Some(value) = called.first {
            // Only static functions take a piped value among builtins, and none of them reads well so.
            let op =
                (value.is_tensor() && self.tensors.signature(name).is_some()).then(|| format!("write `|> op::{name}`"));
            return self.fail(wrong_type(&format!("`{name}`"), &value, "its arguments in parentheses").maybe_help(op));
        }
        if let Some(builtin) = builtins().find(|b| b.name == name) {
            if let Some(taken) = self.step_of_view(name, arguments, scope) {
                return self.fail(taken);
            }
            if name == "random_apply" && arguments.len() == 1 {
                return self.fail(
                    Diagnostic::new(Code::MissingArgument, "`random_apply` needs how often it applies, and a step")
                        .label(span, "missing in this call")
                        .help("write `random_apply(80%, gaussian_blur(sigma: 0.1..2.0))`"),
                );
            }
            if sources::SOURCES.iter().any(|source| source.name == name) {
                for argument in arguments {
                    if let Some(path) = self.unquoted_path(&argument.value, scope) {
                        let (what, read) = match builtin.params.contains(&"path") {
                            true => ("a path", "read as names and divisions"),
                            false => ("a word", "read as a name"),
                        };
                        return self.fail(
                            Diagnostic::new(Code::DataPath, format!("{what} stands without quotes"))
                                .label(argument.value.span, read)
                                .help(format!("write `{name}(\"{path}\")`")),
                        );
                    }
                }
            }
            let bag = self.bind_builtin(name, builtin.params, arguments, span, scope)?;
            let made = (builtin.make)(&bag);
            return self.check(made).map(|kind| Value::new(kind, span));
        }
        self.fail(
            Diagnostic::new(Code::NotCallable, format!("`{name}` takes no arguments"))
                .label(span, "called here")
                .help(format!("write `{name}`, without parentheses")),
        )
    }

    /// `crop(view, …)`: a step is put behind a view, and is given none.
    fn step_of_view(&self, name: &str, arguments: &[Argument], scope: &Rc<Scope>) -> Option<Diagnostic> {
        let Argument { name: None, value } = arguments.first()? else { return None };
        let ExprKind::Path(path) = &value.kind else { return None };
        let [view] = path.as_slice() else { return None };
        let is_view = matches!(scope.get(&view.text)?.kind, Kind::View(_) | Kind::Source(_));
        (is_view && views::STEPS.iter().any(|step| step.name == name)).then(|| {
            Diagnostic::new(Code::WrongType, format!("`{name}` is a step, which is put behind a view"))
                .label(value.span, "a view")
                .help(format!("write `{} |> {name}(…)`", view.text))
        })
    }

    fn call_kmeans(&mut self, Called { first, arguments, span, scope, .. }: Called<'_>) -> Checked<Value> {
        let slots = ["value", "rounds?"].map(Slot::builtin);
        let values = self.bind_arguments("kmeans", &slots, first, arguments, span, scope)?;
        let [Some(value), rounds] = values.as_slice() else { return Err(crate::diag::Reported) };
        let tensor = self.to_tensor("`value` of `kmeans`", value)?;
        let rounds = match rounds {
            None => 10,
            Some(rounds) => match rounds.whole() {
                Some(n) if n > 0 => n as usize,
                _ => return self.fail(wrong_type("`rounds` of `kmeans`", rounds, "a whole number from 1")),
            },
        };
        Ok(Value::new(Kind::KMeans(tensor, rounds), span))
    }

    fn call_frozen(&mut self, Called { arguments, span, scope, naming, .. }: Called<'_>) -> Checked<Value> {
        match naming {
            Some(path) => self.frozen(path, arguments, span, scope),
            None => self.fail(
                Diagnostic::new(Code::NotCallable, "`frozen` makes a module")
                    .label(span, "called here")
                    .help("define it in `model`: `eye = frozen(vit(…))`"),
            ),
        }
    }

    fn call_ema(&mut self, Called { arguments, span, scope, naming, .. }: Called<'_>) -> Checked<Value> {
        match naming {
            Some(path) => self.ema(&path, arguments, span, scope),
            None => self.fail(
                Diagnostic::new(Code::NotCallable, "`ema` makes modules")
                    .label(span, "called here")
                    .help("define it in `model`: `momentum = ema(encoder, momentum: 0.996)`"),
            ),
        }
    }

    fn call_op(&mut self, op: &str, Called { first, arguments, span, scope, .. }: Called<'_>) -> Checked<Value> {
        if let Some(of_view) = OfView::named(op) {
            return self.call_of_view(of_view, first, arguments, span, scope);
        }
        let Some(signature) = self.tensors.signature(op) else {
            let known = self.tensors.op_names();
            let diagnostic = if known.is_empty() {
                Diagnostic::new(Code::StaticExpected, format!("`op::{op}` stands where nothing is computed"))
                    .label(span, "called here")
                    .help("call it in a `branch`, in `losses` or in `forward`")
            } else {
                let help = match op {
                    // It was there before a batch could be spread over ranks.
                    "all_gather" => {
                        Some("leave it out: a loss sees the whole batch, however many ranks share it".to_owned())
                    }
                    _ => foreign::answer(op).or_else(|| suggest(op, known)),
                };
                Diagnostic::new(Code::UnknownName, format!("there is no `op::{op}`"))
                    .label(span, "not known")
                    .maybe_help(help)
            };
            return self.fail(diagnostic);
        };
        let slots: Vec<_> = signature.iter().map(|n| Slot::builtin(n)).collect();
        let values = self.bind_arguments(&format!("op::{op}"), &slots, first, arguments, span, scope)?;
        let mut resolved = Vec::with_capacity(values.len());
        for (slot, value) in slots.iter().zip(values) {
            resolved.push(match value {
                Some(value) => {
                    self.check_range(&format!("op::{op}"), slot.name, &value)?;
                    self.resolve(value)?
                }
                None => None,
            });
        }
        let result = self.tensors.call(op, resolved, span);
        self.check(result)
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
}

type Made = Result<Kind, Diagnostic>;

/// The argument `name`, which the table says must be given.
fn argument(bag: &Bag, name: &str) -> Value {
    bag.get(name).cloned().unwrap_or(Value::new(Kind::None, bag.call))
}

fn rounded(bag: &Bag, name: &str, round: fn(f64) -> f64) -> Made {
    let x = argument(bag, "x");
    match x.number().map(round) {
        // Beyond that not every whole number is a float.
        Some(number) if number.abs() < 9e15 => Ok(Kind::Int(number as i64)),
        Some(_) => Err(Diagnostic::new(Code::OutOfRange, format!("`{name}` of {x} is too large for a whole number"))
            .label(x.span, "too large")
            .help("write a number below 9e15")),
        None => Err(computed(name, &x)),
    }
}

fn sqrt(bag: &Bag) -> Made {
    let x = argument(bag, "x");
    match x.number() {
        Some(number) if number < 0.0 => {
            Err(Diagnostic::new(Code::OutOfRange, format!("`sqrt` of {x}: a number below zero has no root"))
                .label(x.span, "below zero")
                .help("write a number from 0"))
        }
        Some(number) => Ok(Kind::Float(number.sqrt())),
        None => Err(computed("sqrt", &x)),
    }
}

fn exp(bag: &Bag) -> Made {
    let x = argument(bag, "x");
    match x.number().map(libm::exp) {
        Some(number) if number.is_finite() => Ok(Kind::Float(number)),
        Some(_) => Err(Diagnostic::new(Code::OutOfRange, format!("`exp` of {x} is no finite number"))
            .label(x.span, "too large")
            .help("write a number below 709")),
        None => Err(computed("exp", &x)),
    }
}

fn log(bag: &Bag) -> Made {
    let x = argument(bag, "x");
    match x.number() {
        Some(number) if number > 0.0 => Ok(Kind::Float(libm::log(number))),
        Some(_) => {
            Err(Diagnostic::new(Code::OutOfRange, format!("`log` of {x}: only a number above zero has a logarithm"))
                .label(x.span, "not above zero")
                .help("write a number above zero"))
        }
        None => Err(computed("log", &x)),
    }
}

/// A number that counts something, or several: where a division leaves a rest the error names both numbers.
fn whole(bag: &Bag) -> Made {
    let x = argument(bag, "x");
    let of = |value: &Value| {
        let wrong = || wrong_type("`whole`", value, "a whole number");
        value.whole().map(|n| Value::new(Kind::Int(n), value.span)).ok_or_else(wrong)
    };
    match &x.kind {
        Kind::Tuple(items) => Ok(Kind::Tuple(Rc::new(items.iter().map(of).collect::<Result<_, _>>()?))),
        _ => of(&x).map(|value| value.kind),
    }
}

/// A function of static numbers that was given something else; of a tensor there is an operation.
fn computed(name: &str, x: &Value) -> Diagnostic {
    let op = x.is_tensor().then(|| format!("of a tensor: `op::{name}(x)`"));
    wrong_type(&format!("`{name}`"), x, "a number").maybe_help(op)
}

/// One of two numbers: the first where `first` says so.
fn chosen(bag: &Bag, name: &str, first: fn(f64, f64) -> bool) -> Made {
    let (a, b) = (argument(bag, "a"), argument(bag, "b"));
    match (a.number(), b.number()) {
        (Some(x), Some(y)) => Ok(if first(x, y) { a.kind } else { b.kind }),
        (a_number, _) => {
            let wrong = if a_number.is_none() { &a } else { &b };
            let op = (a.is_tensor() || b.is_tensor()).then(|| format!("of tensors: `op::{name}imum(a, b)`"));
            Err(wrong_type(&format!("`{name}`"), wrong, "two numbers").maybe_help(op))
        }
    }
}

fn pow(bag: &Bag) -> Made {
    number::power(&argument(bag, "base"), &argument(bag, "exponent"), bag.call).map(|value| value.kind)
}

fn pair(bag: &Bag) -> Made {
    let x = argument(bag, "x");
    match x.items() {
        Some([_, _]) => Ok(x.kind),
        Some(_) => Err(wrong_type("`pair`", &x, "one value or two")),
        None => Ok(Kind::Tuple(Rc::new(vec![x.clone(), x]))),
    }
}

fn constant(bag: &Bag) -> Made {
    Ok(Kind::Init(Init::Constant(bag.float("value", 0.0)?)))
}

fn normal(bag: &Bag) -> Made {
    Ok(Kind::Init(Init::Normal { std: bag.float("std", 0.02)? }))
}

fn trunc_normal(bag: &Bag) -> Made {
    Ok(Kind::Init(Init::TruncNormal { std: bag.float("std", 0.02)?, cut: bag.float("cut", 2.0)? }))
}

fn fan_in_uniform(bag: &Bag) -> Made {
    Ok(Kind::Init(Init::FanInUniform { fan_in: bag.count("fan_in", 1)? }))
}

fn sincos_2d(bag: &Bag) -> Made {
    let grid = argument(bag, "grid");
    let side = |value: &Value| value.whole().filter(|n| *n > 0).map(|n| n as usize);
    let sides = grid.items().and_then(|items| match items {
        [rows, columns] => Some((side(rows)?, side(columns)?)),
        _ => None,
    });
    let Some((rows, columns)) = sides else {
        return Err(wrong_type("`grid` of `sincos_2d`", &grid, "rows and columns such as (14, 14)"));
    };
    let zero_rows = match bag.get("zero_rows") {
        None => 0,
        Some(value) => match value.whole().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => n,
            None => return Err(wrong_type("`zero_rows` of `sincos_2d`", value, "a whole number from 0")),
        },
    };
    let column_first = match bag.get("column_first").map(|v| &v.kind) {
        None => false,
        Some(Kind::Bool(flag)) => *flag,
        Some(_) => {
            let value = argument(bag, "column_first");
            return Err(wrong_type("`column_first` of `sincos_2d`", &value, "true or false"));
        }
    };
    Ok(Kind::Init(Init::SinCos2d { rows, columns, zero_rows, column_first }))
}
