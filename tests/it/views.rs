//! View steps against torchvision's, on a photo.
//!
//! Tolerances are the file's advice: torchvision rounds to 8 bits after each step, and between both passes of a resize.

use std::borrow::Cow;

use cmae::data::Image;
use cmae::data::rng::Key;
use cmae::data::view::geometry::{Geometry, Window, crop, flip, resize, resized_window};
use cmae::data::view::{self, Draw, blur, color, normalize};
use cmae::spec::{Interpolation, Scaling, ViewOp};
use cmae::verify::Fixture;
use cmae::wide::at_each_level;
use serde_json::Value;

use crate::cases::Noise;
use crate::command::root;

fn fixture() -> Fixture {
    Fixture::read(&root("tests/golden/augment_torchvision.safetensors")).expect("it is in the repository")
}

/// `[C, H, W]` levels as an image.
fn photo(file: &Fixture) -> Image {
    let tensor = file.tensor("input.photo").expect("the file has a photo");
    let (channels, height, width) = (tensor.shape[0], tensor.shape[1], tensor.shape[2]);
    let values = tensor.values.to_f64();
    let at = |i: usize| values[(i % channels) * height * width + i / channels] as u8;
    Image::new(height, width, channels, (0..values.len()).map(at).collect())
}

/// `[C, H, W]` levels of an image.
fn planes(image: &Image) -> Vec<f64> {
    let (channels, pixels) = (image.channels, image.height * image.width);
    (0..image.data.len()).map(|i| f64::from(image.data[(i % pixels) * channels + i / pixels])).collect()
}

fn number(arguments: &Value, name: &str) -> f64 {
    arguments[name].as_f64().expect("the step has this argument")
}

/// `image` after a step; `Err` holds the normalised values that end a view.
fn step(name: &str, arguments: &Value, image: Image) -> Result<Image, Vec<f64>> {
    let factor = |key: &str| number(arguments, &format!("{key}_factor"));
    let size = |key: &str| number(arguments, key) as usize;
    let list = |key: &str| -> Vec<f64> {
        let items = arguments[key].as_array().expect("a list");
        items.iter().map(|v| v.as_f64().expect("a number")).collect()
    };
    Ok(match name {
        "resized_crop" => {
            let window = Window { top: size("top"), left: size("left"), height: size("height"), width: size("width") };
            let interpolation = match arguments["interpolation"].as_str() {
                Some("bicubic") => Interpolation::Bicubic,
                _ => Interpolation::Bilinear,
            };
            let to = list("size");
            resize(&crop(&image, window), (to[0] as usize, to[1] as usize), interpolation)
        }
        "brightness" => color::brightness(image, factor(name)),
        "contrast" => color::contrast(image, factor(name)),
        "saturation" => color::saturation(image, factor(name)),
        "hue" => color::hue(image, factor(name)),
        "grayscale" => color::grayscale(image),
        "solarize" => color::solarize(image, size("threshold") as u8),
        "hflip" => flip(image),
        "blur" => blur::gaussian(image, number(arguments, "sigma"), size("kernel_size") / 2),
        "normalize" => {
            let scaling = Scaling { mean: list("mean"), std: list("std") };
            return Err(normalize(&image, &scaling).into_iter().map(f64::from).collect());
        }
        other => panic!("the file has a new step `{other}`"),
    })
}

/// (largest difference allowed, share of values that may differ by more than a tenth of it, mean).
fn tolerance(name: &str) -> (f64, f64, f64) {
    match name {
        name if name.starts_with("crop_") => (1.0, 0.05, 0.05),
        name if name.starts_with("jitter_") => (3.0, 1.0, 0.1),
        "normalize" => (0.02, 1.0, 0.001),
        "view" => (0.07, 1.0, 0.005),
        _ => (1.0, 0.01, 0.01),
    }
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
    let file = fixture();
    let original = photo(&file);
    let steps = file.config.0["steps"].as_object().expect("the config lists the steps").clone();
    assert_eq!(steps.len(), 22);
    let mut faults = Vec::new();
    for (name, list) in steps {
        let mut image = Ok(original.clone());
        for entry in list.as_array().expect("a list of steps") {
            let kind = entry[0].as_str().expect("a step has a name");
            image = image.and_then(|image| step(kind, &entry[1], image));
        }
        let found = match image {
            Ok(image) => planes(&image),
            Err(values) => values,
        };
        let expected = file.tensor(&format!("out.{name}")).expect("each list has a result").values.to_f64();
        assert_eq!(found.len(), expected.len(), "{name}");
        let differences: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).collect();
        let (most, share, mean) = tolerance(&name);
        let largest = differences.iter().copied().fold(0.0, f64::max);
        let off = differences.iter().filter(|d| **d > most / 10.0).count() as f64 / differences.len() as f64;
        let average = differences.iter().sum::<f64>() / differences.len() as f64;
        if largest > most || off > share || average > mean {
            faults.push(format!("{name}: largest {largest:.3}, {:.2} % differ, mean {average:.4}", 100.0 * off));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
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
