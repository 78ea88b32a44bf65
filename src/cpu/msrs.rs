//! Model-specific registers (SDM volume 4). An MSR that is not offered is #GP, as on a processor that lacks it.

use super::core::{Core, Done, Exec, Trap};
use super::memory::canonical;
use crate::layout::PHYSICAL_BITS;
use crate::x86::control::{cr0, efer};
use crate::x86::msr;

const VARIABLE_LAST: u32 = msr::MTRR_PHYSBASE0 + 15;

impl Core {
    /// Sets a memory type range register, as WRMSR does, or firmware before the CPU starts. False where `number` is none.
    pub fn set_mtrr(&mut self, number: u32, value: u64) -> bool {
        let msrs = &mut self.state.msrs;
        match number {
            msr::MTRR_DEF_TYPE => msrs.mtrr_def_type = value,
            msr::MTRR_PHYSBASE0..=VARIABLE_LAST => {
                msrs.mtrr_variable[(number - msr::MTRR_PHYSBASE0) as usize & 15] = value
            }
            _ => match fixed_mtrr(number) {
                Some(n) => msrs.mtrr_fixed[n] = value,
                None => return false,
            },
        }
        true
    }
}

impl Exec<'_> {
    /// Reads an MSR for RDMSR.
    pub fn read_msr(&mut self, number: u32) -> Result<u64, Trap> {
        let msrs = &self.state.msrs;
        Ok(match number {
            msr::TSC => self.tsc(),
            msr::TSC_ADJUST => msrs.tsc_adjust,
            msr::EFER => msrs.efer,
            msr::STAR => msrs.star,
            msr::LSTAR => msrs.lstar,
            msr::CSTAR => msrs.cstar,
            msr::FMASK => msrs.fmask,
            msr::FS_BASE => self.segment(4).base,
            msr::GS_BASE => self.segment(5).base,
            msr::KERNEL_GS_BASE => msrs.kernel_gs_base,
            msr::TSC_AUX => msrs.tsc_aux,
            msr::SYSENTER_CS => msrs.sysenter_cs,
            msr::SYSENTER_ESP => msrs.sysenter_esp,
            msr::SYSENTER_EIP => msrs.sysenter_eip,
            msr::PAT => msrs.pat,
            msr::MISC_ENABLE => msrs.misc_enable,
            msr::MTRR_CAP => msr::mtrr::CAP,
            msr::MTRR_DEF_TYPE => msrs.mtrr_def_type,
            msr::MTRR_PHYSBASE0..=VARIABLE_LAST => {
                msrs.mtrr_variable[(number - msr::MTRR_PHYSBASE0) as usize & 15]
            }
            msr::ARCH_CAPABILITIES => msr::arch_capabilities::IN_ORDER,
            msr::PLATFORM_ID
            | msr::BIOS_SIGN_ID
            | msr::MCG_CAP
            | msr::MCG_STATUS
            | msr::P5_MC_ADDR
            | msr::P5_MC_TYPE => 0,
            msr::DEBUGCTL => 0,
            // Locked, with nothing of what it could enable.
            msr::FEATURE_CONTROL => 1,
            msr::TSC_DEADLINE => {
                let deadline = self.apic_msr(number)?;
                if deadline == 0 {
                    0
                } else {
                    deadline.wrapping_add(self.state.msrs.tsc_offset)
                }
            }
            msr::APIC_BASE | msr::X2APIC_FIRST..=msr::X2APIC_LAST => self.apic_msr(number)?,
            _ => match fixed_mtrr(number) {
                Some(n) => msrs.mtrr_fixed[n],
                None => return Err(self.unknown_msr("read", number)),
            },
        })
    }

    fn apic_msr(&mut self, number: u32) -> Result<u64, Trap> {
        match self.io.msr_read(number) {
            Some(value) => Ok(value),
            None => Err(self.general_protection(0)),
        }
    }

    fn unknown_msr(&mut self, verb: &str, number: u32) -> Trap {
        log::debug!("the guest {verb}s MSR {number:#x}, which is not offered");
        self.general_protection(0)
    }

    /// Writes an MSR for WRMSR.
    pub fn write_msr(&mut self, number: u32, value: u64) -> Done {
        self.check_msr(number, value)?;
        let msrs = &mut self.core.state.msrs;
        match number {
            msr::TSC => {
                let now = self.io.now().0;
                let msrs = &mut self.core.state.msrs;
                let offset = value.wrapping_sub(now);
                // IA32_TSC_ADJUST follows a write of the TSC (SDM volume 3, 17.17.3).
                msrs.tsc_adjust = msrs
                    .tsc_adjust
                    .wrapping_add(offset.wrapping_sub(msrs.tsc_offset));
                msrs.tsc_offset = offset;
            }
            msr::TSC_ADJUST => {
                msrs.tsc_offset = msrs
                    .tsc_offset
                    .wrapping_add(value.wrapping_sub(msrs.tsc_adjust));
                msrs.tsc_adjust = value;
            }
            msr::EFER => return self.write_efer(value),
            msr::STAR => msrs.star = value,
            msr::LSTAR => msrs.lstar = value,
            msr::CSTAR => msrs.cstar = value,
            msr::FMASK => msrs.fmask = value & 0xffff_ffff,
            msr::FS_BASE => self.state.segments[4].base = value,
            msr::GS_BASE => self.state.segments[5].base = value,
            msr::KERNEL_GS_BASE => msrs.kernel_gs_base = value,
            msr::TSC_AUX => msrs.tsc_aux = value & 0xffff_ffff,
            msr::SYSENTER_CS => msrs.sysenter_cs = value & 0xffff_ffff,
            msr::SYSENTER_ESP => msrs.sysenter_esp = value,
            msr::SYSENTER_EIP => msrs.sysenter_eip = value,
            msr::PAT => msrs.pat = value,
            msr::MISC_ENABLE => {
                msrs.misc_enable = value & msr::misc_enable::FAST_STRING
                    | msrs.misc_enable & !msr::misc_enable::FAST_STRING
            }
            // Nothing to load, nothing to record, nothing to clear.
            msr::BIOS_UPDT_TRIG
            | msr::BIOS_SIGN_ID
            | msr::MCG_STATUS
            | msr::DEBUGCTL
            | msr::P5_MC_ADDR
            | msr::P5_MC_TYPE => {}
            msr::TSC_DEADLINE => {
                let deadline = if value == 0 {
                    0
                } else {
                    value.wrapping_sub(msrs.tsc_offset).max(1)
                };
                return self.write_apic_msr(number, deadline);
            }
            msr::APIC_BASE | msr::X2APIC_FIRST..=msr::X2APIC_LAST => {
                return self.write_apic_msr(number, value);
            }
            _ if self.core.set_mtrr(number, value) => {}
            _ => return Err(self.unknown_msr("write", number)),
        }
        Ok(())
    }

    fn write_apic_msr(&mut self, number: u32, value: u64) -> Done {
        match self.io.msr_write(number, value) {
            Some(()) => Ok(()),
            None => Err(self.general_protection(0)),
        }
    }

    /// #GP(0) where a value does not fit its register: addresses must be canonical, memory types must exist.
    fn check_msr(&mut self, number: u32, value: u64) -> Done {
        let memory_types = |value: u64| {
            value
                .to_le_bytes()
                .into_iter()
                .all(|kind| matches!(kind, 0 | 1 | 4..=6))
        };
        let fits = match number {
            msr::LSTAR
            | msr::CSTAR
            | msr::FS_BASE
            | msr::GS_BASE
            | msr::KERNEL_GS_BASE
            | msr::SYSENTER_ESP
            | msr::SYSENTER_EIP => canonical(value),
            msr::FMASK | msr::TSC_AUX => value >> 32 == 0,
            msr::PAT => value
                .to_le_bytes()
                .into_iter()
                .all(|kind| matches!(kind, 0 | 1 | 4..=7)),
            msr::MTRR_DEF_TYPE => value & !0xcff == 0 && memory_types(value & 0xff),
            // Base and mask take turns (SDM volume 3, 12.11.2.3); beyond the physical address is nothing.
            msr::MTRR_PHYSBASE0..=VARIABLE_LAST => {
                let is_base = (number - msr::MTRR_PHYSBASE0) & 1 == 0;
                let reserved = if is_base { 0xf00 } else { 0x7ff };
                value & (!0 << PHYSICAL_BITS | reserved) == 0
                    && (!is_base || memory_types(value & 0xff))
            }
            msr::MCG_STATUS => value == 0,
            _ if fixed_mtrr(number).is_some() => memory_types(value),
            _ => true,
        };
        if fits {
            Ok(())
        } else {
            Err(self.general_protection(0))
        }
    }

    /// LME cannot change while paging is on; LMA cannot be written.
    fn write_efer(&mut self, value: u64) -> Done {
        let old = self.state.msrs.efer;
        let bad =
            value & !efer::DEFINED != 0 || (value ^ old) & efer::LME != 0 && self.cr0(cr0::PG);
        if bad {
            return Err(self.general_protection(0));
        }
        self.state.msrs.efer = value & !efer::LMA | old & efer::LMA;
        if (value ^ old) & efer::NXE != 0 {
            self.flush_all();
        }
        self.update_mode();
        Ok(())
    }
}

/// The number of a fixed-range MTRR among the eleven.
fn fixed_mtrr(number: u32) -> Option<usize> {
    match number {
        msr::MTRR_FIX64K_00000 => Some(0),
        msr::MTRR_FIX16K_80000 => Some(1),
        msr::MTRR_FIX16K_A0000 => Some(2),
        msr::MTRR_FIX4K_C0000..=msr::MTRR_FIX4K_F8000 => {
            Some((number - msr::MTRR_FIX4K_C0000) as usize + 3)
        }
        _ => None,
    }
}
