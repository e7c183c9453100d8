//! Shape rules: operands that do not fit are an error with both values, never a panic.

use cmae::op::{Op, PatchOrder, Type, shape};

/// Operands as `f[2, 3]` sizes, floats.
fn floats(shapes: &[&[usize]]) -> Vec<Type> {
    shapes.iter().map(|s| Type::float(*s)).collect()
}

fn error(op: Op, operands: &[Type]) -> String {
    error_to(op, operands, None)
}

fn error_to(op: Op, operands: &[Type], declared: Option<Type>) -> String {
    let operands: Vec<&Type> = operands.iter().collect();
    match shape::infer(&op, &operands, declared.as_ref()) {
        Ok(ty) => panic!("{op:?} on {operands:?} is taken for {ty:?}"),
        Err(error) => {
            assert!(error.operands.iter().all(|i| *i < operands.len()), "{op:?} blames operands that are not there");
            error.message
        }
    }
}

fn sum(axes: &[usize]) -> Op {
    Op::Sum { axes: axes.to_vec(), keep: false }
}

#[test]
fn operands_that_do_not_fit_are_errors() {
    let add = |shapes: &[&[usize]]| error(Op::Add, &floats(shapes));
    assert_eq!(add(&[&[2, 3], &[3, 2]]), "[2, 3] and [3, 2] differ");
    assert_eq!(add(&[&[2], &[2, 1]]), "[2] and [2, 1] differ");
    assert_eq!(error(Op::Select, &floats(&[&[2], &[2], &[3]])), "[2] and [3] differ");

    assert_eq!(error(sum(&[2]), &floats(&[&[2, 3]])), "axes [2] are not distinct axes of a tensor with 2");
    assert_eq!(error(sum(&[1, 0]), &floats(&[&[2, 3]])), "axes [1, 0] are not distinct axes of a tensor with 2");
    assert_eq!(error(sum(&[0, 0]), &floats(&[&[2, 3]])), "axes [0, 0] are not distinct axes of a tensor with 2");
    assert_eq!(error(sum(&[0]), &floats(&[&[]])), "axes [0] are not distinct axes of a tensor with 0");

    let to = |op: Op, from: &[usize], to: &[usize]| error_to(op, &floats(&[from]), Some(Type::float(to)));
    assert_eq!(to(Op::Reshape, &[2, 3], &[4]), "6 values do not fill [4], which holds 4");
    assert_eq!(to(Op::Broadcast, &[2, 3], &[3]), "[2, 3] cannot be repeated to [3]");
    assert_eq!(to(Op::Broadcast, &[2], &[2, 3]), "[2] cannot be repeated to [2, 3]");
    assert_eq!(error(Op::Reshape, &floats(&[&[2]])), "no type was declared");
    assert_eq!(error(Op::Full { value: 1.0 }, &[]), "no type was declared");
    assert_eq!(error_to(Op::Iota, &[], Some(Type::float([3]))), "iota makes ids of one axis, not [3]");
    assert_eq!(error_to(Op::Iota, &[], Some(Type::int([3, 1]))), "iota makes ids of one axis, not [3, 1]");

    let permute = |axes: &[usize]| error(Op::Permute { axes: axes.to_vec() }, &floats(&[&[2, 3]]));
    assert_eq!(permute(&[0, 0]), "[0, 0] is no order of 2 axes");
    assert_eq!(permute(&[0]), "[0] is no order of 2 axes");
    assert_eq!(permute(&[1, 2]), "[1, 2] is no order of 2 axes");

    let slice = |axis, start, end| error(Op::Slice { axis, start, end }, &floats(&[&[2, 3]]));
    assert_eq!(slice(2, 0, 1), "axis 2 of a tensor with 2 axes");
    assert_eq!(slice(1, 2, 4), "2..4 is no part of an axis of 3");
    assert_eq!(slice(1, 2, 2), "2..2 is no part of an axis of 3");
    assert_eq!(slice(1, 3, 1), "3..1 is no part of an axis of 3");

    let concat = |axis, shapes: &[&[usize]]| error(Op::Concat { axis }, &floats(shapes));
    assert_eq!(concat(2, &[&[2, 3], &[2, 3]]), "axis 2 of a tensor with 2 axes");
    assert_eq!(concat(0, &[&[2, 3], &[2, 4]]), "[2, 3] and [2, 4] differ beside axis 0");
    assert_eq!(concat(0, &[&[2, 3], &[2]]), "[2, 3] and [2] differ beside axis 0");
    assert_eq!(concat(0, &[&[2]]), "concat takes 2 operands or more, found 1");
}

#[test]
fn products_and_norms_check_their_operands() {
    let matmul = |transpose_b, a: &[usize], b: &[usize]| error(Op::Matmul { transpose_b }, &floats(&[a, b]));
    assert_eq!(matmul(false, &[2, 3], &[2, 3]), "inner sizes 3 and 2 differ");
    assert_eq!(matmul(true, &[2, 3], &[3, 4]), "inner sizes 3 and 4 differ");
    assert_eq!(matmul(false, &[3], &[3]), "[3] and [3] are no matrices with equal leading axes");
    assert_eq!(
        matmul(false, &[2, 2, 3], &[3, 3, 2]),
        "[2, 2, 3] and [3, 3, 2] are no matrices with equal leading axes"
    );
    assert_eq!(matmul(false, &[2, 2, 3], &[3, 2]), "[2, 2, 3] and [3, 2] are no matrices with equal leading axes");

    for wrong in [
        floats(&[&[2, 3], &[4, 2]]),
        floats(&[&[2, 3], &[3]]),
        floats(&[&[2, 3], &[4, 3], &[3]]),
        floats(&[&[2, 3], &[4, 3], &[1, 4]]),
        floats(&[&[], &[4, 3]]),
    ] {
        error(Op::Linear, &wrong);
    }
    let attention = |shapes: &[&[usize]]| error(Op::Attention { scale: 1.0 }, &floats(shapes));
    let (q, k) = (&[2, 3, 4, 5], &[2, 3, 6, 5]);
    assert!(attention(&[&[2, 4, 5], k, k]).starts_with("attention wants [B, heads, N, d]"));
    assert!(attention(&[q, &[2, 3, 6, 4], k]).contains("differ in batch, heads or width"));
    assert!(attention(&[q, k, &[2, 3, 6, 4]]).starts_with("keys"));
    assert_eq!(attention(&[q, k, k, &[3, 6, 4]]), "bias [3, 6, 4] is not [heads, N, M] = [3, 4, 6]");

    for op in [Op::LayerNorm { eps: 1e-6 }, Op::BatchNorm { eps: 1e-6 }] {
        assert_eq!(error(op.clone(), &floats(&[&[]])), "a scalar has no features to normalise");
        assert_eq!(error(op.clone(), &floats(&[&[2, 3], &[2], &[3]])), "[2] does not fit features of size 3");
        assert_eq!(error(op.clone(), &floats(&[&[2, 3], &[3]])), "weight and bias come together or not at all");
    }
    assert_eq!(
        error(Op::BatchNorm { eps: 1e-6 }, &floats(&[&[3]])),
        "batch_norm wants a batch axis before the features"
    );
    for op in [Op::Softmax, Op::LogSoftmax, Op::L2Normalize { eps: 1e-6 }, Op::Argmax, Op::Argsort] {
        assert_eq!(error(op, &floats(&[&[]])), "a scalar has no last axis");
    }
    for shape in [&[][..], &[3], &[2, 3], &[3, 3, 2]] {
        let said = format!("log_det wants square matrices [.., n, n], found {shape:?}");
        assert_eq!(error(Op::LogDet, &floats(&[shape])), said);
    }
}

#[test]
fn images_tokens_and_ids_check_their_operands() {
    let order = PatchOrder::RowColumnChannel;
    let patchify = |patch, shape: &[usize]| error(Op::Patchify { patch, order }, &floats(&[shape]));
    assert_eq!(patchify((2, 2), &[1, 3, 5, 4]), "a patch of 2 × 2 does not divide a picture of 5 × 4");
    assert_eq!(patchify((0, 2), &[1, 3, 4, 4]), "a patch of 0 × 2 does not divide a picture of 4 × 4");
    assert_eq!(patchify((2, 2), &[3, 4, 4]), "patchify wants [B, C, H, W], found [3, 4, 4]");
    let op = Op::Unpatchify { patch: (2, 2), order };
    let declared = Some(Type::float([1, 3, 4, 4]));
    assert_eq!(
        error_to(op, &floats(&[&[1, 4, 11]]), declared),
        "[1, 4, 11] are not the patches of [1, 3, 4, 4]: [1, 4, 12]"
    );

    let (x, ids) = (Type::float([2, 5, 3]), Type::int([2, 4]));
    let other = Type::int([3, 4]);
    assert_eq!(
        error(Op::GatherTokens, &[x.clone(), other]),
        "gather_tokens wants [B, N, D] and ids [B, K], found [2, 5, 3] and [3, 4]"
    );
    assert_eq!(
        error(Op::CrossEntropy, &[x.clone(), ids.clone()]),
        "logits [2, 5, 3] want one id for each row, found ids [2, 4]"
    );
    assert_eq!(error(Op::GatherTokens, &[x.clone(), x.clone()]), "gather_tokens wants ids as operand 2, found numbers");
    assert_eq!(error(Op::Add, &[ids.clone(), ids.clone()]), "add wants numbers as operand 1, found ids");
    assert_eq!(error(Op::Less, &[x.clone(), ids.clone()]), "less wants numbers as operand 2, found ids");
    assert_eq!(error(Op::ToFloat, std::slice::from_ref(&x)), "to_float wants ids as operand 1, found numbers");
    assert_eq!(error(Op::OneHot { classes: 3 }, &[x]), "one_hot wants ids as operand 1, found numbers");
}

/// Ops by the least and greatest number of operands that they take.
#[test]
fn a_wrong_number_of_operands_is_an_error() {
    let x = Type::float([2, 2]);
    let counts = |op: Op, right: std::ops::RangeInclusive<usize>| {
        for count in (0..6).filter(|c| !right.contains(c)) {
            let operands = vec![&x; count];
            let declared = Some(&x);
            assert!(shape::infer(&op, &operands, declared).is_err(), "{} takes {count} operands", op.name());
        }
    };
    counts(Op::Param { path: "x".to_owned() }, 0..=0);
    counts(Op::Full { value: 0.0 }, 0..=0);
    for op in [Op::Neg, Op::Gelu, Op::Reshape, Op::Broadcast, Op::Softmax, Op::StopGradient, sum(&[0]), Op::Argsort] {
        counts(op, 1..=1);
    }
    for op in [Op::Add, Op::Less, Op::Matmul { transpose_b: false }, Op::CrossEntropy, Op::GatherTokens] {
        counts(op, 2..=2);
    }
    counts(Op::Select, 3..=3);
    counts(Op::Concat { axis: 0 }, 2..=5);
    counts(Op::Linear, 2..=3);
    counts(Op::Attention { scale: 1.0 }, 3..=4);
    counts(Op::LayerNorm { eps: 0.0 }, 1..=3);
}
