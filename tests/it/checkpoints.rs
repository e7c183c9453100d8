//! Checkpoints on disks that fail, and checkpoints that something has changed.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use cmae::graph::{Init, Layout, TensorDecl, TensorKind};
use cmae::run::checkpoint::{NewCheckpoint, State};
use cmae::run::disk::{Disk, Fill, System};
use cmae::run::{Checkpoint, RunError, RunFolder, Saver};
use cmae::spec::Role;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// It fails; those behind it do not.
    Error,
    /// The disk is full from here on: of a file half is written; what is removed goes.
    NoSpace,
    /// The process dies before it.
    KilledBefore,
    /// The process dies in the middle: of a file half is written.
    KilledWithin,
    /// The process dies right after it.
    KilledAfter,
}

pub const FAULTS: [Fault; 5] =
    [Fault::Error, Fault::NoSpace, Fault::KilledBefore, Fault::KilledWithin, Fault::KilledAfter];

/// A disk on which operation `at` goes wrong.
#[derive(Debug)]
pub struct Failing {
    pub fault: Fault,
    pub at: usize,
    pub done: AtomicUsize,
}

enum Turn {
    Sound,
    Now,
    /// Behind the fault.
    After,
}

impl Failing {
    pub fn new(fault: Fault, at: usize) -> Arc<Failing> {
        Arc::new(Failing { fault, at, done: AtomicUsize::new(0) })
    }

    fn turn(&self) -> Turn {
        match self.done.fetch_add(1, Ordering::SeqCst) {
            n if n < self.at => Turn::Sound,
            n if n == self.at => Turn::Now,
            _ => Turn::After,
        }
    }

    fn error(&self) -> io::Error {
        match self.fault {
            // As Linux says it.
            Fault::NoSpace => io::Error::from_raw_os_error(28),
            Fault::Error => io::Error::other("an error that was asked for"),
            _ => io::Error::other("the process is gone"),
        }
    }

    /// `half` is what is done of an operation that breaks off; `frees`: it needs no space.
    fn run(
        &self,
        whole: impl FnOnce() -> io::Result<()>,
        half: impl FnOnce() -> io::Result<()>,
        frees: bool,
    ) -> io::Result<()> {
        match (self.turn(), self.fault) {
            (Turn::Sound, _) | (Turn::After, Fault::Error) => whole(),
            (Turn::Now | Turn::After, Fault::NoSpace) if frees => whole(),
            (Turn::Now | Turn::After, Fault::NoSpace) | (Turn::Now, Fault::KilledWithin) => {
                half()?;
                Err(self.error())
            }
            (Turn::Now, Fault::KilledAfter) => {
                whole()?;
                Err(self.error())
            }
            (Turn::Now, Fault::Error | Fault::KilledBefore) | (Turn::After, _) => Err(self.error()),
        }
    }
}

impl Disk for Failing {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.run(|| System.make_folder(path), || Ok(()), false)
    }

    fn write(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        fill(&mut bytes)?;
        let write = |bytes: &[u8]| System.write(path, &mut |file| file.write_all(bytes));
        self.run(|| write(&bytes), || write(&bytes[..bytes.len() / 2]), false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(|| System.rename(from, to), || Ok(()), true)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let half = || match fs::read_dir(path).ok().and_then(|mut entries| entries.next()) {
            Some(entry) => fs::remove_file(entry?.path()),
            None => Ok(()),
        };
        self.run(|| System.remove_folder(path), half, true)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.run(|| System.sync_folder(path), || Ok(()), true)
    }
}

fn layout() -> Layout {
    let tensor = |path: &str, shape: &[usize], kind| TensorDecl {
        path: path.to_owned(),
        shape: shape.to_vec(),
        role: Role::Weight,
        kind,
        init: Init::Zeros,
    };
    Layout::new(vec![
        tensor("encoder.weight", &[3, 4], TensorKind::Trained),
        tensor("encoder.bias", &[3], TensorKind::Trained),
        tensor("centre", &[2], TensorKind::Fixed),
    ])
}

/// What a run holds after `step` steps.
fn arena(step: u64) -> Vec<f32> {
    (0..layout().total_len).map(|i| step as f32 + i as f32 / 64.0).collect()
}

fn slots(step: u64) -> Vec<Vec<f32>> {
    let len = layout().trained_len;
    vec![vec![step as f32; len], vec![-1.0; len]]
}

fn state(step: u64) -> State {
    State {
        version: "0".to_owned(),
        pipeline: "example".to_owned(),
        step,
        seed: 3,
        precision: "f32".to_owned(),
        backend: "cpu".to_owned(),
        machine: "any".to_owned(),
        ranks: 1,
        slots: vec!["first".to_owned(), "second".to_owned()],
        updates: vec![step; 2],
        sources: Vec::new(),
        files: Vec::new(),
    }
}

fn save(folder: &RunFolder, step: u64) -> Result<(), RunError> {
    let new = NewCheckpoint { state: state(step), arena: &arena(step), slots: &slots(step) };
    new.save(folder, &layout(), 2).map(|_| ())
}

/// The step of the newest whole checkpoint, whose values must be those of that step, and what was passed over.
fn newest(path: &Path) -> (u64, Vec<String>) {
    let folder = RunFolder::open_for_training(path, true).expect("nobody holds it");
    let (found, damaged) = Checkpoint::<f32>::load_newest(&folder, &layout())
        .unwrap_or_else(|error| panic!("{error}"))
        .expect("there is one");
    assert_eq!(found.arena, arena(found.state.step));
    assert!(found.slots[0].iter().all(|v| *v == found.state.step as f32));
    assert_eq!(found.state.updates, vec![found.state.step; 2]);
    (found.state.step, damaged)
}

fn with_two(path: &Path) {
    let folder = RunFolder::open_for_training(path, false).expect("a temporary folder");
    save(&folder, 1).expect("the disk is sound");
    save(&folder, 2).expect("the disk is sound");
}

/// At every operation of the third checkpoint of a run that keeps two, in every way: the run goes on from the second or the third,
/// saves again, and nothing is left lying about.
#[test]
fn whatever_fails_while_it_is_written_there_is_one_to_go_on_from() {
    let operations = {
        let sound = Failing::new(Fault::Error, usize::MAX);
        let temporary = tempfile::tempdir().expect("a temporary folder");
        with_two(temporary.path());
        let folder = RunFolder::open_for_training(temporary.path(), true).expect("nobody holds it").on(sound.clone());
        save(&folder, 3).expect("the disk is sound");
        sound.done.load(Ordering::SeqCst)
    };
    assert!(operations >= 10, "{operations} operations");
    for fault in FAULTS {
        for at in 0..operations {
            let temporary = tempfile::tempdir().expect("a temporary folder");
            let path = temporary.path();
            with_two(path);
            let disk = Failing::new(fault, at);
            let folder = RunFolder::open_for_training(path, true).expect("nobody holds it").on(disk);
            let error = save(&folder, 3).err().map(|error| error.to_string());
            drop(folder);
            // What a full disk does not hinder are removals, renames and their like.
            assert!(error.is_some() || fault == Fault::NoSpace, "{fault:?} at {at} is not told");
            assert!(error.iter().all(|error| error.starts_with("cannot ")), "{fault:?} at {at}: {error:?}");
            let (step, damaged) = newest(path);
            assert!(step == 2 || step == 3, "{fault:?} at {at}: step {step}");
            assert!(damaged.is_empty(), "{fault:?} at {at}: a checkpoint under its final name is whole: {damaged:?}");
            let folder = RunFolder::open_for_training(path, true).expect("nobody holds it");
            save(&folder, 4).unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
            drop(folder);
            assert_eq!(newest(path).0, 4, "{fault:?} at {at}");
            let left = fs::read_dir(path.join("checkpoints")).expect("it is there").count();
            assert_eq!(left, 2, "{fault:?} at {at}: the newest two and nothing else");
        }
    }
}

/// One of many changes to a file, by numbers that follow from `seed`. `other`: the same file of another checkpoint.
fn mutated(bytes: &[u8], other: &[u8], seed: u64) -> Option<Vec<u8>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut new = bytes.to_vec();
    let (at, len) = (draw(bytes.len()), 1 + draw(64));
    let end = (at + len).min(bytes.len());
    match draw(12) {
        0 | 1 => new[at] ^= 1 << draw(8),
        2 => new[at] = draw(256) as u8,
        3 => new.truncate(at),
        4 => new.extend((0..len).map(|i| i as u8)),
        5 => drop(new.drain(at..end)),
        6 => new.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
        7 => new[at..end].fill(0),
        8 => new[at..end].fill(b'9'),
        // The length of a safetensors header, or the first letters of a text.
        9 => new[draw(8)] = draw(256) as u8,
        10 => return Some(other.to_vec()),
        _ => return None,
    }
    Some(new)
}

/// Changes to the newest of two checkpoints: each is named, and the one before is used.
fn changes(count: u64) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let path = temporary.path();
    with_two(path);
    const FILES: [&str; 3] = ["model.safetensors", "optimizer.safetensors", "state.ron"];
    let [first, second] = ["step-00000001", "step-00000002"].map(|name| path.join("checkpoints").join(name));
    let read = |folder: &Path| FILES.map(|file| fs::read(folder.join(file)).expect("a checkpoint has it"));
    let (old, whole) = (read(&first), read(&second));
    let folder = RunFolder::open_for_training(path, true).expect("nobody holds it");
    let mut changed = 0;
    for seed in 0..count {
        let file = seed as usize % 3;
        let to = second.join(FILES[file]);
        match mutated(&whole[file], &old[file], seed) {
            Some(bytes) if bytes == whole[file] => continue,
            Some(bytes) => fs::write(&to, bytes).expect("a temporary folder"),
            None => fs::remove_file(&to).expect("it is there"),
        }
        changed += 1;
        let (found, damaged) = Checkpoint::<f32>::load_newest(&folder, &layout())
            .unwrap_or_else(|error| panic!("change {seed} of {}: {error}", FILES[file]))
            .expect("there is one");
        assert_eq!((found.state.step, &found.arena), (1, &arena(1)), "change {seed} of {}", FILES[file]);
        let [line] = &damaged[..] else { panic!("one is named: {damaged:?}") };
        // A state that lists other sums makes the files look wrong.
        let named = FILES.iter().any(|name| line.contains(name));
        assert!(line.contains("step-00000002 is damaged") && named, "{line}");
        fs::write(&to, &whole[file]).expect("a temporary folder");
    }
    assert!(changed * 20 > count * 19, "{changed} of {count} were changes");
    // A whole checkpoint under another's name is none either.
    FILES.iter().zip(&old).for_each(|(file, bytes)| fs::write(second.join(file), bytes).expect("a temporary folder"));
    drop(folder);
    let (step, damaged) = newest(path);
    assert_eq!(step, 1);
    assert!(damaged[0].contains("state.ron is that of step-00000001"), "{damaged:?}");
}

#[test]
fn a_changed_checkpoint_is_named_and_the_one_before_it_used() {
    changes(1_000);
}

#[test]
#[ignore = "a minute"]
fn ten_thousand_changed_checkpoints_are_named() {
    changes(10_000);
}

/// A disk on which nothing is written before it is let go.
#[derive(Debug, Default)]
struct Slow {
    goes: Mutex<bool>,
    went: Condvar,
}

impl Slow {
    fn go(&self) {
        *self.goes.lock().expect("nobody panics with it") = true;
        self.went.notify_all();
    }
}

impl Disk for Slow {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        System.make_folder(path)
    }

    fn write(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let goes = self.goes.lock().expect("nobody panics with it");
        drop(self.went.wait_while(goes, |goes| !*goes).expect("nobody panics with it"));
        System.write(path, fill)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        System.remove_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        System.sync_folder(path)
    }
}

/// Steps go on while a checkpoint is written, and what they change is not in it. This would never end if it were written at once.
#[test]
fn what_is_handed_over_is_written_as_it_was() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(Slow::default());
    let folder = RunFolder::open_for_training(temporary.path(), false).expect("a temporary folder").on(disk.clone());
    let mut saver = Saver::new(&folder, &layout(), 2);
    let (mut values, mut kept) = (arena(1), slots(1));
    saver.save(state(1), &values, Cow::Borrowed(&kept)).expect("it is begun");
    values.fill(f32::NAN);
    kept.iter_mut().for_each(|slot| slot.fill(f32::NAN));
    saver.poll().expect("it is not written yet");
    disk.go();
    // The second waits for the first, and takes its memory.
    saver.save(state(2), &arena(2), Cow::Borrowed(&slots(2))).expect("the first is written");
    saver.wait().expect("the disk is sound");
    drop((saver, folder));
    assert_eq!(newest(temporary.path()), (2, Vec::new()));
    let first = Checkpoint::<f32>::load_named(
        &RunFolder::open_for_training(temporary.path(), true).expect("nobody holds it"),
        &layout(),
        "step-00000001",
    );
    let (first, _) = first.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((first.arena, first.slots), (arena(1), slots(1)));
}

/// What goes wrong on its thread is told by whoever waits, and the next is written.
#[test]
fn what_fails_behind_the_steps_is_told() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::open_for_training(temporary.path(), false).expect("a temporary folder");
    let folder = folder.on(Failing::new(Fault::Error, 2));
    let mut saver = Saver::new(&folder, &layout(), 2);
    saver.save(state(1), &arena(1), Cow::Borrowed(&slots(1))).expect("it is begun");
    let error = saver.save(state(2), &arena(2), Cow::Borrowed(&slots(2))).expect_err("the disk fails").to_string();
    assert!(error.contains("step-00000001"), "{error}");
    saver.save(state(2), &arena(2), Cow::Borrowed(&slots(2))).expect("it is begun");
    saver.wait().expect("the disk is sound again");
    drop((saver, folder));
    assert_eq!(newest(temporary.path()), (2, Vec::new()));
}
