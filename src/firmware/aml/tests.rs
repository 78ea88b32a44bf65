//! Each encoding beside the ASL that it stands for. The bytes are those of the grammar in ACPI 6.5, chapter 20.

use super::resource::*;
use super::*;
use crate::layout::Span;

#[test]
fn integers_take_the_shortest_form() {
    assert_eq!(int(0).0, [0]);
    assert_eq!(int(1).0, [1]);
    assert_eq!(int(2).0, [0x0a, 2]);
    assert_eq!(int(0xff).0, [0x0a, 0xff]);
    assert_eq!(int(0x100).0, [0x0b, 0, 1]);
    assert_eq!(int(0x1_0000).0, [0x0c, 0, 0, 1, 0]);
    assert_eq!(int(1 << 32).0, [0x0e, 0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn names_are_filled_up_and_prefixed() {
    assert_eq!(path("PICM").0, b"PICM");
    assert_eq!(path("\\_SB").0, b"\\_SB_");
    assert_eq!(path("^A.B").0, b"^\x2eA___B___");
    assert_eq!(path("\\A.B.C").0, b"\\\x2f\x03A___B___C___");
    assert_eq!(path("\\").0, b"\\\0");
}

#[test]
fn ids_are_compressed() {
    // EisaId ("PNP0A03") is 0x030AD041 in every table there is.
    assert_eq!(eisa_id(b"PNP0A03").0, [0x0c, 0x41, 0xd0, 0x0a, 0x03]);
    // ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766")
    let bytes = uuid(0x33db4d5b_1ff7_401c_9657_7441c03dd766).0;
    assert_eq!(bytes[..4], [0x11, 0x13, 0x0a, 0x10]);
    assert_eq!(
        bytes[4..12],
        [0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40]
    );
    assert_eq!(
        bytes[12..],
        [0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66]
    );
}

#[test]
fn package_lengths_count_themselves() {
    let cases = [
        (0, 1),
        (62, 63),
        (63, 65),
        (4093, 4095),
        (4094, 4097),
        (0xf_fffc, 0xf_ffff),
        (0xf_fffd, 0x10_0001),
    ];
    for (body, total) in cases {
        let bytes = package_length(body);
        let further = usize::from(bytes[0] >> 6);
        assert_eq!(bytes.len(), further + 1);
        let value = match further {
            0 => usize::from(bytes[0] & 0x3f),
            _ => {
                bytes[1..]
                    .iter()
                    .rev()
                    .fold(0, |sum, &b| sum << 8 | usize::from(b))
                    << 4
                    | usize::from(bytes[0] & 0xf)
            }
        };
        assert_eq!((value, body + bytes.len()), (total, total));
    }
}

#[test]
fn objects_nest() {
    // Scope (\_SB) { Device (DEV0) { Name (_ADR, 0x1F0000) } }
    let term = scope("\\_SB", &[device("DEV0", &[name("_ADR", &int(0x1f_0000))])]);
    let expected = [
        &[0x10, 0x17][..],
        b"\\_SB_",
        &[0x5b, 0x82, 0x0f],
        b"DEV0",
        &[0x08],
        b"_ADR",
        &[0x0c, 0, 0, 0x1f, 0],
    ];
    assert_eq!(term.0, expected.concat());
}

#[test]
fn statements_are_in_prefix_order() {
    // Method (LSTA, 0) { If ((PIRA & 0x80)) { Return (0x09) } Else { Return (0x0B) } }
    let enabled = and(&path("PIRA"), &int(0x80));
    let body = if_else(&enabled, &[ret(&int(9))], &[ret(&int(11))]);
    let term = method("LSTA", 0, Concurrency::NotSerialized, &[body]);
    let expected = [
        &[0x14, 0x18][..],
        b"LSTA",
        &[0, 0xa0, 0x0c, 0x7b],
        b"PIRA",
        &[0x0a, 0x80, 0, 0xa4, 0x0a, 9, 0xa1, 4, 0xa4, 0x0a, 11],
    ];
    assert_eq!(term.0, expected.concat());
}

#[test]
fn operators_store_their_own_result() {
    // Local0 = (Arg0 & 0x0F)
    let term = store(&and(&arg(0), &int(15)), &local(0));
    assert_eq!(term.0, [0x7b, 0x68, 0x0a, 15, 0x60]);
    // Local0 = Arg0
    assert_eq!(store(&arg(0), &local(0)).0, [0x70, 0x68, 0x60]);
    // Local0 = (Arg0 == 0x0F)
    let term = store(&equal(&arg(0), &int(15)), &local(0));
    assert_eq!(term.0, [0x70, 0x93, 0x68, 0x0a, 15, 0x60]);
}

#[test]
fn fields_pass_over_bytes() {
    // Field (PIRQ, ByteAcc, NoLock, Preserve) { PIRA, 8, , 8, PIRB, 8 }
    let term = byte_fields("PIRQ", &[Some("PIRA"), None, Some("PIRB")]);
    let expected = [
        &[0x5b, 0x81, 0x12][..],
        b"PIRQ",
        &[1],
        b"PIRA",
        &[8, 0, 8],
        b"PIRB",
        &[8],
    ];
    assert_eq!(term.0, expected.concat());
}

#[test]
fn descriptors_hold_their_numbers() {
    // ResourceTemplate () { IO (Decode16, 0x3F8, 0x3F8, 1, 8) IRQNoFlags () {4} }
    let serial = template(&[io(Span::new(0x3f8, 8)), irq(4)]);
    let expected = [
        0x11, 0x10, 0x0a, 13, 0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x22, 0x10, 0, 0x79, 0,
    ];
    assert_eq!(serial.0, expected);
    // DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
    //     0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
    let window = template(&[dword_memory(Span::new(0xc000_0000, 0x2000_0000))]);
    let expected = [
        0x87, 23, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xff, 0xdf, 0, 0, 0, 0, 0,
        0, 0, 0x20,
    ];
    assert_eq!(window.0[4..30], expected);
}
