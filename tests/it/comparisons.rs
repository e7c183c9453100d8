//! Comparisons of tensors, as the language writes them: on every backend 1 where they hold, 0 elsewhere.

use std::fs;

use serde_json::Value;

use crate::command::{root, succeed};
use crate::runs::{metrics, text};

/// Name, expression, and its mean. `d` of the branch is 1 on the diagonal of 64 × 64 and else 0, `i` counts to 63.
const COMPARED: [(&str, &str, f64); 9] = [
    ("less", "online.d < 1", 63.0 / 64.0),
    ("less_or_equal", "online.d <= 0", 63.0 / 64.0),
    ("greater", "online.d > 0", 1.0 / 64.0),
    ("greater_or_equal", "online.d >= 1", 1.0 / 64.0),
    ("equal", "online.d == 1", 1.0 / 64.0),
    ("unequal", "online.d != 1", 63.0 / 64.0),
    ("number_first", "0 < online.d", 1.0 / 64.0),
    ("of_ids", "online.i >= 16", 48.0 / 64.0),
    ("of_two", "online.i != online.i", 0.0),
];

#[test]
fn tensors_compare_by_all_six_on_every_backend() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let quickstart = fs::read_to_string(root("pipelines/quickstart.cmae")).expect("it is in the repository");
    let lines: String = COMPARED.iter().map(|(name, expr, _)| format!("    {name} = op::mean({expr})\n")).collect();
    let values = "    d = op::one_hot(op::iota(64), classes: 64)\n    i = op::iota(64)\n    query  =";
    let pipeline =
        quickstart.replacen("    query  =", values, 1).replacen("  monitor {", &format!("  monitor {{\n{lines}"), 1);
    assert!(pipeline.contains(values) && pipeline.contains(&lines), "{pipeline}");
    let path = folder.path().join("quickstart.cmae");
    fs::write(&path, &pipeline).expect("a temporary folder");
    for backend in ["cpu", "dfdx"] {
        let out = folder.path().join(backend);
        let few =
            ["--set", "train.epochs=0.04", "--set", "evaluate.knn=none", "--set", "evaluate.reconstructions=none"];
        let run = ["run", text(&path), "--out", text(&out), "--backend", backend, "--threads", "2"];
        succeed(&[&run[..], &few[..]].concat());
        let rows = metrics(&out);
        for (name, expr, mean) in COMPARED {
            let found = rows.iter().find_map(|row| held(row, name)).unwrap_or_else(|| panic!("{name}: {rows:?}"));
            assert!((found - mean).abs() < 1e-6, "{backend}: {expr} has the mean {found}, {mean} is right");
        }
    }
}

/// The number that goes by `name` anywhere in a row.
fn held(row: &Value, name: &str) -> Option<f64> {
    match row {
        Value::Object(fields) => {
            let own = fields.get(name).and_then(Value::as_f64);
            own.or_else(|| fields.values().find_map(|value| held(value, name)))
        }
        _ => None,
    }
}
