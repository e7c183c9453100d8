//! `cmaec show plan`, and what `show summary` says of a step's memory.

use cmae::backend::Request;
use cmae::backend::cpu::TARGET;
use cmae::graph::{Init, Layout, TensorDecl, TensorKind, flops, text};
use cmae::op::Op;
use cmae::plan::lower;
use serde_json::Value;

use crate::command::{fail, succeed};
use crate::cpu::each_pipeline;
use crate::methods::compile;

const FILE: &str = "pipelines/bench/mae_tiny64.cmae";

fn plan(more: &[&str]) -> String {
    succeed(&[&["show", "plan", FILE], more].concat())
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("no number `{name}` in {report}"))
}

#[test]
fn a_plan_has_a_line_for_each_step_and_a_head() {
    let text = plan(&[]);
    let parts: Vec<&str> = text.split("\n\n").collect();
    let [head, part, lines] = parts[..] else { panic!("three paragraphs: {text}") };
    assert!(head.starts_with("mae_tiny64\nbatches of 64\ntensors, gradients and moments: "), "{head}");
    let lines: Vec<&str> = lines.lines().collect();
    assert!(part.starts_with(&format!("step: {} ops, ", lines.len())), "{part}");
    for line in &lines {
        assert!(line.contains(" = ") && line.contains(" B  ") && line.contains(" FLOP"), "{line}");
    }
    // x · weightᵀ + bias of 64 · 17 tokens: reads 192 and writes 576 values of each, and 192 · 576 weights.
    let qkv =
        lines.iter().find(|line| line.ends_with("; encoder.blocks.0.attn.qkv")).expect("the first block's projection");
    let tokens = 64 * 17;
    assert!(qkv.contains(" = linear(f["), "{qkv}");
    assert!(qkv.contains(&format!("  {} B  ", 4 * (tokens * (192 + 576) + 192 * 576 + 576))), "{qkv}");
    assert!(qkv.contains(&format!("  {} FLOP", 2 * tokens * 192 * 576)), "{qkv}");
    assert!(lines.iter().any(|line| line.contains("gelu") && line.contains("; encoder.blocks.0.mlp")), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("gradient[")), "gradients are written where they belong");
    assert!(lines.iter().any(|line| line.contains(" in place ")), "{text}");
}

#[test]
fn it_is_there_as_json_with_the_same_figures() {
    let of = |more: &[&str]| -> Value {
        serde_json::from_str(&plan(&[&["--json"], more].concat())).expect("one line of JSON")
    };
    let report = of(&[]);
    let part = &report["parts"][0];
    let steps = part["steps"].as_array().expect("steps");
    assert!(plan(&[]).contains(&format!("{} ops", steps.len())));
    for name in ["bytes", "flops"] {
        assert_eq!(number(part, name), steps.iter().map(|step| number(step, name)).sum::<f64>(), "{name}");
    }
    // Some of it lies where gradients are written later.
    let room = number(&report, "arena_bytes") + 4.0 * 5_637_120.0;
    assert!(number(part, "most_bytes") <= room, "{} of {room}", part["most_bytes"]);
    assert!((number(part, "most_at_step") as usize) < steps.len());
    // 5,637,120 trained values with gradients and both moments and 18,720 fixed positions; once more, but for gradients, in the copy
    // that a checkpoint is written from.
    assert_eq!(number(&report, "stored_bytes"), 4.0 * (7.0 * 5_637_120.0 + 2.0 * 18_720.0));
    // Every float is twice as long; ids stay.
    let double = of(&["--set", "train.precision=f64"]);
    assert_eq!(number(&double, "stored_bytes"), 2.0 * number(&report, "stored_bytes"));
    assert_eq!(number(&double["parts"][0], "most_bytes"), 2.0 * number(part, "most_bytes"));
}

/// The encoder's products are those of the whole batch, in four runs of a quarter; less memory than one run on all.
#[test]
fn a_step_that_accumulates_has_three_plans() {
    let of = |more: &[&str]| -> Value {
        serde_json::from_str(&plan(&[&["--json"], more].concat())).expect("one line of JSON")
    };
    let (whole, report) = (of(&[]), of(&["--set", "data.batch_size=64", "--set", "train.micro_batch=16"]));
    let runs: Vec<f64> = report["parts"].as_array().expect("parts").iter().map(|part| number(part, "runs")).collect();
    // A mean's gradients are known beforehand: a micro-batch is run once.
    assert_eq!(runs, [1.0, 4.0, 1.0]);
    assert!(number(&report, "arena_bytes") < 0.5 * number(&whole, "arena_bytes"), "{report}");
    let text = plan(&["--set", "data.batch_size=64", "--set", "train.micro_batch=16"]);
    assert!(text.contains("\na micro-batch, both ways, 4 times: "), "{text}");
    // What InfoNCE gives hangs on all keys: a micro-batch is run once more.
    let cmae = ["show", "plan", "pipelines/bench/cmae_tiny64.cmae", "--set", "train.micro_batch=16"];
    let text = succeed(&cmae);
    for part in ["forward of a micro-batch, 4 times: ", "backward of a micro-batch, 4 times: "] {
        assert!(text.contains(&format!("\n{part}")), "{text}");
    }
}

#[test]
fn the_summary_states_the_memory() {
    let megabytes = |name: &str| {
        let report: Value = serde_json::from_str(&plan(&["--json"])).expect("one line of JSON");
        format!("{:.1} MB", number(&report, name) / 1e6)
    };
    let summary = succeed(&["show", "summary", FILE]);
    let line = summary.lines().find(|line| line.starts_with("memory: ")).expect("a line for memory");
    assert!(line.contains(&megabytes("stored_bytes")), "{line}");
}

#[test]
fn only_plans_are_json() {
    let error = fail(&["show", "graph", FILE, "--json"]);
    assert_eq!(error.trim(), "only a plan and the cost are printed as JSON\nhelp: cmaec show plan PIPELINE --json");
}

/// What an averaged copy makes of its view, and nothing else, stands before what is trained: its values lie where those that are kept
/// come to lie.
#[test]
fn the_target_s_branch_goes_first() {
    for name in ["bench/cmae_tiny64", "dino_vitb"] {
        let program = compile(name, &[]);
        let request = Request { gradients: true, ..Request::default() };
        let plan = lower(&program.train, &program.layout, &request, &TARGET).expect("it is sound");
        let scope = |step: &cmae::plan::Step| plan.graph.node(step.node).scope.as_str();
        let of_target = |step: &cmae::plan::Step| scope(step).starts_with("momentum.");
        let encoders = |step: &&cmae::plan::Step| scope(step).contains("encoder.blocks.");
        let encoders: Vec<bool> = plan.steps.iter().filter(encoders).map(of_target).collect();
        let count = encoders.iter().filter(|of_target| **of_target).count();
        assert!(count > 0 && encoders[..count].iter().all(|of_target| *of_target), "{name}: {encoders:?}");
        let most = plan.graph.node(plan.steps[plan.most.step].node);
        assert!(!most.scope.starts_with("momentum."), "{name}: {}", most.scope);
    }
}

/// A layer on pictures, which want no gradient, is two products a step: its own and its weight's gradient. One on its result is
/// three.
#[test]
fn a_layer_on_pictures_is_two_products() {
    let graph = text::parse(
        "input x: f[4, 6] Noise
        %0: f[4, 6] = input() (name:\"x\")
        %1: f[3, 6] = param() (path:\"embed\")
        %2: f[4, 3] = linear(%0, %1)
        %3: f[5, 3] = param() (path:\"head\")
        %4: f[4, 5] = linear(%2, %3)
        %5: f[] = sum(%4) (axes:[0,1],keep:false)
        loss all = %5
        total = %5",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let weight = |path: &str, shape: [usize; 2]| TensorDecl {
        path: path.to_owned(),
        shape: shape.to_vec(),
        role: cmae::spec::Role::Weight,
        kind: TensorKind::Trained,
        init: Init::Zeros,
    };
    let layout = Layout::new(vec![weight("embed", [3, 6]), weight("head", [5, 3])]);
    assert_eq!(flops::of_step(&graph, &layout), 2 * (2 * 4 * 3 * 6) + 3 * (2 * 4 * 5 * 3));
}

/// The count of a step before it is differentiated is that of the products which the plan's graph then has. Attention's gradient
/// makes the scores once more, which is no work of the step's.
#[test]
fn the_count_of_a_step_is_that_of_its_plan() {
    each_pipeline(|method, program, _, _| {
        let request = Request { gradients: true, ..Request::default() };
        let plan = lower(&program.train, &program.layout, &request, &TARGET).expect("it is sound");
        let planned = plan.graph.nodes.iter().map(|node| {
            let flops = flops::of_node(&plan.graph, node);
            match node.op {
                Op::Linear
                | Op::Matmul { .. }
                | Op::TransposedMatmul
                | Op::Attention { .. }
                | Op::Conv2d { .. }
                | Op::Conv2dInputGrad { .. }
                | Op::Conv2dWeightGrad { .. } => flops,
                Op::AttentionGrad { .. } => flops / 10 * 8,
                _ => 0,
            }
        });
        assert_eq!(flops::of_step(&program.train, &program.layout), planned.sum::<u64>(), "{}", method.pipeline);
    });
}

#[test]
fn the_summary_counts_as_the_bench_does() {
    let program = compile("bench/mae_tiny64", &[]);
    let step = flops::of_step(&program.train, &program.layout) as f64;
    let line = format!("a step computes {:.1} GFLOP an image, {:.1} TFLOP a batch", step / 64e9, step / 1e12);
    assert!(succeed(&["show", "summary", FILE]).contains(&line), "{line}");
}
