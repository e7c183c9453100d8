//! The range of every setting that has one, in one table: plain numbers and all that a schedule passes through are held
//! against it where they are written.

use crate::diag::{Code, Diagnostic};
use crate::spec::{Duration, Schedule};

use super::value::{Kind, Value};
use super::{Checked, Machine};

/// Where numbers lie.
#[derive(Debug, Clone, Copy)]
enum Range {
    FromZero,
    AboveZero,
    /// Both ends count.
    Within(f64, f64),
    /// The upper end does not.
    Below(f64, f64),
}
use Range::{AboveZero, Below, FromZero, Within};

/// What is set by whom, within which range, and an example that fits. `train`, `parameters` are sections, `op::…` operations.
const RANGES: &[(&str, &str, Range, &str)] = &[
    ("adamw", "betas", Below(0.0, 1.0), "betas: (0.9, 0.95)"),
    ("adamw", "eps", FromZero, "eps: 1e-8"),
    ("adamw", "weight_decay", FromZero, "weight_decay: 0.05"),
    ("sgd", "momentum", Below(0.0, 1.0), "momentum: 0.9"),
    ("sgd", "weight_decay", FromZero, "weight_decay: 1e-4"),
    ("lars", "momentum", Below(0.0, 1.0), "momentum: 0.9"),
    ("lars", "weight_decay", FromZero, "weight_decay: 1e-6"),
    ("lars", "trust_coefficient", AboveZero, "trust_coefficient: 0.001"),
    ("lars", "eps", FromZero, "eps: 0"),
    ("global_norm", "max", AboveZero, "max: 1.0"),
    ("each_norm", "max", AboveZero, "max: 1.0"),
    ("cosine", "per", AboveZero, "per: 256"),
    ("cosine", "warmup", FromZero, "warmup: 10 epochs"),
    ("cosine", "warmup_from", FromZero, "warmup_from: 1%"),
    ("cosine", "over", AboveZero, "over: 30 epochs"),
    ("steps", "per", AboveZero, "per: 256"),
    ("steps", "warmup", FromZero, "warmup: 10 epochs"),
    ("steps", "warmup_from", FromZero, "warmup_from: 1%"),
    ("steps", "factor", AboveZero, "factor: 0.1"),
    ("steps", "at", FromZero, "at: [30 epochs, 60 epochs]"),
    ("ramp", "over", AboveZero, "over: 30 epochs"),
    ("ema", "momentum", Within(0.0, 1.0), "momentum: 0.996"),
    ("train", "epochs", AboveZero, "epochs = 300"),
    ("train", "learning_rate", FromZero, "learning_rate = cosine(base: 1.5e-4, warmup: 10%)"),
    ("train", "checkpoint_every", AboveZero, "checkpoint_every = 1 epochs"),
    ("parameters", "weight_decay", FromZero, "weight_decay = 0"),
    ("parameters", "learning_rate", FromZero, "learning_rate = 1e-4"),
    ("parameters", "learning_rate_factor", FromZero, "learning_rate_factor = 0.1"),
    ("parameters", "frozen_until", FromZero, "frozen_until = 1 epochs"),
    ("classify", "every", AboveZero, "every: 5 epochs"),
    ("classify", "query_limit", AboveZero, "query_limit: 10%"),
    ("knn", "temperature", AboveZero, "temperature: 0.07"),
    ("knn", "every", AboveZero, "every: 5 epochs"),
    ("knn", "bank_limit", AboveZero, "bank_limit: 50000"),
    ("knn", "query_limit", AboveZero, "query_limit: 10%"),
    ("knn", "baseline_limit", AboveZero, "baseline_limit: 50000"),
    ("linear", "every", AboveZero, "every: 5 epochs"),
    ("linear", "learning_rates", AboveZero, "learning_rates: [0.01, 0.1]"),
    ("linear", "weight_decays", FromZero, "weight_decays: [0, 1e-4]"),
    ("linear", "train_limit", AboveZero, "train_limit: 1%"),
    ("linear", "val_limit", AboveZero, "val_limit: 10%"),
    ("linear", "baseline_limit", AboveZero, "baseline_limit: 50000"),
    ("segment", "every", AboveZero, "every: 5 epochs"),
    ("segment", "query_limit", AboveZero, "query_limit: 10%"),
    ("reconstructions", "every", AboveZero, "every: 5 epochs"),
    ("shapes", "count", Within(1.0, 1e9), "count: 8000"),
    ("shapes", "size", Within(8.0, 1024.0), "size: 48px"),
    ("shapes", "classes", Within(2.0, 12.0), "classes: 10"),
    ("random_resized_crop", "scale", AboveZero, "scale: 20%..100%"),
    ("random_resized_crop", "ratio", AboveZero, "ratio: 0.75..1.33"),
    ("random_crop", "scale", AboveZero, "scale: 20%..100%"),
    ("random_crop", "ratio", AboveZero, "ratio: 0.75..1.33"),
    ("color_jitter", "brightness", FromZero, "brightness: 0.4"),
    ("color_jitter", "contrast", FromZero, "contrast: 0.4"),
    ("color_jitter", "saturation", FromZero, "saturation: 0.4"),
    ("color_jitter", "hue", Within(0.0, 0.5), "hue: 0.1"),
    ("gaussian_blur", "sigma", AboveZero, "sigma: 0.1..2.0"),
    ("solarize", "threshold", Within(1.0, 255.0), "threshold: 128"),
    ("rand_augment", "ops", Within(1.0, 16.0), "ops: 2"),
    ("rand_augment", "magnitude", FromZero, "magnitude: 9"),
    ("rand_augment", "bins", Within(2.0, 1000.0), "bins: 31"),
    ("random_erasing", "ratio", AboveZero, "ratio: 0.3..3.3"),
    ("random_erasing", "value", Within(0.0, 255.0), "value: 0"),
    ("normalize", "mean", Within(0.0, 1.0), "mean: 0.5"),
    ("normalize", "std", AboveZero, "std: 0.25"),
    ("normal", "std", FromZero, "std: 0.02"),
    ("trunc_normal", "std", FromZero, "std: 0.02"),
    // Drawn until a value lies inside: a cut of nothing would never end.
    ("trunc_normal", "cut", Within(0.1, f64::MAX), "cut: 2.0"),
    ("op::layer_norm", "eps", AboveZero, "eps: 1e-6"),
    ("op::batch_norm", "eps", AboveZero, "eps: 1e-5"),
    ("op::l2_normalize", "eps", AboveZero, "eps: 1e-12"),
];

impl Range {
    fn holds(self, number: f64) -> bool {
        number.is_finite()
            && match self {
                FromZero => number >= 0.0,
                AboveZero => number > 0.0,
                Within(low, high) => (low..=high).contains(&number),
                Below(low, high) => (low..high).contains(&number),
            }
    }

    /// What is wrong with a number that does not lie in it, and how it is told.
    fn broken(self, number: f64) -> String {
        match self {
            _ if !number.is_finite() => "no finite number".into(),
            FromZero => "below zero".into(),
            AboveZero => "not above zero".into(),
            Within(low, high) if high == f64::MAX => format!("below {low}"),
            Within(low, high) => format!("outside {low}..{high}"),
            Below(low, high) => format!("outside {low}..{high}, {high} left out"),
        }
    }
}

impl Machine<'_> {
    /// Holds the numbers of `value` against the range of the setting `name` of `owner`, if that has one.
    pub fn check_range(&mut self, owner: &str, name: &str, value: &Value) -> Checked<()> {
        let Some((_, _, range, example)) = RANGES.iter().find(|(o, n, ..)| *o == owner && *n == name) else {
            return Ok(());
        };
        let mut numbers = Vec::new();
        numbers_of(value, &mut numbers);
        let Some(number) = numbers.into_iter().find(|number| !range.holds(number.value)) else { return Ok(()) };
        let what = match owner {
            "train" => format!("`train.{name}`"),
            "parameters" => format!("`{name}` of a rule"),
            _ => format!("`{name}` of `{owner}`"),
        };
        let is = match number.point {
            Some(point) => format!("comes to {} by its `{point}`", number.shown),
            None => format!("is {}", number.shown),
        };
        let text = self.sources.slice(value.span);
        let help = match text.split_once('-') {
            // `20%-100%` is a difference.
            Some((low, high)) if example.contains("..") && !low.trim().is_empty() => {
                format!("a range has two dots: write `{}..{}`", low.trim(), high.trim())
            }
            _ => format!("write a number such as `{example}`"),
        };
        self.fail(
            Diagnostic::new(Code::OutOfRange, format!("{what} {is}, {}", range.broken(number.value)))
                .label(number.of.span, "out of range")
                .label(value.span, "in this")
                .help(help),
        )
    }
}

/// One number of a value.
struct Number<'v> {
    value: f64,
    shown: String,
    /// The value that holds it.
    of: &'v Value,
    /// What it is to a schedule.
    point: Option<&'static str>,
}

/// All numbers that a value holds or passes through; what else it holds is for its reader to judge.
fn numbers_of<'v>(value: &'v Value, found: &mut Vec<Number<'v>>) {
    let mut plain = |number: f64| {
        // A number that was taken for a schedule is shown as it was written.
        let shown = match value.kind {
            Kind::Schedule(_) => number.to_string(),
            _ => value.to_string(),
        };
        found.push(Number { value: number, shown, of: value, point: None });
    };
    match &value.kind {
        Kind::Int(n) | Kind::Pixels(n) => plain(*n as f64),
        Kind::Float(n) | Kind::Ratio(n) => plain(*n),
        Kind::Duration(Duration::Steps(n) | Duration::Epochs(n) | Duration::Share(n)) => plain(*n),
        Kind::Range(range) => {
            numbers_of(&range.0, found);
            numbers_of(&range.1, found);
        }
        Kind::Tuple(items) | Kind::List(items) => items.iter().for_each(|item| numbers_of(item, found)),
        Kind::Schedule(Schedule::Constant(number)) => plain(*number),
        Kind::Schedule(schedule) | Kind::SchedulePer(schedule, _) => {
            found.extend(schedule.points().into_iter().map(|(point, number)| Number {
                value: number,
                shown: number.to_string(),
                of: value,
                point: Some(point),
            }));
        }
        _ => {}
    }
}
