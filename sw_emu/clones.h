/* One function, compiled for several instruction sets, the best one chosen when it is loaded. */
#ifndef ZIPML_CLONES_H
#define ZIPML_CLONES_H
#include <stdint.h> /* defines __GLIBC__ where it applies */

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(ZIPML_NO_CLONES)
#if __GNUC__ >= 12
#define ZIPML_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define ZIPML_CLONES __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#endif
#else
#define ZIPML_CLONES
#endif

#endif
