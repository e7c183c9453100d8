//! Patterns, mappings, files, tolerances and comparisons, each by itself; and the shipped mappings with their files.

use std::path::{Path, PathBuf};

use cmae::graph::{Graph, Init, Layout, Node, TensorDecl, TensorKind};
use cmae::op::{Op, Type};
use cmae::pattern::{Pattern, PatternError, closest};
use cmae::spec::Role;
use cmae::verify::compare::{Absolute, Comparison, compare};
use cmae::verify::file::{NullGradient, Tensor, Values};
use cmae::verify::links::Links;
use cmae::verify::map::{FixedPositions, MapError};
use cmae::verify::tolerance::Tolerances;
use cmae::verify::{Fixture, Map, Mode, Tolerance};

use super::toy;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("sound")
}

#[test]
fn patterns_match_whole_names() {
    let filled = |from: &str, to: &str, name: &str| pattern(from).matches(name).map(|b| pattern(to).fill(&b));
    let qkv = "encoder.blocks.{i}.attn.qkv.{rest}";
    let query = "vit.layers.{i}.attention.q_proj.{rest}";
    let found = filled(qkv, query, "encoder.blocks.11.attn.qkv.weight");
    assert_eq!(found.as_deref(), Some("vit.layers.11.attention.q_proj.weight"));
    assert_eq!(filled(qkv, query, "encoder.blocks.11.12.attn.qkv.weight"), None, "{{i}} is one component");
    assert_eq!(filled(qkv, query, "encoder.blocks.11.attn.qkv"), None);
    assert_eq!(filled(qkv, query, "x.encoder.blocks.11.attn.qkv.weight"), None);
    assert_eq!(filled("{rest}", "target.{rest}", "a.b.c").as_deref(), Some("target.a.b.c"));
    assert_eq!(filled("{rest}.bias", "{rest}.b", "a.bias.bias").as_deref(), Some("a.bias.b"), "it tries further");
    assert_eq!(filled("{i}.{i}", "{i}", "a.a").as_deref(), Some("a"));
    assert_eq!(filled("{i}.{i}", "{i}", "a.b"), None, "one name, one text");
    assert_eq!(filled("{rest}", "{rest}", ""), None);
    assert_eq!(pattern("a.{i}.{rest}.{i}").placeholders(), ["i", "rest"]);

    assert!(matches!(Pattern::parse("a.{i"), Err(PatternError::Brace { .. })));
    assert!(matches!(Pattern::parse("a.i}"), Err(PatternError::Brace { .. })));
    assert!(matches!(Pattern::parse("a.{{i}}"), Err(PatternError::Brace { .. })));
    assert!(matches!(Pattern::parse("a.{ }"), Err(PatternError::Unnamed { .. })));
    assert_eq!(closest("encoder.nrom", ["encoder.norm", "decoder"]).as_deref(), Some("encoder.norm"));
    assert_eq!(closest("zzz", ["encoder.norm"]), None);
}

#[test]
fn mappings_are_read_and_checked() {
    let map = Map::parse(r#"(pipeline: "p.cmae", mode: Eval)"#).expect("the rest may be left out");
    assert_eq!((map.mode, map.fixed, map.steps), (Mode::Eval, FixedPositions::Compare, None));
    let some = Map::parse(r#"(pipeline: "p.cmae", mode: Train, steps: Some("steps"))"#).expect("`Some` is allowed");
    let bare = Map::parse(r#"(pipeline: "p.cmae", mode: Train, steps: "steps")"#).expect("and not needed");
    assert_eq!(some, bare);

    let rules = |rule: &str| Map::parse(&format!(r#"(pipeline: "p", mode: Train, tensors: [{rule}])"#));
    assert!(matches!(rules(r#"("a.{i}", [])"#), Err(MapError::NoNames { .. })));
    let error = rules(r#"("a.{i}", ["b.{j}"])"#).expect_err("{j} holds nothing");
    assert_eq!(error.to_string(), "`b.{j}` uses `{j}`, which `a.{i}` does not have (help: use one of {i})");
    let error = Map::parse("(pipeline: \"p\",\n mode: Trian)").expect_err("a typing error");
    assert!(matches!(error, MapError::Syntax { line: 2, .. }), "{error}");
    let error = Map::parse(r#"(pipeline: "p", mode: Train, outptus: [])"#).expect_err("a typing error").to_string();
    assert!(error.contains("outptus"), "{error}");
}

#[test]
fn files_give_config_and_null_gradients() {
    let file = Fixture::parse(&toy::fixture_bytes()).expect("sound");
    assert_eq!(file.config.lookup("adamw.lr").expect("there").as_f64(), Some(0.001));
    assert_eq!(file.config.lookup("image_size[1]").expect("there").as_u64(), Some(24));
    let error = file.config.lookup("step").expect_err("not there").to_string();
    assert_eq!(error, "the file's config has no `step` (in `step`) (help: did you mean `steps`?)");
    assert!(file.config.lookup("image_size[2]").is_err());

    let null = |text: &str| NullGradient::parse(text);
    assert_eq!(file.null_gradients, [null("bias[0:2]").expect("sound")]);
    assert_eq!(null("a.bias").expect("sound").range, None);
    assert_eq!(null("a.bias[32:64]").expect("sound").range, Some(32..64));
    for wrong in ["a[3]", "a[3:2]", "a[x:2]", "a]"] {
        assert_eq!(null(wrong), None, "{wrong}");
    }
    assert!(Fixture::parse(b"no").is_err());
}

#[test]
fn the_most_particular_tolerance_counts() {
    let of = |max: f64| Tolerance { max, rms: max };
    let groups = ["expect", "after", "after.*.running_mean", "after.target", "after1", "grad.*.bn?"];
    let groups = groups.iter().enumerate().map(|(i, group)| ((*group).to_owned(), of(i as f64))).collect();
    let tolerances = Tolerances { groups };
    for (name, group) in [
        ("expect.key", "expect"),
        ("after.encoder.norm.bias", "after"),
        ("after.target.encoder.norm.bias", "after.target"),
        ("after.projector.bn0.running_mean", "after.*.running_mean"),
        ("after.target.projector.bn0.running_mean", "after.*.running_mean"),
        ("after.target.projector.bn0.running_var", "after.target"),
        ("after.targets.norm", "after"),
        ("after1.target.projector.bn0.running_mean", "after1"),
        ("grad.encoder.norm", "default"),
    ] {
        assert_eq!(tolerances.of(name).0, group, "{name}");
    }
    assert_eq!(tolerances.of("grad.x").1, Tolerance::DEFAULT);
}

fn floats(values: &[f64]) -> Tensor {
    Tensor { shape: vec![values.len()], values: Values::Float(values.to_vec()) }
}

fn compared(found: &[f64], reference: &[f64], absolute: Option<&Absolute>) -> Comparison {
    let tolerance = Tolerance { max: 0.1, rms: 0.1 };
    compare("x", &floats(found), &floats(reference), ("group", tolerance), absolute)
}

#[test]
fn distances_are_relative_to_the_reference() {
    let row = compared(&[3.0, 4.5], &[3.0, 4.0], None);
    assert_eq!((row.max_abs, row.max_rel, row.rms_rel, row.ok), (0.5, 0.125, 0.1, false));
    assert_eq!(row.share, 1.25);
    assert!(compared(&[3.0, 4.375], &[3.0, 4.0], None).ok);
    // Zero is met by zero alone.
    assert!(compared(&[0.0, 0.0], &[0.0, 0.0], None).ok);
    assert!(!compared(&[0.0, 1e-30], &[0.0, 0.0], None).ok);
}

#[test]
fn what_is_not_a_number_never_passes() {
    for (found, reference) in [
        (f64::NAN, 1.0),
        (1.0, f64::NAN),
        (f64::NAN, f64::NAN),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, 1.0),
    ] {
        let row = compared(&[1.0, found], &[1.0, reference], None);
        assert!(!row.ok, "{found} against {reference}");
        assert!(row.note.is_some());
        let everywhere = Absolute { ranges: vec![0..2], tolerance: f64::INFINITY, with_zero: true };
        assert!(!compared(&[1.0, found], &[1.0, reference], Some(&everywhere)).ok);
    }
}

#[test]
fn null_slices_are_compared_with_zero_and_left_out_of_the_rest() {
    let null = Absolute { ranges: vec![1..3], tolerance: 1e-3, with_zero: true };
    let row = compared(&[1.0, 9e-4, -9e-4, 2.0], &[1.0, 1e-12, 1e-12, 2.0], Some(&null));
    assert!(row.ok);
    assert_eq!((row.max_rel, row.absolute), (0.0, Some((9e-4, 1e-3))));
    assert!(!compared(&[1.0, 2e-3, 0.0, 2.0], &[1.0, 0.0, 0.0, 2.0], Some(&null)).ok, "beyond the tolerance");
    assert!(!compared(&[1.5, 0.0, 0.0, 2.0], &[1.0, 0.0, 0.0, 2.0], Some(&null)).ok, "the rest counts");
    let state = Absolute { with_zero: false, ..null };
    assert!(compared(&[1.0, 5.0005, 5.0, 2.0], &[1.0, 5.0, 5.0, 2.0], Some(&state)).ok);
    assert!(!compared(&[1.0, 5.002, 5.0, 2.0], &[1.0, 5.0, 5.0, 2.0], Some(&state)).ok);
}

#[test]
fn shapes_and_ids_are_exact() {
    let tolerance = ("group", Tolerance { max: 10.0, rms: 10.0 });
    let column = Tensor { shape: vec![2, 1], values: Values::Float(vec![1.0, 2.0]) };
    let row = compare("x", &column, &floats(&[1.0, 2.0]), tolerance, None);
    assert_eq!((row.ok, row.note.as_deref()), (false, Some("shape [2, 1], expected [2]")));
    let ids = |values: &[i64]| Tensor { shape: vec![values.len()], values: Values::Int(values.to_vec()) };
    assert!(compare("x", &ids(&[1, 2]), &ids(&[1, 2]), tolerance, None).ok);
    let row = compare("x", &ids(&[1, 3]), &ids(&[1, 2]), tolerance, None);
    assert_eq!((row.ok, row.note.as_deref()), (false, Some("1 of 2 values differ, none may")));
    assert!(compare("x", &floats(&[1.0, 2.0]), &ids(&[1, 2]), tolerance, None).ok, "a mask of floats");
    assert!(!compare("x", &floats(&[1.0, f64::NAN]), &ids(&[1, 2]), tolerance, None).ok);
}

/// A layout of `tensors` and a graph that reads all of them.
fn reading(tensors: Vec<(String, Vec<usize>)>) -> (Layout, Graph) {
    let decl =
        |(path, shape)| TensorDecl { path, shape, role: Role::Weight, kind: TensorKind::Trained, init: Init::Zeros };
    let layout = Layout::new(tensors.into_iter().map(decl).collect());
    let node = |t: &TensorDecl| Node {
        op: Op::Param { path: t.path.clone() },
        inputs: vec![],
        ty: Type::float(t.shape.clone()),
        scope: String::new(),
    };
    let graph = Graph { nodes: layout.tensors.iter().map(node).collect(), ..Graph::default() };
    (layout, graph)
}

/// Tensors of a stack of blocks below `prefix`, as timm names them.
fn blocks(prefix: &str, depth: usize, dim: usize) -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    for i in 0..depth {
        for (name, shape) in [
            ("norm1", vec![dim]),
            ("attn.qkv", vec![3 * dim, dim]),
            ("attn.proj", vec![dim, dim]),
            ("norm2", vec![dim]),
            ("mlp.fc1", vec![4 * dim, dim]),
            ("mlp.fc2", vec![dim, 4 * dim]),
        ] {
            all.push((format!("{prefix}.blocks.{i}.{name}.bias"), vec![shape[0]]));
            all.push((format!("{prefix}.blocks.{i}.{name}.weight"), shape));
        }
    }
    for name in ["bias", "weight"] {
        all.push((format!("{prefix}.norm.{name}"), vec![dim]));
    }
    all
}

fn encoder(depth: usize, dim: usize) -> Vec<(String, Vec<usize>)> {
    let mut all = blocks("encoder", depth, dim);
    all.push(("encoder.cls_token".to_owned(), vec![1, 1, dim]));
    all.push(("encoder.pos_embed".to_owned(), vec![1, 65, dim]));
    all.push(("encoder.patch_embed.proj.weight".to_owned(), vec![dim, 3, 4, 4]));
    all.push(("encoder.patch_embed.proj.bias".to_owned(), vec![dim]));
    all
}

/// Links a layout by a shipped mapping and checks that every weight of its file is linked.
fn link(name: &str, tensors: Vec<(String, Vec<usize>)>) -> (Layout, Links, Fixture) {
    let text = std::fs::read_to_string(golden(&format!("maps/{name}.ron"))).expect("it is in the repository");
    let map = Map::parse(&text).expect("shipped mappings are sound");
    let file = Fixture::read(&golden(&format!("{name}.safetensors"))).expect("it is in the repository");
    let (layout, graph) = reading(tensors);
    let mut problems = Vec::new();
    let rules = map.rules().expect("checked when parsed");
    let links = Links::new(&layout, &graph, &rules, &map.reshape, &file, &mut problems);
    assert_eq!(problems, []);
    for (weight, _) in file.section("weights") {
        assert!(links.place(weight).is_some(), "{name}: weights.{weight} is not linked");
    }
    for (_, tensor) in
        map.inputs.iter().map(|(input, tensor)| (input, tensor)).chain(map.outputs.iter().map(|(t, v)| (v, t)))
    {
        assert!(file.tensor(tensor).is_some(), "{name}: {tensor} is not in the file");
    }
    (layout, links, file)
}

#[test]
fn the_mapping_of_transformers_joins_query_key_and_value() {
    let mut tensors = encoder(2, 48);
    tensors.extend(blocks("decoder", 2, 32));
    for (name, shape) in [
        ("embed.weight", vec![32, 48]),
        ("embed.bias", vec![32]),
        ("mask_token", vec![1, 1, 32]),
        ("pos_embed", vec![1, 65, 32]),
        ("pred.weight", vec![48, 32]),
        ("pred.bias", vec![48]),
    ] {
        tensors.push((format!("decoder.{name}"), shape));
    }
    let (layout, links, file) = link("mae_hf", tensors);
    let key = links.place("vit.layers.1.attention.k_proj.weight").expect("linked");
    assert_eq!(layout.tensors[key.index].path, "encoder.blocks.1.attn.qkv.weight");
    assert_eq!(key.range, 48 * 48..2 * 48 * 48);

    let mut arena = vec![f32::NAN; layout.total_len];
    links.load(&layout, &file, &mut arena);
    assert!(arena.iter().all(|x| x.is_finite()), "every value is loaded");
    let (_, range) = layout.get("encoder.blocks.1.attn.qkv.bias").expect("declared");
    let value = file.tensor("weights.vit.layers.1.attention.v_proj.bias").expect("in the file").values.to_f64();
    assert_eq!(f64::from(arena[range.start + 2 * 48 + 5]), value[5]);
}

#[test]
fn the_mapping_of_timm_fits_its_file() {
    let (layout, links, _) = link("vit_timm", encoder(3, 48));
    let place = links.place("blocks.2.attn.qkv.weight").expect("linked");
    assert_eq!(layout.tensors[place.index].path, "encoder.blocks.2.attn.qkv.weight");
}

#[test]
fn the_mappings_of_cmae_fit_their_files() {
    for name in ["cmae_random", "cmae_grid2"] {
        let file = Fixture::read(&golden(&format!("{name}.safetensors"))).expect("it is in the repository");
        let path = |weight: &str| match weight.strip_prefix("target.") {
            Some(rest) => format!("momentum.{rest}"),
            None => weight.to_owned(),
        };
        let tensors = file.section("weights").map(|(weight, tensor)| (path(weight), tensor.shape.clone())).collect();
        let (layout, links, file) = link(name, tensors);
        let place = links.place("target.projector.fc0.weight").expect("linked");
        assert_eq!(layout.tensors[place.index].path, "momentum.projector.fc0.weight");
        for section in ["grad", "after", "after1"] {
            assert!(file.section(section).all(|(weight, _)| links.place(weight).is_some()), "{name}: {section}");
        }
        for null in &file.null_gradients {
            let place = links.place(&null.name).expect("null gradients are of weights");
            assert!(null.range.as_ref().is_none_or(|range| range.end <= place.range.len()));
        }
    }
}
