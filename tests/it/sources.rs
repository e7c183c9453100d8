//! Sources that are read from other files than a folder of pictures ([`crate::made`]): pictures and labels, the same batches in
//! any circumstances, what tells them apart, and what is said of files that are not as they should be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cmae::data::DataError;
use cmae::data::loader::{Loader, LoaderOptions, TrainBatch};
use cmae::data::source::{self, Source, identities};
use cmae::diag::Diagnostics;
use cmae::graph::{InputDecl, InputKind};
use cmae::op::Type;
use cmae::source::Sources;
use cmae::spec::{CifarKind, Interpolation, MAX_PIXELS, Shuffle, SourceSpec, Split, ViewFrom, ViewOp, ViewSpec};
use cmae::tensor::Pictures;

use crate::command::root;
use crate::made::{self, Made, TABLE, Table, gzip, label, value, write};
use crate::runs::text;

fn open(made: &Made, root: &Path) -> Arc<dyn Source> {
    source::open(&made.spec(root), made.channels, MAX_PIXELS).unwrap_or_else(|error| panic!("{}: {error}", made.name))
}

/// Calls `check` with each kind of source and the folder that its files lie in.
fn with_each(check: impl Fn(&Made, &Path)) {
    for made in made::sources() {
        let place = tempfile::tempdir().expect("a temporary folder");
        made.write(place.path());
        check(&made, place.path());
    }
}

#[test]
fn pictures_and_labels_are_those_of_the_files() {
    with_each(|made, place| {
        let source = open(made, place);
        assert_eq!(source.len(), made.pictures.len(), "{}", made.name);
        assert_eq!(source.classes(), made.classes, "{}", made.name);
        for (index, number) in made.pictures.iter().copied().enumerate() {
            let image = source.image(index).unwrap_or_else(|reason| panic!("{} {index}: {reason}", made.name));
            let place = |channel: usize, pixel: usize| channel * image.height * image.width + pixel;
            for (at, found) in image.data.iter().enumerate() {
                let (pixel, channel) = (at / image.channels, at % image.channels);
                assert_eq!(*found, value(number, place(channel, pixel)), "{} {index} at {at}", made.name);
            }
            assert_eq!(source.label(index), Some(label(number) as i64), "{} {index}", made.name);
        }
    });
}

#[test]
fn the_language_spells_each() {
    with_each(|made, place| {
        let written = made.text.replace("ROOT", text(place));
        let settings = [format!("data.train={written}"), format!("data.channels={}", made.channels)];
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let pipeline = root("pipelines/quickstart.cmae");
        let compiled =
            cmae::compile(&mut sources, &mut diagnostics, &pipeline, &settings.map(|set| set.as_str().into()));
        let compiled = compiled.unwrap_or_else(|_| panic!("{written}: {:?}", diagnostics.list()));
        assert_eq!(compiled.program.spec.data.source("train"), Some(&made.spec(place)), "{written}");
    });
}

#[test]
fn what_a_source_is_written_as_is_read_back() {
    let spec = |written: &str, channels: usize| {
        let settings = [format!("data.train={written}"), format!("data.channels={channels}")];
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let pipeline = root("pipelines/quickstart.cmae");
        let compiled =
            cmae::compile(&mut sources, &mut diagnostics, &pipeline, &settings.map(|set| set.as_str().into()));
        let compiled = compiled.unwrap_or_else(|_| panic!("{written}: {:?}", diagnostics.list()));
        compiled.program.spec.data.source("train").cloned().expect("it has one")
    };
    let made: Vec<(SourceSpec, usize)> =
        made::sources().iter().map(|made| (made.spec(Path::new("my \"own\" pictures")), made.channels)).collect();
    let embedded = ["digits(\"val\")", "shapes(\"val\", count: 70, color: 7%, size: (40px, 48px))"];
    let embedded = embedded.map(|text| (spec(text, if text.starts_with('d') { 1 } else { 3 }), 1));
    for (source, channels) in made.into_iter().chain(embedded) {
        let written = source::written(&source);
        assert_eq!(spec(&written, channels), source, "{written}");
    }
}

fn batches(made: &Made, place: &Path, threads: usize, steps: std::ops::Range<u64>) -> Vec<TrainBatch> {
    let (size, channels) = ((5, 5), made.channels);
    let ops = vec![
        ViewOp::RandomResizedCrop { size, scale: (0.2, 1.0), ratio: (0.7, 1.4), interpolation: Interpolation::Bicubic },
        ViewOp::RandomFlip { p: 0.5 },
        ViewOp::Normalize { mean: vec![0.5; channels], std: vec![0.5; channels] },
    ];
    let from = ViewFrom::Source("train".to_owned());
    let views = [ViewSpec { name: "online".to_owned(), from, ops, size: Some(size), channels, normalized: true }];
    let kind = InputKind::View { view: "online".to_owned() };
    let label = InputDecl { name: "label".to_owned(), kind: InputKind::Label, ty: Type::int([4]) };
    let inputs = [InputDecl { name: "views.online".to_owned(), kind, ty: Type::float([4, channels, 5, 5]) }, label];
    let options = LoaderOptions { seed: 11, threads, prefetch: 2, pictures: Pictures::Floats, max_broken: 0.0 };
    let mut loader =
        Loader::start(open(made, place), &views, &inputs, 4, options, steps).expect("there are pictures enough");
    std::iter::from_fn(|| loader.next_batch()).map(|batch| batch.expect("none is broken")).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_threads_and_after_a_resume() {
    with_each(|made, place| {
        let one = batches(made, place, 1, 0..9);
        assert_eq!(one.len(), 9);
        for threads in [2, 8] {
            assert!(batches(made, place, threads, 0..9) == one, "{} with {threads} threads", made.name);
        }
        assert!(batches(made, place, 3, 5..9) == one[5..], "{} taken up again", made.name);
        let shown =
            |steps: std::ops::Range<usize>| one[steps].iter().flat_map(|b| b.indices.clone()).collect::<Vec<_>>();
        let epoch = made.pictures.len() / 4;
        assert_eq!(shown(0..epoch).into_iter().collect::<BTreeSet<_>>().len(), epoch * 4, "{}", made.name);
        assert_ne!(shown(0..epoch.min(4)), shown(epoch..epoch + epoch.min(4)), "{}: another order", made.name);
    });
}

#[test]
fn a_picture_is_itself_however_often_it_is_opened_and_a_source_is_known_where_it_lies() {
    with_each(|made, place| {
        let (first, second) = (open(made, place), open(made, place));
        let own = identities(&*first);
        assert!(own == identities(&*second), "{}: opened twice", made.name);
        assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), made.pictures.len(), "{}: all differ", made.name);
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        made.write(elsewhere.path());
        let moved = open(made, elsewhere.path());
        assert_eq!(moved.fingerprint(), first.fingerprint(), "{}: moved", made.name);
        // Copies of a file are pictures of their own.
        assert!(identities(&*moved).iter().all(|identity| !own.contains(identity)), "{}: copied", made.name);
    });
}

/// Writes the files of a source below a root.
type Prepare<'a> = &'a dyn Fn(&Path);

/// What is said of a source whose files are as `prepare` leaves them: the message without its place, and the help.
fn said(spec: impl Fn(&str) -> SourceSpec, channels: usize, prepare: impl Fn(&Path)) -> (String, String) {
    let place = tempfile::tempdir().expect("a temporary folder");
    prepare(place.path());
    let error = match source::open(&spec(text(place.path())), channels, MAX_PIXELS) {
        Ok(source) => panic!("{} pictures are read", source.len()),
        Err(error) => error,
    };
    let bare = |said: String| said.replace(text(place.path()), "ROOT");
    (bare(error.to_string()), bare(error.help().unwrap_or_default()))
}

#[test]
fn what_is_wrong_with_files_of_cifar_is_said() {
    let ten = |root: &str| SourceSpec::Cifar { kind: CifarKind::Cifar10, path: root.to_owned(), split: Split::Val };
    let cases: [(&str, Prepare<'_>, &str, &str); 6] = [
        (
            "nothing",
            &|_| (),
            "`ROOT` is no folder of CIFAR-10: it holds no `data_batch_1.bin`",
            "binary version's archive",
        ),
        (
            "the files for Python",
            &|root| write(&root.join("data_batch_1"), b"\x80\x02"),
            "it holds no `data_batch_1.bin`",
            "get the binary version, which unpacks to `cifar-10-batches-bin`",
        ),
        ("no test batch", &|root| write(&root.join("data_batch_1.bin"), &[0; 3073]), "file `ROOT/test_batch.bin`", ""),
        (
            "cut",
            &|root| write(&root.join("test_batch.bin"), &[0; 6000]),
            "`ROOT/test_batch.bin` is no CIFAR-10 file: 6000 bytes are no records of 3073",
            "get it anew",
        ),
        (
            "a label",
            &|root| write(&root.join("test_batch.bin"), &[11; 3073]),
            "its record 0 has label 11, of 10 classes",
            "get it anew",
        ),
        (
            "names",
            &|root| {
                write(&root.join("test_batch.bin"), &[1; 3073]);
                write(&root.join("batches.meta.txt"), b"a\nb\n");
            },
            "`ROOT/batches.meta.txt` is no list of names: it has 2 lines for 10 classes",
            "classes then go by their numbers",
        ),
    ];
    for (name, prepare, message, help) in cases {
        let found = said(ten, 3, prepare);
        assert!(found.0.contains(message) && found.1.contains(help), "{name}: {found:?}");
    }
}

#[test]
fn what_is_wrong_with_idx_files_is_said() {
    let spec =
        |root: &str| SourceSpec::Idx { images: format!("{root}/images"), labels: Some(format!("{root}/labels")) };
    let header = |kind: u8, sizes: &[u32]| {
        let mut bytes = vec![0, 0, kind, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes
    };
    let pictures = [header(8, &[2, 1, 3]), vec![7; 6]].concat();
    let mut compressed = gzip(&pictures);
    let end = compressed.len() - 6;
    compressed[end] ^= 1;
    let cases: [(&[u8], &[u8], &str); 10] = [
        (b"", b"", "`ROOT/images` is no IDX file of pictures: ends early"),
        (b"\x89PNG\r\n", b"", "it does not begin with the magic number"),
        (&header(13, &[2, 1, 3]), b"", "it holds floats, and unsigned bytes are read"),
        (&header(8, &[2, 3]), b"", "it has 2 dimensions, not 3"),
        (&header(8, &[2, 0, 3]), b"", "2 x 0 x 3 pixels are no pictures"),
        (&header(8, &[u32::MAX, u32::MAX, u32::MAX]), b"", "its dimensions are larger than any file"),
        (&header(8, &[60000, 28, 28]), b"", "ends early: 0 of 47040000 values are there"),
        (&[pictures.clone(), vec![0]].concat(), b"", "more than the 6 values"),
        (&compressed, b"", "damaged"),
        (
            &pictures,
            &[header(8, &[3]), vec![1; 3]].concat(),
            "`ROOT/labels` is no IDX file of labels: 3 labels for the 2",
        ),
    ];
    for (x, y, message) in cases {
        let found = said(spec, 1, |root| {
            write(&root.join("images"), x);
            write(&root.join("labels"), y);
        });
        assert!(found.0.contains(message) && found.1.contains("get it anew"), "{message}: {found:?}");
    }
    let found = said(spec, 1, |root| write(&root.join("images.gz"), &pictures));
    assert_eq!(found, ("file `ROOT/images` does not exist".to_owned(), "did you mean `ROOT/images.gz`?".to_owned()));
    let found = said(spec, 1, |root| fs::create_dir(root.join("images")).expect("a temporary folder"));
    assert_eq!(found.0, "`ROOT/images` is no file");
    // Without labels there are no classes.
    let place = tempfile::tempdir().expect("a temporary folder");
    write(&place.path().join("images"), &pictures);
    let spec = SourceSpec::Idx { images: format!("{}/images", text(place.path())), labels: None };
    let source = source::open(&spec, 1, MAX_PIXELS).expect("it is whole");
    assert_eq!((source.len(), source.label(1), source.classes().len()), (2, None, 0));
    let large = source::open(&spec, 1, 2).err().expect("3 pixels are more");
    assert!(matches!(large, DataError::WrongFormat { .. }), "{large}");
}

#[test]
fn what_is_wrong_with_shards_is_said() {
    let spec =
        |root: &str| SourceSpec::TarShards { path: format!("{root}/{{0..1}}.tar"), range: None, shuffle: Shuffle::All };
    let png = made::png(1);
    let whole = made::tar([("a.png", &*png), ("a.cls", b"1")]);
    let cases: [(Vec<u8>, &str, &str); 8] = [
        (vec![0; 10], "`ROOT/1.tar` is no shard that is read: 10 bytes are no tar file", "get it anew"),
        (
            gzip(&(0..9000).map(|place| value(place, place * place)).collect::<Vec<_>>()),
            "it is compressed",
            "decompress it: `gunzip \"ROOT/1.tar\"`",
        ),
        (whole[..1100].to_vec(), "ends early", "get it anew"),
        (whole[..1024].to_vec(), "ends early", "get it anew"),
        ([&[7; 1024], &whole[..]].concat(), "damaged", "get it anew"),
        (made::tar([("a.png", &*png), ("a.cls", b"dog")]), "`a.cls` holds no number of a class", "get it anew"),
        (made::tar([("a.png", &*png)]), "`a` has no label, and others have one", "write a `.cls` for each picture"),
        (made::tar([("a.png", &*png), ("a.cls", b"2000000000")]), "of a million classes at most", "from 0"),
    ];
    for (bytes, message, help) in cases {
        let found = said(spec, 3, |root| {
            write(&root.join("0.tar"), &whole);
            write(&root.join("1.tar"), &bytes);
        });
        assert!(found.0.contains(message) && found.1.contains(help), "{message}: {found:?}");
    }
    let found = said(spec, 3, |root| write(&root.join("0.tar"), &whole));
    assert_eq!(found.0, "file `ROOT/1.tar` does not exist");
    let folder = |root: &str| SourceSpec::TarShards { path: root.to_owned(), range: None, shuffle: Shuffle::All };
    assert_eq!(said(folder, 3, |_| ()).0, "folder `ROOT` holds no tar shard");
    let found = said(folder, 3, |root| write(&root.join("x.tar"), &made::tar([("a.cls", &b"1"[..])])));
    assert_eq!(found.1.lines().next(), Some("1 sample holds no picture: `x.tar/a`"));
    let found = said(folder, 3, |root| {
        write(&root.join("x.tar"), &whole);
        write(&root.join("classes.txt"), b"cat\n");
    });
    assert!(found.0.ends_with("it has 1 lines, and a picture has label 1"), "{found:?}");
}

#[test]
fn what_is_wrong_with_files_of_parquet_is_said() {
    let spec = |root: &str| SourceSpec::Parquet {
        path: format!("{root}/{{0..1}}.parquet"),
        image: "image".to_owned(),
        label: None,
        range: None,
        shuffle: Shuffle::All,
    };
    let whole = made::parquet(&TABLE, 0..4);
    let end = whole.len();
    let with_footer_of = |size: u32| [&whole[..end - 8], &size.to_le_bytes(), b"PAR1"].concat();
    let of = |table: Table| made::parquet(&table, 4..8);
    let cases: [(Vec<u8>, &str, &str); 12] = [
        (vec![0; 10], "`ROOT/1.parquet` is no Parquet file of pictures: 10 bytes are no Parquet file", "get it anew"),
        (vec![7; 40], "it does not begin with `PAR1`", "get it anew"),
        (whole[..end - 1].to_vec(), "ends early: cut", "get it anew"),
        (with_footer_of(u32::MAX), "damaged: a footer of 4294967295 bytes", "get it anew"),
        (with_footer_of(5), "damaged", "get it anew"),
        (
            of(Table { image: "img", ..TABLE }),
            "it has no column `image`, but `img` (pictures), `label` (whole numbers)",
            "write `parquet(\"ROOT/{0..1}.parquet\", image: \"img\")`",
        ),
        (
            of(Table { image: "pixels", label: "image", ..TABLE }),
            "its column `image` holds whole numbers, and pictures are bytes, or a structure with `bytes`",
            "image: \"pixels\")`",
        ),
        (
            of(Table { label_of: |number| (number != 6).then_some(1), ..TABLE }),
            "its row 2 has no label, and others have one",
            "a label for each picture, or for none",
        ),
        (of(Table { label: "fine", ..TABLE }), "its pictures have no labels, and those of others have", "leave it out"),
        (of(Table { classes: &["cat", "dog"], ..TABLE }), "its classes have other names", "of one set"),
        (of(Table { label_of: |_| Some(3), ..TABLE }), "it names 3 classes, and a row has label 3", "get it anew"),
        (of(Table { label_of: |_| Some(1 << 40), ..TABLE }), "a row has label 1099511627776", "anew"),
    ];
    for (bytes, message, help) in cases {
        let found = said(spec, 3, |root| {
            write(&root.join("0.parquet"), &whole);
            write(&root.join("1.parquet"), &bytes);
        });
        assert!(found.0.contains(message) && found.1.contains(help), "{message}: {found:?}");
    }
    let asked = |image: &str, label: &str| {
        let spec = |root: &str| SourceSpec::Parquet {
            path: format!("{root}/0.parquet"),
            image: image.to_owned(),
            label: Some(label.to_owned()),
            range: None,
            shuffle: Shuffle::All,
        };
        said(spec, 3, |root| write(&root.join("0.parquet"), &whole))
    };
    let found = asked("image", "fine");
    assert!(found.0.contains("it has no column `fine`") && found.1.contains("label: \"label\")`"), "{found:?}");
    let found = asked("image", "image");
    assert!(found.0.ends_with("its column `image` holds pictures, and labels are whole numbers"), "{found:?}");
    let folder = |root: &str| SourceSpec::Parquet {
        path: root.to_owned(),
        image: "image".to_owned(),
        label: None,
        range: None,
        shuffle: Shuffle::All,
    };
    assert_eq!(said(folder, 3, |_| ()).0, "folder `ROOT` holds no parquet file");
    let found = said(folder, 3, |root| {
        for name in ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"] {
            write(&root.join(format!("data/{name}.parquet")), &whole);
        }
    });
    assert!(found.0.ends_with("it holds files of several splits: test, train"), "{found:?}");
    assert_eq!(found.1, "write `parquet(\"ROOT/data/train-{00000..00001}-of-00002.parquet\")`");
    // Of one split, at any depth, in the order of their names; without labels there are no classes, and a null is a broken picture.
    let place = tempfile::tempdir().expect("a temporary folder");
    let table = Table {
        label_of: |number| (number < 4).then_some(-1),
        picture: |number| (number != 5).then(|| made::png(number)),
        ..TABLE
    };
    for (number, folder) in ["b", "a/deep"].into_iter().enumerate() {
        let name = format!("{folder}/train-0000{number}-of-00002.parquet");
        write(&place.path().join(name), &made::parquet(&table, 4 * number..4 * number + 4));
    }
    let source = source::open(&folder(text(place.path())), 3, MAX_PIXELS).expect("it is whole");
    assert_eq!((source.len(), source.label(1), source.classes().len()), (8, None, 0));
    assert_eq!(source.name(1), "a/deep/train-00001-of-00002.parquet/1");
    assert_eq!(
        source.image(1).err().as_deref(),
        Some("it has no bytes: its row is null, or names a file that was not embedded")
    );
    assert_eq!(source.image(0).map(|image| image.data[0]), Ok(value(4, 0)));
}
