//! What a port does while its device is at something, without threads.

use super::super::port::Port;
use super::super::regs::PortReg;
use super::*;

/// A port with a disk, running, on the lists of the driver.
fn port(ram: &Ram) -> Port {
    let mut port = Port::new(Some(disk(64, DiskAccess::ReadOnly).into_unit()));
    let mut write = |register, value| port.write(register, value, u32::MAX, ram);
    write(PortReg::Clb, LIST as u32);
    write(PortReg::Fb, RECEIVED as u32);
    write(PortReg::Cmd, FRE | ST);
    write(PortReg::Sact, 1 << 3);
    port
}

/// Issues a queued read with tag 3 and another command, and lets the first be fetched.
fn met(second: &Order) -> (Port, Driver) {
    let driver = Driver::new(Vec::new());
    driver.put(0, 3, &Order::queued(0x60, 3, 8, 1).with(BUFFER, 512));
    driver.put(0, 4, second);
    let mut port = port(&driver.ram);
    port.write(PortReg::Ci, 1 << 3 | 1 << 4, u32::MAX, &driver.ram);
    assert!(port.take(&driver.ram).is_some());
    assert_eq!(
        port.read(PortReg::Ci),
        1 << 4,
        "a queued command frees its slot"
    );
    (port, driver)
}

#[test]
fn another_tag_is_taken_while_the_first_is_under_way() {
    let (mut port, driver) = met(&Order::queued(0x60, 4, 9, 1).with(BUFFER, 512));
    assert!(port.take(&driver.ram).is_some());
    assert_eq!((port.read(PortReg::Ci), port.read(PortReg::Tfd)), (0, 0x50));
}

#[test]
fn the_same_tag_and_a_command_that_is_not_queued_end_the_queue() {
    for second in [Order::queued(0x60, 3, 9, 1), Order::new(0x25, 9, 1)] {
        let (mut port, driver) = met(&second.with(BUFFER, 512));
        assert!(port.take(&driver.ram).is_none());
        assert_eq!(port.read(PortReg::Tfd), 0x0451);
        assert_eq!(port.read(PortReg::Is) & (TFES | DHRS), TFES | DHRS);
        assert_eq!(
            (port.read(PortReg::Ci), port.read(PortReg::Sact)),
            (1 << 4, 1 << 3)
        );
        assert!(port.is_settling(), "the first is still being worked on");
    }
}

#[test]
fn a_command_that_is_not_queued_is_alone() {
    let driver = Driver::new(Vec::new());
    let mut port = port(&driver.ram);
    for slot in [0, 1] {
        driver.put(0, slot, &Order::new(0x25, 9, 1).with(BUFFER, 512));
    }
    port.write(PortReg::Ci, 3, u32::MAX, &driver.ram);
    let job = port.take(&driver.ram).unwrap();
    assert_eq!(port.read(PortReg::Tfd) & 0x80, 0x80);
    assert!(port.take(&driver.ram).is_none());
    let answer = job.perform(&driver.ram);
    port.finish(&driver.ram, &job, answer);
    assert_eq!((port.read(PortReg::Ci), port.read(PortReg::Tfd)), (2, 0x50));
    assert!(port.take(&driver.ram).is_some());
}
