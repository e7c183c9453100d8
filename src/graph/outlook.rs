//! What a run of these settings will not do, though its author hardly meant that: pictures that no batch takes, a warm-up that
//! never ends, a head that stays frozen.
//!
//! Before: a compiled [`Program`], and how many pictures `data.train` has where that is known. After: `check` and `run` warn.
//!
//! **Invariant:** every number that is told is the schedule's own, at the steps of such a run.

use crate::diag::Code;
use crate::spec::{Duration, Schedule, Selector, Tick};

use super::{InputKind, Program};

/// Share of the pictures of an epoch that may be left out without a word: the last batch is never whole.
const UNSEEN: f64 = 0.1;

/// One thing that hardly was meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Remark {
    pub code: Code,
    /// The setting, by its place's name: `data.train`, `train.learning_rate`, `train.parameters.0`, `model.momentum`, or that of a
    /// scheduled input.
    pub place: String,
    pub message: String,
    pub help: String,
}

/// The steps of a run.
#[derive(Clone, Copy)]
struct Run {
    epochs: f64,
    /// `None` where the pictures are not counted: then an epoch stands for a step wherever no duration counts steps.
    steps_per_epoch: Option<f64>,
}

/// A number over time, the place it was written at, and what to call it.
struct Scheduled<'p> {
    place: String,
    what: String,
    schedule: &'p Schedule,
}

/// Everything that is to be told of a run on `pictures` pictures.
pub fn outlook(program: &Program, pictures: Option<usize>) -> Vec<Remark> {
    let spec = &program.spec;
    let mut remarks = Vec::new();
    let mut run = Run { epochs: spec.train.epochs, steps_per_epoch: None };
    if let Some(pictures) = pictures {
        remarks.extend(unseen(program, pictures));
        let steps = pictures / spec.data.batch_size.max(1);
        if steps == 0 {
            return remarks;
        }
        run.steps_per_epoch = Some(steps as f64);
    }
    remarks.extend(rate_of_zero(&spec.train.learning_rate, run));
    for scheduled in scheduled(program) {
        remarks.extend(unfinished(&scheduled, run));
    }
    for (index, rule) in spec.train.rules.iter().enumerate() {
        let Some(until) = rule.frozen_until else { continue };
        let Some((end, _)) = run.clock(&[until]) else { continue };
        if run.steps(until).is_some_and(|steps| steps >= end) {
            let selected = match &rule.selector {
                Selector::Roles(roles) => roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", "),
                Selector::Paths(paths) => paths.join(", "),
            };
            remarks.push(Remark {
                code: Code::NeverThawed,
                place: format!("train.parameters.{index}"),
                message: format!(
                    "`{selected}` stays frozen: until {}, and the run has {}",
                    shown(until),
                    run.length(until)
                ),
                help: "write a time within the run, or run longer: `frozen_until = 1 epochs`".into(),
            });
        }
    }
    remarks
}

fn unseen(program: &Program, pictures: usize) -> Option<Remark> {
    let spec = &program.spec;
    let batch = spec.data.batch_size.max(1);
    let place = "data.train".to_owned();
    // Batches as even as they can be, none larger than asked for.
    let count = pictures.div_ceil(batch).max(1);
    let fitting = (pictures / count).max(1);
    let help = format!("write `data.batch_size = {fitting}`, which leaves out {}", pictures % fitting);
    let left = pictures % batch;
    if pictures < batch {
        let message = format!("an epoch has no step: `data.train` has {pictures} pictures, a batch takes {batch}");
        return Some(Remark { code: Code::NoStep, place, message, help });
    }
    let share = left as f64 / pictures as f64;
    (share >= UNSEEN).then(|| {
        let message = format!(
            "{left} of {pictures} pictures of `data.train` are in no batch of {batch}: an epoch leaves {:.1} % unseen",
            100.0 * share
        );
        Remark { code: Code::PicturesUnseen, place, message, help }
    })
}

/// Whole epochs, or the whole run, at a learning rate of zero.
fn rate_of_zero(rate: &Schedule, run: Run) -> Option<Remark> {
    let remark = |message: String, help: &str| {
        let (code, place) = (Code::RateOfZero, "train.learning_rate".to_owned());
        Some(Remark { code, place, message, help: help.to_owned() })
    };
    if rate.points().iter().all(|(_, value)| *value == 0.0) {
        return remark("the learning rate is 0: the run trains nothing".into(), "write `learning_rate = 1e-3`");
    }
    let (total, per_epoch) = match run.steps_per_epoch {
        Some(_) => run.clock(&rate.turns())?,
        // A rate that holds for an epoch is known without the number of its steps.
        None if rate.tick() == Tick::Epoch => run.clock(&rate.turns())?,
        None => return None,
    };
    let total_steps = total.round().max(1.0);
    let epochs = (total_steps / per_epoch).ceil() as u64;
    let idle = |epoch: &u64| {
        let (first, end) = (*epoch as f64 * per_epoch, ((epoch + 1) as f64 * per_epoch).min(total_steps));
        (first as u64..end as u64).all(|step| rate.at(step as f64, per_epoch, total) == 0.0)
    };
    let epoch = (0..epochs).find(idle)?;
    let steps = match run.steps_per_epoch {
        Some(steps) if steps.min(total_steps) == 1.0 => "in its only step".to_owned(),
        Some(steps) => format!("in all of its {} steps", steps.min(total_steps)),
        None => "from its start to its end".to_owned(),
    };
    remark(
        format!("epoch {} trains nothing: the learning rate is 0 {steps}", epoch + 1),
        "start above zero: `warmup_from: 10%`, or make more steps of an epoch by a smaller `data.batch_size`",
    )
}

/// All that changes over time.
fn scheduled(program: &Program) -> Vec<Scheduled<'_>> {
    let train = &program.spec.train;
    let of = |place: String, what: String, schedule| Scheduled { place, what, schedule };
    let mut all = vec![
        of("train.learning_rate".into(), "`train.learning_rate`".into(), &train.learning_rate),
        of("train.optimizer".into(), "`weight_decay` of `train.optimizer`".into(), train.optimizer.weight_decay()),
    ];
    for (index, rule) in train.rules.iter().enumerate() {
        let place = format!("train.parameters.{index}");
        let rates = rule.learning_rate.iter().map(|s| ("learning_rate", s));
        for (name, schedule) in rates.chain(rule.weight_decay.iter().map(|s| ("weight_decay", s))) {
            all.push(of(place.clone(), format!("`{name}` of a rule"), schedule));
        }
    }
    for ema in &program.emas {
        all.push(of(format!("model.{}", ema.name), format!("the momentum of `{}`", ema.name), &ema.momentum));
    }
    for input in &program.train.inputs {
        if let InputKind::Schedule(schedule) = &input.kind {
            let scope = input.name.strip_prefix("schedule.").unwrap_or(&input.name);
            all.push(of(input.name.clone(), format!("a number of `{scope}`"), schedule));
        }
    }
    all
}

/// Warm-ups, milestones and ends that lie behind the run's end.
fn unfinished(Scheduled { place, what, schedule }: &Scheduled<'_>, run: Run) -> Vec<Remark> {
    let Some((end, per_epoch)) = run.clock(&schedule.turns()) else { return Vec::new() };
    let late = |duration: Duration| run.steps(duration).is_some_and(|steps| steps > end);
    let reached = schedule.at(end, per_epoch, end);
    let remark = |code: Code, message: String, help: String| Remark { code, place: place.clone(), message, help };
    let mut remarks = Vec::new();
    if let Schedule::Cosine { peak, warmup, .. } | Schedule::Steps { peak, warmup, .. } = schedule
        && run.steps(*warmup).is_some_and(|steps| steps >= end)
    {
        remarks.push(remark(
            Code::WarmupUnfinished,
            format!(
                "the warm-up of {what} never ends: it takes {}, the run has {}, and {} of {} is reached",
                shown(*warmup),
                run.length(*warmup),
                figure(reached),
                figure(*peak)
            ),
            "write a share of the run: `warmup: 10%`".into(),
        ));
        return remarks;
    }
    match schedule {
        // A share above the whole run is written by who wants the end cut off.
        Schedule::Cosine { over, .. } | Schedule::Ramp { over, .. }
            if !matches!(over, Duration::Share(_)) && late(*over) =>
        {
            remarks.push(remark(
                Code::ScheduleUnfinished,
                format!(
                    "{what} never arrives: it takes {}, the run has {}, and ends at {} instead of {}",
                    shown(*over),
                    run.length(*over),
                    figure(reached),
                    figure(schedule.last())
                ),
                "leave `over` out for the whole run, or write a share of it: `over: 10%`".into(),
            ));
        }
        Schedule::Steps { at, .. } => {
            for milestone in at.iter().filter(|at| run.steps(**at).is_some_and(|steps| steps >= end)) {
                remarks.push(remark(
                    Code::NeverReached,
                    format!(
                        "{what} has a step at {} that never comes: the run has {}",
                        shown(*milestone),
                        run.length(*milestone)
                    ),
                    "write shares of the run: `at: [60%, 80%]`".into(),
                ));
            }
        }
        _ => {}
    }
    remarks
}

impl Run {
    /// (steps of the run, steps of an epoch) for durations like these; `None` where they count steps and an epoch's are not known.
    fn clock(self, durations: &[Duration]) -> Option<(f64, f64)> {
        let counts_steps = durations.iter().any(|duration| matches!(duration, Duration::Steps(n) if *n > 0.0));
        match self.steps_per_epoch {
            Some(steps) => Some(((self.epochs * steps).round().max(1.0), steps)),
            None if counts_steps => None,
            None => Some((self.epochs, 1.0)),
        }
    }

    fn steps(self, duration: Duration) -> Option<f64> {
        let (total, per_epoch) = self.clock(&[duration])?;
        Some(duration.steps(per_epoch, total))
    }

    /// The run's length in the unit of `duration`.
    fn length(self, duration: Duration) -> String {
        match (duration, self.clock(&[duration])) {
            (Duration::Steps(_), Some((total, _))) => format!("{total} steps"),
            _ => format!("{} epochs", self.epochs),
        }
    }
}

fn shown(duration: Duration) -> String {
    match duration {
        Duration::Steps(n) => format!("{n} steps"),
        Duration::Epochs(n) => format!("{n} epochs"),
        Duration::Share(share) => format!("{}% of the run", (share * 1e10).round() / 1e8),
    }
}

/// Two digits tell how far it got.
fn figure(value: f64) -> String {
    if (0.01..1000.0).contains(&value.abs()) { format!("{:.3}", value) } else { format!("{value:.1e}") }
}
