//! What `cmaec export` writes of a module is what the module computes with, averaged copies too, under the names that others load.

use std::collections::BTreeSet;
use std::path::Path;

use cmae::diag::Code;
use cmae::export::card::About;
use cmae::export::decoder::Decoder;
use cmae::export::folder::{self, Asked};
use cmae::export::module::{network, timm_line};
use cmae::export::onnx::proto::{Model, ValueInfo};
use cmae::export::{mae, onnx, tensors, transformers};
use cmae::graph::{Graph, Node, Program, ValueId};
use cmae::op::Op;
use cmae::spec::WeightsSpec;
use cmae::verify::file::Fixture;
use cmae::weights;
use prost::Message;
use serde_json::json;

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

/// Methods whose module timm has no network for: its stages are convolutions, or it is what is trained on top of an encoder.
const OF_OUR_OWN: [&str; 4] = ["attentive_vitb", "cmae_hybridb", "linear_vitb", "segment_vitb"];

/// Pictures of a batch of evaluation: a number that nothing else here has.
const SAMPLES: usize = 113;

/// What `tests/exchange` loads: every method's encoder is a network that timm makes by the line of the file, a class of transformers, and
/// its features are a graph of ONNX.
#[test]
fn every_encoder_is_a_network_of_others() {
    let page = page();
    for method in &page.methods {
        let sets = sets_of(&page, method).into_iter().chain([format!("evaluate.batch_size={SAMPLES}")]);
        let program = compile(&method.pipeline, &sets.collect::<Vec<_>>());
        let Some(module) = &program.spec.export else { continue };
        let found = timm_line(&program, module);
        assert_eq!(found.is_err(), OF_OUR_OWN.contains(&&*method.pipeline), "{}: {found:?}", method.pipeline);
        is_a_graph(&method.pipeline, &program);
        let Ok(found) = found else { continue };
        let depth = if method.pipeline == "quickstart" || method.pipeline == "shapes" { "depth=" } else { "depth=2" };
        for part in ["img_size=(", depth, "num_heads=4", "num_classes=0"] {
            assert!(found.contains(part), "{}: {} lacks {part}", method.pipeline, found);
        }
        assert_eq!(class(&program, module), expected_class(&method.pipeline), "{}", method.pipeline);
    }
    let line = |pipeline: &str| timm_line(&compile(pipeline, &[]), "encoder");
    assert_eq!(
        line("mae_vitb").as_deref(),
        Ok(
            "timm.create_model(\"vit_base_patch16_224\", img_size=(224, 224), patch_size=(16, 16), in_chans=3, embed_dim=768, depth=12, \
            num_heads=12, mlp_ratio=4.0, num_classes=0, global_pool=\"avg\", fc_norm=False)"
        )
    );
}

/// The class that a module's folder is for.
fn class(program: &Program, module: &str) -> &'static str {
    let network = network(program, module).unwrap_or_else(|why| panic!("{module}: {why}"));
    let encoder = transformers::encoder(&network).unwrap_or_else(|why| panic!("{module}: {why}"));
    let decoder = Decoder::of(program, module, &network);
    decoder.and_then(|decoder| transformers::autoencoder(&network, &decoder)).map_or(encoder.name, |class| class.name)
}

fn expected_class(pipeline: &str) -> &'static str {
    match pipeline {
        // Encoder and decoder of MAE.
        "mae_vitb" | "cmae_vitb" | "cmae_vitb_paper" | "cmae_vitb_byol" | "quickstart" | "shapes" => {
            "ViTMAEForPreTraining"
        }
        // Relative positions, no bias of keys, or no norm at the end.
        "beit_vitb" | "peco_vitb" | "simmim_vitb" | "data2vec_vitb" | "cae_vitb" | "sim_vitb" | "crossmae_vitb"
        | "finetune_vitb" => "BeitModel",
        "ijepa_vitb" => "IJepaModel",
        _ => "ViTModel",
    }
}

/// A number for each of the program's values, no two alike nearby.
fn arena(program: &Program) -> Vec<f32> {
    (0..program.layout.total_len).map(|at| (at * 7919 % 10007) as f32 / 10007.0 - 0.5).collect()
}

/// A graph of ONNX is what its format asks for: nodes in order, each name given once, sizes of a picture fixed and that of a batch not.
fn is_a_graph(pipeline: &str, program: &Program) {
    let (model, pictures, dim) =
        onnx::model(program, &arena(program), 3).unwrap_or_else(|error| panic!("{pipeline}: {error}"));
    let bytes = model.encode_to_vec();
    let model = Model::decode(&bytes[..]).expect("it is what was encoded");
    let graph = model.graph.expect("a model has one");
    let mut there: BTreeSet<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    assert_eq!(there.len(), graph.initializer.len(), "{pipeline}: a constant is there twice");
    there.extend(graph.input.iter().filter_map(|input| input.name.as_deref()));
    let mut names = BTreeSet::new();
    for node in &graph.node {
        let name = node.name.as_deref().unwrap_or_default();
        assert!(names.insert(name), "{pipeline}: two nodes are {name}");
        for input in &node.input {
            assert!(there.contains(&**input), "{pipeline}: {name} reads {input}, which is not there yet");
        }
        for output in &node.output {
            assert!(there.insert(output), "{pipeline}: {output} is made twice");
        }
    }
    assert!(there.contains("features"), "{pipeline}");
    let sizes = |info: &ValueInfo| -> Vec<Result<i64, String>> {
        let shape = info.ty.as_ref().and_then(|ty| ty.tensor_type.as_ref()?.shape.as_ref());
        let size = |dim: &onnx::proto::Dim| dim.dim_value.ok_or_else(|| dim.dim_param.clone().unwrap_or_default());
        shape.map_or(Vec::new(), |shape| shape.dim.iter().map(size).collect())
    };
    let of_batch = |rest: &[usize]| -> Vec<Result<i64, String>> {
        [Err("batch".to_owned())].into_iter().chain(rest.iter().map(|size| Ok(*size as i64))).collect()
    };
    assert_eq!(sizes(&graph.input[0]), of_batch(&pictures), "{pipeline}");
    assert_eq!(sizes(&graph.output[0]), of_batch(&[dim]), "{pipeline}");
    // No shape holds the size of the batch that the graph was made for.
    let samples = program.features.as_ref().and_then(|graph| Some(graph.inputs.first()?.ty.shape[0]));
    assert_eq!(samples, Some(SAMPLES), "{pipeline}");
    for tensor in graph.initializer.iter().filter(|tensor| tensor.data_type == Some(onnx::proto::INT64)) {
        let bytes = tensor.raw_data.as_deref().unwrap_or_default();
        let holds = bytes.chunks_exact(8).any(|number| number == (SAMPLES as i64).to_le_bytes());
        assert!(!holds, "{pipeline}: {:?} holds the size of a batch", tensor.name);
    }
}

/// `ViTMAEForPreTraining` at the sizes of the methods' page: names and shapes of its `state_dict` in files of its hub.
/// Source: transformers 5.24, models/vit_mae.
fn vit_mae() -> BTreeSet<(String, Vec<usize>)> {
    let (dim, grid, hidden) = (32, 4, 4 * 32);
    let mut all = BTreeSet::new();
    let mut add = |name: String, shape: &[usize]| assert!(all.insert((name, shape.to_vec())), "a name is there twice");
    let embeddings = "vit.embeddings";
    add(format!("{embeddings}.cls_token"), &[1, 1, dim]);
    add(format!("{embeddings}.position_embeddings"), &[1, grid * grid + 1, dim]);
    add(format!("{embeddings}.patch_embeddings.projection.weight"), &[dim, 3, 8, 8]);
    add(format!("{embeddings}.patch_embeddings.projection.bias"), &[dim]);
    add("decoder.mask_token".to_owned(), &[1, 1, dim]);
    add("decoder.decoder_pos_embed".to_owned(), &[1, grid * grid + 1, dim]);
    let mut layer = |name: &str, out: usize, from: usize| {
        add(format!("{name}.weight"), &[out, from]);
        add(format!("{name}.bias"), &[out]);
    };
    layer("decoder.decoder_embed", dim, dim);
    layer("decoder.decoder_pred", 3 * 8 * 8, dim);
    for (layers, count) in [("vit.encoder.layer", 2), ("decoder.decoder_layers", 1)] {
        for at in 0..count {
            for part in ["query", "key", "value"] {
                layer(&format!("{layers}.{at}.attention.attention.{part}"), dim, dim);
            }
            layer(&format!("{layers}.{at}.attention.output.dense"), dim, dim);
            layer(&format!("{layers}.{at}.intermediate.dense"), hidden, dim);
            layer(&format!("{layers}.{at}.output.dense"), dim, hidden);
        }
    }
    let of_layers = ["vit.encoder.layer.0", "vit.encoder.layer.1", "decoder.decoder_layers.0"];
    let norms =
        of_layers.iter().flat_map(|layer| ["before", "after"].map(|which| format!("{layer}.layernorm_{which}")));
    for norm in norms.chain(["vit.layernorm".to_owned(), "decoder.decoder_norm".to_owned()]) {
        for part in ["weight", "bias"] {
            all.insert((format!("{norm}.{part}"), vec![dim]));
        }
    }
    all
}

/// Writes MAE's encoder and decoder for others, and begins a run of theirs with what was written: nothing is lost on the way.
#[test]
fn an_autoencoder_goes_out_and_comes_in_again() {
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "mae_vitb").expect("it is a method");
    let mut program = compile("mae_vitb", &sets_of(&page, method));
    let (values, made) = (arena(&program), tempfile::tempdir().expect("a temporary folder"));
    let path = |name: &str| made.path().join(name);
    let asked = Asked { module: "encoder", encoder_only: false, about: &About::default(), shown: Path::new("mae") };
    let written = folder::write(&program, &values, asked, &path("mae")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((written.tensors, written.left_out), (vit_mae().len(), Vec::new()));
    let file = Fixture::read(&path("mae/model.safetensors")).expect("it was written");
    let shapes = file.names().filter_map(|name| Some((name.to_owned(), file.tensor(name)?.shape.clone())));
    assert_eq!(shapes.collect::<BTreeSet<_>>(), vit_mae());
    let json = |name: &str| -> serde_json::Value {
        let text = std::fs::read_to_string(path(name)).expect("it was written");
        serde_json::from_str(&text).expect("it is JSON")
    };
    let config = json("mae/config.json");
    for (key, value) in [
        ("model_type", json!("vit_mae")),
        ("architectures", json!(["ViTMAEForPreTraining"])),
        ("hidden_size", json!(32)),
        ("num_hidden_layers", json!(2)),
        ("image_size", json!(32)),
        ("decoder_num_hidden_layers", json!(1)),
        ("decoder_num_attention_heads", json!(4)),
        ("mask_ratio", json!(0.75)),
        ("norm_pix_loss", json!(true)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let processor = json("mae/preprocessor_config.json");
    assert_eq!(processor["size"], json!({ "shortest_edge": 36 }));
    assert_eq!((&processor["crop_size"], &processor["resample"]), (&json!({ "height": 32, "width": 32 }), &json!(3)));
    assert_eq!(processor["image_mean"], json!([0.485, 0.456, 0.406]));
    let card = std::fs::read_to_string(path("mae/README.md")).expect("it was written");
    assert!(
        card.starts_with("---\nlibrary_name: transformers\n")
            && card.contains("ViTMAEForPreTraining.from_pretrained(\"mae\")")
    );

    mae::write(&program, &values, "encoder", &path("mae.safetensors")).unwrap_or_else(|error| panic!("{error}"));
    for (file, names) in [("mae", "transformers_vit"), ("mae.safetensors", "mae")] {
        let spec = |module: &str, unexpected: &[&str]| WeightsSpec {
            module: module.to_owned(),
            file: path(file).display().to_string(),
            names: "auto".to_owned(),
            prefix: None,
            missing: Vec::new(),
            unexpected: unexpected.iter().map(|pattern| (*pattern).to_owned()).collect(),
        };
        let rest = ["blocks.*", "cls_token", "norm.*", "patch_embed.*", "pos_embed"];
        program.spec.weights = vec![spec("encoder", &["decoder*", "mask_token"]), spec("decoder", &rest)];
        let mut found = vec![0.0_f32; program.layout.total_len];
        let loaded = weights::load(&program, &mut found).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(loaded.iter().all(|loaded| loaded.names == names), "{loaded:?}");
        for module in ["encoder", "decoder"] {
            for (name, index) in tensors(&program, module).iter().filter(|(name, _)| name != "pos_embed") {
                let range = program.layout.range(*index);
                assert_eq!(found[range.clone()], values[range], "{file}: {module}.{name}");
            }
        }
    }
}

/// A graph that a file has no room for leaves its weights to one beside, each from the start of a page on.
#[test]
fn large_weights_lie_beside_the_graph() {
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "dino_vitb").expect("it is a method");
    let program = compile("dino_vitb", &sets_of(&page, method));
    let (values, made) = (arena(&program), tempfile::tempdir().expect("a temporary folder"));
    let path = made.path().join("x.onnx");
    let written =
        |largest| onnx::write_within(&program, &values, 0, &path, largest).unwrap_or_else(|error| panic!("{error}"));
    assert!(!written(usize::MAX).is_apart && written(10_000).is_apart);
    let weights = std::fs::read(made.path().join("x.onnx.data")).expect("it was written");
    let model = Model::decode(&std::fs::read(&path).expect("it was written")[..]).expect("it is one");
    let mut apart = 0;
    for tensor in model.graph.expect("a model has one").initializer {
        let told = |key: &str| {
            let entry = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            entry.and_then(|entry| entry.value.clone()).expect("it is told")
        };
        let name = tensor.name.clone().unwrap_or_default();
        if tensor.raw_data.is_some() {
            assert!(tensor.external_data.is_empty() && tensor.data_location.is_none(), "{name}");
            continue;
        }
        let [offset, length] = ["offset", "length"].map(|key| told(key).parse::<usize>().expect("a number"));
        assert_eq!((told("location").as_str(), offset % 4096, tensor.data_location), ("x.onnx.data", 0, Some(1)));
        let (_, range) = program.layout.get(&name).expect("it is a parameter");
        let expected: Vec<u8> = values[range].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(weights[offset..offset + length], expected, "{name}");
        apart += 1;
    }
    // Four weights of each of two blocks, patches and positions.
    assert_eq!(apart, 4 * 2 + 2);
}

/// What is asked for and cannot be is told with its code, and nothing is written.
#[test]
fn what_cannot_be_written_is_told() {
    let page = page();
    let program = |pipeline: &str| {
        let method = page.methods.iter().find(|method| method.pipeline == pipeline).expect("it is a method");
        compile(pipeline, &sets_of(&page, method))
    };
    let made = tempfile::tempdir().expect("a temporary folder");
    let to = made.path().join("out");
    let as_folder = |program: &Program, module: &str| {
        let asked = Asked { module, encoder_only: false, about: &About::default(), shown: &to };
        folder::write(program, &arena(program), asked, &to).map(drop)
    };
    let simmim = page.methods.iter().find(|method| method.pipeline == "simmim_vitb").expect("it is a method");
    let sets = sets_of(&page, simmim).into_iter().chain(["image_size=(32px, 64px)".to_owned()]);
    let wide = compile("simmim_vitb", &sets.collect::<Vec<_>>());
    let hybrid = program("cmae_hybridb");
    let dino = program("dino_vitb");
    let no_features = Program { features: None, ..dino.clone() };
    let mut broken = arena(&dino);
    broken.fill(f32::NAN);
    // What a pipeline could say: features that are compared within the batch.
    let mut joined = dino.clone();
    let graph = joined.features.as_mut().expect("it has features");
    let (at, place) = graph
        .outputs
        .iter()
        .enumerate()
        .find_map(|(at, (name, id))| (name == "features").then_some((at, *id)))
        .expect("they are an output");
    let ty = graph.node(place).ty.clone();
    graph.nodes.push(Node { op: Op::BatchNorm { eps: 1e-5 }, inputs: vec![place], ty, scope: "evaluate".to_owned() });
    graph.outputs[at].1 = ValueId(graph.nodes.len() as u32 - 1);
    for (error, code, part) in [
        (as_folder(&hybrid, "encoder"), "export::no_network", "it embeds no patches"),
        (as_folder(&wide, "encoder"), "export::no_network", "a grid of 4 by 8 patches"),
        (as_folder(&dino, "nothing"), "export::no_module", "`nothing`"),
        (mae::write(&dino, &arena(&dino), "encoder", &to).map(drop), "export::no_network", "sees all patches"),
        (onnx::write(&no_features, &arena(&dino), 0, &to).map(drop), "export::features", "says nothing of features"),
        (onnx::write(&dino, &broken, 0, &to).map(drop), "export::not_finite", "not finite"),
        (onnx::write(&joined, &arena(&dino), 0, &to).map(drop), "export::no_form", "`batch_norm` at `evaluate`"),
    ] {
        let error = error.expect_err(part);
        assert_eq!(error.code().map(Code::as_str), Some(code), "{error}");
        assert!(error.to_string().contains(part) && error.help().is_some(), "{error}");
        assert!(!to.exists(), "{error}");
    }
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
