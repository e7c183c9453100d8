//! The memory of a run whose tensors lie in the host's memory.

use crate::backend::{BackendError, Footprint, Whose};
use crate::graph::accumulate::{Micro, Parts};
use crate::graph::step::Body;
use crate::graph::{Graph, Layout, Program};
use crate::op::{DType, Type};
use crate::plan::{PartRequests, Request};
use crate::tensor::Element;

/// What a run of `program` takes; `values` are the bytes of the values of one run of a graph, as the backend keeps them.
pub fn footprint<E: Element>(
    program: &Program,
    values: impl Fn(&Graph, &Layout, &Request) -> Result<usize, BackendError>,
) -> Result<Footprint, BackendError> {
    let Program { layout, features, pictures, .. } = program;
    let request = Request::of_step(program, &[]);
    let slots = layout.trained_len * program.spec.train.optimizer.slots().len();
    // Gradients, and the copy that a checkpoint is written from.
    let (mut most, mut stored) =
        (0, layout.total_len + slots.div_ceil(program.shards()) + layout.trained_len + layout.total_len + slots);
    match program.step(&[])?.body {
        Body::Whole(graph) => most = values(&graph, layout, &request)?,
        Body::Parts(parts, _) => {
            let requests = PartRequests::new(&parts, &request);
            let Parts { micro, coupled, layout: own, .. } = &*parts;
            let mut graphs = vec![(micro.forward(), layout, &requests.forward), (coupled, own, &requests.coupled)];
            match micro {
                Micro::Twice { backward, .. } => {
                    graphs.extend(backward.iter().map(|graph| (graph, layout, &requests.backward)));
                }
                Micro::Once { known, .. } => graphs.push((known, layout, &requests.known)),
            }
            for (graph, layout, request) in graphs {
                most = most.max(values(graph, layout, request)?);
            }
            // The joined values of the whole batch with their gradients, and the gradients of one micro-batch.
            stored += own.total_len + own.trained_len + layout.trained_len;
        }
    }
    for graph in [features, pictures].into_iter().flatten() {
        let outputs = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
        most = most.max(values(graph, layout, &Request { outputs, ..Request::default() })?);
    }
    Ok(Footprint { stored: (stored * size_of::<E>()) as u64, values: most as u64, memory: Whose::Machine })
}

/// Bytes of a value.
pub fn bytes_of<E: Element>(ty: &Type) -> usize {
    ty.elements()
        * match ty.dtype {
            DType::Float => size_of::<E>(),
            DType::Int => size_of::<i64>(),
        }
}
