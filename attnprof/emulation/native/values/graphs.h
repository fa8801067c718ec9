// CUDA graphs: what operators did while a graph was captured is done again on the host at each replay.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tensors.h"

namespace values {

class Graphs {
 public:
  void capture(unsigned long long graph) { captured_ = graph; }
  bool capturing() const { return captured_ != 0; }
  void add(std::function<void()> step) {
    std::lock_guard<std::mutex> guard(lock_);
    if (captured_) steps_[captured_].push_back(std::move(step));
  }
  void replay(unsigned long long graph) {
    std::vector<std::function<void()>> steps;
    {
      std::lock_guard<std::mutex> guard(lock_);
      auto found = steps_.find(graph);
      if (found != steps_.end()) steps = found->second;
    }
    for (const auto &step : steps) step();
  }
  void forget(unsigned long long graph) {
    std::lock_guard<std::mutex> guard(lock_);
    steps_.erase(graph);
  }

 private:
  std::atomic<unsigned long long> captured_{0};
  std::mutex lock_;
  std::unordered_map<unsigned long long, std::vector<std::function<void()>>> steps_;
};
inline Graphs &graphs() {
  static Graphs *made = new Graphs;
  return *made;
}

// Whether the memory that a host tensor stands for is still there.
inline bool alive(const at::Tensor &host) {
  const void *device = device_storage(host);
  return !device || !storage_bytes(host) || attnprof_shadow(device, storage_bytes(host)) == host.storage().data();
}

inline int level_of_host(const at::Tensor &host) {
  const void *device = device_storage(host);
  if (!device || !host.numel()) return EMU_TRUE;
  Span span = span_of(host, device);
  int level = attnprof_level(span.address, span.bytes);
  return level == EMU_BLANK ? EMU_MADE_UP : level;
}
} // namespace values
