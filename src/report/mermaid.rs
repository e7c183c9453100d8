//! A [`Sketch`] as Mermaid's text, which forges and notebooks draw themselves.
//!
//! **Invariant:** names of a pipeline are identifiers, so that nothing in them is Mermaid's own.

use std::fmt::Write;

use super::diagram::{about, colours, legend};
use crate::graph::sketch::{Kind, Sketch};

/// `flowchart LR`: a subgraph for each branch, an arrow for each flow; dashed where no gradient comes back, dotted to an average.
pub fn mermaid(title: &str, sketch: &Sketch) -> String {
    let mut text = format!("---\ntitle: {title}\n---\nflowchart LR\n");
    let mut line = |indent: usize, line: &str| {
        let _ = writeln!(text, "{:indent$}{line}", "");
    };
    let last = sketch.lanes.len().saturating_sub(1);
    for (lane, name) in sketch.lanes.iter().enumerate() {
        let parts: Vec<usize> = (0..sketch.parts.len()).filter(|part| sketch.parts[*part].lane == lane).collect();
        if parts.is_empty() {
            continue;
        }
        if lane < last {
            line(2, &format!("subgraph lane{lane}[{name}]"));
        }
        for index in parts {
            let part = &sketch.parts[index];
            let told = about(part).map(|about| format!("<br/>{about}")).unwrap_or_default();
            let (open, close) = match part.kind {
                Kind::View => ("([", "])"),
                Kind::Trained(_) | Kind::Copy | Kind::Fixed => ("[", "]"),
                Kind::Value => ("(", ")"),
                Kind::Loss => ("{{", "}}"),
            };
            let (class, _) = colours(part.kind);
            line(4, &format!("p{index}{open}\"{}{told}\"{close}:::{class}", part.name));
        }
        if lane < last {
            line(2, "end");
        }
    }
    for flow in &sketch.flows {
        let arrow = if flow.gradient { "-->" } else { "-.->" };
        let label = match flow.names.is_empty() {
            true => String::new(),
            false => format!("|{}|", flow.names.join(", ")),
        };
        line(2, &format!("p{} {arrow}{label} p{}", flow.from, flow.to));
    }
    for follow in &sketch.follows {
        line(2, &format!("p{} -. \"average {}\" .-> p{}", follow.from, follow.momentum, follow.to));
    }
    for (class, colours) in legend() {
        line(2, &format!("classDef {class} fill:{},stroke:{},color:#1f2328", colours.fill, colours.stroke));
    }
    text
}
