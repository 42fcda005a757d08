#pragma once
// Parameters and buffers: what a model keeps between steps, held in the master scalar of the
// precision that it computes in (core/scalars.hpp).
#include <atomic>

#include "hybridmed/autograd/precision.hpp"

namespace hybridmed {

/// What a parameter holds before training: a constant, normal numbers around 0, or rows of length
/// 1 in random directions.
struct Initial {
  enum class Kind { constant, normal, unit_rows };
  Kind kind = Kind::constant;
  double value = 0;  ///< the constant, or the standard deviation
};
namespace init {
constexpr Initial constant(double x) { return {Initial::Kind::constant, x}; }
constexpr Initial zeros() { return constant(0); }
constexpr Initial ones() { return constant(1); }
constexpr Initial normal(double stddev) { return {Initial::Kind::normal, stddev}; }
constexpr Initial unit_rows() { return {Initial::Kind::unit_rows, 1}; }
}  // namespace init

/// A parameter as products in bf16 read it, kept from step to step: an optimizer makes it and its
/// update writes it. It counts as long as nobody else has asked for the memory of the value since,
/// to write or to read (Tensor::seal); after that the value is rounded where it is used, until the
/// next step makes the copy again. So it is never older than the value, whoever changes that, and
/// however. A copied parameter has none.
template <class M, class B>
class RoundedCopy {
 public:
  RoundedCopy() = default;
  RoundedCopy(const RoundedCopy&) {}
  RoundedCopy(RoundedCopy&& o) noexcept
      : tensor_(std::move(o.tensor_)), seal_(o.seal_), wanted_(o.wanted()) {}
  RoundedCopy& operator=(RoundedCopy o) noexcept {
    tensor_ = std::move(o.tensor_);
    seal_ = o.seal_;
    wanted_.store(o.wanted(), std::memory_order_relaxed);
    return *this;
  }

  bool is_of(const Tensor<M, B>& value) const { return value.sealed(seal_); }
  const Tensor<bfloat16, B>& tensor() const { return tensor_; }
  /// Has the value been rounded for a product? Threads that evaluate one model may all say so.
  bool wanted() const { return wanted_.load(std::memory_order_relaxed); }
  void want() const {
    if (!wanted()) wanted_.store(true, std::memory_order_relaxed);
  }
  /// Makes the copy where it is wanted and not that of the value. True where it has other memory
  /// now: a tape that still reads the old one keeps it.
  bool make(const Tensor<M, B>& value) {
    if (!wanted() || !value.defined() || is_of(value)) return false;
    const bool moves = !tensor_.unique() || !(tensor_.shape() == value.shape());
    if (moves) tensor_ = Tensor<bfloat16, B>(value.shape());
    B::convert(value.size(), value.read(), tensor_.data());
    seal_ = value.seal();
    return moves;
  }
  /// The value was given by data() to an update that has written both.
  void written_with(const Tensor<M, B>& value) { seal_ = value.seal(); }

 private:
  Tensor<bfloat16, B> tensor_;
  std::uint64_t seal_ = 0;
  mutable std::atomic<bool> wanted_{false};
};

/// Marks a parameter that weight decay never shrinks. Vectors and scalars need no mark: only
/// matrices decay.
struct NoDecay {};
inline constexpr NoDecay no_decay{};

/// A named weight of a model: its value, the slot of its gradient, and whether the current stage
/// trains it; how it begins and whether it decays. A copy has memory of its own and no gradient, so
/// that a copied model is another model. M: the scalar that holds it.
template <class M, class B>
struct MasterParameter {
  Tensor<M, B> value;
  mutable GradientSlot<M, B> slot;
  RoundedCopy<M, B> rounded;
  bool trainable = true;
  bool fixed = false;  ///< no stage trains it
  Initial initial;
  bool decays = false;

  MasterParameter() = default;
  /// Holds the constant, or zeros until nn::initialise draws the numbers or weights are loaded.
  MasterParameter(const Shape& shape, Initial how)
      : value(Tensor<M, B>::full(
            shape, static_cast<M>(how.kind == Initial::Kind::constant ? how.value : 0))),
        initial(how),
        decays(shape.rank() >= 2) {}
  MasterParameter(const Shape& shape, Initial how, NoDecay) : MasterParameter(shape, how) {
    decays = false;
  }
  MasterParameter(const MasterParameter& o)
      : value(o.value.clone()),
        trainable(o.trainable),
        fixed(o.fixed),
        initial(o.initial),
        decays(o.decays) {}
  MasterParameter(MasterParameter&&) noexcept = default;
  MasterParameter& operator=(const MasterParameter& o) {
    MasterParameter copy(o);
    return *this = std::move(copy);
  }
  MasterParameter& operator=(MasterParameter&&) noexcept = default;
};

/// State that moves with training but has no gradient (running statistics). A layer moves it unless
/// Tape::again(). A copy has memory of its own.
template <class M, class B>
struct MasterBuffer {
  mutable Tensor<M, B> value;
  MasterBuffer() = default;
  MasterBuffer(const Shape& shape, M fill) : value(Tensor<M, B>::full(shape, fill)) {}
  MasterBuffer(const MasterBuffer& o) : value(o.value.clone()) {}
  MasterBuffer(MasterBuffer&&) noexcept = default;
  MasterBuffer& operator=(const MasterBuffer& o) {
    value = o.value.clone();
    return *this;
  }
  MasterBuffer& operator=(MasterBuffer&&) noexcept = default;
};

/// The parameter of a model that computes in T.
template <class T, class B>
using Parameter = MasterParameter<master_of<T>, B>;
template <class T, class B>
using Buffer = MasterBuffer<master_of<T>, B>;

/// A parameter as the factor of a product: a value of kind V whose gradient is held in the master
/// scalar. Where that is V's own scalar, it is a V.
template <Value V>
using Weight =
    std::conditional_t<is_recorded<V> && !std::is_same_v<scalar_of<V>, master_of<scalar_of<V>>>,
                       RoundedWeight<scalar_of<V>, backend_of<V>>, V>;

namespace detail {
template <class T, class M, class B>
Tensor<T, B> value_in(const MasterParameter<M, B>& p) {
  if constexpr (!std::is_same_v<T, M> && std::is_same_v<T, bfloat16>) {
    if (p.rounded.is_of(p.value)) return p.rounded.tensor();
    p.rounded.want();
  }
  return converted<T>(p.value);
}
}  // namespace detail

/// The parameter as a value of kind V: rounded, where V is bf16. `use<Wide<V>>` has it as it is.
template <Value V>
Weight<V> use(const Parameter<scalar_of<V>, backend_of<V>>& p) {
  const tensor_of<V> compute = detail::value_in<scalar_of<V>>(p);
  if constexpr (is_recorded<V>) {
    if (!p.trainable || !Tape::current()) return {compute};
    Tape::current()->leaf(p.slot);
    return {compute, &p.slot};
  } else {
    return compute;
  }
}

}  // namespace hybridmed
