#pragma once
// Weights of a model to and from safetensors, by parameter name.
#include <cmath>
#include <set>

#include "hybridmed/io/safetensors.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::io {

/// What a load did: names in the model's order, or the file's for `unexpected`. `mismatched` says
/// why: another shape, or a type that is no float (an integer code of a quantised weight is no
/// weight).
struct LoadReport {
  std::vector<std::string> loaded, missing, unexpected, mismatched;
  bool complete() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};

namespace detail {

// Named visitors, not lambdas: a part that two models share is visited by one type.
struct CompareWeight {
  const Safetensors& file;
  const std::string& prefix;
  LoadReport report{};
  std::set<std::string> used{};

  void operator()(const std::string& name, auto& state) { compare(name, state.value); }

  template <class T, class B>
  void compare(const std::string& name, const Tensor<T, B>& target) {
    const StoredTensor* t = file.find(prefix + name);
    if (!t) return report.missing.push_back(name);
    used.insert(prefix + name);
    std::string got = "(";
    for (std::size_t i = 0; i < t->shape.size(); ++i)
      got += (i ? ", " : "") + std::to_string(t->shape[i]);
    got += ")";
    if (!same_shape(t->shape, target.shape()))
      return report.mismatched.push_back(name + ": expected " + target.shape().str() + ", got " +
                                         got);
    if (!t->is_float())
      return report.mismatched.push_back(name + ": expected floats, got " + t->type_name + " " +
                                         got);
    check_values<T>(name, *t);
    report.loaded.push_back(name);
  }

 private:
  static bool same_shape(const std::vector<Index>& stored, const Shape& target) {
    if (static_cast<int>(stored.size()) != target.rank()) return false;
    for (std::size_t i = 0; i < stored.size(); ++i)
      if (stored[i] != target[static_cast<int>(i)]) return false;
    return true;
  }
  template <class T>
  void check_values(const std::string& name, const StoredTensor& t) const {
    for (Index i = 0; i < t.size(); ++i) {
      const double x = t.at(i);
      if (x < 0 && name.ends_with("running_var"))
        fail("io", "weights",
             file.source() + ": tensor '" + prefix + name +
                 "' is a variance and holds a number below 0, at element " + std::to_string(i));
      if (std::isfinite(x) && std::isfinite(static_cast<double>(static_cast<T>(x)))) continue;
      char text[40];
      std::snprintf(text, sizeof text, "%g", x);
      fail("io", "weights",
           file.source() + ": tensor '" + prefix + name + "' holds " + text + " at element " +
               std::to_string(i) +
               (std::isfinite(x) ? ", which is beyond the model's precision"
                                 : ", which is no weight"),
           "take weights of a run that did not diverge");
    }
  }
};

struct CopyWeight {
  const Safetensors& file;
  const std::string& prefix;
  const std::set<std::string> fitting;

  void operator()(const std::string& name, auto& state) const {
    if (fitting.count(name)) copy(*file.find(prefix + name), state.value);
  }
  template <class T, class B>
  static void copy(const StoredTensor& t, Tensor<T, B>& target) {
    std::vector<T> values(static_cast<std::size_t>(t.size()));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>(t.at(static_cast<Index>(i)));
    target = Tensor<T, B>::from_host(values, target.shape());
  }
};

struct AddWeight {
  SafetensorsWriter& writer;
  const std::string& prefix;
  void operator()(const std::string& name, auto& state) const {
    writer.add(prefix + name, state.value);
  }
};

}  // namespace detail

/// Copies every tensor of the file whose name and shape fit a parameter or buffer of `model`; any
/// float type is converted. With `only_compare` nothing is copied: the report says what would be.
/// @throws Error where a tensor that fits holds NaN, infinity or a number beyond the model's
/// precision; nothing is copied then.
template <class M>
LoadReport load_weights(M& model, const Safetensors& file, const std::string& prefix = {},
                        bool only_compare = false) {
  detail::CompareWeight compare{file, prefix};
  nn::for_each_state(model, compare, compare);
  for (const auto& [name, t] : file.tensors())
    if (name.starts_with(prefix) && !compare.used.count(name))
      compare.report.unexpected.push_back(name);
  if (!only_compare) {
    const detail::CopyWeight copy{
        file, prefix, {compare.report.loaded.begin(), compare.report.loaded.end()}};
    nn::for_each_state(model, copy, copy);
  }
  return std::move(compare.report);
}

/// Adds every parameter and buffer to the writer, names prefixed.
template <class M>
void add_weights(SafetensorsWriter& w, M& model, const std::string& prefix = {}) {
  const detail::AddWeight add{w, prefix};
  nn::for_each_state(model, add, add);
}

}  // namespace hybridmed::io
