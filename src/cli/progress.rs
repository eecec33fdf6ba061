//! A progress bar on standard error: only on a terminal, only for what takes longer than a second.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use distill_convert::convert::{Progress, Step, Target};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long a step runs before its bar appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows the steps of a conversion.
pub(crate) struct Bar {
    enabled: bool,
    current: Mutex<Option<(Instant, ProgressBar)>>,
}

impl Bar {
    /// A bar, unless the answer is for a machine or nobody looks.
    pub(crate) fn new(json: bool) -> Self {
        Bar {
            enabled: !json && std::io::stderr().is_terminal(),
            current: Mutex::new(None),
        }
    }
}

impl Progress for Bar {
    fn begin(&self, step: Step, total: u64) {
        if !self.enabled {
            return;
        }
        let (label, template) = match step {
            Step::Write(Target::Coreml) => (
                "writing Core ML",
                "{msg} {wide_bar} {bytes}/{total_bytes} {eta}",
            ),
            Step::Write(Target::Onnx) => (
                "writing ONNX",
                "{msg} {wide_bar} {bytes}/{total_bytes} {eta}",
            ),
            Step::Verify => ("verifying", "{msg} {wide_bar} {pos}/{len} {eta}"),
        };
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        bar.set_style(style);
        bar.set_message(label);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), bar));
    }

    fn advance(&self, units: u64) {
        if !self.enabled {
            return;
        }
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((started, bar)) = current.as_ref() {
            if bar.is_hidden() && started.elapsed() > PATIENCE {
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            bar.inc(units);
        }
    }

    fn end(&self) {
        if let Some((_, bar)) = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
    }
}

/// A bar without an end, for bytes whose number is not known beforehand.
#[cfg(feature = "fetch")]
pub(crate) fn spinner(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("fetching {spinner} {bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
