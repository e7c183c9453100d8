//! Ops over many shapes: values against the plain loops of [`super::reference`], gradients against finite differences.

use cmae::graph::{Graph, InputDecl, InputKind, ValueId};
use cmae::op::{Op, PatchOrder, Type, shape};

use super::case::{Case, Values, flat, on_each, push, run, with_plugin};
use super::reference;

/// A graph under construction.
#[derive(Default)]
pub struct Build {
    pub graph: Graph,
    pub values: Vec<(String, Values)>,
}

impl Build {
    pub fn param(&mut self, path: &str, shape: &[usize]) -> ValueId {
        push(&mut self.graph, Op::Param { path: path.to_owned() }, &[], Type::float(shape))
    }

    pub fn ids(&mut self, name: &str, shape: &[usize], ids: &[usize]) -> ValueId {
        let ty = Type::int(shape);
        self.graph.inputs.push(InputDecl { name: name.to_owned(), kind: InputKind::Label, ty: ty.clone() });
        self.values.push((name.to_owned(), Values::Given(ids.iter().map(|i| *i as f64).collect())));
        push(&mut self.graph, Op::Input { name: name.to_owned() }, &[], ty)
    }

    /// An op whose type follows from its operands.
    pub fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let types: Vec<&Type> = operands.iter().map(|i| &self.graph.node(*i).ty).collect();
        let ty = shape::infer(&op, &types, None).unwrap_or_else(|e| panic!("{}: {}", op.name(), e.message));
        push(&mut self.graph, op, operands, ty)
    }

    /// `Reshape`, `Broadcast` or `Unpatchify` to a shape.
    pub fn to(&mut self, op: Op, operand: ValueId, shape: &[usize]) -> ValueId {
        push(&mut self.graph, op, &[operand], Type::float(shape))
    }

    pub fn output(&mut self, name: &str, id: ValueId) {
        self.graph.outputs.push((name.to_owned(), id));
    }

    pub fn case(self, title: String) -> Case {
        Case { title, graph: self.graph, values: self.values, by_hand: false }
    }
}

/// Checks cases of one output each against expected values, which are worked out from those of the parameters `x`, ….
#[derive(Default)]
struct Sweep {
    faults: Vec<String>,
    cases: usize,
}

/// A plugin is given one case of so many; all of them by `CMAE_TEST_BACKEND=xla cargo test ops::`.
const WITH_PLUGIN: usize = 3;

impl Sweep {
    /// `expected` is given the parameters' values by path.
    fn check(&mut self, case: Case, expected: impl Fn(&dyn Fn(&str) -> Vec<f64>) -> Vec<f64>) {
        let (graph, layout) = case.with_total(true);
        let arena = case.arena(&layout, true);
        let value = |path: &str| arena[layout.range(layout.index(path).expect("the case has it"))].to_vec();
        let there = self.cases.is_multiple_of(WITH_PLUGIN);
        self.cases += 1;
        let on_each = |work: &mut dyn FnMut() -> Vec<String>| with_plugin(there, || on_each(work));
        let faults = on_each(&mut || match run::<f64>(&graph, &layout, &arena, &case.inputs(&graph)) {
            Ok(results) => {
                let (found, expected) = (flat(&results.outputs[0]), expected(&value));
                let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
                if found.len() != expected.len() || !found.iter().zip(&expected).all(same) {
                    return vec![format!("{found:?}, expected {expected:?}")];
                }
                Vec::new()
            }
            Err(error) => vec![error],
        });
        self.faults.extend(faults.iter().map(|fault| format!("{}: {fault}", case.title)));
        self.faults.extend(with_plugin(there, || case.faults()));
    }

    fn end(self) {
        assert!(self.faults.is_empty(), "{} faults:\n{}", self.faults.len(), self.faults.join("\n"));
    }
}

/// All subsets of `0..rank`.
fn subsets(rank: usize) -> Vec<Vec<usize>> {
    (0..1_usize << rank).map(|bits| (0..rank).filter(|a| bits >> a & 1 == 1).collect()).collect()
}

/// All orders of `0..rank`.
fn orders(rank: usize) -> Vec<Vec<usize>> {
    let spread = |orders: Vec<Vec<usize>>, next: usize| -> Vec<Vec<usize>> {
        let at_each = |order: &Vec<usize>| {
            let insert = |at: usize| [&order[..at], &[next], &order[at..]].concat();
            (0..=order.len()).map(insert).collect::<Vec<_>>()
        };
        orders.iter().flat_map(at_each).collect()
    };
    (0..rank).fold(vec![Vec::new()], spread)
}

#[test]
fn sums_and_means_over_all_axes() {
    let mut sweep = Sweep::default();
    for shape in [vec![], vec![3], vec![1, 4], vec![2, 3, 1], vec![2, 3, 4], vec![2, 1, 3, 2]] {
        for axes in subsets(shape.len()) {
            for (keep, mean) in [(false, false), (true, false), (false, true), (true, true)] {
                let count: usize = axes.iter().map(|a| shape[*a]).product();
                let mut build = Build::default();
                let x = build.param("x", &shape);
                let axes = axes.clone();
                let op =
                    if mean { Op::Mean { axes: axes.clone(), keep } } else { Op::Sum { axes: axes.clone(), keep } };
                let title = format!("{op:?} of {shape:?}");
                let y = build.op(op, &[x]);
                build.output("y", y);
                let divisor = if mean { count as f64 } else { 1.0 };
                sweep.check(build.case(title), |value| {
                    reference::sum(&value("x"), &shape, &axes).iter().map(|v| v / divisor).collect()
                });
            }
        }
    }
    sweep.end();
}

#[test]
fn permutations_of_all_ranks() {
    let mut sweep = Sweep::default();
    for shape in [vec![], vec![3], vec![2, 3], vec![2, 1, 3], vec![2, 3, 1, 4]] {
        for axes in orders(shape.len()) {
            permutation(&mut sweep, &shape, &axes);
        }
    }
    // Rank 5 has 120: attention's split of heads, its inverse, a reversal, and a swap at either end.
    for axes in [[2, 0, 3, 1, 4], [1, 3, 0, 2, 4], [4, 3, 2, 1, 0], [1, 0, 2, 3, 4], [0, 1, 2, 4, 3]] {
        permutation(&mut sweep, &[2, 3, 3, 2, 2], &axes);
    }
    sweep.end();
}

fn permutation(sweep: &mut Sweep, shape: &[usize], axes: &[usize]) {
    let mut build = Build::default();
    let x = build.param("x", shape);
    let y = build.op(Op::Permute { axes: axes.to_vec() }, &[x]);
    build.output("y", y);
    sweep.check(build.case(format!("permute {shape:?} by {axes:?}")), |v| reference::permute(&v("x"), shape, axes));
}

#[test]
fn broadcasts() {
    let mut sweep = Sweep::default();
    let shapes: [(&[usize], &[usize]); 12] = [
        (&[], &[]),
        (&[], &[3]),
        (&[], &[2, 3, 1]),
        (&[1], &[4]),
        (&[3], &[2, 3]),
        (&[3], &[2, 4, 3]),
        (&[2, 1], &[2, 3]),
        (&[1, 3], &[2, 3]),
        (&[1, 1], &[2, 3]),
        (&[2, 1, 3], &[2, 4, 3]),
        (&[2, 3], &[2, 3]),
        (&[1, 2, 1, 3], &[4, 2, 2, 3]),
    ];
    for (shape, to) in shapes {
        let mut build = Build::default();
        let x = build.param("x", shape);
        let y = build.to(Op::Broadcast, x, to);
        build.output("y", y);
        sweep.check(build.case(format!("broadcast {shape:?} to {to:?}")), |v| reference::broadcast(&v("x"), shape, to));
    }
    sweep.end();
}

#[test]
fn slices_of_each_axis() {
    let mut sweep = Sweep::default();
    for shape in [vec![4], vec![4, 1], vec![3, 4], vec![2, 4, 3], vec![2, 3, 4, 2]] {
        for axis in 0..shape.len() {
            for start in 0..shape[axis] {
                for end in start + 1..=shape[axis] {
                    let mut build = Build::default();
                    let x = build.param("x", &shape);
                    let y = build.op(Op::Slice { axis, start, end }, &[x]);
                    build.output("y", y);
                    let title = format!("slice {start}..{end} of axis {axis} of {shape:?}");
                    sweep.check(build.case(title), |v| reference::slice(&v("x"), &shape, axis, start..end));
                }
            }
        }
    }
    sweep.end();
}

#[test]
fn concatenations_of_two_to_four_on_each_axis() {
    let mut sweep = Sweep::default();
    for shape in [vec![2], vec![2, 3], vec![1, 2, 3], vec![2, 1, 2, 3]] {
        for axis in 0..shape.len() {
            for count in 2..=4 {
                let sized = |part: usize| {
                    let mut shape = shape.clone();
                    shape[axis] += part;
                    shape
                };
                let mut build = Build::default();
                let parts: Vec<ValueId> = (0..count).map(|p| build.param(&format!("x{p}"), &sized(p))).collect();
                let y = build.op(Op::Concat { axis }, &parts);
                build.output("y", y);
                sweep.check(build.case(format!("concat {count} like {shape:?} on axis {axis}")), |v| {
                    let parts: Vec<_> = (0..count).map(|p| (v(&format!("x{p}")), sized(p))).collect();
                    reference::concat(&parts, axis)
                });
            }
        }
    }
    sweep.end();
}

#[test]
fn products() {
    let mut sweep = Sweep::default();
    for lead in [vec![], vec![1], vec![3], vec![2, 3], vec![2, 1, 2]] {
        for (m, k, n) in [(2, 3, 4), (1, 3, 2), (2, 1, 3), (3, 2, 1), (1, 1, 1)] {
            for transpose_b in [false, true] {
                let a_shape = [lead.as_slice(), &[m, k]].concat();
                let b_shape = [lead.as_slice(), &(if transpose_b { [n, k] } else { [k, n] })].concat();
                let mut build = Build::default();
                let (a, b) = (build.param("a", &a_shape), build.param("b", &b_shape));
                let y = build.op(Op::Matmul { transpose_b }, &[a, b]);
                build.output("y", y);
                sweep.check(build.case(format!("{a_shape:?} · {b_shape:?}, transpose_b {transpose_b}")), |v| {
                    reference::matmul(&v("a"), &v("b"), &a_shape, n, transpose_b)
                });
            }
        }
    }
    sweep.end();
}

#[test]
fn linear_of_each_rank() {
    let mut sweep = Sweep::default();
    for lead in [vec![], vec![1], vec![3], vec![2, 3], vec![2, 1, 2]] {
        for (inputs, outputs) in [(3, 2), (1, 4), (4, 1)] {
            for with_bias in [false, true] {
                let shape = [lead.as_slice(), &[inputs]].concat();
                let mut build = Build::default();
                let mut operands = vec![build.param("x", &shape), build.param("weight", &[outputs, inputs])];
                if with_bias {
                    operands.push(build.param("bias", &[outputs]));
                }
                let y = build.op(Op::Linear, &operands);
                build.output("y", y);
                let rows = lead.iter().product();
                sweep.check(build.case(format!("linear {shape:?} to {outputs}, bias {with_bias}")), |v| {
                    let product = reference::matmul(&v("x"), &v("weight"), &[rows, inputs], outputs, true);
                    let bias = if with_bias { v("bias") } else { vec![0.0; outputs] };
                    product.iter().enumerate().map(|(i, p)| p + bias[i % outputs]).collect()
                });
            }
        }
    }
    sweep.end();
}

#[test]
fn patches_in_both_orders_and_back() {
    let mut sweep = Sweep::default();
    for shape in [[1, 1, 2, 2], [2, 3, 4, 6], [1, 2, 6, 4]] {
        for patch in [(1, 1), (2, 1), (1, 2), (2, 2)] {
            for order in [PatchOrder::RowColumnChannel, PatchOrder::ChannelRowColumn] {
                let mut build = Build::default();
                let x = build.param("x", &shape);
                let y = build.op(Op::Patchify { patch, order }, &[x]);
                build.output("y", y);
                let patches = |v: &[f64]| reference::patchify(v, shape, patch, order);
                sweep.check(build.case(format!("patchify {shape:?} by {patch:?}, {order:?}")), |v| patches(&v("x")));

                let mut build = Build::default();
                let (ph, pw) = patch;
                let flat = [shape[0], shape[2] / ph * (shape[3] / pw), ph * pw * shape[1]];
                let x = build.param("x", &flat);
                let y = build.to(Op::Unpatchify { patch, order }, x, &shape);
                build.output("y", y);
                sweep.check(build.case(format!("unpatchify to {shape:?} by {patch:?}, {order:?}")), |v| {
                    // Where each pixel goes, by patching the pixels' numbers; then every patch value back to its pixel.
                    let numbers: Vec<f64> = (0..shape.iter().product()).map(|i| i as f64).collect();
                    let mut pixels = vec![f64::NAN; numbers.len()];
                    for (value, pixel) in v("x").iter().zip(patches(&numbers)) {
                        pixels[pixel as usize] = *value;
                    }
                    pixels
                });
            }
        }
    }
    sweep.end();
}

#[test]
fn convolutions_of_all_kinds() {
    let mut sweep = Sweep::default();
    for (channels, out, groups) in [(1, 1, 1), (2, 3, 1), (4, 4, 4), (4, 2, 2)] {
        for (kernel, stride, padding) in
            [((1, 1), 1, 0), ((3, 3), 1, 1), ((2, 3), 2, 1), ((5, 5), 1, 2), ((3, 2), 3, 0)]
        {
            for bias in [false, true] {
                let (x_shape, w_shape) = ([2, channels, 5, 4], [out, channels / groups, kernel.0, kernel.1]);
                if kernel.0 > 5 + 2 * padding || kernel.1 > 4 + 2 * padding {
                    continue;
                }
                let mut build = Build::default();
                let mut operands = vec![build.param("x", &x_shape), build.param("weight", &w_shape)];
                if bias {
                    operands.push(build.param("bias", &[out]));
                }
                let op = Op::Conv2d { stride, padding, groups };
                let title = format!("{op:?} of {x_shape:?} and {w_shape:?}, bias {bias}");
                let y = build.op(op, &operands);
                build.output("y", y);
                sweep.check(build.case(title), |value| {
                    let added = if bias { value("bias") } else { vec![0.0; out] };
                    reference::conv2d(
                        (&value("x"), x_shape),
                        (&value("weight"), w_shape),
                        &added,
                        (stride, padding, groups),
                    )
                });
            }
        }
    }
    sweep.end();
}
