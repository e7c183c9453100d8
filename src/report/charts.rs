//! Which charts a report has: the same for one run and for several.
//!
//! **Invariant:** every curve of the metrics is in one chart; what later versions log is a chart of its own.

use super::chart::{Chart, Level, Line, Style, count};
use super::names;
use super::read::Run;
use crate::run::metrics::evaluation_of;
use crate::spec::evaluate::title;
use crate::spec::{Judging, LinearSpec, Solver};

/// Figures of an evaluation beside accuracies that have a chart, a level in one, or a note below it, in the order of tables.
const OTHERS: [&str; 10] = [
    "chance",
    "effective_rank",
    "mean_cosine",
    "uniformity",
    "feature_std",
    "feature_std_uniform",
    "left_one_out",
    "bank_pictures",
    "query_pictures",
    "trained_on",
];

/// What an evaluation's own figures end with, whatever its name, in the order of tables.
const OF_ONE: [&str; 3] = ["_accuracy", "_accuracy_untrained", "_accuracy_raw_pixels"];

/// Place of a figure of an evaluation in tables: accuracies first, then what was tried for them, then [`OTHERS`].
pub fn place(name: &str) -> usize {
    let of_one = OF_ONE.iter().position(|end| name.ends_with(end));
    let tried = || name.contains("_accuracy_").then_some(OF_ONE.len());
    let other = || OTHERS.iter().position(|other| *other == name).map(|place| OF_ONE.len() + 1 + place);
    of_one.or_else(tried).or_else(other).unwrap_or(OF_ONE.len() + 1 + OTHERS.len())
}

/// Charts under one heading.
pub struct Section {
    pub title: &'static str,
    pub charts: Vec<Chart>,
}

/// Runs with the names that the page gives them.
pub type Named = [(String, Run)];

/// Sections that have something to show.
pub fn sections(runs: &Named) -> Vec<Section> {
    let monitors = keys(runs, "monitors/").into_iter().map(|key| {
        let title = key.trim_start_matches("monitors/").to_owned();
        chart(runs, &title, &key, "", Style::Smoothed)
    });
    let sections = [
        Section { title: "Losses", charts: losses(runs) },
        Section { title: "Evaluation", charts: evaluation(runs) },
        Section { title: "Monitors", charts: monitors.collect() },
        Section { title: "Optimisation", charts: optimisation(runs) },
        Section { title: "Speed", charts: speed(runs) },
    ];
    let drawn = |chart: &Chart| chart.lines.iter().any(|line| line.curve.is_drawn());
    let mut kept = Vec::new();
    for mut section in sections {
        section.charts.retain(drawn);
        if !section.charts.is_empty() {
            kept.push(section);
        }
    }
    kept
}

/// Keys that start with `prefix`, of any run, in the order of the metrics.
fn keys(runs: &Named, prefix: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for curve in runs.iter().flat_map(|(_, run)| &run.log.curves) {
        if curve.key.starts_with(prefix) && !found.contains(&curve.key) {
            found.push(curve.key.clone());
        }
    }
    found
}

/// One curve of each run that has it.
fn chart(runs: &Named, title: &str, key: &str, unit: &str, style: Style) -> Chart {
    let mut lines = Vec::new();
    for (at, (name, run)) in runs.iter().enumerate() {
        if let Some(curve) = run.curve(key) {
            let label = if runs.len() == 1 { "last".to_owned() } else { name.clone() };
            let steps_per_epoch = run.log.steps_per_epoch.unwrap_or(1.0);
            lines.push(Line { label, run: at, colour: at, curve: curve.clone(), steps_per_epoch, style });
        }
    }
    let windows: Vec<usize> = lines.iter().map(|line| line.curve.window()).filter(|&window| window > 1).collect();
    let note = match (style, windows.first(), windows.iter().max()) {
        (Style::Smoothed, Some(_), Some(window)) if runs.len() == 1 => {
            format!("mean of {window} logged steps over each")
        }
        _ => String::new(),
    };
    Chart { title: title.to_owned(), unit: unit.to_owned(), lines, note, ..Chart::default() }
}

fn losses(runs: &Named) -> Vec<Chart> {
    let mut names = keys(runs, "losses/");
    // Lines of JSON have names in the alphabet's order; the pipeline's says more.
    let order: Vec<String> =
        runs.iter().flat_map(|(_, run)| &run.program.train.losses).map(|(name, _)| name.clone()).collect();
    names.sort_by_key(|key| order.iter().position(|name| key.strip_prefix("losses/") == Some(name)));
    let mut charts = Vec::new();
    // The total of one loss is that loss.
    if names.len() != 1 {
        charts.push(chart(runs, "total", "loss", "", Style::Smoothed));
    }
    charts.extend(names.iter().map(|key| chart(runs, key.trim_start_matches("losses/"), key, "", Style::Smoothed)));
    charts
}

fn evaluation(runs: &Named) -> Vec<Chart> {
    let named = |name: &str, title: &str| chart(runs, title, &format!("evaluation/{name}"), "", Style::Dots);
    let judged = evaluations(runs);
    let mut charts: Vec<Chart> = judged.iter().map(|name| accuracy(runs, name)).collect();
    let mut rank = named("effective_rank", "effective rank of the features");
    let dims: Vec<usize> = runs.iter().filter_map(|(_, run)| Some(run.map.as_ref()?.dim)).collect();
    if let Some(dim) = dims.first().filter(|dim| dims.iter().all(|other| other == *dim)) {
        rank.note = format!("at most {dim}, their dimensions; near 1 they have collapsed (RankMe)");
    }
    let mut cosine = named("mean_cosine", "mean cosine between pictures");
    cosine.note = "near 1 features are all the same".to_owned();
    let mut uniformity = named("uniformity", "uniformity of the features");
    uniformity.note = "−4 where they are spread evenly, 0 where they are all the same (Wang & Isola 2020)".to_owned();
    let mut spread = named("feature_std", "standard deviation of the features");
    let even = common(runs, "feature_std_uniform").map(|value| Level { label: "spread evenly".to_owned(), value });
    spread.levels.extend(even);
    charts.extend([rank, cosine, uniformity, spread]);
    for key in keys(runs, "evaluation/") {
        let name = key.trim_start_matches("evaluation/");
        let of_one = |judged: &String| {
            let own = name.strip_prefix(judged.as_str());
            own.is_some_and(|own| own.starts_with("_accuracy") || own.ends_with("_pictures") || own == "_trained_on")
        };
        if !OTHERS.contains(&name) && !judged.iter().any(of_one) {
            let (title, unit) = names::name(&key);
            charts.push(Chart { percent: unit == "share", ..named(name, &title) });
        }
    }
    charts
}

/// Names of evaluations that have an accuracy, in the order of the file, those that are in none last.
fn evaluations(runs: &Named) -> Vec<String> {
    let keys = keys(runs, "evaluation/");
    let mut found: Vec<String> =
        keys.iter().filter_map(|key| evaluation_of(key.trim_start_matches("evaluation/")).map(str::to_owned)).collect();
    let of_files = || runs.iter().flat_map(|(_, run)| &run.program.spec.evaluate.evaluations);
    found.sort_by_key(|name| of_files().position(|known| known.name == *name).unwrap_or(usize::MAX));
    found
}

/// The accuracy of one evaluation over what it has to beat.
fn accuracy(runs: &Named, name: &str) -> Chart {
    let title = format!("{} accuracy", title(name));
    let mut found = chart(runs, &title, &format!("evaluation/{name}_accuracy"), "", Style::Dots);
    found.percent = true;
    let levels = [
        (format!("{name}_accuracy_raw_pixels"), "raw pixels"),
        (format!("{name}_accuracy_untrained"), "untrained encoder"),
    ];
    for (key, label) in levels.into_iter().chain([("chance".to_owned(), "chance")]) {
        found.levels.extend(common(runs, &key).map(|value| Level { label: label.to_owned(), value }));
    }
    let [(_, run)] = runs else { return found };
    found.lines.iter_mut().for_each(|line| line.label = "this run".to_owned());
    let known = run.program.spec.evaluate.evaluations.iter().find(|known| known.name == name);
    found.note = match known.map(|known| &known.how) {
        Some(Judging::Knn(spec)) => {
            let own = run.evaluation("left_one_out").map_or("", |_| "; leave one out: no picture votes for itself");
            if let [first, _, ..] = spec.k[..] {
                found.lines.iter_mut().for_each(|line| line.label = format!("k = {first}"));
            }
            // Of several the first goes on under the plain name; the others are lines beside it.
            for (at, k) in spec.k.iter().enumerate().skip(1) {
                let key = format!("evaluation/{name}_accuracy_k{k}");
                let others = chart(runs, &title, &key, "", Style::Dots).lines.into_iter();
                found.lines.extend(others.map(|line| Line { label: format!("k = {k}"), colour: at, ..line }));
            }
            let first = spec.k.first().copied().unwrap_or_default();
            format!("weighted kNN, k = {first}, temperature {}{own}", spec.temperature)
        }
        Some(Judging::Linear(LinearSpec { solver: Solver::Sgd { learning_rates, epochs, .. }, .. })) => {
            let last = run.evaluation(&format!("{name}_learning_rate"));
            let last = last.map_or_else(String::new, |rate| format!(", at the end {rate}"));
            let rates = count(learning_rates.len(), "learning rate");
            format!("the best of {rates}{last}; {} of SGD on frozen features", count(*epochs, "epoch"))
        }
        Some(Judging::Linear(LinearSpec { solver: Solver::Exact, .. })) => {
            "logistic regression on frozen features, converged".to_owned()
        }
        None => String::new(),
    };
    found
}

/// A figure that does not change, where all runs that have it agree.
fn common(runs: &Named, name: &str) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(|(_, run)| run.evaluation(name)).collect();
    let first = *values.first()?;
    values.iter().all(|value| (value - first).abs() < 1e-9).then_some(first)
}

fn optimisation(runs: &Named) -> Vec<Chart> {
    let mut titles: Vec<String> = Vec::new();
    for schedule in runs.iter().flat_map(|(_, run)| &run.schedules) {
        if !titles.contains(&schedule.title) {
            titles.push(schedule.title.clone());
        }
    }
    let mut charts = Vec::new();
    for title in titles {
        let mut planned = chart(runs, &title, &format!("schedule/{}", title.replace(' ', "_")), "", Style::Planned);
        // What was in force, over what is planned to the end.
        let logged = title == "learning rate";
        let key = if logged { "learning_rate".to_owned() } else { planned.lines[0].curve.key.clone() };
        let mut made = chart(runs, &title, &key, "", Style::Plain).lines;
        for line in &mut made {
            let last = runs[line.run].1.log.last_step;
            let until = line.curve.steps.partition_point(|&step| step <= last);
            line.curve.steps.truncate(until);
            line.curve.values.truncate(until);
        }
        let unfinished = runs.iter().any(|(_, run)| run.total_steps.is_some_and(|total| total > run.log.last_step));
        planned.note = if unfinished { "dashed: what the settings plan".to_owned() } else { String::new() };
        planned.lines.extend(made);
        charts.push(planned);
    }
    charts.push(chart(runs, "gradient norm", "gradient_norm", "before clipping", Style::Smoothed));
    charts
}

fn speed(runs: &Named) -> Vec<Chart> {
    let mut wait = chart(runs, "waiting for data", "data_wait_ms", "ms a step", Style::Smoothed);
    let note = "the loader was not ready".to_owned();
    wait.note = if wait.note.is_empty() { note } else { format!("{note}; {}", wait.note) };
    let mut idle = chart(runs, "accelerator idle", "accelerator_idle", "share", Style::Smoothed);
    let note = "it had no step to make".to_owned();
    idle.note = if idle.note.is_empty() { note } else { format!("{note}; {}", idle.note) };
    vec![
        chart(runs, "throughput", "images_per_second", "images/s", Style::Smoothed),
        chart(runs, "time of a step", "step_time_ms", "ms", Style::Smoothed),
        wait,
        idle,
        chart(runs, "memory", "memory_mb", "MB", Style::Plain),
    ]
}
