// The library of values: lets small values live on an emulated card.
//
// Each operator with a CUDA kernel gets a boxed kernel at the key BackendSelect, which lies below autograd, autocast and
// functorch and above the backends. It runs the operator's CPU kernel on the host's tensors where everything that the
// operator touches is small, then the CUDA kernel, which allocates as ever and computes nothing, and puts the results
// into the shadows of the device's memory. What cannot be computed is made up: a harmless value that is marked.
//
// Limits depend on sizes alone, so that every run gives the same values.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cstring>
#include <iostream>

#include "graphs.h"
#include "host_call.h"

namespace values {
namespace {

constexpr double kWork = 4e6, kWorkMadeUp = 256e3;  // multiply-adds of a product
constexpr double kHalf = 16;                        // CPU kernels take this many times as long for 16-bit numbers

bool verbose() {
  static const bool wanted = getenv("ATTNPROF_VALUES_VERBOSE") != nullptr;
  return wanted;
}

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
Refusals &refusals() {
  static Refusals *made = new Refusals;
  return *made;
}

// What the arguments of a call have in common.
struct Arguments {
  bool any = false;      // a tensor on the device
  bool strange = false;  // a sparse, nested or other tensor that has no plain memory
  bool large = false;
  bool largest_medium = false;   // larger than kMediumBytes
  bool costly = false;           // larger than kCostlyBytes
  bool half = false;
  bool all_single = true;        // each tensor that is read is uniform or has one element
  bool any_uniform = false;
  int level = EMU_TRUE;
};

Arguments look_at(const Operator &info, const IValue *args, size_t count) {
  Arguments seen;
  for (size_t i = 0; i < count; i++) {
    bool read = !contains(info.out, i) && !(info.overwrites && contains(info.written, i));
    each_tensor(args[i], [&](const at::Tensor &t) {
      if (!on_card(t)) {
        if (t.defined() && t.numel() != 1) seen.all_single = false;
        return;
      }
      seen.any = true;
      if (!plain(t)) {
        seen.strange = true;
        return;
      }
      size_t bytes = storage_bytes(t);
      seen.large |= bytes > EMU_SMALL_BYTES;
      seen.largest_medium |= bytes > kMediumBytes;
      seen.costly |= bytes > kCostlyBytes;
      seen.half |= at::isReducedFloatingType(t.scalar_type());
      if (!read) return;
      bool uniform = uniform_of(t).has_value();
      seen.any_uniform |= uniform;
      seen.all_single &= uniform || (t.numel() == 1 && bytes <= EMU_SMALL_BYTES);
      if (!seen.strange) seen.level = std::max(seen.level, level_of(t));
    });
  }
  return seen;
}

double work_of(const std::vector<IValue> &args, bool half) {
  std::vector<at::Tensor> found;
  for (const IValue &value : args) each_tensor(value, [&](const at::Tensor &t) { if (t.defined()) found.push_back(t); });
  if (found.size() < 2) return 0;
  const at::Tensor &a = found[found.size() - 2], &b = found.back();
  return double(a.numel()) * (b.dim() ? b.size(-1) : 1) * (half ? kHalf : 1);
}

bool worth(const Operator &info, const std::vector<IValue> &args, const Arguments &seen) {
  if (!info.cpu || seen.large) return false;
  bool made_up = seen.level == EMU_MADE_UP;
  if (made_up && (info.unscales || (info.many && seen.largest_medium))) return false;
  if (info.product && work_of(args, seen.half) > (made_up ? kWorkMadeUp : kWork)) return false;
  return seen.level == EMU_TRUE || !seen.costly || !(info.costly || seen.half);
}

// The value of an operator on one element: each tensor on the device becomes its one value, or 0 if it has several.
std::optional<at::Scalar> value_at(const c10::OperatorHandle &op, const Operator &info, const std::vector<IValue> &args) {
  if (!info.cpu || info.random || info.many || info.fresh.size() + info.written.size() + info.out.size() != 1) return {};
  try {
    Below below;
    Stack one;
    for (size_t i = 0; i < args.size(); i++) {
      if (contains(info.out, i))
        one.push_back(on_host(args[i], [](const at::Tensor &t) { return at::empty({0}, at::TensorOptions(t.scalar_type())); }));
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
bool reduces_all(const Operator &info, const std::vector<IValue> &args) {
  static const std::unordered_set<std::string> names = {"aten::all", "aten::any", "aten::max", "aten::min", "aten::mean"};
  // mean() comes here as a mean over the empty list of dimensions.
  auto of_all = [](const IValue &dims) { return dims.isNone() || (dims.isIntList() && dims.toIntVector().empty()); };
  return names.count(info.name) && (args.size() == 1 || (info.name == "aten::mean" && of_all(args[1])));
}

// The value that all elements of the result have, if that follows from the arguments without their elements.
std::optional<at::Scalar> uniform_result(const c10::OperatorHandle &op, const Operator &info,
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
  bool writes_large = info.pointwise && seen.large;  // fill_ and zero_ of a large tensor, too
  if (!seen.all_single || !(seen.any_uniform || writes_large)) return {};
  return info.pointwise || reduces_all(info, args) ? value_at(op, info, args) : std::nullopt;
}

void store(const Operator &info, const at::Tensor &to, const at::Tensor &from, int level, const std::vector<IValue> &args) {
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
  set_level(to, device, level);
}

void store_uniform(const Operator &info, const at::Tensor &to, const at::Scalar &value, int level, bool fresh) {
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
void each_pair(const IValue &to, const IValue *from, F f) {
  std::vector<at::Tensor> sources;
  if (from) each_tensor(*from, [&](const at::Tensor &t) { sources.push_back(t); });
  size_t i = 0;
  each_tensor(to, [&](const at::Tensor &t) {
    f(t, i < sources.size() ? sources[i] : at::Tensor());
    i++;
  });
}

// At each replay of the graph: the same kernel on the same memory.
void record(const c10::OperatorHandle &op, const Operator &info, const std::vector<IValue> &host,
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
void launch(const c10::OperatorHandle &op, DispatchKeySet next, Stack *stack) {
  struct Inside {
    Inside() { attnprof_enter_operator(1); }
    ~Inside() { attnprof_enter_operator(-1); }
  } inside;
  op.redispatchBoxed(next, stack);
}

// copy_ needs no kernel of its own: the driver carries the bytes of plain copies between host and device.
void copy(const c10::OperatorHandle &op, DispatchKeySet next, Stack *stack) {
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
    const char *data = from.is_cpu() && from.is_contiguous() ? static_cast<const char *>(from.const_data_ptr()) : nullptr;
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
    at::Tensor source = uniform ? filled_as_scalar(from, uniform->value) : host_of(from), target = host_of(to);
    target.copy_(source);
    set_level(to, to.storage().data(), level);
    if (graphs().capturing()) graphs().add([source, target] {
      if (!alive(source) || !alive(target)) return;
      Below below;
      target.copy_(source);
      set_level(target, device_storage(target), level_of_host(source));
    });
  }
}

void watch_allocator() {
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

// Libraries such as torchvision bring operators later, and tell of each before they add its kernels.
class Arrivals : public c10::OpRegistrationListener {
 public:
  void onOperatorRegistered(const c10::OperatorHandle &) override { news = true; }
  void onOperatorDeregistered(const c10::OperatorHandle &) override {}
  static inline std::atomic<bool> news{false};
};
void take_operators();

class Hook : public c10::OperatorKernel {
 public:
  explicit Hook(const c10::OperatorHandle &op) : info_(describe(op)) {}

  void operator()(const c10::OperatorHandle &op, DispatchKeySet keys, Stack *stack) {
    DispatchKeySet next = keys & DispatchKeySet(DispatchKeySet::FULL_AFTER, DispatchKey::BackendSelect);
    if (Arrivals::news.exchange(false)) take_operators();
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

    bool equal = info_.compares && made ? made->results[0].toBool() : true;  // what is unknown is equal
    Answer answer(level);
    if (info_.compares) answer.give(&equal, sizeof equal);
    else if (int64_t count = count_of(args, made); count >= 0) answer.give(&count, 0);
    size_t base = stack->size() - args.size();
    try {
      launch(op, next, stack);
    } catch (const std::exception &error) {
      if (!made || !is_missing(error.what())) throw;
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
        if (made) store(info_, t, source, level, made->args);
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

  // Whether a kernel failed because its library is not emulated; then what the host computed takes its place.
  bool is_missing(const char *error) const {
    static const std::pair<const char *, const char *> libraries[] = {
        {"CUSOLVER", "cuSOLVER"}, {"CUFFT", "cuFFT"}, {"CUSPARSE", "cuSPARSE"}};
    auto found = std::find_if(std::begin(libraries), std::end(libraries),
                              [&](const auto &library) { return strstr(error, library.first); });
    if (found == std::end(libraries)) return false;
    attnprof_assume((std::string(found->second) + " takes no workspace in " + info_.name).c_str());
    return true;
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
      results.push_back(mapped(made.results[i], [](const at::Tensor &t) { return t.defined(); }, [&](const at::Tensor &t) {
        return at::empty_strided(t.sizes(), t.strides(), t.options().device(device)); }));
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
    for (const IValue &value : args) each_tensor(value, [&](const at::Tensor &t) {
      if (t.defined()) name += ' ', name += t.dtype().name(); });
    if (refusals().known(name)) return {};
    bool capturing = graphs().capturing();
    try {
      for (const IValue &value : args)
        host.push_back(on_host(value, [&](const at::Tensor &t) {
          if (capturing) materialize(t);
          auto uniform = uniform_of(t);
          if (!uniform) return host_of(t);
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
                         ", where a real card stops it with a device-side assertion").c_str());
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

// ---- registration ------------------------------------------------------------------------------------------------
std::vector<c10::RegistrationHandleRAII> &registered() {
  static auto *made = new std::vector<c10::RegistrationHandleRAII>;
  return *made;
}

class Quiet : public c10::WarningHandler {
 public:
  void process(const c10::Warning &) override {}
};
Quiet &quiet() {
  static Quiet made;
  return made;
}

// tril_indices and triu_indices have a kernel at BackendSelect already, which chooses the device from an argument.
void indices(const c10::OperatorHandle &op, DispatchKeySet, Stack *stack) {
  std::vector<IValue> args(stack->end() - op.schema().arguments().size(), stack->end());
  size_t place = 0;
  while (op.schema().arguments()[place].name() != "device") place++;
  at::Device device = args[place].isNone() ? at::Device(at::kCPU) : args[place].toDevice();
  auto set = DispatchKeySet(c10::computeDispatchKey(std::nullopt, std::nullopt, device));
  if (!device.is_cuda()) return op.redispatchBoxed(set, stack);
  launch(op, set, stack);
  at::Tensor result = stack->back().toTensor();
  if (!plain(result)) return;
  Below below;
  args[place] = IValue();
  op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), &args);
  store(describe(op), result, args[0].toTensor(), EMU_TRUE, {});
}

void take_operators() {
  static std::mutex *lock = new std::mutex;
  std::lock_guard<std::mutex> guard(*lock);
  static std::unordered_set<std::string> *seen = new std::unordered_set<std::string>;
  for (const auto &name : c10::Dispatcher::singleton().getAllOpNames()) {
    std::string text = toString(name);
    auto op = seen->count(text) ? std::nullopt : c10::Dispatcher::singleton().findSchema(name);
    if (!op || (!op->hasKernelForDispatchKey(DispatchKey::CUDA) && name.name != "aten::copy_")) continue;
    seen->insert(text);
    bool is_indices = name.name == "aten::tril_indices" || name.name == "aten::triu_indices";
    if (is_indices) {
      c10::WarningUtils::WarningHandlerGuard silent(&quiet());  // it says that a kernel is replaced
      registered().push_back(c10::Dispatcher::singleton().registerImpl(
          op->operator_name(), DispatchKey::BackendSelect,
          c10::KernelFunction::makeFromBoxedFunction<&indices>(), std::nullopt, nullptr, "attnprof"));
    }
    if (op->hasKernelForDispatchKey(DispatchKey::BackendSelect)) continue;
    registered().push_back(c10::Dispatcher::singleton().registerImpl(
        op->operator_name(), DispatchKey::BackendSelect,
        c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<Hook>(*op)), std::nullopt, nullptr, "attnprof"));
  }
}

const ValueCalls the_calls = {
    [](unsigned long long graph) { graphs().capture(graph); },
    [](unsigned long long graph) { graphs().replay(graph); },
    [](unsigned long long graph) { graphs().forget(graph); },
};
}  // namespace
}  // namespace values

extern "C" const ValueCalls *attnprof_values_start() {
  try {
    static auto listening = c10::Dispatcher::singleton().addRegistrationListener(std::make_unique<values::Arrivals>());
    values::Arrivals::news = false;  // it was told of all the operators that are there
    values::take_operators();
  } catch (const std::exception &error) {
    if (values::verbose()) fprintf(stderr, "values: %s\n", error.what());
    return nullptr;
  }
  return &values::the_calls;
}
