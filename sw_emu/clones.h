/* One function, compiled for several instruction sets, the best one chosen when it is called: not
   by ifunc, which only ELF has. */
#ifndef ZIPML_CLONES_H
#define ZIPML_CLONES_H

#include <cstdlib>
#include <cstring>

/* The body of NAME; what it calls is to be inlined into it as well. */
#define ZIPML_BODY inline __attribute__((always_inline))
/* The clones of a body, as one function. (Its name may have commas.) */
#define ZIPML_BEST(...) zipml::Clones<decltype(__VA_ARGS__), &__VA_ARGS__>::Call
/* Defines the function NAME as the clones of NAMEBody. */
#define ZIPML_CLONES(NAME) constexpr auto *NAME = &ZIPML_BEST(NAME##Body);

namespace zipml {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(ZIPML_NO_CLONES)
#define ZIPML_CLONE(INSTRUCTIONS) __attribute__((target(INSTRUCTIONS), flatten))

enum InstructionSet { kBaseline, kAvx2, kAvx512 };

/// The best set, but none with AVX-512 in a process that is to do without it from its beginning on.
inline InstructionSet FindInstructionSet() {
  __builtin_cpu_init();
  const char *loops = std::getenv("ZIPML_LOOPS");
  const bool narrow =
      loops != nullptr && (std::strcmp(loops, "avx2") == 0 || std::strcmp(loops, "avxvnni") == 0);
  if (!narrow && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return kAvx512;
  }
  return __builtin_cpu_supports("avx2") ? kAvx2 : kBaseline;
}
/// Of this machine.
static const InstructionSet kInstructionSet = FindInstructionSet();

template <typename TFunction, TFunction *kBody>
struct Clones;
template <typename TResult, typename... TArguments, TResult (*kBody)(TArguments...)>
struct Clones<TResult(TArguments...), kBody> {
  ZIPML_CLONE("avx512f,avx512bw,avx512dq,avx512vl") static TResult Avx512(TArguments... arguments) {
    return kBody(arguments...);
  }
  ZIPML_CLONE("avx2") static TResult Avx2(TArguments... arguments) { return kBody(arguments...); }
  __attribute__((flatten)) static TResult Baseline(TArguments... arguments) {
    return kBody(arguments...);
  }
  static TResult Call(TArguments... arguments) {
    if (kInstructionSet == kAvx512) return Avx512(arguments...);
    return kInstructionSet == kAvx2 ? Avx2(arguments...) : Baseline(arguments...);
  }
};
#else
template <typename TFunction, TFunction *kBody>
struct Clones;
template <typename TResult, typename... TArguments, TResult (*kBody)(TArguments...)>
struct Clones<TResult(TArguments...), kBody> {
  static TResult Call(TArguments... arguments) { return kBody(arguments...); }
};
#endif

}  // namespace zipml

#endif
