/*
 * The MC146818 real-time clock, its interrupt at pin 8 of the I/O APIC, and its memory. Seconds are long: few of the
 * checks wait for one.
 */
#include "prelude.S"

        .set    V, 0x60
        .set    SECOND, 0
        .set    MINUTE, 2
        .set    HOUR, 4
        .set    WEEKDAY, 6
        .set    DAY, 7
        .set    MONTH, 8
        .set    YEAR, 9
        .set    A, 10
        .set    B, 11
        .set    C, 12
        .set    D, 13
        .set    CENTURY, 0x32
        .set    SET, 0x80
        .set    UIP, 0x80

.macro read index
        outb_   0x70, $\index
        inb_    0x71
.endm

.macro write index, value
        outb_   0x70, $\index
        outb_   0x71, $\value
.endm

/* Stops the clock, sets it, and starts it again with register B as said. */
.macro set b, century, year, month, day, weekday, hour, minute, second
        write   B, SET | \b
        write   CENTURY, \century
        write   YEAR, \year
        write   MONTH, \month
        write   DAY, \day
        write   WEEKDAY, \weekday
        write   HOUR, \hour
        write   MINUTE, \minute
        write   SECOND, \second
        write   B, \b
.endm

/* Waits, 10 seconds at most, until the register is something; EAX = what it is in the end. */
.macro until index, value
        movl    $\index, %esi
        movl    $\value, %edi
        call    until_
.endm

/* The same for some of the bits being set. */
.macro until_bits index, bits
        movl    $\index, %esi
        movl    $\bits, %edi
        call    until_bits_
.endm

main:
        ioapic_write 0x21, $0
        ioapic_write 0x20, $V
        read    D
        expect  "the battery is good", $0x80
        write   A, 0xa6
        read    A
        andl    $0x7f, %eax
        expect  "UIP cannot be written", $0x26
        write   C, 0xff
        read    B
        andl    $0x06, %eax
        expect  "24 hours, BCD at first", $0x02

        // Memory.
        write   0x0e, 0x5a
        write   0x7f, 0xa5
        outb_   0x72, $0x10
        outb_   0x73, $0x3c
        read    0x0e
        expect  "memory keeps what is written", $0x5a
        outb_   0x70, $0xff
        inb_    0x71
        expect  "the index has seven bits", $0xa5
        outb_   0x72, $0x10
        inb_    0x73
        expect  "there is a second bank", $0x3c
        read    0x10
        expect  "of its own", $0

        // Setting the time.
        write   B, SET | 2
        write   SECOND, 0x30
        write   MINUTE, 0x15
        delay_us 1200000
        read    SECOND
        expect  "with SET the clock stands still", $0x30
        read    A
        andl    $UIP, %eax
        expect  "and no update is in progress", $0
        set     2, 0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x58
        read    MINUTE
        expect  "a time that was set stays set", $0x59
        until   CENTURY, 0x20
        expect  "a century ends", $0x20
        read    YEAR
        expect  "in the year 0", $0
        read    MONTH
        expect  "in January", $0x01
        read    DAY
        expect  "on the first", $0x01
        read    WEEKDAY
        expect  "a Saturday", $7
        read    HOUR
        expect  "at midnight", $0
        set     2, 0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x59
        until   DAY, 0x29
        expect  "2024 is a leap year", $0x29
        set     6, 20, 23, 2, 28, 3, 23, 59, 59
        until   DAY, 1
        expect  "in binary: 2023 is none", $1
        read    MONTH
        expect  "and March begins", $3
        set     0, 0x20, 0x26, 0x11, 0x22, 1, 0x91, 0x59, 0x59
        until   HOUR, 0x12
        expect  "twelve hours: after 11 pm comes 12 am", $0x12
        read    DAY
        expect  "of the next day", $0x23
        set     0, 0x20, 0x26, 0x11, 0x22, 1, 0x12, 0x59, 0x59
        until   HOUR, 0x01
        expect  "and after 12 am 1 am", $0x01
        set     0, 0x20, 0x26, 0x11, 0x22, 1, 0x11, 0x59, 0x59
        until   HOUR, 0x92
        expect  "and after 11 am 12 pm", $0x92

        // Updates.
        read    C
        until_bits A, UIP
        andl    $UIP, %eax
        expect  "an update shows before it comes", $UIP
        until_bits C, 0x10
        andl    $0x90, %eax
        expect  "its flag is set without interrupt", $0x10
        hits    V
        expect  "which is none", $0
        on      V, eoi_lapic
        read    C
        write   B, 0x12
        sti
        wait_hits V, 1
        cli
        expect  "the update interrupts", $1
        read    C
        andl    $0x90, %eax
        expect  "and says so", $0x90
        read    C
        andl    $0x90, %eax
        expect  "until it is read", $0
        write   B, 0x02

        // The alarm, in the second after next.
        set     2, 0x20, 0x26, 0x11, 0x22, 1, 0x10, 0x20, 0x57
        write   1, 0x59
        write   3, 0x20
        write   5, 0x10
        clear_hits
        read    C
        write   B, 0x22
        call    stopwatch
        sti
        wait_hits V, 1
        cli
        expect  "the alarm interrupts", $1
        read    C
        andl    $0xa0, %eax
        expect  "and says so", $0xa0
        call    elapsed_us
        expect_range "not before its time", $1400000, $-1
        write   1, 0xff
        write   3, 0xc0
        write   5, 0xff
        clear_hits
        sti
        wait_hits V, 1
        cli
        expect  "times that do not matter match each second", $1
        write   B, 0x02
        read    C

        // Periodic.
        clear_hits
        write   A, 0x26
        write   B, 0x42
        sti
        wait_hits V, 1
        settle
        settle
        settle
        cli
        hits    V
        expect  "the periodic interrupt waits for register C", $1
        on      V, read_c
        read    C
        clear_hits
        call    stopwatch
        sti
        wait_hits V, 20
        cli
        expect_range "then it comes again and again", $20, $-1
        call    elapsed_us
        // The first may have been due for most of a period when the stopwatch began.
        expect_range "not more often than its rate", $17600, $-1
        write   B, 0x02
        read    C
        // One that came before may wait for the CPU.
        settle
        clear_hits
        settle
        settle
        hits    V
        expect  "until it is disabled", $0
        write   A, 0x20
        read    C
        delay_us 5000
        read    C
        andl    $0x40, %eax
        expect  "rate 0 is none", $0
        write   A, 0x26
        ret

until_:
        call    ten_seconds
1:      call    indexed
        cmpl    %edi, %eax
        je      2f
        call    is_waiting
        jc      1b
        call    indexed
2:      ret

until_bits_:
        call    ten_seconds
1:      call    indexed
        testl   %edi, %eax
        jnz     2f
        call    is_waiting
        jc      1b
        call    indexed
2:      ret

/* EAX = the register with the index in ESI. */
indexed:
        movl    %esi, %eax
        outb    %al, $0x70
        xorl    %eax, %eax
        inb     $0x71, %al
        ret

read_c:
        movb    $C, %al
        outb    %al, $0x70
        inb     $0x71, %al
        jmp     eoi_lapic

        .bss
        .balign 4
