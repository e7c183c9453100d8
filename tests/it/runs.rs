//! Training runs as users make them: ended, killed, resumed, interrupted, gone wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cmae::run::checkpoint::sealed;
use serde_json::Value;

use crate::command::{cmaec, fail, run, succeed};
use crate::outputs::names;
use crate::pictures::write_folder;

/// The quickstart at a size for tests: 20 steps.
pub const SMALL: [&str; 14] = [
    "run",
    "pipelines/quickstart.cmae",
    "--set",
    "image_size=16px",
    "--set",
    "model.encoder.embed_dim=32",
    "--set",
    "model.encoder.depth=1",
    "--set",
    "data.batch_size=128",
    "--set",
    "train.epochs=2",
    "--set",
    "train.checkpoint_every=4 steps",
];

pub fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    base.iter().chain(more).copied().collect()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

pub fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("a run has metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Steps and losses of the metrics, without times.
pub fn losses(run: &Path) -> Vec<(u64, String)> {
    let entry = |line: &Value| {
        let what = line.get("losses").or(line.get("evaluation")).expect("a line holds one of both");
        (line["step"].as_u64().expect("each line has a step"), what.to_string())
    };
    metrics(run).iter().map(entry).collect()
}

fn checkpoints(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).expect("a run has checkpoints");
    entries.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned()).collect()
}

/// Bytes of the files of the newest checkpoint.
pub fn weights(run: &Path) -> [Vec<u8>; 2] {
    let last = fs::read_to_string(run.join("last")).expect("a run names its last checkpoint");
    let folder = run.join("checkpoints").join(last);
    ["model.safetensors", "optimizer.safetensors"].map(|f| fs::read(folder.join(f)).expect("a checkpoint has both"))
}

/// Starts a run, waits until `step` is in its metrics, and kills it.
pub fn killed_after(step: u64, arguments: &[&str], out: &Path) {
    let mut child = cmaec(arguments).stderr(std::process::Stdio::null()).spawn().expect("the binary is there");
    let start = Instant::now();
    loop {
        let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
        let reached = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if reached.filter_map(|line| line["step"].as_u64()).any(|s| s >= step) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "step {step} was not reached");
        assert!(child.try_wait().expect("it is ours").is_none(), "the run ended before step {step}");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL: no handler runs.
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
}

/// A run killed mid-epoch and resumed with another number of threads ends as one that was left alone.
pub fn survives_a_kill(base: &[&str], step: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    succeed(&with(base, &["--out", text(&whole), "--threads", "2"]));
    let arguments = with(base, &["--out", text(&broken), "--threads", "2"]);
    killed_after(step, &arguments, &broken);
    assert_ne!(fs::read_to_string(broken.join("last")).ok(), fs::read_to_string(whole.join("last")).ok());
    succeed(&with(base, &["--out", text(&broken), "--threads", "1", "--resume"]));
    assert!(weights(&whole) == weights(&broken), "the weights differ");
    assert_eq!(losses(&whole), losses(&broken));
    // A finished run that is resumed once more stays as it is.
    succeed(&with(base, &["--out", text(&broken), "--resume"]));
    assert!(weights(&whole) == weights(&broken), "resuming a finished run changed it");
}

#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    survives_a_kill(&SMALL, 14);
}

#[test]
fn so_does_one_in_bf16_with_another_optimizer_and_clipping() {
    let more = [
        "--set",
        "train.precision=bf16",
        "--set",
        "train.optimizer=lars(momentum: 0.8, weight_decay: ramp(0.01, 0.1))",
        "--set",
        "train.learning_rate=cosine(base: 0.5, per: 128, warmup: 10%, over: 125%)",
        "--set",
        "train.clip=global_norm(0.5)",
    ];
    let base = with(&SMALL, &more);
    survives_a_kill(&base, 10);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    succeed(&with(&base, &["--out", text(&out), "--set", "train.epochs=0.2"]));
    let lines = metrics(&out);
    let norms = lines.iter().filter(|line| line.get("loss").is_some()).map(|line| line["gradient_norm"].as_f64());
    let norms: Vec<Option<f64>> = norms.collect();
    assert!(norms.len() == 2 && norms.iter().all(|norm| norm.is_some_and(|norm| norm > 0.0)), "{norms:?}");
    let last = fs::read_to_string(out.join("last")).expect("a run names its last checkpoint");
    let bytes = fs::read(out.join("checkpoints").join(last).join("optimizer.safetensors")).expect("it was written");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is whole");
    assert!(tensors.names().iter().all(|name| name.starts_with("momentum.")), "{:?}", tensors.names());
}

/// Four micro-batches of 32 in the place of a batch of 128.
const ACCUMULATING: [&str; 4] = ["--set", "data.batch_size=128", "--set", "train.micro_batch=32"];

#[test]
fn so_does_one_that_accumulates() {
    survives_a_kill(&with(&SMALL, &ACCUMULATING), 10);
}

/// In f32 the two round apart, a few steps further than the last digit: losses of three steps agree to 1e-4.
#[test]
fn micro_batches_count_as_one_batch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    // Three steps of the eleven of an epoch.
    let short = with(&SMALL, &["--set", "train.epochs=0.28"]);
    succeed(&with(&short, &["--out", text(&whole)]));
    let (code, _, said) = run(&with(&with(&short, &ACCUMULATING), &["--out", text(&parts)]));
    assert!(code == 0 && said.contains("batches of 128 in 4 micro-batches of 32"), "{said}");
    let (whole, parts) = (metrics(&whole), metrics(&parts));
    let steps = |lines: &[Value]| -> Vec<Value> { lines.iter().filter(|l| l.get("loss").is_some()).cloned().collect() };
    let (whole, parts) = (steps(&whole), steps(&parts));
    assert_eq!((whole.len(), parts.len()), (3, 3));
    for (a, b) in whole.iter().zip(&parts) {
        for same in ["step", "epoch", "learning_rate"] {
            assert_eq!(a[same], b[same], "{a} {b}");
        }
        let (a, b) = (a["loss"].as_f64().expect("a number"), b["loss"].as_f64().expect("a number"));
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
    let summary = |more: &[&str]| {
        let sets = more.iter().skip(1).step_by(2).flat_map(|set| ["--set", set]).collect::<Vec<_>>();
        succeed(&with(&["show", "summary", "pipelines/quickstart.cmae"], &sets))
    };
    assert!(summary(&ACCUMULATING).contains("batch 128 in 4 micro-batches of 32"), "{}", summary(&ACCUMULATING));
}

#[test]
fn micro_batches_stay_those_of_the_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    // 1,400 digits.
    let error =
        fail(&with(&SMALL, &["--out", text(&out), "--set", "data.batch_size=1600", "--set", "train.micro_batch=32"]));
    for part in ["1400", "1600", "at most 1400", "data.train"] {
        assert!(error.contains(part), "`{part}` is missing: {error}");
    }
    let short = with(&SMALL, &["--set", "train.epochs=0.1", "--out", text(&out)]);
    succeed(&with(&short, &ACCUMULATING));
    let other = ["--set", "data.batch_size=128", "--set", "train.micro_batch=64", "--resume"];
    let error = fail(&with(&short, &other));
    let was = r#"train.micro_batch.Of was 32 and is 64"#;
    assert!(error.contains(was), "{error}");
    // Left to the machine, it is what the run was started with.
    succeed(&with(&short, &["--set", "data.batch_size=128", "--set", "train.micro_batch=auto", "--resume"]));
}

#[test]
fn a_step_of_micro_batches_that_is_not_finite_names_the_op() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let error = fail(&with(&with(&SMALL, &ACCUMULATING), &["--out", text(&out), "--set", "train.learning_rate=1e30"]));
    assert!(error.contains("is not finite") && error.contains("step "), "{error}");
    assert!(error.contains(" at "), "the op and its place are named: {error}");
}

#[test]
fn folders_of_other_versions_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let short = with(&SMALL, &["--set", "train.epochs=0.1", "--out", text(&out)]);
    succeed(&short);
    let last = fs::read_to_string(out.join("last")).expect("a run names its last checkpoint");
    let change = |path: &Path, from: &str, to: &str| {
        let old = fs::read_to_string(path).expect("a run has it");
        assert!(old.contains(from), "{from} is not in {}", path.display());
        fs::write(path, old.replace(from, to)).expect("it can be written");
        old
    };
    let refused = || {
        for arguments in [with(&short, &["--resume"]), vec!["eval", "knn", text(&out)]] {
            let error = fail(&arguments);
            assert!(error.contains("of another version of this program") && error.contains("--out"), "{error}");
        }
    };
    // As checkpoints were when AdamW was the only optimizer, but whole.
    let state = out.join("checkpoints").join(last).join("state.ron");
    let old = fs::read_to_string(&state).expect("a checkpoint has it");
    let (body, _) = old.rsplit_once("\n// blake3 ").expect("its checksum is its last line");
    fs::write(&state, sealed(&body.replace("slots:", "other:"))).expect("it can be written");
    refused();
    fs::write(&state, &old).expect("it can be written");
    change(&out.join("program.ron"), "weight_decay:Constant(0.05)", "weight_decay:0.05");
    refused();
}

#[test]
fn so_does_one_on_a_folder_of_pictures_of_every_kind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("pictures");
    write_folder(&data, 28);
    fs::write(data.join("rows/broken.jpg"), b"\xff\xd8\xff\xe0 not a picture").expect("a temporary folder");
    let source = format!("image_folder(\"{}\")", text(&data));
    let sets = [
        format!("data.train={source}"),
        format!("data.val={source}"),
        "data.channels=3".to_owned(),
        "data.max_broken=5%".to_owned(),
        "data.batch_size=16".to_owned(),
        "train.epochs=4".to_owned(),
        "views.online=master |> crop(image_size, at: (0px, 0px)) |> normalize(imagenet)".to_owned(),
        "views.target=master |> random_shift(image_size, by: 0px..max_shift) |> random_apply(80%, \
         color_jitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1)) |> random_grayscale(20%) |> \
         normalize(imagenet)"
            .to_owned(),
        "views.eval=resize(image_size) |> center_crop(image_size) |> normalize(imagenet)".to_owned(),
    ];
    let mut base = SMALL.to_vec();
    sets.iter().for_each(|set| base.extend(["--set", set.as_str()]));
    survives_a_kill(&base, 7);
    let out = folder.path().join("run");
    let (code, _, stderr) = run(&with(&base, &["--out", text(&out)]));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stderr.matches("broken.jpg is broken and passed over").count(), 1, "{stderr}");
    assert!(stderr.contains("1 picture broken"), "{stderr}");
    // Past the allowed share the run stops.
    let error = fail(&with(&base, &["--out", text(&out.join("strict")), "--set", "data.max_broken=0%"]));
    assert!(error.contains("broken.jpg") && error.contains("allowed share of 0"), "{error}");
}

#[test]
fn a_run_says_what_it_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let (code, stdout, stderr) = run(&with(&SMALL, &["--out", text(&out)]));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.trim(), text(&out), "the folder, for scripts");
    for part in ["untrained encoder", "raw pixels", "reconstruction", "contrastive", "images/s", "effective rank"] {
        assert!(stderr.contains(part), "`{part}` is missing:\n{stderr}");
    }
    let lines = metrics(&out);
    let first = &lines[0];
    for key in ["step", "epoch", "learning_rate", "loss", "losses", "monitors", "images_per_second", "data_wait_ms"] {
        assert!(first.get(key).is_some(), "`{key}` is missing: {first}");
    }
    // Two of the 20 steps are warm-up: what is told of a step is the rate that it was made with.
    let rates: Vec<f64> = lines.iter().filter_map(|line| line["learning_rate"].as_f64()).take(3).collect();
    assert_eq!(rates, [0.0, 7.5e-4, 1.5e-3]);
    let values: Vec<f64> = lines.iter().filter_map(|line| line["losses"]["reconstruction"].as_f64()).collect();
    assert!(values[values.len() - 1] < 0.8 * values[0], "the reconstruction does not get better: {values:?}");
    let kept: BTreeSet<String> = checkpoints(&out).into_iter().collect();
    let best = fs::read_to_string(out.join("best")).expect("a run names its best checkpoint");
    // Of 4, 8, …, 20; it was judged as it ended, or before that too.
    let newest = ["step-00000012", "step-00000016", "step-00000020"].map(str::to_owned);
    assert_eq!(kept, newest.into_iter().chain([best.clone()]).collect(), "older checkpoints are removed");
    let accuracy = |line: &&Value| line["evaluation"]["knn_accuracy"].as_f64();
    let judged: Vec<&Value> = lines.iter().filter(|line| accuracy(line).is_some()).collect();
    let top = judged.iter().filter_map(accuracy).fold(0.0, f64::max);
    let first = judged.iter().find(|line| accuracy(line) == Some(top)).expect("it is one of them");
    assert_eq!(best, format!("step-{:08}", first["step"].as_u64().expect("each line has a step")));
    assert!(fs::read_to_string(out.join("resolved.ron")).expect("settings").contains("batch_size: 128"));

    // What a run is for.
    let file = folder.path().join("encoder.safetensors");
    let said = succeed(&["export", text(&out), "-o", text(&file)]);
    assert!(said.contains("`encoder`"), "{said}");
    let bytes = fs::read(&file).expect("it was written");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is whole");
    let shape = |name: &str| tensors.tensor(name).expect("timm's name").shape().to_vec();
    assert_eq!(shape("patch_embed.proj.weight"), [32, 1, 4, 4]);
    assert_eq!(shape("blocks.0.attn.qkv.weight"), [96, 32]);
    assert_eq!(shape("pos_embed"), [1, 17, 32]);
    let encoder = folder.path().join("encoder");
    let said = succeed(&["export", text(&out), "-o", text(&encoder), "--format", "transformers"]);
    assert!(
        said.contains("transformers.ViTMAEForPreTraining.from_pretrained(") && said.contains("features = "),
        "{said}"
    );
    let card = fs::read_to_string(encoder.join("README.md")).expect("it was written");
    for part in [
        "| evaluation/knn_accuracy | ",
        "| losses/contrastive | ",
        "after 20 steps",
        "![Reconstructions](",
        "pipeline quickstart {",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let files: BTreeSet<String> = names(&encoder);
    let of_folder =
        ["README.md", "config.json", "model.safetensors", "preprocessor_config.json", "reconstructions.png"];
    assert_eq!(files, of_folder.map(str::to_owned).into());
    // Over what was written there before, and not beside what somebody keeps.
    succeed(&["export", text(&out), "-o", text(&encoder), "--format", "transformers", "--encoder-only"]);
    fs::write(encoder.join("notes.txt"), "mine").expect("it is ours");
    let error = fail(&["export", text(&out), "-o", text(&encoder), "--format", "transformers"]);
    assert!(error.contains("it holds notes.txt"), "{error}");
    let graph = folder.path().join("features.onnx");
    let said = succeed(&["export", text(&out), "-o", text(&graph)]);
    assert!(said.contains("pictures [batch, 1, 16, 16] to features [batch, 32]"), "{said}");
    let error = fail(&["export", text(&out), "-o", text(&graph), "--module", "encoder"]);
    assert!(error.contains("leave --module out"), "{error}");
    let file = folder.path().join("features.safetensors");
    let said = succeed(&["features", text(&out), "--data", "data.val", "-o", text(&file)]);
    let bytes = fs::read(&file).expect("it was written");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is whole");
    let features = tensors.tensor("features").expect("features").shape().to_vec();
    assert_eq!(features[1], 32, "{said}");
    assert_eq!(tensors.tensor("labels").expect("labels").shape(), [features[0]]);
    // kNN from the checkpoint is the last figure of the run.
    let figures: Value =
        serde_json::from_str(&succeed(&["eval", "knn", text(&out), "--json"])).expect("one line of JSON");
    let last = lines.iter().rev().find_map(|line| line.get("evaluation")).expect("a run ends with an evaluation");
    assert_eq!(figures["knn_accuracy"], last["knn_accuracy"]);
    assert_eq!(figures["knn_accuracy_untrained"], last["knn_accuracy_untrained"]);
}

/// Nothing is learned at a rate of 0, so that all evaluations are alike.
#[test]
fn the_first_of_equally_good_checkpoints_is_the_best() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let still = ["--set", "train.learning_rate=0", "--set", "train.epochs=0.75", "--set", "evaluate.knn.every=4 steps"];
    succeed(&with(&with(&SMALL, &still), &["--out", text(&out)]));
    let accuracies: Vec<f64> =
        metrics(&out).iter().filter_map(|line| line["evaluation"]["knn_accuracy"].as_f64()).collect();
    assert!(accuracies.len() == 2 && accuracies[0] == accuracies[1], "{accuracies:?}");
    assert_eq!(fs::read_to_string(out.join("best")).expect("a run names it"), "step-00000004");
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let short = with(&SMALL, &["--set", "train.epochs=0.1", "--out", text(&out)]);
    // Nothing there to resume: it starts afresh.
    succeed(&with(&short, &["--resume"]));
    let error = fail(&short);
    assert!(error.contains("--resume") && error.contains("--out"), "{error}");
    let error = fail(&with(&short, &["--resume", "--set", "model.encoder.depth=2"]));
    assert!(error.contains("cannot go on with these settings: `encoder.blocks.1."), "{error}");
}

#[test]
fn a_resumed_run_says_what_changed_and_goes_on_when_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let short = with(&SMALL, &["--out", text(&out)]);
    succeed(&with(&short, &["--set", "train.epochs=0.3"]));
    let other = ["--set", "train.epochs=0.5", "--set", "train.seed=7", "--resume"];
    let error = fail(&with(&short, &other));
    for part in ["train.epochs was 0.3 and is 0.5", "train.seed was 0 and is 7", "--accept-changes", "--out"] {
        assert!(error.contains(part), "`{part}` is missing: {error}");
    }
    // Of what is no setting, the definition is told.
    let half = "losses.contrastive=0.5 * info_nce(online.query, target.key, temperature)";
    let error = fail(&with(&short, &["--set", "train.epochs=0.3", "--set", half, "--resume"]));
    for part in ["losses.contrastive was contrast_weight * info_nce(", "and is 0.5 * info_nce("] {
        assert!(error.contains(part), "`{part}` is missing: {error}");
    }
    let (code, _, said) = run(&with(&with(&short, &other), &["--accept-changes"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning: going on although train.seed was 0 and is 7"), "{said}");
    assert!(said.contains("resuming after step 3"), "{said}");
    // From now on these are its settings.
    succeed(&with(&short, &other));
    // What evaluates may change as it likes.
    succeed(&with(&with(&short, &other), &["--set", "evaluate.knn.k=5"]));
    let error = fail(&["eval", "knn", text(&out), "--checkpoint", "step-7"]);
    assert!(error.contains("has no checkpoint `step-7` (help: it has step-"), "{error}");
    let best = succeed(&["eval", "knn", text(&out), "--checkpoint", "best", "--json"]);
    assert!(best.contains("knn_accuracy"), "{best}");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out)]);
    succeed(&arguments);
    let whole = weights(&out);
    let last = fs::read_to_string(out.join("last")).expect("a run names its last checkpoint");
    let damaged = out.join("checkpoints").join(&last).join("model.safetensors");
    let mut bytes = fs::read(&damaged).expect("a checkpoint has a model");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, &bytes).expect("it can be written");
    let (code, _, stderr) = run(&with(&arguments, &["--resume"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains(&last) && stderr.contains("damaged"), "{stderr}");
    assert!(weights(&out) == whole, "trained again from the one before, the bytes are the same");
    let left = checkpoints(&out);
    assert!(!left.is_empty());
    left.iter()
        .for_each(|name| fs::remove_file(out.join("checkpoints").join(name).join("state.ron")).expect("each has it"));
    let error = fail(&["export", text(&out), "-o", text(&folder.path().join("x.safetensors"))]);
    assert!(error.contains("no checkpoint") && error.contains("state.ron"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_step() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let error =
        fail(&with(&SMALL, &["--out", text(&out), "--set", "train.learning_rate=1e30", "--set", "data.batch_size=64"]));
    assert!(error.contains("is not finite") && error.contains("step "), "{error}");
    assert!(error.contains(" at "), "the op and its place are named: {error}");
}

#[test]
fn a_missing_data_folder_is_shown_where_the_file_names_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let error = fail(&["run", "pipelines/cmae_vitb.cmae", "--out", text(&out)]);
    assert!(error.contains("data::not_found"), "{error}");
    assert!(error.contains("data/imagenet/train") && error.contains("cmae_vitb.cmae"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_request_to_stop_saves_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out), "--set", "train.epochs=500"]);
    let child = cmaec(&arguments).stderr(std::process::Stdio::piped()).spawn().expect("the binary is there");
    let start = Instant::now();
    while !out.join("metrics.jsonl").exists() || metrics_len(&out) < 200 {
        assert!(start.elapsed() < Duration::from_secs(60), "the run does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(kill.expect("kill is part of every Unix").success());
    let output = child.wait_with_output().expect("it is ours");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("stopped and saved after step") && stderr.contains("--resume"), "{stderr}");
    assert!(out.join("last").is_file());
}

#[cfg(unix)]
fn metrics_len(run: &Path) -> u64 {
    fs::metadata(run.join("metrics.jsonl")).map_or(0, |m| m.len())
}

/// Arguments that set what the words say.
fn sets<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().flat_map(|word| ["--set", *word]).collect()
}

/// Any big pipeline on digits, 20 steps.
const ON_DIGITS: [&str; 11] = [
    "image_size=32px",
    "patch_size=8px",
    "data.train=digits(\"train\")",
    "data.val=digits(\"val\")",
    "data.channels=3",
    "data.batch_size=64",
    "model.encoder.embed_dim=16",
    "model.encoder.depth=2",
    "model.encoder.num_heads=2",
    "train.checkpoint_every=4 steps",
    "train.epochs=1",
];

#[test]
fn so_does_one_that_drops_paths_draws_blocks_and_remembers_centres() {
    let own = [
        "local_size=16px",
        "local_views=1",
        "prototypes=16",
        "student.mask.min_patches=2",
        "model.encoder.drop_path=30%",
        "model.head.hidden=16",
        "model.head.bottleneck=8",
        "train.epochs=0.7",
    ];
    let arguments = with(&["run", "pipelines/ibot_vitb.cmae"], &sets(&[&ON_DIGITS[..], &own].concat()));
    survives_a_kill(&arguments, 7);
}

#[test]
fn a_tokenizer_is_trained_and_another_pipeline_takes_its_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (tokenizer, beit) = (folder.path().join("tokenizer"), folder.path().join("beit"));
    let codes = ["codes=16", "code_dim=4", "train.epochs=0.3"];
    let decoder = ["model.decoder.embed_dim=16", "model.decoder.depth=1", "model.decoder.num_heads=2"];
    let of_tokenizer = [&ON_DIGITS[..], &codes, &decoder].concat();
    let run_tokenizer = with(&["run", "pipelines/vq_tokenizer.cmae"], &sets(&of_tokenizer));
    succeed(&with(&run_tokenizer, &["--out", text(&tokenizer)]));
    // Codes start from the first batch and follow it: a run that starts afresh has the same.
    let again = folder.path().join("again");
    succeed(&with(&run_tokenizer, &["--out", text(&again), "--threads", "1"]));
    assert!(weights(&tokenizer) == weights(&again));

    let imported: Vec<String> = of_tokenizer
        .iter()
        .filter(|set| !set.starts_with("data.train=") && !set.starts_with("train.") && !set.starts_with("views."))
        .map(|set| format!("tok.{set}"))
        .collect();
    let imported: Vec<&str> = imported.iter().map(String::as_str).collect();
    let own = ["removed=8", "online.mask.min_patches=2", "train.epochs=0.3"];
    let run_beit = with(&["run", "pipelines/beit_vitb.cmae"], &sets(&[&ON_DIGITS[..], &own, &imported].concat()));
    let out = ["--out", text(&beit)];
    let error = fail(&with(&run_beit, &out));
    assert!(error.contains("uses `vq_tokenizer` as `tok`, which needs a trained run of it"), "{error}");
    assert!(error.contains("cmaec run pipelines/vq_tokenizer.cmae"), "{error}");
    let given = format!("tok={}", text(&tokenizer));
    let error = fail(&with(&run_beit, &[&out[..], &["--with", &given.replace("tok=", "words=")]].concat()));
    assert!(error.contains("imports nothing as `words`") && error.contains("`tok`"), "{error}");
    let smaller = with(&run_beit, &["--set", "tok.codes=8"]);
    let error = fail(&with(&smaller, &[&out[..], &["--with", &given]].concat()));
    assert!(error.contains("`codebook.codes` is [16, 4] there, [8, 4] here"), "{error}");

    succeed(&with(&run_beit, &[&out[..], &["--with", &given]].concat()));
    let tensor = |run: &Path, name: &str| {
        let bytes = weights(run)[0].clone();
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("it is whole");
        file.tensor(name).unwrap_or_else(|_| panic!("no {name}: {:?}", file.names())).data().to_vec()
    };
    for name in ["codebook.codes", "encoder.blocks.0.attn.qkv.weight", "to_code.fc1.weight"] {
        assert_eq!(tensor(&tokenizer, name), tensor(&beit, &format!("tok.{name}")), "{name} stays as it was trained");
    }
    // A checkpoint holds what was imported: a resumed run needs the tokenizer no more.
    fs::remove_dir_all(&tokenizer).expect("it is ours");
    succeed(&with(&run_beit, &[&out[..], &["--resume"]].concat()));
}

/// A binary that has no engine for ranks does not train the same run several times.
#[test]
#[cfg(not(feature = "mpi"))]
fn without_an_engine_ranks_are_refused() {
    let mut command = cmaec(&SMALL);
    command.envs([("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")]);
    let ended = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("OpenMPI has started 2 ranks") && said.contains("--features mpi"), "{said}");
}
