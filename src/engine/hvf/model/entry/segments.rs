//! Checks on the guest's segment registers and descriptor tables (SDM volume 3, 27.3.1.2 and 27.3.1.3).

use hvf_sys::cpu::State;

use super::{Check, Guest, canonical, require};
use crate::x86::segment::{self, system};
use crate::x86::vmx::Field;

const SECTION: &str = "27.3.1.2";
const DATA: [usize; 4] = [State::DS, State::ES, State::FS, State::GS];
/// Bits 11:8 and 31:17 of access rights.
const RESERVED: u64 = 0xfffe_0f00;

/// A segment register as the VMCS has it.
#[derive(Clone, Copy)]
struct Register {
    selector: u64,
    base: u64,
    limit: u64,
    rights: u64,
}

impl Register {
    fn new(guest: &Guest, n: usize) -> Self {
        Self {
            selector: guest.read(Field::guest_selector(n)),
            base: guest.read(Field::guest_base(n)),
            limit: guest.read(Field::guest_limit(n)),
            rights: guest.read(Field::guest_access_rights(n)),
        }
    }

    fn usable(self) -> bool {
        self.rights & Field::UNUSABLE == 0
    }

    fn has(self, bit: u16) -> bool {
        self.rights & u64::from(bit) != 0
    }

    fn kind(self) -> u64 {
        self.rights & u64::from(segment::TYPE)
    }

    fn dpl(self) -> u64 {
        self.rights >> segment::DPL_SHIFT & 3
    }

    fn rpl(self) -> u64 {
        self.selector & 3
    }

    fn is_local(self) -> bool {
        self.selector & 4 != 0
    }

    /// The granularity that a limit can have.
    fn granularity_fits(self) -> bool {
        let pages = self.has(segment::G);
        (self.limit & 0xfff == 0xfff || !pages) && (self.limit >> 20 == 0 || pages)
    }
}

pub fn check(guest: &Guest) -> Check {
    let register = |n| Register::new(guest, n);
    check_selectors(guest, register(State::CS), register(State::SS))?;
    check_bases(guest)?;
    if guest.vm86 {
        for n in 0..6 {
            check_vm86(register(n))?;
        }
    } else {
        check_code(guest, register(State::CS), register(State::SS))?;
        check_stack(guest, register(State::CS), register(State::SS))?;
        for n in DATA {
            check_data(guest, register(n))?;
        }
    }
    check_system(guest, register(State::TR), register(State::LDTR))?;
    check_tables(guest)
}

fn check_selectors(guest: &Guest, cs: Register, ss: Register) -> Check {
    let (tr, ldtr) = (
        Register::new(guest, State::TR),
        Register::new(guest, State::LDTR),
    );
    require(!tr.is_local(), SECTION, "TR's selector names the LDT")?;
    require(
        !ldtr.usable() || !ldtr.is_local(),
        SECTION,
        "LDTR's selector names the LDT",
    )?;
    require(
        guest.vm86 || guest.unrestricted || ss.rpl() == cs.rpl(),
        SECTION,
        "the privilege levels of SS and CS differ",
    )
}

fn check_bases(guest: &Guest) -> Check {
    for n in [State::TR, State::FS, State::GS, State::LDTR] {
        let register = Register::new(guest, n);
        let counts = n != State::LDTR || register.usable();
        require(
            !counts || canonical(register.base),
            SECTION,
            "the base of TR, FS, GS or LDTR is not canonical",
        )?;
    }
    for n in [State::CS, State::SS, State::DS, State::ES] {
        let register = Register::new(guest, n);
        let counts = n == State::CS || register.usable();
        require(
            !counts || register.base >> 32 == 0,
            SECTION,
            "the base of CS, SS, DS or ES has bits 63:32 set",
        )?;
    }
    Ok(())
}

fn check_vm86(register: Register) -> Check {
    require(
        register.base == register.selector << 4,
        SECTION,
        "a base in virtual-8086 mode is not sixteen times its selector",
    )?;
    require(
        register.limit == 0xffff,
        SECTION,
        "a limit in virtual-8086 mode is not 0xffff",
    )?;
    require(
        register.rights == 0xf3,
        SECTION,
        "access rights in virtual-8086 mode are not 0xf3",
    )
}

/// What holds of every code or data segment that can be used.
fn check_usable(register: Register) -> Check {
    let rules = [
        (
            register.has(segment::S),
            "S of a code or data segment is zero",
        ),
        (register.has(segment::P), "P of a usable segment is zero"),
        (
            register.rights & RESERVED == 0,
            "reserved bits of access rights are set",
        ),
        (
            register.granularity_fits(),
            "G of a segment does not fit its limit",
        ),
    ];
    for (holds, what) in rules {
        require(holds, SECTION, what)?;
    }
    Ok(())
}

fn check_code(guest: &Guest, cs: Register, ss: Register) -> Check {
    // CS cannot be unusable: its bit 16 is one of the reserved ones.
    require(cs.usable(), SECTION, "CS is unusable")?;
    check_usable(cs)?;
    let level_fits = match cs.kind() {
        3 => guest.unrestricted && cs.dpl() == 0,
        9 | 11 => cs.dpl() == ss.dpl(),
        13 | 15 => cs.dpl() <= ss.dpl(),
        _ => false,
    };
    require(
        level_fits,
        SECTION,
        "CS has a type that no code has, or a DPL that does not fit SS",
    )?;
    require(
        !(guest.ia32e && cs.has(segment::L) && cs.has(segment::DB)),
        SECTION,
        "CS.D is set in 64-bit mode",
    )
}

fn check_stack(guest: &Guest, cs: Register, ss: Register) -> Check {
    require(
        guest.unrestricted || ss.dpl() == ss.rpl(),
        SECTION,
        "SS.DPL is not the RPL of its selector",
    )?;
    require(
        cs.kind() != 3 && guest.protected || ss.dpl() == 0,
        SECTION,
        "SS.DPL is not zero in real mode",
    )?;
    if !ss.usable() {
        return Ok(());
    }
    require(
        matches!(ss.kind(), 3 | 7),
        SECTION,
        "SS is no writable data segment that has been accessed",
    )?;
    check_usable(ss)
}

fn check_data(guest: &Guest, register: Register) -> Check {
    if !register.usable() {
        return Ok(());
    }
    check_usable(register)?;
    let code = register.has(segment::CODE);
    require(
        register.has(segment::ACCESSED) && (!code || register.has(segment::READABLE)),
        SECTION,
        "a data segment has not been accessed, or cannot be read",
    )?;
    require(
        guest.unrestricted || register.kind() > 11 || register.dpl() >= register.rpl(),
        SECTION,
        "the DPL of a data segment is below its selector's RPL",
    )
}

fn check_system(guest: &Guest, tr: Register, ldtr: Register) -> Check {
    let busy = |kind: u16| tr.kind() == u64::from(kind);
    let kind_fits = busy(system::TSS32_BUSY) || busy(system::TSS16_BUSY) && !guest.ia32e;
    let clean = |it: Register| {
        !it.has(segment::S)
            && it.has(segment::P)
            && it.rights & (RESERVED | Field::UNUSABLE) == 0
            && it.granularity_fits()
    };
    require(kind_fits, SECTION, "TR is no busy TSS")?;
    require(clean(tr), SECTION, "TR's access rights are wrong")?;
    let ldt = ldtr.kind() == u64::from(system::LDT) && clean(ldtr);
    require(
        !ldtr.usable() || ldt,
        SECTION,
        "LDTR's access rights are wrong",
    )
}

fn check_tables(guest: &Guest) -> Check {
    const SECTION: &str = "27.3.1.3";
    for base in [Field::GUEST_GDTR_BASE, Field::GUEST_IDTR_BASE] {
        require(
            canonical(guest.read(base)),
            SECTION,
            "the base of GDTR or IDTR is not canonical",
        )?;
    }
    for limit in [Field::GUEST_GDTR_LIMIT, Field::GUEST_IDTR_LIMIT] {
        require(
            guest.read(limit) >> 16 == 0,
            SECTION,
            "the limit of GDTR or IDTR has bits 31:16 set",
        )?;
    }
    Ok(())
}
