// The loops of subset_loops.hpp on 64-bit Arm, whose NEON has tables of 16 bytes.
#pragma once

#include "rows.hpp"

#if defined(__aarch64__) && defined(__GNUC__) && defined(__ARM_NEON)
#define ZIPML_HAS_NEON 1
#include <arm_neon.h>

#include <type_traits>

namespace zipml {
namespace neon {

#define ZIPML_INLINE __attribute__((always_inline)) inline

/// As in rows_avx2.hpp.
struct Vector {
  uint8x16_t v;
  static constexpr uint32_t kLanes = 1;
  static ZIPML_INLINE Vector Zero() { return {vdupq_n_u8(0)}; }
  static ZIPML_INLINE Vector Fill(int byte) { return {vdupq_n_u8(static_cast<uint8_t>(byte))}; }
  static ZIPML_INLINE Vector Load(const void *from) {
    return {vld1q_u8(static_cast<const uint8_t *>(from))};
  }
  static ZIPML_INLINE Vector LoadPart(const uint64_t *from, uint32_t words) {
    return words == 2 ? Load(from) : Half(reinterpret_cast<const uint8_t *>(from));
  }
  static ZIPML_INLINE Vector LoadLanes(const uint8_t *const *rows, uint32_t at) {
    return {vld1q_u8(rows[0] + at)};
  }
  static ZIPML_INLINE Vector LoadHalfLanes(const uint8_t *const *rows, uint32_t at) {
    return Half(rows[0] + at);
  }
  static ZIPML_INLINE Vector Broadcast(const uint8_t *from) { return {vld1q_u8(from)}; }
  ZIPML_INLINE void Store(void *to) const { vst1q_u8(static_cast<uint8_t *>(to), v); }

 private:
  static ZIPML_INLINE Vector Half(const uint8_t *from) {
    return {vcombine_u8(vld1_u8(from), vdup_n_u8(0))};
  }
};

/// Eight lanes of 16 bits.
ZIPML_INLINE uint16x8_t Words(Vector a) { return vreinterpretq_u16_u8(a.v); }
ZIPML_INLINE Vector Bytes(uint16x8_t a) { return {vreinterpretq_u8_u16(a)}; }

ZIPML_INLINE Vector And(Vector a, Vector b) { return {vandq_u8(a.v, b.v)}; }
ZIPML_INLINE Vector Xor(Vector a, Vector b) { return {veorq_u8(a.v, b.v)}; }
ZIPML_INLINE Vector Add8(Vector a, Vector b) { return {vaddq_u8(a.v, b.v)}; }
ZIPML_INLINE Vector Add16(Vector a, Vector b) { return Bytes(vaddq_u16(Words(a), Words(b))); }
ZIPML_INLINE Vector Subtract16(Vector a, Vector b) { return Bytes(vsubq_u16(Words(a), Words(b))); }
template <int kShift>
ZIPML_INLINE Vector ShiftRight16(Vector a) {
  return Bytes(vshrq_n_u16(Words(a), kShift));
}
template <int kShift>
ZIPML_INLINE Vector ShiftLeft16(Vector a) {
  return Bytes(vshlq_n_u16(Words(a), kShift));
}
ZIPML_INLINE Vector OddBytes(Vector a) { return ShiftRight16<8>(a); }
ZIPML_INLINE Vector LookUp(Vector table, Vector at) { return {vqtbl1q_u8(table.v, at.v)}; }
ZIPML_INLINE Vector UnpackLow8(Vector a, Vector b) { return {vzip1q_u8(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackHigh8(Vector a, Vector b) { return {vzip2q_u8(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackLow16(Vector a, Vector b) {
  return Bytes(vzip1q_u16(Words(a), Words(b)));
}
ZIPML_INLINE Vector UnpackHigh16(Vector a, Vector b) {
  return Bytes(vzip2q_u16(Words(a), Words(b)));
}

/// Whether there are loops on codes with digits of bytes.
constexpr bool kHasBytes = false;
constexpr uint32_t kMostBasePlanes = 4;

#define ZIPML_SUBSETS_BY_COMPILER
#include "subset_loops.hpp"
#undef ZIPML_SUBSETS_BY_COMPILER
#undef ZIPML_INLINE

/// All other loops are the portable ones, whose order of positions these have.
static const RowLoops kLoops = {"neon",
                                kGroup,
                                portable::Position,
                                portable::Position,
                                portable::Decode,
                                portable::DecodeDots,
                                Split,
                                portable::Step<Split>,
                                portable::StepEach<Split>,
                                portable::Dots,
                                portable::PairBytes,
                                portable::LoadPairs,
                                {portable::Gradient, portable::PairGradient<int64_t>},
                                {portable::Gradient, portable::PairGradient<int32_t>},
                                &kPlaneLoops,
                                nullptr,
                                nullptr};

}  // namespace neon
}  // namespace zipml
#endif
