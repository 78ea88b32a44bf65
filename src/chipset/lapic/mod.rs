//! The local APIC of one vCPU: xAPIC and x2APIC (SDM volume 3, chapter 11).
//!
//! A plain state machine that its vCPU's thread owns. What others send lies in the mailbox until `scan` takes it;
//! what it wants of others it returns as an `Effect`. Time is an argument.
//!
//! Not modelled: arbitration priority and remote read (their registers are not there, as on every processor since
//! the Pentium 4), focus processors, corrected-machine-check interrupts, thermal and performance sources (their
//! entries hold what is written and never fire), SMI. A narrow or unaligned write of the page does nothing.
//! An xAPIC's id cannot be changed. Locks: none.

mod regs;
mod timer;

use std::sync::Arc;

use super::mailbox::{Delivery, Destination, Identity, Mailbox, Message, Mode, Vectors};
use crate::bus::{Nanos, Width};
use crate::x86::msr;
use regs::{ApicBase, Icr, LvtEntry, Reg, SOURCES, Source, Svr, VERSION, error};
use timer::{Divide, Timer};

/// What an access asks the machine to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// Send this to other LAPICs, or to this one.
    Send(Message),
    /// Tell the I/O APIC that a level-triggered vector has been served.
    Eoi(u8),
    /// Messages may now be accepted that were not before; and these level-triggered vectors, once accepted, are
    /// not going to be served.
    Redirected(Vectors),
}

/// What `scan` found for the vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Go to the INIT state. It comes before a start-up of the same scan.
    pub init: bool,
    /// Start, if waiting for it, at this page.
    pub start_up: Option<u8>,
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// Level-triggered vectors that were accepted in the mailbox and are now refused.
    pub released: Vectors,
}

/// The local APIC.
pub struct Lapic {
    // Configuration.
    id: u8,
    // Wires.
    mailbox: Arc<Mailbox>,
    // State.
    base: ApicBase,
    tpr: u8,
    ldr: u8,
    dfr: u32,
    svr: Svr,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    esr: u32,
    errors: u32,
    icr: Icr,
    lvt: [LvtEntry; SOURCES],
    timer: Timer,
    ext_int: bool,
    nmi: bool,
    init: bool,
}

impl Lapic {
    /// The LAPIC with this id, which is its CPU's index, after power-on. CPU 0 is the boot processor.
    pub fn new(id: u8, mailbox: Arc<Mailbox>) -> Self {
        let mut lapic = Self {
            id,
            mailbox,
            base: ApicBase::reset(id == 0),
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: Svr::RESET,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            esr: 0,
            errors: 0,
            icr: Icr(0),
            lvt: [LvtEntry::RESET; SOURCES],
            timer: Timer::new(),
            ext_int: false,
            nmi: false,
            init: false,
        };
        lapic.publish();
        lapic
    }

    /// Returns to the power-on state. What lies in the mailbox goes with it.
    pub fn reset(&mut self) {
        self.mailbox.collect();
        self.base = ApicBase::reset(self.id == 0);
        self.reset_registers();
        self.publish();
    }

    /// What INIT does: all but the id and IA32_APIC_BASE as after power-on. Returns the level-triggered vectors
    /// that will not be served now.
    pub fn init(&mut self) -> Vectors {
        let unserved = self.reset_registers();
        self.publish();
        unserved
    }

    /// Leaves it as firmware does for the boot processor (MultiProcessor Specification 1.4, 3.6.2.2): enabled,
    /// LINT0 passes the 8259 pair's interrupts on, LINT1 is NMI.
    pub fn set_virtual_wire(&mut self) {
        self.svr = Svr(0x1ff);
        self.lvt[Source::Lint0 as usize] = LvtEntry(0x700);
        self.lvt[Source::Lint1 as usize] = LvtEntry(0x400);
        self.publish();
    }

    /// Takes in what was sent, and time.
    pub fn scan(&mut self, now: Nanos) -> Work {
        self.run_timer(now);
        let mut work = Work::default();
        if let Some(mail) = self.mailbox.collect() {
            if self.is_accepting() {
                self.irr = self.irr.union(&mail.irr);
                self.tmr = self.tmr.without(&mail.irr).union(&mail.level);
            } else {
                work.released = mail.level;
            }
            self.init |= mail.init;
            work.start_up = mail.start_up;
            self.nmi |= mail.nmi;
            self.ext_int |= mail.ext_int;
            if mail.illegal_vector {
                self.record(error::RECEIVE_ILLEGAL_VECTOR);
            }
            self.sample_lints(mail.lint_edges);
        }
        work.init = std::mem::take(&mut self.init);
        work.nmi = std::mem::take(&mut self.nmi);
        work
    }

    /// The vector that the CPU is to be interrupted with next, if its flags allow.
    pub fn pending(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (self.mode() != Mode::Disabled && vector >> 4 > self.ppr() >> 4).then_some(vector)
    }

    /// Whether there is any interrupt for the CPU.
    pub fn wants_interrupt(&self) -> bool {
        self.has_ext_int() || self.pending().is_some()
    }

    /// The CPU has been interrupted with `vector`, which was pending.
    pub fn accept(&mut self, vector: u8) {
        self.irr.clear(vector);
        self.isr.set(vector);
        self.publish();
    }

    /// Whether an interrupt of the 8259 pair reaches the CPU. It comes before the pending vector, and its own vector
    /// is fetched when the CPU takes it.
    pub fn has_ext_int(&self) -> bool {
        let lint0 = self.lvt[Source::Lint0 as usize];
        let is_open = !lint0.is_masked() && lint0.delivery() == Some(Delivery::ExtInt);
        self.ext_int || (is_open || self.mode() == Mode::Disabled) && self.mailbox.lint(0)
    }

    /// The 8259 pair was asked for its vector.
    pub fn ext_int_taken(&mut self) {
        self.ext_int = false;
    }

    /// When `scan` wants to be called next although nothing is sent.
    pub fn deadline(&self) -> Option<Nanos> {
        self.timer
            .next()
            .filter(|_| !self.lvt[Source::Timer as usize].is_masked())
    }

    /// Whether `gpa` lies in the registers' page.
    pub fn claims(&self, gpa: u64) -> bool {
        gpa & !0xfff == self.base.page() && self.mode() == Mode::Xapic
    }

    /// Reads the page. `gpa` is an address that it claims.
    pub fn mmio_read(&mut self, gpa: u64, width: Width, now: Nanos) -> u64 {
        self.run_timer(now);
        let (index, byte) = (gpa >> 4 & 0xff, gpa & 0xf);
        if byte + width.bytes() > 4 {
            return 0;
        }
        match Reg::decode(index, false).filter(|reg| reg.is_readable()) {
            Some(reg) => u64::from(self.read(reg, now)) >> (8 * byte) & width.ones(),
            None => {
                self.record(error::ILLEGAL_REGISTER);
                0
            }
        }
    }

    /// Writes the page. `gpa` is an address that it claims.
    pub fn mmio_write(&mut self, gpa: u64, width: Width, value: u64, now: Nanos) -> Effect {
        self.run_timer(now);
        if width != Width::Dword || gpa & 0xf != 0 {
            return Effect::None;
        }
        match Reg::decode(gpa >> 4 & 0xff, false) {
            Some(reg) => self.write(reg, value as u32, now),
            None => {
                self.record(error::ILLEGAL_REGISTER);
                Effect::None
            }
        }
    }

    /// Reads one of the MSRs that belong here. `None` is #GP.
    pub fn msr_read(&mut self, number: u32, now: Nanos) -> Option<u64> {
        self.run_timer(now);
        match number {
            msr::APIC_BASE => Some(self.base.0),
            msr::TSC_DEADLINE => Some(self.timer.tsc_deadline()),
            _ => match self.x2apic_register(number)? {
                Reg::IcrLow => Some(self.icr.0),
                reg => reg.is_readable().then(|| self.read(reg, now).into()),
            },
        }
    }

    /// Writes one of the MSRs that belong here. `None` is #GP.
    pub fn msr_write(&mut self, number: u32, value: u64, now: Nanos) -> Option<Effect> {
        self.run_timer(now);
        match number {
            msr::APIC_BASE => return self.write_base(ApicBase(value)),
            msr::TSC_DEADLINE => self.timer.set_tsc_deadline(value),
            _ => {
                let reg = self.x2apic_register(number)?;
                if value & !reg.x2apic_writable()? != 0 {
                    return None;
                }
                return Some(match reg {
                    Reg::IcrLow => {
                        self.icr = Icr(value & Icr::KEPT);
                        self.command()
                    }
                    Reg::SelfIpi => self.send(Destination::Oneself, Delivery::Fixed, value as u8),
                    reg => self.write(reg, value as u32, now),
                });
            }
        }
        Some(Effect::None)
    }

    /// CR8: the upper half of the task priority.
    pub fn cr8(&self) -> u64 {
        u64::from(self.tpr >> 4)
    }

    /// Writes CR8.
    pub fn set_cr8(&mut self, value: u64) {
        self.tpr = (value as u8 & 0xf) << 4;
        self.publish();
    }

    fn mode(&self) -> Mode {
        match self.base.switches() {
            (false, _) => Mode::Disabled,
            (true, false) => Mode::Xapic,
            (true, true) => Mode::X2apic,
        }
    }

    fn is_accepting(&self) -> bool {
        self.svr.is_enabled() && self.mode() != Mode::Disabled
    }

    /// Processor priority (SDM volume 3, 11.8.3.1): the greater of the task's and the one in service.
    fn ppr(&self) -> u8 {
        let serving = self.isr.highest().unwrap_or(0) & 0xf0;
        if self.tpr >> 4 >= serving >> 4 {
            self.tpr
        } else {
            serving
        }
    }

    /// Tells senders what this LAPIC is. True where they may find it where they did not before.
    fn publish(&mut self) -> bool {
        self.mailbox.publish(Identity {
            id: self.id,
            logical: self.ldr,
            model: (self.dfr >> 28) as u8,
            mode: self.mode(),
            accepting: self.is_accepting(),
            priority: self.ppr(),
        })
    }

    fn redirected(&mut self, unserved: Vectors) -> Effect {
        if self.publish() || !unserved.is_empty() {
            Effect::Redirected(unserved)
        } else {
            Effect::None
        }
    }

    fn reset_registers(&mut self) -> Vectors {
        let Self {
            id: _,
            mailbox: _,
            base: _,
            tpr,
            ldr,
            dfr,
            svr,
            isr,
            tmr,
            irr,
            esr,
            errors,
            icr,
            lvt,
            timer,
            ext_int,
            nmi,
            init,
        } = self;
        let unserved = irr.union(isr).both(tmr);
        (*tpr, *ldr, *dfr, *svr) = (0, 0, u32::MAX, Svr::RESET);
        (*isr, *tmr, *irr) = Default::default();
        (*esr, *errors, *icr) = (0, 0, Icr(0));
        *lvt = [LvtEntry::RESET; SOURCES];
        *timer = Timer::new();
        (*ext_int, *nmi, *init) = (false, false, false);
        unserved
    }

    fn x2apic_register(&self, number: u32) -> Option<Reg> {
        if self.mode() != Mode::X2apic {
            return None;
        }
        Reg::decode(number.checked_sub(msr::X2APIC_FIRST)?.into(), true)
    }

    fn read(&self, reg: Reg, now: Nanos) -> u32 {
        let is_x2apic = self.mode() == Mode::X2apic;
        match reg {
            Reg::Id if is_x2apic => self.id.into(),
            Reg::Id => u32::from(self.id) << 24,
            Reg::Version => VERSION,
            Reg::Tpr => self.tpr.into(),
            Reg::Ppr => self.ppr().into(),
            Reg::Ldr if is_x2apic => Identity::x2apic_logical(self.id),
            Reg::Ldr => u32::from(self.ldr) << 24,
            Reg::Dfr => self.dfr,
            Reg::Svr => self.svr.0,
            Reg::Isr(i) => self.isr.dword(i),
            Reg::Tmr(i) => self.tmr.dword(i),
            Reg::Irr(i) => self.irr.dword(i),
            Reg::Esr => self.esr,
            Reg::IcrLow => self.icr.0 as u32,
            Reg::IcrHigh => self.icr.destination(),
            Reg::Lvt(source) => self.lvt[source as usize].0,
            Reg::InitialCount => self.timer.initial(),
            Reg::CurrentCount => self.timer.current(now),
            Reg::Divide => self.timer.divide().0,
            Reg::Eoi | Reg::SelfIpi => 0,
        }
    }

    fn write(&mut self, reg: Reg, value: u32, now: Nanos) -> Effect {
        match reg {
            Reg::Tpr => {
                self.tpr = value as u8;
                self.publish();
            }
            Reg::Eoi => return self.end_of_interrupt(),
            Reg::Ldr => {
                self.ldr = (value >> 24) as u8;
                return self.redirected(Vectors::default());
            }
            Reg::Dfr => {
                self.dfr = value | DFR_ONES;
                return self.redirected(Vectors::default());
            }
            Reg::Svr => {
                self.svr = Svr(value & Svr::GUEST_WRITABLE);
                if !self.svr.is_enabled() {
                    self.lvt.iter_mut().for_each(LvtEntry::mask);
                }
                return self.redirected(Vectors::default());
            }
            Reg::Esr => self.esr = std::mem::take(&mut self.errors),
            Reg::IcrLow => {
                let high = self.icr.0 & !0xffff_ffff;
                self.icr = Icr(high | u64::from(value) & Icr::KEPT);
                return self.command();
            }
            Reg::IcrHigh => {
                // An xAPIC keeps the eight bits of its destination.
                let destination = u64::from(value & 0xff00_0000) << 32;
                self.icr = Icr(self.icr.0 & 0xffff_ffff | destination);
            }
            Reg::Lvt(source) => self.write_lvt(source, value),
            Reg::InitialCount => self.timer.set_initial(value, now),
            Reg::Divide => {
                let divide = Divide(value & Divide::GUEST_WRITABLE);
                self.timer.set_divide(divide, now);
            }
            // Read-only: the write is lost, and nothing says so.
            Reg::Id | Reg::Version | Reg::Ppr | Reg::CurrentCount => {}
            Reg::Isr(_) | Reg::Tmr(_) | Reg::Irr(_) | Reg::SelfIpi => {}
        }
        Effect::None
    }

    fn write_lvt(&mut self, source: Source, value: u32) {
        let writable = source.guest_writable();
        let entry = &mut self.lvt[source as usize];
        *entry = LvtEntry(entry.0 & !writable | value & writable);
        if !entry.is_level() {
            entry.set_remote_irr(false);
        }
        if !self.svr.is_enabled() {
            entry.mask();
        }
        if source == Source::Timer {
            let mode = entry.timer_mode();
            self.timer.set_mode(mode);
        }
        self.sample_lints([false; 2]);
    }

    /// Writes IA32_APIC_BASE. Which switch may follow which: SDM volume 3, figure 11-27.
    fn write_base(&mut self, new: ApicBase) -> Option<Effect> {
        let (was, will) = (self.base.switches(), new.switches());
        let is_valid = match (was, will) {
            (_, (false, true)) => false,
            ((false, _), (true, true)) => false,
            ((true, true), (true, false)) => false,
            _ => new.0 & !ApicBase::VALID == 0,
        };
        if !is_valid {
            return None;
        }
        let writable = ApicBase::GUEST_WRITABLE;
        self.base = ApicBase(self.base.0 & !writable | new.0 & writable);
        // Switched off, it forgets: it comes back as after power-on.
        let unserved = if will.0 {
            Vectors::default()
        } else {
            self.reset_registers()
        };
        if will.1 && !was.1 {
            self.icr = Icr(self.icr.0 & 0xffff_ffff);
        }
        Some(self.redirected(unserved))
    }

    fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = self.isr.highest() else {
            return Effect::None;
        };
        self.isr.clear(vector);
        self.publish();
        for entry in &mut self.lvt {
            if entry.remote_irr() && entry.vector() == vector {
                entry.set_remote_irr(false);
            }
        }
        self.sample_lints([false; 2]);
        if self.tmr.has(vector) && !self.svr.suppresses_eoi() {
            Effect::Eoi(vector)
        } else {
            Effect::None
        }
    }

    /// Sends what the command register says. Which combinations do something: SDM volume 3, table 11-3.
    fn command(&mut self) -> Effect {
        let icr = self.icr;
        let Some(delivery) = icr.delivery() else {
            return Effect::None;
        };
        if delivery == Delivery::Init && icr.is_deassert() {
            return Effect::None;
        }
        let may_start = matches!(delivery, Delivery::Init | Delivery::StartUp);
        let to = match icr.shorthand() {
            0 if self.mode() == Mode::X2apic => {
                Destination::long(icr.is_logical(), icr.destination())
            }
            0 => Destination::short(icr.is_logical(), (icr.destination() >> 24) as u8),
            1 if delivery == Delivery::Fixed => Destination::Oneself,
            2 if !may_start => Destination::Everyone,
            3 => Destination::EveryoneElse,
            _ => return Effect::None,
        };
        self.send(to, delivery, icr.vector())
    }

    fn send(&mut self, to: Destination, delivery: Delivery, vector: u8) -> Effect {
        if vector < 16 && matches!(delivery, Delivery::Fixed | Delivery::LowestPriority) {
            self.record(error::SEND_ILLEGAL_VECTOR);
            return Effect::None;
        }
        Effect::Send(Message {
            to,
            delivery,
            vector,
            level: false,
        })
    }

    fn run_timer(&mut self, now: Nanos) {
        if self.timer.expire(now) {
            self.fire(Source::Timer);
        }
    }

    /// Requests the interrupt of a local source that delivers fixed vectors, unless it is masked.
    fn fire(&mut self, source: Source) {
        let entry = self.lvt[source as usize];
        if !entry.is_masked() {
            self.request(entry.vector(), false);
        }
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            return self.record(error::RECEIVE_ILLEGAL_VECTOR);
        }
        self.irr.set(vector);
        if level {
            self.tmr.set(vector);
        } else {
            self.tmr.clear(vector);
        }
    }

    /// Notes an error, and interrupts where it is a new one.
    fn record(&mut self, bit: u32) {
        if self.errors & bit == 0 {
            self.errors |= bit;
            self.fire(Source::Error);
        }
    }

    fn sample_lints(&mut self, edges: [bool; 2]) {
        for (pin, source) in [Source::Lint0, Source::Lint1].into_iter().enumerate() {
            let entry = self.lvt[source as usize];
            if self.mode() == Mode::Disabled {
                // The pins are the processor's INTR and NMI then; INTR is a level, which `has_ext_int` looks at.
                self.nmi |= pin == 1 && edges[pin];
            } else if entry.is_masked() {
                continue;
            } else if entry.is_level() {
                if self.mailbox.lint(pin) && !entry.remote_irr() {
                    self.lvt[source as usize].set_remote_irr(true);
                    self.request(entry.vector(), true);
                }
            } else if edges[pin] {
                match entry.delivery() {
                    Some(Delivery::Fixed) => self.request(entry.vector(), false),
                    Some(Delivery::Nmi) => self.nmi = true,
                    Some(Delivery::Init) => self.init = true,
                    _ => {}
                }
            }
        }
    }
}

/// The bits of the DFR that always read as ones.
const DFR_ONES: u32 = 0x0fff_ffff;

#[cfg(test)]
mod tests;
