#pragma once
// Reverse-mode automatic differentiation: the tape.
// Each recorded operation is one node, placed in a bump arena that is rewound after the backward
// pass, so recording allocates no heap memory. Nodes run in reverse order and are destroyed as they
// run: what they saved is freed at once. A node has one output or several, each with a slot.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <tuple>
#include <utility>

#include "hybridmed/core/scalars.hpp"
#include "hybridmed/core/tensor.hpp"

namespace hybridmed {

namespace detail {
/// The tensor in the scalar To: itself, or a converted copy.
template <class To, class From, class B>
Tensor<To, B> converted(const Tensor<From, B>& x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    if (!x.defined()) return {};  // the operation that takes it says so
    Tensor<To, B> y(x.shape());
    B::convert(y.size(), x.read(), y.data());
    return y;
  }
}
}  // namespace detail

/// Where the gradient of one variable is collected.
template <class T, class B>
struct GradientSlot {
  Tensor<T, B> grad;

  bool defined() const { return grad.defined(); }
  /// The sum so far.
  Tensor<T, B> gradient() const { return grad; }
  /// The same; the slot is empty after it.
  Tensor<T, B> take() { return std::move(grad); }
  const Shape& shape() const { return grad.shape(); }
  /// Adds what is collected here to another slot, as it is; this one is empty after it.
  void pour(GradientSlot& into) {
    if (grad.defined()) into.add(take());
  }

  /// Adds g; takes it over when it is the first contribution.
  void add(Tensor<T, B> g) {
    if (!grad.defined()) {
      grad = std::move(g);
      return;
    }
    if (grad.size() != g.size())
      fail("autograd", "backward",
           "a gradient of shape " + g.shape().str() + " is added to one of shape " +
               grad.shape().str());
    if (grad.unique()) {
      B::add(grad.size(), grad.data(), g.data(), grad.data());
    } else {
      Tensor<T, B> sum(grad.shape());
      B::add(sum.size(), grad.data(), g.data(), sum.data());
      grad = std::move(sum);
    }
  }
  /// The gradient to add to in place, zero at first use.
  Tensor<T, B>& accumulator(const Shape& shape) {
    if (!grad.defined())
      grad = Tensor<T, B>::zeros(shape);
    else if (!grad.unique())
      grad = grad.clone();
    return grad;
  }
  /// For kernels with a beta: the gradient (uninitialised at first use) and whether it already
  /// holds a sum.
  std::pair<Tensor<T, B>&, bool> target(const Shape& shape) {
    const bool holds = grad.defined();
    if (!holds)
      grad = Tensor<T, B>(shape);
    else if (!grad.unique())
      grad = grad.clone();
    return {grad, holds};
  }
};

/// The same of a variable whose scalar is narrower than that of sums: one contribution is kept as
/// it is, several are added up in the wider one, and the sum is rounded once, when it is taken.
template <class T, class B>
requires(!std::is_same_v<T, accumulator_of<T>>) struct GradientSlot<T, B> {
  using A = accumulator_of<T>;

  bool defined() const { return one_.defined() || sum_.defined(); }
  Tensor<T, B> gradient() const { return sum_.defined() ? detail::converted<T>(sum_.grad) : one_; }
  Tensor<T, B> take() {
    Tensor<T, B> g = gradient();
    one_ = {};
    sum_ = {};
    return g;
  }
  const Shape& shape() const { return sum_.defined() ? sum_.shape() : one_.shape(); }
  void pour(GradientSlot& into) {
    if (sum_.defined())
      into.add(sum_.take());
    else if (one_.defined())
      into.add(std::move(one_));
  }
  void add(Tensor<T, B> g) {
    if (!defined()) {
      one_ = std::move(g);
      return;
    }
    widen_one();
    sum_.add(detail::converted<A>(g));
  }
  void add(Tensor<A, B> g) {
    widen_one();
    sum_.add(std::move(g));
  }
  Tensor<A, B>& accumulator(const Shape& shape) {
    widen_one();
    return sum_.accumulator(shape);
  }

 private:
  void widen_one() {
    if (!one_.defined()) return;
    sum_.add(detail::converted<A>(one_));
    one_ = {};
  }
  Tensor<T, B> one_;
  GradientSlot<A, B> sum_;
};

namespace detail {
/// The slot of what is computed on a dry tape: it says that a gradient is wanted, and gets none.
template <class T, class B>
inline GradientSlot<T, B> nowhere;
}  // namespace detail

class Tape {
 public:
  Tape() = default;
  /// A dry tape records nothing and keeps nothing. Operations behave on it as on `outer`: their
  /// results have a slot exactly where a gradient is wanted, and leaves are noted on `outer`.
  struct Dry {
    Tape& outer;
  };
  explicit Tape(Dry d) : outer_(&d.outer), outer_tape_(&d.outer) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  ~Tape() {
    clear();
    for (Chunk* c = first_; c;) {
      Chunk* next = c->next;
      HostArena::instance().deallocate(c);
      c = next;
    }
    if (nested_) {
      nested_->~Tape();
      HostArena::instance().deallocate(nested_);
    }
  }

  /// Records `backward(dy)` and returns the slot in which dy is collected.
  template <class T, class B, class F>
  GradientSlot<T, B>* record(F&& backward) {
    if (dry()) return &detail::nowhere<T, B>;
    using N = NodeOf<T, B, std::decay_t<F>>;
    N* n = ::new (bump(sizeof(N), alignof(N)))
        N{{last_, &N::run, &N::destroy}, {}, std::forward<F>(backward)};
    last_ = n;
    ++size_;
    return &n->slot;
  }

  /// Records `backward(dy...)` of an operation with an output for each of T, and returns their
  /// slots. It runs where at least one output has a gradient; the others come undefined. One with a
  /// member `takes_slots` gets the slots themselves: what they hold is not rounded then.
  template <class B, class... T, class F>
  std::tuple<GradientSlot<T, B>*...> record_many(F&& backward) {
    if (dry()) return {&detail::nowhere<T, B>...};
    using N = NodeOfMany<std::decay_t<F>, GradientSlot<T, B>...>;
    N* n = ::new (bump(sizeof(N), alignof(N)))
        N{{last_, &N::run, &N::destroy}, {}, std::forward<F>(backward)};
    last_ = n;
    ++size_;
    return std::apply([](auto&... slot) { return std::tuple(&slot...); }, n->slots);
  }

  /// Notes a leaf whose gradient this tape adds to, so that a backward pass that fails can take
  /// back what it added.
  template <class T, class B>
  void leaf(GradientSlot<T, B>& slot) {
    if (dry()) return outer_->leaf(slot);
    leaves_ = ::new (bump(sizeof(Leaf), alignof(Leaf)))
        Leaf{leaves_, &slot, [](void* s) { *static_cast<GradientSlot<T, B>*>(s) = {}; }};
  }

  /// Runs every node in reverse and empties the tape. Nodes that received no gradient are skipped.
  /// Where a node throws, the tape is empty too and no leaf that was noted keeps a gradient: a sum
  /// over half of the nodes is worth nothing.
  void backward() {
    backward([] {});
  }
  /// The same after seed(), which hands out the gradients that the pass begins with and is under
  /// the same promise.
  template <class Seed>
  void backward(Seed&& seed) {
    try {
      seed();
      run();
    } catch (...) {
      for (Leaf* l = leaves_; l; l = l->next) l->drop(l->slot);
      clear();
      throw;
    }
    clear();
  }
  /// Forgets everything recorded; memory is kept for the next step, which is another recording.
  void clear() {
    recording_ = new_recording();
    while (last_) {
      Node* n = last_;
      last_ = n->previous;
      n->destroy(n);
    }
    leaves_ = nullptr;
    current_ = first_;
    offset_ = 0;
    size_ = 0;
  }
  std::size_t size() const { return size_; }
  bool dry() const { return outer_ != nullptr; }
  /// A tape for what a node of this one records while it runs. Its memory is kept for the next.
  Tape& nested() {
    if (!nested_) {
      nested_ = ::new (HostArena::instance().allocate(sizeof(Tape))) Tape;
      nested_->outer_tape_ = this;
    }
    return *nested_;
  }

  /// What is recorded until the tape is emptied: a number that no other recording of the process
  /// has, never 0.
  std::uint64_t recording() const { return recording_; }
  /// Is it this tape's present recording, or that of a tape which this one stands in for?
  bool holds(std::uint64_t recording) const {
    for (const Tape* tape = this; tape; tape = tape->outer_tape_)
      if (tape->recording_ == recording) return true;
    return false;
  }

  /// Calls f(address of the slot) for every leaf that was noted.
  template <class F>
  void each_leaf(F&& f) const {
    for (const Leaf* l = leaves_; l; l = l->next) f(static_cast<const void*>(l->slot));
  }

  /// The tape that operations of this thread record on, or null.
  static Tape*& current() {
    thread_local Tape* tape = nullptr;
    return tape;
  }
  /// True while this thread computes again, for a backward pass, what a forward pass has computed:
  /// state that moves in training has moved already.
  static bool& again() {
    thread_local bool flag = false;
    return flag;
  }

 private:
  struct Node {
    Node* previous;
    void (*run)(Node*);
    void (*destroy)(Node*);
  };
  template <class T, class B, class F>
  struct NodeOf : Node {
    GradientSlot<T, B> slot;
    F backward;
    static void run(Node* n) {
      auto* self = static_cast<NodeOf*>(n);
      if (self->slot.defined()) self->backward(self->slot.take());
    }
    static void destroy(Node* n) { static_cast<NodeOf*>(n)->~NodeOf(); }
  };
  template <class F, class... Slot>
  struct NodeOfMany : Node {
    std::tuple<Slot...> slots;
    F backward;
    static void run(Node* n) {
      auto* self = static_cast<NodeOfMany*>(n);
      std::apply(
          [self](Slot&... s) {
            if (!(... || s.defined())) return;
            if constexpr (requires { F::takes_slots; })
              self->backward(s...);
            else
              self->backward(s.take()...);
          },
          self->slots);
    }
    static void destroy(Node* n) { static_cast<NodeOfMany*>(n)->~NodeOfMany(); }
  };
  struct Leaf {
    Leaf* next;
    void* slot;
    void (*drop)(void*);
  };
  struct alignas(HostArena::alignment) Chunk {
    Chunk* next = nullptr;
    std::size_t capacity = 0;
  };

  void run() {
    while (last_) {
      Node* n = last_;
      n->run(n);
      last_ = n->previous;
      n->destroy(n);
    }
  }

  void* bump(std::size_t bytes, std::size_t align) {
    for (;;) {
      if (current_) {
        const std::size_t at = (offset_ + align - 1) / align * align;
        if (at + bytes <= current_->capacity) {
          offset_ = at + bytes;
          return reinterpret_cast<std::byte*>(current_ + 1) + at;
        }
        if (current_->next) {
          current_ = current_->next;
          offset_ = 0;
          continue;
        }
      }
      const std::size_t capacity = bytes > (std::size_t{1} << 16) ? bytes : (std::size_t{1} << 16);
      Chunk* c = ::new (HostArena::instance().allocate(sizeof(Chunk) + capacity)) Chunk;
      c->capacity = capacity;
      (current_ ? current_->next : first_) = c;
      current_ = c;
      offset_ = 0;
    }
  }

  Chunk *first_ = nullptr, *current_ = nullptr;
  std::size_t offset_ = 0, size_ = 0;
  Node* last_ = nullptr;
  Leaf* leaves_ = nullptr;
  static std::uint64_t new_recording() {
    static std::atomic<std::uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
  }

  Tape *outer_ = nullptr, *nested_ = nullptr;  // outer_: of a dry tape
  const Tape* outer_tape_ = nullptr;           // of a dry or nested tape
  std::uint64_t recording_ = new_recording();
};

/// Operations inside the scope record on `tape`. A scope that an exception leaves forgets what the
/// tape holds.
class RecordOn {
 public:
  explicit RecordOn(Tape& tape)
      : tape_(tape),
        previous_(std::exchange(Tape::current(), &tape)),
        thrown_(std::uncaught_exceptions()) {}
  ~RecordOn() {
    Tape::current() = previous_;
    if (std::uncaught_exceptions() > thrown_) tape_.clear();
  }
  RecordOn(const RecordOn&) = delete;
  RecordOn& operator=(const RecordOn&) = delete;

 private:
  Tape& tape_;
  Tape* previous_;
  int thrown_;
};

/// Operations inside the scope record nothing and save nothing.
class NoGrad {
 public:
  NoGrad() : previous_(std::exchange(Tape::current(), nullptr)) {}
  ~NoGrad() { Tape::current() = previous_; }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  Tape* previous_;
};

}  // namespace hybridmed
