//! The `dfdx` backend: every op as dfdx tensor ops, gradients from dfdx's own tape; f32, and f64 as the oracle.
//!
//! Ranks are erased: a float value is a flat dfdx tensor beside its shape, and each op views it at the small rank that it
//! needs. dfdx reshapes contiguous tensors without copying. Ids are `i64` on the host.
//!
//! One tape is carried by hand through the ops whose operands need a gradient; all others run on a tape that is thrown
//! away at once.
//!
//! **Invariant:** the operands of a binary op have different dfdx ids: dfdx panics in its backward pass otherwise. A
//! [`Float`] carries the `root` that its id comes from, and [`Context::distinct`] gives an operand an id of its own.
//!
//! **Invariant:** a value behind `stop_gradient` has an id of its own, so that no gradient for it reaches its source.

mod conv;
mod factor;
mod gelu;
mod ids;
mod layout;
mod ops;
mod products;

use std::collections::BTreeSet;

use dfdx::prelude::{
    Backward, Cpu, Device, Dtype, HasErr, HasShape, OwnedTape, PutTape, ReshapeTo, Shape, SplitTape, Tensor,
};

pub use self::gelu::Gelu;
pub use self::layout::Rows;
use super::host::HostSession;
use super::host::footprint::{bytes_of, footprint};
use super::{Backend, BackendError, Footprint, Request, Results, Session};
use crate::graph::{Graph, Layout, Node, Program, prune};
use crate::op::Op;
use crate::spec::Recompute;
use crate::tensor::{Element, Filling, HostTensor, Inputs, OutputValue};

pub type Flat<E, D> = Tensor<(usize,), E, D>;
type Traced<S, E, D> = Tensor<S, E, D, OwnedTape<E, D>>;
/// A result off the tape, and the tape that knows how it came about.
pub type Taped<E, D> = Result<(Flat<E, D>, OwnedTape<E, D>), <D as HasErr>::Err>;

/// A device with what dfdx itself lacks.
pub trait Kernels<E: Dtype>: Rows<E> + Gelu<E> {}

impl<E: Dtype, D: Rows<E> + Gelu<E>> Kernels<E> for D {}

/// A float value of the graph.
#[derive(Clone)]
struct Float<E: Dtype, D: Device<E>> {
    flat: Flat<E, D>,
    /// Node whose dfdx id this value carries: reshapes keep it.
    root: usize,
}

impl<E: Dtype, D: Device<E>> Float<E, D> {
    fn len(&self) -> usize {
        self.flat.shape().0
    }
}

#[derive(Clone)]
enum Value<E: Dtype, D: Device<E>> {
    Float(Float<E, D>),
    Int(Vec<i64>),
}

/// Runs graphs with dfdx on device `D`.
pub struct Dfdx<D> {
    device: D,
    name: &'static str,
}

/// dfdx on the CPU.
pub fn cpu<E: Element + Dtype>() -> Box<dyn Backend<E>>
where
    Cpu: Kernels<E>,
{
    Box::new(Dfdx { device: Cpu::default(), name: "dfdx" })
}

/// dfdx on the first CUDA device.
#[cfg(feature = "dfdx-cuda")]
pub fn cuda<E: Element + Dtype>() -> Result<Box<dyn Backend<E>>, BackendError>
where
    dfdx::prelude::Cuda: Kernels<E>,
{
    use dfdx::prelude::{Axis, Cuda, TryConcatAlong, ZerosTensor};

    let unavailable = |reason: String| BackendError::Unavailable { backend: "dfdx-cuda", reason };
    let device = Cuda::try_build(0, 0).map_err(|error| unavailable(format!("{error:?}")))?;
    // dfdx compiles this kernel where it is used, from files of the machine that it was built on, and panics without them.
    let joins = || {
        let part = || device.try_zeros_like(&(1,));
        let both: Result<Tensor<(usize,), E, Cuda>, _> = (part()?, part()?).try_concat_along(Axis::<0>);
        both.map(drop)
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(joins)) {
        Ok(Ok(())) => Ok(Box::new(Dfdx { device, name: "dfdx-cuda" })),
        Ok(Err(error)) => Err(unavailable(format!("{error:?}"))),
        Err(_) => Err(unavailable(
            "dfdx cannot compile its kernels here (help: cargo build --release --features dfdx-cuda on this very machine: the \
             binary wants files that were made where it was built)"
                .to_owned(),
        )),
    }
}

/// State of one run: device and tape.
struct Context<E: Dtype, D: Device<E>> {
    device: D,
    tape: OwnedTape<E, D>,
    /// Makes roots of values that are copies.
    next_root: usize,
}

/// An op's failure before it is placed in the graph.
type Done<T> = Result<T, String>;

fn device_error(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

impl<E: Element + Dtype, D: Kernels<E>> Context<E, D> {
    /// Runs `op` on `x`, on the tape if a gradient is needed.
    fn on_tape<S: Shape, R: Shape>(
        &mut self,
        grad: bool,
        x: Tensor<S, E, D>,
        op: impl FnOnce(Traced<S, E, D>) -> Result<Traced<R, E, D>, D::Err>,
    ) -> Done<Tensor<R, E, D>> {
        let tape = if grad { std::mem::take(&mut self.tape) } else { OwnedTape::default() };
        let (out, tape) = op(x.put_tape(tape)).map_err(device_error)?.split_tape();
        if grad {
            self.tape = tape;
        }
        Ok(out)
    }

    /// Runs an op that writes on the tape by itself.
    fn traced(&mut self, grad: bool, op: impl FnOnce(OwnedTape<E, D>) -> Taped<E, D>) -> Done<Float<E, D>> {
        let tape = if grad { std::mem::take(&mut self.tape) } else { OwnedTape::default() };
        let (out, tape) = op(tape).map_err(device_error)?;
        if grad {
            self.tape = tape;
        }
        Ok(self.fresh(out))
    }

    /// A value on the device with an id of its own.
    fn upload(&mut self, data: Vec<E>) -> Done<Float<E, D>> {
        let length = data.len();
        let flat = self.device.try_tensor_from_vec(data, (length,)).map_err(device_error)?;
        Ok(self.fresh(flat))
    }

    fn fresh(&mut self, flat: Flat<E, D>) -> Float<E, D> {
        self.next_root += 1;
        Float { flat, root: self.next_root }
    }

    /// `x` if its id differs from `other`'s, else a copy through the tape.
    fn distinct(&mut self, grad: bool, x: &Float<E, D>, other: &Float<E, D>) -> Done<Float<E, D>> {
        if x.root != other.root {
            return Ok(x.clone());
        }
        let one = <E as Element>::from_f64(1.0);
        let copy = self.on_tape(grad, x.flat.clone(), |t| dfdx::prelude::TryMul::try_mul(t, one))?;
        Ok(self.fresh(copy))
    }
}

/// A flat tensor at another shape; contiguous, so nothing is copied.
fn view<S: Shape, E: Dtype, D: Device<E>, T: dfdx::prelude::Tape<E, D>, S0: Shape>(
    x: Tensor<S0, E, D, T>,
    shape: S,
) -> Result<Tensor<S, E, D, T>, D::Err> {
    x.try_reshape_like(&shape)
}

/// Values of a flat tensor. dfdx's `as_vec` walks an index a value; a flat tensor is contiguous and goes as it lies.
fn host<E: Dtype, D: Device<E>>(x: &Flat<E, D>) -> Vec<E> {
    let mut values = vec![E::default(); x.shape().0];
    x.copy_into(&mut values);
    values
}

/// What a run needs of each node.
struct Needs {
    needed: Vec<bool>,
    /// Whether a gradient flows to the node's value.
    grad: Vec<bool>,
    /// Last node that reads the value; the node itself where none does.
    last_use: Vec<usize>,
}

fn needs(graph: &Graph, layout: &Layout, request: &Request) -> Result<Needs, BackendError> {
    let count = graph.nodes.len();
    let mut wanted = graph.with_outputs(&request.outputs)?;
    wanted.initial.clear();
    let needed = prune::needed(&wanted);
    let grad = if request.gradients { graph.carries_gradient(layout) } else { vec![false; count] };
    let mut last_use: Vec<usize> = (0..count).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        if needed[id] {
            node.inputs.iter().for_each(|i| last_use[i.index()] = id);
        }
    }
    wanted.results().for_each(|id| last_use[id.index()] = count);
    Ok(Needs { needed, grad, last_use })
}

/// Bytes of the values that a run holds at one time: with gradients all of them, for the tape, and as many gradients.
fn values<E: Element>(graph: &Graph, layout: &Layout, request: &Request) -> Result<usize, BackendError> {
    let Needs { needed, last_use, .. } = needs(graph, layout, request)?;
    let bytes = |id: usize| if needed[id] { bytes_of::<E>(&graph.nodes[id].ty) } else { 0 };
    if request.gradients {
        return Ok(2 * (0..graph.nodes.len()).map(bytes).sum::<usize>());
    }
    let (mut live, mut most) = (0, 0);
    for (id, node) in graph.nodes.iter().enumerate() {
        live += bytes(id);
        most = most.max(live);
        let ends = |operand: &usize| last_use[*operand] == id;
        // An operand that is read twice ends once.
        let operands: BTreeSet<usize> = node.inputs.iter().map(|operand| operand.index()).filter(ends).collect();
        live -= operands.into_iter().map(bytes).sum::<usize>();
    }
    Ok(most)
}

impl<E: Element + Dtype, D: Kernels<E>> Backend<E> for Dfdx<D> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn open<'p>(
        self: Box<Self>,
        program: &'p Program,
        tensors: Vec<E>,
    ) -> Result<Box<dyn Session<E> + 'p>, BackendError> {
        if program.ranks > 1 {
            return Err(BackendError::NoRanks { backend: self.name, ranks: program.ranks });
        }
        Ok(Box::new(HostSession::new(self, program, tensors)))
    }

    /// An estimate: what its kernels work in is not told.
    fn footprint(&mut self, program: &Program) -> Result<Option<Footprint>, BackendError> {
        if self.name != "dfdx" {
            return Ok(None);
        }
        footprint::<E>(program, |graph, layout, request| values::<E>(graph, layout, request)).map(Some)
    }

    fn accept(&self, request: &Request) -> Result<(), BackendError> {
        if request.bf16 {
            return Err(BackendError::NoBf16 { backend: self.name });
        }
        // Its tape holds on to what operations were given, so there is no value to let go and make again.
        match (request.gradients, request.recompute) {
            (true, Recompute::Blocks) => Err(BackendError::NoRecompute { backend: self.name }),
            (false, _) | (true, Recompute::None) => Ok(()),
        }
    }

    fn run_into(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        arena: &[E],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<E>,
    ) -> Result<(), BackendError> {
        Backend::<E>::accept(self, request)?;
        let needs = needs(graph, layout, request)?;
        let count = graph.nodes.len();
        let mut context = Context { device: self.device.clone(), tape: OwnedTape::default(), next_root: count };
        let mut values: Vec<Option<Value<E, D>>> = vec![None; count];
        let mut trained: Vec<(usize, Flat<E, D>)> = Vec::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            if !needs.needed[id] {
                continue;
            }
            let place = |message: String| BackendError::Op { op: node.op.name(), scope: node.scope.clone(), message };
            let value = match &node.op {
                Op::Input { name } => input(&mut context, node, name, inputs)?,
                Op::Param { path } => {
                    let index = layout.index(path).ok_or_else(|| place(format!("there is no tensor `{path}`")))?;
                    let float = context.upload(arena[layout.range(index)].to_vec()).map_err(place)?;
                    if needs.grad[id] {
                        trained.push((index, float.flat.clone()));
                    }
                    Value::Float(float)
                }
                _ => context.evaluate(graph, node, needs.grad[id], &values).map_err(place)?,
            };
            if let (true, Value::Float(float)) = (request.check_finite, &value)
                && let Some(bad) = host(&float.flat).into_iter().find(|v| !Element::is_finite(*v))
            {
                return Err(place(format!("the first value that is not finite ({bad})")));
            }
            values[id] = Some(value);
            for operand in &node.inputs {
                if needs.last_use[operand.index()] == id {
                    values[operand.index()] = None;
                }
            }
        }
        let read = |id: usize| -> Vec<E> {
            match &values[id] {
                Some(Value::Float(float)) => host(&float.flat),
                Some(Value::Int(ids)) => ids.iter().map(|i| <E as Element>::from_f64(*i as f64)).collect(),
                None => Vec::new(),
            }
        };
        let scalar = |id: usize| read(id).first().map_or(f64::NAN, |v| Element::to_f64(*v));
        let losses = graph.losses.iter().map(|(_, id)| scalar(id.index())).collect();
        let monitors = graph.monitors.iter().map(|(_, id)| scalar(id.index())).collect();
        let updates = graph.updates.iter().map(|(_, id)| read(id.index())).collect();
        let outputs = request
            .outputs
            .iter()
            .filter_map(|name| graph.output(name))
            .map(|id| {
                let shape = graph.node(id).ty.shape.clone();
                match &values[id.index()] {
                    Some(Value::Int(ids)) => OutputValue::Int(HostTensor { shape, data: ids.clone() }),
                    _ => OutputValue::Float(HostTensor { shape, data: read(id.index()) }),
                }
            })
            .collect();
        let total_value = graph.total.map_or(0.0, |id| scalar(id.index()));
        let mut gradients = Vec::new();
        if let (true, Some(total)) = (request.gradients, graph.total) {
            gradients = vec![<E as Element>::from_f64(0.0); layout.trained_len];
            if let (true, Some(Value::Float(total))) = (needs.grad[total.index()], values[total.index()].take()) {
                // Values still held would double the memory of the backward pass.
                values.clear();
                let place = |message| BackendError::Op { op: "backward", scope: "total".into(), message };
                let loss = view(total.flat, ()).map_err(|e| place(device_error(e)))?;
                let tape = std::mem::take(&mut context.tape);
                let mut found = loss.put_tape(tape).try_backward().map_err(|e| place(device_error(e)))?;
                for (index, flat) in &trained {
                    found.get_or_alloc_mut(flat).map_err(|e| place(device_error(e)))?;
                    // Added, for several nodes may read one parameter.
                    let sums = gradients[layout.range(*index)].iter_mut();
                    sums.zip(host(&found.get(flat))).for_each(|(sum, value)| *sum += value);
                }
            }
        }
        *results = Results { losses, total: total_value, monitors, updates, outputs, gradients };
        Ok(())
    }
}

fn input<E: Element + Dtype, D: Kernels<E>>(
    context: &mut Context<E, D>,
    node: &Node,
    name: &str,
    inputs: Inputs<'_>,
) -> Result<Value<E, D>, BackendError> {
    let value = inputs.filling(name, &node.ty)?;
    let constant = <E as Element>::from_f64;
    let place = |message| BackendError::Op { op: "input", scope: name.to_owned(), message };
    let mut upload = |data: Vec<E>| context.upload(data).map(Value::Float).map_err(place);
    match value {
        Filling::Float(values) => upload(values.iter().map(|v| constant(f64::from(*v))).collect()),
        Filling::Double(values) => upload(values.iter().map(|v| constant(*v)).collect()),
        Filling::Int(values) => Ok(Value::Int(values.to_vec())),
        Filling::Levels(levels) => upload(levels.numbers()),
    }
}
