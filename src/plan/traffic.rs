//! What ranks exchange in a step, from the graphs that they run: for `cmaec show cost --ranks` and for tests.

use super::{PartRequests, PlanError, Request, passes};
use crate::graph::accumulate::{Micro, Parts};
use crate::graph::step::{Body, NoStep};
use crate::graph::{Graph, Layout, Program};
use crate::op::{DType, Op, Type};

/// Exchanges of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exchanged {
    /// How many.
    pub times: usize,
    /// Of their results: what all ranks have together, or the sums.
    pub floats: u64,
    pub ids: u64,
}

/// What every rank takes part in between two steps of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    pub gathered: Exchanged,
    pub summed: Exchanged,
}

/// Why nothing can be said of it.
#[derive(Debug, thiserror::Error)]
pub enum NoTraffic {
    #[error(transparent)]
    Step(#[from] NoStep),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Exchanged {
    /// Bytes where a float takes `float_bytes`; an id takes 8.
    pub fn bytes(&self, float_bytes: usize) -> u64 {
        self.floats * float_bytes as u64 + self.ids * 8
    }

    fn add(&mut self, ty: &Type) {
        self.times += 1;
        match ty.dtype {
            DType::Float => self.floats += ty.elements() as u64,
            DType::Int => self.ids += ty.elements() as u64,
        }
    }
}

impl Traffic {
    /// Of a step of `program`, as each of its ranks makes it.
    pub fn of_step(program: &Program) -> Result<Traffic, NoTraffic> {
        let (layout, request) = (&program.layout, Request::of_step(program, &[]));
        let mut traffic = Traffic::default();
        match program.step(&[])?.body {
            Body::Whole(graph) => traffic.count(&graph, layout, &request)?,
            Body::Parts(parts, _) => {
                let requests = PartRequests::new(&parts, &request);
                let Parts { micro, coupled, layout: own, .. } = &*parts;
                traffic.count(coupled, own, &requests.coupled)?;
                if let Micro::Once { known, .. } = micro {
                    traffic.count(known, layout, &requests.known)?;
                }
                // Gradients of all micro-batches at once, behind the last.
                if program.ranks > 1 {
                    traffic.summed.add(&Type::float([layout.trained_len]));
                }
            }
        }
        if program.shards() > 1 {
            // Each rank's part of the parameters.
            traffic.gathered.times += program.shards() - 1;
            traffic.gathered.add(&Type::float([layout.trained_len]));
        }
        Ok(traffic)
    }

    fn count(&mut self, graph: &Graph, layout: &Layout, request: &Request) -> Result<(), PlanError> {
        for node in &passes(graph, layout, request)?.graph.nodes {
            match node.op {
                Op::AllGather { .. } => self.gathered.add(&node.ty),
                Op::AllReduce { .. } => self.summed.add(&node.ty),
                _ => {}
            }
        }
        Ok(())
    }
}
