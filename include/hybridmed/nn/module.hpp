#pragma once
// Modules are plain structs with a forward and one `visit(f)` that calls f(name, child) for every
// parameter, buffer, sub-module and vector of sub-modules; names joined by dots are the reference's
// parameter names.
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hybridmed/autograd/parameter.hpp"
#include "hybridmed/core/philox.hpp"

namespace hybridmed::nn {

/// How a forward pass treats what differs between training and evaluation.
struct Mode {
  enum class Statistics { running, batch, batch_and_move };  // of BatchNorm
  Statistics statistics = Statistics::running;
  bool dropout = false;
  Philox random{};  // of dropout; fork it per step
  /// The same in the backend's memory, where a step that was recorded reads it (BackendReplay).
  const Philox* random_in_backend = nullptr;

  static Mode evaluation() { return {}; }
  static Mode training(Philox random = Philox{}) {
    return {Statistics::batch_and_move, true, random};
  }
  /// Batch statistics without moving the running ones.
  static Mode inspection() { return {Statistics::batch, false, Philox{}}; }
};

namespace detail {
inline std::string join(const std::string& prefix, std::string_view name) {
  if (prefix.empty()) return std::string(name);
  if (name.empty()) return prefix;
  return prefix + "." + std::string(name);
}
template <class X>
struct Kind {
  static constexpr int value = 0;
};
template <class M, class B>
struct Kind<MasterParameter<M, B>> {
  static constexpr int value = 1;
};
template <class M, class B>
struct Kind<MasterBuffer<M, B>> {
  static constexpr int value = 2;
};
template <class X>
struct Kind<std::vector<X>> {
  static constexpr int value = 3;
};
/// Named, not a lambda: all visits that ignore buffers are of one type.
struct Ignore {
  void operator()(const std::string&, auto&) const {}
};
}  // namespace detail

/// A part of a model: it names its children, which are parameters, buffers, modules or vectors of
/// them, in `visit(f)` by calling f(name, child) for each.
template <class M>
concept Module = requires(M& m) {
  m.visit([](std::string_view, auto&) {});
};

/// Calls f(full name, Parameter&) and g(full name, Buffer&) for everything below `module`, in
/// declaration order.
template <class M, class F, class G>
void for_each_state(M& module, F&& f, G&& g, const std::string& prefix = {}) {
  static_assert(
      Module<M>,
      "hybridmed: a module calls f(name, child) for each child in its visit(f), and a child is a "
      "Parameter, a Buffer, a module or a vector of these; see hybridmed/nn/module.hpp");
  module.visit([&](std::string_view name, auto& child) {
    const std::string full = detail::join(prefix, name);
    constexpr int kind = detail::Kind<std::remove_cvref_t<decltype(child)>>::value;
    if constexpr (kind == 1) {
      static_assert(std::is_invocable_v<F&, const std::string&, decltype(child)>,
                    "hybridmed: parameters of another scalar or backend: an optimizer, a copy or a "
                    "visitor is of the model's backend and of the master scalar of its precision");
      f(full, child);
    } else if constexpr (kind == 2) {
      g(full, child);
    } else if constexpr (kind == 3) {
      for (std::size_t i = 0; i < child.size(); ++i)
        for_each_state(child[i], f, g, full + "." + std::to_string(i));
    } else {
      for_each_state(child, f, g, full);
    }
  });
}

/// What `for_each_parameter` calls, as one type: the visit of a large model is compiled once for
/// all callers that pass it.
template <class T, class B>
using ParameterVisitor = std::function<void(const std::string&, Parameter<T, B>&)>;

/// Calls f(full name, Parameter&) for every parameter below `module`.
template <class M, class F>
void for_each_parameter(M& module, F&& f) {
  for_each_state(module, f, detail::Ignore{});
}

/// Copies the values of `from` into every parameter of `to` that has the same name; `to` keeps
/// memory of its own.
/// @throws Error that lists the parameters of `to` which `from` lacks, or has in another shape;
/// nothing is copied then.
template <class T, class B, class From, class To>
void copy_by_name(From& from, To& to, std::string_view operation) {
  std::map<std::string, Tensor<master_of<T>, B>> values;
  for_each_parameter(from, ParameterVisitor<T, B>([&](const std::string& name, Parameter<T, B>& p) {
                       values.emplace(name, p.value);
                     }));
  std::string absent;
  std::size_t count = 0;
  for_each_parameter(to, ParameterVisitor<T, B>([&](const std::string& name, Parameter<T, B>& p) {
                       const auto it = values.find(name);
                       if (it != values.end() && it->second.shape() == p.value.shape()) return;
                       if (count++ < 5)
                         absent += (absent.empty() ? "" : ", ") + name +
                                   (it == values.end() ? "" : " of shape " + p.value.shape().str());
                     }));
  if (count > 0)
    fail("nn", operation,
         "the model lacks " + std::to_string(count) +
             " of the parameters that are needed: " + absent + (count > 5 ? ", ..." : ""),
         "build it with the parts that hold them, e.g. with representation::everything or the "
         "needs of "
         "every objective that reads them");
  for_each_parameter(to, ParameterVisitor<T, B>([&](const std::string& name, Parameter<T, B>& p) {
                       p.value = values.at(name).clone();
                     }));
}

/// A copy that shares no weights and holds no gradients.
template <class M>
M clone(const M& model) {
  return model;  // parameters and buffers copy their memory
}

/// Number of scalar parameters.
template <class M>
Index count_parameters(M& module) {
  Index n = 0;
  for_each_parameter(module, [&](const std::string&, auto& p) { n += p.value.size(); });
  return n;
}

}  // namespace hybridmed::nn
