//! The `cpu` backend beside what the pages of ops say: it agrees with dfdx on every pipeline, its bits depend neither on the
//! number of threads nor on the vectors of the machine, and its plans share memory.

use cmae::backend::cpu::TARGET;
use cmae::backend::{Compute, Request, Results};
use cmae::graph::Program;
use cmae::plan::{Space, lower};
use cmae::tensor::{InputValue, Inputs};
use cmae::wide::at_each_level;

use crate::methods::{Method, batch, compile, page, sets_of, start};

fn run<E: Compute>(backend: &str, program: &Program, arena: &[E], inputs: &[(String, InputValue)]) -> Results<E> {
    let request = Request { gradients: true, ..Request::default() };
    let mut backend = E::backend(backend).expect("this build has it");
    let results = backend.run(&program.train, &program.layout, arena, inputs, &request);
    results.unwrap_or_else(|error| panic!("{}: {error}", program.spec.name))
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

/// Every pipeline of `tests/methods.ron` as it starts.
pub fn each_pipeline(work: impl Fn(&Method, &Program, &[f64], &[(String, InputValue)])) {
    let page = page();
    for method in &page.methods {
        let sets = sets_of(&page, method);
        let program = compile(&method.pipeline, &sets);
        let arena: Vec<f64> = start(&program, &sets);
        let inputs = schedules(&program, batch(&program));
        work(method, &program, &arena, &inputs);
    }
}

/// Losses and gradients in f64. 1e-9 of the largest gradient: values of some hundred ops in sequence, each some roundings of
/// 2.2e-16 apart, and norms of rows that nearly vanish at the start magnify them.
#[test]
fn it_agrees_with_dfdx_on_every_pipeline() {
    each_pipeline(|method, program, arena, inputs| {
        let name = &method.pipeline;
        let (a, b) = (run("dfdx", program, arena, inputs), run("cpu", program, arena, inputs));
        for (a, b) in a.losses.iter().zip(&b.losses) {
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{name}: {a} and {b}");
        }
        let largest = a.gradients.iter().fold(0.0_f64, |s, g| s.max(g.abs()));
        assert!(largest > 0.0 && a.gradients.len() == b.gradients.len(), "{name} has no gradient");
        for (at, (a, b)) in a.gradients.iter().zip(&b.gradients).enumerate() {
            assert!((a - b).abs() <= 1e-9 * largest, "{name}: gradient {at} is {a} and {b}, the largest {largest}");
        }
    });
}

#[test]
fn threads_change_no_bit() {
    each_pipeline(|method, program, arena, inputs| {
        let arena: Vec<f32> = arena.iter().map(|v| *v as f32).collect();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            let results = pool.install(|| run("cpu", program, &arena, inputs));
            let bits: Vec<u32> = results.gradients.iter().map(|g| g.to_bits()).collect();
            (results.losses.iter().map(|l| l.to_bits()).collect::<Vec<_>>(), bits)
        };
        let one = with(1);
        for threads in [2, 3, 5] {
            assert!(one == with(threads), "{} with {threads} threads", method.pipeline);
        }
    });
}

/// A second run of one plan, on memory that the first has left behind, gives the same bits.
#[test]
fn runs_leave_nothing_behind() {
    each_pipeline(|method, program, arena, inputs| {
        let request = Request { gradients: true, ..Request::default() };
        let mut backend = f64::backend("cpu").expect("every build has it");
        let mut results = Results::default();
        let mut bits = Vec::new();
        let inputs = Inputs::new(inputs, &[]);
        for _ in 0..2 {
            backend
                .run_into(&program.train, &program.layout, arena, inputs, &request, &mut results)
                .unwrap_or_else(|error| panic!("{}: {error}", method.pipeline));
            bits.push(results.gradients.iter().map(|g| g.to_bits()).collect::<Vec<_>>());
        }
        assert!(bits[0] == bits[1], "{}", method.pipeline);
    });
}

/// The floats of a step are a part of what all its values would take, and most gradients are written where they belong, where other values
/// lie before.
#[test]
fn plans_share_memory() {
    let page = page();
    let method = page.methods.iter().find(|m| m.pipeline == "mae_vitb").expect("it is there");
    let program = compile(&method.pipeline, &sets_of(&page, method));
    let request = Request { gradients: true, ..Request::default() };
    let plan = lower(&program.train, &program.layout, &request, &TARGET).expect("it is sound");
    let values: usize = plan.graph.nodes.iter().map(|node| node.ty.elements()).sum();
    assert!(plan.floats * 3 < values, "{} of {values} floats", plan.floats);
    let places = plan.graph.gradients.iter().map(|(_, id)| plan.places[id.index()].expect("results keep theirs"));
    let direct = places.filter(|place| place.space == Space::Gradients).count();
    assert!(direct > plan.copies.len(), "{direct} gradients in place, {} copied", plan.copies.len());
    // And their room is used before.
    let written = plan.steps.iter().filter(|step| step.writes.space == Space::Gradients).count();
    assert!(written > direct, "{written} values, {direct} of them gradients");
    assert!(plan.steps.iter().any(|step| step.in_place.is_some()), "{}", plan.text(8));
}

/// Whatever vectors the machine has.
#[test]
fn levels_change_no_bit() {
    each_pipeline(|method, program, arena, inputs| {
        let arena: Vec<f32> = arena.iter().map(|v| *v as f32).collect();
        let mut first = None;
        at_each_level(|level| {
            let results = run("cpu", program, &arena, inputs);
            let bits: Vec<u32> = results.gradients.iter().map(|g| g.to_bits()).collect();
            assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{} at {level:?}", method.pipeline);
        });
    });
}
