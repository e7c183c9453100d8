//! `-o FILE`: what is written where, and what is left as it was. The rule by itself is held beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::command::{fail, succeed};
use crate::runs::{SMALL, text, weights, with};

pub fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("it is there");
    entries.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn commands_write_plain_files_and_never_over_a_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path();
    let run = here.join("run");
    succeed(&with(&SMALL, &["--set", "train.epochs=0.1", "--out", text(&run)]));
    let last = fs::read_to_string(run.join("last")).expect("a run names its last checkpoint");
    let model = run.join("checkpoints").join(last).join("model.safetensors");
    let before = weights(&run);
    let of_run =
        ["program.ron", "report.html", "metrics.jsonl"].map(|name| fs::read(run.join(name)).expect("a run has it"));
    let (pth, page, gone) = (here.join("encoder.pth"), run.join("report.html"), here.join("no/x.safetensors"));
    let device = Path::new("/dev/null");
    for (output, part) in [
        (&model, "would be lost"),
        (&pth, "what is written is .safetensors"),
        (&gone, "there is no folder"),
        (&device.to_owned(), "it is a device"),
        (&here.to_owned(), "it is a folder"),
    ] {
        for command in [&["export", text(&run)][..], &["features", text(&run), "--data", "data.val"]] {
            let error = fail(&with(command, &["-o", text(output)]));
            assert!(error.contains(part) && error.contains("help: "), "{}: {error}", output.display());
        }
    }
    let error = fail(&["report", text(&run), text(&run), "-o", text(&page)]);
    assert!(error.contains("would be lost"), "{error}");
    let error = fail(&["report", text(&run), "-o", text(&here.join("report.pdf"))]);
    assert!(error.contains("what is written is .html"), "{error}");
    assert!(weights(&run) == before);
    let after =
        ["program.ron", "report.html", "metrics.jsonl"].map(|name| fs::read(run.join(name)).expect("a run has it"));
    assert!(of_run == after);
    // Nothing half written either.
    assert_eq!(names(here), BTreeSet::from(["run".to_owned()]));

    // Over its like, and through a link.
    let out = here.join("encoder.safetensors");
    fs::write(&out, "old").expect("it is ours");
    succeed(&["export", text(&run), "-o", text(&out)]);
    let exported = fs::read(&out).expect("it was written");
    assert!(exported.len() > 1000);
    #[cfg(unix)]
    {
        let link = here.join("link.safetensors");
        fs::write(&out, "old").expect("it is ours");
        std::os::unix::fs::symlink(&out, &link).expect("it is ours");
        succeed(&["export", text(&run), "-o", text(&link)]);
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!(fs::read(&out).expect("it was written"), exported);
    }
}
