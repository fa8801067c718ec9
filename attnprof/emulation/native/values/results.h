// Putting results into the shadows of the device's memory, and doing so again at each replay of a graph.
#pragma once
#include <iostream>
#include <utility>

#include "graphs.h"
#include "host_call.h"

namespace values {

// `fresh`: the tensor has its memory alone, which operators inside of this one may have used before.
inline void store(const Operator &info, const at::Tensor &to, const at::Tensor &from, int level, bool fresh,
                  const std::vector<IValue> &args) {
  if (!on_card(to) || !plain(to)) return;
  const void *device = to.storage().data();
  if (storage_bytes(to) > kMediumBytes) {
    if (whole(to)) uniforms().erase(device);
    else materialize(to);
  }
  if (large(to)) return;
  if (!from.defined() || from.sizes() != to.sizes()) {
    if (verbose() && from.defined())
      std::cerr << "values: " << from.sizes() << " on the host, " << to.sizes() << " on the card\n";
    return make_up(to, 0);
  }
  {
    Below below;
    auto at = host_of(to);
    at.copy_(from);
    if (level == EMU_MADE_UP) settle(info, at, args);
  }
  if (fresh) attnprof_set_level(device, storage_bytes(to), level, EMU_WHOLE);
  else set_level(to, device, level);
}

inline void store_uniform(const Operator &info, const at::Tensor &to, const at::Scalar &value, int level, bool fresh) {
  if (!on_card(to) || !plain(to) || !to.numel()) return;
  bool made_up = level == EMU_MADE_UP;
  at::Scalar kept = made_up ? harmless(info, to, is_finite(value) ? value : at::Scalar(0)) : value;
  const void *device = to.storage().data();
  // mse_loss and smooth_l1_loss return one number in the memory of all terms (LossCPU.h's meta functions).
  bool alone = fresh && to.numel() == 1;
  if (storage_bytes(to) > kMediumBytes && (whole(to) || alone)) {
    uniforms().set(device, {kept, level});
    if (!large(to)) attnprof_set_level(device, storage_bytes(to), level, EMU_WHOLE);
    return;
  }
  make_up(to, kept);
  if (!made_up && !large(to)) set_level(to, device, level);
}

template <typename F>
inline void each_pair(const IValue &to, const IValue *from, F f) {
  std::vector<at::Tensor> sources;
  if (from) each_tensor(*from, [&](const at::Tensor &t) { sources.push_back(t); });
  size_t i = 0;
  each_tensor(to, [&](const at::Tensor &t) {
    f(t, i < sources.size() ? sources[i] : at::Tensor());
    i++;
  });
}

// At each replay of the graph: the same kernel on the same memory.
inline void record(const c10::OperatorHandle &op, const Operator &info, const std::vector<IValue> &host,
                   const std::vector<std::pair<at::Tensor, std::pair<bool, size_t>>> &targets) {
  graphs().add([op, &info, host, targets] {
    int level = info.random ? EMU_DRAWN : EMU_TRUE;
    bool there = true;
    for (size_t i = 0; i < host.size(); i++)
      each_tensor(host[i], [&](const at::Tensor &t) {
        if (!t.defined() || !t.is_cpu()) return;
        there &= alive(t);
        if (there && !contains(info.out, i) && !(info.overwrites && contains(info.written, i)))
          level = std::max(level, level_of_host(t));
      });
    for (const auto &target : targets) there &= alive(target.first);
    if (!there) return;
    std::optional<Outcome> made;
    try {
      made = run_on_host(op, info, host);
    } catch (const std::exception &) {
      level = EMU_MADE_UP;
    }
    Below below;
    for (const auto &[to, from] : targets) {
      const auto &[is_result, index] = from;
      const IValue *value = made ? &(is_result ? made->results[index] : made->args[index]) : nullptr;
      if (value && value->isTensor() && value->toTensor().sizes() == to.sizes()) {
        to.copy_(value->toTensor());
        if (level == EMU_MADE_UP) settle(info, to, host);
      }
      set_level(to, device_storage(to), level);
    }
  });
}
} // namespace values
