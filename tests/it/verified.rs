//! The plan's verifier: every plan passes it, and none that is spoilt; and long sums, which once broke what it checks, train.

use cmae::backend::cpu::TARGET;
use cmae::backend::{BackendError, Compute, Request};
use cmae::data::random::RandomBatches;
use cmae::diag::{Diagnostics, render};
use cmae::graph::{Graph, Layout, Program};
use cmae::op::Op;
use cmae::plan::{Instruction, Place, Plan, PlanError, Space, Work, lower, verify};
use cmae::source::Sources;
use cmae::tensor::{HostTensor, InputValue};

use crate::command::root;
use crate::cpu::each_pipeline;
use crate::methods::{compile, trainer};

fn plan_of(program: &Program, request: &Request) -> Result<Plan, PlanError> {
    lower(&program.train, &program.layout, request, &TARGET)
}

/// For what a step asks, in both precisions of products, with what recomputes, and where every value is looked at.
#[test]
fn every_pipelines_plans_pass() {
    each_pipeline(|method, program, _, _| {
        for (gradients, bf16, check_finite) in
            [(true, false, false), (true, true, false), (false, false, false), (true, false, true)]
        {
            let request = Request { gradients, bf16, check_finite, ..Request::default() };
            plan_of(program, &request).unwrap_or_else(|error| panic!("{}: {error}", method.pipeline));
        }
    });
}

/// A way to spoil a plan: what the fault says, and whether there was anything to spoil.
type Spoil = (&'static str, fn(&mut Plan) -> bool);

fn step_where(plan: &mut Plan, is: fn(&Work) -> bool) -> Option<&mut cmae::plan::Step> {
    plan.steps.iter_mut().find(|step| is(&step.work))
}

fn is_chain(work: &Work) -> bool {
    matches!(work, Work::Chain(chain) if chain.ops().count() > 1)
}

fn is_attention(work: &Work) -> bool {
    matches!(work, Work::Attention { writes, .. } if writes.len() == 3)
}

const SPOILS: [Spoil; 26] = [
    ("operands", |plan| {
        // Of an operand that is not written over: to read that twice would be another fault.
        let kept = |step: &cmae::plan::Step| step.reads.iter().position(|place| !place.overlaps(&step.writes));
        let found =
            plan.steps.iter_mut().filter(|step| is_chain(&step.work)).find_map(|step| Some((kept(step)?, step)));
        let Some((at, step)) = found else { return false };
        let Work::Chain(chain) = &mut step.work else { return false };
        let (operand, place) = (chain.operands[at].clone(), step.reads[at]);
        chain.operands.resize(17, operand);
        step.reads.resize(17, place);
        true
    }),
    ("and 9 values", |plan| match step_where(plan, is_chain).map(|step| &mut step.work) {
        Some(Work::Chain(chain)) => {
            chain.depth = 9;
            true
        }
        _ => false,
    }),
    ("cannot compute", |plan| match step_where(plan, is_chain).map(|step| &mut step.work) {
        Some(Work::Chain(chain)) => {
            chain.code.remove(0);
            true
        }
        _ => false,
    }),
    ("a chain leaves", |plan| match step_where(plan, is_chain).map(|step| &mut step.work) {
        Some(Work::Chain(chain)) => {
            chain.code.push(Instruction::Load(0));
            chain.depth += 1;
            true
        }
        _ => false,
    }),
    ("no kernel of its own", |plan| {
        let Plan { graph, steps, .. } = plan;
        // A chain that reads what its node does.
        let found = steps.iter_mut().find(|step| {
            let inputs = &graph.node(step.node).inputs;
            matches!(&step.work, Work::Chain(chain) if chain.operands.iter().map(|o| &o.value).eq(inputs))
                && step.in_place.is_none()
        });
        found.map(|step| step.work = Work::Op).is_some()
    }),
    ("a chain over", |plan| {
        match step_where(
            plan,
            |work| matches!(work, Work::Chain(chain) if chain.operands.iter().any(|o| o.pattern.is_some())),
        ) {
            Some(step) => match &mut step.work {
                Work::Chain(chain) => {
                    chain.operands.iter_mut().for_each(|operand| operand.pattern = None);
                    true
                }
                _ => false,
            },
            None => false,
        }
    }),
    ("reads %", |plan| match step_where(plan, |work| matches!(work, Work::Product { .. })) {
        Some(step) => match &mut step.work {
            Work::Product { at, .. } => {
                *at += 8;
                // The place of the operand that is none now, so that the count is right.
                step.reads.push(step.reads[0]);
                true
            }
            _ => false,
        },
        None => false,
    }),
    ("reach beyond", |plan| match step_where(plan, is_attention).map(|step| &mut step.work) {
        Some(Work::Attention { reads, .. }) => {
            reads[1].1.start += 1_000_000;
            true
        }
        _ => false,
    }),
    ("heads reach beyond", |plan| match step_where(plan, is_attention).map(|step| &mut step.work) {
        Some(Work::Attention { writes, .. }) => {
            writes[2].batch *= 2;
            true
        }
        _ => false,
    }),
    ("share elements", |plan| match step_where(plan, is_attention).map(|step| &mut step.work) {
        Some(Work::Attention { writes, .. }) => {
            writes[1] = writes[0];
            true
        }
        _ => false,
    }),
    ("places for", |plan| plan.steps.iter_mut().any(|step| step.reads.pop().is_some())),
    ("reads %", |plan| plan.steps.iter_mut().any(|step| step.reads.first_mut().map(|place| place.len += 1).is_some())),
    ("reads %", |plan| {
        let floats = plan.floats;
        let place = plan.steps.iter_mut().flat_map(|step| &mut step.reads).find(|place| place.space == Space::Floats);
        place.map(|place| place.start = floats).is_some()
    }),
    ("writes", |plan| {
        let place = plan.steps.iter_mut().map(|step| &mut step.writes).find(|place| place.space == Space::Floats);
        place.map(|place| place.start += 1).is_some()
    }),
    ("writes", |plan| plan.steps.first_mut().map(|step| step.writes.space = Space::Params).is_some()),
    ("works in", |plan| match plan.steps.iter_mut().find(|step| !step.scratch.is_empty()) {
        Some(step) => {
            step.scratch.len -= 1;
            true
        }
        None => false,
    }),
    ("and reads", |plan| match plan.steps.iter_mut().find(|step| step.in_place.is_some()) {
        Some(step) => {
            step.in_place = None;
            true
        }
        None => false,
    }),
    ("does not hold", |plan| {
        // Two steps the other way round, of which the second reads what the first writes.
        let reads = |at: usize| plan.steps[at + 1].reads.iter().any(|place| place.overlaps(&plan.steps[at].writes));
        let found = (0..plan.steps.len() - 1).find(|at| reads(*at));
        found.map(|at| plan.steps.swap(at, at + 1)).is_some()
    }),
    ("does not hold", |plan| {
        // A value is written where another lies, and read where it should.
        let places: Vec<Place> = plan.steps.iter().map(|step| step.writes).collect();
        let moved = |at: usize| {
            let step = &plan.steps[at];
            let is_read = plan.steps[at + 1..].iter().any(|later| later.reads.contains(&step.writes));
            let free = |place: &Place| !step.reads.iter().chain([&step.scratch]).any(|other| other.overlaps(place));
            let candidates = places.iter().filter(|place| place.space == Space::Floats && place.len >= step.writes.len);
            let mut candidates = candidates.map(|place| Place { len: step.writes.len, ..*place });
            let is_movable = step.writes.space == Space::Floats && step.in_place.is_none() && is_read;
            candidates.find(|place| is_movable && !place.overlaps(&step.writes) && free(place)).map(|place| (at, place))
        };
        let found = (0..plan.steps.len()).find_map(moved);
        found.map(|(at, place)| plan.steps[at].writes = place).is_some()
    }),
    ("has no place", |plan| {
        let total = plan.graph.total.expect("it is trained");
        plan.places[total.index()].take().is_some()
    }),
    ("is zeroed", |plan| {
        let gradient = plan.graph.gradients.pop();
        gradient.is_some()
    }),
    ("takes no bf16", |plan| {
        let Plan { graph, steps, floats, .. } = plan;
        let norm = steps.iter_mut().find(|step| matches!(graph.node(step.node).op, Op::LayerNorm { .. }));
        norm.map(|step| {
            let place = &mut step.reads[0];
            *place = Place { space: Space::Halves, start: 0, ..*place };
            *floats = (*floats).max(place.len);
        })
        .is_some()
    }),
    ("makes no bf16", |plan| {
        let Plan { graph, steps, floats, .. } = plan;
        let gathered = steps.iter_mut().find(|step| matches!(graph.node(step.node).op, Op::GatherTokens));
        gathered
            .map(|step| {
                let place = &mut step.writes;
                *place = Place { space: Space::Halves, start: 0, ..*place };
                *floats = (*floats).max(place.len);
            })
            .is_some()
    }),
    ("does not hold", |plan| {
        // Numbers of bf16 lie where a gradient is written while they are needed, by a step that has nothing to do with them.
        let places = |at: usize| plan.steps[at].reads.iter().chain([&plan.steps[at].writes]);
        let moved = |made: usize| {
            let spare = Some(plan.steps[made].writes).filter(|place| place.space == Space::SpareHalves)?;
            let uses: Vec<usize> =
                (made..plan.steps.len()).filter(|at| places(*at).any(|place| *place == spare)).collect();
            let between = made..*uses.last()?;
            between.map(|at| plan.steps[at].writes).filter(|place| place.space == Space::Gradients).find_map(
                |written| {
                    let start = (2 * written.start).next_multiple_of(2 * TARGET.alignment);
                    let to = Place { start, ..spare };
                    let is_apart = |place: &Place| *place == spare || !place.overlaps(&to);
                    (to.overlaps(&written) && uses.iter().all(|at| places(*at).all(is_apart))).then_some((spare, to))
                },
            )
        };
        let Some((spare, to)) = (0..plan.steps.len()).find_map(moved) else { return false };
        let all = plan.steps.iter_mut().flat_map(|step| step.reads.iter_mut().chain([&mut step.writes]));
        all.filter(|place| **place == spare).for_each(|place| *place = to);
        true
    }),
    // A part of a norm's gradients, whose place is another's when the last step is through.
    ("does not hold", |plan| match plan.copies.first_mut() {
        Some(copied) => {
            copied.after = usize::MAX;
            true
        }
        None => false,
    }),
    ("does not hold", |plan| {
        // The last that lies there is a gradient, and no value that is gone when they are written.
        let mut writes = plan.steps.iter_mut().rev().map(|step| &mut step.writes);
        let place = writes.find(|place| place.space == Space::Gradients);
        // Where nothing else lies.
        let start = plan.floats.next_multiple_of(TARGET.alignment);
        let Some(place) = place else { return false };
        *place = Place { space: Space::Floats, start, ..*place };
        plan.floats = start + place.len;
        true
    }),
];

#[test]
fn spoilt_plans_do_not() {
    let program = compile("bench/mae_tiny64", &[]);
    let sound = [false, true]
        .map(|bf16| plan_of(&program, &Request { gradients: true, bf16, ..Request::default() }).expect("it is sound"));
    for (at, (says, spoil)) in SPOILS.iter().enumerate() {
        let spoilt = sound.iter().cloned().find_map(|mut plan| spoil(&mut plan).then_some(plan));
        let plan = spoilt.unwrap_or_else(|| panic!("spoil {at} ({says}) has nothing to spoil"));
        let faults = verify(&plan, &program.layout, &TARGET).expect_err(says);
        assert!(faults.iter().any(|fault| fault.contains(says)), "spoil {at} ({says}): {faults:?}");
    }
}

/// A target of whose limits the plan's first chain already is beyond: `lower` says so, and panics nowhere.
#[test]
fn a_plan_that_breaks_its_targets_limits_is_an_error() {
    let program = compile("bench/mae_tiny64", &[]);
    let mut target = TARGET;
    target.chains.operands = 1;
    let error =
        lower(&program.train, &program.layout, &Request::default(), &target).expect_err("ops have two operands");
    assert!(error.to_string().starts_with("internal error: the plan breaks what kernels rely on: step "), "{error}");
}

/// Inputs that are not what the graph declares, on each backend, and a step that no memory holds.
#[test]
fn what_does_not_fit_is_an_error_before_a_step() {
    let graph = cmae::graph::text::parse(
        "input x: f[2, 3] Noise
        %0: f[2, 3] = input() (name:\"x\")
        %1: f[2, 3] = sin(%0)
        output y = %1",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let layout = Layout::new(Vec::new());
    let request = Request { outputs: vec!["y".to_owned()], ..Request::default() };
    let run = |graph: &Graph, backend: &str, value: InputValue| -> BackendError {
        let mut backend = f32::backend(backend).expect("every build has it");
        backend.run(graph, &layout, &[], &[("x".to_owned(), value)], &request).expect_err("it does not fit")
    };
    let float = |shape: &[usize], len| InputValue::Float(HostTensor { shape: shape.to_vec(), data: vec![0.0; len] });
    for backend in ["cpu", "dfdx"] {
        let ids = InputValue::Int(HostTensor { shape: vec![2, 3], data: vec![0; 6] });
        for (value, says) in [
            (ids, "input `x` holds ids, the graph expects numbers"),
            (float(&[3, 2], 6), "input `x` has shape [3, 2], the graph expects [2, 3]"),
            (float(&[2, 3], 5), "input `x` has 5 values, its shape [2, 3] holds 6"),
        ] {
            assert_eq!(run(&graph, backend, value).to_string(), says, "{backend}");
        }
    }
    let large = cmae::graph::text::parse(
        "input x: f[2, 3] Noise
        %0: f[2, 3] = input() (name:\"x\")
        %1: f[2, 3, 1] = reshape(%0)
        %2: f[1000000000, 2, 3, 1000000] = broadcast(%1)
        output y = %2",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let error = run(&large, "cpu", float(&[2, 3], 6)).to_string();
    assert!(error.starts_with("the values of a step take 24000000.0 GB, more than this machine gives"), "{error}");
}

/// A move of as many axes as a tensor can have that lie in no order: more than any picture's.
#[test]
fn a_tensor_of_twenty_axes_is_turned_around() {
    let shape = [2; 20].map(|size: usize| size.to_string()).join(", ");
    let axes = (0..20).rev().map(|axis| axis.to_string()).collect::<Vec<_>>().join(",");
    let text = format!(
        "input x: f[1048576] Noise
        %0: f[1048576] = input() (name:\"x\")
        %1: f[{shape}] = reshape(%0)
        %2: f[{shape}] = permute(%1) (axes:[{axes}])
        %3: f[1048576] = reshape(%2)
        output y = %3"
    );
    let graph = cmae::graph::text::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let data: Vec<f32> = (0..1 << 20).map(|i| i as f32).collect();
    let input = InputValue::Float(HostTensor { shape: vec![1 << 20], data });
    let request = Request { outputs: vec!["y".to_owned()], ..Request::default() };
    let mut backend = f32::backend("cpu").expect("every build has it");
    let found = backend.run(&graph, &Layout::new(Vec::new()), &[], &[("x".to_owned(), input)], &request);
    let found = found.unwrap_or_else(|error| panic!("{error}"));
    let cmae::tensor::OutputValue::Float(found) = &found.outputs[0] else { panic!("they are numbers") };
    // Bits of the index the other way round.
    let turned = |i: usize| (i.reverse_bits() >> (usize::BITS - 20)) as f32;
    assert!(found.data.iter().enumerate().all(|(i, value)| *value == turned(i)));
}

/// 17 terms and more were a chain of more operands than its kernel had room for.
#[test]
fn a_pipeline_whose_loss_is_a_sum_of_many_trains() {
    for terms in [17, 18, 40] {
        let text = format!(
            "use pipeline quickstart
            pipeline sum_of_many = quickstart with {{
              data.batch_size = 4
              add losses.extra = sum(op::mean(online.pixels * (1.0 * i)) for i in 1..{terms})
            }}"
        );
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let file = root("pipelines/sum_of_many.cmae");
        sources.add_file(file.display().to_string(), text.as_str());
        let program = match cmae::compile(&mut sources, &mut diagnostics, &file, &[]) {
            Ok(compiled) => compiled.program,
            Err(_) => panic!("{}", render(diagnostics.list(), &sources, false)),
        };
        let mut batches = RandomBatches::new(&program.train.inputs, program.spec.data.batch_size, 1);
        let mut trainer = trainer::<f32>(&program, "cpu", 2);
        for number in 0..2 {
            let step = trainer.step(batches.batch(number));
            let report = step.unwrap_or_else(|error| panic!("{terms} terms: {error}"));
            assert!(report.results.total.is_finite(), "{terms} terms");
        }
    }
}
