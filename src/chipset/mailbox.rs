//! Where interrupts for a vCPU are left by other threads: atomics only, so that nobody waits for a CPU.
//!
//! The LAPIC proper belongs to its vCPU's thread. Senders (I/O APIC, MSI, other LAPICs) see this: what the LAPIC
//! publishes of itself, so that destinations are resolved without a lock (SDM volume 3, 11.6.2), and a box of bits
//! that the owner empties with `collect`. The box's flag goes up after its bits and comes down before they are
//! taken, and whoever raises it wakes the owner: so no post is ever lost, and none wakes twice.
//!
//! A post that the LAPIC does not accept returns false to the sender: a level-triggered pin then keeps its Remote
//! IRR clear. Posts that were accepted and that the owner must drop after all come back as `lapic::Work::released`.
//! There is no system management mode: an SMI is accepted and forgotten. Locks: none.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

/// A set of interrupt vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors(pub [u64; 4]);

impl Vectors {
    /// Adds `vector`.
    pub fn set(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] |= 1 << (vector & 63);
    }

    /// Removes `vector`.
    pub fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] &= !(1 << (vector & 63));
    }

    /// Whether `vector` is in the set.
    pub fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0
    }

    /// The greatest vector of the set.
    pub fn highest(&self) -> Option<u8> {
        (0..4).rev().find_map(|i| {
            let bit = self.0[usize::from(i)].checked_ilog2()?;
            Some(i << 6 | bit as u8)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Vectors that are in either set.
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Vectors that are in both sets.
    pub fn both(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Vectors of this set that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// Word `i` of the eight 32-bit words that LAPIC registers show.
    pub fn dword(&self, i: u8) -> u32 {
        (self.0[usize::from(i >> 1 & 3)] >> (32 * u32::from(i & 1))) as u32
    }

    /// Every vector of the set, the greatest first.
    pub fn iter(mut self) -> impl Iterator<Item = u8> {
        std::iter::from_fn(move || {
            let vector = self.highest()?;
            self.clear(vector);
            Some(vector)
        })
    }
}

/// How a message is delivered (SDM volume 3, 11.6.1, ICR bits 10:8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The vector, to every LAPIC addressed.
    Fixed,
    /// The vector, to the one LAPIC addressed that runs at the lowest priority.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT: wait for a start-up message.
    Init,
    /// Start-up at page `vector`.
    StartUp,
    /// An interrupt whose vector the 8259 pair tells.
    ExtInt,
}

impl Delivery {
    /// The mode that three bits of a register name; two values are reserved or not for every register.
    pub fn decode(bits: u32) -> Option<Self> {
        Some(match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => return None,
        })
    }
}

/// Whom a message addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The LAPIC with this id.
    Physical(u32),
    /// The LAPICs whose logical destination matches.
    Logical(u32),
    /// All LAPICs.
    Everyone,
    /// All but the sender.
    EveryoneElse,
    /// The sender.
    Oneself,
}

impl Destination {
    /// A destination as I/O APIC, MSI and xAPIC have it: eight bits, where all ones is everyone.
    pub fn short(logical: bool, id: u8) -> Self {
        match (id, logical) {
            (0xff, _) => Self::Everyone,
            (_, true) => Self::Logical(id.into()),
            (_, false) => Self::Physical(id.into()),
        }
    }

    /// A destination as the x2APIC has it: 32 bits, where all ones is everyone.
    pub fn long(logical: bool, id: u32) -> Self {
        match (id, logical) {
            (u32::MAX, _) => Self::Everyone,
            (_, true) => Self::Logical(id),
            (_, false) => Self::Physical(id),
        }
    }
}

/// An interrupt message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whom it addresses.
    pub to: Destination,
    /// How it is delivered.
    pub delivery: Delivery,
    /// The vector, or the start-up page.
    pub vector: u8,
    /// Level triggered: the receiver's EOI goes back to the I/O APIC.
    pub level: bool,
}

/// How a LAPIC is switched (IA32_APIC_BASE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not there at all.
    Disabled,
    /// Registers in a page of physical memory, ids of eight bits.
    Xapic,
    /// Registers are MSRs, ids of 32 bits.
    X2apic,
}

/// What a LAPIC publishes of itself for senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The APIC id.
    pub id: u8,
    /// The upper byte of the LDR in xAPIC mode.
    pub logical: u8,
    /// The upper four bits of the DFR: 15 is the flat model, 0 the cluster model.
    pub model: u8,
    /// How it is switched.
    pub mode: Mode,
    /// Software-enabled: takes fixed and lowest-priority interrupts.
    pub accepting: bool,
    /// The processor priority register.
    pub priority: u8,
}

impl Identity {
    fn pack(self) -> u64 {
        let mode = self.mode as u64;
        u64::from(self.id)
            | u64::from(self.logical) << 8
            | u64::from(self.model) << 16
            | u64::from(self.priority) << 24
            | mode << 32
            | u64::from(self.accepting) << 40
    }

    fn unpack(word: u64) -> Self {
        Self {
            id: word as u8,
            logical: (word >> 8) as u8,
            model: (word >> 16) as u8,
            mode: match word >> 32 & 3 {
                0 => Mode::Disabled,
                1 => Mode::Xapic,
                _ => Mode::X2apic,
            },
            accepting: word >> 40 & 1 != 0,
            priority: (word >> 24) as u8,
        }
    }

    /// The logical id that an x2APIC derives from its id (SDM volume 3, 11.12.10.2).
    pub fn x2apic_logical(id: u8) -> u32 {
        u32::from(id >> 4) << 16 | 1 << (id & 15)
    }

    /// Whether a message to `to`, sent by the LAPIC with index `from`, is for the LAPIC with index `index`.
    fn is_addressed(&self, index: usize, from: Option<usize>, to: Destination) -> bool {
        if self.mode == Mode::Disabled {
            return false;
        }
        match to {
            Destination::Everyone => true,
            Destination::EveryoneElse => from != Some(index),
            Destination::Oneself => from == Some(index),
            Destination::Physical(id) => id == u32::from(self.id),
            Destination::Logical(mask) if self.mode == Mode::X2apic => {
                let logical = Self::x2apic_logical(self.id);
                mask >> 16 == logical >> 16 && mask & logical & 0xffff != 0
            }
            Destination::Logical(mask) => self.is_in_group(mask as u8),
        }
    }

    /// The logical models of xAPIC mode (SDM volume 3, 11.6.2.2).
    fn is_in_group(&self, mask: u8) -> bool {
        match self.model {
            0xf => self.logical & mask != 0,
            0 => {
                let cluster = mask >> 4;
                (cluster == 0xf || cluster == self.logical >> 4) && self.logical & mask & 0xf != 0
            }
            _ => false,
        }
    }
}

/// What the owner found in the box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Vectors to request.
    pub irr: Vectors,
    /// Which of them are level triggered.
    pub level: Vectors,
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// An INIT; a start-up in the same mail came after it.
    pub init: bool,
    /// A start-up and its page.
    pub start_up: Option<u8>,
    /// A message that the 8259 pair has a vector.
    pub ext_int: bool,
    /// Rising edges of LINT0 and LINT1.
    pub lint_edges: [bool; 2],
    /// A message with a vector below 16 came and was refused.
    pub illegal_vector: bool,
}

/// One vCPU's box.
#[derive(Default)]
pub struct Mailbox {
    identity: AtomicU64,
    irr: [AtomicU64; 4],
    level: [AtomicU64; 4],
    work: AtomicU32,
    lints: AtomicU32,
    full: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Mailbox {
    /// Says how the owner is woken. Only the first call counts: a vCPU has one owner in its life.
    pub fn on_post(&self, wake: impl Fn() + Send + Sync + 'static) {
        // A second owner would be a second thread of the same vCPU, which the machine never starts.
        let _ = self.wake.set(Box::new(wake));
    }

    /// What the LAPIC last said of itself.
    pub fn identity(&self) -> Identity {
        Identity::unpack(self.identity.load(SeqCst))
    }

    /// The owner says what it is now. True where senders may find it where they did not before.
    pub fn publish(&self, identity: Identity) -> bool {
        let old = self.identity.swap(identity.pack(), SeqCst);
        let priority = Identity::unpack(old).priority;
        old != Identity {
            priority,
            ..identity
        }
        .pack()
    }

    /// Drives LINT0 or LINT1.
    pub fn set_lint(&self, pin: usize, level: bool) {
        let bit = 1 << (pin & 1);
        if !level {
            self.lints.fetch_and(!bit, SeqCst);
        } else if self.lints.fetch_or(bit, SeqCst) & bit == 0 {
            self.work.fetch_or(LINT_EDGE << (pin & 1), SeqCst);
            self.raise();
        }
    }

    /// The level of LINT0 or LINT1.
    pub fn lint(&self, pin: usize) -> bool {
        self.lints.load(SeqCst) >> (pin & 1) & 1 != 0
    }

    /// Wakes the owner although nothing was posted: it has to look at something else.
    pub fn nudge(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// The owner takes everything out. `None` where nothing came since the last time.
    pub fn collect(&self) -> Option<Mail> {
        if !self.full.load(SeqCst) || !self.full.swap(false, SeqCst) {
            return None;
        }
        let irr = Vectors(std::array::from_fn(|i| self.irr[i].swap(0, SeqCst)));
        let level = Vectors(std::array::from_fn(|i| self.level[i].load(SeqCst)));
        let work = self.work.swap(0, SeqCst);
        Some(Mail {
            irr,
            level: level.both(&irr),
            nmi: work & NMI != 0,
            init: work & INIT != 0,
            start_up: (work & START_UP != 0).then_some((work >> PAGE_SHIFT) as u8),
            ext_int: work & EXT_INT != 0,
            lint_edges: [work & LINT_EDGE != 0, work & LINT_EDGE << 1 != 0],
            illegal_vector: work & ILLEGAL != 0,
        })
    }

    fn post(&self, message: &Message) -> bool {
        let vector = message.vector;
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                return self.post_vector(vector, message.level);
            }
            Delivery::Smi => return true,
            Delivery::Nmi => self.add_work(|work| work | NMI),
            // A start-up that came before an INIT is void.
            Delivery::Init => self.add_work(|work| work & !(START_UP | PAGE_MASK) | INIT),
            // Once started, further start-ups find no processor that waits.
            Delivery::StartUp => self.add_work(|work| match work & START_UP {
                0 => work | START_UP | u32::from(vector) << PAGE_SHIFT,
                _ => work,
            }),
            // Software-disabled, a LAPIC hears INIT, NMI, SMI and start-up, nothing else (SDM volume 3, 11.4.7.2).
            Delivery::ExtInt if !self.identity().accepting => return false,
            Delivery::ExtInt => self.add_work(|work| work | EXT_INT),
        }
        self.raise();
        true
    }

    fn post_vector(&self, vector: u8, level: bool) -> bool {
        if !self.identity().accepting {
            return false;
        }
        if vector < 16 {
            self.add_work(|work| work | ILLEGAL);
            self.raise();
            return false;
        }
        let (word, bit) = (usize::from(vector >> 6), 1 << (vector & 63));
        if level {
            self.level[word].fetch_or(bit, SeqCst);
        } else {
            self.level[word].fetch_and(!bit, SeqCst);
        }
        self.irr[word].fetch_or(bit, SeqCst);
        self.raise();
        true
    }

    fn add_work(&self, change: impl Fn(u32) -> u32) {
        self.work
            .fetch_update(SeqCst, SeqCst, |work| Some(change(work)))
            .ok();
    }

    fn raise(&self) {
        if !self.full.swap(true, SeqCst) {
            self.nudge();
        }
    }
}

/// Delivers `message`, sent by the LAPIC with index `from` where a LAPIC sent it. True where somebody took it.
pub fn deliver(boxes: &[Arc<Mailbox>], from: Option<usize>, message: &Message) -> bool {
    let addressed = boxes.iter().enumerate().filter_map(|(index, mailbox)| {
        let identity = mailbox.identity();
        identity
            .is_addressed(index, from, message.to)
            .then_some((mailbox, identity))
    });
    if message.delivery == Delivery::LowestPriority {
        return addressed
            .filter(|(_, identity)| identity.accepting)
            .min_by_key(|(_, identity)| identity.priority)
            .is_some_and(|(mailbox, _)| mailbox.post(message));
    }
    addressed.fold(false, |taken, (mailbox, _)| mailbox.post(message) || taken)
}

// The bits of the work word. The two LINT edges are neighbours.
const NMI: u32 = 1;
const INIT: u32 = 1 << 1;
const START_UP: u32 = 1 << 2;
const EXT_INT: u32 = 1 << 3;
const ILLEGAL: u32 = 1 << 4;
const LINT_EDGE: u32 = 1 << 5;
const PAGE_SHIFT: u32 = 8;
const PAGE_MASK: u32 = 0xff << PAGE_SHIFT;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn identity(id: u8) -> Identity {
        Identity {
            id,
            logical: 0,
            model: 0xf,
            mode: Mode::Xapic,
            accepting: true,
            priority: 0,
        }
    }

    fn boxes(identities: &[Identity]) -> Vec<Arc<Mailbox>> {
        let publish = |identity: &Identity| {
            let mailbox = Mailbox::default();
            mailbox.publish(*identity);
            Arc::new(mailbox)
        };
        identities.iter().map(publish).collect()
    }

    fn fixed(to: Destination) -> Message {
        Message {
            to,
            delivery: Delivery::Fixed,
            vector: 0x41,
            level: false,
        }
    }

    fn receivers(boxes: &[Arc<Mailbox>]) -> Vec<usize> {
        let got = |(i, mailbox): (usize, &Arc<Mailbox>)| mailbox.collect().map(|_| i);
        boxes.iter().enumerate().filter_map(got).collect()
    }

    #[test]
    fn identity_survives_packing() {
        let id = Identity {
            id: 0xfe,
            logical: 0xa5,
            model: 3,
            mode: Mode::X2apic,
            accepting: true,
            priority: 0xe0,
        };
        assert_eq!(Identity::unpack(id.pack()), id);
    }

    #[test]
    fn flat_and_cluster_groups() {
        let flat = |id, logical| Identity {
            logical,
            ..identity(id)
        };
        let cluster = |id, logical| Identity {
            model: 0,
            ..flat(id, logical)
        };
        let all = boxes(&[flat(0, 1), flat(1, 2), cluster(2, 0x21), cluster(3, 0x32)]);
        for (mask, expected) in [
            (0x03, vec![0, 1]),
            (0x21, vec![0, 2]),
            (0x32, vec![1, 3]),
            (0xf3, vec![0, 1, 2, 3]),
            (0x40, vec![]),
        ] {
            let taken = deliver(&all, None, &fixed(Destination::Logical(mask)));
            assert_eq!(taken, !expected.is_empty());
            assert_eq!(receivers(&all), expected, "{mask:#x}");
        }
    }

    #[test]
    fn x2apic_clusters_have_sixteen_members() {
        let x2 = |id| Identity {
            mode: Mode::X2apic,
            ..identity(id)
        };
        let all = boxes(&[x2(0), x2(15), x2(16), x2(17)]);
        for (mask, expected) in [
            (0x0_8001, vec![0, 1]),
            (0x1_0003, vec![2, 3]),
            (0x2_ffff, vec![]),
        ] {
            deliver(&all, None, &fixed(Destination::long(true, mask)));
            assert_eq!(receivers(&all), expected, "{mask:#x}");
        }
    }

    #[test]
    fn shorthands_know_the_sender() {
        let all = boxes(&[identity(0), identity(1), identity(2)]);
        for (to, expected) in [
            (Destination::Oneself, vec![1]),
            (Destination::EveryoneElse, vec![0, 2]),
            (Destination::Everyone, vec![0, 1, 2]),
        ] {
            assert!(deliver(&all, Some(1), &fixed(to)));
            assert_eq!(receivers(&all), expected);
        }
    }

    #[test]
    fn lowest_priority_goes_to_one_that_accepts() {
        let at = |id, priority, accepting| Identity {
            priority,
            accepting,
            ..identity(id)
        };
        let all = boxes(&[at(0, 0x50, true), at(1, 0x20, true), at(2, 0, false)]);
        let message = Message {
            delivery: Delivery::LowestPriority,
            ..fixed(Destination::Everyone)
        };
        assert!(deliver(&all, None, &message));
        assert_eq!(receivers(&all), [1]);
    }

    #[test]
    fn a_disabled_lapic_refuses_and_an_illegal_vector_is_told() {
        let mut off = identity(0);
        off.accepting = false;
        let all = boxes(&[off, identity(1)]);
        for (delivery, is_taken) in [
            (Delivery::Fixed, false),
            (Delivery::LowestPriority, false),
            (Delivery::ExtInt, false),
            (Delivery::Smi, true),
            (Delivery::Nmi, true),
            (Delivery::Init, true),
            (Delivery::StartUp, true),
        ] {
            let message = Message {
                delivery,
                ..fixed(Destination::Physical(0))
            };
            assert_eq!(deliver(&all, None, &message), is_taken, "{delivery:?}");
        }
        let illegal = Message {
            vector: 15,
            ..fixed(Destination::Physical(1))
        };
        assert!(!deliver(&all, None, &illegal));
        assert!(all[1].collect().unwrap().illegal_vector);
    }

    #[test]
    fn init_voids_an_earlier_start_up_and_the_first_start_up_wins() {
        let all = boxes(&[identity(0)]);
        let send = |delivery, vector| {
            let message = Message {
                delivery,
                vector,
                ..fixed(Destination::Physical(0))
            };
            assert!(deliver(&all, None, &message));
        };
        send(Delivery::StartUp, 1);
        send(Delivery::Init, 0);
        send(Delivery::StartUp, 2);
        send(Delivery::StartUp, 3);
        let mail = all[0].collect().unwrap();
        assert_eq!((mail.init, mail.start_up), (true, Some(2)));
        assert_eq!(all[0].collect(), None);
    }

    #[test]
    fn only_the_first_post_wakes() {
        let all = boxes(&[identity(0)]);
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        all[0].on_post(move || {
            seen.fetch_add(1, SeqCst);
        });
        for _ in 0..3 {
            deliver(&all, None, &fixed(Destination::Everyone));
        }
        assert_eq!(count.load(SeqCst), 1);
        all[0].collect();
        deliver(&all, None, &fixed(Destination::Everyone));
        assert_eq!(count.load(SeqCst), 2);
    }

    #[test]
    fn vectors_are_a_set() {
        let mut set = Vectors::default();
        for vector in [0, 63, 64, 200, 255] {
            set.set(vector);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [255, 200, 64, 63, 0]);
        set.clear(255);
        assert_eq!((set.highest(), set.dword(6)), (Some(200), 1 << 8));
        assert!(!set.has(255) && Vectors::default().highest().is_none());
    }
}
