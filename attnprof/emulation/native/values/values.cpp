// The library of values: lets small values live on an emulated card.
//
// Each operator with a CUDA kernel gets a boxed kernel at the key BackendSelect, which lies below autograd, autocast and
// functorch and above the backends. It runs the operator's CPU kernel on the host's tensors where everything that the
// operator touches is small, then the CUDA kernel, which allocates as ever and computes nothing, and puts the results
// into the shadows of the device's memory. What cannot be computed is made up: a harmless value that is marked.
//
// Limits depend on sizes alone, so that every run gives the same values.
#include <c10/util/Exception.h>
#include <torch/library.h>

#include "hook.h"

namespace values {
namespace {

// Libraries such as torchvision bring operators later, and tell of each before they add its kernels.
class Arrivals : public c10::OpRegistrationListener {
 public:
  void onOperatorRegistered(const c10::OperatorHandle &) override { news = true; }
  void onOperatorDeregistered(const c10::OperatorHandle &) override {}
};

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
  store(describe(op), result, args[0].toTensor(), EMU_TRUE, true, {});
}

} // namespace

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
      c10::WarningUtils::WarningHandlerGuard silent(&quiet()); // it says that a kernel is replaced
      registered().push_back(c10::Dispatcher::singleton().registerImpl(
          op->operator_name(), DispatchKey::BackendSelect, c10::KernelFunction::makeFromBoxedFunction<&indices>(),
          std::nullopt, nullptr, "attnprof"));
    }
    if (op->hasKernelForDispatchKey(DispatchKey::BackendSelect)) continue;
    registered().push_back(c10::Dispatcher::singleton().registerImpl(
        op->operator_name(), DispatchKey::BackendSelect,
        c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<Hook>(*op)), std::nullopt, nullptr, "attnprof"));
  }
}

namespace {
const ValueCalls the_calls = {
    [](unsigned long long graph) { graphs().capture(graph); },
    [](unsigned long long graph) { graphs().replay(graph); },
    [](unsigned long long graph) { graphs().forget(graph); },
};
} // namespace
} // namespace values

extern "C" const ValueCalls *attnprof_values_start() {
  try {
    static auto listening = c10::Dispatcher::singleton().addRegistrationListener(std::make_unique<values::Arrivals>());
    values::news = false; // it was told of all the operators that are there
    values::take_operators();
  } catch (const std::exception &error) {
    if (values::verbose()) fprintf(stderr, "values: %s\n", error.what());
    return nullptr;
  }
  return &values::the_calls;
}
