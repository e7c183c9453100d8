//! A whole training step as one program: forward, backward, states, clipping, the optimizer, averaged copies.
//!
//! Before: a compiled pipeline and its [`Step`]. After: [`super::session`] runs the program's text on the device, again and again on
//! the same memory: tensors and slots are donated.
//!
//! Of a program with several ranks each is one of the devices that run the text at once, with rows of its own of the batch and tensors that
//! are the same on all.
//!
//! **Invariant:** nothing is written where a loss, a gradient or a state is not finite, or an id is out of range: the program
//! chooses between old and new values by one truth, which it also gives.

mod gradients;
mod numbers;
mod update;

use std::collections::HashMap;

pub use self::gradients::{Flow, Leaves, Made};
pub use self::numbers::Numbers;

use self::gradients::both;
use self::update::{State, Update, where_true};
use super::lower::{Function, Kernels, Scalar, TensorType, Value, tensor_type};
use crate::backend::BackendError;
use crate::graph::step::Step;
use crate::graph::{InputDecl, Program, TensorDecl};
use crate::op::Op;
use crate::plan::Request;
use crate::spec::{EmaMoment, Scaling};

/// The inputs of a program's steps whose pictures may come in bytes, by name: those whose views end in `normalize`.
pub fn scalings(program: &Program) -> Vec<(String, Scaling)> {
    let views = &program.spec.views;
    program.train.inputs.iter().filter_map(|input| Some((input.name.clone(), input.scaling(views)?))).collect()
}

/// The text of a step, and what goes into it and comes out.
///
/// Arguments: all tensors in the layout's order, slot after slot one for each trained tensor (or this rank's part of it, flat, where
/// ranks share them out), the vector of
/// [`Numbers`], whether the step before was made, then the inputs. Results: tensors and slots as they are after the step, whether
/// it was made, the vector of scalars (losses, monitors, total, and the norm where `train` clips), then what was asked for: outputs,
/// and updates and gradients.
#[derive(Debug, Clone)]
pub struct StepProgram {
    pub text: String,
    /// What fills the inputs of a rank, by name.
    pub inputs: Vec<(String, TensorType)>,
    /// Types of the outputs that were asked for.
    pub outputs: Vec<TensorType>,
    /// Paths of the states whose new values come, then of the tensors whose gradients do, where they were asked for.
    pub updates: Vec<String>,
    pub gradients: Vec<String>,
}

impl StepProgram {
    /// Floats are `scalar`; pictures come in bytes where `scalings` has their names; `kernels` are those of the compiler it is for; `with_gradients`: whether updates and gradients are results too.
    pub fn new(
        program: &Program,
        step: &Step,
        numbers: &Numbers,
        scalar: Scalar,
        scalings: &[(String, Scaling)],
        kernels: Kernels,
        with_gradients: bool,
    ) -> Result<Self, BackendError> {
        let (layout, train) = (&program.layout, &program.spec.train);
        let flow = Flow::new(step, layout, program.ranks, &Request::of_step(program, &step.outputs))?;
        let mut f = Function::with(kernels);
        let tensor = |decl: &TensorDecl| TensorType::new(decl.shape.as_slice(), scalar);
        let old_tensors: Vec<Value> = layout.tensors.iter().map(|decl| f.argument(tensor(decl))).collect();
        let trained = &layout.tensors[..layout.trained()];
        let slot = |decl: &TensorDecl| match program.shards() {
            1 => tensor(decl),
            shards => TensorType::new([decl.elements().div_ceil(shards)], scalar),
        };
        let old_slots: Vec<Vec<Value>> = (train.optimizer.slots().iter())
            .map(|_| trained.iter().map(|decl| f.argument(slot(decl))).collect())
            .collect();
        let vector = f.argument(TensorType::new([numbers.total()], scalar));
        let before = f.argument(TensorType::new([], Scalar::I1));
        let (inputs, values) = inputs(&mut f, program, &flow, scalar, scalings);

        let update = Update { train, numbers, vector, shards: program.shards() };
        let mut state = State { tensors: old_tensors.clone(), slots: old_slots.clone() };
        update.average(&mut f, &mut state, EmaMoment::BeforeForward);
        let made = {
            let params = |path: &str| layout.index(path).map(|index| state.tensors[index].clone());
            flow.emit(&mut f, scalar, &Leaves { params: &params, inputs: &values, scalings })
        };
        // Ids are those of a rank's own rows, and a step is made by all ranks or by none.
        let is_sound = is_sound(&mut f, &made);
        let is_sound = f.all_agree(&is_sound, program.ranks);
        let is_sound = f.binary("and", &before, &is_sound);
        for (path, value) in &made.updates {
            if let Some(index) = layout.index(path) {
                state.tensors[index] = value.clone();
            }
        }
        update.average(&mut f, &mut state, EmaMoment::AfterForward);
        let gradient = |index: usize| made.gradients.get(&layout.tensors[index].path).cloned();
        let norm = update.optimize(&mut f, &mut state, &gradient);
        update.average(&mut f, &mut state, EmaMoment::AfterStep);

        let old = old_tensors.iter().chain(old_slots.iter().flatten());
        let new = state.tensors.into_iter().chain(state.slots.into_iter().flatten());
        let mut results: Vec<Value> =
            old.clone().zip(new).map(|(old, new)| where_true(&mut f, Some(&is_sound), new, old)).collect();
        old.enumerate().for_each(|(place, old)| f.donate(old, place));
        results.push(is_sound);
        let zero = TensorType::new([], scalar);
        let total = made.total.clone().unwrap_or_else(|| f.constant(0.0, &zero));
        let scalars: Vec<Value> =
            made.losses.iter().chain(&made.monitors).cloned().chain([total]).chain(norm).collect();
        let flat: Vec<Value> = scalars.iter().map(|scalar| f.reshape(scalar, &[1])).collect();
        results.push(f.concat(&flat.iter().collect::<Vec<_>>(), 0));
        results.extend(made.outputs.iter().cloned());
        let (mut updates, mut gradients) = (Vec::new(), Vec::new());
        if with_gradients {
            for (path, value) in &made.updates {
                updates.push(path.clone());
                results.push(value.clone());
            }
            for decl in trained {
                if let Some(value) = made.gradients.get(&decl.path) {
                    gradients.push(decl.path.clone());
                    results.push(value.clone());
                }
            }
        }
        Ok(StepProgram {
            text: f.module("step", program.ranks, &results.iter().collect::<Vec<_>>()),
            inputs,
            outputs: made.outputs.into_iter().map(|value| value.ty).collect(),
            updates,
            gradients,
        })
    }
}

/// Values of the whole batch for `outputs` of a step without gradients: what states start from.
#[derive(Debug, Clone)]
pub struct ForwardProgram {
    pub text: String,
    /// Paths of the tensors that are passed, then the inputs.
    pub tensors: Vec<String>,
    pub inputs: Vec<(String, TensorType)>,
    pub outputs: Vec<TensorType>,
}

impl ForwardProgram {
    pub fn new(program: &Program, step: &Step, scalar: Scalar) -> Result<Self, BackendError> {
        let layout = &program.layout;
        let request = Request { outputs: step.outputs.clone(), ..Request::default() };
        let flow = Flow::new(step, layout, program.ranks, &request)?;
        let mut f = Function::new();
        let is_read = |path: &str| flow.reads(|op| matches!(op, Op::Param { path: read } if read == path));
        let read = layout.tensors.iter().filter(|decl| is_read(&decl.path));
        let tensors: Vec<(String, Value)> =
            read.map(|decl| (decl.path.clone(), f.argument(TensorType::new(decl.shape.as_slice(), scalar)))).collect();
        let by_path: HashMap<&str, &Value> = tensors.iter().map(|(path, value)| (path.as_str(), value)).collect();
        let (inputs, values) = inputs(&mut f, program, &flow, scalar, &[]);
        let params = |path: &str| by_path.get(path).map(|value| (*value).clone());
        let made = flow.emit(&mut f, scalar, &Leaves { params: &params, inputs: &values, scalings: &[] });
        Ok(ForwardProgram {
            text: f.module("forward", program.ranks, &made.outputs.iter().collect::<Vec<_>>()),
            tensors: tensors.iter().map(|(path, _)| path.clone()).collect(),
            inputs,
            outputs: made.outputs.into_iter().map(|value| value.ty).collect(),
        })
    }
}

/// An argument for each of the training graph's inputs that the step reads, of a rank's own rows.
fn inputs(
    f: &mut Function,
    program: &Program,
    flow: &Flow,
    scalar: Scalar,
    scalings: &[(String, Scaling)],
) -> (Vec<(String, TensorType)>, HashMap<String, Value>) {
    let is_read = |name: &str| flow.reads(|op| matches!(op, Op::Input { name: read } if read == name));
    let of_input = |input: &InputDecl| match scalings.iter().any(|(scaled, _)| *scaled == input.name) {
        true => TensorType::new(input.ty.shape.as_slice(), Scalar::U8),
        false => tensor_type(&input.ty, scalar),
    };
    let own = program.inputs_of(1);
    let read = own.iter().filter(|input| is_read(&input.name));
    let inputs: Vec<(String, TensorType)> = read.map(|input| (input.name.clone(), of_input(input))).collect();
    let values = inputs.iter().map(|(name, ty)| (name.clone(), f.argument(ty.clone()))).collect();
    (inputs, values)
}

/// Whether the step is made: losses, gradients and states are finite, ids in their range.
fn is_sound(f: &mut Function, made: &Made) -> Value {
    let mut sound = made.ids_are_good.clone();
    // In an order of their own, so that the same program has the same text.
    let mut gradients: Vec<_> = made.gradients.iter().collect();
    gradients.sort_by_key(|(path, _)| path.as_str());
    let gradients = gradients.into_iter().map(|(_, value)| value);
    for value in made.losses.iter().chain(gradients).chain(made.updates.iter().map(|(_, value)| value)) {
        let finite = f.all_finite(value);
        sound = both(f, sound, Some(finite));
    }
    sound.unwrap_or_else(|| f.constant(1.0, &TensorType::new([], Scalar::I1)))
}
