//! One graph with values: runs it in f64 and f32 and holds gradients against finite differences.

use std::cell::{Cell, RefCell};

use cmae::backend::{Backend, Compute, Request, Results};
use cmae::graph::{Graph, Init, Layout, Node, TensorDecl, TensorKind, ValueId, verify};
use cmae::op::{DType, Op, Type};
use cmae::spec::Role;
use cmae::tensor::{Element, HostTensor, InputValue, OutputValue};

/// What fills a parameter or an input.
#[derive(Debug, Clone)]
pub enum Values {
    Given(Vec<f64>),
    /// Pseudo-random in `low..high`, the same on every run: drawn from the name.
    Random(f64, f64),
}

pub struct Case {
    pub title: String,
    pub graph: Graph,
    /// By parameter path or input name; a parameter or float input that is not here is random in −1..1. Parameters whose
    /// path starts with `fixed` get no gradient.
    pub values: Vec<(String, Values)>,
    /// No finite differences: the gradient is not that of the function (`stop_gradient`, ties, kinks).
    pub by_hand: bool,
}

/// Width of the central difference, and the tolerance that follows from it. With h = 1e-5 the truncation error is
/// h²/6·|f‴| = 1.7e-11·|f‴|; the third derivatives of the cases stay below 1e3 of the gradient's scale (1/x at 0.5 and
/// norms of small rows are the steepest), which gives 2e-8. The rounding error is ε·Σ|terms|/h = 2.2e-16·1e2/1e-5 = 2e-9.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-7;

impl Case {
    /// Every fault of the case on any backend, each with the title before it.
    pub fn faults(&self) -> Vec<String> {
        let mut found: Vec<Results<f64>> = Vec::new();
        let mut faults = on_each(|| {
            let mut faults = Vec::new();
            found.extend(self.check(&mut faults));
            faults
        });
        if let [first, others @ ..] = found.as_slice() {
            others.iter().for_each(|other| same(first, other, &mut faults));
        }
        faults.iter().map(|fault| format!("{}: {fault}", self.title)).collect()
    }

    fn check(&self, faults: &mut Vec<String>) -> Option<Results<f64>> {
        let (graph, layout) = self.with_total(true);
        let arena = self.arena(&layout, true);
        let exact = match run::<f64>(&graph, &layout, &arena, &self.inputs(&graph)) {
            Ok(results) => results,
            Err(error) => {
                faults.push(error);
                return None;
            }
        };
        if !self.by_hand && graph.total.is_some() && by_differences() {
            self.finite_differences(&graph, &layout, &arena, &exact.gradients, faults);
        }
        match run::<f32>(&graph, &layout, &arena.iter().map(|v| *v as f32).collect::<Vec<_>>(), &self.inputs(&graph)) {
            Ok(single) => agreement(&graph, &exact, &single, faults),
            Err(error) => faults.push(format!("f32: {error}")),
        }
        Some(exact)
    }

    fn finite_differences(
        &self,
        graph: &Graph,
        layout: &Layout,
        arena: &[f64],
        gradients: &[f64],
        faults: &mut Vec<String>,
    ) {
        let scale = gradients.iter().fold(1.0_f64, |s, g| if g.is_finite() { s.max(g.abs()) } else { s });
        let inputs = self.inputs(graph);
        for (index, tensor) in layout.tensors.iter().enumerate().filter(|(_, t)| t.kind == TensorKind::Trained) {
            for at in layout.range(index) {
                let total = |by: f64| -> f64 {
                    let mut moved = arena.to_vec();
                    moved[at] += by;
                    forward(graph, layout, &moved, &inputs)
                };
                let expected = (total(STEP) - total(-STEP)) / (2.0 * STEP);
                // Written so that NaN is a fault.
                if (gradients[at] - expected).abs().partial_cmp(&(TOLERANCE * scale)) != Some(std::cmp::Ordering::Less)
                {
                    let element = at - layout.range(index).start;
                    let found = gradients[at];
                    faults
                        .push(format!("gradient of {}[{element}] is {found}, by differences {expected}", tensor.path));
                }
            }
        }
    }

    /// The graph with a total: its own, or Σ output · weight over all float outputs, where the weights are fixed random
    /// numbers, or ones if not `weighted`.
    pub fn with_total(&self, weighted: bool) -> (Graph, Layout) {
        let mut graph = self.graph.clone();
        let outputs = graph.outputs.clone();
        for (name, id) in outputs.iter().filter(|_| self.graph.total.is_none()) {
            let ty = graph.node(*id).ty.clone();
            if ty.dtype == DType::Int {
                continue;
            }
            let weight = if weighted {
                push(&mut graph, Op::Param { path: format!("fixed.weight.{name}") }, &[], ty.clone())
            } else {
                push(&mut graph, Op::Full { value: 1.0 }, &[], ty.clone())
            };
            let product = push(&mut graph, Op::Mul, &[*id, weight], ty.clone());
            let axes = (0..ty.shape.len()).collect();
            let sum = push(&mut graph, Op::Sum { axes, keep: false }, &[product], Type::float([]));
            graph.total = Some(match graph.total {
                Some(total) => push(&mut graph, Op::Add, &[total, sum], Type::float([])),
                None => sum,
            });
        }
        let mut tensors: Vec<TensorDecl> = Vec::new();
        for node in &graph.nodes {
            if let Op::Param { path } = &node.op
                && tensors.iter().all(|t| t.path != *path)
            {
                tensors.push(TensorDecl {
                    path: path.clone(),
                    shape: node.ty.shape.clone(),
                    role: Role::Weight,
                    kind: if path.starts_with("fixed") { TensorKind::Fixed } else { TensorKind::Trained },
                    init: Init::Zeros,
                });
            }
        }
        let layout = Layout::new(tensors);
        if let Err(errors) = verify::verify(&graph, &layout) {
            panic!("{}", errors.join("\n"));
        }
        (graph, layout)
    }

    /// Values of the parameters; with `rounded` those that f32 can hold, so that both precisions see the same numbers.
    pub fn arena(&self, layout: &Layout, rounded: bool) -> Vec<f64> {
        let mut arena = vec![0.0; layout.total_len];
        for (index, tensor) in layout.tensors.iter().enumerate() {
            let values = self.values(&tensor.path, tensor.elements());
            arena[layout.range(index)].copy_from_slice(&values);
        }
        if rounded {
            arena.iter_mut().for_each(|v| *v = f64::from(*v as f32));
        }
        arena
    }

    pub fn inputs(&self, graph: &Graph) -> Vec<(String, InputValue)> {
        let value = |name: &str, ty: &Type| {
            let (shape, values) = (ty.shape.clone(), self.values(name, ty.elements()));
            match ty.dtype {
                DType::Float => {
                    InputValue::Float(HostTensor { shape, data: values.iter().map(|v| *v as f32).collect() })
                }
                DType::Int => InputValue::Int(HostTensor { shape, data: values.iter().map(|v| *v as i64).collect() }),
            }
        };
        graph.inputs.iter().map(|input| (input.name.clone(), value(&input.name, &input.ty))).collect()
    }

    fn values(&self, name: &str, count: usize) -> Vec<f64> {
        match self.values.iter().find(|(n, _)| n == name) {
            Some((_, Values::Given(values))) => {
                assert_eq!(values.len(), count, "values of `{name}`");
                values.clone()
            }
            Some((_, Values::Random(low, high))) => random(name, count, *low, *high),
            None => random(name, count, -1.0, 1.0),
        }
    }
}

/// Runs `graph` for its outputs, losses and gradients.
pub fn run<E: Compute>(
    graph: &Graph,
    layout: &Layout,
    arena: &[E],
    inputs: &[(String, InputValue)],
) -> Result<Results<E>, String> {
    let outputs = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
    let request = Request { gradients: graph.total.is_some(), outputs, ..Request::default() };
    backend::<E>().run(graph, layout, arena, inputs, &request).map_err(|error| error.to_string())
}

/// Backends that this build has and that run everywhere, and `xla` where there is a plugin. `CMAE_TEST_BACKEND` names another to
/// be tested instead.
const BACKENDS: [&str; 2] = ["dfdx", "cpu"];

fn backends() -> Vec<String> {
    if let Ok(name) = std::env::var("CMAE_TEST_BACKEND") {
        return vec![name];
    }
    let plugin = crate::xla::backend().filter(|_| WITH_PLUGIN.get());
    BACKENDS.into_iter().chain(plugin).map(str::to_owned).collect()
}

/// Whether gradients of the backend under test are held against differences of its totals. A plugin's are held against the other
/// backends' alone, which are: it runs the same gradient graph as `cpu`, and would compile one more program for each case.
fn by_differences() -> bool {
    UNDER_TEST.with_borrow(|name| BACKENDS.contains(&name.as_str())) || std::env::var("CMAE_TEST_BACKEND").is_ok()
}

/// Does `work` with all backends, or without a plugin, whose compiler takes most of the time of a small case.
pub fn with_plugin<T>(there: bool, work: impl FnOnce() -> T) -> T {
    WITH_PLUGIN.set(there);
    let done = work();
    WITH_PLUGIN.set(true);
    done
}

thread_local! {
    static WITH_PLUGIN: Cell<bool> = const { Cell::new(true) };
    static UNDER_TEST: RefCell<String> = RefCell::new(BACKENDS[0].to_owned());
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// A backend and its name.
type Kept = (String, Box<dyn Backend<f64>>);

/// Collects what `work` finds with each backend under test, each fault with the backend's name before it. A panic is a fault.
pub fn on_each(mut work: impl FnMut() -> Vec<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for name in backends() {
        UNDER_TEST.set(name.clone());
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            vec![text.unwrap_or_else(|| "the backend panicked".to_owned())]
        });
        faults.extend(found.iter().map(|fault| format!("{name}: {fault}")));
    }
    faults
}

fn backend<E: Compute>() -> Box<dyn Backend<E>> {
    UNDER_TEST.with_borrow(|name| E::backend(name)).expect("the backend under test is there")
}

/// Two backends in f64 from the same numbers: they differ in the order of sums alone. 1e-12 of the largest value is some
/// thousand roundings; the largest sums of the cases have some hundred terms.
fn same(a: &Results<f64>, b: &Results<f64>, faults: &mut Vec<String>) {
    let mut compare = |what: &str, a: &[f64], b: &[f64]| {
        let scale = a.iter().fold(1.0_f64, |s, v| if v.is_finite() { s.max(v.abs()) } else { s });
        let agree = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * scale;
        if a.len() != b.len() || !a.iter().zip(b).all(agree) {
            faults.push(format!("backends differ in {what}: {a:?}, {b:?}"));
        }
    };
    a.outputs.iter().zip(&b.outputs).for_each(|(a, b)| compare("an output", &flat(a), &flat(b)));
    compare("the gradient", &a.gradients, &b.gradients);
}

/// The total, by a backend that is kept: differences run one graph again and again, and `xla` compiles it once.
pub fn forward(graph: &Graph, layout: &Layout, arena: &[f64], inputs: &[(String, InputValue)]) -> f64 {
    let name = UNDER_TEST.with_borrow(String::clone);
    let kept = KEPT.take().filter(|(of, _)| *of == name);
    let (name, mut backend) = kept.unwrap_or_else(|| (name, backend::<f64>()));
    let results = backend.run(graph, layout, arena, inputs, &Request::default());
    KEPT.set(Some((name, backend)));
    results.map_or(f64::NAN, |r| r.total)
}

/// Outputs and gradients in f32 against those in f64, both from the same f32 numbers. Each op rounds once for each element
/// of its longest sum, which no value of the graph is shorter than; 8 covers the few roundings within an op and the
/// condition of divisions and exponentials on the cases' values.
pub fn agreement(graph: &Graph, exact: &Results<f64>, single: &Results<f32>, faults: &mut Vec<String>) {
    let longest = graph.nodes.iter().map(|n| n.ty.elements()).max().unwrap_or(1);
    let roundings = (longest + 8 * graph.nodes.len()) as f64;
    let mut compare = |name: &str, a: &[f64], b: &[f64]| {
        let scale = a.iter().fold(1.0_f64, |s, v| if v.is_finite() { s.max(v.abs()) } else { s });
        let allowed = roundings * f64::from(f32::EPSILON) * scale;
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= allowed;
            if !same {
                faults.push(format!("{name}[{i}] is {y} in f32 and {x} in f64, allowed {allowed:.1e}"));
            }
        }
    };
    for ((name, _), (a, b)) in graph.outputs.iter().zip(exact.outputs.iter().zip(&single.outputs)) {
        compare(name, &flat(a), &flat(b));
    }
    let gradients: Vec<f64> = single.gradients.iter().map(|g| f64::from(*g)).collect();
    compare("gradient", &exact.gradients, &gradients);
}

/// The numbers of an output, ids included.
pub fn flat<E: Element>(output: &OutputValue<E>) -> Vec<f64> {
    match output {
        OutputValue::Float(tensor) => tensor.data.iter().map(|v| v.to_f64()).collect(),
        OutputValue::Int(tensor) => tensor.data.iter().map(|v| *v as f64).collect(),
    }
}

pub fn push(graph: &mut Graph, op: Op, inputs: &[ValueId], ty: Type) -> ValueId {
    graph.nodes.push(Node { op, inputs: inputs.to_vec(), ty, scope: String::new() });
    ValueId(graph.nodes.len() as u32 - 1)
}

/// splitmix64 from a hash of the name: no seed to keep, and other cases' values stay as they are when one is added.
pub fn random(name: &str, count: usize, low: f64, high: f64) -> Vec<f64> {
    let mut state =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count).map(|_| low + (high - low) * next()).collect()
}
