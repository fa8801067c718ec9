// What must be known of an operator to run it on the host, from its schema, its tags and a few names.
#pragma once
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <sstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace values {

struct Operator {
  std::string name;
  bool passes = false;     // makes a view, or nothing that has values
  bool cpu = false;        // there is a CPU kernel, and it may run
  bool random = false;     // draws random numbers
  bool overwrites = false; // does not read what it writes
  bool product = false;    // its work is not in proportion to the size of its arguments
  bool convolves = false;  // nor is this one's
  bool costly = false;
  bool pointwise = false; // each element of the result depends on one element of each argument
  bool moves = false;     // the elements of the result are elements of the arguments
  bool many = false;      // works on lists of tensors, as optimizers do
  bool unscales = false;  // GradScaler's check for gradients that are not finite
  bool reads = false;     // returns a value to the host
  bool copies = false;
  bool compares = false;    // its answer is one byte that it reads back from the device itself
  bool totals = false;      // a loss, or a sum, mean or deviation
  bool yes = false;         // answers a question that is Yes where nothing is wrong
  int counted = -1;         // the result whose size is read back from the device
  int generator = -1;       // the argument that is a random number generator
  std::vector<int> written; // arguments that are changed in place
  std::vector<int> out;     // arguments that only receive a result
  std::vector<int> fresh;   // results that are new tensors
};

inline bool contains(const std::vector<int> &list, size_t index) {
  return std::find(list.begin(), list.end(), int(index)) != list.end();
}

// Whether the operator's CPU kernel is Python code of the program, which must not run an additional time.
inline bool runs_python(const c10::OperatorHandle &op) {
  if (op.schema().name().rfind("aten::", 0) == 0) return false;
  std::istringstream lines(op.dumpState());
  for (std::string line; std::getline(lines, line);) {
    bool runs_here = line.rfind("CPU:", 0) == 0 || line.rfind("CUDA:", 0) == 0 || line.rfind("Composite", 0) == 0;
    if (runs_here && line.find(".py:") != std::string::npos) return true;
  }
  return false;
}

inline Operator describe(const c10::OperatorHandle &op) {
  const auto &schema = op.schema();
  Operator made;
  made.name = schema.name();
  for (size_t i = 0; i < schema.arguments().size(); i++) {
    const auto &argument = schema.arguments()[i];
    std::string type = argument.type()->str();
    if (type.find("Generator") != std::string::npos) made.generator = int(i);
    // A ProcessGroup or another object: a second run would send to other processes, say, a second time.
    if (type.find("__torch__.") != std::string::npos) made.passes = true;
    if (!argument.alias_info()) continue;
    if (!argument.alias_info()->isWrite()) made.passes = true;
    else if (argument.kwarg_only()) made.out.push_back(int(i));
    else made.written.push_back(int(i));
  }
  bool tensors = false;
  for (size_t i = 0; i < schema.returns().size(); i++) {
    tensors |= schema.returns()[i].type()->str().find("Tensor") != std::string::npos;
    if (!schema.returns()[i].alias_info()) made.fresh.push_back(int(i));
  }
  auto named = [&](const std::unordered_set<std::string> &names) { return names.count(made.name) > 0; };
  auto has_part = [&](std::initializer_list<const char *> parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const char *part) { return made.name.find(part) != std::string::npos; });
  };
  static const std::unordered_set<std::string> passing = {
      "aten::resize_",       "aten::resize_as_",      "aten::set_",
      "aten::record_stream", "aten::_reshape_alias",  "aten::empty",
      "aten::empty_strided", "aten::_pin_memory",     "aten::is_pinned",
      "aten::is_set_to",     "aten::storage_resize_", "aten::_resize_output_",
      "aten::resize"};
  static const std::unordered_set<std::string> overwriting = {
      "aten::copy_",       "aten::fill_",      "aten::zero_",        "aten::normal_",
      "aten::uniform_",    "aten::random_",    "aten::exponential_", "aten::cauchy_",
      "aten::log_normal_", "aten::geometric_", "aten::bernoulli_"};
  static const std::unordered_set<std::string> products = {"aten::mm",
                                                           "aten::addmm",
                                                           "aten::bmm",
                                                           "aten::baddbmm",
                                                           "aten::addbmm",
                                                           "aten::_addmm_activation",
                                                           "aten::addmm_",
                                                           "aten::baddbmm_",
                                                           "aten::_int_mm",
                                                           "aten::_cdist_forward",
                                                           "aten::grid_sampler_2d"};
  static const std::unordered_set<std::string> moving = {"aten::cat",          "aten::index",     "aten::_unsafe_index",
                                                         "aten::index_select", "aten::gather",    "aten::flip",
                                                         "aten::roll",         "aten::embedding", "aten::stack"};
  static const std::unordered_map<std::string, int> counts = {{"aten::nonzero", 0},
                                                              {"aten::masked_select", 0},
                                                              {"aten::_unique2", 0},
                                                              {"aten::_unique", 0},
                                                              {"aten::unique_consecutive", 0},
                                                              {"aten::unique_dim", 0},
                                                              {"aten::unique_dim_consecutive", 0},
                                                              {"aten::_coalesce", 0},
                                                              {"torchvision::nms", 0}};
  made.reads = made.name == "aten::_local_scalar_dense";
  made.compares = made.name == "aten::equal";
  bool answers = tensors || !made.written.empty() || made.reads || made.compares;
  made.passes |= named(passing) || !answers || runs_python(op);
  made.copies = made.name == "aten::copy_";
  made.overwrites = named(overwriting);
  made.product = named(products);
  made.convolves = has_part({"conv"});
  made.costly = has_part({"norm", "backward", "pool", "upsample", "softmax", "conv", "_cdist", "grid_sampler",
                          "roi_align", "deform", "gelu", "loss"});
  made.pointwise = op.hasTag(at::Tag::pointwise) || made.name == "aten::fill_" || made.name == "aten::zero_";
  made.moves = named(moving);
  made.many = has_part({"::_foreach_", "::_fused_"});
  made.unscales = has_part({"non_finite_check"});
  // Norms and maxima are none: an iteration that waits for a small difference shall end.
  made.totals = named({"aten::sum", "aten::mean", "aten::nansum", "aten::prod", "aten::std", "aten::var",
                       "aten::binary_cross_entropy"}) ||
                (has_part({"_loss"}) && !has_part({"backward"}));
  made.yes = named({"aten::all", "aten::isfinite", "aten::equal"});
  made.random = made.generator >= 0 || op.hasTag(at::Tag::nondeterministic_seeded);
  auto counted = counts.find(made.name);
  if (counted != counts.end()) made.counted = counted->second;
  made.cpu = op.hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
             op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd) ||
             op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
  return made;
}
} // namespace values
