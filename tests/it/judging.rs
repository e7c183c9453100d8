//! What evaluation makes of sources that do not agree: labels by name, pictures that would vote for themselves, broken ones, none
//! with labels. What becomes of a run that judges: [`crate::judged_runs`].

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cmae::data::rng::Key;
use cmae::data::source::{self, Fingerprint, Identity, Source, join};
use cmae::data::view::Draw;
use cmae::data::{DataError, Image};
use cmae::eval::knn::KnnError;
use cmae::eval::quality::{Accuracy, QualityError};
use cmae::eval::{Features, Judge, Named, Pass, Quality};
use cmae::graph::Program;
use cmae::spec::{BASELINE_LIMIT, Duration, Evaluation, Judging, KnnSpec, Limit, MAX_PIXELS, SourceSpec};

use crate::cases::{COUNT, QUICKSTART, classes, empty, file, flat, folder, good, no_a, source, static_noise};
use crate::command::{fail, run};
use crate::eval::knn;
use crate::methods::compile_file;
use crate::runs::{metrics, text, with};

/// The quickstart in colour at a size for tests, on `train` and `val`.
pub fn program(train: &Path, val: &Path, more: &[&str]) -> Program {
    program_of(&crate::command::root("pipelines/quickstart.cmae"), train, val, more)
}

/// The same of a variant of it.
pub fn program_of(file: &Path, train: &Path, val: &Path, more: &[&str]) -> Program {
    let fixed = ["data.channels=3", "data.batch_size=8", "model.encoder.embed_dim=16", "model.encoder.depth=1"];
    let sources = [source("train", train), source("val", val)];
    let sets: Vec<String> = fixed.iter().chain(more).map(|set| (*set).to_owned()).chain(sources).collect();
    compile_file(file, &sets)
}

fn named(name: &str, path: &Path) -> Named {
    let spec = SourceSpec::ImageFolder { path: text(path).to_owned(), range: None, label_maps: None };
    let source = source::open(&spec, 3, MAX_PIXELS).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Named { name: name.to_owned(), source }
}

fn judge(k: usize, bank: &Path, queries: &Path) -> Result<Judge, QualityError> {
    let (of_bank, of_queries) = ("train".to_owned(), "val".to_owned());
    let spec = KnnSpec {
        bank: of_bank,
        queries: of_queries,
        k: vec![k],
        temperature: 0.07,
        every: Duration::Epochs(1.0),
        bank_limit: Limit::default(),
        query_limit: Limit::default(),
        baseline_limit: BASELINE_LIMIT,
    };
    limited(&spec, bank, queries)
}

fn limited(spec: &KnnSpec, bank: &Path, queries: &Path) -> Result<Judge, QualityError> {
    let knn = Evaluation { name: "knn".to_owned(), output: "features".to_owned(), how: Judging::Knn(spec.clone()) };
    Judge::new(vec![knn], named("data.train", bank), named("data.val", queries), cmae::ranks::alone())
}

/// What kNN found, where it did.
fn knn_of(quality: &Quality) -> Option<Accuracy> {
    quality.accuracy("knn").cloned()
}

fn refused(k: usize, bank: &Path, queries: &Path) -> String {
    judge(k, bank, queries).err().expect("it is refused").to_string()
}

/// By raw pixels.
fn quality(k: usize, bank: &Path, queries: &Path) -> Quality {
    let judge = judge(k, bank, queries).unwrap_or_else(|error| panic!("{error}"));
    let mut unseen = |_: Pass<'_>| ControlFlow::Continue(());
    judge.raw_pixels(&program(bank, queries, &[]), &mut unseen).unwrap_or_else(|error| panic!("{error}"))
}

pub fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_split_that_lacks_a_class_is_judged_by_names() {
    let out = temporary();
    good(out.path());
    no_a(out.path());
    let knn =
        knn_of(&quality(1, &out.path().join("good/train"), &out.path().join("no_a/val"))).expect("both have labels");
    assert_eq!((knn.share, knn.chance, knn.queries, knn.own), (1.0, 0.5, 2 * COUNT, 0));
    // The other way round the bank lacks a class.
    let said = refused(1, &out.path().join("no_a/val"), &out.path().join("good/train"));
    let expected = "1 of 3 classes of `data.val` are not among those of `data.train`, such as `a` (12 pictures); `data.train` has \
                    `b`, `c` (help: labels go by the names of folders: name those of one class alike in both, or leave kNN out: \
                    --set evaluate.knn=none)";
    assert_eq!(said, expected);
    // One folder of all pictures is no class of theirs.
    let images = out.path().join("single/images");
    folder(&images);
    for entry in fs::read_dir(out.path().join("good/val/a")).expect("it was written") {
        let path = entry.expect("it can be read").path();
        fs::copy(&path, images.join(path.file_name().expect("a file"))).expect("a temporary folder");
    }
    let single = out.path().join("single");
    let said = refused(1, &out.path().join("good/train"), &single);
    assert!(said.contains("`images` (12 pictures)") && said.contains("evaluate.knn=none"), "{said}");
    // Among pictures of one class every answer is right: nothing is said by it.
    let judge = judge(1, &single, &single).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(judge.no_labels(), Some("all pictures of data.train are of one class, `images`"));
}

#[test]
fn composed_and_decomposed_names_are_one() {
    let out = temporary();
    let (train, val) = (out.path().join("train"), out.path().join("val"));
    for (root, names) in [(&train, ["\u{e9}t\u{e9}", "a"]), (&val, ["e\u{301}te\u{301}", "a"])] {
        classes(root, "bc");
        for (from, to) in ["b", "c"].iter().zip(names) {
            fs::rename(root.join(from), root.join(to)).expect("a new name");
        }
    }
    assert_eq!(knn_of(&quality(1, &train, &val)).map(|knn| knn.share), Some(1.0));
}

/// Names and labels alone.
struct Listed {
    classes: Vec<String>,
    labels: Vec<i64>,
    root: String,
}

impl Source for Listed {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn image(&self, _: usize) -> Result<Image, String> {
        Err("there are names alone".to_owned())
    }
    fn label(&self, index: usize) -> Option<i64> {
        self.labels.get(index).copied().filter(|label| *label >= 0)
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn name(&self, index: usize) -> String {
        format!("{}{index:08}.jpg", self.root)
    }
    fn identity(&self, index: usize) -> Identity {
        Identity::of_text(&self.name(index))
    }
}

/// Random lists of classes on both sides, some without a picture: joined labels have the names of the originals, and a name is
/// refused just where pictures have it and the bank has none.
#[test]
fn labels_meet_by_name_whatever_the_lists_are() {
    let (mut refused, mut joined) = (0, 0);
    for seed in 0..2_000 {
        let mut draw = Key { seed, epoch: 0, sample: 0 }.stream("labels");
        let mut listed = |root: &str| {
            let names: Vec<String> = (0..8).filter(|_| draw.below(3) > 0).map(|name| format!("class {name}")).collect();
            let count = if names.is_empty() { 0 } else { draw.below(12) as usize };
            let labels = (0..count).map(|_| draw.below(names.len() as u64) as i64).collect();
            Listed { classes: names, labels, root: root.to_owned() }
        };
        let (bank, other) = (listed("bank "), listed("other "));
        let has = |source: &Listed, name: &String| source.labels.iter().any(|l| source.classes[*l as usize] == *name);
        let lacking: Vec<&String> = other.classes.iter().filter(|c| has(&other, c) && !has(&bank, c)).collect();
        match join(&bank, &other, ("bank", "other")) {
            Ok(labels) => {
                assert!(lacking.is_empty(), "{seed}: {lacking:?}");
                for label in &other.labels {
                    let met = labels[*label as usize];
                    assert_eq!(bank.classes[met as usize], other.classes[*label as usize], "{seed}");
                }
                joined += 1;
            }
            Err(DataError::UnknownClasses(found)) => {
                assert_eq!(found.unknown.iter().map(|(name, _)| name).collect::<Vec<_>>(), lacking, "{seed}");
                refused += 1;
            }
            Err(error) => panic!("{seed}: {error}"),
        }
    }
    assert!(refused > 200 && joined > 200, "{refused} refused, {joined} joined");
}

/// Noise that no two pictures share, so that nothing but a picture itself is near it.
fn noise(root: &Path) {
    for (number, class) in ["a", "b"].iter().cycle().take(12).enumerate() {
        let mut picture = static_noise(24);
        picture.pixels_mut().for_each(|p| p.0 = p.0.map(|level| level.wrapping_mul(2 * number as u8 + 1)));
        let bytes = crate::cases::encoded(picture, image::ImageFormat::Png);
        file(&root.join(format!("{class}/{number:02}.png")), &bytes);
    }
}

#[test]
fn no_picture_votes_for_itself() {
    let out = temporary();
    let (train, copy) = (out.path().join("train"), out.path().join("copy"));
    noise(&train);
    noise(&copy);
    // Copies are pictures of their own: the nearest is the same noise.
    let copied = knn_of(&quality(1, &train, &copy)).expect("both have labels");
    assert_eq!((copied.share, copied.own, copied.leave_one_out()), (1.0, 0, String::new()));
    let same = knn_of(&quality(1, &train, &train)).expect("both have labels");
    assert!(same.share < 1.0, "a picture has voted for itself: {same:?}");
    assert_eq!((same.own, same.leave_one_out().as_str()), (12, ", leave one out,"));
    // By another path, and by links to the folder and to each file.
    let mut ways = vec![train.join("../train")];
    #[cfg(unix)]
    {
        let (link, links) = (out.path().join("link"), out.path().join("links"));
        std::os::unix::fs::symlink(&train, &link).expect("a new name");
        for class in ["a", "b"] {
            folder(&links.join(class));
            for entry in fs::read_dir(train.join(class)).expect("it was written") {
                let path = entry.expect("it can be read").path();
                let to = links.join(class).join(path.file_name().expect("a file"));
                std::os::unix::fs::symlink(&path, to).expect("a new name");
            }
        }
        ways.extend([link, links]);
    }
    for way in &ways {
        assert_eq!(knn_of(&quality(1, &train, way)), Some(same.clone()), "{}", way.display());
        assert_eq!(knn_of(&quality(1, way, &train)), Some(same.clone()), "{}", way.display());
    }
    // Eleven others vote, and no twelfth.
    assert!(judge(11, &train, &ways[0]).is_ok() && judge(12, &train, &copy).is_ok());
    let said = refused(12, &train, &ways[0]);
    assert!(said.starts_with("k is 12, the bank has 11 pictures beside the query itself (help: "), "{said}");
    assert!(said.contains("--set evaluate.knn.k=11"), "{said}");
    // A few queries of many.
    let few = out.path().join("few");
    classes(&few, "ab");
    let moved = few.join("a/moved.png");
    fs::hard_link(train.join("a/00.png"), &moved).expect("one file system");
    let knn = knn_of(&quality(1, &train, &few)).expect("both have labels");
    assert_eq!((knn.own, knn.leave_one_out().as_str()), (1, ", leave one out for 1 of 25,"));
}

#[test]
fn rows_of_the_own_picture_have_no_vote() {
    let features = Features { rows: 3, dim: 2, data: vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0] };
    let of = |names: [&str; 3]| names.map(Identity::of_text);
    let (bank, queries) = (of(["x", "y", "z"]), of(["x", "y", "other"]));
    let found = |k, shown| knn(&features, &[0, 1, 2], &features, k, 0.07, shown);
    assert_eq!(found(1, None).expect("sound").predictions, [0, 1, 2]);
    let shown = Some((&bank[..], &queries[..]));
    assert_eq!(found(1, shown).expect("sound").predictions, [1, 0, 2]);
    assert_eq!(found(3, shown), Err(KnnError::Neighbours { k: 3, rows: 2, own: true }));
    // A picture that stands in the bank twice is twice its own.
    let twice = of(["x", "x", "z"]);
    let shown = Some((&twice[..], &queries[..]));
    assert_eq!(found(1, shown).expect("sound").predictions, [2, 1, 2]);
    assert_eq!(found(2, shown), Err(KnnError::Neighbours { k: 2, rows: 1, own: true }));
}

#[test]
fn broken_pictures_are_counted_and_none_readable_is_refused() {
    let out = temporary();
    good(out.path());
    empty(out.path());
    let (train, val) = (out.path().join("good/train"), out.path().join("empty/val"));
    // Ten of `b` and `c` and six of `a`: chance is over what was judged.
    (2..6).for_each(|number| file(&val.join(format!("a/{number:02}.png")), b""));
    let found = quality(1, &train, &val);
    let knn = knn_of(&found).expect("both have labels");
    assert_eq!((knn.share, knn.queries, knn.chance), (1.0, 26, 10.0 / 26.0));
    let [left_out] = &found.left_out[..] else { panic!("{:?}", found.left_out) };
    let said = left_out.to_string();
    assert!(said.starts_with("10 of 36 pictures of data.val are broken and left out, such as a/00.png: "), "{said}");
    let both = quality(1, &val, &val);
    assert_eq!(knn_of(&both).map(|knn| (knn.queries, knn.own)), Some((26, 26)));
    // All of them: told before the first step, at its place in the file.
    for class in ["a", "b", "c"] {
        (0..COUNT).for_each(|number| file(&val.join(format!("{class}/{number:02}.png")), b""));
    }
    let run = out.path().join("run");
    let sources = [source("train", &train), source("val", &val)];
    let arguments = with(&QUICKSTART, &["--set", &sources[0], "--set", &sources[1], "--out", text(&run)]);
    let said = fail(&arguments);
    assert!(said.contains("none of 32 pictures of `data.val` that were tried can be read; the last is "), "{said}");
    assert!(said.contains("empty/val") && !run.join("metrics.jsonl").exists(), "{said}");
}

#[test]
fn pictures_without_labels_are_trained_on_and_judged_by_what_needs_none() {
    let out = temporary();
    flat(out.path());
    good(out.path());
    let (train, run_folder) = (out.path().join("flat/train"), out.path().join("run"));
    let sources = [source("train", &train), source("val", &train)];
    let said_by = |out: &Path, more: &[&str]| {
        let arguments = with(&QUICKSTART, &["--set", &sources[0], "--out", text(out)]);
        let (code, _, said) = run(&with(&arguments, more));
        assert_eq!(code, 0, "{said}");
        said
    };
    let said = said_by(&run_folder, &["--set", &sources[1]]);
    let line = "kNN is left out: data.train and data.val have no labels; features of data.val are judged by effective rank, deviation \
                and cosine";
    assert_eq!(said.matches(line).count(), 1, "{said}");
    assert!(said.contains("after 1 epochs: features: effective rank "), "{said}");
    for name in ["deviation", "mean cosine", "features of the untrained encoder"] {
        assert!(said.contains(name), "`{name}` is missing: {said}");
    }
    let lines = metrics(&run_folder);
    let figures = &lines.iter().find(|line| line.get("evaluation").is_some()).expect("it was judged")["evaluation"];
    for name in ["feature_std", "feature_std_uniform", "effective_rank", "mean_cosine"] {
        assert!(figures[name].as_f64().is_some_and(f64::is_finite), "{name}: {figures}");
    }
    assert!(figures.get("knn_accuracy").is_none() && figures.get("chance").is_none(), "{figures}");
    let map = fs::read_to_string(run_folder.join("features.json")).expect("a map without colours");
    assert!(map.contains("\"classes\":[]") && map.contains("[-1,"), "{map}");
    assert!(run_folder.join("report.html").is_file() && run_folder.join("reconstructions").is_dir());
    // Nothing is best; who asks for it gets the newest, and is told.
    assert!(!run_folder.join("best").exists());
    let file = out.path().join("features.safetensors");
    let arguments = ["features", text(&run_folder), "--data", "data.val", "--checkpoint", "best", "-o", text(&file)];
    let (code, stdout, stderr) = run(&arguments);
    assert!(code == 0 && stdout.contains("36 pictures"), "{stdout}{stderr}");
    assert!(stderr.contains("taken is the newest, step-00000004"), "{stderr}");
    let error = fail(&["eval", "knn", text(&run_folder)]);
    assert!(error.contains("kNN wants labels: data.train and data.val have no labels"), "{error}");
    // One of two has labels.
    let val = source("val", &out.path().join("good/val"));
    let said = said_by(&out.path().join("half"), &["--set", &val]);
    assert!(said.contains("kNN is left out: data.train has no labels; features of data.val"), "{said}");
    // Off is off, and taken as told.
    let off = ["--set", "evaluate.knn=none", "--set", "evaluate.reconstructions=none", "--set", &sources[1]];
    let said = said_by(&out.path().join("off"), &off);
    assert!(!said.contains("kNN") && !said.contains("effective rank"), "{said}");
    assert!(!out.path().join("off/reconstructions").exists());
}

#[test]
fn a_part_of_bank_and_queries_is_judged_and_said() {
    let out = temporary();
    good(out.path());
    let (train, val) = (out.path().join("good/train"), out.path().join("good/val"));
    let program = program(&train, &val, &["image_size=40px", "patch_size=8px"]);
    let spec = |bank: &str, queries: &str, baseline: &str| {
        let limit = |text: &str| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let of = KnnSpec { k: vec![3], ..program.spec.evaluate.knn().cloned().expect("the quickstart has it") };
        let (bank_limit, query_limit, baseline_limit) = (limit(bank), limit(queries), limit(baseline));
        KnnSpec { bank_limit, query_limit, baseline_limit, ..of }
    };
    let pixels = |spec: &KnnSpec| {
        let judge = limited(spec, &train, &val).unwrap_or_else(|error| panic!("{error}"));
        let mut passes = Vec::new();
        let mut look = |pass: Pass<'_>| {
            passes.push((pass.done, pass.of));
            ControlFlow::Continue(())
        };
        let found = judge.raw_pixels(&program, &mut look).unwrap_or_else(|error| panic!("{error}"));
        (knn_of(&found).expect("both have labels"), passes)
    };
    let (all, passes) = pixels(&spec("100%", "100%", "50000"));
    assert_eq!((all.queries, all.terms()), (36, vec!["pooled to 32 × 32".to_owned()]));
    assert_eq!(passes.last(), Some(&(72, 72)), "of both sources");
    assert!(passes.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{passes:?}");
    let (some, passes) = pixels(&spec("30", "50%", "50%"));
    let terms = ["pooled to 32 × 32", "bank 15 of 36", "queries 18 of 36"];
    assert_eq!((some.queries, some.terms()), (18, terms.map(str::to_owned).to_vec()));
    assert_eq!(passes.last(), Some(&(33, 33)));
    assert_eq!(pixels(&spec("30", "50%", "50%")).0, some, "the same pictures each time");
    // By the command, on a run that knows of no limit.
    let folder = crate::cases::trained(&out.path().join("of a run"));
    let limits = ["-k", "3", "--bank-limit", "30", "--query-limit", "50%", "--baseline-limit", "50%"];
    let (code, stdout, stderr) = run(&with(&["eval", "knn", text(&folder)], &limits));
    assert_eq!(code, 0, "{stderr}");
    for (name, terms) in [("this run", "bank 30 of 36"), ("untrained encoder", "bank 15 of 36")] {
        let line = stdout.lines().find(|line| line.trim().starts_with(name)).unwrap_or_default();
        assert!(line.ends_with(&format!("  ({terms}, queries 18 of 36)")), "{stdout}");
    }
    let (code, stdout, _) = run(&with(&["eval", "knn", text(&folder), "--json"], &limits));
    let figures: serde_json::Value = serde_json::from_str(&stdout).expect("it is JSON");
    let counts = ["pictures", "bank_pictures", "baseline_bank_pictures"].map(|name| figures[name].as_u64());
    assert_eq!((code, counts), (0, [Some(18), Some(30), Some(15)]));
    // Too few for as many votes.
    let said = limited(&spec("2", "100%", "50000"), &train, &val).err().expect("k is 3").to_string();
    assert!(said.starts_with("k is 3, the bank has 2 pictures (help: "), "{said}");
    for wrong in ["0", "0%", "101%", "-3", "x", "1.5", "NaN%"] {
        assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
    }
}

fn listed(count: usize) -> Listed {
    let classes: Vec<String> = (0..1000).map(|class| format!("n{class:08}")).collect();
    Listed { classes, labels: (0..count).map(|i| (i % 1000) as i64).collect(), root: "n0/".to_owned() }
}

#[test]
fn a_fingerprint_hangs_on_names_labels_and_their_order() {
    let source = listed(3_000);
    let print = source.fingerprint();
    assert_eq!(print.change(&Fingerprint::of(&listed(3_000))), None);
    let mut swapped = listed(3_000);
    swapped.labels.swap(1, 2);
    let said = print.change(&swapped.fingerprint()).expect("labels differ");
    assert!(said.starts_with("has 3000 pictures in 1000 classes as before"), "{said}");
    let more = print.change(&listed(3_001).fingerprint());
    assert_eq!(more.as_deref(), Some("had 3000 pictures in 1000 classes and has 3001 pictures in 1000 classes"));
    let flat = Listed { classes: Vec::new(), labels: vec![-1; 1], root: String::new() };
    let said = flat.fingerprint().change(&listed(1).fingerprint()).expect("it has classes now");
    assert!(said.starts_with("had 1 picture and has 1 picture in 1000 classes; of its classes `n00000000`"), "{said}");
    assert!(said.ends_with("and 997 more are new"), "{said}");
}

#[test]
#[ignore = "half a minute in a build that is not optimised"]
fn ten_million_names_take_seconds() {
    let source: Arc<dyn Source> = Arc::new(listed(10_000_000));
    let start = Instant::now();
    let print = source.fingerprint();
    println!("{} names: {:.1} s", print.pictures, start.elapsed().as_secs_f64());
    assert_eq!(print.pictures, 10_000_000);
}
