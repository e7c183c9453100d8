//! What `cmaec export` writes of a module is what the module computes with, averaged copies too, under timm's names.

use std::collections::BTreeSet;

use cmae::eval::export::tensors;
use cmae::graph::{Graph, Program};
use cmae::op::Op;
use cmae::verify::file::Fixture;

use crate::command::root;
use crate::methods::{compile, page, sets_of};

/// Paths of the tensors that nodes of `module` read, in any graph.
fn read_by<'p>(program: &'p Program, module: &str) -> BTreeSet<&'p str> {
    let prefix = format!("{module}.");
    let mut read = BTreeSet::new();
    let graphs: [Option<&Graph>; 3] = [Some(&program.train), program.features.as_ref(), program.pictures.as_ref()];
    for graph in graphs.into_iter().flatten() {
        for node in graph.nodes.iter().filter(|node| node.scope == module || node.scope.starts_with(&prefix)) {
            for operand in node.inputs.iter().map(|id| graph.node(*id)) {
                if let Op::Param { path } = &operand.op {
                    read.insert(path.as_str());
                }
            }
        }
    }
    read
}

/// Averaged modules: path of the copy, and of the original.
fn copies(program: &Program) -> BTreeSet<(String, String)> {
    let sources = program.emas.iter().flat_map(|ema| ema.pairs.iter().map(move |(_, source)| (&ema.name, source)));
    let first = |path: &str| path.split('.').next().unwrap_or(path).to_owned();
    sources.map(|(name, source)| (format!("{name}.{}", first(source)), first(source))).collect()
}

#[test]
fn the_file_of_a_copy_holds_all_that_it_computes_with() {
    let page = page();
    let (mut checked, mut with_shared, mut whole) = (0, BTreeSet::new(), 0);
    for method in &page.methods {
        let program = compile(&method.pipeline, &sets_of(&page, method));
        for (copy, original) in copies(&program) {
            let of = |module: &str| -> BTreeSet<(String, &str)> {
                let tensors = tensors(&program, module).into_iter();
                tensors.map(|(name, index)| (name, program.layout.tensors[index].path.as_str())).collect()
            };
            let (file, file_of_original) = (of(&copy), of(&original));
            let read = read_by(&program, &copy);
            assert!(!read.is_empty(), "{}: nothing reads {copy}", method.pipeline);
            for path in read {
                let name = [&copy, &original].iter().find_map(|module| path.strip_prefix(&format!("{module}.")));
                let name = name.unwrap_or_else(|| panic!("{}: {copy} reads {path}", method.pipeline));
                assert!(file.contains(&(name.to_owned(), path)), "{}: {copy} lacks {name}", method.pipeline);
                if !path.starts_with(&copy) {
                    with_shared.insert(method.pipeline.as_str());
                }
                checked += 1;
            }
            let names = |file: &BTreeSet<(String, &str)>| file.iter().map(|(n, _)| n.clone()).collect::<BTreeSet<_>>();
            let left: Vec<String> = names(&file_of_original).difference(&names(&file)).cloned().collect();
            // What is named by `without` is no part of the copy.
            assert!(left.iter().all(|name| name.starts_with("norm.")), "{}: {copy} lacks {left:?}", method.pipeline);
            assert!(names(&file).is_subset(&names(&file_of_original)), "{}: {copy}", method.pipeline);
            whole += usize::from(left.is_empty());
        }
    }
    assert!(checked > 300 && whole > 10, "{checked} tensors, {whole} whole copies");
    for pipeline in ["byol_vitb", "ijepa_vitb", "moco_v3_vitb", "cmae_vitb", "sim_vitb"] {
        assert!(with_shared.contains(pipeline), "{pipeline} shares its positions: {with_shared:?}");
    }
}

/// The fixture's weights are a `VisionTransformer`'s `state_dict`, of depth 3: what timm loads strictly.
#[test]
fn names_and_shapes_are_those_that_timm_loads() {
    let fixture = Fixture::read(&root("tests/golden/vit_timm.safetensors")).expect("it is in the repository");
    let expected: BTreeSet<(String, Vec<usize>)> = fixture
        .names()
        .filter_map(|name| Some((name.strip_prefix("weights.")?.to_owned(), fixture.tensor(name)?.shape.clone())))
        .collect();
    let page = page();
    let same = ["image_size=32px", "patch_size=4px", "model.encoder.embed_dim=48", "model.encoder.depth=3"];
    let heads = ["model.encoder.num_heads=3"];
    for (pipeline, module) in [
        ("byol_vitb", "encoder"),
        ("byol_vitb", "momentum.encoder"),
        ("moco_v3_vitb", "momentum.encoder"),
        ("sim_vitb", "momentum.encoder"),
        ("dino_vitb", "momentum.encoder"),
    ] {
        let method = page.methods.iter().find(|method| method.pipeline == pipeline).expect("it is a method");
        let sets = sets_of(&page, method).into_iter().chain(same.iter().chain(&heads).map(|set| (*set).to_owned()));
        let program = compile(pipeline, &sets.collect::<Vec<_>>());
        let shape = |(name, index): (String, usize)| (name, program.layout.tensors[index].shape.clone());
        let found: BTreeSet<_> = tensors(&program, module).into_iter().map(shape).collect();
        // SIM and others have a mask token beside, which an encoder for use elsewhere leaves alone.
        let found: BTreeSet<_> = found.into_iter().filter(|(name, _)| name != "mask_token").collect();
        assert_eq!(found, expected, "{pipeline}: {module}");
    }
}
