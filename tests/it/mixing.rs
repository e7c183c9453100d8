//! `std::mixing` against the formulas of its papers, on digits and on numbers that are drawn.

use cmae::backend::{Compute, Request, Results};
use cmae::data::random::RandomBatches;
use cmae::diag::{Diagnostics, render};
use cmae::graph::hiding::of_outputs;
use cmae::graph::{Layout, Program};
use cmae::source::Sources;
use cmae::tensor::{HostTensor, InputValue, OutputValue};

use crate::command::root;

/// Samples of a batch, and pixels of a side.
const BATCH: usize = 6;
const SIDE: usize = 8;

fn program(alpha: &str) -> Program {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let set = format!("alpha={alpha}");
    let compiled = cmae::compile(&mut sources, &mut diagnostics, &root("tests/it/mixing.cmae"), &[set.as_str().into()]);
    compiled.unwrap_or_else(|_| panic!("{}", render(diagnostics.list(), &sources, false))).program
}

fn floats(value: &OutputValue<f64>) -> &[f64] {
    match value {
        OutputValue::Float(tensor) => &tensor.data,
        OutputValue::Int(_) => panic!("it is a float"),
    }
}

fn given<'a>(batch: &'a [(String, InputValue)], name: &str) -> &'a [f32] {
    match batch.iter().find(|(n, _)| n == name) {
        Some((_, InputValue::Float(tensor))) => &tensor.data,
        other => panic!("{name}: {other:?}"),
    }
}

/// −Σ p · log softmax(x), the mean over rows.
fn soft_cross_entropy(logits: &[f64], target: impl Fn(usize, usize) -> f64) -> f64 {
    let rows = logits.chunks(10).enumerate().map(|(row, logits)| {
        let total = logits.iter().map(|x| libm::exp(*x)).sum::<f64>();
        -logits.iter().enumerate().map(|(class, x)| target(row, class) * (x - libm::log(total))).sum::<f64>()
    });
    rows.sum::<f64>() / BATCH as f64
}

#[test]
fn pictures_and_classes_are_mixed_as_the_papers_say() {
    let program = program("0.8");
    let mut batches = RandomBatches::new(&program.train.inputs, BATCH, 3);
    let outputs =
        ["added.mixed.pictures", "added.share", "added.logits", "cut.mixed.pictures", "cut.share", "cut.logits"];
    let request = Request { outputs: outputs.map(str::to_owned).to_vec(), ..Request::default() };
    let arena: Vec<f64> = (0..program.layout.total_len).map(|i| libm::sin(i as f64)).collect();
    let own = [3, 1, 4, 1, 5, 9];
    let other = [9, 3, 1, 4, 1, 5];
    for number in 0..20 {
        let mut batch = batches.batch(number).to_vec();
        for (name, value) in &mut batch {
            let ids = match name.as_str() {
                "labels" => own,
                "beside.labels" => other,
                _ => continue,
            };
            *value = InputValue::Int(HostTensor { shape: vec![BATCH], data: ids.to_vec() });
        }
        let mut backend = f64::backend("cpu").expect("every build has it");
        let results: Results<f64> =
            backend.run(&program.train, &program.layout, &arena, &batch, &request).expect("it runs");
        let found: Vec<&[f64]> = results.outputs.iter().map(floats).collect();
        let [added, share, added_logits, cut, kept, cut_logits] = found[..] else { panic!("six were asked for") };
        let (x, beside) = (given(&batch, "views.online"), given(&batch, "beside.online"));

        let [share, kept] = [share[0], kept[0]];
        assert!(0.0 < share && share < 1.0);
        for ((found, x), other) in added.iter().zip(x).zip(beside) {
            let expected = share * f64::from(*x) + (1.0 - share) * f64::from(*other);
            assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
        }

        // The box, from where the pictures differ: one for the batch, as large as the share says.
        let is_other = |pixel: usize| (0..BATCH).all(|s| cut[s * 64 + pixel] == f64::from(beside[s * 64 + pixel]));
        let is_own = |pixel: usize| (0..BATCH).all(|s| cut[s * 64 + pixel] == f64::from(x[s * 64 + pixel]));
        let inside: Vec<usize> = (0..64).filter(|pixel| is_other(*pixel)).collect();
        assert!((0..64).all(|pixel| is_own(pixel) != is_other(pixel)), "each pixel is of one of both");
        assert!((kept - (1.0 - inside.len() as f64 / 64.0)).abs() < 1e-12, "{kept}");
        let numbers = given(&batch, "cut.mixed.random2");
        let lambda = lambda(given(&batch, "cut.mixed.random"), 0.8);
        let side = |place: f32| {
            let (centre, reach) =
                ((f64::from(place) * 8.0).floor() as i64, (0.5 * (1.0 - lambda).sqrt() * 8.0).floor() as i64);
            (centre - reach).max(0)..(centre + reach).min(SIDE as i64)
        };
        let (rows, columns) = (side(numbers[0]), side(numbers[1]));
        let expected = rows.flat_map(|row| columns.clone().map(move |column| (row * 8 + column) as usize));
        assert_eq!(inside, expected.collect::<Vec<_>>());

        let target = |share: f64, smoothing: f64| {
            move |row: usize, class: usize| {
                let one = |ids: [i64; BATCH]| f64::from(u8::from(ids[row] == class as i64));
                (share * one(own) + (1.0 - share) * one(other)) * (1.0 - smoothing) + smoothing / 10.0
            }
        };
        let expected =
            [soft_cross_entropy(added_logits, target(share, 0.0)), soft_cross_entropy(cut_logits, target(kept, 0.1))];
        for (found, expected) in results.losses.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
        }
    }
}

/// Jöhnk's, as the text has it.
fn lambda(numbers: &[f32], alpha: f64) -> f64 {
    let (u, v) = numbers.split_at(numbers.len() / 2);
    let powers = u.iter().zip(v).map(|(u, v)| [u, v].map(|x| libm::pow(1.0 - f64::from(*x), 1.0 / alpha)));
    let fits = powers.map(|[a, b]| (a, a + b)).find(|(_, sum)| *sum < 1.0);
    fits.map(|(a, sum)| a / sum).expect("one of 256 pairs fits")
}

/// Mean ½ and variance 1 / (4 · (2 · alpha + 1)), each within five standard errors of 4,000 draws; a number's fourth central moment
/// is at most 1/16, so that the variance's error is at most √(1/16 / 4000).
#[test]
fn shares_are_of_the_distribution() {
    const DRAWS: u64 = 4000;
    for (text, alpha) in [("0.2", 0.2), ("1.0", 1.0), ("2.0", 2.0)] {
        let program = program(text);
        let share = ["added.share".to_owned()];
        let graph = of_outputs(&program.train, &share);
        let request = Request { outputs: share.to_vec(), ..Request::default() };
        let mut batches = RandomBatches::new(&graph.inputs, BATCH, 5);
        let mut backend = f32::backend("cpu").expect("every build has it");
        let draws: Vec<f64> = (0..DRAWS)
            .map(|number| {
                let batch = batches.batch(number);
                let results = backend.run(&graph, &Layout::new(Vec::new()), &[], batch, &request).expect("it runs");
                match &results.outputs[0] {
                    OutputValue::Float(tensor) => f64::from(tensor.data[0]),
                    OutputValue::Int(_) => panic!("it is a float"),
                }
            })
            .collect();
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / DRAWS as f64;
        let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        println!("alpha {alpha}: mean {mean:.4}, variance {variance:.4}, expected {expected:.4}");
        assert!((mean - 0.5).abs() < 5.0 * (expected / DRAWS as f64).sqrt(), "{mean}");
        assert!((variance - expected).abs() < 5.0 * (1.0 / 16.0 / DRAWS as f64).sqrt(), "{variance} for {expected}");
    }
}

/// Evaluated pictures are not mixed, and what only training brings is an error there.
#[test]
fn nothing_is_mixed_in_evaluation() {
    let text = std::fs::read_to_string(root("tests/it/mixing.cmae")).expect("it is in the repository");
    let with = |features: &str| {
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("mixing.cmae");
        let end = text.rfind('}').expect("it ends");
        let evaluate = format!(
            "  evaluate {{\n    features = op::reshape({features}, (6, 64))\n    knn(features, bank: data.train, queries: data.train, k: 1, \
             temperature: 0.07, every: 1 epochs)\n  }}\n}}\n"
        );
        std::fs::write(&file, format!("{}{evaluate}", &text[..end])).expect("it can be written");
        let compiled = cmae::compile(&mut sources, &mut diagnostics, &file, &[]);
        compiled.map(|compiled| compiled.program).map_err(|_| render(diagnostics.list(), &sources, false))
    };
    let program = with("mixup(views.eval).pictures").unwrap_or_else(|error| panic!("{error}"));
    let graph = program.features.expect("it evaluates");
    assert!(graph.inputs.iter().all(|input| !input.name.contains("beside")), "{:?}", graph.inputs);
    let error = with("op::beside(views.eval)").expect_err("nothing is beside");
    assert!(error.contains("`op::beside` is a matter of training"), "{error}");
}
