//! Graphs as pictures: what is in them, for every pipeline, and the one that the README shows.

use std::path::Path;

use cmae::diag::Diagnostics;
use cmae::graph::sketch::{Kind, Sketch};
use cmae::graph::{Program, TensorKind};
use cmae::report::{diagram, mermaid};
use cmae::source::Sources;

use crate::command::{pipelines, root, succeed, updates_expected};

fn compiled(name: &str) -> Program {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let path = format!("pipelines/{name}.cmae");
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let compiled = cmae::compile(&mut sources, &mut diagnostics, Path::new(&path), &[]);
    compiled.unwrap_or_else(|_| panic!("{name} does not compile")).program
}

/// Modules of `model` whose tensors a loss moves.
fn trained(program: &Program) -> Vec<&str> {
    let tensors = program.layout.tensors.iter().filter(|decl| decl.kind == TensorKind::Trained);
    let mut modules: Vec<&str> = tensors.filter_map(|decl| decl.path.split('.').next()).collect();
    modules.dedup();
    modules
}

#[test]
fn every_pipeline_has_its_modules_losses_and_gradients() {
    for name in pipelines() {
        let program = compiled(&name);
        let sketch = Sketch::of(&program);
        for module in trained(&program) {
            let part =
                sketch.parts.iter().position(|part| part.name == module && matches!(part.kind, Kind::Trained(_)));
            let part = part.unwrap_or_else(|| panic!("{name}: no `{module}` in {:?}", sketch.parts));
            let leads = sketch.flows.iter().any(|flow| flow.from == part && flow.gradient);
            assert!(leads, "{name}: no gradient comes back to `{module}`: {:?}", sketch.flows);
        }
        for (loss, _) in &program.train.losses {
            let part = sketch.parts.iter().position(|part| part.name == *loss && part.kind == Kind::Loss);
            let part = part.unwrap_or_else(|| panic!("{name}: no loss `{loss}`"));
            assert!(
                sketch.flows.iter().any(|flow| flow.to == part && flow.gradient),
                "{name}: nothing flows to `{loss}`"
            );
        }
        assert!(sketch.parts.iter().any(|part| part.kind == Kind::View), "{name} has no view");
        assert_eq!(sketch.follows.is_empty(), program.emas.is_empty(), "{name}: {:?}", sketch.follows);
        // No gradient comes back to an average.
        let mut copies = sketch.flows.iter().filter(|flow| sketch.parts[flow.from].kind == Kind::Copy);
        assert!(copies.all(|flow| !flow.gradient || sketch.parts[flow.to].kind != Kind::Loss), "{name}");
        let (svg, text) = (diagram::svg(&name, &sketch), mermaid::mermaid(&name, &sketch));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
        assert_eq!(text.lines().filter(|line| line.contains(":::")).count(), sketch.parts.len(), "{text}");
    }
}

/// UPDATE_EXPECT=1 writes it anew: look at it then.
#[test]
fn the_readme_shows_what_the_command_draws() {
    let drawn = succeed(&["show", "graph", "pipelines/cmae_vitb.cmae", "--format", "svg"]);
    let file = root("docs/images/cmae.svg");
    if updates_expected() {
        std::fs::write(&file, &drawn).expect("it can be written");
    }
    assert!(
        std::fs::read_to_string(&file).is_ok_and(|kept| kept == drawn),
        "UPDATE_EXPECT=1 writes {}",
        file.display()
    );
}
