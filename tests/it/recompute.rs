//! `train.recompute = blocks`: less memory, the same bits.

use cmae::backend::cpu::TARGET;
use cmae::backend::{Compute, Request, Results};
use cmae::graph::grad::passes;
use cmae::graph::recompute::{recompute_blocks, recompute_operands};
use cmae::graph::{Graph, Program};
use cmae::op::Op;
use cmae::plan::{Plan, lower};
use cmae::spec::Recompute;

use crate::command::{fail, succeed};
use crate::cpu::each_pipeline;
use crate::methods::{batch, compile, page, sets_of, trainer};

const MODES: [Recompute; 2] = [Recompute::None, Recompute::Blocks];

/// Losses, states and gradients of every method, each with blocks of its own kind.
#[test]
fn it_changes_no_bit_of_any_pipeline() {
    let mut shrunk = 0;
    each_pipeline(|method, program, arena, inputs| {
        let arena: Vec<f32> = arena.iter().map(|v| *v as f32).collect();
        let [kept, again] = MODES.map(|recompute| {
            let request = Request { gradients: true, recompute, ..Request::default() };
            let mut backend = f32::backend("cpu").expect("every build has it");
            let results = backend.run(&program.train, &program.layout, &arena, inputs, &request);
            let Results { losses, updates, gradients, .. } =
                results.unwrap_or_else(|error| panic!("{}: {error}", method.pipeline));
            let values = losses.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let floats = updates.iter().flatten().chain(&gradients).map(|v| v.to_bits()).collect::<Vec<_>>();
            (values, floats)
        });
        assert!(kept == again, "{}", method.pipeline);
    });
    // That it did something: two blocks of an encoder are enough for all but the smallest.
    let page = page();
    for method in &page.methods {
        let [kept, again] = MODES.map(|recompute| plan(compile(&method.pipeline, &sets_of(&page, method)), recompute));
        shrunk += usize::from(again.floats < kept.floats);
    }
    assert!(shrunk * 4 > page.methods.len() * 3, "{shrunk} of {} plans are smaller", page.methods.len());
}

fn plan(mut program: Program, recompute: Recompute) -> Plan {
    program.spec.train.recompute = recompute;
    lower(&program.train, &program.layout, &Request::of_step(&program, &[]), &TARGET).expect("it is sound")
}

/// Optimizer and averaged copies see the same gradients, so that runs stay the same.
#[test]
fn weights_after_steps_are_the_same() {
    let page = page();
    for name in ["cmae_vitb_paper", "mae_vitb"] {
        let method = page.methods.iter().find(|method| method.pipeline == name).expect("it is there");
        let arenas = MODES.map(|recompute| {
            let mut program = compile(name, &sets_of(&page, method));
            program.spec.train.recompute = recompute;
            let mut trainer = trainer::<f32>(&program, "cpu", 3);
            let inputs = batch(&program);
            for _ in 0..3 {
                trainer.step(&inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            trainer.tensors().expect("they are there").to_vec()
        });
        assert!(arenas[0] == arenas[1], "{name}");
    }
}

/// At real depth, counted and not run. A block of width D keeps per token, beside its result: both norms' results, query, key and
/// value, what attention gives, the sum after it, and twice the MLP's 4 D; 16 D in all, of which 1 D is left.
#[test]
fn plans_are_smaller() {
    for (name, factor) in [("bench/mae_small224", 3.0), ("bench/cmae_small224", 3.0), ("mae_vitb", 3.0)] {
        let [kept, again] = MODES.map(|recompute| plan(compile(name, &[]), recompute).floats as f64);
        assert!(again * factor < kept, "{name}: {kept} floats, {again} where blocks are computed again");
    }
}

fn count(graph: &Graph, is: impl Fn(&Op) -> bool) -> usize {
    graph.nodes.iter().filter(|node| is(&node.op)).count()
}

/// What is added to the graph: the blocks' own work once more, but for what ends it, and no leaf.
#[test]
fn only_what_is_read_again_is_computed_again() {
    let program = compile("bench/cmae_tiny64", &[]);
    let mut graph = program.train.clone();
    graph.outputs.clear();
    let (passes, forward) = passes(&graph, &program.layout).expect("it is sound");
    assert!(passes.nodes[forward..].iter().all(|node| !matches!(node.op, Op::Input { .. } | Op::Param { .. })));
    let recomputed = recompute_blocks(&passes, forward, &program.layout).expect("it is sound");
    let again = recomputed.graph;
    // Each run of clones is the backward pass's, and what stands behind it reads one.
    assert_eq!(recomputed.again.len(), 12 + 2 + 2);
    for run in recomputed.again {
        assert!(run.start >= forward && again.nodes[run.clone()].iter().all(|node| !node.op.is_backward()));
        assert!(again.nodes[run.end].inputs.iter().any(|input| run.contains(&input.index())));
    }
    let added = |is: fn(&Op) -> bool| count(&again, is) - count(&passes, is);
    // The online encoder's and both decoders' blocks; the target's 12 have no backward pass.
    let blocks = 12 + 2 + 2;
    assert_eq!(added(|op| matches!(op, Op::LayerNorm { .. })), 2 * blocks);
    assert_eq!(added(|op| matches!(op, Op::Attention { .. })), blocks);
    assert_eq!(added(|op| matches!(op, Op::Gelu)), blocks);
    // Query, key and value; the projection, for the sum after it; the MLP's first layer. Its second makes what is kept.
    assert_eq!(added(|op| matches!(op, Op::Linear)), 3 * blocks);
    assert_eq!(added(|op| matches!(op, Op::Input { .. } | Op::Param { .. } | Op::Full { .. } | Op::Iota)), 0);
    assert_eq!(again.gradients.len(), passes.gradients.len());
    // Where no block repeats nothing changes.
    let mut flat = passes.clone();
    flat.nodes.iter_mut().for_each(|node| node.scope.clear());
    let unchanged = recompute_blocks(&flat, forward, &program.layout).expect("it is sound");
    assert!(unchanged.graph == flat && unchanged.again.is_empty());
}

/// What `cpu` does in bf16 without being asked: of each norm and activation that a layer reads, and of nothing else, a clone stands
/// before its first reader of the backward pass, and none of that pass reads the original.
#[test]
fn operands_of_layers_are_computed_again() {
    let program = compile("bench/cmae_tiny64", &[]);
    let wanted = program.train.with_outputs(&[]).expect("it is none");
    let (passes, forward) = passes(&wanted, &program.layout).expect("it is sound");
    let recomputed = recompute_operands(&passes, forward, &program.layout).expect("it is sound");
    let graph = recomputed.graph;
    let blocks = 12 + 2 + 2;
    let mut found = [0; 2];
    for run in &recomputed.again {
        assert!(graph.nodes[run.end].inputs.iter().any(|input| run.contains(&input.index())));
        for clone in run.clone() {
            let node = &graph.nodes[clone];
            let original =
                graph.nodes[..forward].iter().position(|of| of == node).expect("the same op of the same values");
            let later = graph.nodes[forward..].iter().flat_map(|node| &node.inputs);
            assert!(later.clone().all(|input| input.index() != original));
            assert!(later.filter(|input| input.index() == clone).count() > 0);
            found[usize::from(node.op == Op::Gelu)] += 1;
            assert!(matches!(node.op, Op::Gelu | Op::LayerNorm { .. }), "{}", node.op.name());
        }
    }
    // Two norms of each block, and the encoder's last, which goes to both decoders' first layers.
    assert_eq!(found, [2 * blocks + 1, blocks]);
    assert_eq!(graph.nodes.len(), passes.nodes.len() + found.iter().sum::<usize>());
    let lowered = |bf16: bool| {
        let request = Request { gradients: true, bf16, ..Request::default() };
        lower(&program.train, &program.layout, &request, &TARGET).expect("it is sound").graph.nodes.len()
    };
    assert_eq!(lowered(true) - lowered(false), found.iter().sum::<usize>());
}

#[test]
fn the_command_line_shows_it_and_dfdx_refuses_it() {
    let file = "pipelines/bench/mae_tiny64.cmae";
    let summary = |set: &str| succeed(&["show", "summary", file, "--set", set]);
    let memory = |text: &str| text.lines().find(|line| line.starts_with("memory: ")).expect("a line").to_owned();
    assert_ne!(memory(&summary("train.recompute=none")), memory(&summary("train.recompute=blocks")));
    let error = fail(&["bench", file, "--backend", "dfdx", "--set", "train.recompute=blocks"]);
    assert_eq!(
        error.trim(),
        "the dfdx backend keeps all values for its tape, so it cannot recompute blocks (help: --backend cpu, or --set \
         train.recompute=none)"
    );
}
