//! The loader: order, readiness, broken pictures, and no deadlock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cmae::data::batch::Share;
use cmae::data::decode::{Reading, decode};
use cmae::data::evaluation::EvalBatches;
use cmae::data::loader::{Loader, LoaderOptions, TrainBatch};
use cmae::data::source::{Identity, Source};
use cmae::data::{DataError, Image};
use cmae::graph::{InputDecl, InputKind};
use cmae::op::Type;
use cmae::spec::{MAX_PIXELS, ViewFrom, ViewOp, ViewSpec};
use cmae::tensor::{HostTensor, InputValue, Pictures};

/// Pictures of 8 × 8 whose level is their index; some are broken, and each takes a while.
struct Levels {
    len: usize,
    broken: Vec<usize>,
    panics: Option<usize>,
    /// Whose label cannot be told, which no decoder is asked.
    fails: Option<usize>,
    delay: Duration,
    classes: Vec<String>,
    /// Pictures that were asked for.
    asked: AtomicUsize,
}

fn levels(len: usize) -> Levels {
    let (classes, asked) = (vec!["a".into(), "b".into()], AtomicUsize::new(0));
    Levels { len, broken: Vec::new(), panics: None, fails: None, delay: Duration::ZERO, classes, asked }
}

impl Source for Levels {
    fn len(&self) -> usize {
        self.len
    }
    fn image(&self, index: usize) -> Result<Image, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.delay);
        assert_ne!(self.panics, Some(index), "as a decoder might");
        if self.broken.contains(&index) {
            return Err("it ends early".to_owned());
        }
        Ok(Image::new(8, 8, 1, (0..64).map(|i| (index * 3 + i) as u8).collect()))
    }
    fn label(&self, index: usize) -> Option<i64> {
        assert_ne!(self.fails, Some(index), "as a fault of ours might");
        Some((index % 2) as i64)
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn name(&self, index: usize) -> String {
        format!("picture {index}")
    }
    fn identity(&self, index: usize) -> Identity {
        Identity::of_text(&self.name(index))
    }
}

fn view(name: &str, from: ViewFrom, ops: Vec<ViewOp>, normalized: bool) -> ViewSpec {
    ViewSpec { name: name.to_owned(), from, ops, size: None, channels: 1, normalized }
}

fn normalize() -> ViewOp {
    ViewOp::Normalize { mean: vec![0.0], std: vec![1.0] }
}

/// A master that is flipped at random, a window of it at its corner, and one that is shifted.
fn views(window: usize) -> Vec<ViewSpec> {
    let of_master = || ViewFrom::View("master".to_owned());
    let size = (window, window);
    vec![
        view("master", ViewFrom::Source("train".to_owned()), vec![ViewOp::RandomFlip { p: 0.5 }], false),
        view("online", of_master(), vec![ViewOp::Crop { size, at: (0, 0) }, normalize()], true),
        view("target", of_master(), vec![ViewOp::RandomShift { size, by: (0, 2) }, normalize()], true),
        view("eval", ViewFrom::Recipe, vec![ViewOp::CenterCrop { size }, normalize()], true),
    ]
}

fn inputs(batch: usize, window: usize) -> Vec<InputDecl> {
    let picture = |name: &str| InputDecl {
        name: format!("views.{name}"),
        kind: InputKind::View { view: name.to_owned() },
        ty: Type::float([batch, 1, window, window]),
    };
    let noise = |name: &str| InputDecl { name: name.to_owned(), kind: InputKind::Noise, ty: Type::float([batch, 500]) };
    let drop = InputDecl { name: "drop".to_owned(), kind: InputKind::Random, ty: Type::float([3]) };
    let beside = InputKind::Beside { view: "target".to_owned() };
    let beside = InputDecl { name: "beside.target".to_owned(), kind: beside, ..picture("target") };
    let ids = |name: &str, kind| InputDecl { name: name.to_owned(), kind, ty: Type::int([batch]) };
    let (label_beside, labels) = (ids("beside.label", InputKind::LabelBeside), ids("label", InputKind::Label));
    vec![picture("online"), picture("target"), beside, noise("a.noise"), noise("b.noise"), drop, label_beside, labels]
}

fn options(threads: usize) -> LoaderOptions {
    LoaderOptions { seed: 7, threads, prefetch: 2, max_broken: 0.5, pictures: Pictures::Floats }
}

fn start(source: impl Into<Arc<Levels>>, options: LoaderOptions, steps: std::ops::Range<u64>) -> Loader {
    Loader::start(source.into(), &views(6), &inputs(4, 6), 4, options, steps).expect("the source is large enough")
}

/// Waits for what must come, however busy the machine is.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} never comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn all(mut loader: Loader) -> Vec<TrainBatch> {
    std::iter::from_fn(|| loader.next_batch()).map(|batch| batch.expect("few are broken")).collect()
}

fn floats<'a>(batch: &'a TrainBatch, name: &str) -> &'a [f32] {
    match batch.inputs.iter().find(|(n, _)| n == name) {
        Some((_, InputValue::Float(tensor))) => &tensor.data,
        other => panic!("{name}: {other:?}"),
    }
}

/// The rows of a batch are the same whoever makes them: of pictures, of those beside them, of labels and of noise, around broken ones.
#[test]
fn ranks_make_the_rows_of_one_batch() {
    let mut source = levels(22);
    source.broken = vec![3, 9];
    let source = Arc::new(source);
    let of_rows = |kind| InputDecl { name: format!("rows of {kind:?}"), kind, ty: Type::float([4, 3]) };
    let of_all = InputDecl { name: "of all".to_owned(), kind: InputKind::Normal, ty: Type::float([5, 4]) };
    let more = [of_rows(InputKind::Random), of_rows(InputKind::Normal), of_all];
    let inputs: Vec<InputDecl> = inputs(4, 6).into_iter().chain(more).collect();
    let made = |share: Share| {
        all(Loader::start(source.clone(), &views(6), &inputs, share, options(2), 0..9).expect("it starts"))
    };
    let whole = made(4.into());
    for ranks in [2, 4] {
        let own = 4 / ranks;
        for rank in 0..ranks {
            let rows = rank * own..(rank + 1) * own;
            let batches = made(Share { batch: 4, rows: rows.clone() });
            assert_eq!(batches.len(), whole.len());
            for (batch, whole) in batches.iter().zip(&whole) {
                assert_eq!(batch.indices, whole.indices[rows.clone()]);
                for ((name, value), (_, whole)) in batch.inputs.iter().zip(&whole.inputs) {
                    let wanted = match name.as_str() {
                        "drop" | "of all" => whole.clone(),
                        _ => cut(whole, &rows),
                    };
                    assert_eq!(*value, wanted, "{name} of rank {rank} of {ranks}");
                }
            }
        }
    }
}

/// Mean, deviation and fourth moment within five of their own deviations; no two steps and no two names alike.
#[test]
fn normal_numbers_are_normal() {
    let normal = |name: &str| InputDecl { name: name.to_owned(), kind: InputKind::Normal, ty: Type::float([40, 100]) };
    let inputs: Vec<InputDecl> = inputs(4, 6).into_iter().chain([normal("first"), normal("second")]).collect();
    let source: Arc<Levels> = Arc::new(levels(22));
    let batches = all(Loader::start(source, &views(6), &inputs, 4, options(1), 0..2).expect("it starts"));
    let drawn: Vec<&[f32]> =
        batches.iter().flat_map(|batch| ["first", "second"].map(|name| floats(batch, name))).collect();
    for (at, numbers) in drawn.iter().enumerate() {
        assert!(drawn[..at].iter().all(|other| other != numbers), "two draws are alike");
        let moment = |power| numbers.iter().map(|x| libm::pow(f64::from(*x), f64::from(power))).sum::<f64>() / 4000.0;
        // Of n numbers the moments 1, 2 and 4 deviate by √(1/n), √(2/n) and √(96/n).
        for (power, expected, variance) in [(1, 0.0, 1.0_f64), (2, 1.0, 2.0), (4, 3.0, 96.0)] {
            let (found, allowed) = (moment(power), 5.0 * (variance / 4000.0).sqrt());
            assert!((found - expected).abs() < allowed, "moment {power} is {found}");
        }
    }
}

fn cut(value: &InputValue, rows: &std::ops::Range<usize>) -> InputValue {
    fn of<T: Clone>(tensor: &HostTensor<T>, rows: &std::ops::Range<usize>) -> HostTensor<T> {
        let row = tensor.data.len() / tensor.shape[0];
        let shape = [&[rows.len()], &tensor.shape[1..]].concat();
        HostTensor { shape, data: tensor.data[rows.start * row..rows.end * row].to_vec() }
    }
    match value {
        InputValue::Float(tensor) => InputValue::Float(of(tensor, rows)),
        InputValue::Int(tensor) => InputValue::Int(of(tensor, rows)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn batches_hang_on_the_seed_alone() {
    let mut source = levels(22);
    source.delay = Duration::from_millis(1);
    let one = all(start(source, options(1), 0..17));
    let eight = all(start(levels(22), options(8), 0..17));
    assert_eq!(one.len(), 17);
    assert!(one == eight, "8 threads give other batches than 1");
    // A run taken up in the middle of an epoch sees what it would have seen.
    assert!(all(start(levels(22), options(3), 8..17)) == one[8..]);
    let other = all(start(levels(22), LoaderOptions { seed: 8, ..options(2) }, 0..17));
    assert!(other != one);
    // 22 pictures are 5 batches of 4: each epoch shows 20 of them once, in another order.
    let epoch = |n: usize| one[n * 5..(n + 1) * 5].iter().flat_map(|b| b.indices.clone()).collect::<Vec<_>>();
    let (first, second) = (epoch(0), epoch(1));
    let mut sorted = first.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 20);
    assert_ne!(first, second);
    // A picture that both epochs show is drawn anew.
    let drawn = |epoch: usize| -> BTreeMap<usize, Vec<f32>> {
        let batches = one[epoch * 5..(epoch + 1) * 5].iter();
        let rows =
            |b: &TrainBatch| -> Vec<Vec<f32>> { floats(b, "a.noise").chunks(500).map(<[f32]>::to_vec).collect() };
        batches.flat_map(|b| b.indices.iter().copied().zip(rows(b)).collect::<Vec<_>>()).collect()
    };
    let (first, second) = (drawn(0), drawn(1));
    let both: Vec<&usize> = first.keys().filter(|index| second.contains_key(index)).collect();
    assert!(both.len() >= 18 && both.iter().all(|index| first[index] != second[index]), "{both:?}");
    // What is drawn for a batch as a whole is drawn for each.
    let draws: BTreeSet<Vec<u32>> =
        one.iter().map(|b| floats(b, "drop").iter().map(|v| v.to_bits()).collect()).collect();
    assert_eq!(draws.len(), 17);
}

/// Offsets are uniform over 0..=2, both ends included; a picture's level tells where its window lies.
#[test]
fn every_shift_is_drawn() {
    let mut places: BTreeMap<i64, usize> = BTreeMap::new();
    for batch in all(start(levels(40), options(2), 0..90)) {
        for sample in 0..4 {
            let first = |name: &str| &floats(&batch, name)[sample * 36..(sample + 1) * 36];
            let (online, target) = (first("views.online"), first("views.target"));
            if online[1] > online[0] {
                *places.entry((f64::from(target[0] - online[0]) * 255.0).round() as i64).or_default() += 1;
            }
        }
    }
    assert_eq!(places.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 8, 9, 10, 16, 17, 18]);
    // 180 of 360 are not flipped, 20 for each place, with a deviation of 4.2.
    assert!(places.values().all(|count| (7..=33).contains(count)), "{places:?}");
}

#[test]
fn views_of_one_master_see_the_same_picture_and_noise_hangs_on_its_name() {
    let batches = all(start(levels(40), options(2), 0..10));
    let (mut shifted, mut flipped) = (0, 0);
    for batch in &batches {
        for (sample, index) in batch.indices.iter().enumerate() {
            let part = |name: &str| &floats(batch, name)[sample * 36..(sample + 1) * 36];
            let (online, target) = (part("views.online"), part("views.target"));
            // A flipped master falls along its rows; both views fall or both rise.
            let falls = |v: &[f32]| v[1] < v[0];
            assert_eq!(falls(online), falls(target), "picture {index}");
            flipped += usize::from(falls(online));
            shifted += usize::from(online != target);
        }
        let (a, b) = (floats(batch, "a.noise"), floats(batch, "b.noise"));
        assert_ne!(a, b);
        assert!(a.iter().chain(b).all(|v| (0.0..1.0).contains(v)));
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        // 2000 values: the mean's standard deviation is 0.0065.
        assert!((mean - 0.5).abs() < 0.04, "{mean}");
        let Some((_, InputValue::Int(labels))) = batch.inputs.last() else { panic!("labels are ints") };
        let expected: Vec<i64> = batch.indices.iter().map(|i| (i % 2) as i64).collect();
        assert_eq!(labels.data, expected);
    }
    assert!((10..30).contains(&flipped), "half of 40: {flipped}");
    assert!(shifted > 25, "8 of 9 shifts move the window: {shifted}");
}

/// With 2 batches in the channel, one that waits for a place in it and one behind that, 4 of 4 pictures are made unasked, and no more.
#[test]
fn batches_are_ready_before_they_are_asked_for() {
    let source = Arc::new(levels(400));
    let mut loader = start(source.clone(), options(2), 0..40);
    let asked = || source.asked.load(Ordering::SeqCst);
    for round in 0..10 {
        // The fourth is begun once the second is in the channel.
        let made = 16 + 8 * round;
        until("the fourth batch", || asked() >= made);
        assert_eq!(asked(), made, "memory has a bound");
        for _ in 0..2 {
            loader.next_batch().expect("there are 40").expect("none is broken");
        }
        let counters = loader.counters();
        assert_eq!((counters.ready, counters.batches), (2 * round as u64 + 2, 2 * round as u64 + 2));
        assert_eq!(counters.waited, Duration::ZERO);
    }
}

#[test]
fn nothing_deadlocks_with_a_narrow_channel_or_when_dropped() {
    let narrow = LoaderOptions { prefetch: 1, ..options(2) };
    let mut loader = start(levels(64), narrow, 0..30);
    let mut count = 0;
    while let Some(batch) = loader.next_batch() {
        batch.expect("none is broken");
        count += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(count, 30);
    // Dropped unread, and in the middle of slow pictures.
    drop(start(levels(64), narrow, 0..1_000_000));
    let slow = Arc::new(Levels { delay: Duration::from_millis(20), ..levels(64) });
    let mut loader = start(slow.clone(), narrow, 0..1_000_000);
    loader.next_batch().expect("there are many").expect("none is broken");
    drop(loader);
    let asked = slow.asked.load(Ordering::SeqCst);
    until("the end of all tasks", || Arc::strong_count(&slow) == 1);
    // Each of both threads may have been about to ask.
    assert!(slow.asked.load(Ordering::SeqCst) <= asked + 2, "tasks that wait must end at once");
}

/// Row i is the sample before row i, its picture as the view drew it and its class; the first row is the last sample.
#[test]
fn what_lies_beside_is_the_sample_before() {
    for batch in all(start(levels(22), options(3), 0..7)) {
        let (own, beside) = (floats(&batch, "views.target"), floats(&batch, "beside.target"));
        let row = own.len() / 4;
        assert!(beside[row..] == own[..3 * row] && beside[..row] == own[3 * row..]);
        let ids = |name: &str| match batch.inputs.iter().find(|(n, _)| n == name) {
            Some((_, InputValue::Int(ids))) => ids.data.clone(),
            other => panic!("{name}: {other:?}"),
        };
        let (own, beside) = (ids("label"), ids("beside.label"));
        assert_eq!((beside[0], &beside[1..]), (own[3], &own[..3]));
    }
}

/// A thread of the loader that fails does not look like the end of a run.
#[test]
fn a_thread_that_ends_early_is_told() {
    let mut source = levels(20);
    source.fails = Some(7);
    let mut loader = start(source, options(2), 0..10);
    let found: Vec<_> = std::iter::from_fn(|| loader.next_batch()).take(10).collect();
    let Some(Err(error)) = found.iter().find(|batch| batch.is_err()) else { panic!("one of ten batches shows it") };
    let made = found.iter().take_while(|batch| batch.is_ok()).count();
    assert_eq!(error.to_string(), format!("a thread of the loader ended after {made} of 10 batches"));
}

#[test]
fn broken_pictures_are_replaced_named_and_counted_once() {
    let broken = || {
        let mut source = levels(20);
        source.broken = vec![3];
        source.panics = Some(11);
        source
    };
    let mut loader = start(broken(), options(2), 0..30);
    let mut shown = Vec::new();
    while let Some(batch) = loader.next_batch() {
        let batch = batch.expect("few are broken");
        let Some((_, InputValue::Int(labels))) = batch.inputs.last() else { panic!("labels are ints") };
        assert!(labels.data.iter().zip(&batch.indices).all(|(label, index)| *label == (index % 2) as i64));
        shown.extend(batch.indices);
    }
    assert_eq!(shown.len(), 120);
    assert!(!shown.contains(&3) && !shown.contains(&11));
    let mut named = loader.take_broken();
    named.sort();
    let expected = [("picture 11", "the decoder failed on it"), ("picture 3", "it ends early")];
    assert_eq!(named, expected.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    assert_eq!(loader.counters().broken, 2);
    assert!(all(start(broken(), options(1), 0..10)) == all(start(broken(), options(4), 0..10)));

    // A few stop nothing, though they are more than the share; more do, and where none may be broken one does.
    let refused = |broken: &[usize], max_broken: f64| {
        let mut source = levels(20);
        source.broken = broken.to_vec();
        let mut loader = start(source, LoaderOptions { max_broken, ..options(2) }, 0..10);
        std::iter::from_fn(|| loader.next_batch()).find_map(Result::err)
    };
    assert!(refused(&[3, 5, 11], 0.06).is_none());
    for (broken, max_broken) in [(&[3, 5, 7, 11][..], 0.06), (&[3], 0.0)] {
        let error = refused(broken, max_broken).expect("more are broken than may be");
        assert!(matches!(error, DataError::TooManyBroken { tried: 20, .. }), "{error}");
    }
}

#[test]
fn a_picture_too_small_for_a_window_is_broken() {
    // The window of 9 does not fit into 8 × 8.
    let mut loader =
        Loader::start(Arc::new(levels(8)), &views(9), &inputs(4, 9), 4, options(2), 0..2).expect("it starts");
    let error = loader.next_batch().expect("a batch is tried").expect_err("none fits");
    assert!(error.to_string().contains("8 x 8 pixels are too few"), "{error}");
    let few = Loader::start(Arc::new(levels(3)), &views(6), &inputs(4, 6), 4, options(2), 0..2).err();
    assert!(matches!(few, Some(DataError::BatchTooLarge { batch: 4, len: 3, .. })));
}

#[test]
fn evaluation_shows_every_picture_once_and_pads_the_last_batch() {
    let mut source = levels(10);
    source.broken = vec![2];
    let recipe = InputDecl {
        name: "views.eval".to_owned(),
        kind: InputKind::View { view: "eval".to_owned() },
        ty: Type::float([4, 1, 6, 6]),
    };
    let mut batches = EvalBatches::new(Arc::new(source), &views(6), &[recipe], 0).expect("recipes need no source");
    let all: Vec<_> = batches.by_ref().map(|batch| batch.expect("memory")).collect();
    let valid: Vec<usize> = all.iter().map(|batch| batch.rows.len()).collect();
    assert_eq!(valid, [3, 4, 2]);
    let labels: Vec<i64> = all.iter().flat_map(|batch| batch.labels.clone()).collect();
    assert_eq!(labels, [0, 1, 1, 0, 1, 0, 1, 0, 1], "picture 2 is left out");
    let rows: Vec<usize> = all.iter().flat_map(|batch| batch.rows.clone()).collect();
    assert_eq!((rows, batches.shown()), (vec![0, 1, 3, 4, 5, 6, 7, 8, 9], 9));
    let broken: Vec<(usize, &str)> = batches.broken().iter().map(|b| (b.image, b.reason.as_str())).collect();
    assert_eq!(broken, [(2, "it ends early")]);
    let InputValue::Float(tensor) = &all[2].inputs[0].1 else { panic!("pictures are floats") };
    assert_eq!(tensor.shape, [4, 1, 6, 6]);
    assert_eq!(tensor.data[..72], tensor.data[72..], "padding repeats what is there");
}

/// An EXIF block that holds nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

/// As sources without settings read.
pub fn reading(channels: usize) -> Reading {
    Reading { channels, max_pixels: MAX_PIXELS, range: None }
}

#[test]
fn a_picture_lies_as_its_camera_held_it_and_16_bits_become_8() {
    // White on the left half.
    let pixels: Vec<u8> = (0..16 * 8).map(|i| if i % 16 < 8 { 255 } else { 0 }).collect();
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 100);
    encoder.add_app_segment(1, exif(6)).expect("it is short");
    encoder.encode(&pixels, 16, 8, jpeg_encoder::ColorType::Luma).expect("memory takes it");
    // 6: to be turned to the right, so that left becomes up.
    let turned = decode(&bytes, reading(1)).expect("it is a picture").image;
    assert_eq!((turned.height, turned.width), (16, 8));
    assert!(turned.data[..8].iter().all(|v| *v > 240) && turned.data[15 * 8..].iter().all(|v| *v < 15));

    let deep =
        image::ImageBuffer::<image::Luma<u16>, _>::from_fn(2, 1, |x, _| image::Luma([[0x80ff, 0x0100][x as usize]]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::from(deep).write_to(&mut bytes, image::ImageFormat::Png).expect("memory takes it");
    let flat = decode(bytes.get_ref(), reading(3)).expect("it is a picture").image;
    // 0x80ff / 257 = 128.49 and 0x0100 / 257 = 0.996, rounded; gray three times.
    assert_eq!(flat.data, [128, 128, 128, 1, 1, 1]);
}
