//! A trainer of a few numbers in plain Rust: y = (x + pos)·Wᵀ + b, the loss is the variance of y over the batch, so that
//! the bias has no gradient. SGD, then EMA. Each [`Fault`] is one thing that an implementation may get wrong.

use std::collections::HashMap;

use cmae::backend::host::HostSession;
use cmae::backend::{Backend, BackendError, Request, Results, Session};
use cmae::graph::{Graph, Init, InputDecl, InputKind, Layout, Node, Program, TensorDecl, TensorKind, ValueId};
use cmae::op::{Op, Type};
use cmae::spec::{
    DataSpec, Duration, EmaMoment, EmaSpec, EvaluateSpec, MicroBatch, Optimizer, Precision, Recompute, Residual, Role,
    Schedule, ShardOptimizer, Spec, TrainSpec,
};
use cmae::tensor::{HostTensor, InputValue, Inputs, OutputValue};
use cmae::verify::Steps;
use safetensors::tensor::{Dtype, TensorView};

pub const X: [f64; 6] = [0.5, -1.0, 2.0, 1.5, 0.25, -0.75];
pub const POSITIONS: [f64; 3] = [0.0, 1.0, 0.5];
const WEIGHT: [f64; 6] = [0.2, -0.4, 0.1, 0.7, 0.3, -0.6];
const BIAS: [f64; 2] = [0.05, -0.02];
const TARGET_WEIGHT: [f64; 6] = [0.25, -0.35, 0.15, 0.6, 0.2, -0.5];
const TARGET_BIAS: [f64; 2] = [0.04, -0.01];
const STAT: [f64; 2] = [0.3, -0.2];
const LR: f64 = 1e-3;
const MOMENTUM: f64 = 0.9;
const STEPS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Sound, but for the rounding noise that moves a null parameter by the learning rate, as Adam does.
    None,
    /// No noise either: the reference itself.
    Reference,
    WeightOffByOnePercent,
    GradientSign,
    NullGradient,
    EmaBeforeStep,
    Update,
    Positions,
    NanLoss,
    OutputShape,
    SecondStep,
    Error,
}

fn decl(path: &str, shape: &[usize], kind: TensorKind, init: Init) -> TensorDecl {
    TensorDecl { path: path.to_owned(), shape: shape.to_vec(), role: Role::Weight, kind, init }
}

pub fn program() -> Program {
    let positions = Init::SinCos2d { rows: 1, columns: 1, zero_rows: 0, column_first: true };
    let layout = Layout::new(vec![
        decl("head.weight", &[2, 3], TensorKind::Trained, Init::XavierUniform),
        decl("head.bias", &[2], TensorKind::Trained, Init::Zeros),
        decl("momentum.head.weight", &[2, 3], TensorKind::Ema, Init::CopyOf("head.weight".to_owned())),
        decl("momentum.head.bias", &[2], TensorKind::Ema, Init::CopyOf("head.bias".to_owned())),
        decl("pos", &[1, 3], TensorKind::Fixed, positions),
        decl("norm.stat", &[2], TensorKind::State, Init::Zeros),
    ]);
    let node = |op, shape: &[usize]| Node { op, inputs: vec![], ty: Type::float(shape), scope: String::new() };
    let params = |keep: fn(&str) -> bool| -> Vec<Node> {
        let kept = layout.tensors.iter().filter(|t| keep(&t.path));
        kept.map(|t| node(Op::Param { path: t.path.clone() }, &t.shape)).collect()
    };
    let input = |name: &str| InputDecl {
        name: name.to_owned(),
        kind: InputKind::View { view: "online".to_owned() },
        ty: Type::float([2, 3]),
    };
    let at = ValueId;
    let train = Graph {
        nodes: params(|_| true),
        inputs: vec![input("views.online")],
        losses: vec![("fit".to_owned(), at(0))],
        total: Some(at(0)),
        monitors: vec![],
        initial: Vec::new(),
        updates: vec![("norm.stat".to_owned(), at(0))],
        outputs: vec![("online.y".to_owned(), at(0))],
        ..Graph::default()
    };
    let features = Graph {
        nodes: params(|path| path == "pos"),
        inputs: vec![input("views.eval")],
        outputs: vec![("features".to_owned(), at(0))],
        ..Graph::default()
    };
    let pair = |path: &str| (format!("momentum.{path}"), path.to_owned());
    let ema = EmaSpec {
        name: "momentum".to_owned(),
        momentum: Schedule::Constant(MOMENTUM),
        when: EmaMoment::AfterStep,
        pairs: vec![pair("head.weight"), pair("head.bias")],
        shared: Vec::new(),
    };
    Program {
        spec: spec(),
        layout,
        emas: vec![ema],
        train,
        features: Some(features),
        pictures: None,
        ranks: 1,
        sharded: false,
    }
}

fn spec() -> Spec {
    Spec {
        name: "toy".to_owned(),
        params: vec![],
        data: DataSpec {
            sources: vec![],
            batch_size: 2,
            channels: 1,
            prefetch_batches: 1,
            max_broken: 0.0,
            max_pixels: 1,
        },
        views: vec![],
        train: TrainSpec {
            epochs: 1.0,
            seed: 0,
            optimizer: Optimizer::AdamW { betas: (0.9, 0.95), eps: 1e-8, weight_decay: Schedule::Constant(0.0) },
            micro_batch: MicroBatch::Auto,
            learning_rate: Schedule::Constant(LR),
            clip: None,
            rules: vec![],
            precision: Precision::F64,
            recompute: Recompute::None,
            residual: Residual::F32,
            shard_optimizer: ShardOptimizer::Auto,
            checkpoint_every: Duration::Steps(1.0),
            keep: 1,
            log_every_steps: 1,
        },
        evaluate: EvaluateSpec::default(),
        weights: Vec::new(),
        imports: Vec::new(),
        definitions: Vec::new(),
        export: None,
    }
}

pub struct Toy {
    arena: Vec<f64>,
    layout: Layout,
    fault: Fault,
    done: usize,
}

impl Toy {
    pub fn new(fault: Fault) -> Toy {
        let layout = program().layout;
        let mut toy = Toy { arena: vec![7.0; layout.total_len], layout, fault, done: 0 };
        toy.set("pos", &POSITIONS);
        if fault == Fault::Positions {
            toy.set("pos", &[1.0, 0.0, 0.5]);
        }
        toy
    }

    fn get(&self, path: &str) -> Vec<f64> {
        self.arena[self.layout.get(path).expect("of the toy").1].to_vec()
    }

    fn set(&mut self, path: &str, values: &[f64]) {
        self.arena[self.layout.get(path).expect("of the toy").1].copy_from_slice(values);
    }

    fn average(&mut self) {
        for path in ["head.weight", "head.bias"] {
            let (source, copy) = (self.get(path), self.get(&format!("momentum.{path}")));
            let mixed: Vec<f64> = copy.iter().zip(source).map(|(c, s)| MOMENTUM * c + (1.0 - MOMENTUM) * s).collect();
            self.set(&format!("momentum.{path}"), &mixed);
        }
    }
}

impl Steps<f64> for Toy {
    fn tensors(&mut self) -> Result<Vec<f64>, BackendError> {
        Ok(self.arena.clone())
    }

    fn fill(&mut self, tensors: Vec<f64>) -> Result<(), BackendError> {
        self.arena = tensors;
        Ok(())
    }

    fn step(&mut self, inputs: &[(String, InputValue)], request: &Request) -> Result<Results<f64>, String> {
        let first = self.done == 0;
        if self.fault == Fault::Error && !first {
            return Err("out of memory".to_owned());
        }
        let InputValue::Float(x) = &inputs[0].1 else { return Err("x is float".to_owned()) };
        let (mut weight, mut bias, positions) = (self.get("head.weight"), self.get("head.bias"), self.get("pos"));
        if self.fault == Fault::WeightOffByOnePercent && first {
            weight[1] *= 1.01;
        }
        let x: Vec<f64> = x.data.iter().enumerate().map(|(i, &x)| f64::from(x) + positions[i % 3]).collect();
        // Batch of 2, 3 values in, 2 out.
        let mut y = [0.0; 4];
        for (i, y) in y.iter_mut().enumerate() {
            let (row, column) = (i / 2, i % 2);
            *y = bias[column] + (0..3).map(|k| x[row * 3 + k] * weight[column * 3 + k]).sum::<f64>();
        }
        let mean = [(y[0] + y[2]) / 2.0, (y[1] + y[3]) / 2.0];
        let loss = y.iter().enumerate().map(|(i, y)| (y - mean[i % 2]) * (y - mean[i % 2])).sum::<f64>() / 4.0;
        let mut gradient: Vec<f64> = (0..6)
            .map(|i| (0..2).map(|row| (y[row * 2 + i / 3] - mean[i / 3]) * x[row * 3 + i % 3]).sum::<f64>() / 2.0)
            .collect();
        gradient.extend([0.0, 0.0]);
        if self.fault == Fault::GradientSign {
            gradient[4] = -gradient[4];
        }
        if self.fault == Fault::NullGradient {
            gradient[6] = 1e-4;
        }
        let rate = if self.fault == Fault::Update { 0.2 } else { 0.1 };
        let stat: Vec<f64> = self.get("norm.stat").iter().zip(mean).map(|(s, m)| (1.0 - rate) * s + rate * m).collect();

        if self.fault == Fault::EmaBeforeStep {
            self.average();
        }
        let lr = if self.fault == Fault::SecondStep && self.done == 1 { 10.0 * LR } else { LR };
        weight.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= lr * g);
        if self.fault != Fault::Reference {
            bias[0] += LR;
        }
        self.set("head.weight", &weight);
        self.set("head.bias", &bias);
        self.set("norm.stat", &stat);
        if self.fault != Fault::EmaBeforeStep {
            self.average();
        }
        self.done += 1;

        let shape = if self.fault == Fault::OutputShape { vec![3, 2] } else { vec![2, 2] };
        let output = OutputValue::Float(HostTensor { shape, data: y.to_vec() });
        let loss_shown = if self.fault == Fault::NanLoss && first { f64::NAN } else { loss };
        Ok(Results {
            losses: vec![loss_shown],
            total: loss,
            monitors: vec![],
            updates: vec![stat],
            outputs: request.outputs.iter().map(|_| output.clone()).collect(),
            gradients: if request.gradients { gradient } else { vec![] },
        })
    }
}

/// The file that [`Fault::Reference`] makes: the weight is cut in two, and names differ from the pipeline's.
pub fn fixture_bytes() -> Vec<u8> {
    let mut toy = Toy::new(Fault::Reference);
    for (path, values) in [
        ("head.weight", WEIGHT.as_slice()),
        ("head.bias", &BIAS),
        ("momentum.head.weight", &TARGET_WEIGHT),
        ("momentum.head.bias", &TARGET_BIAS),
        ("norm.stat", &STAT),
    ] {
        toy.set(path, values);
    }
    let state = |toy: &Toy, section: &str| {
        let (weight, target) = (toy.get("head.weight"), toy.get("momentum.head.weight"));
        [
            ("q.weight", vec![1, 3], weight[..3].to_vec()),
            ("k.weight", vec![1, 3], weight[3..].to_vec()),
            ("bias", vec![2], toy.get("head.bias")),
            ("target.q.weight", vec![1, 3], target[..3].to_vec()),
            ("target.k.weight", vec![1, 3], target[3..].to_vec()),
            ("target.bias", vec![2], toy.get("momentum.head.bias")),
            ("norm.stat", vec![2], toy.get("norm.stat")),
        ]
        .map(|(name, shape, values)| (format!("{section}.{name}"), shape, values))
    };
    let mut tensors = state(&toy, "weights").to_vec();
    let x = HostTensor { shape: vec![2, 3], data: X.iter().map(|&x| x as f32).collect() };
    let inputs = [("views.online".to_owned(), InputValue::Float(x))];
    let request = Request { gradients: true, outputs: vec!["online.y".to_owned()], ..Request::default() };
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let results = toy.step(&inputs, &request).expect("the reference is sound");
        losses.extend([results.total; 2]);
        if step == 0 {
            let OutputValue::Float(y) = &results.outputs[0] else { panic!("y is float") };
            tensors.push(("expect.y".to_owned(), vec![2, 2], y.data.clone()));
            tensors.push(("expect.loss".to_owned(), vec![], vec![results.total]));
            tensors.push(("grad.q.weight".to_owned(), vec![1, 3], results.gradients[..3].to_vec()));
            tensors.push(("grad.k.weight".to_owned(), vec![1, 3], results.gradients[3..6].to_vec()));
            tensors.push(("grad.bias".to_owned(), vec![2], results.gradients[6..].to_vec()));
            tensors.push(("after1.norm.stat".to_owned(), vec![2], results.updates[0].clone()));
        }
    }
    tensors.extend(state(&toy, "after"));
    tensors.push(("expect.step_losses".to_owned(), vec![STEPS, 2], losses));
    tensors.push(("expect.ids".to_owned(), vec![2], vec![1.0, 0.0]));
    tensors.push(("input.x".to_owned(), vec![2, 3], X.to_vec()));
    tensors.push(("weights.pos".to_owned(), vec![1, 3], POSITIONS.to_vec()));
    let named: Vec<(&str, Vec<usize>, Vec<f64>)> =
        tensors.iter().map(|(name, shape, values)| (name.as_str(), shape.clone(), values.clone())).collect();
    file(&named, &[])
}

pub fn map_text() -> String {
    r#"(
        pipeline: "toy.cmae",
        mode: Train,
        inputs: [("views.online", "input.x")],
        tensors: [
            ("head.weight", ["q.weight", "k.weight"]),
            ("momentum.head.weight", ["target.q.weight", "target.k.weight"]),
            ("head.{rest}", ["{rest}"]),
            ("momentum.head.{rest}", ["target.{rest}"]),
            ("norm.{rest}", ["norm.{rest}"]),
            ("pos", ["pos"]),
        ],
        outputs: [("expect.y", "online.y"), ("expect.loss", "losses.fit")],
        step_losses: (tensor: "expect.step_losses", columns: ["losses.total", "losses.total"]),
        ignore: ["expect.ids"],
    )"#
    .to_owned()
}

/// A file with the toy's metadata.
pub fn file(tensors: &[(&str, Vec<usize>, Vec<f64>)], more: &[(&str, Vec<usize>, Vec<f64>)]) -> Vec<u8> {
    let all: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .chain(more)
        .map(|(name, shape, values)| (*name, shape.clone(), values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = all.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F64, shape.clone(), bytes).expect("as many values as the shape says"))
    });
    let metadata = [
        ("config", r#"{"steps": 3, "adamw": {"lr": 0.001}, "image_size": [32, 24]}"#),
        ("null_gradient", r#"["bias[0:2]"]"#),
        ("tolerance", r#"{"after.*.stat": {"max": 0.05, "rms": 0.05}, "grad": "in words"}"#),
    ];
    let metadata: HashMap<String, String> = metadata.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    safetensors::serialize(views, Some(metadata)).expect("the tensors are sound")
}

/// x + pos, what the toy's evaluation graph gives.
pub fn shifted() -> Vec<f64> {
    X.iter().enumerate().map(|(i, x)| x + POSITIONS[i % 3]).collect()
}

pub struct Shift {
    pub fault: bool,
}

impl Backend<f64> for Shift {
    fn name(&self) -> &'static str {
        "shift"
    }

    fn open<'p>(
        self: Box<Self>,
        program: &'p Program,
        tensors: Vec<f64>,
    ) -> Result<Box<dyn Session<f64> + 'p>, BackendError> {
        Ok(Box::new(HostSession::new(self, program, tensors)))
    }

    fn run_into(
        &mut self,
        _: &Graph,
        layout: &Layout,
        arena: &[f64],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<f64>,
    ) -> Result<(), BackendError> {
        assert_eq!((request.gradients, request.outputs.as_slice()), (false, ["features".to_owned()].as_slice()));
        let InputValue::Float(x) = &inputs.batch[0].1 else { panic!("x is float") };
        let positions = &arena[layout.get("pos").expect("of the toy").1];
        let factor = if self.fault { 0.99 } else { 1.0 };
        let data = x.data.iter().enumerate().map(|(i, &x)| f64::from(x) + factor * positions[i % 3]).collect();
        let outputs = vec![OutputValue::Float(HostTensor { shape: vec![2, 3], data })];
        *results = Results { outputs, ..Results::default() };
        Ok(())
    }
}
