//! Convolution and its gradients, which are convolutions too: of the gradient spread out by the stride with the turned kernel, and
//! of the picture with the gradient as kernel.

use super::build::Convolution;
use super::text::{Function, Scalar, TensorType, Value};

/// Attributes of the op, and whether operands are rounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conv {
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    pub bf16: bool,
}

/// Nothing between values, nothing around, one group.
const PLAIN: Convolution<'static> = Convolution {
    dims: "[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]",
    stride: 1,
    input_dilation: 1,
    kernel_dilation: 1,
    reversed: false,
    padding: [[0; 2]; 2],
    groups: 1,
    batch_groups: 1,
};

impl Conv {
    fn run(self, f: &mut Function, a: &Value, b: &Value, how: &Convolution<'_>, shape: &[usize]) -> Value {
        let result = TensorType::new(shape, a.scalar());
        if !self.bf16 {
            return f.convolution(a, b, how, result);
        }
        let (a, b) = (f.convert(a, Scalar::Bf16), f.convert(b, Scalar::Bf16));
        f.convolution(&a, &b, how, result)
    }

    /// x `[B, C, H, W]`, weight `[O, C / groups, kh, kw]`, bias `[O]` → `shape`, `[B, O, H', W']`.
    pub fn forward(self, f: &mut Function, x: &Value, weight: &Value, bias: Option<&Value>, shape: &[usize]) -> Value {
        let around = [self.padding as i64; 2];
        let how = Convolution { stride: self.stride, padding: [around; 2], groups: self.groups, ..PLAIN };
        let product = self.run(f, x, weight, &how, shape);
        let Some(bias) = bias else { return product };
        let bias = f.broadcast(bias, shape, &[1]);
        f.add(&product, &bias)
    }

    /// g `[B, O, H', W']` → `shape`, that of x.
    pub fn input_grad(self, f: &mut Function, g: &Value, weight: &Value, shape: &[usize]) -> Value {
        let [out, per_group, height, width] = dims(weight.shape());
        let groups = self.groups;
        // A group's outputs are its inputs now: `[O / groups, C, kh, kw]`.
        let weight = if groups > 1 {
            let apart = f.reshape(weight, &[groups, out / groups, per_group, height, width]);
            let turned = f.transpose(&apart, &[1, 0, 2, 3, 4]);
            f.reshape(&turned, &[out / groups, groups * per_group, height, width])
        } else {
            weight.clone()
        };
        // Before: what a kernel reaches over the padding. Behind: whatever is missing to the size of x, less where the
        // stride has left rows out.
        let around = |axis: usize, kernel: usize| {
            let before = kernel as i64 - 1 - self.padding as i64;
            let spread = (g.shape()[axis] as i64 - 1) * self.stride as i64;
            [before, shape[axis] as i64 - 1 - spread + self.padding as i64]
        };
        let how = Convolution {
            dims: "[b, f, 0, 1]x[i, o, 0, 1]->[b, f, 0, 1]",
            input_dilation: self.stride,
            reversed: true,
            padding: [around(2, height), around(3, width)],
            groups,
            ..PLAIN
        };
        self.run(f, g, &weight, &how, shape)
    }

    /// g `[B, O, H', W']` and x `[B, C, H, W]` → `shape`, that of the weight: the batch is what is summed over.
    pub fn weight_grad(self, f: &mut Function, g: &Value, x: &Value, shape: &[usize]) -> Value {
        let around = |axis: usize| {
            let spread = (g.shape()[axis] as i64 - 1) * self.stride as i64;
            [self.padding as i64, shape[axis] as i64 - x.shape()[axis] as i64 - self.padding as i64 + spread]
        };
        let how = Convolution {
            dims: "[f, b, 0, 1]x[i, o, 0, 1]->[f, b, 0, 1]",
            kernel_dilation: self.stride,
            padding: [around(2), around(3)],
            batch_groups: self.groups,
            ..PLAIN
        };
        self.run(f, x, g, &how, shape)
    }
}

fn dims(shape: &[usize]) -> [usize; 4] {
    shape.try_into().expect("the op's shape rule wants four axes")
}
