//! What `cmaec export` writes of a module is what the module computes with, averaged copies too, under timm's names.

use std::collections::BTreeSet;

use cmae::eval::export::{network, tensors};
use cmae::graph::{Graph, Program};
use cmae::op::Op;
use cmae::verify::file::Fixture;

use crate::command::root;
use crate::methods::{Page, compile, page, sets_of};

/// Paths of the tensors that nodes of `module` read, in any graph.
fn read_by<'p>(program: &'p Program, module: &str) -> BTreeSet<&'p str> {
    let prefix = format!("{module}.");
    let mut read = BTreeSet::new();
    let graphs: [Option<&Graph>; 3] = [Some(&program.train), program.features.as_ref(), program.pictures.as_ref()];
    for graph in graphs.into_iter().flatten() {
        // What is made of tensors alone is computed once for a copy and its original, and stands where the first of them does.
        let mut made_of: Vec<Option<BTreeSet<&str>>> = Vec::new();
        for node in &graph.nodes {
            let operands = || node.inputs.iter().map(|id| made_of[id.index()].as_ref());
            let own = node.scope == module || node.scope.starts_with(&prefix);
            let made = match &node.op {
                Op::Param { path } => Some(BTreeSet::from([path.as_str()])),
                Op::Input { .. } => None,
                _ => operands().collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().copied().collect()),
            };
            if own {
                read.extend(operands().flatten().flatten().copied());
            }
            made_of.push(made);
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

/// Methods whose encoder timm has no network for: its stages are convolutions.
const OF_OUR_OWN: [&str; 1] = ["cmae_hybridb"];

/// What `tests/exchange` loads: every method's encoder is a network that timm makes by the line of the file.
#[test]
fn every_encoder_is_a_network_of_timm() {
    let page = page();
    for method in &page.methods {
        let program = compile(&method.pipeline, &sets_of(&page, method));
        let Some(module) = &program.spec.export else { continue };
        let found = network(&program, module);
        assert_eq!(found.is_err(), OF_OUR_OWN.contains(&&*method.pipeline), "{}: {found:?}", method.pipeline);
        let Ok(found) = found else { continue };
        let depth = if method.pipeline == "quickstart" || method.pipeline == "shapes" { "depth=" } else { "depth=2" };
        for part in ["img_size=(", depth, "num_heads=4", "num_classes=0"] {
            assert!(found.line.contains(part), "{}: {} lacks {part}", method.pipeline, found.line);
        }
    }
    let line = |pipeline: &str| network(&compile(pipeline, &[]), "encoder").map(|found| found.line);
    assert_eq!(
        line("mae_vitb").as_deref(),
        Ok(
            "timm.create_model(\"vit_base_patch16_224\", img_size=(224, 224), patch_size=(16, 16), in_chans=3, embed_dim=768, depth=12, \
            num_heads=12, mlp_ratio=4.0, num_classes=0, global_pool=\"avg\", fc_norm=False)"
        )
    );
}

/// Names and shapes that a module's file holds. The mask token that some have beside is left out, as an encoder for use elsewhere
/// leaves it alone.
fn exported(page: &Page, pipeline: &str, module: &str, sizes: &[&str]) -> BTreeSet<(String, Vec<usize>)> {
    let method = page.methods.iter().find(|method| method.pipeline == pipeline).expect("it is a method");
    let sets = sets_of(page, method).into_iter().chain(sizes.iter().map(|set| (*set).to_owned()));
    let program = compile(pipeline, &sets.collect::<Vec<_>>());
    let shape = |(name, index): (String, usize)| (name, program.layout.tensors[index].shape.clone());
    tensors(&program, module).into_iter().map(shape).filter(|(name, _)| name != "mask_token").collect()
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
    let sizes = ["patch_size=4px", "model.encoder.embed_dim=48", "model.encoder.depth=3", "model.encoder.num_heads=3"];
    // SIM has no final norm, CMAE's copy leaves it out: timm's `final_norm=False`.
    for (pipeline, module, final_norm) in [
        ("byol_vitb", "encoder", true),
        ("byol_vitb", "momentum.encoder", true),
        ("moco_v3_vitb", "momentum.encoder", true),
        ("dino_vitb", "momentum.encoder", true),
        ("sim_vitb", "momentum.encoder", false),
        ("cmae_vitb", "encoder", true),
        ("cmae_vitb", "momentum.encoder", false),
    ] {
        let found = exported(&page, pipeline, module, &sizes);
        let expected = expected.iter().filter(|(name, _)| final_norm || !name.starts_with("norm."));
        assert_eq!(found, expected.cloned().collect(), "{pipeline}: {module}");
    }
}

/// Names and shapes of timm 1.0.31's `Beit(global_pool="token", num_classes=0, init_values=0.1)` at the sizes of the methods'
/// page: width 32, depth 2, 4 heads, 3 channels, patches of 8 px on 32 px. Without absolute positions it has
/// `use_shared_rel_pos_bias=True`.
fn beit(absolute_positions: bool) -> BTreeSet<(String, Vec<usize>)> {
    let (dim, grid, heads, hidden) = (32, 4, 4, 4 * 32);
    let mut all = vec![
        ("cls_token".to_owned(), vec![1, 1, dim]),
        ("patch_embed.proj.weight".to_owned(), vec![dim, 3, 8, 8]),
        ("patch_embed.proj.bias".to_owned(), vec![dim]),
        ("norm.weight".to_owned(), vec![dim]),
        ("norm.bias".to_owned(), vec![dim]),
    ];
    all.push(if absolute_positions {
        ("pos_embed".to_owned(), vec![1, grid * grid + 1, dim])
    } else {
        // An offset of two patches takes one of 2 · 4 − 1 values along each side; three rows more for the class token.
        let offsets = (2 * grid - 1) * (2 * grid - 1) + 3;
        ("rel_pos_bias.relative_position_bias_table".to_owned(), vec![offsets, heads])
    });
    let of_block: [(&str, &[usize]); 15] = [
        ("gamma_1", &[dim]),
        ("gamma_2", &[dim]),
        ("norm1.weight", &[dim]),
        ("norm1.bias", &[dim]),
        ("attn.q_bias", &[dim]),
        ("attn.v_bias", &[dim]),
        ("attn.qkv.weight", &[3 * dim, dim]),
        ("attn.proj.weight", &[dim, dim]),
        ("attn.proj.bias", &[dim]),
        ("norm2.weight", &[dim]),
        ("norm2.bias", &[dim]),
        ("mlp.fc1.weight", &[hidden, dim]),
        ("mlp.fc1.bias", &[hidden]),
        ("mlp.fc2.weight", &[dim, hidden]),
        ("mlp.fc2.bias", &[dim]),
    ];
    for block in 0..2 {
        all.extend(of_block.iter().map(|(name, shape)| (format!("blocks.{block}.{name}"), shape.to_vec())));
    }
    all.into_iter().collect()
}

#[test]
fn encoders_of_beits_family_are_what_timm_loads_into_its_beit() {
    let page = page();
    // CAE has BEiT's blocks and absolute positions: timm's `use_abs_pos_emb=True` without relative ones.
    for (pipeline, module, absolute_positions) in [
        ("beit_vitb", "encoder", false),
        ("peco_vitb", "encoder", false),
        ("simmim_vitb", "encoder", false),
        ("data2vec_vitb", "encoder", false),
        ("data2vec_vitb", "momentum.encoder", false),
        ("cae_vitb", "encoder", true),
    ] {
        assert_eq!(exported(&page, pipeline, module, &[]), beit(absolute_positions), "{pipeline}: {module}");
    }
}
