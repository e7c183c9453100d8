//! A pipeline's static sections: parameters, `data`, `views`, `model`, `export`; `train` is in [`super::train`].

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, Diagnostics, Reported, listed, nearest, suggest};
use crate::source::{Sources, Span};
use crate::spec::{DataSpec, EvaluateSpec, MAX_PIXELS, Spec};
use crate::syntax::ast::{Entry, Name, Pipeline, SectionKind};

use super::config::Set;
use super::index::SharedIndex;
use super::misfit::wrong_type;
use super::scope::Scope;
use super::section::{sections, whole};
use super::train::TrainSection;
use super::value::{Kind, Value};
use super::{Machine, foreign};

/// A pipeline whose static parts are evaluated; branches, losses and evaluation are still trees.
pub struct Bound<'a> {
    pub machine: Machine<'a>,
    pub scope: Rc<Scope>,
    pub pipeline: Pipeline,
    pub spec: Spec,
    /// Where the data sources were written, for errors about them, by name.
    pub source_spans: Vec<(String, Span)>,
    /// Where each parameter rule was written, in order.
    pub rule_spans: Vec<Span>,
    /// Where the values of `train`'s settings were written, by name.
    pub setting_spans: Vec<(String, Span)>,
}

/// Loads the pipeline in the file at `path`, applies `sets`, and evaluates its static sections.
pub fn elaborate<'a>(
    sources: &'a mut Sources,
    diagnostics: &'a mut Diagnostics,
    path: &Path,
    sets: &[Set],
) -> Result<Bound<'a>, Reported> {
    elaborate_into(sources, diagnostics, path, sets, None)
}

/// The same, and notes in `index` what stands where; the rest of it is filled in at the end of the next phase.
pub fn elaborate_into<'a>(
    sources: &'a mut Sources,
    diagnostics: &'a mut Diagnostics,
    path: &Path,
    sets: &[Set],
    index: Option<SharedIndex>,
) -> Result<Bound<'a>, Reported> {
    let mut machine = Machine::new(sources, diagnostics);
    machine.index = index;
    let (pipeline, scope) = match machine.find_pipeline(path, sets) {
        Ok(found) => found,
        Err(reported) => {
            machine.note_rest(None);
            return Err(reported);
        }
    };
    machine.outline = super::unknown::outline(&pipeline);
    machine.check_sections(&pipeline);
    machine.check_from(&pipeline);
    let params = machine.params(&pipeline, &scope);
    machine.set_training(true, pipeline.span);
    let (data, source_spans, sized) = machine.data(&pipeline, &scope);
    machine.views(&pipeline, &scope);
    machine.model(&pipeline, "", &scope);
    let train = machine.train(&pipeline, &scope, data.batch_size);
    let export = machine.export(&pipeline, &scope);
    // All that hangs on no error is checked all the same; on the size of a batch hangs every shape.
    let (Ok(TrainSection { spec: train, rule_spans, setting_spans }), true) = (train, sized) else {
        machine.note_rest(Some((&pipeline, &scope)));
        return Err(Reported);
    };
    let views = machine.views.iter().filter(|v| !v.spec.name.is_empty()).map(|v| v.spec.clone()).collect();
    let spec = Spec {
        name: pipeline.name.text.to_string(),
        params,
        data,
        views,
        train,
        evaluate: EvaluateSpec::default(),
        // Filled when all has been evaluated: an import is made where it is first read.
        imports: Vec::new(),
        weights: std::mem::take(&mut machine.weights),
        definitions: Vec::new(),
        export,
    };
    Ok(Bound { machine, scope, pipeline, spec, source_spans, rule_spans, setting_spans })
}

/// Name of the pipeline in the file at `path`.
pub fn name(sources: &mut Sources, diagnostics: &mut Diagnostics, path: &Path) -> Result<String, Reported> {
    let (pipeline, _) = Machine::new(sources, diagnostics).find_pipeline(path, &[])?;
    Ok(pipeline.name.text.to_string())
}

/// Settings of `data`; all other names are sources.
pub const SETTINGS: [&str; 5] = ["batch_size", "channels", "prefetch_batches", "max_broken", "max_pixels"];

/// What the shape of a batch hangs on.
const SIZES: [&str; 2] = ["batch_size", "channels"];

/// The setting that a name which is none was meant for.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    foreign::argument(name, &SETTINGS).or_else(|| nearest(name, SETTINGS))
}

impl Machine<'_> {
    /// Binds the pipeline's parameters; gives them as written after overrides.
    pub(super) fn params(&mut self, pipeline: &Pipeline, scope: &Rc<Scope>) -> Vec<(String, String)> {
        let mut params = Vec::new();
        for (name, expr) in &pipeline.params {
            let value = self.eval(expr, scope);
            let value = self.sole(name, value).unwrap_or(Value::new(Kind::Poison, expr.span));
            params.push((name.text.to_string(), value.to_string()));
            scope.define(name, value);
        }
        params
    }

    /// No section twice, no name twice within one.
    fn check_sections(&mut self, pipeline: &Pipeline) {
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        let mut declare = |machine: &mut Self, key: String, name: &str, span: Span| {
            // What goes by a section's name would hide it.
            if key == name && ["data", "views", "op", "training"].contains(&name) {
                machine.twice.insert(span);
                machine.diagnostics.push(
                    Diagnostic::new(Code::DuplicateName, format!("`{name}` means something else everywhere"))
                        .label(span, "taken")
                        .help(format!("give it another name, such as `my_{name}`")),
                );
            }
            if let Some(first) = seen.insert(key, span) {
                machine.twice.extend([first, span]);
                machine.diagnostics.push(
                    Diagnostic::new(Code::DuplicateName, format!("`{name}` is defined twice"))
                        .label(span, "again here")
                        .label(first, "first here")
                        .help("give one of them another name, or remove it"),
                );
            }
        };
        let mut top: Vec<(String, Span)> = Vec::new();
        for (name, _) in &pipeline.params {
            top.push((name.text.to_string(), name.span));
        }
        for section in &pipeline.sections {
            match &section.kind {
                SectionKind::Branch(name, _) => top.push((name.text.to_string(), name.span)),
                SectionKind::Model => {}
                _ => {
                    let word = self.sources.slice(section.span).to_owned();
                    declare(self, format!("section {word}"), &word, section.span);
                }
            }
            for entry in &section.entries {
                if let Entry::Binding(binding) = entry {
                    if section.kind == SectionKind::Model {
                        top.push((binding.name.text.to_string(), binding.name.span));
                    } else {
                        let key = format!("{:?}.{}", section.kind, binding.name.text);
                        declare(self, key, &binding.name.text, binding.name.span);
                    }
                }
            }
        }
        for (name, span) in top {
            declare(self, name.clone(), &name, span);
        }
    }

    /// The section, the places of its sources, and whether the shape of a batch is known.
    pub(super) fn data(&mut self, pipeline: &Pipeline, scope: &Rc<Scope>) -> (DataSpec, Vec<(String, Span)>, bool) {
        let mut spec = DataSpec {
            sources: Vec::new(),
            batch_size: 0,
            channels: 3,
            prefetch_batches: 4,
            max_broken: 0.01,
            max_pixels: MAX_PIXELS,
        };
        let mut spans = Vec::new();
        let mut record: Vec<(Arc<str>, Value)> = Vec::new();
        // Also those whose value is wrong: that is reported, and nothing is missing.
        let mut written: Vec<&str> = Vec::new();
        let mut sized = true;
        let mut at = pipeline.name.span;
        for section in sections(pipeline, SectionKind::Data) {
            at = section.span;
            for entry in &section.entries {
                let Entry::Binding(binding) = entry else { continue };
                let name = &binding.name.text;
                written.push(name);
                let is_setting = SETTINGS.contains(&&**name);
                if let (false, Some(path)) = (is_setting, self.unquoted_path(&binding.value, scope)) {
                    let value = Value::new(Kind::None, binding.value.span);
                    self.diagnostics.push(self.no_source(name, &path, &value));
                    record.push((name.clone(), Value::new(Kind::Poison, binding.name.span)));
                    continue;
                }
                let Ok(value) = self.eval(&binding.value, scope) else {
                    sized &= !SIZES.contains(&&**name);
                    record.push((name.clone(), Value::new(Kind::Poison, binding.name.span)));
                    continue;
                };
                let what = format!("`data.{name}`");
                let result = match (&**name, &value.kind) {
                    ("batch_size", _) => whole(&what, &value).map(|n| spec.batch_size = n),
                    ("channels", _) => channels(&what, &value).map(|n| spec.channels = n),
                    ("prefetch_batches", _) => whole(&what, &value).map(|n| spec.prefetch_batches = n),
                    ("max_broken", _) => super::args::as_ratio(&what, &value).map(|r| spec.max_broken = r),
                    ("max_pixels", _) => max_pixels(&what, &value).map(|n| spec.max_pixels = n),
                    (_, Kind::NewSource(source)) => {
                        spec.sources.push((name.to_string(), source.clone()));
                        spans.push((name.to_string(), binding.value.span));
                        Ok(())
                    }
                    (_, Kind::Builtin(source)) if !is_setting && meant(name).is_none() => {
                        let path = if &**source == "digits" || &**source == "shapes" { "train" } else { "data/train" };
                        let wrong = wrong_type(&what, &value, "a source of pictures");
                        Err(wrong.help(format!("write `{source}(\"{path}\")`")))
                    }
                    (_, Kind::Str(path)) if !is_setting && meant(name).is_none() => {
                        Err(self.no_source(name, path, &value))
                    }
                    _ => {
                        // What it was meant for is not missing, and not known.
                        if let Some(meant) = meant(name) {
                            written.push(meant);
                            sized &= !SIZES.contains(&meant);
                        }
                        let help = match &**name {
                            "num_workers" | "workers" | "pin_memory" | "shuffle" | "drop_last" | "persistent_workers" => Some(
                                "leave it out: the loader shuffles each epoch by the seed, and has threads of its own: `--threads 8`"
                                    .to_owned(),
                            ),
                            name => meant(name).map(|meant| format!("did you mean `{meant}`?")),
                        };
                        Err(Diagnostic::new(Code::UnknownSetting, format!("`data` has no setting `{name}`"))
                            .label(binding.name.span, "not a setting, and its value is no source")
                            .maybe_help(help.or_else(|| suggest(name, SETTINGS))))
                    }
                };
                let failed = self.check(result).is_err();
                sized &= !failed || !SIZES.contains(&&**name);
                let kind = match value.kind {
                    Kind::NewSource(_) => Kind::Source(name.clone()),
                    _ if failed => Kind::Poison,
                    other => other,
                };
                record.push((name.clone(), Value::new(kind, value.span)));
            }
        }
        if !written.contains(&"train") && self.unread.is_empty() {
            let diagnostic = Diagnostic::new(Code::MissingSetting, "the pipeline names no training data")
                .label(at, "`train` is missing")
                .help("write `data { train = image_folder(\"data/train\") … }`");
            self.diagnostics.push(diagnostic);
            record.push(("train".into(), Value::new(Kind::Poison, at)));
        }
        if !written.contains(&"batch_size") && self.unread.is_empty() {
            let diagnostic = Diagnostic::new(Code::MissingSetting, "the pipeline has no batch size")
                .label(at, "`batch_size` is missing")
                .help("write `batch_size = 256` in `data`");
            self.diagnostics.push(diagnostic);
            sized = false;
        }
        if !record.iter().any(|(n, _)| &**n == "channels") {
            record.push(("channels".into(), Value::new(Kind::Int(spec.channels as i64), at)));
        }
        if sized {
            self.check_colours(&spec, &spans);
        }
        let record = Value::new(Kind::Record(Rc::new(record)), at);
        scope.define(&Name { text: "data".into(), span: at }, record.clone());
        self.ambient.insert("data".into(), record);
        // It could not be read, or is missing, which has been told.
        sized &= spec.batch_size > 0;
        (spec, spans, sized)
    }

    /// Sources in colour whose pictures become gray, and gray ones that are computed with three times.
    fn check_colours(&mut self, spec: &DataSpec, spans: &[(String, Span)]) {
        for (has, are, turn) in [(3, "in colour", "they become gray"), (1, "gray", "each is repeated")] {
            if spec.channels == has || ![1, 3].contains(&spec.channels) {
                continue;
            }
            let others = spec.sources.iter().zip(spans).filter(|((_, source), _)| source.channels() == Some(has));
            let (names, places): (Vec<String>, Vec<Span>) =
                others.map(|((name, _), (_, span))| (format!("data.{name}"), *span)).unzip();
            if names.is_empty() {
                continue;
            }
            let message =
                format!("the pictures of {} are {are}, `data.channels` is {}: {turn}", listed(&names), spec.channels);
            let diagnostic = Diagnostic::new(Code::OtherColours, message);
            let labelled = places.into_iter().fold(diagnostic, |d, span| d.label(span, are));
            self.diagnostics.push(labelled.help(format!("write `channels = {has}` in `data`")));
        }
    }

    /// Channels of the pipeline's pictures.
    pub fn channels(&self) -> usize {
        let data = self.ambient.get("data").map(|v| &v.kind);
        let Some(Kind::Record(fields)) = data else { return 3 };
        let channels = fields.iter().find(|(n, _)| &**n == "channels").and_then(|(_, v)| v.whole());
        channels.map_or(3, |n| n as usize)
    }

    fn views(&mut self, pipeline: &Pipeline, scope: &Rc<Scope>) {
        let mut record: Vec<(Arc<str>, Value)> = Vec::new();
        let mut at = pipeline.name.span;
        // Views see each other by bare name, and all else of the pipeline.
        let inner = Scope::inside(scope);
        for section in sections(pipeline, SectionKind::Views) {
            at = section.span;
            for entry in &section.entries {
                let Entry::Binding(binding) = entry else { continue };
                let value = self.bind_view(binding, &inner);
                let value = self.sole(&binding.name, value);
                let value = value.unwrap_or(Value::new(Kind::Poison, binding.name.span));
                inner.define(&binding.name, value.clone());
                record.push((binding.name.text.clone(), value));
            }
        }
        scope.define(&Name { text: "views".into(), span: at }, Value::new(Kind::Record(Rc::new(record)), at));
    }

    /// Makes the modules of `model`; `prefix` stands before their paths.
    pub(super) fn model(&mut self, pipeline: &Pipeline, prefix: &str, scope: &Rc<Scope>) {
        for section in sections(pipeline, SectionKind::Model) {
            for entry in &section.entries {
                let Entry::Binding(binding) = entry else { continue };
                let bound = self.bind_definition(binding, prefix, scope);
                let name = &binding.name.text;
                if let Some(value @ Value { kind: Kind::None, .. }) = bound.is_ok().then(|| scope.own(name)).flatten() {
                    let wrong = wrong_type(&format!("`model.{name}`"), &value, "a module");
                    self.diagnostics
                        .push(wrong.help(format!("leave the definition out, or write `{name} = … when …`")));
                    scope.define(&binding.name, Value::new(Kind::Poison, binding.name.span));
                    continue;
                }
                let bound = bound.and_then(|()| self.begin_with(binding, prefix, scope));
                match bound {
                    Ok(()) if !self.twice.contains(&binding.name.span) => self.note_definition(binding, prefix, scope),
                    _ => scope.define(&binding.name, Value::new(Kind::Poison, binding.name.span)),
                }
            }
        }
    }

    fn export(&mut self, pipeline: &Pipeline, scope: &Rc<Scope>) -> Option<String> {
        let section = sections(pipeline, SectionKind::Export).next()?;
        let Some(Entry::Expr(expr)) = section.entries.first() else { return None };
        let value = self.eval(expr, scope).ok()?;
        match value.kind {
            Kind::Module(id) => Some(self.modules[id.0].path.clone()),
            _ => {
                let modules: Vec<String> =
                    super::section::model_definitions(pipeline).into_iter().map(|(name, _)| name).collect();
                let wrong = wrong_type("`export`", &value, "a module of `model`");
                let example = modules.first().filter(|_| wrong.help.is_none());
                let help = example.map(|module| format!("write `export = {module}`"));
                self.diagnostics.push(wrong.maybe_help(help));
                None
            }
        }
    }
}

/// Of hyperspectral cameras, some hundred.
fn channels(what: &str, value: &Value) -> Result<usize, Diagnostic> {
    const MOST: usize = 4096;
    match whole(what, value)? {
        n if n <= MOST => Ok(n),
        _ => Err(Diagnostic::new(Code::OutOfRange, format!("{what} is {value}, more than {MOST}"))
            .label(value.span, "out of range")
            .help("write `channels = 3`, or as many as your arrays have")),
    }
}

/// A side of 65,536 pixels: the memory that may be taken for one picture hangs on it.
fn max_pixels(what: &str, value: &Value) -> Result<usize, Diagnostic> {
    const MOST: usize = 1 << 32;
    match whole(what, value)? {
        n if n <= MOST => Ok(n),
        _ => Err(Diagnostic::new(Code::OutOfRange, format!("{what} is {value}, more than {MOST}"))
            .label(value.span, "out of range")
            .help(format!("write `max_pixels = {MAX_PIXELS}`, or leave it out"))),
    }
}
