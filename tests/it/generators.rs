//! Text made at random, of everything that is shipped: pieces edited, bytes damaged, numbers of all magnitudes, nesting. Whatever
//! it is, the compiler answers: no panic, no abort, no input that takes longer than [`LIMIT`].
//!
//! The suite takes a slice with a fixed seed. The named command takes as many as it is told, and keeps the input that it is at in
//! `target/tmp/generators/`, where it lies after an abort:
//! `CMAE_INPUTS=1000000 cargo test --locked --test it -- --ignored --nocapture generators::as_many_as_are_asked_for`

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cmae::data::rng::Key;
use cmae::data::view::Draw;
use cmae::diag::{Code, Diagnostics, render};
use cmae::elab::Set;
use cmae::source::Sources;

use crate::command::root;

/// No text takes longer, also where two slow cores have other work.
const LIMIT: Duration = Duration::from_secs(60);

/// Numbers at the edges of what they may be.
const NUMBERS: [&str; 40] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "17",
    "64",
    "1000",
    "1001",
    "65536",
    "65537",
    "1000000",
    "4294967295",
    "4294967296",
    "1000000000000",
    "9223372036854775807",
    "9223372036854775808",
    "0.0",
    "0.5",
    "0.9999999999",
    "1.0",
    "1.7",
    "1e-12",
    "1e-308",
    "1e12",
    "1e308",
    "0%",
    "1%",
    "50%",
    "99.999%",
    "100%",
    "101%",
    "1e300%",
    "0px",
    "1px",
    "15px",
    "16px",
    "999999999px",
    "0 epochs",
    "1e300 steps",
];
/// What stands around or before a value.
const WRAPS: [(&str, &str); 14] = [
    ("(", ")"),
    ("[", "]"),
    ("(", ",)"),
    ("{a: ", "}"),
    ("-", ""),
    ("not ", ""),
    ("1 + ", ""),
    ("", " * 1000003"),
    ("sum([", "])"),
    ("[x for i in 0..10000 for x in [", "]]"),
    ("", ".last"),
    ("", "[0]"),
    ("1 if true else ", ""),
    ("", " |> sqrt"),
];
/// Settings of the quickstart, for `--set`.
const SETTINGS: [&str; 34] = [
    "mask_ratio",
    "image_size",
    "patch_size",
    "max_shift",
    "temperature",
    "contrast",
    "data.train",
    "data.batch_size",
    "data.channels",
    "data.max_broken",
    "data.prefetch_batches",
    "train.epochs",
    "train.micro_batch",
    "train.learning_rate",
    "train.optimizer",
    "train.clip",
    "train.keep",
    "train.checkpoint_every",
    "train.log_every_steps",
    "train.seed",
    "model.encoder.depth",
    "model.encoder.num_heads",
    "model.encoder.embed_dim",
    "model.encoder.mlp_ratio",
    "model.encoder.patch_size",
    "model.encoder.image_size",
    "model.pixel_decoder.depth",
    "model.projector.hidden",
    "model.projector.out",
    "model.momentum.momentum",
    "evaluate.knn.k",
    "evaluate.knn.every",
    "views.online",
    "views.eval",
];

/// All that is shipped, by path, and cut into pieces.
struct Shipped {
    pipelines: Vec<(PathBuf, String)>,
    stdlib: Vec<(PathBuf, String)>,
}

/// One text to compile in place of the file of that path.
struct Input {
    path: PathBuf,
    contents: Vec<u8>,
    /// The pipeline that is compiled: the file itself, or one that uses it.
    pipeline: PathBuf,
    set: Option<String>,
}

impl Shipped {
    fn read() -> Self {
        let folder = |name: &str| {
            let entries = fs::read_dir(root(name)).expect("it is in the repository");
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
            paths.retain(|path| path.extension().is_some_and(|e| e == "cmae"));
            paths.sort_unstable();
            let text = |path: PathBuf| (path.clone(), fs::read_to_string(path).expect("it is a text"));
            paths.into_iter().map(text).collect()
        };
        Shipped { pipelines: folder("pipelines"), stdlib: folder("stdlib") }
    }

    /// The input of one number.
    fn input(&self, seed: u64, number: u64) -> Input {
        let mut stream = Key { seed, epoch: 0, sample: number }.stream("generators");
        let draw: &mut dyn Draw = &mut stream;
        let pipeline = &self.pipelines[draw.below(self.pipelines.len() as u64) as usize];
        let in_stdlib = draw.below(4) == 0;
        let (path, text) =
            if in_stdlib { &self.stdlib[draw.below(self.stdlib.len() as u64) as usize] } else { pipeline };
        let other = &self.pipelines[draw.below(self.pipelines.len() as u64) as usize].1;
        let mut input = Input { path: path.clone(), contents: Vec::new(), pipeline: pipeline.0.clone(), set: None };
        input.contents = match draw.below(12) {
            0 => damaged(text, draw),
            1 => spliced(text, other, draw).into_bytes(),
            2 | 3 => {
                // A pipeline as it is, with one setting that is not.
                input.path = pipeline.0.with_file_name("quickstart.cmae");
                input.pipeline = input.path.clone();
                let name = SETTINGS[draw.below(SETTINGS.len() as u64) as usize];
                input.set = Some(format!("{name}={}", value(draw)));
                let (_, quickstart) =
                    self.pipelines.iter().find(|(path, _)| *path == input.path).expect("it is shipped");
                quickstart.clone().into_bytes()
            }
            4..=6 => edited(text, draw, |_, _, draw| value(draw)).into_bytes(),
            7 => edited(text, draw, |piece, _, draw| nested(piece, draw)).into_bytes(),
            _ => edited(text, draw, |_, all, draw| all[draw.below(all.len() as u64) as usize].to_owned()).into_bytes(),
        };
        input
    }
}

/// A value of any magnitude, perhaps deep.
fn value(draw: &mut dyn Draw) -> String {
    let number = NUMBERS[draw.below(NUMBERS.len() as u64) as usize];
    let number = match draw.below(6) {
        0 => format!("-{number}"),
        1 => format!("{number} / {}", NUMBERS[draw.below(NUMBERS.len() as u64) as usize]),
        2 => format!("{number} % {}", NUMBERS[draw.below(NUMBERS.len() as u64) as usize]),
        3 => format!("{number}..{}", NUMBERS[draw.below(NUMBERS.len() as u64) as usize]),
        4 => format!("({number}, {})", NUMBERS[draw.below(NUMBERS.len() as u64) as usize]),
        _ => number.to_owned(),
    };
    if draw.below(8) == 0 { nested(&number, draw) } else { number }
}

/// `inner` within others, up to some thousands of them.
fn nested(inner: &str, draw: &mut dyn Draw) -> String {
    let (before, after) = WRAPS[draw.below(WRAPS.len() as u64) as usize];
    let times = [1, 2, 5, 20, 60, 250, 3000][draw.below(7) as usize];
    format!("{}{inner}{}", before.repeat(times), after.repeat(times))
}

/// Pieces: a word, a number, a run of blanks, or one sign.
fn pieces(text: &str) -> Vec<&str> {
    let class = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            1
        } else if c.is_whitespace() {
            2
        } else {
            0
        }
    };
    let (mut pieces, mut start, mut last) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        let now = class(c);
        if at > start && (now == 0 || last != Some(now)) {
            pieces.push(&text[start..at]);
            start = at;
        }
        last = Some(now);
    }
    pieces.push(&text[start..]);
    pieces
}

/// Text with one to three pieces left out, doubled, exchanged or replaced, outside of comments; numbers above all.
fn edited(text: &str, draw: &mut dyn Draw, replace: fn(&str, &[&str], &mut dyn Draw) -> String) -> String {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    let all = pieces(&code);
    let mut changed: Vec<String> = all.iter().map(|piece| (*piece).to_owned()).collect();
    let numbers: Vec<usize> = (0..all.len()).filter(|i| all[*i].starts_with(|c: char| c.is_ascii_digit())).collect();
    for _ in 0..=draw.below(3) {
        let anywhere = draw.below(all.len() as u64) as usize;
        let at = if numbers.is_empty() || draw.below(3) == 0 {
            anywhere
        } else {
            numbers[draw.below(numbers.len() as u64) as usize]
        };
        match draw.below(8) {
            0 => changed[at].clear(),
            1 => changed[at] = changed[at].repeat(2),
            2 => changed.swap(at, anywhere),
            _ => changed[at] = replace(all[at], &all, draw),
        }
    }
    changed.concat()
}

/// The beginning of one text and the end of another.
fn spliced(text: &str, other: &str, draw: &mut dyn Draw) -> String {
    let (first, second) = (pieces(text), pieces(other));
    let (head, tail) = (draw.below(first.len() as u64) as usize, draw.below(second.len() as u64) as usize);
    format!("{}{}", first[..head].concat(), second[tail..].concat())
}

/// Bytes changed, put in, cut off; or all of them in another encoding.
fn damaged(text: &str, draw: &mut dyn Draw) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    match draw.below(8) {
        0 => return text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        1 => bytes.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        2 => bytes = text.replace('\n', "\r\n").into_bytes(),
        3 => bytes.truncate(draw.below(text.len() as u64) as usize),
        _ => {
            for _ in 0..=draw.below(4) {
                let at = draw.below(bytes.len() as u64) as usize;
                let byte =
                    [b'"', b'\\', b'(', b'}', b'/', 0, 0x93, 0xff, draw.below(256) as u8][draw.below(9) as usize];
                match draw.below(2) {
                    0 => bytes[at] = byte,
                    _ => bytes.insert(at, byte),
                }
            }
        }
    }
    bytes
}

/// Compiles one input; gives the code of its first error.
fn compile(shipped: &Shipped, input: &Input) -> Option<Code> {
    let mut sources = Sources::with_stdlib(root("stdlib"));
    let mut diagnostics = Diagnostics::default();
    sources.add_file(&input.path, &input.contents);
    for (path, text) in shipped.stdlib.iter().chain(&shipped.pipelines) {
        sources.add_file(path, text);
    }
    let sets: Vec<Set> = input.set.iter().map(|set| Set::from(set.as_str())).collect();
    let result = cmae::compile(&mut sources, &mut diagnostics, &input.pipeline, &sets);
    // An error without a message would leave its user with nothing.
    assert_eq!(result.is_err(), diagnostics.has_errors());
    let drawn = render(diagnostics.list(), &sources, false);
    assert!(result.is_ok() || !drawn.is_empty());
    result.err().map(|_| diagnostics.list()[0].code)
}

/// Compiles `count` inputs; gives how many are accepted and how many codes the others met.
fn compile_all(seed: u64, count: u64) -> (u64, usize) {
    let shipped = Shipped::read();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generators");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    // Where each is kept while it is compiled: an overflow of the stack leaves no other trace.
    let keep = |input: &Input| {
        let set = input.set.clone().unwrap_or_default();
        let about = format!("{}\n{}\n{set}\n", input.path.display(), input.pipeline.display());
        fs::write(folder.join("about.txt"), about).expect("the target folder can be written");
        fs::write(folder.join("text.cmae"), &input.contents).expect("the target folder can be written");
    };
    let running: Arc<Mutex<Option<(Instant, u64)>>> = Arc::default();
    let watched = running.clone();
    // A text that does not end cannot be stopped, only told.
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            match *watched.lock().expect("nobody panics with it") {
                Some((since, number)) if since.elapsed() > LIMIT => {
                    eprintln!("input {number} of seed {seed} takes longer than {LIMIT:?}");
                    std::process::abort();
                }
                Some(_) => {}
                None => return,
            }
        }
    });
    let (mut accepted, mut codes) = (0, std::collections::BTreeSet::new());
    let start = Instant::now();
    for number in 0..count {
        *running.lock().expect("nobody panics with it") = Some((Instant::now(), number));
        let input = shipped.input(seed, number);
        keep(&input);
        match catch_unwind(AssertUnwindSafe(|| compile(&shipped, &input))) {
            Ok(None) => accepted += 1,
            Ok(Some(code)) => drop(codes.insert(code)),
            Err(_) => panic!("input {number} of seed {seed}, kept in {}, makes the compiler panic", folder.display()),
        }
        if number % 10_000 == 9_999 {
            eprintln!("{} inputs in {:.0?}, {accepted} accepted", number + 1, start.elapsed());
        }
    }
    *running.lock().expect("nobody panics with it") = None;
    (accepted, codes.len())
}

#[test]
fn no_text_makes_the_compiler_panic_abort_or_hang() {
    let (accepted, codes) = compile_all(1, 250);
    // Neither all broken at the first letter, nor all as they were.
    assert!((12..220).contains(&accepted) && codes > 12, "{accepted} accepted, {codes} codes");
}

#[test]
#[ignore = "as long as it is told"]
fn as_many_as_are_asked_for() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (count, seed) = (number("CMAE_INPUTS", 1_000_000), number("CMAE_SEED", 2));
    let (accepted, codes) = compile_all(seed, count);
    eprintln!("{count} inputs without panic, abort or hang: {accepted} accepted, the others met {codes} codes");
}
