/* The build constants of hls/include/zipml/config.hpp, for Python. */
#ifndef ZIPML_CONFIG_H
#define ZIPML_CONFIG_H
#include <stdint.h>

typedef struct {
  int32_t max_bits;
  int32_t wide_max_bits;
  int32_t grid_bits;
  int32_t model_fraction_bits;
  int32_t step_fraction_bits;
  int32_t coefficient_fraction_bits;
  int32_t decay_fraction_bits;
  int32_t decay_bits;
  int32_t threshold_bits;
  int32_t level_fraction_bits;
  int32_t float_fraction_bits;
  int32_t max_chunks;
  int32_t max_batch;
  int32_t block_words;
  int32_t block_samples;
  int32_t ring_words;
  int32_t float_max_chunks;
  int32_t float_block_words;
  int32_t float_ring_words;
  int32_t level_max_chunks;
  int32_t level_block_words;
  int32_t level_ring_words;
  int32_t level_parts;
  int32_t level_table;
  int32_t close_turns;
  int32_t float_close_turns;
  int32_t max_delay;
  int32_t max_epochs;
  int32_t weight_fraction_bits;
  int32_t derivative_fraction_bits;
  int32_t derivative_table;
  int32_t max_range_log2;
  int32_t max_degree;
  int32_t max_dithers;
  int32_t max_feature_shift;
  int32_t correction_fraction_bits;
  int32_t polynomial_distance;
  int32_t min_quantized_bits;
  int32_t max_quantized_bits;
  int32_t max_features;
  uint32_t max_samples;
  int32_t memory_latency;
  int32_t draw_features;
  int32_t draw_latency;
  uint32_t interface_version;
  uint32_t status_ok;
  uint32_t status_samples;
  uint32_t status_features;
  uint32_t status_bits;
  uint32_t status_sampling;
  uint32_t status_batch;
  uint32_t status_epochs;
  uint32_t status_delay;
  uint32_t status_block;
  uint32_t status_ring;
  uint32_t status_partial;
  uint32_t status_levels;
  uint32_t status_loss;
  uint32_t status_quantize;
  uint32_t status_order;
  uint32_t sampling_single;
  uint32_t sampling_plain;
  uint32_t sampling_symmetric;
  uint32_t sampling_independent;
  uint32_t loss_least_squares;
  uint32_t loss_hinge;
  uint32_t loss_squared_hinge;
  uint32_t loss_table;
  uint32_t loss_polynomial;
  uint32_t flag_hold;
  uint32_t flag_weights;
  uint32_t flag_feature_steps;
  uint32_t flag_correction;
  uint32_t flag_frozen;
  uint32_t format_bit_planes;
  uint32_t format_float32;
  uint32_t format_levels;
  uint32_t format_refetch;
  uint32_t format_wide;
} ZipmlConfig;

/* Distances round the feedback paths, in cycles (hls/include/zipml/distances.hpp). */
typedef struct {
  int32_t residual;
  int32_t update;
  int32_t pipeline;
} ZipmlDistances;

ZipmlConfig zipml_config(void);
/* Of a build for words of word_bits bits at a clock; 0: that of the boards with this word. */
ZipmlDistances zipml_distances(uint32_t word_bits, uint32_t clock_mhz);
uint64_t zipml_capability(uint32_t word_bits_log2, uint32_t format);

#endif
