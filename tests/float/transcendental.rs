//! The x87's transcendental functions: within one unit in the last place of the processor, with its flags.
//!
//! C1 is not compared: whether a result was rounded up depends on the places that nobody promises.

use hvf_sys::hostfp::x87::{Op, run};
use xlaunch::cpu::float::x87::{self, F80, M32};
use xlaunch::cpu::float::{Env, Flags};

use super::{Random, Tally, settle};

type Source = fn(&mut Random) -> (F80, F80);
/// The registers from ST(0) on that the operation leaves, and what it raised.
type Soft = fn(F80, F80, &Env) -> (Vec<F80>, Flags);

/// The distance of two values in units in the last place; `None` if they are not comparable.
fn distance(a: F80, b: F80) -> Option<u64> {
    if a == b {
        return Some(0);
    }
    let rank = |x: F80| {
        let exponent = x.sign_exponent & 0x7fff;
        // A denormal has the smallest normal number's unit.
        let fraction = u128::from(x.mantissa << 1 >> 1);
        let rank = (u128::from(exponent) << 63 | fraction) as i128;
        if x.is_negative() { -rank } else { rank }
    };
    let special = |x: F80| x.sign_exponent & 0x7fff == 0x7fff;
    let signs_differ = a.is_negative() != b.is_negative();
    if special(a) || special(b) || signs_differ {
        return None;
    }
    u64::try_from((rank(a) - rank(b)).unsigned_abs()).ok()
}

/// Within one unit of the smallest normal or the largest finite number, where that unit decides about UE or OE.
fn is_at_an_end(x: F80) -> bool {
    let smallest = F80 {
        mantissa: 1 << 63,
        sign_exponent: 1,
    };
    let largest = F80 {
        mantissa: u64::MAX,
        sign_exponent: 0x7ffe,
    };
    [smallest, largest]
        .iter()
        .any(|end| distance(*end, x.abs()).is_some_and(|far| far <= 1))
}

fn control(random: &mut Random) -> u16 {
    let masks = match random.below(4) {
        0 => random.word() as u16 & 0x3f,
        _ => 0x3f,
    };
    masks | [0, 0x200, 0x300][random.below(3) as usize] | (random.word() as u16 & 0xc00)
}

fn show(value: F80) -> String {
    format!("{:04x}:{:016x}", value.sign_exponent, value.mantissa)
}

/// One instruction, repeated. Prints how far the worst result was off, and how many were off at all.
fn check(op: Op, cases: u32, source: Source, soft: Soft) -> Tally {
    let mut random = Random::new(op as u64 + 1);
    let mut tally = Tally::new(&format!("{op:?}"));
    let (mut worst, mut off) = (0, 0_u32);
    for _ in 0..cases {
        let (a, b) = source(&mut random);
        let control = control(&mut random);
        let host = run(op, control, a.to_bytes(), b.to_bytes(), [0; 10]);
        let (st, flags) = soft(a, b, &Env::from_control_word(control));
        let far = st
            .iter()
            .zip(host.st)
            .map(|(soft, host)| distance(*soft, F80::from_bytes(host)).unwrap_or(u64::MAX))
            .max()
            .unwrap_or(0);
        let mut mask = (Flags::EXCEPTIONS | Flags::C2).bits();
        if st.iter().any(|st| is_at_an_end(*st)) {
            mask &= !(Flags::UE | Flags::OE).bits();
        }
        let same = far <= 1 && host.status & mask == flags.bits() & mask;
        off += u32::from(far != 0);
        worst = worst.max(far);
        tally.expect(same, || {
            let host_st = host.st.map(|st| show(F80::from_bytes(st)));
            let soft_st: Vec<_> = st.iter().map(|st| show(*st)).collect();
            format!(
                "{} {} control {control:#x}\n  host {host_st:?} {:#06x}\n  soft {soft_st:?} {:#06x}",
                show(a),
                show(b),
                host.status & mask,
                flags.bits() & mask
            )
        });
    }
    println!("{op:?}: {off} of {cases} off, the worst by {worst}");
    tally
}

/// A number with an exponent of `least` to `least + span`, or anything.
fn ranged(random: &mut Random, least: u64, span: u64) -> F80 {
    if random.below(4) == 0 {
        return random.f80(F80::ONE);
    }
    F80 {
        mantissa: 1 << 63 | random.word(),
        sign_exponent: (random.below(2) << 15 | (0x3fff + random.below(span) + least - 0x1000))
            as u16,
    }
}

/// Exponents from `-below` to `above`, biased for `ranged`.
fn spread(random: &mut Random, below: u64, above: u64) -> F80 {
    ranged(random, 0x1000 - below, below + above + 1)
}

fn angles(random: &mut Random) -> (F80, F80) {
    if random.below(4) != 0 {
        return (spread(random, 40, 64), F80::ONE);
    }
    // Near a multiple of half pi.
    let half_pi = F80 {
        mantissa: 0xc90f_daa2_2168_c235,
        sign_exponent: 0x3fff,
    };
    let multiple = x87::from_integer(random.integer() >> random.below(64));
    let (mut angle, _) = x87::multiply(half_pi, multiple, &Env::default());
    if random.below(2) == 0 {
        angle.mantissa ^= random.below(4);
    }
    (angle, F80::ONE)
}

fn up_to_one(random: &mut Random) -> (F80, F80) {
    loop {
        let a = spread(random, 70, 0);
        let magnitude = a.sign_exponent & 0x7fff;
        let one = magnitude == 0x3fff && a.mantissa == 1 << 63;
        if magnitude < 0x3fff || one || magnitude == 0x7fff {
            return (a, F80::ONE);
        }
    }
}

fn logarithms(random: &mut Random) -> (F80, F80) {
    let mut a = match random.below(4) {
        // Near 1.
        0 => F80 {
            mantissa: 1 << 63 | (random.word() >> 1 >> random.below(63)),
            sign_exponent: 0x3fff,
        },
        1 => F80 {
            mantissa: !(random.word() >> 1 >> random.below(63)),
            sign_exponent: 0x3ffe,
        },
        _ => spread(random, 100, 100),
    };
    if random.below(8) != 0 {
        a = a.abs();
    }
    (a, spread(random, 40, 40))
}

/// ST(0) between the roots of 1/2 and 2, less 1.
fn near_zero(random: &mut Random) -> (F80, F80) {
    loop {
        let a = spread(random, 80, 0);
        let (inside, _) = x87::compare(a.abs(), M32(0.292_f32.to_bits()));
        if a.sign_exponent & 0x7fff == 0x7fff || inside != xlaunch::cpu::float::Relation::Greater {
            return (a, spread(random, 40, 40));
        }
    }
}

fn points(random: &mut Random) -> (F80, F80) {
    let a = spread(random, 40, 40);
    let b = if random.below(2) == 0 {
        random.f80(a)
    } else {
        spread(random, 40, 40)
    };
    (a, b)
}

fn replaces(a: F80, b: F80, env: &Env, (value, flags): (F80, Flags)) -> (Vec<F80>, Flags) {
    let st0 = if env.commits(flags) { value } else { a };
    (vec![st0, b], flags)
}

fn replaces_both(a: F80, b: F80, env: &Env, (value, flags): (F80, Flags)) -> (Vec<F80>, Flags) {
    if env.commits(flags) {
        (vec![value], flags)
    } else {
        (vec![a, b], flags)
    }
}

fn pushes(
    a: F80,
    b: F80,
    env: &Env,
    ((value, pushed), flags): ((F80, F80), Flags),
) -> (Vec<F80>, Flags) {
    if env.commits(flags) && !flags.contains(Flags::C2) {
        (vec![pushed, value, b], flags)
    } else {
        (vec![a, b], flags)
    }
}

#[test]
fn transcendental_functions_are_within_one_unit_of_the_processors() {
    let tallies = [
        check(Op::F2xm1, 40_000, up_to_one, |a, b, env| {
            replaces(a, b, env, x87::exponential(a, env))
        }),
        check(Op::Yl2x, 60_000, logarithms, |a, b, env| {
            replaces_both(a, b, env, x87::logarithm(a, b, env))
        }),
        check(Op::Yl2xp1, 40_000, near_zero, |a, b, env| {
            replaces_both(a, b, env, x87::logarithm_plus_one(a, b, env))
        }),
        check(Op::Patan, 60_000, points, |a, b, env| {
            replaces_both(a, b, env, x87::arctangent(a, b, env))
        }),
        check(Op::Sin, 40_000, angles, |a, b, env| {
            replaces(a, b, env, x87::sine(a, env))
        }),
        check(Op::Cos, 40_000, angles, |a, b, env| {
            replaces(a, b, env, x87::cosine(a, env))
        }),
        check(Op::SinCos, 40_000, angles, |a, b, env| {
            pushes(a, b, env, x87::sine_cosine(a, env))
        }),
        check(Op::Ptan, 40_000, angles, |a, b, env| {
            pushes(a, b, env, x87::tangent(a, env))
        }),
    ];
    settle(&tallies, 300_000);
}
