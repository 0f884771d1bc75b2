// Top function: the same at 32 bits a value, the baseline.
#include "stages.hpp"
#include "word_bits.hpp"

typedef zipml::FloatFormat<ZIPML_WORD_BITS> float_format_t;

/// Trains a linear model; the registers are described in docs/registers.md.
extern "C" void zipml_sgd_f32(
    const float_format_t::word_t *planes, const int32_t *labels, int32_t *model, int32_t *history,
    const uint32_t *schedule, const int32_t *derivative, uint32_t samples, uint32_t features,
    uint32_t batch, uint32_t block_samples, uint32_t block_stride, uint32_t dither_offset,
    uint32_t bits, uint32_t sampling, uint32_t epochs, uint32_t delay, uint32_t skip,
    uint32_t pending, uint32_t flags, uint32_t loss, uint32_t degree, uint32_t range_log2,
    uint32_t model_bits, uint32_t model_shift, uint32_t gradient_bits, uint32_t seed,
    uint32_t first_update, uint32_t first_block, uint32_t block_step, uint32_t *status,
    uint32_t *version, uint64_t *capability, uint64_t *words, uint64_t *cycles,
    uint32_t *saturations, uint32_t *outside, uint32_t *clipped, uint32_t *refetched) {
  // clang-format off: one pragma a line
  #pragma HLS INTERFACE mode=m_axi port=planes bundle=gmem_planes offset=slave depth=4096 latency=64 num_read_outstanding=16 max_read_burst_length=16
  #pragma HLS INTERFACE mode=m_axi port=labels bundle=gmem_labels offset=slave depth=2048 latency=64 num_read_outstanding=4 max_read_burst_length=16
  #pragma HLS INTERFACE mode=m_axi port=model bundle=gmem_vectors offset=slave depth=2048 latency=64 max_read_burst_length=16 max_write_burst_length=16
  #pragma HLS INTERFACE mode=m_axi port=history bundle=gmem_vectors offset=slave depth=4096 latency=64 max_read_burst_length=16 max_write_burst_length=16
  #pragma HLS INTERFACE mode=m_axi port=schedule bundle=gmem_vectors offset=slave depth=128 latency=64 max_read_burst_length=16 max_write_burst_length=16
  #pragma HLS INTERFACE mode=m_axi port=derivative bundle=gmem_vectors offset=slave depth=1025 latency=64 max_read_burst_length=16 max_write_burst_length=16
  #pragma HLS INTERFACE mode=s_axilite port=planes bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=labels bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=model bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=history bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=schedule bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=derivative bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=samples bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=features bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=batch bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=block_samples bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=block_stride bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=dither_offset bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=bits bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=sampling bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=epochs bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=delay bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=skip bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=pending bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=flags bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=loss bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=degree bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=range_log2 bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=model_bits bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=model_shift bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=gradient_bits bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=seed bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=first_update bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=first_block bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=block_step bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=status bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=version bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=capability bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=words bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=cycles bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=saturations bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=outside bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=clipped bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=refetched bundle=control
  #pragma HLS INTERFACE mode=s_axilite port=return bundle=control
  // clang-format on
  const zipml::Registers registers = {
      samples,       features, batch,        block_samples, block_stride, dither_offset,
      bits,          sampling, epochs,       delay,         skip,         pending,
      flags,         loss,     degree,       range_log2,    model_bits,   model_shift,
      gradient_bits, seed,     first_update, first_block,   block_step,   0};
  zipml::Outputs out;
  *status = zipml::Run<float_format_t>(planes, labels, model, history, schedule, derivative,
                                       nullptr, nullptr, registers, out);
  *version = zipml::kInterfaceVersion;
  *capability = zipml::Capability(ZIPML_WORD_BITS_LOG2, float_format_t::kFormat);
  *words = out.words;
  *cycles = out.cycles;
  *saturations = out.saturations;
  *outside = out.outside;
  *clipped = out.clipped;
  *refetched = out.refetched;
}
