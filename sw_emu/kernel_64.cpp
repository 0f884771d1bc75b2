// The kernels with words of 64 bits, under names of their own.
#define ZIPML_WORD_BITS 64
#define zipml_sgd zipml_sgd_64
#define zipml_sgd_f32 zipml_sgd_f32_64
#define zipml_sgd_levels zipml_sgd_levels_64
#define zipml_sgd_refetch zipml_sgd_refetch_64
#define zipml_sgd_wide zipml_sgd_wide_64
#include "../hls/src/zipml_sgd.cpp"
#include "../hls/src/zipml_sgd_f32.cpp"
#include "../hls/src/zipml_sgd_levels.cpp"
#include "../hls/src/zipml_sgd_refetch.cpp"
#include "../hls/src/zipml_sgd_wide.cpp"
