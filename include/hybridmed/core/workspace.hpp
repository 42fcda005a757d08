#pragma once
// Scratch memory of one tile of work, from the arena.
#include "hybridmed/core/arena.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed {

template <class T>
class Workspace {
 public:
  explicit Workspace(Index n)
      : data_(static_cast<T*>(
            HostArena::instance().allocate(static_cast<std::size_t>(n) * sizeof(T)))) {}
  ~Workspace() { HostArena::instance().deallocate(data_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  T* data() const { return data_; }
  T& operator[](Index i) const { return data_[i]; }

 private:
  T* data_;
};

}  // namespace hybridmed
