/*
 * The 16550 (National PC16550D): COM2, whose far end takes everything, mostly in loopback mode; its interrupt at pin 3
 * of the I/O APIC.
 */
#include "prelude.S"

        .set    DATA, 0x2f8
        .set    IER, 0x2f9
        .set    IIR, 0x2fa
        .set    FCR, 0x2fa
        .set    LCR, 0x2fb
        .set    MCR, 0x2fc
        .set    LSR, 0x2fd
        .set    MSR, 0x2fe
        .set    SCRATCH, 0x2ff
        .set    V, 0x60
        .set    LOOP, 0x10

.macro write port, value
        outb_   \port, $\value
.endm

/* Sends so many bytes, from 0 upwards, one after the other. */
.macro send count
        movl    $\count, %ecx
        call    send_
.endm

main:
        ioapic_write 0x17, $0
        ioapic_write 0x16, $V
        on      V, eoi_lapic

        // Registers.
        inb_    LSR
        expect  "the transmitter is empty at first", $0x60
        inb_    IIR
        expect  "nothing is pending, without FIFOs", $0x01
        write   SCRATCH, 0x5a
        inb_    SCRATCH
        expect  "the scratch register keeps a byte", $0x5a
        write   IER, 0xff
        inb_    IER
        expect  "four interrupts can be enabled", $0x0f
        write   IER, 0
        write   MCR, 0xff
        inb_    MCR
        expect  "modem control has five bits", $0x1f
        write   MCR, 0
        write   LCR, 0x83
        write   DATA, 0x34
        write   IER, 0x12
        inb_    DATA
        expect  "the divisor's low byte", $0x34
        inb_    IER
        expect  "and high byte, behind a bit", $0x12
        write   LCR, 0x03
        inb_    IER
        expect  "which hides the interrupts, no more", $0
        write   LCR, 0x83
        write   DATA, 0x00
        write   IER, 0x00
        write   LCR, 0x03
        write   DATA, 'x'
        call    wait_sent
        inb_    LSR
        expect  "a divisor of zero stops nobody", $0x60
        write   LCR, 0x83
        write   DATA, 0x01
        write   LCR, 0x03

        // Loopback.
        write   MCR, LOOP
        inb_    MSR
        inb_    MSR
        expect  "looped back, all modem lines are off", $0
        write   MCR, LOOP+1
        inb_    MSR
        expect  "DTR is DSR, and a change", $0x22
        write   MCR, LOOP+2
        inb_    MSR
        expect  "RTS is CTS, and DSR has changed", $0x13
        write   MCR, LOOP+4
        inb_    MSR
        expect  "OUT1 is RI, whose rise is no change", $0x41
        write   MCR, LOOP+8
        inb_    MSR
        expect  "OUT2 is DCD, and RI has fallen", $0x8c
        write   MCR, LOOP
        inb_    MSR
        inb_    MSR
        expect  "reading forgets the changes", $0
        write   DATA, 'A'
        call    wait_ready
        expect  "a byte comes back", $0x61
        inb_    DATA
        expect  "as it was sent", $'A'
        inb_    LSR
        expect  "and is read", $0x60
        write   DATA, 'B'
        call    wait_sent
        write   DATA, 'C'
        call    wait_sent
        inb_    LSR
        expect  "the second of two overruns", $0x63
        inb_    LSR
        expect  "which is told once", $0x61
        inb_    DATA
        expect  "and is the one that stays", $'C'

        // FIFOs.
        write   FCR, 0xc1
        inb_    IIR
        expect  "FIFOs are on", $0xc1
        send    16
        inb_    LSR
        expect  "sixteen fit", $0x61
        write   DATA, 0x55
        call    wait_sent
        inb_    LSR
        expect  "the seventeenth overruns", $0x63
        call    receive
        expect  "the others come in order", $16
        inb_    LSR
        expect  "and no more", $0x60
        send    5
        write   FCR, 0xc3
        inb_    LSR
        expect  "the receive FIFO can be cleared", $0x60
        send    5
        write   FCR, 0x00
        inb_    LSR
        expect  "and is when FIFOs are switched off", $0x60

        // What is pending, by priority.
        write   FCR, 0x41
        write   IER, 0x0f
        inb_    IIR
        expect  "the empty transmitter", $0xc2
        inb_    IIR
        expect  "reading answers it", $0xc1
        write   IER, 0x0d
        write   IER, 0x0f
        inb_    IIR
        expect  "enabling asks again", $0xc2
        write   IER, 0x0d
        send    4
        write   MCR, LOOP+1
        inb_    IIR
        expect  "four bytes, the trigger", $0xc4
        inb_    DATA
        call    wait_timeout
        expect  "three bytes, after a time", $0xcc
        send    14
        inb_    IIR
        expect  "an overrun goes first", $0xc6
        inb_    LSR
        inb_    IIR
        expect  "until line status is read", $0xc4
        call    receive
        inb_    IIR
        expect  "modem status comes last", $0xc0
        inb_    MSR
        inb_    IIR
        expect  "and then there is nothing", $0xc1

        // The interrupt itself.
        sti
        write   IER, 0
        write   MCR, LOOP+8
        write   IER, 0x02
        settle
        hits    V
        expect  "looped back it interrupts nobody", $0
        write   IER, 0
        write   MCR, 0
        write   IER, 0x02
        settle
        hits    V
        expect  "nor without OUT2", $0
        write   MCR, 0x08
        wait_hits V, 1
        expect  "OUT2 opens the way", $1
        inb_    IIR
        settle
        hits    V
        expect  "its fall is no interrupt", $1
        write   DATA, 'y'
        wait_hits V, 2
        expect  "sending empties the transmitter again", $2
        write   IER, 0
        write   IER, 0x02
        wait_hits V, 3
        expect  "enabling it anew interrupts anew", $3
        write   IER, 0
        ret

/* Lets a character be sent. LSR is not looked at, since reading it clears errors. */
wait_sent:
        delay_us 1000
        ret

/* EAX = LSR once a byte is there. */
wait_ready:
        movl    $10000, %ebx
1:      inb_    LSR
        testb   $1, %al
        jnz     2f
        delay_us 100
        decl    %ebx
        jnz     1b
2:      ret

/* EAX = IIR once there is a time-out. */
wait_timeout:
        movl    $10000, %ebx
1:      inb_    IIR
        cmpb    $0xcc, %al
        je      2f
        delay_us 100
        decl    %ebx
        jnz     1b
2:      ret

send_:
        xorl    %ebx, %ebx
        movl    %ecx, %edi
1:      movb    %bl, %al
        movw    $DATA, %dx
        outb    %al, %dx
        call    wait_sent
        incl    %ebx
        cmpl    %edi, %ebx
        jb      1b
        ret

/* Reads all there is; EAX = how many came counted from 0 upwards. */
receive:
        xorl    %ebx, %ebx
        xorl    %esi, %esi
1:      inb_    LSR
        testb   $1, %al
        jz      2f
        inb_    DATA
        cmpl    %ebx, %eax
        jne     3f
        incl    %esi
3:      incl    %ebx
        cmpl    $100, %ebx
        jb      1b
2:      movl    %esi, %eax
        ret
