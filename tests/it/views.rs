//! View steps against torchvision's, on a photo.

use std::borrow::Cow;

use cmae::data::Image;
use cmae::data::rng::Key;
use cmae::data::view::augment::{Magnitude, Operation};
use cmae::data::view::geometry::{Geometry, Window, crop, resize, resized_window};
use cmae::data::view::{self, Draw, affine, blur, color, tone};
use cmae::spec::{Filling, Interpolation, ViewOp};
use cmae::verify::{Fixture, verify_views};
use cmae::wide::at_each_level;
use serde_json::{Value, json};

use crate::cases::Noise;
use crate::command::{fail, root, succeed};

const FIXTURE: &str = "tests/golden/augment_torchvision.safetensors";
const RANDOM: &str = "tests/golden/augment_rand.safetensors";

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
    let steps: [(&str, Step); 10] = [
        ("contrast", |image| color::contrast(image, 1.2931)),
        ("saturation", |image| color::saturation(image, 0.6173)),
        ("hue", |image| color::hue(image, -0.0937)),
        ("hue by more than it takes", |image| color::hue(image, 1.7)),
        ("grayscale", color::grayscale),
        ("sharpness", |image| tone::sharpness(&image, 1.63)),
        ("turn", |image| affine::rotate(&image, -21.3)),
        ("shear", |image| affine::shear_x(&image, 0.09)),
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

/// Every operation at several magnitudes, both ways, on pictures of odd sizes: the same bytes as torchvision's.
#[test]
fn every_operation_of_rand_augment_is_torchvisions() {
    let file = Fixture::read(&root(RANDOM)).expect("it is in the repository");
    let report = verify_views(&file).expect("the file is whole");
    assert!(report.ok(), "{}", report.text());
    assert!(report.rows.iter().all(|row| row.limits.most == 0.0), "{}", report.text());
    for operation in Operation::ALL {
        let of = format!("out.{operation:?}_");
        assert!(report.rows.iter().filter(|row| row.name.starts_with(&of)).count() >= 2, "{operation:?}");
    }
    succeed(&["verify", "views", RANDOM]);
    // A magnitude beside it, and the other way, are told.
    for (name, key, value) in [("ShearX_0", "magnitude", json!(10)), ("Rotate_0", "negative", json!(true))] {
        let mut file = Fixture::read(&root(RANDOM)).expect("it is in the repository");
        file.config.0["steps"][name][1][1][key] = value;
        let report = verify_views(&file).expect("the steps are known");
        let failed: Vec<&str> = report.rows.iter().filter(|row| !row.ok).map(|row| row.name.as_str()).collect();
        assert_eq!(failed, [format!("out.{name}")], "{}", report.text());
    }
}

/// Numbers that were written down.
struct Written {
    uniform: std::vec::IntoIter<f64>,
    below: std::vec::IntoIter<u64>,
}

impl Draw for Written {
    fn uniform(&mut self) -> f64 {
        self.uniform.next().expect("there are as many as are drawn")
    }

    fn below(&mut self, n: u64) -> u64 {
        let number = self.below.next().expect("there are as many as are drawn");
        assert!(number < n, "{number} of {n}");
        number
    }
}

/// The same numbers give the boxes of torchvision's random crops and random erasing.
#[test]
fn boxes_are_torchvisions() {
    let file = Fixture::read(&root(RANDOM)).expect("it is in the repository");
    let boxes = file.config.0["boxes"].as_array().expect("a list");
    let (mut drawn, mut none) = (0, 0);
    for case in boxes {
        let number = |value: &Value| value.as_f64().expect("a number");
        let pair = |name: &str| (number(&case[name][0]), number(&case[name][1]));
        let (height, width) = pair("picture");
        let (height, width) = (height as usize, width as usize);
        let expected: Option<Vec<usize>> =
            case["box"].as_array().map(|sides| sides.iter().map(|side| number(side) as usize).collect());
        let uniform: Vec<f64> = case["uniform"].as_array().expect("a list").iter().map(number).collect();
        let corner = expected.iter().flat_map(|sides| [sides[0] as u64, sides[1] as u64]).collect::<Vec<_>>();
        let is_crop = case["kind"] == "random_resized_crop";
        // Whether erasing happens is drawn first.
        let first = if is_crop { Vec::new() } else { vec![0.0] };
        let uniform = first.into_iter().chain(uniform).collect::<Vec<_>>();
        let mut draw = Written { uniform: uniform.into_iter(), below: corner.into_iter() };
        let (scale, ratio) = (pair("scale"), pair("ratio"));
        let step = if is_crop {
            let interpolation = Interpolation::Bilinear;
            ViewOp::RandomResizedCrop { size: (8, 8), scale, ratio, interpolation }
        } else {
            ViewOp::RandomErasing { p: 1.0, scale, ratio, filling: Filling::Level(255) }
        };
        let mut place = Geometry::default();
        let picture = Image::new(height, width, 1, vec![9; height * width]);
        let steps = std::slice::from_ref(&step);
        let found = view::apply(steps, Cow::Owned(picture), &mut draw, &mut place).expect("it fits");
        let found: Option<Vec<usize>> = if is_crop {
            let sides = [place.top * height as f64, place.left * width as f64];
            let lengths = [place.height * height as f64, place.width * width as f64];
            Some(sides.into_iter().chain(lengths).map(|side| side.round() as usize).collect())
        } else {
            let erased: Vec<usize> = (0..height * width).filter(|pixel| found.data[*pixel] == 255).collect();
            erased.first().zip(erased.last()).map(|(first, last)| {
                let (top, left) = (first / width, first % width);
                let (bottom, right) = (last / width + 1, last % width + 1);
                assert_eq!(erased.len(), (bottom - top) * (right - left), "one box is erased");
                vec![top, left, bottom - top, right - left]
            })
        };
        assert_eq!(found, expected, "{case}");
        if expected.is_some() { drawn += 1 } else { none += 1 }
    }
    assert!(drawn >= 30 && none >= 1, "{drawn} boxes, {none} times none");
}

/// Two operations are what each does behind the other; all are drawn, and each goes both ways.
#[test]
fn rand_augment_draws_its_operations() {
    let image = photo(&Fixture::read(&root(RANDOM)).expect("it is in the repository"));
    let applied = |uniform: Vec<f64>, below: Vec<u64>, color: bool| {
        let mut draw = Written { uniform: uniform.into_iter(), below: below.into_iter() };
        let step = ViewOp::RandAugment { ops: 2, magnitude: 9, bins: 31, color };
        view::apply(&[step], Cow::Borrowed(&image), &mut draw, &mut Geometry::default()).expect("any size will do")
    };
    let magnitude = Magnitude { level: 9, bins: 31 };
    for (at, operation) in Operation::ALL.into_iter().enumerate() {
        let signs = if operation.has_sign() { vec![0.5, 0.4] } else { vec![0.4] };
        let expected = Operation::Rotate.apply(operation.apply(image.clone(), magnitude, true), magnitude, true);
        assert!(applied(signs, vec![at as u64, 5], true) == expected, "{operation:?}");
        if operation != Operation::Identity {
            let other = operation.apply(image.clone(), magnitude, false);
            assert!(other != image, "{operation:?} changes nothing");
            assert_eq!(operation.has_sign(), other != operation.apply(image.clone(), magnitude, true), "{operation:?}");
        }
    }
    // Without colour, what follows `Color` moves up.
    let expected =
        Operation::Contrast.apply(Operation::Identity.apply(image.clone(), magnitude, false), magnitude, false);
    assert!(applied(vec![0.6], vec![0, 7], false) == expected);
}

#[test]
fn erasing_fills_a_box_with_what_it_is_told() {
    let erased = |filling: Filling, p: f64, sample: u64| {
        let step = ViewOp::RandomErasing { p, scale: (0.1, 0.2), ratio: (0.5, 2.0), filling };
        let mut stream = Key { seed: 3, epoch: 0, sample }.stream("views.erased");
        let image = Image::new(60, 80, 3, vec![7; 60 * 80 * 3]);
        view::apply(&[step], Cow::Owned(image), &mut stream, &mut Geometry::default()).expect("it fits")
    };
    let (mut changed, mut levels, mut sum) = (0, 0, 0.0);
    for sample in 0..200 {
        let count = |image: &Image, is: fn(&u8) -> bool| image.data.iter().filter(|v| is(v)).count();
        let black = erased(Filling::Level(0), 0.25, sample);
        let share = count(&black, |v| *v == 0) as f64 / black.data.len() as f64;
        assert!(share == 0.0 || (0.09..0.21).contains(&share), "{share}");
        changed += usize::from(share > 0.0);
        let noise = erased(Filling::Noise, 1.0, sample);
        let values: Vec<f64> = noise.data.iter().filter(|v| **v != 7).map(|v| f64::from(*v)).collect();
        levels += values.len();
        sum += values.iter().sum::<f64>();
    }
    assert!((30..=70).contains(&changed), "of 200: {changed}");
    assert!((sum / levels as f64 - 127.5).abs() < 1.0, "the mean of noise is {}", sum / levels as f64);
}
