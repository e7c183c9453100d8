//! `cmaec show plan`: the step that the `cpu` backend runs, one line for each thing it does.

use cmae::backend::cpu::planned;
use cmae::graph::Program;
use cmae::plan::Plan;
use cmae::spec::Precision;
use cmae::train::trainer::request;
use serde_json::json;

use super::output::{out, outln};

/// Memory of a training step, in bytes.
pub struct Memory {
    /// All tensors, gradients, and what the optimizer keeps.
    pub stored: usize,
    /// The plan's arenas of floats and ids.
    pub arena: usize,
    /// Of the arena, what the fullest moment needs.
    pub most: usize,
}

/// The plan of a training step, what a float of it takes, and its memory.
pub fn step(program: &Program) -> Result<(Plan, usize, Memory), String> {
    let plan = planned(&program.train, &program.layout, &request(program, &[])).map_err(|error| error.to_string())?;
    let float = match program.spec.train.precision {
        Precision::F64 => 8,
        // Weights, gradients and moments of a run in bf16 are f32.
        Precision::F32 | Precision::Bf16 => 4,
    };
    let kept = 1 + program.spec.train.optimizer.slots().len();
    let memory = Memory {
        stored: float * (program.layout.total_len + kept * program.layout.trained_len),
        arena: float * plan.floats + 8 * plan.ints,
        most: float * plan.most.floats,
    };
    Ok((plan, float, memory))
}

/// 2288200000 → "2.3 GB".
pub fn bytes(n: usize) -> String {
    match n {
        0..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

pub fn show(program: &Program, as_json: bool) -> Result<(), String> {
    let (plan, float, memory) = step(program)?;
    let costs: Vec<_> = plan.steps.iter().map(|step| plan.cost(step)).collect();
    let flops: u64 = costs.iter().map(|cost| cost.flops).sum();
    let moved: usize = costs.iter().map(|cost| cost.bytes(float)).sum();
    if as_json {
        let steps = plan.steps.iter().zip(&costs).map(|(step, cost)| {
            json!({
                "work": plan.work(step),
                "writes": step.writes.to_string(),
                "reads": step.reads.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "in_place": step.in_place.is_some(),
                "bytes": cost.bytes(float),
                "flops": cost.flops,
                "scope": plan.graph.node(step.node).scope,
            })
        });
        let line = json!({
            "pipeline": program.spec.name,
            "stored_bytes": memory.stored,
            "arena_bytes": memory.arena,
            "most_bytes": memory.most,
            "most_at_step": plan.most.step,
            "bytes": moved,
            "flops": flops,
            "steps": steps.collect::<Vec<_>>(),
        });
        outln!("{line}");
        return Ok(());
    }
    let at = &plan.steps[plan.most.step];
    outln!(
        "{}: {} steps, which compute {:.1} GFLOP and move {}",
        program.spec.name,
        plan.steps.len(),
        flops as f64 / 1e9,
        bytes(moved)
    );
    outln!("tensors, gradients and moments: {}", bytes(memory.stored));
    outln!(
        "arena: {}; most of it is in use at step {}, {} ({}): {}",
        bytes(memory.arena),
        plan.most.step,
        plan.work(at),
        plan.graph.node(at.node).scope,
        bytes(memory.most)
    );
    outln!();
    out!("{}", plan.text(float));
    Ok(())
}
