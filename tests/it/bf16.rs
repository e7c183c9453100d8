//! `train.precision = bf16`: layers' products round their operands, all else stays as it is in f32.

use cmae::backend::cpu::TARGET;
use cmae::backend::xla::lower::Kernels;
use cmae::backend::xla::{Compiling, Xla};
use cmae::backend::{Backend, Compute, Request, Results};
use cmae::data::random::RandomBatches;
use cmae::graph::text::parse;
use cmae::graph::{Graph, Program};
use cmae::op::Op;
use cmae::plan::{Step, lower};
use cmae::tensor::OutputValue;

use crate::command::{run, succeed};
use crate::cpu::each_pipeline;
use crate::methods::{compile, page, sets_of};

/// Whose programs are compiled for a device here, which takes seconds each: a product of every kind is in one of them.
const ON_XLA: [&str; 4] = ["cmae_vitb", "cmae_hybridb", "beit_vitb", "dino_vitb"];

/// Those that are compiled as for NVIDIA too, twice: with convolutions, and with relative positions.
const FOR_NVIDIA: [&str; 2] = ["cmae_hybridb", "beit_vitb"];

fn results(
    backend: &str,
    program: &Program,
    arena: &[f32],
    inputs: &[(String, cmae::tensor::InputValue)],
    bf16: bool,
) -> Results<f32> {
    let request = Request { gradients: true, bf16, ..Request::default() };
    results_of(&mut *f32::backend(backend).expect("it is there"), program, arena, inputs, request)
}

/// What a step for NVIDIA rounds, on the device that is here: all of its text, with cuDNN's calls where there is cuDNN.
fn for_nvidia() -> Option<Box<dyn Backend<f32>>> {
    let client = crate::xla_pjrt::client(1)?;
    let kernels = Kernels { cudnn_attention: !client.is_cpu(), ..Kernels::NVIDIA };
    Some(Box::new(Xla::new(client, Compiling { kernels: Some(kernels), ..Compiling::default() })))
}

fn results_of(
    backend: &mut dyn Backend<f32>,
    program: &Program,
    arena: &[f32],
    inputs: &[(String, cmae::tensor::InputValue)],
    request: Request,
) -> Results<f32> {
    let results = backend.run(&program.train, &program.layout, arena, inputs, &request);
    results.unwrap_or_else(|error| panic!("{}: {error}", program.spec.name))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// How far other gradients are off, as a part of what they are off from.
fn distance(exact: &Results<f32>, other: &Results<f32>) -> f64 {
    let difference = exact.gradients.iter().zip(&other.gradients).map(|(a, b)| f64::from(a - b));
    norm(difference) / norm(exact.gradients.iter().map(|g| f64::from(*g)))
}

/// To bf16.
fn rounded(arena: &[f32]) -> Vec<f32> {
    arena.iter().map(|v| f32::from_bits(v.to_bits().wrapping_add(0x8000) & 0xffff_0000)).collect()
}

/// Whether what an argmax chooses reaches the total, and not a monitor alone.
fn aims_at_choices(graph: &Graph) -> bool {
    let mut reaches = vec![false; graph.nodes.len()];
    graph.total.into_iter().for_each(|total| reaches[total.index()] = true);
    graph.nodes.iter().enumerate().rev().any(|(id, node)| {
        if reaches[id] {
            node.inputs.iter().for_each(|input| reaches[input.index()] = true);
        }
        reaches[id] && node.op == Op::Argmax
    })
}

/// Draws of roundings that are judged together.
const DRAWS: u64 = 8;

/// What a backend is off by in bf16, and what rounded weights are: root mean squares over as many points near `arena`, each tensor's
/// numbers moved by up to 2⁻⁸ of themselves, as far as two numbers of bf16 are apart.
fn over_draws(
    (backend, request): (&mut dyn Backend<f32>, &Request),
    program: &Program,
    arena: &[f32],
    inputs: &[(String, cmae::tensor::InputValue)],
) -> (f64, f64) {
    let (mut found, mut measure) = (Vec::new(), Vec::new());
    for draw in 0..DRAWS {
        let by = |i: usize| libm::sin(i as f64 * (1.0 + draw as f64 * 0.618)) / 256.0;
        let moved: Vec<f32> = arena.iter().enumerate().map(|(i, v)| v * (1.0 + by(i) as f32)).collect();
        let exact = results("cpu", program, &moved, inputs, false);
        found.push(distance(&exact, &results_of(backend, program, &moved, inputs, request.clone())));
        measure.push(distance(&exact, &results("cpu", program, &rounded(&moved), inputs, false)));
    }
    println!("{}: {found:.2?} for {measure:.2?}", program.spec.name);
    let mean = |values: Vec<f64>| norm(values.into_iter()) / (DRAWS as f64).sqrt();
    (mean(found), mean(measure))
}

/// Losses and gradients of every pipeline beside f32's, with the change that rounding the weights alone makes for a measure.
///
/// A number of bf16 is off by 2⁻⁹ of itself at most. Weights are one of six operands of a layer's three products; were all as
/// sensitive and their errors independent, all together would change √6 times as much as weights that are rounded once. What
/// lies far from that is no rounding: a factor of 4 leaves room for layers that are more sensitive to what flows through
/// them, as batch norm over a handful of samples is. What `cpu` stores in bf16, and a step for NVIDIA, rounds the three results too,
/// and with a stream in bf16 a sum and that of its gradients: nine and eleven values for six, so that as much room is 4 · √(9 / 6)
/// and 4 · √(11 / 6). A tokenizer's choice between codes that are nearly as near may fall to the other: one of some dozens of
/// tokens, 0.04 of a loss that such choices are the aim of.
///
/// One draw of roundings tells little where a few samples' statistics make much of it: what uses more than half of its room is
/// judged by root mean squares over [`DRAWS`] of them.
#[test]
fn it_is_f32_within_its_rounding_on_every_pipeline() {
    each_pipeline(|method, program, arena, inputs| {
        let arena: Vec<f32> = arena.iter().map(|v| *v as f32).collect();
        let weights = rounded(&arena);
        let exact = results("cpu", program, &arena, inputs, false);
        let by_weights = results("cpu", program, &weights, inputs, false);
        let name = &method.pipeline;
        let flips = if aims_at_choices(&program.train) { 0.04 } else { 0.0 };
        let off = |other: &Results<f32>| distance(&exact, other);
        let measure = off(&by_weights);
        let is_on_xla = ON_XLA.contains(&name.as_str());
        let xla = crate::xla::backend().filter(|_| is_on_xla);
        let named = [("cpu", 9.0)].into_iter().chain(xla.map(|xla| (xla, 6.0)));
        let request = |bf16_residual| Request { gradients: true, bf16: true, bf16_residual, ..Request::default() };
        let mut backends: Vec<_> = named
            .map(|(name, values)| (name, values, f32::backend(name).expect("it is there"), request(false)))
            .collect();
        let nvidia = [("xla for NVIDIA", 9.0, false), ("xla for NVIDIA, stream in bf16", 11.0, true)];
        for (backend, values, bf16_residual) in nvidia {
            let Some(nvidia) = FOR_NVIDIA.contains(&name.as_str()).then(for_nvidia).flatten() else { continue };
            backends.push((backend, values, nvidia, request(bf16_residual)));
        }
        let all: Vec<Results<f32>> = backends
            .iter_mut()
            .map(|(.., backend, request)| results_of(&mut **backend, program, &arena, inputs, request.clone()))
            .collect();
        for (at, rounded) in all.iter().enumerate().skip(1) {
            assert!(all[..at].iter().all(|other| other.gradients != rounded.gradients), "{name}: nothing else rounds");
        }
        for ((backend, values, by, request), rounded) in backends.iter_mut().zip(&all) {
            let found = off(rounded);
            println!(
                "{name} on {backend}: gradients are off by {found:.1e}, by {measure:.1e} where weights alone are rounded"
            );
            let room = 4.0 * f64::sqrt(*values / 6.0);
            let (found, measure) = match found > room / 2.0 * measure {
                true => over_draws((&mut **by, request), program, &arena, inputs),
                false => (found, measure),
            };
            assert!(found > 0.0 && found <= room * measure + flips, "{name} on {backend}: {found:e} for {measure:e}");
            for (a, b) in exact.losses.iter().zip(&rounded.losses) {
                assert!((a - b).abs() <= 0.02 * a.abs().max(1.0), "{name} on {backend}: the loss is {a}, in bf16 {b}");
            }
        }
    });
}

/// On NVIDIA, features are computed in the precision of training. A block's four layers round two operands and a result each, its
/// attention's two products too, and the stream its two sums: 20 roundings of 2⁻⁹ at most, which add up over blocks as independent
/// errors do.
#[test]
fn evaluations_for_nvidia_are_in_the_precision_of_training() {
    /// Of the pipeline's encoder.
    const DEPTH: f64 = 3.0;
    let Some(nvidia) = for_nvidia() else { return };
    let sets = ["train.precision=bf16".to_owned()];
    let program = compile("quickstart", &sets);
    let tensors: Vec<f32> = crate::methods::start(&program, &sets);
    let graph = program.features.as_ref().expect("it evaluates");
    let mut batches = RandomBatches::new(&graph.inputs, program.spec.data.batch_size, 1);
    let batch = batches.batch(0);
    let features = |backend: Box<dyn Backend<f32>>| {
        let mut session = backend.open(&program, tensors.clone()).expect("it opens");
        let found = session.evaluate(graph, batch, &["features".to_owned()]).expect("it runs");
        let OutputValue::Float(features) = &found[0] else { panic!("features are floats") };
        features.data.clone()
    };
    let exact = features(f32::backend("cpu").expect("it is there"));
    let rounded = features(nvidia);
    let off =
        norm(exact.iter().zip(&rounded).map(|(a, b)| f64::from(a - b))) / norm(exact.iter().map(|x| f64::from(*x)));
    println!("features are off by {off:.1e} of their norm");
    assert!(off > 1e-5 && off < f64::sqrt(20.0 * DEPTH) / 512.0, "{off:e}");
}

#[test]
fn threads_change_no_bit() {
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "cmae_vitb").expect("it is there");
    let sets = sets_of(&page, method);
    let program = compile(&method.pipeline, &sets);
    let arena: Vec<f32> = crate::methods::start(&program, &sets);
    let inputs = crate::methods::batch(&program);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        let results = pool.install(|| results("cpu", &program, &arena, &inputs, true));
        results.gradients.iter().map(|g| g.to_bits()).collect::<Vec<u32>>()
    };
    let one = with(1);
    for threads in [2, 3, 5] {
        assert!(one == with(threads), "{threads} threads");
    }
}

/// Scopes of products that round, and of those that do not.
fn scopes(pipeline: &str) -> (Vec<String>, Vec<String>) {
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == pipeline).expect("it is there");
    let program = compile(pipeline, &sets_of(&page, method));
    let request = Request { gradients: true, bf16: true, ..Request::default() };
    let plan = lower(&program.train, &program.layout, &request, &TARGET).expect("it is sound");
    let is_product = |step: &&Step| {
        let op = plan.graph.node(step.kernel()).op.name();
        ["linear", "matmul", "transposed_matmul", "attention", "attention_grad"].contains(&op)
    };
    let (rounded, kept): (Vec<&Step>, Vec<&Step>) = plan.steps.iter().filter(is_product).partition(|step| step.bf16);
    let names = |steps: Vec<&Step>| steps.iter().map(|step| plan.graph.node(step.kernel()).scope.clone()).collect();
    assert!(plan.steps.iter().all(|step| !step.bf16 || is_product(&step)), "only products round");
    (names(rounded), names(kept))
}

#[test]
fn layers_round_and_logits_do_not() {
    let (rounded, kept) = scopes("cmae_vitb");
    // Forward, and the gradients of both operands.
    let of = |name: &str, list: &[String]| list.iter().filter(|scope| *scope == name).count();
    assert_eq!(of("encoder.blocks.0.mlp.fc1", &rounded), 3);
    assert_eq!(of("encoder.blocks.0.attn", &rounded), 2);
    assert_eq!(of("momentum.encoder.blocks.0.mlp.fc1", &rounded), 1, "no gradient flows through it");
    assert!(!kept.is_empty() && kept.iter().all(|scope| scope == "contrastive" || scope == "pairs"), "{kept:?}");
    let (rounded, kept) = scopes("beit_vitb");
    assert_eq!((of("head", &rounded), of("head", &kept)), (0, 3), "it makes logits");
    assert!(kept.iter().all(|scope| scope == "head" || scope == "tok.codebook"), "{kept:?}");
}

/// What a block of a ViT keeps in bf16, by the scope and the work of the step that writes it, and what it does not.
#[test]
fn what_layers_give_one_another_is_stored_in_bf16() {
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "mae_vitb").expect("it is there");
    let program = compile(&method.pipeline, &sets_of(&page, method));
    let request = Request { gradients: true, bf16: true, ..Request::default() };
    let plan = lower(&program.train, &program.layout, &request, &TARGET).expect("it is sound");
    let written = |scope: &str, halves: bool| {
        let of_scope = |step: &&Step| plan.graph.node(step.node).scope == scope;
        let stored = plan.steps.iter().filter(of_scope).filter(|step| step.writes.space.is_halves() == halves);
        stored.map(|step| plan.work(step)).collect::<Vec<_>>()
    };
    let halves = |scope: &str| written(&format!("encoder.blocks.0{scope}"), true);
    assert_eq!(written("encoder.patch_embed", true), ["patchify"], "read by layers alone");
    // Forward, and once more for the gradient of the layer's weight.
    assert_eq!(halves(".norm1"), ["layer_norm"; 2]);
    // Forward, and the gradient that reaches the norm before.
    assert_eq!(halves(".attn.qkv"), ["linear.bf16", "matmul.bf16"]);
    assert_eq!(halves(".attn"), ["attention.bf16", "attention_grad.bf16"]);
    assert_eq!(halves(".mlp.fc1"), ["linear.bf16", "matmul.bf16"]);
    assert_eq!(halves(".mlp"), ["gelu", "gelu", "matmul.bf16+gelu_grad"]);
    let full = written("encoder.blocks.0", false);
    assert!(halves("").is_empty() && full.iter().any(|work| work == "linear.bf16+add"), "the stream: {full:?}");
    // The gradient that reaches the last layer, and nothing that the loss is summed of.
    assert_eq!(written("reconstruction", true), ["mul+mul+add"]);
    assert!(written("reconstruction", false).iter().any(|work| work == "linear.bf16+div+sub"));
}

/// A ViT's block of width D keeps 16 D floats per token in f32 (see `recompute::plans_are_smaller`). In bf16 what both norms and the
/// activation make is computed again, 6 D; of the rest, the 2 D of the stream stay floats and 8 D are halved: 6 D of 16 D. What is
/// beside the blocks, no less than before, makes less than an eighth of the whole more of it.
#[test]
fn arenas_are_smaller() {
    let program = compile("bench/mae_tiny64", &[]);
    let [in_f32, in_bf16] = [false, true].map(|bf16| {
        let request = Request { gradients: true, bf16, ..Request::default() };
        lower(&program.train, &program.layout, &request, &TARGET).expect("it is sound")
    });
    println!("{} floats in f32, room for {} in bf16", in_f32.floats, in_bf16.floats);
    assert!(in_f32.steps.iter().all(|step| !step.writes.space.is_halves()));
    assert!(in_bf16.floats * 2 < in_f32.floats);
}

/// A matrix product that is no layer's: the same bits.
#[test]
fn other_products_stay_in_f32() {
    let graph = parse(
        "input x: f[3, 70] Noise
        %0: f[3, 70] = input() (name:\"x\")
        %1: f[3, 3] = matmul(%0, %0) (transpose_b:true)
        %2: f[] = sum(%1) (axes:[0,1],keep:false)
        loss all = %2
        total = %2",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let data: Vec<f32> = (0..210).map(|i| libm::sinf(i as f32 * 0.37)).collect();
    let value = cmae::tensor::InputValue::Float(cmae::tensor::HostTensor { shape: vec![3, 70], data });
    let losses = [false, true].map(|bf16| {
        let mut backend = f32::backend("cpu").expect("every build has it");
        let request = Request { bf16, ..Request::default() };
        let layout = cmae::graph::Layout::new(Vec::new());
        backend.run(&graph, &layout, &[], &[("x".to_owned(), value.clone())], &request).expect("it runs").losses
    });
    assert_eq!(losses[0], losses[1]);
}

/// A run of two epochs learns as one in f32 does, and `show plan` says what rounds.
#[test]
fn a_run_in_bf16_trains() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = "pipelines/quickstart.cmae";
    let set = ["--set", "train.precision=bf16", "--set", "train.epochs=2", "--set", "data.batch_size=128"];
    let out = folder.path().join("run").display().to_string();
    let (code, printed, said) = run(&[&["run", file, "--out", &out], &set[..]].concat());
    assert_eq!(code, 0, "{said}");
    // Once, where it is so.
    let imitates = !f32::backend("cpu").expect("every build has it").multiplies_bf16();
    let told = (printed + &said).matches("this machine has no instructions on bf16").count();
    assert_eq!(told, usize::from(imitates), "{said}");
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).expect("metrics");
    let loss = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["loss"].as_f64()
    };
    let losses: Vec<f64> = metrics.lines().filter_map(loss).collect();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(losses.len() > 5 && last < first, "from {first} to {last}");
    assert!(succeed(&[&["show", "plan", file], &set[..]].concat()).contains(" = linear.bf16"));
}
