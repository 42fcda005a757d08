#pragma once
// A system is what is trained: its parts, and the losses of its stages. The trainer sees this
// interface alone and is compiled once; inside a step everything is static.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hybridmed/model/hybridmed.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::system {

/// One loss of a stage.
struct Loss {
  std::string name;
  double weight = 1;
  bool observed = false;
  unsigned reads = 0;             ///< bits of representation::Inputs
  bool compares_samples = false;  ///< of a batch with each other
  bool distils = false;           ///< reads a teacher
};

/// One stage: what it is for, and its losses in order.
struct Stage {
  std::string purpose;
  std::vector<Loss> losses;

  /// Bits of representation::Inputs of the losses that are not left out.
  unsigned reads() const {
    unsigned all = 0;
    for (const Loss& l : losses)
      if (l.weight != 0 || l.observed) all |= l.reads;
    return all;
  }
  bool reads_images() const { return (reads() & representation::an_image) != 0; }
};

/// T: the scalar that its model computes in.
template <class T, class B>
class System {
 public:
  using Batch = model::Batch<T, B>;
  using Losses = objective::Losses<master_of<T>, B>;
  using OnParameter = nn::ParameterVisitor<T, B>;
  using OnBuffer = std::function<void(const std::string&, Buffer<T, B>&)>;

  virtual ~System() = default;
  /// What a configuration and a report call it; empty: whatever they say.
  virtual std::string_view name() const { return {}; }
  virtual const std::vector<Stage>& stages() const = 0;
  /// Keys of its configuration that are not as usual and change nothing.
  virtual const std::vector<std::string>& unread_keys() const {
    static const std::vector<std::string> none;
    return none;
  }

  /// Calls `parameter` or `buffer` with the full name of everything that a checkpoint holds, in
  /// declaration order.
  virtual void each_state(const OnParameter& parameter, const OnBuffer& buffer) = 0;
  /// The same of a frozen teacher; nothing where the stage has none.
  virtual void each_teacher_state(const OnParameter&, const OnBuffer&) {}
  virtual bool has_teacher() const { return false; }

  /// Chooses what stage k, from 0, trains, and takes its teacher from the system as it is.
  virtual void begin_stage(std::size_t k) = 0;
  virtual void begin_epoch(std::size_t k, Index epoch) = 0;

  virtual model::TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                                  std::span<const std::int32_t> keys) const = 0;

  /// The weighted sum of stage k's losses, recorded on the tape or not.
  virtual Variable<master_of<T>, B> recorded_total(std::size_t k, const Batch& batch,
                                                   const nn::Mode& mode, Losses& losses) const = 0;
  virtual Tensor<master_of<T>, B> plain_total(std::size_t k, const Batch& batch,
                                              const nn::Mode& mode, Losses& losses) const = 0;
  /// Brings parameters back to where they may be, after an update.
  virtual void constrain(std::size_t k) = 0;

  template <class F>
  void visit(F&& f) {
    each_state([&](const std::string& name, Parameter<T, B>& p) { f(name, p); },
               [&](const std::string& name, Buffer<T, B>& b) { f(name, b); });
  }
};

/// The teacher of a system as a module.
template <class T, class B>
struct TeacherOf {
  System<T, B>* system;
  template <class F>
  void visit(F&& f) {
    system->each_teacher_state([&](const std::string& name, Parameter<T, B>& p) { f(name, p); },
                               [&](const std::string& name, Buffer<T, B>& b) { f(name, b); });
  }
};

/// One stage of a system, as a training step takes it.
template <class T, class B>
class StageOf {
 public:
  using Batch = typename System<T, B>::Batch;
  using Losses = typename System<T, B>::Losses;

  StageOf(System<T, B>& system, std::size_t stage) : system_(&system), stage_(stage) {}
  template <Value V>
  V total(const Batch& batch, const nn::Mode& mode, Losses& losses) const {
    if constexpr (is_recorded<V>)
      return system_->recorded_total(stage_, batch, mode, losses);
    else
      return system_->plain_total(stage_, batch, mode, losses);
  }
  void constrain() { system_->constrain(stage_); }

 private:
  System<T, B>* system_;
  std::size_t stage_;
};

}  // namespace hybridmed::system
