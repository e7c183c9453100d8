//! What the words of the language mean, in a line each: sections, settings, units, and what is built in.
//!
//! **Invariant:** every setting, unit, section and built-in name has a line (a test); where there is more to say, a page of `docs/` does.

use crate::elab::OfView;

/// (word, what it means). Settings stand behind their section; arguments are told with what takes them.
const WORDS: &[(&str, &str)] = &[
    // Sections.
    (
        "section.param",
        "A number or word that `--set NAME=VALUE` and variants change. It is seen everywhere in the pipeline.",
    ),
    ("section.data", "Sources of pictures by name (`train` is trained on), and settings. Read as `data.NAME`."),
    ("section.views", "What becomes of a picture: a source and steps, or steps alone, a recipe. Read as `views.NAME`."),
    ("section.model", "Modules, each a call of a block, and averaged copies. Seen everywhere in the pipeline."),
    (
        "section.branch",
        "Values of a step: what goes through which module. Read as `BRANCH.NAME`; `for view in [a, b]` makes a list of records.",
    ),
    ("section.losses", "Scalars by name. Their sum is trained, each is logged."),
    ("section.monitor", "Scalars that are logged and have no gradient."),
    ("section.train", "Optimizer, schedules, precision, and rules for parameters."),
    ("section.evaluate", "Features and what is made of them; modules work in mode `eval` here."),
    ("section.export", "The module whose weights `cmaec export` writes."),
    ("section.parameters", "Rules, by role or path of parameters; for each setting the first that matches counts."),
    ("section.pipeline", "An experiment: data, views, modules, branches, losses, training."),
    ("section.block", "A module with parameters: its head binds tensors and modules, `forward` says what it computes."),
    ("section.fn", "A function of tensors and values known before the run."),
    ("section.use", "Brings in items of another file. The standard library's need none."),
    ("section.forward", "What the block computes; the last expression is given."),
    ("section.require", "An error of one's own: `require CONDITION, \"message\", \"what to write instead\"`."),
    ("section.state", "A tensor of a block that `update` writes after the step's values were read; no gradient."),
    ("section.update", "Gives a state its value for the next step."),
    ("section.repeat", "`BLOCK(…) repeat n as i` makes a list of modules, each with its own weights."),
    (
        "section.from",
        "`encoder = vit(…) from weights(\"FILE\")`: the module begins with weights that were trained elsewhere.",
    ),
    ("section.when", "Leaves the definition out where the condition does not hold."),
    // Units.
    ("unit.%", "A ratio: `75%` is 0.75. Where a duration is wanted, a share of the run."),
    ("unit.px", "Pixels along a side of a picture: `16px`. A size is one length or a pair `(16px, 32px)`."),
    ("unit.epochs", "A duration: passes over `data.train`. `0.5 epochs` is a part of one."),
    ("unit.steps", "A duration: updates of the weights, one a batch."),
    // Settings.
    ("data.batch_size", "Samples of a step, whatever a machine or a number of them computes at once."),
    ("data.channels", "Channels of the pictures: 3, 1 for gray, more for arrays. By default 3."),
    ("data.prefetch_batches", "Batches that may stand ready, as far as 2 GiB have room. By default 4."),
    ("data.max_broken", "Share of broken pictures past which training stops. By default 1%."),
    ("data.max_pixels", "Pixels past which a picture is broken. By default 178956970."),
    ("train.epochs", "How long the run is, in passes over `data.train`."),
    ("train.optimizer", "`adamw(…)`, `sgd(…)` or `lars(…)`."),
    ("train.learning_rate", "A number, or a schedule: `cosine(base: 1.5e-4, per: 256, warmup: 40 epochs)`."),
    (
        "train.clip",
        "`global_norm(3.0)`: one norm over all gradients; `each_norm(3.0)`: one a tensor. By default `none`.",
    ),
    (
        "train.precision",
        "`f32`, `bf16` (products of layers; norms, losses and weights stay in f32), or `f64`. By default `f32`.",
    ),
    (
        "train.residual",
        "With `bf16` on NVIDIA: what sums along blocks are stored in, `bf16` or `f32`. By default `bf16`.",
    ),
    (
        "train.recompute",
        "`blocks` computes the insides of blocks again on the way back: less memory, a fifth more products. By default `none`.",
    ),
    (
        "train.micro_batch",
        "Samples that are computed at once: the machine's choice, `auto`, or a divisor of the batch. The step is that of the whole batch.",
    ),
    ("train.shard_optimizer", "Whether ranks share out what the optimizer keeps: `auto`, `true` or `false`."),
    ("train.seed", "Of everything random. By default 0."),
    ("train.checkpoint_every", "How often the run is saved. By default `1 epochs`."),
    ("train.keep", "Checkpoints that are kept. By default 3."),
    ("train.log_every_steps", "Steps between two lines of metrics. By default 1."),
    (
        "evaluate.classify",
        "Judges logits by the classes of pictures: top-1 and top-5, cross entropy, who is taken for whom, calibration: `classify(features |> head, every: 1 epochs)`.",
    ),
    (
        "evaluate.knn",
        "Judges features by their nearest neighbours, beside the untrained encoder, raw pixels and chance: `knn(features, every: 10 epochs)`.",
    ),
    (
        "evaluate.linear",
        "Judges features by linear classifiers that are trained on them, for several learning rates side by side: `linear(features, every: 50 epochs)`.",
    ),
    (
        "evaluate.segment",
        "Judges logits of pixels by a label map: mean IoU, accuracy of pixels and classes: `segment(logits, op::label_map(views.eval, classes), every: 1 epochs)`.",
    ),
    (
        "evaluate.reconstructions",
        "Pictures of what is reconstructed: `reconstructions(reconstruction(…), view: views.online, every: 5 epochs)`.",
    ),
    ("evaluate.batch_size", "Pictures at once, 256 at most. By default `auto`."),
    ("evaluate.features", "[B, D]: what `knn` and `linear` judge, `cmaec features` writes, and the map shows."),
    ("rule.weight_decay", "Weight decay of the parameters that the rule matches."),
    ("rule.learning_rate", "Learning rate of the parameters that the rule matches."),
    (
        "rule.learning_rate_factor",
        "Times the learning rate, for the parameters that the rule matches: `pow(0.65, 12 - i)` decays by layers.",
    ),
    ("rule.adaptation", "Whether `lars` adapts the rate of these parameters."),
    (
        "rule.frozen_until",
        "The parameters that the rule matches stay as they are until then: `frozen_until = 1 epochs`.",
    ),
    ("role.weight", "Role of a parameter: weights of layers, which rules go by."),
    ("role.bias", "Role of a parameter: biases, which rules go by."),
    ("role.norm", "Role of a parameter: gains and biases of norms, which rules go by."),
    ("role.token", "Role of a parameter: class and mask tokens, which rules go by."),
    ("role.position", "Role of a parameter: positions, which rules go by."),
    // Types.
    ("type.int", "A whole number."),
    ("type.float", "A number."),
    ("type.ratio", "A ratio from 0% to 100%: `75%`."),
    ("type.number", "A number, a schedule, or a scalar that the step computes."),
    ("type.size", "A length in pixels, or two: `224px`, `(24px, 40px)`."),
    ("type.px", "A length in pixels."),
    ("type.bool", "`true` or `false`."),
    ("type.string", "A text in quotes."),
    ("type.tuple", "Values in parentheses: `(6, 10)`."),
    ("type.list", "Values in brackets: `[a, b]`."),
    ("type.record", "Values by name: `{ mask: m }`."),
    ("type.tensor", "A tensor of any shape."),
    ("type.init", "An initial value: `zeros`, `xavier_uniform`, `normal(0.02)`."),
    ("type.schedule", "A number that changes over the run, or a constant one."),
    ("type.view", "A recipe that gives one view."),
    ("type.views", "A recipe that gives a list of views."),
    ("type.any", "Any value."),
    // Sources.
    ("image_folder", "Pictures (JPEG, PNG, WebP, GIF, BMP, TIFF) in `PATH/CLASS/` at any depth, or all in `PATH`."),
    ("cifar10", "The binary version of CIFAR-10, unpacked; `split: \"val\"` is the published test batch."),
    ("cifar100", "The binary version of CIFAR-100, unpacked; `split: \"val\"` is the published test batch."),
    ("idx", "MNIST and its kind: unsigned bytes of one channel, plain or compressed by gzip."),
    ("npy", "An array a picture, `[H, W, C]` or `[C, H, W]`; uint8, uint16 or float32."),
    ("tar_shards", "Tar files as WebDataset has them: one, a range in braces, or all `.tar` of a folder."),
    ("parquet", "Parquet files as Hugging Face's `datasets` writes them."),
    ("digits", "1,797 handwritten digits that come with the program: `digits(\"train\")`, `digits(\"val\")`."),
    ("shapes", "Rendered pictures, as many as one asks for."),
    // Steps of views.
    ("random_resized_crop", "Cuts a box of random area and aspect, and resizes it."),
    ("random_crop", "Cuts a box of random area and aspect, and leaves its size."),
    ("resize", "Resizes: one length is the short side's, two are both sides."),
    ("center_crop", "Cuts the middle out."),
    ("crop", "Cuts a box at a place: `crop(224px, at: (0px, 0px))`."),
    ("random_shift", "Cuts a box at a random place, `by` so many pixels from the corner: the target view of CMAE."),
    ("random_flip", "Flips left and right, by chance."),
    ("random_apply", "Does a step by chance: `random_apply(80%, color_jitter(…))`."),
    ("color_jitter", "Changes brightness, contrast, saturation and hue, in random order."),
    ("random_grayscale", "Takes the colour away, by chance."),
    ("gaussian_blur", "Blurs, by a random width: `gaussian_blur(sigma: 0.1..2.0)`."),
    ("solarize", "Inverts what is brighter than the threshold."),
    ("rand_augment", "Does operations drawn from fourteen (arXiv 1909.13719)."),
    ("random_erasing", "Fills a random box with a level or with noise (arXiv 1708.04896)."),
    ("normalize", "Takes the mean away and divides by the deviation: `normalize(imagenet)`. The last step."),
    // Optimizers, schedules, clipping.
    ("adamw", "AdamW: decoupled weight decay (Loshchilov & Hutter 2019)."),
    ("sgd", "Stochastic gradient descent with momentum."),
    ("lars", "Layer-wise adaptive rates (You et al. 2017)."),
    (
        "weights",
        "Weights of a safetensors file or a checkpoint of PyTorch, behind `from`; read when a run starts. `missing` and `unexpected` are \
         patterns of tensors that one of both sides may lack.",
    ),
    ("global_norm", "Bounds the norm of all gradients together."),
    ("each_norm", "Bounds the norm of each tensor's gradient."),
    ("cosine", "Warm-up, then half a cosine down to `end`; peaks at `base`, or at `base · batch_size / per`."),
    ("ramp", "Goes from one number to another over the run: a momentum, a temperature."),
    ("steps", "Falls by `factor` at each of the moments `at`."),
    // Initial values.
    ("zeros", "Initial value: 0 everywhere."),
    ("ones", "Initial value: 1 everywhere."),
    ("constant", "Initial value: one number everywhere."),
    ("normal", "Initial value: normal, mean 0."),
    ("trunc_normal", "Initial value: normal, drawn anew outside `cut` deviations."),
    ("xavier_uniform", "Initial value: uniform within ±√(6 / (inputs + outputs))."),
    ("fan_in_uniform", "Initial value: uniform within ±1/√inputs."),
    ("sincos_2d", "Initial value: fixed positions of sines and cosines, for a grid of patches."),
    ("kmeans", "A state's first value: the centres of the first batch's rows."),
    // Functions of values known before the run.
    ("floor", "The whole number below."),
    ("ceil", "The whole number above."),
    ("sqrt", "The square root."),
    ("exp", "e to a power."),
    ("log", "The natural logarithm."),
    ("whole", "A whole number, or an error: `whole(a / b)` where `b` must divide `a`."),
    ("min", "The smaller of two."),
    ("max", "The larger of two."),
    ("pow", "A number to a power."),
    ("pair", "One length as height and width."),
    ("len", "How many items a list has."),
    ("sum", "The sum of a list's items: `sum(f(x) for x in list)`."),
    ("mean", "The mean of a list's items: `mean(f(x) for x in list)`."),
    // Modules and gradients.
    ("ema", "Averaged copies of modules, without gradient, moved after each step: `ema(encoder, momentum: 0.996)`."),
    ("frozen", "A module whose parameters stay as they are; gradient passes through."),
    ("stop_gradient", "The value, through which no gradient passes."),
    // Words.
    ("imagenet", "Mean and deviation of ImageNet's channels, for `normalize`."),
    ("auto", "The machine's choice."),
    ("f32", "Numbers of 32 bits."),
    ("f64", "Numbers of 64 bits."),
    ("bf16", "Numbers of 16 bits with the range of f32."),
    ("blocks", "Recomputes the insides of blocks."),
    ("bilinear", "Interpolation by the four nearest pixels."),
    ("bicubic", "Interpolation by sixteen pixels, with antialiasing."),
    ("lanczos", "Interpolation by a windowed sinc."),
    ("before_forward", "The copies move before the forward pass."),
    ("after_forward", "The copies move between the forward pass and the update."),
    ("after_step", "The copies move after the update of the weights."),
    ("training", "Whether this is training: `false` in evaluation and in frozen modules."),
];

/// What a word means.
pub fn about(word: &str) -> Option<&'static str> {
    let own = WORDS.iter().find(|(known, _)| *known == word).map(|(_, about)| *about);
    own.or_else(|| {
        let op = word.strip_prefix("op::")?;
        OfView::named(op).map(OfView::about).or_else(|| crate::shape::op_about(op))
    })
}

/// Parameters of a word that is called, `?` behind those that may be left out.
pub fn parameters(word: &str) -> Option<&'static [&'static str]> {
    match word.strip_prefix("op::") {
        Some(op) => OfView::named(op).map(OfView::parameters).or_else(|| crate::shape::op_signature(op)),
        None => match word {
            "evaluate.classify" => Some(crate::shape::CLASSIFY),
            "evaluate.knn" => Some(crate::shape::KNN),
            "evaluate.linear" => Some(crate::shape::LINEAR),
            "evaluate.segment" => Some(crate::shape::SEGMENT),
            "evaluate.reconstructions" => Some(crate::shape::RECONSTRUCTIONS),
            _ => crate::elab::builtin_parameters(word),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elab;
    use crate::spec::Role;

    #[test]
    fn every_word_has_a_line() {
        let settings = |section: &'static str, names: &'static [&'static str]| {
            names.iter().map(move |name| format!("{section}.{name}"))
        };
        let asked = settings("train", &elab::TRAIN_SETTINGS)
            .chain(settings("data", &elab::DATA_SETTINGS))
            .chain(settings("evaluate", &elab::EVALUATION_CALLS))
            .chain(settings("type", elab::TYPES))
            .chain(Role::ALL.iter().map(|role| format!("role.{}", role.name())))
            .chain(elab::builtin_names().map(str::to_owned))
            .chain(crate::shape::op_names().into_iter().map(|op| format!("op::{op}")));
        let missing: Vec<String> = asked.filter(|word| about(word).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
