//! x87 against the processor, exceptions masked and unmasked.

use hvf_sys::hostfp::x87::{Op, Outcome, run};
use xlaunch::cpu::float::x87::{self, Constant, F80, M32, M64};
use xlaunch::cpu::float::{Env, Flags, Relation};

use super::{Random, Tally, settle};

/// What the reference says that an instruction leaves behind.
pub(crate) struct Expected {
    /// The registers from ST(0) on that are compared.
    pub(crate) st: Vec<F80>,
    pub(crate) memory: [u8; 10],
    pub(crate) flags: Flags,
}

/// One case: the operands of an instruction.
pub(crate) struct Case {
    pub(crate) a: F80,
    pub(crate) b: F80,
    pub(crate) memory: [u8; 10],
    pub(crate) env: Env,
}

impl Case {
    fn m32(&self) -> u32 {
        u32::from_le_bytes(self.memory[..4].try_into().unwrap())
    }

    fn m64(&self) -> u64 {
        u64::from_le_bytes(self.memory[..8].try_into().unwrap())
    }

    /// The instruction computed `value` into ST(0).
    fn replaces(&self, (value, flags): (F80, Flags)) -> Expected {
        let st0 = if self.env.commits(flags) {
            value
        } else {
            self.a
        };
        self.leaves(vec![st0, self.b], flags)
    }

    /// The instruction pushed `value`.
    fn pushes(&self, (value, flags): (F80, Flags)) -> Expected {
        let st = if self.env.commits(flags) {
            vec![value, self.a, self.b]
        } else {
            vec![self.a, self.b]
        };
        self.leaves(st, flags)
    }

    /// The instruction loaded and pushed `value`.
    fn loads(&self, (value, flags): (F80, Flags)) -> Expected {
        let st = if self.env.loads(flags) {
            vec![value, self.a, self.b]
        } else {
            vec![self.a, self.b]
        };
        self.leaves(st, flags)
    }

    /// The instruction stored `bytes`, and popped or not.
    fn stores(&self, bytes: &[u8], flags: Flags, pops: bool) -> Expected {
        let mut expected = self.leaves(vec![self.a, self.b], flags);
        if self.env.stores(flags) {
            expected.memory[..bytes.len()].copy_from_slice(bytes);
            if pops {
                expected.st.remove(0);
            }
        }
        expected
    }

    fn leaves(&self, st: Vec<F80>, flags: Flags) -> Expected {
        Expected {
            st,
            memory: self.memory,
            flags,
        }
    }

    fn compares(&self, (relation, flags): (Relation, Flags)) -> Expected {
        self.leaves(vec![self.a, self.b], relation.conditions() | flags)
    }
}

/// A random control word: any rounding and precision; the exceptions all masked, or none, or at random.
fn control(random: &mut Random) -> u16 {
    let masks = match random.below(4) {
        0 => random.word() as u16 & 0x3f,
        1 => 0,
        _ => 0x3f,
    };
    let precision = [0, 0x200, 0x300, 0x300][random.below(4) as usize];
    masks | precision | (random.word() as u16 & 0xc00)
}

const FLAGS: u16 = Flags::EXCEPTIONS.bits() | Flags::CONDITIONS.bits();

fn agrees(host: &Outcome, soft: &Expected, conditions: Flags) -> bool {
    let mask = Flags::EXCEPTIONS | conditions;
    let st = soft
        .st
        .iter()
        .zip(&host.st)
        .all(|(soft, host)| soft.to_bytes() == *host);
    st && host.memory == soft.memory && host.status & mask.bits() == soft.flags.bits() & mask.bits()
}

type Source = fn(&mut Random) -> (F80, F80, [u8; 10]);
type Soft = fn(&Case) -> Expected;

/// One instruction, repeated; `conditions` are the condition codes that it defines.
fn check(op: Op, cases: u32, conditions: Flags, source: Source, soft: Soft) -> Tally {
    let mut random = Random::new(op as u64 + 1);
    let mut tally = Tally::new(&format!("{op:?}"));
    for _ in 0..cases {
        let (a, b, memory) = source(&mut random);
        let control = control(&mut random);
        let host = run(op, control, a.to_bytes(), b.to_bytes(), memory);
        let env = Env::from_control_word(control);
        let soft = soft(&Case { a, b, memory, env });
        tally.expect(agrees(&host, &soft, conditions), || {
            let st: Vec<_> = host.st.map(show).into();
            let soft_st: Vec<_> = soft.st.iter().map(|st| show(st.to_bytes())).collect();
            format!(
                "{} {} {:x?} control {control:#x}\n  host {st:?} {:x?} {:#06x}\n  soft {soft_st:?} {:x?} {:#06x}",
                show(a.to_bytes()), show(b.to_bytes()), memory, host.memory, host.status & FLAGS, soft.memory, soft.flags.bits(),
            )
        });
    }
    tally
}

fn show(bytes: [u8; 10]) -> String {
    let value = F80::from_bytes(bytes);
    format!("{:04x}:{:016x}", value.sign_exponent, value.mantissa)
}

fn near_one() -> F80 {
    F80::ONE
}

fn pairs(random: &mut Random) -> (F80, F80, [u8; 10]) {
    let a = random.f80(near_one());
    let b = random.f80(a);
    (a, b, [0; 10])
}

fn with_exponent(exponent: u64) -> F80 {
    F80 {
        mantissa: 0,
        sign_exponent: exponent as u16,
    }
}

/// ST(0) near the ends of a float's range; a random float in memory.
fn floats32(random: &mut Random) -> (F80, F80, [u8; 10]) {
    let exponent = match random.below(3) {
        0 => 0x3fff - 126 - random.below(28),
        1 => 0x3fff + 127,
        _ => 0x3fff,
    };
    let a = random.f80(with_exponent(exponent));
    let mut memory = [0; 10];
    memory[..4].copy_from_slice(&random.f32(0x3f80_0000).to_le_bytes());
    (a, F80::ONE, memory)
}

fn floats64(random: &mut Random) -> (F80, F80, [u8; 10]) {
    let exponent = match random.below(3) {
        0 => 0x3fff - 1022 - random.below(56),
        1 => 0x3fff + 1023,
        _ => 0x3fff,
    };
    let a = random.f80(with_exponent(exponent));
    let mut memory = [0; 10];
    memory[..8].copy_from_slice(&random.f64(0x3ff0 << 48).to_le_bytes());
    (a, F80::ONE, memory)
}

/// ST(0) within the range of 64-bit integers; a random integer in memory.
fn integers(random: &mut Random) -> (F80, F80, [u8; 10]) {
    let exponent = 0x3ffe + random.below(68);
    let a = if random.below(3) == 0 {
        let n = x87::from_integer(random.integer());
        x87::multiply(n, M32(0.5_f32.to_bits()), &Env::default()).0
    } else {
        random.f80(with_exponent(exponent))
    };
    let mut memory = [0; 10];
    memory[..8].copy_from_slice(&random.integer().to_le_bytes());
    (a, F80::ONE, memory)
}

/// Eighteen decimal digits in memory.
fn decimals(random: &mut Random) -> (F80, F80, [u8; 10]) {
    let (a, b, _) = integers(random);
    let mut memory = [0; 10];
    for byte in &mut memory[..9] {
        *byte = (random.below(10) << 4 | random.below(10)) as u8;
    }
    memory[9] = random.word() as u8;
    (a, b, memory)
}

/// A scale factor of any size in ST(1).
fn scales(random: &mut Random) -> (F80, F80, [u8; 10]) {
    let (a, mut b, memory) = pairs(random);
    if random.below(2) == 0 {
        b = x87::from_integer(random.integer() >> 40);
    } else if random.below(2) == 0 {
        let exponent = 0x3ffe + random.below(20);
        b = random.f80(with_exponent(exponent));
    }
    (a, b, memory)
}

#[test]
fn arithmetic_is_the_processors() {
    let c1 = Flags::C1;
    let tallies = [
        check(Op::Add, 150_000, c1, pairs, |c| {
            c.replaces(x87::add(c.a, c.b, &c.env))
        }),
        check(Op::Sub, 100_000, c1, pairs, |c| {
            c.replaces(x87::subtract(c.a, c.b, &c.env))
        }),
        check(Op::SubR, 50_000, c1, pairs, |c| {
            c.replaces(x87::subtract(c.b, c.a, &c.env))
        }),
        check(Op::Mul, 150_000, c1, pairs, |c| {
            c.replaces(x87::multiply(c.a, c.b, &c.env))
        }),
        check(Op::Div, 150_000, c1, pairs, |c| {
            c.replaces(x87::divide(c.a, c.b, &c.env))
        }),
        check(Op::DivR, 50_000, c1, pairs, |c| {
            c.replaces(x87::divide(c.b, c.a, &c.env))
        }),
        check(Op::Sqrt, 100_000, c1, pairs, |c| {
            c.replaces(x87::square_root(c.a, &c.env))
        }),
        check(Op::RndInt, 50_000, c1, integers, |c| {
            c.replaces(x87::round_to_integral(c.a, &c.env))
        }),
        check(Op::Scale, 150_000, c1, scales, |c| {
            c.replaces(x87::scale(c.a, c.b, &c.env))
        }),
        check(Op::Xtract, 50_000, Flags::empty(), pairs, |c| {
            let ((exponent, significand), flags) = x87::extract(c.a, &c.env);
            if c.env.commits(flags) {
                c.leaves(vec![significand, exponent, c.b], flags)
            } else {
                c.leaves(vec![c.a, c.b], flags)
            }
        }),
        check(Op::Abs, 20_000, Flags::empty(), pairs, |c| {
            c.replaces((c.a.abs(), Flags::empty()))
        }),
        check(Op::Chs, 20_000, Flags::empty(), pairs, |c| {
            c.replaces((c.a.negated(), Flags::empty()))
        }),
    ];
    settle(&tallies, 1_000_000);
}

#[test]
fn remainders_are_the_processors() {
    let all = Flags::CONDITIONS;
    let tallies = [
        check(Op::Prem, 100_000, all, pairs, |c| {
            c.replaces(x87::remainder(c.a, c.b, &c.env))
        }),
        check(Op::Prem1, 100_000, all, pairs, |c| {
            c.replaces(x87::ieee_remainder(c.a, c.b, &c.env))
        }),
    ];
    settle(&tallies, 200_000);
}

#[test]
fn comparisons_are_the_processors() {
    let all = Flags::CONDITIONS;
    let tallies = [
        check(Op::Com, 50_000, all, pairs, |c| {
            c.compares(x87::compare(c.a, c.b))
        }),
        check(Op::Ucom, 50_000, all, pairs, |c| {
            c.compares(x87::compare_quiet(c.a, c.b))
        }),
        check(Op::Tst, 50_000, all, pairs, |c| c.compares(x87::test(c.a))),
        check(Op::Xam, 50_000, all, pairs, |c| {
            c.leaves(vec![c.a, c.b], x87::examine(c.a))
        }),
        check(Op::ComM32, 50_000, all, floats32, |c| {
            c.compares(x87::compare(c.a, M32(c.m32())))
        }),
        check(Op::ComM64, 50_000, all, floats64, |c| {
            c.compares(x87::compare(c.a, M64(c.m64())))
        }),
    ];
    settle(&tallies, 300_000);
}

#[test]
fn memory_operands_are_the_processors() {
    let c1 = Flags::C1;
    let tallies = [
        check(Op::AddM32, 50_000, c1, floats32, |c| {
            c.replaces(x87::add(c.a, M32(c.m32()), &c.env))
        }),
        check(Op::AddM64, 50_000, c1, floats64, |c| {
            c.replaces(x87::add(c.a, M64(c.m64()), &c.env))
        }),
        check(Op::SubM32, 50_000, c1, floats32, |c| {
            c.replaces(x87::subtract(c.a, M32(c.m32()), &c.env))
        }),
        check(Op::MulM64, 50_000, c1, floats64, |c| {
            c.replaces(x87::multiply(c.a, M64(c.m64()), &c.env))
        }),
        check(Op::DivM32, 50_000, c1, floats32, |c| {
            c.replaces(x87::divide(c.a, M32(c.m32()), &c.env))
        }),
        check(Op::DivM64, 50_000, c1, floats64, |c| {
            c.replaces(x87::divide(c.a, M64(c.m64()), &c.env))
        }),
        check(Op::DivRM64, 50_000, c1, floats64, |c| {
            c.replaces(x87::divide(M64(c.m64()), c.a, &c.env))
        }),
        check(Op::IAddM16, 50_000, c1, integers, |c| {
            c.replaces(x87::add(
                c.a,
                x87::from_integer((c.m64() as i16).into()),
                &c.env,
            ))
        }),
        check(Op::IAddM32, 50_000, c1, integers, |c| {
            c.replaces(x87::add(
                c.a,
                x87::from_integer((c.m64() as i32).into()),
                &c.env,
            ))
        }),
        check(Op::IDivM32, 50_000, c1, integers, |c| {
            c.replaces(x87::divide(
                c.a,
                x87::from_integer((c.m64() as i32).into()),
                &c.env,
            ))
        }),
    ];
    settle(&tallies, 500_000);
}

#[test]
fn loads_and_stores_are_the_processors() {
    let (c1, none) = (Flags::C1, Flags::empty());
    let tallies = [
        check(Op::LdM32, 50_000, none, floats32, |c| {
            c.loads(x87::from_f32(c.m32()))
        }),
        check(Op::LdM64, 50_000, none, floats64, |c| {
            c.loads(x87::from_f64(c.m64()))
        }),
        check(Op::StM32, 100_000, c1, floats32, |c| {
            let (bits, flags) = x87::to_f32(c.a, &c.env);
            c.stores(&bits.to_le_bytes(), flags, false)
        }),
        check(Op::StM64, 100_000, c1, floats64, |c| {
            let (bits, flags) = x87::to_f64(c.a, &c.env);
            c.stores(&bits.to_le_bytes(), flags, false)
        }),
        check(Op::IldM16, 20_000, none, integers, |c| {
            c.pushes((x87::from_integer((c.m64() as i16).into()), none_raised()))
        }),
        check(Op::IldM32, 20_000, none, integers, |c| {
            c.pushes((x87::from_integer((c.m64() as i32).into()), none_raised()))
        }),
        check(Op::IldM64, 20_000, none, integers, |c| {
            c.pushes((x87::from_integer(c.m64() as i64), none_raised()))
        }),
        check(Op::IstM16, 50_000, c1, integers, |c| {
            let (n, flags) = x87::to_i16(c.a, &c.env);
            c.stores(&n.to_le_bytes(), flags, false)
        }),
        check(Op::IstM32, 50_000, c1, integers, |c| {
            let (n, flags) = x87::to_i32(c.a, &c.env);
            c.stores(&n.to_le_bytes(), flags, false)
        }),
        check(Op::IstpM64, 50_000, c1, integers, |c| {
            let (n, flags) = x87::to_i64(c.a, &c.env);
            c.stores(&n.to_le_bytes(), flags, true)
        }),
        check(Op::IsttpM16, 50_000, c1, integers, |c| {
            let (n, flags) = x87::truncate_to_i16(c.a);
            c.stores(&n.to_le_bytes(), flags, true)
        }),
        check(Op::IsttpM32, 50_000, c1, integers, |c| {
            let (n, flags) = x87::truncate_to_i32(c.a);
            c.stores(&n.to_le_bytes(), flags, true)
        }),
        check(Op::IsttpM64, 50_000, c1, integers, |c| {
            let (n, flags) = x87::truncate_to_i64(c.a);
            c.stores(&n.to_le_bytes(), flags, true)
        }),
        check(Op::Bld, 20_000, none, decimals, |c| {
            c.pushes((x87::from_bcd(c.memory), none_raised()))
        }),
        check(Op::Bstp, 50_000, c1, decimals, |c| {
            let (bytes, flags) = x87::to_bcd(c.a, &c.env);
            c.stores(&bytes, flags, true)
        }),
    ];
    settle(&tallies, 600_000);
}

fn none_raised() -> Flags {
    Flags::empty()
}

#[test]
fn constants_are_the_processors() {
    macro_rules! constants {
        ($($op:ident $constant:ident)*) => {
            [$(check(Op::$op, 1_000, Flags::empty(), pairs, |c| {
                c.pushes((Constant::$constant.load(&c.env), Flags::empty()))
            })),*]
        };
    }
    let tallies = constants! {
        Ld1 One LdL2t Log2Of10 LdL2e Log2OfE LdPi Pi LdLg2 Log10Of2 LdLn2 LnOf2 LdZ Zero
    };
    settle(&tallies, 7_000);
}
