//! The fields of a VMCS, stored by their encodings (SDM volume 3, 25.11.2 and appendix B).

use super::super::vmx::{Error, Result};
use crate::x86::vmx::Field;

/// One VMCS.
pub struct Vmcs {
    values: Box<[u64; SLOTS]>,
}

/// Width, kind, and an index of six bits, which is more than any field has.
const SLOTS: usize = 1 << 10;

impl Default for Vmcs {
    fn default() -> Self {
        Self {
            values: Box::new([0; SLOTS]),
        }
    }
}

impl Vmcs {
    /// The value of a field that exists.
    pub fn read(&self, field: Field) -> u64 {
        self.values[slot(field)]
    }

    /// A control or another field of 32 bits.
    pub fn read_u32(&self, field: Field) -> u32 {
        self.read(field) as u32
    }

    /// Sets a field; what is above its width is dropped, as VMWRITE does.
    pub fn write(&mut self, field: Field, value: u64) {
        self.values[slot(field)] = value & (u64::MAX >> (64 - field.bits()));
    }

    /// VMREAD by the program. The host's state and what the framework points the processor to are not the program's.
    pub fn program_reads(&self, field: Field) -> Result<u64> {
        if is_programs(field) {
            Ok(self.read(field))
        } else {
            Err(Error::BAD_ARGUMENT)
        }
    }

    /// VMWRITE by the program.
    pub fn program_writes(&mut self, field: Field, value: u64) -> Result<()> {
        if !is_programs(field) || field.is_read_only() {
            return Err(Error::BAD_ARGUMENT);
        }
        self.write(field, value);
        Ok(())
    }
}

fn is_programs(field: Field) -> bool {
    const FRAMEWORKS: [Field; 8] = [
        Field::VPID,
        Field::EPT_POINTER,
        Field::IO_BITMAP_A,
        Field::IO_BITMAP_B,
        Field::MSR_BITMAP,
        Field::EXIT_MSR_STORE_ADDRESS,
        Field::EXIT_MSR_LOAD_ADDRESS,
        Field::ENTRY_MSR_LOAD_ADDRESS,
    ];
    field.name().is_some() && !field.is_host() && !FRAMEWORKS.contains(&field)
}

fn slot(field: Field) -> usize {
    let (width, kind, index) = (field.0 >> 13 & 3, field.0 >> 10 & 3, field.0 >> 1 & 0x3f);
    (width << 8 | kind << 6 | index) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_fields_share_a_place() {
        let slots: BTreeSet<_> = Field::ALL.iter().map(|field| slot(*field)).collect();
        assert_eq!(slots.len(), Field::ALL.len());
    }

    #[test]
    fn the_program_gets_its_own_fields_only() {
        let mut vmcs = Vmcs::default();
        for theirs in [Field::HOST_RIP, Field::EPT_POINTER, Field(0x6ffe)] {
            assert_eq!(vmcs.program_reads(theirs), Err(Error::BAD_ARGUMENT));
            assert_eq!(vmcs.program_writes(theirs, 1), Err(Error::BAD_ARGUMENT));
        }
        assert_eq!(vmcs.program_reads(Field::EXIT_REASON), Ok(0));
        let read_only = vmcs.program_writes(Field::EXIT_REASON, 1);
        assert_eq!(read_only, Err(Error::BAD_ARGUMENT));
        assert_eq!(
            vmcs.program_writes(Field::GUEST_CS_SELECTOR, 0x1_2345),
            Ok(())
        );
        assert_eq!(vmcs.program_reads(Field::GUEST_CS_SELECTOR), Ok(0x2345));
    }
}
