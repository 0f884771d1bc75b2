// Hogwild (Niu et al., NIPS 2011) on dense float32 least squares: threads take samples of their own
// and change one shared model without locks. Epochs are timed; the last line is the loss.
//
//   hogwild samples features threads epochs step  < values and labels, float32, in this order
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

/// SGD of one thread's samples. Relaxed atomics of the model are plain loads and stores.
void Work(const float *values, const float *labels, std::atomic<float> *model, size_t first,
          size_t last, size_t features, float step) {
  std::vector<float> seen(features);
  for (size_t i = first; i < last; ++i) {
    const float *row = values + i * features;
    float dot = 0;
    for (size_t j = 0; j < features; ++j) seen[j] = model[j].load(std::memory_order_relaxed);
    for (size_t j = 0; j < features; ++j) dot += row[j] * seen[j];
    const float change = step * (dot - labels[i]);
    for (size_t j = 0; j < features; ++j) {
      model[j].store(seen[j] - change * row[j], std::memory_order_relaxed);
    }
  }
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 6) return 1;
  const size_t samples = std::strtoull(argv[1], nullptr, 10);
  const size_t features = std::strtoull(argv[2], nullptr, 10);
  const size_t threads = std::strtoull(argv[3], nullptr, 10);
  const int epochs = std::atoi(argv[4]);
  const float step = std::strtof(argv[5], nullptr);
  std::vector<float> values(samples * features), labels(samples);
  if (std::fread(values.data(), sizeof(float), values.size(), stdin) != values.size()) return 1;
  if (std::fread(labels.data(), sizeof(float), samples, stdin) != samples) return 1;
  std::vector<std::atomic<float>> model(features);
  for (std::atomic<float> &entry : model) entry = 0;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const Clock::time_point start = Clock::now();
    std::vector<std::thread> workers;
    for (size_t t = 0; t < threads; ++t) {
      workers.emplace_back(Work, values.data(), labels.data(), model.data(), samples * t / threads,
                           samples * (t + 1) / threads, features, step);
    }
    for (std::thread &worker : workers) worker.join();
    std::printf("%.9f\n", std::chrono::duration<double>(Clock::now() - start).count());
  }
  double loss = 0;
  for (size_t i = 0; i < samples; ++i) {
    double dot = -labels[i];
    for (size_t j = 0; j < features; ++j)
      dot += static_cast<double>(values[i * features + j]) * model[j];
    loss += dot * dot / 2;
  }
  std::printf("%.9g\n", loss / static_cast<double>(samples));
  return 0;
}
