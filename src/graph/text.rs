//! Text form of graphs: one line a value, then inputs, losses, monitors, updates and outputs.

use std::fmt::Write;

use crate::op::{DType, Op, Type};

use super::{Graph, ValueId};

/// `%7: f[4, 17, 512] = layer_norm(%6, %1, %2) eps=0.000001  ; encoder.norm`.
pub fn print(graph: &Graph) -> String {
    let mut text = String::new();
    for input in &graph.inputs {
        let _ = writeln!(text, "input {}: {} {:?}", input.name, type_text(&input.ty), input.kind);
    }
    for (id, node) in graph.nodes.iter().enumerate() {
        let operands: Vec<String> = node.inputs.iter().map(|i| format!("%{}", i.0)).collect();
        let attributes = attributes(&node.op);
        let _ = writeln!(
            text,
            "%{id}: {} = {}({}){attributes}  ; {}",
            type_text(&node.ty),
            node.op.name(),
            operands.join(", "),
            node.scope,
        );
    }
    let mut named = |what: &str, list: &[(String, ValueId)]| {
        for (name, id) in list {
            let _ = writeln!(text, "{what} {name} = %{}", id.0);
        }
    };
    named("loss", &graph.losses);
    named("monitor", &graph.monitors);
    named("update", &graph.updates);
    named("output", &graph.outputs);
    if let Some(total) = graph.total {
        let _ = writeln!(text, "total = %{}", total.0);
    }
    text
}

fn type_text(ty: &Type) -> String {
    let dtype = match ty.dtype {
        DType::Float => "f",
        DType::Int => "i",
    };
    format!("{dtype}{:?}", ty.shape)
}

/// Attributes as RON, without the op's name; empty where there are none.
fn attributes(op: &Op) -> String {
    let text = ron::to_string(op).unwrap_or_default();
    match text.split_once('(') {
        Some((_, rest)) => format!(" ({rest}"),
        None => String::new(),
    }
}
