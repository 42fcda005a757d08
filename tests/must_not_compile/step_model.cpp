// expects: hybridmed: a model that train_step trains has represent<needs, V>(batch, teacher,
// mode), a parameter log_scale, and config.log_scale_max; see hybridmed/model/hybridmed.hpp

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/train/step.hpp>

using namespace hybridmed;
using T = float;
using B = Reference;

struct Model {
  model::Config config;
#ifdef HYBRIDMED_CONTROL
  Parameter<T, B> log_scale;
#endif
  template <unsigned needs, Value V>
  objective::Representations<V> represent(const model::Batch<T, B>&, const model::Teacher<T, B>*,
                                          const nn::Mode&) const {
    return {};
  }
};

void f(Model& m, const model::Batch<T, B>& batch, const model::Teacher<T, B>* teacher,
       optim::AdamW<T, B>& optimizer, Tape& tape) {
  train::train_step(m, 1.0 * objective::InfoNce{}, batch, teacher, optimizer, 1e-3, tape,
                    nn::Mode::training());
}
