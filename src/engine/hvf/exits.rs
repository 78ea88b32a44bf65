//! Exits. The simple and frequent ones are done here; everything else is executed by the software CPU, one instruction
//! or one event at a time, so that this engine and `soft` are one machine.

use hvf_sys::cpu::Op;

use super::event::{self, Raw};
use super::hardware::{Failure, GENERAL, Result};
use super::state;
use super::time::Ticking;
use super::vcpu::HvfVcpu;
use super::vmx::Register;
use super::{cpuid, dump};
use crate::bus::Width;
use crate::cpu::Stop;
use crate::cpu::emulate::{Event, Source};
use crate::cpu::io::Io;
use crate::engine::Exit;
use crate::x86::control::{dr7, rflags};
use crate::x86::cpuid::Live;
use crate::x86::vmx::control::interruptibility;
use crate::x86::vmx::event::{KIND, VALID, kind};
use crate::x86::vmx::qualification::{cr, ept, io as port};
use crate::x86::vmx::{Field, reason};
use crate::x86::{msr, segment, vector};

/// So often in a row an instruction may find RAM unmapped at one address: the framework maps it at the first touch.
const VIOLATIONS: u32 = 10_000;

/// #GP(0).
const REFUSED: Event = Event {
    vector: vector::GP,
    source: Source::Exception,
    error: Some(0),
    len: 0,
};

impl HvfVcpu {
    /// Handles the exit that has just come. `None` where the guest goes on.
    pub(super) fn handle(&mut self, io: &mut dyn Io) -> Result<Option<Exit>> {
        let why = self.hardware.read32(Field::EXIT_REASON)?;
        if why & reason::ENTRY_FAILURE != 0 {
            return Err(Failure(dump::exit_name(why)));
        }
        let done = match why & reason::BASIC {
            // The host's own business; the loop looks at windows and deadlines by itself.
            reason::EXTERNAL_INTERRUPT
            | reason::IO_SMI
            | reason::OTHER_SMI
            | reason::INTERRUPT_WINDOW
            | reason::NMI_WINDOW
            | reason::PREEMPTION_TIMER
            | reason::TPR_BELOW_THRESHOLD
            | reason::MONITOR_TRAP => return Ok(None),
            reason::EXCEPTION_OR_NMI => return self.exception().map(|()| None),
            reason::TRIPLE_FAULT => return Ok(Some(Exit::TripleFault)),
            reason::EPT_VIOLATION if !self.is_device()? => return Ok(None),
            reason::INVALID_GUEST_STATE
            | reason::MSR_LOADING
            | reason::MACHINE_CHECK_AT_ENTRY
            | reason::EPT_MISCONFIGURATION
            | reason::INIT
            | reason::SIPI => return Err(Failure(dump::exit_name(why))),
            _ if self.is_watched()? => false,
            reason::CPUID => self.cpuid(io)?,
            reason::HLT => {
                self.advance()?;
                return Ok(Some(Exit::Halt));
            }
            reason::IO_INSTRUCTION => self.port(io)?,
            reason::RDMSR => self.read_msr(io)?,
            reason::WRMSR => self.write_msr(io)?,
            reason::CR_ACCESS => self.cr8(io)?,
            reason::XSETBV => self.set_xcr0()?,
            basic if reason::name(basic).is_none() => return Err(Failure(dump::exit_name(why))),
            _ => false,
        };
        if done {
            self.advance()?;
            return Ok(None);
        }
        self.in_software(io)
    }

    /// Whether something is looked at after each instruction, or an event is half delivered: the software CPU knows how.
    fn is_watched(&self) -> Result<bool> {
        Ok(self.events.next.is_some()
            || self.hardware.read(Field::GUEST_RFLAGS)? & rflags::TF != 0
            || self.hardware.read(Field::GUEST_DR7)? & dr7::ENABLES != 0)
    }

    /// Steps over the instruction that has been done.
    fn advance(&mut self) -> Result<()> {
        let len = self.hardware.read(Field::EXIT_INSTRUCTION_LENGTH)?;
        let rip = self.hardware.read(Field::GUEST_RIP)?;
        let mut next = rip.wrapping_add(len);
        if rip >> 32 == 0 && next >> 32 != 0 {
            // RIP has 32 bits outside 64-bit code.
            let rights = self.hardware.read(Field::GUEST_CS_ACCESS_RIGHTS)?;
            if rights & u64::from(segment::L) == 0 {
                next &= 0xffff_ffff;
            }
        }
        self.hardware.write(Field::GUEST_RIP, next)?;
        let shadows = interruptibility::STI | interruptibility::MOV_SS;
        let blocking = self.hardware.read32(Field::GUEST_INTERRUPTIBILITY)?;
        if blocking & shadows != 0 {
            let without = blocking & !shadows;
            self.hardware
                .write(Field::GUEST_INTERRUPTIBILITY, without.into())?;
        }
        Ok(())
    }

    /// Whether an EPT violation is an access to a device. In RAM it was the first touch, and is tried again.
    fn is_device(&mut self) -> Result<bool> {
        let gpa = self.hardware.read(Field::GUEST_PHYSICAL_ADDRESS)?;
        let qualification = self.hardware.read(Field::EXIT_QUALIFICATION)?;
        if qualification & ept::NMI_UNBLOCKED != 0 && self.events.next.is_none() {
            event::block_nmi(&mut self.hardware)?;
        }
        if !self.soft.core().tlb.ram().contains(gpa, 1) {
            self.violation.1 = 0;
            return Ok(true);
        }
        let place = (gpa, self.hardware.read(Field::GUEST_RIP)?);
        if self.violation.0 != place {
            self.violation = (place, 0);
        }
        self.violation.1 += 1;
        if self.violation.1 > VIOLATIONS {
            return Err(Failure(format!(
                "RAM at {gpa:#x} stays out of the guest's reach (qualification {qualification:#x})"
            )));
        }
        Ok(false)
    }

    /// An exception that somebody wanted to see: it is the guest's. An NMI was the host's.
    fn exception(&mut self) -> Result<()> {
        let info = self.hardware.read32(Field::EXIT_INTERRUPTION_INFO)?;
        if info & VALID == 0 || info & KIND == kind::NMI {
            return Ok(());
        }
        let number = info as u8;
        if number == vector::MC {
            return Err(Failure(
                "the host's processor reports a machine check".to_owned(),
            ));
        }
        if number == vector::PF {
            let address = self.hardware.read(Field::EXIT_QUALIFICATION)?;
            self.hardware.set_register(Register::Cr2, address)?;
        }
        self.events.next = Some(Raw {
            info,
            error: self.hardware.read32(Field::EXIT_INTERRUPTION_ERROR)?,
            len: self.hardware.read32(Field::EXIT_INSTRUCTION_LENGTH)?,
        });
        Ok(())
    }

    fn cpuid(&mut self, io: &mut dyn Io) -> Result<bool> {
        let leaf = self.hardware.register(Register::Rax)? as u32;
        let subleaf = self.hardware.register(Register::Rcx)? as u32;
        let base = io.msr_read(msr::APIC_BASE);
        let live = Live {
            cr4: self.shadows.cr4(&self.hardware)?,
            xcr0: self.hardware.register(Register::Xcr0)?,
            apic: base.is_some_and(|base| base & msr::apic_base::ENABLE != 0),
        };
        let answer = self.soft.core().cpuid.answer(leaf, subleaf, live);
        let registers = [
            (Register::Rax, answer.eax),
            (Register::Rbx, answer.ebx),
            (Register::Rcx, answer.ecx),
            (Register::Rdx, answer.edx),
        ];
        for (register, value) in registers {
            self.hardware.set_register(register, value.into())?;
        }
        Ok(true)
    }

    /// IN and OUT; false for the string instructions.
    fn port(&mut self, io: &mut dyn Io) -> Result<bool> {
        let what = self.hardware.read(Field::EXIT_QUALIFICATION)?;
        let width = Width::from_bytes((what & port::SIZE) + 1);
        let (Some(width), 0) = (width, what & port::STRING) else {
            return Ok(false);
        };
        let number = (what >> port::PORT_SHIFT) as u16;
        let rax = self.hardware.register(Register::Rax)?;
        if what & port::IN == 0 {
            io.port_write(number, width, (rax & width.ones()) as u32);
            return Ok(true);
        }
        let value = u64::from(io.port_read(number, width)) & width.ones();
        let kept = match width {
            Width::Byte | Width::Word => rax & !width.ones(),
            _ => 0,
        };
        self.hardware.set_register(Register::Rax, kept | value)?;
        Ok(true)
    }

    /// The x2APIC's registers and its deadline; false for the others.
    fn read_msr(&mut self, io: &mut dyn Io) -> Result<bool> {
        let number = self.hardware.register(Register::Rcx)? as u32;
        if !matches!(number, msr::X2APIC_FIRST..=msr::X2APIC_LAST) {
            return Ok(false);
        }
        let Some(value) = io.msr_read(number) else {
            return Ok(false);
        };
        self.hardware
            .set_register(Register::Rax, value & 0xffff_ffff)?;
        self.hardware.set_register(Register::Rdx, value >> 32)?;
        Ok(true)
    }

    fn write_msr(&mut self, io: &mut dyn Io) -> Result<bool> {
        let number = self.hardware.register(Register::Rcx)? as u32;
        if !matches!(
            number,
            msr::X2APIC_FIRST..=msr::X2APIC_LAST | msr::TSC_DEADLINE
        ) {
            return Ok(false);
        }
        let low = self.hardware.register(Register::Rax)? & 0xffff_ffff;
        let value = low | self.hardware.register(Register::Rdx)? << 32;
        let done = match (number, value) {
            (msr::TSC_DEADLINE, 1..) => {
                let offset = self.soft.core().state.msrs.tsc_offset;
                let tick = value.wrapping_sub(offset);
                self.ticking(io).msr_write(number, tick.max(1))
            }
            _ => io.msr_write(number, value),
        };
        // A value that is refused is refused again by the software CPU, which raises the fault.
        Ok(done.is_some())
    }

    /// MOV to and from CR8; false for all else.
    fn cr8(&mut self, io: &mut dyn Io) -> Result<bool> {
        let what = self.hardware.read(Field::EXIT_QUALIFICATION)?;
        if what & cr::NUMBER != 8 {
            return Ok(false);
        }
        let register = GENERAL[(what >> cr::REGISTER_SHIFT & 15) as usize];
        match what >> cr::KIND_SHIFT & 3 {
            cr::MOV_TO => {
                let value = self.hardware.register(register)?;
                if value > 15 {
                    return Ok(false);
                }
                io.set_cr8(value);
            }
            cr::MOV_FROM => self.hardware.set_register(register, io.cr8())?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// XSETBV of what the processor has and the software CPU has not; false for what is wrong, which that one refuses.
    fn set_xcr0(&mut self) -> Result<bool> {
        let number = self.hardware.register(Register::Rcx)? as u32;
        let low = self.hardware.register(Register::Rax)? & 0xffff_ffff;
        let value = low | self.hardware.register(Register::Rdx)? << 32;
        if number != 0 || !cpuid::offers_xcr0(&self.soft.core().cpuid, value) {
            return Ok(false);
        }
        self.hardware.set_register(Register::Xcr0, value)?;
        self.soft.core_mut().state.xcr0 = value;
        Ok(true)
    }

    fn ticking<'a>(&self, io: &'a mut dyn Io) -> Ticking<'a> {
        Ticking {
            io,
            tsc: self.vmx.tsc(),
            hz: self.tsc_hz,
        }
    }

    /// Delivers the event that was interrupted, or executes the instruction.
    fn in_software(&mut self, io: &mut dyn Io) -> Result<Option<Exit>> {
        let io = &mut self.ticking(io);
        let mut loaded = self.load()?;
        let stop = if let Some(raw) = self.events.next.take() {
            let (event, is_nmi) = raw.for_software();
            self.soft.core_mut().nmi_blocked |= is_nmi;
            self.soft.deliver_one(io, event)
        } else {
            let fetched = self.soft.fetch_one(io);
            let core = self.soft.core_mut();
            let is_stepped =
                core.state.rflags & rflags::TF != 0 || core.state.dr7 & dr7::ENABLES != 0;
            if is_stepped || !fetched.op().is_none_or(is_plain) {
                state::load_rest(&self.hardware, &mut loaded, core)?;
            }
            let drops = fetched.op().is_some_and(drops_translations);
            let mut stop = self.soft.execute_one(io, fetched);
            if self.soft.core().state.cr4 & !self.offered_cr4 != 0 {
                // The software CPU has the feature, this processor has not: as if it had refused.
                state::take_back(&loaded, self.soft.core_mut());
                stop = self.soft.deliver_one(io, REFUSED);
            }
            if drops {
                self.hardware.invalidate_tlb()?;
            }
            stop
        };
        self.store(Some(&loaded))?;
        Ok(stop.map(|stop| match stop {
            Stop::Halt => Exit::Halt,
            Stop::TripleFault => Exit::TripleFault,
            other => Exit::Fault {
                detail: format!("an instruction in software ended with {other:?}"),
            },
        }))
    }
}

/// Whether an instruction leaves debug registers, x87, SSE and the MSRs alone that are switched with the guest.
fn is_plain(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        Add | Or
            | Adc
            | Sbb
            | And
            | Sub
            | Xor
            | Cmp
            | Test
            | Inc
            | Dec
            | Neg
            | Not
            | Mov
            | Movzx
            | Movsx
            | Xchg
            | Xadd
            | Cmpxchg
            | Bt
            | Bts
            | Btr
            | Btc
            | Movs
            | Stos
            | Lods
            | Cmps
            | Scas
            | In
            | Out
            | Ins
            | Outs
            | Push
            | Pop
            | MovCr
            | Clts
            | Lmsw
            | Cpuid
            | Hlt
            | Invlpg
            | Wbinvd
            | Invd
            | Pause
    )
}

/// Whether an instruction makes the processor forget translations, whatever registers it changes.
fn drops_translations(op: Op) -> bool {
    matches!(op, Op::Invlpg | Op::Invpcid | Op::MovCr | Op::Wrmsr)
}
