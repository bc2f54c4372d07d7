/* Find the boxes of the pictures in the file pictures.bin of the host, which is read by semihosting, on a Cortex-M7.
 *
 * A picture is its width and height as two numbers of 32 bits, and its pixels. Each line of the output is a picture: six
 * numbers of 32 bits for each box, in hexadecimal digits. The last line is the largest size of the stack in bytes.
 */

#include "net.h"

#include <stdint.h>
#include <string.h>

enum { LARGEST = 128 * 128 * 3, OPEN = 1, WRITE_TEXT = 4, READ = 6, EXIT = 24, UNUSED = 0x5a5a5a5a };

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];

static unsigned char arena[NET_MEMORY], pixels[LARGEST];
static net_box boxes[NET_BOXES];

static int host(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print(uint32_t number, char end)
{
    char text[10];
    for (int i = 0; i < 8; ++i) text[i] = "0123456789abcdef"[number >> (28 - 4 * i) & 15];
    text[8] = end;
    text[9] = 0;
    host(WRITE_TEXT, text);
}

static int read(int file, void *to, int size)
{
    const struct { int file; void *to; int size; } argument = {file, to, size};
    return host(READ, &argument) == 0;
}

static void find(void)
{
    static const char name[] = "pictures.bin";
    const struct { const char *name; int mode, length; } argument = {name, 1, sizeof name - 1};
    const int file = host(OPEN, &argument);
    net_context context;
    int32_t size[2];
    if (net_init(&context, arena, sizeof arena)) return;
    while (read(file, size, sizeof size) && read(file, pixels, 3 * size[0] * size[1])) {
        const int n = net_detect(&context, pixels, size[0], size[1], 3 * size[0], boxes, NET_BOXES);
        for (int i = 0; i < n; ++i) {
            uint32_t words[6];
            memcpy(words, &boxes[i], sizeof words);
            for (int k = 0; k < 6; ++k) print(words[k], ' ');
        }
        host(WRITE_TEXT, "\n");
    }
}

__attribute__((noreturn)) static void run(void)
{
    const uint32_t *lowest = bss_end;
    find();
    while (*lowest == UNUSED) ++lowest;
    print((uint32_t)((const unsigned char *)stack_top - (const unsigned char *)lowest), '\n');
    host(EXIT, (void *)0x20026);
    for (;;) { }
}

__attribute__((noreturn)) void reset(void)
{
    volatile uint32_t *const access = (uint32_t *)0xe000ed88; /* of the unit for floating point */
    uint32_t *to = bss_start;
    *access |= 15u << 20;
    __asm__ volatile("dsb\nisb" ::: "memory");
    memcpy(data_start, data_load, (size_t)((unsigned char *)data_end - (unsigned char *)data_start));
    while (to < bss_end) *to++ = 0;
    while (to < (uint32_t *)__builtin_frame_address(0) - 64) *to++ = UNUSED;
    run();
}

__attribute__((noreturn)) static void fault(void)
{
    host(WRITE_TEXT, "fault\n");
    host(EXIT, (void *)0x20026);
    for (;;) { }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
