//! SSE to SSE4.1 against the processor.

use hvf_sys::hostfp::{self, Sse41, direct};
use xlaunch::cpu::float::sse::{self, F32, F64, Format, Predicate, RoundControl, packed};
use xlaunch::cpu::float::{Env, Flags};

use super::{Random, Tally, settle};

/// All exceptions masked.
const MASKED: u32 = 0x1f80;

/// A random MXCSR: any rounding, DAZ and FTZ.
fn mxcsr(random: &mut Random) -> u32 {
    MASKED | random.word() as u32 & 0xe040
}

fn lanes32(random: &mut Random) -> (u128, u128) {
    (0..4).fold((0, 0), |(a, b), n| {
        let x = random.f32(0x3f80_0000);
        let y = random.f32(x);
        (
            packed::with_lane::<F32>(a, n, x.into()),
            packed::with_lane::<F32>(b, n, y.into()),
        )
    })
}

fn lanes64(random: &mut Random) -> (u128, u128) {
    (0..2).fold((0, 0), |(a, b), n| {
        let x = random.f64(0x3ff0 << 48);
        let y = random.f64(x);
        (
            packed::with_lane::<F64>(a, n, x),
            packed::with_lane::<F64>(b, n, y),
        )
    })
}

type Soft = fn(u128, u128, &Env) -> (u128, Flags);
type Host = fn(u128, u128, u32) -> (u128, u32);
type Source = fn(&mut Random) -> (u128, u128);

/// One operation, repeated.
fn check(
    name: &str,
    cases: u32,
    source: Source,
    host: impl Fn(u128, u128, u32) -> (u128, u32),
    soft: impl Fn(u128, u128, &Env) -> (u128, Flags),
) -> Tally {
    let seed = name
        .bytes()
        .fold(1_u64, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
    let mut random = Random::new(seed);
    let mut tally = Tally::new(name);
    for _ in 0..cases {
        let (a, b) = source(&mut random);
        let mxcsr = mxcsr(&mut random);
        let (want, want_flags) = host(a, b, mxcsr);
        let (have, have_flags) = soft(a, b, &Env::from_mxcsr(mxcsr));
        tally.expect(want == have && want_flags == u32::from(have_flags.bits()), || {
            format!("{a:#034x} {b:#034x} mxcsr {mxcsr:#x}: host {want:#034x} {want_flags:#x}, soft {have:#034x} {have_flags:?}")
        });
    }
    tally
}

/// A scalar operation in the low lane of a register.
fn scalar<F: Format>(a: u128, (bits, flags): (u64, Flags)) -> (u128, Flags) {
    (packed::with_lane::<F>(a, 0, bits), flags)
}

macro_rules! four {
    ($operation:ident, $ss:ident $sd:ident $ps:ident $pd:ident) => {{
        let scalar32: Soft = |a, b, env| {
            let low = |x| packed::lane::<F32>(x, 0);
            scalar::<F32>(a, sse::$operation::<F32>(low(a), low(b), env))
        };
        let scalar64: Soft = |a, b, env| {
            let low = |x| packed::lane::<F64>(x, 0);
            scalar::<F64>(a, sse::$operation::<F64>(low(a), low(b), env))
        };
        let packed32: Soft = |a, b, env| packed::lanes::<F32>(a, b, env, sse::$operation::<F32>);
        let packed64: Soft = |a, b, env| packed::lanes::<F64>(a, b, env, sse::$operation::<F64>);
        [
            (
                stringify!($ss),
                lanes32 as Source,
                hostfp::$ss as Host,
                scalar32,
            ),
            (
                stringify!($sd),
                lanes64 as Source,
                hostfp::$sd as Host,
                scalar64,
            ),
            (
                stringify!($ps),
                lanes32 as Source,
                hostfp::$ps as Host,
                packed32,
            ),
            (
                stringify!($pd),
                lanes64 as Source,
                hostfp::$pd as Host,
                packed64,
            ),
        ]
    }};
}

#[test]
fn arithmetic_is_the_processors() {
    let rows = [
        four!(add, addss addsd addps addpd),
        four!(subtract, subss subsd subps subpd),
        four!(multiply, mulss mulsd mulps mulpd),
        four!(divide, divss divsd divps divpd),
        four!(minimum, minss minsd minps minpd),
        four!(maximum, maxss maxsd maxps maxpd),
    ];
    let tallies: Vec<_> = rows
        .iter()
        .flatten()
        .map(|(name, source, host, soft)| check(name, 40_000, *source, host, soft))
        .collect();
    settle(&tallies, 900_000);
}

/// Runs a host operation that does not touch MXCSR's controls, from clear flags.
fn fresh<T>(operation: impl Fn(u128, u128) -> T) -> impl Fn(u128, u128, u32) -> T {
    move |a, b, _| {
        direct::clear();
        operation(a, b)
    }
}

#[test]
fn direct_operations_are_those_of_the_default_mxcsr() {
    let default = MASKED;
    let mut tallies = Vec::new();
    macro_rules! same {
        ($source:ident: $($name:ident)*) => {$(
            tallies.push(check(
                stringify!($name),
                5_000,
                $source,
                fresh(direct::$name),
                |a, b, _| flagged(hostfp::$name(a, b, default)),
            ));
        )*};
    }
    same!(lanes32: addss addps subps mulps divps minps maxps sqrtps cvtss2sd cvtps2pd cvtdq2ps cvtps2dq cvttps2dq);
    same!(lanes64: addsd addpd subpd mulpd divpd minpd maxpd sqrtpd cvtsd2ss cvtpd2ps cvtpd2dq cvttpd2dq);
    for predicate in 0..8 {
        tallies.push(check(
            "cmppd",
            2_000,
            lanes64,
            fresh(|a, b| direct::cmppd(a, b, predicate)),
            |a, b, _| flagged(hostfp::cmppd(a, b, predicate, default)),
        ));
    }
    tallies.push(check(
        "ucomisd",
        5_000,
        lanes64,
        fresh(|a, b| {
            let (rflags, raised) = direct::ucomisd(a, b);
            (rflags.into(), raised)
        }),
        |a, b, _| {
            let (rflags, raised) = hostfp::ucomisd(a, b, default);
            flagged((rflags.into(), raised))
        },
    ));
    tallies.push(check(
        "cvttsd2si and cvtsi2sd",
        5_000,
        near_integers,
        fresh(|a, b| {
            let (n, _) = direct::cvttsd2si_64(b);
            direct::cvtsi2sd_64(a, n)
        }),
        |a, b, _| {
            let (n, first) = hostfp::cvttsd2si_64(b, default);
            let (x, second) = hostfp::cvtsi2sd_64(a, n, default);
            flagged((x, first | second))
        },
    ));
    if let Some(proof) = Sse41::detect() {
        tallies.push(check(
            "roundps",
            5_000,
            lanes32,
            fresh(|a, b| direct::roundps(proof, a, b, 1)),
            |a, b, _| flagged(proof.roundps(a, b, 1, default)),
        ));
    }
    settle(&tallies, 140_000);
}

fn flagged((bits, flags): (u128, u32)) -> (u128, Flags) {
    (bits, Flags::from_bits_truncate(flags as u16))
}

#[test]
fn square_roots_are_the_processors() {
    let root32: Soft =
        |_, b, env| packed::lanes::<F32>(b, b, env, |x, _, env| sse::square_root::<F32>(x, env));
    let root64: Soft =
        |_, b, env| packed::lanes::<F64>(b, b, env, |x, _, env| sse::square_root::<F64>(x, env));
    let tallies = [
        check("sqrtps", 60_000, lanes32, hostfp::sqrtps, root32),
        check("sqrtpd", 60_000, lanes64, hostfp::sqrtpd, root64),
    ];
    settle(&tallies, 100_000);
}

#[test]
fn comparisons_are_the_processors() {
    let mut tallies = Vec::new();
    for immediate in 0..8 {
        let predicate = Predicate::from_bits(immediate);
        tallies.push(check(
            &format!("cmpps {immediate}"),
            10_000,
            lanes32,
            |a, b, mxcsr| hostfp::cmpps(a, b, immediate, mxcsr),
            |a, b, env| {
                packed::lanes::<F32>(a, b, env, |x, y, env| {
                    sse::compare::<F32>(x, y, predicate, env)
                })
            },
        ));
        tallies.push(check(
            &format!("cmppd {immediate}"),
            10_000,
            lanes64,
            |a, b, mxcsr| hostfp::cmppd(a, b, immediate, mxcsr),
            |a, b, env| {
                packed::lanes::<F64>(a, b, env, |x, y, env| {
                    sse::compare::<F64>(x, y, predicate, env)
                })
            },
        ));
    }
    macro_rules! flags {
        ($name:ident $compare:ident $format:ident $source:ident) => {
            tallies.push(check(
                stringify!($name),
                40_000,
                $source,
                |a, b, mxcsr| {
                    let (rflags, raised) = hostfp::$name(a, b, mxcsr);
                    (rflags.into(), raised)
                },
                |a, b, env| {
                    let low = |x| packed::lane::<$format>(x, 0);
                    let (relation, raised) = sse::$compare::<$format>(low(a), low(b), env);
                    (relation.rflags().into(), raised)
                },
            ));
        };
    }
    flags!(comiss compare_signaling F32 lanes32);
    flags!(comisd compare_signaling F64 lanes64);
    flags!(ucomiss compare_quiet F32 lanes32);
    flags!(ucomisd compare_quiet F64 lanes64);
    settle(&tallies, 300_000);
}

/// Operands of which many are near the ends of the integers' ranges or within 64 bits.
fn near_integers(random: &mut Random) -> (u128, u128) {
    let exponent = 1023 + random.below(68) - 2;
    let near = random.f64(exponent << 52);
    let n = random.integer();
    let b = match random.below(4) {
        0 => (n as f64).to_bits(),
        1 => (n as f64 / 2.0).to_bits(),
        2 => (n as i32 as f64 + 0.5).to_bits(),
        _ => near,
    };
    (random.vector(), b.into())
}

fn near_integers32(random: &mut Random) -> (u128, u128) {
    let (a, b) = near_integers(random);
    let narrow = f64::from_bits(b as u64) as f32;
    let b = if random.below(3) == 0 {
        let exponent = 127 + random.below(68) as u32;
        random.f32(exponent << 23)
    } else {
        narrow.to_bits()
    };
    (a, b.into())
}

#[test]
fn conversions_to_integers_are_the_processors() {
    let mut tallies = Vec::new();
    macro_rules! to {
        ($name:ident $convert:ident $format:ident $source:ident) => {
            tallies.push(check(
                stringify!($name),
                50_000,
                $source,
                |_, b, mxcsr| {
                    let (n, raised) = hostfp::$name(b, mxcsr);
                    (n as u64 as u128, raised)
                },
                |_, b, env| {
                    let (n, raised) = sse::$convert::<$format>(packed::lane::<$format>(b, 0), env);
                    (n as u64 as u128, raised)
                },
            ));
        };
    }
    to!(cvtss2si_32 to_i32 F32 near_integers32);
    to!(cvtss2si_64 to_i64 F32 near_integers32);
    to!(cvtsd2si_32 to_i32 F64 near_integers);
    to!(cvtsd2si_64 to_i64 F64 near_integers);
    to!(cvttss2si_32 truncate_to_i32 F32 near_integers32);
    to!(cvttss2si_64 truncate_to_i64 F32 near_integers32);
    to!(cvttsd2si_32 truncate_to_i32 F64 near_integers);
    to!(cvttsd2si_64 truncate_to_i64 F64 near_integers);
    settle(&tallies, 400_000);
}

#[test]
fn conversions_from_integers_are_the_processors() {
    let mut random = Random::new(7);
    let mut tally = Tally::new("cvtsi2ss, cvtsi2sd");
    for _ in 0..100_000 {
        let (n, mxcsr) = (random.integer(), mxcsr(&mut random));
        let env = Env::from_mxcsr(mxcsr);
        let host = [
            hostfp::cvtsi2ss_64(0, n, mxcsr),
            hostfp::cvtsi2sd_64(0, n, mxcsr),
            hostfp::cvtsi2ss_32(0, n as i32, mxcsr),
            hostfp::cvtsi2sd_32(0, n as i32, mxcsr),
        ];
        let short = i64::from(n as i32);
        let soft = [
            sse::from_integer::<F32>(n, &env),
            sse::from_integer::<F64>(n, &env),
            sse::from_integer::<F32>(short, &env),
            sse::from_integer::<F64>(short, &env),
        ]
        .map(|(bits, flags)| (u128::from(bits), u32::from(flags.bits())));
        tally.expect(host == soft, || {
            format!("{n:#x} {mxcsr:#x}: host {host:x?}, soft {soft:x?}")
        });
    }
    settle(&[tally], 100_000);
}

#[test]
fn conversions_between_formats_are_the_processors() {
    let tallies = [
        check(
            "cvtss2sd",
            100_000,
            lanes32,
            hostfp::cvtss2sd,
            |a, b, env| scalar::<F64>(a, sse::widen(packed::lane::<F32>(b, 0), env)),
        ),
        check(
            "cvtsd2ss",
            100_000,
            narrowable,
            hostfp::cvtsd2ss,
            |a, b, env| scalar::<F32>(a, sse::narrow(packed::lane::<F64>(b, 0), env)),
        ),
        check(
            "cvtps2pd",
            50_000,
            lanes32,
            hostfp::cvtps2pd,
            |_, b, env| packed::widen(b, env),
        ),
        check(
            "cvtpd2ps",
            50_000,
            narrowable,
            hostfp::cvtpd2ps,
            |_, b, env| packed::narrow(b, env),
        ),
        check(
            "cvtdq2ps",
            50_000,
            lanes32,
            hostfp::cvtdq2ps,
            |_, b, env| packed::from_i32_f32(b, env),
        ),
        check(
            "cvtdq2pd",
            50_000,
            lanes32,
            hostfp::cvtdq2pd,
            |_, b, env| packed::from_i32_f64(b, env),
        ),
        check(
            "cvtps2dq",
            50_000,
            lanes32,
            hostfp::cvtps2dq,
            |_, b, env| packed::to_i32_f32(b, env),
        ),
        check(
            "cvttps2dq",
            50_000,
            lanes32,
            hostfp::cvttps2dq,
            |_, b, env| packed::truncate_to_i32_f32(b, env),
        ),
        check(
            "cvtpd2dq",
            50_000,
            near_integers,
            hostfp::cvtpd2dq,
            |_, b, env| packed::to_i32_f64(b, env),
        ),
        check(
            "cvttpd2dq",
            50_000,
            near_integers,
            hostfp::cvttpd2dq,
            |_, b, env| packed::truncate_to_i32_f64(b, env),
        ),
    ];
    settle(&tallies, 500_000);
}

/// 64-bit operands near the ends of the 32-bit range.
fn narrowable(random: &mut Random) -> (u128, u128) {
    let mut one = || {
        let exponent = match random.below(3) {
            0 => 1023 - 126 - random.below(28),
            1 => 1023 + 127,
            _ => 1023,
        };
        u128::from(random.f64(exponent << 52))
    };
    (one() << 64 | one(), one() << 64 | one())
}

#[test]
fn sse3_and_sse41_are_the_processors() {
    let Some(host) = Sse41::detect() else {
        println!("skipped: this processor has no SSE4.1");
        return;
    };
    let mut tallies = vec![
        check(
            "haddps",
            40_000,
            lanes32,
            |a, b, m| host.haddps(a, b, m),
            packed::horizontal_add::<F32>,
        ),
        check(
            "haddpd",
            40_000,
            lanes64,
            |a, b, m| host.haddpd(a, b, m),
            packed::horizontal_add::<F64>,
        ),
        check(
            "hsubps",
            40_000,
            lanes32,
            |a, b, m| host.hsubps(a, b, m),
            packed::horizontal_subtract::<F32>,
        ),
        check(
            "hsubpd",
            40_000,
            lanes64,
            |a, b, m| host.hsubpd(a, b, m),
            packed::horizontal_subtract::<F64>,
        ),
        check(
            "addsubps",
            40_000,
            lanes32,
            |a, b, m| host.addsubps(a, b, m),
            packed::add_subtract::<F32>,
        ),
        check(
            "addsubpd",
            40_000,
            lanes64,
            |a, b, m| host.addsubpd(a, b, m),
            packed::add_subtract::<F64>,
        ),
    ];
    macro_rules! dots {
        ($($control:literal)*) => {$(
            tallies.push(check(concat!("dpps ", $control), 20_000, lanes32,
                |a, b, m| host.dpps::<$control>(a, b, m),
                |a, b, env| packed::dot_product_f32(a, b, $control, env)));
            tallies.push(check(concat!("dppd ", $control), 20_000, lanes64,
                |a, b, m| host.dppd::<$control>(a, b, m),
                |a, b, env| packed::dot_product_f64(a, b, $control, env)));
        )*};
    }
    dots!(0xff 0x31 0x7f 0x0f 0xb5 0x5a 0xf0);
    for control in 0..16 {
        let rounding = RoundControl(control);
        tallies.push(check(
            &format!("roundps {control}"),
            10_000,
            lanes32,
            |a, b, m| host.roundps(a, b, control, m),
            |_, b, env| {
                packed::lanes::<F32>(b, b, env, |x, _, env| {
                    sse::round_to_integral::<F32>(x, rounding, env)
                })
            },
        ));
        tallies.push(check(
            &format!("roundsd {control}"),
            10_000,
            near_integers,
            |a, b, m| host.roundsd(a, b, control, m),
            |a, b, env| scalar::<F64>(a, sse::round_to_integral::<F64>(b as u64, rounding, env)),
        ));
    }
    settle(&tallies, 800_000);
}
