//! The numbers of a page as JSON, for its tooltips, for scripts and for tests.
//!
//! **Invariant:** values are the metrics' own, not rounded; what was not finite is null.

use serde_json::{Map, Value, json};

use super::charts::Named;
use super::curve::Curve;
use super::read::Run;

/// `{"version", "runs": [{"name", "status", …, "last": {key: value}, "curves": {key: {"step", "value"}}}]}`.
pub fn json(runs: &Named) -> Value {
    let runs: Vec<Value> = runs.iter().map(|(name, run)| of_run(name, run)).collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "runs": runs })
}

fn of_run(name: &str, run: &Run) -> Value {
    let spec = &run.program.spec;
    let last: Map<String, Value> =
        run.log.curves.iter().map(|c| (c.key.clone(), json!(c.last().map(|l| l.1)))).collect();
    let all = run.log.curves.iter().chain(run.schedules.iter().map(|schedule| &schedule.curve));
    let curves: Map<String, Value> = all.map(|curve| (curve.key.clone(), of_curve(curve))).collect();
    json!({
        "name": name,
        "path": run.path.display().to_string(),
        "pipeline": spec.name,
        "status": run.status.name(),
        "step": run.log.last_step,
        "total_steps": run.total_steps,
        "steps_per_epoch": run.log.steps_per_epoch,
        "epochs": spec.train.epochs,
        "seed": spec.train.seed,
        "damaged_lines": run.log.damaged,
        "last": last,
        "curves": curves,
    })
}

fn of_curve(curve: &Curve) -> Value {
    let thin = curve.thinned();
    json!({ "step": thin.steps, "value": thin.values })
}
