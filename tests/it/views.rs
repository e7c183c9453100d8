//! View steps against torchvision's, on a photo.

use std::borrow::Cow;

use cmae::data::Image;
use cmae::data::rng::Key;
use cmae::data::view::geometry::{Geometry, Window, crop, resize, resized_window};
use cmae::data::view::{self, Draw, blur, color};
use cmae::spec::{Interpolation, ViewOp};
use cmae::verify::{Fixture, verify_views};
use cmae::wide::at_each_level;
use serde_json::{Value, json};

use crate::cases::Noise;
use crate::command::{fail, root, succeed};

const FIXTURE: &str = "tests/golden/augment_torchvision.safetensors";

fn fixture() -> Fixture {
    Fixture::read(&root(FIXTURE)).expect("it is in the repository")
}

/// `[C, H, W]` levels as an image.
fn photo(file: &Fixture) -> Image {
    let tensor = file.tensor("input.photo").expect("the file has a photo");
    let (channels, height, width) = (tensor.shape[0], tensor.shape[1], tensor.shape[2]);
    let values = tensor.values.to_f64();
    let at = |i: usize| values[(i % channels) * height * width + i / channels] as u8;
    Image::new(height, width, channels, (0..values.len()).map(at).collect())
}

/// Brightness before contrast gives another picture than contrast before brightness, and each is as likely.
#[test]
fn jitters_steps_come_in_an_order_that_is_drawn() {
    let image = photo(&fixture());
    let jitter = ViewOp::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.0, hue: 0.0 };
    let mut brightness_first = 0;
    for sample in 0..60 {
        let stream = || Key { seed: 2, epoch: 0, sample }.stream("jitter");
        let found =
            view::apply(std::slice::from_ref(&jitter), Cow::Borrowed(&image), &mut stream(), &mut Geometry::default());
        // What was drawn, in the same sequence: the order by Fisher and Yates, then all four factors.
        let mut draw = stream();
        let mut order = [0, 1, 2, 3];
        (1..4).rev().for_each(|last| order.swap(last, draw.below(last as u64 + 1) as usize));
        let [bright, contrast] = [0, 1].map(|_| 0.6 + 0.8 * draw.uniform());
        let is_first = order.iter().position(|step| *step == 0) < order.iter().position(|step| *step == 1);
        let expected = if is_first {
            color::contrast(color::brightness(image.clone(), bright), contrast)
        } else {
            color::brightness(color::contrast(image.clone(), contrast), bright)
        };
        assert_eq!(found, Ok(expected), "sample {sample}");
        brightness_first += usize::from(is_first);
    }
    assert!((18..=42).contains(&brightness_first), "of 60: {brightness_first}");
}

#[test]
fn every_step_is_torchvisions() {
    let report = verify_views(&fixture()).expect("the file is whole");
    assert_eq!(report.rows.len(), 26);
    assert!(report.ok(), "{}", report.text());
    let line = succeed(&["verify", "views", FIXTURE, "--json"]);
    let line: Value = serde_json::from_str(&line).expect("one line of JSON");
    assert_eq!((line["ok"].as_bool(), line["rows"].as_array().map(Vec::len)), (Some(true), Some(26)));
}

/// A step with an argument that is a little off, one that is not known and one that does not fit are told by name.
#[test]
fn steps_that_are_off_fail() {
    let changed = |name: &str, at: usize, step: Value| {
        let mut file = fixture();
        file.config.0["steps"][name][at] = step;
        verify_views(&file)
    };
    for (name, step) in [
        ("brightness_low", json!(["brightness", { "brightness_factor": 0.6 }])),
        ("hue_high", json!(["hue", { "hue_factor": 0.08 }])),
        ("blur_2.0", json!(["blur", { "kernel_size": 15, "sigma": 2.2 }])),
        ("solarize", json!(["solarize", { "threshold": 140 }])),
        ("grayscale", json!(["hflip", {}])),
    ] {
        let report = changed(name, 0, step).expect("the steps are known");
        let failed: Vec<&str> = report.rows.iter().filter(|row| !row.ok).map(|row| row.name.as_str()).collect();
        assert_eq!(failed, [format!("out.{name}")], "{}", report.text());
    }
    let error = |name: &str, at: usize, step: Value| changed(name, at, step).expect_err("it does not fit").to_string();
    let unknown = error("hflip", 0, json!(["vflip", {}]));
    assert!(unknown.starts_with("`hflip`: there is no step `vflip` (help: resized_crop, hflip"), "{unknown}");
    let wide = json!(["resized_crop", { "top": 0, "left": 150, "height": 9, "width": 11, "size": [8, 8] }]);
    let outside = error("crop_bicubic_48", 0, wide);
    assert_eq!(outside, "`crop_bicubic_48`: `width` of `resized_crop` is 11, a whole number that fits is wanted");
    let late = error("normalize", 0, json!(["normalize", { "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5] }]));
    assert_eq!(late, "`normalize`: `normalize` follows `normalize`, whose result is no picture of 8 bits");
    let mut nameless = fixture();
    nameless.config.0["steps"].as_object_mut().expect("lists by name").remove("view");
    let error = verify_views(&nameless).expect_err("a result without steps").to_string();
    assert_eq!(error, "tensor `out.view` is not made by any steps of the file");
    let of_a_pipeline = fail(&["verify", "views", "tests/golden/mae_hf.safetensors"]);
    assert!(of_a_pipeline.contains("the file has no picture `input.photo`"), "{of_a_pipeline}");
}

fn noise(height: usize, width: usize, channels: usize) -> Image {
    let mut noise = Noise((height * 7919 + width) as u64);
    Image::new(height, width, channels, (0..height * width * channels).map(|_| noise.next() as u8).collect())
}

fn applied(steps: &[ViewOp], image: Image) -> Result<Image, String> {
    let mut stream = Key { seed: 0, epoch: 0, sample: 0 }.stream("steps");
    view::apply(steps, Cow::Owned(image), &mut stream, &mut Geometry::default())
}

/// Of a large picture only the pixels that a window shows are computed. The weights of a pass are whole numbers of one
/// precision, which is finer where the window's are smaller: each of both passes may round one value to its neighbour.
#[test]
fn a_window_of_a_resized_picture_is_cut_out_of_the_whole() {
    let mut random = Noise(1);
    let (mut off, mut all) = (0, 0);
    for number in 0..600 {
        let image = noise(1 + random.below(90), 1 + random.below(90), [1, 3][number % 2]);
        let interpolation = [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos][number % 3];
        let size = (1 + random.below(120), 1 + random.below(120));
        let window = (1 + random.below(size.0), 1 + random.below(size.1));
        let at = (random.below(size.0 - window.0 + 1), random.below(size.1 - window.1 + 1));
        let whole = resize(&image, size, interpolation);
        let expected = crop(&whole, Window { top: at.0, left: at.1, height: window.0, width: window.1 });
        let about = format!("{} x {} to {size:?}, {window:?} at {at:?}", image.height, image.width);
        let cut = Window { top: at.0, left: at.1, height: window.0, width: window.1 };
        let found = resized_window(&image, size, cut, interpolation);
        let differences = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b));
        assert!(differences.clone().all(|difference| difference <= 2), "{about}");
        off += differences.filter(|difference| *difference > 0).count();
        all += found.data.len();
        let steps = [ViewOp::Resize { size, interpolation }, ViewOp::Crop { size: window, at }];
        assert!(applied(&steps, image.clone()) == Ok(expected), "{about}");
        // A window larger than the picture is black around it.
        let size = (window.0 + 3, window.1 + 8);
        let steps = [ViewOp::Resize { size: window, interpolation }, ViewOp::CenterCrop { size }];
        let padded = applied(&steps, image.clone()).expect("it fits");
        let inner = resize(&image, window, interpolation);
        // Half of 3 and of 8, rounded half to even.
        let (top, left) = (2, 4);
        let cut = crop(&padded, Window { top, left, height: window.0, width: window.1 });
        assert!(cut == inner, "{about}, padded");
        let sum = |image: &Image| image.data.iter().map(|v| u64::from(*v)).sum::<u64>();
        assert_eq!(sum(&padded), sum(&inner), "{about}: black around");
    }
    assert!(off * 100 < all, "{off} of {all} differ");
}

/// Vectors of any width, and the ends of rows that fill none, give what one value at a time gives.
#[test]
fn steps_give_the_same_bytes_at_every_level_of_the_machine() {
    type Step = fn(Image) -> Image;
    let steps: [(&str, Step); 7] = [
        ("contrast", |image| color::contrast(image, 1.2931)),
        ("saturation", |image| color::saturation(image, 0.6173)),
        ("hue", |image| color::hue(image, -0.0937)),
        ("hue by more than it takes", |image| color::hue(image, 1.7)),
        ("grayscale", color::grayscale),
        ("blur", |image| blur::gaussian(image, 1.3, 4)),
        ("blur of more than the picture", |image| blur::gaussian(image, 9.0, 27)),
    ];
    for (height, width) in [(1, 1), (3, 21), (13, 65), (40, 64)] {
        for channels in [1, 3, 4] {
            for (name, step) in steps {
                let mut found: Vec<Image> = Vec::new();
                at_each_level(|_| found.push(step(noise(height, width, channels))));
                assert!(found.iter().all(|image| *image == found[0]), "{name} of {height} x {width} x {channels}");
            }
        }
    }
}

#[test]
fn a_strip_is_resized_where_it_is_seen() {
    let interpolation = Interpolation::Bicubic;
    let short = ViewOp::ResizeCover { size: (256, 256), interpolation };
    for (height, width) in [(1, 60_000), (60_000, 1), (2, 1 << 20)] {
        let steps = [short.clone(), ViewOp::CenterCrop { size: (256, 256) }];
        let image = applied(&steps, noise(height, width, 3)).expect("only what is seen is computed");
        assert_eq!((image.height, image.width), (256, 256));
        let error = applied(std::slice::from_ref(&short), noise(height, width, 3)).expect_err("gigabytes");
        assert!(error.contains(&format!("{width} x {height} pixels become")), "{error}");
    }
}
