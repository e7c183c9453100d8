//! Ops without a plain loop in [`super::sweep`] over several shapes: gradients against finite differences, f32 against f64.
//! Their values are worked out in the pages.

use cmae::graph::ValueId;
use cmae::op::Op;

use super::case::{Case, Values, with_plugin};
use super::sweep::Build;

/// A plugin is given one case of so many, which is no divisor of the number of shapes: others of each op.
const WITH_PLUGIN: usize = 4;

fn hold(cases: impl Iterator<Item = Case>) {
    let faults = |(at, case): (usize, Case)| with_plugin(at.is_multiple_of(WITH_PLUGIN), || case.faults());
    let faults: Vec<String> = cases.enumerate().flat_map(faults).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn case(title: String, make: impl FnOnce(&mut Build) -> ValueId) -> Case {
    let mut build = Build::default();
    let y = make(&mut build);
    build.output("y", y);
    build.case(title)
}

const SHAPES: [&[usize]; 6] = [&[5], &[1, 4], &[3, 1], &[4, 3], &[2, 3, 5], &[2, 1, 2, 3]];

#[test]
fn functions_of_one_operand() {
    let ops = [
        Op::AddConst { value: 0.3 },
        Op::MulConst { value: -1.7 },
        Op::PowConst { value: 2.5 },
        Op::Neg,
        Op::Exp,
        Op::Log,
        Op::Sqrt,
        Op::Abs,
        Op::Relu,
        Op::Gelu,
        Op::Tanh,
        Op::Sigmoid,
        Op::Softmax,
        Op::LogSoftmax,
        Op::L2Normalize { eps: 1e-6 },
        Op::AllGather { axis: 0, ranks: 1 },
        Op::Replicate { ranks: 1 },
    ];
    hold(ops.iter().flat_map(|op| {
        SHAPES.iter().map(move |shape| {
            case(format!("{} of {shape:?}", op.name()), |b| {
                // Roots and logarithms want x > 0; the others' pages take all signs.
                b.values.push(("x".to_owned(), Values::Random(0.4, 2.0)));
                let x = b.param("x", shape);
                b.op(op.clone(), &[x])
            })
        })
    }));
}

#[test]
fn norms() {
    let layer = |eps| Op::LayerNorm { eps };
    let batch = |eps| Op::BatchNorm { eps };
    let ops = [layer(1e-6), layer(1e-2), batch(1e-5), batch(1e-2)];
    hold(ops.iter().flat_map(|op| {
        // One vector has no batch.
        let shapes = SHAPES.iter().filter(move |s| matches!(op, Op::LayerNorm { .. }) || s.len() > 1);
        shapes.flat_map(move |shape| {
            [false, true].map(|affine| {
                case(format!("{op:?} of {shape:?}, weight {affine}"), |b| {
                    let width = shape[shape.len() - 1];
                    let mut operands = vec![b.param("x", shape)];
                    if affine {
                        operands.extend([b.param("weight", &[width]), b.param("bias", &[width])]);
                    }
                    b.op(op.clone(), &operands)
                })
            })
        })
    }));
}

/// x·xᵀ + 1, which is positive definite: several sizes, beside the vectors that products are made of, alone and in rows.
#[test]
fn determinants() {
    let shapes: [&[usize]; 6] = [&[1, 1], &[5, 2], &[17, 3], &[2, 3, 3], &[2, 1, 4, 6], &[33, 2]];
    hold(shapes.iter().map(|shape| {
        case(format!("log_det of rows of {shape:?}"), |b| {
            let (rank, n) = (shape.len(), shape[shape.len() - 2]);
            let x = b.param("x", shape);
            let product = b.op(Op::Matmul { transpose_b: true }, &[x, x]);
            let unit: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
            b.values.push(("fixed.unit".to_owned(), Values::Given(unit)));
            let unit = b.param("fixed.unit", &[n, n]);
            let square = [&shape[..rank - 2], &[n, n]].concat();
            let unit = if rank == 2 { unit } else { b.to(Op::Broadcast, unit, &square) };
            let sum = b.op(Op::Add, &[product, unit]);
            b.op(Op::LogDet, &[sum])
        })
    }));
}

#[test]
fn attention() {
    // (batch, heads, N, M, d)
    let sizes = [(1, 1, 1, 1, 1), (1, 2, 3, 3, 4), (2, 1, 1, 5, 3), (2, 3, 4, 2, 1), (3, 2, 2, 1, 2), (2, 2, 3, 5, 2)];
    hold(sizes.iter().flat_map(|&(batch, heads, n, m, d)| {
        [false, true].map(|biased| {
            case(format!("attention {:?}, bias {biased}", (batch, heads, n, m, d)), |b| {
                let mut operands = vec![b.param("q", &[batch, heads, n, d])];
                operands.extend(["k", "v"].map(|name| b.param(name, &[batch, heads, m, d])));
                if biased {
                    operands.push(b.param("bias", &[heads, n, m]));
                }
                b.op(Op::Attention { scale: 1.3 }, &operands)
            })
        })
    }));
}

#[test]
fn choices_by_ids() {
    let logits = SHAPES.iter().map(|shape| {
        case(format!("cross_entropy of {shape:?}"), |b| {
            let (classes, rows) = shape.split_last().expect("no shape is a scalar's");
            let ids: Vec<usize> = (0..rows.iter().product()).map(|row: usize| (row * 2 + 1) % classes).collect();
            let (x, ids) = (b.param("x", shape), b.ids("ids", rows, &ids));
            b.op(Op::CrossEntropy, &[x, ids])
        })
    });
    // (B, N, D) and K, more and fewer than N.
    let sizes = [(1, 1, 1, 1), (1, 4, 3, 2), (2, 3, 1, 5), (3, 2, 4, 2), (2, 5, 2, 1)];
    let tokens = sizes.iter().map(|&(batch, n, d, k)| {
        case(format!("gather_tokens {:?}", (batch, n, d, k)), |b| {
            let ids: Vec<usize> = (0..batch * k).map(|i| (i * i + 1) % n).collect();
            let (x, ids) = (b.param("x", &[batch, n, d]), b.ids("ids", &[batch, k], &ids));
            b.op(Op::GatherTokens, &[x, ids])
        })
    });
    let chosen = SHAPES.iter().flat_map(|shape| {
        [0, 1, 2].map(|pattern| {
            case(format!("select of {shape:?}, pattern {pattern}"), |b| {
                // All of b, every other, all of a.
                let ids: Vec<usize> = (0..shape.iter().product()).map(|i| [0, i % 2, 1][pattern]).collect();
                let ids = b.ids("condition", shape, &ids);
                let condition = b.op(Op::ToFloat, &[ids]);
                let (x, y) = (b.param("x", shape), b.param("y", shape));
                b.op(Op::Select, &[condition, x, y])
            })
        })
    });
    hold(logits.chain(tokens).chain(chosen));
}
