// Test bench of the top functions, for g++ here and for the vendor's csim and cosim.
//
// A sweep of shapes is trained on random planes by the top function and by a reference written from
// the formulas of docs/arithmetic.md; the model, its history and every counter must agree. Every
// buffer lies between guard words, so that a read or write beyond it shows (reads through the
// sanitizers). Invalid registers must end the run without touching memory: pointers are null then.
//
// -DZIPML_WORD_BITS=64|128|512 chooses the build; -DZIPML_BENCH_FLOAT the 32-bit baseline, _LEVELS
// the kernel that decodes by tables of levels, _REFETCH the one that reads samples in doubt again,
// _WIDE the one of up to 16 bits; -DZIPML_BENCH_ENGINE the engine behind the same interface (no
// stages to call), and -DZIPML_BENCH_QUICK the short sweep that RTL co-simulation can afford: it
// copies whole ports, so buffers are as large as the interface pragmas say and pointers never null.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "../src/top.hpp"
#include "bench.hpp"
#include "data.hpp"
#include "reference.hpp"
#include "zipml/tops.hpp"

ZIPML_DECLARE_TOPS(format_t::word_t, )

namespace {

/// The top function that this bench is built for.
void Top(ZIPML_PORTS(format_t::word_t), const int32_t *levels, const format_t::word_t *full,
         ZIPML_SCALARS, uint32_t level_tables, Outcome &o) {
  uint32_t *status = &o.status, *version = &o.version, *saturations = &o.saturations;
  uint32_t *outside = &o.outside, *clipped = &o.clipped, *refetched = &o.refetched;
  uint64_t *capability = &o.capability, *words = &o.words;
  uint64_t *modelled_cycles = &o.modelled_cycles, *measured_cycles = &o.measured_cycles;
  uint64_t *waited_cycles = &o.waited_cycles;
  uint32_t *counted = &o.counted;
  static_cast<void>(level_tables);
  Port<const format_t::word_t> planes_port(planes, kDepthPlanes), full_port(full, kDepthFull);
  Port<const int32_t> labels_port(labels, kDepthLabels);
  Port<const int32_t> derivative_port(derivative, kDepthDerivative);
  Port<const int32_t> levels_port(levels, kDepthLevels);
  Port<int32_t> model_port(model, kDepthModel), history_port(history, kDepthHistory);
  Port<const uint32_t> schedule_port(schedule, kDepthSchedule);
  planes = planes_port.get();
  full = full_port.get();
  labels = labels_port.get();
  derivative = derivative_port.get();
  levels = levels_port.get();
  model = model_port.get();
  history = history_port.get();
  schedule = schedule_port.get();
#if defined(ZIPML_BENCH_LEVELS)
  zipml_sgd_levels(ZIPML_PASS_PORTS, levels, ZIPML_PASS_SCALARS, level_tables, ZIPML_PASS_OUTPUTS);
#elif defined(ZIPML_BENCH_REFETCH)
  zipml_sgd_refetch(ZIPML_PASS_PORTS, full, ZIPML_PASS_SCALARS, ZIPML_PASS_OUTPUTS);
#elif defined(ZIPML_BENCH_WIDE)
  zipml_sgd_wide(ZIPML_PASS_PORTS, ZIPML_PASS_SCALARS, ZIPML_PASS_OUTPUTS);
#elif defined(ZIPML_BENCH_FLOAT)
  zipml_sgd_f32(ZIPML_PASS_PORTS, ZIPML_PASS_SCALARS, ZIPML_PASS_OUTPUTS);
#else
  zipml_sgd(ZIPML_PASS_PORTS, ZIPML_PASS_SCALARS, ZIPML_PASS_OUTPUTS);
#endif
}

/// The flags of a whole run.
uint32_t FlagsOf(const Case &c) {
  return (c.weights ? zipml::kFlagWeights : 0u) | (c.own_steps ? zipml::kFlagFeatureSteps : 0u) |
         (c.corrected ? zipml::kFlagCorrection : 0u) | (c.frozen ? zipml::kFlagFrozen : 0u);
}

/// One start on blocks `block` and up, `samples` samples in them.
Outcome Start(const Case &c, Data &d, uint32_t block, uint32_t samples, uint32_t epochs,
              uint32_t skip, uint32_t pending, uint32_t flags, uint32_t first_update) {
  Outcome o;
  const size_t sample = static_cast<size_t>(block) * d.block_samples;
  Top(d.planes.get() + static_cast<size_t>(block) * d.block_stride,
      d.labels.get() + sample * (c.weights ? 2 : 1), d.model.get(), d.history.get(),
      d.schedule.get(), d.derivative.get(), d.levels.get(), d.full.get() + sample * d.full_words,
      samples, c.features, c.batch, d.block_samples, d.block_stride,
      (Base(c) + c.extra_planes) * d.plane_words, c.bits, c.sampling, epochs, c.delay, skip,
      pending, flags | FlagsOf(c), c.loss, c.degree, c.range_log2, c.model_bits, c.model_shift,
      c.gradient_bits, kSeed, first_update, c.first_block, c.block_step, d.tables, o);
  return o;
}

struct ExpectedCycles {
  uint64_t run, waits;
};

/// Cycles of a whole run: docs/schedule.md.
ExpectedCycles Expect(const Case &c, const Data &d, const Reference &reference) {
  const zipml::Overlap o = zipml::OverlapOf(c.delay);
  const uint32_t planes = Base(c) + Dithers(c), passes = kLevels ? 1 : planes;
  const uint32_t cell = kLevels ? kLanes / 4 : kLanes;
  const uint64_t slot = zipml::SlotCycles(passes, c.batch, (c.features + cell - 1) / cell,
                                          kFloat ? 1 : 8, o, zipml::kDistances);
  const bool two_bursts = c.extra_planes != 0 && Base(c) != 0;
  const uint64_t words = planes * d.plane_words + (two_bursts ? 128 : 64);
  const uint64_t read = std::max<uint64_t>(words, d.block_samples * (c.weights ? 2 : 1) + 64);
  const uint64_t take =
      std::max<uint64_t>(planes * d.plane_words, d.block_samples * (c.weights ? 2 : 1));
  uint64_t waits = take;
  uint64_t run = take + 2 * (d.entries + 64) + (d.entries + 63) / 64 * (64 + 64);
  if (d.derivatives != 0) run += d.derivatives + 64;
  run += VectorsBehind(c) * (d.entries + 64);
  if (kLevels) run += static_cast<uint64_t>(d.tables) * d.level_count + 64;
  uint32_t before = 0;
  for (uint32_t i = 0; i < c.epochs * d.blocks; ++i) {
    const uint32_t block = (c.first_block + i % d.blocks * c.block_step) % d.blocks;
    const uint64_t own = std::min(c.block_batches, Batches(c) - block * c.block_batches);
    const bool closes = i % d.blocks + 1 == d.blocks;
    const uint64_t slots = own * o.slots_per_batch + (closes && c.delay != 0 ? o.lag : 0);
    const uint64_t loops = kRefetches ? slots : 1;
    const uint64_t passes = slots * slot + loops * (kFloat ? 1 : 8);
    uint64_t others = loops * zipml::kDistances.pipeline;
    others += (reference.refetched_of_block[i] - before) *
              (d.full_words + 64 + zipml::kDistances.residual);
    before = reference.refetched_of_block[i];
    if (closes) others += d.entries + 64;
    const bool last = i + 1 == c.epochs * d.blocks;
    const uint64_t train = passes + others;
    const uint64_t next = last ? train : std::max({train, take + others, read});
    run += next;
    waits += next - train;
  }
  return {run, waits};
}

const char *Name(const Case &c) {
  static char name[260];
  std::snprintf(name, sizeof name,
                "samples %u features %u batch %u bits %u sampling %u delay %u loss %u degree %u "
                "weights %d steps %d model %u gradient %u order %u %u",
                c.samples, c.features, c.batch, c.bits, c.sampling, c.delay, c.loss, c.degree,
                c.weights, c.own_steps, c.model_bits, c.gradient_bits, c.first_block, c.block_step);
  return name;
}

/// Cycles against the sums of docs/schedule.md. Where processes have clocks, those are as many as
/// the sums say or fewer: what is read ahead of a block may make up for a short one before it.
void CheckCycles(const Case &c, const Data &d, const Reference &reference, const Outcome &o) {
  const ExpectedCycles expected = Expect(c, d, reference);
  typedef unsigned long long print_t;
  EXPECT(o.modelled_cycles == expected.run, "%s: %llu cycles modelled, expected %llu", Name(c),
         static_cast<print_t>(o.modelled_cycles), static_cast<print_t>(expected.run));
#ifdef ZIPML_WATCH
  EXPECT(o.counted == 1, "%s: not counted", Name(c));
  EXPECT(o.measured_cycles <= expected.run && o.waited_cycles <= expected.waits &&
             expected.run - o.measured_cycles == expected.waits - o.waited_cycles,
         "%s: %llu cycles and %llu waits by the clock, %llu and %llu by the schedule", Name(c),
         static_cast<print_t>(o.measured_cycles), static_cast<print_t>(o.waited_cycles),
         static_cast<print_t>(expected.run), static_cast<print_t>(expected.waits));
#else
  // RTL in co-simulation has a clock, a program has none
  if (o.counted != 0) {
    std::printf("%s: %llu cycles and %llu waits counted, %llu and %llu by the schedule\n", Name(c),
                static_cast<print_t>(o.measured_cycles), static_cast<print_t>(o.waited_cycles),
                static_cast<print_t>(expected.run), static_cast<print_t>(expected.waits));
  } else {
    EXPECT(o.measured_cycles == expected.run && o.waited_cycles == expected.waits,
           "%s: without a clock cycles are the schedule's", Name(c));
  }
#endif
}

/// A run in one piece against the formulas.
void RunCase(const Case &c) {
  Data d(c, 0);
  Fill(c, d);
  Reference reference(c, d.truth);
  const std::vector<int32_t> before(d.model.get(), d.model.get() + d.model.size());
  std::vector<int64_t> start(c.features);
  for (uint32_t i = 0; i < c.features; ++i) start[i] = d.model[i];
  reference.Start(start);
  const Outcome o = Start(c, d, 0, c.samples, c.epochs, 0, 0, 0, 0);
  const char *name = Name(c);
  EXPECT(o.status == zipml::kStatusOk, "%s: status %u", name, o.status);
  EXPECT(o.version == zipml::kInterfaceVersion, "%s: version %x", name, o.version);
  EXPECT(d.intact(), "%s: guard words", name);
  for (uint32_t epoch = 0; epoch < c.epochs; ++epoch) {
    reference.Epoch(&d.schedule[zipml::kScheduleColumns * epoch]);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < d.entries; ++i) {
      const int64_t expected = i < c.features ? reference.model[i] : 0;
      wrong += d.history[static_cast<size_t>(epoch) * d.entries + i] != expected;
    }
    EXPECT(wrong == 0, "%s: epoch %u: %u entries of the history differ", name, epoch, wrong);
  }
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < c.features; ++i) wrong += d.model[i] != reference.model[i];
  EXPECT(wrong == 0, "%s: %u entries of the model differ", name, wrong);
  wrong = 0;
  for (size_t i = d.entries; i < d.model.size(); ++i) wrong += d.model[i] != before[i];
  EXPECT(wrong == 0, "%s: %u words behind the model were written", name, wrong);
  EXPECT(o.saturations == reference.saturations, "%s: %u saturations, expected %u", name,
         o.saturations, reference.saturations);
  EXPECT(o.outside == reference.outside, "%s: %u outside, expected %u", name, o.outside,
         reference.outside);
  EXPECT(o.clipped == reference.clipped, "%s: %u clipped, expected %u", name, o.clipped,
         reference.clipped);
  EXPECT(o.refetched == reference.refetched, "%s: %u refetched, expected %u", name, o.refetched,
         reference.refetched);
  const uint64_t planes = Base(c) + Dithers(c);
  EXPECT(o.words == static_cast<uint64_t>(c.epochs) * d.blocks * planes * d.plane_words,
         "%s: words %llu", name, static_cast<unsigned long long>(o.words));
  CheckCycles(c, d, reference, o);
}

/// A run of one epoch cut into segments of one new block each, with pending updates handed over,
/// against the run in one piece.
void RunSegments(const Case &c) {
  Data whole(c, 0);
  Fill(c, whole);
  Start(c, whole, 0, c.samples, 1, 0, 0, 0, 0);
  Data d(c, 2 * c.delay * c.batch);
  Fill(c, d);
  const char *name = Name(c);
  uint32_t pending = 0;
  for (uint32_t done = 0; done < d.blocks; ++done) {
    // the first batch whose update is still to come, and the block that holds it
    const uint32_t oldest = done * c.block_batches - pending;
    const uint32_t block = oldest / c.block_batches;
    const uint32_t skip = oldest % c.block_batches;
    const bool hold = done + 1 < d.blocks;
    const uint32_t begin = block * d.block_samples;
    const uint32_t samples = std::min(c.samples, (done + 1) * d.block_samples) - begin;
    const Outcome o =
        Start(c, d, block, samples, 1, skip, pending, hold ? +zipml::kFlagHold : 0u, oldest);
    EXPECT(o.status == zipml::kStatusOk, "%s: segment %u: status %u", name, done, o.status);
    pending = std::min(c.delay, (done + 1) * c.block_batches - oldest);
  }
  EXPECT(d.intact(), "%s: guard words of segments", name);
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < d.entries; ++i) {
    wrong += d.model[i] != whole.model[i] || d.history[i] != whole.history[i];
  }
  EXPECT(wrong == 0, "%s: %u entries differ between segments and one piece", name, wrong);
}

#ifndef ZIPML_BENCH_ENGINE
/// The reading stages and the way into the buffers alone: the streamed planes of every block of two
/// epochs, one half of the buffers after the other.
void RunStages(const Case &c) {
  Data d(c, 0);
  Fill(c, d);
  const zipml::Registers r = {c.samples,
                              c.features,
                              c.batch,
                              d.block_samples,
                              d.block_stride,
                              (Base(c) + c.extra_planes) * d.plane_words,
                              c.bits,
                              c.sampling,
                              2,
                              c.delay,
                              0,
                              0,
                              FlagsOf(c),
                              c.loss,
                              c.degree,
                              c.range_log2,
                              0,
                              0,
                              0,
                              0,
                              0,
                              c.first_block,
                              c.block_step,
                              d.tables};
  const zipml::Geometry g = zipml::GeometryOf<format_t>(r);
  const size_t half = 1 << zipml::BlockWordsLog2(format_t::kFormat);
  typedef zipml::WordEntry<format_t> plane_t[zipml::BufferWords<format_t>()];
  std::vector<zipml::WordEntry<format_t> > words(format_t::kBufferPlanes * 2 * half);
  std::vector<zipml::LabelEntry> block_labels(zipml::kBufferSamples);
  std::vector<zipml::LabelEntry> block_weights(zipml::kBufferSamples);
  hls::stream<format_t::word_t> words_in;
  hls::stream<int32_t> labels_in;
  zipml::ReadWords<format_t>(d.planes.get(), r, g, words_in);
  zipml::ReadLabels(d.labels.get(), r, g, labels_in);
  uint32_t wrong = 0;
  for (uint32_t round = 0; round < 2 * d.blocks; ++round) {
    const uint32_t block = (c.first_block + round * c.block_step) % d.blocks;
    zipml::FillSide fill = zipml::FillSideOf(r, g, round % 2, true);
    zipml::AwaitBlock<format_t>(r, g, words_in, labels_in,
                                reinterpret_cast<plane_t *>(words.data()), block_labels.data(),
                                block_weights.data(), fill);
    for (uint32_t i = 0; i < g.planes * d.plane_words; ++i) {
      const bool dither = i >= Base(c) * d.plane_words;
      const uint32_t stored = i + (dither ? c.extra_planes * d.plane_words : 0);
      // side by side: base planes by their weight, dithers behind the widest base
      const uint32_t plane = i / d.plane_words;
      const uint32_t side = plane < Base(c) ? Base(c) - 1 - plane : 7 + plane - Base(c);
      const size_t place = kLevels ? side * 2 * half + i % d.plane_words : i;
      const format_t::word_t word = words[place + round % 2 * half];
      wrong += word != d.planes[static_cast<size_t>(block) * d.block_stride + stored];
    }
    for (uint32_t i = 0; i < d.block_samples; ++i) {
      const size_t sample = static_cast<size_t>(block) * d.block_samples + i;
      const uint32_t place = i + round % 2 * zipml::kBlockSamples;
      wrong += block_labels[place] != d.labels[c.weights ? 2 * sample : sample];
      wrong += block_weights[place] != (c.weights ? d.labels[2 * sample + 1] : 65536);
    }
  }
  EXPECT(words_in.empty() && labels_in.empty(), "%s: words or labels left over", Name(c));
  std::vector<zipml::ShiftEntry<format_t> > shifts(1 << zipml::MasterLog2<format_t>());
  if (c.own_steps) {
    zipml::LoadShifts<format_t>(d.model.get(), d.entries, d.entries, shifts.data());
    const uint32_t lanes = zipml::TurnLanes<format_t>();
    for (uint32_t i = 0; i < d.entries; ++i) {
      const int shift = i < c.features ? d.truth.shifts[i] : 0;
      const uint32_t low = 4 * (i % lanes);
      wrong += shifts[i / lanes].range(low + 3, low).to_int() != shift;
    }
  }
  EXPECT(wrong == 0, "%s: %u words, labels or shifts differ after reading", Name(c), wrong);
}
#endif

/// Registers outside their range must be answered by their code, with no memory behind the
/// pointers.
void RunInvalid(const char *name, uint32_t expected, const zipml::Registers &r) {
  std::vector<format_t::word_t> planes(kWholePorts ? kDepthPlanes : 0);
  std::vector<format_t::word_t> full(kWholePorts ? kDepthFull : 0);
  std::vector<int32_t> labels(kWholePorts ? kDepthLabels : 0);
  std::vector<int32_t> model(kWholePorts ? kDepthModel : 0, 7);
  std::vector<int32_t> history(kWholePorts ? kDepthHistory : 0, 7);
  std::vector<uint32_t> schedule(kWholePorts ? kDepthSchedule : 0);
  std::vector<int32_t> derivative(kWholePorts ? kDepthDerivative : 0);
  std::vector<int32_t> levels(kWholePorts ? kDepthLevels : 0);
  Outcome o;
  Top(planes.data(), labels.data(), model.data(), history.data(), schedule.data(),
      derivative.data(), levels.data(), full.data(), r.samples, r.features, r.batch,
      r.block_samples, r.block_stride, r.dither_offset, r.bits, r.sampling, r.epochs, r.delay,
      r.skip, r.pending, r.flags, r.loss, r.degree, r.range_log2, r.model_bits, r.model_shift,
      r.gradient_bits, r.seed, r.first_update, r.first_block, r.block_step, r.level_tables, o);
  EXPECT(std::count(model.begin(), model.end(), 7) == static_cast<int>(model.size()) &&
             std::count(history.begin(), history.end(), 7) == static_cast<int>(history.size()),
         "%s: memory was written", name);
  EXPECT(o.status == expected, "%s: status %u, expected %u", name, o.status, expected);
  EXPECT(o.version == zipml::kInterfaceVersion, "%s: version", name);
  EXPECT(o.capability == zipml::Capability(ZIPML_WORD_BITS_LOG2, format_t::kFormat),
         "%s: capability", name);
  EXPECT(o.words == 0 && o.modelled_cycles == 0 && o.measured_cycles == 0 && o.waited_cycles == 0 &&
             o.saturations == 0 && o.outside == 0 && o.clipped == 0 && o.refetched == 0,
         "%s: counters", name);
}

/// Registers of a run that nothing is wrong with.
zipml::Registers ValidRegisters() {
  zipml::Registers valid = {};
  valid.samples = 80;
  valid.features = 8;
  valid.batch = 4;
  valid.block_samples = 8;
  valid.bits = kFloat ? 32 : 4;
  valid.epochs = 1;
  valid.delay = 1;
  valid.loss = kRefetches ? zipml::kHinge : zipml::kLeastSquares;
  valid.block_step = 1;
  valid.level_tables = 1;
  return valid;
}

/// A register outside its range, and a second one that is judged later or goes with it.
struct Fault {
  typedef uint32_t zipml::Registers::*register_t;
  const char *name;
  uint32_t status;
  register_t first;
  uint32_t first_value;
  register_t second;
  uint32_t second_value;
};

std::vector<Fault> Faults() {
  using namespace zipml;
  const uint32_t limit = kLanes << MaxChunksLog2(format_t::kFormat);
  return {
      {"no samples", kStatusSamples, &Registers::samples, 0, &Registers::batch, 0},
      {"too many samples", kStatusSamples, &Registers::samples, kMaxSamples + 1, &Registers::bits,
       0},
      {"no features", kStatusFeatures, &Registers::features, 0, &Registers::bits, 0},
      {"too many features", kStatusFeatures, &Registers::features, limit + 1, &Registers::bits, 0},
      {"features wrap", kStatusFeatures, &Registers::features, 0xffffffffu, &Registers::bits, 0},
      {"bits 0", kStatusBits, &Registers::bits, 0, &Registers::sampling, 9},
      {"too many bits", kStatusBits, &Registers::bits, kMostBits + 1, &Registers::sampling, 9},
      {"sampling", kStatusSampling, &Registers::sampling, 4, &Registers::batch, 0},
      {"batch 0", kStatusBatch, &Registers::batch, 0, &Registers::epochs, 0},
      {"batch limit", kStatusBatch, &Registers::batch, kMaxBatch + 1, &Registers::epochs, 0},
      {"epochs 0", kStatusEpochs, &Registers::epochs, 0, &Registers::delay, 9},
      {"epochs limit", kStatusEpochs, &Registers::epochs, kMaxEpochs + 1, &Registers::delay, 9},
      {"delay", kStatusDelay, &Registers::delay, kMaxDelay + 1, &Registers::loss, 9},
      {"loss", kStatusLoss, &Registers::loss, 5, &Registers::block_samples, 0},
      {"independent samples alone", kStatusLoss, &Registers::sampling,
       kFloat ? +kSingle : +kIndependent, &Registers::loss, kFloat ? 5u : +kHinge},
      {"polynomial alone", kStatusLoss, &Registers::loss, kPolynomial, &Registers::degree, 1},
      {"range", kStatusLoss, &Registers::range_log2, kMaxRangeLog2 + 1, &Registers::block_samples,
       0},
      {"one model bit", kStatusQuantize, &Registers::model_bits, 1, &Registers::block_samples, 0},
      {"gradient bits", kStatusQuantize, &Registers::gradient_bits, 17, &Registers::block_samples,
       0},
      {"block 0", kStatusBlock, &Registers::block_samples, 0, &Registers::flags, 32},
      {"block no multiple", kStatusBlock, &Registers::block_samples, 6, &Registers::flags, 32},
      {"block samples", kStatusBlock, &Registers::block_samples, kBlockSamples + 4,
       &Registers::flags, 32},
      {"block words", kStatusBlock, &Registers::features, limit, &Registers::block_samples,
       kBlockSamples},
      {"first block", kStatusOrder, &Registers::first_block, 10, &Registers::flags, 32},
      {"block step 0", kStatusOrder, &Registers::block_step, 0, &Registers::flags, 32},
      {"block step", kStatusOrder, &Registers::block_step, 11, &Registers::flags, 32},
      {"unknown flag", kStatusPartial, &Registers::flags, 32, &Registers::flags, 32},
      {"hold of a frozen model", kStatusPartial, &Registers::flags, kFlagFrozen | kFlagHold,
       &Registers::delay, 1},
      {"hold over epochs", kStatusPartial, &Registers::flags, kFlagHold, &Registers::epochs, 2},
      {"pending over delay", kStatusPartial, &Registers::pending, 2, &Registers::delay, 1},
      {"skip over block", kStatusPartial, &Registers::skip, 2, &Registers::delay, 1},
      {"nothing left", kStatusPartial, &Registers::pending, 1, &Registers::samples, 4},
      {"hold in another order", kStatusPartial, &Registers::flags, kFlagHold,
       &Registers::first_block, 1},
  };
}

void RunAllInvalid() {
  using namespace zipml;
  const uint32_t limit = kLanes << MaxChunksLog2(format_t::kFormat);
  const zipml::Registers valid = ValidRegisters();
  zipml::Registers zero = {};
  RunInvalid("all zero", kStatusSamples, zero);
  for (const Fault &fault : Faults()) {
    zipml::Registers r = valid;
    r.*fault.second = fault.second_value;
    r.*fault.first = fault.first_value;
    RunInvalid(fault.name, fault.status, r);
  }
  zipml::Registers r = valid;
  r.model_bits = 8;
  r.delay = 2;
  r.flags = kFlagHold;
  RunInvalid("a quantized model held at a delay of 2", kStatusPartial, r);
  if (kFloat) {
    r = valid;
    r.flags = kFlagCorrection;
    RunInvalid("a correction of float32 values", kStatusPartial, r);
  }
  const uint32_t planes = kFloat || kLevels ? 1 : 4;
  const uint32_t room = 1u << BlockWordsLog2(format_t::kFormat);
  const uint32_t samples = room / planes / (limit / kLanes);
  if (samples > 0) {
    r = valid;
    r.samples = r.batch = r.block_samples = samples;
    r.features = limit;
    r.delay = kMaxDelay;
    RunInvalid("ring", kStatusRing, r);
  }
  if (kLevels) {
    r = valid;
    r.level_tables = 2;
    RunInvalid("tables", kStatusLevels, r);
    r = valid;
    r.features = r.level_tables = limit;
    r.bits = 8;
    RunInvalid("tables too large", kStatusLevels, r);
  }
  if (format_t::kPlaneByPlane && !kRefetches) {
    r = valid;
    r.loss = kPolynomial;
    r.sampling = kIndependent;
    r.batch = r.block_samples = 16;
    RunInvalid("degree 0", kStatusLoss, r);
    r.degree = kMaxDegree + 1;
    RunInvalid("degree", kStatusLoss, r);
    r.degree = 2;
    r.batch = 8;
    RunInvalid("polynomial of a small batch", kStatusLoss, r);
  }
  if (kRefetches) {
    r = valid;
    r.loss = kLeastSquares;
    RunInvalid("refetch without a hinge", kStatusLoss, r);
  }
}

/// A case without anything but least squares.
Case Plain(uint32_t features, uint32_t batch, uint32_t bits, uint32_t sampling, uint32_t delay) {
  Case c = {};
  c.samples = batch * 7 + batch / 2;
  c.features = features;
  c.batch = batch;
  c.block_batches = 2;
  c.bits = bits;
  c.sampling = sampling;
  c.epochs = 2;
  c.delay = delay;
  c.step = 0.05;
  c.l2 = 0.01;
  c.l1 = 0.0;
  c.label_range = 16777216;
  c.loss = kRefetches ? zipml::kHinge : zipml::kLeastSquares;
  c.block_step = 1;
  return c;
}

/// Whatever the losses and the quantization of model and gradient can be combined with.
void AddOptions(int number, Case &c) {
  if (!kRefetches) c.loss = number % 4;
  c.range_log2 = number % 3;
  c.weights = number % 2 == 1;
  c.own_steps = number % 5 < 3;
  c.l1 = number % 4 == 2 ? 0.002 : 0.0;
  c.corrected = number % 7 < 4 && !kFloat;
  c.frozen = number % 6 == 2;
  c.model_bits = number % 3 == 0 ? 8 : 0;
  c.model_shift = 18;
  c.gradient_bits = number % 4 == 1 ? 6 : 0;
  c.gradient_shift = kGradientBits - 10;
  const uint32_t blocks = Blocks(c);
  c.first_block = number % blocks;
  c.block_step = blocks % 3 != 0 ? std::min(3u, blocks) : 1;
}

}  // namespace

int main() {
  RunAllInvalid();
  int cases = 0;
#ifdef ZIPML_BENCH_QUICK
  const uint32_t features[] = {kLanes + 1};
  const uint32_t batches[] = {4};
  const uint32_t delays[] = {0, 2};
#else
  const uint32_t features[] = {1, kLanes - 1, kLanes, kLanes + 1, 90};
  const uint32_t batches[] = {1, 3, 16};
  const uint32_t delays[] = {0, 1, 2, 3, 5};
#endif
  for (uint32_t bits = kFewestBits; bits <= kMostBits; bits += kNextBits) {
    for (uint32_t sampling = 0; sampling <= (kFloat ? 0u : 2u); ++sampling) {
      for (uint32_t n : features) {
        for (uint32_t batch : batches) {
          if (n == 0) continue;
          // the full product is for the Python sweep; here every pair of neighbours meets
          const uint32_t delay = delays[cases % (sizeof delays / sizeof delays[0])];
          Case c = Plain(n, batch, bits, sampling, delay);
          c.extra_planes = kFloat ? 0 : cases % 3;
          c.own_tables = kLevels && cases % 2 == 0;
          c.own_steps = cases % 4 == 3;
          c.corrected = cases % 5 == 2 && !kFloat;
          RunCase(c);
          if (cases % 3 == 0) {
            Case segmented = c;
            segmented.weights = cases % 2 == 0;
            segmented.own_steps = cases % 4 < 2;
            segmented.corrected = cases % 8 < 4 && !kFloat;
            if (c.delay <= 1) segmented.model_bits = 8;
            segmented.model_shift = 18;
            segmented.gradient_bits = 8;
            segmented.gradient_shift = kGradientBits - 12;
            RunSegments(segmented);
          }
          AddOptions(cases, c);
          RunCase(c);
#ifndef ZIPML_BENCH_ENGINE
          if (cases % 3 == 1) RunStages(c);
#endif
          ++cases;
        }
      }
    }
  }
  // all up to 7, and 11 and 15
  for (uint32_t degree = 1; degree <= zipml::kMaxDegree && format_t::kPlaneByPlane && !kRefetches;
       degree += degree < 7 ? 1 : 4) {
    // whole ports hold 4096 words of planes
    const uint32_t batch = kWholePorts ? 8 : 16;
    Case c = Plain(kLanes + 1, batch, kFewestBits + degree % 8, zipml::kIndependent, degree % 4);
    c.loss = zipml::kPolynomial;
    c.degree = degree;
    c.range_log2 = degree % 3;
    c.weights = degree % 2 == 0;
    c.extra_planes = degree % 2;
    c.own_steps = degree % 3 == 0;
    c.corrected = degree % 4 == 1;
    RunCase(c);
    RunSegments(c);
    ++cases;
  }
  // large labels and steps: the model must saturate, be counted, and agree all the same
  Case saturating = Plain(kLanes + 1, 8, kFloat ? 32 : 3, kFloat ? 0 : 2, 1);
  saturating.samples = 48;
  saturating.block_batches = 3;
  saturating.epochs = 4;
  saturating.step = 8.0;
  saturating.l2 = 0.0;
  saturating.label_range = 2147483000u;
  RunCase(saturating);
  saturating.own_steps = true;
  RunCase(saturating);
  std::printf("%s, %d-bit words: %d cases, %d failures\n", kTopName, ZIPML_WORD_BITS, cases + 2,
              failures);
  return failures == 0 ? 0 : 1;
}
