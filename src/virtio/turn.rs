//! A worker's turn at a queue: all that a model sees of a ring.

use std::sync::Arc;

use hvf_sys::ram::Ram;

use super::Chain;
use super::ring::{Queue, Request, Used};
use super::workers::{Live, Shared};

/// How many requests of one queue a thread serves before it looks at the others.
const REQUESTS: usize = 32;

/// A worker's turn at a queue. It ends after some requests, and early when a reset waits, the function may not access
/// memory or the ring makes no sense: then no request comes any more.
pub struct Turn<'a> {
    shared: &'a Shared,
    live: &'a Arc<Live>,
    index: u16,
    queue: &'a Queue,
    served: usize,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        live: &'a Arc<Live>,
        index: u16,
        queue: &'a Queue,
    ) -> Self {
        Self {
            shared,
            live,
            index,
            queue,
            served: 0,
        }
    }

    /// The queue's number.
    pub fn queue(&self) -> u16 {
        self.index
    }

    /// How many requests fit into the queue.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Where the buffers are.
    pub fn ram(&self) -> &'a Ram {
        &self.live.ram
    }

    /// The features that driver and device agreed on.
    pub fn features(&self) -> u64 {
        self.live.features
    }

    /// Takes the next request. Where there is none, there is another turn when the driver has sent one.
    pub fn take(&mut self) -> Option<Request> {
        if self.served >= REQUESTS {
            self.shared.mark(self.index);
            return None;
        }
        if !self.shared.current(self.live) || !self.live.may_work() {
            return None;
        }
        self.queue.take().unwrap_or_else(|broken| {
            self.live.signal.broken(broken);
            None
        })
    }

    /// The last `count` requests that were taken, and not given back, wait again. Only for models that let one worker
    /// at a time take from the queue.
    pub fn put_back(&mut self, count: u16) {
        self.queue.put_back(count);
    }

    /// Returns requests that have been served. The driver sees all of them or none.
    pub fn give(&mut self, requests: &[Used]) {
        self.served += requests.len();
        match self.queue.give(requests) {
            Ok(false) => {}
            Ok(true) => self.live.signal.used(self.index),
            Err(broken) => self.live.signal.broken(broken),
        }
    }

    /// Serves requests one by one, as many workers at once as there are requests. `serve` says how many bytes it has
    /// written to the start of the writable buffers.
    pub fn each(&mut self, mut serve: impl FnMut(&Chain) -> u32) {
        while let Some(request) = self.take() {
            if request.more {
                self.shared.mark(self.index);
            }
            let written = serve(&request.chain);
            self.give(&[request.used(written)]);
        }
    }

    /// The device's configuration has changed: the driver is told.
    pub fn config_changed(&self) {
        self.live.signal.config_changed();
    }
}
