/*
 * The local APIC (SDM volume 3, chapter 11): registers, priorities, messages between four CPUs, errors, the timer's
 * modes, the LINT0 pin, and both faces. Starting processors is `smp`'s, what comes from the I/O APIC `ioapic`'s.
 */
#include "prelude.S"

        .set    V, 0x60
        .set    GP, 13
        .set    SELF, 0x44000
        .set    OTHERS, 0xc4000
        .set    ALL, 0x84000
        .set    LOGICAL, 0x4800
        .set    LOWEST, 0x100
        .set    NMI, 0x400

/* EAX = the bit of a vector in ISR (0x100), TMR (0x180) or IRR (0x200). */
.macro vector_bit reg, vector
        movl    LAPIC + \reg + 0x10 * ((\vector) >> 5), %eax
        shrl    $((\vector) & 31), %eax
        andl    $1, %eax
.endm

.macro msr_write number, low
        movl    $\number, %ecx
        movl    \low, %eax
        xorl    %edx, %edx
        wrmsr
.endm

.macro msr_read number
        movl    $\number, %ecx
        rdmsr
.endm

/* Sends a command in x2APIC mode. */
.macro icr_2 dest, low
        movl    $0x830, %ecx
        movl    $\low, %eax
        movl    $\dest, %edx
        wrmsr
.endm

/* EAX = 1 where the RDMSR or WRMSR before was #GP. */
.macro was_gp
        hits    GP
        movl    $0, hit_counts + 4 * GP
.endm

main:
        // Registers.
        lapic_read 0x20
        expect  "the first CPU's id is 0", $0
        lapic_read 0x30
        andl    $0xff, %eax
        expect_range "the version is that of an integrated one", $0x10, $0x15
        lapic_write 0x20, $0x05000000
        lapic_read 0x30
        movl    %eax, %ebx
        lapic_write 0x30, $0
        lapic_read 0x30
        expect  "the version cannot be written", %ebx
        lapic_write 0x80, $0x35
        lapic_read 0xa0
        expect  "the task's priority is the processor's", $0x35
        lapic_write 0x80, $0
        sti
        start_aps 4
        run_on  1, look_at_reset
        wait_idle 1
        movl    seen, %eax
        expect  "after INIT the timer is masked", $0x10000
        movl    seen + 4, %eax
        expect  "and LINT0", $0x10000
        movl    seen + 8, %eax
        expect  "the model is flat", $-1
        movl    seen + 12, %eax
        expect  "without a logical id", $0
        movl    seen + 16, %eax
        expect  "the second CPU's id is 1", $0x01000000

        // Priorities.
        cli
        icr     0, SELF + V
        delay_us 100
        vector_bit 0x200, V
        expect  "a message to oneself is requested", $1
        hits    V
        expect  "and waits for interrupts to be on", $0
        sti
        wait_hits V, 1
        cli
        expect  "then it interrupts", $1
        vector_bit 0x100, V
        expect  "and is in service", $1
        lapic_read 0xa0
        expect  "with its priority", $0x60
        lapic_write 0xb0, $0
        vector_bit 0x100, V
        expect  "until EOI", $0
        lapic_write 0xb0, $0
        lapic_read 0xa0
        expect  "an EOI for nothing is nothing", $0
        clear_hits
        lapic_write 0x80, $0x60
        icr     0, SELF + V
        settle
        hits    V
        expect  "the task priority's own class waits", $0
        lapic_write 0x80, $0x5f
        settle
        hits    V
        expect  "the next one does not", $1
        lapic_write 0xb0, $0
        lapic_write 0x80, $0
        on      0x41, eoi_lapic
        on      0x52, eoi_lapic
        on      0x63, eoi_lapic
        icr     0, SELF + 0x41
        icr     0, SELF + 0x63
        icr     0, SELF + 0x52
        settle
        movl    recent, %eax
        andl    $0xffffff, %eax
        expect  "the highest vector goes first", $0x635241
        on      0x52, 0
        on      0x63, 0
        clear_hits
        icr     0, SELF + 0x52
        settle
        icr     0, SELF + 0x53
        settle
        hits    0x53
        expect  "a class does not interrupt itself", $0
        icr     0, SELF + 0x63
        settle
        hits    0x63
        expect  "a higher one does", $1
        lapic_write 0xb0, $0
        vector_bit 0x100, 0x63
        expect  "EOI ends the highest", $0
        vector_bit 0x100, 0x52
        expect  "and no other", $1
        hits    0x53
        expect  "whose class still waits", $0
        lapic_write 0xb0, $0
        settle
        hits    0x53
        expect  "until its own EOI", $1
        lapic_write 0xb0, $0
        clear_hits
        icr     0, SELF + V
        icr     0, SELF + V
        settle
        hits    V
        expect  "two requests are one interrupt", $1
        icr     0, SELF + V
        icr     0, SELF + V
        lapic_write 0xb0, $0
        settle
        lapic_write 0xb0, $0
        settle
        hits    V
        expect  "and one more while the first is served", $2

        // Messages.
        on      V, eoi_lapic
        clear_hits
        icr     2, 0x4000 + V
        expect_who "to one CPU", 0x0100, V
        icr     0, OTHERS + V
        expect_who "to all others", 0x1110, V
        icr     0, ALL + V
        expect_who "to all", 0x1111, V
        icr     0xff, 0x4000 + V
        expect_who "to the physical broadcast", 0x1111, V
        icr     9, 0x4000 + V
        expect_who "to nobody", 0, V
        icr     1, NMI
        expect_who "an NMI", 0x0010, 2
        icr     0, 0xc4000 + NMI
        expect_who "an NMI to all others", 0x1110, 2
        icr     3, 0x8500
        run_on  3, nothing
        wait_idle 3
        expect  "an INIT level de-assert does nothing", $0

        // Logical destinations.
        movl    $-1, model
        movl    $0x08040201, logical
        call    set_logical
        icr     0x0a, LOGICAL + V
        expect_who "flat: to two CPUs", 0x1010, V
        icr     0x01, LOGICAL + V
        expect_who "flat: to oneself", 0x0001, V
        icr     0x10, LOGICAL + V
        expect_who "flat: to nobody", 0, V
        movl    $0x0fffffff, model
        movl    $0x12110201, logical
        call    set_logical
        icr     0x13, LOGICAL + V
        expect_who "cluster: to both of one", 0x1100, V
        icr     0x02, LOGICAL + V
        expect_who "cluster: to one", 0x0010, V
        icr     0xff, LOGICAL + V
        expect_who "cluster: to all", 0x1111, V
        movl    $-1, model
        movl    $0x08040201, logical
        call    set_logical
        movl    $0x50, priority
        run_on  1, set_priority
        wait_idle 1
        movl    $0x20, priority
        run_on  2, set_priority
        wait_idle 2
        icr     0x06, LOGICAL + LOWEST + V
        expect_who "the lowest priority gets it", 0x0100, V
        movl    $0x10, priority
        run_on  1, set_priority
        wait_idle 1
        icr     0x06, LOGICAL + LOWEST + V
        expect_who "which may become another", 0x0010, V
        movl    $0, priority
        run_on  1, set_priority
        run_on  2, set_priority
        wait_idle 1
        wait_idle 2
        run_on  3, switch_off
        wait_idle 3
        icr     0, OTHERS + V
        expect_who "a LAPIC switched off by software accepts nothing", 0x0110, V
        movl    $switch_on, work + 12
        icr     3, NMI
        wait_idle 3
        expect  "but an NMI", $0
        movl    $0, hit_counts + 3 * 1024 + 4 * 2
        icr     0, OTHERS + V
        expect_who "switched on again it does", 0x1110, V

        // Errors.
        lapic_write 0x280, $0
        icr     0, SELF + 5
        lapic_read 0x280
        expect  "an error waits for a write of the register", $0
        lapic_write 0x280, $0
        lapic_read 0x280
        andl    $0x20, %eax
        expect  "a vector below 16 is not sent", $0x20
        lapic_write 0x280, $0
        lapic_read 0x280
        expect  "a write forgets it", $0
        lapic_write 0x370, $0x48
        on      0x48, eoi_lapic
        lapic_read 0x40
        lapic_write 0x280, $0
        lapic_read 0x280
        expect  "a register that is not there is an error", $0x80
        settle
        hits    0x48
        expect  "which interrupts", $1
        lapic_write 0x370, $0x10048

        sti
        // The timer. Its rate is held against the TSC, in brackets: see rate_.
        call    rates
        expect  "all eight divisors have their rates", $0
        clear_hits
        lapic_write 0x3e0, $0x0b
        lapic_write 0x320, $V
        lapic_write 0x380, $20000
        wait_hits V, 1
        settle
        hits    V
        expect  "one-shot interrupts once", $1
        lapic_read 0x390
        expect  "and stands at zero", $0
        lapic_read 0x380
        expect  "the initial count stays", $20000
        clear_hits
        lapic_write 0x320, $0x20000 + V
        lapic_write 0x380, $20000
        wait_hits V, 10
        expect_range "periodic interrupts again and again", $10, $-1
        lapic_write 0x320, $0x30000 + V
        settle
        clear_hits
        settle
        hits    V
        expect  "not while masked", $0
        lapic_write 0x320, $0x20000 + V
        wait_hits V, 1
        expect_range "but it has gone on", $1, $-1
        lapic_write 0x380, $0
        settle
        clear_hits
        settle
        hits    V
        expect  "a count of zero stops it", $0
        lapic_read 0x390
        expect  "where it stands", $0
        lapic_write 0x320, $0x40000 + V
        mfence
        lapic_write 0x380, $1000
        lapic_read 0x390
        expect  "with a TSC deadline there is no count", $0
        movl    $200, %ebx
        call    set_deadline
        wait_hits V, 1
        expect  "the deadline interrupts", $1
        movl    $0x6e0, %ecx
        rdmsr
        orl     %edx, %eax
        expect  "and is gone", $0
        rdtsc
        subl    deadline, %eax
        sbbl    deadline + 4, %edx
        movl    %edx, %eax
        expect  "not before its time", $0
        movl    $0, %ebx
        call    set_deadline
        wait_hits V, 2
        expect  "one in the past interrupts at once", $2
        movl    $100000000, %ebx
        call    set_deadline
        msr_write 0x6e0, $0
        settle
        hits    V
        expect  "zero disarms it", $2
        movl    $3000, %ebx
        call    set_deadline
        lapic_write 0x320, $V
        msr_read 0x6e0
        expect  "leaving the mode forgets it", $0
        lapic_write 0x320, $0x10000

        // LINT0, on which the 8259 pair's output lies, as an ordinary pin.
        call    set_up_pic
        clear_hits
        lapic_write 0x350, $V
        call    raise3
        settle
        hits    V
        expect  "LINT0 interrupts at an edge", $1
        call    lower3
        on      V, lower_at_third
        clear_hits
        lapic_write 0x350, $0x8000 + V
        call    raise3
        wait_hits V, 3
        settle
        hits    V
        expect  "and at a level, until it falls", $3
        on      V, 0
        call    raise3
        wait_hits V, 4
        lapic_read 0x350
        expect  "Remote IRR is set until EOI", $0xc000 + V
        call    lower3
        lapic_write 0xb0, $0
        lapic_read 0x350
        expect  "which clears it", $0x8000 + V
        lapic_write 0x350, $NMI
        clear_hits
        call    raise3
        settle
        call    lower3
        hits    2
        expect  "LINT0 can be an NMI", $1
        lapic_write 0xf0, $0xff
        lapic_read 0x350
        expect  "switched off by software all entries are masked", $0x10000 + NMI
        lapic_write 0x350, $NMI
        lapic_read 0x350
        expect  "and stay so", $0x10000 + NMI
        lapic_write 0xf0, $0x1ff

        // The page moves.
        lapic_read 0x30
        movl    %eax, %ebx
        msr_write 0x1b, $0xfed50900
        movl    0xfed50030, %eax
        expect  "the page can be elsewhere", %ebx
        msr_write 0x1b, $0xfee00900
        lapic_read 0x30
        expect  "and come back", %ebx

        // x2APIC, CPU 0 to 3 one after the other.
        on      GP, skip
        on      V, eoi_lapic
        clear_hits
        msr_write 0x1b, $0xfee00500
        was_gp
        expect  "x2APIC mode without the LAPIC is #GP", $1
        msr_read 0x802
        was_gp
        expect  "its registers are #GP before", $1
        msr_write 0x1b, $0xfee00d00
        was_gp
        expect  "it can be switched on", $0
        msr_read 0x802
        expect  "the id", $0
        msr_read 0x803
        expect  "the same version", %ebx
        msr_read 0x80d
        expect  "the logical id follows from the id", $1
        msr_read 0x80e
        was_gp
        expect  "there is no model", $1
        msr_read 0x80b
        was_gp
        expect  "EOI cannot be read", $1
        msr_write 0x80b, $1
        was_gp
        expect  "and takes only zero", $1
        msr_write 0x80f, $0x800001ff
        was_gp
        expect  "reserved bits are #GP", $1
        msr_write 0x808, $0x100
        was_gp
        expect  "in every register", $1
        msr_write 0x802, $0
        was_gp
        expect  "read-only ones cannot be written", $1
        msr_write 0x1b, $0xfee00900
        was_gp
        expect  "the way back leads through off", $1
        clear_hits
        msr_write 0x83f, $V
        expect_who "the self-IPI register", 0x0001, V
        icr_2   2, 0x4000 + V
        expect_who "to a CPU in xAPIC mode", 0x0100, V
        movl    $x2apic_on, %eax
        call    on_all_others
        icr_2   3, 0x4000 + V
        expect_who "to one in x2APIC mode", 0x1000, V
        icr_2   0xa, 0x4800 + V
        expect_who "to logical ids of a cluster", 0x1010, V
        icr_2   0x10002, 0x4800 + V
        expect_who "to another cluster, where there is nobody", 0, V
        icr_2   -1, 0x4000 + V
        expect_who "to all, by the broadcast id", 0x1111, V
        icr_2   0, 0xc4000 + V
        expect_who "to all others, by the shorthand", 0x1110, V
        msr_read 0x831
        was_gp
        expect  "there is no second half of the command", $1
        movl    $0x830, %ecx
        rdmsr
        expect  "the command reads back", $0xc4000 + V
        msr_write 0x828, $1
        was_gp
        expect  "the error register takes only zero", $1
        msr_write 0x1b, $0xfee00100
        msr_write 0x1b, $0xfee00900
        lapic_read 0xf0
        expect  "switched off and on again it is as after reset", $0xff
        lapic_write 0xf0, $0x1ff
        icr     2, 0x4000 + V
        expect_who "an xAPIC reaches those in x2APIC mode", 0x0100, V
        ret

nothing:
        ret

look_at_reset:
        lapic_read 0x320
        movl    %eax, seen
        lapic_read 0x350
        movl    %eax, seen + 4
        lapic_read 0xe0
        movl    %eax, seen + 8
        lapic_read 0xd0
        movl    %eax, seen + 12
        lapic_read 0x20
        movl    %eax, seen + 16
        ret

/* Every CPU takes its logical id from `logical`, and the model. */
set_logical:
        call    set_logical_id
        movl    $set_logical_id, %eax
on_all_others:
        movl    %eax, work + 4
        movl    %eax, work + 8
        movl    %eax, work + 12
        call    wake_others
        wait_idle 1
        wait_idle 2
        wait_idle 3
        ret

wake_others:
        msr_read 0x1b
        testl   $0x400, %eax
        jnz     1f
        icr     0, OTHERS + WORK_VECTOR
        ret
1:      icr_2   0, OTHERS + WORK_VECTOR
        ret

set_logical_id:
        movl    model, %eax
        movl    %eax, LAPIC + 0xe0
        call    cpu_number
        movzbl  logical(%eax), %eax
        shll    $24, %eax
        movl    %eax, LAPIC + 0xd0
        ret

set_priority:
        movl    priority, %eax
        movl    %eax, LAPIC + 0x80
        ret

x2apic_on:
        msr_write 0x1b, $0xfee00c00
        ret

skip:
        addl    $2, 44(%esp)
        ret

/* EBX = microseconds from now. */
set_deadline:
        movl    tsc_per_us, %eax
        mull    %ebx
        movl    %eax, deadline
        movl    %edx, deadline + 4
        rdtsc
        addl    deadline, %eax
        adcl    deadline + 4, %edx
        movl    %eax, deadline
        movl    %edx, deadline + 4
        movl    $0x6e0, %ecx
        wrmsr
        ret

/* EAX = how many of the divisors have a wrong rate. */
rates:
        // EBX ticks of the TSC in EAX of the crystal's.
        movl    $0x15, %eax
        cpuid
        movl    %ebx, crystal
        movl    %eax, crystal_per
        lapic_write 0x320, $0x10000 + V
        xorl    %edi, %edi
        movl    $0x0b, %eax
        movl    $0, %ecx
        call    rate_
        movl    $0x00, %eax
        movl    $1, %ecx
        call    rate_
        movl    $0x01, %eax
        movl    $2, %ecx
        call    rate_
        movl    $0x02, %eax
        movl    $3, %ecx
        call    rate_
        movl    $0x03, %eax
        movl    $4, %ecx
        call    rate_
        movl    $0x08, %eax
        movl    $5, %ecx
        call    rate_
        movl    $0x09, %eax
        movl    $6, %ecx
        call    rate_
        movl    $0x0a, %eax
        movl    $7, %ecx
        call    rate_
        movl    %edi, %eax
        ret

/*
 * EAX = divide configuration, ECX = its logarithm. Counts how often the ticks between two looks are more than the time
 * between the moments before the first and behind the second, or fewer than that between those inside, by two at least.
 */
rate_:
        movl    %eax, LAPIC + 0x3e0
        movl    crystal, %ebx
        shll    %cl, %ebx
        rdtsc
        movl    %eax, %esi
        movl    $-1, LAPIC + 0x380
        rdtsc
        pushl   %eax
        delay_us 3000
        rdtsc
        popl    %ecx
        subl    %ecx, %eax
        pushl   %eax
        lapic_read 0x390
        movl    %eax, %ecx
        rdtsc
        subl    %esi, %eax
        notl    %ecx
        mull    crystal_per
        divl    %ebx
        incl    %eax
        cmpl    %eax, %ecx
        ja      1f
        popl    %eax
        mull    crystal_per
        divl    %ebx
        subl    $1, %eax
        cmpl    %eax, %ecx
        jb      2f
        ret
1:      popl    %eax
2:      incl    %edi
        ret

set_up_pic:
        start_pic 0xf7
        outb_   0x2fc, $0x0b
        ret

/* IRQ 3 by COM2's transmitter, which is empty. With the pair's own EOI, so that its output falls and rises. */
raise3:
        outb_   0x2f9, $0x02
        ret

lower3:
        outb_   0x2f9, $0x00
        ret

lower_at_third:
        cmpl    $3, hit_counts + 4 * V
        jb      1f
        call    lower3
1:      jmp     eoi_lapic

        .bss
        .balign 8
deadline: .skip 8
seen:   .skip   20
model:  .skip   4
logical: .skip  4
priority: .skip 4
crystal: .skip  4
crystal_per: .skip 4
