//! The chips of a PC's chipset: interrupt controllers, timers, clock, serial ports, power.
//!
//! A chip is a register core without lock, bus or clock, and a thin adapter that turns an access into a register,
//! then drives the chip's wire from the core's state.

pub mod hpet;
pub mod hub;
pub mod ioapic;
pub mod lapic;
pub mod mailbox;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod ports;
pub mod power;
pub mod rtc;
pub mod uart;
