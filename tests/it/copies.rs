//! Averaged copies and scheduled numbers: one of each thing that a pipeline names, under a name of its own.

use std::collections::BTreeSet;
use std::path::Path;

use cmae::diag::{Diagnostics, render};
use cmae::graph::{InputKind, Program, TensorKind};
use cmae::op::Op;
use cmae::source::Sources;
use cmae::spec::Schedule;

use crate::command::root;

/// `text` compiled as a file beside the shipped pipelines.
fn compile(text: &str) -> Program {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    sources.add_file("pipelines/example.cmae", text);
    match cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines/example.cmae"), &[]) {
        Ok(compiled) => compiled.program,
        Err(_) => panic!("{}", render(diagnostics.list(), &sources, false)),
    }
}

/// The quickstart with `changes`.
fn quickstart(changes: &str) -> Program {
    compile(&format!("use pipeline quickstart\n\npipeline example = quickstart with {{\n{changes}\n}}\n"))
}

/// Elements of the tensors of one kind whose paths begin with `prefix`.
fn count(program: &Program, prefix: &str, kind: TensorKind) -> usize {
    let tensors = program.layout.tensors.iter().filter(|t| t.kind == kind && t.path.starts_with(prefix));
    tensors.map(|t| t.elements()).sum()
}

/// No path is there twice, every copy is moved once, and follows what it says.
fn sound(program: &Program) {
    let paths: BTreeSet<&str> = program.layout.tensors.iter().map(|t| t.path.as_str()).collect();
    assert_eq!(paths.len(), program.layout.tensors.len(), "a path is there twice");
    let pairs: Vec<&(String, String)> = program.emas.iter().flat_map(|ema| &ema.pairs).collect();
    let moved: BTreeSet<&str> = pairs.iter().map(|(copy, _)| copy.as_str()).collect();
    assert_eq!(moved.len(), pairs.len(), "a copy is moved twice");
    let copies: BTreeSet<&str> =
        program.layout.tensors.iter().filter(|t| t.kind == TensorKind::Ema).map(|t| t.path.as_str()).collect();
    assert_eq!(moved, copies);
}

#[test]
fn two_schedules_in_one_binding_are_two_numbers() {
    let program = compile(
        "use pipeline quickstart
fn scaled(q: [B, D], k: [B, D], temperature: number) -> [] { op::mean(op::sum(q * k, axis: 1)) / temperature }
pipeline two = quickstart with {
  losses.contrastive = ramp(0.0, 1.0) * scaled(online.query, target.key, temperature: ramp(0.2, 0.07, cosine: false))
  losses.reconstruction = ramp(0.0, 1.0) * masked_pixel_mse(online.pixels, views.online, mask: online.mask, patch_size)
}
",
    );
    let scheduled: Vec<(&str, (f64, f64))> = program
        .train
        .inputs
        .iter()
        .filter_map(|input| match &input.kind {
            InputKind::Schedule(Schedule::Ramp { from, to, .. }) => Some((input.name.as_str(), (*from, *to))),
            _ => None,
        })
        .collect();
    let names: BTreeSet<&str> = scheduled.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), 2, "{scheduled:?}");
    let ends: Vec<(f64, f64)> = scheduled.iter().map(|(_, ends)| *ends).collect();
    // The same schedule written twice is one number, another one another.
    assert!(ends.contains(&(0.0, 1.0)) && ends.contains(&(0.2, 0.07)), "{scheduled:?}");
    let read = |name: &str| {
        program.train.nodes.iter().filter(|n| matches!(&n.op, Op::Input { name: of } if of == name)).count()
    };
    assert!(names.iter().all(|name| read(name) == 1));
}

#[test]
fn an_ema_copies_the_modules_that_it_names_and_not_their_arguments() {
    let plain = quickstart("  model.momentum = ema(encoder, projector, momentum: 0.98)");
    let of = |program: &Program, module: &str| count(program, module, TensorKind::Trained);
    let (encoder, projector) = (of(&plain, "encoder."), of(&plain, "projector."));
    assert_eq!(count(&plain, "momentum.", TensorKind::Ema), encoder + projector);
    // `pixel_decoder` was given the encoder: in the copy it is the encoder's copy, of which there is one.
    for sources in ["encoder, projector, pixel_decoder", "pixel_decoder, projector, encoder"] {
        let program = quickstart(&format!("  model.momentum = ema({sources}, momentum: 0.98)"));
        sound(&program);
        let decoder = of(&program, "pixel_decoder.");
        assert_eq!(count(&program, "momentum.", TensorKind::Ema), encoder + projector + decoder, "{sources}");
    }
    // Alone it does not bring the encoder along.
    let alone = quickstart(
        "  model.momentum = ema(encoder, projector, momentum: 0.98)
  add model.shadow = ema(pixel_decoder, momentum: 0.98)",
    );
    sound(&alone);
    assert_eq!(count(&alone, "shadow.", TensorKind::Ema), of(&alone, "pixel_decoder."));
    assert!(alone.layout.tensors.iter().all(|t| !t.path.starts_with("shadow.encoder")));
}

#[test]
fn copies_of_copies_parts_and_pairs_of_copies_are_each_moved_once() {
    let program = quickstart(
        "  model.momentum = ema(encoder, projector, momentum: 0.98)
  add model.slow = ema(encoder, projector, momentum: 0.999)
  add model.slower = ema(momentum.encoder, momentum: 0.99)
  add model.part = ema(encoder, encoder.patch_embed, momentum: 0.9)
  add model.bare = ema(encoder, momentum: 0.9, without: encoder.norm)",
    );
    sound(&program);
    let encoder = count(&program, "encoder.", TensorKind::Trained);
    let norm = count(&program, "encoder.norm.", TensorKind::Trained);
    assert!(norm > 0);
    assert_eq!(count(&program, "slow.encoder.", TensorKind::Ema), encoder);
    assert_eq!(count(&program, "slower.momentum.encoder.", TensorKind::Ema), encoder);
    // A part of a module that is copied too is copied with it.
    assert_eq!(count(&program, "part.", TensorKind::Ema), encoder);
    assert_eq!(count(&program, "bare.", TensorKind::Ema), encoder - norm);
    let follows = |copy: &str| {
        let pair = program.emas.iter().flat_map(|ema| &ema.pairs).find(|(of, _)| of == copy);
        pair.map(|(_, source)| source.clone())
    };
    let source = "momentum.encoder.patch_embed.proj.weight";
    assert_eq!(follows(&format!("slower.{source}")).as_deref(), Some(source));
    // Running statistics are states of their own, which no average moves; positions are shared.
    let states = |prefix: &str| count(&program, prefix, TensorKind::State);
    assert_eq!(states("slow.projector."), states("projector."));
    assert!(states("projector.") > 0);
    assert!(program.layout.tensors.iter().all(|t| t.kind != TensorKind::Fixed || !t.path.starts_with("slow.")));
}
