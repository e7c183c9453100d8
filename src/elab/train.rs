//! The `train` section. Its parameter rules are in [`super::rules`].

use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, listed, nearest, suggest};
use crate::source::Span;
use crate::spec::{
    Duration, MicroBatch, Optimizer, Precision, Recompute, Residual, Schedule, ShardOptimizer, TrainSpec,
};
use crate::syntax::ast::{Binding, Entry, Pipeline, SectionKind};

use super::misfit::wrong_type;
use super::scope::Scope;
use super::section::{sections, whole};
use super::settings::{as_duration, as_schedule};
use super::value::{Kind, Value};
use super::{Checked, Machine, foreign};

pub const KNOWN: [&str; 13] = [
    "epochs",
    "seed",
    "micro_batch",
    "optimizer",
    "learning_rate",
    "clip",
    "precision",
    "recompute",
    "residual",
    "shard_optimizer",
    "checkpoint_every",
    "keep",
    "log_every_steps",
];

/// The section's settings, and the places of those that are checked later.
pub(super) struct TrainSection {
    pub spec: TrainSpec,
    /// Of each rule, in order.
    pub rule_spans: Vec<Span>,
    /// Of the value of each setting, by name.
    pub setting_spans: Vec<(String, Span)>,
}

impl Machine<'_> {
    pub(super) fn train(&mut self, pipeline: &Pipeline, scope: &Rc<Scope>, batch_size: usize) -> Checked<TrainSection> {
        let mut spec = TrainSpec {
            epochs: 0.0,
            seed: 0,
            optimizer: Optimizer::AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: Schedule::Constant(0.0) },
            micro_batch: MicroBatch::Auto,
            learning_rate: Schedule::Constant(0.0),
            clip: None,
            rules: Vec::new(),
            precision: Precision::F32,
            recompute: Recompute::None,
            residual: Residual::Bf16,
            shard_optimizer: ShardOptimizer::Auto,
            checkpoint_every: Duration::Epochs(1.0),
            keep: 3,
            log_every_steps: 1,
        };
        let mut given: Vec<Arc<str>> = Vec::new();
        let (mut rule_spans, mut setting_spans) = (Vec::new(), Vec::new());
        let mut at = pipeline.name.span;
        for section in sections(pipeline, SectionKind::Train) {
            at = section.span;
            for entry in &section.entries {
                match entry {
                    Entry::Binding(binding) => {
                        let name = &*binding.name.text;
                        given.push(if KNOWN.contains(&name) {
                            name.into()
                        } else {
                            meant(name).unwrap_or(name).into()
                        });
                        setting_spans.push((binding.name.text.to_string(), binding.value.span));
                        let Ok(value) = self.eval(&binding.value, scope) else { continue };
                        if self.check_range("train", &binding.name.text, &value).is_err() {
                            continue;
                        }
                        let result = set(&mut spec, binding, &value, batch_size);
                        let _ = self.check(result);
                    }
                    Entry::Rule(rule) => {
                        if let Ok(rules) = self.rules(rule, scope, batch_size) {
                            rule_spans.extend(rules.iter().map(|_| rule.span));
                            spec.rules.extend(rules);
                        }
                    }
                    Entry::Expr(_) | Entry::Require(_) => {}
                }
            }
        }
        let needed = [
            ("epochs", "epochs = 300"),
            ("optimizer", "optimizer = adamw(betas: (0.9, 0.95), weight_decay: 0.05)"),
            ("learning_rate", "learning_rate = cosine(base: 1.5e-4, per: 256, warmup: 40 epochs)"),
        ];
        let missing = needed.iter().filter(|(name, _)| !given.iter().any(|g| &**g == *name));
        let (names, examples): (Vec<&str>, Vec<&str>) = missing.copied().unzip();
        if !names.is_empty() && self.unread.is_empty() {
            let (message, label) = if given.is_empty() && at == pipeline.name.span {
                (format!("the pipeline has no `train`, which says {}", listed(&names)), "missing in this pipeline")
            } else {
                (format!("`train` does not say {}", listed(&names)), "missing in this section")
            };
            let section = if at == pipeline.name.span {
                format!("train {{ {} }}", examples.join("  "))
            } else {
                examples.join("`, `")
            };
            let diagnostic = Diagnostic::new(Code::MissingSetting, message).label(at, label);
            self.diagnostics.push(diagnostic.help(format!("write `{section}`")));
        }
        Ok(TrainSection { spec, rule_spans, setting_spans })
    }
}

/// Sets what `binding`, whose value is `value`, names.
fn set(spec: &mut TrainSpec, binding: &Binding, value: &Value, batch_size: usize) -> Result<(), Diagnostic> {
    let name = &binding.name.text;
    let what = format!("`train.{name}`");
    let wrong = |wanted: &str| Err(wrong_type(&what, value, wanted));
    match (&**name, &value.kind) {
        ("epochs", _) => match value.number() {
            Some(n) => spec.epochs = n,
            None => return wrong("a number above zero"),
        },
        ("seed", Kind::Int(n)) if *n >= 0 => spec.seed = *n as u64,
        ("seed", _) => return wrong("a whole number from 0"),
        ("optimizer", Kind::Optimizer(optimizer)) => spec.optimizer = optimizer.clone(),
        ("optimizer", _) => return wrong("an optimizer such as adamw(…)"),
        ("learning_rate", _) => match as_schedule(value, batch_size) {
            Some(schedule) => spec.learning_rate = schedule,
            None => return wrong("a number or a schedule such as cosine(…)"),
        },
        ("clip", Kind::Clip(clip)) => spec.clip = Some(*clip),
        ("clip", Kind::None) => spec.clip = None,
        ("clip", _) => {
            let max = value.number().filter(|max| *max > 0.0);
            let help =
                max.map(|max| format!("write `global_norm({max})`, or `each_norm({max})` for each tensor by itself"));
            let wanted = "global_norm(…) or each_norm(…)";
            return Err(wrong_type(&what, value, wanted).maybe_help(help));
        }
        ("precision", Kind::Str(text)) if &**text == "f32" => spec.precision = Precision::F32,
        ("precision", Kind::Str(text)) if &**text == "f64" => spec.precision = Precision::F64,
        ("precision", Kind::Str(text)) if &**text == "bf16" => spec.precision = Precision::Bf16,
        ("precision", _) => return wrong("`f32`, `f64` or `bf16`"),
        ("recompute", Kind::None) => spec.recompute = Recompute::None,
        ("recompute", Kind::Str(text)) if &**text == "blocks" => spec.recompute = Recompute::Blocks,
        ("recompute", _) => {
            return Err(wrong_type(&what, value, "`none` or `blocks`").help("write `recompute = blocks`"));
        }
        ("micro_batch", Kind::Str(text)) if &**text == "auto" => spec.micro_batch = MicroBatch::Auto,
        ("micro_batch", _) => spec.micro_batch = MicroBatch::Of(divisor(&what, value, batch_size)?),
        ("accumulate", _) => return Err(accumulate(binding, value, batch_size)),
        ("residual", Kind::Str(text)) if &**text == "f32" => spec.residual = Residual::F32,
        ("residual", Kind::Str(text)) if &**text == "bf16" => spec.residual = Residual::Bf16,
        ("residual", _) => return wrong("`f32` or `bf16`"),
        ("shard_optimizer", Kind::Str(text)) if &**text == "auto" => spec.shard_optimizer = ShardOptimizer::Auto,
        ("shard_optimizer", Kind::Bool(true)) => spec.shard_optimizer = ShardOptimizer::Always,
        ("shard_optimizer", Kind::Bool(false)) => spec.shard_optimizer = ShardOptimizer::Never,
        ("shard_optimizer", _) => return wrong("`auto`, `true` or `false`"),
        ("checkpoint_every", _) => spec.checkpoint_every = as_duration(&what, value)?,
        ("keep", _) => spec.keep = whole(&what, value)?,
        ("log_every_steps", _) => spec.log_every_steps = whole(&what, value)?,
        _ => {
            return Err(Diagnostic::new(Code::UnknownSetting, format!("`train` has no setting `{name}`"))
                .label(binding.name.span, "not known")
                .maybe_help(misspelt(name).or_else(|| suggest(name, KNOWN))));
        }
    }
    Ok(())
}

/// The setting that a name which is none was meant for.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    foreign::argument(name, &KNOWN).or_else(|| nearest(name, KNOWN))
}

fn misspelt(name: &str) -> Option<String> {
    let elsewhere = |what: &str| Some(what.to_owned());
    match name {
        "batch_size" | "num_workers" | "dataset" => {
            elsewhere("write `batch_size = 256` in `data`; threads are the run's: `--threads 8`")
        }
        "weight_decay" | "betas" | "eps" | "momentum" => {
            elsewhere("it is the optimizer's: `optimizer = adamw(betas: (0.9, 0.95), weight_decay: 0.05)`")
        }
        "warmup" | "warmup_epochs" | "warmup_steps" | "min_lr" => {
            elsewhere("it is the schedule's: `learning_rate = cosine(base: 1.5e-4, warmup: 10%)`")
        }
        "wd" | "beta1" | "beta2" => misspelt("weight_decay"),
        "device" | "devices" | "gpus" | "accelerator" | "strategy" | "num_gpus" => {
            elsewhere("leave it out: devices are chosen as it is run, `cmaec run FILE --backend xla`")
        }
        "steps" | "max_steps" | "iterations" => {
            elsewhere("write `epochs = 300`: a run is as long as its epochs, which may be a part of one, such as `0.5`")
        }
        _ => meant(name).map(|meant| format!("did you mean `{meant}`?")),
    }
}

/// Samples of a micro-batch, of which a batch holds a whole number.
fn divisor(what: &str, value: &Value, batch_size: usize) -> Result<usize, Diagnostic> {
    let samples = whole(what, value)
        .map_err(|diagnostic| diagnostic.help("write `micro_batch = auto`, or a divisor of the batch"))?;
    if batch_size.is_multiple_of(samples) {
        return Ok(samples);
    }
    // The largest that is no larger, since memory is what it is set for.
    let fits = (1..=samples.min(batch_size)).rev().find(|fits| batch_size.is_multiple_of(*fits)).unwrap_or(1);
    Err(Diagnostic::new(
        Code::OutOfRange,
        format!("{what} is {samples}, which does not divide `data.batch_size` = {batch_size}"),
    )
    .label(value.span, "a batch is a whole number of micro-batches")
    .help(format!("write `micro_batch = {fits}`")))
}

/// What was written before the batch was the method's and the micro-batch the machine's.
fn accumulate(binding: &Binding, value: &Value, batch_size: usize) -> Diagnostic {
    let batch = |count: usize| batch_size.checked_mul(count).filter(|batch| u32::try_from(*batch).is_ok());
    let help = match whole("`train.accumulate`", value).ok().and_then(batch) {
        Some(batch) => format!(
            "write `data.batch_size = {batch}` and `train.micro_batch = {batch_size}`, or leave `micro_batch` to the machine"
        ),
        None => "write the whole batch as `data.batch_size`, and `train.micro_batch = auto`".to_owned(),
    };
    Diagnostic::new(
        Code::UnknownSetting,
        "`train` has no setting `accumulate`: `data.batch_size` is the whole batch of a step",
    )
    .label(binding.name.span, "not known")
    .help(help)
}
