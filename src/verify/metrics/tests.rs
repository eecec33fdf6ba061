//! Figures and gates of single comparisons.

use super::super::tolerance::Numerics;
use super::*;

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::f32(shape.to_vec(), values.to_vec()).unwrap()
}

fn judged(numerics: Numerics, reference: &Tensor, candidate: &Tensor) -> Comparison {
    let gates = Gates::for_numerics(numerics);
    let rule = Rule {
        gates: &gates,
        kind: OutputKind::Plain,
        rows: None,
        allow_rounded: false,
    };
    compare(rule, reference, candidate)
}

#[test]
fn nan_in_the_candidate_fails() {
    let c = judged(
        Numerics::F16,
        &tensor(&[3], &[1.0, 2.0, 3.0]),
        &tensor(&[3], &[1.0, f32::NAN, 3.0]),
    );
    assert!(!c.passed);
    assert_eq!(
        (c.nonfinite.candidate_nan, c.nonfinite.mask_differs),
        (1, 1)
    );
    assert_eq!(c.worst.unwrap().index, [1]);
}

#[test]
fn nan_in_both_at_the_same_positions_is_a_warning() {
    let x = tensor(&[3], &[1.0, f32::NAN, 3.0]);
    let c = judged(Numerics::F32, &x, &x);
    assert!(c.passed);
    assert!(c.warnings[0].starts_with("reference_nonfinite"));
    let moved = judged(Numerics::F32, &x, &tensor(&[3], &[f32::NAN, 1.0, 3.0]));
    assert!(!moved.passed);
    let nothing = tensor(&[2], &[f32::NAN; 2]);
    assert!(!judged(Numerics::F32, &nothing, &nothing).passed);
}

#[test]
fn infinities_must_agree_in_sign() {
    let x = tensor(&[2], &[f32::INFINITY, 1.0]);
    assert!(judged(Numerics::F32, &x, &x).passed);
    assert!(!judged(Numerics::F32, &x, &tensor(&[2], &[f32::NEG_INFINITY, 1.0])).passed);
    assert!(!judged(Numerics::F16, &tensor(&[2], &[1e5, 1.0]), &x).passed);
}

#[test]
fn shapes_are_not_broadcast() {
    let a = tensor(&[1, 2, 3], &[1.0; 6]);
    let c = judged(Numerics::F32, &a, &tensor(&[2, 3], &[1.0; 6]));
    assert_eq!(c.failures, ["shape [2, 3], expected [1, 2, 3]"]);
    assert!(!judged(Numerics::F32, &a, &tensor(&[1, 2, 1], &[1.0; 2])).passed);
}

#[test]
fn small_tensors_can_fail() {
    let reference = tensor(&[4], &[1e-4, -1e-4, 1e-4, 1e-4]);
    let candidate = tensor(&[4], &[1.5e-4, -0.5e-4, 1.5e-4, 0.5e-4]);
    for numerics in [Numerics::F32, Numerics::F16] {
        assert!(!judged(numerics, &reference, &candidate).passed);
        assert!(judged(numerics, &reference, &reference).passed);
    }
}

#[test]
fn zeros_for_numbers_and_empty_outputs_fail_and_zeros_for_zeros_are_said() {
    let (zero, one) = (tensor(&[4], &[0.0; 4]), tensor(&[4], &[1.0; 4]));
    let c = judged(Numerics::F16, &one, &zero);
    assert_eq!(c.failures, ["the output is all zero"]);
    assert!(!judged(Numerics::F16, &zero, &one).passed);
    let c = judged(Numerics::F16, &zero, &zero);
    assert!(c.passed);
    assert_eq!(c.warnings, ["all zero, as in the reference"]);
    let empty = tensor(&[0], &[]);
    assert!(!judged(Numerics::F32, &empty, &empty).passed);
}

#[test]
fn every_element_counts_however_far_back() {
    let reference = tensor(&[1, 5000], &vec![1.0; 5000]);
    let mut values = vec![1.0; 5000];
    values[4321] = f32::NAN;
    let c = judged(Numerics::F16, &reference, &tensor(&[1, 5000], &values));
    assert!(!c.passed);
    assert_eq!(c.worst.unwrap().index, [0, 4321]);
    // One wrong number moves no average, but is not excused.
    values[4321] = 2.0;
    let c = judged(Numerics::F16, &reference, &tensor(&[1, 5000], &values));
    assert!(c.checks.iter().any(|c| c.name == "cosine" && c.passed));
    assert!(!c.passed);
}

#[test]
fn figures_are_what_they_say() {
    let c = judged(
        Numerics::F32,
        &tensor(&[2, 2], &[3.0, 0.0, 0.0, 4.0]),
        &tensor(&[2, 2], &[3.0, 0.2, 0.0, 4.0]),
    );
    let f = c.figures.unwrap();
    assert!((f.max_abs - 0.2).abs() < 1e-7);
    assert!((f.rms - 0.1).abs() < 1e-7);
    assert!((f.required_tolerance - 0.05).abs() < 1e-7);
    assert!((f.max_rel - 50.0).abs() < 1e-4);
    assert!((f.psnr_db.unwrap() - 32.0412).abs() < 1e-3);
    assert!((f.cosine.unwrap() - 5.0 / (25.04f64).sqrt()).abs() < 1e-7);
    assert_eq!(c.worst.unwrap().index, [0, 1]);
}

#[test]
fn integers_are_compared_exactly_and_kinds_must_agree() {
    let a = Tensor::i64(vec![2], vec![1, 2]).unwrap();
    let b = Tensor::int(DType::I32, vec![2], vec![1, 3]).unwrap();
    let c = judged(Numerics::F16, &a, &b);
    assert_eq!((c.passed, c.mismatches), (false, Some(1)));
    assert!(judged(Numerics::F32, &a, &a.cast(DType::I32)).passed);
    assert!(!judged(Numerics::F32, &a, &tensor(&[2], &[1.0, 2.0])).passed);
}

#[test]
fn a_gateless_comparison_fails() {
    let gates = Gates {
        max_relative: None,
        max_relative_rms: None,
        min_cosine: None,
        min_psnr_db: None,
        ..Gates::for_numerics(Numerics::F32)
    };
    let x = tensor(&[1], &[1.0]);
    let rule = Rule {
        gates: &gates,
        kind: OutputKind::Plain,
        rows: None,
        allow_rounded: false,
    };
    assert_eq!(
        compare(rule, &x, &x).failures,
        ["no gate judged this output"]
    );
}

#[test]
fn padding_rows_are_left_out() {
    let gates = Gates::for_numerics(Numerics::F32);
    let reference = tensor(&[1, 3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let candidate = tensor(&[1, 3, 2], &[1.0, 2.0, 3.0, 4.5, 9.0, f32::NAN]);
    let rule = |rows| Rule {
        gates: &gates,
        kind: OutputKind::Plain,
        rows: Some(rows),
        allow_rounded: false,
    };
    assert!(compare(rule(&[0]), &reference, &candidate).passed);
    let c = compare(rule(&[0, 1]), &reference, &candidate);
    assert_eq!((c.passed, c.elements), (false, 4));
    assert_eq!(c.worst.unwrap().index, [0, 1, 1]);
    assert!(!compare(rule(&[]), &reference, &candidate).passed);
}

#[test]
fn logits_have_kl_and_tie_aware_top1() {
    use OutputKind::{Embedding, Logits, Plain, Score};
    for (name, shape, kind) in [
        ("halt_logits", &[1, 2][..], Logits),
        ("logits", &[1, 3, 2], Logits),
        ("logits", &[2, 1], Score),
        ("eval_score", &[1], Score),
        ("eval_score", &[2], Plain),
        ("hidden", &[1, 2], Plain),
        ("sentence_embedding", &[1, 2], Embedding),
    ] {
        let zeros = vec![0.0; shape.iter().product()];
        assert_eq!(
            OutputKind::of(name, &tensor(shape, &zeros)),
            kind,
            "{name} {shape:?}"
        );
    }
    let f = logit_figures(
        &[10.0, 9.9999, 0.0, 10.0, 5.0, 0.0],
        &[9.9999, 10.0, 0.0, 5.0, 10.0, 0.0],
        3,
        1e-3,
    );
    assert_eq!((f.rows, f.top1, f.top1_tie_aware), (2, 0.0, 0.5));
    let (p, q) = ([0.0, 1f64.exp().ln()], [1f64.exp().ln(), 0.0]);
    // KL of (1/(1+e), e/(1+e)) against its reverse: (e − 1)/(e + 1).
    let e = std::f64::consts::E;
    assert!((kl(&p, &q).unwrap() - (e - 1.0) / (e + 1.0)).abs() < 1e-12);
    assert_eq!(kl(&[0.0, f64::NAN], &[0.0, 1.0]), None);
    assert_eq!(largest(&[1.0, 3.0, 3.0, 2.0], 3), [1, 2, 3]);
}

#[test]
fn the_last_thousandth_of_the_rows_may_be_worse() {
    // Rows of two classes, of which one is far off.
    let rows = |n: usize, far: usize| {
        let reference = [0.0, 1.0].repeat(n);
        let mut candidate = reference.clone();
        candidate[2 * far] = 3.0;
        logit_figures(&reference, &candidate, 2, 1e-3)
    };
    let few = rows(999, 5);
    assert!(few.kl_999 == few.max_kl && few.max_kl > 1.0, "{few:?}");
    let many = rows(1001, 5);
    assert!(many.kl_999 == 0.0 && many.max_kl > 1.0, "{many:?}");
    assert!(logit_figures(&[], &[], 2, 1e-3).kl_999.is_nan());
}

#[test]
fn a_single_score_is_judged_by_its_error_alone() {
    let judge = |numerics, reference: f32, candidate: f32| {
        let gates = Gates::for_numerics(numerics);
        let (r, c) = (tensor(&[1, 1], &[reference]), tensor(&[1, 1], &[candidate]));
        let rule = Rule {
            gates: &gates,
            kind: OutputKind::of("logits", &r),
            rows: None,
            allow_rounded: false,
        };
        compare(rule, &r, &c)
    };
    let near = judge(Numerics::F16, 0.75, 0.751);
    let figures = near.figures.clone().unwrap();
    assert!(near.passed && near.logits.is_none());
    assert_eq!((figures.cosine, figures.psnr_db), (None, None));
    assert_eq!(near.checks.len(), 1);
    assert!(!judge(Numerics::F16, 0.75, 0.77).passed);
    assert!(!judge(Numerics::F32, 0.75, 0.7502).passed);
    // A ratio to nearly nothing is no finding; a share of a large number is.
    assert!(judge(Numerics::F16, 1e-5, 1e-3).passed);
    assert!(judge(Numerics::F16, 100.0, 100.5).passed);
    assert!(!judge(Numerics::F16, 100.0, 102.0).passed);
    assert!(!judge(Numerics::F16, 0.75, f32::NAN).passed);
}

#[test]
fn a_reference_on_the_grid_of_bf16_is_not_taken_for_one_of_f16() {
    let exact: Vec<f32> = (0..64).map(|i| 1.0 + num::f32_of(i) * 0.013_337).collect();
    let rounded: Vec<f32> = exact.iter().map(|&x| num::round_bf16(x)).collect();
    // All of them are numbers of `f16` as well.
    assert!(rounded.iter().all(|&x| num::round_f16(x) == x));
    let gates = Gates::for_numerics(Numerics::F32);
    let rule = Rule {
        gates: &gates,
        kind: OutputKind::Plain,
        rows: None,
        allow_rounded: true,
    };
    let found = compare(rule, &tensor(&[64], &rounded), &tensor(&[64], &exact));
    assert_eq!(
        (found.passed, found.reference_rounding),
        (true, Some("bf16"))
    );
}

#[test]
fn a_rounded_reference_is_noticed() {
    let exact: Vec<f32> = (0..64).map(|i| 1.0 + num::f32_of(i) * 0.013_337).collect();
    let rounded: Vec<f32> = exact.iter().map(|&x| num::round_f16(x)).collect();
    let gates = Gates::for_numerics(Numerics::F32);
    let rule = |allow_rounded| Rule {
        gates: &gates,
        kind: OutputKind::Plain,
        rows: None,
        allow_rounded,
    };
    let (r, c) = (tensor(&[64], &rounded), tensor(&[64], &exact));
    assert!(!compare(rule(false), &r, &c).passed);
    let ok = compare(rule(true), &r, &c);
    assert_eq!((ok.passed, ok.reference_rounding), (true, Some("f16")));
    // It excuses half a unit in the last place, not more.
    let off: Vec<f32> = exact.iter().map(|x| x * 1.01).collect();
    assert!(!compare(rule(true), &r, &tensor(&[64], &off)).passed);
}
