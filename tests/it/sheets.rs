//! `cmaec show views -o`: the sheet's pixels are those that the loader gives the graph.

use std::collections::BTreeMap;
use std::path::Path;

use cmae::data::loader::{Loader, LoaderOptions};
use cmae::data::source;
use cmae::diag::Diagnostics;
use cmae::source::Sources;
use cmae::tensor::{InputValue, Pictures};
use image::RgbImage;

use crate::command::{fail, root, succeed};

/// Side of a view, times that its pixels are enlarged, and the line between cells.
const SIDE: usize = 16;
const SCALE: usize = 8;
const LINE: usize = 2;

/// The cell's pixels, one of each enlarged one; all of those are the same.
fn cell(sheet: &RgbImage, row: usize, column: usize) -> Vec<u8> {
    let corner = |at: usize| LINE + at * (SIDE * SCALE + LINE);
    let at = |y: usize, x: usize| sheet.get_pixel((corner(column) + x) as u32, (corner(row) + y) as u32).0;
    let mut levels = Vec::new();
    for (y, x) in (0..SIDE * SIDE).map(|pixel| (pixel / SIDE * SCALE, pixel % SIDE * SCALE)) {
        let level = at(y, x)[0];
        let all = (0..SCALE * SCALE).map(|i| at(y + i / SCALE, x + i % SCALE));
        assert!(all.into_iter().all(|pixel| pixel == [level; 3]), "row {row}, column {column}: {y}, {x}");
        levels.push(level);
    }
    levels
}

/// Both views of every digit of the first epoch, by its place in the source.
fn loaded() -> BTreeMap<usize, [Vec<u8>; 2]> {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let path = root("pipelines/quickstart.cmae");
    let compiled = cmae::compile(&mut sources, &mut diagnostics, Path::new(&path), &[]).expect("it compiles");
    let program = &compiled.program;
    let data = &program.spec.data;
    let digits = data.source("train").expect("every pipeline has one");
    let digits = source::open(digits, data.channels, data.max_pixels).expect("digits are embedded");
    let options = LoaderOptions {
        seed: program.spec.train.seed,
        threads: 1,
        prefetch: 1,
        max_broken: 0.0,
        pictures: Pictures::Levels,
    };
    let steps = 0..(digits.len() / data.batch_size) as u64;
    let inputs = &program.train.inputs;
    let mut loader =
        Loader::start(digits, &program.spec.views, inputs, data.batch_size, options, steps).expect("it starts");
    let mut found = BTreeMap::new();
    while let Some(batch) = loader.next_batch() {
        let batch = batch.expect("digits can be read");
        let rows = |name: &str| match batch.inputs.iter().find(|(n, _)| n == name) {
            Some((_, InputValue::Levels(levels))) => levels.tensor.data.chunks(SIDE * SIDE).map(<[u8]>::to_vec),
            other => panic!("{name} is in bytes: {:?}", other.map(|(name, _)| name)),
        };
        let views = rows("views.online").zip(rows("views.target"));
        found.extend(batch.indices.iter().copied().zip(views.map(|(online, target)| [online, target])));
    }
    found
}

#[test]
fn a_sheet_shows_what_the_loader_gives() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("sheet.png");
    let path = path.to_str().expect("it is plain text");
    let told = succeed(&["show", "views", "pipelines/quickstart.cmae", "--count", "5", "-o", path]);
    let sheet = image::open(path).expect("it is a PNG").to_rgb8();
    let cells = |count: usize| (count * (SIDE * SCALE + LINE) + LINE) as u32;
    assert_eq!(sheet.dimensions(), (cells(4), cells(5)));
    let loaded = loaded();
    let mut compared = 0;
    for row in 0..5 {
        let name = told.lines().find_map(|line| line.strip_prefix(&format!("  {}  digits/train/", row + 1)));
        let index: usize = name.and_then(|name| name.split(',').next()).and_then(|n| n.parse().ok()).expect(&told);
        // The last, partial batch of an epoch is not drawn.
        let Some([online, target]) = loaded.get(&index) else { continue };
        let (shown, hidden) = (cell(&sheet, row, 1), cell(&sheet, row, 2));
        assert_eq!((&shown, &cell(&sheet, row, 3)), (online, target), "digit {index}");
        // Half of the sixteen patches of four pixels a side are darkened, each as a whole.
        let is_dark = |patch: usize| {
            let pixels = (0..16).map(|i| (patch / 4 * 4 + i / 4) * SIDE + patch % 4 * 4 + i % 4);
            pixels.clone().all(|pixel| hidden[pixel] == shown[pixel] / 4)
                && pixels.clone().any(|pixel| hidden[pixel] != shown[pixel])
        };
        let is_plain = |patch: usize| {
            let pixels = (0..16).map(|i| (patch / 4 * 4 + i / 4) * SIDE + patch % 4 * 4 + i % 4);
            pixels.clone().all(|pixel| hidden[pixel] == shown[pixel])
        };
        assert!((0..16).all(|patch| is_dark(patch) != is_plain(patch)), "digit {index}");
        assert!((1..=8).contains(&(0..16).filter(|patch| is_dark(*patch)).count()), "digit {index}");
        compared += 1;
    }
    assert!(compared >= 3, "{told}");
}

#[test]
fn a_sheet_that_cannot_be_drawn_says_what_to_do() {
    let error = fail(&["show", "summary", "pipelines/quickstart.cmae", "--count", "3"]);
    assert!(error.contains("help: cmaec show views PIPELINE -o FILE.png"), "{error}");
    let error = fail(&["show", "views", "pipelines/quickstart.cmae", "-o", "sheet.jpg"]);
    assert!(error.contains("-o sheet.png"), "{error}");
    let error = fail(&["show", "views", "pipelines/cmae_vitb.cmae", "--count", "2"]);
    assert!(error.contains("help: --data PATH draws pictures that lie elsewhere"), "{error}");
}
