/*
 * The 8254 (Intel 231164-005) and port 61h. Counter 2 stands still while its gate is low, which makes most of it exact;
 * counter 0 interrupts through the 8259 pair. What runs is only held against lower bounds of time.
 */
#include "prelude.S"

        .set    V0, 0x20
        .set    OUT, 0x20

.macro control value
        outb_   0x43, $\value
.endm

.macro gate on
        outb_   0x61, $\on
        delay_us 10
.endm

/* Writes a count of counter 2, low byte first, and lets it be loaded. */
.macro count value
        outb_   0x42, $((\value) & 0xff)
        outb_   0x42, $((\value) >> 8)
        delay_us 10
.endm

/* EAX = the next two bytes of counter 2, low one first. */
.macro read_count
        call    read_count_
.endm

.macro latch
        control 0x80
.endm

/* EAX = the status byte of counter 2. */
.macro status
        control 0xe8
        inb_    0x42
.endm

/* EAX = OUT of counter 2: 0 or 1. */
.macro out2
        inb_    0x61
        shrl    $5, %eax
        andl    $1, %eax
.endm

main:
        // Port 61h.
        outb_   0x61, $0x02
        inb_    0x61
        andl    $0x03, %eax
        expect  "port 61h keeps the speaker bit", $0x02
        outb_   0x61, $0x00
        movl    $0x10, %ebx
        call    wait_port61
        expect  "the refresh bit rises", $0x10
        movl    $0x00, %ebx
        call    wait_port61
        expect  "and falls", $0x00

        // Mode 0, with the gate low.
        gate    0
        control 0xb0
        status
        expect  "mode 0: OUT falls with the control word, no count yet", $0x70
        count   0x1234
        status
        expect  "the count is loaded though the gate is low", $0x30
        latch
        read_count
        expect  "and stands still", $0x1234
        read_count
        expect  "it can be read without a latch", $0x1234

        // Latches.
        latch
        count   0x5678
        latch
        read_count
        expect  "a latch holds until it is read, another does nothing", $0x1234
        read_count
        expect  "then the counter shows", $0x5678
        control 0xc8
        inb_    0x42
        expect  "read-back of both gives the status first", $0x30
        read_count
        expect  "then the count", $0x5678
        control 0xd8
        count   0x1111
        read_count
        expect  "read-back of the count alone is a latch", $0x5678
        control 0x30
        control 0xe2
        inb_    0x40
        expect  "counter 0's status is its own", $0x70
        read_count
        expect  "and read-back leaves the others alone", $0x1111

        // Access modes.
        control 0x90
        outb_   0x42, $0x56
        delay_us 10
        inb_    0x42
        expect  "low byte only: it reads back", $0x56
        control 0xb0
        count   0x4321
        control 0xa0
        outb_   0x42, $0x87
        delay_us 10
        inb_    0x42
        expect  "high byte only: it reads back", $0x87
        latch
        inb_    0x42
        expect  "and latched", $0x87
        control 0xb0
        count   0x1234
        inb_    0x42
        movl    %eax, %ebx
        outb_   0x42, $0x78
        inb_    0x42
        shll    $8, %eax
        orl     %eax, %ebx
        outb_   0x42, $0x56
        delay_us 10
        movl    %ebx, %eax
        expect  "reads and writes keep their own order of bytes", $0x1234
        read_count
        expect  "and both arrive", $0x5678

        // Mode 0 runs.
        control 0xb0
        outb_   0x42, $0xa9
        outb_   0x42, $0x04
        call    stopwatch
        outb_   0x61, $0x01
        call    wait_out2
        expect  "mode 0: OUT rises at the end", $1
        call    elapsed_us
        expect_range "not before its time", $998, $-1
        delay_us 100
        out2
        expect  "and stays high", $1
        gate    0
        outb_   0x42, $0x00
        delay_us 10
        out2
        expect  "the first byte of a new count lowers OUT", $0
        outb_   0x42, $0x00
        delay_us 10
        read_count
        expect  "a count of zero shows as zero", $0
        call    stopwatch
        outb_   0x61, $0x01
        call    wait_out2
        call    elapsed_us
        expect_range "and lasts 65536 ticks", $54920, $-1
        gate    0
        control 0xb0
        count   1
        gate    1
        call    wait_out2
        expect  "a count of one ends", $1

        // Mode 1: the gate triggers.
        gate    0
        control 0xb2
        status
        expect  "mode 1: OUT is high from the control word", $0xf2
        count   0
        status
        expect  "the count waits for a trigger", $0xf2
        call    trigger_until_low
        expect  "which lowers OUT", $0
        status
        andl    $0x40, %eax
        expect  "and loads the count", $0
        gate    0
        call    stopwatch
        gate    1
        call    wait_out2
        expect  "OUT rises in the end", $1
        call    elapsed_us
        expect_range "a trigger starts anew", $54920, $-1
        out2
        expect  "and no more without one", $1

        // Modes 2 and 3.
        gate    0
        control 0xb4
        count   0x0005
        status
        expect  "mode 2: OUT is high, the count loaded", $0xb4
        latch
        read_count
        expect  "the gate holds it back", $0x0005
        gate    1
        movl    $check_five, %ebx
        call    sample
        expect  "mode 2 counts from N to 1", $0
        gate    0
        status
        andl    $0x80, %eax
        expect  "a low gate keeps OUT high", $0x80
        control 0xb6
        count   0x0064
        gate    1
        movl    $check_even, %ebx
        call    sample
        expect  "mode 3 counts by twos", $0
        movl    $OUT, %ebx
        call    wait_port61_out
        expect  "its OUT is high for a time", $OUT
        movl    $0, %ebx
        call    wait_port61_out
        expect  "and low for a time", $0
        gate    0
        out2
        expect  "high at once when the gate falls", $1
        control 0xb6
        count   0x0065
        gate    1
        movl    $check_even, %ebx
        call    sample
        expect  "mode 3 counts odd numbers by twos as well", $0

        // BCD.
        gate    0
        control 0xb1
        count   0x9876
        latch
        read_count
        expect  "a count in BCD reads back", $0x9876
        control 0xb5
        count   0x0000
        gate    1
        movl    $check_digits, %ebx
        call    sample
        expect  "it counts in decimal digits", $0

        // Modes 4 and 5.
        gate    0
        control 0xb8
        status
        expect  "mode 4: OUT is high", $0xf8
        count   0x1234
        latch
        read_count
        expect  "the gate holds it back, loaded", $0x1234
        control 0xba
        count   0x1234
        status
        expect  "mode 5: the count waits for a trigger", $0xfa
        control 0xe8
        gate    1
        status
        expect  "a status latch holds until it is read, another does nothing", $0xfa
        status
        andl    $0x40, %eax
        expect  "the trigger has loaded it", $0
        gate    0

        // Counter 0 interrupts.
        start_pic 0xfe
        on      V0, eoi_master
        control 0x30
        outb_   0x40, $0x00
        outb_   0x40, $0x01
        sti
        wait_hits V0, 1
        settle
        cli
        hits    V0
        expect  "mode 0 interrupts once", $1
        clear_hits
        control 0x38
        outb_   0x40, $0x00
        outb_   0x40, $0x01
        sti
        wait_hits V0, 1
        settle
        cli
        hits    V0
        expect  "mode 4 interrupts once", $1
        clear_hits
        outb_   0x40, $0x00
        outb_   0x40, $0x01
        sti
        wait_hits V0, 1
        cli
        expect  "and again for another count", $1
        clear_hits
        control 0x34
        outb_   0x40, $0xa9
        outb_   0x40, $0x04
        call    stopwatch
        sti
        wait_hits V0, 20
        call    elapsed_us
        cli
        expect_range "mode 2 interrupts each period, not more often", $18990, $-1
        clear_hits
        control 0x36
        outb_   0x40, $0xa9
        outb_   0x40, $0x04
        call    stopwatch
        sti
        wait_hits V0, 20
        call    elapsed_us
        cli
        expect_range "and mode 3", $18990, $-1
        control 0x34
        settle
        clear_hits
        settle
        hits    V0
        expect  "the control word stops it until there is a count", $0
        ret

read_count_:
        inb_    0x42
        movl    %eax, %ecx
        inb_    0x42
        movb    %al, %ch
        movl    %ecx, %eax
        ret

/* Waits for the refresh bit, or OUT, to be EBX; EAX = what it is in the end. Keeps EBX. */
wait_port61:
        movl    $0x10, %esi
        jmp     1f
wait_port61_out:
        movl    $OUT, %esi
1:      movl    $1000000, %edi
2:      inb_    0x61
        andl    %esi, %eax
        cmpl    %ebx, %eax
        je      3f
        delay_us 3
        decl    %edi
        jnz     2b
        inb_    0x61
        andl    %esi, %eax
3:      ret

/* Waits until OUT of counter 2 is high; EAX = whether it is. */
wait_out2:
        movl    $OUT, %ebx
        call    wait_port61_out
        shrl    $5, %eax
        ret

/* Triggers by the gate, again if somebody was slow to look; EAX = OUT. */
trigger_until_low:
        movl    $100, %ebx
1:      gate    0
        gate    1
        out2
        testl   %eax, %eax
        jz      2f
        decl    %ebx
        jnz     1b
2:      ret

/* Latches and reads counter 2 a thousand times; EAX = how often the routine in EBX, given the count, sets the carry. */
sample:
        movl    $1000, %edi
        xorl    %esi, %esi
1:      latch
        read_count
        call    *%ebx
        adcl    $0, %esi
        delay_us 2
        decl    %edi
        jnz     1b
        movl    %esi, %eax
        ret

check_five:
        decl    %eax
        cmpl    $4, %eax
        ja      bad
good:
        clc
        ret
bad:
        stc
        ret

check_even:
        testb   $1, %al
        jnz     bad
        cmpl    $0x64, %eax
        ja      bad
        jmp     good

check_digits:
        movl    $4, %ecx
1:      movl    %eax, %edx
        andl    $0xf, %edx
        cmpl    $9, %edx
        ja      bad
        shrl    $4, %eax
        decl    %ecx
        jnz     1b
        jmp     good

        .bss
        .balign 4
