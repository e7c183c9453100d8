//! A program's tensors on accelerators for the length of a run: steps are made where they lie.
//!
//! Before: a compiled pipeline and a client with a device for each of its ranks: all of them run one program at once, each on its own
//! rows of the batch, and every result is the same on all of them: it is read from the first. Of several processes each has a session,
//! which holds the replicas of its own devices and is brought their rows. After: `train` and `eval` reach the device through [`Session`]; in a step nothing
//! crosses to it but the batch and a vector of numbers, and nothing comes back but losses, monitors, a norm and one truth.
//!
//! **Invariant:** a program takes tensors and slots as donated, so there is one copy of each on a device; the host's copy is made
//! when a checkpoint asks for it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::{Clock, Timed};
use super::device::own_ranks;
use super::lower::{Leaf, Module, Scalar, module};
use super::peak;
use super::pjrt::{Buffer, Client, Executable};
use super::programs::{self, Programs, compile_step, fits};
use super::replicas::{Replicas, on_each, truth, upload_own_rows};
use super::step::{ForwardProgram, Numbers, StepProgram, scalings};
use super::values::{Number, in_bytes, read_output, upload_input};
use crate::backend::host::accumulate::{Accumulation, Whole};
use crate::backend::session::not_finite;
use crate::backend::{Backend, BackendError, DeviceBytes, Kept, Moment, Results, Session, StepError, Stepped, Wanted};
use crate::graph::step::Body;
use crate::graph::{Graph, Program};
use crate::op::DType;
use crate::plan::{self, Request};
use crate::ranks::Ranks;
use crate::spec::Scaling;
use crate::tensor::{Element, InputValue, Inputs, OutputValue};

/// Evaluation graphs that are kept compiled.
const EVALUATIONS: usize = 4;

pub struct XlaSession<'p, E> {
    program: &'p Program,
    client: Client,
    /// The processes whose devices run it.
    ranks: Arc<dyn Ranks>,
    /// Which of the program's ranks are this process's devices.
    own: Range<usize>,
    programs: Programs,
    finder: Box<dyn Backend<E>>,
    replicas: Replicas,
    updates: Vec<u64>,
    /// What steps go by; made with the first program of a step.
    numbers: Option<Numbers>,
    steps: Vec<LoadedStep>,
    evaluations: Vec<Evaluation>,
    /// Begun, and not read yet.
    pending: Option<Pending>,
    /// Whether the last step that was begun was made, as each device knows it.
    was_made: Arc<Vec<Buffer>>,
    clock: Clock,
    /// Of the devices' tensors as they are, where somebody asked.
    tensors: Option<Vec<E>>,
    /// The same of slots.
    slots: Option<Vec<Vec<E>>>,
}

struct LoadedStep {
    outputs: Vec<String>,
    gradients: bool,
    /// Of the pictures that it takes in bytes.
    scalings: Vec<(String, Scaling)>,
    program: StepProgram,
    executable: Executable,
}

/// A program of a step that was handed to the devices.
struct Begun {
    /// Which it is.
    loaded: usize,
    /// Whether it is made, on each device: the step behind it hangs on that.
    is_made: Arc<Vec<Buffer>>,
    /// Results behind it, of the first device.
    results: Vec<Buffer>,
    timed: Timed,
}

/// A step that was begun.
struct Pending {
    at: Moment,
    begun: Begun,
    /// For who wants to know what went wrong.
    batch: Vec<(String, InputValue)>,
    others: Vec<(String, InputValue)>,
    /// What tensors had had before it.
    updates: Vec<u64>,
}

struct Evaluation {
    graph: Graph,
    outputs: Vec<String>,
    /// The graph as it is computed.
    module: Module,
    types: Vec<(DType, Vec<usize>)>,
    executable: Executable,
}

impl<'p, E: Number> XlaSession<'p, E> {
    /// `tensors` are laid out by the program's layout; `finder` runs single graphs, to find where a step went wrong.
    pub fn new(
        client: Client,
        ranks: Arc<dyn Ranks>,
        programs: Programs,
        program: &'p Program,
        tensors: &[E],
        finder: Box<dyn Backend<E>>,
    ) -> Result<Self, BackendError> {
        let own = own_ranks(&client, program)?;
        let replicas = Replicas::new(&client, program, own.clone(), tensors)?;
        let was_made = truth(&client, own.len())?;
        Ok(XlaSession {
            program,
            finder,
            programs,
            client,
            ranks,
            own,
            replicas,
            updates: vec![0; program.layout.trained()],
            numbers: None,
            steps: Vec::new(),
            evaluations: Vec::new(),
            pending: None,
            was_made,
            clock: Clock::default(),
            tensors: None,
            slots: None,
        })
    }

    /// Slots of zeros, where there are none yet.
    fn make_slots(&mut self) -> Result<(), BackendError> {
        let (layout, count) = (&self.program.layout, self.program.spec.train.optimizer.slots().len());
        match self.replicas.has_slots(count, layout) {
            true => Ok(()),
            false => self.replicas.put_slots(layout, &vec![vec![E::ZERO; layout.trained_len]; count]),
        }
    }

    /// Index of the program of a step that gives these; it is compiled where there is none.
    fn load(&mut self, wanted: Wanted<'_>, scalings: Vec<(String, Scaling)>) -> Result<usize, BackendError> {
        let is_it = |step: &LoadedStep| {
            step.outputs == wanted.outputs && step.gradients == wanted.gradients && step.scalings == scalings
        };
        if let Some(at) = self.steps.iter().position(is_it) {
            return Ok(at);
        }
        let (program, updates) = (self.program, &self.updates);
        let numbers = self.numbers.get_or_insert_with(|| Numbers::new(program, updates));
        let (text, executable) = compile_step::<E>(&mut self.programs, program, numbers, &scalings, wanted)?;
        // A plugin that does not tell is not asked twice: the device will say.
        for device in 0..self.own.len() {
            if let (Ok(stats), Ok(Some(memory))) = (executable.memory(), self.client.memory(device)) {
                fits(&stats, memory.limit)?;
            }
        }
        let outputs = wanted.outputs.to_vec();
        self.steps.push(LoadedStep { outputs, gradients: wanted.gradients, scalings, program: text, executable });
        Ok(self.steps.len() - 1)
    }

    /// Begins a step: its program is handed to the devices.
    fn begin(&mut self, inputs: Inputs<'_>, at: Moment, wanted: Wanted<'_>) -> Result<Begun, BackendError> {
        self.make_slots()?;
        let loaded = self.load(wanted, in_bytes(inputs))?;
        let numbers = self.numbers.as_ref().expect("a program was loaded with them");
        let vector = numbers.at(self.program, at.step, &at.clock, &self.updates);
        let vector: Vec<E> = vector.into_iter().map(E::from_f64).collect();
        let LoadedStep { program, executable, .. } = &self.steps[loaded];
        let devices = self.own.len();
        let vectors = on_each(devices, |device| Ok(self.client.upload_values(device, &[vector.len()], &vector)?))?;
        let passed = upload_own_rows::<E>(&self.client, devices, &program.inputs, inputs)?;
        let of_device = |device: usize| -> Vec<&Buffer> {
            let replica = &self.replicas.each()[device];
            let kept = replica.tensors.iter().chain(&replica.slots);
            kept.chain([&vectors[device], &self.was_made[device]]).chain(&passed[device]).collect()
        };
        let arguments: Vec<Vec<&Buffer>> = (0..devices).map(of_device).collect();
        let arguments: Vec<&[&Buffer]> = arguments.iter().map(Vec::as_slice).collect();
        let given = Instant::now();
        let found = executable.execute_replicas(&arguments, &[])?;
        (self.tensors, self.slots) = (None, None);
        let mut rest = self.replicas.take(found);
        // Whether it is made stands first of what is left, and of the other devices nothing else is read.
        let is_made: Vec<Buffer> = rest.iter_mut().map(|results| results.remove(0)).collect();
        let timed = Timed::new(given, &is_made[0]);
        Ok(Begun { loaded, is_made: Arc::new(is_made), results: rest.swap_remove(0), timed })
    }

    /// What a step has given, and whether it was made; waits for it.
    fn read(&self, begun: &Begun) -> Result<(bool, Results<E>, Option<f64>), BackendError> {
        let (layout, graph) = (&self.program.layout, &self.program.train);
        let LoadedStep { program, gradients: with_gradients, .. } = &self.steps[begun.loaded];
        let mut found = begun.results.iter();
        let mut next = || found.next().expect("a program has the results that it was written with");
        let mut is_made = [0_u8];
        begun.is_made[0].read_into(&mut is_made)?;
        let scalars: Vec<f64> = next().read::<E>()?.into_iter().map(Element::to_f64).collect();
        let (losses, rest) = scalars.split_at(graph.losses.len());
        let (monitors, rest) = rest.split_at(graph.monitors.len());
        let mut results = Results { losses: losses.to_vec(), monitors: monitors.to_vec(), ..Results::default() };
        results.total = rest[0];
        for ty in &program.outputs {
            results.outputs.push(read_output(next(), ty.scalar == Scalar::I64, &ty.shape)?);
        }
        if *with_gradients {
            for _ in &program.updates {
                results.updates.push(next().read()?);
            }
            results.gradients = vec![E::ZERO; layout.trained_len];
            for path in &program.gradients {
                let (_, range) = layout.get(path).expect("a program's gradients are those of its tensors");
                next().read_values(&mut results.gradients[range])?;
            }
        }
        Ok((is_made != [0], results, rest.get(1).copied()))
    }

    /// What a pending step has given. One that was not made takes what was begun behind it along.
    fn end(&mut self, pending: Pending) -> Result<Stepped<E>, StepError> {
        let Pending { at, begun, batch, others, updates } = pending;
        let (is_made, results, gradient_norm) = self.read(&begun)?;
        if !is_made {
            self.pending = None;
            self.updates = updates;
            return Err(self.culprit(Inputs::new(&batch, &others), at)?);
        }
        let device = self.clock.read(&begun.timed);
        Ok(Stepped { step: at.step + 1, results, gradient_norm, update_time: Duration::ZERO, device })
    }

    /// Why a step was not made: what is not finite, and the first op that made it so.
    fn culprit(&mut self, inputs: Inputs<'_>, at: Moment) -> Result<StepError, BackendError> {
        let program = self.program;
        let wanted = Wanted { outputs: &[], gradients: true };
        // From here on what is begun goes by itself.
        self.was_made = truth(&self.client, self.own.len())?;
        let begun = self.begin(inputs, at, wanted)?;
        let (_, results, _) = self.read(&begun)?;
        let what = not_finite(&program.train, &program.layout, &results);
        if self.own.len() < program.ranks {
            // The batch is on no process as a whole.
            return Ok(StepError::NotFinite {
                step: at.step + 1,
                what: what.unwrap_or_else(|| "a value".to_owned()),
                culprit: "one process by itself, with --resume, finds the first op that made it so".to_owned(),
            });
        }
        let request = Request { check_finite: true, ..Request::of_step(program, &[]) };
        let tensors = self.copied()?.to_vec();
        let batch = Whole { layout: &program.layout, arena: &tensors, inputs, request: &request };
        let mut unused = Results::default();
        // All of the batch is here, whatever devices share it.
        let alone = Program { ranks: 1, ..program.clone() };
        let ran = match alone.step(&[])?.body {
            Body::Whole(graph) => {
                self.finder.run_into(&graph, &program.layout, &tensors, inputs, &request, &mut unused)
            }
            Body::Parts(parts, count) => {
                Accumulation::new(*parts, count, alone.ranks, Vec::new()).run(&mut *self.finder, batch, &mut unused)
            }
        };
        match (what, ran) {
            (Some(what), ran) => {
                let culprit = match ran {
                    Err(error) => error.to_string(),
                    Ok(()) => "every value of the forward pass is finite".to_owned(),
                };
                Ok(StepError::NotFinite { step: at.step + 1, what, culprit })
            }
            // An id that is out of range, which makes no value infinite.
            (None, Err(error)) => Ok(error.into()),
            (None, Ok(())) => Ok(StepError::NotFinite {
                step: at.step + 1,
                what: "a value".to_owned(),
                culprit: "it is not found again by itself".to_owned(),
            }),
        }
    }

    /// The host's copy of tensors.
    fn copied(&mut self) -> Result<&[E], BackendError> {
        if self.tensors.is_none() {
            debug_assert_eq!(self.replicas.differing().ok(), Some(None), "all devices hold the same");
            self.tensors = Some(self.replicas.tensors(&self.program.layout)?);
        }
        Ok(self.tensors.as_ref().expect("it was made just now"))
    }

    /// The same of slots; all processes ask for it.
    fn copy_slots(&mut self) -> Result<(), BackendError> {
        if self.slots.is_none() {
            self.make_slots()?;
            let mut slots = self.replicas.slots(&self.program.layout, &*self.ranks)?;
            slots.resize(self.program.spec.train.optimizer.slots().len(), Vec::new());
            self.slots = Some(slots);
        }
        Ok(())
    }

    fn evaluation(&mut self, graph: &Graph, outputs: &[String]) -> Result<usize, BackendError> {
        let is_it = |e: &Evaluation| e.outputs == outputs && e.graph == *graph;
        if let Some(at) = self.evaluations.iter().position(is_it) {
            return Ok(at);
        }
        let kernels = self.programs.kernels();
        // In the precision of training where that is faster: f32's products would take ten times as long as a step's.
        let of_step = Request::of_step(self.program, outputs);
        let (bf16, bf16_residual) = (of_step.bf16 && kernels.rounds_results, of_step.bf16_residual);
        let request = Request { outputs: outputs.to_vec(), bf16, bf16_residual, ..Request::default() };
        // Losses and monitors of an evaluation graph are not read back.
        let wanted =
            Graph { losses: Vec::new(), monitors: Vec::new(), total: None, updates: Vec::new(), ..graph.clone() };
        let passes = plan::passes(&wanted, &self.program.layout, &request)?;
        let compiled = self.programs.compile_for_device("evaluation", 1, |kernels| {
            let module = module(&passes, E::SCALAR, kernels, false);
            Ok((module.text.clone(), module))
        });
        let (module, executable) = compiled?;
        let types = passes.graph.outputs.iter().map(|(_, id)| {
            let ty = &passes.graph.node(*id).ty;
            (ty.dtype, ty.shape.clone())
        });
        let types = types.collect();
        if self.evaluations.len() == EVALUATIONS {
            self.evaluations.remove(0);
        }
        self.evaluations.push(Evaluation {
            graph: graph.clone(),
            outputs: outputs.to_vec(),
            module,
            types,
            executable,
        });
        Ok(self.evaluations.len() - 1)
    }
}

impl<E: Number> Session<E> for XlaSession<'_, E> {
    fn backend(&self) -> &'static str {
        "xla"
    }

    fn program(&self) -> &Program {
        self.program
    }

    fn ranks(&self) -> Range<usize> {
        self.own.clone()
    }

    fn offer_programs(&mut self, programs: Vec<(String, Vec<u8>)>) {
        self.programs.offer(programs);
    }

    fn new_programs(&mut self) -> Vec<(String, Vec<u8>)> {
        self.programs.fresh()
    }

    fn prepare(&mut self) -> Result<(), BackendError> {
        self.make_slots()?;
        self.load(Wanted::default(), scalings(self.program)).map(drop)
    }

    fn step(&mut self, inputs: Inputs<'_>, at: Moment, wanted: Wanted<'_>) -> Result<Stepped<E>, StepError> {
        let begun = self.begin(inputs, at, wanted)?;
        let (is_made, results, gradient_norm) = self.read(&begun)?;
        if !is_made {
            return Err(self.culprit(inputs, at)?);
        }
        let numbers = self.numbers.as_ref().expect("a step was made with them");
        numbers.count(at.step, &at.clock, &mut self.updates);
        let device = self.clock.read(&begun.timed);
        Ok(Stepped { step: at.step + 1, results, gradient_norm, update_time: Duration::ZERO, device })
    }

    fn step_ahead(
        &mut self,
        batch: Vec<(String, InputValue)>,
        others: &[(String, InputValue)],
        at: Moment,
    ) -> Result<Option<Stepped<E>>, StepError> {
        let updates = self.updates.clone();
        let begun = self.begin(Inputs::new(&batch, others), at, Wanted::default())?;
        self.was_made = begun.is_made.clone();
        let numbers = self.numbers.as_ref().expect("a step was begun with them");
        numbers.count(at.step, &at.clock, &mut self.updates);
        let pending = Pending { at, begun, batch, others: others.to_vec(), updates };
        match self.pending.replace(pending) {
            Some(before) => self.end(before).map(Some),
            None => Ok(None),
        }
    }

    fn settle(&mut self) -> Result<Option<Stepped<E>>, StepError> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let stepped = self.end(pending)?;
        // Who settles has something to do before the next step.
        self.clock.pause();
        Ok(Some(stepped))
    }

    fn first_values(&mut self, inputs: Inputs<'_>) -> Result<Vec<OutputValue<E>>, BackendError> {
        let program = self.program;
        let forward = ForwardProgram::new(program, &program.first_values()?, E::SCALAR)?;
        let executable = self.programs.compile("first", &forward.text, program.ranks)?;
        let devices = self.own.len();
        let passed = upload_own_rows::<E>(&self.client, devices, &forward.inputs, inputs)?;
        let index = |path: &String| program.layout.index(path).expect("a program reads tensors of its layout");
        let of_device = |device: usize| -> Vec<&Buffer> {
            let tensors = &self.replicas.each()[device].tensors;
            forward.tensors.iter().map(|path| &tensors[index(path)]).chain(&passed[device]).collect()
        };
        let arguments: Vec<Vec<&Buffer>> = (0..devices).map(of_device).collect();
        let arguments: Vec<&[&Buffer]> = arguments.iter().map(Vec::as_slice).collect();
        let found = executable.execute_replicas(&arguments, &[])?.swap_remove(0);
        let outputs = found.iter().zip(&forward.outputs);
        outputs.map(|(buffer, ty)| read_output(buffer, ty.scalar == Scalar::I64, &ty.shape)).collect()
    }

    fn evaluate(
        &mut self,
        graph: &Graph,
        inputs: &[(String, InputValue)],
        outputs: &[String],
    ) -> Result<Vec<OutputValue<E>>, BackendError> {
        let at = self.evaluation(graph, outputs)?;
        let (evaluation, layout, inputs) = (&self.evaluations[at], &self.program.layout, Inputs::of_batch(inputs));
        let mut passed: Vec<Option<Buffer>> = Vec::new();
        for (leaf, ty) in &evaluation.module.arguments {
            passed.push(match leaf {
                Leaf::Param(_) => None,
                Leaf::Input(name) => Some(upload_input::<E>(&self.client, 0, name, ty, inputs)?),
            });
        }
        let mut arguments: Vec<&Buffer> = Vec::new();
        for ((leaf, _), passed) in evaluation.module.arguments.iter().zip(&passed) {
            arguments.push(match (leaf, passed) {
                (_, Some(buffer)) => buffer,
                // Only tensors were not uploaded just now.
                (Leaf::Param(path) | Leaf::Input(path), None) => {
                    &self.replicas.first().tensors[layout.index(path).expect("a graph reads tensors of its layout")]
                }
            });
        }
        let found = evaluation.executable.execute(&arguments, &[])?;
        let outputs = found.iter().zip(&evaluation.types);
        outputs.map(|(buffer, (dtype, shape))| read_output(buffer, *dtype == DType::Int, shape)).collect()
    }

    fn product_rate(&self, bf16: bool) -> Option<f64> {
        let rate = peak::product_rate(&self.client, self.programs.options(), E::SCALAR, bf16).ok()?;
        // The devices of a processor share it.
        let devices = if self.client.is_cpu() { 1 } else { self.own.len() };
        Some(rate * devices as f64)
    }

    fn device_bytes(&self) -> Option<DeviceBytes> {
        let of_device = |device| self.client.memory(device).ok().flatten().and_then(|memory| memory.peak);
        let peak = (0..self.own.len()).filter_map(of_device).max();
        let stats = self.steps.last().and_then(|step| step.executable.memory().ok());
        Some(DeviceBytes { peak, planned: stats.map(|stats| programs::peak(&stats)) })
    }

    fn tensors(&mut self) -> Result<&[E], BackendError> {
        self.copied()
    }

    fn exchange(&mut self, tensors: Vec<E>) -> Result<Vec<E>, BackendError> {
        self.copied()?;
        self.replicas.put_tensors(&self.program.layout, &tensors)?;
        Ok(self.tensors.replace(tensors).expect("it was made just now"))
    }

    fn kept(&mut self) -> Result<Kept<'_, E>, BackendError> {
        self.copied()?;
        self.copy_slots()?;
        let (tensors, slots) = (self.tensors.as_deref(), self.slots.as_deref());
        let (tensors, slots) = tensors.zip(slots).expect("they were made just now");
        Ok(Kept { tensors, slots: Cow::Borrowed(slots), updates: &self.updates })
    }

    fn restore(&mut self, tensors: Vec<E>, slots: Vec<Vec<E>>, updates: Vec<u64>) -> Result<(), BackendError> {
        self.replicas.put_tensors(&self.program.layout, &tensors)?;
        self.replicas.put_slots(&self.program.layout, &slots)?;
        self.updates = updates;
        // Tensors that have had other numbers of updates are other groups of numbers: a program goes with its groups.
        self.numbers = None;
        self.steps.clear();
        (self.tensors, self.slots) = (Some(tensors), Some(slots));
        Ok(())
    }
}
