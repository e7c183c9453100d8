//! `cmaec show schedule`: what changes over a run, at even steps and wherever a schedule turns.

use cmae::data::loader::steps_per_epoch;
use cmae::data::source;
use cmae::graph::{InputKind, Program};
use cmae::spec::{Duration, ParameterRule, Schedule, Selector};

use super::output::outln;

/// Even steps that a run is shown in.
const STEPS: u32 = 20;
/// Letters of a schedule's plot.
const WIDTH: u32 = 60;

/// A heading, and the number below it over time.
type Column<'p> = (String, &'p Schedule);

pub fn show(program: &Program) -> Result<(), String> {
    let train = &program.spec.train;
    let columns = columns(program);
    let frozen: Vec<Duration> = train.rules.iter().filter_map(|rule| rule.frozen_until).collect();
    let turns: Vec<Duration> = columns.iter().flat_map(|(_, schedule)| schedule.turns()).chain(frozen).collect();
    // Only steps hang on the size of the data, which need not be here otherwise.
    let counts_steps = turns.iter().any(|turn| matches!(turn, Duration::Steps(n) if *n > 0.0));
    let per_epoch = if counts_steps { steps_of_data(program)? } else { 1.0 };
    let total = train.epochs * per_epoch;

    let even = (0..=STEPS).map(|row| train.epochs * f64::from(row) / f64::from(STEPS));
    let mut epochs: Vec<f64> = turns.iter().map(|turn| turn.steps(per_epoch, total) / per_epoch).chain(even).collect();
    epochs.retain(|epoch| *epoch <= train.epochs);
    epochs.sort_by(f64::total_cmp);
    epochs.dedup_by(|a, b| (*a - *b).abs() < 1e-9 * train.epochs);

    let width = |heading: &str| heading.chars().count().max(14);
    let heads: Vec<String> = columns.iter().map(|(name, _)| format!("  {name:>0$}", width(name))).collect();
    outln!("{:>8}{}", "epoch", heads.concat());
    for epoch in epochs {
        let value = |schedule: &Schedule| schedule.at(epoch * per_epoch, per_epoch, total);
        let cells = columns.iter().map(|(name, schedule)| format!("  {:>1$.6e}", value(schedule), width(name)));
        outln!("{epoch:>8.2}{}", cells.collect::<String>());
    }
    // The shape of each over the run, from its least to its most.
    let name_width = columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    outln!();
    for (name, schedule) in &columns {
        let place = |column: u32| total * f64::from(column) / f64::from(WIDTH - 1);
        let values: Vec<f64> = (0..WIDTH).map(|column| schedule.at(place(column), per_epoch, total)).collect();
        let (low, high) =
            values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
        let pad = " ".repeat(name_width - name.chars().count());
        match low < high {
            true => outln!("{name}{pad}  {}  {low:.3e} to {high:.3e}", bars(&values, low, high)),
            false => outln!("{name}{pad}  {low:.3e} throughout"),
        }
    }
    for rule in &train.rules {
        if let Some(until) = rule.frozen_until {
            let epoch = until.steps(per_epoch, total) / per_epoch;
            outln!("{} is not updated before epoch {epoch}", selected(rule));
        }
    }
    Ok(())
}

/// A column of eighths for each value.
fn bars(values: &[f64], low: f64, high: f64) -> String {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = |value: &f64| ((value - low) / (high - low) * 7.0).round() as usize;
    values.iter().map(|value| EIGHTHS[height(value).min(7)]).collect()
}

/// Learning rate, weight decay, momenta of averaged copies and scheduled numbers of the graph; of rules what is not one number.
fn columns(program: &Program) -> Vec<Column<'_>> {
    let train = &program.spec.train;
    let mut columns: Vec<Column<'_>> = vec![
        ("learning rate".to_owned(), &train.learning_rate),
        ("weight decay".to_owned(), train.optimizer.weight_decay()),
    ];
    columns.extend(program.emas.iter().map(|ema| (format!("momentum of {}", ema.name), &ema.momentum)));
    for rule in &train.rules {
        let own = |what: &str| format!("{what} of {}", selected(rule));
        columns.extend(rule.learning_rate.as_ref().map(|rate| (own("learning rate"), rate)));
        let decay = rule.weight_decay.as_ref().filter(|decay| !matches!(decay, Schedule::Constant(_)));
        columns.extend(decay.map(|decay| (own("weight decay"), decay)));
    }
    // Numbers of the graph itself, such as a temperature.
    for input in &program.train.inputs {
        if let InputKind::Schedule(schedule) = &input.kind
            && !matches!(schedule, Schedule::Constant(_))
        {
            columns.push((input.name.replacen("schedule.", "number of ", 1), schedule));
        }
    }
    columns
}

fn selected(rule: &ParameterRule) -> String {
    match &rule.selector {
        Selector::Roles(roles) => roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", "),
        Selector::Paths(paths) => paths.join(", "),
    }
}

/// Steps in one epoch of the training data.
fn steps_of_data(program: &Program) -> Result<f64, String> {
    let data = &program.spec.data;
    let spec = data.source("train").expect("the compiler checks that there is one");
    let steps = source::open(spec, data.channels, data.max_pixels)
        .and_then(|opened| steps_per_epoch(&*opened, "train", data.batch_size));
    steps.map(|steps| steps as f64).map_err(|error| {
        format!("a schedule counts steps, and how many an epoch has hangs on the training data: {error}")
    })
}
