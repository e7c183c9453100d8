//! Studies as a user makes them, and the figures of what is fine-tuned in one.

use std::fs;
use std::path::Path;

use cmae::diag::{Diagnostics, render};
use cmae::run::study::Study;
use cmae::source::Sources;
use serde_json::Value;

use crate::command::{fail, root, run, succeed};
use crate::runs::{metrics, text};

/// Every pipeline of every study that comes with the program compiles with its overrides, and is laid out.
#[test]
fn the_shipped_studies_compile() {
    let mut studies = 0;
    for entry in fs::read_dir(root("pipelines/studies")).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_none_or(|extension| extension != "ron") {
            continue;
        }
        studies += 1;
        let study = Study::read(&path).unwrap_or_else(|error| panic!("{error}"));
        for cell in study.cells() {
            let file = match cell.pipeline.strip_prefix("std::") {
                Some(name) => root(&format!("pipelines/{name}.cmae")),
                None => path.with_file_name(&cell.pipeline),
            };
            let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
            let sets: Vec<_> = cell.sets.iter().map(|set| set.as_str().into()).collect();
            let compiled = cmae::compile(&mut sources, &mut diagnostics, &file, &sets);
            assert!(compiled.is_ok(), "{}:\n{}", cell.folder, render(diagnostics.list(), &sources, false));
        }
    }
    assert!(studies > 0, "there is one");
    succeed(&["fmt", "--check", "pipelines/studies"]);
}

/// What logits count is what the source has: that shows as a run opens its sources, not before.
#[test]
fn what_the_shipped_studies_fine_tune_takes_a_step() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for study in ["digits", "shapes"] {
        let file = format!("pipelines/studies/{study}/finetune.cmae");
        let out = folder.path().join(study);
        let short = ["train.epochs=0.1", "evaluate.classify.query_limit=16", "model.encoder.weights=none"];
        let sets = short.iter().flat_map(|set| ["--set", set]);
        let arguments = ["run", &file, "--out", text(&out), "--threads", "1"].into_iter().chain(sets);
        succeed(&arguments.collect::<Vec<_>>());
        the_classes_are_judged(&out);
    }
}

/// Two ways at a size for tests, a few steps each.
fn small(folder: &Path) -> String {
    let quickstart = root("pipelines/studies/digits/mae.cmae");
    let finetune = root("pipelines/studies/digits/finetune.cmae");
    let set = r#"["model.encoder.embed_dim=32", "model.encoder.depth=1", "data.batch_size=128", "train.epochs=0.3"]"#;
    let text = format!(
        r#"(
            about: "Is it the contrast?",
            seeds: [0, 1],
            set: {set},
            ways: [
                (name: "CMAE", pipeline: "std::quickstart"),
                (name: "MAE", pipeline: "{}"),
            ],
            finetune: Some((pipeline: "{}", module: "encoder", set: {set})),
        )"#,
        quickstart.display(),
        finetune.display(),
    );
    let path = folder.join("contrast.ron");
    fs::write(&path, text).expect("it can be written");
    path.display().to_string()
}

#[test]
fn a_study_ends_with_its_table_and_makes_nothing_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, out) = (small(folder.path()), folder.path().join("out"));
    let commands = succeed(&["study", &file, "--out", text(&out), "--commands"]);
    assert!(
        !out.exists() && commands.lines().filter(|line| line.starts_with("cmaec run ")).count() == 10,
        "{commands}"
    );

    let table = succeed(&["study", &file, "--out", text(&out)]);
    let rows: Vec<&str> = table.lines().map(|line| line.split("  ").next().unwrap_or_default().trim()).collect();
    for row in ["CMAE", "MAE", "from scratch", "untrained encoder", "raw pixels"] {
        assert!(rows.contains(&row), "{row}: {table}");
    }
    assert!(table.contains("kNN") && table.contains("fine-tuned top-1") && table.contains(" ± "), "{table}");
    for made in ["table.md", "report.html", "finished.ron", "cmae-1.safetensors", "scratch-finetuned-0/metrics.jsonl"] {
        assert!(out.join(made).is_file(), "{made}");
    }
    the_classes_are_judged(&out.join("mae-finetuned-1"));

    assert!(fail(&["study", &file, "--out", text(&out)]).contains("holds a study already"));
    let stamp = |run: &str| fs::metadata(out.join(run).join("metrics.jsonl")).and_then(|it| it.modified()).ok();
    let (before, kept) = (stamp("mae-0"), table.clone());
    let again = succeed(&["study", &file, "--out", text(&out), "--resume"]);
    assert!(stamp("mae-0") == before && again == kept, "{again}");
    // A run is one as any other.
    succeed(&["eval", "knn", text(&out.join("cmae-0"))]);
}

/// Figures of a classification in the metrics, the folder and the report.
fn the_classes_are_judged(run: &Path) {
    let lines = metrics(run);
    let last = lines.iter().rev().find_map(|line| line.get("evaluation")).expect("it was judged");
    let figure = |name: &str| last[name].as_f64().unwrap_or_else(|| panic!("{name}: {last}"));
    let (top1, top5) = (figure("classify_accuracy"), figure("classify_top5"));
    assert!((0.0..=top5).contains(&top1) && top5 <= 1.0 && figure("classify_cross_entropy") > 0.0, "{last}");
    let found = fs::read_to_string(run.join("classified.json")).expect("it was written");
    let found: Value = serde_json::from_str(&found).expect("it is JSON");
    let confusion = found["confusion"].as_array().expect("a list");
    let count = |entry: &Value| entry[2].as_u64().expect("pictures");
    let right: u64 = confusion.iter().filter(|entry| entry[0] == entry[1]).map(count).sum();
    let all: u64 = confusion.iter().map(count).sum();
    assert_eq!(Some(all), found["pictures"].as_u64());
    assert!((right as f64 / all as f64 - top1).abs() < 1e-12, "{right} of {all}: {top1}");
    let page = fs::read_to_string(run.join("report.html")).expect("a run writes it");
    assert!(page.contains(">confusion<") && page.contains(">reliability<"), "no figures of classes");
}

#[test]
fn logits_of_other_classes_are_an_error_before_the_first_step() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let pipeline = "pipelines/studies/digits/finetune.cmae";
    let (code, _, error) = run(&["run", pipeline, "--out", text(&out), "--set", "classes=7"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("logits of 7 classes, data.train has 10") && error.contains("--set classes=10"), "{error}");
    assert!(!out.join("metrics.jsonl").exists(), "nothing was trained");
}
