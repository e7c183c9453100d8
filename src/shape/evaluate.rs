//! The section `evaluate`: a second trace of the same modules, in mode `eval`.
//!
//! Its calls stand by themselves, or as the value of a definition, by whose name they go then: `none` in their place turns them
//! off. So a change (`evaluate.knn = none`, `evaluate.cls.every = 5 epochs`) reaches every one of them.
//!
//! What each call takes: [`super::judged`], [`super::drawn`].

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, Reported, suggest};
use crate::elab::{Bound, Dims, EVALUATION_BATCH, EVALUATION_CALLS, Kind, Scope, Value, as_duration, whole};
use crate::source::Span;
use crate::spec::{Duration, EvaluateSpec};
use crate::syntax::ast::{Argument, Entry, Expr, ExprKind, SectionKind};

use super::{Typing, flatten};

/// A call of `evaluate`: the name it goes by, its arguments, and where it stands.
pub(super) struct Call<'a> {
    pub name: &'a str,
    pub arguments: &'a [Argument],
    pub span: Span,
    pub scope: &'a Rc<Scope>,
}

/// What the graph of evaluation gives, by name.
pub(super) type Outputs = Vec<(String, u32)>;
type Read = fn(&mut Bound<'_>, Call<'_>, &mut EvaluateSpec, &mut Outputs) -> Result<(), Reported>;

/// What can be called.
const CALLS: [(&str, Read); 5] = [
    (EVALUATION_CALLS[0], |bound, call, spec, outputs| bound.knn(call, spec, outputs)),
    (EVALUATION_CALLS[1], |bound, call, spec, outputs| bound.linear(call, spec, outputs)),
    (EVALUATION_CALLS[2], |bound, call, spec, outputs| bound.classify(call, spec, outputs)),
    (EVALUATION_CALLS[3], |bound, call, spec, outputs| bound.segment(call, spec, outputs)),
    (EVALUATION_CALLS[4], |bound, call, spec, outputs| bound.reconstructions(call, spec, outputs)),
];

/// Pictures that are encoded at once where nothing is said: more make no machine faster, and take memory beside a step's.
const AUTO_BATCH: usize = 256;

impl Bound<'_> {
    /// Pictures that evaluation computes at once: `batch_size` of `evaluate`, or by itself (`auto`) that of `data`, at most
    /// [`AUTO_BATCH`].
    pub(super) fn evaluation_batch(&mut self) -> Result<usize, Reported> {
        let sections = self.pipeline.sections.iter().filter(|section| section.kind == SectionKind::Evaluate);
        let mut settings = sections.flat_map(|section| &section.entries).filter_map(|entry| match entry {
            Entry::Binding(binding) if &*binding.name.text == EVALUATION_BATCH => Some(&binding.value),
            _ => None,
        });
        let auto = self.spec.data.batch_size.min(AUTO_BATCH);
        let Some(written) = settings.next() else { return Ok(auto) };
        let value = self.machine.eval(written, &self.scope)?;
        if matches!(&value.kind, Kind::Str(text) if &**text == "auto") {
            return Ok(auto);
        }
        let batch = whole("`evaluate.batch_size`", &value).map_err(|wrong| wrong.help("write `batch_size = auto`"));
        self.machine.check(batch)
    }

    /// Types the branches and `evaluate` in mode `eval`.
    pub(super) fn evaluation(&mut self, batch: usize) -> Result<(Typing, EvaluateSpec), Reported> {
        let (trace, (outputs, spec)) = self.traced(batch, false, |bound| {
            // Once more, in another mode: what is wrong in training is told already, in its words.
            let told = bound.machine.diagnostics.has_errors();
            let before = bound.machine.diagnostics.mute(told);
            let mut outputs = bound.branches();
            bound.machine.diagnostics.mute(before);
            let spec = bound.evaluate_section(&mut outputs);
            (outputs, spec)
        });
        if self.machine.diagnostics.has_errors() {
            return Err(Reported);
        }
        Ok((Typing { trace, losses: Vec::new(), total: None, monitors: Vec::new(), outputs }, spec))
    }

    fn evaluate_section(&mut self, outputs: &mut Outputs) -> EvaluateSpec {
        let mut spec = EvaluateSpec::default();
        let scope = Scope::inside(&self.scope);
        for section in self.pipeline.sections.clone() {
            if section.kind != SectionKind::Evaluate {
                continue;
            }
            for entry in &section.entries {
                match entry {
                    Entry::Binding(binding) if &*binding.name.text == EVALUATION_BATCH => {}
                    Entry::Binding(binding) if is_call(&binding.name.text) => {
                        let name = &*binding.name.text;
                        match (&binding.value.kind, callee(&binding.value)) {
                            (ExprKind::None, _) => {}
                            (_, Some(called)) if called == name => {
                                let _ = self.evaluation_call(name, &binding.value, &scope, &mut spec, outputs);
                            }
                            _ => self.no_call(name, binding.value.span),
                        }
                    }
                    Entry::Binding(binding) if callee(&binding.value).is_some_and(is_call) => {
                        let _ = self.evaluation_call(&binding.name.text, &binding.value, &scope, &mut spec, outputs);
                    }
                    Entry::Binding(binding) => {
                        let name = &binding.name.text;
                        self.machine.tensors.enter(&format!("evaluate.{name}"));
                        let value = self.machine.eval(&binding.value, &scope);
                        self.machine.tensors.leave();
                        let value = value.unwrap_or(Value::new(Kind::Poison, binding.name.span));
                        flatten(&format!("evaluate.{name}"), &value, outputs);
                        let failed = &**name == "features" && self.features(&value, outputs).is_err();
                        let value = if failed { Value::new(Kind::Poison, value.span) } else { value };
                        scope.define(&binding.name, value);
                    }
                    Entry::Expr(expr) => {
                        let name = callee(expr).unwrap_or_default();
                        let _ = self.evaluation_call(name, expr, &scope, &mut spec, outputs);
                    }
                    Entry::Require(_) | Entry::Rule(_) => {}
                }
            }
        }
        spec
    }

    fn no_call(&mut self, name: &str, span: Span) {
        self.machine.diagnostics.push(
            Diagnostic::new(Code::WrongType, format!("`{name}` of `evaluate` is a call"))
                .label(span, "neither a call of it nor none")
                .help(format!(
                    "`evaluate.{name} = none` turns it off, `evaluate.{name}.every = 1 epochs` sets an argument"
                )),
        );
    }

    fn features(&mut self, value: &Value, outputs: &mut Outputs) -> Result<(), Reported> {
        let id = self.rows("`features`", value)?;
        outputs.push(("features".into(), id));
        Ok(())
    }

    /// The tensor that `value` is, one row a picture.
    pub(super) fn rows(&mut self, what: &str, value: &Value) -> Result<u32, Reported> {
        let tensor = self.machine.to_tensor(what, value)?;
        if tensor.ty.shape.len() != 2 {
            return self.machine.fail(
                Diagnostic::new(Code::ShapeMismatch, format!("{what} wants [B, D], found {}", Dims(&tensor.ty.shape)))
                    .label(value.span, format!("this is {}", Dims(&tensor.ty.shape)))
                    .help(match tensor.ty.shape.len() {
                        0 | 1 => "one row a picture is wanted: leave out the index or the mean that took it away",
                        _ => "pool the tokens: `|> mean_tokens`",
                    }),
            );
        }
        Ok(tensor.id)
    }

    /// `name`: what the call goes by.
    fn evaluation_call(
        &mut self,
        name: &str,
        expr: &Expr,
        scope: &Rc<Scope>,
        spec: &mut EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        let called = callee(expr).unwrap_or_default();
        match (CALLS.iter().find(|(known, _)| *known == called), &expr.kind) {
            (Some((_, read)), ExprKind::Call(_, arguments)) => {
                read(self, Call { name, arguments, span: expr.span, scope }, spec, outputs)
            }
            _ => self.machine.fail(
                Diagnostic::new(Code::UnknownSetting, "`evaluate` does not know this")
                    .label(expr.span, "not known")
                    .maybe_help(match called {
                        probe if probe.contains("linear") || probe.contains("probe") => {
                            Some("write `linear(features, every: 10 epochs)`".to_owned())
                        }
                        _ => suggest(called, CALLS.map(|(name, _)| name)),
                    }),
            ),
        }
    }

    pub(super) fn duration(&mut self, value: Option<&Value>, what: &str) -> Result<Duration, Reported> {
        match value {
            None => Ok(Duration::Epochs(1.0)),
            Some(value) => {
                let duration = as_duration(what, value);
                self.machine.check(duration)
            }
        }
    }
}

/// The name that `expr` calls, where it is a call of one.
fn callee(expr: &Expr) -> Option<&str> {
    let ExprKind::Call(callee, _) = &expr.kind else { return None };
    match &callee.kind {
        ExprKind::Path(names) if names.len() == 1 => Some(&names[0].text),
        _ => None,
    }
}

fn is_call(name: &str) -> bool {
    CALLS.iter().any(|(known, _)| *known == name)
}
