/*
 * The 8259 pair (Intel 231468-003) with the ELCR (82371AB, 4.2.2), by way of LINT0 as ExtINT.
 *
 * Requests are made with what can be raised and lowered at will: IRQ 3 and 4 by the COM ports' transmitters, which are
 * empty, and IRQ 8 by the RTC's periodic interrupt. COM1 also prints, so that its request is lowered before a check.
 */
#include "prelude.S"

        .set    COM2, 0x2f8
        .set    V3, 0x23
        .set    V4, 0x24
        .set    V8, 0x28

/* Initializes both with these ICW4; all masked. */
.macro init master, slave
        outb_   0x20, $0x11
        outb_   0x21, $0x20
        outb_   0x21, $0x04
        outb_   0x21, $\master
        outb_   0xa0, $0x11
        outb_   0xa1, $0x28
        outb_   0xa1, $0x02
        outb_   0xa1, $\slave
        outb_   0x21, $0xff
        outb_   0xa1, $0xff
.endm

.macro ocw2 value
        outb_   0x20, $\value
.endm

.macro ocw3 value
        outb_   0x20, $\value
.endm

.macro mask master, slave=0xff
        outb_   0x21, $\master
        outb_   0xa1, $\slave
.endm

/* EAX = the master's ISR; later reads give the IRR again. */
.macro isr
        outb_   0x20, $0x0b
        inb_    0x20
        pushl   %eax
        outb_   0x20, $0x0a
        popl    %eax
.endm

.macro irr
        outb_   0x20, $0x0a
        inb_    0x20
.endm

/* EAX = what a poll of the chip at this port gives. */
.macro poll port=0x20
        outb_   \port, $0x0c
        inb_    \port
.endm

main:
        movl    LAPIC + 0x350, %eax
        expect  "LINT0 is open to the pair at start", $0x700
        outb_   COM1 + 1, $0
        outb_   COM1 + 4, $0x0b
        outb_   COM2 + 1, $0
        outb_   COM2 + 4, $0x0b

        // Initialization.
        mask    0xff
        outb_   0x20, $0x11
        outb_   0x21, $0x20
        outb_   0x21, $0x04
        outb_   0x21, $0x01
        inb_    0x21
        expect  "ICW1 clears the mask", $0
        init    0x01, 0x01
        mask    0xa5, 0x5a
        inb_    0x21
        expect  "the mask reads back", $0xa5
        inb_    0xa1
        expect  "and that of the second chip", $0x5a
        mask    0xff
        outb_   0x20, $0x0b
        call    raise3
        init    0x01, 0x01
        inb_    0x20
        expect  "initialization forgets an edge and selects the IRR", $0
        call    lower3

        // Requests.
        call    raise3
        irr
        expect  "a masked request shows in the IRR", $0x08
        call    lower3
        irr
        expect  "a request that goes away leaves nothing", $0
        mask    0xf7
        call    raise3
        sti
        wait_hits V3, 1
        cli
        expect  "an edge interrupts", $1
        isr
        expect  "it is in service", $0x08
        irr
        expect  "its request is gone though the input is high", $0
        ocw2    0x20
        isr
        expect  "EOI ends it", $0
        settle
        hits    V3
        expect  "an input that stays high interrupts no second time", $1
        call    lower3

        // Priority and nesting.
        clear_hits
        mask    0xe7
        call    raise3
        sti
        wait_hits V3, 1
        call    raise4
        settle
        call    lower4
        hits    V4
        expect  "a lower priority waits", $0
        call    raise4
        ocw2    0x20
        wait_hits V4, 1
        call    lower4
        expect  "until EOI", $1
        call    lower3
        call    raise3
        wait_hits V3, 2
        expect  "a higher priority does not wait", $2
        isr
        expect  "both are in service", $0x18
        ocw2    0x64
        isr
        expect  "a specific EOI ends the one it names", $0x08
        ocw2    0x20
        call    lower3
        cli

        // Who comes first.
        on      V3, eoi_master
        on      V4, eoi_master
        call    raise_both
        expect  "IRQ 3 goes before IRQ 4", $0x2324
        ocw2    0xc3
        call    raise_both
        expect  "set priority makes IRQ 3 the last", $0x2423
        ocw2    0xc7
        on      V3, rotate_on_eoi
        call    raise_both
        on      V3, eoi_master
        call    raise_both
        expect  "rotation on EOI makes the one that ends the last", $0x2423
        on      V4, rotate_on_eoi_of_4
        call    raise_both
        on      V4, eoi_master
        call    raise_both
        expect  "and rotation on specific EOI", $0x2324
        ocw2    0xc7

        // Special mask mode.
        clear_hits
        on      V3, 0
        mask    0xe7
        call    raise3
        sti
        wait_hits V3, 1
        mask    0xef
        call    raise4
        settle
        call    lower4
        hits    V4
        expect  "masking what is in service frees nobody", $0
        on      V4, 0
        ocw3    0x68
        call    raise4
        wait_hits V4, 1
        call    lower4
        expect  "unless in special mask mode", $1
        ocw2    0x20
        isr
        expect  "where an EOI is for what is not masked", $0x08
        ocw2    0x20
        isr
        expect  "and another is for nobody", $0x08
        ocw3    0x48
        ocw2    0x20
        isr
        expect  "without the mode it is for all", $0
        call    lower3
        cli

        // Polling.
        mask    0xe7
        poll
        expect  "a poll finds nothing", $0
        call    raise4
        call    raise3
        call    lower4
        call    raise4
        poll
        expect  "a poll tells the first of two requests", $0x83
        isr
        expect  "and puts it in service", $0x08
        poll
        expect  "a poll tells nothing of less priority", $0
        ocw2    0x20
        poll
        expect  "until that has ended", $0x84
        ocw2    0x20
        call    lower4
        call    lower3
        mask    0xff, 0xfe
        call    raise8
        poll    0xa0
        expect  "a poll of the second chip", $0x80
        outb_   0xa0, $0x20
        call    lower8
        mask    0xff

        // Automatic EOI.
        init    0x03, 0x01
        clear_hits
        mask    0xe7
        call    raise3
        sti
        wait_hits V3, 1
        cli
        isr
        expect  "automatic EOI leaves nothing in service", $0
        call    lower3
        call    raise3
        sti
        wait_hits V3, 2
        cli
        call    lower3
        expect  "the next edge needs no EOI", $2
        on      V3, 0
        on      V4, 0
        ocw2    0x80
        call    raise_both
        expect  "order before rotation in automatic EOI mode", $0x2324
        call    raise3
        sti
        settle
        cli
        call    lower3
        call    raise_both
        expect  "which makes the one taken last the last", $0x2423
        ocw2    0x00
        ocw2    0xc7
        call    raise3
        sti
        settle
        cli
        call    lower3
        call    raise_both
        expect  "until it is switched off", $0x2324

        // The second chip.
        init    0x01, 0x01
        clear_hits
        mask    0xfb, 0xfe
        call    raise8
        sti
        wait_hits V8, 1
        cli
        expect  "the second chip interrupts by the first", $1
        isr
        expect  "which has its input 2 in service", $0x04
        outb_   0xa0, $0x0b
        inb_    0xa0
        expect  "and the second its own 0", $0x01
        call    lower8
        mask    0xf3, 0xfe
        call    raise3
        sti
        settle
        cli
        call    lower3
        hits    V3
        expect  "input 2 goes before input 3", $0
        outb_   0xa0, $0x20
        call    raise8
        sti
        settle
        cli
        hits    V8
        expect  "without EOI of the first nothing comes of the second", $1
        ocw2    0x62
        sti
        wait_hits V8, 2
        cli
        expect  "after it the next does", $2
        call    lower8
        outb_   0xa0, $0x20
        ocw2    0x20
        init    0x11, 0x01
        clear_hits
        mask    0xfb, 0xfe
        call    raise8
        sti
        wait_hits V8, 1
        call    lower8
        outb_   0xa0, $0x20
        call    raise8
        wait_hits V8, 2
        cli
        expect  "specially nested, the second needs no EOI of the first", $2
        call    lower8
        outb_   0xa0, $0x20
        ocw2    0x20

        // Edge and level.
        init    0x01, 0x01
        mask    0xff
        outb_   0x4d0, $0xff
        inb_    0x4d0
        expect  "timer, keyboard and cascade cannot be level triggered", $0xf8
        outb_   0x4d1, $0xff
        inb_    0x4d1
        expect  "nor RTC and coprocessor", $0xde
        outb_   0x4d0, $0x08
        outb_   0x4d1, $0x00
        clear_hits
        on      V3, lower_at_third
        mask    0xf7
        call    raise3
        sti
        wait_hits V3, 3
        settle
        cli
        hits    V3
        expect  "a level interrupts until it falls", $3
        call    raise3
        irr
        expect  "a level shows in the IRR", $0x08
        outb_   0x4d0, $0x00
        irr
        expect  "it is no edge when the input is made edge triggered", $0
        call    lower3

        // What the processor does with them.
        on      V3, eoi_master
        clear_hits
        call    raise3
        settle
        call    lower3
        hits    V3
        expect  "a last time by LINT0", $1
        lapic_write 0x350, $0x10700
        call    raise3
        settle
        hits    V3
        expect  "a masked LINT0 holds it back", $1
        lapic_write 0x350, $0x700
        settle
        hits    V3
        expect  "and lets it through again", $2
        call    lower3
        mask    0xff
        ret

/* Both requests at once; AX = the vector before the last, and the last. */
raise_both:
        mask    0xe7
        cli
        call    raise4
        call    raise3
        sti
        settle
        cli
        call    lower3
        call    lower4
        movzwl  recent, %eax
        ret

rotate_on_eoi:
        movb    $0xa0, %al
        outb    %al, $0x20
        ret

rotate_on_eoi_of_4:
        movb    $0xe4, %al
        outb    %al, $0x20
        ret

lower_at_third:
        cmpl    $3, hit_counts + 4 * V3
        jb      1f
        call    lower3
1:      jmp     eoi_master

/* These keep all registers and flags. */
.macro routine name
\name:
        pushfl
        pushal
.endm

.macro end_routine
        popal
        popfl
        ret
.endm

routine raise3
        outb_   COM2 + 1, $0x02
end_routine

routine lower3
        outb_   COM2 + 1, $0x00
end_routine

routine raise4
        outb_   COM1 + 1, $0x02
end_routine

routine lower4
        outb_   COM1 + 1, $0x00
end_routine

/* 8192 times a second; the request stays until register C is read. */
routine raise8
        cli
        outb_   0x70, $0x0a
        outb_   0x71, $0x23
        outb_   0x70, $0x0c
        inb_    0x71
        outb_   0x70, $0x0b
        outb_   0x71, $0x42
        movl    $50000, %ebx
1:      outb_   0xa0, $0x0a
        inb_    0xa0
        testb   $1, %al
        jnz     2f
        delay_us 20
        decl    %ebx
        jnz     1b
2:
end_routine

routine lower8
        outb_   0x70, $0x0b
        outb_   0x71, $0x02
        outb_   0x70, $0x0c
        inb_    0x71
end_routine
