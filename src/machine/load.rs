//! What lies in memory when the first CPU starts: firmware's tables, kernel, initrd, command line. It is written
//! anew for every reset, with new random numbers.

use std::sync::Arc;

use hvf_sys::ram::Ram;
use hvf_sys::random;

use super::BuildError;
use crate::boot::image::{Image, Role};
use crate::boot::{self, Boot, Module};
use crate::firmware;
use crate::layout;
use crate::memory::{self, Piece};
use crate::spec::MachineSpec;
use crate::x86::regs::Regs;

/// Everything that is written to memory at power-on.
pub(super) struct Program {
    ram: Arc<Ram>,
    memory: u64,
    kernel: Image,
    initrd: Option<Image>,
    modules: Vec<(Image, String)>,
    cmdline: String,
    tables: Vec<Piece>,
}

impl Program {
    /// Reads the images that `spec` names and makes the tables.
    pub(super) fn new(spec: &MachineSpec, ram: Arc<Ram>) -> Result<Self, BuildError> {
        let memory = spec.memory.bytes();
        let kernel = Image::read(Role::Kernel, &spec.kernel, memory)?;
        let initrd = spec
            .initrd
            .as_ref()
            .map(|image| Image::read(Role::Initrd, image, memory));
        let modules = spec.modules.iter().map(|module| {
            let image = Image::read(Role::Module, &module.image, memory)?;
            Ok((image, module.cmdline.clone()))
        });
        Ok(Self {
            ram,
            memory,
            kernel,
            initrd: initrd.transpose()?,
            modules: modules.collect::<Result<_, BuildError>>()?,
            cmdline: spec.cmdline.clone(),
            tables: tables(spec)?,
        })
    }

    /// Writes it all and gives the first CPU's registers.
    pub(super) fn load(&self) -> Result<Regs, BuildError> {
        for piece in &self.tables {
            let written = self.ram.write(piece.at, &piece.bytes);
            written.map_err(|_| BuildError::Firmware(piece.at))?;
        }
        let mut seed = [0; 32];
        random::fill(&mut seed).map_err(BuildError::Random)?;
        let modules = self.modules.iter();
        let modules: Vec<_> = modules
            .map(|(image, cmdline)| Module { image, cmdline })
            .collect();
        let boot = Boot {
            kernel: &self.kernel,
            initrd: self.initrd.as_ref(),
            modules: &modules,
            cmdline: &self.cmdline,
            map: &memory::map(self.memory),
            rsdp: layout::RSDP.start,
            seed: &seed,
        };
        Ok(boot::load(&self.ram, &boot)?)
    }
}

/// The firmware's tables of the machine that `spec` says, which has an identity of its own every time.
pub fn tables(spec: &MachineSpec) -> Result<Vec<Piece>, BuildError> {
    let mut uuid = [0; 16];
    random::fill(&mut uuid).map_err(BuildError::Random)?;
    // Version 4, random, of the usual variant (RFC 9562, 5.4).
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(firmware::tables(&firmware::Machine {
        cpus: spec.cpus.count().into(),
        memory: spec.memory.bytes(),
        hpet: true,
        uuid,
    }))
}
