//! Module instances: blocks expanded with parameter paths, and averaged copies of them.

use std::collections::HashMap;
use std::rc::Rc;

use crate::decl::{Init, TensorDecl, TensorKind};
use crate::diag::{Code, Diagnostic, suggest};
use crate::op::Type;
use crate::source::Span;
use crate::spec::{EmaMoment, EmaSpec, Role, Schedule};
use crate::syntax::ast::{self, Argument, Binding, BlockEntry, ParamType};

use super::args::wrong_type;
use super::scope::Scope;
use super::value::{Definition, Kind, ModuleId, Value};
use super::{Checked, Machine, Stored};

/// One instance of a block.
#[derive(Debug, Clone)]
pub struct Module {
    /// Such as `encoder.blocks.3`.
    pub path: String,
    pub def: Rc<Definition<ast::Block>>,
    /// Parameters, tensors, submodules and static values by name.
    pub scope: Rc<Scope>,
    pub span: Span,
    /// Works in mode `eval` also in training: a frozen module.
    pub evaluating: bool,
}

impl Machine<'_> {
    /// Makes the module `path` from a block.
    pub fn instantiate(
        &mut self,
        def: &Rc<Definition<ast::Block>>,
        path: &str,
        arguments: &[Argument],
        span: Span,
        outer: &Rc<Scope>,
    ) -> Checked<Value> {
        let block = &def.item;
        let values = self.bind_params(&block.name.text, &block.params, None, arguments, span, outer)?;
        let scope = Scope::new(def.file);
        self.enter_params(&block.name.text, &block.params, values, &scope)?;
        let id = ModuleId(self.modules.len());
        let (path_here, inner) = (path.to_owned(), scope.clone());
        self.modules.push(Module { path: path_here, def: def.clone(), scope: inner, span, evaluating: false });
        let mut failed = Ok(());
        for entry in &block.entries {
            let result = match entry {
                BlockEntry::Tensor(decl) => {
                    self.declare(decl, path, &scope).map(|value| scope.bind(decl.name.text.clone(), value))
                }
                BlockEntry::Require(require) => self.require(require, &scope, span),
                BlockEntry::Binding(binding) => {
                    let prefix = format!("{path}.");
                    self.bind_definition(binding, &prefix, &scope)
                }
            };
            if result.is_err() {
                let name = match entry {
                    BlockEntry::Tensor(decl) => Some(&decl.name),
                    BlockEntry::Binding(binding) => Some(&binding.name),
                    BlockEntry::Require(_) => None,
                };
                if let Some(name) = name {
                    scope.bind(name.text.clone(), Value::new(Kind::Poison, name.span));
                }
                failed = result;
            }
        }
        failed.map(|()| Value::new(Kind::Module(id), span))
    }

    /// `name = value [repeat …] [when …]`, in a block's head (`prefix` is the module's path and a dot) or in `model`.
    pub fn bind_definition(&mut self, binding: &Binding, prefix: &str, scope: &Rc<Scope>) -> Checked<()> {
        let name = &binding.name;
        if let Some(when) = &binding.when
            && !self.condition(when, scope)?
        {
            scope.bind(name.text.clone(), Value::new(Kind::Absent, name.span));
            return Ok(());
        }
        let path = format!("{prefix}{}", name.text);
        let value = match &binding.repeat {
            None => self.eval_named(&binding.value, path, scope)?,
            Some(repeat) => {
                let count = self.eval(&repeat.count, scope)?;
                let n = match count.whole() {
                    Some(n) if n > 0 => n,
                    _ => return self.fail(wrong_type("`repeat`", &count, "a whole number from 1")),
                };
                let mut modules = Vec::new();
                for i in 0..n {
                    let inner = Scope::inside(scope);
                    if let Some(index) = &repeat.index {
                        inner.bind(index.text.clone(), Value::new(Kind::Int(i), index.span));
                    }
                    let value = self.eval_named(&binding.value, format!("{path}.{i}"), &inner)?;
                    match value.kind {
                        Kind::Module(id) => modules.push(id),
                        _ => return self.fail(wrong_type("`repeat`", &value, "a block")),
                    }
                }
                Value::new(Kind::Modules(Rc::new(modules)), name.span)
            }
        };
        scope.bind(name.text.clone(), value);
        Ok(())
    }

    /// Evaluates with `path` as the name of the module that the expression makes.
    fn eval_named(&mut self, value: &ast::Expr, path: String, scope: &Rc<Scope>) -> Checked<Value> {
        self.naming = Some(path);
        let result = self.eval(value, scope);
        self.naming = None;
        result
    }

    fn declare(&mut self, decl: &ast::TensorDecl, path: &str, scope: &Rc<Scope>) -> Checked<Value> {
        let name = &decl.name;
        if let Some(when) = &decl.when
            && !self.condition(when, scope)?
        {
            return Ok(Value::new(Kind::None, name.span));
        }
        let shape = self.static_shape(&decl.shape, scope)?;
        let init = self.eval(&decl.init, scope)?;
        let Some(init) = super::builtin::as_init(&init) else {
            return self.fail(wrong_type(
                &format!("the initial value of `{}`", name.text),
                &init,
                "one such as `zeros` or `xavier_uniform`",
            ));
        };
        let frozen = match &decl.frozen {
            None => false,
            Some(ast::Frozen { when: None }) => true,
            Some(ast::Frozen { when: Some(when) }) => self.condition(when, scope)?,
        };
        let role = match &decl.role {
            None => Role::Weight,
            Some(role) => match Role::ALL.iter().find(|r| r.name() == &*role.text) {
                Some(role) => *role,
                None => {
                    let help = suggest(&role.text, Role::ALL.iter().map(|r| r.name()));
                    return self.fail(
                        Diagnostic::new(Code::UnknownName, format!("there is no role `{}`", role.text))
                            .label(role.span, "not known")
                            .maybe_help(help),
                    );
                }
            },
        };
        let kind = match (decl.is_state, frozen) {
            (true, _) => TensorKind::State,
            (false, true) => TensorKind::Fixed,
            (false, false) => TensorKind::Trained,
        };
        let path = format!("{path}.{}", name.text);
        let ty = Type::float(shape.clone());
        self.stored.push(Stored { decl: TensorDecl { path: path.clone(), shape, role, kind, init }, span: name.span });
        Ok(Value::new(Kind::Stored(path.into(), ty), name.span))
    }

    /// Evaluates a module's `forward`.
    pub fn call_module(
        &mut self,
        id: ModuleId,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        let module = self.modules[id.0].clone();
        let forward = &module.def.item.forward;
        let values = self.bind_params(&module.path, &forward.params, first, arguments, span, scope)?;
        let inner = Scope::inside(&module.scope);
        let training = self.is_training();
        if module.evaluating {
            self.set_training(false, span);
        }
        self.tensors.enter(&module.path);
        let result = self.run_body(forward, values, &inner, span);
        self.tensors.leave();
        self.set_training(training, span);
        result
    }

    /// `frozen(block(…))`: a module whose parameters stay as they are and which lets gradient through.
    pub fn frozen(&mut self, path: String, arguments: &[Argument], span: Span, scope: &Rc<Scope>) -> Checked<Value> {
        let [Argument { name: None, value }] = arguments else {
            return self.fail(
                Diagnostic::new(Code::UnknownArgument, "`frozen` takes one module")
                    .label(span, "in this call")
                    .help("write `name = frozen(vit(…))`"),
            );
        };
        let (first_module, first_stored) = (self.modules.len(), self.stored.len());
        let module = self.eval_named(value, path, scope)?;
        if !matches!(module.kind, Kind::Module(_)) || self.modules.len() == first_module {
            let wanted = "a module made in its parentheses, such as `frozen(vit(…))`";
            return self.fail(wrong_type("`frozen`", &module, wanted));
        }
        self.freeze(first_module, first_stored);
        Ok(module)
    }

    /// Calls repeated modules in turn, each on what the one before gave; gives the list of all outputs.
    pub fn call_modules(
        &mut self,
        ids: &[ModuleId],
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        let (mut current, rest) = match (first, arguments) {
            (Some(value), rest) => (value, rest),
            (None, [head, rest @ ..]) => (self.eval(&head.value, scope)?, rest),
            (None, []) => {
                return self.fail(
                    Diagnostic::new(Code::MissingArgument, "repeated modules need a value to pass on")
                        .label(span, "no argument"),
                );
            }
        };
        let mut outputs = Vec::with_capacity(ids.len());
        for id in ids {
            current = self.call_module(*id, Some(current), rest, span, scope)?;
            outputs.push(current.clone());
        }
        Ok(Value::new(Kind::List(Rc::new(outputs)), span))
    }

    /// `ema(a, b, momentum: m, when: …, mode: "eval", without: a.norm)`: averaged copies, as a record of modules.
    pub fn ema(&mut self, path: &str, arguments: &[Argument], span: Span, scope: &Rc<Scope>) -> Checked<Value> {
        let mut sources: Vec<(std::sync::Arc<str>, ModuleId)> = Vec::new();
        let mut momentum = None;
        let mut when = EmaMoment::AfterStep;
        let mut without: Vec<ModuleId> = Vec::new();
        let mut evaluating = false;
        for argument in arguments {
            match argument.name.as_ref().map(|n| &*n.text) {
                None => {
                    let value = self.eval(&argument.value, scope)?;
                    let Kind::Module(id) = value.kind else {
                        return self.fail(wrong_type("`ema`", &value, "modules to copy"));
                    };
                    let source = self.modules[id.0].path.clone();
                    let key = source.rsplit('.').next().unwrap_or(&source);
                    sources.push((key.into(), id));
                }
                Some("momentum") => {
                    let value = self.eval(&argument.value, scope)?;
                    let ty = named_type("schedule", value.span);
                    let value = self.coerce("`momentum` of `ema`", value, &ty, scope)?;
                    if let Kind::Schedule(schedule) = value.kind {
                        if let Schedule::Constant(m) = schedule
                            && !(0.0..=1.0).contains(&m)
                        {
                            return self.fail(
                                Diagnostic::new(Code::OutOfRange, format!("`momentum` of `ema` is {m}, outside 0..1"))
                                    .label(value.span, "out of range")
                                    .help("write a number such as `0.996`"),
                            );
                        }
                        momentum = Some(schedule);
                    }
                }
                Some("when") => {
                    let value = self.eval(&argument.value, scope)?;
                    when = match &value.kind {
                        Kind::Str(text) if &**text == "before_forward" => EmaMoment::BeforeForward,
                        Kind::Str(text) if &**text == "after_forward" => EmaMoment::AfterForward,
                        Kind::Str(text) if &**text == "after_step" => EmaMoment::AfterStep,
                        _ => {
                            let wanted = "`before_forward`, `after_forward` or `after_step`";
                            return self.fail(wrong_type("`when` of `ema`", &value, wanted));
                        }
                    };
                }
                Some("mode") => {
                    let value = self.eval(&argument.value, scope)?;
                    evaluating = match &value.kind {
                        Kind::Str(text) if &**text == "train" => false,
                        Kind::Str(text) if &**text == "eval" => true,
                        _ => return self.fail(wrong_type("`mode` of `ema`", &value, "\"train\" or \"eval\"")),
                    };
                }
                Some("without") => {
                    let value = self.eval(&argument.value, scope)?;
                    let items = value.items().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
                    for item in items {
                        match item.kind {
                            Kind::Module(id) => without.push(id),
                            // A part that is left out already needs no leaving out.
                            Kind::Absent | Kind::None => {}
                            _ => return self.fail(wrong_type("`without` of `ema`", &item, "a module")),
                        }
                    }
                }
                Some(other) => {
                    let help = suggest(other, ["momentum", "when", "mode", "without"]);
                    return self.fail(
                        Diagnostic::new(Code::UnknownArgument, format!("`ema` has no parameter `{other}`"))
                            .label(argument.value.span, "given here")
                            .maybe_help(help),
                    );
                }
            }
        }
        let Some(momentum) = momentum.filter(|_| !sources.is_empty()) else {
            return self.fail(
                Diagnostic::new(Code::MissingArgument, "`ema` needs modules and a momentum")
                    .label(span, "missing in this call")
                    .help("write `ema(encoder, momentum: 0.996)`"),
            );
        };
        let first_module = self.modules.len();
        let mut ema = EmaSpec { name: path.to_owned(), momentum, when, pairs: Vec::new(), shared: Vec::new() };
        let mut record = Vec::new();
        for (key, id) in sources {
            let copy = self.copy_module(id, &without, &mut ema);
            record.push((key, Value::new(Kind::Module(copy), span)));
        }
        self.modules[first_module..].iter_mut().for_each(|module| module.evaluating = evaluating);
        self.emas.push(ema);
        Ok(Value::new(Kind::Record(Rc::new(record)), span))
    }

    /// Copies a module and all below it under the name of `ema`, which gets the pairs of trained tensors; fixed ones are shared.
    fn copy_module(&mut self, id: ModuleId, without: &[ModuleId], ema: &mut EmaSpec) -> ModuleId {
        let prefix = ema.name.clone();
        let source = self.modules[id.0].clone();
        let scope = Scope::new(source.scope.file);
        let copy = ModuleId(self.modules.len());
        self.modules.push(Module { path: format!("{prefix}.{}", source.path), scope: scope.clone(), ..source.clone() });
        let by_path: HashMap<String, usize> =
            self.stored.iter().enumerate().map(|(i, s)| (s.decl.path.clone(), i)).collect();
        for (name, value) in source.scope.bindings() {
            let kind = match &value.kind {
                Kind::Module(inner) if without.contains(inner) => Kind::Absent,
                Kind::Module(inner) => Kind::Module(self.copy_module(*inner, without, ema)),
                Kind::Modules(inner) => {
                    let kept: Vec<ModuleId> = inner.iter().copied().filter(|m| !without.contains(m)).collect();
                    let copies = kept.into_iter().map(|m| self.copy_module(m, without, ema)).collect();
                    Kind::Modules(Rc::new(copies))
                }
                Kind::Stored(path, ty) => {
                    let index = by_path[&**path];
                    let decl = self.stored[index].decl.clone();
                    let copied = format!("{prefix}.{path}");
                    let kind = match decl.kind {
                        TensorKind::Trained | TensorKind::Ema => TensorKind::Ema,
                        TensorKind::State => TensorKind::State,
                        TensorKind::Fixed => {
                            ema.shared.push((copied, path.to_string()));
                            scope.bind(name, value);
                            continue;
                        }
                    };
                    if kind == TensorKind::Ema {
                        ema.pairs.push((copied.clone(), path.to_string()));
                    }
                    let init = Init::CopyOf(path.to_string());
                    let decl = TensorDecl { path: copied.clone(), kind, init, ..decl };
                    self.stored.push(Stored { decl, span: value.span });
                    Kind::Stored(copied.into(), ty.clone())
                }
                other => other.clone(),
            };
            scope.bind(name, Value::new(kind, value.span));
        }
        copy
    }
}

/// The type `name`, as if written at `span`.
pub fn named_type(name: &str, span: Span) -> ParamType {
    ParamType::Named { name: ast::Name { text: name.into(), span }, optional: false }
}
