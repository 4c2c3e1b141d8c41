//! Frames in parallel, taken in order: one producer (the caller), some workers, one consumer.
//!
//! Invariants: no more than [`Pipeline::buffers`] buffers ever exist, and they are reused; the
//! consumer sees every frame exactly once, in order; a panic or an error in any thread ends the
//! whole with that error; no thread outlives the pipeline.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::BundleError;

/// Most worker threads; more would only hold memory: each comes with two buffers of two frames.
const MAX_THREADS: usize = 16;

/// A frame under way, with the buffers that it travels in.
#[derive(Default)]
pub(crate) struct Slot {
    /// What the worker is given.
    pub(crate) input: Vec<u8>,
    output: Vec<u8>,
}

/// Takes the frames in order, on a thread of its own.
pub(crate) trait Consumer: Send + 'static {
    /// Takes frame `number`: what the worker was given, and what it made of it or why it could not.
    fn take(
        &mut self,
        number: usize,
        input: &[u8],
        outcome: Result<&[u8], String>,
    ) -> Result<(), BundleError>;
}

/// See the module docs.
pub(crate) struct Pipeline<C: Consumer> {
    running: Option<Running<C>>,
    buffers: usize,
    made: usize,
    sent: usize,
}

struct Running<C> {
    work: Sender<(usize, Slot)>,
    free: Receiver<Slot>,
    workers: Vec<JoinHandle<()>>,
    consumer: JoinHandle<Result<(C, usize), BundleError>>,
}

struct Done {
    number: usize,
    slot: Slot,
    outcome: Result<(), String>,
}

impl<C: Consumer> Pipeline<C> {
    /// Starts `threads` workers (at least one), each with a stage of its own from `new_stage`.
    pub(crate) fn start<S>(
        threads: usize,
        consumer: C,
        new_stage: impl Fn() -> Result<S, BundleError>,
    ) -> Result<Self, BundleError>
    where
        S: FnMut(usize, &[u8], &mut Vec<u8>) -> Result<(), String> + Send + 'static,
    {
        let threads = threads.clamp(1, MAX_THREADS);
        // One in each worker, as many waiting for one, one being filled, one being taken.
        let buffers = 2 * threads + 2;
        let (work, jobs) = bounded(buffers);
        let (done, results) = bounded(buffers);
        let (give_back, free) = bounded(buffers);
        let mut workers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let (stage, jobs, done) = (new_stage()?, jobs.clone(), done.clone());
            workers.push(spawn("bundle-frame", move || run_worker(stage, &jobs, &done))?);
        }
        drop(done);
        let consumer = spawn("bundle-order", move || run_consumer(consumer, &results, &give_back))?;
        let running = Running { work, free, workers, consumer };
        Ok(Self { running: Some(running), buffers, made: 0, sent: 0 })
    }

    /// An empty slot; waits while all are under way.
    pub(crate) fn slot(&mut self) -> Result<Slot, BundleError> {
        let Some(running) = &self.running else { return Err(BundleError::AlreadyFailed) };
        if let Ok(slot) = running.free.try_recv() {
            return Ok(slot);
        }
        if self.made < self.buffers {
            self.made += 1;
            return Ok(Slot::default());
        }
        match running.free.recv() {
            Ok(slot) => Ok(slot),
            Err(_) => Err(self.failure()),
        }
    }

    /// Sends a filled slot on.
    pub(crate) fn send(&mut self, slot: Slot) -> Result<(), BundleError> {
        let Some(running) = &self.running else { return Err(BundleError::AlreadyFailed) };
        match running.work.send((self.sent, slot)) {
            Ok(()) => {
                self.sent += 1;
                Ok(())
            }
            Err(_) => Err(self.failure()),
        }
    }

    /// Ends: every frame was taken, or the error that prevented it.
    pub(crate) fn finish(mut self) -> Result<C, BundleError> {
        self.close().unwrap_or(Err(BundleError::AlreadyFailed))
    }

    /// Why the threads ended before their time.
    fn failure(&mut self) -> BundleError {
        match self.close() {
            Some(Err(e)) => e,
            Some(Ok(_)) | None => BundleError::AlreadyFailed,
        }
    }

    /// Lets the threads run out of work and waits for them.
    fn close(&mut self) -> Option<Result<C, BundleError>> {
        let Running { work, free, workers, consumer } = self.running.take()?;
        drop(work);
        drop(free);
        let panics = workers.into_iter().filter_map(|worker| worker.join().err()).count();
        let panicked = BundleError::Panicked { doing: "working on frames" };
        Some(match consumer.join() {
            Err(_) => Err(panicked),
            Ok(Err(e)) => Err(e),
            Ok(Ok((_, taken))) if panics > 0 || taken != self.sent => Err(panicked),
            Ok(Ok((consumer, _))) => Ok(consumer),
        })
    }
}

impl<C: Consumer> Drop for Pipeline<C> {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, BundleError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| BundleError::Spawn { source })
}

/// Works until there is no more work, or nobody to take it.
fn run_worker<S>(mut stage: S, jobs: &Receiver<(usize, Slot)>, done: &Sender<Done>)
where
    S: FnMut(usize, &[u8], &mut Vec<u8>) -> Result<(), String>,
{
    for (number, mut slot) in jobs {
        // A frame that vanished in a panic would leave the consumer waiting for it forever.
        let work = AssertUnwindSafe(|| stage(number, &slot.input, &mut slot.output));
        let outcome = catch_unwind(work).unwrap_or_else(|_| Err("made its worker panic".into()));
        if done.send(Done { number, slot, outcome }).is_err() {
            return;
        }
    }
}

/// Hands the results to `consumer` in order; returns it and how many it took.
fn run_consumer<C: Consumer>(
    mut consumer: C,
    results: &Receiver<Done>,
    give_back: &Sender<Slot>,
) -> Result<(C, usize), BundleError> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for done in results {
        early.insert(done.number, done);
        while let Some(Done { mut slot, outcome, .. }) = early.remove(&next) {
            consumer.take(next, &slot.input, outcome.map(|()| slot.output.as_slice()))?;
            next += 1;
            slot.input.clear();
            // The producer may have finished; then nobody needs the slot.
            let _ = give_back.send(slot);
        }
    }
    Ok((consumer, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records what it is given; fails or panics where told.
    #[derive(Default)]
    struct Record {
        seen: Vec<(usize, Result<Vec<u8>, String>)>,
        fail_at: Option<usize>,
        panic_at: Option<usize>,
    }

    impl Consumer for Record {
        fn take(
            &mut self,
            number: usize,
            _input: &[u8],
            outcome: Result<&[u8], String>,
        ) -> Result<(), BundleError> {
            assert_ne!(Some(number), self.panic_at, "as told");
            if Some(number) == self.fail_at {
                return Err(BundleError::TooLarge);
            }
            self.seen.push((number, outcome.map(<[u8]>::to_vec)));
            Ok(())
        }
    }

    fn doubling(_: usize, input: &[u8], output: &mut Vec<u8>) -> Result<(), String> {
        match input {
            b"panic" => panic!("as told"),
            b"bad" => Err("bad".to_owned()),
            _ => {
                *output = [input, input].concat();
                Ok(())
            }
        }
    }

    fn feed(pipeline: &mut Pipeline<Record>, input: &[u8]) -> Result<(), BundleError> {
        let mut slot = pipeline.slot()?;
        assert!(slot.input.is_empty(), "a reused buffer was not cleared");
        slot.input.extend_from_slice(input);
        pipeline.send(slot)
    }

    fn start(threads: usize, record: Record) -> Pipeline<Record> {
        Pipeline::start(threads, record, || Ok(doubling)).unwrap()
    }

    /// Catches lost, doubled or reordered frames, and memory that grows with their number.
    #[test]
    fn frames_are_taken_once_in_order_with_a_fixed_number_of_buffers() {
        for threads in [0, 1, 3] {
            let mut pipeline = start(threads, Record::default());
            for n in 0..500u32 {
                feed(&mut pipeline, &n.to_le_bytes()).unwrap();
            }
            assert!(pipeline.made <= 2 * threads.max(1) + 2, "{} buffers", pipeline.made);
            let seen = pipeline.finish().unwrap().seen;
            assert_eq!(seen.len(), 500);
            for (n, (number, output)) in seen.into_iter().enumerate() {
                assert_eq!(number, n);
                let n = u32::try_from(n).unwrap().to_le_bytes();
                assert_eq!(output.unwrap(), [n, n].concat());
            }
        }
    }

    /// Catches a panic in a worker that leaves everybody waiting for its frame.
    #[test]
    fn a_bad_or_panicking_frame_is_reported_in_its_place() {
        let mut pipeline = start(2, Record::default());
        for input in [&b"a"[..], b"bad", b"panic", b"b"] {
            feed(&mut pipeline, input).unwrap();
        }
        let seen = pipeline.finish().unwrap().seen;
        let outcomes: Vec<_> = seen.into_iter().map(|(_, outcome)| outcome).collect();
        assert_eq!(outcomes[0], Ok(b"aa".to_vec()));
        assert_eq!(outcomes[1], Err("bad".to_owned()));
        assert!(outcomes[2].as_ref().unwrap_err().contains("panic"));
        assert_eq!(outcomes[3], Ok(b"bb".to_vec()));
    }

    /// Catches a producer that waits forever for buffers that a dead consumer holds.
    #[test]
    fn a_failing_or_panicking_consumer_ends_the_producer_with_its_error() {
        let failing = Record { fail_at: Some(3), ..Record::default() };
        let panicking = Record { panic_at: Some(3), ..Record::default() };
        for (record, expected) in [(failing, "larger than"), (panicking, "panicked")] {
            let mut pipeline = start(2, record);
            let error = (0..100).find_map(|_| feed(&mut pipeline, b"x").err()).unwrap();
            assert!(error.to_string().contains(expected), "{error}");
            let again = feed(&mut pipeline, b"x").unwrap_err();
            assert!(matches!(again, BundleError::AlreadyFailed), "{again}");
            assert!(pipeline.finish().is_err());
        }
    }

    /// Catches threads that outlive their pipeline.
    #[test]
    fn dropping_a_pipeline_ends_its_threads() {
        let mut pipeline = start(2, Record::default());
        feed(&mut pipeline, b"x").unwrap();
        drop(pipeline);
    }
}
