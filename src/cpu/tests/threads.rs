//! Two vCPUs in parallel threads: locked operations, and code that one changes under the other.

use std::sync::Barrier;
use std::thread;

use iced_x86::code_asm::*;

use super::*;

/// Runs two programs at once, the second at `USER`, until both halt.
fn both(programs: [Vec<u8>; 2]) -> Arc<Ram> {
    let ram = Ram::new(&[(0, RAM)]).unwrap();
    let group = Arc::new(Group::default());
    let mut guests: Vec<Guest> = (0..2)
        .map(|_| Guest::long_on(cpu_of(ram.clone(), &group), 0))
        .collect();
    for (n, (guest, program)) in guests.iter_mut().zip(&programs).enumerate() {
        let at = [CODE, USER][n];
        guest.ram.write(at, program).unwrap();
        guest.state().rip = at;
        guest.set_gpr(4, [STACK, USER_STACK][n]);
    }
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for mut guest in guests {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                assert_eq!(guest.go(), End::Halted);
            });
        }
    });
    ram
}

fn counter(at: u64, rounds: u32, here: u64) -> Vec<u8> {
    assemble(64, here, |a| {
        let mut top = a.create_label();
        a.mov(ecx, rounds).unwrap();
        a.set_label(&mut top).unwrap();
        a.lock().inc(dword_ptr(at)).unwrap();
        a.mov(eax, 1).unwrap();
        a.lock().xadd(dword_ptr(at + 0x100), eax).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(top).unwrap();
        a.hlt().unwrap();
    })
}

#[test]
fn no_locked_increment_is_lost_wherever_it_lies() {
    // Aligned, across a cache line, across a page.
    for (at, rounds) in [(DATA, 20_000), (DATA + 0x3e, 1500), (DATA + 0xffe, 1500)] {
        let ram = both([CODE, USER].map(|here| counter(at, rounds, here)));
        assert_eq!(ram.load_u32(at), Ok(2 * rounds), "{at:#x}");
        assert_eq!(ram.load_u32(at + 0x100), Ok(2 * rounds), "{at:#x}");
    }
}

#[test]
fn no_exchange_of_16_bytes_is_lost() {
    const ROUNDS: u32 = 5000;
    let program = |here| {
        assemble(64, here, |a| {
            let (mut top, mut again) = (a.create_label(), a.create_label());
            a.mov(esi, ROUNDS).unwrap();
            a.set_label(&mut top).unwrap();
            a.xor(eax, eax).unwrap();
            a.xor(edx, edx).unwrap();
            a.set_label(&mut again).unwrap();
            a.mov(rbx, rax).unwrap();
            a.mov(rcx, rdx).unwrap();
            a.inc(rbx).unwrap();
            a.sub(rcx, 1).unwrap();
            a.lock().cmpxchg16b(xmmword_ptr(DATA)).unwrap();
            a.jne(again).unwrap();
            a.dec(esi).unwrap();
            a.jnz(top).unwrap();
            a.hlt().unwrap();
        })
    };
    let ram = both([CODE, USER].map(program));
    assert_eq!(ram.load_u64(DATA), Ok(2 * u64::from(ROUNDS)));
    assert_eq!(
        ram.load_u64(DATA + 8),
        Ok((2 * u64::from(ROUNDS)).wrapping_neg())
    );
}

#[test]
fn a_change_of_code_reaches_a_processor_that_runs_it() {
    // The first spins in code that the second changes: JMP to itself becomes NOP, NOP.
    let spinning = vec![0xff, 0x04, 0x25, 0, 0, 3, 0, 0xeb, 0xf7, 0xf4];
    let changing = assemble(64, USER, |a| {
        let mut wait = a.create_label();
        a.set_label(&mut wait).unwrap();
        a.pause().unwrap();
        a.cmp(dword_ptr(DATA), 100).unwrap();
        a.jb(wait).unwrap();
        a.mov(word_ptr(CODE + 7), 0x9090).unwrap();
        a.hlt().unwrap();
    });
    let ram = both([spinning, changing]);
    assert!(ram.load_u32(DATA).unwrap() >= 100);
}

#[test]
fn code_that_changes_itself_by_another_mapping() {
    let mut guest = Guest::long(0);
    // The page of the code, once more at `DATA`.
    guest.map(DATA, CODE | 3);
    let end = guest.run(|a| {
        a.mov(byte_ptr(DATA + 9), 0x42).unwrap();
        a.mov(al, 0).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((end, guest.gpr(0)), (End::Halted, 0x42));
    // Code that was executed before, in another page, and is changed by a string instruction.
    let mut guest = Guest::long(0);
    guest.ram.write(USER, &[0xb0, 1, 0xc3]).unwrap();
    guest.set_gpr(3, USER);
    let end = guest.run(|a| {
        a.call(rbx).unwrap();
        a.mov(edi, (USER + 1) as u32).unwrap();
        a.mov(al, 7).unwrap();
        a.mov(ecx, 1).unwrap();
        a.rep().stosb().unwrap();
        a.mov(al, 0).unwrap();
        a.call(rbx).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((end, guest.gpr(0)), (End::Halted, 7));
}
