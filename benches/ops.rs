//! Times single ops of the `cpu` backend at the sizes that ViTs have, products beside the `gemm` crate's:
//! `cargo bench --bench ops [PART OF A NAME]`.
//!
//! The best of some runs, for others on the machine only ever take time away.
#![allow(unsafe_code, reason = "gemm takes pointers and strides")]
#![allow(clippy::disallowed_macros, reason = "whoever runs it reads it")]

use std::time::{Duration, Instant};

use cmae::backend::{Compute, Request};
use cmae::graph::Layout;
use cmae::graph::text::parse;
use cmae::tensor::{HostTensor, InputValue};

/// Of each op.
const TIME: Duration = Duration::from_millis(400);

/// A name, the type of each operand, and the op with its result.
const OPS: [(&str, &[&str], &str); 17] = [
    ("a large product", &["2048, 2048", "2048, 2048"], "f[2048, 2048] = matmul (transpose_b:false)"),
    ("qkv, tiny64", &["64, 17, 192", "576, 192", "576"], "f[64, 17, 576] = linear"),
    ("fc1, tiny64", &["64, 17, 192", "768, 192", "768"], "f[64, 17, 768] = linear"),
    ("fc2, tiny64", &["64, 17, 768", "192, 768", "192"], "f[64, 17, 192] = linear"),
    ("fc1 of a decoder, tiny64", &["64, 65, 128", "512, 128", "512"], "f[64, 65, 512] = linear"),
    ("fc1, input's gradient, tiny64", &["1088, 768", "768, 192"], "f[1088, 192] = matmul (transpose_b:false)"),
    ("fc1, weight's gradient, tiny64", &["1088, 768", "1088, 192"], "f[768, 192] = transposed_matmul"),
    ("fc1 of a decoder, weight's gradient, tiny64", &["4160, 512", "4160, 128"], "f[512, 128] = transposed_matmul"),
    ("qkv, small224", &["16, 50, 384", "1152, 384", "1152"], "f[16, 50, 1152] = linear"),
    ("fc1, small224", &["16, 197, 384", "1536, 384", "1536"], "f[16, 197, 1536] = linear"),
    ("fc2, small224", &["16, 197, 1536", "384, 1536", "384"], "f[16, 197, 384] = linear"),
    ("fc2, input's gradient, small224", &["3152, 384", "384, 1536"], "f[3152, 1536] = matmul (transpose_b:false)"),
    ("fc1, weight's gradient, small224", &["3152, 1536", "3152, 384"], "f[1536, 384] = transposed_matmul"),
    (
        "attention, tiny64",
        &["64, 3, 65, 64", "64, 3, 65, 64", "64, 3, 65, 64"],
        "f[64, 3, 65, 64] = attention (scale:0.125)",
    ),
    (
        "attention, small224",
        &["16, 6, 197, 64", "16, 6, 197, 64", "16, 6, 197, 64"],
        "f[16, 6, 197, 64] = attention (scale:0.125)",
    ),
    ("gelu, small224", &["16, 197, 1536"], "f[16, 197, 1536] = gelu"),
    ("layer norm, small224", &["16, 197, 384", "384", "384"], "f[16, 197, 384] = layer_norm (eps:1e-6)"),
];

fn sizes(shape: &str) -> Vec<usize> {
    shape.split(", ").map(|size| size.parse().expect("a whole number")).collect()
}

fn best(mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < TIME {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Seconds of one run.
fn of_backend(operands: &[&str], op: &str, bf16: bool) -> f64 {
    let (result, call) = op.split_once(" = ").expect("a result and an op");
    let (name, attributes) = call.split_once(' ').unwrap_or((call, ""));
    let mut text = String::new();
    let mut inputs = Vec::new();
    for (i, shape) in operands.iter().enumerate() {
        text += &format!("input x{i}: f[{shape}] Noise\n");
        let shape = sizes(shape);
        let data = (0..shape.iter().product::<usize>()).map(|i| libm::sinf(i as f32 * 0.7)).collect();
        inputs.push((format!("x{i}"), InputValue::Float(HostTensor { shape, data })));
    }
    for (i, shape) in operands.iter().enumerate() {
        text += &format!("%{i}: f[{shape}] = input() (name:\"x{i}\")\n");
    }
    let names: Vec<String> = (0..operands.len()).map(|i| format!("%{i}")).collect();
    // As a layer's, so that bf16 is asked of it.
    text += &format!("%{}: {result} = {name}({}) {attributes}  ; layer\n", operands.len(), names.join(", "));
    text += &format!("output y = %{}\n", operands.len());
    let graph = parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let mut backend = f32::backend("cpu").expect("every build has it");
    let request = Request { bf16, outputs: vec!["y".to_owned()], ..Request::default() };
    let layout = Layout::new(Vec::new());
    let mut runs = 0;
    let mut least = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed() < TIME || runs < 2 {
        backend.start_timing();
        backend.run(&graph, &layout, &[], &inputs, &request).unwrap_or_else(|error| panic!("{error}"));
        let times = backend.take_times();
        // The first run takes memory from the system.
        if runs > 0 {
            least = least.min(times.get(name).map_or(f64::INFINITY, Duration::as_secs_f64));
        }
        runs += 1;
    }
    least
}

/// (m, k, n), and whether the left operand and the right one are transposed, of an op that is a product.
fn product(operands: &[&str], op: &str) -> Option<([usize; 3], bool, bool)> {
    let (a, b) = (sizes(operands.first()?), sizes(operands.get(1)?));
    let rows = |shape: &[usize]| shape[..shape.len() - 1].iter().product::<usize>();
    let width = |shape: &[usize]| shape[shape.len() - 1];
    match op.split_once(" = ")?.1.split(' ').next()? {
        "linear" => Some(([rows(&a), width(&a), b[0]], false, true)),
        "matmul" => Some(([rows(&a), width(&a), width(&b)], false, false)),
        "transposed_matmul" => Some(([width(&a), rows(&a), width(&b)], true, false)),
        _ => None,
    }
}

fn of_gemm([m, k, n]: [usize; 3], a_t: bool, b_t: bool) -> f64 {
    let (a, b, mut c) = (vec![0.5_f32; m * k], vec![0.25_f32; k * n], vec![0.0_f32; m * n]);
    let strides = |transposed: bool, rows: usize, columns: usize| match transposed {
        true => (rows as isize, 1),
        false => (1, columns as isize),
    };
    let ((a_column, a_row), (b_column, b_row)) = (strides(a_t, m, k), strides(b_t, k, n));
    best(|| {
        // SAFETY: the strides are those of the vectors above.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                false,
                a.as_ptr(),
                a_column,
                a_row,
                b.as_ptr(),
                b_column,
                b_row,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
    })
}

fn main() {
    // Cargo adds `--bench`.
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("{:<45} {:>9} {:>9} {:>9} {:>9}", "", "ms", "GFLOP/s", "bf16", "gemm");
    for (name, operands, op) in OPS.iter().filter(|(name, ..)| name.contains(&part)) {
        let time = of_backend(operands, op, false);
        print!("{name:<45} {:>9.3}", time * 1e3);
        if let Some(([m, k, n], a_t, b_t)) = product(operands, op) {
            let rate = |time: f64| 2e-9 * (m * k * n) as f64 / time;
            let others = [of_backend(operands, op, true), of_gemm([m, k, n], a_t, b_t)];
            print!(" {:>9.1} {:>9.1} {:>9.1}", rate(time), rate(others[0]), rate(others[1]));
        }
        println!();
    }
}
