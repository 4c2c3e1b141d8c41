//! The progress bar on stderr, and the question that must not be drawn over.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexo_memory_snapshot::ports::{Progress, Step};

const BYTES: &str = "{msg:<24} {bar:28} {bytes}/{total_bytes} {bytes_per_sec}";
const UNKNOWN: &str = "{msg:<24} {spinner}";

/// A bar for whatever step is going on.
pub(crate) struct Bar {
    bar: ProgressBar,
    step: Mutex<Option<(Step, bool)>>,
}

impl Bar {
    /// A bar, where stderr is a terminal and one is wanted.
    pub(crate) fn new(wanted: bool) -> Option<Arc<Self>> {
        (wanted && io::stderr().is_terminal())
            .then(|| Arc::new(Self::on(ProgressDrawTarget::stderr())))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        Self { bar: ProgressBar::with_draw_target(None, target), step: Mutex::new(None) }
    }

    /// Takes the bar off the screen, until the next step.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Progress for Bar {
    fn advance(&self, step: Step, done: u64, total: u64) {
        let shown = Some((step, total > 0));
        {
            let mut now = self.step.lock().unwrap_or_else(PoisonError::into_inner);
            if *now != shown {
                *now = shown;
                self.bar.reset();
                self.bar.set_message(step.as_str());
                let template = if total > 0 { BYTES } else { UNKNOWN };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    self.bar.set_style(style);
                }
            }
        }
        self.bar.set_length(total.max(done));
        self.bar.set_position(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse_and_the_position_follows() {
        for template in [BYTES, UNKNOWN] {
            ProgressStyle::with_template(template).unwrap();
        }
        let bar = Bar::on(ProgressDrawTarget::hidden());
        bar.advance(Step::Seal, 3, 10);
        assert_eq!((bar.bar.position(), bar.bar.length()), (3, Some(10)));
        bar.advance(Step::Verify, 0, 0);
        assert_eq!(bar.bar.message(), "verifying");
    }
}
