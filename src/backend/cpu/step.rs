//! One step of a plan: the kernel of its op on the places it reads and writes.

use super::attention::Operand;
use super::memory::Views;
use super::moves::{self, Strided};
use super::real::Real;
use super::reduce::Sum;
use super::stored::NumbersMut;
use super::{attention, chain, conv, factor, ids, norm, product, rows};
use crate::graph::{Graph, Node, ValueId};
use crate::op::{Op, interpolate};
use crate::plan::{Heads, Rounds, Step, Work};

/// What is worked out of a step once, when it is planned.
pub(super) enum Prepared {
    /// The values of an input of the batch.
    Input,
    Strided(Strided),
    Sum(Sum),
    /// The op says it all.
    Plain,
}

fn shape(graph: &Graph, node: &Node, i: usize) -> Vec<usize> {
    graph.node(node.inputs[i]).ty.shape.clone()
}

pub(super) fn prepare(graph: &Graph, step: &Step) -> Prepared {
    let node = graph.node(step.node);
    match &node.op {
        Op::Input { .. } => Prepared::Input,
        Op::Permute { axes } => Prepared::Strided(Strided::permute(&shape(graph, node, 0), axes)),
        Op::Broadcast => Prepared::Strided(Strided::broadcast(&shape(graph, node, 0), &node.ty.shape)),
        Op::Slice { axis, start, end } => {
            Prepared::Strided(Strided::slice(&shape(graph, node, 0), *axis, *start, *end))
        }
        Op::Patchify { patch, order } => {
            Prepared::Strided(Strided::patchify(&shape(graph, node, 0), *patch, *order, false))
        }
        Op::Unpatchify { patch, order } => Prepared::Strided(Strided::patchify(&node.ty.shape, *patch, *order, true)),
        Op::Sum { axes, .. } => Prepared::Sum(Sum::new(&shape(graph, node, 0), axes, false)),
        Op::Mean { axes, .. } => Prepared::Sum(Sum::new(&shape(graph, node, 0), axes, true)),
        _ => Prepared::Plain,
    }
}

/// Floats that the kernel of a node works in.
pub(super) fn scratch(graph: &Graph, id: ValueId, rounds: Rounds) -> usize {
    let node = graph.node(id);
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    let width = |i: usize| shape(i).last().copied().unwrap_or(1);
    match &node.op {
        Op::Sum { axes, .. } => Sum::new(shape(0), axes, false).scratch(),
        Op::Mean { axes, .. } => Sum::new(shape(0), axes, true).scratch(),
        Op::LayerNormGrad { .. } if node.inputs.len() > 2 => {
            norm::layer_norm_grad_scratch(shape(0).iter().product::<usize>() / width(0), width(0))
        }
        Op::BatchNorm { .. } | Op::BatchNormGrad { .. } => norm::batch_norm_scratch(width(0)),
        Op::LogDet | Op::LogDetGrad => shape(0).iter().product(),
        Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul => {
            let (batch, sizes) = product_sizes(graph, node);
            let packed = rounds.operands || node.op == Op::TransposedMatmul;
            if batch == 1 { product::scratch(sizes, packed, rounds.result) } else { 0 }
        }
        Op::AttentionGrad { .. } if node.inputs.len() > 4 => attention::Sizes::new(shape(0), shape(1)).bias_scratch(),
        _ => 0,
    }
}

/// Floats that each thread works in while it runs the step, at most.
pub(super) fn room(graph: &Graph, step: &Step) -> usize {
    let node = graph.node(step.kernel());
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    match &node.op {
        Op::Attention { .. } | Op::AttentionGrad { .. } => {
            attention::Sizes { bf16: step.bf16, ..attention::Sizes::new(shape(0), shape(1)) }.room()
        }
        Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul => {
            let (batch, sizes) = product_sizes(graph, node);
            let packed = step.bf16 || node.op == Op::TransposedMatmul;
            match (batch, step.writes.space) {
                (1, space) if space.is_halves() => product::room(sizes),
                (1, _) => 0,
                _ => product::scratch(sizes, packed, false),
            }
        }
        _ => conv_sizes(graph, node, step.bf16).map_or(0, |sizes| sizes.room()),
    }
}

/// Of a convolution or one of its gradients.
fn conv_sizes(graph: &Graph, node: &Node, bf16: bool) -> Option<conv::Sizes> {
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    let of = node.ty.shape.as_slice();
    let (x, weight, out, [stride, padding, groups]) = match &node.op {
        Op::Conv2d { stride, padding, groups } => (shape(0), shape(1), of, [stride, padding, groups]),
        Op::Conv2dInputGrad { stride, padding, groups } => (of, shape(1), shape(0), [stride, padding, groups]),
        Op::Conv2dWeightGrad { stride, padding, groups } => (shape(1), of, shape(0), [stride, padding, groups]),
        _ => return None,
    };
    Some(conv::Sizes::new(x, weight, out, (*stride, *padding, *groups), bf16))
}

/// How many products a node is, and (m, k, n) of each.
fn product_sizes(graph: &Graph, node: &Node) -> (usize, product::Sizes) {
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    let (a, rank) = (shape(0), shape(0).len());
    let n = node.ty.shape[node.ty.shape.len() - 1];
    match node.op {
        Op::Linear => (1, (a[..rank - 1].iter().product(), a[rank - 1], n)),
        Op::TransposedMatmul => (a[..rank - 2].iter().product(), (a[rank - 1], a[rank - 2], n)),
        _ => (a[..rank - 2].iter().product(), (a[rank - 2], a[rank - 1], n)),
    }
}

/// A matrix product of whatever op.
fn multiply<E: Real>(graph: &Graph, node: &Node, views: Views<E>, finish: Option<product::Finish<E>>, bf16: bool) {
    let (batch, sizes) = product_sizes(graph, node);
    let (a, b) = (views.numbers(0), views.numbers(1));
    let bias = (node.op == Op::Linear && node.inputs.len() > 2).then(|| views.read(2));
    let out = NumbersMut::of(views.out, views.out_halves);
    let (a_t, b_t) = match node.op {
        Op::Linear => {
            return product::linear(out, (a, b, bias), sizes, (finish, bf16), views.scratch);
        }
        Op::TransposedMatmul => (true, false),
        Op::Matmul { transpose_b } => (false, transpose_b),
        _ => unreachable!("{} is no product", node.op.name()),
    };
    product::batched(out, batch, sizes, (a, a_t), (b, b_t), (finish, bf16), views.scratch);
}

/// Attention or its gradient.
fn attend<E: Real>(
    graph: &Graph,
    node: &Node,
    views: Views<E>,
    (reads, writes): (&[(ValueId, Heads)], &[Heads]),
    bf16: bool,
) {
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    let sizes = attention::Sizes { bf16, ..attention::Sizes::new(shape(0), shape(1)) };
    let operands: [Option<Operand<E>>; 4] =
        std::array::from_fn(|i| reads.get(i).map(|(_, heads)| Operand { data: views.numbers(i), heads: *heads }));
    let operand = |i: usize| operands[i].expect("the plan is verified: attention has its operands");
    let bias = (node.inputs.len() > reads.len()).then(|| views.read(reads.len()));
    let out = NumbersMut::of(views.out, views.out_halves);
    match node.op {
        Op::Attention { scale } => {
            attention::forward([operand(0), operand(1), operand(2)], bias, (out, writes[0]), sizes, scale);
        }
        Op::AttentionGrad { scale } => {
            let operands = [operand(0), operand(1), operand(2), operand(3)];
            let to = (out, [writes[0], writes[1], writes[2]]);
            attention::backward(operands, bias, to, views.scratch, sizes, scale);
        }
        _ => unreachable!("{} is no attention", node.op.name()),
    }
}

/// Runs a step that is no input.
pub(super) fn run<E: Real>(graph: &Graph, step: &Step, prepared: &Prepared, views: Views<E>) -> Result<(), String> {
    match &step.work {
        Work::Op => {}
        Work::Chain(chain) => {
            chain::run(chain, views);
            return Ok(());
        }
        Work::Product { product, chain, at } => {
            let node = graph.node(*product);
            let others = |i: usize| views.numbers(node.inputs.len() + i);
            let finish = chain::finish(chain, *at, others, !views.out_halves.is_empty());
            multiply(graph, node, views, Some(&finish), step.bf16);
            return Ok(());
        }
        Work::Attention { attention, reads, writes } => {
            attend(graph, graph.node(*attention), views, (reads, writes), step.bf16);
            return Ok(());
        }
    }
    let writes_ids = !views.out_ids.is_empty();
    match prepared {
        Prepared::Strided(map) if writes_ids => map.run(views.ids(0), views.out_ids),
        Prepared::Strided(map) => {
            let x = views.read(0);
            match NumbersMut::of(views.out, views.out_halves) {
                NumbersMut::Full(out) => map.run(x, out),
                NumbersMut::Halves(out) => map.run_rounded(x, out),
            }
        }
        Prepared::Sum(sum) => sum.run(views.numbers(0), views.out, views.scratch),
        Prepared::Input => return Err("an input is no operation".to_owned()),
        Prepared::Plain => return plain(graph, graph.node(step.node), views, step.bf16),
    }
    Ok(())
}

/// One arm for each op that is no move, no sum and not element-wise; those were told apart when the step was planned.
fn plain<E: Real>(graph: &Graph, node: &Node, views: Views<E>, bf16: bool) -> Result<(), String> {
    let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
    let width = |i: usize| shape(i).last().copied().unwrap_or(1);
    let has = |i: usize| i < node.inputs.len();
    match &node.op {
        Op::Full { value } => views.out.fill(E::from_f64(*value)),
        Op::Iota => views.out_ids.iter_mut().zip(0..).for_each(|(id, i)| *id = i),
        Op::ResizeWeights { from, to } => {
            let weights = interpolate::cubic_weights(*from, *to);
            views.out.iter_mut().zip(weights).for_each(|(out, weight)| *out = E::from_f64(weight));
        }
        Op::Less => ids::compare(views, |a, b| a < b),
        Op::Equal => ids::compare(views, |a, b| a == b),
        Op::ToFloat => {
            let ids = views.ids(0);
            views.out.iter_mut().zip(ids).for_each(|(out, id)| *out = E::from_f64(*id as f64));
        }
        Op::ToInt => {
            let x = views.read(0);
            views.out_ids.iter_mut().zip(x).for_each(|(id, x)| *id = ids::to_id(x.to_f64()));
        }
        Op::Concat { axis } => {
            let run = |i: usize| shape(i)[*axis..].iter().product::<usize>();
            let row = node.ty.shape[*axis..].iter().product();
            let mut at = 0;
            for i in 0..node.inputs.len() {
                if views.is_ids(i) {
                    moves::concat(views.out_ids, row, at, views.ids(i), run(i));
                } else {
                    moves::concat(views.out, row, at, views.read(i), run(i));
                }
                at += run(i);
            }
        }
        Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul => multiply(graph, node, views, None, bf16),
        Op::Conv2d { .. } | Op::Conv2dInputGrad { .. } | Op::Conv2dWeightGrad { .. } => {
            let sizes = conv_sizes(graph, node, bf16).ok_or("it is no convolution")?;
            let (a, b) = (views.read(0), views.read(1));
            match node.op {
                Op::Conv2dInputGrad { .. } => conv::input_grad(a, b, views.out, sizes),
                Op::Conv2dWeightGrad { .. } => conv::weight_grad(a, b, views.out, sizes),
                _ => conv::forward(a, b, has(2).then(|| views.read(2)), views.out, sizes),
            }
        }
        Op::LayerNorm { eps } => {
            let affine = has(2).then(|| (views.read(1), views.read(2)));
            let x = views.read(0);
            norm::layer_norm(x, affine, NumbersMut::of(views.out, views.out_halves), width(0), *eps);
        }
        Op::BatchNorm { eps } => {
            let affine = has(2).then(|| (views.read(1), views.read(2)));
            norm::batch_norm(views.read(0), affine, views.out, views.scratch, width(0), *eps);
        }
        Op::LayerNormGrad { eps } => {
            let (operands, weight) = ((views.read(0), views.numbers(1)), has(2).then(|| views.read(2)));
            norm::layer_norm_grad(operands, weight, views.out, views.scratch, width(0), *eps);
        }
        Op::BatchNormGrad { eps } => {
            let (operands, weight) = ((views.read(0), views.read(1)), has(2).then(|| views.read(2)));
            norm::batch_norm_grad(operands, weight, views.out, views.scratch, width(0), *eps);
        }
        Op::Softmax => rows::softmax(views.read(0), views.out, width(0)),
        Op::LogSoftmax => rows::log_softmax(views.read(0), views.out, width(0)),
        Op::SoftmaxGrad => rows::softmax_grad(views.read(0), views.read(1), views.out, width(0)),
        Op::LogSoftmaxGrad => rows::log_softmax_grad(views.read(0), views.read(1), views.out, width(0)),
        Op::CrossEntropy => {
            moves::in_range(views.ids(1), width(0), "class")?;
            rows::cross_entropy(views.read(0), views.ids(1), views.out, width(0));
        }
        Op::CrossEntropyGrad => {
            moves::in_range(views.ids(1), width(0), "class")?;
            rows::cross_entropy_grad(views.read(0), views.ids(1), views.read(2), views.out, width(0));
        }
        Op::L2Normalize { eps } => rows::l2_normalize(views.read(0), views.out, width(0), *eps),
        Op::L2NormalizeGrad { eps } => {
            rows::l2_normalize_grad(views.read(0), views.read(1), views.out, width(0), *eps);
        }
        Op::LogDet => factor::log_det(views.read(0), views.out, views.scratch, width(0)),
        Op::LogDetGrad => factor::log_det_grad(views.read(0), views.read(1), views.out, views.scratch, width(0)),
        Op::GatherTokens => {
            let (tokens, picked) = (shape(0)[1], shape(1)[1]);
            moves::in_range(views.ids(1), tokens, "token")?;
            moves::gather_tokens(views.out, views.read(0), views.ids(1), tokens, picked, width(0));
        }
        Op::ScatterTokens { tokens } => {
            moves::in_range(views.ids(1), *tokens, "token")?;
            moves::scatter_tokens(views.out, views.read(0), views.ids(1), *tokens, shape(1)[1], width(0));
        }
        Op::OneHot { classes } => {
            let ids = views.ids(0);
            moves::in_range(ids, *classes, "class")?;
            views.out.fill(E::ZERO);
            let rows = views.out.chunks_exact_mut(*classes);
            rows.zip(ids).for_each(|(row, id)| row[*id as usize] = E::ONE);
        }
        Op::Argmax => ids::argmax(views, width(0)),
        Op::Argsort => ids::argsort(views, width(0)),
        Op::Input { .. }
        | Op::Param { .. }
        | Op::Attention { .. }
        | Op::AttentionGrad { .. }
        | Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::Maximum
        | Op::Minimum
        | Op::Select
        | Op::AddConst { .. }
        | Op::MulConst { .. }
        | Op::PowConst { .. }
        | Op::Neg
        | Op::Exp
        | Op::Log
        | Op::Sqrt
        | Op::Abs
        | Op::Relu
        | Op::Gelu
        | Op::GeluGrad
        | Op::Tanh
        | Op::Sigmoid
        | Op::Sin
        | Op::Cos
        | Op::Floor
        | Op::Atan2
        | Op::Sum { .. }
        | Op::Mean { .. }
        | Op::Reshape
        | Op::Permute { .. }
        | Op::Broadcast
        | Op::Slice { .. }
        | Op::Patchify { .. }
        | Op::Unpatchify { .. }
        | Op::StopGradient
        | Op::Replicate { .. }
        | Op::AllGather { .. }
        | Op::OwnRows { .. }
        | Op::AllReduce { .. } => return Err("the plan has another kernel for it".to_owned()),
    }
    Ok(())
}
