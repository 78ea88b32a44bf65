//! The states that the architecture itself defines (SDM volume 3, table 10-1), and registers as engines exchange them.

use hvf_sys::cpu::{Descriptors, Fpu, Msrs, Segment, State};

use super::core::Core;
use super::flags::Flags;
use crate::x86::control::{cr0, dr6, dr7, rflags, xcr0};
use crate::x86::cpuid::SIGNATURE;
use crate::x86::regs::{self, Regs, TableRegister};
use crate::x86::{msr, segment};

/// MXCSR after power-on: all exceptions masked.
const MXCSR_RESET: u32 = 0x1f80;
/// The x87 control word after power-on; FNINIT gives 0x37F instead.
const FCW_RESET: u16 = 0x0040;

impl Core {
    /// Resets the processor. INIT keeps x87, SSE, XCR0, the TSC and what MSRs hold that it is not said to change.
    pub fn reset(&mut self, init: bool) {
        let kept = init.then(|| self.state.clone());
        let cache_bits = if init { self.state.cr0 } else { u64::MAX } & (cr0::CD | cr0::NW);
        self.state = State::default();
        match kept {
            Some(old) => {
                self.state.fpu = old.fpu;
                self.state.xmm = old.xmm;
                self.state.mxcsr = old.mxcsr;
                self.state.xcr0 = old.xcr0;
                self.state.msrs = Msrs {
                    efer: 0,
                    ..old.msrs
                };
            }
            None => self.power_on(),
        }
        self.state.dr6 = dr6::FIXED;
        self.state.dr7 = dr7::FIXED;
        self.shadow = false;
        self.stack_shadow = false;
        self.hits = 0;
        self.nmi_blocked = false;
        self.nmi_pending = false;
        self.injected = None;
        let mut regs = Regs::power_on(SIGNATURE);
        regs.cr0 = regs.cr0 & !(cr0::CD | cr0::NW) | cache_bits;
        self.set_regs(&regs);
    }

    fn power_on(&mut self) {
        self.state.fpu = Fpu {
            control: FCW_RESET,
            valid: 0xff,
            ..Fpu::default()
        };
        self.state.mxcsr = MXCSR_RESET;
        self.state.xcr0 = xcr0::X87;
        self.state.msrs = Msrs {
            pat: msr::PAT_RESET,
            misc_enable: msr::misc_enable::RESET,
            ..Msrs::default()
        };
    }

    /// The registers.
    pub fn regs(&self) -> Regs {
        let segment = |n: usize| {
            let Segment {
                selector,
                rights,
                limit,
                base,
            } = *self.segment(n);
            regs::Segment {
                selector,
                base,
                limit,
                rights,
            }
        };
        let table = |t: Descriptors| TableRegister {
            base: t.base,
            limit: t.limit,
        };
        Regs {
            gprs: self.state.gpr,
            rip: self.state.rip,
            rflags: self.rflags(),
            cs: segment(State::CS),
            ss: segment(State::SS),
            ds: segment(State::DS),
            es: segment(State::ES),
            fs: segment(State::FS),
            gs: segment(State::GS),
            ldtr: segment(State::LDTR),
            tr: segment(State::TR),
            gdtr: table(self.state.gdtr),
            idtr: table(self.state.idtr),
            cr0: self.state.cr0,
            cr2: self.state.cr2,
            cr3: self.state.cr3,
            cr4: self.state.cr4,
            efer: self.state.msrs.efer,
        }
    }

    /// Sets the registers and everything that is derived from them.
    pub fn set_regs(&mut self, regs: &Regs) {
        let all = [
            (State::ES, regs.es),
            (State::CS, regs.cs),
            (State::SS, regs.ss),
            (State::DS, regs.ds),
            (State::FS, regs.fs),
            (State::GS, regs.gs),
            (State::LDTR, regs.ldtr),
            (State::TR, regs.tr),
        ];
        for (
            number,
            regs::Segment {
                selector,
                base,
                limit,
                rights,
            },
        ) in all
        {
            self.state.segments[number] = Segment {
                selector,
                rights,
                limit,
                base,
            };
        }
        let table = |t: TableRegister| Descriptors {
            base: t.base,
            limit: t.limit,
        };
        self.state.gpr = regs.gprs;
        self.state.rip = regs.rip;
        self.state.gdtr = table(regs.gdtr);
        self.state.idtr = table(regs.idtr);
        self.state.cr0 = regs.cr0;
        self.state.cr2 = regs.cr2;
        self.state.cr3 = regs.cr3;
        self.state.cr4 = regs.cr4;
        self.state.msrs.efer = regs.efer;
        self.flags = Flags::from_bits(regs.rflags);
        self.state.rflags = regs.rflags & !rflags::ARITHMETIC | rflags::FIXED;
        let protected = regs.cr0 & cr0::PE != 0;
        let vm86 = regs.rflags & rflags::VM != 0;
        self.cpl = match (protected, vm86) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => ((regs.ss.rights & segment::DPL) >> segment::DPL_SHIFT) as u8,
        };
        self.flush_all();
        self.update_mode();
    }

    /// Starts at real-mode page `page`, as a start-up IPI says.
    pub fn start_ap(&mut self, page: u8) {
        let mut regs = self.regs();
        regs.start_at(page);
        self.set_regs(&regs);
    }
}
