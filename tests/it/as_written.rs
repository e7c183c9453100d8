//! Every file in `pipelines/` as it is written: one step with all of its depth, heads, views, loops and masks, at widths and pixels
//! that `tests/pipelines.ron` reduces by rule. At full size: `cargo test --release --test it as_written:: -- --ignored --nocapture`.
//!
//! What is reduced may change no structure: op for op, tensor for tensor, input for input the graph is that of the full size.

use std::collections::BTreeMap;
use std::time::Instant;

use cmae::backend::Wanted;
use cmae::diag::Diagnostics;
use cmae::graph::{Graph, InputKind, Program};
use cmae::op::Op;
use cmae::source::Sources;
use cmae::syntax::ast::{Argument, Entry, Expr, ExprKind, Item, SectionKind, Use};
use cmae::syntax::parse_file;
use serde::Deserialize;

use crate::command::{pipelines, root};
use crate::methods::{batch, compile, start, trainer_from};

#[derive(Deserialize)]
struct Rules {
    /// Whole numbers from here on are widths, …
    widths_from: i64,
    /// … which are divided by this.
    divisor: i64,
    /// Pixels of a patch's side; all other pixels shrink with it.
    patch: i64,
    /// Pipelines whose pixels stay, for patches of other sizes are other networks.
    whole_pictures: Vec<String>,
    /// What the rules cannot see, for a file leaves it to a block's defaults.
    more: BTreeMap<String, Vec<String>>,
    /// Parameters of a base that a variant has no use for.
    without_use: BTreeMap<String, Vec<String>>,
}

fn rules() -> Rules {
    let text = std::fs::read_to_string(root("tests/pipelines.ron")).expect("it is in the repository");
    ron::from_str(&text).unwrap_or_else(|error| panic!("tests/pipelines.ron: {error}"))
}

/// What a file and those that it builds on write, by the names that `--set` has for it: `patch_size`, `model.encoder.embed_dim`.
#[derive(Default)]
struct Written {
    settings: BTreeMap<String, Expr>,
    /// Pipelines by the names that they are imported under.
    imports: BTreeMap<String, String>,
}

impl Written {
    /// Of a file by its path below `pipelines/`; those that it builds on stand in the same folder.
    fn read(name: &str) -> Written {
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let folder = name.rfind('/').map_or("", |at| &name[..=at]);
        let id =
            sources.load(&root(&format!("pipelines/{name}.cmae"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = parse_file(&sources, id, &mut diagnostics).unwrap_or_else(|_| panic!("{name} does not parse"));
        let mut found = Written::default();
        for item in &file.items {
            match item {
                Item::Pipeline(pipeline) => {
                    pipeline.params.iter().for_each(|(name, value)| found.note(&name.text, value));
                    for section in &pipeline.sections {
                        let word = match section.kind {
                            SectionKind::Data => "data",
                            SectionKind::Model => "model",
                            _ => continue,
                        };
                        for entry in &section.entries {
                            let Entry::Binding(binding) = entry else { continue };
                            found.note(&format!("{word}.{}", binding.name.text), &binding.value);
                        }
                    }
                }
                Item::Variant(variant) => {
                    found = Written::read(&format!("{folder}{}", variant.base.text));
                    for change in &variant.overrides {
                        let path: Vec<&str> = change.path.iter().map(|name| &*name.text).collect();
                        if let Some(value) = change.value() {
                            found.note(&path.join("."), value);
                        }
                    }
                }
                Item::Block(_) | Item::Function(_) => {}
            }
        }
        let base = file.items.iter().find_map(|item| match item {
            Item::Variant(variant) => Some(&variant.base.text),
            _ => None,
        });
        for used in &file.uses {
            if let Use::Pipeline { module, alias, .. } = used
                && let [name] = &module[..]
                && base != Some(&alias.text)
            {
                found.imports.insert(alias.text.to_string(), format!("{folder}{}", name.text));
            }
        }
        found
    }

    /// Notes a definition, and the arguments of the call that it makes, in the place of what went by that name before.
    fn note(&mut self, path: &str, value: &Expr) {
        let below = format!("{path}.");
        self.settings.retain(|name, _| name != path && !name.starts_with(&below));
        if let ExprKind::Call(callee, arguments) = &value.kind {
            // `frozen(vit(…))` goes by the arguments of what it holds still.
            let is_frozen = matches!(&callee.kind, ExprKind::Path(names) if &*names[0].text == "frozen");
            let of_inner = match &arguments[..] {
                [Argument { value: Expr { kind: ExprKind::Call(_, inner), .. }, .. }] if is_frozen => Some(inner),
                _ => None,
            };
            for argument in of_inner.unwrap_or(arguments) {
                if let Some(name) = &argument.name {
                    self.settings.insert(format!("{path}.{}", name.text), argument.value.clone());
                }
            }
        }
        self.settings.insert(path.to_owned(), value.clone());
    }
}

/// Pictures from inside the binary in the place of those of a folder, three channels of them as there.
fn on_digits(written: &Written) -> Vec<String> {
    let is_folder = |value: &Expr| match &value.kind {
        ExprKind::Call(callee, _) => {
            matches!(&callee.kind, ExprKind::Path(path) if path.iter().any(|name| &*name.text == "image_folder"))
        }
        _ => false,
    };
    let folders = written.settings.iter().filter(|(name, value)| name.starts_with("data.") && is_folder(value));
    let has_maps = |value: &Expr| match &value.kind {
        ExprKind::Call(_, arguments) => {
            arguments.iter().any(|argument| argument.name.as_ref().is_some_and(|name| &*name.text == "label_maps"))
        }
        _ => false,
    };
    let instead = |(name, value): (&String, &Expr)| {
        // Pixels of digits have no classes, those of rendered objects have.
        let source = if has_maps(value) { "shapes" } else { "digits" };
        format!("{name}={source}(\"{}\")", &name[5..])
    };
    let mut sets: Vec<String> = folders.map(instead).collect();
    if !sets.is_empty() && !written.settings.contains_key("data.channels") {
        sets.push("data.channels=3".to_owned());
    }
    sets
}

/// The value at its reduced size as text; `None` where it stays. `shrink`: (from, to) of a patch's side.
fn reduced(value: &Expr, rules: &Rules, shrink: Option<(i64, i64)>) -> Option<String> {
    match &value.kind {
        ExprKind::Int(width) if *width >= rules.widths_from => Some((width / rules.divisor).to_string()),
        ExprKind::Pixels(side) => shrink.map(|(from, to)| format!("{}px", (side * to / from).max(1))),
        _ => None,
    }
}

/// The sets that make a pipeline small, its imports' among them.
fn reductions(name: &str, rules: &Rules) -> Vec<String> {
    let written = Written::read(name);
    let whole = rules.whole_pictures.iter().any(|other| other == name);
    let patch = written.settings.get("patch_size").and_then(|value| match value.kind {
        ExprKind::Pixels(side) => Some(side),
        _ => None,
    });
    let shrink = patch.filter(|_| !whole).map(|side| (side, rules.patch));
    let is_used = |setting: &String| !rules.without_use.get(name).is_some_and(|list| list.contains(setting));
    let own = written.settings.iter().filter(|(setting, _)| !setting.starts_with("data.") && is_used(setting));
    let mut sets: Vec<String> =
        own.filter_map(|(name, value)| Some(format!("{name}={}", reduced(value, rules, shrink)?))).collect();
    sets.extend(rules.more.get(name).into_iter().flatten().cloned());
    for (alias, pipeline) in &written.imports {
        sets.extend(reductions(pipeline, rules).into_iter().map(|set| format!("{alias}.{set}")));
    }
    sets
}

/// Two pictures, or as many as give k-means a row for each centre.
fn least_batch(program: &Program) -> usize {
    let pictures = program.train.initial.iter().map(|initial| {
        let ty = &program.train.node(initial.value).ty;
        let rows = ty.elements() / ty.shape.last().expect("rows have a width");
        let (centres, _) = program.layout.get(&initial.path).expect("a state has a place");
        (centres.shape[0] * program.spec.data.batch_size).div_ceil(rows)
    });
    pictures.max().unwrap_or(0).max(2)
}

/// What a graph is made of, whatever the widths of its tensors: a line for each part.
fn structure(program: &Program) -> Vec<String> {
    let mut lines = Vec::new();
    let graphs = [("train", Some(&program.train)), ("features", program.features.as_ref())];
    for (name, graph) in graphs.into_iter().chain([("pictures", program.pictures.as_ref())]) {
        lines.extend(graph.into_iter().flat_map(parts).map(|line| format!("{name}: {line}")));
    }
    for tensor in &program.layout.tensors {
        lines.push(format!("{} is {:?}, {:?}, of {} axes", tensor.path, tensor.kind, tensor.role, tensor.shape.len()));
    }
    lines.extend(program.emas.iter().map(|ema| format!("{ema:?}")));
    lines.extend(program.spec.views.iter().map(|view| format!("view {} of {} ops", view.name, view.ops.len())));
    lines
}

fn parts(graph: &Graph) -> Vec<String> {
    let mut lines = Vec::new();
    for input in &graph.inputs {
        // Of whatever size; how many are hidden, and by what rule, is structure.
        lines.push(format!("input {}: {:?}, of {} axes", input.name, input.kind, input.ty.shape.len()));
    }
    for (id, node) in graph.nodes.iter().enumerate() {
        let operands: Vec<u32> = node.inputs.iter().map(|id| id.0).collect();
        // Heads and tokens of the one, tokens of the other.
        let kept = match node.op {
            Op::Attention { .. } => &node.ty.shape[1..3],
            Op::GatherTokens => &node.ty.shape[1..2],
            _ => &[],
        };
        let (op, axes) = (node.op.name(), node.ty.shape.len());
        lines.push(format!("%{id} = {op} of {operands:?}, {axes} axes, keeps {kept:?} ; {}", node.scope));
    }
    let named = |values: &[(String, cmae::graph::ValueId)]| format!("{values:?}");
    lines.push(format!("losses {}, monitors {}", named(&graph.losses), named(&graph.monitors)));
    lines.push(format!("updates {}, outputs {}", named(&graph.updates), named(&graph.outputs)));
    lines.push(format!("total {:?}, initial {:?}", graph.total, graph.initial));
    lines
}

/// The first part in which two structures differ.
fn difference(a: &Program, b: &Program) -> Option<String> {
    let (a, b) = (structure(a), structure(b));
    let at = (0..a.len().max(b.len())).find(|at| a.get(*at) != b.get(*at))?;
    let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
    Some(format!("{}\n{}", line(&a), line(&b)))
}

/// One step of what `sets` make of a pipeline.
fn step(name: &str, sets: &[String], backend: &str) {
    let started = Instant::now();
    let program = compile(name, sets);
    let mut trainer = trainer_from::<f32>(&program, backend, 10, start(&program, sets));
    let inputs = batch(&program);
    let report = trainer
        .step_giving(&inputs, Wanted { gradients: true, ..Wanted::default() })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(report.results.total.is_finite() && !report.results.losses.is_empty(), "{name}: {:?}", report.results);
    let reached = program.train.reached(&program.layout);
    // A block that drop path leaves out of both pictures has none this time.
    let drops = program.train.inputs.iter().any(|input| input.kind == InputKind::Random);
    let still: Vec<&str> = (0..program.layout.trained())
        .filter(|at| reached[*at] && report.results.gradients[program.layout.range(*at)].iter().all(|g| *g == 0.0))
        .map(|at| program.layout.tensors[at].path.as_str())
        .filter(|path| !(drops && path.contains(".blocks.")))
        .collect();
    assert!(still.is_empty(), "{name}: no gradient arrives at {still:?}");
    println!("{name} on {}: {:.1} s", trainer.session.backend(), started.elapsed().as_secs_f64());
}

/// Runs `work` on a share of the files; all are tried, so that one run tells of every file that fails.
fn each(part: usize, parts: usize, work: impl Fn(&str)) {
    let names = pipelines();
    let mine = names.iter().skip(part).step_by(parts);
    let fails = |name: &&String| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(name))).is_err();
    let failed: Vec<&String> = mine.filter(fails).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn small(name: &str) {
    let written = Written::read(name);
    let full = compile(name, &on_digits(&written));
    let mut sets = on_digits(&written);
    sets.extend(reductions(name, &rules()));
    let reduced = compile(name, &sets);
    if let Some(difference) = difference(&full, &reduced) {
        panic!("{name} at its reduced size is another graph:\n{difference}");
    }
    let values = reduced.layout.total_len;
    assert!(values < 16_000_000, "{name} at its reduced size has {values} values, and a step takes too long");
    sets.push(format!("data.batch_size={}", least_batch(&reduced)));
    step(name, &sets, "cpu");
}

#[test]
fn every_file_takes_a_step_first_half() {
    each(0, 2, small);
}

#[test]
fn every_file_takes_a_step_second_half() {
    each(1, 2, small);
}

/// What the test above would not see if it compared nothing.
#[test]
fn another_structure_shows() {
    for (name, set, part) in [
        ("dino_vitb", "local_views=2", "input "),
        ("mae_vitb", "model.encoder.depth=11", "blocks"),
        ("mae_vitb", "mask_ratio=50%", "keeps"),
        ("mae_vitb", "model.decoder.num_heads=8", "keeps [8,"),
        ("ijepa_vitb", "target_patches=28", "input "),
        ("cmae_vitb", "model.momentum.without=none", "momentum"),
    ] {
        let written = on_digits(&Written::read(name));
        let (full, other) = (compile(name, &written), compile(name, &[&written[..], &[set.to_owned()]].concat()));
        let found = difference(&full, &other).unwrap_or_else(|| panic!("{name} with {set} looks the same"));
        assert!(found.contains(part), "{name} with {set}:\n{found}");
        assert_eq!(difference(&full, &full), None);
    }
}

#[test]
#[ignore = "minutes in release, and 13 GB"]
fn every_file_takes_a_step_at_full_size() {
    each(0, 1, |name| {
        let mut sets = on_digits(&Written::read(name));
        sets.push(format!("data.batch_size={}", least_batch(&compile(name, &sets))));
        step(name, &sets, "cpu");
    });
}
