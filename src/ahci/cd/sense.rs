//! Why a packet command fails (SPC-4, 4.5; MMC-6, annex F).

/// Sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sense {
    pub(super) key: u8,
    code: u8,
    qualifier: u8,
}

impl Sense {
    pub(super) const NO_MEDIUM: Self = Self::new(0x2, 0x3a, 0x01);
    pub(super) const TRAY_OPEN: Self = Self::new(0x2, 0x3a, 0x02);
    pub(super) const UNREADABLE: Self = Self::new(0x3, 0x11, 0x00);
    pub(super) const UNKNOWN_COMMAND: Self = Self::new(0x5, 0x20, 0x00);
    pub(super) const OUT_OF_RANGE: Self = Self::new(0x5, 0x21, 0x00);
    pub(super) const INVALID_FIELD: Self = Self::new(0x5, 0x24, 0x00);
    pub(super) const NOTHING_SAVED: Self = Self::new(0x5, 0x39, 0x00);
    pub(super) const REMOVAL_PREVENTED: Self = Self::new(0x5, 0x53, 0x02);
    pub(super) const MEDIUM_CHANGED: Self = Self::new(0x6, 0x28, 0x00);
    pub(super) const RESET: Self = Self::new(0x6, 0x29, 0x00);

    const fn new(key: u8, code: u8, qualifier: u8) -> Self {
        Self {
            key,
            code,
            qualifier,
        }
    }

    /// Fixed format sense data (SPC-4, 4.5.3), of a current error.
    pub(super) fn data(self) -> Vec<u8> {
        const CURRENT: u8 = 0x70;
        let mut data = vec![0; 18];
        (data[0], data[2], data[7]) = (CURRENT, self.key, 10);
        (data[12], data[13]) = (self.code, self.qualifier);
        data
    }
}
