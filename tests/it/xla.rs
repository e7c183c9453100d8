//! The `xla` backend: it runs in others' tests (op pages, drawn graphs, references) where a PJRT plugin is there.
//!
//! ```text
//! pip install --no-deps lammps-jax-pjrt-cpu==0.11.2
//! CMAE_PJRT_PLUGIN=FILE cargo test --test it
//! ```
//! FILE is the wheel's `lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so`. Without one they go without it, and say so.

use std::sync::Once;

use cmae::backend::xla::Compiling;
use cmae::backend::xla::lower::Kernels;
use cmae::backend::xla::pjrt::CompileOptions;
use cmae::backend::{BackendOptions, Compute, Request};
use cmae::graph::text;
use cmae::spec::Recompute;
use cmae::tensor::{HostTensor, InputValue, OutputValue};

use crate::ir::layout;

/// The backend's name, where it can run here.
pub fn backend() -> Option<&'static str> {
    static SAID: Once = Once::new();
    if std::env::var_os("CMAE_PJRT_PLUGIN").is_some() {
        return Some("xla");
    }
    SAID.call_once(|| {
        println!(
            "skipped: the xla backend, for want of a PJRT plugin (help: pip install --no-deps lammps-jax-pjrt-cpu==0.11.2, then \
             CMAE_PJRT_PLUGIN=FILE)"
        );
    });
    None
}

/// What a graph of text gives on a backend: outputs and gradients, or the error's text.
fn run<E: Compute>(
    backend: &str,
    graph: &str,
    inputs: &[(String, InputValue)],
    request: Request,
) -> Result<Vec<f64>, String> {
    // Text that every compiler takes, whatever kernels the device has.
    run_for::<E>(Kernels::default(), backend, graph, inputs, request)
}

/// The same, written for a compiler that has `kernels`.
fn run_for<E: Compute>(
    kernels: Kernels,
    backend: &str,
    graph: &str,
    inputs: &[(String, InputValue)],
    request: Request,
) -> Result<Vec<f64>, String> {
    let graph = text::parse(graph).unwrap_or_else(|error| panic!("{error}"));
    let layout = layout(&graph);
    // Numbers that no product makes look alike, and that f32 can hold.
    let arena: Vec<E> =
        (0..layout.total_len).map(|i| E::from_f64(f64::from(libm::sinf(i as f32 * 0.7 + 0.3)))).collect();
    let outputs = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
    let request = Request { gradients: graph.total.is_some(), outputs, ..request };
    let compiling = Compiling { kernels: Some(kernels), ..Compiling::default() };
    let options = BackendOptions { compiling, ..BackendOptions::default() };
    let mut backend = E::backend_with(backend, &options).unwrap_or_else(|error| panic!("{error}"));
    let results = backend.run(&graph, &layout, &arena, inputs, &request).map_err(|error| error.to_string())?;
    let gradients = results.gradients.iter().map(|gradient| gradient.to_f64());
    Ok(results.outputs.iter().flat_map(flat).chain(gradients).collect())
}

fn flat<E: Compute>(value: &OutputValue<E>) -> Vec<f64> {
    match value {
        OutputValue::Float(tensor) => tensor.data.iter().map(|value| value.to_f64()).collect(),
        OutputValue::Int(tensor) => tensor.data.iter().map(|id| *id as f64).collect(),
    }
}

/// The greatest distance of two lists over the greatest number.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// A device cannot stop at an id: the program's last result tells of it, in the words of `cpu`.
#[test]
fn ids_out_of_range_are_named() {
    let Some(xla) = backend() else { return };
    let gather = "input ids: i[1, 2] Label
        %0: f[1, 3, 2] = param() (path:\"x\")
        %1: i[1, 2] = input() (name:\"ids\")
        %2: f[1, 2, 2] = gather_tokens(%0, %1)  ; decoder.restore
        output y = %2";
    let one_hot = "input ids: i[1, 2] Label
        %0: i[1, 2] = input() (name:\"ids\")
        %1: f[1, 2, 3] = one_hot(%0) (classes:3)  ; head
        output y = %1";
    for (graph, ids, found) in [
        (gather, [2, 3], Some("gather_tokens at decoder.restore: id 3 is no token: there are 3")),
        (gather, [-1, 7], Some("gather_tokens at decoder.restore: id -1 is no token: there are 3")),
        (one_hot, [0, 4], Some("one_hot at head: id 4 is no class: there are 3")),
        (gather, [0, 2], None),
    ] {
        let ids = InputValue::Int(HostTensor { shape: vec![1, 2], data: ids.to_vec() });
        let of = |backend| run::<f32>(backend, graph, &[("ids".to_owned(), ids.clone())], Request::default());
        assert_eq!(of(xla).err().as_deref(), found);
        assert_eq!(of(xla), of("cpu"));
    }
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    let Some(xla) = backend() else { return };
    let graph = "%0: f[2, 3] = param() (path:\"x\")
        %1: f[2, 3] = abs(%0)
        %2: f[2, 3] = neg(%1)
        %3: f[2, 3] = log(%2)  ; head.norm
        %4: f[2, 3] = add(%3, %1)  ; head
        output y = %4";
    let request = || Request { check_finite: true, ..Request::default() };
    let error = run::<f32>(xla, graph, &[], request()).expect_err("a logarithm below 0");
    assert_eq!(error, "log at head.norm: the first value that is not finite (NaN)");
    assert_eq!(run::<f32>("cpu", graph, &[], request()), Err(error));
}

/// On every backend, in either precision, with its gradient: a matrix without a factor is no panic.
#[test]
fn a_matrix_that_is_not_positive_definite_is_named() {
    let graph = "%0: f[2, 3, 3] = param() (path:\"x\")
        %1: f[2, 3, 3] = neg(%0)
        %2: f[2] = log_det(%1)  ; losses.expand
        %3: f[] = sum(%2) (axes:[0],keep:false)
        output y = %2
        total = %3";
    let request = || Request { check_finite: true, ..Request::default() };
    let said = Err("log_det at losses.expand: the first value that is not finite (NaN)".to_owned());
    for name in ["cpu", "dfdx"].into_iter().chain(backend()) {
        assert_eq!(run::<f32>(name, graph, &[], request()), said, "{name}");
        assert_eq!(run::<f64>(name, graph, &[], request()), said, "{name}");
    }
}

/// Operands rounded to bf16, sums in f32: as far from f32 as bf16's digits, and from `cpu` as what that stores in them, or this one's
/// device.
#[test]
fn rounded_products_are_those_of_cpu() {
    let Some(xla) = backend() else { return };
    let graph = "%0: f[2, 6, 8] = param() (path:\"x\")
        %1: f[8, 8] = param() (path:\"weight\")  ; fc
        %2: f[8] = param() (path:\"bias\")  ; fc
        %3: f[2, 6, 8] = linear(%0, %1, %2)  ; fc
        %4: f[2, 2, 6, 4] = reshape(%3)
        %5: f[2, 2, 6, 4] = attention(%4, %4, %4) (scale:0.5)  ; attn
        %6: f[2, 4, 6, 2] = reshape(%5)
        %7: f[6, 2, 3, 3] = param() (path:\"kernel\")  ; conv
        %8: f[2, 6, 3, 1] = conv2d(%6, %7) (stride:2,padding:1,groups:2)  ; conv
        %9: f[2, 6, 3, 1] = mul(%8, %8)
        %10: f[] = sum(%9) (axes:[0,1,2,3],keep:false)
        output y = %8
        total = %10";
    let of = |backend, bf16| {
        run::<f32>(backend, graph, &[], Request { bf16, ..Request::default() })
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let (cpu, rounded, plain) = (of("cpu", true), of(xla, true), of(xla, false));
    // The gradients of attention's three operands and their sum are stored in bf16 on `cpu`, each off by 2⁻⁹ of itself at most.
    let stored = 4.0 / 512.0;
    assert!(distance(&cpu, &rounded) < stored, "{}", distance(&cpu, &rounded));
    assert!(distance(&plain, &rounded) > 1e-3, "{}", distance(&plain, &rounded));
    assert!(distance(&plain, &of("cpu", false)) < 1e-5, "{}", distance(&plain, &of("cpu", false)));
}

/// What is rounded to bf16 on NVIDIA is first computed within 5e-7, in a quarter of a million places from −9 to 9. Only a graph with a
/// layer is rounded.
#[test]
fn gelu_for_nvidia_is_near_the_exact_one() {
    let Some(xla) = backend() else { return };
    let graph = "%0: f[262144] = param() (path:\"x\")
        %1: f[262144] = mul_const(%0) (value:9)
        %2: f[262144] = gelu(%1)
        %3: f[2, 4] = param() (path:\"y\")
        %4: f[4, 4] = param() (path:\"weight\")  ; fc
        %5: f[2, 4] = linear(%3, %4)  ; fc
        output x = %1
        output y = %2
        output z = %5";
    let request = || Request { bf16: true, ..Request::default() };
    let of = |kernels| run_for::<f32>(kernels, xla, graph, &[], request()).unwrap_or_else(|error| panic!("{error}"));
    let (found, other) = (of(Kernels::NVIDIA), of(Kernels::default()));
    let (x, rest) = found.split_at(1 << 18);
    let exact = |x: f64| x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    let off = x.iter().zip(rest).map(|(x, y)| (y - exact(*x)).abs()).fold(0.0, f64::max);
    println!("off by {off:.1e}");
    assert!(off < 5e-7, "{off:e}");
    assert!(found[1 << 18..2 << 18] != other[1 << 18..2 << 18], "it is the formula of other plugins");
}

#[test]
fn computing_again_changes_nothing() {
    let Some(xla) = backend() else { return };
    let block = |i: usize, x: usize, first: usize| {
        let [w, norm, fc, gelu, sum] = [first, first + 1, first + 2, first + 3, first + 4];
        format!(
            "%{w}: f[4, 4] = param() (path:\"w{i}\")  ; blocks.{i}
            %{norm}: f[3, 4] = layer_norm(%{x}) (eps:0.00001)  ; blocks.{i}.norm
            %{fc}: f[3, 4] = linear(%{norm}, %{w})  ; blocks.{i}.fc
            %{gelu}: f[3, 4] = gelu(%{fc})  ; blocks.{i}
            %{sum}: f[3, 4] = add(%{x}, %{gelu})  ; blocks.{i}\n"
        )
    };
    let graph = format!(
        "%0: f[3, 4] = param() (path:\"x\")\n{}{}%11: f[3, 4] = mul(%10, %10)
        %12: f[] = sum(%11) (axes:[0,1],keep:false)
        output y = %10
        total = %12",
        block(0, 0, 1),
        block(1, 5, 6)
    );
    let of = |backend, recompute| {
        run::<f64>(backend, &graph, &[], Request { recompute, ..Request::default() })
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let (again, kept) = (of(xla, Recompute::Blocks), of(xla, Recompute::None));
    assert!(distance(&again, &kept) < 1e-14, "{}", distance(&again, &kept));
    assert!(distance(&again, &of("cpu", Recompute::None)) < 1e-13);
}

/// Twelve blocks `[256, 64]` with a hidden layer of 256 keep some 8 MB for the backward pass. A compiler that saw through the
/// barrier would keep as much where they are computed again.
#[test]
fn what_is_computed_again_is_not_kept() {
    let Some(client) = crate::xla_pjrt::client(1) else { return };
    let mut graph = "%0: f[256, 64] = param() (path:\"x\")\n".to_owned();
    for i in 0..12 {
        let [x, up, down, norm, wide, gelu, narrow, sum] = [0, 1, 2, 3, 4, 5, 6, 7].map(|at| 7 * i + at);
        graph.push_str(&format!(
            "%{up}: f[256, 64] = param() (path:\"up{i}\")  ; blocks.{i}
            %{down}: f[64, 256] = param() (path:\"down{i}\")  ; blocks.{i}
            %{norm}: f[256, 64] = layer_norm(%{x}) (eps:0.00001)  ; blocks.{i}
            %{wide}: f[256, 256] = linear(%{norm}, %{up})  ; blocks.{i}.up
            %{gelu}: f[256, 256] = gelu(%{wide})  ; blocks.{i}
            %{narrow}: f[256, 64] = linear(%{gelu}, %{down})  ; blocks.{i}.down
            %{sum}: f[256, 64] = add(%{x}, %{narrow})  ; blocks.{i}\n"
        ));
    }
    graph.push_str("%85: f[] = mean(%84) (axes:[0,1],keep:false)\nloss all = %85\ntotal = %85");
    let temporary = |words: &str| {
        let program = crate::ir::program(&graph, words);
        let executable = client.compile(&program, &CompileOptions::default());
        let memory = executable.and_then(|executable| executable.memory());
        memory.unwrap_or_else(|error| panic!("{error}")).temporary
    };
    let (kept, again) = (temporary(""), temporary("recompute"));
    assert!(2 * again < kept, "{again} of {kept} bytes");
}

/// Losses and gradients of every pipeline in f64, beside those of `cpu`. In the suite the references and the learning of every pipeline
/// go through the same programs.
#[test]
#[ignore = "compiles every pipeline once more"]
fn every_pipeline_agrees_with_cpu() {
    let Some(xla) = backend() else { return };
    crate::cpu::each_pipeline(|method, program, arena, inputs| {
        let of = |backend| {
            let request = Request { gradients: true, ..Request::default() };
            let mut backend = f64::backend(backend).unwrap_or_else(|error| panic!("{error}"));
            let results = backend.run(&program.train, &program.layout, arena, inputs, &request);
            let results = results.unwrap_or_else(|error| panic!("{}: {error}", method.pipeline));
            (results.losses, results.gradients)
        };
        let ((losses, gradients), (others, other_gradients)) = (of("cpu"), of(xla));
        for (a, b) in losses.iter().zip(&others) {
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{}: {a} and {b}", method.pipeline);
        }
        let far = distance(&gradients, &other_gradients);
        assert!(far <= 1e-9, "{}: gradients {far} apart", method.pipeline);
    });
}
