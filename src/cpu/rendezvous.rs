//! How vCPUs that run in parallel stand still for one another.
//!
//! A vCPU is inside while it executes guest code. One that must be alone (a locked operation that the host cannot do
//! atomically, or a page that becomes code) asks the others through their attention words; they wait at their next
//! block edge. A vCPU outside (halted, or in the run loop) counts as standing still, and waits on its way in.
//!
//! Pages that became code are remembered in a short list: a vCPU that stood still drops its rights to write to them,
//! which is the acknowledgement that the map of code pages asks for.
//!
//! Lock rank: this mutex is taken with no other held, and nothing is called while it is held.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hvf_sys::cpu::Attention;

use super::core::Core;

const RECENT: u64 = 64;

/// All vCPUs of one machine.
pub struct Group {
    inside: Mutex<Inside>,
    changed: Condvar,
}

struct Inside {
    members: Vec<Arc<Member>>,
    /// How many execute guest code.
    running: usize,
    /// Somebody is alone, or waits to be.
    alone: bool,
    /// How many pages have become code so far.
    code_pages: u64,
    /// The last of them, as a ring.
    recent: [u64; RECENT as usize],
}

/// One vCPU in its group.
pub struct Member {
    /// The word that this vCPU polls.
    pub attention: Attention,
    group: Arc<Group>,
}

/// Being alone; it ends when this is dropped.
pub struct Alone<'a>(&'a Group);

impl Default for Group {
    fn default() -> Self {
        let inside = Inside {
            members: Vec::new(),
            running: 0,
            alone: false,
            code_pages: 0,
            recent: [0; RECENT as usize],
        };
        Self {
            inside: Mutex::new(inside),
            changed: Condvar::new(),
        }
    }
}

impl Group {
    /// Adds a vCPU.
    pub fn join(self: &Arc<Self>) -> Arc<Member> {
        let member = Arc::new(Member {
            attention: Attention::default(),
            group: self.clone(),
        });
        self.lock().members.push(member.clone());
        member
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inside: MutexGuard<'a, Inside>) -> MutexGuard<'a, Inside> {
        self.changed
            .wait(inside)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps aside while somebody else is alone. The caller is counted as running before and after.
    fn give_way<'a>(&self, mut inside: MutexGuard<'a, Inside>) -> MutexGuard<'a, Inside> {
        if inside.alone {
            inside.running -= 1;
            self.changed.notify_all();
            while inside.alone {
                inside = self.wait(inside);
            }
            inside.running += 1;
        }
        inside
    }
}

impl Member {
    /// Begins to execute guest code.
    pub fn enter(&self, core: &mut Core) {
        let mut inside = self.group.lock();
        while inside.alone {
            inside = self.group.wait(inside);
        }
        inside.running += 1;
        inside.acknowledge(core);
    }

    /// Ends it.
    pub fn leave(&self) {
        let mut inside = self.group.lock();
        inside.running -= 1;
        if inside.alone {
            self.group.changed.notify_all();
        }
    }

    /// Stands still for whoever asked, at a block edge.
    pub fn stand_still(&self, core: &mut Core) {
        self.attention.clear(Attention::RENDEZVOUS);
        self.group.give_way(self.group.lock()).acknowledge(core);
    }

    /// Waits until no other vCPU executes guest code, and keeps it so.
    pub fn stand_alone(&self, core: &mut Core) -> Alone<'_> {
        let mut inside = self.group.give_way(self.group.lock());
        inside.acknowledge(core);
        inside.alone = true;
        if inside.running > 1 {
            for member in inside
                .members
                .iter()
                .filter(|m| !std::ptr::eq(m.as_ref(), self))
            {
                member.attention.raise(Attention::RENDEZVOUS);
            }
            while inside.running > 1 {
                inside = self.group.wait(inside);
            }
        }
        Alone(&self.group)
    }

    /// Takes every vCPU's right to write unseen to a page, `len` bytes of which are about to be decoded.
    pub fn make_code(&self, core: &mut Core, gpa: u64, len: u64) {
        let alone = self.stand_alone(core);
        let mut inside = self.group.lock();
        let at = (inside.code_pages % RECENT) as usize;
        inside.recent[at] = gpa;
        inside.code_pages += 1;
        inside.acknowledge(core);
        drop(inside);
        core.tlb.ram().code_settled(gpa, len);
        drop(alone);
    }
}

impl Inside {
    /// Makes the caller's TLB forget its rights to write to pages that have become code since it last looked.
    fn acknowledge(&self, core: &mut Core) {
        if self.code_pages - core.code_pages_seen > RECENT {
            core.tlb.drop_writes();
        } else {
            for n in core.code_pages_seen..self.code_pages {
                core.tlb.drop_writes_to(self.recent[(n % RECENT) as usize]);
            }
        }
        core.code_pages_seen = self.code_pages;
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.lock().alone = false;
        self.0.changed.notify_all();
    }
}
