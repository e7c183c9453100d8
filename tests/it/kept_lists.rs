//! What a run keeps of its sources, the list of a folder's files or the indices of shards: taken up where it is true, made anew where it is not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use cmae::data::source::{self, Opening, Source};
use cmae::spec::{MAX_PIXELS, Shuffle, SourceSpec};

use crate::cases;
use crate::runs::text;

/// Three classes of pictures that nobody opens, one of them in a folder below.
fn folder(root: &Path) -> PathBuf {
    let data = root.join("data");
    for name in ["a/1.png", "a/two words.png", "b/below/ä.png", "c/3.png", "c/notes.txt"] {
        let path = data.join(name);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("it can be made");
        fs::write(path, "").expect("it can be written");
    }
    data
}

/// Puts the last change of a folder and those below an hour back: what has just been changed is not kept.
fn age(folder: &Path) {
    for entry in fs::read_dir(folder).expect("it is there").flatten() {
        if entry.path().is_dir() {
            age(&entry.path());
        }
    }
    let then = SystemTime::now() - Duration::from_secs(3600);
    File::open(folder).and_then(|file| file.set_modified(then)).expect("its time can be set");
}

/// The source, and how many files were listed for it.
fn opened(data: &Path, kept: &Path) -> (Arc<dyn Source>, usize) {
    opened_as(&SourceSpec::ImageFolder { path: text(data).to_owned(), range: None, label_maps: None }, kept)
}

fn opened_as(spec: &SourceSpec, kept: &Path) -> (Arc<dyn Source>, usize) {
    let listed = AtomicUsize::new(0);
    let opened = source::open_as(spec, 3, MAX_PIXELS, Opening { listed: &listed, kept: Some(kept) });
    (opened.unwrap_or_else(|error| panic!("{error}")), listed.load(Ordering::Relaxed))
}

/// Sees to it that whatever is changed or missing of the file at `kept`, it is as none.
fn is_checked(kept: &Path, listed: impl Fn() -> usize) {
    let whole = fs::read(kept).expect("it was written");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(kept, bytes).expect("it can be written");
        assert!(listed() > 0, "byte {at} is another");
        fs::write(kept, &whole[..at]).expect("it can be written");
        assert!(listed() > 0, "only {at} bytes are there");
    }
    fs::write(kept, [&whole[..], b"."].concat()).expect("it can be written");
    assert!(listed() > 0, "a byte too many");
    fs::write(kept, whole).expect("it can be written");
    assert_eq!(listed(), 0);
}

/// Writes the list of what is there.
fn keep(data: &Path, kept: &Path) {
    let (source, _) = opened(data, Path::new("nowhere"));
    let mut file = File::create(kept).expect("it can be made");
    source.keeps().expect("nothing is new")(&mut file).expect("it can be written");
}

#[test]
fn a_list_is_taken_up_until_something_changes() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let (data, kept) = (folder(out.path()), out.path().join("list"));
    let (fresh, listed) = opened(&data, &kept);
    assert_eq!((fresh.len(), listed), (4, 4));
    assert!(fresh.keeps().is_none(), "a folder that was changed within these seconds may change unseen");
    age(&data);
    keep(&data, &kept);
    let (again, listed) = opened(&data, &kept);
    assert_eq!((again.len(), listed), (4, 0), "nothing is listed again");
    assert!(again.fingerprint() == fresh.fingerprint() && again.passed() == fresh.passed());
    let all = |source: &dyn Source| (0..4).map(|i| (source.name(i), source.label(i))).collect::<Vec<_>>();
    assert_eq!(all(&*again), all(&*fresh));
    assert!(again.keeps().is_none(), "what was kept need not be kept again");

    // Whatever does not fit is as none: a name that came, one that went, another folder, a byte of the file, its end.
    let is_listed = |why: &str| assert!(opened(&data, &kept).1 > 0, "{why}");
    fs::write(data.join("b/below/5.png"), "").expect("it can be written");
    is_listed("a name came");
    age(&data);
    keep(&data, &kept);
    fs::remove_file(data.join("b/below/5.png")).expect("it was there");
    is_listed("a name went");
    age(&data);
    keep(&data, &kept);
    assert_eq!(opened(&data, &kept).1, 0);
    let moved = out.path().join("moved");
    fs::rename(&data, &moved).expect("it can be moved");
    assert!(opened(&moved, &kept).1 > 0, "another folder");
    fs::rename(&moved, &data).expect("it can be moved back");
    assert_eq!(opened(&data, &kept).1, 0);
    is_checked(&kept, || opened(&data, &kept).1);
}

/// The headers of shards are not read again, as long as each is as long as it was and no younger.
#[test]
fn indices_of_shards_are_taken_up_until_one_changes() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let (data, kept) = (out.path().join("shards"), out.path().join("list"));
    let age = |name: &str| {
        let then = SystemTime::now() - Duration::from_secs(3600);
        let file = File::options().write(true).open(data.join(name)).expect("it is there");
        file.set_modified(then).expect("its time can be set");
    };
    let shard = |name: &str, entries: &[(&str, &[u8])]| {
        crate::made::write(&data.join(name), &crate::made::tar(entries.iter().copied()));
        age(name);
    };
    shard(
        "0.tar",
        &[("a.png", b"1"), ("a.cls", b"0"), ("none.txt", b"-"), ("\u{e4}.png", b"22"), ("\u{e4}.cls", b"1")],
    );
    shard("1.tar", &[("c.png", b"333"), ("c.cls", b"1")]);
    let spec = SourceSpec::TarShards { path: text(&data).to_owned(), range: None, shuffle: Shuffle::All };
    let (fresh, listed) = opened_as(&spec, &kept);
    assert_eq!((fresh.len(), listed), (3, 3));
    let mut file = File::create(&kept).expect("it can be made");
    fresh.keeps().expect("nothing is new")(&mut file).expect("it can be written");
    let (again, listed) = opened_as(&spec, &kept);
    assert_eq!((again.len(), listed), (3, 0));
    let all =
        |source: &dyn Source| (0..3).map(|i| (source.name(i), source.label(i), source.identity(i))).collect::<Vec<_>>();
    assert!(all(&*again) == all(&*fresh) && again.passed() == fresh.passed());
    assert!(again.fingerprint() == fresh.fingerprint() && again.keeps().is_none());
    is_checked(&kept, || opened_as(&spec, &kept).1);
    // As long as before, and younger.
    shard("1.tar", &[("d.png", b"333"), ("d.cls", b"0")]);
    let now = SystemTime::now() - Duration::from_secs(60);
    let file = File::options().write(true).open(data.join("1.tar")).expect("it is there");
    file.set_modified(now).expect("its time can be set");
    let (other, listed) = opened_as(&spec, &kept);
    assert_eq!((other.name(2), listed), ("1.tar/d".to_owned(), 3));
    fs::copy(data.join("1.tar"), data.join("2.tar")).expect("it can be copied");
    let (more, _) = opened_as(&spec, &kept);
    assert!(more.len() == 4 && more.keeps().is_none(), "a shard that was written within these seconds");
}

#[cfg(unix)]
#[test]
fn what_a_link_leads_to_counts() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let (data, kept) = (folder(out.path()), out.path().join("list"));
    let elsewhere = out.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("it can be made");
    fs::write(elsewhere.join("6.png"), "").expect("it can be written");
    std::os::unix::fs::symlink(elsewhere.join("6.png"), data.join("a/6.png")).expect("links are there on Unix");
    age(&data);
    age(&elsewhere);
    keep(&data, &kept);
    let (source, listed) = opened(&data, &kept);
    assert_eq!((source.len(), listed), (5, 0));
    fs::remove_file(elsewhere.join("6.png")).expect("it was there");
    assert_eq!(opened(&data, &kept).0.len(), 4);
    // A link that leads nowhere may lead somewhere later, and no folder that was read tells.
    age(&data);
    let (source, _) = opened(&data, &kept);
    assert!(source.keeps().is_none());
}

/// A run keeps the list, and goes on with it.
#[test]
fn a_run_keeps_its_lists() {
    let out = tempfile::tempdir().expect("a temporary folder");
    cases::good(out.path());
    let (data, run) = (out.path().join("good/train"), out.path().join("run"));
    age(&data);
    let (code, said) = cases::train(&data, &out.path().join("good/val"), 8, &run, &[]);
    assert_eq!(code, 0, "{said}");
    let list = run.join("sources/train");
    assert_eq!(opened(&data, &list).1, 0);
    assert!(!run.join("sources/val").exists(), "pictures that were written just now");
    let written = fs::read(&list).expect("it was kept");
    let more = ["--resume", "--accept-changes", "--set", "train.epochs=2"];
    let (code, said) = cases::train(&data, &out.path().join("good/val"), 8, &run, &more);
    assert_eq!(code, 0, "{said}");
    assert!(fs::read(&list).expect("it is there") == written);
}
