#include "hybridmed/backend/cuda/context.hpp"

#include <utility>
#include <vector>

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

using State = Context::State;

namespace {

/// What Use has chosen in this thread; null stands for the default context.
thread_local State* chosen = nullptr;
/// The default context, once it is made.
std::atomic<State*> standard_state{nullptr};

/// Every context of the process.
struct Registry {
  std::mutex mutex;
  std::vector<State*> states;
  static Registry& instance() {
    static Registry* registry = new Registry;  // static contexts may outlive every destructor order
    return *registry;
  }
};

std::string where(const State* state) {
  return state ? ", on device " + std::to_string(state->device) + state->device_name : "";
}

}  // namespace

void check(cudaError_t status, const char* operation, const State* state) {
  if (status == cudaSuccess) return;
  const std::string message =
      std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status) + where(state);
  const bool none = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver ||
                    status == cudaErrorInitializationError;
  fail("cuda", operation, message,
       none ? "the CUDA backend needs an NVIDIA GPU and its driver; CpuBackend needs neither" : "");
}
void check(cublasStatus_t status, const char* operation, const State* state) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail("cuda", operation,
         std::string(cublasGetStatusName(status)) + ": " + cublasGetStatusString(status) +
             where(state));
}
void check(cudaError_t status, const char* operation) {
  check(status, operation, current_if_made());
}
void check(cublasStatus_t status, const char* operation) {
  check(status, operation, current_if_made());
}

void need_bfloat16(const State& state, const char* operation) {
  if (state.compute_capability < 80)
    fail("cuda", operation,
         "expected a device of compute capability 8.0 or newer for bfloat16, got " +
             std::to_string(state.compute_capability / 10) + "." +
             std::to_string(state.compute_capability % 10) + where(&state),
         "precision float");
}

State::State(int on, FloatProducts products) : device(on), float_products(products) {
  try {
    open();
  } catch (...) {
    close();
    throw;
  }
}
State::~State() { close(); }

void State::open() {
  constexpr const char* name = "context";
  int devices = 0;
  check(cudaGetDeviceCount(&devices), name, nullptr);
  if (device < 0 || device >= devices)
    fail("cuda", name,
         "there is no device " + std::to_string(device) + ": this machine has " +
             std::to_string(devices) + ", counted from 0");
  one_of_several = devices > 1;
  const OnDevice on_device(*this);
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), name, this);
  device_name = std::string(" (") + properties.name + ")";
  compute_capability = 10 * properties.major + properties.minor;
  if (float_products == FloatProducts::tf32 && compute_capability < 80)
    fail("cuda", name,
         "expected a device of compute capability 8.0 or newer for TF32" + where(this),
         "products of floats as they are");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), name, this);
  check(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking), name, this);
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), name, this);
  cudaMemPoolProps memory{};
  memory.allocType = cudaMemAllocationTypePinned;
  memory.location.type = cudaMemLocationTypeDevice;
  memory.location.id = device;
  check(cudaMemPoolCreate(&pool, &memory), name, this);
  std::uint64_t keep = UINT64_MAX;  // freed memory stays with the context for the next step
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), name, this);
  check(cudaMallocFromPoolAsync(&workspace, workspace_bytes, pool, stream), name, this);
  void* sums = nullptr;
  check(cudaMallocFromPoolAsync(&sums, most_partial_sums * sizeof(double), pool, stream), name,
        this);
  partial_sums = static_cast<double*>(sums);
  check(cublasCreate(&blas), name, this);
  check(cublasSetStream(blas, stream), name, this);
  check(cublasSetWorkspace(blas, workspace, workspace_bytes), name, this);
  // Sums are rounded to bf16 once, not part by part. Whether floats are rounded to TF32, each
  // product says (products.cu).
  check(cublasSetMathMode(
            blas, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                            CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
        name, this);
  check(cublasLtCreate(&blas_lt), name, this);
  Registry& all = Registry::instance();
  const std::lock_guard lock(all.mutex);
  all.states.push_back(this);
}

void State::close() noexcept {
  {
    Registry& all = Registry::instance();
    const std::lock_guard lock(all.mutex);
    std::erase(all.states, this);
  }
  if (!stream || cudaStreamSynchronize(stream) == cudaErrorCudartUnloading)
    return;  // the process ends, and CUDA has gone before
  const OnDevice on_device(*this);
  if (blas_lt) cublasLtDestroy(blas_lt);
  if (blas) cublasDestroy(blas);
  blocks.trim();
  staging.close();
  if (partial_sums) cudaFreeAsync(partial_sums, stream);
  if (workspace) cudaFreeAsync(workspace, stream);
  if (event) cudaEventDestroy(event);
  if (copies) cudaStreamDestroy(copies);
  cudaStreamDestroy(stream);
  if (pool) cudaMemPoolDestroy(pool);
}

void State::retain() noexcept { references.fetch_add(1, std::memory_order_relaxed); }
void State::release() noexcept {
  if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

cudaError_t State::wait_for(State& other) noexcept {
  if (&other == this) return cudaSuccess;
  const std::lock_guard lock(other.issue);  // of one context alone, so never in a circle
  const OnDevice on_device(other);
  const cudaError_t status = cudaEventRecord(other.event, other.stream);
  return status == cudaSuccess ? cudaStreamWaitEvent(stream, other.event, 0) : status;
}

void give_back_pools(int device) noexcept {
  Registry& all = Registry::instance();
  const std::lock_guard lock(all.mutex);
  for (State* s : all.states) {
    if (s->device != device) continue;
    // A stream that is recorded has nothing under way, and must not be waited for.
    const cudaStream_t last = s->blocks.recording() ? s->copies : s->stream;
    if (cudaStreamSynchronize(last) != cudaSuccess) continue;
    s->blocks.trim();
    if (cudaStreamSynchronize(last) == cudaSuccess) cudaMemPoolTrimTo(s->pool, 0);
  }
}

void throw_out_of_memory(const State& context, std::size_t bytes) {
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw OutOfMemory("cuda", "allocate",
                    "the device is out of memory for " + std::to_string(bytes) +
                        " bytes: " + std::to_string(free) + " of its " + std::to_string(total) +
                        " are free, and " + std::to_string(context.blocks.statistics().in_use) +
                        " in use by this context" + where(&context),
                    "a smaller batch needs less");
}

State* standard_if_made() noexcept { return standard_state.load(std::memory_order_acquire); }
State* current_if_made() noexcept { return chosen ? chosen : standard_if_made(); }

State& current() {
  State* state = current_if_made();
  if (!state) {
    Context::standard();
    state = standard_if_made();
  }
  if (state->one_of_several) {  // a stream takes launches from a thread on its own device only
    int device = 0;
    check(cudaGetDevice(&device), "context", state);
    if (device != state->device) check(cudaSetDevice(state->device), "context", state);
  }
  return *state;
}

Context::Context(int device, FloatProducts products) : state_(new State(device, products)) {}
Context::~Context() {
  if (!state_) return;
  cudaStreamSynchronize(state_->stream);
  state_->release();
}
Context::Context(Context&& o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
Context& Context::operator=(Context&& o) noexcept {
  Context taken(std::move(o));
  std::swap(state_, taken.state_);
  return *this;
}

const Context& Context::standard() {
  // Never destroyed: static tensors may outlive every destructor order.
  static const Context* context = [] {
    int device = 0;
    check(cudaGetDevice(&device), "context", nullptr);
    auto* made = new Context(new State(device, FloatProducts::exact));
    standard_state.store(made->state_, std::memory_order_release);
    return made;
  }();
  return *context;
}

State& Context::state(const char* operation) const {
  if (!state_) fail("cuda", operation, "the context was moved from", "use the one it moved to");
  return *state_;
}
int Context::device() const { return state("device").device; }
FloatProducts Context::float_products() const { return state("float_products").float_products; }
bool Context::is_current() const { return &state("is_current") == current_if_made(); }
void Context::synchronize() const {
  State& s = state("synchronize");
  check(cudaStreamSynchronize(s.stream), "synchronize", &s);
}
void Context::wait_for(const Context& other) const {
  State& s = state("wait_for");
  check(s.wait_for(other.state("wait_for")), "wait_for", &s);
}

Use::Use(const Context& context) : state_(&context.state("use")), before_(chosen) {
  check(cudaGetDevice(&device_before_), "use", state_);
  if (device_before_ != state_->device) check(cudaSetDevice(state_->device), "use", state_);
  state_->retain();
  chosen = state_;
}
Use::~Use() {
  chosen = before_;
  if (device_before_ != state_->device) cudaSetDevice(device_before_);
  state_->release();
}

}  // namespace hybridmed::cuda
