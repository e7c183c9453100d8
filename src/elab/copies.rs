//! Averaged copies: `ema(a, b, momentum: m, …)` copies just the modules that it names.
//!
//! **Invariant:** within one call a module has one copy and a tensor one pair, however many of the named modules hold or read
//! it. What a module was given as an argument is no part of it: in the copy it is the copy where the call names that too,
//! and else the original.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::decl::{Init, TensorDecl, TensorKind};
use crate::diag::{Code, Diagnostic, suggest};
use crate::source::Span;
use crate::spec::{EmaMoment, EmaSpec, Schedule};
use crate::syntax::ast::Argument;

use super::misfit::wrong_type;
use super::modules::{Module, named_type};
use super::scope::Scope;
use super::value::{Kind, ModuleId, Value};
use super::{Checked, Machine, Stored, foreign};

/// What an `ema(…)` asks for.
struct Wanted {
    /// Modules with the name that each goes by in the result, and where it was named.
    sources: Vec<(Arc<str>, ModuleId, Span)>,
    momentum: Option<Schedule>,
    when: EmaMoment,
    without: Vec<(ModuleId, Span)>,
    evaluating: bool,
}

/// One call's copies: what each module and tensor is called in them.
struct Copies<'p> {
    /// Path of the `ema`'s definition.
    prefix: &'p str,
    without: HashSet<ModuleId>,
    /// Where each tensor that may be copied stands among those declared.
    declared: HashMap<String, usize>,
    modules: HashMap<ModuleId, ModuleId>,
    /// Tensors that get one of their own; fixed ones are shared.
    tensors: HashSet<Rc<str>>,
    pairs: Vec<(String, String)>,
    /// Paths that fixed tensors would have in the copies, with their own.
    shared: Vec<(String, String)>,
}

impl Machine<'_> {
    /// `ema(a, b, momentum: m, when: …, mode: "eval", without: a.norm)`: averaged copies, as a record of modules.
    pub fn ema(&mut self, path: &str, arguments: &[Argument], span: Span, scope: &Rc<Scope>) -> Checked<Value> {
        let wanted = self.ema_arguments(arguments, scope)?;
        let Some(momentum) = wanted.momentum.clone().filter(|_| !wanted.sources.is_empty()) else {
            let (message, help) = if wanted.sources.is_empty() {
                ("`ema` needs modules and a momentum", "write `ema(encoder, momentum: 0.996)`")
            } else {
                ("`ema` needs a momentum", "add `momentum: 0.996`")
            };
            let missing = Diagnostic::new(Code::MissingArgument, message).label(span, "missing in this call");
            return self.fail(missing.help(help));
        };
        self.room_for_module(path, span)?;
        let first_module = self.modules.len();
        let without = wanted.without.iter().map(|(id, _)| *id).collect();
        let mut copies = Copies {
            prefix: path,
            without,
            declared: self.stored.iter().enumerate().map(|(i, stored)| (stored.decl.path.clone(), i)).collect(),
            modules: HashMap::new(),
            tensors: HashSet::new(),
            pairs: Vec::new(),
            shared: Vec::new(),
        };
        for (_, id, _) in &wanted.sources {
            self.name_copy(*id, &mut copies);
        }
        self.check_without(&wanted.without, &wanted.sources, &copies)?;
        let mut filled = HashSet::new();
        let mut record = Vec::new();
        for (key, id, _) in wanted.sources {
            self.fill_copy(id, &mut copies, &mut filled);
            record.push((key, Value::new(Kind::Module(copies.modules[&id]), span)));
        }
        self.modules[first_module..].iter_mut().for_each(|module| module.evaluating = wanted.evaluating);
        let Copies { pairs, shared, .. } = copies;
        self.emas.push(EmaSpec { name: path.to_owned(), momentum, when: wanted.when, pairs, shared });
        Ok(Value::new(Kind::Record(Rc::new(record)), span))
    }

    fn ema_arguments(&mut self, arguments: &[Argument], scope: &Rc<Scope>) -> Checked<Wanted> {
        let mut wanted = Wanted {
            sources: Vec::new(),
            momentum: None,
            when: EmaMoment::AfterStep,
            without: Vec::new(),
            evaluating: false,
        };
        let mut given: HashMap<Arc<str>, Span> = HashMap::new();
        for argument in arguments {
            let Some(name) = &argument.name else {
                let value = self.eval(&argument.value, scope)?;
                let source = self.ema_source(&value, argument.value.span, &wanted.sources)?;
                wanted.sources.push(source);
                continue;
            };
            if let Some(first) = given.insert(name.text.clone(), argument.value.span) {
                return self.fail(
                    Diagnostic::new(Code::DuplicateArgument, format!("`{}` of `ema` is given twice", name.text))
                        .label(argument.value.span, "again here")
                        .label(first, "first here")
                        .help("remove one of them"),
                );
            }
            let value = self.eval(&argument.value, scope)?;
            match &*name.text {
                "momentum" => {
                    let ty = named_type("schedule", value.span);
                    let value = self.coerce("`momentum` of `ema`", value, &ty, scope)?;
                    self.check_range("ema", "momentum", &value)?;
                    if let Kind::Schedule(schedule) = value.kind {
                        wanted.momentum = Some(schedule);
                    }
                }
                "when" => {
                    wanted.when = match &value.kind {
                        Kind::Str(text) if &**text == "before_forward" => EmaMoment::BeforeForward,
                        Kind::Str(text) if &**text == "after_forward" => EmaMoment::AfterForward,
                        Kind::Str(text) if &**text == "after_step" => EmaMoment::AfterStep,
                        _ => {
                            let moments = "`before_forward`, `after_forward` or `after_step`";
                            return self.fail(wrong_type("`when` of `ema`", &value, moments));
                        }
                    };
                }
                "mode" => {
                    wanted.evaluating = match &value.kind {
                        Kind::Str(text) if &**text == "train" => false,
                        Kind::Str(text) if &**text == "eval" => true,
                        _ => return self.fail(wrong_type("`mode` of `ema`", &value, "\"train\" or \"eval\"")),
                    };
                }
                "without" => {
                    let items = value.items().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
                    for item in items {
                        match item.kind {
                            Kind::Module(id) => wanted.without.push((id, item.span)),
                            // A part that is left out already needs no leaving out.
                            Kind::Absent | Kind::None => {}
                            _ => return self.fail(wrong_type("`without` of `ema`", &item, "a module")),
                        }
                    }
                }
                other => {
                    let known = ["momentum", "when", "mode", "without"];
                    let meant = foreign::argument(other, &known).map(|meant| format!("did you mean `{meant}`?"));
                    let help = meant.or_else(|| suggest(other, known));
                    return self.fail(
                        Diagnostic::new(Code::UnknownArgument, format!("`ema` has no parameter `{other}`"))
                            .label(name.span, "not known")
                            .maybe_help(help),
                    );
                }
            }
        }
        Ok(wanted)
    }

    /// A module to copy; it goes by the last part of its path, which no other of the call may have.
    fn ema_source(
        &mut self,
        value: &Value,
        span: Span,
        others: &[(Arc<str>, ModuleId, Span)],
    ) -> Checked<(Arc<str>, ModuleId, Span)> {
        let Kind::Module(id) = value.kind else {
            let help = match &value.kind {
                _ if value.number().is_some() => Some(format!("write `momentum: {value}`")),
                Kind::Modules(_) => Some("copy the module that holds them, such as `encoder`".to_owned()),
                Kind::Record(_) => Some("name its modules one by one".to_owned()),
                _ => None,
            };
            return self.fail(wrong_type("`ema`", value, "modules to copy").maybe_help(help));
        };
        let source = &self.modules[id.0].path;
        let key: Arc<str> = source.rsplit('.').next().unwrap_or(source).into();
        let Some((_, other, first)) = others.iter().find(|(k, _, _)| *k == key) else { return Ok((key, id, span)) };
        let (message, help) = if *other == id {
            (format!("`{source}` is copied twice by one `ema`"), "remove one of them".to_owned())
        } else {
            let message =
                format!("`{source}` and `{}` would both be `{key}` of the copies", self.modules[other.0].path);
            (message, "make an `ema` of its own for one of them".to_owned())
        };
        self.fail(
            Diagnostic::new(Code::DuplicateName, message)
                .label(span, "again here")
                .label(*first, "first here")
                .help(help),
        )
    }

    /// What is left out must be a part of what is copied: else the word changes nothing.
    fn check_without(
        &mut self,
        without: &[(ModuleId, Span)],
        sources: &[(Arc<str>, ModuleId, Span)],
        copies: &Copies<'_>,
    ) -> Checked<()> {
        for (id, span) in without {
            let path = &self.modules[id.0].path;
            let within = |other: &ModuleId| is_part(path, &self.modules[other.0].path);
            let named = sources.iter().any(|(_, source, _)| source == id);
            if named || !copies.modules.keys().any(within) {
                let message = if named {
                    format!("`{path}` is copied and left out at once")
                } else {
                    format!("`{path}` is no part of what this `ema` copies")
                };
                return self.fail(
                    Diagnostic::new(Code::UnusedSetting, message)
                        .label(*span, "left out here")
                        .help("leave it out of `without`, or name a module within those that are copied"),
                );
            }
        }
        Ok(())
    }

    /// Names the copies of a module and of all modules and tensors that are parts of it.
    fn name_copy(&mut self, id: ModuleId, copies: &mut Copies<'_>) {
        if copies.modules.contains_key(&id) {
            return;
        }
        let source = self.modules[id.0].clone();
        copies.modules.insert(id, ModuleId(self.modules.len()));
        let path = format!("{}.{}", copies.prefix, source.path);
        self.modules.push(Module { path, scope: Scope::new(source.scope.file), ..source.clone() });
        for (_, value) in source.scope.bindings() {
            for inner in self.parts(&value.kind, &source.path) {
                if !copies.without.contains(&inner) {
                    self.name_copy(inner, copies);
                }
            }
            if let Kind::Stored(tensor, _) = &value.kind
                && is_part(tensor, &source.path)
                && copies.declared.get(&**tensor).is_some_and(|i| self.stored[*i].decl.kind != TensorKind::Fixed)
            {
                copies.tensors.insert(tensor.clone());
            }
        }
    }

    /// The modules that a value bound in the module `path` makes parts of it; others are arguments.
    fn parts(&self, kind: &Kind, path: &str) -> Vec<ModuleId> {
        let ids = match kind {
            Kind::Module(id) => vec![*id],
            Kind::Modules(ids) => ids.to_vec(),
            _ => Vec::new(),
        };
        ids.into_iter().filter(|id| is_part(&self.modules[id.0].path, path)).collect()
    }

    /// Fills the scope of a module's copy, and declares the tensors that are parts of it.
    fn fill_copy(&mut self, id: ModuleId, copies: &mut Copies<'_>, filled: &mut HashSet<ModuleId>) {
        if !filled.insert(id) {
            return;
        }
        let source = self.modules[id.0].clone();
        let scope = self.modules[copies.modules[&id].0].scope.clone();
        for (name, value) in source.scope.bindings() {
            for inner in self.parts(&value.kind, &source.path) {
                if !copies.without.contains(&inner) {
                    self.fill_copy(inner, copies, filled);
                }
            }
            if let Kind::Stored(tensor, _) = &value.kind {
                if !copies.tensors.contains(tensor) {
                    copies.shared.extend(self.shared_as(tensor, &source.path, copies.prefix));
                } else if is_part(tensor, &source.path) {
                    self.declare_copy(tensor, value.span, copies);
                }
            }
            scope.bind(name, Value::new(copies.of(&value.kind), value.span));
        }
    }

    /// The path that a fixed tensor of the module `source` would have in its copy, and the tensor's own. A source that is a copy
    /// itself shares it already.
    fn shared_as(&self, tensor: &str, source: &str, prefix: &str) -> Option<(String, String)> {
        let of_copy = || {
            let mut shared = self.emas.iter().flat_map(|ema| &ema.shared);
            shared.find(|(copy, own)| own == tensor && is_part(copy, source)).map(|(copy, _)| copy.as_str())
        };
        let within = if is_part(tensor, source) { Some(tensor) } else { of_copy() };
        within.map(|path| (format!("{prefix}.{path}"), tensor.to_owned()))
    }

    fn declare_copy(&mut self, tensor: &str, span: Span, copies: &mut Copies<'_>) {
        let index = copies.declared.get(tensor).expect("a tensor in a scope has been declared");
        let decl = self.stored[*index].decl.clone();
        let copied = format!("{}.{tensor}", copies.prefix);
        let kind = match decl.kind {
            TensorKind::State => TensorKind::State,
            _ => {
                copies.pairs.push((copied.clone(), tensor.to_owned()));
                TensorKind::Ema
            }
        };
        let decl = TensorDecl { path: copied, kind, init: Init::CopyOf(tensor.to_owned()), ..decl };
        self.stored.push(Stored { decl, span });
    }
}

impl Copies<'_> {
    /// What a value of an original is in its copy.
    fn of(&self, kind: &Kind) -> Kind {
        let inner = |value: &Value| Value::new(self.of(&value.kind), value.span);
        match kind {
            Kind::Module(id) if self.without.contains(id) => Kind::Absent,
            Kind::Module(id) => Kind::Module(self.modules.get(id).copied().unwrap_or(*id)),
            Kind::Modules(ids) => {
                let kept = ids.iter().filter(|id| !self.without.contains(id));
                Kind::Modules(Rc::new(kept.map(|id| self.modules.get(id).copied().unwrap_or(*id)).collect()))
            }
            Kind::Stored(tensor, ty) if self.tensors.contains(tensor) => {
                Kind::Stored(format!("{}.{tensor}", self.prefix).into(), ty.clone())
            }
            Kind::Tuple(items) => Kind::Tuple(Rc::new(items.iter().map(inner).collect())),
            Kind::List(items) => Kind::List(Rc::new(items.iter().map(inner).collect())),
            Kind::Record(fields) => {
                Kind::Record(Rc::new(fields.iter().map(|(name, value)| (name.clone(), inner(value))).collect()))
            }
            other => other.clone(),
        }
    }
}

/// Whether the module or tensor at `path` lies within the module at `whole`.
fn is_part(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.starts_with('.'))
}
