//! Runs that are killed again and again. The whole of it: `cargo test --release --test it soak:: -- --ignored --nocapture`; the suite
//! has a slice.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::command::{cmaec, succeed};
use crate::pictures::write_folder;
use crate::runs::{SMALL, losses, text, weights, with};

/// Kills of each run, at moments by a fixed seed; which step they hit hangs on the machine.
fn killed(base: &[&str], kills: usize) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let (whole, broken) = (temporary.path().join("whole"), temporary.path().join("broken"));
    let start = Instant::now();
    succeed(&with(base, &["--out", text(&whole)]));
    // From before the folder is there to some steps on: of what the undisturbed run took, a fraction.
    let longest = start.elapsed().as_millis() as u64 / 4;
    let arguments = with(base, &["--out", text(&broken), "--resume"]);
    let (mut state, mut made, mut ended) = (0x2545_f491_4f6c_dd1d_u64, 0, 0);
    while made < kills {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut child =
            cmaec(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary is there");
        std::thread::sleep(Duration::from_millis(state % longest.max(1)));
        if let Some(status) = child.try_wait().expect("it is ours") {
            assert!(status.success(), "a resumed run failed: {status}");
            // It reached its end before it could be killed: from its start again.
            assert_same(&whole, &broken);
            fs::remove_dir_all(&broken).expect("it is ours");
            ended += 1;
            continue;
        }
        // SIGKILL: no handler runs.
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        made += 1;
    }
    succeed(&arguments);
    assert_same(&whole, &broken);
    println!("{kills} kills, {} runs ended, {:.0} s", ended + 1, start.elapsed().as_secs_f64());
}

fn assert_same(whole: &Path, broken: &Path) {
    assert!(weights(whole) == weights(broken), "the weights differ");
    assert_eq!(losses(whole), losses(broken), "metrics are lost or doubled");
    let checkpoints = |run: &Path| {
        let entries = fs::read_dir(run.join("checkpoints")).expect("a run has checkpoints");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("it can be read").file_name()).collect();
        names.sort();
        (names, fs::read_to_string(run.join("best")).expect("a run names its best checkpoint"))
    };
    assert_eq!(checkpoints(whole), checkpoints(broken));
}

fn digits(kills: usize) {
    // Also between a checkpoint and the figures that decide whether it is the best.
    let often = ["--set", "train.checkpoint_every=1 steps", "--set", "evaluate.knn.every=4 steps"];
    killed(&with(&SMALL, &often), kills);
}

fn folder(kills: usize) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let data = temporary.path().join("pictures");
    write_folder(&data, 28);
    let source = format!("image_folder(\"{}\")", text(&data));
    let sets = [
        format!("data.train={source}"),
        format!("data.val={source}"),
        "data.channels=3".to_owned(),
        "data.batch_size=8".to_owned(),
        "train.epochs=6".to_owned(),
        "train.checkpoint_every=1 steps".to_owned(),
        "views.online=master |> crop(image_size, at: (0px, 0px)) |> normalize(imagenet)".to_owned(),
        "views.target=master |> random_shift(image_size, by: 0px..max_shift) |> normalize(imagenet)".to_owned(),
        "views.eval=resize(image_size) |> center_crop(image_size) |> normalize(imagenet)".to_owned(),
    ];
    let mut base = SMALL.to_vec();
    sets.iter().for_each(|set| base.extend(["--set", set.as_str()]));
    killed(&base, kills);
}

#[test]
fn some_kills_on_digits() {
    digits(4);
}

#[test]
fn some_kills_on_a_folder_of_pictures() {
    folder(4);
}

#[test]
#[ignore = "minutes"]
fn a_hundred_kills_on_digits() {
    digits(100);
}

#[test]
#[ignore = "minutes"]
fn a_hundred_kills_on_a_folder_of_pictures() {
    folder(100);
}
