//! Gradient accumulation: steps by micro-batches are those of the large batch, and what cannot be so is refused.

use cmae::backend::cpu::TARGET;
use cmae::backend::host::HostSession;
use cmae::backend::host::accumulate::{Accumulation, Whole};
use cmae::backend::{Backend, BackendError, Compute, Request, Results, Session};
use cmae::diag::{Code, Diagnostics, Severity};
use cmae::graph::accumulate::{Micro, Parts, SplitError, split};
use cmae::graph::step::Body;
use cmae::graph::{Graph, Init, Layout, Program, TensorDecl, TensorKind};
use cmae::op::Op;
use cmae::plan::lower;
use cmae::source::Sources;
use cmae::tensor::{Element, InputValue, Inputs};

use crate::command::root;
use crate::methods::{Method, batch, compile, page, sets_of, start, trainer_from};

/// Pipelines whose encoders, or networks behind them, see samples joined: SIM's heads are transformers with BatchNorm.
const COUPLED: [&str; 1] = ["sim_vitb"];

/// Pipelines whose losses are means over samples.
const ONCE: [&str; 18] = [
    "attentive_vitb",
    "beit_vitb",
    "cae_vitb",
    "cim_revdet_vitb",
    "cim_vitb",
    "crossmae_vitb",
    "data2vec_vitb",
    "dino_vitb",
    "finetune_vitb",
    "ibot_vitb",
    "ijepa_vitb",
    "mae_vitb",
    "maskfeat_vitb",
    "peco_tokenizer",
    "peco_vitb",
    "pixel_tokenizer",
    "simmim_vitb",
    "vq_tokenizer",
];

/// In f64. What keeps samples apart is computed alike, so that two runs differ by how sums are grouped: a gradient adds up
/// at most 16 samples · 17 tokens · 4 views · 4 calls ≈ 4e3 terms, each sum off by that many roundings of 1.1e-16 of its
/// terms, 5e-13. BatchNorm behind an encoder at its start divides by a deviation of some hundredth of the values: 1e-10 of the
/// largest.
const TOLERANCE: f64 = 1e-10;

/// `sets` with the page's batch in `count` micro-batches.
fn in_micro_batches(sets: &[String], count: usize) -> Vec<String> {
    let size = sets.iter().rev().find_map(|set| set.strip_prefix("data.batch_size="));
    let size: usize = size.expect("the page says one").parse().expect("it is a number");
    sets.iter().cloned().chain([format!("train.micro_batch={}", size / count)]).collect()
}

fn schedules(program: &Program, mut inputs: Vec<(String, InputValue)>) -> Vec<(String, InputValue)> {
    for input in &program.train.inputs {
        if inputs.iter().all(|(name, _)| *name != input.name) {
            let value = cmae::tensor::HostTensor { shape: Vec::new(), data: vec![0.5] };
            inputs.push((input.name.clone(), InputValue::Double(value)));
        }
    }
    inputs
}

fn asked() -> Request {
    Request { gradients: true, ..Request::default() }
}

fn by_micro_batches<E: Element>(
    backend: &mut dyn Backend<E>,
    program: &Program,
    arena: &[E],
    inputs: &[(String, InputValue)],
) -> Results<E> {
    let mut results = Results::default();
    let Body::Parts(parts, count) = program.step(&[]).expect("it compiles").body else { panic!("it is cut") };
    let mut parts = Accumulation::new(*parts, count, 1, Vec::new());
    let (inputs, request) = (Inputs::new(inputs, &[]), asked());
    let whole = Whole { layout: &program.layout, arena, inputs, request: &request };
    // A second run finds the memory of the first.
    for _ in 0..2 {
        parts.run(backend, whole, &mut results).unwrap_or_else(|error| panic!("{}: {error}", program.spec.name));
    }
    results
}

/// The largest difference of losses and monitors (of 1 or of their size), of gradients and of all states (of their largest).
fn difference(a: &Results<f64>, b: &Results<f64>) -> f64 {
    let scalars = |a: &[f64], b: &[f64]| -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f64::max)
    };
    let tensors = |a: &[f64], b: &[f64]| -> f64 {
        assert_eq!(a.len(), b.len());
        let largest = a.iter().fold(0.0_f64, |largest, v| largest.max(v.abs()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs() / largest.max(1e-30)).fold(0.0, f64::max)
    };
    assert_eq!(a.updates.len(), b.updates.len());
    // All as one: the running mean of what is normalised already is nothing but rounding.
    let states = tensors(&a.updates.concat(), &b.updates.concat());
    let losses = scalars(&a.losses, &b.losses).max(scalars(&a.monitors, &b.monitors));
    losses.max(scalars(&[a.total], &[b.total])).max(tensors(&a.gradients, &b.gradients)).max(states)
}

struct Pair {
    whole: Program,
    parts: Program,
    arena: Vec<f64>,
    inputs: Vec<(String, InputValue)>,
}

fn pair(method: &Method, sets: &[String], count: usize) -> Pair {
    let whole = compile(&method.pipeline, sets);
    let parts = compile(&method.pipeline, &in_micro_batches(sets, count));
    assert_eq!((&whole.train, &whole.layout), (&parts.train, &parts.layout), "{}", method.pipeline);
    let arena = start(&whole, sets);
    let inputs = schedules(&whole, batch(&whole));
    Pair { whole, parts, arena, inputs }
}

fn each(work: impl Fn(&Method, &[String])) {
    let page = page();
    for method in page.methods.iter().filter(|method| !COUPLED.contains(&method.pipeline.as_str())) {
        work(method, &sets_of(&page, method));
    }
}

fn one(pipeline: &str) -> (Method, Vec<String>) {
    let page = page();
    let at = page.methods.iter().position(|method| method.pipeline == pipeline).expect("it is there");
    let sets = sets_of(&page, &page.methods[at]);
    (page.methods.into_iter().nth(at).expect("it is there"), sets)
}

fn agree(backend: &str, method: &Method, sets: &[String], count: usize) -> f64 {
    let Pair { whole, parts, arena, inputs } = pair(method, sets, count);
    let mut backend = f64::backend(backend).expect("every build has it");
    let large = backend.run(&whole.train, &whole.layout, &arena, &inputs, &asked()).expect("it runs");
    let found = difference(&large, &by_micro_batches(&mut *backend, &parts, &arena, &inputs));
    println!("{} in {count} on {}: {found:.1e}", method.pipeline, backend.name());
    found
}

#[test]
fn micro_batches_give_the_large_batch_on_every_pipeline() {
    each(|method, sets| {
        for count in [2, 4] {
            let found = agree("cpu", method, sets, count);
            assert!(found <= TOLERANCE, "{} in {count}: {found:e}", method.pipeline);
        }
    });
}

#[test]
fn so_do_they_with_dfdx() {
    for pipeline in ["cmae_vitb", "mae_vitb", "vq_tokenizer"] {
        let (method, sets) = one(pipeline);
        let found = agree("dfdx", &method, &sets, 4);
        assert!(found <= TOLERANCE, "{pipeline}: {found:e}");
    }
}

/// A micro-batch of one sample: no axis of size 1 is taken for another.
#[test]
fn so_do_samples_one_by_one() {
    for pipeline in ["cmae_vitb", "msn_vitb", "cmae_hybridb"] {
        let (method, sets) = one(pipeline);
        let count = if pipeline == "cmae_hybridb" { 8 } else { 16 };
        let found = agree("cpu", &method, &sets, count);
        assert!(found <= TOLERANCE, "{pipeline}: {found:e}");
    }
}

/// Two steps of the trainer: optimizer, averaged copies and states once a step. With SGD, for AdamW makes a whole step of a
/// gradient that is nothing but rounding. The second step starts from what the first made: ten times the tolerance.
#[test]
fn two_steps_of_the_trainer_are_those_of_the_large_batch() {
    each(|method, sets| {
        let mut sets = sets.to_vec();
        sets.extend(["train.optimizer=sgd(momentum: 0.9)", "train.learning_rate=0.05"].map(str::to_owned));
        let Pair { whole, parts, arena, inputs } = pair(method, &sets, 4);
        let steps = |program: &Program| {
            let mut trainer = trainer_from(program, "cpu", 2, arena.clone());
            for _ in 0..2 {
                trainer.step(&inputs).unwrap_or_else(|error| panic!("{}: {error}", method.pipeline));
            }
            trainer.tensors().expect("they are there").to_vec()
        };
        let (large, found) = (steps(&whole), steps(&parts));
        assert!(large != arena, "{} did not move", method.pipeline);
        let largest = large.iter().fold(0.0_f64, |largest, v| largest.max(v.abs()));
        let off = large.iter().zip(&found).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max);
        println!("{}: {off:.1e}", method.pipeline);
        assert!(off <= 10.0 * TOLERANCE, "{}: {off:e}", method.pipeline);
    });
}

/// Leaves out the gradients of one of its runs.
struct Forgetful {
    inner: Box<dyn Backend<f64>>,
    runs: usize,
    forgets: usize,
}

impl Backend<f64> for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }

    fn open<'p>(
        self: Box<Self>,
        program: &'p Program,
        tensors: Vec<f64>,
    ) -> Result<Box<dyn Session<f64> + 'p>, BackendError> {
        Ok(Box::new(HostSession::new(self, program, tensors)))
    }

    fn run_into(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        arena: &[f64],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<f64>,
    ) -> Result<(), BackendError> {
        self.inner.run_into(graph, layout, arena, inputs, request, results)?;
        if request.gradients {
            if self.runs == self.forgets {
                results.gradients.fill(0.0);
            }
            self.runs += 1;
        }
        Ok(())
    }
}

/// The first run with gradients is the coupled part's, then each micro-batch has one.
#[test]
fn a_micro_batch_left_out_shows() {
    let (method, sets) = one("cmae_vitb");
    let Pair { whole, parts, arena, inputs } = pair(&method, &sets, 4);
    let inner = || f64::backend("cpu").expect("every build has it");
    let large = inner().run(&whole.train, &whole.layout, &arena, &inputs, &asked()).expect("it runs");
    for forgets in 0..5 {
        // `by_micro_batches` runs twice: of the second run.
        let mut backend = Forgetful { inner: inner(), runs: 0, forgets: 5 + forgets };
        let found = difference(&large, &by_micro_batches(&mut backend, &parts, &arena, &inputs));
        assert!(found > 1e-3, "run {forgets}: {found:e}");
    }
}

/// What accumulation is elsewhere: each micro-batch with the loss of its own negatives and its own batch norm.
#[test]
fn micro_batches_by_themselves_are_another_loss() {
    let (method, sets) = one("cmae_vitb");
    let Pair { whole, arena, inputs, .. } = pair(&method, &sets, 4);
    let mut backend = f64::backend("cpu").expect("every build has it");
    let large = backend.run(&whole.train, &whole.layout, &arena, &inputs, &asked()).expect("it runs");
    let small = compile(&method.pipeline, &[&sets[..], &["data.batch_size=4".to_owned()]].concat());
    let mut mean = large.clone();
    mean.losses.fill(0.0);
    mean.gradients.fill(0.0);
    for micro in 0..4 {
        let rows = |(name, value): &(String, InputValue)| {
            let InputValue::Float(tensor) = value else { return (name.clone(), value.clone()) };
            let len = tensor.data.len() / 4;
            let mut part = tensor.clone();
            part.shape[0] /= 4;
            part.data = tensor.data[micro * len..(micro + 1) * len].to_vec();
            (name.clone(), InputValue::Float(part))
        };
        let inputs: Vec<_> = inputs.iter().map(rows).collect();
        let results = backend.run(&small.train, &small.layout, &arena, &inputs, &asked()).expect("it runs");
        mean.losses.iter_mut().zip(&results.losses).for_each(|(sum, loss)| *sum += loss / 4.0);
        mean.gradients.iter_mut().zip(&results.gradients).for_each(|(sum, g)| *sum += g / 4.0);
    }
    // Reconstruction is a mean of samples with as many masked patches each: that is the same.
    assert!((mean.losses[0] - large.losses[0]).abs() < 1e-10, "{:?} {:?}", mean.losses, large.losses);
    assert!((mean.losses[1] - large.losses[1]).abs() > 0.1, "{:?} {:?}", mean.losses, large.losses);
    assert!(difference(&large, &mean) > 1e-3);
}

#[test]
fn threads_change_no_bit_of_it() {
    let (method, sets) = one("cmae_vitb");
    let Pair { parts, arena, inputs, .. } = pair(&method, &sets, 4);
    let arena: Vec<f32> = arena.iter().map(|v| *v as f32).collect();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        let results = pool.install(|| {
            let mut backend = f32::backend("cpu").expect("every build has it");
            by_micro_batches(&mut *backend, &parts, &arena, &inputs)
        });
        let bits: Vec<u32> = results.gradients.iter().map(|g| g.to_bits()).collect();
        (results.losses.iter().map(|l| l.to_bits()).collect::<Vec<_>>(), bits)
    };
    let one = with(1);
    assert!(one == with(2) && one == with(3));
}

fn parts_of(program: &Program) -> Parts {
    let (samples, count) = (program.spec.data.batch_size, program.spec.micro_batches());
    let graph = program.train.with_outputs(&[]).expect("nothing is asked for");
    split(&graph, &program.layout, samples, count).expect("it compiles")
}

/// Floats that a plan takes beside parameters and gradients.
fn floats(graph: &Graph, layout: &Layout, gradients: bool) -> usize {
    let outputs = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
    lower(graph, layout, &Request { gradients, outputs, ..Request::default() }, &TARGET).expect("it is sound").floats
}

/// What it is for: a part takes a fraction of the memory of the large batch, and little is kept of the whole batch.
#[test]
fn parts_take_less_memory() {
    for pipeline in ["mae_vitb", "cmae_vitb", "vq_tokenizer"] {
        let (method, sets) = one(pipeline);
        let Pair { whole, parts, .. } = pair(&method, &sets, 4);
        let large = floats(&whole.train.with_outputs(&[]).expect("nothing is asked for"), &whole.layout, true);
        let cut = parts_of(&parts);
        let backward = floats(cut.micro.backward().expect("gradients pass the cut"), &parts.layout, true);
        let forward = floats(cut.micro.forward(), &parts.layout, false);
        let coupled = floats(&cut.coupled, &cut.layout, true);
        let kept: usize = cut.joined.iter().map(|(_, ty)| ty.elements()).sum();
        println!("{pipeline}: whole {large}; forward {forward}, coupled {coupled}, backward {backward}, kept {kept}");
        assert!(backward * 2 < large && forward * 2 < large && coupled * 2 < large, "{pipeline}");
        assert!(kept * 10 < large, "{pipeline}: {kept} of {large}");
    }
}

/// What is compared across samples is what is kept: of MAE, the error and the count of each sample.
#[test]
fn reductions_keep_a_number_a_sample() {
    let (method, sets) = one("mae_vitb");
    let joined = parts_of(&pair(&method, &sets, 4).parts).joined;
    let shapes: Vec<&[usize]> = joined.iter().map(|(_, ty)| ty.shape.as_slice()).collect();
    assert_eq!(shapes, [[16], [16]], "{joined:?}");
}

/// Whose joined gradients hang on no joined value: micro-batches of these go through the network once.
#[test]
fn means_over_samples_go_once() {
    let mut once = Vec::new();
    for method in page().methods.iter().filter(|method| !COUPLED.contains(&method.pipeline.as_str())) {
        let (method, sets) = one(&method.pipeline);
        if let Micro::Once { known, .. } = parts_of(&pair(&method, &sets, 4).parts).micro {
            assert!(known.nodes.iter().all(|node| !matches!(node.op, Op::Attention { .. } | Op::Linear)));
            once.push(method.pipeline);
        }
    }
    once.sort();
    assert_eq!(once, ONCE);
}

/// No part is run with gradients where none are needed: the target branch has a forward pass only.
#[test]
fn what_has_no_gradient_is_not_run_again() {
    let (method, sets) = one("cmae_vitb");
    let cut = parts_of(&pair(&method, &sets, 4).parts);
    let reads = |graph: &Graph, name: &str| graph.inputs.iter().any(|input| input.name == name);
    let Micro::Twice { forward, backward: Some(backward) } = &cut.micro else {
        panic!("InfoNCE's gradients hang on its keys")
    };
    assert!(reads(forward, "views.target") && !reads(backward, "views.target"));
    assert!(reads(backward, "views.online"));
}

#[test]
fn pipelines_that_couple_inside_are_refused() {
    let page = page();
    for method in &page.methods {
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let path = root(&format!("pipelines/{}.cmae", method.pipeline));
        let sets = in_micro_batches(&sets_of(&page, method), 4);
        let sets: Vec<_> = sets.iter().map(|set| set.as_str().into()).collect();
        let compiled = cmae::compile(&mut sources, &mut diagnostics, &path, &sets).is_ok();
        assert_eq!(compiled, !COUPLED.contains(&method.pipeline.as_str()), "{}", method.pipeline);
        // What overrides leave unread is a warning.
        let mut errors = diagnostics.list().iter().filter(|d| d.severity() == Severity::Error);
        assert!(errors.all(|d| d.code == Code::CoupledEncoder), "{}", method.pipeline);
    }
}

/// A graph in its text form, cut for 4 samples in 2 micro-batches.
fn cut(text: &str) -> Result<Parts, SplitError> {
    let graph = cmae::graph::text::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let shape = |path: &str, shape: &[usize]| TensorDecl {
        path: path.to_owned(),
        shape: shape.to_vec(),
        role: cmae::spec::Role::Weight,
        kind: TensorKind::Trained,
        init: Init::Zeros,
    };
    split(&graph, &Layout::new(vec![shape("w", &[3, 2]), shape("k", &[5, 2])]), 4, 2)
}

fn joined(parts: &Parts) -> Vec<&[usize]> {
    parts.joined.iter().map(|(_, ty)| ty.shape.as_slice()).collect()
}

/// The constant 1 / 4 stays that of the whole batch, and a weight is read whole by each part that needs it.
#[test]
fn a_cut_by_hand() {
    let parts = cut("input x: f[4, 2] Noise
        %0: f[4, 2] = input() (name:\"x\")
        %1: f[3, 2] = param() (path:\"w\")
        %2: f[4, 3] = linear(%0, %1)
        %3: f[4, 3] = mul_const(%2) (value:0.25)
        %4: f[] = sum(%3) (axes:[0,1],keep:false)
        loss all = %4
        total = %4")
    .expect("nothing is coupled inside");
    // A number a sample, of a sum over both axes.
    assert_eq!(joined(&parts), [[4]]);
    let text = cmae::graph::text::print(parts.micro.forward());
    assert!(text.contains("f[2, 3] = mul_const") && text.contains("value:0.25"), "{text}");
    assert!(text.contains("f[3, 2] = param"), "{text}");
    let text = cmae::graph::text::print(&parts.coupled);
    assert!(text.contains("f[] = sum(%0) (axes:[0],keep:false)"), "{text}");
    // A sum's gradient is 1 whatever the samples are.
    let Micro::Once { known, both } = &parts.micro else { panic!("it is known beforehand") };
    assert!(known.inputs.is_empty() && both.inputs.len() == 2);
}

/// Rows that lie behind an axis of size 1 are rows all the same; what is made of ids is kept as ids.
#[test]
fn codes_are_looked_up_by_rows() {
    let parts = cut("input x: f[4, 2] Noise
        %0: f[4, 2] = input() (name:\"x\")
        %1: f[5, 2] = param() (path:\"k\")
        %2: f[4, 5] = matmul(%0, %1) (transpose_b:true)
        %3: i[4] = argmax(%2)
        %4: i[1, 4] = reshape(%3)
        %5: f[1, 5, 2] = reshape(%1)
        %6: f[1, 4, 2] = gather_tokens(%5, %4)
        %7: f[4, 2] = reshape(%6)
        %8: f[4, 5] = one_hot(%3) (classes:5)
        %9: f[5] = sum(%8) (axes:[0],keep:false)
        %10: f[] = sum(%9) (axes:[0],keep:false)
        %11: f[] = sum(%7) (axes:[0,1],keep:false)
        loss all = %11
        monitor used = %10
        total = %11")
    .expect("nothing is coupled inside");
    assert_eq!(joined(&parts), [[4], [4]], "ids, and a sum a sample");
}

#[test]
fn the_first_op_that_joins_is_named() {
    let coupling = cut("input x: f[4, 1, 4, 4] Noise
        input y: f[2, 1, 1, 1] Random
        %0: f[4, 1, 4, 4] = input() (name:\"x\")
        %1: f[1, 4, 4] = mean(%0) (axes:[0],keep:false)  ; encoder.centre
        %2: f[4, 1, 4, 4] = broadcast(%1)  ; encoder.centre
        %3: f[4, 1, 4, 4] = sub(%0, %2)  ; encoder.centre
        %4: f[2, 1, 1, 1] = input() (name:\"y\")
        %5: f[4, 2, 4, 4] = conv2d(%3, %4) (stride:1,padding:0,groups:1)  ; encoder.conv
        %6: f[] = mean(%5) (axes:[0,1,2,3],keep:false)
        loss all = %6
        total = %6")
    .expect_err("a convolution sees what was joined");
    let SplitError::Coupled(coupling) = coupling else { panic!("{coupling}") };
    assert_eq!((coupling.op, coupling.scope.as_str()), ("mean", "encoder.centre"));
    assert_eq!((coupling.encoder_op, coupling.encoder_scope.as_str()), ("conv2d", "encoder.conv"));
}
