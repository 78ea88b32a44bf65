/*
 * The HPET (IA-PC HPET Specification 1.0a): counter, three comparators by message, by pin, and in place of 8254 and RTC.
 */
#include "prelude.S"

        .set    HPET, 0xfed00000
        .set    CONFIG, 0x010
        .set    STATUS, 0x020
        .set    COUNTER, 0x0f0
        .set    V, 0x60
        .set    W, 0x61
        .set    LEVEL, 1 << 1
        .set    INTERRUPT, 1 << 2
        .set    PERIODIC, 1 << 3
        .set    SET_VALUE, 1 << 6
        .set    BITS_32, 1 << 8
        .set    MESSAGE, 1 << 14
        .set    PIN_20, 20 << 9

.macro hpet_write reg, value
        movl    \value, HPET + \reg
.endm

.macro hpet_read reg
        movl    HPET + \reg, %eax
.endm

/* A comparator's configuration, value and message register. */
        .set    TIMER, 0x100
        .set    COMPARATOR, 0x108
        .set    ROUTE, 0x110

/* Stops the counter and sets it. */
.macro halt_at low, high=0
        hpet_write CONFIG, $0
        hpet_write COUNTER, $\low
        hpet_write COUNTER+4, $\high
.endm

.macro compare n, low, high=0
        hpet_write COMPARATOR+0x20*\n, $\low
        hpet_write COMPARATOR+0x20*\n+4, $\high
.endm

main:
        hpet_read 0
        expect  "revision 1, three comparators, 64 bits, legacy replacement", $0x8086a201
        hpet_read 4
        expect_range "a period of at most 100 ns", $1, $100000000
        hpet_write 0, $0
        hpet_read 0
        expect  "which cannot be written", $0x8086a201
        hpet_read CONFIG
        expect  "it stands at first", $0
        hpet_read TIMER
        andl    $0x8030, %eax
        expect  "a comparator can be periodic, has 64 bits, sends messages", $0x8030

        // The counter.
        halt_at 0xfffffff0, 0x12
        delay_us 10
        hpet_read COUNTER
        expect  "the counter stands", $0xfffffff0
        hpet_read COUNTER+4
        expect  "in both halves", $0x12
        hpet_write CONFIG, $1
        delay_us 100
        hpet_read COUNTER+4
        expect  "it runs, and carries", $0x13
        movl    $5, %edi
        xorl    %esi, %esi
1:      call    counter_is_wrong
        addl    %eax, %esi
        decl    %edi
        jnz     1b
        movl    %esi, %eax
        expect  "it has its rate", $0

        // One-shot, by message.
        sti
        on      V, eoi_lapic
        on      W, eoi_lapic
        halt_at 0
        hpet_write ROUTE, $V
        hpet_write ROUTE+4, $LAPIC
        hpet_write TIMER, $INTERRUPT + MESSAGE
        compare 0, 10000
        settle
        hits    V
        expect  "nothing comes while it stands", $0
        hpet_write CONFIG, $1
        wait_hits V, 1
        settle
        hits    V
        expect  "a match is one message", $1
        hpet_read STATUS
        expect  "without status, being an edge", $0
        hpet_read COMPARATOR
        expect  "the value stays", $10000
        hpet_read COUNTER
        expect_range "not before its time", $10000, $-1
        clear_hits
        hpet_read COUNTER
        subl    $1000, %eax
        movl    %eax, HPET + COMPARATOR
        wait_hits V, 1
        expect  "a value just passed matches at once", $1
        clear_hits
        hpet_write TIMER, $MESSAGE
        hpet_read COUNTER
        addl    $1000, %eax
        movl    %eax, HPET + COMPARATOR
        settle
        hits    V
        expect  "disabled it sends nothing", $0

        // Round the ends.
        clear_hits
        halt_at 0xffffff00, 0
        hpet_write TIMER, $INTERRUPT + MESSAGE
        compare 0, 0x1000, 1
        hpet_write CONFIG, $1
        wait_hits V, 1
        hpet_read COUNTER+4
        expect  "64 bits: it matches behind the carry", $1
        clear_hits
        halt_at 0xffffff00, 5
        hpet_write TIMER, $INTERRUPT + MESSAGE + BITS_32
        compare 0, 0x1000, 0x77
        hpet_read COMPARATOR+4
        expect  "32 bits: there is no upper half", $0
        hpet_write CONFIG, $1
        wait_hits V, 1
        expect  "and it matches whatever the counter's is", $1

        // Periodic.
        clear_hits
        halt_at 0
        hpet_write TIMER, $INTERRUPT + MESSAGE + PERIODIC + SET_VALUE + BITS_32
        hpet_write COMPARATOR, $20000
        hpet_write COMPARATOR, $50000
        hpet_read COMPARATOR
        expect  "the first value and the period", $20000
        hpet_write CONFIG, $1
        wait_hits V, 10
        expect_range "periodic: again and again", $10, $-1
        hpet_read COUNTER
        expect_range "not more often than its period", $470000, $-1
        hpet_write CONFIG, $0
        hpet_read COMPARATOR
        xorl    %edx, %edx
        movl    $50000, %ecx
        divl    %ecx
        movl    %edx, %eax
        expect  "the value moves on by the period", $20000
        hpet_write TIMER, $0

        // A level at a pin.
        settle
        clear_hits
        ioapic_write 0x39, $0
        ioapic_write 0x38, $0x8000 + W
        on      W, clear_at_third
        halt_at 0
        hpet_write TIMER+0x20, $INTERRUPT + LEVEL + PIN_20
        compare 1, 1000
        hpet_write CONFIG, $1
        wait_hits W, 3
        settle
        hits    W
        expect  "a level lasts until its status is cleared", $3
        on      W, 0
        hpet_read COUNTER
        addl    $100, %eax
        movl    %eax, HPET + COMPARATOR + 0x20
        wait_hits W, 4
        hpet_read STATUS
        expect  "the status has the comparator's bit", $2
        hpet_write STATUS, $5
        hpet_read STATUS
        expect  "which only its own one clears", $2
        hpet_write STATUS, $2
        hpet_read STATUS
        expect  "it does", $0
        lapic_write 0xb0, $0
        hpet_write TIMER+0x20, $0
        ioapic_write 0x38, $0x10000
        on      W, eoi_lapic

        // In place of the 8254 and the RTC.
        ioapic_write 0x14, $V
        ioapic_write 0x20, $W
        outb_   0x43, $0x34
        outb_   0x40, $0xa9
        outb_   0x40, $0x04
        clear_hits
        wait_hits V, 3
        expect_range "the 8254 interrupts", $3, $-1
        halt_at 0
        hpet_write CONFIG, $2
        settle
        clear_hits
        settle
        settle
        settle
        hits    V
        expect  "not with legacy replacement", $0
        hpet_write TIMER, $INTERRUPT
        hpet_write TIMER+0x20, $INTERRUPT
        compare 0, 1000
        compare 1, 1000
        hpet_write CONFIG, $3
        wait_hits V, 1
        settle
        hits    V
        expect  "comparator 0 takes its place", $1
        hits    W
        expect  "and comparator 1 that of the RTC", $1
        hpet_write CONFIG, $1
        clear_hits
        wait_hits V, 3
        expect_range "afterwards the 8254 is back", $3, $-1
        ret

clear_at_third:
        cmpl    $3, hit_counts + 4 * W
        jb      1f
        hpet_write STATUS, $2
1:      jmp     eoi_lapic

/* EAX = 1 where the counter's ticks in some time are more or fewer than the TSC allows. */
counter_is_wrong:
        rdtsc
        movl    %eax, outer
        hpet_read COUNTER
        movl    %eax, first
        rdtsc
        movl    %eax, inner
        delay_us 20000
        rdtsc
        subl    inner, %eax
        pushl   %eax
        hpet_read COUNTER
        subl    first, %eax
        movl    %eax, first
        rdtsc
        subl    outer, %eax
        call    to_ticks
        addl    $1, %eax
        cmpl    %eax, first
        popl    %eax
        ja      1f
        call    to_ticks
        subl    $1, %eax
        cmpl    %eax, first
        jb      1f
        xorl    %eax, %eax
        ret
1:      movl    $1, %eax
        ret

/* EAX = ticks of the TSC in, of the counter out. */
to_ticks:
        movl    %eax, %ecx
        movl    $1000000000, %eax
        xorl    %edx, %edx
        divl    HPET + 4
        mull    %ecx
        divl    tsc_per_us
        ret

        .bss
        .balign 4
outer:  .skip   4
inner:  .skip   4
first:  .skip   4
