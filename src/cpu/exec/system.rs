//! Control and debug registers, model-specific registers, CPUID, time, and the instructions that only a kernel uses.

use hvf_sys::cpu::{Descriptors, Insn, Op, Operand, State};

use super::super::core::{Done, Exec, Leave, Trap};
use super::super::int::Int;
use super::super::intercept::{Cause, ControlAccess, Intercepts};
use super::super::memory::canonical;
use super::Handler;
use crate::x86::control::{cr0, cr3, cr4, dr6, dr7, efer, rflags, xcr0};
use crate::x86::cpuid::Live;
use crate::x86::msr;
use crate::x86::segment;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Hlt => hlt,
        Op::Cli => cli,
        Op::Sti => sti,
        Op::Clac => |x, _| set_ac(x, false),
        Op::Stac => |x, _| set_ac(x, true),
        Op::Cpuid => cpuid,
        Op::Rdtsc => rdtsc,
        Op::Rdtscp => rdtscp,
        Op::Rdpmc => rdpmc,
        Op::Rdpid => rdpid,
        Op::Rdmsr => rdmsr,
        Op::Wrmsr => wrmsr,
        Op::MovCr => mov_cr,
        Op::MovDr => mov_dr,
        Op::Clts => clts,
        Op::Lmsw => lmsw,
        Op::Smsw => smsw,
        Op::Invd => |x, _| flush_caches(x, Op::Invd, Intercepts::ALWAYS),
        Op::Wbinvd => |x, _| flush_caches(x, Op::Wbinvd, Intercepts::WBINVD),
        Op::Invlpg => invlpg,
        Op::Invpcid => invpcid,
        Op::Lgdt | Op::Lidt => load_table,
        Op::Sgdt | Op::Sidt => store_table,
        Op::Swapgs => swapgs,
        Op::Rdfsbase | Op::Rdgsbase => read_base,
        Op::Wrfsbase | Op::Wrgsbase => write_base,
        Op::Xgetbv => xgetbv,
        Op::Xsetbv => xsetbv,
        Op::Vmcall => vmcall,
        Op::Monitor | Op::Mwait => monitor,
        _ => flush_line,
    }
}

impl Exec<'_> {
    /// #GP(0) above privilege level 0.
    pub(super) fn require_kernel(&mut self) -> Done {
        if self.cpl == 0 {
            Ok(())
        } else {
            Err(self.general_protection(0))
        }
    }

    /// #GP(0) for a user where CR4.UMIP hides the system's tables.
    pub(super) fn require_visible(&mut self) -> Done {
        if self.cpl > 0 && self.cr4(cr4::UMIP) {
            Err(self.general_protection(0))
        } else {
            Ok(())
        }
    }

    /// The guest's time stamp counter: machine time in nanoseconds (the TSC runs at 1 GHz) plus its offset.
    pub fn tsc(&mut self) -> u64 {
        self.io.now().0.wrapping_add(self.state.msrs.tsc_offset)
    }

    fn set_pair(&mut self, value: u64) {
        self.set_gpr(0, value as u32);
        self.set_gpr(2, (value >> 32) as u32);
    }

    fn pair(&self) -> u64 {
        self.state.gpr[0] & 0xffff_ffff | self.state.gpr[2] << 32
    }
}

fn hlt(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    x.require_kernel()?;
    x.intercept_plain(Intercepts::HLT, Op::Hlt)?;
    x.leave = Leave::Halt;
    Err(Trap::Leave)
}

/// Below IOPL, CR4.PVI and VME make the interrupt flag virtual (SDM volume 3, 20.3 and 20.4).
fn cli(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    match interrupt_flag(x)? {
        rflags::IF => x.state.rflags &= !rflags::IF,
        virtual_flag => x.state.rflags &= !virtual_flag,
    }
    Ok(())
}

fn sti(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let flag = interrupt_flag(x)?;
    if flag == rflags::VIF && x.state.rflags & rflags::VIP != 0 {
        return Err(x.general_protection(0));
    }
    if flag == rflags::IF && x.state.rflags & rflags::IF == 0 {
        x.begin_shadow(false);
    }
    x.state.rflags |= flag;
    Ok(())
}

/// The flag that CLI and STI change: IF or VIF.
fn interrupt_flag(x: &mut Exec<'_>) -> Result<u64, Trap> {
    let virtual_mode = if x.vm86() {
        x.cr4(cr4::VME)
    } else {
        x.cpl == 3 && x.cr4(cr4::PVI)
    };
    if x.real_mode() || x.cpl <= x.iopl() {
        Ok(rflags::IF)
    } else if virtual_mode {
        Ok(rflags::VIF)
    } else {
        Err(x.general_protection(0))
    }
}

fn set_ac(x: &mut Exec<'_>, on: bool) -> Done {
    if x.cpl != 0 {
        return Err(x.undefined());
    }
    x.state.rflags = x.state.rflags & !rflags::AC | if on { rflags::AC } else { 0 };
    x.update_mode();
    Ok(())
}

fn cpuid(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    x.intercept_plain(Intercepts::ALWAYS, Op::Cpuid)?;
    let apic =
        x.io.msr_read(msr::APIC_BASE)
            .is_some_and(|base| base & msr::apic_base::ENABLE != 0);
    let live = Live {
        cr4: x.state.cr4,
        xcr0: x.state.xcr0,
        apic,
    };
    let answer = x.cpuid.answer(x.gpr(0), x.gpr(1), live);
    for (number, value) in [
        (0, answer.eax),
        (3, answer.ebx),
        (1, answer.ecx),
        (2, answer.edx),
    ] {
        x.set_gpr(number, value);
    }
    Ok(())
}

fn require_time(x: &mut Exec<'_>) -> Done {
    if x.cpl > 0 && x.cr4(cr4::TSD) {
        Err(x.general_protection(0))
    } else {
        Ok(())
    }
}

fn rdtsc(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_time(x)?;
    x.intercept_plain(Intercepts::RDTSC, insn.op())?;
    let tsc = x.tsc();
    x.set_pair(tsc);
    Ok(())
}

fn rdtscp(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_enabled(Intercepts::NO_RDTSCP)?;
    rdtsc(x, insn)?;
    let aux = x.state.msrs.tsc_aux as u32;
    x.set_gpr(1, aux);
    Ok(())
}

/// There are no performance counters: whichever is named, #GP.
fn rdpmc(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    if x.cpl == 0 || x.cr4(cr4::PCE) {
        x.intercept_plain(Intercepts::RDPMC, Op::Rdpmc)?;
    }
    Err(x.general_protection(0))
}

fn rdpid(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_enabled(Intercepts::NO_RDTSCP)?;
    let value = x.state.msrs.tsc_aux;
    x.set_gpr(insn.a().low_bits(), value);
    Ok(())
}

fn rdmsr(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    x.require_kernel()?;
    let number = x.gpr(1);
    x.intercept_msr(number, Cause::ReadMsr)?;
    let value = x.read_msr(number)?;
    x.set_pair(value);
    Ok(())
}

fn wrmsr(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    x.require_kernel()?;
    let number = x.gpr(1);
    x.intercept_msr(number, Cause::WriteMsr)?;
    x.write_msr(number, x.pair())
}

/// The register at the general-register end is always of full size; CR and DR number as encoded.
fn full_register(x: &Exec<'_>, operand: Operand) -> u64 {
    let value = x.state.gpr[operand.low_bits()];
    if x.code64() {
        value
    } else {
        value & 0xffff_ffff
    }
}

fn set_full_register(x: &mut Exec<'_>, operand: Operand, value: u64) {
    if x.code64() {
        x.set_gpr(operand.low_bits(), value);
    } else {
        x.set_gpr(operand.low_bits(), value as u32);
    }
}

fn mov_cr(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let reads = insn.a().is_gpr();
    let number = if reads { insn.b() } else { insn.a() }.number();
    if !matches!(number, 0 | 2 | 3 | 4 | 8) {
        return Err(x.undefined());
    }
    x.require_kernel()?;
    if reads {
        return mov_from_cr(x, insn, number as u8);
    }
    let value = full_register(x, insn.b());
    let access = ControlAccess::Write(insn.b().low_bits() as u8);
    let cause = || Cause::Control {
        number: number as u8,
        access,
    };
    match number {
        0 => {
            let value = x.intercept_control(0, value, access)?;
            x.write_cr0(value)
        }
        2 => {
            x.state.cr2 = value;
            Ok(())
        }
        3 => {
            x.intercept(Intercepts::CR3_LOAD, cause)?;
            x.write_cr3(value)
        }
        4 => {
            let value = x.intercept_control(4, value, access)?;
            x.write_cr4(value)
        }
        _ => {
            x.intercept(Intercepts::CR8_LOAD, cause)?;
            write_cr8(x, value)
        }
    }
}

fn mov_from_cr(x: &mut Exec<'_>, insn: &Insn, number: u8) -> Done {
    let access = ControlAccess::Read(insn.a().low_bits() as u8);
    let cause = || Cause::Control { number, access };
    let value = match number {
        0 => x.seen_cr0(),
        2 => x.state.cr2,
        3 => {
            x.intercept(Intercepts::CR3_STORE, cause)?;
            x.state.cr3
        }
        4 => x.seen_cr4(),
        _ => {
            x.intercept(Intercepts::CR8_STORE, cause)?;
            match x.shadowed_cr8() {
                Some(value) => value.into(),
                None => x.io.cr8(),
            }
        }
    };
    set_full_register(x, insn.a(), value);
    Ok(())
}

fn write_cr8(x: &mut Exec<'_>, value: u64) -> Done {
    if value > 15 {
        return Err(x.general_protection(0));
    }
    if x.shadowed_cr8().is_some() {
        return x.set_shadowed_cr8(value as u8);
    }
    x.io.set_cr8(value);
    Ok(())
}

impl Exec<'_> {
    /// Writes CR0 with the checks of SDM volume 2, MOV to control registers.
    pub fn write_cr0(&mut self, value: u64) -> Done {
        let bad = value >> 32 != 0
            || value & cr0::PG != 0 && value & cr0::PE == 0
            || value & cr0::NW != 0 && value & cr0::CD == 0
            || !value & self.fixed_cr0() != 0;
        if bad {
            return Err(self.general_protection(0));
        }
        let value = value & cr0::DEFINED | cr0::ET;
        let changed = value ^ self.state.cr0;
        if changed & cr0::PG != 0 {
            self.switch_paging(value)?;
        } else if changed & (cr0::CD | cr0::NW) != 0 && self.pae_paging() {
            self.load_pdptes(self.state.cr3)?;
        }
        self.state.cr0 = value;
        if changed & (cr0::PG | cr0::WP | cr0::PE) != 0 {
            self.flush_all();
        }
        self.after_mode_switch();
        Ok(())
    }

    /// What setting or clearing CR0.PG does to long mode and to PAE's directory pointers.
    fn switch_paging(&mut self, new_cr0: u64) -> Done {
        let on = new_cr0 & cr0::PG != 0;
        let long_wanted = self.state.msrs.efer & efer::LME != 0;
        if on && long_wanted {
            let code_is_64 = self.segment(1).rights & segment::L != 0;
            let tss_is_16 = self.segment(State::TR).rights & 0xd == segment::system::TSS16;
            if !self.cr4(cr4::PAE) || code_is_64 || tss_is_16 {
                return Err(self.general_protection(0));
            }
            self.state.msrs.efer |= efer::LMA;
        } else if on && self.cr4(cr4::PAE) {
            self.load_pdptes(self.state.cr3)?;
        } else if !on {
            if self.code64() || self.cr4(cr4::PCIDE) {
                return Err(self.general_protection(0));
            }
            self.state.msrs.efer &= !efer::LMA;
        }
        Ok(())
    }

    /// Writes CR3. Bit 63 says that the PCID's translations may stay; ours are not kept by PCID, so they always go.
    pub fn write_cr3(&mut self, value: u64) -> Done {
        let mut value = value;
        if self.long_mode() {
            if self.cr4(cr4::PCIDE) {
                value &= !cr3::NO_FLUSH;
            }
            if value >> crate::layout::PHYSICAL_BITS != 0 {
                return Err(self.general_protection(0));
            }
        } else if self.pae_paging() {
            self.load_pdptes(value)?;
        }
        self.state.cr3 = value;
        self.flush_local();
        Ok(())
    }

    /// Writes CR4.
    pub fn write_cr4(&mut self, value: u64) -> Done {
        let changed = value ^ self.state.cr4;
        let starts_pcid = changed & value & cr4::PCIDE != 0;
        let fixed = self.fixed_cr4();
        let bad = value & !(cr4::SOFTWARE | fixed) != 0
            || !value & fixed != 0
            || self.long_mode() && value & cr4::PAE == 0
            || starts_pcid && (!self.long_mode() || self.state.cr3 & cr3::PCID != 0);
        if bad {
            return Err(self.general_protection(0));
        }
        let paging = cr4::PAE | cr4::PSE | cr4::PGE | cr4::SMEP | cr4::SMAP | cr4::PCIDE;
        if self.cr0(cr0::PG)
            && !self.long_mode()
            && value & cr4::PAE != 0
            && changed & (cr4::PAE | cr4::PSE | cr4::PGE | cr4::SMEP) != 0
        {
            self.load_pdptes(self.state.cr3)?;
        }
        self.state.cr4 = value;
        if changed & paging != 0 {
            self.flush_all();
        }
        self.update_mode();
        Ok(())
    }
}

fn clts(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    x.require_kernel()?;
    if x.intercept_clts()? {
        x.state.cr0 &= !cr0::TS;
    }
    Ok(())
}

/// LMSW can set PE but not clear it.
fn lmsw(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_kernel()?;
    let source = x.read::<u16>(insn, insn.a())?;
    let linear = if insn.a().is_mem() {
        Some(x.linear(insn, 2, false)?)
    } else {
        None
    };
    let value = x.intercept_lmsw(source, linear)?;
    x.write_cr0(value)
}

fn smsw(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_visible()?;
    let value = x.seen_cr0();
    match insn.width() {
        _ if insn.a().is_mem() => x.store(insn, value as u16),
        2 => x.write(insn, insn.a(), value as u16),
        4 => x.write(insn, insn.a(), value as u32),
        _ => x.write(insn, insn.a(), value),
    }
}

fn mov_dr(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let reads = insn.a().is_gpr();
    let (register, other) = if reads {
        (insn.b(), insn.a())
    } else {
        (insn.a(), insn.b())
    };
    // This one comes before all faults but those of the numbers that no register has (SDM volume 3, 26.1.3).
    if register.number() < 8 {
        x.intercept(Intercepts::MOV_DR, || Cause::Debug {
            number: register.number() as u8,
            is_read: reads,
            gpr: other.low_bits() as u8,
        })?;
    }
    let number = match register.number() {
        4 | 5 if x.cr4(cr4::DE) => return Err(x.undefined()),
        4 => 6,
        5 => 7,
        n @ 0..=7 => n,
        _ => return Err(x.undefined()),
    };
    x.require_kernel()?;
    if x.state.dr7 & dr7::GD != 0 {
        return Err(x.debug_register_fault());
    }
    if reads {
        let value = match number {
            6 => x.state.dr6 | dr6::FIXED,
            7 => x.state.dr7 | dr7::FIXED,
            n => x.state.breakpoints[n & 3],
        };
        set_full_register(x, insn.a(), value);
        return Ok(());
    }
    let value = full_register(x, insn.b());
    if number >= 6 && value >> 32 != 0 {
        return Err(x.general_protection(0));
    }
    match number {
        6 => x.state.dr6 = value & (dr6::BREAKPOINTS | dr6::BD | dr6::BS | dr6::BT) | dr6::FIXED,
        7 => x.state.dr7 = value & dr7::WRITABLE | dr7::FIXED,
        n => x.state.breakpoints[n & 3] = value,
    }
    // Watched pages never enter the TLB.
    x.flush_all();
    x.update_mode();
    Ok(())
}

fn invlpg(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_kernel()?;
    let offset = x.offset(insn);
    // The address wraps, and is not checked against a limit (SDM volume 2, INVLPG).
    let la = if x.code64() && insn.is_plain() {
        offset
    } else {
        let la = x.segment(insn.segment()).base.wrapping_add(offset);
        if x.code64() { la } else { la & 0xffff_ffff }
    };
    x.intercept(Intercepts::INVLPG, || Cause::Invlpg(la))?;
    x.flush_page(la);
    Ok(())
}

fn invpcid(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_enabled(Intercepts::NO_INVPCID)?;
    x.require_kernel()?;
    x.intercept_plain(Intercepts::INVLPG, Op::Invpcid)?;
    let kind = if x.code64() {
        x.gpr(insn.a().low_bits())
    } else {
        x.gpr::<u32>(insn.a().low_bits()).zero_extend()
    };
    let descriptor: u128 = x.load(insn)?;
    let (pcid, la) = (descriptor as u64, (descriptor >> 64) as u64);
    let by_pcid = kind < 2;
    let bad = kind > 3
        || pcid >> 12 != 0
        || by_pcid && pcid != 0 && !x.cr4(cr4::PCIDE)
        || kind == 0 && !canonical(la);
    if bad {
        return Err(x.general_protection(0));
    }
    match kind {
        0 => x.flush_page(la),
        2 => x.flush_all(),
        _ => x.flush_local(),
    }
    Ok(())
}

fn load_table(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_kernel()?;
    let len = if x.code64() { 10 } else { 6 };
    let la = x.linear(insn, len, false)?;
    let limit: u16 = x.load_at(la, insn.segment())?;
    let base = if x.code64() {
        x.load_at::<u64>(la.wrapping_add(2), insn.segment())?
    } else {
        let base: u32 = x.load_at(la.wrapping_add(2), insn.segment())?;
        u64::from(if insn.width() == 2 {
            base & 0xff_ffff
        } else {
            base
        })
    };
    if x.code64() && !canonical(base) {
        return Err(x.general_protection(0));
    }
    let table = Descriptors { base, limit };
    if insn.op() == Op::Lgdt {
        x.state.gdtr = table;
    } else {
        x.state.idtr = table;
    }
    Ok(())
}

fn store_table(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.require_visible()?;
    let table = if insn.op() == Op::Sgdt {
        x.state.gdtr
    } else {
        x.state.idtr
    };
    let len = if x.code64() { 10 } else { 6 };
    let la = x.linear(insn, len, true)?;
    x.probe_write(la, len, insn.segment())?;
    x.store_at(la, insn.segment(), table.limit)?;
    if x.code64() {
        x.store_at(la.wrapping_add(2), insn.segment(), table.base)
    } else {
        x.store_at(la.wrapping_add(2), insn.segment(), table.base as u32)
    }
}

fn swapgs(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    if !x.code64() {
        return Err(x.undefined());
    }
    x.require_kernel()?;
    let state = &mut x.core.state;
    std::mem::swap(&mut state.segments[5].base, &mut state.msrs.kernel_gs_base);
    Ok(())
}

fn based_segment(insn: &Insn) -> usize {
    if matches!(insn.op(), Op::Rdfsbase | Op::Wrfsbase) {
        4
    } else {
        5
    }
}

fn require_bases(x: &mut Exec<'_>) -> Done {
    if x.code64() && x.cr4(cr4::FSGSBASE) {
        Ok(())
    } else {
        Err(x.undefined())
    }
}

fn read_base(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_bases(x)?;
    let base = x.segment(based_segment(insn)).base;
    if insn.width() == 8 {
        x.set_gpr(insn.a().low_bits(), base);
    } else {
        x.set_gpr(insn.a().low_bits(), base as u32);
    }
    Ok(())
}

fn write_base(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_bases(x)?;
    let value = x.state.gpr[insn.a().low_bits()];
    let base = if insn.width() == 8 {
        value
    } else {
        value & 0xffff_ffff
    };
    if !canonical(base) {
        return Err(x.general_protection(0));
    }
    x.state.segments[based_segment(insn)].base = base;
    Ok(())
}

fn require_xsave(x: &mut Exec<'_>) -> Done {
    if x.cr4(cr4::OSXSAVE) {
        Ok(())
    } else {
        Err(x.undefined())
    }
}

fn xgetbv(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    require_xsave(x)?;
    if x.gpr::<u32>(1) != 0 {
        return Err(x.general_protection(0));
    }
    let value = x.state.xcr0;
    x.set_pair(value);
    Ok(())
}

fn xsetbv(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    require_xsave(x)?;
    x.require_kernel()?;
    x.intercept_plain(Intercepts::ALWAYS, Op::Xsetbv)?;
    let value = x.pair();
    if x.gpr::<u32>(1) != 0 || value & !(xcr0::X87 | xcr0::SSE) != 0 || value & xcr0::X87 == 0 {
        return Err(x.general_protection(0));
    }
    x.state.xcr0 = value;
    Ok(())
}

/// INVD and WBINVD: there are no caches that the guest could see.
fn flush_caches(x: &mut Exec<'_>, op: Op, which: Intercepts) -> Done {
    x.require_kernel()?;
    x.intercept_plain(which, op)
}

/// VMCALL leaves a guest from any privilege level, and is undefined outside one.
fn vmcall(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    x.intercept_plain(Intercepts::ALWAYS, Op::Vmcall)?;
    Err(x.undefined())
}

/// MONITOR and MWAIT are not offered: a guest of VMX that executes them nevertheless can be left.
fn monitor(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let which = match insn.op() {
        Op::Monitor => Intercepts::MONITOR,
        _ => Intercepts::MWAIT,
    };
    if x.cpl == 0 {
        x.intercept_plain(which, insn.op())?;
    }
    Err(x.undefined())
}

/// CLFLUSH, CLFLUSHOPT, CLWB: faults like a load of one byte, and nothing else that can be seen.
fn flush_line(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.load::<u8>(insn).map(|_| ())
}
