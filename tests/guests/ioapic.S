/*
 * The I/O APIC (Intel 82093AA; EOI register: ICH data sheets). Pins 3 and 4 are driven by the COM ports' transmitters,
 * which are empty, pin 2 by the 8254, pin 0 by the 8259 pair. COM1 also prints: its request is lowered before a check.
 */
#include "prelude.S"

        .set    V, 0x60
        .set    W, 0x71
        .set    LEVEL, 0x8000
        .set    REMOTE_IRR, 0x4000
        .set    MASKED, 0x10000

/* Sets a pin's whole entry: closed first, so that no half is used. */
.macro entry pin, low, dest=0
        ioapic_write 0x10+2*\pin, $MASKED
        ioapic_write 0x11+2*\pin, $(\dest) << 24
        ioapic_write 0x10+2*\pin, $(\low)
.endm

/* EAX = the low half of a pin's entry. */
.macro read_entry pin
        ioapic_read 0x10+2*\pin
.endm

/* EAX = the bit of V in a LAPIC's array of vectors. */
.macro vector_bit reg
        movl    LAPIC + \reg + 0x10 * (V >> 5), %eax
        shrl    $(V & 31), %eax
        andl    $1, %eax
.endm

/* Waits, and gives the hits of V on CPU 0. */
.macro after vector=V, cpu=0
        settle
        hits    \vector, \cpu
.endm

main:
        outb_   COM1 + 1, $0
        outb_   COM1 + 4, $0x0b
        outb_   0x2f9, $0
        outb_   0x2fc, $0x0b
        on      V, eoi_lapic
        on      W, eoi_lapic

        // Registers.
        ioapic_read 1
        expect  "24 pins, version 0x20", $0x170020
        ioapic_write 0, $0xff000000
        ioapic_read 0
        expect  "the id has four bits", $0x0f000000
        ioapic_write 0, $0
        read_entry 23
        expect  "an entry is masked at first", $MASKED
        ioapic_write 0x3e, $-1
        ioapic_write 0x3f, $-1
        read_entry 23
        expect  "delivery status and Remote IRR cannot be written", $0x1afff
        ioapic_read 0x3f
        expect  "the destination has eight bits", $0xff000000
        ioapic_write 0x3e, $MASKED
        ioapic_write 0x40, $-1
        ioapic_read 0x40
        expect  "there is no pin 24", $0

        // Edges.
        entry   3, V
        call    raise3
        after
        expect  "an edge interrupts", $1
        vector_bit 0x180
        expect  "which the LAPIC knows as one", $0
        call    lower3
        after
        expect  "its fall does not", $1
        call    raise3
        after
        expect  "the next does", $2
        entry   3, MASKED + V
        call    lower3
        call    raise3
        entry   3, V
        after
        expect  "an edge at a masked pin is lost", $2
        call    lower3

        // Levels.
        clear_hits
        on      V, lower_at_third
        entry   3, LEVEL + V
        call    raise3
        after
        expect  "a level interrupts until it falls", $3
        vector_bit 0x180
        expect  "the LAPIC knows it as a level", $1
        on      V, 0
        call    raise3
        settle
        read_entry 3
        expect  "Remote IRR is set while it is served", $LEVEL + REMOTE_IRR + V
        call    lower3
        read_entry 3
        expect  "even if it falls", $LEVEL + REMOTE_IRR + V
        lapic_write 0xb0, $0
        read_entry 3
        expect  "EOI clears it", $LEVEL + V
        clear_hits
        ioapic_write 0x16, $MASKED + LEVEL + V
        call    raise3
        after
        expect  "a masked level waits", $0
        ioapic_write 0x16, $LEVEL + V
        after
        expect  "and is not lost", $1
        ioapic_write 0x16, $MASKED + LEVEL + V
        lapic_write 0xb0, $0
        after
        expect  "masked while it is served it does not come again", $1
        ioapic_write 0x16, $LEVEL + V
        after
        expect  "until it is open", $2
        ioapic_write 0x16, $MASKED + V
        read_entry 3
        expect  "a turn through edge mode clears Remote IRR", $MASKED + V
        call    lower3
        lapic_write 0xb0, $0

        // EOI kept from the I/O APIC.
        lapic_write 0xf0, $0x11ff
        clear_hits
        entry   3, LEVEL + V
        call    raise3
        settle
        lapic_write 0xb0, $0
        after
        expect  "a suppressed EOI leaves Remote IRR", $1
        read_entry 3
        expect  "and nothing comes again", $LEVEL + REMOTE_IRR + V
        movl    $W, IOAPIC + 0x40
        read_entry 3
        expect  "the EOI register is for a vector", $LEVEL + REMOTE_IRR + V
        movl    $V, IOAPIC + 0x40
        after
        expect  "and does what the broadcast did not", $2
        call    lower3
        lapic_write 0xb0, $0
        movl    $V, IOAPIC + 0x40
        lapic_write 0xf0, $0x1ff
        on      V, eoi_lapic

        // Two pins of one vector, both high.
        clear_hits
        on      V, lower_both
        entry   3, LEVEL + V
        entry   4, LEVEL + V
        cli
        call    raise3
        call    raise4
        after
        pushl   %eax
        call    lower3
        call    lower4
        popl    %eax
        expect  "two pins may share a vector", $1
        read_entry 3
        expect  "one EOI ends both", $LEVEL + V
        read_entry 4
        expect  "as it should", $LEVEL + V
        on      V, eoi_lapic
        entry   4, MASKED

        // Delivery modes.
        clear_hits
        entry   3, 0x400 + V
        call    raise3
        after   2
        expect  "an NMI", $1
        call    lower3
        entry   3, 0x200 + V
        call    raise3
        after
        expect  "an SMI reaches nobody here", $0
        call    lower3
        entry   3, 0x100 + V
        call    raise3
        after
        expect  "lowest priority among one", $1
        call    lower3
        start_pic 0xf7
        lapic_write 0x350, $MASKED
        entry   3, MASKED
        entry   0, 0x700
        clear_hits
        call    raise3
        after   0x23
        expect  "ExtINT through pin 0 takes the pair's vector", $1
        call    lower3
        outb_   0x20, $0x20
        entry   0, MASKED
        outb_   0x21, $0xff

        // The timer's wire leads to pin 2.
        clear_hits
        entry   2, V
        outb_   0x43, $0x30
        outb_   0x40, $0x00
        outb_   0x40, $0x01
        sti
        wait_hits V, 1
        after
        expect  "the 8254 is at pin 2", $1
        entry   2, MASKED

        // Other CPUs.
        start_aps 4
        clear_hits
        entry   3, V, 2
        call    raise3
        expect_who "to one CPU and no other", 0x0100, V
        call    lower3
        movl    $-1, LAPIC + 0xe0
        movl    $0x01000000, LAPIC + 0xd0
        run_on  1, logical_2
        wait_idle 1
        clear_hits
        entry   3, 0x800 + V, 3
        call    raise3
        expect_who "logical: to two", 0x0011, V
        call    lower3
        clear_hits
        entry   3, 0x900 + V, 3
        lapic_write 0x80, $0x50
        call    raise3
        expect_who "the lower priority gets it", 0x0010, V
        lapic_write 0x80, $0
        call    lower3
        entry   3, 0x500, 3
        movl    $1, work + 12
        call    raise3
        delay_us 1000
        call    lower3
        movl    $3, %eax
        call    start_sipi
        wait_idle 3
        expect  "an INIT, after which it can be started", $0
        run_on  2, switch_off
        wait_idle 2
        on      V, 0
        clear_hits
        entry   3, LEVEL + V, 2
        call    raise3
        settle
        read_entry 3
        expect  "a level that nobody takes leaves no Remote IRR", $LEVEL + V
        movl    $switch_on, work + 8
        icr     2, 0x400
        wait_idle 2
        expect_who "and is taken as soon as somebody can", 0x0100, V
        read_entry 3
        expect  "as any other", $LEVEL + REMOTE_IRR + V
        icr     2, 0x4500
        call    wait_no_remote_irr
        expect  "INIT of the CPU that serves it lets it be offered again", $LEVEL + V
        call    lower3
        ret

/* Waits, 10 seconds at most, until pin 3 has no Remote IRR; EAX = its entry. */
wait_no_remote_irr:
        call    ten_seconds
1:      read_entry 3
        testl   $REMOTE_IRR, %eax
        jz      2f
        call    is_waiting
        jc      1b
        read_entry 3
2:      ret

logical_2:
        movl    $-1, LAPIC + 0xe0
        movl    $0x02000000, LAPIC + 0xd0
        ret

/* Sends the CPU in EAX, which waits for it, a start-up message. */
start_sipi:
        shll    $24, %eax
        movl    %eax, LAPIC + 0x310
        movl    $0x4600 + PAGE_OF_AP_START, LAPIC + 0x300
        ret

lower_at_third:
        cmpl    $3, hit_counts + 4 * V
        jb      1f
        call    lower3
1:      jmp     eoi_lapic

lower_both:
        call    lower3
        call    lower4
        jmp     eoi_lapic

raise3:
        outb_   0x2f9, $0x02
        ret

lower3:
        outb_   0x2f9, $0x00
        ret

raise4:
        outb_   COM1 + 1, $0x02
        ret

lower4:
        outb_   COM1 + 1, $0x00
        ret
