// What the arguments of a call have in common, and what follows from them without computing.
#pragma once
#include <string>
#include <unordered_set>

#include "host_call.h"

namespace values {

constexpr double kWork = 4e6, kWorkMadeUp = 256e3; // multiply-adds of a product
constexpr double kHalf = 16;                       // CPU kernels take this many times as long for 16-bit numbers

// What the arguments of a call have in common.
struct Arguments {
  bool any = false;     // a tensor on the device
  bool strange = false; // a sparse, nested or other tensor that has no plain memory
  bool large = false;
  bool largest_medium = false; // larger than kMediumBytes
  bool costly = false;         // larger than kCostlyBytes
  bool half = false;
  bool all_single = true; // each tensor that is read is uniform or has one element
  bool any_uniform = false;
  int level = EMU_TRUE;
};

inline Arguments look_at(const Operator &info, const IValue *args, size_t count) {
  Arguments seen;
  for (size_t i = 0; i < count; i++) {
    bool read = !contains(info.out, i) && !(info.overwrites && contains(info.written, i));
    each_tensor(args[i], [&](const at::Tensor &t) {
      if (!on_card(t)) {
        if (t.defined() && t.numel() != 1) seen.all_single = false;
        return;
      }
      seen.any = true;
      auto resolvable = [&] { return read && !contains(info.written, i) && storage_bytes(t) <= kMediumBytes; };
      if (!readable(t) || (lazy(t) && !resolvable())) {
        seen.strange = true;
        return;
      }
      seen.all_single &= !lazy(t);
      size_t bytes = storage_bytes(t);
      seen.large |= bytes > EMU_SMALL_BYTES;
      seen.largest_medium |= bytes > kMediumBytes;
      seen.costly |= bytes > kCostlyBytes;
      seen.half |= at::isReducedFloatingType(t.scalar_type());
      if (!read) return;
      bool uniform = uniform_of(t).has_value();
      seen.any_uniform |= uniform;
      seen.all_single &= uniform || (t.numel() == 1 && bytes <= EMU_SMALL_BYTES);
      // Operators make a tensor without values and have another one fill it, which takes it for an argument.
      int blank = contains(info.written, i) ? EMU_TRUE : EMU_MADE_UP;
      if (!seen.strange) seen.level = std::max(seen.level, level_of(t, blank));
    });
  }
  return seen;
}

// Multiply-adds of a product of matrices or of a convolution, whose CPU kernels for 16-bit numbers are slow.
inline double work_of(const Operator &info, const std::vector<IValue> &args, bool half) {
  std::vector<at::Tensor> found;
  for (const IValue &value : args)
    each_tensor(value, [&](const at::Tensor &t) {
      if (t.defined() && (!info.convolves || t.dim() > 2)) found.push_back(t); // not the bias
    });
  if (found.size() < 2) return 0;
  const at::Tensor &a = info.convolves ? found.front() : found[found.size() - 2], &b = found.back();
  double each = info.convolves ? b.numel() / std::max<double>(1, b.size(0)) : b.dim() ? b.size(-1) : 1;
  return double(a.numel()) * each * (half ? kHalf : 1);
}

inline bool worth(const Operator &info, const std::vector<IValue> &args, const Arguments &seen) {
  if (!info.cpu || seen.large) return false;
  bool made_up = seen.level == EMU_MADE_UP;
  if (made_up && (info.unscales || (info.many && seen.largest_medium))) return false;
  if ((info.product || info.convolves) && work_of(info, args, seen.half) > (made_up ? kWorkMadeUp : kWork))
    return false;
  return seen.level == EMU_TRUE || !seen.costly || !(info.costly || seen.half);
}

// The value of an operator on one element: each tensor on the device becomes its one value, or 0 if it has several.
inline std::optional<at::Scalar> value_at(const c10::OperatorHandle &op, const Operator &info,
                                          const std::vector<IValue> &args) {
  if (!info.cpu || info.random || info.many || info.fresh.size() + info.written.size() + info.out.size() != 1)
    return {};
  try {
    Below below;
    Stack one;
    for (size_t i = 0; i < args.size(); i++) {
      if (contains(info.out, i))
        one.push_back(
            on_host(args[i], [](const at::Tensor &t) { return at::empty({0}, at::TensorOptions(t.scalar_type())); }));
      else
        one.push_back(on_host(args[i], [](const at::Tensor &t) {
          if (auto uniform = uniform_of(t)) return filled(t, uniform->value);
          if (t.numel() == 1 && !large(t)) return host_of(t).clone().reshape({1});
          return filled(t, 0);
        }));
    }
    op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), &one);
    if (one.size() == 1 && one[0].isTensor() && one[0].toTensor().numel() == 1) return one[0].toTensor().item();
  } catch (const std::exception &) {
  }
  return {};
}

// The value of a reduction of all elements, if all have the same value.
inline bool reduces_all(const Operator &info, const std::vector<IValue> &args) {
  static const std::unordered_set<std::string> names = {"aten::all", "aten::any", "aten::max", "aten::min",
                                                        "aten::mean"};
  // mean() comes here as a mean over the empty list of dimensions.
  auto of_all = [](const IValue &dims) { return dims.isNone() || (dims.isIntList() && dims.toIntVector().empty()); };
  return names.count(info.name) && (args.size() == 1 || (info.name == "aten::mean" && of_all(args[1])));
}

// The value that all elements of the result have, if that follows from the arguments without their elements.
inline std::optional<at::Scalar> uniform_result(const c10::OperatorHandle &op, const Operator &info,
                                                const std::vector<IValue> &args, const Arguments &seen) {
  if (info.moves) {
    std::optional<at::Scalar> value;
    bool same = true;
    each_tensor(args[0], [&](const at::Tensor &t) {
      auto uniform = on_card(t) ? uniform_of(t) : std::nullopt;
      same &= uniform && (!value || value->toComplexDouble() == uniform->value.toComplexDouble());
      if (uniform) value = uniform->value;
    });
    return same ? value : std::nullopt;
  }
  bool writes_large = info.pointwise && seen.large; // fill_ and zero_ of a large tensor, too
  if (!seen.all_single || !(seen.any_uniform || writes_large)) return {};
  return info.pointwise || reduces_all(info, args) ? value_at(op, info, args) : std::nullopt;
}
} // namespace values
