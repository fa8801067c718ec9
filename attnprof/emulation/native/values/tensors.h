// Tensors on the host that stand for tensors on the device: the same sizes, strides and offset over the shadow of the
// same memory. Views, aliases and in-place operators need no bookkeeping, since addresses are all that is used.
#pragma once
#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <c10/util/ParallelGuard.h>
#include <dlfcn.h>

#include <mutex>
#include <optional>
#include <unordered_map>

#include "values_interface.h"

namespace values {

using c10::DispatchKey;
using c10::DispatchKeySet;

constexpr size_t kMediumBytes = 64 << 10;  // made-up values above this are computed only if they are not all the same
constexpr size_t kCostlyBytes = 256 << 10; // expensive operators run on values above this only if they are true

inline bool on_card(const at::Tensor &t) { return t.defined() && t.is_cuda(); }
inline bool lazy(const at::Tensor &t) { return t.is_conj() || t.is_neg(); } // its memory holds other numbers
inline bool readable(const at::Tensor &t) {
  return t.layout() == at::kStrided && t.has_storage() && !t.is_nested() && !t.is_quantized() &&
         !t.unsafeGetTensorImpl()->is_python_dispatch();
}
inline bool plain(const at::Tensor &t) { return readable(t) && !lazy(t); }
inline size_t storage_bytes(const at::Tensor &t) { return t.storage().nbytes(); }
inline bool large(const at::Tensor &t) { return storage_bytes(t) > EMU_SMALL_BYTES; }

// The plain CPU kernels, on this thread, whatever is going on above. The program's own settings of the number of
// threads are kept, and none are started: a program may fork later.
inline thread_local int below = 0;
class Below {
 public:
  Below() {
    below++;
    if (below == 1 && get_threads() && set_threads()) {
      threads_ = get_threads()();
      set_threads()(1);
    }
  }
  ~Below() {
    if (--below == 0 && threads_) set_threads()(threads_);
  }

 private:
  static int (*get_threads())() {
    static auto found = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
    return found;
  }
  static void (*set_threads())(int) {
    static auto found = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
    return found;
  }
  int threads_ = 0;
  c10::impl::ExcludeDispatchKeyGuard keys_{
      c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset |
      DispatchKeySet({DispatchKey::Python, DispatchKey::PythonTLSSnapshot, DispatchKey::PythonDispatcher,
                      DispatchKey::PreDispatch, DispatchKey::Functionalize, DispatchKey::FuncTorchDynamicLayerFrontMode,
                      DispatchKey::FuncTorchDynamicLayerBackMode, DispatchKey::FuncTorchBatched,
                      DispatchKey::FuncTorchVmapMode, DispatchKey::Tracer})};
  c10::ParallelGuard serial_{true};
  at::RecordFunctionGuard unrecorded_{false}; // a profiler of the program does not see this
};

// A value that a whole storage is filled with, without being in its shadow: for large storages, and for values that are
// made up and would only be the same number many times.
struct Uniform {
  at::Scalar value;
  int level;
};

class Uniforms {
 public:
  std::optional<Uniform> find(const void *storage) {
    std::lock_guard<std::mutex> guard(lock_);
    auto found = by_storage_.find(storage);
    return found == by_storage_.end() ? std::nullopt : std::optional<Uniform>(found->second);
  }
  void set(const void *storage, Uniform uniform) {
    std::lock_guard<std::mutex> guard(lock_);
    by_storage_.insert_or_assign(storage, uniform);
  }
  void erase(const void *storage) {
    std::lock_guard<std::mutex> guard(lock_);
    by_storage_.erase(storage);
  }

 private:
  std::mutex lock_;
  std::unordered_map<const void *, Uniform> by_storage_;
};
inline Uniforms &uniforms() {
  static Uniforms *made = new Uniforms; // never destroyed: threads may outlive the end of main
  return *made;
}
inline std::optional<Uniform> uniform_of(const at::Tensor &t) {
  if (storage_bytes(t) <= kMediumBytes) return std::nullopt;
  return uniforms().find(t.storage().data());
}

// The bytes that a tensor occupies, and whether these are all that its storage has.
struct Span {
  const char *address;
  size_t bytes;
  int coverage;
};
inline Span span_of(const at::Tensor &t, const void *storage) {
  if (!t.numel()) return {static_cast<const char *>(storage), 0, EMU_SOME};
  int64_t last = 0;
  for (int64_t i = 0; i < t.dim(); i++) last += (t.size(i) - 1) * t.stride(i);
  size_t item = t.element_size(), offset = t.storage_offset() * item, bytes = (last + 1) * item;
  bool dense = size_t(t.numel()) * item == bytes;
  bool whole = dense && offset == 0 && bytes == storage_bytes(t);
  return {static_cast<const char *>(storage) + offset, bytes, whole ? EMU_WHOLE : dense ? EMU_DENSE : EMU_SOME};
}
inline bool whole(const at::Tensor &t) { return span_of(t, nullptr).coverage == EMU_WHOLE; }

// The device's address of the storage that a host tensor stands for; nullptr for any other tensor.
inline void keep_nothing(void *) {}
inline const void *device_storage(const at::Tensor &host) {
  const auto &data = host.storage().data_ptr();
  return data.get_deleter() == &keep_nothing ? data.get_context() : nullptr;
}

inline at::Tensor over(void *base, const void *device, const at::Tensor &t) {
  at::DataPtr data(base, const_cast<void *>(device), &keep_nothing, at::Device(at::kCPU));
  c10::Storage storage(c10::Storage::use_byte_size_t(), storage_bytes(t), std::move(data));
  auto made = at::detail::make_tensor<at::TensorImpl>(std::move(storage), DispatchKeySet(DispatchKey::CPU), t.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  return made;
}

// The host's tensor for one of the device that is not large.
inline at::Tensor host_of(const at::Tensor &t) {
  const void *device = t.storage().data();
  void *base = storage_bytes(t) ? attnprof_shadow(device, storage_bytes(t)) : nullptr;
  TORCH_CHECK(base || !storage_bytes(t), "no shadow");
  return over(base, device, t);
}

// The same with the numbers that the tensor stands for, which a lazy one computes only now.
inline at::Tensor resolved_host_of(const at::Tensor &t) {
  if (!lazy(t)) return host_of(t);
  Below below;
  at::Tensor made = t.is_conj() ? at::conj_physical(host_of(t)) : host_of(t);
  return t.is_neg() ? at::neg(made) : made;
}

inline at::Tensor filled(const at::Tensor &like, const at::Scalar &value) {
  Below below;
  return at::empty({1}, at::TensorOptions(like.scalar_type())).fill_(value);
}
inline at::Tensor filled_as_scalar(const at::Tensor &like, const at::Scalar &value) {
  return filled(like, value).reshape({});
}

// Write a uniform value into the shadow of a storage that is not large, before something else reads or changes a part.
inline void materialize(const at::Tensor &t) {
  auto uniform = uniform_of(t);
  if (!uniform) return;
  const void *device = t.storage().data();
  uniforms().erase(device);
  if (large(t)) return;
  void *base = attnprof_shadow(device, storage_bytes(t));
  if (!base) return;
  Below below;
  int64_t elements = storage_bytes(t) / t.element_size();
  at::from_blob(base, {elements}, at::TensorOptions(t.scalar_type())).fill_(uniform->value);
}

// `blank`: the level of memory that nobody has written yet.
inline int level_of(const at::Tensor &t, int blank = EMU_MADE_UP) {
  if (!t.numel()) return EMU_TRUE;
  if (auto uniform = uniform_of(t)) return uniform->level;
  if (large(t)) return EMU_MADE_UP;
  Span span = span_of(t, t.storage().data());
  int level = attnprof_level(span.address, span.bytes);
  return level == EMU_BLANK ? blank : level;
}

inline void set_level(const at::Tensor &t, const void *storage, int level) {
  if (large(t) || !t.numel()) return;
  Span span = span_of(t, storage);
  attnprof_set_level(span.address, span.bytes, level, span.coverage);
}

// What a result holds that nobody computed: a harmless value, marked as made up. New memory is zeros already.
inline void make_up(const at::Tensor &t, const at::Scalar &value) {
  if (!t.numel()) return;
  const void *device = t.storage().data();
  bool everything = whole(t);
  if (storage_bytes(t) > kMediumBytes && everything) {
    uniforms().set(device, {value, EMU_MADE_UP});
  } else {
    materialize(t);
    if (!large(t)) {
      Below below;
      host_of(t).fill_(value);
    }
  }
  set_level(t, device, EMU_MADE_UP);
}
} // namespace values
