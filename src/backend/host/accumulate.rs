//! One step's forward and backward by micro-batches: what [`Parts`] says, in that order.
//!
//! Before: the whole batch's inputs. After: results as of one run on it.
//!
//! **Invariant:** gradients are added in the order in which they are made: micro-batch by micro-batch, those of the coupled part
//! before them, or after them where micro-batches are run once. Of several ranks those of micro-batches come first, summed over all.

use rayon::prelude::*;

use super::CHUNK;
use crate::backend::{Backend, BackendError, Results};
use crate::graph::accumulate::{Micro, Parts, gradient_of};
use crate::graph::{Graph, Layout};
use crate::op::{DType, Type};
use crate::plan::{PartRequests, Request};
use crate::tensor::{Element, HostTensor, InputValue, Inputs, OutputValue};

/// The parts of a step with their memory, which steps share.
pub struct Accumulation<E> {
    parts: Parts,
    /// Micro-batches of a step, on each of the ranks.
    count: usize,
    ranks: usize,
    /// What a run gives as outputs.
    outputs: Vec<String>,
    /// All tensors of the coupled part, by its layout.
    arena: Vec<E>,
    /// What the micro-batch that runs takes in beside its block of the batch: scheduled numbers, and gradients of joined values.
    others: Vec<(String, InputValue)>,
    /// Joined ids of the whole batch, and what its other inputs beside the batch's are.
    ids: Vec<(String, InputValue)>,
    micro: Results<E>,
    coupled: Results<E>,
}

/// What a step by micro-batches is made from.
#[derive(Clone, Copy)]
pub struct Whole<'a, E> {
    /// Of `arena`, the program's tensors.
    pub layout: &'a Layout,
    pub arena: &'a [E],
    /// The whole batch's.
    pub inputs: Inputs<'a>,
    pub request: &'a Request,
}

impl<E: Element> Accumulation<E> {
    /// Of `count` micro-batches on each of `ranks` ranks; every run gives all `outputs`.
    pub fn new(parts: Parts, count: usize, ranks: usize, outputs: Vec<String>) -> Self {
        Accumulation {
            count,
            ranks,
            outputs,
            arena: vec![E::default(); parts.layout.total_len],
            others: Vec::new(),
            ids: Vec::new(),
            micro: Results::default(),
            coupled: Results::default(),
            parts,
        }
    }

    /// Runs the parts on a whole batch: losses, updates, outputs and, where asked for, gradients.
    pub fn run(
        &mut self,
        backend: &mut dyn Backend<E>,
        batch: Whole<'_, E>,
        results: &mut Results<E>,
    ) -> Result<(), BackendError> {
        results.gradients.clear();
        results.gradients.resize(if batch.request.gradients { batch.layout.trained_len } else { 0 }, E::default());
        self.know(backend, batch)?;
        let mut apart = self.forward(backend, batch, &mut results.gradients)?.into_iter();
        self.couple(backend, batch)?;
        let Results { losses, total, monitors, updates, outputs, .. } = &mut self.coupled;
        results.total = *total;
        std::mem::swap(&mut results.losses, losses);
        std::mem::swap(&mut results.monitors, monitors);
        std::mem::swap(&mut results.updates, updates);
        let mut coupled = outputs.drain(..);
        let is_apart = |name: &String| self.parts.apart.iter().any(|(apart, _)| apart == name);
        let output = |name| if is_apart(name) { apart.next() } else { coupled.next() };
        results.outputs = self.outputs.iter().map(output).map(|o| o.expect("one of the parts makes it")).collect();
        drop(coupled);
        if batch.request.gradients {
            // Those of the coupled part are every rank's alike, so they come in once the others are summed.
            if self.ranks == 1 {
                self.own_gradients(batch.layout, &mut results.gradients);
            }
            self.backward(backend, batch, &mut results.gradients)?;
            if self.ranks > 1 {
                backend.sum_over_ranks(&mut results.gradients);
                self.own_gradients(batch.layout, &mut results.gradients);
            }
        }
        Ok(())
    }

    /// The gradients of the joined values, where they are known beforehand.
    fn know(&mut self, backend: &mut dyn Backend<E>, batch: Whole<'_, E>) -> Result<(), BackendError> {
        let Micro::Once { known, .. } = &self.parts.micro else { return Ok(()) };
        let request = PartRequests::new(&self.parts, batch.request).known;
        backend.run_into(known, batch.layout, batch.arena, batch.inputs, &request, &mut self.micro)?;
        let own = &self.parts.layout;
        self.coupled.gradients.resize(own.trained_len, E::default());
        for ((name, _), value) in known.outputs.iter().zip(&self.micro.outputs) {
            let joined = (0..own.trained()).find(|index| gradient_of(&own.tensors[*index].path) == *name);
            if let (Some(index), OutputValue::Float(gradient)) = (joined, value) {
                self.coupled.gradients[own.range(index)].copy_from_slice(&gradient.data);
            }
        }
        Ok(())
    }

    /// Fills the joined values, and adds the gradients where micro-batches are run once; gives the outputs that keep samples apart.
    fn forward(
        &mut self,
        backend: &mut dyn Backend<E>,
        batch: Whole<'_, E>,
        gradients: &mut [E],
    ) -> Result<Vec<OutputValue<E>>, BackendError> {
        let Parts { micro: how, layout: own, joined, apart, .. } = &self.parts;
        let Whole { layout, arena, inputs, request } = batch;
        let forward = how.forward();
        let request = PartRequests::new(&self.parts, request).forward;
        self.ids =
            joined.iter().filter(|(_, ty)| ty.dtype == DType::Int).map(|(name, ty)| (name.clone(), ids(ty))).collect();
        let mut whole: Vec<OutputValue<E>> = apart.iter().map(|(_, ty)| empty(ty)).collect();
        for micro in 0..self.count {
            self.others.clear();
            self.others.extend_from_slice(inputs.others);
            if let Micro::Once { both, .. } = how {
                joined_gradients(both, own, &self.coupled.gradients, micro, &mut self.others);
            }
            let inputs = Inputs::new(inputs.batch, &self.others).of_micro(micro);
            backend.run_into(forward, layout, arena, inputs, &request, &mut self.micro)?;
            if request.gradients {
                add(gradients, &self.micro.gradients);
            }
            let mut made = self.micro.outputs.drain(..);
            let mut ids = self.ids.iter_mut();
            for ((name, _), value) in joined.iter().zip(&mut made) {
                match value {
                    OutputValue::Float(block) => {
                        let (_, range) = own.get(name).expect("joined numbers are tensors of the coupled part");
                        let at = range.start + micro * block.data.len();
                        self.arena[at..at + block.data.len()].copy_from_slice(&block.data);
                    }
                    OutputValue::Int(block) => {
                        if let Some((_, InputValue::Int(whole))) = ids.next() {
                            whole.data.extend(block.data);
                        }
                    }
                }
            }
            whole.iter_mut().zip(made).for_each(|(whole, block)| append(whole, block));
        }
        Ok(whole)
    }

    /// Runs the coupled part on the joined values.
    fn couple(&mut self, backend: &mut dyn Backend<E>, batch: Whole<'_, E>) -> Result<(), BackendError> {
        let Whole { layout, arena, inputs, request } = batch;
        let Parts { coupled, layout: own, .. } = &self.parts;
        if coupled.nodes.is_empty() {
            return Ok(());
        }
        for (index, decl) in own.tensors.iter().enumerate() {
            if let Some((_, range)) = layout.get(&decl.path) {
                self.arena[own.range(index)].copy_from_slice(&arena[range]);
            }
        }
        self.ids.extend_from_slice(inputs.others);
        let inputs = Inputs { others: &self.ids, ..inputs };
        let request = PartRequests::new(&self.parts, request).coupled;
        backend.run_into(coupled, own, &self.arena, inputs, &request, &mut self.coupled)
    }

    /// Adds what the coupled part gives to the gradients of parameters.
    fn own_gradients(&self, layout: &Layout, gradients: &mut [E]) {
        let own = &self.parts.layout;
        for index in 0..own.trained() {
            if let Some((_, range)) = layout.get(&own.tensors[index].path) {
                add(&mut gradients[range], &self.coupled.gradients[own.range(index)]);
            }
        }
    }

    /// Adds what each micro-batch gives that is run once more.
    fn backward(
        &mut self,
        backend: &mut dyn Backend<E>,
        batch: Whole<'_, E>,
        gradients: &mut [E],
    ) -> Result<(), BackendError> {
        let Whole { layout, arena, inputs, request } = batch;
        let Parts { micro: Micro::Twice { backward: Some(backward), .. }, layout: own, .. } = &self.parts else {
            return Ok(());
        };
        let request = PartRequests::new(&self.parts, request).backward;
        for micro in 0..self.count {
            self.others.clear();
            self.others.extend_from_slice(inputs.others);
            joined_gradients(backward, own, &self.coupled.gradients, micro, &mut self.others);
            let inputs = Inputs::new(inputs.batch, &self.others).of_micro(micro);
            backend.run_into(backward, layout, arena, inputs, &request, &mut self.micro)?;
            add(gradients, &self.micro.gradients);
        }
        Ok(())
    }
}

/// The blocks of a micro-batch of the gradients of joined values, as inputs of `graph`.
fn joined_gradients<E: Element>(
    graph: &Graph,
    own: &Layout,
    gradients: &[E],
    micro: usize,
    into: &mut Vec<(String, InputValue)>,
) {
    for index in 0..own.trained() {
        let name = gradient_of(&own.tensors[index].path);
        let Some(decl) = graph.inputs.iter().find(|input| input.name == name) else { continue };
        let at = own.offsets[index] + micro * decl.ty.elements();
        let block = &gradients[at..at + decl.ty.elements()];
        let data = block.iter().map(|v| v.to_f64()).collect();
        into.push((name, InputValue::Double(HostTensor { shape: decl.ty.shape.clone(), data })));
    }
}

/// Element by element, so that the number of threads changes nothing.
fn add<E: Element>(sum: &mut [E], values: &[E]) {
    sum.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(sum, values)| {
        sum.iter_mut().zip(values).for_each(|(s, v)| *s = E::from_f64(s.to_f64() + v.to_f64()));
    });
}

fn ids(ty: &Type) -> InputValue {
    InputValue::Int(HostTensor { shape: ty.shape.clone(), data: Vec::with_capacity(ty.elements()) })
}

fn empty<E>(ty: &Type) -> OutputValue<E> {
    let shape = ty.shape.clone();
    match ty.dtype {
        DType::Float => OutputValue::Float(HostTensor { shape, data: Vec::with_capacity(ty.elements()) }),
        DType::Int => OutputValue::Int(HostTensor { shape, data: Vec::with_capacity(ty.elements()) }),
    }
}

fn append<E>(whole: &mut OutputValue<E>, block: OutputValue<E>) {
    match (whole, block) {
        (OutputValue::Float(whole), OutputValue::Float(block)) => whole.data.extend(block.data),
        (OutputValue::Int(whole), OutputValue::Int(block)) => whole.data.extend(block.data),
        (OutputValue::Float(_), OutputValue::Int(_)) | (OutputValue::Int(_), OutputValue::Float(_)) => {
            unreachable!("a value of the graph has one type")
        }
    }
}
