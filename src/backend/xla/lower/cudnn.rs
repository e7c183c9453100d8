//! Attention by cuDNN: custom calls of XLA's compiler for NVIDIA, which never store the scores.
//!
//! The forward call keeps one number a row, the logarithm of its softmax's sum; the backward call takes it and the result.
//! Calls take tokens before heads, `[B, N, h, d]`, and give `[B, h, N, d]` that lies in memory as they took it, so that the
//! transposes around them cost nothing.
//!
//! **Invariant:** only what cuDNN is known to compute is handed to it: a compiler without a device refuses nothing.

use super::product::Attention;
use super::text::{Function, Scalar, TensorType, Value};

/// The widest head that every GPU with products in bf16 takes; from Hopper on it is 256, and no pipeline has such heads.
const WIDEST_HEAD: usize = 128;

/// What the backward pass takes of the forward pass.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// f32 `[B, h, N]`.
    statistics: Value,
    /// bf16 `[B, N, h, d]`.
    result: Value,
}

/// From heads before tokens to tokens before heads, and back.
const SWAPPED: [usize; 4] = [0, 2, 1, 3];

/// A product of the attention: its name, the axes of both operands that are summed over, and those that run beside one another.
type Product = (&'static str, [usize; 2], [[usize; 2]; 2]);

impl Attention<'_> {
    /// Whether cuDNN computes it. With a bias, whose gradient it gives, token counts are even.
    pub fn fits_cudnn(&self) -> bool {
        let (q, k, v) = (self.q.shape(), self.k.shape(), self.v.shape());
        let is_even = q[2].is_multiple_of(2) && k[2].is_multiple_of(2);
        self.bf16 && q[3].is_multiple_of(8) && q[3] <= WIDEST_HEAD && v[3] == q[3] && (self.bias.is_none() || is_even)
    }

    pub fn forward_by_cudnn(&self, f: &mut Function) -> (Value, Kept) {
        let mut operands = self.taken(f).to_vec();
        operands.extend(self.rounded_bias(f));
        let [b, n, h, d] = dims(&operands[0]);
        let types = [
            TensorType::new([b, h, n, d], Scalar::Bf16),
            TensorType::new([b, h, n], Scalar::F32),
            // Its size is the compiler's to find.
            TensorType::new([0], Scalar::U8),
        ];
        let target = if self.bias.is_some() { "__cudnn$fmhaScaleBiasSoftmax" } else { "__cudnn$fmhaSoftmax" };
        let config = self.config(&[("bmm1", [3, 3], [[0, 2], [0, 2]]), ("bmm2", [3, 1], [[0, 1], [0, 2]])]);
        let made = call(f, target, &operands, &config, &types);
        let result = f.transpose(&made[0], &SWAPPED);
        (f.convert(&made[0], self.q.scalar()), Kept { statistics: made[1].clone(), result })
    }

    /// The gradients of q, k, v and, where there is one, the bias, from that of the result.
    pub fn backward_by_cudnn(&self, f: &mut Function, g: &Value, kept: &Kept) -> Vec<Value> {
        let [q, k, v] = self.taken(f);
        let (g, bias) = (tokens_first(f, g), self.rounded_bias(f));
        let turned = |x: &Value| {
            let [b, n, h, d] = dims(x);
            TensorType::new([b, h, n, d], Scalar::Bf16)
        };
        let mut types = vec![turned(&q), turned(&k), turned(&v)];
        types.extend(bias.as_ref().map(|bias| bias.ty.clone()));
        types.push(TensorType::new([0], Scalar::U8));
        let mut operands = vec![q, k, v, kept.statistics.clone(), g];
        operands.extend(bias);
        operands.push(kept.result.clone());
        let target =
            if self.bias.is_some() { "__cudnn$fmhaScaleBiasSoftmaxBackward" } else { "__cudnn$fmhaSoftmaxBackward" };
        let config = self.config(&[
            ("bmm1_grad_gemm1", [2, 1], [[0, 1], [0, 2]]),
            ("bmm1_grad_gemm2", [3, 1], [[0, 1], [0, 2]]),
            ("bmm2_grad_gemm1", [2, 1], [[0, 1], [0, 2]]),
            ("bmm2_grad_gemm2", [3, 3], [[0, 2], [0, 2]]),
        ]);
        let mut made = call(f, target, &operands, &config, &types);
        // The workspace.
        made.pop();
        let mut gradients: Vec<Value> = made.iter().map(|value| f.convert(value, self.q.scalar())).collect();
        if let (Some(bias), Some(last)) = (self.bias, gradients.last_mut()) {
            *last = f.reshape(last, bias.shape());
        }
        gradients
    }

    /// q, k and v as the calls take them.
    fn taken(&self, f: &mut Function) -> [Value; 3] {
        [self.q, self.k, self.v].map(|x| tokens_first(f, x))
    }

    /// `[1, h, N, M]`: one for all samples.
    fn rounded_bias(&self, f: &mut Function) -> Option<Value> {
        let bias = self.bias?;
        let rounded = f.convert(bias, Scalar::Bf16);
        let shape: Vec<usize> = [1].iter().chain(bias.shape()).copied().collect();
        Some(f.reshape(&rounded, &shape))
    }

    /// What the compiler is told of a call, as its JSON: scale, shape of the scores, which axes its products run over.
    fn config(&self, products: &[Product]) -> String {
        let text = |axis: usize| axis.to_string();
        let scores = [self.q.shape()[0], self.q.shape()[1], self.q.shape()[2], self.k.shape()[2]];
        let mut config = serde_json::json!({
            "algorithm": {
                "algo_id": "0",
                "math_type": "TENSOR_OP_MATH",
                "tuning_knobs": { "17": "1", "24": "0" },
                "is_cudnn_frontend": true,
                "workspace_size": "0",
            },
            "fmha_scale": self.scale,
            "intermediate_tensor_shape": {
                "element_type": "BF16",
                "dimensions": scores.map(text),
                "layout": { "minor_to_major": ["3", "2", "1", "0"] },
                "is_dynamic_dimension": [false, false, false, false],
            },
            "is_flash_attention": true,
            "mask_type": "NO_MASK",
            "dropout_rate": 0.0,
            "seed": 42,
            "sliding_window_length": 0,
            "max_seg_per_batch": 1,
            "is_paged_attention": false,
        });
        for (name, over, batch) in products {
            config[format!("{name}_dot_dimension_numbers")] = serde_json::json!({
                "lhs_contracting_dimensions": [text(over[0])],
                "rhs_contracting_dimensions": [text(over[1])],
                "lhs_batch_dimensions": batch[0].map(text),
                "rhs_batch_dimensions": batch[1].map(text),
            });
        }
        serde_json::json!({ "operation_queue_id": "0", "cudnn_fmha_backend_config": config }).to_string()
    }
}

/// Rounded, `[B, h, N, d]` → `[B, N, h, d]`.
fn tokens_first(f: &mut Function, x: &Value) -> Value {
    let rounded = f.convert(x, Scalar::Bf16);
    f.transpose(&rounded, &SWAPPED)
}

fn dims(x: &Value) -> [usize; 4] {
    x.shape().try_into().expect("attention has four axes")
}

fn call(f: &mut Function, target: &str, operands: &[Value], config: &str, results: &[TensorType]) -> Vec<Value> {
    let operand_layouts: Vec<String> = operands.iter().map(|operand| layout(&dense(operand.rank()))).collect();
    let last = results.len() - 1;
    let given: Vec<String> = (results.iter().enumerate())
        .map(|(place, ty)| match ty.shape.len() {
            // The workspace.
            1 => "dense<0> : tensor<1xindex>".to_owned(),
            // A bias' gradient lies as its bias, all else with tokens before heads.
            4 if !(place == 3 && last == 4) => layout(&[3, 1, 2, 0]),
            rank => layout(&dense(rank)),
        })
        .collect();
    let config = config.replace('"', "\\22");
    let attributes = format!(
        "api_version = 2 : i32, call_target_name = \"{target}\", called_computations = [], has_side_effect = false, \
         backend_config = \"{config}\", operand_layouts = [{}], result_layouts = [{}]",
        operand_layouts.join(", "),
        given.join(", ")
    );
    f.op("stablehlo.custom_call", &operands.iter().collect::<Vec<_>>(), &attributes, &[], results)
}

/// Row by row: the last axis first.
fn dense(rank: usize) -> Vec<usize> {
    (0..rank).rev().collect()
}

fn layout(order: &[usize]) -> String {
    format!("dense<{}> : tensor<{}xindex>", super::text::axes(order), order.len())
}
