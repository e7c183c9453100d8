//! Arguments: which parameter each one is for.
//!
//! Named arguments go by name; a positional one that is a bare name equal to a parameter's goes to that parameter
//! (`vit(image_size)` passes `image_size: image_size`); the others fill the remaining parameters in order.

use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, listed};
use crate::source::Span;
use crate::spec::Limit;
use crate::syntax::ast::{Argument, ExprKind};

use super::misfit::{sides, wrong_type};
use super::scope::Scope;
use super::slots::{Slot, argument_help, example, parameters};
use super::value::{Kind, Value};
use super::{Checked, Machine};

impl Machine<'_> {
    /// Evaluates `arguments` and assigns them to `slots`; `first` is a piped value that goes before all.
    pub fn bind_arguments(
        &mut self,
        callee: &str,
        slots: &[Slot<'_>],
        first: Option<Value>,
        arguments: &[Argument],
        call: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Vec<Option<Value>>> {
        let mut bound: Vec<Option<Value>> = slots.iter().map(|_| None).collect();
        let mut failed = None;
        let position = |name: &str| slots.iter().position(|s| s.name == name);
        // Where each argument goes: by name first, so that positional ones fill what is left.
        let mut targets: Vec<Option<usize>> = Vec::with_capacity(arguments.len());
        let mut taken: Vec<Option<Span>> = vec![None; slots.len()];
        if let (Some(value), false) = (&first, slots.is_empty()) {
            taken[0] = Some(value.span);
        }
        for argument in arguments {
            let pun = match (&argument.name, &argument.value.kind) {
                (None, ExprKind::Path(names)) if names.len() == 1 => {
                    position(&names[0].text).filter(|i| taken[*i].is_none())
                }
                _ => None,
            };
            let target = match &argument.name {
                None => pun,
                Some(name) => match position(&name.text) {
                    Some(index) => Some(index),
                    None => {
                        let message = format!("`{callee}` has no parameter `{}`", name.text);
                        failed = Some(
                            self.diagnostics.push(
                                Diagnostic::new(Code::UnknownArgument, message)
                                    .label(name.span, "not known")
                                    .help(argument_help(callee, &name.text, slots)),
                            ),
                        );
                        continue;
                    }
                },
            };
            if let Some(index) = target {
                if let Some(earlier) = taken[index] {
                    let message = format!("`{}` of `{callee}` is given twice", slots[index].name);
                    failed = Some(
                        self.diagnostics.push(
                            Diagnostic::new(Code::DuplicateArgument, message)
                                .label(argument.value.span, "again here")
                                .label(earlier, "first here")
                                .help("remove one of them"),
                        ),
                    );
                    continue;
                }
                taken[index] = Some(argument.value.span);
            }
            targets.push(target);
        }
        if let Some(reported) = failed {
            // What stands in them may be wrong by itself.
            arguments.iter().for_each(|argument| drop(self.eval(&argument.value, scope)));
            return Err(reported);
        }
        let notes = self.diagnostics.calls_out(callee);
        if let Some(value) = first {
            if notes && let Some(slot) = slots.first() {
                self.note_argument(slot.name, &value, value.span);
            }
            match bound.first_mut() {
                Some(slot) => *slot = Some(value),
                None => return self.too_many(callee, slots, value.span),
            }
        }
        for (argument, target) in arguments.iter().zip(targets) {
            let index = match target {
                Some(index) => index,
                None => match taken.iter().position(Option::is_none) {
                    Some(index) => {
                        taken[index] = Some(argument.value.span);
                        index
                    }
                    None => return self.too_many(callee, slots, argument.value.span),
                },
            };
            match self.eval(&argument.value, scope) {
                Ok(value) => {
                    if notes {
                        self.note_argument(slots[index].name, &value, argument.value.span);
                    }
                    bound[index] = Some(value);
                }
                Err(reported) => failed = Some(reported),
            }
        }
        let missing: Vec<&Slot<'_>> =
            slots.iter().zip(&bound).filter(|(slot, value)| slot.required && value.is_none()).map(|(s, _)| s).collect();
        if !missing.is_empty() && failed.is_none() {
            let names: Vec<&str> = missing.iter().map(|slot| slot.name).collect();
            let message = format!("`{callee}` needs {}", listed(&names));
            let mut diagnostic = Diagnostic::new(Code::MissingArgument, message).label(call, "missing in this call");
            for span in missing.iter().filter_map(|slot| slot.param.map(|param| param.name.span)) {
                diagnostic = diagnostic.label(span, "wanted here");
            }
            let shown = missing.iter().map(|slot| format!("{}: {}", slot.name, example(slot)));
            let help = format!("add `{}`", shown.collect::<Vec<_>>().join(", "));
            failed = Some(self.diagnostics.push(diagnostic.help(help)));
        }
        match failed {
            Some(reported) => Err(reported),
            None => Ok(bound),
        }
    }

    /// Notes what an argument is, for errors that arise where it is used: shapes, sizes and shares.
    fn note_argument(&mut self, name: &str, value: &Value, span: Span) {
        let what = match &value.kind {
            Kind::View(index) => {
                let spec = &self.views[*index].spec;
                let Some((height, width)) = spec.size else { return };
                format!("pictures of {height}px × {width}px, {} channels", spec.channels)
            }
            Kind::Tensor(_) | Kind::Stored(..) | Kind::Pixels(_) | Kind::Int(_) | Kind::Ratio(_) | Kind::Tuple(_) => {
                value.describe()
            }
            _ => return,
        };
        self.diagnostics.given(span, format!("`{name}` is {what}"));
    }

    fn too_many<T>(&mut self, callee: &str, slots: &[Slot<'_>], span: Span) -> Checked<T> {
        let takes = slots.len();
        let plural = if takes == 1 { "" } else { "s" };
        let message = format!("`{callee}` takes {takes} argument{plural}");
        let help = match takes {
            0 => "remove it".to_owned(),
            _ if ["mean", "sum"].contains(&callee) => format!("of a tensor: `op::{callee}(x, axis: 1)`"),
            _ => format!("remove it; {}", parameters(callee, slots)),
        };
        self.fail(Diagnostic::new(Code::UnknownArgument, message).label(span, "one too many").help(help))
    }

    /// Evaluates the arguments of a builtin with parameters `names` (`?` ends optional ones).
    pub fn bind_builtin(
        &mut self,
        callee: &str,
        names: &[&'static str],
        arguments: &[Argument],
        call: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Bag> {
        let slots: Vec<Slot<'_>> = names.iter().map(|n| Slot::builtin(n)).collect();
        let values = self.bind_arguments(callee, &slots, None, arguments, call, scope)?;
        for (slot, value) in slots.iter().zip(&values) {
            if let Some(value) = value {
                self.check_range(callee, slot.name, value)?;
            }
        }
        let names = slots.iter().map(|s| Arc::from(s.name));
        Ok(Bag { callee: callee.into(), call, values: names.zip(values).collect() })
    }
}

/// A builtin that makes a value of static ones: what it is called, its parameters (`?` ends those that may be left out),
/// and what makes the value. They stand together, so that none can be written without the others.
pub struct Builtin {
    pub name: &'static str,
    pub params: &'static [&'static str],
    pub make: fn(&Bag) -> Result<Kind, Diagnostic>,
}

/// What a count may be: pictures and classes are numbered by 32 bits.
pub const MAX_COUNT: i64 = u32::MAX as i64;

/// Bound arguments of a builtin, read with the type that each must have.
pub struct Bag {
    callee: Arc<str>,
    /// The whole call.
    pub call: Span,
    values: Vec<(Arc<str>, Option<Value>)>,
}

type Read<T> = Result<T, Diagnostic>;

impl Bag {
    pub fn get(&self, name: &str) -> Option<&Value> {
        let value = self.values.iter().find(|(n, _)| &**n == name).and_then(|(_, v)| v.as_ref());
        value.filter(|v| !matches!(v.kind, Kind::None))
    }

    fn wrong(&self, name: &str, value: &Value, wanted: &str) -> Diagnostic {
        wrong_type(&format!("`{name}` of `{}`", self.callee), value, wanted)
    }

    fn too_many(&self, name: &str, value: &Value) -> Diagnostic {
        let message = format!("`{name}` of `{}` is {value}, {MAX_COUNT} is the most", self.callee);
        Diagnostic::new(Code::TooLarge, message).label(value.span, "too large").help("write a smaller number")
    }

    pub fn float(&self, name: &str, default: f64) -> Read<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        match value.kind {
            Kind::Int(i) => Ok(i as f64),
            Kind::Float(f) => Ok(f),
            _ => Err(self.wrong(name, value, "a number such as 0.5")),
        }
    }

    pub fn count(&self, name: &str, default: usize) -> Read<usize> {
        self.get(name).map_or(Ok(default), |value| self.count_of(name, value))
    }

    fn count_of(&self, name: &str, value: &Value) -> Read<usize> {
        match value.whole() {
            Some(n) if n > MAX_COUNT => Err(self.too_many(name, value)),
            Some(n) if n > 0 => Ok(n as usize),
            _ => Err(self.wrong(name, value, "a whole number from 1")),
        }
    }

    /// One count, or a list of different ones.
    pub fn counts(&self, name: &str, default: usize) -> Read<Vec<usize>> {
        let Some(value) = self.get(name) else { return Ok(vec![default]) };
        let Kind::List(items) = &value.kind else { return Ok(vec![self.count(name, default)?]) };
        let mut counts = Vec::new();
        for item in items.iter() {
            let count = self.count_of(name, item)?;
            if counts.contains(&count) {
                let message = format!("`{name}` of `{}` holds {count} twice", self.callee);
                return Err(Diagnostic::new(Code::DuplicateName, message)
                    .label(item.span, "again here")
                    .help("leave one of them out"));
            }
            counts.push(count);
        }
        match counts[..] {
            [] => Err(self
                .wrong(name, value, "a whole number from 1, or a list of them")
                .help(format!("write `{name}: {default}`, or leave it out"))),
            _ => Ok(counts),
        }
    }

    /// One number, or a list of different ones.
    pub fn floats(&self, name: &str, default: &[f64]) -> Read<Vec<f64>> {
        let Some(value) = self.get(name) else { return Ok(default.to_vec()) };
        let number = |value: &Value| match value.kind {
            Kind::Int(i) => Ok(i as f64),
            Kind::Float(f) => Ok(f),
            _ => Err(self.wrong(name, value, "a number such as 0.1, or a list of them")),
        };
        let Kind::List(items) = &value.kind else { return Ok(vec![number(value)?]) };
        let mut numbers = Vec::new();
        for item in items.iter() {
            let found = number(item)?;
            if numbers.contains(&found) {
                let message = format!("`{name}` of `{}` holds {item} twice", self.callee);
                return Err(Diagnostic::new(Code::DuplicateName, message)
                    .label(item.span, "again here")
                    .help("leave one of them out"));
            }
            numbers.push(found);
        }
        match numbers[..] {
            [] => Err(self
                .wrong(name, value, "a number such as 0.1, or a list of them")
                .help(format!("write `{name}: 0.1`, or leave it out"))),
            _ => Ok(numbers),
        }
    }

    pub fn ratio(&self, name: &str, default: f64) -> Read<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        as_ratio(&format!("`{name}` of `{}`", self.callee), value)
    }

    /// A count of pictures, or a share of them.
    pub fn limit(&self, name: &str, default: Limit) -> Read<Limit> {
        match self.get(name) {
            None => Ok(default),
            Some(Value { kind: Kind::Ratio(_), .. }) => self.ratio(name, 1.0).map(Limit::Share),
            Some(Value { kind: Kind::Int(_), .. }) => self.count(name, 1).map(Limit::Count),
            Some(value) => Err(self
                .wrong(name, value, "a count of pictures, or a share of them")
                .help(format!("write `{name}: 50000` or `{name}: 10%`"))),
        }
    }

    /// (low, high) of two ratios.
    pub fn ratio_range(&self, name: &str, default: (f64, f64)) -> Read<(f64, f64)> {
        let what = format!("`{name}` of `{}`", self.callee);
        let Some(value) = self.get(name) else { return Ok(default) };
        let Kind::Range(range) = &value.kind else { return Err(self.wrong(name, value, "a range such as 20%..100%")) };
        ordered(&what, value, (as_ratio(&what, &range.0)?, as_ratio(&what, &range.1)?))
    }

    /// (low, high) of two numbers; one number is both.
    pub fn float_range(&self, name: &str, default: (f64, f64)) -> Read<(f64, f64)> {
        let what = format!("`{name}` of `{}`", self.callee);
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = |v: &Value| match v.kind {
            Kind::Int(i) => Ok(i as f64),
            Kind::Float(f) => Ok(f),
            _ => Err(self.wrong(name, v, "a range such as 0.1..2.0")),
        };
        match &value.kind {
            Kind::Range(range) => ordered(&what, value, (number(&range.0)?, number(&range.1)?)),
            _ => number(value).map(|n| (n, n)),
        }
    }

    pub fn pixel_range(&self, name: &str) -> Read<(usize, usize)> {
        let what = format!("`{name}` of `{}`", self.callee);
        let Some(value) = self.get(name) else { return Ok((0, 0)) };
        match &value.kind {
            Kind::Range(range) => {
                let (low, high) = (as_pixels(&what, &range.0)?, as_pixels(&what, &range.1)?);
                ordered(&what, value, (low as f64, high as f64)).map(|_| (low, high))
            }
            _ => Err(self.wrong(name, value, "a range such as 0px..31px")),
        }
    }

    /// (height, width); one length is both.
    pub fn size(&self, name: &str) -> Read<Option<(usize, usize)>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        as_size(&format!("`{name}` of `{}`", self.callee), value).map(Some)
    }

    pub fn string(&self, name: &str) -> Read<Option<Arc<str>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match &value.kind {
            Kind::Str(text) => Ok(Some(text.clone())),
            _ => Err(self.wrong(name, value, "a string such as \"train\"")),
        }
    }
}

pub fn as_ratio(what: &str, value: &Value) -> Read<f64> {
    match value.kind {
        Kind::Ratio(r) if (0.0..=1.0).contains(&r) => Ok(r),
        Kind::Ratio(_) => Err(Diagnostic::new(Code::OutOfRange, format!("{what} is {value}, outside 0%..100%"))
            .label(value.span, "out of range")
            .help("write a ratio from `0%` to `100%`")),
        Kind::Int(_) | Kind::Float(_) => {
            let number = value.number().unwrap_or_default();
            let percent = if number > 0.0 && number <= 1.0 { number * 100.0 } else { number };
            let percent = (percent * 1e10).round() / 1e10;
            // Nobody types the digits of a third.
            let short = (percent * 100.0).round() / 100.0;
            let percent = if (short - percent).abs() < 1e-3 * percent { short } else { percent };
            let diagnostic =
                Diagnostic::new(Code::WrongUnit, format!("{what} wants a ratio, found the number {value}"))
                    .label(value.span, "no unit");
            let fits = (0.0..=100.0).contains(&percent);
            Err(diagnostic.maybe_help(fits.then(|| match number {
                1.0 => "write `1%` or `100%`".to_owned(),
                _ => format!("write `{percent}%`"),
            })))
        }
        _ => Err(wrong_type(what, value, "a ratio such as 75%")),
    }
}

/// Pixels along a side of a picture: those of the largest JPEG.
const MAX_PIXELS: i64 = 65_536;

pub fn as_pixels(what: &str, value: &Value) -> Read<usize> {
    match value.kind {
        Kind::Pixels(p) if p > MAX_PIXELS => {
            Err(Diagnostic::new(Code::TooLarge, format!("{what} is {p}px, {MAX_PIXELS}px are the most"))
                .label(value.span, "too large")
                .help("write a length such as `224px`"))
        }
        Kind::Pixels(p) if p >= 0 => Ok(p as usize),
        Kind::Pixels(p) => Err(Diagnostic::new(Code::OutOfRange, format!("{what} is {p}px, below zero"))
            .label(value.span, "below zero")
            .help("write a length from `0px`")),
        Kind::Int(n) if n >= 0 => {
            Err(Diagnostic::new(Code::WrongUnit, format!("{what} wants a length, found the number {n}"))
                .label(value.span, "no unit")
                .help(format!("write `{n}px`")))
        }
        Kind::Float(x) if x.fract() == 0.0 && (0.0..=MAX_PIXELS as f64).contains(&x) => {
            Err(Diagnostic::new(Code::WrongUnit, format!("{what} wants a length, found the number {x}"))
                .label(value.span, "no unit")
                .help(format!("write `{x}px`")))
        }
        _ => Err(wrong_type(what, value, "a length such as 16px")),
    }
}

/// (height, width) in pixels, neither zero; one length is both.
pub fn as_size(what: &str, value: &Value) -> Read<(usize, usize)> {
    let size = match value.items() {
        Some([Value { kind: Kind::Int(height), .. }, Value { kind: Kind::Int(width), .. }])
            if *height > 0 && *width > 0 =>
        {
            return Err(Diagnostic::new(Code::WrongUnit, format!("{what} wants lengths, found the numbers {value}"))
                .label(value.span, "no unit")
                .help(format!("write `({height}px, {width}px)`")));
        }
        Some([height, width]) => (as_pixels(what, height)?, as_pixels(what, width)?),
        Some(items) => {
            let wrong = wrong_type(what, value, "a size such as 224px or (24px, 40px)");
            return Err(wrong.maybe_help(sides(items)));
        }
        None => {
            let side = as_pixels(what, value)?;
            (side, side)
        }
    };
    if size.0 == 0 || size.1 == 0 {
        let message = format!("{what} is {value}, which holds no pixel");
        return Err(Diagnostic::new(Code::OutOfRange, message).label(value.span, "empty").help("write `16px`"));
    }
    Ok(size)
}

fn ordered(what: &str, value: &Value, (low, high): (f64, f64)) -> Read<(f64, f64)> {
    if low <= high {
        return Ok((low, high));
    }
    let swapped = match &value.kind {
        Kind::Range(range) => format!("write `{}..{}`", range.1, range.0),
        _ => String::new(),
    };
    let message = format!("{what} is {value}, which runs backwards");
    Err(Diagnostic::new(Code::OutOfRange, message).label(value.span, "from high to low").help(swapped))
}
