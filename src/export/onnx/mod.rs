//! What the features are computed by, as ONNX: pictures in, features out, for a batch of any size.
//!
//! Before: `program.features`, the graph that kNN and `cmaec features` run. After: onnxruntime, and whatever else reads ONNX.
//! [`proto`] holds the messages, [`lower`] says what each op is there, [`written`] puts them together.
//!
//! **Invariant:** the graph knows no size of a batch: `accumulate` says along which axis each value holds the samples, and what hangs on
//! their number is made of the pictures' own.

mod lower;
pub mod proto;
mod written;

use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;

use self::lower::Operand;
use self::proto::{
    Dim, FLOAT, Graph, IR_VERSION, Model, OPERATORS, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
};
use self::written::{BATCH, PICTURES, Size, Written, entry, sizes};
use super::error::ExportError;
use super::preprocess;
use crate::graph::accumulate::{Apart, apart};
use crate::graph::{self, InputKind, Program, ValueId};
use crate::op::{DType, Op};
use crate::run::tensor_file::{WriteError, stream_atomically, write_atomically};
use crate::tensor::Element;

/// The output, of the graph here and of the file.
const FEATURES: &str = "features";

/// Past which a message of protobuf cannot be read.
const LARGEST: usize = i32::MAX as usize;

/// Values of fewer bytes stay in the graph: shapes and numbers, which readers look at before they load weights.
const SMALL: usize = 1024;

/// Where weights begin in a file of their own, so that it can be mapped into memory.
const PAGE: usize = 4096;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub nodes: usize,
    /// (channels, height, width) of a picture, and the size of a row of features.
    pub pictures: Vec<usize>,
    pub dim: usize,
    /// Whether the weights are in a file of their own.
    pub is_apart: bool,
}

/// The Python that runs the file at `path`.
pub fn lines(path: &Path) -> [String; 2] {
    [
        format!("session = onnxruntime.InferenceSession({:?})", path.display().to_string()),
        format!("features, = session.run(None, {{\"{PICTURES}\": pictures}})"),
    ]
}

/// Writes what the features of `program` are computed by, with the weights in `arena` after `step` steps, to `path`; weights for which a
/// file of ONNX has no room go to [`weights_beside`].
pub fn write<E: Element>(program: &Program, arena: &[E], step: u64, path: &Path) -> Result<Exported, ExportError> {
    write_within(program, arena, step, path, LARGEST)
}

/// The file of weights beside the graph at `path`: `x.onnx.data` of `x.onnx`.
pub fn weights_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".data");
    PathBuf::from(name)
}

/// The same, with a graph of at most `largest` bytes.
pub fn write_within<E: Element>(
    program: &Program,
    arena: &[E],
    step: u64,
    path: &Path,
    largest: usize,
) -> Result<Exported, ExportError> {
    let (mut model, pictures, dim) = model(program, arena, step)?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::Io { path, source }
    };
    let is_apart = model.encoded_len() > largest;
    if is_apart {
        let beside = weights_beside(path);
        let location = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let constants = model.graph.as_mut().map_or(&mut [][..], |graph| &mut graph.initializer[..]);
        let large = |tensor: &&mut Tensor| tensor.raw_data.as_ref().is_some_and(|bytes| bytes.len() >= SMALL);
        let (mut weights, mut at) = (Vec::new(), 0);
        for tensor in constants.iter_mut().filter(large) {
            let bytes = tensor.moved(&location, at);
            at = (at + bytes.len()).next_multiple_of(PAGE);
            weights.push(bytes);
        }
        let mut write = |out: &mut dyn Write| {
            weights.iter().try_for_each(|bytes| {
                out.write_all(bytes)?;
                out.write_all(&vec![0; bytes.len().next_multiple_of(PAGE) - bytes.len()])
            })
        };
        stream_atomically(&beside, &mut write).map_err(io(&beside))?;
    }
    let nodes = model.graph.as_ref().map_or(0, |graph| graph.node.len());
    write_atomically(path, &model.encode_to_vec()).map_err(io(path))?;
    Ok(Exported { nodes, pictures, dim, is_apart })
}

/// The model, with the sizes of a picture and of its features.
pub fn model<E: Element>(program: &Program, arena: &[E], step: u64) -> Result<(Model, Vec<usize>, usize), ExportError> {
    let pipeline = &program.spec.name;
    let graph = program.features.as_ref().ok_or_else(|| ExportError::NoFeatures { pipeline: pipeline.clone() })?;
    let found = |found: String| ExportError::Features { pipeline: pipeline.clone(), found };
    let output = graph.output(FEATURES).ok_or_else(|| ExportError::NoFeatures { pipeline: pipeline.clone() })?;
    let ty = &graph.node(output).ty;
    let &[samples, dim] = &ty.shape[..] else { return Err(found(format!("{:?}", ty.shape))) };
    if ty.dtype == DType::Int {
        return Err(found(format!("int {:?}", ty.shape)));
    }
    let joined = |(op, scope)| ExportError::NoForm { op, scope, why: "it joins the samples of a batch".to_owned() };
    let Apart { graph, axes } = apart(graph, samples, FEATURES).map_err(joined)?;
    let pictures = pictures(&graph)?;
    let mut written = Written::default();
    let names = nodes(&mut written, program, &graph, &axes, samples, arena)?;
    let output = graph.output(FEATURES).ok_or_else(|| ExportError::NoFeatures { pipeline: pipeline.clone() })?;
    written.begin("", FEATURES);
    written.last("Identity", &[&names[output.index()]], Vec::new());
    let mut metadata = vec![entry("pipeline", pipeline), entry("step", step.to_string())];
    if let Some(preprocessing) = preprocess::of(program) {
        if let Some(scaling) = &preprocessing.scaling {
            metadata.push(entry("normalisation", "(value / 255 - mean) / std"));
            metadata.push(entry("mean", format!("{:?}", scaling.mean)));
            metadata.push(entry("std", format!("{:?}", scaling.std)));
        }
        metadata.push(entry("preprocessor_config", preprocessing.config.to_string()));
    }
    let graph = Graph {
        node: written.nodes,
        name: Some(pipeline.clone()),
        initializer: written.constants,
        input: vec![info(PICTURES, &pictures)],
        output: vec![info(FEATURES, &[dim])],
    };
    let model = Model {
        ir_version: Some(IR_VERSION),
        producer_name: Some("cmae".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        doc_string: Some(format!("features of pictures, by the pipeline {pipeline}")),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: Some(OPERATORS) }],
        metadata_props: metadata,
    };
    Ok((model, pictures, dim))
}

/// (channels, height, width) of the pictures that the graph looks at: one view, and nothing else from outside.
fn pictures(graph: &graph::Graph) -> Result<Vec<usize>, ExportError> {
    let mut sizes = None;
    for input in &graph.inputs {
        match &input.kind {
            InputKind::View { .. } if sizes.is_none() => sizes = input.ty.shape.get(1..).map(<[usize]>::to_vec),
            _ => {
                let why = format!("beside one view of the pictures it takes `{}`", input.name);
                return Err(ExportError::NoForm { op: "input", scope: input.name.clone(), why });
            }
        }
    }
    let none =
        || ExportError::NoForm { op: "input", scope: FEATURES.to_owned(), why: "it looks at no pictures".to_owned() };
    sizes.ok_or_else(none)
}

/// Adds the nodes of `graph`, and gives the name of each value.
fn nodes<E: Element>(
    written: &mut Written,
    program: &Program,
    graph: &graph::Graph,
    axes: &[Option<usize>],
    samples: usize,
    arena: &[E],
) -> Result<Vec<String>, ExportError> {
    let implicit = implicit(graph);
    let mut names: Vec<String> = Vec::with_capacity(graph.nodes.len());
    let mut all: Vec<Vec<Size>> = Vec::with_capacity(graph.nodes.len());
    for (at, node) in graph.nodes.iter().enumerate() {
        let own = sizes(&node.ty, axes[at], samples);
        let name = match &node.op {
            Op::Input { .. } => PICTURES.to_owned(),
            Op::Param { path } => {
                let (decl, range) = program.layout.get(path).ok_or_else(|| ExportError::NoForm {
                    op: "param",
                    scope: path.clone(),
                    why: "the run has no such tensor".to_owned(),
                })?;
                let values = arena
                    .get(range)
                    .ok_or(ExportError::Arena { found: arena.len(), expected: program.layout.total_len })?;
                if values.iter().any(|value| !value.is_finite()) {
                    return Err(ExportError::NotFinite { path: path.clone() });
                }
                let values = values.iter().map(|value| value.to_f64() as f32);
                written.named(path, |name| Tensor::floats(name, &decl.shape, values));
                path.clone()
            }
            // What only repeats a value, for an operation that does so itself; or gives it another name.
            Op::Broadcast if implicit[at] => names[node.inputs[0].index()].clone(),
            Op::StopGradient => names[node.inputs[0].index()].clone(),
            op => {
                let name = format!("%{at}");
                let operand = |id: &ValueId| Operand { name: &names[id.index()], sizes: &all[id.index()] };
                let operands: Vec<Operand<'_>> = node.inputs.iter().map(operand).collect();
                written.begin(&node.scope, &name);
                lower::lower(written, node, &operands, &own).map_err(|why| ExportError::NoForm {
                    op: op.name(),
                    scope: node.scope.clone(),
                    why,
                })?;
                name
            }
        };
        names.push(name);
        all.push(own);
    }
    Ok(names)
}

/// Of each value, whether it is a repetition that all who read it make themselves: ONNX's element-wise operators repeat axes of size 1, and
/// the other operand has all of them.
fn implicit(graph: &graph::Graph) -> Vec<bool> {
    let is_repeated = |id: &ValueId| graph.node(*id).op == Op::Broadcast;
    let mut implicit: Vec<bool> = graph.nodes.iter().map(|node| node.op == Op::Broadcast).collect();
    for node in &graph.nodes {
        let repeats = matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Maximum | Op::Minimum);
        let whole = node.inputs.iter().any(|id| !is_repeated(id));
        if !(repeats && whole) {
            node.inputs.iter().for_each(|id| implicit[id.index()] = false);
        }
    }
    graph.results().for_each(|id| implicit[id.index()] = false);
    implicit
}

/// A value of one row for each sample, of `rest` sizes.
fn info(name: &str, rest: &[usize]) -> ValueInfo {
    let batch = Dim { dim_value: None, dim_param: Some(BATCH.to_owned()) };
    let fixed = rest.iter().map(|size| Dim { dim_value: Some(*size as i64), dim_param: None });
    let shape = Shape { dim: [batch].into_iter().chain(fixed).collect() };
    let tensor_type = Some(TensorType { elem_type: Some(FLOAT), shape: Some(shape) });
    ValueInfo { name: Some(name.to_owned()), ty: Some(Type { tensor_type }) }
}
