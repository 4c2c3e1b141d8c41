//! The stores of a restore, a few at a time.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Most threads; each holds a frame, a buffer and SQLite's caches.
const MAX_THREADS: usize = 4;

/// Runs `work` for every number below `count`, on as many threads as there are cores, and gives the
/// results in order; where some fail, the first of their errors.
pub(super) fn each<T: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let next = Mutex::new(0..count);
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let mut done = Vec::new();
        while let Some(number) = take() {
            let result = work(number);
            if result.is_err() {
                // Whoever asks next finds nothing left to do.
                *next.lock().unwrap_or_else(PoisonError::into_inner) = 0..0;
            }
            done.push((number, result));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        let threads = cores.min(count).min(MAX_THREADS);
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for helper in helpers {
            match helper.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: results in the order of finishing, lost or doubled numbers, a lost error.
    #[test]
    fn results_come_in_order_and_errors_come_through() {
        let all = each(50, |n| Ok::<_, ()>(n * 2)).unwrap();
        assert_eq!(all, (0..50).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(each(0, Ok::<_, ()>).unwrap(), Vec::<usize>::new());
        assert_eq!(each(50, |n| if n == 7 { Err(n) } else { Ok(n) }), Err(7));
    }
}
