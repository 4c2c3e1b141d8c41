//! The courier: a thread that empties an outbox through a transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use snapshot_core::{PortError, error_chain};

use super::stream::{Head, Stream};
use super::{Outbox, OutboxError, StreamKey};
use crate::transport::{Fault, Transport};

/// Decides what dead processes left prepared.
pub trait Settler: Send + Sync {
    /// Settles a stream by [`Stream::settle`], under the lock that its writers hold; does nothing
    /// while somebody else holds that.
    ///
    /// # Errors
    /// Whatever keeps it from looking; it is asked again later.
    fn settle(&self, key: &StreamKey, stream: &Stream) -> Result<(), PortError>;
}

/// How a courier goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CourierOptions {
    /// The pause after a first failure; each further one doubles it.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How often it looks for what other processes left, where nobody wakes it.
    pub look_every: Duration,
}

/// A courier. Dropping it waits for the message under way, and stops.
#[derive(Debug)]
pub struct Courier {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    outbox: Outbox,
    ended: Arc<AtomicBool>,
}

/// What became of what waited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Messages that arrived.
    pub sent: u64,
    /// Records that still wait.
    pub left: u64,
    /// What stopped it, in one line.
    pub error: Option<String>,
}

enum Order {
    Wake,
    Flush(Sender<Flushed>),
}

/// The courier's own side.
struct Work {
    outbox: Outbox,
    transport: Arc<dyn Transport>,
    settler: Arc<dyn Settler>,
    options: CourierOptions,
    /// Nobody wants more than the message under way.
    ended: Arc<AtomicBool>,
}

/// What stopped a stream.
enum Trouble {
    Stream(String),
    Transport(String),
}

impl Default for CourierOptions {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            look_every: Duration::from_secs(30),
        }
    }
}

impl Courier {
    /// Starts it; what waits already is sent at once.
    #[must_use]
    pub fn spawn(
        outbox: Outbox,
        transport: Arc<dyn Transport>,
        settler: Arc<dyn Settler>,
        options: CourierOptions,
    ) -> Self {
        let (orders, taken) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let (outbox_of_work, told) = (outbox.clone(), Arc::clone(&ended));
        let work = Work { outbox: outbox_of_work, transport, settler, options, ended: told };
        let thread = thread::Builder::new().name("outbox".to_owned());
        let thread = match thread.spawn(move || work.run(&taken)) {
            Ok(thread) => Some(thread),
            Err(e) => {
                // Nothing is lost: it waits for a process that can.
                tracing::error!(error = %error_chain(&e), "no thread to deliver events");
                None
            }
        };
        Self { orders: Some(orders), thread, outbox, ended }
    }

    /// Something waits.
    pub fn wake(&self) {
        self.order(Order::Wake);
    }

    /// Sends what waits; comes back once all of it has arrived, or one did not, or at `until`.
    #[must_use]
    pub fn flush(&self, until: Instant) -> Flushed {
        let (tell, told) = mpsc::channel();
        self.order(Order::Flush(tell));
        told.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
            let left = self.outbox.depth().unwrap_or_default();
            Flushed { sent: 0, left, error: Some("it took too long".to_owned()) }
        })
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A thread that is gone leaves what waits for another.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(&self, orders: &Receiver<Order>) {
        let (mut next, mut failures) = (Instant::now(), 0_u32);
        loop {
            let order = orders.recv_timeout(next.saturating_duration_since(Instant::now()));
            let order = match order {
                Err(RecvTimeoutError::Disconnected) => return,
                // A pause after a failure is not cut short by what else is to be sent.
                Ok(Order::Wake) if failures > 0 && Instant::now() < next => continue,
                order => order.ok(),
            };
            let flushed = self.round();
            failures = if flushed.error.is_some() { failures.saturating_add(1) } else { 0 };
            let pause = match failures {
                0 => self.options.look_every,
                n => self.pause_after(n),
            };
            next = Instant::now() + pause;
            if let Some(Order::Flush(tell)) = order {
                // Who asked may have stopped waiting.
                let _ = tell.send(flushed);
            }
        }
    }

    fn pause_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let pause = self.options.first_pause.saturating_mul(1 << doublings);
        pause.min(self.options.longest_pause)
    }

    /// Goes through all streams once; stops where the other side is not there, which would be so for
    /// the next one too.
    fn round(&self) -> Flushed {
        let mut flushed = Flushed::default();
        let keys = self.outbox.streams().unwrap_or_else(|e| {
            flushed.error = Some(error_chain(&e));
            Vec::new()
        });
        for key in &keys {
            match self.empty(key, &mut flushed.sent) {
                Ok(()) => {}
                // Another stream may well be readable, and its subject not denied.
                Err(Trouble::Stream(why)) => flushed.error = Some(why),
                Err(Trouble::Transport(why)) => {
                    flushed.error = Some(why);
                    break;
                }
            }
        }
        if let Some(error) = &flushed.error {
            tracing::warn!(error, "events wait for their delivery");
        }
        flushed.left = self.outbox.depth().unwrap_or_default();
        flushed
    }

    /// Sends what waits in one stream, in order.
    fn empty(&self, key: &StreamKey, sent: &mut u64) -> Result<(), Trouble> {
        let fail = |e: OutboxError| Trouble::Stream(error_chain(&e));
        let stream = self.outbox.stream(key).map_err(fail)?;
        // Another process is at it.
        let Some(_alone) = stream.lock().map_err(fail)? else { return Ok(()) };
        let mut settled = false;
        while !self.ended.load(Ordering::SeqCst)
            && let Some(head) = stream.head().map_err(fail)?
        {
            let ready = match head {
                Head::Ready(ready) => ready,
                Head::Prepared if settled => return Ok(()),
                Head::Prepared => {
                    let settled_now = self.settler.settle(key, &stream);
                    settled_now.map_err(|e| Trouble::Stream(error_chain(&e)))?;
                    settled = true;
                    continue;
                }
            };
            match self.transport.send(&ready.message) {
                Ok(()) => {
                    ready.sent().map_err(fail)?;
                    *sent += 1;
                }
                Err(e) => match e.fault {
                    Fault::Refused => {
                        tracing::error!(error = %error_chain(&e), "an event is refused for good");
                        ready.refused().map_err(fail)?;
                    }
                    Fault::Denied => return Err(Trouble::Stream(error_chain(&e))),
                    Fault::Unreachable => return Err(Trouble::Transport(error_chain(&e))),
                },
            }
        }
        Ok(())
    }
}
