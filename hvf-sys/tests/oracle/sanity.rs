//! The oracle itself, by hand: known instructions with known results.

use crate::child::Oracle;
use crate::place::{PAGE, TAKEN, WINDOW, WINDOW_LEN, slot};
use crate::wire::{Case, Fault};
use hvf_sys::cpu::{Insn, InsnBuilder, Mem, Op, Operand, Reg, State};

const RAX: Operand = Operand::reg(Reg::Gpr(0));
const RCX: Operand = Operand::reg(Reg::Gpr(1));

/// A state in which everything is masked and empty.
pub(crate) fn quiet() -> State {
    let mut state = State {
        rflags: 2,
        mxcsr: 0x1f80,
        ..State::default()
    };
    state.gpr[4] = WINDOW + WINDOW_LEN as u64 / 2;
    state.fpu.control = 0x037f;
    state
}

fn two(op: Op, width: u8, a: Operand, b: Operand) -> InsnBuilder {
    InsnBuilder::new(op, width, true)
        .operand(0, a)
        .operand(1, b)
}

fn at(displacement: i64) -> Mem {
    Mem {
        segment: 3,
        base: Some(1),
        index: None,
        scale: 0,
        displacement,
        rip_relative: false,
        address_size: 8,
    }
}

fn case(insn: Insn) -> Case {
    let mut state = quiet();
    state.gpr[0] = u64::MAX;
    state.gpr[1] = 1;
    Case {
        insns: vec![insn],
        state,
        memory: std::array::from_fn(|n| n as u8),
    }
}

pub(crate) fn the_oracle_executes_and_reports() {
    let add = case(two(Op::Add, 8, RAX, RCX).build(1));
    let mut load = case(two(Op::Mov, 4, RAX, Operand::MEM).mem(at(3)).build(1));
    load.state.gpr[1] = WINDOW;
    let mut beyond = load.clone();
    beyond.state.gpr[1] = PAGE + 0x1000 - 4;
    let mut store = case(two(Op::Mov, 8, Operand::MEM, RAX).mem(at(-8)).build(1));
    store.state.gpr[1] = PAGE;
    let mut divide = case(InsnBuilder::new(Op::Div, 8, true).operand(0, RCX).build(1));
    divide.state.gpr[1] = 0;
    let jump = InsnBuilder::new(Op::Jcc, 8, true)
        .operand(0, Operand::IMM)
        .immediate(TAKEN);
    let (taken, not_taken) = (jump.aux(5).build(1), jump.aux(4).build(1));
    let fadd = two(
        Op::Fadd,
        10,
        Operand::reg(Reg::St(0)),
        Operand::reg(Reg::St(1)),
    );
    let mut fadd = case(fadd.build(1));
    fadd.state.fpu.registers[7] = (1 << 63, 0x3fff);
    fadd.state.fpu.registers[0] = (1 << 63, 0x4000);
    (fadd.state.fpu.top, fadd.state.fpu.valid) = (7, 0x81);
    let cases = [
        add,
        load,
        beyond,
        store,
        divide,
        case(taken),
        case(not_taken),
        fadd,
    ];

    let outcomes = Oracle::start().run(&cases);
    let fault = |vector, error, address| {
        Some(Fault {
            vector,
            error,
            address,
        })
    };
    let add = &outcomes[0].state;
    assert_eq!((add.gpr[0], add.gpr[1], add.rip), (0, 1, slot(0) + 3));
    assert_eq!(add.rflags & 0x8d5, 0x55, "carry, parity, adjust and zero");
    assert_eq!(outcomes[1].state.gpr[0], 0x0605_0403);
    assert_eq!(
        (outcomes[1].fault, &outcomes[1].memory),
        (None, &cases[1].memory)
    );
    let page = |n: usize| outcomes[n].fault.map(|f| (f.vector, f.error, f.address));
    assert_eq!(page(2), Some((14, 4, PAGE + 0x1000)));
    assert_eq!(outcomes[2].state.rip, slot(2));
    assert_eq!(page(3), Some((14, 6, PAGE - 8)));
    assert_eq!(
        outcomes[4].fault.map(|f| f.vector),
        fault(0, 0, 0).map(|f| f.vector)
    );
    assert_eq!(outcomes[5].state.rip, slot(5) + 2 + TAKEN);
    assert_eq!(outcomes[6].state.rip, slot(6) + 2);
    let fpu = &outcomes[7].state.fpu;
    assert_eq!(fpu.registers[7], (3 << 62, 0x4000), "one and two are three");
    assert_eq!((fpu.top, fpu.valid, fpu.status), (7, 0x81, 0));
}
