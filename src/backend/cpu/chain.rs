//! Chains of element-wise ops, a run of elements at a time, so that what lies between them stays in the first-level cache.
//!
//! Operands are read where they are, and the last op writes where the chain does: only what lies between two ops is stored,
//! in a slot.

use super::memory::Views;
use super::real::Real;
use super::share;
use super::stored::{Numbers, NumbersMut, Stored, bf16, store};
use crate::op::Op;
use crate::op::shape::arity;
use crate::plan::{Chain, ChainLimits, Instruction, Pattern};
use crate::wide::wide;

/// Elements of a run: long enough that choosing the op costs nothing beside it. On a stack of [`LIMITS`]' depth they are 16 KiB
/// in f32, half of a first-level cache.
const RUN: usize = 512;
/// What the plan keeps to. The number of ops bounds nothing here: it keeps the planner's walk from growing with the graph.
pub(super) const LIMITS: ChainLimits = ChainLimits { operands: 16, depth: 8, ops: 64 };
/// One for each value on the stack, and one for the result of the op at hand.
const SLOTS: usize = LIMITS.depth + 1;

/// Where a chain reads an operand.
#[derive(Clone, Copy)]
struct Stream<'a, E> {
    /// `None`: where the chain writes.
    data: Option<Numbers<'a, E>>,
    pattern: Option<Pattern>,
}

pub(super) fn run<E: Real>(chain: &Chain, views: Views<E>) {
    let mut streams = [Stream { data: None, pattern: None }; LIMITS.operands];
    for (i, (stream, operand)) in streams.iter_mut().zip(&chain.operands).enumerate() {
        *stream = Stream { data: views.apart(i), pattern: operand.pattern };
    }
    let (code, own) = (&chain.code, own(&chain.code, &streams));
    match NumbersMut::of(views.out, views.out_halves) {
        NumbersMut::Full(out) => share::pieces(out, 1, |start, out| compute((code, own), &streams, start, out, false)),
        NumbersMut::Halves(out) => share::pieces(out, 1, |start, out| {
            E::with_runs((SLOTS + 1) * RUN, |runs| {
                let (run, slots) = runs.split_at_mut(RUN);
                for (i, out) in out.chunks_mut(RUN).enumerate() {
                    let run = &mut run[..out.len()];
                    piece(code, own, &streams, start + i * RUN, run, slots, true);
                    store::<E, bf16>(run, out);
                }
            });
        }),
    }
}

/// What becomes of a part of a product: a chain whose operand `product` lies where it writes. `others` gives its other operands,
/// counted without that one; `is_rounded` says whether the result is stored in bf16.
pub(super) fn finish<'a, E: Real>(
    chain: &'a Chain,
    product: usize,
    others: impl Fn(usize) -> Numbers<'a, E>,
    is_rounded: bool,
) -> impl Fn(usize, &mut [E]) + Sync + 'a {
    let mut streams = [Stream { data: None, pattern: None }; LIMITS.operands];
    for (i, (stream, operand)) in streams.iter_mut().zip(&chain.operands).enumerate().filter(|(i, _)| *i != product) {
        *stream = Stream { data: Some(others(i - usize::from(i > product))), pattern: operand.pattern };
    }
    let own = own(&chain.code, &streams);
    move |start, out| compute((&chain.code, own), &streams, start, out, is_rounded)
}

/// The instruction that loads what lies where the chain writes, if the last op alone reads it: each element is read right before it is
/// written. An op before the last would find it there too, but is made for operands apart from its result.
fn own<E>(code: &[Instruction], streams: &[Stream<E>]) -> Option<usize> {
    let is_own = |instruction: &Instruction| matches!(instruction, Instruction::Load(i) if streams[*i].data.is_none());
    let at = code.iter().position(is_own)?;
    // Values above it on the stack: an op that takes one more than these takes it.
    let mut above = 0;
    for instruction in &code[at + 1..code.len() - 1] {
        above += 1;
        if let Instruction::Apply(op) = instruction {
            above = (above - 1_usize).checked_sub(arity(op).0)? + 1;
        }
    }
    (code.iter().filter(|instruction| is_own(instruction)).count() == 1).then_some(at)
}

fn compute<E: Real>(
    (code, own): (&[Instruction], Option<usize>),
    streams: &[Stream<E>],
    start: usize,
    out: &mut [E],
    is_rounded: bool,
) {
    E::with_runs(SLOTS * RUN, |slots| piece(code, own, streams, start, out, slots, is_rounded));
}

wide! {
    /// `own`: see [`own`].
    fn piece<E: Real>(
        code: &[Instruction],
        own: Option<usize>,
        streams: &[Stream<E>],
        start: usize,
        out: &mut [E],
        slots: &mut [E],
        is_rounded: bool,
    ) {
        let (runs, _) = slots.as_chunks_mut::<RUN>();
        let mut slots = Slots { runs, taken: [false; SLOTS] };
        for (i, out) in out.chunks_mut(RUN).enumerate() {
            slots.taken = [false; SLOTS];
            let mut stack = [Value::One(E::ZERO); LIMITS.depth];
            let (mut height, len) = (0, out.len());
            for (at, instruction) in code.iter().enumerate() {
                match instruction {
                    Instruction::Load(_) if own == Some(at) => {
                        stack[height] = Value::Own;
                        height += 1;
                    }
                    Instruction::Load(stream) => {
                        stack[height] = slots.load(&streams[*stream], start + i * RUN, out);
                        height += 1;
                    }
                    Instruction::Constant(value) => {
                        stack[height] = Value::One(E::from_f64(*value));
                        height += 1;
                    }
                    Instruction::Apply(op) => {
                        let slot = slots.take();
                        let (run, others) = slots.all_but(slot);
                        let target = if at + 1 == code.len() { &mut *out } else { &mut run[..len] };
                        let taken = apply(op, target, is_rounded, |below| others.operand(stack[height - 1 - below], len));
                        height -= taken;
                        stack[height..height + taken].iter().for_each(|value| slots.give_back(value));
                        stack[height] = Value::Slot(slot);
                        height += 1;
                    }
                }
            }
        }
    }
}

/// A value on the stack, for the run at hand.
#[derive(Clone, Copy)]
enum Value<'a, E> {
    /// A part of a stream.
    Run(&'a [E]),
    /// The same for every element.
    One(E),
    Slot(usize),
    /// Where the chain writes.
    Own,
}

/// A value as an op reads it.
#[derive(Clone, Copy)]
enum Operand<'a, E> {
    Run(&'a [E]),
    One(E),
    /// Where the op writes.
    Own,
}

struct Slots<'r, E> {
    runs: &'r mut [[E; RUN]],
    taken: [bool; SLOTS],
}

/// All slots but one.
struct Others<'s, E> {
    low: &'s [[E; RUN]],
    high: &'s [[E; RUN]],
}

impl<E: Real> Slots<'_, E> {
    #[inline(always)]
    fn take(&mut self) -> usize {
        let free = self.taken.iter().position(|taken| !taken).expect("there is a slot more than values on the stack");
        self.taken[free] = true;
        free
    }

    #[inline(always)]
    fn give_back(&mut self, value: &Value<E>) {
        if let Value::Slot(slot) = value {
            self.taken[*slot] = false;
        }
    }

    #[inline(always)]
    fn all_but(&mut self, slot: usize) -> (&mut [E; RUN], Others<'_, E>) {
        let (low, rest) = self.runs.split_at_mut(slot);
        let (run, high) = rest.split_first_mut().expect("the slot is one of them");
        (run, Others { low, high })
    }

    /// The part of a stream that belongs to the run of `out` from element `start` on.
    #[inline(always)]
    fn load<'a>(&mut self, stream: &Stream<'a, E>, start: usize, out: &[E]) -> Value<'a, E> {
        let end = start + out.len();
        let (data, each, period) = match (stream.data, stream.pattern) {
            // It is overwritten while it would be read.
            (None, _) => {
                let slot = self.take();
                self.runs[slot][..out.len()].copy_from_slice(out);
                return Value::Slot(slot);
            }
            (Some(Numbers::Full(data)), None) => return Value::Run(&data[start..end]),
            (Some(Numbers::Halves(data)), None) => {
                let slot = self.take();
                for (to, from) in self.runs[slot].iter_mut().zip(&data[start..end]) {
                    *to = from.widen();
                }
                return Value::Slot(slot);
            }
            (Some(Numbers::Halves(_)), Some(_)) => unreachable!("what is repeated is stored in full"),
            (Some(Numbers::Full(data)), Some(Pattern { each, period })) => (data, each, period),
        };
        let row = start / each % period;
        if each == 1 && row + out.len() <= period {
            return Value::Run(&data[row..row + out.len()]);
        }
        if start % each + out.len() <= each {
            return Value::One(data[row]);
        }
        let slot = self.take();
        let mut at = start;
        while at < end {
            let row = at / each % period;
            let len = if each == 1 { period - row } else { each - at % each }.min(end - at);
            let target = &mut self.runs[slot][at - start..at - start + len];
            if each == 1 {
                target.copy_from_slice(&data[row..row + len]);
            } else {
                target.fill(data[row]);
            }
            at += len;
        }
        Value::Slot(slot)
    }
}

impl<'s, E: Real> Others<'s, E> {
    #[inline(always)]
    fn operand(&self, value: Value<'s, E>, len: usize) -> Operand<'s, E> {
        match value {
            Value::Run(run) => Operand::Run(run),
            Value::One(value) => Operand::One(value),
            Value::Own => Operand::Own,
            Value::Slot(slot) if slot < self.low.len() => Operand::Run(&self.low[slot][..len]),
            Value::Slot(slot) => Operand::Run(&self.high[slot - self.low.len() - 1][..len]),
        }
    }
}

/// Applies an op to the top of the stack, whose value `i` from the top is `operand(i)`, and gives how many values it takes
/// from there.
#[inline(always)]
fn apply<'a, E: Real>(op: &Op, out: &mut [E], is_rounded: bool, operand: impl Fn(usize) -> Operand<'a, E>) -> usize {
    // Loops written out, not handed a closure: the compiler would rather call a long one for each element.
    macro_rules! unary {
        (|$x:ident| $value:expr) => {{
            match operand(0) {
                Operand::Run(x) => {
                    for (out, &$x) in out.iter_mut().zip(x) {
                        *out = $value;
                    }
                }
                Operand::One($x) => out.fill($value),
                Operand::Own => {
                    for out in out.iter_mut() {
                        let $x = *out;
                        *out = $value;
                    }
                }
            }
            1
        }};
    }
    macro_rules! binary {
        (|$a:ident, $b:ident| $value:expr) => {{
            match (operand(1), operand(0)) {
                (Operand::Run(a), Operand::Run(b)) => {
                    for (out, (&$a, &$b)) in out.iter_mut().zip(a.iter().zip(b)) {
                        *out = $value;
                    }
                }
                (Operand::Run(a), Operand::One($b)) => {
                    for (out, &$a) in out.iter_mut().zip(a) {
                        *out = $value;
                    }
                }
                (Operand::One($a), Operand::Run(b)) => {
                    for (out, &$b) in out.iter_mut().zip(b) {
                        *out = $value;
                    }
                }
                (Operand::One($a), Operand::One($b)) => out.fill($value),
                (Operand::Own, Operand::Run(b)) => {
                    for (out, &$b) in out.iter_mut().zip(b) {
                        let $a = *out;
                        *out = $value;
                    }
                }
                (Operand::Run(a), Operand::Own) => {
                    for (out, &$a) in out.iter_mut().zip(a) {
                        let $b = *out;
                        *out = $value;
                    }
                }
                (Operand::Own, Operand::One($b)) => {
                    for out in out.iter_mut() {
                        let $a = *out;
                        *out = $value;
                    }
                }
                (Operand::One($a), Operand::Own) => {
                    for out in out.iter_mut() {
                        let $b = *out;
                        *out = $value;
                    }
                }
                (Operand::Own, Operand::Own) => unreachable!("it is loaded once"),
            }
            2
        }};
    }
    let truth = |holds: bool| if holds { E::ONE } else { E::ZERO };
    match op {
        Op::Add => binary!(|a, b| a + b),
        Op::Sub => binary!(|a, b| a - b),
        Op::Mul => binary!(|a, b| a * b),
        Op::Div => binary!(|a, b| a / b),
        // NaN of either side stays: a run that has failed must not go on.
        Op::Maximum => binary!(|a, b| if a > b || a.is_nan() { a } else { b }),
        Op::Minimum => binary!(|a, b| if a < b || a.is_nan() { a } else { b }),
        Op::Less => binary!(|a, b| truth(a < b)),
        Op::Equal => binary!(|a, b| truth(a == b)),
        Op::Atan2 => binary!(|y, x| E::from_f64(libm::atan2(y.to_f64(), x.to_f64()))),
        Op::GeluGrad if is_rounded => binary!(|x, g| {
            let (below, density) = x.coarse_normal();
            g * (below + x * density)
        }),
        Op::GeluGrad => binary!(|x, g| {
            let (below, density) = x.normal();
            g * (below + x * density)
        }),
        Op::Select => {
            let chosen = |from: Operand<E>, i: usize, own: E| match from {
                Operand::Run(run) => run[i],
                Operand::One(value) => value,
                Operand::Own => own,
            };
            let (condition, a, b) = (operand(2), operand(1), operand(0));
            for (i, out) in out.iter_mut().enumerate() {
                *out = if chosen(condition, i, *out) == E::ZERO { chosen(b, i, *out) } else { chosen(a, i, *out) };
            }
            3
        }
        Op::AddConst { value } => {
            let constant = E::from_f64(*value);
            unary!(|x| x + constant)
        }
        Op::MulConst { value } => {
            let constant = E::from_f64(*value);
            unary!(|x| x * constant)
        }
        Op::PowConst { value } if *value == 0.0 => {
            out.fill(E::ONE);
            1
        }
        Op::PowConst { value } if *value == 1.0 => unary!(|x| x * E::ONE),
        Op::PowConst { value } if *value == 2.0 => unary!(|x| x * x),
        Op::PowConst { value } if *value == -1.0 => unary!(|x| E::ONE / x),
        Op::PowConst { value } => unary!(|x| x.powf(E::from_f64(*value))),
        Op::Neg => unary!(|x| -x),
        Op::Exp => unary!(|x| x.exp()),
        Op::Log => unary!(|x| x.ln()),
        Op::Sqrt => unary!(|x| x.sqrt()),
        Op::Abs => unary!(|x| x.abs()),
        Op::Relu => unary!(|x| if x <= E::ZERO { E::ZERO } else { x }),
        Op::Gelu if is_rounded => unary!(|x| x * x.coarse_normal().0),
        Op::Gelu => unary!(|x| x * x.normal().0),
        Op::Tanh => unary!(|x| x.tanh()),
        Op::Sigmoid => unary!(|x| x.sigmoid()),
        Op::Sin => unary!(|x| x.sin()),
        Op::Cos => unary!(|x| x.cos()),
        Op::Floor => unary!(|x| x.floor()),
        other => unreachable!("{} is not element-wise", other.name()),
    }
}
