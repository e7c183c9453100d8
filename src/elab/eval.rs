//! Expressions, calls and bodies.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, Reported};
use crate::op::Type;
use crate::source::Span;
use crate::spec::Duration;
use crate::syntax::ast::{self, Argument, BinaryOp, Expr, ExprKind, Name, Param, ParamType, Statement, UnaryOp};

use super::misfit::wrong_type;
use super::scope::Scope;
use super::slots::Slot;
use super::value::{Definition, Kind, Value};
use super::{Checked, Machine, lists, number, unknown};

impl Machine<'_> {
    pub fn eval(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Checked<Value> {
        self.enter(expr.span)?;
        let value = self.eval_within(expr, scope);
        self.leave();
        if let Ok(value) = &value {
            self.note_value(expr.span, value);
        }
        value
    }

    fn eval_within(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Checked<Value> {
        let span = expr.span;
        let kind = match &expr.kind {
            ExprKind::Unread => return Err(Reported),
            ExprKind::None => Kind::None,
            ExprKind::Int(i) => Kind::Int(*i),
            ExprKind::Float(f) => Kind::Float(*f),
            ExprKind::Ratio(r) => Kind::Ratio(*r),
            ExprKind::Pixels(p) => Kind::Pixels(*p),
            ExprKind::Epochs(n) => Kind::Duration(Duration::Epochs(*n)),
            ExprKind::Steps(n) => Kind::Duration(Duration::Steps(*n)),
            ExprKind::Bool(b) => Kind::Bool(*b),
            ExprKind::Str(s) => Kind::Str(s.clone()),
            ExprKind::Path(names) => return self.lookup(names, span, scope),
            ExprKind::Field(base, name) => {
                if let Some(foreign) = self.foreign_path(base, name, scope) {
                    return self.fail(foreign);
                }
                let base = self.eval(base, scope)?;
                return self.field(&base, name);
            }
            ExprKind::Index(base, index) => {
                let base = self.eval(base, scope)?;
                let index = self.eval(index, scope)?;
                return self.index(&base, &index, span);
            }
            ExprKind::Call(callee, arguments) => return self.eval_call(callee, None, arguments, span, scope),
            ExprKind::Pipe(value, callee) => return self.pipe(value, callee, span, scope),
            ExprKind::Unary(op, operand) => {
                let value = self.eval(operand, scope)?;
                return self.unary(*op, &value, span);
            }
            ExprKind::Binary(op, left, right) => {
                let (left_value, right_value) = (self.eval(left, scope), self.eval(right, scope));
                let (left_value, right_value) = (left_value?, right_value?);
                return self.binary(*op, left_value, right_value, span, (left, right));
            }
            ExprKind::Range(low, high) => {
                let ends = (self.eval(low, scope)?, self.eval(high, scope)?);
                return self.composed(Kind::Range(Rc::new(ends)), span);
            }
            ExprKind::If { condition, then, otherwise } => {
                let condition = self.condition(condition, scope)?;
                return self.eval(if condition { then } else { otherwise }, scope);
            }
            ExprKind::Tuple(items) => {
                let items = self.eval_all(items, scope)?;
                return self.composed(Kind::Tuple(Rc::new(items)), span);
            }
            ExprKind::List(items) => {
                let items = self.eval_all(items, scope)?;
                return self.composed(Kind::List(Rc::new(items)), span);
            }
            ExprKind::Record(fields) => {
                let mut record = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    record.push((name.text.clone(), self.eval(value, scope)?));
                }
                return self.composed(Kind::Record(Rc::new(record)), span);
            }
            ExprKind::Comprehension { item, loops, condition } => {
                return self.comprehension(item, loops, condition.as_deref(), span, scope);
            }
        };
        Ok(Value::new(kind, span))
    }

    fn eval_all(&mut self, items: &[Expr], scope: &Rc<Scope>) -> Checked<Vec<Value>> {
        let values: Vec<Checked<Value>> = items.iter().map(|item| self.eval(item, scope)).collect();
        values.into_iter().collect()
    }

    /// A condition known before the run.
    pub fn condition(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Checked<bool> {
        let value = self.eval(expr, scope)?;
        match value.kind {
            Kind::Bool(b) => Ok(b),
            _ => {
                let compared = value.number().or(match value.kind {
                    Kind::Pixels(n) => Some(n as f64),
                    _ => None,
                });
                let zero = if matches!(value.kind, Kind::Pixels(_)) { "0px" } else { "0" };
                let text = self.sources.slice(expr.span);
                let help = compared.map(|_| format!("compare it: `{text} > {zero}`"));
                let asked = value
                    .is_tensor()
                    .then(|| "a tensor is known as it runs: write `op::select(condition, a, b)`".to_owned());
                self.fail(wrong_type("a condition", &value, "true or false").maybe_help(help.or(asked)))
            }
        }
    }

    /// `base.name`.
    pub fn field(&mut self, base: &Value, name: &Name) -> Checked<Value> {
        let (found, known): (Option<Value>, Vec<String>) = match &base.kind {
            Kind::Record(fields) => (
                fields.iter().find(|(n, _)| *n == name.text).map(|(_, v)| v.clone()),
                fields.iter().map(|(n, _)| n.to_string()).collect(),
            ),
            Kind::Module(id) => {
                let scope = &self.modules[id.0].scope;
                (scope.own(&name.text), scope.visible())
            }
            Kind::List(items) if &*name.text == "last" => (items.last().cloned(), Vec::new()),
            Kind::Modules(ids) if &*name.text == "last" => {
                (ids.last().map(|id| Value::new(Kind::Module(*id), name.span)), Vec::new())
            }
            Kind::Poison => return Err(Reported),
            _ => (None, Vec::new()),
        };
        match found {
            Some(Value { kind: Kind::Poison, .. }) => Err(Reported),
            Some(value) => Ok(match value.kind {
                Kind::Tensor(_) | Kind::View(_) | Kind::Record(_) => Value::new(value.kind, name.span),
                // Where the library made it tells less than where it is read.
                _ if self.sources.get(value.span.source).library && !self.sources.get(name.span.source).library => {
                    Value { span: name.span, ..value }
                }
                _ => value,
            }),
            None if self.unread.contains(&name.text) => Err(Reported),
            None => {
                let text = self.sources.slice(base.span);
                if let Some(gone) = self.taken_away(&format!("{text}.{}", name.text), name.span, Code::UnknownField) {
                    return self.fail(gone);
                }
                let named = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') && !text.is_empty();
                let owner = match base.kind {
                    Kind::Record(_) | Kind::List(_) | Kind::Module(_) if named => format!("`{text}`"),
                    _ => base.describe(),
                };
                let message = format!("{owner} has no `{}`", name.text);
                let help = self.field_help(base, &name.text, &known);
                self.fail(Diagnostic::new(Code::UnknownField, message).label(name.span, "not there").maybe_help(help))
            }
        }
    }

    fn index(&mut self, base: &Value, index: &Value, span: Span) -> Checked<Value> {
        let repeated = lists::repeated(base, span);
        let items = base.items().or(repeated.as_deref());
        if let (Some(items), Kind::Range(range)) = (items, &index.kind) {
            let part = self.part(items, &range.0, &range.1, span)?;
            return Ok(if repeated.is_some() { lists::as_modules(&part) } else { part });
        }
        let Some(at) = index.whole() else { return self.fail(wrong_type("an index", index, "a whole number")) };
        if let Some(items) = items {
            let from_end = if at < 0 { items.len() as i64 + at } else { at };
            return match usize::try_from(from_end).ok().and_then(|i| items.get(i)) {
                Some(value) => Ok(value.clone()),
                None => self.fail(
                    Diagnostic::new(Code::OutOfRange, format!("index {at} of {} items", items.len()))
                        .label(span, "out of range")
                        .help(format!("write an index from 0 to {}", items.len().saturating_sub(1))),
                ),
            };
        }
        if let Kind::Record(_) = base.kind {
            return self.fail(
                Diagnostic::new(Code::NotATensor, "a record has fields, and no items by number")
                    .label(span, "indexed here")
                    .help("leave the index out, and take a field: `online.query`"),
            );
        }
        let tensor = self.to_tensor("an indexed value", base)?;
        let result = self.tensors.index(&tensor, at, span);
        self.check(result)
    }

    fn unary(&mut self, op: UnaryOp, value: &Value, span: Span) -> Checked<Value> {
        let result = match (op, &value.kind) {
            (UnaryOp::Not, Kind::Bool(b)) => Ok(Value::new(Kind::Bool(!b), span)),
            (UnaryOp::Not, _) => Err(wrong_type("`not`", value, "true or false")),
            (UnaryOp::Neg, _) if value.is_tensor() => {
                let operand = self.to_tensor("`-`", value)?;
                let operand = Value::new(Kind::Tensor(operand), value.span);
                self.tensors.call("neg", vec![Some(operand)], span)
            }
            (UnaryOp::Neg, _) => number::negate(value, span),
        };
        self.check(result)
    }

    fn binary(&mut self, op: BinaryOp, left: Value, right: Value, span: Span, exprs: (&Expr, &Expr)) -> Checked<Value> {
        let asks_for_none = matches!(op, BinaryOp::Equal | BinaryOp::NotEqual)
            && (matches!(left.kind, Kind::None) || matches!(right.kind, Kind::None));
        if (left.is_tensor() || right.is_tensor()) && !asks_for_none {
            return self.tensor_binary(op, left, right, span);
        }
        let names = (self.sources.slice(exprs.0.span).to_owned(), self.sources.slice(exprs.1.span).to_owned());
        let result = number::binary(op, &left, &right, span, (&names.0, &names.1));
        let value = self.check(result)?;
        let composed = self.composed(value.kind, span)?;
        Ok(Value { quotient: value.quotient, ..composed })
    }

    /// An operation of which one operand at least is a tensor.
    pub fn tensor_binary(&mut self, op: BinaryOp, left: Value, right: Value, span: Span) -> Checked<Value> {
        let divisor = right.clone();
        let mut operands = Vec::new();
        for value in [left, right] {
            operands.push(match value.number() {
                Some(_) => value,
                None => {
                    let what = format!("an operand of `{}`", op.symbol());
                    let tensor = self.to_tensor(&what, &value)?;
                    Value::new(Kind::Tensor(tensor), value.span)
                }
            });
        }
        if let (BinaryOp::Div, Kind::Schedule(schedule)) = (op, &divisor.kind) {
            let points = schedule.points();
            if points.iter().any(|(_, a)| points.iter().any(|(_, b)| a * b <= 0.0)) {
                return self.fail(
                    Diagnostic::new(Code::BadOperands, "a tensor is divided by a schedule that comes to zero")
                        .label(span, "here")
                        .label(divisor.span, "this comes to zero")
                        .help("let it run from one number above zero to another: `ramp(0.04, 0.07)`"),
                );
            }
        }
        let result = self.tensors.binary(op, &operands[0], &operands[1], span);
        self.check(result)
    }

    /// `value |> callee`: a view gets further steps; anything else is the callee's first argument.
    fn pipe(&mut self, value: &Expr, callee: &Expr, span: Span, scope: &Rc<Scope>) -> Checked<Value> {
        let left = self.eval(value, scope)?;
        if matches!(left.kind, Kind::Source(_) | Kind::View(_) | Kind::Recipe(_)) && self.makes_recipe(callee, scope) {
            let steps = self.eval(callee, scope)?;
            self.diagnostics.enter(callee.span, callee.span);
            let view = match &steps.kind {
                Kind::List(several) => {
                    let views: Checked<_> = several.iter().map(|one| self.extend_view(&left, one, span)).collect();
                    views.map(|views| Value::new(Kind::List(Rc::new(views)), span))
                }
                _ => self.extend_view(&left, &steps, span),
            };
            self.diagnostics.leave();
            return view;
        }
        match &callee.kind {
            ExprKind::Call(function, arguments) => self.eval_call(function, Some(left), arguments, span, scope),
            _ => self.eval_call(callee, Some(left), &[], span, scope),
        }
    }

    /// Whether an expression gives view steps rather than takes a view: a step, or a function that returns `view` or
    /// `views`.
    fn makes_recipe(&mut self, callee: &Expr, scope: &Rc<Scope>) -> bool {
        let head = match &callee.kind {
            ExprKind::Call(head, _) => head,
            _ => callee,
        };
        let ExprKind::Path(names) = &head.kind else { return true };
        if names.len() != 1 {
            return false;
        }
        let known = scope.get(&names[0].text).or_else(|| self.file_item(scope.file, &names[0].text));
        match known.map(|v| v.kind) {
            Some(Kind::Function(def)) => {
                let is_recipe = |name: &Name| matches!(&*name.text, "view" | "views");
                matches!(&def.item.returns, Some(ParamType::Named { name, .. }) if is_recipe(name))
            }
            Some(Kind::Recipe(_)) | None => true,
            Some(_) => false,
        }
    }

    fn eval_call(
        &mut self,
        callee: &Expr,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        let naming = self.naming.take();
        let target = match self.called_past_imports(callee, scope) {
            Some(builtin) => builtin,
            None => self.eval(callee, scope)?,
        };
        self.diagnostics.enter(span, callee.span);
        let result = match &target.kind {
            Kind::Block(def) => match naming {
                Some(path) => self.instantiate(def, &path, arguments, span, scope),
                None => self.fail(
                    Diagnostic::new(Code::NotCallable, format!("`{}` is a block", def.item.name.text))
                        .label(span, "a module is made here")
                        .help(format!(
                            "define it in `model`, or in a block's head: `name = {}(…)`; then call `name`",
                            def.item.name.text
                        )),
                ),
            },
            Kind::Function(def) => self.call_function(def, first, arguments, span, scope),
            Kind::Module(id) => self.call_module(*id, first, arguments, span, scope),
            Kind::Modules(ids) => {
                let ids = ids.clone();
                self.call_modules(&ids, first, arguments, span, scope)
            }
            Kind::Absent => self.call_absent(first, arguments, span, scope),
            Kind::Builtin(name) => {
                let name = name.clone();
                self.call_builtin(&name, first, arguments, span, scope, naming)
            }
            Kind::Poison => Err(Reported),
            _ => self.fail(
                Diagnostic::new(Code::NotCallable, format!("{} cannot be called", target.describe()))
                    .label(callee.span, "called here")
                    .maybe_help(unknown::uncallable(&target)),
            ),
        };
        self.diagnostics.leave();
        result
    }

    fn call_function(
        &mut self,
        def: &Rc<Definition<ast::Function>>,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        let inner = Scope::new(def.file);
        let values = self.bind_params(&def.item.name.text, &def.item.params, first, arguments, span, scope)?;
        self.run_body(&def.item, values, &inner, span)
    }

    /// Binds the arguments of a block or function; missing ones are left to their defaults.
    pub fn bind_params(
        &mut self,
        callee: &str,
        params: &[Param],
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Vec<Option<Value>>> {
        let slots: Vec<Slot<'_>> =
            params.iter().map(|p| Slot { name: &p.name.text, required: p.default.is_none(), param: Some(p) }).collect();
        self.bind_arguments(callee, &slots, first, arguments, span, scope)
    }

    /// Puts checked parameters into `scope`: all given values first, so that dims they fix serve the defaults.
    pub fn enter_params(
        &mut self,
        callee: &str,
        params: &[Param],
        values: Vec<Option<Value>>,
        scope: &Rc<Scope>,
    ) -> Checked<()> {
        let mut failed = Ok(());
        for (param, value) in params.iter().zip(values) {
            let value = match (value, &param.default) {
                (Some(value), _) => Ok(value),
                (None, Some(default)) => self.eval(default, scope),
                (None, None) => Err(Reported),
            };
            let what = format!("`{}` of `{callee}`", param.name.text);
            match value.and_then(|value| self.coerce(&what, value, &param.ty, scope)) {
                Ok(value) => scope.define(&param.name, value),
                Err(reported) => {
                    scope.define(&param.name, Value::new(Kind::Poison, param.name.span));
                    failed = Err(reported);
                }
            }
        }
        failed
    }

    /// The path of a state of this block.
    fn state(&mut self, name: &Name, what: &str, scope: &Rc<Scope>) -> Checked<(Rc<str>, Type)> {
        let state = self.eval(&Expr { kind: ExprKind::Path(vec![name.clone()]), span: name.span }, scope)?;
        match &state.kind {
            Kind::Stored(path, ty) => Ok((path.clone(), ty.clone())),
            _ => self.fail(wrong_type(what, &state, "a state of this block")),
        }
    }

    /// `init state = kmeans(value, rounds: 10)`
    fn initial(&mut self, name: &Name, value: &Expr, scope: &Rc<Scope>) -> Checked<()> {
        let (path, ty) = self.state(name, "`init`", scope)?;
        let value = self.eval(value, scope)?;
        let Kind::KMeans(tensor, rounds) = &value.kind else {
            return self.fail(wrong_type("`init`", &value, "`kmeans(value, rounds: 10)`"));
        };
        let result = self.tensors.initial(&path, &ty, tensor, *rounds, name.span);
        self.check(result)
    }

    /// Runs a body whose parameters are `values` in `scope`, and checks its result against the signature.
    pub fn run_body(
        &mut self,
        function: &ast::Function,
        values: Vec<Option<Value>>,
        scope: &Rc<Scope>,
        call: Span,
    ) -> Checked<Value> {
        self.enter_params(&function.name.text, &function.params, values, scope)?;
        for statement in &function.statements {
            match statement {
                Statement::Assign(name, value) => {
                    let value = self.eval(value, scope)?;
                    scope.define(name, value);
                }
                // Where nothing is learnt nothing is remembered either.
                Statement::Update(..) | Statement::Initial(..) if !self.is_training() => {}
                Statement::Update(name, value) => {
                    let (path, _) = self.state(name, "`update`", scope)?;
                    let value = self.eval(value, scope)?;
                    let tensor = self.to_tensor("the new value of a state", &value)?;
                    let result = self.tensors.update(&path, &tensor, name.span);
                    self.check(result)?;
                }
                Statement::Initial(name, value) => self.initial(name, value, scope)?,
                Statement::Require(require) => self.require(require, scope, call)?,
            }
        }
        let result = self.eval(&function.result, scope)?;
        let result = match &function.returns {
            Some(returns) => {
                let what = format!("the result of `{}`", function.name.text);
                let result = Value::new(result.kind, function.result.span);
                self.coerce(&what, result, returns, scope)?
            }
            None => result,
        };
        // To the caller the value comes from the call.
        Ok(Value::new(result.kind, call))
    }
}
