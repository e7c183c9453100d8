//! `cmaec inspect`: what stands in a run folder, a checkpoint, or a file of tensors.

use std::path::{Path, PathBuf};

use cmae::run::checkpoint;
use cmae::run::figures::{WALL_TIME, figures, step};
use cmae::run::inspect::{CheckpointReport, TensorReport, checkpoint as judge, figures as figures_of, tensors};
use cmae::run::{RunError, RunFolder, metrics};
use cmae::weights::guess::guess_alone;
use cmae::weights::{self, ForeignTensor, WeightsError};
use serde_json::{Map, Value, json};

use super::output::{out, outln};

/// Shows a run (steps, checkpoints and whether they are whole, last metrics), a checkpoint, or the tensors of a file, of PyTorch too, and whose
/// names they go by.
#[derive(clap::Args)]
pub struct Args {
    /// A run folder, a checkpoint's folder, a .safetensors file, or a checkpoint of PyTorch (.pth, .pt, .bin).
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Prints one line of JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Prints the metrics of a run as CSV: a row a step, a column a figure.
    #[arg(long)]
    csv: bool,
}

pub fn main(args: Args) -> Result<(), String> {
    let path = &args.path;
    let is_run = path.join("program.ron").is_file();
    if args.csv {
        if !is_run {
            return Err(format!(
                "`--csv` writes the metrics of a run, and {} is not a run folder: it has no program.ron",
                path.display()
            ));
        }
        return csv(path).map_err(|error| error.to_string());
    }
    let is_other = path.is_file() && path.extension().is_some_and(|extension| extension != "safetensors");
    let (found, show): (Result<Value, RunError>, fn(&Value)) = if is_run {
        (run(path), show_run)
    } else if path.join("state.ron").is_file() {
        (one_checkpoint(path), show_checkpoint)
    } else if is_other {
        (Ok(foreign(path)?), show_tensors)
    } else if path.is_dir() {
        return Err(format!(
            "{} is neither a run folder, which has a program.ron, nor a checkpoint, which has a state.ron (help: a run's \
             checkpoints are in RUN/checkpoints)",
            path.display()
        ));
    } else {
        (tensors(path).map(|tensors| json!({ "tensors": tensors.iter().map(tensor).collect::<Value>() })), show_tensors)
    };
    let found = found.map_err(|error| error.to_string())?;
    if args.json {
        outln!("{found}")
    } else {
        show(&found)
    }
    Ok(())
}

/// The tensors of another program's file, and whose names they go by.
fn foreign(path: &Path) -> Result<Value, String> {
    let told = |error: WeightsError| format!("{error}\nhelp: {}", error.help());
    let held = weights::open(path).map_err(told)?;
    let report = |held: &ForeignTensor| {
        let (figures, non_finite) = figures_of(held.dtype, &held.bytes()?);
        let (name, dtype, shape) = (held.name.clone(), held.dtype.to_string(), held.shape.clone());
        Ok(tensor(&TensorReport { name, dtype, shape, figures, non_finite }))
    };
    let tensors = held.iter().map(report).collect::<Result<Vec<Value>, WeightsError>>().map_err(told)?;
    let names = held.iter().map(|tensor| tensor.name.as_str()).collect();
    let scheme = guess_alone(&names)
        .map(|(scheme, count)| json!({ "scheme": scheme.name, "title": scheme.title, "tensors": count }));
    Ok(json!({ "tensors": tensors, "names": scheme }))
}

fn run(path: &Path) -> Result<Value, RunError> {
    let folder = RunFolder::open(path)?;
    let spec = folder.program()?.spec;
    let lines = lines(&folder)?;
    let last = |key: &str| lines.iter().rev().find(|line| line.get(key).is_some()).cloned().unwrap_or_default();
    let checkpoints = checkpoint::list(&folder)?;
    let checkpoints: Vec<Value> = checkpoints.iter().map(|(_, path)| checkpoint_json(&judge(path))).collect();
    let (metrics, evaluation) = (last("loss"), last("evaluation"));
    Ok(json!({
        "pipeline": spec.name,
        "step": metrics["step"].as_u64().unwrap_or(0),
        "epoch": metrics["epoch"].as_f64().unwrap_or(0.0),
        "epochs": spec.train.epochs,
        "checkpoints": checkpoints,
        "metrics": metrics,
        "evaluation": evaluation,
    }))
}

/// The lines of metrics; none where the run has not begun.
fn lines(folder: &RunFolder) -> Result<Vec<Value>, RunError> {
    let path = folder.metrics();
    if path.is_file() { metrics::read(&path) } else { Ok(Vec::new()) }
}

fn one_checkpoint(path: &Path) -> Result<Value, RunError> {
    let report = judge(path);
    let mut found = checkpoint_json(&report);
    for sum in report.state.iter().flat_map(|state| &state.files) {
        let tensors = tensors(&path.join(&sum.name))?;
        found["files"][&sum.name] = tensors.iter().map(tensor).collect();
    }
    Ok(found)
}

fn checkpoint_json(report: &CheckpointReport) -> Value {
    let mut found = json!({
        "name": report.name(),
        "bytes": report.bytes,
        "whole": report.fault.is_none(),
        "fault": report.fault,
    });
    if let (Some(state), Value::Object(entries)) = (&report.state, &mut found) {
        let state = json!({
            "pipeline": state.pipeline,
            "step": state.step,
            "seed": state.seed,
            "precision": state.precision,
            "backend": state.backend,
            "machine": state.machine,
            "version": state.version,
        });
        entries.extend(state.as_object().cloned().unwrap_or_default());
    }
    found
}

fn tensor(report: &TensorReport) -> Value {
    let mut found = json!({
        "name": report.name,
        "dtype": report.dtype,
        "shape": report.shape,
        "non_finite": report.non_finite,
    });
    let figures = report.figures;
    for (name, value) in [
        ("min", figures.map(|f| f.min)),
        ("max", figures.map(|f| f.max)),
        ("mean", figures.map(|f| f.mean)),
        ("norm", figures.map(|f| f.norm)),
    ] {
        found[name] = json!(value);
    }
    found
}

fn show_run(found: &Value) {
    outln!("pipeline    {}", text(&found["pipeline"]));
    outln!("step        {}", found["step"]);
    let number = |key: &str| found[key].as_f64().unwrap_or(0.0);
    outln!("epoch       {:.2} of {}", number("epoch"), number("epochs"));
    let checkpoints = found["checkpoints"].as_array().map_or(&[][..], Vec::as_slice);
    if checkpoints.is_empty() {
        outln!("checkpoints none");
    } else {
        outln!("checkpoints");
    }
    for checkpoint in checkpoints {
        outln!("  {}  {:>9}  {}", text(&checkpoint["name"]), size(&checkpoint["bytes"]), state_of(checkpoint));
    }
    for (title, line) in [("metrics", &found["metrics"]), ("evaluation", &found["evaluation"])] {
        let Some(step) = step(line) else { continue };
        outln!("{title} after step {step}");
        let figures = figures(line);
        let name = |figure: &cmae::run::figures::Figure<'_>| match title {
            // The title says it.
            "evaluation" => figure.name.to_owned(),
            _ => figure.path('.'),
        };
        let width = figures.iter().map(|figure| name(figure).len()).max().unwrap_or(0);
        figures.iter().for_each(|figure| outln!("  {:<width$}  {}", name(figure), short(figure.value)));
    }
}

fn show_checkpoint(found: &Value) {
    outln!("checkpoint  {}, {}, {}", text(&found["name"]), size(&found["bytes"]), state_of(found));
    for key in ["pipeline", "step", "seed", "precision", "backend", "machine", "version"] {
        if let Some(value) = found.get(key) {
            outln!("{key:<11} {}", text(value));
        }
    }
    for (file, tensors) in found["files"].as_object().into_iter().flatten() {
        outln!("{file}");
        table(tensors, "  ");
    }
}

fn show_tensors(found: &Value) {
    table(&found["tensors"], "");
    if let Some(names) = found.get("names").filter(|names| names.is_object()) {
        let all = found["tensors"].as_array().map_or(0, Vec::len);
        outln!("names   {}: {}, {} of {all} tensors", text(&names["scheme"]), text(&names["title"]), names["tensors"]);
    }
}

fn table(tensors: &Value, indent: &str) {
    let tensors = tensors.as_array().map_or(&[][..], Vec::as_slice);
    let name = |t: &Value| text(&t["name"]);
    let shape = |t: &Value| t["shape"].to_string().replace(',', ", ");
    let width = |of: &dyn Fn(&Value) -> String, title: &str| {
        tensors.iter().map(|t| of(t).chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let (names, shapes) = (width(&name, "tensor"), width(&shape, "shape"));
    let titles = ["min", "max", "mean", "norm", "non-finite"].map(|title| format!("{title:>11}")).concat();
    outln!("{indent}{:<names$}  {:<shapes$}  {:<5}{titles}", "tensor", "shape", "type");
    for t in tensors {
        let figure = |key: &str| t[key].as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.3e}"));
        let figures = ["min", "max", "mean", "norm"].map(|key| format!("{:>11}", figure(key))).concat();
        let dtype = text(&t["dtype"]).to_lowercase();
        outln!(
            "{indent}{:<names$}  {:<shapes$}  {dtype:<5}{figures}{:>11}",
            name(t),
            shape(t),
            t["non_finite"].to_string()
        );
    }
}

/// The metrics as RFC 4180 has it, but for line ends, which are those of every other output.
fn csv(path: &Path) -> Result<(), RunError> {
    let mut columns = vec![WALL_TIME.to_owned()];
    // One row a step, whatever the number of lines that tell of it.
    let mut rows: Vec<(u64, Map<String, Value>)> = Vec::new();
    for line in lines(&RunFolder::open(path)?)? {
        let Some(step) = step(&line) else { continue };
        if rows.last().is_none_or(|(last, _)| *last != step) {
            rows.push((step, Map::new()));
        }
        let Some((_, row)) = rows.last_mut() else { continue };
        if let Some(time) = line.get(WALL_TIME) {
            row.entry(WALL_TIME).or_insert(time.clone());
        }
        for figure in figures(&line) {
            let name = figure.path('.');
            if !columns.contains(&name) {
                columns.push(name.clone());
            }
            row.insert(name, number(figure.value));
        }
    }
    out!("step");
    columns.iter().for_each(|column| out!(",{}", quoted(column)));
    outln!();
    for (step, row) in rows {
        let cells: Vec<String> =
            columns.iter().map(|name| row.get(name).map_or_else(String::new, Value::to_string)).collect();
        outln!("{step},{}", cells.join(","));
    }
    Ok(())
}

/// Counts without a decimal point.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// A field of CSV. Values are numbers, which need no quotes.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn state_of(checkpoint: &Value) -> String {
    match checkpoint["fault"].as_str() {
        Some(fault) => format!("damaged: {fault}"),
        None => "whole".to_owned(),
    }
}

fn size(bytes: &Value) -> String {
    match bytes.as_u64().unwrap_or(0) {
        n @ 0..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        n @ 1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        n => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// Six digits, as many as tell a loss.
fn short(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (1e-3..1e7).contains(&size) => {
            let digits = (5 - libm::log10(size.max(1.0)).floor() as i32).max(0) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{quoted, short};

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quoted("losses.reconstruction"), "losses.reconstruction");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }

    #[test]
    fn figures_have_six_digits() {
        let shown = [0.575_123_4, 435.25, 0.0, 1.5e-6, 630.0].map(short);
        assert_eq!(shown, ["0.57512", "435.250", "0.00000", "1.500e-6", "630.000"]);
    }
}
