//! Settings that are called: optimizers, clipping, schedules.

use crate::diag::{Code, Diagnostic, suggest};
use crate::spec::{Clip, Duration, End, Optimizer, Schedule, Tick};

use super::args::{Bag, Builtin};
use super::misfit::wrong_type;
use super::value::{Kind, Value};

/// Settings that are called; `knn`, `linear` and `reconstructions` are entries of `evaluate`.
pub const SETTINGS: &[Builtin] = &[
    Builtin { name: "adamw", params: &["betas?", "eps?", "weight_decay?"], make: adamw },
    Builtin { name: "sgd", params: &["momentum?", "weight_decay?", "nesterov?"], make: sgd },
    Builtin {
        name: "lars",
        params: &["momentum?", "weight_decay?", "trust_coefficient?", "eps?", "separate_norms?"],
        make: lars,
    },
    Builtin { name: "global_norm", params: &["max"], make: global_norm },
    Builtin { name: "each_norm", params: &["max"], make: each_norm },
    Builtin {
        name: "cosine",
        params: &["base", "per?", "warmup?", "warmup_from?", "end?", "over?", "by?"],
        make: cosine,
    },
    Builtin { name: "ramp", params: &["from", "to", "over?", "cosine?", "by?"], make: ramp },
    Builtin { name: "steps", params: &["base", "per?", "warmup?", "warmup_from?", "factor?", "at"], make: steps },
];

type Made = Result<Kind, Diagnostic>;

fn adamw(bag: &Bag) -> Made {
    let read = Read { callee: "adamw", bag };
    Ok(Kind::Optimizer(Optimizer::AdamW {
        betas: read.betas()?,
        eps: bag.float("eps", 1e-8)?,
        weight_decay: read.weight_decay()?,
    }))
}

fn sgd(bag: &Bag) -> Made {
    let read = Read { callee: "sgd", bag };
    let momentum = bag.float("momentum", 0.9)?;
    let nesterov = read.flag("nesterov", false)?;
    if let (true, 0.0, Some(value)) = (nesterov, momentum, bag.get("momentum")) {
        let message = "`nesterov` of `sgd` needs a momentum above zero, found 0";
        return Err(Diagnostic::new(Code::OutOfRange, message)
            .label(value.span, "no momentum")
            .help("write `momentum: 0.9`, or leave `nesterov` out"));
    }
    Ok(Kind::Optimizer(Optimizer::Sgd { momentum, nesterov, weight_decay: read.weight_decay()? }))
}

fn lars(bag: &Bag) -> Made {
    let read = Read { callee: "lars", bag };
    Ok(Kind::Optimizer(Optimizer::Lars {
        momentum: bag.float("momentum", 0.9)?,
        trust_coefficient: bag.float("trust_coefficient", 0.001)?,
        eps: bag.float("eps", 0.0)?,
        separate_norms: read.flag("separate_norms", false)?,
        weight_decay: read.weight_decay()?,
    }))
}

fn global_norm(bag: &Bag) -> Made {
    Ok(Kind::Clip(Clip::GlobalNorm(bag.float("max", 1.0)?)))
}

fn each_norm(bag: &Bag) -> Made {
    Ok(Kind::Clip(Clip::EachNorm(bag.float("max", 1.0)?)))
}

fn cosine(bag: &Bag) -> Made {
    let read = Read { callee: "cosine", bag };
    let end = match bag.get("end") {
        Some(Value { kind: Kind::Ratio(share), .. }) => End::OfPeak(*share),
        _ => End::Value(bag.float("end", 0.0)?),
    };
    read.per(Schedule::Cosine {
        peak: bag.float("base", 0.0)?,
        end,
        warmup: read.duration("warmup", Duration::Steps(0.0))?,
        warmup_from: read.share("warmup_from")?,
        over: read.duration("over", Duration::Share(1.0))?,
        by: read.tick()?,
    })
}

fn ramp(bag: &Bag) -> Made {
    let read = Read { callee: "ramp", bag };
    Ok(Kind::Schedule(Schedule::Ramp {
        from: bag.float("from", 0.0)?,
        to: bag.float("to", 0.0)?,
        cosine: read.flag("cosine", true)?,
        over: read.duration("over", Duration::Share(1.0))?,
        by: read.tick()?,
    }))
}

fn steps(bag: &Bag) -> Made {
    let read = Read { callee: "steps", bag };
    let at = match bag.get("at") {
        Some(Value { kind: Kind::List(items), .. }) => {
            items.iter().map(|item| as_duration("`at` of `steps`", item)).collect::<Result<_, _>>()?
        }
        Some(value) => {
            let wrong = wrong_type("`at` of `steps`", value, "a list such as [700 epochs]");
            return Err(wrong.maybe_help(as_duration("", value).is_ok().then(|| format!("write `[{value}]`"))));
        }
        None => Vec::new(),
    };
    read.per(Schedule::Steps {
        peak: bag.float("base", 0.0)?,
        warmup: read.duration("warmup", Duration::Steps(0.0))?,
        warmup_from: read.share("warmup_from")?,
        factor: bag.float("factor", 0.1)?,
        at,
    })
}

/// Arguments of one call; numbers lie in their ranges already.
struct Read<'a> {
    callee: &'a str,
    bag: &'a Bag,
}

impl Read<'_> {
    fn what(&self, name: &str) -> String {
        format!("`{name}` of `{}`", self.callee)
    }

    fn betas(&self) -> Result<(f64, f64), Diagnostic> {
        let Some(value) = self.bag.get("betas") else { return Ok((0.9, 0.999)) };
        match value.items() {
            Some([first, second]) => match (first.number(), second.number()) {
                (Some(a), Some(b)) => Ok((a, b)),
                _ => Err(wrong_type(&self.what("betas"), value, "two numbers such as (0.9, 0.95)")),
            },
            _ => Err(wrong_type(&self.what("betas"), value, "two numbers such as (0.9, 0.95)")),
        }
    }

    fn weight_decay(&self) -> Result<Schedule, Diagnostic> {
        match self.bag.get("weight_decay") {
            Some(value) => as_weight_decay(&self.what("weight_decay"), value),
            None => Ok(Schedule::Constant(0.0)),
        }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, Diagnostic> {
        match self.bag.get(name) {
            None => Ok(default),
            Some(Value { kind: Kind::Bool(flag), .. }) => Ok(*flag),
            Some(value) => Err(wrong_type(&self.what(name), value, "true or false")),
        }
    }

    fn duration(&self, name: &str, default: Duration) -> Result<Duration, Diagnostic> {
        self.bag.get(name).map_or(Ok(default), |value| as_duration(&self.what(name), value))
    }

    /// A share of the peak, as a ratio or a number.
    fn share(&self, name: &str) -> Result<f64, Diagnostic> {
        match self.bag.get(name) {
            Some(Value { kind: Kind::Ratio(share), .. }) => Ok(*share),
            _ => self.bag.float(name, 0.0),
        }
    }

    fn tick(&self) -> Result<Tick, Diagnostic> {
        match self.bag.get("by") {
            None => Ok(Tick::Step),
            Some(value) => match &value.kind {
                Kind::Str(text) if &**text == "step" => Ok(Tick::Step),
                Kind::Str(text) if &**text == "epoch" => Ok(Tick::Epoch),
                kind => {
                    let text = if let Kind::Str(text) = kind { text } else { "" };
                    let help = suggest(text, ["\"step\"", "\"epoch\""]);
                    Err(wrong_type(&self.what("by"), value, "\"step\" or \"epoch\"").maybe_help(help))
                }
            },
        }
    }

    /// A learning rate that is scaled, where the call says `per`, once the batch size is known: see [`as_schedule`].
    fn per(&self, schedule: Schedule) -> Result<Kind, Diagnostic> {
        match self.bag.get("per") {
            None => Ok(Kind::Schedule(schedule)),
            Some(_) => Ok(Kind::SchedulePer(schedule, self.bag.float("per", 256.0)?)),
        }
    }
}

/// The schedule of a value, its peak scaled by `batch_size / per` where it says `per`. `end: 1e-6` is no part of that:
/// methods that say "cosine to 1e-6" mean it at any batch size.
pub fn as_schedule(value: &Value, batch_size: usize) -> Option<Schedule> {
    match &value.kind {
        Kind::Schedule(schedule) => Some(schedule.clone()),
        Kind::SchedulePer(schedule, per) => Some(schedule.clone().scaled(batch_size as f64 / per)),
        _ => value.number().map(Schedule::Constant),
    }
}

/// A number or a schedule.
pub fn as_weight_decay(what: &str, value: &Value) -> Result<Schedule, Diagnostic> {
    match &value.kind {
        Kind::Schedule(schedule) => Ok(schedule.clone()),
        Kind::Int(n) => Ok(Schedule::Constant(*n as f64)),
        Kind::Float(n) => Ok(Schedule::Constant(*n)),
        kind => {
            let per = matches!(kind, Kind::SchedulePer(..));
            let help = per.then(|| "leave `per` out: weight decay hangs on no batch size".to_owned());
            Err(wrong_type(what, value, "a number or a schedule such as ramp(0.04, 0.4)").maybe_help(help))
        }
    }
}

pub fn as_duration(what: &str, value: &Value) -> Result<Duration, Diagnostic> {
    match value.kind {
        Kind::Duration(duration) => Ok(duration),
        Kind::Ratio(share) => Ok(Duration::Share(share)),
        Kind::Int(n) => Err(Diagnostic::new(Code::WrongUnit, format!("{what} wants a duration, found the number {n}"))
            .label(value.span, "no unit")
            .help(format!("write `{n} epochs` or `{n} steps`"))),
        Kind::Float(share) if share > 0.0 && share < 1.0 => {
            let ratio = Value::new(Kind::Ratio(share), value.span);
            Err(Diagnostic::new(Code::WrongUnit, format!("{what} wants a duration, found the number {share}"))
                .label(value.span, "no unit")
                .help(format!("write `{ratio}`, a share of the run, or `{share} epochs`")))
        }
        Kind::Float(n) if n >= 0.0 => {
            Err(Diagnostic::new(Code::WrongUnit, format!("{what} wants a duration, found the number {n}"))
                .label(value.span, "no unit")
                .help(format!("write `{n} epochs`")))
        }
        _ => Err(wrong_type(what, value, "a duration such as 40 epochs")),
    }
}
