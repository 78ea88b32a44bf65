//! The entropy device.

use super::super::Rnd;
use super::*;

fn live() -> Driver {
    Driver::live(Arc::new(Rnd::default()), 1, feature::INDIRECT_DESC, 8)
}

#[test]
fn buffers_are_filled_and_no_more() {
    let mut driver = live();
    let buffers = [(BUFFERS, 1000, true), (BUFFERS + 0x1000, 3000, true)];
    driver.submit(0, &buffers, Some(0x8000));
    assert_eq!(driver.wait(0).1, 4000);
    let mut bytes = [0; 0x2000];
    driver.ram.read(BUFFERS, &mut bytes).unwrap();
    for part in bytes[..1000]
        .chunks(100)
        .chain(bytes[0x1000..0x1000 + 3000].chunks(100))
    {
        assert_ne!(part, [0; 100]);
    }
    assert_eq!(bytes[1000..0x1000], [0; 0x1000 - 1000]);
    assert_eq!(bytes[0x1000 + 3000..], [0; 0x1000 - 3000]);
}

#[test]
fn requests_are_capped_and_what_cannot_be_written_is_not() {
    let mut driver = live();
    driver.submit(0, &[(BUFFERS, 0x10_0000, true)], None);
    assert_eq!(driver.wait(0).1, 1 << 16);
    for buffers in [
        [(BUFFERS, 64, false)],
        [(BUFFERS, 0, true)],
        [(RAM - 8, 64, true)],
        [(u64::MAX, 64, true)],
    ] {
        driver.submit(0, &buffers, None);
        assert_eq!(driver.wait(0).1, 0, "{buffers:x?}");
    }
    assert!(!driver.status().contains(Status::NEEDS_RESET));
}
