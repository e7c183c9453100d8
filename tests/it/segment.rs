//! Classes of pixels: label maps beside pictures, `std::segmentation` against formulas, and runs that are judged by `segment`.

use std::fs;
use std::path::Path;

use cmae::backend::{Compute, Request, Results};
use cmae::data::loader::{Loader, LoaderOptions};
use cmae::data::source;
use cmae::graph::Program;
use cmae::spec::{LabelMaps, SourceSpec};
use cmae::tensor::{HostTensor, InputValue, OutputValue, Pictures};
use image::{GrayImage, ImageFormat, Luma};

use crate::cases::{encoded, file};
use crate::command::{root, run};
use crate::methods::compile_file;
use crate::runs::{metrics, text};

fn loader(program: &Program, max_broken: f64) -> Loader {
    let options = LoaderOptions { seed: 3, threads: 1, prefetch: 1, max_broken, pictures: Pictures::Floats };
    let spec = program.spec.data.source("train").expect("every pipeline has one");
    let source =
        source::open(spec, program.spec.data.channels, program.spec.data.max_pixels).expect("it can be opened");
    let (views, inputs) = (&program.spec.views, &program.train.inputs);
    Loader::start(source, views, inputs, program.spec.data.batch_size, options, 0..4).expect("it starts")
}

fn ints<'b>(batch: &'b [(String, InputValue)], name: &str) -> &'b HostTensor<i64> {
    match batch.iter().find(|(n, _)| n == name) {
        Some((_, InputValue::Int(tensor))) => tensor,
        other => panic!("{name}: {other:?}"),
    }
}

/// Values of a grid at a pixel of a picture: linear between the two centres beside it, along both sides, as PyTorch's `interpolate`.
fn bilinear(
    grid: (usize, usize),
    size: (usize, usize),
    at: (usize, usize),
    value: impl Fn(usize, usize) -> f64,
) -> f64 {
    let along = |at: usize, from: usize, to: usize| {
        let place = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let first = place.floor() as usize;
        (first, (first + 1).min(from - 1), place - place.floor())
    };
    let (top, bottom, down) = along(at.0, grid.0, size.0);
    let (left, right, over) = along(at.1, grid.1, size.1);
    let row = |row: usize| value(row, left) * (1.0 - over) + value(row, right) * over;
    row(top) * (1.0 - down) + row(bottom) * down
}

#[test]
fn patches_become_pixels_and_their_loss_is_over_those_with_a_class() {
    let program = compile_file(&root("tests/it/segment.cmae"), &[]);
    let mut batch = loader(&program, 0.0).next_batch().expect("there is one").expect("it can be drawn").inputs;
    let (_, InputValue::Int(map)) = batch.iter_mut().find(|(name, _)| name == "label_map.image").expect("it is read")
    else {
        panic!("classes are whole numbers")
    };
    assert_eq!(map.shape, [4, 16, 16]);
    assert!(map.data.iter().any(|class| *class > 0) && map.data.contains(&0));
    // As where a picture was padded, or the source ignores a class.
    map.data.iter_mut().step_by(3).for_each(|class| *class = -1);
    let few: Vec<i64> = map.data.iter().map(|class| (*class).min(4)).collect();
    let outputs = ["online.patches", "online.logits", "online.wide"].map(str::to_owned).to_vec();
    let request = Request { outputs, ..Request::default() };
    let arena: Vec<f64> = (0..program.layout.total_len).map(|i| libm::sin(i as f64)).collect();
    let mut backend = f64::backend("cpu").expect("every build has it");
    let results: Results<f64> =
        backend.run(&program.train, &program.layout, &arena, &batch, &request).expect("it runs");
    let [OutputValue::Float(patches), OutputValue::Float(logits), OutputValue::Float(wide)] = &results.outputs[..]
    else {
        panic!("three were asked for")
    };
    for (found, grid, size) in [(logits, (4, 4), (16, 16)), (wide, (2, 8), (16, 12))] {
        assert_eq!(found.shape, [4, size.0, size.1, 5]);
        for (place, found) in found.data.iter().enumerate() {
            let (class, column, row) = (place % 5, place / 5 % size.1, place / 5 / size.1 % size.0);
            let first = place / (5 * size.0 * size.1) * 16;
            let value = |row: usize, column: usize| patches.data[(first + row * grid.1 + column) * 5 + class];
            let expected = bilinear(grid, size, (row, column), value);
            assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
        }
    }
    let (mut sum, mut count) = (0.0, 0);
    for (logits, class) in logits.data.chunks(5).zip(&few).filter(|(_, class)| **class >= 0) {
        let total: f64 = logits.iter().map(|x| libm::exp(*x)).sum();
        sum += libm::log(total) - logits[*class as usize];
        count += 1;
    }
    let expected = sum / f64::from(count);
    assert!((results.losses[0] - expected).abs() < 1e-12, "{} for {expected}", results.losses[0]);
}

/// Pictures whose pixels are their own classes, with a folder of label maps beside them.
fn mapped(place: &Path, count: usize) {
    for number in 0..count {
        let picture = GrayImage::from_fn(40 + number as u32 % 7, 48, |x, y| Luma([((x * 7 + y * 5) % 64) as u8]));
        let bytes = encoded(picture, ImageFormat::Png);
        file(&place.join(format!("images/a/{number:02}.png")), &bytes);
        file(&place.join(format!("maps/a/{number:02}.png")), &bytes);
    }
}

fn folders(place: &Path, ignore: &str) -> [String; 3] {
    let folder = format!(
        "image_folder(\"{}\", label_maps: \"{}\"{ignore})",
        text(&place.join("images")),
        text(&place.join("maps"))
    );
    [
        format!("data.train={folder}"),
        format!("data.val={folder}"),
        // Nothing is blended: what a pixel shows is what it belongs to.
        "views.image=data.train |> random_crop(scale: 100%..100%) |> random_shift((32px, 24px), by: 0px..16px) |> random_flip(50%) |> \
         normalize(mean: 0.0, std: 0.00392156862745098)"
            .to_owned(),
    ]
}

/// Pictures and nothing beside them.
fn folders_without_maps(place: &Path) -> String {
    mapped(&place.join("plain"), 4);
    text(&place.join("plain/images")).to_owned()
}

#[test]
fn a_label_map_moves_with_its_picture() {
    let place = tempfile::tempdir().expect("a folder can be made");
    mapped(place.path(), 16);
    let [train, val, image] = folders(place.path(), ", ignore: 9");
    let sets = [
        train,
        val,
        image,
        "online.classes=op::label_map(views.image, 64)".to_owned(),
        "online.patches=op::patchify(op::slice(op::slice(views.image, axis: 2, start: 0, end: 16), axis: 3, start: 0, end: 16), 4px) |> head"
            .to_owned(),
        "losses.segmentation=pixel_cross_entropy(online.logits, op::slice(op::slice(online.few, axis: 1, start: 0, end: 16), axis: 2, start: 0, end: 16)) + 0.0 * op::sum(online.wide)".to_owned(),
    ];
    let program = compile_file(&root("tests/it/segment.cmae"), &sets);
    let mut loader = loader(&program, 0.0);
    let mut ignored = 0;
    for _ in 0..4 {
        let batch = loader.next_batch().expect("there is one").expect("it can be drawn").inputs;
        let classes = ints(&batch, "label_map.image");
        assert_eq!(classes.shape, [4, 32, 24]);
        let Some((_, InputValue::Float(pictures))) = batch.iter().find(|(name, _)| name == "views.image") else {
            panic!("the view is read")
        };
        for (class, level) in classes.data.iter().zip(&pictures.data) {
            let level = level.round() as i64;
            assert_eq!(*class, if level == 9 { -1 } else { level });
            ignored += usize::from(level == 9);
        }
    }
    assert!(ignored > 100);
}

#[test]
fn what_is_wrong_with_a_label_map_is_told() {
    let place = tempfile::tempdir().expect("a folder can be made");
    mapped(place.path(), 16);
    let of = |path: &str| SourceSpec::ImageFolder {
        path: text(&place.path().join("images")).to_owned(),
        range: None,
        label_maps: Some(LabelMaps { path: text(&place.path().join(path)).to_owned(), ignore: None }),
    };
    let open = |path: &str| source::open(&of(path), 1, 1 << 20);
    let said = |path: &str| open(path).err().map(|error| format!("{error} ({})", error.help().unwrap_or_default()));
    assert!(said("none").expect("it is not there").contains("folder `"));
    fs::create_dir(place.path().join("other")).expect("it can be made");
    let told = said("other").expect("it holds no map");
    assert!(
        told.contains("other/a/00.png` does not exist, the label map of `") && told.contains("each a PNG"),
        "{told}"
    );
    file(&place.path().join("maps/a/01.png"), &encoded(GrayImage::new(40, 48), ImageFormat::Png));
    file(&place.path().join("maps/a/02.png"), b"\xff\xd8\xff\xe0");
    fs::remove_file(place.path().join("maps/a/03.png")).expect("it was there");
    let source = open("maps").expect("most are there");
    let error = |index: usize| source.label_map(index).expect("the source has maps").err();
    assert_eq!(error(0), None);
    assert!(
        error(2).is_some_and(|said| said.contains("its label map") && said.contains("JPG, where a label map is a PNG"))
    );
    assert!(error(3).is_some_and(|said| said.contains("03.png: No such file")));
    // A run counts them as broken, each with its reason; class 63 is one too many.
    let [train, val, _] = folders(place.path(), "");
    let trained = |classes: usize, more: &[&str]| {
        let pipeline = place.path().join("segment.cmae");
        fs::copy(root("tests/it/segment.cmae"), &pipeline).expect("it can be copied");
        let classes = format!("online.classes=op::label_map(views.image, {classes})");
        let shown = "views.image=data.train |> random_resized_crop(16px) |> normalize(mean: 0.5, std: 0.25)";
        let out = place.path().join(format!("run{}", more.len()));
        let mut arguments = vec!["run", text(&pipeline), "--out", text(&out), "--threads", "1", "--backend", "cpu"];
        for set in [&*train, &*val, shown, &*classes].into_iter().chain(more.iter().copied()) {
            arguments.extend(["--set", set]);
        }
        let (code, _, said) = run(&arguments);
        assert_eq!(code, i32::from(more.is_empty()), "{said}");
        said
    };
    let told = trained(63, &[]);
    assert!(told.contains("its label map holds class 63, `op::label_map` names 63"), "{told}");
    let told = trained(64, &["data.max_broken=50%"]);
    assert!(told.contains("its label map has 40 x 48 pixels, the picture 41 x 48"), "{told}");
}

#[test]
fn a_run_is_judged_by_classes_of_pixels() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let pipeline = place.path().join("mine.cmae");
    let mine = "use pipeline std::segment_vitb\n\npipeline mine = segment_vitb with {\n  image_size = 32px\n  patch_size = 4px\n  classes \
                = 11\n  data.train = shapes(\"train\", count: 64, size: 36px)\n  data.val = shapes(\"val\", count: 20, size: 36px)\n  \
                data.channels = 1\n  data.batch_size = 16\n  views.image = data.train |> random_resized_crop(image_size, scale: \
                80%..100%) |> random_flip(50%) |> normalize(mean: 0.5, std: 0.25)\n  views.eval = resize((image_size, image_size)) |> \
                normalize(mean: 0.5, std: 0.25)\n  model.encoder = vit(image_size, patch_size, embed_dim: 32, depth: 1, num_heads: \
                2)\n  model.encoder.weights = none\n  train.epochs = 2\n  train.learning_rate = 1e-2\n  evaluate.segment.every = 1 \
                epochs\n}\n";
    fs::write(&pipeline, mine).expect("it can be written");
    let out = place.path().join("run");
    let (code, _, said) = run(&["run", text(&pipeline), "--out", text(&out), "--threads", "1", "--backend", "cpu"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("after 2 epochs: mean IoU"), "{said}");
    let last = metrics(&out).into_iter().rev().find_map(|line| line.get("evaluation").cloned()).expect("it was judged");
    let written: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("segmented.json")).expect("it is there"))
            .expect("it is JSON");
    assert_eq!(last["segment_mean_iou"], written["mean_iou"]);
    assert_eq!(written["pictures"], 20);
    let wanted: u64 =
        written["classes"].as_array().expect("a list").iter().filter_map(|of| of["wanted"].as_u64()).sum();
    // Every pixel of every picture has a class.
    assert_eq!(wanted, 20 * 32 * 32);
    // Nine tenths are background, which is soon known.
    assert!(last["segment_pixels_right"].as_f64().is_some_and(|share| share > 0.8), "{last}");
    let sheet = image::open(out.join("segmented.png")).expect("it is a picture");
    // Three columns and eight rows of 32 pixels, four times as large, with lines of two between them.
    assert_eq!((sheet.width(), sheet.height()), (2 + 3 * 130, 2 + 8 * 130));
    let report = fs::read_to_string(out.join("report.html")).expect("it is there");
    assert!(report.contains("intersection over union") && report.contains("mean IoU") && report.contains("Segments"));
    // Features, and what patches become, ask for no label maps: of pictures that have none.
    let digits = place.path().join("digits.safetensors");
    let plain = folders_without_maps(place.path());
    for arguments in [
        &["features", text(&out), "--data", &plain, "-o", text(&digits)][..],
        &["show", "patches", text(&out), "--data", &plain, "-o", text(&place.path().join("patches.png"))],
    ] {
        let (code, _, said) = run(arguments);
        assert_eq!(code, 0, "{said}");
    }
    // As everywhere: an evaluation that is turned off is not made.
    let without = place.path().join("without");
    let off = ["run", text(&pipeline), "--out", text(&without), "--threads", "1", "--set", "evaluate.segment=none"];
    let (code, _, said) = run(&off);
    assert!(code == 0 && !said.contains("mean IoU"), "{said}");
}
