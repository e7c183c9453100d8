//! Sets of pictures as commands take them by a path: which source reads it, what `data check` tells of it, and what `data pack` makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cmae::data::pack::{PackError, ShardSize, pack};
use cmae::data::source::{self, Source, recognise, written};
use cmae::spec::{MAX_PIXELS, Shuffle, SourceSpec};
use image::ImageFormat;
use serde_json::Value;

use crate::cases::{self, encoded, file, picture, probe, trained};
use crate::command::{fail, run, succeed};
use crate::made::{self, BANDS, Made, TABLE, Table};
use crate::runs::text;

/// A source by its name there, and its files below a new folder.
fn made(name: &str) -> (Made, tempfile::TempDir) {
    let made = made::sources().into_iter().find(|made| made.name == name).expect("there is one of this name");
    let place = tempfile::tempdir().expect("a temporary folder");
    made.write(place.path());
    (made, place)
}

/// What reads `path` below `root`, or why nothing does, with `ROOT` for the root.
fn of(root: &Path, path: &str) -> Result<String, String> {
    let path = if path.is_empty() { text(root).to_owned() } else { format!("{}/{path}", text(root)) };
    let bare = |said: String| said.replace(text(root), "ROOT");
    match recognise(&path) {
        Ok(spec) => Ok(bare(written(&spec))),
        Err(error) => Err(bare(format!("{error}; {}", error.help().unwrap_or_default()))),
    }
}

#[test]
fn what_lies_at_a_path_is_recognised() {
    for (name, path, expected) in [
        ("cifar10", "", "cifar10(\"ROOT\")"),
        ("cifar100", "", "cifar100(\"ROOT\", split: \"val\")"),
        ("idx", "", "idx(\"ROOT/train-images\", labels: \"ROOT/train-labels\")"),
        ("idx", "train-images", "idx(\"ROOT/train-images\", labels: \"ROOT/train-labels\")"),
        ("compressed idx", "pictures.gz", "idx(\"ROOT/pictures.gz\")"),
        ("tar_shards", "s", "tar_shards(\"ROOT/s\")"),
        ("tar_shards", "", "tar_shards(\"ROOT/s\")"),
        ("tar_shards", "s/x-09.tar", "tar_shards(\"ROOT/s/x-09.tar\")"),
        ("tar_shards", "s/x-{08..11}.tar", "tar_shards(\"ROOT/s/x-{08..11}.tar\")"),
        ("parquet", "", "parquet(\"ROOT\")"),
        ("parquet", "p/train-00000-of-00002.parquet", "parquet(\"ROOT/p/train-00000-of-00002.parquet\")"),
        ("parquet by row groups", "{0..1}.parquet", "parquet(\"ROOT/{0..1}.parquet\", image: \"img\")"),
        ("image_folder of bands", "", "image_folder(\"ROOT\")"),
        ("npy", "", "npy(\"ROOT\")"),
    ] {
        let (_, place) = made(name);
        assert_eq!(of(place.path(), path).as_deref(), Ok(expected), "{name}");
        let spec = recognise(text(&place.path().join(path))).expect("it was");
        let channels = if name.contains("idx") {
            1
        } else if name.contains("bands") || name == "npy" {
            BANDS
        } else {
            3
        };
        let opened = source::open(&spec, channels, MAX_PIXELS);
        assert!(opened.is_ok_and(|source| !source.is_empty()), "{name} is opened as {expected}");
    }
    // MNIST's own names, compressed.
    let (idx, place) = made("compressed idx");
    for (name, (_, bytes)) in ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"].iter().zip(&idx.files) {
        file(&place.path().join("mnist").join(name), bytes);
        file(&place.path().join("mnist").join(name.replace("t10k", "train")), bytes);
    }
    let mnist = "idx(\"ROOT/mnist/train-images-idx3-ubyte.gz\", labels: \"ROOT/mnist/train-labels-idx1-ubyte.gz\")";
    assert_eq!(of(place.path(), "mnist").as_deref(), Ok(mnist));
}

#[test]
fn what_is_of_no_kind_or_of_two_is_said() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let root = place.path();
    let png = made::png(1);
    file(&root.join("both/a/1.png"), &png);
    file(&root.join("both/b/1.npy"), b"\x93NUMPY");
    file(&root.join("shards/a/1.tar"), b"");
    file(&root.join("shards/b/1.tar"), b"");
    file(&root.join("labels"), b"\0\0\x08\x01\0\0\0\0");
    file(&root.join("note.txt"), b"a text");
    // What a folder was unpacked from is no second kind, and a folder of nothing says what it holds instead.
    file(&root.join("unpacked/a.tar"), b"");
    file(&root.join("unpacked/a/1.png"), &png);
    file(&root.join("heic/a.heic"), b"");
    for (path, message, help) in [
        (
            "both",
            "is no set of one kind: it holds pictures (`a/1.png`) and arrays (`b/1.npy`)",
            "such as `ROOT/both/b`",
        ),
        ("shards", "shards lie in `ROOT/shards/a` and in `ROOT/shards/b`", "`ROOT/shards/a`"),
        ("labels", "it holds the labels of an IDX set", "the file of its pictures"),
        ("both/a/1.png", "it is one picture", "try `ROOT/both/a`"),
        ("both/b/1.npy", "it is one array", "try `ROOT/both/b`"),
        ("note.txt", "it is no tar, Parquet or IDX file", "name a folder of pictures"),
        ("x-{0..1}.zip", "it ends neither in `.tar` nor in `.parquet`", "{000..999}.tar"),
        ("bothh", "folder `ROOT/bothh` does not exist", "did you mean `ROOT/both`?"),
    ] {
        let found = of(root, path).expect_err("it is refused");
        assert!(found.contains(message) && found.contains(help), "{path}: {found}");
    }
    assert_eq!(of(root, "unpacked").as_deref(), Ok("image_folder(\"ROOT/unpacked\")"));
    assert_eq!(of(root, "heic").as_deref(), Ok("image_folder(\"ROOT/heic\")"));
}

fn json(arguments: &[&str]) -> (i32, Value) {
    let (code, stdout, stderr) = run(arguments);
    let found = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    (code, found)
}

#[test]
fn a_check_counts_measures_and_names_what_is_broken() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let root = place.path();
    // Half of the pixels black, half white; a gray one of one value; and a wider one.
    let halves = image::RgbImage::from_fn(4, 2, |x, _| image::Rgb(if x < 2 { [0, 0, 0] } else { [255, 255, 255] }));
    let even = image::RgbImage::from_pixel(4, 2, image::Rgb([51, 102, 0]));
    file(&root.join("a/halves.png"), &encoded(halves, ImageFormat::Png));
    file(&root.join("b/even.bmp"), &encoded(even, ImageFormat::Bmp));
    let (code, found) = json(&["data", "check", text(root), "--json"]);
    assert_eq!(code, 0, "{found}");
    assert_eq!(found["formats"], serde_json::json!({ "bmp": 1, "png": 1 }));
    assert_eq!((&found["gray"], &found["read"]), (&1.into(), &2.into()));
    assert_eq!(found["height"], serde_json::json!({ "min": 2, "median": 2, "max": 2 }));
    // Means of (0, 1, 0.2, 0.2), (0, 1, 0.4, 0.4) and (0, 1, 0, 0), each of a quarter of the pixels.
    for (mean, expected) in found["mean"].as_array().expect("a list").iter().zip([0.35, 0.45, 0.25]) {
        assert!((mean.as_f64().expect("a number") - expected).abs() < 1e-12, "{mean}");
    }
    assert_eq!(found["normalize"], "normalize(mean: [0.3500, 0.4500, 0.2500], std: [0.3841, 0.3571, 0.4330])");
    // What it says to write is what the language reads.
    let text_of = |key: &str| found[key].as_str().expect("a text").to_owned();
    let set = format!("data.train={}", text_of("source"));
    let normalize = format!("views.eval=resize(image_size) |> center_crop(image_size) |> {}", text_of("normalize"));
    succeed(&["check", "pipelines/quickstart.cmae", "--set", &set, "--set", "data.channels=3", "--set", &normalize]);

    file(&root.join("a/cut.png"), &made::png(1)[..60]);
    (0..14).for_each(|number| file(&root.join(format!("b/{number:02}.jpg")), b"<html>"));
    let (code, found) = json(&["data", "check", text(root), "--json", "--threads", "2"]);
    let broken = found["broken"].as_array().expect("a list");
    assert_eq!((code, broken.len(), &found["read"]), (1, 15, &2.into()));
    assert_eq!(broken[0]["name"], "a/cut.png");
    assert!(broken[0]["reason"].as_str().is_some_and(|reason| reason.starts_with("ends early")), "{}", broken[0]);
    let (code, told, error) = run(&["data", "check", text(root)]);
    assert_eq!((code, error.trim_end()), (1, "15 of 17 pictures are broken"));
    for line in [
        "and 5 more: --json names them all",
        "a/cut.png: ends early",
        "`a` 2, `b` 15",
        "1 bmp, 1 png",
        "2 of 17, 15 broken",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    // Always the same of them, and all figures whatever the number of threads.
    let sample =
        |threads: &str| json(&["data", "check", text(root), "--sample", "9", "--json", "--threads", threads]).1;
    assert_eq!((sample("1"), &sample("3")["tried"]), (sample("3"), &9.into()));
}

#[test]
fn a_check_takes_every_kind_and_refuses_what_it_cannot_read() {
    for (name, arguments, pictures) in [
        ("cifar10", &[][..], 15),
        ("idx", &[], 20),
        ("npy", &["--channels", "12", "--range", "0..255"], 20),
        ("tar_shards", &["--range", "0..4095"], 20),
        ("parquet", &[], 13),
    ] {
        let (_, place) = made(name);
        let arguments = [&["data", "check", text(place.path()), "--json"], arguments].concat();
        let (code, found) = json(&arguments);
        assert_eq!((code, &found["read"]), (0, &pictures.into()), "{name}: {found}");
    }
    let (_, place) = made("idx");
    let error = fail(&["data", "check", text(place.path()), "--range", "0..9"]);
    assert!(error.contains("have 8 bits") && error.contains("help: leave out --range"), "{error}");
    let (_, place) = made("tar_shards");
    let error = fail(&["data", "check", text(place.path()), "--range", "0..0.5"]);
    assert!(error.contains("help: --range 0..4095"), "{error}");
    let error = fail(&["data", "check", "no/such"]);
    assert!(error.contains("folder `no/such` does not exist") && error.contains("help: "), "{error}");
}

fn open_shards(path: &Path, channels: usize) -> Arc<dyn Source> {
    let spec = SourceSpec::TarShards { path: text(path).to_owned(), range: None, shuffle: Shuffle::All };
    source::open(&spec, channels, MAX_PIXELS).unwrap_or_else(|error| panic!("{error}"))
}

/// The number in the packed source of each picture of `shards`, by its key.
fn numbers(shards: &dyn Source) -> Vec<usize> {
    let key = |index| shards.name(index).rsplit('/').next().expect("it has one").parse().expect("it is a number");
    (0..shards.len()).map(key).collect()
}

fn go_on(_: usize) -> std::ops::ControlFlow<()> {
    std::ops::ControlFlow::Continue(())
}

#[test]
fn what_is_packed_is_read_again_as_it_was() {
    for made in made::sources() {
        let place = tempfile::tempdir().expect("a temporary folder");
        made.write(place.path());
        let source = source::open(&made.spec(place.path()), made.channels, MAX_PIXELS).expect("it is whole");
        let out = place.path().join("packed");
        let packed = pack(&*source, &out, ShardSize::Pictures(6), 1, &mut go_on);
        if made.name == "npy" {
            let error = packed.expect_err("PNG has no 12 channels").to_string();
            assert!(error.contains("a picture of 12 channels, and PNG has 1 or 3"), "{error}");
            assert!(!out.exists() && !place.path().join("packed.partial").exists());
            continue;
        }
        let packed = packed.unwrap_or_else(|error| panic!("{}: {error}", made.name));
        assert_eq!((packed.pictures, packed.shards), (source.len(), source.len().div_ceil(6)), "{}", made.name);
        let shards = open_shards(&out, made.channels);
        let numbers = numbers(&*shards);
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), source.len(), "{}: each once", made.name);
        assert!(!numbers.is_sorted(), "{}: in an order that is drawn", made.name);
        for (index, number) in numbers.into_iter().enumerate() {
            assert!(shards.image(index) == source.image(number), "{} {number}", made.name);
            assert_eq!(shards.label(index), source.label(number), "{} {number}", made.name);
            // Byte for byte, where there are bytes.
            if let Some(bytes) = source.file(number) {
                assert!(shards.file(index).expect("it is a file") == bytes, "{} {number}", made.name);
            }
        }
        assert_eq!(shards.classes(), source.classes(), "{}", made.name);
    }
}

#[test]
fn the_same_seed_and_size_make_the_same_bytes() {
    let (made, place) = made("parquet");
    let source = source::open(&made.spec(place.path()), 3, MAX_PIXELS).expect("it is whole");
    let written = |name: &str, size: ShardSize, seed: u64| -> Vec<(String, Vec<u8>)> {
        let out = place.path().join(name);
        pack(&*source, &out, size, seed, &mut go_on).unwrap_or_else(|error| panic!("{error}"));
        let mut files: Vec<_> =
            fs::read_dir(&out).expect("it is there").map(|entry| entry.expect("it is there")).collect();
        files.sort_by_key(|entry| entry.file_name());
        let file = |entry: &fs::DirEntry| {
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("it can be read"))
        };
        files.iter().map(file).collect()
    };
    let first = written("one", ShardSize::Bytes(6000), 7);
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.len() > 3 && names[0] == "000000.tar" && names.contains(&"classes.txt"), "{names:?}");
    assert!(first.iter().all(|(_, bytes)| bytes.len() <= 6000), "no shard is larger than was asked for");
    assert!(first == written("two", ShardSize::Bytes(6000), 7));
    assert!(first != written("three", ShardSize::Bytes(6000), 8));
    // A picture that is larger than a shard has one of its own.
    assert_eq!(written("four", ShardSize::Bytes(1), 7).len(), made.pictures.len() + 1);
}

#[test]
fn a_pack_writes_over_nothing_and_leaves_out_what_is_no_picture() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let root = place.path();
    for number in 0..3 {
        file(&root.join(format!("set/a/{number}.png")), &encoded(picture('a', number), ImageFormat::Png));
    }
    file(&root.join("set/a/page.jpg"), b"<html>");
    let (set, out) = (root.join("set"), root.join("out"));
    let command = ["data", "pack", text(&set), "-o", text(&out)];
    let (code, told, said) = run(&command);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning: a/page.jpg is left out: a web page (HTML)"), "{said}");
    assert!(told.contains("3 pictures in 1 shard") && told.contains("train = tar_shards("), "{told}");
    let line = told.lines().last().expect("it says what to write").replace("train = ", "data.train=");
    succeed(&["check", "pipelines/quickstart.cmae", "--set", &line]);
    let before = fs::read(out.join("000000.tar")).expect("it is there");
    let error = fail(&command);
    assert!(error.contains("is there already") && error.contains("help: "), "{error}");
    assert!(fs::read(out.join("000000.tar")).expect("it is there") == before);
    // Who was killed left a folder of another name, which is neither taken for the set nor written into.
    let other = root.join("other");
    cases::folder(&root.join("other.partial"));
    let error = fail(&["data", "pack", text(&set), "-o", text(&other)]);
    assert!(error.contains("other.partial was left by a pack that was broken off") && !other.exists(), "{error}");
    // Who is asked to leave leaves nothing.
    let source = source::open(&recognise(text(&set)).expect("it is one"), 3, MAX_PIXELS).expect("it is whole");
    let third = root.join("third");
    let ended = pack(&*source, &third, ShardSize::Pictures(1), 0, &mut |_| std::ops::ControlFlow::Break(()));
    assert!(matches!(ended, Err(PackError::Ended { .. })), "{ended:?}");
    assert!(!third.exists() && !root.join("third.partial").exists());
}

/// While the process is killed, whenever that is, no folder of the set's name is there.
#[cfg(unix)]
#[test]
fn a_pack_that_is_killed_leaves_no_set_that_looks_whole() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let root = place.path();
    let table = Table {
        rows: 200,
        picture: |number| Some(cases::encoded(cases::static_noise(64 + number as u32 % 3), ImageFormat::Bmp)),
        ..TABLE
    };
    file(&root.join("set.parquet"), &made::parquet(&table, 0..2000));
    let (set, out, partial) = (root.join("set.parquet"), root.join("out"), root.join("out.partial"));
    let mut child = crate::command::cmaec(&["data", "pack", text(&set), "-o", text(&out), "--per-shard", "1"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the binary is there");
    let begun = std::time::Instant::now();
    while !partial.join("000002.tar").exists() && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    assert!(partial.is_dir() && !out.exists(), "it was at work, and nothing has the set's name");
}

#[test]
fn features_take_whatever_lies_at_a_path() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let root = place.path();
    cases::good(root);
    let run = trained(root);
    let (folder, shards) = (root.join("good/train"), root.join("shards"));
    succeed(&["data", "pack", text(&folder), "-o", text(&shards)]);
    let table = Table {
        classes: &["a", "b", "c"],
        picture: |number| Some(encoded(picture(['a', 'b', 'c'][made::label(number)], number), ImageFormat::Png)),
        ..TABLE
    };
    let file_of_rows = root.join("rows.parquet");
    file(&file_of_rows, &made::parquet(&table, 0..36));
    for (bank, queries) in [(&shards, &folder), (&file_of_rows, &shards)] {
        let (code, accuracy, said) = probe(&run, bank, queries);
        assert_eq!((code, accuracy), (0, Some(100.0)), "{}: {said}", bank.display());
    }
}
