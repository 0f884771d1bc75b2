/* What x86 compilers' own run time tells of the processor: `__builtin_cpu_supports` and function
   clones read these numbers, by the ABI that GCC and LLVM share (libgcc's cpuinfo.h). The run time
   that zig links has them as zeros, with which every loop would be the plainest. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))
/* On macOS clones are resolved inside of the first call, whose arguments are in vector registers.
 */
#define NO_VECTORS __attribute__((target("general-regs-only")))

struct __processor_model {
  unsigned vendor, type, subtype, features[1];
};
HIDDEN struct __processor_model __cpu_model;
HIDDEN unsigned __cpu_features2[4];

/* Numbers of features in that ABI, and where a processor tells of them. */
enum Register { kLeaf1C, kLeaf1D, kLeaf7B, kLeaf7C, kExtendedC, kRegisters };
enum State { kPlain, kYmm, kZmm };
struct Feature {
  uint8_t number, place, bit, state;
};
static const struct Feature kFeatures[] = {
    {0, kLeaf1D, 15, kPlain}, /* cmov */
    {2, kLeaf1C, 23, kPlain}, /* popcnt */
    {3, kLeaf1D, 25, kPlain}, /* sse */
    {4, kLeaf1D, 26, kPlain}, /* sse2 */
    {5, kLeaf1C, 0, kPlain},  /* sse3 */
    {6, kLeaf1C, 9, kPlain},  /* ssse3 */
    {7, kLeaf1C, 19, kPlain}, /* sse4.1 */
    {8, kLeaf1C, 20, kPlain}, /* sse4.2 */
    {9, kLeaf1C, 28, kYmm},   /* avx */
    {10, kLeaf7B, 5, kYmm},   /* avx2 */
    {14, kLeaf1C, 12, kYmm},  /* fma */
    {15, kLeaf7B, 16, kZmm},  /* avx512f */
    {16, kLeaf7B, 3, kPlain}, /* bmi */
    {17, kLeaf7B, 8, kPlain}, /* bmi2 */
    {20, kLeaf7B, 31, kZmm},  /* avx512vl */
    {21, kLeaf7B, 30, kZmm},  /* avx512bw */
    {22, kLeaf7B, 17, kZmm},  /* avx512dq */
    {23, kLeaf7B, 28, kZmm},  /* avx512cd */
    {26, kLeaf7C, 1, kZmm},   /* avx512vbmi */
    {32, kLeaf7C, 8, kPlain}, /* gfni */
    {34, kLeaf7C, 11, kZmm},  /* avx512vnni */
};
/* x86-64-v3 and -v4: what they have beyond features of the list above. */
enum { kV3 = 97, kV4 = 98 };

NO_VECTORS static int Has(unsigned number) {
  if (number < 32) return __cpu_model.features[0] >> number & 1;
  return __cpu_features2[number / 32 - 1] >> number % 32 & 1;
}

NO_VECTORS static void Set(unsigned number) {
  if (number < 32) {
    __cpu_model.features[0] |= 1u << number;
  } else {
    __cpu_features2[number / 32 - 1] |= 1u << number % 32;
  }
}

/* Runs before all constructors, and from resolvers before that. */
NO_VECTORS HIDDEN __attribute__((constructor(101))) int __cpu_indicator_init(void) {
  unsigned words[kRegisters] = {0}, unused, state = kPlain;
  if (__cpu_model.vendor != 0) return 0;
  __get_cpuid(1, &unused, &unused, &words[kLeaf1C], &words[kLeaf1D]);
  __get_cpuid_count(7, 0, &unused, &words[kLeaf7B], &words[kLeaf7C], &unused);
  __get_cpuid(0x80000001, &unused, &unused, &words[kExtendedC], &unused);
  if (words[kLeaf1C] >> 27 & 1) { /* which registers the system keeps */
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    state = (low & 0xe6) == 0xe6 ? kZmm : (low & 6) == 6 ? kYmm : kPlain;
  }
  for (unsigned i = 0; i < sizeof(kFeatures) / sizeof(*kFeatures); ++i) {
    const struct Feature *feature = &kFeatures[i];
    if (words[feature->place] >> feature->bit & 1 && state >= feature->state) Set(feature->number);
  }
  /* f16c, movbe, lzcnt */
  if (Has(10) && Has(14) && Has(16) && Has(17) && words[kLeaf1C] >> 29 & 1 &&
      words[kLeaf1C] >> 22 & 1 && words[kExtendedC] >> 5 & 1) {
    Set(kV3);
    if (Has(15) && Has(20) && Has(21) && Has(22) && Has(23)) Set(kV4);
  }
  __cpu_model.vendor = 3; /* any other than Intel's and AMD's: nothing here asks for it */
  return 0;
}
#endif
