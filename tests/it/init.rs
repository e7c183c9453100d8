//! Initial values: how they are spread, and what they hang on.

use cmae::graph::{Init, Layout, TensorDecl, TensorKind};
use cmae::spec::Role;
use cmae::train::init::initialise;

fn decl(path: &str, shape: &[usize], init: Init) -> TensorDecl {
    TensorDecl { path: path.to_owned(), shape: shape.to_vec(), role: Role::Weight, kind: TensorKind::Trained, init }
}

/// (mean, deviation, largest) of 60,000 values.
fn spread(shape: &[usize], init: Init) -> (f64, f64, f64) {
    let values: Vec<f64> = initialise(&Layout::new(vec![decl("w", shape, init)]), 3);
    assert_eq!(values.len(), 60_000);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt(), values.iter().fold(0.0, |largest, v| v.abs().max(largest)))
}

/// A mean of 60,000 values is off by 1 / 245 of a deviation, a deviation by less: 2 % is five times that.
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 0.02 * expected, "{found}, expected {expected}");
}

#[test]
fn values_are_spread_as_their_names_say() {
    let (mean, std, largest) = spread(&[200, 300], Init::Normal { std: 0.02 });
    near(std, 0.02);
    assert!(mean.abs() < 4e-4 && largest > 0.07, "no value is cut: {largest}");
    // Cut at two deviations a normal one has a deviation of 0.8796.
    let (_, std, largest) = spread(&[200, 300], Init::TruncNormal { std: 0.02, cut: 2.0 });
    near(std, 0.8796 * 0.02);
    assert!((0.0399..=0.04).contains(&largest), "{largest}");
    // Uniform within ± a: a / √3.
    for (shape, init, limit) in [
        (&[200, 300][..], Init::XavierUniform, (6.0_f64 / 500.0).sqrt()),
        (&[200, 3, 10, 10], Init::XavierUniform, (6.0_f64 / 500.0).sqrt()),
        (&[200, 300], Init::FanInUniform { fan_in: 300 }, (1.0_f64 / 300.0).sqrt()),
    ] {
        let (_, std, largest) = spread(shape, init);
        near(std, limit / 3.0_f64.sqrt());
        assert!(largest <= limit && largest > 0.999 * limit, "{largest} of {limit}");
    }
}

#[test]
fn a_module_more_leaves_the_others_as_they_were() {
    let w = || decl("w", &[40, 30], Init::XavierUniform);
    let copy = || TensorDecl { kind: TensorKind::Ema, ..decl("m.w", &[40, 30], Init::CopyOf("w".to_owned())) };
    let alone: Vec<f32> = initialise(&Layout::new(vec![w()]), 3);
    let layout = Layout::new(vec![decl("a", &[7], Init::Normal { std: 1.0 }), w(), copy()]);
    let beside: Vec<f32> = initialise(&layout, 3);
    for path in ["w", "m.w"] {
        assert_eq!(beside[layout.get(path).expect("it is there").1], alone, "{path}");
    }
    assert_ne!(initialise::<f32>(&Layout::new(vec![w()]), 4), alone, "another seed");
    assert_ne!(
        initialise::<f32>(&Layout::new(vec![TensorDecl { path: "v".to_owned(), ..w() }]), 3),
        alone,
        "another path"
    );
}
