//! Schedules against the fixture's values, and their pieces at the edges.

use cmae::spec::{Duration, Schedule};
use serde_json::Value;

use crate::command::root;

fn fixture() -> Value {
    let text = std::fs::read_to_string(root("tests/golden/schedules.json")).expect("it is in the repository");
    serde_json::from_str(&text).expect("it is JSON")
}

fn number(entry: &Value, name: &str) -> f64 {
    entry[name].as_f64().expect("the entry has this number")
}

/// The file's tolerance: 1e-6 of the value.
fn agrees(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-6 * expected.abs() + 1e-15
}

fn values(entry: &Value) -> Vec<f64> {
    entry["values"].as_array().expect("a list").iter().map(|v| v.as_f64().expect("numbers")).collect()
}

#[test]
fn the_learning_rate_warms_up_and_falls_as_maes() {
    let entries = fixture();
    let entries = entries["learning_rate"].as_array().expect("a list");
    assert!(!entries.is_empty());
    for entry in entries {
        let schedule = Schedule::Cosine {
            peak: number(entry, "base"),
            end: number(entry, "minimum"),
            warmup: Duration::Epochs(number(entry, "warmup_epochs")),
            warmup_from: 0.0,
        };
        let steps_per_epoch = number(entry, "steps_per_epoch");
        let total = number(entry, "epochs") * steps_per_epoch;
        for (step, expected) in values(entry).into_iter().enumerate() {
            let found = schedule.at(step as f64, steps_per_epoch, total);
            assert!(agrees(found, expected), "step {step}: {found}, expected {expected}");
        }
    }
}

#[test]
fn the_momentum_rises_by_half_a_cosine() {
    let entries = fixture();
    for entry in entries["ema_momentum"].as_array().expect("a list") {
        let schedule = Schedule::Ramp { from: number(entry, "base"), to: number(entry, "end"), cosine: true };
        for (step, expected) in values(entry).into_iter().enumerate() {
            let found = schedule.at(step as f64, 1.0, number(entry, "total"));
            assert!(agrees(found, expected), "step {step}: {found}, expected {expected}");
        }
    }
}
