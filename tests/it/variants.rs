//! Variants: what they set, add and take away, by the program that comes out.

use std::path::Path;

use cmae::diag::{Diagnostics, render};
use cmae::graph::Program;
use cmae::source::Sources;
use cmae::spec::Selector;

use crate::command::root;

/// The program of `example` in `text`, a file beside the shipped pipelines, with `others` beside it.
fn compiled(text: &str, others: &[(&str, &str)]) -> Program {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    sources.add_file("pipelines/example.cmae", text);
    for (path, other) in others {
        sources.add_file(*path, *other);
    }
    match cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines/example.cmae"), &[]) {
        Ok(compiled) => compiled.program,
        Err(_) => panic!("{}", render(diagnostics.list(), &sources, false)),
    }
}

fn variant(changes: &str) -> Program {
    compiled(&format!("use pipeline quickstart\n\npipeline example = quickstart with {{\n{changes}\n}}\n"), &[])
}

fn losses(program: &Program) -> Vec<&str> {
    program.train.losses.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_loss_goes_with_what_only_it_reads() {
    let whole = variant("");
    assert_eq!(losses(&whole), ["reconstruction", "contrastive"]);
    let mae = variant(
        "  remove losses.contrastive, monitor, target\n  remove model.momentum, model.projector, model.predictor\n  \
         remove model.feature_decoder, online.query, views.target",
    );
    assert_eq!(losses(&mae), ["reconstruction"]);
    assert!(mae.emas.is_empty() && mae.train.monitors.is_empty());
    assert!(mae.layout.trained_len < whole.layout.trained_len);
    assert_eq!(mae.train.inputs.iter().filter(|input| input.name.starts_with("views.")).count(), 1);
}

#[test]
fn evaluations_settings_and_arguments_go() {
    let (whole, less) = (variant(""), variant("  remove evaluate.knn, train.parameters, train.checkpoint_every"));
    assert!(whole.spec.evaluate.knn().is_some() && less.spec.evaluate.knn().is_none());
    assert!(!whole.spec.train.rules.is_empty() && less.spec.train.rules.is_empty());
    // A setting is at its default then, and so is an argument.
    assert_ne!(whole.spec.train.checkpoint_every, less.spec.train.checkpoint_every);
    let momentum = |program: &Program| program.emas[0].momentum.clone();
    let set = "  model.momentum = ema(encoder, projector, momentum: 0.9, when: after_forward)\n";
    let late = variant(set);
    let usual = variant(&format!("{set}  remove model.momentum.when"));
    assert_ne!(late.emas[0].when, usual.emas[0].when);
    assert_eq!(momentum(&late), momentum(&usual));
}

#[test]
fn a_branch_is_added_above_the_one_that_reads_it() {
    let more = variant(
        "  add branch probe {\n    mean = op::mean(views.online, axis: (1, 2, 3), keep: false)\n  }\n  \
         add monitor.brightness = op::mean(probe.mean)",
    );
    assert!(more.train.output("probe.mean").is_some());
    assert!(more.train.monitors.iter().any(|(name, _)| name == "brightness"));
}

#[test]
fn a_branch_is_replaced_loop_and_all() {
    let base = "pipeline base {\n  data { train = digits(\"train\")  channels = 1  batch_size = 8 }\n  \
        views { pair = data.train |> random_resized_crop(16px) |> normalize(mean: 0.5, std: 0.5) repeat 3 }\n  \
        model { encoder = vit(16px, 8px, embed_dim: 16, depth: 1, num_heads: 2)  head = linear(16, 8) }\n  \
        branch online for view in [views.pair[0], views.pair[1]] {\n    z = encoder(view).cls |> head\n  }\n  \
        losses { apart = op::mean(online[0].z * online[1].z) }\n  \
        train { epochs = 1  optimizer = adamw()  learning_rate = 1e-3 }\n}\n";
    let text = "use pipeline base\n\npipeline example = base with {\n  \
        branch online for view in views.pair {\n    z = encoder(view).cls |> head\n  }\n  \
        losses.apart = op::mean(online[0].z * online[2].z)\n}\n";
    let program = compiled(text, &[("pipelines/base.cmae", base)]);
    assert!(program.train.output("online.2.z").is_some());
}

#[test]
fn rules_take_the_place_of_the_bases_or_go_before_them() {
    let paths = |program: &Program| -> Vec<String> {
        let selectors = program.spec.train.rules.iter().map(|rule| match &rule.selector {
            Selector::Paths(paths) => paths.join(","),
            Selector::Roles(roles) => roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(","),
        });
        selectors.collect()
    };
    let base = paths(&variant(""));
    let rule = "parameters { path \"encoder.blocks.0.*\": learning_rate_factor = 0.1 }";
    assert_eq!(paths(&variant(rule)), ["encoder.blocks.0.*"]);
    let added = paths(&variant(&format!("add {rule}")));
    assert_eq!(added[0], "encoder.blocks.0.*");
    assert_eq!(added[1..], base);
}

#[test]
fn a_module_is_repeated() {
    let text = "  add model.extra = linear(encoder.embed_dim, encoder.embed_dim) repeat 2\n  \
        add monitor.extra = op::mean(views.online)\n  \
        losses.reconstruction = masked_pixel_mse(online.pixels, views.online, mask: online.mask, patch_size, normalize: true) \
        + 0.0 * op::mean(extra[1](extra[0](online.latent.tokens)))";
    let program = variant(text);
    assert!(program.layout.index("extra.1.weight").is_some() && program.layout.index("extra.2.weight").is_none());
}

/// What the program holds is what lies in the repository, and a folder below is reached by its path.
#[test]
fn pipelines_come_from_the_program_and_from_folders() {
    let beside = variant("  train.epochs = 3");
    let held = compiled(
        "use pipeline std::quickstart as base\n\npipeline example = base with {\n  train.epochs = 3\n}\n",
        &[],
    );
    assert_eq!(beside, held);
    let part = "use pipeline std::quickstart\n\npipeline small = quickstart with {\n  train.epochs = 3\n}\n";
    let below = compiled(
        "use pipeline parts::small\n\npipeline example = small with {\n  data.batch_size = 32\n}\n",
        &[("pipelines/parts/small.cmae", part)],
    );
    assert_eq!((below.spec.train.epochs, below.spec.data.batch_size), (3.0, 32));
    // A variant that comes with the program finds its base there.
    let held =
        compiled("use pipeline std::cmae_vitl\n\npipeline example = cmae_vitl with {\n  train.epochs = 3\n}\n", &[]);
    assert!(held.layout.index("encoder.blocks.23.norm1.weight").is_some());
}

/// All that lie in the repository, and no others.
#[test]
fn the_program_holds_every_pipeline_and_every_file_of_the_library() {
    let names = |folder: &str| -> Vec<String> {
        let files = std::fs::read_dir(root(folder)).expect("the repository is there").filter_map(|entry| {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            Some(name.strip_suffix(".cmae")?.to_owned())
        });
        let mut names: Vec<String> = files.collect();
        names.sort();
        names
    };
    assert_eq!(Sources::shipped_names().collect::<Vec<_>>(), names("pipelines"));
    assert_eq!(Sources::stdlib_modules().collect::<Vec<_>>(), names("stdlib"));
}
