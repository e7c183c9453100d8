//! Ranks that `mpirun` starts: the run of one process, whatever becomes of one of them.
//!
//! ```text
//! apt install openmpi-bin libopenmpi-dev libclang-dev
//! cargo test --features mpi --test it mpi::
//! ```

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::command::{on_path, root, succeed, tool};
use crate::runs::{SMALL, metrics, text, weights};

/// What a run of these tests has of its own beside [`SMALL`]: a batch that 2, 3 and 4 ranks share out evenly, 58 steps.
const SHARED: [&str; 10] = [
    "--backend",
    "cpu",
    "--threads",
    "1",
    "--set",
    "data.batch_size=48",
    "--set",
    "train.checkpoint_every=5 steps",
    "--set",
    "evaluate.knn=none",
];

/// Kills of one rank in a test; the issue's twenty by `CMAE_KILLS=20`.
const KILLS: usize = 1;

/// The launcher, where it is there.
fn mpirun() -> Option<Command> {
    let found = on_path(&["mpirun"]);
    let path = tool("mpirun", found, "apt install openmpi-bin libopenmpi-dev libclang-dev")?;
    let mut command = Command::new(path);
    // As containers run tests; other launchers do not know these words.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command.env("NO_COLOR", "1").current_dir(root(""));
    Some(command)
}

/// `count` ranks of a run in `folder`.
fn ranks(count: usize, folder: &Path, more: &[&str]) -> Option<Command> {
    let mut command = mpirun()?;
    command.args(["-n", &count.to_string(), "--oversubscribe", env!("CARGO_BIN_EXE_cmaec")]);
    command.args(SMALL).args(SHARED).args(["--out", text(folder)]).args(more);
    Some(command)
}

fn finish(mut command: Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().expect("it can be started");
    let said = [stdout, stderr].concat();
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

/// Process numbers of the ranks that train in `folder`, by rank.
fn processes(folder: &Path) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("these tests are Linux's").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let environment = read("environ");
        let variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let rank = variables.filter_map(|v| v.strip_prefix("OMPI_COMM_WORLD_RANK=").map(str::to_owned)).next();
        if let Some(Ok(rank)) = rank.map(|rank| rank.parse())
            && line.contains(&format!("--out {} ", text(folder)))
        {
            found.push((rank, id));
        }
    }
    found.sort_unstable();
    found
}

/// Waits until a run in `folder` of `count` ranks has made a line of metrics.
fn started(folder: &Path, count: usize, child: &mut Child) -> Vec<(usize, u32)> {
    let start = Instant::now();
    loop {
        let lines = fs::read_to_string(folder.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        let found = processes(folder);
        if lines >= 1 && found.len() == count {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "no step within two minutes");
        assert!(child.try_wait().expect("it can be asked").is_none(), "the run ended before it could be disturbed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status().expect("every system has it");
    assert!(sent.success(), "process {process} is gone already");
}

fn total(line: &Value) -> f64 {
    line["loss"].as_f64().expect("a line of a step has its loss")
}

#[test]
fn ranks_train_as_one_process_does() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| place.path().join(name);
    let alone = path("one");
    succeed(&[&SMALL[..], &SHARED, &["--out", text(&alone)]].concat());
    let wanted = metrics(&alone);
    for (count, more) in [(2, &[][..]), (3, &["--set", "train.micro_batch=4"])] {
        let folder = path(&format!("of{count}"));
        let Some(command) = ranks(count, &folder, more) else { return };
        let (code, said) = finish(command);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&format!("over {count} ranks")), "{said}");
        let found = metrics(&folder);
        assert_eq!(found.len(), wanted.len());
        // What three steps of every pipeline are held to in f32 (`ranks`); these pictures amplify rounding less.
        let off = |(a, b): (&Value, &Value)| (total(a) - total(b)).abs() / total(a).abs();
        let most = wanted.iter().zip(&found).map(off).fold(0.0, f64::max);
        println!("{count} ranks: {most:.1e}");
        assert!(most < 1e-5, "{count} ranks: {most:e}");
    }
    // The same number of ranks gives the same bytes, whoever keeps what of the optimizer.
    let again = path("again");
    let (code, said) = finish(ranks(2, &again, &["--set", "train.shard_optimizer=true"]).expect("it was there"));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("what the optimizer keeps is shared out over the 2 ranks"), "{said}");
    assert!(weights(&again) == weights(&path("of2")), "two runs of two ranks differ");
}

/// `mpirun -n COUNT cmaec ARGS`.
fn cmaec(count: usize, args: &[&str]) -> Option<Command> {
    let mut command = mpirun()?;
    command.args(["-n", &count.to_string(), "--oversubscribe", env!("CARGO_BIN_EXE_cmaec")]).args(args);
    Some(command)
}

/// Pictures are shared out; figures, and a file of features, are those of one process, to the byte.
#[test]
fn ranks_judge_features_together() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| place.path().join(name);
    let run = path("run");
    let judges = &SHARED[..SHARED.len() - 2];
    let Some(command) = cmaec(3, &[&SMALL[..], judges, &["--out", text(&run)]].concat()) else { return };
    let (code, said) = finish(command);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("kNN accuracy to beat").count(), 1, "{said}");
    let judged = metrics(&run).into_iter().rev().find_map(|line| line.get("evaluation").cloned());
    let judged = judged.unwrap_or_else(|| panic!("nothing was judged: {said}"));
    let eval = ["eval", "knn", text(&run), "--json", "--backend", "cpu"];
    let read = |said: &str| -> Value {
        serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let alone = read(&succeed(&eval));
    let (code, said) = finish(cmaec(3, &eval).expect("it was there"));
    assert_eq!((code, read(&said)), (0, alone.clone()), "{said}");
    assert_eq!(judged["knn_accuracy"], alone["knn_accuracy"], "the last evaluation is that of the last checkpoint");
    let [one, three] = ["one.safetensors", "three.safetensors"].map(path);
    let features = ["features", text(&run), "--data", "data.val", "--backend", "cpu", "-o"];
    succeed(&[&features[..], &[text(&one)]].concat());
    let (code, said) = finish(cmaec(3, &[&features[..], &[text(&three)]].concat()).expect("it was there"));
    assert_eq!(code, 0, "{said}");
    let bytes = |file: &Path| fs::read(file).expect("it was written");
    assert!(bytes(&one) == bytes(&three), "three ranks write other features");
}

#[test]
fn a_rank_that_dies_ends_all_and_the_run_goes_on_to_the_same_bytes() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let whole = place.path().join("whole");
    let Some(command) = ranks(4, &whole, &[]) else { return };
    assert_eq!(finish(command).0, 0);
    let kills = std::env::var("CMAE_KILLS").map_or(KILLS, |text| text.parse().expect("CMAE_KILLS is a number"));
    for kill in 0..kills {
        let folder = place.path().join(format!("killed{kill}"));
        let mut child = ranks(4, &folder, &[])
            .expect("it was there")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let found = started(&folder, 4, &mut child);
        // Of each rank in turn, at a moment that the clock chooses, as it does the first of them.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let (rank, process) = found[(kill + now.as_secs() as usize) % found.len()];
        std::thread::sleep(Duration::from_micros(u64::from(now.subsec_nanos()) % 300_000));
        let at = Instant::now();
        signal(process, "-KILL");
        let ended = child.wait_with_output().expect("it ends");
        let (took, said) = (at.elapsed(), String::from_utf8_lossy(&ended.stderr).into_owned());
        println!("rank {rank} killed: all ended after {took:.1?}");
        assert!(!ended.status.success() && took < Duration::from_secs(20), "{took:?}: {said}");
        assert!(said.contains(&format!("rank {rank}")), "nobody says which it was: {said}");
        assert!(processes(&folder).is_empty(), "a rank is left over");
        let (code, said) = finish(ranks(4, &folder, &["--resume"]).expect("it was there"));
        assert_eq!(code, 0, "{said}");
        assert!(weights(&folder) == weights(&whole), "after rank {rank} was killed the run ends elsewhere");
    }
}

#[test]
fn a_signal_to_one_rank_saves_and_stops_all_of_them() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let folder = place.path().join("run");
    let Some(mut command) = ranks(3, &folder, &["--set", "train.shard_optimizer=true"]) else { return };
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let found = started(&folder, 3, &mut child);
    signal(found[2].1, "-TERM");
    let ended = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped and saved after step") && said.contains("mpirun -n 3 cmaec run"), "{said}");
    // Another number of ranks goes on, and says what that means.
    let (code, said) = finish(ranks(2, &folder, &["--resume"]).expect("it was there"));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the checkpoint was made by 3 ranks, this is 2 ranks"), "{said}");
}

/// A rank that stands still for a while, as where another program takes its machine, holds the others up, and nothing else.
#[test]
fn a_rank_that_is_slow_is_waited_for() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| place.path().join(name);
    let Some(command) = ranks(3, &path("whole"), &[]) else { return };
    assert_eq!(finish(command).0, 0);
    let slow = path("slow");
    let mut child =
        ranks(3, &slow, &[]).expect("it was there").stderr(Stdio::null()).spawn().expect("it can be started");
    let found = started(&slow, 3, &mut child);
    signal(found[1].1, "-STOP");
    std::thread::sleep(Duration::from_secs(2));
    signal(found[1].1, "-CONT");
    assert!(child.wait().expect("it ends").success());
    assert!(weights(&slow) == weights(&path("whole")), "a rank that was slow has changed the run");
}

/// As a disk without room: no file of rank 0 grows beyond 64 KiB, which a checkpoint does.
#[test]
fn a_disk_that_is_full_ends_all_and_loses_nothing() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| place.path().join(name);
    let Some(command) = ranks(2, &path("whole"), &[]) else { return };
    assert_eq!(finish(command).0, 0);
    let full = path("full");
    let mut command = mpirun().expect("it was there");
    // Who ignores the signal gets an error from the write.
    let limited = "if [ \"$OMPI_COMM_WORLD_RANK\" = 0 ]; then trap '' XFSZ; ulimit -f 64; fi; exec \"$0\" \"$@\"";
    command.args(["-n", "2", "--oversubscribe", "bash", "-c", limited, env!("CARGO_BIN_EXE_cmaec")]);
    let (code, said) = finish({
        command.args(SMALL).args(SHARED).args(["--out", text(&full)]);
        command
    });
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("rank 0 of 2: cannot write"), "{said}");
    let (code, said) = finish(ranks(2, &full, &["--resume"]).expect("it was there"));
    assert_eq!(code, 0, "{said}");
    assert!(weights(&full) == weights(&path("whole")), "the run ends elsewhere");
}

#[test]
fn what_is_wrong_is_told_once_with_what_to_do() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let folder = place.path().join("run");
    let cases: [(&[&str], &str); 3] = [
        (&["--set", "data.batch_size=50"], "2 ranks, or --set data.batch_size=52"),
        (&["--set", "train.precision=f64", "--sweep", "temperature=0.1,0.2"], "a sweep is made by one process"),
        (&["--set", "data.train=image_folder(\"nowhere\")"], "folder `nowhere` does not exist"),
    ];
    for (more, wanted) in cases {
        let Some(command) = ranks(4, &folder, more) else { return };
        let (code, said) = finish(command);
        assert_ne!(code, 0, "{said}");
        assert_eq!(said.matches(wanted).count(), 1, "{said}");
        assert!(said.contains("rank 0 of 4"), "{said}");
    }
}
