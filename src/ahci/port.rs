//! A port: its registers, its command list, and the FISes that its device sends (AHCI 1.3.1, 3.3 and chapter 5).
//!
//! The state machine runs in three places. Writes to registers start and stop it. `take` fetches a command for a
//! worker: one at a time, but as many queued ones as there are tags. `finish` is the device's answer. Whatever
//! stops a port changes its epoch, and answers of an earlier epoch are dropped; who stops it then waits until nobody
//! works on its commands any more.
//!
//! An error stops the port until ST is cleared. Its command stays in CI, and CCS names it (6.2).

use std::sync::Arc;

use hvf_sys::ram::Ram;

use super::command::{Data, Fetched, HostBus};
use super::fis::{Command, REGISTER, Registers, ToDevice, dma_setup, place};
use super::regs::{Cmd, Events, PortReg, SLOTS, Serr, det, status};
use super::unit::{Reply, Unit};

/// A command on its way through a worker.
pub(super) struct Job {
    pub(super) unit: Arc<dyn Unit>,
    pub(super) fetched: Fetched,
    pub(super) command: Command,
    slot: u8,
    /// The tag, where it is queued.
    tag: Option<u8>,
    epoch: u64,
}

/// What a device has made of a job.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) moved: u64,
    pub(super) overflow: bool,
    pub(super) marked: bool,
}

impl Job {
    /// Has the device do it.
    pub(super) fn perform(&self, ram: &Ram) -> Result<Answer, HostBus> {
        let mut data = self.fetched.data(ram);
        let packet = self.fetched.packet.as_ref();
        let reply = self.unit.perform(&self.command, packet, &mut data)?;
        let Data {
            moved,
            overflow,
            marked,
            ..
        } = data;
        Ok(Answer {
            reply,
            moved,
            overflow,
            marked,
        })
    }
}

/// A port.
pub(super) struct Port {
    // Wires.
    unit: Option<Arc<dyn Unit>>,
    // State: registers.
    list: u64,
    received: u64,
    events: Events,
    enabled: Events,
    cmd: Cmd,
    status: u8,
    error: u8,
    signature: u32,
    control: u32,
    speed: u32,
    errors: Serr,
    active: u32,
    issued: u32,
    current: u8,
    // State: what the registers do not show.
    /// The device's first register FIS, which came before there was a place for it.
    unposted: Option<[u8; REGISTER]>,
    /// Software has the device in reset.
    in_reset: bool,
    /// A command that is not queued is being worked on.
    busy: bool,
    /// The tags that the device is working on.
    outstanding: u32,
    /// An error has stopped the port.
    halted: bool,
    /// The slot that comes first when the next command is chosen.
    first: u32,
    epoch: u64,
    running: usize,
    /// How many of those that are running nobody waits for an answer of.
    abandoned: usize,
}

impl Port {
    /// A port with its device, after power-on.
    pub(super) fn new(unit: Option<Arc<dyn Unit>>) -> Self {
        let mut port = Self {
            unit,
            list: 0,
            received: 0,
            events: Events::empty(),
            enabled: Events::empty(),
            cmd: Cmd::empty(),
            status: status::NONE,
            error: 0,
            signature: u32::MAX,
            control: 0,
            speed: 0,
            errors: Serr::empty(),
            active: 0,
            issued: 0,
            current: 0,
            unposted: None,
            in_reset: false,
            busy: false,
            outstanding: 0,
            halted: false,
            first: 0,
            epoch: 0,
            running: 0,
            abandoned: 0,
        };
        port.connect();
        port
    }

    /// Whether there is a device.
    pub(super) fn populated(&self) -> bool {
        self.unit.is_some()
    }

    /// Whether an interrupt is asked for.
    pub(super) fn interrupts(&self) -> bool {
        !(self.shown_events() & self.enabled).is_empty()
    }

    /// Whether workers are at commands that have been given up.
    pub(super) fn is_settling(&self) -> bool {
        self.abandoned > 0
    }

    /// Reads a register.
    pub(super) fn read(&self, register: PortReg) -> u32 {
        match register {
            PortReg::Clb => self.list as u32,
            PortReg::Clbu => (self.list >> 32) as u32,
            PortReg::Fb => self.received as u32,
            PortReg::Fbu => (self.received >> 32) as u32,
            PortReg::Is => self.shown_events().bits(),
            PortReg::Ie => self.enabled.bits(),
            PortReg::Cmd => self.shown_command(),
            PortReg::Tfd => u32::from(self.error) << 8 | u32::from(self.status),
            PortReg::Sig => self.signature,
            PortReg::Ssts => self.link(),
            PortReg::Sctl => self.control,
            PortReg::Serr => self.errors.bits(),
            PortReg::Sact => self.active,
            PortReg::Ci => self.issued,
        }
    }

    /// Writes the bits of `mask` of a register. The caller then waits until the port has settled.
    pub(super) fn write(&mut self, register: PortReg, value: u32, mask: u32, ram: &Ram) {
        let value = value & mask;
        let merge = |old: u32| old & !mask | value;
        match register {
            PortReg::Clb => self.list = with_low(self.list, merge(self.list as u32) & !0x3ff),
            PortReg::Clbu => self.list = with_high(self.list, merge((self.list >> 32) as u32)),
            PortReg::Fb => {
                self.received = with_low(self.received, merge(self.received as u32) & !0xff);
            }
            PortReg::Fbu => {
                self.received = with_high(self.received, merge((self.received >> 32) as u32));
            }
            PortReg::Is => self.events.remove(Events::from_bits_truncate(value)),
            PortReg::Ie => self.enabled = Events::from_bits_truncate(merge(self.enabled.bits())),
            PortReg::Cmd => self.write_command(merge(self.cmd.bits()), ram),
            PortReg::Sctl => self.write_control(merge(self.control)),
            PortReg::Serr => self.errors.remove(Serr::from_bits_truncate(value)),
            PortReg::Sact if self.cmd.contains(Cmd::ST) => self.active |= value,
            PortReg::Ci if self.cmd.contains(Cmd::ST) => self.issued |= value,
            PortReg::Sact | PortReg::Ci | PortReg::Tfd | PortReg::Sig | PortReg::Ssts => {}
        }
    }

    /// Back to power-on, but for work in progress, which the caller waits for.
    pub(super) fn reset(&mut self) {
        let unit = self.unit.take();
        unit.iter().for_each(|unit| unit.reset(true));
        *self = Self {
            epoch: self.epoch + 1,
            running: self.running,
            abandoned: self.running,
            ..Self::new(unit)
        };
    }

    fn shown_events(&self) -> Events {
        self.events | self.errors.events()
    }

    fn shown_command(&self) -> u32 {
        let mut shown = self.cmd | Cmd::SUD | Cmd::POD;
        shown.set(Cmd::FR, self.cmd.contains(Cmd::FRE));
        shown.set(Cmd::CR, self.runs());
        shown.bits() | u32::from(self.current) << Cmd::CCS_SHIFT
    }

    /// PxSSTS (3.3.10): detection, speed, and active power management state.
    fn link(&self) -> u32 {
        const ACTIVE: u32 = 1 << 8;
        match self.control & det::MASK {
            det::OFFLINE => det::OFFLINE,
            _ if self.connected() => ACTIVE | self.speed << 4 | det::ESTABLISHED,
            _ => 0,
        }
    }

    fn connected(&self) -> bool {
        let held = matches!(self.control & det::MASK, det::RESET | det::OFFLINE);
        self.unit.is_some() && !held
    }

    /// Whether the command list is being processed.
    fn runs(&self) -> bool {
        self.cmd.contains(Cmd::ST | Cmd::FRE) && self.connected()
    }

    // ---- Starting and stopping --------------------------------------------------------------------------------

    fn write_command(&mut self, value: u32, ram: &Ram) {
        let old = self.cmd;
        let value = Cmd::from_bits_truncate(value);
        self.cmd = value & Cmd::GUEST_WRITABLE;
        if old.contains(Cmd::ST) && !self.cmd.contains(Cmd::ST) {
            self.stop();
        }
        if value.contains(Cmd::CLO) && !self.cmd.contains(Cmd::ST) {
            self.status &= !(status::BSY | status::DRQ);
        }
        if self.cmd.contains(Cmd::FRE)
            && let Some(fis) = self.unposted.take()
        {
            let posted = self.post(ram, place::REGISTER, &fis);
            self.check(posted);
        }
    }

    /// ST has been cleared (3.3.7): nothing is issued any more, and what the device was at is not heard of.
    fn stop(&mut self) {
        self.abandon();
        (self.issued, self.active) = (0, 0);
        (self.current, self.first) = (0, 0);
        self.halted = false;
    }

    /// No longer listens for what the device is at.
    fn abandon(&mut self) {
        self.epoch += 1;
        self.abandoned = self.running;
        self.outstanding = 0;
        if std::mem::take(&mut self.busy) {
            self.status = status::IDLE;
        }
    }

    fn write_control(&mut self, value: u32) {
        const FIELDS: u32 = 0xf_ffff;
        let was_connected = self.connected();
        self.control = value & FIELDS;
        match (was_connected, self.connected()) {
            (true, false) => {
                self.abandon();
                self.status = status::NONE;
                self.error = 0;
                self.errors |= Serr::DIAG_N;
            }
            (false, true) => {
                self.unit.iter().for_each(|unit| unit.reset(true));
                self.connect();
            }
            _ => {}
        }
    }

    /// The link comes up after a reset, and the device tells what it is.
    fn connect(&mut self) {
        const GENERATIONS: u32 = 3;
        if !self.connected() {
            return;
        }
        let limit = self.control >> 4 & 0xf;
        self.speed = if limit == 0 {
            GENERATIONS
        } else {
            limit.min(GENERATIONS)
        };
        self.errors |= Serr::DIAG_N | Serr::DIAG_X;
        self.in_reset = false;
        self.show_signature();
    }

    fn show_signature(&mut self) {
        let Some(unit) = &self.unit else { return };
        let registers = unit.signature();
        self.signature = registers.signature();
        self.show(&registers);
        // Told without an interrupt, and without waiting: PxTFD and PxSIG take it in any case (3.3.7, FRE).
        self.unposted = Some(registers.fis(false));
    }

    fn show(&mut self, registers: &Registers) {
        (self.status, self.error) = (registers.status, registers.error);
    }

    // ---- Commands ---------------------------------------------------------------------------------------------

    /// The next command to work on, if there is one.
    pub(super) fn take(&mut self, ram: &Ram) -> Option<Job> {
        while self.runs() && !self.busy && !self.halted && self.issued != 0 {
            let slot = self.next_slot();
            self.current = slot;
            self.first = u32::from(slot) + 1;
            let job = self.fetch(ram, slot);
            match self.check(job)? {
                Some(job) => {
                    self.running += 1;
                    return Some(job);
                }
                None => self.issued &= !(1 << slot),
            }
        }
        None
    }

    /// The slots take turns, beginning behind the current one.
    fn next_slot(&self) -> u8 {
        let distance = self.issued.rotate_right(self.first).trailing_zeros();
        ((self.first + distance) % SLOTS) as u8
    }

    /// Fetches a command. What needs no worker is done here, and gives no job.
    fn fetch(&mut self, ram: &Ram, slot: u8) -> Result<Option<Job>, Fatal> {
        let fetched = Fetched::read(ram, self.list, slot)?;
        let parsed = ToDevice::parse(&fetched.fis).filter(|_| fetched.is_whole());
        match (parsed, &self.unit) {
            (Some(ToDevice::Command(command)), Some(unit)) => {
                let unit = unit.clone();
                self.begin(ram, unit, fetched, command, slot)
            }
            (Some(ToDevice::Control { reset }), _) => {
                self.device_control(ram, reset)?;
                Ok(None)
            }
            _ => Err(Fatal::Link),
        }
    }

    fn begin(
        &mut self,
        ram: &Ram,
        unit: Arc<dyn Unit>,
        fetched: Fetched,
        command: Command,
        slot: u8,
    ) -> Result<Option<Job>, Fatal> {
        let tag = unit.tag(&command);
        let in_the_way = tag.map_or(u32::MAX, |tag| 1 << tag);
        if self.outstanding & in_the_way != 0 {
            return self.refuse(ram, &unit.break_queue(&command).registers);
        }
        match tag {
            // The device takes it and is ready for more: the slot is free, the tag stays active.
            Some(tag) => {
                self.outstanding |= 1 << tag;
                let accepted = Registers::of(&command);
                self.post(ram, place::REGISTER, &accepted.fis(false))?;
                self.show(&accepted);
                self.issued &= !(1 << slot);
            }
            None => {
                self.busy = true;
                self.status |= status::BSY;
            }
        }
        Ok(Some(Job {
            unit,
            fetched,
            command,
            slot,
            tag,
            epoch: self.epoch,
        }))
    }

    /// The device refuses a command, and all that it was at ends with it.
    fn refuse<T>(&mut self, ram: &Ram, registers: &Registers) -> Result<T, Fatal> {
        self.abandon();
        self.show(registers);
        self.post(ram, place::REGISTER, &registers.fis(true))?;
        self.events |= Events::DHRS;
        Err(Fatal::TaskFile)
    }

    /// Software reset (Serial ATA 3.1, software reset protocol): with the bit the device ends what it does, without it starts again.
    fn device_control(&mut self, ram: &Ram, reset: bool) -> Result<(), HostBus> {
        if reset {
            self.abandon();
        } else if self.in_reset {
            self.unit.iter().for_each(|unit| unit.reset(false));
            self.show_signature();
            if let Some(fis) = self.unposted.take() {
                self.post(ram, place::REGISTER, &fis)?;
            }
        }
        self.in_reset = reset;
        Ok(())
    }

    /// A worker has finished a job.
    pub(super) fn finish(&mut self, ram: &Ram, job: &Job, answer: Result<Answer, HostBus>) {
        self.running -= 1;
        if job.epoch != self.epoch {
            self.abandoned -= 1;
            return;
        }
        let told = answer
            .map_err(Fatal::from)
            .and_then(|answer| self.tell(ram, job, &answer));
        self.check(told);
    }

    fn tell(&mut self, ram: &Ram, job: &Job, answer: &Answer) -> Result<(), Fatal> {
        if answer.overflow {
            self.events |= Events::OFS;
        }
        if answer.marked {
            self.events |= Events::DPS;
        }
        match job.tag {
            Some(tag) => self.finish_queued(ram, tag, answer),
            None => self.finish_single(ram, job, answer),
        }
    }

    fn finish_single(&mut self, ram: &Ram, job: &Job, answer: &Answer) -> Result<(), Fatal> {
        let reply = &answer.reply;
        self.busy = false;
        self.show(&reply.registers);
        job.fetched.store_count(ram, answer.moved)?;
        if let Some(pio) = &reply.pio {
            self.post(ram, place::PIO_SETUP, &reply.registers.pio_setup(pio))?;
            if pio.interrupt {
                self.events |= Events::PSS;
            }
        }
        if reply.has_register_fis() {
            self.post(ram, place::REGISTER, &reply.registers.fis(true))?;
            self.events |= Events::DHRS;
        }
        if reply.registers.failed() {
            return Err(Fatal::TaskFile);
        }
        self.issued &= !(1 << job.slot);
        Ok(())
    }

    fn finish_queued(&mut self, ram: &Ram, tag: u8, answer: &Answer) -> Result<(), Fatal> {
        let registers = &answer.reply.registers;
        if let Some(to_host) = answer.reply.set_up {
            let fis = dma_setup(tag, to_host, answer.moved as u32);
            self.post(ram, place::DMA_SETUP, &fis)?;
        }
        let done = if registers.failed() { 0 } else { 1 << tag };
        self.post(
            ram,
            place::SET_DEVICE_BITS,
            &registers.set_device_bits(done),
        )?;
        self.show(registers);
        self.events |= Events::SDBS;
        self.active &= !done;
        self.outstanding &= !done;
        if registers.failed() {
            // The others end with it, unfinished.
            self.abandon();
            return Err(Fatal::TaskFile);
        }
        Ok(())
    }

    /// Posts a FIS to memory.
    fn post(&self, ram: &Ram, place: u64, fis: &[u8]) -> Result<(), HostBus> {
        if !self.cmd.contains(Cmd::FRE) {
            return Ok(());
        }
        let at = self.received.checked_add(place).ok_or(HostBus)?;
        Ok(ram.write(at, fis)?)
    }

    /// Stops the port after an error.
    fn check<T>(&mut self, result: Result<T, impl Into<Fatal>>) -> Option<T> {
        let fatal = match result {
            Ok(value) => return Some(value),
            Err(fatal) => fatal.into(),
        };
        self.halted = true;
        self.events |= match fatal {
            Fatal::HostBus => Events::HBFS,
            Fatal::TaskFile => Events::TFES,
            Fatal::Link => {
                self.errors |= Serr::ERR_P;
                Events::IFS
            }
        };
        None
    }
}

/// What stops a port (6.1).
enum Fatal {
    /// An address where nothing is.
    HostBus,
    /// The device has set ERR in its status.
    TaskFile,
    /// A FIS that no device takes.
    Link,
}

impl From<HostBus> for Fatal {
    fn from(_: HostBus) -> Self {
        Self::HostBus
    }
}

fn with_low(value: u64, low: u32) -> u64 {
    value & !0xffff_ffff | u64::from(low)
}

fn with_high(value: u64, high: u32) -> u64 {
    value & 0xffff_ffff | u64::from(high) << 32
}
