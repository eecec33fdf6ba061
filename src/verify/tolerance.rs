//! Gates: how far an artifact may be from its source. Owns the defaults and the check of one figure against one limit.

use serde::Serialize;

use super::report::float;

/// How a candidate computes; chooses its gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Numerics {
    /// 32-bit floats throughout.
    F32,
    /// Results rounded to 16-bit floats.
    F16,
}

/// Limits for one comparison. `None` means: reported, not judged. A comparison that nothing judges fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    /// Most max|Δ| / max|reference|. Relative to the tensor's own scale, so that a small tensor can fail too.
    pub max_relative: Option<f64>,
    /// Most root mean square of Δ / root mean square of the reference.
    pub max_relative_rms: Option<f64>,
    /// Least cosine similarity.
    pub min_cosine: Option<f64>,
    /// Least cosine similarity of embeddings, whose direction is all that counts.
    pub min_embedding_cosine: Option<f64>,
    /// Most |Δ| / max(|reference|, 1) of single scores, for which nothing else is judged.
    pub max_score: Option<f64>,
    /// Least peak signal-to-noise ratio, in dB.
    pub min_psnr_db: Option<f64>,
    /// Most mean KL(reference ‖ candidate) of logits, in nats.
    pub max_mean_kl: Option<f64>,
    /// Most KL(reference ‖ candidate) of 99.9 % of the rows of logits, in nats.
    pub max_kl_999: Option<f64>,
    /// Least share of logit rows whose top-1 agrees or is a tie of the reference.
    pub min_top1: Option<f64>,
    /// Most elements, as a share, that may be a step apart in outputs that are rounded to steps; one element always may.
    pub max_step_share: f64,
    /// A reference margin up to this share of the row's top |logit| is a tie.
    ///
    /// Not 2·max|Δ| of the comparison itself: no flip can have a larger margin than that, so such a rule would excuse every flip.
    pub tie_margin: f64,
    /// Largest magnitude of an intermediate value before a warning.
    pub warn_magnitude: f64,
    /// Largest magnitude of an intermediate value before failure.
    pub max_magnitude: Option<f64>,
    /// Relative root-mean-square error of an intermediate value that counts as having left the source.
    pub divergence: f64,
    /// Most change, relative to max|output|, of what a claim says does not change.
    pub claim_change: f64,
    /// Most difference, relative to max|output|, between the enumerated shapes.
    pub shape_change: f64,
}

impl Gates {
    /// The defaults for a way of computing.
    #[must_use]
    pub fn for_numerics(numerics: Numerics) -> Self {
        match numerics {
            Numerics::F32 => Gates {
                max_relative: Some(1e-4),
                max_relative_rms: Some(1e-4),
                min_cosine: Some(0.999_999),
                min_embedding_cosine: Some(0.999_999),
                max_score: Some(1e-4),
                min_psnr_db: None,
                max_mean_kl: Some(1e-6),
                max_kl_999: Some(1e-4),
                min_top1: Some(1.0),
                // Near the middle of two steps, the order of a sum decides.
                max_step_share: 0.01,
                tie_margin: 1e-3,
                warn_magnitude: f64::MAX,
                max_magnitude: None,
                divergence: 1e-4,
                claim_change: 1e-5,
                shape_change: 1e-4,
            },
            Numerics::F16 => Gates {
                // Averages hide one wrong element among thousands; this does not.
                max_relative: Some(0.1),
                max_relative_rms: None,
                min_cosine: Some(0.999),
                min_embedding_cosine: Some(0.999_9),
                max_score: Some(1e-2),
                min_psnr_db: Some(40.0),
                max_mean_kl: Some(5e-4),
                max_kl_999: Some(2e-2),
                min_top1: Some(0.99),
                // Numbers of a few hundred are off by a sixteenth: that much before any sum.
                max_step_share: 0.5,
                tie_margin: 1e-2,
                warn_magnitude: 30_000.0,
                max_magnitude: Some(60_000.0),
                divergence: 2e-2,
                claim_change: 1e-3,
                shape_change: 1e-2,
            },
        }
    }

    /// The gates of single precision for references that are known to be less exact: `tolerance` is the most max|Δ| / max|reference|.
    ///
    /// What follows from differences is widened with them: 1 − cosine and KL grow with their square, margins of ties with themselves.
    #[must_use]
    pub fn with_tolerance(tolerance: f64) -> Self {
        let gates = Gates::for_numerics(Numerics::F32);
        let wider = gates.max_relative.map_or(1.0, |x| (tolerance / x).max(1.0));
        let squared = wider * wider;
        let cosine = |least: f64| (1.0 - (1.0 - least) * squared).max(0.0);
        Gates {
            max_relative: Some(tolerance),
            max_relative_rms: gates.max_relative_rms.map(|x| x * wider),
            min_cosine: gates.min_cosine.map(cosine),
            min_embedding_cosine: gates.min_embedding_cosine.map(cosine),
            max_score: Some(tolerance),
            max_mean_kl: gates.max_mean_kl.map(|kl| kl * squared),
            max_kl_999: gates.max_kl_999.map(|kl| kl * squared),
            tie_margin: gates.tie_margin.max(2.0 * tolerance),
            ..gates
        }
    }

    /// The limits as one line, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let show = super::report::show;
        let at_most =
            |name: &str, limit: Option<f64>| limit.map(|limit| format!("{name} ≤ {}", show(limit)));
        let at_least =
            |name: &str, limit: Option<f64>| limit.map(|limit| format!("{name} ≥ {limit}"));
        let parts = [
            at_most("max|Δ| of max", self.max_relative),
            at_most("RMS of RMS", self.max_relative_rms),
            at_least("cosine", self.min_cosine),
            at_least("of embeddings", self.min_embedding_cosine),
            at_least("PSNR", self.min_psnr_db),
            at_most("single scores", self.max_score),
            at_most("mean KL", self.max_mean_kl),
            at_most("99.9 % KL", self.max_kl_999),
            at_least("top-1", self.min_top1),
            at_most("magnitude", self.max_magnitude),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// A figure held against its limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// `≤` or `≥`.
    pub bound: &'static str,
    /// The limit.
    #[serde(serialize_with = "float")]
    pub limit: f64,
    /// Which figure.
    pub name: &'static str,
    /// Whether it is within the limit. NaN never is.
    pub passed: bool,
    /// The figure.
    #[serde(serialize_with = "float")]
    pub value: f64,
}

impl Check {
    /// `value ≤ limit`
    #[must_use]
    pub fn at_most(name: &'static str, value: f64, limit: f64) -> Self {
        Check {
            bound: "≤",
            limit,
            name,
            passed: value <= limit,
            value,
        }
    }

    /// `value ≥ limit`
    #[must_use]
    pub fn at_least(name: &'static str, value: f64, limit: f64) -> Self {
        Check {
            bound: "≥",
            limit,
            name,
            passed: value >= limit,
            value,
        }
    }

    /// `name value ≤ limit`
    #[must_use]
    pub fn text(&self) -> String {
        let not = match (self.bound, self.passed) {
            (bound, true) => bound,
            ("≤", false) => ">",
            (_, false) => "<",
        };
        // NaN is neither below nor above.
        let relation = if self.value.is_nan() {
            "not within"
        } else {
            not
        };
        format!(
            "{} {} {relation} {}",
            self.name,
            super::report::show(self.value),
            super::report::show(self.limit)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_never_within_a_limit() {
        for check in [
            Check::at_most("x", f64::NAN, 1.0),
            Check::at_least("x", f64::NAN, 1.0),
        ] {
            assert!(!check.passed);
            assert_eq!(check.text(), "x NaN not within 1");
        }
    }

    #[test]
    fn a_tolerance_widens_every_gate_alike() {
        let default = Gates::for_numerics(Numerics::F32);
        let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
        let wide = Gates::with_tolerance(2e-3);
        assert_eq!(wide.max_relative, Some(2e-3));
        assert!(near(wide.max_relative_rms, 2e-3));
        assert!(near(wide.min_cosine, 1.0 - 1e-6 * 400.0));
        assert!(near(wide.max_mean_kl, 1e-6 * 400.0));
        assert!(wide.tie_margin == 4e-3 && wide.min_top1 == default.min_top1);
        // A narrower one asks for nothing that single precision does not give.
        let narrow = Gates::with_tolerance(1e-6);
        assert_eq!(narrow.max_relative, Some(1e-6));
        assert!(near(narrow.min_cosine, 0.999_999) && narrow.max_mean_kl == default.max_mean_kl);
    }

    #[test]
    fn zero_fails_a_gate_of_one() {
        assert!(!Check::at_least("exact_match_rate", 0.0, 1.0).passed);
        assert!(Check::at_least("exact_match_rate", 1.0, 1.0).passed);
    }
}
