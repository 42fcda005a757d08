#pragma once
// Where CUDA kernels run. A context is one device, one stream, the library handles with their
// workspace, and a memory pool. Kernels take none: they run in the context that is current in the
// calling thread.
//
//   cuda::Context second(1);     // on device 1
//   {
//     cuda::Use use(second);     // current in this thread until the end of the block
//     ...                        // tensors and kernels of `Cuda`: memory and stream of `second`
//   }                            // what was current before is current again
//
// A thread that says nothing uses the default context, which is made at first use, on the device
// that the thread using it first has chosen (0, unless it called cudaSetDevice), and kept until the
// process ends. A context may be current in several threads: each kernel is issued as a whole, in
// some order. The calls of one thread run in their order.
//
// Contexts do not wait for each other. Where one reads, writes or frees what another works on, say
// so:
//   second.wait_for(first);      // before `second` reads what `first` has written
//   first.wait_for(second);      // before `first` changes or frees what `second` reads
//
// Memory belongs to the context it was allocated in and may be freed in any: it goes back in the
// order of its own stream, which first waits for what the freeing thread's current context has been
// given so far. So the last reader of a tensor may drop it, whatever is current then. Contexts of
// one device read each other's memory; between devices, values go through the host.

namespace hybridmed::cuda {

/// How products of floats are computed: as floats, or on tensor cores with both factors rounded to
/// TF32 (10 bits behind the point) and float sums.
enum class FloatProducts { exact, tf32 };

class Context {
 public:
  /// On one of the devices 0 ... device_count() - 1; the calling thread's device stays as it is.
  /// @throws Error where there is no such device, it refuses, or it has no TF32 and shall use it.
  explicit Context(int device = 0, FloatProducts products = FloatProducts::exact);
  /// Waits for the work of the context. Where it is still current (in any thread) or memory of it
  /// is alive, stream, handles and pool stay for these and go with the last of them.
  ~Context();
  Context(Context&& o) noexcept;
  Context& operator=(Context&& o) noexcept;

  /// The default context.
  static const Context& standard();

  /// @throws Error where the context was moved from, as the following do.
  int device() const;
  FloatProducts float_products() const;
  /// Is it current in the calling thread?
  bool is_current() const;
  /// Waits until everything issued to this context so far has run.
  /// @throws Error when one of it failed.
  void synchronize() const;
  /// What is issued to this context from now on runs after what `other` has been given so far. The
  /// host does not wait.
  void wait_for(const Context& other) const;

  struct State;  // device.cuh

 private:
  friend class Use;
  explicit Context(State* state) : state_(state) {}
  State& state(const char* operation) const;
  State* state_ = nullptr;
};

/// Makes a context current in the calling thread. Scopes of a thread end in reverse order, on that
/// thread. Within one, and after the first use of the default context, the thread's CUDA device is
/// the context's; the end of the scope brings back the one before.
class Use {
 public:
  explicit Use(const Context& context);
  ~Use();
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  Context::State *state_, *before_;
  int device_before_;
};

}  // namespace hybridmed::cuda
