//! Module instances: blocks expanded with parameter paths. Averaged copies of them are in [`super::copies`].

use std::rc::Rc;

use crate::decl::{TensorDecl, TensorKind};
use crate::diag::{Code, Diagnostic, suggest};
use crate::op::Type;
use crate::source::Span;
use crate::spec::Role;
use crate::syntax::ast::{self, Argument, Binding, BlockEntry, ParamType};

use super::misfit::wrong_type;
use super::scope::Scope;
use super::value::{Definition, Dims, Kind, ModuleId, Value};
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
        self.room_for_module(path, span)?;
        let id = ModuleId(self.modules.len());
        let (path_here, inner) = (path.to_owned(), scope.clone());
        self.modules.push(Module { path: path_here, def: def.clone(), scope: inner, span, evaluating: false });
        let mut failed = Ok(());
        for entry in &block.entries {
            let result = match entry {
                BlockEntry::Tensor(decl) => {
                    self.declare(decl, path, &scope).map(|value| scope.define(&decl.name, value))
                }
                // What follows counts on it.
                BlockEntry::Require(require) => {
                    self.require(require, &scope, span)?;
                    Ok(())
                }
                BlockEntry::Binding(binding) => {
                    let prefix = format!("{path}.");
                    self.refuse_from(binding)?;
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
                    scope.define(name, Value::new(Kind::Poison, name.span));
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
            scope.define(name, Value::new(Kind::Absent, name.span));
            return Ok(());
        }
        let path = format!("{prefix}{}", name.text);
        let value = match &binding.repeat {
            None => self.eval_named(&binding.value, path, scope)?,
            Some(repeat) => {
                let count = self.eval(&repeat.count, scope)?;
                let n = self.repetitions(&count)?;
                let mut modules = Vec::new();
                for i in 0..n {
                    let inner = Scope::inside(scope);
                    if let Some(index) = &repeat.index {
                        inner.define(index, Value::new(Kind::Int(i), index.span));
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
        scope.define(name, value);
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
        let value = self.eval(&decl.init, scope)?;
        let Some(init) = super::builtin::as_init(&value) else {
            let what = format!("the initial value of `{}`", name.text);
            let constant = value.number().map(|number| format!("write `constant({number})`"));
            let wrong = wrong_type(&what, &value, "one such as `zeros` or `xavier_uniform`");
            return self.fail(wrong.maybe_help(constant));
        };
        if let Err(unfit) = init.fills(&shape) {
            return self.fail(
                Diagnostic::new(Code::ShapeMismatch, format!("`{}` {}: {}", name.text, Dims(&shape), unfit.why))
                    .label(value.span, "this cannot fill it")
                    .label(name.span, format!("{}", Dims(&shape)))
                    .help(unfit.help),
            );
        }
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

    /// A module that is left out passes its one argument through.
    pub fn call_absent(
        &mut self,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        match (first, arguments) {
            (Some(value), []) => Ok(value),
            (None, [argument]) => self.eval(&argument.value, scope),
            _ => self.fail(
                Diagnostic::new(Code::UnknownArgument, "a module that is left out passes one value through")
                    .label(span, "more than one argument"),
            ),
        }
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
}

/// The type `name`, as if written at `span`.
pub fn named_type(name: &str, span: Span) -> ParamType {
    ParamType::Named { name: ast::Name { text: name.into(), span }, optional: false }
}
