//! Masks made of blocks, where views lie in their source, and what a mask hides.

use std::borrow::Cow;
use std::collections::BTreeSet;

use cmae::backend::{Compute, Request};
use cmae::data::Image;
use cmae::data::mask::{block_mask, multi_block};
use cmae::data::rng::{Key, Stream};
use cmae::data::view::{self, Draw, geometry::Geometry};
use cmae::diag::Diagnostics;
use cmae::graph::{BlockMask, MultiBlock};
use cmae::source::Sources;
use cmae::spec::{Interpolation, ViewOp};
use cmae::tensor::{InputValue, OutputValue};
use cmae::train::init;

use crate::command::root;

fn stream(sample: u64) -> Stream {
    Key { seed: 5, epoch: 0, sample }.stream("masks")
}

fn beit() -> BlockMask {
    let aspect = (0.3, 1.0 / 0.3);
    BlockMask {
        rows: 14,
        columns: 14,
        removed: vec![(75.0, 75.0)],
        min_patches: 16,
        max_patches: 196,
        aspect,
        exact: false,
    }
}

fn removed(mask: &[f32]) -> usize {
    assert!(mask.iter().all(|m| *m == 0.0 || *m == 1.0));
    mask.iter().filter(|m| **m == 1.0).count()
}

#[test]
fn blocks_remove_at_most_what_is_asked_or_exactly() {
    let counts: Vec<usize> = (0..300).map(|i| removed(&block_mask(&beit(), &mut stream(i)))).collect();
    assert!(counts.iter().all(|c| (16..=75).contains(c)), "{counts:?}");
    // The published rule comes close to what is asked for: most images lack less than the smallest block.
    assert!(counts.iter().filter(|c| **c > 59).count() > 200, "{counts:?}");
    for wanted in [1, 9, 75, 118, 195] {
        let exact = BlockMask { removed: vec![(wanted as f64, wanted as f64)], exact: true, ..beit() };
        assert!((0..50).all(|i| removed(&block_mask(&exact, &mut stream(i))) == wanted), "{wanted}");
    }
}

/// Of 15 patches, twice as high as wide: √30 rows and √7.5 columns, rounded to 5 and 3.
#[test]
fn a_blocks_sides_are_rounded() {
    let aspect = (2.0, 2.0);
    let one = BlockMask { removed: vec![(15.0, 15.0)], min_patches: 15, max_patches: 15, aspect, ..beit() };
    for i in 0..40 {
        let mask = block_mask(&one, &mut stream(i));
        let rows: BTreeSet<usize> = (0..196).filter(|id| mask[*id] == 1.0).map(|id| id / 14).collect();
        let columns: BTreeSet<usize> = (0..196).filter(|id| mask[*id] == 1.0).map(|id| id % 14).collect();
        assert_eq!((removed(&mask), rows.len(), columns.len()), (15, 5, 3));
    }
}

#[test]
fn removed_patches_lie_together() {
    // Of a random mask of 75 patches about 38 % of a removed patch's right neighbours are removed, of blocks most.
    let (mut pairs, mut both) = (0.0, 0.0);
    for i in 0..200 {
        let mask = block_mask(&beit(), &mut stream(i));
        for row in mask.chunks(14) {
            pairs += row[..13].iter().sum::<f32>();
            both += row.windows(2).map(|w| w[0] * w[1]).sum::<f32>();
        }
    }
    assert!(both / pairs > 0.7, "{}", both / pairs);
}

#[test]
fn one_of_several_ranges_is_chosen_for_each_image() {
    let choice = BlockMask { removed: vec![(0.0, 0.0), (19.6, 98.0)], ..beit() };
    let counts: Vec<usize> = (0..400).map(|i| removed(&block_mask(&choice, &mut stream(i)))).collect();
    let none = counts.iter().filter(|c| **c == 0).count();
    assert!((150..250).contains(&none), "half of the images have no mask: {none}");
    assert!(counts.iter().all(|c| *c <= 98));
}

fn ijepa() -> MultiBlock {
    MultiBlock {
        rows: 14,
        columns: 14,
        targets: 4,
        target_patches: 29,
        target_scale: (0.15, 0.2),
        target_aspect: (0.75, 1.5),
        context_patches: 60,
        context_scale: (0.85, 1.0),
        margin: 0,
    }
}

#[test]
fn multi_blocks_have_their_counts_and_the_context_avoids_the_targets() {
    for i in 0..200 {
        let ids: Vec<usize> = multi_block(&ijepa(), &mut stream(i)).into_iter().map(|id| id as usize).collect();
        assert_eq!(ids.len(), 60 + 4 * 29);
        let context: BTreeSet<usize> = ids[..60].iter().copied().collect();
        assert_eq!(context.len(), 60, "no patch twice");
        assert!(ids[..60].is_sorted());
        for target in ids[60..].chunks(29) {
            assert!(target.windows(2).all(|w| w[0] < w[1]) && target[28] < 196);
            assert!(target.iter().all(|id| !context.contains(id)));
            let span = |side: &dyn Fn(usize) -> usize| {
                let places: BTreeSet<usize> = target.iter().map(|id| side(*id)).collect();
                places.last().unwrap_or(&0) - places.first().unwrap_or(&0) + 1
            };
            // The largest block is 8 × 5.
            assert!(span(&|id| id / 14) * span(&|id| id % 14) <= 42, "a target lies in one block");
        }
    }
    // A block too small makes up for it with patches that are in no target, as long as there are any.
    let small = MultiBlock { context_scale: (0.3, 0.3), ..ijepa() };
    for i in 0..200 {
        let ids: Vec<usize> = multi_block(&small, &mut stream(i)).into_iter().map(|id| id as usize).collect();
        let context: BTreeSet<usize> = ids[..60].iter().copied().collect();
        assert!(context.len() == 60 && ids[60..].iter().all(|id| !context.contains(id)), "{ids:?}");
    }
    // Where targets cover nearly all, the counts hold all the same.
    let tight = MultiBlock { rows: 4, columns: 4, target_patches: 4, context_patches: 9, ..ijepa() };
    for i in 0..100 {
        let ids = multi_block(&tight, &mut stream(i));
        let context: BTreeSet<u32> = ids[..9].iter().map(|id| *id as u32).collect();
        assert_eq!((ids.len(), context.len()), (9 + 16, 9));
    }
}

/// Blocks of one sample as (context, targets), each a list of (row, column).
type Blocks = (Vec<(usize, usize)>, Vec<Vec<(usize, usize)>>);

/// `MaskCollator` of facebookresearch/ijepa for a batch of one, before anything is cut to a count. `past` is 0 as in its code, whose
/// bound `randint(0, height − h)` never gives the last place, and 1 where that place counts too.
fn source_blocks(draw: &mut Stream, past: usize) -> Blocks {
    let (height, width) = (14_usize, 14_usize);
    // With the last place, sides as long as the grid have one too.
    let longest = 13 + past;
    let size = |scale: (f64, f64), aspect: (f64, f64), draw: &mut Stream| {
        let number = draw.uniform();
        let max_keep = ((height * width) as f64 * (scale.0 + number * (scale.1 - scale.0))).floor();
        let aspect = aspect.0 + number * (aspect.1 - aspect.0);
        let side = |v: f64| (v.sqrt().round_ties_even() as usize).min(longest);
        (side(max_keep * aspect), side(max_keep / aspect))
    };
    let block = |(h, w): (usize, usize), draw: &mut Stream| -> Vec<(usize, usize)> {
        let top = draw.below((height - h + past) as u64) as usize;
        let left = draw.below((width - w + past) as u64) as usize;
        (top..top + h).flat_map(|row| (left..left + w).map(move |column| (row, column))).collect()
    };
    let target = size((0.15, 0.2), (0.75, 1.5), draw);
    let context = size((0.85, 1.0), (1.0, 1.0), draw);
    let targets: Vec<_> = (0..4).map(|_| block(target, draw)).collect();
    let context = block(context, draw);
    (context.into_iter().filter(|place| !targets.iter().flatten().any(|t| t == place)).collect(), targets)
}

/// Mean share of each row, then of each column, in blocks: each block counts as one, whatever its size.
fn shares<'b>(blocks: impl Iterator<Item = &'b Vec<(usize, usize)>>) -> Vec<f64> {
    let (mut sums, mut count) = (vec![0.0; 28], 0.0);
    for block in blocks.filter(|block| !block.is_empty()) {
        count += 1.0;
        for (row, column) in block {
            sums[*row] += 1.0 / block.len() as f64;
            sums[14 + column] += 1.0 / block.len() as f64;
        }
    }
    sums.into_iter().map(|sum| sum / count).collect()
}

#[test]
fn no_place_is_drawn_less_often_than_by_the_source() {
    const SAMPLES: u64 = 20_000;
    // Shares are about 0.07. Over as many samples they are known to 0.0007 (a context's deviate by 0.05, those of four targets
    // by less): four times that, and what the contexts that are filled up add, one in twenty, by some patches.
    const NEAR: f64 = 0.004;
    let ours = |spec: &MultiBlock, cut: &dyn Fn(Vec<usize>) -> Vec<usize>| -> Vec<Blocks> {
        let place = |id: usize| (id / 14, id % 14);
        let sample = |i: u64| {
            let ids: Vec<usize> = multi_block(spec, &mut stream(i)).into_iter().map(|id| id as usize).collect();
            let (context, targets) = ids.split_at(spec.context_patches);
            let targets = targets.chunks(spec.target_patches).map(|t| cut(t.to_vec()).into_iter().map(place).collect());
            (cut(context.to_vec()).into_iter().map(place).collect(), targets.collect())
        };
        (0..SAMPLES).map(sample).collect()
    };
    let farthest = |ours: &[Blocks], source: &[Blocks]| {
        let far = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let contexts = far(shares(ours.iter().map(|b| &b.0)), shares(source.iter().map(|b| &b.0)));
        let targets = far(shares(ours.iter().flat_map(|b| &b.1)), shares(source.iter().flat_map(|b| &b.1)));
        (contexts, targets)
    };
    for (margin, past) in [(1, 0), (0, 1)] {
        let mut draw = stream(SAMPLES + past as u64);
        let source: Vec<Blocks> = (0..SAMPLES).map(|_| source_blocks(&mut draw, past)).collect();
        let spec = MultiBlock { margin, ..ijepa() };
        let (contexts, targets) = farthest(&ours(&spec, &|ids| ids), &source);
        assert!(contexts < NEAR && targets < NEAR, "margin {margin}: contexts {contexts}, targets {targets}");
        // The twin that must fail: whole blocks cut to their first patches in row order.
        let whole = MultiBlock { target_patches: 30, context_patches: 70, ..spec.clone() };
        let (contexts, targets) = farthest(&ours(&whole, &|ids| ids[..ids.len() * 6 / 7].to_vec()), &source);
        assert!(contexts > 2.0 * NEAR && targets > 2.0 * NEAR, "cut: contexts {contexts}, targets {targets}");
    }
    // Of the whole grid no side is preferred: the first and the last row, and their columns, are as likely.
    let drawn = ours(&ijepa(), &|ids| ids);
    for shares in [shares(drawn.iter().map(|b| &b.0)), shares(drawn.iter().flat_map(|b| &b.1))] {
        for (first, last) in (0..7).map(|i| (i, 13 - i)).flat_map(|(a, b)| [(a, b), (14 + a, 14 + b)]) {
            assert!(
                (shares[first] - shares[last]).abs() < NEAR,
                "{first}: {}, {last}: {}",
                shares[first],
                shares[last]
            );
        }
    }
}

/// A picture whose channels say where each pixel is: row, column, 0.
fn places(height: usize, width: usize) -> Image {
    let pixel = |i: usize| [(i / width) as u8, (i % width) as u8, 0];
    Image::new(height, width, 3, (0..height * width).flat_map(pixel).collect())
}

#[test]
fn geometry_says_where_a_view_lies() {
    let steps = [
        ViewOp::RandomResizedCrop {
            size: (64, 64),
            scale: (0.3, 0.9),
            ratio: (0.75, 4.0 / 3.0),
            interpolation: Interpolation::Bilinear,
        },
        ViewOp::RandomFlip { p: 0.5 },
        ViewOp::RandomShift { size: (40, 40), by: (0, 24) },
        ViewOp::RandomFlip { p: 0.5 },
        ViewOp::Crop { size: (32, 32), at: (3, 5) },
        ViewOp::RandomCrop { scale: (0.5, 0.9), ratio: (0.9, 1.1) },
    ];
    let mut flips = 0;
    for sample in 0..60 {
        let (mut place, mut draw) = (Geometry::default(), stream(sample));
        let image =
            view::apply(&steps, Cow::Owned(places(120, 160)), &mut draw, &mut place).expect("every window fits");
        flips += usize::from(place.flipped);
        // The middle pixel, in the coordinates of the source: a pixel's centre lies half a pixel in.
        let (row, column) = (image.height / 2, image.width / 2);
        let down = (row as f64 + 0.5) / image.height as f64;
        let across = (column as f64 + 0.5) / image.width as f64;
        let across = if place.flipped { 1.0 - across } else { across };
        let expected =
            [(place.top + down * place.height) * 120.0 - 0.5, (place.left + across * place.width) * 160.0 - 0.5];
        let pixel = &image.data[(row * image.width + column) * 3..][..2];
        for (found, expected) in pixel.iter().zip(expected) {
            // Resizing rounds to whole levels, and its kernel is symmetric about the place.
            assert!((f64::from(*found) - expected).abs() <= 1.5, "sample {sample}: {pixel:?}, {expected:?}, {place:?}");
        }
    }
    assert!((15..45).contains(&flips), "both cases are met: {flips}");
}

/// `eval_view` of a pipeline with pictures of `size`, as written.
fn eval_steps(size: &str) -> Vec<ViewOp> {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let set = format!("image_size={size}");
    let path = root("pipelines/mae_vitb.cmae");
    let Ok(compiled) = cmae::compile(&mut sources, &mut diagnostics, &path, &[set.as_str().into()]) else {
        panic!("{size}: {:?}", diagnostics.list());
    };
    let view = compiled.program.spec.views.into_iter().find(|view| view.name == "eval").expect("it has one");
    // All but `normalize`, which ends it.
    view.ops[..view.ops.len() - 1].to_vec()
}

#[test]
fn pictures_are_judged_by_their_middle_whatever_their_sides() {
    for (size, (height, width)) in
        [("224px", (224, 224)), ("(224px, 448px)", (224, 448)), ("(96px, 32px)", (96, 32)), ("(48px, 64px)", (48, 64))]
    {
        let steps = eval_steps(size);
        for source in [(300, 300), (100, 400), (400, 100), (37, 41), (500, 375), (height, width)] {
            let white = Image::new(source.0, source.1, 3, vec![255; source.0 * source.1 * 3]);
            let (mut place, mut draw) = (Geometry::default(), stream(0));
            let image = view::apply(&steps, Cow::Owned(white), &mut draw, &mut place)
                .expect("no step wants more than there is");
            assert_eq!((image.height, image.width), (height, width));
            assert!(image.data.iter().all(|level| *level == 255), "{size} of {source:?} is padded");
            // Seven eighths of the side that is the shorter one, whole pixels aside; of the other no more.
            let most = place.height.max(place.width);
            assert!((most - 0.875).abs() < 0.02, "{size} of {source:?}: {place:?}");
            for (start, share) in [(place.top, place.height), (place.left, place.width)] {
                assert!((start + share / 2.0 - 0.5).abs() < 0.03, "{size} of {source:?}: not the middle, {place:?}");
            }
        }
    }
}

/// Tokens of the encoder alone for pictures of which only what `mask` hides differs.
fn hidden_pixels_change_nothing(pipeline: &str, sets: &[&str], output: &str) {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let sets: Vec<_> = sets.iter().map(|set| (*set).into()).collect();
    let path = root(&format!("pipelines/{pipeline}.cmae"));
    let Ok(compiled) = cmae::compile(&mut sources, &mut diagnostics, &path, &sets) else {
        panic!("{pipeline}: {:?}", diagnostics.list());
    };
    let program = compiled.program;
    let arena: Vec<f64> = init::initialise(&program.layout, 1);
    let mut backend = f64::backend("auto").expect("there is one");
    let mut run = |hidden: f32, visible: f32| {
        let inputs: Vec<(String, InputValue)> = program
            .train
            .inputs
            .iter()
            .map(|input| {
                let shape = input.ty.shape.clone();
                let mut stream = stream(input.ty.elements() as u64);
                let mut data: Vec<f32> = (0..input.ty.elements()).map(|_| stream.uniform() as f32).collect();
                if let [_, _, height, width] = shape[..] {
                    // Noise is drawn by the same rule, so that its smallest values are known: all groups but these are hidden.
                    for (i, value) in data.iter_mut().enumerate() {
                        let (row, column) = (i / width % height, i % width);
                        *value += if row >= height / 2 || column >= width / 2 { hidden } else { visible };
                    }
                } else {
                    data.iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
                }
                (input.name.clone(), InputValue::Float(cmae::tensor::HostTensor { shape, data }))
            })
            .collect();
        let request = Request { outputs: vec![output.to_owned()], ..Request::default() };
        let results = backend.run(&program.train, &program.layout, &arena, &inputs, &request).expect("it runs");
        let OutputValue::Float(tensor) = &results.outputs[0] else { panic!("tokens are floats") };
        tensor.data.clone()
    };
    let plain = run(0.0, 0.0);
    assert_eq!(plain, run(0.7, 0.0), "{pipeline}: hidden pixels reach the visible tokens");
    let seen = run(0.0, 0.7);
    assert!(plain.iter().zip(&seen).all(|(a, b)| a != b), "{pipeline}: visible pixels do not reach all visible tokens");
}

#[test]
fn hidden_pixels_never_reach_visible_tokens() {
    // A grid of 2 × 2 groups of patches, one of which is kept: the first, whose noise is smallest.
    let small =
        ["data.batch_size=2", "mask_ratio=75%", "max_shift=3px", "model.encoder.depth=1", "model.encoder.num_heads=2"];
    let vit = ["image_size=32px", "patch_size=8px", "model.encoder.embed_dim=16"];
    hidden_pixels_change_nothing("cmae_vitb", &[&small[..], &vit].concat(), "online.latent.tokens");
    let hybrid = ["image_size=64px", "model.encoder.embed_dim=16", "model.encoder.stem_dims=(8, 12)"];
    hidden_pixels_change_nothing("cmae_hybridb", &[&small[..], &hybrid].concat(), "online.latent.tokens");
}
