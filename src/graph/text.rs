//! Text form of graphs: inputs, one line a value, then losses, monitors, updates, outputs, gradients, first values of
//! states and the total.
//!
//! **Invariant:** `parse(print(graph))` is the graph and `print(parse(text))` a printed text, byte for byte: attributes
//! are RON, whose numbers read back to the same bits.

use std::fmt::Write;

use crate::op::{DType, Op, Type};

use super::{Graph, Initial, InputDecl, InputKind, Node, ValueId};

/// `%7: f[4, 17, 512] = layer_norm(%6, %1, %2) (eps:0.000001)  ; encoder.norm`.
pub fn print(graph: &Graph) -> String {
    let mut text = String::new();
    for input in &graph.inputs {
        let kind = ron::to_string(&input.kind).expect("an input's kind is plain data");
        let _ = writeln!(text, "input {}: {} {kind}", input.name, type_text(&input.ty));
    }
    for (id, node) in graph.nodes.iter().enumerate() {
        let operands: Vec<String> = node.inputs.iter().map(|i| format!("%{}", i.0)).collect();
        let (ty, name, operands) = (type_text(&node.ty), node.op.name(), operands.join(", "));
        let _ = write!(text, "%{id}: {ty} = {name}({operands}){}", attributes(&node.op));
        if !node.scope.is_empty() {
            let _ = write!(text, "  ; {}", node.scope);
        }
        text.push('\n');
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
    named("gradient", &graph.gradients);
    for initial in &graph.initial {
        let _ = writeln!(text, "initial {} {} = %{}", initial.rounds, initial.path, initial.value.0);
    }
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
    let text = ron::to_string(op).expect("an op is plain data");
    match text.split_once('(') {
        Some((_, rest)) => format!(" ({rest}"),
        None => String::new(),
    }
}

/// Reads what [`print`] writes; blank lines are skipped. The error names its line. Only the form is checked here, what the
/// graph means by `graph::verify`.
pub fn parse(text: &str) -> Result<Graph, String> {
    let mut graph = Graph::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() {
            parse_line(line, &mut graph).map_err(|message| format!("line {}: {message}", index + 1))?;
        }
    }
    Ok(graph)
}

fn parse_line(line: &str, graph: &mut Graph) -> Result<(), String> {
    if line.starts_with('%') {
        let (id, rest) = split(line, ": ")?;
        if value_id(id)?.index() != graph.nodes.len() {
            return Err(format!("`{id}` stands where %{} comes", graph.nodes.len()));
        }
        graph.nodes.push(parse_node(rest)?);
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("input ") {
        graph.inputs.push(parse_input(rest)?);
        return Ok(());
    }
    let (what, id) = split(line, " = ")?;
    let id = value_id(id)?;
    if what == "total" {
        graph.total = Some(id);
        return Ok(());
    }
    let (what, name) = split(what, " ")?;
    if what == "initial" {
        let (rounds, path) = split(name, " ")?;
        let rounds = rounds.parse().map_err(|_| format!("`{rounds}` is no number of rounds"))?;
        graph.initial.push(Initial { path: path.to_owned(), value: id, rounds });
        return Ok(());
    }
    let list = match what {
        "loss" => &mut graph.losses,
        "monitor" => &mut graph.monitors,
        "update" => &mut graph.updates,
        "output" => &mut graph.outputs,
        "gradient" => &mut graph.gradients,
        _ => return Err(format!("`{what}` is no part of a graph")),
    };
    list.push((name.to_owned(), id));
    Ok(())
}

fn parse_input(rest: &str) -> Result<InputDecl, String> {
    let (name, rest) = split(rest, ": ")?;
    let (ty, kind) = split(rest, "] ")?;
    let kind: InputKind = ron::from_str(kind).map_err(|e| format!("`{kind}` is no kind of input: {e}"))?;
    Ok(InputDecl { name: name.to_owned(), kind, ty: parse_type(ty)? })
}

/// What stands after the id: `f[2, 3] = sum(%0) (axes:[1],keep:true)  ; scope`.
fn parse_node(rest: &str) -> Result<Node, String> {
    let (ty, rest) = split(rest, "] = ")?;
    let (name, rest) = split(rest, "(")?;
    let (operands, rest) = split(rest, ")")?;
    let inputs = operands.split(", ").filter(|o| !o.is_empty()).map(value_id).collect::<Result<_, _>>()?;
    let (attributes, rest) = rest.split_at(attributes_end(rest)?);
    let scope = match rest.trim() {
        "" => "",
        rest => rest.strip_prefix(';').ok_or_else(|| format!("`{rest}` follows the operation"))?.trim(),
    };
    Ok(Node { op: parse_op(name, attributes)?, inputs, ty: parse_type(ty)?, scope: scope.to_owned() })
}

/// Where the parenthesis that opens `text` closes; 0 where none opens. Those within strings do not count.
fn attributes_end(text: &str) -> Result<usize, String> {
    if !text.starts_with(" (") {
        return Ok(0);
    }
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '(' if !in_string => depth += 1,
            ')' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
    }
    Err(format!("`{}` is not closed", text.trim()))
}

/// The variant's name is the op's in camel case, so that RON reads the whole of it and no table is needed here.
fn parse_op(name: &str, attributes: &str) -> Result<Op, String> {
    let capital = |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect();
    let variant: String = name.split('_').map(|word| -> String { capital(word) }).collect();
    let op: Op = ron::from_str(&format!("{variant}{}", attributes.trim()))
        .map_err(|e| format!("`{name}{attributes}` is no operation: {}", e.code))?;
    if op.name() == name { Ok(op) } else { Err(format!("`{name}` is no operation: is `{}` meant?", op.name())) }
}

/// `f[2, 3`: the bracket was cut off with what follows it.
fn parse_type(text: &str) -> Result<Type, String> {
    let wrong = || format!("`{text}]` is no type such as f[2, 3]");
    let (dtype, sizes) = text.split_once('[').ok_or_else(wrong)?;
    let dtype = match dtype {
        "f" => DType::Float,
        "i" => DType::Int,
        _ => return Err(wrong()),
    };
    let sizes = sizes.split(", ").filter(|s| !s.is_empty());
    let shape = sizes.map(|s| s.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    Ok(Type { dtype, shape })
}

fn value_id(text: &str) -> Result<ValueId, String> {
    let number = text.strip_prefix('%').and_then(|n| n.parse().ok());
    number.map(ValueId).ok_or_else(|| format!("`{text}` is no value such as %3"))
}

fn split<'a>(text: &'a str, by: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(by).ok_or_else(|| format!("`{text}` lacks `{}`", by.trim()))
}
