//! What the kernels of a compiled program move and compute, and the time that a model gives them.
//!
//! The model: each kernel takes the longer of its bytes at the device's rate and its FLOP at that of products; kernels follow one
//! another. It knows of no start-up, no cache and no choice of tiles, so that a real step takes longer.
//!
//! **Invariant:** an operand counts whole, once for each kernel that reads it, even where the kernel takes a part of it.

use std::collections::BTreeMap;

use super::hlo::{Instruction, Module, Shape};
use super::target::Target;

/// Kernels of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sum {
    pub kernels: u64,
    pub bytes: u64,
    pub flops: u64,
    pub seconds: f64,
}

/// All kernels of a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cost {
    pub total: Sum,
    /// By their kind: product, fusion, or the library's name of a call.
    pub kinds: BTreeMap<String, Sum>,
}

/// Ops that no kernel is run for.
const FREE: [&str; 9] = [
    "parameter",
    "bitcast",
    "tuple",
    "get-tuple-element",
    "constant",
    "after-all",
    "opt-barrier",
    "copy-done",
    "partition-id",
];

impl Cost {
    pub fn of(module: &Module, target: &Target) -> Cost {
        let mut cost = Cost::default();
        cost.add(module, &module.entry, 1, target);
        cost
    }

    /// Of the kernels that are calls of cuDNN's attention, forward and backward, in a step.
    pub fn attentions(&self) -> u64 {
        self.kinds.iter().filter(|(kind, _)| kind.contains("fmha")).map(|(_, sum)| sum.kernels).sum()
    }

    fn add(&mut self, module: &Module, computation: &str, times: u64, target: &Target) {
        let scope = Scope::new(module, computation);
        for instruction in scope.instructions {
            let inner = |key| instruction.attribute(key).unwrap_or_default();
            match instruction.op.as_str() {
                op if FREE.contains(&op) => {}
                "while" => self.add(module, inner("body"), times * rounds(instruction), target),
                "call" => self.add(module, inner("to_apply"), times, target),
                _ => {
                    let (flops, rate) = scope.flops(module, instruction, target);
                    let bytes = scope.bytes(instruction);
                    let seconds = (bytes as f64 / target.bytes_per_second).max(flops as f64 / rate);
                    let kind = kind(instruction, flops);
                    for sum in [&mut self.total, self.kinds.entry(kind).or_default()] {
                        sum.kernels += times;
                        sum.bytes += times * bytes;
                        sum.flops += times * flops;
                        sum.seconds += times as f64 * seconds;
                    }
                }
            }
        }
    }
}

/// How often the body of a loop is run; once where the compiler does not say.
fn rounds(instruction: &Instruction) -> u64 {
    let text = instruction.attributes.split("\"known_trip_count\":{\"n\":\"").nth(1);
    text.and_then(|text| text.split('"').next()?.parse().ok()).unwrap_or(1)
}

fn kind(instruction: &Instruction, flops: u64) -> String {
    match (instruction.attribute("custom_call_target"), flops) {
        (Some(call), _) if !call.contains("cublas") => call.to_owned(),
        (None, 0) => instruction.op.clone(),
        _ => "product".to_owned(),
    }
}

/// The instructions of a computation, and their shapes by name.
struct Scope<'m> {
    instructions: &'m [Instruction],
    shapes: BTreeMap<&'m str, &'m [Shape]>,
}

impl<'m> Scope<'m> {
    fn new(module: &'m Module, computation: &str) -> Self {
        let instructions = module.computation(computation);
        let shapes = instructions.iter().map(|one| (one.name.as_str(), one.shapes.as_slice())).collect();
        Scope { instructions, shapes }
    }

    /// Shapes of an operand, which may be a part of a tuple: `fusion.3#1`.
    fn operand(&self, name: &str) -> &'m [Shape] {
        let (name, part) = name.split_once('#').map_or((name, None), |(name, part)| (name, part.parse().ok()));
        let shapes = self.shapes.get(name).copied().unwrap_or_default();
        part.map_or(shapes, |part: usize| shapes.get(part..=part).unwrap_or_default())
    }

    fn bytes(&self, instruction: &Instruction) -> u64 {
        let read = instruction.operands.iter().flat_map(|name| self.operand(name));
        read.chain(&instruction.shapes).map(Shape::bytes).sum()
    }

    /// FLOP of an instruction's products, and the rate for its operands.
    fn flops(&self, module: &Module, instruction: &Instruction, target: &Target) -> (u64, f64) {
        let first = instruction.operands.first().and_then(|name| self.operand(name).first());
        let rate = match first.map(|shape| shape.element.as_str()) {
            Some("bf16" | "f16") => target.flops_bf16,
            Some("f64") => target.flops_f64,
            _ => target.flops_f32,
        };
        let call = instruction.attribute("custom_call_target").unwrap_or_default();
        let flops = match instruction.op.as_str() {
            "fusion" => {
                let inner = instruction.attribute("calls").unwrap_or_default();
                let inner = Scope::new(module, inner);
                return inner.instructions.iter().map(|one| inner.flops(module, one, target)).fold(
                    (0, target.flops_bf16),
                    |(sum, rate), (flops, of)| if flops > 0 { (sum + flops, of) } else { (sum, rate) },
                );
            }
            "dot" => self.product(instruction, "lhs_contracting_dims="),
            "custom-call" if call.contains("fmha") => self.attention(instruction, call.contains("Backward")),
            "custom-call" if call.contains("cublas") => self.product(instruction, "\"lhs_contracting_dimensions\":"),
            "convolution" => self.convolution(instruction, instruction.shapes.first(), 1),
            "custom-call" if call.contains("convForward") => {
                self.convolution(instruction, instruction.shapes.first(), 1)
            }
            "custom-call" if call.contains("convBackwardInput") => self.convolution(instruction, first, 1),
            _ => 0,
        };
        (flops, rate)
    }

    /// 2 for each multiply-add.
    fn product(&self, instruction: &Instruction, key: &str) -> u64 {
        let lhs = instruction.operands.first().and_then(|name| self.operand(name).first());
        let (Some(lhs), Some(result)) = (lhs, instruction.shapes.first()) else { return 0 };
        let over = instruction.axes(key).unwrap_or_default();
        let depth: u64 = over.iter().filter_map(|axis| lhs.axes.get(*axis)).product();
        2 * result.elements() * depth
    }

    /// Two products forward, five backward; q is `[B, N, h, d]`, k `[B, M, h, d]`.
    fn attention(&self, instruction: &Instruction, backward: bool) -> u64 {
        let shape = |i: usize| instruction.operands.get(i).and_then(|name| self.operand(name).first());
        let (Some(q), Some(k)) = (shape(0), shape(1)) else { return 0 };
        let tokens = k.axes.get(1).copied().unwrap_or(0);
        2 * q.elements() * tokens * if backward { 5 } else { 2 }
    }

    /// Of each element of `side`, which has the output's features, the kernel's share of one of them.
    fn convolution(&self, instruction: &Instruction, side: Option<&Shape>, kernel: usize) -> u64 {
        let kernel = instruction.operands.get(kernel).and_then(|name| self.operand(name).first());
        let labels = instruction.attribute("dim_labels").and_then(|labels| labels.split(['_', '-']).nth(1));
        let features = labels.and_then(|labels| labels.find('o'));
        let (Some(kernel), Some(side), Some(features)) = (kernel, side, features) else { return 0 };
        let features = kernel.axes.get(features).copied().unwrap_or(1).max(1);
        2 * side.elements() * kernel.elements() / features
    }
}

#[cfg(test)]
mod tests {
    use super::super::hlo::Module;
    use super::{Cost, Target};

    const TEXT: &str = r#"HloModule step
%fused (p: bf16[4,8], q: bf16[8,2]) -> f32[4,2] {
  %p = bf16[4,8]{1,0} parameter(0)
  %q = bf16[8,2]{1,0} parameter(1)
  ROOT %dot = f32[4,2]{1,0} dot(%p, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (a: bf16[4,8], b: bf16[8,2]) -> f32[4,2] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = bf16[8,2]{1,0} parameter(1)
  %gemm = f32[4,2]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused
  ROOT %twice = (f32[4,2]{1,0}, f32[]) fusion(%gemm), kind=kLoop, calls=%other
}
"#;

    #[test]
    fn bytes_and_flop_are_those_of_the_text() {
        let target = Target::named("h100").expect("it is known");
        let cost = Cost::of(&Module::read(TEXT), &target);
        let product = cost.kinds["product"];
        assert_eq!((product.kernels, product.bytes, product.flops), (1, 64 + 32 + 32, 2 * 4 * 2 * 8));
        let other = cost.kinds["fusion"];
        assert_eq!((other.kernels, other.bytes, other.flops), (1, 32 + 32 + 4, 0));
        assert_eq!((cost.total.kernels, cost.total.bytes), (2, 196));
    }
}
