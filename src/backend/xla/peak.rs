//! How fast a device multiplies matrices at its best: what a step's rate is held against.

use std::time::Instant;

use super::lower::build::Contraction;
use super::lower::{Function, Kernels, Scalar, TensorType, Value};
use super::pjrt::{Buffer, Client, CompileOptions, PjrtError};

/// Rows and columns: 1.1 TFLOP, over a millisecond on the fastest devices, beside which starting it is little.
const SIZE: usize = 8192;
/// On a test device, which is no engine.
const TEST_SIZE: usize = 512;
/// Products in a row: the device starts the next while the host looks on.
const IN_A_ROW: usize = 4;
/// The best of so many rows.
const TIMES: usize = 6;

/// FLOP a second of square products by the device's compiler, in bf16 or in `scalar`, in full precision; results are rounded where
/// those of steps are.
pub fn product_rate(client: &Client, options: &CompileOptions, scalar: Scalar, bf16: bool) -> Result<f64, PjrtError> {
    let size = if client.is_cpu() { TEST_SIZE } else { SIZE };
    let of = if bf16 { Scalar::Bf16 } else { scalar };
    let square = TensorType::new([size, size], of);
    let mut f = Function::new();
    let made = [operand(&mut f, 3, &square), operand(&mut f, 5, &square)];
    let operands = client.compile(&f.module("operands", 1, &[&made[0], &made[1]]), options)?.execute(&[], &[])?;
    let operands: Vec<&Buffer> = operands.iter().collect();
    let mut f = Function::new();
    let [a, b] = [f.argument(square.clone()), f.argument(square)];
    let rounds = bf16 && Kernels::of_platform(client.platform_name()).rounds_results;
    let how = Contraction { batch: [&[], &[]], over: [1, 0] };
    let product = f.dot(&a, &b, how, if rounds { Scalar::Bf16 } else { scalar });
    let executable = client.compile(&f.module("product", 1, &[&product]), options)?;
    let row = || -> Result<f64, PjrtError> {
        let start = Instant::now();
        for _ in 1..IN_A_ROW {
            executable.execute(&operands, &[])?;
        }
        executable.execute(&operands, &[])?.iter().try_for_each(Buffer::wait)?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first takes memory from the device.
    row()?;
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        best = best.min(row()?);
    }
    Ok(2.0 * (size as f64).powi(3) * IN_A_ROW as f64 / best)
}

/// Values of 0 to 1, made where they lie: a device's clock hangs on how many bits change, so not all are alike.
fn operand(f: &mut Function, step: usize, ty: &TensorType) -> Value {
    let (rows, columns) = (f.iota(&ty.shape, 0), f.iota(&ty.shape, 1));
    let rows = f.times(&rows, step as f64);
    let sum = f.add(&rows, &columns);
    let seventeen = f.constant(17.0, &sum.ty);
    let rest = f.binary("remainder", &sum, &seventeen);
    let rest = f.convert(&rest, Scalar::F32);
    let share = f.times(&rest, 1.0 / 17.0);
    f.convert(&share, ty.scalar)
}
