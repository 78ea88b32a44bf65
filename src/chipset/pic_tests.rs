//! The data sheet's modes one by one, then anything a guest and its devices can do.

use proptest::prelude::*;

use super::*;

const CMD: PicPort = PicPort::Command(Chip::Master);
const DATA: PicPort = PicPort::Data(Chip::Master);
const CMD2: PicPort = PicPort::Command(Chip::Slave);
const DATA2: PicPort = PicPort::Data(Chip::Slave);

/// Both chips initialized as a PC does it: vectors 0x20 and 0x28, slave at input 2.
fn started(icw4: u8) -> Pic {
    let mut pic = Pic::new();
    for (command, data, base, cascade) in [(CMD, DATA, 0x20, 4), (CMD2, DATA2, 0x28, 2)] {
        pic.write(command, 0x11);
        pic.write(data, base);
        pic.write(data, cascade);
        pic.write(data, icw4);
    }
    pic
}

fn pulse(pic: &mut Pic, irq: u8) {
    pic.set_irq(irq, false);
    pic.set_irq(irq, true);
}

fn isr(pic: &mut Pic, command: PicPort) -> u8 {
    pic.write(command, 0x0b);
    pic.read(command)
}

fn irr(pic: &mut Pic, command: PicPort) -> u8 {
    pic.write(command, 0x0a);
    pic.read(command)
}

#[test]
fn nothing_interrupts_before_initialization_ends() {
    let mut pic = Pic::new();
    pic.set_irq(1, true);
    assert!(!pic.int());
    pic.write(CMD, 0x11);
    pic.set_irq(1, false);
    pic.set_irq(1, true);
    for word in [0x20, 4] {
        pic.write(DATA, word);
        assert!(!pic.int());
    }
    pic.write(DATA, 1);
    assert_eq!((pic.int(), pic.acknowledge()), (true, 0x21));
}

#[test]
fn a_single_chip_without_icw4_needs_two_words() {
    let mut pic = Pic::new();
    pic.write(CMD, 0x12);
    pic.write(DATA, 0x47);
    pic.write(DATA, 0xfe);
    assert_eq!(pic.read(DATA), 0xfe, "this was OCW1 already");
    pic.write(DATA, 0);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x40, "low bits of ICW2 are the input");
}

#[test]
fn edges_are_latched_until_acknowledged() {
    let mut pic = started(1);
    pic.set_irq(3, true);
    assert_eq!((pic.int(), irr(&mut pic, CMD)), (true, 8));
    assert_eq!(pic.acknowledge(), 0x23);
    assert_eq!((irr(&mut pic, CMD), isr(&mut pic, CMD)), (0, 8));
    pic.write(CMD, 0x20);
    assert!(!pic.int(), "still high, but no new edge");
    pulse(&mut pic, 3);
    assert!(pic.int());
}

#[test]
fn a_request_that_goes_early_gives_vector_seven() {
    let mut pic = started(1);
    pic.set_irq(3, true);
    pic.set_irq(3, false);
    assert!(!pic.int());
    assert_eq!((pic.acknowledge(), isr(&mut pic, CMD)), (0x27, 0));
}

#[test]
fn a_slaves_request_that_goes_early_gives_its_vector_seven() {
    let mut pic = started(1);
    pic.write(PicPort::Elcr(Chip::Slave), 0x02);
    pic.set_irq(9, true);
    // The first chip has the request still latched at the moment of the first INTA.
    pic.slave.inputs = 0;
    assert_eq!(pic.acknowledge(), 0x2f);
    assert_eq!((isr(&mut pic, CMD), isr(&mut pic, CMD2)), (4, 0));
}

#[test]
fn levels_ask_again_after_eoi() {
    let mut pic = started(1);
    pic.write(PicPort::Elcr(Chip::Master), 0xff);
    pic.write(PicPort::Elcr(Chip::Slave), 0xff);
    assert_eq!(pic.read(PicPort::Elcr(Chip::Master)), 0xf8);
    assert_eq!(pic.read(PicPort::Elcr(Chip::Slave)), 0xde);
    pic.set_irq(5, true);
    assert_eq!(pic.acknowledge(), 0x25);
    assert!(!pic.int());
    pic.write(CMD, 0x20);
    assert!(pic.int());
    pic.set_irq(5, false);
    assert!(!pic.int());
    pic.set_irq(5, true);
    pic.write(PicPort::Elcr(Chip::Master), 0);
    assert!(!pic.int(), "becoming edge triggered is no edge");
}

#[test]
fn the_cascade_delivers_the_second_chips_vectors() {
    let mut pic = started(1);
    pic.set_irq(2, true);
    assert!(!pic.int(), "input 2 belongs to the cascade");
    pic.set_irq(12, true);
    pic.set_irq(8, true);
    assert_eq!(pic.acknowledge(), 0x28);
    assert!(!pic.int());
    pic.write(CMD2, 0x20);
    assert!(!pic.int(), "the first chip still serves the second");
    pic.write(CMD, 0x20);
    assert_eq!(pic.acknowledge(), 0x2c);
    assert_eq!((isr(&mut pic, CMD), isr(&mut pic, CMD2)), (4, 0x10));
}

#[test]
fn a_slave_with_another_identity_does_not_answer() {
    let mut pic = started(1);
    pic.write(CMD2, 0x11);
    for word in [0x28, 5, 1] {
        pic.write(DATA2, word);
    }
    pulse(&mut pic, 8);
    assert_eq!(pic.acknowledge(), 0xff);
}

#[test]
fn lower_priorities_wait_and_higher_ones_nest() {
    let mut pic = started(1);
    pulse(&mut pic, 4);
    pic.acknowledge();
    pulse(&mut pic, 6);
    assert!(!pic.int());
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x21);
    pic.write(CMD, 0x20);
    assert_eq!(isr(&mut pic, CMD), 0x10, "the highest ended first");
    pic.write(CMD, 0x64);
    assert_eq!(isr(&mut pic, CMD), 0);
    assert_eq!(pic.acknowledge(), 0x26);
}

#[test]
fn masks_hold_back_and_keep() {
    let mut pic = started(1);
    pic.write(DATA, 0x02);
    pulse(&mut pic, 1);
    assert_eq!((pic.int(), irr(&mut pic, CMD)), (false, 2));
    pic.write(DATA, 0);
    assert!(pic.int());
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut pic = started(3);
    pulse(&mut pic, 4);
    assert_eq!((pic.acknowledge(), isr(&mut pic, CMD)), (0x24, 0));
    pic.write(CMD, 0x80);
    for irq in [3, 4] {
        pulse(&mut pic, irq);
    }
    assert_eq!(pic.acknowledge(), 0x23);
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x24, "3 has rotated to the end");
    pic.write(CMD, 0x00);
    assert_eq!(pic.acknowledge(), 0x23);
    pulse(&mut pic, 4);
    pulse(&mut pic, 5);
    assert_eq!(pic.acknowledge(), 0x25, "4 is still the last");
}

#[test]
fn rotation_moves_the_ended_one_to_the_end() {
    let mut pic = started(1);
    pulse(&mut pic, 3);
    pic.acknowledge();
    pic.write(CMD, 0xa0);
    pulse(&mut pic, 3);
    pulse(&mut pic, 7);
    assert_eq!(pic.acknowledge(), 0x27);
    pic.write(CMD, 0xe7);
    pulse(&mut pic, 0);
    pulse(&mut pic, 7);
    assert_eq!(pic.acknowledge(), 0x20);
}

#[test]
fn priority_can_be_set() {
    let mut pic = started(1);
    pic.write(CMD, 0xc5);
    pulse(&mut pic, 0);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x26);
    assert!(!pic.int());
    pic.write(CMD, 0x20);
    assert_eq!(pic.acknowledge(), 0x20);
}

#[test]
fn a_poll_acknowledges_by_reading() {
    let mut pic = started(1);
    pic.write(CMD, 0x0c);
    assert_eq!(pic.read(CMD), 0);
    pulse(&mut pic, 6);
    pic.write(CMD, 0x0c);
    assert_eq!(pic.read(CMD), 0x86);
    assert!(!pic.int());
    assert_eq!(isr(&mut pic, CMD), 0x40);
    pulse(&mut pic, 1);
    pic.write(CMD, 0x0c);
    assert_eq!(pic.read(DATA), 0x81, "with A0 = 1 too");
}

#[test]
fn the_special_mask_mode_lets_lower_priorities_in() {
    let mut pic = started(1);
    pulse(&mut pic, 3);
    pic.acknowledge();
    pulse(&mut pic, 5);
    assert!(!pic.int());
    pic.write(DATA, 0x08);
    pic.write(CMD, 0x68);
    assert_eq!(pic.acknowledge(), 0x25);
    pic.write(CMD, 0x20);
    assert_eq!(isr(&mut pic, CMD), 0x08, "the masked one is not ended");
    pic.write(CMD, 0x20);
    assert_eq!(isr(&mut pic, CMD), 0x08);
    pic.write(CMD, 0x48);
    pic.write(CMD, 0x20);
    assert_eq!(isr(&mut pic, CMD), 0);
}

#[test]
fn special_full_nesting_lets_the_slave_nest_and_nobody_below() {
    for (icw4, nests) in [(0x01, false), (0x11, true)] {
        let mut pic = started(icw4);
        pulse(&mut pic, 12);
        assert_eq!(pic.acknowledge(), 0x2c);
        pulse(&mut pic, 3);
        assert!(!pic.int());
        pulse(&mut pic, 9);
        assert_eq!(pic.int(), nests);
        if nests {
            assert_eq!(pic.acknowledge(), 0x29);
        }
    }
}

#[test]
fn icw1_clears_the_mask_and_the_latches() {
    let mut pic = started(1);
    pic.write(DATA, 0xff);
    pulse(&mut pic, 1);
    pic.write(CMD, 0x11);
    for word in [0x20, 4, 1] {
        pic.write(DATA, word);
    }
    assert_eq!((pic.read(DATA), pic.int()), (0, false));
}

#[test]
fn reset_keeps_the_wires() {
    let mut pic = started(1);
    pic.set_irq(5, true);
    pic.reset();
    assert_eq!((pic.int(), pic.master.inputs), (false, 0x20));
}

#[test]
fn decode_knows_its_six_ports_only() {
    let ports: Vec<_> = (0..4)
        .flat_map(|region| (0..3).map(move |offset| PicPort::decode(region, offset)))
        .flatten()
        .collect();
    assert_eq!(ports.len(), 6);
}

#[derive(Clone, Debug)]
enum Op {
    Read(u8, u64),
    Write(u8, u64, u8),
    Irq(u8, bool),
    Acknowledge,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u8..3, 0u64..2).prop_map(|(r, o)| Op::Read(r, o)),
        (0u8..3, 0u64..2, any::<u8>()).prop_map(|(r, o, v)| Op::Write(r, o, v)),
        (any::<u8>(), any::<bool>()).prop_map(|(i, l)| Op::Irq(i % 20, l)),
        Just(Op::Acknowledge),
    ]
}

proptest! {
    /// Nothing panics, and an acknowledged INT always falls, rises only for a higher priority or with automatic EOI.
    #[test]
    fn any_sequence_is_harmless(ops in prop::collection::vec(op(), 0..200)) {
        let mut pic = started(1);
        for op in ops {
            match op {
                Op::Read(region, offset) => {
                    pic.read(PicPort::decode(region, offset).unwrap());
                }
                Op::Write(region, offset, value) => pic.write(PicPort::decode(region, offset).unwrap(), value),
                Op::Irq(irq, level) => pic.set_irq(irq, level),
                Op::Acknowledge => {
                    let request = pic.master.request();
                    let vector = pic.acknowledge();
                    if request.is_none() {
                        prop_assert_eq!(vector & 7, 7);
                    } else if pic.master.icw4 & icw4::AUTO_EOI == 0 {
                        prop_assert!(pic.master.isr & 1 << request.unwrap() != 0);
                    }
                }
            }
            prop_assert_eq!(pic.master.inputs & 1 << CASCADE != 0, pic.slave.int());
        }
    }

    /// Fully nested mode with EOIs by the book serves every edge exactly once.
    #[test]
    fn every_edge_is_served_once(irqs in prop::collection::vec(0u8..16, 1..60)) {
        let mut pic = started(1);
        let mut served = [0u32; 16];
        let mut raised = [0u32; 16];
        for irq in irqs.into_iter().filter(|&irq| irq != 2) {
            pulse(&mut pic, irq);
            raised[irq as usize] += 1;
            while pic.int() {
                let vector = pic.acknowledge();
                served[usize::from(vector - 0x20)] += 1;
                if vector >= 0x28 {
                    pic.write(CMD2, 0x20);
                }
                pic.write(CMD, 0x20);
            }
        }
        prop_assert_eq!(served, raised);
    }
}
