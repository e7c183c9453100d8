//! Shapes: branches, losses, monitors and evaluation evaluated into typed values.
//!
//! Before: `elab` gives a [`Bound`] pipeline. After: `graph::build` keeps what is needed of each trace.
//!
//! **Invariant:** every value is typed before any data is read; errors are collected over all sections.

mod arguments;
mod calls;
mod drawn;
mod evaluate;
mod judged;
mod masks;
mod segmented;
mod tensors;
mod trace;

use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, Reported, listed};
use crate::elab::{Bound, Dims, Kind, NoTensors, Scope, Stored, Value, names_of};
use crate::op::Op;
use crate::source::Span;
use crate::spec::{EmaSpec, Spec};
use crate::syntax::ast::{Binding, Entry, Name, Section, SectionKind};

pub use calls::{about as op_about, names as op_names, signature as op_signature};
pub use drawn::RECONSTRUCTIONS;
pub use judged::{CLASSIFY, KNN, LINEAR};
pub use segmented::SEGMENT;
pub use trace::{Trace, TypedInitial, TypedNode};

/// One mode's values and the names that they go by.
#[derive(Debug)]
pub struct Typing {
    pub trace: Trace,
    /// Scalars with the place of their definition.
    pub losses: Vec<(String, u32, Span)>,
    pub total: Option<u32>,
    pub monitors: Vec<(String, u32)>,
    pub outputs: Vec<(String, u32)>,
}

/// A pipeline with every value typed.
pub struct Typed {
    pub spec: Spec,
    pub stored: Vec<Stored>,
    pub emas: Vec<EmaSpec>,
    pub train: Typing,
    pub eval: Typing,
    /// Definitions of `model` with their places.
    pub modules: Vec<(String, Span)>,
    pub source_spans: Vec<(String, Span)>,
    pub rule_spans: Vec<Span>,
    pub setting_spans: Vec<(String, Span)>,
}

/// Types all of a bound pipeline.
pub fn check(mut bound: Bound<'_>) -> Result<Typed, Reported> {
    let train = bound.typing(bound.spec.data.batch_size, true);
    // Where something is wrong already it is the same batch: then the same mistake has the same words, and is told once.
    let batch = match bound.machine.diagnostics.has_errors() {
        true => Ok(bound.spec.data.batch_size),
        false => bound.evaluation_batch(),
    };
    let evaluated = batch.and_then(|batch| bound.evaluation(batch));
    bound.machine.note_rest(Some((&bound.pipeline, &bound.scope)));
    let (train, (eval, evaluate)) = (train?, evaluated?);
    let mut spec = bound.spec;
    spec.evaluate = evaluate;
    spec.imports = std::mem::take(&mut bound.machine.imports.specs);
    spec.definitions = bound.machine.take_definitions(&bound.pipeline);
    let modules = crate::elab::model_definitions(&bound.pipeline);
    Ok(Typed {
        spec,
        modules,
        stored: std::mem::take(&mut bound.machine.stored),
        emas: std::mem::take(&mut bound.machine.emas),
        train,
        eval,
        source_spans: bound.source_spans,
        rule_spans: bound.rule_spans,
        setting_spans: bound.setting_spans,
    })
}

impl Bound<'_> {
    /// Runs `work` with a fresh trace in one mode, and gives the trace back.
    fn traced<T>(&mut self, batch: usize, training: bool, work: impl FnOnce(&mut Self) -> T) -> (Trace, T) {
        self.machine.set_training(training, self.pipeline.span);
        self.machine.tensors = Box::new(Trace::new(batch, training));
        let result = work(self);
        let tensors = std::mem::replace(&mut self.machine.tensors, Box::new(NoTensors));
        let trace = tensors.into_any().downcast::<Trace>().expect("the trace put in above comes out");
        (*trace, result)
    }

    fn typing(&mut self, batch: usize, training: bool) -> Result<Typing, Reported> {
        let (trace, (outputs, losses, monitors)) = self.traced(batch, training, |bound| {
            let outputs = bound.branches();
            let losses = bound.scalars(&SectionKind::Losses);
            let monitors = bound.scalars(&SectionKind::Monitor);
            (outputs, losses, monitors)
        });
        let mut typing = Typing {
            trace,
            losses,
            total: None,
            monitors: monitors.into_iter().map(|(name, id, _)| (name, id)).collect(),
            outputs,
        };
        self.shown_label_maps(&typing.trace);
        let mut written = self.pipeline.sections.iter().filter(|section| section.kind == SectionKind::Losses);
        // What could not be read may be one.
        if self.machine.unread.is_empty() && written.all(|section| section.entries.is_empty()) {
            return self.machine.fail(
                Diagnostic::new(Code::NoLoss, format!("pipeline `{}` has no loss", self.pipeline.name.text))
                    .label(self.pipeline.name.span, "nothing to train")
                    .help(self.example_loss(&typing.outputs)),
            );
        }
        if self.machine.diagnostics.has_errors() {
            return Err(Reported);
        }
        let total = total(&mut typing);
        typing.total = Some(self.machine.check(total)?);
        Ok(typing)
    }

    /// The line of a loss for a pipeline that has none, of the values of its branches where there are two alike.
    fn example_loss(&self, outputs: &[(String, u32)]) -> String {
        let named = |part: &str| outputs.iter().find(|(name, _)| name.ends_with(part)).map(|(name, _)| name.as_str());
        match (named(".query"), named(".key"), named(".pixels")) {
            (Some(query), Some(key), _) => {
                format!("write `losses {{ contrastive = info_nce({query}, {key}, temperature: 0.07) }}`")
            }
            _ => "write `losses { NAME = … }`: a scalar of the branches' values, such as those of `std::losses`".into(),
        }
    }

    /// Evaluates every branch; gives the named tensors: `online.query`, `online.latent.tokens`.
    fn branches(&mut self) -> Vec<(String, u32)> {
        let mut outputs = Vec::new();
        for section in self.pipeline.sections.clone() {
            let SectionKind::Branch(branch, over) = &section.kind else { continue };
            let kind = match over {
                None => {
                    let scope = Scope::inside(&self.scope);
                    self.branch(&section, &branch.text, &scope, &mut outputs).kind
                }
                Some(over) => {
                    let values = self.machine.eval(&over.values, &self.scope);
                    match values.and_then(|values| self.machine.iterated(&values)) {
                        Err(_) => Kind::Poison,
                        Ok(values) => {
                            let mut records = Vec::new();
                            for (i, value) in values.into_iter().enumerate() {
                                let scope = Scope::inside(&self.scope);
                                scope.define(&over.name, value);
                                let path = format!("{}.{i}", branch.text);
                                records.push(self.branch(&section, &path, &scope, &mut outputs));
                            }
                            Kind::List(Rc::new(records))
                        }
                    }
                }
            };
            let value = self.machine.sole(branch, Ok(Value::new(kind, branch.span)));
            self.scope.define(branch, value.unwrap_or(Value::new(Kind::Poison, branch.span)));
        }
        outputs
    }

    /// One pass through a branch; `path` is its name, with an index where it is looped.
    fn branch(&mut self, section: &Section, path: &str, scope: &Rc<Scope>, outputs: &mut Vec<(String, u32)>) -> Value {
        let mut record: Vec<(Arc<str>, Value)> = Vec::new();
        for entry in &section.entries {
            match entry {
                Entry::Binding(binding) => {
                    let path = format!("{path}.{}", binding.name.text);
                    self.machine.tensors.enter(&path);
                    let value = self.machine.eval(&binding.value, scope);
                    self.machine.tensors.leave();
                    let value = self.machine.sole(&binding.name, value);
                    let value = value.unwrap_or(Value::new(Kind::Poison, binding.name.span));
                    flatten(&path, &value, outputs);
                    scope.define(&binding.name, value.clone());
                    record.push((binding.name.text.clone(), value));
                }
                Entry::Require(require) => {
                    let _ = self.machine.require(require, scope, section.span);
                }
                Entry::Expr(_) | Entry::Rule(_) => {}
            }
        }
        Value::new(Kind::Record(Rc::new(record)), section.span)
    }

    /// Warns of a loss that is made of others beside it: all of them are added up.
    fn check_counted_twice(&mut self, binding: &Binding, losses: &Section) {
        let read = names_of(&binding.value);
        let parts = losses.entries.iter().filter_map(|entry| match entry {
            Entry::Binding(part) if part.name.span != binding.name.span && read.contains(&part.name.text) => {
                Some(&part.name)
            }
            _ => None,
        });
        let parts: Vec<&Name> = parts.collect();
        let names: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
        if names.is_empty() {
            return;
        }
        let name = &binding.name.text;
        let diagnostic = Diagnostic::new(
            Code::CountedTwice,
            format!("the loss `{name}` counts {} once more: the run trains the sum of all losses", listed(&names)),
        )
        .label(binding.name.span, "added to them");
        let labelled = parts.iter().fold(diagnostic, |d, part| d.label(part.span, "a loss by itself"));
        self.machine
            .diagnostics
            .push(labelled.help(format!("remove `{name}`: the sum is trained and shown as `loss`")));
    }

    /// Evaluates `losses` or `monitor`; a record gives one scalar a field.
    fn scalars(&mut self, kind: &SectionKind) -> Vec<(String, u32, Span)> {
        let mut scalars = Vec::new();
        let scope = Scope::inside(&self.scope);
        for section in self.pipeline.sections.clone() {
            if section.kind != *kind {
                continue;
            }
            for entry in &section.entries {
                let Entry::Binding(binding) = entry else { continue };
                let name = &binding.name.text;
                if *kind == SectionKind::Losses {
                    self.check_counted_twice(binding, &section);
                }
                self.machine.tensors.enter(name);
                let value = self.machine.eval(&binding.value, &scope);
                let value = self.machine.sole(&binding.name, value);
                self.machine.tensors.leave();
                let Ok(value) = value else {
                    scope.define(&binding.name, Value::new(Kind::Poison, binding.name.span));
                    continue;
                };
                scope.define(&binding.name, value.clone());
                let fields = match &value.kind {
                    Kind::Record(fields) => {
                        fields.iter().map(|(field, v)| (format!("{name}.{field}"), v.clone())).collect()
                    }
                    _ => vec![(name.to_string(), value.clone())],
                };
                for (name, field) in fields {
                    let what = format!("`{name}`");
                    let help = match &field.kind {
                        _ if field.number().is_some() => {
                            Some("a number trains nothing: let it take a value of a branch".to_owned())
                        }
                        Kind::List(_) | Kind::Tuple(_) => Some(
                            "add them up: `sum([a, b])`, or define each by itself: the run trains their sum".to_owned(),
                        ),
                        _ => None,
                    };
                    if let Some(help) = help {
                        let found = field.describe();
                        self.machine.diagnostics.push(
                            Diagnostic::new(Code::NotATensor, format!("{what} wants a scalar tensor, found {found}"))
                                .label(binding.value.span, format!("this is {found}"))
                                .help(help),
                        );
                        continue;
                    }
                    let Ok(tensor) = self.machine.to_tensor(&what, &field) else { continue };
                    if tensor.ty.shape.is_empty() {
                        scalars.push((name, tensor.id, binding.value.span));
                    } else {
                        let text = self.machine.sources.slice(binding.value.span);
                        let shown = if text.len() <= 80 && !text.contains('\n') { text } else { "…" };
                        let help = format!("reduce it to one number: `op::mean({shown})`");
                        self.machine.diagnostics.push(
                            Diagnostic::new(
                                Code::ShapeMismatch,
                                format!("{what} wants a scalar [], found {}", Dims(&tensor.ty.shape)),
                            )
                            .label(binding.value.span, format!("this is {}", Dims(&tensor.ty.shape)))
                            .help(help),
                        );
                    }
                }
            }
        }
        scalars
    }
}

/// The sum of the losses.
fn total(typing: &mut Typing) -> Result<u32, Diagnostic> {
    let mut sum: Option<crate::elab::Tensor> = None;
    for (_, id, span) in typing.losses.clone() {
        let ty = typing.trace.nodes[id as usize].ty.clone();
        let loss = crate::elab::Tensor { id, ty };
        sum = Some(match sum {
            None => loss,
            Some(sum) => typing.trace.emit(Op::Add, &[(sum, span), (loss, span)], None, span)?,
        });
    }
    Ok(sum.map_or(0, |tensor| tensor.id))
}

/// Names of the tensors within a value.
fn flatten(path: &str, value: &Value, outputs: &mut Vec<(String, u32)>) {
    match &value.kind {
        Kind::Tensor(tensor) => outputs.push((path.to_owned(), tensor.id)),
        Kind::Record(fields) => {
            for (name, value) in fields.iter() {
                flatten(&format!("{path}.{name}"), value, outputs);
            }
        }
        Kind::Tuple(items) | Kind::List(items) => {
            for (i, value) in items.iter().enumerate() {
                flatten(&format!("{path}.{i}"), value, outputs);
            }
        }
        _ => {}
    }
}
