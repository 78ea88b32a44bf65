//! Tables from the SDM. The processor itself is the judge in `tests/float`; these run on every host.

use super::sse::{self, F32, F64, packed};
use super::x87::{self, Constant, F80, M32};
use super::{Env, Flags, Precision, Relation, Rounding};

const fn f80(sign_exponent: u16, mantissa: u64) -> F80 {
    F80 {
        mantissa,
        sign_exponent,
    }
}

const INFINITY: F80 = f80(0x7fff, 1 << 63);
const LARGEST: F80 = f80(0x7ffe, u64::MAX);
const SMALLEST: F80 = f80(0x0001, 1 << 63);
const UNNORMAL: F80 = f80(0x4000, 1);

fn env(rounding: Rounding) -> Env {
    Env {
        rounding,
        ..Env::default()
    }
}

fn unmasked(flags: Flags) -> Env {
    Env {
        masks: !flags & Flags::EXCEPTIONS,
        ..Env::default()
    }
}

#[test]
fn overflow_rounds_as_table_4_10_says() {
    use Rounding::{Down, Nearest, Up, Zero};
    let (max, inf) = (0x7f7f_ffff_u64, 0x7f80_0000_u64);
    for (rounding, positive, negative) in [
        (Nearest, inf, inf),
        (Down, max, inf),
        (Up, inf, max),
        (Zero, max, max),
    ] {
        let sign = 1 << 31;
        let flags = Flags::OE | Flags::PE;
        let env = env(rounding);
        assert_eq!(sse::add::<F32>(max, max, &env), (positive, flags));
        let sum = sse::add::<F32>(max | sign, max | sign, &env);
        assert_eq!(sum, (negative | sign, flags));
    }
}

#[test]
fn sse_nans_follow_table_4_7() {
    let env = Env::default();
    let (quiet, signaling, one) = (0xffc0_1234_u64, 0x7fa0_0001_u64, 0x3f80_0000);
    for (a, b, result, flags) in [
        (signaling, quiet, 0x7fe0_0001, Flags::IE),
        (quiet, signaling, quiet, Flags::IE),
        (signaling, one, 0x7fe0_0001, Flags::IE),
        (one, quiet, quiet, Flags::empty()),
    ] {
        assert_eq!(sse::add::<F32>(a, b, &env), (result, flags));
    }
    assert_eq!(
        sse::minimum::<F32>(one, signaling, &env),
        (signaling, Flags::IE)
    );
    assert_eq!(sse::maximum::<F32>(quiet, one, &env), (one, Flags::IE));
}

#[test]
fn x87_nans_follow_table_4_7() {
    let env = Env::default();
    let quiet = f80(0x7fff, 0xc000_0000_0000_0001);
    let larger = f80(0xffff, 0xe000_0000_0000_0000);
    let signaling = f80(0x7fff, 0xbfff_ffff_ffff_ffff);
    for (a, b, result, flags) in [
        (quiet, larger, larger, Flags::empty()),
        (quiet, quiet.negated(), quiet, Flags::empty()),
        (signaling, quiet, quiet, Flags::IE),
        (signaling, F80::ONE, f80(0x7fff, u64::MAX), Flags::IE),
        (UNNORMAL, quiet, F80::DEFAULT_NAN, Flags::IE),
    ] {
        assert_eq!(x87::add(a, b, &env), (result, flags));
        assert_eq!(x87::add(b, a, &env), (result, flags));
    }
}

#[test]
fn daz_and_ftz_make_zeros() {
    let denormal = 0x8000_0000_0000_0001;
    let smallest = 0x0010_0000_0000_0000;
    let half = 0.5_f64.to_bits();
    let flags = Flags::UE | Flags::PE;
    let plain = Env::from_mxcsr(0x1f80);
    let halved = smallest >> 1;
    assert_eq!(
        sse::multiply::<F64>(smallest, half, &plain),
        (halved, Flags::empty())
    );
    let ftz = Env::from_mxcsr(0x9f80);
    assert_eq!(sse::multiply::<F64>(smallest, half, &ftz), (0, flags));
    let unmasked_ftz = Env::from_mxcsr(0x9f80 & !(0x10 << 7));
    assert_eq!(
        sse::multiply::<F64>(smallest, half, &unmasked_ftz).1,
        Flags::UE
    );
    let daz = Env::from_mxcsr(0x1fc0);
    assert_eq!(
        sse::square_root::<F64>(denormal, &daz),
        (1 << 63, Flags::empty())
    );
    assert_eq!(sse::square_root::<F64>(denormal, &plain).1, Flags::IE);
}

#[test]
fn unmasked_x87_range_exceptions_adjust_the_exponent() {
    let (value, flags) = x87::multiply(LARGEST, LARGEST, &unmasked(Flags::OE));
    let exponent = (2 * 0x7ffe_u32 + 1 - 0x3fff - 24_576) as u16;
    assert_eq!(
        (value, flags),
        (f80(exponent, u64::MAX - 1), Flags::OE | Flags::PE)
    );
    let (value, flags) = x87::multiply(SMALLEST, SMALLEST, &unmasked(Flags::UE));
    assert_eq!(
        (value, flags),
        (f80((2 + 24_576 - 0x3fff) as u16, 1 << 63), Flags::UE)
    );
}

#[test]
fn an_exception_found_before_hides_those_found_after() {
    let env = unmasked(Flags::DE);
    let (_, flags) = sse::add::<F32>(1, 0x3f80_0000, &env);
    assert_eq!(flags, Flags::DE);
    assert!(!env.commits(flags));
    // DE has a lower priority than ZE (SDM 1, 4.9.2).
    assert_eq!(sse::divide::<F32>(1, 0, &env).1, Flags::ZE);
}

/// Rows: operation, unmasked exceptions, the low two lanes of both operands, and the flags that a processor reports
/// in MXCSR when it faults. The upper lanes are 1 and 1.
#[test]
fn unmasked_sse_exceptions_report_what_processors_do() {
    type Operation = fn(u128, u128, &Env) -> (u128, Flags);
    let add: Operation = |a, b, env| packed::lanes::<F32>(a, b, env, sse::add::<F32>);
    let multiply: Operation = |a, b, env| packed::lanes::<F32>(a, b, env, sse::multiply::<F32>);
    let divide: Operation = |a, b, env| packed::lanes::<F32>(a, b, env, sse::divide::<F32>);
    let dot: Operation = |a, b, env| packed::dot_product_f32(a, b, 0xff, env);
    let (one, nan) = (0x3f80_0000, 0x7fa0_0000);
    for (operation, unmasked, a, b, reported) in [
        (add, 0x01, [nan, one], [one, 0x3300_0001], 0x01),
        (add, 0x20, [nan, one], [one, 0x3300_0001], 0x21),
        (add, 0x02, [1, one], [one, 0x3300_0001], 0x02),
        (add, 0x02, [1, nan], [one, 0x3300_0001], 0x03),
        (add, 0x01, [1, nan], [one, 0x3300_0001], 0x03),
        (divide, 0x04, [one, 1], [0, 0x4040_0000], 0x06),
        (multiply, 0x10, [0x0080_0001, 0], [0x3f00_0000, 0], 0x10),
        (multiply, 0x10, [0x0080_0001, 0], [0x3f00_0001, 0], 0x30),
        (multiply, 0x08, [0x7f00_0000, 0], [0x7f00_0000, 0], 0x08),
        (
            multiply,
            0x08,
            [0x7f00_0001, 0x0080_0001],
            [0x7f00_0001, 0x3f00_0001],
            0x38,
        ),
        (dot, 0x01, [nan, 0x3f80_0001], [one, 0x3f80_0001], 0x01),
        (
            dot,
            0x08,
            [0x7f00_0001, 0x3f80_0001],
            [0x7f00_0001, 0x3f80_0001],
            0x28,
        ),
        (
            dot,
            0x01,
            [0x7f00_0001, 0xff00_0001],
            [0x7f00_0001, 0x7f00_0001],
            0x29,
        ),
    ] {
        let register = |[first, second]: [u32; 2]| {
            let ones = u128::from(one) << 96 | u128::from(one) << 64;
            ones | u128::from(second) << 32 | u128::from(first)
        };
        let env = Env::from_mxcsr(0x1f80 & !(unmasked << 7));
        let (_, flags) = operation(register(a), register(b), &env);
        assert_eq!(
            u32::from(flags.bits()),
            reported,
            "{a:x?} {b:x?} {unmasked:#x}"
        );
    }
}

#[test]
fn precision_control_shortens_the_significand() {
    let third = |precision| {
        let env = Env {
            precision,
            ..Env::default()
        };
        x87::divide(F80::ONE, M32(3_f32.to_bits()), &env).0.mantissa
    };
    assert_eq!(third(Precision::Single), 0xaaaa_ab00_0000_0000);
    assert_eq!(third(Precision::Double), 0xaaaa_aaaa_aaaa_a800);
    assert_eq!(third(Precision::Extended), 0xaaaa_aaaa_aaaa_aaab);
}

#[test]
fn comparisons_set_the_conditions_of_their_tables() {
    for (a, b, relation) in [
        (F80::ZERO, F80::ZERO.negated(), Relation::Equal),
        (LARGEST, INFINITY, Relation::Less),
        (INFINITY.negated(), LARGEST.negated(), Relation::Less),
        (SMALLEST, F80::ZERO, Relation::Greater),
        (F80::DEFAULT_NAN, F80::ZERO, Relation::Unordered),
    ] {
        assert_eq!(x87::compare_quiet(a, b), (relation, Flags::empty()));
    }
    assert_eq!(x87::compare(F80::DEFAULT_NAN, F80::ZERO).1, Flags::IE);
    assert_eq!(x87::compare_quiet(UNNORMAL, F80::ZERO).1, Flags::IE);
    assert_eq!(Relation::Unordered.rflags(), 0x45);
    assert_eq!(Relation::Less.conditions(), Flags::C0);
}

#[test]
fn fxam_classifies_as_its_table_says() {
    let (c0, c1, c2, c3) = (Flags::C0, Flags::C1, Flags::C2, Flags::C3);
    for (value, class) in [
        (UNNORMAL, Flags::empty()),
        (F80::DEFAULT_NAN, c0 | c1),
        (F80::ONE, c2),
        (INFINITY, c2 | c0),
        (F80::ZERO.negated(), c3 | c1),
        (f80(0, 1), c3 | c2),
        (f80(0, 1 << 63), c3 | c2),
    ] {
        assert_eq!(x87::examine(value), class, "{value:?}");
    }
}

#[test]
fn integers_that_do_not_fit_are_indefinite() {
    let env = Env::default();
    let n = |n| x87::from_integer(n);
    assert_eq!(x87::to_i16(n(32_767), &env), (32_767, Flags::empty()));
    assert_eq!(x87::to_i16(n(32_768), &env), (i16::MIN, Flags::IE));
    assert_eq!(x87::to_i16(n(-32_768), &env), (i16::MIN, Flags::empty()));
    assert_eq!(x87::to_i64(n(i64::MIN), &env), (i64::MIN, Flags::empty()));
    assert_eq!(x87::to_i64(INFINITY, &env), (i64::MIN, Flags::IE));
    let two_to_31 = 2_147_483_648_f64.to_bits();
    assert_eq!(sse::to_i32::<F64>(two_to_31, &env), (i32::MIN, Flags::IE));
    assert_eq!(
        sse::to_i64::<F64>(two_to_31, &env),
        (1 << 31, Flags::empty())
    );
}

#[test]
fn decimals_go_both_ways() {
    let env = Env::default();
    let bytes = [0x89, 0x67, 0x45, 0x23, 0x01, 0x89, 0x67, 0x45, 0x23, 0x80];
    let value = x87::from_bcd(bytes);
    assert_eq!(value, x87::from_integer(-234_567_890_123_456_789));
    assert_eq!(x87::to_bcd(value, &env), (bytes, Flags::empty()));
    let too_large = x87::from_integer(1_000_000_000_000_000_000);
    let indefinite = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];
    assert_eq!(x87::to_bcd(too_large, &env), (indefinite, Flags::IE));
}

#[test]
fn a_remainder_takes_steps_of_less_than_64_places() {
    let env = Env::default();
    let seven = x87::from_integer(7);
    let three = x87::from_integer(3);
    let (rest, flags) = x87::remainder(seven, three, &env);
    assert_eq!((rest, flags), (F80::ONE, Flags::C3));
    assert_eq!(
        x87::ieee_remainder(x87::from_integer(8), three, &env),
        (F80::ONE.negated(), Flags::C3 | Flags::C1)
    );
    let (mut rest, mut steps) = (x87::scale(F80::ONE, x87::from_integer(200), &env).0, 0);
    loop {
        let (next, flags) = x87::remainder(rest, seven, &env);
        (rest, steps) = (next, steps + 1);
        if !flags.contains(Flags::C2) {
            break;
        }
    }
    // 2^200 = 4 modulo 7.
    assert_eq!(rest, x87::from_integer(4));
    assert!((4..=8).contains(&steps));
}

#[test]
fn pi_follows_rounding_control() {
    let pi = |rounding| Constant::Pi.load(&env(rounding)).mantissa;
    assert_eq!(pi(Rounding::Nearest), 0xc90f_daa2_2168_c235);
    assert_eq!(pi(Rounding::Down), 0xc90f_daa2_2168_c234);
}

#[test]
fn approximations_are_close_and_their_special_cases_exact() {
    for x in [1.0_f32, 1.5, 3.0e-30, 7.7e30, 123.456] {
        let near = |bits: u32, exact: f64| {
            (f64::from(f32::from_bits(bits)) / exact - 1.0).abs() < 1.5 / 4096.0
        };
        assert!(near(sse::reciprocal(x.to_bits()), 1.0 / f64::from(x)));
        assert!(near(
            sse::reciprocal_root(x.to_bits()),
            1.0 / f64::from(x).sqrt()
        ));
    }
    assert_eq!(sse::reciprocal(0x8000_0001), 0xff80_0000);
    assert_eq!(sse::reciprocal(0x7f7f_ffff), 0);
    assert_eq!(sse::reciprocal_root(0x8000_0000), 0xff80_0000);
    assert_eq!(sse::reciprocal_root(0xbf80_0000), 0xffc0_0000);
    assert_eq!(sse::reciprocal_root(0x7f80_0000), 0);
}

#[test]
fn transcendental_values_are_correctly_rounded() {
    let env = Env::default();
    let n = |n| x87::from_integer(n);
    let inexact = |answer: (F80, Flags)| {
        assert!(answer.1.contains(Flags::PE));
        answer.0
    };
    let quarter = x87::divide(F80::ONE, n(4), &env).0;
    let half = x87::divide(F80::ONE, n(2), &env).0;
    let pi = Constant::Pi.load(&env);
    for (value, sign_exponent, mantissa) in [
        (x87::sine(F80::ONE, &env), 0x3ffe, 0xd76a_a478_4867_7021),
        (x87::cosine(F80::ONE, &env), 0x3ffe, 0x8a51_407d_a834_5c92),
        // What the 64-bit pi exceeds the 66-bit one by.
        (x87::sine(pi, &env), 0xbfbf, 0x8000_0000_0000_0000),
        (
            x87::sine(n(1_000_000_000_000_000_000), &env),
            0xbffe,
            0xfe29_3239_d98b_5dc4,
        ),
        (
            x87::logarithm(n(10), F80::ONE, &env),
            0x4000,
            0xd49a_784b_cd1b_8afe,
        ),
        (
            x87::logarithm_plus_one(quarter, n(3), &env),
            0x3ffe,
            0xf73d_a38d_9d4a_83eb,
        ),
        (x87::exponential(half, &env), 0x3ffd, 0xd413_cccf_e779_9211),
        (
            x87::exponential(quarter.negated(), &env),
            0xbffc,
            0xa2ec_0cd4_a58a_542f,
        ),
        (
            x87::arctangent(n(3), F80::ONE, &env),
            0x3ffd,
            0xa4bc_7d19_34f7_0924,
        ),
        (
            x87::arctangent(n(-3), F80::ONE, &env),
            0x4000,
            0xb478_4afe_fac9_e110,
        ),
        (
            x87::arctangent(F80::ONE, n(-3), &env),
            0xbfff,
            0x9fe0_bb5b_d42a_ffec,
        ),
    ] {
        assert_eq!(inexact(value), f80(sign_exponent, mantissa));
    }
    let ((tangent, one), _) = x87::tangent(F80::ONE, &env);
    assert_eq!(
        (tangent, one),
        (f80(0x3fff, 0xc759_22e5_f71d_2dc5), F80::ONE)
    );
}

#[test]
fn transcendental_special_cases_follow_their_tables() {
    let env = Env::default();
    let invalid = (F80::DEFAULT_NAN, Flags::IE);
    let two_to_63 = x87::scale(F80::ONE, x87::from_integer(63), &env).0;
    let minus_infinity = INFINITY.negated();
    let zero = F80::ZERO;
    assert_eq!(x87::sine(two_to_63, &env), (two_to_63, Flags::C2));
    assert_eq!(x87::cosine(INFINITY, &env), invalid);
    assert_eq!(x87::cosine(zero, &env), (F80::ONE, Flags::empty()));
    assert_eq!(
        x87::logarithm(zero, F80::ONE, &env),
        (minus_infinity, Flags::ZE)
    );
    assert_eq!(x87::logarithm(zero, zero, &env), invalid);
    assert_eq!(x87::logarithm(F80::ONE.negated(), F80::ONE, &env), invalid);
    assert_eq!(x87::logarithm(F80::ONE, INFINITY, &env), invalid);
    assert_eq!(
        x87::logarithm(INFINITY, F80::ONE, &env),
        (INFINITY, Flags::empty())
    );
    assert_eq!(
        x87::logarithm_plus_one(minus_infinity, F80::ONE, &env),
        invalid
    );
    let minus_one = (F80::ONE.negated(), Flags::empty());
    assert_eq!(x87::exponential(minus_infinity, &env), minus_one);
    let minus_zero = zero.negated();
    let angle = |x, y| x87::arctangent(x, y, &env).0;
    assert_eq!(angle(F80::ONE, minus_zero), minus_zero);
    assert_eq!(
        angle(minus_zero, minus_zero),
        Constant::Pi.load(&env).negated()
    );
}
