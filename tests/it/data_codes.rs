//! `src/diag/codes/data.md`: what a run says when something is wrong with its data, as it is printed; `UPDATE_EXPECT=1` writes it anew.

use std::fs;
use std::path::Path;

use cmae::diag::Code;
use image::ImageFormat;

use crate::cases::{encoded, file, folder, picture};
use crate::command::{cmaec, root};
use crate::docs::expect;

/// Runs the quickstart where `prepare` has put its data, with `line` in place of its first source.
fn said(prepare: impl FnOnce(&Path), edits: &[(&str, &str)]) -> String {
    let place = tempfile::tempdir().expect("a temporary folder");
    let mut text = fs::read_to_string(root("pipelines/quickstart.cmae")).expect("it is in the repository");
    for (from, to) in edits {
        assert!(text.contains(from), "the quickstart holds `{from}`");
        text = text.replacen(from, to, 1);
    }
    file(&place.path().join("quickstart.cmae"), text.as_bytes());
    prepare(place.path());
    let output = cmaec(&["run", "quickstart.cmae", "--threads", "1"]).current_dir(place.path()).output();
    let output = output.expect("the binary was built for this test");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let start = said.find("data::").unwrap_or_else(|| panic!("{said}"));
    said[start..].trim_end().to_owned()
}

const FOLDER: (&str, &str) = ("train      = digits(\"train\")", "train      = image_folder(\"data/train\")");
/// Of the same classes.
const SAME: (&str, &str) = ("val        = digits(\"val\")", "val        = image_folder(\"data/train\")");

fn pictures(at: &Path, count: usize) {
    for number in 0..count {
        file(&at.join(format!("{number:02}.png")), &encoded(picture('a', number), ImageFormat::Png));
    }
}

#[test]
fn the_page_of_data_is_what_runs_say() {
    let said = [
        (Code::DataNotFound, said(|_| (), &[FOLDER])),
        (Code::DataNotAFolder, said(|place| file(&place.join("data/train"), b"PK\x03\x04"), &[FOLDER])),
        (
            Code::DataWrongFormat,
            said(
                |place| file(&place.join("data/test_batch.bin"), &[0; 6000]),
                &[("train      = digits(\"train\")", "train      = cifar10(\"data\", split: \"val\")")],
            ),
        ),
        (Code::DataChannels, said(|_| (), &[("channels   = 1", "channels   = 12")])),
        (
            Code::DataEmptyFolder,
            said(|place| (0..3).for_each(|n| file(&place.join(format!("data/train/a/{n}.heic")), b"")), &[FOLDER]),
        ),
        (
            Code::DataMixedFolder,
            said(
                |place| {
                    pictures(&place.join("data/train"), 2);
                    pictures(&place.join("data/train/a"), 2);
                    folder(&place.join("data/train/b"));
                },
                &[FOLDER],
            ),
        ),
        (
            Code::DataTooFewPictures,
            said(
                |place| {
                    pictures(&place.join("data/train/a"), 24);
                    pictures(&place.join("data/train/b"), 24);
                },
                &[FOLDER, SAME],
            ),
        ),
        (
            Code::DataTooManyBroken,
            said(
                |place| {
                    pictures(&place.join("data/train/a"), 12);
                    pictures(&place.join("data/train/b"), 12);
                    (0..4).for_each(|n| file(&place.join(format!("data/train/b/{n:02}.png")), b"<html>"));
                },
                &[FOLDER, SAME, ("batch_size = 64", "batch_size = 24")],
            ),
        ),
        (
            Code::DataNoneReadable,
            said(
                |place| {
                    let pointer = b"version https://git-lfs.github.com/spec/v1\n";
                    (0..64).for_each(|n| file(&place.join(format!("data/train/a/{n:02}.png")), pointer));
                },
                &[FOLDER],
            ),
        ),
        (
            Code::DataUnknownClasses,
            said(
                |place| {
                    pictures(&place.join("data/train/cat"), 40);
                    pictures(&place.join("data/train/dog"), 40);
                    pictures(&place.join("data/val/dog"), 8);
                    pictures(&place.join("data/val/horse"), 8);
                },
                &[FOLDER, ("val        = digits(\"val\")", "val        = image_folder(\"data/val\")")],
            ),
        ),
        (
            Code::DataSeveralSources,
            said(
                |_| (),
                &[(
                    "target = master |> random_shift(image_size, by: 0px..max_shift)",
                    "target = data.val |> resize(image_size) |> center_crop(image_size)",
                )],
            ),
        ),
    ];
    let page = "src/diag/codes/data.md";
    let mut found = fs::read_to_string(root(page)).expect("the page is there");
    for (code, message) in said {
        assert!(message.starts_with(code.as_str()), "{message}");
        let section = found.find(&format!("## {}\n", code.as_str())).unwrap_or_else(|| panic!("no section {code:?}"));
        let start = section + found[section..].find("```text\n").expect("a block") + "```text\n".len();
        let end = start + found[start..].find("```").expect("a block that ends");
        found.replace_range(start..end, &format!("{message}\n"));
    }
    expect(page, &found);
}
