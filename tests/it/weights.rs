//! Weights that other programs wrote: files of `tests/golden/weights`, made by `tests/golden/generate/foreign_weights.py`, give the
//! features that their own programs give.

use std::path::Path;

use cmae::backend::{Compute, Request};
use cmae::diag::Diagnostics;
use cmae::graph::Program;
use cmae::source::Sources;
use cmae::tensor::{Element, HostTensor, InputValue, OutputValue};
use cmae::train::init;
use cmae::verify::file::Fixture;
use cmae::weights::{self, Loaded, WeightsError};

use crate::command::{fail, root, succeed};

const FOLDER: &str = "tests/golden/weights";

/// A pipeline whose encoder is `vit(SIZES, arguments)` and begins with `from`.
fn text(arguments: &str, from: &str, rest: &str) -> String {
    let channels = if arguments.contains("gray") { 1 } else { 3 };
    let image = if arguments.contains("large") { 24 } else { 16 };
    let arguments = arguments.replace("gray", "").replace("large", "");
    format!(
        "pipeline example {{
  data {{ train = digits(\"train\")  channels = {channels}  batch_size = 2 }}
  views {{ seen = data.train |> resize({image}px) |> center_crop({image}px) |> normalize(mean: 0.3, std: 0.35) }}
  model {{
    encoder = vit({image}px, 4px, embed_dim: 16, depth: 2, num_heads: 2, mlp_ratio: 2.0{arguments}) from {from}
    {rest}
  }}
  branch online {{ tokens = encoder(views.seen).tokens }}
  losses {{ mean = op::mean(online.tokens * online.tokens) }}
  train {{ epochs = 1  optimizer = adamw()  learning_rate = 1e-3 }}
}}"
    )
}

fn compile(text: &str) -> Program {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    sources.add_file("pipelines/example.cmae", text);
    match cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines/example.cmae"), &[]) {
        Ok(compiled) => compiled.program,
        Err(_) => panic!("{}", cmae::diag::render(diagnostics.list(), &sources, false)),
    }
}

/// The arena that a run of the program begins with.
fn begin<E: Element>(program: &Program) -> Result<(Vec<E>, Vec<Loaded>), WeightsError> {
    let mut arena: Vec<E> = init::initialise(&program.layout, 1);
    let loaded = weights::load(program, &mut arena)?;
    init::copy(&program.layout, &mut arena);
    Ok((arena, loaded))
}

fn tokens<E: Compute>(program: &Program, images: &HostTensor<f32>) -> (Vec<f64>, Vec<Loaded>) {
    let (arena, loaded) = begin::<E>(program).unwrap_or_else(|error| panic!("{error}\nhelp: {}", error.help()));
    let mut backend = E::backend("cpu").expect("it is always there");
    let inputs = [(program.train.inputs[0].name.clone(), InputValue::Float(images.clone()))];
    let request = Request { outputs: vec!["online.tokens".to_owned()], ..Request::default() };
    let results = backend.run(&program.train, &program.layout, &arena, &inputs, &request).expect("it runs");
    let OutputValue::Float(tensor) = &results.outputs[0] else { panic!("tokens are floats") };
    (tensor.data.iter().map(|value| value.to_f64()).collect(), loaded)
}

/// Features equal those that the file's own program gave, in f64 and f32.
fn agree(file: &str, expected: &str, arguments: &str, options: &str) -> Loaded {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let fixture = Fixture::read(&root(&format!("{FOLDER}/expected.safetensors"))).expect("it is in the repository");
    let images = fixture.tensor(&format!("{expected}.images")).expect("it is there");
    let images = HostTensor {
        shape: images.shape.clone(),
        data: images.values.to_f64().into_iter().map(|value| value as f32).collect(),
    };
    let wanted = fixture.tensor(&format!("{expected}.tokens")).expect("it is there").values.to_f64();
    let program = compile(&text(arguments, &format!("weights(\"{FOLDER}/{file}\"{options})"), ""));
    let (double, _) = tokens::<f64>(&program, &images);
    let (single, mut loaded) = tokens::<f32>(&program, &images);
    // Files hold f32: a float64 run starts from the same numbers. Positions that are resized are rounded in f32 by some of both.
    for (found, tolerance, precision) in [(&double, 1e-6, "f64"), (&single, 1e-5, "f32")] {
        assert_eq!(found.len(), wanted.len(), "{file}");
        let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < tolerance, "{file} in {precision}: off by {worst}");
    }
    loaded.pop().expect("one module begins with weights")
}

const LEARNED: &str = ", positions: \"learned\"";

#[test]
fn what_the_libraries_write_gives_their_features() {
    for file in ["timm_vit.safetensors", "timm_vit.pth", "timm_vit_legacy.pth", "timm_vit_whole.pt"] {
        let loaded = agree(file, "vit", LEARNED, "");
        assert_eq!((loaded.names.as_str(), loaded.loaded.len()), ("timm", 30), "{file}");
    }
    agree("timm_vit_bf16.bin", "bf16", LEARNED, "");
    for file in
        ["hf_vit.safetensors", "hf_vit_in_memory.bin", "hf_vit_parts", "hf_vit_parts/model.safetensors.index.json"]
    {
        assert_eq!(agree(file, "hf_vit", LEARNED, "").names, "transformers_vit", "{file}");
    }
    let mae = agree("hf_mae.safetensors", "hf_mae", LEARNED, "");
    assert_eq!((mae.names.as_str(), mae.prefix.as_str()), ("transformers_vit", "vit."));
    let beit = ", positions: \"relative\", key_bias: false, scale: 0.1, mask_token: true";
    assert_eq!(agree("hf_beit.safetensors", "hf_beit", beit, "").names, "transformers_beit");
    let dinov2 = ", positions: \"learned\", scale: 0.1";
    let loaded = agree("hf_dinov2.safetensors", "hf_dinov2", dinov2, ", unexpected: \"embeddings.mask_token\"");
    assert_eq!(loaded.names, "transformers_dinov2");
}

/// The same networks under the names of programs that are no packages.
#[test]
fn names_of_other_programs_are_told_and_followed() {
    for (file, names, prefix, options) in [
        ("mae.pth", "mae", "model.", ", unexpected: [\"decoder_*\", \"mask_token\"]"),
        ("moco_v3.pth.tar", "moco_v3", "state_dict.module.base_encoder.", ", unexpected: [\"head.*\"]"),
        ("dino.pth", "dino", "teacher.backbone.", ""),
        ("mmpretrain.pth", "mmpretrain", "state_dict.backbone.", ""),
        ("lightly_train.ckpt", "lightly_train", "state_dict.teacher_embedding_model.wrapped_model._model.", ""),
    ] {
        let loaded = agree(file, "vit", LEARNED, options);
        assert_eq!((loaded.names.as_str(), loaded.prefix.as_str()), (names, prefix), "{file}");
    }
    let beit = ", positions: \"relative\", key_bias: false, scale: 0.1, mask_token: true";
    let loaded = agree("beit.pth", "hf_beit", beit, ", unexpected: \"lm_head.*\"");
    assert_eq!(loaded.names, "beit");
    // A bias of keys that is zero is none; and without one of a module's own the file's changes nothing: a softmax sees no constant.
    let joined = ", positions: \"relative\", scale: 0.1, mask_token: true";
    agree("beit.pth", "hf_beit", joined, ", unexpected: \"lm_head.*\"");
    agree("timm_vit.pth", "vit", ", positions: \"learned\", key_bias: false", "");
}

#[test]
fn positions_are_resized_and_channels_summed() {
    let loaded = agree("timm_vit.pth", "resized", &format!("{LEARNED}large"), "");
    assert_eq!(loaded.changed, [("pos_embed".to_owned(), "4 × 4 patches resized to 6 × 6, bicubic".to_owned())]);
    let loaded = agree("timm_vit.pth", "gray", &format!("{LEARNED}gray"), "");
    assert_eq!(loaded.changed, [("patch_embed.proj.weight".to_owned(), "3 channels summed to one".to_owned())]);
}

/// What goes wrong is told with the names, the sizes and the line to type.
#[test]
fn what_does_not_fit_is_told() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let problem = |arguments: &str, file: &str, options: &str| {
        let program = compile(&text(arguments, &format!("weights(\"{FOLDER}/{file}\"{options})"), ""));
        let error = begin::<f32>(&program).expect_err("it does not fit");
        format!("{}: {error}; {}", error.code().as_str(), error.help())
    };
    let told = |found: String, parts: &[&str]| {
        let missing: Vec<&&str> = parts.iter().filter(|part| !found.contains(**part)).collect();
        assert!(missing.is_empty(), "{found}\nlacks {missing:?}");
    };
    told(problem(LEARNED, "gone.pth", ""), &["weights::not_found", "gone.pth"]);
    told(problem(LEARNED, "../maps/beit.ron", ""), &["weights::format", "neither a safetensors file nor a checkpoint"]);
    told(problem(LEARNED, "attack.pth", ""), &["weights::refused", "posix.system", "nothing of it was run"]);
    told(problem(LEARNED, "attack_plain.pth", ""), &["weights::refused", "posix.system"]);
    told(
        problem(LEARNED, "mae.pth", ""),
        &[
            "weights::unexpected",
            "holds 4 tensors",
            "`decoder_embed.bias`",
            "unexpected: [\"decoder_embed.*\", \"decoder_pos_embed\", \"mask_token\"]",
        ],
    );
    told(
        problem(", positions: \"learned\", scale: 0.1", "timm_vit.pth", ""),
        &[
            "weights::missing",
            "lacks 4 tensors",
            "`blocks.0.ls1.gamma`",
            "missing: [\"blocks.*.ls1.gamma\", \"blocks.*.ls2.gamma\"]",
        ],
    );
    told(
        problem(", positions: \"learned\", channels: 3", "hf_beit.safetensors", ""),
        &["weights::missing", "`pos_embed`", "missing: [\"pos_embed\"]"],
    );
    let wide =
        text(LEARNED, &format!("weights(\"{FOLDER}/timm_vit.pth\")"), "").replace("embed_dim: 16", "embed_dim: 32");
    let error = begin::<f32>(&compile(&wide)).expect_err("it is twice as wide");
    told(
        format!("{error}; {}", error.help()),
        &[
            "`cls_token` is [1, 1, 32] here, [1, 1, 16] there",
            "and 24 more",
            "patch_size: 4px, embed_dim: 16, depth: 2, mlp_ratio: 2.0",
        ],
    );
    let flat = text(LEARNED, &format!("weights(\"{FOLDER}/timm_vit.pth\")"), "").replace("depth: 2", "depth: 1");
    let error = begin::<f32>(&compile(&flat)).expect_err("it lacks a block");
    told(error.help(), &["depth: 2", "unexpected: [\"blocks.1.*\"]"]);
    told(problem(LEARNED, "timm_vit.pth", ", names: \"tim\""), &["weights::names", "did you mean `names: \"timm\"`?"]);
    told(
        problem(LEARNED, "timm_vit.pth", ", names: \"mmpretrain\", prefix: \"x.\""),
        &["weights::names", "leave `prefix` out"],
    );
}

/// Where the pipeline allows it, what the file lacks begins as the pipeline says; copies begin as what they copy.
#[test]
fn what_may_be_missing_is_as_it_was_and_copies_begin_as_their_sources() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let from = format!("weights(\"{FOLDER}/timm_vit.pth\", missing: \"blocks.*.gamma\")");
    let text = text(", positions: \"learned\", scale: 0.1", &from, "momentum = ema(encoder, momentum: 0.9)");
    let watched = "monitor { copy = op::mean(momentum.encoder(views.seen).tokens) }\n  train {";
    let program = compile(&text.replace("train { epochs", &format!("{watched} epochs")));
    let (arena, loaded) = begin::<f32>(&program).unwrap_or_else(|error| panic!("{error}"));
    let value = |path: &str| arena[program.layout.get(path).expect("it is there").1][0];
    assert_eq!(loaded[0].missing.len(), 4);
    assert_eq!(value("encoder.blocks.0.ls1.gamma"), 0.1);
    assert_ne!(value("encoder.norm.weight"), 1.0);
    for path in ["encoder.norm.weight", "encoder.blocks.1.attn.qkv.bias", "encoder.blocks.1.ls2.gamma"] {
        assert_eq!(value(path), value(&format!("momentum.{path}")), "{path}");
    }
    // Fixed positions are the module's own.
    let fixed = text.replace(", positions: \"learned\", scale: 0.1", "").replace("blocks.*.gamma", "x");
    let program = compile(&fixed.replace("train { epochs", &format!("{watched} epochs")));
    let (arena, loaded) = begin::<f32>(&program).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded[0].fixed, ["pos_embed"]);
    let range = program.layout.get("encoder.pos_embed").expect("it is there").1;
    assert_eq!(arena[range.clone()], init::initialise::<f32>(&program.layout, 1)[range]);
}

/// The command: `--weights`, what is told, what is kept; a run that is taken up again needs the file no more.
#[test]
fn a_run_begins_with_weights_and_goes_on_without_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("it is text").to_owned();
    let (pipeline, file, out) = (path("example.cmae"), path("vit.pth"), path("run"));
    let rest = text(LEARNED, "none", "").replace(" from none", "").replace("batch_size = 2", "batch_size = 700");
    std::fs::write(&pipeline, rest.replace("epochs = 1", "epochs = 2")).expect("it can be written");
    std::fs::copy(root(&format!("{FOLDER}/dino.pth")), &file).expect("it can be copied");
    let given = format!("encoder={file}");
    // Nothing is read where nothing is trained.
    succeed(&["check", &pipeline, "--set", "model.encoder.weights=\"nowhere.pth\""]);
    let error = fail(&["run", &pipeline, "--out", &out, "--weights", "encoder=nowhere.pth"]);
    assert!(error.contains("weights::not_found") && error.contains("this module"), "{error}");
    assert!(!Path::new(&out).exists(), "nothing was begun");
    let (_, _, said) =
        crate::command::run(&["run", &pipeline, "--out", &out, "--weights", &given, "--set", "train.epochs=1"]);
    assert!(
        said.contains("encoder: 30 tensors of") && said.contains("under `teacher.backbone.`, names of DINO"),
        "{said}"
    );
    let kept = std::fs::read_to_string(format!("{out}/weights.json")).expect("it is kept");
    assert!(kept.contains("\"blocks.1.mlp.fc2.weight\"") && kept.contains("\"outside\": 30"), "{kept}");
    std::fs::remove_file(&file).expect("it is there");
    succeed(&["run", &pipeline, "--out", &out, "--resume", "--set", "train.epochs=2", "--accept-changes"]);
    let listed = succeed(&["inspect", &format!("{FOLDER}/mae.pth")]);
    assert!(
        listed.contains("model.decoder_embed.bias")
            && listed.contains("names   mae: MAE (facebookresearch/mae), 34 of"),
        "{listed}"
    );
    assert!(fail(&["inspect", &format!("{FOLDER}/attack.pth")]).contains("posix.system"));
}
