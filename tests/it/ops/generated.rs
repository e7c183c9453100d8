//! Graphs drawn at random, planned, verified, and run: long sums, values that many read, ops one behind the other, shapes with
//! axes of one. `cpu` agrees with dfdx, and gives the same bits whether its plan fuses or computes each value by itself.
//!
//! The suite has a slice. Far more: `cargo test --release --test it ops::generated -- --ignored --nocapture`.

use cmae::backend::cpu::TARGET;
use cmae::backend::{Compute, Request, Results};
use cmae::graph::{Graph, Layout, ValueId};
use cmae::op::{Op, Type};
use cmae::plan::{Work, lower};
use cmae::tensor::{Element, InputValue};

use super::case::{Case, flat};
use super::sweep::Build;

/// splitmix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..count`.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How the terms of a sum are put together.
#[derive(Debug, Clone, Copy)]
enum Order {
    FromTheLeft,
    FromTheRight,
    Halves,
}

const ORDERS: [Order; 3] = [Order::FromTheLeft, Order::FromTheRight, Order::Halves];

fn sum(build: &mut Build, terms: &[ValueId], order: Order) -> ValueId {
    let add = |build: &mut Build, a, b| build.op(Op::Add, &[a, b]);
    match (terms, order) {
        ([one], _) => *one,
        ([rest @ .., last], Order::FromTheLeft) => {
            let sum = rest[1..].iter().fold(rest[0], |sum, term| add(build, sum, *term));
            add(build, sum, *last)
        }
        ([rest @ .., last], Order::FromTheRight) => rest.iter().rev().fold(*last, |sum, term| add(build, *term, sum)),
        (_, Order::Halves) => {
            let (a, b) = terms.split_at(terms.len() / 2);
            let (a, b) = (sum(build, a, order), sum(build, b, order));
            add(build, a, b)
        }
        ([], _) => panic!("a sum has a term"),
    }
}

/// A graph that grows.
struct Growing {
    draw: Draw,
    build: Build,
    /// All values, numbers only.
    values: Vec<ValueId>,
    params: usize,
}

impl Growing {
    fn shape(&self, id: ValueId) -> Vec<usize> {
        self.build.graph.node(id).ty.shape.clone()
    }

    /// Mostly one that is new, so that graphs get deep; also any other, so that some are read often and late.
    fn value(&mut self) -> ValueId {
        let count = self.values.len();
        let recent = if self.draw.chance(60) { count.min(4) } else { count };
        self.values[count - 1 - self.draw.below(recent)]
    }

    fn param(&mut self, shape: &[usize]) -> ValueId {
        self.params += 1;
        let kind = if self.draw.chance(20) { "fixed.p" } else { "p" };
        self.build.param(&format!("{kind}{}", self.params), shape)
    }

    fn any_shape(&mut self) -> Vec<usize> {
        let rank = self.draw.below(5);
        let mut shape: Vec<usize> = (0..rank).map(|_| self.draw.one(&[1, 1, 2, 2, 3, 3, 4, 5, 7])).collect();
        // Now and then longer than a chain's run.
        if rank > 0 && self.draw.chance(5) {
            shape[rank - 1] = self.draw.one(&[16, 33, 129, 513]);
        }
        while shape.iter().product::<usize>() > 2500 {
            shape.pop();
        }
        shape
    }

    /// A value of `shape`: another's, a parameter, or a number, repeated from fewer axes, from axes of one, or from one value.
    fn fitting(&mut self, shape: &[usize]) -> ValueId {
        let same: Vec<ValueId> = self.values.iter().copied().filter(|id| self.shape(*id) == shape).collect();
        if !same.is_empty() && self.draw.chance(50) {
            return self.draw.one(&same);
        }
        if self.draw.chance(10) {
            let full = Op::Full { value: self.draw.one(&[0.0, 1.0, -0.5]) };
            return super::case::push(&mut self.build.graph, full, &[], Type::float(shape));
        }
        let skipped = self.draw.below(shape.len() + 1);
        let smaller: Vec<usize> =
            shape[skipped..].iter().map(|size| if self.draw.chance(40) { 1 } else { *size }).collect();
        let param = self.param(&smaller);
        if smaller == shape { param } else { self.build.to(Op::Broadcast, param, shape) }
    }

    /// One more value, or some.
    fn grow(&mut self) {
        let x = self.value();
        let shape = self.shape(x);
        let (rank, elements) = (shape.len(), shape.iter().product::<usize>());
        let made = match self.draw.below(16) {
            0 | 1 => self.long_sum(&shape),
            // Ops that keep values small, and have slopes everywhere.
            2 | 3 => {
                let count = if self.draw.chance(5) { 100 } else { 1 + self.draw.below(4) };
                (0..count).fold(x, |x, _| {
                    let op = self.draw.one(&[Op::Tanh, Op::Sin, Op::Cos, Op::Sigmoid, Op::Neg, Op::Gelu]);
                    self.build.op(op, &[x])
                })
            }
            4 => {
                let bounded = self.build.op(Op::Sin, &[x]);
                let exponential = self.build.op(Op::Exp, &[bounded]);
                let op = self.draw.one(&[Op::Log, Op::Sqrt, Op::PowConst { value: -1.0 }, Op::PowConst { value: 1.5 }]);
                self.build.op(op, &[exponential])
            }
            5 | 6 => {
                let other = self.fitting(&shape);
                let bounded = self.build.op(Op::Tanh, &[other]);
                let op = self.draw.one(&[Op::Mul, Op::Sub, Op::Add, Op::Maximum, Op::Minimum, Op::Less]);
                self.build.op(op, &[x, bounded])
            }
            7 => {
                let (a, b) = (self.fitting(&shape), self.fitting(&shape));
                let condition = self.build.op(Op::Less, &[x, a]);
                self.build.op(Op::Select, &[condition, b, x])
            }
            8 | 9 => {
                let axes: Vec<usize> = (0..rank).filter(|_| self.draw.chance(50)).collect();
                let keep = self.draw.chance(50);
                self.build.op(if self.draw.chance(70) { Op::Mean { axes, keep } } else { Op::Sum { axes, keep } }, &[x])
            }
            10 => {
                // Flat, or with axes of one between.
                let mut new = if self.draw.chance(50) { vec![elements] } else { shape };
                let at = self.draw.below(new.len() + 1);
                new.insert(at, 1);
                self.build.to(Op::Reshape, x, &new)
            }
            11 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                (1..rank).rev().for_each(|i| axes.swap(i, self.draw.below(i + 1)));
                self.build.op(Op::Permute { axes }, &[x])
            }
            12 if rank > 0 => {
                let axis = self.draw.below(rank);
                let start = self.draw.below(shape[axis]);
                let end = start + 1 + self.draw.below(shape[axis] - start);
                let part = self.build.op(Op::Slice { axis, start, end }, &[x]);
                if self.draw.chance(50) && elements < 1000 {
                    self.build.op(Op::Concat { axis }, &[part, x, part])
                } else {
                    part
                }
            }
            13 if rank > 0 => {
                let op = self.draw.one(&[
                    Op::Softmax,
                    Op::LogSoftmax,
                    Op::LayerNorm { eps: 1e-2 },
                    Op::L2Normalize { eps: 1e-2 },
                ]);
                self.build.op(op, &[x])
            }
            14 if rank > 0 => self.product(x, &shape),
            15 => self.attention(),
            _ => {
                let op = if self.draw.chance(50) { Op::StopGradient } else { Op::MulConst { value: 0.75 } };
                self.build.op(op, &[x])
            }
        };
        self.values.push(made);
    }

    fn long_sum(&mut self, shape: &[usize]) -> ValueId {
        let count = 1 + self.draw.below(40);
        let terms: Vec<ValueId> = (0..count)
            .map(|_| {
                let term = self.fitting(shape);
                if self.draw.chance(30) { self.build.op(Op::MulConst { value: -0.9 }, &[term]) } else { term }
            })
            .collect();
        let order = self.draw.one(&ORDERS);
        let sum = sum(&mut self.build, &terms, order);
        self.build.op(Op::MulConst { value: 1.0 / count as f64 }, &[sum])
    }

    /// A linear layer or a product with what follows it.
    fn product(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        let (width, out) = (shape[shape.len() - 1], self.draw.one(&[1, 2, 5, 17]));
        let matrices = shape.len() >= 2 && self.draw.chance(50);
        let product = if matrices {
            let transpose_b = self.draw.chance(50);
            let mut other = shape.to_vec();
            let last = other.len();
            other[last - 2..].copy_from_slice(&if transpose_b { [out, width] } else { [width, out] });
            let other = self.param(&other);
            self.build.op(Op::Matmul { transpose_b }, &[x, other])
        } else {
            let (weight, bias) = (self.param(&[out, width]), self.param(&[out]));
            let with_bias = [x, weight, bias];
            self.build.op(Op::Linear, if self.draw.chance(50) { &with_bias } else { &with_bias[..2] })
        };
        let scaled = self.build.op(Op::MulConst { value: 1.0 / (width as f64).sqrt() }, &[product]);
        if self.draw.chance(70) { self.build.op(Op::Gelu, &[scaled]) } else { scaled }
    }

    /// Query, key and value out of one projection, or of three.
    fn attention(&mut self) -> ValueId {
        let [b, n, h, d] = [(); 4].map(|()| self.draw.one(&[1, 2, 3, 5]));
        let scale = 1.0 / (d as f64).sqrt();
        if self.draw.chance(40) {
            let m = self.draw.one(&[1, 2, 4]);
            let (q, k, v) = (self.param(&[b, h, n, d]), self.param(&[b, h, m, d]), self.param(&[b, h, m, d]));
            let bias = self.param(&[h, n, m]);
            return self.build.op(Op::Attention { scale }, &[q, k, v, bias]);
        }
        let joint = self.param(&[b, n, 3, h, d]);
        let joint = self.build.op(Op::Permute { axes: vec![2, 0, 3, 1, 4] }, &[joint]);
        let [q, k, v] = [0, 1, 2].map(|i| {
            let part = self.build.op(Op::Slice { axis: 0, start: i, end: i + 1 }, &[joint]);
            self.build.to(Op::Reshape, part, &[b, h, n, d])
        });
        let attention = self.build.op(Op::Attention { scale }, &[q, k, v]);
        let rows = self.build.op(Op::Permute { axes: vec![0, 2, 1, 3] }, &[attention]);
        self.build.to(Op::Reshape, rows, &[b, n, h * d])
    }
}

fn drawn(seed: u64) -> Case {
    let mut growing = Growing { draw: Draw(seed), build: Build::default(), values: Vec::new(), params: 0 };
    for _ in 0..3 {
        let shape = growing.any_shape();
        let param = growing.param(&shape);
        growing.values.push(param);
    }
    let count = 4 + growing.draw.below(36);
    (0..count).for_each(|_| growing.grow());
    // The last, which nothing reads, and some between, which others may.
    let mut results = vec![growing.values[growing.values.len() - 1]];
    (0..growing.draw.below(4)).for_each(|_| results.push(growing.value()));
    results.iter().enumerate().for_each(|(i, id)| growing.build.output(&format!("y{i}"), *id));
    growing.build.case(format!("graph {seed}"))
}

fn run<E: Compute>(
    backend: &str,
    case: &Case,
    (graph, layout): &(Graph, Layout),
    apart: bool,
) -> Result<Results<E>, String> {
    let arena: Vec<E> = case.arena(layout, true).into_iter().map(E::from_f64).collect();
    let outputs = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
    let request = Request { gradients: true, outputs, check_finite: apart, ..Request::default() };
    let inputs: Vec<(String, InputValue)> = case.inputs(graph);
    let mut backend = E::backend(backend).map_err(|error| error.to_string())?;
    let work = || backend.run(graph, layout, &arena, &inputs, &request).map_err(|error| error.to_string());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// All numbers that a run gives.
fn numbers<E: Element>(results: &Results<E>) -> Vec<f64> {
    let gradients = results.gradients.iter().map(|g| g.to_f64());
    results.outputs.iter().flat_map(flat).chain(gradients).chain([results.total]).collect()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What is wrong with a case on `cpu`.
///
/// Beside dfdx 1e-9 of the largest number: some hundred ops in sequence whose sums are grouped otherwise, as of pipelines
/// (`cpu.rs`); norms of rows below eps and slopes of 1/x are as steep there.
fn fault(case: &Case) -> Option<String> {
    let whole = case.with_total(true);
    let found = (|| {
        let (cpu, apart) = (run::<f64>("cpu", case, &whole, false)?, run::<f64>("cpu", case, &whole, true)?);
        let (cpu, apart) = (numbers(&cpu), numbers(&apart));
        // Heads are read where they lie, and by their strides the crate of f64's products chooses how it groups a sum: as
        // far apart as the few dozen terms of these heads round.
        let has_heads = whole.0.nodes.iter().any(|node| matches!(node.op, Op::Attention { .. }));
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 64.0 * f64::EPSILON * a.abs().max(1.0);
        let agree = if has_heads { cpu.iter().zip(&apart).all(near) } else { bits(&cpu) == bits(&apart) };
        if !agree {
            return Err("a plan that fuses gives other bits in f64".to_owned());
        }
        let single = |apart| run::<f32>("cpu", case, &whole, apart).map(|results| bits(&numbers(&results)));
        if single(false)? != single(true)? {
            return Err("a plan that fuses gives other bits in f32".to_owned());
        }
        beside("dfdx", &cpu, &numbers(&run::<f64>("dfdx", case, &whole, false)?), 1e-9)
    })();
    found.err().map(|fault| format!("{}: {fault}", case.title))
}

/// Whether another backend's numbers are those of `cpu`, to a part of the largest.
fn beside(name: &str, cpu: &[f64], other: &[f64], tolerance: f64) -> Result<(), String> {
    let largest = other.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
    let agree = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * largest;
    match cpu.iter().zip(other).position(|pair| !agree(pair)) {
        Some(at) => Err(format!("number {at} is {} by cpu, {} by {name}, the largest {largest}", cpu[at], other[at])),
        None => Ok(()),
    }
}

fn hold(cases: impl Iterator<Item = Case>) {
    let faults: Vec<String> = cases.filter_map(|case| fault(&case)).collect();
    let shown = faults[..faults.len().min(8)].join("\n");
    assert!(faults.is_empty(), "{} faults:\n{shown}", faults.len());
}

#[test]
fn some_graphs() {
    hold((0..200).map(drawn));
}

/// The programs that `xla` makes of them. In f32 1e-3: as many roundings, and norms and slopes as steep, as of f64 above, where
/// 1e-9 is some ten million of them.
#[test]
fn some_graphs_as_programs() {
    fn both<E: Compute>(name: &str, case: &Case, tolerance: f64) -> Result<(), String> {
        let whole = case.with_total(true);
        let of = |backend| run::<E>(backend, case, &whole, false).map(|results| numbers(&results));
        beside(name, &of("cpu")?, &of(name)?, tolerance)
    }
    let Some(name) = crate::xla::backend() else { return };
    let fault = |case: Case| {
        let held = both::<f64>(name, &case, 1e-9).and_then(|()| both::<f32>(name, &case, 1e-3));
        held.err().map(|fault| format!("{}: {fault}", case.title))
    };
    let faults: Vec<String> = (0..24).map(drawn).filter_map(fault).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// From a seed of its own each time: `CMAE_SEED`, or that of the suite's slice where it ends.
#[test]
#[ignore = "minutes: see the module's head"]
fn many_graphs() {
    let read = |name: &str, or: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let (first, count) = (read("CMAE_SEED", 200), read("CMAE_COUNT", 20_000));
    hold((first..first + count).map(drawn));
    println!("{count} graphs from {first} on");
}

/// 1 to 40 terms of shapes that are repeated along one axis, several, or not, in every order of adding.
fn sum_of(count: usize, order: Order) -> Case {
    let mut build = Build::default();
    let shape = [2, 3, 4];
    let shapes: [&[usize]; 8] = [&shape, &[4], &[3, 1], &[2, 1, 1], &[], &[2, 1, 4], &[1, 3, 4], &[1]];
    let terms: Vec<ValueId> = (0..count)
        .map(|i| {
            let x = build.param(&format!("x{i}"), shapes[i % shapes.len()]);
            if shapes[i % shapes.len()] == shape { x } else { build.to(Op::Broadcast, x, &shape) }
        })
        .collect();
    let sum = sum(&mut build, &terms, order);
    build.output("y", sum);
    build.case(format!("{count} terms, {order:?}"))
}

#[test]
fn sums_of_up_to_forty_terms() {
    hold((1..=40).flat_map(|count| ORDERS.map(|order| sum_of(count, order))));
}

/// A chain takes what it may and no more: the plan cuts what is longer.
#[test]
fn chains_are_cut_at_their_limits() {
    let chains = |case: &Case| -> Vec<(usize, usize, usize)> {
        let (graph, layout) = case.with_total(true);
        let outputs = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
        let plan = lower(&graph, &layout, &Request { outputs, ..Request::default() }, &TARGET).expect("it is sound");
        let chain = |work: &Work| match work {
            Work::Chain(chain) => Some((chain.operands.len(), chain.depth, chain.ops().count())),
            _ => None,
        };
        plan.steps.iter().filter_map(|step| chain(&step.work)).collect()
    };
    let limits = TARGET.chains;
    let sums = |order| chains(&sum_of(3 * limits.operands, order));
    assert!(sums(Order::FromTheLeft).iter().any(|(operands, ..)| *operands == limits.operands));
    assert!(sums(Order::FromTheRight).iter().any(|(_, depth, _)| *depth == limits.depth));
    let mut build = Build::default();
    let x = build.param("x", &[3]);
    let y = (0..3 * limits.ops).fold(x, |x, _| build.op(Op::Sin, &[x]));
    build.output("y", y);
    let ops: Vec<usize> = chains(&build.case("sines".to_owned())).into_iter().map(|(.., ops)| ops).collect();
    assert_eq!(ops.iter().filter(|ops| **ops == limits.ops).count(), 3, "{ops:?}");
}
