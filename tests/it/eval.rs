//! Evaluation: kNN against scikit-learn's digits, collapse figures by hand, pictures pixel by pixel, files read back.

use std::path::Path;

use cmae::backend::host::HostSession;
use cmae::backend::{Backend, BackendError, Compute, Request, Results, Session};
use cmae::data::DataError;
use cmae::data::evaluation::{EvalBatch, EvalBatches, some_of};
use cmae::data::rng::Key;
use cmae::data::source::{self, Identity};
use cmae::data::view::Draw;
use cmae::eval::collapse::collapse;
use cmae::eval::feature_file::FeatureFile;
use cmae::eval::features::{Features, FeaturesError, Made, extract};
use cmae::eval::knn::{KnnError, KnnResult, Search, accuracy};
use cmae::eval::pictures::{Pictures, PicturesError, grid, scale, write_png};
use cmae::eval::pixels::raw_pixels;
use cmae::export::module::write as export_module;
use cmae::export::{ExportError, Format};
use cmae::graph::{Graph, Init, Layout, Program, TensorDecl, TensorKind};
use cmae::run::tensor_file::{FileTensor, to_bytes};
use cmae::spec::{EmaMoment, EmaSpec, MAX_PIXELS, Role, Schedule, SourceSpec};
use cmae::tensor::{HostTensor, InputValue, Inputs, OutputValue};
use cmae::verify::file::Fixture;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::probes::{Digits, floats, ints};

fn features(rows: &[&[f32]]) -> Features {
    Features { rows: rows.len(), dim: rows[0].len(), data: rows.concat() }
}

/// All of a bank at once. `shown`: which picture each of its rows and each query shows.
pub fn knn(
    bank: &Features,
    labels: &[i64],
    queries: &Features,
    k: usize,
    temperature: f64,
    shown: Option<(&[Identity], &[Identity])>,
) -> Result<KnnResult, KnnError> {
    let mut search = Search::new(queries, &[k], shown.map(|(_, queries)| queries.to_vec()))?;
    search.add(bank, labels, shown.map_or(&[], |(bank, _)| bank))?;
    Ok(search.vote(temperature)?.remove(0))
}

/// What `feed` gives to a sink, as one.
fn all<X>(feed: impl FnOnce(&mut dyn FnMut(Made) -> Result<(), X>) -> Result<(), X>) -> Result<Made, X> {
    let mut all = Made::default();
    feed(&mut |made| {
        all.append(&made);
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn knn_agrees_with_the_fixture() {
    let digits = Digits::read();
    let (file, bank, queries) = (&digits.file, &digits.known, &digits.asked);
    let (of_bank, of_queries) = digits.labels();
    for k in [1, 5, 20] {
        let found = knn(bank, of_bank, queries, k, 0.07, None).expect("the fixture is sound");
        assert_eq!(found.predictions, ints(file, &format!("expect.knn{k}_predictions")), "k = {k}");
        let expected = floats(file, &format!("expect.knn{k}_scores"));
        let classes = expected.len() / queries.rows;
        for (votes, expected) in found.votes.iter().zip(expected.chunks(classes)) {
            for (class, reference) in expected.iter().enumerate() {
                let share = votes.iter().find(|(voted, _)| *voted == class as i64).map_or(0.0, |(_, share)| *share);
                assert!((share - reference).abs() <= 1e-4, "k = {k}: {share}, expected {reference}");
            }
        }
        let expected = file.config.lookup(&format!("accuracy.knn{k}")).expect("in its config");
        assert_eq!(accuracy(&found.predictions, of_queries), expected.as_f64().expect("a share"));
    }
}

#[test]
fn knn_gives_ties_to_the_lower_index() {
    // Rows 0 and 1 are the same direction: with k = 1 row 0 votes. With k = 2 classes 3 and 1 tie: class 1.
    let bank = features(&[&[2.0, 0.0], &[1.0, 0.0], &[0.0, 1.0]]);
    let query = features(&[&[5.0, 0.0]]);
    let labels = [3, 1, 0];
    assert_eq!(knn(&bank, &labels, &query, 1, 0.07, None).expect("sound").predictions, [3]);
    let both = knn(&bank, &labels, &query, 2, 0.07, None).expect("sound");
    assert_eq!((both.predictions, both.votes), (vec![1], vec![vec![(1, 0.5), (3, 0.5)]]));
}

/// `rows` of `dim` numbers around a centre of their own among `centres`, as trained features lie.
pub fn clustered(rows: usize, dim: usize, centres: usize, name: &str) -> Features {
    let stream = |name: &str, sample: usize| Key { seed: 5, epoch: 0, sample: sample as u64 }.stream(name);
    let row = |row: usize| {
        let (mut centre, mut around) = (stream("centre", row % centres), stream(name, row));
        (0..dim).map(move |_| (centre.uniform() - 0.5 + 2.0 * (around.uniform() - 0.5)) as f32)
    };
    Features { rows, dim, data: (0..rows).flat_map(row).collect() }
}

/// The definition: all cosines of a query in f64, sorted; ties to the lower index.
pub fn by_force(bank: &Features, labels: &[i64], queries: &Features, k: usize, temperature: f64) -> Vec<i64> {
    let (bank, queries) = (bank.l2_normalized(), queries.l2_normalized());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let predict = |query: usize| {
        let cosines = (0..bank.rows).map(|row| dot(bank.row(row), queries.row(query)));
        let mut near: Vec<(f64, usize)> = cosines.zip(0..).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut votes = vec![0.0; labels.iter().max().map_or(0, |label| *label as usize + 1)];
        for (cosine, row) in &near[..k] {
            votes[labels[*row] as usize] += libm::exp((cosine - near[0].0) / temperature);
        }
        (0..votes.len()).rev().max_by(|a, b| votes[*a].total_cmp(&votes[*b])).map_or(-1, |class| class as i64)
    };
    (0..queries.rows).map(predict).collect()
}

#[test]
fn knn_is_what_the_definition_says_however_the_bank_is_cut_and_threads_share_it() {
    // More than two blocks of the bank and than one of queries, the last of each not full, and 40 classes of which few are right.
    let (mut bank, queries) = (clustered(2_500, 24, 40, "bank"), clustered(300, 24, 40, "queries"));
    // Equal rows in other blocks, at other places of a block: the first of them votes.
    for (from, to) in [(3, 1_027), (3, 2_499), (700, 1_700), (1_023, 1_024)] {
        bank.data.copy_within(from * 24..(from + 1) * 24, to * 24);
    }
    let labels: Vec<i64> = (0..2_500).map(|row| (row * 7) % 40).collect();
    for k in [1, 20] {
        let expected = by_force(&bank, &labels, &queries, k, 0.07);
        let found = knn(&bank, &labels, &queries, k, 0.07, None).expect("sound");
        assert_eq!(found.predictions, expected, "k = {k}");
        for (threads, part) in [(1, 1), (3, 7), (2, 1_024), (2, 1_500)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let cut = pool.install(|| {
                let mut search = Search::new(&queries, &[k], None)?;
                for first in (0..bank.rows).step_by(part) {
                    let rows = part.min(bank.rows - first);
                    let data = bank.data[first * 24..(first + rows) * 24].to_vec();
                    search.add(&Features { rows, dim: 24, data }, &labels[first..first + rows], &[])?;
                }
                search.vote(0.07).map(|mut found| found.remove(0))
            });
            assert_eq!(cut.as_ref(), Ok(&found), "{threads} threads, {part} rows at a time");
        }
    }
    // A query that lies in the bank, at both places of its row: neither votes, and the one behind does.
    let own = Features { rows: 1, dim: 24, data: bank.row(3).to_vec() };
    let name = |row: usize| Identity::of_text(&if row == 3 || row == 1_027 { "own".into() } else { row.to_string() });
    let shown: Vec<Identity> = (0..bank.rows).map(name).collect();
    let found = knn(&bank, &labels, &own, 1, 0.07, Some((&shown, &[Identity::of_text("own")]))).expect("sound");
    assert_eq!(found.predictions, [labels[2_499]]);
}

/// ImageNet's size is 64 times as large a bank. `cargo test --release … -- --ignored --nocapture` prints times.
#[test]
#[ignore = "minutes, and a release build"]
fn knn_of_twenty_thousand_queries_is_what_the_definition_says() {
    let (dim, k) = (768, 20);
    let (bank, queries) = (clustered(50_000, dim, 1_000, "bank"), clustered(20_000, dim, 1_000, "queries"));
    let labels: Vec<i64> = (0..bank.rows as i64).map(|row| row % 1_000).collect();
    for (rows, of) in [(12_500, 20_000), (25_000, 20_000), (50_000, 20_000)] {
        let part = |all: &Features, rows: usize| Features { rows, dim, data: all.data[..rows * dim].to_vec() };
        let (bank, queries) = (part(&bank, rows), part(&queries, of));
        let start = std::time::Instant::now();
        let found = knn(&bank, &labels[..rows], &queries, k, 0.07, None).expect("sound");
        let took = start.elapsed().as_secs_f64();
        let rate = 2.0 * (rows * of * dim) as f64 / took / 1e9;
        println!("{rows} x {of} x {dim}: {took:.1} s, {rate:.0} GFLOP/s");
        if rows == 50_000 {
            let first = part(&queries, 2_000);
            let expected = by_force(&bank, &labels, &first, k, 0.07);
            assert_eq!(found.predictions[..2_000], expected);
            println!("accuracy {:.4}", accuracy(&found.predictions, &labels[..of]));
        }
    }
}

#[test]
fn knn_keeps_its_scores_at_tiny_temperatures() {
    let bank = features(&[&[1.0, 0.0], &[0.0, 1.0]]);
    let found = knn(&bank, &[0, 1], &features(&[&[1.0, 0.1]]), 2, 1e-4, None).expect("sound");
    assert_eq!(found.votes, [[(0, 1.0), (1, 0.0)]]);
}

#[test]
fn knn_refuses_what_makes_no_sense() {
    let bank = features(&[&[1.0, 0.0], &[0.0, 1.0]]);
    let run =
        |labels: &[i64], queries: &Features, k, t| knn(&bank, labels, queries, k, t, None).expect_err("it is wrong");
    assert_eq!(run(&[0], &bank, 1, 0.07), KnnError::Labels { rows: 2, labels: 1 });
    assert_eq!(run(&[0, 1], &features(&[&[1.0]]), 1, 0.07), KnnError::Dimensions { bank: 2, queries: 1 });
    assert_eq!(run(&[0, 1], &bank, 3, 0.07), KnnError::Neighbours { k: 3, rows: 2, own: false });
    assert_eq!(run(&[0, 1], &bank, 0, 0.07), KnnError::Neighbours { k: 0, rows: 2, own: false });
    assert_eq!(run(&[0, 1], &bank, 1, 0.0), KnnError::Temperature(0.0));
    assert_eq!(run(&[0, -1], &bank, 1, 0.07), KnnError::NegativeLabel(-1));
    let nan = features(&[&[1.0, 0.0], &[f32::NAN, 0.0]]);
    assert_eq!(run(&[0, 1], &nan, 1, 0.07), KnnError::NotFinite { which: "query", row: 1 });
    assert!(matches!(run(&[0, 1], &bank, 1, f64::NAN), KnnError::Temperature(_)));
    assert_eq!(accuracy(&[], &[]), 0.0);
}

#[test]
fn collapse_figures_of_hand_cases() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a}, expected {b}");

    let same = collapse(&features(&[&[3.0, 4.0], &[6.0, 8.0], &[0.3, 0.4]])).expect("finite");
    near(same.std, 0.0);
    near(same.effective_rank, 1.0);
    near(same.mean_cosine, 1.0);
    near(same.uniform_std, 0.5_f64.sqrt());

    // ± the axes: mean 0, so that each dimension's variance is 1/D; of 6 pairs 2 have cosine -1, 4 have 0.
    let spread = collapse(&features(&[&[1.0, 0.0], &[-1.0, 0.0], &[0.0, 1.0], &[0.0, -1.0]])).expect("finite");
    near(spread.std, spread.uniform_std);
    near(spread.effective_rank, 2.0);
    near(spread.mean_cosine, -1.0 / 3.0);

    // Singular values 3 and 1: entropy of (3/4, 1/4); fewer rows than dimensions takes the other Gram matrix.
    let entropy: f64 = -(0.75 * libm::log(0.75) + 0.25 * libm::log(0.25));
    let tall = features(&[&[3.0, 0.0], &[0.0, 1.0], &[0.0, 0.0]]);
    let wide = features(&[&[3.0, 0.0, 0.0], &[0.0, 1.0, 0.0]]);
    near(collapse(&tall).expect("finite").effective_rank, libm::exp(entropy));
    near(collapse(&wide).expect("finite").effective_rank, libm::exp(entropy));

    // More rows than are summed up at once, of two directions, the second three times as often: singular values 1 to √3.
    let rows: Vec<&[f32]> = (0..2_600).map(|row| [&[1.0, 0.0][..], &[0.0, 1.0]][usize::from(row % 4 > 0)]).collect();
    let first = 1.0 / (1.0 + 3.0_f64.sqrt());
    let entropy = -(first * libm::log(first) + (1.0 - first) * libm::log(1.0 - first));
    near(collapse(&features(&rows)).expect("finite").effective_rank, libm::exp(entropy));

    let zero = collapse(&features(&[&[0.0, 0.0], &[0.0, 0.0]])).expect("finite");
    assert_eq!((zero.std, zero.effective_rank, zero.mean_cosine), (0.0, 0.0, 0.0));
    assert_eq!(collapse(&features(&[&[f32::NAN, 0.0]])), None);
    assert_eq!(collapse(&Features::default()), None);
    assert_eq!(collapse(&features(&[&[1.0, 0.0]])).expect("finite").mean_cosine, 0.0);
}

#[test]
fn pictures_undo_the_normalisation() {
    // Two samples of 3 x 2 px, not square; each picture one colour, but for a corner of the first.
    let shape = [2, 3, 3, 2];
    let (mean, std) = ([0.5, 0.25, 0.0], [0.5, 0.25, 1.0]);
    let fill = |red: f32, green: f32, blue: f32| -> Vec<f32> {
        (0..2).flat_map(|_| [red, green, blue].into_iter().flat_map(|x| [x; 6])).collect()
    };
    let mut original = fill(1.0, -1.0, 0.0);
    original[0] = -1.0;
    let (masked, reconstructed) = (fill(0.0, 3.0, 0.2), fill(9.0, -9.0, f32::NAN));
    let pictures = |data| Pictures { shape, data };
    let image = grid(pictures(&original), pictures(&masked), pictures(&reconstructed), &mean, &std).expect("sound");

    let scale = scale(3, 2) as u32;
    assert_eq!(scale, 64);
    assert_eq!(image.dimensions(), (3 * (2 * scale + 2) + 2, 2 * (3 * scale + 2) + 2));
    assert_eq!(image.get_pixel(0, 0).0, [255; 3], "a line");
    assert_eq!(image.get_pixel(2, 2).0, [0, 0, 0], "the corner of the first picture");
    assert_eq!(image.get_pixel(2 + scale - 1, 2 + scale - 1).0, [0, 0, 0], "still the same pixel");
    assert_eq!(image.get_pixel(2 + scale, 2).0, [255, 0, 0]);
    assert_eq!(image.get_pixel(2, 2 + scale).0, [255, 0, 0]);
    let second = 2 + 2 * scale + 2;
    assert_eq!(image.get_pixel(second - 1, 2).0, [255; 3], "the line between two pictures");
    assert_eq!(image.get_pixel(second, 2).0, [128, 255, 51]);
    assert_eq!(image.get_pixel(second + 2 * scale + 2, 2).0, [255, 0, 0], "clamped, and NaN drawn black");
    assert_eq!(image.get_pixel(2, 2 + 3 * scale + 2).0, [255, 0, 0], "the second sample has no dark corner");
}

#[test]
fn pictures_of_one_channel_are_gray_and_large_ones_keep_their_size() {
    let shape = [1, 1, 130, 200];
    let data = vec![0.0; 130 * 200];
    let pictures = Pictures { shape, data: &data };
    let image = grid(pictures, pictures, pictures, &[0.2], &[1.0]).expect("sound");
    assert_eq!(image.dimensions(), (3 * 202 + 2, 134));
    assert_eq!(image.get_pixel(100, 100).0, [51; 3]);
    assert_eq!((scale(32, 32), scale(224, 224), scale(28, 28)), (4, 1, 5));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grid.png");
    write_png(&path, &image).expect("the folder is there");
    assert_eq!(image::open(&path).expect("a PNG").to_rgb8(), image);
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left beside it");
}

#[test]
fn pictures_refuse_what_cannot_be_drawn() {
    let data = vec![0.0; 16];
    let of = |shape| Pictures { shape, data: &data };
    let (many, one) = (of([1, 4, 2, 2]), of([1, 1, 4, 4]));
    // Of many channels the first three are drawn.
    let first = of([1, 3, 2, 2]);
    let first = Pictures { data: &first.data[..12], ..first };
    assert_eq!(grid(many, many, many, &[0.5; 4], &[1.0; 4]), grid(first, first, first, &[0.5; 3], &[1.0; 3]));
    let wrong = grid(one, of([1, 1, 2, 8]), one, &[0.0], &[1.0]);
    assert!(matches!(wrong, Err(PicturesError::Shape { name: "masked", .. })));
    assert!(matches!(grid(one, one, one, &[0.0; 3], &[1.0]), Err(PicturesError::Statistics { mean: 3, .. })));
    let short = of([2, 1, 4, 4]);
    assert!(matches!(grid(short, short, short, &[0.0], &[1.0]), Err(PicturesError::Length { found: 16, .. })));
}

/// Gives twice the sum of each picture, and the arena's first value.
struct Doubler;

impl Backend<f64> for Doubler {
    fn name(&self) -> &'static str {
        "doubler"
    }

    fn open<'p>(
        self: Box<Self>,
        program: &'p Program,
        tensors: Vec<f64>,
    ) -> Result<Box<dyn Session<f64> + 'p>, BackendError> {
        Ok(Box::new(HostSession::new(self, program, tensors)))
    }

    fn run_into(
        &mut self,
        _: &Graph,
        _: &Layout,
        arena: &[f64],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<f64>,
    ) -> Result<(), BackendError> {
        assert_eq!((request.gradients, request.outputs.as_slice()), (false, ["features".to_owned()].as_slice()));
        let InputValue::Float(pictures) = &inputs.batch[0].1 else { panic!("pictures are float") };
        let rows = pictures.shape[0];
        let each = pictures.data.len() / rows;
        let data =
            pictures.data.chunks(each).flat_map(|p| [2.0 * f64::from(p.iter().sum::<f32>()), arena[0]]).collect();
        let outputs = vec![OutputValue::Float(HostTensor { shape: vec![rows, 2], data })];
        *results = Results { outputs, ..Results::default() };
        Ok(())
    }
}

/// Batches of two 1 x 1 x 2 pictures: (1, 1), (2, 2) and (3, 3), padding.
fn batches() -> Vec<Result<EvalBatch, DataError>> {
    let batch = |values: [f32; 4], labels: &[i64], rows: &[usize]| {
        let tensor = HostTensor { shape: vec![2, 1, 1, 2], data: values.to_vec() };
        let inputs = vec![("views.eval".to_owned(), InputValue::Float(tensor))];
        Ok(EvalBatch { inputs, labels: labels.to_vec(), rows: rows.to_vec() })
    };
    vec![batch([1.0, 1.0, 2.0, 2.0], &[7, 8], &[0, 2]), batch([3.0, 3.0, 9.0, 9.0], &[9], &[3])]
}

#[test]
fn features_leave_out_the_padding() {
    let program = crate::verify::toy::program();
    let mut session = Box::new(Doubler).open(&program, vec![0.5; program.layout.total_len]).expect("it takes any");
    let found = all::<FeaturesError>(|sink| extract(&mut *session, &Graph::default(), batches().into_iter(), sink));
    let found = found.expect("sound");
    assert_eq!(found.features, features(&[&[4.0, 0.5], &[8.0, 0.5], &[12.0, 0.5]]));
    assert_eq!((found.labels, found.rows), (vec![7, 8, 9], vec![0, 2, 3]));

    let pixels = |input: &str, batches: Vec<_>| all(|sink| raw_pixels(input, batches.into_iter(), sink));
    let found: Made = pixels("views.eval", batches()).expect("sound");
    assert_eq!(found.features, features(&[&[1.0, 1.0], &[2.0, 2.0], &[3.0, 3.0]]));
    assert_eq!(found.labels, [7, 8, 9]);

    let mut failing = batches();
    failing.push(Err(DataError::FolderGone { path: "a".into() }));
    let gone = pixels("views.eval", failing);
    assert!(matches!(gone, Err(FeaturesError::Data(DataError::FolderGone { .. }))));
    assert!(matches!(pixels("views.x", batches()), Err(FeaturesError::NoInput { .. })));
    let mut short = batches();
    short[0].as_mut().expect("sound").labels.pop();
    assert!(matches!(pixels("views.eval", short), Err(FeaturesError::Labels { labels: 1, .. })));
}

#[test]
fn features_are_written_as_they_are_made_with_labels_and_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.safetensors");
    let digits = SourceSpec::Digits { split: "val".to_owned() };
    let source = source::open(&digits, 1, MAX_PIXELS).expect("digits are embedded");
    let all: Vec<usize> = (0..source.len()).collect();
    // All of them, and without those that are broken: one, and so many that the header is another, odd numbers of values too.
    for rows in [all.clone(), all[1..].to_vec(), all.iter().copied().filter(|row| row % 3 > 0).collect(), vec![5]] {
        let labels: Vec<i64> = rows.iter().map(|row| source.label(*row).expect("digits have one")).collect();
        let values = |row: usize| [row as f32, 0.5, -1.0 / (row as f32 + 1.0)];
        let mut file = FeatureFile::create(&path, &*source, 3).expect("the folder is there");
        for (rows, labels) in rows.chunks(50).zip(labels.chunks(50)) {
            let data = rows.iter().flat_map(|row| values(*row)).collect();
            let features = Features { rows: rows.len(), dim: 3, data };
            file.push(&Made { features, labels: labels.to_vec(), rows: rows.to_vec() }).expect("there is room");
        }
        assert_eq!(file.finish().expect("there is room"), rows.len());

        // As if all were there before the first is written.
        let list = |names: Vec<String>| serde_json::Value::from(names).to_string();
        let metadata = [
            ("kind", "features".to_owned()),
            ("names", list(rows.iter().map(|row| source.name(*row)).collect())),
            ("classes", list(source.classes().to_vec())),
        ];
        let tensors = [
            FileTensor::f32("features", vec![rows.len(), 3], rows.iter().flat_map(|row| values(*row))),
            FileTensor::i64("labels", vec![rows.len()], labels.iter().copied()),
        ];
        let expected = to_bytes(&path, &tensors, &metadata).expect("they fit");
        assert!(std::fs::read(&path).expect("written") == expected, "{} rows", rows.len());
        assert_eq!(ints(&Fixture::read(&path).expect("a safetensors file"), "labels"), labels);
    }
    // Who leaves before the end leaves nothing, and what was there.
    let before = std::fs::read(&path).expect("written");
    drop(FeatureFile::create(&path, &*source, 3).expect("the folder is there"));
    assert!(std::fs::read(&path).expect("still there") == before);
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left beside it");
}

#[test]
fn features_are_written_for_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = source::open(&SourceSpec::Digits { split: "val".to_owned() }, 1, MAX_PIXELS).expect("it is built in");
    let rows: Vec<usize> = (0..50).collect();
    let values = |row: usize| [row as f32, 0.5, -1.0 / (row as f32 + 1.0)];
    // One without a class among them.
    let label = |row: usize| if row == 7 { -1 } else { source.label(row).expect("digits have one") };
    let write = |name: &str| {
        let path = folder.path().join(name);
        let mut file = FeatureFile::create(&path, &*source, 3).expect("the folder is there");
        for rows in rows.chunks(20) {
            let data = rows.iter().flat_map(|row| values(*row)).collect();
            let features = Features { rows: rows.len(), dim: 3, data };
            let labels = rows.iter().map(|row| label(*row)).collect();
            file.push(&Made { features, labels, rows: rows.to_vec() }).expect("there is room");
        }
        assert_eq!(file.finish().expect("there is room"), 50);
        path
    };
    let read = |path: &Path| std::fs::read(path).expect("it was written");
    let (array, labels) = (read(&write("x.npy")), read(&folder.path().join("x.labels.npy")));
    let header = |bytes: &[u8]| String::from_utf8_lossy(&bytes[10..128]).trim_end().to_owned();
    assert_eq!(header(&array), "{'descr': '<f4', 'fortran_order': False, 'shape': (50, 3), }");
    assert_eq!(header(&labels), "{'descr': '<i8', 'fortran_order': False, 'shape': (50,), }");
    let expected: Vec<u8> = rows.iter().flat_map(|row| values(*row)).flat_map(f32::to_le_bytes).collect();
    assert_eq!(array[128..], expected);
    assert_eq!(labels[128..], rows.iter().flat_map(|row| label(*row).to_le_bytes()).collect::<Vec<u8>>());

    let table = std::fs::File::open(write("x.parquet")).expect("it was written");
    let table = SerializedFileReader::new(table).expect("it is a table");
    let found: Vec<String> =
        table.get_row_iter(None).expect("it has rows").map(|row| row.expect("a row").to_string()).collect();
    assert_eq!(found.len(), 50);
    let path = |row| source.name(row);
    assert_eq!(found[1], format!("{{path: \"{}\", label: {}, features: [1.0, 0.5, -5E-1]}}", path(1), label(1)));
    assert_eq!(found[7], format!("{{path: \"{}\", label: null, features: [7.0, 0.5, -1.25E-1]}}", path(7)));
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 3, "nothing is left beside them");
}

#[test]
fn some_pictures_are_always_the_same_and_evenly_spread() {
    for (len, count) in [(0, 3), (1, 1), (10, 10), (10, 20), (10_000, 1_000), (10_000, 9_999)] {
        let found = some_of(len, count, "a");
        assert_eq!(found.len(), count.min(len));
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]) && found.iter().all(|place| *place < len));
        assert_eq!(found, some_of(len, count, "a"));
    }
    let found = some_of(10_000, 1_000, "a");
    assert_ne!(found, some_of(10_000, 1_000, "b"));
    // 250 of each quarter, by the deviation of a draw without replacement (13) four times over.
    for quarter in 0..4 {
        let inside = found.iter().filter(|place| **place / 2_500 == quarter).count();
        assert!((196..=304).contains(&inside), "{inside} of quarter {quarter}");
    }
}

#[test]
fn a_batch_of_its_own_changes_no_feature() {
    let of = |batch: &str, backend: &str| {
        let sets = ["model.encoder.embed_dim=16", "model.encoder.depth=1", "data.batch_size=32"];
        let mut sets: Vec<String> = sets.map(str::to_owned).to_vec();
        sets.extend((!batch.is_empty()).then(|| format!("evaluate.batch_size={batch}")));
        let program = crate::methods::compile("quickstart", &sets);
        let graph = program.features.as_ref().expect("the quickstart judges features");
        let source = source::open(program.spec.data.source("val").expect("it has one"), 1, MAX_PIXELS);
        let source = source.expect("digits are embedded");
        let batches = EvalBatches::new(source, &program.spec.views, &graph.inputs, 0).expect("a recipe fits digits");
        let size = batches.batch_size();
        let tensors = cmae::train::init::initialise(&program.layout, 1);
        let backend = f32::backend(backend).unwrap_or_else(|error| panic!("{error}"));
        let mut session = backend.open(&program, tensors).expect("it takes any");
        let found =
            all::<FeaturesError>(|sink| extract(&mut *session, graph, batches, sink)).expect("digits are whole");
        (size, found)
    };
    let (size, expected) = of("", "cpu");
    assert_eq!((size, expected.features.rows), (32, 397));
    assert_eq!(of("auto", "cpu"), (32, expected.clone()));
    for backend in ["cpu", "dfdx"].into_iter().chain(crate::xla::backend()) {
        for batch in [7, 300] {
            let (size, found) = of(&batch.to_string(), backend);
            assert_eq!((size, &found.labels, &found.rows), (batch, &expected.labels, &expected.rows), "{backend}");
            let pairs = found.features.data.iter().zip(&expected.features.data);
            let most = pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(most < 1e-4, "{backend}, batches of {batch}: {most}");
        }
    }
}

#[test]
fn a_module_is_exported_under_its_own_names() {
    let decl = |path: &str, shape: &[usize], kind| TensorDecl {
        path: path.to_owned(),
        shape: shape.to_vec(),
        role: Role::Weight,
        kind,
        init: Init::Zeros,
    };
    let layout = Layout::new(vec![
        decl("encoder.pos_embed", &[1, 2], TensorKind::Fixed),
        decl("encoder.norm.weight", &[2], TensorKind::Trained),
        decl("encoder2.norm.weight", &[2], TensorKind::Trained),
        decl("momentum.encoder.norm.weight", &[2], TensorKind::Ema),
    ]);
    let arena: Vec<f64> = (0..layout.total_len).map(|i| i as f64).collect();
    let ema = EmaSpec {
        name: "momentum".to_owned(),
        momentum: Schedule::Constant(0.5),
        when: EmaMoment::AfterStep,
        pairs: vec![("momentum.encoder.norm.weight".to_owned(), "encoder.norm.weight".to_owned())],
        shared: vec![("momentum.encoder.pos_embed".to_owned(), "encoder.pos_embed".to_owned())],
    };
    let program = Program { layout, emas: vec![ema], ..crate::methods::compile("quickstart", &[]) };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("encoder.safetensors");
    assert_eq!(export_module(&program, &arena, "momentum.encoder", Format::Own, &path).expect("sound").tensors, 2);
    let file = Fixture::read(&path).expect("a safetensors file");
    assert_eq!((floats(&file, "norm.weight"), floats(&file, "pos_embed")), (vec![4.0, 5.0], vec![6.0, 7.0]));
    assert_eq!(export_module(&program, &arena, "encoder", Format::Own, &path).expect("sound").tensors, 2);

    let file = Fixture::read(&path).expect("a safetensors file");
    let mut names: Vec<&str> = file.names().collect();
    names.sort_unstable();
    assert_eq!(names, ["norm.weight", "pos_embed"]);
    assert_eq!(floats(&file, "norm.weight"), [0.0, 1.0]);
    assert_eq!(floats(&file, "pos_embed"), [6.0, 7.0]);

    let missing = export_module(&program, &arena, "decoder", Format::Own, &path).expect_err("no such module");
    let unlike = export_module(&program, &arena, "encoder", Format::Timm, &path).expect_err("it has no blocks");
    assert!(
        unlike.to_string().contains("it embeds no patches")
            && unlike.help().is_some_and(|h| h.contains("--format cmae")),
        "{unlike}"
    );
    assert_eq!(missing.to_string(), "no module `decoder` has tensors");
    assert!(missing.help().is_some_and(|help| help.contains("encoder, encoder2, momentum")));
    let broken = vec![f64::NAN; program.layout.total_len];
    let broken = export_module(&program, &broken, "encoder", Format::Own, &path);
    assert!(matches!(broken, Err(ExportError::NotFinite { .. })));
    assert_eq!(floats(&Fixture::read(&path).expect("still whole"), "norm.weight"), [0.0, 1.0]);
}
