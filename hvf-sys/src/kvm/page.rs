//! The page that a vCPU shares with the kernel, and the kick.
//!
//! The protocol. The kicker sets `immediate_exit` and then, if the vCPU's thread is running, signals it. The runner
//! says that it is running and then enters; the kernel looks at `immediate_exit` on its way in, and at signals after
//! that. So if the kicker saw no runner, the runner's entry sees the byte; and if it saw one, the signal ends the run,
//! or else the run has ended anyway and the byte ends the next. The byte is cleared only when a run was ended by it.
//! Each store comes before the load
//! behind it (SeqCst). `tests` walks through every interleaving.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering::SeqCst};

use super::abi::Run;
use crate::kick::{self, Thread};

/// The mapping. Invariant: `start` is the page-aligned start of `len` mapped bytes, at least a `Run`.
pub(super) struct RunPage {
    start: NonNull<u8>,
    len: usize,
    /// The thread that runs the vCPU at the moment, or zero.
    runner: AtomicI32,
}

// SAFETY: the mapping belongs to no thread. Other threads than the vCPU's touch `immediate_exit` alone, atomically.
unsafe impl Send for RunPage {}
// SAFETY: as above: through a shared reference there are only `kick` and reads by the vCPU's thread.
unsafe impl Sync for RunPage {}

impl RunPage {
    pub(super) fn map(vcpu: &OwnedFd, len: usize) -> io::Result<Arc<Self>> {
        if len < size_of::<Run>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Arc::new(Self {
            start,
            len,
            runner: AtomicI32::new(0),
        }))
    }

    /// The page. Only the vCPU's thread goes through it, outside of the kernel's run, and never to `immediate_exit`.
    pub(super) fn run(&self) -> *mut Run {
        self.start.as_ptr().cast()
    }

    /// The address `offset` bytes into the page, where `len` bytes from there on belong to it.
    pub(super) fn at(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(len).filter(|&end| end <= self.len)?;
        // SAFETY: the offset lies inside the mapping, or at its end.
        (end <= self.len).then(|| unsafe { self.start.as_ptr().add(offset) })
    }

    /// Says that this thread is about to run the vCPU.
    pub(super) fn enter(&self, thread: Thread) {
        self.runner.store(thread.number(), SeqCst);
    }

    /// Says that it no longer does.
    pub(super) fn leave(&self) {
        self.runner.store(0, SeqCst);
    }

    /// Takes the kicks so far: the run that they end has ended.
    pub(super) fn take_kicks(&self) -> bool {
        self.immediate_exit().swap(0, SeqCst) != 0
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: a byte of the mapping that this process touches atomically only; the kernel reads it only.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.run()).immediate_exit) }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; nobody has an address of it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Ends a vCPU's run from another thread.
#[derive(Clone)]
pub struct Kick(pub(super) Arc<RunPage>);

impl Kick {
    /// Ends the run that is in progress, or else the next one at its beginning. Never lost; several may merge.
    pub fn kick(&self) {
        if self.0.immediate_exit().swap(1, SeqCst) == 0 {
            let runner = self.0.runner.load(SeqCst);
            if runner != 0 {
                kick::interrupt(runner);
            }
        }
    }

    /// Whether a kick waits for the next run.
    pub fn is_pending(&self) -> bool {
        self.0.immediate_exit().load(SeqCst) != 0
    }
}

#[cfg(test)]
mod tests {
    //! The protocol as a model: every interleaving of a runner and two kickers.

    use std::collections::HashSet;

    /// Where the runner stands in its loop.
    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    enum Runner {
        /// About to say that it runs.
        Enters,
        /// About to make the call, in which the kernel looks at the byte.
        Calls,
        /// Past that: only a signal, or the guest itself, ends the run.
        InGuest,
        /// Back; about to say so. True where the run was ended by the byte or a signal.
        Leaves(bool),
        /// About to clear the byte.
        Clears,
        /// About to look at what the kicks are about.
        Looks,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    enum Kicker {
        /// About to publish what the kick is about.
        Posts,
        /// About to set the byte, which is the end of it where it was set.
        Sets,
        /// About to look for a runner.
        Asks,
        /// About to signal.
        Signals,
        Done,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    struct World {
        byte: bool,
        running: bool,
        posted: [bool; 2],
        seen: [bool; 2],
        runner: Runner,
        kickers: [Kicker; 2],
        /// How many times the guest is going to leave by itself.
        exits: u8,
    }

    /// The order of a kicker's steps after the post.
    type Order = [Kicker; 2];
    const SOUND: Order = [Kicker::Sets, Kicker::Asks];
    const UNSOUND: Order = [Kicker::Asks, Kicker::Sets];

    fn run(world: World) -> Vec<World> {
        let mut next = world;
        match world.runner {
            Runner::Enters => (next.running, next.runner) = (true, Runner::Calls),
            Runner::Calls if world.byte => next.runner = Runner::Leaves(true),
            Runner::Calls => next.runner = Runner::InGuest,
            Runner::InGuest if world.exits == 0 => return Vec::new(),
            Runner::InGuest => {
                (next.exits, next.runner) = (world.exits - 1, Runner::Leaves(false));
            }
            Runner::Leaves(ended) => {
                next.running = false;
                next.runner = if ended { Runner::Clears } else { Runner::Looks };
            }
            Runner::Clears => (next.byte, next.runner) = (false, Runner::Looks),
            Runner::Looks => (next.seen, next.runner) = (world.posted, Runner::Enters),
        }
        vec![next]
    }

    fn kick(world: World, n: usize, order: Order) -> Vec<World> {
        let mut next = world;
        let at = world.kickers[n];
        let after = match order.iter().position(|&step| step == at) {
            Some(0) => order[1],
            _ => Kicker::Done,
        };
        next.kickers[n] = match at {
            Kicker::Posts => {
                next.posted[n] = true;
                order[0]
            }
            Kicker::Sets if world.byte => Kicker::Done,
            Kicker::Sets => {
                next.byte = true;
                after
            }
            Kicker::Asks if world.running => Kicker::Signals,
            Kicker::Asks => after,
            Kicker::Signals => {
                // Anywhere else the empty handler takes it.
                if world.runner == Runner::InGuest {
                    next.runner = Runner::Leaves(true);
                }
                Kicker::Done
            }
            Kicker::Done => return Vec::new(),
        };
        vec![next]
    }

    /// Walks through every state. Whether one is final with something posted that the runner has not seen, and how
    /// many there are.
    fn loses(order: Order) -> (bool, usize) {
        let start = World {
            byte: false,
            running: false,
            posted: [false; 2],
            seen: [false; 2],
            runner: Runner::Enters,
            kickers: [Kicker::Posts; 2],
            exits: 2,
        };
        let (mut seen, mut open) = (HashSet::from([start]), vec![start]);
        let mut lost = false;
        while let Some(world) = open.pop() {
            let next = [run(world), kick(world, 0, order), kick(world, 1, order)].concat();
            lost |= next.is_empty() && world.seen != world.posted;
            open.extend(next.into_iter().filter(|&world| seen.insert(world)));
        }
        (lost, seen.len())
    }

    #[test]
    fn no_interleaving_loses_a_kick() {
        let (lost, states) = loses(SOUND);
        assert!(!lost, "one of {states} states");
        assert!(states > 300, "the model is not walked through: {states}");
    }

    #[test]
    fn the_model_finds_the_loss_in_a_protocol_that_has_one() {
        assert!(loses(UNSOUND).0);
    }
}
