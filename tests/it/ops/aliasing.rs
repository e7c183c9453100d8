//! One value in several places: dfdx keys gradients by a tensor's id and panics where two operands share one, so each op
//! must give a repeated operand, or a reshaped alias of it, an id of its own and still add up its gradients.

use cmae::graph::ValueId;
use cmae::op::{Op, Type};
use cmae::tensor::InputValue;

use super::case::{Case, Values, on_each, push, run};
use super::sweep::Build;

fn hold(cases: Vec<Case>) {
    let faults: Vec<String> = cases.iter().flat_map(Case::faults).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// A case of one output `y`, made by `make` from the value of parameter `x`, positive.
fn one(title: &str, shape: &[usize], make: impl FnOnce(&mut Build, ValueId) -> ValueId) -> Case {
    let mut build = Build::default();
    build.values.push(("x".to_owned(), Values::Random(0.5, 2.0)));
    let x = build.param("x", shape);
    let y = make(&mut build, x);
    build.output("y", y);
    build.case(title.to_owned())
}

fn binary_ops() -> [Op; 4] {
    [Op::Add, Op::Sub, Op::Mul, Op::Div]
}

#[test]
fn a_value_beside_itself() {
    let mut cases = Vec::new();
    for op in binary_ops().into_iter().chain([Op::Maximum, Op::Minimum]) {
        let name = op.name();
        cases.push(one(&format!("{name} of x and x"), &[2, 3], |b, x| b.op(op.clone(), &[x, x])));
        cases.push(one(&format!("{name} of x and x reshaped twice"), &[2, 3], |b, x| {
            let flat = b.to(Op::Reshape, x, &[6]);
            let back = b.to(Op::Reshape, flat, &[2, 3]);
            b.op(op.clone(), &[x, back])
        }));
        cases.push(one(&format!("{name} of two reshapes of x"), &[2, 3], |b, x| {
            let (left, right) = (b.to(Op::Reshape, x, &[3, 2]), b.to(Op::Reshape, x, &[3, 2]));
            b.op(op.clone(), &[left, right])
        }));
        cases.push(one(&format!("{name} of x and its gathered copy"), &[2, 3], |b, x| {
            let gathered = b.op(Op::AllGather { axis: 0, ranks: 1 }, &[x]);
            b.op(op, &[gathered, x])
        }));
    }
    hold(cases);
}

#[test]
fn identities_keep_apart() {
    // Ops that may hand their operand on instead of a copy.
    let same: [(&str, Op); 4] = [
        ("a sum over no axes", Op::Sum { axes: vec![], keep: false }),
        ("a mean over no axes", Op::Mean { axes: vec![], keep: true }),
        ("a permute that moves nothing", Op::Permute { axes: vec![0, 1] }),
        ("a slice of all", Op::Slice { axis: 1, start: 0, end: 3 }),
    ];
    let mut cases = Vec::new();
    for (title, op) in same {
        cases.push(one(title, &[2, 3], |b, x| {
            let same = b.op(op, &[x]);
            b.op(Op::Mul, &[same, x])
        }));
    }
    cases.push(one("a broadcast to its own shape", &[2, 3], |b, x| {
        let same = b.to(Op::Broadcast, x, &[2, 3]);
        b.op(Op::Mul, &[x, same])
    }));
    hold(cases);
}

#[test]
fn several_operands_are_one_value() {
    let scale = 0.7;
    let cases = vec![
        one("concat of x three times", &[2, 3], |b, x| b.op(Op::Concat { axis: 1 }, &[x, x, x])),
        one("concat of x, its square and x", &[2, 3], |b, x| {
            let square = b.op(Op::Mul, &[x, x]);
            b.op(Op::Concat { axis: 0 }, &[x, square, x])
        }),
        one("x · xᵀ", &[2, 3], |b, x| b.op(Op::Matmul { transpose_b: true }, &[x, x])),
        one("x · x", &[2, 3, 3], |b, x| b.op(Op::Matmul { transpose_b: false }, &[x, x])),
        one("linear with its input as weight", &[3, 3], |b, x| b.op(Op::Linear, &[x, x])),
        one("linear with row and bias from one value", &[3], |b, x| {
            let weight = b.param("weight", &[3, 3]);
            b.op(Op::Linear, &[x, weight, x])
        }),
        one("attention of x to itself", &[2, 2, 3, 4], |b, x| b.op(Op::Attention { scale }, &[x, x, x])),
        one("attention with keys as values", &[2, 2, 3, 4], |b, x| {
            let q = b.param("q", &[2, 2, 5, 4]);
            b.op(Op::Attention { scale }, &[q, x, x])
        }),
        one("attention with its queries as bias", &[1, 2, 3, 3], |b, x| {
            let bias = b.to(Op::Reshape, x, &[2, 3, 3]);
            b.op(Op::Attention { scale }, &[x, x, x, bias])
        }),
        one("select of x or x", &[4], |b, x| {
            let condition = b.ids("condition", &[4], &[1, 0, 0, 1]);
            let condition = b.op(Op::ToFloat, &[condition]);
            b.op(Op::Select, &[condition, x, x])
        }),
        one("select by x itself", &[4], |b, x| {
            let square = b.op(Op::Mul, &[x, x]);
            b.op(Op::Select, &[x, square, x])
        }),
        one("a norm with one value as weight and bias", &[3], |b, x| {
            let rows = b.param("rows", &[2, 3]);
            b.op(Op::LayerNorm { eps: 1e-3 }, &[rows, x, x])
        }),
        one("a norm scaled by its input", &[3], |b, x| b.op(Op::LayerNorm { eps: 1e-3 }, &[x, x, x])),
        one("a batch norm scaled by its input", &[1, 3], |b, x| {
            let (weight, two) = (b.to(Op::Reshape, x, &[3]), b.op(Op::Concat { axis: 0 }, &[x, x]));
            let square = b.op(Op::Mul, &[two, two]);
            b.op(Op::BatchNorm { eps: 1e-3 }, &[square, weight, weight])
        }),
    ];
    hold(cases);
}

#[test]
fn a_value_used_by_many_ops_gathers_its_gradients() {
    let cases = vec![
        one("a diamond", &[2, 3], |b, x| {
            let (a, c) = (b.op(Op::Exp, &[x]), b.op(Op::Sqrt, &[x]));
            let product = b.op(Op::Mul, &[a, c]);
            let sum = b.op(Op::Add, &[product, x]);
            b.op(Op::Div, &[sum, a])
        }),
        one("a residual through shape changes", &[2, 4], |b, x| {
            let heads = b.to(Op::Reshape, x, &[2, 2, 2]);
            let moved = b.op(Op::Permute { axes: vec![1, 0, 2] }, &[heads]);
            let back = b.op(Op::Permute { axes: vec![1, 0, 2] }, &[moved]);
            let flat = b.to(Op::Reshape, back, &[2, 4]);
            b.op(Op::Mul, &[flat, x])
        }),
        one("a parameter read by two nodes", &[2, 3], |b, x| {
            let again = b.param("x", &[2, 3]);
            let square = b.op(Op::Mul, &[x, again]);
            let third = b.param("x", &[2, 3]);
            b.op(Op::Sub, &[square, third])
        }),
    ];
    hold(cases);
}

#[test]
fn a_parameter_alone_is_its_own_total() {
    let mut build = Build::default();
    let x = build.param("x", &[]);
    build.graph.total = Some(x);
    hold(vec![build.case("x is the total".to_owned())]);
}

/// A monitor may have a slope that is not finite, such as √ at 0: its gradient is 0, and 0 · ∞ must not reach a parameter.
#[test]
fn what_is_not_in_the_total_leaves_no_trace() {
    let mut build = Build::default();
    build.values.push(("x".to_owned(), Values::Given(vec![0.0, 4.0])));
    let x = build.param("x", &[2]);
    let double = build.op(Op::MulConst { value: 2.0 }, &[x]);
    let root = build.op(Op::Sqrt, &[double]);
    let monitor = build.op(Op::Sum { axes: vec![0], keep: false }, &[root]);
    let total = build.op(Op::Sum { axes: vec![0], keep: false }, &[double]);
    build.graph.monitors.push(("spread".to_owned(), monitor));
    build.graph.total = Some(total);
    hold(vec![build.case("a monitor beside the total".to_owned())]);
}

#[test]
fn stopped_and_unused_parameters_have_no_gradient() {
    let mut build = Build::default();
    let (x, y) = (build.param("x", &[3]), build.param("y", &[3]));
    build.param("unused", &[2]);
    let flat = build.to(Op::Reshape, y, &[3, 1]);
    let stopped = build.op(Op::StopGradient, &[flat]);
    let stopped = build.to(Op::Reshape, stopped, &[3]);
    // `x` is stopped on one way and free on the other: only the free one counts.
    let fixed = build.op(Op::StopGradient, &[x]);
    let product = build.op(Op::Mul, &[x, fixed]);
    let product = build.op(Op::Mul, &[product, stopped]);
    build.graph.total = Some(build.op(Op::Sum { axes: vec![0], keep: false }, &[product]));
    let case = build.case("stopped".to_owned());
    let (graph, layout) = case.with_total(true);
    let arena = case.arena(&layout, true);
    let faults = on_each(|| {
        let results = run::<f64>(&graph, &layout, &arena, &[]).expect("it runs");
        let range = |path: &str| layout.range(layout.index(path).expect("the case has it"));
        let (x, y) = (&arena[range("x")], &arena[range("y")]);
        let expected: Vec<f64> = x.iter().zip(y).map(|(x, y)| x * y).collect();
        assert_eq!(results.gradients[range("x")], expected);
        assert_eq!(results.gradients[range("y")], [0.0; 3]);
        assert_eq!(results.gradients[range("unused")], [0.0; 2]);
        Vec::new()
    });
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn inputs_that_are_missing_or_misshapen_are_errors() {
    let faults = on_each(|| {
        wrong_inputs();
        Vec::new()
    });
    assert!(faults.is_empty(), "{faults:?}");
}

fn wrong_inputs() {
    let mut build = Build::default();
    let ids = build.ids("labels", &[2], &[0, 7]);
    let y = build.op(Op::OneHot { classes: 3 }, &[ids]);
    build.output("y", y);
    let case = build.case("one hot".to_owned());
    let (graph, layout) = case.with_total(true);
    let arena = case.arena(&layout, true);
    let error =
        |inputs: &[(String, InputValue)]| run::<f64>(&graph, &layout, &arena, inputs).expect_err("the input is wrong");
    assert_eq!(error(&[]), "the graph's input `labels` was not given");
    assert_eq!(error(&case.inputs(&graph)), "one_hot at : id 7 is no class: there are 3");
    let longer = Case { values: vec![("labels".to_owned(), Values::Given(vec![0.0; 3]))], ..case };
    let mut other = longer.graph.clone();
    other.inputs[0].ty = Type::int([3]);
    assert_eq!(error(&longer.inputs(&other)), "input `labels` has shape [3], the graph expects [2]");
    // Nodes that nothing reads are not run.
    let mut unread = graph.clone();
    push(&mut unread, Op::Input { name: "nobody".to_owned() }, &[], Type::float([1]));
    let fine = Case { values: vec![("labels".to_owned(), Values::Given(vec![0.0, 1.0]))], ..longer };
    run::<f64>(&unread, &layout, &arena, &fine.inputs(&graph)).expect("the node is not needed");
}
