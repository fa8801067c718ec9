// The kernel that every operator gets.
#pragma once
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_set>

#include "arguments.h"
#include "copies.h"

namespace values {

// Operators whose CPU kernel refuses these types, or fails on values that are made up.
class Refusals {
 public:
  bool known(const std::string &name) {
    std::lock_guard<std::mutex> guard(lock_);
    return names_.count(name) > 0;
  }
  void add(const std::string &name) {
    std::lock_guard<std::mutex> guard(lock_);
    names_.insert(name);
  }

 private:
  std::mutex lock_;
  std::unordered_set<std::string> names_;
};
inline Refusals &refusals() {
  static Refusals *made = new Refusals;
  return *made;
}

inline void watch_allocator() {
  static std::once_flag once;
  std::call_once(once, [] {
    using Entry = c10::cuda::CUDACachingAllocator::TraceEntry;
    try {
      c10::cuda::CUDACachingAllocator::attachAllocatorTraceTracker([](const Entry &entry) {
        if (entry.action_ != Entry::ALLOC && entry.action_ != Entry::FREE_COMPLETED) return;
        auto *address = reinterpret_cast<const void *>(entry.addr_);
        attnprof_blank(address, entry.size_);
        if (entry.size_ > kMediumBytes) uniforms().erase(address);
      });
    } catch (const std::exception &) {
      attnprof_assume("memory is never used again before it is written (this allocator cannot be followed)");
    }
  });
}

// Set when a library has brought new operators.
inline std::atomic<bool> news{false};
void take_operators();

class Hook : public c10::OperatorKernel {
 public:
  explicit Hook(const c10::OperatorHandle &op) : info_(describe(op)) {}

  void operator()(const c10::OperatorHandle &op, DispatchKeySet keys, Stack *stack) {
    DispatchKeySet next = keys & DispatchKeySet(DispatchKeySet::FULL_AFTER, DispatchKey::BackendSelect);
    if (news.exchange(false)) take_operators();
    if (below || info_.passes) return op.redispatchBoxed(next, stack);
    size_t count = op.schema().arguments().size();
    Arguments seen = look_at(info_, &(*stack)[stack->size() - count], count);
    if (!seen.any) return op.redispatchBoxed(next, stack);
    watch_allocator();
    if (seen.strange) return pass(op, next, stack);
    if (info_.copies) return copy(op, next, stack);
    if (info_.reads) return read(op, next, stack);
    compute(op, next, stack, seen);
  }

 private:
  // An operator on tensors that are not plain: what it gives back as plain ones is made up.
  void pass(const c10::OperatorHandle &op, DispatchKeySet next, Stack *stack) {
    std::vector<IValue> args(stack->end() - op.schema().arguments().size(), stack->end());
    op.redispatchBoxed(next, stack);
    auto mark = [](const at::Tensor &t) {
      if (on_card(t) && plain(t)) materialize(t), set_level(t, t.storage().data(), EMU_MADE_UP);
    };
    for (int i : info_.written) each_tensor(args[i], mark);
    for (int i : info_.out) each_tensor(args[i], mark);
  }

  void read(const c10::OperatorHandle &op, DispatchKeySet next, Stack *stack) {
    const at::Tensor &from = stack->back().toTensor();
    auto uniform = uniform_of(from);
    if (!uniform) return op.redispatchBoxed(next, stack);
    at::Tensor value = filled(from, uniform->value);
    Answer answer(uniform->level);
    answer.give(value.const_data_ptr(), value.element_size());
    op.redispatchBoxed(next, stack);
  }

  void compute(const c10::OperatorHandle &op, DispatchKeySet next, Stack *stack, Arguments seen) {
    std::vector<IValue> args(stack->end() - op.schema().arguments().size(), stack->end());
    int level = info_.random ? std::max<int>(seen.level, EMU_DRAWN) : seen.level;
    std::optional<at::Scalar> same = uniform_result(op, info_, args, seen);
    std::vector<IValue> host;
    std::optional<Outcome> made;
    if (!same && worth(info_, args, seen)) made = attempt(op, args, host, level);
    std::optional<at::Scalar> instead = same;
    if (!same && !made) {
      level = EMU_MADE_UP;
      instead = info_.yes ? at::Scalar(1) : info_.pointwise ? value_at(op, info_, args) : std::nullopt;
      if (!instead) instead = at::Scalar(0);
    }

    bool equal = info_.compares && made ? made->results[0].toBool() : true; // what is unknown is equal
    Answer answer(level);
    if (info_.compares) answer.give(&equal, sizeof equal);
    else if (int64_t count = count_of(args, made); count >= 0) answer.give(&count, 0);
    size_t base = stack->size() - args.size();
    try {
      launch(op, next, stack);
    } catch (const std::exception &error) {
      const char *library = missing_library(error.what());
      bool replaceable = made && all_strided(*made);
      if (library && !replaceable) attnprof_unknown(library);
      if (!library || !replaceable) throw;
      attnprof_assume((std::string(library) + " takes no workspace in " + info_.name).c_str());
      stack->resize(base);
      for (IValue &result : on_card_like(*made, args)) stack->push_back(std::move(result));
    }
    answer.end();

    std::vector<std::pair<at::Tensor, std::pair<bool, size_t>>> targets;
    bool recorded = graphs().capturing() && made;
    auto put = [&](const IValue &to, bool is_result, size_t index) {
      const IValue *from = made ? &(is_result ? made->results[index] : made->args[index]) : nullptr;
      each_pair(to, from, [&](const at::Tensor &t, const at::Tensor &source) {
        if (!on_card(t) || !plain(t)) return;
        if (made) store(info_, t, source, level, is_result, made->args);
        else if (same || !changes(is_result, index)) store_uniform(info_, t, *instead, level, is_result);
        else spoil(t, *instead);
        if (recorded && to.isTensor() && !large(t)) targets.push_back({host_of(t), {is_result, index}});
      });
    };
    for (int i : info_.out) put(args[i], false, i);
    for (int i : info_.written) put(args[i], false, i);
    size_t first = stack->size() - op.schema().returns().size();
    for (int i : info_.fresh) put((*stack)[first + i], true, i);
    if (recorded) record(op, info_, host, targets);
  }

  // The library that is not emulated and whose absence let a kernel fail; then what the host computed takes its place.
  static const char *missing_library(const char *error) {
    static const std::pair<const char *, const char *> libraries[] = {{"CUSOLVER", "cuSOLVER"},
                                                                      {"cusolver", "cuSOLVER"},
                                                                      {"CUFFT", "cuFFT"},
                                                                      {"CUSPARSE", "cuSPARSE"},
                                                                      {"cusparse", "cuSPARSE"}};
    auto found = std::find_if(std::begin(libraries), std::end(libraries),
                              [&](const auto &library) { return strstr(error, library.first); });
    return found == std::end(libraries) ? nullptr : found->second;
  }

  static bool all_strided(const Outcome &made) {
    bool all = true;
    for (const IValue &result : made.results)
      each_tensor(result, [&](const at::Tensor &t) { all &= !t.defined() || t.layout() == at::kStrided; });
    return all;
  }

  // Results on the device, without values yet, that are like those of the host.
  std::vector<IValue> on_card_like(const Outcome &made, const std::vector<IValue> &args) const {
    at::Device device(at::kCUDA, c10::cuda::current_device());
    std::vector<IValue> results;
    for (int i : info_.out) {
      at::Tensor out = args[i].toTensor();
      results.push_back(out.resize_(made.args[i].toTensor().sizes()));
    }
    for (int i : info_.written) results.push_back(args[i]);
    for (int i : info_.fresh)
      results.push_back(mapped(
          made.results[i], [](const at::Tensor &t) { return t.defined(); },
          [&](const at::Tensor &t) { return at::empty_strided(t.sizes(), t.strides(), t.options().device(device)); }));
    return results;
  }

  // Whether a target had values before that the operator reads.
  bool changes(bool is_result, size_t index) const {
    return !is_result && contains(info_.written, index) && !info_.overwrites;
  }

  // A tensor was changed in a way that nobody computed: it keeps its values, which are made up from now on.
  void spoil(const at::Tensor &t, const at::Scalar &value) const {
    auto uniform = uniform_of(t);
    if (large(t) || uniform) {
      bool sensible = info_.pointwise && whole(t) && is_finite(value);
      at::Scalar kept = sensible ? value : uniform ? uniform->value : at::Scalar(0);
      uniforms().set(t.storage().data(), {kept, EMU_MADE_UP});
    }
    set_level(t, t.storage().data(), EMU_MADE_UP);
  }

  std::optional<Outcome> attempt(const c10::OperatorHandle &op, const std::vector<IValue> &args,
                                 std::vector<IValue> &host, int level) const {
    std::string name = op.schema().name() + "." + op.schema().overload_name();
    for (const IValue &value : args)
      each_tensor(value, [&](const at::Tensor &t) {
        if (t.defined()) name += ' ', name += t.dtype().name();
      });
    if (refusals().known(name)) return {};
    bool capturing = graphs().capturing();
    try {
      for (const IValue &value : args)
        host.push_back(on_host(value, [&](const at::Tensor &t) {
          if (capturing) materialize(t);
          auto uniform = uniform_of(t);
          if (!uniform) return resolved_host_of(t);
          Below below;
          return filled_as_scalar(t, uniform->value).expand(t.sizes());
        }));
      return run_on_host(op, info_, host);
    } catch (const std::exception &error) {
      if (verbose()) fprintf(stderr, "values: %s: %.200s\n", name.c_str(), error.what());
      bool refuses = strstr(error.what(), "not implemented") || strstr(error.what(), "Could not run");
      if (level == EMU_MADE_UP || refuses) refusals().add(name);
      if (level == EMU_TRUE && (strstr(error.what(), "out of range") || strstr(error.what(), "out of bounds")))
        attnprof_assume(("the program goes on after an index out of range in " + info_.name +
                         ", where a real card stops it with a device-side assertion")
                            .c_str());
      return {};
    }
  }

  // The size of the result, which the CUDA kernel reads back; -1 if it reads none or it is unknown.
  int64_t count_of(const std::vector<IValue> &args, const std::optional<Outcome> &made) const {
    if (info_.counted < 0) return -1;
    if (made) {
      const at::Tensor &result = made->results[info_.counted].toTensor();
      if (info_.name == "aten::_coalesce") return result._nnz();
      return result.size(info_.name == "aten::unique_dim" ? args[1].toInt() : 0);
    }
    int mask = info_.name == "aten::nonzero" ? 0 : info_.name == "aten::masked_select" ? 1 : -1;
    if (mask < 0) return -1;
    const at::Tensor &t = args[mask].toTensor();
    auto uniform = uniform_of(t);
    return uniform && uniform->value.toComplexDouble() != 0.0 ? t.numel() : -1;
  }

  const Operator info_;
};
} // namespace values
