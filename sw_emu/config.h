/* The build constants of hls/include/zipml/config.hpp, for Python. */
#ifndef ZIPML_CONFIG_H
#define ZIPML_CONFIG_H
#include <stdint.h>

typedef struct {
  int32_t max_bits;
  int32_t grid_bits;
  int32_t model_fraction_bits;
  int32_t step_fraction_bits;
  int32_t coefficient_fraction_bits;
  int32_t decay_fraction_bits;
  int32_t decay_bits;
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
  int32_t max_delay;
  int32_t max_epochs;
  int32_t max_features;
  uint32_t max_samples;
  int32_t residual_latency;
  int32_t update_latency;
  int32_t memory_latency;
  int32_t pipeline_depth;
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
  uint32_t sampling_single;
  uint32_t sampling_plain;
  uint32_t sampling_symmetric;
  uint32_t flag_hold;
  uint32_t format_bit_planes;
  uint32_t format_float32;
  uint32_t format_levels;
} ZipmlConfig;

ZipmlConfig zipml_config(void);
uint64_t zipml_capability(uint32_t word_bits_log2, uint32_t format);

#endif
