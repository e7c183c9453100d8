//! The shipped pipelines against tensors that PyTorch wrote, and twins that must fail.
//!
//! Tolerances: in f32 each file's own advice. In f64 1e-6 for [`FILES`], which hold float64 results rounded to f32, whose
//! spacing is 6e-8 of a value, and a figure is relative to the largest of its tensor; 1e-9, their own, for [`METHODS`], which
//! hold float64.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::command::{cmaec, fail, root, run, succeed};

const FILES: [&str; 7] = ["cmae_random", "cmae_grid2", "mae_hf", "vit_timm", "simmim_hf", "beit_hf", "beit_hf_relpos"];

/// Written by `tests/golden/generate`: two steps of each method. Beside it a moment at which its averaged copies do not move.
const METHODS: [(&str, Option<&str>); 24] = [
    ("mae_steps", None),
    ("simmim", None),
    ("maskfeat", None),
    ("beit", None),
    ("cim_respix", None),
    ("cim_revdet", None),
    ("vq_tokenizer", None),
    ("peco_tokenizer", None),
    ("cae", None),
    ("ibot", Some("after_forward")),
    ("sim", Some("after_step")),
    ("msn", Some("after_forward")),
    ("moco_v3", Some("after_step")),
    ("byol", Some("after_forward")),
    ("simclr", None),
    ("simsiam", None),
    ("dino", Some("after_forward")),
    ("data2vec", Some("after_forward")),
    ("ijepa", Some("after_forward")),
    ("barlow_twins", None),
    ("vicreg", None),
    ("lejepa", None),
    ("simdino", Some("after_forward")),
    ("finetune", None),
];

fn file(name: &str) -> String {
    root(&format!("tests/golden/{name}.safetensors")).display().to_string()
}

fn map(name: &str) -> String {
    root(&format!("tests/golden/maps/{name}.ron")).display().to_string()
}

/// Backends that every build has; `xla` comes to them where there is a plugin.
const BACKENDS: [&str; 2] = ["cpu", "dfdx"];

fn agree_on(backends: &[&str], names: impl Iterator<Item = &'static str>, options: &[&str]) {
    for name in names {
        for backend in backends {
            let file = file(name);
            let arguments = [&["verify", "--against", &file, "--backend", backend][..], options].concat();
            // What XLA makes for two steps runs for less time than it takes to be optimised.
            let output = cmaec(&arguments).env("XLA_FLAGS", "--xla_backend_optimization_level=0").output();
            let text = String::from_utf8(output.expect("the binary was built for this test").stdout);
            let text = text.expect("it prints Unicode");
            assert!(text.contains("all ") && text.contains(" tensors within tolerance"), "{backend}: {text}");
        }
    }
}

/// A plugin's programs are the same text in f64, which is held below; in f32 `methods` trains with them.
#[test]
fn the_shipped_pipelines_agree_in_f32() {
    agree_on(&BACKENDS, FILES.into_iter(), &[]);
}

#[test]
fn the_shipped_pipelines_agree_in_f64() {
    let options = ["--precision", "f64", "--tolerance", "1e-6"];
    agree_on(&BACKENDS, FILES.into_iter(), &options);
    // One for each kind of network: the others' are these in other orders.
    if let Some(backend) = crate::xla::backend() {
        agree_on(&[backend], ["cmae_grid2", "beit_hf_relpos"].into_iter(), &options);
    }
}

/// As above.
#[test]
fn every_method_agrees_in_f32() {
    agree_on(&BACKENDS, METHODS.into_iter().map(|(name, _)| name), &[]);
}

/// A plugin's compiler takes most of the time: every sixth method here, all in [`every_method_agrees_on_xla`].
#[test]
fn every_method_agrees_in_f64() {
    let names = || METHODS.into_iter().map(|(name, _)| name);
    agree_on(&BACKENDS, names(), &["--precision", "f64"]);
    if let Some(backend) = crate::xla::backend() {
        agree_on(&[backend], names().step_by(6), &["--precision", "f64"]);
    }
}

#[test]
#[ignore = "two minutes: CMAE_PJRT_PLUGIN=FILE cargo test -- --ignored every_method_agrees_on_xla"]
fn every_method_agrees_on_xla() {
    let backend = crate::xla::backend().expect("it needs a plugin");
    agree_on(&[backend], METHODS.into_iter().map(|(name, _)| name), &["--precision", "f64"]);
}

/// The reference's batch in two micro-batches: losses, gradients, states, and two steps, to the same tolerances. SIM's heads
/// join samples before their attention, which is an error.
#[test]
fn micro_batches_agree_with_the_reference() {
    let methods = METHODS.into_iter().map(|(name, _)| name).filter(|name| *name != "sim");
    for name in methods.chain(["cmae_random", "cmae_grid2"]) {
        // MaskFeat's batch is 2, all others are 4.
        let size = if name == "maskfeat" { "train.micro_batch=1" } else { "train.micro_batch=2" };
        let file = file(name);
        let halves = ["verify", "--against", &file, "--precision", "f64", "--set", size];
        let tolerance: &[&str] = if name.starts_with("cmae") { &["--tolerance", "1e-6"] } else { &[] };
        let text = succeed(&[&halves, tolerance].concat());
        assert!(text.contains("within tolerance"), "{name}: {text}");
    }
}

/// The lines of a failed verification.
fn failures(options: &[&str]) -> Vec<String> {
    let (code, report, error) = run(options);
    assert_eq!(code, 1, "{report}{error}");
    report.lines().filter(|line| line.starts_with("FAIL")).map(str::to_owned).collect()
}

#[test]
fn twins_of_every_method_fail() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, moved) in METHODS {
        let verify = |file: &str, more: &[&str]| {
            let options = ["verify", "--against", file, "--map", &map(name), "--precision", "f64"];
            failures(&[&options, more].concat())
        };
        let weight = edited(name, "weights.encoder.blocks.0.mlp.fc1.weight", |v| v * 1.01, folder.path());
        let failed = verify(&weight, &[]);
        assert!(failed.iter().any(|line| line.contains("grad.encoder.")), "{name}, a weight off by 1 %: {failed:?}");
        let tensor = "grad.encoder.blocks.1.attn.proj.weight";
        let tensor = if name.ends_with("tokenizer") { "grad.encoder.blocks.0.attn.proj.weight" } else { tensor };
        let gradient = edited(name, tensor, |v| -v, folder.path());
        let failed = verify(&gradient, &[]);
        assert!(failed.len() == 1 && failed[0].contains(tensor), "{name}, a gradient's sign: {failed:?}");
        if let Some(moment) = moved {
            let failed = verify(&file(name), &["--set", &format!("model.momentum.when={moment}")]);
            assert!(failed.iter().any(|line| line.contains("momentum.")), "{name}, averaged {moment}: {failed:?}");
        }
    }
}

/// Each of the two losses of 2025 written otherwise: the one value that it makes differs, and the step with it.
#[test]
fn losses_written_otherwise_fail() {
    let balance = "(1.0 / features + 1.0 / data.batch_size)";
    let expand = |z: &str| format!("losses.expand={balance} * mean(-1.0 * coding_rate({z}, eps) for i in 0..2)");
    let both = "0.5 * (student[i].z + stop_gradient(teacher[i].z))";
    let twins = [
        ("lejepa", "gaussian", "reach=5.0".to_owned()),
        ("lejepa", "gaussian", "knots=9".to_owned()),
        (
            "lejepa",
            "gaussian",
            "losses.gaussian=-1.0 * sigreg_share * sigreg(all.views, slices, knots, reach)".to_owned(),
        ),
        ("lejepa", "invariance", "all.center=mean(views)".to_owned()),
        ("simdino", "expand", expand("student[i].z")),
        ("simdino", "expand", expand(&format!("{both} - op::mean({both}, axis: 0, keep: true)"))),
        ("simdino", "expand", format!("losses.expand={balance} * mean(coding_rate({both}, eps) for i in 0..2)")),
        ("simdino", "expand", format!("losses.expand=mean(-1.0 * coding_rate({both}, eps) for i in 0..2)")),
    ];
    for (name, loss, twin) in twins {
        let failed = failures(&["verify", "--against", &file(name), "--precision", "f64", "--set", &twin]);
        let (own, grad) = (format!("expect.loss_{loss}"), "grad.encoder.");
        for part in [own.as_str(), "expect.loss_total", grad] {
            assert!(failed.iter().any(|line| line.contains(part)), "{name}, {twin}: {part} agrees: {failed:?}");
        }
    }
}

/// Rates that decay otherwise by layer: the first step is the same, and what it makes of every layer below the last is not.
#[test]
fn other_rates_by_layer_fail() {
    let file = file("finetune");
    let failed = failures(&["verify", "--against", &file, "--precision", "f64", "--set", "layer_decay=0.7"]);
    assert!(failed.iter().all(|line| line.contains("after.encoder.") || line.contains("step_losses")), "{failed:?}");
    for layer in ["patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight"] {
        assert!(failed.iter().any(|line| line.contains(&format!("after.encoder.{layer}"))), "{layer}: {failed:?}");
    }
}

/// A copy of a file of reference tensors in which `change` was applied to every value of `tensor`.
fn edited(name: &str, tensor: &str, change: fn(f64) -> f64, folder: &Path) -> String {
    let mut bytes = fs::read(file(name)).expect("it is in the repository");
    let (header, metadata) = SafeTensors::read_metadata(&bytes).expect("it is a safetensors file");
    let info = metadata.info(tensor).unwrap_or_else(|| panic!("{name} has no {tensor}"));
    let (start, end) = info.data_offsets;
    let data = &mut bytes[8 + header..][start..end];
    match info.dtype {
        Dtype::F64 => data.chunks_exact_mut(8).for_each(|value| {
            let old = f64::from_le_bytes(value.try_into().expect("eight bytes"));
            value.copy_from_slice(&change(old).to_le_bytes());
        }),
        _ => data.chunks_exact_mut(4).for_each(|value| {
            let old = f32::from_le_bytes(value.try_into().expect("four bytes"));
            value.copy_from_slice(&(change(f64::from(old)) as f32).to_le_bytes());
        }),
    }
    let path = folder.join(format!("{name}.safetensors"));
    fs::write(&path, bytes).expect("the folder is there");
    path.display().to_string()
}

#[test]
fn a_weight_off_by_one_percent_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, tensor) in [
        ("cmae_random", "weights.encoder.blocks.0.mlp.fc1.weight"),
        ("cmae_random", "weights.target.encoder.blocks.1.attn.qkv.weight"),
        ("cmae_grid2", "weights.feature_decoder.blocks.0.attn.proj.weight"),
        ("mae_hf", "weights.decoder.decoder_pred.weight"),
        ("vit_timm", "weights.blocks.0.attn.qkv.weight"),
    ] {
        let twin = edited(name, tensor, |v| v * 1.01, folder.path());
        let error = fail(&["verify", "--against", &twin, "--map", &map(name)]);
        assert!(error.contains("of its tolerance"), "{name}: {error}");
    }
}

#[test]
fn a_gradient_with_its_sign_flipped_fails_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, tensor) in [
        ("cmae_random", "grad.predictor.fc1.weight"),
        ("cmae_grid2", "grad.encoder.cls_token"),
        ("mae_hf", "grad.decoder.mask_token"),
    ] {
        let twin = edited(name, tensor, |v| -v, folder.path());
        let (code, report, _) = run(&["verify", "--against", &twin, "--map", &map(name)]);
        assert_eq!(code, 1, "{report}");
        let failed: Vec<&str> = report.lines().filter(|line| line.starts_with("FAIL")).collect();
        assert!(failed.len() == 1 && failed[0].contains(tensor), "{name}: {failed:?}");
    }
}

#[test]
fn averaging_before_the_step_fails() {
    for name in ["cmae_random", "cmae_grid2"] {
        let (code, report, _) =
            run(&["verify", "--against", &file(name), "--set", "model.momentum.when=after_forward"]);
        assert_eq!(code, 1, "{report}");
        let failed: Vec<&str> = report.lines().filter(|line| line.starts_with("FAIL")).collect();
        assert!(failed.iter().any(|line| line.contains("after.target.")), "{failed:?}");
        assert!(!failed.iter().any(|line| line.contains("grad.")), "the first step is the same: {failed:?}");
    }
}

/// One step of SGD with Nesterov's momentum at rate 0.1 and decay 0.05, its gradient clipped, as `after.*` of a copy of
/// the MAE file: worked out here from the file's own weights and gradients.
fn after_sgd(clip: Option<f64>, folder: &Path) -> String {
    let bytes = fs::read(file("mae_hf")).expect("it is in the repository");
    let tensors = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let values = |name: &str| -> Vec<f64> {
        let data = tensors.tensor(name).expect("the file has it").data();
        data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    };
    let mut names: Vec<&str> = tensors.names().into_iter().filter_map(|name| name.strip_prefix("grad.")).collect();
    names.sort_unstable();
    let squares = names.iter().flat_map(|name| values(&format!("grad.{name}"))).map(|g| g * g);
    let norm = squares.sum::<f64>().sqrt();
    let factor = clip.map_or(1.0, |max| max / (norm + 1e-6));
    assert!(factor < 1.0 || clip.is_none(), "the bound of the test bites: {norm}");
    let after = names.iter().map(|name| {
        let decay = if name.ends_with(".bias") || name.contains("norm") { 0.0 } else { 0.05 };
        let update = |(p, g): (f64, f64)| p - 0.1 * 1.9 * (factor * g + decay * p);
        let gradients = values(&format!("grad.{name}"));
        let new: Vec<f64> = values(&format!("weights.{name}")).into_iter().zip(gradients).map(update).collect();
        let shape = tensors.tensor(&format!("grad.{name}")).expect("the file has it").shape().to_vec();
        (format!("after.{name}"), shape, new.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect::<Vec<u8>>())
    });
    let after: Vec<(String, Vec<usize>, Vec<u8>)> = after.collect();
    let added = after.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.expect("as many values as the shape says"))
    });
    let all = tensors.tensors().into_iter().chain(added);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("it is a safetensors file");
    let text = safetensors::serialize(all, metadata.metadata().clone()).expect("names are unique");
    let path = folder.join("sgd.safetensors");
    fs::write(&path, text).expect("the folder is there");
    path.display().to_string()
}

#[test]
fn a_mapping_sets_the_optimizer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = fs::read_to_string(map("mae_hf")).expect("it is in the repository");
    let mut mapping = cmae::verify::Map::parse(&text).expect("it is sound");
    for (name, value) in [
        ("train.optimizer", "sgd(momentum: 0.9, weight_decay: 0.05, nesterov: true)"),
        ("train.learning_rate", "mask_ratio * 0.1 / 0.75"),
        ("train.clip", "global_norm(0.05)"),
    ] {
        mapping.set.push((name.to_owned(), value.to_owned()));
    }
    let mapping_file = folder.path().join("sgd.ron");
    fs::write(&mapping_file, ron::to_string(&mapping).expect("plain data")).expect("a temporary folder");
    let mapping_file = mapping_file.display().to_string();
    let with = |against: &str| {
        let options = ["--map", &mapping_file, "--precision", "f64", "--tolerance", "1e-6"];
        run(&[&["verify", "--against", against][..], &options].concat())
    };
    let (code, report, error) = with(&after_sgd(Some(0.05), folder.path()));
    assert_eq!(code, 0, "{report}{error}");
    assert!(report.contains("after.vit.layers.0.attention.q_proj.weight"), "{report}");
    let (code, report, _) = with(&after_sgd(None, folder.path()));
    assert!(code == 1 && report.contains("FAIL after."), "without clipping it is another step: {report}");
    assert!(!report.contains("FAIL grad."), "gradients are compared before clipping: {report}");
}

#[test]
fn what_cannot_be_verified_is_said() {
    let error = fail(&["verify", "--against", "tests/golden/nothing.safetensors", "--map", &map("mae_hf")]);
    assert!(error.contains("nothing.safetensors"), "{error}");
    let error = fail(&["verify", "--against", "tests/golden/nothing.safetensors"]);
    assert!(error.contains("--map"), "{error}");
    let error = fail(&["verify", "--against", &file("mae_hf"), "--map", &map("vit_timm")]);
    assert!(error.contains("`img_size` is not known here"), "another file's config has it: {error}");
    let (folder, text) = (tempfile::tempdir().expect("a temporary folder"), fs::read_to_string(map("mae_hf")));
    let text = text.expect("it is in the repository");
    let forgetful = text.replace("(\"expect.logits\", \"online.pixels\"),", "");
    assert_ne!(text, forgetful);
    let mapping = folder.path().join("forgetful.ron");
    fs::write(&mapping, forgetful).expect("a temporary folder");
    let error = fail(&["verify", "--against", &file("mae_hf"), "--map", &mapping.display().to_string()]);
    assert!(error.contains("tensor `expect.logits` of the file is not used"), "{error}");
}

/// What `cmae_vitb.cmae` calls its modules, branches, views and losses, and other names for them.
const RENAMED: [(&str, &str); 10] = [
    ("encoder", "backbone"),
    ("pixel_decoder", "painter"),
    ("feature_decoder", "completer"),
    ("projector", "head"),
    ("predictor", "second_head"),
    ("momentum", "shadow"),
    ("online", "left"),
    ("target", "right"),
    ("reconstruction", "redraw"),
    ("contrastive", "attract"),
];

/// `text` with every whole word of `RENAMED` replaced, but for calls and named arguments: those belong to the stdlib.
fn renamed(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |length| start + length);
        let (word, after) = (&rest[start..end], &rest[end..]);
        out.push_str(&rest[..start]);
        // A branch or module may be called and passed on, a function of the stdlib is imported by `use`.
        let of_stdlib = word == "reconstruction" && (after.starts_with('(') || out.ends_with("::"));
        let other = RENAMED.iter().find(|(old, _)| *old == word && !after.starts_with(": ") && !of_stdlib);
        out.push_str(other.map_or(word, |(_, new)| new));
        rest = after;
    }
    out + rest
}

#[test]
fn names_and_the_place_of_the_stdlib_change_no_figure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stdlib = folder.path().join("elsewhere");
    fs::create_dir(&stdlib).expect("a temporary folder");
    for entry in fs::read_dir(root("stdlib")).expect("it is in the repository") {
        let path = entry.expect("it can be read").path();
        fs::copy(&path, stdlib.join(path.file_name().expect("a file has a name"))).expect("a temporary folder");
    }
    let text = fs::read_to_string(root("pipelines/cmae_vitb.cmae")).expect("it is in the repository");
    let pipeline = folder.path().join("other.cmae");
    let other = renamed(&text);
    for (old, new) in RENAMED {
        assert!(other.contains(new), "{old} is not in the file any more");
    }
    fs::write(&pipeline, other.replace("master", "parent").replace("pipeline cmae_vitb", "pipeline other"))
        .expect("a temporary folder");

    // Only the pipeline's side of the mapping changes; the file's names stay.
    let text = fs::read_to_string(map("cmae_grid2")).expect("it is in the repository");
    let mut mapping = cmae::verify::Map::parse(&text).expect("it is sound");
    mapping.set.iter_mut().for_each(|(name, _)| *name = renamed(name).replace("shadow.shadow", "shadow.momentum"));
    mapping.inputs.iter_mut().for_each(|(input, _)| *input = renamed(input));
    mapping.outputs.iter_mut().for_each(|(_, value)| *value = renamed(value));
    mapping.step_losses.iter_mut().flat_map(|s| &mut s.columns).for_each(|column| *column = renamed(column));
    let modules = ["encoder", "pixel_decoder", "feature_decoder", "projector", "predictor"];
    let own = modules.map(|m| (format!("{}.{{rest}}", renamed(m)), vec![format!("{m}.{{rest}}")]));
    let copies = ["encoder", "projector"]
        .map(|m| (format!("shadow.{}.{{rest}}", renamed(m)), vec![format!("target.{m}.{{rest}}")]));
    mapping.tensors = own.into_iter().chain(copies).collect();
    let mapping_file = folder.path().join("other.ron");
    fs::write(&mapping_file, ron::to_string(&mapping).expect("plain data")).expect("a temporary folder");

    let rows = |arguments: &[&str]| {
        let report: serde_json::Value = serde_json::from_str(&succeed(arguments)).expect("one JSON object");
        report["rows"].clone()
    };
    let golden = file("cmae_grid2");
    let shipped = rows(&["verify", "--against", &golden, "--json"]);
    let other = rows(&[
        "verify",
        &pipeline.display().to_string(),
        "--against",
        &golden,
        "--map",
        &mapping_file.display().to_string(),
        "--stdlib",
        &stdlib.display().to_string(),
        "--json",
    ]);
    assert_eq!(shipped.as_array().map(Vec::len), Some(235));
    assert_eq!(shipped, other);
}
