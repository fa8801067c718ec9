// One run of an operator's CPU kernel, with the host's tensors in place of the device's.
#pragma once
#include <ATen/core/stack.h>
#include <malloc.h>

#include <atomic>
#include <cmath>

#include "operators.h"
#include "random.h"
#include "tensors.h"

namespace values {

using c10::IValue;
using torch::jit::Stack;

inline bool verbose() {
  static const bool wanted = getenv("ATTNPROF_VALUES_VERBOSE") != nullptr;
  return wanted;
}

template <typename F>
void each_tensor(const IValue &value, F f) {
  if (value.isTensor()) f(value.toTensor());
  else if (value.isTensorList())
    for (const at::Tensor &t : value.toTensorVector()) f(t);
  else if (value.isList())
    for (const IValue &item : value.toListRef())
      if (item.isTensor()) f(item.toTensor());
}

// The argument with each tensor for which `chosen` holds replaced.
template <typename Chosen, typename F>
IValue mapped(const IValue &value, Chosen chosen, F f) {
  if (value.isTensor()) return chosen(value.toTensor()) ? IValue(f(value.toTensor())) : value;
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor &t : value.toTensorVector()) list.push_back(chosen(t) ? f(t) : t);
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor> &t : value.toOptionalTensorVector())
      list.push_back(t && chosen(*t) ? std::optional<at::Tensor>(f(*t)) : t);
    return list;
  }
  if (value.isDevice() && value.toDevice().is_cuda()) return IValue(at::Device(at::kCPU));
  return value;
}
template <typename F>
IValue on_host(const IValue &value, F f) {
  return mapped(value, on_card, f);
}

// Give memory of results that are gone back to the system. Blocks of the allocator that live on between them would keep
// it from being used again.
inline void trim(size_t bytes) {
  constexpr size_t kEach = 64 << 20;
  static std::atomic<size_t> since{0};
  if ((since += bytes) < kEach) return;
  since = 0;
  malloc_trim(0);
}

struct Outcome {
  std::vector<IValue> args; // with copies of what is written, after the run
  Stack results;
};

// Run the kernel. What is written goes to copies, since the device's kernel may call operators that write, too.
inline Outcome run_on_host(const c10::OperatorHandle &op, const Operator &info, const std::vector<IValue> &args) {
  auto defined = [](const at::Tensor &t) { return t.defined(); };
  std::optional<SeededDefault> seeded;
  uint64_t seed = info.random ? seed_of(info.generator >= 0 ? &args[info.generator] : nullptr) : 0;
  Below below;
  Outcome made;
  for (size_t i = 0; i < args.size(); i++) {
    if (int(i) == info.generator) made.args.push_back(at::detail::createCPUGenerator(seed));
    else if (contains(info.out, i))
      made.args.push_back(mapped(
          args[i], defined, [](const at::Tensor &t) { return at::empty({0}, at::TensorOptions(t.scalar_type())); }));
    else if (contains(info.written, i))
      made.args.push_back(mapped(args[i], defined, [&](const at::Tensor &t) {
        return info.overwrites ? at::empty(t.sizes(), at::TensorOptions(t.scalar_type())) : t.clone();
      }));
    else made.args.push_back(args[i]);
  }
  if (info.random && info.generator < 0) seeded.emplace(seed);
  made.results = made.args;
  op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), &made.results);
  for (const IValue &result : made.results)
    each_tensor(result, [](const at::Tensor &t) {
      if (t.defined()) trim(t.nbytes());
    });
  return made;
}

inline bool is_finite(const at::Scalar &value) {
  if (value.isComplex())
    return std::isfinite(value.toComplexDouble().real()) && std::isfinite(value.toComplexDouble().imag());
  return !value.isFloatingPoint() || std::isfinite(value.toDouble());
}

// Whether numbers that are not finite were among the arguments already, as in a mask of -inf.
inline bool any_infinite(const std::vector<IValue> &args) {
  bool found = false;
  for (const IValue &value : args) {
    if (value.isScalar()) found |= !is_finite(value.toScalar());
    each_tensor(value, [&](const at::Tensor &t) {
      if (t.defined() && t.is_cpu() && t.is_floating_point() && t.numel()) found |= at::isinf(t).any().item<bool>();
    });
  }
  return found;
}

// What is made up must not look like an error. NaN becomes 0, and so does an infinity that only zeros led to. A loss, a
// total or a mean of everything is not 0, as programs divide by it and take its logarithm.
inline at::Scalar harmless(const Operator &info, const at::Tensor &to, const at::Scalar &value) {
  bool one = info.totals && to.numel() == 1 && at::isFloatingType(to.scalar_type());
  return one && value.toComplexDouble() == 0.0 ? at::Scalar(1) : value;
}

inline void settle(const Operator &info, const at::Tensor &made_up, const std::vector<IValue> &args) {
  if (!made_up.is_floating_point() || !made_up.numel()) return;
  if (!std::isfinite(at::sum(made_up).item<double>())) {
    if (any_infinite(args)) made_up.nan_to_num_(0.0, INFINITY, -INFINITY);
    else made_up.nan_to_num_(0.0, 0.0, 0.0);
  }
  if (made_up.numel() == 1) made_up.fill_(harmless(info, made_up, made_up.item()));
}
} // namespace values
