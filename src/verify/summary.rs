//! The worst figures of every output of every engine, over all probes.

use std::collections::BTreeMap;

use super::report::{ProbeReport, SummaryRow};

/// One row for every output of every engine and what it was held against.
pub(super) fn summary(probes: &[ProbeReport]) -> Vec<SummaryRow> {
    let mut rows: Vec<SummaryRow> = Vec::new();
    let mut places: BTreeMap<(String, String, &'static str), usize> = BTreeMap::new();
    for report in probes.iter().flat_map(|p| &p.outputs) {
        let Some(comparison) = &report.comparison else {
            continue;
        };
        let key = (report.engine.clone(), report.output.clone(), report.against);
        let at = *places.entry(key).or_insert_with(|| {
            rows.push(SummaryRow {
                against: report.against,
                comparisons: 0,
                engine: report.engine.clone(),
                max_abs: None,
                max_mean_kl: None,
                max_required_tolerance: None,
                min_cosine: None,
                min_psnr_db: None,
                min_top1_tie_aware: None,
                output: report.output.clone(),
                passed: true,
            });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.comparisons += 1;
        row.passed &= comparison.passed;
        if let Some(f) = &comparison.figures {
            worse(&mut row.max_abs, f.max_abs, f64::gt);
            worse(
                &mut row.max_required_tolerance,
                f.required_tolerance,
                f64::gt,
            );
            if let Some(cosine) = f.cosine {
                worse(&mut row.min_cosine, cosine, f64::lt);
            }
            if let Some(psnr) = f.psnr_db {
                worse(&mut row.min_psnr_db, psnr, f64::lt);
            }
        }
        if let Some(f) = &comparison.logits {
            worse(&mut row.max_mean_kl, f.mean_kl, f64::gt);
            worse(&mut row.min_top1_tie_aware, f.top1_tie_aware, f64::lt);
        }
    }
    rows
}

/// Keeps the worse of two figures; NaN is the worst.
fn worse(kept: &mut Option<f64>, x: f64, is_worse: fn(&f64, &f64) -> bool) {
    match kept {
        Some(old) if old.is_nan() || !(x.is_nan() || is_worse(&x, old)) => {}
        Some(_) | None => *kept = Some(x),
    }
}
