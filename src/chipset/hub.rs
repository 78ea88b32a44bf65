//! The chipset hub: where interrupt wires meet, and where the 8259 pair and the I/O APIC live behind one lock.
//!
//! A wire may have several drivers (wired OR). An ISA wire leads to an input of the 8259 pair and to a pin of the
//! I/O APIC; a PIRQ wire leads to a pin of its own and to the input that the LPC bridge has routed it to; the HPET drives
//! pins directly. The pair's
//! INT output leads to LINT0 of every processor and to the I/O APIC's pin 0. Messages are delivered to mailboxes
//! after the chips have changed; a level that no LAPIC takes stays with its pin and is offered again whenever
//! anything changes here. Nothing here ever calls a device.
//!
//! Lock rank: after the devices' slots, before the mailboxes' atomics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ioapic::{Ioapic, PINS};
use super::mailbox::{Delivery, Destination, Mailbox, Message, Vectors, deliver};
use super::pic::{Chip, Pic, PicPort};
use crate::bus::map::Direct;
use crate::bus::{Access, Line, LineSink, Width};
use crate::layout::{self, PIRQ_GSI, PIRQS};

/// An interrupt wire of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// ISA interrupt 0 to 15, but for the cascade.
    Isa(u8),
    /// PIRQ wire 0 to 7.
    Pirq(usize),
    /// A pin of the I/O APIC itself.
    Pin(usize),
}

impl Wire {
    /// The wire of a PCI slot's INTA#.
    pub fn of_slot(slot: u8) -> Self {
        Self::Pirq(layout::intx_pirq(slot, 0))
    }

    fn number(self) -> usize {
        match self {
            Self::Isa(irq) => usize::from(irq) % IRQS,
            Self::Pirq(pirq) => FIRST_PIRQ + pirq % PIRQS,
            Self::Pin(pin) => FIRST_PIN + pin % PINS,
        }
    }

    /// The I/O APIC's pin that it leads to.
    fn pin(self) -> usize {
        match self {
            Self::Isa(irq) => layout::isa_gsi(irq) as usize,
            Self::Pirq(pirq) => PIRQ_GSI as usize + pirq,
            Self::Pin(pin) => pin,
        }
    }

    fn from_number(number: usize) -> Self {
        match number {
            ..FIRST_PIRQ => Self::Isa(number as u8),
            FIRST_PIRQ..FIRST_PIN => Self::Pirq(number - FIRST_PIRQ),
            _ => Self::Pin(number - FIRST_PIN),
        }
    }
}

/// The hub's regions on the bus. The first three are the 8259 pair's own.
pub mod region {
    use super::PicPort;

    /// Ports 0x20 and 0x21.
    pub const PIC_MASTER: u8 = PicPort::MASTER;
    /// Ports 0xa0 and 0xa1.
    pub const PIC_SLAVE: u8 = PicPort::SLAVE;
    /// Ports 0x4d0 and 0x4d1.
    pub const ELCR: u8 = PicPort::ELCR;
    /// The I/O APIC's page.
    pub const IOAPIC: u8 = 3;
}

/// The hub.
pub struct Hub {
    // Wires.
    boxes: Vec<Arc<Mailbox>>,
    state: Mutex<State>,
}

struct State {
    // Wires.
    /// How many drivers hold each wire up.
    drivers: [u32; WIRES],
    // State.
    pic: Pic,
    ioapic: Ioapic,
    /// Which of the pair's inputs each PIRQ wire drives.
    routes: [Option<u8>; PIRQS],
    /// The pair's INT output as the processors see it.
    int: bool,
}

impl Hub {
    /// A hub in front of these processors.
    pub fn new(boxes: Vec<Arc<Mailbox>>) -> Arc<Self> {
        let mut pic = Pic::new();
        set_levels(&mut pic);
        Arc::new(Self {
            boxes,
            state: Mutex::new(State {
                drivers: [0; WIRES],
                pic,
                ioapic: Ioapic::default(),
                routes: [None; PIRQS],
                int: false,
            }),
        })
    }

    /// A driver's end of a wire.
    pub fn line(self: &Arc<Self>, wire: Wire) -> Line {
        Line::new(self.clone(), wire.number() as u32)
    }

    /// A PIRQ wire now drives this input of the 8259 pair, or none.
    pub fn route_pirq(&self, pirq: usize, irq: Option<u8>) {
        self.change(|state| {
            if let Some(route) = state.routes.get_mut(pirq) {
                let old = std::mem::replace(route, irq);
                [old, irq]
                    .into_iter()
                    .flatten()
                    .for_each(|irq| state.sync_input(irq));
            }
        });
    }

    /// A message-signalled interrupt: `data` was written to `address` (SDM volume 3, 11.11). What it says of the
    /// destination's mode holds with and without a redirection hint, as on every chipset.
    pub fn msi(&self, address: u64, data: u32) {
        let Some(delivery) = Delivery::decode(data >> 8) else {
            return;
        };
        if address >> 20 != layout::MSI.start >> 20 || delivery == Delivery::StartUp {
            return;
        }
        let (is_logical, is_redirected) = (address >> 2 & 1 != 0, address >> 3 & 1 != 0);
        let message = Message {
            to: Destination::short(is_logical, (address >> 12) as u8),
            delivery: match delivery {
                Delivery::Fixed if is_redirected && is_logical => Delivery::LowestPriority,
                delivery => delivery,
            },
            vector: data as u8,
            level: false,
        };
        deliver(&self.boxes, None, &message);
    }

    /// Delivers what the LAPIC of CPU `from` sends. Takes no lock.
    pub fn send(&self, from: usize, message: &Message) {
        deliver(&self.boxes, Some(from), message);
    }

    /// A level-triggered vector has been served.
    pub fn end_of_interrupt(&self, vector: u8) {
        self.change(|state| state.ioapic.end_of_interrupt(vector));
    }

    /// These level-triggered vectors are not going to be served; or a LAPIC may now take what it did not.
    pub fn redirected(&self, unserved: &Vectors) {
        self.change(|state| {
            for vector in unserved.iter() {
                state.ioapic.end_of_interrupt(vector);
            }
        });
    }

    /// A processor takes the 8259 pair's interrupt. `None` where it has gone away.
    pub fn acknowledge(&self) -> Option<u8> {
        let mut state = self.lock();
        if !state.pic.int() {
            return None;
        }
        let vector = state.pic.acknowledge();
        // INT falls during the acknowledgement, even if another request raises it at once.
        self.drive_int(&mut state, false);
        self.settle(&mut state);
        Some(vector)
    }

    /// Returns to the state in which firmware hands over. Levels and routes belong to those who drive and write them.
    pub fn reset(&self) {
        self.change(|state| {
            let State {
                drivers: _,
                pic,
                ioapic,
                routes: _,
                int: _,
            } = state;
            pic.reset();
            set_levels(pic);
            ioapic.reset();
        });
    }

    fn change(&self, act: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        act(&mut state);
        self.settle(&mut state);
    }

    /// Drives INT and sends what is ready, once a pin: what nobody takes is not offered again in the same pass.
    fn settle(&self, state: &mut State) {
        let int = state.pic.int();
        self.drive_int(state, int);
        for pin in 0..PINS {
            if let Some(message) = state.ioapic.ready(pin) {
                let taken = deliver(&self.boxes, None, &message);
                state.ioapic.sent(pin, taken);
            }
        }
    }

    fn drive_int(&self, state: &mut State, int: bool) {
        if state.int != int {
            state.int = int;
            state.ioapic.set_pin(INT_PIN, int);
            for mailbox in &self.boxes {
                mailbox.set_lint(0, int);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_up(&self, wire: Wire) -> bool {
        self.drivers[wire.number()] != 0
    }

    /// Drives an input of the 8259 pair as its ISA wire and the PIRQ wires routed to it say.
    fn sync_input(&mut self, irq: u8) {
        let routed = |pirq: usize| self.routes[pirq] == Some(irq) && self.is_up(Wire::Pirq(pirq));
        let level = self.is_up(Wire::Isa(irq)) || (0..PIRQS).any(routed);
        self.pic.set_irq(irq, level);
    }

    /// Drives a pin of the I/O APIC as the wires that lead to it say.
    fn sync_pin(&mut self, pin: usize) {
        let leads_here = |number: &usize| Wire::from_number(*number).pin() == pin;
        let level = (0..WIRES)
            .filter(leads_here)
            .any(|number| self.drivers[number] != 0);
        self.ioapic.set_pin(pin, level);
    }

    fn sync_wire(&mut self, wire: Wire) {
        self.sync_pin(wire.pin());
        let input = match wire {
            Wire::Isa(irq) => Some(irq),
            Wire::Pirq(pirq) => self.routes[pirq],
            Wire::Pin(_) => None,
        };
        if let Some(irq) = input {
            self.sync_input(irq);
        }
    }
}

impl LineSink for Hub {
    fn drive(&self, driver: u32, level: bool) {
        self.change(|state| {
            let Some(count) = state.drivers.get_mut(driver as usize) else {
                return;
            };
            // A line only tells its changes, so that the count is that of the lines that are up.
            *count = match level {
                true => count.saturating_add(1),
                false => count.saturating_sub(1),
            };
            state.sync_wire(Wire::from_number(driver as usize));
        });
    }
}

impl Direct for Hub {
    fn read(&self, access: Access) -> u64 {
        if access.region == region::IOAPIC {
            return self.lock().ioapic.read(access.offset).into();
        }
        let Some(port) = PicPort::decode(access.region, access.offset) else {
            return Width::Byte.ones();
        };
        // A read may acknowledge (a poll), which lowers INT.
        let mut state = self.lock();
        let value = state.pic.read(port);
        self.settle(&mut state);
        value.into()
    }

    fn write(&self, access: Access, value: u64) {
        self.change(|state| match access.region {
            region::IOAPIC => state.ioapic.write(access.offset, value as u32),
            region => {
                if let Some(port) = PicPort::decode(region, access.offset) {
                    state.pic.write(port, value as u8);
                }
            }
        });
    }
}

/// How many ISA wires there are.
/// What firmware writes to the ELCR.
fn set_levels(pic: &mut Pic) {
    let [master, slave] = layout::LEVEL_IRQS.to_le_bytes();
    pic.write(PicPort::Elcr(Chip::Master), master);
    pic.write(PicPort::Elcr(Chip::Slave), slave);
}

const IRQS: usize = 16;
const FIRST_PIRQ: usize = IRQS;
const FIRST_PIN: usize = FIRST_PIRQ + PIRQS;
const WIRES: usize = FIRST_PIN + PINS;
/// The I/O APIC's pin that the 8259 pair's INT leads to.
const INT_PIN: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Nanos;
    use crate::chipset::lapic::{Effect, Lapic};

    struct Bench {
        hub: Arc<Hub>,
        lapic: Lapic,
    }

    const T0: Nanos = Nanos(0);

    /// One CPU whose LAPIC is as firmware leaves it.
    fn bench() -> Bench {
        let mailbox = Arc::new(Mailbox::default());
        let mut lapic = Lapic::new(0, mailbox.clone());
        lapic.set_virtual_wire();
        Bench {
            hub: Hub::new(vec![mailbox]),
            lapic,
        }
    }

    impl Bench {
        fn put(&self, region: u8, offset: u64, width: Width, value: u64) {
            let access = Access {
                region,
                offset,
                width,
                now: T0,
            };
            self.hub.write(access, value);
        }

        fn entry(&self, pin: u64, value: u64) {
            for (index, half) in [(0x11, value >> 32), (0x10, value & 0xffff_ffff)] {
                self.put(region::IOAPIC, 0x00, Width::Dword, index + 2 * pin);
                self.put(region::IOAPIC, 0x10, Width::Dword, half);
            }
        }

        /// Sets the 8259 pair up with vectors from 0x30 and all inputs open.
        fn start_pic(&self) {
            let (master, slave) = (region::PIC_MASTER, region::PIC_SLAVE);
            let words = [(master, 0x30, 4), (slave, 0x38, 2)];
            for (region, base, cascade) in words {
                self.put(region, 0, Width::Byte, 0x11);
                for word in [base, cascade, 1, 0] {
                    self.put(region, 1, Width::Byte, word);
                }
            }
        }

        fn svr(&mut self, value: u64) -> Effect {
            self.lapic.mmio_write(0xfee0_00f0, Width::Dword, value, T0)
        }

        fn take(&mut self) -> Option<u8> {
            let released = self.lapic.scan(T0).released;
            if !released.is_empty() {
                self.hub.redirected(&released);
            }
            let vector = self.lapic.pending()?;
            self.lapic.accept(vector);
            Some(vector)
        }

        fn end(&mut self) {
            let effect = self.lapic.mmio_write(0xfee0_00b0, Width::Dword, 0, T0);
            if let Effect::Eoi(vector) = effect {
                self.hub.end_of_interrupt(vector);
            }
        }
    }

    #[test]
    fn a_shared_level_interrupts_until_its_last_driver_is_low() {
        let mut bench = bench();
        bench.entry(17, 0x8071);
        let [first, second] = [Wire::Pirq(1); 2].map(|wire| bench.hub.line(wire));
        first.set(true);
        second.set(true);
        assert_eq!(bench.take(), Some(0x71));
        first.set(false);
        assert_eq!(bench.take(), None);
        bench.end();
        assert_eq!(bench.take(), Some(0x71));
        drop(second);
        bench.end();
        assert_eq!(bench.take(), None);
    }

    #[test]
    fn the_timer_comes_at_pin_two() {
        let mut bench = bench();
        bench.entry(2, 0x40);
        let line = bench.hub.line(Wire::Isa(0));
        let shared = bench.hub.line(Wire::Pin(2));
        for _ in 0..2 {
            line.set(true);
            shared.set(true);
            shared.set(false);
            assert_eq!(bench.take(), Some(0x40));
            bench.end();
            line.set(false);
            assert_eq!(bench.take(), None);
        }
    }

    #[test]
    fn a_level_that_nobody_takes_comes_when_somebody_does() {
        let mut bench = bench();
        bench.entry(17, 0x8071);
        assert_ne!(bench.svr(0xff), Effect::None);
        let line = bench.hub.line(Wire::Pirq(1));
        line.set(true);
        assert_eq!(bench.take(), None);
        let Effect::Redirected(unserved) = bench.svr(0x1ff) else {
            panic!("not told");
        };
        bench.hub.redirected(&unserved);
        assert_eq!(bench.take(), Some(0x71));
    }

    #[test]
    fn a_level_refused_in_the_mailbox_does_not_stick() {
        let mut bench = bench();
        bench.entry(17, 0x8071);
        let line = bench.hub.line(Wire::Pirq(1));
        line.set(true);
        assert_ne!(bench.svr(0xff), Effect::None);
        assert_eq!(bench.take(), None);
        let Effect::Redirected(unserved) = bench.svr(0x1ff) else {
            panic!("not told");
        };
        bench.hub.redirected(&unserved);
        assert_eq!(bench.take(), Some(0x71));
    }

    #[test]
    fn init_gives_its_levels_back() {
        let mut bench = bench();
        bench.entry(17, 0x8071);
        let line = bench.hub.line(Wire::Pirq(1));
        line.set(true);
        assert_eq!(bench.take(), Some(0x71));
        let unserved = bench.lapic.init();
        bench.hub.redirected(&unserved);
        bench.lapic.set_virtual_wire();
        bench.hub.redirected(&Vectors::default());
        assert_eq!(bench.take(), Some(0x71));
    }

    #[test]
    fn the_pic_asks_through_lint0_and_tells_its_vector_when_asked() {
        let mut bench = bench();
        bench.start_pic();
        let [com1, rtc] = [4, 8].map(|irq| bench.hub.line(Wire::Isa(irq)));
        com1.set(true);
        bench.lapic.scan(T0);
        assert!(bench.lapic.has_ext_int());
        rtc.set(true);
        assert_eq!(bench.hub.acknowledge(), Some(0x38));
        assert!(!bench.lapic.has_ext_int());
        assert_eq!(bench.hub.acknowledge(), None);
        bench.put(region::PIC_SLAVE, 0, Width::Byte, 0x20);
        bench.put(region::PIC_MASTER, 0, Width::Byte, 0x20);
        assert!(bench.lapic.has_ext_int());
        com1.set(false);
        assert!(!bench.lapic.has_ext_int());
    }

    #[test]
    fn the_pic_also_asks_through_pin_zero_again_and_again() {
        let mut bench = bench();
        bench.start_pic();
        let _ = bench
            .lapic
            .mmio_write(0xfee0_0350, Width::Dword, 0x1_0000, T0);
        bench.entry(0, 0x700);
        let [first, second] = [4, 6].map(|irq| bench.hub.line(Wire::Isa(irq)));
        first.set(true);
        second.set(true);
        for vector in [0x34, 0x36] {
            bench.lapic.scan(T0);
            assert!(bench.lapic.has_ext_int());
            bench.lapic.ext_int_taken();
            assert_eq!(bench.hub.acknowledge(), Some(vector));
            bench.put(region::PIC_MASTER, 0, Width::Byte, 0x20);
        }
        bench.lapic.scan(T0);
        assert!(!bench.lapic.has_ext_int());
    }

    #[test]
    fn a_pirq_follows_its_route() {
        let bench = bench();
        bench.start_pic();
        bench.put(region::ELCR, 1, Width::Byte, 0x0c);
        let line = bench.hub.line(Wire::Pirq(3));
        line.set(true);
        assert_eq!(bench.hub.acknowledge(), None);
        bench.hub.route_pirq(3, Some(11));
        assert_eq!(bench.hub.acknowledge(), Some(0x3b));
        bench.hub.route_pirq(3, None);
        bench.put(region::PIC_SLAVE, 0, Width::Byte, 0x20);
        bench.put(region::PIC_MASTER, 0, Width::Byte, 0x20);
        assert_eq!(bench.hub.acknowledge(), None);
    }

    #[test]
    fn messages_go_where_address_and_data_say() {
        let mut bench = bench();
        for (address, data, expected) in [
            (0xfee0_0000, 0x0031, Some(0x31)),
            (0xfee0_1000, 0x0032, None),
            (0xfeef_f004, 0x0133, Some(0x33)),
            (0xfee0_0000, 0x0634, None),
            (0xfed0_0000, 0x0035, None),
            (0x1_fee0_0000, 0x0036, None),
            (0xfee0_0000, 0x0007, None),
        ] {
            bench.hub.msi(address, data);
            assert_eq!(bench.take(), expected, "{address:#x} {data:#x}");
            bench.end();
        }
        bench.hub.msi(0xfee0_0000, 0x0400);
        assert!(bench.lapic.scan(T0).nmi);
    }

    /// Moving interrupts about, as balancing them does all the time, stops no processor: what an entry says goes with
    /// the next message.
    #[test]
    fn changing_entries_disturbs_no_processor() {
        use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
        let wakes: [Arc<AtomicU32>; 4] = Default::default();
        let boxes: Vec<Arc<Mailbox>> = (0..4).map(|_| Arc::default()).collect();
        let mut lapics: Vec<Lapic> = Vec::new();
        for (id, mailbox) in boxes.iter().enumerate() {
            let count = wakes[id].clone();
            mailbox.on_post(move || {
                count.fetch_add(1, SeqCst);
            });
            lapics.push(Lapic::new(id as u8, mailbox.clone()));
            lapics[id].set_virtual_wire();
        }
        let mut bench = Bench {
            hub: Hub::new(boxes),
            lapic: lapics.remove(3),
        };
        for round in 0..1_000 {
            for pin in 0..24 {
                let (level, mask) = (round & 1, u64::from(round % 3 == 0));
                let to = round % 4;
                bench.entry(pin, to << 56 | mask << 16 | level << 15 | 0x40 + pin);
            }
        }
        assert_eq!(wakes.each_ref().map(|count| count.load(SeqCst)), [0; 4]);
        // The trigger mode goes with the message, not before it.
        bench.entry(17, 3 << 56 | 0x8071);
        let line = bench.hub.line(Wire::Pirq(1));
        line.set(true);
        assert_eq!(
            wakes.each_ref().map(|count| count.load(SeqCst)),
            [0, 0, 0, 1]
        );
        assert_eq!(bench.take(), Some(0x71));
        line.set(false);
        let eoi = bench.lapic.mmio_write(0xfee0_00b0, Width::Dword, 0, T0);
        assert_eq!(eoi, Effect::Eoi(0x71));
    }

    #[test]
    fn a_reset_closes_every_pin_and_keeps_the_wires() {
        let mut bench = bench();
        bench.start_pic();
        let line = bench.hub.line(Wire::Isa(4));
        line.set(true);
        bench.hub.reset();
        assert_eq!(bench.hub.acknowledge(), None);
        bench.entry(4, 0x8044);
        assert_eq!(bench.take(), Some(0x44));
    }

    #[test]
    fn firmware_makes_the_inputs_of_shared_wires_level_triggered() {
        let bench = bench();
        for _ in 0..2 {
            // The SCI on 9, the PIRQ wires on 5, 7, 10 and 11.
            let elcr = [0, 1].map(|offset| {
                bench.hub.read(Access {
                    region: region::ELCR,
                    offset,
                    width: Width::Byte,
                    now: T0,
                })
            });
            assert_eq!(elcr, [0xa0, 0x0e]);
            bench.put(region::ELCR, 1, Width::Byte, 0);
            bench.hub.reset();
        }
    }
}
