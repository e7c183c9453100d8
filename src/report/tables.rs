//! Tables of a report: last figures, versions, settings.
//!
//! **Invariant:** a cell with a figure holds the metrics' own value in `data-value`, beside the rounded one for people.

use std::fmt::Write;

use super::axis::{figure, percent, short};
use super::chart::{colour, count};
use super::charts::{self, Named};
use super::curve::Curve;
use super::html::escape;
use super::names::name;
use super::read::Run;
use crate::run::settings;

/// Place of a figure in a table: what a run is judged by comes first. Others keep their order.
fn rank(key: &str) -> usize {
    // Behind all places of figures of an evaluation.
    const LAST: usize = 100;
    match (key.strip_prefix("evaluation/"), key) {
        (Some(name), _) => charts::place(name),
        (None, "loss") => LAST,
        (None, key) if key.starts_with("losses/") => LAST + 1,
        (None, key) if key.starts_with("monitors/") => LAST + 2,
        _ => LAST + 3,
    }
}

fn number(key: &str, value: f64) -> String {
    if name(key).1 == "share" { percent(value) } else { figure(value) }
}

/// A cell with a figure; empty where there is none.
fn cell(run: usize, key: &str, value: Option<f64>) -> String {
    match value {
        Some(value) => format!(
            "<td class=\"number\" data-run=\"{run}\" data-key=\"{}\" data-value=\"{value}\">{}</td>",
            escape(key),
            number(key, value)
        ),
        None => "<td class=\"number\">–</td>".to_owned(),
    }
}

/// Last, least and largest value of every curve of one run.
pub fn figures(run: &Run) -> String {
    let mut rows = String::new();
    let mut curves: Vec<&Curve> = run.log.curves.iter().collect();
    curves.sort_by_key(|curve| rank(&curve.key));
    for curve in curves {
        let Some((step, last)) = curve.last() else { continue };
        let finite = || curve.values.iter().copied().filter(|value| value.is_finite());
        let (least, largest) = (finite().fold(last, f64::min), finite().fold(last, f64::max));
        let _ = writeln!(
            rows,
            "<tr><th>{}</th>{}<td class=\"number\">{step}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            escape(&name(&curve.key).0),
            cell(0, &curve.key, Some(last)),
            number(&curve.key, least),
            number(&curve.key, largest),
        );
    }
    format!(
        "<div class=\"scroll\"><table id=\"figures\"><thead><tr><th>figure</th><td>last</td><td>at step</td><td>least</td>\
         <td>largest</td></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// Last figures of several runs, a column each.
pub fn side_by_side(runs: &Named) -> String {
    let heads: String = runs
        .iter()
        .enumerate()
        .map(|(at, (name, _))| format!("<td><i class=\"{}\"></i>{}</td>", colour(at), escape(name)))
        .collect();
    let mut rows = String::new();
    let mut row = |title: &str, cells: Vec<String>| {
        let _ = writeln!(rows, "<tr><th>{}</th>{}</tr>", escape(title), cells.concat());
    };
    let plain = |of: &dyn Fn(&Run) -> String| -> Vec<String> {
        runs.iter().map(|(_, run)| format!("<td class=\"number\">{}</td>", escape(&of(run)))).collect()
    };
    row("pipeline", plain(&|run| run.program.spec.name.clone()));
    row("status", plain(&|run| run.status.name().to_owned()));
    row("epochs", plain(&|run| format!("{} of {}", short(run.epoch()), short(run.program.spec.train.epochs))));
    row("steps", plain(&|run| steps(run)));
    row("batch", plain(&|run| run.program.spec.batch_text()));
    row("seed", plain(&|run| run.program.spec.train.seed.to_string()));
    row("trained parameters", plain(&|run| millions(run)));
    let mut keys: Vec<&String> = Vec::new();
    for curve in runs.iter().flat_map(|(_, run)| &run.log.curves) {
        if curve.is_drawn() && curve.key != "learning_rate" && !keys.contains(&&curve.key) {
            keys.push(&curve.key);
        }
    }
    keys.sort_by_key(|key| rank(key));
    for key in keys {
        let (title, _) = name(key);
        // Times jump from step to step: the middle one tells more than the last.
        if ["images_per_second", "step_time_ms", "data_wait_ms", "accelerator_idle"].contains(&key.as_str()) {
            let median = |run: &Run| {
                let median = run.curve(key).and_then(|curve| curve.median());
                median.map_or_else(|| "–".to_owned(), |median| number(key, median))
            };
            row(&format!("{title} (median)"), plain(&median));
            continue;
        }
        row(&title, runs.iter().enumerate().map(|(at, (_, run))| cell(at, key, run.log.last(key))).collect());
    }
    format!(
        "<div class=\"scroll\"><table id=\"figures\"><thead><tr><th></th>{heads}</tr></thead><tbody>\n{rows}</tbody></table>\
         </div>\n"
    )
}

/// Settings that differ between the runs.
pub fn differences(runs: &Named) -> String {
    let recorded = runs.iter().all(|(_, run)| !run.program.spec.definitions.is_empty());
    let flat = |(_, run): &(String, Run)| {
        let mut spec = run.program.spec.clone();
        if !recorded {
            // What one of them lacks tells nothing of the others.
            spec.definitions.clear();
        }
        settings::flat(&spec)
    };
    let all: Vec<Vec<(String, String)>> = runs.iter().map(flat).collect();
    let found = settings::differences(&all);
    let note = other_differences(runs, found.is_empty());
    if found.is_empty() {
        return note;
    }
    let heads: String = runs
        .iter()
        .enumerate()
        .map(|(at, (name, _))| format!("<td><i class=\"{}\"></i>{}</td>", colour(at), escape(name)))
        .collect();
    let mut rows = String::new();
    for (path, values) in found {
        let cells = values.iter().map(|value| match value {
            Some(value) => format!("<td><code>{}</code></td>", escape(value)),
            None => "<td>–</td>".to_owned(),
        });
        let _ = writeln!(rows, "<tr><th><code>{}</code></th>{}</tr>", escape(&path), cells.collect::<String>());
    }
    format!(
        "<div class=\"scroll\"><table id=\"differences\"><thead><tr><th>setting</th>{heads}</tr></thead><tbody>\n{rows}</tbody>\
         </table></div>\n{note}"
    )
}

/// What a table of settings cannot show: blocks and functions that are not the same, and runs that did not record all.
fn other_differences(runs: &Named, settings_agree: bool) -> String {
    let differ = runs.iter().any(|(_, run)| {
        let first = &runs[0].1.program;
        run.program.train != first.train || run.program.emas != first.emas
    });
    let mut notes = Vec::new();
    match (settings_agree, differ) {
        (false, _) => {}
        (true, true) => notes.push("All settings are the same, but the training graphs differ.".to_owned()),
        (true, false) => notes.push("All settings and the training graphs are the same.".to_owned()),
    }
    let older = |(name, run): &(String, Run)| run.program.spec.definitions.is_empty().then(|| escape(name));
    let older: Vec<String> = runs.iter().filter_map(older).collect();
    if !older.is_empty() {
        notes.push(format!(
            "What models, branches and losses are is not compared: not recorded by {}.",
            older.join(", ")
        ));
    }
    if notes.is_empty() { String::new() } else { format!("<p>{}</p>\n", notes.join(" ")) }
}

/// How the run was started, and on what.
pub fn versions(run: &Run) -> String {
    let spec = &run.program.spec;
    let unknown = || "not recorded".to_owned();
    let started = |of: &dyn Fn(&crate::run::Started) -> String| run.started.as_ref().map_or_else(unknown, of);
    let rows = [
        ("program", started(&|s| format!("cmaec {}", s.version))),
        ("backend", started(&|s| format!("{}, {}", s.backend, count(s.threads, "thread")))),
        ("precision", spec.train.precision.name().to_owned()),
        ("machine", started(&|s| s.machine.clone())),
        ("seed", spec.train.seed.to_string()),
        ("batch", spec.batch_text()),
        ("trained parameters", millions(run)),
        ("steps", steps(run)),
        ("newest checkpoint", run.saved.map_or_else(|| "none".to_owned(), |step| format!("step {step}"))),
        ("folder", run.path.display().to_string()),
    ];
    pairs("versions", rows.iter().map(|(name, value)| (*name, value.as_str())))
}

/// The pipeline's parameters as they came out.
pub fn params(run: &Run) -> String {
    pairs("params", run.program.spec.params.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn pairs<'a>(id: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let row = |(name, value): (&str, &str)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value));
    format!(
        "<div class=\"scroll\"><table id=\"{id}\"><tbody>\n{}</tbody></table></div>\n",
        rows.map(row).collect::<String>()
    )
}

fn millions(run: &Run) -> String {
    format!("{:.2} M", run.program.layout.trained_len as f64 / 1e6)
}

fn steps(run: &Run) -> String {
    match run.total_steps {
        Some(total) => format!("{} of {total}", run.log.last_step),
        None => run.log.last_step.to_string(),
    }
}
