//! Random values, biased to those at which instructions change their mind.

/// A seeded generator: splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An integer: limits, powers of two and their neighbours, small numbers, anything.
    pub(crate) fn integer(&mut self) -> u64 {
        let power = 1u64 << self.below(64);
        match self.below(10) {
            0 => self.pick(&[0, 1, u64::MAX]),
            1 => self.below(70),
            2 => self.below(70).wrapping_neg(),
            3 => power,
            4 => power.wrapping_sub(1),
            5 => power.wrapping_neg(),
            6 => self.next() as u32 as u64,
            7 => self.next() as i32 as u64,
            _ => self.next(),
        }
    }

    pub(crate) fn single(&mut self) -> u32 {
        let sign = (self.next() as u32) & 1 << 31;
        let magnitude = match self.below(10) {
            0 => self.pick(&[0, 1, 0x7f_ffff, 0x80_0000, 0x7f7f_ffff, 0x3f80_0000]),
            // Infinity, quiet and signalling NaN.
            1 => self.pick(&[0x7f80_0000, 0x7fc0_0000, 0x7f80_0001, 0x7fff_ffff]),
            2 => self.next() as u32 & 0x7f_ffff,
            3 => (self.below(200) as f32).to_bits(),
            4 => (self.next() as i32 as f32).abs().to_bits(),
            5 => (self.next() as f32 + 0.5).to_bits(),
            6 => (self.below(64) as f32 + 0.5).to_bits(),
            // Exponents near one.
            7 | 8 => 0x3f00_0000 + (self.next() as u32 & 0xff_ffff),
            _ => self.next() as u32 & 0x7fff_ffff,
        };
        sign | magnitude
    }

    pub(crate) fn double(&mut self) -> u64 {
        let sign = self.next() & 1 << 63;
        let fraction = (1 << 52) - 1;
        let magnitude = match self.below(11) {
            0 => self.pick(&[
                0,
                1,
                fraction,
                1 << 52,
                0x7fef << 48 | fraction,
                0x3ff0 << 48,
            ]),
            1 => self.pick(&[
                0x7ff0 << 48,
                0x7ff8 << 48,
                0x7ff0 << 48 | 1,
                0x7fff << 48 | fraction,
            ]),
            2 => self.next() & fraction,
            3 => (self.below(200) as f64).to_bits(),
            4 => (self.next() as i64 as f64).abs().to_bits(),
            5 => (self.below(1 << 33) as f64 / 2.0).to_bits(),
            6 => (self.below(64) as f64 + 0.5).to_bits(),
            7 => f64::from(f32::from_bits(self.single())).abs().to_bits(),
            8 | 9 => (0x3fe0 << 48) + (self.next() & (1 << 53) - 1),
            _ => self.next() >> 1,
        };
        sign | magnitude
    }

    /// An 80-bit number, or an encoding that stands for none.
    pub(crate) fn extended(&mut self) -> (u64, u16) {
        let sign = (self.next() as u16) & 0x8000;
        let integer = 1 << 63;
        let (significand, exponent) = match self.below(14) {
            0 => (0, 0),
            1 => (integer, 0x3fff),
            2 => self.pick(&[
                (integer, 0x7fff),
                (3 << 62, 0x7fff),
                (integer | 1, 0x7fff),
                (u64::MAX, 0x7fff),
            ]),
            // Denormals and pseudo-denormals, the largest, the smallest.
            3 => (self.next(), 0),
            4 => self.pick(&[
                (1, 0),
                (integer, 0),
                (integer, 1),
                (u64::MAX, 0x7ffe),
                (!integer, 0),
            ]),
            // Unnormals and pseudo-infinities: #IA.
            5 => (self.next() & !integer, self.pick(&[0x3fff, 0x7fff, 1])),
            6 => {
                let n = self.below(1000) + 1;
                (
                    n << n.leading_zeros(),
                    0x3fff + 63 - n.leading_zeros() as u16,
                )
            }
            7 => (integer | self.next(), 0x3fff + self.below(64) as u16),
            // As of a single or double.
            8 => (
                integer | self.next() & !0xff_ffff_ffff,
                0x3fff - 20 + self.below(40) as u16,
            ),
            9 => (
                integer | self.next() & !0x7ff,
                0x3fff - 20 + self.below(40) as u16,
            ),
            10 | 11 => (integer | self.next(), 0x3fff - 4 + self.below(8) as u16),
            _ => (integer | self.next(), self.next() as u16 & 0x7fff),
        };
        (significand, sign | exponent)
    }

    /// 16 bytes: four singles, two doubles, or integers.
    pub(crate) fn vector(&mut self) -> u128 {
        match self.below(5) {
            0 | 1 => (0..4).fold(0, |all, _| all << 32 | u128::from(self.single())),
            2 | 3 => (0..2).fold(0, |all, _| all << 64 | u128::from(self.double())),
            _ => u128::from(self.integer()) << 64 | u128::from(self.integer()),
        }
    }
}
