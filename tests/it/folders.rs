//! Folders of pictures as users have them ([`crate::cases`]): what is read, with which label, and what is said of the rest.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cmae::data::DataError;
use cmae::data::source::{self, Source, describe};
use cmae::spec::{MAX_PIXELS, SourceSpec};
use image::{DynamicImage, ImageFormat};

use crate::cases::{self, classes, encoded, file, folder, good, picture, probe, train, trained};
use crate::command::{run, succeed};
use crate::runs::text;

fn open(path: &Path) -> Result<Arc<dyn Source>, DataError> {
    let spec = SourceSpec::ImageFolder { path: text(path).to_owned(), range: None, label_maps: None };
    source::open(&spec, 3, MAX_PIXELS)
}

fn opened(path: &Path) -> Arc<dyn Source> {
    open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// What is said of a source as it is opened, after its count.
fn said(source: &dyn Source) -> String {
    let lines = describe("data.train", source);
    assert!(lines.iter().all(|line| line.starts_with("data.train: ")), "{lines:?}");
    lines.iter().map(|line| line["data.train: ".len()..].to_owned()).collect::<Vec<_>>().join("\n")
}

/// Every picture's name, or why it is broken.
fn read(source: &dyn Source) -> Vec<Result<String, (String, String)>> {
    let one = |index| source.image(index).map(|_| source.name(index)).map_err(|reason| (source.name(index), reason));
    (0..source.len()).map(one).collect()
}

fn all_are_read(source: &dyn Source) {
    let broken: Vec<_> = read(source).into_iter().filter_map(Result::err).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn raw_pixels_tell_apart_the_classes_of_every_folder_that_is_read_right() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let run = trained(out.path());
    cases::cut(out.path());
    cases::litter(out.path());
    cases::formats(out.path());
    let mut folders = vec!["good", "cut", "litter", "formats"];
    if cfg!(unix) {
        cases::links(out.path());
        folders.push("links");
    }
    for name in folders {
        let data = out.path().join(name).join("train");
        let (code, accuracy, said) = probe(&run, &data, &data);
        assert_eq!((code, accuracy), (0, Some(100.0)), "{name}: {said}");
    }
}

#[test]
fn pictures_that_end_early_are_broken_by_name() {
    let out = tempfile::tempdir().expect("a temporary folder");
    cases::cut(out.path());
    let data = out.path().join("cut/train");
    let broken: Vec<_> = read(&*opened(&data)).into_iter().filter_map(Result::err).collect();
    let names: Vec<&str> = broken.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a/base.jpg", "a/progressive.jpg"]);
    assert!(broken.iter().all(|(_, reason)| reason.starts_with("ends early")), "{broken:?}");
    let (code, said) = train(&data, &data, 38, &out.path().join("run"), &[]);
    assert_eq!(code, 0, "{said}");
    for name in names {
        assert_eq!(said.matches(&format!("{name} is broken and passed over: ends early")).count(), 1, "{said}");
    }
}

#[test]
fn a_bomb_is_broken_by_name_and_the_run_goes_on() {
    let out = tempfile::tempdir().expect("a temporary folder");
    cases::bomb(out.path());
    let data = out.path().join("bomb/train");
    let run = out.path().join("run");
    let (code, said) = train(&data, &data, 37, &run, &["--set", "train.epochs=2"]);
    assert_eq!(code, 0, "{said}");
    let reason =
        "a/bomb.png is broken and passed over: 60000 x 60000 pixels are more than `data.max_pixels`, 178956970";
    assert_eq!(said.matches(reason).count(), 1, "{said}");
    let more = ["--set", "train.epochs=4", "--resume", "--accept-changes"];
    let (code, said) = train(&data, &data, 37, &run, &more);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches(reason).count(), 1, "{said}");
    // The limit is a setting.
    let (code, said) = train(
        &data,
        &data,
        37,
        &out.path().join("strict"),
        &["--set", "data.max_pixels=575", "--set", "data.max_broken=0%"],
    );
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("pixels are more than `data.max_pixels`, 575"), "{said}");
    assert!(said.contains("data::none_readable"), "{said}");
    let (code, said) = train(&data, &data, 37, &out.path().join("none"), &["--set", "data.max_broken=0%"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("data::too_many_broken"), "{said}");
}

#[test]
fn litter_is_no_class_and_no_picture() {
    let out = tempfile::tempdir().expect("a temporary folder");
    cases::litter(out.path());
    let root = out.path().join("litter/train");
    // More of the kind.
    for name in [
        ".ipynb_checkpoints/a.png",
        "$RECYCLE.BIN/S-1-5/b.png",
        "lost+found/c.png",
        "a/.AppleDouble/d.png",
        "#recycle/e.jpg",
    ] {
        file(&root.join(name), &encoded(picture('a', 0), ImageFormat::Png));
    }
    for name in ["Thumbs.db", "b/desktop.ini", ".DS_Store", "a/._01.png", "c/@eaDir/x/y.jpg"] {
        file(&root.join(name), b"\0\x05\x16\x07");
    }
    file(&root.join("b/caption.txt"), b"a picture");
    file(&root.join("b/list.csv"), b"a,b");
    file(&root.join("c/phone.HEIC"), b"\0\0\0\x18ftypheic");
    folder(&root.join("void"));
    folder(&root.join("hollow/deeper"));
    let source = opened(&root);
    assert_eq!(source.classes(), ["a", "b", "c"]);
    all_are_read(&*source);
    let expected = "36 pictures, 3 classes
2 folders without a picture are no classes, such as `hollow`
1 heic file is not read: `c/phone.HEIC`
2 files are no pictures by their ending, such as `b/caption.txt`
12 files or folders of a system are passed over, such as `#recycle`";
    assert_eq!(said(&*source), expected);
    // A run begins with it.
    let (code, said) = train(&root, &root, 36, &out.path().join("run"), &[]);
    assert_eq!(code, 0, "{said}");
    for line in expected.lines() {
        let train = format!("data.train: {line}");
        assert!(said.contains(&train) && said.contains(&train.replace("train", "val")), "{train}:\n{said}");
    }
}

#[test]
fn formats_go_by_content_and_what_is_no_picture_is_called_by_name() {
    let out = tempfile::tempdir().expect("a temporary folder");
    cases::formats(out.path());
    let root = out.path().join("formats/train");
    let source = opened(&root);
    assert_eq!(said(&*source), "30 pictures, 3 classes");
    all_are_read(&*source);
    let odd = out.path().join("odd");
    // Names that say nothing, or not the truth.
    for (name, format) in [("a.jpg", ImageFormat::Png), ("b.JPEG", ImageFormat::Jpeg), ("c", ImageFormat::Bmp)] {
        file(&odd.join(name), &encoded(picture('a', 1), format));
    }
    file(&odd.join("d.Jpg"), &encoded(DynamicImage::from(picture('a', 2)), ImageFormat::Gif));
    file(&odd.join("README"), b"what this is");
    let source = opened(&odd);
    assert_eq!(said(&*source), "4 pictures, no labels\n1 file is no picture by its ending: `README`");
    all_are_read(&*source);
    let wrong = out.path().join("wrong");
    let reasons: [(&str, &[u8], &str); 12] = [
        ("0.jpg", b"", "an empty file"),
        ("1.jpg", b"\xef\xbb\xbf\n<!DOCTYPE html><html><head><title>404", "a web page (HTML)"),
        ("2.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer"),
        ("3.png", b"\0\0\0\x20ftypavif\0\0\0\0avif", "an AVIF picture"),
        ("4.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1", "a HEIC picture"),
        ("5.png", b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "an SVG drawing"),
        ("6.webp", b"\xff\x0a\xfa\x1f", "a JPEG XL picture"),
        ("7.jpg", &[0; 4096], "a file of zeros"),
        ("8.jpg", b"not found\n", "a text"),
        ("9.png", b"{\"error\": 403}", "a JSON document"),
        ("a.tif", b"II+\0\x08\0\0\0", "a BigTIFF picture"),
        ("b.bmp", b"\x13\x37\0\xff\xfe", "not a jpeg, png, webp, gif, bmp or tiff picture"),
    ];
    for (name, bytes, _) in reasons {
        file(&wrong.join(name), bytes);
    }
    for (found, (name, _, reason)) in read(&*opened(&wrong)).into_iter().zip(reasons) {
        let (found, why) = found.expect_err("it is no picture");
        assert!(found == name && why.starts_with(reason), "{found}: {why}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_circles_are_cut_and_a_picture_is_one_picture() {
    use std::os::unix::fs::symlink;
    let out = tempfile::tempdir().expect("a temporary folder");
    cases::links(out.path());
    let root = out.path().join("links/train");
    let source = opened(&root);
    all_are_read(&*source);
    assert_eq!(said(&*source), "36 pictures, 3 classes\n3 links to folders are followed, such as `a/part1`");
    // More ways to the same pictures, and ways round.
    let link = |to: &str, at: &str| symlink(to, root.join(at)).expect("a new name");
    link("..", "a/loop");
    link("../..", "a/up");
    link(".", "b/self");
    link("../a/part1", "b/part2");
    link("../c", "b/part3");
    link("part1/00.png", "c/first.png");
    link("first.png", "c/again.png");
    link("nowhere", "c/lost.png");
    link("/dev/null", "c/null.png");
    fs::write(root.join("c/own.png"), encoded(picture('c', 99), ImageFormat::Png)).expect("a new name");
    link("own.png", "c/0wn.png");
    let source = opened(&root);
    all_are_read(&*source);
    let names: Vec<String> = (0..source.len()).map(|index| source.name(index)).collect();
    assert_eq!(source.classes(), ["a", "b", "c"]);
    assert_eq!(
        (names.len(), names[0].as_str(), names[36].as_str()),
        (37, "a/part1/00.png", "c/part1/11.png"),
        "{names:?}"
    );
    assert_eq!(
        said(&*source),
        "37 pictures, 3 classes
1 entry is no file and no folder: `c/null.png`
3 links to folders are followed, such as `a/part1`
3 links to folders lead back to where they lie, such as `a/loop`
1 link leads nowhere: `c/lost.png`
5 links lead to what is read already, such as `b/part2`"
    );
    // Class folders that are links, and pictures that are: each reached by one way only.
    let curated = out.path().join("curated");
    folder(&curated.join("few"));
    symlink(out.path().join("good/train/a"), curated.join("all")).expect("a new name");
    for number in 0..3 {
        let to = out.path().join(format!("good/train/b/{number:02}.png"));
        symlink(to, curated.join(format!("few/{number}.png"))).expect("a new name");
    }
    let source = opened(&curated);
    assert_eq!(said(&*source), "15 pictures, 2 classes\n1 link to a folder is followed: `all`");
    assert_eq!((source.name(0), source.label(14)), ("all/00.png".to_owned(), Some(1)));
}

#[test]
fn sixteen_bits_that_lose_their_levels_are_told_and_a_source_takes_the_range() {
    let out = tempfile::tempdir().expect("a temporary folder");
    cases::deep(out.path());
    let root = out.path().join("deep/train");
    let twelve = encoded(cases::ramp(4095), ImageFormat::Tiff);
    file(&root.join("a/twelve_bits.tif"), &twelve);
    let source = opened(&root);
    let line = format!(
        "a/twelve_bits.png keeps 17 of 256 levels: its values, of 16 bits, run from 0 to 4095; write image_folder(\"{}\", range: \
         0..4095)",
        root.display()
    );
    assert_eq!(said(&*source), format!("3 pictures, 1 class, `a`\n{line}"));
    assert_eq!(source.noticed(), [""; 0], "it is said once");
    let levels = |source: &dyn Source, index| {
        let image = source.image(index).expect("it is a picture");
        image.data.iter().collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!([levels(&*source, 0), levels(&*source, 1), levels(&*source, 2)], [256, 17, 17]);
    let spec = SourceSpec::ImageFolder { path: text(&root).to_owned(), range: Some((0, 4095)), label_maps: None };
    let ranged = source::open(&spec, 3, MAX_PIXELS).expect("it is there");
    assert_eq!([levels(&*ranged, 1), levels(&*ranged, 2)], [256, 256]);
    let expected =
        "a/full.png has values from 0 to 65535, beyond `range: 0..4095`: what is outside becomes black or white";
    assert_eq!(said(&*ranged), format!("3 pictures, 1 class, `a`\n{expected}"));
    // In the language.
    let data = format!("data.train=image_folder(\"{}\", range: 0..4095)", root.display());
    let (code, _, said) = run(&["check", "pipelines/quickstart.cmae", "--set", &data]);
    assert_eq!(code, 0, "{said}");
    for (range, message) in
        [("4095", "0..4095"), ("9..9", "unit::out_of_range"), ("0..65536", "unit::out_of_range"), ("0%..9%", "whole")]
    {
        let data = data.replace("0..4095", range);
        let (code, _, said) = run(&["check", "pipelines/quickstart.cmae", "--set", &data]);
        assert!(code == 1 && said.contains(message), "{range}: {said}");
    }
}

/// Composed, as most systems write `é`, and decomposed, as a Mac's disks do.
#[test]
fn unicode_forms_of_one_name_are_one_class() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let (one, other) = (out.path().join("one"), out.path().join("other"));
    for (root, name) in [(&one, composed), (&other, decomposed)] {
        classes(root, "b");
        file(&root.join(name).join("0.png"), &encoded(picture('a', 0), ImageFormat::Png));
    }
    assert_eq!(opened(&one).classes(), ["b", composed]);
    assert_eq!(opened(&other).classes(), opened(&one).classes());
    // Both forms in one folder, which some disks allow.
    file(&one.join(decomposed).join("1.png"), &encoded(picture('a', 1), ImageFormat::Png));
    if fs::read_dir(&one).expect("it is there").count() == 3 {
        let source = opened(&one);
        assert_eq!(source.classes(), ["b", composed]);
        assert_eq!((source.len(), source.label(12), source.label(13)), (14, Some(1), Some(1)));
        assert!(said(&*source).contains("1 folder is of another's class"), "{}", said(&*source));
    }
}

/// Listing a folder uses threads: a command starts its own before that.
#[test]
fn values_of_a_step_are_shown_of_a_folder_s_pictures() {
    let place = tempfile::tempdir().expect("a folder can be made");
    good(place.path());
    let folder = place.path().join("good/val");
    let sets = ["--set", "data.batch_size=8", "--data", text(&folder)];
    let said = succeed(&[&["show", "value", "pipelines/quickstart.cmae", "online.query"], &sets[..]].concat());
    assert!(said.contains("online.query") && said.contains("[8, 64]"), "{said}");
}
