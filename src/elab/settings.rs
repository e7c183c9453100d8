//! Settings that are called: sources, optimizers, schedules.

use crate::diag::{Code, Diagnostic};
use crate::spec::{Duration, Optimizer, Schedule, ShapesSpec, SourceSpec, Split};

use super::args::{Bag, wrong_type};
use super::value::{Kind, Value};

/// Names and parameters; `knn` and `reconstructions` are entries of `evaluate`.
pub const SETTINGS: &[(&str, &[&str])] = &[
    ("digits", &["split?"]),
    ("image_folder", &["path"]),
    (
        "shapes",
        &[
            "split?",
            "count?",
            "size?",
            "classes?",
            "color?",
            "position?",
            "scale?",
            "rotation?",
            "background?",
            "texture?",
        ],
    ),
    ("adamw", &["betas?", "eps?", "weight_decay?"]),
    ("cosine", &["base", "per?", "warmup?", "warmup_from?", "end?"]),
    ("ramp", &["from", "to", "cosine?"]),
];

pub fn call(name: &str, bag: &Bag) -> Result<Kind, Diagnostic> {
    Ok(match name {
        "digits" => {
            let split = match split(name, bag)? {
                Split::Train => "train",
                Split::Val => "val",
            };
            Kind::NewSource(SourceSpec::Digits { split: split.to_owned() })
        }
        "shapes" => Kind::NewSource(SourceSpec::Shapes(shapes(bag)?)),
        "image_folder" => {
            let path = bag.string("path")?.map_or_else(String::new, |p| p.to_string());
            Kind::NewSource(SourceSpec::ImageFolder { path })
        }
        "adamw" => {
            let betas = match bag.get("betas") {
                None => (0.9, 0.999),
                Some(value) => match value.items() {
                    Some([first, second]) => match (first.number(), second.number()) {
                        (Some(a), Some(b)) if (0.0..1.0).contains(&a) && (0.0..1.0).contains(&b) => (a, b),
                        _ => return Err(wrong_type("`betas` of `adamw`", value, "two numbers in 0..1")),
                    },
                    _ => return Err(wrong_type("`betas` of `adamw`", value, "two numbers such as (0.9, 0.95)")),
                },
            };
            Kind::Optimizer(Optimizer::AdamW {
                betas,
                eps: bag.float("eps", 1e-8)?,
                weight_decay: bag.float("weight_decay", 0.0)?,
            })
        }
        "cosine" => {
            let warmup = match bag.get("warmup") {
                None => Duration::Steps(0.0),
                Some(value) => as_duration("`warmup` of `cosine`", value)?,
            };
            let schedule = Schedule::Cosine {
                peak: bag.float("base", 0.0)?,
                end: bag.float("end", 0.0)?,
                warmup,
                warmup_from: bag.float("warmup_from", 0.0)?,
            };
            match bag.get("per") {
                None => Kind::Schedule(schedule),
                // Scaled once the batch size is known: see `as_schedule`.
                Some(_) => Kind::SchedulePer(schedule, bag.float("per", 256.0)?),
            }
        }
        _ => Kind::Schedule(Schedule::Ramp {
            from: bag.float("from", 0.0)?,
            to: bag.float("to", 0.0)?,
            cosine: bag.get("cosine").is_none_or(|v| !matches!(v.kind, Kind::Bool(false))),
        }),
    })
}

fn split(source: &str, bag: &Bag) -> Result<Split, Diagnostic> {
    match (bag.get("split"), bag.string("split")?.as_deref()) {
        (None, _) | (_, Some("train")) => Ok(Split::Train),
        (_, Some("val")) => Ok(Split::Val),
        (Some(value), _) => Err(wrong_type(&format!("`split` of `{source}`"), value, "\"train\" or \"val\"")),
    }
}

fn shapes(bag: &Bag) -> Result<ShapesSpec, Diagnostic> {
    let split = split("shapes", bag)?;
    let spec = ShapesSpec {
        split,
        count: bag.count("count", if split == Split::Train { 8000 } else { 1000 })?,
        size: bag.size("size")?.unwrap_or((48, 48)),
        classes: bag.count("classes", 10)?,
        // At these a small encoder learns within minutes what raw pixels do not show: see docs/shapes.md.
        color: bag.ratio("color", 0.5)?,
        position: bag.ratio("position", 1.0)?,
        scale: bag.ratio("scale", 0.5)?,
        rotation: bag.ratio("rotation", 0.2)?,
        background: bag.ratio("background", 1.0)?,
        texture: bag.ratio("texture", 0.0)?,
    };
    let within = |name: &str, found: usize, low: usize, high: usize, unit: &str| match bag.get(name) {
        Some(value) if !(low..=high).contains(&found) => {
            let message = format!("`{name}` of `shapes` is {value}, outside {low}{unit}..{high}{unit}");
            let nearest = found.clamp(low, high);
            Err(Diagnostic::new(Code::OutOfRange, message)
                .label(value.span, "out of range")
                .help(format!("write `{name}: {nearest}{unit}`")))
        }
        _ => Ok(()),
    };
    // The loader numbers pictures by 32 bits; below 8 px a star is no star, above 1024 px nothing is gained.
    within("count", spec.count, 1, 1_000_000_000, "")?;
    within("size", spec.size.0.min(spec.size.1), 8, 1024, "px")?;
    within("size", spec.size.0.max(spec.size.1), 8, 1024, "px")?;
    within("classes", spec.classes, 2, 12, "")?;
    Ok(spec)
}

/// The schedule of a value, its numbers scaled by `batch_size / per` where it says `per`.
pub fn as_schedule(value: &Value, batch_size: usize) -> Option<Schedule> {
    match &value.kind {
        Kind::Schedule(schedule) => Some(schedule.clone()),
        Kind::SchedulePer(Schedule::Cosine { peak, end, warmup, warmup_from }, per) => {
            let factor = batch_size as f64 / per;
            let (peak, end) = (peak * factor, end * factor);
            Some(Schedule::Cosine { peak, end, warmup: *warmup, warmup_from: *warmup_from })
        }
        _ => value.number().map(Schedule::Constant),
    }
}

pub fn as_duration(what: &str, value: &Value) -> Result<Duration, Diagnostic> {
    match value.kind {
        Kind::Duration(duration) => Ok(duration),
        Kind::Ratio(share) => Ok(Duration::Share(share)),
        Kind::Int(n) => Err(Diagnostic::new(Code::WrongUnit, format!("{what} wants a duration, found the number {n}"))
            .label(value.span, "no unit")
            .help(format!("write `{n} epochs` or `{n} steps`"))),
        _ => Err(wrong_type(what, value, "a duration such as 40 epochs")),
    }
}
