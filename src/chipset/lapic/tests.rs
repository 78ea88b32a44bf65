use super::*;
use crate::chipset::mailbox::deliver;
use proptest::prelude::*;

const T0: Nanos = Nanos(0);
const PAGE: u64 = 0xfee0_0000;

fn lapic(id: u8) -> (Lapic, [Arc<Mailbox>; 1]) {
    let mailbox = Arc::new(Mailbox::default());
    let mut lapic = Lapic::new(id, mailbox.clone());
    assert_eq!(
        put(&mut lapic, 0xf0, 0x1ff),
        Effect::Redirected(Vectors::default())
    );
    (lapic, [mailbox])
}

fn x2apic(id: u8) -> (Lapic, [Arc<Mailbox>; 1]) {
    let (mut lapic, mailbox) = lapic(id);
    let base = lapic.msr_read(0x1b, T0).unwrap();
    assert!(lapic.msr_write(0x1b, base | 0x400, T0).is_some());
    (lapic, mailbox)
}

fn put(lapic: &mut Lapic, offset: u64, value: u32) -> Effect {
    lapic.mmio_write(PAGE + offset, Width::Dword, value.into(), T0)
}

fn take(lapic: &mut Lapic, offset: u64) -> u32 {
    lapic.mmio_read(PAGE + offset, Width::Dword, T0) as u32
}

fn fixed(vector: u8, level: bool) -> Message {
    Message {
        to: Destination::Everyone,
        delivery: Delivery::Fixed,
        vector,
        level,
    }
}

fn sent(effect: Effect) -> (Destination, Delivery, u8) {
    match effect {
        Effect::Send(message) => (message.to, message.delivery, message.vector),
        other => panic!("not sent: {other:?}"),
    }
}

#[test]
fn a_vector_goes_from_request_to_service_to_end() {
    let (mut lapic, boxes) = lapic(0);
    assert!(deliver(&boxes, None, &fixed(0x51, false)));
    assert_eq!(lapic.pending(), None);
    assert_eq!(lapic.scan(T0), Work::default());
    assert_eq!(lapic.pending(), Some(0x51));
    assert_eq!(take(&mut lapic, 0x220), 1 << 17);
    lapic.accept(0x51);
    assert_eq!(
        (take(&mut lapic, 0x220), take(&mut lapic, 0x120)),
        (0, 1 << 17)
    );
    assert_eq!(take(&mut lapic, 0xa0), 0x50);
    assert_eq!(boxes[0].identity().priority, 0x50);
    assert_eq!(put(&mut lapic, 0xb0, 0), Effect::None);
    assert_eq!(take(&mut lapic, 0xa0), 0);
}

#[test]
fn priority_classes_nest_and_equals_wait() {
    let (mut lapic, boxes) = lapic(0);
    for vector in [0x41, 0x4f, 0x60] {
        deliver(&boxes, None, &fixed(vector, false));
    }
    lapic.scan(T0);
    lapic.accept(0x60);
    assert_eq!(lapic.pending(), None);
    assert_eq!(put(&mut lapic, 0xb0, 0), Effect::None);
    assert_eq!(lapic.pending(), Some(0x4f));
    lapic.accept(0x4f);
    assert_eq!(lapic.pending(), None);
    lapic.set_cr8(0);
    assert_eq!(put(&mut lapic, 0xb0, 0), Effect::None);
    lapic.set_cr8(4);
    assert_eq!(
        (lapic.pending(), lapic.cr8(), take(&mut lapic, 0x80)),
        (None, 4, 0x40)
    );
    lapic.set_cr8(3);
    assert_eq!(lapic.pending(), Some(0x41));
}

#[test]
fn the_end_of_a_level_is_told_unless_suppressed() {
    let (mut lapic, boxes) = lapic(0);
    for (svr, expected) in [(0x1ff, Effect::Eoi(0x71)), (0x11ff, Effect::None)] {
        let _ = put(&mut lapic, 0xf0, svr);
        deliver(&boxes, None, &fixed(0x71, true));
        lapic.scan(T0);
        lapic.accept(0x71);
        assert_eq!(put(&mut lapic, 0xb0, 0), expected);
    }
    // The same vector as an edge: the trigger mode is of the delivery, not of the vector.
    let _ = put(&mut lapic, 0xf0, 0x1ff);
    deliver(&boxes, None, &fixed(0x71, false));
    lapic.scan(T0);
    lapic.accept(0x71);
    assert_eq!(put(&mut lapic, 0xb0, 0), Effect::None);
}

#[test]
fn what_a_disabled_lapic_finds_in_the_box_is_released() {
    let (mut lapic, boxes) = lapic(0);
    assert!(deliver(&boxes, None, &fixed(0x71, true)));
    let _ = put(&mut lapic, 0xf0, 0xff);
    let work = lapic.scan(T0);
    assert_eq!(work.released.highest(), Some(0x71));
    assert_eq!(lapic.pending(), None);
    assert!(!deliver(&boxes, None, &fixed(0x71, true)));
    assert_eq!(
        put(&mut lapic, 0xf0, 0x1ff),
        Effect::Redirected(Vectors::default())
    );
}

#[test]
fn init_forgets_and_releases_levels_in_request_and_in_service() {
    let (mut lapic, boxes) = x2apic(1);
    for (vector, level) in [(0x80, true), (0x71, true), (0x61, false)] {
        deliver(&boxes, None, &fixed(vector, level));
    }
    lapic.scan(T0);
    lapic.accept(0x80);
    let released: Vec<u8> = lapic.init().iter().collect();
    assert_eq!(released, [0x80, 0x71]);
    assert_eq!(lapic.pending(), None);
    assert_eq!(lapic.msr_read(0x80f, T0), Some(0xff));
    assert_eq!(boxes[0].identity().mode, Mode::X2apic);
}

#[test]
fn commands_reach_whom_they_name() {
    let (mut lapic, _) = lapic(3);
    let mut command = |high: u32, low: u32| {
        let _ = put(&mut lapic, 0x310, high);
        sent(put(&mut lapic, 0x300, low))
    };
    use Delivery::*;
    use Destination::*;
    assert_eq!(command(0x0200_0000, 0x0_40fd), (Physical(2), Fixed, 0xfd));
    assert_eq!(
        command(0x0500_0000, 0x0_49fd),
        (Logical(5), LowestPriority, 0xfd)
    );
    assert_eq!(command(0xff00_0000, 0x0_40fd), (Everyone, Fixed, 0xfd));
    assert_eq!(command(0, 0x4_0040), (Oneself, Fixed, 0x40));
    assert_eq!(command(0, 0x8_4040), (Everyone, Fixed, 0x40));
    assert_eq!(command(0, 0xc_4400), (EveryoneElse, Nmi, 0));
    assert_eq!(command(0x0100_0000, 0x0_c500), (Physical(1), Init, 0));
    assert_eq!(command(0x0100_0000, 0x0_469a), (Physical(1), StartUp, 0x9a));
    for nothing in [0x0_8500, 0x0_0300, 0x0_0700, 0x8_4500, 0x4_0400] {
        assert_eq!(
            put(&mut lapic, 0x300, nothing),
            Effect::None,
            "{nothing:#x}"
        );
    }
}

#[test]
fn the_timer_interrupts_in_each_mode_and_not_when_masked() {
    let (mut lapic, _) = lapic(0);
    let _ = put(&mut lapic, 0x3e0, 0xb);
    for (lvt, fires) in [(0x0_00ec, true), (0x2_00ec, true), (0x1_00ec, false)] {
        let _ = put(&mut lapic, 0x320, lvt);
        let _ = put(&mut lapic, 0x380, 100_000);
        assert_eq!(lapic.deadline(), fires.then_some(Nanos(1_000_000)));
        lapic.scan(Nanos(999_999));
        assert_eq!(lapic.pending(), None);
        lapic.scan(Nanos(1_000_000));
        assert_eq!(lapic.pending(), fires.then_some(0xec), "{lvt:#x}");
        lapic.irr = Vectors::default();
    }
    let _ = put(&mut lapic, 0x320, 0x4_00ec);
    assert_eq!(lapic.msr_write(0x6e0, 5_000, T0), Some(Effect::None));
    assert_eq!(
        (lapic.deadline(), lapic.msr_read(0x6e0, T0)),
        (Some(Nanos(5_000)), Some(5_000))
    );
    lapic.scan(Nanos(5_000));
    assert_eq!(
        (lapic.pending(), lapic.msr_read(0x6e0, T0)),
        (Some(0xec), Some(0))
    );
}

#[test]
fn errors_interrupt_once_and_are_latched_by_a_write() {
    let (mut lapic, boxes) = lapic(0);
    let _ = put(&mut lapic, 0x370, 0xfe);
    assert_eq!(put(&mut lapic, 0x300, 0x4_000f), Effect::None);
    assert_eq!(lapic.pending(), Some(0xfe));
    deliver(&boxes, None, &fixed(3, false));
    lapic.scan(T0);
    take(&mut lapic, 0x90);
    assert_eq!(take(&mut lapic, 0x280), 0);
    let _ = put(&mut lapic, 0x280, 0);
    assert_eq!(take(&mut lapic, 0x280), 0xe0);
    let _ = put(&mut lapic, 0x280, 0);
    assert_eq!(take(&mut lapic, 0x280), 0);
}

#[test]
fn lint0_passes_the_pic_on_and_lint1_is_nmi() {
    let (mut lapic, boxes) = lapic(0);
    boxes[0].set_lint(0, true);
    lapic.scan(T0);
    assert!(!lapic.has_ext_int());
    lapic.set_virtual_wire();
    assert!(lapic.has_ext_int());
    boxes[0].set_lint(0, false);
    assert!(!lapic.has_ext_int());
    boxes[0].set_lint(1, true);
    assert!(lapic.scan(T0).nmi);
    boxes[0].set_lint(1, true);
    assert!(!lapic.scan(T0).nmi);
}

#[test]
fn a_pin_delivers_what_its_entry_says_at_its_edge() {
    let (mut lapic, boxes) = lapic(1);
    let mut edge = |entry: u32| {
        boxes[0].set_lint(1, false);
        let _ = put(&mut lapic, 0x360, entry);
        boxes[0].set_lint(1, true);
        let work = lapic.scan(T0);
        let vector = lapic.pending();
        lapic.irr = Vectors::default();
        (work.nmi, work.init, vector)
    };
    assert_eq!(edge(0x0_0041), (false, false, Some(0x41)));
    assert_eq!(edge(0x0_0400), (true, false, None));
    assert_eq!(edge(0x0_0500), (false, true, None));
    // Masked, SMI (there is none), reserved.
    for silent in [0x1_0041, 0x1_0400, 0x1_0500, 0x0_0200, 0x0_0100, 0x0_0600] {
        assert_eq!(edge(silent), (false, false, None), "{silent:#x}");
    }
    assert_eq!(lapic.scan(T0), Work::default());
}

#[test]
fn a_level_at_lint0_waits_for_its_end() {
    let (mut lapic, boxes) = lapic(0);
    let _ = put(&mut lapic, 0x350, 0x8_0000 | 0x8000 | 0x33);
    boxes[0].set_lint(0, true);
    lapic.scan(T0);
    assert_eq!(take(&mut lapic, 0x350) & 0x4000, 0x4000);
    lapic.accept(0x33);
    lapic.scan(T0);
    assert_eq!(lapic.pending(), None);
    assert_eq!(put(&mut lapic, 0xb0, 0), Effect::Eoi(0x33));
    assert_eq!(lapic.pending(), Some(0x33));
}

#[test]
fn switching_off_makes_the_pins_the_processors_own() {
    let (mut lapic, boxes) = lapic(0);
    assert_eq!(
        lapic.msr_write(0x1b, PAGE, T0),
        Some(Effect::Redirected(Vectors::default()))
    );
    boxes[0].set_lint(0, true);
    boxes[0].set_lint(1, true);
    assert!(lapic.scan(T0).nmi && lapic.has_ext_int() && !lapic.claims(PAGE));
    assert!(!deliver(&boxes, None, &fixed(0x40, false)));
}

#[test]
fn the_page_moves_and_x2apic_takes_it_away() {
    let (mut lapic, _) = lapic(0);
    assert!(lapic.msr_write(0x1b, 0x1000_0900, T0).is_some());
    assert!(lapic.claims(0x1000_0ff0) && !lapic.claims(PAGE));
    assert!(lapic.msr_write(0x1b, 0x1000_0d00, T0).is_some());
    assert!(!lapic.claims(0x1000_0ff0));
}

#[test]
fn modes_follow_each_other_as_the_figure_says() {
    let (mut lapic, _) = lapic(0);
    let (off, on, x2) = (PAGE, PAGE | 0x800, PAGE | 0xc00);
    for (value, is_valid) in [
        (PAGE | 0x400, false),
        (on, true),
        (x2, true),
        (on, false),
        (off, true),
        (x2, false),
        (on, true),
        (on | 1, false),
        (on | 1 << 39, false),
    ] {
        assert_eq!(
            lapic.msr_write(0x1b, value, T0).is_some(),
            is_valid,
            "{value:#x}"
        );
    }
    assert_eq!(lapic.msr_read(0x1b, T0), Some(on | 0x100));
}

#[test]
fn x2apic_registers_refuse_what_they_must() {
    let (mut lapic, _) = x2apic(0x21);
    assert_eq!(lapic.msr_read(0x802, T0), Some(0x21));
    assert_eq!(lapic.msr_read(0x80d, T0), Some(0x2_0002));
    for unreadable in [0x800, 0x80b, 0x80e, 0x831, 0x83f, 0x8ff] {
        assert_eq!(lapic.msr_read(unreadable, T0), None, "{unreadable:#x}");
    }
    for (msr, value) in [
        (0x802, 0),
        (0x803, 0),
        (0x808, 0x100),
        (0x80a, 0),
        (0x80b, 1),
        (0x80d, 1),
        (0x80f, 0x200),
        (0x828, 1),
        (0x830, 1 << 13),
        (0x832, 1 << 19),
        (0x835, 1 << 17),
        (0x838, 1 << 32),
        (0x839, 0),
        (0x83e, 4),
        (0x83f, 0x100),
    ] {
        assert_eq!(lapic.msr_write(msr, value, T0), None, "{msr:#x} {value:#x}");
    }
    let effect = lapic.msr_write(0x830, 0x1_0002 << 32 | 0x8fd, T0).unwrap();
    assert_eq!(
        sent(effect),
        (Destination::Logical(0x1_0002), Delivery::Fixed, 0xfd)
    );
    let effect = lapic.msr_write(0x83f, 0x44, T0).unwrap();
    assert_eq!(sent(effect), (Destination::Oneself, Delivery::Fixed, 0x44));
}

#[test]
fn an_xapic_has_no_msrs() {
    let (mut lapic, _) = lapic(0);
    assert_eq!(
        (lapic.msr_read(0x802, T0), lapic.msr_write(0x80b, 0, T0)),
        (None, None)
    );
}

#[test]
fn a_reset_is_a_power_on() {
    let (mut lapic, boxes) = x2apic(0);
    deliver(&boxes, None, &fixed(0x40, true));
    lapic.reset();
    assert_eq!(lapic.scan(T0), Work::default());
    assert_eq!(
        (take(&mut lapic, 0xf0), take(&mut lapic, 0x350)),
        (0xff, 0x1_0000)
    );
    assert_eq!(boxes[0].identity().mode, Mode::Xapic);
}

proptest! {
    #[test]
    fn nothing_a_guest_does_panics(steps in prop::collection::vec((0u8..5, any::<u32>(), any::<u64>(), any::<u64>()), 1..200)) {
        let (mut lapic, boxes) = lapic(0);
        for (kind, number, value, now) in steps {
            let now = Nanos(now);
            let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][(value >> 60) as usize & 3];
            let effect = match kind {
                0 => lapic.mmio_write(PAGE + u64::from(number & 0xfff), width, value, now),
                1 => lapic.mmio_write(PAGE + u64::from(number & 0xff0), Width::Dword, value & 0xffff_ffff, now),
                2 => lapic.msr_write(0x800 + (number & 0xff), value, now).unwrap_or(Effect::None),
                3 => lapic.msr_write([0x1b, 0x6e0][number as usize & 1], value & 0xffff_ffff, now).unwrap_or(Effect::None),
                _ => { lapic.mmio_read(PAGE + u64::from(number & 0xfff), width, now); Effect::None }
            };
            if let Effect::Send(message) = effect {
                deliver(&boxes, Some(0), &message);
            }
            lapic.scan(now);
            if let Some(vector) = lapic.pending() {
                prop_assert!(vector >= 16);
                lapic.accept(vector);
            }
            lapic.deadline();
        }
    }
}
