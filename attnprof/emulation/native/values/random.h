// Random numbers that take the place of the device's. They follow from the state of the device's generator, so equal
// seeds give equal numbers and a state that is restored gives the former ones; the program's CPU generator is untouched.
#pragma once
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <atomic>

namespace values {

inline uint64_t seed_of(const c10::IValue *argument) {
  static std::atomic<uint64_t> draws{0};
  uint64_t seed = 0xcbf29ce484222325ull; // FNV-1a over the bytes of the state
  try {
    auto given = argument && !argument->isNone() ? argument->toGenerator()
                                                 : at::globalContext().defaultGenerator(at::Device(at::kCUDA, 0));
    auto state = given.get_state();
    for (int64_t i = 0; i < state.numel(); i++) seed = (seed ^ state.const_data_ptr<uint8_t>()[i]) * 0x100000001b3ull;
  } catch (const std::exception &) { // a state cannot be read while a graph is captured
    seed ^= ++draws;
  }
  return seed;
}

// For operators without an argument for a generator: the default one, as if it had this seed.
class SeededDefault {
 public:
  explicit SeededDefault(uint64_t seed) : generator_(at::detail::getDefaultCPUGenerator()) {
    std::lock_guard<std::mutex> guard(generator_.mutex());
    saved_ = generator_.get_state();
    generator_.set_current_seed(seed);
  }
  ~SeededDefault() {
    std::lock_guard<std::mutex> guard(generator_.mutex());
    generator_.set_state(saved_);
  }

 private:
  at::Generator generator_;
  at::Tensor saved_;
};
} // namespace values
