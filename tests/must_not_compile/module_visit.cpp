// expects: hybridmed: a module calls f(name, child) for each child in its visit(f), and a child
// is a Parameter, a Buffer, a module or a vector of these; see hybridmed/nn/module.hpp

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/module.hpp>

using namespace hybridmed;

struct Layer {
  Parameter<float, Reference> weight;
  double eps = 1e-5;
  template <class F>
  void visit(F&& f) {
    f("weight", weight);
#ifndef HYBRIDMED_CONTROL
    f("eps", eps);  // a number is no child
#endif
  }
};
Index f(Layer& layer) { return nn::count_parameters(layer); }
