//! Frame information structures (Serial ATA 3.1, 10.3), which travel between HBA and device and which a guest sees in
//! its command tables and in the received FIS structure.

use super::regs::status;

/// Bytes of a register FIS.
pub(super) const REGISTER: usize = 20;

/// FIS types.
mod kind {
    pub(super) const REGISTER_TO_DEVICE: u8 = 0x27;
    pub(super) const REGISTER_TO_HOST: u8 = 0x34;
    pub(super) const DMA_SETUP: u8 = 0x41;
    pub(super) const PIO_SETUP: u8 = 0x5f;
    pub(super) const SET_DEVICE_BITS: u8 = 0xa1;
}

/// Where each kind of FIS goes in the received FIS structure (AHCI 1.3.1, 4.2.1).
pub(super) mod place {
    pub(in crate::ahci) const DMA_SETUP: u64 = 0x00;
    pub(in crate::ahci) const PIO_SETUP: u64 = 0x20;
    pub(in crate::ahci) const REGISTER: u64 = 0x40;
    pub(in crate::ahci) const SET_DEVICE_BITS: u64 = 0x58;
}

// Bits of the second byte.
const COMMAND: u8 = 0x80;
const INTERRUPT: u8 = 0x40;
const TO_HOST: u8 = 0x20;

/// Software reset, in the device control register.
const SRST: u8 = 0x04;

/// What a host has sent to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToDevice {
    /// A command.
    Command(Command),
    /// The device control register, with or without the software reset bit.
    Control {
        /// The bit.
        reset: bool,
    },
}

/// The registers of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// Command.
    pub(super) code: u8,
    /// Features, both bytes.
    pub(super) features: u16,
    /// LBA, all six bytes.
    pub(super) lba: u64,
    /// Device.
    pub(super) device: u8,
    /// Count, both bytes.
    pub(super) count: u16,
    /// Auxiliary.
    pub(super) auxiliary: u32,
}

impl ToDevice {
    /// Reads a FIS; none where it is of a type that no device takes from a host.
    pub(super) fn parse(fis: &[u8; REGISTER]) -> Option<Self> {
        if fis[0] != kind::REGISTER_TO_DEVICE {
            return None;
        }
        if fis[1] & COMMAND == 0 {
            let reset = fis[15] & SRST != 0;
            return Some(Self::Control { reset });
        }
        Some(Self::Command(Command {
            code: fis[2],
            features: u16::from_le_bytes([fis[3], fis[11]]),
            lba: u64::from_le_bytes([fis[4], fis[5], fis[6], fis[8], fis[9], fis[10], 0, 0]),
            device: fis[7],
            count: u16::from_le_bytes([fis[12], fis[13]]),
            auxiliary: u32::from_le_bytes([fis[16], fis[17], fis[18], fis[19]]),
        }))
    }
}

/// The registers of a device, as it reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    /// Status.
    pub(super) status: u8,
    /// Error.
    pub(super) error: u8,
    /// LBA, all six bytes.
    pub(super) lba: u64,
    /// Device.
    pub(super) device: u8,
    /// Count, both bytes.
    pub(super) count: u16,
}

impl Registers {
    /// What PxSIG shows of the registers that a device reports after a reset.
    pub(super) fn signature(&self) -> u32 {
        (self.lba as u32) << 8 | u32::from(self.count as u8)
    }

    /// Whether the device reports an error.
    pub(super) fn failed(&self) -> bool {
        self.status & status::ERR != 0
    }

    /// The register FIS.
    pub(super) fn fis(&self, interrupt: bool) -> [u8; REGISTER] {
        let lba = self.lba.to_le_bytes();
        let count = self.count.to_le_bytes();
        let mut fis = [0; REGISTER];
        fis[0] = kind::REGISTER_TO_HOST;
        fis[1] = if interrupt { INTERRUPT } else { 0 };
        fis[2] = self.status;
        fis[3] = self.error;
        fis[4..7].copy_from_slice(&lba[..3]);
        fis[7] = self.device;
        fis[8..11].copy_from_slice(&lba[3..6]);
        fis[12..14].copy_from_slice(&count);
        fis
    }

    /// The PIO setup FIS for the last block of a transfer, after which the registers have these contents.
    pub(super) fn pio_setup(&self, pio: &Pio) -> [u8; REGISTER] {
        let mut fis = self.fis(pio.interrupt);
        fis[0] = kind::PIO_SETUP;
        fis[1] |= if pio.to_host { TO_HOST } else { 0 };
        fis[2] = status::DRDY | status::DSC | status::DRQ;
        fis[3] = 0;
        fis[15] = self.status;
        fis[16..18].copy_from_slice(&pio.count.to_le_bytes());
        if let Some(reason) = pio.reason {
            fis[5..7].copy_from_slice(&pio.count.to_le_bytes());
            fis[12] = reason;
            fis[15] = status::BSY | status::IDLE;
        }
        fis
    }

    /// The set device bits FIS that ends queued commands, a bit each.
    pub(super) fn set_device_bits(&self, tags: u32) -> [u8; 8] {
        // BSY and DRQ have no place in it.
        let status = self.status & 0x77;
        let mut fis = [
            kind::SET_DEVICE_BITS,
            INTERRUPT,
            status,
            self.error,
            0,
            0,
            0,
            0,
        ];
        fis[4..].copy_from_slice(&tags.to_le_bytes());
        fis
    }
}

/// The last block of a PIO transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pio {
    /// The direction.
    pub(super) to_host: bool,
    /// Whether the block is told by an interrupt: any but the first one of a transfer to the device is.
    pub(super) interrupt: bool,
    /// Its bytes.
    pub(super) count: u16,
    /// Packet commands: what the block is, and which way it goes. They go on after it.
    pub(super) reason: Option<u8>,
}

/// The DMA setup FIS of a queued command.
pub(super) fn dma_setup(tag: u8, to_host: bool, count: u32) -> [u8; 28] {
    let mut fis = [0; 28];
    fis[0] = kind::DMA_SETUP;
    fis[1] = if to_host { TO_HOST } else { 0 };
    fis[4] = tag;
    fis[20..24].copy_from_slice(&count.to_le_bytes());
    fis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_apart() {
        let fis = [
            0x27, 0x80, 0x61, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
        ];
        let command = Command {
            code: 0x61,
            features: 0x0901,
            lba: 0x0807_0604_0302,
            device: 5,
            count: 0x0b0a,
            auxiliary: 0x1110_0f0e,
        };
        assert_eq!(ToDevice::parse(&fis), Some(ToDevice::Command(command)));
        let mut control = fis;
        control[1] = 0x0f;
        control[15] = 4;
        assert_eq!(
            ToDevice::parse(&control),
            Some(ToDevice::Control { reset: true })
        );
        control[0] = 0x34;
        assert_eq!(ToDevice::parse(&control), None);
    }

    #[test]
    fn what_a_device_sends_is_laid_out_as_serial_ata_says() {
        let registers = Registers {
            status: 0x51,
            error: 0x40,
            lba: 0x0605_0403_0201,
            device: 0xe0,
            count: 0x0807,
        };
        assert_eq!(
            registers.fis(true)[..14],
            [0x34, 0x40, 0x51, 0x40, 1, 2, 3, 0xe0, 4, 5, 6, 0, 7, 8]
        );
        let pio = Pio {
            to_host: true,
            interrupt: true,
            count: 0x200,
            reason: None,
        };
        let setup = registers.pio_setup(&pio);
        assert_eq!(
            (setup[0], setup[1], setup[2], setup[15]),
            (0x5f, 0x60, 0x58, 0x51)
        );
        assert_eq!(setup[16..18], [0, 2]);
        assert_eq!(
            registers.set_device_bits(0x8000_0001),
            [0xa1, 0x40, 0x51, 0x40, 1, 0, 0, 0x80]
        );
        assert_eq!(
            dma_setup(31, true, 4096)[..8],
            [0x41, 0x20, 0, 0, 31, 0, 0, 0]
        );
    }
}
