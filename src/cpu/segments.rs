//! Segment registers: reading descriptors and loading what they describe (SDM volume 3, chapters 3 and 5).

use hvf_sys::cpu::{Segment, State};

use super::core::{Done, Exec, Trap};
use crate::x86::control::cr0;
use crate::x86::{segment, vector};

/// A descriptor with where it was found.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// The selector that named it.
    pub selector: u16,
    /// Its eight bytes.
    pub bits: u64,
    /// Its linear address.
    pub at: u64,
}

impl Descriptor {
    /// The access rights.
    pub fn rights(&self) -> u16 {
        segment::rights(self.bits)
    }

    /// The privilege level of the segment.
    pub fn dpl(&self) -> u8 {
        ((self.rights() & segment::DPL) >> segment::DPL_SHIFT) as u8
    }

    /// Whether it is in memory.
    pub fn present(&self) -> bool {
        self.rights() & segment::P != 0
    }

    /// Whether it describes code or data, not a system segment or gate.
    pub fn is_segment(&self) -> bool {
        self.rights() & segment::S != 0
    }

    /// Whether it describes code.
    pub fn is_code(&self) -> bool {
        self.is_segment() && self.rights() & segment::CODE != 0
    }

    /// Whether it describes code that less privileged code may enter as it is.
    pub fn is_conforming(&self) -> bool {
        self.is_code() && self.rights() & segment::CONFORMING != 0
    }

    /// Whether it describes data that may be written.
    pub fn is_writable_data(&self) -> bool {
        self.is_segment() && !self.is_code() && self.rights() & segment::WRITABLE != 0
    }

    /// The type of a system segment or gate.
    pub fn system_type(&self) -> u16 {
        self.rights() & segment::TYPE
    }

    /// What a segment register holds after it was loaded from this.
    pub fn loaded(&self) -> Segment {
        Segment {
            selector: self.selector,
            rights: self.rights(),
            limit: segment::limit(self.bits),
            base: u64::from(segment::base(self.bits)),
        }
    }
}

/// A null selector: index 0 of the GDT, at any privilege level.
pub fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// The error code that names a selector.
pub fn selector_error(selector: u16) -> u32 {
    u32::from(selector & !3)
}

impl Exec<'_> {
    /// Reads the descriptor that a selector names. `vector` with the selector where it lies beyond its table.
    pub fn descriptor(&mut self, selector: u16, vector: u8) -> Result<Descriptor, Trap> {
        self.descriptor_or(selector, vector, selector_error(selector))
    }

    /// The same with an error code of the caller's.
    pub fn descriptor_or(
        &mut self,
        selector: u16,
        vector: u8,
        error: u32,
    ) -> Result<Descriptor, Trap> {
        let (base, limit) = if selector & 4 == 0 {
            (self.state.gdtr.base, u32::from(self.state.gdtr.limit))
        } else {
            let ldt = self.segment(State::LDTR);
            if ldt.rights & segment::P == 0 {
                return Err(self.raise_with(vector, error));
            }
            (ldt.base, ldt.limit)
        };
        let offset = u32::from(selector & !7);
        if offset + 7 > limit {
            return Err(self.raise_with(vector, error));
        }
        let at = self.table_address(base, u64::from(offset));
        let bits = self.load_system(at)?;
        Ok(Descriptor { selector, bits, at })
    }

    /// Makes sure that the second half of a descriptor of 16 bytes lies inside its table too: #GP with the selector where not.
    pub fn require_wide(&mut self, found: &Descriptor) -> Done {
        let limit = if found.selector & 4 == 0 {
            u32::from(self.state.gdtr.limit)
        } else {
            self.segment(State::LDTR).limit
        };
        if u32::from(found.selector & !7) + 15 > limit {
            return Err(self.general_protection(selector_error(found.selector)));
        }
        Ok(())
    }

    /// The address of a table's entry; it wraps at 4 GiB outside long mode.
    pub fn table_address(&self, base: u64, offset: u64) -> u64 {
        let at = base.wrapping_add(offset);
        if self.long_mode() {
            at
        } else {
            at & 0xffff_ffff
        }
    }

    /// Sets the accessed bit of a code or data segment, where it is not set yet.
    pub fn mark_accessed(&mut self, descriptor: &mut Descriptor) -> Done {
        if descriptor.rights() & segment::ACCESSED == 0 {
            descriptor.bits |= u64::from(segment::ACCESSED) << 40;
            let byte = self.load_system::<u8>(descriptor.at.wrapping_add(5))? | 1;
            self.store_system(descriptor.at.wrapping_add(5), byte)?;
        }
        Ok(())
    }

    /// Loads ES, SS, DS, FS or GS with a selector, as MOV, POP and LDS and its kin do.
    pub fn load_segment(&mut self, number: usize, selector: u16) -> Done {
        let loaded = if self.real_mode() || self.vm86() {
            self.real_segment(number, selector)
        } else if number == State::SS {
            self.stack_segment(selector, self.cpl, vector::GP)?
        } else {
            self.data_segment(selector)?
        };
        self.state.segments[number & 7] = loaded;
        Ok(())
    }

    /// What a segment register holds in real and virtual-8086 mode. Real mode keeps limit and rights as they are.
    pub fn real_segment(&self, number: usize, selector: u16) -> Segment {
        let base = u64::from(selector) << 4;
        if self.vm86() {
            Segment {
                selector,
                rights: 0x00f3,
                limit: 0xffff,
                base,
            }
        } else {
            Segment {
                selector,
                base,
                ..*self.segment(number)
            }
        }
    }

    fn data_segment(&mut self, selector: u16) -> Result<Segment, Trap> {
        if is_null(selector) {
            return Ok(Segment {
                selector,
                rights: 0,
                limit: 0,
                base: 0,
            });
        }
        let mut found = self.descriptor(selector, vector::GP)?;
        let readable =
            found.is_segment() && (!found.is_code() || found.rights() & segment::READABLE != 0);
        let privileged = found.is_conforming() || self.cpl.max((selector & 3) as u8) <= found.dpl();
        if !readable || !privileged {
            return Err(self.general_protection(selector_error(selector)));
        }
        if !found.present() {
            return Err(self.raise_with(vector::NP, selector_error(selector)));
        }
        self.mark_accessed(&mut found)?;
        Ok(found.loaded())
    }

    /// What SS holds for code at `cpl`. A selector that does not fit raises `fault` (#GP, or #TS in a task switch or an
    /// inter-level transfer); a null one fits 64-bit code below privilege level 3.
    pub fn stack_segment(&mut self, selector: u16, cpl: u8, fault: u8) -> Result<Segment, Trap> {
        let rpl = (selector & 3) as u8;
        if is_null(selector) {
            if self.code64() && cpl < 3 && rpl == cpl {
                return Ok(null_stack(selector, cpl));
            }
            return Err(self.raise_with(fault, 0));
        }
        let mut found = self.descriptor(selector, fault)?;
        if rpl != cpl || !found.is_writable_data() || found.dpl() != cpl {
            return Err(self.raise_with(fault, selector_error(selector)));
        }
        if !found.present() {
            return Err(self.raise_with(vector::SS, selector_error(selector)));
        }
        self.mark_accessed(&mut found)?;
        Ok(found.loaded())
    }

    /// Sets CS and the privilege level, and everything that follows from them.
    pub fn set_code_segment(&mut self, loaded: Segment, cpl: u8) {
        self.state.segments[State::CS] = Segment {
            selector: loaded.selector & !3 | u16::from(cpl),
            ..loaded
        };
        self.cpl = cpl;
        self.update_mode();
    }

    /// Makes data segments that the new, less privileged level may not use null (SDM volume 2, RET). Those that are null
    /// already stay as they are: in long mode FS and GS have a base nevertheless, which is a thread's own.
    pub fn drop_privileged_segments(&mut self) {
        for number in [State::ES, State::DS, State::FS, State::GS] {
            let found = *self.segment(number);
            let conforming = found.rights & (segment::CODE | segment::CONFORMING)
                == segment::CODE | segment::CONFORMING;
            let dpl = ((found.rights & segment::DPL) >> segment::DPL_SHIFT) as u8;
            if found.rights & segment::P != 0 && !conforming && dpl < self.cpl {
                // The base stays, as it is an MSR of its own in 64-bit mode.
                self.state.segments[number] = Segment {
                    base: found.base,
                    ..Segment::default()
                };
            }
        }
    }

    /// Recomputes the segments after a switch into or out of protected mode: only the privilege level depends on it.
    pub fn after_mode_switch(&mut self) {
        self.cpl = if !self.cr0(cr0::PE) { 0 } else { self.cpl };
        self.update_mode();
    }
}

/// A stack segment that is null, as long mode gives it to inner privilege levels.
pub fn null_stack(selector: u16, cpl: u8) -> Segment {
    Segment {
        selector,
        rights: u16::from(cpl) << segment::DPL_SHIFT,
        limit: 0,
        base: 0,
    }
}
