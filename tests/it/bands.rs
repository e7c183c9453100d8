//! Pictures of other than one or three channels: read from TIFF and with alpha, viewed, trained on, exported.

use std::fs;

use cmae::data::Image;
use cmae::data::decode::{Reading, decode};
use cmae::data::source;
use cmae::data::view::geometry::resize;
use cmae::spec::{Interpolation, MAX_PIXELS, SourceSpec};
use image::{ImageBuffer, ImageFormat, Rgba, RgbaImage};

use crate::cases::{encoded, jpeg, picture};
use crate::command::{fail, run, succeed};
use crate::made::{self, npy, value, write};
use crate::runs::text;

fn reading(channels: usize) -> Reading {
    Reading { channels, max_pixels: MAX_PIXELS, range: None }
}

#[test]
fn the_bands_of_a_tiff_are_channels() {
    for (bands, bits, by_plane) in
        [(12, 8, false), (12, 16, false), (12, 8, true), (5, 16, true), (4, 8, false), (2, 8, false)]
    {
        let what = format!("{bands} bands of {bits} bits, by plane: {by_plane}");
        let decoded = decode(&made::tiff(0, bands, bits, by_plane, false), reading(bands));
        let image = decoded.unwrap_or_else(|reason| panic!("{what}: {reason}")).image;
        assert_eq!((image.height, image.width, image.channels), (3, 2, bands), "{what}");
        let expected: Vec<u8> = (0..6 * bands).map(|at| value(0, at % bands * 6 + at / bands)).collect();
        assert_eq!(image.data, expected, "{what}");
    }
}

#[test]
fn alpha_is_a_fourth_channel_and_what_is_not_there_is_not_made() {
    let alpha = RgbaImage::from_fn(4, 3, |x, y| Rgba([x as u8, y as u8, 7, (x * 40 + y) as u8]));
    let deep: ImageBuffer<Rgba<u16>, Vec<u16>> =
        ImageBuffer::from_fn(4, 3, |x, y| Rgba([x, y, 7, x * 40 + y].map(|v| v as u16 * 257)));
    for bytes in [encoded(alpha.clone(), ImageFormat::Png), encoded(deep, ImageFormat::Png)] {
        let image = decode(&bytes, reading(4)).expect("it has alpha").image;
        assert_eq!((image.channels, &image.data), (4, alpha.as_raw()));
        assert_eq!(decode(&bytes, reading(3)).expect("alpha is dropped").image.channels, 3);
    }
    let (png, jpeg) = (encoded(picture('a', 0), ImageFormat::Png), jpeg(16, false));
    let cases: [(&[u8], usize, &str); 6] = [
        (&png, 4, "a picture of 3 channels where `data.channels` says 4"),
        (&jpeg, 12, "a picture of 3 channels where `data.channels` says 12"),
        (&encoded(alpha, ImageFormat::Png), 5, "a picture of 3 channels where `data.channels` says 5"),
        (&made::tiff(0, 12, 8, false, false), 4, "a picture of 12 bands where `data.channels` says 4"),
        (&made::tiff(0, 12, 8, true, true), 12, "it lies turned"),
        (&made::tiff(0, 12, 8, true, false)[..300], 12, "ends early"),
    ];
    for (bytes, channels, message) in cases {
        let reason = decode(bytes, reading(channels)).expect_err(message);
        assert!(reason.starts_with(message), "{message}: {reason}");
    }
    assert!(decode(&made::tiff(0, 12, 8, false, false), reading(3)).is_err(), "twelve bands are no colour");
}

#[test]
fn channels_are_resized_each_as_it_is() {
    let colour = Image::new(7, 9, 3, (0..7 * 9 * 3).map(|place| value(1, place)).collect());
    let repeated = colour.data.chunks_exact(3).flat_map(|rgb| rgb.repeat(4)).collect();
    let many = Image::new(7, 9, 12, repeated);
    for (size, interpolation) in [((4, 5), Interpolation::Bicubic), ((14, 11), Interpolation::Bilinear)] {
        let (one, twelve) = (resize(&colour, size, interpolation), resize(&many, size, interpolation));
        let expected: Vec<u8> = one.data.chunks_exact(3).flat_map(|rgb| rgb.repeat(4)).collect();
        assert_eq!(twelve.data, expected);
    }
}

#[test]
fn arrays_that_are_no_pictures_say_why() {
    let cases: [(&[u8], &str); 9] = [
        (b"\x89PNG", "it is no array that NumPy saved"),
        (b"\x93NUMPY\x04\0\x01\0 ", "it is of version 4"),
        (b"\x93NUMPY\x01\0\xff\xff{", "ends early"),
        (
            &npy("|u1", false, &[3, 5, 3], &[0.0; 45]),
            "its shape, 3 x 5 x 3, may be [H, W, C] or [C, H, W]: write `layout: \"hwc\"`",
        ),
        (
            &npy("|u1", false, &[5, 5, 4], &[0.0; 100]),
            "its shape, 5 x 5 x 4, has no side of 3, which `data.channels` says",
        ),
        (&npy("<f8", false, &[1, 1, 3], &[0.0; 3]), "its values are of type `<f8`: u1, u2 and f4 are read"),
        (&npy("<f4", false, &[1, 1, 3], &[f32::NAN; 3]), "it holds values that are no numbers"),
        (&npy("|u1", false, &[2, 2, 3], &[0.0; 13]), "it holds 13 bytes of values, its shape says 12"),
        (&npy("|u1", false, &[2, 0, 3], &[]), "0 x 2 pixels are no picture"),
    ];
    let place = tempfile::tempdir().expect("a temporary folder");
    for (number, (bytes, _)) in cases.iter().enumerate() {
        write(&place.path().join(format!("{number}.npy")), bytes);
    }
    write(&place.path().join("a.png"), b"");
    let spec = SourceSpec::Npy { path: text(place.path()).to_owned(), range: None, layout: None };
    let source = source::open(&spec, 3, MAX_PIXELS).expect("arrays lie there");
    assert_eq!(source.passed(), ["1 file is no array by its ending: `a.png`"]);
    for (number, (_, message)) in cases.iter().enumerate() {
        let reason = source.image(number).expect_err(message);
        assert!(reason.starts_with(message), "{message}: {reason}");
    }
}

#[test]
fn values_that_8_bits_lose_are_told() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let ramp: Vec<f32> = (0..400).map(|v| v as f32).collect();
    write(&place.path().join("0.npy"), &npy("<u2", false, &[20, 20], &ramp));
    write(&place.path().join("1.npy"), &npy("<f4", false, &[20, 20], &ramp));
    let spec = SourceSpec::Npy { path: text(place.path()).to_owned(), range: None, layout: None };
    let said = source::open(&spec, 1, MAX_PIXELS).expect("arrays lie there").noticed();
    let few = format!(
        "0.npy keeps 3 of 256 levels: its values, of 16 bits, run from 0 to 399; write npy(\"{}\", range: 0..511)",
        place.path().display()
    );
    let beyond = "1.npy has values from 0 to 399, beyond `range: 0..1`: what is outside becomes black or white";
    assert_eq!(said, [few, beyond.to_owned()]);
}

/// The quickstart on arrays of 12 channels, at a size for tests.
#[test]
fn twelve_channels_are_trained_on_and_exported() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let arrays = made::sources().into_iter().find(|made| made.name == "npy").expect("it is among them");
    arrays.write(place.path());
    let source = arrays.text.replace("ROOT", text(place.path()));
    let folder = place.path().join("run");
    let sets = [format!("data.train={source}"), format!("data.val={source}")];
    let mut arguments = vec!["run", "pipelines/quickstart.cmae", "--threads", "2", "--out", text(&folder)];
    let sizes = [
        "data.channels=12",
        "data.batch_size=8",
        "train.epochs=2",
        "model.encoder.embed_dim=32",
        "model.encoder.depth=1",
        "evaluate.knn.k=5",
    ];
    sizes.into_iter().chain(sets.iter().map(String::as_str)).for_each(|set| arguments.extend(["--set", set]));
    succeed(&arguments);
    let pictures = fs::read_dir(&folder).expect("a run").count();
    assert!(pictures > 3, "{pictures} entries");
    let file = place.path().join("encoder.safetensors");
    succeed(&["export", text(&folder), "-o", text(&file)]);
    let bytes = fs::read(&file).expect("it was written");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is whole");
    let weight = tensors.tensor("patch_embed.proj.weight").expect("timm's name");
    // timm's `in_chans=12`.
    assert_eq!(weight.shape()[..2], [32, 12]);
    // What needs colour says so before anything is read.
    let said = fail(&[
        "check",
        "pipelines/quickstart.cmae",
        "--set",
        "data.channels=12",
        "--set",
        "views.online=master |> random_grayscale(20%) |> crop(image_size, at: (0px, 0px)) |> normalize(mean: 0.3, std: 0.35)",
    ]);
    assert!(said.contains("view::colour_missing") && said.contains("images of 12 channels"), "{said}");
    for (channels, code) in [("0", "unit::wrong_type"), ("5000", "unit::out_of_range"), ("3px", "unit::wrong_type")] {
        let set = format!("data.channels={channels}");
        let (_, _, said) = run(&["check", "pipelines/quickstart.cmae", "--set", &set]);
        assert!(said.contains(code), "{channels}: {said}");
    }
}
