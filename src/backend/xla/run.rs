//! A graph by itself as a backend's run: its tensors go in, its results come out, and nothing stays on the device.
//!
//! For evaluation, for figures on the way, and for tests. Training keeps its tensors on the device, or on several.

use std::sync::Arc;

use super::device::{Devices, enough, own_ranks};
use super::lower::{Leaf, Module, Scalar, TensorType, module};
use super::pjrt::{Buffer, Client, Executable, HostElement};
use super::programs::{Compiling, Programs, compile_step, peak};
use super::session::XlaSession;
use super::step::{Numbers, scalings};
use super::values::{Number, upload_input};
use crate::backend::{Backend, BackendError, Footprint, Request, Results, Session, Wanted, Whose};
use crate::graph::{Graph, Layout, Program, TensorDecl, ValueId};
use crate::op::{DType, Op};
use crate::plan::{self, Passes};
use crate::ranks::{self, Ranks};
use crate::tensor::{Element, HostTensor, Inputs, OutputValue};

/// Programs that are kept compiled: as many as `cpu` keeps plans.
const PROGRAMS: usize = 7;

/// Runs graphs on the first device of a PJRT plugin, and programs on as many as share a batch.
pub struct Xla {
    client: Client,
    /// Of this process, that share a batch.
    devices: usize,
    /// The processes whose devices share it.
    ranks: Arc<dyn Ranks>,
    compiling: Compiling,
    /// Those of the session that will be opened.
    programs: Programs,
    /// The one used last comes last.
    compiled: Vec<Compiled>,
}

/// A program, and what it was made for.
struct Compiled {
    graph: Graph,
    tensors: Vec<TensorDecl>,
    request: Request,
    scalar: Scalar,
    passes: Passes,
    module: Module,
    executable: Executable,
}

impl Xla {
    /// On the first device.
    pub fn new(client: Client, compiling: Compiling) -> Self {
        let programs = Programs::new(client.clone(), compiling);
        Xla { client, devices: 1, ranks: ranks::alone(), compiling, programs, compiled: Vec::new() }
    }

    /// On several devices; refused where the client has fewer.
    pub fn on(client: Client, devices: Devices, compiling: Compiling) -> Result<Self, BackendError> {
        let devices = devices.of(&client);
        enough(&client, devices)?;
        Ok(Xla { devices, ..Xla::new(client, compiling) })
    }

    /// As one of the processes whose devices share a batch.
    pub fn among(self, ranks: Arc<dyn Ranks>) -> Self {
        Xla { ranks, ..self }
    }

    /// Puts the program for a run last.
    fn find(&mut self, graph: &Graph, layout: &Layout, request: &Request, scalar: Scalar) -> Result<(), BackendError> {
        let fits = |c: &Compiled| {
            c.scalar == scalar && c.request == *request && c.graph == *graph && c.tensors == layout.tensors
        };
        if let Some(at) = self.compiled.iter().position(fits) {
            self.compiled[at..].rotate_left(1);
            return Ok(());
        }
        let passes = plan::passes(graph, layout, request)?;
        // Where every value is looked at, every value is made.
        let own = if request.check_finite { None } else { self.compiling.kernels };
        let module = module(&passes, scalar, own.unwrap_or_default(), request.check_finite);
        let executable = self.client.compile(&module.text, self.programs.options())?;
        if self.compiled.len() == PROGRAMS {
            self.compiled.remove(0);
        }
        self.compiled.push(Compiled {
            graph: graph.clone(),
            tensors: layout.tensors.clone(),
            request: request.clone(),
            scalar,
            passes,
            module,
            executable,
        });
        Ok(())
    }
}

impl<E: Number> Backend<E> for Xla {
    fn name(&self) -> &'static str {
        "xla"
    }

    fn devices(&self) -> usize {
        self.devices
    }

    fn open<'p>(
        mut self: Box<Self>,
        program: &'p Program,
        tensors: Vec<E>,
    ) -> Result<Box<dyn Session<E> + 'p>, BackendError> {
        let client = self.client.clone();
        let own = Programs::new(client.clone(), self.compiling);
        let programs = std::mem::replace(&mut self.programs, own);
        let ranks = self.ranks.clone();
        Ok(Box::new(XlaSession::new(client, ranks, programs, program, &tensors, self)?))
    }

    /// The compiler's own figure. The session that is opened next need not compile this program again.
    fn footprint(&mut self, program: &Program) -> Result<Option<Footprint>, BackendError> {
        let own = own_ranks(&self.client, program)?.len();
        // Of a micro-batch that was not taken.
        drop(self.programs.fresh());
        let numbers = Numbers::new(program, &vec![0; program.layout.trained()]);
        let (_, executable) =
            compile_step::<E>(&mut self.programs, program, &numbers, &scalings(program), Wanted::default())?;
        let Ok(stats) = executable.memory() else { return Ok(None) };
        // All processes choose alike, by the one with the least memory.
        let of_all = |own: Option<u64>| {
            let own = own.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(i64::MAX);
            let least = ranks::each(&*self.ranks, own).into_iter().min().filter(|bytes| *bytes < i64::MAX);
            least.and_then(|bytes| u64::try_from(bytes).ok())
        };
        let limit = |device| self.client.memory(device).ok().flatten().and_then(|memory| memory.limit);
        // Of each device its own, but those of a processor share the machine's.
        let (memory, of) = match of_all((0..own).filter_map(limit).min()) {
            Some(bytes) => (Whose::Device { bytes }, 1),
            None if self.client.is_cpu() => (Whose::Machine, own as u64),
            None => return Ok(None),
        };
        let stored = stats.arguments + stats.outputs.saturating_sub(stats.aliased);
        Ok(Some(Footprint { stored: of * stored, values: of * peak(&stats).saturating_sub(stored), memory }))
    }

    fn prepare(&mut self, graph: &Graph, layout: &Layout, request: &Request) -> Result<(), BackendError> {
        self.find(graph, layout, request, E::SCALAR)
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
        self.find(graph, layout, request, E::SCALAR)?;
        let compiled = self.compiled.last().expect("`find` has put it there");
        let arguments = compiled.arguments(&self.client, layout, arena, inputs)?;
        let buffers = compiled.executable.execute(&arguments.iter().collect::<Vec<_>>(), &[])?;
        let mut found = Found { compiled, buffers: buffers.iter() };
        found.results(layout, request, results)?;
        found.check::<E>()
    }
}

impl Compiled {
    /// What the program takes, on the device.
    fn arguments<E: Number>(
        &self,
        client: &Client,
        layout: &Layout,
        arena: &[E],
        inputs: Inputs<'_>,
    ) -> Result<Vec<Buffer>, BackendError> {
        let one = |(leaf, ty): &(Leaf, TensorType)| -> Result<Buffer, BackendError> {
            match leaf {
                Leaf::Param(path) => {
                    let (decl, range) = layout.get(path).expect("the graph is verified: its tensors are there");
                    Ok(client.upload_values(0, &decl.shape, &arena[range])?)
                }
                Leaf::Input(name) => upload_input::<E>(client, 0, name, ty, inputs),
            }
        };
        self.module.arguments.iter().map(one).collect()
    }
}

/// Results on the device, of which each is read once, in [`Module::results`]' order.
struct Found<'a> {
    compiled: &'a Compiled,
    buffers: std::slice::Iter<'a, Buffer>,
}

impl Found<'_> {
    fn next<T: HostElement>(&mut self) -> Result<Vec<T>, BackendError> {
        let buffer = self.buffers.next().expect("a program has the results of its module");
        Ok(buffer.read()?)
    }

    fn scalars<E: Number>(&mut self, count: usize, values: &mut Vec<f64>) -> Result<(), BackendError> {
        values.clear();
        for _ in 0..count {
            values.push(self.next::<E>()?.first().map_or(f64::NAN, |value| value.to_f64()));
        }
        Ok(())
    }

    fn results<E: Number>(
        &mut self,
        layout: &Layout,
        request: &Request,
        results: &mut Results<E>,
    ) -> Result<(), BackendError> {
        let graph = &self.compiled.passes.graph;
        let Results { losses, total, monitors, updates, outputs, gradients } = results;
        self.scalars::<E>(graph.losses.len(), losses)?;
        self.scalars::<E>(graph.monitors.len(), monitors)?;
        updates.clear();
        for _ in &graph.updates {
            updates.push(self.next()?);
        }
        outputs.clear();
        for (_, id) in &graph.outputs {
            let ty = &graph.node(*id).ty;
            let shape = ty.shape.clone();
            outputs.push(match ty.dtype {
                DType::Float => OutputValue::Float(HostTensor { shape, data: self.next()? }),
                DType::Int => OutputValue::Int(HostTensor { shape, data: self.next()? }),
            });
        }
        gradients.clear();
        gradients.resize(if request.gradients { layout.trained_len } else { 0 }, E::ZERO);
        for (path, _) in &graph.gradients {
            let (_, range) = layout.get(path).expect("the graph is verified: gradients are those of tensors");
            gradients[range].copy_from_slice(&self.next::<E>()?);
        }
        *total = 0.0;
        if graph.total.is_some() {
            *total = self.next::<E>()?.first().map_or(f64::NAN, |value| value.to_f64());
        }
        Ok(())
    }

    /// Errors that the program itself cannot stop at.
    fn check<E: Number>(&mut self) -> Result<(), BackendError> {
        let module = &self.compiled.module;
        if !module.id_checks.is_empty() {
            let found = self.next::<i64>()?;
            if let Some((id, (node, limit))) = found.iter().zip(&module.id_checks).find(|(id, _)| **id != 0) {
                let node = *node;
                let tokens = [Op::GatherTokens.name(), Op::ScatterTokens { tokens: 0 }.name()];
                let what = if tokens.contains(&self.op(node).name()) { "token" } else { "class" };
                return Err(self.at(node, format!("id {id} is no {what}: there are {limit}")));
            }
        }
        if !module.watched.is_empty() {
            let found = self.next::<E>()?;
            let bad = found.iter().zip(&module.watched).find(|(value, _)| !Element::is_finite(**value));
            if let Some((value, node)) = bad {
                return Err(self.at(*node, format!("the first value that is not finite ({value})")));
            }
        }
        Ok(())
    }

    fn op(&self, id: ValueId) -> &Op {
        &self.compiled.passes.graph.node(id).op
    }

    fn at(&self, id: ValueId, message: String) -> BackendError {
        let scope = self.compiled.passes.graph.node(id).scope.clone();
        BackendError::Op { op: self.op(id).name(), scope, message }
    }
}
