//! The section `evaluate`: a second trace of the same modules, in mode `eval`.
//!
//! Its calls stand by themselves, or as the value of a definition of their own name, where `none` turns them off: so a change
//! (`evaluate.knn = none`) reaches every one of them.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, Reported, suggest};
use crate::elab::{Bound, Dims, EVALUATION_BATCH, EVALUATION_CALLS, Kind, Scope, Value, as_duration, whole};
use crate::source::Span;
use crate::spec::{BASELINE_LIMIT, DataSpec, Duration, EvaluateSpec, KnnSpec, Limit, ReconstructionsSpec, SourceSpec};
use crate::syntax::ast::{Argument, Entry, Expr, ExprKind, SectionKind};

use super::{Typing, flatten};

/// Parameters of `knn`.
pub const KNN: &[&str] = &[
    "features?",
    "bank?",
    "queries?",
    "k?",
    "temperature?",
    "every?",
    "bank_limit?",
    "query_limit?",
    "baseline_limit?",
];

/// Parameters of `reconstructions`.
pub const RECONSTRUCTIONS: &[&str] = &["pictures", "view", "count?", "every?", "source?"];

/// A call of `evaluate`: its arguments, and where it stands.
struct Call<'a> {
    arguments: &'a [Argument],
    span: Span,
    scope: &'a Rc<Scope>,
}

type Outputs = Vec<(String, u32)>;
type Read = fn(&mut Bound<'_>, Call<'_>, &mut EvaluateSpec, &mut Outputs) -> Result<(), Reported>;

/// What can be called.
const CALLS: [(&str, Read); 2] = [
    (EVALUATION_CALLS[0], |bound, call, spec, outputs| bound.knn(call, spec, outputs)),
    (EVALUATION_CALLS[1], |bound, call, spec, outputs| bound.reconstructions(call, spec, outputs)),
];

/// Output names of the three pictures.
pub const PICTURES: [&str; 3] = ["original", "masked", "reconstructed"];

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
                    Entry::Binding(binding) if CALLS.iter().any(|(name, _)| *name == &*binding.name.text) => {
                        match (&binding.value.kind, callee(&binding.value)) {
                            (ExprKind::None, _) => {}
                            (_, Some(called)) if called == &*binding.name.text => {
                                let _ = self.evaluation_call(&binding.value, &scope, &mut spec, outputs);
                            }
                            _ => {
                                let name = &binding.name.text;
                                let message = format!("`{name}` of `evaluate` is a call");
                                self.machine.diagnostics.push(
                                    Diagnostic::new(Code::WrongType, message)
                                        .label(binding.value.span, "neither a call of it nor none")
                                        .help(format!("`evaluate.{name} = none` turns it off, `evaluate.{name}.every = 1 epochs` sets an argument")),
                                );
                            }
                        }
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
                        let _ = self.evaluation_call(expr, &scope, &mut spec, outputs);
                    }
                    Entry::Require(_) | Entry::Rule(_) => {}
                }
            }
        }
        spec
    }

    fn features(&mut self, value: &Value, outputs: &mut Outputs) -> Result<(), Reported> {
        let tensor = self.machine.to_tensor("`features`", value)?;
        if tensor.ty.shape.len() != 2 {
            return self.machine.fail(
                Diagnostic::new(
                    Code::ShapeMismatch,
                    format!("`features` wants [B, D], found {}", Dims(&tensor.ty.shape)),
                )
                .label(value.span, format!("this is {}", Dims(&tensor.ty.shape)))
                .help(match tensor.ty.shape.len() {
                    0 | 1 => "one row a picture is wanted: leave out the index or the mean that took it away",
                    _ => "pool the tokens: `|> mean_tokens`",
                }),
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
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        let name = callee(expr).unwrap_or_default();
        match (CALLS.iter().find(|(known, _)| *known == name), &expr.kind) {
            (Some((_, read)), ExprKind::Call(_, arguments)) => {
                read(self, Call { arguments, span: expr.span, scope }, spec, outputs)
            }
            _ => self.machine.fail(
                Diagnostic::new(Code::UnknownSetting, "`evaluate` does not know this")
                    .label(expr.span, "not known")
                    .maybe_help(match name {
                        probe if probe.contains("linear") || probe.contains("probe") || probe.contains("finetune") => {
                            Some("leave it out: a run is probed afterwards, by `cmaec eval linear RUN`".to_owned())
                        }
                        _ => suggest(name, CALLS.map(|(name, _)| name)),
                    }),
            ),
        }
    }

    fn called_twice(&mut self, name: &str, span: Span) -> Result<(), Reported> {
        self.machine.fail(
            Diagnostic::new(Code::DuplicateName, format!("`{name}` is called twice"))
                .label(span, "again here")
                .help("remove one of them: a run has one"),
        )
    }

    fn knn(&mut self, call: Call<'_>, spec: &mut EvaluateSpec, outputs: &mut Outputs) -> Result<(), Reported> {
        let Call { arguments, span, scope } = call;
        if spec.knn.is_some() {
            return self.called_twice("knn", span);
        }
        let bag = self.machine.bind_builtin("knn", KNN, arguments, span, scope)?;
        if matches!(scope.get("features"), Some(Value { kind: Kind::Poison, .. })) {
            return Err(Reported);
        }
        if bag.get("features").is_none() && !outputs.iter().any(|(name, _)| name == "features") {
            return self.machine.fail(
                Diagnostic::new(Code::MissingSetting, "`knn` judges the definition `features` of `evaluate`")
                    .label(span, "there is none above")
                    .help("define it above: `features = encoder(views.eval).cls`"),
            );
        }
        if let Some(value) = bag.get("features").filter(|value| !matches!(value.kind, Kind::Poison)) {
            let given = self.machine.to_tensor("`features` of `knn`", value)?;
            // What `cmaec features` writes and the feature map shows is what is judged.
            if !outputs.iter().any(|(name, id)| name == "features" && *id == given.id) {
                return self.machine.fail(
                    Diagnostic::new(
                        Code::WrongType,
                        "`knn` judges the definition `features` of `evaluate`, found another value",
                    )
                    .label(value.span, "not `features`")
                    .help("define it above: `features = …`, then write `knn(features, …)`"),
                );
            }
        }
        let every = self.duration(bag.get("every"), "`every` of `knn`")?;
        // What is wrong with a source has been told.
        let data = self.scope.get("data");
        let told = |usual: &str| match data.as_ref().map(|data| &data.kind) {
            Some(Kind::Record(fields)) => {
                fields.iter().any(|(name, value)| &**name == usual && matches!(value.kind, Kind::Poison))
            }
            _ => false,
        };
        if [("bank", "train"), ("queries", "val")].iter().any(|(name, usual)| bag.get(name).is_none() && told(usual)) {
            return Err(Reported);
        }
        let data = &self.spec.data;
        let source = |name: &str, usual: &str| match bag.get(name) {
            Some(Value { kind: Kind::Source(source), .. }) => Ok(source.to_string()),
            Some(value) => {
                let what = format!("`{name}` of `knn` wants a source such as data.train, found {}", value.describe());
                let example = if name == "bank" { "data.train" } else { "data.val" };
                let wrong = Diagnostic::new(Code::WrongType, what).label(value.span, "no source");
                Err(wrong.help(format!("write `{name}: {example}`, a source that `data` names")))
            }
            None if data.source(usual).is_some() => Ok(usual.to_owned()),
            None => {
                let what = format!("`knn` takes `{name}` from data.{usual}, which is not there");
                let help = format!("name a source, such as `{name}: data.train`, or write `{usual} = …` in `data`");
                Err(Diagnostic::new(Code::MissingSetting, what).label(span, format!("no `{name}`")).help(help))
            }
        };
        let knn = (|| {
            Ok(KnnSpec {
                bank: source("bank", "train")?,
                queries: source("queries", "val")?,
                k: bag.count("k", 20)?,
                temperature: bag.float("temperature", 0.07)?,
                every,
                bank_limit: bag.limit("bank_limit", Limit::default())?,
                query_limit: bag.limit("query_limit", Limit::default())?,
                baseline_limit: bag.limit("baseline_limit", BASELINE_LIMIT)?,
            })
        })();
        let knn = self.machine.check(knn)?;
        let place = |source: &str| {
            self.source_spans.iter().find(|(name, _)| name == source).map_or(span, |(_, written)| *written)
        };
        let warning = other_classes(&self.spec.data, &knn, place(&knn.queries), place(&knn.bank));
        if let Some(warning) = warning {
            self.machine.diagnostics.push(warning);
        }
        spec.knn = Some(knn);
        Ok(())
    }

    fn reconstructions(
        &mut self,
        call: Call<'_>,
        spec: &mut EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        let Call { arguments, span, scope } = call;
        if spec.reconstructions.is_some() {
            return self.called_twice("reconstructions", span);
        }
        let bag = self.machine.bind_builtin("reconstructions", RECONSTRUCTIONS, arguments, span, scope)?;
        let every = self.duration(bag.get("every"), "`every` of `reconstructions`")?;
        let wrong = |name: &str, wanted: &str| {
            let value = bag.get(name).cloned().unwrap_or(Value::new(Kind::None, span));
            let what = format!("`{name}` of `reconstructions` wants {wanted}, found {}", value.describe());
            let view = match &value.kind {
                Kind::Str(view) if name == "view" => Some(format!("write `views.{view}`")),
                _ if name == "view" => Some("write `views.online`, the view that `pictures` are of".to_owned()),
                _ if name == "pictures" => Some(
                    "write `reconstruction(online.pixels, views.online, mask: online.mask, patch_size)`".to_owned(),
                ),
                _ => None,
            };
            Diagnostic::new(Code::WrongType, what).label(value.span, "not this").maybe_help(view)
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
        spec.reconstructions = Some(ReconstructionsSpec { count: self.machine.check(count)?, every, view, source });
        Ok(())
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

/// Where the neighbours of one data set are asked for the classes of another: what they are called tells nothing.
fn other_classes(data: &DataSpec, knn: &KnnSpec, queries: Span, bank: Span) -> Option<Diagnostic> {
    let classes = |name: &str| data.source(name).and_then(SourceSpec::classes);
    let (asked, known) = (classes(&knn.queries)?, classes(&knn.bank)?);
    (asked != known).then(|| {
        let message = format!("`knn` asks for {asked} by neighbours that are labelled with {known}");
        Diagnostic::new(Code::OtherClasses, message)
            .label(queries, asked)
            .label(bank, known)
            .help("let `data.train` and `data.val` be of one data set, or leave `knn` out")
    })
}

/// The name that `expr` calls, where it is a call of one.
fn callee(expr: &Expr) -> Option<&str> {
    let ExprKind::Call(callee, _) = &expr.kind else { return None };
    match &callee.kind {
        ExprKind::Path(names) if names.len() == 1 => Some(&names[0].text),
        _ => None,
    }
}
