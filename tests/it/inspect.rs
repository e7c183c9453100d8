//! `cmaec inspect`: runs, checkpoints, files of tensors, and what is none of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{fail, run, succeed};
use crate::runs::{SMALL, metrics, text, with};

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(&with(&["inspect", "--json"], arguments))).expect("one line of JSON")
}

fn small_run(folder: &Path) -> std::path::PathBuf {
    let out = folder.join("run");
    succeed(&with(&SMALL, &["--out", text(&out)]));
    out
}

#[test]
fn a_run_and_its_checkpoints() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = small_run(folder.path());
    let found = json(&[text(&out)]);
    assert_eq!((&found["pipeline"], &found["step"]), (&"quickstart".into(), &20.into()));
    assert_eq!((&found["epoch"], &found["epochs"]), (&2.0.into(), &2.0.into()));
    let last = metrics(&out).into_iter().rfind(|line| line.get("loss").is_some()).expect("it was logged");
    assert_eq!(found["metrics"], last);
    let checkpoints = found["checkpoints"].as_array().expect("a list");
    assert_eq!(checkpoints.iter().map(|c| c["step"].as_u64()).collect::<Vec<_>>(), [Some(20), Some(16), Some(12)]);
    assert!(checkpoints.iter().all(|c| c["whole"] == true && c["bytes"].as_u64() > Some(10_000)), "{found}");
    let said = succeed(&["inspect", text(&out)]);
    for part in ["quickstart", "2.00 of 2", "step-00000020", "whole", "losses.reconstruction", "knn_accuracy"] {
        assert!(said.contains(part), "`{part}` is missing:\n{said}");
    }

    // A checkpoint, whose figures are those of its tensors.
    let newest = out.join("checkpoints/step-00000020");
    let found = json(&[text(&newest)]);
    assert_eq!((&found["whole"], &found["precision"]), (&true.into(), &"f32".into()));
    let bytes = fs::read(newest.join("model.safetensors")).expect("it is there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("it is whole");
    let tensors = found["files"]["model.safetensors"].as_array().expect("a list");
    assert_eq!(tensors.len(), file.names().len());
    for tensor in tensors {
        let view = file.tensor(tensor["name"].as_str().expect("a name")).expect("it is in the file");
        let values: Vec<f64> =
            view.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
        let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((tensor["norm"].as_f64().expect("finite") - norm).abs() <= 1e-9 * norm, "{tensor}");
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Numbers are read from JSON to the last digit but one.
        let found = tensor["max"].as_f64().expect("finite");
        assert!((found - max).abs() <= 1e-15 * max.abs() && tensor["non_finite"] == 0, "{max}: {tensor}");
        assert_eq!(tensor["shape"], view.shape().iter().copied().collect::<Value>());
    }
    let said = succeed(&["inspect", text(&newest.join("model.safetensors"))]);
    assert!(said.contains("encoder.blocks.0.attn.qkv.weight") && said.contains("[96, 32]"), "{said}");

    // Damage is named, in the run and in the checkpoint.
    let damaged = newest.join("optimizer.safetensors");
    let mut bytes = fs::read(&damaged).expect("it is there");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    fs::write(&damaged, &bytes).expect("it can be written");
    for path in [&out, &newest] {
        let said = succeed(&["inspect", text(path)]);
        assert!(said.contains("damaged: optimizer.safetensors has the checksum"), "{said}");
    }
    fs::remove_file(newest.join("state.ron")).expect("it is there");
    let said = succeed(&["inspect", text(&out)]);
    assert!(said.contains("damaged: state.ron"), "{said}");
}

#[test]
fn metrics_as_csv() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = small_run(folder.path());
    let table = succeed(&["inspect", text(&out), "--csv"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|n| *n == name).unwrap_or_else(|| panic!("no {name}: {table}"));
    assert_eq!((rows.len(), column("step")), (21, 0));
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
    let lines = metrics(&out);
    let lines: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    for (row, line) in rows[1..].iter().zip(&lines) {
        for (name, value) in [
            ("step", &line["step"]),
            ("wall_time", &line["wall_time"]),
            ("loss", &line["loss"]),
            ("losses.reconstruction", &line["losses"]["reconstruction"]),
            ("monitors.pairs.top1", &line["monitors"]["pairs.top1"]),
        ] {
            assert_eq!(row[column(name)].parse::<f64>().ok(), value.as_f64(), "{name}");
        }
    }
    let accuracy = column("evaluation.knn_accuracy");
    let filled: Vec<usize> = (1..rows.len()).filter(|row| !rows[*row][accuracy].is_empty()).collect();
    assert_eq!(filled, [20], "the last step is judged, and no other");
}

#[test]
fn what_cannot_be_inspected_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("notes.txt");
    fs::write(&file, "not tensors").expect("a temporary folder");
    let missing = folder.path().join("missing");
    for (path, parts) in [
        (folder.path(), ["program.ron", "state.ron"]),
        (&file, ["notes.txt", "neither a safetensors file nor a checkpoint of PyTorch"]),
        (&missing, ["cannot read", "missing"]),
    ] {
        let error = fail(&["inspect", text(path)]);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let error = fail(&["inspect", "--csv", text(&file)]);
    assert!(error.contains("--csv") && error.contains("not a run folder"), "{error}");
    let (code, _, _) = run(&["inspect", text(&file), "--csv", "--json"]);
    assert_eq!(code, 2);
    // Stopped before its first step.
    let begun = folder.path().join("begun");
    succeed(&with(&SMALL, &["--out", text(&begun), "--set", "train.epochs=0.1"]));
    fs::remove_file(begun.join("metrics.jsonl")).expect("it is there");
    fs::remove_dir_all(begun.join("checkpoints")).expect("it is there");
    assert!(succeed(&["inspect", text(&begun)]).contains("checkpoints none"));
    assert_eq!(succeed(&["inspect", text(&begun), "--csv"]), "step,wall_time\n");
    fs::write(begun.join("program.ron"), "(other: 1)").expect("it can be written");
    assert!(fail(&["inspect", text(&begun)]).contains("of another version"));
}
