//! Optimizers and clipping against their formulas, written here a second time: plain vectors, f64, no scaling folded in.

use cmae::backend::host::ema::Averages;
use cmae::backend::host::optimizer::Optimizer;
use cmae::graph::{Init, Layout, TensorDecl, TensorKind};
use cmae::spec::Clock;
use cmae::spec::{
    Clip, Duration, EmaMoment, EmaSpec, MicroBatch, Optimizer as Settings, ParameterRule, Precision, Recompute,
    Residual, Role, Schedule, Selector, ShardOptimizer, Tick, TrainSpec,
};
use cmae::tensor::Element;

const RATE: f64 = 0.1;
const DECAY: f64 = 0.05;
const STEPS: u64 = 4;

fn layout(sizes: &[(&str, usize, Role)]) -> Layout {
    let decl = |(path, size, role): &(&str, usize, Role)| TensorDecl {
        path: (*path).to_owned(),
        shape: vec![*size],
        role: *role,
        kind: TensorKind::Trained,
        init: Init::Zeros,
    };
    Layout::new(sizes.iter().map(decl).collect())
}

/// A weight, a bias, and a weight that no gradient reaches.
fn small() -> Layout {
    layout(&[("head.weight", 6, Role::Weight), ("head.bias", 2, Role::Bias), ("idle.weight", 3, Role::Weight)])
}

const REACHED: [bool; 3] = [true, true, false];

fn train(optimizer: Settings) -> TrainSpec {
    TrainSpec {
        epochs: 1.0,
        seed: 0,
        optimizer,
        micro_batch: MicroBatch::Auto,
        learning_rate: Schedule::Constant(RATE),
        clip: None,
        rules: Vec::new(),
        precision: Precision::F64,
        recompute: Recompute::None,
        shard_optimizer: ShardOptimizer::Auto,
        residual: Residual::F32,
        checkpoint_every: Duration::Epochs(1.0),
        keep: 1,
        log_every_steps: 1,
    }
}

fn rule(selector: Selector) -> ParameterRule {
    ParameterRule {
        selector,
        weight_decay: None,
        learning_rate: None,
        learning_rate_factor: None,
        adaptation: None,
        frozen_until: None,
    }
}

fn path(glob: &str) -> Selector {
    Selector::Paths(vec![glob.to_owned()])
}

fn sgd(momentum: f64, nesterov: bool) -> Settings {
    Settings::Sgd { momentum, nesterov, weight_decay: Schedule::Constant(DECAY) }
}

fn lars(eps: f64) -> Settings {
    Settings::Lars {
        momentum: 0.9,
        trust_coefficient: 0.001,
        eps,
        separate_norms: false,
        weight_decay: Schedule::Constant(DECAY),
    }
}

fn adamw(weight_decay: Schedule) -> Settings {
    Settings::AdamW { betas: (0.9, 0.95), eps: 1e-8, weight_decay }
}

/// Some number in −1..1 that differs from place to place.
fn some(step: u64, index: usize) -> f64 {
    libm::sin(1.7 * index as f64 + 0.9 * step as f64 + 0.3)
}

fn clock() -> Clock {
    Clock::new(1.0, STEPS)
}

/// Parameters after each step, and the norms that were given back.
fn run<E: Element>(
    train: &TrainSpec,
    layout: &Layout,
    reached: &[bool],
    steps: u64,
) -> (Vec<Vec<E>>, Vec<Option<f64>>) {
    let mut optimizer = Optimizer::<E>::new(train, layout, reached, Vec::new(), 0..layout.trained());
    let mut arena: Vec<E> = (0..layout.total_len).map(|i| E::from_f64(some(100, i))).collect();
    let (mut arenas, mut norms) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let gradients: Vec<E> = (0..layout.trained_len).map(|i| E::from_f64(some(step, i))).collect();
        norms.push(optimizer.update(&mut arena, &gradients, step, &clock()));
        arenas.push(arena.clone());
    }
    (arenas, norms)
}

/// What a formula has for `head.weight` and `head.bias`: (parameters, gradient, buffers, step) → new parameters.
fn by_hand(update: impl Fn(&[f64], &[f64], &mut [Vec<f64>; 2], u64) -> Vec<f64>) -> Vec<Vec<f64>> {
    let layout = small();
    let mut arena: Vec<f64> = (0..layout.total_len).map(|i| some(100, i)).collect();
    let mut buffers =
        [0, 1].map(|tensor| [vec![0.0; layout.range(tensor).len()], vec![0.0; layout.range(tensor).len()]]);
    let mut arenas = Vec::new();
    for step in 0..STEPS {
        for (tensor, buffers) in buffers.iter_mut().enumerate() {
            let range = layout.range(tensor);
            let gradient: Vec<f64> = range.clone().map(|i| some(step, i)).collect();
            let new = update(&arena[range.clone()], &gradient, buffers, step);
            arena[range].copy_from_slice(&new);
        }
        arenas.push(arena.clone());
    }
    arenas
}

fn agree<E: Element>(found: &[Vec<E>], expected: &[Vec<f64>], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found.to_f64() - expected).abs() < tolerance, "step {step}, value {i}: {found}, not {expected}");
        }
    }
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn adamw_is_pytorchs() {
    let expected = by_hand(|p, g, [m, v], step| {
        let t = f64::from(step as u32 + 1);
        *m = zip(m, g, |m, g| 0.9 * m + 0.1 * g);
        *v = zip(v, g, |v, g| 0.95 * v + 0.05 * g * g);
        let m_hat: Vec<f64> = m.iter().map(|m| m / (1.0 - libm::pow(0.9, t))).collect();
        let v_hat: Vec<f64> = v.iter().map(|v| v / (1.0 - libm::pow(0.95, t))).collect();
        let decayed: Vec<f64> = p.iter().map(|p| p - RATE * DECAY * p).collect();
        zip(&decayed, &zip(&m_hat, &v_hat, |m, v| m / (v.sqrt() + 1e-8)), |p, d| p - RATE * d)
    });
    let train = train(adamw(Schedule::Constant(DECAY)));
    agree(&run::<f64>(&train, &small(), &REACHED, STEPS).0, &expected, 1e-12);
    agree(&run::<f32>(&train, &small(), &REACHED, STEPS).0, &expected, 1e-5);
}

#[test]
fn sgd_is_pytorchs_with_and_without_nesterov() {
    for (momentum, nesterov) in [(0.9, false), (0.9, true), (0.0, false)] {
        let expected = by_hand(|p, g, [buffer, _], step| {
            let g = zip(g, p, |g, p| g + DECAY * p);
            // PyTorch's first buffer is the gradient itself.
            *buffer = if step == 0 { g.clone() } else { zip(buffer, &g, |b, g| momentum * b + g) };
            let direction = if nesterov { zip(&g, buffer, |g, b| g + momentum * b) } else { buffer.clone() };
            zip(p, &direction, |p, d| p - RATE * d)
        });
        let train = train(sgd(momentum, nesterov));
        agree(&run::<f64>(&train, &small(), &REACHED, STEPS).0, &expected, 1e-12);
        agree(&run::<f32>(&train, &small(), &REACHED, STEPS).0, &expected, 1e-5);
    }
}

#[test]
fn lars_is_that_of_byol_and_barlow_twins() {
    for (eps, separate_norms) in [(0.0, false), (0.5, false), (0.5, true)] {
        let expected = by_hand(|p, g, [buffer, _], _| {
            // The bias, two values, is left out of decay and adaptation.
            let g = if p.len() == 2 {
                g.to_vec()
            } else {
                // The paper's denominator, or the norm of both together.
                let apart = norm(g) + DECAY * norm(p);
                let g = zip(g, p, |g, p| g + DECAY * p);
                let q = 0.001 * norm(p) / (if separate_norms { apart } else { norm(&g) } + eps);
                g.iter().map(|g| q * g).collect()
            };
            *buffer = zip(buffer, &g, |b, g| 0.9 * b + g);
            zip(p, buffer, |p, b| p - RATE * b)
        });
        let mut settings = lars(eps);
        if let Settings::Lars { separate_norms: separate, .. } = &mut settings {
            *separate = separate_norms;
        }
        let mut train = train(settings);
        let plain = ParameterRule {
            weight_decay: Some(Schedule::Constant(0.0)),
            adaptation: Some(false),
            ..rule(Selector::Roles(vec![Role::Bias]))
        };
        train.rules.push(plain);
        agree(&run::<f64>(&train, &small(), &REACHED, STEPS).0, &expected, 1e-12);
        agree(&run::<f32>(&train, &small(), &REACHED, STEPS).0, &expected, 1e-5);
    }
}

#[test]
fn lars_adapts_neither_zeros_nor_to_zeros() {
    let layout = layout(&[("a", 3, Role::Weight)]);
    let mut settings = train(lars(0.0));
    settings.rules = vec![ParameterRule { weight_decay: Some(Schedule::Constant(0.0)), ..rule(path("a")) }];
    let mut optimizer = Optimizer::<f64>::new(&settings, &layout, &[true], Vec::new(), 0..1);
    let mut arena = vec![0.0; 3];
    optimizer.update(&mut arena, &[1.0, -2.0, 0.0], 0, &clock());
    assert_eq!(arena, [-RATE, 2.0 * RATE, 0.0], "a parameter of zeros moves by the plain gradient");
    let mut optimizer = Optimizer::<f64>::new(&settings, &layout, &[true], Vec::new(), 0..1);
    let mut arena = vec![1.0; 3];
    optimizer.update(&mut arena, &[0.0; 3], 0, &clock());
    assert_eq!(arena, [1.0; 3], "no gradient, no update, no NaN");
}

/// Gradients of the first step as an SGD without momentum and decay at rate 1 shows them.
fn clipped(clip: Clip) -> (Vec<f64>, Option<f64>) {
    let settings = Settings::Sgd { momentum: 0.0, nesterov: false, weight_decay: Schedule::Constant(0.0) };
    let train = TrainSpec { clip: Some(clip), learning_rate: Schedule::Constant(1.0), ..train(settings) };
    let (arenas, norms) = run::<f64>(&train, &small(), &REACHED, 1);
    let moved = arenas[0].iter().enumerate().map(|(i, p)| some(100, i) - p).collect();
    (moved, norms[0])
}

#[test]
fn a_global_norm_is_that_of_what_is_reached() {
    let gradient: Vec<f64> = (0..8).map(|i| some(0, i)).collect();
    let length = norm(&gradient);
    for max in [0.5 * length, 2.0 * length] {
        let (found, logged) = clipped(Clip::GlobalNorm(max));
        let factor = if max < length { max / (length + 1e-6) } else { 1.0 };
        for (found, gradient) in found.iter().zip(&gradient) {
            assert!((found - factor * gradient).abs() < 1e-12, "{max}: {found}, {gradient} times {factor}");
        }
        assert!((logged.expect("it is clipped") - length).abs() < 1e-12, "the norm before clipping");
        assert_eq!(found[8..], [0.0; 3], "what is not reached stays");
    }
}

#[test]
fn each_norm_is_a_tensors_own() {
    let gradient: Vec<f64> = (0..8).map(|i| some(0, i)).collect();
    let (weight, bias) = (norm(&gradient[..6]), norm(&gradient[6..]));
    // Between both: one tensor is clipped and the other is not.
    let max = 0.5 * (weight + bias);
    let (found, logged) = clipped(Clip::EachNorm(max));
    let factor = |length: f64| if max < length { max / (length + 1e-6) } else { 1.0 };
    assert!(factor(weight).min(factor(bias)) < 1.0 && factor(weight).max(factor(bias)) == 1.0);
    for (i, (found, gradient)) in found.iter().zip(&gradient).enumerate() {
        let factor = factor(if i < 6 { weight } else { bias });
        assert!((found - factor * gradient).abs() < 1e-12, "{i}: {found}, {gradient} times {factor}");
    }
    assert!((logged.expect("it is clipped") - norm(&gradient)).abs() < 1e-12, "one figure for the log");
}

#[test]
fn nothing_is_logged_where_nothing_is_clipped() {
    let (_, norms) = run::<f64>(&train(sgd(0.9, false)), &small(), &REACHED, 2);
    assert_eq!(norms, [None, None]);
}

#[test]
fn what_is_frozen_keeps_its_values_and_its_count() {
    for until in [Duration::Steps(2.0), Duration::Epochs(0.5), Duration::Share(0.5)] {
        let mut frozen = train(adamw(Schedule::Constant(DECAY)));
        frozen.rules.push(ParameterRule { frozen_until: Some(until), ..rule(path("head.weight")) });
        let layout = small();
        let (arenas, _) = run::<f64>(&frozen, &layout, &REACHED, STEPS);
        let start: Vec<f64> = (0..6).map(|i| some(100, i)).collect();
        assert!(arenas[0][..6] == start && arenas[1][..6] == start, "{until:?}: neither moved nor decayed");
        // Adam's first step is about the learning rate for each value, as only one with a count of its own gives.
        for (now, before) in arenas[2][..6].iter().zip(&start) {
            let step = (now - before * (1.0 - RATE * DECAY)).abs();
            assert!((step - RATE).abs() < 1e-6, "{until:?}: {step}");
        }
        assert_ne!(arenas[0][6..8], [some(100, 6), some(100, 7)], "the bias is not frozen");
    }
}

#[test]
fn decay_and_rates_follow_their_schedules() {
    let ramp = Schedule::Ramp { from: 0.04, to: 0.4, cosine: false, over: Duration::Share(1.0), by: Tick::Step };
    let mut settings = train(adamw(ramp));
    let constant = Some(Schedule::Constant(0.5));
    settings.rules = vec![
        // The first rule that gives a setting counts.
        ParameterRule { learning_rate: constant, learning_rate_factor: Some(0.5), ..rule(path("head.bias")) },
        ParameterRule { learning_rate_factor: Some(2.0), ..rule(path("head.*")) },
    ];
    let layout = small();
    let mut optimizer = Optimizer::<f64>::new(&settings, &layout, &REACHED, Vec::new(), 0..layout.trained());
    let mut arena = vec![1.0; layout.total_len];
    let (mut weight, mut bias) = (1.0, 1.0);
    for step in 0..STEPS {
        // Without a gradient nothing is left but decay.
        optimizer.update(&mut arena, &vec![0.0; layout.trained_len], step, &clock());
        let decay = 0.04 + 0.36 * step as f64 / STEPS as f64;
        weight *= 1.0 - 2.0 * RATE * decay;
        bias *= 1.0 - 0.25 * decay;
        assert!((arena[0] - weight).abs() < 1e-12 && (arena[6] - bias).abs() < 1e-12, "step {step}: {arena:?}");
        assert_eq!(arena[8], 1.0);
    }
}

/// Two parameters, one of several pieces, a copy of each, and a place for a copy of the first copy; `emas` are (pairs, moment).
fn with_copies(emas: &[(&[(&str, &str)], EmaMoment)]) -> (Layout, Averages) {
    let tensor = |(path, size, kind): (&str, usize, TensorKind)| TensorDecl {
        path: path.to_owned(),
        shape: vec![size],
        role: Role::Weight,
        kind,
        init: Init::Zeros,
    };
    let (trained, copied) = (TensorKind::Trained, TensorKind::Ema);
    let tensors = [
        ("b", 5, trained),
        ("a", 40_001, trained),
        ("m.a", 40_001, copied),
        ("m.b", 5, copied),
        ("n.a", 40_001, copied),
    ];
    let layout = Layout::new(tensors.map(tensor).to_vec());
    let ema = |(pairs, when): &(&[(&str, &str)], EmaMoment)| EmaSpec {
        name: "m".to_owned(),
        momentum: Schedule::Constant(0.9999),
        when: *when,
        pairs: pairs.iter().map(|(copy, source)| ((*copy).to_owned(), (*source).to_owned())).collect(),
        shared: Vec::new(),
    };
    let averages = Averages::new(&emas.iter().map(ema).collect::<Vec<_>>(), &layout, true);
    (layout, averages)
}

const BOTH: &[(&str, &str)] = &[("m.a", "a"), ("m.b", "b")];
const COPY_OF_A_COPY: &[(&str, &str)] = &[("n.a", "m.a")];

/// Also where a parameter itself stays as it is. A step rounds a copy of about 1 once, and what is expected is rounded too: two
/// units.
#[test]
fn copies_follow_their_sources() {
    fn check<E: Element>(unit: f64) {
        let (layout, averages) = with_copies(&[(BOTH, EmaMoment::AfterStep)]);
        let train = train(adamw(Schedule::Constant(DECAY)));
        let mut optimizer =
            Optimizer::<E>::new(&train, &layout, &[false, true], averages.followers.clone(), 0..layout.trained());
        let mut arena: Vec<E> = (0..layout.total_len).map(|i| E::from_f64(some(100, i))).collect();
        let mut expected: Vec<f64> = arena.iter().map(|value| value.to_f64()).collect();
        assert_eq!(averages.followers.len(), 2);
        for step in 0..STEPS {
            let gradients: Vec<E> = (0..layout.trained_len).map(|i| E::from_f64(some(step, i))).collect();
            optimizer.update(&mut arena, &gradients, step, &clock());
            for pair in &averages.followers {
                for (at, source) in pair.copy.clone().zip(pair.source.clone()) {
                    expected[at] = 0.9999 * expected[at] + 0.0001 * arena[source].to_f64();
                    let (found, expected) = (arena[at].to_f64(), expected[at]);
                    let allowed = 2.0 * unit * (step + 1) as f64;
                    assert!((found - expected).abs() <= allowed, "step {step}, {at}: {found}, not {expected}");
                }
            }
        }
    }
    check::<f64>(f64::EPSILON);
    check::<f32>(f64::from(f32::EPSILON));
}

#[test]
fn copies_take_the_momentum_of_the_step() {
    let (layout, mut averages) = with_copies(&[(BOTH, EmaMoment::AfterStep)]);
    let ramp = Schedule::Ramp { from: 0.5, to: 0.9, cosine: false, over: Duration::Share(1.0), by: Tick::Step };
    averages.followers.iter_mut().for_each(|pair| pair.momentum = ramp.clone());
    let train = train(sgd(0.0, false));
    let mut optimizer =
        Optimizer::<f64>::new(&train, &layout, &[false, false], averages.followers.clone(), 0..layout.trained());
    let mut arena = vec![0.0; layout.total_len];
    arena[..layout.trained_len].fill(1.0);
    let mut expected = 0.0;
    for step in 0..STEPS {
        optimizer.update(&mut arena, &vec![0.0; layout.trained_len], step, &clock());
        let momentum = 0.5 + 0.4 * step as f64 / STEPS as f64;
        expected = momentum * expected + 1.0 - momentum;
        for pair in &averages.followers {
            assert!(
                (arena[pair.copy.start] - expected).abs() < 1e-12,
                "step {step}: {}, not {expected}",
                arena[pair.copy.start]
            );
        }
    }
}

#[test]
fn what_another_copy_reads_is_moved_in_the_order_of_the_list() {
    let (_, averages) = with_copies(&[(BOTH, EmaMoment::AfterStep), (COPY_OF_A_COPY, EmaMoment::AfterStep)]);
    assert_eq!(averages.followers.iter().map(|pair| pair.copy.len()).collect::<Vec<_>>(), [5]);
    let (_, averages) = with_copies(&[(BOTH, EmaMoment::AfterForward)]);
    assert!(averages.followers.is_empty(), "an optimizer moves what moves after the step");
}

#[test]
fn a_step_that_fails_gives_copies_back() {
    let (layout, averages) =
        with_copies(&[(BOTH, EmaMoment::BeforeForward), (COPY_OF_A_COPY, EmaMoment::BeforeForward)]);
    let start: Vec<f32> = (0..layout.total_len).map(|i| some(100, i) as f32).collect();
    let (mut arena, mut before) = (start.clone(), Vec::new());
    averages.apply(EmaMoment::BeforeForward, &mut arena, 0, &clock(), Some(&mut before));
    let moved = |path: &str| {
        let range = layout.get(path).expect("it is there").1;
        arena[range.clone()] != start[range]
    };
    assert!(moved("m.a") && moved("m.b") && moved("n.a") && !moved("a"));
    averages.take_back(EmaMoment::BeforeForward, &mut arena, &before);
    assert!(arena == start);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let layout = layout(&[("a.weight", 70_001, Role::Weight), ("b.weight", 33_333, Role::Weight)]);
    for optimizer in [lars(0.0), sgd(0.9, true), adamw(Schedule::Constant(DECAY))] {
        for clip in [Clip::GlobalNorm(1.0), Clip::EachNorm(1.0)] {
            let train = TrainSpec { clip: Some(clip), ..train(optimizer.clone()) };
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be made");
                let (arenas, norms) = pool.install(|| run::<f32>(&train, &layout, &[true, true], 2));
                let bits: Vec<u32> = arenas[1].iter().map(|v| v.to_bits()).collect();
                (bits, norms.into_iter().map(|norm| norm.expect("it is clipped").to_bits()).collect::<Vec<_>>())
            };
            let one = with(1);
            assert!(one == with(2) && one == with(5), "{optimizer:?} {clip:?}");
        }
    }
}
