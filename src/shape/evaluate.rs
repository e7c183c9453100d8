//! The section `evaluate`: a second trace of the same modules, in mode `eval`.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, Reported, suggest};
use crate::elab::{Bound, Dims, Kind, Scope, Value, as_duration};
use crate::source::Span;
use crate::spec::{Duration, EvaluateSpec, KnnSpec, ReconstructionsSpec};
use crate::syntax::ast::{Argument, Entry, Expr, ExprKind, SectionKind};

use super::{Typing, flatten};

/// Output names of the three pictures.
pub const PICTURES: [&str; 3] = ["original", "masked", "reconstructed"];

impl Bound<'_> {
    /// Types the branches and `evaluate` in mode `eval`.
    pub(super) fn evaluation(&mut self, batch: usize) -> Result<(Typing, EvaluateSpec), Reported> {
        let (trace, (outputs, spec)) = self.traced(batch, false, |bound| {
            let mut outputs = bound.branches();
            let spec = bound.evaluate_section(&mut outputs);
            (outputs, spec)
        });
        if self.machine.diagnostics.has_errors() {
            return Err(Reported);
        }
        Ok((Typing { trace, losses: Vec::new(), total: None, monitors: Vec::new(), outputs }, spec))
    }

    fn evaluate_section(&mut self, outputs: &mut Vec<(String, u32)>) -> EvaluateSpec {
        let mut spec = EvaluateSpec::default();
        let scope = Scope::inside(&self.scope);
        for section in self.pipeline.sections.clone() {
            if section.kind != SectionKind::Evaluate {
                continue;
            }
            for entry in &section.entries {
                match entry {
                    Entry::Binding(binding) => {
                        let name = &binding.name.text;
                        self.machine.tensors.enter(&format!("evaluate.{name}"));
                        let value = self.machine.eval(&binding.value, &scope);
                        self.machine.tensors.leave();
                        let value = value.unwrap_or(Value::new(Kind::Poison, binding.name.span));
                        flatten(&format!("evaluate.{name}"), &value, outputs);
                        if &**name == "features" {
                            let _ = self.features(&value, outputs);
                        }
                        scope.bind(name.clone(), value);
                    }
                    Entry::Expr(expr) => {
                        let _ = self.evaluation_call(expr, &scope, &mut spec, outputs);
                    }
                    Entry::Require(_) | Entry::Rule(_) => {}
                }
            }
        }
        spec
    }

    fn features(&mut self, value: &Value, outputs: &mut Vec<(String, u32)>) -> Result<(), Reported> {
        let tensor = self.machine.to_tensor("`features`", value)?;
        if tensor.ty.shape.len() != 2 {
            return self.machine.fail(
                Diagnostic::new(
                    Code::ShapeMismatch,
                    format!("`features` wants [B, D], found {}", Dims(&tensor.ty.shape)),
                )
                .label(value.span, format!("this is {}", Dims(&tensor.ty.shape)))
                .help("pool the tokens: `|> mean_tokens`"),
            );
        }
        outputs.push(("features".into(), tensor.id));
        Ok(())
    }

    fn evaluation_call(
        &mut self,
        expr: &Expr,
        scope: &Rc<Scope>,
        spec: &mut EvaluateSpec,
        outputs: &mut Vec<(String, u32)>,
    ) -> Result<(), Reported> {
        let (name, arguments) = match &expr.kind {
            ExprKind::Call(callee, arguments) => match &callee.kind {
                ExprKind::Path(names) if names.len() == 1 => (&*names[0].text, arguments.as_slice()),
                _ => ("", arguments.as_slice()),
            },
            _ => ("", [].as_slice()),
        };
        match name {
            "knn" => {
                let knn = self.knn(arguments, expr.span, scope)?;
                spec.knn = Some(knn);
                Ok(())
            }
            "reconstructions" => {
                let reconstructions = self.reconstructions(arguments, expr.span, scope, outputs)?;
                spec.reconstructions = Some(reconstructions);
                Ok(())
            }
            _ => self.machine.fail(
                Diagnostic::new(Code::UnknownSetting, "`evaluate` does not know this")
                    .label(expr.span, "not known")
                    .maybe_help(suggest(name, ["knn", "reconstructions"])),
            ),
        }
    }

    fn knn(&mut self, arguments: &[Argument], span: Span, scope: &Rc<Scope>) -> Result<KnnSpec, Reported> {
        let names = &["features", "bank", "queries", "k?", "temperature?", "every?"];
        let bag = self.machine.bind_builtin("knn", names, arguments, span, scope)?;
        let every = self.duration(bag.get("every"), "`every` of `knn`")?;
        let source = |name: &str| match bag.get(name).map(|v| &v.kind) {
            Some(Kind::Source(source)) => Ok(source.to_string()),
            _ => {
                let value = bag.get(name).cloned().unwrap_or(Value::new(Kind::None, span));
                let what = format!("`{name}` of `knn` wants a source such as data.train, found {}", value.describe());
                Err(Diagnostic::new(Code::WrongType, what).label(value.span, "no source"))
            }
        };
        let knn = (|| {
            Ok(KnnSpec {
                bank: source("bank")?,
                queries: source("queries")?,
                k: bag.count("k", 20)?,
                temperature: bag.float("temperature", 0.07)?,
                every,
            })
        })();
        self.machine.check(knn)
    }

    fn reconstructions(
        &mut self,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
        outputs: &mut Vec<(String, u32)>,
    ) -> Result<ReconstructionsSpec, Reported> {
        let names = &["pictures", "view", "count?", "every?", "source?"];
        let bag = self.machine.bind_builtin("reconstructions", names, arguments, span, scope)?;
        let every = self.duration(bag.get("every"), "`every` of `reconstructions`")?;
        let wrong = |name: &str, wanted: &str| {
            let value = bag.get(name).cloned().unwrap_or(Value::new(Kind::None, span));
            let what = format!("`{name}` of `reconstructions` wants {wanted}, found {}", value.describe());
            Diagnostic::new(Code::WrongType, what).label(value.span, "not this")
        };
        let fields = match bag.get("pictures").map(|v| &v.kind) {
            Some(Kind::Record(fields)) => fields.clone(),
            _ => {
                let wanted = "a record of `original`, `masked` and `reconstructed`";
                return self.machine.fail(wrong("pictures", wanted));
            }
        };
        for name in PICTURES {
            let Some((_, value)) = fields.iter().find(|(n, _)| &**n == name) else {
                return self.machine.fail(wrong("pictures", &format!("a record with `{name}`")));
            };
            let tensor = self.machine.to_tensor(&format!("`{name}`"), value)?;
            if tensor.ty.shape.len() != 4 {
                return self.machine.fail(
                    Diagnostic::new(
                        Code::ShapeMismatch,
                        format!("`{name}` wants [B, C, H, W], found {}", Dims(&tensor.ty.shape)),
                    )
                    .label(value.span, format!("this is {}", Dims(&tensor.ty.shape))),
                );
            }
            outputs.push((name.to_owned(), tensor.id));
        }
        let view = match bag.get("view").map(|v| &v.kind) {
            Some(Kind::View(index)) => self.machine.views[*index].spec.name.clone(),
            _ => return self.machine.fail(wrong("view", "a view such as views.online")),
        };
        let source = match bag.get("source").map(|v| &v.kind) {
            None if self.spec.data.source("val").is_some() => "val".to_owned(),
            None => "train".to_owned(),
            Some(Kind::Source(source)) => source.to_string(),
            Some(_) => return self.machine.fail(wrong("source", "a source such as data.val")),
        };
        let count = bag.count("count", 8);
        Ok(ReconstructionsSpec { count: self.machine.check(count)?, every, view, source })
    }

    fn duration(&mut self, value: Option<&Value>, what: &str) -> Result<Duration, Reported> {
        match value {
            None => Ok(Duration::Epochs(1.0)),
            Some(value) => {
                let duration = as_duration(what, value);
                self.machine.check(duration)
            }
        }
    }
}
