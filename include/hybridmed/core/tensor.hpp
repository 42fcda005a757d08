#pragma once
// Tensor<T, Backend>: a dense row-major array with run-time shape in memory of one backend.
// Copies share memory (reference counted); views are contiguous parts of it. Memory comes from the
// backend's arena.
#include <atomic>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "hybridmed/core/arena.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed {

/// A growable host array inside the arena.
template <class T>
using ArenaVector = std::vector<T, ArenaAllocator<T>>;

template <class T, class Backend>
class Tensor {
 public:
  using value_type = T;
  using backend_type = Backend;

  Tensor() = default;
  /// Uninitialised memory of the given shape.
  explicit Tensor(const Shape& shape) : shape_(shape) {
    void* control = HostArena::instance().allocate(sizeof(Control));
    try {
      control_ = ::new (control)
          Control(Backend::allocate(static_cast<std::size_t>(shape.size()) * sizeof(T)));
    } catch (...) {
      HostArena::instance().deallocate(control);
      throw;
    }
    data_ = static_cast<T*>(control_->memory);
  }
  Tensor(const Tensor& o) : control_(o.control_), data_(o.data_), shape_(o.shape_) {
    if (control_) control_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Tensor(Tensor&& o) noexcept
      : control_(std::exchange(o.control_, nullptr)),
        data_(std::exchange(o.data_, nullptr)),
        shape_(std::exchange(o.shape_, Shape{0})) {}
  Tensor& operator=(Tensor o) noexcept {
    std::swap(control_, o.control_);
    std::swap(data_, o.data_);
    std::swap(shape_, o.shape_);
    return *this;
  }
  ~Tensor() {
    if (control_ && control_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      Backend::deallocate(control_->memory);
      HostArena::instance().deallocate(control_);
    }
  }

  static Tensor full(const Shape& shape, T value) {
    Tensor t(shape);
    Backend::fill(t.size(), value, t.data());
    return t;
  }
  static Tensor zeros(const Shape& shape) { return full(shape, T(0)); }
  /// Copies host values in; `values.size()` must equal the shape's size.
  static Tensor from_host(std::span<const T> values, const Shape& shape) {
    if (static_cast<Index>(values.size()) != shape.size())
      fail("core", "Tensor::from_host",
           "expected " + std::to_string(shape.size()) + " values for shape " + shape.str() +
               ", got " + std::to_string(values.size()));
    Tensor t(shape);
    Backend::copy_from_host(values.data(), t.data(), values.size() * sizeof(T));
    return t;
  }

  bool defined() const { return control_ != nullptr; }
  /// True when no other tensor or view shares this memory: it may be changed in place.
  bool unique() const {
    return control_ && control_->references.load(std::memory_order_acquire) == 1;
  }
  /// The memory, to read or to write: whoever asks for it breaks its seal.
  T* data() const {
    if (control_ && control_->seal.load(std::memory_order_relaxed) != 0)
      control_->seal.store(0, std::memory_order_relaxed);
    return data_;
  }
  /// The memory, to read alone.
  const T* read() const { return data_; }
  /// Seals the memory: `sealed(number)` is true from now on, until somebody asks for it by data(),
  /// of whatever tensor or view that shares it, or it is sealed again. No number comes twice.
  std::uint64_t seal() const {
    static std::atomic<std::uint64_t> last{0};
    const std::uint64_t number = last.fetch_add(1, std::memory_order_relaxed) + 1;
    need_memory("seal");
    control_->seal.store(number, std::memory_order_relaxed);
    return number;
  }
  bool sealed(std::uint64_t number) const {
    return number != 0 && control_ && control_->seal.load(std::memory_order_relaxed) == number;
  }
  const Shape& shape() const { return shape_; }
  Index size() const { return defined() ? shape_.size() : 0; }
  Index rows() const { return shape_.rows(); }
  Index cols() const { return shape_.cols(); }

  /// The same memory under another shape of equal size.
  Tensor view(const Shape& shape) const {
    need_memory("view");
    if (shape.size() != shape_.size())
      fail("core", "Tensor::view",
           "expected " + std::to_string(shape_.size()) + " elements, got shape " + shape.str());
    Tensor t(*this);
    t.shape_ = shape;
    return t;
  }
  /// Rows [begin, end) of the matrix view, sharing memory: (end - begin, cols).
  Tensor row_slice(Index begin, Index end) const {
    need_memory("row_slice");
    if (begin < 0 || end < begin || end > rows())
      fail("core", "Tensor::row_slice",
           "rows [" + std::to_string(begin) + ", " + std::to_string(end) + ") of " + shape_.str());
    Tensor t(*this);
    t.data_ += begin * cols();
    t.shape_ = {end - begin, cols()};
    return t;
  }
  /// A copy with memory of its own; of an undefined tensor, an undefined one.
  Tensor clone() const {
    if (!defined()) return {};
    Tensor t(shape_);
    Backend::copy(size(), data_, t.data());
    return t;
  }
  void copy_to_host(T* out) const {
    Backend::copy_to_host(data_, out, static_cast<std::size_t>(size()) * sizeof(T));
  }
  std::vector<T> to_host() const {
    std::vector<T> v(static_cast<std::size_t>(size()));
    if (!v.empty()) copy_to_host(v.data());
    return v;
  }
  /// The same values in memory of another backend; where they are there already, this tensor.
  template <class Other>
  Tensor<T, Other> on() const {
    if constexpr (std::is_same_v<Other, Backend>)
      return *this;
    else
      return defined() ? Tensor<T, Other>::from_host(to_host(), shape_) : Tensor<T, Other>();
  }
  /// The value of a one-element tensor.
  T item() const {
    need_memory("item");
    if (size() != 1)
      fail("core", "Tensor::item", "expected one element, got shape " + shape_.str());
    T v;
    copy_to_host(&v);
    return v;
  }

 private:
  void need_memory(const char* operation) const {
    if (!defined())
      fail("core", std::string("Tensor::") + operation,
           "the tensor is undefined: it has a shape and no memory");
  }
  struct Control {
    void* memory;
    std::atomic<std::int64_t> references{1};
    std::atomic<std::uint64_t> seal{0};  // 0: broken
    explicit Control(void* m) : memory(m) {}
  };
  Control* control_ = nullptr;
  T* data_ = nullptr;
  Shape shape_;
};

}  // namespace hybridmed
