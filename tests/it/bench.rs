//! `cmaec bench`, and that its pipelines do what the PyTorch steps beside them do.

use cmae::data::random::RandomBatches;
use cmae::graph::{TensorKind, flops};
use serde_json::Value;

use crate::command::{fail, run, succeed};
use crate::methods::{compile, page, sets_of, trainer};

/// `bench/cmae_tiny64` and `bench/mae_tiny64` at a size that takes no time.
const SMALL: [&str; 7] = [
    "image_size=16px",
    "patch_size=4px",
    "data.batch_size=4",
    "model.encoder.embed_dim=16",
    "model.encoder.depth=1",
    "model.encoder.num_heads=2",
    "train.seed=3",
];

fn bench(name: &str, more: &[&str]) -> Value {
    let file = format!("pipelines/bench/{name}.cmae");
    let mut arguments = vec!["bench", &file, "--json", "--steps", "3", "--warmup", "1", "--threads", "1"];
    arguments.extend(SMALL.iter().flat_map(|set| ["--set", *set]).chain(more.iter().copied()));
    let line = succeed(&arguments);
    assert_eq!(line.trim().lines().count(), 1, "{line}");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("no number `{name}` in {report}"))
}

#[test]
fn a_line_of_json_holds_what_was_measured() {
    let report = bench("cmae_tiny64", &["--backend", "cpu", "--set", "max_shift=3px"]);
    for (name, expected) in [("pipeline", "cmae_tiny64"), ("backend", "cpu"), ("precision", "f32")] {
        assert_eq!(report[name], expected, "{report}");
    }
    for (name, expected) in [("threads", 1.0), ("batch_size", 4.0), ("steps", 3.0)] {
        assert_eq!(number(&report, name), expected, "{report}");
    }
    let above_zero =
        ["gflop_per_step", "gflops", "gemm_peak_gflops", "compile_ms", "build_ms", "plan_ms", "first_step_ms"];
    for name in above_zero {
        assert!(number(&report, name) > 0.0, "{name}: {report}");
    }
    let (least, median, most) =
        (number(&report, "step_ms_min"), number(&report, "step_ms"), number(&report, "step_ms_max"));
    assert!(0.0 < least && least <= median && median <= most, "{report}");
    // Twice the rounding of a division and a product.
    assert!((number(&report, "images_per_second") * median / 4e3 - 1.0).abs() < 1e-12, "{report}");
    if cfg!(target_os = "linux") {
        let (peak, before) = (number(&report, "peak_memory_mb"), number(&report, "memory_before_mb"));
        assert!(0.0 < before && before < peak, "{report}");
        assert_eq!(number(&report, "memory_mb"), peak - before);
    }
    let losses = report["losses"].as_object().expect("losses by name");
    assert_eq!(losses.keys().collect::<Vec<_>>(), ["contrastive", "reconstruction"]);
    assert!(losses.values().all(|loss| loss.as_f64().is_some_and(|loss| loss > 0.0)), "{report}");
    let ops = report["ops"].as_object().expect("times by kind");
    for kind in ["linear", "attention", "layer_norm", "gelu", "element-wise", "optimizer and averages", "rest"] {
        assert!(ops.get(kind).and_then(Value::as_f64).is_some_and(|ms| ms >= 0.0), "`{kind}` is not in {report}");
    }
}

#[test]
fn the_loader_is_timed_by_itself() {
    let file = "pipelines/bench/cmae_tiny64.cmae";
    let line = succeed(&["bench", file, "--loader", "--json", "--pictures", "24", "--threads", "2"]);
    let report: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    for (name, expected) in [("threads", 2.0), ("pictures", 24.0), ("broken", 0.0)] {
        assert_eq!(number(&report, name), expected, "{report}");
    }
    let (read, views) = (number(&report, "read_ms"), number(&report, "views_ms"));
    assert!(read > 0.0 && views > 0.0, "{report}");
    // Both threads at once are no faster than twice one that works.
    let (all, one) = (number(&report, "pictures_per_second"), number(&report, "pictures_per_second_of_thread"));
    assert!((one * (read + views) / 1e3 - 1.0).abs() < 1e-9 && 0.0 < all && all <= 2.05 * one, "{report}");
    let missing = fail(&["bench", file, "--loader", "--data", "data.tset"]);
    assert!(missing.contains("the pipeline has no source `data.tset`"), "{missing}");
    let (code, _, error) = run(&["bench", file, "--data", "data.train"]);
    assert!(code == 2 && error.contains("--loader"), "{error}");
}

/// What is of the device is told on it alone.
#[test]
fn a_device_is_told_apart_from_the_host() {
    let of_device = ["device_step_ms", "device_gflops", "device_memory_mb", "device_planned_mb"];
    let host = bench("mae_tiny64", &["--backend", "cpu"]);
    for name in of_device {
        assert_eq!(host[name], Value::Null, "{host}");
    }
    let Some(xla) = crate::xla::backend() else { return };
    let report = bench("mae_tiny64", &["--backend", xla]);
    let (device, step) = (number(&report, "device_step_ms"), number(&report, "step_ms"));
    // Steps overlap: the host waits for one while the next is begun. The slowest holds more than half of the device's part of any, or
    // the two clocks do not measure the same.
    assert!(0.0 < device && device < 2.0 * number(&report, "step_ms_max").max(step), "{report}");
    let rate = number(&report, "gflop_per_step") / device * 1e3;
    assert!((number(&report, "device_gflops") / rate - 1.0).abs() < 1e-12, "{report}");
    assert!(number(&report, "gemm_peak_gflops") > 0.0, "{report}");
    // Its tensors, and as many moments of each kind, lie there in f32.
    let least = number(&report, "trained_parameters") * 3.0 * 4.0 / f64::from(1 << 20);
    assert!(number(&report, "device_planned_mb") > least, "{report}");
    let bf16 = bench("mae_tiny64", &["--backend", xla, "--precision", "bf16"]);
    assert!(number(&bf16, "gemm_peak_gflops") > 0.0, "{bf16}");
}

#[test]
fn other_backends_and_precisions_are_timed_too() {
    let report = bench("mae_tiny64", &["--backend", "dfdx", "--precision", "f64"]);
    assert_eq!((&report["backend"], &report["precision"]), (&"dfdx".into(), &"f64".into()));
    // dfdx neither measures the machine nor tells its ops apart.
    assert_eq!(report["gemm_peak_gflops"], Value::Null);
    let ops = report["ops"].as_object().expect("times by kind");
    assert_eq!(ops.keys().collect::<Vec<_>>(), ["optimizer and averages", "rest"]);
}

/// The same seed gives the same pictures and masks, so that the losses of two benchmarks can be compared.
#[test]
fn its_batches_hang_on_the_seed() {
    let losses = || bench("mae_tiny64", &["--backend", "cpu"])["losses"].clone();
    assert_eq!(losses(), losses());
    assert_ne!(losses(), bench("mae_tiny64", &["--backend", "cpu", "--set", "train.seed=4"])["losses"]);
}

#[test]
fn people_get_a_table() {
    let file = "pipelines/bench/mae_tiny64.cmae";
    let mut arguments = vec!["bench", file, "--steps", "1", "--warmup", "1"];
    arguments.extend(SMALL.iter().flat_map(|set| ["--set", *set]));
    let text = succeed(&arguments);
    for part in
        ["ms, the median of 1", "images", "GFLOP/s", "planned in", "reconstruction", "a step's time by kind", "linear"]
    {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let file = "pipelines/bench/mae_tiny64.cmae";
    let error = fail(&["bench", file, "--precision", "bf16", "--backend", "dfdx"]);
    assert!(error.contains("the dfdx backend has no bf16") && error.contains("--set train.precision=f32"), "{error}");
    let error = fail(&["bench", file, "--backend", "gpu"]);
    assert!(error.contains("there is no backend `gpu` (help: use one of auto, cpu"), "{error}");
    let error = fail(&["bench", "pipelines/bench/mae_tiny6.cmae"]);
    assert!(error.contains("did you mean `mae_tiny64.cmae`?"), "{error}");
    for wrong in [["--steps", "0"], ["--warmup", "0"], ["--threads", "0"], ["--precision", "f16"]] {
        let (code, _, stderr) = run(&["bench", file, wrong[0], wrong[1]]);
        assert_eq!(code, 2, "{wrong:?}: {stderr}");
        assert!(stderr.contains(wrong[0]) && stderr.contains(wrong[1]), "{stderr}");
    }
}

/// What `bench_torch.py` prints of torch 2.15 and transformers 5.23 for the same sizes: trained parameters, parameters of
/// averaged copies, FLOPs of a step. It counts what this does not: predictions for the class token, which are dropped, of a
/// decoder (width, values of a token) and not its InfoNCE logits, B · B of width 256, whose keys get no gradient.
#[test]
fn its_pipelines_are_the_peers() {
    let (tiny, small) = ([(96, 192), (96, 192)], [(256, 768), (256, 384)]);
    for (name, trained, averaged, peers, batch, decoders, contrasts) in [
        ("cmae_tiny64", 6_269_184, 5_549_184, 96_340_574_208, 64, &tiny[..], true),
        ("mae_tiny64", 5_637_120, 0, 42_492_837_888, 64, &tiny[..1], false),
        ("cmae_small224", 28_601_984, 22_577_664, 362_390_421_504, 16, &small[..], true),
        ("mae_small224", 25_045_760, 0, 179_145_080_832, 16, &small[..1], false),
    ] {
        let program = compile(&format!("bench/{name}"), &[]);
        let layout = &program.layout;
        assert_eq!(layout.trained_len, trained, "{name}");
        let copies = layout.tensors.iter().filter(|tensor| tensor.kind == TensorKind::Ema);
        assert_eq!(copies.map(cmae::graph::TensorDecl::elements).sum::<usize>(), averaged, "{name}");
        assert_eq!(program.spec.data.batch_size, batch, "{name}");
        let dropped: usize = decoders.iter().map(|(width, values)| 3 * 2 * batch * width * values).sum();
        let logits = if contrasts { 2 * 2 * batch * batch * 256 } else { 0 };
        let counted = flops::of_step(&program.train, layout) as usize;
        assert_eq!(counted + dropped, peers + logits, "{name}");
    }
}

/// Inputs of every kind are drawn, and the steps that they make are finite, imported networks of zeros included.
#[test]
fn every_pipeline_can_be_timed() {
    let page = page();
    for method in &page.methods {
        let name = &method.pipeline;
        let program = compile(name, &sets_of(&page, method));
        let mut batches = RandomBatches::new(&program.train.inputs, program.spec.data.batch_size, 1);
        let mut trainer = trainer::<f32>(&program, "cpu", 2);
        for number in 0..2 {
            let step = trainer.step(batches.batch(number));
            step.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// Each batch has masks of its own; the pictures stay.
#[test]
fn masks_are_drawn_anew() {
    let program = compile("bench/mae_tiny64", &[]);
    let mut batches = RandomBatches::new(&program.train.inputs, 64, 1);
    let [first, second, again] = [0, 1, 0].map(|number| batches.batch(number).to_vec());
    for ((name, a), (_, b)) in first.iter().zip(&second) {
        assert_eq!(a == b, name == "views.image", "{name}");
    }
    assert_eq!(first, again);
}
