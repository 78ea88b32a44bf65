/*
 * PCI (PCI 3.0): both ways to configuration space, BARs, capabilities, MSI-X and INTA#, by the example of the virtio-rnd
 * (virtio 1.2, 4.1), which raises an interrupt for every request.
 */
#include "prelude.S"

        .set    ECAM, 0xe0000000
        .set    RND, 0x10441af4
        .set    COMMAND, 0x04
        .set    BAR0, 0x10
        .set    MEMORY, 0x2
        .set    MASTER, 0x4
        .set    NO_INTX, 0x400
        .set    V, 0x60
        .set    W, 0x61
        .set    X, 0x62
        .set    PIN, 20
        .set    IRQ, 10

/* EAX = a dword of the device's configuration space. */
.macro config reg
        movl    $\reg, %eax
        call    read_config
.endm

/* Writes one; the value is no register that it uses: EAX, ECX, EDX. */
.macro set_config reg, value
        movl    $\reg, %eax
        movl    \value, %ecx
        call    write_config
.endm

/* Latches an address of configuration space; the data port's four bytes then lead there. */
.macro latch address
        movl    $\address, %eax
        movw    $0xcf8, %dx
        outl    %eax, %dx
.endm

.macro data
        movw    $0xcfc, %dx
        inl     %dx, %eax
.endm

/* Has the device fill a buffer and waits until it has; EAX = how many requests that makes. */
.macro request
        call    request_
.endm

main:
        // Mechanism #1.
        latch   0xffffffff
        movw    $0xcf8, %dx
        inl     %dx, %eax
        expect  "the latch without its reserved bits", $0x80fffffc
        latch   0x00000000
        data
        expect  "nothing answers while it is not enabled", $-1
        latch   0x80000000
        data
        expect  "the host bridge", $0x29c08086
        inb_    0xcfd
        expect  "a byte of it", $0x80
        movw    $0xcfe, %dx
        xorl    %eax, %eax
        inw     %dx, %ax
        expect  "a word of it", $0x29c0
        latch   0x80000800
        data
        expect  "no device", $-1
        latch   0x80000100
        data
        expect  "no function", $-1
        latch   0x80010000
        data
        expect  "no bus", $-1

        // ECAM.
        call    compare_all
        expect  "ECAM shows the same, of all devices", $0
        movl    ECAM + 0x100, %eax
        expect  "and no extended capabilities", $0
        movzwl  ECAM + 2, %eax
        expect  "a word there", $0x29c0
        movzbl  ECAM + 1, %eax
        expect  "a byte there", $0x80
        call    find_rnd
        movl    device, %eax
        cmpl    $0, %eax
        setne   %al
        movzbl  %al, %eax
        expect  "there is a virtio-rnd", $1
        movl    ecam, %ebx
        movb    $0x5a, 0x3c(%ebx)
        config  0x3c
        andl    $0xff, %eax
        expect  "a byte written there", $0x5a

        // Capabilities.
        config  COMMAND
        andl    $0x100000, %eax
        expect  "there are capabilities", $0x100000
        call    walk
        movl    kinds, %eax
        expect  "of the vendor, and MSI-X", $0x20200
        movl    structures + 4, %eax
        andl    $0xfff, %eax
        expect  "with a common structure", $0
        config  0
        expect  "the id cannot be written", $RND
        set_config 0, $0
        config  0
        expect  "indeed", $RND

        // BARs.
        config  BAR0
        movl    %eax, bar0
        set_config BAR0, $-1
        config  BAR0
        expect  "BAR 0 has 16 KiB", $0xffffc000
        movl    bar0, %ecx
        movl    $BAR0, %eax
        call    write_config
        config  BAR0
        expect  "and keeps an address", bar0
        set_config 0x18, $-1
        config  0x18
        expect  "there is no BAR 2", $0
        set_config 0x30, $-1
        config  0x30
        expect  "nor a ROM", $0
        set_config COMMAND, $MEMORY
        movl    bar0, %ebx
        movzwl  18(%ebx), %eax
        expect  "it has one queue", $1
        set_config BAR0, $0xd0000000
        movzwl  0xd0000000 + 18, %eax
        expect  "it can be moved", $1
        movzwl  18(%ebx), %eax
        expect  "and is no longer where it was", $0xffff
        set_config COMMAND, $0
        movzwl  0xd0000000 + 18, %eax
        expect  "it answers only if it may", $0xffff
        set_config COMMAND, $MEMORY
        movzwl  0xd0000000 + 18, %eax
        expect  "and then again", $1
        set_config BAR0, $0x20000
        movl    0x20000, %eax
        expect  "it does not hide memory", $0x1badb002
        lapic_read 0x30
        movl    %eax, %esi
        set_config BAR0, $0xfee00000
        lapic_read 0x30
        expect  "nor the LAPIC", %esi
        ioapic_read 1
        movl    %eax, %esi
        set_config BAR0, $0xfec00000
        ioapic_read 1
        expect  "nor the I/O APIC", %esi
        movl    bar0, %ecx
        movl    $BAR0, %eax
        call    write_config
        movzwl  18(%ebx), %eax
        expect  "after all that it still is one", $1

        // MSI-X.
        on      V, eoi_lapic
        on      W, eoi_lapic
        sti
        set_config COMMAND, $MEMORY + MASTER
        call    set_up_device
        movl    msix_table, %ebx
        movl    $LAPIC, 16(%ebx)
        movl    $V, 24(%ebx)
        movl    28(%ebx), %eax
        expect  "an entry is masked at first", $1
        movl    $0, 28(%ebx)
        call    msix_on
        request
        expect  "the device serves a request", $1
        movl    used + 8, %eax
        expect  "wholly", $16
        wait_hits V, 1
        expect  "its message interrupts", $1
        movl    $1, 28(%ebx)
        request
        settle
        hits    V
        expect  "masked it does not", $1
        movl    msix_pending, %esi
        movl    (%esi), %eax
        expect  "but is pending", $2
        movl    $0, 28(%ebx)
        wait_hits V, 2
        expect  "until it is not", $2
        movl    (%esi), %eax
        expect  "and then no more", $0
        call    msix_masked
        request
        settle
        hits    V
        expect  "the whole function can be masked", $2
        movl    $W, 24(%ebx)
        call    msix_on
        wait_hits W, 1
        expect  "what waits goes out as it is written by then", $1
        hits    V
        expect  "and not as it was", $2

        // INTA#, at the I/O APIC.
        call    msix_off
        set_config COMMAND, $MEMORY + MASTER + NO_INTX
        ioapic_write 0x11+2*PIN, $0
        ioapic_write 0x10+2*PIN, $0x8000 + X
        on      X, acknowledge
        request
        settle
        hits    X
        expect  "INTA# can be disabled", $0
        config  COMMAND
        andl    $0x80000, %eax
        expect  "but shows in the status", $0x80000
        set_config COMMAND, $MEMORY + MASTER
        wait_hits X, 1
        settle
        hits    X
        expect  "and comes when it is enabled", $1
        config  COMMAND
        andl    $0x80000, %eax
        expect  "acknowledged it is gone", $0
        request
        wait_hits X, 2
        settle
        hits    X
        expect  "once for a request", $2
        ioapic_write 0x10+2*PIN, $0x10000

        // And at the 8259 pair, as the LPC bridge routes its wire.
        call    set_up_pic
        on      0x20+IRQ, acknowledge_pic
        request
        wait_hits 0x20+IRQ, 1
        settle
        hits    0x20+IRQ
        expect  "the LPC bridge routes it to the pair", $1
        movb    $0x80, ECAM + (31 << 15) + 0x68
        request
        settle
        hits    0x20+IRQ
        expect  "unless told not to", $1
        movb    $IRQ, ECAM + (31 << 15) + 0x68
        wait_hits 0x20+IRQ, 2
        expect  "a level waits for its route", $2
        ret

/* EAX = offset; EAX = the dword there, of `device`. Clobbers EDX. */
read_config:
        addl    device, %eax
        movw    $0xcf8, %dx
        outl    %eax, %dx
        movw    $0xcfc, %dx
        inl     %dx, %eax
        ret

/* EAX = offset, ECX = value. Clobbers EAX, EDX. */
write_config:
        addl    device, %eax
        movw    $0xcf8, %dx
        outl    %eax, %dx
        movl    %ecx, %eax
        movw    $0xcfc, %dx
        outl    %eax, %dx
        ret

/* EAX = how many dwords of the 32 devices differ between both ways. */
compare_all:
        xorl    %esi, %esi
        movl    $0, device
        movl    $0x80000000, device
        movl    $ECAM, %edi
1:      xorl    %ebx, %ebx
2:      movl    %ebx, %eax
        call    read_config
        cmpl    (%edi, %ebx), %eax
        je      3f
        incl    %esi
3:      addl    $4, %ebx
        cmpl    $0x100, %ebx
        jb      2b
        addl    $0x800, device
        addl    $0x8000, %edi
        cmpl    $0x80010000, device
        jb      1b
        movl    %esi, %eax
        ret

/* Sets `device` and `ecam`, to zero where there is none. */
find_rnd:
        movl    $0x80000000, device
        movl    $ECAM, ecam
1:      config  0
        cmpl    $RND, %eax
        je      2f
        addl    $0x800, device
        addl    $0x8000, ecam
        cmpl    $0x80010000, device
        jb      1b
        movl    $0, device
2:      ret

/* Goes through the capabilities, 48 at most: notes the structures of virtio by their kind, and those of MSI-X. */
walk:
        movl    $48, %edi
        config  0x34
        movzbl  %al, %esi
1:      testl   %esi, %esi
        jz      4f
        decl    %edi
        jz      4f
        movl    %esi, %eax
        call    read_config
        movl    %eax, %ebx
        movzbl  %al, %ecx
        btsl    %ecx, kinds
        cmpb    $0x11, %al
        jne     2f
        movl    %esi, msix
        leal    4(%esi), %eax
        call    place
        movl    %eax, msix_table
        leal    8(%esi), %eax
        call    place
        movl    %eax, msix_pending
2:      cmpb    $0x09, %bl
        jne     3f
        leal    4(%esi), %eax
        call    read_config
        movzbl  %al, %ecx
        leal    BAR0(, %ecx, 4), %eax
        call    read_config
        movl    %eax, %ecx
        leal    8(%esi), %eax
        call    read_config
        addl    %eax, %ecx
        movl    %ebx, %eax
        shrl    $24, %eax
        andl    $7, %eax
        movl    %ecx, structures(, %eax, 4)
3:      movzbl  %bh, %esi
        jmp     1b
4:      ret

/* EAX = where a register with a BAR's number in its lowest bits says; EAX = the address. Clobbers ECX, EDX. */
place:
        call    read_config
        movl    %eax, %ecx
        andl    $7, %eax
        leal    BAR0(, %eax, 4), %eax
        call    read_config
        andl    $~7, %ecx
        addl    %ecx, %eax
        ret

/* Writes the MSI-X control word: enabled, masked as a whole, off. Clobber EAX, ECX, EDX. */
msix_on:
        movl    $0x80000000, %ecx
        jmp     1f
msix_masked:
        movl    $0xc0000000, %ecx
        jmp     1f
msix_off:
        xorl    %ecx, %ecx
1:      movl    msix, %eax
        jmp     write_config

/* Initializes the device (virtio 1.2, 3.1.1): version 1, one queue of eight, its interrupts by MSI-X vector 1. */
set_up_device:
        call    msix_on
        movl    structures + 4, %ebx
        movb    $0, 20(%ebx)
        movb    $3, 20(%ebx)
        movl    $1, 8(%ebx)
        movl    $1, 12(%ebx)
        movb    $11, 20(%ebx)
        movw    $0, 22(%ebx)
        movw    $8, 24(%ebx)
        movw    $1, 26(%ebx)
        movl    $descriptors, 32(%ebx)
        movl    $0, 36(%ebx)
        movl    $available, 40(%ebx)
        movl    $0, 44(%ebx)
        movl    $used, 48(%ebx)
        movl    $0, 52(%ebx)
        movw    $1, 28(%ebx)
        movb    $15, 20(%ebx)
        movl    $buffer, descriptors
        movl    $16, descriptors + 8
        movw    $2, descriptors + 12
        ret

request_:
        pushl   %ebx
        incw    available + 2
        mfence
        movl    structures + 8, %ebx
        movw    $0, (%ebx)
        movzwl  available + 2, %eax
        shll    $16, %eax
        pushl   %eax
        pushl   $used
        call    wait_for
        addl    $8, %esp
        shrl    $16, %eax
        popl    %ebx
        ret

/* Takes the interrupt back at the device, by reading its ISR. */
acknowledge:
        movl    structures + 12, %eax
        movb    (%eax), %al
        jmp     eoi_lapic

acknowledge_pic:
        movl    structures + 12, %eax
        movb    (%eax), %al
        jmp     eoi_slave

set_up_pic:
        start_pic 0xfb
        outb_   0xa0, $0x11
        outb_   0xa1, $0x28
        outb_   0xa1, $0x02
        outb_   0xa1, $0x01
        outb_   0x4d1, $1<<(IRQ-8)
        outb_   0xa1, $~(1<<(IRQ-8))&0xff
        ret

        .bss
        .balign 16
descriptors: .skip 128
available: .skip 32
used:   .skip   128
buffer: .skip   16
device: .skip   4
ecam:   .skip   4
bar0:   .skip   4
kinds:  .skip   4
msix:   .skip   4
msix_table: .skip 4
msix_pending: .skip 4
structures: .skip 32
