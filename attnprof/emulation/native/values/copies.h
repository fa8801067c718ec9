// Running the device's kernels: what they read back meanwhile, and copies between tensors.
#pragma once
#include <cstring>

#include "results.h"

namespace values {

// What the reads of this thread are answered meanwhile. Operators inside of the operator do not change it.
class Answer {
 public:
  explicit Answer(int level) : level_(level) {}
  ~Answer() { end(); }
  void give(const void *value, size_t bytes) {
    if (active) return;
    attnprof_answer(value, bytes, level_);
    active = given_ = true;
  }
  void end() {
    if (given_) attnprof_answer(nullptr, 0, 0), active = given_ = false;
  }
  static inline thread_local bool active = false;

 private:
  int level_;
  bool given_ = false;
};

// Run the device's kernel, whose launches belong to an operator that is known here.
inline void launch(const c10::OperatorHandle &op, DispatchKeySet next, Stack *stack) {
  struct Inside {
    Inside() { attnprof_enter_operator(1); }
    ~Inside() { attnprof_enter_operator(-1); }
  } inside;
  op.redispatchBoxed(next, stack);
}

// copy_ needs no kernel of its own: the driver carries the bytes of plain copies between host and device.
inline void copy(const c10::OperatorHandle &op, DispatchKeySet next, Stack *stack) {
  size_t first = stack->size() - op.schema().arguments().size();
  at::Tensor to = (*stack)[first].toTensor(), from = (*stack)[first + 1].toTensor();
  auto uniform = on_card(from) ? uniform_of(from) : std::nullopt;
  if (on_card(to)) {
    if (whole(to)) {
      if (storage_bytes(to) > kMediumBytes) uniforms().erase(to.storage().data());
    } else {
      materialize(to);
    }
  }
  if (!on_card(to) && uniform && !large(from)) materialize(from);
  int level = on_card(from) ? level_of(from) : EMU_TRUE;
  launch(op, next, stack);
  if (!to.numel()) return;
  if (!on_card(to)) {
    if (uniform && large(from)) {
      Below below;
      at::Tensor(to).detach().fill_(uniform->value);
    }
  } else if (!on_card(from)) {
    // The same value everywhere is worth keeping, and a difference is found at once.
    size_t item = from.defined() ? from.element_size() : 0, bytes = item * from.numel();
    const char *data =
        from.is_cpu() && from.is_contiguous() ? static_cast<const char *>(from.const_data_ptr()) : nullptr;
    if (large(to) && whole(to) && data && from.scalar_type() == to.scalar_type() && from.sizes() == to.sizes() &&
        !memcmp(data, data + item, bytes - item)) {
      Below below;
      uniforms().set(to.storage().data(), {from.flatten()[0].item(), EMU_TRUE});
    }
  } else if (uniform && whole(to) && storage_bytes(to) > kMediumBytes) {
    Below below;
    uniforms().set(to.storage().data(), {filled(from, uniform->value).to(to.scalar_type()).item(), uniform->level});
  } else if (large(to)) {
    return;
  } else if (large(from) && !uniform) {
    make_up(to, 0);
  } else {
    if (graphs().capturing()) materialize(from), uniform.reset();
    Below below;
    at::Tensor source = uniform ? filled_as_scalar(from, uniform->value) : resolved_host_of(from), target = host_of(to);
    target.copy_(source);
    set_level(to, to.storage().data(), level);
    if (graphs().capturing())
      graphs().add([source, target] {
        if (!alive(source) || !alive(target)) return;
        Below below;
        target.copy_(source);
        set_level(target, device_storage(target), level_of_host(source));
      });
  }
}
} // namespace values
