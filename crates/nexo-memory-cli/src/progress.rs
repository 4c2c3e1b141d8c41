//! The progress bar on stderr. What is over before a person would look never draws one.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexo_memory_snapshot::ports::{Progress, Step};

const BYTES: &str = "{msg:<24} {bar:28} {bytes}/{total_bytes} {bytes_per_sec}";
const UNKNOWN: &str = "{msg:<24} {spinner}";
/// How long an operation runs before its bar is drawn.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bar for whatever step is going on.
pub(crate) struct Bar {
    bar: ProgressBar,
    patience: Duration,
    now: Mutex<Option<Now>>,
}

/// The operation that is going on.
struct Now {
    since: Instant,
    /// The step drawn, and whether its size was known.
    drawn: Option<(Step, bool)>,
}

impl Bar {
    /// A bar, where stderr is a terminal and one is wanted.
    pub(crate) fn new(wanted: bool) -> Option<Arc<Self>> {
        let target = ProgressDrawTarget::stderr;
        (wanted && io::stderr().is_terminal()).then(|| Arc::new(Self::on(target(), PATIENCE)))
    }

    fn on(target: ProgressDrawTarget, patience: Duration) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        Self { bar, patience, now: Mutex::new(None) }
    }

    /// Takes the bar off the screen, until the next operation.
    pub(crate) fn clear(&self) {
        if self.now.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.bar.finish_and_clear();
        }
    }

    /// Draws the right kind of bar for `step`; false while it is too early for any.
    fn prepare(&self, step: Step, sized: bool) -> bool {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.get_or_insert_with(|| Now { since: Instant::now(), drawn: None });
        if !sized && now.drawn == Some((step, true)) {
            // One who does not know how much there is, beside one who does.
            return false;
        }
        if now.drawn.is_none() && now.since.elapsed() < self.patience {
            return false;
        }
        if now.drawn != Some((step, sized)) {
            now.drawn = Some((step, sized));
            // Style and message first: each later call may draw.
            if let Ok(style) = ProgressStyle::with_template(if sized { BYTES } else { UNKNOWN }) {
                self.bar.set_style(style);
            }
            self.bar.set_message(step.as_str());
            self.bar.reset();
        }
        true
    }
}

impl Progress for Bar {
    fn advance(&self, step: Step, done: u64, total: u64) {
        if self.prepare(step, total > 0) {
            self.bar.set_length(total.max(done));
            self.bar.set_position(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn templates_parse_and_the_position_follows() {
        for template in [BYTES, UNKNOWN] {
            ProgressStyle::with_template(template).unwrap();
        }
        let bar = Bar::on(ProgressDrawTarget::hidden(), Duration::ZERO);
        bar.advance(Step::Seal, 3, 10);
        assert_eq!((bar.bar.position(), bar.bar.length()), (3, Some(10)));
        bar.advance(Step::Verify, 0, 0);
        assert_eq!(bar.bar.message(), "verifying");
    }

    /// Would catch: a bar that nobody can read at this width, or that flickers between two kinds where two report.
    #[test]
    fn a_bar_says_what_how_much_and_how_fast() {
        let term = InMemoryTerm::new(3, 80);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let bar = Bar::on(target, Duration::ZERO);
        bar.advance(Step::Wait, 0, 0);
        bar.bar.tick();
        let waiting = term.contents();
        assert!(waiting.starts_with("waiting "), "{waiting:?}");
        bar.advance(Step::Seal, 3 << 20, 10 << 20);
        bar.advance(Step::Seal, 1, 0);
        bar.bar.tick();
        let sealing = term.contents();
        let start = "sealing                  ████████░░░░░░░░░░░░░░░░░░░░ 3.00 MiB/10.00 MiB ";
        assert!(sealing.starts_with(start), "{sealing:?}");
        bar.clear();
        assert_eq!(term.contents(), "");
    }

    #[test]
    fn what_is_over_soon_draws_nothing() {
        let bar = Bar::on(ProgressDrawTarget::hidden(), Duration::MAX);
        bar.advance(Step::Seal, 3, 10);
        bar.clear();
        assert_eq!((bar.bar.position(), bar.bar.message().as_str()), (0, ""));
    }
}
