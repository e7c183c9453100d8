//! `cmaec show plan`: the step that the `cpu` backend runs, one line for each thing it does.

use cmae::backend::Request;
use cmae::backend::cpu::TARGET;
use cmae::graph::accumulate::Micro;
use cmae::graph::step::Body;
use cmae::graph::{Graph, Layout, Program};
use cmae::plan::{PartRequests, Plan, lower};
use cmae::spec::Precision;
use cmae::train::fit::{Fit, bytes_text};
use serde_json::json;

use super::output::{out, outln};

/// A part of a training step: all of it, or one of three where it accumulates.
struct Part {
    name: &'static str,
    /// In a step.
    runs: usize,
    plan: Plan,
}

fn parts(program: &Program) -> Result<Vec<Part>, String> {
    let (layout, request) = (&program.layout, Request::of_step(program, &[]));
    let part = |name, runs, graph: &Graph, layout: &Layout, request: &Request| -> Result<Part, String> {
        let plan = lower(graph, layout, request, &TARGET).map_err(|error| error.to_string())?;
        Ok(Part { name, runs, plan })
    };
    let (parts, count) = match program.step(&[]).map_err(|error| error.to_string())?.body {
        Body::Whole(graph) => return Ok(vec![part("step", 1, &graph, layout, &request)?]),
        Body::Parts(parts, count) => (parts, count),
    };
    let requests = PartRequests::new(&parts, &request);
    let micro = parts.micro.forward();
    let coupled = ("the batch where samples meet", 1, &parts.coupled, &parts.layout, &requests.coupled);
    let graphs = match &parts.micro {
        Micro::Twice { backward, .. } => {
            let backward =
                backward.iter().map(|graph| ("backward of a micro-batch", count, graph, layout, &requests.backward));
            let forward = ("forward of a micro-batch", count, micro, layout, &requests.forward);
            [forward, coupled].into_iter().chain(backward).collect::<Vec<_>>()
        }
        Micro::Once { known, .. } => vec![
            ("gradients that are known beforehand", 1, known, layout, &requests.known),
            ("a micro-batch, both ways", count, micro, layout, &requests.forward),
            coupled,
        ],
    };
    graphs.into_iter().map(|(name, runs, graph, layout, request)| part(name, runs, graph, layout, request)).collect()
}

/// What a float of a training step takes, in bytes.
fn float_bytes(program: &Program) -> usize {
    match program.spec.train.precision {
        Precision::F64 => 8,
        // Weights, gradients and moments of a run in bf16 are f32.
        Precision::F32 | Precision::Bf16 => 4,
    }
}

pub fn show(program: &Program, fit: &Fit, as_json: bool) -> Result<(), String> {
    let (parts, float) = (parts(program)?, float_bytes(program));
    // All parts work in the same arenas.
    let most = |of: fn(&Plan) -> usize| parts.iter().map(|part| of(&part.plan)).max().unwrap_or(0);
    let arena = float * most(|plan| plan.floats) + 8 * most(|plan| plan.ints);
    let stored = fit.takes.footprint.stored;
    if as_json {
        let line = json!({
            "pipeline": program.spec.name,
            "stored_bytes": stored,
            "arena_bytes": arena,
            "parts": parts.iter().map(|part| part.json(float)).collect::<Vec<_>>(),
        });
        outln!("{line}");
        return Ok(());
    }
    outln!("{}", program.spec.name);
    outln!("batches of {}", program.spec.batch_text());
    outln!("tensors, gradients and moments: {}", bytes_text(stored));
    outln!("arena: {}", bytes_text(arena as u64));
    parts.iter().for_each(|part| part.show(float));
    Ok(())
}

impl Part {
    /// FLOPs, and bytes moved.
    fn cost(&self, float: usize) -> (u64, usize) {
        let costs = || self.plan.steps.iter().map(|step| self.plan.cost(step));
        (costs().map(|cost| cost.flops).sum(), costs().map(|cost| cost.bytes(float)).sum())
    }

    fn json(&self, float: usize) -> serde_json::Value {
        let (plan, (flops, moved)) = (&self.plan, self.cost(float));
        let steps = plan.steps.iter().map(|step| {
            let cost = plan.cost(step);
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
        json!({
            "part": self.name,
            "runs": self.runs,
            "most_bytes": float * plan.most.floats,
            "most_at_step": plan.most.step,
            "bytes": moved,
            "flops": flops,
            "steps": steps.collect::<Vec<_>>(),
        })
    }

    fn show(&self, float: usize) {
        let (plan, (flops, moved)) = (&self.plan, self.cost(float));
        outln!();
        let times = if self.runs == 1 { String::new() } else { format!(", {} times", self.runs) };
        let count = plan.steps.len();
        outln!(
            "{}{times}: {count} ops, {:.1} GFLOP, {} moved",
            self.name,
            flops as f64 / 1e9,
            bytes_text(moved as u64)
        );
        if let Some(at) = plan.steps.get(plan.most.step) {
            let beside = if plan.graph.gradients.is_empty() { "" } else { " and where gradients are written later" };
            outln!(
                "most is held at op {}, {} ({}): {} in the arena{beside}",
                plan.most.step,
                plan.work(at),
                plan.graph.node(at.node).scope,
                bytes_text((float * plan.most.floats) as u64)
            );
        }
        outln!();
        out!("{}", plan.text(float));
    }
}
