//! Chains of element-wise ops, a run of elements at a time, so that what lies between them stays in the first-level cache.

use super::memory::Views;
use super::real::Real;
use super::share;
use super::wide::wide;
use crate::op::Op;
use crate::plan::{Chain, Instruction, Pattern};

/// Elements of a run: long enough that choosing the op costs nothing beside it.
const RUN: usize = 512;
/// Runs on the stack; `plan` makes no chain that needs more.
const DEPTH: usize = 8;

/// Where a chain reads an operand.
#[derive(Clone, Copy)]
struct Stream<'a, E> {
    /// `None`: where the chain writes.
    data: Option<&'a [E]>,
    pattern: Option<Pattern>,
}

/// Operands of one chain at most: the plan's limit of 8 and those that its last op adds.
const STREAMS: usize = 16;

pub(super) fn run<E: Real>(chain: &Chain, views: Views<E>) {
    assert!(chain.depth <= DEPTH && chain.operands.len() <= STREAMS, "the plan keeps chains short");
    let mut streams = [Stream { data: None, pattern: None }; STREAMS];
    for (i, (stream, operand)) in streams.iter_mut().zip(&chain.operands).enumerate() {
        *stream = Stream { data: views.apart(i), pattern: operand.pattern };
    }
    share::pieces(views.out, 1, |start, out| piece(&chain.code, &streams, start, out));
}

/// What becomes of a part of a product: a chain whose operand `product` lies where it writes. `others` gives its other operands,
/// counted without that one.
pub(super) fn finish<'a, E: Real>(
    chain: &'a Chain,
    product: usize,
    others: impl Fn(usize) -> &'a [E],
) -> impl Fn(usize, &mut [E]) + Sync + 'a {
    assert!(chain.depth <= DEPTH && chain.operands.len() <= STREAMS, "the plan keeps chains short");
    let mut streams = [Stream { data: None, pattern: None }; STREAMS];
    for (i, (stream, operand)) in streams.iter_mut().zip(&chain.operands).enumerate().filter(|(i, _)| *i != product) {
        *stream = Stream { data: Some(others(i - usize::from(i > product))), pattern: operand.pattern };
    }
    move |start, out| piece(&chain.code, &streams, start, out)
}

wide! {
    fn piece<E>(code: &[Instruction], streams: &[Stream<E>], start: usize, out: &mut [E]) {
        let mut stack = [[E::ZERO; RUN]; DEPTH];
        for (i, out) in out.chunks_mut(RUN).enumerate() {
            let (start, len) = (start + i * RUN, out.len());
            let mut height = 0;
            for instruction in code {
                match instruction {
                    Instruction::Load(stream) => {
                        load(&streams[*stream], start, out, &mut stack[height][..len]);
                        height += 1;
                    }
                    Instruction::Constant(value) => {
                        stack[height][..len].fill(E::from_f64(*value));
                        height += 1;
                    }
                    Instruction::Apply(op) => height = apply(op, &mut stack, height, len),
                }
            }
            out.copy_from_slice(&stack[0][..len]);
        }
    }
}

#[inline(always)]
fn load<E: Real>(stream: &Stream<E>, start: usize, out: &[E], run: &mut [E]) {
    let Some(data) = stream.data else { return run.copy_from_slice(out) };
    let Some(Pattern { each, period }) = stream.pattern else {
        return run.copy_from_slice(&data[start..start + run.len()]);
    };
    let (mut at, end) = (start, start + run.len());
    while at < end {
        let row = at / each % period;
        let target = if each == 1 {
            let len = (period - row).min(end - at);
            let target = &mut run[at - start..at - start + len];
            target.copy_from_slice(&data[row..row + len]);
            len
        } else {
            let len = (each - at % each).min(end - at);
            run[at - start..at - start + len].fill(data[row]);
            len
        };
        at += target;
    }
}

/// Applies an op to the top of the stack and gives its new height.
#[inline(always)]
fn apply<E: Real>(op: &Op, stack: &mut [[E; RUN]; DEPTH], height: usize, len: usize) -> usize {
    let constant = |value: &f64| E::from_f64(*value);
    let truth = |holds: bool| if holds { E::ONE } else { E::ZERO };
    match op {
        Op::Add => binary(stack, height, len, |a, b| a + b),
        Op::Sub => binary(stack, height, len, |a, b| a - b),
        Op::Mul => binary(stack, height, len, |a, b| a * b),
        Op::Div => binary(stack, height, len, |a, b| a / b),
        // NaN of either side stays: a run that has failed must not go on.
        Op::Maximum => binary(stack, height, len, |a, b| if a > b || a.is_nan() { a } else { b }),
        Op::Minimum => binary(stack, height, len, |a, b| if a < b || a.is_nan() { a } else { b }),
        Op::Less => binary(stack, height, len, |a, b| truth(a < b)),
        Op::Equal => binary(stack, height, len, |a, b| truth(a == b)),
        Op::Atan2 => binary(stack, height, len, |y, x| E::from_f64(libm::atan2(y.to_f64(), x.to_f64()))),
        Op::Select => {
            let [condition, a, b, ..] = &mut stack[height - 3..] else { unreachable!("three runs are on the stack") };
            for ((c, a), b) in condition[..len].iter_mut().zip(&a[..len]).zip(&b[..len]) {
                *c = if *c == E::ZERO { *b } else { *a };
            }
            height - 2
        }
        Op::AddConst { value } => unary(stack, height, len, |x| x + constant(value)),
        Op::MulConst { value } => unary(stack, height, len, |x| x * constant(value)),
        Op::PowConst { value } if *value == 0.0 => unary(stack, height, len, |_| E::ONE),
        Op::PowConst { value } if *value == 1.0 => height,
        Op::PowConst { value } if *value == 2.0 => unary(stack, height, len, |x| x * x),
        Op::PowConst { value } if *value == -1.0 => unary(stack, height, len, |x| E::ONE / x),
        Op::PowConst { value } => unary(stack, height, len, |x| x.powf(constant(value))),
        Op::Neg => unary(stack, height, len, |x| -x),
        Op::Exp => unary(stack, height, len, E::exp),
        Op::Log => unary(stack, height, len, E::ln),
        Op::Sqrt => unary(stack, height, len, E::sqrt),
        Op::Abs => unary(stack, height, len, E::abs),
        Op::Relu => unary(stack, height, len, |x| if x <= E::ZERO { E::ZERO } else { x }),
        Op::Gelu => unary(stack, height, len, gelu),
        Op::GeluGrad => binary(stack, height, len, |x, g| g * gelu_slope(x)),
        Op::Tanh => unary(stack, height, len, E::tanh),
        Op::Sigmoid => unary(stack, height, len, |x| E::ONE / (E::ONE + (-x).exp())),
        Op::Sin => unary(stack, height, len, E::sin),
        Op::Cos => unary(stack, height, len, E::cos),
        Op::Floor => unary(stack, height, len, E::floor),
        other => unreachable!("{} is not element-wise", other.name()),
    }
}

#[inline(always)]
fn unary<E: Real>(stack: &mut [[E; RUN]; DEPTH], height: usize, len: usize, op: impl Fn(E) -> E) -> usize {
    stack[height - 1][..len].iter_mut().for_each(|x| *x = op(*x));
    height
}

#[inline(always)]
fn binary<E: Real>(stack: &mut [[E; RUN]; DEPTH], height: usize, len: usize, op: impl Fn(E, E) -> E) -> usize {
    let (below, top) = stack.split_at_mut(height - 1);
    for (a, b) in below[height - 2][..len].iter_mut().zip(&top[0][..len]) {
        *a = op(*a, *b);
    }
    height - 1
}

#[inline(always)]
fn gelu<E: Real>(x: E) -> E {
    let half = E::from_f64(0.5);
    x * half * (E::ONE + (x * E::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

/// Φ(x) + x·φ(x).
#[inline(always)]
fn gelu_slope<E: Real>(x: E) -> E {
    let half = E::from_f64(0.5);
    let below = half * (E::ONE + (x * E::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf());
    // 1/√(2π) = (2/√π)/(2·√2).
    let peak = E::from_f64(std::f64::consts::FRAC_2_SQRT_PI / 8.0_f64.sqrt());
    below + x * peak * (-half * x * x).exp()
}
