// What the test programs share: calls that must go well, calls that must be refused, numbers that must be near.
#ifndef CHECK_H
#define CHECK_H

#include <idlora.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Fails with the library's own words.
#define OK(call)                                                                                                        \
    do {                                                                                                                \
        int32_t status_ = (call);                                                                                       \
        if (status_ != IDLORA_STATUS_OK) {                                                                              \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, idlora_status_name(status_),             \
                    idlora_last_error());                                                                               \
            exit(1);                                                                                                    \
        }                                                                                                               \
        CHECK(idlora_last_error()[0] == '\0');                                                                          \
    } while (0)

// The status, and words that the message has.
#define REFUSED(call, expected, words)                                                                                  \
    do {                                                                                                                \
        int32_t status_ = (call);                                                                                       \
        if (status_ != (expected) || strstr(idlora_last_error(), (words)) == NULL) {                                    \
            fprintf(stderr, "%s:%d: %s: got %s `%s`, expected %s with `%s`\n", __FILE__, __LINE__, #call,               \
                    idlora_status_name(status_), idlora_last_error(), #expected, words);                                \
            exit(1);                                                                                                    \
        }                                                                                                               \
    } while (0)

#define CHECK(condition)                                                                                                \
    do {                                                                                                                \
        if (!(condition)) {                                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                     \
            exit(1);                                                                                                    \
        }                                                                                                               \
    } while (0)

#define NEAR(what, found, expected, bound)                                                                              \
    do {                                                                                                                \
        double found_ = (found), expected_ = (expected), bound_ = (bound);                                              \
        if (!(fabs(found_ - expected_) <= bound_)) {                                                                    \
            fprintf(stderr, "%s:%d: %s is %.9g, expected %.9g within %.3g\n", __FILE__, __LINE__, what, found_,         \
                    expected_, bound_);                                                                                 \
            exit(1);                                                                                                    \
        }                                                                                                               \
    } while (0)

// Memory, or the end of the program.
static inline void *memory(size_t bytes) {
    void *start = calloc(bytes ? bytes : 1, 1);
    if (!start) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return start;
}

// The same numbers on every machine, in (-1, 1), multiples of 2^-10.
static inline double drawn(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (double)((int32_t)(*state >> 21) - 1024) / 1024.0;
}

#endif
