//! The shipped pipelines against tensors that PyTorch wrote, and twins that must fail.
//!
//! Tolerances: in f32 each file's own advice; in f64 1e-6, since the files hold float64 results rounded to f32, whose
//! spacing is 6e-8 of a value, and a figure is relative to the largest of its tensor.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use crate::command::{fail, root, run, succeed};

const FILES: [&str; 4] = ["cmae_random", "cmae_grid2", "mae_hf", "vit_timm"];

fn file(name: &str) -> String {
    root(&format!("tests/golden/{name}.safetensors")).display().to_string()
}

fn map(name: &str) -> String {
    root(&format!("tests/golden/maps/{name}.ron")).display().to_string()
}

#[test]
fn the_shipped_pipelines_agree_in_f32() {
    for name in FILES {
        let text = succeed(&["verify", "--against", &file(name)]);
        assert!(text.contains("within tolerance"), "{text}");
    }
}

#[test]
fn the_shipped_pipelines_agree_in_f64() {
    for name in FILES {
        let options = ["verify", "--against", &file(name), "--precision", "f64", "--tolerance", "1e-6"];
        let text = succeed(&options);
        assert!(text.contains("within tolerance"), "{text}");
    }
}

/// A copy of a file of reference tensors in which `change` was applied to every value of `tensor`.
fn edited(name: &str, tensor: &str, change: fn(f32) -> f32, folder: &Path) -> String {
    let mut bytes = fs::read(file(name)).expect("it is in the repository");
    let (header, metadata) = SafeTensors::read_metadata(&bytes).expect("it is a safetensors file");
    let (start, end) = metadata.info(tensor).expect("the file has the tensor").data_offsets;
    for value in bytes[8 + header..][start..end].chunks_exact_mut(4) {
        let old = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
        value.copy_from_slice(&change(old).to_le_bytes());
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

#[test]
fn what_cannot_be_verified_is_said() {
    let error = fail(&["verify", "--against", "tests/golden/nothing.safetensors", "--map", &map("mae_hf")]);
    assert!(error.contains("nothing.safetensors"), "{error}");
    let error = fail(&["verify", "--against", "tests/golden/nothing.safetensors"]);
    assert!(error.contains("--map"), "{error}");
    let error = fail(&["verify", "--against", &file("mae_hf"), "--map", &map("vit_timm")]);
    assert!(error.contains("is not used") || error.contains("not"), "{error}");
}
