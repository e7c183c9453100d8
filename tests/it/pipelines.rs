//! The shipped pipelines: they check at full size, count what the literature counts, and say so in their headers.

use std::fs;

use cmae::diag::Diagnostics;
use cmae::graph::{Program, TensorKind};
use cmae::source::Sources;

use crate::command::{pipelines, root, succeed};

fn program(name: &str) -> Program {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let path = root(&format!("pipelines/{name}.cmae"));
    let compiled = cmae::compile(&mut sources, &mut diagnostics, &path, &[]);
    compiled.unwrap_or_else(|_| panic!("{name}: {:?}", diagnostics.list())).program
}

/// Elements of the tensors of one kind below `module`.
fn count(program: &Program, module: &str, kind: TensorKind) -> usize {
    let tensors = program.layout.tensors.iter().filter(|t| t.kind == kind && t.path.starts_with(module));
    tensors.map(|t| t.shape.iter().product::<usize>()).sum()
}

/// Parameters of `depth` transformer blocks of width `d` and MLP ratio 4: qkv, projection, two layers of the MLP, two norms.
fn blocks(depth: usize, d: usize) -> usize {
    depth * ((3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d)
}

#[test]
fn vit_b_has_the_parameters_that_it_should() {
    let cmae = program("cmae_vitb");
    let patches = (16 * 16 * 3 + 1) * 768;
    // Patch embedding, class token, blocks, final norm.
    let encoder = patches + 768 + blocks(12, 768) + 2 * 768;
    assert_eq!(count(&cmae, "encoder.", TensorKind::Trained), encoder);
    // 14 × 14 patches and the class token.
    let positions = 197 * 768;
    assert_eq!(count(&cmae, "encoder.", TensorKind::Fixed), positions);
    assert_eq!(encoder + positions, 85_798_656, "timm's ViT-B/16 without its head");
    // Embedding, mask token, blocks, norm, prediction.
    let decoder = |depth: usize, out: usize| (768 + 1) * 512 + 512 + blocks(depth, 512) + 2 * 512 + (512 + 1) * out;
    assert_eq!(count(&cmae, "pixel_decoder.", TensorKind::Trained), decoder(8, 16 * 16 * 3));
    assert_eq!(count(&cmae, "feature_decoder.", TensorKind::Trained), decoder(2, 768));
    // 121.1 M: what the issue tracker and cmae_spec name.
    let millions = cmae.layout.trained_len as f64 / 1e6;
    assert!((121.05..121.15).contains(&millions), "{millions}");
    let mae = program("mae_vitb");
    assert_eq!(mae.layout.trained_len, encoder + decoder(8, 16 * 16 * 3));
}

#[test]
fn the_summary_says_the_same() {
    let summary = succeed(&["show", "summary", "pipelines/cmae_vitb.cmae"]);
    for part in [
        "85.80 M",
        "121.12 M",
        "GFLOP",
        "GB",
        "68 of 196 patches visible in 17 of 49 groups, 65.3 % removed",
        "views.online",
        "[4096, 3, 224, 224]",
        "online.query",
    ] {
        assert!(summary.contains(part), "`{part}` is missing:\n{summary}");
    }
}

#[test]
fn every_pipeline_checks_and_has_its_header() {
    let names = pipelines();
    for name in &names {
        let path = root(&format!("pipelines/{name}.cmae"));
        succeed(&["check", "--deny", "warnings", &path.display().to_string()]);
        let text = fs::read_to_string(&path).expect("it can be read");
        for line in ["// source:", "// expects:", "// cost:", "// run:"] {
            assert!(text.contains(line), "{name} has no `{line}`");
        }
    }
    assert!(names.len() > 20, "{names:?}");
}

/// Pipelines that run where they are read: their headers say how long that takes.
const TIMED: [&str; 2] = ["quickstart", "shapes"];

#[test]
fn headers_say_what_a_step_costs() {
    for name in pipelines() {
        let path = root(&format!("pipelines/{name}.cmae"));
        let text = fs::read_to_string(&path).expect("it can be read");
        let cost = text.lines().find_map(|line| line.strip_prefix("// cost:")).unwrap_or_default().trim();
        let Some((said, rest)) = cost.split_once(" GMAC an image and step; ") else {
            assert!(TIMED.contains(&name.as_str()), "{name} does not say what a step costs: {cost}");
            continue;
        };
        let summary = succeed(&["show", "summary", &path.display().to_string()]);
        let flops = summary.split("a step computes ").nth(1).and_then(|t| t.split(" GFLOP").next()).expect("it counts");
        let gmac = flops.parse::<f64>().expect("it is a number") / 2.0;
        let said: f64 = said.parse().unwrap_or_else(|_| panic!("{}: {cost}", path.display()));
        assert!((said - gmac).abs() <= 0.06, "{}: {said} GMAC, counted {gmac}", path.display());
        let all = summary.lines().find(|line| line.starts_with("all ")).expect("a line for all modules");
        let trained: Vec<&str> = rest.split(" trained").next().unwrap_or_default().split(' ').collect();
        let counted: Vec<&str> = all.split_whitespace().skip(1).take(2).collect();
        assert_eq!(trained, counted, "{}: {cost}", path.display());
    }
}

/// A figure stands beside the number of epochs that it was reached in, which is the file's own or named as an override.
#[test]
fn headers_speak_of_the_epochs_that_are_trained() {
    let mut spoke = 0;
    for name in pipelines() {
        let text = fs::read_to_string(root(&format!("pipelines/{name}.cmae"))).expect("it can be read");
        let epochs = program(&name).spec.train.epochs;
        let counts = |line: &str| -> Vec<f64> {
            let words: Vec<&str> = line.split_whitespace().collect();
            let pairs = words.windows(2).filter(|pair| pair[1].starts_with("epochs"));
            pairs.filter_map(|pair| pair[0].trim_start_matches('(').parse().ok()).collect()
        };
        let title = text.lines().next().unwrap_or_default();
        assert!(counts(title).iter().all(|count| *count == epochs), "{name} trains {epochs} epochs: {title}");
        let expects = text.lines().find(|line| line.starts_with("// expects:")).unwrap_or_default();
        let said = counts(expects);
        let own = said.is_empty() || said.contains(&epochs) || expects.contains("train.epochs=");
        assert!(own, "{name} trains {epochs} epochs: {expects}");
        spoke += counts(title).len() + said.len();
    }
    assert!(spoke > 30, "the test finds the numbers: {spoke}");
}
