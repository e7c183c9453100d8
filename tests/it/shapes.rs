//! The source `shapes`: the same bytes everywhere, balanced classes, each strength by itself, and its contact sheet.

use std::collections::HashSet;
use std::sync::Arc;

use cmae::data::Image;
use cmae::data::source::{self, Source};
use cmae::diag::Diagnostics;
use cmae::eval::pictures::write_png;
use cmae::source::Sources;
use cmae::spec::{MAX_PIXELS, ShapesSpec, SourceSpec, Split};
use image::{Rgb, RgbImage};

use crate::command::{root, updates_expected};

/// All strengths at 0.
fn fixed(split: Split) -> ShapesSpec {
    let (color, position, scale, rotation, background, texture) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let size = (48, 48);
    ShapesSpec { split, count: 600, size, classes: 12, color, position, scale, rotation, background, texture }
}

fn full(split: Split) -> ShapesSpec {
    let (color, position, scale, rotation, background, texture) = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0);
    ShapesSpec { color, position, scale, rotation, background, texture, ..fixed(split) }
}

fn open(spec: ShapesSpec, channels: usize) -> Arc<dyn Source> {
    source::open(&SourceSpec::Shapes(spec), channels, MAX_PIXELS).expect("nothing is read")
}

fn image(source: &dyn Source, index: usize) -> Image {
    source.image(index).expect("it is rendered")
}

#[test]
fn the_bytes_are_the_same_on_every_machine() {
    let sum = |spec: ShapesSpec, channels: usize| {
        let source = open(spec, channels);
        let mut hasher = blake3::Hasher::new();
        for index in 0..24 {
            hasher.update(&image(&*source, index).data);
        }
        hasher.finalize().to_hex()[..16].to_owned()
    };
    let at = |size| ShapesSpec { size, ..full(Split::Train) };
    let found = [
        sum(fixed(Split::Train), 3),
        sum(at((48, 48)), 3),
        sum(at((48, 48)), 1),
        sum(at((24, 24)), 3),
        sum(at((31, 64)), 3),
        sum(at((224, 224)), 3),
        sum(full(Split::Val), 3),
    ];
    let pinned = [
        "2adc88b58e926df8",
        "286ab1a80759f573",
        "5f705ecf598446e1",
        "58a4dd7bcf62be8f",
        "1d026e4d2f16706c",
        "79a61c230d682a86",
        "baf8ebddd9428db7",
    ];
    assert_eq!(found, pinned, "a picture may not change: runs are compared by it");
}

#[test]
fn classes_are_balanced_and_a_picture_hangs_on_its_index_alone() {
    let source = open(ShapesSpec { classes: 10, count: 1003, ..full(Split::Train) }, 3);
    assert_eq!(source.classes()[..3], ["disc", "square", "triangle"]);
    assert_eq!((source.len(), source.classes().len()), (1003, 10));
    let labels: Vec<i64> = (0..source.len()).filter_map(|index| source.label(index)).collect();
    for class in 0..10 {
        let count = labels.iter().filter(|label| **label == class).count();
        assert!((100..=101).contains(&count), "{count} of class {class}");
    }
    assert_ne!(labels[..10], labels[10..20], "each block has an order of its own");
    let fewer = open(ShapesSpec { classes: 10, count: 7, ..full(Split::Train) }, 3);
    for (index, label) in labels[..7].iter().enumerate() {
        assert_eq!(fewer.label(index), Some(*label));
        assert_eq!(image(&*fewer, index), image(&*source, index));
    }
    assert_eq!(source.name(3), "shapes/train/3");
}

#[test]
fn strengths_of_zero_leave_one_picture_a_class() {
    let source = open(fixed(Split::Train), 3);
    let pictures: HashSet<(Option<i64>, Vec<u8>)> =
        (0..source.len()).map(|index| (source.label(index), image(&*source, index).data)).collect();
    assert_eq!(pictures.len(), 12);
    let different: HashSet<&Vec<u8>> = pictures.iter().map(|(_, data)| data).collect();
    assert_eq!(different.len(), 12, "no two classes look the same");
}

/// The sheet's rows below the first four: one strength at 100%.
fn alone() -> [ShapesSpec; 6] {
    let fixed = || fixed(Split::Train);
    [
        ShapesSpec { color: 1.0, ..fixed() },
        ShapesSpec { position: 1.0, ..fixed() },
        ShapesSpec { scale: 1.0, ..fixed() },
        ShapesSpec { rotation: 1.0, ..fixed() },
        ShapesSpec { background: 1.0, ..fixed() },
        ShapesSpec { texture: 1.0, ..fixed() },
    ]
}

#[test]
fn each_strength_changes_what_it_is_named_for() {
    let still = open(fixed(Split::Train), 3);
    let corner = |picture: &Image| picture.data[..3].to_vec();
    let centre = |picture: &Image| picture.data[(24 * 48 + 24) * 3..][..3].to_vec();
    // Star, cross, heart: their centres are covered.
    let covered: Vec<usize> = (0..60).filter(|i| matches!(still.label(*i), Some(3 | 4 | 6))).collect();
    let count = |spec: &ShapesSpec, of: &dyn Fn(&Image) -> Vec<u8>| {
        let source = open(spec.clone(), 3);
        covered.iter().filter(|i| of(&image(&*source, **i)) != of(&image(&*still, **i))).count()
    };
    let [color, position, scale, rotation, background, texture] = alone();
    let all = covered.len();
    assert_eq!((count(&color, &corner), count(&color, &centre)), (0, all));
    for spec in [&position, &scale, &rotation] {
        assert_eq!(count(spec, &corner), 0);
        assert_eq!(count(spec, &|picture| picture.data.clone()), all);
    }
    assert_eq!(count(&background, &corner), all);
    assert_eq!((count(&texture, &corner), count(&texture, &centre)), (all, 0));
}

#[test]
fn splits_have_no_picture_in_common() {
    let pictures = |split| -> HashSet<Vec<u8>> {
        let source = open(ShapesSpec { size: (24, 24), ..full(split) }, 1);
        (0..source.len()).map(|index| image(&*source, index).data).collect()
    };
    let (train, val) = (pictures(Split::Train), pictures(Split::Val));
    assert_eq!((train.len(), val.len()), (600, 600), "nor is one shown twice");
    assert!(train.is_disjoint(&val));
}

#[test]
fn an_object_lies_within_a_picture_of_any_size() {
    for size in [(16, 16), (24, 24), (37, 90), (224, 224)] {
        for channels in [1, 3] {
            let source = open(ShapesSpec { size, texture: 0.0, ..full(Split::Val) }, channels);
            for index in 0..60 {
                let picture = image(&*source, index);
                assert_eq!((picture.height, picture.width, picture.channels), (size.0, size.1, channels));
                let pixel = |y: usize, x: usize| &picture.data[(y * size.1 + x) * channels..][..channels];
                let corners = [pixel(0, 0), pixel(0, size.1 - 1), pixel(size.0 - 1, 0), pixel(size.0 - 1, size.1 - 1)];
                assert_eq!(corners, [pixel(0, 0); 4], "{size:?}, picture {index}: no circle reaches a corner");
                // The least area: a star whose circle is a quarter of the picture's shorter side across.
                let shown = picture.data.chunks(channels).filter(|p| *p != pixel(0, 0)).count();
                assert!(shown >= size.0.min(size.1).pow(2) / 70, "{size:?}, picture {index}: {shown} pixels");
            }
        }
    }
}

/// What the compiler makes of a call without strengths.
fn defaults() -> ShapesSpec {
    let text = "use pipeline quickstart\npipeline p = quickstart with { data.train = shapes(\"train\", classes: 12) }";
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    // The name is resolved against the folder of the file, wherever the tests run.
    let path = root("pipelines/example.cmae");
    sources.add_file(path.clone(), text);
    let compiled = cmae::compile(&mut sources, &mut diagnostics, &path, &[]);
    let program = compiled.unwrap_or_else(|_| panic!("{:?}", diagnostics.list())).program;
    match program.spec.data.source("train") {
        Some(SourceSpec::Shapes(spec)) => spec.clone(),
        other => panic!("{other:?}"),
    }
}

/// Twelve columns, a class each. Rows: all strengths 0, three times the defaults, then each strength alone at 100%.
fn sheet() -> RgbImage {
    let rows = [&[fixed(Split::Train), defaults(), defaults(), defaults()][..], &alone()].concat();
    let cell = 48 + 2;
    let mut sheet = RgbImage::from_pixel(12 * cell + 2, rows.len() as u32 * cell + 2, Rgb([255; 3]));
    for (row, spec) in rows.into_iter().enumerate() {
        let source = open(spec, 3);
        for index in row * 12..(row + 1) * 12 {
            let (picture, column) = (image(&*source, index), source.label(index).unwrap_or(0) as u32);
            for (at, pixel) in picture.data.chunks_exact(3).enumerate() {
                let (x, y) = (column * cell + 2 + at as u32 % 48, row as u32 * cell + 2 + at as u32 / 48);
                sheet.put_pixel(x, y, Rgb([pixel[0], pixel[1], pixel[2]]));
            }
        }
    }
    sheet
}

#[test]
fn the_contact_sheet_shows_what_is_drawn() {
    let path = root("docs/images/shapes.png");
    if updates_expected() {
        write_png(&path, &sheet()).expect("the page's picture can be written");
    }
    let drawn = image::open(&path).expect("it is in the repository").into_rgb8();
    assert!(drawn == sheet(), "docs/images/shapes.png is old (UPDATE_EXPECT=1 draws it anew)");
}
