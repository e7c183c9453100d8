//! `cmaec show plan`, and what `show summary` says of a step's memory.

use serde_json::Value;

use crate::command::{fail, succeed};

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
    let (head, lines) = text.split_once("\n\n").expect("an empty line ends the head");
    let lines: Vec<&str> = lines.lines().collect();
    assert!(head.starts_with(&format!("mae_tiny64: {} steps, which compute ", lines.len())), "{head}");
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
    let steps = report["steps"].as_array().expect("steps");
    assert!(plan(&[]).contains(&format!("{} steps", steps.len())));
    for name in ["bytes", "flops"] {
        assert_eq!(number(&report, name), steps.iter().map(|step| number(step, name)).sum::<f64>(), "{name}");
    }
    assert!(number(&report, "most_bytes") <= number(&report, "arena_bytes"), "{report}");
    assert!((number(&report, "most_at_step") as usize) < steps.len());
    // 5,637,120 trained values, four times (with gradients and both moments), and 18,720 fixed positions.
    assert_eq!(number(&report, "stored_bytes"), 4.0 * (4.0 * 5_637_120.0 + 18_720.0));
    // Every float is twice as long; ids stay.
    let double = of(&["--set", "train.precision=f64"]);
    assert_eq!(number(&double, "stored_bytes"), 2.0 * number(&report, "stored_bytes"));
    assert_eq!(number(&double, "most_bytes"), 2.0 * number(&report, "most_bytes"));
}

#[test]
fn the_summary_states_the_planned_memory() {
    let megabytes = |name: &str| {
        let report: Value = serde_json::from_str(&plan(&["--json"])).expect("one line of JSON");
        format!("{:.1} MB", number(&report, name) / 1e6)
    };
    let summary = succeed(&["show", "summary", FILE]);
    let line = summary.lines().find(|line| line.starts_with("memory: ")).expect("a line for memory");
    assert!(line.contains(&megabytes("stored_bytes")) && line.contains(&megabytes("arena_bytes")), "{line}");
}

#[test]
fn only_plans_are_json() {
    let error = fail(&["show", "graph", FILE, "--json"]);
    assert_eq!(error.trim(), "only a plan is printed as JSON\nhelp: cmaec show plan PIPELINE --json");
}
